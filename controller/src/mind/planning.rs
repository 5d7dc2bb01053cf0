//! Planning: what is known of the fleet is held against what was asked, and becomes a plan. Nothing is changed here.
//! Reading the request is left to `request`, what goes first to `fleet::deployment::plan`, what is shown to `plan_view`.

use std::collections::{BTreeMap, BTreeSet};

use fleet::deployment::plan::{self, Block, Candidate, Plan, Presence, Request};
use fleet::deployment::{Kind, Phase, Previous};
use fleet::drift::{Standing, presence};
use fleet::evidence::Health;
use fleet::sequence::Condition;
use fleet::{DeploymentId, Hold, NodeName, Outcome, PlanId, ReleaseId, ServiceName, Timestamp};
use fleet_proto::{convert, v1};

use super::ask::Refusal;
use super::state::{LIMITS, State};
use crate::random;

impl State {
    /// Reads a request and plans it.
    pub(super) fn plan(
        &self,
        actor: &str,
        request: &v1::DeploymentRequest,
        kind: Kind,
        now: Timestamp,
    ) -> Result<Plan, Refusal> {
        let planned = self.read_request(actor, request, kind, now)?;
        let names = self.selected(&planned, &request.limit)?;
        let mut plan = self.plan_for(&planned, names, now)?;
        if !request.again {
            plan.blocks.extend(self.rolled_back_before(&planned));
        }
        Ok(plan)
    }

    /// The same request planned again, for the same nodes as far as they are still expected.
    pub(super) fn plan_again(&self, plan: &Plan, now: Timestamp) -> Result<Plan, Refusal> {
        let mut names = self.selected(&plan.request, &[])?;
        if !plan.request.limit.is_empty() {
            let limited: BTreeSet<&NodeName> = plan.candidates().map(|candidate| &candidate.node).collect();
            names.retain(|name| limited.contains(name));
        }
        let mut fresh = self.plan_for(&plan.request, names, now)?;
        // Whoever kept the plan knew of it; only what came later is news.
        let since =
            |block: &Block| plan.blocks.contains(block) || self.was_rolled_back_since(&plan.request, plan.made_at);
        fresh.blocks.extend(self.rolled_back_before(&plan.request).filter(since));
        Ok(fresh)
    }

    fn plan_for(&self, request: &Request, names: Vec<NodeName>, now: Timestamp) -> Result<Plan, Refusal> {
        let needs = self.space_for(request);
        let candidates = names.into_iter().map(|node| self.candidate(node, request, needs, now)).collect();
        let id = PlanId::from_random(random::bits().map_err(no_bits)? as u64);
        let parent = self.newest(&request.service, &request.environment);
        plan::plan(request, candidates, id, parent, now)
            .map_err(|e| Refusal::precheck(e.to_string(), "nothing was changed"))
    }

    /// The nodes that the release is meant for, or those of them that are named.
    fn selected(&self, request: &Request, limit: &[String]) -> Result<Vec<NodeName>, Refusal> {
        let descriptor = request
            .target
            .release()
            .and_then(|release| self.catalogue.get(release))
            .ok_or_else(|| Refusal::unknown("the bundle of the release is lost", "upload it again"))?;
        let mut names = self.expected_for(&descriptor.nodes);
        if !limit.is_empty() {
            let expected: BTreeSet<&str> = names.iter().map(NodeName::as_str).collect();
            if let Some(stranger) = limit.iter().find(|limit| !expected.contains(limit.as_str())) {
                return Err(Refusal::input(
                    format!("'{}' is not an expected node of {}", stranger.escape_default(), request.service),
                    "list them: fleetctl nodes list",
                ));
            }
            let limit: BTreeSet<&str> = limit.iter().map(String::as_str).collect();
            names.retain(|name| limit.contains(name.as_str()));
        }
        Ok(names)
    }

    /// The newest deployment of a service and environment.
    pub(super) fn newest(&self, service: &ServiceName, environment: &str) -> Option<DeploymentId> {
        self.deployments
            .iter()
            .map(|(id, journaled)| (id, &journaled.deployment))
            .filter(|(_, d)| d.spec().service == *service && d.spec().environment == environment)
            .max_by_key(|(id, d)| (d.started_at(), *id))
            .map(|(id, _)| id.clone())
    }

