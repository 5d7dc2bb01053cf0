//! Deployments: driven by what is observed, journaled before anything is said. What they want is raised into the book;
//! which nodes and which release they are for is decided in `planning`.

use std::collections::BTreeSet;

use fleet::deployment::{AbortMode, Deployment, Event, Fact, Kind};
use fleet::drift::{Comparison, Standing};
use fleet::{DeploymentId, Generation, NodeName, Order, Outcome, ServiceName, Timestamp};
use fleet_proto::v1;

use super::ask::{Refusal, find_by_prefix};
use super::state::{Journaled, State};
use crate::random;
use crate::records::{self, Change};

impl State {
    /// Takes up the deployments that were running when the controller stopped. Saying their orders again is free.
    pub(super) fn take_up(&mut self, now: Timestamp) {
        let running: Vec<_> = self.running().map(|(id, _)| id.clone()).collect();
        for id in running {
            if let Some(journaled) = self.deployments.get_mut(&id) {
                tracing::info!(deployment = %id, phase = ?journaled.deployment.phase(), "taking up a running deployment");
                journaled.deployment.resume(now);
            }
            self.raise_orders(&id);
            self.deployment_event(&id, &Event::Tick, now);
        }
    }

    /// When some deployment wants to be looked at again.
    pub(super) fn wake_at(&self) -> Option<Timestamp> {
        self.running().filter_map(|(_, journaled)| journaled.deployment.wake_at()).min()
    }

    /// Lets time pass for every deployment that waits for it.
    pub(super) fn drive(&mut self, now: Timestamp) {
        let due = |journaled: &Journaled| journaled.deployment.wake_at().is_some_and(|at| at <= now);
        let due: Vec<_> = self.running().filter(|(_, journaled)| due(journaled)).map(|(id, _)| id.clone()).collect();
        for id in due {
            self.deployment_event(&id, &Event::Tick, now);
        }
    }

    /// One turn of one deployment: handle, journal, raise what is desired.
    pub(super) fn deployment_event(&mut self, id: &DeploymentId, event: &Event, now: Timestamp) {
        let Some(journaled) = self.deployments.get_mut(id) else { return };
        let first = journaled.deployment.facts();
        let facts = journaled.deployment.handle(event, now);
        if facts.is_empty() {
            return;
        }
        journaled.facts.extend(facts.iter().cloned());
        let finished = facts.iter().any(|fact| matches!(fact, Fact::Finished { .. }));
        let fresh_round =
            facts.iter().any(|fact| matches!(fact, Fact::VerificationStarted { .. } | Fact::SegmentProven { .. }));
        for (index, fact) in (first..).zip(facts) {
            tracing::info!(deployment = %id, index, fact = fact.kind(), segment = fact.segment().map(|segment| segment + 1), node = fact.node().map(tracing::field::display), "{fact}");
            self.save(Change::Fact { deployment: id.clone(), index, fact: Box::new(fact) });
        }
        self.raise_orders(id);
        if fresh_round {
            self.ask_everyone();
        }
        if finished {
            let nodes: Vec<_> = self.seen.keys().cloned().collect();
            for node in nodes {
                self.welcome(&node);
            }
        }
    }

    /// Raises the book to what a deployment wants. An older generation never lowers it.
    fn raise_orders(&mut self, id: &DeploymentId) {
        let Some(journaled) = self.deployments.get(id) else { return };
        for order in journaled.deployment.orders() {
            if self.order(&order.node, &order.service).is_none_or(|held| held.generation < order.generation) {
                self.raise(order);
            }
        }
    }

    /// Writes an order into the book and says it.
    fn raise(&mut self, order: Order) {
        if let Some(comparison) =
            self.seen.get_mut(&order.node).and_then(|seen| seen.comparisons.get_mut(&order.service))
        {
            // What was proven of the order before says nothing of this one.
            let generation = self.book.get(&order.node).and_then(|held| held.get(&order.service)).map(|o| o.generation);
            *comparison = Comparison { standing: Standing::Behind { generation }, findings: Vec::new() };
        }
        self.say_desired(&order.node);
        self.save(Change::Order(order.clone()));
        self.book.entry(order.node.clone()).or_default().insert(order.service.clone(), order);
    }

