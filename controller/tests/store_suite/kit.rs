//! What the tests of the suite share: the backends on disk by name, and short ways to say a write.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use fleet_controller::store::{Entry, Error, Expect, IndexFate, OpenMode, Store, Version, Write, open_redb, open_sled};

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Backend {
    Sled,
    Redb,
}

impl Backend {
    pub const ALL: [Backend; 2] = [Backend::Sled, Backend::Redb];

    pub fn open(self, dir: &Path, mode: OpenMode) -> Result<Arc<dyn Store>, Error> {
        match self {
            Backend::Sled => open_sled(dir, mode),
            Backend::Redb => open_redb(dir, mode),
        }
    }

    pub fn name(self) -> &'static str {
        match self {
            Backend::Sled => "sled",
            Backend::Redb => "redb",
        }
    }

    /// The directory of the database.
    pub fn home(self, dir: &Path) -> PathBuf {
        dir.join(match self {
            Backend::Sled => "db",
            Backend::Redb => "redb",
        })
    }

    /// The file with the database's data.
    pub fn file(self, dir: &Path) -> PathBuf {
        self.home(dir).join(match self {
            Backend::Sled => "db",
            Backend::Redb => "index.redb",
        })
    }
}

pub fn put(key: &str, value: impl Into<Vec<u8>>) -> Write {
    put_if(key, value, Expect::Anything)
}

pub fn put_if(key: &str, value: impl Into<Vec<u8>>, expect: Expect) -> Write {
    Write::Put { key: key.into(), value: value.into(), expect }
}

pub fn delete(key: &str) -> Write {
    delete_if(key, Expect::Anything)
}

pub fn delete_if(key: &str, expect: Expect) -> Write {
    Write::Delete { key: key.into(), expect }
}

pub fn entry(value: impl Into<Vec<u8>>, version: Version) -> Entry {
    Entry { value: value.into(), version }
}

/// Waits for what a store answers.
pub fn wait<T>(answer: impl Future<Output = T>) -> T {
    tokio::runtime::Builder::new_current_thread().build().unwrap().block_on(answer)
}

pub fn contents(store: &dyn Store) -> Vec<(String, Entry)> {
    wait(store.list("")).unwrap()
}

pub fn is_rebuilt(store: &dyn Store) -> bool {
    matches!(store.recovery().index, IndexFate::Rebuilt { .. })
}

/// The error of an opening that must fail.
pub fn refusal(opened: Result<Arc<dyn Store>, Error>) -> Error {
    match opened {
        Ok(_) => panic!("it opened"),
        Err(error) => error,
    }
}

/// Copies a directory of files and directories.
pub fn copy(from: &Path, to: &Path) {
    std::fs::create_dir_all(to).unwrap();
    for file in std::fs::read_dir(from).unwrap() {
        let file = file.unwrap();
        let target = to.join(file.file_name());
        if file.file_type().unwrap().is_dir() {
            copy(&file.path(), &target);
        } else {
            std::fs::copy(file.path(), target).unwrap();
        }
    }
}
