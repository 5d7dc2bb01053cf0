//! Hand-made messages for the golden tests of this folder. Times are 2026-11-21, 09:14:03 UTC and after.
#![allow(missing_docs)]

use fleet::Millis;
use fleet_proto::v1;

use super::seen::Seen;

/// 2026-11-21T09:14:03Z.
pub(crate) const START: i64 = 1_795_252_443_000;

pub(crate) fn release(version: &str) -> v1::Release {
    v1::Release {
        id: "r-9f2c1e7ab310".into(),
        service: "shop".into(),
        version: version.into(),
        bundle: "9f2c1e7ab310".repeat(5) + "abcd",
        bundle_size: 31_000_000,
        files: 3,
        unpacked_size: 90_000_000,
        created_at_ms: START,
        created_by: "alice".into(),
        ..v1::Release::default()
    }
}

pub(crate) fn node(name: &str, state: &str, detail: &str, holds: &str) -> v1::DeploymentNode {
    v1::DeploymentNode {
        node: name.into(),
        state: state.into(),
        detail: detail.into(),
        grade: if matches!(state, "proven" | "verified") { "digest".into() } else { String::new() },
        since_ms: START + 10_000,
        holds: holds.into(),
    }
}

/// Eight nodes in four segments; segment 2 of 4 is at work.
pub(crate) fn rolling() -> v1::Deployment {
    let segment = |state: &str, nodes: Vec<v1::DeploymentNode>| v1::DeploymentSegment {
        nodes,
        state: state.into(),
        started_at_ms: None,
        ended_at_ms: None,
    };
    let mut first = segment("baked", vec![node("n1", "proven", "", "2.3.1"), node("n2", "proven", "", "2.3.1")]);
    first.started_at_ms = Some(START);
    first.ended_at_ms = Some(START + 102_000);
    let mut second = segment(
        "rolling",
        vec![node("n3", "proven", "", "2.3.1"), node("n4", "ordered", "probe: GET /healthz gives 503, try 4", "2.3.0")],
    );
    second.started_at_ms = Some(START + 102_000);
    v1::Deployment {
        id: "d-7k2m4".into(),
        service: "shop".into(),
        environment: "prod".into(),
        release: Some(release("2.3.1")),
        previous_version: "2.3.0".into(),
        phase: "rolling".into(),
        segment: Some(1),
        segments: vec![
            first,
            second,
            segment("pending", vec![node("n5", "pending", "", "2.3.0"), node("n6", "pending", "", "2.3.0")]),
            segment("pending", vec![node("n7", "pending", "", "2.3.0"), node("n8", "pending", "", "2.3.0")]),
        ],
        absent: vec![],
        outcome: String::new(),
        exit_code: 0,
        started_at_ms: START,
        finished_at_ms: None,
        started_by: "alice".into(),
        message: String::new(),
        waiting_on: "segment 2: proof from n4 (probe)".into(),
        cause: String::new(),
        unproven: vec![],
        kind: "rollout".into(),
        facts: 7,
        max_failures: "0".into(),
        bake_ms: 60_000,
        on_failure: "rollback".into(),
        ..v1::Deployment::default()
    }
}

/// A test that fleetctl shall run after segment 2.
pub(crate) fn gate_asked() -> v1::GateAsked {
    let test = v1::GateTest { command: "tests/smoke.sh".into(), from: "operator".into() };
    v1::GateAsked {
        asking: Some(v1::GateAsking { segment: 1, gate: 0, attempt: 1 }),
        gate: Some(v1::Gate {
            name: "test".into(),
            source: Some(v1::gate::Source::Test(test)),
            after: 0,
            deadline_ms: 60_000,
        }),
        nodes: vec!["n3".into(), "n4".into()],
    }
}

/// Segment 2 has baked, and its gate is asked.
pub(crate) fn gating() -> v1::Deployment {
    let mut deployment = rolling();
    deployment.segments[1].nodes[1] = node("n4", "proven", "", "2.3.1");
    deployment.segments[1].state = "baked".into();
    deployment.segments[1].ended_at_ms = Some(START + 140_000);
    deployment.phase = "gating".into();
    deployment.gate = Some(gate_asked());
    deployment.waiting_on =
        "segment 2: an answer to the gate test ('tests/smoke.sh' where fleetctl watches), within 1m".into();
    deployment
}

/// It waits to be promoted after segment 1, with a floor, a waiver, and a node that joined.
pub(crate) fn halted() -> v1::Deployment {
    let mut deployment = rolling();
    deployment.segments[1].nodes = vec![node("n3", "pending", "", "2.3.0"), node("n4", "pending", "", "2.3.0")];
    deployment.segments[1].state = "pending".into();
    deployment.segments[1].started_at_ms = None;
    deployment.phase = "halted".into();
    deployment.halted = "it waits to be promoted after segment 1".into();
    deployment.waiting_on =
        "it waits to be promoted after segment 1; fleetctl promote d-7k2m4, or fleetctl abort d-7k2m4 (within 23h)"
            .into();
    deployment.waivers = vec![v1::Waiver {
        node: "n8".into(),
        reason: "disk, OPS-12".into(),
        by: "alice".into(),
        until_ms: START + 86_400_000,
    }];
    deployment.joined = vec![node("n9", "pending", "", "")];
    deployment.floor = 6;
    deployment.serving = 7;
    deployment.parallel = "2".into();
    deployment.limit = "role=web".into();
    deployment
}

