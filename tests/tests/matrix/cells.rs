//! One cell of the matrix: a service of its own, started from version 1, switched to version 2 in one of three ways, with
//! a process left behind.

use std::collections::BTreeMap;
use std::fs;
use std::os::unix::fs::{PermissionsExt as _, symlink};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Arc;

use fleet::drift::{Catalogue, Comparison, Finding, Standing, compare};
use fleet::evidence::{
    Confirmation, Health, LinkState, Mapped, Owner, Place, Process, Progress, ServiceEvidence, Started,
};
use fleet::manifest::{Entry, EntryKind, Manifest};
use fleet::release::{DESCRIPTOR_FORMAT, Descriptor, Grade, Run};
use fleet::{Digest, Generation, Hold, Millis, Order, ReleaseId};
use fleet_agent::known::Known;
use fleet_agent::platform::linux::{LinuxObserver, LinuxSupervisor};
use fleet_agent::platform::{Launch, Look, Observer, Running, Scope, Seen, ServicePlace, Supervisor};
use fleet_tests::until;

use crate::needrestart;
use crate::programs::{Program, Whom};

/// How the new version gets to where the old one was.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Switch {
    /// Each new file is renamed over the old one.
    Rename,
    /// `current` points to another directory; nothing of the old one is touched.
    Symlink,
    /// The bytes are overwritten where they lie, as `cp -f` does; a program that runs cannot be, and is unlinked first.
    InPlace,
}

impl Switch {
    pub const ALL: [Switch; 3] = [Switch::Rename, Switch::Symlink, Switch::InPlace];

    pub fn name(self) -> &'static str {
        match self {
            Switch::Rename => "rename",
            Switch::Symlink => "symlink",
            Switch::InPlace => "in place",
        }
    }
}

/// A machine with an agent's eyes and hands.
pub struct Theatre {
    folder: tempfile::TempDir,
    supervisor: LinuxSupervisor,
    observer: LinuxObserver,
}

impl Theatre {
    pub fn new() -> Self {
        let folder = tempfile::Builder::new().prefix("fleet-matrix-").tempdir().unwrap();
        fs::set_permissions(folder.path(), fs::Permissions::from_mode(0o755)).unwrap();
        let services = folder.path().join("services");
        fs::create_dir(&services).unwrap();
        Self {
            supervisor: LinuxSupervisor::new().unwrap(),
            observer: LinuxObserver::new(Scope::Machine, services).unwrap(),
            folder,
        }
    }
}

/// A service in the middle of its story.
pub struct Cell<'a> {
    theatre: &'a Theatre,
    pub program: &'a Program,
    switch: Switch,
    place: ServicePlace,
    old: (ReleaseId, Arc<Descriptor>),
    new: (ReleaseId, Arc<Descriptor>),
    running: Running,
    activated: (String, u64),
    /// The process that is left running.
    pub left: u32,
}

