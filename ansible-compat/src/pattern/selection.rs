//! The answer to a host pattern: hosts in order, and what about the pattern deserves a look.

use std::fmt;

use crate::error::{PatternError, PatternReason, TermPlace};

/// The answer to a host pattern.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Selection<'a> {
    /// Host names, each once.
    pub hosts: Vec<&'a str>,
    /// What is likely a slip, in the order the terms apply.
    pub notices: Vec<Notice>,
}

/// A term of a pattern that answered, though hardly as meant.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Notice {
    /// No host and no group has such a name: Ansible's "Could not match supplied host pattern".
    Unmatched {
        /// The term as written.
        term: String,
        /// What no name matched: the term without its sign and subscript.
        name: String,
        /// Where the term stands.
        place: TermPlace,
    },
    /// Groups match, or hosts before the subscript, but no host is left. Ansible says nothing.
    Empty {
        /// The term as written.
        term: String,
    },
    /// `[1-3]`, which Ansible still takes for `[1:3]` and warns of.
    OldSubscript {
        /// The term as written.
        term: String,
    },
}

impl fmt::Display for Notice {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Unmatched { term, name, place } => {
                write!(f, "`{term}` ({place}): no host and no group matches `{name}`, it changes nothing")
            }
            Self::Empty { term } => write!(f, "`{term}`: its name is known, but it holds no host"),
            Self::OldSubscript { term } => write!(f, "`{term}`: write `[x:y]` for `[x-y]`"),
        }
    }
}

impl<'a> Selection<'a> {
    /// Terms that match no host and no group, as written.
    pub fn unmatched(&self) -> impl Iterator<Item = &str> {
        self.notices.iter().filter_map(|notice| match notice {
            Notice::Unmatched { term, .. } => Some(term.as_str()),
            Notice::Empty { .. } | Notice::OldSubscript { .. } => None,
        })
    }

    /// The hosts, if every term matched something: for callers to whom a slip is no warning but a reason to stop.
    ///
    /// # Errors
    /// The first term that matches no host and no group.
    pub fn if_all_matched(self) -> Result<Vec<&'a str>, PatternError> {
        for notice in self.notices {
            if let Notice::Unmatched { term, place, .. } = notice {
                return Err(PatternError { term, place, reason: PatternReason::Unmatched });
            }
        }
        Ok(self.hosts)
    }
}
