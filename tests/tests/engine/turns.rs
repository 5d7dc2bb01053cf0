//! Failures that wait for a person, and releases that were rolled back and are not silently deployed again.

use std::fs;

use fleet_tests::stage::segments;
use fleet_tests::{Stage, Story};

pub const STORIES: &[Story] = &[
    ("a failure waits for a person", pause_on_failure),
    ("a release that was rolled back is marked", rolled_back_before),
];

fn pause_on_failure(stage: &Stage) {
    let (fleet, before, made) = (&stage.fleet, stage.level(), stage.make());
    // A test that says no until it is mended.
    let mended = fleet.folder().join("mended");
    let command = format!("[ -e {} ] || {{ echo not yet; exit 1; }}", mended.display());
    let flags = ["--segments", "2", "--on-failure", "pause", "--test", &command];
    let mut stream = fleet.deploy_stream(&made.path, &flags);
    let id = stream.until_fact("halted")["deployment"].as_str().unwrap().to_owned();
    let halted = fleet.until_reason(&id, "it failed: gate test after segment 1: exit 1");
    fleet.bounce_controller();
    fleet.until_reason(&id, "it failed: gate test after segment 1: exit 1");
    stage.run_by(&segments(&halted)[1], &before);
    fs::write(&mended, "").unwrap();
    fleet.ctl(["promote", &id, "--retry"]).expect(0);
    stream.finish().expect(0);
    stage.run_by_all(&made);

    // Nodes that fail: the person looks, lets the next segment try, and has seen enough.
    let broken = stage.make_broken();
    let id = fleet.begin(&broken.path, &["--canary", "1", "--segments", "3", "--on-failure", "pause"]);
    fleet.until_reason(&id, "it failed:");
    fleet.bounce_controller();
    let halted = fleet.until_reason(&id, "0 allowed");
    stage.run_by(&segments(&halted)[1..].concat(), &made);
    fleet.ctl(["promote", &id]).expect(0);
    let again = fleet.until_reason(&id, "it failed:");
    // Of the next segment, and so in the second halt.
    assert!(again["segments"][1]["startedAt"].is_string(), "{again:#}");
    fleet.ctl(["abort", &id, "--rollback"]).expect(0);
    let done = fleet.ended(&id, 5);
    assert_eq!(done["outcome"], "aborted", "{done:#}");
    stage.run_by_all(&made);
}

fn rolled_back_before(stage: &Stage) {
    let (fleet, before, made) = (&stage.fleet, stage.level(), stage.make());
    let failing = ["--segments", "2", "--test", "echo smoke; exit 1"];
    let output = fleet.deploy(&made.path, &failing).expect(3);
    output.says("smoke");
    stage.run_by_all(&before);
    let list = fleet.ctl(["releases", "list", "-o", "json"]).expect(0).json();
    let of =
        |version: &str| list["items"].as_array().unwrap().iter().find(|r| r["version"] == version).cloned().unwrap();
    let by = of(&made.version)["rolledBackBy"].as_str().unwrap().to_owned();
    assert!(of(&before.version)["rolledBackBy"].is_null(), "{list:#}");
    fleet.bounce_controller();
    let refused = fleet.deploy(&made.path, &["--segments", "1"]).expect_refusal().one_error();
    refused.says("was rolled back by").says(&by).says("gate test").says("--again");
    stage.run_by_all(&before);
    let id = fleet.begin(&made.path, &["--segments", "2", "--again", "--pause-after", "1"]);
    fleet.until_reason(&id, "it waits to be promoted after segment 1");
    fleet.bounce_controller();
    fleet.ctl(["promote", &id]).expect(0);
    fleet.ended(&id, 0);
    stage.run_by_all(&made);
    // It has converged since: the mark is gone.
    stage.level();
    fleet.deploy(&made.path, &["--segments", "1"]).expect(0);
}
