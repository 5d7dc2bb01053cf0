//! The deployment engine in the real: twelve agents with their processes, every feature of a rolling deployment in a
//! story of its own, the controller killed with `kill -9` while it waits; and `fleetctl status` says during each wait what
//! is waited for. Stories that do not disturb each other share a fleet; each test is one fleet.
#![allow(clippy::unwrap_used)]

mod between;
mod limits;
mod once;
mod people;
mod plans;
mod turns;
mod verdict;

use fleet_tests::{Fleet, Stage};

/// As many as the engine's promise is about.
const AGENTS: u16 = 12;

#[test]
fn what_is_planned_is_what_is_done() {
    // n1 has no zone; the others are spread over three, unevenly.
    let zone = |number| match number {
        2..=7 => "a",
        8..=10 => "b",
        _ => "c",
    };
    let (stage, _) = Stage::set(Fleet::in_zones(AGENTS, zone));
    stage.play(&[plans::STORIES, limits::STORIES].concat());
}

#[test]
fn what_is_asked_between_segments() {
    let (stage, _) = Stage::set(Fleet::up(AGENTS));
    stage.play(&[between::STORIES, people::STORIES, turns::STORIES].concat());
}

#[test]
fn who_belongs_to_the_verdict() {
    let (stage, _) = Stage::set(Fleet::up(AGENTS));
    stage.play(&[once::STORIES, verdict::STORIES].concat());
}
