//! The ledger of drift as the controller has written it to its disk: every opening and closing there ever was, also of
//! findings that were gone before anybody could ask. Read from the commit log beside the running controller, which
//! neither notices nor works for it. What the bytes of the log mean is said in `controller/src/store/frame.rs`.

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io::{self, Read as _, Seek as _, SeekFrom};
use std::path::{Path, PathBuf};

use fleet::ledger::LedgerEntry;

const PREAMBLE_BYTES: u64 = 16;
const HEADER_BYTES: u64 = 32;
const SEAL_BYTES: u64 = 32;
const HEADER_MAGIC: &[u8] = b"FLF1";
/// The kinds of frame that hold changes.
const SNAPSHOT: u8 = 2;
const COMMITS: u8 = 4;
/// Where lines of the ledger lie among the keys of the store.
const LINES: &str = "ledger/";
/// What stands before the text of a value: its format, and whether another part follows.
const VALUE_HEAD: [u8; 2] = [1, 0];

/// A ledger that is read along.
#[derive(Debug)]
pub struct Ledger {
    log: PathBuf,
    segment: u64,
    at: u64,
    lines: BTreeMap<u64, LedgerEntry>,
}

impl Ledger {
    /// The ledger in the data directory of a controller.
    pub fn of(data_dir: &Path) -> Ledger {
        Ledger { log: data_dir.join("store/log"), segment: 0, at: 0, lines: BTreeMap::new() }
    }

    /// Everything that was ever seen in it, by number, after what is new has been read.
    ///
    /// # Errors
    /// The log cannot be read, or is not what it should be.
    pub fn read(&mut self) -> io::Result<&BTreeMap<u64, LedgerEntry>> {
        let newest = self.newest()?;
        // The segment that was read until now may have grown once more before the next one was begun.
        if newest != self.segment && self.segment != 0 {
            match self.read_on() {
                Ok(()) => {}
                Err(error) if error.kind() == io::ErrorKind::NotFound => {}
                Err(error) => return Err(error),
            }
        }
        if newest != self.segment {
            (self.segment, self.at) = (newest, PREAMBLE_BYTES);
        }
        self.read_on()?;
        Ok(&self.lines)
    }

    /// The lines from number `first` on.
    ///
    /// # Errors
    /// As [`Ledger::read`].
    pub fn since(&mut self, first: u64) -> io::Result<Vec<(u64, LedgerEntry)>> {
        Ok(self.read()?.range(first..).map(|(number, line)| (*number, line.clone())).collect())
    }

    /// How long the log is: whoever looks often reads only what has grown.
    ///
    /// # Errors
    /// There is no log.
    pub fn bytes(&self) -> io::Result<u64> {
        let newest = self.newest()?;
        Ok(fs::metadata(self.log.join(format!("{newest:08}.log")))?.len())
    }

    /// The number that the next new line will have.
    pub fn next(&self) -> u64 {
        self.lines.last_key_value().map_or(0, |(number, _)| number + 1)
    }

    fn newest(&self) -> io::Result<u64> {
        let names = fs::read_dir(&self.log)?.flatten().map(|entry| entry.file_name());
        let number = |name: std::ffi::OsString| name.to_str()?.strip_suffix(".log")?.parse().ok();
        names.filter_map(number).max().ok_or_else(|| broken(&self.log, "there is no segment"))
    }

    fn read_on(&mut self) -> io::Result<()> {
        let path = self.log.join(format!("{:08}.log", self.segment));
        let mut file = File::open(&path)?;
        file.seek(SeekFrom::Start(self.at))?;
        let mut new = Vec::new();
        file.read_to_end(&mut new)?;
        let mut new = new.as_slice();
        while let Some(frame) = frame(new) {
            let frame = frame.map_err(|what| broken(&path, &format!("at byte {}: {what}", self.at)))?;
            self.keep(&frame).map_err(|what| broken(&path, &format!("at byte {}: {what}", self.at)))?;
            self.at += frame.bytes;
            new = &new[frame.bytes as usize..];
        }
        Ok(())
    }

