//! What the store holds: the one file that knows keys and encodings. Above it everyone speaks domain types.
//!
//! Values are JSON behind one byte of format; an unknown newer format is refused by name, never misread. A value that
//! is larger than the store takes is cut into parts under one key prefix.

use std::collections::BTreeMap;

use fleet::deployment::Fact;
use fleet::drift::FindingKey;
use fleet::ledger::{LedgerEntry, OpenFinding};
use fleet::release::Version;
use fleet::{DeploymentId, Digest, Generation, NodeName, Order, ReleaseId, ServiceName, Timestamp};
use fleet_certs::TokenRecord;
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use sha2::Digest as _;

use crate::store::{self, Expect, MAX_BATCH_WRITES, MAX_VALUE_BYTES, Store, Write};

/// The format of every value written by this program.
const FORMAT: u8 = 1;

/// A release, as the controller remembers it; its descriptor lies in its bundle.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct ReleaseRecord {
    /// Its id.
    pub id: ReleaseId,
    /// Its service.
    pub service: ServiceName,
    /// Its version label.
    pub version: Version,
    /// The digest of its bundle.
    pub bundle: Digest,
    /// The size of its bundle in bytes.
    pub size: u64,
    /// When it was uploaded first.
    pub created_at: Timestamp,
    /// Who uploaded it.
    pub created_by: String,
}

/// An expected node.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct NodeRecord {
    /// Its name.
    pub name: NodeName,
    /// Its labels.
    pub labels: BTreeMap<String, String>,
    /// Its certificate, if it has joined.
    pub enrolled: Option<Enrolled>,
    /// The inventory that names it, if one does.
    pub imported_from: Option<String>,
}

/// A member's certificate.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Enrolled {
    /// The serial of its certificate: no other is accepted.
    pub serial: String,
    /// When the certificate ends.
    pub not_after: Timestamp,
    /// When it joined.
    pub at: Timestamp,
    /// The token it joined with.
    pub token: String,
}

/// An operator's certificate.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct OperatorRecord {
    /// The operator's name.
    pub name: String,
    /// Every serial that is accepted.
    pub certificates: Vec<Enrolled>,
}

/// Why the store could not be read or written.
#[derive(Debug, thiserror::Error)]
pub enum RecordError {
    /// The store's own reason.
    #[error(transparent)]
    Store(#[from] store::Error),
    /// A value that this program cannot read.
    #[error("the store's value {key} cannot be read: {reason}")]
    Unreadable {
        /// Its key.
        key: String,
        /// Why, and what to do.
        reason: String,
    },
}

/// Something to save.
#[derive(Debug, Clone)]
pub enum Change {
    /// Entry `index` of a deployment's journal. The journal is the lock: an entry is written once, by whoever is first.
    Fact {
        /// The deployment.
        deployment: DeploymentId,
        /// The place in its journal.
        index: u64,
        /// The entry.
        fact: Box<Fact>,
    },
    /// What a node shall hold of a service.
    Order(Order),
    /// What a node held is forgotten with it.
    ForgetOrder(NodeName, ServiceName),
    /// The last generation that was drawn.
    Generation(Generation),
    /// A release.
    Release(ReleaseRecord),
    /// A node.
    Node(NodeRecord),
    /// A node leaves; why and by whom stays.
    RemoveNode {
        /// The node.
        name: NodeName,
        /// When, who, why.
        decommission: Decommission,
    },
    /// An operator.
    Operator(OperatorRecord),
    /// A join token.
    Token(TokenRecord),
    /// A line of the ledger, and the open finding that it leaves.
    Ledger {
        /// The line.
        entry: LedgerEntry,
        /// Its number.
        index: u64,
    },
}

/// Why a node left.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Decommission {
    /// When.
    pub at: Timestamp,
    /// Who.
    pub by: String,
    /// Why.
    pub reason: String,
}

/// Everything that was saved.
#[derive(Debug, Default)]
pub struct Loaded {
    /// The journals, by deployment.
    pub journals: BTreeMap<DeploymentId, Vec<Fact>>,
    /// What every node shall hold.
    pub book: BTreeMap<(NodeName, ServiceName), Order>,
    /// The last generation drawn.
    pub generation: Generation,
    /// The releases.
    pub releases: BTreeMap<ReleaseId, ReleaseRecord>,
    /// The roster.
    pub nodes: BTreeMap<NodeName, NodeRecord>,
    /// The operators.
    pub operators: BTreeMap<String, OperatorRecord>,
    /// The tokens.
    pub tokens: BTreeMap<String, TokenRecord>,
    /// The open findings.
    pub findings: Vec<OpenFinding>,
    /// How many lines the ledger has.
    pub ledger_lines: u64,
}

