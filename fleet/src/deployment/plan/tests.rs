//! Planning as tables: who goes where and why, what forbids it, what is refused, and when a plan is stale. Then its laws:
//! everybody is in exactly one place, and the same question has the same answer however it is asked.
#![allow(clippy::unwrap_used)]

use std::collections::BTreeSet;

use proptest::prelude::*;

use super::*;
use crate::Digest;
use crate::deployment::{Place, Source};

fn hold(release: &str) -> Hold {
    Hold::Release { release: release.parse().unwrap(), bundle: Digest([1; 32]), size: 1 }
}

fn old() -> Hold {
    hold("r-aaaaaaaaaaaa")
}

fn new() -> Hold {
    hold("r-bbbbbbbbbbbb")
}

fn name(n: usize) -> NodeName {
    format!("n{n}").parse().unwrap()
}

/// A node that serves the old release.
fn candidate(n: usize) -> Candidate {
    Candidate {
        node: name(n),
        labels: BTreeMap::new(),
        presence: Presence::Present,
        condition: Condition::Old,
        holds: Previous { hold: old(), version: None },
        block: None,
    }
}

fn candidates(n: usize) -> Vec<Candidate> {
    (1..=n).map(candidate).collect()
}

fn absent(n: usize) -> Candidate {
    Candidate { presence: Presence::Absent("silent for 4m".into()), condition: Condition::Unknown, ..candidate(n) }
}

fn current(n: usize) -> Candidate {
    let holds = Previous { hold: new(), version: None };
    Candidate { condition: Condition::Current, holds, ..candidate(n) }
}

fn in_zone(n: usize, zone: &str) -> Candidate {
    let labels = [("az", zone), ("rack", "r1")].map(|(label, value)| (label.to_owned(), value.to_owned()));
    Candidate { labels: labels.into(), ..candidate(n) }
}

fn waiver() -> Waiver {
    Waiver { by: "carol".into(), reason: "fan".into(), until: Timestamp(1_000_000) }
}

fn request(segments: &str) -> Request {
    Request {
        service: "web".parse().unwrap(),
        environment: "prod".into(),
        kind: Kind::Rollout,
        target: new(),
        version: "2.0.0".parse().unwrap(),
        canary: Canary(0),
        segments: segments.parse().unwrap(),
        sequence: Sequence::Name,
        parallel: Parallel::All,
        min_healthy: MinHealthy::Count(0),
        max_failures: Budget::Nodes(0),
        bake: Millis(5_000),
        gates: Vec::new(),
        pause_after: BTreeSet::new(),
        migration: None,
        confirm: Millis(30_000),
        node_deadline: Millis(60_000),
        absent_grace: Millis(10_000),
        pause_deadline: Millis(600_000),
        on_failure: OnFailure::Rollback,
        waivers: BTreeMap::new(),
        waive_absent: None,
        limit: String::new(),
        actor: "alice".into(),
        message: "fixes the cart".into(),
    }
}

fn make(request: &Request, candidates: Vec<Candidate>) -> Result<Plan, Refusal> {
    plan(request, candidates, "p-test".parse().unwrap(), Some("d-before".parse().unwrap()), Timestamp(7))
}

/// The segments as numbers of nodes, separated by bars.
fn shown(plan: &Plan) -> String {
    let of =
        |nodes: &[Candidate]| nodes.iter().map(|node| node.node.as_str()[1..].to_owned()).collect::<Vec<_>>().join(" ");
    let segments: Vec<String> = plan.segments.iter().map(|segment| of(segment)).collect();
    let absent = if plan.absent.is_empty() { String::new() } else { format!(" / {}", of(&plan.absent)) };
    segments.join(" | ") + &absent
}

