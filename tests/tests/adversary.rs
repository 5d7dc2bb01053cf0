//! Holes that an adversary found in the proof and in the way back: each story is one of them, and in each the fleet
//! either ends where it says it is, or does not say it.
#![allow(clippy::unwrap_used)]

use std::fs;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};

use fleet_tests::releases::{self, sha256};
use fleet_tests::strays::place;
use fleet_tests::witness::get;
use fleet_tests::workspace::Workspace;
use fleet_tests::{Fleet, Output, Proc, Witness, ports, promised, until};
use nix::sys::signal::Signal;
use serde_json::Value;

/// What a release file of the stories says, and what it is changed to: as long, so that the size betrays nothing.
const SETTING: &str = "limit = 41\n";
const OTHER_SETTING: &str = "limit = 42\n";
const SETTINGS: &str = "etc/hello.toml";
/// The usual end of a `fleet.yaml`.
const USUAL: &str = "run: bin/hello --port ${PORT}\nhealth: {http: /healthz, timeout: 8s}\n";

fn v1() -> PathBuf {
    Workspace::built().example("hello")
}

fn v2() -> PathBuf {
    Workspace::built().example("hello-2")
}

/// A version that never becomes healthy, and soon is given up.
fn never_healthy(fleet: &Fleet) -> PathBuf {
    releases::hello(&fleet.folder(), "hello-broken", "3.0.0", 2)
}

/// Version 1 with a file beside its program.
fn with_settings(fleet: &Fleet) -> PathBuf {
    releases::hello_with(&fleet.folder(), "hello-v1", "1.0.0", &[(SETTINGS, SETTING)], USUAL)
}

fn version_on(fleet: &Fleet, node: &str) -> Option<String> {
    get(fleet.port(node), "/").ok()?.version
}

/// The main process of the service on a node.
#[track_caller]
fn service(fleet: &Fleet, node: &str) -> Proc {
    until(&format!("the service of {node} runs"), || {
        fleet.services(node).into_iter().find(|proc| proc.program() == "hello")
    })
}

/// The last deployment, as history keeps it.
fn last_deployment(fleet: &Fleet) -> Value {
    fleet.ctl(["history", "-o", "json"]).expect(0).json()["items"][0].clone()
}

/// Not one word of success: not in what was said, not in history.
#[track_caller]
fn never_converged(fleet: &Fleet, output: &Output) {
    assert!(matches!(output.code, 3 | 4), "{output}");
    output.clone().never_says("converged");
    let last = last_deployment(fleet);
    assert!(matches!(last["outcome"].as_str(), Some("rolled-back" | "unproven")), "{last:#}");
}

/// One more round of fresh observation of the whole fleet.
fn another_round(fleet: &Fleet) -> Output {
    fleet.ctl(["drift", "--fresh", "-o", "json"])
}

/// Nothing of the service has ever come to these nodes, and two rounds later that is still so.
#[track_caller]
fn never_reached(fleet: &Fleet, nodes: &[String]) {
    for round in 0..3 {
        if round > 0 {
            another_round(fleet);
        }
        for node in nodes {
            let root = fleet.service_root(node, "hello");
            let log = fs::read_to_string(root.join(".fleet/starts.log")).unwrap_or_default();
            assert!(!root.exists(), "{node} was reached, seen in round {round}: {log}");
            assert_eq!(fleet.services(node), [], "something runs on {node}, seen in round {round}");
            assert!(get(fleet.port(node), "/").is_err(), "{node} serves, seen in round {round}");
        }
    }
}

/// The nodes on which a service was ever started, and the others.
fn reached(fleet: &Fleet) -> (Vec<String>, Vec<String>) {
    fleet.nodes().into_iter().partition(|node| fleet.service_root(node, "hello").join(".fleet/starts.log").exists())
}

/// An agent that comes back is welcomed like a new one: that too must bring it nothing.
#[track_caller]
fn agent_restarts(fleet: &Fleet, node: &str) {
    let links = || fs::read_to_string(fleet.node_dir(node).join("agent.log")).unwrap().matches("linked").count();
    let before = links();
    fleet.kill_agent(node);
    fleet.start_agent(node);
    until(&format!("the agent of {node} is back"), || (links() > before).then_some(()));
}

