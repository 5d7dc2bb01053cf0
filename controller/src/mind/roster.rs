//! Who belongs to the fleet: names that an inventory expects, tokens and the members that join with them, nodes that
//! leave.

use std::collections::BTreeMap;

use fleet::deployment::{Deployment, Event};
use fleet::{NodeName, Timestamp};
use fleet_certs::{Identity, Role, TokenRecord};
use fleet_proto::{convert, v1};

use super::ask::{JoinAs, Joined, Refusal};
use super::state::{NodeSeen, State};
use crate::records::{Change, Decommission, Enrolled, NodeRecord, OperatorRecord};

/// The most nodes one import may name.
const MOST_IMPORTED: usize = 20_000;

/// How much of an inventory's name is kept, in characters.
const LONGEST_SOURCE: usize = 200;
/// The most labels that one node, token or import may bring, and the longest of them (key and value, in bytes): labels
/// say what a node is for, and are kept and compared all the time.
const MOST_LABELS: usize = 64;
const LONGEST_LABEL: usize = 256;

/// Whether labels are within bounds; if not, why.
///
/// # Errors
/// With what is wrong with them.
pub fn check_labels<'a>(labels: impl ExactSizeIterator<Item = (&'a String, &'a String)>) -> Result<(), String> {
    if labels.len() > MOST_LABELS {
        return Err(format!("{} are more than the {MOST_LABELS} one may have", labels.len()));
    }
    for (key, value) in labels {
        if key.is_empty() {
            return Err("a label without a key".into());
        }
        if key.len() + value.len() > LONGEST_LABEL {
            return Err(format!("a label is longer than {LONGEST_LABEL} bytes"));
        }
        if key.chars().chain(value.chars()).any(char::is_control) {
            return Err(format!("the label '{}' has characters that cannot be printed", key.escape_default()));
        }
    }
    Ok(())
}

impl State {
    /// Takes in names that are expected. Nobody leaves by not being listed; the reply says who is not.
    pub(super) fn import(
        &mut self,
        by: &str,
        request: v1::ImportNodesRequest,
    ) -> Result<v1::ImportNodesReply, Refusal> {
        if request.nodes.len() > MOST_IMPORTED {
            return Err(Refusal::input(
                format!("{} names are more than the {MOST_IMPORTED} one import may have", request.nodes.len()),
                "import in parts",
            ));
        }
        let refused = |what: String| Refusal::input(what, "correct the inventory; nothing was imported");
        let mut imported: BTreeMap<NodeName, BTreeMap<String, String>> = BTreeMap::new();
        for node in request.nodes {
            let name: NodeName = convert::parse("name", &node.name).map_err(|e| refused(e.to_string()))?;
            check_labels(node.labels.iter()).map_err(|why| refused(format!("the labels of {name}: {why}")))?;
            imported.entry(name).or_default().extend(node.labels);
        }
        let mut reply = v1::ImportNodesReply::default();
        let source: String = request.source.chars().take(LONGEST_SOURCE).collect();
        tracing::info!(by, source, names = imported.len(), "importing expected nodes");
        for (name, labels) in &imported {
            match self.nodes.get_mut(name) {
                Some(record) => {
                    reply.known.push(name.to_string());
                    record.imported_from = Some(source.clone());
                    record.labels.extend(labels.clone());
                    let record = record.clone();
                    self.save(Change::Node(record));
                }
                None => {
                    reply.added.push(name.to_string());
                    let record = NodeRecord {
                        name: name.clone(),
                        labels: labels.clone(),
                        enrolled: None,
                        imported_from: Some(source.clone()),
                        session: 0,
                    };
                    self.nodes.insert(name.clone(), record.clone());
                    self.save(Change::Node(record));
                }
            }
        }
        reply.not_listed =
            self.nodes.keys().filter(|name| !imported.contains_key(*name)).map(ToString::to_string).collect();
        Ok(reply)
    }

    /// Keeps a token that was just made.
    pub(super) fn add_token(&mut self, token: TokenRecord) {
        self.save(Change::Token(token.clone()));
        self.tokens.insert(token.id.clone(), token);
    }

