//! What was measured, as text for people and as JSON for programs.

use std::fmt::Write as _;

use serde_json::{Value, json};

use crate::b1::{Measured, Rival, Side};
use crate::machine::surroundings;
use crate::phases::Phase;
use crate::statistics::{Spread, ratios};

/// What a reader must know before comparing anything.
const COMPARABLE: &str = "\
Comparable: the same payload, program, number of nodes and batch size; restart and HTTP health check on both sides; the
  next batch begins only after the one before is healthy; the first failure ends it; every run was checked afterwards
  (payload bytes on each node, program of each process).
Not comparable: ours also packs, uploads and unpacks a whole release, keeps the old one, writes durably (syncs), drains at
  a balancer (here without traffic), and proves by a fresh nonce what every process executes; on failure it would roll
  back. Ansible does none of these: it overwrites one file, does not sync, does not drain, and its success says that its
  tasks returned. Ours needs daemons that run all the time, Ansible none. Local connections spare Ansible its network;
  ssh connections are open from the first run on. Ansible's modules are Python processes on this machine, which on a
  real fleet would run on the nodes: look at the CPU seconds too.";

/// For people.
pub fn table(measured: &Measured) -> String {
    let Measured { nodes, runs, payload, .. } = measured;
    let mut text = format!(
        "B1, one machine: from a command to {nodes} nodes, {} at a time; {payload} new random bytes; {runs} pairs after a warm-up\n\n",
        nodes.div_ceil(crate::ours::SEGMENTS)
    );
    let _ = writeln!(text, "{:<24}{:>30}{:>32}", "", "wall, s: median  min  max", "CPU, s: median  min  max");
    row(&mut text, &measured.ours);
    for rival in &measured.rivals {
        match rival {
            Rival::Measured(side) => row(&mut text, side),
            Rival::Skipped { name, reason } => {
                let _ = writeln!(text, "{name:<24}  skipped: {reason}");
            }
        }
    }
    for side in measured_rivals(measured) {
        let _ = writeln!(text, "\n{} / {}, pair by pair: median (min to max)", side.name, measured.ours.name);
        for (what, ours, theirs) in
            [("wall", &measured.ours.wall_s, &side.wall_s), ("CPU", &measured.ours.cpu_s, &side.cpu_s)]
        {
            if let Some(Spread { median, min, max }) = ratios(ours, theirs) {
                let _ = writeln!(text, "  {what:<6}{median:>7.2}x  ({min:.2}x to {max:.2}x)");
            }
        }
    }
    phases(&mut text, "where our command's time goes, ms: median (min to max)", &measured.command);
    phases(&mut text, "where a node's time goes, ms: median (min to max)", &measured.node);
    text.push('\n');
    text += &surroundings(&measured.machine, &measured.gates, "pair", &measured.versions);
    text.push('\n');
    text + COMPARABLE + "\n"
}

fn row(text: &mut String, side: &Side) {
    let cell = |values: &[f64]| {
        Spread::of(values.iter().copied())
            .map_or_else(String::new, |s| format!("{:>10.2} {:>7.2} {:>7.2}", s.median, s.min, s.max))
    };
    let _ = writeln!(text, "{:<24}{:>30}{:>32}", side.name, cell(&side.wall_s), cell(&side.cpu_s));
}

fn phases(text: &mut String, title: &str, phases: &[Phase]) {
    if phases.is_empty() {
        return;
    }
    let _ = writeln!(text, "\n{title}");
    for Phase { name, ms } in phases {
        let _ = writeln!(text, "  {name:<40}{:>7.0}  ({:.0} to {:.0})", ms.median, ms.min, ms.max);
    }
}

fn measured_rivals(measured: &Measured) -> impl Iterator<Item = &Side> {
    measured.rivals.iter().filter_map(|rival| match rival {
        Rival::Measured(side) => Some(side),
        Rival::Skipped { .. } => None,
    })
}

/// For programs: every sample, and the ratios that the table shows.
pub fn json(measured: &Measured) -> String {
    let ratios: Vec<Value> = measured_rivals(measured)
        .map(|side| {
            json!({
                "peer": side.name,
                "wall": ratios(&measured.ours.wall_s, &side.wall_s),
                "cpu": ratios(&measured.ours.cpu_s, &side.cpu_s),
            })
        })
        .collect();
    let document = json!({ "benchmark": "b1", "ratios": ratios, "measured": measured });
    serde_json::to_string_pretty(&document).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use crate::machine::{Gate, Machine};

    fn measured() -> Measured {
        let side =
            |name: &str, wall: &[f64], cpu: &[f64]| Side { name: name.into(), wall_s: wall.into(), cpu_s: cpu.into() };
        Measured {
            nodes: 8,
            runs: 2,
            payload: 5_400_000,
            ours: side("fleetctl deploy", &[2.0, 4.0], &[1.0, 1.0]),
            rivals: vec![
                Rival::Measured(side("ansible-core, local", &[20.0, 10.0], &[8.0, 9.0])),
                Rival::Skipped { name: "ansible-core, ssh".into(), reason: "no sshd".into() },
            ],
            command: Vec::new(),
            node: vec![Phase { name: "fetch".into(), ms: Spread { median: 12.0, min: 10.0, max: 20.0 } }],
            machine: Machine {
                processors: 2,
                model: "A processor".into(),
                kernel: "6.1".into(),
                load_average: "0.10 0.20 0.30".into(),
                disk: "ext4".into(),
            },
            gates: vec![Gate { busy: 0.02, quiet: true }, Gate { busy: 0.5, quiet: false }],
            versions: vec!["fleetctl 0.1.0".into()],
        }
    }

    #[test]
    fn the_table_shows_ratios_noise_and_what_was_skipped() {
        let text = table(&measured());
        for part in [
            "8 nodes, 2 at a time",
            "3.00    2.00    4.00",
            "ansible-core, ssh         skipped: no sshd",
            "ansible-core, local / fleetctl deploy, pair by pair",
            "  wall     6.25x  (2.50x to 10.00x)",
            "  CPU      8.50x  (8.00x to 9.00x)",
            "load average at the start 0.10 0.20 0.30; 1 of 2 pairs began on a machine that was not quiet",
            "does not sync",
        ] {
            assert!(text.contains(part), "{part:?} is not in\n{text}");
        }
        assert!(!text.contains("our command's time"), "nothing is said about what was not seen");
    }

    #[test]
    fn the_json_holds_every_sample() {
        let document: Value = serde_json::from_str(&json(&measured())).unwrap();
        assert_eq!(document["ratios"][0]["wall"]["median"], 6.25);
        assert_eq!(document["measured"]["ours"]["wall_s"][1], 4.0);
        assert_eq!(document["measured"]["rivals"][1]["skipped"]["reason"], "no sshd");
    }
}
