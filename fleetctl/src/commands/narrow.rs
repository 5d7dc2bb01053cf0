//! `drift --kind` and `--env`: the part of a report that was asked for. What nobody could look at is in every part: a
//! silent node's files are not known to be right.

use std::collections::BTreeSet;

use fleet::drift::{Kind, Origin};
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

/// Leaves only what began after the last deployment had been proven; what is not known to be older stays.
pub(super) fn since_release(report: &mut v1::DriftReport) {
    keep(report, |finding| is_blind(&finding.kind) || finding.origin != Origin::WithDeployment.as_str());
}

fn keep(report: &mut v1::DriftReport, wanted: impl Fn(&v1::Finding) -> bool) {
    let names = |list: &[v1::Finding]| list.iter().map(|f| f.node.clone()).collect::<BTreeSet<_>>();
    let away = |list: &[v1::Finding]| {
        let away = list.iter().filter(|f| matches!(f.kind.as_str(), "unreachable" | "unmanaged"));
        away.map(|f| f.node.clone()).collect::<BTreeSet<_>>()
    };
    let counted = |list: &[v1::Finding]| list.iter().filter(|f| f.accepted.is_none()).cloned().collect::<Vec<_>>();
    let (before, open) = (names(&report.findings), names(&counted(&report.findings)));
    let away = away(&report.findings);
    report.findings.retain(wanted);
    let (after, still_open) = (names(&report.findings), names(&counted(&report.findings)));
    for node in open.difference(&still_open).filter(|node| !away.contains(*node)) {
        report.drifted = report.drifted.saturating_sub(1);
        if after.contains(node) {
            // Only what is accepted is left of it.
            report.accepted += 1;
        }
    }
    for node in before.difference(&after).filter(|node| !away.contains(*node)) {
        if !open.contains(node) {
            report.accepted = report.accepted.saturating_sub(1);
        }
        // Of whom nothing is known nothing good is said.
        if !report.unobserved.contains(node) {
            report.compliant += 1;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::output::samples::{accepted, drift};

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
    fn what_is_older_than_the_deployment_is_left_out_and_what_is_not_known_stays() {
        let mut report = drift();
        for (finding, origin) in report.findings.iter_mut().zip([
            "after-deployment",
            "with-deployment",
            "with-deployment",
            "unknown",
            "with-deployment",
        ]) {
            finding.origin = origin.into();
        }
        since_release(&mut report);
        assert_eq!(numbers(&report), (2, 1, 37, 3), "a silent node is in every part");
    }

    #[test]
    fn what_is_accepted_is_told_apart() {
        let mut report = drift();
        report.findings.retain(|f| f.node == "web-12");
        (report.drifted, report.unreachable, report.compliant) = (1, 0, 39);
        report.findings[1] = accepted();
        by_kind(&mut report, &[Kind::Mode]);
        assert_eq!((numbers(&report), report.accepted), ((0, 0, 39, 1), 1));
        by_kind(&mut report, &[Kind::Owner]);
        assert_eq!((numbers(&report), report.accepted), ((0, 0, 40, 0), 0));
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
