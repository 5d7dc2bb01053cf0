//! Reading /proc/PID: state, parentage, marks, links, command line. What it means is decided by the callers.
//! Every function takes what it reads for hearsay: the process may end, execute something else, or be another one
//! by the time of the next call, so callers compare start times before and after.

use std::ffi::OsString;
use std::fs::{self, File};
use std::io::{self, Read};
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::path::{Path, PathBuf};
use std::time::Duration;

use fleet::{DeploymentId, ReleaseId};

/// The variable that names the root of the service that a process was started for.
pub(super) const MARK_ROOT: &str = "FLEET_SERVICE_ROOT";
/// The variable that names the release that a process was started from.
pub(super) const MARK_RELEASE: &str = "FLEET_RELEASE";
/// The variable that names the deployment for which an errand is run.
pub(super) const MARK_DEPLOYMENT: &str = "FLEET_DEPLOYMENT";
/// The variable that names an errand; together with the ones before and after it is the errand's mark. It has nothing
/// in common with a service's: an errand carries no [`MARK_ROOT`], and without that nothing is a service's mark.
pub(super) const MARK_ERRAND: &str = "FLEET_MIGRATION";
/// The variable that counts the attempts of an errand.
pub(super) const MARK_ATTEMPT: &str = "FLEET_ATTEMPT";

/// The kernel gives arguments and environment together at most three quarters of 8 MiB (fs/exec.c, `_STK_LIM / 4 * 3`),
/// so a mark cannot hide behind a long environment.
const LONGEST_ENVIRONMENT: u64 = 6 << 20;
/// Readings of an environment that is empty in the middle of exec; after that it is taken for empty.
const MOST_READINGS: usize = 10;
/// How long to leave a process that is in the middle of exec to itself before it is read again.
pub(super) const EXEC_TAKES: Duration = Duration::from_millis(1);
/// As much as there is.
pub(super) const WHOLE: u64 = u64::MAX;
/// Command lines are shown to people; one line is enough.
const LONGEST_COMMAND: usize = 200;
/// `PF_EXITING` of include/linux/sched.h: the thread is on its way out and executes nothing of its program any more.
const PF_EXITING: u64 = 0x4;
/// `PF_KTHREAD` of include/linux/sched.h: a thread of the kernel.
const PF_KTHREAD: u64 = 0x0020_0000;

/// A process, unmistakably, within one boot.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(super) struct Identity {
    /// Its number.
    pub(super) pid: u32,
    /// Its start, in clock ticks since boot.
    pub(super) start_ticks: u64,
}

/// What /proc/PID/stat says.
#[derive(Debug, Clone, Copy)]
pub(super) struct Stat {
    pub(super) identity: Identity,
    pub(super) parent: u32,
    pub(super) session: u32,
    state: u8,
    flags: u64,
    threads: u64,
}

/// The marks of the supervisor, read from a process's start environment.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Marks {
    /// The root of the service.
    pub(super) root: PathBuf,
    /// The release, if it is one.
    pub(super) release: Option<ReleaseId>,
}

impl Stat {
    /// Whether the process is over: a zombie whose every thread has ended.
    ///
    /// A leader that has left its other threads running is shown as a zombie too, and must not hide them.
    pub(super) fn ended(&self) -> bool {
        self.leader_ended() && self.threads <= 1
    }

    /// Whether code of a program still runs in it.
    pub(super) fn executes(&self) -> bool {
        let leaving = self.leader_ended() || self.flags & PF_EXITING != 0;
        self.flags & PF_KTHREAD == 0 && !(leaving && self.threads <= 1)
    }

    /// The directory whose `exe`, `maps` and `cwd` answer: another thread's where the leader has ended.
    pub(super) fn details(&self) -> PathBuf {
        let own = PathBuf::from(format!("/proc/{}", self.identity.pid));
        if !self.leader_ended() && self.flags & PF_EXITING == 0 {
            return own;
        }
        let Ok(threads) = fs::read_dir(own.join("task")) else { return own };
        threads
            .flatten()
            .map(|thread| thread.path())
            .find(|path| fs::read_link(path.join("exe")).is_ok())
            .unwrap_or(own)
    }

    fn leader_ended(&self) -> bool {
        matches!(self.state, b'Z' | b'X' | b'x')
    }
}

/// What a file of /proc says, up to `most` bytes, in few calls: these files have no size by which `fs::read` could tell how
/// much there is, and an idle agent reads them all day.
pub(super) fn text(path: &Path, most: u64) -> io::Result<Vec<u8>> {
    const USUAL: usize = 4_096;
    let mut text = Vec::with_capacity(USUAL);
    File::open(path)?.take(most).read_to_end(&mut text)?;
    Ok(text)
}

