//! The large scenarios: three nodes, or more trouble at once than the small ones have. Minutes, not seconds.

use fleet::Millis;
use fleet::deployment::{AbortMode, Command, Spec};

use crate::scenario::{Left, Scenario};
use crate::scenarios::{
    NONE, abort, gate, late_node, late_proofs, machines, migration, network, patience, retry, skip, spec, waiver,
};
use crate::stories::Story;

/// On demand.
pub(crate) fn large() -> Vec<Scenario> {
    let quick = |sizes: &[usize], absent| Spec { bake: Millis(0), confirm: Millis(0), ..spec(sizes, absent) };
    vec![
        Scenario {
            name: "large: a network that delays twice and lags, among failures",
            left: Left { failures: 1, delays: 2, lags: 1, ..NONE },
            stories: vec![Story::Converged, Story::RolledBack, Story::Unproven, Story::StaleProof],
            ..network()
        },
        Scenario {
            name: "large: machines that fail, lie, undo and fall back to old code",
            left: Left { failures: 2, lies: 1, undos: 1, relapses: 1, ..NONE },
            stories: vec![Story::Converged, Story::RolledBack, Story::LiarCaught, Story::NotRestored],
            ..machines()
        },
        Scenario {
            name: "large: a bake with young processes, late proofs and agents that undo",
            spec: spec(&[1, 1], 0),
            left: Left { restarts: 1, undos: 1, delays: 1, ..NONE },
            ..late_proofs()
        },
        Scenario {
            name: "large: three nodes that fail and lie, and leave and come back",
            spec: quick(&[2, 1], 0),
            left: Left { failures: 1, lies: 1, departures: 1, ..NONE },
            stories: vec![Story::Converged, Story::RolledBack, Story::LiarCaught],
            ..network()
        },
        Scenario {
            name: "large: three nodes, every word of people, and gates",
            spec: Spec { pause_after: [0].into(), gates: vec![gate()], ..quick(&[2, 1], 0) },
            left: Left { commands: 2, ..NONE },
            commands: every_command(),
            stories: vec![Story::Aborted, Story::AbortedBack, Story::RolledBack, Story::NobodyDecided],
            ..network()
        },
        Scenario {
            name: "large: people and a controller that stops, between turns and within, among failures",
            spec: Spec { pause_after: [0].into(), ..quick(&[1, 1], 0) },
            left: Left { failures: 1, crashes: 1, tears: 1, commands: 3, ..NONE },
            commands: every_command(),
            stories: vec![Story::Aborted, Story::AbortedBack, Story::PromotedAfterPause, Story::PausedOnTheWayBack],
            ..network()
        },
        Scenario {
            name: "large: on failure it pauses, and the controller stops",
            left: Left { failures: 1, commands: 2, crashes: 1, ..NONE },
            ..patience()
        },
        Scenario {
            name: "large: waivers, failures and a controller that stops",
            left: Left { failures: 2, departures: 1, commands: 1, crashes: 1, ..NONE },
            ..waiver()
        },
        Scenario {
            name: "large: a late node, a newcomer and a removal, among failures and aborts",
            left: Left { failures: 1, newcomers: 1, removals: 1, commands: 1, ..NONE },
            commands: vec![abort(AbortMode::RollBack)],
            stories: vec![Story::LateNode, Story::Newcomer, Story::Removed, Story::Unproven],
            ..late_node()
        },
        Scenario {
            name: "large: a migration, every word of people, and a controller that stops",
            left: Left { commands: 2, crashes: 1, ..NONE },
            commands: every_command(),
            ..migration()
        },
    ]
}

fn every_command() -> Vec<Command> {
    vec![Command::Pause, Command::Resume, skip(), retry(), abort(AbortMode::RollBack), abort(AbortMode::Leave)]
}
