//! Running programs to their end within a limit, and ending whatever they left behind.
//!
//! This program adopts the orphans below it (`PR_SET_CHILD_SUBREAPER`): daemons, connection masters and services that
//! detach themselves stay its descendants, so that their CPU time can be counted and none can outlive it.

use std::fs::File;
use std::io::{Read as _, Seek as _, SeekFrom};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context as _, bail};
use nix::sys::signal::{Signal, kill};
use nix::sys::wait::{Id, WaitPidFlag, WaitStatus, waitid, waitpid};
use nix::unistd::Pid;

use crate::{interrupt, procfs};

/// How often an end is looked for: well below a thousandth of what is measured.
const LOOK: Duration = Duration::from_millis(1);
/// How long a process may take to end after SIGTERM.
const PATIENCE: Duration = Duration::from_secs(3);
/// How much of a program's output an error repeats.
const TAIL_BYTES: u64 = 3_000;

/// How one program ran.
#[derive(Debug)]
pub struct Ran {
    /// From before it was started until its end was seen.
    pub wall: Duration,
    /// How it ended.
    pub status: ExitStatus,
}

/// Everything that descends from this program; ended when it is dropped.
#[derive(Debug)]
pub struct Descendants(());

impl Descendants {
    /// Adopts, from now on, every descendant whose parent ends.
    ///
    /// # Errors
    /// The system refuses.
    pub fn adopt() -> anyhow::Result<Self> {
        nix::sys::prctl::set_child_subreaper(true).context("cannot adopt orphans (PR_SET_CHILD_SUBREAPER)")?;
        Ok(Self(()))
    }
}

impl Drop for Descendants {
    fn drop(&mut self) {
        let me = own_pid();
        // The dead count too, until they have been waited for: the first thread of a program can have ended while
        // others still work, and what nobody waits for is left to somebody else.
        let there = || {
            let family = procfs::family(&procfs::all(), &[me]);
            family.into_iter().filter(|member| member.pid != me).collect::<Vec<_>>()
        };
        // A parent that is told to end may end its children itself; whoever is left after that is killed.
        for (signal, patience) in [(Signal::SIGTERM, PATIENCE), (Signal::SIGKILL, PATIENCE)] {
            let until = Instant::now() + patience;
            let mut told = std::collections::BTreeSet::new();
            loop {
                reap_orphans(None);
                let left = there();
                if left.is_empty() {
                    return;
                }
                for member in left.iter().filter(|member| told.insert((member.pid, member.started))) {
                    // It may have ended in between, which is what was wanted.
                    let _ = kill(Pid::from_raw(member.pid), signal);
                }
                if Instant::now() >= until {
                    break;
                }
                std::thread::sleep(LOOK);
            }
        }
    }
}

/// This program's pid.
pub fn own_pid() -> i32 {
    nix::unistd::getpid().as_raw()
}

/// The children of this program that have not ended.
pub fn own_children() -> Vec<i32> {
    procfs::children(&procfs::all(), own_pid()).iter().filter(|c| c.state != 'Z').map(|c| c.pid).collect()
}

/// Takes note of the end of one child, if it has ended.
pub fn reap(pid: i32) {
    // Whether it has is seen in /proc.
    let _ = waitpid(Pid::from_raw(pid), Some(WaitPidFlag::WNOHANG));
}

/// Waits for adopted processes that have ended, except for `except`, whose end somebody else asks for.
fn reap_orphans(except: Option<Pid>) {
    let flags = WaitPidFlag::WEXITED | WaitPidFlag::WNOHANG | WaitPidFlag::WNOWAIT;
    while let Ok(WaitStatus::Exited(pid, _) | WaitStatus::Signaled(pid, _, _)) = waitid(Id::All, flags) {
        if Some(pid) == except {
            return;
        }
        if waitpid(pid, None).is_err() {
            return;
        }
    }
}

/// A program that is killed, if it still runs, when nobody waits for it any more.
struct Running(Child);

impl Drop for Running {
    fn drop(&mut self) {
        // After its end both are refused, and nothing was to be done.
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// Runs `command` to its end; what it says goes to the file `log`.
///
/// # Errors
/// It cannot be started, it takes longer than `limit` (then it is killed), or this program is asked to stop.
pub fn run(command: &mut Command, log: &Path, limit: Duration) -> anyhow::Result<Ran> {
    let program = command.get_program().to_string_lossy().into_owned();
    let out = File::create(log).with_context(|| format!("cannot write {}", log.display()))?;
    let err = out.try_clone().with_context(|| format!("cannot write {}", log.display()))?;
    command.stdin(Stdio::null()).stdout(out).stderr(err);
    let begin = Instant::now();
    let mut running = Running(command.spawn().with_context(|| format!("cannot start {program}"))?);
    let pid = i32::try_from(running.0.id()).map(Pid::from_raw).ok();
    loop {
        if let Some(status) = running.0.try_wait().with_context(|| format!("cannot wait for {program}"))? {
            return Ok(Ran { wall: begin.elapsed(), status });
        }
        // A shell that waits until a service is gone must not see its remains.
        reap_orphans(pid);
        interrupt::check()?;
        if begin.elapsed() >= limit {
            bail!("{program} did not end within {} s\n{}", limit.as_secs(), tail(log));
        }
        std::thread::sleep(LOOK);
    }
}

/// As [`run`], and anything but exit code 0 is an error that repeats the end of what the program said.
///
/// # Errors
/// Those of [`run`], and another exit code than 0.
pub fn succeed(command: &mut Command, log: &Path, limit: Duration) -> anyhow::Result<Duration> {
    let ran = run(command, log, limit)?;
    if !ran.status.success() {
        let line = shown(command);
        bail!("{line} failed ({})\n{}", ran.status, tail(log));
    }
    Ok(ran.wall)
}

/// The first line a program prints, for versions.
pub fn first_line(command: &mut Command) -> Option<String> {
    let output = command.stdin(Stdio::null()).output().ok().filter(|output| output.status.success())?;
    let text = String::from_utf8_lossy(&output.stdout).into_owned() + &String::from_utf8_lossy(&output.stderr);
    text.lines().next().map(|line| line.trim().to_owned())
}

/// Where a program is found: by its path, or in one of the directories of PATH.
pub fn find(program: &str) -> Option<PathBuf> {
    let path = std::env::var_os("PATH").unwrap_or_default();
    let places = std::env::split_paths(&path).map(|dir| dir.join(program));
    places.into_iter().find(|place| place.is_file())
}

fn shown(command: &Command) -> String {
    let words = std::iter::once(command.get_program()).chain(command.get_args());
    words.map(|word| word.to_string_lossy()).collect::<Vec<_>>().join(" ")
}

/// The end of what a program said.
pub fn tail(log: &Path) -> String {
    let read = || -> std::io::Result<Vec<u8>> {
        let mut file = File::open(log)?;
        let from = file.metadata()?.len().saturating_sub(TAIL_BYTES);
        file.seek(SeekFrom::Start(from))?;
        let mut bytes = Vec::new();
        file.read_to_end(&mut bytes)?;
        Ok(bytes)
    };
    String::from_utf8_lossy(&read().unwrap_or_default()).trim().to_owned()
}
