//! The drift report as a monitoring plugin gives it: one line with performance data, details below, and the exit
//! codes 0, 1, 2 and 3 (Monitoring Plugins Development Guidelines).

use std::collections::BTreeMap;
use std::str::FromStr;

use fleet::Millis;
use fleet_proto::v1;

use super::drift::{Freshness, freshness};
use super::text::{age, plain};

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
    /// Older observations make the state unknown.
    pub max_age: Millis,
}

/// What the plugin prints, and its state.
pub fn render(report: &v1::DriftReport, thresholds: &Thresholds) -> (String, State) {
    let drifted = f64::from(report.drifted);
    let severe = report.findings.iter().any(|f| f.severity == "critical");
    let critical = thresholds.critical.as_ref().map_or(severe, |range| range.alerts(drifted));
    let fresh = freshness(report, thresholds.max_age);
    // A known fault outranks ignorance, ignorance outranks a warning and calm.
    let state = match &fresh {
        _ if critical => State::Critical,
        Freshness::Unknown(_) => State::Unknown,
        // A silent node and findings that no range counts are still not "OK".
        Freshness::Fresh if thresholds.warning.alerts(drifted) || report.unreachable > 0 => State::Warning,
        Freshness::Fresh if drifted == 0.0 && !report.findings.is_empty() => State::Warning,
        Freshness::Fresh => State::Ok,
    };
    let nodes = report.nodes;
    let share = (u64::from(report.compliant) * 100).checked_div(u64::from(nodes)).unwrap_or(0);
    let scan = report.oldest_observation_ms.map_or("U".to_owned(), |ms| format!("{}s", ms / 1_000));
    let critical_text = thresholds.critical.as_ref().map_or("", |r| r.text.as_str());
    // A tenth of the fleet silent at once is more than a broken machine.
    let silent_critical = (nodes / 10).max(1);
    let mut text = format!(
        "FLEET DRIFT {} - {drifted} of {nodes} nodes drifted, {} unreachable, {} compliant | drifted_nodes={drifted};{};{critical_text};0;{nodes} unreachable_nodes={};0;{silent_critical};0;{nodes} compliant={share}%;;;0;100 scan_age={scan};3600;86400;0\n",
        state.word(),
        report.unreachable,
        report.compliant,
        thresholds.warning.text,
        report.unreachable,
    );
    if let Freshness::Unknown(why) = fresh {
        text += &format!("{}\n", plain(&why));
    }
    let mut by_node: BTreeMap<&str, Vec<String>> = BTreeMap::new();
    for finding in &report.findings {
        let what = match finding.kind.as_str() {
            "unreachable" => format!(
                "unreachable {}",
                age(u64::try_from(report.made_at_ms.saturating_sub(finding.since_ms)).unwrap_or(0))
            ),
            kind => format!("{kind} {}", finding.what),
        };
        // The bar separates performance data, also here.
        by_node.entry(&finding.node).or_default().push(plain(&what).replace('|', "/"));
    }
    for (node, findings) in by_node {
        text += &format!("{}: {}\n", plain(node), findings.join(", "));
    }
    (text, state)
}

/// What the plugin prints when there is no report.
pub fn unknown(why: &str) -> String {
    format!("FLEET DRIFT UNKNOWN - {}\n", plain(why).replace('|', "/"))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use crate::output::samples::{clean, drift, finding};

    fn thresholds(critical: Option<&str>) -> Thresholds {
        Thresholds {
            warning: "0".parse().unwrap(),
            critical: critical.map(|c| c.parse().unwrap()),
            max_age: Millis::from_secs(3_600),
        }
    }

    #[test]
    fn the_line_is_the_documented_one() {
        let report = v1::DriftReport { oldest_observation_ms: Some(312_000), ..drift() };
        let (text, state) = render(&report, &thresholds(Some("2")));
        assert_eq!(state, State::Critical);
        assert_eq!(
            text.lines().next().unwrap(),
            "FLEET DRIFT CRITICAL - 3 of 40 nodes drifted, 1 unreachable, 36 compliant | drifted_nodes=3;0;2;0;40 unreachable_nodes=1;0;4;0;40 compliant=90%;;;0;100 scan_age=312s;3600;86400;0"
        );
        assert!(text.contains("\nweb-12: file etc/shop.toml, mode bin/shop\n"), "{text}");
        assert!(text.contains("\nweb-31: unreachable 2d\n"), "{text}");
        assert!(text.lines().next().unwrap().split('|').next().unwrap().len() <= 80);
    }

    #[test]
    fn states_and_their_numbers() {
        assert_eq!(render(&clean(), &thresholds(Some("2"))).1 as u8, 0);
        let one = v1::DriftReport {
            drifted: 1,
            compliant: 7,
            findings: vec![finding("n1", "mode", "x", "", "", "warning")],
            ..clean()
        };
        assert_eq!(render(&one, &thresholds(Some("2"))).1, State::Warning);
        assert_eq!(render(&one, &thresholds(None)).1, State::Warning);
        let stale = v1::DriftReport { oldest_observation_ms: Some(4_000_000), ..clean() };
        let (text, state) = render(&stale, &thresholds(None));
        assert_eq!((state, state as u8), (State::Unknown, 3));
        assert!(text.starts_with("FLEET DRIFT UNKNOWN - 0 of 8 nodes drifted"), "{text}");
        let silent = v1::DriftReport { unreachable: 1, compliant: 7, ..clean() };
        assert_eq!(render(&silent, &thresholds(Some("2"))).1, State::Warning);
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
