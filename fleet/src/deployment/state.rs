//! What a deployment remembers: the fold of its facts, without opinion.

use crate::deployment::nodes::{Baked, Ear, NodeState, Nodes, Wish};
use crate::deployment::{AbortMode, Again, Asking, Cause, Fact, Halt, Place, Previous, Spec};
use crate::{NodeName, Outcome, Timestamp};

/// A deployment: its spec, and what has become true since.
#[derive(Debug, Clone)]
pub struct Deployment {
    pub(super) spec: Spec,
    /// [`Spec::size`]: counted once, since it is asked for whenever a node has failed.
    pub(super) size: usize,
    pub(super) phase: Phase,
    pub(super) nodes: Nodes,
    pub(super) segments: Vec<SegmentState>,
    pub(super) migration: MigrationState,
    pub(super) cause: Option<Cause>,
    /// A failure that is not a node's: what turns it back unless a person decides otherwise.
    pub(super) failing: Option<Cause>,
    /// Something without an answer, about to halt it.
    pub(super) unresolved: Option<Halt>,
    pub(super) halted: Option<Halted>,
    pub(super) paused: Option<Paused>,
    pub(super) turned: Turned,
    pub(super) abort: Option<AbortMode>,
    pub(super) started_at: Timestamp,
    pub(super) facts: u64,
    pub(super) ears: Ears,
}

/// What it does now.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Phase {
    /// Accepted; nothing is ordered yet.
    Planned,
    /// A segment is being moved.
    Rolling {
        /// Which.
        segment: usize,
    },
    /// A segment must stay proven.
    Baking {
        /// Which.
        segment: usize,
        /// Since when.
        since: Timestamp,
    },
    /// A segment has baked, the next has not started.
    Between {
        /// The one that has baked.
        segment: usize,
    },
    /// A gate is asked.
    Gating {
        /// Which asking.
        asking: Asking,
        /// Since when.
        since: Timestamp,
    },
    /// The migration is run; [`MigrationState`] says where.
    Migrating {
        /// Where it stands in the deployment.
        place: Place,
        /// Since when.
        since: Timestamp,
    },
    /// It was stopped by a failure; every node stays as it is.
    Stopped,
    /// It turns back; no segment is ordered back yet, or `segment` is done.
    TurningBack {
        /// The segment that went back last.
        segment: Option<usize>,
    },
    /// A segment goes back.
    RollingBack {
        /// Which.
        segment: usize,
    },
    /// Every expected node must prove what it runs once more.
    Verifying {
        /// Since when: only nonces drawn after this count.
        since: Timestamp,
    },
    /// It is over.
    Finished {
        /// When.
        at: Timestamp,
        /// How.
        outcome: Outcome,
    },
}

/// When a segment began and ended, and how far its gates are.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct SegmentState {
    /// When its turn came.
    pub started_at: Option<Timestamp>,
    /// When it was proven.
    pub proven_at: Option<Timestamp>,
    /// When it had baked.
    pub baked_at: Option<Timestamp>,
    /// When its turn to go back came.
    pub rollback_at: Option<Timestamp>,
    /// Gates of the spec before this one are through for this segment.
    pub gates: usize,
    /// How often the gate at work has been asked for this segment.
    pub attempts: u32,
    /// Whether a person let it go on past the pause after this segment.
    pub promotion: Promotion,
}

/// Whether a person let a segment go on.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Promotion {
    /// Not yet, or it was not needed.
    #[default]
    NotYet,
    /// Yes.
    Given,
}

/// How far the migration is.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct MigrationState {
    /// How often it was told to run.
    pub attempts: u32,
    /// The node that was told last.
    pub node: Option<NodeName>,
    /// Whether it is through: it ended well, or a person said so.
    pub progress: MigrationProgress,
}

/// Whether the migration is through.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum MigrationProgress {
    /// It is still to come, or under way.
    #[default]
    Open,
    /// It ended well, or a person said that it is done.
    Done,
}

/// That it has halted by itself.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Halted {
    /// Since when.
    pub since: Timestamp,
    /// Why.
    pub halt: Halt,
}

