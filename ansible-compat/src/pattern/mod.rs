//! Host patterns, as in `hosts:` of a play and `--limit`: names, groups, globs, `~regex`, subscripts, `!` and `&`.
//!
//! A pattern is read once (`HostPattern`) and asked of any hosts and groups (`Members`). Here is the order in which
//! terms apply; what one term matches is `term`'s, how a text falls into terms `split`'s. Reading files is the
//! caller's. The reference is `lib/ansible/inventory/manager.py` of ansible-core 2.17.

pub(crate) mod expression;
pub(crate) mod glob;
pub(crate) mod members;
pub(crate) mod selection;
pub(crate) mod split;
pub(crate) mod term;

use std::collections::HashSet;
use std::fmt;
use std::path::{Path, PathBuf};
use std::str::FromStr;

use self::members::Members;
use self::selection::{Notice, Selection};
use self::split::split;
use self::term::{Matcher, Sign, Term};
use crate::edition::Edition;
use crate::error::{PatternError, PatternReason, Place, TermPlace};
use crate::text::lines::strip;

/// A pattern's text form means the same to every edition.
const EDITIONS: [Edition; 2] = [Edition::Core2_18, Edition::Core2_19];

/// Bytes of a pattern and of the files it names: each host of the largest fleet aimed at by a name of fifty bytes.
const MAX_BYTES: usize = 1024 * 1024;

/// Terms; as many as there are hosts in the largest fleet aimed at.
const MAX_TERMS: usize = 20_000;

/// Globs; each is tried on every name, so that this many already take seconds on the largest fleet.
const MAX_GLOBS: usize = 256;

/// Regular expressions; each may take two megabytes.
const MAX_EXPRESSIONS: usize = 16;

/// An Ansible host pattern, such as `webservers:&az_a:!web07`.
///
/// Terms are separated by commas, or by colons where there is no comma and the whole is not one address (`fe80::1`).
/// Plain terms add hosts, then `&` terms keep only theirs, then `!` terms remove theirs, wherever they stand; without a
/// plain term, `all` is where it starts. A term is the name of a host or group, a glob (`web*`, `db[!3]`) or, behind
/// `~`, a regular expression, and picks from what it matched by a subscript: `web[0]`, `web[-1]`, `web[1:3]` (both ends
/// included), `web[1:]`.
///
/// It answers as Ansible does, or refuses. Refused, because the answer would be a trap or cannot be given: no term at
/// all (Ansible: every host), a sign with nothing behind it, `~` alone (every host), ranges such as `[b-a]` in globs,
/// and those parts of Python's regular expressions that an engine without backtracking does not have. No host is ever
/// invented: `localhost` matches only where the list has it (or `127.0.0.1` or `::1`).
///
/// Its text form has commas between the terms and reads back as the same pattern.
#[derive(Clone, Debug)]
pub struct HostPattern {
    /// As written, in the order written; at least one.
    terms: Vec<Term>,
}

impl FromStr for HostPattern {
    type Err = PatternError;

    /// Reads a pattern as the newest edition does; `@file` is refused.
    fn from_str(pattern: &str) -> Result<Self, PatternError> {
        Self::of_edition(pattern, Edition::default())
    }
}

impl HostPattern {
    /// Reads a pattern as that edition does (they differ in what is one IPv6 address); `@file` is refused.
    ///
    /// # Errors
    /// As from text.
    pub fn of_edition(pattern: &str, edition: Edition) -> Result<Self, PatternError> {
        let mut reading = TermsRead::default();
        check_length(pattern)?;
        for (place, term) in placed(pattern, edition) {
            reading.term(term, place)?;
        }
        reading.finish(pattern)
    }

    /// Reads a pattern as `--limit` does: `@file` stands for the lines of a file, each one term. Blank lines are passed
    /// over. `read` gets the path as written and gives the file's text.
    ///
    /// # Errors
    /// As from text; if a file cannot be read, holds a comma, or the pattern and its files hold no term at all (Ansible
    /// would take every host for an empty list of hosts to try again).
    pub fn with_files(
        pattern: &str,
        mut read: impl FnMut(&Path) -> std::io::Result<String>,
    ) -> Result<Self, PatternError> {
        let mut reading = TermsRead::default();
        check_length(pattern)?;
        let mut bytes = pattern.len();
        for (place, term) in placed(pattern, Edition::default()) {
            let Some(path) = term.strip_prefix('@').map(PathBuf::from) else {
                reading.term(term, place)?;
                continue;
            };
            let refuse = |reason| PatternError { term: term.to_owned(), place: place.clone(), reason };
            let text = read(&path).map_err(|cause| refuse(PatternReason::Unreadable { cause: cause.to_string() }))?;
            bytes = bytes.saturating_add(text.len());
            if bytes > MAX_BYTES {
                let what = "the number of bytes in the pattern and its files".to_owned();
                return Err(refuse(PatternReason::TooLarge { what, limit: MAX_BYTES }));
            }
            for (at, line) in text.split('\n').enumerate() {
                let line = strip(line);
                let place = TermPlace::File(Place { path: path.clone(), line: Some(at + 1) });
                if line.contains(',') {
                    return Err(PatternError { term: line.to_owned(), place, reason: PatternReason::CommaInFile });
                }
                if !line.is_empty() {
                    reading.term(line, place)?;
                }
            }
        }
        reading.finish(pattern)
    }

