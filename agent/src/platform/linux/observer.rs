//! The observer of Linux: puts together the files of the held release, `current`, and the processes.

use std::io;
use std::path::PathBuf;
use std::sync::Arc;

use fleet::looked::Depth;
use tokio::sync::watch;

use super::digests::Digests;
use super::ears::Ears;
use super::pace::WatchPace;
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
