//! The keeper of one service: it takes one wish after another, carries it out or goes back, and otherwise keeps what
//! is held running. One loop; everything it must not forget is in `record` and `journal`, so being killed at any
//! moment is an ordinary event. Taking up what a killed agent left is in `waking`, one order in `attempt`, single acts in
//! `execute`, watching over what runs in `supervise`, and what is said of it in `telling`.

use std::sync::Arc;
use std::time::Duration;

use fleet::evidence::{Confirmation, Health, Progress, Stranger};
use fleet::release::Descriptor;
use fleet::repair::{RepairOrder, RepairReport};
use fleet::{Digest, Generation, Order, ReleaseId};
use tokio::sync::watch;

use crate::attempt::Halt;
use crate::backoff::Backoff;
use crate::balancer::Haproxy;
use crate::config::{Config, WhenUnreachable};
use crate::confirm::Confirmer;
use crate::durable::FileError;
use crate::environment::Rights;
use crate::failpoint::{FailPoints, Interrupted};
use crate::fetch::Source;
use crate::journal::{Attempt, Journal};
use crate::known::Known;
use crate::layout::Layout;
use crate::permit::{Contact, Moment, Permission, Permit, may_start};
use crate::platform::{Observer, Running, Supervisor};
use crate::record::Record;
use crate::releases::Releases;
use crate::service_log::ServiceLog;
use crate::supervise::{self, Pulse};
use crate::yard::Yard;

/// Everything a keeper works with.
#[derive(Clone)]
pub struct Tools {
    /// Starts and stops.
    pub supervisor: Arc<dyn Supervisor>,
    /// Sees.
    pub observer: Arc<dyn Observer>,
    /// Where bundles come from.
    pub source: Arc<dyn Source>,
    /// Who confirms what was carried out.
    pub confirmer: Arc<dyn Confirmer>,
    /// Who works on whose releases.
    pub yard: Arc<Yard>,
    /// The balancer in front of this node.
    pub balancer: Option<Haproxy>,
    /// The agent's own files.
    pub layout: Layout,
    /// What the administrator decided.
    pub config: Arc<Config>,
    /// Whether the agent is root.
    pub rights: Rights,
    /// Where tests end the agent.
    pub points: Arc<FailPoints>,
}

impl Tools {
    /// Now, on the boot clock.
    pub fn now(&self) -> Moment {
        Moment { boot_id: self.observer.boot_id(), ticks: self.observer.ticks_now() }
    }
}

/// What a keeper is told.
#[derive(Debug, Clone)]
pub struct Wish {
    /// What shall be held; already on the disk.
    pub order: Order,
    /// The permit that came with it in this run of the agent.
    pub permit: Option<Permit>,
    /// What is known of the controller.
    pub contact: Contact,
    /// Whether the agent goes on.
    pub agent: AgentState,
    /// The newest repair that was ordered in this run of the agent.
    pub repair: Option<RepairOrder>,
}

/// Whether the agent goes on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum AgentState {
    /// It does.
    Working,
    /// It was told to stop; services keep running.
    Stopping,
}

/// What a keeper says of its service; the ground of evidence.
#[derive(Debug, Clone)]
pub struct Status {
    /// The order it is at.
    pub generation: Generation,
    /// How far it is.
    pub progress: Progress,
    /// Whether this agent may still undo that.
    pub confirmation: Confirmation,
    /// What the service last answered.
    pub health: Health,
    /// Who else listens where it was asked, if somebody does.
    pub stranger: Option<Stranger>,
    /// The main process on record.
    pub running: Option<Running>,
    /// The release that this agent made live, and what it is.
    pub live: Option<Live>,
    /// When it made it live.
    pub activated: Option<Moment>,
    /// Digests of every release ever held.
    pub known: Arc<Known>,
    /// How the newest repair stands.
    pub repair: Option<RepairReport>,
}

impl Status {
    /// What it says, unless that has been overtaken: a keeper that was just permitted to start has said before that it may
    /// not, and takes its permit in a moment later, on a busy machine long after the controller has asked. That it starts is
    /// said for it then; if it does not, the controller sees for how long.
    #[must_use]
    pub fn in_view_of(self, wish: &Wish, now: &Moment) -> Self {
        // By the fresh permit alone: what else may lift the fence is the keeper's to know.
        let granted = || may_start(&wish.order, wish.permit.as_ref(), &wish.contact, now, WhenUnreachable::Refuse);
        if !matches!(self.progress, Progress::Fenced { .. }) || granted() != Permission::Granted {
            return self;
        }
        let detail = format!("order {} has just been permitted", wish.order.generation);
        Self { progress: Progress::Working { step: "start".to_owned(), detail }, ..self }
    }
}

/// The release that this agent made live.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Live {
    /// Which.
    pub release: ReleaseId,
    /// What it is, as staged here.
    pub descriptor: Arc<Descriptor>,
    /// The digest of that descriptor: it tells the controller what files are compared with.
    pub digest: Digest,
}

/// Between a failure that nobody caught and the next try.
const AFTER_FAILURE: Duration = Duration::from_secs(1);

