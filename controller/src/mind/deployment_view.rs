//! What operators are shown of deployments: state turned into messages and words.

use fleet::deployment::{Deployment, Fact, NodeState, Phase, SegmentState};
use fleet::{DeploymentId, NodeName, Outcome, Timestamp};
use fleet_proto::v1;

use super::ask::Refusal;
use super::state::State;

/// How many deployments are listed when nothing is said, and at most.
const LISTED: u32 = 20;
const MOST_LISTED: u32 = 1_000;
/// What to do about a name that nothing has.
const LIST: &str = "list them: fleetctl history";

impl State {
    /// One deployment by id or prefix, with its facts from an index on.
    pub(super) fn get_deployment(
        &self,
        name: &str,
        from: u64,
        now: Timestamp,
    ) -> Result<(v1::Deployment, Vec<v1::Fact>), Refusal> {
        let id = self.find_deployment(name)?;
        if let Some(queued) = self.queue.get(&id) {
            return Ok((self.show_queued(queued, now), Vec::new()));
        }
        let facts = self.deployments[&id].facts.iter().enumerate();
        let facts = facts.skip(usize::try_from(from).unwrap_or(usize::MAX));
        let fact = |(index, fact): (usize, &Fact)| v1::Fact {
            index: index as u64,
            at_ms: fact.at().0,
            kind: fact.kind().into(),
            segment: fact.segment().map(|segment| segment as u32),
            node: fact.node().map(ToString::to_string).unwrap_or_default(),
            text: fact.to_string(),
        };
        Ok((self.deployment_view(&id, now)?, facts.map(fact).collect()))
    }

    /// The newest deployments, of one service if one is named.
    pub(super) fn list_deployments(&self, service: &str, limit: u32, now: Timestamp) -> Vec<v1::Deployment> {
        let limit = if limit == 0 { LISTED } else { limit.min(MOST_LISTED) };
        let mut found: Vec<_> = self
            .deployments
            .iter()
            .map(|(id, journaled)| (journaled.deployment.started_at(), id, &journaled.deployment))
            .filter(|(_, _, deployment)| service.is_empty() || deployment.spec().service.as_str() == service)
            .collect();
        found.sort_by_key(|(started_at, id, _)| std::cmp::Reverse((*started_at, *id)));
        let waiting = self.queue.values().filter(|queued| queued.ended.is_none());
        let waiting = waiting.filter(|queued| service.is_empty() || queued.service.as_str() == service);
        let shown = found.into_iter().map(|(_, id, deployment)| self.show(id, deployment, now));
        waiting.map(|queued| self.show_queued(queued, now)).chain(shown).take(limit as usize).collect()
    }

    /// One deployment by its id.
    pub(super) fn deployment_view(&self, id: &DeploymentId, now: Timestamp) -> Result<v1::Deployment, Refusal> {
        if let Some(queued) = self.queue.get(id) {
            return Ok(self.show_queued(queued, now));
        }
        let journaled = self.deployments.get(id);
        let journaled = journaled.ok_or_else(|| Refusal::unknown(format!("there is no deployment '{id}'"), LIST))?;
        Ok(self.show(id, &journaled.deployment, now))
    }

