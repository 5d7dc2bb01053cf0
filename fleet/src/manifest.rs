//! The manifest: path, digest, size, mode and link of every entry of a release. It is the baseline for drift
//! and for proof. Reading files and comparing them with it is the agent's work.

use std::cmp::Ordering;
use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::hash::{Hash, Hasher};
use std::str::FromStr;
use std::sync::Arc;

use serde::{Deserialize, Serialize};

use crate::Digest;

/// More entries than this are refused: a release of that size is a mistake or an attack.
pub const MOST_ENTRIES: usize = 100_000;
/// The largest unpacked size of a release, in bytes (1 GiB).
pub const LARGEST_UNPACKED: u64 = 1 << 30;
/// The longest path of an entry, in bytes; Linux's PATH_MAX is 4,096 with the root in front.
pub const LONGEST_PATH: usize = 1_024;

/// A relative path inside a release: no `..`, no `.`, no empty part, not absolute, no control characters.
///
/// It is a part of a text that it may share with others: all paths of a manifest lie in one piece of memory, since an
/// agent keeps tens of thousands of them for months and one allocation each would leave holes that nothing else fits.
#[derive(Clone, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct RelativePath {
    text: Arc<str>,
    begin: u32,
    end: u32,
}

impl RelativePath {
    /// The path as text, with `/` between its parts.
    pub fn as_str(&self) -> &str {
        &self.text[self.begin as usize..self.end as usize]
    }

    /// Every directory above this path, nearest last: `a/b/c` gives `a`, `a/b`.
    pub fn parents(&self) -> impl Iterator<Item = &str> {
        self.as_str().match_indices('/').map(|(at, _)| &self.as_str()[..at])
    }
}

impl FromStr for RelativePath {
    type Err = ManifestError;
    fn from_str(text: &str) -> Result<Self, ManifestError> {
        let refuse =
            |rule| ManifestError::Path { path: text.chars().take(200).flat_map(char::escape_default).collect(), rule };
        if text.is_empty() || text.len() > LONGEST_PATH {
            return Err(refuse("it must have 1 to 1024 bytes"));
        }
        if text.starts_with('/') {
            return Err(refuse("it is absolute"));
        }
        if text.chars().any(char::is_control) {
            return Err(refuse("it has control characters"));
        }
        if text.split('/').any(|part| matches!(part, "" | "." | "..")) {
            return Err(refuse("it has an empty part, '.' or '..'"));
        }
        // Checked above: it is no longer than 1,024 bytes.
        let end = u32::try_from(text.len()).unwrap_or(u32::MAX);
        Ok(Self { text: text.into(), begin: 0, end })
    }
}

impl PartialEq for RelativePath {
    fn eq(&self, other: &Self) -> bool {
        self.as_str() == other.as_str()
    }
}

impl Eq for RelativePath {}

impl PartialOrd for RelativePath {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl Ord for RelativePath {
    fn cmp(&self, other: &Self) -> Ordering {
        self.as_str().cmp(other.as_str())
    }
}

impl Hash for RelativePath {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.as_str().hash(state);
    }
}

impl fmt::Debug for RelativePath {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("RelativePath").field(&self.as_str()).finish()
    }
}

impl TryFrom<String> for RelativePath {
    type Error = ManifestError;
    fn try_from(text: String) -> Result<Self, ManifestError> {
        text.parse()
    }
}

impl From<RelativePath> for String {
    fn from(path: RelativePath) -> String {
        path.as_str().to_owned()
    }
}

impl fmt::Display for RelativePath {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.as_str())
    }
}

/// What an entry is.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "kebab-case", deny_unknown_fields)]
pub enum EntryKind {
    /// A regular file.
    File {
        /// SHA-256 of its bytes.
        sha256: Digest,
        /// Its size in bytes.
        size: u64,
    },
    /// A directory.
    Directory,
    /// A symbolic link that stays inside the release.
    Symlink {
        /// Where it points, relative to the directory it lies in.
        target: String,
    },
}

/// One entry of a release.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Entry {
    /// Where it lies, relative to the release.
    pub path: RelativePath,
    /// Permission bits, 0 to 0o777; set-uid, set-gid and sticky are refused. Ignored for links.
    pub mode: u32,
    /// What it is.
    #[serde(flatten)]
    pub kind: EntryKind,
}

