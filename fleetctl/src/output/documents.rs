//! The JSON documents of `-o json`: `{"apiVersion":"fleet/v1","kind":…}`, camelCase, times in RFC 3339 UTC. Fields are
//! only ever added. This is the one place where wire messages become documents; programs depend on what it writes.

use std::collections::BTreeMap;

use fleet_proto::v1;
use serde::Serialize;

use super::text::rfc3339;
use crate::config::{self, ConfigFile};

/// The version of every document.
const API_VERSION: &str = "fleet/v1";

/// The version of the event stream's format (`-o jsonl`); a major bump only when it breaks readers.
pub const STREAM_FORMAT: &str = "1.0";

/// A document: its version, its kind, and its own fields beside them.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Document<T: Serialize> {
    api_version: &'static str,
    kind: &'static str,
    #[serde(flatten)]
    body: T,
}

/// A document as one JSON text with a line end.
pub fn document<T: Serialize>(kind: &'static str, body: T) -> String {
    line(&Document { api_version: API_VERSION, kind, body })
}

/// Any value as one line of JSON.
pub fn line<T: Serialize>(value: &T) -> String {
    // These types have no maps with keys that are not text, the only thing that can fail.
    serde_json::to_string(value).unwrap_or_default() + "\n"
}

/// A list document's body.
#[derive(Debug, Serialize)]
pub struct Items<T> {
    /// The things listed.
    pub items: Vec<T>,
}

impl<T> Items<T> {
    /// Maps messages to a list.
    pub fn of<M>(messages: Vec<M>) -> Self
    where
        T: From<M>,
    {
        Self { items: messages.into_iter().map(T::from).collect() }
    }
}

fn some(text: String) -> Option<String> {
    Some(text).filter(|t| !t.is_empty())
}

fn sorted(map: std::collections::HashMap<String, String>) -> BTreeMap<String, String> {
    map.into_iter().collect()
}

