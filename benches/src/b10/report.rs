//! Benchmark B10 as text for people and as JSON for programs.

use std::fmt::Write as _;

use serde_json::json;

use super::{FEW, Idle, Measured, WATCHED};
use crate::machine::surroundings;
use crate::node::SETTINGS;

/// What a reader must know before comparing anything.
const COMPARABLE: &str = "\
Both at the same time on the same machine, connected to a controller or master on loopback, and nobody asks anything of
  them. The agent watches its release and its processes meanwhile and proves them to the controller round by round; the
  minion does not look at anything. Memory of several processes is summed up: pages they share count in RSS once for each,
  in PSS once. A wake-up is a voluntary context switch of a thread that still lives at the end.";
/// What is published of the peer, where it was not measured.
const PUBLISHED: &str = "by the description of B10: RSS 116 MiB, PSS 72 to 78 MiB, 0.51 % of a core";
/// What is wanted: MiB of RSS, and per cent of a core.
const GOAL: (f64, f64) = (12.0, 0.02);
const MUST: (f64, f64) = (20.0, 0.2);
/// The most that a watched file may cost, in bytes.
const FILE_BYTES: f64 = 150.0;

/// For people.
pub fn table(measured: &Measured) -> String {
    let Measured { seconds, ours, .. } = measured;
    let mut text = format!(
        "{}B10, one machine: idle for {seconds:.0} s, {} files of {} MiB watched\n\n{:<22}{:>9}{:>9}{:>9}{:>10}{:>10}{:>12}{:>14}\n",
        if measured.rehearsal { "A REHEARSAL WITH A DEBUG BUILD: NO FIGURES\n\n" } else { "" },
        WATCHED.files,
        WATCHED.bytes >> 20,
        "",
        "RSS MiB",
        "PSS MiB",
        "anon MiB",
        "CPU s",
        "% core",
        "wake-ups/s",
        "bytes/h",
    );
    row(&mut text, ours, *seconds);
    match &measured.peer {
        Ok(peer) => {
            row(&mut text, peer, *seconds);
            let _ = writeln!(
                text,
                "\n{} / {}: RSS {:.1}x, PSS {:.1}x, CPU {:.1}x, wake-ups {:.1}x",
                peer.name,
                ours.name,
                ratio(peer.memory.rss_kib as f64, ours.memory.rss_kib as f64),
                ratio(peer.memory.pss_kib as f64, ours.memory.pss_kib as f64),
                ratio(peer.cpu_s, ours.cpu_s),
                ratio(peer.wake_ups as f64, ours.wake_ups as f64),
            );
        }
        Err(why) => _ = writeln!(text, "salt-minion             skipped: {why}; {PUBLISHED}"),
    }
    let (rss, share) = (mib(ours.memory.rss_kib), ours.cpu_s / seconds * 100.0);
    let _ = writeln!(
        text,
        "\ngoal (RSS {} MiB, {} % of a core): {}; must ({} MiB, {} %): {}",
        GOAL.0,
        GOAL.1,
        verdict(rss, share, GOAL),
        MUST.0,
        MUST.1,
        verdict(rss, share, MUST)
    );
    let more = ours.memory.anonymous_kib.saturating_sub(measured.with_few.anonymous_kib) * 1024;
    let each = more as f64 / f64::from(WATCHED.files - FEW.files);
    let _ = writeln!(
        text,
        "a watched file: {each:.0} bytes, its line of the manifest included (anonymous memory with {} files {:.1} MiB, with {} \
         {:.1}); goal {FILE_BYTES:.0}",
        FEW.files,
        mib(measured.with_few.anonymous_kib),
        WATCHED.files,
        mib(ours.memory.anonymous_kib)
    );
    if let (Some(settled), Some(first), [_, .., _]) = (measured.settled, measured.growth.first(), &measured.growth[..])
    {
        let most = measured.growth.iter().map(|memory| memory.rss_kib).max().unwrap_or(0);
        let at = |nth: usize| measured.growth.get(nth).map_or(0.0, |memory| mib(memory.rss_kib));
        let count = measured.growth.len() - 1;
        let _ = writeln!(
            text,
            "RSS over {count} deployments, MiB: {:.1} before, {:.1} after one, {:.1} after {}, {:.1} after {count}, {:.1} when \
             settled ({:+.0} % of before, {:+.0} % of after one); the most {:.1}",
            mib(first.rss_kib),
            at(1),
            at(count / 2),
            count / 2,
            at(count),
            mib(settled.rss_kib),
            (ratio(settled.rss_kib as f64, first.rss_kib as f64) - 1.0) * 100.0,
            (ratio(mib(settled.rss_kib), at(1)) - 1.0) * 100.0,
            mib(most)
        );
    }
    let _ = writeln!(text, "settings: {SETTINGS}; the agent's line passes a counter on loopback\n");
    text + &surroundings(&measured.machine, &[measured.gate], "window", &measured.versions) + "\n" + COMPARABLE + "\n"
}

