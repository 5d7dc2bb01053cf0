//! A gate's test on the controller's host: one command line in a shell, with the segment's nodes in its environment. How
//! it ends is the answer to the gate. Whether tests may run here at all is the configuration's to say.

use std::process::Stdio;
use std::time::Duration;

use fleet::deployment::{Asking, Verdict};
use fleet::outcome::exit;
use fleet::{DeploymentId, Millis};
use nix::sys::signal::{Signal, killpg};
use nix::unistd::Pid;
use tokio::io::{AsyncRead, AsyncReadExt};
use tokio::process::{Child, Command};
use tokio::sync::mpsc::WeakSender;
use tokio::sync::oneshot;

use crate::mind::Message;

/// The end of the output that is kept as the detail: CodeDeploy keeps as much of a script's.
const KEPT: usize = 2_048;
/// How long a test may take to end after it was told to.
const MERCY: Duration = Duration::from_secs(5);

/// A test to run.
#[derive(Debug)]
pub(crate) struct GateTest {
    /// The way back. It does not keep the mind alive.
    pub(crate) inbox: WeakSender<Message>,
    /// Whose gate.
    pub(crate) deployment: DeploymentId,
    /// Which asking.
    pub(crate) asking: Asking,
    /// The command line.
    pub(crate) command: String,
    /// What it is told.
    pub(crate) environment: Vec<(&'static str, String)>,
    /// How long it may take.
    pub(crate) deadline: Millis,
    /// Comes to its end when nobody asks any more: an abort, another asking, a controller that stops.
    pub(crate) asked: oneshot::Receiver<()>,
}

impl GateTest {
    /// Runs it and brings the answer, if it is still asked for.
    pub(crate) async fn run(mut self) {
        let Some(verdict) = self.verdict().await else { return };
        if let Some(inbox) = self.inbox.upgrade() {
            let answer = Message::GateAnswered { deployment: self.deployment, asking: self.asking, verdict };
            // The mind may have stopped; after its next start the test is run again.
            let _ = inbox.send(answer).await;
        }
    }

    async fn verdict(&mut self) -> Option<Verdict> {
        let mut command = Command::new("/bin/sh");
        command.arg("-c").arg(&self.command).envs(self.environment.iter().map(|(key, value)| (key, value)));
        command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped()).process_group(0).kill_on_drop(true);
        let mut child = match command.spawn() {
            Ok(child) => child,
            Err(error) => return Some(Verdict::Inconclusive { detail: format!("the test could not be run: {error}") }),
        };
        let group = child.id().and_then(|pid| i32::try_from(pid).ok()).map(Pid::from_raw);
        let (out, err) = (tail(child.stdout.take()), tail(child.stderr.take()));
        let ended = tokio::select! {
            ended = async { tokio::join!(out, err, child.wait()) } => Some(ended),
            () = tokio::time::sleep(self.deadline.to_std()) => None,
            _ = &mut self.asked => {
                end(&mut child, group).await;
                return None;
            }
        };
        Some(match ended {
            Some((out, err, Ok(status))) => judge(status.code(), &out, &err),
            Some((_, _, Err(error))) => {
                Verdict::Inconclusive { detail: format!("the test's end is not known: {error}") }
            }
            None => {
                end(&mut child, group).await;
                Verdict::Inconclusive { detail: format!("the test had not ended after {}", self.deadline) }
            }
        })
    }
}

/// Ends a test: the group, so that nothing it started outlives it.
async fn end(child: &mut Child, group: Option<Pid>) {
    if let Some(group) = group {
        let _ = killpg(group, Signal::SIGTERM);
        let _ = tokio::time::timeout(MERCY, child.wait()).await;
        let _ = killpg(group, Signal::SIGKILL);
    }
}

fn judge(code: Option<i32>, out: &str, err: &str) -> Verdict {
    let said = [out.trim(), err.trim()].iter().filter(|text| !text.is_empty()).copied().collect::<Vec<_>>().join("\n");
    let with = |how: &str| if said.is_empty() { how.to_owned() } else { format!("{how}: {said}") };
    match code {
        Some(0) => Verdict::Passed { detail: with("exit 0") },
        // EX_TEMPFAIL of sysexits.h: the test itself says that it could not tell.
        Some(code) if code == i32::from(exit::BUSY) => Verdict::Inconclusive { detail: with("exit 75") },
        Some(code) => Verdict::Failed { detail: with(&format!("exit {code}")) },
        None => Verdict::Inconclusive { detail: with("it was ended by a signal") },
    }
}

