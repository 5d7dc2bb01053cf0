//! Keeps the servers' states over a restart of the balancer: without it, a node that is being drained would get requests
//! again. JSON, written beside and moved over, so that it is the old or the new one and never half of it.

use std::io::{ErrorKind, Write as _};
use std::path::{Path, PathBuf};

use super::pool::States;

/// Longest file that is read: far above the largest configuration.
const MAX_BYTES: u64 = 4 * 1024 * 1024;

/// Why the states could not be kept.
#[derive(Debug, thiserror::Error)]
pub enum StateFileError {
    /// The file is there but cannot be read.
    #[error("cannot read the balancer's states {path}: {source}")]
    Unreadable {
        /// The file.
        path: PathBuf,
        /// The system's answer.
        source: std::io::Error,
    },
    /// The file is not what this program writes.
    #[error("the balancer's states {path} are damaged ({why}); remove the file to start with every server ready")]
    Damaged {
        /// The file.
        path: PathBuf,
        /// What is wrong.
        why: String,
    },
    /// The file cannot be written.
    #[error("cannot save the balancer's states to {path}: {source}")]
    Unwritable {
        /// The file.
        path: PathBuf,
        /// The system's answer.
        source: std::io::Error,
    },
}

/// Reads the states; a file that is not there means that nothing was saved yet.
pub(super) async fn load(path: &Path) -> Result<States, StateFileError> {
    let unreadable = |source| StateFileError::Unreadable { path: path.to_owned(), source };
    let damaged = |why| StateFileError::Damaged { path: path.to_owned(), why };
    match tokio::fs::metadata(path).await {
        Ok(file) if file.len() > MAX_BYTES => return Err(damaged(format!("more than {MAX_BYTES} bytes"))),
        Ok(_) => {}
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok(States::new()),
        Err(error) => return Err(unreadable(error)),
    }
    let bytes = tokio::fs::read(path).await.map_err(unreadable)?;
    serde_json::from_slice(&bytes).map_err(|error| damaged(error.to_string()))
}

/// Replaces the file. When this returns, the states survive a crash of this process and of the machine.
pub(super) async fn save(path: &Path, states: States) -> Result<(), StateFileError> {
    let target = path.to_owned();
    let written = tokio::task::spawn_blocking(move || write(&target, &states)).await;
    written
        .unwrap_or_else(|error| Err(std::io::Error::other(error)))
        .map_err(|source| StateFileError::Unwritable { path: path.to_owned(), source })
}

fn write(path: &Path, states: &States) -> std::io::Result<()> {
    let folder = path.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."));
    let mut file = tempfile::NamedTempFile::new_in(folder)?;
    serde_json::to_writer_pretty(&mut file, states)?;
    file.write_all(b"\n")?;
    file.as_file().sync_all()?;
    file.persist(path)?;
    std::fs::File::open(folder)?.sync_all()
}