#[test]
fn nodes_are_cut_into_segments_in_order_after_the_canary() {
    for (segments, canary, nodes, expected) in [
        ("1", 0, 4, "1 2 3 4"),
        ("2", 0, 5, "1 2 3 | 4 5"),
        ("4", 1, 9, "1 | 2 3 | 4 5 | 6 7 | 8 9"),
        ("1,25%,100%", 0, 8, "1 | 2 3 | 4 5 6 7 8"),
        ("1,2,3", 0, 10, "1 | 2 3 | 4 5 6 | 7 8 9 | 10"),
        ("growing", 0, 9, "1 | 2 3 | 4 5 6 7 | 8 9"),
        ("growing", 2, 7, "1 2 | 3 | 4 5 | 6 7"),
        ("4", 0, 2, "1 | 2"),
        ("1", 9, 3, "1 2 3"),
    ] {
        let asked = Request { canary: Canary(canary), ..request(segments) };
        // They come in any order; n10 is after n9.
        let nodes: Vec<_> = candidates(nodes).into_iter().rev().collect();
        assert_eq!(shown(&make(&asked, nodes).unwrap()), expected, "{segments} after {canary}");
    }
}

#[test]
fn the_broken_go_first_and_those_who_hold_it_last() {
    let conditions = [Condition::Current, Condition::Old, Condition::Unknown, Condition::Unhealthy, Condition::Old];
    let of = |(n, condition): (usize, &Condition)| Candidate { condition: *condition, ..candidate(n + 1) };
    let plan = make(&request("5,rest"), conditions.iter().enumerate().map(of).collect()).unwrap();
    assert_eq!(shown(&plan), "4 3 2 5 1");
    assert_eq!(plan.serving, 3, "the old and the current");
    let spec = plan.spec("d-1".parse().unwrap(), Generation(5), "bob".into());
    assert_eq!(spec.unhealthy, [name(3), name(4)].into(), "changing these costs no capacity");
}

#[test]
fn failure_domains_are_spread_over_the_segments() {
    let zones = ["a", "a", "a", "a", "b", "b", "b", "b"];
    let nodes = || zones.iter().enumerate().map(|(n, zone)| in_zone(n + 1, zone)).collect();
    let asked = Request { sequence: "spread:az".parse().unwrap(), ..request("4") };
    let plan = make(&asked, nodes()).unwrap();
    assert_eq!(shown(&plan), "1 5 | 2 6 | 3 7 | 4 8", "each segment has one of each zone");
    assert_eq!(shown(&make(&request("4"), nodes()).unwrap()), "1 2 | 3 4 | 5 6 | 7 8", "by name they are not");
    let labels: BTreeSet<&str> = plan.candidates().flat_map(|node| node.labels.keys().map(String::as_str)).collect();
    assert_eq!(labels, ["az"].into(), "labels that have no part in the plan are not kept in it");
}

#[test]
fn a_shuffle_is_the_same_whenever_it_is_planned_and_another_for_another_version() {
    let asked = Request { sequence: Sequence::Random, ..request("1") };
    let first = make(&asked, candidates(20)).unwrap();
    let other = plan(&asked, candidates(20), "p-other".parse().unwrap(), None, Timestamp(99)).unwrap();
    assert_eq!(first.segments, other.segments);
    assert_ne!(shown(&first), shown(&make(&request("1"), candidates(20)).unwrap()));
    let newer = Request { version: "2.0.1".parse().unwrap(), ..asked };
    assert_ne!(
        shown(&first),
        shown(&make(&newer, candidates(20)).unwrap()),
        "not always the same node is first to break"
    );
}

#[test]
fn the_absent_are_in_no_segment_and_are_warned_of() {
    let plan = make(&request("2"), vec![candidate(1), absent(2), candidate(3), absent(10), absent(9)]).unwrap();
    assert_eq!(shown(&plan), "1 | 3 / 2 9 10");
    assert_eq!(plan.warnings.len(), 3);
    for part in ["n2: silent for 4m", "unproven (exit 4)", "--waive n2=REASON"] {
        assert!(plan.warnings[0].contains(part), "{}", plan.warnings[0]);
    }
    assert_eq!(plan.blocks, [], "the absent forbid nothing: they are waited for at the end");
    let spec = plan.spec("d-1".parse().unwrap(), Generation(5), "bob".into());
    assert_eq!(spec.absent, [name(2), name(9), name(10)]);
    assert_eq!((spec.size(), spec.previous.len()), (5, 5), "each has something to go back to");
}

