//! Host patterns of `--limit`: names, groups, globs, `~regex`, subscripts, `!` and `&`.
//!
//! Plain terms apply first, then `&`, then `!`, wherever they stand. Globs are matched here; `~` is regex-lite's.

use std::collections::HashSet;

use regex_lite::RegexBuilder;

use crate::error::PatternError;
use crate::model::Model;
use crate::text::host_range::address;
use crate::text::lines::{is_space, strip};

/// Bytes a compiled `~` pattern may take.
const MAX_REGEX: usize = 1024 * 1024;

/// The answer to a host pattern.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Selection<'a> {
    /// Host names in the order the pattern gives them, each once.
    pub hosts: Vec<&'a str>,
    /// Terms that match no host and no group, as written.
    pub unmatched: Vec<String>,
}

pub(crate) fn select<'a>(model: &'a Model, pattern: &str) -> Result<Selection<'a>, PatternError> {
    let terms = split(pattern);
    let with = |sign: char| terms.iter().copied().filter(move |term| term.starts_with(sign));
    let mut plain: Vec<&str> = terms.iter().copied().filter(|term| !term.starts_with(['&', '!'])).collect();
    if plain.is_empty() {
        plain.push("all");
    }
    let mut hosts: Vec<usize> = Vec::new();
    let mut unmatched = Vec::new();
    let mut seen = HashSet::new();
    for term in plain {
        let found = one(model, term, &mut unmatched)?;
        hosts.extend(found.into_iter().filter(|&host| seen.insert(host)));
    }
    for term in with('&') {
        let kept: HashSet<usize> = one(model, term, &mut unmatched)?.into_iter().collect();
        hosts.retain(|host| kept.contains(host));
    }
    for term in with('!') {
        let gone: HashSet<usize> = one(model, term, &mut unmatched)?.into_iter().collect();
        hosts.retain(|host| !gone.contains(host));
    }
    Ok(Selection { hosts: hosts.into_iter().map(|host| model.hosts[host].name.as_str()).collect(), unmatched })
}

/// Commas separate; without one, colons do, unless the whole is one address (`fe80::1`, `web[1:3]`, `web:22`).
fn split(pattern: &str) -> Vec<&str> {
    let parts: Vec<&str> = if pattern.contains(',') {
        pattern.split(',').collect()
    } else if matches!(address(pattern), Ok(Some(_))) {
        vec![pattern]
    } else {
        split_colons(pattern)
    };
    parts.into_iter().map(strip).filter(|part| !part.is_empty()).collect()
}

/// Runs of anything but blanks, colons and loose brackets; complete brackets are part of a run, colons inside and all.
fn split_colons(pattern: &str) -> Vec<&str> {
    let mut parts = Vec::new();
    let mut start = 0;
    let mut at = 0;
    while let Some(c) = pattern[at..].chars().next() {
        let closed = if c == '[' { pattern[at..].find(']') } else { None };
        if let Some(end) = closed {
            at += end + 1;
            continue;
        }
        if matches!(c, ':' | '[' | ']') || is_space(c) {
            parts.push(&pattern[start..at]);
            start = at + c.len_utf8();
        }
        at += c.len_utf8();
    }
    parts.push(&pattern[start..]);
    parts
}

fn one(model: &Model, term: &str, unmatched: &mut Vec<String>) -> Result<Vec<usize>, PatternError> {
    // A host of exactly that name needs no matching.
    if let Some(&host) = model.host_index.get(term) {
        return Ok(vec![host]);
    }
    let bare = term.strip_prefix(['&', '!']).unwrap_or(term);
    if bare.is_empty() || bare == "~" {
        return Err(PatternError::Empty { term: term.to_owned() });
    }
    if bare.starts_with('@') {
        return Err(PatternError::File { term: term.to_owned() });
    }
    let (base, subscript) = subscript(bare);
    let matcher = Matcher::new(base).map_err(|cause| PatternError::Regex { term: term.to_owned(), cause })?;
    let groups: Vec<usize> = (0..model.groups.len()).filter(|&group| matcher.fits(&model.groups[group].name)).collect();
    let mut found: Vec<usize> = groups.iter().flat_map(|&group| model.hosts_below(group)).collect();
    if groups.is_empty() || base.starts_with('~') || base.contains(['.', '?', '*', '[']) {
        found.extend((0..model.hosts.len()).filter(|&host| matcher.fits(&model.hosts[host].name)));
    }
    if found.is_empty() && groups.is_empty() && base != "all" {
        unmatched.push(term.to_owned());
    }
    // Ansible counts a host as often as it matched; only the result is freed of repeats.
    let Some(subscript) = subscript.filter(|_| !found.is_empty()) else { return Ok(found) };
    let count = found.len();
    subscript.apply(found).ok_or_else(|| PatternError::Subscript {
        term: term.to_owned(),
        base: base.to_owned(),
        hosts: count,
    })
}

/// `[2]`, `[-1]`, or `[1:3]` with both ends included.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Subscript {
    One(i64),
    Range(usize, Option<usize>),
}

