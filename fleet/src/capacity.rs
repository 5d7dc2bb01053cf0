//! How many nodes may be out of service at once: the floor of healthy nodes (`--min-healthy`), how much room it
//! leaves for work, and when it says that a deployment must not go on. (`--parallel`, a plain limit, is in
//! [`Parallel`].)
//!
//! The arithmetic is that of CodeDeploy's *minimum healthy hosts* (AWS CodeDeploy User Guide, "CodeDeploy instance
//! health"), under its names. **Adopted**: a percentage becomes a number of nodes once, at the start, rounded *up*;
//! as many nodes move at once as are healthy above the floor; broken nodes are tried first, since they cost no
//! capacity; the deployment stops when no node is left above the floor and there is still one to move; a fleet that
//! starts below its floor must only not get worse. **Rejected**: its rule of success. There, a deployment that
//! leaves enough healthy nodes has succeeded, `AllAtOnce` even with one of N, and the failure of the last node of
//! `OneAtATime` is no failure. Here the floor can only stop a deployment, as one more reason to turn back; whether
//! it converged is decided node by node, and how many may fail by the [budget](crate::deployment::Budget).
//!
//! The floor limits what is put at risk, never the way back: a rollback repairs, and is not stopped by it.
//! Left to others: counting who is healthy, and starting and stopping.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

mod parallel;
#[cfg(test)]
mod tests;

pub use parallel::{Parallel, ParallelError};

/// How many nodes must stay healthy while a deployment runs. The default, `0`, asks for nothing.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub enum MinHealthy {
    /// `6`: so many nodes (`HOST_COUNT`).
    Count(usize),
    /// `75%`: a share, 0 to 100, of all nodes that take part, rounded up (`FLEET_PERCENT`).
    Percent(u8),
    /// `codedeploy:OneAtATime`: one of CodeDeploy's own.
    Preset(Preset),
}

/// CodeDeploy's predefined deployment configurations, as floors. Only the floor: its rule of success is rejected.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Preset {
    /// All but one. CodeDeploy documents it as 99 % and carries it out as `MOST_CONCURRENCY 1`; from 200 nodes on
    /// these differ, and it is the latter that the name promises.
    OneAtATime,
    /// Half of the nodes, rounded up, so that at most half, rounded down, move at once. With a single node
    /// nothing can move: ask for `0` there.
    HalfAtATime,
    /// None.
    AllAtOnce,
}

/// Why a `--min-healthy` value was refused.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error(
    "'{0}' is not a number of healthy nodes: write a number (6), a percentage from 0% to 100% (75%), or codedeploy:OneAtATime, codedeploy:HalfAtATime, codedeploy:AllAtOnce"
)]
pub struct MinHealthyError(String);

/// What the floor is compared with: a deployment's nodes, counted.
///
/// A node is *healthy* here if it was so when it was last seen and the deployment has not failed on it; a node in
/// flight that was healthy when it was taken still counts, until it fails. All other nodes are *broken*, those of
/// which nothing is known among them: no data is not health.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Capacity {
    /// The floor: [`MinHealthy::floor`] of all nodes that take part, fixed at the start.
    pub floor: usize,
    /// How many nodes were healthy when the deployment started.
    pub healthy_at_start: usize,
    /// How many are healthy now.
    pub healthy: usize,
    /// How many nodes have not been ordered yet, healthy or broken, in this segment or a later one.
    pub untried: usize,
    /// How many broken nodes have not been tried to the end: not ordered yet, or in flight.
    pub broken_open: usize,
}

/// Why the floor forbids to go on; printed, it is a sentence without a full stop.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", tag = "shortage")]
pub enum Shortage {
    /// Healthy nodes have fallen to the floor: the next failure would go below it.
    FellToFloor {
        /// How many are healthy.
        healthy: usize,
        /// How many must be.
        floor: usize,
    },
    /// The fleet began at its floor or below it, and has become worse.
    GotWorse {
        /// How many are healthy.
        healthy: usize,
        /// How many were when it started.
        healthy_at_start: usize,
    },
    /// No broken node is left to try, and no healthy one can be spared.
    NoRoom {
        /// How many are healthy.
        healthy: usize,
        /// How many must be.
        floor: usize,
    },
}

/// How many healthy nodes may be in flight at once: those above the floor.
///
/// `healthy` includes those in flight already (see [`Capacity`]), so one more may be taken while fewer than this
/// many are. It is the same as asking that more than `floor` nodes are healthy and *not* in flight. Broken nodes in
/// flight are not counted: they serve nobody, and cost nothing.
pub fn in_flight_allowance(healthy: usize, floor: usize) -> usize {
    healthy.saturating_sub(floor)
}

