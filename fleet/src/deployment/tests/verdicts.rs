//! Invariants of outcomes: what a deployment says of itself when it ends, compared with its nodes and with the world.

use crate::deployment::nodes::{NodeState, Wish};
use crate::deployment::tests::invariants::{Held, Moment, ensure};
use crate::deployment::tests::record::Record;
use crate::deployment::{Deployment, Fact};
use crate::{NodeName, Outcome};

/// Checked when a deployment has ended.
pub(super) type AtTheEnd = fn(&Deployment, &Record) -> Held;

/// All of them.
pub(super) const AT_THE_END: &[(&str, AtTheEnd)] = &[
    ("it_ends_when_the_world_is_calm", it_ends_when_the_world_is_calm),
    ("nobody_stays_forward_after_a_rollback", nobody_stays_forward_after_a_rollback),
];

fn finished(moment: &Moment) -> Option<Outcome> {
    match moment.fact {
        Fact::Finished { outcome, .. } => Some(*outcome),
        _ => None,
    }
}

fn those<'a>(moment: &'a Moment, are_meant: impl Fn(&NodeState) -> bool) -> Vec<&'a NodeName> {
    moment.before.nodes().iter().filter(|(_, state)| are_meant(state)).map(|(node, _)| node).collect()
}

fn is_settled(state: &NodeState) -> bool {
    matches!(state, NodeState::Verified { .. } | NodeState::Decommissioned { .. })
}

pub(super) fn converged_means_that_every_expected_node_is_proven(moment: &Moment) -> Held {
    if finished(moment) != Some(Outcome::Converged) {
        return Ok(());
    }
    let open = those(moment, |state| !is_settled(state));
    ensure(open.is_empty(), || format!("{open:?} are not proven"))?;
    let proven = those(moment, |state| matches!(state, NodeState::Verified { .. }));
    ensure(!proven.is_empty(), || "nobody is proven".into())?;
    let elsewhere = proven
        .iter()
        .find(|node| moment.before.order_for(node).is_none_or(|order| order.hold != moment.before.spec().target));
    ensure(elsewhere.is_none(), || format!("{elsewhere:?} was not to hold the target"))?;
    ensure(!moment.before.is_turned_back() && moment.record.verification.is_some(), || "there was no last round".into())
}

pub(super) fn every_exception_has_a_valid_waiver(moment: &Moment) -> Held {
    if finished(moment) != Some(Outcome::ConvergedWithWaivers) {
        return Ok(());
    }
    let open = those(moment, |state| !is_settled(state));
    let covered =
        |node: &NodeName| moment.before.nodes().waiver(node).is_some_and(|waiver| waiver.is_valid(moment.now));
    let bare = open.iter().find(|node| !covered(node));
    ensure(bare.is_none() && !open.is_empty(), || format!("of {open:?}, {bare:?} has no valid waiver"))?;
    let proven = those(moment, |state| matches!(state, NodeState::Verified { .. }));
    ensure(!proven.is_empty() && !moment.before.is_turned_back(), || "nobody is proven".into())
}

pub(super) fn rolled_back_means_that_every_node_is_proven_back(moment: &Moment) -> Held {
    if finished(moment) != Some(Outcome::RolledBack) {
        return Ok(());
    }
    ensure(moment.before.is_turned_back() && moment.before.cause().is_some(), || "it never turned back".into())?;
    let covered =
        |node: &NodeName| moment.before.nodes().waiver(node).is_some_and(|waiver| waiver.is_valid(moment.now));
    let open = those(moment, |state| !is_settled(state));
    let bare = open.iter().find(|node| !covered(node));
    ensure(bare.is_none(), || format!("{bare:?} is not proven back"))
}

pub(super) fn unproven_names_a_cause_or_a_node(moment: &Moment) -> Held {
    if finished(moment) != Some(Outcome::Unproven) {
        return Ok(());
    }
    let unproven = those(moment, |state| !is_settled(state));
    let nobody = those(moment, |state| matches!(state, NodeState::Verified { .. })).is_empty();
    ensure(moment.before.cause().is_some() || !unproven.is_empty() || nobody, || "all is well".into())
}

pub(super) fn only_a_person_aborts_or_supersedes(moment: &Moment) -> Held {
    let record = moment.record;
    match finished(moment) {
        Some(Outcome::Aborted) => ensure(record.is_aborted, || "nobody did".into()),
        Some(Outcome::Superseded) => ensure(record.is_superseded, || "nobody did".into()),
        Some(Outcome::RolledBack) => ensure(!record.is_aborted, || "a person ended it".into()),
        Some(Outcome::Converged | Outcome::ConvergedWithWaivers) => {
            ensure(!record.is_aborted && !record.is_superseded, || "a person ended it".into())
        }
        Some(Outcome::Unproven) | None => Ok(()),
    }
}

fn it_ends_when_the_world_is_calm(deployment: &Deployment, _: &Record) -> Held {
    ensure(deployment.outcome().is_some(), || format!("it never ends: {:?}", deployment.phase()))
}

fn nobody_stays_forward_after_a_rollback(deployment: &Deployment, record: &Record) -> Held {
    if !deployment.is_turned_back() || record.is_left {
        return Ok(());
    }
    let forward = deployment.nodes.entries().iter().find(|entry| entry.wish == Wish::Forward);
    ensure(forward.is_none(), || format!("{forward:?} is still to hold the target"))
}

pub(super) fn converged_is_true_in_the_world(moment: &Moment) -> Held {
    if finished(moment) != Some(Outcome::Converged) {
        return Ok(());
    }
    for node in those(moment, |state| matches!(state, NodeState::Verified { .. })) {
        let held = moment.world.holds(node, moment.now);
        // Between the question and the end a node may have fallen back; the question was answered truly.
        let fell = moment.world.falls_back(node);
        ensure(fell || held.as_ref() == Some(&moment.before.spec().target), || format!("{node} holds {held:?}"))?;
    }
    Ok(())
}
