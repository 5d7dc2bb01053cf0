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
    /// Whether it keeps its stream open and answers nothing.
    pub mute: bool,
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
    pub fn new(
        name: &str,
        dialer: Dialer,
        address: String,
        ups: watch::Receiver<u64>,
        known: Arc<Mutex<BTreeMap<String, Known>>>,
    ) -> Self {
        let life = Arc::new(watch::Sender::new(Life::default()));
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
            && let Ok(agent) = Agent::try_connect(channel, &name).await
        {
            converse(agent, &place, &life).await;
        }
        if place.ups.changed().await.is_err() {
            return;
        }
    }
}

async fn converse(mut agent: Agent, place: &Place, life: &watch::Sender<Life>) {
    while let Ok(Some(v1::ToAgent { message: Some(message) })) = agent.from_controller.message().await {
        match message {
            v1::to_agent::Message::Desired(desired) => life.send_modify(|life| life.take(desired)),
            v1::to_agent::Message::Challenge(challenge) => {
                life.send_if_modified(Life::obey);
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
        Some(v1::Attestation {
            node: node.into(),
            nonce,
            boot_id: "b".into(),
            services: self.orders.values().map(|order| self.evidence(order, place)).collect(),
            disk_free: self.disk_free,
            migrations: self.reports.clone(),
            clock_ms: self.clock_ahead_ms.map(|ahead| fleet_controller::clock::now().0 + ahead),
            ..Default::default()
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
        let running = v1::ServiceEvidence {
            compared: Some(known.compared),
            current,
            ..held(&order.service, order.generation, &release, known.executable)
        };
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
