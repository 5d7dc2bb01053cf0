//! Gates: conditions that must hold between a segment and the next. The engine asks, waits, and judges the answer;
//! whoever runs a test, reads a metric or asks a person reports a [`Verdict`]. No answer is *inconclusive*, and
//! inconclusive is never success: it waits for a person.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

use crate::Millis;

/// One gate of a deployment, asked after the bake of a segment.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Gate {
    /// Its name, for people: `test`, `error-rate`.
    pub name: String,
    /// What has to answer.
    pub source: Source,
    /// After which segment (from 0) it is asked; None: after each.
    pub after: Option<usize>,
    /// How long an answer is waited for.
    pub deadline: Millis,
}

/// What answers for a gate.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "source", rename_all = "kebab-case")]
pub enum Source {
    /// A command, run with the segment's nodes in its environment (`FLEET_SEGMENT_NODES`); exit 0 passes.
    Test {
        /// The command line, for a shell.
        command: String,
        /// Where it runs.
        from: Host,
    },
    /// A question to a metrics system.
    Metric {
        /// The query.
        query: String,
    },
    /// So many people must agree.
    Approval {
        /// How many.
        required: u32,
    },
}

/// Where a gate's command runs.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Host {
    /// On the controller's host.
    Controller,
    /// Where `fleetctl` watches the deployment: a laptop, a CI job.
    Operator,
}

impl Host {
    /// The word used on the wire and in service files.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Controller => "controller",
            Self::Operator => "operator",
        }
    }
}

impl FromStr for Host {
    type Err = HostError;
    fn from_str(text: &str) -> Result<Self, HostError> {
        match text {
            "controller" => Ok(Self::Controller),
            "operator" => Ok(Self::Operator),
            _ => Err(HostError(text.chars().take(80).collect())),
        }
    }
}

/// Why a place to run a test was refused.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("'{0}' is not a place to run a test: use operator (where fleetctl watches) or controller")]
pub struct HostError(String);

/// An answer to a gate.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "verdict", rename_all = "kebab-case")]
pub enum Verdict {
    /// The condition holds.
    Passed {
        /// What was seen.
        detail: String,
    },
    /// It does not.
    Failed {
        /// What was seen.
        detail: String,
    },
    /// Nobody can say: no data, a source that cannot be reached, a test that could not be run.
    Inconclusive {
        /// Why.
        detail: String,
    },
}

/// One asking of a gate: what the answer must name, so that a late answer to an earlier asking is no answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Asking {
    /// The segment, from 0.
    pub segment: usize,
    /// The gate, by its place in the spec.
    pub gate: usize,
    /// The how-many-eth asking of this gate for this segment, from 1.
    pub attempt: u32,
}

impl fmt::Display for Source {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Test { command, from: Host::Controller } => write!(f, "'{command}' on the controller's host"),
            Self::Test { command, from: Host::Operator } => write!(f, "'{command}' where fleetctl watches"),
            Self::Metric { query } => write!(f, "the metric {query}"),
            Self::Approval { required: 1 } => f.write_str("an approval"),
            Self::Approval { required } => write!(f, "{required} approvals"),
        }
    }
}
