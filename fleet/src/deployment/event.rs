//! What can arrive at a deployment. An event may change nothing; what it changes becomes facts.

use crate::deployment::AbortMode;
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
    /// A person wants it ended.
    Abort {
        /// Who.
        by: String,
        /// What becomes of the nodes already ordered.
        mode: AbortMode,
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
