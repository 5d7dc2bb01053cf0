//! What people do to a deployment: pauses before and during it, the queue and who takes a place in it, locks.

use std::fs;

use fleet_tests::stage::segments;
use fleet_tests::{Output, Stage, Story, until};

pub const STORIES: &[Story] = &[
    ("pause after a segment, and promote", pause_after),
    ("pause and resume by hand", pause_by_hand),
    ("abort in a pause", abort_in_a_pause),
    ("busy, queued, and in another's place", queue_and_supersede),
    ("locks are held and released", locks),
];

const WAITS: &str = "it waits to be promoted after segment 1";

fn pause_after(stage: &Stage) {
    let (fleet, before, made) = (&stage.fleet, stage.level(), stage.make());
    let id = fleet.begin(&made.path, &["--segments", "3", "--pause-after", "1"]);
    fleet.ctl(["wait", &id, "--for", "promotable"]).expect(0);
    let halted = fleet.until_reason(&id, WAITS);
    fleet.bounce_controller();
    fleet.until_reason(&id, WAITS);
    fleet.ctl(["status"]).expect(0).says("halted, segment 1/3");
    fleet.ctl(["resume", &id]).expect_refusal().says("promote");
    let parts = segments(&halted);
    stage.run_by(&parts[0], &made);
    stage.run_by(&parts[1..].concat(), &before);
    fleet.ctl(["promote", &id]).expect(0);
    fleet.ended(&id, 0);
    stage.run_by_all(&made);
}

fn pause_by_hand(stage: &Stage) {
    let (fleet, made) = (&stage.fleet, stage.make());
    let mut stream = fleet.deploy_stream(&made.path, &["--segments", "4"]);
    let id = stream.until_fact("segment-started")["deployment"].as_str().unwrap().to_owned();
    fleet.ctl(["pause", &id]).expect(0);
    let paused = fleet.until_reason(&id, "paused by admin");
    assert_eq!((paused["phase"].as_str(), paused["pausedBy"].as_str()), (Some("paused"), Some("admin")), "{paused:#}");
    fleet.bounce_controller();
    let later = fleet.until_reason(&id, "paused by admin");
    let began = |document: &serde_json::Value| {
        document["segments"].as_array().unwrap().iter().filter(|segment| segment["startedAt"].is_string()).count()
    };
    assert_eq!(began(&later), began(&paused), "nothing begins in a pause");
    assert!(began(&later) < 4, "{later:#}");
    fleet.ctl(["promote", &id]).expect_refusal().says("resume");
    fleet.ctl(["resume", &id]).expect(0);
    stream.finish().expect(0);
    stage.run_by_all(&made);
}

fn abort_in_a_pause(stage: &Stage) {
    let (fleet, before, made) = (&stage.fleet, stage.level(), stage.make());
    let mut stream = fleet.deploy_stream(&made.path, &["--segments", "4"]);
    let id = stream.until_fact("segment-proven")["deployment"].as_str().unwrap().to_owned();
    fleet.ctl(["pause", &id]).expect(0);
    fleet.until_reason(&id, "paused by admin");
    fleet.bounce_controller();
    fleet.until_reason(&id, "paused by admin");
    fleet.ctl(["abort", &id]).expect(0);
    stream.finish().expect(5);
    let done = fleet.ended(&id, 5);
    assert_eq!((done["outcome"].as_str(), done["cause"].as_str()), (Some("aborted"), Some("aborted by admin")));
    stage.run_by_all(&before);
}

fn queue_and_supersede(stage: &Stage) {
    let (fleet, first, second) = (&stage.fleet, stage.make(), stage.make());
    let one = fleet.begin(&first.path, &["--segments", "2", "--pause-after", "1"]);
    fleet.until_reason(&one, WAITS);
    let busy = fleet.deploy(&second.path, &["--segments", "1"]).expect(75).one_error();
    busy.says("admin deploys hello").says(&one).says("since");
    let two = fleet.begin(&second.path, &["--segments", "2", "--pause-after", "1", "--queue"]);
    fleet.until_reason(&two, &format!("{one} to end"));
    fleet.bounce_controller();
    let queued = fleet.until_reason(&two, &format!("{one} to end"));
    assert_eq!(queued["phase"], "queued", "{queued:#}");
    fleet.ctl(["promote", &one]).expect(0);
    fleet.ended(&one, 0);
    // Its turn has come by itself.
    fleet.until_reason(&two, WAITS);
    fleet.bounce_controller();
    let third = stage.make();
    let three = fleet.begin(&third.path, &["--segments", "2", "--pause-after", "1", "--supersede"]);
    let gone = fleet.ended(&two, 5);
    assert_eq!(gone["outcome"], "superseded", "{gone:#}");
    assert!(gone["cause"].as_str().unwrap().contains(&three), "{gone:#}");
    let document = fleet.until_reason(&three, WAITS);
    assert_eq!(document["supersedes"], *two, "{document:#}");
    // If it must, it goes back to what was there before the one whose place it took.
    fleet.ctl(["abort", &three]).expect(0);
    fleet.ended(&three, 5);
    stage.run_by_all(&first);
}

fn locks(stage: &Stage) {
    let (fleet, before, made) = (&stage.fleet, stage.level(), stage.make());
    let token = fleet.folder().join("alice.token");
    let made_token = fleet.ctl(["tokens", "create", "--role", "operator", "--name", "alice", "-o", "json"]).expect(0);
    fs::write(&token, made_token.json()["token"].as_str().unwrap()).unwrap();
    let home = fleet.folder().join("alice");
    let alice = |words: &[&str]| {
        let mut command = fleet.command("fleetctl");
        command.env("XDG_CONFIG_HOME", home.join("config")).env("XDG_DATA_HOME", home.join("data"));
        Output::of(command.args(words))
    };
    let address = format!("127.0.0.1:{}", fleet.controller_port);
    let login =
        ["login", &address, "--token-file", token.to_str().unwrap(), "--name", "alice", "--server-name", "localhost"];
    alice(&login).expect(0);

    fleet.ctl(["locks", "hold", "hello", "-m", "the database moves, OPS-40", "--for", "1h"]).expect(0);
    fleet.bounce_controller();
    let path = made.path.to_str().unwrap();
    let refused = alice(&["deploy", path, "--segments", "1", "--yes"]).expect(75).one_error();
    refused.says("the database moves, OPS-40").says("admin");
    stage.run_by_all(&before);
    let list = fleet.ctl(["locks", "list", "-o", "json"]).expect(0).json();
    let lock = &list["items"][0];
    assert_eq!((lock["service"].as_str(), lock["by"].as_str()), (Some("hello"), Some("admin")), "{list:#}");
    // The queue is no way around a lock; who holds it is not kept away by it.
    alice(&["deploy", path, "--segments", "1", "--yes", "--queue"]).expect(75).says("OPS-40");
    let running = fleet.begin(&made.path, &["--segments", "1", "--pause-after", "1"]);
    fleet.until_reason(&running, WAITS);
    fleet.ctl(["promote", &running]).expect(0);
    fleet.ended(&running, 0);
    stage.run_by_all(&made);

    fleet.ctl(["locks", "release", "hello"]).expect(0).says("free");
    fleet.bounce_controller();
    let last = stage.make();
    alice(&["deploy", last.path.to_str().unwrap(), "--segments", "1", "--yes"]).expect(0);
    until("nothing is locked", || {
        (fleet.ctl(["locks", "list", "-o", "name"]).expect(0).stdout.is_empty()).then_some(())
    });
    stage.run_by_all(&last);
}
