//! Keeping what is held running, once no order is left to carry out: a main process that ends is started again if the
//! permit allows, its health is asked for, and what is owed to the balancer is paid.

use std::time::Duration;

use fleet::evidence::{Confirmation, Health, Progress};
use fleet::{Hold, Order};
use tokio::time::Instant;

use crate::attempt::{Halt, Way};
use crate::backoff::Backoff;
use crate::environment;
use crate::keeper::{AgentState, Keeper, Wish};
use crate::permit::Permission;
use crate::platform::Running;
use crate::probe::{BadAnswer, Question, Respondent};
use crate::record::Outcome;
use crate::service_log::{Cause, with_tail};

/// The pause before a main process that ended is started again, first and longest.
const FIRST_PAUSE: Duration = Duration::from_millis(200);
const LONGEST_PAUSE: Duration = Duration::from_secs(10);
/// A process that lived so long did not crash for the reason the one before it did.
const LIVED: Duration = Duration::from_secs(30);
/// Bounds of the time between two probes: more often helps nobody, more rarely lets a dead service look well.
const SHORTEST_INTERVAL: Duration = Duration::from_secs(1);
const LONGEST_INTERVAL: Duration = Duration::from_secs(5);
/// A process that has lived for a while and answers well is asked no more often than this.
const RESTED_INTERVAL: Duration = Duration::from_secs(2);
/// One bad answer is a blip.
const BAD_ANSWERS: u32 = 2;
/// How often a fenced service looks whether the fence is lifted, and tells the balancer again.
const FENCE_TICK: Duration = Duration::from_secs(1);

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

impl Pulse {
    fn has_lived(&self) -> bool {
        self.since.is_some_and(|since| since.elapsed() >= LIVED)
    }

    /// How long the process is left alone until it is asked again.
    fn rest(&self, interval: Duration) -> Duration {
        if self.has_lived() && self.bad == 0 { interval.max(RESTED_INTERVAL) } else { interval }
    }
}

/// The pauses between restarts.
pub(crate) fn crash_backoff() -> Backoff {
    Backoff::new(FIRST_PAUSE, LONGEST_PAUSE)
}

impl Keeper {
    /// Watches until something changes that the main loop has to weigh.
    pub(crate) async fn keep(&mut self, wish: &Wish) -> Result<(), Halt> {
        let alive = self.main_alive();
        self.tell_settled(wish, alive);
        let wanted = self.wanted(&wish.order);
        match (wanted, alive) {
            (_, true) => self.watch(wish).await,
            (Some(wanted @ Hold::Release { .. }), false) => match self.permission(wish) {
                Permission::Granted => self.revive(&wish.order, &wanted).await,
                Permission::Refused { reason } => self.fenced(wish, reason).await,
            },
            (None, false) => match self.permission(wish) {
                Permission::Granted => Ok(()),
                Permission::Refused { reason } => self.fenced(wish, reason).await,
            },
            (Some(Hold::Nothing), false) => {
                self.tell_health(Health::Unknown);
                let _ = self.wish.changed().await;
                Ok(())
            }
        }
    }

    /// What shall run as long as nobody says otherwise; None while the order in force is not settled.
    fn wanted(&self, order: &Order) -> Option<Hold> {
        match self.record.outcome(order.generation)? {
            Outcome::Held => Some(order.hold.clone()),
            Outcome::Failed { .. } => Some(self.record.held.clone().unwrap_or(Hold::Nothing)),
        }
    }

    fn tell_settled(&self, wish: &Wish, alive: bool) {
        let generation = wish.order.generation;
        match self.record.outcome(generation) {
            Some(Outcome::Failed { step, reason }) => {
                self.tell(Progress::Failed { step: step.clone(), reason: reason.clone() })
            }
            // A fence is told where it is met; a process that ended shows in the evidence.
            Some(Outcome::Held)
                if alive || wish.order.hold == Hold::Nothing || self.permission(wish) == Permission::Granted =>
            {
                self.tell(Progress::Held)
            }
            Some(Outcome::Held) => {}
            None if alive => {
                let detail = format!("the service runs; waiting for the controller to confirm order {generation}");
                self.tell(Progress::Working { step: "wait".to_owned(), detail });
            }
            None => {}
        }
    }

