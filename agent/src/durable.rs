//! Files that are there after a power loss: a temporary file beside the target, fsync, rename, fsync of the
//! directory. What the files mean is left to those who write them.

use std::fs::{File, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use serde::Serialize;
use serde::de::DeserializeOwned;

/// Why one of the agent's own files could not be read or written.
#[derive(Debug, thiserror::Error)]
#[error("cannot {what} {}: {cause}", path.display())]
pub struct FileError {
    /// What was being done, as a verb.
    pub what: &'static str,
    /// The file.
    pub path: PathBuf,
    /// The system's answer, or what is wrong with the content.
    pub cause: io::Error,
}

impl FileError {
    /// Says what was being done with which file.
    pub fn at(what: &'static str, path: &Path) -> impl FnOnce(io::Error) -> Self {
        let path = path.to_owned();
        move |cause| Self { what, path, cause }
    }
}

/// Replaces `path` with `bytes`, readable by the agent alone; afterwards it survives a power loss.
///
/// # Errors
/// The file and the system's answer; the old content is then still there, or, if only the last sync failed, the new one.
pub fn write(path: &Path, bytes: &[u8]) -> Result<(), FileError> {
    let (directory, temporary) = beside(path)?;
    let save = || -> io::Result<()> {
        let mut file = OpenOptions::new().write(true).create(true).truncate(true).mode(0o600).open(&temporary)?;
        file.write_all(bytes)?;
        file.sync_all()?;
        std::fs::rename(&temporary, path)?;
        sync_directory(&directory)
    };
    save().map_err(|cause| {
        // A leftover would be overwritten by the next attempt; on a full disk its space is wanted now.
        let _ = std::fs::remove_file(&temporary);
        FileError { what: "write", path: path.to_owned(), cause }
    })
}

/// Replaces `path` with `value` as JSON.
///
/// # Errors
/// As [`write`].
pub fn write_json<T: Serialize>(path: &Path, value: &T) -> Result<(), FileError> {
    let mut bytes =
        serde_json::to_vec_pretty(value).map_err(io::Error::other).map_err(FileError::at("encode", path))?;
    bytes.push(b'\n');
    write(path, &bytes)
}

/// Reads JSON; None if the file does not exist. Anything else that is not a value is an error, never "empty".
///
/// # Errors
/// The file and what is wrong with it.
pub fn read_json<T: DeserializeOwned>(path: &Path) -> Result<Option<T>, FileError> {
    let bytes = match std::fs::read(path) {
        Ok(bytes) => bytes,
        Err(cause) if cause.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(cause) => return Err(FileError::at("read", path)(cause)),
    };
    serde_json::from_slice(&bytes).map(Some).map_err(io::Error::other).map_err(FileError::at("understand", path))
}

/// Removes a file, durably; one that is not there is removed already.
///
/// # Errors
/// The file and the system's answer.
pub fn remove(path: &Path) -> Result<(), FileError> {
    match std::fs::remove_file(path) {
        Ok(()) => {}
        Err(cause) if cause.kind() == io::ErrorKind::NotFound => return Ok(()),
        Err(cause) => return Err(FileError::at("remove", path)(cause)),
    }
    let directory = path.parent().unwrap_or(Path::new("."));
    sync_directory(directory).map_err(FileError::at("sync", directory))
}

/// Makes a directory and everything above it, durably, with these permission bits.
///
/// # Errors
/// The directory and the system's answer.
pub fn make_directory(path: &Path, mode: u32) -> Result<(), FileError> {
    if path.is_dir() {
        return Ok(());
    }
    let make = || -> io::Result<()> {
        std::fs::DirBuilder::new().recursive(true).mode(mode).create(path)?;
        path.parent().map_or(Ok(()), sync_directory)
    };
    make().map_err(FileError::at("make directory", path))
}

/// Makes the names in a directory survive a power loss.
///
/// # Errors
/// The system's answer.
pub fn sync_directory(path: &Path) -> io::Result<()> {
    File::open(path)?.sync_all()
}

fn beside(path: &Path) -> Result<(PathBuf, PathBuf), FileError> {
    let unusable = || FileError::at("write", path)(io::Error::other("it has no file name"));
    let name = path.file_name().and_then(|name| name.to_str()).ok_or_else(unusable)?;
    let directory = path.parent().filter(|parent| !parent.as_os_str().is_empty()).unwrap_or(Path::new("."));
    Ok((directory.to_owned(), directory.join(format!(".{name}.tmp"))))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use std::os::unix::fs::PermissionsExt;

    #[test]
    fn what_was_written_reads_back_and_is_private() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("a.json");
        assert!(read_json::<Vec<u32>>(&path).unwrap().is_none());
        write_json(&path, &vec![1, 2]).unwrap();
        write_json(&path, &vec![3]).unwrap();
        assert_eq!(read_json::<Vec<u32>>(&path).unwrap().unwrap(), [3]);
        assert_eq!(std::fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
        assert_eq!(std::fs::read_dir(dir.path()).unwrap().count(), 1, "no temporary file is left");
    }

    #[test]
    fn a_broken_file_is_an_error_and_never_empty() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("a.json");
        for broken in ["", "{", "[1,", "nonsense"] {
            std::fs::write(&path, broken).unwrap();
            let error = read_json::<Vec<u32>>(&path).unwrap_err().to_string();
            assert!(error.contains("a.json"), "{error}");
        }
    }

    #[test]
    fn removing_twice_is_removing() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("a");
        write(&path, b"x").unwrap();
        remove(&path).unwrap();
        remove(&path).unwrap();
        assert!(!path.exists());
    }
}