/// That a person has paused it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Paused {
    /// Since when.
    pub since: Timestamp,
    /// Who.
    pub by: String,
}

/// Which way it goes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Turned {
    /// Forwards.
    Forward,
    /// Back to what each node held before.
    Back,
}

/// What was heard and is not worth a fact; see also [`super::nodes::Ear`]. Empty again after a restart.
#[derive(Debug, Clone, Default)]
pub(super) struct Ears {
    /// Deadlines do not run while no controller listens: they count from here at the earliest.
    pub(super) listening_since: Option<Timestamp>,
    /// Since when no node may be taken out although some wait for their turn and none is under way.
    pub(super) blocked_since: Option<Timestamp>,
    /// What the migration was last seen to do.
    pub(super) migration: Option<String>,
}

impl PartialEq for Deployment {
    /// Equal in everything that is history; what was merely heard does not count.
    fn eq(&self, other: &Self) -> bool {
        self.spec == other.spec
            && self.phase == other.phase
            && self.nodes == other.nodes
            && self.segments == other.segments
            && self.migration == other.migration
            && self.cause == other.cause
            && self.failing == other.failing
            && self.unresolved == other.unresolved
            && self.halted == other.halted
            && self.paused == other.paused
            && self.turned == other.turned
            && self.abort == other.abort
            && self.started_at == other.started_at
            && self.facts == other.facts
    }
}

impl Deployment {
    /// A deployment from the first fact of its journal; None if that is not `Planned`.
    pub fn planned(fact: &Fact) -> Option<Self> {
        let Fact::Planned { at, spec } = fact else { return None };
        Some(Self {
            nodes: Nodes::planned(spec, *at),
            segments: vec![SegmentState::default(); spec.segments.len()],
            size: spec.size(),
            spec: (**spec).clone(),
            phase: Phase::Planned,
            migration: MigrationState::default(),
            cause: None,
            failing: None,
            unresolved: None,
            halted: None,
            paused: None,
            turned: Turned::Forward,
            abort: None,
            started_at: *at,
            facts: 1,
            ears: Ears { listening_since: Some(*at), ..Ears::default() },
        })
    }

