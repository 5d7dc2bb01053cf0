//! `-l`: which nodes, as an Ansible host pattern or as label selectors, resolved here against the controller's roster.
//!
//! `KEY=VALUE` and `KEY!=VALUE`, several with commas, are label selectors (also behind `label:`): all must hold. A node
//! without the label does not hold `KEY=VALUE` and holds `KEY!=VALUE`. Everything else is a host pattern as `ansible
//! --limit` reads it. Its hosts are the nodes; its groups are
//!
//! - for each label `KEY=VALUE` the groups `KEY_VALUE` and `VALUE`, with every character but letters, digits and `_` made
//!   a `_`, as Ansible's `keyed_groups` does (`az=eu-west-1a`: `az_eu_west_1a` and `eu_west_1a`);
//! - the groups of the inventories of `-i`, as far as their hosts are nodes. Where both have a name, it holds both.
//!
//! A group whose name is that of a node is left out: a node's name never means anything else.

use std::collections::{BTreeMap, BTreeSet};
use std::io::Read as _;
use std::path::Path;

use ansible_compat::{Groups, GroupsError, HostPattern, Inventory, Playbook};
use fleet_proto::v1;

use super::ansible_sources::HowRead;
use crate::client::{CALL_DEADLINE, Operator, answer};
use crate::failure::Failure;
use crate::output::text::{count, plain};

/// The largest file of names behind `@`, in bytes: what a pattern may have in all.
const LARGEST_FILE: u64 = 1 << 20;

/// Which nodes.
#[derive(Debug, Clone, Default, clap::Args)]
#[command(next_help_heading = "Which nodes")]
// A plan that is carried out forbids this group by name; clap makes none of its own around flattened arguments.
#[group(skip)]
#[command(group = clap::ArgGroup::new("Limit").multiple(true).args(["limit", "inventory"]))]
pub struct Limit {
    /// Only these: an Ansible host pattern (web*:&az_a:!web-07, @failed.txt), or labels (role=web,az!=c)
    #[arg(short, long, value_name = "PATTERN", value_parser = clap::builder::NonEmptyStringValueParser::new())]
    limit: Option<String>,
    /// An inventory whose groups PATTERN may name: file, directory, or host1,host2,; may be repeated
    #[arg(short, long, value_name = "INVENTORY", requires = "limit")]
    inventory: Vec<String>,
    #[command(flatten)]
    how: HowRead,
}

/// Nodes that were selected.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Selected {
    /// Their names, in the order of the roster.
    pub names: Vec<String>,
    /// The selection as it was written.
    pub as_written: String,
}

impl Limit {
    /// Whether there is a limit at all.
    pub fn is_given(&self) -> bool {
        self.limit.is_some()
    }

    /// The nodes it selects, of those that `meant` says the service is meant for; None without a limit.
    ///
    /// # Errors
    /// 64 if it is no pattern; 65 if an inventory or file cannot be read, a term names nothing, or nothing is left.
    pub async fn resolve(&self, client: &mut Operator, meant: &v1::Plan) -> Result<Option<Selected>, Failure> {
        let Some(text) = &self.limit else { return Ok(None) };
        let inventory = self.load_inventory()?;
        let nodes = answer(CALL_DEADLINE, client.list_nodes(v1::ListNodesRequest {})).await?.nodes;
        let named = select(text, inventory.as_ref(), &nodes)?;
        let meant_nodes: BTreeSet<&str> =
            meant.segments.iter().flat_map(|s| &s.nodes).chain(&meant.absent).map(|n| n.node.as_str()).collect();
        let names: Vec<String> = named.iter().filter(|n| meant_nodes.contains(n.as_str())).cloned().collect();
        if names.is_empty() {
            let what = format!(
                "'{}' selects {}, and {} is meant for none of them",
                plain(text),
                count(named.len(), "node"),
                plain(&meant.service)
            );
            return Err(Failure::data(what).help("see which it is meant for: fleetctl plan, without --limit"));
        }
        Ok(Some(Selected { names, as_written: self.as_written(text) }))
    }

    fn load_inventory(&self) -> Result<Option<Inventory>, Failure> {
        if self.inventory.is_empty() {
            return Ok(None);
        }
        self.how.load(&self.inventory, Playbook::None).map(Some)
    }

    fn as_written(&self, text: &str) -> String {
        let inventories: String = self.inventory.iter().map(|path| format!(" -i {path}")).collect();
        format!("{text}{inventories}")
    }
}

/// Puts what was selected into a request.
pub fn add_to(request: &mut v1::DeploymentRequest, selected: Option<Selected>) {
    if let Some(selected) = selected {
        request.limit = selected.names;
        request.limit_as_written = selected.as_written;
    }
}

