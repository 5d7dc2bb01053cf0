//! The judgement: what becomes true because of an event, one fact at a time, so that each arm is one rule.
//!
//! The rules that matter most, and where they stand:
//! - silence is a failure once a deadline has passed, never a success ([`Deployment::overdue`]);
//! - proof counts only if it was asked for after the order, after the bake, or in the last round
//!   ([`Deployment::observe`]);
//! - a threshold decides when to turn back; what it was comes from the last round alone ([`Deployment::outcome_now`]).

use crate::deployment::event::{Event, Observation, Seen};
use crate::deployment::fact::{Cause, Fact};
use crate::deployment::spec::{AbortMode, OnFailure};
use crate::deployment::state::{Baked, Deployment, NodeState, Phase};
use crate::{Millis, NodeName, Outcome, Timestamp};

/// Ages are read on the node in clock ticks, and the bake is measured here: so much may lie between the two.
const AGE_SLACK: Millis = Millis(1_000);

impl Deployment {
    /// Takes in `event`, arrived at `now`; returns what became true because of it, already applied.
    /// The caller journals the facts before it says anything to anyone.
    pub fn handle(&mut self, event: &Event, now: Timestamp) -> Vec<Fact> {
        let mut facts = Vec::new();
        if matches!(self.phase, Phase::Finished { .. }) {
            return facts;
        }
        let first = match event {
            Event::Tick => None,
            Event::Observed { node, observation } => self.observe(node, observation, now),
            Event::Abort { by, mode } => self.request_abort(by, *mode, now),
        };
        let mut next = first.or_else(|| self.judge(now));
        while let Some(fact) = next {
            self.apply(&fact);
            facts.push(fact);
            next = self.judge(now);
        }
        facts
    }

    /// An abort is idempotent; a second one may only be milder on the fleet by leaving it as it is.
    fn request_abort(&self, by: &str, mode: AbortMode, at: Timestamp) -> Option<Fact> {
        match (self.abort, mode) {
            (None, _) | (Some(AbortMode::RollBack), AbortMode::Leave) => {
                Some(Fact::AbortRequested { at, by: by.to_owned(), mode })
            }
            (Some(_), _) => None,
        }
    }

    /// What an observation of one node changes at once. Differences are given time to settle; see `overdue`.
    fn observe(&mut self, node: &NodeName, observation: &Observation, at: Timestamp) -> Option<Fact> {
        let state = self.nodes.get(node)?.clone();
        if self.generation_of(node).is_some_and(|generation| generation != observation.generation) {
            return None;
        }
        self.listen(node, &observation.seen, at);
        let asked_at = observation.asked_at;
        let node = node.clone();
        if let Phase::Verifying { since } = self.phase {
            return match (&observation.seen, state) {
                (_, NodeState::Verified { .. } | NodeState::Unverified { .. }) => None,
                (Seen::Proven { grade, .. }, _) if asked_at >= since => {
                    Some(Fact::NodeVerified { at, node, grade: *grade })
                }
                (Seen::Failed { reason }, _) => Some(Fact::NodeUnverified { at, node, reason: reason.clone() }),
                (Seen::Proven { .. } | Seen::Working { .. } | Seen::Differs { .. }, _) => None,
            };
        }
        match (state, &observation.seen) {
            (NodeState::Ordered { since }, Seen::Proven { grade, .. }) if asked_at >= since => {
                Some(Fact::NodeProven { at, node, grade: *grade })
            }
            (NodeState::Ordered { .. } | NodeState::Proven { .. }, Seen::Failed { reason }) => {
                Some(Fact::NodeFailed { at, node, reason: reason.clone() })
            }
            (NodeState::Proven { baked: Baked::NotYet, .. }, Seen::Proven { up, .. })
                if self.outlived_bake(&node, asked_at, *up) =>
            {
                Some(Fact::NodeBaked { at, node })
            }
            (NodeState::Restoring { since }, Seen::Proven { .. }) if asked_at >= since => {
                Some(Fact::NodeRestored { at, node })
            }
            (NodeState::Restoring { .. }, Seen::Failed { reason }) => {
                Some(Fact::NodeNotRestored { at, node, reason: reason.clone() })
            }
            (
                NodeState::Pending
                | NodeState::Ordered { .. }
                | NodeState::Proven { .. }
                | NodeState::Failed { .. }
                | NodeState::Restoring { .. }
                | NodeState::Restored { .. }
                | NodeState::NotRestored { .. }
                | NodeState::Verified { .. }
                | NodeState::Unverified { .. },
                Seen::Proven { .. } | Seen::Working { .. } | Seen::Failed { .. } | Seen::Differs { .. },
            ) => None,
        }
    }

