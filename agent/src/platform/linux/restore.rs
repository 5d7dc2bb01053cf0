//! Putting single files of a release back, and reading them to show: from descriptor to descriptor without following a
//! link, so that nothing planted in the tree leads out of it. Each path is put right in one step: what takes its place
//! lies ready beside it. What is put right, and what follows from it, is decided elsewhere.

use std::fs::File;
use std::io::{self, Read};
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::path::Path;

use fleet::ReleaseId;
use fleet::evidence::DeviationKind;
use fleet::manifest::Manifest;
use rustix::fs::{
    AtFlags, FileType, Mode, OFlags, RenameFlags, chownat, fchmod, fstat, fsync, open, openat, renameat_with, statat,
};
use rustix::io::Errno;

const DIRECTORY: OFlags = OFlags::RDONLY.union(OFlags::DIRECTORY).union(OFlags::NOFOLLOW).union(OFlags::CLOEXEC);
/// Names a thing without opening it, whatever it is and whoever may read it.
const NAMED: OFlags = OFlags::PATH.union(OFlags::NOFOLLOW).union(OFlags::CLOEXEC);
/// Never waits for the other end of a FIFO.
const FILE: OFlags =
    OFlags::RDONLY.union(OFlags::NONBLOCK).union(OFlags::NOFOLLOW).union(OFlags::CLOEXEC).union(OFlags::NOCTTY);

/// Two trees of one release: the one that is live, and one that was just unpacked (or is empty, where only bits are put
/// right and extra files go). What is wrong with the first ends up in the second.
pub struct Trees {
    live: OwnedFd,
    beside: OwnedFd,
    moved: u32,
}

impl Trees {
    /// Opens both.
    ///
    /// # Errors
    /// One of them is not there, or no directory.
    pub fn open(root: &Path, release: &ReleaseId, beside: &Path) -> io::Result<Self> {
        Ok(Self { live: release_directory(root, release)?, beside: open(beside, DIRECTORY, Mode::empty())?, moved: 0 })
    }

    /// Puts one path right. That it is right already is success: what lies above it may have brought it along.
    ///
    /// # Errors
    /// The system's answer; the path is then as it was, or already right.
    pub fn put_back(&mut self, manifest: &Manifest, path: &str, kind: DeviationKind) -> io::Result<()> {
        match kind {
            DeviationKind::Mode => self.mode(manifest, path),
            DeviationKind::Owner => self.owner(path),
            DeviationKind::Extra => self.remove(path),
            DeviationKind::File | DeviationKind::Missing | DeviationKind::Symlink | DeviationKind::Unreadable => {
                self.content(path)
            }
        }
    }

    fn mode(&self, manifest: &Manifest, path: &str) -> io::Result<()> {
        let Some(entry) = manifest.get(path) else { return Ok(()) };
        let (parent, name) = above(self.live.as_fd(), path)?;
        let named = openat(&parent, name, NAMED, Mode::empty())?;
        if FileType::from_raw_mode(fstat(&named)?.st_mode) == FileType::Symlink {
            return Err(io::Error::other("it is a link by now"));
        }
        // Through the descriptor, so that it is this very inode; it may be unreadable for its owner too.
        let through = format!("/proc/self/fd/{}", named.as_raw_fd());
        Ok(rustix::fs::chmod(through.as_str(), Mode::from_raw_mode(entry.mode))?)
    }

    fn owner(&self, path: &str) -> io::Result<()> {
        let (user, nobody) = (rustix::fs::Uid::from_raw(nix::unistd::geteuid().as_raw()), None);
        if path == "." {
            return Ok(rustix::fs::fchown(&self.live, Some(user), nobody)?);
        }
        let (parent, name) = above(self.live.as_fd(), path)?;
        Ok(chownat(&parent, name, Some(user), nobody, AtFlags::SYMLINK_NOFOLLOW)?)
    }