macro_rules! documents {
    ($($(#[$doc:meta])* $name:ident { $($field:ident: $type:ty),* $(,)? })*) => {$(
        $(#[$doc])*
        #[derive(Debug, Clone, Serialize)]
        #[serde(rename_all = "camelCase")]
        #[allow(missing_docs)] // The fields are those of the message with the same name in operator.proto.
        pub struct $name { $(pub $field: $type),* }
    )*};
}

documents! {
    /// A release.
    Release { id: String, service: String, version: String, bundle: String, bundle_size: u64, files: u32, unpacked_size: u64, created_at: String, created_by: Option<String> }
    /// A release, what its bundle says, and who holds it.
    ReleaseDetail { release: Release, descriptor: serde_json::Value, held_by: Vec<String> }
    /// What a deployment would do.
    Plan { service: String, environment: String, release: Option<Release>, segments: Vec<PlanSegment>, absent: Vec<PlanNode>, order: String, max_failures: String, bake_ms: u64, on_failure: String, to_change: u32, refused: Option<String>, warnings: Vec<String> }
    /// One segment of a plan.
    PlanSegment { nodes: Vec<PlanNode> }
    /// One node of a plan.
    PlanNode { node: String, from_release: Option<String>, from_version: Option<String>, change: String, note: Option<String> }
    /// A deployment as it stands or ended.
    Deployment { id: String, direction: String, service: String, environment: String, release: Option<Release>, previous_version: Option<String>, phase: String, segment: Option<u32>, segments: Vec<DeploymentSegment>, absent: Vec<DeploymentNode>, outcome: Option<String>, exit_code: Option<u32>, started_at: String, finished_at: Option<String>, started_by: String, message: Option<String>, waiting_on: Option<String>, cause: Option<String>, unproven: Vec<DeploymentNode>, facts: u64, max_failures: String, bake_ms: u64, on_failure: String }
    /// One segment of a deployment.
    DeploymentSegment { state: String, started_at: Option<String>, ended_at: Option<String>, nodes: Vec<DeploymentNode> }
    /// One node of a deployment.
    DeploymentNode { node: String, state: String, detail: Option<String>, grade: Option<String>, since: Option<String>, holds: Option<String> }
    /// One fact of a deployment, as an event.
    Fact { index: u64, at: String, fact: String, segment: Option<u32>, node: Option<String>, text: String }
    /// Every service.
    Status { nodes: u32, nodes_ready: u32, items: Vec<ServiceStatus> }
    /// One service.
    ServiceStatus { service: String, environment: String, version: Option<String>, release: Option<String>, nodes_proven: u32, nodes_expected: u32, state: String, findings: u32, last: Option<Deployment> }
    /// A drift report.
    DriftReport { made_at: String, fresh: bool, unknown: Option<String>, oldest_observation_ms: Option<u64>, unobserved: Vec<String>, mixed: Vec<String>, summary: DriftSummary, items: Vec<Finding> }
    /// Its numbers.
    DriftSummary { nodes: u32, compliant: u32, drifted: u32, unreachable: u32, findings: usize }
    /// One finding.
    Finding { node: String, service: Option<String>, kind: String, what: String, expected: Option<String>, found: Option<String>, severity: String, first_seen: String }
    /// What every node proved.
    VerifyReport { made_at: String, proofs: Vec<Proof>, findings: Vec<Finding> }
    /// One proof.
    Proof { node: String, service: String, release: Option<String>, version: Option<String>, digest: Option<String>, grade: String, age_ms: u64, processes: u32, nonce: Option<String> }
    /// A node.
    Node { name: String, state: String, labels: BTreeMap<String, String>, origins: Vec<String>, agent_version: Option<String>, last_contact: Option<String>, last_observation: Option<String>, services: Vec<NodeService>, findings: u32, certificate_serial: Option<String>, certificate_not_after: Option<String> }
    /// A service on a node.
    NodeService { service: String, version: Option<String>, release: Option<String>, generation: u64, state: String, grade: Option<String>, desired_release: Option<String>, desired_version: Option<String> }
    /// A node with what was found on it and what it proved.
    NodeDetail { node: Node, findings: Vec<Finding>, proofs: Vec<Proof> }
    /// What an import changed.
    NodeImport { added: Vec<String>, known: Vec<String>, not_listed: Vec<String> }
    /// What a removal changed.
    NodeRemoval { name: String, findings_closed: u32, was_connected: bool }
    /// A new join token.
    Token { token: String, expires_at: String, uses: u32 }
    /// A context: a fleet, and who the operator is there.
    Context { name: String, current: bool, controller: String, server_name: Option<String>, ca: String, cert: String, key: String, confirm: bool }
    /// What a load through the balancer met.
    LoadReport { sent: u64, ok: u64, failed: u64, first_failures: Vec<String>, by_version: BTreeMap<String, u64>, by_server: BTreeMap<String, u64>, p50_us: u64, p99_us: u64 }
    /// Who is at both ends.
    Version { fleetctl: String, controller: Option<String>, fleet: Option<String>, you: Option<String>, started_at: Option<String> }
}

impl From<v1::Release> for Release {
    fn from(m: v1::Release) -> Self {
        Self {
            id: m.id,
            service: m.service,
            version: m.version,
            bundle: m.bundle,
            bundle_size: m.bundle_size,
            files: m.files,
            unpacked_size: m.unpacked_size,
            created_at: rfc3339(m.created_at_ms),
            created_by: some(m.created_by),
        }
    }
}

impl From<v1::Plan> for Plan {
    fn from(m: v1::Plan) -> Self {
        Self {
            service: m.service,
            environment: m.environment,
            release: m.release.map(Release::from),
            segments: m.segments.into_iter().map(|s| PlanSegment { nodes: Items::of(s.nodes).items }).collect(),
            absent: Items::of(m.absent).items,
            order: m.order,
            max_failures: m.max_failures,
            bake_ms: m.bake_ms,
            on_failure: m.on_failure,
            to_change: m.to_change,
            refused: some(m.refused),
            warnings: m.warnings,
        }
    }
}

impl From<v1::PlanNode> for PlanNode {
    fn from(m: v1::PlanNode) -> Self {
        Self {
            node: m.node,
            from_release: some(m.from_release),
            from_version: some(m.from_version),
            change: m.change,
            note: some(m.note),
        }
    }
}

impl From<v1::Deployment> for Deployment {
    fn from(m: v1::Deployment) -> Self {
        let outcome = some(m.outcome);
        Self {
            id: m.id,
            direction: m.kind,
            service: m.service,
            environment: m.environment,
            release: m.release.map(Release::from),
            previous_version: some(m.previous_version),
            phase: m.phase,
            segment: m.segment,
            segments: m
                .segments
                .into_iter()
                .map(|s| DeploymentSegment {
                    state: s.state,
                    started_at: s.started_at_ms.map(rfc3339),
                    ended_at: s.ended_at_ms.map(rfc3339),
                    nodes: Items::of(s.nodes).items,
                })
                .collect(),
            absent: Items::of(m.absent).items,
            // While it runs there is no exit code, and 0 would read as success.
            exit_code: outcome.as_ref().map(|_| m.exit_code),
            outcome,
            started_at: rfc3339(m.started_at_ms),
            finished_at: m.finished_at_ms.map(rfc3339),
            started_by: m.started_by,
            message: some(m.message),
            waiting_on: some(m.waiting_on),
            cause: some(m.cause),
            unproven: Items::of(m.unproven).items,
            facts: m.facts,
            max_failures: m.max_failures,
            bake_ms: m.bake_ms,
            on_failure: m.on_failure,
        }
    }
}

impl From<v1::DeploymentNode> for DeploymentNode {
    fn from(m: v1::DeploymentNode) -> Self {
        Self {
            node: m.node,
            state: m.state,
            detail: some(m.detail),
            grade: some(m.grade),
            since: (m.since_ms > 0).then(|| rfc3339(m.since_ms)),
            holds: some(m.holds),
        }
    }
}

impl From<v1::Fact> for Fact {
    fn from(m: v1::Fact) -> Self {
        Self {
            index: m.index,
            at: rfc3339(m.at_ms),
            fact: m.kind,
            segment: m.segment,
            node: some(m.node),
            text: m.text,
        }
    }
}

impl From<v1::StatusReply> for Status {
    fn from(m: v1::StatusReply) -> Self {
        Self { nodes: m.nodes, nodes_ready: m.nodes_ready, items: Items::of(m.services).items }
    }
}

impl From<v1::ServiceStatus> for ServiceStatus {
    fn from(m: v1::ServiceStatus) -> Self {
        Self {
            service: m.service,
            environment: m.environment,
            version: some(m.version),
            release: some(m.release),
            nodes_proven: m.nodes_proven,
            nodes_expected: m.nodes_expected,
            state: m.state,
            findings: m.findings,
            last: m.last.map(Deployment::from),
        }
    }
}

impl DriftReport {
    /// A report, with the reason if it does not say anything about now, and the services whose nodes shall hold
    /// different releases.
    pub fn new(m: v1::DriftReport, unknown: Option<String>, mixed: Vec<String>) -> Self {
        let summary = DriftSummary {
            nodes: m.nodes,
            compliant: m.compliant,
            drifted: m.drifted,
            unreachable: m.unreachable,
            findings: m.findings.len(),
        };
        Self {
            made_at: rfc3339(m.made_at_ms),
            fresh: unknown.is_none(),
            unknown,
            oldest_observation_ms: m.oldest_observation_ms,
            unobserved: m.unobserved,
            mixed,
            summary,
            items: Items::of(m.findings).items,
        }
    }
}

impl From<v1::Finding> for Finding {
    fn from(m: v1::Finding) -> Self {
        Self {
            node: m.node,
            service: some(m.service),
            kind: m.kind,
            what: m.what,
            expected: some(m.expected),
            found: some(m.found),
            severity: m.severity,
            first_seen: rfc3339(m.since_ms),
        }
    }
}

impl From<v1::VerifyReply> for VerifyReport {
    fn from(m: v1::VerifyReply) -> Self {
        Self {
            made_at: rfc3339(m.made_at_ms),
            proofs: Items::of(m.proofs).items,
            findings: Items::of(m.findings).items,
        }
    }
}

impl From<v1::Proof> for Proof {
    fn from(m: v1::Proof) -> Self {
        Self {
            node: m.node,
            service: m.service,
            release: some(m.release),
            version: some(m.version),
            digest: some(m.digest),
            grade: m.grade,
            age_ms: m.age_ms,
            processes: m.processes,
            nonce: some(m.nonce),
        }
    }
}

impl From<v1::Node> for Node {
    fn from(m: v1::Node) -> Self {
        Self {
            name: m.name,
            state: m.state,
            labels: sorted(m.labels),
            origins: m.origins,
            agent_version: some(m.agent_version),
            last_contact: m.last_contact_ms.map(rfc3339),
            last_observation: m.last_observation_ms.map(rfc3339),
            services: Items::of(m.services).items,
            findings: m.findings,
            certificate_serial: some(m.certificate_serial),
            certificate_not_after: m.certificate_not_after_ms.map(rfc3339),
        }
    }
}

impl From<v1::NodeService> for NodeService {
    fn from(m: v1::NodeService) -> Self {
        Self {
            service: m.service,
            version: some(m.version),
            release: some(m.release),
            generation: m.generation,
            state: m.state,
            grade: some(m.grade),
            desired_release: some(m.desired_release),
            desired_version: some(m.desired_version),
        }
    }
}

impl From<v1::GetNodeReply> for NodeDetail {
    fn from(m: v1::GetNodeReply) -> Self {
        Self {
            node: m.node.unwrap_or_default().into(),
            findings: Items::of(m.findings).items,
            proofs: Items::of(m.proofs).items,
        }
    }
}

impl Context {
    /// The context of a configuration that has this name.
    pub fn of(file: &ConfigFile, name: &str, context: &config::Context) -> Self {
        Self {
            name: name.to_owned(),
            current: file.current.as_deref() == Some(name),
            controller: context.controller.clone(),
            server_name: context.server_name.clone(),
            ca: context.ca.display().to_string(),
            cert: context.cert.display().to_string(),
            key: context.key.display().to_string(),
            confirm: context.confirm.into(),
        }
    }
}

impl From<crate::load::Report> for LoadReport {
    fn from(r: crate::load::Report) -> Self {
        Self {
            sent: r.sent,
            ok: r.ok,
            failed: r.failed,
            first_failures: r.first_failures,
            by_version: r.by_version,
            by_server: r.by_server,
            p50_us: r.p50_us,
            p99_us: r.p99_us,
        }
    }
}

/// One line of the event stream.
#[derive(Debug, Serialize)]
#[serde(tag = "type", rename_all = "camelCase")]
pub enum Event {
    /// Always first.
    Version {
        /// [`STREAM_FORMAT`].
        format: &'static str,
        /// This program's version.
        fleetctl: &'static str,
    },
    /// A fact of the deployment, in order, each once.
    Fact {
        /// Of which.
        deployment: String,
        /// The fact.
        #[serde(flatten)]
        fact: Fact,
    },
    /// Always last, when there is an outcome.
    Outcome {
        /// The whole deployment.
        deployment: Box<Deployment>,
    },
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use crate::output::samples::{clean, drift, fact, finished, rolling};

    fn value(text: &str) -> serde_json::Value {
        serde_json::from_str(text).unwrap()
    }

    #[test]
    fn every_document_has_its_version_and_kind() {
        let json = value(&document("DriftReport", DriftReport::new(drift(), None, vec!["shop".into()])));
        assert_eq!(json["apiVersion"], "fleet/v1");
        assert_eq!(json["kind"], "DriftReport");
        assert_eq!(json["madeAt"], "2026-11-21T09:14:03Z");
        assert_eq!(
            json["summary"],
            serde_json::json!({"nodes": 40, "compliant": 36, "drifted": 3, "unreachable": 1, "findings": 5})
        );
        assert_eq!(
            json["items"][0],
            serde_json::json!({"node": "web-12", "service": "shop", "kind": "file", "what": "etc/shop.toml", "expected": "sha256 77c0", "found": "sha256 e1b4", "severity": "warning", "firstSeen": "2026-11-19T09:14:03Z"})
        );
    }

    #[test]
    fn a_stale_report_says_so() {
        let json = value(&document("DriftReport", DriftReport::new(clean(), Some("too old".into()), vec![])));
        assert_eq!((json["fresh"].as_bool(), json["unknown"].as_str()), (Some(false), Some("too old")));
    }

    #[test]
    fn a_running_deployment_has_no_exit_code() {
        let json = value(&document("Deployment", Deployment::from(rolling())));
        assert_eq!((&json["outcome"], &json["exitCode"]), (&serde_json::Value::Null, &serde_json::Value::Null));
        assert_eq!(json["kind"], "Deployment", "the kind of the document is not the kind of the deployment");
        assert_eq!(json["direction"], "rollout");
        assert_eq!(json["segments"][1]["nodes"][1]["holds"], "2.3.0");
        let json =
            value(&document("Deployment", Deployment::from(finished(fleet::Outcome::RolledBack, "verified", "2.3.0"))));
        assert_eq!((json["outcome"].as_str(), json["exitCode"].as_u64()), (Some("rolled-back"), Some(3)));
        assert_eq!(json["finishedAt"], "2026-11-21T09:19:41Z");
    }

    #[test]
    fn the_stream_begins_with_its_version() {
        assert_eq!(
            line(&Event::Version { format: STREAM_FORMAT, fleetctl: "0.1.0" }),
            "{\"type\":\"version\",\"format\":\"1.0\",\"fleetctl\":\"0.1.0\"}\n"
        );
        let event = Event::Fact {
            deployment: "d-7k2m4".into(),
            fact: fact("segment-started", 0, Some(0), "", "started").into(),
        };
        assert_eq!(
            line(&event),
            "{\"type\":\"fact\",\"deployment\":\"d-7k2m4\",\"index\":0,\"at\":\"2026-11-21T09:14:03Z\",\"fact\":\"segment-started\",\"segment\":0,\"node\":null,\"text\":\"started\"}\n"
        );
    }
}