    /// Redeems a token for an identity, in one turn: a token is never used twice, a name never taken twice.
    pub(super) fn join(&mut self, wish: JoinAs, now: Timestamp) -> Result<Joined, Refusal> {
        let refused = |e: &dyn std::fmt::Display| {
            Refusal::not_allowed(
                format!("joining as '{}' is refused: {e}", wish.name.escape_default()),
                "make a new token: fleetctl tokens create",
            )
        };
        let mut token =
            self.tokens.get(&wish.token_id).cloned().ok_or_else(|| refused(&fleet_certs::TokenRefusal::Unknown))?;
        token.redeem(&wish.token_secret, &wish.name, now.0).map_err(|e| refused(&e))?;
        let role = token.role;
        let node_name: Option<NodeName> = match role {
            Role::Node => Some(wish.name.parse().map_err(|e| refused(&e))?),
            Role::Operator | Role::Controller => None,
        };
        if node_name.as_ref().and_then(|name| self.nodes.get(name)).is_some_and(|record| record.enrolled.is_some()) {
            let help = format!(
                "choose another name (--name), or take the old node out first: fleetctl nodes remove {}",
                wish.name
            );
            return Err(Refusal::not_allowed(
                format!("a node named '{}' has already joined, with another key", wish.name),
                help,
            ));
        }
        if role == Role::Operator
            && self.operators.contains_key(&wish.name)
            && token.name.as_deref() != Some(wish.name.as_str())
        {
            let help = format!(
                "choose another name (--name), or use a token made for this one: fleetctl tokens create --role operator --name {}",
                wish.name
            );
            return Err(Refusal::not_allowed(
                format!("an operator named '{}' exists, and this token was not made for that name", wish.name),
                help,
            ));
        }
        let name = wish.name.clone();
        let issued = (wish.issue)(role)?;
        let identity =
            Identity::new(role, name.clone()).map_err(|e| Refusal::input(e.to_string(), "choose another name"))?;
        let not_after = issued.not_after.duration_since(std::time::UNIX_EPOCH).unwrap_or_default();
        let not_after = Timestamp(i64::try_from(not_after.as_millis()).unwrap_or(i64::MAX));
        let enrolled = Enrolled { serial: issued.serial.clone(), not_after, at: now, token: token.id.clone() };
        match node_name {
            Some(node) => {
                let record = self.nodes.entry(node.clone()).or_insert_with(|| NodeRecord {
                    name: node.clone(),
                    labels: BTreeMap::new(),
                    enrolled: None,
                    imported_from: None,
                    session: 0,
                });
                record.labels.extend(wish.labels);
                record.labels.extend(token.labels.clone());
                record.enrolled = Some(enrolled);
                record.session = 0;
                let record = record.clone();
                self.seen.insert(node.clone(), NodeSeen { watched_since: now, ..NodeSeen::default() });
                self.save(Change::Node(record));
                self.joins_running(&node, now);
            }
            None => {
                let record = self
                    .operators
                    .entry(name.clone())
                    .or_insert_with(|| OperatorRecord { name: name.clone(), certificates: Vec::new() });
                // What has run out is refused by its date; keeping its serial would only let the list grow.
                record.certificates.retain(|certificate| certificate.not_after > now);
                record.certificates.push(enrolled);
                let record = record.clone();
                self.save(Change::Operator(record));
            }
        }
        tracing::info!(name, role = role.as_str(), token = token.id, "joined");
        self.allowed.grant(identity, issued.serial.clone());
        self.add_token(token);
        Ok(Joined { role, issued })
    }

    /// A node that joins while a deployment of its service runs is ordered last, and belongs to the verdict; unless the
    /// deployment was limited to others.
    fn joins_running(&mut self, node: &NodeName, now: Timestamp) {
        let meant = |deployment: &Deployment| {
            let release = deployment.spec().target.release();
            let descriptor = release.and_then(|release| self.catalogue.get(release));
            deployment.spec().limit.is_empty()
                && descriptor.is_some_and(|descriptor| self.expected_for(&descriptor.nodes).contains(node))
        };
        let running: Vec<_> = self
            .running()
            .filter(|(_, journaled)| meant(&journaled.deployment))
            .map(|(id, journaled)| (id.clone(), journaled.deployment.spec().service.clone()))
            .collect();
        for (id, service) in running {
            let previous = self.held_by(node, &service);
            self.deployment_event(&id, &Event::Joined { node: node.clone(), previous }, now);
        }
    }

    /// Takes a node out: its certificate is refused from now on, and its open connections are closed before the answer.
    pub(super) fn remove_node(
        &mut self,
        by: &str,
        name: &NodeName,
        reason: String,
        now: Timestamp,
    ) -> Result<v1::RemoveNodeReply, Refusal> {
        if !self.nodes.contains_key(name) {
            return Err(Refusal::unknown(format!("there is no node '{name}'"), "list them: fleetctl nodes list"));
        }
        if let Ok(identity) = Identity::new(Role::Node, name.as_str()) {
            self.allowed.withdraw(&identity);
            self.sessions.revoke(&identity);
        }
        self.nodes.remove(name);
        let was_connected = self.seen.remove(name).is_some_and(|seen| seen.link.is_some());
        for service in self.book.remove(name).unwrap_or_default().into_keys() {
            self.save(Change::ForgetOrder(name.clone(), service));
        }
        let entries = self.ledger.remove_node(name, now);
        let findings_closed = u32::try_from(entries.len()).unwrap_or(u32::MAX);
        self.save_ledger(entries);
        // It is expected no longer, on the record of every deployment that expected it.
        let running: Vec<_> = self.running().map(|(id, _)| id.clone()).collect();
        for id in running {
            let event = Event::Decommissioned { node: name.clone(), by: by.to_owned(), reason: reason.clone() };
            self.deployment_event(&id, &event, now);
        }
        self.save(Change::RemoveNode {
            name: name.clone(),
            decommission: Decommission { at: now, by: by.to_owned(), reason },
        });
        Ok(v1::RemoveNodeReply { findings_closed, was_connected })
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn labels_are_bounded() {
        let check = |labels: &[(String, String)]| {
            let labels: BTreeMap<_, _> = labels.iter().cloned().collect();
            check_labels(labels.iter())
        };
        let label = |key: &str, value: &str| (key.to_owned(), value.to_owned());
        let numbered = |count| (0..count).map(|i| label(&i.to_string(), "x")).collect::<Vec<_>>();
        assert_eq!(check(&numbered(MOST_LABELS)), Ok(()));
        assert!(check(&numbered(MOST_LABELS + 1)).unwrap_err().contains("65"));
        assert_eq!(check(&[label("role", "web")]), Ok(()));
        for bad in [label("", "web"), label("role", "a\nb"), label("role", &"x".repeat(LONGEST_LABEL))] {
            assert!(check(std::slice::from_ref(&bad)).is_err(), "{bad:?}");
        }
    }
}
