//! What a statement about files rests on, and how deep a look is asked for. Looking is the agent's work; when a statement
//! is too old to be believed is [`crate::drift`]'s.

use serde::{Deserialize, Serialize};

use crate::Millis;

/// How deep a node is asked to look. Processes are looked at freshly whatever is asked.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Depth {
    /// What is watched and was not touched may be said again.
    Events,
    /// Every file is looked at; what looks as it did when it was read is not read again.
    #[default]
    Sweep,
    /// Every file is read.
    Hash,
}

/// What the answer rests on: the same three, of which each includes the ones before it.
pub type Basis = Depth;

/// What a statement about the files of a release rests on.
///
/// The default is that of agents which know nothing of this: they look at every file for every statement.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Looked {
    /// How deep this look was.
    pub basis: Basis,
    /// How long ago every file was last looked at.
    pub swept: Millis,
    /// How long ago every file had last been read; None when that is not known.
    #[serde(default)]
    pub hashed: Option<Millis>,
    /// Why the files are not watched, if they are not: then every look is a sweep.
    #[serde(default)]
    pub unwatched: Option<String>,
}

impl Looked {
    /// The same without what changes by itself.
    #[must_use]
    pub fn without_ages(self) -> Self {
        Self { basis: Basis::default(), swept: Millis(0), hashed: None, ..self }
    }
}
