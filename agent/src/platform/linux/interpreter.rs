//! The files that the command line of an interpreter names: the script, the jar, what lies on the class path. They are
//! hints about what runs, opened as the process itself would find them; what is still open is `descriptors`'.

use std::ffi::{OsStr, OsString};
use std::fs::{self, File};
use std::io::Read;
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::path::{Path, PathBuf};

use rustix::fs::{Mode, OFlags, ResolveFlags, openat2};

/// Programs that run what they are given, by the beginnings of their names: what follows is a version, or nothing.
const INTERPRETERS: [&str; 23] = [
    "java", "python", "pypy", "node", "nodejs", "deno", "bun", "ruby", "perl", "php", "lua", "luajit", "dotnet",
    "mono", "sh", "bash", "dash", "zsh", "ksh", "busybox", "guile", "tclsh", "Rscript",
];
/// The longest command line read: as long as a single argument may be (MAX_ARG_STRLEN).
const LONGEST_COMMAND: u64 = 128 << 10;
/// The most files looked at for one process: more than any class path that people have written down.
const MOST_NAMED: usize = 1_024;
/// A larger file is data: no script or jar comes near.
const LARGEST_NAMED: u64 = 256 << 20;

/// A file that a command line names.
pub(super) struct Named {
    /// As the process itself would name it, absolute.
    pub(super) path: PathBuf,
    /// What is found there now.
    pub(super) file: Option<File>,
}

/// Whether the program at `path` runs what it is given.
pub(super) fn is_interpreter(path: &Path) -> bool {
    let Some(name) = path.file_name().and_then(OsStr::to_str) else { return false };
    let version = |rest: &str| rest.bytes().all(|byte| byte.is_ascii_digit() || matches!(byte, b'.' | b'-'));
    INTERPRETERS.iter().any(|known| name.strip_prefix(known).is_some_and(version))
}

/// The files that the command line in `details` names, as far as they can be told.
pub(super) fn named(details: &Path) -> Vec<Named> {
    let Ok(root) = File::open(details.join("root")) else { return Vec::new() };
    let (Ok(top), Ok(cwd)) = (fs::read_link(details.join("root")), fs::read_link(details.join("cwd"))) else {
        return Vec::new();
    };
    // Of a process in another root, relative names begin where it stands within that.
    let Ok(stands) = cwd.strip_prefix(&top) else { return Vec::new() };
    let stands = Path::new("/").join(stands);
    let mut found = Vec::new();
    for piece in pieces(&command(details)) {
        let path = stands.join(&piece);
        // Of /proc and /dev it would be this process that is meant.
        if path.starts_with("/proc") || path.starts_with("/dev") {
            continue;
        }
        for path in expanded(&root, &path) {
            if found.len() >= MOST_NAMED {
                return found;
            }
            let file = open(&root, &path);
            // Most arguments are no files. One that is not there may have been deleted since, and is still open.
            if file.is_some() || path.extension().is_some() || piece.as_os_str().as_bytes().contains(&b'/') {
                let shown = top.join(path.strip_prefix("/").unwrap_or(&path));
                found.push(Named { path: shown, file });
            }
        }
    }
    found
}

fn command(details: &Path) -> Vec<u8> {
    let mut bytes = Vec::new();
    let read = File::open(details.join("cmdline")).and_then(|file| file.take(LONGEST_COMMAND).read_to_end(&mut bytes));
    if read.is_ok() { bytes } else { Vec::new() }
}

/// What may be a file in a command line: arguments, what follows `=` in them, and the parts of a class path.
fn pieces(command: &[u8]) -> Vec<PathBuf> {
    let arguments = command.split(|byte| *byte == 0).skip(1).filter(|argument| !argument.is_empty());
    let values = arguments.map(|argument| match argument.iter().position(|byte| *byte == b'=') {
        Some(at) if argument.starts_with(b"-") => &argument[at + 1..],
        _ => argument,
    });
    let parts = values.flat_map(|value| value.split(|byte| *byte == b':'));
    // What is longer than a path may be is a program in one line.
    parts
        .filter(|part| !part.is_empty() && part.len() < 4_096 && !part.starts_with(b"-"))
        .map(|part| PathBuf::from(OsString::from_vec(part.to_vec())))
        .collect()
}

