//! First what must never happen, over generated histories in a world that loses, repeats and delays; then the
//! stories an operator would tell.
#![allow(clippy::unwrap_used)]

use std::collections::BTreeMap;

use proptest::prelude::*;

use super::*;
use crate::release::Grade;
use crate::{Digest, Generation, Hold, Millis, NodeName, Order, Outcome, Timestamp};

const SECOND: u64 = 1_000;

fn hold(release: &str) -> Hold {
    Hold::Release { release: release.parse().unwrap(), bundle: Digest([1; 32]), size: 1 }
}
fn old() -> Hold {
    hold("r-aaaaaaaaaaaa")
}
fn new() -> Hold {
    hold("r-bbbbbbbbbbbb")
}
fn node(n: usize) -> NodeName {
    format!("n{n}").parse().unwrap()
}

fn spec(sizes: &[usize], absent: usize) -> Spec {
    let mut names = (1..).map(node);
    let segments: Vec<Vec<NodeName>> = sizes.iter().map(|&size| names.by_ref().take(size).collect()).collect();
    let absent: Vec<NodeName> = names.take(absent).collect();
    let previous = segments
        .iter()
        .flatten()
        .chain(&absent)
        .map(|n| (n.clone(), Previous { hold: old(), version: Some("1.0.0".parse().unwrap()) }))
        .collect();
    Spec {
        id: "d-test".parse().unwrap(),
        service: "web".parse().unwrap(),
        environment: "prod".into(),
        kind: Kind::Rollout,
        target: new(),
        version: "2.0.0".parse().unwrap(),
        segments,
        absent,
        previous,
        generation: Generation(10),
        rollback_generation: Generation(11),
        max_failures: Budget::Nodes(0),
        bake: Millis(5 * SECOND),
        node_deadline: Millis(60 * SECOND),
        settle: Millis(6 * SECOND),
        absent_grace: Millis(10 * SECOND),
        on_failure: OnFailure::Rollback,
        actor: "alice".into(),
        message: String::new(),
    }
}

fn start(spec: Spec) -> (Deployment, Vec<Fact>) {
    let planned = Fact::Planned { at: Timestamp(0), spec: Box::new(spec) };
    (Deployment::planned(&planned).unwrap(), vec![planned])
}

/// What a node of the world really does with orders.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Nature {
    /// Carries orders out in so many seconds.
    Good(u64),
    /// Fails the new release after so many seconds and is back on the old one.
    Refuses(u64),
    /// Says that it holds what it does not.
    Lies,
    /// Never answers.
    Silent,
    /// Holds the new release and falls back after so many seconds.
    FallsBack(u64),
    /// Cannot go back either.
    Stuck,
    /// Is away for so many seconds, then good.
    Late(u64),
}

struct World {
    natures: BTreeMap<NodeName, Nature>,
    taken: BTreeMap<NodeName, (Order, Timestamp)>,
    /// The highest generation each node was ever ordered.
    highest: BTreeMap<NodeName, Generation>,
}

impl World {
    fn new(natures: impl IntoIterator<Item = (NodeName, Nature)>) -> Self {
        Self { natures: natures.into_iter().collect(), taken: BTreeMap::new(), highest: BTreeMap::new() }
    }

    fn hear(&mut self, orders: Vec<Order>, now: Timestamp) {
        for order in orders {
            let highest = self.highest.entry(order.node.clone()).or_default();
            assert!(order.generation >= *highest, "an order goes back a generation: {order:?}");
            *highest = order.generation;
            let known = self.taken.get(&order.node).is_some_and(|(held, _)| held.generation >= order.generation);
            if !known {
                self.taken.insert(order.node.clone(), (order, now));
            }
        }
    }

    /// What really runs on a node: None while it changes or when nobody can know.
    fn really_holds(&self, node: &NodeName, now: Timestamp) -> Option<Hold> {
        let Some((order, since)) = self.taken.get(node) else { return Some(old()) };
        let age = now.since(*since).0;
        let forward = order.hold == new();
        match self.natures[node] {
            Nature::Good(s) => (age >= s * SECOND).then(|| order.hold.clone()),
            Nature::Refuses(s) => (age >= s * SECOND).then(old),
            Nature::Lies => Some(old()),
            Nature::Silent => None,
            Nature::FallsBack(s) if forward => Some(if age >= s * SECOND { old() } else { order.hold.clone() }),
            Nature::FallsBack(_) => Some(order.hold.clone()),
            Nature::Stuck if forward => (age >= SECOND).then(old),
            Nature::Stuck => None,
            Nature::Late(s) => (now.0 >= (s * SECOND) as i64 && age >= SECOND).then(|| order.hold.clone()),
        }
    }

