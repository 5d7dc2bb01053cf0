//! The way back: newest segment first, each node to what it held itself, faster than the way forward: no `parallel`,
//! no bake, no gates. The floor holds while others can be waited for, and never keeps the last node from going back.

use crate::Timestamp;
use crate::deployment::Fact;
use crate::deployment::state::{Deployment, Phase, SegmentState};

impl Deployment {
    /// What becomes true next on the way back.
    pub(super) fn back(&self, at: Timestamp) -> Option<Fact> {
        if let Some(due) = self.decision_due()
            && at >= due
            && let Some(paused) = &self.paused
        {
            // A rollback that nobody lets go on is worse than one that goes on.
            let by = format!("the deadline of the pause by {}", paused.by);
            return Some(Fact::Resumed { at, by });
        }
        // Asked first: while a person is waited for, a long queue is not to be gone through at every event.
        if self.is_held() {
            return None;
        }
        match self.phase {
            Phase::TurningBack { segment } => self.turn_next(segment, at),
            Phase::RollingBack { segment } => {
                let nodes = self.next_to_turn(segment);
                if !nodes.is_empty() {
                    let nodes = self.nodes.names(nodes.iter());
                    return Some(Fact::NodesTurnedBack { at, segment, nodes });
                }
                let tally = self.nodes.tally(segment);
                let waiting = tally.ahead_serving.len() + tally.ahead_idle.len() + tally.restoring > 0;
                if waiting { None } else { self.turn_next(Some(segment), at) }
            }
            Phase::Planned
            | Phase::Rolling { .. }
            | Phase::Baking { .. }
            | Phase::Between { .. }
            | Phase::Gating { .. }
            | Phase::Migrating { .. }
            | Phase::Stopped
            | Phase::Verifying { .. }
            | Phase::Finished { .. } => None,
        }
    }

    /// Newest segment first, and only those whose turn had come: after `done`, the one that went back last, those
    /// before it, so that all segments together are looked at once.
    /// Those in no segment were ordered last, if they were ordered at all: they go first, and are waited for before the
    /// last round.
    fn turn_next(&self, done: Option<usize>, at: Timestamp) -> Option<Fact> {
        let outside = self.nodes.outside();
        if !outside.ahead_serving.is_empty() || !outside.ahead_idle.is_empty() {
            let nodes = self.nodes.names(outside.ahead_idle.iter().chain(&outside.ahead_serving));
            return Some(Fact::NodesTurnedBack { at, segment: self.segments.len(), nodes });
        }
        let before = done.unwrap_or(self.segments.len()).min(self.segments.len());
        let waits = |state: &SegmentState| state.started_at.is_some() && state.rollback_at.is_none();
        match self.segments[..before].iter().rposition(waits) {
            Some(segment) => Some(Fact::SegmentRollbackStarted { at, segment }),
            None => (outside.restoring == 0).then_some(Fact::VerificationStarted { at }),
        }
    }

    /// The nodes of a segment that may be ordered back now: those that do not serve at once, the others within the
    /// floor; and if nothing is under way, one in any case.
    fn next_to_turn(&self, segment: usize) -> Vec<usize> {
        let tally = self.nodes.tally(segment);
        let allowance = crate::capacity::in_flight_allowance(self.nodes.serving, self.spec.floor);
        let idle = tally.ahead_idle.len();
        let serving = if idle == 0 && self.nodes.in_flight == 0 { allowance.max(1) } else { allowance };
        tally.ahead_idle.iter().chain(tally.ahead_serving.iter().take(serving)).copied().collect()
    }
}
