//! How a fleet is cut into segments: `4` (equal parts), `1,25%,100%` (a list as Ansible's `serial` reads it).
//! The order of the nodes is decided by the planner; this is arithmetic only.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

/// The most segments or list items accepted.
pub const MOST_SEGMENTS: usize = 1_000;

/// How to cut.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub enum Segments {
    /// So many equal parts; sizes differ by at most one, larger first.
    Equal(usize),
    /// Sizes in order; the last repeats until every node is in a segment.
    Listed(Vec<Size>),
}

/// The size of one listed segment.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Size {
    /// So many nodes.
    Nodes(usize),
    /// A share of *all* nodes, rounded down, at least one: Ansible's `int(p/100*N) or 1`.
    Percent(u8),
}

/// Why a `--segments` value was refused.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error(
    "'{text}' is not a way to cut a fleet: {rule}. Write a number of equal segments (4) or a list of sizes (1,25%,100%)"
)]
pub struct SegmentsError {
    text: String,
    rule: &'static str,
}

impl FromStr for Segments {
    type Err = SegmentsError;
    fn from_str(text: &str) -> Result<Self, SegmentsError> {
        let refuse = |rule| SegmentsError { text: text.chars().take(80).collect(), rule };
        let number = |part: &str| part.parse::<usize>().map_err(|_| refuse("a part is not a number"));
        if !text.contains([',', '%']) {
            return match number(text.trim())? {
                0 => Err(refuse("there must be at least one segment")),
                n if n > MOST_SEGMENTS => Err(refuse("at most 1000 segments are accepted")),
                n => Ok(Self::Equal(n)),
            };
        }
        let mut sizes = Vec::new();
        for part in text.split(',').map(str::trim) {
            let size = match part.strip_suffix('%') {
                Some(percent) => match number(percent)? {
                    n @ 1..=100 => Size::Percent(n as u8),
                    _ => return Err(refuse("a percentage is 1 to 100")),
                },
                None => match number(part)? {
                    0 => return Err(refuse("a segment has at least one node")),
                    n => Size::Nodes(n),
                },
            };
            sizes.push(size);
            if sizes.len() > MOST_SEGMENTS {
                return Err(refuse("at most 1000 sizes are accepted"));
            }
        }
        Ok(Self::Listed(sizes))
    }
}

impl Segments {
    /// The sizes of the segments of a fleet of `nodes`; they add up to `nodes`, and none is zero.
    pub fn cut(&self, nodes: usize) -> Vec<usize> {
        match self {
            Self::Equal(parts) => {
                let parts = (*parts).min(nodes);
                (0..parts).map(|i| nodes / parts + usize::from(i < nodes % parts)).collect()
            }
            Self::Listed(sizes) => {
                let mut cut = Vec::new();
                let mut left = nodes;
                let mut sizes = sizes.iter().copied();
                let mut size = Size::Nodes(1);
                while left > 0 {
                    size = sizes.next().unwrap_or(size);
                    let wanted = match size {
                        Size::Nodes(n) => n,
                        Size::Percent(p) => (usize::from(p) * nodes / 100).max(1),
                    };
                    let taken = wanted.min(left);
                    cut.push(taken);
                    left -= taken;
                }
                cut
            }
        }
    }
}

impl fmt::Display for Segments {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Equal(parts) => write!(f, "{parts}"),
            Self::Listed(sizes) => {
                for (i, size) in sizes.iter().enumerate() {
                    let comma = if i == 0 { "" } else { "," };
                    match size {
                        // A single size is written twice: "3" alone would mean three segments.
                        Size::Nodes(n) if sizes.len() == 1 => write!(f, "{n},{n}")?,
                        Size::Nodes(n) => write!(f, "{comma}{n}")?,
                        Size::Percent(p) => write!(f, "{comma}{p}%")?,
                    }
                }
                Ok(())
            }
        }
    }
}

impl TryFrom<String> for Segments {
    type Error = SegmentsError;
    fn try_from(text: String) -> Result<Self, SegmentsError> {
        text.parse()
    }
}

impl From<Segments> for String {
    fn from(segments: Segments) -> String {
        segments.to_string()
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use proptest::prelude::*;

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

    /// ansible: test/units/executor/test_playbook_executor.py; the last item repeats.
    #[test]
    fn lists_are_read_as_ansible_reads_serial() {
        assert_eq!(cut("1,2,3", 10), [1, 2, 3, 3, 1]);
        assert_eq!(cut("20%", 11), [2, 2, 2, 2, 2, 1]);
        assert_eq!(cut("20%", 3), [1, 1, 1]);
        assert_eq!(cut("1,20%,100%", 10), [1, 2, 7]);
        assert_eq!(cut("1,2,5", 10), [1, 2, 5, 2]);
        assert_eq!(cut("1,25%,100%", 8), [1, 2, 5]);
    }

    #[test]
    fn nonsense_is_refused() {
        for bad in ["", "0", "-1", "x", "1,,2", "0%", "101%", "1,0", "50%%", "1001", "99999999999999999999"] {
            assert!(bad.parse::<Segments>().is_err(), "{bad}");
        }
    }

    proptest! {
        #[test]
        fn every_node_is_in_exactly_one_segment(text in "[1-9][0-9]{0,2}(,[1-9][0-9]{0,1}%?){0,5}", nodes in 0usize..5_000) {
            let segments: Segments = text.parse().unwrap();
            let cut = segments.cut(nodes);
            prop_assert_eq!(cut.iter().sum::<usize>(), nodes);
            prop_assert!(cut.iter().all(|&n| n > 0));
            prop_assert_eq!(segments.to_string().parse::<Segments>().unwrap(), segments);
        }
    }
}
