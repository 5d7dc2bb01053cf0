//! What the durable store asks of a database, and how a value lies in one. The database is an index over the log: it
//! answers reads, and is never the only place that knows something.

use std::collections::BTreeMap;
use std::path::Path;

use sha2::{Digest, Sha256};

use super::{Change, Entry, Error, Version};

/// The format of values and marks in a database. Another one is no error: the database is made again from the log.
const FORMAT: u8 = 1;
const CHECK_BYTES: usize = 8;
const CELL_BYTES: usize = 1 + 8 + CHECK_BYTES;
const MARK_BYTES: usize = 1 + 16 + 8 + 8 + 8 + CHECK_BYTES;

/// Up to where a database has followed which log.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Mark {
    pub(super) id: [u8; 16],
    pub(super) created_ms: u64,
    pub(super) segment: u64,
    pub(super) revision: u64,
}

/// Why a database did not do what was asked.
#[derive(Debug)]
pub(super) enum Trouble {
    /// What it holds cannot be used. It can be made again from the log.
    Damaged(String),
    /// The operating system refused, or the disk is full: making it again would fail in the same way.
    Failed(std::io::Error),
}

impl Trouble {
    /// As an error of an operation on a store that is open.
    pub(super) fn into_error(self, doing: &str, place: &Path) -> Error {
        match self {
            Trouble::Damaged(what) => Error::Corrupt {
                what,
                place: place.display().to_string(),
                way_out: "restart the controller: the database is then made again from the log".into(),
            },
            Trouble::Failed(error) => Error::io(doing, place, error),
        }
    }
}

/// A database under the log.
pub(super) trait Index: Send + Sync + Sized + 'static {
    /// The directory, within the store's, that is the database's own.
    const HOME: &'static str;

    /// Opens the database in `home`, making an empty one if there is none. A panic means that it is damaged.
    fn open(home: &Path) -> Result<Self, Trouble>;
    /// The mark of the last `apply`, or nothing if there was none.
    fn mark(&self) -> Result<Option<Mark>, Trouble>;
    fn get(&self, key: &str) -> Result<Option<Entry>, Trouble>;
    /// Sorted by key, as of one moment.
    fn list(&self, prefix: &str) -> Result<Vec<(String, Entry)>, Trouble>;
    /// All or nothing, and on disk when it returns. Without a mark the old one stays.
    fn apply(&self, changes: &BTreeMap<&str, &Change>, mark: Option<&Mark>) -> Result<(), Trouble>;
}

/// A value as it lies in a database: format, version, check, bytes. The check covers the key, so that a value that
/// turns up under another key is found as well.
pub(super) fn cell(key: &str, entry: &Entry) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(CELL_BYTES + entry.value.len());
    bytes.push(FORMAT);
    bytes.extend_from_slice(&entry.version.0.to_le_bytes());
    bytes.extend_from_slice(&cell_check(key, entry.version, &entry.value));
    bytes.extend_from_slice(&entry.value);
    bytes
}

pub(super) fn read_cell(key: &str, bytes: &[u8]) -> Result<Entry, Trouble> {
    let torn = || Trouble::Damaged(format!("the value of {key} is not as it was written"));
    let (head, value) = bytes.split_at_checked(CELL_BYTES).ok_or_else(torn)?;
    let version = Version(u64::from_le_bytes(head[1..9].try_into().map_err(|_| torn())?));
    if head[0] != FORMAT || head[9..] != cell_check(key, version, value) {
        return Err(torn());
    }
    Ok(Entry { value: value.to_vec(), version })
}

fn cell_check(key: &str, version: Version, value: &[u8]) -> [u8; CHECK_BYTES] {
    let length = (key.len() as u32).to_le_bytes();
    let digest = Sha256::new()
        .chain_update([FORMAT])
        .chain_update(length)
        .chain_update(key)
        .chain_update(version.0.to_le_bytes())
        .chain_update(value)
        .finalize();
    first_bytes(&digest)
}

pub(super) fn put_mark(mark: &Mark) -> Vec<u8> {
    let mut bytes = vec![FORMAT];
    bytes.extend_from_slice(&mark.id);
    for number in [mark.created_ms, mark.segment, mark.revision] {
        bytes.extend_from_slice(&number.to_le_bytes());
    }
    let check: [u8; CHECK_BYTES] = first_bytes(&Sha256::digest(&bytes));
    bytes.extend_from_slice(&check);
    bytes
}

pub(super) fn read_mark(bytes: &[u8]) -> Result<Mark, Trouble> {
    let torn = || Trouble::Damaged("its mark is not as it was written".into());
    let bytes: &[u8; MARK_BYTES] = bytes.try_into().map_err(|_| torn())?;
    let (said, check) = bytes.split_at(MARK_BYTES - CHECK_BYTES);
    if said[0] != FORMAT || Sha256::digest(said)[..CHECK_BYTES] != *check {
        return Err(torn());
    }
    let number = |at: usize| said[at..at + 8].try_into().map(u64::from_le_bytes).map_err(|_| torn());
    Ok(Mark {
        id: said[1..17].try_into().map_err(|_| torn())?,
        created_ms: number(17)?,
        segment: number(25)?,
        revision: number(33)?,
    })
}

fn first_bytes(digest: &[u8]) -> [u8; CHECK_BYTES] {
    let mut first = [0; CHECK_BYTES];
    first.copy_from_slice(&digest[..CHECK_BYTES]);
    first
}
