//! Paths of another process as this one sees them. In its own mount namespace a process has other paths for the same
//! files, and may have the same paths for other files: there only where a path lies on its file system counts. A process
//! that is only chrooted is shown by the kernel with paths of ours, and needs none of this.

use std::ffi::OsString;
use std::fs::{self, Metadata};
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use super::proc;

/// What stands before a path that is not one of ours although it reads like one.
const ANOTHER: &str = "(another root)";
/// What stands before a path of which it cannot be told what it would be here.
const UNKNOWN: &str = "(unknown root)";

/// One mount, as /proc/PID/mountinfo has it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Mount {
    device: String,
    /// The directory of the file system that is mounted.
    root: PathBuf,
    /// Where, as seen by the process.
    point: PathBuf,
}

/// A place on a file system, whatever it is called.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Location {
    device: String,
    path: PathBuf,
}

/// How this process sees the tree that matters.
#[derive(Debug)]
pub(super) struct Home {
    /// The mount namespace of this process; None where it is not told, and then every other one counts as another.
    namespace: Option<PathBuf>,
    /// The directory below which services live.
    services: PathBuf,
    location: Option<Location>,
}

/// How another process sees files.
pub(super) enum View<'a> {
    /// As this one does.
    Ours,
    /// Through mounts of its own.
    Another { home: &'a Home, mounts: Vec<Mount> },
}

impl Home {
    pub(super) fn new(services: &Path) -> Self {
        let location = locate(&mounts(Path::new("/proc/self")), services);
        Self { namespace: namespace(Path::new("/proc/self")), services: services.to_owned(), location }
    }

    /// How the process in `details` sees files.
    pub(super) fn view(&self, details: &Path) -> View<'_> {
        let its = namespace(details);
        // Who may not be looked into shows no path either.
        if its.is_none() || its == self.namespace {
            return View::Ours;
        }
        View::Another { home: self, mounts: mounts(details) }
    }
}

impl View<'_> {
    /// What a path without mark of deletion, as the kernel shows it for that process, is called here. `is_it` tells
    /// whether what is found here under that very name is the same file.
    pub(super) fn here(&self, shown: &Path, is_it: impl Fn(&Metadata) -> bool) -> PathBuf {
        let View::Another { home, mounts } = self else { return shown.to_owned() };
        if !shown.is_absolute() || shown.as_os_str().as_bytes().starts_with(b"/memfd:") {
            return shown.to_owned();
        }
        if fs::metadata(shown).is_ok_and(|found| is_it(&found)) {
            return shown.to_owned();
        }
        let prefixed = |mark: &str| {
            let mut text = OsString::from(mark);
            text.push(shown);
            PathBuf::from(text)
        };
        match (locate(mounts, shown), &home.location) {
            (Some(its), Some(ours)) if its.device == ours.device => match its.path.strip_prefix(&ours.path) {
                Ok(below) => home.services.join(below),
                Err(_) if shown.starts_with(&home.services) => prefixed(ANOTHER),
                Err(_) => shown.to_owned(),
            },
            (Some(_), Some(_)) if shown.starts_with(&home.services) => prefixed(ANOTHER),
            (Some(_), Some(_)) => shown.to_owned(),
            (None, _) | (_, None) => prefixed(UNKNOWN),
        }
    }
}

/// Whether a path has the mark of one that nobody could place: it may be a file of the service.
pub(super) fn is_unplaced(path: &Path) -> bool {
    path.as_os_str().as_bytes().starts_with(UNKNOWN.as_bytes())
}

/// Whether two answers speak of one file.
pub(super) fn is_same(one: &Metadata, other: &Metadata) -> bool {
    (one.dev(), one.ino()) == (other.dev(), other.ino())
}

fn namespace(details: &Path) -> Option<PathBuf> {
    fs::read_link(details.join("ns/mnt")).ok()
}

/// The mounts of the process in `details`, in the order in which they were mounted, as paths of its whole namespace.
fn mounts(details: &Path) -> Vec<Mount> {
    let text = proc::text(&details.join("mountinfo"), proc::WHOLE).unwrap_or_default();
    let root = fs::read_link(details.join("root")).unwrap_or_else(|_| PathBuf::from("/"));
    let mut mounts: Vec<Mount> = text.split(|byte| *byte == b'\n').filter_map(mount).collect();
    for mount in &mut mounts {
        // Mount points are told from the process's root, and links from that of its namespace.
        if let Ok(below) = mount.point.strip_prefix("/") {
            mount.point = root.join(below);
        }
    }
    mounts
}

