//! The files that a service's life leaves beside its releases: what it printed, and when it was started and why.
//! Both are bounded: one earlier file is kept of each. Who asks for it, and when, is `execute` and `supervise`.

use std::fs::{File, OpenOptions};
use std::io::{self, Read, Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};

use fleet::{Generation, ReleaseId};
use serde::{Deserialize, Serialize};

use crate::durable::FileError;
use crate::platform::Running;

/// At this size, in bytes, a log becomes the earlier one: two of them hold days of an ordinary service.
const LARGEST: u64 = 16 << 20;
/// The same for the log of starts, which is read at every start: some 8,000 of them.
const LARGEST_STARTS: u64 = 1 << 20;
/// Lines shown of what a service printed before it failed.
const LINES: usize = 10;
/// Bytes read to find them.
const TAIL: u64 = 4 << 10;

/// Why a main process was started.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Cause {
    /// An order says so.
    Order,
    /// An order failed, and what was held before comes back.
    Undo,
    /// It had ended by itself.
    Crash,
    /// It was not running when the agent came up.
    Boot,
}

/// One line of `starts.log`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Start {
    /// Wall-clock time, for people.
    pub time: String,
    /// The order in force.
    pub generation: Generation,
    /// What was started.
    pub release: ReleaseId,
    /// The main process.
    pub pid: u32,
    /// Its start time in clock ticks since boot.
    pub start_ticks: u64,
    /// Why.
    pub cause: Cause,
}

/// The logs of one service.
#[derive(Debug, Clone)]
pub struct ServiceLog {
    directory: PathBuf,
}

impl ServiceLog {
    /// The logs in the agent's own directory below a service's root.
    pub fn new(directory: PathBuf) -> Self {
        Self { directory }
    }

    /// Where the service's output goes.
    pub fn output(&self) -> PathBuf {
        self.directory.join("service.log")
    }

    /// Makes room before a start; returns the length of the log so far, where the new process's lines begin.
    pub fn rotate(&self) -> u64 {
        for (path, largest) in [(self.output(), LARGEST), (self.starts(), LARGEST_STARTS)] {
            if length(&path) > largest
                && let Err(cause) = std::fs::rename(&path, path.with_extension("log.1"))
            {
                tracing::warn!("cannot rotate {}: {cause}", path.display());
            }
        }
        length(&self.output())
    }

    /// Whether the output has outgrown its limit while the service runs.
    pub fn is_oversized(&self) -> bool {
        length(&self.output()) > LARGEST
    }

    /// Makes the end of the output the earlier file, and empties it. The service goes on writing to the same file, so
    /// it cannot be renamed; what it prints between the two is lost. Blocking.
    ///
    /// # Errors
    /// The file and the system's answer. If only the copy failed, the output is empty all the same: on a full disk its
    /// space is wanted more than its lines.
    pub fn cut(&self) -> Result<(), FileError> {
        let (output, earlier) = (self.output(), self.output().with_extension("log.1"));
        let copy = || -> io::Result<()> {
            let mut file = File::open(&output)?;
            file.seek(SeekFrom::Start(length(&output).saturating_sub(LARGEST)))?;
            io::copy(&mut file.take(LARGEST), &mut File::create(&earlier)?).map(drop)
        };
        let copied = copy().map_err(FileError::at("keep the earlier lines in", &earlier));
        if copied.is_err() {
            let _ = std::fs::remove_file(&earlier);
        }
        let emptied = OpenOptions::new().write(true).open(&output).and_then(|file| file.set_len(0));
        emptied.map_err(FileError::at("empty", &output))?;
        copied
    }

    /// The last lines that were printed after `from`, without control characters.
    pub fn tail(&self, from: u64) -> Option<String> {
        let mut file = File::open(self.output()).ok()?;
        let end = file.metadata().ok()?.len();
        file.seek(SeekFrom::Start(end.saturating_sub(TAIL).max(from.min(end)))).ok()?;
        let mut bytes = Vec::new();
        file.take(TAIL).read_to_end(&mut bytes).ok()?;
        let text = String::from_utf8_lossy(&bytes);
        let mut lines: Vec<String> =
            text.lines().rev().filter(|line| !line.trim().is_empty()).take(LINES).map(clean).collect();
        lines.reverse();
        (!lines.is_empty()).then(|| lines.join("\n"))
    }

