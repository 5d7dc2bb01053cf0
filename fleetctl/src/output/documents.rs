//! The JSON documents of `-o json`: `{"apiVersion":"fleet/v1","kind":…}`, camelCase, times in RFC 3339 UTC. Fields are
//! only ever added, since programs depend on them. How wire messages become documents is in `from_wire`.

use std::collections::BTreeMap;

use serde::Serialize;

mod from_wire;

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
    Release { id: String, service: String, version: String, bundle: String, bundle_size: u64, files: u32, unpacked_size: u64, created_at: String, created_by: Option<String>, rolled_back_by: Option<String>, rolled_back_why: Option<String> }
    /// A release, what its bundle says, and who holds it.
    ReleaseDetail { release: Release, descriptor: serde_json::Value, held_by: Vec<String> }
    /// What a deployment would do.
    Plan { service: String, environment: String, release: Option<Release>, segments: Vec<PlanSegment>, absent: Vec<PlanNode>, order: String, max_failures: String, bake_ms: u64, on_failure: String, to_change: u32, refused: Option<String>, warnings: Vec<String>, id: Option<String>, parent: Option<String>, made_at: Option<String>, floor: u32, serving: u32, blocks: Vec<PlanBlock>, parallel: String, min_healthy: String, gates: Vec<String>, pause_after: Vec<u32>, migration: Option<String>, waivers: Vec<Waiver>, confirm_ms: u64, actor: Option<String> }
    /// What forbids a plan.
    PlanBlock { node: Option<String>, why: String, help: Option<String> }
    /// A node that need not be proven.
    Waiver { node: String, reason: String, by: Option<String>, until: Option<String> }
    /// One segment of a plan.
    PlanSegment { nodes: Vec<PlanNode> }
    /// One node of a plan.
    PlanNode { node: String, from_release: Option<String>, from_version: Option<String>, change: String, note: Option<String>, condition: Option<String> }
    /// A deployment as it stands or ended.
    Deployment { id: String, direction: String, service: String, environment: String, release: Option<Release>, previous_version: Option<String>, phase: String, segment: Option<u32>, segments: Vec<DeploymentSegment>, absent: Vec<DeploymentNode>, outcome: Option<String>, exit_code: Option<u32>, started_at: String, finished_at: Option<String>, started_by: String, message: Option<String>, waiting_on: Option<String>, cause: Option<String>, unproven: Vec<DeploymentNode>, facts: u64, max_failures: String, bake_ms: u64, on_failure: String, gate: Option<Gate>, halted: Option<String>, paused_by: Option<String>, waivers: Vec<Waiver>, joined: Vec<DeploymentNode>, plan: Option<String>, supersedes: Option<String>, floor: u32, serving: u32, parallel: Option<String>, limit: Option<String> }
    /// The gate that is asked; segments are counted from 0, as everywhere in a deployment.
    Gate { name: String, source: &'static str, what: String, from: Option<String>, segment: u32, attempt: u32, deadline_ms: u64, nodes: Vec<String> }
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
    DriftReport { made_at: String, fresh: bool, unknown: Option<String>, oldest_observation_ms: Option<u64>, unobserved: Vec<String>, mixed: Vec<String>, summary: DriftSummary, items: Vec<Finding>, diffs: Vec<FileDiff>, self_test: Option<SelfTestReport>, decoys: Vec<Finding> }
    /// A self-test of the alarm.
    SelfTestReport { node: Option<String>, at: String, by: String, result: String, detail: String, deadline_ms: u64, found_after_ms: Option<u64>, closed_after_ms: Option<u64> }
    /// Its numbers.
    DriftSummary { nodes: u32, compliant: u32, drifted: u32, unreachable: u32, findings: usize, accepted: u32, accepted_findings: usize, ignored: u32, ignored_by: u32 }
    /// One finding.
    Finding { node: String, service: Option<String>, kind: String, what: String, expected: Option<String>, found: Option<String>, severity: String, first_seen: String, by: Option<String>, changed_at: Option<String>, origin: Option<String>, content: Option<String>, accepted: Option<Acceptance> }
    /// A finding that a person accepts as it is.
    Acceptance { node: String, service: Option<String>, kind: String, what: String, release: String, expected: Option<String>, found: Option<String>, by: String, reason: String, at: String, until: String, covers: bool }
    /// Extra files that are ignored.
    IgnoreRule { service: String, glob: String, reason: String, by: String, at: String, ignored: u32 }
    /// How a file differs; secrets are masked.
    FileDiff { service: String, path: String, kind: String, diff: Option<String>, note: Option<String> }
    /// The ledger of drift.
    DriftHistory { made_at: String, kept_since: Option<String>, items: Vec<LedgerLine> }
    /// Past deployments, and files put back.
    History { items: Vec<Deployment>, repairs: Vec<Repair> }
    /// One line of it.
    LedgerLine { index: u64, at: String, entry: String, node: String, service: Option<String>, kind: Option<String>, what: Option<String>, expected: Option<String>, found: Option<String>, by: Option<String>, why: Option<String> }
    /// Files put back on a node, and what was proven after it.
    Repair { id: Option<String>, node: String, service: String, release: String, version: Option<String>, by: String, started_at: String, ended_at: Option<String>, state: String, detail: Option<String>, files: Vec<RepairedFile>, restarted: bool, left: Vec<Finding>, proven: Option<bool> }
    /// One of them.
    RepairedFile { path: String, kind: String }
    /// What every node proved.
    VerifyReport { made_at: String, proofs: Vec<Proof>, findings: Vec<Finding>, statement: Option<StatementNote>, no_statement: Option<String> }
    /// The signed statement of it.
    StatementNote { sequence: u64, digest: String, previous: Option<String>, verdict: &'static str, saved: Option<String> }
    /// A statement that the controller keeps.
    StatementSummary { sequence: u64, digest: String, made_at: String, occasion: String, about: Option<String>, actor: Option<String>, verdict: String, proven: u32, nodes: u32, size: u64 }
    /// A statement that passed its check.
    StatementReport { digest: String, key_id: String, verdict: &'static str, exit_code: u8, statement: fleet::statement::Statement }
    /// A chain of statements that is whole.
    ChainReport { first: u64, last: u64, digest: String }
    /// One proof.
    Proof { node: String, service: String, release: Option<String>, version: Option<String>, digest: Option<String>, grade: String, age_ms: u64, processes: u32, nonce: Option<String> }
    /// A node.
    Node { name: String, state: String, labels: BTreeMap<String, String>, origins: Vec<String>, agent_version: Option<String>, last_contact: Option<String>, last_observation: Option<String>, services: Vec<NodeService>, findings: u32, certificate_serial: Option<String>, certificate_not_after: Option<String> }
    /// A service on a node.
    NodeService { service: String, version: Option<String>, release: Option<String>, generation: u64, state: String, grade: Option<String>, desired_release: Option<String>, desired_version: Option<String> }
    /// A node with what was found on it and what it proved.
    NodeDetail { node: Node, findings: Vec<Finding>, proofs: Vec<Proof>, seen: Vec<Seen> }
    /// What a node's last statement showed of a service.
    Seen { service: String, basis: String, swept_ms: u64, hashed_ms: Option<u64>, unwatched: Option<String>, processes: u32, hidden: u32, outside: Vec<OutsideFile>, outside_omitted: u32 }
    /// A file outside the release that a service's processes execute.
    OutsideFile { path: String, digest: Option<String>, deleted: bool }
    /// What an import changed.
    NodeImport { added: Vec<String>, known: Vec<String>, not_listed: Vec<String>, labels: Vec<LabelChange> }
    /// A label that the roster and an inventory say differently.
    LabelChange { node: String, label: String, roster: Option<String>, inventory: String }
    /// What a removal changed.
    NodeRemoval { name: String, findings_closed: u32, was_connected: bool }
    /// A new join token.
    Token { token: String, expires_at: String, uses: u32 }
    /// A lock on a service.
    Lock { service: String, by: Option<String>, reason: String, since: String, until: String }
    /// A context: a fleet, and who the operator is there.
    Context { name: String, current: bool, controller: String, server_name: Option<String>, ca: String, cert: String, key: String, confirm: bool }
    /// What a load through the balancer met.
    LoadReport { sent: u64, ok: u64, failed: u64, first_failures: Vec<String>, by_version: BTreeMap<String, u64>, by_server: BTreeMap<String, u64>, p50_us: u64, p99_us: u64 }
    /// Who is at both ends.
    Version { fleetctl: String, controller: Option<String>, fleet: Option<String>, you: Option<String>, started_at: Option<String> }
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
    use crate::output::samples::{clean, drift, fact, finished, gating, halted, rolling};

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
            serde_json::json!({"nodes": 40, "compliant": 36, "drifted": 3, "unreachable": 1, "findings": 5, "accepted": 0, "acceptedFindings": 0, "ignored": 0, "ignoredBy": 0})
        );
        assert_eq!(
            json["items"][0],
            serde_json::json!({"node": "web-12", "service": "shop", "kind": "file", "what": "etc/shop.toml", "expected": "sha256 77c0", "found": "sha256 e1b4", "severity": "warning", "firstSeen": "2026-11-19T09:14:03Z", "by": null, "changedAt": null, "origin": null, "content": null, "accepted": null})
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
    fn a_program_sees_what_a_deployment_waits_for() {
        let json = value(&document("Deployment", Deployment::from(gating())));
        assert_eq!(
            json["gate"],
            serde_json::json!({"name": "test", "source": "test", "what": "tests/smoke.sh", "from": "operator", "segment": 1, "attempt": 1, "deadlineMs": 60_000, "nodes": ["n3", "n4"]})
        );
        let json = value(&document("Deployment", Deployment::from(halted())));
        assert_eq!(json["halted"], "it waits to be promoted after segment 1");
        assert_eq!(
            json["waivers"][0],
            serde_json::json!({"node": "n8", "reason": "disk, OPS-12", "by": "alice", "until": "2026-11-22T09:14:03Z"})
        );
        assert_eq!((&json["floor"], &json["serving"], &json["limit"]), (&6.into(), &7.into(), &"role=web".into()));
        assert_eq!((&json["pausedBy"], &json["gate"]), (&serde_json::Value::Null, &serde_json::Value::Null));
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
