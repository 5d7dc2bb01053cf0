//! The expected nodes of one deployment: the state of each, and the counts and queues that would otherwise have to be
//! looked for among all of them at every event. Judging a whole deployment costs O(nodes) work in all because of this
//! file (the law in the project's benchmarks); what the states mean is decided elsewhere.

use std::borrow::Cow;
use std::collections::BTreeSet;
use std::ops::Range;

use crate::capacity::Capacity;
use crate::deployment::by_name::ByName;
use crate::deployment::{Previous, Spec, Waiver};
use crate::release::Grade;
use crate::{NodeName, Timestamp};

/// What is known of one node.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum NodeState {
    /// Not ordered yet.
    Pending,
    /// Ordered to hold the target.
    Ordered {
        /// Since when.
        since: Timestamp,
    },
    /// Proven to hold it.
    Proven {
        /// Since when.
        since: Timestamp,
        /// With this grade.
        grade: Grade,
        /// Whether it was still proven after the bake.
        baked: Baked,
    },
    /// It could not be brought to the target.
    Failed {
        /// When.
        since: Timestamp,
        /// Why.
        reason: String,
    },
    /// Ordered back.
    Restoring {
        /// Since when.
        since: Timestamp,
    },
    /// Proven to hold what it held before.
    Restored {
        /// Since when.
        since: Timestamp,
    },
    /// Not proven back.
    NotRestored {
        /// When.
        since: Timestamp,
        /// Why.
        reason: String,
    },
    /// Proved in the last round what it shall hold.
    Verified {
        /// When.
        since: Timestamp,
        /// With this grade.
        grade: Grade,
    },
    /// Did not.
    Unverified {
        /// When.
        since: Timestamp,
        /// Why.
        reason: String,
    },
    /// Taken out of the fleet for good: it is expected no longer.
    Decommissioned {
        /// When.
        since: Timestamp,
        /// Who took it out, and why.
        reason: String,
    },
}

/// Whether a proven node has outlived the bake.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Baked {
    /// Not yet.
    NotYet,
    /// It was proven after the bake time.
    Yes,
}

/// What this deployment wants of a node.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Wish {
    /// Nothing yet: it keeps what it holds.
    Nothing,
    /// To hold the target.
    Forward,
    /// To hold what it held before.
    Back,
}

/// One expected node.
#[derive(Debug, Clone)]
pub(super) struct Entry {
    pub(super) name: NodeName,
    /// Its segment; None for the absent and for those who joined later.
    pub(super) segment: Option<usize>,
    pub(super) expected_since: Timestamp,
    /// What it held when it joined; for the others the spec says it.
    pub(super) previous: Option<Previous>,
    /// Whether it served when the deployment was planned.
    was_healthy: bool,
    pub(super) state: NodeState,
    pub(super) wish: Wish,
    pub(super) waiver: Option<Waiver>,
    /// It failed, and a person was told so: it halted because of it, and only a promotion leads on.
    pub(super) is_told: bool,
    pub(super) ear: Ear,
    /// When something is due, by the agenda. May be too early, never too late.
    due: Option<Timestamp>,
}

/// What was heard of a node and is not worth a fact. It only lengthens patience, measures capacity and words the
/// reason for waiting; no verdict of success rests on it, and it is empty again after a restart.
#[derive(Debug, Clone, Default)]
pub(super) struct Ear {
    /// What it was last seen to do.
    pub(super) heard: Option<Cow<'static, str>>,
    /// Since when it claims to hold its order while what is seen differs, and what is seen.
    pub(super) differs: Option<(Timestamp, String)>,
    /// Whether it serves while it waits for its turn.
    pub(super) serves: Serves,
}

/// Whether a node serves what it holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(super) enum Serves {
    /// As far as is known.
    #[default]
    Yes,
    /// It does not: changing it costs no capacity.
    No,
}

/// What is counted of one segment.
#[derive(Debug, Clone, Default)]
pub(super) struct Tally {
    /// Not ordered yet, and serving.
    pub(super) pending_serving: BTreeSet<usize>,
    /// Not ordered yet, and not serving.
    pub(super) pending_idle: BTreeSet<usize>,
    /// Ordered forward and never back, and serving.
    pub(super) ahead_serving: BTreeSet<usize>,
    /// Ordered forward and never back, and not serving.
    pub(super) ahead_idle: BTreeSet<usize>,
    /// Ordered and not yet proven or failed.
    pub(super) ordered: usize,
    /// Proven and not yet baked.
    pub(super) unbaked: usize,
    /// Ordered back and not yet proven back or failed.
    pub(super) restoring: usize,
}

