//! What /proc says about processes and about the whole machine. How often it is asked is left to others.

use std::collections::BTreeMap;
use std::time::Duration;

use anyhow::Context as _;
use nix::sys::resource::{UsageWho, getrusage};
use nix::sys::time::TimeVal;
use nix::time::{clock_getcpuclockid, clock_gettime};
use nix::unistd::{Pid, SysconfVar, sysconf};

/// One line of `/proc/PID/stat` (proc(5)), as far as it is needed here.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Stat {
    /// The process.
    pub pid: i32,
    /// `Z` is dead and waits for its parent.
    pub state: char,
    /// Its parent.
    pub parent: i32,
    /// Ticks in user and system mode, its own and those of the children it has waited for.
    pub ticks: u64,
    /// Ticks from boot to its start.
    pub started: u64,
}

impl Stat {
    /// Reads the line. The name may itself hold blanks and parentheses, so what follows is counted from the last one.
    pub fn parse(line: &str) -> Option<Self> {
        let (pid, rest) = line.split_once(" (")?;
        let fields: Vec<&str> = rest.rsplit_once(") ")?.1.split_ascii_whitespace().collect();
        // fields[0] is the third of proc(5): state.
        let number = |nth: usize| fields.get(nth - 3)?.parse::<u64>().ok();
        Some(Self {
            pid: pid.trim().parse().ok()?,
            state: fields.first()?.chars().next()?,
            parent: fields.get(1)?.parse().ok()?,
            ticks: number(14)?.checked_add(number(15)?)?.checked_add(number(16)?)?.checked_add(number(17)?)?,
            started: number(22)?,
        })
    }
}

/// Every process there is, by pid.
pub fn all() -> BTreeMap<i32, Stat> {
    let Ok(entries) = std::fs::read_dir("/proc") else { return BTreeMap::new() };
    entries
        .flatten()
        .filter_map(|entry| entry.file_name().to_str()?.parse::<i32>().ok())
        // A process may end between the listing and the reading.
        .filter_map(|pid| Stat::parse(&std::fs::read_to_string(format!("/proc/{pid}/stat")).ok()?))
        .map(|stat| (stat.pid, stat))
        .collect()
}

/// One process, if there is one with this pid.
pub fn one(pid: i32) -> Option<Stat> {
    Stat::parse(&std::fs::read_to_string(format!("/proc/{pid}/stat")).ok()?)
}

/// The children of `parent`.
pub fn children(all: &BTreeMap<i32, Stat>, parent: i32) -> Vec<Stat> {
    all.values().filter(|stat| stat.parent == parent).copied().collect()
}

/// `roots` and everything that descends from them, as far as it is there.
pub fn family(all: &BTreeMap<i32, Stat>, roots: &[i32]) -> Vec<Stat> {
    let mut found = BTreeMap::new();
    let mut next: Vec<i32> = roots.to_vec();
    while let Some(pid) = next.pop() {
        if let Some(stat) = all.get(&pid)
            && found.insert(pid, *stat).is_none()
        {
            next.extend(children(all, pid).iter().map(|child| child.pid));
        }
    }
    found.into_values().collect()
}

/// CPU time, user and system, of the families of `roots` and of every child this program has waited for. Only the
/// difference of two such figures means something; a child that is waited for in between moves from one part to the
/// other without changing the sum.
///
/// # Errors
/// The system does not say.
pub fn cpu(roots: &[i32]) -> anyhow::Result<Duration> {
    let ticks: u64 = family(&all(), roots).iter().map(|stat| stat.ticks).sum();
    let per_second = sysconf(SysconfVar::CLK_TCK)?.and_then(|n| u32::try_from(n).ok()).unwrap_or(100).max(1);
    let usage = getrusage(UsageWho::RUSAGE_CHILDREN)?;
    let living = Duration::from_secs(ticks) / per_second;
    Ok(living + duration(usage.user_time()) + duration(usage.system_time()))
}