impl<'a> Cell<'a> {
    /// Writes both versions and starts the first.
    pub async fn started(theatre: &'a Theatre, program: &'a Program, switch: Switch) -> Cell<'a> {
        let service = program.service();
        let root = fs::canonicalize(theatre.folder.path()).unwrap().join("services").join(&service);
        let place = ServicePlace { service: service.parse().unwrap(), root };
        let pipe = theatre.folder.path().join(format!("{service}.pipe"));
        nix::unistd::mkfifo(&pipe, nix::sys::stat::Mode::S_IRWXU).unwrap();
        let release = |number: u8, folder: &Path| {
            program.write(folder, number, &pipe);
            let id: ReleaseId = format!("r-{number:012x}").parse().unwrap();
            (id, Arc::new(descriptor(program, &place, number, folder)))
        };
        let ids = |number: u8| -> ReleaseId { format!("r-{number:012x}").parse().unwrap() };
        // Where the new version is written over the old one, everything around it says "new" from the beginning: the
        // directory, the marks, the working directory. Only what runs does not.
        let beside = theatre.folder.path().join(format!("{service}.next"));
        let (old, new) = match switch {
            Switch::Symlink => (release(1, &place.release(&ids(1))), release(2, &place.release(&ids(2)))),
            Switch::Rename | Switch::InPlace => (release(1, &place.release(&ids(2))), release(2, &beside)),
        };
        let from = if switch == Switch::Symlink { &old.0 } else { &new.0 };
        let running = start(theatre, program, &place, from).await;
        let activated = (theatre.observer.boot_id(), theatre.observer.ticks_now());
        let mut cell = Cell { theatre, program, switch, place, old, new, running, activated, left: 0 };
        point(&cell.place, if switch == Switch::Symlink { &cell.old.0 } else { &cell.new.0 });
        cell.left = until(&format!("{} runs", program.name), || {
            let is_it = |process: &&Process| match program.whom {
                Whom::Main => process.pid == cell.running.pid,
                Whom::Orphan => process.pid != cell.running.pid,
            };
            let seen = cell.look();
            let process = seen.processes.iter().find(is_it)?;
            cell.is_ready(process).then_some(process.pid)
        });
        cell
    }

    /// Whether it executes and has open what it will have in an hour.
    fn is_ready(&self, process: &Process) -> bool {
        let executes = Path::new(&process.executable.path).ends_with(self.program.executes)
            || process.executable.path.contains(self.program.executes);
        let own_root = fs::read_link(format!("/proc/{}/root", process.pid)).is_ok_and(|root| root != Path::new("/"));
        let own_mounts =
            fs::read_link(format!("/proc/{}/ns/mnt", process.pid)).ok() != fs::read_link("/proc/self/ns/mnt").ok();
        let open = |name: &str| process.open.iter().any(|open| open.path.ends_with(name));
        executes
            && match self.program.name {
                "Java with a jar" => open("app.jar"),
                "shell script" => open("run.sh"),
                // It says so itself, once it has read what it runs.
                "Python" | "Node" => ready(self.theatre, self.program).exists(),
                "C, its shared library" => process.mappings.iter().any(|mapped| mapped.path.ends_with("libversion.so")),
                "chrooted" => own_root,
                "own mount namespace" => own_mounts && process.command.contains("wait"),
                "orphan worker" => process.command.ends_with("wait"),
                _ => true,
            }
    }

    /// Puts version 2 in the place of version 1 and calls it active; nothing is stopped but the main process of a server
    /// whose worker is what is left.
    pub async fn switch(&mut self) {
        // A later tick, so that start and activation are not told apart by luck; and later than needrestart tolerates.
        let later = self.running.start_ticks + if needrestart::is_there() { needrestart::TOLERATED_TICKS } else { 0 };
        until("the time of the start is over", || (self.theatre.observer.ticks_now() > later).then_some(()));
        let live = self.place.release(&self.new.0);
        let beside = self.theatre.folder.path().join(format!("{}.next", self.program.service()));
        match self.switch {
            Switch::Symlink => point(&self.place, &self.new.0),
            Switch::Rename | Switch::InPlace => {
                for entry in self.new.1.manifest.entries().iter().filter(|entry| entry.kind != EntryKind::Directory) {
                    let (from, to) = (beside.join(entry.path.as_str()), live.join(entry.path.as_str()));
                    if self.switch == Switch::Rename {
                        fs::rename(from, to).unwrap();
                    } else {
                        assert!(Command::new("cp").args(["-f"]).arg(from).arg(to).status().unwrap().success());
                    }
                }
            }
        }
        self.activated.1 = self.theatre.observer.ticks_now();
        if self.program.whom == Whom::Orphan {
            let main = nix::unistd::Pid::from_raw(i32::try_from(self.running.pid).unwrap());
            nix::sys::signal::kill(main, nix::sys::signal::Signal::SIGKILL).unwrap();
            self.theatre.supervisor.gone(&self.running).await;
            self.running = start(self.theatre, self.program, &self.place, &self.new.0).await;
        }
    }

    /// What the controller makes of what is seen.
    pub fn compare(&self) -> Comparison {
        self.judge(self.look().processes)
    }

    /// Which kinds of evidence see the process that is left, each without the others.
    pub fn seen_by(&self) -> Vec<&'static str> {
        let left = self.look().processes.into_iter().find(|process| process.pid == self.left).unwrap();
        let new = || Some(self.new.0.clone());
        let placed = |mapped: Mapped| Mapped { release: mapped.release.and(new()), ..mapped };
        let all = |files: &[Mapped]| files.iter().cloned().map(placed).collect::<Vec<_>>();
        let stranger = Mapped {
            path: "/usr/bin/interpreter".into(),
            digest: None,
            release: None,
            place: Place::Outside,
            link: LinkState::Linked,
            owner: Owner::Unknown,
        };
        let (executable, nothing) = (placed(left.executable.clone()), Vec::new());
        // As everything looks that is right.
        let right = Process {
            marker: new(),
            cwd: new(),
            started: Started::AfterActivation,
            open: vec![],
            named: vec![],
            ..left.clone()
        };
        let alone = [
            ("digest", Process { executable, mappings: all(&left.mappings), ..right.clone() }),
            (
                "open-file",
                Process {
                    executable: stranger.clone(),
                    mappings: nothing.clone(),
                    open: all(&left.open),
                    named: all(&left.named),
                    ..right
                },
            ),
            (
                "context",
                Process {
                    executable: Mapped { release: left.executable.release.clone(), ..stranger },
                    mappings: nothing.clone(),
                    open: nothing.clone(),
                    named: nothing,
                    ..left.clone()
                },
            ),
        ];
        let sees = |process: Process| {
            let pid = format!("pid {} ", process.pid);
            self.judge(vec![process]).findings.iter().any(|finding| finding.key.what.starts_with(&pid))
        };
        alone.into_iter().filter(|(_, process)| sees(process.clone())).map(|(grade, _)| grade).collect()
    }

    /// Stops everything, the left one too, and starts version 2 as it should be.
    pub async fn restarted(&mut self) -> (Standing, Vec<Finding>) {
        self.theatre.supervisor.stop(&self.place, Some(&self.running), Millis(0)).await.unwrap();
        self.end_workers();
        self.running = start(self.theatre, self.program, &self.place, &self.new.0).await;
        let mut last = self.compare();
        until(&format!("{} runs anew", self.program.name), || {
            let seen = self.look();
            let main = seen.processes.iter().find(|process| process.pid == self.running.pid)?;
            let workers = if self.program.whom == Whom::Orphan { 2 } else { 1 };
            (self.is_ready_main(main) && seen.processes.len() == workers).then(|| last = self.judge(seen.processes))
        });
        (last.standing, last.findings)
    }

    fn is_ready_main(&self, process: &Process) -> bool {
        self.program.whom == Whom::Orphan || self.is_ready(process)
    }

    /// Ends what no supervisor finds: workers that have lost their marks. What they execute tells whose they are.
    fn end_workers(&self) {
        fleet_tests::Proc::all()
            .filter(|proc| proc.executable().starts_with(&self.place.root))
            .for_each(|proc| proc.kill());
    }

    fn look(&self) -> Seen {
        let digests = |of: &(ReleaseId, Arc<Descriptor>)| (of.0.clone(), of.1.manifest.digests().copied().collect());
        let known = Known::of([&self.old, &self.new].map(digests));
        let look = Look {
            place: &self.place,
            held: Some((&self.new.0, &self.new.1.manifest)),
            running: Some(&self.running),
            known: &known,
            neighbours: &[],
            activated: Some((&self.activated.0, self.activated.1)),
        };
        self.theatre.observer.look(&look).unwrap()
    }

    fn judge(&self, processes: Vec<Process>) -> Comparison {
        let mut catalogue = Catalogue::default();
        let digest =
            |descriptor: &Descriptor| fleet_bundle::digest(&mut std::io::Cursor::new(descriptor.to_json())).unwrap().0;
        for (id, descriptor) in [&self.old, &self.new] {
            catalogue.add(id.clone(), descriptor.clone(), digest(descriptor));
        }
        let order = Order {
            node: "n1".parse().unwrap(),
            service: self.place.service.clone(),
            generation: Generation(2),
            hold: Hold::Release { release: self.new.0.clone(), bundle: Digest([0; 32]), size: 1 },
            confirm: Millis(0),
        };
        let seen = self.look();
        let evidence = ServiceEvidence {
            repair: None,
            service: self.place.service.clone(),
            generation: Generation(2),
            progress: Progress::Held,
            confirmation: Confirmation::Given,
            current: self.place.live(),
            files: seen.files,
            files_omitted: seen.files_omitted,
            compared: Some(digest(&self.new.1)),
            processes,
            hidden: seen.hidden,
            outside: seen.outside,
            outside_omitted: seen.outside_omitted,
            looked: seen.looked,
            stranger: None,
            health: Health::Healthy,
        };
        compare(&order, Some(&evidence), &catalogue)
    }
}

