//! The node: every service it has orders for, each with its keeper. Desired state comes in here, saved before it is
//! acted on; attestations go out from here. Who speaks with the controller is `link`'s business.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, OnceLock};
use std::time::Duration;

use fleet::deployment::MigrationOrder;
use fleet::evidence::{Attestation, MigrationEvidence, Progress, ServiceEvidence};
use fleet::looked::Depth;
use fleet::order::Reception;
use fleet::repair::RepairOrder;
use fleet::{Digest, Generation, Hold, Millis, NodeName, Nonce, Order, ReleaseId, ServiceName};
use fleet_proto::v1::RevealedFile;
use tokio::sync::watch;
use tokio::task::JoinHandle;

use crate::durable::FileError;
use crate::failpoint::Interrupted;
use crate::fetch;
use crate::keeper::{AgentState, Keeper, Status, Tools, Wish, lock};
use crate::known::Known;
use crate::migration::Migrations;
use crate::observe;
use crate::orders::{OrderError, Orders};
use crate::permit::{Contact, Permit};
use crate::platform::linux::machine;
use crate::reveal;
use crate::session;
use crate::{clock, decoy};

/// How long a stopping agent waits for a keeper in the middle of a step that must not be cut, such as stopping a
/// service. Being killed there would do no harm either.
const PATIENCE: Duration = Duration::from_secs(15);
/// A statement during which the keeper went on is made again, so that it does not mix two moments; this often.
const LOOKS: u32 = 3;

/// What is said of a service whose keeper has come to an end by a fault of the agent.
const KEEPER_ENDED: &str = "the agent's work on this service has ended by a fault of the agent; the controller's next \
                            word begins it again, its log says more";

/// Everything of one agent but its link.
pub struct Node {
    name: NodeName,
    tools: Tools,
    orders: Mutex<Orders>,
    kept: Mutex<BTreeMap<ServiceName, Kept>>,
    contact: Mutex<Contact>,
    /// Orders that could not be saved in this run. They are not tried again: a newer one has to come, as after every
    /// failure, and the controller is told instead of left waiting.
    unsaved: Mutex<BTreeMap<ServiceName, (Order, String)>>,
    /// Opened together with the keepers, where blocking is allowed.
    migrations: OnceLock<Arc<Migrations>>,
    changes: watch::Sender<u64>,
    /// How long the machine was up in the newest statement: no two statements are of the same moment.
    stated: Mutex<Millis>,
    /// What the decoy of a self-test executes, if that was made for the test: it is looked for like old releases.
    made: Mutex<Option<(ServiceName, Digest, ReleaseId)>>,
}

enum Kept {
    Keeper {
        wish: watch::Sender<Wish>,
        status: watch::Receiver<Status>,
        work: JoinHandle<Result<(), Interrupted>>,
    },
    /// It cannot be worked on; why.
    Fenced {
        generation: Generation,
        reason: String,
    },
}

impl Node {
    /// Reads what is on the disk and puts a keeper to every service. Nothing is started before the controller's word.
    ///
    /// # Errors
    /// Only if the orders' directory cannot be read. A service whose files are broken is fenced, the others work.
    pub async fn open(name: NodeName, tools: Tools) -> Result<Arc<Self>, FileError> {
        let orders = Orders::load(tools.layout.orders(), name.clone())?;
        let contact = Contact::Lost { since: tools.now() };
        let held: Vec<_> = orders.held().iter().map(|(service, order)| (service.clone(), order.clone())).collect();
        let node = Arc::new(Self {
            name,
            tools,
            orders: Mutex::new(orders),
            kept: Mutex::default(),
            contact: Mutex::new(contact),
            unsaved: Mutex::default(),
            migrations: OnceLock::new(),
            changes: watch::Sender::new(0),
            stated: Mutex::default(),
            made: Mutex::default(),
        });
        node.clone()
            .blocking(move |node| {
                let orders = held.iter().filter_map(|(_, order)| order.as_ref().ok());
                let wanted: Vec<Digest> = orders
                    .filter_map(|order| match &order.hold {
                        Hold::Release { bundle, .. } => Some(*bundle),
                        Hold::Nothing => None,
                    })
                    .collect();
                fetch::sweep(&node.tools.layout, &wanted);
                // Before the keepers: what an interrupted migration still stands in is not theirs to remove.
                node.open_migrations();
                for (service, order) in held {
                    match order {
                        Ok(order) => node.keep(order, None),
                        Err(reason) => node.fence(service, Generation(0), reason),
                    }
                }
            })
            .await;
        if let Some(noticed) = node.tools.observer.noticed() {
            node.forward(noticed);
        }
        Ok(node)
    }

