//! Benchmark B1 on one machine: from a command to every node proven, ours and the peer's in turn, with the same payload
//! in both halves of a pair.

use std::fs::{self, File};
use std::io::Read as _;
use std::path::Path;
use std::process::Command;
use std::time::Duration;

use anyhow::{Context as _, bail};
use serde::Serialize;

use crate::ansible::VERSION;
use crate::arguments::Wish;
use crate::interrupt::Interrupted;
use crate::machine::{Gate, Machine, wait_for_quiet};
use crate::ours::{Ours, Pieces};
use crate::peer::{self, Form, Peer};
use crate::phases::{Phase, together};
use crate::workplace::{Earnest, Workplace};
use crate::{ports, process, sshd};

/// What changes from run to run, in bytes: the size of the service in the description of B1.
pub const PAYLOAD: u64 = 5_400_000;
/// One run of one side.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Sample {
    /// From the start of the command to its end.
    pub wall: Duration,
    /// User and system time of every process of that side.
    pub cpu: Duration,
}

/// The runs of one side, in the order of the pairs, in seconds.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Side {
    /// What ran.
    pub name: String,
    /// Wall clock.
    pub wall_s: Vec<f64>,
    /// CPU time.
    pub cpu_s: Vec<f64>,
}

impl Side {
    fn new(name: impl Into<String>) -> Self {
        Self { name: name.into(), wall_s: Vec::new(), cpu_s: Vec::new() }
    }

    fn push(&mut self, sample: Sample) {
        self.wall_s.push(sample.wall.as_secs_f64());
        self.cpu_s.push(sample.cpu.as_secs_f64());
    }
}

/// A peer that was measured, or why it was not.
#[derive(Debug, Clone, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub enum Rival {
    /// It ran in every pair.
    Measured(Side),
    /// It did not run.
    Skipped {
        /// What was to run.
        name: String,
        /// Why it did not.
        reason: String,
    },
}

/// All that was measured.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Measured {
    /// Nodes on each side.
    pub nodes: u16,
    /// Pairs that count.
    pub runs: u16,
    /// Bytes of the payload.
    pub payload: u64,
    /// Our side.
    pub ours: Side,
    /// The peers.
    pub rivals: Vec<Rival>,
    /// Our command's time, split.
    pub command: Vec<Phase>,
    /// Our nodes' time, split.
    pub node: Vec<Phase>,
    /// The machine at the start.
    pub machine: Machine,
    /// Whether it was quiet before each pair.
    pub gates: Vec<Gate>,
    /// What ran, by version.
    pub versions: Vec<String>,
}

