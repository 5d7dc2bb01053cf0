//! The first hour with the product: eight nodes, two versions in four segments, the proof, and drift that is found
//! without anyone asking.
#![allow(clippy::unwrap_used)]

use std::collections::BTreeSet;
use std::fs;
use std::os::unix::fs::PermissionsExt as _;

use fleet_tests::witness::nothing_lost;
use fleet_tests::workspace::Workspace;
use fleet_tests::{Fleet, Output, Witness, disk, promised, releases, until};
use nix::sys::signal::Signal;
use serde_json::Value;

fn names(nodes: &Value) -> Vec<String> {
    nodes.as_array().into_iter().flatten().map(|node| node["node"].as_str().unwrap().to_owned()).collect()
}

fn segments(document: &Value) -> Vec<Vec<String>> {
    document["segments"].as_array().unwrap().iter().map(|segment| names(&segment["nodes"])).collect()
}

/// Every node of the report is proven with this grade, freshly, by a nonce of its own round.
#[track_caller]
fn proven(report: &Value, nodes: usize, version: &str, grade: &str) {
    let proofs = report["proofs"].as_array().unwrap();
    let distinct: BTreeSet<_> = proofs.iter().map(|proof| proof["node"].as_str().unwrap()).collect();
    assert_eq!((proofs.len(), distinct.len()), (nodes, nodes), "one proof per node: {report:#}");
    for proof in proofs {
        assert_eq!((proof["version"].as_str(), proof["grade"].as_str()), (Some(version), Some(grade)), "{proof:#}");
        assert!(proof["nonce"].as_str().is_some_and(|nonce| nonce.len() >= 16), "{proof:#}");
        assert!(proof["ageMs"].is_u64() && proof["processes"].as_u64() >= Some(1), "{proof:#}");
    }
    assert_eq!(report["findings"].as_array().map(Vec::len), Some(0), "{report:#}");
}

#[test]
fn eight_nodes_in_four_segments_without_a_lost_request() {
    let fleet = Fleet::up(8);
    let workspace = Workspace::built();
    let (v1, v2) = (workspace.example("hello"), workspace.example("hello-2"));

    let first = fleet.deploy(&v1, &["--segments", "4"]).expect(0);
    for part in ["segment=1/4", "segment=4/4", "CONVERGED", "exit=0"] {
        assert!(first.all().contains(part), "one line per event, {part:?} among them: {first}");
    }

    // The plan says what the deployment will do, in which order, and why; twice the same.
    let plan = || {
        fleet
            .ctl(["plan".as_ref(), v2.as_os_str(), "--segments".as_ref(), "4".as_ref(), "-o".as_ref(), "json".as_ref()])
            .expect(0)
            .json()
    };
    let planned = plan();
    let order = segments(&planned);
    assert_eq!(order.iter().map(Vec::len).collect::<Vec<_>>(), [2, 2, 2, 2]);
    assert_eq!(order.concat().iter().cloned().collect::<BTreeSet<_>>(), fleet.nodes().into_iter().collect());
    assert_eq!(segments(&plan()), order, "the order is stable");
    let why = planned["order"].as_str().unwrap_or_default();
    assert!(why.split_whitespace().count() >= 3, "the order is explained in words: {planned:#}");
    assert_eq!(planned["segments"][0]["nodes"][0]["fromVersion"], "1.0.0", "{planned:#}");
    let text = fleet.ctl(["plan".as_ref(), v2.as_os_str(), "--segments".as_ref(), "4".as_ref()]).expect(0);
    assert!(text.stdout.contains(why), "people read the same explanation: {text}");

    let witness = Witness::on(fleet.port_base);
    until("the old version answers through the balancer", || (witness.count("1.0.0") > 20).then_some(()));
    let second = fleet.deploy(&v2, &["--segments", "4", "-o", "json"]).expect(0).json();
    until("the new version answers through the balancer", || (witness.count("2.0.0") > 20).then_some(()));
    let seen = witness.stop();
    nothing_lost(&seen);
    assert_eq!(second["outcome"], "converged");
    assert_eq!(segments(&second), order, "what was planned is what was done");
    let last_old = seen.iter().rposition(|sighting| sighting.version() == Some("1.0.0")).unwrap();
    let first_new = seen.iter().position(|sighting| sighting.version() == Some("2.0.0")).unwrap();
    assert!(first_new < last_old, "segments move one after another: for a while both versions serve");

    // The proof rests on what runs: the digest of the very binary.
    let verify = fleet.verify().expect(0).json();
    proven(&verify, 8, "2.0.0", "digest");
    let binary = releases::sha256(&v2.join("bin/hello"));
    assert_ne!(binary, releases::sha256(&v1.join("bin/hello")), "the two versions differ");
    for proof in verify["proofs"].as_array().unwrap() {
        assert!(
            proof["digest"].as_str().is_some_and(|digest| digest.ends_with(&binary)),
            "{proof:#} must have the digest {binary}"
        );
    }
    let again = fleet.verify().expect(0).json();
    assert_ne!(again["proofs"][0]["nonce"], verify["proofs"][0]["nonce"], "every round has a nonce of its own");

    drift_is_found(&fleet);
}

