//! Reports as JUnit XML, which every CI shows: a suite a node, a case a check. What differs has failed; what nobody could
//! look at is an error, and never a case that passed or was left out.

use std::collections::BTreeMap;

use fleet::Outcome;
use fleet_proto::v1;

use super::drift::selftest_alarm;
use super::seen::{Seen, Tested, accepted_by, is_blind, tested};
use super::tally::{self, Standing};
use super::text::{plain, rfc3339_seconds};

/// One check of one node.
#[derive(Debug, Clone)]
struct Case {
    class: String,
    name: String,
    result: Verdict,
}

#[derive(Debug, Clone)]
enum Verdict {
    Passed,
    /// It differs.
    Failed {
        kind: String,
        message: String,
        text: String,
    },
    /// Nobody knows.
    Error {
        kind: String,
        message: String,
    },
    /// It is as it is by a person's wish: a difference that somebody accepts, or nothing was asked of it.
    Skipped {
        message: String,
    },
}

impl Verdict {
    fn failed(kind: &str, message: &str, text: &str) -> Self {
        Self::Failed { kind: kind.to_owned(), message: message.to_owned(), text: text.to_owned() }
    }

    fn error(kind: &str, message: &str) -> Self {
        Self::Error { kind: kind.to_owned(), message: message.to_owned() }
    }

    fn skipped(message: &str) -> Self {
        Self::Skipped { message: message.to_owned() }
    }
}

/// Suites by their names, in order.
type Suites = BTreeMap<String, Vec<Case>>;

/// The drift report.
pub fn drift(seen: &Seen) -> String {
    let mut suites = Suites::new();
    for finding in &seen.report.findings {
        suites.entry(finding.node.clone()).or_default().push(case(finding));
    }
    for node in &seen.nodes {
        let unknown = seen.unknown_of(node);
        let cases = suites.entry(node.name.clone()).or_default();
        let result = match unknown {
            Some(message) => Verdict::Error { kind: "unobserved".to_owned(), message },
            None if cases.is_empty() => Verdict::Passed,
            None => continue,
        };
        cases.push(Case { class: "fleet.drift".to_owned(), name: "nothing differs".to_owned(), result });
    }
    let result = match &seen.unknown {
        Some(why) => Verdict::Error { kind: "unknown".to_owned(), message: why.clone() },
        None => Verdict::Passed,
    };
    let name = "every expected node was looked at".to_owned();
    let mut report = vec![Case { class: "fleet.drift".to_owned(), name, result }];
    report.extend(seen.report.self_test.as_ref().map(|test| selftest(test, seen.report.made_at_ms)));
    xml("fleet drift", &report, &suites, seen.report.made_at_ms)
}

/// The newest self-test of the alarm; where there never was one there is no case.
fn selftest(test: &v1::SelfTestReport, now_ms: i64) -> Case {
    let result = match tested(test) {
        Tested::Passed => Verdict::Passed,
        Tested::Failed => {
            let text = format!("begun {} by {}", rfc3339_seconds(test.at_ms), test.by);
            Verdict::failed("selftest", &selftest_alarm(test, now_ms), &text)
        }
        Tested::Unknown => Verdict::error("unknown", &selftest_alarm(test, now_ms)),
        // How it will end is not known yet, and that is nobody's fault.
        Tested::Running => Verdict::skipped("it is at work"),
    };
    Case { class: "fleet.drift".to_owned(), name: "alarm self-test".to_owned(), result }
}

/// What every node proved; if there is nothing, why.
pub fn verify(reply: &v1::VerifyReply, why: &str) -> String {
    let mut suites = Suites::new();
    for proof in &reply.proofs {
        let name = format!("{} runs {} ({}), grade {}", proof.service, proof.version, proof.release, proof.grade);
        let case = Case { class: class(&proof.service), name, result: Verdict::Passed };
        suites.entry(proof.node.clone()).or_default().push(case);
    }
    for finding in &reply.findings {
        suites.entry(finding.node.clone()).or_default().push(case(finding));
    }
    let result = match suites.is_empty() {
        true => Verdict::Error { kind: "unknown".to_owned(), message: why.to_owned() },
        false => Verdict::Passed,
    };
    let name = "some node was asked for its proof".to_owned();
    let report = vec![Case { class: "fleet.verify".to_owned(), name, result }];
    xml("fleet verify", &report, &suites, reply.made_at_ms)
}

