//! The laws of cutting. The vectors of the peers are in `fleet/tests/peers.rs`.
#![allow(clippy::unwrap_used)]

use proptest::prelude::*;

use super::*;

fn cut(text: &str, nodes: usize) -> Vec<usize> {
    text.parse::<Segments>().unwrap().cut(nodes)
}

#[test]
fn equal_segments_differ_by_at_most_one_larger_first() {
    assert_eq!(cut("4", 8), [2, 2, 2, 2]);
    assert_eq!(cut("4", 39), [10, 10, 10, 9]);
    assert_eq!(cut("4", 2), [1, 1]);
    assert_eq!(cut("1", 5), [5]);
    assert_eq!(cut("4", 0), Vec::<usize>::new());
}

#[test]
fn growing_segments_double_until_all_are_in() {
    assert_eq!(cut("growing", 15), [1, 2, 4, 8]);
    assert_eq!(cut("growing", 10), [1, 2, 4, 3]);
    assert_eq!(cut("growing", 1), [1]);
    assert_eq!(cut("growing", 0), Vec::<usize>::new());
    assert_eq!(cut("growing", 10_000).len(), 14);
    assert_eq!(cut("growing:5", 40), [5, 10, 20, 5]);
    assert_eq!(cut("growing:50", 40), [40]);
    assert_eq!(cut("growing:18446744073709551615", 3), [3]);
}

#[test]
fn a_canary_is_a_segment_of_its_own_before_the_others() {
    for (canary, segments, nodes, expect) in [
        (1, "4", 9, vec![1, 2, 2, 2, 2]),
        (1, "4", 40, vec![1, 10, 10, 10, 9]),
        (2, "25%,100%", 10, vec![2, 2, 6]),
        (1, "25%", 41, vec![1, 10, 10, 10, 10]),
        (1, "growing", 8, vec![1, 1, 2, 4]),
        (3, "rest", 10, vec![3, 7]),
        (0, "4", 8, vec![2, 2, 2, 2]),
        (1, "4", 1, vec![1]),
        (9, "4", 3, vec![3]),
        (1, "4", 0, vec![]),
    ] {
        let cut = segments.parse::<Segments>().unwrap().cut_after(Canary(canary), nodes);
        assert_eq!(cut, expect, "--canary {canary} --segments {segments} of {nodes}");
    }
}

#[test]
fn a_list_of_one_number_is_that_size_and_not_that_many() {
    let threes = Segments::listed(["3"]).unwrap();
    assert_eq!(threes.cut(10), [3, 3, 3, 1]);
    assert_eq!(threes.to_string().parse::<Segments>().unwrap(), threes);
    assert_eq!(cut("3", 10), [4, 3, 3]);
    assert_eq!(Segments::listed(["-1"]).unwrap().cut(10), [10]);
    assert_eq!(Segments::listed(["1", " 25%", "100%"]).unwrap(), "1,25%,100%".parse().unwrap());
}

#[test]
fn texts_are_printed_in_one_way() {
    for (text, printed) in [
        ("4", "4"),
        (" 4 ", "4"),
        ("1, 25%, 100%", "1,25%,100%"),
        ("20%", "20%"),
        ("3,3", "3,3"),
        ("1,20%,-1", "1,20%,rest"),
        ("1,20%,0", "1,20%,rest"),
        ("1,-5", "1,rest"),
        ("rest", "rest"),
        ("growing", "growing"),
        ("growing:1", "growing"),
        ("growing:5", "growing:5"),
    ] {
        let segments: Segments = text.parse().unwrap();
        assert_eq!(segments.to_string(), printed, "{text}");
        assert_eq!(printed.parse::<Segments>().unwrap(), segments, "{text}");
        let json = serde_json::to_string(&segments).unwrap();
        assert_eq!(json, format!("\"{printed}\""));
        assert_eq!(serde_json::from_str::<Segments>(&json).unwrap(), segments);
    }
}

