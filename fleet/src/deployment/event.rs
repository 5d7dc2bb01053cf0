//! What can arrive at a deployment. An event may change nothing; what it changes becomes facts.

use crate::deployment::{Asking, Command, MigrationReport, Previous, Verdict};
use crate::evidence::Confirmation;
use crate::release::Grade;
use crate::{Generation, Millis, NodeName, Timestamp};

/// Something that arrived.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Event {
    /// Time has passed, or the driver has just taken the deployment up: look again.
    Tick,
    /// A fresh attestation of a node was compared with what the node shall hold.
    Observed {
        /// The node.
        node: NodeName,
        /// What the comparison said.
        observation: Observation,
    },
    /// Someone answered for a gate.
    GateAnswered {
        /// Which asking.
        asking: Asking,
        /// The answer.
        verdict: Verdict,
    },
    /// An agent said how the migration stands.
    MigrationReported {
        /// The node that says it.
        node: NodeName,
        /// Which attempt.
        attempt: u32,
        /// How it stands.
        report: MigrationReport,
    },
    /// A node that is meant has joined the fleet.
    Joined {
        /// The node.
        node: NodeName,
        /// What it holds.
        previous: Previous,
    },
    /// A node was taken out of the fleet for good.
    Decommissioned {
        /// The node.
        node: NodeName,
        /// Who took it out.
        by: String,
        /// Why.
        reason: String,
    },
    /// A person, or another deployment in a person's name, wants something.
    Told {
        /// Who.
        by: String,
        /// What.
        command: Command,
    },
}

/// A comparison, and how fresh it is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Observation {
    /// When the nonce was drawn: the node was looked at after that. The only time that counts for freshness.
    pub asked_at: Timestamp,
    /// The generation of the order that was compared: an observation of another wish is no news here.
    pub generation: Generation,
    /// What was seen.
    pub seen: Seen,
}

/// What was seen.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Seen {
    /// Everything matches the order.
    Proven {
        /// The weakest grade among the processes.
        grade: Grade,
        /// How long the service has been up without starting anew.
        up: Millis,
        /// Whether the agent may still undo it by itself.
        confirmation: Confirmation,
    },
    /// The agent is at work, or has not taken the order in yet.
    Working {
        /// What it does, for people.
        detail: String,
    },
    /// The agent could not carry the order out.
    Failed {
        /// Why.
        reason: String,
    },
    /// The agent says it holds the order; what is seen says otherwise.
    Differs {
        /// The findings in one sentence.
        reason: String,
    },
}
