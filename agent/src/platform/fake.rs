//! A host in memory, for tests of everything that stands on the platform: it starts, stops and shows processes that
//! do not exist, and can be told to refuse, crash, hang or lie. Only `current` is read from the real disk, because
//! the agent switches it there.

use std::collections::BTreeMap;
use std::io;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use fleet::evidence::{FileDeviation, LinkState, Mapped, Owner, Parentage, Place, Process, Started};
use fleet::manifest::{EntryKind, Manifest};
use fleet::{Digest, Millis, ReleaseId, ServiceName};

use super::{
    Errand, ErrandEnd, Launch, Listener, Look, MOST_DEVIATIONS, Observer, ProcessError, Running, Seen, SeenErrand,
    ServicePlace, Stopped, Supervisor,
};

/// Clock ticks per second of this host; Linux's figure.
const TICKS_PER_SECOND: u64 = 100;

/// What a start does.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub enum OnStart {
    /// It succeeds and the process goes on running.
    #[default]
    Runs,
    /// It fails with this reason.
    Refuses(String),
    /// It succeeds, and the process has ended by the time anybody looks.
    Crashes,
}

/// What a stop does.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum OnStop {
    /// Processes end at once.
    #[default]
    Ends,
    /// They ignore SIGTERM: the whole timeout passes and they are killed.
    NeedsKill,
    /// They outlive SIGKILL too: the timeout passes and the stop fails.
    Hangs,
    /// The stop claims success, and the processes run on.
    Lies,
}

/// What the observer says of the service's own processes.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub enum OnLook {
    /// The truth.
    #[default]
    Honest,
    /// That they all execute the program of this release.
    ClaimsRelease(ReleaseId),
    /// That there are none.
    ClaimsNothingRuns,
    /// The look itself fails with this reason.
    Fails(String),
}

/// What was done to the host, in order.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Deed {
    /// A start was asked for, whether or not it succeeded.
    Start {
        /// The service.
        service: ServiceName,
        /// The release.
        release: ReleaseId,
    },
    /// A stop was asked for, whether or not anything ran.
    Stop {
        /// The service.
        service: ServiceName,
    },
    /// Something was run once beside the service.
    Errand {
        /// The service.
        service: ServiceName,
        /// Its command line.
        command: String,
    },
}

/// The host. Clones are the same host.
#[derive(Debug, Clone)]
pub struct FakeHost {
    state: Arc<Mutex<State>>,
    /// Told whenever processes may have ended.
    changed: Arc<tokio::sync::watch::Sender<()>>,
}

#[derive(Debug)]
struct State {
    boots: u64,
    ticks: u64,
    next_pid: u32,
    services: BTreeMap<ServiceName, Scene>,
    deeds: Vec<Deed>,
}

/// One service on the host.
#[derive(Debug, Default)]
struct Scene {
    on_start: OnStart,
    on_stop: OnStop,
    on_look: OnLook,
    /// None is the service itself.
    listener: Option<Listener>,
    running: Vec<Actor>,
    planted: Vec<Process>,
    deviations: Vec<FileDeviation>,
}

#[derive(Debug, Clone)]
struct Actor {
    running: Running,
    command: Vec<String>,
}

impl Default for FakeHost {
    fn default() -> Self {
        let state = State { boots: 1, ticks: 1_000, next_pid: 100, services: BTreeMap::new(), deeds: Vec::new() };
        Self { state: Arc::new(Mutex::new(state)), changed: Arc::new(tokio::sync::watch::Sender::new(())) }
    }
}

impl FakeHost {
    /// An idle host.
    pub fn new() -> Self {
        Self::default()
    }

    /// What every start of `service` does from now on.
    pub fn on_start(&self, service: &ServiceName, what: OnStart) {
        self.scene(service, |scene| scene.on_start = what);
    }

    /// What every stop of `service` does from now on.
    pub fn on_stop(&self, service: &ServiceName, what: OnStop) {
        self.scene(service, |scene| scene.on_stop = what);
    }

    /// What every look at `service` says from now on.
    pub fn on_look(&self, service: &ServiceName, what: OnLook) {
        self.scene(service, |scene| scene.on_look = what);
    }

