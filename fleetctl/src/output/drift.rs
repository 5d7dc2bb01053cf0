//! What differs from what is desired, for people and spreadsheets; and whether the answer can be trusted at all.

use fleet::Millis;
use fleet_proto::v1;

use super::csv;
use super::seen::Seen;
use super::table::Columns;
use super::text::{age, age_at, count, or_dash, plain, rfc3339, rfc3339_seconds};

/// Whether a report says something about now.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Freshness {
    /// Every node that answers was observed recently enough.
    Fresh,
    /// It was not, and this is why. A report like this never says "clean".
    Unknown(String),
}

/// Judges a report's age: a report that cannot be made, or is too old, is an alarm and never "0 drifted".
pub fn freshness(report: &v1::DriftReport, max_age: Millis) -> Freshness {
    if !report.unobserved.is_empty() {
        let names: Vec<String> = report.unobserved.iter().map(|n| plain(n)).collect();
        return Freshness::Unknown(format!("not observed since the controller started: {}", names.join(" ")));
    }
    match report.oldest_observation_ms {
        Some(oldest) if oldest > max_age.0 => {
            Freshness::Unknown(format!("the oldest observation is {} old, more than {max_age}", age(oldest)))
        }
        Some(_) => Freshness::Fresh,
        None if report.nodes == 0 => Freshness::Unknown("no nodes are expected, so nothing was looked at".to_owned()),
        None if report.unreachable >= report.nodes => Freshness::Unknown("no node answers".to_owned()),
        None => Freshness::Unknown("no node was ever observed".to_owned()),
    }
}

/// The table of findings.
pub fn findings(list: &[v1::Finding], now_ms: i64) -> String {
    let mut rows = Columns::new(&["NODE", "SERVICE", "KIND", "WHAT", "EXPECTED", "FOUND", "SINCE"]);
    for finding in list {
        rows.row([
            finding.node.clone(),
            or_dash(&finding.service),
            finding.kind.clone(),
            or_dash(&finding.what),
            or_dash(&finding.expected),
            or_dash(&finding.found),
            age_at(now_ms, finding.since_ms),
        ]);
    }
    if rows.is_empty() { String::new() } else { rows.to_text() }
}

/// The table of findings with how bad they are, and since when to the second.
fn wide(list: &[v1::Finding]) -> String {
    let mut rows =
        Columns::new(&["NODE", "SERVICE", "KIND", "SEVERITY", "WHAT", "EXPECTED", "FOUND", "SINCE", "CHANGED", "BY"]);
    for f in list {
        let cells = [&f.node, &f.service, &f.kind, &f.severity, &f.what, &f.expected, &f.found];
        let changed = f.changed_at_ms.map_or_else(|| "-".to_owned(), rfc3339_seconds);
        let rest = [rfc3339_seconds(f.since_ms), changed, or_dash(&f.by)];
        rows.row(cells.into_iter().map(|cell| or_dash(cell)).chain(rest));
    }
    if rows.is_empty() { String::new() } else { rows.to_text() }
}

/// How much a table tells.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Width {
    /// What fits a terminal.
    Narrow,
    /// Everything.
    Wide,
}

/// `3 of 40 nodes drifted (5 findings), 1 unreachable, 36 compliant. Scanned 12s ago.`
pub fn summary(report: &v1::DriftReport) -> String {
    let scanned = report
        .oldest_observation_ms
        .map_or_else(|| "Never scanned.".to_owned(), |ms| format!("Scanned {} ago.", age(ms)));
    format!(
        "{} of {} drifted ({}), {} unreachable, {} compliant. {scanned}",
        report.drifted,
        count(report.nodes as usize, "node"),
        count(report.findings.len(), "finding"),
        report.unreachable,
        report.compliant,
    )
}

/// The whole report for people.
pub fn render(report: &v1::DriftReport, exit: u8, width: Width) -> String {
    let mut text = match width {
        Width::Narrow => findings(&report.findings, report.made_at_ms),
        Width::Wide => wide(&report.findings),
    };
    text += &format!("{}   (exit {exit})\n", summary(report));
    // The first node that can be repaired by deploying to it again; an unreachable one cannot.
    if let Some(finding) = report.findings.iter().find(|f| !matches!(f.kind.as_str(), "unreachable" | "unmanaged")) {
        text += &format!("  look     fleetctl nodes show {}\n", plain(&finding.node));
    }
    text
}

/// What to say of services whose nodes shall hold different releases: that is desired, so it is no drift, and nobody
/// should have to find it out by chance.
pub fn mixed_note(services: &[String]) -> String {
    services
        .iter()
        .map(|service| {
            let service = plain(service);
            format!(
                "note: {service} is mixed: its nodes shall hold different releases (deploy --limit, or a deployment that was stopped); see: fleetctl verify {service}\n"
            )
        })
        .collect()
}

