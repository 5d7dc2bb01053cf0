//! Everything the mind knows, and what it has decided but not yet saved or said.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use fleet::deployment::{Deployment, Fact};
use fleet::drift::{Catalogue, Comparison, Limits, Sight};
use fleet::evidence::Attestation;
use fleet::ledger::{Ledger, LedgerEntry};
use fleet::{DeploymentId, Generation, Millis, NodeName, Nonce, Order, ReleaseId, ServiceName, Timestamp};
use fleet_certs::{AllowList, Sessions, TokenRecord};
use fleet_proto::v1;
use tokio::sync::mpsc;

use super::Message;
use crate::artifacts::{ArtifactError, Artifacts};
use crate::records::{Change, Loaded, NodeRecord, OperatorRecord, ReleaseRecord};

/// How long silence is borne: an agent that is killed and restarted is back within seconds; and a finding must be
/// named within ten seconds of its cause.
pub(super) const LIMITS: Limits = Limits { silence: Millis(5_000), stale: Millis(8_000) };

/// All state. Not a map of the store: what can be observed again (presence, evidence) is not kept.
pub struct State {
    pub(super) fleet: String,
    pub(super) started_at: Timestamp,
    pub(super) permit: Millis,
    pub(super) catalogue: Catalogue,
    pub(super) releases: BTreeMap<ReleaseId, ReleaseRecord>,
    pub(super) nodes: BTreeMap<NodeName, NodeRecord>,
    pub(super) operators: BTreeMap<String, OperatorRecord>,
    pub(super) tokens: BTreeMap<String, TokenRecord>,
    pub(super) book: BTreeMap<(NodeName, ServiceName), Order>,
    pub(super) generation: Generation,
    pub(super) deployments: BTreeMap<DeploymentId, Journaled>,
    pub(super) ledger: Ledger,
    pub(super) ledger_lines: u64,
    pub(super) seen: BTreeMap<NodeName, NodeSeen>,
    pub(super) allowed: AllowList,
    pub(super) sessions: Sessions,
    unsaved: Vec<Change>,
    unsaid: Unsaid,
}

/// A deployment and its journal.
pub(super) struct Journaled {
    pub(super) deployment: Deployment,
    pub(super) facts: Vec<Fact>,
}

/// What is seen of a node; nothing of it is kept over a restart.
#[derive(Default)]
pub(super) struct NodeSeen {
    pub(super) link: Option<OpenLink>,
    pub(super) agent_version: String,
    pub(super) last_contact: Option<Timestamp>,
    pub(super) last_observation: Option<Timestamp>,
    /// Nonces that are out, by when they were drawn; oldest first.
    pub(super) nonces: Vec<(Nonce, Timestamp)>,
    pub(super) latest: Option<Attestation>,
    pub(super) comparisons: BTreeMap<ServiceName, Comparison>,
    /// Since when a service is not settled at its order.
    pub(super) unsettled_since: BTreeMap<ServiceName, Timestamp>,
    pub(super) watched_since: Timestamp,
}

/// An agent's open stream.
pub(super) struct OpenLink {
    pub(super) session: u64,
    pub(super) outbox: mpsc::Sender<v1::ToAgent>,
}

/// What is to be said once the facts are saved.
#[derive(Default)]
struct Unsaid {
    /// Nodes whose orders changed: they are told everything they shall hold.
    desired: BTreeSet<NodeName>,
    /// Nodes that are asked for fresh evidence.
    challenges: BTreeSet<NodeName>,
    /// Answers to questions.
    answers: Vec<Box<dyn FnOnce() + Send>>,
}

impl State {
    /// The state as it was saved.
    ///
    /// # Errors
    /// When the bundle of a known release is missing or damaged: its manifest is the measure of every proof.
    pub fn restore(
        fleet: String,
        loaded: Loaded,
        artifacts: &Artifacts,
        permit: Millis,
        allowed: AllowList,
        sessions: Sessions,
        now: Timestamp,
    ) -> Result<Self, ArtifactError> {
        let mut catalogue = Catalogue::default();
        for release in loaded.releases.values() {
            let descriptor = artifacts.describe(&release.bundle)?;
            let digest = super::releases::descriptor_digest(&descriptor);
            catalogue.add(release.id.clone(), Arc::new(descriptor), digest);
        }
        let mut ledger = Ledger::default();
        for open in loaded.findings {
            ledger.restore(open);
        }
        let journaled = |facts: Vec<Fact>| Deployment::replay(&facts).map(|deployment| Journaled { deployment, facts });
        Ok(Self {
            fleet,
            started_at: now,
            permit,
            catalogue,
            releases: loaded.releases,
            nodes: loaded.nodes,
            operators: loaded.operators,
            tokens: loaded.tokens,
            book: loaded.book,
            generation: loaded.generation,
            deployments: loaded.journals.into_iter().filter_map(|(id, facts)| Some((id, journaled(facts)?))).collect(),
            ledger,
            ledger_lines: loaded.ledger_lines,
            seen: BTreeMap::new(),
            allowed,
            sessions,
            unsaved: Vec::new(),
            unsaid: Unsaid::default(),
        })
    }

