//! Time that runs out. Every state has a deadline, and silence past it is a failure; but deadlines do not run while no
//! controller listens, since then nobody could have been heard.

use crate::deployment::Fact;
use crate::deployment::nodes::{Baked, Entry, NodeState};
use crate::deployment::state::{Deployment, Phase};
use crate::{Millis, Timestamp};

impl Deployment {
    /// The first thing for which time has run out.
    pub(super) fn overdue(&mut self, at: Timestamp) -> Option<Fact> {
        while let Some((due, index)) = self.nodes.first_due().filter(|(due, _)| *due <= at) {
            // What the agenda says may be from an earlier state.
            let entry = self.nodes.entry(index);
            if self.due(entry) != Some(due) {
                self.schedule(index);
                continue;
            }
            let (node, reason) = (entry.name.clone(), self.overdue_reason(entry, at));
            return Some(match (self.phase, &entry.state) {
                (Phase::Verifying { .. }, _) => Fact::NodeUnverified { at, node, reason },
                (_, NodeState::Restoring { .. }) => Fact::NodeNotRestored { at, node, reason },
                (_, _) => Fact::NodeFailed { at, node, reason },
            });
        }
        match self.phase {
            Phase::Gating { asking, since } if at >= self.gate_due(asking.gate, since) => {
                let allowed = self.spec.gates.get(asking.gate).map(|gate| gate.deadline).unwrap_or_default();
                let detail = format!("no answer within {allowed}");
                Some(Fact::GateInconclusive { at, asking, detail })
            }
            Phase::Migrating { since, .. } => {
                let node = self.migration.node.clone()?;
                let why = match self.nodes.get(&node) {
                    // Nobody listens to it any more.
                    Some(NodeState::Decommissioned { .. }) => "its node was decommissioned while it ran",
                    _ if at >= self.migration_due(since) => "no end of it was reported in time",
                    _ => return None,
                };
                let last = self.ears.migration.as_deref().unwrap_or("never heard of it");
                Some(Fact::MigrationInterrupted { at, node, reason: format!("{why}; last: {last}") })
            }
            Phase::Gating { .. }
            | Phase::Planned
            | Phase::Rolling { .. }
            | Phase::Baking { .. }
            | Phase::Between { .. }
            | Phase::Stopped
            | Phase::TurningBack { .. }
            | Phase::RollingBack { .. }
            | Phase::Verifying { .. }
            | Phase::Finished { .. } => None,
        }
    }

    fn overdue_reason(&self, entry: &Entry, now: Timestamp) -> String {
        if let Some((since, reason)) = self.contradicted(entry)
            && now >= since.after(self.spec.settle)
        {
            return reason.clone();
        }
        let allowed = if Self::is_unheard_absentee(entry) { self.spec.absent_grace } else { self.spec.node_deadline };
        match &entry.ear.heard {
            Some(detail) => format!("not proven within {allowed}: {detail}"),
            None => format!("silent for {allowed}: no answer from its agent"),
        }
    }

    /// When something is due for a node: its deadline, or the end of the time in which it may contradict what is seen.
    pub(in crate::deployment) fn due(&self, entry: &Entry) -> Option<Timestamp> {
        let settled = self.contradicted(entry).map(|(since, _)| since.after(self.spec.settle));
        settled.into_iter().chain(self.deadline(entry)).min()
    }

    /// Since when a node claims what is seen to be otherwise, if that matters in its state.
    fn contradicted<'a>(&self, entry: &'a Entry) -> Option<&'a (Timestamp, String)> {
        let matters = match (self.phase, &entry.state) {
            (Phase::Verifying { .. }, state) => state.is_open(),
            (_, NodeState::Ordered { .. } | NodeState::Restoring { .. }) => true,
            // Segments that go back soon need no verdict on the way.
            (
                Phase::Rolling { .. }
                | Phase::Baking { .. }
                | Phase::Between { .. }
                | Phase::Gating { .. }
                | Phase::Migrating { .. },
                NodeState::Proven { .. },
            ) => true,
            (_, _) => false,
        };
        entry.ear.differs.as_ref().filter(|_| matters)
    }

    /// When patience with a node's silence or work ends.
    fn deadline(&self, entry: &Entry) -> Option<Timestamp> {
        match (self.phase, &entry.state) {
            (Phase::Verifying { since }, state) => {
                let bake = if self.must_still_bake(state) { self.spec.bake } else { Millis(0) };
                let grace = match Self::is_unheard_absentee(entry) {
                    true => self.spec.absent_grace,
                    false => Millis(self.spec.node_deadline.0.saturating_add(bake.0)),
                };
                state.is_open().then(|| self.patience(since.max(entry.expected_since)).after(grace))
            }
            (_, NodeState::Restoring { since }) if Self::is_unheard_absentee(entry) => {
                Some(self.patience(*since).after(self.spec.absent_grace))
            }
            (_, NodeState::Ordered { since } | NodeState::Restoring { since }) => {
                Some(self.patience(*since).after(self.spec.node_deadline))
            }
            (Phase::Baking { segment, since }, NodeState::Proven { baked: Baked::NotYet, .. })
                if entry.segment == Some(segment) && self.spec.must_bake() =>
            {
                Some(self.patience(since).after(self.spec.bake).after(self.spec.node_deadline))
            }
            (_, _) => None,
        }
    }

    /// A node that was absent from the start, or joined later, and has still not been heard.
    fn is_unheard_absentee(entry: &Entry) -> bool {
        entry.segment.is_none() && entry.ear.heard.is_none()
    }

    pub(in crate::deployment) fn gate_due(&self, gate: usize, since: Timestamp) -> Timestamp {
        let deadline = self.spec.gates.get(gate).map(|gate| gate.deadline).unwrap_or_default();
        self.patience(since).after(deadline)
    }

    /// Its own time, and as long as any node may take to answer.
    pub(in crate::deployment) fn migration_due(&self, since: Timestamp) -> Timestamp {
        let timeout = self.spec.migration.as_ref().map(|migration| migration.timeout).unwrap_or_default();
        self.patience(since).after(timeout).after(self.spec.node_deadline)
    }

    /// Notes whether nodes wait only because too few others serve.
    pub(super) fn note_capacity(&mut self, now: Timestamp) {
        self.ears.blocked_since = if self.is_blocked() { Some(self.ears.blocked_since.unwrap_or(now)) } else { None };
    }

    /// Until when it is waited for capacity to come back, if it is.
    pub(in crate::deployment) fn blocked_until(&self) -> Option<Timestamp> {
        self.ears.blocked_since.filter(|_| self.is_blocked()).map(|since| since.after(self.spec.node_deadline))
    }
}
