//! Why nothing is happening, as a value and in words that an operator can act on.

use std::fmt;

use crate::deployment::fact_words::few;
use crate::deployment::nodes::{Baked, NodeState};
use crate::deployment::state::{Deployment, Phase};
use crate::{DeploymentId, Millis, NodeName, Timestamp};

/// What a deployment waits for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum WaitingOn {
    /// A person to let it go on after a pause.
    Resume {
        /// The deployment.
        deployment: DeploymentId,
        /// Who paused it.
        by: String,
        /// What is left of the time to decide.
        left: Millis,
    },
    /// A person to promote or abort it.
    Promotion {
        /// The deployment.
        deployment: DeploymentId,
        /// Why it halted.
        why: String,
        /// What is left of the time to decide.
        left: Millis,
    },
    /// Nodes of a segment to be proven.
    Proof {
        /// The segment, from 0.
        segment: usize,
        /// The nodes, each with what it was last seen to do.
        nodes: Vec<(NodeName, String)>,
        /// Nodes of the segment that wait for their turn.
        queued: usize,
    },
    /// Other nodes to serve again, before one more may be taken out.
    Capacity {
        /// The segment, from 0.
        segment: usize,
        /// How many serve.
        serving: usize,
        /// How many must.
        floor: usize,
        /// Nodes of the segment that wait for their turn.
        queued: Vec<NodeName>,
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
    /// The confirmation of a segment that has no time to bake.
    Confirmation {
        /// The segment, from 0.
        segment: usize,
        /// Nodes that were proven, and may still undo it by themselves.
        nodes: Vec<NodeName>,
    },
    /// The answer to a gate.
    Gate {
        /// The segment, from 0.
        segment: usize,
        /// Its name, and what answers.
        gate: String,
        /// What is left of the time to answer.
        left: Millis,
    },
    /// The migration.
    Migration {
        /// Its name.
        name: String,
        /// Where it runs.
        node: Option<NodeName>,
        /// What it was last seen to do.
        detail: String,
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
        if self.outcome().is_some() {
            return None;
        }
        let deployment = self.spec.id.clone();
        let left = self.decision_due().map(|due| due.since(now)).unwrap_or_default();
        if let Some(paused) = &self.paused {
            return Some(WaitingOn::Resume { deployment, by: paused.by.clone(), left });
        }
        if let Some(halted) = &self.halted {
            return Some(WaitingOn::Promotion { deployment, why: halted.halt.to_string(), left });
        }
        Some(match self.phase {
            Phase::Finished { .. } => return None,
            Phase::Planned | Phase::Between { .. } | Phase::Stopped | Phase::TurningBack { .. } => WaitingOn::NextTurn,
            Phase::Rolling { segment } => self.waiting_to_roll(segment),
            Phase::RollingBack { segment } => WaitingOn::Restoration {
                segment,
                nodes: self.those(|state| matches!(state, NodeState::Restoring { .. })),
            },
            Phase::Baking { segment, since } => {
                let unbaked = |node: &&NodeName| {
                    matches!(self.nodes.get(node), Some(NodeState::Proven { baked: Baked::NotYet, .. }))
                };
                let nodes = self.spec.segments.get(segment).into_iter().flatten().filter(unbaked).cloned().collect();
                if self.spec.bake == Millis(0) {
                    return Some(WaitingOn::Confirmation { segment, nodes });
                }
                WaitingOn::Bake { segment, left: self.patience(since).after(self.spec.bake).since(now), nodes }
            }
            Phase::Gating { asking, since } => {
                let gate = match self.spec.gates.get(asking.gate) {
                    Some(gate) => format!("{} ({})", gate.name, gate.source),
                    None => self.gate_name(asking),
                };
                WaitingOn::Gate { segment: asking.segment, gate, left: self.gate_due(asking.gate, since).since(now) }
            }
            Phase::Migrating { .. } => WaitingOn::Migration {
                name: self.migration_name(),
                node: self.migration.node.clone(),
                detail: self.ears.migration.clone().unwrap_or_else(|| "not heard from yet".into()),
            },
            Phase::Verifying { .. } => WaitingOn::Verification { nodes: self.those(NodeState::is_open) },
        })
    }

    fn waiting_to_roll(&self, segment: usize) -> WaitingOn {
        let tally = self.nodes.tally(segment);
        let nodes = self.those(|state| matches!(state, NodeState::Ordered { .. }));
        let queued = tally.pending_idle.iter().chain(&tally.pending_serving);
        if nodes.is_empty() {
            let (serving, floor) = (self.nodes.serving, self.spec.floor);
            return WaitingOn::Capacity { segment, serving, floor, queued: self.nodes.names(queued) };
        }
        WaitingOn::Proof { segment, nodes, queued: queued.count() }
    }

    fn those(&self, are_meant: impl Fn(&NodeState) -> bool) -> Vec<(NodeName, String)> {
        let heard = |node: &NodeName| self.last_heard(node).unwrap_or("not heard from yet").to_owned();
        self.nodes.iter().filter(|(_, state)| are_meant(state)).map(|(node, _)| (node.clone(), heard(node))).collect()
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
            Self::Resume { deployment, by, left } => {
                write!(f, "it was paused by {by}; go on with: fleetctl resume {deployment} (within {left})")
            }
            Self::Promotion { deployment, why, left } => {
                write!(f, "{why}; fleetctl promote {deployment}, or fleetctl abort {deployment} (within {left})")
            }
            Self::Proof { segment, nodes, queued } => {
                write!(f, "segment {}: proof from ", segment + 1)?;
                list(f, nodes)?;
                if *queued > 0 { write!(f, "; {queued} more wait for their turn") } else { Ok(()) }
            }
            Self::Capacity { segment, serving, floor, queued } => write!(
                f,
                "segment {}: {} may not be taken out, since {serving} nodes serve and {floor} must",
                segment + 1,
                few(queued)
            ),
            Self::Bake { segment, left: Millis(0), nodes } => {
                write!(f, "segment {}: a proof after the bake from {}", segment + 1, few(nodes))
            }
            Self::Bake { segment, left, .. } => write!(f, "segment {}: {left} of the bake are left", segment + 1),
            Self::Confirmation { segment, nodes } => {
                write!(f, "segment {}: {} to reach the controller, or to undo it", segment + 1, few(nodes))
            }
            Self::Gate { segment, gate, left } => {
                write!(f, "segment {}: an answer to the gate {gate}, within {left}", segment + 1)
            }
            Self::Migration { name, node, detail } => {
                write!(f, "the migration {name}")?;
                if let Some(node) = node {
                    write!(f, " on {node}")?;
                }
                write!(f, ": {detail}")
            }
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