/// What a story leaves running ends with it.
impl Drop for Cell<'_> {
    fn drop(&mut self) {
        let (place, supervisor) = (self.place.clone(), self.theatre.supervisor.clone());
        let ending = std::thread::spawn(move || {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
            runtime.block_on(supervisor.stop(&place, None, Millis(0))).map(drop)
        });
        let _ended = ending.join();
        self.end_workers();
    }
}

/// What an interpreter makes when it has read its script.
fn ready(theatre: &Theatre, program: &Program) -> PathBuf {
    theatre.folder.path().join(format!("{}.ready", program.service()))
}

async fn start(theatre: &Theatre, program: &Program, place: &ServicePlace, release: &ReleaseId) -> Running {
    fs::create_dir_all(place.root.join(".fleet")).unwrap();
    let ready = ready(theatre, program);
    let _not_there = fs::remove_file(&ready);
    let launch = Launch {
        place: place.clone(),
        release: release.clone(),
        command: program.command.iter().map(|&word| word.to_owned()).collect(),
        environment: BTreeMap::from([
            ("PATH".into(), "/usr/bin:/bin".into()),
            ("READY".into(), ready.display().to_string()),
        ]),
        user: None,
        log: place.root.join(".fleet/log"),
    };
    theatre.supervisor.start(&launch).await.unwrap()
}

