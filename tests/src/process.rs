//! Processes of this machine, known by number and start time, so that a number used again is never hit.

use std::collections::BTreeMap;
use std::fs;
use std::os::unix::ffi::OsStringExt as _;
use std::path::{Path, PathBuf};

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

use crate::wait::until;

/// One process.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Proc {
    /// Its number.
    pub pid: i32,
    /// Its start, in clock ticks since the machine's.
    start: u64,
}

impl Proc {
    /// The process with this number, unless it is gone or only its exit code is left. A process whose first thread has
    /// ended lives on while it has others: they still hold its ports and locks.
    pub fn of(pid: i32) -> Option<Proc> {
        let stat = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
        // The name in parentheses may hold anything; the fields after the last one are plain.
        let mut fields = stat[stat.rfind(')')? + 1..].split_ascii_whitespace();
        let state = fields.next()?;
        let start = fields.nth(18)?.parse().ok()?;
        let threads = || fs::read_dir(format!("/proc/{pid}/task")).into_iter().flatten().count();
        (!matches!(state, "Z" | "X") || threads() > 1).then_some(Proc { pid, start })
    }

    /// Every process of this machine.
    pub fn all() -> impl Iterator<Item = Proc> {
        let entries = fs::read_dir("/proc").into_iter().flatten().flatten();
        entries.filter_map(|entry| entry.file_name().to_str()?.parse().ok()).filter_map(Proc::of)
    }

    /// The oldest of some: what a program has just forked looks like the program itself until it executes something else.
    pub fn oldest(some: impl Iterator<Item = Proc>) -> Option<Proc> {
        some.min_by_key(|proc| (proc.start, proc.pid))
    }

    /// Whether it still runs.
    pub fn alive(&self) -> bool {
        Proc::of(self.pid) == Some(*self)
    }

    /// Sends a signal, if it is still this process.
    pub fn signal(&self, signal: Signal) {
        if self.alive() {
            let _gone = kill(Pid::from_raw(self.pid), signal);
        }
    }

    /// Kills it and waits until it is gone.
    #[track_caller]
    pub fn kill(&self) {
        self.signal(Signal::SIGKILL);
        until(&format!("process {} is gone after SIGKILL", self.pid), || (!self.alive()).then_some(()));
    }

    /// Its arguments.
    pub fn arguments(&self) -> Vec<String> {
        split(&fs::read(format!("/proc/{}/cmdline", self.pid)).unwrap_or_default())
    }

    /// Its environment at its start.
    pub fn environment(&self) -> BTreeMap<String, String> {
        let lines = split(&fs::read(format!("/proc/{}/environ", self.pid)).unwrap_or_default());
        lines.iter().filter_map(|line| line.split_once('=')).map(|(k, v)| (k.to_owned(), v.to_owned())).collect()
    }

    /// The path of what it executes, as the kernel says it: with ` (deleted)` if that is so.
    pub fn executable(&self) -> PathBuf {
        fs::read_link(format!("/proc/{}/exe", self.pid)).unwrap_or_default()
    }

    /// The name of the program it was started from, also when the file is gone.
    pub fn program(&self) -> String {
        let path = self.executable().into_os_string().into_vec();
        let path = String::from_utf8_lossy(&path).trim_end_matches(" (deleted)").to_owned();
        Path::new(&path).file_name().unwrap_or_default().to_string_lossy().into_owned()
    }

    /// Its working directory.
    pub fn directory(&self) -> PathBuf {
        fs::read_link(format!("/proc/{}/cwd", self.pid)).unwrap_or_default()
    }

    /// What one of its descriptors is.
    pub fn descriptor(&self, number: u32) -> PathBuf {
        fs::read_link(format!("/proc/{}/fd/{number}", self.pid)).unwrap_or_default()
    }

    /// Whether its arguments, working directory or environment speak of something below `dir`.
    pub fn speaks_of(&self, dir: &Path) -> bool {
        let dir = dir.to_string_lossy();
        let below = |text: &str| {
            text.match_indices(&*dir)
                .any(|(at, found)| matches!(text.as_bytes().get(at + found.len()), None | Some(b'/')))
        };
        self.arguments().iter().any(|word| below(word))
            || below(&self.directory().to_string_lossy())
            || self.environment().values().any(|value| below(value))
    }
}

fn split(bytes: &[u8]) -> Vec<String> {
    bytes
        .split(|b| *b == 0)
        .filter(|part| !part.is_empty())
        .map(|part| String::from_utf8_lossy(part).into_owned())
        .collect()
}