/// Every node serves this version, from that very program, and `verify` and `drift` say so.
#[track_caller]
fn all_proven(fleet: &Fleet, nodes: usize, version: &str, program: &Path) {
    let report = fleet.until_verified();
    let proofs = report["proofs"].as_array().unwrap();
    assert_eq!(proofs.len(), nodes, "{report:#}");
    for proof in proofs {
        let node = proof["node"].as_str().unwrap();
        assert_eq!(proof["version"], version, "{proof:#}");
        assert_eq!(version_on(fleet, node).as_deref(), Some(version), "what {node} serves");
        let main = service(fleet, node);
        assert_eq!(sha256(Path::new(&format!("/proc/{}/exe", main.pid))), sha256(program), "what {node} runs");
    }
    promised("the report is clean", || (fleet.drift().code == 0).then_some(()));
}

/// `current` is bent by hand on every node, each in another way; a release that fails then must not lead to nothing.
#[test]
fn without_current_a_node_goes_back_to_what_it_was_told_and_not_to_nothing() {
    let fleet = Fleet::up(2);
    fleet.deploy(&v1(), &["--segments", "1"]).expect(0);
    let live = fleet.current("n2", "hello");
    let link = |node: &str| fleet.service_root(node, "hello").join("current");
    fs::remove_file(link("n1")).unwrap();
    fs::remove_file(link("n2")).unwrap();
    assert!(live.is_absolute());
    symlink(&live, link("n2")).unwrap();
    promised("the missing link is in the report", || fleet.finding("n1", "version"));
    another_round(&fleet).expect(2);

    let output = fleet.deploy(&never_healthy(&fleet), &["--segments", "1"]);
    never_converged(&fleet, &output);
    for node in fleet.nodes() {
        until(&format!("{node} serves 1.0.0 again"), || (version_on(&fleet, &node)? == "1.0.0").then_some(()));
        assert!(link(&node).symlink_metadata().is_ok(), "{node} has lost `current`: {output}");
    }
    // What is said is true: all is well only where 1.0.0 is proven.
    assert_eq!(output.code, 3, "every node can go back: {output}");
    all_proven(&fleet, 2, "1.0.0", &v1().join("bin/hello"));
    for node in fleet.nodes() {
        assert_eq!(fleet.current(&node, "hello").file_name(), live.file_name(), "{node}");
    }
}

#[test]
fn a_first_deployment_that_was_stopped_reaches_no_later_segment() {
    let fleet = Fleet::up(3);
    let output = fleet.deploy(&never_healthy(&fleet), &["--segments", "3", "--on-failure", "stop"]).expect(4);
    never_converged(&fleet, &output);
    let (first, later) = reached(&fleet);
    assert_eq!((first.len(), later.len()), (1, 2), "{output}");
    never_reached(&fleet, &later);
    // Somebody who was not there is given nothing either that failed on those who were.
    fleet.ctl(["dev", "scale", "4"]).expect(0);
    agent_restarts(&fleet, &later[0]);
    let untouched: Vec<_> = later.into_iter().chain(["n4".to_owned()]).collect();
    never_reached(&fleet, &untouched);
}

#[test]
fn a_first_deployment_that_was_aborted_and_left_reaches_no_later_segment() {
    let fleet = Fleet::up(3);
    let mut stream = fleet.deploy_stream(&v1(), &["--segments", "3", "--bake", "60s"]);
    let id = stream.until_fact("segment-proven")["deployment"].as_str().unwrap().to_owned();
    fleet.ctl(["abort", &id, "--leave"]).expect(0);
    stream.finish().expect(5);
    let (first, later) = reached(&fleet);
    assert_eq!((first.len(), later.len()), (1, 2));
    assert_eq!(version_on(&fleet, &first[0]).as_deref(), Some("1.0.0"), "what was done is left");
    never_reached(&fleet, &later);
    agent_restarts(&fleet, &later[0]);
    never_reached(&fleet, &later);
}

#[test]
fn a_limit_keeps_a_new_service_from_the_other_nodes() {
    let fleet = Fleet::up(3);
    fleet.deploy(&v1(), &["--limit", "n1"]).expect(0);
    let (meant, others) = reached(&fleet);
    assert_eq!(meant, ["n1"]);
    never_reached(&fleet, &others);
    agent_restarts(&fleet, "n2");
    never_reached(&fleet, &others);
    fleet.verify().expect(0);
}

