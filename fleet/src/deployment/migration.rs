//! The migration: a step that must happen once per deployment and not once per node, such as a change of the database
//! schema. One node runs it. It is never run again by itself: when nobody can tell whether it ran, a person decides.

use std::fmt;

use serde::{Deserialize, Serialize};

use crate::{DeploymentId, Hold, Millis, NodeName, ServiceName};

/// What is run once.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Migration {
    /// Its name, for people: `migrate`.
    pub name: String,
    /// The command line, run in the new release's directory on the node.
    pub command: String,
    /// When.
    pub place: Place,
    /// How long it may take.
    pub timeout: Millis,
}

/// When a migration is run.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Place {
    /// Before this segment (from 0) is ordered.
    Before(usize),
    /// After this segment (from 0) has passed its gates.
    After(usize),
}

impl Place {
    /// The segment it is tied to.
    pub fn segment(self) -> usize {
        match self {
            Self::Before(segment) | Self::After(segment) => segment,
        }
    }
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Before(segment) => write!(f, "before segment {}", segment + 1),
            Self::After(segment) => write!(f, "after segment {}", segment + 1),
        }
    }
}

/// What one agent is told to run, and how it is recognised: the same deployment and attempt is the same migration, run at
/// most once whatever is lost or repeated.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct MigrationOrder {
    /// Whose migration.
    pub deployment: DeploymentId,
    /// The how-many-eth, from 1; a higher one is a person's wish to run it again.
    pub attempt: u32,
    /// The node that runs it.
    pub node: NodeName,
    /// The service.
    pub service: ServiceName,
    /// The release in whose directory it runs.
    pub hold: Hold,
    /// Its name.
    pub name: String,
    /// The command line.
    pub command: String,
    /// How long it may take.
    pub timeout: Millis,
}

/// What an agent says of a migration.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "report", rename_all = "kebab-case")]
pub enum MigrationReport {
    /// At work.
    Running {
        /// What is known of it.
        detail: String,
    },
    /// It ended well.
    Succeeded,
    /// It ended badly, or ran out of time.
    Failed {
        /// How, with the last lines of what it printed.
        reason: String,
    },
    /// It was begun, and nobody knows whether it ended: the agent or its machine stopped in between.
    Interrupted {
        /// What is known.
        reason: String,
    },
}
