//! A version that starts and does not work: back to the one before, proven; or, where that was not wanted, a human is
//! told which nodes are mixed.
#![allow(clippy::unwrap_used)]

use fleet_tests::witness::nothing_lost;
use fleet_tests::workspace::Workspace;
use fleet_tests::{Fleet, Witness, releases, until};

#[test]
fn a_broken_version_goes_back_and_every_node_is_proven_back() {
    let fleet = Fleet::up(4);
    let v1 = Workspace::built().example("hello");
    fleet.deploy(&v1, &["--segments", "4"]).expect(0);

    let witness = Witness::on(fleet.port_base);
    until("the load is steady", || (witness.count("1.0.0") > 20).then_some(()));
    let output = fleet.deploy(&fleet.release("hello-broken", "3.0.0"), &["--segments", "4"]).expect(3);
    nothing_lost(&witness.stop());
    output.clone().never_says("converged").says("exit=3");
    assert!(output.all().to_lowercase().replace('_', " ").contains("rolled back"), "{output}");
    assert!(
        output.all().contains("segment=1/4") && !output.all().contains("segment=2/4 started"),
        "segment 1 fails, segment 2 is never begun: {output}"
    );

    let report = fleet.verify().expect(0).json();
    let binary = releases::sha256(&v1.join("bin/hello"));
    let proofs = report["proofs"].as_array().unwrap();
    assert_eq!(proofs.len(), 4, "{report:#}");
    for proof in proofs {
        assert_eq!(proof["version"], "1.0.0", "{proof:#}");
        assert!(proof["digest"].as_str().is_some_and(|digest| digest.ends_with(&binary)), "{proof:#}");
    }
    fleet.drift().expect(0);
    // History keeps how it ended, and `wait` ends as `deploy` did.
    let history = fleet.ctl(["history", "-o", "json"]).expect(0).json();
    let last = &history["items"][0];
    assert_eq!((last["outcome"].as_str(), last["exitCode"].as_u64()), (Some("rolled-back"), Some(3)), "{last:#}");
    fleet.ctl(["wait", last["id"].as_str().unwrap()]).expect(3).never_says("converged");
}

#[test]
fn without_rollback_the_mixed_nodes_are_named() {
    let fleet = Fleet::up(4);
    fleet.deploy(&Workspace::built().example("hello"), &["--segments", "2"]).expect(0);
    // Two segments of two: one segment is touched, the other is not.
    let broken = fleet.release("hello-broken", "3.0.0");
    let output =
        fleet.deploy(&broken, &["--segments", "2", "--no-rollback", "-o", "json"]).expect(4).never_says("converged");
    let document = output.json();
    assert_eq!((document["outcome"].as_str(), document["exitCode"].as_u64()), (Some("unproven"), Some(4)));
    let touched: Vec<_> = document["segments"][0]["nodes"]
        .as_array()
        .unwrap()
        .iter()
        .map(|node| node["node"].as_str().unwrap())
        .collect();
    let unproven: Vec<_> =
        document["unproven"].as_array().unwrap().iter().map(|node| node["node"].as_str().unwrap()).collect();
    for node in &touched {
        assert!(unproven.contains(node), "{node} was touched and is not proven: {document:#}");
    }
    // People are told the same.
    let text = fleet.ctl(["wait", document["id"].as_str().unwrap()]).expect(4).never_says("converged");
    for node in touched {
        text.clone().says(node);
    }
    let status = fleet.ctl(["status", "-o", "json"]);
    assert_ne!(status.json()["items"][0]["state"], "ok", "{status}");
    fleet.verify().expect(2);

    // And a good version mends it.
    fleet.deploy(&Workspace::built().example("hello-2"), &["--segments", "2"]).expect(0);
    fleet.until_verified();
}
