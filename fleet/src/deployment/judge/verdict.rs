//! How a deployment ended: the last round speaks, and nothing else. No share, no threshold, no "the rest answered".

use crate::deployment::nodes::NodeState;
use crate::deployment::state::{Deployment, Turned};
use crate::{Outcome, Timestamp};

impl Deployment {
    /// The outcome, once every expected node has proved itself in the last round or has not.
    pub(super) fn verdict(&self, at: Timestamp) -> Outcome {
        let (mut verified, mut waived) = (0_usize, 0_usize);
        for entry in self.nodes.entries() {
            match (&entry.state, &entry.waiver) {
                (NodeState::Verified { .. }, _) => verified += 1,
                (NodeState::Decommissioned { .. }, _) => {}
                (NodeState::Unverified { .. }, Some(waiver)) if waiver.is_valid(at) => waived += 1,
                (
                    NodeState::Unverified { .. }
                    | NodeState::Pending
                    | NodeState::Ordered { .. }
                    | NodeState::Proven { .. }
                    | NodeState::Failed { .. }
                    | NodeState::Restoring { .. }
                    | NodeState::Restored { .. }
                    | NodeState::NotRestored { .. },
                    _,
                ) => return Outcome::Unproven,
            }
        }
        match (verified, self.turned, self.abort, waived) {
            // Nobody left to prove anything proves nothing.
            (0, _, _, _) => Outcome::Unproven,
            (_, Turned::Back, Some(_), _) => Outcome::Aborted,
            (_, Turned::Back, None, _) => Outcome::RolledBack,
            (_, Turned::Forward, _, 0) => Outcome::Converged,
            (_, Turned::Forward, _, _) => Outcome::ConvergedWithWaivers,
        }
    }
}
