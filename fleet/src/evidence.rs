//! What an agent states of its node: the raw evidence, without opinion. Gathering it from /proc and the disk is
//! the agent's work; judging it is [`crate::drift`]'s.

use serde::{Deserialize, Serialize};

use crate::deployment::MigrationReport;
use crate::looked::Looked;
use crate::repair::RepairReport;
use crate::{DeploymentId, Digest, Generation, Millis, NodeName, Nonce, ReleaseId, ServiceName, Timestamp};

/// An agent's statement, under its identity and the round's nonce, of what its node runs.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Attestation {
    /// The node that speaks; the controller checks it against the certificate.
    pub node: NodeName,
    /// The nonce of the round that this answers.
    pub nonce: Nonce,
    /// The kernel's boot id: a reboot between two statements is visible.
    pub boot_id: String,
    /// One entry for every service that the agent has an order for.
    pub services: Vec<ServiceEvidence>,
    /// How many bytes an unprivileged program may still write where releases are kept; None when it could not be told.
    #[serde(default)]
    pub disk_free: Option<u64>,
    /// What is known of migrations that this node was told to run, the newest of each service.
    #[serde(default)]
    pub migrations: Vec<MigrationEvidence>,
    /// How long the node's machine has been up, suspended time included: a recorded statement is not older than the
    /// one before it.
    #[serde(default)]
    pub up: Option<Millis>,
    /// What the node's clock said. Nothing is decided by it.
    #[serde(default)]
    pub clock: Option<Timestamp>,
}

/// How a migration stands that a node was told to run.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct MigrationEvidence {
    /// Whose it is.
    pub deployment: DeploymentId,
    /// The how-many-eth.
    pub attempt: u32,
    /// How it stands.
    pub report: MigrationReport,
}

/// Whether what a node holds can still be undone by its own agent.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Confirmation {
    /// It stays: it was confirmed, or needed no confirmation.
    #[default]
    Given,
    /// The agent waits for the controller's confirmation, and goes back to what was held before without it.
    Awaited,
}

/// The evidence for one service on one node.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ServiceEvidence {
    /// The service.
    pub service: ServiceName,
    /// The newest order that the agent has saved.
    pub generation: Generation,
    /// How far the agent is with that order.
    pub progress: Progress,
    /// Whether the agent may still undo it by itself.
    #[serde(default)]
    pub confirmation: Confirmation,
    /// The release that `current` points to, read from the disk.
    pub current: Option<ReleaseId>,
    /// How the files of that release differ from its manifest.
    pub files: Vec<FileDeviation>,
    /// Deviations beyond the limit of one statement, counted.
    pub files_omitted: u64,
    /// The digest of the descriptor whose manifest the files were compared with; None when they were not compared.
    /// No deviation means nothing unless this is the descriptor that the controller knows.
    pub compared: Option<Digest>,
    /// Every process of the service, and every process of the node that runs something of the service's releases.
    pub processes: Vec<Process>,
    /// Processes of the node which the agent was not permitted to look into: other users', where it is not root. What
    /// they execute nobody knows. A supervised one is among `processes`, and is never proof.
    #[serde(default)]
    pub hidden: u32,
    /// The files outside the release that supervised processes execute or have mapped as code, each once: the
    /// distribution's libraries and interpreters. Those whose file is gone come first.
    #[serde(default)]
    pub outside: Vec<Mapped>,
    /// More of them, beyond the limit of one statement.
    #[serde(default)]
    pub outside_omitted: u32,
    /// What the last probe said.
    pub health: Health,
    /// How the newest repair stands, if one was ordered.
    #[serde(default)]
    pub repair: Option<RepairReport>,
    /// What is said of the files rests on this.
    #[serde(default)]
    pub looked: Looked,
    /// Who else listens where the service was asked, if somebody does.
    #[serde(default)]
    pub stranger: Option<Stranger>,
}

/// A process that listens where the service should, and is none of the service's.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Stranger {
    /// Where it listens.
    pub address: String,
    /// The process, for people.
    pub process: String,
}

/// How far an agent is with the newest order it has saved.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "state", rename_all = "kebab-case")]
pub enum Progress {
    /// At work.
    Working {
        /// The step, as shown to people: `fetch`, `stage`, `drain`, `stop`, `switch`, `start`, `probe`, `allow`.
        step: String,
        /// What is known of it: bytes fetched, tries made.
        detail: String,
    },
    /// The order is carried out.
    Held,
    /// The order could not be carried out; what was held before is back, if it could be.
    Failed {
        /// The step that failed.
        step: String,
        /// Why, with the last lines of what the service printed where that helps.
        reason: String,
    },
    /// The service may not start: the controller has not confirmed what it shall hold.
    Fenced {
        /// Why, and what would lift the fence.
        reason: String,
    },
}

/// One way in which a file differs from the manifest.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct FileDeviation {
    /// Path relative to the release.
    pub path: String,
    /// How it differs.
    pub kind: DeviationKind,
    /// What the manifest says, for people.
    pub expected: String,
    /// What was found, for people.
    pub found: String,
    /// The digest of the bytes found, where a regular file of bearable size lies there: what an acceptance is bound to.
    #[serde(default)]
    pub content: Option<Digest>,
    /// Who did it, as far as the node can tell: of an added file, whose it is. Who changed a file that was there, the kernel
    /// tells nobody afterwards.
    #[serde(default)]
    pub by: Option<String>,
    /// How long ago the inode was changed when it was looked at. An age, so that no clocks of two machines are compared.
    #[serde(default)]
    pub changed: Option<Millis>,
}

