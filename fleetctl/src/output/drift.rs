//! What differs from what is desired, for people and spreadsheets; and whether the answer can be trusted at all.

use fleet::Millis;
use fleet::drift::Kind;
use fleet_proto::v1;

use super::csv;
use super::seen::{Seen, accepted_by, counted};
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
    for finding in list.iter().filter(|finding| finding.accepted.is_none()) {
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
    let text = if rows.is_empty() { String::new() } else { rows.to_text() };
    text + &accepted(list)
}

/// The findings that somebody accepts, marked as such, with who and why.
fn accepted(list: &[v1::Finding]) -> String {
    let mut text = String::new();
    for f in list {
        if let Some(by) = accepted_by(f) {
            let line =
                format!("accepted: {} {} {} {}: found {}; {by}", f.node, or_dash(&f.service), f.kind, f.what, f.found);
            text += &format!("{}\n", plain(&line));
        }
    }
    text
}

/// The table of findings with how bad they are, and since when to the second.
fn wide(list: &[v1::Finding]) -> String {
    let mut rows = Columns::new(&[
        "NODE", "SERVICE", "KIND", "SEVERITY", "WHAT", "EXPECTED", "FOUND", "SINCE", "CHANGED", "ORIGIN", "BY",
    ]);
    for f in list.iter().filter(|finding| finding.accepted.is_none()) {
        let cells = [&f.node, &f.service, &f.kind, &f.severity, &f.what, &f.expected, &f.found];
        let changed = f.changed_at_ms.map_or_else(|| "-".to_owned(), rfc3339_seconds);
        let rest = [rfc3339_seconds(f.since_ms), changed, or_dash(&f.origin), or_dash(&f.by)];
        rows.row(cells.into_iter().map(|cell| or_dash(cell)).chain(rest));
    }
    let text = if rows.is_empty() { String::new() } else { rows.to_text() };
    text + &accepted(list)
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
    let mut aside = String::new();
    if report.accepted > 0 {
        aside += &format!(", {} accepted", report.accepted);
    }
    if report.ignored > 0 {
        let (files, rules) = (count(report.ignored as usize, "extra file"), count(report.ignored_by as usize, "rule"));
        aside += &format!(", {files} ignored by {rules}");
    }
    format!(
        "{} of {} drifted ({}), {} unreachable, {} compliant{aside}. {scanned}",
        report.drifted,
        count(report.nodes as usize, "node"),
        count(counted(report).count(), "finding"),
        report.unreachable,
        report.compliant,
    )
}

/// `self-test: passed on n1 3h ago; the decoy was found after 2.1s`
pub fn selftest_line(test: &v1::SelfTestReport, now_ms: i64) -> String {
    let found = test.found_after_ms.map(|ms| format!("; the decoy was found after {}", Millis(ms)));
    format!("{}{}", selftest_head(test, now_ms), found.unwrap_or_default())
}

/// What went wrong in a self-test, where, when, and what to do; the detail says what was tried:
/// `self-test: FAILED on n1 3h ago: the decoy (pid 7, …) was not found …; try again: fleetctl drift selftest`
pub fn selftest_alarm(test: &v1::SelfTestReport, now_ms: i64) -> String {
    let detail = if test.detail.is_empty() { String::new() } else { format!(": {}", plain(&test.detail)) };
    format!("{}{detail}; try again: fleetctl drift selftest", selftest_head(test, now_ms))
}

fn selftest_head(test: &v1::SelfTestReport, now_ms: i64) -> String {
    let word = match test.result.as_str() {
        "passed" | "running" => plain(&test.result),
        other => plain(other).to_uppercase(),
    };
    let node = if test.node.is_empty() { String::new() } else { format!(" on {}", plain(&test.node)) };
    format!("self-test: {word}{node} {} ago", age_at(now_ms, test.at_ms))
}