/// All of them.
#[derive(Debug, Clone, Default)]
pub struct Nodes {
    entries: Vec<Entry>,
    index: ByName,
    /// Where the nodes of each segment lie among the entries.
    ranges: Vec<Range<usize>>,
    tallies: Vec<Tally>,
    /// The nodes outside the segments. Nobody takes them from a queue on the way forward.
    outside: Tally,
    /// Failed on the way forward, and not waived.
    pub(super) failed: usize,
    /// The same, and no person was told of it yet.
    pub(super) untold: usize,
    /// Serving now.
    pub(super) serving: usize,
    /// Neither verified nor unverified, and still expected.
    pub(super) open: usize,
    /// Ordered either way and not yet proven or failed.
    pub(super) in_flight: usize,
    /// Of the segments, by history and not by what was heard: healthy when planned and not failed since, or proven.
    healthy: usize,
    healthy_at_start: usize,
    /// Of the segments, not ordered yet.
    untried: usize,
    /// Of the segments, not healthy when planned, and not tried to the end.
    broken_open: usize,
    agenda: BTreeSet<(Timestamp, usize)>,
}

impl PartialEq for Nodes {
    /// Equal in everything that is history; what was merely heard does not count.
    fn eq(&self, other: &Self) -> bool {
        let history = |entry: &Entry| {
            let Entry { name, segment, state, wish, waiver, is_told, .. } = entry.clone();
            (name, segment, state, wish, waiver, is_told)
        };
        self.entries.iter().map(history).eq(other.entries.iter().map(history))
    }
}

impl Nodes {
    /// The nodes as they are when a deployment has just been planned.
    pub(super) fn planned(spec: &Spec, at: Timestamp) -> Self {
        let (tallies, index) = (vec![Tally::default(); spec.segments.len()], ByName::for_many(spec.size()));
        let mut nodes = Self { tallies, index, ..Self::default() };
        nodes.entries.reserve(spec.size());
        for (segment, names) in spec.segments.iter().enumerate() {
            let begin = nodes.entries.len();
            for name in names {
                nodes.expect(name, Some(segment), at, spec);
            }
            nodes.ranges.push(begin..nodes.entries.len());
        }
        for name in &spec.absent {
            nodes.expect(name, None, at, spec);
        }
        nodes.healthy_at_start = nodes.healthy;
        nodes
    }

    /// What the floor is compared with: by history, so that a node whose health flaps does not turn a deployment back.
    pub(super) fn capacity(&self, floor: usize) -> Capacity {
        let Self { healthy_at_start, healthy, untried, broken_open, .. } = *self;
        Capacity { floor, healthy_at_start, healthy, untried, broken_open }
    }

    /// One more expected node; a name that is known already stays as it is.
    pub(super) fn expect(&mut self, name: &NodeName, segment: Option<usize>, at: Timestamp, spec: &Spec) -> usize {
        if let Some(index) = self.find(name) {
            return index;
        }
        let index = self.entries.len();
        let serves = if spec.unhealthy.contains(name) { Serves::No } else { Serves::Yes };
        self.entries.push(Entry {
            name: name.clone(),
            segment,
            expected_since: at,
            previous: None,
            was_healthy: serves == Serves::Yes,
            state: NodeState::Pending,
            wish: Wish::Nothing,
            waiver: spec.waivers.get(name).cloned(),
            is_told: false,
            ear: Ear { serves, ..Ear::default() },
            due: None,
        });
        self.index.note(name, index);
        self.count(index, Count::In);
        self.enqueue(index);
        index
    }

    /// What is known of a node; None when it takes no part.
    pub fn get(&self, name: &NodeName) -> Option<&NodeState> {
        self.find(name).map(|index| &self.entries[index].state)
    }

    /// Whether a node takes part.
    pub fn contains(&self, name: &NodeName) -> bool {
        self.find(name).is_some()
    }

