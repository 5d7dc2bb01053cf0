//! One term of a host pattern: a sign, what to match, a subscript.
//!
//! The rules are those of `_match_one_pattern` in `lib/ansible/inventory/manager.py`. In what order terms apply is
//! `pattern`'s.

use std::collections::HashSet;

use super::expression::{Expression, Refused};
use super::glob::Glob;
use super::members::Members;
use super::selection::Notice;
use crate::error::{PatternError, PatternReason, TermPlace};

/// Bytes of one term; ten times a long host name, and long alternations still fit.
const MAX_TERM: usize = 4096;

/// Names that Ansible takes for the machine it runs on.
const LOCALHOST: [&str; 3] = ["127.0.0.1", "localhost", "::1"];

/// What a term does with the hosts it matches.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Sign {
    Add,
    /// `&`
    Keep,
    /// `!`
    Remove,
}

#[derive(Clone, Debug)]
pub(crate) struct Term {
    pub(crate) written: String,
    pub(crate) place: TermPlace,
    pub(crate) sign: Sign,
    /// Without sign and subscript.
    name: String,
    subscript: Option<Subscript>,
    matcher: Matcher,
}

/// How a term finds names, because each kind has its own cost.
#[derive(Clone, Debug)]
pub(crate) enum Matcher {
    /// One name; looked up.
    Exactly,
    /// Tried on every name.
    Glob(Glob),
    /// `~`: tried on every name.
    Expression(Expression),
}

/// `[2]`, `[-1]`, or `[1:3]` with both ends included.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Subscript {
    range: Range,
    /// `[1-3]` for `[1:3]`.
    old: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Range {
    One(i64),
    From(usize, Option<usize>),
}

impl Term {
    pub(crate) fn new(written: &str, place: TermPlace) -> Result<Self, PatternError> {
        let refuse = |reason| PatternError { term: written.to_owned(), place: place.clone(), reason };
        if written.len() > MAX_TERM {
            let what = "the number of bytes in one term".to_owned();
            return Err(refuse(PatternReason::TooLarge { what, limit: MAX_TERM }));
        }
        let (sign, bare) = match written.split_at_checked(1) {
            Some(("&", bare)) => (Sign::Keep, bare),
            Some(("!", bare)) => (Sign::Remove, bare),
            _ => (Sign::Add, written),
        };
        if bare.is_empty() || bare == "~" {
            return Err(refuse(PatternReason::Empty));
        }
        if bare.starts_with('@') {
            return Err(refuse(PatternReason::File));
        }
        let (name, subscript) = split_subscript(bare);
        let matcher = Matcher::new(name).map_err(refuse)?;
        let name = name.to_owned();
        Ok(Self { written: written.to_owned(), place, sign, name, subscript, matcher })
    }

    /// `all`, which stands for itself where no term adds anything.
    pub(crate) fn all() -> Self {
        Self {
            written: "all".to_owned(),
            place: TermPlace::Character(1),
            sign: Sign::Add,
            name: "all".to_owned(),
            subscript: None,
            matcher: Matcher::Exactly,
        }
    }

    pub(crate) fn matcher(&self) -> &Matcher {
        &self.matcher
    }

    /// The hosts this term matches, by number. Ansible counts a host as often as it matched, and so do subscripts.
    pub(crate) fn hosts(&self, from: &impl Members, notices: &mut Vec<Notice>) -> Result<Vec<usize>, PatternError> {
        if self.subscript.is_some_and(|subscript| subscript.old) {
            notices.push(Notice::OldSubscript { term: self.written.clone() });
        }
        let groups = self.matcher.groups(&self.name, from);
        let in_groups = groups.iter().flat_map(|&group| from.members(group).into_owned());
        let look_further = groups.is_empty() || self.name.starts_with('~') || self.name.contains(['.', '?', '*', '[']);
        let by_name = if look_further { self.matcher.hosts(&self.name, from) } else { Vec::new() };
        let matches = in_groups.chain(by_name);
        let mut found: Vec<usize> = if self.subscript.is_some() {
            matches.collect()
        } else {
            // Only a subscript sees repeats; a `*` over many groups would hold every host as often.
            let mut seen = HashSet::new();
            matches.filter(|&host| seen.insert(host)).collect()
        };
        if found.is_empty() && LOCALHOST.contains(&self.name.as_str()) {
            found.extend(localhost(&self.name, from));
        }
        let matched = found.len();
        if found.is_empty() && groups.is_empty() && self.name != "all" {
            let (term, name, place) = (self.written.clone(), self.name.clone(), self.place.clone());
            notices.push(Notice::Unmatched { term, name, place });
            return Ok(found);
        }
        if let Some(subscript) = self.subscript.filter(|_| !found.is_empty()) {
            found = subscript.range.of(found).ok_or_else(|| PatternError {
                term: self.written.clone(),
                place: self.place.clone(),
                reason: PatternReason::Subscript { base: self.name.clone(), hosts: matched },
            })?;
        }
        if found.is_empty() && from.host_count() > 0 {
            notices.push(Notice::Empty { term: self.written.clone() });
        }
        Ok(found)
    }
}

