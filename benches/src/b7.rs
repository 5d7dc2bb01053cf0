//! Benchmark B7: full proof. Every file of a release of 20,000 files and a gibibyte is read and compared with its
//! manifest, page cache warm; and the processes of two services.

use std::fmt::Write as _;
use std::fs::{self, File};
use std::os::unix::fs::FileExt as _;
use std::path::Path;
use std::process::Command;

use anyhow::{Context as _, bail};
use serde::Serialize;
use serde_json::json;

use crate::aide::{Aide, Compare};
use crate::cost::{self, Cost};
use crate::gibibyte::Gibibyte;
use crate::looking::{At, Looked, Looker, most_rss_kib};
use crate::machine::{Gate, Machine, surroundings};
use crate::sides::{Rounds, Side, ratio_to_first, table as table_of, take_turns};
use crate::statistics::Spread;
use crate::workplace::{Earnest, Workplace};
use crate::{floor, process};

const FLEET: &str = "fleet-agent's look, nothing known";
const FLOOR_TWO: &str = "floor: read + SHA-256, 2 threads";
const FLOOR_ONE: &str = "floor: read + SHA-256, 1 thread";
const B3SUM: &str = "b3sum";
const SHA256SUM: &str = "sha256sum, xargs -P2";
const AIDE: &str = "aide --check, num_workers=2";

const COMPARABLE: &str = "\
All: the same files, page cache warm, each side once a round, whole processes from start to end (the floors: threads of
  this program). Each run was verified: as many files as there are, nothing that differs; and a flipped bit is seen by ours.
Not comparable: the agent also compares mode, owner, links and what is missing or extra, parses a manifest of 20,000 lines,
  and looks at the service's processes; b3sum and sha256sum compare nothing; AIDE compares with a database, which it
  reads. b3sum hashes with BLAKE3 (a floor of ours with BLAKE3 is not measured: the manifest's digests are SHA-256).";

/// All that was measured.
#[derive(Debug, Clone, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Measured {
    /// Whether this was a rehearsal.
    pub rehearsal: bool,
    /// Files and bytes.
    pub files: usize,
    /// Bytes in them.
    pub bytes: u64,
    /// The sides.
    pub rounds: Vec<Rounds>,
    /// The look alone, without the start of the process and the parsing of the manifest, in seconds.
    pub look_s: Vec<f64>,
    /// The first look at the processes of two services, and the second, in milliseconds.
    pub processes_ms: [Vec<f64>; 2],
    /// The most memory this program had: what a peer needs of less cannot be told from it, in KiB.
    pub own_rss_kib: u64,
    /// The machine at the start.
    pub machine: Machine,
    /// Whether it was quiet before each round.
    pub gates: Vec<Gate>,
    /// What ran.
    pub versions: Vec<String>,
}

