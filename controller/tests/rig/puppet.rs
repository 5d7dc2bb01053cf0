//! An agent that does by itself what it is told: it holds what is ordered, answers every challenge, and dials again when
//! the controller comes back. A test makes it behave otherwise, and reads what it was told.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};

use fleet_certs::Dialer;
use fleet_proto::v1;
use tokio::sync::watch;

use super::agent::held;
use super::{Agent, Known, PATIENCE};

/// What becomes of an order to hold a release.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Act {
    /// It is held and proven.
    #[default]
    Hold,
    /// It is held and proven, and the agent may still undo it.
    HoldUnconfirmed,
    /// It is held, and the service is not healthy.
    HoldSick,
    /// It is being worked on, for ever.
    Work,
    /// It failed.
    Fail,
}

/// What becomes of a decoy that it is asked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Scan {
    /// It is planted and seen, and gone when it is sent away.
    Sees,
    /// It is planted, and never seen.
    Blind,
    /// It is planted and seen, and whatever is seen once is seen for ever.
    NeverForgets,
    /// It is planted, and what it executes cannot be read.
    Misreads,
    /// It is not planted.
    Refuses,
}

/// What an agent was told and how it behaves.
#[derive(Debug, Clone, Default)]
pub struct Life {
    /// The newest order of each service.
    pub orders: BTreeMap<String, v1::Order>,
    /// Every order that it was ever given, each once, in the order of coming.
    pub history: Vec<v1::Order>,
    /// Every migration in every message, repeats included.
    pub migrations: Vec<v1::MigrationOrder>,
    /// The migrations in the newest message.
    pub told_now: Vec<v1::MigrationOrder>,
    /// How many messages with orders came.
    pub told: usize,
    /// The release that it holds of each service.
    pub holds: BTreeMap<String, String>,
    /// How it acts on releases, by id.
    pub acts: BTreeMap<String, Act>,
    /// Free space as it is told to the controller.
    pub disk_free: Option<u64>,
    /// What it says of migrations.
    pub reports: Vec<v1::MigrationReport>,
    /// What somebody bent by hand, by service: a release that is neither ordered nor held.
    pub bent: BTreeMap<String, String>,
    /// How far its clock is ahead of the controller's; it says nothing of its clock if there is nothing here.
    pub clock_ahead_ms: Option<i64>,
    /// How it behaves as a volunteer for self-tests, if it is one.
    pub volunteers: Option<Scan>,
    /// What a decoy executes: this release, which was once held.
    pub old: Option<String>,
    /// The decoy that is seen: its number, and when it began.
    pub decoy: Option<(u32, u64)>,
    /// Another process that is no decoy and executes the same.
    pub forgotten: bool,
    /// How long its machine has been up, if it is a volunteer.
    pub up_ms: u64,
    /// Whether it keeps its stream open and answers nothing.
    pub mute: bool,
    /// How its files differ, of every service.
    pub deviations: Vec<v1::FileDeviation>,
    /// What files hold, by path, as it shows them.
    pub files: BTreeMap<String, String>,
    /// Every repair that it was told of, repeats included.
    pub repairs: Vec<v1::RepairOrder>,
    /// Whether it carries repairs out at once.
    pub mends: bool,
    /// What it says of the newest repair.
    pub repaired: Option<v1::RepairReport>,
}

pub struct Puppet {
    pub name: String,
    pub dialer: Dialer,
    life: Arc<watch::Sender<Life>>,
    place: Place,
    task: Option<tokio::task::JoinHandle<()>>,
}

/// Where its controller is, and what it knows of releases.
#[derive(Clone)]
struct Place {
    address: String,
    ups: watch::Receiver<u64>,
    known: Arc<Mutex<BTreeMap<String, Known>>>,
}

impl Puppet {
    pub fn born(
        name: &str,
        dialer: Dialer,
        address: String,
        ups: watch::Receiver<u64>,
        known: Arc<Mutex<BTreeMap<String, Known>>>,
        life: Life,
    ) -> Self {
        let life = Arc::new(watch::Sender::new(life));
        let place = Place { address, ups, known };
        let mut puppet = Self { name: name.into(), dialer, life, place, task: None };
        puppet.come_back();
        puppet
    }

    /// Its agent ends; what it holds it goes on holding.
    pub async fn go_away(&mut self) {
        if let Some(task) = self.task.take() {
            task.abort();
            drop(task.await);
        }
    }

    pub fn come_back(&mut self) {
        let live = live(self.name.clone(), self.dialer.clone(), self.place.clone(), Arc::clone(&self.life));
        self.task = Some(tokio::spawn(live));
    }

    pub fn life(&self) -> Life {
        self.life.borrow().clone()
    }

    pub fn change(&self, change: impl FnOnce(&mut Life)) {
        self.life.send_modify(change);
    }

    /// From now on it acts so when it is to hold this release.
    pub fn act(&self, release: &v1::Release, act: Act) {
        self.change(|life| _ = life.acts.insert(release.id.clone(), act));
    }

