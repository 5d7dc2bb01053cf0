//! The drift report as a monitoring plugin gives it: one line with performance data, details below, and the exit
//! codes 0, 1, 2 and 3 (Monitoring Plugins Development Guidelines).

use std::collections::BTreeMap;
use std::str::FromStr;

use super::drift::selftest_alarm;
use super::seen::{Seen, Tested, accepted_by, counted, tested};
use super::text::{age, cut, plain};

/// A plugin's state; its number is the exit code.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum State {
    /// Nothing to see.
    Ok = 0,
    /// Look at it today.
    Warning = 1,
    /// Look at it now.
    Critical = 2,
    /// Nobody knows.
    Unknown = 3,
}

impl State {
    fn word(self) -> &'static str {
        match self {
            Self::Ok => "OK",
            Self::Warning => "WARNING",
            Self::Critical => "CRITICAL",
            Self::Unknown => "UNKNOWN",
        }
    }
}

/// A threshold range `[@]start:end`: alert outside of it, or inside with `@`. `10` is `0:10`, `~` is minus infinity.
#[derive(Debug, Clone, PartialEq)]
pub struct Range {
    text: String,
    start: f64,
    end: f64,
    side: Side,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Side {
    Outside,
    Inside,
}

impl Range {
    /// Whether `value` raises the alert.
    pub fn alerts(&self, value: f64) -> bool {
        let inside = self.start <= value && value <= self.end;
        match self.side {
            Side::Outside => !inside,
            Side::Inside => inside,
        }
    }
}

/// Why a range was refused.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("'{0}' is not a threshold range: write 2, 0:2, ~:2, 5: or @1:3")]
pub struct RangeError(String);

impl FromStr for Range {
    type Err = RangeError;
    fn from_str(text: &str) -> Result<Self, RangeError> {
        let refuse = || RangeError(text.chars().take(80).collect());
        let number = |part: &str| part.parse::<f64>().ok().filter(|n| n.is_finite()).ok_or_else(refuse);
        let (side, rest) = text.strip_prefix('@').map_or((Side::Outside, text), |rest| (Side::Inside, rest));
        let (start, end) = match rest.split_once(':') {
            None => (0.0, number(rest)?),
            Some((start, end)) => {
                let start = match start {
                    "~" => f64::NEG_INFINITY,
                    "" => 0.0,
                    start => number(start)?,
                };
                (start, if end.is_empty() { f64::INFINITY } else { number(end)? })
            }
        };
        if start > end {
            return Err(refuse());
        }
        Ok(Self { text: text.to_owned(), start, end, side })
    }
}

/// The thresholds, all on the number of drifted nodes.
#[derive(Debug, Clone, PartialEq)]
pub struct Thresholds {
    /// `-w`.
    pub warning: Range,
    /// `-c`; without it, any finding of severity critical is critical.
    pub critical: Option<Range>,
}

/// How long the first line may be before the performance data: what a pager and a web page show whole.
const COLUMNS: usize = 80;

/// What the plugin prints, and its state.
pub fn render(seen: &Seen, thresholds: &Thresholds) -> (String, State) {
    let report = &seen.report;
    let drifted = f64::from(report.drifted);
    let severe = counted(report).any(|f| f.severity == "critical");
    let selftest = report.self_test.as_ref();
    let deaf = selftest.is_some_and(|test| tested(test) == Tested::Failed);
    let critical = thresholds.critical.as_ref().map_or(severe, |range| range.alerts(drifted));
    // A known fault outranks ignorance, ignorance outranks a warning and calm.
    let state = match &seen.unknown {
        _ if critical => State::Critical,
        Some(_) => State::Unknown,
        // A silent node and findings that no range counts are still not "OK".
        None if thresholds.warning.alerts(drifted) || report.unreachable > 0 => State::Warning,
        None if drifted == 0.0 && counted(report).next().is_some() => State::Warning,
        // An alarm that did not ring when it was tried: that it is silent now means nothing.
        None if deaf => State::Warning,
        None => State::Ok,
    };
    let nodes = report.nodes;
    let share = (u64::from(report.compliant) * 100).checked_div(u64::from(nodes)).unwrap_or(0);
    let scan = report.oldest_observation_ms.map_or("U".to_owned(), |ms| format!("{}s", ms / 1_000));
    let critical_text = thresholds.critical.as_ref().map_or("", |r| r.text.as_str());
    // A tenth of the fleet silent at once is more than a broken machine.
    let accepted = report.findings.len() - counted(report).count();
    let silent_critical = (nodes / 10).max(1);
    let mut text = format!(
        "FLEET DRIFT {} - {drifted} of {nodes} nodes drifted, {} unreachable",
        state.word(),
        report.unreachable
    );
    // What makes the state goes before what is well: a pager shows this line alone.
    let failed = if deaf { ", self-test failed" } else { "" };
    let compliant = format!(", {} compliant", report.compliant);
    for part in [failed, compliant.as_str()] {
        if text.len() + part.len() <= COLUMNS {
            text += part;
        }
    }
    text += &format!(
        " | drifted_nodes={drifted};{};{critical_text};0;{nodes} unreachable_nodes={};0;{silent_critical};0;{nodes} compliant={share}%;;;0;100 scan_age={scan};3600;86400;0 accepted_findings={accepted};;;0 ignored_files={};;;0\n",
        thresholds.warning.text, report.unreachable, report.ignored,
    );
    if let Some(why) = &seen.unknown {
        text += &format!("{}\n", harmless(why));
    }
    // The details name what is to be looked at: a self-test that passed is none of it, and one at work is not yet.
    if let Some(test) = selftest.filter(|test| matches!(tested(test), Tested::Failed | Tested::Unknown)) {
        text += &format!("{}\n", harmless(&selftest_alarm(test, report.made_at_ms)));
    }
    let mut by_node: BTreeMap<&str, Vec<String>> = BTreeMap::new();
    for finding in &report.findings {
        let what = match finding.kind.as_str() {
            "unreachable" => format!(
                "unreachable {}",
                age(u64::try_from(report.made_at_ms.saturating_sub(finding.since_ms)).unwrap_or(0))
            ),
            kind if finding.by.is_empty() => format!("{kind} {}", finding.what),
            kind => format!("{kind} {} by {}", finding.what, finding.by),
        };
        let what = accepted_by(finding).map_or(what.clone(), |by| format!("{what} ({by})"));
        by_node.entry(&finding.node).or_default().push(harmless(&what));
    }
    for (node, findings) in by_node {
        text += &format!("{}: {}\n", harmless(node), findings.join(", "));
    }
    (text, state)
}

/// What the plugin prints when there is no report.
pub fn unknown(why: &str) -> String {
    let line = format!("FLEET DRIFT UNKNOWN - {}", harmless(why));
    let short = cut(&line, COLUMNS);
    if short == line { line + "\n" } else { format!("{short}\n{}\n", harmless(why)) }
}

/// Text of others: the bar would begin performance data, on every line.
fn harmless(text: &str) -> String {
    plain(text).replace('|', "/")
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use fleet::Millis;
    use fleet_proto::v1;

    use crate::output::samples::{accepted, clean, drift, finding, hostile, selftest};

    fn thresholds(critical: Option<&str>) -> Thresholds {
        Thresholds { warning: "0".parse().unwrap(), critical: critical.map(|c| c.parse().unwrap()) }
    }

    fn seen(report: v1::DriftReport) -> Seen {
        Seen::new(report, Millis::from_secs(3_600))
    }

    #[test]
    fn the_line_is_the_documented_one() {
        let report = v1::DriftReport { oldest_observation_ms: Some(312_000), ..drift() };
        let (text, state) = render(&seen(report.clone()), &thresholds(Some("2")));
        assert_eq!(state, State::Critical);
        assert_eq!(
            text.lines().next().unwrap(),
            "FLEET DRIFT CRITICAL - 3 of 40 nodes drifted, 1 unreachable, 36 compliant | drifted_nodes=3;0;2;0;40 unreachable_nodes=1;0;4;0;40 compliant=90%;;;0;100 scan_age=312s;3600;86400;0 accepted_findings=0;;;0 ignored_files=0;;;0"
        );
        assert!(
            text.contains("\nweb-12: file etc/shop.toml, mode bin/shop by vim (pid 123), root via alice\n"),
            "{text}"
        );
        assert!(text.contains("\nweb-31: unreachable 2d\n"), "{text}");
        assert!(text.lines().next().unwrap().split('|').next().unwrap().len() <= 80);
    }

    #[test]
    fn states_and_their_numbers() {
        assert_eq!(render(&seen(clean()), &thresholds(Some("2"))).1 as u8, 0);
        let one = v1::DriftReport {
            drifted: 1,
            compliant: 7,
            findings: vec![finding("n1", "mode", "x", "", "", "warning")],
            ..clean()
        };
        assert_eq!(render(&seen(one.clone()), &thresholds(Some("2"))).1, State::Warning);
        let accepted = v1::DriftReport { findings: vec![accepted()], accepted: 1, compliant: 7, ..clean() };
        let (text, state) = render(&seen(accepted), &thresholds(None));
        assert_eq!(state, State::Ok, "{text}");
        assert!(
            text.contains(" accepted_findings=1;;;0 ") && text.contains("mode bin/shop (accepted by alice"),
            "{text}"
        );
        assert_eq!(render(&seen(one.clone()), &thresholds(None)).1, State::Warning);
        let stale = v1::DriftReport { oldest_observation_ms: Some(4_000_000), ..clean() };
        let (text, state) = render(&seen(stale), &thresholds(None));
        assert_eq!((state, state as u8), (State::Unknown, 3));
        assert!(text.starts_with("FLEET DRIFT UNKNOWN - 0 of 8 nodes drifted"), "{text}");
        let silent = v1::DriftReport { unreachable: 1, compliant: 7, ..clean() };
        assert_eq!(render(&seen(silent), &thresholds(Some("2"))).1, State::Warning);
    }

    #[test]
    fn a_self_test_that_failed_is_never_ok_and_says_what_to_do() {
        let with = |test: v1::SelfTestReport, report: v1::DriftReport| {
            render(&seen(v1::DriftReport { self_test: Some(test), ..report }), &thresholds(None))
        };
        let without = render(&seen(clean()), &thresholds(None));
        let (text, state) = with(selftest("failed"), clean());
        assert_eq!((state, state as u8), (State::Warning, 1));
        let (first, details) = text.split_once('\n').unwrap();
        let (said, performance) = first.split_once(" | ").unwrap();
        assert_eq!(said, "FLEET DRIFT WARNING - 0 of 8 nodes drifted, 0 unreachable, self-test failed");
        assert!(without.0.ends_with(&format!(" | {performance}\n")), "the numbers are the same: {text}");
        assert_eq!(
            details,
            "self-test: FAILED on web-12 3h ago: the decoy (pid 911, old code r-4410ffe2aaaa of shop) was not found within 30s: the alarm is broken; try again: fleetctl drift selftest\n"
        );

        // That it passed, or is at work, changes nothing; that it could not be tried is told, and is no fault.
        for result in ["passed", "running"] {
            assert_eq!(with(selftest(result), clean()), without, "{result}");
        }
        let (text, state) = with(selftest("unknown"), clean());
        assert_eq!(state, State::Ok);
        let (first, details) = text.split_once('\n').unwrap();
        assert_eq!(format!("{first}\n"), without.0);
        assert_eq!(
            details,
            "self-test: UNKNOWN on web-12 3h ago: its agent planted no decoy within 30s; try again: fleetctl drift selftest\n"
        );

        // What was found, and not knowing, outrank it; it is told all the same.
        let stale = v1::DriftReport { oldest_observation_ms: Some(4_000_000), ..clean() };
        for (report, outranks) in [(drift(), State::Critical), (stale, State::Unknown)] {
            let (text, state) = with(selftest("failed"), report);
            assert_eq!(state, outranks, "{text}");
            let first = text.lines().next().unwrap();
            assert!(
                first.contains(", self-test failed | ") && text.contains("\nself-test: FAILED on web-12 "),
                "{text}"
            );
            assert!(first.split(" | ").next().unwrap().len() <= COLUMNS, "{first}");
        }

        let odd = v1::SelfTestReport { detail: "a|b\nc".into(), ..selftest("failed") };
        let (text, _) = with(odd, clean());
        assert_eq!((text.lines().count(), text.matches('|').count()), (2, 1), "{text}");
    }

    #[test]
    fn the_first_line_is_short_and_has_one_bar() {
        let large = v1::DriftReport { nodes: 40_000, drifted: 3_000, unreachable: 1_000, compliant: 36_000, ..drift() };
        let (text, _) = render(&seen(large), &thresholds(None));
        let first = text.lines().next().unwrap();
        assert!(first.split(" | ").next().unwrap().len() <= COLUMNS, "{first}");
        assert!(first.contains("1000 unreachable | "), "{first}");

        let (text, state) = render(&seen(hostile()), &thresholds(None));
        assert_eq!(state, State::Warning);
        assert_eq!(text.lines().count(), 2, "{text}");
        assert_eq!(text.matches('|').count(), 1, "{text}");

        let why = "the controller at controller.example.com:7443 cannot be reached | and this goes on".repeat(2);
        let text = unknown(&why);
        assert_eq!(text.lines().next().unwrap().chars().count(), COLUMNS);
        assert!(text.lines().nth(1).unwrap().ends_with("goes on") && !text.contains('|'), "{text}");
        assert_eq!(unknown("no report within 10s"), "FLEET DRIFT UNKNOWN - no report within 10s\n");
    }

    #[test]
    fn ranges_are_those_of_the_guidelines() {
        let alerts = |range: &str, value: f64| range.parse::<Range>().unwrap().alerts(value);
        assert!(!alerts("10", 10.0) && alerts("10", 11.0) && alerts("10", -1.0));
        assert!(alerts("10:", 9.0) && !alerts("10:", 1e9));
        assert!(!alerts("~:10", -5.0) && alerts("~:10", 11.0));
        assert!(alerts("10:20", 9.0) && !alerts("10:20", 15.0));
        assert!(alerts("@10:20", 15.0) && !alerts("@10:20", 9.0));
        for bad in ["", "x", "5:1", "1:2:3", "nan", "inf"] {
            assert!(bad.parse::<Range>().is_err(), "{bad}");
        }
    }
}
