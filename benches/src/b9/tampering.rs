//! The kinds of tampering: each done to the files or processes of a node as somebody without the fleet's leave would,
//! timed from just before its decisive system call, and undone.

use std::fs::{self, File};
use std::os::fd::AsRawFd as _;
use std::os::unix::fs::{FileExt as _, MetadataExt as _, PermissionsExt as _, chown, lchown, symlink};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::SystemTime;

use anyhow::{Context as _, bail};
use fleet::drift::{Finding, Kind as Found};
use fleet_tests::Dice;
use nix::libc;
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use serde::Serialize;

/// What can be done.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Kind {
    /// A byte of a file is overwritten in place.
    Write,
    /// A byte is added to a file.
    Append,
    /// A file is replaced by another by rename.
    Replace,
    /// A byte is overwritten, then the modification time is set back; the size is as it was.
    WriteAndTouchBack,
    /// A byte is overwritten through a shared mapping.
    MappedWrite,
    /// A file's permissions are changed.
    Mode,
    /// A file is given to another user.
    Owner,
    /// A file is removed.
    Unlink,
    /// A file, a folder or a link is added.
    Add,
    /// A link of the release is made to lead elsewhere.
    Link,
    /// `current` is made to lead to an older release.
    Current,
    /// The main process is killed.
    Kill,
    /// The program of an older release is started where it lies.
    OldProgram,
    /// A copy of the program of an older release is started, elsewhere and under another name.
    OldCopy,
}

impl Kind {
    /// All of them; a file is given to another user by root only.
    pub fn all() -> Vec<Kind> {
        let owner = nix::unistd::geteuid().is_root().then_some(Kind::Owner);
        [
            Kind::Write,
            Kind::Append,
            Kind::Replace,
            Kind::WriteAndTouchBack,
            Kind::MappedWrite,
            Kind::Mode,
            Kind::Unlink,
            Kind::Add,
            Kind::Link,
            Kind::Current,
            Kind::Kill,
            Kind::OldProgram,
            Kind::OldCopy,
        ]
        .into_iter()
        .chain(owner)
        .collect()
    }

    /// For people.
    pub fn name(self) -> &'static str {
        match self {
            Kind::Write => "write in place",
            Kind::Append => "append",
            Kind::Replace => "replace by rename",
            Kind::WriteAndTouchBack => "write, then touch -d back",
            Kind::MappedWrite => "write through mmap",
            Kind::Mode => "chmod",
            Kind::Owner => "chown",
            Kind::Unlink => "unlink",
            Kind::Add => "add",
            Kind::Link => "swap a link in the release",
            Kind::Current => "swap `current`",
            Kind::Kill => "kill -9 the main process",
            Kind::OldProgram => "run an older release's program",
            Kind::OldCopy => "run a copy of an older program",
        }
    }

    /// Whether it is done to files; the others are done to processes.
    pub fn is_of_files(self) -> bool {
        match self {
            Kind::Kill | Kind::OldProgram | Kind::OldCopy => false,
            Kind::Write
            | Kind::Append
            | Kind::Replace
            | Kind::WriteAndTouchBack
            | Kind::MappedWrite
            | Kind::Mode
            | Kind::Owner
            | Kind::Unlink
            | Kind::Add
            | Kind::Link
            | Kind::Current => true,
        }
    }
}

/// Where it is done.
#[derive(Debug)]
pub struct Scene {
    /// The service's root, where `current` lies.
    pub root: PathBuf,
    /// The release that is live.
    pub release: PathBuf,
    /// An older one.
    pub older: PathBuf,
    /// A folder on the same filesystem that nobody watches.
    pub aside: PathBuf,
    /// Regular files of the release, relative to it.
    pub files: Vec<String>,
    /// Links of the release, relative to it.
    pub links: Vec<String>,
}

/// What was done.
pub struct Done {
    /// Just before the decisive system call, in nanoseconds since 1970.
    pub at: i64,
    /// What it was done to.
    pub about: About,
    /// Makes it as it was.
    pub undo: Undo,
}

/// Makes something as it was.
pub type Undo = Box<dyn FnOnce() -> anyhow::Result<()>>;

/// What a tampering was done to: which findings tell of it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum About {
    /// A path in the release.
    Path(String),
    /// The link to the live release.
    Current,
    /// The main process.
    Main,
    /// A process started by hand.
    Stray(i32),
}

impl About {
    /// Whether this finding tells of it.
    pub fn is_told_by(&self, finding: &Finding) -> bool {
        match self {
            About::Path(path) => finding.key.what == *path,
            About::Current => matches!(finding.key.kind, Found::Version | Found::Symlink),
            About::Main => matches!(finding.key.kind, Found::Process | Found::Health),
            About::Stray(pid) => {
                matches!(finding.key.kind, Found::OldProcess | Found::Process)
                    && finding.key.what.starts_with(&format!("pid {pid} "))
            }
        }
    }

