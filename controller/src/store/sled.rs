//! sled 0.34 as an index, and the only file that names it. Its own flush is not durable on Linux, it makes an empty
//! database where its file is missing, and its snapshots can be damaged where its file is not; so it is used by these
//! rules only (the numbers are those of the measurements that they come from):
//!
//! - W1 nothing else imports it. W2 `*.generating` is removed before it opens; when it reports corruption, `snap.*` is
//!   moved aside and it is asked once more; what is done then is for `reconcile.rs`.
//! - W4 a commit is `apply_batch`, `flush`, and an fsync of its file by us; the files and directories are made durable
//!   when they are made. W5 the limits of the store keep values out of its blob files. W6 values have checks of ours.
//! - W7 no flusher thread, no compression, no io_uring, and the version is pinned.

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io::{self, ErrorKind};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::{Path, PathBuf};
use std::sync::{PoisonError, RwLock};
use std::time::Duration;

use ::sled::{Batch, Config, Db, Error};

use super::index::{self, Index, Mark, Trouble};
use super::log::sync_dir;
use super::{Change, Entry};

/// Keys of the store begin with this, so that the mark can lie beside them in the one tree that a batch covers.
const ENTRY: &str = "k";
const MARK: &str = "m";

/// The page cache. The store's whole state is small; the default of 1 GiB is not for a controller.
const CACHE_BYTES: u64 = 64 * 1024 * 1024;

/// sled's threads hold its file lock for a moment after it was dropped. Our own lock is held, so nobody else can be
/// meant, and waiting is right; 200 times 10 ms is far beyond what was seen.
const LOCK_TRIES: u32 = 200;
const LOCK_PAUSE: Duration = Duration::from_millis(10);

/// sled, open.
pub(super) struct Sled {
    /// There until this is dropped.
    db: Option<Db>,
    /// `db/db`, for the fsync that sled leaves out.
    file: File,
    path: PathBuf,
    /// A batch is atomic on disk but a scan can see half of one; this keeps the two apart.
    turn: RwLock<()>,
}

impl Index for Sled {
    const HOME: &'static str = "db";

    fn open(home: &Path) -> Result<Sled, Trouble> {
        remove_generating(home).map_err(Trouble::Failed)?;
        let db = match open_patiently(home) {
            Err(Error::Corruption { .. }) if move_snapshots_aside(home).map_err(Trouble::Failed)? => {
                open_patiently(home)
            }
            other => other,
        };
        let db = db.map_err(trouble)?;
        let path = home.join("db");
        let file = make_durable(home, &path).map_err(Trouble::Failed)?;
        Ok(Sled { db: Some(db), file, path, turn: RwLock::new(()) })
    }

    fn mark(&self) -> Result<Option<Mark>, Trouble> {
        self.db()?.get(MARK).map_err(trouble)?.map(|bytes| index::read_mark(&bytes)).transpose()
    }

    fn get(&self, key: &str) -> Result<Option<Entry>, Trouble> {
        let _reading = self.turn.read().unwrap_or_else(PoisonError::into_inner);
        let found = self.db()?.get(format!("{ENTRY}{key}")).map_err(trouble)?;
        found.map(|bytes| index::read_cell(key, &bytes)).transpose()
    }

    fn list(&self, prefix: &str) -> Result<Vec<(String, Entry)>, Trouble> {
        let _reading = self.turn.read().unwrap_or_else(PoisonError::into_inner);
        let mut entries = Vec::new();
        for found in self.db()?.scan_prefix(format!("{ENTRY}{prefix}")) {
            let (key, bytes) = found.map_err(trouble)?;
            let key = std::str::from_utf8(&key[ENTRY.len()..])
                .map_err(|_| Trouble::Damaged("it holds a key that was never written".into()))?;
            entries.push((key.to_owned(), index::read_cell(key, &bytes)?));
        }
        Ok(entries)
    }

