//! A script as lines of words, and what is wrong with it: the place, what, and how to write it instead. What the words
//! mean is read elsewhere.

use std::fmt::Display;
use std::path::{Path, PathBuf};
use std::str::FromStr;

use fleet::Millis;

/// Why a script was refused.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{}:{line}: {what}\n  help: {help}", file.display())]
pub struct ScriptError {
    /// The script.
    pub file: PathBuf,
    /// The line, from 1.
    pub line: usize,
    /// What is wrong and why.
    pub what: String,
    /// How to write it.
    pub help: String,
}

/// What is wrong with a line, before file and line are known.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Problem {
    pub(super) what: String,
    pub(super) help: String,
}

impl Problem {
    pub(super) fn new(what: impl Into<String>, help: impl Into<String>) -> Self {
        Self { what: what.into(), help: help.into() }
    }

    pub(super) fn at(self, file: &Path, line: usize) -> ScriptError {
        ScriptError { file: file.to_owned(), line, what: self.what, help: self.help }
    }
}

/// The words of one line that are not read yet.
#[derive(Debug, Clone)]
pub(super) struct Words {
    words: std::vec::IntoIter<String>,
    /// How a line of this kind is written, for errors.
    usage: &'static str,
}

impl Words {
    /// Cuts a line into words: as in a shell, quotes keep spaces together and `#` at the beginning of a word starts a
    /// comment. There is no escape: a text in quotes has no quotes.
    pub(super) fn of(line: &str) -> Result<Self, Problem> {
        let mut words = Vec::new();
        let mut word: Option<String> = None;
        let mut quoted = false;
        for c in line.chars() {
            match c {
                '"' => {
                    quoted = !quoted;
                    word.get_or_insert_default();
                }
                c if quoted => word.get_or_insert_default().push(c),
                '#' if word.is_none() => break,
                c if c.is_whitespace() => words.extend(word.take()),
                c => word.get_or_insert_default().push(c),
            }
        }
        if quoted {
            return Err(Problem::new("a quote is not closed", "end the text with \" on the same line"));
        }
        words.extend(word);
        Ok(Self { words: words.into_iter(), usage: "" })
    }

    /// Says how a line of this kind is written.
    pub(super) fn meaning(&mut self, usage: &'static str) -> &mut Self {
        self.usage = usage;
        self
    }

    /// The next word, if there is one.
    pub(super) fn any(&mut self) -> Option<String> {
        self.words.next()
    }

    /// The next word without taking it.
    pub(super) fn peek(&self) -> Option<&str> {
        self.words.as_slice().first().map(String::as_str)
    }

    /// The next word, which is `what`.
    pub(super) fn word(&mut self, what: &str) -> Result<String, Problem> {
        self.any().ok_or_else(|| Problem::new(format!("{what} is missing at the end of the line"), self.usage))
    }

    /// The next word as a value.
    pub(super) fn value<T: FromStr<Err: Display>>(&mut self, what: &str) -> Result<T, Problem> {
        let word = self.word(what)?;
        word.parse().map_err(|error: T::Err| Problem::new(format!("{what}: {error}"), self.usage))
    }

    /// The next words as numbers, names and the like, separated by commas.
    pub(super) fn list<T: FromStr<Err: Display>>(&mut self, what: &str) -> Result<Vec<T>, Problem> {
        let word = self.word(what)?;
        let parse =
            |part: &str| part.parse().map_err(|error: T::Err| Problem::new(format!("{what}: {error}"), self.usage));
        word.split(',').map(parse).collect()
    }

    /// Takes the next word if it is this one.
    pub(super) fn take(&mut self, keyword: &str) -> bool {
        let found = self.peek() == Some(keyword);
        if found {
            self.words.next();
        }
        found
    }

    /// The next word, which must be this one.
    pub(super) fn expect(&mut self, keyword: &str) -> Result<(), Problem> {
        match self.any() {
            Some(word) if word == keyword => Ok(()),
            Some(word) => {
                Err(Problem::new(format!("'{keyword}' is expected here, not '{}'", shown(&word)), self.usage))
            }
            None => Err(Problem::new(format!("'{keyword}' is missing at the end of the line"), self.usage)),
        }
    }

    /// A span behind a keyword, if the keyword is there: `for 10s`.
    pub(super) fn span_after(&mut self, keyword: &str) -> Result<Option<Millis>, Problem> {
        if self.take(keyword) { self.value("the time").map(Some) } else { Ok(None) }
    }

    /// Who does it, if it is said: `by alice`.
    pub(super) fn by(&mut self) -> Result<String, Problem> {
        if self.take("by") { self.word("a name") } else { Ok("operator".into()) }
    }

    /// Nothing may follow.
    pub(super) fn end(&mut self) -> Result<(), Problem> {
        match self.any() {
            None => Ok(()),
            Some(word) => Err(Problem::new(format!("'{}' is too much on this line", shown(&word)), self.usage)),
        }
    }
}

/// A word that is none of those known here; the nearest is suggested.
pub(super) fn unknown(word: &str, what: &str, known: &[&str]) -> Problem {
    // As clap does: below this similarity a suggestion is a guess.
    const ALIKE: f64 = 0.7;
    let nearest = known
        .iter()
        .map(|candidate| (strsim::jaro_winkler(word, candidate), *candidate))
        .filter(|(alike, _)| *alike > ALIKE)
        .max_by(|(a, _), (b, _)| a.total_cmp(b));
    let help = match nearest {
        Some((_, candidate)) => format!("did you mean '{candidate}'?"),
        None => format!("write one of: {}", known.join(", ")),
    };
    Problem::new(format!("'{}' is not {what}", shown(word)), help)
}

/// A word from a script, safe for a terminal and short.
pub(super) fn shown(word: &str) -> String {
    word.chars().take(80).flat_map(char::escape_debug).collect()
}