    /// The service may not start: say so, and see to it that nobody is sent here.
    async fn fenced(&mut self, wish: &Wish, reason: String) -> Result<(), Halt> {
        if !matches!(self.record.outcome(wish.order.generation), Some(Outcome::Failed { .. })) {
            self.tell(Progress::Fenced { reason: reason.clone() });
        }
        self.tell_health(Health::Unhealthy { reason: format!("it does not run: {reason}") });
        if let Some(balancer) = self.tools.balancer.clone()
            && !self.surely_drained
        {
            if !self.record.drained {
                self.record.drained = true;
                if let Err(error) = self.save() {
                    tracing::error!("{error}");
                }
            }
            match balancer.block().await {
                Ok(()) => self.surely_drained = true,
                Err(error) => {
                    tracing::warn!(service = %wish.order.service, "fenced, and the balancer does not know yet: {error}")
                }
            }
        }
        // That silence has lasted long enough is announced by no message.
        let _ = tokio::time::timeout(FENCE_TICK, self.wish.changed()).await;
        Ok(())
    }

    async fn revive(&mut self, order: &Order, wanted: &Hold) -> Result<(), Halt> {
        let cause = if self.seen_alive { Cause::Crash } else { Cause::Boot };
        if cause == Cause::Crash {
            let pause = self.crashes.next_even();
            tracing::warn!(service = %order.service, "the main process has ended; starting it again in {pause:?}");
            let reason = with_tail("the main process has ended".to_owned(), None, self.log.tail(self.log_from));
            self.tell_health(Health::Unhealthy { reason });
            tokio::select! {
                () = tokio::time::sleep(pause) => {}
                // A newer order may want something else; a renewed permit may wait for the next turn.
                _ = self.wish.wait_for(|wish| wish.order.generation != order.generation || wish.agent == AgentState::Stopping) => return Ok(()),
            }
        }
        // Even a start that fails counts: otherwise a release without its program would be tried without a pause.
        self.seen_alive = true;
        match self.walk_to_start(order, wanted, cause).await {
            Err(Halt::Failed(failure)) => {
                tracing::error!(service = %order.service, step = failure.step, "starting it again failed: {}", failure.reason);
                self.tell_health(Health::Unhealthy {
                    reason: format!("it does not run: {}: {}", failure.step, failure.reason),
                });
                Ok(())
            }
            other => other,
        }
    }

    async fn walk_to_start(&mut self, order: &Order, wanted: &Hold, cause: Cause) -> Result<(), Halt> {
        let end = self.walk(order, wanted, Way::Revive(cause)).await;
        // However it ended, nothing is under way now, and a service that ends again and again must not fill the disk.
        // Only what a killed agent intended is kept: there its successor looks.
        if !matches!(end, Err(Halt::Interrupted))
            && self.journal.attempt().is_none()
            && let Err(error) = self.journal.clear()
        {
            tracing::warn!("{error}");
        }
        end
    }

