//! The scenarios: which deployments, and which mischief. A small one holds two or three nodes and a few kinds of
//! trouble; together they tell every story. The large ones are in `large.rs`.

use std::collections::BTreeMap;

use fleet::capacity::Parallel;
use fleet::deployment::{
    AbortMode, Again, Budget, Command, Gate, Migration, OnFailure, Place, Previous, Source, Spec, Waiver,
};
use fleet::{Millis, NodeName, Timestamp};

use crate::limits::{BAKE, DEADLINE, GATE, PATIENCE, SETTLE};
use crate::scenario::{Left, Scenario};
use crate::stories::Story;
use crate::world::{BACK, Clock, Code, FORWARD, epochs, hold};

pub(crate) const NONE: Left = Left {
    failures: 0,
    lies: 0,
    undos: 0,
    restarts: 0,
    relapses: 0,
    departures: 0,
    delays: 0,
    lags: 0,
    crashes: 0,
    tears: 0,
    commands: 0,
    newcomers: 0,
    removals: 0,
};

/// For every test run.
pub(crate) fn small() -> Vec<Scenario> {
    vec![
        network(),
        lag(),
        machines(),
        liars(),
        bake(),
        early_proofs(),
        late_proofs(),
        controller(),
        torn(),
        people(),
        pauses(),
        takeover(),
        gates(),
        gate_stops(),
        patience(),
        late_node(),
        removal(),
        late_bake(),
        late_abort(),
        waiver(),
        width(),
        floor(),
        migration(),
    ]
}

/// Those in which little happens, one for each kind of time and of what was merely heard.
pub(crate) fn smallest() -> Vec<Scenario> {
    vec![machines(), bake(), late_proofs(), gates(), late_bake(), waiver(), floor()]
}

pub(crate) fn network() -> Scenario {
    Scenario {
        name: "the network loses, repeats and delays",
        spec: Spec { bake: Millis(0), confirm: Millis(0), ..spec(&[1, 1], 0) },
        left: Left { delays: 1, ..NONE },
        away: Vec::new(),
        commands: Vec::new(),
        stories: vec![Story::Converged, Story::RolledBack, Story::Unproven, Story::StaleProof, Story::SilenceFailed],
    }
}

fn lag() -> Scenario {
    Scenario {
        name: "what is seen is compared with what was wanted before",
        left: Left { lags: 1, failures: 1, ..NONE },
        stories: vec![Story::Converged, Story::RolledBack],
        ..network()
    }
}

pub(crate) fn machines() -> Scenario {
    Scenario {
        name: "machines fail and undo, on the way back too",
        spec: Spec { bake: Millis(0), ..spec(&[1, 1], 0) },
        left: Left { failures: 2, undos: 1, ..NONE },
        stories: vec![Story::Converged, Story::RolledBack, Story::NotRestored],
        ..network()
    }
}

fn liars() -> Scenario {
    Scenario {
        name: "machines claim what they do not run",
        spec: Spec { bake: Millis(0), confirm: Millis(0), ..spec(&[1, 1], 0) },
        left: Left { lies: 1, ..NONE },
        stories: vec![Story::Converged, Story::RolledBack, Story::LiarCaught],
        ..machines()
    }
}

fn early_proofs() -> Scenario {
    Scenario {
        name: "a proof of what runs already, from before the order",
        spec: Spec { bake: Millis(0), confirm: Millis(0), ..spec(&[1], 0) },
        left: Left { delays: 1, relapses: 1, failures: 1, ..NONE },
        stories: vec![Story::Converged, Story::RolledBack, Story::StaleProof],
        ..network()
    }
}

pub(crate) fn late_proofs() -> Scenario {
    Scenario {
        name: "a bake, with proofs that come late",
        spec: spec(&[1], 0),
        left: Left { delays: 1, undos: 1, ..NONE },
        stories: vec![Story::Converged, Story::RolledBack, Story::StaleProof],
        ..network()
    }
}

fn bake() -> Scenario {
    Scenario {
        name: "a bake, with processes that start anew",
        spec: spec(&[1, 1], 0),
        left: Left { restarts: 1, ..NONE },
        stories: vec![Story::Converged, Story::RolledBack, Story::Restarted],
        ..network()
    }
}

fn controller() -> Scenario {
    Scenario {
        name: "the controller stops, for a moment or for long, among failures",
        spec: Spec { gates: vec![Gate { after: Some(0), ..gate() }], ..spec(&[1, 1], 0) },
        left: Left { failures: 1, crashes: 1, ..NONE },
        stories: vec![
            Story::CrashPlanned,
            Story::CrashRolling,
            Story::CrashBaking,
            Story::CrashGating,
            Story::CrashBack,
            Story::CrashVerifying,
        ],
        ..network()
    }
}