#[test]
fn waivers_are_named_or_for_whoever_is_absent() {
    let nodes = || vec![candidate(1), absent(2), candidate(3)];
    let spec =
        |asked: &Request| make(asked, nodes()).unwrap().spec("d-1".parse().unwrap(), Generation(5), "bob".into());
    let named = Request { waivers: [(name(3), waiver())].into(), ..request("1") };
    assert_eq!(spec(&named).waivers.keys().collect::<Vec<_>>(), [&name(3)]);
    let absent_too = Request { waive_absent: Some(waiver()), ..named.clone() };
    assert_eq!(spec(&absent_too).waivers.keys().collect::<Vec<_>>(), [&name(2), &name(3)]);
    let words = make(&absent_too, nodes()).unwrap().warnings.join("\n");
    assert!(words.contains("waived by carol: fan") && !words.contains("exit 4"), "{words}");
    let other = Waiver { reason: "moving".into(), ..waiver() };
    let both = Request { waivers: [(name(2), other)].into(), ..absent_too };
    assert_eq!(spec(&both).waivers[&name(2)].reason, "moving", "the one with its name counts");
    let stranger = Request { waivers: [(name(9), waiver())].into(), ..request("1") };
    assert_eq!(make(&stranger, nodes()), Err(Refusal::NoSuchNode { node: name(9) }));
}

#[test]
fn what_is_in_the_way_of_one_node_blocks_the_plan_unless_it_is_waived_or_holds_it_already() {
    let full = |candidate: Candidate| Candidate { block: Some("2 MB free, 40 MB needed".into()), ..candidate };
    let asked = request("1");
    let plan = make(&asked, vec![candidate(1), full(candidate(2))]).unwrap();
    assert_eq!(plan.blocks.len(), 1);
    assert_eq!((plan.blocks[0].node.clone(), plan.blocks[0].why.as_str()), (Some(name(2)), "2 MB free, 40 MB needed"));
    assert!(plan.blocks[0].help.contains("--waive n2=REASON"), "{}", plan.blocks[0].help);
    let waived = Request { waivers: [(name(2), waiver())].into(), ..asked.clone() };
    assert_eq!(make(&waived, vec![candidate(1), full(candidate(2))]).unwrap().blocks, []);
    assert_eq!(make(&asked, vec![candidate(1), full(current(2))]).unwrap().blocks, [], "nothing is copied to it");
    assert_eq!(
        make(&asked, vec![candidate(1), full(absent(2))]).unwrap().blocks,
        [],
        "nobody knows what it is like now"
    );
}

/// CodeDeploy: "the deployment fails immediately". Here it is not even begun.
#[test]
fn a_floor_that_lets_nobody_go_blocks_the_plan() {
    let broken = |n| Candidate { condition: Condition::Unhealthy, ..candidate(n) };
    for (source, min_healthy, nodes, floor, blocked) in [
        ("N=10 95 %", "95%", candidates(10), 10, true),
        ("N=10 HOST_COUNT 9", "9", candidates(10), 9, false),
        ("N=10 85 %", "85%", candidates(10), 9, false),
        ("N=10 HOST_COUNT 10", "10", candidates(10), 10, true),
        ("more than there are", "11", candidates(10), 11, true),
        ("one absent of ten, nine must serve", "9", [candidates(9), vec![absent(10)]].concat(), 9, true),
        ("one absent of ten, eight must serve", "8", [candidates(9), vec![absent(10)]].concat(), 8, false),
        ("a percentage is of all that are expected", "90%", [candidates(9), vec![absent(10)]].concat(), 9, true),
        ("all hold it already: nobody is taken out", "100%", (1..=4).map(current).collect(), 4, false),
        ("all are broken: they cost nothing", "100%", (1..=4).map(broken).collect(), 4, false),
        ("OneAtATime", "codedeploy:OneAtATime", candidates(10), 9, false),
        ("HalfAtATime of one", "codedeploy:HalfAtATime", candidates(1), 1, true),
        ("AllAtOnce", "codedeploy:AllAtOnce", candidates(10), 0, false),
    ] {
        let plan = make(&Request { min_healthy: min_healthy.parse().unwrap(), ..request("1") }, nodes).unwrap();
        assert_eq!(plan.floor, floor, "{source}");
        assert_eq!(!plan.blocks.is_empty(), blocked, "{source}: {:?}", plan.blocks);
        if let Some(block) = plan.blocks.first() {
            assert!(block.node.is_none() && block.why.contains(min_healthy), "{source}: {}", block.why);
            assert!(block.help.contains("lower --min-healthy"), "{source}: {}", block.help);
        }
    }
}

