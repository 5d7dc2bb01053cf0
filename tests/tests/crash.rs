//! `kill -9` at every step: of the controller in each phase of a deployment, on both stores, and of agents. The
//! deployment ends as it should, nothing acknowledged is lost, and no service is started twice for one order.
#![allow(clippy::unwrap_used)]

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::fs;
use std::path::Path;
use std::time::Duration;

use fleet_tests::witness::nothing_lost;
use fleet_tests::workspace::Workspace;
use fleet_tests::{Dice, Fleet, Options, Output, Proc, Store, Witness, until};
use serde_json::Value;

/// Deploys, and kills the controller at the nth fact of each named kind; returns how it ended and how many kills it
/// took. The watcher must be told every fact once, in order, across all restarts.
fn deploy_under_fire(fleet: &Fleet, release: &Path, flags: &[&str], triggers: &[(&str, usize)]) -> (Output, usize) {
    let mut stream = fleet.deploy_stream(release, flags);
    let (mut counts, mut kills, mut next) = (BTreeMap::<String, usize>::new(), 0, 0);
    while let Some(fact) = stream.fact() {
        assert_eq!(fact["index"].as_u64(), Some(next), "every fact once and in order: {fact}");
        next += 1;
        let kind = fact["fact"].as_str().unwrap();
        let count = counts.entry(kind.to_owned()).or_default();
        *count += 1;
        if triggers.contains(&(kind, *count)) {
            fleet.kill_controller();
            fleet.start_controller();
            kills += 1;
        }
    }
    (stream.finish(), kills)
}