    /// Notes a start, once: the same process is not counted twice however often this is called.
    ///
    /// # Errors
    /// The file and the system's answer.
    pub fn note(&self, start: &Start) -> Result<(), FileError> {
        let path = self.starts();
        if self.noted(start.pid, start.start_ticks) {
            return Ok(());
        }
        let mut line = serde_json::to_vec(start).map_err(io::Error::other).map_err(FileError::at("encode", &path))?;
        line.push(b'\n');
        let append = || -> io::Result<()> {
            let mut file = OpenOptions::new().append(true).create(true).open(&path)?;
            file.write_all(&line)?;
            file.sync_data()
        };
        append().map_err(FileError::at("append to", &path))
    }

    fn noted(&self, pid: u32, start_ticks: u64) -> bool {
        let text = std::fs::read_to_string(self.starts()).unwrap_or_default();
        text.lines()
            .rev()
            .filter_map(|line| serde_json::from_str::<Start>(line).ok())
            .any(|start| start.pid == pid && start.start_ticks == start_ticks)
    }

    fn starts(&self) -> PathBuf {
        self.directory.join("starts.log")
    }
}

/// Adds what a service printed to a reason, if it printed anything.
pub fn with_tail(reason: String, running: Option<&Running>, tail: Option<String>) -> String {
    let pid = running.map(|running| format!(" (pid {})", running.pid)).unwrap_or_default();
    match tail {
        Some(tail) => format!("{reason}; last lines of its log{pid}:\n{tail}"),
        None => format!("{reason}; it printed nothing{pid}"),
    }
}

fn clean(line: &str) -> String {
    line.chars().take(400).map(|c| if c.is_control() && c != '\t' { '\u{fffd}' } else { c }).collect()
}

fn length(path: &Path) -> u64 {
    std::fs::metadata(path).map(|found| found.len()).unwrap_or(0)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn the_tail_is_of_this_start_and_harmless() {
        let dir = tempfile::tempdir().unwrap();
        let log = ServiceLog::new(dir.path().to_owned());
        assert_eq!(log.tail(0), None);
        std::fs::write(log.output(), "earlier\n").unwrap();
        let from = log.rotate();
        assert_eq!(log.tail(from), None);
        let many: String = (0..30).map(|n| format!("line {n}\u{1b}[31m\n")).collect();
        std::fs::write(log.output(), format!("earlier\n{many}")).unwrap();
        let tail = log.tail(from).unwrap();
        assert!(tail.starts_with("line 20\u{fffd}[31m\n") && tail.ends_with("line 29\u{fffd}[31m"), "{tail}");
        assert!(log.tail(1 << 40).is_none(), "a log that was cut has no such lines");
    }

    #[test]
    fn what_is_cut_keeps_its_end_and_goes_on_at_the_start() {
        let dir = tempfile::tempdir().unwrap();
        let log = ServiceLog::new(dir.path().to_owned());
        let mut service = OpenOptions::new().append(true).create(true).open(log.output()).unwrap();
        service.set_len(LARGEST).unwrap();
        assert!(!log.is_oversized());
        service.write_all(b"the last line\n").unwrap();
        assert!(log.is_oversized());
        log.cut().unwrap();
        let earlier = std::fs::read(dir.path().join("service.log.1")).unwrap();
        assert!(earlier.len() as u64 == LARGEST && earlier.ends_with(b"the last line\n"));
        service.write_all(b"after\n").unwrap();
        assert_eq!(std::fs::read(log.output()).unwrap(), b"after\n");
    }

    #[test]
    fn a_start_is_noted_once() {
        let dir = tempfile::tempdir().unwrap();
        let log = ServiceLog::new(dir.path().to_owned());
        let start = Start {
            time: "t".into(),
            generation: Generation(1),
            release: "r-aaaaaaaaaaaa".parse().unwrap(),
            pid: 4,
            start_ticks: 5,
            cause: Cause::Order,
        };
        log.note(&start).unwrap();
        log.note(&Start { time: "later".into(), ..start.clone() }).unwrap();
        log.note(&Start { start_ticks: 6, cause: Cause::Crash, ..start }).unwrap();
        assert_eq!(std::fs::read_to_string(dir.path().join("starts.log")).unwrap().lines().count(), 2);
    }
}
