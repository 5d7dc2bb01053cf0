//! Keys and certificates on disk: written whole or not at all, keys readable by their owner only.
//!
//! Everything here blocks and is small; async callers wrap it in `spawn_blocking` if they care.

use std::fs::{self, DirBuilder, File, OpenOptions};
use std::io::{self, Read, Write};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};

use crate::csr::check_key_matches;
use crate::error::Error;
use crate::provider::{hex, random};

/// The largest key or certificate file read, in bytes: a bundle of a hundred certificates fits.
const LARGEST_FILE: u64 = 256 * 1024;

/// Whether an existing file may be replaced.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Existing {
    /// Replace it in one step.
    Replace,
    /// Fail with [`FileError::Exists`] and leave it alone.
    Keep,
}

/// Who may read a file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Readers {
    /// Only the owner (mode 0600): private keys and tokens.
    Owner,
    /// Everyone (mode 0644): certificates.
    Everyone,
}

impl Readers {
    fn mode(self) -> u32 {
        match self {
            Readers::Owner => 0o600,
            Readers::Everyone => 0o644,
        }
    }
}

/// A file that could not be read or written.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum FileError {
    /// The operating system refused.
    #[error("cannot {what} {}", .path.display())]
    Io {
        /// What was being done.
        what: &'static str,
        /// To which file.
        path: PathBuf,
        /// Why it failed.
        #[source]
        source: io::Error,
    },
    /// It exists already and is not to be replaced.
    #[error("{} exists already and is not overwritten", .path.display())]
    Exists {
        /// Which file.
        path: PathBuf,
    },
    /// A private file which others may read is as good as published.
    #[error(
        "{} has mode {mode:04o}: others can read this private key; run `chmod 600 {}`, and replace the key if somebody may have read it",
        .path.display(), .path.display()
    )]
    ReadableByOthers {
        /// Which file.
        path: PathBuf,
        /// Its permission bits.
        mode: u32,
    },
    /// It is no regular file, too large, or not text.
    #[error("{} is not usable: {reason}", .path.display())]
    Unusable {
        /// Which file.
        path: PathBuf,
        /// What is wrong.
        reason: &'static str,
    },
}

/// The identity of one member of the fleet, as text.
#[derive(Clone, PartialEq, Eq)]
pub struct IdentityPems {
    /// The authority's certificate.
    pub ca_pem: String,
    /// The member's certificate.
    pub cert_pem: String,
    /// The member's private key.
    pub key_pem: String,
}

impl std::fmt::Debug for IdentityPems {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("IdentityPems")
            .field("ca_pem", &self.ca_pem)
            .field("cert_pem", &self.cert_pem)
            .field("key_pem", &"<hidden>")
            .finish()
    }
}

/// Where a member keeps its identity: `ca.pem`, `cert.pem` and `key.pem` in one directory.
#[derive(Debug, Clone)]
pub struct IdentityFiles {
    dir: PathBuf,
}

impl IdentityFiles {
    /// The identity kept in `dir`. Nothing is touched yet.
    pub fn in_dir(dir: impl Into<PathBuf>) -> Self {
        IdentityFiles { dir: dir.into() }
    }

    /// The authority's certificate.
    pub fn ca(&self) -> PathBuf {
        self.dir.join("ca.pem")
    }

    /// The member's certificate.
    pub fn cert(&self) -> PathBuf {
        self.dir.join("cert.pem")
    }

    /// The member's private key.
    pub fn key(&self) -> PathBuf {
        self.dir.join("key.pem")
    }

    /// Whether a complete identity is there. The certificate is written last, so it decides.
    pub fn is_complete(&self) -> bool {
        self.cert().exists()
    }

    /// Writes the identity durably: key, authority, and last the certificate, whose presence means "complete".
    ///
    /// A renewal should keep its key (`KeyAndCsr::for_key`): then only the certificate changes, in one step, and no
    /// crash can leave a certificate beside another one's key.
    pub fn save(&self, pems: &IdentityPems) -> Result<(), Error> {
        check_key_matches(&pems.cert_pem, &pems.key_pem)?;
        create_private_dir(&self.dir)?;
        for (path, text, readers) in [
            (self.key(), &pems.key_pem, Readers::Owner),
            (self.ca(), &pems.ca_pem, Readers::Everyone),
            (self.cert(), &pems.cert_pem, Readers::Everyone),
        ] {
            write(&path, text.as_bytes(), readers, Existing::Replace)?;
        }
        Ok(())
    }

