//! The files that a process has mapped, from /proc/PID/maps, and the bytes behind each: through /proc/PID/map_files
//! where permitted, else by path, here or in its own root, if the path still is that very file.

use std::ffi::OsString;
use std::fs::{self, File, Metadata, OpenOptions};
use std::io;
use std::os::unix::ffi::OsStringExt;
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use super::proc;

/// Which file is mapped, as /proc names it. On some file systems (btrfs) the device is not the one that stat gives.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(super) struct Inode {
    pub(super) major: u32,
    pub(super) minor: u32,
    pub(super) number: u64,
}

impl Inode {
    /// Whether it is the file that was found.
    pub(super) fn is_of(self, found: &Metadata) -> bool {
        found.ino() == self.number && found.dev() == rustix::fs::makedev(self.major, self.minor)
    }
}

/// One mapped file; several ranges of one file are one mapping.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Mapping {
    /// As the kernel shows it, with ` (deleted)`.
    pub(super) shown: PathBuf,
    pub(super) inode: Inode,
    /// The first range, as named in map_files.
    range: String,
}

/// The mappings of a process.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Mappings {
    /// Executable ones of files.
    pub(super) files: Vec<Mapping>,
    /// Files that are mapped and nowhere executable.
    pub(super) read: Vec<Mapping>,
    /// Executable ones without a file: code made at run time. No release can vouch for it; it is counted.
    pub(super) anonymous: u32,
}

impl Mapping {
    /// The path without the mark of deletion, and whether the mark was there.
    pub(super) fn path(&self) -> (PathBuf, bool) {
        match proc::without_deleted(&self.shown) {
            Some(path) => (path, true),
            None => (self.shown.clone(), false),
        }
    }

    fn is_of_same(&self, other: &Self) -> bool {
        self.inode == other.inode && self.shown == other.shown
    }

    /// The very file that is mapped.
    ///
    /// # Errors
    /// It may not be opened, or is gone and map_files is not permitted (that takes root).
    pub(super) fn open(&self, pid: u32) -> io::Result<File> {
        let through_proc = PathBuf::from(format!("/proc/{pid}/map_files/{}", self.range));
        // It is checked before it is opened: opening a device may have effects.
        if fs::metadata(&through_proc).is_ok_and(|found| found.is_file())
            && let Ok(file) = open(&through_proc, 0)
        {
            return Ok(file);
        }
        // For a process in a root of its own the path is right only there.
        let in_its_root =
            PathBuf::from(format!("/proc/{pid}/root")).join(self.shown.strip_prefix("/").unwrap_or(&self.shown));
        let mut refused = io::Error::other("another file has its name now");
        for path in [&self.shown, &in_its_root] {
            match open(path, nix::libc::O_NOFOLLOW | nix::libc::O_NONBLOCK) {
                Ok(file) => {
                    let found = file.metadata()?;
                    if found.is_file() && self.inode.is_of(&found) {
                        return Ok(file);
                    }
                }
                Err(cause) => refused = cause,
            }
        }
        Err(refused)
    }
}

/// The mappings found in `details`.
///
/// # Errors
/// /proc refuses, or the process is gone.
pub(super) fn mappings(details: &Path) -> io::Result<Mappings> {
    Ok(parse(&proc::text(&details.join("maps"), proc::WHOLE)?))
}

fn open(path: &Path, flags: i32) -> io::Result<File> {
    OpenOptions::new().read(true).custom_flags(flags).open(path)
}

fn parse(text: &[u8]) -> Mappings {
    let mut found = Mappings::default();
    for line in text.split(|byte| *byte == b'\n') {
        let Some(Line { range, permissions, inode, name }) = fields(line) else { continue };
        let executable = permissions.as_bytes().get(2) == Some(&b'x');
        if inode.number == 0 {
            // [vdso] and [vsyscall] are the kernel's own.
            found.anonymous += u32::from(executable && !name.starts_with(b"[v"));
            continue;
        }
        let mapping = Mapping { shown: PathBuf::from(OsString::from_vec(unescape(name))), inode, range };
        let list = if executable { &mut found.files } else { &mut found.read };
        if !list.iter().any(|other| mapping.is_of_same(other)) {
            list.push(mapping);
        }
    }
    let files = &found.files;
    found.read.retain(|mapping| !files.iter().any(|other| mapping.is_of_same(other)));
    found
}