/// Measures. `say` is told what goes on.
///
/// # Errors
/// Our side cannot be built, started or deployed to, a run is void, a peer that was installed fails, or
/// [`Interrupted`]. Whatever was started has ended then, and the directory is gone.
pub fn run(wish: &Wish, earnest: Earnest, say: &dyn Fn(&str)) -> anyhow::Result<Measured> {
    let place = Workplace::make(earnest, say)?;
    let (dir, programs) = (place.dir.clone(), place.programs.clone());
    let machine = Machine::look(&dir);

    let payload = dir.join("payload.bin");
    let hello = programs.join("hello-v1");
    let mut rivals: Vec<(Rival, Option<Peer>)> = Vec::new();
    // All at once: a port that one side has been given and does not use yet looks free to the other.
    let mut port = ports::row(Ours::ports(wish.nodes) + 2 * Peer::ports(wish.nodes))?;
    let venv = place.kept().join("venv");
    fs::create_dir_all(venv.parent().unwrap_or(&venv)).context("cannot make the directory of the peer")?;
    let installed = peer::install(&venv, &dir.join("install.log"), say);
    for (form, name) in [(Form::Local, "ansible-core, local"), (Form::Ssh, "ansible-core, ssh")] {
        let name = name.to_owned();
        let skipped = match (&installed, form) {
            (Err(error), _) if error.is::<Interrupted>() => return Err(Interrupted.into()),
            (Err(error), _) => Some(format!("no ansible-core: {error:#}")),
            (Ok(()), Form::Ssh) if sshd::program().is_none() => Some("no sshd".to_owned()),
            (Ok(()), _) => None,
        };
        rivals.push(match skipped {
            Some(reason) => (Rival::Skipped { name, reason }, None),
            None => {
                let at = dir.join(if form == Form::Local { "local" } else { "ssh" });
                let peer = Peer::prepare(form, at, &venv, &hello, &payload, wish.nodes, port)?;
                port += Peer::ports(wish.nodes);
                (Rival::Measured(Side::new(name)), Some(peer))
            }
        });
    }
    say(&format!("starting a controller, a balancer and {} agents", wish.nodes));
    let fleet = Ours::start(dir.join("ours"), &programs, wish.nodes, port)?;

    let mut ours = Side::new("fleetctl deploy");
    let mut gates = Vec::new();
    let mut pieces = Pieces::default();
    for pair in 0..=wish.runs {
        let counts = pair > 0;
        write_payload(&payload)?;
        let gate = wait_for_quiet()?;
        let (sample, split) = fleet.deploy(&payload, u32::from(pair))?;
        let mut line = format!("ours {:.2} s", sample.wall.as_secs_f64());
        if counts {
            gates.push(gate);
            ours.push(sample);
            pieces.command.extend(split.command);
            pieces.nodes.extend(split.nodes);
        }
        for (rival, peer) in &mut rivals {
            let (Rival::Measured(side), Some(peer)) = (rival, peer) else { continue };
            let sample = peer.deploy(&payload, fleet.daemons())?;
            line += &format!(", {} {:.2} s", side.name, sample.wall.as_secs_f64());
            if counts {
                side.push(sample);
            }
        }
        let which = if counts { format!("pair {pair} of {}", wish.runs) } else { "warm-up".to_owned() };
        say(&format!("{which}: {line}"));
    }
    Ok(Measured {
        nodes: wish.nodes,
        runs: wish.runs,
        payload: PAYLOAD,
        ours,
        rivals: rivals.into_iter().map(|(rival, _)| rival).collect(),
        command: together(&pieces.command),
        node: together(&pieces.nodes),
        machine,
        gates,
        versions: versions(&programs, &venv),
    })
}

/// Incompressible bytes that nobody has seen before.
fn write_payload(path: &Path) -> anyhow::Result<()> {
    let random = File::open("/dev/urandom").context("cannot open /dev/urandom")?;
    let mut file = File::create(path).with_context(|| format!("cannot write {}", path.display()))?;
    let written = std::io::copy(&mut random.take(PAYLOAD), &mut file).context("cannot make the payload")?;
    if written != PAYLOAD {
        bail!("the payload has {written} bytes instead of {PAYLOAD}");
    }
    // On the disk before anybody is measured, so that nobody's sync pays for it.
    file.sync_all().context("cannot make the payload")
}

fn versions(programs: &Path, venv: &Path) -> Vec<String> {
    let mut ssh = Command::new("ssh");
    let mut python = Command::new(venv.join("bin/python"));
    let ours = process::first_line(Command::new(programs.join("fleetctl")).arg("--version"));
    [
        Some(ours.unwrap_or_else(|| "fleetctl".to_owned()) + " (release build)"),
        venv.is_dir().then(|| format!("ansible-core {VERSION}")),
        process::first_line(python.arg("--version")),
        process::first_line(ssh.arg("-V")),
    ]
    .into_iter()
    .flatten()
    .collect()
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn a_payload_is_new_each_time() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("payload");
        write_payload(&path).unwrap();
        let first = fs::read(&path).unwrap();
        write_payload(&path).unwrap();
        let second = fs::read(&path).unwrap();
        assert_eq!((first.len(), second.len()), (5_400_000, 5_400_000));
        assert_ne!(first, second);
    }
}