/// CPU time of one process, its ended threads included, to the nanosecond. Only the difference of two such figures means
/// something.
///
/// # Errors
/// There is no such process.
pub fn on_cpu(pid: i32) -> anyhow::Result<Duration> {
    let gone = || format!("process {pid} has ended");
    one(pid).filter(|stat| stat.state != 'Z').with_context(gone)?;
    let clock = clock_getcpuclockid(Pid::from_raw(pid)).with_context(gone)?;
    Ok(Duration::from(clock_gettime(clock).with_context(gone)?))
}

fn duration(time: TimeVal) -> Duration {
    let seconds = u64::try_from(time.tv_sec()).unwrap_or(0);
    let micros = u64::try_from(time.tv_usec()).unwrap_or(0);
    Duration::from_secs(seconds) + Duration::from_micros(micros)
}

/// Ticks of all processors since boot.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Load {
    idle: u64,
    total: u64,
}

impl Load {
    /// Reads the first line of `/proc/stat`; waiting for a disk counts as idle.
    pub fn parse(text: &str) -> Option<Self> {
        let line = text.lines().next()?.strip_prefix("cpu ")?;
        let fields: Vec<u64> = line.split_ascii_whitespace().filter_map(|field| field.parse().ok()).collect();
        // Fields nine and ten, time spent for guests, are already in the first two.
        Some(Self { idle: fields.get(3)? + fields.get(4)?, total: fields.iter().take(8).sum() })
    }

    /// Now.
    pub fn now() -> Option<Self> {
        Self::parse(&std::fs::read_to_string("/proc/stat").ok()?)
    }

    /// Which part of the time since `earlier` the processors worked, from 0 to 1.
    pub fn busy_since(self, earlier: Self) -> Option<f64> {
        let total = self.total.checked_sub(earlier.total).filter(|&total| total > 0)?;
        let idle = self.idle.saturating_sub(earlier.idle).min(total);
        Some((total - idle) as f64 / total as f64)
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn a_name_with_parentheses_does_not_move_the_fields() {
        let line = "42 (a) b (c) S 7 42 42 0 -1 4194560 100 0 0 0 11 22 33 44 20 0 1 0 987654 1000 50";
        let stat = Stat { pid: 42, state: 'S', parent: 7, ticks: 110, started: 987_654 };
        assert_eq!(Stat::parse(line), Some(stat));
        for garbage in ["", "42", "42 (a)", "42 (a) S 1", "x (a) S 7 42 42 0 -1 0 0 0 0 0 1 2 3 4 20 0 1 0 9"] {
            assert_eq!(Stat::parse(garbage), None, "{garbage:?}");
        }
    }

    #[test]
    fn this_process_is_found_below_its_parent() {
        let me = i32::try_from(std::process::id()).unwrap();
        let all = all();
        let parent = all[&me].parent;
        assert!(children(&all, parent).iter().any(|child| child.pid == me));
        assert!(family(&all, &[parent]).iter().any(|member| member.pid == me));
    }

    #[test]
    fn a_family_is_everybody_below_the_roots_once() {
        let stat = |pid, parent| (pid, Stat { pid, state: 'S', parent, ticks: 1, started: 0 });
        let all: BTreeMap<i32, Stat> = [stat(1, 0), stat(2, 1), stat(3, 2), stat(4, 2), stat(5, 1), stat(6, 5)].into();
        let pids = |roots: &[i32]| family(&all, roots).iter().map(|s| s.pid).collect::<Vec<_>>();
        assert_eq!(pids(&[2]), [2, 3, 4]);
        assert_eq!(pids(&[2, 3, 6]), [2, 3, 4, 6]);
        assert_eq!(pids(&[99]), [0; 0]);
    }

    #[test]
    fn busy_is_what_was_not_idle() {
        let at = |text: &str| Load::parse(text).unwrap();
        let before = at("cpu  100 0 100 700 100 0 0 0 0 0\ncpu0 1 1\n");
        let after = at("cpu  130 0 120 740 110 0 0 0 0 0\n");
        assert_eq!(after.busy_since(before), Some(0.5));
        assert_eq!(before.busy_since(before), None);
        assert_eq!(Load::parse("cpu0 1 2 3 4 5"), None);
    }
}
