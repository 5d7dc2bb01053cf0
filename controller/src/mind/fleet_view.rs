//! What operators are shown of the fleet as a whole: its services at a glance, its nodes one by one.

use std::collections::BTreeSet;

use fleet::drift::{FindingKey, Kind, Standing};
use fleet::evidence::ServiceEvidence;
use fleet::looked::Depth;
use fleet::{Hold, NodeName, Order, ReleaseId, ServiceName, Timestamp};
use fleet_proto::v1;

use super::ask::{Actor, Refusal};
use super::state::{LIMITS, State};

impl State {
    /// The controller and its fleet, by name.
    pub(super) fn version(&self, you: Actor) -> v1::VersionReply {
        v1::VersionReply {
            controller_version: env!("CARGO_PKG_VERSION").into(),
            fleet: self.fleet.clone(),
            you,
            started_at_ms: self.started_at.0,
        }
    }

    /// The fleet at a glance.
    pub(super) fn status(&self, now: Timestamp) -> v1::StatusReply {
        let services: BTreeSet<&ServiceName> = self
            .orders()
            .map(|order| &order.service)
            .chain(self.deployments.values().map(|j| &j.deployment.spec().service))
            .collect();
        let rows = services.into_iter().map(|service| self.service_status(service, now)).collect();
        let ready =
            self.nodes.keys().filter_map(|name| self.node_view(name, now)).filter(|node| node.state == "ready").count();
        v1::StatusReply { services: rows, nodes: self.nodes.len() as u32, nodes_ready: ready as u32 }
    }

    fn service_status(&self, service: &ServiceName, now: Timestamp) -> v1::ServiceStatus {
        let orders: Vec<&Order> =
            self.orders().filter(|order| order.service == *service && order.hold != Hold::Nothing).collect();
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
        let of_service = |key: &FindingKey| key.service.as_ref() == Some(service) && !self.is_of_decoy(key);
        let findings = self.ledger.open().filter(|open| of_service(&open.finding.key)).count();
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
            last: last.map(|(id, j)| self.show(id, &j.deployment, now)),
        }
    }

    /// Whether a node has been observed lately: only then may anything good be said of it.
    fn is_fresh(&self, node: &NodeName, now: Timestamp) -> bool {
        let observed = self.seen.get(node).and_then(|seen| seen.last_observation);
        observed.is_some_and(|at| now.since(at) <= LIMITS.stale)
    }

    fn is_proven(&self, node: &NodeName, service: &ServiceName) -> bool {
        let comparison = self.seen.get(node).and_then(|seen| seen.comparisons.get(service));
        comparison.is_some_and(|comparison| matches!(comparison.standing, Standing::Proven { .. }))
    }

    /// One node of the roster.
    pub(super) fn node_view(&self, name: &NodeName, now: Timestamp) -> Option<v1::Node> {
        let record = self.nodes.get(name)?;
        let seen = self.seen.get(name);
        let of_node = |key: &FindingKey| key.node == *name && !self.is_of_decoy(key);
        let findings: Vec<_> = self.ledger.open().filter(|open| of_node(&open.finding.key)).collect();
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
            services: self.orders_of(name).map(|order| self.node_service(order, now)).collect(),
            findings: findings.len() as u32,
            certificate_serial: record.enrolled.as_ref().map(|enrolled| enrolled.serial.clone()).unwrap_or_default(),
            certificate_not_after_ms: record.enrolled.as_ref().map(|enrolled| enrolled.not_after.0),
            selftest: seen.is_some_and(|seen| seen.volunteers),
        })
    }

    fn node_service(&self, order: &Order, now: Timestamp) -> v1::NodeService {
        let version = |release: Option<&ReleaseId>| {
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

    /// One node by name, with its findings and proofs.
    pub(super) fn get_node(&self, name: &str, now: Timestamp) -> Result<v1::GetNodeReply, Refusal> {
        let unknown = || {
            Refusal::unknown(format!("there is no node '{}'", name.escape_default()), "list them: fleetctl nodes list")
        };
        let name: NodeName = name.parse().map_err(|_| unknown())?;
        let node = self.node_view(&name, now).ok_or_else(unknown)?;
        let findings = self
            .ledger
            .open()
            .filter(|open| open.finding.key.node == name)
            .map(|open| self.finding_view(open, now))
            .collect();
        let proofs =
            self.orders_of(&name).filter_map(|order| self.proof(order, Timestamp(0), Depth::Events, now)).collect();
        let latest = self.seen.get(&name).and_then(|seen| seen.latest.as_ref());
        let seen = latest.into_iter().flat_map(|latest| &latest.services).map(seen).collect();
        Ok(v1::GetNodeReply { node: Some(node), findings, proofs, seen })
    }
}

fn seen(evidence: &ServiceEvidence) -> v1::Seen {
    let basis = match evidence.looked.basis {
        Depth::Events => "events",
        Depth::Sweep => "sweep",
        Depth::Hash => "hash",
    };
    v1::Seen {
        service: evidence.service.to_string(),
        basis: basis.into(),
        swept_ms: evidence.looked.swept.0,
        hashed_ms: evidence.looked.hashed.map(|age| age.0),
        unwatched: evidence.looked.unwatched.clone().unwrap_or_default(),
        processes: evidence.processes.len() as u32,
        hidden: evidence.hidden,
        outside: evidence.outside.iter().cloned().map(Into::into).collect(),
        outside_omitted: evidence.outside_omitted,
    }
}
