//! The way back: newest segment first, each node to what it held itself, faster than the way forward: no `parallel`,
//! no bake, no gates. The floor holds while others can be waited for, and never keeps the last node from going back.

use crate::Timestamp;
use crate::deployment::Fact;
use crate::deployment::state::{Deployment, Phase};

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
        match self.phase {
            Phase::TurningBack { .. } => self.turn_next(at),
            Phase::RollingBack { segment } => {
                let nodes = self.next_to_turn(segment);
                if !nodes.is_empty() {
                    let nodes = self.nodes.names(nodes.iter());
                    return self.begin(Fact::NodesTurnedBack { at, segment, nodes });
                }
                let tally = self.nodes.tally(segment);
                let waiting = tally.ahead_serving.len() + tally.ahead_idle.len() + tally.restoring > 0;
                if waiting { None } else { self.turn_next(at) }
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

    /// Newest segment first, and only those whose turn had come.
    fn turn_next(&self, at: Timestamp) -> Option<Fact> {
        let next = self.segments.iter().rposition(|state| state.started_at.is_some() && state.rollback_at.is_none());
        self.begin(match next {
            Some(segment) => Fact::SegmentRollbackStarted { at, segment },
            None => Fact::VerificationStarted { at },
        })
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
