//! Our side: a development fleet of the release binaries in a directory of its own, and one `fleetctl deploy` per run.
//! What it starts is ended with all other descendants of this program.

use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use anyhow::{Context as _, bail};

use crate::b1::Sample;
use crate::phases::{self, Piece};
use crate::{process, procfs};

/// The service that is deployed.
pub const SERVICE: &str = "bench";
/// Into how many parts the fleet is cut.
pub const SEGMENTS: u16 = 4;
/// A fleet is up, or a deployment done, in far less.
const LIMIT: Duration = Duration::from_secs(300);

/// A fleet.
#[derive(Debug)]
pub struct Ours {
    dir: PathBuf,
    fleetctl: PathBuf,
    nodes: u16,
    /// Controller, balancer and agents.
    daemons: Vec<i32>,
}

/// `fleet.yaml`: the README's seven lines, with the payload beside the program and every default left alone.
pub fn service_file(version: u32) -> String {
    format!(
        "apiVersion: fleet/v1
service: {SERVICE}
release: {{version: \"bench-{version}\"}}
nodes: role=web
files: [{{source: bin/hello, destination: bin/hello, mode: \"0755\"}}, {{source: payload.bin, destination: payload.bin}}]
run: bin/hello --port ${{PORT}}
health: {{http: \"/healthz\"}}
"
    )
}

impl Ours {
    /// How many ports it takes: for the controller, the balancer, whose runtime API may take the one before, and nodes.
    pub fn ports(nodes: u16) -> u16 {
        nodes + 3
    }

    /// Brings it up in `dir`, on the ports from `first` on: as many as [`Self::ports`] says.
    ///
    /// # Errors
    /// A program is missing or does not start.
    pub fn start(dir: PathBuf, programs: &Path, nodes: u16, first: u16) -> anyhow::Result<Self> {
        let release = dir.join("release");
        fs::create_dir_all(release.join("bin")).with_context(|| format!("cannot make {}", release.display()))?;
        copy_program(&programs.join("hello-v1"), &release.join("bin/hello"))?;
        let ours = Self { fleetctl: programs.join("fleetctl"), dir, nodes, daemons: Vec::new() };
        let already = process::own_children();
        let mut up = ours.command(&["dev", "up"]);
        up.args(["--agents", &nodes.to_string(), "--controller-port", &first.to_string()]);
        up.args(["--port-base", &(first + 2).to_string()]);
        process::succeed(&mut up, &ours.dir.join("up.log"), LIMIT)?;
        let daemons: Vec<i32> = process::own_children().into_iter().filter(|pid| !already.contains(pid)).collect();
        if daemons.len() != usize::from(nodes) + 2 {
            bail!("{} daemons run instead of a controller, a balancer and {nodes} agents", daemons.len());
        }
        Ok(Self { daemons, ..ours })
    }

    /// `fleetctl` in this fleet's surroundings.
    pub fn command(&self, words: &[&str]) -> Command {
        let mut command = Command::new(&self.fleetctl);
        command.args(words).current_dir(&self.dir);
        command.env("FLEET_DEV_DIR", self.dir.join("fleet")).env("FLEETCTL_CONFIG", self.dir.join("fleetctl.toml"));
        for name in ["FLEETCTL_CONTEXT", "FLEETCTL_CONTROLLER", "FLEETCTL_LOG", "RUST_LOG"] {
            command.env_remove(name);
        }
        command
    }

    /// Controller, balancer and agents, whose families make up this side.
    pub fn daemons(&self) -> &[i32] {
        &self.daemons
    }

    /// Deploys `payload` as the next version, waits until every node is proven, and checks that it is true.
    ///
    /// # Errors
    /// The deployment does not converge, or a node does not have or run what was deployed.
    pub fn deploy(&self, payload: &Path, version: u32) -> anyhow::Result<(Sample, Pieces)> {
        let release = self.dir.join("release");
        fs::copy(payload, release.join("payload.bin")).context("cannot lay out the release")?;
        fs::write(release.join("fleet.yaml"), service_file(version)).context("cannot write fleet.yaml")?;
        let logs: Vec<(String, PathBuf)> =
            self.names().map(|name| (name.clone(), self.node(&name).join("agent.log"))).collect();
        let read_from: Vec<u64> = logs.iter().map(|(_, log)| fs::metadata(log).map_or(0, |m| m.len())).collect();
        let mut command = self.command(&["deploy", "--yes", "-o", "jsonl", "--segments"]);
        command.arg(SEGMENTS.to_string()).arg(&release);
        let told = self.dir.join("deploy.jsonl");

        let before = procfs::cpu(&self.daemons)?;
        let began = phases::now();
        let wall = process::succeed(&mut command, &told, LIMIT)?;
        let cpu = procfs::cpu(&self.daemons)?.saturating_sub(before);

        self.verify(payload)?;
        let facts = phases::facts(&fs::read_to_string(&told).unwrap_or_default());
        let of_nodes = logs.iter().zip(read_from).flat_map(|((name, log), from)| {
            let text = fs::read(log).unwrap_or_default();
            let new = text.get(usize::try_from(from).unwrap_or(usize::MAX)..).unwrap_or_default();
            phases::of_node(&facts, name, &String::from_utf8_lossy(new))
        });
        let pieces = Pieces { nodes: of_nodes.collect(), command: phases::of_command(&facts, began, wall) };
        Ok((Sample { wall, cpu }, pieces))
    }

    /// The directory of the fleet itself.
    pub fn fleet(&self) -> PathBuf {
        self.dir.join("fleet")
    }

    fn names(&self) -> impl Iterator<Item = String> {
        (1..=self.nodes).map(|number| format!("n{number}"))
    }

    /// Where a node lives.
    pub fn node(&self, name: &str) -> PathBuf {
        self.fleet().join("nodes").join(name)
    }

    /// Looks for itself, beside what the agents have proven: the bytes on every node, and the program that runs there.
    fn verify(&self, payload: &Path) -> anyhow::Result<()> {
        let wanted = fs::read(payload).context("cannot read the payload")?;
        let running: Vec<PathBuf> = procfs::family(&procfs::all(), &self.daemons)
            .iter()
            .filter_map(|member| fs::read_link(format!("/proc/{}/exe", member.pid)).ok())
            .collect();
        for name in self.names() {
            let current = self.node(&name).join("services").join(SERVICE).join("current");
            let live = current.canonicalize().with_context(|| format!("{name} has no {}", current.display()))?;
            if fs::read(live.join("payload.bin")).ok().as_ref() != Some(&wanted) {
                bail!("void: {name} does not have the payload that was deployed");
            }
            if !running.contains(&live.join("bin/hello")) {
                bail!("void: {name} does not run {}", live.join("bin/hello").display());
            }
        }
        Ok(())
    }
}

/// The pieces of one deployment's time.
#[derive(Debug, Clone, Default)]
pub struct Pieces {
    /// Of the whole command.
    pub command: Vec<Piece>,
    /// Of every node.
    pub nodes: Vec<Piece>,
}

/// Puts a program at another place, executable.
///
/// # Errors
/// It is not there, or cannot be written.
pub fn copy_program(from: &Path, to: &Path) -> anyhow::Result<()> {
    fs::copy(from, to).with_context(|| format!("cannot copy {} to {}", from.display(), to.display()))?;
    fs::set_permissions(to, fs::Permissions::from_mode(0o755)).context("cannot make it executable")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_service_file_names_its_version_and_keeps_the_agents_variable() {
        let text = service_file(7);
        assert!(text.contains("\nrelease: {version: \"bench-7\"}\n"), "{text}");
        assert!(text.contains("\nrun: bin/hello --port ${PORT}\n"), "{text}");
        assert!(text.contains("{source: payload.bin, destination: payload.bin}"), "{text}");
        assert_eq!(text.lines().count(), 7);
    }
}
