//! One directory tree, touched only relative to open directories and never through a symbolic link: whoever can
//! plant links beside it cannot lead us elsewhere. What to put there is left to `unpack`.

use std::ffi::{OsStr, OsString};
use std::fs::File;
use std::io;
use std::os::fd::OwnedFd;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

use nix::dir::Dir;
use nix::errno::Errno;
use nix::fcntl::{AtFlags, OFlag, openat, readlinkat};
use nix::sys::stat::{FileStat, Mode, fchmod, fstatat, mkdirat};
use nix::sys::statvfs::fstatvfs;
use nix::unistd::{UnlinkatFlags, symlinkat, syncfs, unlinkat};

/// Directories are opened like this, part by part.
const DIRECTORY: OFlag = OFlag::O_RDONLY.union(OFlag::O_DIRECTORY).union(OFlag::O_NOFOLLOW).union(OFlag::O_CLOEXEC);
/// Deeper trees are not removed: a path of 1,024 bytes cannot have more parts, and each level holds a descriptor.
const DEEPEST: usize = 512;

/// A directory that this process created.
pub(crate) struct Tree {
    path: PathBuf,
    parent: OwnedFd,
    name: OsString,
    root: OwnedFd,
    /// The directory used last: entries come sorted, so the next one mostly lies there too.
    last: Option<(String, OwnedFd)>,
}

impl Tree {
    /// Creates the directory, which must not exist, with mode 0700 for the time being.
    pub(crate) fn create(path: &Path) -> io::Result<Self> {
        let (parent, name) = open_parent(path)?;
        mkdirat(&parent, name.as_os_str(), Mode::S_IRWXU)?;
        let root = openat(&parent, name.as_os_str(), DIRECTORY, Mode::empty()).inspect_err(|_| {
            // Nothing is in it yet; if it cannot be removed either, the first error is the one to report.
            let _ = unlinkat(&parent, name.as_os_str(), UnlinkatFlags::RemoveDir);
        })?;
        Ok(Self { path: path.to_owned(), parent, name, root, last: None })
    }

    /// Where an entry lies, for messages.
    pub(crate) fn path_of(&self, entry: &str) -> PathBuf {
        self.path.join(entry)
    }

    /// Creates a directory, with mode 0700 for the time being.
    pub(crate) fn directory(&mut self, path: &str) -> io::Result<()> {
        let (above, name) = self.above(path)?;
        Ok(mkdirat(above, name, Mode::S_IRWXU)?)
    }

    /// Creates a file for reading and writing, with mode 0600 for the time being.
    pub(crate) fn file(&mut self, path: &str) -> io::Result<File> {
        let (above, name) = self.above(path)?;
        let flags = OFlag::O_RDWR | OFlag::O_CREAT | OFlag::O_EXCL | OFlag::O_NOFOLLOW | OFlag::O_CLOEXEC;
        Ok(openat(above, name, flags, Mode::S_IRUSR | Mode::S_IWUSR)?.into())
    }

    /// Creates a symbolic link.
    pub(crate) fn symlink(&mut self, path: &str, target: &str) -> io::Result<()> {
        let (above, name) = self.above(path)?;
        Ok(symlinkat(target, above, name)?)
    }

    /// Sets the mode of a directory; the empty path is the tree itself.
    pub(crate) fn set_directory_mode(&mut self, path: &str, mode: u32) -> io::Result<()> {
        let mode = Mode::from_bits_truncate(mode);
        if path.is_empty() {
            return Ok(fchmod(&self.root, mode)?);
        }
        let (above, name) = self.above(path)?;
        Ok(fchmod(openat(above, name, DIRECTORY, Mode::empty())?, mode)?)
    }

    /// What lies at a path; links are not followed.
    pub(crate) fn stat(&mut self, path: &str) -> io::Result<FileStat> {
        let (above, name) = self.above(path)?;
        Ok(fstatat(above, name, AtFlags::AT_SYMLINK_NOFOLLOW)?)
    }

    /// Opens a file for reading.
    pub(crate) fn open(&mut self, path: &str) -> io::Result<File> {
        let (above, name) = self.above(path)?;
        // Without O_NONBLOCK a pipe planted in its place would block us for ever.
        let flags = OFlag::O_RDONLY | OFlag::O_NOFOLLOW | OFlag::O_NONBLOCK | OFlag::O_CLOEXEC;
        Ok(openat(above, name, flags, Mode::empty())?.into())
    }

