//! The commit log: the truth of a store on disk. Appends frames to the newest segment and makes them durable; begins
//! a new segment, with a snapshot of the state in front, when the newest has grown large.
//!
//! `<dir>/log/00000001.log` is the only segment at most times. A new one gets its name only when its snapshot is on
//! disk, and only then is the old one removed; so the newest segment alone always says everything.

use std::collections::BTreeMap;
use std::fs::{self, DirBuilder, File, OpenOptions};
use std::io;
use std::os::unix::fs::{DirBuilderExt, FileExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use super::error::is_full;
use super::frame::{self, Kind, Opening, SEAL_BYTES, Seal};
use super::replay::{Replayed, replay};
use super::{Change, Entry, Error};

/// A segment is followed by a new one when it is longer than this: reading it back takes about a second.
pub(super) const ROTATE_BYTES: u64 = 64 * 1024 * 1024;

/// And never before it is this many times as long as its snapshot, or a large state would be written again and again.
const ROTATE_FACTOR: u64 = 4;

/// How full a frame of a snapshot is made.
const SNAPSHOT_FRAME_BYTES: usize = 1024 * 1024;

/// The file a segment is in. The one door for injected failures.
pub(super) trait Medium: Send {
    fn write_all_at(&self, bytes: &[u8], at: u64) -> io::Result<()>;
    fn sync_data(&self) -> io::Result<()>;
    fn set_len(&self, length: u64) -> io::Result<()>;
}

impl Medium for File {
    fn write_all_at(&self, bytes: &[u8], at: u64) -> io::Result<()> {
        FileExt::write_all_at(self, bytes, at)
    }
    fn sync_data(&self) -> io::Result<()> {
        File::sync_data(self)
    }
    fn set_len(&self, length: u64) -> io::Result<()> {
        File::set_len(self, length)
    }
}

/// Why nothing was appended.
#[derive(Debug)]
pub(super) enum Refused {
    /// There is no room. The log is as it was.
    Full,
    /// It is not known what is on disk. Nothing may be appended any more.
    Unknown(Error),
}

/// The log, open for appending.
pub(super) struct Log {
    home: PathBuf,
    path: PathBuf,
    medium: Box<dyn Medium>,
    opening: Opening,
    revision: u64,
    seal: Seal,
    length: u64,
    rotate_at: u64,
}

impl Log {
    /// Makes the log of a new store in `home`, which must not have one.
    pub(super) fn create(home: &Path, id: [u8; 16], created_ms: u64) -> Result<Log, Error> {
        if !home.exists() {
            DirBuilder::new().mode(0o700).create(home).map_err(|e| Error::io("cannot make", home, e))?;
        }
        if let Some(parent) = home.parent() {
            sync_dir(parent).map_err(|e| Error::io("cannot make durable", parent, e))?;
        }
        let opening = Opening { id, created_ms, segment: 1, before: [0; SEAL_BYTES] };
        Log::begin(home, opening, 0, &BTreeMap::new())
    }

    /// The newest segment in `home` and what it says, or nothing if there is none.
    pub(super) fn open(home: &Path) -> Result<Option<(Log, Replayed)>, Error> {
        let Some(&number) = segments(home)?.last() else { return Ok(None) };
        let path = segment_path(home, number);
        let file =
            OpenOptions::new().read(true).write(true).open(&path).map_err(|e| Error::io("cannot open", &path, e))?;
        let read = replay(&path, &file)?;
        if read.opening.segment != number {
            return Err(Error::Corrupt {
                what: format!("the file says that it is segment {}", read.opening.segment),
                place: path.display().to_string(),
                way_out: "give it back its name, or restore the log's directory from a backup".into(),
            });
        }
        let mut log = Log {
            home: home.into(),
            path,
            medium: Box::new(file),
            opening: read.opening,
            revision: read.revision,
            seal: read.seal,
            length: read.end,
            rotate_at: 0,
        };
        log.rotate_above(ROTATE_BYTES.max(read.snapshot_end * ROTATE_FACTOR));
        Ok(Some((log, read)))
    }

    /// Cuts a torn frame off, for good, and removes what an interrupted rotation has left. Only after the whole store
    /// was found to be well.
    pub(super) fn tidy(&self) -> Result<(), Error> {
        let failed = |e| Error::io("cannot cut the torn end of", &self.path, e);
        self.medium.set_len(self.length).map_err(failed)?;
        self.medium.sync_data().map_err(failed)?;
        self.remove_older()
    }

    pub(super) fn opening(&self) -> &Opening {
        &self.opening
    }

    pub(super) fn revision(&self) -> u64 {
        self.revision
    }

    /// Sets the length from which on a new segment is wanted.
    pub(super) fn rotate_above(&mut self, bytes: u64) {
        self.rotate_at = bytes;
    }

    pub(super) fn wants_rotation(&self) -> bool {
        self.length > self.rotate_at
    }

    /// Puts something else in the place of the file.
    #[cfg(test)]
    pub(super) fn replace_medium(&mut self, wrap: impl FnOnce(Box<dyn Medium>) -> Box<dyn Medium>) {
        let closed: Box<dyn Medium> = Box::new(File::open("/dev/null").expect("/dev/null can be opened"));
        self.medium = wrap(std::mem::replace(&mut self.medium, closed));
    }

    /// Appends `batches` as the next revisions, in one frame, and waits until they are on disk.
    pub(super) fn append(&mut self, batches: &[Vec<Change>]) -> Result<(), Refused> {
        let mut payload = Vec::new();
        for changes in batches {
            frame::put_batch(&mut payload, changes);
        }
        let revision = self.revision + batches.len() as u64;
        let bytes = frame::frame(&self.seal, Kind::Commits, batches.len() as u32, revision, &payload);
        if let Err(error) = self.medium.write_all_at(&bytes, self.length) {
            if !is_full(&error) {
                return Err(Refused::Unknown(Error::io("cannot write to", &self.path, error)));
            }
            // A part may have been written. It must go: a shorter frame in its place would leave some of it behind.
            let cut = self.medium.set_len(self.length).and_then(|()| self.medium.sync_data());
            return Err(match cut {
                Ok(()) => Refused::Full,
                Err(error) => Refused::Unknown(lost("cannot cut the unfinished end of", &self.path, error)),
            });
        }
        // Even a full disk is not an answer here: after a failed fdatasync the kernel has dropped the pages.
        self.medium.sync_data().map_err(|e| Refused::Unknown(lost("cannot make durable", &self.path, e)))?;
        self.length += bytes.len() as u64;
        self.revision = revision;
        self.seal.copy_from_slice(&bytes[bytes.len() - SEAL_BYTES..]);
        Ok(())
    }

    /// Begins a new segment with the state of this one. The old one stays until [`Log::remove_older`]. The state is
    /// read back from the log itself, never from the database: what is written as truth comes only from truth.
    pub(super) fn rotate(&mut self) -> Result<(), Error> {
        let file = File::open(&self.path).map_err(|e| Error::io("cannot open", &self.path, e))?;
        let read = replay(&self.path, &file)?;
        if read.torn > 0 || read.revision != self.revision || read.seal != self.seal {
            return Err(Error::Corrupt {
                what: "the log does not read back as it was written".into(),
                place: format!("{} at byte {}", self.path.display(), read.end),
                way_out: "check the disk; the file is left as it is".into(),
            });
        }
        let opening = Opening { segment: self.opening.segment + 1, before: self.seal, ..self.opening };
        *self = Log::begin(&self.home, opening, self.revision, &read.entries)?;
        Ok(())
    }

    /// Puts off a rotation for which there was no room, instead of trying again at every commit.
    pub(super) fn postpone_rotation(&mut self) {
        self.rotate_at = self.length + ROTATE_BYTES / 4;
    }

    /// Removes the segments that the newest has replaced, and unfinished ones.
    pub(super) fn remove_older(&self) -> Result<(), Error> {
        let mut removed = false;
        for number in segments(&self.home)? {
            if number < self.opening.segment {
                let path = segment_path(&self.home, number);
                fs::remove_file(&path).map_err(|e| Error::io("cannot remove", &path, e))?;
                removed = true;
            }
        }
        let unfinished = unfinished_path(&self.home);
        match fs::remove_file(&unfinished) {
            Ok(()) => removed = true,
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            Err(error) => return Err(Error::io("cannot remove", &unfinished, error)),
        }
        if removed {
            sync_dir(&self.home).map_err(|e| Error::io("cannot make durable", &self.home, e))?;
        }
        Ok(())
    }

    /// Writes a segment up to where commits begin and gives it its name when it is on disk.
    fn begin(home: &Path, opening: Opening, revision: u64, entries: &BTreeMap<String, Entry>) -> Result<Log, Error> {
        let unfinished = unfinished_path(home);
        let file = OpenOptions::new()
            .read(true)
            .write(true)
            .create(true)
            .truncate(true)
            .mode(0o600)
            .open(&unfinished)
            .map_err(|e| Error::io("cannot make", &unfinished, e))?;
        let mut writer = Writer { file: &file, length: 0, seal: frame::first_seal() };
        let written = writer.segment(&opening, revision, entries).and_then(|()| file.sync_all());
        let Writer { length, seal, .. } = writer;
        if let Err(error) = written {
            // Best effort: it has no name that anything looks for, and the next opening removes it as well.
            let _ = fs::remove_file(&unfinished);
            return Err(Error::io("cannot write", &unfinished, error));
        }
        let path = segment_path(home, opening.segment);
        // From here on a failure may not be called a full disk: the new name may be there, and then only it counts.
        fs::rename(&unfinished, &path).map_err(|e| lost("cannot name", &path, e))?;
        sync_dir(home).map_err(|e| lost("cannot make durable", home, e))?;
        let mut log =
            Log { home: home.into(), path, medium: Box::new(file), opening, revision, seal, length, rotate_at: 0 };
        log.rotate_above(ROTATE_BYTES.max(length * ROTATE_FACTOR));
        Ok(log)
    }
}

/// Writes the beginning of a segment.
struct Writer<'a> {
    file: &'a File,
    length: u64,
    seal: Seal,
}

