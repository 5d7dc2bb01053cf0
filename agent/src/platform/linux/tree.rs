//! One release as it should lie on the disk and as it was last seen to: its folders and leaves by number, what is
//! trusted of each, and what differs. It is made from a manifest and does not need it afterwards, and takes about
//! 100 bytes a file. Looking at the disk is `sweep`'s work, reading files `reading`'s, watching `watch`'s.

use std::collections::BTreeMap;
use std::ffi::CStr;
use std::ops::Range;

use fleet::evidence::{DeviationKind, FileDeviation};
use fleet::manifest::{EntryKind, Manifest};
use fleet::{Digest, Millis, ReleaseId};
use rustix::fs::{FileType, Stat};

use super::{boot_clock, origin};
use crate::platform::MOST_DEVIATIONS;

/// What looks like this may be taken for what it was when it was read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Print {
    inode: u64,
    modified: i64,
    changed: i64,
}

/// How far a print can be believed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Trust {
    /// It has to be read.
    Nothing,
    /// Read so shortly after a change that a second one may fall into the same tick of the file system's clock: it
    /// counts only as long as the file is watched.
    Fresh(Print),
    /// Read when it had lain there for a while.
    Settled(Print),
}

/// What a leaf should be.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Wanted {
    File {
        digest: Digest,
        size: u64,
    },
    /// By number in [`Tree::targets`].
    Link(u32),
}

/// A file or a link of the release.
#[derive(Debug)]
pub(super) struct Leaf {
    /// Where its name begins in [`Tree::names`]; it ends where the next one's begins.
    name: u32,
    pub(super) mode: u16,
    pub(super) wanted: Wanted,
    pub(super) trust: Trust,
}

/// A directory of the release.
#[derive(Debug)]
pub(super) struct Folder {
    /// Relative to the release; empty for the release's own.
    pub(super) path: Box<str>,
    /// Its permission bits, if the manifest names it.
    pub(super) mode: Option<u16>,
    /// Its files and links, by number, sorted by name.
    pub(super) leaves: Range<u32>,
    /// The directories in it, by number, sorted by name.
    pub(super) folders: Range<u32>,
    /// The directory that was last seen there.
    pub(super) seen: Option<(u64, u64)>,
    /// What it looked like when its names were last listed and all were expected.
    pub(super) names: Trust,
}

/// Whether changes below the release are told.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Watched {
    Yes,
    /// Why not, and when to try again.
    No {
        why: String,
        again: Millis,
    },
}

/// One release on the disk.
#[derive(Debug)]
pub(super) struct Tree {
    pub(super) release: ReleaseId,
    fingerprint: u64,
    /// The first is the release's own directory.
    pub(super) folders: Vec<Folder>,
    pub(super) leaves: Vec<Leaf>,
    targets: Vec<Box<str>>,
    names: Box<str>,
    pub(super) found: Found,
    /// Leaves with other content than they should have, so that they are not read at every look.
    pub(super) wrong: BTreeMap<u32, (Trust, Digest)>,
    pub(super) watched: Watched,
    /// Whether something changed that should have been told and was not: then everything is read again soon.
    pub(super) odd: bool,
    /// When the last look at everything began, since boot.
    pub(super) swept: Option<Millis>,
    /// What the last two of those took that had nothing to read; see [`super::WatchPace::pause`].
    pub(super) sweeps_took_nanos: [u64; 2],
    /// When the last reading of everything began, since boot.
    pub(super) hashed: Option<Millis>,
}

impl Print {
    /// The integers of the kernel's answer differ in width between architectures, hence the casts.
    #[allow(clippy::unnecessary_cast)]
    pub(super) fn of(found: &Stat) -> Self {
        let nanos = |seconds: i64, nanos: i64| seconds.saturating_mul(1_000_000_000).saturating_add(nanos);
        Self {
            inode: found.st_ino as u64,
            modified: nanos(found.st_mtime as i64, found.st_mtime_nsec as i64),
            changed: nanos(found.st_ctime as i64, found.st_ctime_nsec as i64),
        }
    }

