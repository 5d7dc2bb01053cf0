//! Everything the mind knows, and what it has decided but not yet saved.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::sync::Arc;

use fleet::deployment::plan::Plan;
use fleet::deployment::{Deployment, Fact};
use fleet::drift::{
    Acceptance, Asked, Catalogue, Comparison, Conduct, FindingKey, HeldSince, IgnoreRule, Kind, Life, Limits, Past,
    Sight,
};
use fleet::evidence::{Attestation, ServiceEvidence};
use fleet::ledger::{Ledger, LedgerEntry};
use fleet::looked::Depth;
use fleet::{
    DeploymentId, Generation, Millis, NodeName, Nonce, Order, PlanId, ReleaseId, RepairId, ServiceName, Timestamp,
};
use fleet_certs::{AllowList, Sealer, Sessions, TokenRecord};
use fleet_proto::v1;
use tokio::sync::{mpsc, oneshot};
use tonic::Status;

use super::Message;
use super::ask::Reply;
use super::reveals::Revealing;
use super::selftest::SelfTests;
use super::speaking::Unsaid;
use crate::artifacts::{ArtifactError, Artifacts};
use crate::config::Config;
use crate::records::{
    Change, Loaded, Lock, NodeRecord, OperatorRecord, Queued, ReleaseRecord, RepairRecord, StatementRecord,
};

/// How long silence is borne: an agent that is killed and restarted is back within seconds; and a finding must be
/// named within ten seconds of its cause.
pub(super) const LIMITS: Limits = Limits { silence: Millis(5_000), stale: Millis(8_000) };

/// Lines of the ledger that are kept: years of a healthy fleet, and some MB of memory. Who needs more reads them in time.
const MOST_LINES: usize = 10_000;

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
    /// What every node shall hold: asked for by node all the time, by service only by people.
    pub(super) book: BTreeMap<NodeName, BTreeMap<ServiceName, Order>>,
    pub(super) generation: Generation,
    pub(super) deployments: BTreeMap<DeploymentId, Journaled>,
    /// Those of them that are not over.
    pub(super) active: BTreeSet<DeploymentId>,
    /// Deployments that wait for another one to end, or could not begin when their turn came.
    pub(super) queue: BTreeMap<DeploymentId, Queued>,
    pub(super) plans: BTreeMap<PlanId, Plan>,
    pub(super) locks: BTreeMap<ServiceName, Lock>,
    /// Whether tests may run on this host.
    pub(super) runs_tests: bool,
    /// What keeps the test of a gate running, by the deployment that asks.
    pub(super) asks: BTreeMap<DeploymentId, oneshot::Sender<()>>,
    /// What is known of the statements that are kept, by number.
    pub(super) statements: BTreeMap<u64, StatementRecord>,
    /// What signs them; without it none is made, and whoever asks is told.
    pub(super) sealer: Option<Sealer>,
    pub(super) ledger: Ledger,
    /// The ledger's newest lines and their numbers, oldest first.
    pub(super) ledger_lines: VecDeque<(u64, LedgerEntry)>,
    /// What people accept.
    pub(super) acceptances: BTreeMap<FindingKey, Acceptance>,
    /// Which extra files are ignored.
    pub(super) ignores: Vec<IgnoreRule>,
    /// When every node was first seen to hold its newest order that it held.
    pub(super) held: BTreeMap<(NodeName, ServiceName), HeldSince>,
    pub(super) repairs: BTreeMap<RepairId, RepairRecord>,
    /// Who waits to see files of a node, by the number of the question.
    pub(super) reveals: BTreeMap<String, Revealing>,
    /// The lives of the certificates that are no node's, each with whose it is.
    pub(super) own_certificates: Vec<(&'static str, Life)>,
    /// Self-tests of the alarm.
    pub(super) selftests: SelfTests,
    pub(super) seen: BTreeMap<NodeName, NodeSeen>,
    pub(super) allowed: AllowList,
    pub(super) sessions: Sessions,
    /// The way to this very mind, for what it has others do. Weak, so that it does not keep itself alive.
    pub(super) inbox: Option<mpsc::WeakSender<Message>>,
    unsaved: Vec<Change>,
    pub(super) unsaid: Unsaid,
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
    /// The same of the last one that rests on a look at every file, in this stream. What came after it rests on being
    /// told of every change since.
    pub(super) last_sweep: Option<Timestamp>,
    /// The same of the last one for which every file was read.
    pub(super) last_hash: Option<Timestamp>,
    /// When its agent was last told what it shall hold, and so permitted to start it.
    pub(super) permitted: Option<Timestamp>,
    /// Streams under the same identity that were not closed when the newest opened.
    pub(super) rivals: Vec<Rival>,
    /// Its nonces.
    pub(super) asked: Asked,
    /// What it said before, as far as time can contradict it.
    pub(super) past: Past,
    /// What is held against its agent.
    pub(super) conduct: Conduct,
    /// Whether its agent plants decoys when it is asked to.
    pub(super) volunteers: bool,
    pub(super) latest: Option<Attestation>,
    pub(super) comparisons: BTreeMap<ServiceName, Comparison>,
    /// Agents that wait to hear that their proof of an order has been seen.
    pub(super) unconfirmed: BTreeMap<ServiceName, (Generation, Reply<Result<(), String>>)>,
    /// Since when a service is not settled at its order.
    pub(super) unsettled_since: BTreeMap<ServiceName, Timestamp>,
    pub(super) watched_since: Timestamp,
}