impl Writer<'_> {
    fn segment(&mut self, opening: &Opening, revision: u64, entries: &BTreeMap<String, Entry>) -> io::Result<()> {
        self.write(&frame::preamble(frame::FORMAT))?;
        self.frame(Kind::Opening, revision, &frame::opening(opening))?;
        let mut payload = Vec::new();
        for (key, entry) in entries {
            frame::put_change(&mut payload, &Change { key: key.clone(), entry: Some(entry.clone()) });
            if payload.len() > SNAPSHOT_FRAME_BYTES {
                self.frame(Kind::Snapshot, revision, &std::mem::take(&mut payload))?;
            }
        }
        if !payload.is_empty() {
            self.frame(Kind::Snapshot, revision, &payload)?;
        }
        self.frame(Kind::Ready, revision, &(entries.len() as u64).to_le_bytes())
    }

    fn frame(&mut self, kind: Kind, revision: u64, payload: &[u8]) -> io::Result<()> {
        let bytes = frame::frame(&self.seal, kind, 0, revision, payload);
        self.seal.copy_from_slice(&bytes[bytes.len() - SEAL_BYTES..]);
        self.write(&bytes)
    }

    fn write(&mut self, bytes: &[u8]) -> io::Result<()> {
        FileExt::write_all_at(self.file, bytes, self.length)?;
        self.length += bytes.len() as u64;
        Ok(())
    }
}

