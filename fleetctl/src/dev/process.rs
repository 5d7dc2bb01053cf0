//! Processes of a development fleet: started detached, recorded by pid *and* start time, found in /proc, stopped.
//!
//! A pid alone names whoever has it now. A record is only believed if boot and start time still fit, so that a stale
//! one never leads to a signal for somebody else's process.

use std::fs::{File, OpenOptions};
use std::io;
use std::os::unix::process::CommandExt as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use serde::{Deserialize, Serialize};

use crate::failure::Failure;

/// How long a program may take to stop before it is killed: an agent finishes its step, the balancer its requests.
const STOP_PATIENCE: Duration = Duration::from_secs(15);
/// How often it is looked whether a process has gone.
const LOOK_INTERVAL: Duration = Duration::from_millis(20);
/// What agents put into the environment of every service they start.
const SERVICE_MARK: &str = "FLEET_SERVICE_ROOT=";

/// One process, by what cannot be reused: its pid together with when it started.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Identified {
    /// Its pid.
    pub pid: i32,
    /// When it started, in clock ticks since boot.
    pub started: u64,
    /// Of which boot.
    pub boot: String,
}

impl Identified {
    /// The process that has this pid now; none if there is none, or if it is dead and only waits for its parent. One
    /// whose first thread has ended lives on while it has others: they still hold its ports and locks.
    pub fn of(pid: i32) -> Option<Self> {
        let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
        let (state, started) = parse_stat(&stat)?;
        let threads = || std::fs::read_dir(format!("/proc/{pid}/task")).into_iter().flatten().count();
        if matches!(state, 'Z' | 'X') && threads() <= 1 {
            return None;
        }
        Some(Self { pid, started, boot: boot_id() })
    }

    /// Whether it still lives.
    pub fn is_alive(&self) -> bool {
        Self::of(self.pid).as_ref() == Some(self)
    }

    /// Sends a signal, if it still lives.
    pub fn signal(&self, signal: Signal) {
        if self.is_alive() {
            // It may end in between; then there is nothing left to do.
            let _ = kill(Pid::from_raw(self.pid), signal);
        }
    }

    /// Asks it to stop, waits, and kills it if it does not.
    pub fn stop(&self) {
        self.signal(Signal::SIGTERM);
        if !self.wait_gone(STOP_PATIENCE) {
            self.kill();
        }
    }

    /// Kills it, as a power loss would, and waits until it has gone.
    pub fn kill(&self) {
        self.signal(Signal::SIGKILL);
        // Only a process in uninterruptible sleep survives; waiting longer would not help.
        self.wait_gone(STOP_PATIENCE);
    }

    fn wait_gone(&self, patience: Duration) -> bool {
        let until = Instant::now() + patience;
        while self.is_alive() {
            if Instant::now() >= until {
                return false;
            }
            std::thread::sleep(LOOK_INTERVAL);
        }
        true
    }
}

/// State and start time from the text of `/proc/PID/stat`. The name in parentheses may itself hold parentheses and
/// blanks, so what follows is counted from the last one (proc(5): fields 3 and 22).
fn parse_stat(stat: &str) -> Option<(char, u64)> {
    let mut fields = stat.rsplit_once(')')?.1.split_ascii_whitespace();
    let state = fields.next()?.chars().next()?;
    Some((state, fields.nth(18)?.parse().ok()?))
}

fn boot_id() -> String {
    std::fs::read_to_string("/proc/sys/kernel/random/boot_id").unwrap_or_default().trim().to_owned()
}

/// The record of one program of the fleet.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PidFile {
    path: PathBuf,
}

impl PidFile {
    /// The record of `name` in `dir`.
    pub fn new(dir: &Path, name: &str) -> Self {
        Self { path: dir.join(format!("{name}.pid")) }
    }

    /// The process on record, if it is still that one.
    pub fn running(&self) -> Option<Identified> {
        let text = std::fs::read_to_string(&self.path).ok()?;
        let on_record: Identified = toml::from_str(&text).ok()?;
        on_record.is_alive().then_some(on_record)
    }

