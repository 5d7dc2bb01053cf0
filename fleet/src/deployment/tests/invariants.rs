//! What must hold of every fact at the moment it becomes true, and of a deployment whenever it rests. Each rule is one
//! sentence, named as such, and numbered in `docs/invariants.md`. What an outcome means is in `verdicts.rs`; rules on
//! taking nodes out in `budgets.rs`; rules on segments, gates and migrations in `turns.rs`.

use std::collections::BTreeMap;

use crate::deployment::nodes::{Baked, NodeState, Wish};
use crate::deployment::tests::record::Record;
use crate::deployment::tests::world::World;
use crate::deployment::tests::{budgets, recount, turns, verdicts};
use crate::deployment::{Cause, Deployment, Event, Fact, Observation, Phase, Seen, WaitingOn};
use crate::evidence::Confirmation;
use crate::{Millis, NodeName, Order, Timestamp};

/// Nothing, or why the invariant does not hold.
pub(super) type Held = Result<(), String>;

/// A fact at the moment at which it becomes true.
pub(super) struct Moment<'a> {
    /// Just before it.
    pub(super) before: &'a Deployment,
    /// The deployment that judged: only it has heard what is not worth a fact.
    pub(super) ears: &'a Deployment,
    pub(super) fact: &'a Fact,
    pub(super) event: &'a Event,
    pub(super) now: Timestamp,
    pub(super) record: &'a Record,
    pub(super) world: &'a World,
    /// Since when a controller has been listening without a break.
    pub(super) listening_since: Timestamp,
    /// Since when each node claims what is seen to be otherwise, by its place, before the event.
    pub(super) contradicts: &'a [Option<(Timestamp, String)>],
}

/// A deployment after an event, when nothing more becomes true by itself.
pub(super) struct Rest<'a> {
    pub(super) after: &'a Deployment,
    /// The same, from its facts alone.
    pub(super) mirror: &'a Deployment,
    pub(super) event: &'a Event,
    pub(super) fresh: &'a [Fact],
    /// What `check` said of the command, if the event was one.
    pub(super) allowed: Option<bool>,
    pub(super) now: Timestamp,
    pub(super) record: &'a Record,
    /// What was said to each node, order by order.
    pub(super) said: &'a BTreeMap<NodeName, Order>,
    pub(super) journal: &'a [Fact],
}

