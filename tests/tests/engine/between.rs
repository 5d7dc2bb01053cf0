//! Tests between segments: by a fleetctl that watches, on the controller's host, and those that nobody answers.

use std::fs;

use fleet_tests::stage::{lines, segments, until_lines};
use fleet_tests::{Made, Output, Stage, Story, until};
use serde_json::Value;

pub const STORIES: &[Story] = &[
    ("a test run by fleetctl", a_test_that_passes),
    ("a failing test rolls back", a_test_that_fails),
    ("no answer is never a yes", no_answer),
    ("a test on the controller's host", on_the_controller),
];

/// A test that writes down what it was told, waits for the file `go`, and ends as `end` says.
fn test(stage: &Stage, name: &str, end: &str) -> (String, std::path::PathBuf, std::path::PathBuf) {
    let (told, go) =
        (stage.fleet.folder().join(format!("{name}.told")), stage.fleet.folder().join(format!("{name}.go")));
    let text = format!(
        "echo \"$FLEET_DEPLOYMENT $FLEET_VERSION $FLEET_SEGMENT/$FLEET_SEGMENTS $FLEET_SEGMENT_NODES\" >>{}\n\
         while ! [ -e {} ]; do sleep 0.05; done\n{end}",
        told.display(),
        go.display()
    );
    (stage.script(&format!("{name}.sh"), &text).display().to_string(), told, go)
}

/// What a test must have been told, one line for each segment.
fn expected(document: &Value, made: &Made) -> Vec<String> {
    let segments = segments(document);
    let id = document["id"].as_str().unwrap();
    let line = |(at, nodes): (usize, &Vec<String>)| {
        format!("{id} {} {}/{} {}", made.version, at + 1, segments.len(), nodes.join(" "))
    };
    segments.iter().enumerate().map(line).collect()
}

fn a_test_that_passes(stage: &Stage) {
    let (fleet, made) = (&stage.fleet, stage.make());
    let (command, told, go) = test(stage, "smoke", "exit 0");
    let mut stream = fleet.deploy_stream(&made.path, &["--segments", "2", "--test", &command]);
    let id = stream.until_fact("gate-started")["deployment"].as_str().unwrap().to_owned();
    let waiting = fleet.until_reason(&id, "an answer to the gate test");
    assert_eq!(waiting["phase"], "gating", "{waiting:#}");
    until_lines(&told, 1);
    fleet.bounce_controller();
    fleet.until_reason(&id, "an answer to the gate test");
    fs::write(&go, "").unwrap();
    stream.finish().expect(0);
    let done = fleet.ended(&id, 0);
    assert_eq!(lines(&told), expected(&done, &made), "once for each segment, though the controller was killed");
    stage.run_by_all(&made);
}

fn a_test_that_fails(stage: &Stage) {
    let (fleet, before, made) = (&stage.fleet, stage.level(), stage.make());
    let (command, told, go) = test(stage, "failing", "[ \"$FLEET_SEGMENT\" = 1 ] || { echo nothing works; exit 9; }");
    let mut stream = fleet.deploy_stream(&made.path, &["--segments", "3", "--test", &command]);
    let id = stream.until_fact("gate-started")["deployment"].as_str().unwrap().to_owned();
    fleet.until_reason(&id, "an answer to the gate test");
    fs::write(&go, "").unwrap();
    stream.until_fact("rollback-started");
    fleet.bounce_controller();
    stream.finish().expect(3).says("nothing works");
    let done = fleet.ended(&id, 3);
    assert!(done["cause"].as_str().unwrap().contains("gate test after segment 2"), "{done:#}");
    assert_eq!(lines(&told), expected(&done, &made)[..2], "the third segment is never begun");
    stage.run_by_all(&before);
}

fn no_answer(stage: &Stage) {
    let (fleet, before, made) = (&stage.fleet, stage.level(), stage.make());
    // The test itself cannot tell.
    let mut stream = fleet.deploy_stream(&made.path, &["--segments", "2", "--test", "echo no data; exit 75"]);
    let id = stream.until_fact("halted")["deployment"].as_str().unwrap().to_owned();
    let halted = fleet.until_reason(&id, "gate test after segment 1 is inconclusive: exit 75");
    assert_eq!(halted["phase"], "halted", "{halted:#}");
    fleet.bounce_controller();
    fleet.until_reason(&id, "gate test after segment 1 is inconclusive: exit 75");
    let second = segments(&halted)[1].clone();
    stage.run_by(&second, &before);
    fleet.ctl(["promote", &id]).expect(0);
    fleet.until_reason(&id, "gate test after segment 2 is inconclusive: exit 75");
    fleet.ctl(["promote", &id]).expect(0);
    stream.finish().expect(0);
    stage.run_by_all(&made);

    // Nobody runs it.
    let next = stage.make();
    let flags = ["--segments", "1", "--test", "true", "--test-timeout", "2s"];
    let id = fleet.begin(&next.path, &flags);
    fleet.until_reason(&id, "gate test after segment 1 is inconclusive: no answer within 2s");
    fleet.bounce_controller();
    fleet.until_reason(&id, "gate test after segment 1 is inconclusive: no answer within 2s");
    let mut watcher = fleet.command("fleetctl");
    let watcher = std::thread::scope(|scope| {
        let watching = scope.spawn(|| Output::of(watcher.args(["wait", &id, "--run-tests"])));
        fleet.ctl(["promote", &id, "--retry"]).expect(0);
        watching.join().unwrap()
    });
    watcher.expect(0).says("attempt 2");
    stage.run_by_all(&next);
}

fn on_the_controller(stage: &Stage) {
    let (fleet, before, made) = (&stage.fleet, stage.level(), stage.make());
    let (command, told, go) = test(stage, "there", "exit 0");
    let flags = ["--segments", "2", "--test-on-controller", &command];
    fleet.deploy(&made.path, &flags).expect_refusal().one_error().says("run_tests");
    stage.run_by_all(&before);

    let config = fleet.controller_config();
    let text = fs::read_to_string(&config).unwrap();
    fs::write(&config, format!("run_tests = true\n{text}")).unwrap();
    fleet.bounce_controller();
    let id = fleet.begin(&made.path, &flags);
    fleet.until_reason(&id, "an answer to the gate test");
    until_lines(&told, 1);
    fleet.bounce_controller();
    // A test changes nothing: the new controller runs it again.
    until_lines(&told, 2);
    fleet.until_reason(&id, "an answer to the gate test");
    fs::write(&go, "").unwrap();
    let done = fleet.ended(&id, 0);
    let expected = expected(&done, &made);
    until("the test was run for both segments", || {
        let told = lines(&told);
        (told.first() == Some(&expected[0]) && told.last() == Some(&expected[1])).then_some(())
    });
    stage.run_by_all(&made);
    fs::write(&config, text).unwrap();
    fleet.bounce_controller();
}
