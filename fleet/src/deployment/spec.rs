//! What a deployment was asked to do, fixed when it is planned.

use std::collections::BTreeMap;
use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

use crate::release::Version;
use crate::{DeploymentId, Generation, Hold, Millis, NodeName, ServiceName};

/// Everything that is fixed when a deployment starts.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Spec {
    /// Its id.
    pub id: DeploymentId,
    /// The service that moves.
    pub service: ServiceName,
    /// Where: staging, prod.
    pub environment: String,
    /// Forwards, or back to what was held before.
    pub kind: Kind,
    /// What every node shall hold in the end.
    pub target: Hold,
    /// The target's version, for people.
    pub version: Version,
    /// The nodes that take part, in order. A node is in exactly one segment, or absent.
    pub segments: Vec<Vec<NodeName>>,
    /// Expected, and not there when it was planned. They are ordered last, waited for, and never count as success.
    pub absent: Vec<NodeName>,
    /// What each node held before, to go back to.
    pub previous: BTreeMap<NodeName, Previous>,
    /// The generation of the orders forward.
    pub generation: Generation,
    /// The generation of the orders back; higher than `generation`, so that a late "forward" cannot undo a "back".
    pub rollback_generation: Generation,
    /// How many nodes may fail before it turns back.
    pub max_failures: Budget,
    /// How long a segment must stay proven and healthy.
    pub bake: Millis,
    /// How long one node may take from its order to its proof.
    pub node_deadline: Millis,
    /// How long a node may claim to hold its order while what is seen says otherwise.
    pub settle: Millis,
    /// How long an absent node is waited for at the end.
    pub absent_grace: Millis,
    /// What happens when the budget is exceeded.
    pub on_failure: OnFailure,
    /// Who asked for it.
    pub actor: String,
    /// Why, in their words.
    pub message: String,
}

/// What a node held before.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Previous {
    /// What it held.
    pub hold: Hold,
    /// Its version, for people; None for nothing.
    pub version: Option<Version>,
}

impl Spec {
    /// Every expected node: those of the segments, then the absent.
    pub fn expected(&self) -> impl Iterator<Item = &NodeName> {
        self.segments.iter().flatten().chain(&self.absent)
    }

    /// How many nodes take part, the absent included.
    pub fn size(&self) -> usize {
        self.segments.iter().map(Vec::len).sum::<usize>() + self.absent.len()
    }
}

/// Which way a deployment goes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Kind {
    /// To a release that was asked for.
    Rollout,
    /// Back to what was held before, by an operator's wish.
    Rollback,
}

impl Kind {
    /// The word used on the wire.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Rollout => "rollout",
            Self::Rollback => "rollback",
        }
    }
}

/// What happens when more nodes failed than the budget allows.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum OnFailure {
    /// Every node that was ordered goes back to what it held, newest segment first.
    Rollback,
    /// Everything stays as it is, and a human is needed.
    Stop,
}

impl OnFailure {
    /// The word used on the command line.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Rollback => "rollback",
            Self::Stop => "stop",
        }
    }
}

impl FromStr for OnFailure {
    type Err = OnFailureError;
    fn from_str(text: &str) -> Result<Self, OnFailureError> {
        match text {
            "rollback" => Ok(Self::Rollback),
            "stop" => Ok(Self::Stop),
            _ => Err(OnFailureError(text.chars().take(80).collect())),
        }
    }
}

/// Why an on-failure value was refused.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("'{0}' is not something to do on failure: use rollback or stop")]
pub struct OnFailureError(String);

/// What an abort does with the nodes that were already ordered.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum AbortMode {
    /// They go back to what they held.
    RollBack,
    /// They stay as they are.
    Leave,
}

/// How many nodes may fail. The deployment turns back when the budget is *exceeded*, as Ansible's
/// `max_fail_percentage` does; but here silence counts as failure.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub enum Budget {
    /// So many nodes.
    Nodes(usize),
    /// A share of all nodes that take part.
    Percent(u8),
}

impl Budget {
    /// Whether `failed` of `total` nodes are more than it allows.
    pub fn is_exceeded(self, failed: usize, total: usize) -> bool {
        match self {
            Self::Nodes(allowed) => failed > allowed,
            Self::Percent(percent) => failed.saturating_mul(100) > usize::from(percent).saturating_mul(total),
        }
    }
}

impl FromStr for Budget {
    type Err = BudgetError;
    fn from_str(text: &str) -> Result<Self, BudgetError> {
        let refuse = || BudgetError(text.chars().take(80).collect());
        match text.strip_suffix('%') {
            Some(percent) => match percent.parse() {
                Ok(percent @ 0..=100) => Ok(Self::Percent(percent)),
                _ => Err(refuse()),
            },
            None => text.parse().map(Self::Nodes).map_err(|_| refuse()),
        }
    }
}

/// Why a budget was refused.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("'{0}' is not a failure budget: write a number of nodes (0, 2) or a percentage (10%)")]
pub struct BudgetError(String);

impl fmt::Display for Budget {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Nodes(nodes) => write!(f, "{nodes}"),
            Self::Percent(percent) => write!(f, "{percent}%"),
        }
    }
}

impl TryFrom<String> for Budget {
    type Error = BudgetError;
    fn try_from(text: String) -> Result<Self, BudgetError> {
        text.parse()
    }
}

impl From<Budget> for String {
    fn from(budget: Budget) -> String {
        budget.to_string()
    }
}
