//! dpkg's database, read as it lies on the disk: which package lists a path, in which version it is installed, and which
//! MD5 sum it gives the file. When that is asked and how long it is remembered is `packages`' affair. What the database does
//! not say for certain is not known: while dpkg works, of packages that are half done, and of diverted files (dpkg-divert).

use std::collections::{HashMap, HashSet};
use std::ffi::OsStr;
use std::fs::{self, File};
use std::io::{self, BufRead, BufReader, Read};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use rustix::fs::{Mode, OFlags};

/// Where dpkg keeps what it knows.
const DATABASE: &str = "/var/lib/dpkg";
/// The longest line read of any file here.
const LONGEST_LINE: usize = 64 << 10;
/// The longest name, architecture and version kept.
const LONGEST_TEXT: usize = 200;
/// A larger file is none of dpkg's: `status` has a few megabytes on the fullest machine.
const LARGEST_FILE: u64 = 256 << 20;
/// The most packages considered for one path. Only folders are shared by more.
const MOST_CLAIMS: usize = 16;
/// The folders that exist once on today's systems, and which dpkg lists with or without `/usr`.
const MERGED: [&str; 6] = ["bin", "sbin", "lib", "lib32", "lib64", "libx32"];

/// An MD5 sum.
pub(super) type Sum = [u8; 16];
/// Which packages list a path, by the path's bytes.
type Claims = HashMap<Vec<u8>, Vec<Source>>;

/// Where the database lies.
#[derive(Debug)]
pub(super) struct Database(PathBuf);

/// Who lists a path.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Listed {
    /// The database does not say for certain.
    Unknown,
    Nobody,
    /// The package, and the sum of the file it brought if it says one.
    By {
        name: String,
        version: String,
        sum: Option<Sum>,
    },
}

/// What changes with every change of the database: `status`, which dpkg replaces at the end of each of its runs, and
/// `updates`, where it keeps its journal until then.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Stamp {
    status: Print,
    updates: Option<Print>,
}

/// What a file or folder is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Print {
    device: u64,
    inode: u64,
    size: u64,
    modified: (i64, i64),
}

/// What `status` says of a package.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
enum State {
    /// Nothing, or that it is half done.
    #[default]
    Unclear,
    /// Its files are not here, but for those that somebody may have configured.
    Absent,
    /// They are, in this version.
    Here(String),
}

/// A package as the names of its files in `info` tell it.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
struct Source {
    name: String,
    /// Said only of packages that may be installed for several architectures at once.
    architecture: Option<String>,
}

impl Database {
    /// dpkg's of this machine.
    pub(super) fn of_this_machine() -> Self {
        Self(PathBuf::from(DATABASE))
    }

    /// One that lies elsewhere.
    #[cfg(test)]
    pub(super) fn at(root: PathBuf) -> Self {
        Self(root)
    }

    /// What changes with every change of the database. None on a machine without dpkg, and while it is in the middle of its
    /// work: then its lists and sums are those of new packages, and what `status` says is not.
    pub(super) fn stamp(&self) -> Option<Stamp> {
        let updates = self.0.join("updates");
        let is_entry = |name: &OsStr| name.as_bytes().iter().all(u8::is_ascii_digit);
        if fs::read_dir(&updates)
            .is_ok_and(|mut found| found.any(|entry| entry.is_ok_and(|entry| is_entry(&entry.file_name()))))
        {
            return None;
        }
        let status = fs::metadata(self.0.join("status")).ok().filter(fs::Metadata::is_file)?;
        Some(Stamp { status: Print::of(&status), updates: fs::metadata(updates).ok().map(|found| Print::of(&found)) })
    }

