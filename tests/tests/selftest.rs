//! The self-test of the alarm in a real fleet: a decoy of real old code is found by the ordinary look, nobody is called
//! for it, and nothing of it is left.
#![allow(clippy::unwrap_used)]

use std::fs;

use fleet_tests::workspace::Workspace;
use fleet_tests::{Fleet, readers, until};
use serde_json::Value;

/// What the node's agent says of the decoys that it planted: their process numbers.
fn planted(fleet: &Fleet, node: &str) -> Vec<u32> {
    let log = fs::read_to_string(fleet.node_dir(node).join("agent.log")).unwrap();
    let of = |line: &str| {
        let rest = line.split_once("a decoy stands")?.1;
        rest.split_once("pid=")?.1.split(' ').next()?.trim().parse().ok()
    };
    log.lines().filter_map(of).collect()
}

fn report(fleet: &Fleet) -> Value {
    fleet.ctl(["drift", "-o", "json"]).json()
}

#[test]
fn the_alarm_is_tried_with_real_old_code_and_with_made() {
    let fleet = Fleet::on_version_1(2);
    until("all is well", || (fleet.ctl(["drift", "--quiet"]).code == 0).then_some(()));
    assert_eq!(report(&fleet)["selfTest"], Value::Null);

    // Nothing older lies on the nodes: it is made.
    let made = fleet.ctl(["drift", "selftest", "--node", "n1", "--deadline", "60s"]).expect(0);
    made.says("self-test: passed on n1").says("made old code");
    // And after another version it is the old one's own program.
    fleet.ctl(["deploy", &Workspace::built().example("hello-2").to_string_lossy(), "--bake", "0"]).expect(0);
    let test = fleet.ctl(["drift", "selftest", "--node", "n1", "--deadline", "60s", "-o", "json"]).expect(0).json();
    assert_eq!((test["kind"].as_str(), test["result"].as_str()), (Some("SelfTestReport"), Some("passed")));
    assert!(test["foundAfterMs"].is_u64() && test["closedAfterMs"].is_u64(), "{test:#}");
    assert!(test["detail"].as_str().unwrap().contains(", old code r-"), "{test:#}");
    // The volunteers take turns, and cron hears nothing.
    let output = fleet.ctl(["drift", "selftest", "--quiet"]).expect(0);
    assert_eq!((output.stdout.as_str(), output.stderr.as_str()), ("", ""), "{output}");
    let after = report(&fleet);
    readers::jsonschema("drift-report.schema.json", &after);
    assert_eq!(
        (after["selfTest"]["node"].as_str(), after["selfTest"]["result"].as_str()),
        (Some("n2"), Some("passed"))
    );
    assert_eq!((after["items"].as_array().unwrap().len(), after["decoys"].as_array().unwrap().len()), (0, 0));
    fleet.ctl(["drift"]).expect(0).says("self-test: passed on n2");
    fleet.ctl(["drift", "-o", "prometheus"]).expect(0).says("fleet_drift_selftest_success 1");
    // In every form that has a place for it, and each is still what its reader accepts.
    let stream = fleet.ctl(["drift", "-o", "jsonl"]).expect(0);
    let last: Value = serde_json::from_str(stream.stdout.lines().last().unwrap()).unwrap();
    assert_eq!(last["selfTest"], after["selfTest"], "{stream}");
    fleet.ctl(["drift", "-o", "markdown"]).expect(0).says("\nself-test: passed on n2");
    let junit = fleet.ctl(["drift", "-o", "junit"]).expect(0).says(r#"name="alarm self-test" time="0"/>"#);
    readers::xmllint_junit(&junit.stdout);
    let plugin = fleet.ctl(["drift", "--format", "nagios"]).expect(0).never_says("self-test");
    readers::monitoring_plugin(&plugin);

    // Nothing of it is left: no process, no file.
    let pids: Vec<u32> = ["n1", "n2"].iter().flat_map(|node| planted(&fleet, node)).collect();
    assert_eq!(pids.len(), 3, "{pids:?}");
    for pid in pids {
        let program = fs::read_link(format!("/proc/{pid}/exe")).unwrap_or_default();
        assert!(!program.to_string_lossy().contains("decoy"), "{pid} still executes {}", program.display());
    }
    for node in ["n1", "n2"] {
        assert!(!fleet.node_dir(node).join("services/.fleet-decoy").exists());
    }

    // A node whose agent does not answer, and one that does not exist: nobody knows.
    fleet.ctl(["drift", "selftest", "--node", "n9"]).expect(1).says("UNKNOWN").says("n9");
    assert_eq!(report(&fleet)["selfTest"]["result"], "unknown");
    // That it could not be tried is told, and is no fault of the fleet: the plugin says so and stays OK.
    let plugin = fleet.ctl(["drift", "--format", "nagios"]).expect(0).says("\nself-test: UNKNOWN").says("n9");
    readers::monitoring_plugin(&plugin);
    let junit =
        fleet.ctl(["drift", "-o", "junit"]).expect(0).says(r#"<error type="unknown" message="self-test: UNKNOWN"#);
    readers::xmllint_junit(&junit.stdout);
    fleet.kill_agent("n1");
    fleet.kill_agent("n2");
    until("both are gone", || {
        let output = fleet.ctl(["drift", "selftest"]);
        (output.code == 1 && output.stderr.contains("none of them is in contact")).then_some(())
    });
}
