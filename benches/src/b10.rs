//! Benchmark B10: what an agent costs that is connected and has nothing to do, with a release of 20,000 files to watch;
//! and whether it grows by deployments. The peer is `salt`'s, how it is printed `report`'s.

pub mod report;
mod salt;

use std::fs::{self, File};
use std::io::Write as _;
use std::path::Path;
use std::process::Command;
use std::time::{Duration, Instant};

use anyhow::{Context as _, bail};
use serde::Serialize;

use self::salt::Salt;
use crate::interrupt::{self, Interrupted};
use crate::machine::{Gate, Machine, wait_for_quiet};
use crate::meter::Meter;
use crate::node::Node;
use crate::process_cost::{Memory, Used};
use crate::tree::Shape;
use crate::workplace::{Earnest, Workplace};
use crate::{ports, process};

/// The release that is watched. What a file costs an idle agent does not depend on its size, and fifty deployments of a
/// gibibyte would measure the disk.
pub const WATCHED: Shape = Shape { files: 20_000, bytes: 64 << 20, seed: 10 };
/// The release without anything to watch.
const FEW: Shape = Shape { files: 20, bytes: 64 << 10, seed: 11 };
/// After a deployment the agent has still to look at what it has put there.
const SETTLED: Duration = Duration::from_secs(10);

/// How much.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Wish {
    /// Idle, in seconds.
    pub seconds: u32,
    /// Deployments after that.
    pub deployments: u32,
}

/// What somebody cost while there was nothing to do.
#[derive(Debug, Clone, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Idle {
    /// Who.
    pub name: String,
    /// Processes.
    pub processes: usize,
    /// At the end.
    pub memory: Memory,
    /// CPU time, in seconds.
    pub cpu_s: f64,
    /// How often its threads were woken.
    pub wake_ups: u64,
    /// Bytes on its line, up and down; None where it was not counted.
    pub bytes: Option<(u64, u64)>,
}