    /// The node's name.
    pub fn name(&self) -> &NodeName {
        &self.name
    }

    /// The kernel's boot id.
    pub fn boot_id(&self) -> String {
        self.tools.observer.boot_id()
    }

    /// Counts changes of what any keeper says, and what was noticed on the node.
    pub fn changes(&self) -> watch::Receiver<u64> {
        self.changes.subscribe()
    }

    /// Takes in everything that the controller wants here. Orders are on the disk before any keeper hears of them.
    /// A service that is no longer named keeps what it holds: stopping one takes an order that says so.
    pub async fn receive(self: &Arc<Self>, orders: Vec<Order>, permit: Millis) {
        self.clone().blocking(move |node| node.take_in(orders, permit)).await;
    }

    /// The controller is gone.
    pub fn lost(&self) {
        let mut contact = lock(&self.contact);
        if *contact == Contact::Made {
            *contact = Contact::Lost { since: self.tools.now() };
            let now = contact.clone();
            drop(contact);
            self.tell_all(|wish| wish.contact = now.clone());
        }
    }

    /// Looks now, as deep as asked, and states what is seen under `nonce`.
    pub async fn attest(self: &Arc<Self>, nonce: Nonce, depth: Depth) -> Attestation {
        let (node, boot_id) = (self.name.clone(), self.boot_id());
        // Before the look: a migration that ends meanwhile shows as at work, and never the other way round.
        let migrations = self.migrations();
        let services = self.look(depth).await;
        let disk_free = self.clone().blocking(|node| node.disk_free()).await.flatten();
        // After the look: no process is older than its machine.
        let (up, clock) = (self.moment(), clock::now());
        Attestation { node, nonce, boot_id, services, disk_free, migrations, up: Some(up), clock: Some(clock) }
    }

    /// How long the machine has been up, and in no two statements the same.
    fn moment(&self) -> Millis {
        let mut stated = lock(&self.stated);
        *stated = machine::up().max(Millis(stated.0.saturating_add(1)));
        *stated
    }

    /// The number of a session that is about to begin; 0 if it cannot be kept, since then it must not be said. A full
    /// disk does not silence a node.
    pub async fn next_session(self: &Arc<Self>) -> u64 {
        let next = self.clone().blocking(|node| session::next(&node.tools.layout.session())).await;
        match next {
            Some(Ok(number)) => number,
            Some(Err(error)) => {
                tracing::error!("{error}; this session has no number");
                0
            }
            None => 0,
        }
    }

    /// Whether a decoy may be planted here.
    pub fn volunteers(&self) -> bool {
        self.tools.config.selftest
    }

    /// Begins the migrations among these that this node never began.
    pub async fn migrate(self: &Arc<Self>, orders: Vec<MigrationOrder>) {
        if orders.is_empty() {
            return;
        }
        self.clone().blocking(move |node| node.open_migrations().receive(orders)).await;
    }

    /// Gives a repair to the service's keeper; a service without one repairs nothing, and the controller says it again.
    pub fn repair(&self, order: RepairOrder) {
        if order.node != self.name {
            return tracing::error!(service = %order.service, "a repair for node {} is refused: this is {}", order.node, self.name);
        }
        if let Some(Kept::Keeper { wish, .. }) = lock(&self.kept).get(&order.service) {
            wish.send_if_modified(|wish| {
                let new = wish.repair.as_ref() != Some(&order);
                wish.repair = Some(order.clone());
                new
            });
        }
    }

