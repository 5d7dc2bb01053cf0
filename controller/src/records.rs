//! What the store holds: the one file that knows keys. Above it everyone speaks domain types; how one value becomes
//! bytes, and parts where it is large, is left to `parts`.

mod parts;

use std::collections::BTreeMap;

use fleet::deployment::plan::Plan;
use fleet::deployment::{Fact, Kind};
use fleet::drift::{Finding, FindingKey};
use fleet::ledger::{LedgerEntry, OpenFinding};
use fleet::release::Version;
use fleet::statement::Verdict;
use fleet::{DeploymentId, Digest, Generation, NodeName, Order, PlanId, ReleaseId, ServiceName, Timestamp};
use fleet_certs::TokenRecord;
use serde::{Deserialize, Serialize};
use sha2::Digest as _;

use self::parts::{Value, list};
use crate::store::{self, Expect, MAX_BATCH_BYTES, Store};

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
    /// The highest number of a session that its agent has begun; 0 if it never counted.
    #[serde(default)]
    pub session: u64,
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
    /// A plan that is kept.
    Plan(Box<Plan>),
    /// A plan that is kept no longer.
    ForgetPlan(PlanId),
    /// A lock.
    Lock(Lock),
    /// A lock that was given back.
    ForgetLock(ServiceName),
    /// A deployment that waits for another one to end.
    Queued(Queued),
    /// A deployment that waits no longer.
    ForgetQueued(DeploymentId),
    /// A statement: its text, then what is known of it. A text without a record was never said, and is written over by
    /// the next.
    Statement {
        /// What is known of it.
        record: StatementRecord,
        /// Its text, in as many pieces as the record says: see [`pieces`].
        envelope: Vec<String>,
    },
    /// A statement that is kept no longer.
    ForgetStatement(StatementRecord),
    /// A line of the ledger, and what it leaves open.
    Ledger {
        /// The line.
        entry: LedgerEntry,
        /// Its number.
        index: u64,
        /// The finding as it is open now, since it was opened; nothing when it is closed.
        open: Option<OpenFinding>,
    },
}

/// What is known of a statement without its text.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct StatementRecord {
    /// Its number in the chain.
    pub sequence: u64,
    /// The digest of its payload, which the next one names.
    pub digest: Digest,
    /// When it was made.
    pub made_at: Timestamp,
    /// Why.
    pub occasion: Occasion,
    /// The deployment; the service that was asked about, or nothing for all.
    pub about: String,
    /// Who asked.
    pub actor: String,
    /// What it comes to.
    pub verdict: Verdict,
    /// Entries that are proven, of all.
    pub proven: u32,
    /// Entries.
    pub nodes: u32,
    /// The envelope's bytes.
    pub size: u64,
    /// In how many pieces it lies in the store.
    pub pieces: u32,
}

/// Why a statement was made, in a word.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Occasion {
    /// Somebody asked.
    Verification,
    /// A deployment ended.
    Deployment,
}

impl Occasion {
    /// The word used on the wire.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Verification => "verification",
            Self::Deployment => "deployment",
        }
    }
}

/// A service that one person keeps deployments away from.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Lock {
    /// The service.
    pub service: ServiceName,
    /// Who.
    pub by: String,
    /// Why.
    pub reason: String,
    /// Since when.
    pub since: Timestamp,
    /// It holds no longer from this moment on.
    pub until: Timestamp,
}

/// A deployment that was asked for while another of its service ran.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Queued {
    /// The id it will have, and is known by already.
    pub id: DeploymentId,
    /// Its service.
    pub service: ServiceName,
    /// Its release.
    pub release: ReleaseId,
    /// Where.
    pub environment: String,
    /// Who asked.
    pub actor: String,
    /// When.
    pub at: Timestamp,
    /// Forwards or back.
    pub kind: Kind,
    /// The request as it came, in hexadecimal: it is planned when its turn comes.
    pub request: String,
    /// How it ended without having begun; it is kept so that whoever waits for it is told.
    pub ended: Option<QueueEnd>,
}

