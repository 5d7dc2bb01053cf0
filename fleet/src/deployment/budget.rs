//! How many nodes may fail before a deployment turns back. A budget decides when to *stop*; it never decides that it
//! worked.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

/// How many nodes may fail. The deployment turns back when the budget is *exceeded*, as Ansible's
/// `max_fail_percentage` does (`failed / batch > p / 100`, strict); but here silence counts as failure.
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