    fn apply(&self, changes: &BTreeMap<&str, &Change>, mark: Option<&Mark>) -> Result<(), Trouble> {
        let mut batch = Batch::default();
        for (key, change) in changes {
            let place = format!("{ENTRY}{key}");
            match &change.entry {
                Some(entry) => batch.insert(place.as_bytes(), index::cell(key, entry)),
                None => batch.remove(place.as_bytes()),
            }
        }
        if let Some(mark) = mark {
            batch.insert(MARK, index::put_mark(mark));
        }
        {
            let _writing = self.turn.write().unwrap_or_else(PoisonError::into_inner);
            self.db()?.apply_batch(batch).map_err(trouble)?;
        }
        self.db()?.flush().map_err(trouble)?;
        self.file
            .sync_all()
            .map_err(|e| Trouble::Failed(io::Error::new(e.kind(), format!("fsync of {}: {e}", self.path.display()))))
    }
}

impl Sled {
    fn db(&self) -> Result<&Db, Trouble> {
        self.db.as_ref().ok_or_else(|| Trouble::Failed(io::Error::other("sled was closed")))
    }
}

impl Drop for Sled {
    fn drop(&mut self) {
        // sled writes when it is dropped and panics if the disk refuses; whatever it would write is in the log.
        let db = self.db.take();
        if catch_unwind(AssertUnwindSafe(|| drop(db))).is_err() {
            tracing::warn!(database = %self.path.display(), "sled failed while it was closed");
        }
    }
}

fn open_patiently(home: &Path) -> Result<Db, Error> {
    let config = Config::new()
        .path(home)
        .cache_capacity(CACHE_BYTES)
        .flush_every_ms(None)
        .use_compression(false)
        .print_profile_on_drop(false);
    for _ in 1..LOCK_TRIES {
        match config.open() {
            Err(Error::Io(error)) if error.to_string().contains("could not acquire lock") => {
                std::thread::sleep(LOCK_PAUSE)
            }
            other => return other,
        }
    }
    config.open()
}

/// What sled says, sorted into "what it holds is unusable" and "the machine refused".
fn trouble(error: Error) -> Trouble {
    match error {
        Error::Io(error) => match error.kind() {
            ErrorKind::InvalidData | ErrorKind::InvalidInput | ErrorKind::UnexpectedEof => {
                Trouble::Damaged(error.to_string())
            }
            _ => Trouble::Failed(error),
        },
        Error::Corruption { .. } | Error::ReportableBug(_) | Error::Unsupported(_) | Error::CollectionNotFound(_) => {
            Trouble::Damaged(error.to_string())
        }
    }
}

/// A snapshot that was being written when the process stopped makes sled refuse or worse; it is never needed.
fn remove_generating(home: &Path) -> io::Result<()> {
    for path in files(home)? {
        if path.extension().is_some_and(|extension| extension == "generating") {
            fs::remove_file(path)?;
        }
    }
    Ok(())
}

/// Moves sled's snapshots out of its sight and says whether there were any.
fn move_snapshots_aside(home: &Path) -> io::Result<bool> {
    let mut moved = false;
    for path in files(home)? {
        let Some(name) = path.file_name().and_then(|name| name.to_str()) else { continue };
        if name.starts_with("snap.") {
            tracing::warn!(snapshot = %path.display(), "sled reports corruption; moved its snapshot aside");
            fs::rename(&path, home.join(format!("aside.{name}")))?;
            moved = true;
        }
    }
    Ok(moved)
}

fn files(home: &Path) -> io::Result<Vec<PathBuf>> {
    match fs::read_dir(home) {
        Ok(listing) => listing.map(|file| Ok(file?.path())).collect(),
        Err(error) if error.kind() == ErrorKind::NotFound => Ok(Vec::new()),
        Err(error) => Err(error),
    }
}

/// Makes sled's files, their directory and the name of that directory durable; the handle on the data file is kept.
fn make_durable(home: &Path, path: &Path) -> io::Result<File> {
    let file = File::open(path)?;
    file.sync_all()?;
    File::open(home.join("conf"))?.sync_all()?;
    sync_dir(home)?;
    if let Some(parent) = home.parent() {
        sync_dir(parent)?;
    }
    Ok(file)
}
