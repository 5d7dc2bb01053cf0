//! Confirm or undo: whoever carried out an order that says so asks the controller whether it has seen it, each time over
//! a connection of its own, and goes back to what was held before when nobody confirms in time. A release that cuts its
//! node off from the controller is so undone by the node itself.
//!
//! Two errors of others are avoided here. The nonce is drawn for each attempt, so that a confirmation of an earlier one
//! confirms nothing; and the deadline is on the disk before it is told, so that an agent that is ended neither forgets it
//! nor begins it anew. It lies on the boot clock: setting the wall clock changes nothing. After a reboot nobody can tell
//! how much of the time has passed, and the whole of it counts again.
//!
//! What going back means is `attempt`'s; how the question travels is `link`'s.

use std::sync::Mutex;
use std::time::Duration;

use fleet::evidence::{Confirmation, Progress};
use fleet::{Generation, Hold, Millis, Nonce, Order, ServiceName};

use crate::attempt::{Failure, Halt, Way};
use crate::durable::FileError;
use crate::execute::is_newer;
use crate::journal::{Awaits, Entry, Standing};
use crate::keeper::{Keeper, Tools, Wish, lock};
use crate::permit::Permission;
use crate::plan::Supply;
use crate::service_log::with_tail;

/// The step's name, as shown to people and kept in the journal.
pub const STEP: &str = "confirm";

/// Before the controller is asked at first: soon, since the next segment waits for this. The controller has to see the
/// proof before it can confirm, and answers when it has.
const FIRST_PAUSE: Duration = Duration::from_millis(20);
/// Each pause is twice the one before, up to this, give or take a quarter: what a thousand nodes ask must not arrive in
/// one moment (F46).
const LONGEST_PAUSE: Duration = Duration::from_millis(1_000);
/// A question without an answer for so long is asked again: shorter than the shortest confirmation that is useful.
const LONGEST_TRY: Duration = Duration::from_secs(5);
/// Characters kept of why it is not confirmed: it becomes part of what the order failed for.
const LONGEST_REASON: usize = 400;
/// How often the boot clock is looked at: a machine that was suspended is told by no timer.
const TICK: Duration = Duration::from_secs(1);

/// What is asked.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Question {
    /// The service.
    pub service: ServiceName,
    /// The order that is held.
    pub generation: Generation,
    /// Drawn for this attempt.
    pub nonce: Nonce,
}

/// What was answered.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Reply {
    /// The nonce of the question that this answers.
    pub nonce: String,
    /// Whether the controller has seen the proof.
    pub confirmed: bool,
    /// Why not yet.
    pub reason: String,
}

/// Who confirms.
#[tonic::async_trait]
pub trait Confirmer: Send + Sync + 'static {
    /// Asks once, over a connection made for this question alone; the reason if no answer came.
    async fn ask(&self, question: &Question) -> Result<Reply, String>;
}

/// Whether `reply` confirms `question`; why not otherwise.
///
/// # Errors
/// A reply to another question, or one that does not confirm.
pub fn weigh(question: &Question, reply: &Reply) -> Result<(), String> {
    match reply {
        Reply { nonce, .. } if nonce != question.nonce.as_str() => {
            Err("the answer carries the nonce of another question and is no answer".to_owned())
        }
        Reply { confirmed: true, .. } => Ok(()),
        Reply { reason, .. } if reason.is_empty() => Err("the controller does not confirm it yet".to_owned()),
        Reply { reason, .. } => Err(reason.chars().take(LONGEST_REASON).collect()),
    }
}

/// What came of asking so far.
#[derive(Debug, Default)]
struct Asked {
    tries: u32,
    last: Option<String>,
}

/// Whether what ended while no agent watched, in a reboot or together with the agent, has to be started again. It is
/// done once: what ends under its eyes has crashed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Revival {
    Owed,
    NotOwed,
}