/// The nodes that a text selects.
fn select(text: &str, inventory: Option<&Inventory>, nodes: &[v1::Node]) -> Result<Vec<String>, Failure> {
    let names = match requirements(text)? {
        Some(requirements) => by_labels(&requirements, nodes),
        None => by_pattern(text, inventory, nodes)?,
    };
    if names.is_empty() {
        return Err(Failure::data(format!("'{}' selects no node", plain(text))).help(see_labels()));
    }
    Ok(names)
}

fn see_labels() -> &'static str {
    "see names and labels: fleetctl nodes list -o wide"
}

/// One requirement on a label.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Requirement<'a> {
    Is(&'a str, &'a str),
    IsNot(&'a str, &'a str),
}

/// The text as label selectors, if it is that.
fn requirements(text: &str) -> Result<Option<Vec<Requirement<'_>>>, Failure> {
    let (forced, rest) = match text.strip_prefix("label:") {
        Some(rest) => (true, rest),
        None => (false, text),
    };
    let read: Option<Vec<_>> = rest.split(',').map(|part| requirement(part.trim())).collect();
    match read {
        None if forced => Err(Failure::usage(format!("'{}' are no label selectors", plain(rest)))
            .help("write -l label:role=web,az!=c, or without label: for a host pattern")),
        read => Ok(read),
    }
}

fn requirement(part: &str) -> Option<Requirement<'_>> {
    let plain =
        |text: &str| !text.is_empty() && text.bytes().all(|b| b.is_ascii_alphanumeric() || b"-_./".contains(&b));
    let (key, value, requirement): (_, _, fn(_, _) -> _) = match part.split_once("!=") {
        Some((key, value)) => (key, value, |k, v| Requirement::IsNot(k, v)),
        None => {
            let (key, value) = part.split_once('=')?;
            (key, value, |k, v| Requirement::Is(k, v))
        }
    };
    let (key, value) = (key.trim(), value.trim());
    (plain(key) && plain(value)).then(|| requirement(key, value))
}

fn by_labels(requirements: &[Requirement<'_>], nodes: &[v1::Node]) -> Vec<String> {
    let holds = |node: &v1::Node, requirement: &Requirement<'_>| match *requirement {
        Requirement::Is(key, value) => node.labels.get(key).is_some_and(|found| found == value),
        Requirement::IsNot(key, value) => node.labels.get(key).is_none_or(|found| found != value),
    };
    nodes.iter().filter(|node| requirements.iter().all(|r| holds(node, r))).map(|node| node.name.clone()).collect()
}

fn by_pattern(text: &str, inventory: Option<&Inventory>, nodes: &[v1::Node]) -> Result<Vec<String>, Failure> {
    let wrong = |e: &dyn std::error::Error| {
        Failure::usage(format!("'{}' is not a pattern", plain(text))).caused_by(e).help(
            "a host pattern (web*:&az_a:!web-07) or labels (role=web,az=a), but not both; see fleetctl deploy --help",
        )
    };
    let pattern = HostPattern::with_files(text, read_names).map_err(|e| wrong(&e))?;
    let groups = groups(inventory, nodes).map_err(|e| {
        Failure::failed("the labels of the fleet make more groups than a pattern can look through")
            .caused_by(&e)
            .help("select by labels: -l role=web")
    })?;
    let selection = pattern.limit(&groups).map_err(|e| wrong(&e))?;
    let hosts = selection.if_all_matched().map_err(|e| {
        Failure::data(format!("'{}' names something that is not there", plain(text))).caused_by(&e).help(see_labels())
    })?;
    Ok(hosts.into_iter().map(str::to_owned).collect())
}

/// The nodes as hosts, labels and inventories as groups.
fn groups(inventory: Option<&Inventory>, nodes: &[v1::Node]) -> Result<Groups, GroupsError> {
    let names: BTreeSet<&str> = nodes.iter().map(|n| n.name.as_str()).collect();
    let mut members: BTreeMap<String, Vec<&str>> = BTreeMap::new();
    for node in nodes {
        for (key, value) in &node.labels {
            for group in BTreeSet::from([group_name(&format!("{key}_{value}")), group_name(value)]) {
                members.entry(group).or_default().push(&node.name);
            }
        }
    }
    let flat = inventory.map(Inventory::to_groups).transpose()?;
    if let Some(flat) = &flat {
        // `all` and `ungrouped` are the fleet's and not the inventory's.
        for group in flat.groups().skip(2) {
            let known = flat.hosts_of(group).into_iter().flatten().filter_map(|host| names.get(host).copied());
            members.entry(group.to_owned()).or_default().extend(known);
        }
    }
    let mut groups = Groups::new(nodes.iter().map(|n| n.name.as_str()))?;
    for (group, hosts) in &members {
        if !group.is_empty() && !names.contains(group.as_str()) {
            groups.add(group, hosts.iter().copied())?;
        }
    }
    Ok(groups)
}