    /// What files of a release hold, with secrets masked.
    pub async fn reveal(
        self: &Arc<Self>,
        service: &ServiceName,
        release: ReleaseId,
        paths: Vec<String>,
    ) -> Vec<RevealedFile> {
        let root = self.tools.config.place(service).root;
        self.clone().blocking(move |_| reveal::reveal(&root, &release, paths)).await.unwrap_or_default()
    }

    /// How the newest migrations of each service stand.
    pub fn migrations(&self) -> Vec<MigrationEvidence> {
        self.migrations.get().map(|migrations| migrations.reports()).unwrap_or_default()
    }

    /// Looks now: at every process, and at files as deep as asked.
    pub async fn look(self: &Arc<Self>, depth: Depth) -> Vec<ServiceEvidence> {
        self.clone().blocking(move |node| node.look_at_all(depth)).await.unwrap_or_default()
    }

    /// Stops working; the services keep running.
    pub async fn stop(&self) {
        self.tell_all(|wish| wish.agent = AgentState::Stopping);
        let kept = std::mem::take(&mut *lock(&self.kept));
        let deadline = tokio::time::Instant::now() + PATIENCE;
        for (service, kept) in kept {
            if let Kept::Keeper { work, .. } = kept
                && tokio::time::timeout_at(deadline, work).await.is_err()
            {
                tracing::warn!(%service, "still in the middle of a step; it is resumed at the next start");
            }
        }
    }

    /// Below which directory the services of this node live.
    pub fn services_root(&self) -> PathBuf {
        self.tools.config.services_root.clone()
    }

    /// The services under whose name a decoy can be planted: those that hold their release.
    pub fn grounds(&self) -> Vec<decoy::Ground> {
        let ground = |(service, kept): (&ServiceName, &Kept)| {
            let Kept::Keeper { status, .. } = kept else { return None };
            let status = status.borrow();
            let live = status.live.as_ref().filter(|_| status.progress == Progress::Held)?;
            let manifest = live.descriptor.manifest.clone();
            Some(decoy::Ground { place: self.tools.config.place(service), live: live.release.clone(), manifest })
        };
        lock(&self.kept).iter().filter_map(ground).collect()
    }

    /// From now on this is looked for as well; nothing, when no such decoy stands.
    pub fn know_made(&self, made: Option<(ServiceName, Digest, ReleaseId)>) {
        *lock(&self.made) = made;
    }

    /// What a keeper says, and the decoy that was made under the name of its service.
    fn with_made(&self, service: &ServiceName, mut ground: Status) -> Status {
        if let Some((_, digest, release)) = lock(&self.made).as_ref().filter(|(of, ..)| of == service) {
            let mut known = Known::clone(&ground.known);
            known.insert(*digest, release.clone());
            ground.known = Arc::new(known);
        }
        ground
    }

    fn open_migrations(&self) -> &Arc<Migrations> {
        self.migrations.get_or_init(|| Migrations::open(self.name.clone(), self.tools.clone(), self.changes.clone()))
    }

    /// Bytes that an unprivileged program may still write where releases are kept.
    fn disk_free(&self) -> Option<u64> {
        let root = &self.tools.config.services_root;
        let told =
            |cause: &std::io::Error| tracing::warn!(root = %root.display(), "the free space is not known: {cause}");
        machine::free_space(root).inspect_err(told).ok()
    }

