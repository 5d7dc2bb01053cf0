//! `fleetctl nodes import`: an inventory against the roster. Every difference is told, also with `--dry-run`, which
//! changes nothing.
//!
//! What the import changes, the controller decides: names are added, never taken out, and labels of the inventory win.

use std::collections::BTreeMap;
use std::str::FromStr;

use ansible_compat::Inventory;
use fleet::outcome::exit;
use fleet_proto::v1;
use serde_json::Value;

use super::nodes::check_name;
use super::session::Session;
use crate::client::{CALL_DEADLINE, answer};
use crate::failure::Failure;
use crate::output::documents::{LabelChange, NodeImport, document};
use crate::output::format::Format;
use crate::output::text::plain;

/// A label, and the variable of the inventory that it is made of.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LabelWish {
    label: String,
    variable: String,
}

impl FromStr for LabelWish {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let (label, variable) = text.split_once('=').unwrap_or((text, text));
        if label.is_empty() || variable.is_empty() {
            return Err("write the label, or label=variable".to_owned());
        }
        Ok(Self { label: label.to_owned(), variable: variable.to_owned() })
    }
}

/// What becomes of the differences.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Purpose {
    /// They are told, and the roster is changed.
    Import,
    /// They are told.
    Report,
}

/// Who is expected, with labels, and who says so.
#[derive(Debug)]
pub struct Listed {
    nodes: BTreeMap<String, BTreeMap<String, String>>,
    source: String,
}

impl Listed {
    /// Names without labels.
    pub fn names(names: Vec<String>, source: String) -> Self {
        Self { nodes: names.into_iter().map(|name| (name, BTreeMap::new())).collect(), source }
    }

    /// The hosts of an inventory that a pattern names, with the labels that were wished for.
    ///
    /// # Errors
    /// 64 if it is no pattern; 65 if a name cannot be a node's, or a variable cannot be a label.
    pub fn of(inventory: &Inventory, pattern: &str, wishes: &[LabelWish], source: String) -> Result<Self, Failure> {
        let not_a_pattern = |e: ansible_compat::PatternError| {
            Failure::usage(format!("'{}' is not a pattern", plain(pattern))).caused_by(&e)
        };
        let hosts = inventory.selection(pattern).map_err(not_a_pattern)?.if_all_matched().map_err(|e| {
            Failure::data(format!("'{}' names something that is not there", plain(pattern))).caused_by(&e)
        })?;
        let mut nodes = BTreeMap::new();
        for host in hosts {
            let vars = if wishes.is_empty() { None } else { inventory.vars_of(host) };
            let mut labels = BTreeMap::new();
            for wish in wishes {
                let value = vars.as_ref().and_then(|vars| vars.get(&wish.variable));
                if let Some(text) = value.map(label_text).transpose().map_err(|why| cannot(host, wish, why))? {
                    labels.insert(wish.label.clone(), text);
                }
            }
            nodes.insert(check_name(host)?, labels);
        }
        Ok(Self { nodes, source })
    }
}

fn cannot(host: &str, wish: &LabelWish, why: &str) -> Failure {
    Failure::data(format!("the variable '{}' of {} cannot be a label: it is {why}", plain(&wish.variable), plain(host)))
        .help("choose a variable that is one word or number")
}

/// Vault values stay in the inventory: a label is seen by everybody.
fn label_text(value: &Value) -> Result<String, &'static str> {
    match value {
        Value::String(text) if text.contains("{{") => Err("a template"),
        Value::String(text) => Ok(text.clone()),
        Value::Number(number) => Ok(number.to_string()),
        Value::Bool(value) => Ok(value.to_string()),
        Value::Null => Err("nothing"),
        Value::Array(_) => Err("a list"),
        Value::Object(pairs) if pairs.contains_key("__ansible_vault") => Err("a vault value"),
        Value::Object(_) => Err("a dictionary"),
    }
}

pub(super) async fn run(session: &Session, listed: Listed, purpose: Purpose) -> Result<u8, Failure> {
    let format = session.format(&[Format::Table, Format::Json], "nodes import")?;
    if listed.nodes.is_empty() {
        return Err(Failure::data(format!("{} names no hosts", listed.source)));
    }
    let mut client = session.connect().await?;
    let roster = answer(CALL_DEADLINE, client.list_nodes(v1::ListNodesRequest {})).await?.nodes;
    let mut report = differences(&listed, &roster);
    if purpose == Purpose::Import {
        let nodes = listed
            .nodes
            .into_iter()
            .map(|(name, labels)| v1::ImportNode { name, labels: labels.into_iter().collect() });
        let request = v1::ImportNodesRequest { nodes: nodes.collect(), source: listed.source };
        let reply = answer(CALL_DEADLINE, client.import_nodes(request)).await?;
        // What the controller did counts, also where the roster moved in between.
        (report.added, report.known, report.not_listed) = (reply.added, reply.known, reply.not_listed);
    }
    let differ = !(report.added.is_empty() && report.not_listed.is_empty() && report.labels.is_empty());
    if format == Format::Json {
        session.screen.out(&document("NodeImport", report));
    } else {
        session.screen.out(&shown(&report, purpose));
        if purpose == Purpose::Import && !report.added.is_empty() {
            session.screen.say(
                "Added names are expected from now on: without an agent each of them is a finding. See: fleetctl drift",
            );
        }
    }
    Ok(if purpose == Purpose::Report && differ { exit::DIFFERENCES } else { exit::OK })
}

