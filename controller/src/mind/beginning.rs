//! How a deployment begins: nothing is in the way, nothing forbids it, and its plan is the first entry of its journal.

use std::collections::BTreeSet;

use fleet::deployment::plan::Plan;
use fleet::deployment::{Command, Deployment, Event, Fact, Kind, Phase, Spec};
use fleet::{DeploymentId, Generation, NodeName, Timestamp};
use fleet_proto::v1;

use super::ask::Refusal;
use super::planning::no_bits;
use super::request::LONGEST_MESSAGE;
use super::state::{Journaled, State};
use crate::random;
use crate::records::{self, Change};

impl State {
    /// Starts a deployment; or queues it, or puts it in the place of the running one, if that was asked for.
    pub(super) fn start(
        &mut self,
        actor: &str,
        request: &v1::DeploymentRequest,
        kind: Kind,
        now: Timestamp,
    ) -> Result<DeploymentId, Refusal> {
        let plan = match request.plan.as_str() {
            "" => self.plan(actor, request, kind, now)?,
            kept => said_anew(self.plan_as_kept(kept, now)?, &request.message),
        };
        if let Some(locked) = self.locked_by_another(&plan.request.service, actor, now) {
            return Err(locked);
        }
        let in_the_way = self.conflicts(&plan);
        match in_the_way.first() {
            None => {}
            Some(_) if request.queue => return self.queue_up(actor, request, kind, &plan, now),
            Some(_) if request.supersede => return self.supersede(actor, &plan, &in_the_way, now),
            Some(running) => return Err(self.busy(running, now)),
        }
        not_blocked(&plan)?;
        let id = self.new_id()?;
        self.begin(self.spec(&plan, &id, actor), now)?;
        Ok(id)
    }

    /// Begins a deployment in the place of all that are in its way: of two that move the same nodes, one would undo what
    /// the other does.
    fn supersede(
        &mut self,
        actor: &str,
        plan: &Plan,
        in_the_way: &[DeploymentId],
        now: Timestamp,
    ) -> Result<DeploymentId, Refusal> {
        not_blocked(plan)?;
        let id = self.new_id()?;
        let mut spec = self.spec(plan, &id, actor);
        spec.supersedes = in_the_way.first().cloned();
        for running in in_the_way {
            self.inherit(&mut spec, running);
        }
        self.begin(spec, now)?;
        for running in in_the_way {
            let command = Command::Supersede { deployment: id.clone() };
            self.deployment_event(running, &Event::Told { by: actor.to_owned(), command }, now);
        }
        Ok(id)
    }

    /// What is in the way of a plan now, if anything is.
    pub(super) fn in_the_way(&self, plan: &Plan, actor: &str, now: Timestamp) -> Option<Refusal> {
        self.locked_by_another(&plan.request.service, actor, now)
            .or_else(|| self.conflicts(plan).first().map(|running| self.busy(running, now)))
    }

    /// The running deployments that a plan cannot run beside: of the same service, in the same environment or on one of
    /// the same nodes. That of the same environment first: there is one at most.
    fn conflicts(&self, plan: &Plan) -> Vec<DeploymentId> {
        let request = &plan.request;
        let nodes: BTreeSet<&NodeName> = plan.candidates().map(|candidate| &candidate.node).collect();
        let conflicts = |deployment: &Deployment| {
            let spec = deployment.spec();
            spec.service == request.service
                && (spec.environment == request.environment
                    || deployment.nodes().iter().any(|(node, _)| nodes.contains(node)))
        };
        let mut found: Vec<_> = self.running().filter(|(_, journaled)| conflicts(&journaled.deployment)).collect();
        found.sort_by_key(|(_, journaled)| journaled.deployment.spec().environment != request.environment);
        found.into_iter().map(|(id, _)| id.clone()).collect()
    }

