//! What has happened, folded a second time and independently of the deployment: what the laws compare it with. All of
//! it belongs to the state's projection, so that no two histories are merged of which one would break a law later.

use std::collections::{BTreeMap, BTreeSet};

use fleet::deployment::{AbortMode, Again, Asking, Cause, Fact, Halt, Seen, Spec};
use fleet::{NodeName, Timestamp};

use crate::world::Code;

/// The facts so far, as far as laws speak of them.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct History {
    pub(crate) listening: Timestamp,
    pub(crate) paused: bool,
    pub(crate) halt: Option<Halt>,
    pub(crate) turned: bool,
    pub(crate) abort: Option<AbortMode>,
    pub(crate) superseded: bool,
    /// Segments whose turn has come.
    pub(crate) begun: BTreeSet<usize>,
    /// Since when a segment bakes.
    pub(crate) baking: Option<(usize, Timestamp)>,
    pub(crate) baked: BTreeSet<usize>,
    /// Gates that are through: by an answer, or because a person said so.
    pub(crate) gates: BTreeSet<(usize, usize)>,
    /// The asking at work, or the last one.
    pub(crate) asking: Option<Asking>,
    /// Since when an answer is waited for.
    pub(crate) asked_at: Option<Timestamp>,
    /// The asking before that one.
    pub(crate) earlier: Option<Asking>,
    /// Segments after which a person let it go on.
    pub(crate) promoted: BTreeSet<usize>,
    pub(crate) migrations: u32,
    /// How often the migration may be begun: once, and once more for every wish of a person.
    pub(crate) migrations_allowed: u32,
    pub(crate) migrated: bool,
    /// Failures that a person has let pass.
    pub(crate) forgiven: usize,
    /// Since when the last round goes on.
    pub(crate) round: Option<Timestamp>,
    pub(crate) nodes: BTreeMap<NodeName, Past>,
}

/// The same of one node.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Past {
    pub(crate) segment: Option<usize>,
    pub(crate) standing: Standing,
    /// Since when it is at work on an order, either way.
    pub(crate) ordered_at: Option<Timestamp>,
    /// It was ordered forward once.
    pub(crate) forward: bool,
    pub(crate) baked: bool,
    pub(crate) expected_since: Timestamp,
    /// Since when it was seen to differ from what it claims.
    pub(crate) differs: Option<Timestamp>,
    pub(crate) waived_until: Option<Timestamp>,
    /// What it rightly ran, for good, at some moment of the last round.
    pub(crate) witnessed: Option<Code>,
}

/// What the facts say of a node last.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Standing {
    Untouched,
    Ordered,
    Proven,
    Failed,
    Restoring,
    Restored,
    NotRestored,
    Verified,
    Unverified,
    Gone,
}

impl History {
    pub(crate) fn new(spec: &Spec, at: Timestamp) -> Self {
        let past = |name: &NodeName, segment| {
            let waived_until = spec.waivers.get(name).map(|waiver| waiver.until);
            (name.clone(), Past { waived_until, ..Past::new(segment, at) })
        };
        let inside = spec.segments.iter().enumerate();
        let inside = inside.flat_map(|(segment, names)| names.iter().map(move |name| past(name, Some(segment))));
        Self {
            listening: at,
            paused: false,
            halt: None,
            turned: false,
            abort: None,
            superseded: false,
            begun: BTreeSet::new(),
            baking: None,
            baked: BTreeSet::new(),
            gates: BTreeSet::new(),
            asking: None,
            asked_at: None,
            earlier: None,
            promoted: BTreeSet::new(),
            migrations: 0,
            migrations_allowed: 1,
            migrated: false,
            forgiven: 0,
            round: None,
            nodes: inside.chain(spec.absent.iter().map(|name| past(name, None))).collect(),
        }
    }

    /// A new controller listens from now on; nothing that the last one heard is known to it.
    pub(crate) fn listen_from(&mut self, now: Timestamp) {
        self.listening = now;
        for past in self.nodes.values_mut() {
            past.differs = None;
        }
    }

    /// Notes what was seen of a node.
    pub(crate) fn hear(&mut self, node: &NodeName, seen: &Seen, now: Timestamp) {
        let Some(past) = self.nodes.get_mut(node) else { return };
        past.differs = match seen {
            Seen::Differs { .. } => Some(past.differs.unwrap_or(now)),
            Seen::Proven { .. } | Seen::Working { .. } | Seen::Failed { .. } => None,
        };
    }

    /// Notes what a node rightly runs now.
    pub(crate) fn witness(&mut self, node: &NodeName, right: Option<Code>) {
        if let (Some(past), Some(_)) = (self.nodes.get_mut(node), self.round) {
            past.witnessed = right.or(past.witnessed);
        }
    }

    /// Nodes that are still expected.
    pub(crate) fn expected(&self) -> impl Iterator<Item = &Past> {
        self.nodes.values().filter(|past| past.standing != Standing::Gone)
    }

    /// Failed on the way forward, and not waived.
    pub(crate) fn failed(&self) -> usize {
        self.nodes.values().filter(|past| past.standing == Standing::Failed && past.waived_until.is_none()).count()
    }

    pub(crate) fn of_segment(&self, segment: usize) -> impl Iterator<Item = &Past> {
        self.nodes.values().filter(move |past| past.segment == Some(segment))
    }

