//! Runs the command of a gate's test on this machine and judges how it ended. When to run one, and telling the
//! controller, is left to `commands::gates`.
//!
//! The command is run by `/bin/sh -c`, in a process group of its own, with nothing to read. Exit 0 passes. Exit 75
//! (`EX_TEMPFAIL` of sysexits.h: nobody can say now), a command that cannot be run (126 and 127 of the shell) and one
//! that does not end in time are *inconclusive*; every other ending fails. What still belongs to it when it has ended is
//! killed.

use std::io;
use std::os::fd::OwnedFd;
use std::os::unix::process::ExitStatusExt as _;
use std::path::PathBuf;
use std::process::{ExitStatus, Stdio};
use std::time::Duration;

use fleet::Millis;
use nix::sys::signal::{Signal, killpg};
use nix::unistd::Pid;
use tokio::io::AsyncReadExt as _;
use tokio::net::unix::pipe::Receiver;
use tokio::process::{Child, Command};
use tokio::sync::{mpsc, oneshot};
use tokio::time::{sleep, timeout};

/// How much of the end of the output is kept as the detail, in bytes; as CodeDeploy keeps it of a script.
const KEPT: usize = 2_048;
/// A longer line is shown in pieces of so many bytes.
const LONGEST_LINE: usize = 4_096;
/// How long a command that was asked to end may take until it is killed.
const GRACE: Duration = Duration::from_secs(5);
/// How long output is waited for that is still under way when the command has ended.
const LAST_WORDS: Duration = Duration::from_millis(500);
/// `EX_TEMPFAIL`.
const CANNOT_SAY: i32 = 75;
/// What a shell ends with when it cannot run a command.
const CANNOT_RUN: [i32; 2] = [126, 127];

/// A test to run.
#[derive(Debug, Clone)]
pub struct Test {
    /// The command line, for a shell.
    pub command: String,
    /// Where.
    pub directory: PathBuf,
    /// What it is told, besides what this program was told.
    pub environment: Vec<(&'static str, String)>,
    /// How long it may take.
    pub within: Duration,
}

/// How a test is judged.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Verdict {
    /// The condition holds.
    Passed,
    /// It does not.
    Failed,
    /// Nobody can say.
    Inconclusive,
}

impl Verdict {
    /// The word on the wire.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Passed => "passed",
            Self::Failed => "failed",
            Self::Inconclusive => "inconclusive",
        }
    }
}

/// How a test ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Ending {
    /// What it means.
    pub verdict: Verdict,
    /// What is to be known of it: the last of what it printed, after how it ended if that was not well.
    pub detail: String,
}

/// A command that runs.
struct Running {
    child: Child,
    /// Its own, and that of everything it starts.
    group: Option<Pid>,
    output: Receiver,
    heard: Heard,
}

/// Runs a test to its end. Each line it prints goes to `lines`; a reader that is slow misses some, and is told so.
/// None if `stop` was heard first; the command is ended then, too.
pub async fn run(test: Test, lines: mpsc::Sender<String>, mut stop: oneshot::Receiver<()>) -> Option<Ending> {
    let mut running = match Running::start(&test, lines) {
        Ok(running) => running,
        Err(error) => return Some(cannot_run(&error)),
    };
    let late = sleep(test.within);
    tokio::pin!(late);
    let ended = tokio::select! {
        ended = running.until_end() => Some(ended),
        () = &mut late => None,
        // Also when whoever could stop it has gone: then nobody waits for the answer.
        _ = &mut stop => {
            running.end().await;
            return None;
        }
    };
    if ended.is_none() {
        running.end().await;
    }
    running.hear_the_rest().await;
    let said = running.heard.finish();
    let (verdict, how) = match ended {
        Some(Ok(status)) => judge(status),
        Some(Err(error)) => (Verdict::Inconclusive, Some(format!("nobody can tell how it ended: {error}"))),
        None => {
            let within = Millis(u64::try_from(test.within.as_millis()).unwrap_or(u64::MAX));
            (Verdict::Inconclusive, Some(format!("it did not end within {within}, and was ended")))
        }
    };
    let detail = match (how, said) {
        (None, said) => said,
        (Some(how), said) if said.is_empty() => how,
        (Some(how), said) => format!("{how}\n{said}"),
    };
    Some(Ending { verdict, detail })
}

fn cannot_run(error: &io::Error) -> Ending {
    Ending { verdict: Verdict::Inconclusive, detail: format!("it could not be run: {error}") }
}

