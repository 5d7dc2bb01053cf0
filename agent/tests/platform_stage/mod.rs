//! A stage for real processes: a service root in a temporary directory with releases made of copies of the
//! machine's own programs, each with bytes of its own so that no other process of the machine runs the same file.
#![allow(dead_code, clippy::unwrap_used, missing_docs)]

use std::collections::BTreeMap;
use std::fs;
use std::io::Write;
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use fleet::evidence::Process;
use fleet::manifest::{Entry, EntryKind, Manifest};
use fleet::{Digest, Millis, ReleaseId};
use fleet_agent::known::Known;
use fleet_agent::platform::linux::{LinuxObserver, LinuxSupervisor};
use fleet_agent::platform::{Launch, Look, Observer, Running, Scope, Seen, ServicePlace, Supervisor};
use sha2::Digest as _;

/// Long enough for any machine; nothing waits for it to pass.
pub const PATIENCE: Duration = Duration::from_secs(30);

pub struct Stage {
    directory: tempfile::TempDir,
    pub place: ServicePlace,
    pub supervisor: LinuxSupervisor,
    pub observer: LinuxObserver,
    pub known: Known,
    /// The roots of other services with an order.
    pub neighbours: Vec<PathBuf>,
    /// Clock ticks at which the release at hand was activated.
    pub activated: Option<(String, u64)>,
}

impl Stage {
    pub fn new(scope: Scope) -> Self {
        let directory = tempfile::tempdir().unwrap();
        fs::set_permissions(directory.path(), fs::Permissions::from_mode(0o755)).unwrap();
        let services = fs::canonicalize(directory.path()).unwrap().join("services");
        let root = services.join("hello");
        fs::create_dir_all(root.join("releases")).unwrap();
        Self {
            directory,
            place: ServicePlace { service: "hello".parse().unwrap(), root },
            supervisor: LinuxSupervisor::new().unwrap(),
            observer: LinuxObserver::new(scope, services).unwrap(),
            known: Known::default(),
            neighbours: Vec::new(),
            activated: None,
        }
    }

    pub fn services(&self) -> PathBuf {
        self.place.root.parent().unwrap().to_owned()
    }

    pub fn elsewhere(&self, name: &str) -> PathBuf {
        self.directory.path().join(name)
    }

    /// Writes release `number` with `bin/sleep` (its own bytes), `etc/conf`, `run.sh` and a link; `current` is not touched.
    pub fn release(&mut self, number: u8) -> (ReleaseId, Manifest) {
        let id: ReleaseId = format!("r-{number:012x}").parse().unwrap();
        let root = self.place.release(&id);
        fs::create_dir_all(root.join("bin")).unwrap();
        fs::create_dir_all(root.join("etc")).unwrap();
        copy_program("/bin/sleep", &root.join("bin/sleep"), &format!("release {number} {}", root.display()));
        fs::write(root.join("etc/conf"), format!("number = {number}\n")).unwrap();
        symlink("etc/conf", root.join("conf")).unwrap();
        let mut entries = vec![
            entry("conf", 0o777, EntryKind::Symlink { target: "etc/conf".into() }),
            entry("etc", 0o755, EntryKind::Directory),
        ];
        for (path, mode) in [("bin/sleep", 0o755), ("etc/conf", 0o644)] {
            fs::set_permissions(root.join(path), fs::Permissions::from_mode(mode)).unwrap();
            let sha256 = digest(&root.join(path));
            self.known.insert(sha256, id.clone());
            entries.push(entry(
                path,
                mode,
                EntryKind::File { sha256, size: fs::metadata(root.join(path)).unwrap().len() },
            ));
        }
        fs::set_permissions(root.join("etc"), fs::Permissions::from_mode(0o755)).unwrap();
        (id, Manifest::new(entries).unwrap())
    }

    /// Switches `current` as the agent does, by rename, and notes the time.
    pub fn activate(&mut self, id: &ReleaseId) {
        let new = self.place.root.join("current.new");
        let _ = fs::remove_file(&new);
        symlink(Path::new("releases").join(id.as_str()), &new).unwrap();
        fs::rename(&new, self.place.current()).unwrap();
        self.activated = Some((self.observer.boot_id(), self.observer.ticks_now()));
    }