/// A class path's `lib/*` stands for the jars of a directory.
fn expanded(root: &File, path: &Path) -> Vec<PathBuf> {
    if path.file_name() != Some(OsStr::new("*")) {
        return vec![path.to_owned()];
    }
    let Some(folder) = path.parent() else { return Vec::new() };
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
    let Ok(directory) = openat2(root, below(folder), flags, Mode::empty(), IN_ROOT) else { return Vec::new() };
    let Ok(listing) = rustix::fs::Dir::read_from(&directory) else { return Vec::new() };
    let names = listing.flatten().map(|entry| OsStr::from_bytes(entry.file_name().to_bytes()).to_owned());
    let jars = names.filter(|name| name.as_bytes().to_ascii_lowercase().ends_with(b".jar"));
    let mut jars: Vec<PathBuf> = jars.take(MOST_NAMED).map(|name| folder.join(name)).collect();
    jars.sort();
    jars
}

/// Nothing leads out of the root of that process, and nothing of /proc is followed.
const IN_ROOT: ResolveFlags = ResolveFlags::IN_ROOT.union(ResolveFlags::NO_MAGICLINKS);

fn below(path: &Path) -> &Path {
    path.strip_prefix("/").ok().filter(|below| !below.as_os_str().is_empty()).unwrap_or(Path::new("."))
}

/// A regular file of moderate size and not empty; nothing else is opened, because opening a device may have effects.
fn open(root: &File, path: &Path) -> Option<File> {
    let found = openat2(root, below(path), OFlags::PATH | OFlags::CLOEXEC, Mode::empty(), IN_ROOT).ok()?;
    let found = File::from(found);
    let known = found.metadata().ok().filter(|known| known.is_file() && (1..=LARGEST_NAMED).contains(&known.len()));
    known?;
    use std::os::fd::AsRawFd;
    File::open(format!("/proc/self/fd/{}", found.as_raw_fd())).ok()
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn interpreters_are_known_by_name_and_version() {
        for yes in ["/usr/bin/python3.11", "/bin/sh", "/usr/lib/jvm/x/bin/java", "node", "/usr/bin/php-8.2", "perl5.36"]
        {
            assert!(is_interpreter(Path::new(yes)), "{yes}");
        }
        for no in ["/usr/bin/shuf", "/opt/javac", "/bin/nodeproblem", "/usr/bin/perlthanks", "/"] {
            assert!(!is_interpreter(Path::new(no)), "{no}");
        }
    }

    #[test]
    fn files_are_found_in_options_and_class_paths() {
        let command = b"java\0-Xmx1g\0-cp\0lib/a.jar:/x/b.jar:lib/*\0--config=etc/c.yaml\0Main\0\0";
        let pieces: Vec<_> = pieces(command).into_iter().map(|piece| piece.display().to_string()).collect();
        assert_eq!(pieces, ["lib/a.jar", "/x/b.jar", "lib/*", "etc/c.yaml", "Main"]);
    }

    #[test]
    fn nothing_but_plain_files_below_the_root_is_opened() {
        let folder = tempfile::tempdir().unwrap();
        for (name, text) in [("a.jar", "a"), ("b.txt", "b"), ("empty.jar", "")] {
            fs::write(folder.path().join(name), text).unwrap();
        }
        std::os::unix::fs::symlink("/etc/passwd", folder.path().join("out")).unwrap();
        nix::unistd::mkfifo(&folder.path().join("fifo"), nix::sys::stat::Mode::S_IRWXU).unwrap();
        let root = File::open(folder.path()).unwrap();
        let opens = |path: &str| open(&root, Path::new(path)).is_some();
        assert!(opens("/a.jar") && opens("/../b.txt"));
        assert!(!opens("/empty.jar") && !opens("/out") && !opens("/fifo") && !opens("/"));
        let jars = expanded(&root, Path::new("/*"));
        assert_eq!(jars, [Path::new("/a.jar"), Path::new("/empty.jar")]);
    }
}
