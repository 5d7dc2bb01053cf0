//! What arrives, and what it changes at once. Proof counts only if it was asked for after the order, after the bake, or
//! in the last round; differences are given time to settle (`deadlines.rs`).

use std::borrow::Cow;

use crate::deployment::event::{Observation, Seen};
use crate::deployment::nodes::{Baked, NodeState, Serves};
use crate::deployment::state::{Deployment, Phase, Turned};
use crate::deployment::{Asking, Command, Event, Fact, MigrationReport, Verdict};
use crate::evidence::Confirmation;
use crate::{Millis, NodeName, Timestamp};

/// Ages are read on the node in clock ticks, and the bake is measured here: so much may lie between the two.
const AGE_SLACK: Millis = Millis(1_000);

impl Deployment {
    /// What an event makes true by itself, before anything is judged.
    pub(super) fn take(&mut self, event: &Event, now: Timestamp) -> Option<Fact> {
        match event {
            Event::Tick => None,
            Event::Observed { node, observation } => self.observe(node, observation, now),
            Event::GateAnswered { asking, verdict } => self.answer(*asking, verdict, now),
            Event::MigrationReported { node, attempt, report } => self.report(node, *attempt, report, now),
            Event::Joined { node, previous } => {
                let joins = match self.nodes.get(node) {
                    None | Some(NodeState::Decommissioned { .. }) => true,
                    Some(
                        NodeState::Pending
                        | NodeState::Ordered { .. }
                        | NodeState::Proven { .. }
                        | NodeState::Failed { .. }
                        | NodeState::Restoring { .. }
                        | NodeState::Restored { .. }
                        | NodeState::NotRestored { .. }
                        | NodeState::Verified { .. }
                        | NodeState::Unverified { .. },
                    ) => false,
                };
                let (node, previous) = (node.clone(), previous.clone());
                joins.then_some(Fact::NodeJoined { at: now, node, previous })
            }
            Event::Decommissioned { node, by, reason } => {
                let goes = match self.nodes.get(node)? {
                    NodeState::Decommissioned { .. } => return None,
                    _ => node.clone(),
                };
                Some(Fact::NodeDecommissioned { at: now, node: goes, by: by.clone(), reason: reason.clone() })
            }
            Event::Told { by, command } => {
                self.check(command, now).ok()?;
                Some(Self::obey(by.clone(), command.clone(), now))
            }
        }
    }

    fn obey(by: String, command: Command, at: Timestamp) -> Fact {
        match command {
            Command::Pause => Fact::Paused { at, by },
            Command::Resume => Fact::Resumed { at, by },
            Command::Promote { again } => Fact::Promoted { at, by, again },
            Command::Abort { mode } => Fact::AbortRequested { at, by, mode },
            Command::Supersede { deployment } => Fact::Superseded { at, by, deployment },
            Command::Waive { node, waiver } => Fact::NodeWaived { at, node, waiver },
        }
    }

    /// An answer to another asking than the one at work is no answer.
    fn answer(&self, asking: Asking, verdict: &Verdict, at: Timestamp) -> Option<Fact> {
        match self.phase {
            Phase::Gating { asking: asked, .. } if asked == asking => Some(match verdict.clone() {
                Verdict::Passed { detail } => Fact::GatePassed { at, asking, detail },
                Verdict::Failed { detail } => Fact::GateFailed { at, asking, detail },
                Verdict::Inconclusive { detail } => Fact::GateInconclusive { at, asking, detail },
            }),
            Phase::Gating { .. }
            | Phase::Planned
            | Phase::Rolling { .. }
            | Phase::Baking { .. }
            | Phase::Between { .. }
            | Phase::Migrating { .. }
            | Phase::Stopped
            | Phase::TurningBack { .. }
            | Phase::RollingBack { .. }
            | Phase::Verifying { .. }
            | Phase::Finished { .. } => None,
        }
    }

    fn report(&mut self, node: &NodeName, attempt: u32, report: &MigrationReport, at: Timestamp) -> Option<Fact> {
        let asked = matches!(self.phase, Phase::Migrating { .. })
            && self.migration.node.as_ref() == Some(node)
            && self.migration.attempts == attempt;
        if !asked {
            return None;
        }
        let node = node.clone();
        match report.clone() {
            MigrationReport::Running { detail } => {
                self.ears.migration = Some(detail);
                None
            }
            MigrationReport::Succeeded => Some(Fact::MigrationSucceeded { at, node }),
            MigrationReport::Failed { reason } => Some(Fact::MigrationFailed { at, node, reason }),
            MigrationReport::Interrupted { reason } => Some(Fact::MigrationInterrupted { at, node, reason }),
        }
    }

