"""Asks ansible-core what host patterns mean.

Reads {"inventory": path, "patterns": [text]} and prints one JSON object a line, one for each pattern: `terms` as
`split_host_pattern` gives them, and either `refused` or `hosts` (as `ansible PATTERN --list-hosts`), `limit` (as
`ansible all --limit PATTERN --list-hosts`) and `unmatched` (what it warns of, sorted).
"""
import json
import sys

from ansible.inventory import manager
from ansible.parsing.dataloader import DataLoader

MISMATCH = "Could not match supplied host pattern, ignoring: "


def answer(inventory, pattern):
    unmatched = set()

    def warning(text, *_args, **_kwargs):
        if text.startswith(MISMATCH):
            unmatched.add(text[len(MISMATCH):])

    manager.display.warning = warning
    terms = manager.split_host_pattern(pattern)
    try:
        inventory.clear_pattern_cache()
        inventory._hosts_patterns_cache = {}
        inventory.subset(None)
        hosts = [host.name for host in inventory.get_hosts(pattern)]
        inventory.clear_pattern_cache()
        inventory.subset(pattern)
        limit = [host.name for host in inventory.get_hosts("all")]
    except Exception as cause:
        return {"pattern": pattern, "terms": terms, "refused": type(cause).__name__}
    finally:
        # An invented host stays otherwise, and the next question finds it.
        if inventory._inventory.localhost is not None and inventory._inventory.localhost.implicit:
            inventory._inventory.localhost = None
    return {"pattern": pattern, "terms": terms, "hosts": hosts, "limit": limit, "unmatched": sorted(unmatched)}


def main():
    question = json.load(sys.stdin)
    inventory = manager.InventoryManager(loader=DataLoader(), sources=[question["inventory"]])
    for pattern in question["patterns"]:
        print(json.dumps(answer(inventory, pattern), ensure_ascii=False))


main()
