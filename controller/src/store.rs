//! The store: small values under short keys, kept so that what was acknowledged survives `kill -9` and a power loss.
//!
//! This file is the contract: the trait, its values and its limits. What a key means and how a domain type becomes
//! bytes is left to `records.rs`; big things (artifacts, logs of services) do not belong here at all.
//!
//! Three backends have one meaning, held together by one conformance suite: [`Memory`] is the reference, [`open_sled`]
//! and [`open_redb`] keep it on disk. On disk the *commit log* (`log.rs`) is the truth and the database is an index
//! over it that can be rebuilt at any time; `reconcile.rs` holds the rules for what is done when the two disagree.

use std::path::Path;
use std::sync::Arc;

mod batch;
mod durable;
mod error;
mod frame;
mod index;
mod log;
mod memory;
mod reconcile;
mod redb;
mod replay;
mod sled;
#[cfg(test)]
mod tests;
mod watch;

pub use self::error::Error;
pub use self::memory::Memory;
pub use self::watch::{Hint, Watch};

/// The longest key, in bytes. A key is a path of a few names (each at most 63 bytes by the grammar of names), and
/// every key is held in memory while a store is opened.
pub const MAX_KEY_BYTES: usize = 512;

/// The largest value, in bytes. Above this sled moves a value to a file of its own with another durability story.
pub const MAX_VALUE_BYTES: usize = 64 * 1024;

/// The most writes in one batch: an order for each of some thousands of nodes fits, a runaway loop does not.
pub const MAX_BATCH_WRITES: usize = 4096;

/// The most bytes of keys and values in one batch. A batch is one indivisible record of the log and is held in
/// memory several times on its way.
pub const MAX_BATCH_BYTES: usize = 4 * 1024 * 1024;

/// The revision of the store at which a key was last written. Grows with every batch; 0 is "before everything".
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Version(pub u64);

/// A value and the version it was written at.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Entry {
    /// The bytes as they were written.
    pub value: Vec<u8>,
    /// The revision of the batch that wrote them.
    pub version: Version,
}

/// What must be true of a key, before the batch, for the batch to happen.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Expect {
    /// Nothing is expected.
    Anything,
    /// The key does not exist.
    Absent,
    /// The key exists and was last written at this version.
    Version(Version),
}

/// One write of a batch.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Write {
    /// Gives `key` a value.
    Put {
        /// At most [`MAX_KEY_BYTES`] of printable ASCII.
        key: String,
        /// At most [`MAX_VALUE_BYTES`].
        value: Vec<u8>,
        /// What must hold first.
        expect: Expect,
    },
    /// Removes `key`; that it is already gone is no error unless `expect` says so.
    Delete {
        /// At most [`MAX_KEY_BYTES`] of printable ASCII.
        key: String,
        /// What must hold first.
        expect: Expect,
    },
}

/// A key that was written (`entry` is there) or removed (`entry` is `None`).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Change {
    /// The key.
    pub key: String,
    /// What it holds now.
    pub entry: Option<Entry>,
}

/// Whether opening may create a store.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum OpenMode {
    /// A new store is made if the directory holds none. Never done in the place of a store that is damaged.
    Create,
    /// There must be one: finding nothing is [`Error::Missing`].
    Existing,
}

/// What opening had to do, for the log, for `status` and for tests.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Recovery {
    /// Bytes of a record that was being written when the machine or the process stopped, cut from the log's end.
    pub torn_bytes: u64,
    /// What became of the database.
    pub index: IndexFate,
}

/// What became of the database when the store was opened.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub enum IndexFate {
    /// The store is new, or has no database.
    #[default]
    Fresh,
    /// It held exactly what the log says.
    Kept,
    /// It was behind the log, as after a crash between the two, and was brought up to it.
    CaughtUp,
    /// It could not be used and was made again from the log.
    Rebuilt {
        /// What was wrong with it.
        why: String,
        /// Where the old one was moved, if there was one.
        aside: Option<std::path::PathBuf>,
    },
}

/// Linearizable small values.
#[tonic::async_trait]
pub trait Store: Send + Sync + 'static {
    /// What `key` holds. A key that could not be written (too long, not ASCII) holds nothing.
    async fn get(&self, key: &str) -> Result<Option<Entry>, Error>;

    /// All entries whose key begins with `prefix`, sorted by key, as of one moment.
    async fn list(&self, prefix: &str) -> Result<Vec<(String, Entry)>, Error>;

    /// All of `batch` or nothing, in one revision, which is returned; on disk when it returns. All expectations are
    /// about the state before the batch; a key may be named once. An empty batch saves nothing and returns the
    /// current revision.
    ///
    /// # Errors
    /// After `Conflict`, `Invalid`, `TooLarge` and `Full` nothing was saved and the store goes on. After `Io` and
    /// `Closed`, and when the future is dropped before it is done, it is *not known* whether the batch was saved:
    /// read again, after opening again if need be.
    async fn commit(&self, batch: Vec<Write>) -> Result<Version, Error>;

    /// Hints that keys under `prefix` changed, from now on. To lose nothing: first watch, then list.
    fn watch(&self, prefix: &str) -> Watch;

    /// What had to be done when this store was opened.
    fn recovery(&self) -> Recovery {
        Recovery::default()
    }
}

/// Opens the store in `dir` with sled as its index.
///
/// # Errors
/// `Locked` while another process has it, `Missing` if there is none and `mode` does not allow to make one,
/// `Corrupt` with the way out if the log is damaged or missing, `NewerFormat`, `Full`, `Io`.
pub fn open_sled(dir: &Path, mode: OpenMode) -> Result<Arc<dyn Store>, Error> {
    Ok(Arc::new(durable::Durable::<sled::Sled>::open(dir, mode)?))
}

/// Opens the store in `dir` with redb as its index. Otherwise as [`open_sled`]; the same directory may be opened with
/// one and later with the other, since the log is the truth for both.
///
/// # Errors
/// As [`open_sled`].
pub fn open_redb(dir: &Path, mode: OpenMode) -> Result<Arc<dyn Store>, Error> {
    Ok(Arc::new(durable::Durable::<redb::Redb>::open(dir, mode)?))
}
