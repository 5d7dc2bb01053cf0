//! Benchmark B9: from tampering with a node to the opening of its finding in the controller's ledger. What is done is
//! `tampering`'s, the peer is `rival`, how it is printed is `report`'s.
//!
//! The ledger is read from the controller's commit log, beside the running programs: nobody is asked, and what was
//! opened and closed between two looks is seen as well.

pub mod report;
mod rival;
mod tampering;

use std::collections::BTreeMap;
use std::fs;
use std::os::unix::fs::{PermissionsExt as _, symlink};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};

use anyhow::{Context as _, bail};
use fleet::drift::FindingKey;
use fleet::ledger::LedgerEntry;
use fleet_tests::{Dice, Ledger};
use serde::Serialize;

use self::rival::Rival;
pub use self::tampering::Kind;
use self::tampering::{About, Scene, now, tamper};
use crate::machine::{Gate, Machine, wait_for_quiet};
use crate::node::Node;
use crate::workplace::{Earnest, Workplace};
use crate::{interrupt, ports, process, procfs};

/// The promise is ten seconds; whoever needs more than this has missed it.
const MISSED_AFTER: Duration = Duration::from_secs(20);
/// How long the ledger may take to be empty again.
const CLOSED_WITHIN: Duration = Duration::from_secs(60);
/// How often the log is looked at: a stat of one file.
const LOOK: Duration = Duration::from_micros(500);
/// Before each tampering up to this much time passes, so that nothing that has a rhythm is met at the same beat. The
/// slowest beat here is the round of observation, two seconds.
const SPREAD_MS: u64 = 2_200;
/// Files are settled when they have not changed for two seconds: what has just been unpacked is not what lies there.
const SETTLED: Duration = Duration::from_secs(3);
/// The largest file of the release.
const LARGEST: u64 = 64 << 10;

/// How much.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Wish {
    /// Tamperings.
    pub tamperings: u32,
    /// Files of the release.
    pub files: u32,
    /// Which tamperings, where.
    pub seed: u64,
}

/// One tampering.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Sample {
    /// What was done.
    pub kind: Kind,
    /// Until the ledger opened its finding, by the ledger's own clock, which has whole milliseconds; None if it never did.
    pub ledger_ms: Option<f64>,
    /// Until that was on the controller's disk and seen there by this program.
    pub disk_ms: Option<f64>,
    /// Until the rival told of the same tampering with its own tree; None if it never did or cannot.
    pub rival_ms: Option<f64>,
}

/// All that was measured.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Measured {
    /// Whether this was a rehearsal.
    pub rehearsal: bool,
    /// Files of the release.
    pub files: u32,
    /// Which tamperings.
    pub seed: u64,
    /// Each tampering, in order.
    pub samples: Vec<Sample>,
    /// Findings that no tampering explains.
    pub false_alarms: Vec<String>,
    /// Why the rival was not measured, if so.
    pub rival_skipped: Option<String>,
    /// CPU time of the agent, in seconds, over all of it.
    pub agent_cpu_s: f64,
    /// CPU time of the controller.
    pub controller_cpu_s: f64,
    /// How long all of it took, in seconds.
    pub wall_s: f64,
    /// The machine at the start.
    pub machine: Machine,
    /// Whether it was quiet.
    pub gate: Gate,
    /// What ran.
    pub versions: Vec<String>,
}

