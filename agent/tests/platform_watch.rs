//! Watching the files of a release: what is touched is told and seen at once, what is not told is found by a sweep, and
//! whatever makes that doubtful leads to a look at everything. What is said again is always what a fresh look would say.
#![allow(clippy::unwrap_used)]

mod platform_stage;

use std::fs;
use std::os::fd::AsRawFd;
use std::os::unix::fs::{MetadataExt, PermissionsExt, symlink};
use std::path::{Path, PathBuf};
use std::time::Duration;

use fleet::evidence::{DeviationKind, FileDeviation};
use fleet::looked::{Depth, Looked};
use fleet::manifest::Manifest;
use fleet::{Millis, ReleaseId};
use fleet_agent::platform::linux::{LinuxObserver, WatchLimits, WatchPace};
use fleet_agent::platform::{Look, Observer, Scope, Seen};
use nix::libc;
use platform_stage::{PATIENCE, Stage};
use proptest::prelude::*;

/// Never sweeps or reads again by itself.
const STILL: WatchPace = WatchPace {
    sweep_every: Millis(u64::MAX),
    sweep_rest: 0,
    sweep_soonest: Millis(u64::MAX),
    rehash_every: Millis(u64::MAX),
    rehash_look_every: Millis(u64::MAX),
    cpu_percent: 100,
};

/// Looks all the time whether something is due to be read again.
const ALERT: Millis = Millis(10);

/// One release that is watched by an observer of its own.
struct Scene {
    stage: Stage,
    id: ReleaseId,
    manifest: Manifest,
    observer: LinuxObserver,
}

impl Scene {
    fn new() -> Self {
        Self::with(STILL, WatchLimits::default())
    }

    fn with(pace: WatchPace, limits: WatchLimits) -> Self {
        let mut stage = Stage::new(Scope::Root);
        let (id, manifest) = stage.release(1);
        let observer = LinuxObserver::with(Scope::Root, stage.services(), pace, limits).unwrap();
        let scene = Self { stage, id, manifest, observer };
        let first = scene.look(Depth::Events);
        assert_eq!((kinds(&first.files), first.looked.basis), (vec![], Depth::Hash), "the first look reads everything");
        scene
    }

    fn root(&self) -> PathBuf {
        self.stage.place.release(&self.id)
    }

    fn look(&self, depth: Depth) -> Seen {
        self.look_with(&self.observer, depth)
    }

    fn look_with(&self, observer: &LinuxObserver, depth: Depth) -> Seen {
        let look = Look {
            place: &self.stage.place,
            held: Some((&self.id, &self.manifest)),
            running: None,
            known: &self.stage.known,
            neighbours: &[],
            activated: None,
        };
        observer.look_to(depth, &look).unwrap()
    }

    /// What an observer sees that knows nothing yet, and so reads everything.
    fn fresh(&self) -> Vec<FileDeviation> {
        let observer = LinuxObserver::with(Scope::Root, self.stage.services(), STILL, WatchLimits::default()).unwrap();
        let seen = self.look_with(&observer, Depth::Sweep);
        assert_eq!(seen.looked.basis, Depth::Hash);
        without_ages(seen.files)
    }

    /// Does something, waits until it is told, and looks no deeper than that needs.
    async fn after(&self, change: impl FnOnce(&Path)) -> Seen {
        let mut noticed = self.observer.noticed().unwrap();
        noticed.mark_unchanged();
        change(&self.root());
        tokio::time::timeout(PATIENCE, noticed.changed()).await.expect("it was never told").unwrap();
        self.look(Depth::Events)
    }

