//! What an attestation that counts means: each service is compared with its order, the ledger is told the difference,
//! and running deployments are told where the node stands.

use std::collections::BTreeSet;

use fleet::deployment::{Event, Observation, Seen};
use fleet::drift::{Comparison, Finding, FindingKey, Kind, Standing, compare};
use fleet::evidence::Confirmation;
use fleet::ledger::Subject;
use fleet::release::Grade;
use fleet::{Generation, Millis, NodeName, Order, ServiceName, Timestamp};

use super::ask::Reply;
use super::state::State;

/// How long an agent may be at an older order before it is said so.
const BEHIND_GRACE: Millis = Millis(7_000);
/// How long an agent may be at work with no deployment pointing at it before it is said so.
const WORK_GRACE: Millis = Millis(30_000);

impl State {
    /// Compares the latest attestation of a node with everything it shall hold.
    pub(super) fn weigh(&mut self, node: &NodeName, asked_at: Timestamp, now: Timestamp) {
        let Some(attestation) = self.seen.get(node).and_then(|seen| seen.latest.clone()) else { return };
        let orders: Vec<Order> = self.orders_of(node).cloned().collect();
        for order in &orders {
            let evidence = attestation.services.iter().find(|evidence| evidence.service == order.service);
            let comparison = compare(order, evidence, &self.catalogue);
            self.judge(node, &order.service, order.generation, comparison, asked_at, now);
        }
        for migration in &attestation.migrations {
            let (attempt, report) = (migration.attempt, migration.report.clone());
            let event = Event::MigrationReported { node: node.clone(), attempt, report };
            self.deployment_event(&migration.deployment, &event, now);
        }
        for evidence in &attestation.services {
            if !orders.iter().any(|order| order.service == evidence.service) {
                let key = FindingKey {
                    node: node.clone(),
                    service: Some(evidence.service.clone()),
                    kind: Kind::Agent,
                    what: evidence.service.to_string(),
                };
                let found = match evidence.generation {
                    Generation(0) => {
                        format!("{} processes and a release that nobody ordered here", evidence.processes.len())
                    }
                    generation => format!("an order of generation {generation} that this controller never gave"),
                };
                let entries = self.ledger.observe(
                    Subject::Service(node, &evidence.service),
                    vec![Finding::new(key, "no such service", found)],
                    now,
                );
                self.save_ledger(entries);
            }
        }
        // What was found of a service that is neither ordered nor mentioned any more is gone.
        let forgotten = |key: &FindingKey| {
            let service = key.service.as_ref().filter(|_| key.node == *node)?;
            let named = orders.iter().any(|order| order.service == *service)
                || attestation.services.iter().any(|evidence| evidence.service == *service);
            (!named).then(|| service.clone())
        };
        let forgotten: BTreeSet<_> = self.ledger.open().filter_map(|open| forgotten(&open.finding.key)).collect();
        for service in forgotten {
            let entries = self.ledger.observe(Subject::Service(node, &service), Vec::new(), now);
            self.save_ledger(entries);
        }
        // A service that a node never had is proven absent by an attestation that does not mention it.
        let without: Vec<_> = self
            .running()
            .filter(|(_, journaled)| {
                let service = &journaled.deployment.spec().service;
                !orders.iter().any(|order| order.service == *service)
                    && !attestation.services.iter().any(|evidence| evidence.service == *service)
            })
            .map(|(id, _)| id.clone())
            .collect();
        for id in without {
            let observation = Observation {
                asked_at,
                generation: Generation(0),
                seen: Seen::Proven { grade: Grade::Digest, up: Millis(u64::MAX), confirmation: Confirmation::Given },
            };
            self.deployment_event(&id, &Event::Observed { node: node.clone(), observation }, now);
        }
    }

    fn judge(
        &mut self,
        node: &NodeName,
        service: &ServiceName,
        generation: Generation,
        comparison: Comparison,
        asked_at: Timestamp,
        now: Timestamp,
    ) {
        let seen = match &comparison.standing {
            Standing::Proven { grade, up, confirmation } => {
                Seen::Proven { grade: *grade, up: *up, confirmation: *confirmation }
            }
            Standing::Working { step, detail } if detail.is_empty() => Seen::Working { detail: step.clone() },
            Standing::Working { step, detail } => Seen::Working { detail: format!("{step}: {detail}") },
            Standing::Behind { .. } => Seen::Working { detail: "has not taken the order in yet".into() },
            Standing::Fenced { reason } => Seen::Working { detail: format!("fenced: {reason}") },
            Standing::Failed { reason } => Seen::Failed { reason: reason.clone() },
            Standing::Differs => Seen::Differs { reason: comparison.summary() },
        };
        let pointing: Vec<_> = self
            .running()
            .filter(|(_, journaled)| journaled.deployment.is_pointing_at(node, service))
            .map(|(id, _)| id.clone())
            .collect();
        if let Some(known) = self.seen.get_mut(node) {
            known.comparisons.insert(service.clone(), comparison.clone());
        }
        self.confirm_the_proven(node, service);
        let running: Vec<_> = self
            .running()
            .filter(|(_, journaled)| journaled.deployment.spec().service == *service)
            .map(|(id, _)| id.clone())
            .collect();
        // Old files may not hide behind a fresh word: a deployment takes what it is told for as old as the last look at
        // every file that it rests on.
        let swept_at = self.seen.get(node).and_then(|seen| seen.last_sweep).unwrap_or_default();
        for id in running {
            let observation = Observation { asked_at: asked_at.min(swept_at), generation, seen: seen.clone() };
            self.deployment_event(&id, &Event::Observed { node: node.clone(), observation }, now);
        }
        // A deployment may have answered this with another order, as when it turns back: then what was compared is no
        // longer what the node shall hold, and its difference is on its way.
        if self.order(node, service).is_some_and(|order| order.generation != generation) {
            return;
        }
        if let Some(findings) = self.statement(node, service, &comparison, pointing.is_empty(), now) {
            let entries = self.ledger.observe(Subject::Service(node, service), findings, now);
            self.save_ledger(entries);
        }
    }