    /// The hosts the pattern names, in the pattern's order: `ansible PATTERN --list-hosts`.
    ///
    /// # Errors
    /// If a subscript asks for a host beyond those its term matches.
    pub fn select<'a>(&self, from: &'a impl Members) -> Result<Selection<'a>, PatternError> {
        let (hosts, notices) = self.numbers(from)?;
        Ok(Selection { hosts: hosts.into_iter().map(|host| from.host(host)).collect(), notices })
    }

    /// The hosts the pattern names, in the order of `all`: `--limit PATTERN`, which filters and never sorts.
    ///
    /// # Errors
    /// As [`HostPattern::select`].
    pub fn limit<'a>(&self, from: &'a impl Members) -> Result<Selection<'a>, PatternError> {
        let (hosts, notices) = self.numbers(from)?;
        let named: HashSet<usize> = hosts.into_iter().collect();
        let all = from.group_named("all").map(|all| from.members(all).into_owned()).unwrap_or_default();
        let hosts = all.into_iter().filter(|host| named.contains(host)).map(|host| from.host(host)).collect();
        Ok(Selection { hosts, notices })
    }

    fn numbers(&self, from: &impl Members) -> Result<(Vec<usize>, Vec<Notice>), PatternError> {
        let all = [Term::all()];
        let with = |sign: Sign| self.terms.iter().filter(move |term| term.sign == sign);
        let nothing_added = with(Sign::Add).next().is_none();
        let added = with(Sign::Add).chain(all.iter().filter(|_| nothing_added));
        let mut hosts: Vec<usize> = Vec::new();
        let mut seen = HashSet::new();
        let mut notices = Vec::new();
        for term in added.chain(with(Sign::Keep)).chain(with(Sign::Remove)) {
            // A host of exactly that name is added, even if the name begins with a sign.
            if let Some(host) = from.host_named(&term.written) {
                hosts.extend(Some(host).filter(|&host| seen.insert(host)));
                continue;
            }
            let found = term.hosts(from, &mut notices)?;
            match term.sign {
                Sign::Add => hosts.extend(found.into_iter().filter(|&host| seen.insert(host))),
                Sign::Keep => {
                    let kept: HashSet<usize> = found.into_iter().collect();
                    hosts.retain(|host| kept.contains(host));
                    seen.retain(|host| kept.contains(host));
                }
                Sign::Remove => {
                    let gone: HashSet<usize> = found.into_iter().collect();
                    hosts.retain(|host| !gone.contains(host));
                    seen.retain(|host| !gone.contains(host));
                }
            }
        }
        Ok((hosts, notices))
    }
}

impl fmt::Display for HostPattern {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (at, term) in self.terms.iter().enumerate() {
            write!(f, "{}{}", if at > 0 { "," } else { "" }, term.written)?;
        }
        // Without any comma, colons and blanks in the only term would cut it.
        match &self.terms[..] {
            [only] if EDITIONS.iter().any(|&edition| split(&only.written, edition) != [only.written.as_str()]) => {
                f.write_str(",")
            }
            _ => Ok(()),
        }
    }
}

/// The terms so far, and how many of the costly ones there are.
#[derive(Default)]
struct TermsRead {
    terms: Vec<Term>,
    globs: usize,
    expressions: usize,
}

impl TermsRead {
    fn term(&mut self, written: &str, place: TermPlace) -> Result<(), PatternError> {
        let term = Term::new(written, place)?;
        match term.matcher() {
            Matcher::Exactly => {}
            Matcher::Glob(_) => self.globs += 1,
            Matcher::Expression(_) => self.expressions += 1,
        }
        for (what, count, limit) in [
            ("the number of terms", self.terms.len() + 1, MAX_TERMS),
            ("the number of globs", self.globs, MAX_GLOBS),
            ("the number of regular expressions", self.expressions, MAX_EXPRESSIONS),
        ] {
            if count > limit {
                let reason = PatternReason::TooLarge { what: what.to_owned(), limit };
                return Err(PatternError { term: term.written, place: term.place, reason });
            }
        }
        self.terms.push(term);
        Ok(())
    }

    fn finish(self, pattern: &str) -> Result<HostPattern, PatternError> {
        if self.terms.is_empty() {
            let (term, place) = (pattern.to_owned(), TermPlace::Character(1));
            return Err(PatternError { term, place, reason: PatternReason::Blank });
        }
        Ok(HostPattern { terms: self.terms })
    }
}

fn check_length(pattern: &str) -> Result<(), PatternError> {
    if pattern.len() <= MAX_BYTES {
        return Ok(());
    }
    let reason = PatternReason::TooLarge { what: "the number of bytes in the pattern".to_owned(), limit: MAX_BYTES };
    // The pattern itself is the last thing anyone wants to see again.
    Err(PatternError { term: pattern.chars().take(80).collect(), place: TermPlace::Character(1), reason })
}

/// The terms of a pattern, each with the character at which it begins.
fn placed(pattern: &str, edition: Edition) -> impl Iterator<Item = (TermPlace, &str)> {
    let mut rest = pattern;
    let mut character = 1;
    split(pattern, edition).into_iter().map(move |term| {
        // What stands between two terms never begins one, so the next find is the term itself.
        let (before, after) = rest.split_once(term).unwrap_or(("", rest));
        let at = character + before.chars().count();
        character = at + term.chars().count();
        rest = after;
        (TermPlace::Character(at), term)
    })
}

#[cfg(test)]
#[path = "tests.rs"]
mod tests;
