//! What a migration prints: a file beside the service's own logs, begun anew each time, bounded while it runs, and its
//! last lines for the report. A file and not a pipe, so that a migration outlives its agent undisturbed.

use std::fs::{File, OpenOptions};
use std::io::{self, Read, Seek, SeekFrom, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

use crate::durable::FileError;

/// Bytes kept for the report; CodeDeploy's figure for its scripts.
pub(super) const TAIL: u64 = 2_048;
/// At this size, in bytes, all but the end is dropped: a migration that prints without end must not fill the disk.
const LARGEST: u64 = 1 << 20;
/// Bytes left then, for whoever looks into the file.
const LEFT: u64 = 64 << 10;

/// The output of one migration.
#[derive(Debug)]
pub(super) struct Output {
    path: PathBuf,
}

impl Output {
    /// The output in the agent's own directory below a service's root.
    pub(super) fn new(directory: PathBuf) -> Self {
        Self { path: directory.join("migration.log") }
    }

    pub(super) fn path(&self) -> &Path {
        &self.path
    }

    /// Empties it.
    ///
    /// # Errors
    /// The file and the system's answer.
    pub(super) fn begin(&self) -> Result<(), FileError> {
        match std::fs::remove_file(&self.path) {
            Err(cause) if cause.kind() != io::ErrorKind::NotFound => Err(FileError::at("remove", &self.path)(cause)),
            Ok(()) | Err(_) => {
                let made = OpenOptions::new().write(true).create_new(true).mode(0o640).open(&self.path);
                made.map(drop).map_err(FileError::at("make", &self.path))
            }
        }
    }

    /// Drops all but the end if it has grown too large. What is printed in that very moment may be lost.
    pub(super) fn bound(&self) {
        let cut = || -> io::Result<()> {
            if std::fs::metadata(&self.path)?.len() <= LARGEST {
                return Ok(());
            }
            let end = self.end(LEFT)?;
            let mut file = OpenOptions::new().append(true).open(&self.path)?;
            file.set_len(0)?;
            file.write_all(&end)
        };
        if let Err(cause) = cut() {
            tracing::warn!("{}", FileError::at("bound", &self.path)(cause));
        }
    }

    /// The last [`TAIL`] bytes as text, without control characters; None if nothing was printed.
    pub(super) fn tail(&self) -> Option<String> {
        let bytes = self.end(TAIL).ok()?;
        let text = String::from_utf8_lossy(&bytes);
        let clean = |c: char| if c.is_control() && c != '\n' && c != '\t' { '\u{fffd}' } else { c };
        let text: String = text.trim_end().chars().map(clean).collect();
        (!text.is_empty()).then_some(text)
    }

    fn end(&self, most: u64) -> io::Result<Vec<u8>> {
        let mut file = File::open(&self.path)?;
        let length = file.metadata()?.len();
        file.seek(SeekFrom::Start(length.saturating_sub(most)))?;
        let mut bytes = Vec::new();
        file.take(most).read_to_end(&mut bytes)?;
        Ok(bytes)
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn what_is_printed_is_bounded_and_its_end_is_kept() {
        let dir = tempfile::tempdir().unwrap();
        let output = Output::new(dir.path().to_owned());
        output.begin().unwrap();
        assert_eq!(output.tail(), None);
        let mut migration = OpenOptions::new().append(true).open(output.path()).unwrap();
        migration.write_all(&vec![b'x'; 2 << 20]).unwrap();
        migration.write_all(b"the \x1b[31mend\n").unwrap();
        output.bound();
        assert_eq!(std::fs::metadata(output.path()).unwrap().len(), LEFT);
        let tail = output.tail().unwrap();
        assert!(tail.len() as u64 <= TAIL + 2 && tail.ends_with("xthe \u{fffd}[31mend"), "{}", tail.len());
        migration.write_all(b"after\n").unwrap();
        assert!(output.tail().unwrap().ends_with("after"));
        output.begin().unwrap();
        assert_eq!(output.tail(), None);
    }
}