/// The keeper of one service.
pub struct Keeper {
    pub(crate) tools: Tools,
    pub(crate) releases: Releases,
    pub(crate) log: ServiceLog,
    pub(crate) wish: watch::Receiver<Wish>,
    pub(crate) status: watch::Sender<Status>,
    pub(crate) record: Record,
    pub(crate) journal: Journal,
    /// Whether the balancer is known to have taken this node out, in this run.
    pub(crate) surely_drained: bool,
    /// Where the output of the current main process begins in its log.
    pub(crate) log_from: u64,
    pub(crate) crashes: Backoff,
    /// Whether the main process was seen alive in this run: what starts after that starts after a crash.
    pub(crate) seen_alive: bool,
    /// The order that everything said is about.
    pub(crate) at: Generation,
    pub(crate) pulse: Pulse,
}

impl Keeper {
    /// Reads what is on the disk and looks at the world, before anything is done.
    ///
    /// # Errors
    /// A file that cannot be read or written: the service is fenced and left as it is.
    pub fn open(tools: Tools, wish: watch::Receiver<Wish>) -> Result<(Self, watch::Receiver<Status>), FileError> {
        let order = wish.borrow().order.clone();
        let releases = Releases::new(tools.config.place(&order.service));
        releases.make()?;
        let mut record = Record::load(&tools.layout.record(&order.service))?;
        if let Some(permit) = &mut record.permit {
            // A permit of an earlier run is not fresh, however young: the controller may have moved on meanwhile.
            permit.until.ticks = 0;
        }
        let journal = Journal::open(&tools.layout.journal(&order.service))?;
        let known = Arc::new(releases.known()?);
        let progress = Progress::Working { step: "wait".to_owned(), detail: "the agent has just started".to_owned() };
        let status = Status {
            generation: order.generation,
            progress,
            confirmation: Confirmation::Given,
            health: Health::Unknown,
            stranger: None,
            running: None,
            live: None,
            activated: None,
            known,
            repair: record.repair.as_ref().map(crate::mend::Mending::report),
        };
        let (status, receiver) = watch::channel(status);
        let log = ServiceLog::new(releases.own_files());
        let mut keeper = Self {
            tools,
            releases,
            log,
            wish,
            status,
            record,
            journal,
            surely_drained: false,
            log_from: 0,
            crashes: supervise::crash_backoff(),
            seen_alive: false,
            at: order.generation,
            pulse: Pulse::default(),
        };
        keeper.wake()?;
        Ok((keeper, receiver))
    }

    /// Works until the agent stops.
    ///
    /// # Errors
    /// [`Interrupted`] if a test ended it.
    pub async fn run(mut self) -> Result<(), Interrupted> {
        loop {
            let wish = self.wish.borrow_and_update().clone();
            if wish.agent == AgentState::Stopping || self.wish.has_changed().is_err() {
                // Told to stop, or nobody is left who could tell anything.
                return Ok(());
            }
            self.note_permit(&wish);
            self.at = wish.order.generation;
            let unsettled = self.record.outcome(wish.order.generation).is_none();
            let alone = self.journal.attempt().filter(|attempt| attempt.generation == self.at);
            let may = self.permission(&wish) == Permission::Granted || alone.is_some_and(Attempt::goes_on_alone);
            let end = match self.to_mend(&wish) {
                _ if unsettled && may => self.carry_out(&wish.order).await,
                Some(mending) => self.mend(&wish, mending).await,
                None => self.keep(&wish).await,
            };
            match end {
                Ok(()) | Err(Halt::Superseded) => {}
                Err(Halt::Interrupted) => return Err(Interrupted),
                // Both catch their own failures; should one be left, it is told and tried again, in no hurry.
                Err(Halt::Failed(failure)) => {
                    tracing::error!(service = %wish.order.service, step = failure.step, "{}", failure.reason);
                    let _ = tokio::time::timeout(AFTER_FAILURE, self.wish.changed()).await;
                }
            }
        }
    }

    pub(crate) fn note_permit(&mut self, wish: &Wish) {
        if wish.permit.is_some() && wish.permit != self.record.permit {
            self.record.permit.clone_from(&wish.permit);
            if let Err(error) = self.save() {
                tracing::warn!("{error}");
            }
        }
    }

    pub(crate) fn permission(&self, wish: &Wish) -> Permission {
        let permit = self.record.permit.as_ref();
        may_start(&wish.order, permit, &wish.contact, &self.tools.now(), self.tools.config.when_controller_unreachable)
    }

    pub(crate) fn save(&self) -> Result<(), FileError> {
        self.record.save(&self.tools.layout.record(&self.releases.place().service))
    }

    pub(crate) fn main_alive(&self) -> bool {
        self.record.running.as_ref().is_some_and(|running| self.tools.supervisor.is_running(running))
    }
}

/// A lock that a panic elsewhere does not poison: what it guards is replaced whole.
pub(crate) fn lock<T>(mutex: &std::sync::Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(std::sync::PoisonError::into_inner)
}
