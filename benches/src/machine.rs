//! How the machine was while it was measured: size, load, and whether it was quiet.

use std::time::{Duration, Instant};

use serde::Serialize;

use crate::interrupt::{self, Interrupted};
use crate::procfs::Load;
use crate::statistics::Spread;

/// Over how long the machine is watched.
const WINDOW: Duration = Duration::from_secs(2);
/// How long a pair waits for a quiet machine before it runs on a noisy one.
const LONGEST_WAIT: Duration = Duration::from_secs(10);
/// A machine that works less than this is quiet.
const QUIET: f64 = 0.08;

/// Whether the machine was quiet before a pair.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub struct Gate {
    /// Which part of the last window the processors worked, from 0 to 1; our own idle fleet is in it.
    pub busy: f64,
    /// Whether that was little enough.
    pub quiet: bool,
}

/// Waits for a quiet machine, but not for long.
///
/// # Errors
/// [`Interrupted`].
pub fn wait_for_quiet() -> Result<Gate, Interrupted> {
    let until = Instant::now() + LONGEST_WAIT;
    loop {
        let before = Load::now();
        let end = Instant::now() + WINDOW;
        while Instant::now() < end {
            interrupt::check()?;
            std::thread::sleep(Duration::from_millis(20));
        }
        // Where /proc/stat says nothing, nobody can claim that it was quiet.
        let busy = before.zip(Load::now()).and_then(|(before, now)| now.busy_since(before)).unwrap_or(1.0);
        let quiet = busy < QUIET;
        if quiet || Instant::now() >= until {
            return Ok(Gate { busy, quiet });
        }
    }
}

/// The machine at the start.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Machine {
    /// Processors this program may use.
    pub processors: usize,
    /// The name of the first.
    pub model: String,
    /// Kernel release.
    pub kernel: String,
    /// `/proc/loadavg`: the last one, five and fifteen minutes.
    pub load_average: String,
    /// The filesystem everything is written to.
    pub disk: String,
}

impl Machine {
    /// Looks at it.
    pub fn look(dir: &std::path::Path) -> Self {
        let read = |path: &str| std::fs::read_to_string(path).unwrap_or_default();
        let cpuinfo = read("/proc/cpuinfo");
        let model = cpuinfo.lines().find_map(|line| line.strip_prefix("model name")?.split_once(':'));
        Self {
            processors: std::thread::available_parallelism().map_or(1, usize::from),
            model: model.map_or("unknown", |(_, name)| name).trim().to_owned(),
            kernel: read("/proc/sys/kernel/osrelease").trim().to_owned(),
            load_average: read("/proc/loadavg").split_whitespace().take(3).collect::<Vec<_>>().join(" "),
            disk: filesystem(dir),
        }
    }
}

/// What a report says at its end of the machine, and of the noise; `what` began at the gates.
pub fn surroundings(machine: &Machine, gates: &[Gate], what: &str, versions: &[String]) -> String {
    let noisy = gates.iter().filter(|gate| !gate.quiet).count();
    let busy = Spread::of(gates.iter().map(|gate| gate.busy * 100.0))
        .map_or_else(String::new, |s| format!(" (busy {:.0} %, {:.0} to {:.0})", s.median, s.min, s.max));
    format!(
        "noise: load average at the start {}; {noisy} of {} {what}s began on a machine that was not quiet{busy}\n\
         machine: {} x {}, Linux {}, {}\nversions: {}\n",
        machine.load_average,
        gates.len(),
        machine.processors,
        machine.model,
        machine.kernel,
        machine.disk,
        versions.join("; ")
    )
}

fn filesystem(dir: &std::path::Path) -> String {
    use nix::sys::statfs::{BTRFS_SUPER_MAGIC, EXT4_SUPER_MAGIC, OVERLAYFS_SUPER_MAGIC, TMPFS_MAGIC, XFS_SUPER_MAGIC};
    let name = match nix::sys::statfs::statfs(dir).map(|found| found.filesystem_type()) {
        Ok(EXT4_SUPER_MAGIC) => "ext4",
        Ok(XFS_SUPER_MAGIC) => "xfs",
        Ok(BTRFS_SUPER_MAGIC) => "btrfs",
        Ok(TMPFS_MAGIC) => "tmpfs (its syncs cost nothing)",
        Ok(OVERLAYFS_SUPER_MAGIC) => "overlay",
        _ => "unknown",
    };
    name.to_owned()
}
