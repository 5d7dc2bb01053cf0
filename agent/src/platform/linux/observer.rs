//! The observer of Linux: puts together the files of the held release, `current`, and the processes.

use std::io;
use std::path::PathBuf;
use std::sync::Arc;

use fleet::Millis;
use fleet::looked::Depth;
use tokio::sync::watch;

use super::digests::Digests;
use super::ears::Ears;
use super::packages::Packages;
use super::proc;
use super::processes::{Found, Watch};
use super::programs::Programs;
use super::recall::Recall;
use super::rehash::Rehash;
use super::trees::Trees;
use super::view::Home;
use super::watch::{WatchLimits, Watches};
use crate::platform::{Look, Observer, Scope, Seen};

/// How often files are looked at and read although nothing was told of them.
#[derive(Debug, Clone, Copy)]
pub struct WatchPace {
    /// Between two looks at every file, at most.
    pub sweep_every: Millis,
    /// One is followed by this many times as long without one, if that is sooner.
    pub sweep_rest: u64,
    /// But by at least this, however small the release.
    pub sweep_soonest: Millis,
    /// Between two readings of every file.
    pub rehash_every: Millis,
    /// Between two looks whether something is due to be read again, or was made so by something odd. That passes over all
    /// files of what is held, in memory only.
    pub rehash_look_every: Millis,
    /// The part of one core that reading them again may take, in percent.
    pub cpu_percent: u8,
}

impl Default for WatchPace {
    fn default() -> Self {
        // About a three-thousandth of one core: 20,000 files (40 ms) are looked at every two minutes, 1,000 (2 ms) in every
        // round.
        let sweep_rest = 3_000;
        Self {
            sweep_every: Millis::from_secs(120),
            sweep_rest,
            sweep_soonest: Millis::from_secs(1),
            rehash_every: Millis::from_secs(3_600),
            rehash_look_every: Millis::from_secs(15),
            cpu_percent: 10,
        }
    }
}

/// Sees through /proc what really runs, and on the disk what really lies there.
///
/// As an ordinary user it cannot see what other users' processes execute: those count only by parentage.
#[derive(Debug)]
pub struct LinuxObserver {
    watch: Watch,
    digests: Digests,
    trees: Arc<Trees>,
    recall: Recall,
    noticed: watch::Receiver<u64>,
    _ears: Ears,
    _rehash: Rehash,
}

impl LinuxObserver {
    /// An observer of this boot. `services_root` is the directory below which the agent's services have their roots.
    ///
    /// # Errors
    /// /proc is not mounted or hides the boot id.
    pub fn new(scope: Scope, services_root: PathBuf) -> io::Result<Self> {
        Self::with(scope, services_root, WatchPace::default(), WatchLimits::default())
    }

    /// The same at a pace and within limits of the caller's.
    ///
    /// # Errors
    /// As [`Self::new`].
    pub fn with(scope: Scope, services_root: PathBuf, pace: WatchPace, limits: WatchLimits) -> io::Result<Self> {
        let services_root = std::fs::canonicalize(&services_root).unwrap_or(services_root);
        let (notice, noticed) = watch::channel(0);
        let watches = Watches::new(limits).map(Arc::new).map_err(|cause| {
            tracing::warn!("files cannot be watched, every look sweeps them: {cause}");
            format!("the kernel does not let this agent watch files: {cause}")
        });
        let programs = Programs::open()
            .inspect_err(|cause| tracing::info!("programs that begin are found by looking, not told: {cause}"))
            .ok();
        let home = Home::new(&services_root);
        let trees = Arc::new(Trees::new(watches.clone(), pace));
        let watches = watches.ok();
        Ok(Self {
            _ears: Ears::open(watches, programs, notice.clone())?,
            _rehash: Rehash::begin(trees.clone(), notice)?,
            watch: Watch { scope, services_root, boot_id: proc::boot_id()?, home, packages: Packages::new() },
            digests: Digests::default(),
            trees,
            recall: Recall::default(),
            noticed,
        })
    }
}

impl Observer for LinuxObserver {
    fn look(&self, look: &Look<'_>) -> io::Result<Seen> {
        self.look_to(Depth::Sweep, look)
    }

    fn look_to(&self, depth: Depth, look: &Look<'_>) -> io::Result<Seen> {
        let files = self.trees.look(&look.place.root, look.held, &self.digests, depth);
        let Found { processes, hidden, outside, outside_omitted } =
            self.recall.processes(&self.watch, look, &self.digests, depth)?;
        Ok(Seen {
            files: files.listed,
            files_omitted: files.omitted,
            processes,
            hidden,
            outside,
            outside_omitted,
            current: look.place.live(),
            looked: files.looked,
        })
    }

    fn noticed(&self) -> Option<watch::Receiver<u64>> {
        Some(self.noticed.clone())
    }

    fn boot_id(&self) -> String {
        self.watch.boot_id.clone()
    }

    fn ticks_now(&self) -> u64 {
        proc::ticks_now()
    }
}
