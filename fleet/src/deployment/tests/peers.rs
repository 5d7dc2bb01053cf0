//! The vectors of CodeDeploy's minimum healthy hosts and of Ansible's batches, played through the whole engine against
//! agents, not only through the arithmetic (that is in `fleet/tests/peers.rs`, with the sources). The failure budget is
//! so high that only the rule under test can stop anything. Adopted is who is taken and when it stops; rejected is their
//! rule of success: nothing here converges with one node unproven.

use crate::capacity::{MinHealthy, Parallel, Shortage};
use crate::deployment::tests::witness::Witness;
use crate::deployment::tests::world::{Nature, World, node, seconds, spec};
use crate::deployment::{Budget, Cause, Event, Fact, NodeState, Spec};
use crate::segments::Segments;
use crate::{NodeName, Outcome, Timestamp};

/// What was seen of a deployment.
struct Played {
    /// The nodes taken by the first order.
    first: Vec<NodeName>,
    /// The most serving nodes that were out at once on the way forward.
    most_out: usize,
    /// How many were ordered forward at all.
    tried: usize,
    outcome: Outcome,
    cause: Option<Cause>,
    witness: Witness,
}

/// Plays it; the nodes named fail the new release, or do not answer at all.
fn play(spec: Spec, bad: &[usize], nature: Nature) -> Played {
    let broken = spec.unhealthy.clone();
    let nature_of = |name: &NodeName| match (bad.iter().any(|n| node(*n) == *name), broken.contains(name)) {
        (true, _) => nature,
        (false, true) => Nature::Broken,
        (false, false) => Nature::Good(1),
    };
    let names: Vec<NodeName> = spec.expected().cloned().collect();
    let world = World::of(&spec, nature_of, Timestamp(0));
    let mut witness = Witness::new(spec, world, Timestamp(0));
    let mut now = Timestamp(0);
    let mut most_out = 0;
    while !witness.is_over() {
        witness.tell(Event::Tick, now);
        for name in &names {
            witness.look(name, now);
            let out = |(node, state): &(&NodeName, &NodeState)| {
                matches!(state, NodeState::Ordered { .. }) && !broken.contains(node)
            };
            most_out = most_out.max(witness.deployment.nodes().iter().filter(out).count());
        }
        now = now.after(seconds(1));
        assert!(now < Timestamp(3_600_000), "it has no end");
    }
    witness.close();
    let mut ordered = witness.journal.iter().filter_map(|fact| match fact {
        Fact::NodesOrdered { nodes, .. } => Some(nodes.clone()),
        _ => None,
    });
    let first = ordered.next().unwrap_or_default();
    let tried = first.len() + ordered.map(|nodes| nodes.len()).sum::<usize>();
    let (outcome, cause) = (witness.deployment.outcome().unwrap(), witness.deployment.cause().cloned());
    Played { first, most_out, tried, outcome, cause, witness }
}

/// One segment of `total` nodes, the first of them broken, with this floor.
fn floored(total: usize, min_healthy: &str, broken: usize) -> Spec {
    let floor = min_healthy.parse::<MinHealthy>().unwrap().floor(total);
    let unhealthy = (1..=broken).map(node).collect();
    Spec { floor, unhealthy, max_failures: Budget::Percent(100), ..spec(&[total], 0) }
}

/// AWS CodeDeploy User Guide, "CodeDeploy instance health", the examples of `HOST_COUNT` and `FLEET_PERCENT`.
#[test]
fn codedeploy_so_many_at_a_time() {
    for (source, total, min_healthy, at_a_time) in [
        ("N=9 HOST_COUNT 6", 9, "6", 3),
        ("N=9 FLEET_PERCENT 40", 9, "40%", 5),
        ("N=10 HOST_COUNT 9", 10, "9", 1),
        ("N=10 HOST_COUNT 8", 10, "8", 2),
        ("N=10 FLEET_PERCENT 85", 10, "85%", 1),
        ("OneAtATime", 10, "codedeploy:OneAtATime", 1),
        ("HalfAtATime", 9, "codedeploy:HalfAtATime", 4),
        ("AllAtOnce", 10, "codedeploy:AllAtOnce", 10),
    ] {
        let played = play(floored(total, min_healthy, 0), &[], Nature::Good(1));
        assert_eq!((played.most_out, played.first.len()), (at_a_time, at_a_time), "{source}");
        assert_eq!((played.tried, played.outcome), (total, Outcome::Converged), "{source}");
    }
}

/// The same document: "the deployment fails immediately", and when it stops.
#[test]
fn codedeploy_stops_when_healthy_nodes_have_fallen_to_the_floor() {
    let fell = |healthy, floor| Some(Shortage::FellToFloor { healthy, floor });
    for (source, min_healthy, failing, tried, stopped) in [
        (
            "N=10 95 %: 10 must serve, nothing moves",
            "95%",
            &[][..],
            0,
            Some(Shortage::NoRoom { healthy: 10, floor: 10 }),
        ),
        ("N=10, 8: one failure goes on", "8", &[2], 10, None),
        ("N=10, 8: the second failure stops", "8", &[1, 2], 2, fell(8, 8)),
        ("N=10, 8: the second failure stops, whenever it is", "8", &[1, 4], 4, fell(8, 8)),
        ("N=10, 9: one failure stops", "9", &[3], 3, fell(9, 9)),
        ("N=10 85 %: one failure fails the deployment", "85%", &[1], 1, fell(9, 9)),
        ("N=10, 9: the last one may fail", "9", &[10], 10, None),
        ("AllAtOnce: nine of ten may fail", "codedeploy:AllAtOnce", &[1, 2, 3, 4, 5, 6, 7, 8, 9], 10, None),
    ] {
        let played = play(floored(10, min_healthy, 0), failing, Nature::Refuses(1));
        assert_eq!(played.tried, tried, "{source}");
        match stopped {
            Some(shortage) => {
                assert_eq!(played.cause, Some(Cause::CapacityLost { shortage }), "{source}");
                assert_eq!(played.outcome, Outcome::RolledBack, "{source}");
            }
            // CodeDeploy calls these a success. They are not.
            None => assert_eq!((played.outcome, played.cause), (Outcome::Unproven, None), "{source}"),
        }
    }
}

