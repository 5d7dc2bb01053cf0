//! The regular files that a process has open for reading: what an interpreter runs or loads, as long as it keeps it
//! open. Which of them matter is decided by the caller; what is written to is nobody's code.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

/// Descriptors looked at. Jars and scripts are opened at the start and have low numbers (bash moves its own to 255);
/// what a busy server has above that is connections.
const MOST_DESCRIPTORS: usize = 4_096;

/// `O_ACCMODE` and `O_PATH` of fcntl.h: none of these bits means that a file is open for reading only.
const NOT_READ_ONLY: u64 = 0o3 | 0o10_000_000;

/// A file that is open.
pub(super) struct Descriptor {
    /// `/proc/PID/fd/N`: the very file, whatever became of its name.
    pub(super) link: PathBuf,
    /// As the kernel shows it, with ` (deleted)`.
    pub(super) shown: PathBuf,
}

/// The descriptors of a process that have a path, and how many were not looked at.
#[derive(Default)]
pub(super) struct Descriptors {
    pub(super) found: Vec<Descriptor>,
    pub(super) omitted: u32,
}

/// The descriptors in `details`.
///
/// # Errors
/// /proc refuses, or the process is gone.
pub(super) fn descriptors(details: &Path) -> io::Result<Descriptors> {
    let mut listed: Vec<(u32, PathBuf)> = fs::read_dir(details.join("fd"))?
        .flatten()
        .filter_map(|entry| Some((entry.file_name().to_str()?.parse().ok()?, entry.path())))
        .collect();
    listed.sort();
    let omitted = u32::try_from(listed.len().saturating_sub(MOST_DESCRIPTORS)).unwrap_or(u32::MAX);
    let found = listed.into_iter().take(MOST_DESCRIPTORS).filter_map(|(_, link)| {
        // Closed since, or a socket, a pipe, an event: none of those has a path.
        let shown = fs::read_link(&link).ok().filter(|shown| shown.is_absolute())?;
        Some(Descriptor { link, shown })
    });
    Ok(Descriptors { found: found.collect(), omitted })
}

impl Descriptor {
    /// Whether it is a regular file that is open for reading only and not empty: an empty file is no code, and has the
    /// same digest in every release.
    pub(super) fn is_read_only(&self) -> bool {
        let regular = fs::metadata(&self.link).is_ok_and(|found| found.is_file() && found.len() > 0);
        regular && flags(&self.link).is_some_and(|flags| flags & NOT_READ_ONLY == 0)
    }
}

fn flags(link: &Path) -> Option<u64> {
    let info = link.parent()?.parent()?.join("fdinfo").join(link.file_name()?);
    let text = fs::read_to_string(info).ok()?;
    let octal = text.lines().find_map(|line| line.strip_prefix("flags:"))?;
    u64::from_str_radix(octal.trim(), 8).ok()
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use std::io::Write as _;
    use std::os::fd::AsRawFd as _;

    #[test]
    fn only_what_is_read_counts() {
        let mut file = tempfile::NamedTempFile::new().unwrap();
        let empty = fs::File::open(file.path()).unwrap();
        let seen = |wanted: &fs::File| {
            let all = descriptors(Path::new("/proc/self")).unwrap();
            let name = wanted.as_raw_fd().to_string();
            let found = all.found.iter().find(|found| found.link.ends_with(&name)).unwrap();
            (found.shown.clone(), found.is_read_only())
        };
        assert_eq!(seen(&empty), (file.path().to_owned(), false));
        file.write_all(b"text").unwrap();
        assert_eq!(seen(&empty), (file.path().to_owned(), true), "it is not empty any more");
        assert_eq!(seen(file.as_file()), (file.path().to_owned(), false), "it is written to");
        let directory = fs::File::open("/").unwrap();
        assert_eq!(seen(&directory), (PathBuf::from("/"), false));
    }
}
