//! Benchmark B9 as text for people and as JSON for programs.

use std::fmt::Write as _;

use serde_json::json;

use super::rival::NAME;
use super::{Kind, Measured, Sample};
use crate::machine::surroundings;
use crate::node::SETTINGS;
use crate::statistics::{Spread, quantile, ratios};

/// What a reader must know before comparing anything.
const COMPARABLE: &str = "\
Both: the same kinds of tampering, in turn, each with a tree of its own, from just before the decisive system call.
Ours ends when the controller's ledger has opened the finding: the node has looked at files and processes, the controller
  has asked with a fresh nonce, compared the answer with the manifest, and made the finding durable (first figure: the
  ledger's own clock, in whole milliseconds, so up to 1 ms early; second: on its disk, as this program sees it there).
The rival's ends when an HTTP server has heard of an event. It does not know what should be, tells of every undoing as well, and
  sees no process and no write through a mapping.
Not measured, as they find nothing by default before their period is over: AIDE (Debian: once a day by cron), Wazuh's
  file integrity (12 h), osquery's file and process queries (1 h in the usual packs): half of that is their median.";

/// What is wanted, in milliseconds.
const GOAL_MS: f64 = 50.0;
const MUST_MS: f64 = 1_000.0;

/// One column of figures.
struct Column {
    seen: Vec<f64>,
    missed: usize,
}

impl Column {
    fn of<'a>(samples: impl Iterator<Item = &'a Sample>, figure: fn(&Sample) -> Option<f64>) -> Self {
        let (seen, missed): (Vec<_>, Vec<_>) = samples.map(figure).partition(Option::is_some);
        Self { seen: seen.into_iter().flatten().collect(), missed: missed.len() }
    }

    fn cells(&self) -> String {
        match Spread::of(self.seen.iter().copied()) {
            Some(Spread { median, max, .. }) => {
                let p99 = quantile(&self.seen, 0.99).unwrap_or(max);
                format!("{median:>9.1} {p99:>9.1} {max:>9.1} {:>7}", self.missed)
            }
            None => format!("{:>9} {:>9} {:>9} {:>7}", "-", "-", "-", self.missed),
        }
    }
}

/// For people.
pub fn table(measured: &Measured) -> String {
    let Measured { samples, files, seed, .. } = measured;
    let mut text = format!(
        "{}B9, one machine: from tampering with a node to the controller's ledger; {} tamperings of {} kinds (seed {seed}), a \
         release of {files} files\n\n{:<34}{:>9} {:>9} {:>9} {:>7}\n",
        if measured.rehearsal { "A REHEARSAL WITH A DEBUG BUILD: NO FIGURES\n\n" } else { "" },
        samples.len(),
        kinds(samples).len(),
        "all kinds, ms",
        "median",
        "p99",
        "max",
        "missed"
    );
    let ledger = Column::of(samples.iter(), |sample| sample.ledger_ms);
    let disk = Column::of(samples.iter(), |sample| sample.disk_ms);
    let _ = writeln!(text, "{:<34}{}", "fleet: opened in the ledger", ledger.cells());
    let _ = writeln!(text, "{:<34}{}", "fleet: seen on its disk", disk.cells());
    match &measured.rival_skipped {
        Some(why) => _ = writeln!(text, "{NAME:<34}  skipped: {why}"),
        None => {
            let rival = Column::of(samples.iter(), |sample| sample.rival_ms);
            let _ = writeln!(text, "{NAME:<34}{}", rival.cells());
            let pairs: Vec<_> = samples.iter().filter_map(|s| Some((s.disk_ms?, s.rival_ms?))).collect();
            let (ours, theirs): (Vec<f64>, Vec<f64>) = pairs.into_iter().unzip();
            if let Some(Spread { median, min, max }) = ratios(&ours, &theirs) {
                let _ = writeln!(
                    text,
                    "\n{NAME} / fleet on disk, where both saw it: median {median:.3}x ({min:.3}x to {max:.3}x)"
                );
            }
        }
    }
    let _ = writeln!(
        text,
        "\nfalse alarms: {}\ngoal (median under {GOAL_MS} ms, p99 under 1 s, 0 missed, 0 false): {}; must (median under 1 s): {}",
        measured.false_alarms.len(),
        verdict(measured, &ledger, GOAL_MS),
        verdict(measured, &ledger, MUST_MS)
    );
    for alarm in measured.false_alarms.iter().take(10) {
        let _ = writeln!(text, "  {alarm}");
    }
    let _ = writeln!(
        text,
        "\n{:<34}{:>9} {:>9} {:>9} {:>7}{:>16}",
        "ms by kind", "median", "p99", "max", "missed", "rival median"
    );
    for kind in kinds(samples) {
        let of_kind = || samples.iter().filter(|sample| sample.kind == kind);
        let column = Column::of(of_kind(), |sample| sample.ledger_ms);
        let rival = Spread::of(of_kind().filter_map(|sample| sample.rival_ms));
        let rival = match rival {
            Some(rival) => format!("{:.1}", rival.median),
            None if measured.rival_skipped.is_some() => String::new(),
            None => "blind".to_owned(),
        };
        let name = format!("  {} ({})", kind.name(), of_kind().count());
        let _ = writeln!(text, "{name:<34}{}{rival:>16}", column.cells());
    }
    let share = |cpu: f64| cpu / measured.wall_s * 100.0;
    let _ = writeln!(
        text,
        "\nCPU while it went on ({:.0} s): agent {:.2} s, {:.2} % of a core; controller {:.2} s, {:.2} %\nsettings: {SETTINGS}\n",
        measured.wall_s,
        measured.agent_cpu_s,
        share(measured.agent_cpu_s),
        measured.controller_cpu_s,
        share(measured.controller_cpu_s)
    );
    text + &surroundings(&measured.machine, &[measured.gate], "run", &measured.versions) + "\n" + COMPARABLE + "\n"
}

