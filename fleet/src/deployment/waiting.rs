//! Why nothing is happening, as a value and in words that an operator can act on.

use std::fmt;

use crate::deployment::state::{Baked, Deployment, NodeState, Phase};
use crate::{Millis, NodeName, Timestamp};

/// What a deployment waits for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum WaitingOn {
    /// Nodes of a segment to be proven.
    Proof {
        /// The segment, from 0.
        segment: usize,
        /// The nodes, each with what it was last seen to do.
        nodes: Vec<(NodeName, String)>,
    },
    /// The bake time of a segment, or a proof after it.
    Bake {
        /// The segment, from 0.
        segment: usize,
        /// What is left of the bake time.
        left: Millis,
        /// Nodes that must still be proven after it.
        nodes: Vec<NodeName>,
    },
    /// Nodes of a segment to go back.
    Restoration {
        /// The segment, from 0.
        segment: usize,
        /// The nodes, each with what it was last seen to do.
        nodes: Vec<(NodeName, String)>,
    },
    /// The last round.
    Verification {
        /// The nodes that have not proven themselves in it, each with what it was last seen to do.
        nodes: Vec<(NodeName, String)>,
    },
    /// The driver's next turn.
    NextTurn,
}

impl Deployment {
    /// What it waits for; None when it is over.
    pub fn waiting_on(&self, now: Timestamp) -> Option<WaitingOn> {
        match self.phase {
            Phase::Finished { .. } => None,
            Phase::Planned | Phase::Between { .. } | Phase::Stopped | Phase::TurningBack { .. } => {
                Some(WaitingOn::NextTurn)
            }
            Phase::Rolling { segment } => {
                Some(WaitingOn::Proof { segment, nodes: self.open(|state| matches!(state, NodeState::Ordered { .. })) })
            }
            Phase::RollingBack { segment } => Some(WaitingOn::Restoration {
                segment,
                nodes: self.open(|state| matches!(state, NodeState::Restoring { .. })),
            }),
            Phase::Baking { segment, since } => {
                let unbaked = |node: &&NodeName| {
                    matches!(self.nodes.get(*node), Some(NodeState::Proven { baked: Baked::NotYet, .. }))
                };
                let nodes = self.spec.segments.get(segment).into_iter().flatten().filter(unbaked).cloned().collect();
                Some(WaitingOn::Bake { segment, left: self.patience(since).after(self.spec.bake).since(now), nodes })
            }
            Phase::Verifying { .. } => Some(WaitingOn::Verification {
                nodes: self.open(|state| !matches!(state, NodeState::Verified { .. } | NodeState::Unverified { .. })),
            }),
        }
    }

    fn open(&self, is_open: impl Fn(&NodeState) -> bool) -> Vec<(NodeName, String)> {
        let heard = |node: &NodeName| self.last_heard(node).unwrap_or("not heard from yet").to_owned();
        self.nodes.iter().filter(|(_, state)| is_open(state)).map(|(node, _)| (node.clone(), heard(node))).collect()
    }
}

impl fmt::Display for WaitingOn {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        const SHOWN: usize = 5;
        let list = |f: &mut fmt::Formatter<'_>, nodes: &[(NodeName, String)]| {
            for (i, (node, detail)) in nodes.iter().take(SHOWN).enumerate() {
                write!(f, "{}{node} ({detail})", if i == 0 { "" } else { ", " })?;
            }
            if nodes.len() > SHOWN { write!(f, " and {} more", nodes.len() - SHOWN) } else { Ok(()) }
        };
        match self {
            Self::Proof { segment, nodes } => {
                write!(f, "segment {}: proof from ", segment + 1)?;
                list(f, nodes)
            }
            Self::Bake { segment, left: Millis(0), nodes } => {
                write!(f, "segment {}: a proof after the bake from {} nodes", segment + 1, nodes.len())
            }
            Self::Bake { segment, left, .. } => write!(f, "segment {}: {left} of the bake are left", segment + 1),
            Self::Restoration { segment, nodes } => {
                write!(f, "segment {}: proof of the previous release from ", segment + 1)?;
                list(f, nodes)
            }
            Self::Verification { nodes } => {
                f.write_str("the last round: proof from ")?;
                list(f, nodes)
            }
            Self::NextTurn => f.write_str("the controller's next turn"),
        }
    }
}
