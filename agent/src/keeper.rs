//! The keeper of one service: it takes one wish after another, carries it out or goes back, and otherwise keeps what
//! is held running. One loop; everything it must not forget is in `record` and `journal`, so being killed at any
//! moment is an ordinary event. The acts themselves are in `execute`, watching over what runs is in `supervise`.

use std::sync::Arc;

use fleet::evidence::{Health, Progress};
use fleet::release::Descriptor;
use fleet::{Digest, Generation, Hold, Order, ReleaseId};
use sha2::Digest as _;
use tokio::sync::watch;
use tokio::time::Instant;

use crate::backoff::Backoff;
use crate::balancer::Haproxy;
use crate::clock;
use crate::config::Config;
use crate::durable::FileError;
use crate::environment::Rights;
use crate::failpoint::{FailPoints, Interrupted};
use crate::fetch::{self, Source};
use crate::journal::{Direction, Entry, Journal};
use crate::layout::Layout;
use crate::permit::{Contact, Moment, Permission, Permit, may_start};
use crate::plan::Step;
use crate::platform::{Look, Observer, Running, Supervisor};
use crate::record::{Outcome, Record, Settled};
use crate::releases::{Known, Releases};
use crate::service_log::{Cause, ServiceLog, Start};
use crate::{supervise, switch};

/// Everything a keeper works with.
#[derive(Clone)]
pub struct Tools {
    /// Starts and stops.
    pub supervisor: Arc<dyn Supervisor>,
    /// Sees.
    pub observer: Arc<dyn Observer>,
    /// Where bundles come from.
    pub source: Arc<dyn Source>,
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
    /// What the service last answered.
    pub health: Health,
    /// The main process on record.
    pub running: Option<Running>,
    /// The release that this agent made live, and what it is.
    pub live: Option<Live>,
    /// When it made it live.
    pub activated: Option<Moment>,
    /// Digests of every release ever held.
    pub known: Known,
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

/// Why work on an order did not come to its end.
#[derive(Debug)]
pub(crate) enum Halt {
    /// A newer order is there, or the agent stops.
    Superseded,
    /// A fail point fired.
    Interrupted,
    /// A step failed.
    Failed(Failure),
}

/// A step that failed, and why.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Failure {
    pub(crate) step: &'static str,
    pub(crate) reason: String,
}

impl From<Interrupted> for Halt {
    fn from(Interrupted: Interrupted) -> Self {
        Self::Interrupted
    }
}

impl Failure {
    pub(crate) fn at(step: &'static str) -> impl Fn(FileError) -> Halt {
        move |error| Halt::Failed(Self { step, reason: error.to_string() })
    }
}

/// Which way a walk goes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Way {
    /// To what the order says.
    Forward,
    /// To what was held before: whatever can be skipped is skipped rather than failed.
    Back,
    /// To what should be running already.
    Revive(Cause),
}

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

