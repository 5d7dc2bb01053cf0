//! The state of the fleet as Prometheus reads it (text format 0.0.4, no timestamps): for the textfile collector of
//! node_exporter, or whatever asks for it. Zero is written only where it is known: with `fleet_drift_up 0` no series
//! says that nothing differs, and what is not there raises an alert (`examples/monitoring/prometheus/fleet.rules.yml`).

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;

use fleet_proto::selftest;

use super::seen::Seen;
use super::text::plain;

/// The states of nodes that are always told, also when there is none in them.
const STATES: [&str; 8] =
    ["ready", "deploying", "working", "drifted", "unreachable", "unmanaged", "fenced", "unobserved"];

/// A service and its environment; both empty for what belongs to a node as a whole.
type Key<'a> = (&'a str, &'a str);

/// Every metric that the look can give.
pub fn render(seen: &Seen) -> String {
    let mut text = Text::default();
    text.family("fleet_drift_up", "Whether every expected node was looked at lately enough: with 0 nobody knows.");
    text.sample("fleet_drift_up", &[], if seen.unknown.is_none() { "1" } else { "0" });
    findings(seen, &mut text);
    scan(seen, &mut text);
    deployments(seen, &mut text);
    nodes(seen, &mut text);
    selftest(seen, &mut text);
    text.0
}

/// Every service that was asked for or has findings, and the nodes themselves.
fn keys(seen: &Seen) -> BTreeMap<&str, &str> {
    let mut keys: BTreeMap<&str, &str> = seen.report.findings.iter().map(|f| (f.service.as_str(), "")).collect();
    keys.extend(seen.services.iter().map(|s| (s.service.as_str(), s.environment.as_str())));
    keys.insert("", "");
    keys
}

fn findings(seen: &Seen, text: &mut Text) {
    let keys = keys(seen);
    let mut drifted: BTreeMap<Key, BTreeSet<&str>> = BTreeMap::new();
    let mut items: BTreeMap<(Key, &str), usize> = BTreeMap::new();
    let mut accepted: BTreeMap<Key, usize> = BTreeMap::new();
    for finding in &seen.report.findings {
        let key = (finding.service.as_str(), keys.get(finding.service.as_str()).copied().unwrap_or_default());
        if finding.accepted.is_some() {
            *accepted.entry(key).or_default() += 1;
            continue;
        }
        drifted.entry(key).or_default().insert(&finding.node);
        *items.entry((key, finding.kind.as_str())).or_default() += 1;
    }
    if seen.unknown.is_none() {
        for key in keys {
            drifted.entry(key).or_default();
        }
    }
    text.family("fleet_drift_nodes", "Nodes with findings; without a service: of the node itself.");
    for ((service, env), nodes) in &drifted {
        text.sample("fleet_drift_nodes", &[("service", service), ("env", env)], &nodes.len().to_string());
    }
    text.family("fleet_drift_items", "Findings by kind.");
    for (((service, env), kind), number) in &items {
        let labels = [("service", *service), ("env", *env), ("kind", *kind)];
        text.sample("fleet_drift_items", &labels, &number.to_string());
    }
    text.family("fleet_drift_accepted_items", "Findings that somebody accepts as they are; in no other series.");
    for ((service, env), number) in &accepted {
        text.sample("fleet_drift_accepted_items", &[("service", service), ("env", env)], &number.to_string());
    }
    text.family("fleet_drift_ignored_files", "Extra files that rules ignore; in no other series.");
    if seen.unknown.is_none() {
        text.sample("fleet_drift_ignored_files", &[], &seen.report.ignored.to_string());
    }
}

fn scan(seen: &Seen, text: &mut Text) {
    const NAME: &str = "fleet_drift_last_scan_timestamp_seconds";
    text.family(NAME, "When the node that was not looked at for longest was looked at, by the controller's clock.");
    let Some(oldest) = seen.report.oldest_observation_ms else { return };
    let at = seen.report.made_at_ms.saturating_sub_unsigned(oldest);
    for (service, env) in keys(seen) {
        text.sample(NAME, &[("service", service), ("env", env)], &seconds(at));
    }
}

fn deployments(seen: &Seen, text: &mut Text) {
    const NAME: &str = "fleet_deployment_in_progress";
    text.family(NAME, "Whether a deployment is at work.");
    for s in &seen.services {
        let running = if s.state == "deploying" { "1" } else { "0" };
        text.sample(NAME, &[("service", &s.service), ("env", &s.environment)], running);
    }
}

