//! What can go wrong in a store. Every error names the key, file or directory it is about and says what to do next.

use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use super::{Expect, Version};

/// Why a store refused or failed. Cheap to clone, since one failed write to disk may answer many waiting commits.
#[derive(Debug, Clone, thiserror::Error)]
pub enum Error {
    /// Somebody else wrote first. Read again and decide again.
    #[error("{key}: expected {}, found {}: it was written in between; read it again", expected_words(.expected), found_words(.found))]
    Conflict {
        /// The first key of the batch whose expectation did not hold.
        key: String,
        /// What the batch expected.
        expected: Expect,
        /// The version that is there.
        found: Option<Version>,
    },
    /// The batch can never be accepted: a fault of the program that made it.
    #[error("not a valid write: {what}")]
    Invalid {
        /// What is wrong with it.
        what: String,
    },
    /// A key, value or batch is above its limit.
    #[error("{what} has {size}, the limit is {limit}; large things belong in the artifact store")]
    TooLarge {
        /// The thing that is too large.
        what: String,
        /// Its size.
        size: usize,
        /// The limit, in the same unit.
        limit: usize,
    },
    /// What is on disk is not what was written there. Nothing was changed.
    #[error("the store is damaged: {what} ({place}); {way_out}")]
    Corrupt {
        /// What is wrong.
        what: String,
        /// The file, with the offset in bytes where there is one.
        place: String,
        /// What an operator can do now.
        way_out: String,
    },
    /// There is no store and none was to be made.
    #[error("there is no store in {}; if this is a new controller, initialise it; if not, check the path and whether its disk is mounted", dir.display())]
    Missing {
        /// The directory that was to hold it.
        dir: PathBuf,
    },
    /// Reading or writing failed. After a failed write the store accepts no more commits until it is opened again.
    #[error("{doing}: {source}")]
    Io {
        /// What was being done, with the path.
        doing: String,
        /// What the operating system said.
        #[source]
        source: Arc<io::Error>,
    },
    /// No room on the disk. Nothing was saved; reads work, and commits will again once there is room.
    #[error("the disk of {} is full: nothing was saved; make room and repeat", dir.display())]
    Full {
        /// The store's directory.
        dir: PathBuf,
    },
    /// Another process has the store open.
    #[error("{} is in use by another process; only one controller may have it open", dir.display())]
    Locked {
        /// The store's directory.
        dir: PathBuf,
    },
    /// Written by a newer program.
    #[error("{} has format {found}, this program knows up to {known}; use the newer program that wrote it", file.display())]
    NewerFormat {
        /// The file.
        file: PathBuf,
        /// The format it says it has.
        found: u8,
        /// The newest format that this program can read.
        known: u8,
    },
    /// The store stopped accepting commits earlier, after a failure to write.
    #[error("the store was closed after a failure ({reason}); restart the controller when the disk is well again")]
    Closed {
        /// The failure that closed it.
        reason: String,
    },
}

impl Error {
    /// An operation on a path that failed. A full disk is named as what it is.
    pub(super) fn io(doing: &str, path: &Path, source: io::Error) -> Error {
        if is_full(&source) {
            return Error::Full { dir: path.to_path_buf() };
        }
        Error::Io { doing: format!("{doing} {}", path.display()), source: Arc::new(source) }
    }
}

/// Whether an error says that there is no room: on the disk, or within the user's quota.
pub(super) fn is_full(error: &io::Error) -> bool {
    matches!(error.kind(), io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded)
}

fn expected_words(expect: &Expect) -> String {
    match expect {
        Expect::Anything => "anything".into(),
        Expect::Absent => "no such key".into(),
        Expect::Version(Version(version)) => format!("version {version}"),
    }
}

fn found_words(found: &Option<Version>) -> String {
    match found {
        None => "no such key".into(),
        Some(Version(version)) => format!("version {version}"),
    }
}
