//! What a deployment remembers: the fold of its facts, without opinion.

use std::collections::BTreeMap;

use crate::deployment::{AbortMode, Cause, Fact, Spec};
use crate::release::Grade;
use crate::{NodeName, Outcome, Timestamp};

/// A deployment: its spec, and what has become true since.
#[derive(Debug, Clone)]
pub struct Deployment {
    pub(super) spec: Spec,
    /// The segment of each node that is in one; the absent are in none. Derived from the spec.
    pub(super) segment_of: BTreeMap<NodeName, usize>,
    pub(super) phase: Phase,
    pub(super) nodes: BTreeMap<NodeName, NodeState>,
    pub(super) segments: Vec<SegmentState>,
    pub(super) cause: Option<Cause>,
    pub(super) abort: Option<AbortMode>,
    pub(super) started_at: Timestamp,
    pub(super) facts: u64,
    pub(super) ears: Ears,
}

/// What it does now.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Phase {
    /// Accepted; nothing is ordered yet.
    Planned,
    /// A segment is being moved.
    Rolling {
        /// Which.
        segment: usize,
    },
    /// A segment must stay proven.
    Baking {
        /// Which.
        segment: usize,
        /// Since when.
        since: Timestamp,
    },
    /// A segment has baked, the next has not started.
    Between {
        /// The one that has baked.
        segment: usize,
    },
    /// It was stopped by its budget; every node stays as it is.
    Stopped,
    /// It turns back; no segment is ordered back yet, or `segment` is done.
    TurningBack {
        /// The segment that went back last.
        segment: Option<usize>,
    },
    /// A segment goes back.
    RollingBack {
        /// Which.
        segment: usize,
    },
    /// Every expected node must prove what it runs once more.
    Verifying {
        /// Since when: only nonces drawn after this count.
        since: Timestamp,
    },
    /// It is over.
    Finished {
        /// When.
        at: Timestamp,
        /// How.
        outcome: Outcome,
    },
}

/// What is known of one node.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum NodeState {
    /// Not ordered yet.
    Pending,
    /// Ordered to hold the target.
    Ordered {
        /// Since when.
        since: Timestamp,
    },
    /// Proven to hold it.
    Proven {
        /// Since when.
        since: Timestamp,
        /// With this grade.
        grade: Grade,
        /// Whether it was still proven after the bake.
        baked: Baked,
    },
    /// It could not be brought to the target.
    Failed {
        /// When.
        since: Timestamp,
        /// Why.
        reason: String,
    },
    /// Ordered back.
    Restoring {
        /// Since when.
        since: Timestamp,
    },
    /// Proven to hold what it held before.
    Restored {
        /// Since when.
        since: Timestamp,
    },
    /// Not proven back.
    NotRestored {
        /// When.
        since: Timestamp,
        /// Why.
        reason: String,
    },
    /// Proved in the last round what it shall hold.
    Verified {
        /// When.
        since: Timestamp,
        /// With this grade.
        grade: Grade,
    },
    /// Did not.
    Unverified {
        /// When.
        since: Timestamp,
        /// Why.
        reason: String,
    },
}

/// Whether a proven node has outlived the bake.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Baked {
    /// Not yet.
    NotYet,
    /// It was proven after the bake time.
    Yes,
}

/// When a segment began and ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct SegmentState {
    /// When its nodes were ordered.
    pub started_at: Option<Timestamp>,
    /// When it was proven.
    pub proven_at: Option<Timestamp>,
    /// When its gate opened.
    pub baked_at: Option<Timestamp>,
    /// When it was ordered back.
    pub rollback_at: Option<Timestamp>,
}

/// What was heard and is not worth a fact. It only lengthens patience and words the reason for waiting; no
/// verdict of success rests on it, and it is empty again after a restart.
#[derive(Debug, Clone, Default)]
pub(super) struct Ears {
    /// Deadlines do not run while no controller listens: they count from here at the earliest.
    pub(super) listening_since: Option<Timestamp>,
    /// When each node was last observed, and what it was seen to do.
    pub(super) heard: BTreeMap<NodeName, (Timestamp, String)>,
    /// Since when a node claims to hold its order while what is seen differs.
    pub(super) differs_since: BTreeMap<NodeName, (Timestamp, String)>,
}

impl PartialEq for Deployment {
    /// Equal in everything that is history; what was merely heard does not count.
    fn eq(&self, other: &Self) -> bool {
        self.spec == other.spec
            && self.phase == other.phase
            && self.nodes == other.nodes
            && self.segments == other.segments
            && self.cause == other.cause
            && self.abort == other.abort
            && self.started_at == other.started_at
            && self.facts == other.facts
    }
}

impl Deployment {
    /// A deployment from the first fact of its journal; None if that is not `Planned`.
    pub fn planned(fact: &Fact) -> Option<Self> {
        let Fact::Planned { at, spec } = fact else { return None };
        Some(Self {
            nodes: spec.expected().map(|node| (node.clone(), NodeState::Pending)).collect(),
            segment_of: (0..)
                .zip(&spec.segments)
                .flat_map(|(at, nodes)| nodes.iter().map(move |node| (node.clone(), at)))
                .collect(),
            segments: vec![SegmentState::default(); spec.segments.len()],
            spec: (**spec).clone(),
            phase: Phase::Planned,
            cause: None,
            abort: None,
            started_at: *at,
            facts: 1,
            ears: Ears { listening_since: Some(*at), ..Ears::default() },
        })
    }

