//! Processes that nobody supervises: started by hand, without environment, in a session of their own.

use std::path::Path;
use std::process::Command;

use crate::process::Proc;
use crate::wait::until;

/// Starts `program` so that its parent is gone (twice forked), with an empty environment and a session of its own.
///
/// # Panics
/// If it does not run.
#[track_caller]
pub fn start(program: &Path, arguments: &[&str], directory: &Path) -> Proc {
    // setsid forks when it leads a group; the shell leaves at once, so the process belongs to init.
    let script = r#"cd "$1" && shift && setsid env -i "$@" </dev/null >/dev/null 2>&1 & echo $!"#;
    let output = Command::new("/bin/sh")
        .args(["-c", script, "sh"])
        .arg(directory)
        .arg(program)
        .args(arguments)
        .output()
        .unwrap();
    assert!(output.status.success(), "cannot start {}: {}", program.display(), String::from_utf8_lossy(&output.stderr));
    let wanted = program.canonicalize().unwrap();
    until(&format!("{} runs by hand", program.display()), || {
        Proc::all().find(|proc| {
            proc.executable() == wanted
                && proc.arguments().iter().skip(1).map(String::as_str).eq(arguments.iter().copied())
                && proc.environment().is_empty()
        })
    })
}