/// Whether a sentence holds of a fact.
pub(super) type OfFact = fn(&Moment<'_>) -> Held;
/// The same, of a deployment at rest.
pub(super) type OfRest = fn(&Rest<'_>) -> Held;

/// Checked on every fact, just before it is applied.
pub(super) const ON_EVERY_FACT: &[(&str, OfFact)] = &[
    ("a_fact_has_the_time_at_which_it_became_true", a_fact_has_the_time_at_which_it_became_true),
    ("a_finished_deployment_says_nothing", a_finished_deployment_says_nothing),
    ("nothing_begins_while_a_person_is_waited_for", nothing_begins_while_a_person_is_waited_for),
    ("nothing_is_done_after_a_person_ended_it_where_it_is", nothing_is_done_after_a_person_ended_it_where_it_is),
    ("silence_proves_nothing", silence_proves_nothing),
    ("a_proof_answers_the_order_of_this_node", a_proof_answers_the_order_of_this_node),
    ("a_bake_is_outlived_in_one_life_and_for_good", a_bake_is_outlived_in_one_life_and_for_good),
    ("the_last_round_counts_only_its_own_nonces", the_last_round_counts_only_its_own_nonces),
    (
        "the_last_round_believes_nobody_who_has_not_outlived_the_bake",
        the_last_round_believes_nobody_who_has_not_outlived_the_bake,
    ),
    ("nobody_is_blamed_before_its_time_is_up", nobody_is_blamed_before_its_time_is_up),
    ("never_more_than_parallel_are_in_flight", budgets::never_more_than_parallel_are_in_flight),
    ("no_serving_node_is_taken_below_the_floor", budgets::no_serving_node_is_taken_below_the_floor),
    ("the_floor_holds_on_the_way_back_too", budgets::the_floor_holds_on_the_way_back_too),
    ("broken_nodes_go_first", budgets::broken_nodes_go_first),
    (
        "more_failures_than_allowed_are_passed_by_a_person_only",
        budgets::more_failures_than_allowed_are_passed_by_a_person_only,
    ),
    ("capacity_that_is_lost_stops_it", budgets::capacity_that_is_lost_stops_it),
    ("no_segment_starts_before_all_before_it_are_through", turns::no_segment_starts_before_all_before_it_are_through),
    ("nothing_follows_a_segment_that_may_undo_itself", turns::nothing_follows_a_segment_that_may_undo_itself),
    ("a_gate_is_passed_by_an_answer_to_its_own_asking", turns::a_gate_is_passed_by_an_answer_to_its_own_asking),
    ("a_gate_without_a_yes_is_passed_by_a_person_only", turns::a_gate_without_a_yes_is_passed_by_a_person_only),
    ("a_migration_runs_in_its_place", turns::a_migration_runs_in_its_place),
    ("a_migration_runs_again_by_a_persons_wish_only", turns::a_migration_runs_again_by_a_persons_wish_only),
    ("the_newest_segment_goes_back_first", turns::the_newest_segment_goes_back_first),
    ("only_who_was_ordered_goes_back", turns::only_who_was_ordered_goes_back),
    (
        "converged_means_that_every_expected_node_is_proven",
        verdicts::converged_means_that_every_expected_node_is_proven,
    ),
    ("converged_is_true_in_the_world", verdicts::converged_is_true_in_the_world),
    ("every_exception_has_a_valid_waiver", verdicts::every_exception_has_a_valid_waiver),
    ("rolled_back_means_that_every_node_is_proven_back", verdicts::rolled_back_means_that_every_node_is_proven_back),
    ("unproven_names_a_cause_or_a_node", verdicts::unproven_names_a_cause_or_a_node),
    ("only_a_person_aborts_or_supersedes", verdicts::only_a_person_aborts_or_supersedes),
];

/// Checked after every event.
pub(super) const AT_REST: &[(&str, OfRest)] = &[
    ("replaying_the_journal_gives_the_same_deployment", replaying_the_journal_gives_the_same_deployment),
    ("whoever_waits_says_why", whoever_waits_says_why),
    ("whoever_waits_is_woken_and_not_without_end", whoever_waits_is_woken_and_not_without_end),
    ("nobody_is_woken_too_late", nobody_is_woken_too_late),
    ("orders_said_one_by_one_are_the_whole", orders_said_one_by_one_are_the_whole),
    ("an_order_is_forward_or_back_to_what_the_node_held", an_order_is_forward_or_back_to_what_the_node_held),
    ("who_is_not_ordered_is_left_alone", who_is_not_ordered_is_left_alone),
    ("counts_are_what_a_recount_gives", counts_are_what_a_recount_gives),
    ("a_command_has_an_effect_exactly_when_it_is_not_refused", a_command_has_an_effect_exactly_when_it_is_not_refused),
    ("a_migration_is_told_to_one_node_under_one_number", turns::a_migration_is_told_to_one_node_under_one_number),
    ("who_joined_is_expected_and_who_left_is_not", who_joined_is_expected_and_who_left_is_not),
];

pub(super) fn ensure(holds: bool, why: impl FnOnce() -> String) -> Held {
    if holds { Ok(()) } else { Err(why()) }
}

/// The observation that arrived, if it is of this node.
fn observed<'a>(moment: &'a Moment, of: &NodeName) -> Option<&'a Observation> {
    match moment.event {
        Event::Observed { node, observation } if node == of => Some(observation),
        _ => None,
    }
}

fn a_fact_has_the_time_at_which_it_became_true(moment: &Moment) -> Held {
    ensure(moment.fact.at() == moment.now, || format!("{:?} at {:?}", moment.fact.at(), moment.now))
}

fn a_finished_deployment_says_nothing(moment: &Moment) -> Held {
    ensure(moment.before.outcome().is_none(), || "it was over".into())
}

/// Whether a fact begins something, rather than saying how something ended or what a person wants.
pub(super) fn begins(fact: &Fact) -> bool {
    match fact {
        Fact::SegmentStarted { .. }
        | Fact::NodesOrdered { .. }
        | Fact::GateStarted { .. }
        | Fact::MigrationStarted { .. }
        | Fact::Halted { .. }
        | Fact::SegmentRollbackStarted { .. }
        | Fact::NodesTurnedBack { .. }
        | Fact::VerificationStarted { .. } => true,
        // A person who ends it, or never decides, does not hold it up.
        Fact::RollbackStarted { cause, .. } | Fact::Stopped { cause, .. } => {
            !matches!(cause, Cause::NobodyDecided { .. } | Cause::Aborted { .. })
        }
        _ => false,
    }
}

