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
#[path = "model/large.rs"]
mod large;
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

use std::collections::HashMap;
use std::hash::{DefaultHasher, Hash, Hasher};
use std::time::Instant;

use fleet::Timestamp;
use fleet::deployment::{Deployment, Event, Fact};
use stateright::{Checker, Expectation, Model};

use projection::Projection;
use scenario::Scenario;
use stories::Story;
use world::{EPOCH, World};

/// Explores scenarios, and then says what is wrong in any of them.
fn explore_all(scenarios: Vec<Scenario>) {
    let (states, wrong): (Vec<usize>, Vec<String>) = scenarios.into_iter().map(explore).unzip();
    eprintln!("model: {} states in all", states.iter().sum::<usize>());
    assert!(wrong.iter().all(String::is_empty), "{}", wrong.concat());
}

/// Explores a scenario to the end, and says how much there was to see.
fn explore(scenario: Scenario) -> (usize, String) {
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
                wrong.push(format!(
                    "broken: {}\n{}\n  journal\n{}",
                    property.name,
                    steps.join("\n"),
                    journal.join("\n")
                ));
            }
            (Expectation::Sometimes, Some(_)) | (Expectation::Always | Expectation::Eventually, None) => {}
        }
    }
    (states, wrong.iter().map(|wrong| format!("{name}: {wrong}\n")).collect())
}

#[test]
fn small_worlds() {
    explore_all(scenarios::small());
}

#[test]
#[ignore = "minutes: run it with --release"]
fn large_worlds() {
    explore_all(large::large());
}

#[test]
fn every_story_is_told_by_a_small_world() {
    let told: Vec<Story> = scenarios::small().into_iter().flat_map(|scenario| scenario.stories).collect();
    let untold: Vec<&Story> = Story::ALL.iter().filter(|story| !told.contains(story)).collect();
    assert!(untold.is_empty(), "{untold:?}");
}

/// The projection merges states; this looks at every pair that is merged, whether the two can do the same, and whether
/// that leads both to the same again.
fn count_merged(scenario: &Scenario) -> usize {
    let successors = |world: &World| -> Vec<u64> {
        let mut actions = Vec::new();
        scenario.actions(world, &mut actions);
        let steps = actions.into_iter().map(|action| {
            let mut hasher = DefaultHasher::new();
            format!("{action:?}").hash(&mut hasher);
            scenario.next_state(world, action).hash(&mut hasher);
            hasher.finish()
        });
        steps.collect()
    };
    let mut known: HashMap<Projection, Vec<u64>> = HashMap::new();
    let mut frontier = scenario.init_states();
    let mut merged = 0;
    while let Some(world) = frontier.pop() {
        let (projection, after) = (Projection::of(&world), successors(&world));
        match known.get(&projection) {
            Some(other) => {
                assert_eq!(*other, after, "{}: merged states differ: {:?}", scenario.name, world.journal);
                merged += 1;
            }
            None => {
                let mut actions = Vec::new();
                scenario.actions(&world, &mut actions);
                frontier.extend(actions.into_iter().filter_map(|action| scenario.next_state(&world, action)));
                known.insert(projection, after);
            }
        }
    }
    merged
}

#[test]
fn merged_states_behave_alike() {
    let merged: usize = scenarios::smallest().iter().map(count_merged).sum();
    eprintln!("model: {merged} merged states behave like those they are merged with");
    assert!(merged > 1_000);
}

#[test]
#[ignore = "minutes: run it with --release"]
fn merged_states_behave_alike_in_every_small_world() {
    let merged: usize = scenarios::small().iter().map(count_merged).sum();
    eprintln!("model: {merged} merged states behave like those they are merged with");
}

#[test]
fn the_projection_forgets_the_date_and_nothing_that_is_measured() {
    let at = |epoch: i64, now: i64| {
        let spec = Box::new(scenarios::small()[0].spec.clone());
        let began = Timestamp(epoch * EPOCH as i64);
        let mut deployment = Deployment::planned(&Fact::Planned { at: began, spec }).unwrap();
        assert!(!deployment.handle(&Event::Tick, Timestamp(began.0 + 1)).is_empty());
        Projection::of_deployment(&deployment, Timestamp(now * EPOCH as i64 + 1))
    };
    assert_eq!(at(100, 100), at(777, 777));
    assert_eq!(at(100, 101), at(777, 778));
    assert_ne!(at(100, 100), at(100, 101));
    assert_eq!(at(100, 200), at(100, 300), "all that is left is long ago");
}
