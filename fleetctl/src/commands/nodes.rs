//! `fleetctl nodes`: which nodes are expected, what is known of each, and who is taken out.

use std::collections::BTreeSet;
use std::path::PathBuf;

use ansible_compat::Playbook;
use fleet::NodeName;
use fleet::outcome::exit;
use fleet_proto::v1;

use super::ansible_sources::HowRead;
use super::nodes_import::{self, LabelWish, Listed};
use super::session::{Answer, Session};
use crate::client::{CALL_DEADLINE, answer};
use crate::failure::Failure;
use crate::output::documents::{Items, Node, NodeDetail, NodeRemoval, document};
use crate::output::format::Format;
use crate::output::nodes::{self, Detail};
use crate::output::text::{count, plain};

/// The most names of one list: ten times the largest fleet designed for.
const MOST_NAMES: usize = 100_000;
/// The largest name list, in bytes.
const LARGEST_LIST: u64 = 16 << 20;

/// What can be done with nodes.
#[derive(Debug, clap::Subcommand)]
pub enum Verb {
    /// List every expected node
    #[command(after_help = "Examples:
  fleetctl nodes list
  fleetctl nodes list -o wide
  fleetctl nodes list -o name")]
    List,
    /// Show one node in full
    #[command(after_help = "Examples:
  fleetctl nodes show web-12
  fleetctl nodes show web-12 -o json")]
    Show {
        /// The node
        node: NodeName,
    },
    /// Take a node out of the fleet and revoke its certificate at once
    #[command(after_help = "Examples:
  fleetctl nodes remove web-12
  fleetctl nodes remove web-12 --yes --reason \"disk replaced, OPS-12\"")]
    Remove {
        /// The node
        node: NodeName,
        /// Why, for the audit
        #[arg(long, value_name = "TEXT", default_value = "", hide_default_value = true)]
        reason: String,
        /// Do not ask
        #[arg(short, long)]
        yes: bool,
    },
    /// Say which nodes are expected, whether or not they have an agent
    #[command(after_help = "Examples:
  fleetctl nodes import -i hosts.ini
  fleetctl nodes import -i inventory/prod -l webservers --label az --label role=server_role
  fleetctl nodes import -i inventory/prod --dry-run  # what differs, without changing it
  fleetctl nodes import --name-list names.txt        # one name per line")]
    Import {
        /// An Ansible inventory: file, directory, script, or host1,host2,; may be repeated
        #[arg(short, long, value_name = "INVENTORY", required_unless_present = "name_list")]
        inventory: Vec<String>,
        /// Only hosts that match this pattern, as in ansible --limit
        #[arg(short, long, value_name = "PATTERN", default_value = "all", conflicts_with = "name_list")]
        limit: String,
        /// A file with one name per line; # begins a comment; - is standard input
        #[arg(long, value_name = "FILE", conflicts_with = "inventory")]
        name_list: Option<PathBuf>,
        /// Make a label of this variable of the inventory; may be repeated
        #[arg(long, value_name = "LABEL[=VARIABLE]", conflicts_with = "name_list")]
        label: Vec<LabelWish>,
        /// Change nothing, only report: exit code 2 if the inventory and the roster differ
        #[arg(long)]
        dry_run: bool,
        #[command(flatten)]
        how: HowRead,
    },
}

pub(super) async fn run(session: &Session, verb: Verb) -> Result<u8, Failure> {
    match verb {
        Verb::List => list(session).await,
        Verb::Show { node } => show(session, node).await,
        Verb::Remove { node, reason, yes } => remove(session, node, reason, yes).await,
        Verb::Import { inventory, limit, name_list, label, dry_run, how } => {
            let listed = match name_list {
                Some(path) => Listed::names(read_names(&path)?, path.display().to_string()),
                None => {
                    let read = how.load(&inventory, Playbook::None)?;
                    for warning in read.warnings() {
                        session.screen.say(&format!("warning: {}", plain(warning)));
                    }
                    Listed::of(&read, &limit, &label, inventory.join(" "))?
                }
            };
            let purpose = if dry_run { nodes_import::Purpose::Report } else { nodes_import::Purpose::Import };
            nodes_import::run(session, listed, purpose).await
        }
    }
}

async fn list(session: &Session) -> Result<u8, Failure> {
    let format = session.format(&[Format::Table, Format::Wide, Format::Json, Format::Name], "nodes list")?;
    let mut client = session.connect().await?;
    let list = answer(CALL_DEADLINE, client.list_nodes(v1::ListNodesRequest {})).await?.nodes;
    let now = nodes::now_for(&list, session.local_ms());
    match format {
        Format::Json => session.screen.out(&document("NodeList", Items::<Node>::of(list))),
        Format::Name => session.screen.out(&list.iter().map(|n| format!("{}\n", n.name)).collect::<String>()),
        Format::Wide => session.screen.out(&nodes::list(&list, now, Detail::Wide)),
        _ => session.screen.out(&nodes::list(&list, now, Detail::Brief)),
    }
    Ok(exit::OK)
}