    /// Puts a process on record.
    ///
    /// # Errors
    /// The file cannot be written.
    pub fn save(&self, process: &Identified) -> io::Result<()> {
        // Beside and moved over: whoever reads it meanwhile sees the old record or the new one, never half of one.
        let beside = self.path.with_extension("pid.new");
        std::fs::write(&beside, toml::to_string(process).unwrap_or_default())?;
        std::fs::rename(&beside, &self.path)
    }

    /// Forgets it.
    pub fn remove(&self) {
        // A record that is not there is as good as removed.
        let _ = std::fs::remove_file(&self.path);
    }
}

/// Starts a program that outlives this one and its terminal: its own session, no input, output appended to `log`.
///
/// # Errors
/// 1 if the program or its log cannot be opened; the process ends at once is for the caller to notice.
pub fn start(command: &mut Command, log: &Path, record: &PidFile) -> Result<Identified, Failure> {
    let program = command.get_program().to_string_lossy().into_owned();
    let cannot = |e: io::Error| Failure::failed(format!("cannot start {program}")).caused_by(&e);
    let out = OpenOptions::new().create(true).append(true).open(log).map_err(cannot)?;
    let err = out.try_clone().map_err(cannot)?;
    command.stdin(Stdio::null()).stdout(out).stderr(err);
    detach(command);
    let child = command.spawn().map_err(cannot)?;
    let pid = i32::try_from(child.id()).unwrap_or(i32::MAX);
    let gone = || {
        Failure::failed(format!("{program} ended at once"))
            .because(tail(log))
            .help(format!("its log: {}", log.display()))
    };
    let process = Identified::of(pid).ok_or_else(gone)?;
    record.save(&process).map_err(cannot)?;
    // Reap it if it ends while this program still runs, so that it is not mistaken for alive.
    std::thread::spawn(move || {
        let mut child = child;
        let _ = child.wait();
    });
    Ok(process)
}

#[allow(unsafe_code)]
fn detach(command: &mut Command) {
    // SAFETY: between fork and exec only setsid(2) is called, which is async-signal-safe; nothing is allocated and no
    // lock is taken.
    unsafe {
        command.pre_exec(|| nix::unistd::setsid().map(drop).map_err(io::Error::from));
    }
}

/// The last lines of a log, for an error message.
pub fn tail(log: &Path) -> String {
    use std::io::{Read as _, Seek as _, SeekFrom};
    const BYTES: u64 = 2_048;
    const LINES: usize = 10;
    let read = || -> io::Result<Vec<u8>> {
        let mut file = File::open(log)?;
        let from = file.metadata()?.len().saturating_sub(BYTES);
        file.seek(SeekFrom::Start(from))?;
        let mut bytes = Vec::new();
        file.read_to_end(&mut bytes)?;
        Ok(bytes)
    };
    let text = String::from_utf8_lossy(&read().unwrap_or_default()).into_owned();
    let lines: Vec<&str> = text.lines().collect();
    let last =
        lines[lines.len().saturating_sub(LINES)..].iter().map(|l| crate::output::text::plain(l)).collect::<Vec<_>>();
    if last.is_empty() { "its log is empty".to_owned() } else { last.join("\n") }
}

/// Every process that runs for a node below `root`: a service its agent started (by its mark), or a program that was
/// started by hand from there (by its executable). Agents themselves and this program are not among them.
pub fn services_below(root: &Path) -> Vec<Identified> {
    let own = std::process::id();
    let Ok(entries) = std::fs::read_dir("/proc") else { return Vec::new() };
    entries
        .flatten()
        .filter_map(|entry| entry.file_name().to_str()?.parse::<i32>().ok())
        .filter(|&pid| u32::try_from(pid) != Ok(own))
        .filter(|&pid| is_marked(pid, root) || is_executable_below(pid, root))
        .filter_map(Identified::of)
        .collect()
}

fn is_marked(pid: i32, root: &Path) -> bool {
    let Ok(environment) = std::fs::read(format!("/proc/{pid}/environ")) else { return false };
    environment
        .split(|&b| b == 0)
        .filter_map(|entry| std::str::from_utf8(entry).ok())
        .any(|entry| entry.strip_prefix(SERVICE_MARK).is_some_and(|place| Path::new(place).starts_with(root)))
}