    /// One pass over the lists, one over `status`, and the sums of those packages that brought something.
    pub(super) fn look_up(&self, wanted: &[&Path]) -> Vec<(PathBuf, Listed)> {
        let spelled: Vec<(&Path, Vec<Vec<u8>>)> = wanted.iter().map(|path| (*path, spellings(path))).collect();
        let mut claims: Claims =
            spelled.iter().flat_map(|(_, spellings)| spellings).map(|path| (path.clone(), Vec::new())).collect();
        let (lists, diverted) = (self.claim(&mut claims), self.diverted(&claims));
        let mut states: HashMap<Source, State> =
            claims.values().flatten().map(|source| (source.clone(), State::default())).collect();
        let complete = lists && diverted.is_ok() && self.find_states(&mut states).is_ok();
        let diverted = diverted.unwrap_or_default();
        // The path as the kernel spells it goes first: where folders are not merged, the other one is another file.
        let sources = |spellings: &[Vec<u8>]| -> Vec<&Source> {
            spellings.iter().filter_map(|path| claims.get(path)).flatten().collect()
        };
        // One package in one version, be it for several architectures; where two claim a path, either may have written last.
        let chosen = |spellings: &[Vec<u8>]| {
            let mut here = None;
            for source in sources(spellings) {
                match (states.get(source)?, here) {
                    (State::Absent, _) => {}
                    (State::Here(version), None) => here = Some((source, version)),
                    (State::Here(version), Some((first, of_first)))
                        if first.name == source.name && version == of_first => {}
                    (State::Here(_) | State::Unclear, _) => return None,
                }
            }
            here
        };
        let mut sums: HashMap<&Source, HashMap<&[u8], Option<Sum>>> = HashMap::new();
        for (_, spellings) in &spelled {
            if let Some((source, _)) = chosen(spellings) {
                let asked = sums.entry(source).or_default();
                asked.extend(spellings.iter().map(|path| (path.as_slice(), None)));
            }
        }
        for (source, asked) in &mut sums {
            self.find_sums(source, asked);
        }
        let known = |spellings: &[Vec<u8>]| match chosen(spellings) {
            // Not to know is not to be nobody's.
            _ if !complete || spellings.iter().any(|path| diverted.contains(path)) => Listed::Unknown,
            Some((source, version)) => {
                let asked = sums.get(source);
                let sum = spellings.iter().find_map(|path| *asked?.get(path.as_slice())?);
                Listed::By { name: source.name.clone(), version: version.clone(), sum }
            }
            None if sources(spellings).iter().all(|source| states.get(*source) == Some(&State::Absent)) => {
                Listed::Nobody
            }
            None => Listed::Unknown,
        };
        spelled.iter().map(|(path, spellings)| (path.to_path_buf(), known(spellings))).collect()
    }

    /// Adds to each path the packages that list it; false if a list could not be read to its end.
    fn claim(&self, claims: &mut Claims) -> bool {
        let Ok(entries) = fs::read_dir(self.0.join("info")) else { return false };
        let mut complete = true;
        for entry in entries {
            let Ok(entry) = entry else { return false };
            let Some(source) = Source::of_list(&entry.file_name()) else { continue };
            complete &= claim_for(&source, &entry.path(), claims).is_ok();
        }
        // A folder is read in any order; the answer shall not depend on it.
        claims.values_mut().for_each(|sources| sources.sort());
        complete
    }

    /// Which of the paths are diverted, from or to. Of each diversion the database says three lines: from, to, and by whom.
    fn diverted(&self, claims: &Claims) -> io::Result<HashSet<Vec<u8>>> {
        let mut diverted = HashSet::new();
        let mut lines = match Lines::open(&self.0.join("diversions")) {
            Err(cause) if cause.kind() == io::ErrorKind::NotFound => return Ok(diverted),
            opened => opened?,
        };
        while let Some(line) = lines.read()? {
            if claims.contains_key(line) {
                diverted.insert(line.to_vec());
            }
        }
        Ok(diverted)
    }

    /// Adds what `status` says of the packages.
    fn find_states(&self, states: &mut HashMap<Source, State>) -> io::Result<()> {
        let mut lines = Lines::open(&self.0.join("status"))?;
        let mut stanza = Stanza::default();
        while let Some(line) = lines.read()? {
            if line.is_empty() {
                std::mem::take(&mut stanza).tell(states);
            } else {
                stanza.take(line);
            }
        }
        stanza.tell(states);
        Ok(())
    }