    /// Who listens wherever `service` is asked, from now on; the service itself at first.
    pub fn on_listener(&self, service: &ServiceName, who: Listener) {
        self.scene(service, |scene| scene.listener = Some(who));
    }

    /// Ends every process of `service` as a crash would.
    pub fn crash(&self, service: &ServiceName) {
        self.scene(service, |scene| scene.running.clear());
        self.changed.send_replace(());
    }

    /// Adds a process that no supervisor started; it stays until [`FakeHost::clear_planted`] or a reboot.
    pub fn plant(&self, service: &ServiceName, process: Process) {
        self.scene(service, |scene| scene.planted.push(process));
    }

    /// Removes what was planted.
    pub fn clear_planted(&self, service: &ServiceName) {
        self.scene(service, |scene| scene.planted.clear());
    }

    /// What the files of the held release shall show; none at first.
    pub fn deviate(&self, service: &ServiceName, deviations: Vec<FileDeviation>) {
        self.scene(service, |scene| scene.deviations = deviations);
    }

    /// Lets time pass, in clock ticks.
    pub fn advance(&self, ticks: u64) {
        self.lock().ticks += ticks;
    }

    /// Ends every process and changes the boot id.
    pub fn reboot(&self) {
        let mut state = self.lock();
        state.boots += 1;
        state.ticks = 1_000;
        for scene in state.services.values_mut() {
            scene.running.clear();
            scene.planted.clear();
        }
        drop(state);
        self.changed.send_replace(());
    }

    /// Everything that was done so far.
    pub fn deeds(&self) -> Vec<Deed> {
        self.lock().deeds.clone()
    }

    /// The releases whose processes run, oldest first.
    pub fn running(&self, service: &ServiceName) -> Vec<ReleaseId> {
        self.scene(service, |scene| scene.running.iter().map(|actor| actor.running.release.clone()).collect())
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn scene<T>(&self, service: &ServiceName, then: impl FnOnce(&mut Scene) -> T) -> T {
        then(self.lock().services.entry(service.clone()).or_default())
    }

    fn run(&self, launch: &Launch) -> Result<Running, ProcessError> {
        let mut state = self.lock();
        state.deeds.push(Deed::Start { service: launch.place.service.clone(), release: launch.release.clone() });
        state.next_pid += 1;
        state.ticks += 1;
        let running = Running {
            pid: state.next_pid,
            start_ticks: state.ticks,
            boot_id: boot(state.boots),
            release: launch.release.clone(),
        };
        let scene = state.services.entry(launch.place.service.clone()).or_default();
        match &scene.on_start {
            OnStart::Refuses(reason) => {
                let program = launch.command.first().cloned().unwrap_or_default();
                return Err(ProcessError::Start { program, reason: reason.clone() });
            }
            OnStart::Crashes => {}
            OnStart::Runs => scene.running.push(Actor { running: running.clone(), command: launch.command.clone() }),
        }
        Ok(running)
    }
}

#[tonic::async_trait]
impl Supervisor for FakeHost {
    async fn start(&self, launch: &Launch) -> Result<Running, ProcessError> {
        self.run(launch)
    }

    fn is_running(&self, running: &Running) -> bool {
        self.lock().services.values().flat_map(|scene| &scene.running).any(|actor| actor.running == *running)
    }

    async fn gone(&self, running: &Running) {
        let mut changes = self.changed.subscribe();
        while self.is_running(running) {
            if changes.changed().await.is_err() {
                return;
            }
        }
    }

    fn listener(&self, place: &ServicePlace, _running: &Running, _address: &SocketAddr) -> Listener {
        self.scene(&place.service, |scene| scene.listener.clone()).unwrap_or(Listener::Ours)
    }