    fn candidate(&self, node: NodeName, request: &Request, needs: u64, now: Timestamp) -> Candidate {
        let service = &request.service;
        let record = &self.nodes[&node];
        let sight = self.sight(record);
        let finding = presence(&node, &sight, now, LIMITS).into_iter().next();
        let presence = match finding {
            Some(finding) => Presence::Absent(format!("{}, {}", finding.key.kind, finding.found)),
            None if !sight.connected => Presence::Absent("unreachable, no contact".into()),
            None => Presence::Present,
        };
        let holds = self.held_by(&node, service);
        let condition = self.condition(&node, service, holds.hold == request.target);
        let free = self.seen.get(&node).and_then(|seen| seen.latest.as_ref()).and_then(|latest| latest.disk_free);
        let block = free
            .filter(|free| holds.hold != request.target && *free < needs)
            .map(|free| format!("{} free where releases are kept, and it needs {}", bytes(free), bytes(needs)));
        Candidate { labels: record.labels.clone(), node, presence, condition, holds, block }
    }

    /// Whether a node serves what it holds, by its newest evidence.
    fn condition(&self, node: &NodeName, service: &ServiceName, holds_target: bool) -> Condition {
        let standing = self.seen.get(node).and_then(|seen| seen.comparisons.get(service)).map(|c| &c.standing);
        let healthy = self.evidence(node, service).is_none_or(|evidence| evidence.health == Health::Healthy);
        match standing {
            Some(Standing::Proven { .. }) if !healthy => Condition::Unhealthy,
            Some(Standing::Proven { .. }) if holds_target => Condition::Current,
            Some(Standing::Proven { .. }) => Condition::Old,
            Some(Standing::Failed { .. } | Standing::Fenced { .. } | Standing::Differs) => Condition::Unhealthy,
            // A node that never had the service serves nothing either.
            Some(Standing::Working { .. } | Standing::Behind { .. }) | None => Condition::Unknown,
        }
    }

    /// What a release needs on a node: its bundle, and its files beside those that run.
    fn space_for(&self, request: &Request) -> u64 {
        let Hold::Release { release, size, .. } = &request.target else { return 0 };
        let unpacked = self.catalogue.get(release).map_or(0, |descriptor| descriptor.manifest.unpacked_size());
        size.saturating_add(unpacked)
    }

    /// What a node holds of a service now: the release it was last seen to hold, or else what it was last told to.
    /// A node whose `current` was removed or bent by hand still goes back to what it was told, never to nothing.
    pub(super) fn held_by(&self, node: &NodeName, service: &ServiceName) -> Previous {
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

    /// A release that failed and was rolled back is not silently deployed again.
    fn rolled_back_before(&self, request: &Request) -> Option<Block> {
        let (by, why) = self.rolled_back(request.target.release()?)?;
        Some(Block {
            node: None,
            why: format!("{} {} was rolled back by {by}: {why}", request.service, request.version),
            help: "deploy a corrected release, or this one once more with --again".into(),
        })
    }

    /// Whether the release of a request was rolled back later than that; in any environment, since a release is the same
    /// one everywhere.
    fn was_rolled_back_since(&self, request: &Request, then: Timestamp) -> bool {
        let by = request.target.release().and_then(|release| self.rolled_back(release));
        let phase = by.and_then(|(id, _)| self.deployments.get(&id)).map(|journaled| journaled.deployment.phase());
        matches!(phase, Some(Phase::Finished { at, .. }) if at > then)
    }

    /// The deployment that failed with a release and was rolled back, and why; nothing when it has converged since.
    pub(super) fn rolled_back(&self, release: &ReleaseId) -> Option<(DeploymentId, String)> {
        let ended = self.deployments.iter().filter_map(|(id, journaled)| {
            let deployment = &journaled.deployment;
            let of_release = deployment.spec().target.release() == Some(release);
            let outcome = deployment.outcome().filter(|_| of_release)?;
            let failed = match outcome {
                Outcome::Converged | Outcome::ConvergedWithWaivers => false,
                Outcome::RolledBack => true,
                Outcome::Unproven if deployment.is_turned_back() => true,
                Outcome::Unproven | Outcome::Aborted | Outcome::Superseded => return None,
            };
            Some((deployment.started_at(), id, failed, deployment))
        });
        let (_, id, failed, deployment) = ended.max_by_key(|(at, id, _, _)| (*at, *id))?;
        failed.then(|| (id.clone(), deployment.cause().map(ToString::to_string).unwrap_or_default()))
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

/// The operating system has no random bits: nothing can be named.
pub(super) fn no_bits(error: getrandom::Error) -> Refusal {
    Refusal::precheck(format!("the operating system gives no random bits: {error}"), "look at the controller's host")
}

/// A size for people.
fn bytes(bytes: u64) -> String {
    const MEGA: u64 = 1_000_000;
    match bytes {
        0..MEGA => format!("{:.1} kB", bytes as f64 / 1e3),
        MEGA..1_000_000_000 => format!("{:.1} MB", bytes as f64 / 1e6),
        _ => format!("{:.1} GB", bytes as f64 / 1e9),
    }
}