    fn keep(&mut self, frame: &Frame<'_>) -> Result<(), String> {
        let mut fields = Fields(frame.payload);
        while !fields.0.is_empty() {
            let count = if frame.kind == COMMITS { fields.number(4)? } else { 1 };
            for _ in 0..count {
                let Some((key, value)) = fields.change()? else { continue };
                let Some(number) = key.strip_prefix(LINES) else { continue };
                let text = value.strip_prefix(&VALUE_HEAD).ok_or("a value of another format, or in parts")?;
                let line = serde_json::from_slice(text).map_err(|error| format!("{key}: {error}"))?;
                self.lines.insert(number.parse().map_err(|_| format!("{key} has no number"))?, line);
            }
        }
        Ok(())
    }
}

struct Frame<'a> {
    kind: u8,
    payload: &'a [u8],
    bytes: u64,
}

/// The frame that these bytes begin with; None while it is not there as a whole.
fn frame(bytes: &[u8]) -> Option<Result<Frame<'_>, String>> {
    let head = bytes.get(..HEADER_BYTES as usize)?;
    if !head.starts_with(HEADER_MAGIC) {
        return Some(Err("not a frame".to_owned()));
    }
    let length = u32::from_le_bytes([head[8], head[9], head[10], head[11]]);
    let end = HEADER_BYTES as usize + length as usize;
    let whole = bytes.get(..end + SEAL_BYTES as usize)?;
    let kind = head[4];
    let payload = if matches!(kind, SNAPSHOT | COMMITS) { &whole[HEADER_BYTES as usize..end] } else { &[] };
    Some(Ok(Frame { kind, payload, bytes: whole.len() as u64 }))
}

fn broken(path: &Path, what: &str) -> io::Error {
    io::Error::other(format!("{}: {what}", path.display()))
}

struct Fields<'a>(&'a [u8]);

impl<'a> Fields<'a> {
    fn take(&mut self, count: usize) -> Result<&'a [u8], String> {
        let (taken, rest) = self.0.split_at_checked(count).ok_or("it ends in the middle of a change")?;
        self.0 = rest;
        Ok(taken)
    }

    fn number(&mut self, bytes: usize) -> Result<usize, String> {
        Ok(self.take(bytes)?.iter().rev().fold(0, |number, byte| number << 8 | usize::from(*byte)))
    }

    /// A key that was written, with its value; None for one that was removed.
    fn change(&mut self) -> Result<Option<(String, &'a [u8])>, String> {
        let written = self.take(1)?[0] == 1;
        let length = self.number(2)?;
        let key = String::from_utf8_lossy(self.take(length)?).into_owned();
        if !written {
            return Ok(None);
        }
        let _version = self.take(8)?;
        let length = self.number(4)?;
        Ok(Some((key, self.take(length)?)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_unfinished_frame_is_waited_for_and_what_is_no_frame_is_said() {
        let mut bytes = b"FLF1\x04\0\0\0\x05\0\0\0\x01\0\0\0".to_vec();
        bytes.resize(HEADER_BYTES as usize, 0);
        bytes.extend_from_slice(b"hello");
        bytes.extend_from_slice(&[7; SEAL_BYTES as usize]);
        for end in 0..bytes.len() {
            assert!(frame(&bytes[..end]).is_none(), "{end}");
        }
        let whole = frame(&bytes).unwrap().unwrap();
        assert_eq!((whole.kind, whole.payload, whole.bytes), (COMMITS, &b"hello"[..], bytes.len() as u64));
        bytes[0] = b'x';
        assert!(frame(&bytes).unwrap().is_err());
    }

    #[test]
    fn changes_are_read_one_after_the_other() {
        let mut payload = Vec::new();
        for (key, value) in [("ledger/000000000004", Some("v")), ("findings/x", None)] {
            payload.push(u8::from(value.is_some()));
            payload.extend_from_slice(&(key.len() as u16).to_le_bytes());
            payload.extend_from_slice(key.as_bytes());
            if let Some(value) = value {
                payload.extend_from_slice(&9u64.to_le_bytes());
                payload.extend_from_slice(&(value.len() as u32).to_le_bytes());
                payload.extend_from_slice(value.as_bytes());
            }
        }
        let mut fields = Fields(&payload);
        assert_eq!(fields.change(), Ok(Some(("ledger/000000000004".to_owned(), &b"v"[..]))));
        assert_eq!(fields.change(), Ok(None));
        assert!(fields.change().is_err());
    }
}