/// The state of a process; None when there is none of that number (or it may not be seen).
pub(super) fn stat(pid: u32) -> Option<Stat> {
    parse_stat(pid, &text(Path::new(&format!("/proc/{pid}/stat")), WHOLE).ok()?)
}

/// Whether this very process is still there and has not ended.
pub(super) fn runs(identity: Identity) -> bool {
    stat(identity.pid).is_some_and(|stat| stat.identity == identity && !stat.ended())
}

/// The name of the program stands in parentheses and may itself contain any character, parentheses included.
fn parse_stat(pid: u32, text: &[u8]) -> Option<Stat> {
    let after_name = text.iter().rposition(|byte| *byte == b')')? + 1;
    let fields: Vec<&str> = std::str::from_utf8(&text[after_name..]).ok()?.split_ascii_whitespace().collect();
    let number = |at: usize| fields.get(at)?.parse::<u64>().ok();
    // The numbers of proc_pid_stat(5), less the three fields up to the state.
    Some(Stat {
        identity: Identity { pid, start_ticks: number(19)? },
        parent: u32::try_from(number(1)?).ok()?,
        session: u32::try_from(number(3)?).ok()?,
        state: *fields.first()?.as_bytes().first()?,
        flags: number(6)?,
        threads: number(17)?,
    })
}

/// The numbers of all processes that may be seen.
pub(super) fn numbers() -> io::Result<Vec<u32>> {
    let mut numbers = Vec::new();
    for entry in fs::read_dir("/proc")? {
        // An entry that vanishes while the list is read is a process that has ended.
        let Ok(entry) = entry else { continue };
        numbers.extend(entry.file_name().to_str().and_then(|name| name.parse::<u32>().ok()));
    }
    Ok(numbers)
}

/// The kernel's boot id.
pub(super) fn boot_id() -> io::Result<String> {
    Ok(fs::read_to_string("/proc/sys/kernel/random/boot_id")?.trim().to_owned())
}

/// Clock ticks per second, for people's units. Linux has shown 100 to programs on every architecture since 2.6.
pub(super) fn ticks_per_second() -> u64 {
    use nix::unistd::{SysconfVar, sysconf};
    sysconf(SysconfVar::CLK_TCK)
        .ok()
        .flatten()
        .and_then(|ticks| u64::try_from(ticks).ok())
        .filter(|ticks| *ticks > 0)
        .unwrap_or(100)
}

/// Clock ticks since boot, suspended time included: the clock of the start times in /proc/PID/stat.
pub(super) fn ticks_now() -> u64 {
    use nix::time::{ClockId, clock_gettime};
    let Ok(since_boot) = clock_gettime(ClockId::CLOCK_BOOTTIME) else { return 0 };
    let per_second = ticks_per_second();
    let seconds = u64::try_from(since_boot.tv_sec()).unwrap_or(0);
    let nanos = u64::try_from(since_boot.tv_nsec()).unwrap_or(0);
    seconds.saturating_mul(per_second).saturating_add(nanos.saturating_mul(per_second) / 1_000_000_000)
}

/// The marks in the start environment found in `details`; None without marks, or when it may not be read.
pub(super) fn marks(details: &Path) -> Option<Marks> {
    let environment = environment(details)?;
    let root = PathBuf::from(OsString::from_vec(value(&environment, MARK_ROOT)?.to_vec()));
    let release = value(&environment, MARK_RELEASE).and_then(|text| std::str::from_utf8(text).ok()?.parse().ok());
    Some(Marks { root, release })
}

/// The deployment and the attempt of the errand in the start environment found in `details`; None for whatever is no
/// errand, a service's processes included.
pub(super) fn errand_mark(details: &Path) -> Option<(DeploymentId, u32)> {
    let environment = environment(details)?;
    if value(&environment, MARK_ROOT).is_some() || value(&environment, MARK_ERRAND).is_none() {
        return None;
    }
    let text = |name| std::str::from_utf8(value(&environment, name)?).ok();
    Some((text(MARK_DEPLOYMENT)?.parse().ok()?, text(MARK_ATTEMPT)?.parse().ok()?))
}

