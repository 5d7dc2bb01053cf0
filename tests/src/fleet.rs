//! One development fleet for one story: started by `fleetctl dev up` in a folder of its own, broken and healed from
//! outside, and gone without a trace at the end.

use std::collections::BTreeMap;
use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::sync::Mutex;

use nix::sys::signal::Signal;
use tempfile::TempDir;

use crate::breaking::Start;
use crate::output::Output;
use crate::ports;
use crate::process::Proc;
use crate::workspace::Workspace;

/// How many lines of each log are shown when a story fails.
const LOG_LINES: usize = 40;

/// Which database indexes the controller's store.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Store {
    /// sled.
    Sled,
    /// redb.
    Redb,
}

impl Store {
    /// The word of `controller.toml`.
    pub fn as_str(self) -> &'static str {
        match self {
            Store::Sled => "sled",
            Store::Redb => "redb",
        }
    }
}

/// What kind of fleet.
#[derive(Debug, Clone, Copy)]
pub struct Options {
    /// How many nodes.
    pub agents: u16,
    /// The controller's database.
    pub store: Store,
}

/// A fleet of real processes.
pub struct Fleet {
    /// Its folder.
    pub dir: PathBuf,
    /// The balancer's port; node i serves on `port_base + i`.
    pub port_base: u16,
    /// The controller's port.
    pub controller_port: u16,
    /// How many nodes.
    pub agents: u16,
    /// Starts of programs that a story has stopped, by name: `controller`, `agent-n1`.
    pub(crate) starts: Mutex<BTreeMap<String, Start>>,
    /// What the rig itself has started again.
    pub(crate) children: Mutex<Vec<Child>>,
    // The folder's owner; dropped last.
    home: Option<TempDir>,
}

impl Fleet {
    /// A fleet of `agents` nodes, ready.
    #[track_caller]
    pub fn up(agents: u16) -> Fleet {
        Fleet::with(Options { agents, store: Store::Sled })
    }

    /// A fleet as wished, ready.
    #[track_caller]
    pub fn with(options: Options) -> Fleet {
        let fleet = Fleet::planned(options.agents);
        fleet.bring_up().expect(0);
        if options.store != Store::Sled {
            fleet.use_store(options.store);
        }
        fleet
    }

    /// A fleet of `agents` nodes that all run version 1 of `hello`.
    #[track_caller]
    pub fn on_version_1(agents: u16) -> Fleet {
        let fleet = Fleet::up(agents);
        fleet.deploy(&Workspace::built().example("hello"), &["--segments", "1"]).expect(0);
        fleet
    }

    /// A folder and ports, and nothing started yet.
    pub fn planned(agents: u16) -> Fleet {
        Workspace::built();
        let home = tempfile::Builder::new().prefix("fleet-story-").tempdir().unwrap();
        // Services run as an unprivileged user where the tests run as root: it must be able to come in.
        fs::set_permissions(home.path(), fs::Permissions::from_mode(0o755)).unwrap();
        // One below the balancer's port for its commands, one above the nodes' for the controller, a few to spare.
        let first = ports::range(agents + 6);
        let dir = home.path().join("dev");
        fs::create_dir(&dir).unwrap();
        Fleet {
            dir,
            port_base: first + 1,
            controller_port: first + agents + 3,
            agents,
            starts: Mutex::default(),
            children: Mutex::default(),
            home: Some(home),
        }
    }

    /// Runs `dev up`.
    pub fn bring_up(&self) -> Output {
        let dir = self.dir.to_string_lossy();
        let (agents, base, controller) =
            (self.agents.to_string(), self.port_base.to_string(), self.controller_port.to_string());
        self.ctl([
            "dev",
            "up",
            "--agents",
            &agents,
            "--dir",
            &dir,
            "--port-base",
            &base,
            "--controller-port",
            &controller,
        ])
    }

    /// A folder beside the fleet's own, for what a story makes.
    pub fn folder(&self) -> PathBuf {
        self.dir.parent().unwrap().to_owned()
    }

    /// A release of `hello`: see [`crate::releases::hello`].
    pub fn release(&self, binary: &str, version: &str) -> PathBuf {
        crate::releases::hello(&self.folder(), binary, version, 8)
    }