/// Makes the names in a directory durable.
pub(super) fn sync_dir(dir: &Path) -> io::Result<()> {
    File::open(dir)?.sync_all()
}

/// A failure after which a full disk may not be called one, since the store cannot go on.
fn lost(doing: &str, path: &Path, error: io::Error) -> Error {
    Error::Io { doing: format!("{doing} {}", path.display()), source: error.into() }
}

fn segment_path(home: &Path, number: u64) -> PathBuf {
    home.join(format!("{number:08}.log"))
}

fn unfinished_path(home: &Path) -> PathBuf {
    home.join("unfinished")
}

/// The numbers of the segments in `home`, ascending. Files with other names are not the log's and are left alone.
fn segments(home: &Path) -> Result<Vec<u64>, Error> {
    let listing = match fs::read_dir(home) {
        Ok(listing) => listing,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
        Err(error) => return Err(Error::io("cannot list", home, error)),
    };
    let mut numbers = Vec::new();
    for file in listing {
        let name = file.map_err(|e| Error::io("cannot list", home, e))?.file_name();
        let number: Option<u64> = name.to_str().and_then(|name| name.strip_suffix(".log")?.parse().ok());
        numbers.extend(number.filter(|&number| segment_path(home, number).file_name() == Some(&name)));
    }
    numbers.sort_unstable();
    Ok(numbers)
}
