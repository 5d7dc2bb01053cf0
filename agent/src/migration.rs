//! Migrations: what this node runs once for a whole deployment. That it is begun is on the disk before it is started,
//! and how it ended before that is told; what was begun and has no end when the agent comes up was interrupted, and is
//! never begun again by itself. A further attempt is a person's wish and has a number of its own.
//!
//! A migration is no part of the service: it is neither stopped with it nor taken for it, it outlives the agent, and it
//! needs no permit, since it is begun only at the controller's word in this very run. What was run is kept in `history`,
//! what it printed in `output`; running one process to its end is `platform`'s.

mod history;
mod output;

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use fleet::deployment::{MigrationOrder, MigrationReport};
use fleet::evidence::MigrationEvidence;
use fleet::release::Descriptor;
use fleet::{DeploymentId, Digest, Hold, NodeName, ReleaseId, ServiceName};
use tokio::sync::watch;

use crate::environment;
use crate::failpoint::Interrupted;
use crate::fetch;
use crate::keeper::{Tools, lock};
use crate::orders::MOST_SERVICES;
use crate::platform::{Errand, ErrandEnd};
use crate::releases::{Beside, Releases};
use crate::yard::Lent;
use history::{History, Standing};
use output::Output;

/// The newest of each service that an attestation tells.
const MOST_REPORTS: usize = 3;
/// Ends that could not be written down and are remembered all the same.
const MOST_UNSAVED: usize = 256;
/// How often the size of what a migration prints is looked at.
const BOUND_EVERY: Duration = Duration::from_secs(1);

/// The migrations of one node.
pub struct Migrations {
    node: NodeName,
    tools: Tools,
    books: Mutex<BTreeMap<ServiceName, Book>>,
    changes: watch::Sender<u64>,
}

/// What is known of one service's migrations.
#[derive(Default)]
struct Book {
    /// What was run; why that cannot be told.
    history: Option<Result<History, String>>,
    /// The one at work, and how far it is. One at a time.
    at_work: Option<MigrationEvidence>,
    /// Ends that could not be written down, newest last.
    unsaved: Vec<MigrationEvidence>,
    /// Where something of an earlier run of the agent still runs.
    _lent: Vec<Lent>,
}

impl Migrations {
    /// Reads what was run here. What has no end was interrupted. Blocking.
    pub fn open(node: NodeName, tools: Tools, changes: watch::Sender<u64>) -> Arc<Self> {
        let mut books = BTreeMap::new();
        for entry in std::fs::read_dir(tools.layout.migrations()).into_iter().flatten().flatten() {
            let name = entry.file_name().to_string_lossy().into_owned();
            if let Some(service) = name.strip_suffix(".json").and_then(|name| name.parse::<ServiceName>().ok()) {
                let book = take_up(&tools, &service, &entry.path());
                books.insert(service, book);
            }
        }
        Arc::new(Self { node, tools, books: Mutex::new(books), changes })
    }

    /// Begins what is new among `orders`. Whatever was begun before, in this run or another, is not begun again.
    pub fn receive(self: &Arc<Self>, orders: Vec<MigrationOrder>) {
        for order in orders {
            if order.node != self.node {
                tracing::error!(service = %order.service, "a migration for node {} is refused: this is {}", order.node, self.node);
                continue;
            }
            let Hold::Release { release, bundle, size } = order.hold.clone() else {
                tracing::error!(service = %order.service, deployment = %order.deployment, "a migration without a release is refused");
                continue;
            };
            if self.admit(&order, &release) {
                let room = self.clone();
                tokio::spawn(async move {
                    // Interrupted by a test: as far as the disk is concerned the agent was killed.
                    let _ = room.carry_out(&order, &release, &bundle, size).await;
                });
            }
        }
    }

    /// How the newest of each service stand, newest first.
    pub fn reports(&self) -> Vec<MigrationEvidence> {
        let newest = |book: &Book| -> Vec<MigrationEvidence> {
            let ended = match &book.history {
                Some(Ok(history)) => history.ended(),
                Some(Err(_)) | None => Vec::new(),
            };
            let known = book.at_work.iter().chain(book.unsaved.iter().rev());
            known.cloned().chain(ended.into_iter().rev()).take(MOST_REPORTS).collect()
        };
        lock(&self.books).values().flat_map(newest).collect()
    }

