//! Unpacks a bundle into a new directory: validated before the first write, synced and read back before it counts,
//! gone again after any error. Switching a service to the directory is left to the agent.

use std::fs::File;
use std::io::{self, Read, Seek, SeekFrom, Write};
use std::os::unix::ffi::OsStrExt;
use std::path::Path;

use fleet::Digest;
use fleet::manifest::{Entry, EntryKind};
use fleet::release::Descriptor;
use nix::errno::Errno;
use nix::fcntl::{PosixFadviseAdvice, posix_fadvise};
use nix::sys::stat::{Mode, SFlag, fchmod};

use crate::BundleError;
use crate::hash::{self, HashingReader};
use crate::read::{self, Receiver};
use crate::tree::{self, Tree};

/// Mode of directories that the manifest implies but does not list, and of the unpacked directory itself.
const DIRECTORY_MODE: u32 = 0o755;
/// What a file or directory takes at least on the usual file systems, in bytes; for the estimate before writing.
const DISK_BLOCK: u64 = 4_096;

/// Unpacks into `into`, a directory that must not exist; it gets mode 0755.
///
/// The directory holds exactly the entries of the manifest, with its modes whatever the umask is; the descriptor is
/// returned, not written. When this returns, everything is on the disk and was read back.
///
/// # Errors
/// Everything [`crate::inspect`] refuses, before anything is written; a full disk as [`BundleError::NoSpace`];
/// whatever the system reports. In each case nothing is left behind.
pub fn unpack(bundle: &mut File, into: &Path) -> Result<Descriptor, BundleError> {
    unpack_bundle(bundle, None, into)
}

/// As [`unpack`], and the bytes that were unpacked must have the digest `expected`: a bundle that is swapped after
/// its own check does not get through.
///
/// # Errors
/// As [`unpack`], and [`BundleError::OtherDigest`].
pub fn unpack_exactly(bundle: &mut File, expected: &Digest, into: &Path) -> Result<Descriptor, BundleError> {
    unpack_bundle(bundle, Some(expected), into)
}

fn unpack_bundle(bundle: &mut File, expected: Option<&Digest>, into: &Path) -> Result<Descriptor, BundleError> {
    let checked = pass(bundle, expected, |reader| read::inspect(reader))?;
    let needed = size_on_disk(&checked);
    let failed = |source: io::Error| write_error(into, needed, source);
    if tree::space(into).map_err(failed)?.is_some_and(|free| free < needed) {
        return Err(BundleError::NoSpace { needed, path: into.to_owned() });
    }
    let mut tree = Tree::create(into).map_err(|source| match source.kind() {
        io::ErrorKind::AlreadyExists => BundleError::Exists { path: into.to_owned() },
        _ => failed(source),
    })?;
    let written = pass(bundle, expected, |reader| fill(reader, &mut tree, needed)).and_then(|descriptor| {
        if descriptor != checked {
            return Err(BundleError::refused(".fleet/release.json", "the bundle changed while it was unpacked"));
        }
        tree.sync().map_err(failed)?;
        read_back(&descriptor, &mut tree)?;
        Ok(descriptor)
    });
    written.map_err(|cause| match tree.remove() {
        Ok(()) => cause,
        Err(source) => BundleError::LeftBehind { path: into.to_owned(), cause: Box::new(cause), source },
    })
}

/// Reads the bundle once from its start; what was read must have the digest `expected`.
fn pass(
    bundle: &mut File,
    expected: Option<&Digest>,
    read: impl FnOnce(&mut dyn Read) -> Result<Descriptor, BundleError>,
) -> Result<Descriptor, BundleError> {
    bundle.seek(SeekFrom::Start(0)).map_err(|source| BundleError::Damaged { entry: "the start".to_owned(), source })?;
    let Some(expected) = expected else {
        return read(bundle);
    };
    let mut reader = HashingReader::new(bundle);
    let descriptor = read(&mut reader)?;
    let (found, _) = reader.finish();
    if found != *expected {
        return Err(BundleError::OtherDigest { expected: *expected, found });
    }
    Ok(descriptor)
}

fn fill(bundle: &mut dyn Read, tree: &mut Tree, needed: u64) -> Result<Descriptor, BundleError> {
    let mut writer = Writer { tree, needed, open: None };
    let descriptor = read::read(bundle, &mut writer)?;
    // Only now, children first: a directory without write permission could not have been filled.
    for path in descriptor.manifest.directories().into_iter().rev().chain([""]) {
        let mode = descriptor.manifest.get(path).map_or(DIRECTORY_MODE, |entry| entry.mode);
        tree.set_directory_mode(path, mode).map_err(|source| write_error(&tree.path_of(path), needed, source))?;
    }
    Ok(descriptor)
}

