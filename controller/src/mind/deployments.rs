//! Deployments: planned from what is known, driven by what is observed, journaled before anything is said.

use fleet::deployment::plan::{self, Candidate, ORDER_IN_WORDS, Plan, Presence, Request};
use fleet::deployment::{AbortMode, Budget, Deployment, Event, Fact, Kind, OnFailure, Phase, Previous};
use fleet::drift::presence;
use fleet::segments::Segments;
use fleet::{DeploymentId, Generation, Hold, Millis, NodeName, Outcome, ServiceName, Timestamp};
use fleet_proto::{convert, v1};

use super::ask::{Refusal, find_by_prefix};
use super::nodes::random_bits;
use super::state::{Journaled, LIMITS, State};
use crate::records::Change;

/// What one node may take when nothing is said: fetching and a slow start fit into it.
const NODE_DEADLINE: Millis = Millis::from_secs(120);
/// How long an absent node is waited for when nothing is said.
const ABSENT_GRACE: Millis = Millis::from_secs(10);
/// The environment when none is named.
const ENVIRONMENT: &str = "default";
/// The longest message of an operator.
const LONGEST_MESSAGE: usize = 1_000;

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

    fn running(&self) -> impl Iterator<Item = (&DeploymentId, &Journaled)> {
        self.deployments.iter().filter(|(_, journaled)| journaled.deployment.outcome().is_none())
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
            self.ask_everyone(now);
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
            let key = (order.node.clone(), order.service.clone());
            if self.book.get(&key).is_none_or(|held| held.generation < order.generation) {
                self.say_desired(&order.node);
                self.save(Change::Order(order.clone()));
                self.book.insert(key, order);
            }
        }
    }

    /// What a node holds of a service now: the release it was last seen to hold, or else what it was last told to.
    /// A node whose `current` was removed or bent by hand still goes back to what it was told, never to nothing.
    fn held_by(&self, node: &NodeName, service: &ServiceName) -> Previous {
        let seen = self.seen.get(node).and_then(|seen| seen.latest.as_ref());
        let evidence =
            seen.and_then(|attestation| attestation.services.iter().find(|evidence| evidence.service == *service));
        let told = || self.book.get(&(node.clone(), service.clone())).and_then(|order| order.hold.release().cloned());
        let seen = evidence
            .and_then(|evidence| evidence.current.clone())
            .filter(|release| self.releases.contains_key(release));
        match seen.or_else(told).and_then(|id| self.releases.get(&id)) {
            Some(record) => Previous { hold: Self::hold(record), version: Some(record.version.clone()) },
            None => Previous { hold: Hold::Nothing, version: None },
        }
    }

    /// Reads a request and plans it.
    fn plan(
        &self,
        actor: &str,
        request: &v1::DeploymentRequest,
        kind: Kind,
        now: Timestamp,
    ) -> Result<(Request, Plan), Refusal> {
        let record = self.find_release(&request.release)?;
        let descriptor = self
            .catalogue
            .get(&record.id)
            .ok_or_else(|| Refusal::unknown(format!("the bundle of {} is lost", record.id), "upload it again"))?;
        let or = |text: &str, default: &str| if text.is_empty() { default.to_owned() } else { text.to_owned() };
        let span = |ms: u64, default: Millis| if ms == 0 { default } else { Millis(ms.min(fleet::time::LONGEST.0)) };
        let input = |e: convert::ConvertError| Refusal::input(e.to_string(), "see: fleetctl deploy --help");
        let planned = Request {
            service: record.service.clone(),
            environment: or(&request.environment, ENVIRONMENT),
            kind,
            target: Self::hold(record),
            version: record.version.clone(),
            segments: convert::parse::<Segments>("segments", &or(&request.segments, "1")).map_err(input)?,
            max_failures: convert::parse::<Budget>("max_failures", &or(&request.max_failures, "0")).map_err(input)?,
            bake: Millis(request.bake_ms.min(fleet::time::LONGEST.0)),
            node_deadline: span(request.node_deadline_ms, NODE_DEADLINE),
            absent_grace: span(request.absent_grace_ms, ABSENT_GRACE),
            on_failure: convert::parse::<OnFailure>("on_failure", &or(&request.on_failure, "rollback"))
                .map_err(input)?,
            actor: actor.to_owned(),
            message: request.message.chars().take(LONGEST_MESSAGE).collect(),
        };
        let mut names = self.expected_for(&descriptor.nodes);
        for limit in &request.limit {
            if !names.iter().any(|name| name.as_str() == limit) {
                return Err(Refusal::input(
                    format!("'{}' is not an expected node of {}", limit.escape_default(), record.service),
                    "list them: fleetctl nodes list",
                ));
            }
        }
        if !request.limit.is_empty() {
            names.retain(|name| request.limit.iter().any(|limit| limit == name.as_str()));
        }
        let candidates = names.into_iter().map(|node| self.candidate(node, &record.service, now)).collect();
        let plan =
            plan::plan(&planned, candidates).map_err(|e| Refusal::precheck(e.to_string(), "nothing was changed"))?;
        Ok((planned, plan))
    }

    fn candidate(&self, node: NodeName, service: &ServiceName, now: Timestamp) -> Candidate {
        let sight = self.sight(&self.nodes[&node]);
        let finding = presence(&node, &sight, now, LIMITS).into_iter().next();
        let presence = match finding {
            Some(finding) => Presence::Absent(format!("{}, {}", finding.key.kind, finding.found)),
            None if !sight.connected => Presence::Absent("unreachable, no contact".into()),
            None => Presence::Present,
        };
        let holds = self.held_by(&node, service);
        Candidate { node, presence, holds }
    }

    fn busy_with(&self, service: &ServiceName, now: Timestamp) -> Option<Refusal> {
        let (id, journaled) = self.running().find(|(_, journaled)| journaled.deployment.spec().service == *service)?;
        let deployment = &journaled.deployment;
        let spec = deployment.spec();
        let at = match deployment.phase() {
            Phase::Rolling { segment } | Phase::Baking { segment, .. } | Phase::Between { segment } => {
                format!(" (segment {}/{})", segment + 1, spec.segments.len())
            }
            Phase::RollingBack { .. } | Phase::TurningBack { .. } => " (rolling back)".into(),
            Phase::Planned | Phase::Stopped | Phase::Verifying { .. } | Phase::Finished { .. } => String::new(),
        };
        let what = format!(
            "{} deploys {service} {} with {id} since {}{at}",
            spec.actor,
            spec.version,
            now.since(deployment.started_at())
        );
        Some(Refusal::busy(what, format!("wait for it (fleetctl wait {id}) or abort it (fleetctl abort {id})")))
    }

    pub(super) fn plan_view(
        &self,
        actor: &str,
        request: &v1::DeploymentRequest,
        kind: Kind,
        now: Timestamp,
    ) -> Result<v1::Plan, Refusal> {
        let (planned, plan) = self.plan(actor, request, kind, now)?;
        let node = |candidate: &Candidate| {
            let (from_release, from_version) = match (&candidate.holds.hold, &candidate.holds.version) {
                (Hold::Release { release, .. }, version) => {
                    (release.to_string(), version.as_ref().map(ToString::to_string).unwrap_or_default())
                }
                (Hold::Nothing, _) => (String::new(), String::new()),
            };
            let change = match &candidate.holds.hold {
                hold if *hold == planned.target => "same",
                Hold::Nothing => "install",
                Hold::Release { .. } => "change",
            };
            let note = match &candidate.presence {
                Presence::Present => String::new(),
                Presence::Absent(why) => why.clone(),
            };
            v1::PlanNode { node: candidate.node.to_string(), from_release, from_version, change: change.into(), note }
        };
        Ok(v1::Plan {
            service: planned.service.to_string(),
            environment: planned.environment.clone(),
            release: planned.target.release().map(|id| self.release_view(id)),
            segments: plan
                .segments
                .iter()
                .map(|segment| v1::PlanSegment { nodes: segment.iter().map(node).collect() })
                .collect(),
            absent: plan.absent.iter().map(node).collect(),
            order: ORDER_IN_WORDS.into(),
            max_failures: planned.max_failures.to_string(),
            bake_ms: planned.bake.0,
            on_failure: planned.on_failure.as_str().into(),
            to_change: u32::try_from(plan.to_change).unwrap_or(u32::MAX),
            refused: self.busy_with(&planned.service, now).map(|refusal| refusal.what).unwrap_or_default(),
            warnings: plan.warnings,
        })
    }

    pub(super) fn start(
        &mut self,
        actor: &str,
        request: &v1::DeploymentRequest,
        kind: Kind,
        now: Timestamp,
    ) -> Result<v1::Deployment, Refusal> {
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
            let id = DeploymentId::from_random(random_bits().map_err(no_bits)? as u64);
            if !self.deployments.contains_key(&id) {
                break id;
            }
        };
        // Two generations are used up: one forward, one back, so that going back always wins over a late "forward".
        let generation = Generation(self.generation.0 + 1);
        self.generation = Generation(self.generation.0 + 2);
        self.save(Change::Generation(self.generation));
        let spec = plan.into_spec(planned, id.clone(), generation);
        let fact = Fact::Planned { at: now, spec: Box::new(spec) };
        let Some(deployment) = Deployment::planned(&fact) else { return Err(Refusal::stopping()) };
        tracing::info!(deployment = %id, actor, "{fact}");
        self.save(Change::Fact { deployment: id.clone(), index: 0, fact: Box::new(fact.clone()) });
        self.deployments.insert(id.clone(), Journaled { deployment, facts: vec![fact] });
        self.deployment_event(&id, &Event::Tick, now);
        self.deployment_view(&id).ok_or_else(Refusal::stopping)
    }

    /// Fills in which release a rollback goes to.
    pub(super) fn rollback_request(&self, request: v1::RollbackRequest) -> Result<v1::DeploymentRequest, Refusal> {
        let service: ServiceName = convert::parse("service", &request.service)
            .map_err(|e| Refusal::input(e.to_string(), "name a service: fleetctl status"))?;
        let mut options = request.options.unwrap_or_default();
        if !request.to.is_empty() {
            let by_version = self.find_release(&format!("{service}@{}", request.to));
            options.release = by_version.or_else(|_| self.find_release(&request.to))?.id.to_string();
            return Ok(options);
        }
        let current = self.desired_release(&service);
        let mut converged: Vec<_> = self
            .deployments
            .values()
            .filter(|journaled| journaled.deployment.spec().service == service)
            .filter(|journaled| {
                matches!(journaled.deployment.outcome(), Some(Outcome::Converged | Outcome::ConvergedWithWaivers))
            })
            .filter(|journaled| journaled.deployment.spec().target.release() != current.as_ref())
            .collect();
        converged.sort_by_key(|journaled| journaled.deployment.started_at());
        let previous = converged.last().and_then(|journaled| journaled.deployment.spec().target.release());
        match previous {
            Some(release) => options.release = release.to_string(),
            None => {
                let help = format!("name one: fleetctl rollback {service} --to VERSION (fleetctl history {service})");
                return Err(Refusal::unknown(format!("no earlier release of {service} has ever converged"), help));
            }
        }
        Ok(options)
    }

    /// The release that most nodes shall hold.
    pub(super) fn desired_release(&self, service: &ServiceName) -> Option<fleet::ReleaseId> {
        let mut counts = std::collections::BTreeMap::new();
        for order in self.book.values().filter(|order| order.service == *service) {
            if let Some(release) = order.hold.release() {
                *counts.entry(release.clone()).or_insert(0_usize) += 1;
            }
        }
        counts.into_iter().max_by_key(|(_, count)| *count).map(|(release, _)| release)
    }

    pub(super) fn abort(
        &mut self,
        by: &str,
        request: &v1::AbortRequest,
        now: Timestamp,
    ) -> Result<v1::Deployment, Refusal> {
        let id = find_by_prefix(self.deployments.keys(), &request.deployment)?;
        let outcome = self.deployments[&id].deployment.outcome();
        if let Some(outcome) = outcome {
            return Err(Refusal::precheck(format!("{id} is over: {outcome}"), "to go back, use: fleetctl rollback"));
        }
        let mode = if request.leave { AbortMode::Leave } else { AbortMode::RollBack };
        self.deployment_event(&id, &Event::Abort { by: by.to_owned(), mode }, now);
        self.deployment_view(&id).ok_or_else(Refusal::stopping)
    }
}
