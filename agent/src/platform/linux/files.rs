//! The files of the held release against its manifest, walked from descriptor to descriptor without following a
//! link, so that nothing planted in the tree leads out of it. What a deviation means is judged elsewhere.

use std::collections::BTreeSet;
use std::fs::File;
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::Path;

use fleet::evidence::{DeviationKind, FileDeviation};
use fleet::manifest::{Entry, EntryKind, Manifest};
use fleet::{Digest, Millis, ReleaseId};
use rustix::fs::{AtFlags, Dir, FileType, Mode, OFlags, Stat, fstat, open, openat, readlinkat, statat};

use super::digests::{Digests, Print};
use crate::platform::MOST_DEVIATIONS;

/// What is not of the release is read up to here, to tell one change from the next: a log that somebody left in the
/// release's directory may be of any size, and a look must end.
const LARGEST_FOUND: u64 = 64 << 20;

/// What a walk found.
pub(super) struct Deviations {
    pub(super) listed: Vec<FileDeviation>,
    /// Beyond [`MOST_DEVIATIONS`].
    pub(super) omitted: u64,
}

/// Compares `releases/<held>` below `root` with its manifest.
pub(super) fn deviations(root: &Path, held: &ReleaseId, manifest: &Manifest, digests: &Digests) -> Deviations {
    let mut walk = Walk {
        manifest,
        directories: manifest.directories(),
        digests,
        owner: nix::unistd::geteuid().as_raw(),
        visited: BTreeSet::new(),
        unread: BTreeSet::new(),
        now: now(),
        found: Deviations { listed: Vec::new(), omitted: 0 },
    };
    match release_directory(root, held) {
        Ok(directory) => walk.directory(directory),
        Err(rustix::io::Errno::NOENT) => walk.note(".", DeviationKind::Missing, "a directory", "nothing"),
        Err(rustix::io::Errno::NOTDIR | rustix::io::Errno::LOOP) => {
            walk.note(".", DeviationKind::File, "a directory", "something else")
        }
        Err(refused) => {
            walk.unread.insert(String::new());
            walk.note(".", DeviationKind::Unreadable, "a directory", refused.to_string());
        }
    }
    walk.missing();
    walk.found.listed.sort_by(|a, b| (&a.path, a.kind).cmp(&(&b.path, b.kind)));
    walk.found
}

const DIRECTORY: OFlags = OFlags::RDONLY.union(OFlags::DIRECTORY).union(OFlags::NOFOLLOW).union(OFlags::CLOEXEC);
/// Never waits for the other end of a FIFO.
const FILE: OFlags =
    OFlags::RDONLY.union(OFlags::NONBLOCK).union(OFlags::NOFOLLOW).union(OFlags::CLOEXEC).union(OFlags::NOCTTY);

fn release_directory(root: &Path, held: &ReleaseId) -> rustix::io::Result<OwnedFd> {
    let root = open(root, OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC, Mode::empty())?;
    let releases = openat(&root, "releases", DIRECTORY, Mode::empty())?;
    openat(&releases, held.as_str(), DIRECTORY, Mode::empty())
}

struct Walk<'a> {
    manifest: &'a Manifest,
    directories: BTreeSet<&'a str>,
    digests: &'a Digests,
    owner: u32,
    /// Paths of the manifest that something was found at.
    visited: BTreeSet<String>,
    /// Directories that could not be listed: what lies below is unknown, not missing.
    unread: BTreeSet<String>,
    /// When the walk began, by the clock that change times are taken from.
    now: Millis,
    found: Deviations,
}

/// What an inode tells of a deviation beside the deviation.
#[derive(Default)]
struct Trace {
    content: Option<Digest>,
    changed: Option<Millis>,
}

