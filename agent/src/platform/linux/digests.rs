//! SHA-256 of files as they are, remembered by inode so that an unchanged tree costs only stat calls. Which files
//! to read and what a digest means is left to `files` and `processes`.

use std::collections::HashMap;
use std::fs::File;
use std::io;
use std::os::unix::fs::MetadataExt;
use std::sync::{Mutex, PoisonError};

use fleet::Digest;
use fleet::manifest::LARGEST_UNPACKED;
use sha2::{Digest as _, Sha256};

use super::proc;

/// A release has at most 100,000 files; this holds one with every executable of a machine, in about 16 MB.
const MOST_REMEMBERED: usize = 131_072;
/// Everything is read again after this. The change time betrays whoever restores size and modification time, but not
/// a page that was mapped writable and already dirty when it was hashed, nor root who sets the clock.
const REMEMBERED_FOR_SECONDS: u64 = 15 * 60;
/// A file that changed this short a time ago is not remembered: a second change may fall into the same tick of the
/// file system's clock (10 ms at worst on Linux, whole seconds on old file systems).
const SETTLED_AFTER_SECONDS: i64 = 2;
/// Readings of a file that changes while it is read, before that is said instead of a digest.
const MOST_READINGS: usize = 3;

/// What a file was when it was read; any change of content changes at least the change time, which nobody can set.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(super) struct Print {
    device: u64,
    inode: u64,
    size: u64,
    modified: (i64, i64),
    changed: (i64, i64),
}

#[derive(Debug, Clone, Copy)]
struct Remembered {
    digest: Digest,
    /// When it was read, in ticks since boot.
    read_at: u64,
}

/// Digests of files, remembered.
#[derive(Debug, Default)]
pub(super) struct Digests {
    remembered: Mutex<HashMap<Print, Remembered>>,
}

impl Print {
    /// The print of an open file.
    pub(super) fn of(file: &File) -> io::Result<Self> {
        let found = file.metadata()?;
        Ok(Self {
            device: found.dev(),
            inode: found.ino(),
            size: found.size(),
            modified: (found.mtime(), found.mtime_nsec()),
            changed: (found.ctime(), found.ctime_nsec()),
        })
    }

    /// The print in the kernel's answer. Its integers differ in width between architectures, hence the casts.
    #[allow(clippy::unnecessary_cast)]
    pub(super) fn of_stat(found: &rustix::fs::Stat) -> Self {
        Self {
            device: found.st_dev as u64,
            inode: found.st_ino as u64,
            size: u64::try_from(found.st_size).unwrap_or(0),
            modified: (found.st_mtime as i64, found.st_mtime_nsec as i64),
            changed: (found.st_ctime as i64, found.st_ctime_nsec as i64),
        }
    }

    fn settled(&self) -> bool {
        use nix::time::{ClockId, clock_gettime};
        clock_gettime(ClockId::CLOCK_REALTIME)
            .is_ok_and(|now| now.tv_sec().saturating_sub(self.changed.0) >= SETTLED_AFTER_SECONDS)
    }
}

impl Digests {
    /// The digest of what has this print, if it was read not long ago.
    pub(super) fn remembered(&self, print: &Print) -> Option<Digest> {
        let oldest = proc::ticks_now().saturating_sub(REMEMBERED_FOR_SECONDS * proc::ticks_per_second());
        let remembered = self.remembered.lock().unwrap_or_else(PoisonError::into_inner);
        remembered.get(print).filter(|known| known.read_at >= oldest).map(|known| known.digest)
    }

    /// The digest of an open regular file, remembered or read from its start.
    ///
    /// # Errors
    /// Not a regular file, larger than any file of a release, unreadable, or changing while it is read.
    pub(super) fn of(&self, file: &File) -> io::Result<Digest> {
        let found = file.metadata()?;
        if !found.is_file() {
            return Err(io::Error::other("not a regular file"));
        }
        if found.len() > LARGEST_UNPACKED {
            return Err(io::Error::other(format!("{} bytes are more than any file of a release has", found.len())));
        }
        let mut before = Print::of(file)?;
        for _ in 0..MOST_READINGS {
            if let Some(digest) = self.remembered(&before) {
                return Ok(digest);
            }
            let digest = read(file, &mut buffer(), &mut || Ok(()))?;
            let after = Print::of(file)?;
            if before == after {
                self.remember(after, digest);
                return Ok(digest);
            }
            before = after;
        }
        Err(io::Error::other("it changes while it is read"))
    }

    fn remember(&self, print: Print, digest: Digest) {
        if !print.settled() {
            return;
        }
        let mut remembered = self.remembered.lock().unwrap_or_else(PoisonError::into_inner);
        if remembered.len() >= MOST_REMEMBERED {
            // Rare enough that reading everything once more is cheaper than keeping an order of use.
            remembered.clear();
        }
        remembered.insert(print, Remembered { digest, read_at: proc::ticks_now() });
    }
}

/// What files are read through.
pub(super) fn buffer() -> Vec<u8> {
    vec![0; 128 << 10]
}

/// What is done between two pieces of a file; an error breaks the reading off.
pub(super) type Rest<'a> = &'a mut dyn FnMut() -> io::Result<()>;

/// The digest of an open file as it is, from its start to its end.
pub(super) fn read(file: &File, buffer: &mut [u8], rest: Rest<'_>) -> io::Result<Digest> {
    use std::os::unix::fs::FileExt;
    let mut hash = Sha256::new();
    let mut at: u64 = 0;
    // By offset, so that a second reading of one descriptor starts at the start. The bound holds for a file that grows.
    while at <= LARGEST_UNPACKED {
        let length = file.read_at(buffer, at)?;
        if length == 0 {
            return Ok(Digest(hash.finalize().into()));
        }
        hash.update(&buffer[..length]);
        rest()?;
        at += length as u64;
    }
    Err(io::Error::other("it grows while it is read"))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use std::os::unix::fs::FileExt;

    #[test]
    fn restored_times_do_not_hide_a_change() {
        let file = tempfile::NamedTempFile::new().unwrap();
        file.as_file().write_all_at(b"one", 0).unwrap();
        let digests = Digests::default();
        let before = Print::of(file.as_file()).unwrap();
        let one = digests.of(file.as_file()).unwrap();
        let modified = file.as_file().metadata().unwrap().modified().unwrap();
        file.as_file().write_all_at(b"two", 0).unwrap();
        file.as_file().set_modified(modified).unwrap();
        let after = Print::of(file.as_file()).unwrap();
        assert_eq!((before.size, before.modified), (after.size, after.modified));
        assert_ne!(digests.of(file.as_file()).unwrap(), one);
    }

    #[test]
    fn a_file_just_changed_is_not_remembered_and_a_settled_one_is() {
        let file = tempfile::NamedTempFile::new().unwrap();
        let digests = Digests::default();
        digests.of(file.as_file()).unwrap();
        assert!(digests.remembered(&Print::of(file.as_file()).unwrap()).is_none());
        // A file that has lain there for long: the test's own program may be fresh, the kernel's shell is not.
        let shell = File::open("/bin/sh").unwrap();
        let digest = digests.of(&shell).unwrap();
        assert_eq!(digests.remembered(&Print::of(&shell).unwrap()), Some(digest));
    }

    #[test]
    fn devices_and_giants_are_not_read() {
        let digests = Digests::default();
        assert!(digests.of(&File::open("/dev/zero").unwrap()).is_err());
        let giant = tempfile::tempfile().unwrap();
        giant.set_len(LARGEST_UNPACKED + 1).unwrap();
        assert!(digests.of(&giant).is_err());
    }
}