/// What is remembered between two probes of one process.
#[derive(Debug, Default)]
pub(crate) struct Pulse {
    /// The process.
    pub(crate) of: Option<Running>,
    /// Since when it is watched.
    pub(crate) since: Option<Instant>,
    /// When it is asked next.
    pub(crate) next: Option<Instant>,
    /// Bad answers in a row.
    pub(crate) bad: u32,
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
        let known = releases.known()?;
        let progress = Progress::Working { step: "wait".to_owned(), detail: "the agent has just started".to_owned() };
        let status = Status {
            generation: order.generation,
            progress,
            health: Health::Unknown,
            running: None,
            live: None,
            activated: None,
            known,
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
            let end = if unsettled && self.permission(&wish) == Permission::Granted {
                self.carry_out(&wish.order).await
            } else {
                self.keep(&wish).await
            };
            match end {
                Ok(()) | Err(Halt::Superseded) => {}
                Err(Halt::Interrupted) => return Err(Interrupted),
                // Both catch their own failures; what is left is told and tried again with the next event.
                Err(Halt::Failed(failure)) => {
                    tracing::error!(service = %wish.order.service, step = failure.step, "{}", failure.reason)
                }
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

    /// Says how far it is, always together with the order that this is about.
    pub(crate) fn tell(&self, progress: Progress) {
        self.status.send_if_modified(|status| {
            let new = status.progress != progress || status.generation != self.at;
            status.progress = progress;
            status.generation = self.at;
            new
        });
    }

    pub(crate) fn tell_health(&self, health: Health) {
        self.status.send_if_modified(|status| {
            let new = status.health != health;
            status.health = health;
            new
        });
    }

    /// Publishes what is on record.
    pub(crate) fn publish(&self) {
        let live = self.record.live.as_ref().and_then(|release| match &self.status.borrow().live {
            Some(live) if live.release == *release => Some(live.clone()),
            Some(_) | None => match self.releases.descriptor(release) {
                Ok(found) => found.map(|descriptor| Live {
                    release: release.clone(),
                    digest: Digest(sha2::Sha256::digest(descriptor.to_json()).into()),
                    descriptor: Arc::new(descriptor),
                }),
                Err(error) => {
                    tracing::error!("{error}");
                    None
                }
            },
        });
        self.status.send_modify(|status| {
            status.running.clone_from(&self.record.running);
            status.live = live;
            status.activated.clone_from(&self.record.activated);
        });
    }

    /// Publishes the digests of a release that has just been staged.
    pub(crate) fn learn(&self) {
        match self.releases.known() {
            Ok(known) => self.status.send_modify(|status| {
                status.known = known;
                // What was staged may be what is live, put right: what it is, is read again.
                status.live = None;
            }),
            Err(error) => tracing::error!("{error}"),
        }
        self.publish();
    }

    /// Notes a start in the log of starts.
    pub(crate) fn note_start(&self, generation: Generation, running: &Running, cause: Cause) {
        let start = Start {
            time: clock::now_text(),
            generation,
            release: running.release.clone(),
            pid: running.pid,
            start_ticks: running.start_ticks,
            cause,
        };
        if let Err(error) = self.log.note(&start) {
            tracing::warn!("{error}");
        }
    }

    /// Looks at the world after a start of the agent: which acts were done before it was ended?
    fn wake(&mut self) -> Result<(), FileError> {
        let service = self.releases.place().service.clone();
        let generation = self.wish.borrow().order.generation;
        if let Some(Step::Start { release }) = self.journal.open_step().cloned()
            && !self.main_alive()
            && let Some(found) = self.find_started(&release)
        {
            tracing::info!(%service, pid = found.pid, %release, "found the process that was started before the agent ended");
            let cause = self.journal.attempt().map_or(Cause::Crash, |attempt| {
                if attempt.direction == Direction::Forward { Cause::Order } else { Cause::Undo }
            });
            self.note_start(generation, &found, cause);
            self.record.running = Some(found);
            self.record.answered = false;
        }
        if self.main_alive() {
            self.seen_alive = true;
            tracing::info!(%service, pid = self.record.running.as_ref().map(|running| running.pid), "the service runs; it is left as it is");
        } else {
            self.record.running = None;
            self.record.answered = false;
        }
        match switch::current(self.releases.place()) {
            Ok(current) if current != self.record.live => {
                let aims = self.journal.attempt().map(|attempt| [Some(&attempt.to), attempt.from.as_ref()]);
                let ours = aims.into_iter().flatten().flatten().any(|hold| hold.release() == current.as_ref());
                if ours || (self.journal.attempt().is_some() && current.is_none()) {
                    // Switched, and ended before that was recorded. Nothing was started since then.
                    self.record.live = current;
                    self.record.activated = Some(self.tools.now());
                } else {
                    tracing::error!(%service, ?current, recorded = ?self.record.live, "`current` was changed by somebody else; it is left as it is and shows as drift");
                }
            }
            Ok(_) => {}
            Err(error) => tracing::error!(%service, "{error}"),
        }
        self.save()?;
        self.publish();
        Ok(())
    }

    /// The process that an interrupted start made: the oldest that carries the mark of this release. A stop comes
    /// before every start, so whatever carries it was started by that very step.
    fn find_started(&self, release: &ReleaseId) -> Option<Running> {
        /// Ages come from /proc in ticks; between reading them and now a slow machine passes a few more.
        const SLACK: u64 = 200;
        let place = self.releases.place();
        let known = Known::default();
        let look = Look { place, held: None, running: None, known: &known, neighbours: &[], activated: None };
        let seen = self.tools.observer.look(&look);
        let now = self.tools.now();
        let mut marked =
            seen.inspect_err(|cause| tracing::error!("cannot look for a started process: {cause}")).ok()?.processes;
        // A service that cleans its environment has lost the mark; what it executes and where it stands tell as well.
        marked.retain(|process| {
            [&process.marker, &process.executable.release, &process.cwd].into_iter().flatten().any(|its| its == release)
        });
        marked.sort_by_key(|process| std::cmp::Reverse(process.age));
        marked.into_iter().find_map(|process| {
            let about = now.ticks.saturating_sub(process.age.0 / 10);
            let at = |start_ticks| Running {
                pid: process.pid,
                start_ticks,
                boot_id: now.boot_id.clone(),
                release: release.clone(),
            };
            (about.saturating_sub(SLACK)..=about + SLACK)
                .map(at)
                .find(|candidate| self.tools.supervisor.is_running(candidate))
        })
    }

    fn note_permit(&mut self, wish: &Wish) {
        if wish.permit.is_some() && wish.permit != self.record.permit {
            self.record.permit.clone_from(&wish.permit);
            if let Err(error) = self.save() {
                tracing::warn!("{error}");
            }
        }
    }

    /// Carries an order out, or goes back to what was held.
    async fn carry_out(&mut self, order: &Order) -> Result<(), Halt> {
        self.tell(Progress::Working { step: "fetch".to_owned(), detail: "beginning".to_owned() });
        let resumed = self.journal.attempt().filter(|attempt| attempt.generation == order.generation).cloned();
        let direction = match resumed {
            Some(attempt) => attempt.direction,
            None => {
                if let Some(Hold::Release { bundle, .. }) = self.journal.attempt().map(|attempt| &attempt.to)
                    && !matches!(&order.hold, Hold::Release { bundle: wanted, .. } if wanted == bundle)
                {
                    fetch::forget(&self.tools.layout, bundle);
                }
                let begun = Entry::Begun {
                    generation: order.generation,
                    from: self.record.held.clone(),
                    to: order.hold.clone(),
                };
                if let Err(error) = self.journal.append(&begun) {
                    return self.settle(order, Outcome::Failed { step: "fetch".to_owned(), reason: error.to_string() });
                }
                Direction::Forward
            }
        };
        tracing::info!(service = %order.service, generation = %order.generation, hold = %crate::orders::describe(&order.hold), ?direction, "carrying out an order");
        match direction {
            Direction::Back { step, reason } => self.go_back(order, step, reason).await,
            Direction::Forward => match self.walk(order, &order.hold, Way::Forward).await {
                Ok(()) => self.settle(order, Outcome::Held),
                Err(Halt::Failed(Failure { step, reason })) => {
                    tracing::error!(service = %order.service, generation = %order.generation, step, "the order failed: {reason}");
                    if let Err(error) =
                        self.journal.append(&Entry::TurnedBack { name: step.to_owned(), reason: reason.clone() })
                    {
                        tracing::error!("{error}");
                    }
                    self.tools.points.pass("turn.after")?;
                    self.go_back(order, step.to_owned(), reason).await
                }
                Err(halt) => Err(halt),
            },
        }
    }

    async fn go_back(&mut self, order: &Order, step: String, reason: String) -> Result<(), Halt> {
        let from = self.record.held.clone().unwrap_or(Hold::Nothing);
        if from == order.hold {
            // It is what was held already: there is nowhere to go back to, and starting it again would be a second try.
            return self.settle(order, Outcome::Failed { step, reason });
        }
        let reason = match self.walk(order, &from, Way::Back).await {
            Ok(()) => reason,
            Err(Halt::Failed(second)) => {
                let back = crate::orders::describe(&from);
                tracing::error!(service = %order.service, step = second.step, "going back to {back} failed too: {}", second.reason);
                format!("{reason}; and going back to {back} failed at {}: {}", second.step, second.reason)
            }
            Err(halt) => return Err(halt),
        };
        self.settle(order, Outcome::Failed { step, reason })
    }

    fn settle(&mut self, order: &Order, outcome: Outcome) -> Result<(), Halt> {
        if outcome == Outcome::Held {
            self.record.held = Some(order.hold.clone());
        }
        self.record.settled = Some(Settled { generation: order.generation, outcome });
        // Saved before said. If it cannot be saved, memory still knows, and a restart would look again.
        match self.save() {
            Ok(()) => {
                self.tools.points.pass("settle.recorded")?;
                if let Err(error) = self.journal.clear() {
                    tracing::warn!("{error}");
                }
            }
            Err(error) => tracing::error!("{error}"),
        }
        if let Hold::Release { bundle, .. } = &order.hold {
            fetch::forget(&self.tools.layout, bundle);
        }
        let held = self.record.held.as_ref().and_then(Hold::release).cloned();
        let needed: Vec<&ReleaseId> =
            self.record.live.iter().chain(held.iter()).collect::<std::collections::BTreeSet<_>>().into_iter().collect();
        self.releases.prune(self.tools.config.keep_releases, &needed);
        self.tools.points.pass("settle.after")?;
        Ok(())
    }
}
