//! Who is on this machine, at a glance: every process by its number, the number of its directory in /proc, which another
//! process of the same number does not have, and the file it executes. About 2 µs a process, where a look takes a hundred.
//! What a process is, and whose, is `processes`' to say.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::io;
use std::os::unix::fs::{DirEntryExt, MetadataExt};

/// What is told of a process without looking into it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Figure {
    /// Of its directory in /proc.
    entry: u64,
    /// The file that it executes; None of threads of the kernel, and where it may not be seen.
    executable: Option<(u64, u64)>,
}

/// Everyone, by number.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Crowd(BTreeMap<u32, Figure>);

impl Crowd {
    /// Everyone who is here now. Where root sees nothing executed there is a thread of the kernel, which will not execute
    /// anything: if it was there `before` it is not looked at again. (Save for the moment before the kernel starts a helper of
    /// its own; that is seen when everybody is looked into.)
    ///
    /// # Errors
    /// /proc cannot be listed.
    pub(super) fn glance(before: Option<&Self>) -> io::Result<Self> {
        let before = before.filter(|_| nix::unistd::geteuid().is_root());
        let mut crowd = BTreeMap::new();
        for entry in fs::read_dir("/proc")? {
            // An entry that vanishes while the list is read is a process that has ended.
            let Ok(entry) = entry else { continue };
            let Some(pid) = entry.file_name().to_str().and_then(|name| name.parse::<u32>().ok()) else { continue };
            let figure = Figure { entry: entry.ino(), executable: None };
            if before.and_then(|before| before.0.get(&pid)) == Some(&figure) {
                crowd.insert(pid, figure);
                continue;
            }
            let executable = fs::metadata(format!("/proc/{pid}/exe")).ok().map(|found| (found.dev(), found.ino()));
            crowd.insert(pid, Figure { executable, ..figure });
        }
        Ok(Self(crowd))
    }

    /// Who was not there before, or executes something else by now.
    pub(super) fn new_since(&self, before: &Self) -> BTreeSet<u32> {
        self.0.iter().filter(|(pid, figure)| before.0.get(pid) != Some(figure)).map(|(pid, _)| *pid).collect()
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use std::io::{BufRead, BufReader};
    use std::process::{Command, Stdio};

    #[test]
    fn who_comes_and_who_executes_something_else_is_new_and_nobody_else() {
        let before = Crowd::glance(None).unwrap();
        // Says when it has begun, and executes another program when it is told to.
        let mut shell = Command::new("sh")
            .args(["-c", "echo begun; read line; exec sleep 600"])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let mut said = String::new();
        BufReader::new(shell.stdout.take().unwrap()).read_line(&mut said).unwrap();
        let with_shell = Crowd::glance(Some(&before)).unwrap();
        let new = with_shell.new_since(&before);
        assert!(new.contains(&shell.id()) && !new.contains(&std::process::id()), "{new:?}");
        assert!(!Crowd::glance(Some(&with_shell)).unwrap().new_since(&with_shell).contains(&shell.id()));
        let path = format!("/proc/{}/exe", shell.id());
        let before_exec = fs::read_link(&path).unwrap();
        drop(shell.stdin.take());
        while fs::read_link(&path).is_ok_and(|now| now == before_exec) {
            std::thread::yield_now();
        }
        assert!(Crowd::glance(Some(&with_shell)).unwrap().new_since(&with_shell).contains(&shell.id()));
        shell.kill().unwrap();
        shell.wait().unwrap();
    }
}
