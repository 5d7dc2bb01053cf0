//! What a deployment was asked to do, fixed when it is planned.

use std::collections::{BTreeMap, BTreeSet};
use std::str::FromStr;

use serde::{Deserialize, Serialize};

use crate::capacity::Parallel;
use crate::deployment::{Budget, Gate, Migration, Waiver};
use crate::release::Version;
use crate::{DeploymentId, Generation, Hold, Millis, NodeName, PlanId, ServiceName};

/// Everything that is fixed when a deployment starts. Fields that came later have defaults, so that older journals
/// are still read.
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
    /// Nodes of the segments that did not serve when it was planned: changing them costs no capacity.
    #[serde(default)]
    pub unhealthy: BTreeSet<NodeName>,
    /// The generation of the orders forward.
    pub generation: Generation,
    /// The generation of the orders back; higher than `generation`, so that a late "forward" cannot undo a "back".
    pub rollback_generation: Generation,
    /// How many nodes of one segment may be at work at once on the way forward.
    #[serde(default)]
    pub parallel: Parallel,
    /// How many of all its nodes must serve at any time: a healthy node is not ordered if fewer would be left.
    #[serde(default)]
    pub floor: usize,
    /// How many nodes may fail before it turns back.
    pub max_failures: Budget,
    /// How long a segment must stay proven and healthy.
    pub bake: Millis,
    /// What is asked after the bake of a segment, in order.
    #[serde(default)]
    pub gates: Vec<Gate>,
    /// After these segments (from 0) it waits to be promoted.
    #[serde(default)]
    pub pause_after: BTreeSet<usize>,
    /// What is run once.
    #[serde(default)]
    pub migration: Option<Migration>,
    /// How long an agent waits for the controller's confirmation after a switch before it undoes it by itself; zero:
    /// it does not wait.
    #[serde(default)]
    pub confirm: Millis,
    /// How long one node may take from its order to its proof.
    pub node_deadline: Millis,
    /// How long a node may claim to hold its order while what is seen says otherwise.
    pub settle: Millis,
    /// How long an absent node is waited for at the end.
    pub absent_grace: Millis,
    /// How long a person is waited for: to promote, to resume. Then it is a failure.
    #[serde(default = "default_patience")]
    pub pause_deadline: Millis,
    /// What happens on failure.
    pub on_failure: OnFailure,
    /// Nodes that need not be proven.
    #[serde(default)]
    pub waivers: BTreeMap<NodeName, Waiver>,
    /// The selection that left other nodes out, as it was written; empty when none was. Who joins later is then not
    /// part of it.
    #[serde(default)]
    pub limit: String,
    /// The plan that it carries out.
    #[serde(default)]
    pub plan: Option<PlanId>,
    /// The deployment that it takes the place of.
    #[serde(default)]
    pub supersedes: Option<DeploymentId>,
    /// Who asked for it.
    pub actor: String,
    /// Why, in their words.
    pub message: String,
}

/// A day: a person who has not decided by then is not going to.
pub const PAUSE_DEADLINE: Millis = Millis::from_secs(24 * 3_600);

fn default_patience() -> Millis {
    PAUSE_DEADLINE
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
    /// Every node expected at the start: those of the segments, then the absent.
    pub fn expected(&self) -> impl Iterator<Item = &NodeName> {
        self.segments.iter().flatten().chain(&self.absent)
    }

    /// How many nodes take part, the absent included: what budgets and floors are measured by, fixed at the start.
    pub fn size(&self) -> usize {
        self.segments.iter().map(Vec::len).sum::<usize>() + self.absent.len()
    }

    /// Whether a segment that is proven must be proven once more before the next may begin: after the time of the bake,
    /// or because its nodes may still undo it by themselves until they are confirmed.
    pub fn must_bake(&self) -> bool {
        self.bake > Millis(0) || self.confirm > Millis(0)
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

/// What happens when more nodes failed than the budget allows, a gate failed, or the migration did.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum OnFailure {
    /// Every node that was ordered goes back to what it held, newest segment first.
    Rollback,
    /// Everything stays as it is, it is over, and a human is needed.
    Stop,
    /// Everything stays as it is until a human promotes or aborts it.
    Pause,
}

impl OnFailure {
    /// The word used on the command line.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Rollback => "rollback",
            Self::Stop => "stop",
            Self::Pause => "pause",
        }
    }
}

impl FromStr for OnFailure {
    type Err = OnFailureError;
    fn from_str(text: &str) -> Result<Self, OnFailureError> {
        match text {
            "rollback" => Ok(Self::Rollback),
            "stop" => Ok(Self::Stop),
            "pause" => Ok(Self::Pause),
            _ => Err(OnFailureError(text.chars().take(80).collect())),
        }
    }
}

/// Why an on-failure value was refused.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("'{0}' is not something to do on failure: use rollback, stop or pause")]
pub struct OnFailureError(String);
