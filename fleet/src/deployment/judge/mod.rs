//! The judgement: what becomes true because of an event, one fact at a time, so that each arm is one rule.
//!
//! The rules that matter most, and where they stand:
//! - silence is a failure once a deadline has passed, never a success (`deadlines.rs`);
//! - proof counts only if it was asked for after the order, after the bake, or in the last round (`observe.rs`);
//! - a threshold decides when to turn back; what it was comes from the last round alone (`verdict.rs`).
//!
//! Here: what is begun next on the way forward (`forward.rs`) or back (`back.rs`), and that nothing is begun while a
//! person is waited for.

mod back;
mod deadlines;
mod forward;
mod observe;
mod verdict;

use crate::capacity::Shortage;
use crate::deployment::state::{Deployment, Phase, Turned};
use crate::deployment::{AbortMode, Cause, Event, Fact, Halt, OnFailure};
use crate::{Outcome, Timestamp};

impl Deployment {
    /// Takes in `event`, arrived at `now`; returns what became true because of it, already applied.
    /// The caller journals the facts before it says anything to anyone.
    pub fn handle(&mut self, event: &Event, now: Timestamp) -> Vec<Fact> {
        let mut facts = Vec::new();
        if matches!(self.phase, Phase::Finished { .. }) {
            return facts;
        }
        let mut next = self.take(event, now);
        loop {
            let fact = match next.take() {
                Some(fact) => fact,
                None => match self.judge(now) {
                    Some(fact) => fact,
                    None => break,
                },
            };
            self.apply(&fact);
            facts.push(fact);
        }
        self.note_capacity(now);
        facts
    }

    /// The next thing that is true now.
    fn judge(&mut self, at: Timestamp) -> Option<Fact> {
        if matches!(self.phase, Phase::Finished { .. }) {
            return None;
        }
        if let Some(Cause::Superseded { .. }) = self.cause {
            return Some(Fact::Finished { at, outcome: Outcome::Superseded });
        }
        if let Some(fact) = self.judge_abort(at) {
            return Some(fact);
        }
        if let Some(fact) = self.overdue(at) {
            return Some(fact);
        }
        match self.phase {
            Phase::Planned
            | Phase::Rolling { .. }
            | Phase::Baking { .. }
            | Phase::Between { .. }
            | Phase::Gating { .. }
            | Phase::Migrating { .. } => match self.failure(at) {
                Some(cause) => self.fail(cause, at),
                None => self.forward(at),
            },
            Phase::Stopped => Some(Fact::Finished { at, outcome: Outcome::Unproven }),
            Phase::TurningBack { .. } | Phase::RollingBack { .. } => self.back(at),
            Phase::Verifying { .. } => (self.nodes.open == 0).then(|| Fact::Finished { at, outcome: self.verdict(at) }),
            Phase::Finished { .. } => None,
        }
    }

    fn judge_abort(&self, at: Timestamp) -> Option<Fact> {
        match (self.abort?, self.turned) {
            (AbortMode::Leave, _) => Some(Fact::Finished { at, outcome: Outcome::Aborted }),
            (AbortMode::RollBack, Turned::Back) => None,
            (AbortMode::RollBack, Turned::Forward) => Some(Fact::RollbackStarted { at, cause: self.cause.clone()? }),
        }
    }

    /// Why it cannot go on, if it cannot.
    fn failure(&self, at: Timestamp) -> Option<Cause> {
        if let Some(cause) = self.nobody_decided(at) {
            return Some(cause);
        }
        if let Some(cause) = &self.failing {
            return Some(cause.clone());
        }
        let failed = self.nodes.failed;
        if self.nodes.untold > 0 && self.spec.max_failures.is_exceeded(failed, self.size) {
            return Some(Cause::BudgetExceeded { failed, allowed: self.spec.max_failures.to_string() });
        }
        if let Some(shortage) = self.nodes.capacity(self.spec.floor).must_stop() {
            return Some(Cause::CapacityLost { shortage });
        }
        // By history enough are healthy; by what was heard they do not serve, and have not for long.
        let blocked = self.blocked_until().is_some_and(|until| at >= until);
        let shortage = Shortage::NoRoom { healthy: self.nodes.serving, floor: self.spec.floor };
        blocked.then_some(Cause::CapacityLost { shortage })
    }

    /// What a failure leads to. A person who has paused it decides first.
    fn fail(&self, cause: Cause, at: Timestamp) -> Option<Fact> {
        let out_of_patience = matches!(cause, Cause::NobodyDecided { .. });
        let turn = match self.spec.on_failure {
            OnFailure::Rollback => Fact::RollbackStarted { at, cause },
            OnFailure::Stop => Fact::Stopped { at, cause },
            OnFailure::Pause if out_of_patience => Fact::Stopped { at, cause },
            OnFailure::Pause => Fact::Halted { at, halt: Halt::Failure { cause } },
        };
        if out_of_patience { Some(turn) } else { self.begin(turn) }
    }

    /// Nothing is begun while a person is waited for.
    fn begin(&self, fact: Fact) -> Option<Fact> {
        (!self.is_held()).then_some(fact)
    }

    /// Whether a person is waited for.
    fn is_held(&self) -> bool {
        self.paused.is_some() || self.halted.is_some()
    }

    /// Deadlines do not run while no controller listens.
    pub(super) fn patience(&self, since: Timestamp) -> Timestamp {
        self.ears.listening_since.map_or(since, |listening| listening.max(since))
    }

    /// Until when a person is waited for, if one is.
    pub(super) fn decision_due(&self) -> Option<Timestamp> {
        let halted = self.halted.as_ref().map(|halted| halted.since);
        let paused = self.paused.as_ref().map(|paused| paused.since);
        halted.into_iter().chain(paused).map(|since| self.patience(since).after(self.spec.pause_deadline)).min()
    }

    fn nobody_decided(&self, at: Timestamp) -> Option<Cause> {
        let waited = self.spec.pause_deadline;
        self.decision_due().filter(|due| at >= *due)?;
        let on = match (&self.halted, &self.paused) {
            (Some(halted), _) => halted.halt.to_string(),
            (None, Some(paused)) => format!("it was paused by {}", paused.by),
            (None, None) => return None,
        };
        Some(Cause::NobodyDecided { waited, on })
    }
}