/// Each kind of damage on a node of its own; each is named within the promised time, and gone when it is undone.
fn drift_is_found(fleet: &Fleet) {
    let clean = fleet.drift().expect(0).json();
    assert_eq!(clean["items"].as_array().map(Vec::len), Some(0), "{clean:#}");

    let binary = |node: &str| fleet.current(node, "hello").join("bin/hello");
    fs::write(fleet.current("n2", "hello").join("planted"), "x").unwrap();
    // A running binary cannot be written to; what happens in practice is a rename over it.
    let changed = fleet.current("n3", "hello").join("bin/.new");
    let mut bytes = fs::read(binary("n3")).unwrap();
    bytes.push(0);
    fs::write(&changed, bytes).unwrap();
    fs::set_permissions(&changed, fs::Permissions::from_mode(0o755)).unwrap();
    fs::rename(&changed, binary("n3")).unwrap();
    fs::set_permissions(binary("n4"), fs::Permissions::from_mode(0o777)).unwrap();
    fs::remove_file(binary("n5")).unwrap();

    for (node, kind, what) in [
        ("n2", "extra", "planted"),
        ("n3", "file", "bin/hello"),
        ("n4", "mode", "bin/hello"),
        ("n5", "missing", "bin/hello"),
    ] {
        let finding = promised(&format!("{kind} on {node} is found"), || fleet.finding(node, kind));
        assert!(finding["what"].as_str().is_some_and(|said| said.contains(what)), "{finding:#}");
    }
    let table = fleet.ctl(["drift"]).expect(2);
    for word in ["n2", "n3", "n4", "n5", "planted", "bin/hello"] {
        table.clone().says(word);
    }
    // Only what was touched is named.
    let report = fleet.drift().expect(2).json();
    let named: BTreeSet<_> = names(&report["items"]).into_iter().collect();
    assert_eq!(named, ["n2", "n3", "n4", "n5"].map(str::to_owned).into(), "{report:#}");
    fleet.verify().expect(2);

    // A service that is dead and cannot be started again.
    fleet.services("n5").iter().for_each(|proc| proc.signal(Signal::SIGKILL));
    promised("the dead service on n5 is found", || {
        fleet.finding("n5", "process").or_else(|| fleet.finding("n5", "health"))
    });

    // What was left behind by the last release and is started by hand.
    let releases = fleet.service_root("n6", "hello").join("releases");
    let current = fleet.current("n6", "hello");
    let old = fs::read_dir(releases).unwrap().map(|entry| entry.unwrap().path()).find(|path| *path != current).unwrap();
    let stray = fleet.by_hand(&old.join("bin/hello"), &["--worker"], &fleet.folder());
    promised("the old process on n6 is found", || fleet.finding("n6", "old-process"));
    stray.kill();
    promised("n6 is clean again", || fleet.finding("n6", "old-process").is_none().then_some(()));

    fs::remove_file(fleet.current("n2", "hello").join("planted")).unwrap();
    promised("the report on n2 is clean again", || fleet.finding("n2", "extra").is_none().then_some(()));
}

#[test]
fn an_interpreted_service_is_proven_by_its_context() {
    if !Output::of(std::process::Command::new("sh").args(["-c", "command -v python3 || true"]))
        .stdout
        .contains("python3")
    {
        return disk::skip("an interpreted service", "no python3 on this machine");
    }
    let fleet = Fleet::up(3);
    fleet.deploy(&Workspace::built().example("hello-python"), &["--segments", "3"]).expect(0);
    proven(&fleet.verify().expect(0).json(), 3, "1.0.0", "context");
    // The weaker grade is seen where people look.
    fleet.ctl(["verify"]).expect(0).says("context");
}