    /// How many take part, those included that were decommissioned.
    pub fn len(&self) -> usize {
        self.entries.len()
    }

    /// Whether nobody takes part.
    pub fn is_empty(&self) -> bool {
        self.entries.is_empty()
    }

    /// Every expected node: segment by segment, then the absent, then those who joined later.
    pub fn iter(&self) -> impl Iterator<Item = (&NodeName, &NodeState)> {
        self.entries.iter().map(|entry| (&entry.name, &entry.state))
    }

    /// The nodes that are in no segment: absent when it was planned, or joined later.
    pub fn outside_segments(&self) -> impl Iterator<Item = &NodeName> {
        self.entries.iter().filter(|entry| entry.segment.is_none()).map(|entry| &entry.name)
    }

    /// The waiver that covers a node, valid or not.
    pub fn waiver(&self, name: &NodeName) -> Option<&Waiver> {
        self.find(name).and_then(|index| self.entries[index].waiver.as_ref())
    }

    /// How many serve now, as far as is known.
    pub fn serving(&self) -> usize {
        self.serving
    }

    pub(super) fn find(&self, name: &NodeName) -> Option<usize> {
        self.index.find(name)
    }

    pub(super) fn entry(&self, index: usize) -> &Entry {
        &self.entries[index]
    }

    pub(super) fn entries(&self) -> &[Entry] {
        &self.entries
    }

    /// The entries of a segment, those included that have left it since; nothing for a segment that there is not.
    pub(super) fn of_segment(&self, segment: usize) -> Range<usize> {
        self.ranges.get(segment).cloned().unwrap_or_default()
    }

    /// What is counted of the nodes that are in no segment.
    pub(super) fn outside(&self) -> &Tally {
        &self.outside
    }

    pub(super) fn tally(&self, segment: usize) -> &Tally {
        self.tallies.get(segment).unwrap_or(&self.outside)
    }

    /// The first of many, by name.
    pub(super) fn names<'a>(&'a self, indices: impl Iterator<Item = &'a usize>) -> Vec<NodeName> {
        indices.map(|index| self.entries[*index].name.clone()).collect()
    }

    /// Changes one entry, and every count and queue with it.
    pub(super) fn change(&mut self, index: usize, change: impl FnOnce(&mut Entry)) {
        let before = self.entries[index].place();
        self.count(index, Count::Out);
        change(&mut self.entries[index]);
        self.count(index, Count::In);
        // Most changes leave a node in its queue, and queues cost more than counts.
        if self.entries[index].place() != before {
            self.queue(before).map(|queue| queue.remove(&index));
            self.enqueue(index);
        }
    }

    /// Notes what was heard of a node, when no count depends on it.
    pub(super) fn hear(&mut self, index: usize, change: impl FnOnce(&mut Ear)) {
        change(&mut self.entries[index].ear);
    }

    fn enqueue(&mut self, index: usize) {
        let place = self.entries[index].place();
        self.queue(place).map(|queue| queue.insert(index));
    }

    fn queue(&mut self, (segment, queue): Place) -> Option<&mut BTreeSet<usize>> {
        let tally = match segment.and_then(|segment| self.tallies.get_mut(segment)) {
            Some(tally) => tally,
            None => &mut self.outside,
        };
        Some(match queue? {
            Queue::PendingServing => &mut tally.pending_serving,
            Queue::PendingIdle => &mut tally.pending_idle,
            Queue::AheadServing => &mut tally.ahead_serving,
            Queue::AheadIdle => &mut tally.ahead_idle,
        })
    }

    fn count(&mut self, index: usize, count: Count) {
        let entry = &self.entries[index];
        let serving = entry.serves();
        let tally = match entry.segment.and_then(|segment| self.tallies.get_mut(segment)) {
            Some(tally) => tally,
            None => &mut self.outside,
        };
        let by = |counter: &mut usize, counts: bool| match (counts, count) {
            (true, Count::In) => *counter += 1,
            (true, Count::Out) => *counter -= 1,
            (false, _) => {}
        };
        let ordered = matches!(entry.state, NodeState::Ordered { .. });
        let restoring = matches!(entry.state, NodeState::Restoring { .. });
        by(&mut tally.ordered, ordered);
        by(&mut tally.restoring, restoring);
        by(&mut tally.unbaked, matches!(entry.state, NodeState::Proven { baked: Baked::NotYet, .. }));
        by(&mut self.in_flight, ordered || restoring);
        by(&mut self.serving, serving);
        let failed = matches!(entry.state, NodeState::Failed { .. }) && entry.waiver.is_none();
        by(&mut self.failed, failed);
        by(&mut self.untold, failed && !entry.is_told);
        by(&mut self.open, entry.state.is_open());
        if entry.segment.is_some() {
            let untried = entry.state == NodeState::Pending;
            let proven = matches!(entry.state, NodeState::Proven { .. });
            by(&mut self.healthy, proven || (entry.was_healthy && (untried || ordered)));
            by(&mut self.untried, untried);
            by(&mut self.broken_open, !entry.was_healthy && (untried || ordered));
        }
    }

    /// Notes that a person is told of every failure that there is.
    pub(super) fn tell_of_failures(&mut self) {
        for index in 0..self.entries.len() {
            if matches!(self.entries[index].state, NodeState::Failed { .. }) {
                self.change(index, |entry| entry.is_told = true);
            }
        }
    }

    /// Notes when something is due for a node.
    pub(super) fn schedule(&mut self, index: usize, due: Option<Timestamp>) {
        let entry = &mut self.entries[index];
        if entry.due == due {
            return;
        }
        if let Some(old) = entry.due {
            self.agenda.remove(&(old, index));
        }
        entry.due = due;
        if let Some(new) = due {
            self.agenda.insert((new, index));
        }
    }

    /// What is due first, and for whom.
    pub(super) fn first_due(&self) -> Option<(Timestamp, usize)> {
        self.agenda.first().copied()
    }

    /// Forgets everything that was merely heard; whether a node serves is again as it was planned.
    pub(super) fn forget_heard(&mut self, spec: &Spec) {
        for index in 0..self.entries.len() {
            let serves = if spec.unhealthy.contains(&self.entries[index].name) { Serves::No } else { Serves::Yes };
            self.change(index, |entry| entry.ear = Ear { serves, ..Ear::default() });
        }
    }
}

