//! Where the agent keeps what it must not forget, and the lock that makes it the only agent there.
//! What the files say is left to `orders`, `record`, `journal` and `join`.

use std::fs::{File, OpenOptions, TryLockError};
use std::path::{Path, PathBuf};
use std::time::Duration;

use fleet::{Digest, ServiceName};

use crate::durable::{self, FileError};

/// The state directory of one agent.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Layout {
    root: PathBuf,
}

impl Layout {
    /// The layout below `root`.
    pub fn new(root: impl Into<PathBuf>) -> Self {
        Self { root: root.into() }
    }

    /// Makes the directories, private to the agent.
    ///
    /// # Errors
    /// The directory that could not be made.
    pub fn make(&self) -> Result<(), FileError> {
        for directory in [
            self.root.clone(),
            self.identity(),
            self.orders(),
            self.directory("journal"),
            self.directory("services"),
            self.migrations(),
            self.bundles(),
        ] {
            durable::make_directory(&directory, 0o700)?;
        }
        Ok(())
    }

    /// The state directory itself.
    pub fn root(&self) -> &Path {
        &self.root
    }

    /// The node's key and certificates.
    pub fn identity(&self) -> PathBuf {
        self.directory("identity")
    }

    /// How many sessions this identity has begun.
    pub fn session(&self) -> PathBuf {
        self.directory("session.json")
    }

    /// One order per service.
    pub fn orders(&self) -> PathBuf {
        self.directory("orders")
    }

    /// What has been begun and not settled, per service.
    pub fn journal(&self, service: &ServiceName) -> PathBuf {
        self.directory("journal").join(format!("{service}.jsonl"))
    }

    /// What is held and runs, per service.
    pub fn record(&self, service: &ServiceName) -> PathBuf {
        self.directory("services").join(format!("{service}.json"))
    }

    /// What was run once, one file per service.
    pub fn migrations(&self) -> PathBuf {
        self.directory("migrations")
    }

    /// Fetched bundles, whole and partial.
    pub fn bundles(&self) -> PathBuf {
        self.directory("bundles")
    }

    /// A bundle that arrived whole and was verified.
    pub fn bundle(&self, digest: &Digest) -> PathBuf {
        self.bundles().join(format!("{}.bundle", digest.hex()))
    }

    /// A bundle that is arriving.
    pub fn partial(&self, digest: &Digest) -> PathBuf {
        self.bundles().join(format!("{}.part", digest.hex()))
    }

    fn directory(&self, name: &str) -> PathBuf {
        self.root.join(name)
    }
}

/// Whether an agent works on a state directory.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Presence {
    /// It does.
    Running,
    /// It does not.
    NotRunning,
}

/// The right to be the agent of a state directory, until dropped. The kernel takes it back when the process dies.
#[derive(Debug)]
pub struct Lock {
    _file: File,
}

/// Why the lock could not be had.
#[derive(Debug, thiserror::Error)]
pub enum LockError {
    /// Another agent has it.
    #[error("another fleet-agent works on {}: stop it first, or give this one a state_dir of its own", .0.display())]
    Taken(PathBuf),
    /// The file could not be opened or locked.
    #[error(transparent)]
    File(#[from] FileError),
}

/// How often a taken lock is tried again: `fleet-agent status` holds it for a moment while it looks.
const LOCK_TRIES: u32 = 5;
const LOCK_PAUSE: Duration = Duration::from_millis(50);

impl Lock {
    /// Takes the lock.
    ///
    /// # Errors
    /// That another agent has it, or the system's answer.
    pub fn take(layout: &Layout) -> Result<Self, LockError> {
        let path = layout.directory("lock");
        let file = OpenOptions::new()
            .read(true)
            .write(true)
            .create(true)
            .truncate(false)
            .open(&path)
            .map_err(FileError::at("open", &path))?;
        for _ in 0..LOCK_TRIES {
            match file.try_lock() {
                Ok(()) => return Ok(Self { _file: file }),
                Err(TryLockError::WouldBlock) => std::thread::sleep(LOCK_PAUSE),
                Err(TryLockError::Error(cause)) => return Err(FileError::at("lock", &path)(cause).into()),
            }
        }
        Err(LockError::Taken(layout.root.clone()))
    }

    /// Whether somebody has the lock.
    ///
    /// # Errors
    /// The system's answer, if that cannot be told.
    pub fn look(layout: &Layout) -> Result<Presence, FileError> {
        let path = layout.directory("lock");
        let file = match File::open(&path) {
            Ok(file) => file,
            Err(cause) if cause.kind() == std::io::ErrorKind::NotFound => return Ok(Presence::NotRunning),
            Err(cause) => return Err(FileError::at("open", &path)(cause)),
        };
        match file.try_lock_shared() {
            Ok(()) => Ok(Presence::NotRunning),
            Err(TryLockError::WouldBlock) => Ok(Presence::Running),
            Err(TryLockError::Error(cause)) => Err(FileError::at("lock", &path)(cause)),
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn there_is_one_agent_per_state_directory() {
        let dir = tempfile::tempdir().unwrap();
        let layout = Layout::new(dir.path());
        layout.make().unwrap();
        assert_eq!(Lock::look(&layout).unwrap(), Presence::NotRunning);
        let first = Lock::take(&layout).unwrap();
        assert_eq!(Lock::look(&layout).unwrap(), Presence::Running);
        let error = Lock::take(&layout).unwrap_err();
        assert!(matches!(error, LockError::Taken(_)), "{error}");
        drop(first);
        Lock::take(&layout).unwrap();
    }
}