    /// Reads the identity; refuses a key that others may read and a key that is not the certificate's.
    pub fn load(&self) -> Result<IdentityPems, Error> {
        let pems = IdentityPems {
            ca_pem: read(&self.ca())?,
            cert_pem: read(&self.cert())?,
            key_pem: read_private(&self.key())?,
        };
        check_key_matches(&pems.cert_pem, &pems.key_pem)?;
        Ok(pems)
    }
}

/// Creates a directory (and its parents) that only its owner may enter. One that exists keeps its mode.
pub fn create_private_dir(dir: &Path) -> Result<(), FileError> {
    DirBuilder::new().recursive(true).mode(0o700).create(dir).map_err(io_error("create the directory", dir))
}

/// Writes a file so that after a crash or power loss either the old or the whole new content is there: temporary file
/// in the same directory, fsync, rename, fsync of the directory.
pub fn write(path: &Path, content: &[u8], readers: Readers, existing: Existing) -> Result<(), Error> {
    let dir = match path.parent() {
        Some(parent) if !parent.as_os_str().is_empty() => parent,
        _ => Path::new("."),
    };
    let temporary = dir.join(format!(".new-{}", hex(&random::<8>()?)));
    let written = write_then_publish(&temporary, path, content, readers, existing);
    if written.is_err() || existing == Existing::Keep {
        // After a rename the temporary name is gone; after a link or a failure it must go.
        let _may_be_gone = fs::remove_file(&temporary);
    }
    written?;
    let dir_file = File::open(dir).map_err(io_error("open the directory", dir))?;
    dir_file.sync_all().map_err(io_error("sync the directory", dir))?;
    Ok(())
}

/// Reads a text file of limited size.
pub fn read(path: &Path) -> Result<String, FileError> {
    read_open(path, &open(path)?)
}

/// Reads a text file that must be readable by its owner only. The mode is taken from the open file, so that it cannot
/// be exchanged between the look and the read.
pub fn read_private(path: &Path) -> Result<String, FileError> {
    let file = open(path)?;
    let mode = file.metadata().map_err(io_error("inspect", path))?.permissions().mode() & 0o7777;
    if mode & 0o077 != 0 {
        return Err(FileError::ReadableByOthers { path: path.to_owned(), mode });
    }
    read_open(path, &file)
}

fn write_then_publish(
    temporary: &Path,
    path: &Path,
    content: &[u8],
    readers: Readers,
    existing: Existing,
) -> Result<(), FileError> {
    let mut file = OpenOptions::new()
        .write(true)
        .create_new(true)
        .mode(readers.mode())
        .open(temporary)
        .map_err(io_error("create", temporary))?;
    // The umask may have taken bits away from the mode given at creation.
    file.set_permissions(fs::Permissions::from_mode(readers.mode())).map_err(io_error("set the mode of", temporary))?;
    file.write_all(content).map_err(io_error("write", temporary))?;
    file.sync_all().map_err(io_error("sync", temporary))?;
    match existing {
        Existing::Replace => fs::rename(temporary, path).map_err(io_error("replace", path)),
        // A link, unlike a rename, fails if the name is taken: of two writers one wins and the other is told.
        Existing::Keep => fs::hard_link(temporary, path).map_err(|source| {
            if source.kind() == io::ErrorKind::AlreadyExists {
                FileError::Exists { path: path.to_owned() }
            } else {
                io_error("create", path)(source)
            }
        }),
    }
}

fn open(path: &Path) -> Result<File, FileError> {
    // A name that is a FIFO would block an ordinary open for ever, so look first.
    let metadata = fs::metadata(path).map_err(io_error("read", path))?;
    if !metadata.is_file() {
        return Err(FileError::Unusable { path: path.to_owned(), reason: "it is not a regular file" });
    }
    File::open(path).map_err(io_error("read", path))
}

fn read_open(path: &Path, file: &File) -> Result<String, FileError> {
    let unusable = |reason| FileError::Unusable { path: path.to_owned(), reason };
    let mut bytes = Vec::new();
    file.take(LARGEST_FILE + 1).read_to_end(&mut bytes).map_err(io_error("read", path))?;
    if bytes.len() as u64 > LARGEST_FILE {
        return Err(unusable("it is larger than 256 KiB"));
    }
    String::from_utf8(bytes).map_err(|_| unusable("it is not text"))
}