    /// Where a symbolic link points.
    pub(crate) fn link_target(&mut self, path: &str) -> io::Result<OsString> {
        let (above, name) = self.above(path)?;
        Ok(readlinkat(above, name)?)
    }

    /// Brings the whole file system with the tree to the disk.
    pub(crate) fn sync(&self) -> io::Result<()> {
        Ok(syncfs(&self.root)?)
    }

    /// Removes the tree with everything in it.
    pub(crate) fn remove(self) -> io::Result<()> {
        remove_entry(&self.parent, &self.name, DEEPEST)
    }

    /// The open directory an entry lies in, and the entry's own name.
    fn above<'a>(&mut self, path: &'a str) -> io::Result<(&OwnedFd, &'a str)> {
        let Some((directory, name)) = path.rsplit_once('/') else {
            return Ok((&self.root, path));
        };
        if self.last.as_ref().is_none_or(|(known, _)| known != directory) {
            let mut parts = directory.split('/');
            let mut fd = openat(&self.root, parts.next().unwrap_or_default(), DIRECTORY, Mode::empty())?;
            for part in parts {
                fd = openat(&fd, part, DIRECTORY, Mode::empty())?;
            }
            self.last = Some((directory.to_owned(), fd));
        }
        let fd = self.last.as_ref().map_or(&self.root, |(_, fd)| fd);
        Ok((fd, name))
    }
}

/// How many bytes an ordinary user can still write where `path` will be; `None` where the file system has no limit.
pub(crate) fn space(path: &Path) -> io::Result<Option<u64>> {
    let (parent, _) = open_parent(path)?;
    let found = fstatvfs(&parent)?;
    Ok((found.blocks() != 0).then(|| found.blocks_available().saturating_mul(found.fragment_size())))
}

/// Removes whatever lies at `path`, with everything below it, without following links. Nothing there is success.
/// Directories without write permission are removed too.
///
/// # Errors
/// Whatever the system reports, such as a directory of another user; then part of the tree may be gone.
pub fn remove_tree(path: &Path) -> io::Result<()> {
    match open_parent(path) {
        Ok((parent, name)) => remove_entry(&parent, &name, DEEPEST),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        Err(error) => Err(error),
    }
}

fn open_parent(path: &Path) -> io::Result<(OwnedFd, OsString)> {
    let name = path
        .file_name()
        .ok_or_else(|| io::Error::new(io::ErrorKind::InvalidInput, "the path names no directory to create"))?;
    let parent = path.parent().filter(|parent| !parent.as_os_str().is_empty()).unwrap_or(Path::new("."));
    // The caller's own path may go through links, such as /var/run; only below it they are refused.
    let fd = nix::fcntl::open(parent, OFlag::O_RDONLY | OFlag::O_DIRECTORY | OFlag::O_CLOEXEC, Mode::empty())?;
    Ok((fd, name.to_owned()))
}

fn remove_entry(parent: &OwnedFd, name: &OsStr, depth: usize) -> io::Result<()> {
    match unlinkat(parent, name, UnlinkatFlags::NoRemoveDir) {
        Ok(()) | Err(Errno::ENOENT) => return Ok(()),
        // Linux says EISDIR for a directory, POSIX allows EPERM.
        Err(Errno::EISDIR | Errno::EPERM) => {}
        Err(error) => return Err(error.into()),
    }
    if depth == 0 {
        return Err(io::Error::other("the tree is more than 512 levels deep"));
    }
    let fd = openat(parent, name, DIRECTORY, Mode::empty())?;
    // Fails for another user's directory; then removing below says so.
    let _ = fchmod(&fd, Mode::S_IRWXU);
    let mut names = Vec::new();
    for entry in Dir::from_fd(fd.try_clone()?)?.iter() {
        let entry = entry?;
        if !matches!(entry.file_name().to_bytes(), b"." | b"..") {
            names.push(entry.file_name().to_owned());
        }
    }
    for child in &names {
        remove_entry(&fd, OsStr::from_bytes(child.to_bytes()), depth - 1)?;
    }
    Ok(unlinkat(parent, name, UnlinkatFlags::RemoveDir)?)
}