    fn take_in(self: &Arc<Self>, orders: Vec<Order>, permit: Millis) {
        let now = self.tools.now();
        *lock(&self.contact) = Contact::Made;
        for order in orders {
            let service = order.service.clone();
            if lock(&self.unsaved).get(&service).is_some_and(|(unsaved, _)| *unsaved == order) {
                continue;
            }
            let reception = lock(&self.orders).receive(&order);
            match reception {
                Ok(Reception::Newer) => {
                    if self.tools.points.pass("order.saved").is_err() {
                        return;
                    }
                    lock(&self.unsaved).remove(&service);
                    tracing::info!(%service, generation = %order.generation, hold = %crate::orders::describe(&order.hold), "new order");
                }
                Ok(Reception::Same) => {}
                Ok(Reception::Older) => {
                    tracing::warn!(%service, generation = %order.generation, "an older order is refused");
                    continue;
                }
                // Held as received already: the contradiction, and everything else, stays with what is on the disk.
                Ok(Reception::Contradiction) => continue,
                Err(error) => {
                    tracing::error!(%service, "{error}");
                    if let OrderError::NotSaved(_) = error {
                        lock(&self.unsaved).insert(service, (order, error.to_string()));
                        self.changes.send_modify(|count| *count += 1);
                    }
                    continue;
                }
            }
            let permit = (permit > Millis(0)).then(|| Permit { order: order.clone(), until: now.after(permit) });
            self.keep(order, permit);
        }
        self.tell_all(|wish| wish.contact = Contact::Made);
    }

    /// Gives an order to the service's keeper, or a keeper to the service.
    fn keep(self: &Arc<Self>, order: Order, permit: Option<Permit>) {
        let mut kept = lock(&self.kept);
        if let Some(Kept::Keeper { wish, status, .. }) = kept.get(&order.service)
            && !has_ended(status)
        {
            wish.send_modify(|wish| {
                wish.order = order;
                wish.permit = permit;
                wish.contact = Contact::Made;
            });
            return;
        }
        let (service, generation) = (order.service.clone(), order.generation);
        let contact = lock(&self.contact).clone();
        let (wish, wishes) = watch::channel(Wish { order, permit, contact, agent: AgentState::Working, repair: None });
        let next = match Keeper::open(self.tools.clone(), wishes) {
            Ok((keeper, status)) => {
                self.forward_changes(status.clone());
                Kept::Keeper { wish, status, work: tokio::spawn(keeper.run()) }
            }
            Err(error) => {
                tracing::error!(%service, "the service is fenced: {error}");
                Kept::Fenced { generation, reason: error.to_string() }
            }
        };
        kept.insert(service, next);
        drop(kept);
        self.changes.send_modify(|count| *count += 1);
    }

    fn fence(&self, service: ServiceName, generation: Generation, reason: String) {
        lock(&self.kept).insert(service, Kept::Fenced { generation, reason });
    }

    /// What is noticed on the node is a change like one of what a keeper says. Ends with the observer.
    fn forward(&self, mut noticed: watch::Receiver<u64>) {
        let changes = self.changes.clone();
        tokio::spawn(async move {
            while noticed.changed().await.is_ok() {
                changes.send_modify(|count| *count += 1);
            }
        });
    }

    fn forward_changes(&self, mut status: watch::Receiver<Status>) {
        let changes = self.changes.clone();
        tokio::spawn(async move {
            while status.changed().await.is_ok() {
                changes.send_modify(|count| *count += 1);
            }
            // That it says no more is news as well.
            changes.send_modify(|count| *count += 1);
        });
    }