    /// An honest comparison of what a node shall hold with what it really holds.
    fn observe(&self, node: &NodeName, asked_at: Timestamp) -> Option<Observation> {
        let nature = self.natures[node];
        if nature == Nature::Silent || matches!(nature, Nature::Late(s) if asked_at.0 < (s * SECOND) as i64) {
            return None;
        }
        let (generation, wanted, forward) = match self.taken.get(node) {
            Some((order, _)) => (order.generation, order.hold.clone(), order.hold == new()),
            None => (Generation(1), old(), false),
        };
        let seen = match (nature, self.really_holds(node, asked_at)) {
            (Nature::Stuck, None) if !forward => Seen::Failed { reason: "cannot go back".into() },
            (Nature::Refuses(_) | Nature::Stuck, Some(held)) if forward && held != wanted => {
                Seen::Failed { reason: "probe: 503".into() }
            }
            (_, Some(held)) if held == wanted => Seen::Proven { grade: Grade::Digest, up: Millis(u64::MAX) },
            (_, Some(_)) => Seen::Differs { reason: "old-process: pid 1".into() },
            (_, None) => Seen::Working { detail: "stage".into() },
        };
        Some(Observation { asked_at, generation, seen })
    }
}

/// What is checked after every event, whatever happened.
fn check_always(before: &Deployment, deployment: &Deployment, journal: &[Fact], fresh: &[Fact], now: Timestamp) {
    assert_eq!(&Deployment::replay(journal).unwrap(), deployment, "replaying the journal gives the same deployment");
    assert_eq!(deployment.facts() as usize, journal.len());
    if before.outcome().is_some() {
        assert!(fresh.is_empty(), "a finished deployment says nothing");
    }
    if deployment.outcome().is_none() {
        assert!(!deployment.waiting_on(now).unwrap().to_string().is_empty(), "whoever waits says why");
        assert!(deployment.wake_at().is_some(), "whoever waits is woken");
    } else {
        assert_eq!((deployment.wake_at(), deployment.waiting_on(now)), (None, None));
    }
    let spec = deployment.spec();
    for (k, pair) in deployment.segments().windows(2).enumerate() {
        if pair[1].started_at.is_some() {
            assert!(pair[0].baked_at.is_some(), "segment {} started before segment {k} had baked", k + 1);
        }
        if pair[0].rollback_at.is_some() && pair[1].started_at.is_some() {
            assert!(
                pair[1].rollback_at.is_some_and(|later| later <= pair[0].rollback_at.unwrap()),
                "newest segment goes back first"
            );
        }
    }
    for (name, state) in deployment.nodes() {
        let ordered = deployment.order_for(name).is_some();
        match state {
            NodeState::Pending => {}
            NodeState::Ordered { .. }
            | NodeState::Proven { .. }
            | NodeState::Restoring { .. }
            | NodeState::Restored { .. }
            | NodeState::NotRestored { .. }
            | NodeState::Failed { .. } => {
                assert!(ordered, "{name} is {state:?} without an order");
                assert!(!spec.absent.contains(name), "an absent node is ordered in the last round only");
            }
            NodeState::Verified { .. } | NodeState::Unverified { .. } => {}
        }
    }
    for order in deployment.orders() {
        let back = order.generation == spec.rollback_generation;
        assert_eq!(order.hold, if back { old() } else { new() });
    }
}

/// What is checked at the end.
fn check_end(deployment: &Deployment, journal: &[Fact], world: &World, now: Timestamp) {
    let spec = deployment.spec();
    let verified = |n: &NodeName| matches!(deployment.nodes()[n], NodeState::Verified { .. });
    let verification =
        journal.iter().find_map(|fact| if let Fact::VerificationStarted { at } = fact { Some(*at) } else { None });
    match deployment.outcome().unwrap() {
        Outcome::Converged => {
            for n in spec.expected() {
                assert!(verified(n), "Converged implies every expected node proven: {n}");
                assert!(
                    !matches!(world.natures[n], Nature::Lies | Nature::Silent | Nature::Refuses(_) | Nature::Stuck),
                    "{n} cannot have converged"
                );
            }
            assert!(verification.is_some() && !deployment.is_turned_back());
        }
        Outcome::RolledBack => {
            for n in spec.expected() {
                assert!(verified(n), "RolledBack implies every expected node proven back: {n}");
                assert_eq!(world.really_holds(n, now), Some(old()), "{n} is said to be back");
            }
        }
        Outcome::Unproven => assert!(
            deployment.cause().is_some()
                || spec.expected().any(|n| matches!(deployment.nodes()[n], NodeState::Unverified { .. })),
            "whoever is unproven is named"
        ),
        Outcome::Aborted => assert!(journal.iter().any(|fact| matches!(fact, Fact::AbortRequested { .. }))),
        Outcome::ConvergedWithWaivers => panic!("there are no waivers in these worlds"),
    }
}

