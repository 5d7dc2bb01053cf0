//! What can be wrong with a service file: one message with its place, and a line of help where there is a way out.

use std::fmt;
use std::io;
use std::path::{Path, PathBuf};

use fleet_bundle::BundleError;

use super::yaml::Place;

/// Why a service file was refused, or its release could not be made.
#[derive(Debug, thiserror::Error)]
pub enum ServiceFileError {
    /// There is no such file.
    #[error("there is no '{}'\n  help: {help}", path.display())]
    Missing {
        /// Where it was looked for.
        path: PathBuf,
        /// The way out.
        help: String,
    },
    /// It cannot be read.
    #[error("cannot read '{}': {source}", path.display())]
    Unreadable {
        /// The file or directory.
        path: PathBuf,
        /// The cause.
        source: io::Error,
    },
    /// It is absurdly large.
    #[error("'{}' is larger than {largest} bytes, which no service file is", path.display())]
    TooLarge {
        /// The file.
        path: PathBuf,
        /// The limit in bytes.
        largest: u64,
    },
    /// Something in it is wrong.
    #[error("{}:{place}: {problem}", file.display())]
    At {
        /// The file.
        file: PathBuf,
        /// Line and column.
        place: Place,
        /// What is wrong, and a line of help.
        problem: Message,
    },
    /// The version could not be found.
    #[error("{}: {problem}", file.display())]
    Version {
        /// The file.
        file: PathBuf,
        /// What is wrong, and a line of help.
        problem: Message,
    },
    /// The bundle could not be made.
    #[error(transparent)]
    Bundle(#[from] BundleError),
    /// The bundle could not be put in its place.
    #[error("cannot write '{}': {source}", path.display())]
    Output {
        /// Where it should have gone.
        path: PathBuf,
        /// The cause.
        source: io::Error,
    },
}

/// What is wrong, and what to do about it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Message {
    /// One sentence.
    pub text: String,
    /// One more line, shown as `help:`.
    pub help: Option<String>,
}

impl fmt::Display for Message {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)?;
        match &self.help {
            Some(help) => write!(f, "\n  help: {help}"),
            None => Ok(()),
        }
    }
}

/// A message with its place, before the file's name is known.
#[derive(Debug)]
pub(super) struct Problem {
    place: Place,
    message: Message,
}

impl Problem {
    pub(super) fn new(place: Place, text: impl Into<String>) -> Self {
        Self { place, message: Message { text: text.into(), help: None } }
    }

    pub(super) fn help(mut self, help: impl Into<String>) -> Self {
        self.message.help = Some(help.into());
        self
    }

    /// The error of the file at `path`.
    pub(super) fn of(self, path: &Path) -> ServiceFileError {
        ServiceFileError::At { file: path.to_owned(), place: self.place, problem: self.message }
    }
}
