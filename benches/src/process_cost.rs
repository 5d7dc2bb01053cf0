//! What a running process costs: memory, CPU time and wake-ups, as /proc tells it.

use std::collections::BTreeMap;
use std::time::Duration;

use anyhow::Context as _;
use serde::Serialize;

use crate::procfs;

/// Memory of one process or several, in KiB.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Memory {
    /// All pages that are in memory.
    pub rss_kib: u64,
    /// The same, pages that others use as well counted in part.
    pub pss_kib: u64,
    /// Those that no file is behind.
    pub anonymous_kib: u64,
}

impl Memory {
    /// Of some processes together.
    ///
    /// # Errors
    /// One has ended, or may not be looked at.
    pub fn of(pids: &[i32]) -> anyhow::Result<Self> {
        let mut sum = Self::default();
        for pid in pids {
            let path = format!("/proc/{pid}/smaps_rollup");
            let text = std::fs::read_to_string(&path).with_context(|| format!("cannot read {path}"))?;
            let one = Self::parse(&text).with_context(|| format!("{path} has an unknown form"))?;
            sum.rss_kib += one.rss_kib;
            sum.pss_kib += one.pss_kib;
            sum.anonymous_kib += one.anonymous_kib;
        }
        Ok(sum)
    }

    fn parse(text: &str) -> Option<Self> {
        let field = |name: &str| {
            text.lines().find_map(|line| {
                let value = line.strip_prefix(name)?.strip_prefix(':')?.trim().strip_suffix("kB")?;
                value.trim().parse().ok()
            })
        };
        Some(Self { rss_kib: field("Rss")?, pss_kib: field("Pss")?, anonymous_kib: field("Anonymous")? })
    }
}

/// What some processes have used until a moment. Only the difference of two means something.
#[derive(Debug, Clone)]
pub struct Used {
    cpu: Duration,
    /// How often each thread has gone to sleep by itself, and so was woken.
    sleeps: BTreeMap<String, u64>,
}

impl Used {
    /// By these processes until now.
    ///
    /// # Errors
    /// One has ended.
    pub fn by(pids: &[i32]) -> anyhow::Result<Self> {
        let (mut cpu, mut sleeps) = (Duration::ZERO, BTreeMap::new());
        for pid in pids {
            cpu += procfs::on_cpu(*pid)?;
            let path = format!("/proc/{pid}/task");
            let threads = std::fs::read_dir(&path).with_context(|| format!("process {pid} has ended"))?;
            for thread in threads.flatten() {
                // A thread may end between the listing and the reading.
                let Ok(text) = std::fs::read_to_string(thread.path().join("status")) else { continue };
                let count = text.lines().find_map(|line| line.strip_prefix("voluntary_ctxt_switches:"));
                if let Some(count) = count.and_then(|count| count.trim().parse().ok()) {
                    sleeps.insert(format!("{pid}/{}", thread.file_name().display()), count);
                }
            }
        }
        Ok(Self { cpu, sleeps })
    }

    /// CPU time since `earlier`, in seconds.
    pub fn cpu_since(&self, earlier: &Self) -> f64 {
        self.cpu.saturating_sub(earlier.cpu).as_secs_f64()
    }

    /// Wake-ups since `earlier`. Those of threads that have ended are not in it.
    pub fn wake_ups_since(&self, earlier: &Self) -> u64 {
        let since = |(thread, count): (&String, &u64)| count - earlier.sleeps.get(thread).unwrap_or(&0).min(count);
        self.sleeps.iter().map(since).sum()
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn this_process_has_memory_and_wakes_up() {
        let me = [crate::process::own_pid()];
        let memory = Memory::of(&me).unwrap();
        assert!(memory.rss_kib >= memory.pss_kib && memory.pss_kib > 0 && memory.anonymous_kib > 0, "{memory:?}");
        let before = Used::by(&me).unwrap();
        for _ in 0..20 {
            std::thread::sleep(Duration::from_millis(1));
        }
        let after = Used::by(&me).unwrap();
        assert!(after.wake_ups_since(&before) >= 20);
        assert!(after.cpu_since(&before) > 0.0);
    }

    #[test]
    fn a_rollup_is_read() {
        let text = "55d0-7ffe ---p 00000000 00:00 0 [rollup]\nRss:  5404 kB\nPss:  3900 kB\nPss_Dirty: 1 kB\nAnonymous:   412 kB\n";
        assert_eq!(Memory::parse(text), Some(Memory { rss_kib: 5_404, pss_kib: 3_900, anonymous_kib: 412 }));
        assert_eq!(Memory::parse("Rss: 1 kB"), None);
    }
}
