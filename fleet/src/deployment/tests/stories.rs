//! The stories an operator would tell, played in a calm world with one look at every node per second, and the small ones
//! about single rules. Where a story repeats a known accident, it says which.

use crate::deployment::tests::witness::Witness;
use crate::deployment::tests::world::{Nature, SECOND, World, new, node, spec};
use crate::deployment::{
    AbortMode, Budget, Command, Deployment, Event, Fact, NodeState, Observation, OnFailure, Phase, Seen, Spec,
};
use crate::evidence::Confirmation;
use crate::release::Grade;
use crate::{Generation, Millis, NodeName, Outcome, Timestamp};

fn start(spec: Spec) -> (Deployment, Vec<Fact>) {
    let planned = Fact::Planned { at: Timestamp(0), spec: Box::new(spec) };
    (Deployment::planned(&planned).unwrap(), vec![planned])
}

/// Plays a deployment and returns the facts without times.
pub(super) fn play(spec: Spec, natures: &[(usize, Nature)]) -> (Deployment, Vec<String>) {
    let nature_of = |name: &NodeName| {
        natures.iter().find(|(n, _)| node(*n) == *name).map_or(Nature::Good(1), |(_, nature)| *nature)
    };
    let names: Vec<NodeName> = spec.expected().cloned().collect();
    let world = World::of(&spec, nature_of, Timestamp(0));
    let mut witness = Witness::new(spec, world, Timestamp(0));
    let mut now = Timestamp(0);
    while !witness.is_over() {
        witness.tell(Event::Tick, now);
        names.iter().for_each(|name| witness.look(name, now));
        now = now.after(Millis(SECOND));
        assert!(now < Timestamp(3_600_000), "the story has no end");
    }
    witness.close();
    let told = witness.journal.iter().map(tell).collect();
    (witness.deployment, told)
}

fn tell(fact: &Fact) -> String {
    let segment = fact.segment().map(|s| format!(" {}", s + 1)).unwrap_or_default();
    let node = fact.node().map(|n| format!(" {n}")).unwrap_or_default();
    match fact {
        Fact::Finished { outcome, .. } => format!("finished {outcome}"),
        _ => format!("{}{segment}{node}", fact.kind()),
    }
}

#[test]
fn story_four_nodes_in_two_segments() {
    let (_, told) = play(spec(&[2, 2], 0), &[]);
    let round = told.iter().position(|line| line == "verification-started").unwrap();
    assert_eq!(
        told[..round],
        [
            "planned",
            "segment-started 1",
            "nodes-ordered 1",
            "node-proven n1",
            "node-proven n2",
            "segment-proven 1",
            "node-baked n1",
            "node-baked n2",
            "segment-baked 1",
            "segment-started 2",
            "nodes-ordered 2",
            "node-proven n3",
            "node-proven n4",
            "segment-proven 2",
            "node-baked n3",
            "node-baked n4",
            "segment-baked 2",
        ]
    );
    // The last round is answered in whichever order the looks fall.
    let mut answers = told[round + 1..told.len() - 1].to_vec();
    answers.sort();
    assert_eq!(answers, ["node-verified n1", "node-verified n2", "node-verified n3", "node-verified n4"]);
    assert_eq!(told.last().unwrap(), "finished converged");
}

#[test]
fn story_the_first_segment_fails_and_goes_back() {
    let (deployment, told) = play(spec(&[2, 2], 0), &[(2, Nature::Refuses(3))]);
    assert_eq!(deployment.outcome(), Some(Outcome::RolledBack));
    assert_eq!(
        told[..9],
        [
            "planned",
            "segment-started 1",
            "nodes-ordered 1",
            "node-proven n1",
            "node-failed n2",
            "rollback-started",
            "segment-rollback-started 1",
            "nodes-turned-back 1",
            "node-restored n1"
        ]
    );
    assert!(!told.contains(&"segment-started 2".to_owned()));
}