    fn observe(&mut self, node: &NodeName, observation: &Observation, at: Timestamp) -> Option<Fact> {
        let index = self.nodes.find(node)?;
        if self.generation_at(index).is_some_and(|generation| generation != observation.generation) {
            return None;
        }
        let asked_at = observation.asked_at;
        // A machine that came back under its name answers for itself, not for the one before it.
        if asked_at < self.nodes.entry(index).expected_since {
            return None;
        }
        self.listen(index, &observation.seen, at);
        let node = || node.clone();
        let state = &self.nodes.entry(index).state;
        if let Phase::Verifying { since } = self.phase {
            if !state.is_open() {
                return None;
            }
            return match &observation.seen {
                // What the node's agent may still undo by itself is not what it will run.
                Seen::Proven { grade, up, confirmation: Confirmation::Given }
                    if asked_at >= since && (!self.must_still_bake(state) || self.is_as_old_as_the_bake(*up)) =>
                {
                    Some(Fact::NodeVerified { at, node: node(), grade: *grade })
                }
                Seen::Failed { reason } => Some(Fact::NodeUnverified { at, node: node(), reason: reason.clone() }),
                Seen::Proven { .. } | Seen::Working { .. } | Seen::Differs { .. } => None,
            };
        }
        match (state, &observation.seen) {
            (NodeState::Ordered { since }, Seen::Proven { grade, .. }) if asked_at >= *since => {
                Some(Fact::NodeProven { at, node: node(), grade: *grade })
            }
            (NodeState::Ordered { .. } | NodeState::Proven { .. }, Seen::Failed { reason }) => {
                Some(Fact::NodeFailed { at, node: node(), reason: reason.clone() })
            }
            (
                NodeState::Proven { baked: Baked::NotYet, .. },
                Seen::Proven { up, confirmation: Confirmation::Given, .. },
            ) if self.outlived_bake(index, asked_at, *up) => Some(Fact::NodeBaked { at, node: node() }),
            (NodeState::Restoring { since }, Seen::Proven { .. }) if asked_at >= *since => {
                Some(Fact::NodeRestored { at, node: node() })
            }
            (NodeState::Restoring { .. }, Seen::Failed { reason }) => {
                Some(Fact::NodeNotRestored { at, node: node(), reason: reason.clone() })
            }
            (
                NodeState::Pending
                | NodeState::Ordered { .. }
                | NodeState::Proven { .. }
                | NodeState::Failed { .. }
                | NodeState::Restoring { .. }
                | NodeState::Restored { .. }
                | NodeState::NotRestored { .. }
                | NodeState::Verified { .. }
                | NodeState::Unverified { .. }
                | NodeState::Decommissioned { .. },
                Seen::Proven { .. } | Seen::Working { .. } | Seen::Failed { .. } | Seen::Differs { .. },
            ) => None,
        }
    }

    /// Remembers what was seen, for patience, for capacity and for people.
    fn listen(&mut self, index: usize, seen: &Seen, now: Timestamp) {
        let detail = match seen {
            Seen::Proven { confirmation: Confirmation::Awaited, .. } => Cow::Borrowed("proven, not yet confirmed"),
            Seen::Proven { up, .. } if up.0 < self.spec.bake.0 => Cow::Owned(format!("proven, up for {up}")),
            Seen::Proven { .. } => Cow::Borrowed("proven"),
            Seen::Working { detail } => Cow::Owned(detail.clone()),
            Seen::Failed { reason } | Seen::Differs { reason } => Cow::Owned(reason.clone()),
        };
        let serves = match seen {
            Seen::Proven { .. } => Serves::Yes,
            Seen::Working { .. } | Seen::Failed { .. } | Seen::Differs { .. } => Serves::No,
        };
        let ear = &self.nodes.entry(index).ear;
        let differs = match seen {
            Seen::Differs { reason } => {
                let since = ear.differs.as_ref().map_or(now, |(since, _)| *since);
                Some((since, reason.clone()))
            }
            Seen::Proven { .. } | Seen::Working { .. } | Seen::Failed { .. } => None,
        };
        if ear.serves == serves {
            // The counts do not change, so that they need not be taken anew.
            self.nodes.hear(index, |ear| (ear.heard, ear.differs) = (Some(detail), differs));
        } else {
            self.nodes.change(index, |entry| {
                entry.ear = crate::deployment::nodes::Ear { heard: Some(detail), differs, serves };
            });
        }
        self.schedule(index);
    }

    /// Whether a node has been up, as one life, for the time of the bake.
    fn is_as_old_as_the_bake(&self, up: Millis) -> bool {
        up.0.saturating_add(AGE_SLACK.0) >= self.spec.bake.0
    }

    /// Whether the last round has to see a node outlive the bake, since nobody has: it was absent, joined or failed.
    pub(super) fn must_still_bake(&self, state: &NodeState) -> bool {
        self.turned == Turned::Forward && !matches!(state, NodeState::Proven { baked: Baked::Yes, .. })
    }

    /// Whether a proof asked for at `asked_at` shows that the node outlived the bake of its segment: as one life, since
    /// a service that crashes and comes back is proven whenever it is asked at the right moment.
    fn outlived_bake(&self, index: usize, asked_at: Timestamp, up: Millis) -> bool {
        match self.phase {
            Phase::Baking { segment, since } => {
                asked_at >= self.patience(since).after(self.spec.bake)
                    && self.is_as_old_as_the_bake(up)
                    && self.nodes.entry(index).segment == Some(segment)
            }
            Phase::Planned
            | Phase::Rolling { .. }
            | Phase::Between { .. }
            | Phase::Gating { .. }
            | Phase::Migrating { .. }
            | Phase::Stopped
            | Phase::TurningBack { .. }
            | Phase::RollingBack { .. }
            | Phase::Verifying { .. }
            | Phase::Finished { .. } => false,
        }
    }
}