impl MinHealthy {
    /// The floor for `total` nodes. It may exceed `total`, if a count says so; then nothing can move.
    pub fn floor(self, total: usize) -> usize {
        let share =
            |percent: u8| usize::try_from((u128::from(percent) * total as u128).div_ceil(100)).unwrap_or(usize::MAX);
        match self {
            Self::Count(nodes) => nodes,
            Self::Percent(percent) => share(percent),
            Self::Preset(Preset::OneAtATime) => total.saturating_sub(1),
            Self::Preset(Preset::HalfAtATime) => share(50),
            Self::Preset(Preset::AllAtOnce) => 0,
        }
    }
}

impl Default for MinHealthy {
    fn default() -> Self {
        Self::Count(0)
    }
}

impl Capacity {
    /// How many healthy nodes may be in flight now: [`in_flight_allowance`].
    pub fn allowance(&self) -> usize {
        in_flight_allowance(self.healthy, self.floor)
    }

    /// Whether the deployment must not order one more node, now or by waiting; asked before the start, whether it
    /// is to be refused. In this order:
    ///
    /// 1. Nothing is left to order, or the floor is zero, which asks for nothing: no. (The last node may fail, as
    ///    far as the floor is concerned.)
    /// 2. It started above its floor: yes once healthy nodes have fallen *to* the floor.
    /// 3. It started at the floor or below: yes once fewer are healthy than at the start; and yes when no broken
    ///    node is left that could still come back and the healthy ones are not above the floor.
    ///
    /// `None` with an allowance of zero means *wait*: for a node in flight, or for a broken one that is tried.
    pub fn must_stop(&self) -> Option<Shortage> {
        let Self { floor, healthy_at_start, healthy, untried, broken_open } = *self;
        if untried == 0 || floor == 0 {
            return None;
        }
        if healthy_at_start > floor {
            return (healthy <= floor).then_some(Shortage::FellToFloor { healthy, floor });
        }
        if healthy < healthy_at_start {
            return Some(Shortage::GotWorse { healthy, healthy_at_start });
        }
        (broken_open == 0 && healthy <= floor).then_some(Shortage::NoRoom { healthy, floor })
    }
}

impl fmt::Display for Shortage {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::FellToFloor { healthy, floor } => {
                write!(f, "{healthy} nodes are healthy and {floor} must stay so (--min-healthy): no more can be taken")
            }
            Self::GotWorse { healthy, healthy_at_start } => write!(
                f,
                "{healthy} nodes are healthy, {healthy_at_start} were when it started, below --min-healthy already: it must not get worse"
            ),
            Self::NoRoom { healthy, floor } => write!(
                f,
                "{healthy} nodes are healthy and {floor} must stay so (--min-healthy): none can be taken out of service"
            ),
        }
    }
}

impl Preset {
    /// Its name in CodeDeploy, without `CodeDeployDefault.`.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::OneAtATime => "OneAtATime",
            Self::HalfAtATime => "HalfAtATime",
            Self::AllAtOnce => "AllAtOnce",
        }
    }

    fn named(name: &str) -> Option<Self> {
        [Self::OneAtATime, Self::HalfAtATime, Self::AllAtOnce].into_iter().find(|preset| preset.as_str() == name)
    }
}

impl FromStr for MinHealthy {
    type Err = MinHealthyError;
    /// CodeDeploy's own spelling, `CodeDeployDefault.OneAtATime`, is read too.
    fn from_str(text: &str) -> Result<Self, MinHealthyError> {
        let word = text.trim();
        let read = || {
            if let Some(name) = word.strip_prefix("codedeploy:").or_else(|| word.strip_prefix("CodeDeployDefault.")) {
                return Preset::named(name).map(Self::Preset);
            }
            match word.strip_suffix('%') {
                Some(percent) => number(percent).filter(|p| *p <= 100).map(|p| Self::Percent(p as u8)),
                None => number(word).map(Self::Count),
            }
        };
        read().ok_or_else(|| MinHealthyError(shortened(text)))
    }
}

/// A number of digits only.
fn number(text: &str) -> Option<usize> {
    text.bytes().all(|b| b.is_ascii_digit()).then(|| text.parse().ok()).flatten()
}

fn shortened(text: &str) -> String {
    text.chars().take(80).flat_map(char::escape_default).collect()
}

impl fmt::Display for MinHealthy {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Count(nodes) => write!(f, "{nodes}"),
            Self::Percent(percent) => write!(f, "{percent}%"),
            Self::Preset(preset) => write!(f, "codedeploy:{}", preset.as_str()),
        }
    }
}

impl TryFrom<String> for MinHealthy {
    type Error = MinHealthyError;
    fn try_from(text: String) -> Result<Self, MinHealthyError> {
        text.parse()
    }
}

impl From<MinHealthy> for String {
    fn from(min_healthy: MinHealthy) -> String {
        min_healthy.to_string()
    }
}