fn torn() -> Scenario {
    Scenario {
        name: "the controller stops in the middle of what it saves",
        spec: Spec { bake: Millis(0), confirm: Millis(0), on_failure: OnFailure::Rollback, ..spec(&[1, 1], 0) },
        left: Left { failures: 1, tears: 1, commands: 1, ..NONE },
        commands: vec![Command::Pause, abort(AbortMode::RollBack)],
        stories: vec![Story::CrashBetween, Story::CrashTurning, Story::CrashBaking, Story::AbortedBack],
        ..network()
    }
}

fn people() -> Scenario {
    Scenario {
        name: "people pause, resume and abort, among failures",
        spec: Spec { bake: Millis(0), confirm: Millis(0), ..spec(&[1, 1], 0) },
        left: Left { failures: 1, commands: 2, ..NONE },
        commands: vec![Command::Pause, Command::Resume, abort(AbortMode::RollBack)],
        stories: vec![Story::Resumed, Story::AbortedBack, Story::PausedOnTheWayBack, Story::NobodyDecided],
        ..network()
    }
}

fn pauses() -> Scenario {
    Scenario {
        name: "it halts after a segment, is promoted or aborted, and the controller stops",
        spec: Spec { pause_after: [0].into(), bake: Millis(0), confirm: Millis(0), ..spec(&[1, 1], 0) },
        left: Left { crashes: 1, commands: 1, ..NONE },
        commands: vec![skip(), Command::Pause, abort(AbortMode::RollBack)],
        stories: vec![Story::PromotedAfterPause, Story::AbortedBack, Story::CrashBetween, Story::NobodyDecided],
        ..network()
    }
}

fn takeover() -> Scenario {
    let other = Command::Supersede { deployment: parsed("d-other") };
    Scenario {
        name: "people end it: abort both ways, one after the other, or supersede it, with an absent node",
        spec: Spec { bake: Millis(0), confirm: Millis(0), ..spec(&[1, 1], 1) },
        left: Left { commands: 2, failures: 1, ..NONE },
        commands: vec![abort(AbortMode::RollBack), abort(AbortMode::Leave), other],
        stories: vec![Story::Aborted, Story::AbortedBack, Story::Superseded],
        ..network()
    }
}

fn gates() -> Scenario {
    Scenario {
        name: "a gate passes, fails or says nothing; people skip it or ask again",
        spec: Spec { gates: vec![gate()], bake: Millis(0), confirm: Millis(0), ..spec(&[1, 1], 0) },
        left: Left { commands: 1, ..NONE },
        commands: vec![skip(), retry()],
        stories: vec![Story::PromotedAfterSilence, Story::AskedAgain, Story::RolledBack, Story::NobodyDecided],
        ..network()
    }
}

fn gate_stops() -> Scenario {
    let once = Gate { after: Some(0), ..gate() };
    Scenario {
        name: "on failure it stops",
        spec: Spec { gates: vec![once], on_failure: OnFailure::Stop, ..spec(&[1, 1], 0) },
        left: Left { failures: 1, tears: 1, commands: 1, ..NONE },
        commands: vec![abort(AbortMode::RollBack), Command::Pause],
        stories: vec![Story::CrashStopped, Story::Unproven, Story::Converged, Story::AbortedBack],
        ..network()
    }
}

pub(crate) fn patience() -> Scenario {
    Scenario {
        name: "on failure it pauses until a person decides",
        spec: Spec {
            gates: vec![gate()],
            on_failure: OnFailure::Pause,
            bake: Millis(0),
            confirm: Millis(0),
            ..spec(&[1, 1], 0)
        },
        left: Left { failures: 1, commands: 1, ..NONE },
        commands: vec![skip(), retry(), abort(AbortMode::RollBack)],
        stories: vec![Story::PromotedAfterFailure, Story::AskedAgain, Story::NobodyDecided, Story::AbortedBack],
        ..network()
    }
}

pub(crate) fn late_node() -> Scenario {
    Scenario {
        name: "an absent node and a newcomer",
        spec: Spec { bake: Millis(0), ..spec(&[1], 1) },
        left: Left { newcomers: 1, ..NONE },
        away: vec![node(2)],
        stories: vec![Story::LateNode, Story::Newcomer, Story::Unproven],
        ..network()
    }
}

fn removal() -> Scenario {
    Scenario {
        name: "an absent node and a removal",
        left: Left { removals: 1, ..NONE },
        stories: vec![Story::LateNode, Story::Removed, Story::Unproven],
        ..late_node()
    }
}

fn late_bake() -> Scenario {
    Scenario {
        name: "an absent node has to outlive the bake in the last round",
        spec: spec(&[1], 1),
        left: Left { restarts: 1, ..NONE },
        stories: vec![Story::LateNode, Story::Unproven],
        ..late_node()
    }
}