    /// The main process lives: ask how it is, pay what is owed, notice its end.
    pub(crate) async fn watch(&mut self, wish: &Wish) -> Result<(), Halt> {
        let Some(running) = self.record.running.clone() else { return Ok(()) };
        self.seen_alive = true;
        if self.pulse.of.as_ref() != Some(&running) {
            self.pulse = Pulse { of: Some(running.clone()), since: Some(Instant::now()), next: None, bad: 0 };
        }
        let settled = self.record.outcome(wish.order.generation).is_some()
            || self.confirmation(wish.order.generation) == Confirmation::Awaited;
        let question = self.question(&running.release);
        let interval = match &question {
            Ok(Some((_, interval))) => (*interval).clamp(SHORTEST_INTERVAL, LONGEST_INTERVAL),
            Ok(None) | Err(_) => LONGEST_INTERVAL,
        };
        let supervisor = self.tools.supervisor.clone();
        let gone = supervisor.gone(&running);
        tokio::pin!(gone);
        let mut changes = self.wish.clone();
        let place = self.releases.place().clone();
        let whom = Respondent { supervisor: &supervisor, place: &place, running: &running };
        loop {
            let next = *self.pulse.next.get_or_insert_with(Instant::now);
            tokio::select! {
                biased;
                () = &mut gone => break,
                _ = changes.changed() => return Ok(()),
                () = tokio::time::sleep_until(next) => {}
            }
            if !settled && self.permission(wish) == Permission::Granted {
                // Silence has lasted long enough.
                return Ok(());
            }
            let asking = async {
                match &question {
                    Ok(Some((question, _))) => question.ask(&whom).await.map(drop),
                    Ok(None) => Ok(()),
                    Err(reason) => Err(BadAnswer::from(reason.clone())),
                }
            };
            let answer = tokio::select! {
                biased;
                () = &mut gone => break,
                _ = changes.changed() => return Ok(()),
                answer = asking => answer,
            };
            self.pulse.bad = if answer.is_ok() { 0 } else { self.pulse.bad + 1 };
            self.pulse.next = Some(Instant::now() + self.pulse.rest(interval));
            self.bound_log().await;
            match answer {
                Ok(()) => {
                    self.tell_health(Health::Healthy);
                    self.pay(wish, &running).await;
                }
                Err(bad) => {
                    let unknown = self.status.borrow().health == Health::Unknown;
                    if self.pulse.bad >= BAD_ANSWERS || unknown {
                        self.tell_bad_answer(bad);
                    }
                }
            }
        }
        if self.pulse.has_lived() {
            self.crashes.reset();
        }
        tracing::error!(service = %wish.order.service, pid = running.pid, "the main process has ended by itself");
        self.record.running = None;
        self.record.answered = false;
        if let Err(error) = self.save() {
            tracing::error!("{error}");
        }
        self.publish();
        Ok(())
    }

    /// A service that prints without end must not fill the disk (I12).
    async fn bound_log(&mut self) {
        if !self.log.is_oversized() {
            return;
        }
        let log = self.log.clone();
        match tokio::task::spawn_blocking(move || log.cut()).await {
            Ok(Ok(())) => {}
            Ok(Err(error)) => tracing::warn!("{error}"),
            Err(stopped) => tracing::error!("{stopped}"),
        }
        self.log_from = 0;
    }

    /// Puts the node back into the balancer if that is owed: tried with every good answer until it is done (F50).
    async fn pay(&mut self, wish: &Wish, running: &Running) {
        let (true, Some(balancer)) = (self.record.drained, self.tools.balancer.clone()) else { return };
        // Only for what shall run, and while the controller stands by it: an agent that has just come up may hold
        // what the fleet has left behind.
        let wanted = self.wanted(&wish.order);
        if wanted.as_ref().and_then(Hold::release) != Some(&running.release)
            || self.permission(wish) != Permission::Granted
        {
            return;
        }
        match balancer.allow().await {
            Ok(()) => {
                tracing::info!(service = %wish.order.service, "back in the balancer");
                self.record.answered = true;
                self.paid();
                if let Err(error) = self.save() {
                    tracing::error!("{error}");
                }
            }
            Err(error) => tracing::warn!(service = %wish.order.service, "still out of the balancer: {error}"),
        }
    }

    /// What to ask a process of this release, and how often.
    fn question(&self, release: &fleet::ReleaseId) -> Result<Option<(Question, Duration)>, String> {
        let descriptor =
            self.describe(release).ok_or_else(|| format!("release {release} is not on this node's disk"))?;
        let Some(probe) = &descriptor.health else { return Ok(None) };
        let environment = environment::environment(&descriptor.run, &self.tools.config.environment);
        Question::new(probe, &environment).map(|question| Some((question, probe.interval.to_std())))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn whoever_has_lived_and_answers_well_is_asked_more_rarely() {
        let (second, five) = (Duration::from_secs(1), Duration::from_secs(5));
        let mut pulse = Pulse { since: Some(Instant::now()), ..Pulse::default() };
        assert_eq!(pulse.rest(second), second);
        tokio::time::advance(LIVED).await;
        assert_eq!((pulse.rest(second), pulse.rest(five)), (RESTED_INTERVAL, five));
        pulse.bad = 1;
        assert_eq!(pulse.rest(second), second);
    }
}
