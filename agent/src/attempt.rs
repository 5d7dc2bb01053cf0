//! One order from its beginning to its outcome: forward to what it says, back to what was held when a step fails, and
//! settled on record before it is told. How a step is done is `execute`'s; which steps there are is `plan`'s.

use std::collections::BTreeSet;

use fleet::evidence::Progress;
use fleet::{Hold, Order, ReleaseId};

use crate::durable::FileError;
use crate::failpoint::Interrupted;
use crate::fetch;
use crate::journal::{Attempt, Direction, Entry, Standing};
use crate::keeper::Keeper;
use crate::record::{Outcome, Settled};
use crate::service_log::Cause;

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

impl Keeper {
    /// Carries an order out, or goes back to what was held.
    pub(crate) async fn carry_out(&mut self, order: &Order) -> Result<(), Halt> {
        let resumed = self.journal.attempt().filter(|attempt| attempt.generation == order.generation).cloned();
        if !resumed.as_ref().is_some_and(Attempt::goes_on_alone) {
            self.tell(Progress::Working { step: "fetch".to_owned(), detail: "beginning".to_owned() });
        }
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
            Direction::Forward => match self.go_forward(order).await {
                Ok(()) => self.settle(order, Outcome::Held),
                Err(Halt::Failed(Failure { step, reason })) => {
                    tracing::error!(service = %order.service, generation = %order.generation, step, "the order failed: {reason}");
                    let turned = Entry::TurnedBack { name: step.to_owned(), reason: reason.clone() };
                    if let Err(error) = self.journal.append(&turned) {
                        // After a restart the order would be tried again; in this run it is not.
                        tracing::error!("{error}");
                        self.journal.assume(&turned);
                    }
                    self.tools.points.pass("turn.after")?;
                    self.go_back(order, step.to_owned(), reason).await
                }
                Err(halt) => Err(halt),
            },
        }
    }

    /// To what the order says, and until it is confirmed where that is asked for.
    async fn go_forward(&mut self, order: &Order) -> Result<(), Halt> {
        if self.journal.attempt().is_none_or(|attempt| attempt.standing == Standing::Open) {
            self.walk(order, &order.hold, Way::Forward).await?;
        }
        self.confirm(order).await
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
        let lent = self.tools.yard.lent(&order.service);
        let needed: Vec<&ReleaseId> =
            self.record.live.iter().chain(held.iter()).chain(&lent).collect::<BTreeSet<_>>().into_iter().collect();
        self.releases.prune(self.tools.config.keep_releases, &needed);
        self.tools.points.pass("settle.after")?;
        Ok(())
    }
}
