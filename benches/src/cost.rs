//! What one program costs from its start to its end: wall clock, CPU time and memory, as the kernel counts them.

use std::fs::File;
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context as _, bail};
use nix::libc;
use serde::Serialize;

use crate::{interrupt, process};

/// How often an end is looked for: well below a hundredth of what is measured.
const LOOK: Duration = Duration::from_micros(100);
/// Far above what anything here takes.
const LIMIT: Duration = Duration::from_secs(900);

/// One cost.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Cost {
    /// From before it was started until its end was seen, in seconds.
    pub wall_s: f64,
    /// User and system time, its own and of all children it has waited for, in seconds.
    pub cpu_s: f64,
    /// The most memory that any one of these processes had at a time, in KiB; None where no process was started for it.
    pub rss_kib: Option<u64>,
}

/// Runs a program to its end; what it says goes to the file `log`.
///
/// # Errors
/// It cannot be started, fails, or takes longer than anything should; or this program is asked to stop.
pub fn of(command: &mut Command, log: &Path) -> anyhow::Result<Cost> {
    let program = command.get_program().to_string_lossy().into_owned();
    let out = File::create(log).with_context(|| format!("cannot write {}", log.display()))?;
    // What it says for people must not be counted among what it says for programs.
    let err = File::create(log.with_extension("err")).context("cannot write its complaints")?;
    command.stdin(Stdio::null()).stdout(out).stderr(err);
    let begin = Instant::now();
    let child = command.spawn().with_context(|| format!("cannot start {program}"))?;
    let pid = i32::try_from(child.id())?;
    loop {
        if let Some((status, cost)) = ended(pid, begin)? {
            if status != 0 {
                let words = process::tail(&log.with_extension("err"));
                bail!("{program} failed (status {status:#x})\n{words}\n{}", process::tail(log));
            }
            return Ok(cost);
        }
        interrupt::check()?;
        if begin.elapsed() > LIMIT {
            bail!("{program} did not end within {} s", LIMIT.as_secs());
        }
        std::thread::sleep(LOOK);
    }
}

/// The wait status of a child and what it has cost, if it has ended.
fn ended(pid: i32, begin: Instant) -> anyhow::Result<Option<(i32, Cost)>> {
    let mut status = 0;
    // SAFETY: both pointers are to values of the right type that outlive the call; a zeroed rusage is a valid one.
    #[allow(unsafe_code)]
    let (waited, usage) = unsafe {
        let mut usage: libc::rusage = std::mem::zeroed();
        (libc::wait4(pid, &raw mut status, libc::WNOHANG, &raw mut usage), usage)
    };
    match waited {
        0 => Ok(None),
        _ if waited == pid => {
            let seconds = |time: libc::timeval| time.tv_sec as f64 + time.tv_usec as f64 / 1e6;
            let cost = Cost {
                wall_s: begin.elapsed().as_secs_f64(),
                cpu_s: seconds(usage.ru_utime) + seconds(usage.ru_stime),
                rss_kib: u64::try_from(usage.ru_maxrss).ok(),
            };
            Ok(Some((status, cost)))
        }
        _ => Err(std::io::Error::last_os_error()).context("cannot wait for a child"),
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn a_program_costs_something_and_its_failure_is_told() {
        let dir = tempfile::tempdir().unwrap();
        let log = dir.path().join("log");
        let loops = "i=0; while [ $i -lt 100000 ]; do i=$((i+1)); done; echo done";
        let cost = of(Command::new("sh").args(["-c", loops]), &log).unwrap();
        assert!(cost.cpu_s > 0.0 && cost.wall_s > 0.0 && cost.rss_kib.unwrap() > 100, "{cost:?}");
        assert_eq!(std::fs::read_to_string(&log).unwrap(), "done\n");
        let error = of(Command::new("sh").args(["-c", "echo so it is >&2; exit 3"]), &log).unwrap_err();
        assert!(error.to_string().contains("so it is"), "{error}");
    }
}
