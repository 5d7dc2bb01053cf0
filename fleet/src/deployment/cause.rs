//! Why a deployment turned back, ended early or halted: values that are journaled, with their words for people.

use std::fmt;

use serde::{Deserialize, Serialize};

use crate::capacity::Shortage;
use crate::deployment::Asking;
use crate::{DeploymentId, Millis};

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
    /// So few nodes serve that no other may be taken out.
    CapacityLost {
        /// How it came to that.
        shortage: Shortage,
    },
    /// A gate said no.
    GateFailed {
        /// Which asking.
        asking: Asking,
        /// Its name.
        name: String,
        /// What was seen.
        detail: String,
    },
    /// The migration failed.
    MigrationFailed {
        /// Its name.
        name: String,
        /// How.
        reason: String,
    },
    /// A person was waited for, and did not decide in time.
    NobodyDecided {
        /// How long it was waited.
        waited: Millis,
        /// For what.
        on: String,
    },
    /// A person ended it.
    Aborted {
        /// Who.
        by: String,
    },
    /// Another deployment took its place.
    Superseded {
        /// Who wanted it.
        by: String,
        /// Which.
        deployment: DeploymentId,
    },
}

impl fmt::Display for Cause {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::BudgetExceeded { failed, allowed } => write!(f, "{failed} failed, {allowed} allowed"),
            Self::CapacityLost { shortage } => write!(f, "{shortage}"),
            Self::GateFailed { asking, name, detail } => {
                write!(f, "gate {name} after segment {}: {detail}", asking.segment + 1)
            }
            Self::MigrationFailed { name, reason } => write!(f, "the migration {name} failed: {reason}"),
            Self::NobodyDecided { waited, on } => write!(f, "nobody decided within {waited}: {on}"),
            Self::Aborted { by } => write!(f, "aborted by {by}"),
            Self::Superseded { by, deployment } => write!(f, "superseded by {by} with {deployment}"),
        }
    }
}

/// Why a deployment has halted by itself until a person promotes or aborts it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "halt", rename_all = "kebab-case", rename_all_fields = "camelCase")]
pub enum Halt {
    /// It was asked to wait here.
    PauseAfter {
        /// The segment, from 0.
        segment: usize,
    },
    /// A gate has no answer, and no answer is never a yes.
    Inconclusive {
        /// Which asking.
        asking: Asking,
        /// Its name.
        name: String,
        /// What is known.
        detail: String,
    },
    /// It failed, and was asked to wait for a person when it does.
    Failure {
        /// Why it failed.
        cause: Cause,
    },
    /// Nobody can tell whether the migration ran.
    Interrupted {
        /// Its name.
        name: String,
        /// What is known.
        reason: String,
    },
}

impl fmt::Display for Halt {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::PauseAfter { segment } => write!(f, "it waits to be promoted after segment {}", segment + 1),
            Self::Inconclusive { asking, name, detail } => {
                write!(f, "gate {name} after segment {} is inconclusive: {detail}", asking.segment + 1)
            }
            Self::Failure { cause } => write!(f, "it failed: {cause}"),
            Self::Interrupted { name, reason } => {
                write!(f, "nobody can tell whether the migration {name} ran: {reason}")
            }
        }
    }
}
