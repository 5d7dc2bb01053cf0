//! The store on disk: the log, a database as its index, and one thread that writes both.
//!
//! The thread takes all commits that wait, decides them one after the other, writes those that hold as one frame of
//! the log, waits for the disk once, brings the database up to it, publishes the changes and then answers: saved before
//! said. A failure of which the outcome on disk is not known closes the store; nothing is ever tried again on a file
//! whose fsync has failed. Opening anew finds out what is there.

use std::collections::{BTreeMap, VecDeque};
use std::fs::{self, DirBuilder, File, OpenOptions};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::sync::{Arc, OnceLock};
use std::thread::JoinHandle;

use nix::fcntl::{Flock, FlockArg};
use tokio::sync::{mpsc, oneshot};

use super::index::{Index, Mark};
use super::log::{Log, Refused, sync_dir};
use super::reconcile::{holds_anything, reconcile, unpanicked};
use super::watch::Feed;
use super::{Change, Entry, Error, OpenMode, Recovery, Store, Version, Watch, Write, batch};

/// How many commits may wait before the next one waits to be allowed to wait.
const WAITING: usize = 256;

/// A group is closed when it holds this many bytes, so that a frame stays far below the longest that is read back.
const GROUP_BYTES: usize = 4 * 1024 * 1024;

/// What must stay free on the disk beyond what a group needs: room for the database to follow the log, and to be made
/// durable, after the log has already taken the group. sled grows by segments of 512 KiB.
const RESERVE_BYTES: u64 = 1024 * 1024;

/// How often the bytes of a group may come to lie on the disk: in the log, and in the database before and after it
/// tidies up its pages.
const WRITTEN_TIMES: u64 = 3;

/// A store in a directory.
pub(super) struct Durable<I: Index> {
    shared: Arc<Shared<I>>,
    queue: Option<mpsc::Sender<Request>>,
    writer: Option<JoinHandle<()>>,
    recovery: Recovery,
}

struct Shared<I> {
    index: I,
    home: PathBuf,
    feed: Feed,
    closed: OnceLock<String>,
    /// Released when the last reader is gone, and after the database.
    _lock: Flock<File>,
}

/// A batch and whoever waits for its answer.
struct Request {
    batch: Vec<Write>,
    bytes: usize,
    answer: oneshot::Sender<Result<Version, Error>>,
}

impl<I: Index> Durable<I> {
    /// See [`super::open_sled`].
    pub(super) fn open(dir: &Path, mode: OpenMode) -> Result<Durable<I>, Error> {
        Durable::open_with(dir, mode, |_| {})
    }

    /// Opens, and lets a test change the log before it is used.
    pub(super) fn open_with(dir: &Path, mode: OpenMode, prepare: impl FnOnce(&mut Log)) -> Result<Durable<I>, Error> {
        let lock = enter(dir, mode)?;
        let log_home = dir.join("log");
        let (mut log, read) = match Log::open(&log_home)? {
            Some(opened) => opened,
            None => {
                make_log(dir, &log_home, mode, &lock)?;
                // A store that was just made is read back like any other.
                Log::open(&log_home)?.ok_or_else(|| Error::Missing { dir: dir.into() })?
            }
        };
        let (index, fate) = reconcile::<I>(dir, &read)?;
        log.tidy()?;
        if read.torn > 0 {
            tracing::warn!(
                bytes = read.torn,
                revision = read.revision,
                "cut a record that was never acknowledged from the log's end"
            );
        }
        prepare(&mut log);

        let shared =
            Arc::new(Shared { index, home: dir.into(), feed: Feed::new(), closed: OnceLock::new(), _lock: lock });
        let (queue, requests) = mpsc::channel(WAITING);
        let mut writer = Writer { shared: shared.clone(), log };
        let writer = std::thread::Builder::new()
            .name("store".into())
            .spawn(move || writer.run(requests))
            .map_err(|e| Error::io("cannot start the writer of", dir, e))?;
        let recovery = Recovery { torn_bytes: read.torn, index: fate };
        Ok(Durable { shared, queue: Some(queue), writer: Some(writer), recovery })
    }
}

impl<I: Index> Drop for Durable<I> {
    fn drop(&mut self) {
        // What was handed in is finished, so that the directory can be opened again at once.
        drop(self.queue.take());
        if let Some(writer) = self.writer.take() {
            // A panic of the writer has been reported by the panic hook.
            let _ = writer.join();
        }
    }
}

#[tonic::async_trait]
impl<I: Index> Store for Durable<I> {
    async fn get(&self, key: &str) -> Result<Option<Entry>, Error> {
        // Short: at most a few pages, nearly always from the database's cache.
        let shared = &self.shared;
        unpanicked(|| shared.index.get(key)).map_err(|t| t.into_error("cannot read from", &shared.home))
    }

    async fn list(&self, prefix: &str) -> Result<Vec<(String, Entry)>, Error> {
        let (shared, prefix) = (self.shared.clone(), prefix.to_owned());
        let listing = tokio::task::spawn_blocking(move || {
            unpanicked(|| shared.index.list(&prefix)).map_err(|t| t.into_error("cannot read from", &shared.home))
        });
        listing.await.unwrap_or_else(|_| Err(Error::Closed { reason: "the program is ending".into() }))
    }