/// Every entry of a release, sorted by path, each path once, checked by [`Manifest::new`].
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(try_from = "Vec<Entry>", into = "Vec<Entry>")]
pub struct Manifest {
    entries: Vec<Entry>,
    fingerprint: u64,
}

/// Why a manifest was refused.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ManifestError {
    /// A path that could leave the release or confuse a reader.
    #[error("path '{path}' is refused: {rule}")]
    Path {
        /// The path, escaped.
        path: String,
        /// The rule it breaks.
        rule: &'static str,
    },
    /// Two entries with one path.
    #[error("'{0}' occurs twice")]
    Twice(RelativePath),
    /// An entry below something that is not a directory of this release.
    #[error("'{path}' lies below '{above}', which is not a directory")]
    NotADirectory {
        /// The entry.
        path: RelativePath,
        /// What is above it.
        above: String,
    },
    /// Special mode bits.
    #[error("'{path}' has mode {mode:04o}: set-uid, set-gid and sticky bits are not accepted")]
    SpecialMode {
        /// The entry.
        path: RelativePath,
        /// Its mode.
        mode: u32,
    },
    /// A link that leaves the release.
    #[error("link '{path}' points to '{target}', outside the release")]
    LinkOutside {
        /// The link.
        path: RelativePath,
        /// Where it points, escaped.
        target: String,
    },
    /// Too many entries.
    #[error("{0} entries are more than the {MOST_ENTRIES} a release may have")]
    TooMany(usize),
    /// Too large.
    #[error("the files add up to {0} bytes, more than the {LARGEST_UNPACKED} a release may unpack to")]
    TooLarge(u64),
}

impl Manifest {
    /// Checks and sorts entries into a manifest.
    ///
    /// # Errors
    /// Anything that could write or point outside the release, or is larger than the limits.
    pub fn new(mut entries: Vec<Entry>) -> Result<Self, ManifestError> {
        if entries.len() > MOST_ENTRIES {
            return Err(ManifestError::TooMany(entries.len()));
        }
        entries.sort_by(|a, b| a.path.cmp(&b.path));
        let mut kinds: BTreeMap<&str, &EntryKind> = BTreeMap::new();
        let mut size: u64 = 0;
        for entry in &entries {
            if kinds.insert(entry.path.as_str(), &entry.kind).is_some() {
                return Err(ManifestError::Twice(entry.path.clone()));
            }
            match &entry.kind {
                EntryKind::File { size: bytes, .. } => size = size.saturating_add(*bytes),
                EntryKind::Directory => {}
                EntryKind::Symlink { target } => check_link(&entry.path, target)?,
            }
            if entry.mode & !0o777 != 0 && !matches!(entry.kind, EntryKind::Symlink { .. }) {
                return Err(ManifestError::SpecialMode { path: entry.path.clone(), mode: entry.mode });
            }
        }
        if size > LARGEST_UNPACKED {
            return Err(ManifestError::TooLarge(size));
        }
        for entry in &entries {
            for above in entry.path.parents() {
                if kinds.get(above).is_some_and(|kind| !matches!(kind, EntryKind::Directory)) {
                    return Err(ManifestError::NotADirectory { path: entry.path.clone(), above: above.to_owned() });
                }
            }
        }
        let fingerprint = fingerprint(&entries);
        share_text(&mut entries);
        entries.shrink_to_fit();
        Ok(Self { entries, fingerprint })
    }

    /// A number by which one program tells its manifests apart without comparing every entry. It proves nothing.
    pub fn fingerprint(&self) -> u64 {
        self.fingerprint
    }

    /// The entries, sorted by path.
    pub fn entries(&self) -> &[Entry] {
        &self.entries
    }

    /// The entry at `path`, if there is one.
    pub fn get(&self, path: &str) -> Option<&Entry> {
        self.entries.binary_search_by(|entry| entry.path.as_str().cmp(path)).ok().map(|at| &self.entries[at])
    }

    /// Whether some file of the release has this digest.
    pub fn has_digest(&self, digest: &Digest) -> bool {
        self.digests().any(|own| own == digest)
    }