#[test]
fn a_limit_leaves_a_mixed_fleet_that_is_told() {
    let fleet = Fleet::up(2);
    fleet.deploy(&v1(), &["--segments", "1"]).expect(0);
    let whole = fleet.drift().expect(0);
    assert_eq!(whole.json()["mixed"], serde_json::json!([]), "{whole}");
    fleet.ctl(["drift"]).expect(0).never_says("mixed");
    fleet.deploy(&v2(), &["--limit", "n1"]).expect(0);
    // Every node holds what it shall hold, so nothing has drifted; that they differ is said all the same.
    let mixed = fleet.drift().expect(0);
    assert_eq!(mixed.json()["mixed"], serde_json::json!(["hello"]), "{mixed}");
    fleet.ctl(["drift"]).expect(0).says("note: hello is mixed");
    fleet.ctl(["drift", "--format", "nagios"]).expect(0).says("note: hello is mixed");
    fleet.ctl(["verify"]).expect(0).says("2.0.0").says("note: hello is mixed");
    fleet.deploy(&v2(), &[]).expect(0);
    fleet.ctl(["drift"]).expect(0).never_says("mixed");
}

/// A name with a typo in a crontab must not read as "nothing differs" for ever.
#[test]
fn a_report_about_what_nobody_knows_is_no_clean_report() {
    let fleet = Fleet::up(1);
    fleet.deploy(&v1(), &[]).expect(0);
    fleet.ctl(["drift", "-s", "hello"]).expect(0);
    for wrong in [&["drift", "-s", "helo"][..], &["drift", "n1", "n7"], &["drift", "n7"]] {
        let output = fleet.ctl(wrong).expect(1).one_error().says("UNKNOWN: there is no");
        output.says(wrong[wrong.len() - 1]);
        fleet.ctl(wrong.iter().chain(&["--format", "nagios"])).expect(3).says("UNKNOWN - there is no");
    }
}

#[test]
fn a_node_that_joins_later_is_given_what_converged() {
    let fleet = Fleet::up(2);
    fleet.deploy(&v1(), &["--segments", "2"]).expect(0);
    fleet.ctl(["dev", "scale", "3"]).expect(0);
    promised("the newcomer serves", || (version_on(&fleet, "n3")? == "1.0.0").then_some(()));
    all_proven(&fleet, 3, "1.0.0", &v1().join("bin/hello"));
}

#[test]
fn files_are_compared_also_by_an_agent_that_lost_its_record() {
    let fleet = Fleet::up(2);
    fleet.deploy(&with_settings(&fleet), &["--segments", "1"]).expect(0);
    fleet.kill_agent("n1");
    fs::remove_file(fleet.node_dir("n1").join("state/services/hello.json")).unwrap();
    fleet.start_agent("n1");
    // Whatever the agent does about its loss, it is done by then.
    fleet.until_verified();

    fs::write(fleet.current("n1", "hello").join(SETTINGS), OTHER_SETTING).unwrap();
    let finding = promised("the changed file is in the report", || fleet.finding("n1", "file"));
    assert!(finding["what"].as_str().is_some_and(|what| what.contains(SETTINGS)), "{finding:#}");
    fleet.verify().expect(2).says("n1").says(SETTINGS);
    fleet.ctl(["drift"]).expect(2).says("n1");
}

#[test]
fn a_file_that_was_changed_together_with_its_manifest_is_found() {
    let fleet = Fleet::up(2);
    fleet.deploy(&with_settings(&fleet), &["--segments", "1"]).expect(0);
    let live = fleet.current("n2", "hello");
    fleet.kill_agent("n2");
    let good = sha256(&live.join(SETTINGS));
    fs::write(live.join(SETTINGS), OTHER_SETTING).unwrap();
    let id = live.file_name().unwrap().to_string_lossy().into_owned();
    let manifest = fleet.service_root("n2", "hello").join(format!(".fleet/releases/{id}.json"));
    let text = fs::read_to_string(&manifest).unwrap();
    assert!(text.contains(&good), "{text}");
    fs::write(&manifest, text.replace(&good, &sha256(&live.join(SETTINGS)))).unwrap();
    fleet.start_agent("n2");

    let finding = promised("the other manifest is in the report", || fleet.finding("n2", "file"));
    assert!(finding.to_string().contains("another manifest"), "{finding:#}");
    fleet.verify().expect(2).says("n2").says("another manifest");
    fleet.ctl(["drift"]).expect(2).says("n2");
    assert!(fleet.finding("n1", "file").is_none(), "nobody else is accused");
}