    /// A deployment from its whole journal; None if it does not begin with `Planned`.
    pub fn replay<'a>(facts: impl IntoIterator<Item = &'a Fact>) -> Option<Self> {
        let mut facts = facts.into_iter();
        let mut deployment = Self::planned(facts.next()?)?;
        for fact in facts {
            deployment.apply(fact);
        }
        Some(deployment)
    }

    /// Taken up by a controller that was not listening until `now`: deadlines begin anew, and what was heard
    /// before is forgotten.
    pub fn resume(&mut self, now: Timestamp) {
        self.ears = Ears { listening_since: Some(now), ..Ears::default() };
        self.nodes.forget_heard(&self.spec);
        for index in 0..self.nodes.entries().len() {
            self.schedule(index);
        }
    }

    /// Folds one fact. Total, infallible, without opinion: this is history.
    pub fn apply(&mut self, fact: &Fact) {
        self.facts += 1;
        match fact {
            // A second `Planned` can only come from a corrupt journal; the first stands.
            Fact::Planned { .. } => {}
            Fact::SegmentStarted { at, segment } => {
                self.phase = Phase::Rolling { segment: *segment };
                self.mark(*segment, |state| state.started_at = Some(*at));
            }
            Fact::NodesOrdered { at, nodes, .. } => {
                for node in nodes {
                    self.wish(node, Wish::Forward, NodeState::Ordered { since: *at });
                }
            }
            Fact::NodeProven { at, node, grade } => {
                self.set(node, NodeState::Proven { since: *at, grade: *grade, baked: Baked::NotYet });
            }
            Fact::NodeFailed { at, node, reason } => {
                self.set(node, NodeState::Failed { since: *at, reason: reason.clone() });
            }
            Fact::SegmentProven { at, segment } => {
                self.phase = Phase::Baking { segment: *segment, since: *at };
                self.mark(*segment, |state| state.proven_at = Some(*at));
                self.schedule_segment(*segment);
            }
            Fact::NodeBaked { node, .. } => self.bake(node),
            Fact::SegmentBaked { at, segment } => {
                self.phase = Phase::Between { segment: *segment };
                self.mark(*segment, |state| state.baked_at = Some(*at));
                self.schedule_segment(*segment);
            }
            Fact::GateStarted { at, asking } => {
                self.phase = Phase::Gating { asking: *asking, since: *at };
                self.mark(asking.segment, |state| state.attempts = asking.attempt);
            }
            Fact::GatePassed { asking, .. } => self.pass_gate(*asking),
            Fact::GateFailed { asking, detail, .. } => {
                self.phase = Phase::Between { segment: asking.segment };
                let (name, detail) = (self.gate_name(*asking), detail.clone());
                self.failing = Some(Cause::GateFailed { asking: *asking, name, detail });
            }
            Fact::GateInconclusive { asking, detail, .. } => {
                self.phase = Phase::Between { segment: asking.segment };
                let (name, detail) = (self.gate_name(*asking), detail.clone());
                self.unresolved = Some(Halt::Inconclusive { asking: *asking, name, detail });
            }
            Fact::MigrationStarted { at, node, attempt } => {
                if let Some(migration) = &self.spec.migration {
                    self.phase = Phase::Migrating { place: migration.place, since: *at };
                }
                self.migration.attempts = *attempt;
                self.migration.node = Some(node.clone());
                self.ears.migration = None;
            }
            Fact::MigrationSucceeded { .. } => {
                self.migration.progress = MigrationProgress::Done;
                self.leave_migration();
            }
            Fact::MigrationFailed { reason, .. } => {
                self.failing = Some(Cause::MigrationFailed { name: self.migration_name(), reason: reason.clone() });
                self.leave_migration();
            }
            Fact::MigrationInterrupted { reason, .. } => {
                self.unresolved = Some(Halt::Interrupted { name: self.migration_name(), reason: reason.clone() });
                self.leave_migration();
            }
            Fact::Halted { at, halt } => {
                // Another halt does not settle it: a person has still to be told of it.
                self.unresolved.take_if(|unresolved| unresolved == halt);
                if let Halt::Failure { cause: Cause::BudgetExceeded { .. } } = halt {
                    self.nodes.tell_of_failures();
                }
                self.halted = Some(Halted { since: *at, halt: halt.clone() });
            }
            Fact::Promoted { again, .. } => self.promote(*again),
            Fact::Paused { at, by } => self.paused = Some(Paused { since: *at, by: by.clone() }),
            Fact::Resumed { .. } => self.paused = None,
            Fact::NodeWaived { node, waiver, .. } => {
                if let Some(index) = self.nodes.find(node) {
                    self.nodes.change(index, |entry| entry.waiver = Some(waiver.clone()));
                }
            }
            Fact::NodeJoined { at, node, previous } => self.join(node, previous, *at),
            Fact::NodeDecommissioned { at, node, by, reason } => {
                let reason = format!("decommissioned by {by}: {reason}");
                self.wish(node, Wish::Nothing, NodeState::Decommissioned { since: *at, reason });
            }
            Fact::AbortRequested { by, mode, .. } => {
                self.abort = Some(*mode);
                self.cause = Some(Cause::Aborted { by: by.clone() });
                self.unhand();
            }
            Fact::Superseded { by, deployment, .. } => {
                self.cause = Some(Cause::Superseded { by: by.clone(), deployment: deployment.clone() });
                self.unhand();
            }
            Fact::RollbackStarted { cause, .. } => {
                self.phase = Phase::TurningBack { segment: None };
                self.turned = Turned::Back;
                self.cause = Some(cause.clone());
                self.unhand();
            }
            Fact::Stopped { cause, .. } => {
                self.phase = Phase::Stopped;
                self.cause = Some(cause.clone());
                self.unhand();
            }
            Fact::SegmentRollbackStarted { at, segment } => {
                self.phase = Phase::RollingBack { segment: *segment };
                self.mark(*segment, |state| state.rollback_at = Some(*at));
            }
            Fact::NodesTurnedBack { at, nodes, .. } => {
                for node in nodes {
                    self.wish(node, Wish::Back, NodeState::Restoring { since: *at });
                }
            }
            Fact::NodeRestored { at, node } => self.set(node, NodeState::Restored { since: *at }),
            Fact::NodeNotRestored { at, node, reason } => {
                self.set(node, NodeState::NotRestored { since: *at, reason: reason.clone() });
            }
            Fact::VerificationStarted { at } => self.begin_verification(*at),
            Fact::NodeVerified { at, node, grade } => {
                self.set(node, NodeState::Verified { since: *at, grade: *grade });
            }
            Fact::NodeUnverified { at, node, reason } => {
                self.set(node, NodeState::Unverified { since: *at, reason: reason.clone() });
            }
            Fact::Finished { at, outcome } => self.phase = Phase::Finished { at: *at, outcome: *outcome },
        }
    }

    fn mark(&mut self, segment: usize, change: impl FnOnce(&mut SegmentState)) {
        if let Some(state) = self.segments.get_mut(segment) {
            change(state);
        }
    }

    fn set(&mut self, node: &NodeName, state: NodeState) {
        if let Some(index) = self.nodes.find(node) {
            self.nodes.change(index, |entry| entry.state = state);
            self.schedule(index);
        }
    }

    fn wish(&mut self, node: &NodeName, wish: Wish, state: NodeState) {
        if let Some(index) = self.nodes.find(node) {
            self.nodes.change(index, |entry| {
                entry.wish = wish;
                entry.state = state;
                // What was seen before this order is no news of it.
                (entry.ear.heard, entry.ear.differs) = (None, None);
            });
            self.schedule(index);
        }
    }

    fn bake(&mut self, node: &NodeName) {
        if let Some(index) = self.nodes.find(node) {
            self.nodes.change(index, |entry| {
                if let NodeState::Proven { baked, .. } = &mut entry.state {
                    *baked = Baked::Yes;
                }
            });
            self.schedule(index);
        }
    }

    fn pass_gate(&mut self, asking: Asking) {
        if let Phase::Gating { .. } = self.phase {
            self.phase = Phase::Between { segment: asking.segment };
        }
        self.mark(asking.segment, |state| (state.gates, state.attempts) = (asking.gate + 1, 0));
    }

    fn leave_migration(&mut self) {
        if let Phase::Migrating { place, .. } = self.phase {
            self.phase = match place {
                Place::Before(0) => Phase::Planned,
                Place::Before(segment) => Phase::Between { segment: segment - 1 },
                Place::After(segment) => Phase::Between { segment },
            };
        }
    }

    fn promote(&mut self, again: Again) {
        let Some(halted) = self.halted.take() else { return };
        // What went wrong meanwhile is not what this person was told of.
        let is_told = |cause: &mut Cause| matches!(&halted.halt, Halt::Failure { cause: told } if told == cause);
        let failing = self.failing.take_if(is_told);
        if again == Again::Retry {
            return;
        }
        match halted.halt {
            Halt::PauseAfter { segment } => self.mark(segment, |state| state.promotion = Promotion::Given),
            Halt::Inconclusive { asking, .. } => self.pass_gate(asking),
            Halt::Interrupted { .. } => self.migration.progress = MigrationProgress::Done,
            Halt::Failure { .. } => match failing {
                Some(Cause::GateFailed { asking, .. }) => self.pass_gate(asking),
                Some(Cause::MigrationFailed { .. }) => self.migration.progress = MigrationProgress::Done,
                Some(
                    Cause::BudgetExceeded { .. }
                    | Cause::CapacityLost { .. }
                    | Cause::NobodyDecided { .. }
                    | Cause::Aborted { .. }
                    | Cause::Superseded { .. },
                )
                | None => {}
            },
        }
    }

    /// Whatever it waited for a person to decide is decided.
    fn unhand(&mut self) {
        self.halted = None;
        self.paused = None;
        self.unresolved = None;
    }

    fn join(&mut self, node: &NodeName, previous: &Previous, at: Timestamp) {
        let index = self.nodes.expect(node, None, at, &self.spec);
        let wish = match (self.phase, self.turned) {
            (Phase::Verifying { .. }, Turned::Forward) => Wish::Forward,
            (_, _) => Wish::Nothing,
        };
        self.nodes.change(index, |entry| {
            entry.segment = None;
            entry.expected_since = at;
            entry.previous = Some(previous.clone());
            entry.state = NodeState::Pending;
            entry.wish = wish;
            // A machine that comes back under its name is another one.
            entry.ear = Ear::default();
        });
        self.schedule(index);
    }

    fn begin_verification(&mut self, at: Timestamp) {
        self.phase = Phase::Verifying { since: at };
        for index in 0..self.nodes.entries().len() {
            let entry = self.nodes.entry(index);
            // The absent and those who joined are ordered now, and only forward.
            let last = entry.segment.is_none() && entry.state == NodeState::Pending;
            if last && self.turned == Turned::Forward {
                self.nodes.change(index, |entry| {
                    entry.wish = Wish::Forward;
                    // What was seen before this order is no news of it.
                    entry.ear.differs = None;
                });
            }
            self.schedule(index);
        }
    }

    fn schedule_segment(&mut self, segment: usize) {
        for index in self.nodes.of_segment(segment) {
            self.schedule(index);
        }
    }

    pub(super) fn schedule(&mut self, index: usize) {
        let due = self.due(self.nodes.entry(index));
        self.nodes.schedule(index, due);
    }

    pub(super) fn gate_name(&self, asking: Asking) -> String {
        self.spec.gates.get(asking.gate).map_or_else(|| (asking.gate + 1).to_string(), |gate| gate.name.clone())
    }

    pub(super) fn migration_name(&self) -> String {
        self.spec.migration.as_ref().map_or_else(String::new, |migration| migration.name.clone())
    }

    /// What was asked.
    pub fn spec(&self) -> &Spec {
        &self.spec
    }

    /// What it does now.
    pub fn phase(&self) -> Phase {
        self.phase
    }

    /// What is known of each expected node.
    pub fn nodes(&self) -> &Nodes {
        &self.nodes
    }

    /// When each segment began and ended.
    pub fn segments(&self) -> &[SegmentState] {
        &self.segments
    }

    /// How far the migration is, if there is one.
    pub fn migration(&self) -> &MigrationState {
        &self.migration
    }

    /// Why it turned back or ended early.
    pub fn cause(&self) -> Option<&Cause> {
        self.cause.as_ref()
    }

    /// Why it has halted by itself, if it has.
    pub fn halted(&self) -> Option<&Halted> {
        self.halted.as_ref()
    }

    /// Who paused it, if anyone has.
    pub fn paused(&self) -> Option<&Paused> {
        self.paused.as_ref()
    }

    /// When it was planned.
    pub fn started_at(&self) -> Timestamp {
        self.started_at
    }

    /// How it ended, if it has.
    pub fn outcome(&self) -> Option<Outcome> {
        match self.phase {
            Phase::Finished { outcome, .. } => Some(outcome),
            Phase::Planned
            | Phase::Rolling { .. }
            | Phase::Baking { .. }
            | Phase::Between { .. }
            | Phase::Gating { .. }
            | Phase::Migrating { .. }
            | Phase::Stopped
            | Phase::TurningBack { .. }
            | Phase::RollingBack { .. }
            | Phase::Verifying { .. } => None,
        }
    }

    /// How many facts its journal has: the index of the next.
    pub fn facts(&self) -> u64 {
        self.facts
    }

    /// Whether its way leads back to what was held before.
    pub fn is_turned_back(&self) -> bool {
        self.turned == Turned::Back
    }

    /// The last thing a node was seen to do, for people.
    pub fn last_heard(&self, node: &NodeName) -> Option<&str> {
        self.nodes.find(node).and_then(|index| self.nodes.entry(index).ear.heard.as_deref())
    }
}