const JOURNAL: &str = "journal/";
const BOOK: &str = "desired/";
const GENERATION: &str = "generation";
const RELEASES: &str = "releases/";
const NODES: &str = "nodes/";
const GONE: &str = "decommissioned/";
const OPERATORS: &str = "operators/";
const TOKENS: &str = "tokens/";
const FINDINGS: &str = "findings/";
const LEDGER: &str = "ledger/";

/// Saves changes: all of them when they fit one batch of the store, which they do but for orders to thousands of
/// nodes. Then the first batch has the facts, and a crash in between is healed by saying the orders again.
///
/// # Errors
/// The store's.
pub async fn save(store: &dyn Store, changes: &[Change]) -> Result<(), RecordError> {
    let mut batch = Batch::default();
    for change in changes {
        let writes = encode(change)?;
        if batch.writes.len() + writes.len() > MAX_BATCH_WRITES {
            store.commit(std::mem::take(&mut batch).writes).await?;
        }
        writes.into_iter().for_each(|write| batch.add(write));
    }
    if !batch.writes.is_empty() {
        store.commit(batch.writes).await?;
    }
    Ok(())
}

/// A batch names each key once: what a key is given last is what it holds after the turn.
#[derive(Default)]
struct Batch {
    writes: Vec<Write>,
    places: BTreeMap<String, usize>,
}

impl Batch {
    fn add(&mut self, mut write: Write) {
        let (Write::Put { key, expect, .. } | Write::Delete { key, expect }) = &mut write;
        match self.places.get(key) {
            Some(&place) => {
                // What must hold before the batch is what the first of them asked for.
                let (Write::Put { expect: first, .. } | Write::Delete { expect: first, .. }) = &self.writes[place];
                *expect = *first;
                self.writes[place] = write;
            }
            None => {
                self.places.insert(key.clone(), self.writes.len());
                self.writes.push(write);
            }
        }
    }
}

fn encode(change: &Change) -> Result<Vec<Write>, RecordError> {
    Ok(match change {
        Change::Fact { deployment, index, fact } => {
            put(&format!("{JOURNAL}{deployment}/{index:010}"), fact, Expect::Absent)?
        }
        Change::Order(order) => put(&format!("{BOOK}{}/{}", order.node, order.service), order, Expect::Anything)?,
        Change::ForgetOrder(node, service) => vec![delete(format!("{BOOK}{node}/{service}"))],
        Change::Generation(generation) => put(GENERATION, generation, Expect::Anything)?,
        Change::Release(release) => put(&format!("{RELEASES}{}", release.id), release, Expect::Anything)?,
        Change::Node(node) => put(&format!("{NODES}{}", node.name), node, Expect::Anything)?,
        Change::RemoveNode { name, decommission } => {
            let mut writes = vec![delete(format!("{NODES}{name}"))];
            writes.extend(put(&format!("{GONE}{name}/{:020}", decommission.at.0), decommission, Expect::Anything)?);
            writes
        }
        Change::Operator(operator) => put(&format!("{OPERATORS}{}", operator.name), operator, Expect::Anything)?,
        Change::Token(token) => put(&format!("{TOKENS}{}", token.id), token, Expect::Anything)?,
        Change::Ledger { entry, index } => {
            let mut writes = put(&format!("{LEDGER}{index:012}"), entry, Expect::Absent)?;
            match entry {
                LedgerEntry::Opened { at, finding } => {
                    writes.extend(put(
                        &finding_key(&finding.key),
                        &OpenFinding { finding: finding.clone(), since: *at },
                        Expect::Anything,
                    )?);
                }
                LedgerEntry::Changed { at, finding } => {
                    writes.extend(put(
                        &finding_key(&finding.key),
                        &OpenFinding { finding: finding.clone(), since: *at },
                        Expect::Anything,
                    )?);
                }
                LedgerEntry::Closed { key, .. } => writes.push(delete(finding_key(key))),
            }
            writes
        }
    })
}

/// `what` may be any path, so its digest stands in the key.
fn finding_key(key: &FindingKey) -> String {
    let service = key.service.as_ref().map_or("-", ServiceName::as_str);
    let what = Digest(sha2::Sha256::digest(key.what.as_bytes()).into());
    format!("{FINDINGS}{}/{service}/{}/{}", key.node, key.kind, what.hex())
}

fn delete(key: String) -> Write {
    Write::Delete { key, expect: Expect::Anything }
}