    /// Whether a node has proven that it holds an order; if not, why not yet. The agent that asks may then no longer
    /// undo it.
    pub(super) fn confirm(&self, node: &NodeName, service: &ServiceName, generation: Generation) -> Result<(), String> {
        let Some(order) = self.order(node, service) else { return Err("there is no such order".into()) };
        if order.generation != generation {
            return Err(format!("the order is of generation {} by now", order.generation));
        }
        match self.seen.get(node).and_then(|seen| seen.comparisons.get(service)).map(|c| &c.standing) {
            Some(Standing::Proven { .. }) => Ok(()),
            Some(Standing::Working { step, .. }) => Err(format!("it was last seen at work: {step}")),
            Some(Standing::Behind { .. }) => Err("it has not shown that it holds this order".into()),
            Some(Standing::Failed { reason } | Standing::Fenced { reason }) => Err(reason.clone()),
            Some(Standing::Differs) => {
                let comparison = self.seen.get(node).and_then(|seen| seen.comparisons.get(service));
                Err(comparison.map(Comparison::summary).unwrap_or_default())
            }
            None => Err("it has not been observed yet".into()),
        }
    }

    /// Answers at once if it can be told, and else when the proof arrives: whoever asks has given it just now, and the
    /// next segment waits for the answer.
    pub(super) fn confirm_when_proven(
        &mut self,
        node: NodeName,
        service: ServiceName,
        generation: Generation,
        to: Reply<Result<(), String>>,
    ) {
        let answer = self.confirm(&node, &service, generation);
        let held = self.order(&node, &service).is_some_and(|order| order.generation == generation);
        match self.seen.get_mut(&node).filter(|_| held && answer.is_err()) {
            // A newer question takes the place of an older one.
            Some(seen) => drop(seen.unconfirmed.insert(service, (generation, to))),
            None => self.reply(to, Ok(answer)),
        }
    }

    /// Answers who has waited for the proof that has just arrived.
    fn confirm_the_proven(&mut self, node: &NodeName, service: &ServiceName) {
        let Some((generation, to)) = self.seen.get_mut(node).and_then(|seen| seen.unconfirmed.remove(service)) else {
            return;
        };
        // Whoever gave up has asked for the reason already.
        if !to.is_closed() {
            self.confirm_when_proven(node.clone(), service.clone(), generation, to);
        }
    }

    /// What can be said about drift: nothing while a node is being changed, unless the change takes too long.
    fn statement(
        &mut self,
        node: &NodeName,
        service: &ServiceName,
        comparison: &Comparison,
        nobody_points: bool,
        now: Timestamp,
    ) -> Option<Vec<Finding>> {
        let seen = self.seen.get_mut(node)?;
        if comparison.is_settled() {
            seen.unsettled_since.remove(service);
            return Some(comparison.findings.clone());
        }
        let since = *seen.unsettled_since.entry(service.clone()).or_insert(now);
        let found = match &comparison.standing {
            Standing::Behind { .. } if now.since(since) > BEHIND_GRACE => {
                "its agent does not take the order in".to_owned()
            }
            Standing::Working { step, detail } if nobody_points && now.since(since) > WORK_GRACE => {
                format!("still at {step}: {detail}")
            }
            Standing::Behind { .. } | Standing::Working { .. } => return None,
            Standing::Proven { .. } | Standing::Failed { .. } | Standing::Fenced { .. } | Standing::Differs => {
                return None;
            }
        };
        let expected = self.order(node, service).and_then(|order| order.hold.release().cloned());
        let expected = expected.map_or_else(|| "no release".to_owned(), |id| self.catalogue.describe(&id));
        let key = FindingKey {
            node: node.clone(),
            service: Some(service.clone()),
            kind: Kind::Version,
            what: service.to_string(),
        };
        Some(vec![Finding::new(key, expected, found)])
    }
}
