//! Sides that take turns: each once in a round, round after round, and the same table for all such measurements.

use std::fmt::Write as _;

use serde::Serialize;

use crate::cost::Cost;
use crate::machine::{Gate, wait_for_quiet};
use crate::statistics::{Spread, ratios};

/// One side and how it does its work once, verified.
pub struct Side<'a> {
    /// Who.
    pub name: String,
    /// Its work, or why it cannot be had.
    pub work: Result<Work<'a>, String>,
}

/// The work of one round.
pub type Work<'a> = Box<dyn FnMut() -> anyhow::Result<Cost> + 'a>;

/// What a side's rounds cost.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Rounds {
    /// Who.
    pub name: String,
    /// Round by round, or why there are none.
    pub costs: Result<Vec<Cost>, String>,
}

/// One round that does not count, then so many that do.
///
/// # Errors
/// A side fails, or this program is asked to stop.
pub fn take_turns(mut sides: Vec<Side<'_>>, runs: u16, say: &dyn Fn(&str)) -> anyhow::Result<(Vec<Rounds>, Vec<Gate>)> {
    let costs = |side: &Side<'_>| side.work.as_ref().map(|_| Vec::new()).map_err(Clone::clone);
    let mut rounds: Vec<Rounds> =
        sides.iter().map(|side| Rounds { name: side.name.clone(), costs: costs(side) }).collect();
    let mut gates = Vec::new();
    for round in 0..=runs {
        let gate = wait_for_quiet()?;
        let mut line = String::new();
        for (side, kept) in sides.iter_mut().zip(&mut rounds) {
            let (Ok(work), Ok(costs)) = (&mut side.work, &mut kept.costs) else { continue };
            let cost = work()?;
            let _ = write!(line, "{}{} {:.3} s", if line.is_empty() { "" } else { ", " }, side.name, cost.wall_s);
            if round > 0 {
                costs.push(cost);
            }
        }
        if round > 0 {
            gates.push(gate);
            say(&format!("round {round} of {runs}: {line}"));
        } else {
            say(&format!("warm-up: {line}"));
        }
    }
    Ok((rounds, gates))
}

/// Every side's median with its range, and how many times that of `ours`, the first, it is, pair by pair.
pub fn table(rounds: &[Rounds]) -> String {
    let mut text = format!(
        "{:<38}{:>26}{:>22}{:>10}{:>24}{:>9}\n",
        "", "wall, ms: median min max", "CPU, ms: median max", "RSS MiB", "/ first: wall (range)", "CPU"
    );
    let first: Vec<Cost> = rounds.first().and_then(|side| side.costs.clone().ok()).unwrap_or_default();
    let walls = |costs: &[Cost]| costs.iter().map(|cost| cost.wall_s).collect::<Vec<_>>();
    let cpus = |costs: &[Cost]| costs.iter().map(|cost| cost.cpu_s).collect::<Vec<_>>();
    for (number, Rounds { name, costs }) in rounds.iter().enumerate() {
        let costs = match costs {
            Ok(costs) => costs,
            Err(why) => {
                let _ = writeln!(text, "{name:<38}  skipped: {why}");
                continue;
            }
        };
        let (Some(wall), Some(cpu)) = (Spread::of(walls(costs)), Spread::of(cpus(costs))) else { continue };
        let rss = Spread::of(costs.iter().filter_map(|cost| cost.rss_kib.map(|kib| kib as f64 / 1024.0)));
        let rss = rss.map_or_else(|| "-".to_owned(), |rss| format!("{:.1}", rss.max));
        let _ = write!(
            text,
            "{name:<38}{:>10.1} {:>7.1} {:>7.1}{:>14.1} {:>7.1}{rss:>10}",
            wall.median * 1e3,
            wall.min * 1e3,
            wall.max * 1e3,
            cpu.median * 1e3,
            cpu.max * 1e3
        );
        if number > 0
            && let (Some(wall), Some(cpu)) =
                (ratios(&walls(&first), &walls(costs)), ratios(&cpus(&first), &cpus(costs)))
        {
            let range = format!("{:.2}x ({:.2} to {:.2})", wall.median, wall.min, wall.max);
            let _ = write!(text, "{range:>24}{:>8.2}x", cpu.median);
        }
        text.push('\n');
    }
    text
}

/// The median of pairwise ratios of wall clocks: side `name` over the first.
pub fn ratio_to_first(rounds: &[Rounds], name: &str) -> Option<f64> {
    let walls = |side: &Rounds| Some(side.costs.as_ref().ok()?.iter().map(|cost| cost.wall_s).collect::<Vec<_>>());
    let other = rounds.iter().find(|side| side.name == name)?;
    Some(ratios(&walls(rounds.first()?)?, &walls(other)?)?.median)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn ratios_are_to_the_first_side() {
        let cost = |wall_s, cpu_s| Cost { wall_s, cpu_s, rss_kib: Some(2_048) };
        let rounds = [
            Rounds { name: "ours".into(), costs: Ok(vec![cost(0.1, 0.2), cost(0.2, 0.2)]) },
            Rounds { name: "peer".into(), costs: Ok(vec![cost(0.4, 0.1), cost(1.0, 0.1)]) },
            Rounds { name: "absent".into(), costs: Err("not installed".into()) },
        ];
        assert_eq!(ratio_to_first(&rounds, "peer"), Some(4.5));
        assert_eq!(ratio_to_first(&rounds, "absent"), None);
        let text = table(&rounds);
        for part in ["4.50x (4.00 to 5.00)", "0.50x", "skipped: not installed", "150.0", "2.0"] {
            assert!(text.contains(part), "{part:?} is not in\n{text}");
        }
    }
}