/// The same, ended with `outcome`, every node in `state` holding `version`.
pub(crate) fn finished(outcome: fleet::Outcome, state: &str, version: &str) -> v1::Deployment {
    let mut deployment = rolling();
    for segment in &mut deployment.segments {
        for node in &mut segment.nodes {
            *node = self::node(&node.node, state, "", version);
        }
    }
    deployment.phase = "finished".into();
    deployment.segment = None;
    deployment.outcome = outcome.as_str().into();
    deployment.exit_code = u32::from(outcome.exit_code());
    deployment.finished_at_ms = Some(START + 338_000);
    deployment.waiting_on = String::new();
    deployment
}

pub(crate) fn fact(kind: &str, at_s: i64, segment: Option<u32>, node: &str, text: &str) -> v1::Fact {
    v1::Fact { index: 0, at_ms: START + at_s * 1_000, kind: kind.into(), segment, node: node.into(), text: text.into() }
}

pub(crate) fn finding(node: &str, kind: &str, what: &str, expected: &str, found: &str, severity: &str) -> v1::Finding {
    v1::Finding {
        node: node.into(),
        service: if kind == "unreachable" { String::new() } else { "shop".into() },
        kind: kind.into(),
        what: what.into(),
        expected: expected.into(),
        found: found.into(),
        since_ms: START - 2 * 86_400_000,
        severity: severity.into(),
        ..v1::Finding::default()
    }
}

/// A finding that alice accepts for thirty days.
pub(crate) fn accepted() -> v1::Finding {
    let finding = finding("web-12", "mode", "bin/shop", "0755", "0777", "warning");
    let accepted = v1::Acceptance {
        by: "alice".into(),
        reason: "hotfix OPS-4711".into(),
        until_ms: START + 30 * 86_400_000,
        ..v1::Acceptance::default()
    };
    v1::Finding { accepted: Some(accepted), ..finding }
}

/// A finding with who changed the file, a minute before it was found.
pub(crate) fn traced(finding: v1::Finding) -> v1::Finding {
    let changed_at_ms = Some(finding.since_ms - 63_000);
    v1::Finding { by: "vim (pid 123), root via alice".into(), changed_at_ms, ..finding }
}

/// A self-test of the alarm that began three hours ago and ended like this.
pub(crate) fn selftest(result: &str) -> v1::SelfTestReport {
    let decoy = "the decoy (pid 911, old code r-4410ffe2aaaa of shop)";
    let (detail, found_after_ms, closed_after_ms) = match result {
        "running" => ("it is at work".to_owned(), None, None),
        "passed" => {
            (format!("{decoy} was found after 2.1s; its finding was closed 1.4s later"), Some(2_100), Some(1_400))
        }
        "failed" => (format!("{decoy} was not found within 30s: the alarm is broken"), None, None),
        _ => ("its agent planted no decoy within 30s".to_owned(), None, None),
    };
    v1::SelfTestReport {
        node: "web-12".into(),
        at_ms: START - 3 * 3_600_000,
        by: "alice".into(),
        result: result.into(),
        detail,
        deadline_ms: 30_000,
        found_after_ms,
        closed_after_ms,
    }
}

/// Three of forty nodes drifted, one silent.
pub(crate) fn drift() -> v1::DriftReport {
    v1::DriftReport {
        made_at_ms: START,
        findings: vec![
            finding("web-12", "file", "etc/shop.toml", "sha256 77c0", "sha256 e1b4", "warning"),
            traced(finding("web-12", "mode", "bin/shop", "0755", "0777", "warning")),
            finding("web-22", "process", "pid 911", "r-51ab09c4e2f1 (2.3.0)", "r-4410ffe2aaaa (2.2.9)", "critical"),
            finding("db-03", "missing", "lib/x.so", "sha256 1111", "", "warning"),
            finding("web-31", "unreachable", "no contact", "", "", "critical"),
        ],
        nodes: 40,
        compliant: 36,
        drifted: 3,
        unreachable: 1,
        oldest_observation_ms: Some(12_000),
        ..v1::DriftReport::default()
    }
}

pub(crate) fn clean() -> v1::DriftReport {
    v1::DriftReport {
        made_at_ms: START,
        findings: vec![],
        nodes: 8,
        compliant: 8,
        drifted: 0,
        unreachable: 0,
        oldest_observation_ms: Some(2_000),
        ..v1::DriftReport::default()
    }
}

/// A report with a name as an enemy would choose it.
pub(crate) fn hostile() -> v1::DriftReport {
    let name = "a|b\"c'd\ne<f>\u{1b}`g` [x](y)\t=SUM\\";
    let mut report = v1::DriftReport { drifted: 1, compliant: 7, ..clean() };
    report.findings.push(finding("n1", "extra", name, "", "it's \"|\" &amp;", "warning"));
    report
}

/// The look that gave this report, five minutes being old.
pub(crate) fn seen(report: v1::DriftReport) -> Seen {
    Seen::new(report, Millis::from_secs(300))
}

/// A node that is well and holds the shop.
pub(crate) fn seen_node(name: &str) -> v1::Node {
    let shop = v1::NodeService {
        service: "shop".into(),
        version: "2.3.1".into(),
        release: "r-9f2c1e7ab310".into(),
        ..v1::NodeService::default()
    };
    v1::Node {
        name: name.into(),
        state: "ready".into(),
        last_contact_ms: Some(START - 1_000),
        last_observation_ms: Some(START - 2_000),
        services: vec![shop],
        certificate_not_after_ms: Some(START + 90 * 86_400_000),
        ..v1::Node::default()
    }
}