fn kinds(samples: &[Sample]) -> std::collections::BTreeSet<Kind> {
    samples.iter().map(|sample| sample.kind).collect()
}

fn verdict(measured: &Measured, ledger: &Column, median_ms: f64) -> &'static str {
    let median = Spread::of(ledger.seen.iter().copied()).is_some_and(|spread| spread.median < median_ms);
    // The tail belongs to the goal.
    let tail = median_ms > GOAL_MS || quantile(&ledger.seen, 0.99).is_some_and(|p99| p99 < 1_000.0);
    if median && tail && ledger.missed == 0 && measured.false_alarms.is_empty() { "reached" } else { "NOT reached" }
}

/// For programs: every sample, and the figures that the table shows.
pub fn json(measured: &Measured) -> String {
    let column = |figure: fn(&Sample) -> Option<f64>| {
        let column = Column::of(measured.samples.iter(), figure);
        let spread = Spread::of(column.seen.iter().copied());
        json!({ "spread": spread, "p99": quantile(&column.seen, 0.99), "missed": column.missed })
    };
    let document = json!({
        "benchmark": "b9",
        "ledgerMs": column(|sample| sample.ledger_ms),
        "diskMs": column(|sample| sample.disk_ms),
        "rivalMs": column(|sample| sample.rival_ms),
        "measured": measured,
    });
    serde_json::to_string_pretty(&document).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use crate::machine::{Gate, Machine};

    fn measured() -> Measured {
        let sample = |kind, ledger_ms, rival_ms| Sample { kind, ledger_ms, disk_ms: ledger_ms, rival_ms };
        Measured {
            rehearsal: false,
            files: 10,
            seed: 1,
            samples: vec![
                sample(Kind::Write, Some(20.0), Some(10.0)),
                sample(Kind::Write, Some(30.0), Some(15.0)),
                sample(Kind::Kill, Some(40.0), None),
            ],
            false_alarms: Vec::new(),
            rival_skipped: None,
            agent_cpu_s: 1.0,
            controller_cpu_s: 2.0,
            wall_s: 100.0,
            machine: Machine {
                processors: 2,
                model: "A processor".into(),
                kernel: "6.1".into(),
                load_average: "0.10 0.20 0.30".into(),
                disk: "ext4".into(),
            },
            gate: Gate { busy: 0.02, quiet: true },
            versions: vec!["fleet-agent 0.1.0".into()],
        }
    }

    #[test]
    fn the_table_says_what_was_missed_and_whether_it_is_enough() {
        let text = table(&measured());
        for part in ["30.0", "median 0.500x", "agent 1.00 s, 1.00 %", "0 false): reached", "(1)", "blind", "once a day"]
        {
            assert!(text.contains(part), "{part:?} is not in\n{text}");
        }
        let mut bad = measured();
        bad.samples[0].ledger_ms = None;
        assert_eq!(table(&bad).matches("NOT reached").count(), 2, "one that is missed spoils everything");
        let mut alarmed = measured();
        alarmed.false_alarms.push("file: x".into());
        assert_eq!(table(&alarmed).matches("NOT reached").count(), 2, "a false alarm as well");
        let mut slow = measured();
        slow.samples.iter_mut().for_each(|sample| sample.ledger_ms = Some(400.0));
        assert_eq!(table(&slow).matches("NOT reached").count(), 1);
    }

    #[test]
    fn the_json_holds_every_sample() {
        let document: serde_json::Value = serde_json::from_str(&json(&measured())).unwrap();
        assert_eq!(document["ledgerMs"]["spread"]["median"], 30.0);
        assert_eq!(document["measured"]["samples"][2]["kind"], "kill");
        assert_eq!(document["rivalMs"]["missed"], 1);
    }
}