#[test]
fn an_answer_of_a_stranger_is_not_an_answer_of_the_service() {
    let fleet = Fleet::up(2);
    // Unknown to the fleet: never released, outside every service's root.
    let program = fleet.dir.join("stranger/hello");
    place(&Workspace::built().binary("hello-v1"), &program);
    let strangers: Vec<_> = fleet
        .nodes()
        .iter()
        .map(|node| fleet.by_hand(&program, &["--port", &fleet.port(node).to_string()], Path::new("/")))
        .collect();
    for node in fleet.nodes() {
        until("the stranger serves", || version_on(&fleet, &node));
    }
    let rest = "run: bin/hello --port 0\nhealth: {http: /healthz, timeout: 3s}\n";
    let elsewhere = releases::hello_with(&fleet.folder(), "hello-v2", "2.0.0", &[], rest);
    let output = fleet.deploy(&elsewhere, &["--segments", "1"]);
    never_converged(&fleet, &output);
    // The first node that fails ends it; which of the two that is, is chance.
    let said = output.says("answered by another process").all();
    assert!(strangers.iter().any(|stranger| said.contains(&format!("pid {} ", stranger.pid))), "{said}");
    for stranger in strangers {
        assert!(stranger.alive(), "the agent may not kill what it did not start");
        stranger.kill();
    }
}

#[test]
fn a_service_that_crashes_again_and_again_does_not_outlive_its_bake() {
    let fleet = Fleet::up(2);
    let script = "#!/bin/sh\nbin/hello --port \"$PORT\" &\nsleep 8\nkill -9 $!\nexit 3\n";
    let rest = "run: bin/run\nhealth: {http: /healthz, timeout: 5s}\nproof: {minimum_grade: context}\n";
    let crashing = releases::hello_with(&fleet.folder(), "hello-v1", "1.0.0", &[("bin/run", script)], rest);
    let flags = ["--segments", "1", "--bake", "16s", "--deadline", "18s"];
    let mut stream = fleet.deploy_stream(&crashing, &flags);
    // It works, for a while: at the right moment it is proven.
    stream.until_fact("segment-proven");
    let output = stream.finish().says("not proven within 18s");
    assert!(matches!(output.code, 3 | 4), "{output}");
    assert!(!output.stdout.contains("\"outcome\":\"converged"), "{output}");
    let last = last_deployment(&fleet);
    assert!(matches!(last["outcome"].as_str(), Some("rolled-back" | "unproven")), "{last:#}");
}

#[test]
fn old_code_beside_the_service_is_found() {
    let fleet = Fleet::up(2);
    fleet.deploy(&v1(), &["--segments", "1"]).expect(0);
    let aside = |node: &str, folder: &str, binary: &str| {
        let program = fleet.node_dir(node).join("services").join(folder).join("bin/hello");
        place(&Workspace::built().binary(binary), &program);
        fleet.by_hand(&program, &["--port", &ports::range(1).to_string()], Path::new("/"))
    };
    let old = aside("n1", "hello.bak", "hello-v1");
    // Of this nobody knows what it is, only where it lies.
    let unknown = aside("n2", "hello-old", "hello-broken");

    let output = fleet.deploy(&v2(), &["--segments", "1", "--no-rollback"]).expect(4).says("n1").says("n2");
    never_converged(&fleet, &output);
    for (node, kind, stray) in [("n1", "old-process", old), ("n2", "process", unknown)] {
        assert!(stray.alive(), "the agent may not kill what it did not start");
        let finding =
            promised(&format!("what runs beside the service of {node} is in the report"), || fleet.finding(node, kind));
        assert!(finding["what"].as_str().is_some_and(|what| what.contains(&stray.pid.to_string())), "{finding:#}");
        assert_eq!(finding["severity"], "critical");
    }
    fleet.ctl(["drift"]).expect(2).says("n1").says("n2").says("old-process");
    fleet.verify().expect(2);
    old.kill();
    unknown.kill();
    all_proven(&fleet, 2, "2.0.0", &v2().join("bin/hello"));
}

