//! What a script says, as values: the fleet and how its machines behave, what is deployed, what happens when, and what
//! is expected of it. Reading is in `read.rs` and its neighbours, playing in `play.rs`.

use std::collections::BTreeMap;

use fleet::deployment::Command;
use fleet::deployment::plan::Request;
use fleet::release::Version;
use fleet::{DeploymentId, Millis, NodeName, Outcome, PlanId, ServiceName, Timestamp};

/// A script that was read.
#[derive(Debug, Clone)]
pub struct Story {
    /// The ids of the plan and the deployment.
    pub(super) ids: (PlanId, DeploymentId),
    pub(super) service: ServiceName,
    /// What every node holds at first; None for nothing.
    pub(super) from: Option<Version>,
    pub(super) to: Version,
    pub(super) nodes: Vec<NodeSetup>,
    pub(super) request: Request,
    pub(super) gates: BTreeMap<String, GateAnswer>,
    pub(super) migration: MigrationConduct,
    /// In order of time; at the same time in the order of the script.
    pub(super) acts: Vec<Act>,
    pub(super) runs: Vec<Run>,
    pub(super) expectations: Vec<Expectation>,
}

/// A node as it is when the deployment is planned.
#[derive(Debug, Clone)]
pub(super) struct NodeSetup {
    pub(super) name: NodeName,
    pub(super) labels: BTreeMap<String, String>,
    /// What it holds, if not what every node does; Some(None) is nothing.
    pub(super) holds: Option<Option<Version>>,
    pub(super) presence: Presence,
    pub(super) block: Option<String>,
    pub(super) conduct: Conduct,
    /// It does not serve what it holds.
    pub(super) health: Health,
}

/// Whether a node is there.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Presence {
    /// It is in contact when the deployment is planned.
    Present,
    /// It is not, until then.
    Absent { until: Timestamp },
}

/// Whether a service answers its probe.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Health {
    Well,
    Ill,
}

/// How a machine behaves.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Conduct {
    pub(super) forward: Forward,
    pub(super) back: Back,
    /// How long it takes from an order to the service that runs.
    pub(super) takes: Millis,
    /// How long its answers are under way.
    pub(super) answers_after: Millis,
    pub(super) answers: Answers,
    pub(super) confirmations: Confirmations,
    /// Nothing is heard of it, and it hears nothing, until then.
    pub(super) silent_until: Option<Timestamp>,
}

/// How long a machine takes where the script does not say.
pub(super) const TAKES: Millis = Millis::from_secs(2);

impl Default for Conduct {
    fn default() -> Self {
        Self {
            forward: Forward::Good,
            back: Back::Good,
            takes: TAKES,
            answers_after: Millis(0),
            answers: Answers::Honest,
            confirmations: Confirmations::Heard,
            silent_until: None,
        }
    }
}

/// What it does with an order to hold the new release.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Forward {
    /// Carries it out.
    Good,
    /// Fails after so long, and is back on what it held.
    Refuses { after: Millis, reason: String },
    /// Says that it holds it, and runs what it ran.
    Lies,
    /// Holds it, and runs the former release again after so long.
    FallsBack { after: Millis },
    /// Holds it, but the service dies and starts anew every so often.
    Crashes { every: Millis },
}

/// What it does with an order to go back.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Back {
    Good,
    /// It cannot.
    Stuck,
}

/// What it answers.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Answers {
    /// What it runs.
    Honest,
    /// Its first proof of the new release, again and again.
    Replayed,
}

/// Whether the controller's confirmation reaches it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Confirmations {
    Heard,
    Lost,
}

/// What answers for a gate, and when.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct GateAnswer {
    pub(super) says: Says,
    pub(super) after: Millis,
}

/// An answer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Says {
    Passes(String),
    Fails(String),
    Inconclusive(String),
    /// None.
    Nothing,
}

/// How the migration goes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct MigrationConduct {
    pub(super) takes: Millis,
    pub(super) ends: MigrationEnd,
}

/// How it ends.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum MigrationEnd {
    Well,
    Badly(String),
    /// Its end is never reported.
    Unheard,
}

/// Something that happens at a time.
#[derive(Debug, Clone)]
pub(super) struct Act {
    pub(super) at: Timestamp,
    pub(super) deed: Deed,
}