#[test]
fn story_the_newest_segment_goes_back_first() {
    let (deployment, told) = play(spec(&[1, 1, 1], 0), &[(2, Nature::Refuses(1))]);
    assert_eq!(deployment.outcome(), Some(Outcome::RolledBack));
    let back: Vec<_> = told.iter().filter(|line| line.starts_with("segment-rollback-started")).collect();
    assert_eq!(back, ["segment-rollback-started 2", "segment-rollback-started 1"]);
}

#[test]
fn story_rollback_goes_on_past_a_node_that_cannot_go_back() {
    let (deployment, told) = play(spec(&[1, 2], 0), &[(2, Nature::Stuck)]);
    assert_eq!(deployment.outcome(), Some(Outcome::Unproven));
    assert!(
        told.contains(&"node-not-restored n2".into())
            && told.contains(&"node-restored n3".into())
            && told.contains(&"node-restored n1".into())
    );
    assert!(matches!(deployment.nodes().get(&node(2)).unwrap(), NodeState::Unverified { .. }), "and it is named");
}

#[test]
fn story_without_rollback_the_fleet_stays_mixed_and_a_human_is_needed() {
    let (deployment, told) = play(Spec { on_failure: OnFailure::Stop, ..spec(&[1, 2], 0) }, &[(2, Nature::Refuses(1))]);
    assert_eq!(deployment.outcome(), Some(Outcome::Unproven));
    assert!(told.contains(&"stopped".into()) && !told.iter().any(|line| line.contains("rollback")));
}

/// Knight Capital, 1 August 2012: one of eight was missed, and nothing noticed.
#[test]
fn story_the_one_that_was_missed() {
    let (deployment, told) = play(spec(&[2, 2, 2, 1], 1), &[(8, Nature::Silent)]);
    assert_eq!(deployment.outcome(), Some(Outcome::Unproven), "seven of eight is not converged");
    assert_eq!(
        told.iter().filter(|line| line.starts_with("node-unverified")).collect::<Vec<_>>(),
        ["node-unverified n8"]
    );
    assert!(!told.iter().any(|line| line.contains("rollback")), "the seven correct servers are not touched");
    let order = deployment.order_for(&node(8)).unwrap();
    assert_eq!(order.hold, new(), "when it comes back it shall hold the new release");
}

#[test]
fn story_the_missed_one_comes_back_in_time() {
    let (deployment, _) = play(spec(&[2, 2, 2, 1], 1), &[(8, Nature::Late(30))]);
    assert_eq!(deployment.outcome(), Some(Outcome::Converged));
}

#[test]
fn story_an_old_process_is_kept_alive() {
    let (deployment, told) = play(spec(&[2, 2], 0), &[(1, Nature::Lies)]);
    assert_eq!(deployment.outcome(), Some(Outcome::RolledBack));
    assert!(told.contains(&"node-failed n1".into()));
}

#[test]
fn story_silence_in_the_middle_is_a_failure() {
    let (deployment, told) = play(spec(&[2, 2], 0), &[(3, Nature::Silent)]);
    assert_eq!(deployment.outcome(), Some(Outcome::Unproven), "it is not proven back either");
    assert!(told.contains(&"node-failed n3".into()) && told.contains(&"node-not-restored n3".into()));
}

#[test]
fn story_a_node_that_falls_back_while_it_bakes_fails() {
    let (deployment, told) = play(Spec { bake: Millis(30 * SECOND), ..spec(&[2, 2], 0) }, &[(1, Nature::FallsBack(8))]);
    assert!(told.contains(&"node-failed n1".into()) && !told.contains(&"segment-baked 1".into()));
    assert_eq!(deployment.outcome(), Some(Outcome::RolledBack));
}

#[test]
fn story_a_service_that_keeps_crashing_does_not_outlive_the_bake() {
    let (mut deployment, _) = start(Spec { bake: Millis(15 * SECOND), ..spec(&[1], 0) });
    deployment.handle(&Event::Tick, Timestamp(0));
    let proof = |at: i64, up| Event::Observed {
        node: node(1),
        observation: Observation {
            asked_at: Timestamp(at),
            generation: Generation(10),
            seen: Seen::Proven { grade: Grade::Digest, up: Millis(up), confirmation: Confirmation::Given },
        },
    };
    deployment.handle(&proof(0, 100), Timestamp(0));
    assert!(matches!(deployment.phase(), Phase::Baking { .. }));
    for second in 1..75 {
        assert_eq!(
            deployment.handle(&proof(second * 1_000, 2_000), Timestamp(second * 1_000)),
            [],
            "up for two seconds, at second {second}"
        );
    }
    let facts = deployment.handle(&Event::Tick, Timestamp(75_000));
    assert!(matches!(&facts[0], Fact::NodeFailed { reason, .. } if reason.contains("up for 2s")), "{facts:?}");
}

