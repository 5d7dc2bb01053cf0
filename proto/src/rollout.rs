//! Between wire messages and the parts of a deployment: gates, their answers, the migration. Segments are counted from
//! 1 where people write them and from 0 in `fleet`.

use fleet::deployment::{Asking, Gate, Host, Migration, MigrationOrder, MigrationReport, Place, Source, Verdict};
use fleet::evidence::MigrationEvidence;
use fleet::time::LONGEST;
use fleet::{Hold, Millis};

use crate::convert::{ConvertError, parse, text};
use crate::v1;

fn span(ms: u64) -> Millis {
    Millis(ms.min(LONGEST.0))
}

fn invalid(field: &'static str, reason: impl Into<String>) -> ConvertError {
    ConvertError::Invalid { field, reason: reason.into() }
}

fn from_one(field: &'static str, segment: u32) -> Result<usize, ConvertError> {
    match segment.checked_sub(1) {
        Some(segment) => Ok(segment as usize),
        None => Err(invalid(field, "segments are counted from 1")),
    }
}

fn to_one(segment: usize) -> u32 {
    u32::try_from(segment).unwrap_or(u32::MAX).saturating_add(1)
}

impl From<Gate> for v1::Gate {
    fn from(gate: Gate) -> Self {
        use v1::gate::Source as S;
        let source = match gate.source {
            Source::Test { command, from } => S::Test(v1::GateTest { command, from: from.as_str().into() }),
            Source::Metric { query } => S::Metric(v1::GateMetric { query }),
            Source::Approval { required } => S::Approval(v1::GateApproval { required }),
        };
        Self {
            name: gate.name,
            source: Some(source),
            after: gate.after.map(to_one).unwrap_or_default(),
            deadline_ms: gate.deadline.0,
        }
    }
}

impl TryFrom<v1::Gate> for Gate {
    type Error = ConvertError;
    fn try_from(gate: v1::Gate) -> Result<Self, ConvertError> {
        use v1::gate::Source as S;
        let source = match gate.source.ok_or(ConvertError::Missing("gates.source"))? {
            S::Test(test) if test.command.trim().is_empty() => {
                return Err(invalid("gates.test.command", "it is empty: write a command"));
            }
            S::Test(test) => {
                Source::Test { command: text(test.command), from: parse::<Host>("gates.test.from", &test.from)? }
            }
            S::Metric(metric) => Source::Metric { query: text(metric.query) },
            S::Approval(approval) => Source::Approval { required: approval.required.max(1) },
        };
        let after = match gate.after {
            0 => None,
            after => Some(from_one("gates.after", after)?),
        };
        Ok(Self { name: text(gate.name), source, after, deadline: span(gate.deadline_ms) })
    }
}

impl From<Asking> for v1::GateAsking {
    fn from(asking: Asking) -> Self {
        let short = |number: usize| u32::try_from(number).unwrap_or(u32::MAX);
        Self { segment: short(asking.segment), gate: short(asking.gate), attempt: asking.attempt }
    }
}

impl From<v1::GateAsking> for Asking {
    fn from(asking: v1::GateAsking) -> Self {
        Self { segment: asking.segment as usize, gate: asking.gate as usize, attempt: asking.attempt }
    }
}

/// Reads an answer to a gate.
///
/// # Errors
/// When the verdict is none of the three words.
pub fn verdict(word: &str, detail: String) -> Result<Verdict, ConvertError> {
    let detail = text(detail);
    match word {
        "passed" => Ok(Verdict::Passed { detail }),
        "failed" => Ok(Verdict::Failed { detail }),
        "inconclusive" => Ok(Verdict::Inconclusive { detail }),
        _ => Err(invalid("verdict", "it is passed, failed or inconclusive")),
    }
}

impl From<Migration> for v1::Migration {
    fn from(migration: Migration) -> Self {
        let place = match migration.place {
            Place::Before(_) => "before",
            Place::After(_) => "after",
        };
        Self {
            name: migration.name,
            command: migration.command,
            place: place.into(),
            segment: to_one(migration.place.segment()),
            timeout_ms: migration.timeout.0,
        }
    }
}

impl TryFrom<v1::Migration> for Migration {
    type Error = ConvertError;
    fn try_from(migration: v1::Migration) -> Result<Self, ConvertError> {
        let segment = from_one("migration.segment", migration.segment)?;
        let place = match migration.place.as_str() {
            "before" => Place::Before(segment),
            "after" => Place::After(segment),
            _ => return Err(invalid("migration.place", "it is before or after")),
        };
        if migration.command.trim().is_empty() {
            return Err(invalid("migration.command", "it is empty: write a command"));
        }
        let (name, command) = (text(migration.name), text(migration.command));
        Ok(Self { name, command, place, timeout: span(migration.timeout_ms) })
    }
}