/// The end of what a stream says, whatever its length.
async fn tail(stream: Option<impl AsyncRead + Unpin>) -> String {
    let Some(mut stream) = stream else { return String::new() };
    let (mut kept, mut chunk) = (Vec::new(), [0; 4_096]);
    while let Ok(read @ 1..) = stream.read(&mut chunk).await {
        kept.extend_from_slice(&chunk[..read]);
        let over = kept.len().saturating_sub(KEPT);
        kept.drain(..over);
    }
    String::from_utf8_lossy(&kept).into_owned()
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use tokio::sync::mpsc;

    fn test(
        command: &str,
        deadline: Millis,
    ) -> (GateTest, oneshot::Sender<()>, (mpsc::Sender<Message>, mpsc::Receiver<Message>)) {
        let (inbox, messages) = mpsc::channel(1);
        let (asks, asked) = oneshot::channel();
        let test = GateTest {
            inbox: inbox.downgrade(),
            deployment: "d-x".parse().unwrap(),
            asking: Asking { segment: 1, gate: 0, attempt: 1 },
            command: command.into(),
            environment: vec![("FLEET_SEGMENT_NODES", "n1 n2".into())],
            deadline,
            asked,
        };
        (test, asks, (inbox, messages))
    }

    async fn run(command: &str, deadline: Millis) -> Verdict {
        let (test, _asks, (_inbox, mut messages)) = test(command, deadline);
        test.run().await;
        match messages.recv().await.unwrap() {
            Message::GateAnswered { asking: Asking { segment: 1, gate: 0, attempt: 1 }, verdict, .. } => verdict,
            other => panic!("{other:?}"),
        }
    }

    #[tokio::test]
    async fn how_it_ends_is_the_answer() {
        let minute = Millis::from_secs(60);
        let nodes = run("echo $FLEET_SEGMENT_NODES", minute).await;
        assert_eq!(nodes, Verdict::Passed { detail: "exit 0: n1 n2".into() });
        assert_eq!(run("echo no >&2; exit 3", minute).await, Verdict::Failed { detail: "exit 3: no".into() });
        assert_eq!(run("exit 75", minute).await, Verdict::Inconclusive { detail: "exit 75".into() });
        assert!(matches!(run("kill -9 $$", minute).await, Verdict::Inconclusive { .. }));
        let Verdict::Passed { detail } = run("head -c 100000 /dev/zero | tr '\\0' x", minute).await else { panic!() };
        assert!(detail.len() <= KEPT + 16, "{}", detail.len());
    }

    #[tokio::test]
    async fn what_does_not_end_is_ended_with_everything_it_started() {
        let dir = tempfile::tempdir().unwrap();
        let pid = dir.path().join("pid");
        let verdict = run(&format!("sleep 1000 & echo $! > {}; wait", pid.display()), Millis(2_000)).await;
        assert!(matches!(verdict, Verdict::Inconclusive { .. }), "{verdict:?}");
        is_gone(std::fs::read_to_string(pid).unwrap().trim()).await;
    }

    #[tokio::test]
    async fn what_nobody_asks_any_more_is_ended_and_says_nothing() {
        let dir = tempfile::tempdir().unwrap();
        let pid = dir.path().join("pid");
        let command = format!("sleep 1000 & echo $! > {0}.tmp; mv {0}.tmp {0}; wait", pid.display());
        let (test, asks, (inbox, mut messages)) = test(&command, Millis::from_secs(1_000));
        let running = tokio::spawn(test.run());
        let started = async {
            while !pid.exists() {
                tokio::time::sleep(Duration::from_millis(10)).await;
            }
        };
        tokio::time::timeout(Duration::from_secs(60), started).await.unwrap();
        drop(asks);
        running.await.unwrap();
        is_gone(std::fs::read_to_string(pid).unwrap().trim()).await;
        drop(inbox);
        assert!(messages.recv().await.is_none());
    }

    /// It was told to end; that it has, and is perhaps not yet reaped by whoever inherited it, shows a moment later.
    async fn is_gone(child: &str) {
        let gone = || {
            let stat = std::fs::read_to_string(format!("/proc/{child}/stat")).unwrap_or_default();
            stat.is_empty() || stat.contains(") Z") || stat.contains(") X")
        };
        tokio::time::timeout(Duration::from_secs(60), async {
            while !gone() {
                tokio::time::sleep(Duration::from_millis(10)).await;
            }
        })
        .await
        .unwrap_or_else(|_| panic!("process {child} outlives its test"));
    }
}
