//! Invariants of taking nodes out of service: `parallel`, the floor, the failure budget.

use crate::NodeName;
use crate::deployment::nodes::{NodeState, Wish};
use crate::deployment::tests::invariants::{Held, Moment, begins, ensure};
use crate::deployment::tests::recount;
use crate::deployment::{Deployment, Fact};

/// Whether a node served just before a fact, by all that was known.
fn served(moment: &Moment, index: usize) -> bool {
    let entry = moment.before.nodes.entry(index);
    let heard = moment.ears.nodes.entry(index).ear.serves;
    recount::serves(&entry.state, entry.segment.is_some(), heard)
}

/// How many of a fact's nodes served just before it.
fn taken(moment: &Moment, nodes: &[NodeName]) -> usize {
    nodes.iter().filter(|node| moment.before.nodes.find(node).is_some_and(|index| served(moment, index))).count()
}

pub(super) fn never_more_than_parallel_are_in_flight(moment: &Moment) -> Held {
    let Fact::NodesOrdered { segment, nodes, .. } = moment.fact else { return Ok(()) };
    let spec = moment.before.spec();
    for node in nodes {
        let entry = moment.before.nodes.entry(moment.before.nodes.find(node).ok_or("it takes no part")?);
        ensure(entry.segment == Some(*segment) && entry.state == NodeState::Pending, || {
            format!("{node} of {:?} was {:?}", entry.segment, entry.state)
        })?;
    }
    let is_ordered = |node: &&NodeName| matches!(moment.before.nodes().get(node), Some(NodeState::Ordered { .. }));
    let in_flight = spec.segments[*segment].iter().filter(is_ordered).count() + nodes.len();
    let limit = spec.parallel.limit(spec.segments[*segment].len());
    ensure(in_flight <= limit, || format!("{in_flight} in flight, {limit} allowed"))
}

pub(super) fn no_serving_node_is_taken_below_the_floor(moment: &Moment) -> Held {
    let Fact::NodesOrdered { nodes, .. } = moment.fact else { return Ok(()) };
    let floor = moment.before.spec().floor;
    let serving = (0..moment.before.nodes.entries().len()).filter(|index| served(moment, *index)).count();
    let taken = taken(moment, nodes);
    ensure(taken == 0 || serving - taken >= floor, || format!("{serving} served, {taken} taken, {floor} must serve"))
}

/// On the way back the floor holds as long as another node can be waited for.
pub(super) fn the_floor_holds_on_the_way_back_too(moment: &Moment) -> Held {
    let Fact::NodesTurnedBack { segment, nodes, .. } = moment.fact else { return Ok(()) };
    let spec = moment.before.spec();
    if *segment == spec.segments.len() {
        return Ok(());
    }
    let serving = (0..moment.before.nodes.entries().len()).filter(|index| served(moment, *index)).count();
    let taken = taken(moment, nodes);
    let restoring = |state: &NodeState| matches!(state, NodeState::Restoring { .. } | NodeState::Ordered { .. });
    let under_way = moment.before.nodes().iter().any(|(_, state)| restoring(state)) || taken < nodes.len();
    let last = !under_way && taken == 1;
    ensure(taken == 0 || last || serving - taken >= spec.floor, || {
        format!("{serving} served, {taken} taken, {} must serve", spec.floor)
    })
}

pub(super) fn broken_nodes_go_first(moment: &Moment) -> Held {
    let Fact::NodesOrdered { segment, nodes, .. } = moment.fact else { return Ok(()) };
    let left = moment.before.nodes.entries().iter().enumerate().find(|(index, entry)| {
        let waits = entry.segment == Some(*segment) && entry.state == NodeState::Pending;
        waits && !nodes.contains(&entry.name) && !served(moment, *index)
    });
    ensure(taken(moment, nodes) == 0 || left.is_none(), || format!("{left:?} does not serve, and was left"))
}

pub(super) fn more_failures_than_allowed_are_passed_by_a_person_only(moment: &Moment) -> Held {
    if !goes_forward(moment.before, moment.fact) {
        return Ok(());
    }
    let (spec, record) = (moment.before.spec(), moment.record);
    let unseen: Vec<_> = record.failed.difference(&record.forgiven).collect();
    let exceeded = spec.max_failures.is_exceeded(record.failed.len(), spec.size());
    ensure(!exceeded || unseen.is_empty(), || {
        format!("{} failed, {} allowed, and nobody was told of {unseen:?}", record.failed.len(), spec.max_failures)
    })
}

pub(super) fn capacity_that_is_lost_stops_it(moment: &Moment) -> Held {
    if !goes_forward(moment.before, moment.fact) {
        return Ok(());
    }
    let spec = moment.before.spec();
    let entries = moment.before.nodes.entries().iter().filter(|entry| entry.segment.is_some());
    let was_healthy = |name| !spec.unhealthy.contains(name);
    let (mut healthy, mut untried) = (0, 0);
    for entry in entries {
        match entry.state {
            NodeState::Proven { .. } => healthy += 1,
            NodeState::Pending | NodeState::Ordered { .. } if was_healthy(&entry.name) => healthy += 1,
            _ => {}
        }
        untried += usize::from(entry.state == NodeState::Pending && entry.wish == Wish::Nothing);
    }
    let at_start = spec.segments.iter().flatten().filter(|name| was_healthy(name)).count();
    let lost =
        untried > 0 && spec.floor > 0 && if at_start > spec.floor { healthy <= spec.floor } else { healthy < at_start };
    ensure(!lost, || format!("{healthy} healthy, {at_start} at the start, {} must be, {untried} to go", spec.floor))
}

/// Whether a fact begins something on the way forward.
fn goes_forward(before: &Deployment, fact: &Fact) -> bool {
    begins(fact)
        && !before.is_turned_back()
        && !matches!(fact, Fact::Halted { .. } | Fact::RollbackStarted { .. } | Fact::Stopped { .. })
}