#[test]
fn a_live_program_that_was_replaced_is_not_what_comes_back() {
    let fleet = Fleet::up(2);
    fleet.deploy(&v1(), &["--segments", "1"]).expect(0);
    fleet.deploy(&v2(), &["--segments", "1"]).expect(0);
    let live = fleet.current("n1", "hello").join("bin/hello");
    let witness = Witness::on(fleet.port("n1"));
    until("n1 serves", || (witness.count("2.0.0") > 5).then_some(()));
    let before = service(&fleet, "n1");
    place(&v1().join("bin/hello"), &live);
    before.kill();
    until("the service came back", || fleet.services("n1").into_iter().find(|proc| *proc != before));
    let seen = witness.count("2.0.0");
    until("n1 serves again", || (witness.count("2.0.0") > seen + 20).then_some(()));
    assert_eq!(sha256(&live), sha256(&v2().join("bin/hello")), "the file is what was released");
    all_proven(&fleet, 2, "2.0.0", &v2().join("bin/hello"));
    let seen = witness.stop();
    let old = seen.iter().filter(|sighting| sighting.version().is_some_and(|version| version != "2.0.0")).count();
    assert_eq!(old, 0, "not one answer of old code");
}

#[test]
fn deploying_what_is_live_again_puts_its_files_right() {
    let fleet = Fleet::up(2);
    let release = with_settings(&fleet);
    fleet.deploy(&release, &["--segments", "2"]).expect(0);
    fs::write(fleet.current("n2", "hello").join(SETTINGS), OTHER_SETTING).unwrap();
    promised("the changed file is in the report", || fleet.finding("n2", "file"));
    fleet.drift().expect(2);
    fleet.deploy(&release, &["--segments", "2"]).expect(0);
    assert_eq!(fs::read_to_string(fleet.current("n2", "hello").join(SETTINGS)).unwrap(), SETTING);
    fleet.drift().expect(0);
    all_proven(&fleet, 2, "1.0.0", &release.join("bin/hello"));
}

/// `n2` loses its orders and joins again as something else, while its old service goes on; returns that service, once
/// the report names it.
#[track_caller]
fn without_orders(fleet: &Fleet) -> Proc {
    fleet.deploy(&v1(), &["--segments", "1"]).expect(0);
    let left = service(fleet, "n2");
    fleet.kill_agent("n2");
    fleet.ctl(["nodes", "remove", "n2", "--yes", "--reason", "becomes a database"]).expect(0);
    let state = fleet.node_dir("n2").join("state");
    fs::remove_dir_all(&state).unwrap();
    let token = fleet.ctl(["tokens", "create", "--label", "role=db", "-o", "json"]).expect(0).json();
    let file = fleet.folder().join("token");
    fs::write(&file, token["token"].as_str().unwrap()).unwrap();
    let mut join = fleet.command("fleet-agent");
    join.arg("join").arg(format!("127.0.0.1:{}", fleet.controller_port)).arg("--token-file").arg(&file);
    join.args(["--name", "n2", "--label", "role=db", "--controller-name", "localhost", "--state-dir"]).arg(&state);
    Output::of(&mut join).expect(0);
    fleet.start_agent("n2");

    let finding = promised("what nobody ordered is in the report", || fleet.finding("n2", "agent"));
    assert_eq!((finding["service"].as_str(), finding["severity"].as_str()), (Some("hello"), Some("critical")));
    assert!(left.alive(), "the old service goes on");
    left
}

#[test]
fn what_runs_on_a_node_without_orders_is_named() {
    let fleet = Fleet::up(2);
    without_orders(&fleet);
    fleet.ctl(["drift"]).expect(2).says("n2").says("hello");
    another_round(&fleet).expect(2).says("n2");
    fleet.verify().expect(2).says("n2");
}

#[test]
fn what_ran_without_orders_and_is_gone_is_named_no_longer() {
    let fleet = Fleet::up(2);
    let left = without_orders(&fleet);
    left.signal(Signal::SIGTERM);
    until("the old service has ended", || (!left.alive()).then_some(()));
    fs::remove_dir_all(fleet.service_root("n2", "hello")).unwrap();
    promised("the report is clean again", || (fleet.drift().code == 0).then_some(()));
    fleet.verify().expect(0);
}