/// What happens.
#[derive(Debug, Clone)]
pub(super) enum Deed {
    /// A person wants something.
    Tell { by: String, command: Command },
    /// The controller dies, and another takes over after so long.
    KillController { for_: Millis },
    /// A person takes a node out of the fleet for good.
    Decommission { node: NodeName, by: String, reason: String },
    /// A new node enrols.
    Join { node: NodeName, holds: Option<Version> },
    /// The network to a node is gone.
    Lose { node: NodeName, for_: Option<Millis> },
    /// A node's machine goes down and starts again after so long.
    Crash { node: NodeName, for_: Millis },
    /// A node's service stops answering.
    Break { node: NodeName, for_: Option<Millis> },
    /// A gate's source answers otherwise from now on.
    Gate { name: String, answer: GateAnswer },
    /// The migration goes otherwise from now on.
    Migration(MigrationConduct),
    /// A node behaves otherwise from now on.
    Change { node: NodeName, change: Change },
}

/// One thing said about a node's behaviour.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Change {
    Forward(Forward),
    Stuck,
    Slow(Millis),
    AnswersAfter(Millis),
    Replays,
    Unconfirmed,
    SilentUntil(Timestamp),
}

impl Conduct {
    /// Takes one more thing in.
    pub(super) fn change(&mut self, change: Change) {
        match change {
            Change::Forward(forward) => self.forward = forward,
            Change::Stuck => self.back = Back::Stuck,
            Change::Slow(takes) => self.takes = takes,
            Change::AnswersAfter(span) => self.answers_after = span,
            Change::Replays => self.answers = Answers::Replayed,
            Change::Unconfirmed => self.confirmations = Confirmations::Lost,
            Change::SilentUntil(until) => self.silent_until = Some(until),
        }
    }
}

impl Change {
    /// What it is, for people.
    pub(super) fn in_words(&self) -> String {
        match self {
            Self::Forward(Forward::Good) => "good".into(),
            Self::Forward(Forward::Refuses { after, .. }) => format!("refuses after {after}"),
            Self::Forward(Forward::Lies) => "lies".into(),
            Self::Forward(Forward::FallsBack { after }) => format!("falls back after {after}"),
            Self::Forward(Forward::Crashes { every }) => format!("crashes every {every}"),
            Self::Stuck => "stuck".into(),
            Self::Slow(takes) => format!("takes {takes}"),
            Self::AnswersAfter(span) => format!("answers after {span}"),
            Self::Replays => "replays".into(),
            Self::Unconfirmed => "unconfirmed".into(),
            Self::SilentUntil(_) => "silent".into(),
        }
    }
}

impl GateAnswer {
    /// What it is, for people.
    pub(super) fn in_words(&self) -> String {
        let after = self.after;
        match &self.says {
            Says::Passes(detail) => format!("passes after {after}: {detail}"),
            Says::Fails(detail) => format!("fails after {after}: {detail}"),
            Says::Inconclusive(detail) => format!("is inconclusive after {after}: {detail}"),
            Says::Nothing => "does not answer".into(),
        }
    }
}

/// How long the story goes on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Run {
    /// Until the deployment is over.
    UntilFinished,
    /// So long.
    For(Millis),
}

/// Something that shall hold, as it is written, with its line.
#[derive(Debug, Clone)]
pub(super) struct Expectation {
    pub(super) line: usize,
    pub(super) text: String,
    pub(super) what: Expected,
    /// When; None: in the end.
    pub(super) at: Option<Timestamp>,
}

/// What shall hold.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Expected {
    /// The deployment ended so.
    Outcome(Outcome),
    /// It was not started at all.
    Refused,
    /// It has not ended.
    Running,
    /// `fleetctl deploy` would end with this code.
    Exit(u8),
    /// Each of these nodes really runs this; None is nothing.
    Holds { nodes: Vec<NodeName>, version: Option<Version> },
    /// Each of these nodes is in this state, by its word.
    State { nodes: Vec<NodeName>, state: String },
    /// A fact says this.
    Fact(String),
    /// No fact says this.
    Never(String),
    /// A fact says the one, and none before it says the other.
    Before { first: String, then: String },
    /// Some line of the transcript says this.
    Said(String),
    /// It waits, or has waited, with these words.
    Waiting(String),
    /// At least so many nodes really served all the time.
    Serving(usize),
    /// The migration was begun so often.
    Migrations(u32),
}