/// Any of the names of this machine finds the first host that has one. Ansible would go on and invent a host.
fn localhost(name: &str, from: &impl Members) -> Option<usize> {
    from.host_named(name).or_else(|| LOCALHOST.iter().filter_map(|name| from.host_named(name)).min())
}

impl Matcher {
    fn new(name: &str) -> Result<Self, PatternReason> {
        if let Some(expression) = name.strip_prefix('~') {
            return Expression::new(expression).map(Self::Expression).map_err(|refused| match refused {
                Refused::NotAvailable(what, way_out) => {
                    PatternReason::NotAvailable { what: what.to_owned(), way_out: way_out.to_owned() }
                }
                Refused::Invalid(cause) => PatternReason::Regex { cause },
            });
        }
        if !name.contains(['*', '?', '[']) {
            return Ok(Self::Exactly);
        }
        let glob = Glob::new(name).map_err(|slip| PatternReason::Backwards { low: slip.low, high: slip.high })?;
        Ok(Self::Glob(glob))
    }

    fn groups(&self, name: &str, from: &impl Members) -> Vec<usize> {
        match self {
            Self::Exactly => from.group_named(name).into_iter().collect(),
            Self::Glob(glob) => (0..from.group_count()).filter(|&group| glob.fits(from.group(group))).collect(),
            Self::Expression(expression) => {
                (0..from.group_count()).filter(|&group| expression.fits(from.group(group))).collect()
            }
        }
    }

    fn hosts(&self, name: &str, from: &impl Members) -> Vec<usize> {
        match self {
            Self::Exactly => from.host_named(name).into_iter().collect(),
            Self::Glob(glob) => (0..from.host_count()).filter(|&host| glob.fits(from.host(host))).collect(),
            Self::Expression(expression) => {
                (0..from.host_count()).filter(|&host| expression.fits(from.host(host))).collect()
            }
        }
    }
}

impl Range {
    fn of(self, hosts: Vec<usize>) -> Option<Vec<usize>> {
        let one = |at: usize| hosts.get(at).map(|&host| vec![host]);
        match self {
            Self::One(at) if at < 0 => hosts.len().checked_sub(usize::try_from(at.unsigned_abs()).ok()?).and_then(one),
            Self::One(at) => usize::try_from(at).ok().and_then(one),
            // An end of 0 is no end to Ansible: `[2:0]` is `[2]`.
            Self::From(start, Some(0)) => one(start),
            Self::From(start, end) => {
                let end = end.map_or(hosts.len(), |end| end.saturating_add(1).min(hosts.len()));
                Some(hosts.get(start..end).unwrap_or_default().to_vec())
            }
        }
    }
}

/// Takes a subscript off the end. A regular expression has none; `[1-3]` is one, though a glob would read it otherwise.
fn split_subscript(term: &str) -> (&str, Option<Subscript>) {
    let parse = || {
        let (base, inside) = term.strip_suffix(']')?.rsplit_once('[')?;
        let digits = |text: &str| !text.is_empty() && text.bytes().all(|b| b.is_ascii_digit());
        if base.is_empty() || base.contains('\n') || term.starts_with('~') {
            return None;
        }
        if digits(inside.strip_prefix('-').unwrap_or(inside)) {
            // Beyond 64 bits there is no host either way.
            let far = if inside.starts_with('-') { i64::MIN } else { i64::MAX };
            let range = Range::One(inside.parse().unwrap_or(far));
            return Some((base, Subscript { range, old: false }));
        }
        let (start, end) = inside.split_once([':', '-'])?;
        if !digits(start) || !(end.is_empty() || digits(end)) {
            return None;
        }
        let number = |text: &str| text.parse().unwrap_or(usize::MAX);
        let range = Range::From(number(start), (!end.is_empty()).then(|| number(end)));
        Some((base, Subscript { range, old: inside.contains('-') }))
    };
    parse().map_or((term, None), |(base, subscript)| (base, Some(subscript)))
}