fn judge(status: ExitStatus) -> (Verdict, Option<String>) {
    match (status.code(), status.signal()) {
        (Some(0), _) => (Verdict::Passed, None),
        (Some(CANNOT_SAY), _) => (Verdict::Inconclusive, Some("exit 75: it cannot say".to_owned())),
        (Some(code), _) if CANNOT_RUN.contains(&code) => {
            (Verdict::Inconclusive, Some(format!("it could not be run (exit {code})")))
        }
        (Some(code), _) => (Verdict::Failed, Some(format!("exit {code}"))),
        (None, Some(signal)) => (Verdict::Failed, Some(format!("ended by signal {signal}"))),
        (None, None) => (Verdict::Inconclusive, Some("nobody can tell how it ended".to_owned())),
    }
}

impl Running {
    fn start(test: &Test, lines: mpsc::Sender<String>) -> io::Result<Self> {
        // One pipe for both, so that what it says stays in the order it said it.
        let (reader, writer) = io::pipe()?;
        let output = Receiver::from_owned_fd(OwnedFd::from(reader))?;
        let mut command = Command::new("/bin/sh");
        command.arg("-c").arg(&test.command).current_dir(&test.directory).envs(test.environment.iter().cloned());
        command.stdin(Stdio::null()).stdout(writer.try_clone()?).stderr(writer).process_group(0);
        // If this program gives up in the middle, it must not leave a test behind.
        command.kill_on_drop(true);
        let child = command.spawn()?;
        let group = child.id().and_then(|id| i32::try_from(id).ok()).map(Pid::from_raw);
        // The command holds the writing end; only without it does the reading end come to an end.
        drop(command);
        Ok(Self { child, group, output, heard: Heard::new(lines) })
    }

    /// Listens until the command has ended.
    async fn until_end(&mut self) -> io::Result<ExitStatus> {
        let mut buffer = [0; 4_096];
        let mut open = true;
        loop {
            tokio::select! {
                ended = self.child.wait() => return ended,
                read = self.output.read(&mut buffer), if open => match read {
                    Ok(0) | Err(_) => open = false,
                    Ok(n) => self.heard.take(&buffer[..n]),
                },
            }
        }
    }

    /// Asks it to end, and makes it.
    async fn end(&mut self) {
        self.signal(Signal::SIGTERM);
        if timeout(GRACE, self.until_end()).await.is_err() {
            self.signal(Signal::SIGKILL);
            // What was killed ends; there is no more to be done if it does not.
            let _ = timeout(GRACE, self.until_end()).await;
        }
    }

    /// Hears what is left. Whoever still holds the pipe after the command's end was left behind by it, and is killed.
    async fn hear_the_rest(&mut self) {
        if timeout(LAST_WORDS, self.until_silence()).await.is_err() {
            self.signal(Signal::SIGKILL);
            // A process that has left the group is not ours to find; its output is not waited for.
            let _ = timeout(LAST_WORDS, self.until_silence()).await;
        }
    }

    async fn until_silence(&mut self) {
        let mut buffer = [0; 4_096];
        while let Ok(n @ 1..) = self.output.read(&mut buffer).await {
            self.heard.take(&buffer[..n]);
        }
    }

    fn signal(&self, signal: Signal) {
        if let Some(group) = self.group {
            // Nobody is left to hear it: as good as heard.
            let _ = killpg(group, signal);
        }
    }
}

/// What was printed: passed on line by line, and its end kept.
struct Heard {
    lines: mpsc::Sender<String>,
    line: Vec<u8>,
    kept: Vec<u8>,
    missed: usize,
}

impl Heard {
    fn new(lines: mpsc::Sender<String>) -> Self {
        Self { lines, line: Vec::new(), kept: Vec::new(), missed: 0 }
    }

    fn take(&mut self, bytes: &[u8]) {
        self.kept.extend_from_slice(bytes);
        let surplus = self.kept.len().saturating_sub(KEPT);
        self.kept.drain(..surplus);
        for &byte in bytes {
            if byte == b'\n' || self.line.len() == LONGEST_LINE {
                self.pass_on();
            }
            if byte != b'\n' {
                self.line.push(byte);
            }
        }
    }

    fn pass_on(&mut self) {
        let line = String::from_utf8_lossy(&self.line).trim_end().to_owned();
        self.line.clear();
        if self.missed > 0 && self.lines.try_send(format!("({} lines were not shown)", self.missed)).is_ok() {
            self.missed = 0;
        }
        if self.lines.try_send(line).is_err() {
            self.missed += 1;
        }
    }

