//! One development fleet for one story: started by `fleetctl dev up` in a folder of its own, broken and healed from
//! outside, and gone without a trace at the end.

use std::collections::BTreeMap;
use std::ffi::OsStr;
use std::fs::{self, File};
use std::os::unix::fs::PermissionsExt as _;
use std::os::unix::process::CommandExt as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::Mutex;

use nix::sys::signal::Signal;
use serde_json::Value;
use tempfile::TempDir;

use crate::output::Output;
use crate::process::Proc;
use crate::stream::Stream;
use crate::wait::until;
use crate::workspace::Workspace;
use crate::{ports, strays};

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

/// How a program was started, so that it can be started again the same way.
#[derive(Debug, Clone)]
struct Start {
    program: PathBuf,
    arguments: Vec<String>,
    environment: BTreeMap<String, String>,
    directory: PathBuf,
    log: PathBuf,
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
    starts: Mutex<BTreeMap<String, Start>>,
    /// What the rig itself has started again.
    children: Mutex<Vec<Child>>,
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
        let (agents, base, controller) = (self.agents.to_string(), self.port_base.to_string(), self.controller_port.to_string());
        self.ctl(["dev", "up", "--agents", &agents, "--dir", &dir, "--port-base", &base, "--controller-port", &controller])
    }

    /// The controller starts again on another database.
    fn use_store(&self, store: Store) {
        self.kill_controller();
        let path = self.controller_config();
        let text = fs::read_to_string(&path).unwrap();
        let mut table: toml::Table = toml::from_str(&text).unwrap();
        table.insert("store".into(), store.as_str().into());
        fs::write(&path, toml::to_string(&table).unwrap()).unwrap();
        self.start_controller();
        self.until_ready();
    }

    /// The file that the controller was started with.
    pub fn controller_config(&self) -> PathBuf {
        let starts = self.starts.lock().unwrap();
        let arguments = match starts.get("controller") {
            Some(start) => start.arguments.clone(),
            None => self.controller().unwrap().arguments(),
        };
        let at = arguments.iter().position(|word| word == "--config").unwrap_or_else(|| panic!("no --config in {arguments:?}"));
        PathBuf::from(&arguments[at + 1])
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
        for (variable, folder) in [("XDG_CONFIG_HOME", "config"), ("XDG_DATA_HOME", "data"), ("XDG_STATE_HOME", "state"), ("XDG_CACHE_HOME", "cache")] {
            command.env(variable, home.join(folder));
        }
        command.env("FLEET_DEV_DIR", &self.dir);
        command
    }

    /// Runs `fleetctl` to its end.
    pub fn ctl<S: AsRef<OsStr>>(&self, arguments: impl IntoIterator<Item = S>) -> Output {
        Output::of(self.command("fleetctl").args(arguments))
    }

    /// Starts `fleetctl` and reads along.
    pub fn ctl_stream<S: AsRef<OsStr>>(&self, arguments: impl IntoIterator<Item = S>) -> Stream {
        Stream::start(self.command("fleetctl").args(arguments))
    }

    /// Deploys a folder to its end, with more flags after it.
    pub fn deploy(&self, release: &Path, flags: &[&str]) -> Output {
        let mut command = self.command("fleetctl");
        Output::of(command.arg("deploy").arg(release).arg("--yes").args(flags))
    }

    /// Starts to deploy a folder and reads along its events.
    pub fn deploy_stream(&self, release: &Path, flags: &[&str]) -> Stream {
        let mut command = self.command("fleetctl");
        Stream::start(command.arg("deploy").arg(release).args(["--yes", "-o", "jsonl"]).args(flags))
    }

    /// `verify -o json`.
    pub fn verify(&self) -> Output {
        self.ctl(["verify", "-o", "json"])
    }

    /// `drift -o json`: what was found without anyone asking.
    pub fn drift(&self) -> Output {
        self.ctl(["drift", "-o", "json"])
    }

    /// The finding of this kind on this node in the report as it is now.
    pub fn finding(&self, node: &str, kind: &str) -> Option<Value> {
        let drift = self.drift();
        if drift.code != 2 {
            return None;
        }
        let report = drift.json();
        report["items"].as_array()?.iter().find(|item| item["node"] == node && item["kind"] == kind).cloned()
    }

    /// A node as `nodes list` says it.
    pub fn node_state(&self, node: &str) -> String {
        let list = self.ctl(["nodes", "list", "-o", "json"]);
        if list.code != 0 {
            return String::new();
        }
        let items = list.json()["items"].clone();
        let found = items.as_array().into_iter().flatten().find(|item| item["name"] == node);
        found.and_then(|item| item["state"].as_str()).unwrap_or_default().to_owned()
    }

    /// Waits until the controller says that this node is in this state.
    #[track_caller]
    pub fn until_state(&self, node: &str, state: &str) {
        until(&format!("{node} is {state}"), || (self.node_state(node) == state).then_some(()));
    }

    /// Waits until every node is ready.
    #[track_caller]
    pub fn until_ready(&self) {
        for node in self.nodes() {
            self.until_state(&node, "ready");
        }
    }

    /// Waits until a fresh round finds every node proven, and returns that report.
    #[track_caller]
    pub fn until_verified(&self) -> Value {
        until("verify exits 0", || {
            let verify = self.verify();
            (verify.code == 0).then(|| verify.json())
        })
    }

    /// The controller's process.
    pub fn controller(&self) -> Option<Proc> {
        Proc::all().find(|proc| proc.program() == "fleet-controller" && proc.speaks_of(&self.dir))
    }

    /// The agent's process of a node.
    pub fn agent(&self, node: &str) -> Option<Proc> {
        let dir = self.node_dir(node);
        Proc::all().find(|proc| proc.program() == "fleet-agent" && proc.arguments().get(1).is_some_and(|word| word == "run") && proc.speaks_of(&dir))
    }

    /// Every process of a node but its agent: services and whoever watches over them.
    pub fn services(&self, node: &str) -> Vec<Proc> {
        let (dir, agent) = (self.node_dir(node), self.agent(node));
        let own = std::process::id().cast_signed();
        Proc::all().filter(|proc| Some(*proc) != agent && proc.pid != own && (proc.speaks_of(&dir) || proc.executable().starts_with(&dir))).filter(|proc| !matches!(proc.program().as_str(), "fleetctl" | "fleet-controller")).collect()
    }

    /// `kill -9` of the controller.
    #[track_caller]
    pub fn kill_controller(&self) {
        let proc = self.controller().expect("the controller runs");
        self.remember("controller", proc, &self.dir.join("log/controller.log"));
        proc.kill();
    }

    /// Starts the controller again as it was started before. Does not wait for it.
    #[track_caller]
    pub fn start_controller(&self) -> i32 {
        self.start_again("controller")
    }

    /// `kill -9` of one agent; its service goes on.
    #[track_caller]
    pub fn kill_agent(&self, node: &str) {
        let proc = self.agent(node).unwrap_or_else(|| panic!("the agent of {node} runs"));
        self.remember(&format!("agent-{node}"), proc, &self.node_dir(node).join("agent.log"));
        proc.kill();
    }

    /// Starts one agent again as it was started before. Does not wait for it.
    #[track_caller]
    pub fn start_agent(&self, node: &str) -> i32 {
        self.start_again(&format!("agent-{node}"))
    }

    /// As if the node's machine lost its power: agent and service gone at once.
    #[track_caller]
    pub fn power_off(&self, node: &str) {
        self.kill_agent(node);
        until(&format!("everything on {node} is gone"), || {
            let left = self.services(node);
            left.iter().for_each(|proc| proc.signal(Signal::SIGKILL));
            left.is_empty().then_some(())
        });
    }

    /// Starts a process by hand that nobody supervises: no environment, a session of its own, twice forked.
    #[track_caller]
    pub fn by_hand(&self, program: &Path, arguments: &[&str], directory: &Path) -> Proc {
        strays::start(program, arguments, directory)
    }

    /// Adds a variable to the start of an agent that is stopped.
    pub fn set_agent_variable(&self, node: &str, variable: &str, value: Option<&str>) {
        let mut starts = self.starts.lock().unwrap();
        let start = starts.get_mut(&format!("agent-{node}")).unwrap();
        match value {
            Some(value) => start.environment.insert(variable.to_owned(), value.to_owned()),
            None => start.environment.remove(variable),
        };
    }

    fn remember(&self, name: &str, proc: Proc, log: &Path) {
        let program = proc.executable();
        // A rebuilt binary leaves the running one "(deleted)"; the new one has the same name.
        let program = PathBuf::from(program.to_string_lossy().trim_end_matches(" (deleted)"));
        let log = match proc.descriptor(2) {
            path if path.is_file() => path,
            _ => log.to_owned(),
        };
        let arguments = proc.arguments().split_off(1);
        let start = Start { program, arguments, environment: proc.environment(), directory: proc.directory(), log };
        let mut starts = self.starts.lock().unwrap();
        // What a story has changed in the environment of one start must not be taken over into the next.
        starts.entry(name.to_owned()).or_insert(start);
    }

    #[track_caller]
    fn start_again(&self, name: &str) -> i32 {
        let start = self.starts.lock().unwrap().get(name).cloned().unwrap_or_else(|| panic!("{name} was not stopped by this story"));
        let log = File::options().append(true).create(true).open(&start.log).unwrap();
        let mut command = Command::new(&start.program);
        command.args(&start.arguments).env_clear().envs(&start.environment).current_dir(&start.directory);
        command.stdin(Stdio::null()).stdout(log.try_clone().unwrap()).stderr(log).process_group(0);
        let child = command.spawn().unwrap_or_else(|error| panic!("cannot start {name} again: {error}"));
        let pid = child.id().cast_signed();
        self.children.lock().unwrap().push(child);
        pid
    }

    /// How a program started again has ended; None while it runs.
    pub fn exit_of(&self, pid: i32) -> Option<i32> {
        let mut children = self.children.lock().unwrap();
        let child = children.iter_mut().find(|child| child.id().cast_signed() == pid)?;
        child.try_wait().unwrap().map(crate::output::code)
    }

    /// The last lines of every log of this fleet.
    pub fn logs(&self) -> String {
        let mut text = String::new();
        let mut folders = vec![self.dir.clone()];
        while let Some(folder) = folders.pop() {
            let mut entries: Vec<_> = fs::read_dir(&folder).into_iter().flatten().flatten().map(|entry| entry.path()).collect();
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
                    text += &format!("==> {} (last {} of {} lines)\n{}\n", path.display(), shown.len(), lines.len(), shown.join("\n"));
                }
            }
        }
        text
    }

    /// Processes that still belong to this fleet.
    fn left_over(&self) -> Vec<Proc> {
        let own = std::process::id().cast_signed();
        Proc::all().filter(|proc| proc.pid != own && (proc.speaks_of(&self.dir) || proc.executable().starts_with(&self.dir))).collect()
    }
}

impl Drop for Fleet {
    fn drop(&mut self) {
        let failed = std::thread::panicking();
        if failed {
            eprintln!("{}", self.logs());
        }
        let mut children = std::mem::take(&mut *self.children.lock().unwrap_or_else(std::sync::PoisonError::into_inner));
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
        if failed && std::env::var_os("FLEET_TESTS_KEEP").is_some()
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