    /// Takes one message in.
    pub(super) fn take(&mut self, message: Message, now: Timestamp) {
        match message {
            Message::Connected { node, session, outbox, agent_version } => {
                self.connected(node, OpenLink { session, outbox }, agent_version, now)
            }
            Message::Attested { node, session, attestation } => self.attested(&node, session, *attestation, now),
            Message::Hinted { node, session } => self.hinted(&node, session, now),
            Message::Lost { node, session } => self.lost(&node, session, now),
            Message::Ask(ask) => self.answer(*ask, now),
        }
    }

    pub(super) fn save(&mut self, change: Change) {
        self.unsaved.push(change);
    }

    pub(super) fn save_ledger(&mut self, entries: Vec<LedgerEntry>) {
        for entry in entries {
            match &entry {
                LedgerEntry::Opened { finding, .. } => {
                    tracing::warn!(node = %finding.key.node, kind = %finding.key.kind, what = %finding.key.what, found = %finding.found, "finding opened")
                }
                LedgerEntry::Changed { .. } => {}
                LedgerEntry::Closed { key, .. } => {
                    tracing::info!(node = %key.node, kind = %key.kind, what = %key.what, "finding closed")
                }
            }
            let index = self.ledger_lines;
            self.ledger_lines += 1;
            self.save(Change::Ledger { entry, index });
        }
    }

    pub(super) fn say_desired(&mut self, node: &NodeName) {
        self.unsaid.desired.insert(node.clone());
        self.unsaid.challenges.insert(node.clone());
    }

    pub(super) fn challenge(&mut self, node: &NodeName) {
        self.unsaid.challenges.insert(node.clone());
    }

    /// Answers once everything decided so far is saved.
    pub(super) fn reply<T: Send + 'static>(&mut self, to: super::Reply<T>, answer: Result<T, super::Refusal>) {
        // Whoever asked may have gone; then nobody needs the answer.
        self.unsaid.answers.push(Box::new(move || drop(to.send(answer))));
    }

    /// What must be saved before anything is said.
    pub(super) fn changes(&mut self) -> Vec<Change> {
        std::mem::take(&mut self.unsaved)
    }

    /// Says what was decided; the facts are saved.
    pub(super) fn speak(&mut self) {
        let unsaid = std::mem::take(&mut self.unsaid);
        for node in &unsaid.desired {
            let orders =
                self.book.iter().filter(|((name, _), _)| name == node).map(|(_, order)| order.clone().into()).collect();
            self.send(node, v1::to_agent::Message::Desired(v1::Desired { orders, permit_ms: self.permit.0 }));
        }
        for node in &unsaid.challenges {
            self.send_challenge(node);
        }
        for answer in unsaid.answers {
            answer();
        }
    }

    /// A full outbox means an agent that does not read: its link is dropped, and it will dial again.
    pub(super) fn send(&mut self, node: &NodeName, message: v1::to_agent::Message) {
        let Some(seen) = self.seen.get_mut(node) else { return };
        let Some(link) = &seen.link else { return };
        if link.outbox.try_send(v1::ToAgent { message: Some(message) }).is_err() {
            tracing::warn!(%node, "the agent does not read its stream: closing it");
            seen.link = None;
        }
    }

    /// What is known of a node's presence.
    pub(super) fn sight(&self, record: &NodeRecord) -> Sight {
        let seen = self.seen.get(&record.name);
        let enrolled_at = record.enrolled.as_ref().map_or(self.started_at, |enrolled| enrolled.at);
        Sight {
            enrolled: record.enrolled.is_some(),
            connected: seen.is_some_and(|seen| seen.link.is_some()),
            watched_since: seen.map_or(self.started_at.max(enrolled_at), |seen| seen.watched_since),
            last_contact: seen.and_then(|seen| seen.last_contact),
            last_observation: seen.and_then(|seen| seen.last_observation),
        }
    }

    /// The names of the nodes that a release is meant for: labels decide. A host without agent and without labels is
    /// expected everywhere, since nobody can say that it is not.
    pub(super) fn expected_for(&self, requirements: &BTreeMap<String, String>) -> Vec<NodeName> {
        let meant = |record: &&NodeRecord| {
            let unknown = record.enrolled.is_none() && record.labels.is_empty();
            unknown || requirements.iter().all(|(key, value)| record.labels.get(key) == Some(value))
        };
        self.nodes.values().filter(meant).map(|record| record.name.clone()).collect()
    }
}
