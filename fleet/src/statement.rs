//! The statement: what every expected node was proven to run, or not, in one round or at the end of a deployment. An
//! in-toto Statement v1 with a predicate of ours; always the same bytes for the same content, read strictly.
//!
//! Who signs it and how a signature is checked is `certs`' work; what a node proved is the controller's to say. How
//! statements hang together is in [`chain`].

pub mod chain;
mod moment;

use std::collections::{BTreeMap, BTreeSet};

use serde::{Deserialize, Serialize};

pub use self::moment::{Moment, MomentError};
use crate::drift::{Kind, Severity};
use crate::outcome::exit;
use crate::release::{Grade, Version};
use crate::{DeploymentId, Digest, Generation, NodeName, Nonce, Outcome, ReleaseId, ServiceName};

/// What the envelope says that its payload is.
pub const PAYLOAD_TYPE: &str = "application/vnd.in-toto+json";
/// The kind of in-toto document.
pub const STATEMENT_TYPE: &str = "https://in-toto.io/Statement/v1";
/// The kind of predicate. Fields are added under this name only in such a way that older statements stay the same bytes.
pub const PREDICATE_TYPE: &str = "https://fleet.invalid/statement/v1";
/// The largest payload, in bytes: 10,000 nodes with two services each, and room for as many findings.
pub const LARGEST_PAYLOAD: usize = 16 << 20;

/// An in-toto Statement.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Statement {
    #[serde(rename = "_type")]
    kind: String,
    subject: Vec<Subject>,
    #[serde(rename = "predicateType")]
    predicate_type: String,
    predicate: Predicate,
}

/// A release that the statement speaks of, by the digest of its bundle.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Subject {
    name: String,
    /// in-toto writes the digits alone, by the name of the algorithm.
    digest: BTreeMap<String, String>,
}

/// What is stated.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Predicate {
    /// The fleet, by its name; which fleet it is, the signature says.
    pub fleet: String,
    /// The version of the controller that states it.
    pub controller: String,
    /// Its number in the chain, from 1.
    pub sequence: u64,
    /// The digest of the payload of the statement before it; the first has none.
    pub previous: Option<Digest>,
    /// When it was made, by the controller's own word.
    pub made_at: Moment,
    /// Why it was made.
    pub occasion: Occasion,
    /// What follows from all of it: see [`Predicate::weigh`].
    pub verdict: Verdict,
    /// Every expected node, once for each of its services. None is left out because nothing is known of it.
    pub nodes: Vec<Entry>,
    /// What was found to differ.
    pub findings: Vec<Found>,
    /// The exceptions in force.
    pub waivers: Vec<Waived>,
}

/// Why a statement was made.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "is", rename_all = "kebab-case", rename_all_fields = "camelCase", deny_unknown_fields)]
pub enum Occasion {
    /// Somebody asked every node, now.
    Verification {
        /// Who.
        actor: String,
        /// Only this service.
        service: Option<ServiceName>,
        /// When the round began: every nonce was drawn after it.
        began_at: Moment,
    },
    /// A deployment ended.
    Deployment {
        /// Which.
        id: DeploymentId,
        /// Its service.
        service: ServiceName,
        /// Where.
        environment: String,
        /// `rollout` or `rollback`.
        direction: String,
        /// Who asked for it.
        actor: String,
        /// The selection that left other nodes out, as it was written; empty when none was.
        limit: String,
        /// When it began.
        began_at: Moment,
        /// How it ended.
        outcome: Outcome,
        /// What made it fail or end early; empty when nothing did.
        cause: String,
        /// Persons who let it go on.
        approvals: Vec<Approval>,
    },
}

/// A person's yes.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Approval {
    /// When.
    pub at: Moment,
    /// Who, where it is on record.
    pub by: Option<String>,
    /// To what.
    pub what: String,
}

/// One expected node and one service of it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Entry {
    /// The node.
    pub node: NodeName,
    /// The service; none for a node that was never ordered to hold anything.
    pub service: Option<ServiceName>,
    /// The generation of its order.
    pub generation: Option<Generation>,
    /// What it shall hold; none for nothing.
    pub expected: Option<Release>,
    /// What is known of it.
    pub state: NodeState,
}

impl Entry {
    /// By which entries are ordered, and which no two have in common.
    fn key(&self) -> (&NodeName, Option<&ServiceName>) {
        (&self.node, self.service.as_ref())
    }
}

/// A release.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Release {
    /// Its id.
    pub id: ReleaseId,
    /// Its version, for people; none when the controller has forgotten it.
    pub version: Option<Version>,
    /// The digest of its bundle.
    pub bundle: Digest,
}

