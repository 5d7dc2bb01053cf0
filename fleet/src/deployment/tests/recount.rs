//! Everything that `nodes.rs` counts along the way, counted from scratch: the slow and obvious way to the same numbers.

use std::collections::BTreeSet;

use crate::capacity::Capacity;
use crate::deployment::nodes::{Baked, Entry, NodeState, Serves, Tally, Wish};
use crate::deployment::{Deployment, Nodes};

/// The counts of a whole deployment.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Counts {
    failed: usize,
    untold: usize,
    serving: usize,
    open: usize,
    in_flight: usize,
    capacity: Capacity,
    segments: Vec<Segment>,
}

/// The queues and counts of one segment.
#[derive(Debug, PartialEq, Eq)]
struct Segment {
    pending_serving: BTreeSet<usize>,
    pending_idle: BTreeSet<usize>,
    ahead_serving: BTreeSet<usize>,
    ahead_idle: BTreeSet<usize>,
    ordered: usize,
    unbaked: usize,
    restoring: usize,
}

/// Whether a node serves, when its own word `heard` counts while it waits for its turn.
pub(super) fn serves(state: &NodeState, is_in_segment: bool, heard: Serves) -> bool {
    match state {
        NodeState::Pending => is_in_segment && heard == Serves::Yes,
        NodeState::Proven { .. } | NodeState::Restored { .. } | NodeState::Verified { .. } => true,
        _ => false,
    }
}

/// As the engine counts.
pub(super) fn counted(deployment: &Deployment) -> Counts {
    let Nodes { failed, untold, serving, open, in_flight, .. } = deployment.nodes;
    let of = |tally: &Tally| Segment {
        pending_serving: tally.pending_serving.clone(),
        pending_idle: tally.pending_idle.clone(),
        ahead_serving: tally.ahead_serving.clone(),
        ahead_idle: tally.ahead_idle.clone(),
        ordered: tally.ordered,
        unbaked: tally.unbaked,
        restoring: tally.restoring,
    };
    let segments = (0..deployment.spec.segments.len()).map(|segment| of(deployment.nodes.tally(segment))).collect();
    let capacity = deployment.nodes.capacity(deployment.spec.floor);
    Counts { failed, untold, serving, open, in_flight, capacity, segments }
}

/// As it is.
pub(super) fn recounted(deployment: &Deployment) -> Counts {
    let spec = &deployment.spec;
    let entries = deployment.nodes.entries();
    let serving = |entry: &Entry| serves(&entry.state, entry.segment.is_some(), entry.ear.serves);
    let count = |is_meant: &dyn Fn(&Entry) -> bool| entries.iter().filter(|entry| is_meant(entry)).count();
    let was_healthy = |entry: &Entry| !spec.unhealthy.contains(&entry.name);
    let under_way = |entry: &Entry| matches!(entry.state, NodeState::Ordered { .. });
    let restoring = |entry: &Entry| matches!(entry.state, NodeState::Restoring { .. });
    let pending = |entry: &Entry| entry.state == NodeState::Pending;
    let gone = |entry: &Entry| matches!(entry.state, NodeState::Decommissioned { .. });
    let failed = |entry: &Entry| matches!(entry.state, NodeState::Failed { .. }) && entry.waiver.is_none();
    let placed = |entry: &Entry| entry.segment.is_some();
    let segments = (0..spec.segments.len()).map(|segment| {
        let here = |is_meant: &dyn Fn(&Entry) -> bool| -> BTreeSet<usize> {
            let of_it =
                entries.iter().enumerate().filter(|(_, entry)| entry.segment == Some(segment) && is_meant(entry));
            of_it.map(|(index, _)| index).collect()
        };
        let waits = |entry: &Entry| pending(entry) && entry.wish == Wish::Nothing;
        let ahead = |entry: &Entry| entry.wish == Wish::Forward && !gone(entry);
        Segment {
            pending_serving: here(&|entry| waits(entry) && serving(entry)),
            pending_idle: here(&|entry| waits(entry) && !serving(entry)),
            ahead_serving: here(&|entry| ahead(entry) && serving(entry)),
            ahead_idle: here(&|entry| ahead(entry) && !serving(entry)),
            ordered: here(&under_way).len(),
            unbaked: here(&|entry| matches!(entry.state, NodeState::Proven { baked: Baked::NotYet, .. })).len(),
            restoring: here(&restoring).len(),
        }
    });
    let proven = |entry: &Entry| matches!(entry.state, NodeState::Proven { .. });
    let capacity = Capacity {
        floor: spec.floor,
        healthy_at_start: spec.segments.iter().flatten().filter(|name| !spec.unhealthy.contains(name)).count(),
        healthy: count(&|entry| {
            placed(entry) && (proven(entry) || was_healthy(entry) && (pending(entry) || under_way(entry)))
        }),
        untried: count(&|entry| placed(entry) && pending(entry)),
        broken_open: count(&|entry| placed(entry) && !was_healthy(entry) && (pending(entry) || under_way(entry))),
    };
    Counts {
        failed: count(&failed),
        untold: count(&|entry| failed(entry) && !entry.is_told),
        serving: count(&serving),
        open: count(&|entry| {
            !matches!(
                entry.state,
                NodeState::Verified { .. } | NodeState::Unverified { .. } | NodeState::Decommissioned { .. }
            )
        }),
        in_flight: count(&|entry| under_way(entry) || restoring(entry)),
        capacity,
        segments: segments.collect(),
    }
}