    /// Looks no deeper than is needed, again and again, until the look is as wanted.
    async fn until(&self, is_so: impl Fn(&Looked) -> bool) -> Seen {
        let search = async {
            loop {
                let seen = self.look(Depth::Events);
                if is_so(&seen.looked) {
                    return seen;
                }
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
        };
        tokio::time::timeout(PATIENCE, search).await.expect("no look ever was like that")
    }
}

/// A file that is mapped for writing for as long as this lives.
struct Mapping {
    start: *mut u8,
    length: usize,
}

impl Mapping {
    #[allow(unsafe_code)]
    fn of(path: &Path) -> Self {
        let file = fs::File::options().read(true).write(true).open(path).unwrap();
        let length = usize::try_from(file.metadata().unwrap().len()).unwrap();
        let access = libc::PROT_READ | libc::PROT_WRITE;
        // SAFETY: a new mapping of a whole file at a place of the kernel's choice; no memory that is in use is touched.
        let start = unsafe { libc::mmap(std::ptr::null_mut(), length, access, libc::MAP_SHARED, file.as_raw_fd(), 0) };
        assert_ne!(start, libc::MAP_FAILED, "{}", std::io::Error::last_os_error());
        Self { start: start.cast(), length }
    }

    #[allow(unsafe_code)]
    fn store(&self, place: usize, byte: u8) {
        assert!(place < self.length);
        // SAFETY: it lies within the mapping, to which no reference exists, and nobody shortens the file.
        unsafe { self.start.add(place).write_volatile(byte) };
    }
}

impl Drop for Mapping {
    #[allow(unsafe_code)]
    fn drop(&mut self) {
        // SAFETY: this is the mapping that was made above; it is unmapped once, and not used afterwards.
        unsafe { libc::munmap(self.start.cast(), self.length) };
    }
}

fn kinds(files: &[FileDeviation]) -> Vec<(String, DeviationKind)> {
    files.iter().map(|file| (file.path.clone(), file.kind)).collect()
}

fn without_ages(mut files: Vec<FileDeviation>) -> Vec<FileDeviation> {
    files.iter_mut().for_each(|file| file.changed = None);
    files
}

/// One change to a watched release, which must be told, and what must be seen of it without a look at everything.
async fn told(change: impl FnOnce(&Path), expected: &[(&str, DeviationKind)]) {
    let scene = Scene::new();
    let seen = scene.after(change).await;
    let expected: Vec<_> = expected.iter().map(|(path, kind)| ((*path).to_owned(), *kind)).collect();
    assert_eq!(kinds(&seen.files), expected);
    assert_eq!(without_ages(seen.files), scene.fresh());
}

#[tokio::test]
async fn each_kind_of_tampering_is_told_and_seen() {
    use DeviationKind::{Extra, File, Missing, Mode, Symlink};
    told(|root| fs::write(root.join("etc/conf"), "number = 9\n").unwrap(), &[("etc/conf", File)]).await;
    told(|root| fs::write(root.join("etc/conf"), "longer than it was before\n").unwrap(), &[("etc/conf", File)]).await;
    told(
        |root| {
            fs::write(root.with_extension("beside"), "number = 9\n").unwrap();
            fs::rename(root.with_extension("beside"), root.join("etc/conf")).unwrap();
        },
        &[("etc/conf", File)],
    )
    .await;
    told(
        |root| fs::set_permissions(root.join("etc/conf"), fs::Permissions::from_mode(0o600)).unwrap(),
        &[("etc/conf", Mode)],
    )
    .await;
    told(|root| fs::set_permissions(root.join("etc"), fs::Permissions::from_mode(0o700)).unwrap(), &[("etc", Mode)])
        .await;
    told(|root| fs::remove_file(root.join("etc/conf")).unwrap(), &[("etc/conf", Missing)]).await;
    told(|root| fs::write(root.join("etc/more"), "").unwrap(), &[("etc/more", Extra)]).await;
    told(|root| fs::create_dir(root.join("more")).unwrap(), &[("more", Extra)]).await;
    told(
        |root| {
            fs::remove_file(root.join("conf")).unwrap();
            symlink("bin/sleep", root.join("conf")).unwrap();
        },
        &[("conf", Symlink)],
    )
    .await;
    told(|root| fs::remove_dir_all(root.join("etc")).unwrap(), &[("etc", Missing), ("etc/conf", Missing)]).await;
}

#[tokio::test]
async fn restored_times_and_size_do_not_hide_a_change() {
    told(
        |root| {
            let path = root.join("etc/conf");
            let before = fs::metadata(&path).unwrap().modified().unwrap();
            fs::write(&path, "number = 9\n").unwrap();
            fs::File::options().write(true).open(&path).unwrap().set_modified(before).unwrap();
        },
        &[("etc/conf", DeviationKind::File)],
    )
    .await;
}

/// Another process maps the file and writes into it: what is told is the end of the mapping.
#[tokio::test]
async fn writing_through_a_mapping_is_told_when_the_mapping_ends() {
    let python = "import mmap,sys\nwith open(sys.argv[1],'r+b') as f, mmap.mmap(f.fileno(),0) as m: m[9:10]=b'9'";
    let writes = |root: &Path| {
        let status = std::process::Command::new("python3").args(["-c", python]).arg(root.join("etc/conf")).status();
        assert!(status.expect("python3 is needed to write through a mapping").success());
    };
    told(writes, &[("etc/conf", DeviationKind::File)]).await;
}

#[tokio::test]
async fn what_is_put_back_is_seen_as_well() {
    let scene = Scene::new();
    let conf = scene.root().join("etc/conf");
    let seen = scene.after(|_| fs::write(&conf, "number = 9\n").unwrap()).await;
    assert_eq!(kinds(&seen.files), [("etc/conf".to_owned(), DeviationKind::File)]);
    let seen = scene.after(|_| fs::write(&conf, "number = 1\n").unwrap()).await;
    assert_eq!((seen.files, seen.looked.basis), (vec![], Depth::Events));
}

/// What is not touched is neither opened nor looked at: the access times of everything stay what they were.
#[tokio::test]
async fn what_is_not_touched_is_said_again() {
    let scene = Scene::new();
    let mut last = scene.look(Depth::Events);
    for _ in 0..3 {
        let next = scene.look(Depth::Events);
        assert_eq!((next.looked.basis, &next.files), (Depth::Events, &last.files));
        assert!(next.looked.swept >= last.looked.swept && next.looked.hashed >= last.looked.hashed);
        assert_eq!(next.looked.unwatched, None);
        last = next;
    }
    assert_eq!(scene.look(Depth::Sweep).looked.basis, Depth::Sweep);
    assert_eq!(scene.look(Depth::Hash).looked.basis, Depth::Hash);
}

#[tokio::test]
async fn a_link_switched_by_hand_is_told() {
    let mut scene = Scene::new();
    scene.stage.activate(&scene.id.clone());
    let seen = scene
        .after(|root| {
            let current = root.parent().unwrap().parent().unwrap().join("current");
            fs::remove_file(&current).unwrap();
        })
        .await;
    assert_eq!(seen.current, None);
}

/// Too many changes to list lead to a look at everything, which says so.
#[tokio::test]
async fn more_changes_than_can_be_listed_lead_to_a_sweep() {
    let scene = Scene::with(STILL, WatchLimits { marks: 3, ..WatchLimits::default() });
    let seen = scene
        .after(|root| {
            for number in 0..4 {
                fs::write(root.join(format!("extra-{number}")), "").unwrap();
            }
        })
        .await;
    // The ears may have been told in two parts; the state is whole either way.
    assert_eq!((seen.files.len(), seen.looked.unwatched), (4, None));
    assert_eq!(without_ages(scene.look(Depth::Events).files), scene.fresh());
}

/// Without enough watches every look is a sweep, and says why; nothing is missed.
#[test]
fn without_watches_everything_is_swept_and_that_is_said() {
    let scene = Scene::with(STILL, WatchLimits { watches: 3, ..WatchLimits::default() });
    let why = |looked: Looked| looked.unwatched.unwrap_or_default();
    let seen = scene.look(Depth::Events);
    assert_eq!(seen.looked.basis, Depth::Sweep);
    assert!(why(seen.looked).contains("limit of 3"));
    fs::write(scene.root().join("etc/conf"), "number = 9\n").unwrap();
    let seen = scene.look(Depth::Events);
    assert_eq!((kinds(&seen.files), seen.looked.basis), (vec![("etc/conf".into(), DeviationKind::File)], Depth::Sweep));
    assert_eq!(without_ages(seen.files), scene.fresh());
}

/// A release that is moved away and one that is put in its place are not taken for the one that was watched.
#[tokio::test]
async fn a_moved_release_is_looked_at_anew_and_watched_again() {
    let scene = Scene::new();
    let away = scene.root().with_extension("away");
    let seen = scene.after(|root| fs::rename(root, &away).unwrap()).await;
    assert_eq!(seen.files[0].kind, DeviationKind::Missing);
    assert_eq!(without_ages(seen.files), scene.fresh());
    let seen = scene.after(|root| fs::rename(&away, root).unwrap()).await;
    assert_eq!((seen.files, seen.looked.unwatched), (vec![], None));
    // And it is watched where it is now.
    let seen = scene.after(|root| fs::write(root.join("etc/conf"), "number = 9\n").unwrap()).await;
    assert_eq!((kinds(&seen.files).len(), seen.looked.basis), (1, Depth::Events));
}

/// The services' root itself moves: no watch below it is told, and the path leads elsewhere.
#[test]
fn a_moved_parent_is_not_missed() {
    let scene = Scene::new();
    let services = scene.stage.services();
    let away = services.with_extension("away");
    fs::rename(&services, &away).unwrap();
    assert_eq!(scene.look(Depth::Events).files[0].kind, DeviationKind::Missing);
    fs::rename(&away, &services).unwrap();
    let seen = scene.look(Depth::Events);
    assert_eq!((seen.files, seen.looked.unwatched), (vec![], None));
}

/// A directory of the release that is removed and made again is watched again.
#[tokio::test]
async fn a_directory_made_again_is_watched_again() {
    let scene = Scene::new();
    scene.after(|root| fs::remove_dir_all(root.join("etc")).unwrap()).await;
    let seen = scene
        .after(|root| {
            fs::create_dir(root.join("etc")).unwrap();
            fs::set_permissions(root.join("etc"), fs::Permissions::from_mode(0o755)).unwrap();
            fs::write(root.join("etc/conf"), "number = 1\n").unwrap();
            fs::set_permissions(root.join("etc/conf"), fs::Permissions::from_mode(0o644)).unwrap();
        })
        .await;
    drop(seen);
    assert_eq!(scene.look(Depth::Events).files, []);
    let seen = scene.after(|root| fs::write(root.join("etc/conf"), "number = 9\n").unwrap()).await;
    assert_eq!((kinds(&seen.files).len(), seen.looked.basis), (1, Depth::Events));
}

/// A mapping that stays open is not told; a sweep finds what was written through it by its change time.
#[test]
fn what_is_not_told_is_found_by_a_sweep() {
    let scene = Scene::new();
    // A second name outside of what is watched: the kernel tells of the name that is used.
    let other = scene.stage.elsewhere("second-name");
    fs::hard_link(scene.root().join("etc/conf"), &other).unwrap();
    scene.look(Depth::Events);
    fs::write(&other, "number = 9\n").unwrap();
    let told = scene.look(Depth::Events);
    assert_eq!((told.files, told.looked.basis), (vec![], Depth::Events), "if this is told by now, the docs can say so");
    let swept = scene.look(Depth::Sweep);
    assert_eq!(kinds(&swept.files), [("etc/conf".to_owned(), DeviationKind::File)]);
    // And without anybody asking, when a sweep is due.
    let pace = WatchPace { sweep_every: Millis(0), ..STILL };
    let scene = Scene::with(pace, WatchLimits::default());
    let other = scene.stage.elsewhere("second-name");
    fs::hard_link(scene.root().join("etc/conf"), &other).unwrap();
    fs::write(&other, "number = 9\n").unwrap();
    let seen = scene.look(Depth::Events);
    assert_eq!((kinds(&seen.files).len(), seen.looked.basis), (1, Depth::Sweep));
}

/// A page that is mapped and dirty when it is read changes without another change time until it is written back: no
/// event tells of that and no sweep sees it, but whoever reads everything again does.
#[tokio::test]
async fn what_neither_an_event_nor_a_sweep_shows_is_found_by_reading_again() {
    const NUMBER: usize = "number = ".len();
    let scene = Scene::new();
    let conf = scene.root().join("etc/conf");
    let times = || {
        let found = fs::metadata(&conf).unwrap();
        ((found.mtime(), found.mtime_nsec()), (found.ctime(), found.ctime_nsec()))
    };
    let mapping = Mapping::of(&conf);
    // Dirty from here on, with the bytes that it should have.
    mapping.store(NUMBER, b'1');
    let dirtied = times();
    assert_eq!(scene.look(Depth::Hash).files, []);
    let pace = WatchPace { rehash_every: Millis(50), rehash_look_every: ALERT, ..STILL };
    let rereading = LinuxObserver::with(Scope::Root, scene.stage.services(), pace, WatchLimits::default()).unwrap();
    let first = scene.look_with(&rereading, Depth::Events);
    assert_eq!((first.files, first.looked.basis), (vec![], Depth::Hash));
    let mut noticed = rereading.noticed().unwrap();
    noticed.mark_unchanged();
    mapping.store(NUMBER, b'9');
    let told = scene.look(Depth::Events);
    assert_eq!((told.files, told.looked.basis), (vec![], Depth::Events), "if this is told by now, the docs can say so");
    // Unless the kernel wrote the page back just before, whenever it likes to: then the change has a time.
    let swept = scene.look(Depth::Sweep);
    assert_eq!(swept.files.is_empty(), times() == dirtied, "{swept:?}");
    // A notice may be of a program that began somewhere.
    let found = async {
        loop {
            noticed.changed().await.unwrap();
            let seen = scene.look_with(&rereading, Depth::Events);
            if !seen.files.is_empty() {
                return seen;
            }
        }
    };
    let seen = tokio::time::timeout(PATIENCE, found).await.expect("it was never found");
    assert_eq!(
        (kinds(&seen.files), seen.looked.basis),
        (vec![("etc/conf".to_owned(), DeviationKind::File)], Depth::Events)
    );
    assert_eq!(without_ages(seen.files), scene.fresh());
}

/// One change that should have been told and was not makes everything doubtful: all of it is read again, once.
#[tokio::test]
async fn what_was_not_told_and_is_swept_up_has_everything_read_again() {
    const A_WHILE: Millis = Millis(50);
    let scene = Scene::with(WatchPace { rehash_look_every: ALERT, ..STILL }, WatchLimits::default());
    // While nothing is odd nothing is read again, although it is looked for all the time.
    let is_long_ago = |looked: &Looked| looked.hashed.is_some_and(|hashed| hashed >= A_WHILE);
    scene.until(is_long_ago).await;
    let other = scene.stage.elsewhere("second-name");
    fs::hard_link(scene.root().join("etc/conf"), &other).unwrap();
    fs::write(&other, "number = 9\n").unwrap();
    let swept = scene.look(Depth::Sweep);
    assert_eq!(kinds(&swept.files), [("etc/conf".to_owned(), DeviationKind::File)]);
    // The reading is younger than the sweep that saw it: nobody asked for it, and none was due.
    let seen = scene.until(|looked| looked.hashed.is_some_and(|hashed| hashed <= looked.swept)).await;
    assert_eq!((kinds(&seen.files), seen.looked.basis), (kinds(&swept.files), Depth::Events));
    scene.until(is_long_ago).await;
}

/// One thing that somebody does to a release.
#[derive(Debug, Clone)]
enum Deed {
    Write(usize, u8),
    Replace(usize, u8),
    Chmod(usize, u32),
    Remove(usize),
    Rename(usize, usize),
    Link(usize, usize),
    MakeDirectory(usize),
    Look,
    Sweep,
}

const NAMES: [&str; 9] = ["etc/conf", "bin/sleep", "conf", "etc", "bin", "etc/more", "extra", "more/deep", "more"];
const MODES: [u32; 4] = [0o644, 0o755, 0o600, 0o777];

fn deed() -> impl Strategy<Value = Deed> {
    let name = 0..NAMES.len();
    prop_oneof![
        (name.clone(), 0..3u8).prop_map(|(at, what)| Deed::Write(at, what)),
        (name.clone(), 0..3u8).prop_map(|(at, what)| Deed::Replace(at, what)),
        (name.clone(), 0..4usize).prop_map(|(at, mode)| Deed::Chmod(at, MODES[mode])),
        name.clone().prop_map(Deed::Remove),
        (name.clone(), name.clone()).prop_map(|(from, to)| Deed::Rename(from, to)),
        (name.clone(), name.clone()).prop_map(|(at, to)| Deed::Link(at, to)),
        name.prop_map(Deed::MakeDirectory),
        Just(Deed::Look),
        Just(Deed::Sweep),
    ]
}

impl Deed {
    /// Does it as far as it can be done: what fails changed nothing.
    fn is_done(&self, scene: &Scene) {
        let root = scene.root();
        let at = |name: &usize| root.join(NAMES[*name]);
        let text = |what: &u8| format!("number = {what}\n");
        let _ = match self {
            Self::Write(name, what) => fs::write(at(name), text(what)),
            Self::Replace(name, what) => {
                let beside = root.with_extension("beside");
                fs::write(&beside, text(what)).and_then(|()| fs::rename(&beside, at(name)))
            }
            Self::Chmod(name, mode) => fs::set_permissions(at(name), fs::Permissions::from_mode(*mode)),
            Self::Remove(name) => fs::remove_file(at(name)).or_else(|_| fs::remove_dir_all(at(name))),
            Self::Rename(from, to) => fs::rename(at(from), at(to)),
            Self::Link(name, to) => symlink(NAMES[*to], at(name)),
            Self::MakeDirectory(name) => fs::create_dir(at(name)),
            Self::Look => {
                scene.look(Depth::Events);
                Ok(())
            }
            Self::Sweep => {
                scene.look(Depth::Sweep);
                Ok(())
            }
        };
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 200, failure_persistence: None, ..ProptestConfig::default() })]
    /// Whatever is done, and whenever is looked in between: what is said from marks is what a fresh look says.
    #[test]
    fn what_is_said_again_is_what_a_fresh_look_says(deeds in proptest::collection::vec(deed(), 1..20)) {
        let scene = Scene::new();
        for deed in &deeds {
            deed.is_done(&scene);
        }
        let said = without_ages(scene.look(Depth::Events).files);
        prop_assert_eq!(said, scene.fresh());
    }
}

