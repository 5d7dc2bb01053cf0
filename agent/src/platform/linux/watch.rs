//! Being told of changes below releases, by inotify. What was told is kept as marks until a look takes them; where
//! something may have gone untold, that is a mark as well. What lies at a marked place is looked at by `sweep`.
//!
//! Not told: writing through a mapping that stays open, through a second hard link elsewhere, and on the far side of a
//! network file system. A sweep finds these by their change times.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::ffi::{CStr, CString};
use std::io;
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::sync::{Mutex, MutexGuard, PoisonError};

use rustix::fs::inotify::{self, CreateFlags, ReadFlags, Reader, WatchFlags};
use rustix::io::Errno;

/// Bounds of what watching may take.
#[derive(Debug, Clone, Copy)]
pub struct WatchLimits {
    /// Directories watched at the same time. The kernel takes about 1 KiB for each, and by default gives one user at
    /// least 8,192 in all; a release may have 100,000 entries, and most have far fewer directories.
    pub watches: usize,
    /// Names marked between two looks; beyond that a look at everything is cheaper than one at each.
    pub marks: usize,
}

impl Default for WatchLimits {
    fn default() -> Self {
        Self { watches: 65_536, marks: 1_024 }
    }
}

/// A tree, by number; numbers are not used twice.
pub(super) type TreeNumber = u64;

/// What was told of one tree since it was last looked at.
#[derive(Debug, Default, Clone, PartialEq, Eq)]
pub(super) struct Marks {
    /// Names in directories of the release, by the directory's number.
    pub(super) names: BTreeMap<u32, BTreeSet<CString>>,
    count: usize,
    pub(super) upheaval: Option<Upheaval>,
}

/// What makes single marks worthless.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Upheaval {
    /// More happened than can be listed, or a directory itself was changed. Everything is still watched.
    Much,
    /// The kernel dropped events.
    Overflow,
    /// A watched directory was moved, removed or unmounted: what is there now may not be watched.
    Moved,
}

/// Why a directory is not watched.
#[derive(Debug, thiserror::Error)]
pub(super) enum Unwatchable {
    #[error("the limit of {0} watched directories of this agent is reached")]
    OwnLimit(usize),
    #[error("the kernel gives no more watches (fs.inotify.max_user_watches)")]
    KernelLimit,
    #[error("a directory lies at two places of the releases at once")]
    Twice,
    #[error("{0}")]
    Refused(Errno),
}

/// What a watched directory is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Spot {
    /// A directory of the release, by number.
    Folder(u32),
    /// The service's root, in which `current` and `releases` lie.
    Root,
    /// The directory in which releases lie.
    Releases,
}

/// The watches of all trees.
#[derive(Debug)]
pub(super) struct Watches {
    inotify: OwnedFd,
    limits: WatchLimits,
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    spots: HashMap<i32, (TreeNumber, Spot)>,
    trees: BTreeMap<TreeNumber, Known>,
}

#[derive(Debug, Default)]
struct Known {
    watches: Vec<i32>,
    /// The name of the release's directory.
    release: CString,
    marks: Marks,
}

/// Whether something was told.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Told {
    Nothing,
    Something,
}

/// Reading changes nothing and is not asked for. A change of the size by `truncate` is a modification; a writer that
/// mapped the file is told of when its last reference goes, as the end of writing.
const IN_RELEASE: WatchFlags = WatchFlags::MODIFY
    .union(WatchFlags::ATTRIB)
    .union(WatchFlags::CLOSE_WRITE)
    .union(WatchFlags::CREATE)
    .union(WatchFlags::DELETE)
    .union(WatchFlags::MOVE)
    .union(WatchFlags::DELETE_SELF)
    .union(WatchFlags::MOVE_SELF)
    .union(WatchFlags::EXCL_UNLINK)
    .union(WatchFlags::ONLYDIR);
/// Only names matter: the service may write in files of its own there all day.
const BESIDE: WatchFlags = WatchFlags::CREATE
    .union(WatchFlags::DELETE)
    .union(WatchFlags::MOVE)
    .union(WatchFlags::DELETE_SELF)
    .union(WatchFlags::MOVE_SELF)
    .union(WatchFlags::ONLYDIR);

impl Watches {
    /// # Errors
    /// The kernel gives no inotify instance (`fs.inotify.max_user_instances`).
    pub(super) fn new(limits: WatchLimits) -> io::Result<Self> {
        let inotify = inotify::init(CreateFlags::CLOEXEC | CreateFlags::NONBLOCK)?;
        Ok(Self { inotify, limits, state: Mutex::default() })
    }