/// The whole report for people.
pub fn render(report: &v1::DriftReport, exit: u8, width: Width) -> String {
    let mut text = match width {
        Width::Narrow => findings(&report.findings, report.made_at_ms),
        Width::Wide => wide(&report.findings),
    };
    text += &format!("{}   (exit {exit})\n", summary(report));
    if let Some(test) = &report.self_test {
        text += &format!("  {}\n", selftest_line(test, report.made_at_ms));
    }
    // The first node that can be looked at; an unreachable one cannot.
    if let Some(finding) = counted(report).find(|f| !matches!(f.kind.as_str(), "unreachable" | "unmanaged")) {
        text += &format!("  look     fleetctl nodes show {}\n", plain(&finding.node));
    }
    // Only files can be put back, or accepted as they are.
    let files = |f: &&v1::Finding| f.kind.parse::<Kind>().is_ok_and(Kind::is_acceptable);
    if let Some(finding) = counted(report).find(files) {
        let node = plain(&finding.node);
        text += &format!("  diff     fleetctl drift {node} --diff\n  repair   fleetctl drift fix {node}\n");
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
    let mut text = csv::record([
        "node", "service", "kind", "what", "expected", "found", "severity", "since", "changed", "by", "origin",
        "accepted",
    ]);
    for f in &report.findings {
        let (since, changed) = (rfc3339(f.since_ms), f.changed_at_ms.map(rfc3339).unwrap_or_default());
        let accepted = accepted_by(f).unwrap_or_default();
        let cells = [&f.node, &f.service, &f.kind, &f.what, &f.expected, &f.found, &f.severity, &since, &changed];
        let cells = cells.into_iter().chain([&f.by, &f.origin, &accepted]);
        text += &csv::record(cells.map(String::as_str));
    }
    if let Some(why) = &seen.unknown {
        text += &csv::record(["", "", "unknown", why, "", "", "critical", &rfc3339(report.made_at_ms), "", "", "", ""]);
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::output::samples::{self, START, clean, drift, hostile, seen, selftest};

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
  diff     fleetctl drift web-12 --diff
  repair   fleetctl drift fix web-12
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
    fn what_is_accepted_or_ignored_is_shown_and_not_counted() {
        let report = v1::DriftReport { findings: vec![samples::accepted()], accepted: 1, compliant: 7, ..clean() };
        let report = v1::DriftReport { ignored: 3, ignored_by: 1, ..report };
        assert_eq!(
            render(&report, 0, Width::Narrow),
            "accepted: web-12 shop mode bin/shop: found 0777; accepted by alice until 2026-12-21T09:14:03Z: hotfix OPS-4711
0 of 8 nodes drifted (0 findings), 0 unreachable, 7 compliant, 1 accepted, 3 extra files ignored by 1 rule. Scanned 2s ago.   (exit 0)
"
        );
        let records = to_csv(&seen(report));
        assert!(
            records.ends_with(",,,,accepted by alice until 2026-12-21T09:14:03Z: hotfix OPS-4711\r\n"),
            "{records}"
        );
    }

    #[test]
    fn a_self_test_has_its_line() {
        let told = |test: v1::SelfTestReport| (selftest_line(&test, START), selftest_alarm(&test, START));
        let (line, _) = told(selftest("passed"));
        assert_eq!(line, "self-test: passed on web-12 3h ago; the decoy was found after 2.1s");
        let report = v1::DriftReport { self_test: Some(selftest("passed")), ..clean() };
        assert!(render(&report, 0, Width::Narrow).ends_with(&format!("   (exit 0)\n  {line}\n")));
        let (line, alarm) = told(selftest("failed"));
        assert_eq!(line, "self-test: FAILED on web-12 3h ago");
        assert_eq!(
            alarm,
            "self-test: FAILED on web-12 3h ago: the decoy (pid 911, old code r-4410ffe2aaaa of shop) was not found within 30s: the alarm is broken; try again: fleetctl drift selftest"
        );
        let nowhere = v1::SelfTestReport { node: String::new(), detail: String::new(), ..selftest("unknown") };
        assert_eq!(told(nowhere).1, "self-test: UNKNOWN 3h ago; try again: fleetctl drift selftest");
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
        assert!(text.contains("web-12,shop,mode,bin/shop,0755,0777,warning,2026-11-19T09:14:03Z,2026-11-19T09:13:00Z,\"vim (pid 123), root via alice\",,\r\n"), "{text}");
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
            "web-22  shop     process      critical  pid 911        r-51ab09c4e2f1 (2.3.0)  r-4410ffe2aaaa (2.2.9)  2026-11-19T09:14:03Z  -                     -       -"
        );
        let line = text.lines().nth(2).unwrap_or_default();
        assert!(
            line.ends_with("2026-11-19T09:14:03Z  2026-11-19T09:13:00Z  -       vim (pid 123), root via alice"),
            "{line}"
        );
    }

    #[test]
    fn a_hostile_name_stays_in_its_cell() {
        let table = render(&hostile(), 2, Width::Narrow);
        assert_eq!(table.lines().count(), 6, "{table}");
        let records = to_csv(&seen(hostile()));
        assert!(records.contains("n1,shop,extra,\"a|b\"\"c'd\ne<f>\u{1b}`g` [x](y)\t=SUM\\\",,"), "{records}");
    }
}