/// A deployment: as it ended, or, when `why` says so, as it was last seen.
pub fn deployment(deployment: &v1::Deployment, why: Option<&str>, now_ms: i64) -> String {
    let mut suites = Suites::new();
    let outcome = tally::outcome(deployment);
    let converged = matches!(outcome, Some(Outcome::Converged | Outcome::ConvergedWithWaivers));
    let name = format!("runs {} {}", deployment.service, tally::version(deployment));
    for node in tally::everyone(deployment) {
        let detail = if node.detail.is_empty() { node.state.clone() } else { node.detail.clone() };
        let is_waived = deployment.waivers.iter().find(|waiver| waiver.node == node.node);
        let result = match (tally::standing(node), is_waived) {
            (Standing::Done, _) if converged => Verdict::Passed,
            (Standing::Done, _) if outcome.is_some() => {
                Verdict::failed(&deployment.outcome, "proven, and not on this release for good", &detail)
            }
            (Standing::Gone, _) => Verdict::skipped(&detail),
            (_, Some(waiver)) if converged => Verdict::skipped(&format!("waived by {}: {}", waiver.by, waiver.reason)),
            (Standing::Waiting, _) => Verdict::skipped("it was not ordered"),
            (Standing::Failed, _) => Verdict::failed("not-proven", &detail, &node.state),
            (Standing::Done | Standing::AtWork, _) => Verdict::error("not-proven", &detail),
        };
        suites.entry(node.node.clone()).or_default().push(Case {
            class: class(&deployment.service),
            name: name.clone(),
            result,
        });
    }
    let result = match (outcome, why) {
        (Some(Outcome::Converged | Outcome::ConvergedWithWaivers), _) => Verdict::Passed,
        (Some(outcome), _) => Verdict::failed(outcome.as_str(), &deployment.cause, &deployment.id),
        (None, why) => Verdict::error("unknown", why.unwrap_or("how it ended is not known")),
    };
    let case = Case { class: "fleet.deploy".to_owned(), name: "every expected node is proven".to_owned(), result };
    xml("fleet deploy", &[case], &suites, deployment.finished_at_ms.unwrap_or(now_ms))
}

fn class(service: &str) -> String {
    if service.is_empty() { "fleet.node".to_owned() } else { format!("fleet.{service}") }
}

fn case(finding: &v1::Finding) -> Case {
    let (kind, what) = (finding.kind.clone(), &finding.what);
    let message = match (finding.expected.as_str(), finding.found.as_str()) {
        ("", "") => what.clone(),
        (expected, "") => format!("{what}: expected {expected}, found nothing"),
        ("", found) => format!("{what}: expected nothing, found {found}"),
        (expected, found) => format!("{what}: expected {expected}, found {found}"),
    };
    let result = if let Some(by) = accepted_by(finding) {
        Verdict::Skipped { message: format!("{message}; {by}") }
    } else if is_blind(&kind) {
        Verdict::Error { kind: kind.clone(), message }
    } else {
        let mut text = format!("{}, since {}", finding.severity, rfc3339_seconds(finding.since_ms));
        if let Some(at) = finding.changed_at_ms {
            text += &format!(", changed {}", rfc3339_seconds(at));
        }
        if !finding.by.is_empty() {
            text += &format!(", by {}", finding.by);
        }
        Verdict::Failed { kind: kind.clone(), message, text }
    };
    Case { class: class(&finding.service), name: format!("{kind} {what}"), result }
}