#[test]
fn nothing_to_change_is_said_and_planned_all_the_same() {
    let plan = make(&request("2"), vec![current(1), current(2)]).unwrap();
    assert_eq!((plan.to_change, shown(&plan).as_str()), (0, "1 | 2"));
    assert!(plan.warnings[0].contains("proven again, nothing is restarted"), "{:?}", plan.warnings);
    let mixed = make(&request("2"), vec![current(1), candidate(2), absent(3)]).unwrap();
    assert_eq!((mixed.to_change, shown(&mixed).as_str()), (2, "2 | 1 / 3"));
}

#[test]
fn nobody_and_nobody_there_are_refused_with_what_to_do() {
    let none = make(&request("1"), Vec::new()).unwrap_err();
    assert!(matches!(&none, Refusal::NoNodes { service } if service.as_str() == "web"));
    assert!(none.to_string().contains("fleetctl tokens create"), "{none}");
    let away = make(&request("1"), vec![absent(1), absent(2)]).unwrap_err();
    assert_eq!(away, Refusal::NobodyPresent { expected: 2 });
    assert!(away.to_string().contains("fleetctl nodes list"), "{away}");
}

#[test]
fn what_is_tied_to_a_segment_that_there_is_not_is_refused() {
    let gate = |after| Gate {
        name: "errors".into(),
        source: Source::Metric { query: "errors".into() },
        after,
        deadline: Millis(1),
    };
    let migration = |place| Migration { name: "m".into(), command: "m".into(), place, timeout: Millis(1) };
    // Four nodes in three segments.
    let asked = || request("3");
    for (what, request, refused) in [
        ("--pause-after", Request { pause_after: [2].into(), ..asked() }, None),
        ("--pause-after", Request { pause_after: [0, 3].into(), ..asked() }, Some(4)),
        ("a gate", Request { gates: vec![gate(None), gate(Some(2))], ..asked() }, None),
        ("a gate", Request { gates: vec![gate(None), gate(Some(7))], ..asked() }, Some(8)),
        ("the migration", Request { migration: Some(migration(Place::Before(2))), ..asked() }, None),
        ("the migration", Request { migration: Some(migration(Place::After(2))), ..asked() }, None),
        ("the migration", Request { migration: Some(migration(Place::Before(3))), ..asked() }, Some(4)),
        ("the migration", Request { migration: Some(migration(Place::After(3))), ..asked() }, Some(4)),
    ] {
        let made = make(&request, candidates(4));
        match refused {
            None => assert_eq!(made.unwrap().segments.len(), 3, "{what}"),
            Some(segment) => {
                let refusal = made.unwrap_err();
                assert_eq!(refusal, Refusal::NoSuchSegment { what, segment, segments: 3 });
                let words = refusal.to_string();
                assert!(words.contains(what) && words.contains("there are 3"), "{words}");
            }
        }
    }
}

#[test]
fn a_plan_becomes_the_deployment_that_was_shown() {
    let asked = Request {
        canary: Canary(1),
        pause_after: [0].into(),
        parallel: Parallel::Count(2),
        min_healthy: MinHealthy::Percent(50),
        ..request("2")
    };
    let plan = make(&asked, [candidates(5), vec![absent(6)]].concat()).unwrap();
    let spec = plan.spec("d-1".parse().unwrap(), Generation(5), "bob".into());
    assert_eq!(spec.segments, [vec![name(1)], vec![name(2), name(3)], vec![name(4), name(5)]]);
    assert_eq!((spec.generation, spec.rollback_generation), (Generation(5), Generation(6)));
    assert_eq!((spec.floor, spec.parallel, spec.pause_after.clone()), (3, Parallel::Count(2), [0].into()));
    assert_eq!((spec.plan.clone(), spec.supersedes.clone()), (Some("p-test".parse().unwrap()), None));
    assert_eq!((spec.actor.as_str(), spec.message.as_str()), ("bob", "fixes the cart"));
    assert_eq!(spec.previous[&name(6)].hold, old());
    let (text, again) = (serde_json::to_string(&plan).unwrap(), serde_json::to_string(&spec).unwrap());
    assert_eq!(serde_json::from_str::<Plan>(&text).unwrap(), plan, "a plan survives being kept");
    assert_eq!(serde_json::from_str::<Spec>(&again).unwrap(), spec);
}

