//! The meaning of a batch, shared by every backend: which batches are accepted at all, whether their expectations
//! hold, and what they change. Pure: where the current versions come from and where the changes go is the backend's.

use std::collections::BTreeSet;

use super::{
    Change, Entry, Error, Expect, MAX_BATCH_BYTES, MAX_BATCH_WRITES, MAX_KEY_BYTES, MAX_VALUE_BYTES, Version, Write,
};

impl Write {
    /// The key that is written.
    pub fn key(&self) -> &str {
        match self {
            Write::Put { key, .. } | Write::Delete { key, .. } => key,
        }
    }

    fn expect(&self) -> Expect {
        match self {
            Write::Put { expect, .. } | Write::Delete { expect, .. } => *expect,
        }
    }

    fn value_bytes(&self) -> usize {
        match self {
            Write::Put { value, .. } => value.len(),
            Write::Delete { .. } => 0,
        }
    }
}

/// Refuses a batch that no state of the store could accept.
pub(super) fn admit(batch: &[Write]) -> Result<(), Error> {
    at_most("the batch", batch.len(), MAX_BATCH_WRITES)?;
    let mut named = BTreeSet::new();
    for write in batch {
        let key = write.key();
        // The key is not repeated in the first message: it may be megabytes of anything.
        at_most("a key", key.len(), MAX_KEY_BYTES)?;
        if key.is_empty() || !key.bytes().all(|byte| (0x20..=0x7e).contains(&byte)) {
            return Err(Error::Invalid { what: format!("the key {key:?} is not printable ASCII") });
        }
        at_most(&format!("the value of {key}"), write.value_bytes(), MAX_VALUE_BYTES)?;
        if !named.insert(key) {
            return Err(Error::Invalid { what: format!("the batch names {key} twice; which one counts?") });
        }
    }
    at_most("the batch (bytes of keys and values)", bytes(batch), MAX_BATCH_BYTES)
}

fn at_most(what: &str, size: usize, limit: usize) -> Result<(), Error> {
    if size > limit {
        return Err(Error::TooLarge { what: what.into(), size, limit });
    }
    Ok(())
}

/// The bytes of keys and values in a batch.
pub(super) fn bytes(batch: &[Write]) -> usize {
    batch.iter().map(|write| write.key().len() + write.value_bytes()).sum()
}

/// What `batch` changes if it becomes `revision`, given the versions of the keys before it. Removing what is not
/// there changes nothing.
pub(super) fn decide(
    batch: Vec<Write>,
    revision: Version,
    mut current: impl FnMut(&str) -> Result<Option<Version>, Error>,
) -> Result<Vec<Change>, Error> {
    let mut changes = Vec::with_capacity(batch.len());
    for write in batch {
        let found = current(write.key())?;
        let holds = match write.expect() {
            Expect::Anything => true,
            Expect::Absent => found.is_none(),
            Expect::Version(version) => found == Some(version),
        };
        if !holds {
            return Err(Error::Conflict { key: write.key().into(), expected: write.expect(), found });
        }
        match write {
            Write::Put { key, value, .. } => {
                changes.push(Change { key, entry: Some(Entry { value, version: revision }) });
            }
            Write::Delete { key, .. } if found.is_some() => changes.push(Change { key, entry: None }),
            Write::Delete { .. } => {}
        }
    }
    Ok(changes)
}