    async fn commit(&self, batch: Vec<Write>) -> Result<Version, Error> {
        batch::admit(&batch)?;
        let gone = || Error::Closed { reason: "its writer has stopped".into() };
        let bytes = batch::bytes(&batch);
        let (answer, answered) = oneshot::channel();
        let queue = self.queue.as_ref().ok_or_else(gone)?;
        queue.send(Request { batch, bytes, answer }).await.map_err(|_| gone())?;
        answered.await.unwrap_or_else(|_| Err(gone()))
    }

    fn watch(&self, prefix: &str) -> Watch {
        self.shared.feed.watch(prefix)
    }

    fn recovery(&self) -> Recovery {
        self.recovery.clone()
    }
}

/// The one thread that writes.
struct Writer<I: Index> {
    shared: Arc<Shared<I>>,
    log: Log,
}

/// Someone who waits, and what they will be told if the group reaches the disk.
type Answer = (oneshot::Sender<Result<Version, Error>>, Result<Version, Error>);

impl<I: Index> Writer<I> {
    fn run(&mut self, mut requests: mpsc::Receiver<Request>) {
        let mut group = VecDeque::new();
        while let Some(request) = requests.blocking_recv() {
            let mut bytes = request.bytes;
            group.push_back(request);
            while group.len() < WAITING && bytes < GROUP_BYTES {
                let Ok(request) = requests.try_recv() else { break };
                bytes += request.bytes;
                group.push_back(request);
            }
            self.group(&mut group);
            if self.shared.closed.get().is_none() && self.log.wants_rotation() {
                self.rotate();
            }
        }
    }

    /// Decides, saves and answers one group.
    fn group(&mut self, group: &mut VecDeque<Request>) {
        let mut batches: Vec<Vec<Change>> = Vec::new();
        let mut answers: Vec<Answer> = Vec::new();
        let mut pending: BTreeMap<String, Option<Version>> = BTreeMap::new();
        for request in group.drain(..) {
            let revision = Version(self.log.revision() + batches.len() as u64 + u64::from(!request.batch.is_empty()));
            let is_empty = request.batch.is_empty();
            let decided = batch::decide(request.batch, revision, |key| match pending.get(key) {
                Some(version) => Ok(*version),
                None => self.version(key),
            });
            let said = decided.map(|changes| {
                for change in &changes {
                    pending.insert(change.key.clone(), change.entry.as_ref().map(|entry| entry.version));
                }
                if !is_empty {
                    batches.push(changes);
                }
                revision
            });
            answers.push((request.answer, said));
        }
        // Even a refusal may rest on a batch of this group, so nobody hears anything before it is on disk.
        let saved = self.save(&batches);
        if saved.is_ok() {
            for changes in batches {
                self.shared.feed.publish(changes);
            }
        }
        for (answer, said) in answers {
            // Whoever has stopped waiting has chosen not to know.
            let _ = answer.send(saved.clone().and(said));
        }
    }

    fn version(&self, key: &str) -> Result<Option<Version>, Error> {
        let found = unpanicked(|| self.shared.index.get(key));
        Ok(found.map_err(|t| t.into_error("cannot read from", &self.shared.home))?.map(|entry| entry.version))
    }

    fn save(&mut self, batches: &[Vec<Change>]) -> Result<(), Error> {
        if let Some(reason) = self.shared.closed.get() {
            return Err(Error::Closed { reason: reason.clone() });
        }
        if batches.is_empty() {
            return Ok(());
        }
        self.room_for(batches)?;
        self.log.append(batches).map_err(|refused| match refused {
            Refused::Full => Error::Full { dir: self.shared.home.clone() },
            Refused::Unknown(error) => self.close(error),
        })?;
        // The last change of a key is the one that counts.
        let changes: BTreeMap<&str, &Change> =
            batches.iter().flatten().map(|change| (change.key.as_str(), change)).collect();
        self.follow(&changes)
    }

    /// Brings the database up to the log.
    fn follow(&self, changes: &BTreeMap<&str, &Change>) -> Result<(), Error> {
        let opening = self.log.opening();
        let mark = Mark {
            id: opening.id,
            created_ms: opening.created_ms,
            segment: opening.segment,
            revision: self.log.revision(),
        };
        unpanicked(|| self.shared.index.apply(changes, Some(&mark))).map_err(|trouble| {
            // The log has it: this is not "full, nothing was saved", whatever the reason.
            let source = std::io::Error::other(format!("{trouble:?}")).into();
            self.close(Error::Io {
                doing: format!("cannot write the database in {}", self.shared.home.display()),
                source,
            })
        })
    }