    /// The digest of every file.
    pub fn digests(&self) -> impl Iterator<Item = &Digest> {
        self.entries.iter().filter_map(|entry| match &entry.kind {
            EntryKind::File { sha256, .. } => Some(sha256),
            EntryKind::Directory | EntryKind::Symlink { .. } => None,
        })
    }

    /// What the files add up to, in bytes.
    pub fn unpacked_size(&self) -> u64 {
        self.entries.iter().map(|entry| if let EntryKind::File { size, .. } = &entry.kind { *size } else { 0 }).sum()
    }

    /// Every directory of the release, listed or implied by a path, parents first.
    pub fn directories(&self) -> BTreeSet<&str> {
        let listed =
            self.entries.iter().filter(|entry| entry.kind == EntryKind::Directory).map(|entry| entry.path.as_str());
        listed.chain(self.entries.iter().flat_map(|entry| entry.path.parents())).collect()
    }
}

/// Has all paths lie in one text: at most 100,000 times 1,024 bytes, so their places fit.
fn share_text(entries: &mut [Entry]) {
    let text: Arc<str> = entries.iter().map(|entry| entry.path.as_str()).collect::<String>().into();
    let mut begin = 0;
    for entry in entries {
        let end = begin + (entry.path.end - entry.path.begin);
        entry.path = RelativePath { text: text.clone(), begin, end };
        begin = end;
    }
}

/// FNV-1a over what the entries say; an empty manifest has the one that `Default` gives it.
fn fingerprint(entries: &[Entry]) -> u64 {
    let mut number: u64 = 0;
    let mut add = |bytes: &[u8]| {
        for byte in bytes {
            number = (number ^ u64::from(*byte)).wrapping_mul(0x0100_0000_01b3).wrapping_add(1);
        }
    };
    for entry in entries {
        add(entry.path.as_str().as_bytes());
        add(&entry.mode.to_be_bytes());
        match &entry.kind {
            EntryKind::File { sha256, size } => {
                add(b"f");
                add(&sha256.0);
                add(&size.to_be_bytes());
            }
            EntryKind::Directory => add(b"d"),
            EntryKind::Symlink { target } => {
                add(b"l");
                add(target.as_bytes());
            }
        }
    }
    number
}

/// A link may go up, but never above the release, and is never absolute.
fn check_link(path: &RelativePath, target: &str) -> Result<(), ManifestError> {
    let outside = || ManifestError::LinkOutside {
        path: path.clone(),
        target: target.chars().take(200).flat_map(char::escape_default).collect(),
    };
    if target.is_empty()
        || target.starts_with('/')
        || target.len() > LONGEST_PATH
        || target.chars().any(char::is_control)
    {
        return Err(outside());
    }
    let mut depth = path.parents().count();
    for part in target.split('/') {
        match part {
            "" | "." => {}
            ".." => depth = depth.checked_sub(1).ok_or_else(outside)?,
            _ => depth += 1,
        }
    }
    Ok(())
}

impl TryFrom<Vec<Entry>> for Manifest {
    type Error = ManifestError;
    fn try_from(entries: Vec<Entry>) -> Result<Self, ManifestError> {
        Self::new(entries)
    }
}