/// What the release takes on disk, estimated upwards.
fn size_on_disk(descriptor: &Descriptor) -> u64 {
    let manifest = &descriptor.manifest;
    let files =
        manifest.entries().iter().map(|entry| if let EntryKind::File { size, .. } = &entry.kind { *size } else { 0 });
    let directories = manifest.directories().len() as u64 + 1;
    files.map(|size| size.next_multiple_of(DISK_BLOCK)).sum::<u64>() + directories * DISK_BLOCK
}

fn write_error(path: &Path, needed: u64, source: io::Error) -> BundleError {
    match source.raw_os_error().map(Errno::from_raw) {
        Some(Errno::ENOSPC | Errno::EDQUOT) => BundleError::NoSpace { needed, path: path.to_owned() },
        _ => BundleError::Write { path: path.to_owned(), source },
    }
}

/// Writes entries as they are read.
struct Writer<'a> {
    tree: &'a mut Tree,
    needed: u64,
    open: Option<(Entry, File)>,
}

impl Writer<'_> {
    fn failed(&self, path: &str, source: io::Error) -> BundleError {
        write_error(&self.tree.path_of(path), self.needed, source)
    }
}

impl Receiver for Writer<'_> {
    fn begin(&mut self, descriptor: &Descriptor) -> Result<(), BundleError> {
        // Parents sort before what is in them.
        for path in descriptor.manifest.directories() {
            self.tree.directory(path).map_err(|source| self.failed(path, source))?;
        }
        Ok(())
    }

    fn entry(&mut self, entry: &Entry) -> Result<(), BundleError> {
        let path = entry.path.as_str();
        match &entry.kind {
            EntryKind::Directory => {}
            EntryKind::Symlink { target } => {
                self.tree.symlink(path, target).map_err(|source| self.failed(path, source))?
            }
            EntryKind::File { .. } => {
                let file = self.tree.file(path).map_err(|source| self.failed(path, source))?;
                self.open = Some((entry.clone(), file));
            }
        }
        Ok(())
    }

    fn content(&mut self, bytes: &[u8]) -> Result<(), BundleError> {
        let Some((entry, file)) = &mut self.open else { return Ok(()) };
        let result = file.write_all(bytes);
        let path = self.tree.path_of(entry.path.as_str());
        result.map_err(|source| write_error(&path, self.needed, source))
    }

    fn complete(&mut self) -> Result<(), BundleError> {
        let Some((entry, file)) = self.open.take() else { return Ok(()) };
        fchmod(&file, Mode::from_bits_truncate(entry.mode))
            .map_err(|errno| self.failed(entry.path.as_str(), errno.into()))
    }
}

/// Compares what the disk gives back with the manifest.
fn read_back(descriptor: &Descriptor, tree: &mut Tree) -> Result<(), BundleError> {
    for entry in descriptor.manifest.entries() {
        let path = entry.path.as_str();
        let reason = match differs(entry, tree) {
            Ok(None) => continue,
            Ok(Some(reason)) => reason,
            Err(error) => error.to_string(),
        };
        return Err(BundleError::ReadBack { path: tree.path_of(path), reason });
    }
    Ok(())
}

/// What is wrong with an entry on disk, if anything.
fn differs(entry: &Entry, tree: &mut Tree) -> io::Result<Option<String>> {
    let path = entry.path.as_str();
    let stat = tree.stat(path)?;
    let found = SFlag::from_bits_truncate(stat.st_mode & SFlag::S_IFMT.bits());
    let expected = match &entry.kind {
        EntryKind::File { .. } => SFlag::S_IFREG,
        EntryKind::Directory => SFlag::S_IFDIR,
        EntryKind::Symlink { .. } => SFlag::S_IFLNK,
    };
    if found != expected {
        return Ok(Some("it is of another type".to_owned()));
    }
    let mode = stat.st_mode & 0o7777;
    if expected != SFlag::S_IFLNK && mode != entry.mode {
        return Ok(Some(format!("its mode is {mode:04o} instead of {:04o}", entry.mode)));
    }
    match &entry.kind {
        EntryKind::Directory => Ok(None),
        EntryKind::Symlink { target } => {
            Ok((tree.link_target(path)?.as_bytes() != target.as_bytes()).then(|| "it points elsewhere".to_owned()))
        }
        EntryKind::File { sha256, size } => {
            let mut file = tree.open(path)?;
            // After the sync the pages are clean and can be dropped, so that the disk answers and not our own memory.
            // A file system that does not support it only makes the check weaker.
            let _ = posix_fadvise(&file, 0, 0, PosixFadviseAdvice::POSIX_FADV_DONTNEED);
            let found = hash::digest(&mut file)?;
            Ok((found != (*sha256, *size))
                .then(|| format!("it has {} bytes and digest {} instead of {size} and {sha256}", found.1, found.0)))
        }
    }
}