    /// A node that joined after the last deployment began is a node with a difference: it shall hold what that
    /// deployment proved everywhere else. What did not converge is given to nobody, and a node that was there and was
    /// left out (`--limit`) stays out. While a deployment of the service runs a newcomer waits for its end.
    pub(super) fn welcome(&mut self, node: &NodeName) {
        let services: BTreeSet<ServiceName> = self.orders().map(|order| order.service.clone()).collect();
        for service in services {
            let moving = self.running().any(|(_, journaled)| journaled.deployment.spec().service == service);
            if moving || self.order(node, &service).is_some() {
                continue;
            }
            let of_service = self
                .deployments
                .values()
                .map(|j| &j.deployment)
                .filter(|deployment| deployment.spec().service == service);
            let Some(last) = of_service.max_by_key(|deployment| deployment.started_at()) else { continue };
            let converged = matches!(last.outcome(), Some(Outcome::Converged | Outcome::ConvergedWithWaivers));
            let joined_at =
                self.nodes.get(node).and_then(|record| record.enrolled.as_ref()).map(|enrolled| enrolled.at);
            let is_newcomer = joined_at.is_some_and(|at| at >= last.started_at());
            let Some(release) = last.spec().target.release().filter(|_| converged && is_newcomer).cloned() else {
                continue;
            };
            let meant = self
                .catalogue
                .get(&release)
                .is_some_and(|descriptor| self.expected_for(&descriptor.nodes).contains(node));
            let newest = self
                .orders()
                .filter(|order| order.service == service && order.hold.release() == Some(&release))
                .max_by_key(|order| order.generation);
            if let (true, Some(newest)) = (meant, newest.cloned()) {
                let order = fleet::Order { node: node.clone(), ..newest };
                tracing::info!(%node, %service, %release, "a newcomer shall hold what the others hold");
                self.raise(order);
            }
        }
    }

    /// Starts a deployment, unless it is refused or one of its service is running.
    pub(super) fn start(
        &mut self,
        actor: &str,
        request: &v1::DeploymentRequest,
        kind: Kind,
        now: Timestamp,
    ) -> Result<DeploymentId, Refusal> {
        let (planned, plan) = self.plan(actor, request, kind, now)?;
        if let Some(busy) = self.busy_with(&planned.service, now) {
            return Err(busy);
        }
        let no_bits = |e: getrandom::Error| {
            Refusal::precheck(
                format!("the operating system gives no random bits: {e}"),
                "look at the controller's host",
            )
        };
        let id = loop {
            let id = DeploymentId::from_random(random::bits().map_err(no_bits)? as u64);
            if !self.deployments.contains_key(&id) {
                break id;
            }
        };
        // Two generations are used up: one forward, one back, so that going back always wins over a late "forward".
        let generation = Generation(self.generation.0 + 1);
        let spec = plan.into_spec(planned, id.clone(), generation);
        let fact = Fact::Planned { at: now, spec: Box::new(spec) };
        let Some(deployment) = Deployment::planned(&fact) else { return Err(Refusal::stopping()) };
        let change = Change::Fact { deployment: id.clone(), index: 0, fact: Box::new(fact.clone()) };
        if !records::fits(&change) {
            return Err(Refusal::precheck(
                format!("the plan for {} nodes is larger than the store takes at once", deployment.nodes().len()),
                "deploy to a part of them at a time: --limit",
            ));
        }
        tracing::info!(deployment = %id, actor, "{fact}");
        self.generation = Generation(self.generation.0 + 2);
        self.save(Change::Generation(self.generation));
        self.save(change);
        self.deployments.insert(id.clone(), Journaled { deployment, facts: vec![fact] });
        self.deployment_event(&id, &Event::Tick, now);
        Ok(id)
    }

    /// Ends a running deployment.
    pub(super) fn abort(
        &mut self,
        by: &str,
        request: &v1::AbortRequest,
        now: Timestamp,
    ) -> Result<DeploymentId, Refusal> {
        let id = find_by_prefix(self.deployments.keys(), &request.deployment)?;
        let outcome = self.deployments[&id].deployment.outcome();
        if let Some(outcome) = outcome {
            return Err(Refusal::precheck(format!("{id} is over: {outcome}"), "to go back, use: fleetctl rollback"));
        }
        let mode = if request.leave { AbortMode::Leave } else { AbortMode::RollBack };
        self.deployment_event(&id, &Event::Abort { by: by.to_owned(), mode }, now);
        Ok(id)
    }
}