impl Keeper {
    /// Waits for the controller's confirmation where the order asks for one and something was really changed.
    ///
    /// A failure means that it was not confirmed, and that the way leads back.
    pub(crate) async fn confirm(&mut self, order: &Order) -> Result<(), Halt> {
        let Some(attempt) = self.journal.attempt() else { return Ok(()) };
        let (awaits, revival) = match &attempt.standing {
            Standing::Confirmed => return Ok(()),
            Standing::Awaits(awaits) => (awaits.clone(), Revival::Owed),
            Standing::Open if order.confirm == Millis(0) || !attempt.changed => return Ok(()),
            Standing::Open => {
                let nonce = draw().map_err(|reason| failed(&reason))?;
                let deadline = self.tools.now().after(order.confirm);
                let awaits = Awaits { nonce, within: order.confirm, deadline };
                self.journal.append(&Entry::Awaits(awaits.clone())).map_err(unwritten)?;
                self.tools.points.pass("confirm.awaited")?;
                (awaits, Revival::NotOwed)
            }
        };
        self.await_confirmation(order, awaits, revival).await?;
        // Should it not be written down, the same nonce is confirmed again after a restart.
        if let Err(error) = self.journal.append(&Entry::Confirmed) {
            tracing::warn!("{error}");
        }
        tracing::info!(service = %order.service, generation = %order.generation, "confirmed");
        self.tools.points.pass("confirm.given")?;
        Ok(())
    }

    /// Whether the order of this generation is carried out and not confirmed.
    pub(crate) fn confirmation(&self, generation: Generation) -> Confirmation {
        let attempt = self.journal.attempt().filter(|attempt| attempt.generation == generation);
        if attempt.is_some_and(|attempt| attempt.is_awaiting()) { Confirmation::Awaited } else { Confirmation::Given }
    }

    async fn await_confirmation(
        &mut self,
        order: &Order,
        mut awaits: Awaits,
        mut revival: Revival,
    ) -> Result<(), Halt> {
        let now = self.tools.now();
        if awaits.deadline.boot_id != now.boot_id {
            awaits.deadline = now.after(awaits.within);
            self.journal.append(&Entry::Awaits(awaits.clone())).map_err(unwritten)?;
        }
        tracing::info!(service = %order.service, generation = %order.generation, within = %awaits.within, "waiting for the controller's confirmation");
        let (tools, confirmer) = (self.tools.clone(), self.tools.confirmer.clone());
        let question =
            Question { service: order.service.clone(), generation: order.generation, nonce: awaits.nonce.clone() };
        let asked = Mutex::new(Asked::default());
        let asking = until_confirmed(confirmer.as_ref(), &question, &asked);
        let overdue = overdue(&tools, &awaits);
        tokio::pin!(asking, overdue);
        loop {
            let wish = self.wish.borrow_and_update().clone();
            if is_newer(&wish, order) || self.wish.has_changed().is_err() {
                return Err(Halt::Superseded);
            }
            self.note_permit(&wish);
            if awaits.left(&self.tools.now()) == Millis(0) {
                return Err(expired(&awaits, &asked));
            }
            let alive = self.main_alive();
            if matches!(order.hold, Hold::Release { .. }) && !alive {
                if revival == Revival::NotOwed {
                    let reason = "the main process ended before the order was confirmed".to_owned();
                    return Err(failed(&with_tail(reason, None, self.log.tail(self.log_from))));
                }
                if self.may_revive(order, &wish).await? {
                    revival = Revival::NotOwed;
                    self.revive_unconfirmed(order).await?;
                    continue;
                }
                tokio::select! {
                    () = &mut overdue => {}
                    _ = self.wish.changed() => {}
                }
                continue;
            }
            revival = Revival::NotOwed;
            self.tell(Progress::Held);
            let watching = async {
                match order.hold {
                    Hold::Release { .. } => self.watch(&wish).await,
                    Hold::Nothing => {
                        let _ = self.wish.changed().await;
                        Ok(())
                    }
                }
            };
            tokio::select! {
                biased;
                () = &mut asking => return Ok(()),
                () = &mut overdue => {}
                watched = watching => watched?,
            }
        }
    }

    /// What ended unwatched is started again if the controller stands by it and nothing has to be fetched, which could
    /// take longer than the time there is.
    async fn may_revive(&mut self, order: &Order, wish: &Wish) -> Result<bool, Halt> {
        if let Permission::Refused { reason } = self.permission(wish) {
            self.tell(Progress::Fenced { reason });
            return Ok(false);
        }
        Ok(self.scene(&order.hold, Way::Forward).await?.supply == Supply::Staged)
    }