    /// Adds the sums that a package says of its files, as far as they can be read.
    fn find_sums(&self, source: &Source, sums: &mut HashMap<&[u8], Option<Sum>>) {
        let Ok(mut lines) = Lines::open(&self.0.join("info").join(source.file("md5sums"))) else { return };
        // They are written without the leading slash.
        let mut path = vec![b'/'];
        while let Ok(Some(line)) = lines.read() {
            let Some((sum, below)) = summed(line) else { continue };
            path.truncate(1);
            path.extend_from_slice(below);
            if let Some(found) = sums.get_mut(path.as_slice()) {
                *found = Some(sum);
            }
        }
    }
}

impl Print {
    fn of(found: &fs::Metadata) -> Self {
        Self {
            device: found.dev(),
            inode: found.ino(),
            size: found.size(),
            modified: (found.mtime(), found.mtime_nsec()),
        }
    }
}

impl Source {
    /// The package that has a list of this name: `NAME.list` or `NAME:ARCH.list`.
    fn of_list(file: &OsStr) -> Option<Self> {
        let whole = text(file.as_bytes().strip_suffix(b".list")?)?;
        let (name, architecture) = match whole.split_once(':') {
            Some((name, architecture)) => (name, Some(architecture.to_owned())),
            None => (whole, None),
        };
        Some(Self { name: name.to_owned(), architecture })
    }

    /// The name of another of its files.
    fn file(&self, kind: &str) -> String {
        match &self.architecture {
            Some(architecture) => format!("{}:{architecture}.{kind}", self.name),
            None => format!("{}.{kind}", self.name),
        }
    }
}

/// What is needed of one package's fields in `status`.
#[derive(Debug, Default)]
struct Stanza {
    name: Option<String>,
    architecture: Option<String>,
    version: Option<String>,
    status: Option<String>,
}

impl Stanza {
    /// Takes a field up. Lines that continue one begin with a space, so they are never taken for another.
    fn take(&mut self, line: &[u8]) {
        let value = |bytes: &[u8]| text(bytes.trim_ascii()).map(str::to_owned);
        if let Some(rest) = line.strip_prefix(b"Package:") {
            self.name = value(rest);
        } else if let Some(rest) = line.strip_prefix(b"Architecture:") {
            self.architecture = value(rest);
        } else if let Some(rest) = line.strip_prefix(b"Version:") {
            self.version = value(rest);
        } else if let Some(rest) = line.strip_prefix(b"Status:") {
            self.status = value(rest);
        }
    }

    /// Tells its state to those who asked for it.
    fn tell(self, states: &mut HashMap<Source, State>) {
        let state = self.state();
        let Some(name) = self.name else { return };
        let mut source = Source { name, architecture: None };
        if let Some(asked) = states.get_mut(&source) {
            *asked = state.clone();
        }
        source.architecture = self.architecture;
        if let Some(asked) = states.get_mut(&source) {
            *asked = state;
        }
    }

    /// By the words of dpkg(1), "package states". The first is only what is wanted: a package that is held back (`hold ok
    /// installed`) is as much here as any. What is unpacked is here although it is not configured.
    fn state(&self) -> State {
        let mut words = self.status.iter().flat_map(|status| status.split_ascii_whitespace()).skip(1);
        let (flag, state) = (words.next(), words.next());
        match (state, &self.version) {
            (Some("not-installed" | "config-files"), _) => State::Absent,
            (
                Some("installed" | "unpacked" | "half-configured" | "triggers-awaited" | "triggers-pending"),
                Some(version),
            ) if flag == Some("ok") => State::Here(version.clone()),
            _ => State::Unclear,
        }
    }
}

/// Adds `source` to each path that its list names.
fn claim_for(source: &Source, list: &Path, claims: &mut Claims) -> io::Result<()> {
    let mut lines = Lines::open(list)?;
    while let Some(line) = lines.read()? {
        if let Some(sources) = claims.get_mut(line)
            && sources.len() < MOST_CLAIMS
        {
            sources.push(source.clone());
        }
    }
    Ok(())
}