impl Subscript {
    fn apply(self, hosts: Vec<usize>) -> Option<Vec<usize>> {
        let one = |at: usize| hosts.get(at).map(|&host| vec![host]);
        match self {
            Self::One(at) if at < 0 => hosts.len().checked_sub(usize::try_from(at.unsigned_abs()).ok()?).and_then(one),
            Self::One(at) => usize::try_from(at).ok().and_then(one),
            // An end of 0 is no end to Ansible: `[2:0]` is `[2]`.
            Self::Range(start, Some(0)) => one(start),
            Self::Range(start, end) => {
                let end = end.map_or(hosts.len(), |end| end.saturating_add(1).min(hosts.len()));
                Some(hosts.get(start..end).unwrap_or_default().to_vec())
            }
        }
    }
}

/// Takes a subscript off the end. A regular expression has none; `[1-3]` is one, though a glob would read it otherwise.
fn subscript(term: &str) -> (&str, Option<Subscript>) {
    let parse = || {
        let (base, inside) = term.strip_suffix(']')?.rsplit_once('[')?;
        let digits = |text: &str| !text.is_empty() && text.bytes().all(|b| b.is_ascii_digit());
        if base.is_empty() || term.starts_with('~') {
            return None;
        }
        if digits(inside.strip_prefix('-').unwrap_or(inside)) {
            return Some((base, Subscript::One(inside.parse().unwrap_or(i64::MAX))));
        }
        let (start, end) = inside.split_once([':', '-'])?;
        if !digits(start) || !(end.is_empty() || digits(end)) {
            return None;
        }
        let number = |text: &str| text.parse().unwrap_or(usize::MAX);
        Some((base, Subscript::Range(number(start), (!end.is_empty()).then(|| number(end)))))
    };
    parse().map_or((term, None), |(base, subscript)| (base, Some(subscript)))
}

enum Matcher<'a> {
    /// Matches at the start of a name, need not reach its end.
    Regex(regex_lite::Regex),
    /// Matches a whole name.
    Glob(Vec<GlobPart<'a>>),
}

enum GlobPart<'a> {
    Any,
    One,
    Exactly(char),
    Set { negated: bool, inside: &'a str },
}

impl<'a> Matcher<'a> {
    fn new(pattern: &'a str) -> Result<Self, String> {
        if let Some(expression) = pattern.strip_prefix('~') {
            let built = RegexBuilder::new(&format!("^(?:{expression})")).size_limit(MAX_REGEX).build();
            return built.map(Self::Regex).map_err(|cause| cause.to_string());
        }
        let mut parts = Vec::new();
        let mut rest = pattern;
        while let Some(c) = rest.chars().next() {
            rest = &rest[c.len_utf8()..];
            parts.push(match c {
                '*' => GlobPart::Any,
                '?' => GlobPart::One,
                '[' => match set(rest) {
                    Some((part, length)) => {
                        rest = &rest[length..];
                        part
                    }
                    None => GlobPart::Exactly('['),
                },
                other => GlobPart::Exactly(other),
            });
        }
        Ok(Self::Glob(parts))
    }

    fn fits(&self, name: &str) -> bool {
        match self {
            Self::Regex(regex) => regex.is_match(name),
            Self::Glob(parts) => glob(parts, name),
        }
    }
}

/// A `[…]` set after its opening bracket; a `]` in first place is a member. Absent when it is never closed.
fn set(rest: &str) -> Option<(GlobPart<'_>, usize)> {
    let negated = rest.starts_with('!');
    let start = usize::from(negated);
    let first = usize::from(rest[start..].starts_with(']'));
    let end = start + first + rest[start + first..].find(']')?;
    Some((GlobPart::Set { negated, inside: &rest[start..end] }, end + 1))
}

fn in_set(inside: &str, c: char) -> bool {
    let members: Vec<char> = inside.chars().collect();
    let mut at = 0;
    while let Some(&low) = members.get(at) {
        if let (Some('-'), Some(&high)) = (members.get(at + 1), members.get(at + 2)) {
            if (low..=high).contains(&c) {
                return true;
            }
            at += 3;
        } else {
            if low == c {
                return true;
            }
            at += 1;
        }
    }
    false
}

/// Goes back only to the last `*`, so the work stays within pattern times name.
fn glob(parts: &[GlobPart<'_>], name: &str) -> bool {
    let name: Vec<char> = name.chars().collect();
    let (mut part, mut at) = (0, 0);
    let mut star: Option<(usize, usize)> = None;
    while at < name.len() {
        let fits = match parts.get(part) {
            Some(GlobPart::Any) => {
                star = Some((part, at));
                part += 1;
                continue;
            }
            Some(GlobPart::One) => true,
            Some(GlobPart::Exactly(c)) => *c == name[at],
            Some(GlobPart::Set { negated, inside }) => in_set(inside, name[at]) != *negated,
            None => false,
        };
        if fits {
            part += 1;
            at += 1;
        } else if let Some((star_part, star_at)) = star {
            star = Some((star_part, star_at + 1));
            part = star_part + 1;
            at = star_at + 1;
        } else {
            return false;
        }
    }
    parts[part..].iter().all(|part| matches!(part, GlobPart::Any))
}

#[cfg(test)]
#[path = "pattern_tests.rs"]
mod tests;