/// What happens in one second of a generated history.
#[derive(Debug, Clone)]
struct Second {
    /// Messages of these nodes are lost.
    lost: u32,
    /// Messages of these nodes arrive again, this many seconds old.
    stale: u32,
    stale_by: u64,
    crash: bool,
    abort: Option<bool>,
}

fn second() -> impl Strategy<Value = Second> {
    (any::<u32>(), any::<u32>(), any::<u32>(), 1u64..40, 0u8..40, 0u16..600).prop_map(
        |(a, b, stale, stale_by, crash, abort)| Second {
            lost: a & b,
            stale,
            stale_by,
            crash: crash == 0,
            abort: match abort {
                0 => Some(true),
                1 => Some(false),
                _ => None,
            },
        },
    )
}

fn nature() -> impl Strategy<Value = Nature> {
    prop_oneof![
        12 => (0u64..8).prop_map(Nature::Good),
        1 => (0u64..8).prop_map(Nature::Refuses),
        1 => Just(Nature::Lies),
        1 => Just(Nature::Silent),
        1 => (1u64..30).prop_map(Nature::FallsBack),
        1 => Just(Nature::Stuck),
        1 => (1u64..90).prop_map(Nature::Late),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 400, ..ProptestConfig::default() })]

    #[test]
    fn nothing_that_must_never_happen_happens(
        sizes in prop::collection::vec(1usize..5, 1..6),
        absent in 0usize..3,
        natures in prop::collection::vec(nature(), 30),
        budget in prop_oneof![3 => Just(Budget::Nodes(0)), 1 => (1usize..4).prop_map(Budget::Nodes), 1 => (1u8..60).prop_map(Budget::Percent)],
        stop in any::<bool>(),
        bake in prop_oneof![Just(0u64), 1u64..12],
        seconds in prop::collection::vec(second(), 200),
    ) {
        let spec = Spec { max_failures: budget, bake: Millis(bake * SECOND), on_failure: if stop { OnFailure::Stop } else { OnFailure::Rollback }, ..spec(&sizes, absent) };
        let names: Vec<NodeName> = spec.expected().cloned().collect();
        let mut world = World::new(names.iter().cloned().zip(natures));
        let (mut deployment, mut journal) = start(spec);
        let mut now = Timestamp(0);
        let mut quiet = seconds.into_iter().map(Some).chain(std::iter::repeat(None));
        // 200 wild seconds, then calm: it must end.
        for _ in 0..4_000 {
            let wild = quiet.next().flatten();
            let mut events = vec![Event::Tick];
            for (i, name) in names.iter().enumerate() {
                let bit = 1u32 << (i % 32);
                if let Some(second) = &wild {
                    if second.stale & bit != 0 {
                        let then = Timestamp((now.0 - (second.stale_by * SECOND) as i64).max(0));
                        events.extend(world.observe(name, then).map(|observation| Event::Observed { node: name.clone(), observation }));
                    }
                    if second.lost & bit != 0 {
                        continue;
                    }
                }
                events.extend(world.observe(name, now).map(|observation| Event::Observed { node: name.clone(), observation }));
            }
            if let Some(roll_back) = wild.as_ref().and_then(|second| second.abort) {
                events.push(Event::Abort { by: "bob".into(), mode: if roll_back { AbortMode::RollBack } else { AbortMode::Leave } });
            }
            for event in events {
                let before = deployment.clone();
                let fresh = deployment.handle(&event, now);
                journal.extend(fresh.iter().cloned());
                check_always(&before, &deployment, &journal, &fresh, now);
            }
            if wild.as_ref().is_some_and(|second| second.crash) {
                deployment = Deployment::replay(&journal).unwrap();
                deployment.resume(now);
            }
            // The world hears only what was journaled before.
            world.hear(deployment.orders(), now);
            if deployment.outcome().is_some() {
                break;
            }
            now = now.after(Millis(SECOND));
        }
        prop_assert!(deployment.outcome().is_some(), "it never ends: {:?}", deployment.phase());
        check_end(&deployment, &journal, &world, now);
        let late_abort = Event::Abort { by: "x".into(), mode: AbortMode::Leave };
        prop_assert!(deployment.handle(&late_abort, now).is_empty());
    }
}

