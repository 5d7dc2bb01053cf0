//! `--parallel`: how many nodes of a segment move at once, whatever the floor would allow.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

use super::{number, shortened};

/// How many nodes of one segment may be in flight at once. The default is the whole segment.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub enum Parallel {
    /// `5`: so many nodes.
    Count(usize),
    /// `25%`: a share, 1 to 100, of the segment, rounded down, at least one. Down, since the number says how much
    /// may be at risk (Argo Rollouts rounds `maxUnavailable` so); at least one, since nothing would ever move.
    Percent(u8),
    /// `all`: the whole segment.
    #[default]
    All,
}

/// Why a `--parallel` value was refused.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error(
    "'{0}' is not a number of nodes at once: write a number from 1 (5), a percentage from 1% to 100% (25%), or all"
)]
pub struct ParallelError(String);

impl Parallel {
    /// How many nodes of a segment of `segment_size` may be in flight; at least 1. A count may exceed the segment.
    pub fn limit(self, segment_size: usize) -> usize {
        let nodes = match self {
            Self::Count(nodes) => nodes,
            Self::Percent(percent) => {
                usize::try_from(u128::from(percent) * segment_size as u128 / 100).unwrap_or(usize::MAX)
            }
            Self::All => segment_size,
        };
        nodes.max(1)
    }
}

impl FromStr for Parallel {
    type Err = ParallelError;
    fn from_str(text: &str) -> Result<Self, ParallelError> {
        let word = text.trim();
        let read = match word.strip_suffix('%') {
            Some(percent) => number(percent).filter(|p| (1..=100).contains(p)).map(|p| Self::Percent(p as u8)),
            None if word == "all" => Some(Self::All),
            None => number(word).filter(|nodes| *nodes > 0).map(Self::Count),
        };
        read.ok_or_else(|| ParallelError(shortened(text)))
    }
}

impl fmt::Display for Parallel {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Count(nodes) => write!(f, "{nodes}"),
            Self::Percent(percent) => write!(f, "{percent}%"),
            Self::All => f.write_str("all"),
        }
    }
}

impl TryFrom<String> for Parallel {
    type Error = ParallelError;
    fn try_from(text: String) -> Result<Self, ParallelError> {
        text.parse()
    }
}

impl From<Parallel> for String {
    fn from(parallel: Parallel) -> String {
        parallel.to_string()
    }
}
