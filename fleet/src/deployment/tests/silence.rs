//! Deadlines in every phase: when nobody says anything any more, neither nodes nor gates nor persons, a deployment ends
//! by being woken when it wants to be woken, whatever it was doing and whatever it was told last.

use crate::deployment::tests::commands::commands;
use crate::deployment::tests::situations::situations;
use crate::deployment::{Command, Deployment, Event, Fact, OnFailure};
use crate::{Millis, Outcome, Timestamp};

/// How long all deadlines of these deployments take together at most: a person is waited for twice (600 s), two
/// segments and the last round forward and back (60 s each), a migration (100 s), a gate (30 s).
const LONGEST: Millis = Millis::from_secs(2 * 600 + 6 * 60 + 2 * 100 + 2 * 30);

/// Wakes it until it ends; returns when, and what it said.
fn hush(mut deployment: Deployment, from: Timestamp, name: &str) -> (Deployment, Timestamp, Vec<Fact>) {
    let (mut now, mut said) = (from, deployment.handle(&Event::Tick, from));
    for _ in 0..60 {
        let Some(wake) = deployment.wake_at() else {
            assert!(deployment.outcome().is_some(), "{name}: it waits for nothing in {:?}", deployment.phase());
            return (deployment, now, said);
        };
        assert!(wake > now, "{name}: it is woken without end in {:?}", deployment.phase());
        now = wake;
        said.extend(deployment.handle(&Event::Tick, now));
    }
    panic!("{name}: it does not end, and said {said:?}");
}

#[test]
fn silence_ends_every_phase_in_bounded_time() {
    for situation in situations() {
        let name = situation.name;
        let (deployment, end, _) = hush(situation.deployment, situation.now, name);
        assert!(end.since(situation.now) <= LONGEST, "{name}: {}", end.since(situation.now));
        let outcome = deployment.outcome().unwrap();
        let good = matches!(outcome, Outcome::Converged | Outcome::ConvergedWithWaivers | Outcome::RolledBack);
        assert!(!good || name.starts_with("finished"), "{name}: silence ended {outcome}");
    }
}

#[test]
fn silence_after_any_command_ends_in_bounded_time_too() {
    for situation in situations() {
        for (_, command) in commands(situation.now) {
            let mut deployment = situation.deployment.clone();
            let name = format!("{command:?} while {}", situation.name);
            deployment.handle(&Event::Told { by: "bob".into(), command }, situation.now);
            let (_, end, _) = hush(deployment, situation.now, &name);
            assert!(end.since(situation.now) <= LONGEST, "{name}: {}", end.since(situation.now));
        }
    }
}

#[test]
fn silence_after_a_controller_was_away_for_a_day_ends_as_if_it_had_not_been() {
    let day = Millis::from_secs(24 * 3_600);
    for situation in situations() {
        let mut deployment = situation.deployment;
        let back = situation.now.after(day);
        deployment.resume(back);
        let waits = deployment.outcome().is_none();
        let (_, end, said) = hush(deployment, back, situation.name);
        assert!(end.since(back) <= LONGEST, "{}: {}", situation.name, end.since(back));
        // Nobody is blamed for what nobody was there to hear.
        let blamed = said.iter().find(|fact| {
            matches!(fact, Fact::NodeFailed { .. } | Fact::NodeNotRestored { .. } | Fact::NodeUnverified { .. })
        });
        if let Some(fact) = blamed {
            assert!(waits && fact.at().since(back) >= Millis::from_secs(10), "{}: {fact:?}", situation.name);
        }
    }
}

#[test]
fn a_person_who_never_decides_is_a_failure_that_says_so() {
    for situation in situations() {
        let waits = situation.deployment.halted().is_some() || situation.deployment.paused().is_some();
        let (stops, back) = (situation.deployment.spec().on_failure, situation.deployment.is_turned_back());
        let (_, _, said) = hush(situation.deployment, situation.now, situation.name);
        let kinds: Vec<_> = said.iter().map(Fact::kind).collect();
        if !waits {
            continue;
        }
        let undecided = match (back, stops) {
            // A rollback that nobody lets go on goes on.
            (true, _) => "resumed",
            (false, OnFailure::Rollback) => "rollback-started",
            (false, OnFailure::Stop | OnFailure::Pause) => "stopped",
        };
        assert!(kinds.contains(&undecided), "{}: {kinds:?}", situation.name);
        let words: Vec<String> = said.iter().map(ToString::to_string).collect();
        let named =
            words.iter().any(|word| word.contains("nobody decided within") || word.contains("deadline of the pause"));
        assert!(named, "{}: {words:?}", situation.name);
    }
}

/// To the millisecond: what silence leads to first, and when.
#[test]
fn every_phase_has_the_deadline_that_it_says() {
    for (name, span, kind) in [
        ("planned, paused", "10m", "rollback-started"),
        ("migrating before the first segment", "1m40s", "migration-interrupted"),
        ("planned, halted by an interrupted migration", "10m", "rollback-started"),
        ("rolling", "1m", "node-failed"),
        ("rolling, paused", "1m", "node-failed"),
        ("rolling, blocked by the floor", "1m", "rollback-started"),
        ("baking", "1m5s", "node-failed"),
        ("gating", "30s", "gate-inconclusive"),
        ("gating, paused", "30s", "gate-inconclusive"),
        ("between, halted by a gate without an answer", "10m", "rollback-started"),
        ("between, halted by a gate that said no", "10m", "stopped"),
        ("between, paused when the gate said yes", "10m", "rollback-started"),
        ("between, waiting for its promotion", "10m", "rollback-started"),
        ("migrating after a segment", "1m40s", "migration-interrupted"),
        ("rolling back", "1m", "node-not-restored"),
        // The absent node first, which was never heard; the others have as long as any.
        ("verifying", "10s", "node-unverified"),
        ("verifying, on the way back", "10s", "node-unverified"),
    ] {
        let mut situation = situations().into_iter().find(|situation| situation.name == name).unwrap();
        let due = situation.now.after(span.parse().unwrap());
        assert_eq!(situation.deployment.wake_at(), Some(due), "{name}");
        assert_eq!(situation.deployment.handle(&Event::Tick, Timestamp(due.0 - 1)), [], "{name}: too early");
        let said = situation.deployment.handle(&Event::Tick, due);
        assert_eq!(said.first().map(Fact::kind), Some(kind), "{name}: {said:?}");
        if name.starts_with("verifying") {
            // The rest of the minute that everybody has whom it knows; the bake is over for them.
            assert_eq!(situation.deployment.wake_at(), Some(due.after(Millis::from_secs(50))), "{name}");
        }
    }
}

/// It has halted, and is paused later: whoever was waited for first has the older deadline.
#[test]
fn a_pause_does_not_lengthen_the_wait_for_a_promotion() {
    let name = "between, waiting for its promotion";
    let mut situation = situations().into_iter().find(|situation| situation.name == name).unwrap();
    let due = situation.deployment.wake_at();
    let pause = Event::Told { by: "bob".into(), command: Command::Pause };
    let later = situation.now.after(Millis::from_secs(100));
    assert_eq!(situation.deployment.handle(&pause, later).len(), 1);
    assert_eq!((due, situation.deployment.wake_at()), (Some(situation.now.after(Millis::from_secs(600))), due));
}
