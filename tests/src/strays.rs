//! Processes that nobody supervises: started by hand, without environment, in a session of their own; and putting the
//! programs for them into place.

use std::fs;
use std::path::Path;
use std::process::Command;

use crate::process::Proc;
use crate::wait::until;

/// Copies a program to where it is started by hand: beside first, since what runs cannot be written to.
///
/// The copy is written by another process. A file that this one has open for writing could be inherited by whatever
/// another story starts in that moment, and the kernel refuses to execute what is open for writing.
#[track_caller]
pub fn place(from: &Path, to: &Path) {
    fs::create_dir_all(to.parent().unwrap()).unwrap();
    let beside = to.with_extension("new");
    let output = Command::new("install").args(["-m", "0755"]).arg(from).arg(&beside).output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    fs::rename(&beside, to).unwrap();
}

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