    /// Refuses a group before anything is written when it would take the last of the disk.
    fn room_for(&self, batches: &[Vec<Change>]) -> Result<(), Error> {
        let home = &self.shared.home;
        let bytes: usize = batches
            .iter()
            .flatten()
            .map(|change| change.key.len() + change.entry.as_ref().map_or(0, |entry| entry.value.len()))
            .sum();
        let disk = nix::sys::statvfs::statvfs(home)
            .map_err(|e| Error::io("cannot ask for the free room of", home, e.into()))?;
        if disk.blocks_available() * disk.fragment_size() < RESERVE_BYTES + WRITTEN_TIMES * bytes as u64 {
            return Err(Error::Full { dir: home.clone() });
        }
        Ok(())
    }

    fn rotate(&mut self) {
        match self.log.rotate() {
            // The database must know the new segment before the old one is gone: then a lost segment is noticed.
            Ok(()) => match self.follow(&BTreeMap::new()).and_then(|()| self.log.remove_older()) {
                Ok(()) => tracing::info!(segment = self.log.opening().segment, "began a new segment of the log"),
                Err(error) => drop(self.close(error)),
            },
            Err(error @ Error::Full { .. }) => {
                tracing::warn!(%error, "no room for a new segment of the log; going on with the old one");
                self.log.postpone_rotation();
            }
            Err(error) => drop(self.close(error)),
        }
    }

    /// Accepts nothing any more. The first reason is the one that is kept.
    fn close(&self, error: Error) -> Error {
        tracing::error!(%error, store = %self.shared.home.display(), "the store accepts no more commits");
        let _ = self.shared.closed.set(error.to_string());
        error
    }
}

/// Makes the directory if that is allowed, and takes its lock.
fn enter(dir: &Path, mode: OpenMode) -> Result<Flock<File>, Error> {
    if !dir.is_dir() {
        if mode == OpenMode::Existing {
            return Err(Error::Missing { dir: dir.into() });
        }
        DirBuilder::new().recursive(true).mode(0o700).create(dir).map_err(|e| Error::io("cannot make", dir, e))?;
        if let Some(parent) = dir.canonicalize().ok().as_deref().and_then(Path::parent) {
            sync_dir(parent).map_err(|e| Error::io("cannot make durable", parent, e))?;
        }
    }
    let path = dir.join("LOCK");
    let file = OpenOptions::new()
        .read(true)
        .write(true)
        .create(mode == OpenMode::Create)
        .truncate(false)
        .mode(0o600)
        .open(&path);
    let file = match file {
        Err(error)
            if error.kind() == std::io::ErrorKind::NotFound && traces(dir)?.is_none() && !dir.join("log").exists() =>
        {
            return Err(Error::Missing { dir: dir.into() });
        }
        // A store that was restored without its lock file is still a store.
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => {
            OpenOptions::new().read(true).write(true).create(true).truncate(false).mode(0o600).open(&path)
        }
        file => file,
    };
    let file = file.map_err(|e| Error::io("cannot open", &path, e))?;
    Flock::lock(file, FlockArg::LockExclusiveNonblock).map_err(|(_, error)| match error {
        nix::errno::Errno::EWOULDBLOCK => Error::Locked { dir: dir.into() },
        error => Error::io("cannot lock", &path, error.into()),
    })
}

/// Makes the log of a new store, if nothing shows that there was one before.
fn make_log(dir: &Path, log_home: &Path, mode: OpenMode, lock: &File) -> Result<(), Error> {
    if let Some(evidence) = traces(dir)? {
        return Err(Error::Corrupt {
            what: "there is a database and no log; the log is the truth and the database only its index".into(),
            place: format!("{}, while {} is there", log_home.display(), evidence.display()),
            way_out: "restore the log's directory from a backup; a new store is only made in an empty directory".into(),
        });
    }
    if mode == OpenMode::Existing {
        return Err(Error::Missing { dir: dir.into() });
    }
    Log::create(log_home, random_id()?, created_ms(dir, lock)?).map(drop)
}

/// A directory that shows that there once was a database here, of whichever kind, in use or moved aside.
fn traces(dir: &Path) -> Result<Option<PathBuf>, Error> {
    for file in fs::read_dir(dir).map_err(|e| Error::io("cannot list", dir, e))? {
        let path = file.map_err(|e| Error::io("cannot list", dir, e))?.path();
        let name = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
        let kind = name.split_once(".aside-").map_or(name.as_str(), |(kind, _)| kind);
        if [super::sled::Sled::HOME, super::redb::Redb::HOME].contains(&kind) && holds_anything(&path) {
            return Ok(Some(path));
        }
    }
    Ok(None)
}

fn random_id() -> Result<[u8; 16], Error> {
    let mut id = [0; 16];
    getrandom::fill(&mut id).map_err(|e| Error::Io {
        doing: "cannot draw an id for the store".into(),
        source: std::io::Error::other(e).into(),
    })?;
    Ok(id)
}

/// When the store is made, by the clock of the file system, which is on the lock file. So that nothing here asks for
/// the time.
fn created_ms(dir: &Path, lock: &File) -> Result<u64, Error> {
    let modified =
        lock.metadata().and_then(|metadata| metadata.modified()).map_err(|e| Error::io("cannot read", dir, e))?;
    let since = modified.duration_since(std::time::UNIX_EPOCH).unwrap_or_default();
    Ok(u64::try_from(since.as_millis()).unwrap_or(u64::MAX))
}
