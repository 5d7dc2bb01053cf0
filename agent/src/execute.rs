//! Performing steps. Nothing is decided here but how to do one step and whether it worked; which steps, and what
//! follows from a failure, is `plan`'s and `attempt`'s. Waiting for the first answer is in `answer`.

use std::sync::Arc;
use std::time::Duration;

use fleet::evidence::{Health, Progress};
use fleet::release::Descriptor;
use fleet::{Digest, Hold, Millis, Order, ReleaseId};
use tokio::sync::watch;

use crate::attempt::{Failure, Halt, Way};
use crate::config::WhenUnreachable;
use crate::environment;
use crate::fetch;
use crate::journal::{Attempt, Entry};
use crate::keeper::{AgentState, Keeper, Wish};
use crate::permit::Permission;
use crate::plan::{self, Answer, Scene, Step, Supply, Traffic};
use crate::platform::{Launch, Running};
use crate::releases::Beside;
use crate::service_log::{Cause, with_tail};
use crate::switch;

/// Time to stop for a release whose descriptor is gone.
const DEFAULT_STOP_TIMEOUT: Millis = Millis::from_secs(30);
/// Between two tries to put this node back into the balancer.
const ALLOW_AGAIN: Duration = Duration::from_millis(500);

impl Keeper {
    /// Goes from what is seen to `wanted`.
    pub(crate) async fn walk(&mut self, order: &Order, wanted: &Hold, way: Way) -> Result<(), Halt> {
        'plan: loop {
            let scene = self.scene(wanted, way).await?;
            for step in plan::steps(wanted, &scene) {
                if is_newer(&self.wish.borrow(), order) {
                    return Err(Halt::Superseded);
                }
                if self.needs_permit(&step, way) && self.wait_for_permit(order, way).await? == Waited::Long {
                    // The world may have changed meanwhile.
                    continue 'plan;
                }
                tracing::info!(service = %order.service, generation = %order.generation, %step, ?way, "step");
                self.tell_step(&step, way, "");
                self.tools.points.pass(&format!("{}.before", step.name()))?;
                self.perform(order, &step, way).await?;
                self.tools.points.pass(&format!("{}.after", step.name()))?;
            }
            return Ok(());
        }
    }

    pub(crate) async fn scene(&self, wanted: &Hold, way: Way) -> Result<Scene, Halt> {
        let current = switch::current(self.releases.place()).map_err(Failure::at("switch"))?;
        let running = self.record.running.as_ref().filter(|running| self.main_alive() && !self.is_outdated(running));
        let running = running.map(|running| running.release.clone());
        let supply = match wanted {
            Hold::Nothing => Supply::Absent,
            Hold::Release { release, bundle, size } => {
                self.supply(release, bundle, *size, current.as_ref(), way).await?
            }
        };
        let traffic = match (&self.tools.balancer, way) {
            // A process that ended by itself was missed by the balancer's own checks; there is nothing to drain.
            (None, _) | (Some(_), Way::Revive(_)) => Traffic::NotBalanced,
            (Some(_), Way::Forward | Way::Back) if self.surely_drained => Traffic::Drained,
            (Some(_), Way::Forward | Way::Back) if self.record.drained => Traffic::Unsure,
            (Some(_), Way::Forward | Way::Back) => Traffic::Allowed,
        };
        let answer = if self.record.answered { Answer::Given } else { Answer::Outstanding };
        Ok(Scene { current, running, supply, answer, traffic })
    }

    async fn supply(
        &self,
        release: &ReleaseId,
        bundle: &Digest,
        size: u64,
        current: Option<&ReleaseId>,
        way: Way,
    ) -> Result<Supply, Halt> {
        if let Some(descriptor) = self.releases.descriptor(release).map_err(Failure::at("stage"))? {
            let must_serve = self.tools.config.when_controller_unreachable == WhenUnreachable::LastPermitted;
            if current == Some(release) && matches!(way, Way::Revive(_)) && must_serve {
                // The administrator wants it up even where a changed file could not be put right without a controller.
                return Ok(Supply::Staged);
            }
            // It lay there for a while: what is made live, or ordered again, must be what was released (I1).
            let (releases, id) = (self.releases.clone(), release.clone());
            let beside = match way {
                Way::Forward => Beside::Refused,
                // A core dump must not keep what should be running from running; as drift it shows in any case.
                Way::Back | Way::Revive(_) => Beside::Tolerated,
            };
            if blocking("stage", move || releases.is_whole(&id, &descriptor.manifest, beside)).await? {
                return Ok(Supply::Staged);
            }
            tracing::warn!(%release, "the unpacked release no longer matches its manifest; it is fetched again");
        }
        let fetched = std::fs::metadata(self.tools.layout.bundle(bundle)).is_ok_and(|found| found.len() == size);
        Ok(if fetched { Supply::Fetched } else { Supply::Absent })
    }

    /// Whether a process of this boot is older than the files of its release: it runs what lay there before.
    fn is_outdated(&self, running: &Running) -> bool {
        let activated = self.record.activated.as_ref().filter(|activated| activated.boot_id == running.boot_id);
        activated.is_some_and(|activated| running.start_ticks < activated.ticks)
    }

    pub(crate) async fn perform(&mut self, order: &Order, step: &Step, way: Way) -> Result<(), Halt> {
        match step {
            Step::Fetch { bundle, size } => self.fetch(order, step, way, bundle, *size).await,
            Step::Stage { release, bundle } => self.stage(order, step, way, release, bundle).await,
            Step::Drain => self.drain(order, step, way).await,
            Step::Stop => self.stop(step, way).await,
            Step::Switch { to } => self.switch(step, way, to.as_ref()),
            Step::Start { release } => self.start(order, step, way, release).await,
            Step::Probe { .. } => self.probe(order, step, way).await,
            Step::Allow => self.allow(order, step, way).await,
        }
    }

    async fn fetch(&self, order: &Order, step: &Step, way: Way, bundle: &Digest, size: u64) -> Result<(), Halt> {
        let progress = |detail: String| self.tell_step(step, way, &detail);
        let fetching = async {
            let _bench = self.tools.yard.bench(&order.service).await;
            fetch::fetch(self.tools.source.as_ref(), &self.tools.layout, bundle, size, &progress).await
        };
        match until_newer(self.wish.clone(), order, fetching).await? {
            Ok(_) => Ok(()),
            Err(error) => Err(failed(step, error.to_string())),
        }
    }

    async fn stage(
        &mut self,
        order: &Order,
        step: &Step,
        way: Way,
        release: &ReleaseId,
        bundle: &Digest,
    ) -> Result<(), Halt> {
        let yard = self.tools.yard.clone();
        let _bench = until_newer(self.wish.clone(), order, yard.bench(&order.service)).await?;
        self.intend(step, way)?;
        if self.record.live.as_ref() == Some(release) {
            // Its files change places with others under what runs: whatever was started before now is none of it, and
            // that must be known to the successor of an agent that is killed before it stops what runs.
            self.record.activated = Some(self.tools.now());
            self.save_or(step, way)?;
            self.publish();
        }
        let (releases, id, digest, file) =
            (self.releases.clone(), release.clone(), *bundle, self.tools.layout.bundle(bundle));
        let staged = blocking("stage", move || {
            // A migration may have unpacked the very same between fetching and now, and needs its bundle no more.
            let here = if file.exists() { None } else { releases.descriptor(&id).ok().flatten() };
            match here.filter(|descriptor| releases.is_whole(&id, &descriptor.manifest, Beside::Refused)) {
                Some(descriptor) => Ok(descriptor),
                None => releases.stage(&id, &file, &digest),
            }
        })
        .await?;
        if let Err(error) = staged {
            // Whatever is wrong with it, the next order fetches it again.
            fetch::forget(&self.tools.layout, bundle);
            return Err(failed(step, error.to_string()));
        }
        fetch::forget(&self.tools.layout, bundle);
        self.learn();
        Ok(())
    }

    async fn drain(&mut self, order: &Order, step: &Step, way: Way) -> Result<(), Halt> {
        let Some(balancer) = self.tools.balancer.clone() else { return Ok(()) };
        self.intend(step, way)?;
        // The debt is on record before it is made (F50).
        self.record.drained = true;
        self.save_or(step, way)?;
        self.tools.points.pass("drain.recorded")?;
        let progress = |detail: String| self.tell_step(step, way, &detail);
        match until_newer(self.wish.clone(), order, balancer.drain(&progress)).await? {
            Ok(drained) => {
                if let crate::balancer::Drained::Left { connections } = drained {
                    tracing::warn!(service = %order.service, connections, "the drain timeout is over; what is left is cut");
                }
                self.surely_drained = true;
                Ok(())
            }
            Err(error) if way == Way::Forward => Err(failed(step, error.to_string())),
            Err(error) => {
                tracing::warn!(service = %order.service, "going on without draining: {error}");
                Ok(())
            }
        }
    }

    async fn stop(&mut self, step: &Step, way: Way) -> Result<(), Halt> {
        self.intend(step, way)?;
        let timeout = self
            .record
            .running
            .as_ref()
            .map(|running| &running.release)
            .or(self.record.live.as_ref())
            .and_then(|release| self.describe(release))
            .map_or(DEFAULT_STOP_TIMEOUT, |descriptor| descriptor.run.stop_timeout);
        let stopped = self.tools.supervisor.stop(self.releases.place(), self.record.running.as_ref(), timeout).await;
        match stopped {
            Ok(stopped) if stopped.killed.is_empty() => {}
            Ok(stopped) => {
                tracing::warn!(service = %self.releases.place().service, killed = ?stopped.killed, "these did not stop within {timeout} and were killed")
            }
            Err(error) => return Err(failed(step, error.to_string())),
        }
        self.record.running = None;
        self.record.answered = false;
        self.tell_health(Health::Unknown);
        self.save_or(step, way)?;
        self.publish();
        Ok(())
    }

    fn switch(&mut self, step: &Step, way: Way, to: Option<&ReleaseId>) -> Result<(), Halt> {
        self.intend(step, way)?;
        self.tools.points.pass("switch.intended")?;
        switch::switch(self.releases.place(), to).map_err(|error| failed(step, error.to_string()))?;
        self.tools.points.pass("switch.renamed")?;
        self.did(step, way)?;
        self.tools.points.pass("switch.switched")?;
        self.record.live = to.cloned();
        self.record.activated = Some(self.tools.now());
        self.save_or(step, way)?;
        // It may have been unpacked by a migration, of which this keeper knows nothing yet.
        self.learn();
        Ok(())
    }

    async fn start(&mut self, order: &Order, step: &Step, way: Way, release: &ReleaseId) -> Result<(), Halt> {
        let descriptor = self
            .describe(release)
            .ok_or_else(|| failed(step, format!("release {release} is not on this node's disk")))?;
        let config = &self.tools.config;
        let prepared = environment::prepare(
            &descriptor.run,
            &config.environment,
            config.service_user.as_deref(),
            self.tools.rights,
        )
        .map_err(|reason| failed(step, reason))?;
        self.intend(step, way)?;
        self.tools.points.pass("start.intended")?;
        self.log_from = self.log.rotate();
        let launch = Launch {
            place: self.releases.place().clone(),
            release: release.clone(),
            command: prepared.command,
            environment: prepared.environment,
            user: prepared.user,
            log: self.log.output(),
        };
        if self.record.live.as_ref() != Some(release) {
            // The record was lost, and `current` pointed here already: from now on it is this agent's again.
            self.record.live = Some(release.clone());
            self.record.activated = Some(self.tools.now());
        }
        let running = self.tools.supervisor.start(&launch).await.map_err(|error| failed(step, error.to_string()))?;
        self.tools.points.pass("start.inside")?;
        let cause = match way {
            Way::Forward => Cause::Order,
            Way::Back => Cause::Undo,
            Way::Revive(cause) => cause,
        };
        self.note_start(order.generation, &running, cause);
        self.record.running = Some(running);
        self.record.answered = false;
        self.seen_alive = true;
        self.save_or(step, way)?;
        self.tools.points.pass("start.recorded")?;
        self.did(step, way)?;
        self.publish();
        Ok(())
    }

    /// Puts the node back, for as long as it takes: a service that works and gets no traffic must not look done. An
    /// order that is undone without a confirmation waits no longer than for that: the release may be what keeps this
    /// node from reaching anybody.
    async fn allow(&mut self, order: &Order, step: &Step, way: Way) -> Result<(), Halt> {
        let Some(balancer) = self.tools.balancer.clone() else { return Ok(()) };
        let Some(running) = self.record.running.clone() else {
            return Err(failed(step, "the main process has ended".to_owned()));
        };
        if way == Way::Back {
            // The order has failed and must be told so; what is owed is tried again by supervision.
            return match balancer.allow().await {
                Ok(()) => {
                    self.paid();
                    self.save_or(step, way)
                }
                Err(error) => {
                    tracing::warn!(service = %order.service, "still out of the balancer: {error}");
                    Ok(())
                }
            };
        }
        let supervisor = self.tools.supervisor.clone();
        let allowing = async {
            while let Err(error) = balancer.allow().await {
                tracing::warn!(service = %order.service, "still out of the balancer: {error}");
                self.tell_step(step, way, &error.to_string());
                tokio::time::sleep(ALLOW_AGAIN).await;
            }
        };
        let allowed = until_newer(self.wish.clone(), order, async {
            tokio::select! {
                () = supervisor.gone(&running) => Err("the main process ended before it got traffic".to_owned()),
                () = allowing => Ok(()),
                () = tokio::time::sleep(order.confirm.to_std()), if order.confirm > Millis(0) => {
                    Err(format!("the balancer could not be told within {}", order.confirm))
                }
            }
        })
        .await?;
        allowed.map_err(|reason| failed(step, with_tail(reason, Some(&running), self.log.tail(self.log_from))))?;
        self.paid();
        self.save_or(step, way)
    }

    /// The node is back in the balancer.
    pub(crate) fn paid(&mut self) {
        self.record.drained = false;
        self.surely_drained = false;
    }

    /// What a release on this node's disk is. What is live is at hand.
    pub(crate) fn describe(&self, release: &ReleaseId) -> Option<Arc<Descriptor>> {
        if let Some(live) = self.status.borrow().live.as_ref().filter(|live| live.release == *release) {
            return Some(live.descriptor.clone());
        }
        let found = self.releases.descriptor(release).inspect_err(|error| tracing::error!("{error}")).ok().flatten();
        found.map(Arc::new)
    }

    /// Writes down what is about to be done. On the way back a full disk must not keep the old release from starting.
    fn intend(&mut self, step: &Step, way: Way) -> Result<(), Halt> {
        self.enter(&Entry::Intends { step: step.clone() }, step, way)
    }

    fn did(&mut self, step: &Step, way: Way) -> Result<(), Halt> {
        self.enter(&Entry::Did { name: step.name().to_owned() }, step, way)
    }

    fn enter(&mut self, entry: &Entry, step: &Step, way: Way) -> Result<(), Halt> {
        let entered = self.journal.append(entry);
        tolerate(entered.map_err(|error| error.to_string()), step, way)
    }

    pub(crate) fn save_or(&self, step: &Step, way: Way) -> Result<(), Halt> {
        tolerate(self.save().map_err(|error| error.to_string()), step, way)
    }

    pub(crate) fn tell_step(&self, step: &Step, way: Way, detail: &str) {
        let detail = match way {
            Way::Forward => detail.to_owned(),
            Way::Back => format!("going back: {step} {detail}").trim_end().to_owned(),
            // The order is settled; what is seen of the process says the rest.
            Way::Revive(_) => return,
        };
        self.tell(Progress::Working { step: step.name().to_owned(), detail });
    }

    /// What disturbs waits for a permit, so that nothing is stopped that may not be started; on the way back only the
    /// start does: what failed is stopped in any case. What was not confirmed goes back without one: the order itself
    /// gave the right to.
    fn needs_permit(&self, step: &Step, way: Way) -> bool {
        match way {
            Way::Forward => step.disturbs(),
            Way::Back => {
                matches!(step, Step::Start { .. }) && !self.journal.attempt().is_some_and(Attempt::goes_back_alone)
            }
            Way::Revive(_) => matches!(step, Step::Start { .. }),
        }
    }

    async fn wait_for_permit(&mut self, order: &Order, way: Way) -> Result<Waited, Halt> {
        let mut waited = Waited::NotAtAll;
        loop {
            let wish = self.wish.borrow_and_update().clone();
            if is_newer(&wish, order) || self.wish.has_changed().is_err() {
                return Err(Halt::Superseded);
            }
            self.record.permit = wish.permit.clone().or(self.record.permit.take());
            let Permission::Refused { reason } = self.permission(&wish) else { return Ok(waited) };
            if let Way::Revive(_) = way {
                return Err(Halt::Superseded);
            }
            waited = Waited::Long;
            tracing::warn!(service = %order.service, "waiting: {reason}");
            self.tell(Progress::Fenced { reason });
            // Silence lasts long enough at some moment, which no message announces.
            let _ = tokio::time::timeout(Duration::from_secs(1), self.wish.changed()).await;
        }
    }
}

