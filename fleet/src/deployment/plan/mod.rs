//! Planning: which nodes take part, in which order and segments, and what forbids it. A pure function of what was
//! asked and what is known. The result is a value with an id and a parent: it explains itself, is shown by
//! `fleetctl plan`, and can be carried out exactly as it was shown ([`stale`] says when that is no longer possible).

mod stale;
#[cfg(test)]
mod tests;

use std::collections::{BTreeMap, BTreeSet};

use serde::{Deserialize, Serialize};

use crate::capacity::{MinHealthy, Parallel};
use crate::deployment::{Budget, Gate, Kind, Migration, OnFailure, Previous, Spec, Waiver};
use crate::release::Version;
use crate::segments::{Canary, Segments};
use crate::sequence::{Condition, Sequence, Sequenced, arrange};
use crate::{DeploymentId, Generation, Hold, Millis, NodeName, PlanId, ServiceName, Timestamp};

/// What was asked for.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Request {
    /// The service.
    pub service: ServiceName,
    /// Where.
    pub environment: String,
    /// Forwards or back.
    pub kind: Kind,
    /// What every node shall hold.
    pub target: Hold,
    /// Its version.
    pub version: Version,
    /// Nodes that go first, as a segment of their own.
    pub canary: Canary,
    /// How to cut the rest of the fleet.
    pub segments: Segments,
    /// In which order nodes are put into segments.
    pub sequence: Sequence,
    /// How many nodes of a segment may be at work at once.
    pub parallel: Parallel,
    /// How many nodes must serve at any time.
    pub min_healthy: MinHealthy,
    /// How many may fail.
    pub max_failures: Budget,
    /// How long a segment bakes.
    pub bake: Millis,
    /// What is asked between segments.
    pub gates: Vec<Gate>,
    /// After which segments (from 0) it waits to be promoted.
    pub pause_after: BTreeSet<usize>,
    /// What is run once.
    pub migration: Option<Migration>,
    /// How long an agent waits for a confirmation.
    pub confirm: Millis,
    /// How long a node may take.
    pub node_deadline: Millis,
    /// How long an absent node is waited for.
    pub absent_grace: Millis,
    /// How long a person is waited for.
    pub pause_deadline: Millis,
    /// What happens on failure.
    pub on_failure: OnFailure,
    /// Nodes that need not be proven.
    pub waivers: BTreeMap<NodeName, Waiver>,
    /// The same for every node that is absent when it is planned.
    pub waive_absent: Option<Waiver>,
    /// The selection that left other nodes out, as it was written; empty when none was.
    pub limit: String,
    /// Who asks.
    pub actor: String,
    /// Why.
    pub message: String,
}

/// How long a claim may contradict what is seen: several rounds of observation, well below the ten seconds
/// within which a finding must be named.
pub const SETTLE: Millis = Millis::from_secs(6);

/// An expected node, as it is known when planning.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Candidate {
    /// Its name.
    pub node: NodeName,
    /// Its labels: failure domains are read from them.
    pub labels: BTreeMap<String, String>,
    /// Whether it can be ordered.
    pub presence: Presence,
    /// Whether it serves what it holds, and whether that is the target.
    pub condition: Condition,
    /// What it shall hold now.
    pub holds: Previous,
    /// What keeps it from being changed although it is there: a full disk.
    pub block: Option<String>,
}

/// Whether a node can be ordered.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Presence {
    /// Its agent is in contact.
    Present,
    /// It is expected, and not there: why.
    Absent(String),
}

/// A plan: what would be done, why so, and what is noticed on the way. Immutable.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Plan {
    /// Its id.
    pub id: PlanId,
    /// The newest deployment of the service and environment when it was made: a plan is for the fleet after this one.
    pub parent: Option<DeploymentId>,
    /// When it was made.
    pub made_at: Timestamp,
    /// What was asked.
    pub request: Request,
    /// Nodes by segment.
    pub segments: Vec<Vec<Candidate>>,
    /// Expected, and not there.
    pub absent: Vec<Candidate>,
    /// How many nodes do not hold the target yet.
    pub to_change: usize,
    /// How many nodes must serve at any time.
    pub floor: usize,
    /// How many serve now.
    pub serving: usize,
    /// What forbids it: nothing is started while there is one.
    pub blocks: Vec<Block>,
    /// What a person should know before they start it.
    pub warnings: Vec<String>,
}

/// Something that forbids a plan to be carried out.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Block {
    /// The node concerned, if it is one.
    pub node: Option<NodeName>,
    /// What is in the way.
    pub why: String,
    /// What lifts it.
    pub help: String,
}