/// Measures. `say` is told what goes on.
///
/// # Errors
/// Something cannot be built or started, a tampering cannot be done or undone, or this program is asked to stop.
pub fn run(wish: &Wish, earnest: Earnest, say: &dyn Fn(&str)) -> anyhow::Result<Measured> {
    let place = Workplace::make(earnest, say)?;
    let machine = Machine::look(&place.dir);
    say("starting a controller and an agent");
    let node = Node::start(&place, ports::row(Node::ports())?, None)?;
    let mut dice = Dice::seeded(wish.seed);
    say(&format!("deploying an older release and one of {} files", wish.files));
    let release = place.dir.join("release");
    lay_out(&release, &place.programs.join("hello-v1"), "1.0.0", 3, &mut dice)?;
    node.deploy(&release)?;
    let older = node.current()?;
    let planted = lay_out(&release, &place.programs.join("hello-v2"), "2.0.0", wish.files, &mut dice)?;
    node.deploy(&release)?;
    let aside = place.dir.join("aside");
    fs::create_dir(&aside)?;
    let ours = Scene {
        root: node.root(),
        release: node.current()?,
        older,
        aside: aside.clone(),
        files: planted.files.clone(),
        links: planted.links.clone(),
    };
    let (rival, rival_skipped) = match Rival::missing() {
        Some(why) => (None, Some(why)),
        None => (Some(rivals(&place.dir, &ours)?), None),
    };

    let mut trial = Trial {
        ledger: Ledger::of(&node.controller_dir()),
        seen_bytes: 0,
        open: BTreeMap::new(),
        false_alarms: Vec::new(),
        node: &node,
    };
    std::thread::sleep(SETTLED);
    trial.until_clean(&[])?;
    trial.ledger_from_now()?;
    let gate = wait_for_quiet()?;
    let kinds = shuffled(wish.tamperings, &mut dice);
    let (begun, agent, controller) = (Instant::now(), procfs::on_cpu(node.agent)?, procfs::on_cpu(node.controller)?);
    let mut samples = Vec::new();
    for (number, kind) in (1..).zip(kinds) {
        let mut sample = trial.one(kind, &ours, &mut dice)?;
        if let Some((rival, scene)) = &rival
            && kind.is_of_files()
        {
            let done = tamper(kind, scene, None, &mut dice)?;
            let told = rival.told(done.at, done.about.word().unwrap_or("/"))?;
            sample.rival_ms = told.map(|at| ms(at - done.at));
            (done.undo)()?;
        }
        let shown = |ms: Option<f64>| ms.map_or_else(|| "-".to_owned(), |ms| format!("{ms:.1} ms"));
        say(&format!(
            "{number} of {}: {}: {}, rival {}",
            wish.tamperings,
            kind.name(),
            shown(sample.ledger_ms),
            shown(sample.rival_ms)
        ));
        samples.push(sample);
    }
    let wall_s = begun.elapsed().as_secs_f64();
    // If the agent or the controller is another process by now, what was measured is not what was to be measured.
    let spent = |pid, before: Duration| anyhow::Ok(procfs::on_cpu(pid)?.saturating_sub(before).as_secs_f64());
    Ok(Measured {
        rehearsal: earnest == Earnest::Rehearsal,
        files: wish.files,
        seed: wish.seed,
        samples,
        agent_cpu_s: spent(node.agent, agent).context("void: the agent has ended")?,
        controller_cpu_s: spent(node.controller, controller).context("void: the controller has ended")?,
        false_alarms: trial.false_alarms,
        rival_skipped,
        wall_s,
        machine,
        gate,
        versions: versions(&place),
    })
}

/// As many of each kind as of every other, in an order that nobody can get used to.
fn shuffled(count: u32, dice: &mut Dice) -> Vec<Kind> {
    let mut kinds: Vec<Kind> = Kind::all().into_iter().cycle().take(count as usize).collect();
    for last in (1..kinds.len()).rev() {
        kinds.swap(last, dice.below(last as u64 + 1) as usize);
    }
    kinds
}

/// The ledger, and what it is told.
struct Trial<'a> {
    ledger: Ledger,
    seen_bytes: u64,
    open: BTreeMap<FindingKey, String>,
    false_alarms: Vec<String>,
    node: &'a Node,
}

/// An opening.
struct Opened {
    at_ms: i64,
    seen: i64,
}

impl Trial<'_> {
    /// One tampering, from a clean ledger to a clean ledger.
    fn one(&mut self, kind: Kind, scene: &Scene, dice: &mut Dice) -> anyhow::Result<Sample> {
        let quiet = Instant::now() + Duration::from_millis(dice.below(SPREAD_MS));
        while Instant::now() < quiet {
            self.read(&[], &mut |_| {})?;
            pause()?;
        }
        let main = match self.node.serving()?.as_slice() {
            [one] => Some(*one),
            other => bail!("void: {} processes serve before a tampering", other.len()),
        };
        let done = tamper(kind, scene, main, dice)?;
        let about = [done.about.clone()];
        let mut opened: Option<Opened> = None;
        let until = Instant::now() + MISSED_AFTER;
        while opened.is_none() && Instant::now() < until {
            self.read(&about, &mut |found| _ = opened.get_or_insert(found))?;
            pause()?;
        }
        (done.undo)().with_context(|| format!("cannot undo: {}", kind.name()))?;
        self.until_clean(&about)?;
        Ok(Sample {
            kind,
            ledger_ms: opened.as_ref().map(|opened| ms(opened.at_ms * 1_000_000 - done.at)),
            disk_ms: opened.as_ref().map(|opened| ms(opened.seen - done.at)),
            rival_ms: None,
        })
    }

    /// Takes in what is new; whatever `about` does not explain is a false alarm, what tells of it goes to `told`.
    fn read(&mut self, about: &[About], told: &mut dyn FnMut(Opened)) -> anyhow::Result<()> {
        let length = self.ledger.bytes().context("cannot look at the controller's log")?;
        if length == self.seen_bytes {
            return Ok(());
        }
        self.seen_bytes = length;
        let first = self.ledger.next();
        let lines = self.ledger.since(first).context("cannot read the controller's log")?;
        let seen = now();
        for (_, line) in lines {
            match line {
                LedgerEntry::Opened { at, finding } => {
                    if about.iter().any(|about| about.is_told_by(&finding)) {
                        told(Opened { at_ms: at.0, seen });
                    } else if !about.iter().any(|about| about.explains(&finding)) {
                        self.false_alarms.push(format!("{finding}"));
                    }
                    self.open.insert(finding.key.clone(), finding.to_string());
                }
                LedgerEntry::Changed { .. } => {}
                LedgerEntry::Closed { key, .. } => drop(self.open.remove(&key)),
            }
        }
        Ok(())
    }

    /// Waits until nothing is open, and one process serves.
    fn until_clean(&mut self, about: &[About]) -> anyhow::Result<()> {
        let until = Instant::now() + CLOSED_WITHIN;
        loop {
            self.read(about, &mut |_| {})?;
            if self.open.is_empty() && self.node.serving()?.len() == 1 {
                return Ok(());
            }
            if Instant::now() >= until {
                let open: Vec<_> = self.open.values().cloned().collect();
                bail!("void: not clean {} s after it was undone: {}", CLOSED_WITHIN.as_secs(), open.join("; "));
            }
            pause()?;
        }
    }

    /// What was told before the first tampering is nobody's fault: the deployments are not what is measured.
    fn ledger_from_now(&mut self) -> anyhow::Result<()> {
        self.read(&[], &mut |_| {})?;
        self.false_alarms.clear();
        Ok(())
    }
}

