//! Stories of who is expected: nodes that join, come back, leave for good or are waived while a deployment runs, and the
//! absent.

use crate::deployment::tests::stories::play;
use crate::deployment::tests::witness::Witness;
use crate::deployment::tests::world::{Nature, SECOND, World, new, node, old, seconds, spec};
use crate::deployment::{
    AbortMode, Budget, Command, Event, Fact, NodeState, Observation, Phase, Previous, Seen, Spec, Waiver,
};
use crate::evidence::Confirmation;
use crate::release::Grade;
use crate::{Generation, Millis, NodeName, Outcome, Timestamp};

fn begin(spec: Spec, natures: &[(usize, Nature)]) -> Witness {
    let nature = |name: &NodeName| {
        natures.iter().find(|(n, _)| node(*n) == *name).map_or(Nature::Good(0), |(_, nature)| *nature)
    };
    let world = World::of(&spec, nature, Timestamp(0));
    let mut witness = Witness::new(spec, world, Timestamp(0));
    witness.tell(Event::Tick, Timestamp(0));
    witness
}

/// Looks at everybody, once a second, until something is reached.
fn until(witness: &mut Witness, now: &mut Timestamp, reached: impl Fn(&Witness) -> bool) {
    for _ in 0..1_000 {
        let names: Vec<_> = witness.deployment.nodes().iter().map(|(name, _)| name.clone()).collect();
        for name in names {
            if reached(witness) {
                return;
            }
            witness.look(&name, *now);
        }
        if reached(witness) {
            return;
        }
        *now = now.after(seconds(1));
        witness.tell(Event::Tick, *now);
    }
    panic!("never reached: {:?}", witness.deployment.phase());
}

fn is_verifying(witness: &Witness) -> bool {
    matches!(witness.deployment.phase(), Phase::Verifying { .. })
}

fn joins(witness: &mut Witness, n: usize, nature: Nature, now: Timestamp) -> Vec<Fact> {
    witness.world.join(&node(n), nature, old(), now);
    let previous = Previous { hold: old(), version: None };
    witness.tell(Event::Joined { node: node(n), previous }, now)
}

fn leaves(witness: &mut Witness, n: usize, now: Timestamp) -> Vec<Fact> {
    witness.world.leave(&node(n));
    witness.tell(Event::Decommissioned { node: node(n), by: "dave".into(), reason: "sold".into() }, now)
}

fn proof(n: usize, asked_at: Timestamp) -> Event {
    let seen = Seen::Proven { grade: Grade::Digest, up: Millis(u64::MAX), confirmation: Confirmation::Given };
    Event::Observed { node: node(n), observation: Observation { asked_at, generation: Generation(10), seen } }
}

#[test]
fn story_a_node_that_joins_is_ordered_last_and_belongs_to_the_verdict() {
    for (nature, outcome) in [(Nature::Good(1), Outcome::Converged), (Nature::Silent, Outcome::Unproven)] {
        let (mut witness, mut now) = (begin(spec(&[1, 1], 0), &[]), Timestamp(0));
        assert_eq!(joins(&mut witness, 9, nature, now)[0].kind(), "node-joined");
        assert_eq!(joins(&mut witness, 9, nature, now), [], "it is known");
        assert_eq!(witness.deployment.order_for(&node(9)), None, "it keeps what it holds until the last round");
        until(&mut witness, &mut now, is_verifying);
        assert_eq!(witness.deployment.order_for(&node(9)).unwrap().hold, new());
        until(&mut witness, &mut now, Witness::is_over);
        witness.close();
        assert_eq!(witness.deployment.outcome(), Some(outcome));
    }
}

#[test]
fn story_a_node_that_joins_in_the_last_round_is_ordered_at_once_and_has_its_own_time() {
    let (mut witness, mut now) = (begin(spec(&[1], 0), &[]), Timestamp(0));
    until(&mut witness, &mut now, is_verifying);
    now = now.after(seconds(9));
    joins(&mut witness, 9, Nature::Good(3), now);
    assert_eq!(witness.deployment.order_for(&node(9)).unwrap().hold, new());
    until(&mut witness, &mut now, Witness::is_over);
    assert_eq!(witness.deployment.outcome(), Some(Outcome::Converged));
}