/// One value, in as many parts as it needs: `key`, `key+001`, …; the first byte of each is the format, the second
/// whether another part follows.
fn put(key: &str, value: &impl Serialize, expect: Expect) -> Result<Vec<Write>, RecordError> {
    const ROOM: usize = MAX_VALUE_BYTES - 2;
    let text =
        serde_json::to_vec(value).map_err(|e| RecordError::Unreadable { key: key.into(), reason: e.to_string() })?;
    let parts: Vec<&[u8]> = text.chunks(ROOM).collect();
    let last = parts.len().saturating_sub(1);
    let write = |(i, part): (usize, &[u8])| {
        let value = [&[FORMAT, u8::from(i < last)], part].concat();
        let key = if i == 0 { key.to_owned() } else { format!("{key}+{i:03}") };
        Write::Put { key, value, expect }
    };
    Ok(parts.into_iter().enumerate().map(write).collect())
}

/// Reads everything that was saved.
///
/// # Errors
/// The store's; or the key of the value that cannot be read.
pub async fn load(store: &dyn Store) -> Result<Loaded, RecordError> {
    let mut loaded = Loaded::default();
    for (key, fact) in list::<Fact>(store, JOURNAL).await? {
        let unreadable = |reason: &str| RecordError::Unreadable { key: key.clone(), reason: reason.into() };
        let (id, index) = key[JOURNAL.len()..].split_once('/').ok_or_else(|| unreadable("the key has no index"))?;
        let id: DeploymentId = id.parse().map_err(|_| unreadable("the key has no deployment id"))?;
        let journal = loaded.journals.entry(id).or_default();
        if index.parse() != Ok(journal.len()) {
            return Err(unreadable(
                "an entry of the journal before it is missing: restore the controller from a backup",
            ));
        }
        journal.push(fact);
    }
    for (_, order) in list::<Order>(store, BOOK).await? {
        loaded.book.insert((order.node.clone(), order.service.clone()), order);
    }
    loaded.generation =
        list::<Generation>(store, GENERATION).await?.into_iter().next().map_or(Generation(0), |(_, g)| g);
    loaded.releases =
        list::<ReleaseRecord>(store, RELEASES).await?.into_iter().map(|(_, r)| (r.id.clone(), r)).collect();
    loaded.nodes = list::<NodeRecord>(store, NODES).await?.into_iter().map(|(_, n)| (n.name.clone(), n)).collect();
    loaded.operators =
        list::<OperatorRecord>(store, OPERATORS).await?.into_iter().map(|(_, o)| (o.name.clone(), o)).collect();
    loaded.tokens = list::<TokenRecord>(store, TOKENS).await?.into_iter().map(|(_, t)| (t.id.clone(), t)).collect();
    loaded.findings = list::<OpenFinding>(store, FINDINGS).await?.into_iter().map(|(_, f)| f).collect();
    let last_line =
        store.list(LEDGER).await?.last().and_then(|(key, _)| key[LEDGER.len()..].get(..12)?.parse::<u64>().ok());
    loaded.ledger_lines = last_line.map_or(0, |line| line + 1);
    Ok(loaded)
}