#[derive(Clone, Copy)]
enum Count {
    In,
    Out,
}

/// The queues of [`Tally`].
#[derive(Clone, Copy, PartialEq, Eq)]
enum Queue {
    PendingServing,
    PendingIdle,
    AheadServing,
    AheadIdle,
}

/// A segment, if any, and a queue of it, if any.
type Place = (Option<usize>, Option<Queue>);

impl Entry {
    /// The queue that it stands in.
    fn place(&self) -> Place {
        let queue = match (&self.state, self.wish, self.serves()) {
            (NodeState::Decommissioned { .. }, _, _) | (_, Wish::Back, _) => None,
            (NodeState::Pending, Wish::Nothing, true) => Some(Queue::PendingServing),
            (NodeState::Pending, Wish::Nothing, false) => Some(Queue::PendingIdle),
            (_, Wish::Forward, true) => Some(Queue::AheadServing),
            (_, Wish::Forward, false) => Some(Queue::AheadIdle),
            (_, Wish::Nothing, _) => None,
        };
        (self.segment, queue)
    }

    /// Whether it serves requests now, as far as is known. A node that is being changed does not, nor does one that
    /// failed, and one that is absent cannot be counted on.
    fn serves(&self) -> bool {
        match self.state {
            NodeState::Pending => self.segment.is_some() && self.ear.serves == Serves::Yes,
            NodeState::Proven { .. } | NodeState::Restored { .. } | NodeState::Verified { .. } => true,
            NodeState::Ordered { .. }
            | NodeState::Failed { .. }
            | NodeState::Restoring { .. }
            | NodeState::NotRestored { .. }
            | NodeState::Unverified { .. }
            | NodeState::Decommissioned { .. } => false,
        }
    }
}

impl NodeState {
    /// Whether the last round has still to say something of it.
    pub(super) fn is_open(&self) -> bool {
        match self {
            Self::Verified { .. } | Self::Unverified { .. } | Self::Decommissioned { .. } => false,
            Self::Pending
            | Self::Ordered { .. }
            | Self::Proven { .. }
            | Self::Failed { .. }
            | Self::Restoring { .. }
            | Self::Restored { .. }
            | Self::NotRestored { .. } => true,
        }
    }
}
