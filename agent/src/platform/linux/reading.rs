//! Reading files of a release, from descriptor to descriptor without following a link, so that nothing planted in the
//! tree leads out of it. Which files have to be read is decided by `sweep`, what a digest means as well.

use std::fs::File;
use std::io;
use std::num::NonZeroUsize;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::Path;
use std::sync::atomic::{AtomicUsize, Ordering};

use fleet::manifest::LARGEST_UNPACKED;
use fleet::{Digest, ReleaseId};
use rustix::fs::{FileType, Mode, OFlags, fstat, open, openat};

use super::digests::Rest;
use super::tree::{Print, Tree, Trust};
use super::{boot_clock, digests};

/// Two keep a small machine usable, and read as fast as most disks give.
const MOST_READERS: usize = 2;
/// Below this another thread costs more than it brings.
const WORTH_A_THREAD: usize = 16;
/// Readings of a file that changes while it is read, before that is said instead of a digest.
const MOST_READINGS: usize = 3;
/// A file that changed this short a time ago is trusted only while it is watched: a second change may fall into the
/// same tick of the file system's clock (10 ms at worst on Linux, whole seconds on old file systems).
const SETTLED_AFTER_NANOS: i64 = 2_000_000_000;

pub(super) const DIRECTORY: OFlags =
    OFlags::RDONLY.union(OFlags::DIRECTORY).union(OFlags::NOFOLLOW).union(OFlags::CLOEXEC);
/// Never waits for the other end of a FIFO.
pub(super) const FILE: OFlags =
    OFlags::RDONLY.union(OFlags::NONBLOCK).union(OFlags::NOFOLLOW).union(OFlags::CLOEXEC).union(OFlags::NOCTTY);

/// A leaf to read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Job {
    pub(super) folder: u32,
    pub(super) leaf: u32,
}

/// What reading a leaf brought.
#[derive(Debug)]
pub(super) enum Content {
    /// Its digest, and how far what it looks like may be trusted from now on.
    Read(Digest, Trust),
    /// Why not, for people.
    Refused(String),
}

/// The directory of a release below a service's root.
pub(super) fn open_release(root: &Path, held: &ReleaseId) -> rustix::io::Result<OwnedFd> {
    let root = open(root, OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC, Mode::empty())?;
    let releases = openat(&root, "releases", DIRECTORY, Mode::empty())?;
    openat(&releases, held.as_str(), DIRECTORY, Mode::empty())
}

/// A directory in a release.
pub(super) fn open_folder(top: BorrowedFd<'_>, path: &str) -> rustix::io::Result<OwnedFd> {
    let mut at = openat(top, ".", DIRECTORY, Mode::empty())?;
    for part in path.split('/').filter(|part| !part.is_empty()) {
        at = openat(&at, part, DIRECTORY, Mode::empty())?;
    }
    Ok(at)
}

/// Whether what looks like this has lain there long enough to be known by its looks.
pub(super) fn is_settled(print: Print) -> bool {
    boot_clock::wall_nanos().saturating_sub(print.changed()) >= SETTLED_AFTER_NANOS
}

/// Reads leaves, several at once where there are many; `jobs` of one directory stand together. A leaf that is not among
/// the answers was not read.
pub(super) fn read_all(tree: &Tree, top: BorrowedFd<'_>, jobs: &[Job]) -> Vec<(u32, Content)> {
    let cores = std::thread::available_parallelism().map_or(1, NonZeroUsize::get);
    let readers = cores.min(MOST_READERS).min(1 + jobs.len() / WORTH_A_THREAD);
    let next = AtomicUsize::new(0);
    let work = || {
        let mut reader = Reader::new(tree, top);
        let mut done = Vec::new();
        while let Some(job) = jobs.get(next.fetch_add(1, Ordering::Relaxed)) {
            done.push((job.leaf, reader.read(*job)));
        }
        done
    };
    if readers <= 1 {
        return work();
    }
    std::thread::scope(|scope| {
        let others: Vec<_> = (1..readers).map(|_| scope.spawn(work)).collect();
        let mut done = work();
        for other in others {
            match other.join() {
                Ok(its) => done.extend(its),
                Err(_) => tracing::error!("a thread that read files has ended by a fault of the agent"),
            }
        }
        done
    })
}

/// Reads leaves one after the other; the directory of the last one stays open for the next.
pub(super) struct Reader<'a> {
    tree: &'a Tree,
    top: BorrowedFd<'a>,
    folder: Option<(u32, OwnedFd)>,
    buffer: Vec<u8>,
}

impl<'a> Reader<'a> {
    pub(super) fn new(tree: &'a Tree, top: BorrowedFd<'a>) -> Self {
        Self { tree, top, folder: None, buffer: digests::buffer() }
    }

    /// Reads one leaf to its end, as it is then.
    pub(super) fn read(&mut self, job: Job) -> Content {
        match self.open(job).and_then(|file| content(&file, &mut self.buffer, &mut || Ok(()))) {
            Ok((digest, trust)) => Content::Read(digest, trust),
            Err(cause) => Content::Refused(cause.to_string()),
        }
    }

    fn open(&mut self, job: Job) -> io::Result<File> {
        if self.folder.as_ref().is_none_or(|(open, _)| *open != job.folder) {
            let path = &self.tree.folders[job.folder as usize].path;
            self.folder = Some((job.folder, open_folder(self.top, path)?));
        }
        let Some((_, folder)) = &self.folder else { return Err(io::Error::other("its directory is closed")) };
        // Another thing may have this name by now; what was really opened is looked at before it is read.
        Ok(File::from(openat(folder, self.tree.name(job.leaf), FILE, Mode::empty())?))
    }
}

/// Opens one leaf.
pub(super) fn open_leaf(tree: &Tree, top: BorrowedFd<'_>, job: Job) -> io::Result<File> {
    let folder = open_folder(top, &tree.folders[job.folder as usize].path)?;
    Ok(File::from(openat(&folder, tree.name(job.leaf), FILE, Mode::empty())?))
}

/// The digest of an open regular file that stayed the same while it was read, and how far its looks can be trusted.
pub(super) fn content(file: &File, buffer: &mut [u8], rest: Rest<'_>) -> io::Result<(Digest, Trust)> {
    let found = fstat(file.as_fd())?;
    if FileType::from_raw_mode(found.st_mode) != FileType::RegularFile {
        return Err(io::Error::other("not a regular file"));
    }
    if u64::try_from(found.st_size).unwrap_or(0) > LARGEST_UNPACKED {
        return Err(io::Error::other(format!("{} bytes are more than any file of a release has", found.st_size)));
    }
    let mut before = Print::of(&found);
    for _ in 0..MOST_READINGS {
        let settled = is_settled(before);
        let digest = digests::read(file, buffer, rest)?;
        let after = Print::of(&fstat(file.as_fd())?);
        if before == after {
            return Ok((digest, if settled { Trust::Settled(after) } else { Trust::Fresh(after) }));
        }
        before = after;
    }
    Err(io::Error::other("it changes while it is read"))
}