/// Why no plan can be made at all.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Refusal {
    /// No node at all.
    #[error(
        "no node is expected for {service}: enrol nodes (fleetctl tokens create), or check the release's `nodes:` against their labels (fleetctl nodes list)"
    )]
    NoNodes {
        /// The service.
        service: ServiceName,
    },
    /// Nobody there.
    #[error("none of the {expected} expected nodes is in contact: look at their agents (fleetctl nodes list)")]
    NobodyPresent {
        /// How many are expected.
        expected: usize,
    },
    /// A pause, gate or migration is tied to a segment that there is not.
    #[error("{what} names segment {segment}, and there are {segments}: see the plan (fleetctl plan)")]
    NoSuchSegment {
        /// What names it.
        what: &'static str,
        /// Which, from 1.
        segment: usize,
        /// How many there are.
        segments: usize,
    },
    /// A waiver for a node that takes no part.
    #[error("the waiver names '{node}', which takes no part: see who does (fleetctl plan)")]
    NoSuchNode {
        /// The node.
        node: NodeName,
    },
}

/// Makes a plan.
///
/// # Errors
/// When nothing could be done at all, or the request contradicts itself. What forbids it on single nodes, or for now,
/// is in [`Plan::blocks`].
pub fn plan(
    request: &Request,
    candidates: Vec<Candidate>,
    id: PlanId,
    parent: Option<DeploymentId>,
    now: Timestamp,
) -> Result<Plan, Refusal> {
    if candidates.is_empty() {
        return Err(Refusal::NoNodes { service: request.service.clone() });
    }
    let expected = candidates.len();
    let (present, absent): (Vec<_>, Vec<_>) =
        candidates.into_iter().partition(|candidate| candidate.presence == Presence::Present);
    if present.is_empty() {
        return Err(Refusal::NobodyPresent { expected });
    }
    // The seed is what was asked and not the plan's id: the same wish is planned in the same order.
    let seed = format!("{}/{}/{}", request.service, request.environment, request.version);
    let mut present = arrange(present, &request.sequence, &seed);
    let mut absent = arrange(absent, &Sequence::Name, &seed);
    // Every node is looked at once, not once per waiver.
    let waived: BTreeSet<&NodeName> = present
        .iter()
        .chain(&absent)
        .map(|candidate| &candidate.node)
        .filter(|node| request.waivers.contains_key(*node))
        .collect();
    if let Some(node) = request.waivers.keys().find(|node| !waived.contains(node)) {
        return Err(Refusal::NoSuchNode { node: node.clone() });
    }
    absent
        .iter_mut()
        .chain(&mut present)
        .for_each(|candidate| candidate.labels.retain(|label, _| request.names(label)));
    let to_change = present.iter().chain(&absent).filter(|candidate| candidate.holds.hold != request.target).count();
    let floor = request.min_healthy.floor(expected);
    let serving = present.iter().filter(|candidate| candidate.serves()).count();
    let blocks = blocks(request, &present, floor);
    let warnings = warnings(request, &absent, to_change);
    let mut rest = present.into_iter();
    let segments: Vec<Vec<Candidate>> = request
        .segments
        .cut_after(request.canary, rest.len())
        .into_iter()
        .map(|size| rest.by_ref().take(size).collect())
        .collect();
    check_segments(request, segments.len())?;
    let request = request.clone();
    Ok(Plan { id, parent, made_at: now, request, segments, absent, to_change, floor, serving, blocks, warnings })
}

fn check_segments(request: &Request, segments: usize) -> Result<(), Refusal> {
    let pauses = request.pause_after.iter().map(|segment| ("--pause-after", *segment));
    let gates = request.gates.iter().filter_map(|gate| Some(("a gate", gate.after?)));
    let migration = request.migration.iter().map(|migration| ("the migration", migration.place.segment()));
    match pauses.chain(gates).chain(migration).find(|(_, segment)| *segment >= segments) {
        Some((what, segment)) => Err(Refusal::NoSuchSegment { what, segment: segment + 1, segments }),
        None => Ok(()),
    }
}