/// No node has started its service twice for the same order.
#[track_caller]
fn nothing_started_twice(fleet: &Fleet) {
    for node in fleet.nodes() {
        let path = fleet.service_root(&node, "hello").join(".fleet/starts.log");
        let text = fs::read_to_string(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
        let mut starts = BTreeMap::<u64, usize>::new();
        for line in text.lines() {
            let start: Value = serde_json::from_str(line).unwrap();
            if start["cause"] == "order" {
                *starts.entry(start["generation"].as_u64().unwrap()).or_default() += 1;
            }
        }
        assert!(!starts.is_empty(), "{node} has started something:\n{text}");
        assert!(starts.values().all(|count| *count == 1), "{node} started an order's service twice:\n{text}");
    }
}

/// What the controller has acknowledged: how every deployment ended, and every release.
fn acknowledged(fleet: &Fleet) -> (Vec<Value>, Vec<String>) {
    until("history and releases can be read", || {
        let (history, releases) = (fleet.ctl(["history", "-o", "json"]), fleet.ctl(["releases", "list", "-o", "json"]));
        if history.code != 0 || releases.code != 0 {
            return None;
        }
        let deployments = history.json()["items"]
            .as_array()?
            .iter()
            .map(|d| {
                serde_json::json!([
                    d["id"],
                    d["outcome"],
                    d["release"]["id"],
                    d["facts"],
                    d["startedAt"],
                    d["finishedAt"]
                ])
            })
            .collect();
        let mut ids: Vec<_> =
            releases.json()["items"].as_array()?.iter().map(|r| r["id"].as_str().unwrap().to_owned()).collect();
        ids.sort();
        Some((deployments, ids))
    })
}

fn the_controller_is_killed(store: Store) {
    let fleet = Fleet::with(Options { agents: 8, store });
    fleet.deploy(&Workspace::built().example("hello"), &["--segments", "4"]).expect(0);
    let token = fleet.folder().join("token");
    fs::write(&token, fleet.ctl(["tokens", "create", "-o", "json"]).expect(0).json()["token"].as_str().unwrap())
        .unwrap();
    let witness = Witness::on(fleet.port_base);
    let mut kills = 0;

    // Forwards, at each kind of step.
    let (output, killed) = deploy_under_fire(
        &fleet,
        &Workspace::built().example("hello-2"),
        &["--segments", "4", "--bake", "1s"],
        &[
            ("planned", 1),
            ("segment-started", 1),
            ("node-proven", 1),
            ("node-proven", 2),
            ("segment-proven", 1),
            ("node-baked", 1),
            ("segment-baked", 1),
            ("segment-started", 2),
            ("segment-proven", 3),
            ("node-proven", 8),
            ("verification-started", 1),
            ("node-verified", 4),
        ],
    );
    output.expect(0).says("converged");
    kills += killed;
    let after_first = acknowledged(&fleet);

    // And back.
    let (output, killed) = deploy_under_fire(
        &fleet,
        &fleet.release("hello-broken", "3.0.0"),
        &["--segments", "4"],
        &[
            ("planned", 1),
            ("segment-started", 1),
            ("node-failed", 1),
            ("rollback-started", 1),
            ("segment-rollback-started", 1),
            ("node-restored", 1),
            ("verification-started", 1),
        ],
    );
    output.expect(3).never_says("converged");
    kills += killed;
    fleet.until_verified();

    // At moments that nobody chose.
    let mut dice = Dice::thrown();
    let mut stream = fleet.deploy_stream(&fleet.release("hello-v1", "1.1.0"), &["--segments", "8"]);
    // From its first fact on it survives everything; before that fleetctl rightly says that nobody answers.
    assert_eq!(stream.fact().unwrap()["fact"], "planned");
    let mut at_random = 0;
    while at_random < 6 && Proc::of(stream.pid()).is_some() {
        std::thread::sleep(Duration::from_millis(100 + dice.below(900)));
        if Proc::of(stream.pid()).is_none() {
            break;
        }
        fleet.kill_controller();
        fleet.start_controller();
        at_random += 1;
    }
    stream.finish().expect(0).says("converged");
    kills += at_random;

    // The very moment of the acknowledgement.
    let detached =
        fleet.deploy(&Workspace::built().example("hello-2"), &["--segments", "2", "--detach", "-o", "name"]).expect(0);
    fleet.kill_controller();
    fleet.start_controller();
    kills += 1;
    let id = detached.stdout.split_whitespace().find(|word| word.starts_with("d-")).unwrap().to_owned();
    until("the deployment is known again", || (fleet.ctl(["status", &id]).code != 69).then_some(()));
    fleet.ctl(["wait", &id]).expect(0);
    assert!(kills >= 20, "only {kills} kills: the triggers did not fire");

    let before = acknowledged(&fleet);
    assert_eq!(before.0.len(), 5, "{before:#?}");
    for old in &after_first.0 {
        assert!(before.0.contains(old), "{old} was acknowledged and is gone or changed: {before:#?}");
    }
    fleet.kill_controller();
    fleet.start_controller();
    assert_eq!(acknowledged(&fleet), before, "another restart changes nothing");
    let report = fleet.until_verified();
    assert!(report["proofs"].as_array().unwrap().iter().all(|proof| proof["version"] == "2.0.0"), "{report:#}");
    nothing_lost(&witness.stop());
    nothing_started_twice(&fleet);

    // A token that was given out before all this is still good, once.
    let address = format!("127.0.0.1:{}", fleet.controller_port);
    let state = fleet.folder().join("late");
    let join = |name: &str| {
        Output::of(
            fleet
                .command("fleet-agent")
                .arg("join")
                .arg(&address)
                .arg("--token-file")
                .arg(&token)
                .args(["--name", name])
                .arg("--state-dir")
                .arg(&state),
        )
    };
    let kept = fs::read(&token).unwrap();
    join("late").expect(0);
    fs::write(&token, kept).unwrap();
    fs::remove_dir_all(&state).unwrap();
    join("later").expect_refusal();
}

#[test]
fn the_controller_is_killed_twenty_times_on_sled() {
    the_controller_is_killed(Store::Sled);
}

#[test]
fn the_controller_is_killed_twenty_times_on_redb() {
    the_controller_is_killed(Store::Redb);
}

/// Every place at which an agent can be made to die on its way forwards, one node each.
const PLACES: [&str; 12] = [
    "order.saved",
    "drain.recorded",
    "switch.intended",
    "switch.renamed",
    "switch.switched",
    "start.intended",
    "start.inside",
    "start.recorded",
    "confirm.awaited",
    "confirm.given",
    "settle.recorded",
    "settle.after",
];

/// Arms the agents, deploys in two segments, starts every agent again that dies, and sees that each of them died.
#[track_caller]
fn deploy_to_the_dying(fleet: &Fleet, armed: &[(String, &str)], release: &Path, flags: &[&str]) -> Output {
    for (node, place) in armed {
        fleet.kill_agent(node);
        fleet.set_agent_variable(node, "FLEET_FP", Some(&format!("{place}=kill")));
        fleet.start_agent(node);
    }
    let died = RefCell::new(Vec::new());
    let revive = || {
        for (node, place) in armed {
            if fleet.agent(node).is_none() {
                died.borrow_mut().push(format!("{node} at {place}"));
                fleet.set_agent_variable(node, "FLEET_FP", None);
                fleet.start_agent(node);
                until(&format!("{node} runs again"), || fleet.agent(node));
            }
        }
    };
    until("every armed agent is ready", || {
        revive();
        fleet.nodes().iter().all(|node| fleet.node_state(node) == "ready").then_some(())
    });
    let stream = fleet.deploy_stream(release, flags);
    until("the deployment is over", || {
        revive();
        Proc::of(stream.pid()).is_none().then_some(())
    });
    // The last place lies behind the last proof: who dies there may do so when the deployment is over.
    until("the last of them has died", || {
        revive();
        (died.borrow().len() >= armed.len()).then_some(())
    });
    let died = died.into_inner();
    assert_eq!(died.len(), armed.len(), "every place is reached once: {died:?}");
    stream.finish()
}

#[test]
fn agents_die_at_each_of_their_steps() {
    let fleet = Fleet::up(PLACES.len() as u16);
    fleet.deploy(&Workspace::built().example("hello"), &["--segments", "2"]).expect(0);
    let armed: Vec<_> = fleet.nodes().into_iter().zip(PLACES).collect();
    deploy_to_the_dying(&fleet, &armed, &Workspace::built().example("hello-2"), &["--segments", "2"])
        .expect(0)
        .says("converged");
    let report = fleet.until_verified();
    assert!(report["proofs"].as_array().unwrap().iter().all(|proof| proof["version"] == "2.0.0"), "{report:#}");
    nothing_started_twice(&fleet);

    // On the way back there is one place more. The budget lets all six of the segment fail by themselves, before any
    // order back overtakes them.
    let armed: Vec<_> = fleet.nodes().into_iter().take(2).map(|node| (node, "turn.after")).collect();
    let broken = fleet.release("hello-broken", "3.0.0");
    deploy_to_the_dying(&fleet, &armed, &broken, &["--segments", "2", "--max-failures", "5"])
        .expect(3)
        .never_says("converged");
    let report = fleet.until_verified();
    assert!(report["proofs"].as_array().unwrap().iter().all(|proof| proof["version"] == "2.0.0"), "{report:#}");
}

#[test]
fn agents_die_at_moments_that_nobody_chose() {
    let fleet = Fleet::up(4);
    fleet.deploy(&Workspace::built().example("hello"), &["--segments", "1"]).expect(0);
    let pids = |fleet: &Fleet| -> Vec<i32> {
        fleet.nodes().iter().flat_map(|node| fleet.services(node)).map(|proc| proc.pid).collect()
    };
    let before = pids(&fleet);
    assert_eq!(before.len(), 4, "one process per node");
    let mut dice = Dice::thrown();
    for round in 0..2 {
        let (binary, version) = if round == 0 { ("hello-v2", "2.0.1") } else { ("hello-v1", "1.0.1") };
        let mut stream = fleet.deploy_stream(&fleet.release(binary, version), &["--segments", "4"]);
        while let Some(fact) = stream.fact() {
            if fact["fact"] == "segment-started" {
                // One of them is at work just now.
                std::thread::sleep(Duration::from_millis(dice.below(500)));
                for node in fleet.nodes() {
                    fleet.kill_agent(&node);
                    fleet.start_agent(&node);
                }
            }
        }
        stream.finish().expect(0).says("converged");
    }
    nothing_started_twice(&fleet);

    // An agent that starts again leaves a healthy service alone.
    let before = pids(&fleet);
    for node in fleet.nodes() {
        fleet.kill_agent(&node);
        fleet.start_agent(&node);
    }
    fleet.until_verified();
    assert_eq!(pids(&fleet), before, "no service was restarted");
}