    /// One deployment, with every node of it.
    pub(super) fn show(&self, id: &DeploymentId, deployment: &Deployment, now: Timestamp) -> v1::Deployment {
        let spec = deployment.spec();
        let (phase, segment) = phase_words(deployment);
        let finished_at = match deployment.phase() {
            Phase::Finished { at, .. } => Some(at.0),
            Phase::Planned
            | Phase::Rolling { .. }
            | Phase::Baking { .. }
            | Phase::Between { .. }
            | Phase::Gating { .. }
            | Phase::Migrating { .. }
            | Phase::TurningBack { .. }
            | Phase::RollingBack { .. }
            | Phase::Stopped
            | Phase::Verifying { .. } => None,
        };
        let nodes =
            |names: &[NodeName]| names.iter().map(|name| self.deployment_node(deployment, name)).collect::<Vec<_>>();
        let segments = spec.segments.iter().zip(deployment.segments());
        let outcome = deployment.outcome();
        let unproven = match outcome {
            Some(Outcome::Converged | Outcome::ConvergedWithWaivers | Outcome::RolledBack) | None => Vec::new(),
            Some(Outcome::Unproven | Outcome::Aborted | Outcome::Superseded) => {
                // A node that was never ordered keeps what it held: it is neither proven nor failed by this deployment.
                let is_unproven = |name: &&NodeName| {
                    !matches!(
                        deployment.nodes().get(name),
                        Some(
                            NodeState::Verified { .. }
                                | NodeState::Proven { .. }
                                | NodeState::Pending
                                | NodeState::Decommissioned { .. }
                        )
                    )
                };
                deployment
                    .nodes()
                    .iter()
                    .map(|(name, _)| name)
                    .filter(is_unproven)
                    .map(|name| self.deployment_node(deployment, name))
                    .collect()
            }
        };
        let mut previous: Vec<_> = spec.previous.values().filter_map(|previous| previous.version.as_ref()).collect();
        previous.sort();
        previous.dedup();
        v1::Deployment {
            id: id.to_string(),
            service: spec.service.to_string(),
            environment: spec.environment.clone(),
            release: spec.target.release().map(|release| self.release_view(release)),
            previous_version: previous.iter().map(ToString::to_string).collect::<Vec<_>>().join(","),
            phase: phase.into(),
            segment: segment.map(|segment| segment as u32),
            segments: segments.map(|(names, state)| segment_view(deployment, nodes(names), *state)).collect(),
            absent: nodes(&spec.absent),
            outcome: outcome.map(|outcome| outcome.as_str().to_owned()).unwrap_or_default(),
            exit_code: outcome.map_or(0, |outcome| outcome.exit_code().into()),
            started_at_ms: deployment.started_at().0,
            finished_at_ms: finished_at,
            started_by: spec.actor.clone(),
            message: spec.message.clone(),
            waiting_on: deployment.waiting_on(now).map(|reason| reason.to_string()).unwrap_or_default(),
            cause: deployment.cause().map(ToString::to_string).unwrap_or_default(),
            unproven,
            kind: spec.kind.as_str().into(),
            facts: deployment.facts(),
            max_failures: spec.max_failures.to_string(),
            bake_ms: spec.bake.0,
            on_failure: spec.on_failure.as_str().into(),
            gate: gate_asked(deployment),
            halted: deployment.halted().map(|halted| halted.halt.to_string()).unwrap_or_default(),
            paused_by: deployment.paused().map(|paused| paused.by.clone()).unwrap_or_default(),
            waivers: deployment
                .nodes()
                .iter()
                .filter_map(|(node, _)| Some((node, deployment.nodes().waiver(node)?)))
                .map(|(node, waiver)| v1::Waiver {
                    node: node.to_string(),
                    reason: waiver.reason.clone(),
                    by: waiver.by.clone(),
                    until_ms: waiver.until.0,
                })
                .collect(),
            joined: deployment
                .nodes()
                .outside_segments()
                .filter(|node| !spec.absent.contains(node))
                .map(|node| self.deployment_node(deployment, node))
                .collect(),
            plan: spec.plan.as_ref().map(ToString::to_string).unwrap_or_default(),
            supersedes: spec.supersedes.as_ref().map(ToString::to_string).unwrap_or_default(),
            floor: u32::try_from(spec.floor).unwrap_or(u32::MAX),
            serving: u32::try_from(deployment.nodes().serving()).unwrap_or(u32::MAX),
            parallel: spec.parallel.to_string(),
            limit: spec.limit.clone(),
        }
    }