/// What is known of a node.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "is", rename_all = "kebab-case", rename_all_fields = "camelCase", deny_unknown_fields)]
pub enum NodeState {
    /// It proved in this round that it runs what it shall, and nothing else.
    Proven {
        /// On what the proof rests.
        grade: Grade,
        /// Of the executable that runs; of the bundle where only context proves.
        digest: Digest,
        /// How many processes were looked at.
        processes: u32,
        /// What it was asked with.
        nonce: Nonce,
        /// When that was drawn: the evidence is no older.
        nonce_drawn_at: Moment,
    },
    /// It proved it in the last round of the deployment, which is in its journal. The controller was started anew since,
    /// and knows no more.
    OnRecord {
        /// On what the proof rested.
        grade: Grade,
        /// When it counted.
        at: Moment,
    },
    /// It shall hold nothing, and proved that nothing of the service runs.
    ProvenEmpty {
        /// What it was asked with.
        nonce: Nonce,
        /// When that was drawn.
        nonce_drawn_at: Moment,
    },
    /// It proved nothing, or something else than it shall run.
    Unproven {
        /// What is known.
        why: String,
    },
    /// The same, and a waiver lets the deployment end without it.
    Waived {
        /// What is known.
        why: String,
    },
    /// Nothing was ever ordered here.
    Unordered {},
    /// It was taken out of the fleet for good.
    Decommissioned {
        /// Who did that, and why.
        why: String,
    },
}

/// A difference, and since when it is known.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Found {
    /// Where.
    pub node: NodeName,
    /// Of which service; none for the node as a whole.
    pub service: Option<ServiceName>,
    /// What differs.
    pub kind: Kind,
    /// Which file, process or contact.
    pub what: String,
    /// What should be.
    pub expected: String,
    /// What is.
    pub found: String,
    /// How bad it is.
    pub severity: Severity,
    /// Since when it is known.
    pub since: Moment,
    /// Who did it, where the node's kernel told.
    pub by: Option<String>,
    /// When the file was changed, where its inode tells.
    pub changed_at: Option<Moment>,
}

/// An exception for one node.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Waived {
    /// The node.
    pub node: NodeName,
    /// The deployment that may end without it.
    pub deployment: DeploymentId,
    /// Who says so.
    pub by: String,
    /// Why.
    pub reason: String,
    /// Until when.
    pub until: Moment,
}

/// What a statement comes to.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Verdict {
    /// Every expected node is proven, and nothing differs.
    Proven,
    /// The same, but for nodes that a person waived.
    ProvenWithWaivers,
    /// Something differs, or some expected node is not proven.
    Differs,
    /// No node proved anything.
    Unknown,
}

impl Verdict {
    /// The word.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Proven => "proven",
            Self::ProvenWithWaivers => "proven-with-waivers",
            Self::Differs => "differs",
            Self::Unknown => "unknown",
        }
    }

    /// The exit code of `fleetctl verify`.
    pub fn exit_code(self) -> u8 {
        match self {
            Self::Proven => exit::OK,
            Self::ProvenWithWaivers => Outcome::ConvergedWithWaivers.exit_code(),
            Self::Differs => exit::DIFFERENCES,
            Self::Unknown => exit::FAILED,
        }
    }
}

impl std::fmt::Display for Verdict {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.pad(self.as_str())
    }
}

impl Predicate {
    /// What its nodes, findings and outcome come to. A waiver excuses nothing but the end of the deployment that it was
    /// given for.
    pub fn weigh(&self) -> Verdict {
        let (mut proven, mut unproven, mut waived) = (false, false, BTreeSet::new());
        for entry in &self.nodes {
            match entry.state {
                NodeState::Proven { .. } | NodeState::ProvenEmpty { .. } | NodeState::OnRecord { .. } => proven = true,
                NodeState::Unproven { .. } => unproven = true,
                NodeState::Waived { .. } => drop(waived.insert(&entry.node)),
                NodeState::Unordered {} | NodeState::Decommissioned { .. } => {}
            }
        }
        let found = self.findings.iter().any(|found| !waived.contains(&found.node));
        let (failed, excused) = match &self.occasion {
            Occasion::Verification { .. } => (!waived.is_empty(), false),
            Occasion::Deployment { outcome, .. } => match outcome {
                Outcome::Converged => (!waived.is_empty(), false),
                Outcome::ConvergedWithWaivers => (false, true),
                Outcome::RolledBack | Outcome::Unproven | Outcome::Aborted | Outcome::Superseded => (true, false),
            },
        };
        match (found || unproven || failed, proven, excused) {
            (true, _, _) => Verdict::Differs,
            (false, false, _) => Verdict::Unknown,
            (false, true, true) => Verdict::ProvenWithWaivers,
            (false, true, false) => Verdict::Proven,
        }
    }