async fn show(session: &Session, node: NodeName) -> Result<u8, Failure> {
    let format = session.format(&[Format::Table, Format::Json], "nodes show")?;
    let mut client = session.connect().await?;
    let reply = answer(CALL_DEADLINE, client.get_node(v1::GetNodeRequest { name: node.to_string() })).await?;
    match format {
        Format::Json => session.screen.out(&document("Node", NodeDetail::from(reply))),
        _ => {
            let now = nodes::now_for(reply.node.as_slice(), session.local_ms());
            session.screen.out(&nodes::show(&reply, now));
        }
    }
    Ok(exit::OK)
}

async fn remove(session: &Session, node: NodeName, reason: String, yes: bool) -> Result<u8, Failure> {
    let format = session.format(&[Format::Table, Format::Json], "nodes remove")?;
    if !yes {
        match session.ask(&format!("Take {node} out of the fleet and revoke its certificate?")) {
            Answer::Yes => {}
            Answer::No => return Err(Failure::failed("not confirmed; nothing was changed")),
            Answer::NobodyThere => {
                return Err(Failure::usage("removing a node needs --yes when nobody can be asked")
                    .help(format!("fleetctl nodes remove {node} --yes")));
            }
        }
    }
    let mut client = session.connect().await?;
    let reply =
        answer(CALL_DEADLINE, client.remove_node(v1::RemoveNodeRequest { name: node.to_string(), reason })).await?;
    if format == Format::Json {
        let removal = NodeRemoval {
            name: node.to_string(),
            findings_closed: reply.findings_closed,
            was_connected: reply.was_connected,
        };
        session.screen.out(&document("NodeRemoval", removal));
        return Ok(exit::OK);
    }
    let cut = if reply.was_connected { "its connection was cut, " } else { "" };
    session.screen.say(&format!(
        "{node} is out of the fleet: {cut}its certificate is revoked, {} closed.",
        count(reply.findings_closed as usize, "finding")
    ));
    session.screen.say(
        "What runs on it was left running. To bring it back: fleetctl tokens create, then fleet-agent join on the node",
    );
    Ok(exit::OK)
}

fn read_names(path: &std::path::Path) -> Result<Vec<String>, Failure> {
    use std::io::Read as _;
    let cannot = |e: std::io::Error| Failure::data(format!("cannot read {}", path.display())).caused_by(&e);
    let mut text = String::new();
    let reader: Box<dyn std::io::Read> = if path == std::path::Path::new("-") {
        Box::new(std::io::stdin())
    } else {
        Box::new(std::fs::File::open(path).map_err(cannot)?)
    };
    reader.take(LARGEST_LIST + 1).read_to_string(&mut text).map_err(cannot)?;
    if text.len() as u64 > LARGEST_LIST {
        return Err(Failure::data(format!("{} has more than {LARGEST_LIST} bytes", path.display())));
    }
    names_of(&text, path)
}

/// The names of a list, each once, in the order of their first appearance.
fn names_of(text: &str, path: &std::path::Path) -> Result<Vec<String>, Failure> {
    let (mut names, mut seen) = (Vec::new(), BTreeSet::new());
    for (number, line) in text.lines().enumerate() {
        let name = line.split('#').next().unwrap_or_default().trim();
        if name.is_empty() {
            continue;
        }
        let name = check_name(name).map_err(|mut failure| {
            failure.what = format!("{}:{}: {}", path.display(), number + 1, failure.what);
            failure
        })?;
        if seen.insert(name.clone()) {
            names.push(name);
        }
        if names.len() > MOST_NAMES {
            return Err(Failure::data(format!("{} has more than {MOST_NAMES} names", path.display())));
        }
    }
    Ok(names)
}

pub(super) fn check_name(name: &str) -> Result<String, Failure> {
    name.parse::<NodeName>().map(|n| n.to_string()).map_err(|e| Failure::data(e.to_string()))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn a_name_list_has_comments_and_is_checked() {
        let of = |text: &str| names_of(text, "hosts".as_ref());
        assert_eq!(of("web-02\n# two\n web-01 # old\n\nweb-02\n").unwrap(), ["web-02", "web-01"]);
        let failure = of("web-01\nweb 02\n").unwrap_err();
        assert_eq!(failure.exit, 65);
        assert!(failure.what.starts_with("hosts:2: "), "{}", failure.what);
    }
}
