//! Looking at a release on the disk: at all of it, or only where something was told to have changed. A leaf that looks as
//! it did when it was read is not opened. Nothing is followed, so that nothing planted in the tree leads out of it. What a
//! deviation means is judged elsewhere.

use std::collections::BTreeMap;
use std::ffi::{CStr, CString};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::Path;

use fleet::Digest;
use fleet::evidence::DeviationKind;
use rustix::fs::{AtFlags, Dir, FileType, Stat, fstat, openat, readlinkat, statat};
use rustix::io::Errno;

use super::digests::{self, Digests};
use super::reading::{self, Content, DIRECTORY, FILE, Job};
use super::tree::{self, Found, Print, Trace, Tree, Trust, Wanted};
use super::watch::Marks;
use crate::platform::MOST_DEVIATIONS;

/// What is not of the release is read up to here, to tell one change from the next: a log that somebody left in the
/// release's directory may be of any size, and a look must end.
const LARGEST_FOUND: u64 = 64 << 20;

/// What is read again although it looks as it did.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Reread {
    Nothing,
    Everything,
}

/// What a look at marked places came to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Marked {
    /// They were looked at.
    Looked,
    /// Directories came, went or were exchanged: only a look at everything can tell what there is.
    Upheaval,
}

/// Told of every directory that was not seen there before, ahead of what lies in it.
pub(super) type Entered<'a> = &'a mut dyn FnMut(u32, BorrowedFd<'_>);

/// Looks at everything; `told` is whether changes since the last look would have been told.
pub(super) fn sweep(tree: &mut Tree, root: &Path, digests: &Digests, reread: Reread, told: bool, entered: Entered<'_>) {
    tree.found = Found::default();
    let top = match reading::open_release(root, &tree.release) {
        Ok(top) => top,
        Err(refused) => {
            match refused {
                Errno::NOENT => tree.found.note(b"", DeviationKind::Missing, "a directory", "nothing"),
                Errno::NOTDIR | Errno::LOOP => {
                    tree.found.note(b"", DeviationKind::File, "a directory", "something else")
                }
                _ => tree.found.note(b"", DeviationKind::Unreadable, "a directory", refused.to_string()),
            }
            if matches!(refused, Errno::NOENT | Errno::NOTDIR | Errno::LOOP) {
                tree.note_missing_below(0);
            }
            tree.folders[0].seen = None;
            return;
        }
    };
    let mut walk = Walk { tree, digests, owner: nix::unistd::geteuid().as_raw(), told, reread, unread: Vec::new() };
    walk.folders(top.as_fd(), entered);
    walk.read(top.as_fd());
}

/// Looks at the marked places only.
pub(super) fn look_at(tree: &mut Tree, root: &Path, digests: &Digests, marks: &Marks) -> Marked {
    let Ok(top) = reading::open_release(root, &tree.release) else { return Marked::Upheaval };
    // What is marked was touched after it was read, and may have been within the same tick.
    let owner = nix::unistd::geteuid().as_raw();
    let mut walk = Walk { tree, digests, owner, told: false, reread: Reread::Nothing, unread: Vec::new() };
    for (folder, names) in &marks.names {
        let Some(known) = walk.tree.folders.get(*folder as usize) else { continue };
        let Ok(open) = reading::open_folder(top.as_fd(), &known.path) else { return Marked::Upheaval };
        if fstat(&open).ok().map(|found| tree::identity(&found)) != known.seen {
            return Marked::Upheaval;
        }
        for name in names {
            if walk.name(*folder, open.as_fd(), name) == Marked::Upheaval {
                return Marked::Upheaval;
            }
        }
    }
    walk.read(top.as_fd());
    Marked::Looked
}

/// Whether the release's directory is still the one that was last seen.
pub(super) fn is_in_place(tree: &Tree, root: &Path) -> bool {
    let path = root.join("releases").join(tree.release.as_str());
    let found = rustix::fs::lstat(&path).ok();
    found.is_some() && found.map(|found| tree::identity(&found)) == tree.folders[0].seen
}

struct Walk<'a> {
    tree: &'a mut Tree,
    digests: &'a Digests,
    owner: u32,
    told: bool,
    reread: Reread,
    unread: Vec<Job>,
}