fn io_error(what: &'static str, path: &Path) -> impl FnOnce(io::Error) -> FileError {
    let path = path.to_owned();
    move |source| FileError::Io { what, path, source }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use std::time::{Duration, SystemTime};

    use super::*;
    use crate::{Authority, Identity, KeyAndCsr, Role};

    fn mode(path: &Path) -> u32 {
        fs::metadata(path).unwrap().permissions().mode() & 0o7777
    }

    #[test]
    fn written_with_the_right_mode_and_replaced_whole() {
        let dir = tempfile::tempdir().unwrap();
        let (key, cert) = (dir.path().join("key"), dir.path().join("cert"));
        write(&key, b"one", Readers::Owner, Existing::Replace).unwrap();
        write(&key, b"two", Readers::Owner, Existing::Replace).unwrap();
        write(&cert, b"three", Readers::Everyone, Existing::Keep).unwrap();
        assert_eq!((mode(&key), mode(&cert)), (0o600, 0o644));
        assert_eq!(read_private(&key).unwrap(), "two");
        assert_eq!(read(&cert).unwrap(), "three");
        assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 2, "no leftovers");
    }

    #[test]
    fn an_existing_file_is_kept() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("ca.key");
        write(&path, b"first", Readers::Owner, Existing::Keep).unwrap();
        let error = write(&path, b"second", Readers::Owner, Existing::Keep).unwrap_err();
        assert!(matches!(error, Error::File(FileError::Exists { .. })));
        assert_eq!(read_private(&path).unwrap(), "first");
        assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 1, "no leftovers");
    }

    #[test]
    fn a_key_readable_by_others_is_refused_with_the_cure() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("key.pem");
        write(&path, b"key", Readers::Owner, Existing::Keep).unwrap();
        for open_mode in [0o644, 0o640, 0o604, 0o602] {
            fs::set_permissions(&path, fs::Permissions::from_mode(open_mode)).unwrap();
            let text = read_private(&path).unwrap_err().to_string();
            assert!(text.contains(&format!("mode {open_mode:04o}")), "{text}");
            assert!(text.contains("chmod 600"), "{text}");
        }
    }

    #[test]
    fn what_is_no_plain_small_text_file_is_refused() {
        let dir = tempfile::tempdir().unwrap();
        assert!(matches!(read(dir.path()), Err(FileError::Unusable { .. })));
        let large = dir.path().join("large");
        fs::write(&large, vec![b'x'; LARGEST_FILE as usize + 1]).unwrap();
        assert!(matches!(read(&large), Err(FileError::Unusable { .. })));
        assert!(matches!(read(&dir.path().join("absent")), Err(FileError::Io { .. })));
    }

    #[test]
    fn an_identity_is_saved_whole_and_must_fit_together() {
        let dir = tempfile::tempdir().unwrap();
        let authority = Authority::create(&dir.path().join("ca"), "test").unwrap();
        let identity = Identity::new(Role::Node, "n1").unwrap();
        let member = |key: &KeyAndCsr| {
            let (day, now) = (Duration::from_secs(86_400), SystemTime::now());
            let issued = authority.issue(&key.csr_pem, &identity, &[], day, now);
            IdentityPems {
                ca_pem: authority.ca_pem().to_owned(),
                cert_pem: issued.unwrap().pem,
                key_pem: key.key_pem.clone(),
            }
        };
        let key = KeyAndCsr::generate().unwrap();
        let first = member(&key);
        let files = IdentityFiles::in_dir(dir.path().join("identity"));
        assert!(!files.is_complete());
        files.save(&first).unwrap();
        assert!(files.is_complete());
        assert_eq!(files.load().unwrap(), first);
        assert_eq!((mode(&files.key()), mode(&files.cert())), (0o600, 0o644));
        assert_eq!(mode(&dir.path().join("identity")), 0o700);

        let renewed = member(&KeyAndCsr::for_key(&key.key_pem).unwrap());
        files.save(&renewed).unwrap();
        assert_eq!(files.load().unwrap(), renewed);

        let other = member(&KeyAndCsr::generate().unwrap());
        let mixed = IdentityPems { cert_pem: other.cert_pem.clone(), ..renewed.clone() };
        assert!(matches!(files.save(&mixed), Err(Error::KeyMismatch)));
        assert_eq!(files.load().unwrap(), renewed);
        fs::write(files.cert(), &other.cert_pem).unwrap();
        assert!(matches!(files.load(), Err(Error::KeyMismatch)));
        assert!(!format!("{renewed:?}").contains("PRIVATE KEY"));
    }
}
