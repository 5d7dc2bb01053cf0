//! The releases that a node holds, each with what is known of its files, and how deep a look has to be: what is watched
//! and was not touched is said again, what was touched is looked at, and whatever makes that doubtful leads to a look at
//! everything. Looking itself is `sweep`'s work, being told `watch`'s, reading everything again in good time `rehash`'s.

use std::collections::BTreeMap;
use std::os::fd::AsFd;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use fleet::evidence::FileDeviation;
use fleet::looked::{Depth, Looked};
use fleet::manifest::Manifest;
use fleet::{Millis, ReleaseId};
use rustix::fs::{Mode, OFlags, open, openat};

use super::digests::Digests;
use super::reading::{DIRECTORY, Job};
use super::sweep::{self, Marked, Reread};
use super::tree::{Tree, Watched};
use super::watch::{Spot, TreeNumber, Unwatchable, Upheaval, Watches};
use super::{WatchPace, boot_clock, memory};

/// Between two tries to watch what could not be watched.
const TRY_AGAIN: Millis = Millis::from_secs(60);

/// What a look at files saw.
#[derive(Debug, Default)]
pub(super) struct FilesSeen {
    pub(super) listed: Vec<FileDeviation>,
    pub(super) omitted: u64,
    pub(super) looked: Looked,
}

/// A release that is held, and its number among the watched.
#[derive(Debug)]
pub(super) struct HeldTree {
    pub(super) number: TreeNumber,
    pub(super) root: PathBuf,
    pub(super) tree: Tree,
}

/// Empty while it is looked at, and after a look that a fault of the agent broke off: then everything is looked at anew.
pub(super) type Slot = Arc<Mutex<Option<HeldTree>>>;

/// All of them.
#[derive(Debug)]
pub(super) struct Trees {
    /// Or why nothing can be watched.
    watches: Result<Arc<Watches>, String>,
    pace: WatchPace,
    slots: Mutex<BTreeMap<PathBuf, Slot>>,
    numbers: AtomicU64,
}

impl Trees {
    pub(super) fn new(watches: Result<Arc<Watches>, String>, pace: WatchPace) -> Self {
        Self { watches, pace, slots: Mutex::default(), numbers: AtomicU64::new(1) }
    }

    /// Looks at what a service holds.
    pub(super) fn look(
        &self,
        root: &Path,
        held: Option<(&ReleaseId, &Manifest)>,
        digests: &Digests,
        depth: Depth,
    ) -> FilesSeen {
        let Some((release, manifest)) = held else {
            self.forget(root);
            return FilesSeen::default();
        };
        let slot = lock(&self.slots).entry(root.to_owned()).or_default().clone();
        let mut slot = lock(&slot);
        let mut held = match slot.take() {
            Some(held) if held.tree.is_of(release, manifest) => held,
            other => {
                if let Some(before) = other {
                    self.end(&before);
                }
                let number = self.numbers.fetch_add(1, Ordering::Relaxed);
                HeldTree { number, root: root.to_owned(), tree: Tree::new(release, manifest) }
            }
        };
        let is_new = held.tree.swept.is_none();
        let basis = self.look_at(&mut held, digests, depth);
        if is_new {
            // What unpacking, manifest and the first reading took.
            memory::give_back();
        }
        let tree = &held.tree;
        let seen = FilesSeen {
            listed: tree.found.list(),
            omitted: tree.found.omitted,
            looked: Looked {
                basis,
                swept: tree.swept.map_or(Millis(u64::MAX), boot_clock::since),
                hashed: tree.hashed.map(boot_clock::since),
                unwatched: match &tree.watched {
                    Watched::Yes => None,
                    Watched::No { why, .. } => Some(why.clone()),
                },
            },
        };
        *slot = Some(held);
        seen
    }

    /// How often is looked and read.
    pub(super) fn pace(&self) -> WatchPace {
        self.pace
    }

    /// Has the next look look at a leaf, as if it had been told of.
    pub(super) fn mark(&self, held: &HeldTree, job: Job) {
        if let Ok(watches) = &self.watches {
            watches.mark(held.number, job.folder, held.tree.name(job.leaf));
        }
    }

    /// The releases that are held now.
    pub(super) fn slots(&self) -> Vec<Slot> {
        lock(&self.slots).values().cloned().collect()
    }

    fn forget(&self, root: &Path) {
        let Some(slot) = lock(&self.slots).remove(root) else { return };
        if let Some(held) = lock(&slot).take() {
            self.end(&held);
        }
    }

    fn end(&self, held: &HeldTree) {
        if let Ok(watches) = &self.watches {
            watches.end(held.number);
        }
    }

