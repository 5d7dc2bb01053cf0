//! The laws of order.
#![allow(clippy::unwrap_used)]

use std::collections::BTreeSet;

use proptest::prelude::*;

use super::*;
use crate::segments::Segments;

#[derive(Debug, Clone, PartialEq)]
struct Node {
    name: String,
    condition: Condition,
    az: Option<String>,
}

impl Sequenced for Node {
    fn name(&self) -> &str {
        &self.name
    }
    fn condition(&self) -> Condition {
        self.condition
    }
    fn label(&self, label: &str) -> Option<&str> {
        self.az.as_deref().filter(|_| label == "az")
    }
}

const CONDITIONS: [Condition; 4] = [Condition::Unhealthy, Condition::Unknown, Condition::Old, Condition::Current];

fn old(name: &str, az: Option<&str>) -> Node {
    Node { name: name.into(), condition: Condition::Old, az: az.map(str::to_owned) }
}

/// Nodes in zones, written `a a b -`: numbered in this order, `-` without the label.
fn zones(text: &str) -> Vec<Node> {
    let zones = text.split_whitespace().enumerate();
    zones.map(|(i, zone)| old(&format!("n{i}"), Some(zone).filter(|zone| *zone != "-"))).collect()
}

fn arranged(nodes: &[Node], sequence: &str) -> Vec<Node> {
    arrange(nodes.to_vec(), &sequence.parse().unwrap(), "d-test")
}

fn names(nodes: &[Node]) -> Vec<&str> {
    nodes.iter().map(|node| node.name.as_str()).collect()
}

#[test]
fn numbers_in_names_count_by_value() {
    let sorted = [
        "n",
        "n0",
        "n01",
        "n1",
        "n1a",
        "n1b",
        "n2",
        "n10",
        "n10-2",
        "n10-10",
        "web",
        "web1",
        "web-9.b",
        "web-10.a",
        "x18446744073709551616",
        "x99999999999999999999",
    ];
    let mut shuffled = sorted;
    shuffled.reverse();
    shuffled.sort_by_cached_key(|name| natural(name));
    assert_eq!(shuffled, sorted);
}

#[test]
fn the_condition_comes_before_everything_else() {
    let node = |name: &str, condition| Node { name: name.into(), condition, az: Some(name[..1].into()) };
    let nodes = [
        node("a1", Condition::Current),
        node("a2", Condition::Old),
        node("b1", Condition::Unknown),
        node("b2", Condition::Old),
        node("a10", Condition::Unhealthy),
        node("a9", Condition::Unhealthy),
        node("b3", Condition::Unhealthy),
    ];
    assert_eq!(names(&arranged(&nodes, "name")), ["a9", "a10", "b3", "b1", "a2", "b2", "a1"]);
    assert_eq!(names(&arranged(&nodes, "spread:az")), ["a9", "b3", "a10", "b1", "a2", "b2", "a1"]);
    let random = arranged(&nodes, "random");
    assert!(random.is_sorted_by_key(|node| node.condition));
}

#[test]
fn spreading_takes_turns_in_proportion() {
    for (zones_of_nodes, expect) in [
        // Domains of equal size take turns strictly.
        ("a a a b b b c c c", "a b c a b c a b c"),
        ("c b a c b a", "a b c a b c"),
        // A small domain is not used up at once.
        ("a a a a a a a a b b", "a a b a a a a b a a"),
        ("a a a b b", "a b a b a"),
        ("b b b a", "b b a b"),
        // Nodes without the label are a domain of their own.
        ("a - b a - b", "a b - a b -"),
        ("- - - - a a", "- a - - a -"),
        // Values are ordered as names are.
        ("z10 z9 z10 z9", "z9 z10 z9 z10"),
        // One domain, one node, none.
        ("a a a", "a a a"),
        ("a", "a"),
        ("", ""),
    ] {
        let arranged = arranged(&zones(zones_of_nodes), "spread:az");
        let drawn: Vec<_> = arranged.iter().map(|node| node.az.as_deref().unwrap_or("-")).collect();
        assert_eq!(drawn.join(" "), expect, "{zones_of_nodes}");
    }
    // A label nobody has: one domain, and so by name.
    let nodes = zones("a b a b");
    assert_eq!(names(&arranged(&nodes, "spread:rack")), names(&arranged(&nodes, "name")));
}

