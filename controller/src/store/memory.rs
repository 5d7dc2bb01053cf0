//! The store in memory: the reference for what every other backend must mean. Nothing survives the process, so "on
//! disk when it returns" is the one promise it does not keep; simulations and unit tests use it.

use std::collections::BTreeMap;
use std::sync::{Mutex, MutexGuard, PoisonError};

use super::watch::Feed;
use super::{Change, Entry, Error, Store, Version, Watch, Write, batch};

/// A store that lives as long as the process.
#[derive(Debug)]
pub struct Memory {
    table: Mutex<Table>,
    feed: Feed,
}

#[derive(Debug, Default)]
struct Table {
    revision: u64,
    entries: BTreeMap<String, Entry>,
}

impl Memory {
    /// An empty store.
    pub fn new() -> Memory {
        Memory { table: Mutex::default(), feed: Feed::new() }
    }

    fn table(&self) -> MutexGuard<'_, Table> {
        // Nothing panics while the table is half changed, so a poisoned table is a whole one.
        self.table.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Default for Memory {
    fn default() -> Memory {
        Memory::new()
    }
}

#[tonic::async_trait]
impl Store for Memory {
    async fn get(&self, key: &str) -> Result<Option<Entry>, Error> {
        Ok(self.table().entries.get(key).cloned())
    }

    async fn list(&self, prefix: &str) -> Result<Vec<(String, Entry)>, Error> {
        Ok(under(&self.table().entries, prefix).map(|(key, entry)| (key.clone(), entry.clone())).collect())
    }

    async fn commit(&self, writes: Vec<Write>) -> Result<Version, Error> {
        batch::admit(&writes)?;
        let mut table = self.table();
        if writes.is_empty() {
            return Ok(Version(table.revision));
        }
        let revision = Version(table.revision + 1);
        let changes = batch::decide(writes, revision, |key| Ok(table.entries.get(key).map(|entry| entry.version)))?;
        table.revision = revision.0;
        apply(&mut table.entries, &changes);
        // Published under the lock, so that watchers see the batches in the order of their revisions.
        self.feed.publish(changes);
        Ok(revision)
    }

    fn watch(&self, prefix: &str) -> Watch {
        self.feed.watch(prefix)
    }
}

/// Folds changes into a table.
pub(super) fn apply(entries: &mut BTreeMap<String, Entry>, changes: &[Change]) {
    for change in changes {
        match &change.entry {
            Some(entry) => entries.insert(change.key.clone(), entry.clone()),
            None => entries.remove(&change.key),
        };
    }
}

fn under<'a>(
    entries: &'a BTreeMap<String, Entry>,
    prefix: &'a str,
) -> impl Iterator<Item = (&'a String, &'a Entry)> + 'a {
    entries.range(prefix.to_owned()..).take_while(move |(key, _)| key.starts_with(prefix))
}