    async fn revive_unconfirmed(&mut self, order: &Order) -> Result<(), Halt> {
        match self.walk(order, &order.hold, Way::Forward).await {
            Err(Halt::Failed(Failure { step, reason })) => Err(failed(&format!(
                "it ended while no agent watched and could not be started again, {step}: {reason}"
            ))),
            other => other,
        }
    }
}

/// Asks until it is confirmed.
async fn until_confirmed(confirmer: &dyn Confirmer, question: &Question, asked: &Mutex<Asked>) {
    let mut pause = FIRST_PAUSE;
    loop {
        tokio::time::sleep(jittered(pause)).await;
        pause = LONGEST_PAUSE.min(pause * 2);
        let answer = match tokio::time::timeout(LONGEST_TRY, confirmer.ask(question)).await {
            Ok(Ok(reply)) => weigh(question, &reply),
            Ok(Err(reason)) => Err(reason),
            Err(_) => Err(format!("the controller did not answer within {} s", LONGEST_TRY.as_secs())),
        };
        let Err(reason) = answer else { return };
        let mut asked = lock(asked);
        asked.tries = asked.tries.saturating_add(1);
        if asked.last.as_ref() != Some(&reason) {
            tracing::info!(service = %question.service, generation = %question.generation, "not confirmed yet: {reason}");
            asked.last = Some(reason);
        }
    }
}

/// Returns when the time is up.
async fn overdue(tools: &Tools, awaits: &Awaits) {
    loop {
        let left = awaits.left(&tools.now());
        if left == Millis(0) {
            return;
        }
        tokio::time::sleep(left.to_std().min(TICK)).await;
    }
}

/// Three quarters to five quarters of it.
fn jittered(pause: Duration) -> Duration {
    // Without randomness the even pause still works; it only spreads nothing.
    let random = getrandom::u32().map_or(0.5, |random| f64::from(random) / f64::from(u32::MAX));
    pause.mul_f64(0.75 + random / 2.0)
}

fn draw() -> Result<Nonce, String> {
    let mut bits = [0; 16];
    getrandom::fill(&mut bits).map_err(|cause| format!("no nonce can be drawn: {cause}"))?;
    Ok(Nonce::from_random(u128::from_le_bytes(bits)))
}

fn expired(awaits: &Awaits, asked: &Mutex<Asked>) -> Halt {
    let asked = lock(asked);
    let (tries, within) = (asked.tries, awaits.within);
    failed(&match &asked.last {
        Some(last) => format!("not confirmed within {within}: {last}; asked {tries} times"),
        None => format!("not confirmed within {within}: the time was over before the controller could be asked"),
    })
}

fn unwritten(error: FileError) -> Halt {
    failed(&format!("waiting for the confirmation cannot be written down: {error}"))
}

fn failed(reason: &str) -> Halt {
    Halt::Failed(Failure { step: STEP, reason: reason.to_owned() })
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn only_an_answer_to_this_very_question_confirms() {
        let nonce = Nonce::from_random(7);
        let question = Question { service: "web".parse().unwrap(), generation: Generation(3), nonce: nonce.clone() };
        let reply =
            |nonce: &Nonce, confirmed| Reply { nonce: nonce.as_str().into(), confirmed, reason: "no proof".into() };
        assert_eq!(weigh(&question, &reply(&nonce, true)), Ok(()));
        assert_eq!(weigh(&question, &reply(&nonce, false)), Err("no proof".to_owned()));
        let stale = Nonce::from_random(6);
        assert!(weigh(&question, &reply(&stale, true)).unwrap_err().contains("another question"));
        let empty = Reply { nonce: String::new(), confirmed: true, reason: String::new() };
        assert!(weigh(&question, &empty).is_err(), "an answer without a nonce is none");
    }

    #[test]
    fn the_pauses_spread_around_a_second() {
        for _ in 0..100 {
            let pause = jittered(LONGEST_PAUSE).as_millis();
            assert!((750..=1_250).contains(&pause), "{pause}");
        }
    }
}