fn xml(name: &str, report: &[Case], suites: &Suites, made_at_ms: i64) -> String {
    let all = || report.iter().chain(suites.values().flatten());
    // The schema's times have no zone; they are UTC.
    let stamp = rfc3339_seconds(made_at_ms).trim_end_matches('Z').to_owned();
    let mut text = "<?xml version=\"1.0\" encoding=\"UTF-8\"?>\n".to_owned();
    text += &format!("<testsuites name=\"{}\" {}>\n", escape(name), counts(all()));
    // First what the others rest on. No node can have this name: names have no spaces.
    for (node, cases) in std::iter::once(("the report", report)).chain(suites.iter().map(|(n, c)| (n.as_str(), &c[..])))
    {
        text += &format!("  <testsuite name=\"{}\" {} timestamp=\"{stamp}\">\n", escape(node), counts(cases.iter()));
        for case in cases {
            text += &format!(
                "    <testcase classname=\"{}\" name=\"{}\" time=\"0\"",
                escape(&case.class),
                escape(&case.name)
            );
            text += &match &case.result {
                Verdict::Passed => "/>\n".to_owned(),
                Verdict::Failed { kind, message, text } => {
                    format!(">\n      {}</failure>\n    </testcase>\n", open("failure", kind, message) + &escape(text))
                }
                Verdict::Error { kind, message } => {
                    format!(">\n      {}</error>\n    </testcase>\n", open("error", kind, message) + "UNKNOWN")
                }
                Verdict::Skipped { message } => {
                    format!(">\n      <skipped message=\"{}\"/>\n    </testcase>\n", escape(message))
                }
            };
        }
        text += "  </testsuite>\n";
    }
    text + "</testsuites>\n"
}

fn open(element: &str, kind: &str, message: &str) -> String {
    format!("<{element} type=\"{}\" message=\"{}\">", escape(kind), escape(message))
}

fn counts<'a>(cases: impl Iterator<Item = &'a Case>) -> String {
    let (mut tests, mut failures, mut errors, mut skipped) = (0, 0, 0, 0);
    for case in cases {
        tests += 1;
        match case.result {
            Verdict::Passed => {}
            Verdict::Failed { .. } => failures += 1,
            Verdict::Error { .. } => errors += 1,
            Verdict::Skipped { .. } => skipped += 1,
        }
    }
    format!("tests=\"{tests}\" failures=\"{failures}\" errors=\"{errors}\" skipped=\"{skipped}\" time=\"0\"")
}