    async fn stop(
        &self,
        place: &ServicePlace,
        _running: Option<&Running>,
        timeout: Millis,
    ) -> Result<Stopped, ProcessError> {
        self.lock().deeds.push(Deed::Stop { service: place.service.clone() });
        let (how, actors) = self.scene(&place.service, |scene| (scene.on_stop, scene.running.clone()));
        if actors.is_empty() {
            return Ok(Stopped { ended: 0, killed: Vec::new() });
        }
        let names: Vec<String> = actors.iter().map(|actor| actor.command.join(" ")).collect();
        let stopped = match how {
            OnStop::Ends => Stopped { ended: u32::try_from(actors.len()).unwrap_or(u32::MAX), killed: Vec::new() },
            OnStop::Lies => {
                return Ok(Stopped { ended: u32::try_from(actors.len()).unwrap_or(u32::MAX), killed: Vec::new() });
            }
            OnStop::NeedsKill => {
                tokio::time::sleep(timeout.to_std()).await;
                Stopped { ended: 0, killed: names }
            }
            OnStop::Hangs => {
                tokio::time::sleep(timeout.to_std()).await;
                return Err(ProcessError::Unkillable(names.join(", ")));
            }
        };
        // Only what ran when the stop began: a start meanwhile is another process.
        self.scene(&place.service, |scene| {
            scene.running.retain(|actor| !actors.iter().any(|old| old.running == actor.running))
        });
        self.changed.send_replace(());
        Ok(stopped)
    }

    async fn run_errand(&self, errand: &Errand) -> Result<ErrandEnd, ProcessError> {
        let (service, command) = (errand.place.service.clone(), errand.command.clone());
        self.lock().deeds.push(Deed::Errand { service, command });
        Ok(ErrandEnd::Succeeded)
    }

    fn errands(&self) -> Vec<SeenErrand> {
        Vec::new()
    }
}

impl Observer for FakeHost {
    fn look(&self, look: &Look<'_>) -> io::Result<Seen> {
        let state = self.lock();
        let mut seen = Seen { current: look.place.live(), ..Seen::default() };
        let Some(scene) = state.services.get(&look.place.service) else { return Ok(seen) };
        let own: &[Actor] = match &scene.on_look {
            OnLook::Fails(reason) => return Err(io::Error::other(reason.clone())),
            OnLook::ClaimsNothingRuns => &[],
            OnLook::Honest | OnLook::ClaimsRelease(_) => &scene.running,
        };
        seen.processes =
            own.iter().map(|actor| shown(&state, scene, actor, look)).chain(scene.planted.iter().cloned()).collect();
        if look.held.is_some() {
            seen.files = scene.deviations.iter().take(MOST_DEVIATIONS).cloned().collect();
            seen.files_omitted = scene.deviations.len().saturating_sub(MOST_DEVIATIONS) as u64;
        }
        Ok(seen)
    }

    fn boot_id(&self) -> String {
        boot(self.lock().boots)
    }