/// Every value under a prefix, its parts put together.
async fn list<T: DeserializeOwned>(store: &dyn Store, prefix: &str) -> Result<Vec<(String, T)>, RecordError> {
    let mut values = Vec::new();
    let mut entries = store.list(prefix).await?.into_iter().peekable();
    while let Some((key, entry)) = entries.next() {
        let unreadable = |reason: String| RecordError::Unreadable { key: key.clone(), reason };
        let mut text = Vec::new();
        let mut part = entry.value;
        let mut parts = 1;
        loop {
            match part.first() {
                Some(&FORMAT) => {}
                Some(format) => {
                    return Err(unreadable(format!(
                        "it has format {format}, this program knows format {FORMAT}: use the program that wrote it"
                    )));
                }
                None => return Err(unreadable("it is empty".into())),
            }
            text.extend(part.get(2..).unwrap_or_default());
            if part.get(1) != Some(&1) {
                break;
            }
            part = match entries.next_if(|(next, _)| *next == format!("{key}+{parts:03}")) {
                Some((_, entry)) => entry.value,
                None => {
                    return Err(unreadable(format!("part {parts} is missing: restore the controller from a backup")));
                }
            };
            parts += 1;
        }
        let value = serde_json::from_slice(&text).map_err(|e| unreadable(e.to_string()))?;
        values.push((key, value));
    }
    Ok(values)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use crate::store::Memory;
    use fleet::Hold;
    use fleet::drift::{Finding, Kind};

    fn order(node: &str, generation: u64) -> Order {
        Order {
            node: node.parse().unwrap(),
            service: "web".parse().unwrap(),
            generation: Generation(generation),
            hold: Hold::Nothing,
        }
    }

    #[tokio::test]
    async fn what_is_saved_is_loaded() {
        let store = Memory::default();
        let finding = Finding {
            key: FindingKey {
                node: "n1".parse().unwrap(),
                service: None,
                kind: Kind::Stale,
                what: "any/thing\n".into(),
            },
            expected: "a".into(),
            found: "b".into(),
        };
        let fact = |at| Fact::SegmentStarted { at: Timestamp(at), segment: 0 };
        let id: DeploymentId = "d-x".parse().unwrap();
        let changes = [
            Change::Fact { deployment: id.clone(), index: 0, fact: Box::new(fact(1)) },
            Change::Fact { deployment: id.clone(), index: 1, fact: Box::new(fact(2)) },
            Change::Order(order("n1", 3)),
            Change::Generation(Generation(4)),
            Change::Ledger { entry: LedgerEntry::Opened { at: Timestamp(5), finding: finding.clone() }, index: 0 },
        ];
        save(&store, &changes).await.unwrap();
        let loaded = load(&store).await.unwrap();
        assert_eq!(loaded.journals[&id], [fact(1), fact(2)]);
        assert_eq!(loaded.generation, Generation(4));
        assert_eq!(loaded.book.into_values().collect::<Vec<_>>(), [order("n1", 3)]);
        assert_eq!(loaded.findings, [OpenFinding { finding: finding.clone(), since: Timestamp(5) }]);
        assert_eq!(loaded.ledger_lines, 1);
        let closed = LedgerEntry::Closed { at: Timestamp(6), key: finding.key, why: fleet::ledger::Closing::Gone };
        save(&store, &[Change::Ledger { entry: closed, index: 1 }]).await.unwrap();
        assert_eq!(load(&store).await.unwrap().findings, []);
    }

    #[tokio::test]
    async fn the_journal_is_the_lock() {
        let store = Memory::default();
        let fact = Change::Fact {
            deployment: "d-x".parse().unwrap(),
            index: 0,
            fact: Box::new(Fact::VerificationStarted { at: Timestamp(1) }),
        };
        save(&store, std::slice::from_ref(&fact)).await.unwrap();
        assert!(matches!(save(&store, &[fact]).await, Err(RecordError::Store(store::Error::Conflict { .. }))));
    }

    #[tokio::test]
    async fn what_a_key_is_given_last_in_a_turn_is_what_it_holds() {
        let store = Memory::default();
        let changes = [
            Change::Generation(Generation(1)),
            Change::Order(order("n1", 1)),
            Change::Generation(Generation(2)),
            Change::Order(order("n1", 3)),
        ];
        save(&store, &changes).await.unwrap();
        let loaded = load(&store).await.unwrap();
        assert_eq!(
            (loaded.generation, loaded.book.into_values().collect::<Vec<_>>()),
            (Generation(2), vec![order("n1", 3)])
        );
        let again = [Change::Order(order("n1", 4)), Change::ForgetOrder("n1".parse().unwrap(), "web".parse().unwrap())];
        save(&store, &again).await.unwrap();
        assert!(load(&store).await.unwrap().book.is_empty());
    }

    #[tokio::test]
    async fn large_values_are_cut_and_put_together() {
        let store = Memory::default();
        let message = "x".repeat(3 * MAX_VALUE_BYTES);
        let reason = Decommission { at: Timestamp(1), by: "a".into(), reason: message };
        store.commit(put("big/x", &reason, Expect::Absent).unwrap()).await.unwrap();
        assert_eq!(list::<Decommission>(&store, "big/").await.unwrap(), [("big/x".to_owned(), reason)]);
        store.commit(vec![delete("big/x+002".into())]).await.unwrap();
        assert!(
            matches!(list::<Decommission>(&store, "big/").await, Err(RecordError::Unreadable { .. })),
            "a lost part is never passed over"
        );
    }

    #[tokio::test]
    async fn a_newer_format_and_a_gap_are_refused_by_name() {
        let store = Memory::default();
        store
            .commit(vec![Write::Put {
                key: GENERATION.into(),
                value: b"\x02\x0010".to_vec(),
                expect: Expect::Anything,
            }])
            .await
            .unwrap();
        let error = load(&store).await.unwrap_err().to_string();
        assert!(error.contains("format 2") && error.contains(GENERATION), "{error}");
        let store = Memory::default();
        let fact = Change::Fact {
            deployment: "d-x".parse().unwrap(),
            index: 1,
            fact: Box::new(Fact::VerificationStarted { at: Timestamp(1) }),
        };
        save(&store, &[fact]).await.unwrap();
        assert!(load(&store).await.unwrap_err().to_string().contains("missing"));
    }

    /// Persisted encodings are pinned: if this fails, old stores could not be read any more.
    #[test]
    fn the_encoding_is_pinned() {
        let Write::Put { key, value, .. } = &encode(&Change::Order(order("n1", 3))).unwrap()[0] else {
            panic!("an order is put")
        };
        assert_eq!(key, "desired/n1/web");
        assert_eq!(
            value,
            b"\x01\x00{\"node\":\"n1\",\"service\":\"web\",\"generation\":3,\"hold\":{\"kind\":\"nothing\"}}"
        );
    }
}
