//! What a story does to a fleet behind its back: programs killed and started again, a node without power, another
//! database.

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::os::unix::process::CommandExt as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use nix::sys::signal::Signal;

use crate::fleet::{Fleet, Store};
use crate::process::Proc;
use crate::strays;
use crate::wait::until;

/// How a program was started, so that it can be started again the same way.
#[derive(Debug, Clone)]
pub(crate) struct Start {
    program: PathBuf,
    arguments: Vec<String>,
    environment: BTreeMap<String, String>,
    directory: PathBuf,
    log: PathBuf,
}

impl Start {
    /// The same start in another folder.
    pub(crate) fn moved(&self, from: &Path, to: &Path) -> Start {
        let (from, to) = (from.to_string_lossy(), to.to_string_lossy());
        let moved = |word: &String| word.replace(&*from, &to);
        Start {
            arguments: self.arguments.iter().map(moved).collect(),
            log: PathBuf::from(moved(&self.log.to_string_lossy().into_owned())),
            ..self.clone()
        }
    }
}

impl Fleet {
    /// The controller starts again on another database.
    pub(crate) fn use_store(&self, store: Store) {
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
        let at = arguments
            .iter()
            .position(|word| word == "--config")
            .unwrap_or_else(|| panic!("no --config in {arguments:?}"));
        PathBuf::from(&arguments[at + 1])
    }

    /// The controller's process.
    pub fn controller(&self) -> Option<Proc> {
        Proc::oldest(Proc::all().filter(|proc| proc.program() == "fleet-controller" && proc.speaks_of(&self.dir)))
    }

    /// The agent's process of a node.
    pub fn agent(&self, node: &str) -> Option<Proc> {
        let dir = self.node_dir(node);
        Proc::oldest(Proc::all().filter(|proc| {
            proc.program() == "fleet-agent"
                && proc.arguments().get(1).is_some_and(|word| word == "run")
                && proc.speaks_of(&dir)
        }))
    }

    /// Every process of a node but its agent: services and whoever watches over them.
    pub fn services(&self, node: &str) -> Vec<Proc> {
        let (dir, agent) = (self.node_dir(node), self.agent(node));
        let own = std::process::id().cast_signed();
        Proc::all()
            .filter(|proc| {
                Some(*proc) != agent && proc.pid != own && (proc.speaks_of(&dir) || proc.executable().starts_with(&dir))
            })
            .filter(|proc| !matches!(proc.program().as_str(), "fleetctl" | "fleet-controller"))
            .collect()
    }

    /// `kill -9` of the controller.
    #[track_caller]
    pub fn kill_controller(&self) {
        self.know("controller")
            .unwrap_or_else(|| panic!("the controller runs; {}", self.last_words("controller")))
            .kill();
    }

    /// Starts the controller again as it was started before. Does not wait for it.
    #[track_caller]
    pub fn start_controller(&self) -> i32 {
        self.start_again("controller")
    }

    /// `kill -9` of one agent; its service goes on.
    #[track_caller]
    pub fn kill_agent(&self, node: &str) {
        let name = format!("agent-{node}");
        self.know(&name).unwrap_or_else(|| panic!("the agent of {node} runs; {}", self.last_words(&name))).kill();
    }

    /// Starts one agent again as it was started before. Does not wait for it.
    #[track_caller]
    pub fn start_agent(&self, node: &str) -> i32 {
        self.start_again(&format!("agent-{node}"))
    }

    /// As if the node's machine lost its power: agent and service gone at once.
    #[track_caller]
    pub fn power_off(&self, node: &str) {
        if let Some(agent) = self.know(&format!("agent-{node}")) {
            agent.kill();
        }
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
        self.set_variable(&format!("agent-{node}"), variable, value);
    }

    /// Adds a variable to the start of a program (`controller`, `agent-n1`) that is stopped.
    pub fn set_variable(&self, name: &str, variable: &str, value: Option<&str>) {
        let mut starts = self.starts.lock().unwrap();
        let start = starts.get_mut(name).unwrap();
        match value {
            Some(value) => start.environment.insert(variable.to_owned(), value.to_owned()),
            None => start.environment.remove(variable),
        };
    }

    /// Remembers how a program (`controller`, `agent-n1`) was started, so that it can be started again also when it has
    /// ended by itself; None if it does not run.
    pub fn know(&self, name: &str) -> Option<Proc> {
        let (proc, log) = match name.strip_prefix("agent-") {
            Some(node) => (self.agent(node)?, self.node_dir(node).join("agent.log")),
            None => (self.controller()?, self.dir.join("log/controller.log")),
        };
        let mut starts = self.starts.lock().unwrap();
        // What a story has changed in the environment of one start must not be taken over into the next.
        if !starts.contains_key(name) {
            starts.insert(name.to_owned(), start_of(proc, &log)?);
        }
        Some(proc)
    }

    #[track_caller]
    fn start_again(&self, name: &str) -> i32 {
        let start = self
            .starts
            .lock()
            .unwrap()
            .get(name)
            .cloned()
            .unwrap_or_else(|| panic!("{name} was not stopped by this story"));
        let log = File::options().append(true).create(true).open(&start.log).unwrap();
        let mut command = Command::new(&start.program);
        command.args(&start.arguments).env_clear().envs(&start.environment).current_dir(&start.directory);
        command.stdin(Stdio::null()).stdout(log.try_clone().unwrap()).stderr(log).process_group(0);
        let child = command.spawn().unwrap_or_else(|error| panic!("cannot start {name} again: {error}"));
        let pid = child.id().cast_signed();
        self.children.lock().unwrap().push(child);
        // `spawn` returns when the old memory is let go of; the arguments are in the new one only a moment later, and
        // until then nobody can tell by /proc whose process this is.
        until(&format!("{name} is to be seen or has ended"), || {
            let seen = Proc::of(pid).is_some_and(|proc| proc.arguments().len() == start.arguments.len() + 1);
            (seen || self.exit_of(pid).is_some()).then_some(())
        });
        pid
    }

    /// What a program that should run and does not has said at the end.
    fn last_words(&self, name: &str) -> String {
        let Some(log) = self.starts.lock().unwrap().get(name).map(|start| start.log.clone()) else {
            return "it was never started by this story".to_owned();
        };
        let text = fs::read_to_string(&log).unwrap_or_else(|error| error.to_string());
        let lines: Vec<_> = text.lines().collect();
        format!("{} ends with:\n{}", log.display(), lines[lines.len().saturating_sub(15)..].join("\n"))
    }

    /// How a program started again has ended; None while it runs.
    pub fn exit_of(&self, pid: i32) -> Option<i32> {
        let mut children = self.children.lock().unwrap();
        let child = children.iter_mut().find(|child| child.id().cast_signed() == pid)?;
        child.try_wait().unwrap().map(crate::output::code)
    }
}

/// How a running process was started; None if it ended meanwhile: what /proc says of such a one is empty.
fn start_of(proc: Proc, log: &Path) -> Option<Start> {
    let program = proc.executable();
    // A rebuilt binary leaves the running one "(deleted)"; the new one has the same name.
    let program = PathBuf::from(program.to_string_lossy().trim_end_matches(" (deleted)"));
    let log = match proc.descriptor(2) {
        path if path.is_file() => path,
        _ => log.to_owned(),
    };
    let arguments = proc.arguments().into_iter().skip(1).collect();
    let start = Start { program, arguments, environment: proc.environment(), directory: proc.directory(), log };
    proc.alive().then_some(start)
}