    fn look_at_all(&self, depth: Depth) -> Vec<ServiceEvidence> {
        enum Ground {
            Keeper(watch::Receiver<Status>, watch::Receiver<Wish>),
            Fenced(Generation, String),
        }
        // Copied out first: a look takes its time, and nobody shall wait for it.
        let grounds: Vec<(ServiceName, Ground)> = lock(&self.kept)
            .iter()
            .map(|(service, kept)| match kept {
                // What it said last would stay true for ever; what is seen of the service is still stated.
                Kept::Keeper { wish, status, .. } if has_ended(status) => {
                    (service.clone(), Ground::Fenced(wish.borrow().order.generation, KEEPER_ENDED.to_owned()))
                }
                Kept::Keeper { wish, status, .. } => {
                    (service.clone(), Ground::Keeper(status.clone(), wish.subscribe()))
                }
                Kept::Fenced { generation, reason } => (service.clone(), Ground::Fenced(*generation, reason.clone())),
            })
            .collect();
        let observer = self.tools.observer.as_ref();
        let ordered: Vec<ServiceName> = grounds.iter().map(|(service, _)| service.clone()).collect();
        let look = |(service, ground): (ServiceName, Ground)| {
            let place = self.tools.config.place(&service);
            let neighbours = self.neighbours(&ordered, &service);
            match ground {
                Ground::Fenced(generation, reason) => {
                    observe::evidence_without_order(observer, depth, &place, &neighbours, generation, &reason)
                }
                Ground::Keeper(mut status, wish) => {
                    let mut look = || {
                        let wish = wish.borrow().clone();
                        let said = status.borrow_and_update().clone().in_view_of(&wish, &self.tools.now());
                        let ground = self.with_made(&service, said);
                        let generation = wish.order.generation;
                        let evidence = observe::evidence(observer, depth, &place, &neighbours, generation, &ground);
                        (evidence, status.has_changed().unwrap_or(false))
                    };
                    for _ in 1..LOOKS {
                        if let (evidence, false) = look() {
                            return evidence;
                        }
                    }
                    look().0
                }
            }
        };
        let mut services: Vec<ServiceEvidence> = grounds.into_iter().map(look).collect();
        for (service, (order, reason)) in lock(&self.unsaved).iter() {
            let failed = Progress::Failed { step: "order".to_owned(), reason: reason.clone() };
            match services.iter_mut().find(|evidence| evidence.service == *service) {
                Some(evidence) => (evidence.generation, evidence.progress) = (order.generation, failed),
                None => {
                    let evidence = observe::evidence_without_order(
                        observer,
                        depth,
                        &self.tools.config.place(service),
                        &self.neighbours(&ordered, service),
                        order.generation,
                        reason,
                    );
                    services.push(ServiceEvidence { progress: failed, ..evidence });
                }
            }
        }
        services.extend(self.left_behind(depth, &services));
        services
    }

    /// Services whose releases lie here although nothing was ordered: a node that lost its state, or was given another
    /// role. What runs of them is nobody's business but must not be nobody's knowledge.
    fn left_behind(&self, depth: Depth, known: &[ServiceEvidence]) -> Vec<ServiceEvidence> {
        let Ok(entries) = std::fs::read_dir(&self.tools.config.services_root) else { return Vec::new() };
        let ordered: Vec<ServiceName> = known.iter().map(|evidence| evidence.service.clone()).collect();
        let mut found = Vec::new();
        for entry in entries.flatten() {
            let Ok(service) = entry.file_name().to_string_lossy().parse::<ServiceName>() else { continue };
            if known.iter().any(|evidence| evidence.service == service) || !entry.path().join(".fleet").is_dir() {
                continue;
            }
            let place = self.tools.config.place(&service);
            let neighbours = self.neighbours(&ordered, &service);
            let reason = "its releases lie on this node, and no order names it";
            let evidence = observe::evidence_without_order(
                self.tools.observer.as_ref(),
                depth,
                &place,
                &neighbours,
                Generation(0),
                reason,
            );
            if evidence.current.is_some() || !evidence.processes.is_empty() {
                found.push(evidence);
            }
        }
        found.sort_by(|a, b| a.service.cmp(&b.service));
        found
    }

    /// The roots of the other services with an order.
    fn neighbours(&self, ordered: &[ServiceName], service: &ServiceName) -> Vec<PathBuf> {
        ordered.iter().filter(|other| *other != service).map(|other| self.tools.config.place(other).root).collect()
    }

    fn tell_all(&self, mut change: impl FnMut(&mut Wish)) {
        for kept in lock(&self.kept).values() {
            if let Kept::Keeper { wish, .. } = kept {
                wish.send_modify(&mut change);
            }
        }
    }

    async fn blocking<T: Send + 'static>(
        self: Arc<Self>,
        work: impl FnOnce(&Arc<Self>) -> T + Send + 'static,
    ) -> Option<T> {
        tokio::task::spawn_blocking(move || work(&self)).await.inspect_err(|stopped| tracing::error!("{stopped}")).ok()
    }
}

/// Whether the keeper that said this says nothing any more.
fn has_ended(status: &watch::Receiver<Status>) -> bool {
    status.has_changed().is_err()
}