/// The start environment. In the middle of exec it is still empty, and a marked process would be taken for a stranger:
/// it is read again until the new program's is there.
fn environment(details: &Path) -> Option<Vec<u8>> {
    let read = || text(&details.join("environ"), LONGEST_ENVIRONMENT).ok();
    for _ in 0..MOST_READINGS {
        let environment = read()?;
        if !environment.is_empty() {
            return Some(environment);
        }
        if !amid_exec(details) {
            break;
        }
        std::thread::sleep(EXEC_TAKES);
    }
    // Where it is not in the middle of exec, that may have ended since the environment was read.
    read()
}

fn value<'a>(environment: &'a [u8], name: &str) -> Option<&'a [u8]> {
    environment.split(|byte| *byte == 0).find_map(|variable| variable.strip_prefix(name.as_bytes())?.strip_prefix(b"="))
}

/// Whether the process stands in the middle of exec: the new program is in place, its arguments and environment are
/// not yet. A process may also look so for good, so callers give up waiting after a few looks.
pub(super) fn amid_exec(details: &Path) -> bool {
    let empty = |file: &str| text(&details.join(file), 1).is_ok_and(|bytes| bytes.is_empty());
    empty("environ") && empty("cmdline")
}

/// A link of /proc without the kernel's ` (deleted)` at its end.
pub(super) fn without_deleted(path: &Path) -> Option<PathBuf> {
    let kept = path.as_os_str().as_bytes().strip_suffix(b" (deleted)")?;
    Some(PathBuf::from(OsString::from_vec(kept.to_vec())))
}

/// The working directory found in `details`, without the mark of deletion.
pub(super) fn cwd(details: &Path) -> Option<PathBuf> {
    let path = fs::read_link(details.join("cwd")).ok()?;
    Some(without_deleted(&path).unwrap_or(path))
}

/// The command line for people: shortened, one line, control characters escaped.
pub(super) fn command(pid: u32) -> String {
    let mut bytes = text(Path::new(&format!("/proc/{pid}/cmdline")), 4_096).unwrap_or_default();
    while bytes.last() == Some(&0) {
        bytes.pop();
    }
    if bytes.is_empty() {
        return format!("[{}]", name(pid).unwrap_or_default());
    }
    for byte in &mut bytes {
        if *byte == 0 {
            *byte = b' ';
        }
    }
    for_people(&bytes)
}

/// The name of the program that a process executes, for people.
pub(super) fn name(pid: u32) -> Option<String> {
    let name = text(Path::new(&format!("/proc/{pid}/comm")), 4_096).ok()?;
    Some(for_people(name.strip_suffix(b"\n").unwrap_or(&name)))
}

fn for_people(bytes: &[u8]) -> String {
    let mut shown = String::new();
    for character in String::from_utf8_lossy(bytes).chars() {
        if shown.len() >= LONGEST_COMMAND {
            shown.push('…');
            break;
        }
        if character.is_control() { shown.extend(character.escape_default()) } else { shown.push(character) }
    }
    shown
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn a_program_name_cannot_forge_its_state() {
        let line = b"77 (a) Z 1 1 1 (b) S 5 77 70 0 -1 4194304 1 0 0 0 0 0 0 0 20 0 3 0 9876 1 1\n";
        let stat = parse_stat(77, line).unwrap();
        assert_eq!((stat.identity.start_ticks, stat.parent, stat.session, stat.threads), (9876, 5, 70, 3));
        assert!(!stat.ended() && stat.executes());
        assert!(parse_stat(1, b"1 (x) S 1").is_none() && parse_stat(1, b"").is_none());
    }

    #[test]
    fn a_zombie_leader_with_threads_has_not_ended() {
        let line = |threads: u32| format!("7 (a) Z 5 7 7 0 -1 4194308 1 0 0 0 0 0 0 0 20 0 {threads} 0 9876 1 1\n");
        assert!(parse_stat(7, line(1).as_bytes()).unwrap().ended());
        assert!(!parse_stat(7, line(2).as_bytes()).unwrap().ended());
    }

    #[test]
    fn own_process_is_seen() {
        let own = stat(std::process::id()).unwrap();
        assert!(runs(own.identity) && own.executes() && own.identity.start_ticks <= ticks_now());
        assert!(!runs(Identity { start_ticks: own.identity.start_ticks + 1, ..own.identity }));
        assert!(!boot_id().unwrap().is_empty() && !command(std::process::id()).is_empty());
    }

    #[test]
    fn command_lines_are_safe_to_print() {
        assert_eq!(for_people(b"a\x1b[31mb"), "a\\u{1b}[31mb");
        assert!(for_people(&[b'x'; 5_000]).len() < LONGEST_COMMAND + 8);
    }
}