/// The findings as comma-separated values. Not knowing is a record too: a heading alone means that nothing differs.
pub fn to_csv(seen: &Seen) -> String {
    let report = &seen.report;
    let mut text =
        csv::record(["node", "service", "kind", "what", "expected", "found", "severity", "since", "changed", "by"]);
    for f in &report.findings {
        let (since, changed) = (rfc3339(f.since_ms), f.changed_at_ms.map(rfc3339).unwrap_or_default());
        let cells =
            [&f.node, &f.service, &f.kind, &f.what, &f.expected, &f.found, &f.severity, &since, &changed, &f.by];
        text += &csv::record(cells.map(String::as_str));
    }
    if let Some(why) = &seen.unknown {
        text += &csv::record(["", "", "unknown", why, "", "", "critical", &rfc3339(report.made_at_ms), "", ""]);
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::output::samples::{clean, drift, hostile, seen};

    #[test]
    fn the_report_is_the_documented_one() {
        assert_eq!(
            render(&drift(), 2, Width::Narrow),
            "NODE    SERVICE  KIND         WHAT           EXPECTED                FOUND                   SINCE
web-12  shop     file         etc/shop.toml  sha256 77c0             sha256 e1b4             2d
web-12  shop     mode         bin/shop       0755                    0777                    2d
web-22  shop     process      pid 911        r-51ab09c4e2f1 (2.3.0)  r-4410ffe2aaaa (2.2.9)  2d
db-03   shop     missing      lib/x.so       sha256 1111             -                       2d
web-31  -        unreachable  no contact     -                       -                       2d
3 of 40 nodes drifted (5 findings), 1 unreachable, 36 compliant. Scanned 12s ago.   (exit 2)
  look     fleetctl nodes show web-12
"
        );
    }

    #[test]
    fn old_or_missing_observations_are_never_clean() {
        let limit = Millis::from_secs(300);
        assert_eq!(freshness(&clean(), limit), Freshness::Fresh);
        let old = v1::DriftReport { oldest_observation_ms: Some(301_000), ..clean() };
        assert_eq!(freshness(&old, limit), Freshness::Unknown("the oldest observation is 5m old, more than 5m".into()));
        let never = v1::DriftReport { oldest_observation_ms: None, ..clean() };
        assert_eq!(freshness(&never, limit), Freshness::Unknown("no node was ever observed".into()));
        let empty = v1::DriftReport { nodes: 0, compliant: 0, oldest_observation_ms: None, ..clean() };
        assert!(matches!(freshness(&empty, limit), Freshness::Unknown(_)));
        let unseen = v1::DriftReport { unobserved: vec!["n3".into()], ..clean() };
        assert_eq!(
            freshness(&unseen, limit),
            Freshness::Unknown("not observed since the controller started: n3".into())
        );
    }

    #[test]
    fn a_mixed_service_is_told_and_is_no_finding() {
        assert_eq!(mixed_note(&[]), "");
        let note = mixed_note(&["shop".to_owned(), "bill\u{1b}ing".to_owned()]);
        assert_eq!(note.lines().count(), 2);
        assert!(note.starts_with("note: shop is mixed: ") && !note.contains('\u{1b}'), "{note}");
    }

    #[test]
    fn spreadsheets_get_records() {
        let text = to_csv(&seen(drift()));
        assert_eq!(text.lines().count(), 6);
        assert!(text.contains("web-12,shop,mode,bin/shop,0755,0777,warning,2026-11-19T09:14:03Z,2026-11-19T09:13:00Z,\"vim (pid 123), root via alice\"\r\n"), "{text}");
    }
    #[test]
    fn a_spreadsheet_says_that_nobody_knows() {
        assert_eq!(to_csv(&seen(clean())).lines().count(), 1);
        let stale = to_csv(&seen(v1::DriftReport { oldest_observation_ms: Some(400_000), ..clean() }));
        assert!(
            stale.contains("\r\n,,unknown,\"the oldest observation is 6m old, more than 5m\",,,critical,"),
            "{stale}"
        );
    }

    #[test]
    fn the_wide_table_has_everything() {
        let text = render(&drift(), 2, Width::Wide);
        let line = text.lines().nth(3).unwrap_or_default();
        assert_eq!(
            line,
            "web-22  shop     process      critical  pid 911        r-51ab09c4e2f1 (2.3.0)  r-4410ffe2aaaa (2.2.9)  2026-11-19T09:14:03Z  -                     -"
        );
        let line = text.lines().nth(2).unwrap_or_default();
        assert!(line.ends_with("2026-11-19T09:14:03Z  2026-11-19T09:13:00Z  vim (pid 123), root via alice"), "{line}");
    }

    #[test]
    fn a_hostile_name_stays_in_its_cell() {
        let table = render(&hostile(), 2, Width::Narrow);
        assert_eq!(table.lines().count(), 4, "{table}");
        let records = to_csv(&seen(hostile()));
        assert!(records.contains("n1,shop,extra,\"a|b\"\"c'd\ne<f>\u{1b}`g` [x](y)\t=SUM\\\",,"), "{records}");
    }
}
