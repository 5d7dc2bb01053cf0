//! Programs that a test writes and that are executed at once.
#![allow(clippy::unwrap_used)]

use std::io::{Error, Result, Write as _};
use std::path::Path;
use std::process::{Command, Stdio};

/// Writes a program. Another process does it: what this one has open for writing is open in every child as well that
/// another thread forks meanwhile, and until that child executes something itself the program cannot be executed.
pub fn write(path: &Path, text: &str) -> Result<()> {
    let mut child = Command::new("sh")
        .args(["-c", "cat >\"$1\" && chmod 0755 \"$1\"", "sh"])
        .arg(path)
        .stdin(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()?;
    // The pipe is closed with this statement, which ends the text.
    let written = child.stdin.take().unwrap().write_all(text.as_bytes());
    let output = child.wait_with_output()?;
    if !output.status.success() {
        return Err(Error::other(String::from_utf8_lossy(&output.stderr).into_owned()));
    }
    written
}