    /// Readable when something was told.
    pub(super) fn descriptor(&self) -> BorrowedFd<'_> {
        self.inotify.as_fd()
    }

    /// Begins a tree; what was watched of it before is forgotten.
    pub(super) fn begin(&self, tree: TreeNumber, release: &str) {
        self.end(tree);
        let release = CString::new(release).unwrap_or_default();
        self.state().trees.insert(tree, Known { release, ..Known::default() });
    }

    /// Watches one directory of a tree that was begun.
    ///
    /// # Errors
    /// Why it is not watched.
    pub(super) fn add(&self, tree: TreeNumber, spot: Spot, directory: BorrowedFd<'_>) -> Result<(), Unwatchable> {
        let mut state = self.state();
        if state.spots.len() >= self.limits.watches {
            return Err(Unwatchable::OwnLimit(self.limits.watches));
        }
        let mask = match spot {
            Spot::Folder(_) => IN_RELEASE,
            Spot::Root | Spot::Releases => BESIDE,
        };
        // By descriptor: whatever lies at the path by now, this is the directory that is looked at.
        let path = format!("/proc/self/fd/{}", directory.as_raw_fd());
        let watch = match inotify::add_watch(&self.inotify, path, mask) {
            Ok(watch) => watch,
            Err(Errno::NOSPC) => return Err(Unwatchable::KernelLimit),
            Err(refused) => return Err(Unwatchable::Refused(refused)),
        };
        if state.spots.insert(watch, (tree, spot)).is_some_and(|before| before != (tree, spot)) {
            return Err(Unwatchable::Twice);
        }
        if let Some(known) = state.trees.get_mut(&tree) {
            known.watches.push(watch);
        }
        Ok(())
    }

    /// Ends a tree: nothing of it is watched any more.
    pub(super) fn end(&self, tree: TreeNumber) {
        let mut state = self.state();
        let Some(known) = state.trees.remove(&tree) else { return };
        for watch in known.watches {
            if state.spots.get(&watch).is_some_and(|(of, _)| *of == tree) {
                state.spots.remove(&watch);
                // A directory that is gone has taken its watch with it.
                let _ = inotify::remove_watch(&self.inotify, watch);
            }
        }
    }

    /// Takes in everything that was told so far.
    pub(super) fn listen(&self) -> Told {
        let mut state = self.state();
        // Enough for a few hundred events; a name has at most 255 bytes.
        let mut buffer = [MaybeUninit::uninit(); 16 << 10];
        let mut reader = Reader::new(&self.inotify, &mut buffer);
        let mut told = Told::Nothing;
        loop {
            match reader.next() {
                Ok(event) => {
                    if state.mark(event.wd(), event.events(), event.file_name(), self.limits.marks) == Told::Something {
                        told = Told::Something;
                    }
                }
                Err(Errno::INTR) => {}
                Err(Errno::WOULDBLOCK) => return told,
                Err(refused) => {
                    tracing::error!("changes of files cannot be read: {refused}; everything is looked at instead");
                    state.mark_all(Upheaval::Overflow);
                    return Told::Something;
                }
            }
        }
    }

    /// Marks a name as if it had been told of.
    pub(super) fn mark(&self, tree: TreeNumber, folder: u32, name: &str) {
        let Ok(name) = CString::new(name) else { return };
        if let Some(known) = self.state().trees.get_mut(&tree) {
            known.marks.add(folder, &name, self.limits.marks);
        }
    }

    /// What was told of a tree since the last time.
    pub(super) fn take(&self, tree: TreeNumber) -> Marks {
        self.state().trees.get_mut(&tree).map(|known| std::mem::take(&mut known.marks)).unwrap_or_default()
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl State {
    fn mark(&mut self, watch: i32, events: ReadFlags, name: Option<&CStr>, most: usize) -> Told {
        if events.contains(ReadFlags::QUEUE_OVERFLOW) {
            tracing::warn!(
                "the kernel dropped changes of files that were not taken in fast enough: everything is looked at"
            );
            self.mark_all(Upheaval::Overflow);
            return Told::Something;
        }
        if events.contains(ReadFlags::IGNORED) {
            // Its directory is gone, unless the watch was ended here: then it is not known any more.
            let Some((tree, _)) = self.spots.remove(&watch) else { return Told::Nothing };
            return self.upheave(tree, Upheaval::Moved);
        }
        let Some((tree, spot)) = self.spots.get(&watch).copied() else { return Told::Nothing };
        if events.intersects(ReadFlags::MOVE_SELF | ReadFlags::DELETE_SELF | ReadFlags::UNMOUNT) {
            return self.upheave(tree, Upheaval::Moved);
        }
        let Some(known) = self.trees.get_mut(&tree) else { return Told::Nothing };
        match (spot, name) {
            (Spot::Folder(_), None) => self.upheave(tree, Upheaval::Much),
            (Spot::Folder(folder), Some(name)) => {
                known.marks.add(folder, name, most);
                Told::Something
            }
            // `current` is read at every look.
            (Spot::Root, Some(name)) if name == c"current" => Told::Something,
            (Spot::Root, Some(name)) if name == c"releases" => self.upheave(tree, Upheaval::Moved),
            (Spot::Releases, Some(name)) if name == known.release.as_c_str() => self.upheave(tree, Upheaval::Moved),
            (Spot::Root | Spot::Releases, _) => Told::Nothing,
        }
    }

    fn upheave(&mut self, tree: TreeNumber, upheaval: Upheaval) -> Told {
        if let Some(known) = self.trees.get_mut(&tree) {
            known.marks.upheave(upheaval);
        }
        Told::Something
    }

    fn mark_all(&mut self, upheaval: Upheaval) {
        self.trees.values_mut().for_each(|known| known.marks.upheave(upheaval));
    }
}

impl Marks {
    /// Whether nothing was told.
    pub(super) fn is_empty(&self) -> bool {
        self.count == 0 && self.upheaval.is_none()
    }

    fn add(&mut self, folder: u32, name: &CStr, most: usize) {
        // What comes before a look at everything is seen by that, and what comes after its beginning too.
        if self.upheaval.is_some() {
            return;
        }
        if self.count >= most {
            return self.upheave(Upheaval::Much);
        }
        if self.names.entry(folder).or_default().insert(name.to_owned()) {
            self.count += 1;
        }
    }

    fn upheave(&mut self, upheaval: Upheaval) {
        self.upheaval = Some(self.upheaval.map_or(upheaval, |before| before.max(upheaval)));
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use std::fs::{self, File};
    use std::path::Path;

    /// A machine whose queue is longer than this would be kept busy for what it proves.
    const LONGEST_QUEUE: u64 = 100_000;

    #[test]
    fn when_the_kernel_drops_events_every_tree_is_doubted_and_watching_goes_on() {
        let queue = fs::read_to_string("/proc/sys/fs/inotify/max_queued_events").unwrap();
        let queue: u64 = queue.trim().parse().unwrap();
        if queue > LONGEST_QUEUE {
            use std::io::Write as _;
            let _closed = writeln!(io::stderr(), "SKIPPED: events that the kernel drops: it keeps {queue} of them");
            return;
        }
        let directory = tempfile::tempdir().unwrap();
        let [one, two] = ["one", "two"].map(|name| directory.path().join(name));
        fs::write(&one, "").unwrap();
        fs::write(&two, "").unwrap();
        let watches = Watches::new(WatchLimits::default()).unwrap();
        watches.begin(1, "r-000000000001");
        watches.begin(2, "r-000000000002");
        watches.add(1, Spot::Folder(0), File::open(directory.path()).unwrap().as_fd()).unwrap();
        let permissions = fs::metadata(&one).unwrap().permissions();
        let touch = |path: &Path| fs::set_permissions(path, permissions.clone()).unwrap();
        // By turns, because an event like the one before it takes no room; at least one more than there is room for.
        for _ in 0..=queue / 2 {
            touch(&one);
            touch(&two);
        }
        assert_eq!(watches.listen(), Told::Something);
        for tree in [1, 2] {
            assert_eq!(watches.take(tree).upheaval, Some(Upheaval::Overflow), "what was dropped may be of any tree");
        }
        assert_eq!(watches.listen(), Told::Nothing);
        touch(&one);
        assert_eq!(watches.listen(), Told::Something);
        let marks = watches.take(1);
        assert_eq!((marks.names.len(), marks.upheaval), (1, None));
        assert!(marks.names[&0].contains(c"one") && watches.take(2).is_empty(), "{marks:?}");
    }
}