    /// Folds one fact.
    pub(crate) fn fold(&mut self, fact: &Fact) {
        match fact {
            Fact::SegmentStarted { segment, .. } => drop(self.begun.insert(*segment)),
            Fact::NodesOrdered { at, nodes, .. } => self.order(nodes, Standing::Ordered, *at),
            Fact::NodesTurnedBack { at, nodes, .. } => self.order(nodes, Standing::Restoring, *at),
            Fact::NodeProven { node, .. } => self.stand(node, Standing::Proven),
            Fact::NodeFailed { node, .. } => self.stand(node, Standing::Failed),
            Fact::NodeRestored { node, .. } => self.stand(node, Standing::Restored),
            Fact::NodeNotRestored { node, .. } => self.stand(node, Standing::NotRestored),
            Fact::NodeVerified { node, .. } => self.stand(node, Standing::Verified),
            Fact::NodeUnverified { node, .. } => self.stand(node, Standing::Unverified),
            Fact::NodeDecommissioned { node, .. } => self.stand(node, Standing::Gone),
            Fact::SegmentProven { at, segment } => self.baking = Some((*segment, *at)),
            Fact::NodeBaked { node, .. } => {
                if let Some(past) = self.nodes.get_mut(node) {
                    past.baked = true;
                }
            }
            Fact::SegmentBaked { segment, .. } => {
                self.baking = None;
                self.baked.insert(*segment);
            }
            Fact::GateStarted { at, asking } => {
                self.earlier = self.asking.replace(*asking);
                self.asked_at = Some(*at);
            }
            Fact::GatePassed { asking, .. } => {
                self.asked_at = None;
                self.gates.insert((asking.segment, asking.gate));
            }
            Fact::GateFailed { .. } | Fact::GateInconclusive { .. } => self.asked_at = None,
            Fact::MigrationStarted { .. } => self.migrations += 1,
            Fact::MigrationSucceeded { .. } => self.migrated = true,
            Fact::MigrationFailed { .. } | Fact::MigrationInterrupted { .. } => {}
            Fact::Halted { halt, .. } => self.halt = Some(halt.clone()),
            Fact::Promoted { again, .. } => self.promote(*again),
            Fact::Paused { .. } => self.paused = true,
            Fact::Resumed { .. } => self.paused = false,
            Fact::NodeWaived { node, waiver, .. } => {
                if let Some(past) = self.nodes.get_mut(node) {
                    past.waived_until = Some(waiver.until);
                }
            }
            Fact::NodeJoined { at, node, .. } => {
                let forward = self.round.is_some() && !self.turned;
                self.nodes.insert(node.clone(), Past { forward, ..Past::new(None, *at) });
            }
            Fact::AbortRequested { mode, .. } => {
                self.abort = Some(*mode);
                self.unhand();
            }
            Fact::Superseded { .. } => {
                self.superseded = true;
                self.unhand();
            }
            Fact::RollbackStarted { .. } => {
                self.turned = true;
                (self.round, self.baking, self.asked_at) = (None, None, None);
                self.unhand();
            }
            Fact::Stopped { .. } => self.unhand(),
            Fact::VerificationStarted { at } => {
                self.round = Some(*at);
                for past in self.nodes.values_mut() {
                    past.witnessed = None;
                    // Who is in no segment is ordered by this, and only forward.
                    past.forward |= past.segment.is_none() && past.standing == Standing::Untouched && !self.turned;
                }
            }
            Fact::Planned { .. } | Fact::SegmentRollbackStarted { .. } | Fact::Finished { .. } => {}
        }
    }

    fn unhand(&mut self) {
        self.paused = false;
        self.halt = None;
    }

    fn promote(&mut self, again: Again) {
        self.forgiven = self.failed();
        let Some(halt) = self.halt.take() else { return };
        match (again, halt) {
            (Again::Retry, _) => self.migrations_allowed += 1,
            (Again::Skip, Halt::PauseAfter { segment }) => drop(self.promoted.insert(segment)),
            (
                Again::Skip,
                Halt::Inconclusive { asking, .. } | Halt::Failure { cause: Cause::GateFailed { asking, .. } },
            ) => drop(self.gates.insert((asking.segment, asking.gate))),
            (Again::Skip, Halt::Interrupted { .. } | Halt::Failure { cause: Cause::MigrationFailed { .. } }) => {
                self.migrated = true;
            }
            (Again::Skip, Halt::Failure { .. }) => {}
        }
    }

    fn order(&mut self, nodes: &[NodeName], standing: Standing, at: Timestamp) {
        for node in nodes {
            self.stand(node, standing);
            if let Some(past) = self.nodes.get_mut(node) {
                past.ordered_at = Some(at);
                past.differs = None;
                past.forward |= standing == Standing::Ordered;
            }
        }
    }

    fn stand(&mut self, node: &NodeName, standing: Standing) {
        if let Some(past) = self.nodes.get_mut(node) {
            (past.standing, past.ordered_at) = (standing, None);
        }
    }
}

impl Past {
    fn new(segment: Option<usize>, at: Timestamp) -> Self {
        Self {
            segment,
            standing: Standing::Untouched,
            ordered_at: None,
            forward: false,
            baked: false,
            expected_since: at,
            differs: None,
            waived_until: None,
            witnessed: None,
        }
    }
}
