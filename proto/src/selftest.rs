//! Between wire messages and what is said of a self-test of the alarm.

use fleet::Millis;
use fleet::selftest::{Decoy, Outcome, Report, State, Verdict};

use crate::convert::{ConvertError, parse, text};
use crate::v1;

impl TryFrom<v1::DecoyReport> for Report {
    type Error = ConvertError;
    fn try_from(report: v1::DecoyReport) -> Result<Self, ConvertError> {
        use v1::decoy_report::State as S;
        let state = match report.state.ok_or(ConvertError::Missing("state"))? {
            S::Planted(planted) => State::Planted(Decoy {
                service: parse("service", &planted.service)?,
                release: parse("release", &planted.release)?,
                pid: planted.pid,
                born: Millis(planted.born_ms),
                made: planted.made.map(|made| parse("made", &made)).transpose()?,
            }),
            S::Refused(refused) => State::Refused(text(refused.reason)),
            S::Removed(v1::Nothing {}) => State::Removed,
        };
        Ok(Self { test: text(report.test), state })
    }
}

impl From<&Outcome> for v1::SelfTestReport {
    fn from(outcome: &Outcome) -> Self {
        Self {
            node: outcome.node.as_ref().map(ToString::to_string).unwrap_or_default(),
            at_ms: outcome.at.0,
            by: outcome.by.clone(),
            result: outcome.verdict.as_str().into(),
            detail: outcome.detail.clone(),
            deadline_ms: outcome.deadline.0,
            found_after_ms: outcome.found_after.map(|after| after.0),
            closed_after_ms: outcome.closed_after.map(|after| after.0),
        }
    }
}

/// The word of a report whose self-test is still at work.
pub const RUNNING: &str = "running";

/// Whether a report says that the alarm works.
pub fn passed(report: &v1::SelfTestReport) -> bool {
    report.result == Verdict::Passed.as_str()
}