fn nothing_begins_while_a_person_is_waited_for(moment: &Moment) -> Held {
    let waits = moment.before.paused().is_some() || moment.before.halted().is_some();
    ensure(!(waits && begins(moment.fact)), || format!("{:?}, {:?}", moment.before.paused(), moment.before.halted()))
}

fn nothing_is_done_after_a_person_ended_it_where_it_is(moment: &Moment) -> Held {
    ensure(!moment.record.is_left || matches!(moment.fact, Fact::Finished { .. }), || {
        "it was to be left as it is".into()
    })
}

fn silence_proves_nothing(moment: &Moment) -> Held {
    let proves = match moment.fact {
        Fact::NodeProven { node, .. }
        | Fact::NodeBaked { node, .. }
        | Fact::NodeRestored { node, .. }
        | Fact::NodeVerified { node, .. } => node,
        _ => return Ok(()),
    };
    let proof = observed(moment, proves).is_some_and(|seen| matches!(seen.seen, Seen::Proven { .. }));
    ensure(proof, || "nothing was proven".into())
}

fn a_proof_answers_the_order_of_this_node(moment: &Moment) -> Held {
    let spec = moment.before.spec();
    let (node, generation) = match moment.fact {
        Fact::NodeProven { node, .. } => (node, spec.generation),
        Fact::NodeRestored { node, .. } => (node, spec.rollback_generation),
        _ => return Ok(()),
    };
    let since = match moment.before.nodes().get(node) {
        Some(NodeState::Ordered { since } | NodeState::Restoring { since }) => *since,
        other => return Err(format!("it was {other:?}")),
    };
    let proof = observed(moment, node);
    ensure(proof.is_some_and(|seen| seen.asked_at >= since && seen.generation == generation), || {
        format!("ordered at {since:?} as {generation}, seen: {proof:?}")
    })
}

fn a_bake_is_outlived_in_one_life_and_for_good(moment: &Moment) -> Held {
    let Fact::NodeBaked { node, .. } = moment.fact else { return Ok(()) };
    let Phase::Baking { segment, since } = moment.before.phase() else { return Err("nothing bakes".into()) };
    let spec = moment.before.spec();
    let due = since.max(moment.listening_since).after(spec.bake);
    let proof = observed(moment, node);
    let outlived = proof.is_some_and(|seen| {
        let Seen::Proven { up, confirmation, .. } = &seen.seen else { return false };
        seen.asked_at >= due && up.0 + 1_000 >= spec.bake.0 && *confirmation == Confirmation::Given
    });
    ensure(outlived && spec.segments[segment].contains(node), || format!("bake ends at {due:?}, seen: {proof:?}"))
}

fn the_last_round_counts_only_its_own_nonces(moment: &Moment) -> Held {
    let Fact::NodeVerified { node, .. } = moment.fact else { return Ok(()) };
    let proof = observed(moment, node);
    let wanted = moment.before.order_for(node);
    let agent = moment.world.agent(node).ok_or("it has left the fleet")?;
    let counts = proof.is_some_and(|seen| {
        Some(seen.asked_at) >= moment.record.verification
            && seen.asked_at >= agent.born
            && wanted.as_ref().is_none_or(|order| order.generation == seen.generation)
            && matches!(seen.seen, Seen::Proven { confirmation: Confirmation::Given, .. })
    });
    ensure(counts, || {
        format!("the round began at {:?}, it joined at {:?}, seen: {proof:?}", moment.record.verification, agent.born)
    })?;
    let wanted = wanted.map(|order| order.hold);
    // The node was looked at between the question and now.
    let asked_at = proof.map_or(moment.now, |seen| seen.asked_at);
    let held = [asked_at, moment.now].map(|at| moment.world.holds(node, at));
    ensure(wanted.is_none() || held.contains(&wanted), || format!("it held {held:?}, and shall hold {wanted:?}"))
}

