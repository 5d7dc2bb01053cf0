//! How deep is looked, on the wire. What the ages mean is judged in `fleet::drift`.

use fleet::Millis;
use fleet::looked::{Depth, Looked};

use crate::convert::text;
use crate::v1;

impl From<Depth> for v1::Depth {
    fn from(depth: Depth) -> Self {
        match depth {
            Depth::Events => Self::Events,
            Depth::Sweep => Self::Sweep,
            Depth::Hash => Self::Hash,
        }
    }
}

/// Nothing said is what was done before there was a choice.
impl From<v1::Depth> for Depth {
    fn from(depth: v1::Depth) -> Self {
        match depth {
            v1::Depth::Events => Self::Events,
            v1::Depth::Unspecified | v1::Depth::Sweep => Self::Sweep,
            v1::Depth::Hash => Self::Hash,
        }
    }
}

impl From<Looked> for v1::Looked {
    fn from(looked: Looked) -> Self {
        Self {
            basis: v1::Depth::from(looked.basis).into(),
            swept_ms: looked.swept.0,
            hashed_ms: looked.hashed.map(|age| age.0),
            unwatched: looked.unwatched.unwrap_or_default(),
        }
    }
}

impl From<v1::Looked> for Looked {
    fn from(looked: v1::Looked) -> Self {
        Self {
            basis: looked.basis().into(),
            swept: Millis(looked.swept_ms),
            hashed: looked.hashed_ms.map(Millis),
            unwatched: Some(text(looked.unwatched)).filter(|why| !why.is_empty()),
        }
    }
}