impl NodeSeen {
    /// When the last statement was asked for that rests on a look so deep, or on being told of every change since one.
    pub(super) fn answered(&self, depth: Depth) -> Option<Timestamp> {
        match depth {
            Depth::Events => self.last_observation,
            Depth::Sweep => self.last_sweep,
            Depth::Hash => self.last_hash,
        }
    }

    /// Whether two agents are known to live under its identity: then nothing that either says counts.
    pub(super) fn is_contested(&self) -> bool {
        self.link.is_some() && self.rivals.iter().any(|rival| rival.answered)
    }
}

/// What goes to an agent, or the reason why its stream ends.
pub type ToAgent = Result<v1::ToAgent, Status>;

/// An agent's open stream.
pub(super) struct OpenLink {
    pub(super) session: u64,
    pub(super) outbox: mpsc::Sender<ToAgent>,
}

/// A stream that was open when a newer one of the same identity opened: half-open, or another agent's.
pub(super) struct Rival {
    pub(super) link: OpenLink,
    /// The boot of which it spoke.
    pub(super) boot: String,
    /// The question that only this stream was asked, once it was asked.
    pub(super) asked: Option<Nonce>,
    /// Whether it has answered that.
    pub(super) answered: bool,
}

/// What an agent says first.
#[derive(Debug, Clone, Default)]
pub struct Greeting {
    /// What the agent is.
    pub agent_version: String,
    /// The boot of its machine.
    pub boot_id: String,
    /// How many sessions it has begun, this one included; 0 if it does not count.
    pub number: u64,
    /// Whether it plants decoys when it is asked to.
    pub volunteers: bool,
}

/// Why the state that was saved cannot be taken up.
#[derive(Debug, thiserror::Error)]
pub enum RestoreError {
    /// The bundle of a known release is missing or damaged: its manifest is the measure of every proof.
    #[error(
        "release {release} is known and cannot be read: without its manifest nothing can be proven. Restore 'artifacts' from a backup"
    )]
    Release {
        /// The release.
        release: ReleaseId,
        /// What is wrong with its bundle.
        #[source]
        cause: ArtifactError,
    },
    /// A journal that does not begin with a plan.
    #[error("the journal of deployment {deployment} does not begin with its plan: restore the store from a backup")]
    Journal {
        /// The deployment.
        deployment: DeploymentId,
    },
}

