//! Deployments: driven by what is observed, journaled before anything is said. What they want is raised into the book.
//! How one begins is in `beginning`, what people want of a running one in `commands`.

use std::collections::BTreeSet;

use fleet::deployment::{Event, Fact, Phase};
use fleet::drift::{Comparison, Standing};
use fleet::looked::Depth;
use fleet::{DeploymentId, NodeName, Order, Outcome, ServiceName, Timestamp};

use super::state::{Journaled, State};
use crate::records::Change;

impl State {
    /// Takes up the deployments that were running when the controller stopped. Saying their orders again is free.
    pub(super) fn take_up(&mut self, now: Timestamp) {
        let running: Vec<_> = self.running().map(|(id, _)| id.clone()).collect();
        for id in running {
            if let Some(journaled) = self.deployments.get_mut(&id) {
                tracing::info!(deployment = %id, phase = ?journaled.deployment.phase(), "taking up a running deployment");
                journaled.deployment.resume(now);
            }
            let orders = self.deployments.get(&id).map(|j| j.deployment.orders()).unwrap_or_default();
            self.raise_all(orders);
            self.ask_gate(&id, now);
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
        self.start_queued(now);
    }

    /// One turn of one deployment: handle, journal, raise what is desired.
    pub(super) fn deployment_event(&mut self, id: &DeploymentId, event: &Event, now: Timestamp) {
        let Some(journaled) = self.deployments.get_mut(id) else { return };
        let first = journaled.deployment.facts();
        let facts = journaled.deployment.handle(event, now);
        if facts.is_empty() {
            return;
        }
        let orders: Vec<Order> = facts.iter().flat_map(|fact| journaled.deployment.orders_by(fact)).collect();
        journaled.facts.extend(facts.iter().cloned());
        let has = |is: fn(&Fact) -> bool| facts.iter().any(is);
        let finished = has(|fact| matches!(fact, Fact::Finished { .. }));
        let fresh_round = has(|fact| matches!(fact, Fact::VerificationStarted { .. } | Fact::SegmentProven { .. }));
        let asked = has(|fact| matches!(fact, Fact::GateStarted { .. }));
        if !matches!(journaled.deployment.phase(), Phase::Gating { .. }) {
            // A test that still runs for it answers nobody.
            self.asks.remove(id);
        }
        for (index, fact) in (first..).zip(facts) {
            tracing::info!(deployment = %id, index, fact = fact.kind(), segment = fact.segment().map(|segment| segment + 1), node = fact.node().map(tracing::field::display), "{fact}");
            if let Fact::MigrationStarted { node, .. } = &fact {
                self.say_desired(node);
            }
            self.save(Change::Fact { deployment: id.clone(), index, fact: Box::new(fact) });
        }
        self.raise_all(orders);
        if asked {
            self.ask_gate(id, now);
        }
        if fresh_round {
            self.ask_everyone(Depth::Sweep);
        }
        if finished {
            self.active.remove(id);
            self.state_deployment(id, now);
            let nodes: Vec<_> = self.seen.keys().cloned().collect();
            for node in nodes {
                self.welcome(&node);
            }
            self.start_queued(now);
        }
    }

    /// Raises the book to what a deployment wants. An older generation never lowers it.
    fn raise_all(&mut self, orders: Vec<Order>) {
        for order in orders {
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
    /// left out (`--limit`) stays out; what was meant for some nodes only is given to no newcomer. While a deployment of
    /// the service runs a newcomer waits for its end.
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
                .filter(|deployment| deployment.spec().service == service && deployment.spec().limit.is_empty());
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
}
