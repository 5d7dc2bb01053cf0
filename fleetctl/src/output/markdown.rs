//! The drift report for pull requests, chats and wikis (GitHub-flavoured Markdown): a verdict, a table, the counts,
//! the newest self-test. What nodes report is escaped, so that a file name cannot become a link, a heading or another
//! column.

use super::drift::{mixed_note, selftest_line, summary};
use super::seen::{Seen, accepted_by, differs};
use super::text::{age_at, plain};

/// The whole report.
pub fn render(seen: &Seen) -> String {
    let report = &seen.report;
    let verdict = match (&seen.unknown, differs(report)) {
        (Some(_), false) => "UNKNOWN",
        (_, true) => "DRIFT",
        (None, false) => "OK",
    };
    let mut text = format!("### Fleet drift: {verdict}\n\n");
    if let Some(why) = &seen.unknown {
        text += &format!("**UNKNOWN**: {}\n\n", escape(why));
    }
    if !report.findings.is_empty() {
        text += "| Node | Service | Kind | What | Expected | Found | Severity | Since | By |\n";
        text += "| --- | --- | --- | --- | --- | --- | --- | --- | --- |\n";
    }
    for f in &report.findings {
        let since = age_at(report.made_at_ms, f.since_ms);
        let severity = accepted_by(f).unwrap_or_else(|| f.severity.clone());
        let cells = [&f.node, &f.service, &f.kind, &f.what, &f.expected, &f.found, &severity, &since, &f.by];
        text += &format!("| {} |\n", cells.map(|cell| escape(cell)).join(" | "));
    }
    if !report.findings.is_empty() {
        text.push('\n');
    }
    text += &format!("{}\n", escape(&summary(report)));
    if let Some(test) = &report.self_test {
        text += &format!("\n{}\n", escape(&selftest_line(test, report.made_at_ms)));
    }
    for note in mixed_note(&seen.mixed).lines() {
        text += &format!("\n{}\n", escape(note));
    }
    text
}

/// Text as text: nothing in it is markup.
fn escape(text: &str) -> String {
    let mut escaped = String::with_capacity(text.len());
    for c in plain(text).chars() {
        match c {
            '&' => escaped.push_str("&amp;"),
            '<' => escaped.push_str("&lt;"),
            '>' => escaped.push_str("&gt;"),
            '\\' | '|' | '`' | '*' | '_' | '[' | ']' | '~' | '#' | '!' => escaped.extend(['\\', c]),
            c => escaped.push(c),
        }
    }
    if escaped.is_empty() { "-".to_owned() } else { escaped }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::output::samples::{accepted, clean, drift, hostile, seen, selftest};
    use fleet_proto::v1;

    #[test]
    fn the_report_is_the_documented_one() {
        let drifted = v1::DriftReport { findings: drift().findings[1..3].to_vec(), ..drift() };
        assert_eq!(
            render(&seen(drifted)),
            "### Fleet drift: DRIFT

| Node | Service | Kind | What | Expected | Found | Severity | Since | By |
| --- | --- | --- | --- | --- | --- | --- | --- | --- |
| web-12 | shop | mode | bin/shop | 0755 | 0777 | warning | 2d | vim (pid 123), root via alice |
| web-22 | shop | process | pid 911 | r-51ab09c4e2f1 (2.3.0) | r-4410ffe2aaaa (2.2.9) | critical | 2d | - |

3 of 40 nodes drifted (2 findings), 1 unreachable, 36 compliant. Scanned 12s ago.
"
        );
    }

    #[test]
    fn ok_is_said_only_of_what_is_known() {
        let ok =
            "### Fleet drift: OK\n\n0 of 8 nodes drifted (0 findings), 0 unreachable, 8 compliant. Scanned 2s ago.\n";
        assert_eq!(render(&seen(clean())), ok);
        let stale = render(&seen(v1::DriftReport { oldest_observation_ms: Some(400_000), ..clean() }));
        assert!(
            stale.starts_with("### Fleet drift: UNKNOWN\n\n**UNKNOWN**: the oldest observation is 6m old"),
            "{stale}"
        );
        let silent = render(&seen(v1::DriftReport { unreachable: 1, compliant: 7, ..clean() }));
        assert!(silent.starts_with("### Fleet drift: DRIFT\n"), "{silent}");
        let nothing = render(&Seen::nothing("the controller did not answer", 0));
        assert!(
            nothing.starts_with("### Fleet drift: UNKNOWN\n\n**UNKNOWN**: the controller did not answer\n"),
            "{nothing}"
        );
    }

    #[test]
    fn the_newest_self_test_is_under_the_totals() {
        let below = |test: v1::SelfTestReport| {
            let text = render(&seen(v1::DriftReport { self_test: Some(test), ..clean() }));
            text.split_once(" Scanned 2s ago.\n").map(|(_, rest)| rest.to_owned()).unwrap_or_default()
        };
        assert_eq!(below(selftest("passed")), "\nself-test: passed on web-12 3h ago; the decoy was found after 2.1s\n");
        assert_eq!(below(selftest("failed")), "\nself-test: FAILED on web-12 3h ago\n");
        let odd = v1::SelfTestReport { node: "`x`".into(), ..selftest("failed") };
        assert_eq!(below(odd), "\nself-test: FAILED on \\`x\\` 3h ago\n");
    }

    #[test]
    fn what_is_accepted_is_marked_and_ok() {
        let text = render(&seen(v1::DriftReport { findings: vec![accepted()], accepted: 1, compliant: 7, ..clean() }));
        assert!(text.starts_with("### Fleet drift: OK\n"), "{text}");
        assert!(text.contains("| accepted by alice until 2026-12-21T09:14:03Z: hotfix OPS-4711 |"), "{text}");
    }

    #[test]
    fn what_nodes_report_is_no_markup() {
        let text = render(&seen(hostile()));
        let row = text.lines().find(|line| line.starts_with("| n1 ")).unwrap_or_default();
        assert_eq!(
            row,
            "| n1 | shop | extra | a\\|b\"c'd e&lt;f&gt;\u{fffd}\\`g\\` \\[x\\](y) =SUM\\\\ | - | it's \"\\|\" &amp;amp; | warning | 2d | - |"
        );
    }
}
