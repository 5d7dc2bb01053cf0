//! How a fleet is cut into segments: `4` (equal parts), `1,25%,100%` (a list as Ansible's `serial` reads it),
//! `growing` (1, 2, 4, 8, ... nodes), each of them after a canary if one is wished. This is arithmetic only:
//! which node comes first is decided by [`crate::sequence`], how many of a segment move at a time by
//! [`crate::capacity`].

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

#[cfg(test)]
mod tests;

/// The most segments or list items accepted: nobody reads a longer list, and each item is one line of the plan.
/// (A short list whose last size repeats may cut a large fleet into more; that many are what was asked for.)
pub const MOST_SEGMENTS: usize = 1_000;

/// How to cut. Reading and printing are inverse: `"1,20%,-1"` is read as, and printed as, `1,20%,rest`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub enum Segments {
    /// `4`: so many equal parts; sizes differ by at most one, larger first.
    Equal(usize),
    /// `1,25%,100%`: sizes in order; the last repeats until every node is in a segment.
    Listed(Vec<Size>),
    /// `growing` or `growing:N`: the first segment has so many nodes (1 without a number), each further one twice
    /// as many as the one before, and the last what is left. Few nodes meet a release that nobody has seen run,
    /// and a large fleet is still done in few segments (10,000 nodes in 14).
    Growing(usize),
}

/// The size of one listed segment.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Size {
    /// `5`: so many nodes.
    Nodes(usize),
    /// `25%`: a share of *all* nodes that are cut, rounded down, at least one: Ansible's `int(p/100*N) or 1`.
    ///
    /// Reckoned in whole numbers. Ansible divides in floating point and so loses a node in a few cases in which
    /// the share is a whole number (29 % of 100: 28 there, 29 here).
    Percent(u8),
    /// `rest`, or as Ansible writes it `-1` or any number up to zero: all that are left. Nothing can follow it.
    Rest,
}

/// How many nodes go first, as a segment of their own, small on purpose; `0` is no canary.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Canary(pub usize);

/// Why a `--segments` value was refused.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error(
    "'{text}' is not a way to cut a fleet: {rule}. Write a number of equal segments (4), a list of sizes (1,25%,100% or 1,20%,rest), growing, or growing:N"
)]
pub struct SegmentsError {
    text: String,
    rule: &'static str,
}

/// Why a `--canary` value was refused.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("'{0}' is not the size of a canary: write a number of nodes (1), or 0 for none")]
pub struct CanaryError(String);

impl Segments {
    /// The sizes of the segments of a fleet of `nodes`; they add up to `nodes`, and none is zero.
    ///
    /// Total even for values that no text makes: zero parts or nodes are taken as one, no sizes as one node each.
    pub fn cut(&self, nodes: usize) -> Vec<usize> {
        match self {
            Self::Equal(parts) => {
                let parts = (*parts).max(1).min(nodes);
                (0..parts).map(|i| nodes / parts + usize::from(i < nodes % parts)).collect()
            }
            Self::Listed(sizes) => {
                let mut sizes = sizes.iter().copied();
                let mut size = Size::Nodes(1);
                cut_by(nodes, |left| {
                    size = sizes.next().unwrap_or(size);
                    match size {
                        Size::Nodes(n) => n,
                        Size::Percent(p) => share(p, nodes),
                        Size::Rest => left,
                    }
                })
            }
            Self::Growing(first) => {
                let mut next = (*first).max(1);
                cut_by(nodes, |_| {
                    let wanted = next;
                    next = next.saturating_mul(2);
                    wanted
                })
            }
        }
    }

    /// The sizes with a canary before them: first the canary, then the remaining nodes cut as if they were the
    /// whole fleet (so `25%` after a canary of 1 in a fleet of 41 is 10 nodes). `--canary 1 --segments 4` of
    /// 9 nodes is 1, 2, 2, 2, 2. A canary as large as the fleet is the only segment.
    pub fn cut_after(&self, canary: Canary, nodes: usize) -> Vec<usize> {
        let canary = canary.0.min(nodes);
        let mut cut: Vec<usize> = (canary > 0).then_some(canary).into_iter().collect();
        cut.extend(self.cut(nodes - canary));
        cut
    }

