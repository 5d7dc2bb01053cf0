//! The real program against a scripted controller: what it asks for with the flags of the engine, the tests that it
//! runs for gates, and how it leaves them.
#![allow(clippy::unwrap_used)]

mod scripted;

use std::io::Read as _;
use std::process::Stdio;

use fleet_proto::v1::tell_request::Command;
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use scripted::{Scripted, wait_for};

#[test]
fn a_deploy_runs_its_test_and_answers_with_what_it_said() {
    let world = Scripted::start();
    let (code, _, said) = world.run(&[
        "deploy",
        "shop@2.3.1",
        "--test",
        "echo $FLEET_DEPLOYMENT $FLEET_SERVICE $FLEET_VERSION $FLEET_SEGMENT/$FLEET_SEGMENTS $FLEET_SEGMENT_NODES; pwd",
    ]);
    assert_eq!(code, 0, "{said}");
    let answers = world.asked(|asked| asked.answers.clone());
    assert_eq!(answers.len(), 1, "once per asking");
    let detail = format!("d-1 shop 2.3.1 1/1 n1 n2\n{}", world.directory().canonicalize().unwrap().display());
    assert_eq!((answers[0].verdict.as_str(), answers[0].detail.as_str()), ("passed", detail.as_str()));
    assert_eq!(answers[0].asking.unwrap().attempt, 1);
    assert!(said.contains("      gate test $ echo $FLEET_DEPLOYMENT"), "{said}");
    assert!(said.contains("      | d-1 shop 2.3.1 1/1 n1 n2\n"), "{said}");
}

#[test]
fn a_test_that_fails_or_cannot_say_is_told_so() {
    for (command, verdict, detail, code) in [
        ("echo no; exit 1", "failed", "exit 1\nno", 3),
        ("exit 75", "inconclusive", "exit 75: it cannot say", 0),
        ("/nowhere/at/all", "inconclusive", "it could not be run (exit 127)", 0),
    ] {
        let world = Scripted::start();
        world.ask_for(command);
        let (found, _, said) = world.run(&["wait", "d-1", "--run-tests", "--for", "promotable"]);
        assert_eq!(found, code, "{command}: {said}");
        let answer = world.asked(|asked| asked.answers[0].clone());
        assert_eq!(answer.verdict, verdict, "{command}");
        assert!(answer.detail.starts_with(detail), "{command}: {}", answer.detail);
    }
}

#[test]
fn who_only_watches_runs_nothing() {
    let world = Scripted::start();
    world.ask_for("true");
    for line in [&["wait", "d-1", "--timeout", "300ms"][..], &["status", "d-1", "-w", "--timeout", "300ms"]] {
        let (code, _, said) = world.run(line);
        assert_eq!(code, 6, "{said}");
        assert!(!said.contains("--run-tests"), "{said}");
    }
    assert_eq!(world.asked(|asked| asked.answers.len()), 0);
}

#[test]
fn who_leaves_ends_the_test_and_is_told_what_depends_on_them() {
    let world = Scripted::start();
    let begun = world.directory().join("begun");
    let mut child = world
        .fleetctl(&["deploy", "shop@2.3.1", "--test", "echo $$ > begun.tmp; mv begun.tmp begun; sleep 1000"])
        .stdout(Stdio::null())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    wait_for(&begun);
    kill(Pid::from_raw(i32::try_from(child.id()).unwrap()), Signal::SIGINT).unwrap();
    let mut said = String::new();
    child.stderr.take().unwrap().read_to_string(&mut said).unwrap();
    assert_eq!(child.wait().unwrap().code(), Some(130), "{said}");
    assert!(said.contains("fleetctl wait d-1 --run-tests"), "{said}");
    assert_eq!(world.asked(|asked| asked.answers.len()), 0, "what was ended says nothing");
    let test: i32 = std::fs::read_to_string(begun).unwrap().trim().parse().unwrap();
    assert!(kill(Pid::from_raw(test), None).is_err(), "the test still runs");
}

#[test]
fn a_limit_is_resolved_against_the_roster_and_the_service() {
    let world = Scripted::start();
    for (limit, names) in [("role=web,az=a", &["n1", "n2"][..]), ("az_a:!n2", &["n1"]), ("all", &["n1", "n2"])] {
        let (code, _, said) = world.run(&["deploy", "shop@2.3.1", "-l", limit]);
        assert_eq!(code, 0, "{said}");
        let request = world.asked(|asked| asked.started.last().cloned().unwrap());
        assert_eq!(request.limit, names);
        assert_eq!(request.limit_as_written, limit);
    }
    for (limit, term) in [("n1,n9", "n9"), ("db1", "shop is meant for none"), ("role=app", "role=app")] {
        let (code, _, said) = world.run(&["deploy", "shop@2.3.1", "-l", limit]);
        assert_eq!(code, 65, "{said}");
        assert!(said.contains(term), "{said}");
    }
    assert_eq!(world.asked(|asked| asked.started.len()), 3);
}

