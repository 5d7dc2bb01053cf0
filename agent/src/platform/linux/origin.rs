//! Who did something, for people and as far as the kernel tells: whose a process is, who had logged in for it, and what
//! started it; whose a file is. Root can be anybody, and a parent that has ended is not told: this proves nothing.

use std::path::Path;

use nix::unistd::{Uid, User};

use super::proc;

/// What `/proc/PID/loginuid` says of a process for which nobody has logged in (`AUDIT_UID_UNSET`).
const NOBODY: u32 = u32::MAX;
/// More than any of these files has.
const LONGEST: u64 = 16 << 10;

/// As `bash (pid 4711), root via alice`; None for a process that is gone or may not be seen.
pub(super) fn of_process(pid: u32, parent: u32) -> Option<String> {
    let status = proc::text(Path::new(&format!("/proc/{pid}/status")), LONGEST).ok()?;
    let user = user(uid(&status)?);
    let login = proc::text(Path::new(&format!("/proc/{pid}/loginuid")), LONGEST).ok();
    let login = login.and_then(|text| std::str::from_utf8(&text).ok()?.trim().parse().ok());
    let login = login.filter(|login| *login != NOBODY).map(self::user).filter(|login| *login != user);
    let whose = login.map_or_else(|| user.clone(), |login| format!("{user} via {login}"));
    // Whose parent has ended is the first process's child, which started nothing of this kind.
    Some(match proc::name(parent).filter(|_| parent > 1) {
        Some(parent_name) => format!("{parent_name} (pid {parent}), {whose}"),
        None => whose,
    })
}

/// As `alice, whose it is`.
pub(super) fn of_file(owner: u32) -> String {
    format!("{}, whose it is", user(owner))
}

/// The real user in /proc/PID/status.
fn uid(status: &[u8]) -> Option<u32> {
    let line = status.split(|byte| *byte == b'\n').find_map(|line| line.strip_prefix(b"Uid:"))?;
    std::str::from_utf8(line).ok()?.split_ascii_whitespace().next()?.parse().ok()
}

fn user(uid: u32) -> String {
    let known = User::from_uid(Uid::from_raw(uid)).ok().flatten();
    known.map_or_else(|| format!("user {uid}"), |user| user.name.escape_default().to_string())
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn this_process_has_a_user_and_a_parent() {
        let told = of_process(std::process::id(), std::os::unix::process::parent_id()).unwrap();
        let own = user(nix::unistd::getuid().as_raw());
        assert!(
            told.contains(&own) && told.contains(&format!("(pid {})", std::os::unix::process::parent_id())),
            "{told}"
        );
        assert_eq!(of_process(u32::MAX, 1), None);
        assert_eq!(user(0), "root");
        assert_eq!(user(4_000_000_001), "user 4000000001");
    }

    #[test]
    fn a_name_cannot_forge_a_user() {
        assert_eq!(uid(b"Name:\tUid: 7\nUmask:\t0022\nUid:\t1000\t0\t0\t0\n"), Some(1000));
        assert_eq!(uid(b"Name:\tx\n"), None);
    }
}