fn late_abort() -> Scenario {
    Scenario {
        name: "an abort when an absent node and a newcomer are there already",
        left: Left { newcomers: 1, commands: 1, ..NONE },
        commands: vec![abort(AbortMode::RollBack)],
        stories: vec![Story::LateNode, Story::Newcomer, Story::AbortedBack],
        ..late_node()
    }
}

pub(crate) fn waiver() -> Scenario {
    Scenario {
        name: "waivers, one that lasts and one that runs out",
        spec: Spec {
            bake: Millis(0),
            confirm: Millis(0),
            waivers: BTreeMap::from([(node(2), waiver_until(Clock::START.asks().after(epochs(3))))]),
            ..spec(&[1, 1], 0)
        },
        left: Left { departures: 1, commands: 1, ..NONE },
        commands: vec![waive(1)],
        stories: vec![Story::Waived, Story::WaiverOver, Story::Converged],
        ..network()
    }
}

fn width() -> Scenario {
    Scenario {
        name: "two nodes at a time at most one, and one failure is forgiven",
        spec: Spec {
            parallel: Parallel::Count(1),
            max_failures: Budget::Nodes(1),
            bake: Millis(0),
            confirm: Millis(0),
            ..spec(&[2, 1], 0)
        },
        left: Left { failures: 1, ..NONE },
        stories: vec![Story::ForgivenIsUnproven, Story::Converged],
        ..network()
    }
}

fn floor() -> Scenario {
    Scenario {
        name: "one of two must serve",
        spec: Spec { floor: 1, max_failures: Budget::Nodes(1), bake: Millis(0), confirm: Millis(0), ..spec(&[2], 0) },
        left: Left { failures: 2, crashes: 1, ..NONE },
        stories: vec![Story::RolledBack, Story::Converged],
        ..network()
    }
}

pub(crate) fn migration() -> Scenario {
    let migration =
        Migration { name: "migrate".into(), command: "true".into(), place: Place::After(0), timeout: epochs(1) };
    Scenario {
        name: "a migration between two segments",
        spec: Spec { migration: Some(migration), bake: Millis(0), confirm: Millis(0), ..spec(&[1, 1], 0) },
        left: Left { commands: 1, crashes: 1, ..NONE },
        commands: vec![skip(), retry()],
        stories: vec![Story::MigratedOnce, Story::MigratedTwice, Story::RolledBack, Story::CrashMigrating],
        ..network()
    }
}

/// A deployment over segments of these sizes and so many nodes that are absent, with every default that is strict.
pub(crate) fn spec(sizes: &[usize], absent: usize) -> Spec {
    let mut names = (1..).map(node);
    let segments: Vec<Vec<NodeName>> = sizes.iter().map(|&size| names.by_ref().take(size).collect()).collect();
    let absent: Vec<NodeName> = names.take(absent).collect();
    let previous = Previous { hold: hold(Code::Old), version: None };
    let spec = serde_json::json!({
        "id": "d-model",
        "service": "web",
        "environment": "prod",
        "kind": "rollout",
        "target": hold(Code::New),
        "version": "2.0.0",
        "previous": segments.iter().flatten().chain(&absent).map(|n| (n, &previous)).collect::<BTreeMap<_, _>>(),
        "segments": &segments,
        "absent": &absent,
        "generation": FORWARD,
        "rollbackGeneration": BACK,
        "maxFailures": "0",
        "bake": BAKE,
        "confirm": epochs(1),
        "nodeDeadline": epochs(DEADLINE as u64),
        "settle": epochs(SETTLE as u64),
        "absentGrace": epochs(DEADLINE as u64),
        "pauseDeadline": epochs(PATIENCE as u64),
        "onFailure": "rollback",
        "actor": "alice",
        "message": "",
    });
    match serde_json::from_value(spec) {
        Ok(spec) => spec,
        Err(error) => panic!("the spec of the scenarios is malformed: {error}"),
    }
}

pub(crate) fn gate() -> Gate {
    Gate { name: "test".into(), source: Source::Approval { required: 1 }, after: None, deadline: GATE }
}

pub(crate) fn skip() -> Command {
    Command::Promote { again: Again::Skip }
}

pub(crate) fn retry() -> Command {
    Command::Promote { again: Again::Retry }
}

pub(crate) fn abort(mode: AbortMode) -> Command {
    Command::Abort { mode }
}

fn waive(n: usize) -> Command {
    Command::Waive { node: node(n), waiver: waiver_until(Timestamp(i64::MAX)) }
}

fn waiver_until(until: Timestamp) -> Waiver {
    Waiver { by: "carol".into(), reason: "disk".into(), until }
}

fn node(n: usize) -> NodeName {
    parsed(&format!("n{n}"))
}

fn parsed<T: std::str::FromStr>(text: &str) -> T {
    match text.parse() {
        Ok(value) => value,
        Err(_) => panic!("the scenarios name what cannot be: {text}"),
    }
}
