//! What has become true of a deployment and stays true. Facts, not inputs, are journaled: replaying inputs
//! through a newer judge would rewrite history after an upgrade; replaying facts cannot.

use std::fmt;

use serde::{Deserialize, Serialize};

use crate::deployment::{AbortMode, Spec};
use crate::release::Grade;
use crate::{NodeName, Outcome, Timestamp};

/// One entry of the journal.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "fact", rename_all = "kebab-case", rename_all_fields = "camelCase")]
pub enum Fact {
    /// It was planned and accepted. Always the first.
    Planned {
        /// When.
        at: Timestamp,
        /// What was asked.
        spec: Box<Spec>,
    },
    /// The nodes of a segment are ordered to hold the target.
    SegmentStarted {
        /// When.
        at: Timestamp,
        /// Which, from 0.
        segment: usize,
    },
    /// A node is proven to hold the target.
    NodeProven {
        /// When.
        at: Timestamp,
        /// Which.
        node: NodeName,
        /// With this grade.
        grade: Grade,
    },
    /// A node that was ordered could not be brought to the target, or fell back from it. Silence is a failure too.
    NodeFailed {
        /// When.
        at: Timestamp,
        /// Which.
        node: NodeName,
        /// Why.
        reason: String,
    },
    /// Every node of the segment is proven, or failed within the budget: baking begins.
    SegmentProven {
        /// When.
        at: Timestamp,
        /// Which.
        segment: usize,
    },
    /// A node was still proven after the bake time.
    NodeBaked {
        /// When.
        at: Timestamp,
        /// Which.
        node: NodeName,
    },
    /// The segment has baked: its gate is open.
    SegmentBaked {
        /// When.
        at: Timestamp,
        /// Which.
        segment: usize,
    },
    /// A person ended it.
    AbortRequested {
        /// When.
        at: Timestamp,
        /// Who.
        by: String,
        /// What becomes of the nodes already ordered.
        mode: AbortMode,
    },
    /// It turns back.
    RollbackStarted {
        /// When.
        at: Timestamp,
        /// Why.
        cause: Cause,
    },
    /// It stops where it is, because it was asked to stop on failure.
    Stopped {
        /// When.
        at: Timestamp,
        /// Why.
        cause: Cause,
    },
    /// The ordered nodes of a segment are ordered back; newest segment first.
    SegmentRollbackStarted {
        /// When.
        at: Timestamp,
        /// Which.
        segment: usize,
    },
    /// A node is proven to hold what it held before.
    NodeRestored {
        /// When.
        at: Timestamp,
        /// Which.
        node: NodeName,
    },
    /// A node could not be proven back. The others go on.
    NodeNotRestored {
        /// When.
        at: Timestamp,
        /// Which.
        node: NodeName,
        /// Why.
        reason: String,
    },
    /// Every segment is through: one more round, in which every expected node must prove what it runs.
    VerificationStarted {
        /// When.
        at: Timestamp,
    },
    /// A node proved it in that round.
    NodeVerified {
        /// When.
        at: Timestamp,
        /// Which.
        node: NodeName,
        /// With this grade.
        grade: Grade,
    },
    /// A node did not.
    NodeUnverified {
        /// When.
        at: Timestamp,
        /// Which.
        node: NodeName,
        /// Why.
        reason: String,
    },
    /// It is over.
    Finished {
        /// When.
        at: Timestamp,
        /// How.
        outcome: Outcome,
    },
}

/// Why a deployment turned back or ended early.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "cause", rename_all = "kebab-case", rename_all_fields = "camelCase")]
pub enum Cause {
    /// More nodes failed than the budget allows.
    BudgetExceeded {
        /// How many failed.
        failed: usize,
        /// The budget, as written.
        allowed: String,
    },
    /// A person ended it.
    Aborted {
        /// Who.
        by: String,
    },
}

impl fmt::Display for Cause {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::BudgetExceeded { failed, allowed } => write!(f, "{failed} failed, {allowed} allowed"),
            Self::Aborted { by } => write!(f, "aborted by {by}"),
        }
    }
}

impl Fact {
    /// When it became true.
    pub fn at(&self) -> Timestamp {
        match self {
            Self::Planned { at, .. }
            | Self::SegmentStarted { at, .. }
            | Self::NodeProven { at, .. }
            | Self::NodeFailed { at, .. }
            | Self::SegmentProven { at, .. }
            | Self::NodeBaked { at, .. }
            | Self::SegmentBaked { at, .. }
            | Self::AbortRequested { at, .. }
            | Self::RollbackStarted { at, .. }
            | Self::Stopped { at, .. }
            | Self::SegmentRollbackStarted { at, .. }
            | Self::NodeRestored { at, .. }
            | Self::NodeNotRestored { at, .. }
            | Self::VerificationStarted { at }
            | Self::NodeVerified { at, .. }
            | Self::NodeUnverified { at, .. }
            | Self::Finished { at, .. } => *at,
        }
    }