/// Measures. `say` is told what goes on.
///
/// # Errors
/// Our side fails, a run is void, a peer that is there fails, or this program is asked to stop.
pub fn run(runs: u16, earnest: Earnest, say: &dyn Fn(&str)) -> anyhow::Result<Measured> {
    let place = Workplace::make(earnest, say)?;
    let machine = Machine::look(&place.dir);
    let large = Gibibyte::make(&place, say)?;
    let (files, dir) = (large.made.files.len(), place.dir.as_path());
    let (list, plan) = (dir.join("files0"), dir.join("plan.json"));
    large.list(&list)?;
    // It is asked nothing here: with it the plan is written.
    drop(Looker::start(&plan, &large.services)?);
    sees_a_flipped_bit(&large, &plan)?;
    say("taking stock with aide");
    let aide = Aide::init(&large.tree, &dir.join("aide"), Compare::Contents).map_err(|error| format!("{error:#}"));

    let mut look_s = Vec::new();
    let ours = || -> anyhow::Result<Cost> {
        let log = dir.join("look.json");
        let cost = cost::of(&mut Looker::once(&plan)?, &log)?;
        let looked: Looked = serde_json::from_slice(&fs::read(&log)?)?;
        if looked.deviations != 0 || looked.processes == 0 || looked.read < large.made.bytes {
            bail!("void: {looked:?}");
        }
        look_s.push(looked.wall_s);
        Ok(Cost { rss_kib: Some(looked.most_rss_kib), ..cost })
    };
    let hash = |threads: usize| -> anyhow::Result<Cost> {
        let (_, bytes, cost) = floor::hash(&large.tree, &large.made.files, threads)?;
        if bytes == large.made.bytes { Ok(cost) } else { bail!("void: {bytes} bytes were hashed") }
    };
    let summing = |name: &str, options: &[&str]| {
        let found = process::find(name).with_context(|| format!("no {name} (Debian: {name})"));
        let options: Vec<String> = options.iter().map(|word| (*word).to_owned()).collect();
        let (list, log, name) = (list.clone(), dir.join(format!("{name}.log")), name.to_owned());
        found.map_err(|error| format!("{error:#}")).map(|_| {
            let work = move || sum(&options, &list, &name, &log, files);
            Box::new(work) as crate::sides::Work<'_>
        })
    };
    let sides = vec![
        Side { name: FLEET.into(), work: Ok(Box::new(ours)) },
        Side { name: FLOOR_TWO.into(), work: Ok(Box::new(|| hash(2))) },
        Side { name: FLOOR_ONE.into(), work: Ok(Box::new(|| hash(1))) },
        Side { name: B3SUM.into(), work: summing("b3sum", &[]) },
        Side { name: SHA256SUM.into(), work: summing("sha256sum", &["-P2", "-n5000"]) },
        Side {
            name: AIDE.into(),
            work: aide.map(|aide| Box::new(move || aide.check(files)) as crate::sides::Work<'_>),
        },
    ];
    let (rounds, gates) = take_turns(sides, runs, say)?;
    // The warm-up's.
    look_s.remove(0);
    let mut processes_ms = [Vec::new(), Vec::new()];
    for _ in 0..runs {
        let mut looker = Looker::start(&plan, &large.services)?;
        for kept in &mut processes_ms {
            let looks = [looker.look(0, At::Machine)?, looker.look(1, At::Machine)?];
            if looks.iter().any(|look| look.processes == 0) {
                bail!("void: the services' processes were not seen: {looks:?}");
            }
            kept.push(looks.iter().map(|look| look.wall_s * 1e3).sum());
        }
    }
    Ok(Measured {
        rehearsal: earnest == Earnest::Rehearsal,
        files,
        bytes: large.made.bytes,
        rounds,
        look_s,
        processes_ms,
        own_rss_kib: most_rss_kib()?,
        machine,
        gates,
        versions: versions(&place),
    })
}

/// A look that would not see one bit in the middle of the largest tree would be fast for nothing.
fn sees_a_flipped_bit(large: &Gibibyte, plan: &Path) -> anyhow::Result<()> {
    let path = large.tree.join(&large.made.files[large.made.files.len() / 2]);
    let file = File::options().read(true).write(true).open(path)?;
    let mut byte = [0];
    file.read_exact_at(&mut byte, 0)?;
    file.write_all_at(&[byte[0] ^ 1], 0)?;
    let looked = Looker::start(plan, &large.services)?.look(0, At::All)?;
    file.write_all_at(&byte, 0)?;
    if looked.deviations != 1 {
        bail!("void: one bit was flipped, and {} files are said to differ", looked.deviations);
    }
    Ok(())
}

fn sum(options: &[String], list: &Path, program: &str, log: &Path, files: usize) -> anyhow::Result<Cost> {
    let mut command = Command::new("xargs");
    command.args(["-0", "-a"]).arg(list).args(options).arg(program);
    let cost = cost::of(&mut command, log)?;
    let lines = fs::read_to_string(log)?.lines().count();
    if lines == files { Ok(cost) } else { bail!("void: {program} has summed {lines} of {files} files") }
}

pub(crate) fn versions(place: &Workplace) -> Vec<String> {
    let ours = place.programs.join("fleet-agent");
    let programs = [ours.as_path(), "b3sum".as_ref(), "sha256sum".as_ref(), "aide".as_ref(), "rsync".as_ref()];
    programs.into_iter().filter_map(|program| process::first_line(Command::new(program).arg("--version"))).collect()
}

/// For people.
pub fn table(measured: &Measured) -> String {
    let Measured { files, bytes, rounds, gates, .. } = measured;
    let mut text = format!(
        "{}B7, one machine: full proof of {files} files, {bytes} bytes, page cache warm; {} rounds after a warm-up\n\n{}",
        if measured.rehearsal { "A REHEARSAL WITH A DEBUG BUILD: NO FIGURES\n\n" } else { "" },
        gates.len(),
        table_of(rounds)
    );
    let line = |text: &mut String, what: &str, values: &[f64]| {
        if let Some(Spread { median, min, max }) = Spread::of(values.iter().copied()) {
            let _ = writeln!(text, "{what}: {median:.1} ms ({min:.1} to {max:.1})");
        }
    };
    text.push('\n');
    line(&mut text, "the look alone", &measured.look_s.iter().map(|s| s * 1e3).collect::<Vec<_>>());
    line(&mut text, "all processes of the machine, for two services, nothing known", &measured.processes_ms[0]);
    line(&mut text, "all processes of the machine, for two services, again", &measured.processes_ms[1]);
    let _ = writeln!(
        text,
        "a peer's RSS of up to {:.1} MiB cannot be told from this program's own",
        measured.own_rss_kib as f64 / 1024.0
    );
    let floor = ratio_to_first(rounds, FLOOR_TWO).map(|ratio| 1.0 / ratio);
    let (b3sum, aide) = (ratio_to_first(rounds, B3SUM), ratio_to_first(rounds, AIDE));
    let rss = rounds.first().and_then(|ours| ours.costs.as_ref().ok()?.iter().filter_map(|cost| cost.rss_kib).max());
    let rss = rss.map_or(f64::NAN, |kib| kib as f64 / 1024.0);
    let shown = |ratio: Option<f64>| ratio.map_or_else(|| "not measured".to_owned(), |ratio| format!("{ratio:.2}x"));
    let said = |is: Option<bool>| match is {
        Some(true) => "reached",
        Some(false) => "NOT reached",
        None => "not measured",
    };
    let both = |one: Option<bool>, other: Option<bool>| Some(one? && other? && rss <= 32.0);
    let goal = both(floor.map(|ratio| ratio <= 1.2), aide.map(|ratio| ratio >= 15.0));
    let must = both(b3sum.map(|ratio| ratio >= 1.0), aide.map(|ratio| ratio >= 8.0));
    let _ = writeln!(
        text,
        "fleet / floor with 2 threads {}; b3sum / fleet {}; aide / fleet {}; RSS {rss:.1} MiB\n\
         goal (floor <= 1.2x, aide >= 15x, RSS <= 32 MiB): {}; must (b3sum >= 1x, aide >= 8x, RSS <= 32 MiB): {}\n",
        shown(floor),
        shown(b3sum),
        shown(aide),
        said(goal),
        said(must)
    );
    text + &surroundings(&measured.machine, gates, "round", &measured.versions) + "\n" + COMPARABLE + "\n"
}

/// For programs.
pub fn json(measured: &Measured) -> String {
    serde_json::to_string_pretty(&json!({ "benchmark": "b7", "measured": measured })).unwrap_or_default()
}