impl State {
    /// The state as it was saved.
    ///
    /// # Errors
    /// When the bundle of a known release, or the journal of a deployment, is not whole.
    pub fn restore(
        fleet: String,
        loaded: Loaded,
        artifacts: &Artifacts,
        config: &Config,
        allowed: AllowList,
        sessions: Sessions,
        now: Timestamp,
    ) -> Result<Self, RestoreError> {
        let (permit, runs_tests) = (config.permit, config.run_tests);
        let mut catalogue = Catalogue::default();
        for release in loaded.releases.values() {
            let descriptor = artifacts
                .describe(&release.bundle)
                .map_err(|cause| RestoreError::Release { release: release.id.clone(), cause })?;
            let digest = super::releases::descriptor_digest(&descriptor);
            catalogue.add(release.id.clone(), Arc::new(descriptor), digest);
        }
        let mut ledger = Ledger::default();
        let mut seen: BTreeMap<NodeName, NodeSeen> = BTreeMap::new();
        for open in loaded.findings {
            // What was held against an agent still is; nobody is forgiven by a restart.
            let key = &open.finding.key;
            if key.kind == Kind::Agent && key.service.is_none() && loaded.nodes.contains_key(&key.node) {
                let new = || NodeSeen { watched_since: now, ..NodeSeen::default() };
                seen.entry(key.node.clone()).or_insert_with(new).conduct.resume(&open.finding, now);
            }
            ledger.restore(open);
        }
        let mut deployments = BTreeMap::new();
        for (id, facts) in loaded.journals {
            let Some(deployment) = Deployment::replay(&facts) else {
                return Err(RestoreError::Journal { deployment: id });
            };
            deployments.insert(id, Journaled { deployment, facts });
        }
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
            active: deployments
                .iter()
                .filter(|(_, journaled): &(_, &Journaled)| journaled.deployment.outcome().is_none())
                .map(|(id, _)| id.clone())
                .collect(),
            deployments,
            queue: loaded.queue,
            asks: BTreeMap::new(),
            plans: loaded.plans,
            locks: loaded.locks,
            runs_tests,
            statements: loaded.statements,
            sealer: None,
            ledger,
            ledger_lines: loaded.ledger.into(),
            acceptances: loaded.acceptances,
            ignores: loaded.ignores,
            held: loaded.held,
            repairs: loaded.repairs,
            reveals: BTreeMap::new(),
            own_certificates: Vec::new(),
            selftests: SelfTests::resume(loaded.selftest),
            seen,
            allowed,
            sessions,
            inbox: None,
            unsaved: Vec::new(),
            unsaid: Unsaid::default(),
        })
    }

    /// Watches the ends of certificates that are no node's.
    pub fn watch_certificates(&mut self, certificates: Vec<(&'static str, Life)>) {
        self.own_certificates = certificates;
    }

    /// Notes something to save; nothing that rests on it is said before it is.
    pub(super) fn save(&mut self, change: Change) {
        self.unsaved.push(change);
    }

    /// Notes lines of the ledger to save, each with what is open of it now.
    pub(super) fn save_ledger(&mut self, entries: Vec<LedgerEntry>) {
        for entry in entries {
            match &entry {
                LedgerEntry::Opened { finding, .. } => {
                    tracing::warn!(node = %finding.key.node, kind = %finding.key.kind, what = %finding.key.what, found = %finding.found, "finding opened")
                }
                LedgerEntry::Closed { key, why, .. } => {
                    tracing::info!(node = %key.node, kind = %key.kind, what = %key.what, why = why.as_str(), "finding closed")
                }
                LedgerEntry::Accepted { acceptance, .. } => {
                    tracing::warn!(node = %acceptance.key.node, kind = %acceptance.key.kind, what = %acceptance.key.what, by = acceptance.by, "finding accepted")
                }
                LedgerEntry::Reopened { key, why, .. } => {
                    tracing::warn!(node = %key.node, kind = %key.kind, what = %key.what, %why, "finding no longer accepted")
                }
                LedgerEntry::Repaired { node, service, by, what, .. } => {
                    tracing::warn!(%node, %service, by, what, "repair ended")
                }
                LedgerEntry::Changed { .. } => {}
            }
            let open = entry.key().and_then(|key| self.ledger.get(key)).cloned();
            let index = self.ledger_lines.back().map_or(0, |(last, _)| last + 1);
            self.ledger_lines.push_back((index, entry.clone()));
            self.save(Change::Ledger { entry: Box::new(entry), index, open: open.map(Box::new) });
        }
        while self.ledger_lines.len() > MOST_LINES {
            if let Some((index, _)) = self.ledger_lines.pop_front() {
                self.save(Change::ForgetLine(index));
            }
        }
    }

    /// What must be saved before anything is said.
    pub(super) fn changes(&mut self) -> Vec<Change> {
        std::mem::take(&mut self.unsaved)
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

    /// The deployments that are not over.
    pub(super) fn running(&self) -> impl Iterator<Item = (&DeploymentId, &Journaled)> {
        self.active.iter().filter_map(|id| self.deployments.get_key_value(id))
    }

    /// Everything a node shall hold.
    pub(super) fn orders_of<'a>(&'a self, node: &'a NodeName) -> impl Iterator<Item = &'a Order> + 'a {
        self.book.get(node).into_iter().flat_map(BTreeMap::values)
    }

    /// What a node shall hold of one service.
    pub(super) fn order(&self, node: &NodeName, service: &ServiceName) -> Option<&Order> {
        self.book.get(node)?.get(service)
    }

    /// Everything that all nodes shall hold.
    pub(super) fn orders(&self) -> impl Iterator<Item = &Order> {
        self.book.values().flat_map(BTreeMap::values)
    }

    /// What a node showed last of one service.
    pub(super) fn evidence(&self, node: &NodeName, service: &ServiceName) -> Option<&ServiceEvidence> {
        self.seen.get(node)?.latest.as_ref()?.services.iter().find(|evidence| evidence.service == *service)
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
