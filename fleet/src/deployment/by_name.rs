//! Where each node lies among the entries, by its name. Asked several times at every event: a search tree of ten
//! thousand names costs twice what one of a hundred does, since every comparison waits for another piece of memory.
//!
//! The only hash map of this crate. It cannot be gone through, so that its order decides nothing, and its keys are
//! fixed, so that nothing depends on chance either. Names that collide on purpose would have to be enrolled first.

use std::collections::HashMap;
use std::hash::{BuildHasherDefault, DefaultHasher};

use crate::NodeName;

/// An index by name.
#[derive(Debug, Clone, Default)]
pub(super) struct ByName(HashMap<NodeName, usize, BuildHasherDefault<DefaultHasher>>);

impl ByName {
    /// For so many names.
    pub(super) fn for_many(names: usize) -> Self {
        Self(HashMap::with_capacity_and_hasher(names, BuildHasherDefault::default()))
    }

    /// Where `name` lies.
    pub(super) fn find(&self, name: &NodeName) -> Option<usize> {
        self.0.get(name).copied()
    }

    /// Notes that `name` lies at `index`.
    pub(super) fn note(&mut self, name: &NodeName, index: usize) {
        self.0.insert(name.clone(), index);
    }
}