#[test]
fn a_plan_is_kept_and_carried_out_exactly() {
    let world = Scripted::start();
    let (code, out, _) = world.run(&["plan", "shop@2.3.1", "--keep", "--canary", "1"]);
    assert_eq!(code, 0);
    assert!(out.ends_with("Saved as p-3f9a.  Run exactly this:  fleetctl deploy --plan p-3f9a\n"), "{out}");
    assert!(world.asked(|asked| asked.planned[0].keep_plan && asked.planned[0].canary == 1));
    let (code, _, said) = world.run(&["deploy", "--plan", "p-3f9a", "-m", "why", "--queue"]);
    assert_eq!(code, 0, "{said}");
    let request = world.asked(|asked| asked.started[0].clone());
    assert_eq!((request.plan.as_str(), request.message.as_str(), request.queue), ("p-3f9a", "why", true));
    assert!(request.release.is_empty() && request.segments.is_empty(), "the rest is the plan's");
    assert_eq!(world.run(&["deploy", "--plan", "p-3f9a", "-e", "staging"]).0, 64, "it is for prod");
    assert_eq!(world.run(&["plan", "--list", "-o", "name"]).1, "p-3f9a\n");
}

#[test]
fn a_plan_that_is_forbidden_says_why_and_ends_with_1() {
    let world = Scripted::start();
    assert_eq!(world.run(&["plan", "shop@2.3.1", "--detailed-exitcode"]).0, 2);
    world.forbid("unreachable for 12m");
    let (code, out, said) = world.run(&["plan", "shop@2.3.1", "--detailed-exitcode"]);
    assert_eq!(code, 1);
    assert!(out.contains("  fail      n1 unreachable for 12m   → bring it back\n"), "{out}");
    assert!(said.contains("it would be refused now: 1 thing is in the way"), "{said}");
}

#[test]
fn what_a_person_tells_a_deployment() {
    let world = Scripted::start();
    world.ask_for("true");
    for line in [
        &["pause", "d-1"][..],
        &["resume", "d-1"],
        &["promote", "d-1", "--retry"],
        &["waive", "d-1", "n1", "--reason", "disk", "--for", "2h"],
    ] {
        let (code, out, said) = world.run(line);
        assert_eq!((code, out.as_str()), (0, ""), "{said}");
        assert!(said.contains("fleetctl "), "what is next is said: {said}");
    }
    let told = world.asked(|asked| asked.told.clone());
    assert!(matches!(told[0].command, Some(Command::Pause(_))) && matches!(told[1].command, Some(Command::Resume(_))));
    assert!(matches!(&told[2].command, Some(Command::Promote(promote)) if promote.retry));
    let Some(Command::Waive(waiver)) = &told[3].command else { panic!("{told:?}") };
    assert_eq!((waiver.node.as_str(), waiver.reason.as_str(), told[3].waive_for_ms), ("n1", "disk", 7_200_000));
    assert_eq!(world.run(&["promote", "d-1", "-o", "name"]).1, "d-1\n");
    let json: serde_json::Value = serde_json::from_str(&world.run(&["pause", "d-1", "-o", "json"]).1).unwrap();
    assert_eq!((&json["kind"], &json["gate"]["name"]), (&"Deployment".into(), &"test".into()));
}

#[test]
fn locks_are_held_and_refusals_keep_their_code() {
    let world = Scripted::start();
    let (code, _, said) = world.run(&["locks", "hold", "shop", "-m", "Black Friday", "--for", "1h"]);
    assert_eq!(code, 0, "{said}");
    let lock = world.asked(|asked| asked.locked[0].clone());
    assert_eq!((lock.service.as_str(), lock.reason.as_str(), lock.for_ms), ("shop", "Black Friday", 3_600_000));
    let (code, _, said) = world.run(&["locks", "release", "shop"]);
    assert_eq!(code, 1);
    assert!(said.contains("nobody holds a lock on shop"), "{said}");
    assert_eq!(world.run(&["locks", "list"]).1, "no service is locked\n");
}