#[test]
fn nonsense_is_refused() {
    for bad in [
        "",
        "0",
        "-1",
        "x",
        "1,,2",
        "1,",
        "0%",
        "101%",
        "-5%",
        "50%%",
        "%",
        "1001",
        "+4",
        "1,+2",
        "99999999999999999999",
        "1,99999999999999999999",
        "1,-",
        "1,--1",
        "1,rest,2",
        "rest,rest",
        "Rest",
        "growing:",
        "growing:0",
        "growing:-1",
        "growing:x",
        "growing,2",
        "growing 2",
    ] {
        let error = bad.parse::<Segments>().unwrap_err().to_string();
        assert!(error.contains("growing:N"), "{bad}: {error}");
    }
    assert!(Segments::listed([]).is_err());
    assert!(Segments::listed(std::iter::repeat_n("1", MOST_SEGMENTS + 1)).is_err());
    assert!(Segments::listed(std::iter::repeat_n("1", MOST_SEGMENTS)).is_ok());
    let error = "1,\u{1b}[31m".parse::<Segments>().unwrap_err().to_string();
    assert!(!error.contains('\u{1b}'), "{error}");
}

#[test]
fn a_canary_is_a_number() {
    for (text, nodes) in [("0", 0), ("1", 1), (" 12 ", 12)] {
        assert_eq!(text.parse::<Canary>().unwrap(), Canary(nodes));
    }
    for bad in ["", "-1", "+1", "10%", "one"] {
        assert!(bad.parse::<Canary>().unwrap_err().to_string().contains("0 for none"), "{bad}");
    }
    assert_eq!(Canary::default(), Canary(0));
    assert_eq!(Canary(3).to_string(), "3");
}

#[test]
fn values_that_no_text_makes_lose_no_node_either() {
    for segments in [
        Segments::Equal(0),
        Segments::Listed(vec![]),
        Segments::Listed(vec![Size::Nodes(0)]),
        Segments::Listed(vec![Size::Percent(0)]),
        Segments::Listed(vec![Size::Percent(255)]),
        Segments::Listed(vec![Size::Rest, Size::Nodes(2)]),
        Segments::Growing(0),
        Segments::Growing(usize::MAX),
    ] {
        let cut = segments.cut(10);
        assert_eq!(cut.iter().sum::<usize>(), 10, "{segments:?}");
        assert!(!cut.contains(&0), "{segments:?}");
    }
}

/// Every kind of text that is accepted.
const ACCEPTED: &str = "[1-9][0-9]{0,2}|growing(:[1-9][0-9]{0,2})?|rest|[1-9][0-9]?%|\
                        [1-9][0-9]{0,2}%?(,[1-9][0-9]?%?){1,5}(,(rest|0|-[0-9]))?";

proptest! {
    #[test]
    fn every_node_is_in_exactly_one_segment(text in ACCEPTED, canary in 0usize..20, nodes in 0usize..5_000) {
        // Three digits before a percent sign may exceed a hundred, which is refused.
        prop_assume!(!text.split(',').any(|part| part.ends_with('%') && part.len() > 3));
        let segments: Segments = text.parse().unwrap();
        let cut = segments.cut_after(Canary(canary), nodes);
        prop_assert_eq!(cut.iter().sum::<usize>(), nodes);
        prop_assert!(cut.iter().all(|&n| n > 0));
        if canary > 0 {
            prop_assert_eq!(cut.first().copied().unwrap_or(0), canary.min(nodes));
        }
        prop_assert_eq!(segments.to_string().parse::<Segments>().unwrap(), segments);
    }

    #[test]
    fn equal_segments_are_equal(parts in 1usize..=MOST_SEGMENTS, nodes in 1usize..20_000) {
        let cut = Segments::Equal(parts).cut(nodes);
        prop_assert_eq!(cut.len(), parts.min(nodes));
        prop_assert!(cut.is_sorted_by(|a, b| a >= b));
        prop_assert!(cut[0] - cut[cut.len() - 1] <= 1);
    }

    #[test]
    fn growing_segments_are_few(first in 1usize..50, nodes in 1usize..1_000_000) {
        let cut = Segments::Growing(first).cut(nodes);
        prop_assert!(cut.len() <= 20);
        for pair in cut[..cut.len() - 1].windows(2) {
            prop_assert_eq!(pair[1], 2 * pair[0]);
        }
    }

    #[test]
    fn anything_typed_is_read_or_refused(text in ".{0,40}") {
        if let Ok(segments) = text.parse::<Segments>() {
            prop_assert_eq!(segments.to_string().parse::<Segments>().unwrap(), segments);
        }
    }
}
