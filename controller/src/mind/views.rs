//! What operators are shown: state turned into messages. Nothing is decided here.

use fleet::deployment::{Deployment, NodeState, Phase, SegmentState};
use fleet::drift::{Finding, FindingKey, Kind, Standing};
use fleet::evidence::{Parentage, ServiceEvidence};
use fleet::{DeploymentId, Hold, NodeName, Order, Outcome, ServiceName, Timestamp};
use fleet_proto::v1;

use super::ask::{Ask, Proofs, Refusal, find_by_prefix};
use super::state::State;
use crate::clock;
use crate::records::Change;

/// The most deployments listed at once.
const MOST_LISTED: u32 = 1_000;

impl State {
    /// Answers one question.
    pub(super) fn answer(&mut self, ask: Ask, now: Timestamp) {
        match ask {
            Ask::Version(you, to) => {
                let version = v1::VersionReply {
                    controller_version: env!("CARGO_PKG_VERSION").into(),
                    fleet: self.fleet.clone(),
                    you,
                    started_at_ms: self.started_at.0,
                };
                self.reply(to, Ok(version));
            }
            Ask::AddRelease(by, bundle, size, descriptor, to) => {
                let answer = self.add_release(&by, bundle, size, *descriptor, now);
                self.reply(to, answer);
            }
            Ask::ListReleases(service, to) => {
                let mut records: Vec<_> = self
                    .releases
                    .values()
                    .filter(|record| service.is_empty() || record.service.as_str() == service)
                    .collect();
                records.sort_by_key(|record| std::cmp::Reverse(record.created_at));
                let releases = records.into_iter().map(|record| self.release_view(&record.id)).collect();
                self.reply(to, Ok(releases));
            }
            Ask::GetRelease(name, to) => {
                let answer = self.get_release(&name);
                self.reply(to, answer);
            }
            Ask::Settling(to) => {
                let left = self.settling(now);
                self.reply(to, Ok(left));
            }
            Ask::Plan(actor, request, to) => {
                let answer = self.plan_view(&actor, &request, fleet::deployment::Kind::Rollout, now);
                self.reply(to, answer);
            }
            Ask::Start(actor, request, to) => {
                let answer = self.start(&actor, &request, fleet::deployment::Kind::Rollout, now);
                self.reply(to, answer);
            }
            Ask::PlanRollback(actor, request, to) => {
                let answer = self
                    .rollback_request(request)
                    .and_then(|request| self.plan_view(&actor, &request, fleet::deployment::Kind::Rollback, now));
                self.reply(to, answer);
            }
            Ask::StartRollback(actor, request, to) => {
                let answer = self
                    .rollback_request(request)
                    .and_then(|request| self.start(&actor, &request, fleet::deployment::Kind::Rollback, now));
                self.reply(to, answer);
            }
            Ask::Abort(actor, request, to) => {
                let answer = self.abort(&actor, &request, now);
                self.reply(to, answer);
            }
            Ask::GetDeployment(name, from, to) => {
                let answer = find_by_prefix(self.deployments.keys(), &name).and_then(|id| {
                    let deployment = self.deployment_view(&id).ok_or_else(Refusal::stopping)?;
                    let facts = self.deployments[&id]
                        .facts
                        .iter()
                        .enumerate()
                        .skip(usize::try_from(from).unwrap_or(usize::MAX));
                    let fact = |(index, fact): (usize, &fleet::deployment::Fact)| v1::Fact {
                        index: index as u64,
                        at_ms: fact.at().0,
                        kind: fact.kind().into(),
                        segment: fact.segment().map(|segment| segment as u32),
                        node: fact.node().map(ToString::to_string).unwrap_or_default(),
                        text: fact.to_string(),
                    };
                    Ok((deployment, facts.map(fact).collect()))
                });
                self.reply(to, answer);
            }
            Ask::ListDeployments(service, limit, to) => {
                let limit = if limit == 0 { 20 } else { limit.min(MOST_LISTED) };
                let mut ids: Vec<_> = self
                    .deployments
                    .iter()
                    .filter(|(_, j)| service.is_empty() || j.deployment.spec().service.as_str() == service)
                    .map(|(id, j)| (j.deployment.started_at(), id))
                    .collect();
                ids.sort_by(|a, b| b.cmp(a));
                let views =
                    ids.into_iter().take(limit as usize).filter_map(|(_, id)| self.deployment_view(id)).collect();
                self.reply(to, Ok(views));
            }
            Ask::Status(to) => {
                let status = self.status(now);
                self.reply(to, Ok(status));
            }
            Ask::Round(to) => {
                self.ask_everyone(now);
                self.reply(to, Ok(now));
            }
            Ask::Drift(request, to) => {
                let report = self.drift_report(&request, now);
                self.reply(to, Ok(report));
            }
            Ask::Proofs(service, since, to) => {
                let proofs = self.proofs(&service, since, now);
                self.reply(to, Ok(proofs));
            }
            Ask::ListNodes(to) => {
                let nodes = self.nodes.keys().filter_map(|name| self.node_view(name, now)).collect();
                self.reply(to, Ok(nodes));
            }
            Ask::GetNode(name, to) => {
                let answer = self.get_node(&name, now);
                self.reply(to, answer);
            }
            Ask::RemoveNode(by, name, reason, to) => {
                let answer = self.remove_node(&by, &name, reason, now);
                self.reply(to, answer);
            }
            Ask::ImportNodes(by, request, to) => {
                tracing::info!(by, source = request.source, names = request.nodes.len(), "importing expected nodes");
                let answer = self.import(request);
                self.reply(to, answer);
            }
            Ask::AddToken(record, to) => {
                self.save(Change::Token((*record).clone()));
                self.tokens.insert(record.id.clone(), *record);
                self.reply(to, Ok(()));
            }
            Ask::Join(wish, to) => {
                let answer = self.join(*wish, now);
                self.reply(to, answer);
            }
        }
    }