    /// What it says of one attempt of a migration, and of nothing else.
    pub fn report(&self, deployment: &str, attempt: u32, report: v1::migration_report::Report) {
        let report = v1::MigrationReport { deployment: deployment.into(), attempt, report: Some(report) };
        self.change(|life| life.reports = vec![report]);
    }

    /// Waits until it was told something.
    pub async fn until(&self, is: impl FnMut(&Life) -> bool) -> Life {
        let mut lives = self.life.subscribe();
        let found = tokio::time::timeout(PATIENCE, lives.wait_for(is)).await.map(|life| life.unwrap().clone());
        found.unwrap_or_else(|_| panic!("{} was never told so: {:#?}", self.name, self.life()))
    }

    /// The release that it was ordered to hold of a service, if it was.
    pub fn ordered(&self, service: &str) -> Option<String> {
        wish(self.life().orders.get(service)?)
    }
}

impl Drop for Puppet {
    fn drop(&mut self) {
        if let Some(task) = &self.task {
            task.abort();
        }
    }
}

fn wish(order: &v1::Order) -> Option<String> {
    match &order.hold {
        Some(v1::order::Hold::Release(release)) => Some(release.release.clone()),
        Some(v1::order::Hold::Nothing(_)) | None => None,
    }
}

async fn live(name: String, dialer: Dialer, mut place: Place, life: Arc<watch::Sender<Life>>) {
    loop {
        place.ups.borrow_and_update();
        if let Ok(channel) = dialer.channel(&place.address, "localhost").await
            && let Ok(agent) = Agent::greet(channel, &name, hello(&life)).await
        {
            converse(agent, &place, &life).await;
        }
        if place.ups.changed().await.is_err() {
            return;
        }
    }
}

fn hello(life: &watch::Sender<Life>) -> v1::Hello {
    v1::Hello { selftest: life.borrow().volunteers.is_some(), ..Agent::hello() }
}

async fn converse(mut agent: Agent, place: &Place, life: &watch::Sender<Life>) {
    while let Ok(Some(v1::ToAgent { message: Some(message) })) = agent.from_controller.message().await {
        match message {
            v1::to_agent::Message::Desired(desired) => life.send_modify(|life| life.take(desired)),
            v1::to_agent::Message::Plant(plant) => {
                let mut report = None;
                life.send_modify(|life| report = life.plant(plant.test));
                let message = report.map(v1::from_agent::Message::Decoy);
                drop(agent.to_controller.send(v1::FromAgent { message }).await);
            }
            v1::to_agent::Message::Remove(_) => life.send_modify(Life::remove),
            v1::to_agent::Message::Repair(repair) => life.send_modify(|life| life.mend(repair)),
            v1::to_agent::Message::Reveal(asked) => {
                let revealed = life.borrow().reveal(asked);
                let message = Some(v1::from_agent::Message::Revealed(revealed));
                if agent.to_controller.send(v1::FromAgent { message }).await.is_err() {
                    return;
                }
            }
            v1::to_agent::Message::Challenge(challenge) => {
                life.send_if_modified(Life::obey);
                life.send_modify(|life| life.up_ms += 1_000);
                let attestation = life.borrow().attest(&agent.name, challenge.nonce, place);
                let Some(attestation) = attestation else { continue };
                let message = Some(v1::from_agent::Message::Attestation(attestation));
                if agent.to_controller.send(v1::FromAgent { message }).await.is_err() {
                    return;
                }
            }
        }
    }
}

impl Life {
    /// Somebody points the service at a release by hand.
    pub fn bend(&mut self, service: &str, release: &str) {
        self.bent.insert(service.into(), release.into());
    }

    pub fn mend(&mut self, repair: v1::RepairOrder) {
        if self.mends {
            let put_back = self.deviations.drain(..).map(|its| v1::RepairPutBack { path: its.path, kind: its.kind });
            let done = v1::RepairDone { put_back: put_back.collect(), restarted: true };
            let state = Some(v1::repair_report::State::Done(done));
            self.repaired = Some(v1::RepairReport { id: repair.id.clone(), state });
        }
        self.repairs.push(repair);
    }

    fn reveal(&self, asked: v1::Reveal) -> v1::Revealed {
        let shown = |path: String| {
            let content = match self.files.get(&path) {
                Some(text) => v1::revealed_file::Content::Text(text.clone()),
                None => v1::revealed_file::Content::NotShown("nothing is there".into()),
            };
            v1::RevealedFile { path, content: Some(content) }
        };
        v1::Revealed { id: asked.id, files: asked.paths.into_iter().map(shown).collect() }
    }

    fn take(&mut self, desired: v1::Desired) {
        self.told += 1;
        self.told_now = desired.migrations.clone();
        self.migrations.extend(desired.migrations);
        for order in &desired.orders {
            if !self.history.contains(order) {
                self.history.push(order.clone());
            }
        }
        self.orders = desired.orders.into_iter().map(|order| (order.service.clone(), order)).collect();
        self.obey();
    }

