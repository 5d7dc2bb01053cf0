//! What can go wrong, each with where it is, why, and what to do next.
//!
//! Printing is for the caller: the text of an error is complete, on one line, without a trailing full stop.

use std::fmt;
use std::path::{Path, PathBuf};

/// A place in a user's file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Place {
    /// The file, or the directory or list when no file is to blame.
    pub path: PathBuf,
    /// The line, counted from 1; absent when the whole file is meant (JSON values carry no line).
    pub line: Option<usize>,
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.path.display())?;
        self.line.map_or(Ok(()), |line| write!(f, ":{line}"))
    }
}

/// Why an inventory could not be read.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The named source is neither a file, a directory nor a list with a comma.
    #[error("{}: there is no such inventory; give a file, a directory, or host names with a comma (`web01,`)", path.display())]
    Missing {
        /// What was asked for.
        path: PathBuf,
    },
    /// The operating system refused.
    #[error("{}: cannot be read: {cause}; check that this user may read it", path.display())]
    Unreadable {
        /// The file or directory.
        path: PathBuf,
        /// What the operating system said.
        #[source]
        cause: std::io::Error,
    },
    /// The text breaks a rule of its format; Ansible refuses it too.
    #[error("{place}: {reason}; {way_out}")]
    Invalid {
        /// Where.
        place: Place,
        /// Which rule.
        reason: String,
        /// What to do.
        way_out: String,
    },
    /// Ansible could read it, this reader does not: it never guesses.
    #[error("{place}: {what} is not read here; {way_out}")]
    Unsupported {
        /// Where.
        place: Place,
        /// The feature, by name.
        what: String,
        /// What to do.
        way_out: String,
    },
    /// Only Python code can read it: a plugin configuration, or TOML.
    #[error("{place}: {what} is not read here; {way_out}")]
    NeedsPlugin {
        /// Where.
        place: Place,
        /// The plugin, by name.
        what: String,
        /// What to do.
        way_out: String,
    },
    /// One of this reader's limits.
    #[error("{place}: {what} is more than the limit of {limit}; {way_out}")]
    TooLarge {
        /// Where.
        place: Place,
        /// What grew too large.
        what: String,
        /// The limit, in the unit `what` names.
        limit: u64,
        /// What to do.
        way_out: String,
    },
}

/// Why a host pattern (`--limit`) could not be read or answered.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("host pattern `{}` ({place}): {reason}", shown(term))]
pub struct PatternError {
    /// The term as written, or the whole pattern where no single term is to blame.
    pub term: String,
    /// Where the term stands.
    pub place: TermPlace,
    /// What is wrong, and what to do.
    pub reason: PatternReason,
}

/// Where a term of a host pattern stands.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum TermPlace {
    /// In the pattern, at this character, counted from 1.
    Character(usize),
    /// In a file named with `@`.
    File(Place),
}

impl fmt::Display for TermPlace {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Character(at) => write!(f, "character {at}"),
            Self::File(place) => write!(f, "{place}"),
        }
    }
}

/// What is wrong with a host pattern, each with the way out.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum PatternReason {
    /// No term at all. Ansible takes every host then, which an unset variable in a script must never do here.
    #[error("it names nothing; write `all` if every host is meant")]
    Blank,
    /// `!`, `&` or `~` with nothing behind it.
    #[error("it names nothing; write a host, group or glob after the sign")]
    Empty,
    /// A `~` pattern that does not compile.
    #[error("it is not a regular expression: {cause}; correct it, or use a glob such as `web*`")]
    Regex {
        /// What the compiler said.
        cause: String,
    },
    /// A part of Python's regular expressions that is not available.
    #[error("{what} is not available in regular expressions here; {way_out}")]
    NotAvailable {
        /// The feature, by name.
        what: String,
        /// What to write instead.
        way_out: String,
    },
    /// `[b-a]` in a glob.
    #[error("the range `{low}-{high}` in brackets begins after its end; write `[{high}-{low}]`")]
    Backwards {
        /// The first character.
        low: char,
        /// The last character.
        high: char,
    },
    /// A subscript beyond the hosts.
    #[error("no host has that number, `{base}` has {hosts}; numbers start at 0, or at -1 from the end")]
    Subscript {
        /// The pattern before the subscript.
        base: String,
        /// How many hosts the base has, counted as often as they match.
        hosts: usize,
    },
    /// `@file` where no files are read.
    #[error("it names a file, which is not read here; give its lines joined with commas")]
    File,
    /// `@file` that could not be read.
    #[error("the file cannot be read: {cause}; check the path behind `@` and that this user may read it")]
    Unreadable {
        /// What the operating system said.
        cause: String,
    },
    /// A line with a comma in a file: Ansible takes it for one term, people mean several.
    #[error("the line has a comma; write one pattern on a line")]
    CommaInFile,
    /// A limit of this reader.
    #[error("{what} is more than the limit of {limit}; make groups of these hosts")]
    TooLarge {
        /// What grew too large.
        what: String,
        /// The limit, in the unit `what` names.
        limit: usize,
    },
    /// A term that matches no host and no group, for a caller that allows none.
    #[error("no host and no group matches it; correct it, or leave it out")]
    Unmatched,
}