    fn ticks_now(&self) -> u64 {
        self.lock().ticks
    }
}

fn boot(number: u64) -> String {
    format!("00000000-0000-0000-0000-{number:012x}")
}

fn shown(state: &State, scene: &Scene, actor: &Actor, look: &Look<'_>) -> Process {
    let release = match &scene.on_look {
        OnLook::ClaimsRelease(claimed) => claimed,
        _ => &actor.running.release,
    };
    let program = actor.command.first().map(String::as_str).unwrap_or_default();
    let start = actor.running.start_ticks;
    Process {
        pid: actor.running.pid,
        parentage: if look.running == Some(&actor.running) { Parentage::Supervised } else { Parentage::Stray },
        age: Millis(state.ticks.saturating_sub(start) * 1_000 / TICKS_PER_SECOND),
        executable: Mapped {
            path: look.place.release(release).join(program).to_string_lossy().into_owned(),
            digest: Some(digest_of(release, program, look)),
            release: Some(release.clone()),
            place: Place::Inside,
            link: LinkState::Linked,
            owner: Owner::Unknown,
        },
        mappings: Vec::new(),
        open: Vec::new(),
        named: Vec::new(),
        open_omitted: 0,
        outside: 0,
        marker: Some(release.clone()),
        cwd: Some(release.clone()),
        started: match look.activated {
            None => Started::Unknown,
            Some((boot_id, ticks)) if boot_id == boot(state.boots) && start < ticks => Started::BeforeActivation,
            Some(_) => Started::AfterActivation,
        },
        command: actor.command.join(" "),
        by: None,
    }
}

/// The digest of a release's program: from the held manifest, else from what is known of the release, else one that
/// belongs to no release.
fn digest_of(release: &ReleaseId, program: &str, look: &Look<'_>) -> Digest {
    let in_manifest = |manifest: &Manifest| match &manifest.get(program)?.kind {
        EntryKind::File { sha256, .. } => Some(*sha256),
        EntryKind::Directory | EntryKind::Symlink { .. } => None,
    };
    let held = look.held.filter(|(held, _)| *held == release).and_then(|(_, manifest)| in_manifest(manifest));
    let known = || look.known.digest_of(release).copied();
    held.or_else(known).unwrap_or(Digest([0xfa; 32]))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use crate::known::Known;

    fn launch(directory: &std::path::Path) -> Launch {
        Launch {
            place: ServicePlace { service: "hello".parse().unwrap(), root: directory.to_owned() },
            release: "r-000000000001".parse().unwrap(),
            command: vec!["bin/hello".into()],
            environment: BTreeMap::new(),
            user: None,
            log: directory.join("log"),
        }
    }

    fn look_at(host: &FakeHost, place: &ServicePlace, running: Option<&Running>) -> Seen {
        let known = Known::default();
        host.look(&Look { place, held: None, running, known: &known, neighbours: &[], activated: None }).unwrap()
    }

    #[tokio::test(start_paused = true)]
    async fn the_host_does_what_the_script_says() {
        let directory = tempfile::tempdir().unwrap();
        let launch = launch(directory.path());
        let service = launch.place.service.clone();
        let host = FakeHost::new();

        host.on_start(&service, OnStart::Refuses("no such file".into()));
        assert!(host.start(&launch).await.unwrap_err().to_string().contains("no such file"));
        host.on_start(&service, OnStart::Crashes);
        let crashed = host.start(&launch).await.unwrap();
        assert!(!host.is_running(&crashed));
        host.gone(&crashed).await;

        host.on_start(&service, OnStart::Runs);
        let running = host.start(&launch).await.unwrap();
        assert!(host.is_running(&running) && host.running(&service) == [launch.release.clone()]);
        assert_eq!(look_at(&host, &launch.place, Some(&running)).processes[0].parentage, Parentage::Supervised);

        host.on_stop(&service, OnStop::Hangs);
        assert!(matches!(
            host.stop(&launch.place, Some(&running), Millis::from_secs(30)).await,
            Err(ProcessError::Unkillable(_))
        ));
        host.on_stop(&service, OnStop::Lies);
        host.stop(&launch.place, Some(&running), Millis::from_secs(30)).await.unwrap();
        assert!(host.is_running(&running));
        host.on_stop(&service, OnStop::NeedsKill);
        let (stopped, ()) =
            tokio::join!(host.stop(&launch.place, Some(&running), Millis::from_secs(30)), host.gone(&running));
        assert_eq!(stopped.unwrap().killed, ["bin/hello"]);
        assert_eq!(host.stop(&launch.place, None, Millis(0)).await.unwrap().ended, 0);
        assert_eq!(host.deeds().len(), 7);
    }

    #[tokio::test]
    async fn a_lie_is_told_and_a_reboot_ends_everything() {
        let directory = tempfile::tempdir().unwrap();
        let launch = launch(directory.path());
        let service = launch.place.service.clone();
        let host = FakeHost::new();
        let running = host.start(&launch).await.unwrap();
        let other: ReleaseId = "r-000000000002".parse().unwrap();
        host.on_look(&service, OnLook::ClaimsRelease(other.clone()));
        assert_eq!(look_at(&host, &launch.place, Some(&running)).processes[0].executable.release, Some(other));
        host.on_look(&service, OnLook::ClaimsNothingRuns);
        assert!(look_at(&host, &launch.place, Some(&running)).processes.is_empty());
        host.on_look(&service, OnLook::Honest);
        let before = host.boot_id();
        host.reboot();
        assert!(host.boot_id() != before && !host.is_running(&running));
        assert!(look_at(&host, &launch.place, Some(&running)).processes.is_empty());
    }
}