impl From<MigrationOrder> for v1::MigrationOrder {
    fn from(order: MigrationOrder) -> Self {
        let release = match order.hold {
            Hold::Release { release, bundle, size } => {
                Some(v1::ReleaseRef { release: release.into(), bundle: bundle.to_string(), size })
            }
            Hold::Nothing => None,
        };
        Self {
            deployment: order.deployment.into(),
            attempt: order.attempt,
            node: order.node.into(),
            service: order.service.into(),
            release,
            name: order.name,
            command: order.command,
            timeout_ms: order.timeout.0,
        }
    }
}

impl TryFrom<v1::MigrationOrder> for MigrationOrder {
    type Error = ConvertError;
    fn try_from(order: v1::MigrationOrder) -> Result<Self, ConvertError> {
        let release = order.release.ok_or(ConvertError::Missing("migration.release"))?;
        Ok(Self {
            deployment: parse("migration.deployment", &order.deployment)?,
            attempt: order.attempt,
            node: parse("migration.node", &order.node)?,
            service: parse("migration.service", &order.service)?,
            hold: Hold::Release {
                release: parse("migration.release", &release.release)?,
                bundle: parse("migration.bundle", &release.bundle)?,
                size: release.size,
            },
            name: text(order.name),
            command: order.command,
            timeout: span(order.timeout_ms),
        })
    }
}

impl From<MigrationEvidence> for v1::MigrationReport {
    fn from(evidence: MigrationEvidence) -> Self {
        use v1::migration_report::Report as R;
        let report = match evidence.report {
            MigrationReport::Running { detail } => R::Running(v1::MigrationRunning { detail }),
            MigrationReport::Succeeded => R::Succeeded(v1::MigrationSucceeded {}),
            MigrationReport::Failed { reason } => R::Failed(v1::MigrationFailed { reason }),
            MigrationReport::Interrupted { reason } => R::Interrupted(v1::MigrationInterrupted { reason }),
        };
        Self { deployment: evidence.deployment.into(), attempt: evidence.attempt, report: Some(report) }
    }
}

impl TryFrom<v1::MigrationReport> for MigrationEvidence {
    type Error = ConvertError;
    fn try_from(report: v1::MigrationReport) -> Result<Self, ConvertError> {
        use v1::migration_report::Report as R;
        let said = match report.report.ok_or(ConvertError::Missing("migrations.report"))? {
            R::Running(running) => MigrationReport::Running { detail: text(running.detail) },
            R::Succeeded(v1::MigrationSucceeded {}) => MigrationReport::Succeeded,
            R::Failed(failed) => MigrationReport::Failed { reason: text(failed.reason) },
            R::Interrupted(interrupted) => MigrationReport::Interrupted { reason: text(interrupted.reason) },
        };
        Ok(Self {
            deployment: parse("migrations.deployment", &report.deployment)?,
            attempt: report.attempt,
            report: said,
        })
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn gates_and_migrations_survive_the_wire() {
        for (source, after) in [
            (Source::Test { command: "smoke".into(), from: Host::Controller }, None),
            (Source::Test { command: "smoke".into(), from: Host::Operator }, Some(0)),
            (Source::Metric { query: "up".into() }, Some(7)),
            (Source::Approval { required: 2 }, None),
        ] {
            let gate = Gate { name: "g".into(), source, after, deadline: Millis(5) };
            assert_eq!(Gate::try_from(v1::Gate::from(gate.clone())).unwrap(), gate);
        }
        for place in [Place::Before(0), Place::After(3)] {
            let migration = Migration { name: "m".into(), command: "true".into(), place, timeout: Millis(9) };
            assert_eq!(Migration::try_from(v1::Migration::from(migration.clone())).unwrap(), migration);
        }
        for report in [
            MigrationReport::Running { detail: "x".into() },
            MigrationReport::Succeeded,
            MigrationReport::Failed { reason: "y".into() },
            MigrationReport::Interrupted { reason: "z".into() },
        ] {
            let evidence = MigrationEvidence { deployment: "d-x".parse().unwrap(), attempt: 2, report };
            assert_eq!(MigrationEvidence::try_from(v1::MigrationReport::from(evidence.clone())).unwrap(), evidence);
        }
    }

    #[test]
    fn nonsense_is_refused_by_its_field() {
        let gate = Gate {
            name: "g".into(),
            source: Source::Test { command: " ".into(), from: Host::Operator },
            after: None,
            deadline: Millis(5),
        };
        let said = Gate::try_from(v1::Gate::from(gate)).unwrap_err().to_string();
        assert!(said.contains("gates.test.command"), "{said}");
        let migration = v1::Migration { place: "during".into(), segment: 1, command: "x".into(), ..Default::default() };
        assert!(Migration::try_from(migration.clone()).unwrap_err().to_string().contains("before or after"));
        let zero = v1::Migration { place: "after".into(), segment: 0, ..migration };
        assert!(Migration::try_from(zero).unwrap_err().to_string().contains("from 1"));
        assert!(verdict("yes", String::new()).is_err());
    }
}