    /// Whether this order is to be begun now; then it is at work.
    fn admit(&self, order: &MigrationOrder, release: &ReleaseId) -> bool {
        let mut books = lock(&self.books);
        if !books.contains_key(&order.service) && books.len() >= MOST_SERVICES {
            tracing::error!(service = %order.service, "a migration is refused: {MOST_SERVICES} services have had one here");
            return false;
        }
        let path = self.tools.layout.migrations().join(format!("{}.json", order.service));
        let book = books.entry(order.service.clone()).or_default();
        let (deployment, attempt) = (&order.deployment, order.attempt);
        let is_this = |its: &MigrationEvidence| its.deployment == *deployment && its.attempt >= attempt;
        if book.at_work.iter().chain(&book.unsaved).any(is_this) {
            return false;
        }
        match book.history.get_or_insert_with(|| History::open(&path).map_err(|error| error.to_string())) {
            Ok(history) if history.knows(deployment, attempt) => return false,
            Ok(_) => {}
            Err(error) => {
                let reason = format!("what was run on this node before cannot be read, so nothing is run: {error}");
                tracing::error!(service = %order.service, %deployment, "{reason}");
                book.remember(evidence(order, MigrationReport::Interrupted { reason }));
                drop(books);
                self.changed();
                return false;
            }
        }
        if book.at_work.is_some() {
            // It is said again until it has been reported.
            tracing::info!(service = %order.service, %deployment, attempt, "another migration of this service is at work");
            return false;
        }
        let detail = format!("preparing release {release}");
        book.at_work = Some(evidence(order, MigrationReport::Running { detail }));
        drop(books);
        tracing::info!(service = %order.service, %deployment, attempt, name = order.name, "a migration was ordered");
        self.changed();
        true
    }

    async fn carry_out(
        &self,
        order: &MigrationOrder,
        release: &ReleaseId,
        bundle: &Digest,
        size: u64,
    ) -> Result<(), Interrupted> {
        let _lent = self.tools.yard.lend(&order.service, release);
        let report = match self.prepare(order, release, bundle, size).await {
            Ok(errand) => match self.write(order, Standing::Begun) {
                Ok(()) => {
                    self.tools.points.pass("migration.begun")?;
                    self.progress(order, format!("{} runs", order.name));
                    self.run(order, &errand).await
                }
                Err(reason) => MigrationReport::Failed { reason: format!("it was not begun: {reason}") },
            },
            Err(reason) => MigrationReport::Failed { reason: format!("it was not begun: {reason}") },
        };
        match &report {
            MigrationReport::Succeeded => {
                tracing::info!(service = %order.service, name = order.name, "the migration succeeded")
            }
            other => tracing::error!(service = %order.service, name = order.name, "the migration: {other:?}"),
        }
        // Written before it is told.
        let saved = self.write(order, Standing::Ended { report: report.clone() });
        self.tools.points.pass("migration.ended")?;
        if let Some(book) = lock(&self.books).get_mut(&order.service) {
            if let Err(reason) = saved {
                tracing::error!(service = %order.service, "{reason}");
                book.remember(evidence(order, report));
            }
            book.at_work = None;
        }
        self.changed();
        Ok(())
    }

    /// Everything that can fail before anything is begun.
    async fn prepare(
        &self,
        order: &MigrationOrder,
        release: &ReleaseId,
        bundle: &Digest,
        size: u64,
    ) -> Result<Errand, String> {
        if let Some((attempt, deployment, pid)) = self.left_over(&order.service).await {
            return Err(format!(
                "attempt {attempt} of {deployment} still runs on this node as process {pid}: wait for its end, or end it, \
                 then try again"
            ));
        }
        let staged = tokio::time::timeout(order.timeout.to_std(), self.stage(order, release, bundle, size)).await;
        let descriptor =
            staged.map_err(|_| format!("release {release} was not on the disk within {}", order.timeout))??;
        let config = &self.tools.config;
        let user = environment::user(&descriptor.run, config.service_user.as_deref(), self.tools.rights);
        Ok(Errand {
            place: config.place(&order.service),
            release: release.clone(),
            deployment: order.deployment.clone(),
            attempt: order.attempt,
            name: order.name.clone(),
            command: order.command.clone(),
            environment: environment::environment(&descriptor.run, &config.environment),
            user,
            output: self.output(order).path().to_owned(),
            timeout: order.timeout,
        })
    }

    /// Brings the release here without making it live.
    async fn stage(
        &self,
        order: &MigrationOrder,
        release: &ReleaseId,
        bundle: &Digest,
        size: u64,
    ) -> Result<Descriptor, String> {
        let releases = Releases::new(self.tools.config.place(&order.service));
        let _bench = self.tools.yard.bench(&order.service).await;
        let (tree, id) = (releases.clone(), release.clone());
        let whole = blocking(move || -> Result<_, String> {
            tree.make().map_err(|error| error.to_string())?;
            let found = tree.descriptor(&id).map_err(|error| error.to_string())?;
            Ok(found.filter(|descriptor| tree.is_whole(&id, &descriptor.manifest, Beside::Tolerated)))
        });
        if let Some(descriptor) = whole.await?? {
            return Ok(descriptor);
        }
        if releases.place().live().as_ref() == Some(release) {
            // Its files must not change places under what runs; that is the service's keeper's to do, at an order.
            return Err(format!("release {release} is live here and its files are not as released: order it again"));
        }
        let progress = |detail: String| self.progress(order, format!("fetching release {release}: {detail}"));
        let layout = &self.tools.layout;
        let file = fetch::fetch(self.tools.source.as_ref(), layout, bundle, size, &progress)
            .await
            .map_err(|error| error.to_string())?;
        let (id, digest) = (release.clone(), *bundle);
        let staged = blocking(move || releases.stage(&id, &file, &digest)).await;
        fetch::forget(layout, bundle);
        staged?.map_err(|error| error.to_string())
    }

