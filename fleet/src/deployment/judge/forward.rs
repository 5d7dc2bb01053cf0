//! The way forward: segments one after the other, nodes within the limits in flight, and between two segments the
//! gates, the migration and the pause.

use crate::Timestamp;
use crate::deployment::state::{Deployment, MigrationProgress, Phase, Promotion};
use crate::deployment::{Asking, Fact, Halt, NodeState, Place};

impl Deployment {
    /// What becomes true next when nothing stands against it.
    pub(super) fn forward(&self, at: Timestamp) -> Option<Fact> {
        if let Some(halt) = &self.unresolved {
            return self.begin(Fact::Halted { at, halt: halt.clone() });
        }
        match self.phase {
            Phase::Planned => self.start(0, at),
            Phase::Rolling { segment } => self.roll(segment, at),
            // The bake is over when every node that was proven has been proven again after it, and is confirmed.
            Phase::Baking { segment, .. } => (!self.spec.must_bake() || self.nodes.tally(segment).unbaked == 0)
                .then_some(Fact::SegmentBaked { at, segment }),
            Phase::Between { segment } => self.between(segment, at),
            Phase::Gating { .. }
            | Phase::Migrating { .. }
            | Phase::Stopped
            | Phase::TurningBack { .. }
            | Phase::RollingBack { .. }
            | Phase::Verifying { .. }
            | Phase::Finished { .. } => None,
        }
    }

    /// The turn of a segment, or of the last round when there is none left.
    fn start(&self, segment: usize, at: Timestamp) -> Option<Fact> {
        if segment >= self.spec.segments.len() {
            return self.begin(Fact::VerificationStarted { at });
        }
        self.migrate(Place::Before(segment), at).or_else(|| self.begin(Fact::SegmentStarted { at, segment }))
    }

    fn roll(&self, segment: usize, at: Timestamp) -> Option<Fact> {
        let tally = self.nodes.tally(segment);
        if tally.pending_serving.is_empty() && tally.pending_idle.is_empty() && tally.ordered == 0 {
            return Some(Fact::SegmentProven { at, segment });
        }
        // Asked first: while a person is waited for, a long queue is not to be gone through at every event.
        if self.is_held() {
            return None;
        }
        let nodes = self.next_to_order(segment);
        let nodes = self.nodes.names(nodes.iter());
        (!nodes.is_empty()).then_some(Fact::NodesOrdered { at, segment, nodes })
    }

    /// The nodes of a segment that may be ordered now, within `parallel` and the floor. Nodes that do not serve go
    /// first, since changing them costs no capacity (CodeDeploy's order; the arithmetic is [`crate::capacity`]'s).
    fn next_to_order(&self, segment: usize) -> Vec<usize> {
        let tally = self.nodes.tally(segment);
        let size = self.spec.segments.get(segment).map_or(0, Vec::len);
        let free = self.spec.parallel.limit(size).saturating_sub(tally.ordered);
        let allowance = crate::capacity::in_flight_allowance(self.nodes.serving, self.spec.floor);
        let idle = tally.pending_idle.iter();
        let serving = tally.pending_serving.iter().take(allowance);
        idle.chain(serving).take(free).copied().collect()
    }

    /// Whether nodes of the segment at work wait only because too few others serve, with none under way.
    pub(super) fn is_blocked(&self) -> bool {
        let Phase::Rolling { segment } = self.phase else { return false };
        !self.is_held()
            && self.nodes.in_flight == 0
            && !self.nodes.tally(segment).pending_serving.is_empty()
            && self.next_to_order(segment).is_empty()
    }

    fn between(&self, segment: usize, at: Timestamp) -> Option<Fact> {
        let state = self.segments.get(segment).copied().unwrap_or_default();
        let concerns = |gate: &usize| self.spec.gates[*gate].after.is_none_or(|after| after == segment);
        if let Some(gate) = (state.gates..self.spec.gates.len()).find(concerns) {
            // Attempts are counted for the gate at work only; they begin anew when it is through.
            let asking = Asking { segment, gate, attempt: state.attempts + 1 };
            return self.begin(Fact::GateStarted { at, asking });
        }
        if let Some(fact) = self.migrate(Place::After(segment), at) {
            return Some(fact);
        }
        if self.migration_is_due(Place::After(segment)) {
            return None;
        }
        if self.spec.pause_after.contains(&segment) && state.promotion == Promotion::NotYet {
            return self.begin(Fact::Halted { at, halt: Halt::PauseAfter { segment } });
        }
        if self.migration_is_due(Place::Before(segment + 1)) {
            return self.migrate(Place::Before(segment + 1), at);
        }
        self.start(segment + 1, at)
    }

    fn migration_is_due(&self, place: Place) -> bool {
        self.spec.migration.as_ref().is_some_and(|migration| migration.place == place)
            && self.migration.progress == MigrationProgress::Open
    }

    /// The migration is run on the first node of its segment that is there and has not failed.
    fn migrate(&self, place: Place, at: Timestamp) -> Option<Fact> {
        if !self.migration_is_due(place) || self.is_held() {
            return None;
        }
        let able = |state: &NodeState| match state {
            NodeState::Pending | NodeState::Ordered { .. } | NodeState::Proven { .. } => true,
            NodeState::Failed { .. }
            | NodeState::Restoring { .. }
            | NodeState::Restored { .. }
            | NodeState::NotRestored { .. }
            | NodeState::Verified { .. }
            | NodeState::Unverified { .. }
            | NodeState::Decommissioned { .. } => false,
        };
        let names = self.spec.segments.get(place.segment()).into_iter().flatten();
        let mut there = names.filter(|name| self.nodes.get(name).is_some_and(able));
        Some(match there.next() {
            Some(node) => Fact::MigrationStarted { at, node: node.clone(), attempt: self.migration.attempts + 1 },
            None => {
                let reason = format!("no node of segment {} is left to run it", place.segment() + 1);
                Fact::Halted { at, halt: Halt::Interrupted { name: self.migration_name(), reason } }
            }
        })
    }
}