    /// Whether this finding follows from it, although it tells of something else: a dead process listens on no port,
    /// and a service whose `current` leads elsewhere may be found at fault in whatever was started from there.
    pub fn explains(&self, finding: &Finding) -> bool {
        match self {
            About::Path(_) | About::Stray(_) => self.is_told_by(finding),
            About::Current | About::Main => finding.key.service.is_some() && !finding.key.what.contains('/'),
        }
    }

    /// What a rival's message has to contain.
    pub fn word(&self) -> Option<&str> {
        match self {
            About::Path(path) => Some(path),
            About::Current => Some("/current"),
            About::Main | About::Stray(_) => None,
        }
    }
}

/// Nanoseconds since 1970.
pub fn now() -> i64 {
    let since = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
    i64::try_from(since.as_nanos()).unwrap_or(i64::MAX)
}

/// Does it; `main` is the process that is killed.
///
/// # Errors
/// It cannot be done: then nothing was measured.
pub fn tamper(kind: Kind, scene: &Scene, main: Option<i32>, dice: &mut Dice) -> anyhow::Result<Done> {
    let file = dice.one_of(&scene.files).clone();
    let path = scene.release.join(&file);
    match kind {
        Kind::Write | Kind::WriteAndTouchBack | Kind::MappedWrite => overwrite(kind, &path, file, dice),
        Kind::Append => {
            let open = File::options().append(true).open(&path).context("cannot open a file")?;
            let size = open.metadata()?.len();
            let at = now();
            std::io::Write::write_all(&mut &open, b"x")?;
            done(at, About::Path(file), move || Ok(File::options().write(true).open(path)?.set_len(size)?))
        }
        Kind::Replace => {
            let (other, kept) = (scene.aside.join("other"), scene.aside.join("kept"));
            copy(&path, &kept)?;
            copy(&path, &other)?;
            let open = File::options().write(true).open(&other)?;
            open.write_all_at(b"z", 0)?;
            open.write_all_at(b"y", open.metadata()?.len() / 2)?;
            if fs::read(&other)? == fs::read(&path)? {
                open.write_all_at(b"w", 0)?;
            }
            drop(open);
            let at = now();
            fs::rename(&other, &path)?;
            done(at, About::Path(file), move || Ok(fs::rename(kept, path)?))
        }
        Kind::Mode => {
            let mode = fs::metadata(&path)?.permissions().mode();
            let at = now();
            fs::set_permissions(&path, fs::Permissions::from_mode(mode ^ 0o111))?;
            done(at, About::Path(file), move || Ok(fs::set_permissions(path, fs::Permissions::from_mode(mode))?))
        }
        Kind::Owner => {
            let owner = fs::metadata(&path)?.uid();
            let at = now();
            chown(&path, Some(owner + 1), None)?;
            done(at, About::Path(file), move || Ok(chown(path, Some(owner), None)?))
        }
        Kind::Unlink => {
            let kept = scene.aside.join("kept");
            copy(&path, &kept)?;
            let at = now();
            fs::remove_file(&path)?;
            done(at, About::Path(file), move || Ok(fs::rename(kept, path)?))
        }
        Kind::Add => add(&path, file, dice),
        Kind::Link => {
            let link = dice.one_of(&scene.links).clone();
            let path = scene.release.join(&link);
            swap(&scene.aside, path, Path::new("nowhere"), About::Path(link))
        }
        Kind::Current => {
            let older = scene.older.strip_prefix(&scene.root).context("the older release lies elsewhere")?;
            swap(&scene.aside, scene.root.join("current"), older, About::Current)
        }
        Kind::Kill => {
            let pid = Pid::from_raw(main.context("nothing serves")?);
            let at = now();
            kill(pid, Signal::SIGKILL)?;
            // Its agent starts it again.
            done(at, About::Main, || Ok(()))
        }
        Kind::OldProgram => start(&scene.older.join("bin/hello")),
        Kind::OldCopy => {
            let copied = scene.aside.join("worker");
            copy(&scene.older.join("bin/hello"), &copied)?;
            fs::set_permissions(&copied, fs::Permissions::from_mode(0o755))?;
            start(&copied)
        }
    }
}

// As a result, because everything around it can fail.
#[allow(clippy::unnecessary_wraps)]
fn done(at: i64, about: About, undo: impl FnOnce() -> anyhow::Result<()> + 'static) -> anyhow::Result<Done> {
    Ok(Done { at, about, undo: Box::new(undo) })
}

fn overwrite(kind: Kind, path: &Path, file: String, dice: &mut Dice) -> anyhow::Result<Done> {
    let open = File::options().read(true).write(true).open(path).context("cannot open a file")?;
    let before = open.metadata()?;
    let place = dice.below(before.len());
    let mut old = [0];
    open.read_exact_at(&mut old, place)?;
    let new = [old[0] ^ 0x55];
    let at;
    if kind == Kind::MappedWrite {
        at = write_through_mapping(&open, place, new[0])?;
    } else {
        at = now();
        open.write_all_at(&new, place)?;
        if kind == Kind::WriteAndTouchBack {
            open.set_modified(before.modified()?)?;
            let after = open.metadata()?;
            if (after.len(), after.modified()?) != (before.len(), before.modified()?) {
                bail!("size and time are not as they were");
            }
        }
    }
    done(at, About::Path(file), move || Ok(open.write_all_at(&old, place)?))
}