    /// Reads a list whose items are already apart, as in the service file. Unlike the text `4`, which is four
    /// equal segments, a list of the one item `4` is segments of four nodes: Ansible's `serial: 4`.
    ///
    /// # Errors
    /// When an item is not a size, something follows `rest`, or there are none or too many items.
    pub fn listed<'a>(items: impl IntoIterator<Item = &'a str>) -> Result<Self, SegmentsError> {
        let mut sizes = Vec::new();
        for item in items {
            if sizes.last() == Some(&Size::Rest) {
                return Err(refuse(item, "nothing is left for a size after 'rest'"));
            }
            if sizes.len() == MOST_SEGMENTS {
                return Err(refuse(item, "at most 1000 sizes are accepted"));
            }
            sizes.push(size(item.trim()).map_err(|rule| refuse(item, rule))?);
        }
        match sizes[..] {
            [] => Err(refuse("", "the list is empty")),
            // Kept as it is printed: see `Display`. The last size repeats, so it means the same.
            [only @ Size::Nodes(_)] => Ok(Self::Listed(vec![only, only])),
            _ => Ok(Self::Listed(sizes)),
        }
    }
}

/// Cuts by asking `wanted`, with what is left, for one size after the other.
fn cut_by(nodes: usize, mut wanted: impl FnMut(usize) -> usize) -> Vec<usize> {
    let mut cut = Vec::new();
    let mut left = nodes;
    while left > 0 {
        let taken = wanted(left).max(1).min(left);
        cut.push(taken);
        left -= taken;
    }
    cut
}

/// `percent` of `nodes`, rounded down; cannot overflow, since a `u128` holds the product of any two.
fn share(percent: u8, nodes: usize) -> usize {
    usize::try_from(u128::from(percent) * nodes as u128 / 100).unwrap_or(usize::MAX)
}

fn refuse(text: &str, rule: &'static str) -> SegmentsError {
    SegmentsError { text: shortened(text), rule }
}

fn shortened(text: &str) -> String {
    text.chars().take(80).flat_map(char::escape_default).collect()
}

/// A number of digits only: `+4`, which the standard library reads too, is more likely a mistake.
fn number(text: &str) -> Result<usize, &'static str> {
    if text.is_empty() || !text.bytes().all(|b| b.is_ascii_digit()) {
        return Err("a part is not a number");
    }
    text.parse().map_err(|_| "a number is too large")
}

fn size(text: &str) -> Result<Size, &'static str> {
    if text == "rest" {
        return Ok(Size::Rest);
    }
    if let Some(percent) = text.strip_suffix('%') {
        return match number(percent)? {
            n @ 1..=100 => Ok(Size::Percent(n as u8)),
            _ => Err("a percentage is 1 to 100"),
        };
    }
    if let Some(below_zero) = text.strip_prefix('-') {
        return number(below_zero).map(|_| Size::Rest);
    }
    Ok(match number(text)? {
        0 => Size::Rest,
        n => Size::Nodes(n),
    })
}

impl FromStr for Segments {
    type Err = SegmentsError;
    fn from_str(text: &str) -> Result<Self, SegmentsError> {
        let refuse = |rule| refuse(text, rule);
        let word = text.trim();
        if word == "growing" {
            return Ok(Self::Growing(1));
        }
        if let Some(first) = word.strip_prefix("growing:") {
            return match number(first).map_err(refuse)? {
                0 => Err(refuse("the first segment has at least one node")),
                first => Ok(Self::Growing(first)),
            };
        }
        if word == "rest" || word.contains([',', '%']) {
            return Self::listed(word.split(',')).map_err(|error| refuse(error.rule));
        }
        match number(word).map_err(refuse)? {
            0 => Err(refuse("there must be at least one segment")),
            n if n > MOST_SEGMENTS => Err(refuse("at most 1000 segments are accepted")),
            n => Ok(Self::Equal(n)),
        }
    }
}

impl fmt::Display for Segments {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Equal(parts) => write!(f, "{parts}"),
            Self::Growing(1) => f.write_str("growing"),
            Self::Growing(first) => write!(f, "growing:{first}"),
            Self::Listed(sizes) => {
                for (i, size) in sizes.iter().enumerate() {
                    let comma = if i == 0 { "" } else { "," };
                    match size {
                        // A single size is written twice: "3" alone would mean three segments.
                        Size::Nodes(n) if sizes.len() == 1 => write!(f, "{n},{n}")?,
                        Size::Nodes(n) => write!(f, "{comma}{n}")?,
                        Size::Percent(p) => write!(f, "{comma}{p}%")?,
                        Size::Rest => write!(f, "{comma}rest")?,
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

impl FromStr for Canary {
    type Err = CanaryError;
    fn from_str(text: &str) -> Result<Self, CanaryError> {
        number(text.trim()).map(Self).map_err(|_| CanaryError(shortened(text)))
    }
}

impl fmt::Display for Canary {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.0)
    }
}