    /// Remembers what was seen, for patience and for people.
    fn listen(&mut self, node: &NodeName, seen: &Seen, now: Timestamp) {
        let detail = match seen {
            Seen::Proven { up, .. } if up.0 < self.spec.bake.0 => format!("proven, up for {up}"),
            Seen::Proven { .. } => "proven".to_owned(),
            Seen::Working { detail } => detail.clone(),
            Seen::Failed { reason } | Seen::Differs { reason } => reason.clone(),
        };
        match seen {
            Seen::Differs { reason } => {
                let since = self.ears.differs_since.get(node).map_or(now, |(since, _)| *since);
                self.ears.differs_since.insert(node.clone(), (since, reason.clone()));
            }
            Seen::Proven { .. } | Seen::Working { .. } | Seen::Failed { .. } => {
                self.ears.differs_since.remove(node);
            }
        }
        self.ears.heard.insert(node.clone(), (now, detail));
    }

    /// Whether a proof asked for at `asked_at` shows that the node outlived the bake of its segment: as one life, since
    /// a service that crashes and comes back is proven whenever it is asked at the right moment.
    fn outlived_bake(&self, node: &NodeName, asked_at: Timestamp, up: Millis) -> bool {
        match self.phase {
            Phase::Baking { segment, since } => {
                asked_at >= self.patience(since).after(self.spec.bake)
                    && up.0.saturating_add(AGE_SLACK.0) >= self.spec.bake.0
                    && self.segment_of.get(node) == Some(&segment)
            }
            Phase::Planned
            | Phase::Rolling { .. }
            | Phase::Between { .. }
            | Phase::Stopped
            | Phase::TurningBack { .. }
            | Phase::RollingBack { .. }
            | Phase::Verifying { .. }
            | Phase::Finished { .. } => false,
        }
    }

    /// The next thing that is true now.
    fn judge(&self, at: Timestamp) -> Option<Fact> {
        if matches!(self.phase, Phase::Finished { .. }) {
            return None;
        }
        if let Some(fact) = self.judge_abort(at) {
            return Some(fact);
        }
        if let Some(fact) = self.overdue(at) {
            return Some(fact);
        }
        match self.phase {
            Phase::Planned => Some(self.start_or_verify(0, at)),
            Phase::Rolling { segment } => self.judge_budget(at).or_else(|| {
                let waiting = self.any_in(segment, |state| matches!(state, NodeState::Ordered { .. }));
                (!waiting).then_some(Fact::SegmentProven { at, segment })
            }),
            Phase::Baking { segment, .. } => self.judge_budget(at).or_else(|| {
                let unbaked =
                    self.any_in(segment, |state| matches!(state, NodeState::Proven { baked: Baked::NotYet, .. }));
                (self.spec.bake.0 == 0 || !unbaked).then_some(Fact::SegmentBaked { at, segment })
            }),
            Phase::Between { segment } => Some(self.start_or_verify(segment + 1, at)),
            Phase::Stopped => Some(Fact::Finished { at, outcome: Outcome::Unproven }),
            Phase::TurningBack { .. } => Some(self.turn_next_back(at)),
            Phase::RollingBack { segment } => {
                let waiting = self.any_in(segment, |state| matches!(state, NodeState::Restoring { .. }));
                (!waiting).then(|| self.turn_next_back(at))
            }
            Phase::Verifying { .. } => {
                let open = self
                    .nodes
                    .values()
                    .any(|state| !matches!(state, NodeState::Verified { .. } | NodeState::Unverified { .. }));
                (!open).then(|| Fact::Finished { at, outcome: self.outcome_now() })
            }
            Phase::Finished { .. } => None,
        }
    }

    fn judge_abort(&self, at: Timestamp) -> Option<Fact> {
        match self.abort? {
            AbortMode::Leave => Some(Fact::Finished { at, outcome: Outcome::Aborted }),
            AbortMode::RollBack if self.has_turned_back() => None,
            AbortMode::RollBack => Some(Fact::RollbackStarted { at, cause: self.cause.clone()? }),
        }
    }

    fn judge_budget(&self, at: Timestamp) -> Option<Fact> {
        let failed = self.nodes.values().filter(|state| matches!(state, NodeState::Failed { .. })).count();
        if !self.spec.max_failures.is_exceeded(failed, self.spec.size()) {
            return None;
        }
        let cause = Cause::BudgetExceeded { failed, allowed: self.spec.max_failures.to_string() };
        Some(match self.spec.on_failure {
            OnFailure::Rollback => Fact::RollbackStarted { at, cause },
            OnFailure::Stop => Fact::Stopped { at, cause },
        })
    }

    fn start_or_verify(&self, segment: usize, at: Timestamp) -> Fact {
        if segment < self.spec.segments.len() {
            Fact::SegmentStarted { at, segment }
        } else {
            Fact::VerificationStarted { at }
        }
    }

    /// Newest segment first, and only those that were started.
    fn turn_next_back(&self, at: Timestamp) -> Fact {
        let next = self.segments.iter().rposition(|state| state.started_at.is_some() && state.rollback_at.is_none());
        next.map_or(Fact::VerificationStarted { at }, |segment| Fact::SegmentRollbackStarted { at, segment })
    }