/// All that was measured.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Measured {
    /// Whether this was a rehearsal.
    pub rehearsal: bool,
    /// How long everybody was idle, in seconds.
    pub seconds: f64,
    /// The agent.
    pub ours: Idle,
    /// The same agent before, with 20 files.
    pub with_few: Memory,
    /// The peer, or why there is none.
    pub peer: Result<Idle, String>,
    /// The agent's memory after each deployment, the first being before all of them.
    pub growth: Vec<Memory>,
    /// And when it had nothing to do again.
    pub settled: Option<Memory>,
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
/// Something of ours cannot be built, started or deployed, or this program is asked to stop.
pub fn run(wish: &Wish, earnest: Earnest, say: &dyn Fn(&str)) -> anyhow::Result<Measured> {
    let place = Workplace::make(earnest, say)?;
    let machine = Machine::look(&place.dir);
    say("starting a controller and an agent");
    let first = ports::row(Node::ports())?;
    let meter = Meter::to(first)?;
    let node = Node::start(&place, first, Some(meter.port))?;
    let (few, many) = (place.dir.join("few"), place.dir.join("many"));
    lay_out(&few, &FEW, &place)?;
    lay_out(&many, &WATCHED, &place)?;
    deploy(&node, &few, 0, &place)?;
    rest(SETTLED)?;
    let with_few = Memory::of(&[node.agent])?;
    say(&format!("deploying {} files", WATCHED.files));
    deploy(&node, &many, 0, &place)?;
    let salt = match Salt::start(&place, say) {
        Ok(salt) => Ok(salt),
        Err(error) if error.is::<Interrupted>() => return Err(error),
        Err(error) => Err(format!("{error:#}")),
    };
    rest(SETTLED)?;
    let gate = wait_for_quiet()?;

    say(&format!("idle for {} s", wish.seconds));
    let others = salt.as_ref().map(Salt::processes).unwrap_or_default();
    let connected = meter.passed();
    let (begun, ours, theirs) = (Instant::now(), Used::by(&[node.agent])?, Used::by(&others)?);
    rest(Duration::from_secs(wish.seconds.into()))?;
    let (seconds, ours_now, theirs_now) = (begun.elapsed().as_secs_f64(), Used::by(&[node.agent])?, Used::by(&others));
    let passed = meter.passed();
    if passed.connections != connected.connections {
        bail!("void: the agent has dialled anew while it was to be idle");
    }
    let ours = Idle {
        name: "fleet-agent".into(),
        processes: 1,
        memory: Memory::of(&[node.agent])?,
        cpu_s: ours_now.cpu_since(&ours),
        wake_ups: ours_now.wake_ups_since(&ours),
        bytes: Some((passed.up - connected.up, passed.down - connected.down)),
    };
    let peer = salt.and_then(|_| {
        let (memory, now) = (Memory::of(&others), theirs_now);
        let (memory, now) = memory.and_then(|memory| Ok((memory, now?))).map_err(|error| format!("{error:#}"))?;
        Ok(Idle {
            name: salt::name(),
            processes: others.len(),
            memory,
            cpu_s: now.cpu_since(&theirs),
            wake_ups: now.wake_ups_since(&theirs),
            bytes: None,
        })
    });

    let mut growth = vec![ours.memory];
    for number in 1..=wish.deployments {
        deploy(&node, &many, number, &place)?;
        growth.push(Memory::of(&[node.agent]).context("void: the agent has ended")?);
        say(&format!("deployment {number} of {}: {} KiB", wish.deployments, growth[growth.len() - 1].rss_kib));
    }
    let settled = if wish.deployments > 0 {
        rest(SETTLED)?;
        Some(Memory::of(&[node.agent])?)
    } else {
        None
    };
    let version = process::first_line(Command::new(place.programs.join("fleet-agent")).arg("--version"));
    Ok(Measured {
        rehearsal: earnest == Earnest::Rehearsal,
        seconds,
        ours,
        with_few,
        peer,
        growth,
        settled,
        machine,
        gate,
        versions: version.into_iter().collect(),
    })
}

/// A release with a tree beside its program.
fn lay_out(dir: &Path, shape: &Shape, place: &Workplace) -> anyhow::Result<()> {
    fs::create_dir_all(dir.join("bin"))?;
    shape.plant(&dir.join("share"))?;
    crate::ours::copy_program(&place.programs.join("hello-v1"), &dir.join("bin/hello"))
}

/// Deploys what lies there, with a program that nobody has seen before.
fn deploy(node: &Node, release: &Path, number: u32, place: &Workplace) -> anyhow::Result<()> {
    let program = release.join("bin/hello");
    crate::ours::copy_program(&place.programs.join("hello-v1"), &program)?;
    // What stands behind the last section of a program is not loaded: the same program under another digest.
    write!(File::options().append(true).open(program)?, "{} {number}", release.display())?;
    let name = release.file_name().unwrap_or_default().display();
    let text = format!(
        "apiVersion: fleet/v1\nservice: {}\nrelease: {{version: \"{name}-{number}\"}}\nnodes: role=web\nfiles:\n  \
         - {{source: bin/hello, destination: bin/hello, mode: \"0755\"}}\n  - {{source: share, destination: share}}\n\
         run: bin/hello --port ${{PORT}}\nhealth: {{http: \"/healthz\"}}\n",
        crate::ours::SERVICE
    );
    fs::write(release.join("fleet.yaml"), text)?;
    node.deploy(release)
}

/// Lets time pass, unless somebody asks to stop.
fn rest(time: Duration) -> Result<(), Interrupted> {
    let until = Instant::now() + time;
    while let Some(left) = until.checked_duration_since(Instant::now()).filter(|left| !left.is_zero()) {
        interrupt::check()?;
        std::thread::sleep(left.min(Duration::from_millis(100)));
    }
    Ok(())
}