/// Old code that comes between two looks is seen by the next, however shallow: a copy that somebody starts, and a process
/// that was looked into before and executes something else now.
#[tokio::test]
async fn whoever_is_new_or_executes_something_else_is_looked_into() {
    use platform_stage::ByHand;
    use std::process::{Command, Stdio};
    let scene = Scene::new();
    let program = scene.root().join("bin/sleep");
    // It stands outside and executes a shell until it is told to go on.
    let mut shell = Command::new("sh")
        .args(["-c", "read line; exec \"$0\" 612"])
        .arg(&program)
        .current_dir("/")
        .stdin(Stdio::piped())
        .spawn()
        .unwrap();
    let seen = |pid: u32| scene.look(Depth::Events).processes.into_iter().find(|process| process.pid == pid);
    assert!(seen(shell.id()).is_none());
    drop(shell.stdin.take());
    let by_hand = ByHand::start(&program, &["613"], Path::new("/"));
    let pids = [shell.id(), by_hand.0.id()];
    let _shell = ByHand(shell);
    let search = async {
        while !pids.iter().all(|pid| seen(*pid).is_some()) {
            tokio::task::yield_now().await;
        }
    };
    tokio::time::timeout(PATIENCE, search).await.expect("one of them was never seen");
    // And both are gone from what is said when they are gone.
    drop((_shell, by_hand));
    assert!(pids.iter().all(|pid| seen(*pid).is_none()));
}