struct Line<'a> {
    range: String,
    permissions: &'a str,
    inode: Inode,
    name: &'a [u8],
}

/// `00400000-00452000 r-xp 00000000 08:02 173521      /usr/bin/dbus-daemon`
fn fields(line: &[u8]) -> Option<Line<'_>> {
    let mut parts = line.splitn(6, |byte| *byte == b' ');
    let mut word = || std::str::from_utf8(parts.next()?).ok();
    let (start, end) = word()?.split_once('-')?;
    let address = |hex| u64::from_str_radix(hex, 16).ok();
    // map_files names its ranges without leading zeros.
    let range = format!("{:x}-{:x}", address(start)?, address(end)?);
    let permissions = word()?;
    word()?;
    let (major, minor) = word()?.split_once(':')?;
    let (major, minor) = (u32::from_str_radix(major, 16).ok()?, u32::from_str_radix(minor, 16).ok()?);
    let number = word()?.parse().ok()?;
    Some(Line {
        range,
        permissions,
        inode: Inode { major, minor, number },
        name: parts.next().unwrap_or_default().trim_ascii_start(),
    })
}

/// A newline in a name is shown as `\012`. A name that really has these four characters stays ambiguous, and is then
/// not found by path; map_files does not depend on it.
fn unescape(name: &[u8]) -> Vec<u8> {
    let mut out = Vec::with_capacity(name.len());
    let mut rest = name;
    while let Some((first, tail)) = rest.split_first() {
        if let Some(after) = rest.strip_prefix(b"\\012") {
            out.push(b'\n');
            rest = after;
        } else {
            out.push(*first);
            rest = tail;
        }
    }
    out
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn only_executable_mappings_count_and_each_file_once() {
        let text = b"00400000-00452000 r-xp 00000000 08:02 17      /bin/a b\n\
            00452000-00453000 r--p 00000000 08:02 18      /lib/data\n\
            00500000-00552000 r-xp 00010000 08:02 17      /bin/a b\n\
            7f00-7f10 rwxp 00000000 00:00 0 \n\
            7f10-7f20 r-xp 00000000 00:01 99 /memfd:x (deleted)\n\
            7f20-7f30 r-xp 00000000 00:00 0 [vdso]\n\
            7f30-7f40 r-xp 00000000 fd:1f 5 /x\\012y (deleted)\n\
            rubbish\n";
        let found = parse(text);
        assert_eq!(found.anonymous, 1);
        let shown: Vec<_> = found.files.iter().map(|file| file.shown.to_str().unwrap()).collect();
        assert_eq!(shown, ["/bin/a b", "/memfd:x (deleted)", "/x\ny (deleted)"]);
        assert_eq!(found.read.iter().map(|file| file.inode.number).collect::<Vec<_>>(), [18], "mapped, never executed");
        assert_eq!(found.files[0].range, "400000-452000");
        assert_eq!(found.files[1].path(), (PathBuf::from("/memfd:x"), true));
        assert_eq!(found.files[2].inode, Inode { major: 0xfd, minor: 0x1f, number: 5 });
    }

    #[test]
    fn own_program_is_mapped_and_opens() {
        let own = std::env::current_exe().unwrap();
        let found = mappings(Path::new("/proc/self")).unwrap();
        let mapping = found.files.iter().find(|mapping| mapping.shown == own).unwrap();
        assert_eq!(mapping.open(std::process::id()).unwrap().metadata().unwrap().ino(), mapping.inode.number);
    }
}