/// Returns the moment before the store.
fn write_through_mapping(file: &File, place: u64, byte: u8) -> anyhow::Result<i64> {
    let length = usize::try_from(file.metadata()?.len())?;
    // SAFETY: a new mapping of a whole file that nobody shortens meanwhile; the store lies within it; it is unmapped once.
    #[allow(unsafe_code)]
    unsafe {
        let start = libc::mmap(
            std::ptr::null_mut(),
            length,
            libc::PROT_READ | libc::PROT_WRITE,
            libc::MAP_SHARED,
            file.as_raw_fd(),
            0,
        );
        if start == libc::MAP_FAILED {
            return Err(std::io::Error::last_os_error()).context("cannot map a file");
        }
        let at = now();
        start.cast::<u8>().add(usize::try_from(place)?).write_volatile(byte);
        libc::munmap(start, length);
        Ok(at)
    }
}

fn add(beside: &Path, file: String, dice: &mut Dice) -> anyhow::Result<Done> {
    let name = format!("{file}.added");
    let path = beside.with_file_name(format!("{}.added", beside.file_name().unwrap_or_default().display()));
    let at = now();
    match dice.below(3) {
        0 => fs::write(&path, "added")?,
        1 => fs::create_dir(&path)?,
        _ => symlink("/etc/passwd", &path)?,
    }
    done(at, About::Path(name), move || {
        let removed = if path.is_dir() && !path.is_symlink() { fs::remove_dir(path) } else { fs::remove_file(path) };
        Ok(removed?)
    })
}

/// Puts another link in the place of one.
fn swap(aside: &Path, path: PathBuf, to: &Path, about: About) -> anyhow::Result<Done> {
    let before = fs::read_link(&path)?;
    let owner = fs::symlink_metadata(&path)?.uid();
    let new = aside.join("link");
    symlink(to, &new)?;
    lchown(&new, Some(owner), None)?;
    let at = now();
    fs::rename(&new, &path)?;
    done(at, about, move || {
        symlink(before, &new)?;
        lchown(&new, Some(owner), None)?;
        Ok(fs::rename(new, path)?)
    })
}

fn start(program: &Path) -> anyhow::Result<Done> {
    let mut command = Command::new(program);
    command.arg("--worker").env_clear().stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
    let at = now();
    let mut child = command.spawn().with_context(|| format!("cannot start {}", program.display()))?;
    let pid = i32::try_from(child.id())?;
    done(at, About::Stray(pid), move || {
        child.kill()?;
        child.wait()?;
        Ok(())
    })
}

/// With mode and owner.
fn copy(from: &Path, to: &Path) -> anyhow::Result<()> {
    fs::copy(from, to).with_context(|| format!("cannot copy {}", from.display()))?;
    Ok(chown(to, Some(fs::metadata(from)?.uid()), None)?)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn everything_that_is_done_to_files_shows_and_is_undone() {
        let dir = tempfile::tempdir().unwrap();
        let root = dir.path().join("root");
        let scene = Scene {
            release: root.join("releases/new"),
            older: root.join("releases/old"),
            aside: dir.path().join("aside"),
            files: vec!["share/a".into(), "b".into()],
            links: vec!["share/l".into()],
            root: root.clone(),
        };
        for folder in [&scene.release.join("share"), &scene.older, &scene.aside] {
            fs::create_dir_all(folder).unwrap();
        }
        for file in &scene.files {
            fs::write(scene.release.join(file), "some content").unwrap();
        }
        symlink("a", scene.release.join("share/l")).unwrap();
        symlink("releases/new", root.join("current")).unwrap();
        let look = || {
            let mut seen = Vec::new();
            let mut open = vec![root.clone()];
            while let Some(folder) = open.pop() {
                for entry in fs::read_dir(folder).unwrap().flatten() {
                    let (path, found) = (entry.path(), entry.metadata().unwrap());
                    let content = if found.is_file() { fs::read(&path).unwrap() } else { Vec::new() };
                    if found.is_dir() {
                        open.push(path.clone());
                    }
                    seen.push((path.clone(), content, found.mode(), found.uid(), fs::read_link(&path).ok()));
                }
            }
            seen.sort();
            seen
        };
        let mut dice = Dice::seeded(1);
        for kind in Kind::all().into_iter().filter(|kind| kind.is_of_files()).cycle().take(60) {
            let before = look();
            let done = tamper(kind, &scene, None, &mut dice).unwrap();
            assert_ne!(look(), before, "{kind:?} changes something");
            assert!(done.at > 0 && done.about.word().is_some());
            (done.undo)().unwrap();
            assert_eq!(look(), before, "{kind:?} is undone");
        }
    }
}
