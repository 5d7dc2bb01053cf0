//! `drift --kind` and `--env`: the part of a report that was asked for. What nobody could look at is in every part: a
//! silent node's files are not known to be right.

use std::collections::BTreeSet;

use fleet::drift::Kind;
use fleet_proto::v1;

use crate::output::seen::is_blind;

/// Leaves only the findings of these kinds (all, if none is named), and counts again.
pub(super) fn by_kind(report: &mut v1::DriftReport, kinds: &[Kind]) {
    if !kinds.is_empty() {
        keep(report, |finding| is_blind(&finding.kind) || kinds.iter().any(|kind| kind.as_str() == finding.kind));
    }
}

/// Leaves only what concerns these services, or nodes as a whole, and counts again.
pub(super) fn by_service(report: &mut v1::DriftReport, services: &BTreeSet<&str>) {
    keep(report, |finding| finding.service.is_empty() || services.contains(finding.service.as_str()));
}

fn keep(report: &mut v1::DriftReport, wanted: impl Fn(&v1::Finding) -> bool) {
    let names = |list: &[v1::Finding]| list.iter().map(|f| f.node.clone()).collect::<BTreeSet<_>>();
    let away = |list: &[v1::Finding]| {
        let away = list.iter().filter(|f| matches!(f.kind.as_str(), "unreachable" | "unmanaged"));
        away.map(|f| f.node.clone()).collect::<BTreeSet<_>>()
    };
    let (before, away) = (names(&report.findings), away(&report.findings));
    report.findings.retain(wanted);
    let after = names(&report.findings);
    for node in before.difference(&after).filter(|node| !away.contains(*node)) {
        report.drifted = report.drifted.saturating_sub(1);
        // Of whom nothing is known nothing good is said.
        if !report.unobserved.contains(node) {
            report.compliant += 1;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::output::samples::drift;

    fn numbers(report: &v1::DriftReport) -> (u32, u32, u32, usize) {
        (report.drifted, report.unreachable, report.compliant, report.findings.len())
    }

    #[test]
    fn a_kind_leaves_the_silent_in() {
        let mut report = drift();
        by_kind(&mut report, &[]);
        assert_eq!(numbers(&report), (3, 1, 36, 5), "all of it");
        by_kind(&mut report, &[Kind::Mode]);
        assert_eq!(numbers(&report), (1, 1, 38, 2));
        assert_eq!(report.findings[1].kind, "unreachable");
        let mut unseen = v1::DriftReport { unobserved: vec!["db-03".into()], ..drift() };
        by_kind(&mut unseen, &[Kind::Mode]);
        assert_eq!(numbers(&unseen), (1, 1, 37, 2), "who was not observed is not clean");
    }

    #[test]
    fn an_environment_has_its_services_and_the_nodes() {
        let mut report = drift();
        by_service(&mut report, &BTreeSet::from(["billing"]));
        assert_eq!(numbers(&report), (0, 1, 39, 1));
        let mut report = drift();
        by_service(&mut report, &BTreeSet::from(["shop"]));
        assert_eq!(numbers(&report), (3, 1, 36, 5));
    }
}
