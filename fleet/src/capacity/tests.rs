//! The laws of the floor. CodeDeploy's own vectors, and a model of what it does, are in `fleet/tests/peers.rs`.
#![allow(clippy::unwrap_used)]

use proptest::prelude::*;

use super::*;

#[test]
fn texts_are_read_and_printed() {
    for (text, value, printed) in [
        ("0", MinHealthy::Count(0), "0"),
        (" 6 ", MinHealthy::Count(6), "6"),
        ("0%", MinHealthy::Percent(0), "0%"),
        ("75%", MinHealthy::Percent(75), "75%"),
        ("100%", MinHealthy::Percent(100), "100%"),
        ("codedeploy:OneAtATime", MinHealthy::Preset(Preset::OneAtATime), "codedeploy:OneAtATime"),
        ("CodeDeployDefault.HalfAtATime", MinHealthy::Preset(Preset::HalfAtATime), "codedeploy:HalfAtATime"),
        ("codedeploy:AllAtOnce", MinHealthy::Preset(Preset::AllAtOnce), "codedeploy:AllAtOnce"),
    ] {
        assert_eq!(text.parse::<MinHealthy>().unwrap(), value);
        assert_eq!(value.to_string(), printed);
        assert_eq!(serde_json::to_string(&value).unwrap(), format!("\"{printed}\""));
        assert_eq!(serde_json::from_str::<MinHealthy>(&format!("\"{printed}\"")).unwrap(), value);
    }
    for bad in [
        "",
        "%",
        "-1",
        "+1",
        "101%",
        "7.5%",
        "x",
        "codedeploy:",
        "codedeploy:oneatatime",
        "OneAtATime",
        "99999999999999999999",
    ] {
        assert!(bad.parse::<MinHealthy>().unwrap_err().to_string().contains("codedeploy:HalfAtATime"), "{bad}");
    }

    for (text, value) in
        [("1", Parallel::Count(1)), ("5", Parallel::Count(5)), ("25%", Parallel::Percent(25)), ("all", Parallel::All)]
    {
        assert_eq!(text.parse::<Parallel>().unwrap(), value);
        assert_eq!(value.to_string(), text);
        assert_eq!(serde_json::from_str::<Parallel>(&serde_json::to_string(&value).unwrap()).unwrap(), value);
    }
    for bad in ["", "0", "0%", "101%", "-1", "+1", "All", "half"] {
        assert!(bad.parse::<Parallel>().unwrap_err().to_string().contains("or all"), "{bad}");
    }
}

#[test]
fn a_floor_rounds_up_and_a_limit_rounds_down() {
    for (text, total, floor) in [
        ("75%", 40, 30),
        ("75%", 4, 3),
        ("75%", 5, 4),
        ("1%", 1, 1),
        ("0%", 10, 0),
        ("100%", 10, 10),
        ("50%", 0, 0),
        ("6", 4, 6),
        ("codedeploy:OneAtATime", 1, 0),
        ("codedeploy:OneAtATime", 1_000, 999),
        ("codedeploy:OneAtATime", 0, 0),
        ("codedeploy:HalfAtATime", 1, 1),
        ("100%", usize::MAX, usize::MAX),
    ] {
        assert_eq!(text.parse::<MinHealthy>().unwrap().floor(total), floor, "{text} of {total}");
    }
    for (text, segment, limit) in
        [("5", 10, 5), ("5", 3, 5), ("25%", 10, 2), ("25%", 3, 1), ("100%", 3, 3), ("all", 7, 7), ("all", 0, 1)]
    {
        assert_eq!(text.parse::<Parallel>().unwrap().limit(segment), limit, "{text} of {segment}");
    }
}

/// One rule of `must_stop` per block, and its border on both sides.
#[test]
fn the_floor_stops_and_waits_where_it_says() {
    let fell = |healthy, floor| Some(Shortage::FellToFloor { healthy, floor });
    let worse = |healthy, healthy_at_start| Some(Shortage::GotWorse { healthy, healthy_at_start });
    let no_room = |healthy, floor| Some(Shortage::NoRoom { healthy, floor });
    for (what, [floor, healthy_at_start, healthy, untried, broken_open], expect) in [
        ("nothing left to order", [8, 10, 8, 0, 0], None),
        ("nothing left to order, and below", [8, 10, 3, 0, 0], None),
        ("one above the floor", [8, 10, 9, 1, 0], None),
        ("fell to the floor", [8, 10, 8, 1, 0], fell(8, 8)),
        ("fell below the floor", [8, 10, 7, 1, 0], fell(7, 8)),
        ("fell to the floor while broken ones are open", [8, 10, 8, 2, 2], fell(8, 8)),
        ("starts at the floor, nothing to repair", [10, 10, 10, 10, 0], no_room(10, 10)),
        ("starts at the floor, a broken node to try", [9, 9, 9, 10, 1], None),
        ("the broken node is in flight", [9, 9, 9, 9, 1], None),
        ("the broken node failed again", [9, 9, 9, 9, 0], no_room(9, 9)),
        ("the broken node came back", [9, 9, 10, 9, 0], None),
        ("then a healthy one failed", [9, 9, 9, 8, 0], no_room(9, 9)),
        ("starts below, has not changed", [9, 5, 5, 10, 5], None),
        ("starts below, got worse", [9, 5, 4, 9, 4], worse(4, 5)),
        ("everything broken: a first deployment", [8, 0, 0, 10, 10], None),
        ("everything broken: all tried in vain", [8, 0, 0, 0, 0], None),
        ("no floor, the first of two failed", [0, 2, 1, 1, 0], None),
        ("no floor, and only a broken one is left", [0, 2, 0, 1, 1], None),
    ] {
        let capacity = Capacity { floor, healthy_at_start, healthy, untried, broken_open };
        assert_eq!(capacity.must_stop(), expect, "{what}");
    }
}

