//! The engine's law: planning and judging a whole deployment costs O(nodes) work in all, so that the CPU time of an
//! event does not depend on how many nodes there are.
//!
//! Whole deployments are played through [`fleet::deployment::plan`] and [`fleet::deployment::Deployment`] as a driver
//! plays them, without journal, network and clock. What arrives is recorded beforehand (`story`) and copied outside of
//! the timed region. Every figure rests on the same number of nodes in all: a hundred deployments of 100 nodes, ten of
//! 1,000, one of 10,000; so their events lie equally cold in memory, and only the deployments differ in size.

pub mod report;
pub mod shape;
pub mod story;

use std::time::Duration;

use anyhow::{Context as _, bail, ensure};
use nix::time::{ClockId, clock_gettime};
use serde::Serialize;

use crate::interrupt;
use crate::machine::{Gate, Machine, wait_for_quiet};
use shape::{SHAPES, Shape};
use story::{Story, Told, begin, drive};

/// The sizes of fleets; the first is what the others are compared with.
pub const SIZES: [usize; 3] = [100, 1_000, 10_000];
/// The law: a larger fleet's event costs at most so many times that of the smallest.
pub const FLAT: f64 = 2.0;

/// One shape at one size: a figure per repetition, in order.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Cell {
    /// Nodes of each deployment.
    pub nodes: usize,
    /// Events of each deployment.
    pub events: usize,
    /// Facts of each deployment.
    pub facts: usize,
    /// CPU time of planning and judging together, in nanoseconds per event.
    pub event_ns: Vec<f64>,
    /// Of it planning alone, in nanoseconds per node.
    pub planning_ns: Vec<f64>,
}

/// One shape at every size.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Row {
    /// Its name.
    pub shape: &'static str,
    /// In the order of [`SIZES`].
    pub cells: Vec<Cell>,
}

/// All that was measured.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Measured {
    /// Repetitions that count.
    pub runs: u16,
    /// In the order of [`SHAPES`].
    pub rows: Vec<Row>,
    /// The machine at the start.
    pub machine: Machine,
    /// Whether it was quiet before each repetition.
    pub gates: Vec<Gate>,
}

/// Measures. `say` is told what goes on.
///
/// # Errors
/// A debug build, a deployment that does not end as it must, a machine without the clock, or [`interrupt::Interrupted`].
pub fn run(runs: u16, say: &dyn Fn(&str)) -> anyhow::Result<Measured> {
    if cfg!(debug_assertions) {
        bail!("a debug build measures nothing: cargo run --release -p fleet-benches -- engine");
    }
    let machine = Machine::look(&std::env::temp_dir());
    let mut rows: Vec<Row> = Vec::new();
    let mut stories: Vec<Vec<Story>> = Vec::new();
    for shape in &SHAPES {
        say(&format!("recording: {}", shape.name));
        let of_shape = SIZES.iter().map(|nodes| record(shape, *nodes)).collect::<anyhow::Result<Vec<_>>>()?;
        let empty = |(nodes, story): (&usize, &Story)| Cell {
            nodes: *nodes,
            events: story.events.len(),
            facts: story.told.facts,
            event_ns: Vec::new(),
            planning_ns: Vec::new(),
        };
        rows.push(Row { shape: shape.name, cells: SIZES.iter().zip(&of_shape).map(empty).collect() });
        stories.push(of_shape);
    }
    let mut gates = Vec::new();
    for round in 0..=runs {
        let gate = wait_for_quiet()?;
        let counts = round > 0;
        say(&if counts { format!("repetition {round} of {runs}") } else { "warm-up".to_owned() });
        if counts {
            gates.push(gate);
        }
        for (row, stories) in rows.iter_mut().zip(&stories) {
            for (cell, story) in row.cells.iter_mut().zip(stories) {
                interrupt::check()?;
                let (planning, judging) = time(story).with_context(|| format!("{} of {}", row.shape, cell.nodes))?;
                if counts {
                    let nodes = copies(cell.nodes) * cell.nodes;
                    let events = copies(cell.nodes) * cell.events;
                    cell.event_ns.push((planning + judging).as_nanos() as f64 / events as f64);
                    cell.planning_ns.push(planning.as_nanos() as f64 / nodes as f64);
                }
            }
        }
    }
    Ok(Measured { runs, rows, machine, gates })
}

fn record(shape: &Shape, nodes: usize) -> anyhow::Result<Story> {
    interrupt::check()?;
    Story::record(shape, nodes)
}

/// How many deployments of so many nodes make up the same number of nodes as one of the largest.
fn copies(nodes: usize) -> usize {
    SIZES.iter().copied().max().unwrap_or(nodes) / nodes
}

/// The CPU time of planning and of judging all copies of a story.
fn time(story: &Story) -> anyhow::Result<(Duration, Duration)> {
    let copies: Vec<Story> = (0..copies(story.candidates.len())).map(|_| story.clone()).collect();
    let (mut planning, mut judging) = (Duration::ZERO, Duration::ZERO);
    for Story { request, candidates, events, told } in copies {
        let mut heard = Told { facts: 1, ..Told::default() };
        let started = thread_cpu()?;
        let mut deployment = begin(&request, candidates)?;
        let planned = thread_cpu()?;
        for (now, event) in &events {
            // What is said is thrown away at once, as if it had been journaled and sent.
            drop(drive(&mut deployment, event, *now, &mut heard));
        }
        let ended = thread_cpu()?;
        heard.outcome = deployment.outcome();
        ensure!(heard == told, "it was played again and said {heard:?}, not {told:?}");
        planning += planned.saturating_sub(started);
        judging += ended.saturating_sub(planned);
    }
    Ok((planning, judging))
}

/// The CPU time of this thread: what others do on the machine is in it only as far as they take caches and clock rate.
fn thread_cpu() -> anyhow::Result<Duration> {
    Ok(clock_gettime(ClockId::CLOCK_THREAD_CPUTIME_ID).context("cannot read the thread's CPU clock")?.into())
}