    /// The change time, in nanoseconds of the wall clock.
    pub(super) fn changed(&self) -> i64 {
        self.changed
    }
}

impl Trust {
    /// What was read looked like this.
    pub(super) fn print(self) -> Option<Print> {
        match self {
            Self::Nothing => None,
            Self::Fresh(print) | Self::Settled(print) => Some(print),
        }
    }

    /// Whether what looks like `now` need not be read. `told` is whether a change since the reading would have been told.
    pub(super) fn covers(self, now: Print, told: bool) -> bool {
        match self {
            Self::Nothing => false,
            Self::Fresh(print) => told && print == now,
            Self::Settled(print) => print == now,
        }
    }
}

/// The device and the number of what was found.
#[allow(clippy::unnecessary_cast)]
pub(super) fn identity(found: &Stat) -> (u64, u64) {
    (found.st_dev as u64, found.st_ino as u64)
}

impl Tree {
    /// The tree of a release, of which nothing has been seen yet.
    pub(super) fn new(release: &ReleaseId, manifest: &Manifest) -> Self {
        let depth = |path: &str| if path.is_empty() { 0 } else { 1 + path.matches('/').count() };
        // By depth, then by path: what lies in one directory stands together, sorted by name.
        let mut paths: Vec<&str> = manifest.directories().into_iter().chain([""]).collect();
        paths.sort_by(|a, b| depth(a).cmp(&depth(b)).then(a.cmp(b)));
        let number: BTreeMap<&str, u32> = (0..).zip(&paths).map(|(number, path)| (*path, number)).collect();
        let mut folders: Vec<Folder> = paths
            .iter()
            .map(|path| Folder {
                path: (*path).into(),
                mode: None,
                leaves: 0..0,
                folders: 0..0,
                seen: None,
                names: Trust::Nothing,
            })
            .collect();
        for (at, path) in (0..).zip(&paths).skip(1) {
            let parent = &mut folders[number[above(path)] as usize];
            if parent.folders.is_empty() {
                parent.folders = at..at;
            }
            parent.folders.end = at + 1;
        }
        let mut entries: Vec<(u32, &str, &fleet::manifest::Entry)> = Vec::with_capacity(manifest.entries().len());
        for entry in manifest.entries() {
            let path = entry.path.as_str();
            match entry.kind {
                EntryKind::Directory => folders[number[path] as usize].mode = Some(mode(entry.mode)),
                EntryKind::File { .. } | EntryKind::Symlink { .. } => {
                    entries.push((number[above(path)], name(path), entry))
                }
            }
        }
        entries.sort_by_key(|(folder, name, _)| (*folder, *name));
        let (mut leaves, mut targets, mut names) = (Vec::with_capacity(entries.len()), Vec::new(), String::new());
        for (at, (folder, name, entry)) in (0..).zip(entries) {
            let folder = &mut folders[folder as usize];
            if folder.leaves.is_empty() {
                folder.leaves = at..at;
            }
            folder.leaves.end = at + 1;
            let wanted = match &entry.kind {
                EntryKind::File { sha256, size } => Wanted::File { digest: *sha256, size: *size },
                EntryKind::Symlink { target } => {
                    targets.push(target.as_str().into());
                    Wanted::Link(count(targets.len() - 1))
                }
                EntryKind::Directory => continue,
            };
            leaves.push(Leaf { name: count(names.len()), mode: mode(entry.mode), wanted, trust: Trust::Nothing });
            names.push_str(name);
        }
        Self {
            release: release.clone(),
            fingerprint: manifest.fingerprint(),
            folders,
            leaves,
            targets,
            names: names.into(),
            found: Found::default(),
            wrong: BTreeMap::new(),
            watched: Watched::No { why: "it has not been looked at yet".to_owned(), again: Millis(0) },
            odd: false,
            swept: None,
            sweeps_took_nanos: [0; 2],
            hashed: None,
        }
    }

    /// Whether this is the tree of that release and manifest.
    pub(super) fn is_of(&self, release: &ReleaseId, manifest: &Manifest) -> bool {
        self.release == *release && self.fingerprint == manifest.fingerprint()
    }