#[test]
fn a_shortage_is_a_sentence_and_survives_a_journal() {
    let shortage = Shortage::FellToFloor { healthy: 30, floor: 30 };
    assert_eq!(shortage.to_string(), "30 nodes are healthy and 30 must stay so (--min-healthy): no more can be taken");
    for shortage in
        [shortage, Shortage::GotWorse { healthy: 4, healthy_at_start: 5 }, Shortage::NoRoom { healthy: 1, floor: 1 }]
    {
        assert!(shortage.to_string().contains("--min-healthy"));
        let json = serde_json::to_string(&shortage).unwrap();
        assert_eq!(serde_json::from_str::<Shortage>(&json).unwrap(), shortage);
    }
}

/// A node of the played deployment.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Played {
    Untried { healthy: bool },
    InFlight { healthy: bool },
    Done { healthy: bool },
}

impl Played {
    fn healthy(self) -> bool {
        match self {
            Self::Untried { healthy } | Self::InFlight { healthy } | Self::Done { healthy } => healthy,
        }
    }
}

fn capacity(floor: usize, healthy_at_start: usize, nodes: &[Played]) -> Capacity {
    let count = |is: fn(&Played) -> bool| nodes.iter().filter(|node| is(node)).count();
    Capacity {
        floor,
        healthy_at_start,
        healthy: count(|node| node.healthy()),
        untried: count(|node| matches!(node, Played::Untried { .. })),
        broken_open: count(|node| !node.healthy() && !matches!(node, Played::Done { .. })),
    }
}

proptest! {
    /// Orders as many nodes as the floor allows, lets them end in any order and any way, and never finds fewer
    /// nodes in service than the floor, or than there were if that is less. It always comes to an end.
    #[test]
    fn a_deployment_alone_never_takes_the_fleet_below_its_floor(
        start in prop::collection::vec(any::<bool>(), 1..30),
        percent in 0u8..=100,
        endings in prop::collection::vec((any::<prop::sample::Index>(), prop::bool::weighted(0.8)), 30),
    ) {
        let floor = MinHealthy::Percent(percent).floor(start.len());
        let at_start = start.iter().filter(|healthy| **healthy).count();
        let mut nodes: Vec<Played> = start.iter().map(|&healthy| Played::Untried { healthy }).collect();
        let mut endings = endings.into_iter();
        loop {
            let now = capacity(floor, at_start, &nodes);
            if now.must_stop().is_none() {
                // Broken nodes cost nothing; healthy ones within the allowance.
                let flying = nodes.iter().filter(|n| **n == Played::InFlight { healthy: true }).count();
                let mut room = now.allowance().saturating_sub(flying);
                for node in &mut nodes {
                    match *node {
                        Played::Untried { healthy: false } => *node = Played::InFlight { healthy: false },
                        Played::Untried { healthy: true } if room > 0 => {
                            *node = Played::InFlight { healthy: true };
                            room -= 1;
                        }
                        Played::Untried { healthy: true } | Played::InFlight { .. } | Played::Done { .. } => {}
                    }
                }
            }
            let serving = nodes.iter().filter(|n| n.healthy() && !matches!(n, Played::InFlight { .. })).count();
            prop_assert!(serving >= floor.min(at_start), "{serving} serve, floor {floor}, {at_start} at the start");
            let flying: Vec<usize> =
                (0..nodes.len()).filter(|&i| matches!(nodes[i], Played::InFlight { .. })).collect();
            let Some((which, well)) = endings.next().filter(|_| !flying.is_empty()) else {
                // Whoever has nothing in flight has finished, or says why not: there is no silent standstill.
                let now = capacity(floor, at_start, &nodes);
                prop_assert!(!flying.is_empty() || now.untried == 0 || now.must_stop().is_some());
                break;
            };
            nodes[*which.get(&flying)] = Played::Done { healthy: well };
        }
    }

    /// Room and reason fit together: whenever nothing moves and nothing can, there is a reason to stop.
    #[test]
    fn no_allowance_and_nothing_to_repair_is_a_reason_to_stop(
        floor in 1usize..20, at_start in 0usize..20, healthy in 0usize..20, untried in 1usize..20,
    ) {
        let capacity = Capacity { floor, healthy_at_start: at_start, healthy, untried, broken_open: 0 };
        if capacity.allowance() == 0 {
            prop_assert!(capacity.must_stop().is_some());
        }
    }

    #[test]
    fn a_floor_is_the_least_number_that_is_the_share(percent in 0u8..=100, total in 0usize..100_000) {
        let floor = MinHealthy::Percent(percent).floor(total);
        prop_assert!(floor <= total && floor * 100 >= usize::from(percent) * total);
        prop_assert!(floor == 0 || (floor - 1) * 100 < usize::from(percent) * total);
    }

    #[test]
    fn a_limit_lets_something_move_and_no_more_than_the_share(percent in 1u8..=100, segment in 1usize..100_000) {
        let limit = Parallel::Percent(percent).limit(segment);
        prop_assert!((1..=segment).contains(&limit));
        prop_assert!(limit == 1 || limit * 100 <= usize::from(percent) * segment);
        prop_assert_eq!(Parallel::All.limit(segment), segment);
    }
}
