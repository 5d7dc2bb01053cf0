//! Everything still to be said to the fleet, derived from the state: saying it twice is harmless.

use crate::deployment::nodes::{Entry, NodeState, Wish};
use crate::deployment::state::{Deployment, Phase};
use crate::deployment::{Fact, MigrationOrder};
use crate::{Generation, Hold, Millis, NodeName, Order, Timestamp};

impl Deployment {
    /// What each node shall hold because of this deployment. Nodes that were not ordered yet are not in it:
    /// they keep what they hold.
    pub fn orders(&self) -> Vec<Order> {
        self.nodes.entries().iter().filter_map(|entry| self.order(entry)).collect()
    }

    /// The orders that came about by a fact, which [`Deployment::handle`] has just returned: all that is new to say.
    pub fn orders_by(&self, fact: &Fact) -> Vec<Order> {
        match fact {
            Fact::NodesOrdered { nodes, .. } | Fact::NodesTurnedBack { nodes, .. } => {
                nodes.iter().filter_map(|node| self.order_for(node)).collect()
            }
            Fact::NodeJoined { node, .. } => self.order_for(node).into_iter().collect(),
            Fact::VerificationStarted { .. } => {
                self.nodes.entries().iter().filter(|e| e.segment.is_none()).filter_map(|e| self.order(e)).collect()
            }
            Fact::Planned { .. }
            | Fact::SegmentStarted { .. }
            | Fact::NodeProven { .. }
            | Fact::NodeFailed { .. }
            | Fact::SegmentProven { .. }
            | Fact::NodeBaked { .. }
            | Fact::SegmentBaked { .. }
            | Fact::GateStarted { .. }
            | Fact::GatePassed { .. }
            | Fact::GateFailed { .. }
            | Fact::GateInconclusive { .. }
            | Fact::MigrationStarted { .. }
            | Fact::MigrationSucceeded { .. }
            | Fact::MigrationFailed { .. }
            | Fact::MigrationInterrupted { .. }
            | Fact::Halted { .. }
            | Fact::Promoted { .. }
            | Fact::Paused { .. }
            | Fact::Resumed { .. }
            | Fact::NodeWaived { .. }
            | Fact::NodeDecommissioned { .. }
            | Fact::AbortRequested { .. }
            | Fact::Superseded { .. }
            | Fact::RollbackStarted { .. }
            | Fact::Stopped { .. }
            | Fact::SegmentRollbackStarted { .. }
            | Fact::NodeRestored { .. }
            | Fact::NodeNotRestored { .. }
            | Fact::NodeVerified { .. }
            | Fact::NodeUnverified { .. }
            | Fact::Finished { .. } => Vec::new(),
        }
    }

    /// The order of one node, if it has one.
    pub fn order_for(&self, node: &NodeName) -> Option<Order> {
        self.nodes.find(node).and_then(|index| self.order(self.nodes.entry(index)))
    }

    fn order(&self, entry: &Entry) -> Option<Order> {
        let (generation, hold, confirm) = self.wish_of(entry)?;
        Some(Order { node: entry.name.clone(), service: self.spec.service.clone(), generation, hold, confirm })
    }

    fn wish_of(&self, entry: &Entry) -> Option<(Generation, Hold, Millis)> {
        let spec = &self.spec;
        match entry.wish {
            Wish::Nothing => None,
            Wish::Forward => Some((spec.generation, spec.target.clone(), spec.confirm)),
            // The way back is not undone: it would lead to what has just failed.
            Wish::Back => entry
                .previous
                .as_ref()
                .or_else(|| spec.previous.get(&entry.name))
                .map(|previous| (spec.rollback_generation, previous.hold.clone(), Millis(0))),
        }
    }

    /// The generation at which a node must be proven now, if it was ordered at all by this deployment.
    pub(super) fn generation_at(&self, index: usize) -> Option<Generation> {
        match self.nodes.entry(index).wish {
            Wish::Nothing => None,
            Wish::Forward => Some(self.spec.generation),
            Wish::Back => Some(self.spec.rollback_generation),
        }
    }

    /// What one node is to run once, now. After a restart it is said again, and the agent knows it by its number.
    pub fn migration_order(&self) -> Option<MigrationOrder> {
        let Phase::Migrating { .. } = self.phase else { return None };
        let migration = self.spec.migration.as_ref()?;
        Some(MigrationOrder {
            deployment: self.spec.id.clone(),
            attempt: self.migration.attempts,
            node: self.migration.node.clone()?,
            service: self.spec.service.clone(),
            hold: self.spec.target.clone(),
            name: migration.name.clone(),
            command: migration.command.clone(),
            timeout: migration.timeout,
        })
    }

    /// When `handle` must be called with [`crate::deployment::Event::Tick`] if nothing else happens first. It may be
    /// earlier than needed, never later.
    pub fn wake_at(&self) -> Option<Timestamp> {
        let own = match self.phase {
            Phase::Finished { .. } => return None,
            Phase::Planned | Phase::Between { .. } | Phase::Stopped | Phase::TurningBack { .. } => {
                match self.decision_due() {
                    Some(due) => Some(due),
                    None => Some(self.started_at),
                }
            }
            Phase::Gating { asking, since } => Some(self.gate_due(asking.gate, since)),
            Phase::Migrating { since, .. } => Some(self.migration_due(since)),
            Phase::Rolling { .. } => self.blocked_until(),
            // Only nodes are waited for, and each has its own deadline: to be woken at the end of the bake, when it is
            // time for a proof and none has come yet, would be to be woken again and again until it comes.
            Phase::Baking { .. } | Phase::RollingBack { .. } | Phase::Verifying { .. } => None,
        };
        let agenda = self.nodes.first_due().map(|(due, _)| due);
        own.into_iter().chain(agenda).chain(self.decision_due()).min()
    }

    /// Whether this deployment is moving `service` on `node` right now: what differs there is on its way, not drift.
    pub fn is_pointing_at(&self, node: &NodeName, service: &crate::ServiceName) -> bool {
        if self.outcome().is_some() || self.spec.service != *service {
            return false;
        }
        match self.nodes.get(node) {
            Some(NodeState::Ordered { .. } | NodeState::Restoring { .. }) => true,
            Some(NodeState::Pending) => matches!(self.phase, Phase::Verifying { .. }),
            Some(
                NodeState::Proven { .. }
                | NodeState::Failed { .. }
                | NodeState::Restored { .. }
                | NodeState::NotRestored { .. }
                | NodeState::Verified { .. }
                | NodeState::Unverified { .. }
                | NodeState::Decommissioned { .. },
            )
            | None => false,
        }
    }
}
