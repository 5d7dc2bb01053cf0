//! What has become true of a deployment and stays true. Facts, not inputs, are journaled: replaying inputs
//! through a newer judge would rewrite history after an upgrade; replaying facts cannot. Their words for people are
//! in `fact_words.rs`.

use serde::{Deserialize, Serialize};

use crate::deployment::{AbortMode, Again, Asking, Cause, Halt, Previous, Spec, Waiver};
use crate::release::Grade;
use crate::{DeploymentId, NodeName, Outcome, Timestamp};

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
    /// A segment's turn has come.
    SegmentStarted {
        /// When.
        at: Timestamp,
        /// Which, from 0.
        segment: usize,
    },
    /// Nodes of the segment are ordered to hold the target.
    NodesOrdered {
        /// When.
        at: Timestamp,
        /// Which, from 0.
        segment: usize,
        /// Which.
        nodes: Vec<NodeName>,
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
        /// Which, from 0.
        segment: usize,
    },
    /// A node was still proven after the bake time.
    NodeBaked {
        /// When.
        at: Timestamp,
        /// Which.
        node: NodeName,
    },
    /// The segment has baked: its gates are asked.
    SegmentBaked {
        /// When.
        at: Timestamp,
        /// Which, from 0.
        segment: usize,
    },
    /// A gate is asked.
    GateStarted {
        /// When.
        at: Timestamp,
        /// Which asking.
        asking: Asking,
    },
    /// A gate said yes.
    GatePassed {
        /// When.
        at: Timestamp,
        /// Which asking.
        asking: Asking,
        /// What was seen.
        detail: String,
    },
    /// A gate said no.
    GateFailed {
        /// When.
        at: Timestamp,
        /// Which asking.
        asking: Asking,
        /// What was seen.
        detail: String,
    },
    /// A gate has no answer.
    GateInconclusive {
        /// When.
        at: Timestamp,
        /// Which asking.
        asking: Asking,
        /// What is known.
        detail: String,
    },
    /// A node is told to run the migration.
    MigrationStarted {
        /// When.
        at: Timestamp,
        /// Which.
        node: NodeName,
        /// The how-many-eth, from 1.
        attempt: u32,
    },
    /// It ended well.
    MigrationSucceeded {
        /// When.
        at: Timestamp,
        /// Which.
        node: NodeName,
    },
    /// It ended badly.
    MigrationFailed {
        /// When.
        at: Timestamp,
        /// Which.
        node: NodeName,
        /// Why.
        reason: String,
    },
    /// Nobody can tell whether it ended.
    MigrationInterrupted {
        /// When.
        at: Timestamp,
        /// Which.
        node: NodeName,
        /// Why.
        reason: String,
    },
    /// It halts until a person promotes or aborts it.
    Halted {
        /// When.
        at: Timestamp,
        /// Why.
        halt: Halt,
    },
    /// A person let it go on past a halt.
    Promoted {
        /// When.
        at: Timestamp,
        /// Who.
        by: String,
        /// Whether what halted it is taken as done or tried again.
        again: Again,
    },
    /// A person paused it.
    Paused {
        /// When.
        at: Timestamp,
        /// Who.
        by: String,
    },
    /// A person let it go on.
    Resumed {
        /// When.
        at: Timestamp,
        /// Who.
        by: String,
    },
    /// A node need not be proven.
    NodeWaived {
        /// When.
        at: Timestamp,
        /// Which.
        node: NodeName,
        /// Who, why, until when.
        waiver: Waiver,
    },
    /// A node joined the fleet while this ran: it belongs to the verdict.
    NodeJoined {
        /// When.
        at: Timestamp,
        /// Which.
        node: NodeName,
        /// What it held.
        previous: Previous,
    },
    /// A node was taken out of the fleet for good, on the record: it belongs to the verdict no longer.
    NodeDecommissioned {
        /// When.
        at: Timestamp,
        /// Which.
        node: NodeName,
        /// Who.
        by: String,
        /// Why.
        reason: String,
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
    /// Another deployment takes its place.
    Superseded {
        /// When.
        at: Timestamp,
        /// Who wanted it.
        by: String,
        /// Which.
        deployment: DeploymentId,
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
    /// A segment's turn to go back has come; newest segment first.
    SegmentRollbackStarted {
        /// When.
        at: Timestamp,
        /// Which, from 0.
        segment: usize,
    },
    /// Nodes of the segment are ordered back to what each of them held.
    NodesTurnedBack {
        /// When.
        at: Timestamp,
        /// Which, from 0; the number of segments for nodes that are in none.
        segment: usize,
        /// Which.
        nodes: Vec<NodeName>,
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

impl Fact {
    /// When it became true.
    pub fn at(&self) -> Timestamp {
        match self {
            Self::Planned { at, .. }
            | Self::SegmentStarted { at, .. }
            | Self::NodesOrdered { at, .. }
            | Self::NodeProven { at, .. }
            | Self::NodeFailed { at, .. }
            | Self::SegmentProven { at, .. }
            | Self::NodeBaked { at, .. }
            | Self::SegmentBaked { at, .. }
            | Self::GateStarted { at, .. }
            | Self::GatePassed { at, .. }
            | Self::GateFailed { at, .. }
            | Self::GateInconclusive { at, .. }
            | Self::MigrationStarted { at, .. }
            | Self::MigrationSucceeded { at, .. }
            | Self::MigrationFailed { at, .. }
            | Self::MigrationInterrupted { at, .. }
            | Self::Halted { at, .. }
            | Self::Promoted { at, .. }
            | Self::Paused { at, .. }
            | Self::Resumed { at, .. }
            | Self::NodeWaived { at, .. }
            | Self::NodeJoined { at, .. }
            | Self::NodeDecommissioned { at, .. }
            | Self::AbortRequested { at, .. }
            | Self::Superseded { at, .. }
            | Self::RollbackStarted { at, .. }
            | Self::Stopped { at, .. }
            | Self::SegmentRollbackStarted { at, .. }
            | Self::NodesTurnedBack { at, .. }
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
            Self::NodesOrdered { .. } => "nodes-ordered",
            Self::NodeProven { .. } => "node-proven",
            Self::NodeFailed { .. } => "node-failed",
            Self::SegmentProven { .. } => "segment-proven",
            Self::NodeBaked { .. } => "node-baked",
            Self::SegmentBaked { .. } => "segment-baked",
            Self::GateStarted { .. } => "gate-started",
            Self::GatePassed { .. } => "gate-passed",
            Self::GateFailed { .. } => "gate-failed",
            Self::GateInconclusive { .. } => "gate-inconclusive",
            Self::MigrationStarted { .. } => "migration-started",
            Self::MigrationSucceeded { .. } => "migration-succeeded",
            Self::MigrationFailed { .. } => "migration-failed",
            Self::MigrationInterrupted { .. } => "migration-interrupted",
            Self::Halted { .. } => "halted",
            Self::Promoted { .. } => "promoted",
            Self::Paused { .. } => "paused",
            Self::Resumed { .. } => "resumed",
            Self::NodeWaived { .. } => "node-waived",
            Self::NodeJoined { .. } => "node-joined",
            Self::NodeDecommissioned { .. } => "node-decommissioned",
            Self::AbortRequested { .. } => "abort-requested",
            Self::Superseded { .. } => "superseded",
            Self::RollbackStarted { .. } => "rollback-started",
            Self::Stopped { .. } => "stopped",
            Self::SegmentRollbackStarted { .. } => "segment-rollback-started",
            Self::NodesTurnedBack { .. } => "nodes-turned-back",
            Self::NodeRestored { .. } => "node-restored",
            Self::NodeNotRestored { .. } => "node-not-restored",
            Self::VerificationStarted { .. } => "verification-started",
            Self::NodeVerified { .. } => "node-verified",
            Self::NodeUnverified { .. } => "node-unverified",
            Self::Finished { .. } => "finished",
        }
    }

    /// The node it speaks of, if it is one.
    pub fn node(&self) -> Option<&NodeName> {
        match self {
            Self::NodeProven { node, .. }
            | Self::NodeFailed { node, .. }
            | Self::NodeBaked { node, .. }
            | Self::MigrationStarted { node, .. }
            | Self::MigrationSucceeded { node, .. }
            | Self::MigrationFailed { node, .. }
            | Self::MigrationInterrupted { node, .. }
            | Self::NodeWaived { node, .. }
            | Self::NodeJoined { node, .. }
            | Self::NodeDecommissioned { node, .. }
            | Self::NodeRestored { node, .. }
            | Self::NodeNotRestored { node, .. }
            | Self::NodeVerified { node, .. }
            | Self::NodeUnverified { node, .. } => Some(node),
            Self::Planned { .. }
            | Self::SegmentStarted { .. }
            | Self::NodesOrdered { .. }
            | Self::SegmentProven { .. }
            | Self::SegmentBaked { .. }
            | Self::GateStarted { .. }
            | Self::GatePassed { .. }
            | Self::GateFailed { .. }
            | Self::GateInconclusive { .. }
            | Self::Halted { .. }
            | Self::Promoted { .. }
            | Self::Paused { .. }
            | Self::Resumed { .. }
            | Self::AbortRequested { .. }
            | Self::Superseded { .. }
            | Self::RollbackStarted { .. }
            | Self::Stopped { .. }
            | Self::SegmentRollbackStarted { .. }
            | Self::NodesTurnedBack { .. }
            | Self::VerificationStarted { .. }
            | Self::Finished { .. } => None,
        }
    }

    /// The segment it speaks of.
    pub fn segment(&self) -> Option<usize> {
        match self {
            Self::SegmentStarted { segment, .. }
            | Self::NodesOrdered { segment, .. }
            | Self::SegmentProven { segment, .. }
            | Self::SegmentBaked { segment, .. }
            | Self::SegmentRollbackStarted { segment, .. }
            | Self::NodesTurnedBack { segment, .. } => Some(*segment),
            Self::GateStarted { asking, .. }
            | Self::GatePassed { asking, .. }
            | Self::GateFailed { asking, .. }
            | Self::GateInconclusive { asking, .. } => Some(asking.segment),
            Self::Planned { .. }
            | Self::NodeProven { .. }
            | Self::NodeFailed { .. }
            | Self::NodeBaked { .. }
            | Self::MigrationStarted { .. }
            | Self::MigrationSucceeded { .. }
            | Self::MigrationFailed { .. }
            | Self::MigrationInterrupted { .. }
            | Self::Halted { .. }
            | Self::Promoted { .. }
            | Self::Paused { .. }
            | Self::Resumed { .. }
            | Self::NodeWaived { .. }
            | Self::NodeJoined { .. }
            | Self::NodeDecommissioned { .. }
            | Self::AbortRequested { .. }
            | Self::Superseded { .. }
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