/// 40 nodes over three zones in four segments, the plan shown in the command line's documentation.
#[test]
fn each_of_four_segments_has_its_share_of_every_zone() {
    let zones_of_nodes = ["a "; 14].concat() + &["b "; 13].concat() + &["c "; 13].concat();
    let mut rest = arranged(&zones(&zones_of_nodes), "spread:az").into_iter();
    for size in "4".parse::<Segments>().unwrap().cut(40) {
        let segment: Vec<Node> = rest.by_ref().take(size).collect();
        for zone in ["a", "b", "c"] {
            let of_zone = segment.iter().filter(|node| node.az.as_deref() == Some(zone)).count();
            assert!((3..=4).contains(&of_zone), "{of_zone} of 10 in {zone}");
        }
    }
}

/// Pinned: a plan made again by a later version must have the same order.
#[test]
fn a_shuffle_is_the_same_for_ever() {
    let nodes = zones("- - - - - - - -");
    let order = |seed: &str| arrange(nodes.clone(), &Sequence::Random, seed);
    assert_eq!(names(&order("d-abcdef")), PINNED);
    assert_ne!(order("d-abcdef"), order("d-abcdeg"));
    assert_eq!(shuffled("d-abcdef", "n0"), 0xebf5_0f73_1e21_c94d);
}
const PINNED: [&str; 8] = ["n4", "n2", "n3", "n7", "n6", "n1", "n0", "n5"];

/// Over many seeds every node is about equally often the first: 10 nodes, 2,000 seeds, 200 each expected, and a
/// standard deviation of 13.4; the bounds are six of them away. No chance is involved: the seeds are fixed.
#[test]
fn a_shuffle_favours_nobody() {
    let nodes: Vec<Node> = (1..=10).map(|i| old(&format!("web-{i}.example.com"), None)).collect();
    let mut first = std::collections::BTreeMap::<String, usize>::new();
    for seed in 0..2_000 {
        let arranged = arrange(nodes.clone(), &Sequence::Random, &format!("d-{seed}"));
        *first.entry(arranged[0].name.clone()).or_default() += 1;
    }
    assert_eq!(first.len(), 10);
    assert!(first.values().all(|count| (120..=280).contains(count)), "{first:?}");
}

#[test]
fn texts_are_read_and_printed() {
    for (text, sequence) in
        [("name", Sequence::Name), ("random", Sequence::Random), ("spread:az", Sequence::Spread("az".into()))]
    {
        assert_eq!(text.parse::<Sequence>().unwrap(), sequence);
        assert_eq!(sequence.to_string(), text);
        assert_eq!(serde_json::from_str::<Sequence>(&serde_json::to_string(&sequence).unwrap()).unwrap(), sequence);
        assert!(sequence.in_words().starts_with("unhealthy nodes first"));
    }
    let too_long = format!("spread:{}", "x".repeat(64));
    for bad in ["", "Name", "spread", "spread:", "spread:a b", "spread:a,b", "spread:ä", "rand", "name:az", &too_long]
    {
        assert!(bad.parse::<Sequence>().unwrap_err().to_string().contains("spread:LABEL"), "{bad}");
    }
    for condition in CONDITIONS {
        assert_eq!(serde_json::to_string(&condition).unwrap(), format!("\"{}\"", condition.as_str()));
    }
}

/// Whether `apart` of `total` is at most `times` as much as the law allows for so many domains: 1 - 1/(2D-2).
fn within(apart: usize, times: usize, total: usize, domains: usize) -> bool {
    match domains {
        0 | 1 => apart == 0,
        _ => apart * (2 * domains - 2) <= times * total * (2 * domains - 3),
    }
}

/// The law is not only met on average: small fleets, all of them. Up to four domains of up to six nodes each.
#[test]
fn every_small_fleet_is_spread_by_the_law() {
    let mut all = vec![vec![]];
    for _ in 0..4 {
        let longer = all.iter().flat_map(|sizes: &Vec<usize>| (1..=6).map(|size| [&sizes[..], &[size]].concat()));
        all = all.iter().cloned().chain(longer).collect::<BTreeSet<_>>().into_iter().collect();
    }
    assert_eq!(all.len(), 1 + 6 + 36 + 216 + 1296);
    for sizes in all {
        let total: usize = sizes.iter().sum();
        let mut so_far = vec![0_usize; sizes.len()];
        for (k, domain) in spread::in_proportion(&sizes).into_iter().enumerate() {
            so_far[domain] += 1;
            for (have, size) in so_far.iter().zip(&sizes) {
                assert!(within((have * total).abs_diff((k + 1) * size), 1, total, sizes.len()), "{sizes:?} at {k}");
            }
        }
        assert_eq!(so_far, sizes);
    }
}