    pub fn launch(&self, release: &ReleaseId, command: &[&str]) -> Launch {
        Launch {
            place: self.place.clone(),
            release: release.clone(),
            command: command.iter().map(|&part| part.to_owned()).collect(),
            environment: BTreeMap::from([("PATH".into(), "/usr/bin:/bin".into()), ("GREETING".into(), "hello".into())]),
            user: None,
            log: self.place.root.join(".fleet/log"),
        }
    }

    pub async fn start(&self, release: &ReleaseId, command: &[&str]) -> Running {
        self.supervisor.start(&self.launch(release, command)).await.unwrap()
    }

    pub fn look(&self, held: Option<(&ReleaseId, &Manifest)>, running: Option<&Running>) -> Seen {
        let activated = self.activated.as_ref().map(|(boot_id, ticks)| (boot_id.as_str(), *ticks));
        let look =
            Look { place: &self.place, held, running, known: &self.known, neighbours: &self.neighbours, activated };
        self.observer.look(&look).unwrap()
    }

    /// The process of that number, looked for until it is there and executes what `is_ready` wants: exec of a child
    /// is not an event that another process can await.
    pub async fn seen(&self, running: Option<&Running>, is_ready: impl Fn(&Process) -> bool) -> Process {
        let search = async {
            loop {
                if let Some(found) = self.look(None, running).processes.into_iter().find(&is_ready) {
                    return found;
                }
                tokio::time::sleep(Duration::from_millis(10)).await;
            }
        };
        tokio::time::timeout(PATIENCE, search).await.expect("no such process was seen")
    }

    pub async fn stop(&self, running: Option<&Running>, timeout: Millis) -> fleet_agent::platform::Stopped {
        self.supervisor.stop(&self.place, running, timeout).await.unwrap()
    }

    pub fn log(&self) -> String {
        fs::read_to_string(self.place.root.join(".fleet/log")).unwrap_or_default()
    }

    /// The log once it has `text`.
    pub async fn logged(&self, text: &str) -> String {
        let search = async {
            while !self.log().contains(text) {
                tokio::time::sleep(Duration::from_millis(10)).await;
            }
            self.log()
        };
        tokio::time::timeout(PATIENCE, search)
            .await
            .unwrap_or_else(|_| panic!("'{text}' was never logged: {}", self.log()))
    }

    pub async fn gone(&self, running: &Running) {
        tokio::time::timeout(PATIENCE, self.supervisor.gone(running)).await.expect("it never ended");
    }
}

/// What a test leaves running is ended with it; marks find it, whatever went wrong.
impl Drop for Stage {
    fn drop(&mut self) {
        let (place, supervisor) = (self.place.clone(), self.supervisor.clone());
        let ending = std::thread::spawn(move || {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
            runtime.block_on(supervisor.stop(&place, None, Millis(0))).map(drop)
        });
        let _ = ending.join();
    }
}

/// A process that no supervisor started, ended with the test.
pub struct ByHand(pub Child);

impl ByHand {
    pub fn start(program: &Path, arguments: &[&str], directory: &Path) -> Self {
        let child =
            Command::new(program).args(arguments).env_clear().current_dir(directory).stdin(Stdio::null()).spawn();
        Self(child.unwrap())
    }

    pub fn runs(&mut self) -> bool {
        self.0.try_wait().unwrap().is_none()
    }
}

impl Drop for ByHand {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// A copy with bytes of its own behind the end, which the loader ignores.
pub fn copy_program(from: &str, to: &Path, salt: &str) {
    // Written under another name and by another process, so that no fork of this one holds it open for writing.
    let new = to.with_extension("new");
    fs::copy(from, &new).unwrap();
    fs::OpenOptions::new().append(true).open(&new).unwrap().write_all(salt.as_bytes()).unwrap();
    fs::set_permissions(&new, fs::Permissions::from_mode(0o755)).unwrap();
    assert!(Command::new("cp").arg("-p").arg(&new).arg(to).status().unwrap().success());
    fs::remove_file(&new).unwrap();
}

pub fn digest(path: &Path) -> Digest {
    Digest(sha2::Sha256::digest(fs::read(path).unwrap()).into())
}

fn entry(path: &str, mode: u32, kind: EntryKind) -> Entry {
    Entry { path: path.parse().unwrap(), mode, kind }
}