/// Text as XML has it. Control characters and the two that are no characters cannot be written there at all.
fn escape(text: &str) -> String {
    let mut escaped = String::with_capacity(text.len());
    for c in plain(text).chars() {
        match c {
            '&' => escaped.push_str("&amp;"),
            '<' => escaped.push_str("&lt;"),
            '>' => escaped.push_str("&gt;"),
            '"' => escaped.push_str("&quot;"),
            '\u{fffe}' | '\u{ffff}' => escaped.push('\u{fffd}'),
            c => escaped.push(c),
        }
    }
    escaped
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::output::samples::{
        START, accepted, clean, drift as drifted, finding, finished, hostile, rolling, seen, seen_node,
        selftest as sample, traced,
    };
    use crate::output::verify::tests::proof;

    #[test]
    fn the_document_is_the_documented_one() {
        let mut look = seen(v1::DriftReport {
            nodes: 3,
            compliant: 1,
            drifted: 1,
            findings: vec![
                traced(finding("web-12", "mode", "bin/shop", "0755", "0777", "warning")),
                finding("web-31", "unreachable", "no contact", "", "", "critical"),
            ],
            ..drifted()
        });
        look.nodes = vec![seen_node("web-01"), seen_node("web-12"), seen_node("web-31")];
        assert_eq!(
            drift(&look),
            r#"<?xml version="1.0" encoding="UTF-8"?>
<testsuites name="fleet drift" tests="4" failures="1" errors="1" skipped="0" time="0">
  <testsuite name="the report" tests="1" failures="0" errors="0" skipped="0" time="0" timestamp="2026-11-21T09:14:03">
    <testcase classname="fleet.drift" name="every expected node was looked at" time="0"/>
  </testsuite>
  <testsuite name="web-01" tests="1" failures="0" errors="0" skipped="0" time="0" timestamp="2026-11-21T09:14:03">
    <testcase classname="fleet.drift" name="nothing differs" time="0"/>
  </testsuite>
  <testsuite name="web-12" tests="1" failures="1" errors="0" skipped="0" time="0" timestamp="2026-11-21T09:14:03">
    <testcase classname="fleet.shop" name="mode bin/shop" time="0">
      <failure type="mode" message="bin/shop: expected 0755, found 0777">warning, since 2026-11-19T09:14:03Z, changed 2026-11-19T09:13:00Z, by vim (pid 123), root via alice</failure>
    </testcase>
  </testsuite>
  <testsuite name="web-31" tests="1" failures="0" errors="1" skipped="0" time="0" timestamp="2026-11-21T09:14:03">
    <testcase classname="fleet.node" name="unreachable no contact" time="0">
      <error type="unreachable" message="no contact">UNKNOWN</error>
    </testcase>
  </testsuite>
</testsuites>
"#
        );
    }

    #[test]
    fn the_newest_self_test_is_a_case_of_the_report() {
        let with = |test: v1::SelfTestReport| drift(&seen(v1::DriftReport { self_test: Some(test), ..clean() }));
        assert_eq!(
            with(sample("failed")),
            r#"<?xml version="1.0" encoding="UTF-8"?>
<testsuites name="fleet drift" tests="2" failures="1" errors="0" skipped="0" time="0">
  <testsuite name="the report" tests="2" failures="1" errors="0" skipped="0" time="0" timestamp="2026-11-21T09:14:03">
    <testcase classname="fleet.drift" name="every expected node was looked at" time="0"/>
    <testcase classname="fleet.drift" name="alarm self-test" time="0">
      <failure type="selftest" message="self-test: FAILED on web-12 3h ago: the decoy (pid 911, old code r-4410ffe2aaaa of shop) was not found within 30s: the alarm is broken; try again: fleetctl drift selftest">begun 2026-11-21T06:14:03Z by alice</failure>
    </testcase>
  </testsuite>
</testsuites>
"#
        );
        let passed = with(sample("passed"));
        assert!(passed.contains(r#"tests="2" failures="0" errors="0" skipped="0""#), "{passed}");
        assert!(passed.contains(r#"name="alarm self-test" time="0"/>"#), "{passed}");
        // Whether the alarm fires is not known: that is an error as everywhere here, and never a case that passed.
        let unknown = with(sample("unknown"));
        assert!(unknown.contains(r#"tests="2" failures="0" errors="1""#), "{unknown}");
        assert!(
            unknown.contains(r#"<error type="unknown" message="self-test: UNKNOWN on web-12 3h ago: its"#),
            "{unknown}"
        );
        let running = with(sample("running"));
        assert!(running.contains(r#"<skipped message="it is at work"/>"#), "{running}");
        assert!(!drift(&seen(clean())).contains("self-test"), "there never was one");
    }

    #[test]
    fn what_nobody_looked_at_never_passes() {
        let mut stale = seen(v1::DriftReport { oldest_observation_ms: Some(400_000), ..clean() });
        stale.nodes = vec![seen_node("n1"), v1::Node { last_observation_ms: Some(START - 400_000), ..seen_node("n2") }];
        let text = drift(&stale);
        assert!(text.contains(r#"tests="3" failures="0" errors="2""#), "{text}");
        assert!(text.contains(r#"<error type="unobserved" message="last observed 6m ago">"#), "{text}");

        let mut unseen = seen(v1::DriftReport { unobserved: vec!["n1".into()], ..clean() });
        unseen.nodes = vec![seen_node("n1"), v1::Node { last_observation_ms: None, ..seen_node("n2") }];
        assert!(drift(&unseen).contains(r#"tests="3" failures="0" errors="3""#), "{}", drift(&unseen));

        let nothing = drift(&Seen::nothing("the controller did not answer", START));
        assert!(nothing.contains(r#"tests="1" failures="0" errors="1""#), "{nothing}");
        let nothing = verify(&v1::VerifyReply::default(), "no controller");
        assert!(nothing.contains(r#"tests="1" failures="0" errors="1""#), "{nothing}");
    }

    #[test]
    fn a_deployment_that_did_not_converge_has_no_node_that_passed() {
        let text = deployment(&finished(Outcome::Converged, "verified", "2"), None, START);
        assert!(
            text.contains("<testsuites name=\"fleet deploy\"") && text.contains("failures=\"0\" errors=\"0\""),
            "{text}"
        );
        for outcome in [Outcome::RolledBack, Outcome::Unproven, Outcome::Aborted, Outcome::Superseded] {
            for state in ["verified", "unverified", "failed", "pending", "ordered", "a-new-word"] {
                let text = deployment(&finished(outcome, state, "2"), None, START);
                assert!(!text.contains("runs shop 2.3.1\" time=\"0\"/>"), "{text}");
                assert!(text.contains(&format!("<failure type=\"{outcome}\"")), "{text}");
            }
        }
        let lost = deployment(&rolling(), Some("the controller went away"), START);
        assert!(lost.contains("<error type=\"unknown\" message=\"the controller went away\">"), "{lost}");
        assert!(!lost.contains("runs shop 2.3.1\" time=\"0\"/>"), "{lost}");
        let mut unknown = finished(Outcome::Converged, "verified", "2");
        unknown.outcome = "better-than-ever".into();
        assert!(deployment(&unknown, None, START).contains("<error type=\"unknown\""));
    }

    #[test]
    fn a_waived_node_is_skipped_and_says_who_said_so() {
        let mut waived = finished(Outcome::ConvergedWithWaivers, "unverified", "2");
        let node = tally::everyone(&waived)[0].node.clone();
        waived.waivers = vec![v1::Waiver { node, reason: "in repair".into(), by: "bob".into(), until_ms: START }];
        let text = deployment(&waived, None, START);
        assert!(text.contains("<skipped message=\"waived by bob: in repair\"/>"), "{text}");
    }

    #[test]
    fn what_is_accepted_is_skipped_and_neither_passes_nor_fails() {
        let text = drift(&seen(v1::DriftReport { findings: vec![accepted()], accepted: 1, compliant: 7, ..clean() }));
        assert!(text.contains(r#"tests="2" failures="0" errors="0" skipped="1""#), "{text}");
        assert!(
            text.contains(r#"<skipped message="bin/shop: expected 0755, found 0777; accepted by alice until"#),
            "{text}"
        );
    }

    #[test]
    fn proofs_pass_and_findings_do_not() {
        let unknown = finding("n2", "stale", "observation", "a fresh proof", "no answer in this round", "critical");
        let reply = v1::VerifyReply {
            proofs: vec![proof("n1")],
            findings: vec![unknown],
            made_at_ms: START,
            ..v1::VerifyReply::default()
        };
        let text = verify(&reply, "");
        assert!(text.contains(r#"name="shop runs 2.3.1 (r-9f2c1e7ab310), grade digest" time="0"/>"#), "{text}");
        assert!(text.contains(r#"tests="3" failures="0" errors="1""#), "{text}");
    }

    #[test]
    fn what_nodes_report_is_no_xml() {
        let text = drift(&seen(hostile()));
        assert!(text.contains("name=\"extra a|b&quot;c'd e&lt;f&gt;\u{fffd}`g` [x](y) =SUM\\\""), "{text}");
        assert!(!text.contains(['\u{1b}', '\u{0}', '\u{fffe}']), "{text}");
    }
}
