//! From wire messages to documents: empty text becomes null, milliseconds become times, maps are sorted. Nothing is
//! judged.

use std::collections::BTreeMap;

use fleet_proto::v1;

use super::*;
use crate::config::{self, ConfigFile};
use crate::output::seen::counted;
use crate::output::text::rfc3339;
use crate::statement::Checked;

fn some(text: String) -> Option<String> {
    Some(text).filter(|t| !t.is_empty())
}

fn sorted(map: std::collections::HashMap<String, String>) -> BTreeMap<String, String> {
    map.into_iter().collect()
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
            rolled_back_by: some(m.rolled_back_by),
            rolled_back_why: some(m.rolled_back_why),
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
            id: some(m.id),
            parent: some(m.parent),
            made_at: (m.made_at_ms > 0).then(|| rfc3339(m.made_at_ms)),
            floor: m.floor,
            serving: m.serving,
            blocks: Items::of(m.blocks).items,
            parallel: m.parallel,
            min_healthy: m.min_healthy,
            gates: m.gates,
            pause_after: m.pause_after,
            migration: some(m.migration),
            waivers: Items::of(m.waivers).items,
            confirm_ms: m.confirm_ms,
            actor: some(m.actor),
        }
    }
}

impl From<v1::PlanBlock> for PlanBlock {
    fn from(m: v1::PlanBlock) -> Self {
        Self { node: some(m.node), why: m.why, help: some(m.help) }
    }
}

impl From<v1::Waiver> for Waiver {
    fn from(m: v1::Waiver) -> Self {
        Self { node: m.node, reason: m.reason, by: some(m.by), until: (m.until_ms > 0).then(|| rfc3339(m.until_ms)) }
    }
}

impl From<v1::Lock> for Lock {
    fn from(m: v1::Lock) -> Self {
        Self {
            service: m.service,
            by: some(m.by),
            reason: m.reason,
            since: rfc3339(m.since_ms),
            until: rfc3339(m.until_ms),
        }
    }
}

impl From<v1::GateAsked> for Gate {
    fn from(m: v1::GateAsked) -> Self {
        use v1::gate::Source;
        let gate = m.gate.unwrap_or_default();
        let asking = m.asking.unwrap_or_default();
        let (source, what, from) = match gate.source {
            Some(Source::Test(test)) => ("test", test.command, some(test.from)),
            Some(Source::Metric(metric)) => ("metric", metric.query, None),
            Some(Source::Approval(approval)) => ("approval", approval.required.to_string(), None),
            None => ("unknown", String::new(), None),
        };
        Self {
            name: gate.name,
            source,
            what,
            from,
            segment: asking.segment,
            attempt: asking.attempt,
            deadline_ms: gate.deadline_ms,
            nodes: m.nodes,
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
            condition: some(m.condition),
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
            gate: m.gate.map(Gate::from),
            halted: some(m.halted),
            paused_by: some(m.paused_by),
            waivers: Items::of(m.waivers).items,
            joined: Items::of(m.joined).items,
            plan: some(m.plan),
            supersedes: some(m.supersedes),
            floor: m.floor,
            serving: m.serving,
            parallel: some(m.parallel),
            limit: some(m.limit),
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
            findings: counted(&m).count(),
            accepted: m.accepted,
            accepted_findings: m.findings.len() - counted(&m).count(),
            ignored: m.ignored,
            ignored_by: m.ignored_by,
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
            diffs: Vec::new(),
            self_test: m.self_test.map(Into::into),
            decoys: Items::of(m.decoys).items,
        }
    }
}

impl From<v1::SelfTestReport> for SelfTestReport {
    fn from(m: v1::SelfTestReport) -> Self {
        Self {
            node: some(m.node),
            at: rfc3339(m.at_ms),
            by: m.by,
            result: m.result,
            detail: m.detail,
            deadline_ms: m.deadline_ms,
            found_after_ms: m.found_after_ms,
            closed_after_ms: m.closed_after_ms,
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
            by: some(m.by),
            changed_at: m.changed_at_ms.map(rfc3339),
            origin: some(m.origin),
            content: some(m.content),
            accepted: m.accepted.map(Acceptance::from),
        }
    }
}

impl From<v1::Acceptance> for Acceptance {
    fn from(m: v1::Acceptance) -> Self {
        Self {
            node: m.node,
            service: some(m.service),
            kind: m.kind,
            what: m.what,
            release: m.release,
            expected: some(m.expected),
            found: some(m.found),
            by: m.by,
            reason: m.reason,
            at: rfc3339(m.at_ms),
            until: rfc3339(m.until_ms),
            covers: m.covers,
        }
    }
}