    fn plant(&mut self, test: String) -> Option<v1::DecoyReport> {
        use v1::decoy_report::State;
        let (scan, old) = (self.volunteers?, self.old.clone()?);
        let state = if scan == Scan::Refuses {
            State::Refused(v1::DecoyRefused { reason: "no tracing here".into() })
        } else {
            let (pid, born_ms) = (4_711, self.up_ms);
            self.decoy = (scan != Scan::Blind).then_some((pid, born_ms));
            State::Planted(v1::DecoyPlanted { service: "web".into(), release: old, pid, born_ms, made: None })
        };
        Some(v1::DecoyReport { test, state: Some(state) })
    }

    fn remove(&mut self) {
        if self.volunteers != Some(Scan::NeverForgets) {
            self.decoy = None;
        }
    }

    /// Processes that execute what was held once.
    fn strays(&self, place: &Place) -> Vec<v1::Process> {
        let Some(old) = &self.old else { return Vec::new() };
        let executes = place.known.lock().unwrap().get(old).cloned().unwrap().executable;
        let digest = (self.volunteers != Some(Scan::Misreads)).then_some(executes);
        let stray = |pid, born: u64| v1::Process {
            pid,
            parentage: v1::Parentage::Stray.into(),
            age_ms: self.up_ms - born,
            executable: Some(v1::Mapped {
                path: "/tmp/decoy".into(),
                digest: digest.clone(),
                deleted: true,
                ..Default::default()
            }),
            started: v1::Started::AfterActivation.into(),
            command: "decoy".into(),
            ..Default::default()
        };
        let decoy = self.decoy.map(|(pid, born)| stray(pid, born));
        decoy.into_iter().chain(self.forgotten.then(|| stray(815, 0))).collect()
    }

    fn act_on(&self, release: &str) -> Act {
        self.acts.get(release).copied().unwrap_or_default()
    }

    /// Holds what it is to hold, as far as it does.
    fn obey(&mut self) -> bool {
        let before = self.holds.clone();
        for (service, order) in &self.orders {
            match wish(order) {
                None => drop(self.holds.remove(service)),
                Some(release) => match self.act_on(&release) {
                    Act::Hold | Act::HoldUnconfirmed | Act::HoldSick => {
                        drop(self.holds.insert(service.clone(), release));
                    }
                    Act::Work | Act::Fail => {}
                },
            }
        }
        self.holds != before
    }

    fn attest(&self, node: &str, nonce: String, place: &Place) -> Option<v1::Attestation> {
        if self.mute {
            return None;
        }
        let up_ms = self.volunteers.map(|_| self.up_ms);
        Some(v1::Attestation {
            up_ms,
            node: node.into(),
            nonce,
            boot_id: "b".into(),
            services: self.orders.values().map(|order| self.evidence(order, place)).collect(),
            disk_free: self.disk_free,
            migrations: self.reports.clone(),
            clock_ms: self.clock_ahead_ms.map(|ahead| fleet_controller::clock::now().0 + ahead),
        })
    }

    fn evidence(&self, order: &v1::Order, place: &Place) -> v1::ServiceEvidence {
        use v1::service_evidence::{Health, Progress};
        let current = self.bent.get(&order.service).or_else(|| self.holds.get(&order.service)).cloned();
        let without = v1::ServiceEvidence {
            service: order.service.clone(),
            generation: order.generation,
            progress: Some(Progress::Held(v1::Held {})),
            current: current.clone(),
            health: Some(Health::HealthUnknown(v1::HealthUnknown {})),
            ..Default::default()
        };
        let Some(release) = wish(order) else { return without };
        let known = place.known.lock().unwrap().get(&release).cloned().unwrap();
        let mut running = v1::ServiceEvidence {
            compared: Some(known.compared),
            current,
            files: self.deviations.clone(),
            repair: self.repaired.clone(),
            ..held(&order.service, order.generation, &release, known.executable)
        };
        for process in &mut running.processes {
            process.age_ms = process.age_ms.min(self.volunteers.map_or(u64::MAX, |_| self.up_ms));
        }
        running.processes.extend(self.strays(place));
        match self.act_on(&release) {
            Act::Hold => running,
            Act::HoldUnconfirmed => v1::ServiceEvidence { unconfirmed: true, ..running },
            Act::HoldSick => {
                let reason = "it answers 500".into();
                v1::ServiceEvidence { health: Some(Health::Unhealthy(v1::Unhealthy { reason })), ..running }
            }
            Act::Work => {
                let working = v1::Working { step: "start".into(), detail: "not up yet".into() };
                v1::ServiceEvidence { progress: Some(Progress::Working(working)), ..without }
            }
            Act::Fail => {
                let failed = v1::Failed { step: "start".into(), reason: "exit 1".into() };
                v1::ServiceEvidence { progress: Some(Progress::Failed(failed)), ..without }
            }
        }
    }
}