/// How a queued deployment ended without having begun.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "end", rename_all = "kebab-case", rename_all_fields = "camelCase")]
pub enum QueueEnd {
    /// It was refused when its turn came.
    Refused {
        /// When.
        at: Timestamp,
        /// Why.
        why: String,
        /// The exit code of the refusal.
        exit: u8,
    },
    /// A person ended it.
    Aborted {
        /// When.
        at: Timestamp,
        /// Who.
        by: String,
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
    pub book: BTreeMap<NodeName, BTreeMap<ServiceName, Order>>,
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
    /// The plans that are kept.
    pub plans: BTreeMap<PlanId, Plan>,
    /// The locks.
    pub locks: BTreeMap<ServiceName, Lock>,
    /// The deployments that wait.
    pub queue: BTreeMap<DeploymentId, Queued>,
    /// What is known of the statements that are kept.
    pub statements: BTreeMap<u64, StatementRecord>,
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
const PLANS: &str = "plans/";
const LOCKS: &str = "locks/";
const QUEUE: &str = "queue/";
const STATEMENTS: &str = "statements/";
const ENVELOPES: &str = "envelopes/";
const FINDINGS: &str = "findings/";
const LEDGER: &str = "ledger/";

/// Saves changes: all of them in one batch of the store, which they fit but for orders to thousands of nodes. Then the
/// first batch has the facts, and a crash in between is healed by saying the orders again.
///
/// # Errors
/// The store's.
pub async fn save(store: &dyn Store, changes: &[Change]) -> Result<(), RecordError> {
    let mut values = Vec::with_capacity(changes.len());
    for change in changes {
        encode(change, &mut values)?;
    }
    parts::save(store, values).await
}

/// Whether a change can be saved at all: one that is larger than a batch of the store must be refused before it is
/// decided, since a controller that cannot save has to stop.
pub fn fits(change: &Change) -> bool {
    let mut values = Vec::new();
    encode(change, &mut values).is_ok() && values.iter().map(Value::bytes).sum::<usize>() <= MAX_BATCH_BYTES
}

fn encode(change: &Change, values: &mut Vec<Value>) -> Result<(), RecordError> {
    match change {
        Change::Fact { deployment, index, fact } => {
            values.push(Value::put(format!("{JOURNAL}{deployment}/{index:010}"), fact, Expect::Absent)?)
        }
        Change::Order(order) => {
            values.push(Value::put(format!("{BOOK}{}/{}", order.node, order.service), order, Expect::Anything)?)
        }
        Change::ForgetOrder(node, service) => values.push(Value::delete(format!("{BOOK}{node}/{service}"))),
        Change::Generation(generation) => values.push(Value::put(GENERATION.into(), generation, Expect::Anything)?),
        Change::Release(release) => {
            values.push(Value::put(format!("{RELEASES}{}", release.id), release, Expect::Anything)?)
        }
        Change::Node(node) => values.push(Value::put(format!("{NODES}{}", node.name), node, Expect::Anything)?),
        Change::RemoveNode { name, decommission } => {
            values.push(Value::delete(format!("{NODES}{name}")));
            let key = format!("{GONE}{name}/{:020}", decommission.at.0);
            values.push(Value::put(key, decommission, Expect::Anything)?);
        }
        Change::Operator(operator) => {
            values.push(Value::put(format!("{OPERATORS}{}", operator.name), operator, Expect::Anything)?)
        }
        Change::Token(token) => values.push(Value::put(format!("{TOKENS}{}", token.id), token, Expect::Anything)?),
        Change::Plan(plan) => values.push(Value::put(format!("{PLANS}{}", plan.id), plan, Expect::Anything)?),
        Change::ForgetPlan(id) => values.push(Value::delete(format!("{PLANS}{id}"))),
        Change::Lock(lock) => values.push(Value::put(format!("{LOCKS}{}", lock.service), lock, Expect::Anything)?),
        Change::ForgetLock(service) => values.push(Value::delete(format!("{LOCKS}{service}"))),
        Change::Queued(queued) => values.push(Value::put(format!("{QUEUE}{}", queued.id), queued, Expect::Anything)?),
        Change::ForgetQueued(id) => values.push(Value::delete(format!("{QUEUE}{id}"))),
        Change::Statement { record, envelope } => {
            for (number, piece) in (0..).zip(envelope) {
                values.push(Value::put(envelope_key(record.sequence, number), piece, Expect::Anything)?);
            }
            values.push(Value::put(statement_key(record.sequence), record, Expect::Absent)?);
        }
        Change::ForgetStatement(record) => {
            values.push(Value::delete(statement_key(record.sequence)));
            values.extend((0..record.pieces).map(|number| Value::delete(envelope_key(record.sequence, number))));
        }
        Change::Ledger { entry, index, open } => {
            values.push(Value::put(ledger_key(*index), entry, Expect::Absent)?);
            let (LedgerEntry::Opened { finding: Finding { key, .. }, .. }
            | LedgerEntry::Changed { finding: Finding { key, .. }, .. }
            | LedgerEntry::Closed { key, .. }) = entry;
            values.push(match open {
                Some(open) => Value::put(finding_key(key), open, Expect::Anything)?,
                None => Value::delete(finding_key(key)),
            });
        }
    }
    Ok(())
}

fn statement_key(sequence: u64) -> String {
    format!("{STATEMENTS}{sequence:012}")
}

fn envelope_key(sequence: u64, piece: u32) -> String {
    format!("{ENVELOPES}{sequence:012}/{piece:03}")
}

/// A statement's text in pieces that each fit into a batch of the store several times.
pub fn pieces(envelope: &str) -> Vec<String> {
    const PIECE: usize = MAX_BATCH_BYTES / 8;
    let mut pieces = vec![String::new()];
    for c in envelope.chars() {
        if pieces.last().is_some_and(|piece| piece.len() >= PIECE) {
            pieces.push(String::new());
        }
        if let Some(piece) = pieces.last_mut() {
            piece.push(c);
        }
    }
    pieces
}

/// The text of a statement; nothing when it is no longer kept.
///
/// # Errors
/// The store's; or the key of the piece that cannot be read.
pub async fn envelope(store: &dyn Store, record: &StatementRecord) -> Result<Option<String>, RecordError> {
    let pieces = list::<String>(store, &format!("{ENVELOPES}{:012}/", record.sequence)).await?;
    let text: String = pieces.into_iter().map(|(_, piece)| piece).collect();
    Ok((text.len() as u64 == record.size).then_some(text))
}

fn ledger_key(index: u64) -> String {
    format!("{LEDGER}{index:012}")
}

/// `what` may be any path, so its digest stands in the key.
fn finding_key(key: &FindingKey) -> String {
    let service = key.service.as_ref().map_or("-", ServiceName::as_str);
    let what = Digest(sha2::Sha256::digest(key.what.as_bytes()).into());
    format!("{FINDINGS}{}/{service}/{}/{}", key.node, key.kind, what.hex())
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
        loaded.book.entry(order.node.clone()).or_default().insert(order.service.clone(), order);
    }
    loaded.generation =
        list::<Generation>(store, GENERATION).await?.into_iter().next().map_or(Generation(0), |(_, g)| g);
    loaded.releases =
        list::<ReleaseRecord>(store, RELEASES).await?.into_iter().map(|(_, r)| (r.id.clone(), r)).collect();
    loaded.nodes = list::<NodeRecord>(store, NODES).await?.into_iter().map(|(_, n)| (n.name.clone(), n)).collect();
    loaded.operators =
        list::<OperatorRecord>(store, OPERATORS).await?.into_iter().map(|(_, o)| (o.name.clone(), o)).collect();
    loaded.tokens = list::<TokenRecord>(store, TOKENS).await?.into_iter().map(|(_, t)| (t.id.clone(), t)).collect();
    loaded.plans = list::<Plan>(store, PLANS).await?.into_iter().map(|(_, p)| (p.id.clone(), p)).collect();
    loaded.locks = list::<Lock>(store, LOCKS).await?.into_iter().map(|(_, l)| (l.service.clone(), l)).collect();
    loaded.queue = list::<Queued>(store, QUEUE).await?.into_iter().map(|(_, q)| (q.id.clone(), q)).collect();
    loaded.statements =
        list::<StatementRecord>(store, STATEMENTS).await?.into_iter().map(|(_, s)| (s.sequence, s)).collect();
    loaded.findings = list::<OpenFinding>(store, FINDINGS).await?.into_iter().map(|(_, f)| f).collect();
    loaded.ledger_lines = ledger_lines(store).await?;
    Ok(loaded)
}

/// How many lines the ledger has. They are numbered without gaps, so the end is found by halving: the ledger is the one
/// thing here that grows for ever, and is not read to be counted.
async fn ledger_lines(store: &dyn Store) -> Result<u64, RecordError> {
    let (mut below, mut above) = (0, 1);
    while store.get(&ledger_key(above - 1)).await?.is_some() {
        (below, above) = (above, above * 2);
    }
    while below + 1 < above {
        let middle = below + (above - below) / 2;
        if store.get(&ledger_key(middle - 1)).await?.is_some() {
            below = middle;
        } else {
            above = middle;
        }
    }
    Ok(below)
}

#[cfg(test)]
mod tests;
