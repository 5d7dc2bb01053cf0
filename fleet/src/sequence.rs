//! The order in which nodes are put into segments, and so who meets a new release first.
//!
//! **Condition first.** Broken nodes go first, since they cost no capacity, then those of which nothing is known,
//! then those on an older release, and last those that hold the wished one already: [`Condition`], CodeDeploy's
//! order. Only *within* one condition the [`Sequence`] decides: by name, shuffled, or spread over failure domains.
//! The same nodes are arranged in the same way wherever and however often it is done.
//!
//! Left to others: cutting the order into segments ([`crate::segments`]), and knowing conditions and labels.

use std::cmp::Reverse;
use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

mod spread;
#[cfg(test)]
mod tests;

/// The longest label name, as in service files and tokens.
pub const LONGEST_LABEL: usize = 63;

/// How nodes of one condition are ordered. The default is by name.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub enum Sequence {
    /// `name`: by name, numbers by value (n2 before n10).
    #[default]
    Name,
    /// `random`: shuffled by a hash of the deployment's seed and the name. Another deployment begins with another
    /// node, so that it is not always the same one that is first to break; the same seed gives the same order.
    Random,
    /// `spread:az`: over the values of this label, in proportion; within one value by name.
    ///
    /// The nodes without the label are a domain of their own. The law, for `N` nodes of one condition in `D`
    /// domains, `n` of them in some domain: **of the first `k` nodes, `k·n/N` are of that domain, give or take at
    /// most `1 - 1/(2D-2)`**, for every `k`; so the number is that share rounded up or down. Hence a segment of `s`
    /// nodes, wherever it is cut, has `s·n/N` nodes of the domain, give or take at most twice as much: with two
    /// domains one node, with three one and a half, and always less than two; and the first segment has the same
    /// law as every prefix. Domains of equal size take turns strictly. With domains of unequal size, plain turns
    /// would put a small one as a whole into the first segments, which is what spreading is to prevent.
    ///
    /// Several conditions are spread one after the other, each by this law.
    Spread(String),
}

/// What is known of a node before it is ordered; in the order of being tried. After CodeDeploy's instance health
/// and revision health (AWS CodeDeploy User Guide, "CodeDeploy instance health").
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Condition {
    /// It is not healthy, or the last attempt on it failed.
    Unhealthy,
    /// What it holds is not known.
    Unknown,
    /// It is healthy and holds something else than is wished.
    Old,
    /// It is healthy and holds what is wished.
    Current,
}

/// What must be known of something to give it a place in a sequence.
pub trait Sequenced {
    /// Its name, which no other has.
    fn name(&self) -> &str;
    /// Its condition.
    fn condition(&self) -> Condition;
    /// The value of its label `label`, if it has one.
    fn label(&self, label: &str) -> Option<&str>;
}

/// Why a sequence was refused.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("'{0}' is not an order of nodes: use name, random, or spread:LABEL (spread:az)")]
pub struct SequenceError(String);

/// A sorting key in which runs of digits count by value, however long (`n2` before `n10`, `web` before `web1`);
/// the text itself breaks ties (`n01` before `n1`).
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Natural {
    /// A word, then the digits after it without leading zeros, their number first: of two such numbers the longer
    /// is the larger.
    parts: Vec<(String, usize, String)>,
    text: String,
}

/// The [`Natural`] sorting key of a name.
pub fn natural(name: &str) -> Natural {
    let mut parts = Vec::new();
    let mut rest = name;
    while !rest.is_empty() {
        let (word, tail) = rest.split_at(rest.find(|c: char| c.is_ascii_digit()).unwrap_or(rest.len()));
        let (digits, tail) = tail.split_at(tail.find(|c: char| !c.is_ascii_digit()).unwrap_or(tail.len()));
        let value = digits.trim_start_matches('0');
        parts.push((word.to_owned(), value.len(), value.to_owned()));
        rest = tail;
    }
    Natural { parts, text: name.to_owned() }
}