    /// A deployment from its whole journal; None if it does not begin with `Planned`.
    pub fn replay<'a>(facts: impl IntoIterator<Item = &'a Fact>) -> Option<Self> {
        let mut facts = facts.into_iter();
        let mut deployment = Self::planned(facts.next()?)?;
        for fact in facts {
            deployment.apply(fact);
        }
        Some(deployment)
    }

    /// Taken up by a controller that was not listening until `now`: deadlines begin anew, and what was heard
    /// before is forgotten.
    pub fn resume(&mut self, now: Timestamp) {
        self.ears = Ears { listening_since: Some(now), ..Ears::default() };
    }

    /// Folds one fact. Total, infallible, without opinion: this is history.
    pub fn apply(&mut self, fact: &Fact) {
        self.facts += 1;
        match fact {
            // A second `Planned` can only come from a corrupt journal; the first stands.
            Fact::Planned { .. } => {}
            Fact::SegmentStarted { at, segment } => {
                self.phase = Phase::Rolling { segment: *segment };
                self.mark(*segment, |state| state.started_at = Some(*at));
                for node in self.spec.segments.get(*segment).cloned().unwrap_or_default() {
                    self.nodes.insert(node, NodeState::Ordered { since: *at });
                }
            }
            Fact::NodeProven { at, node, grade } => {
                self.nodes.insert(node.clone(), NodeState::Proven { since: *at, grade: *grade, baked: Baked::NotYet });
            }
            Fact::NodeFailed { at, node, reason } => {
                self.nodes.insert(node.clone(), NodeState::Failed { since: *at, reason: reason.clone() });
            }
            Fact::SegmentProven { at, segment } => {
                self.phase = Phase::Baking { segment: *segment, since: *at };
                self.mark(*segment, |state| state.proven_at = Some(*at));
            }
            Fact::NodeBaked { node, .. } => {
                if let Some(NodeState::Proven { baked, .. }) = self.nodes.get_mut(node) {
                    *baked = Baked::Yes;
                }
            }
            Fact::SegmentBaked { at, segment } => {
                self.phase = Phase::Between { segment: *segment };
                self.mark(*segment, |state| state.baked_at = Some(*at));
            }
            Fact::AbortRequested { by, mode, .. } => {
                self.abort = Some(*mode);
                self.cause = Some(Cause::Aborted { by: by.clone() });
            }
            Fact::RollbackStarted { cause, .. } => {
                self.phase = Phase::TurningBack { segment: None };
                self.cause = Some(cause.clone());
            }
            Fact::Stopped { cause, .. } => {
                self.phase = Phase::Stopped;
                self.cause = Some(cause.clone());
            }
            Fact::SegmentRollbackStarted { at, segment } => {
                self.phase = Phase::RollingBack { segment: *segment };
                self.mark(*segment, |state| state.rollback_at = Some(*at));
                for node in self.spec.segments.get(*segment).cloned().unwrap_or_default() {
                    self.nodes.insert(node, NodeState::Restoring { since: *at });
                }
            }
            Fact::NodeRestored { at, node } => {
                self.nodes.insert(node.clone(), NodeState::Restored { since: *at });
            }
            Fact::NodeNotRestored { at, node, reason } => {
                self.nodes.insert(node.clone(), NodeState::NotRestored { since: *at, reason: reason.clone() });
            }
            Fact::VerificationStarted { at } => self.phase = Phase::Verifying { since: *at },
            Fact::NodeVerified { at, node, grade } => {
                self.nodes.insert(node.clone(), NodeState::Verified { since: *at, grade: *grade });
            }
            Fact::NodeUnverified { at, node, reason } => {
                self.nodes.insert(node.clone(), NodeState::Unverified { since: *at, reason: reason.clone() });
            }
            Fact::Finished { at, outcome } => self.phase = Phase::Finished { at: *at, outcome: *outcome },
        }
    }

    fn mark(&mut self, segment: usize, change: impl FnOnce(&mut SegmentState)) {
        if let Some(state) = self.segments.get_mut(segment) {
            change(state);
        }
    }

    /// What was asked.
    pub fn spec(&self) -> &Spec {
        &self.spec
    }

    /// What it does now.
    pub fn phase(&self) -> Phase {
        self.phase
    }

    /// What is known of each expected node.
    pub fn nodes(&self) -> &BTreeMap<NodeName, NodeState> {
        &self.nodes
    }

    /// When each segment began and ended.
    pub fn segments(&self) -> &[SegmentState] {
        &self.segments
    }

    /// Why it turned back or ended early.
    pub fn cause(&self) -> Option<&Cause> {
        self.cause.as_ref()
    }

    /// When it was planned.
    pub fn started_at(&self) -> Timestamp {
        self.started_at
    }

    /// How it ended, if it has.
    pub fn outcome(&self) -> Option<Outcome> {
        match self.phase {
            Phase::Finished { outcome, .. } => Some(outcome),
            Phase::Planned
            | Phase::Rolling { .. }
            | Phase::Baking { .. }
            | Phase::Between { .. }
            | Phase::Stopped
            | Phase::TurningBack { .. }
            | Phase::RollingBack { .. }
            | Phase::Verifying { .. } => None,
        }
    }

    /// How many facts its journal has: the index of the next.
    pub fn facts(&self) -> u64 {
        self.facts
    }

    /// Whether its way leads back to what was held before.
    pub fn is_turned_back(&self) -> bool {
        self.segments.iter().any(|segment| segment.rollback_at.is_some())
            || matches!(self.phase, Phase::TurningBack { .. } | Phase::RollingBack { .. })
    }

    /// The last thing a node was seen to do, for people.
    pub fn last_heard(&self, node: &NodeName) -> Option<&str> {
        self.ears.heard.get(node).map(|(_, detail)| detail.as_str())
    }
}
