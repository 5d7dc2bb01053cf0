//! Every command in every phase: it has an effect, or a refusal that says what would have one. The table is the law;
//! `check` and `handle` are compared with it and with each other.

use crate::Timestamp;
use crate::deployment::tests::situations::situations;
use crate::deployment::tests::world::node;
use crate::deployment::{AbortMode, Again, Command, Event, Fact, Waiver};

/// The commands, each by the letter it has in the table.
pub(super) fn commands(now: Timestamp) -> Vec<(char, Command)> {
    let waiver = |until| Waiver { by: "carol".into(), reason: "fan".into(), until };
    let waive = |n, until| Command::Waive { node: node(n), waiver: waiver(until) };
    let supersede = |id: &str| Command::Supersede { deployment: id.parse().unwrap() };
    vec![
        ('P', Command::Pause),
        ('R', Command::Resume),
        ('S', Command::Promote { again: Again::Skip }),
        ('T', Command::Promote { again: Again::Retry }),
        ('B', Command::Abort { mode: AbortMode::RollBack }),
        ('L', Command::Abort { mode: AbortMode::Leave }),
        ('U', supersede("d-next")),
        ('W', waive(1, Timestamp(now.0 + 1))),
        // These have no effect anywhere: itself in its own place, a waiver that is over, a stranger.
        ('u', supersede("d-test")),
        ('w', waive(1, now)),
        ('x', waive(99, Timestamp(now.0 + 1))),
    ]
}

/// What has an effect in each situation.
const TABLE: &[(&str, &str)] = &[
    ("planned", "PBLUW"),
    ("planned, paused", "RBLUW"),
    ("migrating before the first segment", "PBLUW"),
    ("planned, halted by an interrupted migration", "PSTBLUW"),
    ("rolling", "PBLUW"),
    ("rolling, paused", "RBLUW"),
    ("rolling, halted by a failure", "PSBLUW"),
    ("rolling, halted by a failure, paused too", "RSBLUW"),
    ("rolling, blocked by the floor", "PBLUW"),
    ("baking", "PBLUW"),
    ("baking, paused", "RBLUW"),
    ("gating", "PBLUW"),
    ("gating, paused", "RBLUW"),
    ("between, halted by a gate without an answer", "PSTBLUW"),
    ("between, halted by a gate that said no", "PSTBLUW"),
    ("between, paused when the gate said yes", "RBLUW"),
    ("between, waiting for its promotion", "PSBLUW"),
    ("migrating after a segment", "PBLUW"),
    ("migrating after a segment, paused", "RBLUW"),
    // It changes nothing any more, so that there is nothing to pause.
    ("stopped, taken up again", "BLUW"),
    ("turning back, taken up again", "PBLUW"),
    ("rolling back", "PBLUW"),
    ("rolling back, paused", "RBLUW"),
    // An abort may become milder, and is not paused.
    ("rolling back, aborted", "LUW"),
    ("verifying", "BLUW"),
    ("rolling back from the last round, aborted", "LUW"),
    ("verifying, on the way back", "BLUW"),
    ("verifying, on the way back, aborted", "LUW"),
    ("finished: converged", ""),
    ("finished: rolled back", ""),
    ("finished: unproven", ""),
    ("finished: aborted", ""),
    ("finished: superseded", ""),
    ("rolling after a retried migration", "PBLUW"),
];

/// The fact that a command becomes.
fn becomes(command: &Command) -> &'static str {
    match command {
        Command::Pause => "paused",
        Command::Resume => "resumed",
        Command::Promote { .. } => "promoted",
        Command::Abort { .. } => "abort-requested",
        Command::Supersede { .. } => "superseded",
        Command::Waive { .. } => "node-waived",
    }
}

#[test]
fn every_command_is_defined_in_every_phase() {
    let situations = situations();
    let names: Vec<_> = situations.iter().map(|situation| situation.name).collect();
    assert_eq!(names, TABLE.iter().map(|(name, _)| *name).collect::<Vec<_>>());
    let mut pairs = 0;
    for (situation, (name, effective)) in situations.iter().zip(TABLE) {
        for (letter, command) in commands(situation.now) {
            pairs += 1;
            let pair = format!("{command:?} while {name}");
            let checked = situation.deployment.check(&command, situation.now);
            assert_eq!(checked.is_ok(), effective.contains(letter), "{pair}: {checked:?}");
            let mut told = situation.deployment.clone();
            let event = Event::Told { by: "bob".into(), command: command.clone() };
            let facts = told.handle(&event, situation.now);
            match checked {
                Ok(()) => {
                    assert_eq!(facts.first().map(Fact::kind), Some(becomes(&command)), "{pair}");
                    assert!(told != situation.deployment, "{pair} changed nothing");
                }
                Err(refusal) => {
                    assert!(!refusal.what.is_empty() && !refusal.help.is_empty(), "{pair}: {refusal:?}");
                    assert!(!refusal.to_string().ends_with('.'), "{pair}: {refusal}");
                    // What was due anyway, and nothing else.
                    let mut left_alone = situation.deployment.clone();
                    assert_eq!(facts, left_alone.handle(&Event::Tick, situation.now), "{pair}");
                }
            }
        }
    }
    assert_eq!(pairs, 34 * 11);
}

#[test]
fn a_refusal_names_the_command_that_has_an_effect() {
    for (situation, letter, help) in [
        ("rolling, paused", 'P', "fleetctl resume d-test"),
        ("rolling, halted by a failure", 'R', "fleetctl promote d-test, or: fleetctl abort d-test"),
        ("rolling, halted by a failure", 'T', "fleetctl promote d-test"),
        ("rolling, paused", 'S', "fleetctl resume d-test"),
        ("rolling", 'R', "fleetctl status d-test"),
        ("rolling", 'S', "fleetctl status d-test"),
        ("rolling back, aborted", 'P', "fleetctl wait d-test"),
        ("rolling back, aborted", 'B', "fleetctl wait d-test"),
        ("verifying", 'P', "fleetctl wait d-test"),
        ("finished: converged", 'P', "fleetctl rollback web"),
        ("rolling", 'x', "fleetctl status d-test"),
    ] {
        let situation = situations().into_iter().find(|found| found.name == situation).unwrap();
        let (_, command) = commands(situation.now).into_iter().find(|(found, _)| *found == letter).unwrap();
        let refusal = situation.deployment.check(&command, situation.now).unwrap_err();
        assert!(refusal.help.contains(help), "{letter} while {}: {refusal:?}", situation.name);
    }
}