/// `36 35 98:0 /mnt1 /mnt2 rw,noatime master:1 - ext3 /dev/root rw,errors=continue`
fn mount(line: &[u8]) -> Option<Mount> {
    let mut fields = line.split(|byte| *byte == b' ').skip(2);
    let device = String::from_utf8(fields.next()?.to_vec()).ok()?;
    let mut path = || Some(PathBuf::from(OsString::from_vec(unescape(fields.next()?))));
    Some(Mount { device, root: path()?, point: path()? })
}

/// Blanks, tabs, newlines and backslashes are shown as three octal digits.
fn unescape(text: &[u8]) -> Vec<u8> {
    let mut out = Vec::with_capacity(text.len());
    let mut rest = text;
    while let Some((first, tail)) = rest.split_first() {
        let octal = tail.get(..3).filter(|_| *first == b'\\').and_then(|digits| std::str::from_utf8(digits).ok());
        match octal.and_then(|digits| u8::from_str_radix(digits, 8).ok()) {
            Some(byte) => {
                out.push(byte);
                rest = &tail[3..];
            }
            None => {
                out.push(*first);
                rest = tail;
            }
        }
    }
    out
}

/// Where a path lies: on the mount with the longest point above it, and of several on one point the last.
fn locate(mounts: &[Mount], path: &Path) -> Option<Location> {
    let above = mounts.iter().filter(|mount| path.starts_with(&mount.point));
    let mount = above.max_by_key(|mount| mount.point.components().count())?;
    let below = path.strip_prefix(&mount.point).ok()?;
    Some(Location { device: mount.device.clone(), path: mount.root.join(below) })
}

/// The working directory of the process in `details` as it is called here.
pub(super) fn cwd(view: &View<'_>, details: &Path) -> Option<PathBuf> {
    let shown = proc::cwd(details)?;
    let found = fs::metadata(details.join("cwd")).ok();
    Some(view.here(&shown, |here| found.as_ref().is_some_and(|found| is_same(found, here))))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(device: &str, root: &str, point: &str) -> Mount {
        Mount { device: device.into(), root: root.into(), point: point.into() }
    }

    fn home() -> Home {
        Home {
            namespace: None,
            services: "/opt/fleet/services".into(),
            location: Some(Location { device: "8:1".into(), path: "/fleet/services".into() }),
        }
    }

    #[test]
    fn a_file_is_known_by_its_place_on_the_disk_and_not_by_its_path() {
        let home = home();
        let mounts = vec![
            at("8:9", "/", "/"),
            at("8:1", "/fleet/services/web/releases/r-1", "/app"),
            at("8:1", "/fleet", "/all"),
            at("8:9", "/other", "/opt/fleet/services"),
            at("0:4", "/", "/all/services/web/hidden"),
        ];
        let view = View::Another { home: &home, mounts };
        let here = |shown: &str| view.here(Path::new(shown), |_| false).display().to_string();
        assert_eq!(here("/app/bin/web"), "/opt/fleet/services/web/releases/r-1/bin/web");
        assert_eq!(here("/app"), "/opt/fleet/services/web/releases/r-1");
        assert_eq!(here("/all/services/web/x"), "/opt/fleet/services/web/x");
        assert_eq!(here("/usr/lib/libc.so"), "/usr/lib/libc.so");
        assert_eq!(here("/opt/fleet/services/web/bin"), "(another root)/opt/fleet/services/web/bin");
        assert_eq!(here("/all/services/web/hidden/x"), "/all/services/web/hidden/x", "something is mounted over it");
        assert_eq!(here("/memfd:x"), "/memfd:x");
        let blind = View::Another { home: &home, mounts: Vec::new() };
        assert!(is_unplaced(&blind.here(Path::new("/app/bin/web"), |_| false)));
    }

    #[test]
    fn mounts_are_read_as_the_kernel_writes_them() {
        let line = b"36 35 98:0 /a\\040b /mnt\\134 rw,noatime master:1 - ext3 /dev/root rw";
        assert_eq!(mount(line), Some(at("98:0", "/a b", "/mnt\\")));
        assert_eq!(mount(b"36 35 98:0"), None);
        let own = mounts(Path::new("/proc/self"));
        assert!(locate(&own, Path::new("/proc/self/maps")).is_some(), "{own:?}");
    }
}
