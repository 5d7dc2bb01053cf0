//! 1 August 2012: eight servers, one was missed, and nothing said so. Each story leaves old code alive in another way;
//! in each the deployment is not converged, the node is named, and the fleet is whole once the cause is gone.
#![allow(clippy::unwrap_used)]

use std::fs;
use std::path::{Path, PathBuf};

use fleet_tests::strays::place;
use fleet_tests::witness::get;
use fleet_tests::workspace::Workspace;
use fleet_tests::{Fleet, Output, Proc, Witness, disk, ports, promised, until};

fn v2() -> PathBuf {
    Workspace::built().example("hello-2")
}

/// Not one word of success, in text and in documents, and the node is named in both.
#[track_caller]
fn never_converged(fleet: &Fleet, output: &Output, node: &str) -> String {
    output.clone().never_says("converged").says(node);
    let history = fleet.ctl(["history", "-o", "json"]).expect(0).json();
    let last = history["items"][0].clone();
    let outcome = last["outcome"].as_str().unwrap_or_default();
    assert!(matches!(outcome, "unproven" | "rolled-back"), "{last:#}");
    assert_ne!(last["exitCode"].as_u64(), Some(0), "{last:#}");
    let id = last["id"].as_str().unwrap().to_owned();
    let waited = fleet.ctl(["wait", &id, "-o", "json"]).expect(output.code).never_says("\"converged");
    assert!(
        outcome == "rolled-back"
            || waited.json()["unproven"].as_array().unwrap().iter().any(|item| item["node"] == node),
        "{node} is named: {waited}"
    );
    id
}

#[test]
fn the_server_that_was_missed() {
    let fleet = Fleet::on_version_1(8);
    fleet.power_off("n3");
    fleet.until_state("n3", "unreachable");

    let witness = Witness::on(fleet.port("n3"));
    let output = fleet.deploy(&v2(), &["--segments", "4", "--absent-grace", "3s"]).expect(4);
    never_converged(&fleet, &output, "n3");
    let finding = promised("the silent node is in the report", || fleet.finding("n3", "unreachable"));
    assert_eq!(finding["severity"], "critical");
    fleet.ctl(["drift"]).expect(2).says("n3");
    fleet.verify().expect(2).says("n3");
    assert_eq!(witness.seen().iter().filter(|sighting| sighting.answer.is_ok()).count(), 0, "the node is off");

    // Back: the new release first, then the first answer.
    fleet.start_agent("n3");
    let report = fleet.until_verified();
    assert_eq!(
        report["proofs"].as_array().unwrap().iter().filter(|proof| proof["version"] == "2.0.0").count(),
        8,
        "{report:#}"
    );
    until("n3 serves the new version", || (witness.count("2.0.0") > 5).then_some(()));
    let seen = witness.stop();
    let old = seen.iter().filter(|sighting| sighting.answer.is_ok() && sighting.version() != Some("2.0.0")).count();
    assert_eq!(old, 0, "not one answer of old code after n3 came back");
    fleet.drift().expect(0);
}

#[test]
fn an_agent_that_died_while_its_service_goes_on() {
    let fleet = Fleet::on_version_1(4);
    fleet.kill_agent("n2");
    fleet.until_state("n2", "unreachable");
    let output = fleet.deploy(&v2(), &["--segments", "2", "--absent-grace", "3s"]).expect(4);
    never_converged(&fleet, &output, "n2");
    promised("the silent node is in the report", || fleet.finding("n2", "unreachable"));
    assert_eq!(
        get(fleet.port("n2"), "/").unwrap().version.as_deref(),
        Some("1.0.0"),
        "the death of an agent ends no service"
    );

    fleet.start_agent("n2");
    fleet.until_verified();
    assert_eq!(get(fleet.port("n2"), "/").unwrap().version.as_deref(), Some("2.0.0"));
}

/// The node that is moved last: whatever fails there, the others have moved before.
fn last_node(fleet: &Fleet) -> String {
    let plan = fleet
        .ctl(["plan".as_ref(), v2().as_os_str(), "--segments".as_ref(), "2".as_ref(), "-o".as_ref(), "json".as_ref()])
        .expect(0)
        .json();
    plan["segments"][1]["nodes"].as_array().unwrap().last().unwrap()["node"].as_str().unwrap().to_owned()
}

/// Deploys version 2 while `stray` runs old code on `node`, sees that it is not converged and why, removes the stray,
/// and sees the fleet whole.
fn deploy_around(fleet: &Fleet, node: &str, stray: Proc) {
    // Left as it is, so that the finding is still there to be seen.
    let output = fleet.deploy(&v2(), &["--segments", "2", "--no-rollback"]);
    assert_eq!(output.code, 4, "{output}");
    assert!(stray.alive(), "the agent may not kill what it did not start");
    never_converged(fleet, &output, node);
    let finding = promised("the old process is in the report", || fleet.finding(node, "old-process"));
    assert!(
        finding["what"].as_str().is_some_and(|what| what.contains(&stray.pid.to_string())),
        "{finding:#} must name pid {}",
        stray.pid
    );
    assert_eq!(finding["severity"], "critical");
    let named = fleet.drift().expect(2).json();
    assert!(
        named["items"].as_array().unwrap().iter().all(|item| item["node"] == node),
        "nobody else is accused: {named:#}"
    );
    fleet.verify().expect(2).says(node);

    stray.kill();
    let report = fleet.until_verified();
    assert!(report["proofs"].as_array().unwrap().iter().all(|proof| proof["version"] == "2.0.0"), "{report:#}");
    promised("the report is clean again", || (fleet.drift().code == 0).then_some(()));
}