    /// The name of a leaf in its directory.
    pub(super) fn name(&self, leaf: u32) -> &str {
        let at = leaf as usize;
        let end = self.leaves.get(at + 1).map_or(self.names.len(), |next| next.name as usize);
        &self.names[self.leaves[at].name as usize..end]
    }

    /// The path of a leaf in the release.
    pub(super) fn path(&self, folder: u32, leaf: u32) -> String {
        join(&self.folders[folder as usize].path, self.name(leaf))
    }

    /// What a link should point to.
    pub(super) fn target(&self, target: u32) -> &str {
        &self.targets[target as usize]
    }

    /// The leaf of this name in a directory.
    pub(super) fn leaf_named(&self, folder: u32, wanted: &str) -> Option<u32> {
        let range = self.folders[folder as usize].leaves.clone();
        search(range, |leaf| self.name(leaf).cmp(wanted))
    }

    /// The directory of this name in a directory.
    pub(super) fn folder_named(&self, folder: u32, wanted: &str) -> Option<u32> {
        let range = self.folders[folder as usize].folders.clone();
        search(range, |folder| name(&self.folders[folder as usize].path).cmp(wanted))
    }

    /// Notes that everything in a directory is missing, at any depth.
    pub(super) fn note_missing_below(&mut self, folder: u32) {
        let mut open = vec![folder];
        while let Some(folder) = open.pop() {
            for leaf in self.folders[folder as usize].leaves.clone() {
                self.note_missing(folder, leaf);
            }
            for inner in self.folders[folder as usize].folders.clone() {
                if self.folders[inner as usize].mode.is_some() {
                    let path = self.folders[inner as usize].path.clone();
                    self.found.note(path.as_bytes(), DeviationKind::Missing, "a directory", "nothing");
                }
                open.push(inner);
            }
            self.folders[folder as usize].seen = None;
            self.folders[folder as usize].names = Trust::Nothing;
        }
    }

    /// Notes that a leaf is missing.
    pub(super) fn note_missing(&mut self, folder: u32, leaf: u32) {
        self.leaves[leaf as usize].trust = Trust::Nothing;
        let expected = match self.leaves[leaf as usize].wanted {
            Wanted::File { digest, .. } => digest.to_string(),
            Wanted::Link(target) => format!("a link to {}", self.target(target)),
        };
        self.found.note(self.path(folder, leaf).as_bytes(), DeviationKind::Missing, expected, "nothing");
    }

    /// Doubts what lies at a name that was told to have changed: it may have been within the tick in which it was read,
    /// and if it looks otherwise now, that is nothing odd.
    pub(super) fn doubt_name(&mut self, folder: u32, name: &CStr) {
        if folder as usize >= self.folders.len() {
            return;
        }
        if let Some(leaf) = name.to_str().ok().and_then(|name| self.leaf_named(folder, name)) {
            self.leaves[leaf as usize].trust = Trust::Nothing;
            self.wrong.remove(&leaf);
        }
        if matches!(self.folders[folder as usize].names, Trust::Fresh(_)) {
            self.folders[folder as usize].names = Trust::Nothing;
        }
    }

    /// Trusts what was read just after a change no longer: a change may have gone untold.
    pub(super) fn doubt(&mut self) {
        let unsettled = |trust: &mut Trust| {
            if matches!(trust, Trust::Fresh(_)) {
                *trust = Trust::Nothing;
            }
        };
        self.leaves.iter_mut().for_each(|leaf| unsettled(&mut leaf.trust));
        self.folders.iter_mut().for_each(|folder| unsettled(&mut folder.names));
        self.wrong.clear();
    }
}

/// What differs, by path.
#[derive(Debug, Default)]
pub(super) struct Found {
    by_path: BTreeMap<Vec<u8>, Vec<Noted>>,
    listed: usize,
    /// Beyond [`MOST_DEVIATIONS`]: then it is not known which paths they are of.
    pub(super) omitted: u64,
}

#[derive(Debug)]
struct Noted {
    deviation: FileDeviation,
    /// The change time of what was found.
    changed: Option<i64>,
}

