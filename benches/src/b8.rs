//! Benchmark B8: quiet sweep. The same tree as B7's, known and unchanged, is looked at again: what looks as it did when it
//! was read is not read.

use std::fmt::Write as _;
use std::fs::{self, File};
use std::os::unix::fs::FileExt as _;
use std::path::Path;
use std::process::Command;
use std::time::Duration;

use anyhow::{Context as _, bail};
use serde::Serialize;
use serde_json::json;

use crate::aide::{Aide, Compare};
use crate::b7::versions;
use crate::cost::{self, Cost};
use crate::floor;
use crate::gibibyte::Gibibyte;
use crate::looking::{At, Looker};
use crate::machine::{Gate, Machine, surroundings};
use crate::process;
use crate::sides::{Rounds, Side, Work, ratio_to_first, table as table_of, take_turns};
use crate::statistics::Spread;
use crate::workplace::{Earnest, Workplace};

const FLEET: &str = "fleet-agent's look, everything known";
const FLOOR_ONE: &str = "floor: fstatat, known list, 1 thread";
const FLOOR_TWO: &str = "floor: fstatat, known list, 2 threads";
const FIND: &str = "find -printf";
const RSYNC: &str = "rsync --dry-run";
const AIDE: &str = "aide --check, no hashes, 2 workers";

/// Copying a gibibyte.
const COPY_LIMIT: Duration = Duration::from_secs(600);
/// Files are trusted when they have not changed for two seconds.
const SETTLED: Duration = Duration::from_secs(3);

const COMPARABLE: &str = "\
All: the same files, unchanged, each side once a round. Ours is a look by a process that lives and knows what it has read, as
  the agent does: files, and the service's processes; peers are whole programs from start to end; floors are threads of
  this program that know the list and look at nothing but stats.
Each run was verified: nothing differs, and as many files as there are. After the last round one file was overwritten, its
  size and modification time restored: the next look found it. What a look reads is /proc.";