fn is_executable_below(pid: i32, root: &Path) -> bool {
    // A removed executable's link ends in " (deleted)", which leaves its beginning as it is.
    std::fs::read_link(format!("/proc/{pid}/exe")).is_ok_and(|path| path.starts_with(root))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn a_name_with_parentheses_does_not_move_the_fields() {
        let stat = "42 (a) b (c) S 1 42 42 0 -1 4194560 100 0 0 0 1 2 0 0 20 0 1 0 987654 1000 50 18446744073709551615";
        assert_eq!(parse_stat(stat), Some(('S', 987_654)));
        assert_eq!(parse_stat("garbage"), None);
    }

    #[test]
    fn a_record_is_only_believed_while_its_process_lives() {
        let dir = tempfile::tempdir().unwrap();
        let record = PidFile::new(dir.path(), "x");
        assert_eq!(record.running(), None);
        let me = Identified::of(i32::try_from(std::process::id()).unwrap()).unwrap();
        record.save(&me).unwrap();
        assert_eq!(record.running(), Some(me.clone()));
        // The same pid, given to a later process or in another boot.
        record.save(&Identified { started: me.started + 1, ..me.clone() }).unwrap();
        assert_eq!(record.running(), None);
        record.save(&Identified { boot: "another".into(), ..me }).unwrap();
        assert_eq!(record.running(), None);
        std::fs::write(dir.path().join("x.pid"), "pid = garbage").unwrap();
        assert_eq!(record.running(), None);
    }

    #[test]
    fn a_stale_record_never_leads_to_a_signal() {
        let mut bystander = Command::new("sleep").arg("600").spawn().unwrap();
        let pid = i32::try_from(bystander.id()).unwrap();
        let real = Identified::of(pid).unwrap();
        let stale = Identified { started: real.started + 7, ..real.clone() };
        stale.stop();
        stale.kill();
        assert!(real.is_alive(), "the bystander must live");
        real.signal(Signal::SIGKILL);
        bystander.wait().unwrap();
        assert!(!real.is_alive());
    }

    #[test]
    fn a_started_program_is_detached_recorded_and_stopped() {
        let dir = tempfile::tempdir().unwrap();
        let record = PidFile::new(dir.path(), "sleeper");
        let process = start(Command::new("sleep").arg("600"), &dir.path().join("log"), &record).unwrap();
        assert_eq!(record.running(), Some(process.clone()));
        assert_eq!(
            nix::unistd::getsid(Some(Pid::from_raw(process.pid))).unwrap().as_raw(),
            process.pid,
            "it leads its own session"
        );
        process.stop();
        assert_eq!(record.running(), None);
    }

    #[test]
    fn services_are_found_by_mark_and_by_executable() {
        let dir = tempfile::tempdir().unwrap();
        let root = dir.path().canonicalize().unwrap();
        let program = root.join("sleep");
        // By another program: a file that this one has open for writing could be inherited by what another test starts
        // in that moment, and is then refused as "text file busy".
        assert!(Command::new("cp").arg("/bin/sleep").arg(&program).status().unwrap().success());
        let mut by_executable = Command::new(&program).arg("600").spawn().unwrap();
        let mut by_mark =
            Command::new("sleep").arg("600").env("FLEET_SERVICE_ROOT", root.join("services/shop")).spawn().unwrap();
        let mut elsewhere =
            Command::new("sleep").arg("600").env("FLEET_SERVICE_ROOT", "/somewhere/else").spawn().unwrap();
        // A process that was just started shows its environment a moment after it runs.
        let shows = |child: &std::process::Child| {
            std::fs::read(format!("/proc/{}/environ", child.id())).is_ok_and(|text| !text.is_empty())
        };
        while ![&by_executable, &by_mark, &elsewhere].into_iter().all(shows) {
            std::thread::yield_now();
        }
        let mut found: Vec<u32> = services_below(&root).iter().map(|p| u32::try_from(p.pid).unwrap()).collect();
        found.sort_unstable();
        let mut expected = vec![by_executable.id(), by_mark.id()];
        expected.sort_unstable();
        assert_eq!(found, expected);
        for child in [&mut by_executable, &mut by_mark, &mut elsewhere] {
            child.kill().unwrap();
            child.wait().unwrap();
        }
    }
}