    fn remove(&mut self, path: &str) -> io::Result<()> {
        let (parent, name) = above(self.live.as_fd(), path)?;
        self.moved += 1;
        let aside = format!(".extra-{}", self.moved);
        let moved =
            writable(&parent, || renameat_with(&parent, name, &self.beside, aside.as_str(), RenameFlags::NOREPLACE));
        match moved {
            Ok(()) => Ok(fsync(&parent)?),
            Err(Errno::NOENT) => Ok(()),
            Err(refused) => Err(refused.into()),
        }
    }

    fn content(&self, path: &str) -> io::Result<()> {
        let from = match above(self.beside.as_fd(), path) {
            Ok(from) => from,
            Err(gone) if gone.kind() == io::ErrorKind::NotFound => return Ok(()),
            Err(refused) => return Err(refused),
        };
        let to = above(self.live.as_fd(), path)?;
        let exists = statat(&to.0, to.1, AtFlags::SYMLINK_NOFOLLOW).is_ok();
        let how = if exists { RenameFlags::EXCHANGE } else { RenameFlags::NOREPLACE };
        let moved = writable(&to.0, || writable(&from.0, || renameat_with(&from.0, from.1, &to.0, to.1, how)));
        match moved {
            Ok(()) => Ok(fsync(&to.0)?),
            Err(Errno::NOENT) => Ok(()),
            Err(refused) => Err(refused.into()),
        }
    }
}

/// Does something to the entries of a directory that its owner may not write to, as releases may have them.
fn writable(directory: &OwnedFd, work: impl Fn() -> rustix::io::Result<()>) -> rustix::io::Result<()> {
    match work() {
        Err(Errno::ACCESS) => {}
        done => return done,
    }
    let before = Mode::from_raw_mode(fstat(directory)?.st_mode & 0o7777);
    fchmod(directory, before | Mode::RWXU)?;
    let done = work();
    fchmod(directory, before)?;
    done
}

/// The directory in which a path lies, and its last name.
fn above<'a>(top: BorrowedFd<'_>, path: &'a str) -> io::Result<(OwnedFd, &'a str)> {
    let mut directory = openat(top, ".", DIRECTORY, Mode::empty())?;
    let (parents, name) = path.rsplit_once('/').unwrap_or(("", path));
    for parent in parents.split('/').filter(|parent| !parent.is_empty()) {
        if matches!(parent, "." | "..") {
            return Err(io::Error::other("it leads out of the release"));
        }
        directory = openat(&directory, parent, DIRECTORY, Mode::empty())?;
    }
    if matches!(name, "" | "." | "..") {
        return Err(io::Error::other("it names no entry of the release"));
    }
    Ok((directory, name))
}

fn release_directory(root: &Path, release: &ReleaseId) -> io::Result<OwnedFd> {
    let root = open(root, OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC, Mode::empty())?;
    let releases = openat(&root, "releases", DIRECTORY, Mode::empty())?;
    Ok(openat(&releases, release.as_str(), DIRECTORY, Mode::empty())?)
}

/// What a file of a release holds, if it is a regular one of at most `largest` bytes.
///
/// # Errors
/// Why not, for people.
pub fn read(root: &Path, release: &ReleaseId, path: &str, largest: u64) -> Result<Vec<u8>, String> {
    let opened = || -> io::Result<Option<File>> {
        let top = release_directory(root, release)?;
        let (parent, name) = above(top.as_fd(), path)?;
        let found = statat(&parent, name, AtFlags::SYMLINK_NOFOLLOW)?;
        if FileType::from_raw_mode(found.st_mode) != FileType::RegularFile {
            return Ok(None);
        }
        let file = File::from(openat(&parent, name, FILE, Mode::empty())?);
        Ok(file.metadata()?.is_file().then_some(file))
    };
    let file = match opened() {
        Ok(Some(file)) => file,
        Ok(None) => return Err("no regular file".to_owned()),
        Err(gone) if gone.kind() == io::ErrorKind::NotFound => return Err("nothing is there".to_owned()),
        Err(refused) => return Err(refused.to_string()),
    };
    let mut bytes = Vec::new();
    file.take(largest + 1).read_to_end(&mut bytes).map_err(|cause| cause.to_string())?;
    if bytes.len() as u64 > largest { Err(format!("larger than {largest} bytes")) } else { Ok(bytes) }
}