#[test]
fn an_old_process_under_a_name_that_was_renamed_over() {
    let fleet = Fleet::on_version_1(4);
    let node = last_node(&fleet);
    let current = fleet.current(&node, "hello");
    // Beside the releases: a file in one of them is a finding at once, and a node with a finding is moved first.
    let side = current.ancestors().nth(2).unwrap().join("side");
    place(&current.join("bin/hello"), &side);
    let port = ports::range(1).to_string();
    let stray = fleet.by_hand(&side, &["--port", &port], &current);
    // Now the path hashes new, and the process is old.
    place(&v2().join("bin/hello"), &side);
    assert!(stray.executable().to_string_lossy().ends_with(" (deleted)"));
    deploy_around(&fleet, &node, stray);
}

#[test]
fn an_old_process_behind_a_symlink_that_was_switched() {
    let fleet = Fleet::on_version_1(4);
    let node = last_node(&fleet);
    let old = fleet.current(&node, "hello");
    let port = ports::range(1).to_string();
    let stray = fleet.by_hand(&old.join("bin/hello"), &["--port", &port], Path::new("/"));
    // Nothing is deleted and the inode is the file's: whoever compares process and disk sees nothing.
    deploy_around(&fleet, &node, stray);
}

#[test]
fn an_orphan_worker_of_the_old_release() {
    let fleet = Fleet::on_version_1(4);
    let node = last_node(&fleet);
    let old = fleet.current(&node, "hello");
    let stray = fleet.by_hand(&old.join("bin/hello"), &["--worker"], Path::new("/"));
    deploy_around(&fleet, &node, stray);
}

#[test]
fn an_old_interpreter_whose_script_is_neither_mapped_nor_open() {
    // The interpreter itself, and not a script that finds it.
    let ask = "command -v python3 >/dev/null && python3 -c 'import sys; print(sys.executable)'";
    let python = Output::of(std::process::Command::new("sh").args(["-c", ask]));
    let python = PathBuf::from(python.stdout.trim());
    if !python.is_absolute() {
        return disk::skip("an old interpreter", "no python3 on this machine");
    }
    let fleet = Fleet::up(2);
    let example = Workspace::built().example("hello-python");
    fleet.deploy(&example, &["--segments", "1"]).expect(0);
    let next = fleet.folder().join("next");
    fs::create_dir(&next).unwrap();
    fs::copy(example.join("app.py"), next.join("app.py")).unwrap();
    let text = fs::read_to_string(example.join("fleet.yaml")).unwrap();
    assert!(text.contains("\"1.0.0\""));
    fs::write(next.join("fleet.yaml"), text.replace("\"1.0.0\"", "\"2.0.0\"")).unwrap();

    // What a shell left behind: the interpreter lies outside, the script is read and closed; its place is all there is.
    let old = fleet.current("n2", "hello-python");
    let port = ports::range(1).to_string();
    let stray = fleet.by_hand(&python, &["app.py", "--port", &port], &old);
    until("the old script serves", || get(port.parse().unwrap(), "/").ok());
    assert_eq!(stray.directory(), old);
    let output = fleet.deploy(&next, &["--segments", "1", "--no-rollback"]).expect(4);
    never_converged(&fleet, &output, "n2");
    promised("the old interpreter is in the report", || fleet.finding("n2", "old-process"));
    stray.kill();
    fleet.until_verified();
}

#[test]
fn an_orphan_worker_makes_a_deployment_turn_back() {
    let fleet = Fleet::on_version_1(4);
    let node = last_node(&fleet);
    let stray = fleet.by_hand(&fleet.current(&node, "hello").join("bin/hello"), &["--worker"], Path::new("/"));
    let output = fleet.deploy(&v2(), &["--segments", "2"]);
    assert!(matches!(output.code, 3 | 4), "{output}");
    never_converged(&fleet, &output, &node);
    stray.kill();
    let report = fleet.until_verified();
    assert!(
        report["proofs"].as_array().unwrap().iter().all(|proof| proof["version"] == "1.0.0"),
        "every node is back: {report:#}"
    );
    // What was rolled back is marked, and deployed again by a person's wish only.
    fleet.deploy(&v2(), &["--segments", "2", "--again"]).expect(0);
}

#[test]
fn an_expected_host_without_an_agent() {
    let fleet = Fleet::on_version_1(8);
    let list = fleet.folder().join("names");
    fs::write(&list, "# the data centre's list\nn1\nn2\nn3\nn4\nn5\nn6\nn7\nn8\nn9\n").unwrap();
    let import = fleet
        .ctl([
            "nodes".as_ref(),
            "import".as_ref(),
            "--name-list".as_ref(),
            list.as_os_str(),
            "-o".as_ref(),
            "json".as_ref(),
        ])
        .expect(0)
        .json();
    assert_eq!(import["added"], serde_json::json!(["n9"]), "{import:#}");
    promised("the host without an agent is in the report", || fleet.finding("n9", "unmanaged"));
    let output = fleet.deploy(&v2(), &["--segments", "4", "--absent-grace", "3s"]).expect(4);
    never_converged(&fleet, &output, "n9");
    fleet.ctl(["drift"]).expect(2).says("n9").says("unmanaged");
    fleet.verify().expect(2).says("n9");

    fleet.ctl(["nodes", "remove", "n9", "--yes", "--reason", "was scrapped in March"]).expect(0);
    let report = fleet.until_verified();
    assert_eq!(
        report["proofs"].as_array().unwrap().iter().filter(|proof| proof["version"] == "2.0.0").count(),
        8,
        "{report:#}"
    );
    promised("the report is clean again", || (fleet.drift().code == 0).then_some(()));
}
