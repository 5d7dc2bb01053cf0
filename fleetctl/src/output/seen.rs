//! What one look at the fleet gave, in the one shape that every form of the drift report is made from; and what is
//! shown when there was no look: the same shape, saying UNKNOWN.

use fleet::Millis;
use fleet_proto::v1;

use super::drift::{Freshness, freshness};

/// A drift report, whether it says anything about now, and what the forms tell beside it.
#[derive(Debug, Clone, Default)]
pub struct Seen {
    /// What the controller found.
    pub report: v1::DriftReport,
    /// Why nothing good may be said of the fleet, if so.
    pub unknown: Option<String>,
    /// Services whose nodes shall hold different releases while no deployment is at work.
    pub mixed: Vec<String>,
    /// The services that were asked for.
    pub services: Vec<v1::ServiceStatus>,
    /// The nodes that were asked for; empty for forms that do not tell of every node.
    pub nodes: Vec<v1::Node>,
    /// Files that differ, side by side, if they were asked for; secrets are masked.
    pub diffs: Vec<v1::ShownFile>,
    /// Older observations say nothing.
    pub max_age: Millis,
}

impl Seen {
    /// A look that gave this report.
    pub fn new(report: v1::DriftReport, max_age: Millis) -> Self {
        let unknown = match freshness(&report, max_age) {
            Freshness::Fresh => None,
            Freshness::Unknown(why) => Some(why),
        };
        Self { report, unknown, max_age, ..Self::default() }
    }

    /// No look at all: whoever reads the form alone must see that nobody knows.
    pub fn nothing(why: &str, now_ms: i64) -> Self {
        let report = v1::DriftReport { made_at_ms: now_ms, ..v1::DriftReport::default() };
        Self { report, unknown: Some(why.to_owned()), ..Self::default() }
    }

    /// Why nothing good may be said of this node, if so; None also if something bad was found on it.
    pub fn unknown_of(&self, node: &v1::Node) -> Option<String> {
        match node.last_observation_ms {
            _ if self.report.unobserved.contains(&node.name) => {
                Some("not observed since the controller started".to_owned())
            }
            None => Some("never observed".to_owned()),
            Some(at) => {
                let age = super::text::elapsed(self.report.made_at_ms, at);
                (age > self.max_age.0).then(|| format!("last observed {} ago", super::text::age(age)))
            }
        }
    }
}

/// The findings that count: those that nobody accepts as they are.
pub fn counted(report: &v1::DriftReport) -> impl Iterator<Item = &v1::Finding> {
    report.findings.iter().filter(|finding| finding.accepted.is_none())
}

/// Whether a report has anything that counts: a finding that nobody accepts, or a node that is away.
pub fn differs(report: &v1::DriftReport) -> bool {
    counted(report).next().is_some() || report.drifted > 0 || report.unreachable > 0
}

/// Who accepts a finding, why, and until when; nothing for one that counts.
pub fn accepted_by(finding: &v1::Finding) -> Option<String> {
    let its = finding.accepted.as_ref()?;
    Some(format!("accepted by {} until {}: {}", its.by, super::text::rfc3339_seconds(its.until_ms), its.reason))
}

/// How the newest self-test of the alarm ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Tested {
    /// It is at work.
    Running,
    /// The alarm fires.
    Passed,
    /// It does not: that it is silent means nothing.
    Failed,
    /// It could not be tried, so nobody knows.
    Unknown,
}

/// How a self-test ended; whatever word comes beside the known ones is not known.
pub fn tested(test: &v1::SelfTestReport) -> Tested {
    match test.result.as_str() {
        "running" => Tested::Running,
        "passed" => Tested::Passed,
        "failed" => Tested::Failed,
        _ => Tested::Unknown,
    }
}

/// Whether a finding of this kind means that nobody can say what the node runs.
pub fn is_blind(kind: &str) -> bool {
    matches!(kind, "unreachable" | "unmanaged" | "stale")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::output::samples::selftest;

    #[test]
    fn a_self_test_has_one_of_four_ends() {
        let ends = [("running", Tested::Running), ("passed", Tested::Passed), ("failed", Tested::Failed)];
        for (word, end) in ends.into_iter().chain([("unknown", Tested::Unknown), ("", Tested::Unknown)]) {
            assert_eq!(tested(&selftest(word)), end, "{word}");
        }
        assert_eq!(tested(&selftest("better-than-ever")), Tested::Unknown);
    }
}