fn the_last_round_believes_nobody_who_has_not_outlived_the_bake(moment: &Moment) -> Held {
    let Fact::NodeVerified { node, .. } = moment.fact else { return Ok(()) };
    let state = moment.before.nodes().get(node);
    if moment.before.is_turned_back() || matches!(state, Some(NodeState::Proven { baked: Baked::Yes, .. })) {
        return Ok(());
    }
    let bake = moment.before.spec().bake;
    let outlived = observed(moment, node).is_some_and(|seen| match &seen.seen {
        Seen::Proven { up, .. } => up.0 + 1_000 >= bake.0,
        _ => false,
    });
    ensure(outlived, || format!("it was {state:?}, and the bake is {bake}"))
}

fn nobody_is_blamed_before_its_time_is_up(moment: &Moment) -> Held {
    let (Fact::NodeFailed { node, .. } | Fact::NodeNotRestored { node, .. } | Fact::NodeUnverified { node, .. }) =
        moment.fact
    else {
        return Ok(());
    };
    if observed(moment, node).is_some_and(|seen| matches!(seen.seen, Seen::Failed { .. })) {
        return Ok(());
    }
    let since = match (moment.before.nodes().get(node), moment.before.phase()) {
        (Some(NodeState::Ordered { since } | NodeState::Restoring { since }), _) => *since,
        (_, Phase::Verifying { since }) => since,
        // A proven node that bakes, or contradicts its proof.
        (Some(NodeState::Proven { since, .. }), _) => *since,
        (state, _) => return Err(format!("it is {state:?}")),
    };
    let spec = moment.before.spec();
    let index = moment.before.nodes.find(node).ok_or("it takes no part")?;
    let entry = moment.ears.nodes.entry(index);
    // Those in no segment are ordered when the last round begins, or when they join.
    let born = moment.world.agent(node).map(|agent| agent.born);
    let ordered = match (entry.segment, entry.wish) {
        (Some(_), _) | (None, Wish::Nothing) => born,
        (None, Wish::Forward | Wish::Back) => born.max(moment.record.verification),
    };
    let contradicts = moment.contradicts.get(index).cloned().flatten().map(|(from, _)| from);
    let contradicted = contradicts.is_some_and(|from| Some(from) >= ordered && moment.now.since(from) >= spec.settle);
    let waited = moment.now.since(since.max(moment.listening_since));
    let patience = if entry.segment.is_none() { spec.node_deadline.min(spec.absent_grace) } else { spec.node_deadline };
    ensure(contradicted || waited >= patience, || {
        format!("{node} had {waited} only; it contradicts since {contradicts:?}, ordered {ordered:?}")
    })
}

fn replaying_the_journal_gives_the_same_deployment(rest: &Rest) -> Held {
    ensure(rest.mirror == rest.after, || format!("{:#?}\nis not\n{:#?}", rest.mirror, rest.after))?;
    ensure(rest.after.facts() as usize == rest.journal.len(), || format!("{} facts", rest.after.facts()))
}

fn whoever_waits_says_why(rest: &Rest) -> Held {
    let waiting = rest.after.waiting_on(rest.now);
    if rest.after.outcome().is_some() {
        return ensure(waiting.is_none(), || format!("it is over, and waits: {waiting:?}"));
    }
    let waiting = waiting.ok_or("no reason")?;
    ensure(!waiting.to_string().is_empty(), || "no words".into())?;
    let named = match &waiting {
        WaitingOn::Resume { .. } | WaitingOn::Promotion { .. } | WaitingOn::Gate { .. } => true,
        WaitingOn::Proof { nodes, .. } | WaitingOn::Restoration { nodes, .. } | WaitingOn::Verification { nodes } => {
            !nodes.is_empty()
        }
        WaitingOn::Capacity { queued, .. } => !queued.is_empty(),
        WaitingOn::Bake { nodes, .. } | WaitingOn::Confirmation { nodes, .. } => !nodes.is_empty(),
        WaitingOn::Migration { node, .. } => node.is_some(),
        // Whatever could be done by itself is done.
        WaitingOn::NextTurn => false,
    };
    ensure(named, || format!("nobody and nothing is waited for: {waiting:?}"))
}

fn whoever_waits_is_woken_and_not_without_end(rest: &Rest) -> Held {
    let wake = rest.after.wake_at();
    match rest.after.outcome() {
        Some(_) => ensure(wake.is_none(), || format!("it is over, and wants to be woken at {wake:?}")),
        None => ensure(wake.is_some_and(|wake| wake > rest.now), || format!("it is {:?}, wake at {wake:?}", rest.now)),
    }
}