fn group_name(text: &str) -> String {
    text.chars().map(|c| if c.is_ascii_alphanumeric() || c == '_' { c } else { '_' }).collect()
}

fn read_names(path: &Path) -> std::io::Result<String> {
    let mut text = String::new();
    std::fs::File::open(path)?.take(LARGEST_FILE + 1).read_to_string(&mut text)?;
    if text.len() as u64 > LARGEST_FILE {
        return Err(std::io::Error::other(format!("it has more than {LARGEST_FILE} bytes")));
    }
    Ok(text)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use ansible_compat::Source;

    fn fleet() -> Vec<v1::Node> {
        let node = |name: &str, labels: &[(&str, &str)]| v1::Node {
            name: name.into(),
            labels: labels.iter().map(|(k, v)| ((*k).to_owned(), (*v).to_owned())).collect(),
            ..v1::Node::default()
        };
        vec![
            node("web-1", &[("role", "web"), ("az", "eu-west-1a")]),
            node("web-2", &[("role", "web"), ("az", "eu-west-1b")]),
            node("web-3", &[("role", "web")]),
            node("db-1", &[("role", "db"), ("az", "eu-west-1a"), ("primary", "web-1")]),
        ]
    }

    fn of(text: &str) -> Result<Vec<String>, Failure> {
        select(text, None, &fleet())
    }

    #[test]
    fn labels_and_patterns_select() {
        for (text, names) in [
            ("role=web", &["web-1", "web-2", "web-3"][..]),
            ("role=web,az=eu-west-1a", &["web-1"]),
            ("role=web, az!=eu-west-1a", &["web-2", "web-3"]),
            ("label:az!=eu-west-1a", &["web-2", "web-3"]),
            ("web-2,web-1", &["web-1", "web-2"]),
            ("web", &["web-1", "web-2", "web-3"]),
            ("role_web:&az_eu_west_1a", &["web-1"]),
            ("eu_west_1*:!db", &["web-1", "web-2"]),
            ("web[0:1]", &["web-1", "web-2"]),
            ("~(web|db)-1", &["web-1", "db-1"]),
            ("all:!web", &["db-1"]),
            ("ungrouped,web-3", &["web-3"]),
        ] {
            assert_eq!(of(text).unwrap(), names, "{text}");
        }
    }

    #[test]
    fn what_names_nothing_is_told_by_its_term() {
        for (text, exit, term) in [
            ("role=app", 65, "role=app"),
            ("web-1,web-9", 65, "web-9"),
            ("web:!web-7", 65, "!web-7"),
            ("role=web,!web-1", 65, "role=web"),
            ("web:!role_web", 65, "web:!role_web"),
            ("label:web", 64, "web"),
            ("~web(", 64, "~web("),
            ("@/nowhere/at/all", 64, "@/nowhere/at/all"),
            (",", 64, ","),
        ] {
            let failure = of(text).unwrap_err();
            assert_eq!(failure.exit, exit, "{text}: {failure:?}");
            assert!(failure.to_text().contains(term), "{text}: {}", failure.to_text());
        }
    }

    #[test]
    fn a_nodes_name_means_the_node() {
        // The label primary=web-1 of db-1 makes no group that hides the node web-1.
        assert_eq!(of("web-1").unwrap(), ["web-1"]);
        assert_eq!(of("primary_web_1").unwrap(), ["db-1"]);
        let mut nodes = fleet();
        nodes[3].name = "web".into();
        assert_eq!(select("web", None, &nodes).unwrap(), ["web"]);
        assert_eq!(select("role_web", None, &nodes).unwrap(), ["web-1", "web-2", "web-3"]);
    }

    #[test]
    fn an_inventory_lends_its_groups() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("hosts.ini");
        std::fs::write(&path, "[front]\nweb-1\nweb-9\n\n[web]\ndb-1\n\n[site:children]\nfront\nweb\n").unwrap();
        let inventory = Inventory::load(&[Source::from_argument(path.to_str().unwrap())]).unwrap();
        let of = |text: &str| select(text, Some(&inventory), &fleet());
        assert_eq!(of("front").unwrap(), ["web-1"], "a host that is no node is left out");
        assert_eq!(of("web").unwrap(), ["web-1", "web-2", "web-3", "db-1"], "a name of both holds both");
        assert_eq!(of("site:&role_web").unwrap(), ["web-1"]);
        assert_eq!(of("web-9").unwrap_err().exit, 65);
    }

    #[test]
    fn names_come_from_a_file() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("failed.txt");
        std::fs::write(&path, "web-3\n\ndb-1\n").unwrap();
        assert_eq!(of(&format!("@{}", path.display())).unwrap(), ["web-3", "db-1"]);
        std::fs::write(&path, "web-3\nweb-8\n").unwrap();
        assert!(of(&format!("@{}", path.display())).unwrap_err().to_text().contains("web-8"));
    }
}