fn point(place: &ServicePlace, release: &ReleaseId) {
    let new = place.root.join("current.new");
    symlink(Path::new("releases").join(release.as_str()), &new).unwrap();
    fs::rename(new, place.current()).unwrap();
}

fn descriptor(program: &Program, place: &ServicePlace, number: u8, folder: &Path) -> Descriptor {
    let mut entries = Vec::new();
    let mut open = vec![folder.to_owned()];
    while let Some(directory) = open.pop() {
        for entry in fs::read_dir(directory).unwrap() {
            let path: PathBuf = entry.unwrap().path();
            let found = fs::metadata(&path).unwrap();
            let relative = path.strip_prefix(folder).unwrap().to_str().unwrap().parse().unwrap();
            let kind = if found.is_dir() {
                open.push(path);
                EntryKind::Directory
            } else {
                let (sha256, size) = fleet_bundle::digest(&mut fs::File::open(&path).unwrap()).unwrap();
                EntryKind::File { sha256, size }
            };
            entries.push(Entry { path: relative, mode: found.permissions().mode() & 0o777, kind });
        }
    }
    Descriptor {
        format: DESCRIPTOR_FORMAT,
        service: place.service.clone(),
        version: format!("{number}.0.0").parse().unwrap(),
        nodes: BTreeMap::new(),
        run: Run {
            command: program.command.iter().map(|&word| word.to_owned()).collect(),
            environment: BTreeMap::new(),
            user: None,
            stop_timeout: Millis(1_000),
        },
        health: None,
        minimum_grade: Grade::SelfReport,
        pins: Vec::new(),
        manifest: Manifest::new(entries).unwrap(),
    }
}
