//! What was measured of the engine, as text for people and as JSON for programs.

use std::fmt::Write as _;

use serde_json::{Value, json};

use crate::engine::{Cell, FLAT, Measured, Row};
use crate::statistics::{Spread, ratios};

/// For people.
pub fn table(measured: &Measured) -> String {
    let Measured { runs, rows, machine, gates } = measured;
    let mut text = format!(
        "engine: thread CPU time of planning and judging whole deployments; {runs} repetitions after a warm-up\n\n\
         {:<28}{:>6}{:>9}{:>8}{:>30}{:>11}   {}\n{:<28}{:>6}{:>9}{:>8}{:>30}{:>11}   {}\n",
        "",
        "",
        "events",
        "facts",
        "ns an event:",
        "planning",
        "times that of the smallest:",
        "shape",
        "nodes",
        "a node",
        "a node",
        "median     min     max",
        "ns a node",
        "median (min to max)",
    );
    for row in rows {
        for (nth, cell) in row.cells.iter().enumerate() {
            let a_node = |count: usize| count as f64 / cell.nodes as f64;
            let name = if nth == 0 { row.shape } else { "" };
            let _ = write!(text, "{name:<28}{:>6}{:>9.2}{:>8.2}", cell.nodes, a_node(cell.events), a_node(cell.facts));
            let cost = Spread::of(cell.event_ns.iter().copied());
            let cost = cost.map_or_else(String::new, |s| format!("{:.0} {:>7.0} {:>7.0}", s.median, s.min, s.max));
            let planning = Spread::of(cell.planning_ns.iter().copied()).map_or(f64::NAN, |s| s.median);
            let _ = write!(text, "{cost:>30}{planning:>11.0}");
            let _ = match growth(row, cell).filter(|_| nth > 0) {
                Some(s) => writeln!(text, "   {:.2} ({:.2} to {:.2})", s.median, s.min, s.max),
                None => writeln!(text),
            };
        }
    }
    let _ = match worst(measured) {
        Some((shape, nodes, times)) => {
            let verdict = if times <= FLAT { "kept" } else { "BROKEN" };
            writeln!(
                text,
                "\nlaw (flat within a factor of {FLAT:.0}): {verdict}; the largest median is {times:.2}, {shape} of {nodes} nodes"
            )
        }
        None => writeln!(text, "\nlaw (flat within a factor of {FLAT:.0}): nothing was measured"),
    };
    let noisy = gates.iter().filter(|gate| !gate.quiet).count();
    let _ = writeln!(
        text,
        "noise: load average at the start {}; {noisy} of {runs} repetitions began on a machine that was not quiet{}",
        machine.load_average,
        Spread::of(gates.iter().map(|gate| gate.busy * 100.0))
            .map_or_else(String::new, |s| format!(" (busy {:.0} %, {:.0} to {:.0})", s.median, s.min, s.max)),
    );
    let _ = writeln!(text, "machine: {} x {}, Linux {}", machine.processors, machine.model, machine.kernel);
    text
}

/// For programs: every sample, and the ratios that the table shows.
pub fn json(measured: &Measured) -> String {
    let growth: Vec<Value> = measured
        .rows
        .iter()
        .flat_map(|row| row.cells.iter().map(move |cell| (row, cell)))
        .map(|(row, cell)| json!({ "shape": row.shape, "nodes": cell.nodes, "times": growth(row, cell) }))
        .collect();
    let kept = worst(measured).map(|(_, _, times)| times <= FLAT);
    let document = json!({ "benchmark": "engine", "lawKept": kept, "growth": growth, "measured": measured });
    serde_json::to_string_pretty(&document).unwrap_or_default()
}

/// How many times an event of the smallest fleet one of this costs, repetition by repetition.
fn growth(row: &Row, cell: &Cell) -> Option<Spread> {
    ratios(&row.cells.first()?.event_ns, &cell.event_ns)
}

/// The shape and size that grow most.
fn worst(measured: &Measured) -> Option<(&'static str, usize, f64)> {
    let all = measured.rows.iter().flat_map(|row| row.cells.iter().map(move |cell| (row, cell)));
    all.filter_map(|(row, cell)| Some((row.shape, cell.nodes, growth(row, cell)?.median)))
        .max_by(|a, b| a.2.total_cmp(&b.2))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use crate::machine::{Gate, Machine};

    fn measured(large: &[f64]) -> Measured {
        let cell = |nodes: usize, event_ns: &[f64]| Cell {
            nodes,
            events: nodes * 8,
            facts: nodes * 3,
            event_ns: event_ns.into(),
            planning_ns: vec![700.0],
        };
        Measured {
            runs: 3,
            rows: vec![Row {
                shape: "4 segments",
                cells: vec![cell(100, &[400.0, 500.0, 410.0]), cell(10_000, large)],
            }],
            machine: Machine {
                processors: 2,
                model: "A processor".into(),
                kernel: "6.1".into(),
                load_average: "0.10 0.20 0.30".into(),
                disk: "ext4".into(),
            },
            gates: vec![Gate { busy: 0.5, quiet: false }],
        }
    }

    #[test]
    fn the_table_compares_with_the_smallest_repetition_by_repetition() {
        let text = table(&measured(&[600.0, 1_000.0, 615.0]));
        for part in [
            "410     400     500",
            "1.50 (1.50 to 2.00)",
            "kept; the largest median is 1.50, 4 segments of 10000 nodes",
            "1 of 3 repetitions began on a machine that was not quiet",
        ] {
            assert!(text.contains(part), "{part:?} is not in\n{text}");
        }
    }

    #[test]
    fn a_broken_law_is_said() {
        let broken = measured(&[900.0, 1_100.0, 1_200.0]);
        assert!(table(&broken).contains("BROKEN"), "{}", table(&broken));
        let document: Value = serde_json::from_str(&json(&broken)).unwrap();
        assert_eq!(document["lawKept"], false);
        assert_eq!(document["growth"][1]["times"]["median"], 2.25);
        assert_eq!(document["measured"]["rows"][0]["cells"][1]["event_ns"][1], 1_100.0);
    }
}