fn row(text: &mut String, idle: &Idle, seconds: f64) {
    let hourly = idle.bytes.map(|(up, down)| (up + down) as f64 / seconds * 3_600.0);
    let _ = writeln!(
        text,
        "{:<22}{:>9.1}{:>9.1}{:>9.1}{:>10.3}{:>10.3}{:>12.1}{:>14}",
        idle.name,
        mib(idle.memory.rss_kib),
        mib(idle.memory.pss_kib),
        mib(idle.memory.anonymous_kib),
        idle.cpu_s,
        idle.cpu_s / seconds * 100.0,
        idle.wake_ups as f64 / seconds,
        hourly.map_or_else(|| "not counted".to_owned(), |bytes| format!("{bytes:.0}")),
    );
}

fn mib(kib: u64) -> f64 {
    kib as f64 / 1024.0
}

fn ratio(peer: f64, ours: f64) -> f64 {
    if ours > 0.0 { peer / ours } else { f64::NAN }
}

fn verdict(rss: f64, share: f64, wanted: (f64, f64)) -> &'static str {
    match (rss <= wanted.0, share <= wanted.1) {
        (true, true) => "reached",
        (true, false) => "NOT reached (CPU)",
        (false, true) => "NOT reached (RSS)",
        (false, false) => "NOT reached (RSS, CPU)",
    }
}

/// For programs.
pub fn json(measured: &Measured) -> String {
    let document = json!({
        "benchmark": "b10",
        "watched": { "files": WATCHED.files, "bytes": WATCHED.bytes },
        "measured": measured,
    });
    serde_json::to_string_pretty(&document).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use crate::machine::{Gate, Machine};
    use crate::process_cost::Memory;

    fn measured() -> Measured {
        let memory = |rss_kib| Memory { rss_kib, pss_kib: rss_kib / 2, anonymous_kib: rss_kib / 4 };
        let idle = |name: &str, rss_kib, cpu_s, bytes| Idle {
            name: name.into(),
            processes: 1,
            memory: memory(rss_kib),
            cpu_s,
            wake_ups: 100,
            bytes,
        };
        Measured {
            rehearsal: false,
            seconds: 100.0,
            ours: idle("fleet-agent", 16 << 10, 0.01, Some((600, 400))),
            with_few: memory(8 << 10),
            peer: Ok(idle("salt-minion", 116 << 10, 0.5, None)),
            growth: vec![memory(16 << 10), memory(18 << 10), memory(20 << 10)],
            settled: Some(memory(17 << 10)),
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
    fn the_table_says_how_far_it_is_from_what_is_wanted() {
        let text = table(&measured());
        for part in [
            "idle for 100 s, 20000 files",
            "36000",
            "RSS 7.2x",
            "CPU 50.0x",
            "0.02 % of a core): NOT reached (RSS); must (20 MiB, 0.2 %): reached",
            "16.0 before, 18.0 after one, 18.0 after 1, 20.0 after 2, 17.0 when settled (+6 % of before, -6 % of after one)",
        ] {
            assert!(text.contains(part), "{part:?} is not in\n{text}");
        }
        let without = Measured { peer: Err("no python3".into()), growth: Vec::new(), settled: None, ..measured() };
        let text = table(&without);
        assert!(
            text.contains("skipped: no python3; by the description") && !text.contains("deployments, MiB"),
            "{text}"
        );
    }
}