/// Puts `items` in order: by condition, then as `sequence` says, then by name. The result depends on the items and
/// not on the order they come in. `seed` only matters for [`Sequence::Random`]: anything that stays the same for
/// one plan, such as its id. The work is that of sorting.
pub fn arrange<T: Sequenced>(mut items: Vec<T>, sequence: &Sequence, seed: &str) -> Vec<T> {
    match sequence {
        Sequence::Name => {
            items.sort_by_cached_key(|item| (item.condition(), natural(item.name())));
            items
        }
        Sequence::Random => {
            items.sort_by_cached_key(|item| (item.condition(), shuffled(seed, item.name()), natural(item.name())));
            items
        }
        Sequence::Spread(label) => {
            items.sort_by_cached_key(|item| (item.condition(), natural(item.name())));
            let mut order = Vec::with_capacity(items.len());
            for alike in items.chunk_by(|a, b| a.condition() == b.condition()) {
                let begin = order.len();
                let domains = domains(alike, label);
                let sizes: Vec<usize> = domains.iter().map(Vec::len).collect();
                let mut domains: Vec<_> = domains.into_iter().map(Vec::into_iter).collect();
                order.extend(
                    spread::in_proportion(&sizes)
                        .into_iter()
                        .filter_map(|domain| domains[domain].next())
                        .map(|i| begin + i),
                );
            }
            let mut places: Vec<Option<T>> = items.into_iter().map(Some).collect();
            order.into_iter().filter_map(|place| places[place].take()).collect()
        }
    }
}

/// The failure domains of some nodes, as positions among them: the largest first, then by value, those without
/// the label after others of their size.
fn domains<T: Sequenced>(items: &[T], label: &str) -> Vec<Vec<usize>> {
    let mut by_value = std::collections::BTreeMap::<Option<&str>, Vec<usize>>::new();
    for (position, item) in items.iter().enumerate() {
        by_value.entry(item.label(label)).or_default().push(position);
    }
    let mut domains: Vec<_> = by_value.into_iter().collect();
    domains.sort_by_cached_key(|(value, members)| (Reverse(members.len()), value.is_none(), value.map(natural)));
    domains.into_iter().map(|(_, members)| members).collect()
}

/// Where a name falls in the shuffle of `seed`: FNV-1a over both, then the finisher of MurmurHash3, without which
/// names that differ only at their end would stay together. Written out, since the standard library's hash may
/// change with the compiler, and a plan that is made again must be the same. No defence against chosen names.
fn shuffled(seed: &str, name: &str) -> u64 {
    // 0xff is in no UTF-8 text, so that ("a", "b1") and ("ab", "1") differ.
    let bytes = seed.bytes().chain([0xff]).chain(name.bytes());
    let mut hash =
        bytes.fold(0xcbf2_9ce4_8422_2325_u64, |hash, byte| (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3));
    for factor in [0xff51_afd7_ed55_8ccd, 0xc4ce_b9fe_1a85_ec53] {
        hash = (hash ^ (hash >> 33)).wrapping_mul(factor);
    }
    hash ^ (hash >> 33)
}

impl Sequence {
    /// The order in words, for a plan that explains itself.
    pub fn in_words(&self) -> String {
        let within = match self {
            Self::Name => "by name, numbers by value (n2 before n10)".to_owned(),
            Self::Random => "shuffled, the same way whenever this plan is made".to_owned(),
            Self::Spread(label) => format!("spread over the values of label '{label}' in proportion, then by name"),
        };
        format!("unhealthy nodes first, then unknown, old, current; within each {within}")
    }
}

impl FromStr for Sequence {
    type Err = SequenceError;
    fn from_str(text: &str) -> Result<Self, SequenceError> {
        let plain = |label: &&str| {
            (1..=LONGEST_LABEL).contains(&label.len())
                && label.bytes().all(|b| b.is_ascii_alphanumeric() || b"-_./".contains(&b))
        };
        match text.trim() {
            "name" => Ok(Self::Name),
            "random" => Ok(Self::Random),
            word => word
                .strip_prefix("spread:")
                .filter(plain)
                .map(|label| Self::Spread(label.to_owned()))
                .ok_or_else(|| SequenceError(text.chars().take(80).flat_map(char::escape_default).collect())),
        }
    }
}

impl fmt::Display for Sequence {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Name => f.write_str("name"),
            Self::Random => f.write_str("random"),
            Self::Spread(label) => write!(f, "spread:{label}"),
        }
    }
}

impl TryFrom<String> for Sequence {
    type Error = SequenceError;
    fn try_from(text: String) -> Result<Self, SequenceError> {
        text.parse()
    }
}

impl From<Sequence> for String {
    fn from(sequence: Sequence) -> String {
        sequence.to_string()
    }
}

impl Condition {
    /// The word used on the wire and in plans.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Unhealthy => "unhealthy",
            Self::Unknown => "unknown",
            Self::Old => "old",
            Self::Current => "current",
        }
    }
}