fn nodes(seen: &Seen, text: &mut Text) {
    if seen.nodes.is_empty() {
        return;
    }
    let mut states: BTreeMap<&str, usize> = STATES.into_iter().map(|state| (state, 0)).collect();
    for node in &seen.nodes {
        *states.entry(&node.state).or_default() += 1;
    }
    text.family("fleet_nodes", "Expected nodes by state.");
    for (state, number) in states {
        text.sample("fleet_nodes", &[("state", state)], &number.to_string());
    }
    text.family("fleet_node_last_seen_timestamp_seconds", "Last contact with the node's agent.");
    for node in &seen.nodes {
        if let Some(at) = node.last_contact_ms {
            text.sample("fleet_node_last_seen_timestamp_seconds", &[("node", &node.name)], &seconds(at));
        }
    }
    releases(seen, text);
    let soonest = seen.nodes.iter().filter_map(|n| Some((n.certificate_not_after_ms?, &n.name))).min();
    text.family("fleet_certificate_not_after_timestamp_seconds", "When the agent's certificate that ends first ends.");
    if let Some((at, subject)) = soonest {
        let labels = [("subject", subject.as_str()), ("kind", "agent_min")];
        text.sample("fleet_certificate_not_after_timestamp_seconds", &labels, &seconds(at));
    }
}

/// The newest self-test, if there ever was one; nothing while one is at work, as it is not known how it will end.
fn selftest(seen: &Seen, text: &mut Text) {
    let Some(test) = seen.report.self_test.as_ref().filter(|test| test.result != selftest::RUNNING) else { return };
    text.family(
        "fleet_drift_selftest_success",
        "Whether the decoy of the newest self-test was found and forgotten in time.",
    );
    text.sample("fleet_drift_selftest_success", &[], if selftest::passed(test) { "1" } else { "0" });
    text.family(
        "fleet_drift_selftest_timestamp_seconds",
        "When the newest self-test began, by the controller's clock.",
    );
    text.sample("fleet_drift_selftest_timestamp_seconds", &[], &seconds(test.at_ms));
    if let Some(after) = test.found_after_ms {
        text.family(
            "fleet_drift_selftest_seconds",
            "How long the decoy of the newest self-test stood before it was found.",
        );
        text.sample("fleet_drift_selftest_seconds", &[], &seconds(i64::try_from(after).unwrap_or(i64::MAX)));
    }
}

fn releases(seen: &Seen, text: &mut Text) {
    let envs = keys(seen);
    text.family("fleet_node_release_info", "What the node holds of the service, by its own word.");
    for node in &seen.nodes {
        for held in node.services.iter().filter(|s| !s.release.is_empty()) {
            // A service that was not asked for has no environment here.
            let Some(env) = envs.get(held.service.as_str()) else { continue };
            let labels = [
                ("node", node.name.as_str()),
                ("service", &held.service),
                ("env", env),
                ("version", &held.version),
                ("release", &held.release),
            ];
            text.sample("fleet_node_release_info", &labels, "1");
        }
    }
}

/// Milliseconds as the seconds of Prometheus.
fn seconds(ms: i64) -> String {
    format!("{}.{:03}", ms.div_euclid(1_000), ms.rem_euclid(1_000))
}

#[derive(Debug, Default)]
struct Text(String);

impl Text {
    /// The heading of a metric; every metric here is a gauge.
    fn family(&mut self, name: &str, help: &str) {
        let _infallible = write!(self.0, "# HELP {name} {help}\n# TYPE {name} gauge\n");
    }

    fn sample(&mut self, name: &str, labels: &[(&str, &str)], value: &str) {
        let pairs: Vec<_> = labels.iter().map(|(label, text)| format!("{label}=\"{}\"", escape(text))).collect();
        let labels = if pairs.is_empty() { String::new() } else { format!("{{{}}}", pairs.join(",")) };
        let _infallible = writeln!(self.0, "{name}{labels} {value}");
    }
}

fn escape(text: &str) -> String {
    plain(text).replace('\\', "\\\\").replace('"', "\\\"")
}

#[cfg(test)]
mod tests {
    use super::*;
    use fleet_proto::v1;

    use crate::output::samples::{START, accepted, clean, drift, hostile, seen, seen_node};

    fn shop(state: &str) -> v1::ServiceStatus {
        v1::ServiceStatus {
            service: "shop".into(),
            environment: "prod".into(),
            state: state.into(),
            ..v1::ServiceStatus::default()
        }
    }

    fn samples(text: &str) -> Vec<&str> {
        text.lines().filter(|line| !line.starts_with('#')).collect()
    }

