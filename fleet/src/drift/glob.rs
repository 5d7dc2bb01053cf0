//! Patterns for paths below a release: `*` and `?` stay within one name, `**` crosses them. Nothing else is special, so
//! that a pattern means what it seems to mean.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

/// The longest pattern, in bytes: no path of a release is longer.
const LONGEST: usize = 1_024;
/// The most stars in one pattern: matching costs no more than a path's length for each of them.
const MOST_STARS: usize = 16;

/// A pattern for paths.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Glob(String);

/// Why a pattern was refused.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum GlobError {
    /// Nothing, or too much.
    #[error("a pattern has between 1 and {LONGEST} bytes")]
    Length,
    /// It can match nothing that lies in a release.
    #[error("'{0}' is no pattern for paths below a release: they begin with no '/' and have no '.' or '..'")]
    Outside(String),
    /// It would match everything there is.
    #[error("'{0}' matches everything: name what may lie there, such as cache/** or **/*.pyc")]
    Everything(String),
    /// Too many stars.
    #[error("a pattern has {MOST_STARS} stars at most")]
    Stars,
}

impl Glob {
    /// Whether it names this path. `cache/**` names `cache` itself too, since a directory that is in no manifest is
    /// reported as one.
    pub fn matches(&self, path: &str) -> bool {
        let whole = names(self.0.as_bytes(), path.as_bytes());
        whole || self.0.strip_suffix("/**").is_some_and(|above| names(above.as_bytes(), path.as_bytes()))
    }

    /// As it was written.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

/// Every position of the path that the pattern can have reached, one step of the pattern after the other.
fn names(pattern: &[u8], path: &[u8]) -> bool {
    let mut reached = vec![false; path.len() + 1];
    reached[0] = true;
    let mut rest = pattern;
    while let Some((&first, tail)) = rest.split_first() {
        let across = first == b'*' && tail.first() == Some(&b'*');
        rest = if across { &tail[1..] } else { tail };
        // `**/x` names `x` too.
        let optional_slash = across && rest.first() == Some(&b'/');
        let mut next = vec![false; path.len() + 1];
        match first {
            b'*' => {
                let mut open = false;
                for at in 0..=path.len() {
                    open = reached[at] || (open && (across || path[at - 1] != b'/'));
                    next[at] = open;
                }
                if optional_slash {
                    rest = &rest[1..];
                    let before = next;
                    next = reached.clone();
                    for at in 1..=path.len() {
                        next[at] |= before[at - 1] && path[at - 1] == b'/';
                    }
                }
            }
            other => {
                for at in 0..path.len() {
                    let fits = if other == b'?' { path[at] != b'/' } else { path[at] == other };
                    next[at + 1] = reached[at] && fits;
                }
            }
        }
        reached = next;
    }
    reached[path.len()]
}

impl FromStr for Glob {
    type Err = GlobError;
    fn from_str(text: &str) -> Result<Self, GlobError> {
        if text.is_empty() || text.len() > LONGEST {
            return Err(GlobError::Length);
        }
        if text.split('/').any(|name| matches!(name, "" | "." | "..")) || text.chars().any(char::is_control) {
            return Err(GlobError::Outside(text.escape_default().to_string()));
        }
        if text.bytes().all(|byte| matches!(byte, b'*' | b'?' | b'/')) {
            return Err(GlobError::Everything(text.to_owned()));
        }
        if text.bytes().filter(|byte| *byte == b'*').count() > MOST_STARS {
            return Err(GlobError::Stars);
        }
        Ok(Self(text.to_owned()))
    }
}

impl TryFrom<String> for Glob {
    type Error = GlobError;
    fn try_from(text: String) -> Result<Self, GlobError> {
        text.parse()
    }
}

impl From<Glob> for String {
    fn from(glob: Glob) -> Self {
        glob.0
    }
}

impl fmt::Display for Glob {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(&self.0)
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn a_pattern_names_what_it_seems_to_name() {
        for (pattern, path, named) in [
            ("a.log", "a.log", true),
            ("a.log", "aXlog", false),
            ("*.log", "a.log", true),
            ("*.log", "logs/a.log", false),
            ("**/*.log", "a.log", true),
            ("**/*.log", "logs/deep/a.log", true),
            ("**/*.log", "a.logs", false),
            ("logs/?.log", "logs/a.log", true),
            ("logs/?.log", "logs//.log", false),
            ("cache/**", "cache", true),
            ("cache/**", "cache/a/b", true),
            ("cache/**", "cached", false),
            ("**/__pycache__/**", "lib/x/__pycache__", true),
            ("**/__pycache__/**", "__pycache__/a.pyc", true),
            ("a**z", "a/b/z", true),
            ("a*z", "a/b/z", false),
            ("*", "x", false),
        ] {
            let matches = pattern.parse::<Glob>().is_ok_and(|glob| glob.matches(path));
            assert_eq!(matches, named, "{pattern} {path}");
        }
    }

    #[test]
    fn what_names_everything_or_nothing_is_refused() {
        for wrong in ["", "**", "*", "**/*", "?", "/etc/x", "a//b", "../x", "a/./b", "x\n"] {
            assert!(wrong.parse::<Glob>().is_err(), "{wrong}");
        }
        assert!("*a".repeat(MOST_STARS + 1).parse::<Glob>().is_err());
        assert!("x".repeat(LONGEST + 1).parse::<Glob>().is_err());
        // Stars cost no more than their number, however many ways there are to fit them.
        let hard: Glob = format!("{}b", "*a".repeat(MOST_STARS)).parse().unwrap();
        assert!(!hard.matches(&"a".repeat(4_000)));
    }
}
