//! The deployment engine, checked exhaustively: the real [`fleet::deployment::Deployment`] in a world that loses,
//! repeats and delays every message, in which nodes fail, lie, undo and leave, people say what they like and the
//! controller stops at any time. Every order of events that a scenario's budget allows is explored (stateright).
//!
//! The scenarios are small and many, each with some of the mischief, and run in every test run; the large ones are for
//! `cargo test -p fleet --test model -- --ignored`. Laws hold in every state, and every story is told by some scenario.
//! What one model alone would miss by doing nothing, the stories show; that the laws have teeth was shown by breaking
//! the engine on purpose, one rule at a time.
#![allow(clippy::unwrap_used)]

#[path = "model/endings.rs"]
mod endings;
#[path = "model/history.rs"]
mod history;
#[path = "model/laws.rs"]
mod laws;
#[path = "model/limits.rs"]
mod limits;
#[path = "model/projection.rs"]
mod projection;
#[path = "model/scenario.rs"]
mod scenario;
#[path = "model/scenarios.rs"]
mod scenarios;
#[path = "model/stories.rs"]
mod stories;
#[path = "model/world.rs"]
mod world;

use std::time::Instant;

use stateright::{Checker, Expectation, Model};

use scenario::Scenario;
use stories::Story;

/// Explores a scenario to the end, and says how much there was to see.
fn explore(scenario: Scenario) -> usize {
    let (name, started) = (scenario.name, Instant::now());
    let threads = std::thread::available_parallelism().map_or(1, usize::from);
    let checker = scenario.checker().threads(threads).spawn_bfs().join();
    let (states, transitions, depth) = (checker.unique_state_count(), checker.state_count(), checker.max_depth());
    let seconds = started.elapsed().as_secs_f32();
    eprintln!("model: {name}: {states} states, {transitions} transitions, depth {depth}, {seconds:.1} s");
    let found = checker.discoveries();
    let mut wrong = Vec::new();
    for property in checker.model().properties() {
        match (&property.expectation, found.get(property.name)) {
            (Expectation::Sometimes, None) => wrong.push(format!("never: {}", property.name)),
            (Expectation::Always | Expectation::Eventually, Some(path)) => {
                let actions = path.clone().into_actions();
                let steps: Vec<String> = actions.iter().map(|action| format!("    {action:?}")).collect();
                let last = path.last_state();
                let journal: Vec<String> = last.journal.iter().skip(1).map(|fact| format!("    {fact:?}")).collect();
                wrong.push(format!("broken: {}\n{}\n  journal\n{}", property.name, steps.join("\n"), journal.join("\n")));
            }
            (Expectation::Sometimes, Some(_)) | (Expectation::Always | Expectation::Eventually, None) => {}
        }
    }
    assert!(wrong.is_empty(), "{name}:\n{}", wrong.join("\n"));
    states
}

#[test]
fn small_worlds() {
    let states: usize = scenarios::small().into_iter().map(explore).sum();
    eprintln!("model: {states} states in all");
}

#[test]
#[ignore = "minutes; run with --release"]
fn large_worlds() {
    let states: usize = scenarios::large().into_iter().map(explore).sum();
    eprintln!("model: {states} states in all");
}

#[test]
fn every_story_is_told_by_a_small_world() {
    let told: Vec<Story> = scenarios::small().into_iter().flat_map(|scenario| scenario.stories).collect();
    let untold: Vec<&Story> = Story::ALL.iter().filter(|story| !told.contains(story)).collect();
    assert!(untold.is_empty(), "{untold:?}");
}