impl Walk<'_> {
    /// Depth is bounded by the manifest: directories that it does not know are not entered.
    fn folders(&mut self, top: BorrowedFd<'_>, entered: Entered<'_>) {
        let mut open: Vec<(u32, OwnedFd)> = match openat(top, ".", DIRECTORY, rustix::fs::Mode::empty()) {
            Ok(top) => vec![(0, top)],
            Err(refused) => return self.unreadable(0, refused),
        };
        while let Some((folder, directory)) = open.pop() {
            let found = match fstat(&directory) {
                Ok(found) => found,
                Err(refused) => {
                    self.unreadable(folder, refused);
                    continue;
                }
            };
            let known = &mut self.tree.folders[folder as usize];
            if known.seen != Some(tree::identity(&found)) {
                known.seen = Some(tree::identity(&found));
                known.names = Trust::Nothing;
                entered(folder, directory.as_fd());
            }
            if folder == 0
                && let Ok(found) = fstat(&directory)
            {
                self.owner_of(b"", &found);
            }
            if let Err(refused) = self.names(folder, directory.as_fd()) {
                self.unreadable(folder, refused);
                continue;
            }
            for leaf in self.tree.folders[folder as usize].leaves.clone() {
                self.leaf(folder, leaf, directory.as_fd());
            }
            for inner in self.tree.folders[folder as usize].folders.clone() {
                open.extend(self.inner(inner, directory.as_fd()).map(|directory| (inner, directory)));
            }
        }
    }

    /// What lies below is unknown, not missing.
    fn unreadable(&mut self, folder: u32, refused: Errno) {
        let known = &mut self.tree.folders[folder as usize];
        known.names = Trust::Nothing;
        let path = known.path.clone();
        self.tree.found.note(path.as_bytes(), DeviationKind::Unreadable, "a directory", refused.to_string());
    }

    /// Notes what no release brought. A directory that looks as it did when all its names were expected has no others.
    fn names(&mut self, folder: u32, directory: BorrowedFd<'_>) -> rustix::io::Result<()> {
        let before = Print::of(&fstat(directory)?);
        if self.tree.folders[folder as usize].names.covers(before, self.told) {
            return Ok(());
        }
        let mut expected = true;
        for entry in Dir::read_from(directory)? {
            let entry = entry?;
            let name = entry.file_name();
            if matches!(name.to_bytes(), b"." | b"..") || self.is_expected(folder, name) {
                continue;
            }
            expected = false;
            self.extra(folder, directory, name);
        }
        let settled = reading::is_settled(before);
        self.tree.folders[folder as usize].names = match (expected, settled) {
            (false, _) => Trust::Nothing,
            (true, false) => Trust::Fresh(before),
            (true, true) => Trust::Settled(before),
        };
        Ok(())
    }

    /// A name that is not text is in no manifest.
    fn is_expected(&self, folder: u32, name: &CStr) -> bool {
        name.to_str().is_ok_and(|name| {
            self.tree.leaf_named(folder, name).is_some() || self.tree.folder_named(folder, name).is_some()
        })
    }

    fn extra(&mut self, folder: u32, directory: BorrowedFd<'_>, name: &CStr) {
        let path = self.raw_path(folder, name);
        match statat(directory, name, AtFlags::SYMLINK_NOFOLLOW) {
            Ok(found) => {
                let content = self.strange_content(directory, name, &found);
                let (expected, now) = ("nothing".to_owned(), tree::kind(&found).to_owned());
                self.note_of(&path, DeviationKind::Extra, expected, now, &found, content);
            }
            // It went away between list and look.
            Err(Errno::NOENT) => {}
            Err(refused) => self.tree.found.note(&path, DeviationKind::Unreadable, "", refused.to_string()),
        }
    }

    fn raw_path(&self, folder: u32, name: &CStr) -> Vec<u8> {
        let above = self.tree.folders[folder as usize].path.as_bytes();
        let mut path = above.to_vec();
        if !above.is_empty() {
            path.push(b'/');
        }
        path.extend_from_slice(name.to_bytes());
        path
    }

    /// A directory in one that is open, if it can be entered.
    fn inner(&mut self, inner: u32, above: BorrowedFd<'_>) -> Option<OwnedFd> {
        let path = self.tree.folders[inner as usize].path.clone();
        let found = match statat(above, tree::name(&path), AtFlags::SYMLINK_NOFOLLOW) {
            Ok(found) => found,
            Err(Errno::NOENT) => {
                if self.tree.folders[inner as usize].mode.is_some() {
                    self.tree.found.note(path.as_bytes(), DeviationKind::Missing, "a directory", "nothing");
                }
                self.tree.note_missing_below(inner);
                return None;
            }
            Err(refused) => {
                self.tree.found.note(path.as_bytes(), DeviationKind::Unreadable, "", refused.to_string());
                return None;
            }
        };
        if FileType::from_raw_mode(found.st_mode) != FileType::Directory {
            let name = CString::new(tree::name(&path)).unwrap_or_default();
            let content = self.strange_content(above, &name, &found);
            let (expected, now) = ("a directory".to_owned(), tree::kind(&found).to_owned());
            self.note_of(path.as_bytes(), DeviationKind::File, expected, now, &found, content);
            self.tree.note_missing_below(inner);
            return None;
        }
        self.looks_of(inner, &found);
        match openat(above, tree::name(&path), DIRECTORY, rustix::fs::Mode::empty()) {
            Ok(directory) => Some(directory),
            Err(refused) => {
                self.tree.folders[inner as usize].names = Trust::Nothing;
                self.tree.found.note(path.as_bytes(), DeviationKind::Unreadable, "a directory", refused.to_string());
                None
            }
        }
    }

    /// Owner and mode of a directory.
    fn looks_of(&mut self, folder: u32, found: &Stat) {
        let known = &self.tree.folders[folder as usize];
        let (path, mode) = (known.path.clone(), known.mode);
        self.owner_of(path.as_bytes(), found);
        if let Some(mode) = mode {
            self.mode_of(path.as_bytes(), mode, found);
        }
    }

    /// A name that was told to have changed.
    fn name(&mut self, folder: u32, directory: BorrowedFd<'_>, name: &CStr) -> Marked {
        let text = name.to_str().ok();
        if let Some(leaf) = text.and_then(|text| self.tree.leaf_named(folder, text)) {
            self.tree.found.clear(self.tree.path(folder, leaf).as_bytes());
            self.leaf(folder, leaf, directory);
            return Marked::Looked;
        }
        // A directory of the release: what lies in it may have become readable, unreadable or another's. That is rare.
        if text.is_some_and(|text| self.tree.folder_named(folder, text).is_some()) {
            return Marked::Upheaval;
        }
        self.tree.found.clear(&self.raw_path(folder, name));
        self.tree.folders[folder as usize].names = Trust::Nothing;
        self.extra(folder, directory, name);
        Marked::Looked
    }

    fn leaf(&mut self, folder: u32, leaf: u32, directory: BorrowedFd<'_>) {
        let found = match statat(directory, self.tree.name(leaf), AtFlags::SYMLINK_NOFOLLOW) {
            Ok(found) => found,
            Err(Errno::NOENT) => return self.tree.note_missing(folder, leaf),
            Err(refused) => {
                let path = self.tree.path(folder, leaf);
                return self.tree.found.note(path.as_bytes(), DeviationKind::Unreadable, "", refused.to_string());
            }
        };
        let (wanted, mode, trust) = {
            let known = &self.tree.leaves[leaf as usize];
            (known.wanted, known.mode, known.trust)
        };
        let seen = FileType::from_raw_mode(found.st_mode);
        let here = self.tree.folders[folder as usize].seen.map(|(device, _)| device);
        // Something mounted over one file has numbers of its own, which may by chance be the same.
        let same_device = here == Some(tree::identity(&found).0);
        let covered = same_device && trust.covers(Print::of(&found), self.told);
        self.tree.odd |= self.told && trust.print().is_some_and(|print| print != Print::of(&found));
        match wanted {
            Wanted::File { size, digest } if seen == FileType::RegularFile => {
                if found.st_uid != self.owner || u32::from(mode) != found.st_mode & 0o7777 {
                    let path = self.tree.path(folder, leaf);
                    self.owner_of(path.as_bytes(), &found);
                    self.mode_of(path.as_bytes(), mode, &found);
                }
                let now = u64::try_from(found.st_size).unwrap_or(0);
                if now != size {
                    self.tree.leaves[leaf as usize].trust = Trust::Nothing;
                    let (path, name) = self.names_of(folder, leaf);
                    let content = self.strange_content(directory, &name, &found);
                    let short = content.map_or_else(|| "not read".to_owned(), |digest| digest.short());
                    let (expected, now) =
                        (format!("{size} bytes, {}", digest.short()), format!("{now} bytes, {short}"));
                    self.note_of(path.as_bytes(), DeviationKind::File, expected, now, &found, content);
                } else if self.reread == Reread::Everything {
                    self.unread.push(Job { folder, leaf });
                } else if !covered {
                    match self.tree.wrong.get(&leaf).filter(|(trust, _)| trust.covers(Print::of(&found), self.told)) {
                        Some((trust, now)) => {
                            let content = Content::Read(*now, *trust);
                            learn(self.tree, Job { folder, leaf }, content);
                        }
                        None => self.unread.push(Job { folder, leaf }),
                    }
                }
            }
            Wanted::Link(target) if seen == FileType::Symlink => {
                if found.st_uid != self.owner {
                    self.owner_of(self.tree.path(folder, leaf).as_bytes(), &found);
                }
                if !covered || self.reread == Reread::Everything {
                    self.link(folder, leaf, target, directory, &found);
                }
            }
            Wanted::Link(target) => {
                let expected = format!("a link to {}", self.tree.target(target));
                self.other_kind(folder, leaf, directory, expected, &found);
            }
            Wanted::File { .. } => self.other_kind(folder, leaf, directory, "a regular file".to_owned(), &found),
        }
    }

    fn other_kind(&mut self, folder: u32, leaf: u32, directory: BorrowedFd<'_>, expected: String, found: &Stat) {
        self.tree.leaves[leaf as usize].trust = Trust::Nothing;
        let (path, name) = self.names_of(folder, leaf);
        let content = self.strange_content(directory, &name, found);
        self.note_of(path.as_bytes(), DeviationKind::File, expected, tree::kind(found).to_owned(), found, content);
    }

    /// The path of a leaf, and its name for the kernel.
    fn names_of(&self, folder: u32, leaf: u32) -> (String, CString) {
        (self.tree.path(folder, leaf), CString::new(self.tree.name(leaf)).unwrap_or_default())
    }

    /// The digest of what was found in the place of something else, or of nothing: None of what is no regular file,
    /// cannot be read, or is so large that the proof of the others would wait for it.
    fn strange_content(&self, directory: BorrowedFd<'_>, name: &CStr, found: &Stat) -> Option<Digest> {
        let bearable = FileType::from_raw_mode(found.st_mode) == FileType::RegularFile
            && u64::try_from(found.st_size).is_ok_and(|size| size <= LARGEST_FOUND);
        if !bearable {
            return None;
        }
        self.digests.remembered(&digests::Print::of_stat(found)).or_else(|| {
            let file = openat(directory, name, FILE, rustix::fs::Mode::empty()).ok()?;
            self.digests.of(&std::fs::File::from(file)).ok()
        })
    }

    fn note_of(
        &mut self,
        path: &[u8],
        kind: DeviationKind,
        expected: String,
        now: String,
        found: &Stat,
        content: Option<Digest>,
    ) {
        self.tree.found.note_traced(path, kind, expected, now, Trace::of(found, content));
    }

    fn link(&mut self, folder: u32, leaf: u32, target: u32, directory: BorrowedFd<'_>, found: &Stat) {
        let print = Print::of(found);
        let wanted = self.tree.target(target);
        let deviation = match readlinkat(directory, self.tree.name(leaf), Vec::new()) {
            Ok(now) if now.to_bytes() == wanted.as_bytes() => None,
            Ok(now) => Some((DeviationKind::Symlink, now.to_string_lossy().into_owned())),
            Err(refused) => Some((DeviationKind::Unreadable, refused.to_string())),
        };
        let settled = reading::is_settled(print);
        self.tree.leaves[leaf as usize].trust = match &deviation {
            Some(_) => Trust::Nothing,
            None if settled => Trust::Settled(print),
            None => Trust::Fresh(print),
        };
        if let Some((kind, now)) = deviation {
            let (path, wanted) = (self.tree.path(folder, leaf), self.tree.target(target).to_owned());
            self.note_of(path.as_bytes(), kind, wanted, now, found, None);
        }
    }

    /// Reads what could not be trusted.
    fn read(&mut self, top: BorrowedFd<'_>) {
        let jobs = std::mem::take(&mut self.unread);
        for job in &jobs {
            self.tree.leaves[job.leaf as usize].trust = Trust::Nothing;
        }
        let mut contents: BTreeMap<u32, Content> = reading::read_all(self.tree, top, &jobs).into_iter().collect();
        // In the order of the manifest, so that the first deviations are the same ones whoever read them.
        for job in jobs {
            let unread = || Content::Refused("reading it was broken off by a fault of the agent".to_owned());
            learn(self.tree, job, contents.remove(&job.leaf).unwrap_or_else(unread));
        }
    }

    fn owner_of(&mut self, path: &[u8], found: &Stat) {
        if found.st_uid != self.owner {
            let (expected, now) = (format!("uid {}", self.owner), format!("uid {}", found.st_uid));
            self.note_of(path, DeviationKind::Owner, expected, now, found, None);
        }
    }

    fn mode_of(&mut self, path: &[u8], mode: u16, found: &Stat) {
        let now = found.st_mode & 0o7777;
        if now != u32::from(mode) {
            let (expected, now) = (format!("{mode:04o}"), format!("{now:04o}"));
            self.note_of(path, DeviationKind::Mode, expected, now, found, None);
        }
    }
}

/// Takes in what reading a leaf brought.
pub(super) fn learn(tree: &mut Tree, job: Job, content: Content) {
    let Wanted::File { digest: expected, .. } = tree.leaves[job.leaf as usize].wanted else { return };
    let path = tree.path(job.folder, job.leaf);
    match content {
        Content::Read(digest, trust) if digest == expected => {
            tree.wrong.remove(&job.leaf);
            tree.leaves[job.leaf as usize].trust = trust;
        }
        Content::Read(digest, trust) => {
            tree.leaves[job.leaf as usize].trust = Trust::Nothing;
            if tree.wrong.len() < MOST_DEVIATIONS {
                tree.wrong.insert(job.leaf, (trust, digest));
            }
            let trace =
                Trace { content: Some(digest), changed: trust.print().map(|print| print.changed()), owner: None };
            let (expected, now) = (expected.to_string(), digest.to_string());
            tree.found.note_traced(path.as_bytes(), DeviationKind::File, expected, now, trace);
        }
        Content::Refused(why) => {
            tree.leaves[job.leaf as usize].trust = Trust::Nothing;
            tree.found.note(path.as_bytes(), DeviationKind::Unreadable, expected.to_string(), why);
        }
    }
}