impl From<v1::IgnoreRule> for IgnoreRule {
    fn from(m: v1::IgnoreRule) -> Self {
        let (at, ignored) = (rfc3339(m.at_ms), m.ignored);
        Self { service: m.service, glob: m.glob, reason: m.reason, by: m.by, at, ignored }
    }
}

impl From<v1::LedgerLine> for LedgerLine {
    fn from(m: v1::LedgerLine) -> Self {
        Self {
            index: m.index,
            at: rfc3339(m.at_ms),
            entry: m.entry,
            node: m.node,
            service: some(m.service),
            kind: some(m.kind),
            what: some(m.what),
            expected: some(m.expected),
            found: some(m.found),
            by: some(m.by),
            why: some(m.why),
        }
    }
}

impl From<v1::ReadLedgerReply> for DriftHistory {
    fn from(m: v1::ReadLedgerReply) -> Self {
        Self {
            made_at: rfc3339(m.made_at_ms),
            kept_since: m.kept_since_ms.map(rfc3339),
            items: Items::of(m.lines).items,
        }
    }
}

impl From<v1::RepairedFile> for RepairedFile {
    fn from(m: v1::RepairedFile) -> Self {
        Self { path: m.path, kind: m.kind }
    }
}

impl From<v1::Repair> for Repair {
    fn from(m: v1::Repair) -> Self {
        Self {
            id: some(m.id),
            node: m.node,
            service: m.service,
            release: m.release,
            version: some(m.version),
            by: m.by,
            started_at: rfc3339(m.started_at_ms),
            ended_at: m.ended_at_ms.map(rfc3339),
            state: m.state,
            detail: some(m.detail),
            files: Items::of(m.files).items,
            restarted: m.restarted,
            left: Items::of(m.left).items,
            proven: None,
        }
    }
}

impl From<v1::VerifyReply> for VerifyReport {
    fn from(m: v1::VerifyReply) -> Self {
        Self {
            made_at: rfc3339(m.made_at_ms),
            proofs: Items::of(m.proofs).items,
            findings: Items::of(m.findings).items,
            statement: None,
            no_statement: some(m.no_statement),
        }
    }
}

impl From<v1::StatementSummary> for StatementSummary {
    fn from(m: v1::StatementSummary) -> Self {
        Self {
            sequence: m.sequence,
            digest: m.digest,
            made_at: rfc3339(m.made_at_ms),
            occasion: m.occasion,
            about: some(m.about),
            actor: some(m.actor),
            verdict: m.verdict,
            proven: m.proven,
            nodes: m.nodes,
            size: m.size,
        }
    }
}

impl StatementReport {
    /// What was found right, and what it says.
    pub fn of(checked: &Checked) -> Self {
        let verdict = checked.predicate().verdict;
        Self {
            digest: checked.digest.to_string(),
            key_id: checked.keyid.clone(),
            verdict: verdict.as_str(),
            exit_code: verdict.exit_code(),
            statement: checked.statement.clone(),
        }
    }
}

impl StatementNote {
    /// Which statement it is, and where it was saved.
    pub fn of(checked: &Checked, saved: Option<&std::path::Path>) -> Self {
        let stated = checked.predicate();
        Self {
            sequence: stated.sequence,
            digest: checked.digest.to_string(),
            previous: stated.previous.map(|digest| digest.to_string()),
            verdict: stated.verdict.as_str(),
            saved: saved.map(|path| path.display().to_string()),
        }
    }
}

impl ChainReport {
    /// From where to where it is whole.
    pub fn of(run: &fleet::statement::chain::Run) -> Self {
        Self { first: run.first, last: run.head.sequence, digest: run.head.digest.to_string() }
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
            seen: Items::of(m.seen).items,
        }
    }
}

impl From<v1::Seen> for Seen {
    fn from(m: v1::Seen) -> Self {
        Self {
            service: m.service,
            basis: m.basis,
            swept_ms: m.swept_ms,
            hashed_ms: m.hashed_ms,
            unwatched: Some(m.unwatched).filter(|why| !why.is_empty()),
            processes: m.processes,
            hidden: m.hidden,
            outside: Items::of(m.outside).items,
            outside_omitted: m.outside_omitted,
        }
    }
}

impl From<v1::Mapped> for OutsideFile {
    fn from(m: v1::Mapped) -> Self {
        Self { path: m.path, digest: m.digest, deleted: m.deleted }
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