    fn deployment_node(&self, deployment: &Deployment, name: &NodeName) -> v1::DeploymentNode {
        let heard = || deployment.last_heard(name).unwrap_or_default().to_owned();
        let (state, detail, grade, since) = match deployment.nodes().get(name) {
            None | Some(NodeState::Pending) => ("pending", String::new(), String::new(), deployment.started_at()),
            Some(NodeState::Ordered { since }) => ("ordered", heard(), String::new(), *since),
            Some(NodeState::Proven { since, grade, .. }) => ("proven", String::new(), grade.to_string(), *since),
            Some(NodeState::Failed { since, reason }) => ("failed", reason.clone(), String::new(), *since),
            Some(NodeState::Restoring { since }) => ("restoring", heard(), String::new(), *since),
            Some(NodeState::Restored { since }) => ("restored", String::new(), String::new(), *since),
            Some(NodeState::NotRestored { since, reason }) => ("not-restored", reason.clone(), String::new(), *since),
            Some(NodeState::Verified { since, grade }) => ("verified", String::new(), grade.to_string(), *since),
            Some(NodeState::Unverified { since, reason }) => ("unverified", reason.clone(), String::new(), *since),
            Some(NodeState::Decommissioned { since, reason }) => {
                ("decommissioned", reason.clone(), String::new(), *since)
            }
        };
        let holds = self.evidence(name, &deployment.spec().service).and_then(|evidence| evidence.current.as_ref());
        let holds = holds.map(|release| {
            self.releases.get(release).map_or_else(|| release.to_string(), |record| record.version.to_string())
        });
        v1::DeploymentNode {
            node: name.to_string(),
            state: state.into(),
            detail,
            grade,
            since_ms: since.0,
            holds: holds.unwrap_or_default(),
        }
    }
}

/// What it does, in a word; that it waits for a person is said before anything else.
fn phase_words(deployment: &Deployment) -> (&'static str, Option<usize>) {
    let (word, segment) = match deployment.phase() {
        Phase::Planned => ("planned", None),
        Phase::Rolling { segment } => ("rolling", Some(segment)),
        Phase::Baking { segment, .. } | Phase::Between { segment } => ("baking", Some(segment)),
        Phase::Gating { asking, .. } => ("gating", Some(asking.segment)),
        Phase::Migrating { place, .. } => ("migrating", Some(place.segment())),
        Phase::TurningBack { segment } => ("rolling-back", segment),
        Phase::RollingBack { segment } => ("rolling-back", Some(segment)),
        Phase::Stopped | Phase::Verifying { .. } => ("verifying", None),
        Phase::Finished { .. } => return ("finished", None),
    };
    match (deployment.paused(), deployment.halted()) {
        (Some(_), _) => ("paused", segment),
        (None, Some(_)) => ("halted", segment),
        (None, None) => (word, segment),
    }
}

fn gate_asked(deployment: &Deployment) -> Option<v1::GateAsked> {
    let Phase::Gating { asking, .. } = deployment.phase() else { return None };
    let nodes = deployment.spec().segments.get(asking.segment).into_iter().flatten();
    Some(v1::GateAsked {
        asking: Some(asking.into()),
        gate: deployment.spec().gates.get(asking.gate).cloned().map(Into::into),
        nodes: nodes.map(ToString::to_string).collect(),
    })
}

fn segment_view(deployment: &Deployment, nodes: Vec<v1::DeploymentNode>, state: SegmentState) -> v1::DeploymentSegment {
    let over = deployment.outcome().is_some();
    let failed = nodes.iter().any(|node| matches!(node.state.as_str(), "failed" | "not-restored" | "unverified"));
    let word = match state {
        SegmentState { rollback_at: Some(_), .. } if nodes.iter().any(|node| node.state == "restoring") => {
            "rolling-back"
        }
        SegmentState { rollback_at: Some(_), .. } if failed => "failed",
        SegmentState { rollback_at: Some(_), .. } => "rolled-back",
        SegmentState { started_at: None, .. } => "pending",
        SegmentState { baked_at: Some(_), .. } => "baked",
        SegmentState { .. } if failed => "failed",
        SegmentState { proven_at: Some(_), .. } if over => "proven",
        SegmentState { proven_at: Some(_), .. } => "baking",
        SegmentState { .. } => "rolling",
    };
    let ended = state.baked_at.or(state.proven_at).filter(|_| state.rollback_at.is_none());
    v1::DeploymentSegment {
        nodes,
        state: word.into(),
        started_at_ms: state.started_at.map(|at| at.0),
        ended_at_ms: ended.map(|at| at.0),
    }
}