fn nodes(most: usize) -> impl Strategy<Value = Vec<Node>> {
    let node = ("[a-c]{1,2}-?[0-9]{1,3}", prop::sample::select(&CONDITIONS[..]), prop::option::of("[a-e]"));
    prop::collection::vec(node, 0..most).prop_map(|nodes| {
        let mut seen = BTreeSet::new();
        nodes
            .into_iter()
            .filter(|(name, _, _)| seen.insert(name.clone()))
            .map(|(name, condition, az)| Node { name, condition, az })
            .collect()
    })
}

proptest! {
    #[test]
    fn nobody_is_lost_or_doubled_and_it_does_not_matter_how_they_come(
        (one, other) in nodes(60).prop_flat_map(|nodes| (Just(nodes.clone()), Just(nodes).prop_shuffle())),
        sequence in "name|random|spread:az|spread:rack",
        seed in "[a-z]{0,4}",
    ) {
        let sequence: Sequence = sequence.parse().unwrap();
        let arranged = arrange(one.clone(), &sequence, &seed);
        prop_assert_eq!(&arranged, &arrange(other, &sequence, &seed));
        prop_assert!(arranged.is_sorted_by_key(|node| node.condition));
        let all: BTreeSet<_> = names(&one).into_iter().collect();
        prop_assert_eq!(arranged.len(), one.len());
        prop_assert_eq!(names(&arranged).into_iter().collect::<BTreeSet<_>>(), all);
    }

    /// The law of [`Sequence::Spread`], for every prefix and, as twice as much, for every run of places.
    #[test]
    fn every_prefix_holds_every_domain_in_proportion(sizes in prop::collection::vec(1usize..40, 1..12)) {
        let total: usize = sizes.iter().sum();
        let drawn = spread::in_proportion(&sizes);
        prop_assert_eq!(drawn.len(), total);
        let within = |apart: usize, times: usize| within(apart, times, total, sizes.len());
        for (domain, &size) in sizes.iter().enumerate() {
            let (mut so_far, mut fewest, mut most) = (0, 0, 0);
            for (k, &from) in drawn.iter().enumerate() {
                so_far += usize::from(from == domain);
                let apart = (so_far * total) as i64 - ((k + 1) * size) as i64;
                prop_assert!(within(apart.unsigned_abs() as usize, 1));
                (fewest, most) = (apart.min(fewest), apart.max(most));
            }
            prop_assert_eq!(so_far, size);
            // A run is what lies between two prefixes.
            prop_assert!(within((most - fewest) as usize, 2));
        }
    }

    /// The same through the whole path: conditions, labels, names, and the segments of every kind of cut.
    #[test]
    fn every_segment_has_its_share_of_every_domain(
        mut nodes in nodes(120), segments in "[1-9]|growing|1,[1-9]{1,2}%,rest",
    ) {
        nodes.iter_mut().for_each(|node| node.condition = Condition::Old);
        let total = nodes.len();
        let domains = nodes.iter().map(|node| &node.az).collect::<BTreeSet<_>>();
        let arranged = arranged(&nodes, "spread:az");
        let mut begin = 0;
        for size in segments.parse::<Segments>().unwrap().cut(total) {
            for domain in &domains {
                let of_domain = |nodes: &[Node]| nodes.iter().filter(|node| node.az == **domain).count();
                let here = of_domain(&arranged[begin..begin + size]);
                let apart = (here * total).abs_diff(size * of_domain(&nodes));
                let times = if begin == 0 { 1 } else { 2 };
                prop_assert!(within(apart, times, total, domains.len()));
            }
            begin += size;
        }
        prop_assert_eq!(begin, total);
    }

    #[test]
    fn natural_order_agrees_with_numbers(prefix in "[a-z-]{0,5}", a in any::<u128>(), b in any::<u128>()) {
        let key = |n: u128| natural(&format!("{prefix}{n}"));
        prop_assert_eq!(key(a).cmp(&key(b)), a.cmp(&b));
    }
}