/// The ways in which a file can differ.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum DeviationKind {
    /// Other content, or another type.
    File,
    /// Other permission bits.
    Mode,
    /// Another owner than the one the agent gave it.
    Owner,
    /// In the manifest, not on the disk.
    Missing,
    /// On the disk, not in the manifest.
    Extra,
    /// A link that points elsewhere.
    Symlink,
    /// It could not be read; never taken for unchanged.
    Unreadable,
}

/// One process, as /proc shows it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Process {
    /// Its number, for people: identity is (boot id, pid, start time).
    pub pid: u32,
    /// How it came to be counted.
    pub parentage: Parentage,
    /// How long it has been running.
    pub age: Millis,
    /// What it executes: read through /proc/PID/exe, so the inode that runs and not the path.
    pub executable: Mapped,
    /// Its other executable mappings that belong to the service's tree or whose file is gone.
    pub mappings: Vec<Mapped>,
    /// Files of the service's releases that it has open for reading, or mapped without executing them: an
    /// interpreter's jars and scripts, and whatever a program of any kind reads for as long as it runs.
    #[serde(default)]
    pub open: Vec<Mapped>,
    /// Where it is an interpreter: the files that its command line names and that are a release's. What is named was
    /// read once; only what is still open is known to be what runs.
    #[serde(default)]
    pub named: Vec<Mapped>,
    /// Descriptors that were not looked at, because there are more than a look has time for.
    #[serde(default)]
    pub open_omitted: u32,
    /// Executable mappings outside the release (libc and the like), counted; which they are is said once a service.
    pub outside: u32,
    /// The release named in its start environment.
    pub marker: Option<ReleaseId>,
    /// The release directory in which its working directory lies.
    pub cwd: Option<ReleaseId>,
    /// Its start against the activation of what `current` points to.
    pub started: Started,
    /// Its command line, shortened.
    pub command: String,
    /// Whose it is and what started it, for people; of strays only, and as far as the kernel tells.
    #[serde(default)]
    pub by: Option<String>,
}

/// How a process came to be counted with a service.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Parentage {
    /// It is the service's main process or belongs to its tree.
    Supervised,
    /// It runs something of the service's releases without belonging to the tree.
    Stray,
}

/// A file that a process executes, has mapped or has open.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Mapped {
    /// The path the kernel gives, without the ` (deleted)` mark.
    pub path: String,
    /// The digest of the very inode; None when it could not be read.
    pub digest: Option<Digest>,
    /// The release directory in which the path lies.
    pub release: Option<ReleaseId>,
    /// Whether the path lies below the service's root.
    pub place: Place,
    /// Whether the file still has this name.
    pub link: LinkState,
    /// Who brought it; asked of files of the distribution that a service's own processes run.
    #[serde(default)]
    pub owner: Owner,
}

/// Who brought a file that lies outside every release.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Owner {
    /// It was not asked, or the node cannot tell.
    #[default]
    Unknown,
    /// No package of the distribution.
    Nobody,
    /// This one.
    Package(Package),
}

/// An installed package of the distribution that has a file of this name.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Package {
    /// Its name, without an architecture.
    pub name: String,
    /// Its version, in the distribution's own writing.
    pub version: String,
    /// Whether the file has the very bytes that the package brought: not another version's, and not changed. None where
    /// that cannot be told.
    pub intact: Option<bool>,
}

impl Mapped {
    /// Whether it lies where only packages of the distribution are installed. A library or interpreter there that was
    /// replaced under a running process is the distribution's concern, not the release's.
    pub fn is_distribution(&self) -> bool {
        self.place == Place::Outside && lies_with_packages(&self.path)
    }
}

/// Whether a path lies where the file system hierarchy has what packages install; `/usr/local` is for what they do not.
pub fn lies_with_packages(path: &str) -> bool {
    const INSTALLED: [&str; 6] = ["/usr/", "/lib/", "/lib64/", "/lib32/", "/bin/", "/sbin/"];
    INSTALLED.iter().any(|folder| path.starts_with(folder)) && !path.starts_with("/usr/local/")
}

/// Where a mapped file lies.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Place {
    /// Below the service's root.
    Inside,
    /// Elsewhere: an interpreter, the distribution's libraries.
    Outside,
}

/// Whether a mapped file still has its name.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum LinkState {
    /// It has.
    Linked,
    /// It was deleted or renamed over.
    Deleted,
}

/// A process's start against the activation of the current release.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Started {
    /// Started after the switch.
    AfterActivation,
    /// Started before it: it cannot run what was put in place later.
    BeforeActivation,
    /// Not known.
    Unknown,
}

/// What the last probe of a service said.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "state", rename_all = "kebab-case")]
pub enum Health {
    /// It answered as it should.
    Healthy,
    /// It did not.
    Unhealthy {
        /// What it did instead.
        reason: String,
    },
    /// It has not been asked: no probe is declared and no process runs, or the first answer is outstanding.
    Unknown,
}