    fn has_turned_back(&self) -> bool {
        match self.phase {
            Phase::TurningBack { .. } | Phase::RollingBack { .. } => true,
            // The last round after a deployment that was turned back before anything was ordered has no rolled-back
            // segment; the cause tells.
            Phase::Verifying { .. } => {
                self.is_turned_back()
                    || (self.cause.is_some() && self.segments.iter().all(|state| state.started_at.is_none()))
            }
            Phase::Planned
            | Phase::Rolling { .. }
            | Phase::Baking { .. }
            | Phase::Between { .. }
            | Phase::Stopped
            | Phase::Finished { .. } => false,
        }
    }

    /// How it ended: the last round speaks, and nothing else.
    fn outcome_now(&self) -> Outcome {
        let all_verified = self.nodes.values().all(|state| matches!(state, NodeState::Verified { .. }));
        match (all_verified, self.has_turned_back(), self.abort) {
            (false, _, _) => Outcome::Unproven,
            (true, true, Some(_)) => Outcome::Aborted,
            (true, true, None) => Outcome::RolledBack,
            (true, false, _) => Outcome::Converged,
        }
    }

    /// Time that has run out: silence, and claims that what is seen contradicts.
    fn overdue(&self, at: Timestamp) -> Option<Fact> {
        let (node, reason) = self
            .nodes
            .iter()
            .find_map(|(node, state)| self.overdue_reason(node, state, at).map(|reason| (node.clone(), reason)))?;
        Some(match (self.phase, self.nodes.get(&node)?) {
            (Phase::Verifying { .. }, _) => Fact::NodeUnverified { at, node, reason },
            (_, NodeState::Restoring { .. }) => Fact::NodeNotRestored { at, node, reason },
            (_, _) => Fact::NodeFailed { at, node, reason },
        })
    }

    fn overdue_reason(&self, node: &NodeName, state: &NodeState, now: Timestamp) -> Option<String> {
        if let Some((since, reason)) = self.contradicted(node, state)
            && now >= since.after(self.spec.settle)
        {
            return Some(reason);
        }
        let deadline = self.deadline(node, state)?;
        if now < deadline {
            return None;
        }
        let allowed = if self.is_unheard_absentee(node) { self.spec.absent_grace } else { self.spec.node_deadline };
        Some(match self.ears.heard.get(node) {
            Some((_, detail)) => format!("not proven within {allowed}: {detail}"),
            None => format!("silent for {allowed}: no answer from its agent"),
        })
    }

    /// Since when a node claims what is seen to be otherwise, if that matters in its state.
    fn contradicted(&self, node: &NodeName, state: &NodeState) -> Option<(Timestamp, String)> {
        let matters = match (self.phase, state) {
            (Phase::Verifying { .. }, NodeState::Verified { .. } | NodeState::Unverified { .. }) => false,
            (Phase::Verifying { .. }, _) => true,
            (_, NodeState::Ordered { .. } | NodeState::Restoring { .. }) => true,
            // Segments that go back soon need no verdict on the way.
            (Phase::Rolling { .. } | Phase::Baking { .. } | Phase::Between { .. }, NodeState::Proven { .. }) => true,
            (_, _) => false,
        };
        matters.then(|| self.ears.differs_since.get(node).cloned()).flatten()
    }

    /// When patience with a node's silence or work ends.
    fn deadline(&self, node: &NodeName, state: &NodeState) -> Option<Timestamp> {
        match (self.phase, state) {
            (Phase::Verifying { .. }, NodeState::Verified { .. } | NodeState::Unverified { .. }) => None,
            (Phase::Verifying { since }, _) => {
                let grace =
                    if self.is_unheard_absentee(node) { self.spec.absent_grace } else { self.spec.node_deadline };
                Some(self.patience(since).after(grace))
            }
            (_, NodeState::Ordered { since } | NodeState::Restoring { since }) => {
                Some(self.patience(*since).after(self.spec.node_deadline))
            }
            (Phase::Baking { segment, since }, NodeState::Proven { baked: Baked::NotYet, .. })
                if self.segment_of.get(node) == Some(&segment) =>
            {
                Some(self.patience(since).after(self.spec.bake).after(self.spec.node_deadline))
            }
            (_, _) => None,
        }
    }

    /// A node that was absent from the start and has still not been heard.
    fn is_unheard_absentee(&self, node: &NodeName) -> bool {
        !self.segment_of.contains_key(node) && !self.ears.heard.contains_key(node)
    }

    /// Deadlines do not run while no controller listens.
    pub(super) fn patience(&self, since: Timestamp) -> Timestamp {
        self.ears.listening_since.map_or(since, |listening| listening.max(since))
    }

    /// Every moment at which patience with some node ends.
    pub(super) fn deadlines(&self) -> impl Iterator<Item = Timestamp> {
        self.nodes.iter().flat_map(|(node, state)| {
            let settled = self.contradicted(node, state).map(|(since, _)| since.after(self.spec.settle));
            [self.deadline(node, state), settled].into_iter().flatten()
        })
    }

    fn any_in(&self, segment: usize, is: impl Fn(&NodeState) -> bool) -> bool {
        self.spec.segments.get(segment).into_iter().flatten().filter_map(|node| self.nodes.get(node)).any(is)
    }
}