    /// The releases it speaks of, each once.
    fn subjects(&self) -> Vec<Subject> {
        let mut subjects = BTreeMap::new();
        for entry in &self.nodes {
            if let (Some(service), Some(release)) = (&entry.service, &entry.expected) {
                let version = release.version.as_ref().map(ToString::to_string).unwrap_or_else(|| "?".into());
                subjects.insert((service, release.bundle), format!("{service}@{version}"));
            }
        }
        let digest = |bundle: Digest| BTreeMap::from([("sha256".to_owned(), bundle.hex())]);
        subjects.into_iter().map(|((_, bundle), name)| Subject { name, digest: digest(bundle) }).collect()
    }
}

/// Why a payload is not a statement of ours.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum StatementError {
    /// More than a statement can be.
    #[error("it has {bytes} bytes, more than the {LARGEST_PAYLOAD} that a statement may have")]
    TooLarge {
        /// How many it has.
        bytes: usize,
    },
    /// Not a statement of in-toto, or of a version that is not known here.
    #[error("it is '{found}', not {STATEMENT_TYPE}")]
    Type {
        /// What it says it is.
        found: String,
    },
    /// Another kind of predicate, or a newer version of it.
    #[error(
        "its predicate is '{found}', and this program reads {PREDICATE_TYPE}: use the program that it was made for"
    )]
    PredicateType {
        /// What it says it is.
        found: String,
    },
    /// Not JSON, or not with the fields that it must have.
    #[error("it cannot be read: {reason}")]
    Malformed {
        /// Where and why.
        reason: String,
    },
    /// The same content can be written in one way only.
    #[error("it is not written as statements are: a field is doubled, moved, or spaced out")]
    Spelling,
    /// Parts of it contradict each other.
    #[error("it contradicts itself: {what}")]
    Contradiction {
        /// Which parts.
        what: &'static str,
    },
}

impl Statement {
    /// A statement: its nodes in order, and the verdict that follows from the rest.
    pub fn new(mut predicate: Predicate) -> Self {
        predicate.nodes.sort_by(|one, other| one.key().cmp(&other.key()));
        predicate.verdict = predicate.weigh();
        Self {
            kind: STATEMENT_TYPE.into(),
            subject: predicate.subjects(),
            predicate_type: PREDICATE_TYPE.into(),
            predicate,
        }
    }

    /// What it states.
    pub fn predicate(&self) -> &Predicate {
        &self.predicate
    }

    /// The payload that is signed: compact JSON with its fields in one order.
    ///
    /// # Errors
    /// When it would be larger than a statement may be.
    pub fn to_payload(&self) -> Result<Vec<u8>, StatementError> {
        let payload = serde_json::to_vec(self).map_err(|e| StatementError::Malformed { reason: e.to_string() })?;
        match payload.len() {
            bytes if bytes > LARGEST_PAYLOAD => Err(StatementError::TooLarge { bytes }),
            _fits => Ok(payload),
        }
    }

    /// Reads a payload. Whatever [`Statement::to_payload`] would not have written is refused, byte for byte.
    ///
    /// # Errors
    /// With what is wrong; another kind of document by its name.
    pub fn from_payload(payload: &[u8]) -> Result<Self, StatementError> {
        #[derive(Deserialize)]
        struct Head {
            #[serde(rename = "_type")]
            kind: String,
            #[serde(rename = "predicateType")]
            predicate_type: String,
        }
        if payload.len() > LARGEST_PAYLOAD {
            return Err(StatementError::TooLarge { bytes: payload.len() });
        }
        let malformed = |e: serde_json::Error| StatementError::Malformed { reason: e.to_string() };
        let short = |text: String| text.chars().take(120).flat_map(char::escape_default).collect();
        let head: Head = serde_json::from_slice(payload).map_err(malformed)?;
        if head.kind != STATEMENT_TYPE {
            return Err(StatementError::Type { found: short(head.kind) });
        }
        if head.predicate_type != PREDICATE_TYPE {
            return Err(StatementError::PredicateType { found: short(head.predicate_type) });
        }
        let statement: Self = serde_json::from_slice(payload).map_err(malformed)?;
        if serde_json::to_vec(&statement).map_err(malformed)? != payload {
            return Err(StatementError::Spelling);
        }
        let contradiction = |what| Err(StatementError::Contradiction { what });
        let predicate = &statement.predicate;
        match (predicate.sequence, predicate.previous) {
            (0, _) => return contradiction("statements are counted from 1"),
            (1, Some(_)) => return contradiction("the first statement has none before it"),
            (2.., None) => return contradiction("only the first statement has none before it"),
            (1, None) | (2.., Some(_)) => {}
        }
        if !predicate.nodes.is_sorted_by(|one, next| one.key() < next.key()) {
            return contradiction("a node is named twice, or out of order");
        }
        if statement.subject != predicate.subjects() {
            return contradiction("its subjects are not the releases of its nodes");
        }
        if predicate.verdict != predicate.weigh() {
            return contradiction("its verdict does not follow from its nodes and findings");
        }
        Ok(statement)
    }
}

#[cfg(test)]
mod tests;