/// A change to the third of four nodes, in two segments of two.
fn changed(change: impl Fn(&mut Candidate)) -> Vec<String> {
    let (then, mut now) = (candidates(4), candidates(4));
    change(&mut now[2]);
    let asked = Request { sequence: "spread:az".parse().unwrap(), ..request("2") };
    make(&asked, then).unwrap().differences(&make(&asked, now).unwrap())
}

#[test]
fn every_change_that_matters_makes_a_plan_stale() {
    type Change = fn(&mut Candidate);
    let changes: &[(Change, &str)] = &[
        (|node| node.presence = Presence::Absent("silent for 4m".into()), "n3 has gone: silent for 4m"),
        (|node| node.holds.hold = hold("r-cccccccccccc"), "n3 holds something else"),
        (|node| node.holds.hold = Hold::Nothing, "n3 holds something else"),
        (|node| node.condition = Condition::Unhealthy, "n3 does not serve any more"),
        (|node| node.condition = Condition::Unknown, "n3 does not serve any more"),
        (|node| node.block = Some("disk full".into()), "n3: disk full"),
        (|node| node.condition = Condition::Current, ""),
        (|node| node.holds.version = Some("1.0.1".parse().unwrap()), ""),
        (|node| drop(node.labels.insert("rack".into(), "r2".into())), ""),
    ];
    for (change, expected) in changes {
        let found = changed(change);
        assert_eq!(found.is_empty(), expected.is_empty(), "{expected}: {found:?}");
        assert!(expected.is_empty() || found.contains(&(*expected).to_owned()), "{expected}: {found:?}");
    }
    assert_eq!(changed(|_| {}), [""; 0]);
}

#[test]
fn a_change_is_told_from_both_sides() {
    let asked = request("2");
    let full = |nodes: Vec<Candidate>| make(&asked, nodes).unwrap();
    let broken = |n| Candidate { condition: Condition::Unhealthy, ..candidate(n) };
    let with_third = |third| full([candidates(2), vec![third]].concat());
    for (then, now, expected) in [
        (full(candidates(3)), full(candidates(2)), "n3 is expected no longer"),
        (full(candidates(2)), full(candidates(3)), "n3 is new"),
        (with_third(absent(3)), full(candidates(3)), "n3 has come back"),
        (with_third(broken(3)), full(candidates(3)), "n3 serves again"),
        // Who was left alone is put elsewhere, since another one goes first now.
        (full(candidates(3)), with_third(broken(3)), "n2 would be in another segment"),
    ] {
        let found = then.differences(&now);
        assert!(found.iter().any(|line| line == expected), "{expected}: {found:?}");
        assert_eq!(then.differences(&then), [""; 0]);
    }
    // That a node is away for another reason, or longer, does not matter.
    let longer = Candidate { presence: Presence::Absent("silent for 9m".into()), ..absent(3) };
    assert_eq!(with_third(absent(3)).differences(&with_third(longer)), [""; 0]);
}

#[test]
fn a_plan_is_for_the_fleet_after_its_parent_and_keeps_its_blocks() {
    let asked = request("1");
    let of = |parent: Option<&str>| {
        let parent = parent.map(|id| id.parse().unwrap());
        plan(&asked, candidates(2), "p-test".parse().unwrap(), parent, Timestamp(7)).unwrap()
    };
    assert_eq!(of(Some("d-1")).differences(&of(Some("d-1"))), [""; 0]);
    assert_eq!(of(Some("d-1")).differences(&of(Some("d-2"))), ["the newest deployment was d-1 and is now d-2"]);
    assert_eq!(of(None).differences(&of(Some("d-2"))), ["the newest deployment was none and is now d-2"]);
    let floor = Request { min_healthy: MinHealthy::Count(2), ..asked };
    let blocked = make(&floor, candidates(2)).unwrap();
    assert_eq!(blocked.blocks.len(), 1);
    assert_eq!(blocked.differences(&blocked), [""; 0], "what was in the way already is no news");
}