/// The same document: instances that are not healthy are deployed to first, since they cost no capacity.
#[test]
fn codedeploy_broken_nodes_go_first_and_cost_nothing() {
    for (source, min_healthy, broken, failing, first, most_out, outcome) in [
        ("seven healthy of ten, eight must be: only the broken ones go", "8", 3, &[][..], 3, 2, Outcome::Converged),
        ("nine healthy: the broken one goes and one other", "8", 1, &[], 2, 2, Outcome::Converged),
        ("none healthy: all go at once", "10", 10, &[], 10, 0, Outcome::Converged),
        ("one of three cannot be repaired: the others make room", "8", 3, &[1], 3, 1, Outcome::Unproven),
        ("two of three cannot be repaired: no room", "8", 3, &[1, 2], 3, 0, Outcome::Unproven),
    ] {
        let played = play(floored(10, min_healthy, broken), failing, Nature::Stuck);
        assert_eq!(played.first.len(), first, "{source}: {:?}", played.first);
        let those = |n: usize| played.first.contains(&node(n));
        assert!((1..=broken).all(those), "{source}: {:?}", played.first);
        assert_eq!((played.most_out, played.outcome), (most_out, outcome), "{source}");
    }
}

/// The floor is a floor for `parallel` too, and `parallel` a ceiling for the floor.
#[test]
fn the_smaller_of_parallel_and_floor_counts() {
    for (parallel, min_healthy, at_a_time) in
        [("2", "6", 2), ("5", "6", 3), ("25%", "0", 2), ("all", "6", 3), ("1", "0", 1), ("100%", "8", 1)]
    {
        let parallel: Parallel = parallel.parse().unwrap();
        let played = play(Spec { parallel, ..floored(9, min_healthy, 0) }, &[], Nature::Good(1));
        assert_eq!((played.most_out, played.outcome), (at_a_time, Outcome::Converged), "{parallel} {min_healthy}");
    }
}

/// Ansible's `serial`: the batches of its unit tests (ansible/ansible `test/units/executor/test_playbook_executor.py`),
/// each begun only when the one before is proven.
#[test]
fn ansible_serial_batches_follow_each_other() {
    for (serial, hosts, batches) in [
        ("1,2,3", 10, vec![1, 2, 3, 3, 1]),
        ("1,20%,-1", 10, vec![1, 2, 7]),
        ("20%", 11, vec![2, 2, 2, 2, 2, 1]),
        ("20%", 3, vec![1, 1, 1]),
    ] {
        let sizes = serial.parse::<Segments>().unwrap().cut(hosts);
        let played = play(spec(&sizes, 0), &[], Nature::Good(1));
        let mut told = Vec::new();
        let mut proven = 0;
        for fact in &played.witness.journal {
            match fact {
                Fact::NodesOrdered { nodes, .. } => {
                    assert_eq!(
                        proven,
                        told.iter().sum::<usize>(),
                        "{serial}: a batch began before the one before ended"
                    );
                    told.push(nodes.len());
                }
                Fact::NodeProven { .. } => proven += 1,
                _ => {}
            }
        }
        assert_eq!((told, played.outcome), (batches, Outcome::Converged), "{serial} of {hosts}");
    }
}

/// Ansible's `max_fail_percentage`: exceeded, not reached. **Different**: there unreachable hosts do not count, here
/// silence is failure; and what went on in spite of failures is a success there.
#[test]
fn ansible_max_fail_percentage_turns_back_when_exceeded() {
    for (source, percent, failing, turns_back) in [
        ("guide: 3 of 10 are not more than 30 %", 30, &[1, 2, 3][..], false),
        ("guide: 4 of 10 are", 30, &[1, 2, 3, 4], true),
        ("any failure at 0", 0, &[10], true),
        ("never at 100", 100, &[1, 2, 3, 4, 5, 6, 7, 8, 9, 10], false),
    ] {
        for nature in [Nature::Refuses(1), Nature::Silent, Nature::Lies, Nature::Stuck] {
            let played = play(Spec { max_failures: Budget::Percent(percent), ..spec(&[10], 0) }, failing, nature);
            let turned = matches!(played.cause, Some(Cause::BudgetExceeded { .. }));
            assert_eq!(turned, turns_back, "{source}, {nature:?}");
            assert!(
                !matches!(played.outcome, Outcome::Converged | Outcome::ConvergedWithWaivers),
                "{source}, {nature:?}"
            );
        }
    }
}

/// One node of a fleet is bad, in whichever way, wherever it is, and nothing would stop for it.
#[test]
fn nothing_converges_with_one_node_unproven() {
    for nature in
        [Nature::Refuses(1), Nature::Silent, Nature::Lies, Nature::Stuck, Nature::Crashes, Nature::FallsBack(3)]
    {
        for bad in 1..=5 {
            let tolerant = Spec { max_failures: Budget::Percent(100), ..spec(&[1, 2, 1], 1) };
            let played = play(tolerant, &[bad], nature);
            assert_eq!(played.outcome, Outcome::Unproven, "n{bad} {nature:?}");
        }
    }
}
