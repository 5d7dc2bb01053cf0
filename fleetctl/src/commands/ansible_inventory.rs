//! `fleetctl ansible inventory`: the answers of `ansible-inventory` and of `ansible --list-hosts`.
//!
//! Reading is `ansible-compat`'s. Two things differ on purpose: a source that cannot be read in full fails the whole
//! (Ansible warns and goes on with the rest), and vault values are never opened.

use std::path::PathBuf;

use ansible_compat::{Edition, Export, GraphVars, Inventory, Playbook, Selection};
use fleet::outcome::exit;
use serde::Serialize as _;
use serde_json::Value;

use super::ansible_sources::HowRead;
use super::session::Session;
use crate::failure::Failure;
use crate::output::text::plain;

/// One of the four answers, and what it is about.
#[derive(Debug, clap::Args)]
#[command(
    group = clap::ArgGroup::new("action").required(true).args(["list", "host", "graph", "list_hosts"]),
    after_help = "Examples:
  fleetctl ansible inventory -i inventory/prod --list --export
  fleetctl ansible inventory -i inventory/prod --host web01
  fleetctl ansible inventory -i inventory/prod --graph --vars
  fleetctl ansible inventory -i inventory/prod --limit ~db-[ab] --list-hosts"
)]
pub struct Args {
    /// An inventory: file, directory, script, or host1,host2,; may be repeated [default: that of ansible.cfg]
    #[arg(short, long, value_name = "INVENTORY")]
    inventory: Vec<String>,
    /// All groups and hosts with their variables, as JSON
    #[arg(long)]
    list: bool,
    /// The variables of one host, as JSON
    #[arg(long, value_name = "NAME")]
    host: Option<String>,
    /// The tree of groups and hosts
    #[arg(long)]
    graph: bool,
    /// The names of the hosts
    #[arg(long)]
    list_hosts: bool,
    /// With --graph: begin at this group
    #[arg(value_name = "GROUP", default_value = "all", hide_default_value = true, conflicts_with_all = ["list", "host", "list_hosts"])]
    group: String,
    /// With --graph: show variables
    #[arg(long, conflicts_with_all = ["list", "host", "list_hosts"])]
    vars: bool,
    /// Variables where they are set, instead of merged into each host
    #[arg(long, conflicts_with = "list_hosts")]
    export: bool,
    /// Only hosts that match this pattern, with --list and --list-hosts
    #[arg(short, long, value_name = "PATTERN", conflicts_with_all = ["host", "graph"])]
    limit: Option<String>,
    /// A directory whose group_vars and host_vars count as those beside a playbook do
    #[arg(long, value_name = "DIR")]
    playbook_dir: Option<PathBuf>,
    #[command(flatten)]
    how: HowRead,
}

pub(super) fn run(session: &Session, args: Args) -> Result<u8, Failure> {
    let working = || std::env::current_dir().map_err(|e| Failure::failed("where this program runs is gone").because(e));
    let playbook = match &args.playbook_dir {
        Some(folder) => Playbook::Named(folder.clone()),
        None => Playbook::Working(working()?),
    };
    let inventory = args.how.load(&args.inventory, playbook)?;
    for warning in inventory.warnings() {
        session.screen.say(&format!("warning: {}", plain(warning)));
    }
    session.screen.out(&answer(session, &args, &inventory)?);
    Ok(exit::OK)
}

fn answer(session: &Session, args: &Args, inventory: &Inventory) -> Result<String, Failure> {
    let export = if args.export { Export::Yes } else { Export::No };
    if let Some(host) = &args.host {
        let vars = inventory.to_host_json(host, export);
        let vars = vars.ok_or_else(|| Failure::data(format!("the inventory has no host '{}'", plain(host))))?;
        return pretty(&vars);
    }
    if args.graph {
        let vars = if args.vars { GraphVars::Shown(export) } else { GraphVars::Hidden };
        let tree = inventory.to_graph_of(&args.group, vars);
        let tree = tree.ok_or_else(|| Failure::data(format!("the inventory has no group '{}'", plain(&args.group))))?;
        return Ok(tree + "\n");
    }
    let limit = args.limit.as_deref().unwrap_or("all");
    let hosts = limited(session, inventory, limit)?.hosts;
    if args.list_hosts {
        if hosts.is_empty() {
            return Err(Failure::data(format!("'{}' leaves no host", plain(limit))));
        }
        let names: String = hosts.iter().map(|host| format!("    {host}\n")).collect();
        return Ok(format!("  hosts ({}):\n{names}", hosts.len()));
    }
    let mut list = inventory.to_limited_list_json(export, &hosts);
    if args.how.edition() == Edition::Core2_19
        && let Some(meta) = list.get_mut("_meta").and_then(Value::as_object_mut)
    {
        meta.insert("profile".to_owned(), Value::from("inventory_legacy"));
    }
    pretty(&list)
}

fn limited<'a>(session: &Session, inventory: &'a Inventory, pattern: &str) -> Result<Selection<'a>, Failure> {
    let selection = inventory.limit(pattern);
    let selection =
        selection.map_err(|e| Failure::usage(format!("'{}' is not a pattern", plain(pattern))).caused_by(&e))?;
    for notice in &selection.notices {
        session.screen.say(&format!("warning: {}", plain(&notice.to_string())));
    }
    Ok(selection)
}

/// Four blanks a level and sorted keys, as Ansible prints it.
fn pretty(value: &Value) -> Result<String, Failure> {
    let mut bytes = Vec::new();
    let form = serde_json::ser::PrettyFormatter::with_indent(b"    ");
    let written = value.serialize(&mut serde_json::Serializer::with_formatter(&mut bytes, form));
    written.map_err(|e| Failure::failed("the inventory cannot be written as JSON").because(e))?;
    bytes.push(b'\n');
    Ok(String::from_utf8_lossy(&bytes).into_owned())
}