#[test]
fn story_failures_within_the_budget_do_not_make_it_converge() {
    let (deployment, told) =
        play(Spec { max_failures: Budget::Nodes(1), ..spec(&[2, 2], 0) }, &[(1, Nature::Refuses(1))]);
    assert!(told.contains(&"segment-baked 2".into()), "it goes on");
    assert_eq!(deployment.outcome(), Some(Outcome::Unproven), "but one node is not proven");
}

#[test]
fn aborts_are_idempotent_and_may_become_milder() {
    let (mut deployment, _) = start(spec(&[2, 2], 0));
    deployment.handle(&Event::Tick, Timestamp(0));
    let abort = |mode| Event::Told { by: "bob".into(), command: Command::Abort { mode } };
    let facts = deployment.handle(&abort(AbortMode::RollBack), Timestamp(1));
    assert_eq!(
        facts.iter().map(Fact::kind).collect::<Vec<_>>(),
        ["abort-requested", "rollback-started", "segment-rollback-started", "nodes-turned-back"]
    );
    assert_eq!(deployment.handle(&abort(AbortMode::RollBack), Timestamp(2)), []);
    let facts = deployment.handle(&abort(AbortMode::Leave), Timestamp(3));
    assert_eq!(facts.iter().map(Fact::kind).collect::<Vec<_>>(), ["abort-requested", "finished"]);
    assert_eq!(deployment.outcome(), Some(Outcome::Aborted));
}

#[test]
fn an_abort_before_anything_was_ordered_touches_nothing() {
    let (mut deployment, _) = start(spec(&[1], 0));
    deployment
        .handle(&Event::Told { by: "bob".into(), command: Command::Abort { mode: AbortMode::RollBack } }, Timestamp(0));
    assert_eq!(deployment.orders(), []);
    let observation = Observation {
        asked_at: Timestamp(1),
        generation: Generation(1),
        seen: Seen::Proven { grade: Grade::Digest, up: Millis(u64::MAX), confirmation: Confirmation::Given },
    };
    deployment.handle(&Event::Observed { node: node(1), observation }, Timestamp(1));
    assert_eq!(deployment.outcome(), Some(Outcome::Aborted));
}

#[test]
fn a_recorded_proof_from_before_the_order_does_not_count() {
    let (mut deployment, _) = start(Spec { bake: Millis(0), ..spec(&[1], 0) });
    deployment.handle(&Event::Tick, Timestamp(100));
    let proof = |asked_at, generation| Event::Observed {
        node: node(1),
        observation: Observation {
            asked_at: Timestamp(asked_at),
            generation: Generation(generation),
            seen: Seen::Proven { grade: Grade::Digest, up: Millis(u64::MAX), confirmation: Confirmation::Given },
        },
    };
    assert_eq!(deployment.handle(&proof(99, 10), Timestamp(101)), [], "asked before the order");
    assert_eq!(deployment.handle(&proof(101, 9), Timestamp(101)), [], "of another generation");
    let facts = deployment.handle(&proof(101, 10), Timestamp(102));
    assert_eq!(
        facts.iter().map(Fact::kind).collect::<Vec<_>>(),
        ["node-proven", "segment-proven", "segment-baked", "verification-started"]
    );
    assert_eq!(deployment.handle(&proof(101, 10), Timestamp(103)), [], "the last round wants a nonce of its own");
    assert_eq!(deployment.handle(&proof(102, 10), Timestamp(103)).last().unwrap().kind(), "finished");
}

