//! The drift report as a stream (`-o jsonl`): the version first, a line a finding, and last what it amounts to, so that a
//! stream which was cut off is told from one in which nothing differs.

use serde::Serialize;

use super::documents::{DriftReport, DriftSummary, Event, Finding, STREAM_FORMAT, SelfTestReport, line};
use super::seen::Seen;

#[derive(Debug, Serialize)]
#[serde(tag = "type", rename_all = "camelCase", rename_all_fields = "camelCase")]
enum Line {
    Finding {
        #[serde(flatten)]
        finding: Box<Finding>,
    },
    Summary {
        made_at: String,
        fresh: bool,
        unknown: Option<String>,
        oldest_observation_ms: Option<u64>,
        unobserved: Vec<String>,
        mixed: Vec<String>,
        #[serde(flatten)]
        summary: DriftSummary,
        self_test: Option<Box<SelfTestReport>>,
    },
}

/// Every line.
pub fn render(seen: &Seen) -> String {
    let report = DriftReport::new(seen.report.clone(), seen.unknown.clone(), seen.mixed.clone());
    let mut text = line(&Event::Version { format: STREAM_FORMAT, fleetctl: env!("CARGO_PKG_VERSION") });
    for finding in report.items {
        text += &line(&Line::Finding { finding: Box::new(finding) });
    }
    text + &line(&Line::Summary {
        made_at: report.made_at,
        fresh: report.fresh,
        unknown: report.unknown,
        oldest_observation_ms: report.oldest_observation_ms,
        unobserved: report.unobserved,
        mixed: report.mixed,
        summary: report.summary,
        self_test: report.self_test.map(Box::new),
    })
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use crate::output::documents::document;
    use crate::output::samples::{clean, hostile, seen, selftest};
    use fleet_proto::v1;

    #[test]
    fn the_last_line_says_what_it_amounts_to() {
        let text = render(&seen(hostile()));
        let lines: Vec<_> = text.lines().collect();
        assert_eq!(lines.len(), 3, "{text}");
        assert!(lines[0].starts_with(r#"{"type":"version","format":"1.0","#), "{text}");
        assert!(
            lines[1].starts_with(
                r#"{"type":"finding","node":"n1","service":"shop","kind":"extra","what":"a|b\"c'd\ne<f>\u001b`g`"#
            ),
            "{text}"
        );
        assert_eq!(
            lines[2],
            r#"{"type":"summary","madeAt":"2026-11-21T09:14:03Z","fresh":true,"unknown":null,"oldestObservationMs":2000,"unobserved":[],"mixed":[],"nodes":8,"compliant":7,"drifted":1,"unreachable":0,"findings":1,"accepted":0,"acceptedFindings":0,"ignored":0,"ignoredBy":0,"selfTest":null}"#
        );
        let stale = render(&seen(v1::DriftReport { unobserved: vec!["n8".into()], ..clean() }));
        assert!(
            stale.contains(r#""fresh":false,"unknown":"not observed since the controller started: n8""#),
            "{stale}"
        );
    }

    #[test]
    fn the_last_line_has_the_self_test_as_the_document_has_it() {
        let report = v1::DriftReport { self_test: Some(selftest("failed")), ..clean() };
        let text = render(&seen(report.clone()));
        let last: serde_json::Value = serde_json::from_str(text.lines().last().unwrap()).unwrap();
        let whole = document("DriftReport", DriftReport::new(report, None, vec![]));
        let whole: serde_json::Value = serde_json::from_str(&whole).unwrap();
        assert_eq!(last["selfTest"], whole["selfTest"]);
        assert_eq!(
            (last["selfTest"]["result"].as_str(), last["selfTest"]["at"].as_str()),
            (Some("failed"), Some("2026-11-21T06:14:03Z"))
        );
    }
}
