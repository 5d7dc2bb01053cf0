//! Repairs on the wire: what is ordered, and what came of it.

use fleet::repair::{Extras, PutBack, RepairOrder, RepairReport, RepairState, Restart};

use crate::convert::{ConvertError, all, deviation_kind, parse, read_deviation_kind, text};
use crate::v1;

impl From<RepairOrder> for v1::RepairOrder {
    fn from(order: RepairOrder) -> Self {
        let release =
            v1::ReleaseRef { release: order.release.to_string(), bundle: order.bundle.to_string(), size: order.size };
        Self {
            id: order.id.into(),
            node: order.node.into(),
            service: order.service.into(),
            generation: order.generation.0,
            release: Some(release),
            paths: order.paths,
            extras: order.extras == Extras::Remove,
        }
    }
}

impl TryFrom<v1::RepairOrder> for RepairOrder {
    type Error = ConvertError;
    fn try_from(order: v1::RepairOrder) -> Result<Self, ConvertError> {
        let release = order.release.ok_or(ConvertError::Missing("release"))?;
        Ok(Self {
            id: parse("id", &order.id)?,
            node: parse("node", &order.node)?,
            service: parse("service", &order.service)?,
            generation: fleet::Generation(order.generation),
            release: parse("release", &release.release)?,
            bundle: parse("bundle", &release.bundle)?,
            size: release.size,
            paths: all("paths", order.paths, Ok)?,
            extras: if order.extras { Extras::Remove } else { Extras::Keep },
        })
    }
}

impl From<RepairReport> for v1::RepairReport {
    fn from(report: RepairReport) -> Self {
        use v1::repair_report::State as S;
        let put_back = |its: PutBack| v1::RepairPutBack { path: its.path, kind: deviation_kind(its.kind).into() };
        let state = match report.state {
            RepairState::Working { detail } => S::Working(v1::RepairWorking { detail }),
            RepairState::Done { put_back: files, restart } => S::Done(v1::RepairDone {
                put_back: files.into_iter().map(put_back).collect(),
                restarted: restart == Restart::Needed,
            }),
            RepairState::Failed { reason } => S::Failed(v1::RepairFailed { reason }),
        };
        Self { id: report.id.into(), state: Some(state) }
    }
}

impl TryFrom<v1::RepairReport> for RepairReport {
    type Error = ConvertError;
    fn try_from(report: v1::RepairReport) -> Result<Self, ConvertError> {
        use v1::repair_report::State as S;
        let read = |its: v1::RepairPutBack| {
            let kind = read_deviation_kind(its.kind())?;
            Ok(PutBack { path: text(its.path), kind })
        };
        let state = match report.state.ok_or(ConvertError::Missing("state"))? {
            S::Working(working) => RepairState::Working { detail: text(working.detail) },
            S::Done(done) => RepairState::Done {
                put_back: all("put_back", done.put_back, read)?,
                restart: if done.restarted { Restart::Needed } else { Restart::NotNeeded },
            },
            S::Failed(failed) => RepairState::Failed { reason: text(failed.reason) },
        };
        Ok(Self { id: parse("id", &report.id)?, state })
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use fleet::evidence::DeviationKind;
    use fleet::{Digest, RepairId};

    #[test]
    fn a_repair_survives_the_wire() {
        let id = RepairId::from_random(9);
        let order = RepairOrder {
            id: id.clone(),
            node: "n1".parse().unwrap(),
            service: "web".parse().unwrap(),
            generation: fleet::Generation(4),
            release: "r-aaaaaaaaaaaa".parse().unwrap(),
            bundle: Digest([2; 32]),
            size: 9,
            paths: vec!["etc/conf".into()],
            extras: Extras::Remove,
        };
        assert_eq!(RepairOrder::try_from(v1::RepairOrder::from(order.clone())).unwrap(), order);
        let put_back = vec![PutBack { path: "etc/conf".into(), kind: DeviationKind::File }];
        for state in [
            RepairState::Working { detail: "fetching".into() },
            RepairState::Done { put_back, restart: Restart::Needed },
            RepairState::Failed { reason: "no space".into() },
        ] {
            let report = RepairReport { id: id.clone(), state };
            assert_eq!(RepairReport::try_from(v1::RepairReport::from(report.clone())).unwrap(), report);
        }
    }
}
