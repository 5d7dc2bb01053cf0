//! Invariants of what follows what: segments, gates, pauses, the migration, and the way back.

use crate::deployment::nodes::{NodeState, Wish};
use crate::deployment::tests::invariants::{Held, Moment, Rest, ensure};
use crate::deployment::{Event, Fact, MigrationReport, Phase, Place, Verdict};
use crate::evidence::Confirmation;

pub(super) fn no_segment_starts_before_all_before_it_are_through(moment: &Moment) -> Held {
    let (before, record) = (moment.before, moment.record);
    let reached = match moment.fact {
        Fact::SegmentStarted { segment, .. } => *segment,
        Fact::VerificationStarted { .. } if !before.is_turned_back() => before.segments().len(),
        _ => return Ok(()),
    };
    for segment in 0..reached {
        if let Some(why) = record.unfinished(before, segment) {
            return Err(why);
        }
    }
    let migration = before.spec().migration.as_ref();
    let due = migration.is_some_and(|migration| matches!(migration.place, Place::Before(at) if at <= reached));
    ensure(!due || record.is_migrated, || "the migration before it is not through".into())?;
    let started = before.segments().get(reached).is_some_and(|state| state.started_at.is_some());
    ensure(!started, || "it has started before".into())
}

pub(super) fn nothing_follows_a_segment_that_may_undo_itself(moment: &Moment) -> Held {
    let Fact::SegmentBaked { segment, .. } = moment.fact else { return Ok(()) };
    let spec = moment.before.spec();
    for node in &spec.segments[*segment] {
        let proven = matches!(moment.before.nodes().get(node), Some(NodeState::Proven { .. }));
        // What the agent itself knows, and not what was heard of it.
        let agent = moment.world.agent(node).filter(|agent| agent.generation() == Some(spec.generation));
        let undoes = agent.is_some_and(|agent| agent.confirmation() == Confirmation::Awaited);
        ensure(!(proven && undoes), || format!("{node} waits for its confirmation"))?;
    }
    Ok(())
}

pub(super) fn a_gate_is_passed_by_an_answer_to_its_own_asking(moment: &Moment) -> Held {
    let Fact::GatePassed { asking, .. } = moment.fact else { return Ok(()) };
    let yes =
        matches!(moment.event, Event::GateAnswered { asking: of, verdict: Verdict::Passed { .. } } if of == asking);
    let asked = matches!(moment.before.phase(), Phase::Gating { asking: asked, .. } if asked == *asking);
    ensure(yes && asked, || format!("asked: {:?}", moment.before.phase()))
}

pub(super) fn a_gate_without_a_yes_is_passed_by_a_person_only(moment: &Moment) -> Held {
    let Fact::GateStarted { asking, .. } = moment.fact else { return Ok(()) };
    let (spec, record) = (moment.before.spec(), moment.record);
    let concerns = |gate: usize| spec.gates[gate].after.is_none_or(|after| after == asking.segment);
    ensure(concerns(asking.gate), || "it is no gate of this segment".into())?;
    let skipped = (0..asking.gate).find(|gate| concerns(*gate) && !record.through.contains(&(asking.segment, *gate)));
    ensure(skipped.is_none(), || format!("gate {skipped:?} has no yes"))?;
    ensure(!record.through.contains(&(asking.segment, asking.gate)), || "it is through".into())?;
    ensure(asking.attempt == 1 || record.again, || format!("nobody wished attempt {}", asking.attempt))?;
    ensure(moment.before.segments()[asking.segment].baked_at.is_some(), || "its segment has not baked".into())
}

pub(super) fn a_migration_runs_in_its_place(moment: &Moment) -> Held {
    let Fact::MigrationStarted { node, .. } = moment.fact else { return Ok(()) };
    let (before, record) = (moment.before, moment.record);
    let migration = before.spec().migration.as_ref().ok_or("there is none")?;
    let (first, last) = match migration.place {
        Place::Before(segment) => (0, segment),
        Place::After(segment) => (0, segment + 1),
    };
    for segment in first..last {
        // Its own place after a segment lies between the gates and the pause.
        let state = before.segments()[segment];
        let gates = &before.spec().gates;
        let concerns = |gate: &usize| gates[*gate].after.is_none_or(|after| after == segment);
        let open = (0..gates.len()).filter(concerns).find(|gate| !record.through.contains(&(segment, *gate)));
        ensure(state.baked_at.is_some() && open.is_none(), || format!("segment {segment}: {state:?}, gate {open:?}"))?;
    }
    if let Some(next) = before.segments().get(last) {
        ensure(next.started_at.is_none(), || format!("segment {last} has started"))?;
    }
    ensure(before.spec().segments[migration.place.segment()].contains(node), || format!("{node} is elsewhere"))?;
    let state = before.nodes().get(node);
    let is_there = !matches!(state, None | Some(NodeState::Failed { .. } | NodeState::Decommissioned { .. }));
    ensure(is_there, || format!("{node} is {state:?}"))
}

pub(super) fn a_migration_runs_again_by_a_persons_wish_only(moment: &Moment) -> Held {
    let record = moment.record;
    match moment.fact {
        Fact::MigrationStarted { attempt, .. } => {
            let before = record.migrations.keys().max().copied().unwrap_or(0);
            ensure(*attempt == before + 1, || format!("attempt {attempt} after {before}"))?;
            ensure(!record.is_migrated, || "it is through".into())?;
            ensure(*attempt == 1 || record.again, || format!("nobody wished attempt {attempt}"))
        }
        Fact::MigrationSucceeded { node, .. } => {
            let newest = record.migrations.last_key_value();
            let said = match moment.event {
                Event::MigrationReported { node, attempt, report: MigrationReport::Succeeded } => Some((attempt, node)),
                _ => None,
            };
            ensure(said == newest && newest.is_some_and(|(_, told)| told == node), || format!("told: {newest:?}"))
        }
        _ => Ok(()),
    }
}

pub(super) fn a_migration_is_told_to_one_node_under_one_number(rest: &Rest) -> Held {
    let order = rest.after.migration_order();
    let migrating = matches!(rest.after.phase(), Phase::Migrating { .. });
    ensure(order.is_some() == migrating, || format!("{order:?} in {:?}", rest.after.phase()))?;
    let Some(order) = order else { return Ok(()) };
    ensure(rest.record.migrations.get(&order.attempt) == Some(&order.node), || format!("{order:?}"))?;
    ensure(order.service == rest.after.spec().service, || format!("{order:?} is another service's"))
}

pub(super) fn the_newest_segment_goes_back_first(moment: &Moment) -> Held {
    let Fact::SegmentRollbackStarted { segment, .. } = moment.fact else { return Ok(()) };
    let before = moment.before;
    ensure(before.is_turned_back() && before.segments()[*segment].started_at.is_some(), || "it never started".into())?;
    let newer = before.nodes.entries().iter().find(|entry| {
        entry.segment.is_some_and(|of| of > *segment)
            && (entry.wish == Wish::Forward || matches!(entry.state, NodeState::Restoring { .. }))
    });
    ensure(newer.is_none(), || format!("{newer:?} is newer, and not back yet"))
}

pub(super) fn only_who_was_ordered_goes_back(moment: &Moment) -> Held {
    let Fact::NodesTurnedBack { nodes, .. } = moment.fact else { return Ok(()) };
    for node in nodes {
        let entry = moment.before.nodes.entry(moment.before.nodes.find(node).ok_or("it takes no part")?);
        ensure(entry.wish == Wish::Forward, || format!("{node} was not ordered forward: {:?}", entry.wish))?;
    }
    ensure(!nodes.is_empty(), || "nobody".into())
}