    /// The names of the nodes.
    pub fn nodes(&self) -> Vec<String> {
        (1..=self.agents).map(|number| format!("n{number}")).collect()
    }

    /// The port of a node's service.
    pub fn port(&self, node: &str) -> u16 {
        self.port_base + node.strip_prefix('n').and_then(|number| number.parse::<u16>().ok()).unwrap()
    }

    /// A node's folder.
    pub fn node_dir(&self, node: &str) -> PathBuf {
        self.dir.join("nodes").join(node)
    }

    /// The root of a node's service: `releases/`, `current`, `.fleet/`.
    pub fn service_root(&self, node: &str, service: &str) -> PathBuf {
        self.node_dir(node).join("services").join(service)
    }

    /// Where `current` of a node's service leads.
    pub fn current(&self, node: &str, service: &str) -> PathBuf {
        self.service_root(node, service).join("current").canonicalize().unwrap()
    }

    /// A command of the workspace in this fleet's environment: nothing of the user's is touched.
    pub fn command(&self, program: &str) -> Command {
        let home = self.dir.parent().unwrap();
        let mut command = Command::new(Workspace::built().binary(program));
        command.env_clear().current_dir(home).stdin(Stdio::null());
        for kept in ["PATH", "LANG", "TMPDIR"] {
            if let Some(value) = std::env::var_os(kept) {
                command.env(kept, value);
            }
        }
        command.env("HOME", home).env("NO_COLOR", "1");
        for (variable, folder) in [
            ("XDG_CONFIG_HOME", "config"),
            ("XDG_DATA_HOME", "data"),
            ("XDG_STATE_HOME", "state"),
            ("XDG_CACHE_HOME", "cache"),
        ] {
            command.env(variable, home.join(folder));
        }
        command.env("FLEET_DEV_DIR", &self.dir);
        command
    }

    /// The last lines of every log of this fleet.
    pub fn logs(&self) -> String {
        let mut text = String::new();
        let mut folders = vec![self.dir.clone()];
        while let Some(folder) = folders.pop() {
            let mut entries: Vec<_> =
                fs::read_dir(&folder).into_iter().flatten().flatten().map(|entry| entry.path()).collect();
            entries.sort();
            for path in entries {
                // The store's log is not for people.
                if path.ends_with("controller/store") {
                    continue;
                }
                if path.is_dir() && !path.is_symlink() {
                    folders.push(path);
                } else if path.extension().is_some_and(|extension| extension == "log") {
                    let whole = String::from_utf8_lossy(&fs::read(&path).unwrap_or_default()).into_owned();
                    let lines: Vec<_> = whole.lines().collect();
                    let shown = &lines[lines.len().saturating_sub(LOG_LINES)..];
                    text += &format!(
                        "==> {} (last {} of {} lines)\n{}\n",
                        path.display(),
                        shown.len(),
                        lines.len(),
                        shown.join("\n")
                    );
                }
            }
        }
        text
    }

    /// Processes that still belong to this fleet.
    fn left_over(&self) -> Vec<Proc> {
        let own = std::process::id().cast_signed();
        Proc::all()
            .filter(|proc| proc.pid != own && (proc.speaks_of(&self.dir) || proc.executable().starts_with(&self.dir)))
            .collect()
    }
}

impl Drop for Fleet {
    fn drop(&mut self) {
        let failed = std::thread::panicking();
        if failed {
            eprintln!("{}", self.logs());
        }
        let mut children =
            std::mem::take(&mut *self.children.lock().unwrap_or_else(std::sync::PoisonError::into_inner));
        let touched = !children.is_empty();
        for child in &mut children {
            let _gone = child.kill();
            let _reaped = child.wait();
        }
        let down = self.ctl(["dev", "down", "--purge", "--dir", &self.dir.to_string_lossy()]);
        let left: Vec<_> = self.left_over().into_iter().map(|proc| (proc, proc.arguments())).collect();
        for (proc, _) in &left {
            proc.signal(Signal::SIGKILL);
        }
        if failed
            && std::env::var_os("FLEET_TESTS_KEEP").is_some()
            && let Some(home) = self.home.take()
        {
            eprintln!("kept: {}", home.keep().display());
        }
        if !failed && !touched {
            assert_eq!(down.code, 0, "{down}");
            assert!(left.is_empty(), "left over after `dev down --purge`: {left:?}");
        }
    }
}