fn pause() -> anyhow::Result<()> {
    interrupt::check()?;
    std::thread::sleep(LOOK);
    Ok(())
}

fn ms(nanoseconds: i64) -> f64 {
    nanoseconds as f64 / 1e6
}

/// What a release was made of.
struct Planted {
    files: Vec<String>,
    links: Vec<String>,
}

/// Writes a release with so many small files.
fn lay_out(dir: &Path, program: &Path, version: &str, files: u32, dice: &mut Dice) -> anyhow::Result<Planted> {
    const IN_A_FOLDER: u32 = 20;
    if dir.exists() {
        fs::remove_dir_all(dir)?;
    }
    fs::create_dir_all(dir.join("bin"))?;
    crate::ours::copy_program(program, &dir.join("bin/hello"))?;
    let mut planted = Planted { files: Vec::new(), links: Vec::new() };
    for number in 0..files {
        let folder = format!("share/{}", number / IN_A_FOLDER);
        fs::create_dir_all(dir.join(&folder))?;
        let name = format!("{folder}/file-{number}");
        let size = dice.size(2, LARGEST);
        fs::write(dir.join(&name), dice.bytes(size))?;
        fs::set_permissions(dir.join(&name), fs::Permissions::from_mode(0o644))?;
        if number % IN_A_FOLDER == 0 {
            let link = format!("{folder}/link");
            symlink(format!("file-{number}"), dir.join(&link))?;
            planted.links.push(link);
        }
        planted.files.push(name);
    }
    let text = format!(
        "apiVersion: fleet/v1\nservice: {}\nrelease: {{version: \"{version}\"}}\nnodes: role=web\nfiles:\n  \
         - {{source: bin/hello, destination: bin/hello, mode: \"0755\"}}\n  - {{source: share, destination: share}}\n\
         run: bin/hello --port ${{PORT}}\nhealth: {{http: \"/healthz\"}}\n",
        crate::ours::SERVICE
    );
    fs::write(dir.join("fleet.yaml"), text)?;
    Ok(planted)
}

/// The rival, and a copy of our tree for it.
fn rivals(dir: &Path, ours: &Scene) -> anyhow::Result<(Rival, Scene)> {
    let root = dir.join("rival/service");
    fs::create_dir_all(&root)?;
    let log = dir.join("rival/copy.log");
    let mut copy = Command::new("cp");
    copy.arg("-a").arg(ours.root.join("releases")).arg(ours.root.join("current")).arg(&root);
    process::succeed(&mut copy, &log, CLOSED_WITHIN)?;
    let moved = |path: &Path| -> anyhow::Result<PathBuf> { Ok(root.join(path.strip_prefix(&ours.root)?)) };
    let aside = dir.join("rival/aside");
    fs::create_dir(&aside)?;
    let scene = Scene {
        release: moved(&ours.release)?,
        older: moved(&ours.older)?,
        aside,
        files: ours.files.clone(),
        links: ours.links.clone(),
        root: root.clone(),
    };
    Ok((Rival::watch(&root)?, scene))
}

fn versions(place: &Workplace) -> Vec<String> {
    let mut ours = Command::new(place.programs.join("fleet-agent"));
    let (mut curl, mut inotifywait) = (Command::new("curl"), Command::new("inotifywait"));
    [ours.arg("--version"), curl.arg("--version"), inotifywait.arg("--help")]
        .into_iter()
        .filter_map(process::first_line)
        .map(|line| line.chars().take(60).collect())
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_kind_has_its_turn_as_often_as_every_other() {
        let all = Kind::all();
        let count = u32::try_from(all.len()).expect("few") * 3;
        let kinds = shuffled(count, &mut Dice::seeded(3));
        for kind in &all {
            assert_eq!(kinds.iter().filter(|other| *other == kind).count(), 3, "{kind:?}");
        }
        assert_ne!(kinds, shuffled(count, &mut Dice::seeded(4)));
    }
}
