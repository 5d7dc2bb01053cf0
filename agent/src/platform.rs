//! What the agent needs of the machine it lives on, as narrow as its plan needs it: start and stop a service,
//! and see what runs. `linux/` is the only folder that names /proc or nix; `fake.rs` is a host in memory that can
//! fail, hang or lie.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::path::PathBuf;

use fleet::evidence::{FileDeviation, Mapped, Process};
use fleet::looked::{Depth, Looked};
use fleet::manifest::Manifest;
use fleet::{DeploymentId, Millis, ReleaseId, ServiceName};
use serde::{Deserialize, Serialize};

use crate::known::Known;

pub mod fake;
pub mod linux;

/// Where one service lives on this node: `<root>/releases/<release id>/`, `<root>/current`, `<root>/.fleet/`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ServicePlace {
    /// The service.
    pub service: ServiceName,
    /// Its root directory, absolute and without symbolic links.
    pub root: PathBuf,
}

impl ServicePlace {
    /// The directory of one release.
    pub fn release(&self, release: &ReleaseId) -> PathBuf {
        self.root.join("releases").join(release.as_str())
    }

    /// The link that says which release is live.
    pub fn current(&self) -> PathBuf {
        self.root.join("current")
    }

    /// The release that `current` points to, if it is a link of the form `releases/<release id>`.
    ///
    /// Any other target does not count: whatever lies there was not put in place by the agent.
    pub fn live(&self) -> Option<ReleaseId> {
        let target = std::fs::read_link(self.current()).ok()?;
        target.to_str()?.strip_prefix("releases/")?.parse().ok()
    }
}

/// Everything needed to start a service's main process.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Launch {
    /// The service and its place.
    pub place: ServicePlace,
    /// The release to run; its directory is the working directory (resolved, not through `current`).
    pub release: ReleaseId,
    /// Program and arguments, variables already replaced. A program with a '/' or that exists in the release is
    /// run from the release, others from PATH.
    pub command: Vec<String>,
    /// The whole environment of the process. The supervisor adds its marks: `FLEET_SERVICE_ROOT`, `FLEET_RELEASE`.
    pub environment: BTreeMap<String, String>,
    /// The user to run as; None keeps the agent's own.
    pub user: Option<String>,
    /// Standard output and error are appended here.
    pub log: PathBuf,
}

/// Something that is run once to its end beside the service: a migration.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Errand {
    /// The service's place.
    pub place: ServicePlace,
    /// The release in whose directory it runs.
    pub release: ReleaseId,
    /// For which deployment.
    pub deployment: DeploymentId,
    /// The how-many-eth.
    pub attempt: u32,
    /// Its name, for people.
    pub name: String,
    /// Read by `/bin/sh`.
    pub command: String,
    /// The service's environment. The supervisor adds the errand's marks, `FLEET_DEPLOYMENT`, `FLEET_MIGRATION`,
    /// `FLEET_ATTEMPT` and `FLEET_RELEASE`, and never the service's own.
    pub environment: BTreeMap<String, String>,
    /// The user to run as; None keeps the agent's own.
    pub user: Option<String>,
    /// Standard output and error are appended here.
    pub output: PathBuf,
    /// How long it may run; after that its session gets SIGTERM, and five seconds later SIGKILL.
    pub timeout: Millis,
}

/// How an errand ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ErrandEnd {
    /// With status 0.
    Succeeded,
    /// With another one, or by a signal.
    Failed {
        /// Which, for people.
        status: String,
    },
    /// Its time was over.
    TimedOut,
    /// It was started, and its end cannot be told.
    Unknown {
        /// Why.
        reason: String,
    },
}

/// A process that carries an errand's mark.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SeenErrand {
    /// Its number.
    pub pid: u32,
    /// The deployment in its mark.
    pub deployment: DeploymentId,
    /// The attempt in its mark.
    pub attempt: u32,
}

/// A main process that the agent started, as kept on disk: enough to find it again, or to know that it is gone.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Running {
    /// Process number; meaningless without the next two.
    pub pid: u32,
    /// Start time in clock ticks since boot, from /proc/PID/stat.
    pub start_ticks: u64,
    /// The kernel's boot id.
    pub boot_id: String,
    /// The release it was started from.
    pub release: ReleaseId,
}

/// What became of a stop.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Stopped {
    /// Processes that ended after SIGTERM.
    pub ended: u32,
    /// Processes that had to be killed after the timeout, with their command lines.
    pub killed: Vec<String>,
}

/// Why something could not be done with a process.
#[derive(Debug, thiserror::Error)]
pub enum ProcessError {
    /// The program could not be started.
    #[error("cannot start {program}: {reason}")]
    Start {
        /// The program.
        program: String,
        /// Why, and what to do.
        reason: String,
    },
    /// Processes outlived SIGKILL (uninterruptible sleep).
    #[error("{0} still runs after SIGKILL: it hangs in the kernel, look at its wchan and at the disks")]
    Unkillable(String),
    /// /proc or a signal failed.
    #[error("{what}: {cause}")]
    System {
        /// What was being done.
        what: String,
        /// The system's answer.
        cause: std::io::Error,
    },
}