#[test]
fn story_a_silent_node_that_is_decommissioned_holds_nobody_up() {
    let (mut witness, mut now) = (begin(spec(&[2, 1], 0), &[(2, Nature::Silent)]), Timestamp(0));
    until(&mut witness, &mut now, |witness| {
        matches!(witness.deployment.nodes().get(&node(1)), Some(NodeState::Proven { .. }))
    });
    let facts = leaves(&mut witness, 2, now);
    assert_eq!(facts.iter().map(Fact::kind).collect::<Vec<_>>(), ["node-decommissioned", "segment-proven"]);
    assert_eq!(witness.deployment.order_for(&node(2)), None);
    until(&mut witness, &mut now, Witness::is_over);
    witness.close();
    assert_eq!(witness.deployment.outcome(), Some(Outcome::Converged));
}

#[test]
fn nobody_left_to_prove_anything_proves_nothing() {
    let (mut witness, now) = (begin(spec(&[2], 0), &[]), Timestamp(0));
    leaves(&mut witness, 1, now);
    leaves(&mut witness, 2, now);
    assert_eq!(witness.deployment.outcome(), Some(Outcome::Unproven));
}

#[test]
fn story_a_waiver_is_the_only_way_past_a_node_and_is_in_the_outcome() {
    let waiver =
        |until: u64| Waiver { by: "carol".into(), reason: "fan".into(), until: Timestamp((until * SECOND) as i64) };
    for (until, outcome) in [(4_000, Outcome::ConvergedWithWaivers), (100, Outcome::Unproven)] {
        let waived = Spec { waivers: [(node(2), waiver(until))].into(), ..spec(&[2, 1], 0) };
        let (deployment, told) = play(waived, &[(2, Nature::Silent)]);
        assert!(told.contains(&"segment-started 2".to_owned()), "a waived failure is none");
        assert_eq!(deployment.outcome(), Some(outcome), "until {until}");
    }
}

#[test]
fn a_waiver_covers_nothing_from_its_end_on() {
    let until = Timestamp(5);
    let waiver = Waiver { by: "carol".into(), reason: "fan".into(), until };
    assert!(waiver.is_valid(Timestamp(4)) && !waiver.is_valid(until));
}

/// What its agent said before a machine was replaced says nothing of the machine that has its name now.
#[test]
fn a_proof_of_the_machine_before_it_proves_nothing_of_the_one_that_joined() {
    let (mut witness, mut now) = (begin(spec(&[1, 1], 0), &[]), Timestamp(0));
    until(&mut witness, &mut now, is_verifying);
    let before = now;
    now = now.after(seconds(1));
    leaves(&mut witness, 1, now);
    now = now.after(seconds(1));
    joins(&mut witness, 1, Nature::Silent, now);
    assert_eq!(witness.tell(proof(1, before), now), [], "it was asked in this round, and is another machine now");
    until(&mut witness, &mut now, Witness::is_over);
    assert_eq!(witness.deployment.outcome(), Some(Outcome::Unproven));
}

/// A node that comes back with the wrong thing before it is ordered is given its time from the order on.
#[test]
fn what_an_absent_node_ran_before_its_order_is_not_held_against_it() {
    let (mut witness, mut now) = (begin(spec(&[1], 1), &[(2, Nature::Broken)]), Timestamp(0));
    until(&mut witness, &mut now, is_verifying);
    assert!(matches!(witness.deployment.nodes().get(&node(2)), Some(NodeState::Pending)));
    until(&mut witness, &mut now, Witness::is_over);
    assert_eq!(witness.deployment.outcome(), Some(Outcome::Converged));
}

/// Failures within the budget are looked at in the last round, and a service that crashes all the time is proven
/// whenever it is asked at the right moment.
#[test]
fn a_service_that_keeps_crashing_is_not_verified_in_the_last_round_either() {
    let spec = Spec { max_failures: Budget::Nodes(1), ..spec(&[2], 0) };
    let (deployment, told) = play(spec, &[(1, Nature::Crashes)]);
    assert!(told.contains(&"node-failed n1".to_owned()) && told.contains(&"node-unverified n1".to_owned()), "{told:?}");
    assert_eq!(deployment.outcome(), Some(Outcome::Unproven));
}

#[test]
fn an_absent_node_must_outlive_the_bake_too() {
    let (deployment, told) = play(spec(&[1], 1), &[(2, Nature::FallsBack(3))]);
    assert!(told.contains(&"node-unverified n2".to_owned()), "{told:?}");
    assert_eq!(deployment.outcome(), Some(Outcome::Unproven));
}