/// Enough of a term to recognise it, on one line.
fn shown(term: &str) -> String {
    const MOST: usize = 80;
    let mut text = String::new();
    for c in term.chars().take(MOST) {
        if c.is_control() {
            text.extend(c.escape_default());
        } else {
            text.push(c);
        }
    }
    if term.chars().nth(MOST).is_some() {
        text.push('…');
    }
    text
}

/// What a parser knows about a failure before the file's name is put to it.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Fault {
    pub(crate) line: Option<usize>,
    pub(crate) kind: FaultKind,
    pub(crate) text: String,
    pub(crate) way_out: String,
}

/// Which [`Error`] a [`Fault`] becomes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum FaultKind {
    /// [`Error::Invalid`].
    Invalid,
    /// [`Error::Unsupported`], where another format could still read the file.
    Unsupported,
    /// [`Error::Unsupported`] that no other format may retry: vaults and programs.
    Recognised,
    /// [`Error::NeedsPlugin`].
    Plugin,
    /// [`Error::TooLarge`].
    TooLarge(u64),
}

impl Fault {
    pub(crate) fn invalid(text: impl Into<String>, way_out: impl Into<String>) -> Self {
        Self { line: None, kind: FaultKind::Invalid, text: text.into(), way_out: way_out.into() }
    }

    pub(crate) fn unsupported(text: impl Into<String>, way_out: impl Into<String>) -> Self {
        Self { line: None, kind: FaultKind::Unsupported, text: text.into(), way_out: way_out.into() }
    }

    pub(crate) fn recognised(text: impl Into<String>, way_out: impl Into<String>) -> Self {
        Self { line: None, kind: FaultKind::Recognised, text: text.into(), way_out: way_out.into() }
    }

    pub(crate) fn too_large(text: impl Into<String>, limit: u64, way_out: impl Into<String>) -> Self {
        Self { line: None, kind: FaultKind::TooLarge(limit), text: text.into(), way_out: way_out.into() }
    }

    /// What only Python code can read.
    pub(crate) fn plugin(text: impl Into<String>) -> Self {
        let way_out = "install ansible-core to have its `ansible-inventory` read it, or run `ansible-inventory -i FILE --list --yaml --export > hosts.yml` and import hosts.yml";
        Self { line: None, kind: FaultKind::Plugin, text: text.into(), way_out: way_out.to_owned() }
    }

    /// Sets the line unless one is already known.
    pub(crate) fn at(mut self, line: usize) -> Self {
        self.line = self.line.or(Some(line).filter(|&line| line > 0));
        self
    }

    pub(crate) fn in_file(self, path: &Path) -> Error {
        let place = Place { path: path.to_path_buf(), line: self.line };
        let Self { text, way_out, .. } = self;
        match self.kind {
            FaultKind::Invalid => Error::Invalid { place, reason: text, way_out },
            FaultKind::Plugin => Error::NeedsPlugin { place, what: text, way_out },
            FaultKind::Unsupported | FaultKind::Recognised => Error::Unsupported { place, what: text, way_out },
            FaultKind::TooLarge(limit) => Error::TooLarge { place, what: text, limit, way_out },
        }
    }
}
