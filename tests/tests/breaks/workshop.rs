//! A copy of the repository in which the engine is broken, built and tested; the repository itself is never touched.

use std::collections::BTreeSet;
use std::ffi::OsString;
use std::fs::{self, File};
use std::hash::{DefaultHasher, Hash as _, Hasher as _};
use std::io::Write as _;
use std::os::unix::process::CommandExt as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::thread::sleep;
use std::time::{Duration, Instant};

use nix::sys::signal::{Signal, killpg};
use nix::unistd::Pid;

use crate::Break;
use crate::names::Names;

/// Without the test of the model that is about the model and not about the engine.
const TESTS: &str =
    "test --locked -p fleet --no-fail-fast --lib --test model --test peers -- --skip merged_states_behave_alike";
/// A broken engine may say facts without end, or never end otherwise.
const LONGEST: Duration = Duration::from_secs(900);
/// Address space of each process in KiB: one that says facts without end stops itself.
const MOST_MEMORY: u32 = 12_000_000;
/// Every run is the same: the histories are made up from this seed, and are not made smaller when one shows a break.
const HISTORIES: [(&str, &str); 3] =
    [("PROPTEST_RNG_SEED", "10"), ("PROPTEST_MAX_SHRINK_ITERS", "0"), ("PROPTEST_DISABLE_FAILURE_PERSISTENCE", "1")];

/// The last line of what is kept of a run: what ends so was done to the end.
const GREEN: &str = "\nended: green\n";
const RED: &str = "\nended: red\n";
const ENDLESS: &str = "\nended: never\n";

/// How it went.
#[derive(Debug)]
pub(crate) enum Ending {
    /// Every test passed.
    Green,
    /// Some did not: the names of whatever noticed.
    Caught(BTreeSet<String>),
    /// No test was run, since it does not compile: why.
    Unbuilt(String),
    /// It was stopped.
    Endless,
}

/// The copy, and where it is built.
pub(crate) struct Workshop {
    tree: PathBuf,
    target: PathBuf,
    /// What was said of these sources, break by break.
    said: PathBuf,
}

impl Workshop {
    /// A fresh copy of the repository at `root`; what was built and said before is used again.
    pub(crate) fn copy_of(root: &Path) -> Self {
        let place = Path::new(env!("CARGO_TARGET_TMPDIR")).join("breaks");
        let (tree, target) = (place.join("tree"), place.join("target"));
        let _ = fs::remove_dir_all(&tree);
        fs::create_dir_all(&tree).unwrap();
        copy(root, &tree);
        let mut hasher = DefaultHasher::new();
        read(&tree.join("fleet"), &mut hasher);
        let said = place.join("said").join(format!("{:016x}", hasher.finish()));
        fs::create_dir_all(&said).unwrap();
        Self { tree, target, said }
    }

    /// Tests the copy as it is.
    pub(crate) fn test_sound(&self, names: &Names) -> (Ending, f32) {
        self.test(names, "unbroken", "nothing is broken")
    }

    /// Breaks one rule, tests that, and puts the rule back.
    pub(crate) fn test_broken(&self, one: &Break, names: &Names) -> (Ending, f32) {
        let path = self.tree.join(one.file);
        let sound = fs::read_to_string(&path).unwrap();
        fs::write(&path, sound.replacen(one.rule, one.broken, 1)).unwrap();
        let title = format!("{}: {}\nbecomes: {}", one.file, one.rule, one.broken);
        let ending =
            self.test(names, &one.what.to_lowercase().replace(|c: char| !c.is_ascii_alphanumeric(), "-"), &title);
        fs::write(&path, sound).unwrap();
        ending
    }

    /// Builds and tests the copy, unless just that was done before; says how it ended and how long it took.
    fn test(&self, names: &Names, name: &str, title: &str) -> (Ending, f32) {
        let (path, began) = (self.said.join(format!("{name}.txt")), Instant::now());
        let before = fs::read(&path).map(|said| String::from_utf8_lossy(&said).into_owned()).unwrap_or_default();
        let is_done = before.starts_with(title) && [GREEN, RED, ENDLESS].iter().any(|end| before.ends_with(end));
        let said = if is_done { before } else { self.test_now(&path, title) };
        let ending = if said.ends_with(GREEN) {
            Ending::Green
        } else if said.ends_with(ENDLESS) {
            Ending::Endless
        } else {
            let caught = names.caught(&said);
            let error = || said.lines().find(|line| line.starts_with("error")).unwrap_or_default().to_owned();
            if caught.is_empty() { Ending::Unbuilt(error()) } else { Ending::Caught(caught) }
        };
        (ending, began.elapsed().as_secs_f32())
    }

    fn test_now(&self, path: &Path, title: &str) -> String {
        fs::write(path, format!("{title}\n\n")).unwrap();
        let mut said = File::options().append(true).open(path).unwrap();
        let end = match wait(self.tests(&said).spawn().unwrap()) {
            None => ENDLESS,
            Some(status) if status.success() => GREEN,
            Some(_) => RED,
        };
        said.write_all(end.as_bytes()).unwrap();
        String::from_utf8_lossy(&fs::read(path).unwrap()).into_owned()
    }

    fn tests(&self, said: &File) -> Command {
        let cargo = std::env::var_os("CARGO").unwrap_or_else(|| OsString::from("cargo"));
        let mut command = Command::new("sh");
        command.args(["-c", &format!("ulimit -v {MOST_MEMORY}; exec \"$@\""), "sh"]).arg(cargo);
        command.args(TESTS.split(' '));
        command.current_dir(&self.tree).env("CARGO_TARGET_DIR", &self.target).envs(HISTORIES);
        command.env("CARGO_INCREMENTAL", "1").env("CARGO_PROFILE_DEV_DEBUG", "none").env("CARGO_TERM_COLOR", "never");
        command.env_remove("RUST_BACKTRACE");
        command
            .stdin(Stdio::null())
            .stdout(said.try_clone().unwrap())
            .stderr(said.try_clone().unwrap())
            .process_group(0);
        command
    }
}

/// None if it took too long, and was stopped with everything that it had started.
fn wait(mut child: Child) -> Option<ExitStatus> {
    let end = Instant::now() + LONGEST;
    while Instant::now() < end {
        if let Some(status) = child.try_wait().unwrap() {
            return Some(status);
        }
        sleep(Duration::from_millis(50));
    }
    let _ = killpg(Pid::from_raw(child.id().cast_signed()), Signal::SIGKILL);
    let _ = child.wait();
    None
}

/// Copies what belongs to the repository: neither what was built nor its history.
fn copy(from: &Path, to: &Path) {
    for entry in fs::read_dir(from).unwrap() {
        let (path, name) = entry.map(|entry| (entry.path(), entry.file_name())).unwrap();
        if path.is_dir() && !["target", ".git", ".dev"].iter().any(|left_out| name == *left_out) {
            fs::create_dir_all(to.join(&name)).unwrap();
            copy(&path, &to.join(&name));
        } else if path.is_file() && name != ".git" {
            fs::copy(&path, to.join(&name)).unwrap();
        }
    }
}

/// Takes in every file of a folder, with its name.
fn read(folder: &Path, hasher: &mut DefaultHasher) {
    let mut paths: Vec<PathBuf> = fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path()).collect();
    paths.sort();
    for path in paths {
        path.file_name().hash(hasher);
        if path.is_dir() { read(&path, hasher) } else { fs::read(&path).unwrap().hash(hasher) }
    }
}