/// In the inventory and not in the roster, in both, in the roster alone, and labels that are not the same.
fn differences(listed: &Listed, roster: &[v1::Node]) -> NodeImport {
    let known: BTreeMap<&str, &v1::Node> = roster.iter().map(|node| (node.name.as_str(), node)).collect();
    let (mut report, mut labels) =
        (NodeImport { added: vec![], known: vec![], not_listed: vec![], labels: vec![] }, vec![]);
    for (name, wished) in &listed.nodes {
        let Some(node) = known.get(name.as_str()) else {
            report.added.push(name.clone());
            continue;
        };
        report.known.push(name.clone());
        for (label, inventory) in wished {
            let roster = node.labels.get(label).cloned();
            if roster.as_ref() != Some(inventory) {
                labels.push(LabelChange {
                    node: name.clone(),
                    label: label.clone(),
                    roster,
                    inventory: inventory.clone(),
                });
            }
        }
    }
    report.not_listed =
        known.keys().filter(|name| !listed.nodes.contains_key(**name)).map(|name| (*name).to_owned()).collect();
    report.labels = labels;
    report
}

fn shown(report: &NodeImport, purpose: Purpose) -> String {
    let added = match purpose {
        Purpose::Import => "added",
        Purpose::Report => "missing",
    };
    let mut text = String::new();
    for (what, names) in [(added, &report.added), ("known", &report.known), ("not listed", &report.not_listed)] {
        let names_text = names.iter().map(|n| plain(n)).collect::<Vec<_>>().join(" ");
        text += format!("{what:<10}  {:>3}  {names_text}", names.len()).trim_end();
        text.push('\n');
    }
    for change in &report.labels {
        let before = change.roster.as_deref().map_or_else(|| "none".to_owned(), plain);
        text += &format!(
            "label       {}  {}: {before} -> {}\n",
            plain(&change.node),
            plain(&change.label),
            plain(&change.inventory)
        );
    }
    text
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use ansible_compat::Source;

    fn listed(inventory: &str, wishes: &[&str]) -> Result<Listed, Failure> {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("hosts.yml");
        std::fs::write(&path, inventory).unwrap();
        let inventory = Inventory::load(&[Source::Path(path)]).unwrap();
        let wishes: Vec<LabelWish> = wishes.iter().map(|wish| wish.parse().unwrap()).collect();
        Listed::of(&inventory, "all", &wishes, "hosts.yml".to_owned())
    }

    #[test]
    fn every_difference_is_told() {
        let text = "web:\n  hosts: {w1: {az: a}, w2: {az: b}, w3: }\n  vars: {server_role: web, port: 80}\n";
        let listed = listed(text, &["az", "role=server_role"]).unwrap();
        let node = |name: &str, labels: &[(&str, &str)]| v1::Node {
            name: name.to_owned(),
            labels: labels.iter().map(|(key, value)| ((*key).to_owned(), (*value).to_owned())).collect(),
            ..v1::Node::default()
        };
        let roster =
            [node("w1", &[("az", "a"), ("role", "web"), ("own", "x")]), node("w2", &[("az", "c")]), node("old", &[])];
        let report = differences(&listed, &roster);
        assert_eq!(
            shown(&report, Purpose::Report),
            "missing       1  w3\nknown         2  w1 w2\nnot listed    1  old\n\
             label       w2  az: c -> b\nlabel       w2  role: none -> web\n"
        );
        assert!(shown(&report, Purpose::Import).starts_with("added         1  w3\n"));
    }

    #[test]
    fn only_one_word_or_number_becomes_a_label() {
        for (value, why) in [
            ("!vault hunter2", "a vault value"),
            ("[1]", "a list"),
            ("{a: 1}", "a dictionary"),
            ("", "nothing"),
            ("\"{{ x }}\"", "a template"),
        ] {
            let failure = listed(&format!("all:\n  hosts: {{h: }}\n  vars:\n    v: {value}\n"), &["v"]).unwrap_err();
            assert!(failure.what.ends_with(why), "{}", failure.what);
            assert!(!failure.to_text().contains("hunter2"));
        }
        assert_eq!(listed("all:\n  hosts: {h: {v: 5}}\n", &["v", "w"]).unwrap().nodes["h"]["v"], "5");
        assert!("=x".parse::<LabelWish>().is_err());
    }
}
