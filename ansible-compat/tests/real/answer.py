"""The real ansible-inventory as a process that stays: starting one takes half a second, an answer a few milliseconds.

Reads one JSON question a line and prints one JSON answer a line. A question has `folder` (the working directory) and
`arguments` (those of ansible-inventory without an action). The answer has `list`, `export` and `graph` as the program
prints them and `hosts` as `ansible all --list-hosts` does, or `refused`. Everything is asked of Ansible's own InventoryCLI.
"""
import json
import os
import sys

from ansible import context
from ansible.cli import inventory as cli_inventory
from ansible.parsing import vault
from ansible.plugins.loader import init_plugin_loader
from ansible.plugins.vars import host_group_vars
from ansible.utils.context_objects import CLIArgs

answers = os.fdopen(os.dup(1), "w", encoding="utf-8")
# Warnings must not get between the answers.
os.dup2(2, 1)

display = cli_inventory.display
for name in ("warning", "deprecated", "display", "error"):
    setattr(display, name, lambda *_args, **_kwargs: None)


# --playbook-dir needs it, and the program itself does it on its way.
init_plugin_loader()


def keep_arguments(options):
    context.CLIARGS = CLIArgs.from_options(options)


# The original keeps the arguments of the first question for ever.
context._init_global_context = keep_arguments


def with_export(export):
    context.CLIARGS = CLIArgs({**context.CLIARGS, "export": export})


def answer(question):
    os.chdir(question["folder"])
    # 2.19 keeps the passwords of the first question too.
    if hasattr(vault, "VaultSecretsContext"):
        vault.VaultSecretsContext._current = None
    # Files are told apart by path only, and paths come back with other files behind them.
    for cache in ("FOUND", "NAK", "PATH_CACHE", "CANONICAL_PATHS"):
        getattr(host_group_vars, cache, {}).clear()
    cli = cli_inventory.InventoryCLI(["ansible-inventory", "--list", *question["arguments"]])
    cli.parse()
    cli.loader, cli.inventory, cli.vm = cli._play_prereqs()
    if context.CLIARGS["subset"]:
        cli.inventory.subset(context.CLIARGS["subset"])
    told = {"graph": cli.inventory_graph(), "hosts": [host.name for host in cli.inventory.get_hosts("all")]}
    for name, export in (("list", False), ("export", True)):
        with_export(export)
        told[name] = json.loads(cli.dump(cli.json_inventory(cli._get_group("all"))))
    if question.get("graph_vars"):
        with_export(False)
        context.CLIARGS = CLIArgs({**context.CLIARGS, "show_vars": True})
        told["graph_vars"] = cli.inventory_graph()
    return told


for line in sys.stdin:
    question = json.loads(line)
    try:
        # Infinity is no JSON; nobody but Python could read the answer.
        told = json.dumps(answer(question), allow_nan=False)
    except (Exception, SystemExit) as cause:
        told = json.dumps({"refused": f"{type(cause).__name__}: {cause}"})
    print(told, file=answers, flush=True)
