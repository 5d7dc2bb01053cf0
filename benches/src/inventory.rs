//! Reading an inventory of 5,500 hosts with ranges: `fleetctl ansible inventory --list --export` against the real
//! `ansible-inventory --list --export`, whole processes, in turn, after comparing that both print the same JSON.
//!
//! The peer is the `ansible-inventory` of `$FLEET_ANSIBLE_VENV`, else of b1's virtual environment, else on PATH.

use std::fmt::Write as _;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};

use anyhow::{Context as _, bail};
use serde_json::{Value, json};

use crate::machine::Machine;
use crate::process;
use crate::statistics::{Spread, ratios};

/// How often faster the reader is meant to be.
pub const GOAL: f64 = 20.0;

/// Starting Python and reading takes a second or two.
const LIMIT: Duration = Duration::from_secs(60);

/// The hosts: ranges of every kind, in groups with variables and children.
const HOSTS: &str = "[web]
web[0001:3000].example.com rack=7

[db]
db-[a:e]-[001:200].example.com ansible_port=2222 tags=\"['a', 'b']\"

[cache]
10.1.[0:5].[1:250]

[web:vars]
http_port = 8080
[site:children]
web
db
cache
[site:vars]
region = eu
";

/// How many hosts that is.
const COUNT: usize = 5_500;

/// What was measured.
#[derive(Debug)]
pub struct Measured {
    /// Seconds of each run of ours.
    ours: Vec<f64>,
    /// Seconds of each run of the peer.
    peer: Vec<f64>,
    /// Who the peer is.
    peer_version: String,
    machine: Machine,
}

/// Measures `runs` pairs after one that does not count.
///
/// # Errors
/// A program is missing or fails, or the two do not print the same.
pub fn run(runs: u16, say: &dyn Fn(&str)) -> anyhow::Result<Measured> {
    let programs = std::env::current_exe().context("where is this program?")?;
    let programs = programs.parent().context("this program lies nowhere")?;
    let fleetctl = programs.join("fleetctl");
    if !fleetctl.is_file() {
        bail!("{} is not there: cargo build --release -p fleetctl", fleetctl.display());
    }
    let ansible = peer(programs).context("there is no ansible-inventory: set FLEET_ANSIBLE_VENV")?;
    let peer_version = process::first_line(Command::new(&ansible).arg("--version")).unwrap_or_default();
    let folder = tempfile::tempdir().context("cannot make a temporary directory")?;
    let hosts = folder.path().join("hosts");
    std::fs::write(&hosts, HOSTS).context("cannot write the inventory")?;
    std::fs::write(folder.path().join("ansible.cfg"), "").context("cannot write ansible.cfg")?;
    let edition = peer_version.split("core ").nth(1).unwrap_or("2.19").trim_end_matches(']').to_owned();
    let ours = || command(&fleetctl, &["ansible", "inventory", "--ansible-version", &edition], folder.path());
    let theirs = || command(&ansible, &[], folder.path());
    say(&format!("{COUNT} hosts; {runs} pairs after a warm-up, against {peer_version}"));
    let (mine, real) = (printed(&mut ours())?, printed(&mut theirs())?);
    if mine != real {
        bail!("fleetctl and ansible-inventory do not print the same: nothing was measured");
    }
    let hosts = mine.pointer("/_meta/hostvars").and_then(Value::as_object).map_or(0, serde_json::Map::len);
    // Of the cache hosts nothing is said, so they are no key there.
    anyhow::ensure!(hosts == COUNT - 1_500, "{hosts} hosts have variables, not {}", COUNT - 1_500);
    let (mut mine, mut real) = (Vec::new(), Vec::new());
    for _ in 0..runs {
        mine.push(timed(&mut ours(), folder.path())?);
        real.push(timed(&mut theirs(), folder.path())?);
    }
    Ok(Measured { ours: mine, peer: real, peer_version, machine: Machine::look(folder.path()) })
}

fn peer(programs: &Path) -> Option<PathBuf> {
    let named = std::env::var_os("FLEET_ANSIBLE_VENV").map(PathBuf::from);
    let installed = programs.parent().map(|target| target.join("bench/venv"));
    let venvs = named.into_iter().chain(installed).map(|venv| venv.join("bin/ansible-inventory"));
    venvs.chain(process::find("ansible-inventory")).find(|program| program.is_file())
}

fn command(program: &Path, words: &[&str], folder: &Path) -> Command {
    let mut command = Command::new(program);
    command.args(words).args(["-i", "hosts", "--list", "--export"]).current_dir(folder);
    command.env("ANSIBLE_CONFIG", folder.join("ansible.cfg")).env("ANSIBLE_HOME", folder).env("LC_ALL", "C.UTF-8");
    command
}

fn printed(command: &mut Command) -> anyhow::Result<Value> {
    let output = command.output().context("cannot be started")?;
    anyhow::ensure!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    serde_json::from_slice(&output.stdout).context("what was printed is not JSON")
}

/// Seconds from the start of the program to its end, its output kept in a file.
fn timed(command: &mut Command, folder: &Path) -> anyhow::Result<f64> {
    let begun = Instant::now();
    process::succeed(command, &folder.join("output"), LIMIT)?;
    Ok(begun.elapsed().as_secs_f64())
}

/// For people.
pub fn table(measured: &Measured) -> String {
    let Measured { ours, peer, peer_version, machine } = measured;
    let mut text =
        format!("inventory: {COUNT} hosts with ranges, --list --export, whole processes; {} pairs\n\n", ours.len());
    for (name, values) in [("fleetctl ansible inventory", ours), (peer_version.as_str(), peer)] {
        if let Some(s) = Spread::of(values.iter().copied()) {
            let _ = writeln!(text, "{name:<36}{:>8.3} s  ({:.3} to {:.3})", s.median, s.min, s.max);
        }
    }
    if let Some(s) = ratios(ours, peer) {
        let verdict = if s.median >= GOAL { "reached" } else { "MISSED" };
        let _ = writeln!(
            text,
            "\nratio, pair by pair: {:.1}x ({:.1}x to {:.1}x); goal {GOAL:.0}x: {verdict}",
            s.median, s.min, s.max
        );
    }
    let _ =
        writeln!(text, "{} processors, {}, load average {}", machine.processors, machine.model, machine.load_average);
    text
}

/// For programs.
pub fn json(measured: &Measured) -> String {
    let ratio = ratios(&measured.ours, &measured.peer).map(|s| json!({"median": s.median, "min": s.min, "max": s.max}));
    let value = json!({
        "benchmark": "inventory",
        "hosts": COUNT,
        "peer": measured.peer_version,
        "oursSeconds": measured.ours,
        "peerSeconds": measured.peer,
        "ratio": ratio,
        "goal": GOAL,
    });
    value.to_string()
}