fn blocks(request: &Request, present: &[Candidate], floor: usize) -> Vec<Block> {
    let mut blocks: Vec<Block> = present
        .iter()
        .filter(|candidate| candidate.holds.hold != request.target && !request.waivers.contains_key(&candidate.node))
        .filter_map(|candidate| {
            let waive = format!("or: --waive {}=REASON --waive-for 24h", candidate.node);
            let help = format!("make room on it, {waive} (outcome converged-with-waivers, exit 7)");
            Some(Block { node: Some(candidate.node.clone()), why: candidate.block.clone()?, help })
        })
        .collect();
    let must_be_taken = present.iter().any(|candidate| candidate.serves() && candidate.holds.hold != request.target);
    // Even if every broken node came back to serve, none of the others could be spared (CodeDeploy: "fails
    // immediately").
    if must_be_taken && present.len() <= floor {
        blocks.push(Block {
            node: None,
            why: format!(
                "{floor} nodes must serve (--min-healthy {}) and {} are there: none could ever be taken out",
                request.min_healthy,
                present.len()
            ),
            help: "lower --min-healthy, or bring more nodes into contact".into(),
        });
    }
    blocks
}

fn warnings(request: &Request, absent: &[Candidate], to_change: usize) -> Vec<String> {
    let mut warnings: Vec<String> = absent
        .iter()
        .map(|candidate| {
            let why = match &candidate.presence {
                Presence::Absent(why) => why.as_str(),
                Presence::Present => "present",
            };
            match request.waiver_for(candidate) {
                Some(waiver) => format!("{}: {why}. {waiver}", candidate.node),
                None => format!(
                    "{}: {why}. It is ordered last and waited for; without it the outcome is unproven (exit 4), never converged. Bring it back, or: --waive {}=REASON --waive-for 24h (exit 7)",
                    candidate.node, candidate.node
                ),
            }
        })
        .collect();
    if to_change == 0 {
        warnings.push(format!(
            "every node is to hold {} already: they will be proven again, nothing is restarted",
            request.version
        ));
    }
    warnings
}

impl Request {
    fn waiver_for(&self, candidate: &Candidate) -> Option<&Waiver> {
        let absent = matches!(candidate.presence, Presence::Absent(_));
        self.waivers.get(&candidate.node).or_else(|| self.waive_absent.as_ref().filter(|_| absent))
    }

    /// Whether a label has a part in the plan: the others are not kept in it.
    fn names(&self, label: &str) -> bool {
        matches!(&self.sequence, Sequence::Spread(named) if named == label)
    }
}

impl Candidate {
    /// Whether it serves now what it holds.
    pub fn serves(&self) -> bool {
        match self.condition {
            Condition::Old | Condition::Current => self.presence == Presence::Present,
            Condition::Unhealthy | Condition::Unknown => false,
        }
    }
}

impl Sequenced for Candidate {
    fn name(&self) -> &str {
        self.node.as_str()
    }

    fn condition(&self) -> Condition {
        self.condition
    }

    fn label(&self, label: &str) -> Option<&str> {
        self.labels.get(label).map(String::as_str)
    }
}

impl Plan {
    /// Every expected node: segment by segment, then the absent.
    pub fn candidates(&self) -> impl Iterator<Item = &Candidate> {
        self.segments.iter().flatten().chain(&self.absent)
    }

    /// The spec of the deployment that carries this plan out, asked for by `actor`. `generation` and the next number
    /// are used up.
    pub fn spec(&self, id: DeploymentId, generation: Generation, actor: String) -> Spec {
        let request = self.request.clone();
        let names =
            |candidates: &[Candidate]| candidates.iter().map(|candidate| candidate.node.clone()).collect::<Vec<_>>();
        let previous = self.candidates().map(|candidate| (candidate.node.clone(), candidate.holds.clone())).collect();
        let waived = self.candidates().filter_map(|candidate| {
            request.waiver_for(candidate).map(|waiver| (candidate.node.clone(), waiver.clone()))
        });
        let idle = self.segments.iter().flatten().filter(|candidate| !candidate.serves());
        Spec {
            id,
            waivers: waived.collect(),
            unhealthy: idle.map(|candidate| candidate.node.clone()).collect(),
            service: request.service,
            environment: request.environment,
            kind: request.kind,
            target: request.target,
            version: request.version,
            segments: self.segments.iter().map(|segment| names(segment)).collect(),
            absent: names(&self.absent),
            previous,
            generation,
            rollback_generation: Generation(generation.0 + 1),
            parallel: request.parallel,
            floor: self.floor,
            max_failures: request.max_failures,
            bake: request.bake,
            gates: request.gates,
            pause_after: request.pause_after,
            migration: request.migration,
            confirm: request.confirm,
            node_deadline: request.node_deadline,
            settle: SETTLE,
            absent_grace: request.absent_grace,
            pause_deadline: request.pause_deadline,
            on_failure: request.on_failure,
            limit: request.limit,
            plan: Some(self.id.clone()),
            supersedes: None,
            actor,
            message: request.message,
        }
    }
}