/// What an inode tells of a deviation beside the deviation.
#[derive(Debug, Default, Clone, Copy)]
pub(super) struct Trace {
    /// The digest of its bytes.
    pub(super) content: Option<Digest>,
    /// Its change time, in nanoseconds of the wall clock.
    pub(super) changed: Option<i64>,
    /// Whose it is.
    pub(super) owner: Option<u32>,
}

impl Trace {
    pub(super) fn of(found: &Stat, content: Option<Digest>) -> Self {
        Self { content, changed: Some(Print::of(found).changed), owner: Some(found.st_uid) }
    }
}

impl Found {
    /// Notes one deviation of which no inode tells more.
    pub(super) fn note(
        &mut self,
        path: &[u8],
        kind: DeviationKind,
        expected: impl Into<String>,
        found: impl Into<String>,
    ) {
        self.note_traced(path, kind, expected.into(), found.into(), Trace::default());
    }

    /// Notes one deviation. A path that is not text is shown as well as it can be.
    pub(super) fn note_traced(
        &mut self,
        path: &[u8],
        kind: DeviationKind,
        expected: String,
        found: String,
        trace: Trace,
    ) {
        if self.listed >= MOST_DEVIATIONS {
            self.omitted += 1;
            return;
        }
        self.listed += 1;
        let shown = if path.is_empty() { ".".into() } else { String::from_utf8_lossy(path).into_owned() };
        // Whoever adds a file owns it; who changed one that was there the kernel does not tell afterwards.
        let by = trace.owner.filter(|_| kind == DeviationKind::Extra).map(origin::of_file);
        let deviation = FileDeviation { path: shown, kind, expected, found, content: trace.content, by, changed: None };
        self.by_path.entry(path.to_vec()).or_default().push(Noted { deviation, changed: trace.changed });
    }

    /// Forgets what was noted of a path.
    pub(super) fn clear(&mut self, path: &[u8]) {
        self.listed -= self.by_path.remove(path).map_or(0, |gone| gone.len());
    }

    /// Everything noted, by path and kind, with the ages that it has now.
    pub(super) fn list(&self) -> Vec<FileDeviation> {
        let now = boot_clock::wall_nanos();
        let age = |changed: i64| Millis(u64::try_from(now.saturating_sub(changed) / 1_000_000).unwrap_or(0));
        let aged = |noted: &Noted| FileDeviation { changed: noted.changed.map(age), ..noted.deviation.clone() };
        let mut listed: Vec<FileDeviation> = self.by_path.values().flatten().map(aged).collect();
        listed.sort_by(|a, b| (&a.path, a.kind).cmp(&(&b.path, b.kind)));
        listed
    }
}

/// What something is, for people.
pub(super) fn kind(found: &Stat) -> &'static str {
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

/// A path below a directory of the release.
pub(super) fn join(above: &str, name: &str) -> String {
    if above.is_empty() { name.to_owned() } else { format!("{above}/{name}") }
}

/// The last part of a path.
pub(super) fn name(path: &str) -> &str {
    path.rsplit_once('/').map_or(path, |(_, name)| name)
}

fn above(path: &str) -> &str {
    path.rsplit_once('/').map_or("", |(above, _)| above)
}

/// A manifest has at most 100,000 entries with paths of at most 1,024 bytes, so every number here fits.
fn count(number: usize) -> u32 {
    u32::try_from(number).unwrap_or(u32::MAX)
}

fn mode(mode: u32) -> u16 {
    u16::try_from(mode & 0o7777).unwrap_or(0)
}

fn search(range: Range<u32>, compare: impl Fn(u32) -> std::cmp::Ordering) -> Option<u32> {
    let (mut low, mut high) = (range.start, range.end);
    while low < high {
        let middle = low + (high - low) / 2;
        match compare(middle) {
            std::cmp::Ordering::Less => low = middle + 1,
            std::cmp::Ordering::Greater => high = middle,
            std::cmp::Ordering::Equal => return Some(middle),
        }
    }
    None
}