    /// The end of what was printed, beginning with a whole line where there is one.
    fn finish(&mut self) -> String {
        if !self.line.is_empty() {
            self.pass_on();
        }
        let text = String::from_utf8_lossy(&self.kept);
        let text = match text.split_once('\n') {
            Some((_, rest)) if self.kept.len() == KEPT && !rest.trim().is_empty() => rest,
            Some(_) | None => &text,
        };
        text.trim_end().to_owned()
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    async fn run_it(command: &str, within_ms: u64) -> (Ending, Vec<String>) {
        let (say, mut said) = mpsc::channel(64);
        let (_keep, stop) = oneshot::channel();
        let test = Test {
            command: command.to_owned(),
            directory: std::env::temp_dir(),
            environment: vec![("FLEET_SEGMENT_NODES", "n1 n2".to_owned())],
            within: Duration::from_millis(within_ms),
        };
        let ending = run(test, say, stop).await.unwrap();
        let mut lines = Vec::new();
        while let Some(line) = said.recv().await {
            lines.push(line);
        }
        (ending, lines)
    }

    #[tokio::test]
    async fn the_exit_code_is_the_answer() {
        for (command, verdict, detail) in [
            ("true", Verdict::Passed, ""),
            ("echo $FLEET_SEGMENT_NODES", Verdict::Passed, "n1 n2"),
            ("echo bad >&2; exit 3", Verdict::Failed, "exit 3\nbad"),
            ("exit 75", Verdict::Inconclusive, "exit 75: it cannot say"),
            ("kill -KILL $$", Verdict::Failed, "ended by signal 9"),
            // Nothing to read, and it does not wait for it.
            ("cat; echo end", Verdict::Passed, "end"),
        ] {
            let (ending, _) = run_it(command, 60_000).await;
            assert_eq!(ending, Ending { verdict, detail: detail.to_owned() }, "{command}");
        }
        let (ending, _) = run_it("/nowhere/at/all", 60_000).await;
        assert_eq!(ending.verdict, Verdict::Inconclusive, "{ending:?}");
        assert!(ending.detail.starts_with("it could not be run (exit 127)"), "{ending:?}");
    }

    #[tokio::test]
    async fn a_directory_that_is_not_there_is_inconclusive() {
        let (say, _said) = mpsc::channel(1);
        let (_keep, stop) = oneshot::channel();
        let test = Test {
            command: "true".into(),
            directory: "/nowhere/at/all".into(),
            environment: Vec::new(),
            within: Duration::from_secs(60),
        };
        let ending = run(test, say, stop).await.unwrap();
        assert_eq!(ending.verdict, Verdict::Inconclusive);
        assert!(ending.detail.starts_with("it could not be run: "), "{ending:?}");
    }

    #[tokio::test]
    async fn what_does_not_end_is_ended_and_inconclusive() {
        let (ending, lines) = run_it("echo begun; sleep 1000", 2_000).await;
        assert_eq!(ending.verdict, Verdict::Inconclusive);
        assert!(ending.detail.starts_with("it did not end within 2s") && ending.detail.ends_with("begun"));
        assert_eq!(lines, ["begun"]);
    }

    #[tokio::test]
    async fn what_it_leaves_behind_is_killed() {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("pid");
        let (ending, _) = run_it(&format!("sleep 1000 & echo $! > {}; echo done", file.display()), 60_000).await;
        assert_eq!(ending, Ending { verdict: Verdict::Passed, detail: "done".into() });
        let left: i32 = std::fs::read_to_string(file).unwrap().trim().parse().unwrap();
        // What was killed has closed its pipe before it is quite gone.
        let runs = || {
            let stat = std::fs::read_to_string(format!("/proc/{left}/stat")).unwrap_or_default();
            !(stat.is_empty() || stat.contains(") Z ") || stat.contains(") X "))
        };
        let gone = async {
            while runs() {
                tokio::task::yield_now().await;
            }
        };
        timeout(Duration::from_secs(60), gone).await.unwrap();
    }

    #[tokio::test]
    async fn who_is_no_longer_asked_ends() {
        let (say, mut said) = mpsc::channel(8);
        let (halt, stop) = oneshot::channel();
        let test = Test {
            command: "echo begun; sleep 1000".into(),
            directory: std::env::temp_dir(),
            environment: Vec::new(),
            within: Duration::from_secs(600),
        };
        let running = tokio::spawn(run(test, say, stop));
        assert_eq!(said.recv().await.as_deref(), Some("begun"));
        halt.send(()).unwrap();
        assert_eq!(running.await.unwrap(), None);
    }

    #[tokio::test]
    async fn of_much_output_the_end_is_kept() {
        let (ending, lines) =
            run_it("i=0; while [ $i -lt 2000 ]; do i=$((i+1)); echo line $i; done; exit 1", 60_000).await;
        assert!(ending.detail.len() <= KEPT + 10 && ending.detail.ends_with("line 2000"), "{}", ending.detail.len());
        assert!(ending.detail.starts_with("exit 1\nline 1"), "whole lines: {}", &ending.detail[..30]);
        assert!(lines.len() <= 64, "a reader that does not read holds nobody up");
    }
}
