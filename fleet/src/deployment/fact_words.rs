//! Facts in words: one sentence each, for progress lines, logs and histories. Nothing reads them back.

use std::fmt;

use crate::NodeName;
use crate::deployment::{AbortMode, Again, Fact};

impl fmt::Display for Fact {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Planned { spec, .. } => {
                let (nodes, segments) = (spec.size(), spec.segments.len());
                write!(f, "{} {} to {nodes} nodes in {segments} segments", spec.service, spec.version)?;
                if !spec.absent.is_empty() {
                    write!(f, ", {} absent", spec.absent.len())?;
                }
                Ok(())
            }
            Self::SegmentStarted { .. } => f.write_str("started"),
            Self::NodesOrdered { nodes, .. } => write!(f, "ordered: {}", few(nodes)),
            Self::NodeProven { grade, .. } => write!(f, "proven ({grade})"),
            Self::NodeFailed { reason, .. } => write!(f, "FAILED {reason}"),
            Self::SegmentProven { .. } => f.write_str("proven"),
            Self::NodeBaked { .. } => f.write_str("still proven, and nothing is left that undoes it"),
            Self::SegmentBaked { .. } => f.write_str("ok"),
            Self::GateStarted { asking, .. } if asking.attempt > 1 => {
                write!(f, "gate {} is asked, attempt {}", asking.gate + 1, asking.attempt)
            }
            Self::GateStarted { asking, .. } => write!(f, "gate {} is asked", asking.gate + 1),
            Self::GatePassed { asking, detail, .. } => write!(f, "gate {} passed: {detail}", asking.gate + 1),
            Self::GateFailed { asking, detail, .. } => write!(f, "gate {} FAILED: {detail}", asking.gate + 1),
            Self::GateInconclusive { asking, detail, .. } => {
                write!(f, "gate {} INCONCLUSIVE: {detail}", asking.gate + 1)
            }
            Self::MigrationStarted { attempt: 1, .. } => f.write_str("the migration is run here"),
            Self::MigrationStarted { attempt, .. } => write!(f, "the migration is run here, attempt {attempt}"),
            Self::MigrationSucceeded { .. } => f.write_str("the migration ended well"),
            Self::MigrationFailed { reason, .. } => write!(f, "the migration FAILED: {reason}"),
            Self::MigrationInterrupted { reason, .. } => write!(f, "the migration was INTERRUPTED: {reason}"),
            Self::Halted { halt, .. } => write!(f, "halted: {halt}"),
            Self::Promoted { by, again: Again::Skip, .. } => write!(f, "promoted by {by}"),
            Self::Promoted { by, again: Again::Retry, .. } => write!(f, "promoted by {by}, to try again"),
            Self::Paused { by, .. } => write!(f, "paused by {by}"),
            Self::Resumed { by, .. } => write!(f, "resumed by {by}"),
            Self::NodeWaived { waiver, .. } => write!(f, "{waiver}"),
            Self::NodeJoined { .. } => f.write_str("joined: it is ordered last, and belongs to the verdict"),
            Self::NodeDecommissioned { by, reason, .. } => write!(f, "decommissioned by {by}: {reason}"),
            Self::AbortRequested { by, mode: AbortMode::RollBack, .. } => {
                write!(f, "abort requested by {by}: rolling back")
            }
            Self::AbortRequested { by, mode: AbortMode::Leave, .. } => {
                write!(f, "abort requested by {by}: leaving every node as it is")
            }
            Self::Superseded { by, deployment, .. } => write!(f, "{by} puts {deployment} in its place"),
            Self::RollbackStarted { cause, .. } => write!(f, "rolling back: {cause}"),
            Self::Stopped { cause, .. } => write!(f, "stopped: {cause}"),
            Self::SegmentRollbackStarted { .. } => f.write_str("rolling back"),
            Self::NodesTurnedBack { nodes, .. } => write!(f, "ordered back: {}", few(nodes)),
            Self::NodeRestored { .. } => f.write_str("back on what it held before"),
            Self::NodeNotRestored { reason, .. } => write!(f, "NOT RESTORED {reason}"),
            Self::VerificationStarted { .. } => f.write_str("verifying every expected node"),
            Self::NodeVerified { grade, .. } => write!(f, "verified ({grade})"),
            Self::NodeUnverified { reason, .. } => write!(f, "NOT PROVEN {reason}"),
            Self::Finished { outcome, .. } => write!(f, "{}", outcome.as_str().to_uppercase().replace('-', "_")),
        }
    }
}

/// The first few of many names.
pub(super) fn few(nodes: &[NodeName]) -> String {
    const SHOWN: usize = 5;
    let mut text = nodes.iter().take(SHOWN).map(NodeName::as_str).collect::<Vec<_>>().join(", ");
    if nodes.len() > SHOWN {
        text.push_str(&format!(" and {} more", nodes.len() - SHOWN));
    }
    text
}