#[test]
fn a_controller_that_was_away_does_not_blame_the_nodes() {
    let (mut deployment, mut journal) = start(spec(&[1], 0));
    journal.extend(deployment.handle(&Event::Tick, Timestamp(0)));
    let mut resumed = Deployment::replay(&journal).unwrap();
    let late = Timestamp(1_000_000);
    resumed.resume(late);
    assert_eq!(resumed.handle(&Event::Tick, late), []);
    assert_eq!(resumed.wake_at(), Some(late.after(Millis(60 * SECOND))));
}

#[test]
fn budgets_turn_back_when_exceeded_not_when_reached() {
    // Ansible: max_fail_percentage, `failed / batch_size > p / 100`, strict.
    assert!(!Budget::Percent(25).is_exceeded(1, 4));
    assert!(Budget::Percent(24).is_exceeded(1, 4));
    assert!(!Budget::Nodes(1).is_exceeded(1, 4));
    assert!(Budget::Nodes(0).is_exceeded(1, 4));
    assert!(!Budget::Percent(0).is_exceeded(0, 4));
    for bad in ["", "-1", "101%", "x", "1.5", "%"] {
        assert!(bad.parse::<Budget>().is_err(), "{bad}");
    }
}

#[test]
fn a_proof_from_before_the_order_back_does_not_count_as_restored() {
    let (mut deployment, _) = start(spec(&[1], 0));
    deployment.handle(&Event::Tick, Timestamp(100));
    deployment.handle(
        &Event::Told { by: "bob".into(), command: Command::Abort { mode: AbortMode::RollBack } },
        Timestamp(200),
    );
    let proof = |asked_at| {
        let seen = Seen::Proven { grade: Grade::Digest, up: Millis(u64::MAX), confirmation: Confirmation::Given };
        Event::Observed {
            node: node(1),
            observation: Observation { asked_at: Timestamp(asked_at), generation: Generation(11), seen },
        }
    };
    assert_eq!(deployment.handle(&proof(199), Timestamp(201)), []);
    assert_eq!(deployment.handle(&proof(200), Timestamp(201))[0].kind(), "node-restored");
}

#[test]
fn a_contradiction_is_called_by_its_name_long_before_the_deadline() {
    let (mut deployment, _) = start(spec(&[1], 0));
    deployment.handle(&Event::Tick, Timestamp(0));
    let seen = Seen::Differs { reason: "old-process: pid 7".into() };
    let differs = |at| Event::Observed {
        node: node(1),
        observation: Observation { asked_at: Timestamp(at), generation: Generation(10), seen: seen.clone() },
    };
    assert_eq!(deployment.handle(&differs(1_000), Timestamp(1_000)), [], "it is given time to settle");
    assert_eq!(deployment.wake_at(), Some(Timestamp(7_000)));
    assert_eq!(deployment.handle(&Event::Tick, Timestamp(6_999)), []);
    let facts = deployment.handle(&Event::Tick, Timestamp(7_000));
    assert_eq!(facts[0], Fact::NodeFailed { at: Timestamp(7_000), node: node(1), reason: "old-process: pid 7".into() });
}

#[test]
fn a_failure_in_the_last_round_is_named_at_once() {
    let (mut deployment, _) = start(Spec { bake: Millis(0), ..spec(&[1], 0) });
    deployment.handle(&Event::Tick, Timestamp(0));
    let observed = |asked_at, seen| Event::Observed {
        node: node(1),
        observation: Observation { asked_at: Timestamp(asked_at), generation: Generation(10), seen },
    };
    deployment.handle(
        &observed(1, Seen::Proven { grade: Grade::Digest, up: Millis(u64::MAX), confirmation: Confirmation::Given }),
        Timestamp(1),
    );
    assert!(matches!(deployment.phase(), Phase::Verifying { .. }));
    let facts = deployment.handle(&observed(2, Seen::Failed { reason: "probe: 503".into() }), Timestamp(2));
    assert_eq!(facts.iter().map(Fact::kind).collect::<Vec<_>>(), ["node-unverified", "finished"]);
    assert_eq!(deployment.outcome(), Some(Outcome::Unproven));
}