/// Who listens where a service was just asked and an answer came.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Listener {
    /// Nobody but the service that was started.
    Ours,
    /// Somebody else, alone or beside the service: the process, for people.
    Stranger(String),
    /// No socket listens there, or none any more.
    Nobody,
    /// It cannot be told, and why.
    Unknown(String),
}

/// Starting and stopping the service of `runtime: process`.
///
/// A service is never the agent's to lose: it runs in its own session, outlives the agent, and is found again.
#[tonic::async_trait]
pub trait Supervisor: Send + Sync + 'static {
    /// Starts the main process and returns once it has been executed (exec itself succeeded).
    async fn start(&self, launch: &Launch) -> Result<Running, ProcessError>;
    /// Whether this very process (not another with its number) still runs and is not a zombie.
    fn is_running(&self, running: &Running) -> bool;
    /// Returns when this very process is gone.
    async fn gone(&self, running: &Running);
    /// Who listens on an address of this machine, as seen from the service that `running` is the main process of.
    /// Ours are the main process's tree and session, and what carries the mark of this very start; a process that an
    /// earlier start left behind is a stranger. Blocking: call it where blocking is allowed.
    fn listener(&self, place: &ServicePlace, running: &Running, address: &SocketAddr) -> Listener;
    /// Stops every process of the service: SIGTERM to the main process's tree and everything that carries the
    /// service's mark, SIGKILL to what is left after `timeout`. Hand-started copies without the mark are not
    /// touched: they are evidence. Stopping what does not run is success.
    async fn stop(
        &self,
        place: &ServicePlace,
        running: Option<&Running>,
        timeout: Millis,
    ) -> Result<Stopped, ProcessError>;
    /// Runs something once, to its end or until its time is up. Nothing of its session runs when this returns; dropped
    /// before that, it runs on.
    ///
    /// # Errors
    /// It could not be started: nothing of it ever ran.
    async fn run_errand(&self, errand: &Errand) -> Result<ErrandEnd, ProcessError>;
    /// Every process of the machine that carries an errand's mark, whoever started it. Blocking.
    fn errands(&self) -> Vec<SeenErrand>;
}

/// Which processes of the machine belong to this node.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, Default)]
#[serde(rename_all = "kebab-case")]
pub enum Scope {
    /// All of them: one agent per machine.
    #[default]
    Machine,
    /// Those whose executable, working directory or mark lies below the agent's services root: several agents
    /// share one machine, as in `fleetctl dev`.
    Root,
}

/// What is asked of the observer for one service.
#[derive(Debug, Clone)]
pub struct Look<'a> {
    /// The service and its place.
    pub place: &'a ServicePlace,
    /// The release that `current` should hold and its manifest; None when nothing is held.
    pub held: Option<(&'a ReleaseId, &'a Manifest)>,
    /// The main process on record.
    pub running: Option<&'a Running>,
    /// Digests of files of every release that this node ever held of this service: what makes a stray process.
    pub known: &'a Known,
    /// The roots of the other services that have an order on this node: what lies there is theirs. Whatever else lies
    /// beside the service's root is nobody's, and a place for old code to hide.
    pub neighbours: &'a [PathBuf],
    /// When the current release was activated: (boot id, clock ticks since boot). None if not known.
    pub activated: Option<(&'a str, u64)>,
}

/// What was seen.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Seen {
    /// Deviations of the files, at most [`MOST_DEVIATIONS`].
    pub files: Vec<FileDeviation>,
    /// Deviations beyond that.
    pub files_omitted: u64,
    /// Processes of the service and strays.
    pub processes: Vec<Process>,
    /// Processes that may not be looked into.
    pub hidden: u32,
    /// Files outside the release that supervised processes execute or have mapped as code, each once.
    pub outside: Vec<Mapped>,
    /// More of them, beyond the limit.
    pub outside_omitted: u32,
    /// Where `current` points, if it is a link to a release directory.
    pub current: Option<ReleaseId>,
    /// What is said of the files rests on this.
    pub looked: Looked,
}

/// Deviations reported one by one; beyond this a count is enough to act on.
pub const MOST_DEVIATIONS: usize = 200;

/// Seeing what runs and what lies on the disk.
pub trait Observer: Send + Sync + 'static {
    /// Looks at one service: at every process and every file. Blocking: call it where blocking is allowed.
    fn look(&self, look: &Look<'_>) -> std::io::Result<Seen>;
    /// Looks at one service as deep as asked, or deeper. An observer that watches nothing always sweeps. Blocking.
    fn look_to(&self, _depth: Depth, look: &Look<'_>) -> std::io::Result<Seen> {
        self.look(look)
    }
    /// Counts what was noticed between looks; None where nothing is watched.
    fn noticed(&self) -> Option<tokio::sync::watch::Receiver<u64>> {
        None
    }
    /// The kernel's boot id.
    fn boot_id(&self) -> String;
    /// Clock ticks since boot, now: comparable with start times of processes of the same boot.
    fn ticks_now(&self) -> u64;
}