    /// Looks as deep as asked or as needed, and says how deep that was.
    fn look_at(&self, held: &mut HeldTree, digests: &Digests, depth: Depth) -> Depth {
        let marks = match &self.watches {
            Ok(watches) => {
                watches.listen();
                watches.take(held.number)
            }
            Err(_) => Default::default(),
        };
        let now = boot_clock::now();
        let is_new = held.tree.swept.is_none();
        let is_watched = held.tree.watched == Watched::Yes;
        let moved = marks.upheaval == Some(Upheaval::Moved) || !sweep::is_in_place(&held.tree, &held.root);
        let mut doubtful = moved || marks.upheaval.is_some();
        if depth == Depth::Events && is_watched && !doubtful && held.tree.found.omitted == 0 && !self.is_due(held, now)
        {
            if marks.is_empty() || sweep::look_at(&mut held.tree, &held.root, digests, &marks) == Marked::Looked {
                return Depth::Events;
            }
            doubtful = true;
        }
        if doubtful {
            held.tree.doubt();
        }
        // Where events were lost, looks alone are not enough any more.
        held.tree.odd |= marks.upheaval == Some(Upheaval::Overflow);
        for (folder, name) in marks.names.iter().flat_map(|(folder, names)| names.iter().map(|name| (*folder, name))) {
            held.tree.doubt_name(folder, name);
        }
        let watch = match &held.tree.watched {
            Watched::Yes if moved => Watch::Anew,
            Watched::Yes => Watch::On,
            Watched::No { again, .. } if moved || now >= *again => Watch::Anew,
            Watched::No { .. } => Watch::Not,
        };
        let reread = if is_new || depth == Depth::Hash { Reread::Everything } else { Reread::Nothing };
        let (began, before) = (boot_clock::nanos(), boot_clock::thread_nanos());
        self.sweep(held, digests, reread, watch, is_watched && !moved);
        held.tree.swept = Some(now);
        match reread {
            Reread::Everything => {
                held.tree.hashed = Some(now);
                Depth::Hash
            }
            Reread::Nothing => {
                let (waited, worked) =
                    (boot_clock::nanos().saturating_sub(began), boot_clock::thread_nanos().saturating_sub(before));
                // Waiting for a disk costs others something, too.
                let took = worked.max(waited / 10);
                held.tree.sweeps_took_nanos = [took, held.tree.sweeps_took_nanos[0]];
                Depth::Sweep
            }
        }
    }

    /// Whether everything is to be looked at although nothing was told: the sooner, the less that takes.
    fn is_due(&self, held: &HeldTree, now: Millis) -> bool {
        let pause = self.pace.pause(held.tree.sweeps_took_nanos);
        held.tree.swept.is_none_or(|swept| now.0.saturating_sub(swept.0) >= pause.0)
    }

    fn sweep(&self, held: &mut HeldTree, digests: &Digests, reread: Reread, watch: Watch, told: bool) {
        let watches = match (&self.watches, watch) {
            (Ok(watches), Watch::Anew | Watch::On) => watches,
            (Ok(_), Watch::Not) => {
                return sweep::sweep(&mut held.tree, &held.root, digests, reread, false, &mut |_, _| {});
            }
            (Err(why), _) => {
                held.tree.watched = Watched::No { why: why.clone(), again: Millis(u64::MAX) };
                return sweep::sweep(&mut held.tree, &held.root, digests, reread, false, &mut |_, _| {});
            }
        };
        let mut refused = None;
        if watch == Watch::Anew {
            watches.begin(held.number, held.tree.release.as_str());
            held.tree.folders.iter_mut().for_each(|folder| folder.seen = None);
            refused = watch_beside(watches, held).err();
        }
        let number = held.number;
        // Watched before it is listed, so that nothing happens in between.
        let mut add = |folder: u32, directory: std::os::fd::BorrowedFd<'_>| {
            if refused.is_none() {
                refused = watches.add(number, Spot::Folder(folder), directory).err();
            }
        };
        sweep::sweep(&mut held.tree, &held.root, digests, reread, told, &mut add);
        held.tree.watched = match refused {
            None => Watched::Yes,
            Some(refused) => {
                watches.end(number);
                let why = refused.to_string();
                if !matches!(&held.tree.watched, Watched::No { why: before, .. } if *before == why) {
                    tracing::warn!(root = %held.root.display(), "files are not watched but swept at every look: {why}");
                }
                Watched::No { why, again: Millis(boot_clock::now().0.saturating_add(TRY_AGAIN.0)) }
            }
        };
    }
}

/// How a sweep stands to watching.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Watch {
    /// Everything is watched anew.
    Anew,
    /// It is watched already; directories that are new are added.
    On,
    /// It could not be watched a moment ago.
    Not,
}

/// Watches the service's root, for `current`, and the directory in which the release lies.
fn watch_beside(watches: &Watches, held: &HeldTree) -> Result<(), Unwatchable> {
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
    let root = open(&held.root, flags, Mode::empty()).map_err(Unwatchable::Refused)?;
    watches.add(held.number, Spot::Root, root.as_fd())?;
    // Told of by the root when it comes.
    let Ok(releases) = openat(&root, "releases", DIRECTORY, Mode::empty()) else { return Ok(()) };
    watches.add(held.number, Spot::Releases, releases.as_fd())
}

pub(super) fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