fn any_candidate(n: usize) -> impl Strategy<Value = Candidate> {
    let condition = prop_oneof![
        1 => Just(Condition::Unhealthy),
        1 => Just(Condition::Unknown),
        4 => Just(Condition::Old),
        1 => Just(Condition::Current)
    ];
    (condition, 0u8..8, 0u8..4, any::<bool>()).prop_map(move |(condition, away, zone, full)| Candidate {
        condition,
        presence: if away == 0 { Presence::Absent("away".into()) } else { Presence::Present },
        block: (full && zone == 0).then(|| "full".to_owned()),
        holds: Previous { hold: if condition == Condition::Current { new() } else { old() }, version: None },
        ..in_zone(n, ["a", "b", "c", "d"][usize::from(zone)])
    })
}

fn any_fleet() -> impl Strategy<Value = Vec<Candidate>> {
    (1usize..60).prop_flat_map(|nodes| (1..=nodes).map(any_candidate).collect::<Vec<_>>())
}

proptest! {
    #[test]
    fn everybody_is_in_exactly_one_place_and_the_same_question_has_the_same_answer(
        (fleet, shuffled) in any_fleet().prop_flat_map(|fleet| (Just(fleet.clone()), Just(fleet).prop_shuffle())),
        segments in prop_oneof![Just("4"), Just("1,25%,100%"), Just("growing"), Just("3,rest"), Just("20%")],
        sequence in prop_oneof![Just("name"), Just("random"), Just("spread:az")],
        canary in 0usize..4,
        min_healthy in prop_oneof![(0usize..60).prop_map(MinHealthy::Count), (0u8..101).prop_map(MinHealthy::Percent)],
    ) {
        let asked = Request { canary: Canary(canary), sequence: sequence.parse().unwrap(), min_healthy, ..request(segments) };
        let present = fleet.iter().filter(|node| node.presence == Presence::Present).count();
        let made = make(&asked, fleet.clone());
        prop_assert_eq!(&made, &make(&asked, shuffled), "it depends on the order they came in");
        let Ok(plan) = made else {
            prop_assert_eq!(made, Err(Refusal::NobodyPresent { expected: fleet.len() }));
            prop_assert_eq!(present, 0);
            return Ok(());
        };
        let mut placed: Vec<&NodeName> = plan.candidates().map(|node| &node.node).collect();
        placed.sort();
        let mut expected: Vec<&NodeName> = fleet.iter().map(|node| &node.node).collect();
        expected.sort();
        prop_assert_eq!(placed, expected, "somebody is lost, or twice");
        prop_assert!(plan.segments.iter().all(|segment| !segment.is_empty()), "an empty segment");
        prop_assert!(plan.absent.iter().all(|node| node.presence != Presence::Present));
        prop_assert_eq!(plan.segments.iter().map(Vec::len).sum::<usize>(), present);
        // The order of conditions goes through all segments.
        let conditions: Vec<Condition> = plan.segments.iter().flatten().map(|node| node.condition).collect();
        prop_assert!(conditions.is_sorted(), "{:?}", conditions);
        prop_assert_eq!(plan.to_change, fleet.iter().filter(|node| node.holds.hold != new()).count());
        prop_assert_eq!(plan.serving, plan.segments.iter().flatten().filter(|node| node.serves()).count());
        prop_assert_eq!(plan.differences(&plan), Vec::<String>::new());
        // What the engine makes of it is the same fleet.
        let spec = plan.spec("d-1".parse().unwrap(), Generation(5), "bob".into());
        prop_assert_eq!(spec.size(), fleet.len());
        prop_assert!(spec.expected().all(|node| spec.previous.contains_key(node)));
        prop_assert_eq!(spec.unhealthy.len() + plan.serving, present);
    }
}