/// The lines of a file of the database, one at a time.
struct Lines {
    reader: BufReader<File>,
    line: Vec<u8>,
}

impl Lines {
    fn open(path: &Path) -> io::Result<Self> {
        // Of a pipe that somebody put there, nobody would ever open the other end.
        let flags = OFlags::RDONLY | OFlags::CLOEXEC | OFlags::NONBLOCK;
        let file = File::from(rustix::fs::open(path, flags, Mode::empty())?);
        let found = file.metadata()?;
        if !found.is_file() || found.len() > LARGEST_FILE {
            return Err(io::Error::other("not a file of dpkg's"));
        }
        Ok(Self { reader: BufReader::new(file), line: Vec::new() })
    }

    /// The next line without its end; None after the last.
    fn read(&mut self) -> io::Result<Option<&[u8]>> {
        self.line.clear();
        let most = LONGEST_LINE as u64 + 1;
        let length = self.reader.by_ref().take(most).read_until(b'\n', &mut self.line)?;
        if length == 0 {
            return Ok(None);
        }
        if self.line.last() == Some(&b'\n') {
            self.line.pop();
        }
        if self.line.len() > LONGEST_LINE {
            return Err(io::Error::new(io::ErrorKind::InvalidData, "a line longer than any of dpkg's"));
        }
        Ok(Some(&self.line))
    }
}

/// A name or a version, if it is short and fit to be shown.
fn text(bytes: &[u8]) -> Option<&str> {
    let text = std::str::from_utf8(bytes).ok()?;
    (!text.is_empty() && text.len() <= LONGEST_TEXT && !text.contains(char::is_control)).then_some(text)
}

/// How dpkg may have written an absolute path, first of all as it is. dpkg of merged folders lists
/// `/lib/x86_64-linux-gnu/libc.so.6` for what the kernel calls `/usr/lib/x86_64-linux-gnu/libc.so.6`.
fn spellings(path: &Path) -> Vec<Vec<u8>> {
    let whole = path.as_os_str().as_bytes();
    let Some(below) = whole.strip_prefix(b"/") else { return Vec::new() };
    let (other, merged) = match below.strip_prefix(b"usr/") {
        Some(rest) => ([b"/".as_slice(), rest].concat(), rest),
        None => ([b"/usr/".as_slice(), below].concat(), below),
    };
    let first = merged.split(|byte| *byte == b'/').next().unwrap_or_default();
    let is_merged = first.len() < merged.len() && MERGED.iter().any(|folder| folder.as_bytes() == first);
    if is_merged { vec![whole.to_vec(), other] } else { vec![whole.to_vec()] }
}

/// A line of `md5sums`: 32 hexadecimal digits, two spaces, and a path without its leading slash.
fn summed(line: &[u8]) -> Option<(Sum, &[u8])> {
    let (digits, rest) = line.split_at_checked(32)?;
    let below = rest.strip_prefix(b"  ")?;
    let mut sum = Sum::default();
    for (byte, pair) in sum.iter_mut().zip(digits.chunks_exact(2)) {
        let digit = |at: usize| char::from(pair[at]).to_digit(16);
        *byte = u8::try_from(digit(0)? * 16 + digit(1)?).ok()?;
    }
    Some((sum, below))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn sums_and_texts_are_read_strictly() {
        assert_eq!(summed(b"000102030405060708090a0b0c0d0eFf  usr/x y").unwrap().1, b"usr/x y");
        for bad in ["", "00", "+00102030405060708090a0b0c0d0e0f  x", "000102030405060708090a0b0c0d0e0f x"] {
            assert!(summed(bad.as_bytes()).is_none(), "{bad}");
        }
        assert_eq!(text(b"1:2~3+b1"), Some("1:2~3+b1"));
        assert!(text(b"").is_none() && text(b"a\xff").is_none() && text(b"a\x1b[m").is_none());
        assert!(text("x".repeat(LONGEST_TEXT + 1).as_bytes()).is_none());
    }
}
