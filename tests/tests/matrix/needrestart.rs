//! What needrestart says of the processes of this machine. It compares each with the disk, not with a release.

use std::collections::BTreeMap;
use std::process::Command;

/// A script that was changed within two seconds (its option -t) of the start is none to it; one more for its whole seconds.
pub const TOLERATED_TICKS: u64 = 300;

/// Whether it is installed.
pub fn is_there() -> bool {
    std::path::Path::new("/usr/sbin/needrestart").exists()
}

/// What it says of each process that it would have restarted; None where it is not installed. It only lists: `-r l`.
pub fn say() -> Option<BTreeMap<u32, String>> {
    if !is_there() {
        return None;
    }
    let mut command = Command::new("/usr/sbin/needrestart");
    // Only processes (-l), for programs (-b), and which and why (-v).
    command.args(["-b", "-l", "-v", "-r", "l"]).env("NEEDRESTART_UI", "NeedRestart::UI::stdio").env("LC_ALL", "C");
    let output = command.output().unwrap();
    let text = String::from_utf8_lossy(&output.stdout).into_owned() + &String::from_utf8_lossy(&output.stderr);
    assert!(text.contains("NEEDRESTART-VER:"), "{text}");
    let mut found = BTreeMap::new();
    // `[main] #4711 uses obsolete binary /opt/web/bin/web`, `[Python] #4711 uses obsolete source file`
    for line in text.lines() {
        let Some((_, rest)) = line.split_once("] #") else { continue };
        let Some((pid, said)) = rest.split_once(" uses ") else { continue };
        let words: Vec<&str> = said.split_whitespace().take_while(|word| !word.starts_with('/')).collect();
        if let (Ok(pid), false) = (pid.parse(), words.is_empty()) {
            found.entry(pid).or_insert_with(|| words.join(" ").trim_end_matches(':').to_owned());
        }
    }
    Some(found)
}