/// Whether a permit had to be waited for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Waited {
    NotAtAll,
    Long,
}

pub(crate) fn is_newer(wish: &Wish, order: &Order) -> bool {
    wish.order.generation != order.generation || wish.agent == AgentState::Stopping
}

/// Does `work` unless a newer order comes first.
pub(crate) async fn until_newer<T>(
    mut wish: watch::Receiver<Wish>,
    order: &Order,
    work: impl Future<Output = T>,
) -> Result<T, Halt> {
    tokio::select! {
        biased;
        _ = wish.wait_for(|wish| is_newer(wish, order)) => Err(Halt::Superseded),
        done = work => Ok(done),
    }
}

async fn blocking<T: Send + 'static>(step: &'static str, work: impl FnOnce() -> T + Send + 'static) -> Result<T, Halt> {
    tokio::task::spawn_blocking(work)
        .await
        .map_err(|stopped| Halt::Failed(Failure { step, reason: stopped.to_string() }))
}

fn tolerate(result: Result<(), String>, step: &Step, way: Way) -> Result<(), Halt> {
    match (result, way) {
        (Ok(()), _) => Ok(()),
        (Err(reason), Way::Forward) => Err(failed(step, reason)),
        (Err(reason), Way::Back | Way::Revive(_)) => {
            tracing::error!(%step, "not written down, going on: {reason}");
            Ok(())
        }
    }
}

pub(crate) fn failed(step: &Step, reason: String) -> Halt {
    Halt::Failed(Failure { step: step.name(), reason })
}
