//! What a statement about files rests on, how deep a look is asked for, and when such a statement is too old to be
//! believed. Looking is the agent's work; what follows from it is [`crate::drift`]'s.

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

/// A statement whose last sweep is older is not believed: events may go untold. Agents sweep every five minutes at
/// least, so this is two sweeps that did not happen.
pub const OLDEST_SWEEP: Millis = Millis::from_secs(10 * 60);
/// The same of the last reading of everything. Agents read everything every twelve hours at least.
pub const OLDEST_HASH: Millis = Millis::from_secs(24 * 3_600);

impl Looked {
    /// Why what is said of the files is too old to be believed.
    pub fn too_old(&self) -> Option<String> {
        if self.swept > OLDEST_SWEEP {
            return Some(format!("every file was last looked at {} ago, more than {OLDEST_SWEEP}", self.swept));
        }
        let hashed = self.hashed.filter(|age| *age > OLDEST_HASH)?;
        Some(format!("every file was last read {hashed} ago, more than {OLDEST_HASH}"))
    }

    /// Whether it is time to ask for a sweep, well before what is said would be too old.
    pub fn is_ageing(&self) -> bool {
        self.swept.0 > OLDEST_SWEEP.0 / 4 * 3
    }

    /// The same without what changes by itself.
    #[must_use]
    pub fn without_ages(self) -> Self {
        Self { basis: Basis::default(), swept: Millis(0), hashed: None, ..self }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn what_is_too_old_is_not_believed_and_asked_for_in_time() {
        let looked = |swept, hashed| Looked { swept: Millis(swept), hashed, ..Looked::default() };
        let fresh = looked(0, Some(Millis(0)));
        assert!(fresh.too_old().is_none() && !fresh.is_ageing());
        let last = looked(OLDEST_SWEEP.0, Some(OLDEST_HASH));
        assert!(last.too_old().is_none() && last.is_ageing());
        assert!(looked(OLDEST_SWEEP.0 + 1, None).too_old().unwrap().contains("looked at"));
        assert!(looked(0, Some(Millis(OLDEST_HASH.0 + 1))).too_old().unwrap().contains("read"));
        assert!(looked(u64::MAX, None).too_old().is_some());
    }

    #[test]
    fn each_depth_includes_the_ones_before_it() {
        assert!(Depth::Events < Depth::Sweep && Depth::Sweep < Depth::Hash);
        assert_eq!(Depth::default(), Depth::Sweep, "who knows nothing of depths looks at everything");
    }
}