    #[test]
    fn the_text_is_the_documented_one() {
        let mut look = seen(drift());
        look.services = vec![shop("deploying")];
        look.nodes = vec![
            seen_node("web-12"),
            v1::Node { state: "unreachable".into(), services: vec![], ..seen_node("web-31") },
        ];
        let text = render(&look);
        assert_eq!(
            samples(&text),
            [
                "fleet_drift_up 1",
                r#"fleet_drift_nodes{service="",env=""} 1"#,
                r#"fleet_drift_nodes{service="shop",env="prod"} 3"#,
                r#"fleet_drift_items{service="",env="",kind="unreachable"} 1"#,
                r#"fleet_drift_items{service="shop",env="prod",kind="file"} 1"#,
                r#"fleet_drift_items{service="shop",env="prod",kind="missing"} 1"#,
                r#"fleet_drift_items{service="shop",env="prod",kind="mode"} 1"#,
                r#"fleet_drift_items{service="shop",env="prod",kind="process"} 1"#,
                "fleet_drift_ignored_files 0",
                r#"fleet_drift_last_scan_timestamp_seconds{service="",env=""} 1795252431.000"#,
                r#"fleet_drift_last_scan_timestamp_seconds{service="shop",env="prod"} 1795252431.000"#,
                r#"fleet_deployment_in_progress{service="shop",env="prod"} 1"#,
                r#"fleet_nodes{state="deploying"} 0"#,
                r#"fleet_nodes{state="drifted"} 0"#,
                r#"fleet_nodes{state="fenced"} 0"#,
                r#"fleet_nodes{state="ready"} 1"#,
                r#"fleet_nodes{state="unmanaged"} 0"#,
                r#"fleet_nodes{state="unobserved"} 0"#,
                r#"fleet_nodes{state="unreachable"} 1"#,
                r#"fleet_nodes{state="working"} 0"#,
                r#"fleet_node_last_seen_timestamp_seconds{node="web-12"} 1795252442.000"#,
                r#"fleet_node_last_seen_timestamp_seconds{node="web-31"} 1795252442.000"#,
                r#"fleet_node_release_info{node="web-12",service="shop",env="prod",version="2.3.1",release="r-9f2c1e7ab310"} 1"#,
                r#"fleet_certificate_not_after_timestamp_seconds{subject="web-12",kind="agent_min"} 1803028443.000"#,
            ]
        );
        assert!(text.starts_with("# HELP fleet_drift_up "), "{text}");
        assert_eq!(START, 1_795_252_443_000);
    }

    #[test]
    fn a_self_test_has_its_series() {
        let selftests = |test: Option<v1::SelfTestReport>| {
            let text = render(&seen(v1::DriftReport { self_test: test, ..clean() }));
            let of = |line: &&str| line.starts_with("fleet_drift_selftest");
            samples(&text).into_iter().filter(of).map(str::to_owned).collect::<Vec<_>>()
        };
        let test = |result: &str, found_after_ms| {
            Some(v1::SelfTestReport {
                result: result.into(),
                at_ms: START,
                found_after_ms,
                ..v1::SelfTestReport::default()
            })
        };
        assert!(selftests(None).is_empty() && selftests(test("running", None)).is_empty());
        let at = "fleet_drift_selftest_timestamp_seconds 1795252443.000";
        let passed = selftests(test("passed", Some(2_100)));
        assert_eq!(passed, ["fleet_drift_selftest_success 1", at, "fleet_drift_selftest_seconds 2.100"]);
        for result in ["failed", "unknown"] {
            assert_eq!(selftests(test(result, None)), ["fleet_drift_selftest_success 0", at]);
        }
    }

    #[test]
    fn what_is_accepted_has_a_series_of_its_own() {
        let mut look = seen(v1::DriftReport { findings: vec![accepted()], accepted: 1, ..clean() });
        look.services = vec![shop("drifted")];
        let text = render(&look);
        let lines = samples(&text);
        assert!(lines.contains(&r#"fleet_drift_nodes{service="shop",env="prod"} 0"#), "{text}");
        assert!(lines.contains(&r#"fleet_drift_accepted_items{service="shop",env="prod"} 1"#), "{text}");
        assert!(!samples(&text).iter().any(|line| line.starts_with("fleet_drift_items")), "{text}");
    }

    #[test]
    fn zero_is_written_only_where_it_is_known() {
        let calm = |look: &Seen| samples(&render(look)).iter().any(|line| line.starts_with("fleet_drift_nodes"));
        let mut known = seen(clean());
        known.services = vec![shop("ok")];
        assert!(render(&known).contains("fleet_drift_nodes{service=\"shop\",env=\"prod\"} 0\n") && calm(&known));
        let mut stale = seen(v1::DriftReport { oldest_observation_ms: Some(400_000), ..clean() });
        stale.services = vec![shop("ok")];
        assert!(render(&stale).contains("fleet_drift_up 0\n") && !calm(&stale), "{}", render(&stale));
        let nothing = Seen::nothing("no controller", START);
        assert_eq!(samples(&render(&nothing)), ["fleet_drift_up 0"]);
        // What was found stays found.
        let old = seen(v1::DriftReport { oldest_observation_ms: Some(400_000), ..drift() });
        assert!(render(&old).contains("fleet_drift_nodes{service=\"shop\",env=\"\"} 3\n"), "{}", render(&old));
    }

    #[test]
    fn what_nodes_report_ends_no_label() {
        let mut look = seen(hostile());
        look.nodes = vec![v1::Node { name: "n\"1\n\\x".into(), ..seen_node("n") }];
        let text = render(&look);
        assert!(text.contains(r#"fleet_node_last_seen_timestamp_seconds{node="n\"1 \\x"} "#), "{text}");
    }
}
