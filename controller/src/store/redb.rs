//! redb as an index, and the only file that names it. It was clean in every simulated power loss, but it panics on a
//! zeroed page: whoever opens it (`reconcile.rs`) catches panics and makes it again.

use std::collections::BTreeMap;
use std::fs::DirBuilder;
use std::os::unix::fs::DirBuilderExt;
use std::path::Path;

use ::redb::{Builder, Database, Durability, Error, ReadableDatabase, TableDefinition};

use super::index::{self, Index, Mark, Trouble};
use super::log::sync_dir;
use super::{Change, Entry};

const ENTRIES: TableDefinition<&str, &[u8]> = TableDefinition::new("entries");
const MARKS: TableDefinition<&str, &[u8]> = TableDefinition::new("marks");
const MARK: &str = "log";

/// The page cache. The store's whole state is small; the default of 1 GiB is not for a controller.
const CACHE_BYTES: usize = 64 * 1024 * 1024;

/// redb, open.
pub(super) struct Redb(Database);

impl Index for Redb {
    const HOME: &'static str = "redb";

    fn open(home: &Path) -> Result<Redb, Trouble> {
        if !home.exists() {
            DirBuilder::new().mode(0o700).create(home).map_err(Trouble::Failed)?;
        }
        let mut database =
            Builder::new().set_cache_size(CACHE_BYTES).create(home.join("index.redb")).map_err(trouble)?;
        if !database.check_integrity().map_err(trouble)? {
            // It repaired itself. Whether to a state that the log confirms is seen when the two are compared.
            tracing::warn!(home = %home.display(), "redb had to repair its file");
        }
        // Both tables exist from here on, so that a reader need not care.
        let writing = database.begin_write().map_err(trouble)?;
        writing.open_table(ENTRIES).map_err(trouble)?;
        writing.open_table(MARKS).map_err(trouble)?;
        writing.commit().map_err(trouble)?;
        sync_dir(home).map_err(Trouble::Failed)?;
        if let Some(parent) = home.parent() {
            sync_dir(parent).map_err(Trouble::Failed)?;
        }
        Ok(Redb(database))
    }

    fn mark(&self) -> Result<Option<Mark>, Trouble> {
        let table = self.0.begin_read().map_err(trouble)?.open_table(MARKS).map_err(trouble)?;
        table.get(MARK).map_err(trouble)?.map(|bytes| index::read_mark(bytes.value())).transpose()
    }

    fn get(&self, key: &str) -> Result<Option<Entry>, Trouble> {
        let table = self.0.begin_read().map_err(trouble)?.open_table(ENTRIES).map_err(trouble)?;
        table.get(key).map_err(trouble)?.map(|bytes| index::read_cell(key, bytes.value())).transpose()
    }

    fn list(&self, prefix: &str) -> Result<Vec<(String, Entry)>, Trouble> {
        let table = self.0.begin_read().map_err(trouble)?.open_table(ENTRIES).map_err(trouble)?;
        let mut entries = Vec::new();
        for found in table.range(prefix..).map_err(trouble)? {
            let (key, bytes) = found.map_err(trouble)?;
            let key = key.value();
            if !key.starts_with(prefix) {
                break;
            }
            entries.push((key.to_owned(), index::read_cell(key, bytes.value())?));
        }
        Ok(entries)
    }

    fn apply(&self, changes: &BTreeMap<&str, &Change>, mark: Option<&Mark>) -> Result<(), Trouble> {
        let mut writing = self.0.begin_write().map_err(trouble)?;
        writing.set_durability(Durability::Immediate).map_err(trouble)?;
        {
            let mut entries = writing.open_table(ENTRIES).map_err(trouble)?;
            for (key, change) in changes {
                match &change.entry {
                    Some(entry) => entries.insert(key, index::cell(key, entry).as_slice()).map_err(trouble)?,
                    None => entries.remove(key).map_err(trouble)?,
                };
            }
            if let Some(mark) = mark {
                let mut marks = writing.open_table(MARKS).map_err(trouble)?;
                marks.insert(MARK, index::put_mark(mark).as_slice()).map_err(trouble)?;
            }
        }
        writing.commit().map_err(trouble)
    }
}

/// What redb says, sorted into "what it holds is unusable" and "the machine refused".
fn trouble(error: impl Into<Error>) -> Trouble {
    match error.into() {
        Error::Io(error) => match error.kind() {
            std::io::ErrorKind::InvalidData | std::io::ErrorKind::UnexpectedEof => Trouble::Damaged(error.to_string()),
            _ => Trouble::Failed(error),
        },
        error @ (Error::PreviousIo | Error::DatabaseAlreadyOpen | Error::DatabaseClosed) => {
            Trouble::Failed(std::io::Error::other(error))
        }
        error => Trouble::Damaged(error.to_string()),
    }
}
