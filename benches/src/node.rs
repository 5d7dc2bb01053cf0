//! One node with its controller: an agent as it comes, started by this program so that its settings are known and its
//! cost can be read, and releases deployed to it.

use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context as _, bail};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

use crate::ours::{Ours, SERVICE};
use crate::workplace::Workplace;
use crate::{interrupt, process, procfs};

/// The node's name.
const NAME: &str = "n1";
/// A deployment of many files to one node, or a stop, takes far less.
const LIMIT: Duration = Duration::from_secs(600);
/// How often something that is awaited is looked for.
const LOOK: Duration = Duration::from_millis(10);

/// The node.
#[derive(Debug)]
pub struct Node {
    ours: Ours,
    place: PathBuf,
    programs: PathBuf,
    /// The agent's process.
    pub agent: i32,
    /// The controller's.
    pub controller: i32,
}

impl Node {
    /// How many ports it takes.
    pub fn ports() -> u16 {
        Ours::ports(1)
    }

    /// Brings it up. The agent has every default, but that its services and state lie in the measurement's directory;
    /// `through` is the port at which it reaches its controller, if that is not the controller's own.
    ///
    /// # Errors
    /// Something does not start.
    pub fn start(place: &Workplace, first_port: u16, through: Option<u16>) -> anyhow::Result<Self> {
        let ours = Ours::start(place.dir.join("ours"), &place.programs, 1, first_port)?;
        let mut node =
            Self { ours, place: place.dir.clone(), programs: place.programs.clone(), agent: 0, controller: 0 };
        node.controller = node.recorded("controller")?;
        node.stop(node.recorded("agent-n1")?)?;
        let config = node.dir().join("agent.toml");
        let text = fs::read_to_string(&config).context("cannot read agent.toml")?;
        // A development fleet looks at its own nodes only, because all of them share one machine.
        let mut text = text.replace("scope = \"root\"", "scope = \"machine\"");
        if let Some(port) = through {
            text = text.replace(&format!("127.0.0.1:{first_port}"), &format!("127.0.0.1:{port}"));
        }
        fs::write(&config, text).context("cannot write agent.toml")?;
        node.start_agent()?;
        Ok(node)
    }

    fn start_agent(&mut self) -> anyhow::Result<()> {
        let log = File::options().append(true).create(true).open(self.dir().join("agent.log"))?;
        let mut command = Command::new(self.programs.join("fleet-agent"));
        command.arg("run").arg("--config").arg(self.dir().join("agent.toml"));
        command.stdin(Stdio::null()).stdout(log.try_clone()?).stderr(log).env_remove("RUST_LOG");
        let child = command.spawn().context("cannot start fleet-agent")?;
        // Ended and waited for with all other descendants.
        self.agent = i32::try_from(child.id()).context("a pid")?;
        Ok(())
    }

    /// What `dev up` has written down of a program.
    fn recorded(&self, name: &str) -> anyhow::Result<i32> {
        let path = self.ours.fleet().join("run").join(format!("{name}.pid"));
        let text = fs::read_to_string(&path).with_context(|| format!("cannot read {}", path.display()))?;
        let pid = text.lines().find_map(|line| line.strip_prefix("pid = ")?.trim().parse().ok());
        pid.with_context(|| format!("{} names no pid", path.display()))
    }

    fn stop(&self, pid: i32) -> anyhow::Result<()> {
        kill(Pid::from_raw(pid), Signal::SIGTERM).context("cannot stop the agent")?;
        self.until("the agent has ended", || {
            process::reap(pid);
            procfs::one(pid).is_none()
        })
    }

    /// Where the node lives.
    pub fn dir(&self) -> PathBuf {
        self.ours.node(NAME)
    }

    /// The root of its service.
    pub fn root(&self) -> PathBuf {
        self.dir().join("services").join(SERVICE)
    }

    /// The directory of the release that is live.
    ///
    /// # Errors
    /// There is none.
    pub fn current(&self) -> anyhow::Result<PathBuf> {
        self.root().join("current").canonicalize().context("nothing is live")
    }

    /// The controller's data directory.
    pub fn controller_dir(&self) -> PathBuf {
        self.ours.fleet().join("controller")
    }

    /// The processes that execute the program of the release that is live.
    ///
    /// # Errors
    /// Nothing is live.
    pub fn serving(&self) -> anyhow::Result<Vec<i32>> {
        let program = self.current()?.join("bin/hello");
        let runs = |pid: &i32| fs::read_link(format!("/proc/{pid}/exe")).is_ok_and(|exe| exe == program);
        Ok(procfs::all().into_keys().filter(runs).collect())
    }

    /// Deploys a directory, and sees that it is proven.
    ///
    /// # Errors
    /// It does not converge.
    pub fn deploy(&self, release: &Path) -> anyhow::Result<()> {
        let mut command = self.ours.command(&["deploy", "--yes", "-o", "jsonl"]);
        process::succeed(command.arg(release), &self.place.join("deploy.log"), LIMIT)?;
        if self.serving()?.is_empty() {
            bail!("void: nothing executes what was deployed");
        }
        Ok(())
    }

    /// Waits for something.
    ///
    /// # Errors
    /// It does not come, or this program is asked to stop.
    pub fn until(&self, what: &str, mut is: impl FnMut() -> bool) -> anyhow::Result<()> {
        let until = Instant::now() + LIMIT;
        while !is() {
            interrupt::check()?;
            if Instant::now() >= until {
                let log = process::tail(&self.dir().join("agent.log"));
                bail!("waited in vain: {what}\n{log}");
            }
            std::thread::sleep(LOOK);
        }
        Ok(())
    }
}

/// The settings that a reader must know, as one line.
pub const SETTINGS: &str = "the agent's and the controller's defaults; services and state in the bench's directory";