impl Walk<'_> {
    /// Depth is bounded by the manifest: directories that it does not know are not entered.
    fn directory(&mut self, top: OwnedFd) {
        match fstat(&top) {
            Ok(found) => self.owner_of(".", &found),
            Err(refused) => self.note(".", DeviationKind::Unreadable, "a directory", refused.to_string()),
        }
        let mut open = vec![(String::new(), top)];
        while let Some((path, directory)) = open.pop() {
            if let Err(refused) = self.list(&path, directory.as_fd(), &mut open) {
                let shown = if path.is_empty() { "." } else { path.as_str() };
                self.note(shown, DeviationKind::Unreadable, "a directory", refused.to_string());
                self.unread.insert(path);
            }
        }
    }

    fn list(
        &mut self,
        above: &str,
        directory: BorrowedFd<'_>,
        open: &mut Vec<(String, OwnedFd)>,
    ) -> rustix::io::Result<()> {
        for entry in Dir::read_from(directory)? {
            let entry = entry?;
            let name = entry.file_name();
            if matches!(name.to_bytes(), b"." | b"..") {
                continue;
            }
            // A name that is not text is in no manifest.
            let path = if above.is_empty() {
                name.to_string_lossy().into_owned()
            } else {
                format!("{above}/{}", name.to_string_lossy())
            };
            let found = match statat(directory, name, AtFlags::SYMLINK_NOFOLLOW) {
                Ok(found) => found,
                // It went away between list and look; if it was expected, it is missing.
                Err(rustix::io::Errno::NOENT) => continue,
                Err(refused) => {
                    self.visited.insert(path.clone());
                    self.note(&path, DeviationKind::Unreadable, "", refused.to_string());
                    continue;
                }
            };
            let listed = self.manifest.get(&path);
            let implied = listed.is_none() && self.directories.contains(path.as_str());
            if name.to_str().is_err() || (listed.is_none() && !implied) {
                let content = self.found_content(directory, name, &found);
                self.note_of(&path, DeviationKind::Extra, "nothing", kind(&found), &found, content);
                continue;
            }
            self.visited.insert(path.clone());
            if listed.is_none_or(|entry| entry.kind == EntryKind::Directory) {
                if let Some(inner) = self.inner_directory(&path, directory, name, listed, &found) {
                    open.push((path, inner));
                }
            } else if let Some(entry) = listed {
                self.leaf(entry, directory, name, &found);
            }
        }
        Ok(())
    }

    fn inner_directory(
        &mut self,
        path: &str,
        above: BorrowedFd<'_>,
        name: &std::ffi::CStr,
        listed: Option<&Entry>,
        found: &Stat,
    ) -> Option<OwnedFd> {
        if FileType::from_raw_mode(found.st_mode) != FileType::Directory {
            let content = self.found_content(above, name, found);
            self.note_of(path, DeviationKind::File, "a directory", kind(found), found, content);
            return None;
        }
        self.owner_of(path, found);
        if let Some(entry) = listed {
            self.mode_of(entry, found);
        }
        match openat(above, name, DIRECTORY, Mode::empty()) {
            Ok(inner) => Some(inner),
            Err(refused) => {
                self.note(path, DeviationKind::Unreadable, "a directory", refused.to_string());
                self.unread.insert(path.to_owned());
                None
            }
        }
    }

    fn leaf(&mut self, entry: &Entry, directory: BorrowedFd<'_>, name: &std::ffi::CStr, found: &Stat) {
        let path = entry.path.as_str();
        let seen = FileType::from_raw_mode(found.st_mode);
        match &entry.kind {
            EntryKind::Symlink { target } if seen == FileType::Symlink => {
                self.owner_of(path, found);
                match readlinkat(directory, name, Vec::new()) {
                    Ok(now) if now.to_bytes() == target.as_bytes() => {}
                    Ok(now) => self.note_of(path, DeviationKind::Symlink, target, now.to_string_lossy(), found, None),
                    Err(refused) => self.note(path, DeviationKind::Unreadable, target, refused.to_string()),
                }
            }
            EntryKind::File { sha256, size } if seen == FileType::RegularFile => {
                self.owner_of(path, found);
                self.mode_of(entry, found);
                let now = u64::try_from(found.st_size).unwrap_or(0);
                if now != *size {
                    let content = self.found_content(directory, name, found);
                    let digest = content.map_or_else(|| "not read".into(), |digest| digest.short());
                    let expected = format!("{size} bytes, {}", sha256.short());
                    self.note_of(path, DeviationKind::File, expected, format!("{now} bytes, {digest}"), found, content);
                    return;
                }
                match self.content(directory, name, found) {
                    Ok(digest) if digest == *sha256 => {}
                    Ok(digest) => {
                        let (expected, now) = (sha256.to_string(), digest.to_string());
                        self.note_of(path, DeviationKind::File, expected, now, found, Some(digest));
                    }
                    Err(cause) => self.note(path, DeviationKind::Unreadable, sha256.to_string(), cause.to_string()),
                }
            }
            EntryKind::Symlink { target } => {
                let content = self.found_content(directory, name, found);
                self.note_of(path, DeviationKind::File, format!("a link to {target}"), kind(found), found, content)
            }
            EntryKind::File { .. } => {
                self.note_of(path, DeviationKind::File, "a regular file", kind(found), found, None)
            }
            EntryKind::Directory => {}
        }
    }

    fn content(&self, directory: BorrowedFd<'_>, name: &std::ffi::CStr, found: &Stat) -> io::Result<Digest> {
        if let Some(digest) = self.digests.remembered(&Print::of_stat(found)) {
            return Ok(digest);
        }
        // Another thing may have this name by now; the digest checks the type of what was really opened.
        let file = File::from(openat(directory, name, FILE, Mode::empty())?);
        self.digests.of(&file)
    }

    fn owner_of(&mut self, path: &str, found: &Stat) {
        if found.st_uid != self.owner {
            let (expected, now) = (format!("uid {}", self.owner), format!("uid {}", found.st_uid));
            self.note_of(path, DeviationKind::Owner, expected, now, found, None);
        }
    }

    fn mode_of(&mut self, entry: &Entry, found: &Stat) {
        let now = found.st_mode & 0o7777;
        if now != entry.mode {
            let expected = format!("{:04o}", entry.mode);
            self.note_of(entry.path.as_str(), DeviationKind::Mode, expected, format!("{now:04o}"), found, None);
        }
    }

    fn missing(&mut self) {
        let manifest = self.manifest;
        for entry in manifest.entries() {
            let path = entry.path.as_str();
            let unknown = self.unread.contains("") || entry.path.parents().any(|above| self.unread.contains(above));
            if !unknown && !self.visited.contains(path) {
                let expected = match &entry.kind {
                    EntryKind::File { sha256, .. } => sha256.to_string(),
                    EntryKind::Directory => "a directory".to_owned(),
                    EntryKind::Symlink { target } => format!("a link to {target}"),
                };
                self.note(path, DeviationKind::Missing, expected, "nothing");
            }
        }
    }

    /// The digest of what was found in the place of something else, or of nothing: None of what is no regular file,
    /// cannot be read, or is so large that the proof of the others would wait for it.
    fn found_content(&self, directory: BorrowedFd<'_>, name: &std::ffi::CStr, found: &Stat) -> Option<Digest> {
        let bearable = FileType::from_raw_mode(found.st_mode) == FileType::RegularFile
            && u64::try_from(found.st_size).is_ok_and(|size| size <= LARGEST_FOUND);
        if bearable { self.content(directory, name, found).ok() } else { None }
    }

    fn note(&mut self, path: &str, kind: DeviationKind, expected: impl Into<String>, found: impl Into<String>) {
        self.note_traced(path, kind, expected.into(), found.into(), Trace::default());
    }

    fn note_of(
        &mut self,
        path: &str,
        kind: DeviationKind,
        expected: impl Into<String>,
        found: impl Into<String>,
        inode: &Stat,
        content: Option<Digest>,
    ) {
        let changed = Some(Millis(self.now.0.saturating_sub(changed_at(inode).0)));
        self.note_traced(path, kind, expected.into(), found.into(), Trace { content, changed });
    }

    fn note_traced(&mut self, path: &str, kind: DeviationKind, expected: String, found: String, trace: Trace) {
        if self.found.listed.len() < MOST_DEVIATIONS {
            self.found.listed.push(FileDeviation {
                path: path.to_owned(),
                kind,
                expected,
                found,
                content: trace.content,
                by: None,
                changed: trace.changed,
            });
        } else {
            self.found.omitted += 1;
        }
    }
}

/// Now, by the clock that the kernel writes into inodes: never compared with another machine's.
fn now() -> Millis {
    use nix::time::{ClockId, clock_gettime};
    clock_gettime(ClockId::CLOCK_REALTIME).map_or(Millis(0), |now| milliseconds(now.tv_sec(), now.tv_nsec()))
}

/// When the inode was last changed. Its integers differ in width between architectures, hence the casts.
#[allow(clippy::unnecessary_cast)]
fn changed_at(found: &Stat) -> Millis {
    milliseconds(found.st_ctime as i64, found.st_ctime_nsec as i64)
}

fn milliseconds(seconds: i64, nanoseconds: i64) -> Millis {
    Millis(u64::try_from(seconds.saturating_mul(1_000).saturating_add(nanoseconds / 1_000_000)).unwrap_or(0))
}

fn kind(found: &Stat) -> &'static str {
    match FileType::from_raw_mode(found.st_mode) {
        FileType::RegularFile => "a regular file",
        FileType::Directory => "a directory",
        FileType::Symlink => "a symbolic link",
        FileType::Fifo => "a FIFO",
        FileType::Socket => "a socket",
        FileType::CharacterDevice | FileType::BlockDevice => "a device",
        _ => "something of unknown type",
    }
}