/// Whoever has to outlive the bake in the last round has the time of the bake for it, besides that of every node.
#[test]
fn who_bakes_in_the_last_round_has_the_time_of_the_bake_too() {
    let (mut witness, mut now) = (begin(spec(&[1], 1), &[(2, Nature::Crashes)]), Timestamp(0));
    until(&mut witness, &mut now, is_verifying);
    let Phase::Verifying { since } = witness.deployment.phase() else { panic!() };
    until(&mut witness, &mut now, Witness::is_over);
    let unverified = witness.journal.iter().find(|fact| matches!(fact, Fact::NodeUnverified { .. })).unwrap();
    let Spec { node_deadline, bake, .. } = witness.deployment.spec();
    assert_eq!(unverified.node(), Some(&node(2)));
    assert_eq!(unverified.at(), since.after(*node_deadline).after(*bake), "it was there, and never old enough");
}

#[test]
fn a_node_that_is_not_confirmed_undoes_it_and_has_failed() {
    let unconfirmed = Spec { confirm: seconds(10), bake: Millis(0), ..spec(&[1, 1], 0) };
    let mut witness = begin(unconfirmed, &[]);
    let look = |witness: &mut Witness, at: u64| {
        let now = Timestamp((at * SECOND) as i64);
        let observation = witness.ask(&node(1), now).unwrap();
        witness.tell(Event::Observed { node: node(1), observation }, now)
    };
    assert_eq!(look(&mut witness, 1)[0].kind(), "node-proven");
    assert_eq!(look(&mut witness, 2), [], "the next segment waits for what the first may still undo");
    assert_eq!(
        witness.deployment.waiting_on(Timestamp(2_000)).unwrap().to_string(),
        "segment 1: n1 to reach the controller, or to undo it"
    );
    // The controller's confirmation never arrives.
    assert_eq!(look(&mut witness, 11)[0].kind(), "node-failed");
    assert!(witness.deployment.is_turned_back() && witness.deployment.order_for(&node(2)).is_none());
}

/// What differs on a node that is at work on its order is on its way; everywhere else it is drift.
#[test]
fn who_is_at_work_on_an_order_has_not_drifted() {
    let (mut witness, mut now) = (begin(spec(&[1, 1], 1), &[]), Timestamp(0));
    let web = witness.deployment.spec().service.clone();
    let pointed_at = |witness: &Witness| -> Vec<usize> {
        (1..=3).filter(|n| witness.deployment.is_pointing_at(&node(*n), &web)).collect()
    };
    assert_eq!(pointed_at(&witness), [1], "the others wait for their turn");
    assert!(!witness.deployment.is_pointing_at(&node(1), &"db".parse().unwrap()), "another service");
    until(&mut witness, &mut now, |witness| matches!(witness.deployment.phase(), Phase::Rolling { segment: 1 }));
    assert_eq!(pointed_at(&witness), [2]);
    let mut aborted = begin(spec(&[1, 1], 1), &[]);
    let command = Command::Abort { mode: AbortMode::RollBack };
    aborted.tell(Event::Told { by: "bob".into(), command }, Timestamp(0));
    assert_eq!(pointed_at(&aborted), [1], "it goes back");
    until(&mut witness, &mut now, is_verifying);
    assert_eq!(pointed_at(&witness), [3], "it is ordered in the last round");
    until(&mut witness, &mut now, Witness::is_over);
    assert_eq!(pointed_at(&witness), [0; 0]);
}

/// Those outside the segments are ordered in the last round only. If a person ends it then, with everybody to go back,
/// they go back too: an abort never leaves the fleet mixed without saying so.
#[test]
fn an_abort_in_the_last_round_takes_back_the_absent_and_those_who_joined() {
    let (mut witness, mut now) = (begin(spec(&[1], 1), &[(2, Nature::Good(3))]), Timestamp(0));
    joins(&mut witness, 9, Nature::Good(3), now);
    until(&mut witness, &mut now, is_verifying);
    assert_eq!(witness.deployment.order_for(&node(2)).unwrap().hold, new());
    assert_eq!(witness.deployment.order_for(&node(9)).unwrap().hold, new());
    let command = Command::Abort { mode: AbortMode::RollBack };
    witness.tell(Event::Told { by: "bob".into(), command }, now);
    until(&mut witness, &mut now, Witness::is_over);
    assert_eq!(witness.deployment.outcome(), Some(Outcome::Aborted));
    for n in [1, 2, 9] {
        let wanted = witness.deployment.order_for(&node(n)).map(|order| order.hold);
        assert_eq!(wanted, Some(old()), "n{n} was ordered forward, and shall go back");
    }
}
