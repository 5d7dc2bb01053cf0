//! Planning: a request is read, held against what is known of the fleet, and either refused with a reason or turned
//! into a plan. Nothing is changed here; what goes first is `fleet::deployment::plan`'s to say.

use std::collections::{BTreeMap, BTreeSet};

use fleet::deployment::plan::{self, Candidate, ORDER_IN_WORDS, Plan, Presence, Request};
use fleet::deployment::{Budget, Kind, OnFailure, Phase, Previous};
use fleet::drift::presence;
use fleet::segments::Segments;
use fleet::{Hold, Millis, NodeName, Outcome, ReleaseId, ServiceName, Timestamp};
use fleet_proto::{convert, v1};

use super::ask::Refusal;
use super::state::{LIMITS, State};

/// What one node may take when nothing is said: fetching and a slow start fit into it.
const NODE_DEADLINE: Millis = Millis::from_secs(120);
/// How long an absent node is waited for when nothing is said.
const ABSENT_GRACE: Millis = Millis::from_secs(10);
/// The environment when none is named.
const ENVIRONMENT: &str = "default";
/// The longest message of an operator.
const LONGEST_MESSAGE: usize = 1_000;

impl State {
    /// Reads a request and plans it.
    pub(super) fn plan(
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
        if !request.limit.is_empty() {
            let expected: BTreeSet<&str> = names.iter().map(NodeName::as_str).collect();
            if let Some(stranger) = request.limit.iter().find(|limit| !expected.contains(limit.as_str())) {
                return Err(Refusal::input(
                    format!("'{}' is not an expected node of {}", stranger.escape_default(), record.service),
                    "list them: fleetctl nodes list",
                ));
            }
            let limit: BTreeSet<&str> = request.limit.iter().map(String::as_str).collect();
            names.retain(|name| limit.contains(name.as_str()));
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

    /// What a node holds of a service now: the release it was last seen to hold, or else what it was last told to.
    /// A node whose `current` was removed or bent by hand still goes back to what it was told, never to nothing.
    fn held_by(&self, node: &NodeName, service: &ServiceName) -> Previous {
        let told = || self.order(node, service).and_then(|order| order.hold.release().cloned());
        let seen = self
            .evidence(node, service)
            .and_then(|evidence| evidence.current.clone())
            .filter(|release| self.releases.contains_key(release));
        match seen.or_else(told).and_then(|id| self.releases.get(&id)) {
            Some(record) => Previous { hold: Self::hold(record), version: Some(record.version.clone()) },
            None => Previous { hold: Hold::Nothing, version: None },
        }
    }

    /// The deployment of this service that is running, as a refusal.
    pub(super) fn busy_with(&self, service: &ServiceName, now: Timestamp) -> Option<Refusal> {
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

    /// What a deployment would do, for people.
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
    pub(super) fn desired_release(&self, service: &ServiceName) -> Option<ReleaseId> {
        let mut counts = BTreeMap::new();
        for order in self.orders().filter(|order| order.service == *service) {
            if let Some(release) = order.hold.release() {
                *counts.entry(release.clone()).or_insert(0_usize) += 1;
            }
        }
        counts.into_iter().max_by_key(|(_, count)| *count).map(|(release, _)| release)
    }
}