    /// Its name on the wire and in event streams.
    pub fn kind(&self) -> &'static str {
        match self {
            Self::Planned { .. } => "planned",
            Self::SegmentStarted { .. } => "segment-started",
            Self::NodeProven { .. } => "node-proven",
            Self::NodeFailed { .. } => "node-failed",
            Self::SegmentProven { .. } => "segment-proven",
            Self::NodeBaked { .. } => "node-baked",
            Self::SegmentBaked { .. } => "segment-baked",
            Self::AbortRequested { .. } => "abort-requested",
            Self::RollbackStarted { .. } => "rollback-started",
            Self::Stopped { .. } => "stopped",
            Self::SegmentRollbackStarted { .. } => "segment-rollback-started",
            Self::NodeRestored { .. } => "node-restored",
            Self::NodeNotRestored { .. } => "node-not-restored",
            Self::VerificationStarted { .. } => "verification-started",
            Self::NodeVerified { .. } => "node-verified",
            Self::NodeUnverified { .. } => "node-unverified",
            Self::Finished { .. } => "finished",
        }
    }

    /// The node it speaks of.
    pub fn node(&self) -> Option<&NodeName> {
        match self {
            Self::NodeProven { node, .. }
            | Self::NodeFailed { node, .. }
            | Self::NodeBaked { node, .. }
            | Self::NodeRestored { node, .. }
            | Self::NodeNotRestored { node, .. }
            | Self::NodeVerified { node, .. }
            | Self::NodeUnverified { node, .. } => Some(node),
            Self::Planned { .. }
            | Self::SegmentStarted { .. }
            | Self::SegmentProven { .. }
            | Self::SegmentBaked { .. }
            | Self::AbortRequested { .. }
            | Self::RollbackStarted { .. }
            | Self::Stopped { .. }
            | Self::SegmentRollbackStarted { .. }
            | Self::VerificationStarted { .. }
            | Self::Finished { .. } => None,
        }
    }

    /// The segment it speaks of.
    pub fn segment(&self) -> Option<usize> {
        match self {
            Self::SegmentStarted { segment, .. }
            | Self::SegmentProven { segment, .. }
            | Self::SegmentBaked { segment, .. }
            | Self::SegmentRollbackStarted { segment, .. } => Some(*segment),
            Self::Planned { .. }
            | Self::NodeProven { .. }
            | Self::NodeFailed { .. }
            | Self::NodeBaked { .. }
            | Self::AbortRequested { .. }
            | Self::RollbackStarted { .. }
            | Self::Stopped { .. }
            | Self::NodeRestored { .. }
            | Self::NodeNotRestored { .. }
            | Self::VerificationStarted { .. }
            | Self::NodeVerified { .. }
            | Self::NodeUnverified { .. }
            | Self::Finished { .. } => None,
        }
    }
}

impl fmt::Display for Fact {
    /// One sentence for people.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Planned { spec, .. } => {
                write!(
                    f,
                    "{} {} to {} nodes in {} segments",
                    spec.service,
                    spec.version,
                    spec.size(),
                    spec.segments.len()
                )?;
                if !spec.absent.is_empty() {
                    write!(f, ", {} absent", spec.absent.len())?;
                }
                Ok(())
            }
            Self::SegmentStarted { .. } => f.write_str("started"),
            Self::NodeProven { grade, .. } => write!(f, "proven ({grade})"),
            Self::NodeFailed { reason, .. } => write!(f, "FAILED {reason}"),
            Self::SegmentProven { .. } => f.write_str("proven"),
            Self::NodeBaked { .. } => f.write_str("still proven after the bake"),
            Self::SegmentBaked { .. } => f.write_str("ok"),
            Self::AbortRequested { by, mode: AbortMode::RollBack, .. } => {
                write!(f, "abort requested by {by}: rolling back")
            }
            Self::AbortRequested { by, mode: AbortMode::Leave, .. } => {
                write!(f, "abort requested by {by}: leaving every node as it is")
            }
            Self::RollbackStarted { cause, .. } => write!(f, "rolling back: {cause}"),
            Self::Stopped { cause, .. } => write!(f, "stopped: {cause}"),
            Self::SegmentRollbackStarted { .. } => f.write_str("rolling back"),
            Self::NodeRestored { .. } => f.write_str("back on what it held before"),
            Self::NodeNotRestored { reason, .. } => write!(f, "NOT RESTORED {reason}"),
            Self::VerificationStarted { .. } => f.write_str("verifying every expected node"),
            Self::NodeVerified { grade, .. } => write!(f, "verified ({grade})"),
            Self::NodeUnverified { reason, .. } => write!(f, "NOT PROVEN {reason}"),
            Self::Finished { outcome, .. } => write!(f, "{}", outcome.as_str().to_uppercase().replace('-', "_")),
        }
    }
}