    /// That a deployment runs, as a refusal.
    fn busy(&self, id: &DeploymentId, now: Timestamp) -> Refusal {
        let Some(journaled) = self.deployments.get(id) else { return Refusal::stopping() };
        let deployment = &journaled.deployment;
        let spec = deployment.spec();
        let at = match deployment.phase() {
            Phase::Rolling { segment } | Phase::Baking { segment, .. } | Phase::Between { segment } => {
                format!(" (segment {}/{})", segment + 1, spec.segments.len())
            }
            Phase::Gating { asking, .. } => format!(" (segment {}/{})", asking.segment + 1, spec.segments.len()),
            Phase::RollingBack { .. } | Phase::TurningBack { .. } => " (rolling back)".into(),
            Phase::Migrating { .. } => " (migrating)".into(),
            Phase::Planned | Phase::Stopped | Phase::Verifying { .. } | Phase::Finished { .. } => String::new(),
        };
        let since = now.since(deployment.started_at());
        let what = format!("{} deploys {} {} with {id} since {since}{at}", spec.actor, spec.service, spec.version);
        let help = format!(
            "wait for it (fleetctl wait {id}), queue behind it (--queue), take its place (--supersede) or abort it (fleetctl abort {id})"
        );
        Refusal::busy(what, help)
    }

    /// An id that no deployment has.
    pub(super) fn new_id(&self) -> Result<DeploymentId, Refusal> {
        loop {
            let id = DeploymentId::from_random(random::bits().map_err(no_bits)? as u64);
            if !self.deployments.contains_key(&id) && !self.queue.contains_key(&id) {
                return Ok(id);
            }
        }
    }

    /// The spec that carries a plan out, with the next two generations: one forward, one back, so that going back always
    /// wins over a late "forward".
    pub(super) fn spec(&self, plan: &Plan, id: &DeploymentId, actor: &str) -> Spec {
        plan.spec(id.clone(), Generation(self.generation.0 + 1), actor.to_owned())
    }

    /// Journals the plan, and lets the deployment take its first turn.
    pub(super) fn begin(&mut self, spec: Spec, now: Timestamp) -> Result<(), Refusal> {
        let id = spec.id.clone();
        let size = spec.size();
        let fact = Fact::Planned { at: now, spec: Box::new(spec) };
        let Some(deployment) = Deployment::planned(&fact) else { return Err(Refusal::stopping()) };
        let change = Change::Fact { deployment: id.clone(), index: 0, fact: Box::new(fact.clone()) };
        if !records::fits(&change) {
            return Err(Refusal::precheck(
                format!("the plan for {size} nodes is larger than the store takes at once"),
                "deploy to a part of them at a time: --limit",
            ));
        }
        tracing::info!(deployment = %id, actor = deployment.spec().actor, "{fact}");
        self.generation = deployment.spec().rollback_generation;
        self.save(Change::Generation(self.generation));
        self.save(change);
        self.active.insert(id.clone());
        self.deployments.insert(id.clone(), Journaled { deployment, facts: vec![fact] });
        self.deployment_event(&id, &Event::Tick, now);
        Ok(())
    }

    /// What a superseded deployment has moved and not proven everywhere is nothing to go back to: its nodes go back to
    /// what they held before it.
    fn inherit(&self, spec: &mut Spec, superseded: &DeploymentId) {
        let Some(journaled) = self.deployments.get(superseded) else { return };
        let old = &journaled.deployment;
        for (node, previous) in &mut spec.previous {
            if let (Some(_), Some(before)) = (old.order_for(node), old.spec().previous.get(node)) {
                *previous = before.clone();
            }
        }
    }
}

/// A kept plan with what is said of it now, if anything is: the reason to carry it out may be another than to make it.
pub(super) fn said_anew(mut plan: Plan, message: &str) -> Plan {
    if !message.is_empty() {
        plan.request.message = message.chars().take(LONGEST_MESSAGE).collect();
    }
    plan
}

/// Nothing is started that the plan says is forbidden.
pub(super) fn not_blocked(plan: &Plan) -> Result<(), Refusal> {
    let Some(first) = plan.blocks.first() else { return Ok(()) };
    let node = |node: &Option<NodeName>| node.as_ref().map(|node| format!("{node}: ")).unwrap_or_default();
    let mut what = format!("{}{}", node(&first.node), first.why);
    if plan.blocks.len() > 1 {
        what.push_str(&format!("; and {} more (fleetctl plan)", plan.blocks.len() - 1));
    }
    Err(Refusal::precheck(what, first.help.clone()))
}