fn nobody_is_woken_too_late(rest: &Rest) -> Held {
    let Some(wake) = rest.after.wake_at() else { return Ok(()) };
    let mut asleep = rest.after.clone();
    let now = asleep.handle(&Event::Tick, rest.now);
    ensure(now.is_empty(), || format!("not everything was said at once: {now:?}"))?;
    let just_before = Timestamp(wake.0 - 1).max(rest.now);
    let missed = asleep.handle(&Event::Tick, just_before);
    ensure(missed.is_empty(), || format!("it wanted to be woken at {wake:?}, and 1 ms before there was {missed:?}"))
}

fn orders_said_one_by_one_are_the_whole(rest: &Rest) -> Held {
    let whole: BTreeMap<NodeName, Order> =
        rest.after.orders().into_iter().map(|order| (order.node.clone(), order)).collect();
    ensure(&whole == rest.said, || format!("said: {:?}\nwhole: {whole:?}", rest.said))
}

fn an_order_is_forward_or_back_to_what_the_node_held(rest: &Rest) -> Held {
    let spec = rest.after.spec();
    for order in rest.after.orders() {
        let joined = rest.after.nodes.entries().iter().find(|entry| entry.name == order.node);
        let joined = joined.and_then(|entry| entry.previous.as_ref());
        let is_right = if order.generation == spec.generation {
            order.hold == spec.target && order.confirm == spec.confirm
        } else {
            order.generation == spec.rollback_generation
                && Some(&order.hold) == joined.or(spec.previous.get(&order.node)).map(|previous| &previous.hold)
                && order.confirm == Millis(0)
                && rest.after.is_turned_back()
        };
        ensure(is_right && order.service == spec.service, || format!("{order:?}"))?;
    }
    Ok(())
}

fn who_is_not_ordered_is_left_alone(rest: &Rest) -> Held {
    for entry in rest.after.nodes.entries() {
        let ordered = entry.wish != Wish::Nothing;
        let is_right = match entry.state {
            NodeState::Pending => !ordered || (entry.segment.is_none() && rest.record.verification.is_some()),
            NodeState::Decommissioned { .. } => !ordered,
            NodeState::Ordered { .. } | NodeState::Proven { .. } | NodeState::Failed { .. } => {
                ordered && entry.segment.is_some()
            }
            // Those in no segment go back if they were ordered in a last round that a person ended.
            NodeState::Restoring { .. } | NodeState::Restored { .. } | NodeState::NotRestored { .. } => {
                ordered && (entry.segment.is_some() || rest.record.verification.is_some())
            }
            NodeState::Verified { .. } | NodeState::Unverified { .. } => rest.record.verification.is_some(),
        };
        ensure(is_right, || format!("{} is {:?}, wish {:?}", entry.name, entry.state, entry.wish))?;
    }
    Ok(())
}

fn counts_are_what_a_recount_gives(rest: &Rest) -> Held {
    let (counted, recounted) = (recount::counted(rest.after), recount::recounted(rest.after));
    ensure(counted == recounted, || format!("counted {counted:?}\nrecount {recounted:?}"))
}

fn a_command_has_an_effect_exactly_when_it_is_not_refused(rest: &Rest) -> Held {
    let Some(allowed) = rest.allowed else { return Ok(()) };
    let obeyed = rest.fresh.first().is_some_and(|fact| {
        matches!(
            fact,
            Fact::Paused { .. }
                | Fact::Resumed { .. }
                | Fact::Promoted { .. }
                | Fact::AbortRequested { .. }
                | Fact::Superseded { .. }
                | Fact::NodeWaived { .. }
        )
    });
    ensure(obeyed == allowed, || format!("refused: {}, obeyed: {obeyed}, {:?}", !allowed, rest.event))
}

fn who_joined_is_expected_and_who_left_is_not(rest: &Rest) -> Held {
    for node in rest.after.spec().expected().chain(&rest.record.joined) {
        let state = rest.after.nodes().get(node).ok_or_else(|| format!("{node} is forgotten"))?;
        let gone = matches!(state, NodeState::Decommissioned { .. });
        ensure(gone == rest.record.gone.contains(node), || format!("{node} is {state:?}"))?;
    }
    let known = rest.after.spec().size()
        + rest.record.joined.difference(&rest.after.spec().expected().cloned().collect()).count();
    ensure(rest.after.nodes().iter().count() == known, || "somebody takes part who is not expected".into())
}
