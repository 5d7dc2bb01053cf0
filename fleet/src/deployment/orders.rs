//! Everything still to be said to the fleet, derived from the state: saying it twice is harmless.

use crate::deployment::state::{Deployment, NodeState, Phase};
use crate::{Generation, Hold, NodeName, Order, Timestamp};

impl Deployment {
    /// What each node shall hold because of this deployment. Nodes that were not ordered yet are not in it:
    /// they keep what they hold.
    pub fn orders(&self) -> Vec<Order> {
        self.spec.expected().filter_map(|node| self.order_for(node)).collect()
    }

    /// The order of one node, if it has one.
    pub fn order_for(&self, node: &NodeName) -> Option<Order> {
        let (generation, hold) = self.wish_for(node)?;
        Some(Order { node: node.clone(), service: self.spec.service.clone(), generation, hold })
    }

    fn wish_for(&self, node: &NodeName) -> Option<(Generation, Hold)> {
        let spec = &self.spec;
        let forward = || Some((spec.generation, spec.target.clone()));
        let back = || spec.previous.get(node).map(|previous| (spec.rollback_generation, previous.hold.clone()));
        match self.segment_of.get(node).and_then(|segment| self.segments.get(*segment)) {
            Some(state) if state.rollback_at.is_some() => back(),
            Some(state) if state.started_at.is_some() => forward(),
            Some(_) => None,
            // Absent when it was planned: ordered in the last round, and only forward.
            None => match (self.nodes.get(node)?, self.phase) {
                (NodeState::Pending, Phase::Verifying { .. }) if !self.is_turned_back() => forward(),
                (NodeState::Verified { .. } | NodeState::Unverified { .. }, _) if !self.is_turned_back() => forward(),
                _ => None,
            },
        }
    }

    /// The generation at which a node must be proven now, and whether it was ordered at all by this deployment.
    pub(super) fn generation_of(&self, node: &NodeName) -> Option<Generation> {
        self.wish_for(node).map(|(generation, _)| generation)
    }

    /// When `handle` must be called with [`crate::deployment::Event::Tick`] if nothing else happens first.
    pub fn wake_at(&self) -> Option<Timestamp> {
        match self.phase {
            Phase::Finished { .. } => None,
            Phase::Planned | Phase::Between { .. } | Phase::Stopped | Phase::TurningBack { .. } => {
                Some(self.started_at)
            }
            Phase::Baking { since, .. } => {
                let end = self.patience(since).after(self.spec.bake);
                Some(self.deadlines().chain([end]).min().unwrap_or(end))
            }
            Phase::Rolling { .. } | Phase::RollingBack { .. } | Phase::Verifying { .. } => self.deadlines().min(),
        }
    }
}

impl Deployment {
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
                | NodeState::Unverified { .. },
            )
            | None => false,
        }
    }
}
