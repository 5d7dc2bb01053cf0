//! Shell wildcards as Python's `fnmatch` reads them: `*`, `?`, `[abc]`, `[a-c]`, `[!a-c]`, always the whole name.
//!
//! Case counts. A bracket that is never closed stands for itself.

/// A wildcard pattern, ready to be tried on names.
#[derive(Clone, Debug)]
pub(crate) struct Glob {
    parts: Vec<Part>,
}

/// A range in brackets whose end comes before its begin. `fnmatch` drops it without a word (and, next to a `!`, turns
/// the set round), so it is always a slip.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Backwards {
    pub(crate) low: char,
    pub(crate) high: char,
}

#[derive(Clone, Debug)]
enum Part {
    Any,
    One,
    Exactly(char),
    Set { negated: bool, ranges: Vec<(char, char)> },
}

impl Glob {
    pub(crate) fn new(pattern: &str) -> Result<Self, Backwards> {
        let mut parts = Vec::new();
        let mut rest = pattern;
        // Once no bracket closes, none does: looking on would make the work quadratic.
        let mut closes = true;
        while let Some(c) = rest.chars().next() {
            rest = &rest[c.len_utf8()..];
            parts.push(match c {
                '*' => Part::Any,
                '?' => Part::One,
                '[' if closes => match set_length(rest) {
                    Some(length) => {
                        let part = set(&rest[..length])?;
                        rest = &rest[length + 1..];
                        part
                    }
                    None => {
                        closes = rest.contains(']');
                        Part::Exactly('[')
                    }
                },
                other => Part::Exactly(other),
            });
        }
        Ok(Self { parts })
    }

    /// Goes back only to the last `*`, so the work stays within pattern times name.
    pub(crate) fn fits(&self, name: &str) -> bool {
        let name: Vec<char> = name.chars().collect();
        let (mut part, mut at) = (0, 0);
        let mut star: Option<(usize, usize)> = None;
        while at < name.len() {
            let fits = match self.parts.get(part) {
                Some(Part::Any) => {
                    star = Some((part, at));
                    part += 1;
                    continue;
                }
                Some(Part::One) => true,
                Some(Part::Exactly(c)) => *c == name[at],
                Some(Part::Set { negated, ranges }) => {
                    ranges.iter().any(|(low, high)| (low..=high).contains(&&name[at])) != *negated
                }
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
        self.parts[part..].iter().all(|part| matches!(part, Part::Any))
    }
}

/// How long the inside of a set is; a `]` in first place is a member. Absent when it is never closed.
fn set_length(rest: &str) -> Option<usize> {
    let start = usize::from(rest.starts_with('!'));
    let first = usize::from(rest[start..].starts_with(']'));
    rest[start + first..].find(']').map(|end| start + first + end)
}

fn set(inside: &str) -> Result<Part, Backwards> {
    let members: Vec<char> = inside.strip_prefix('!').unwrap_or(inside).chars().collect();
    let mut ranges = Vec::new();
    let mut at = 0;
    while let Some(&low) = members.get(at) {
        match (members.get(at + 1), members.get(at + 2)) {
            (Some('-'), Some(&high)) if low > high => return Err(Backwards { low, high }),
            (Some('-'), Some(&high)) => {
                ranges.push((low, high));
                at += 3;
            }
            _ => {
                ranges.push((low, low));
                at += 1;
            }
        }
    }
    Ok(Part::Set { negated: inside.starts_with('!'), ranges })
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    /// Rows from the documentation of Python's `fnmatch` and its own tests (`Lib/test/test_fnmatch.py`).
    #[test]
    fn globs_of_the_table() {
        for (pattern, yes, no) in [
            ("abc", "abc", "ab"),
            ("?*?", "abc", "a"),
            ("???*", "abc", "ab"),
            ("*???", "abc", "ab"),
            ("ab[cd]", "abc", "abe"),
            ("ab[!de]", "abc", "abd"),
            ("[a-c]b*", "bb1", "db1"),
            ("[]]", "]", "["),
            ("[!]]", "[", "]"),
            ("[a-]", "-", "b"),
            ("[-a]", "-", "b"),
            ("[a-c-e]", "-", "d"),
            ("[^a]", "^", "b"),
            ("[\\]", "\\", "]"),
            ("a[b", "a[b", "ab"),
            ("[!", "[!", "!"),
            ("AbC", "AbC", "abc"),
            ("*a*a*a", "xaaya", "xaay"),
            ("[a&&b]", "&", "c"),
        ] {
            let glob = Glob::new(pattern).unwrap();
            assert!(glob.fits(yes), "{pattern} {yes}");
            assert!(!glob.fits(no), "{pattern} {no}");
        }
        assert_eq!(Glob::new("[b-a]").unwrap_err(), Backwards { low: 'b', high: 'a' });
    }
}