impl From<Manifest> for Vec<Entry> {
    fn from(manifest: Manifest) -> Vec<Entry> {
        manifest.entries
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    fn file(path: &str) -> Entry {
        Entry { path: path.parse().unwrap(), mode: 0o644, kind: EntryKind::File { sha256: Digest([1; 32]), size: 1 } }
    }
    fn link(path: &str, target: &str) -> Entry {
        Entry { path: path.parse().unwrap(), mode: 0o777, kind: EntryKind::Symlink { target: target.into() } }
    }

    #[test]
    fn no_path_leaves_the_release() {
        for bad in ["", "/etc/passwd", "../x", "a/../b", "a//b", "./a", "a/", "a\nb", "a\0b"] {
            assert!(bad.parse::<RelativePath>().is_err(), "{bad:?}");
        }
        assert!("/etc/passwd".parse::<RelativePath>().unwrap_err().to_string().contains("absolute"));
    }

    #[test]
    fn no_link_leaves_the_release() {
        for (path, target) in
            [("a", "/etc/shadow"), ("a", "../x"), ("d/a", "../../x"), ("d/a", "x/../../../y"), ("a", "")]
        {
            assert!(
                matches!(Manifest::new(vec![link(path, target)]), Err(ManifestError::LinkOutside { .. })),
                "{path} -> {target}"
            );
        }
        assert!(Manifest::new(vec![link("d/a", "../b"), link("x", "d/./a")]).is_ok());
    }

    #[test]
    fn entries_are_unique_and_lie_below_directories() {
        assert!(matches!(Manifest::new(vec![file("a"), file("a")]), Err(ManifestError::Twice(_))));
        assert!(matches!(Manifest::new(vec![link("a", "b"), file("a/x")]), Err(ManifestError::NotADirectory { .. })));
        assert!(matches!(Manifest::new(vec![file("a"), file("a/x")]), Err(ManifestError::NotADirectory { .. })));
        let mut setuid = file("a");
        setuid.mode = 0o4755;
        assert!(matches!(Manifest::new(vec![setuid]), Err(ManifestError::SpecialMode { .. })));
    }

    #[test]
    fn absurd_sizes_are_refused() {
        let mut huge = file("a");
        huge.kind = EntryKind::File { sha256: Digest([1; 32]), size: u64::MAX };
        assert!(matches!(Manifest::new(vec![huge, file("b")]), Err(ManifestError::TooLarge(_))));
    }

    #[test]
    fn a_manifest_reads_back_and_is_checked_again() {
        let manifest = Manifest::new(vec![file("b/c"), file("a")]).unwrap();
        let text = serde_json::to_string(&manifest).unwrap();
        assert_eq!(serde_json::from_str::<Manifest>(&text).unwrap(), manifest);
        assert!(serde_json::from_str::<Manifest>(&text.replace("b/c", "../c")).is_err());
        assert_eq!(manifest.directories().into_iter().collect::<Vec<_>>(), ["b"]);
        assert!(manifest.get("b/c").is_some() && manifest.get("b").is_none());
        assert_eq!(serde_json::from_str::<Manifest>(&text).unwrap().fingerprint(), manifest.fingerprint());
        assert_eq!(Manifest::new(Vec::new()).unwrap(), Manifest::default());
    }

    #[test]
    fn the_paths_of_a_manifest_lie_in_one_text_and_are_what_they_were() {
        let manifest = Manifest::new(["ü/b", "a", "a b"].map(file).into()).unwrap();
        let [first, .., last] = manifest.entries() else { panic!("{manifest:?}") };
        assert!(Arc::ptr_eq(&first.path.text, &last.path.text));
        let shown: Vec<String> = manifest.entries().iter().map(|entry| entry.path.to_string()).collect();
        assert_eq!(shown, ["a", "a b", "ü/b"]);
        let (shared, own) = (last.path.clone(), "ü/b".parse::<RelativePath>().unwrap());
        assert_eq!(
            (&shared, shared.cmp(&own), String::from(shared.clone())),
            (&own, Ordering::Equal, "ü/b".to_owned())
        );
        assert_eq!(std::collections::HashSet::from([shared, own]).len(), 1);
    }

    #[test]
    fn manifests_that_differ_anywhere_have_different_fingerprints() {
        let mut others = vec![vec![], vec![file("a")], vec![file("b")], vec![link("a", "b")], vec![link("a", "c")]];
        let changed = |change: fn(&mut Entry)| {
            let mut entry = file("a");
            change(&mut entry);
            vec![entry]
        };
        others.push(changed(|entry| entry.mode = 0o600));
        others.push(changed(|entry| entry.kind = EntryKind::Directory));
        others.push(changed(|entry| entry.kind = EntryKind::File { sha256: Digest([2; 32]), size: 1 }));
        others.push(changed(|entry| entry.kind = EntryKind::File { sha256: Digest([1; 32]), size: 2 }));
        let count = others.len();
        let prints: BTreeSet<u64> =
            others.into_iter().map(|entries| Manifest::new(entries).unwrap().fingerprint()).collect();
        assert_eq!(prints.len(), count);
    }
}
