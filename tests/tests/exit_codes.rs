//! What scripts rely on: every ending of a deployment has its exit code, and leaving the terminal ends nothing.
#![allow(clippy::unwrap_used)]

use fleet_tests::workspace::Workspace;
use fleet_tests::{Fleet, Proc};
use nix::sys::signal::Signal;

fn versions(fleet: &Fleet) -> Vec<String> {
    let report = fleet.until_verified();
    report["proofs"].as_array().unwrap().iter().map(|proof| proof["version"].as_str().unwrap().to_owned()).collect()
}

#[test]
fn every_ending_has_its_code() {
    let fleet = Fleet::up(2);
    let (v1, v2) = (Workspace::built().example("hello"), Workspace::built().example("hello-2"));
    let changes = |release: &std::path::Path| {
        fleet.ctl(["plan".as_ref(), release.as_os_str(), "--detailed-exitcode".as_ref()]).code
    };
    assert_eq!(changes(&v1), 2, "something would change");
    fleet.deploy(&v1, &["--segments", "2"]).expect(0);
    assert_eq!(changes(&v1), 0, "nothing would change");

    // Ctrl-C leaves, and says so (a program that the signal kills has the same code); the deployment goes on.
    let mut stream = fleet.deploy_stream(&v2, &["--segments", "2", "--bake", "3s"]);
    let id = stream.until_fact("node-proven")["deployment"].as_str().unwrap().to_owned();
    Proc::of(stream.pid()).unwrap().signal(Signal::SIGINT);
    stream.finish().expect(130).says("goes on");
    fleet.ctl(["wait", &id]).expect(0);
    assert_eq!(versions(&fleet), ["2.0.0", "2.0.0"]);

    // While one deployment bakes, for longer than any of this takes: one at a time, and the second caller is told who is
    // at work.
    let mut stream = fleet.deploy_stream(&v1, &["--segments", "2", "--bake", "300s"]);
    let id = stream.until_fact("segment-proven")["deployment"].as_str().unwrap().to_owned();
    fleet.deploy(&v1, &[]).expect(75).one_error().says(&id);
    fleet.ctl(["rollback", "hello", "--yes"]).expect(75).one_error().says(&id);
    fleet.ctl(["rollback", "hello", "--dry-run"]).expect(1).one_error().says(&id);
    // A wait that runs out says so, and the deployment goes on until a person ends it.
    fleet.ctl(["wait", &id, "--timeout", "10ms"]).expect(6).never_says("converged");
    fleet.ctl(["abort", &id]);
    let ended = stream.finish().expect(5);
    assert!(!ended.stdout.contains("\"outcome\":\"converged"), "{ended}");
    fleet.ctl(["wait", &id]).expect(5);
    assert_eq!(versions(&fleet), ["2.0.0", "2.0.0"], "by default everything goes back");

    // Back to what was held before.
    fleet.ctl(["rollback", "hello", "--yes"]).expect(0);
    assert_eq!(versions(&fleet), ["1.0.0", "1.0.0"]);

    // Nothing of this may read as an answer of its own.
    fleet.ctl(["deploy", "--segmens", "4"]).expect(64);
    fleet.ctl(["deploy", "no-such-folder"]).expect_refusal();
    fleet.ctl(["wait", "d-zzzzz"]).expect_refusal();
    fleet.deploy(&v2, &["--segments", "0"]).expect(64);
    fleet.kill_controller();
    for verb in ["status", "drift", "verify", "history"] {
        fleet.ctl([verb]).expect(69).one_error();
    }
    fleet.start_controller();
    fleet.until_ready();
}
