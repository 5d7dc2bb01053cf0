//! Running a program that a user named (an inventory script, a password script, `ansible-inventory`) within limits.
//!
//! What its output means is for the caller; here it is bytes, or the reason why there are none.

use std::io::Read;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::mpsc::{Receiver, RecvTimeoutError, channel};
use std::time::{Duration, Instant};

use crate::error::Fault;

/// The longest a program may take: cloud inventories of thousands of hosts take minutes, and nobody waits longer.
const LONGEST: Duration = Duration::from_secs(300);

/// Bytes of output; 63 MB is what 200,000 hosts with a few variables take.
const MAX_OUTPUT: u64 = 256 * 1024 * 1024;

/// Bytes of the program's complaint that are shown.
const MAX_COMPLAINT: usize = 400;

/// Runs it with the arguments, without standard input, in the caller's directory and environment.
///
/// # Errors
/// If it cannot be started, fails, says too much or takes too long. What it wrote on standard error is in the reason.
pub(crate) fn output_of(program: &Path, arguments: &[&str], variables: &[(&str, &str)]) -> Result<Vec<u8>, Fault> {
    let mut command = Command::new(program);
    command.args(arguments).envs(variables.iter().copied());
    command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut child = command.spawn().map_err(|cause| {
        Fault::invalid(
            format!("the program cannot be started: {cause}"),
            "correct it; a plain text file must not be executable",
        )
    })?;
    let (output, complaint) = (drain(child.stdout.take()), drain(child.stderr.take()));
    // Not for the clock's sake: the end of the wait is all that is asked of it.
    let until = Instant::now() + LONGEST;
    let told = wait(&output, until).and_then(|output| Ok((output, wait(&complaint, until)?)));
    let (output, complaint) = match told {
        Ok(told) => told,
        Err(fault) => {
            stop(&mut child);
            return Err(fault);
        }
    };
    let status = child.wait().map_err(|cause| {
        Fault::invalid(format!("the program's end cannot be seen: {cause}"), "run it by hand to see what it does")
    })?;
    if !status.success() {
        let reason = format!("the program failed ({status}){}", shown(&complaint));
        return Err(Fault::invalid(reason, "run it by hand to see why"));
    }
    Ok(output)
}

/// The last line of a complaint, which in Python's tracebacks is the one that tells.
fn shown(complaint: &[u8]) -> String {
    let text = String::from_utf8_lossy(complaint);
    let line = text.lines().rev().map(str::trim).find(|line| !line.is_empty()).unwrap_or_default();
    if line.is_empty() {
        return String::new();
    }
    let line: String = line.chars().filter(|c| !c.is_control()).take(MAX_COMPLAINT).collect();
    format!(": {line}")
}

fn stop(child: &mut Child) {
    // It may have ended in between; then there is nothing left to stop.
    let _ended = child.kill();
    let _ended = child.wait();
}

/// Reads a pipe to its end on a thread of its own, so that neither pipe can block the program.
fn drain(pipe: Option<impl Read + Send + 'static>) -> Receiver<std::io::Result<Vec<u8>>> {
    let (sender, receiver) = channel();
    std::thread::spawn(move || {
        let mut bytes = Vec::new();
        let read = pipe.map_or(Ok(0), |pipe| pipe.take(MAX_OUTPUT + 1).read_to_end(&mut bytes));
        // Nobody listens any more once the program was stopped.
        let _gone = sender.send(read.map(|_| bytes));
    });
    receiver
}

fn wait(pipe: &Receiver<std::io::Result<Vec<u8>>>, until: Instant) -> Result<Vec<u8>, Fault> {
    let way_out = "run it by hand, and keep what it prints in a file";
    match pipe.recv_timeout(until.saturating_duration_since(Instant::now())) {
        Ok(Ok(bytes)) if bytes.len() as u64 > MAX_OUTPUT => {
            Err(Fault::too_large("the program's output in bytes", MAX_OUTPUT, way_out))
        }
        Ok(Ok(bytes)) => Ok(bytes),
        Ok(Err(cause)) => Err(Fault::invalid(format!("the program's output cannot be read: {cause}"), way_out)),
        Err(RecvTimeoutError::Timeout | RecvTimeoutError::Disconnected) => {
            Err(Fault::too_large("the program's time in seconds", LONGEST.as_secs(), way_out))
        }
    }
}