    async fn run(&self, order: &MigrationOrder, errand: &Errand) -> MigrationReport {
        let output = self.output(order);
        if let Err(error) = output.begin() {
            return MigrationReport::Failed { reason: error.to_string() };
        }
        let running = self.tools.supervisor.run_errand(errand);
        tokio::pin!(running);
        let end = loop {
            match tokio::time::timeout(BOUND_EVERY, &mut running).await {
                Ok(end) => break end,
                Err(_) => output.bound(),
            }
        };
        let reason = match end {
            Ok(ErrandEnd::Succeeded) => return MigrationReport::Succeeded,
            Ok(ErrandEnd::Failed { status }) => status,
            Ok(ErrandEnd::TimedOut) => format!("timed out: it ran for {} and was ended", order.timeout),
            Ok(ErrandEnd::Unknown { reason }) => return MigrationReport::Interrupted { reason },
            Err(error) => error.to_string(),
        };
        MigrationReport::Failed {
            reason: match output.tail() {
                Some(tail) => format!("{reason}; the last it printed:\n{tail}"),
                None => format!("{reason}; it printed nothing"),
            },
        }
    }

    /// A migration of this service that an agent began and did not see end, and that runs on.
    async fn left_over(&self, service: &ServiceName) -> Option<(u32, DeploymentId, u32)> {
        let supervisor = self.tools.supervisor.clone();
        let seen = blocking(move || supervisor.errands()).await.unwrap_or_default();
        let books = lock(&self.books);
        let Some(Ok(history)) = books.get(service).and_then(|book| book.history.as_ref()) else { return None };
        seen.into_iter()
            .find(|seen| history.is_unfinished(&seen.deployment, seen.attempt))
            .map(|seen| (seen.attempt, seen.deployment, seen.pid))
    }

    fn output(&self, order: &MigrationOrder) -> Output {
        Output::new(Releases::new(self.tools.config.place(&order.service)).own_files())
    }

    fn write(&self, order: &MigrationOrder, standing: Standing) -> Result<(), String> {
        let mut books = lock(&self.books);
        let book = books.get_mut(&order.service).and_then(|book| book.history.as_mut());
        match book {
            Some(Ok(history)) => history.write(order, standing).map_err(|error| error.to_string()),
            Some(Err(reason)) => Err(reason.clone()),
            None => Err("its history is not open".to_owned()),
        }
    }

    fn progress(&self, order: &MigrationOrder, detail: String) {
        if let Some(at_work) = lock(&self.books).get_mut(&order.service).and_then(|book| book.at_work.as_mut()) {
            at_work.report = MigrationReport::Running { detail };
        }
        self.changed();
    }

    fn changed(&self) {
        self.changes.send_modify(|count| *count += 1);
    }
}

impl Book {
    fn remember(&mut self, unsaved: MigrationEvidence) {
        self.unsaved.push(unsaved);
        let surplus = self.unsaved.len().saturating_sub(MOST_UNSAVED);
        self.unsaved.drain(..surplus);
    }
}

/// Opens a history after a start of the agent: nobody saw the end of what has none.
fn take_up(tools: &Tools, service: &ServiceName, path: &Path) -> Book {
    let mut history = match History::open(path) {
        Ok(history) => history,
        Err(error) => {
            tracing::error!(%service, "{error}");
            return Book { history: Some(Err(error.to_string())), ..Book::default() };
        }
    };
    let open = history.open_ones();
    let seen = if open.is_empty() { Vec::new() } else { tools.supervisor.errands() };
    let mut lent = Vec::new();
    for (deployment, attempt, release) in open {
        let running = seen.iter().find(|seen| seen.deployment == deployment && seen.attempt == attempt);
        let reason = match running {
            Some(seen) => {
                lent.push(tools.yard.lend(service, &release));
                format!("the agent was ended while it ran; it runs on as process {}, and nobody will see how it ends", seen.pid)
            }
            None => "the agent or its machine was ended while it ran; nothing of it runs any more, and nobody saw how it ended"
                .to_owned(),
        };
        tracing::error!(%service, %deployment, attempt, "a migration was interrupted: {reason}");
        let report = MigrationReport::Interrupted { reason };
        if let Err(error) = history.end(&deployment, attempt, report) {
            // It is found open again at the next start.
            tracing::error!(%service, "{error}");
        }
    }
    Book { history: Some(Ok(history)), _lent: lent, ..Book::default() }
}

fn evidence(order: &MigrationOrder, report: MigrationReport) -> MigrationEvidence {
    MigrationEvidence { deployment: order.deployment.clone(), attempt: order.attempt, report }
}

async fn blocking<T: Send + 'static>(work: impl FnOnce() -> T + Send + 'static) -> Result<T, String> {
    tokio::task::spawn_blocking(work).await.map_err(|stopped| stopped.to_string())
}