    pub(super) fn deployment_view(&self, id: &DeploymentId) -> Option<v1::Deployment> {
        let deployment = &self.deployments.get(id)?.deployment;
        let spec = deployment.spec();
        let now = clock::now();
        let (phase, segment) = phase_words(deployment.phase());
        let finished_at = match deployment.phase() {
            Phase::Finished { at, .. } => Some(at.0),
            _ => None,
        };
        let nodes =
            |names: &[NodeName]| names.iter().map(|name| self.deployment_node(deployment, name)).collect::<Vec<_>>();
        let segments = spec.segments.iter().zip(deployment.segments());
        let outcome = deployment.outcome();
        let unproven = match outcome {
            Some(Outcome::Converged | Outcome::ConvergedWithWaivers | Outcome::RolledBack) | None => Vec::new(),
            Some(Outcome::Unproven | Outcome::Aborted) => {
                // A node that was never ordered keeps what it held: it is neither proven nor failed by this deployment.
                let is_unproven = |name: &&NodeName| {
                    !matches!(
                        deployment.nodes().get(*name),
                        Some(NodeState::Verified { .. } | NodeState::Proven { .. } | NodeState::Pending)
                    )
                };
                spec.expected().filter(is_unproven).map(|name| self.deployment_node(deployment, name)).collect()
            }
        };
        let mut previous: Vec<_> = spec.previous.values().filter_map(|previous| previous.version.as_ref()).collect();
        previous.sort();
        previous.dedup();
        Some(v1::Deployment {
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
        })
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

    fn evidence(&self, node: &NodeName, service: &ServiceName) -> Option<&ServiceEvidence> {
        self.seen.get(node)?.latest.as_ref()?.services.iter().find(|evidence| evidence.service == *service)
    }

    fn status(&self, now: Timestamp) -> v1::StatusReply {
        let mut services: Vec<&ServiceName> = self
            .book
            .keys()
            .map(|(_, service)| service)
            .chain(self.deployments.values().map(|j| &j.deployment.spec().service))
            .collect();
        services.sort();
        services.dedup();
        let rows = services.into_iter().map(|service| self.service_status(service, now)).collect();
        let ready =
            self.nodes.keys().filter_map(|name| self.node_view(name, now)).filter(|node| node.state == "ready").count();
        v1::StatusReply { services: rows, nodes: self.nodes.len() as u32, nodes_ready: ready as u32 }
    }

    fn service_status(&self, service: &ServiceName, now: Timestamp) -> v1::ServiceStatus {
        let orders: Vec<&Order> =
            self.book.values().filter(|order| order.service == *service && order.hold != Hold::Nothing).collect();
        let last = self
            .deployments
            .iter()
            .filter(|(_, j)| j.deployment.spec().service == *service)
            .max_by_key(|(_, j)| j.deployment.started_at());
        let release = self.desired_release(service);
        let version = release
            .as_ref()
            .and_then(|id| self.releases.get(id))
            .map(|record| record.version.to_string())
            .unwrap_or_default();
        let findings = self.ledger.open().filter(|open| open.finding.key.service.as_ref() == Some(service)).count();
        let silent = orders.iter().filter(|order| !self.is_fresh(&order.node, now)).count();
        let running = last.is_some_and(|(_, j)| j.deployment.outcome().is_none());
        let mixed = orders.iter().any(|order| order.hold.release() != release.as_ref());
        let state = match (running, mixed, findings + silent) {
            (true, _, _) => "deploying",
            (false, true, _) => "mixed",
            (false, false, 0) => "ok",
            (false, false, _) => "drifted",
        };
        let proven = |order: &&&Order| self.is_fresh(&order.node, now) && self.is_proven(&order.node, service);
        v1::ServiceStatus {
            service: service.to_string(),
            environment: last.map(|(_, j)| j.deployment.spec().environment.clone()).unwrap_or_default(),
            version,
            release: release.map(|id| id.to_string()).unwrap_or_default(),
            nodes_proven: orders.iter().filter(proven).count() as u32,
            nodes_expected: orders.len() as u32,
            state: state.into(),
            findings: findings as u32,
            last: last.and_then(|(id, _)| self.deployment_view(id)),
        }
    }

    /// Whether a node has been observed lately: only then may anything good be said of it.
    fn is_fresh(&self, node: &NodeName, now: Timestamp) -> bool {
        let observed = self.seen.get(node).and_then(|seen| seen.last_observation);
        observed.is_some_and(|at| now.since(at) <= super::state::LIMITS.stale)
    }

    fn is_proven(&self, node: &NodeName, service: &ServiceName) -> bool {
        let comparison = self.seen.get(node).and_then(|seen| seen.comparisons.get(service));
        comparison.is_some_and(|comparison| matches!(comparison.standing, Standing::Proven { .. }))
    }

    fn node_view(&self, name: &NodeName, now: Timestamp) -> Option<v1::Node> {
        let record = self.nodes.get(name)?;
        let seen = self.seen.get(name);
        let findings: Vec<_> = self.ledger.open().filter(|open| open.finding.key.node == *name).collect();
        let has = |kind| findings.iter().any(|open| open.finding.key.kind == kind);
        let deploying =
            self.deployments.values().any(|j| j.deployment.is_pointing_at(name, &j.deployment.spec().service));
        let fenced = seen.is_some_and(|seen| {
            seen.comparisons.values().any(|comparison| matches!(comparison.standing, Standing::Fenced { .. }))
        });
        let unsettled = seen.is_some_and(|seen| seen.comparisons.values().any(|comparison| !comparison.is_settled()));
        let state = match () {
            () if record.enrolled.is_none() => "unmanaged",
            () if has(Kind::Unreachable) || seen.is_none_or(|seen| seen.link.is_none()) => "unreachable",
            () if deploying => "deploying",
            () if fenced => "fenced",
            () if findings.is_empty() && unsettled => "working",
            () if !findings.is_empty() => "drifted",
            () if !self.is_fresh(name, now) => "unobserved",
            () => "ready",
        };
        let mut origins = Vec::new();
        if record.enrolled.is_some() {
            origins.push("enrolled".to_owned());
        }
        origins.extend(record.imported_from.as_ref().map(|source| format!("inventory {source}")));
        Some(v1::Node {
            name: name.to_string(),
            state: state.into(),
            labels: record.labels.clone().into_iter().collect(),
            origins,
            agent_version: seen.map(|seen| seen.agent_version.clone()).unwrap_or_default(),
            last_contact_ms: seen.and_then(|seen| seen.last_contact).map(|at| at.0),
            last_observation_ms: seen.and_then(|seen| seen.last_observation).map(|at| at.0),
            services: self
                .book
                .values()
                .filter(|order| order.node == *name)
                .map(|order| self.node_service(order, now))
                .collect(),
            findings: findings.len() as u32,
            certificate_serial: record.enrolled.as_ref().map(|enrolled| enrolled.serial.clone()).unwrap_or_default(),
            certificate_not_after_ms: record.enrolled.as_ref().map(|enrolled| enrolled.not_after.0),
        })
    }

    fn node_service(&self, order: &Order, now: Timestamp) -> v1::NodeService {
        let version = |release: Option<&fleet::ReleaseId>| {
            release.and_then(|id| self.releases.get(id)).map(|record| record.version.to_string()).unwrap_or_default()
        };
        let current = self.evidence(&order.node, &order.service).and_then(|evidence| evidence.current.as_ref());
        let standing = self
            .seen
            .get(&order.node)
            .and_then(|seen| seen.comparisons.get(&order.service))
            .map(|comparison| &comparison.standing);
        let (state, grade) = match standing {
            _ if !self.is_fresh(&order.node, now) => ("unobserved", String::new()),
            Some(Standing::Proven { grade, .. }) => ("proven", grade.to_string()),
            Some(Standing::Working { .. }) => ("working", String::new()),
            Some(Standing::Behind { .. }) => ("behind", String::new()),
            Some(Standing::Failed { .. }) => ("failed", String::new()),
            Some(Standing::Fenced { .. }) => ("fenced", String::new()),
            Some(Standing::Differs) => ("differs", String::new()),
            None => ("unobserved", String::new()),
        };
        v1::NodeService {
            service: order.service.to_string(),
            version: version(current),
            release: current.map(ToString::to_string).unwrap_or_default(),
            generation: order.generation.0,
            state: state.into(),
            grade,
            desired_release: order.hold.release().map(ToString::to_string).unwrap_or_default(),
            desired_version: version(order.hold.release()),
        }
    }

    fn get_node(&self, name: &str, now: Timestamp) -> Result<v1::GetNodeReply, Refusal> {
        let unknown = || {
            Refusal::unknown(format!("there is no node '{}'", name.escape_default()), "list them: fleetctl nodes list")
        };
        let name: NodeName = name.parse().map_err(|_| unknown())?;
        let node = self.node_view(&name, now).ok_or_else(unknown)?;
        let findings = self
            .ledger
            .open()
            .filter(|open| open.finding.key.node == name)
            .map(|open| finding_view(&open.finding, open.since))
            .collect();
        let proofs = self
            .book
            .values()
            .filter(|order| order.node == name)
            .filter_map(|order| self.proof(order, Timestamp(0), now))
            .collect();
        Ok(v1::GetNodeReply { node: Some(node), findings, proofs })
    }

    fn drift_report(&self, request: &v1::DriftRequest, now: Timestamp) -> v1::DriftReport {
        let asked =
            |node: &NodeName| request.nodes.is_empty() || request.nodes.iter().any(|name| name == node.as_str());
        let concerns = |key: &FindingKey| {
            request.service.is_empty() || key.service.as_ref().is_none_or(|service| service.as_str() == request.service)
        };
        let findings: Vec<_> =
            self.ledger.open().filter(|open| asked(&open.finding.key.node) && concerns(&open.finding.key)).collect();
        let nodes: Vec<_> = self.nodes.keys().filter(|node| asked(node)).collect();
        let is_away = |node: &NodeName| {
            findings.iter().any(|open| {
                open.finding.key.node == *node && matches!(open.finding.key.kind, Kind::Unreachable | Kind::Unmanaged)
            })
        };
        let away = nodes.iter().filter(|node| is_away(node)).count();
        let drifted = nodes
            .iter()
            .filter(|node| !is_away(node) && findings.iter().any(|open| open.finding.key.node == ***node))
            .count();
        let observed = |node: &&&NodeName| self.seen.get(**node).and_then(|seen| seen.last_observation);
        let unobserved: Vec<_> =
            nodes.iter().filter(|node| observed(node).is_none()).map(ToString::to_string).collect();
        let fresh = |node: &&&NodeName| !is_away(node) && observed(node).is_some();
        let oldest = nodes.iter().filter(fresh).filter_map(|node| observed(&node)).min();
        let clean = nodes.len() - away - drifted;
        let clean_unobserved = nodes
            .iter()
            .filter(|node| observed(node).is_none() && !findings.iter().any(|open| open.finding.key.node == ***node))
            .count();
        v1::DriftReport {
            made_at_ms: now.0,
            findings: findings.iter().map(|open| finding_view(&open.finding, open.since)).collect(),
            nodes: nodes.len() as u32,
            compliant: (clean - clean_unobserved) as u32,
            drifted: drifted as u32,
            unreachable: away as u32,
            oldest_observation_ms: oldest.map(|at| now.since(at).0),
            unobserved,
        }
    }

    /// Proofs asked for at `since` or later; whoever has no such proof is a finding, whatever the ledger says.
    fn proofs(&self, service: &str, since: Timestamp, now: Timestamp) -> Proofs {
        let mut answer = Proofs { proofs: Vec::new(), findings: Vec::new(), outstanding: Vec::new() };
        let concerns =
            |key: &FindingKey| service.is_empty() || key.service.as_ref().is_none_or(|name| name.as_str() == service);
        answer.findings.extend(
            self.ledger
                .open()
                .filter(|open| concerns(&open.finding.key))
                .map(|open| finding_view(&open.finding, open.since)),
        );
        for order in self.book.values().filter(|order| service.is_empty() || order.service.as_str() == service) {
            if let Some(proof) = self.proof(order, since, now) {
                answer.proofs.push(proof);
                continue;
            }
            let seen = self.seen.get(&order.node);
            let observed = seen.and_then(|seen| seen.last_observation).is_some_and(|at| at >= since);
            let settled = seen
                .and_then(|seen| seen.comparisons.get(&order.service))
                .is_some_and(|comparison| comparison.is_settled());
            if seen.is_some_and(|seen| seen.link.is_some())
                && !(observed && settled)
                && !answer.outstanding.contains(&order.node)
            {
                answer.outstanding.push(order.node.clone());
            }
            if order.hold == Hold::Nothing && observed {
                continue;
            }
            let known = answer.findings.iter().any(|finding| finding.node == order.node.as_str());
            if !known {
                let key = FindingKey {
                    node: order.node.clone(),
                    service: Some(order.service.clone()),
                    kind: Kind::Stale,
                    what: "observation".into(),
                };
                let found = if observed { "the agent is still at work" } else { "no answer in this round" };
                answer
                    .findings
                    .push(finding_view(&Finding { key, expected: "a fresh proof".into(), found: found.into() }, now));
            }
        }
        answer
    }

    fn proof(&self, order: &Order, since: Timestamp, now: Timestamp) -> Option<v1::Proof> {
        let seen = self.seen.get(&order.node)?;
        let observed = seen.last_observation.filter(|at| *at >= since)?;
        let Standing::Proven { grade, .. } = seen.comparisons.get(&order.service)?.standing else { return None };
        let Hold::Release { release, bundle, .. } = &order.hold else { return None };
        let attestation = seen.latest.as_ref()?;
        let evidence = attestation.services.iter().find(|evidence| evidence.service == order.service)?;
        let own = |process: &&fleet::evidence::Process| process.parentage == Parentage::Supervised;
        let running = evidence
            .processes
            .iter()
            .find(own)
            .and_then(|process| process.executable.digest)
            .filter(|_| grade == fleet::release::Grade::Digest);
        Some(v1::Proof {
            node: order.node.to_string(),
            service: order.service.to_string(),
            release: release.to_string(),
            version: self.releases.get(release).map(|record| record.version.to_string()).unwrap_or_default(),
            digest: running.unwrap_or(*bundle).to_string(),
            grade: grade.to_string(),
            age_ms: now.since(observed).0,
            processes: evidence.processes.len() as u32,
            nonce: attestation.nonce.as_str().to_owned(),
        })
    }
}

fn finding_view(finding: &Finding, since: Timestamp) -> v1::Finding {
    v1::Finding {
        node: finding.key.node.to_string(),
        service: finding.key.service.as_ref().map(ToString::to_string).unwrap_or_default(),
        kind: finding.key.kind.to_string(),
        what: finding.key.what.clone(),
        expected: finding.expected.clone(),
        found: finding.found.clone(),
        since_ms: since.0,
        severity: finding.key.kind.severity().as_str().into(),
    }
}

fn phase_words(phase: Phase) -> (&'static str, Option<usize>) {
    match phase {
        Phase::Planned => ("planned", None),
        Phase::Rolling { segment } => ("rolling", Some(segment)),
        Phase::Baking { segment, .. } | Phase::Between { segment } => ("baking", Some(segment)),
        Phase::TurningBack { segment } => ("rolling-back", segment),
        Phase::RollingBack { segment } => ("rolling-back", Some(segment)),
        Phase::Stopped | Phase::Verifying { .. } => ("verifying", None),
        Phase::Finished { .. } => ("finished", None),
    }
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
        _ if failed => "failed",
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
