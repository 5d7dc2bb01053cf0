//! What the tests remember of a deployment by themselves, from its facts alone and by other means than the engine, so that
//! the two can be compared: gates that are through, failures that a person was told of, attempts of the migration.

use std::collections::{BTreeMap, BTreeSet};

use crate::deployment::{AbortMode, Again, Asking, Cause, Deployment, Fact, Gate, Halt, Place};
use crate::{NodeName, Timestamp};

/// The memory.
#[derive(Debug, Clone, Default)]
pub(super) struct Record {
    /// Segment and gate: passed, or a person said so after having been told of it.
    pub(super) through: BTreeSet<(usize, usize)>,
    /// Segments whose pause a person has ended.
    pub(super) promoted: BTreeSet<usize>,
    /// Why it has halted, while it has, and who had failed by then.
    pub(super) halt: Option<(Halt, BTreeSet<NodeName>)>,
    /// Failed, not waived, still expected.
    pub(super) failed: BTreeSet<NodeName>,
    /// Failures that a person has seen and went past.
    pub(super) forgiven: BTreeSet<NodeName>,
    /// Who ran the migration, by attempt.
    pub(super) migrations: BTreeMap<u32, NodeName>,
    pub(super) is_migrated: bool,
    /// A person wished something to be tried again, and that has not happened yet.
    pub(super) again: bool,
    /// When the last round began.
    pub(super) verification: Option<Timestamp>,
    /// It is to end where it is.
    pub(super) is_left: bool,
    pub(super) is_aborted: bool,
    pub(super) is_superseded: bool,
    pub(super) joined: BTreeSet<NodeName>,
    pub(super) gone: BTreeSet<NodeName>,
    waived: BTreeSet<NodeName>,
}

impl Record {
    pub(super) fn of(deployment: &Deployment) -> Self {
        Self { waived: deployment.spec().waivers.keys().cloned().collect(), ..Self::default() }
    }

    pub(super) fn note(&mut self, fact: &Fact) {
        match fact {
            Fact::NodeFailed { node, .. } if !self.waived.contains(node) => drop(self.failed.insert(node.clone())),
            Fact::GatePassed { asking, .. } => self.pass(*asking),
            Fact::GateStarted { .. } => self.again = false,
            Fact::MigrationStarted { node, attempt, .. } => {
                self.again = false;
                self.migrations.insert(*attempt, node.clone());
            }
            Fact::MigrationSucceeded { .. } => self.is_migrated = true,
            Fact::Halted { halt, .. } => self.halt = Some((halt.clone(), self.failed.clone())),
            Fact::Promoted { again, .. } => self.promote(*again),
            Fact::NodeWaived { node, .. } => {
                self.waived.insert(node.clone());
                self.failed.remove(node);
                self.forgiven.remove(node);
            }
            Fact::NodeJoined { node, .. } => {
                self.joined.insert(node.clone());
                self.gone.remove(node);
            }
            Fact::NodeDecommissioned { node, .. } => {
                self.gone.insert(node.clone());
                self.failed.remove(node);
                self.forgiven.remove(node);
            }
            Fact::AbortRequested { mode, .. } => {
                self.is_aborted = true;
                self.is_left |= *mode == AbortMode::Leave;
                self.halt = None;
            }
            Fact::Superseded { .. } => {
                (self.is_superseded, self.is_left) = (true, true);
                self.halt = None;
            }
            Fact::RollbackStarted { .. } | Fact::Stopped { .. } => self.halt = None,
            Fact::VerificationStarted { at } => self.verification = Some(*at),
            // On the way back a node's state says the rest.
            Fact::NodesTurnedBack { nodes, .. } => self.failed.retain(|node| !nodes.contains(node)),
            _ => {}
        }
    }

    fn pass(&mut self, asking: Asking) {
        self.through.insert((asking.segment, asking.gate));
    }

    fn promote(&mut self, again: Again) {
        let Some((halt, failed)) = self.halt.take() else { return };
        match (halt, again) {
            (_, Again::Retry) => self.again = true,
            (Halt::PauseAfter { segment }, Again::Skip) => drop(self.promoted.insert(segment)),
            (Halt::Interrupted { .. }, Again::Skip) => self.is_migrated = true,
            (Halt::Inconclusive { asking, .. }, Again::Skip) => self.pass(asking),
            (Halt::Failure { cause }, Again::Skip) => match cause {
                Cause::BudgetExceeded { .. } => self.forgiven.extend(failed.intersection(&self.failed).cloned()),
                Cause::GateFailed { asking, .. } => self.pass(asking),
                Cause::MigrationFailed { .. } => self.is_migrated = true,
                Cause::CapacityLost { .. }
                | Cause::NobodyDecided { .. }
                | Cause::Aborted { .. }
                | Cause::Superseded { .. } => {}
            },
        }
    }

    /// What still stands between a segment and the next, if anything does.
    pub(super) fn unfinished(&self, deployment: &Deployment, segment: usize) -> Option<String> {
        let spec = deployment.spec();
        let concerns = |gate: &Gate| gate.after.is_none_or(|after| after == segment);
        let open = |gate: &usize| !self.through.contains(&(segment, *gate));
        if deployment.segments()[segment].baked_at.is_none() {
            return Some(format!("segment {segment} has not baked"));
        }
        if let Some(gate) = (0..spec.gates.len()).filter(|gate| concerns(&spec.gates[*gate])).find(open) {
            return Some(format!("gate {gate} of segment {segment} is not through"));
        }
        if spec.migration.as_ref().is_some_and(|migration| migration.place == Place::After(segment))
            && !self.is_migrated
        {
            return Some(format!("the migration after segment {segment} is not through"));
        }
        (spec.pause_after.contains(&segment) && !self.promoted.contains(&segment))
            .then(|| format!("nobody promoted it after segment {segment}"))
    }
}