/// All that was measured.
#[derive(Debug, Clone, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Measured {
    /// Whether this was a rehearsal.
    pub rehearsal: bool,
    /// Files.
    pub files: usize,
    /// The sides.
    pub rounds: Vec<Rounds>,
    /// Of our looks: the processes alone, in milliseconds.
    pub processes_ms: Vec<f64>,
    /// Bytes read by a look at everything, and by one at the processes alone.
    pub read: Vec<(u64, u64)>,
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
    let copied = copy(&large.tree, &dir.join("copy"), dir);
    say("taking stock with aide");
    let aide = Aide::init(&large.tree, &dir.join("aide"), Compare::Stats).map_err(|error| format!("{error:#}"));
    std::thread::sleep(SETTLED);
    let mut looker = Looker::start(&dir.join("plan.json"), &large.services)?;
    let first = looker.look(0, At::All)?;
    if first.deviations != 0 || first.read < large.made.bytes {
        bail!("void: the first look {first:?}");
    }

    let (mut processes_ms, mut read) = (Vec::new(), Vec::new());
    let ours = || -> anyhow::Result<Cost> {
        let (processes, all) = (looker.look(0, At::Processes)?, looker.look(0, At::All)?);
        if all.deviations != 0 || all.processes == 0 || all.read >= large.made.bytes / 100 {
            bail!("void: a quiet sweep {all:?}");
        }
        processes_ms.push(processes.wall_s * 1e3);
        read.push((all.read, processes.read));
        Ok(Cost { wall_s: all.wall_s, cpu_s: all.cpu_s, rss_kib: None })
    };
    let stat = |threads: usize| floor::stat(&large.tree, &large.made.files, threads);
    let tree = large.tree.as_path();
    let find = process::find("find").context("no find").map_err(|error| format!("{error:#}")).map(|find| {
        let log = dir.join("find.log");
        let work = move || {
            let mut command = Command::new(&find);
            command.arg(tree).args(["-type", "f", "-printf", "%i %s %T@ %C@\n"]);
            let cost = Cost { rss_kib: None, ..cost::of(&mut command, &log)? };
            let lines = fs::read_to_string(&log)?.lines().count();
            if lines == files { Ok(cost) } else { bail!("void: find has found {lines} of {files} files") }
        };
        Box::new(work) as Work<'_>
    });
    let rsync = copied.map(|rsync| {
        let log = dir.join("rsync.log");
        let work = move || {
            let mut command = Command::new(&rsync);
            command.args(["-a", "--dry-run", "--itemize-changes", "--delete", "--stats"]);
            command.arg(format!("{}/", tree.display())).arg(dir.join("copy"));
            let cost = Cost { rss_kib: None, ..cost::of(&mut command, &log)? };
            let text = fs::read_to_string(&log)?;
            let count = format!("reg: {files}").replace("20000", "20,000");
            let quiet = text.contains("Number of regular files transferred: 0") && text.contains(&count);
            if quiet { Ok(cost) } else { bail!("void: rsync has something to do\n{}", process::tail(&log)) }
        };
        Box::new(work) as Work<'_>
    });
    let sides = vec![
        Side { name: FLEET.into(), work: Ok(Box::new(ours)) },
        Side { name: FLOOR_ONE.into(), work: Ok(Box::new(|| stat(1))) },
        Side { name: FLOOR_TWO.into(), work: Ok(Box::new(|| stat(2))) },
        Side { name: FIND.into(), work: find },
        Side { name: RSYNC.into(), work: rsync },
        Side { name: AIDE.into(), work: aide.map(|aide| Box::new(move || aide.check(files)) as Work<'_>) },
    ];
    let (rounds, gates) = take_turns(sides, runs, say)?;
    // The warm-up's.
    processes_ms.remove(0);
    read.remove(0);
    sees_a_restored_time(&large, &mut looker)?;
    Ok(Measured {
        rehearsal: earnest == Earnest::Rehearsal,
        files,
        rounds,
        processes_ms,
        read,
        machine,
        gates,
        versions: versions(&place),
    })
}

/// A copy for rsync to compare with, where there is rsync.
fn copy(tree: &Path, to: &Path, dir: &Path) -> Result<std::path::PathBuf, String> {
    let rsync = process::find("rsync").ok_or("no rsync (Debian: rsync)")?;
    let mut command = Command::new("cp");
    let copied = process::succeed(command.arg("-a").arg(tree).arg(to), &dir.join("copy.log"), COPY_LIMIT);
    copied.map(|_| rsync).map_err(|error| format!("{error:#}"))
}

/// A sweep that trusted size and modification time would be fast for nothing.
fn sees_a_restored_time(large: &Gibibyte, looker: &mut Looker) -> anyhow::Result<()> {
    let path = large.tree.join(&large.made.files[large.made.files.len() / 3]);
    let file = File::options().read(true).write(true).open(path)?;
    let modified = file.metadata()?.modified()?;
    let mut byte = [0];
    file.read_exact_at(&mut byte, 0)?;
    file.write_all_at(&[byte[0] ^ 1], 0)?;
    file.set_modified(modified)?;
    let looked = looker.look(0, At::All)?;
    if looked.deviations != 1 {
        bail!("void: a file was overwritten and its time restored, and {} are said to differ", looked.deviations);
    }
    Ok(())
}

/// For people.
pub fn table(measured: &Measured) -> String {
    let Measured { files, rounds, gates, .. } = measured;
    let mut text = format!(
        "{}B8, one machine: quiet sweep of {files} files that are known and unchanged; {} rounds after a warm-up\n\n{}\n",
        if measured.rehearsal { "A REHEARSAL WITH A DEBUG BUILD: NO FIGURES\n\n" } else { "" },
        gates.len(),
        table_of(rounds)
    );
    if let Some(Spread { median, min, max }) = Spread::of(measured.processes_ms.iter().copied()) {
        let _ = writeln!(text, "of ours, a look at the processes alone: {median:.1} ms ({min:.1} to {max:.1})");
    }
    let most = |of: fn(&(u64, u64)) -> u64| measured.read.iter().map(of).max().unwrap_or(0);
    let _ = writeln!(
        text,
        "bytes read by a look: at most {}; by one at the processes alone {}",
        most(|r| r.0),
        most(|r| r.1)
    );
    let floor = ratio_to_first(rounds, FLOOR_ONE).map(|ratio| 1.0 / ratio);
    let two = ratio_to_first(rounds, FLOOR_TWO).map(|ratio| 1.0 / ratio);
    let aide = ratio_to_first(rounds, AIDE);
    let shown = |ratio: Option<f64>| ratio.map_or_else(|| "not measured".to_owned(), |ratio| format!("{ratio:.2}x"));
    let said = |is: Option<bool>| match is {
        Some(true) => "reached",
        Some(false) => "NOT reached",
        None => "not measured",
    };
    let judge = |most: f64, least: f64| Some(floor? <= most && aide? >= least);
    let _ = writeln!(
        text,
        "fleet / floor with 1 thread {}, with 2 threads {}; aide / fleet {}\n\
         goal (floor with 1 thread <= 1.3x, aide >= 100x): {}; must (<= 3x, >= 50x): {}\n",
        shown(floor),
        shown(two),
        shown(aide),
        said(judge(1.3, 100.0)),
        said(judge(3.0, 50.0))
    );
    text + &surroundings(&measured.machine, gates, "round", &measured.versions) + "\n" + COMPARABLE + "\n"
}

/// For programs.
pub fn json(measured: &Measured) -> String {
    serde_json::to_string_pretty(&json!({ "benchmark": "b8", "measured": measured })).unwrap_or_default()
}