/// Plays a deployment in a calm world, one look per second, and returns the facts without times.
fn play(spec: Spec, natures: &[(usize, Nature)]) -> (Deployment, Vec<String>) {
    let names: Vec<NodeName> = spec.expected().cloned().collect();
    let nature_of = |name: &NodeName| {
        natures.iter().find(|(n, _)| node(*n) == *name).map_or(Nature::Good(1), |(_, nature)| *nature)
    };
    let mut world = World::new(names.iter().map(|name| (name.clone(), nature_of(name))));
    let (mut deployment, mut journal) = start(spec);
    let mut now = Timestamp(0);
    while deployment.outcome().is_none() {
        journal.extend(deployment.handle(&Event::Tick, now));
        world.hear(deployment.orders(), now);
        for name in &names {
            if let Some(observation) = world.observe(name, now) {
                journal.extend(deployment.handle(&Event::Observed { node: name.clone(), observation }, now));
                world.hear(deployment.orders(), now);
            }
        }
        now = now.after(Millis(SECOND));
        assert!(now < Timestamp(3_600_000), "the story has no end");
    }
    check_end(&deployment, &journal, &world, now);
    let tell = |fact: &Fact| {
        let segment = fact.segment().map(|s| format!(" {}", s + 1)).unwrap_or_default();
        let node = fact.node().map(|n| format!(" {n}")).unwrap_or_default();
        match fact {
            Fact::Finished { outcome, .. } => format!("finished {outcome}"),
            _ => format!("{}{segment}{node}", fact.kind()),
        }
    };
    (deployment, journal.iter().map(tell).collect())
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
            "node-proven n1",
            "node-proven n2",
            "segment-proven 1",
            "node-baked n1",
            "node-baked n2",
            "segment-baked 1",
            "segment-started 2",
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
        told[..7],
        [
            "planned",
            "segment-started 1",
            "node-proven n1",
            "node-failed n2",
            "rollback-started",
            "segment-rollback-started 1",
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
    assert!(matches!(deployment.nodes()[&node(2)], NodeState::Unverified { .. }), "and it is named");
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
            seen: Seen::Proven { grade: Grade::Digest, up: Millis(up) },
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
    let abort = |mode| Event::Abort { by: "bob".into(), mode };
    let facts = deployment.handle(&abort(AbortMode::RollBack), Timestamp(1));
    assert_eq!(
        facts.iter().map(Fact::kind).collect::<Vec<_>>(),
        ["abort-requested", "rollback-started", "segment-rollback-started"]
    );
    assert_eq!(deployment.handle(&abort(AbortMode::RollBack), Timestamp(2)), []);
    let facts = deployment.handle(&abort(AbortMode::Leave), Timestamp(3));
    assert_eq!(facts.iter().map(Fact::kind).collect::<Vec<_>>(), ["abort-requested", "finished"]);
    assert_eq!(deployment.outcome(), Some(Outcome::Aborted));
}

#[test]
fn an_abort_before_anything_was_ordered_touches_nothing() {
    let (mut deployment, _) = start(spec(&[1], 0));
    deployment.handle(&Event::Abort { by: "bob".into(), mode: AbortMode::RollBack }, Timestamp(0));
    assert_eq!(deployment.orders(), []);
    let observation = Observation {
        asked_at: Timestamp(1),
        generation: Generation(1),
        seen: Seen::Proven { grade: Grade::Digest, up: Millis(u64::MAX) },
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
            seen: Seen::Proven { grade: Grade::Digest, up: Millis(u64::MAX) },
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
    deployment.handle(&Event::Abort { by: "bob".into(), mode: AbortMode::RollBack }, Timestamp(200));
    let proof = |asked_at| {
        let seen = Seen::Proven { grade: Grade::Digest, up: Millis(u64::MAX) };
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
    deployment.handle(&observed(1, Seen::Proven { grade: Grade::Digest, up: Millis(u64::MAX) }), Timestamp(1));
    assert!(matches!(deployment.phase(), Phase::Verifying { .. }));
    let facts = deployment.handle(&observed(2, Seen::Failed { reason: "probe: 503".into() }), Timestamp(2));
    assert_eq!(facts.iter().map(Fact::kind).collect::<Vec<_>>(), ["node-unverified", "finished"]);
    assert_eq!(deployment.outcome(), Some(Outcome::Unproven));
}
