//! What is done with the database when a store is opened. The log has been read and found whole; here the database is
//! compared with it, entry by entry, and kept, brought up to it, or moved aside and made again.
//!
//! | the database | then |
//! |---|---|
//! | holds what the log says | kept |
//! | is behind (a crash between log and database) | brought up to it |
//! | is missing, empty, unfinished, damaged, of another store, ahead of the log, or differs at the same revision | made again, with a warning; the old one is kept beside it |
//! | knows a revision that was in the torn end of the log | **stop**: that end was not torn but acknowledged and damaged later |
//! | knows a newer segment than there is | **stop**: the newest segment is missing |
//!
//! That there is a log at all is checked before (`durable.rs`).

use std::collections::BTreeMap;
use std::fs;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::{Path, PathBuf};

use super::index::{Index, Mark, Trouble};
use super::log::sync_dir;
use super::replay::Replayed;
use super::{Change, Entry, Error, IndexFate};

/// How many old databases are kept. Enough to look at what happened; a fault that comes back at every start must not
/// fill the disk.
const KEPT_ASIDE: usize = 3;

/// How much is written at once when a database is made again.
const CHUNK_BYTES: usize = 1024 * 1024;

/// Where the log stands, in the words of a database.
pub(super) fn mark_of(log: &Replayed) -> Mark {
    Mark {
        id: log.opening.id,
        created_ms: log.opening.created_ms,
        segment: log.opening.segment,
        revision: log.revision,
    }
}

/// A database that holds exactly what `log` says, and what it took.
pub(super) fn reconcile<I: Index>(store: &Path, log: &Replayed) -> Result<(I, IndexFate), Error> {
    let home = store.join(I::HOME);
    let truth = mark_of(log);
    if !holds_anything(&home) {
        fs::remove_dir_all(&home).or_else(absent_is_well).map_err(|e| Error::io("cannot remove", &home, e))?;
        let index = build(&home, log, &truth)?;
        if log.revision == 0 {
            return Ok((index, IndexFate::Fresh));
        }
        let why = "it was missing or empty";
        tracing::warn!(database = %home.display(), why, revision = log.revision, "made the database again from the log");
        return Ok((index, IndexFate::Rebuilt { why: why.into(), aside: None }));
    }
    let why = match examine::<I>(&home) {
        Ok((index, mark, entries)) => match compare(mark.as_ref(), &entries, &truth, log) {
            Verdict::Same => {
                if mark != Some(truth) {
                    // Only the segment differs, after a crash during a rotation.
                    apply(&index, &home, &BTreeMap::new(), &truth)?;
                }
                return Ok((index, IndexFate::Kept));
            }
            Verdict::Behind => {
                let changes = difference(&entries, &log.entries);
                apply(&index, &home, &by_key(&changes), &truth)?;
                return Ok((index, IndexFate::CaughtUp));
            }
            Verdict::Stop(error) => return Err(error),
            Verdict::Unusable(why) => why,
        },
        Err(Trouble::Damaged(why)) => why,
        Err(Trouble::Failed(error)) => return Err(Error::io("cannot open the database in", &home, error)),
    };
    let aside = move_aside(store, I::HOME)?;
    tracing::warn!(
        database = %home.display(), %why, kept = %aside.display(), revision = log.revision,
        "the database cannot be used; moved it aside and made it again from the log"
    );
    let index = build(&home, log, &truth)?;
    Ok((index, IndexFate::Rebuilt { why, aside: Some(aside) }))
}

/// Whether there is any file with content in `dir`, at any depth; used as evidence that there once was a store.
pub(super) fn holds_anything(dir: &Path) -> bool {
    let Ok(listing) = fs::read_dir(dir) else { return false };
    listing.flatten().any(|file| match file.metadata() {
        Ok(metadata) if metadata.is_dir() => holds_anything(&file.path()),
        Ok(metadata) => metadata.len() > 0,
        Err(_) => true,
    })
}

/// A database with its mark and everything in it.
type Examined<I> = (I, Option<Mark>, BTreeMap<String, Entry>);

/// Opens a database and reads all of it. Both sled and redb can panic on damaged files.
fn examine<I: Index>(home: &Path) -> Result<Examined<I>, Trouble> {
    unpanicked(|| {
        let index = I::open(home)?;
        let mark = index.mark()?;
        let entries = index.list("")?.into_iter().collect();
        Ok((index, mark, entries))
    })
}

/// Turns a panic of a database into the finding that it is damaged.
pub(super) fn unpanicked<T>(ask: impl FnOnce() -> Result<T, Trouble>) -> Result<T, Trouble> {
    // What a panic may have left half done is inside the database, which is not used again afterwards.
    catch_unwind(AssertUnwindSafe(ask)).unwrap_or_else(|panic| {
        let said = panic.downcast_ref::<String>().map(String::as_str).or(panic.downcast_ref::<&str>().copied());
        Err(Trouble::Damaged(format!("it panicked: {}", said.unwrap_or("without words"))))
    })
}

enum Verdict {
    Same,
    Behind,
    Unusable(String),
    Stop(Error),
}

fn compare(mark: Option<&Mark>, entries: &BTreeMap<String, Entry>, truth: &Mark, log: &Replayed) -> Verdict {
    let Some(mark) = mark else { return Verdict::Unusable("it is empty or was never finished".into()) };
    if mark.id != truth.id || mark.created_ms != truth.created_ms {
        return Verdict::Unusable("it belongs to another store".into());
    }
    if mark.segment > truth.segment {
        return Verdict::Stop(Error::Corrupt {
            what: format!("segment {} of the log is missing; the newest there is {}", mark.segment, truth.segment),
            place: "log/".into(),
            way_out: "restore the log's directory from a backup; nothing was changed".into(),
        });
    }
    if mark.revision > truth.revision && log.torn > 0 {
        return Verdict::Stop(Error::Corrupt {
            what: format!(
                "the last record of the log is damaged, and it was acknowledged: the database knows revision {}, the log \
                 is whole up to {}",
                mark.revision, truth.revision
            ),
            place: format!("log/{:08}.log at byte {}", truth.segment, log.end),
            way_out:
                "restore the log from a backup; or, to give up what was acknowledged after that revision, move the \
                      database's directory away and start again; nothing was changed"
                    .into(),
        });
    }
    match mark.revision.cmp(&truth.revision) {
        std::cmp::Ordering::Less => Verdict::Behind,
        std::cmp::Ordering::Greater => Verdict::Unusable(format!(
            "it is ahead of the log, at revision {} instead of {}, as after the log was restored from a backup",
            mark.revision, truth.revision
        )),
        std::cmp::Ordering::Equal if *entries == log.entries => Verdict::Same,
        std::cmp::Ordering::Equal => Verdict::Unusable("it differs from the log at the same revision".into()),
    }
}

fn difference(from: &BTreeMap<String, Entry>, to: &BTreeMap<String, Entry>) -> Vec<Change> {
    let gone = from.keys().filter(|key| !to.contains_key(*key)).map(|key| Change { key: key.clone(), entry: None });
    let written = to
        .iter()
        .filter(|(key, entry)| from.get(*key) != Some(entry))
        .map(|(key, entry)| Change { key: key.clone(), entry: Some(entry.clone()) });
    gone.chain(written).collect()
}

fn by_key(changes: &[Change]) -> BTreeMap<&str, &Change> {
    changes.iter().map(|change| (change.key.as_str(), change)).collect()
}

/// A new database with all that the log says. It gets its mark with the last part, so that an unfinished one is seen.
fn build<I: Index>(home: &Path, log: &Replayed, truth: &Mark) -> Result<I, Error> {
    let failed = |trouble: Trouble| trouble.into_error("cannot make the database in", home);
    let index = unpanicked(|| I::open(home)).map_err(failed)?;
    let changes = difference(&BTreeMap::new(), &log.entries);
    let mut part = BTreeMap::new();
    let mut bytes = 0;
    for change in &changes {
        bytes += change.key.len() + change.entry.as_ref().map_or(0, |entry| entry.value.len());
        part.insert(change.key.as_str(), change);
        if bytes > CHUNK_BYTES {
            unpanicked(|| index.apply(&part, None)).map_err(failed)?;
            part.clear();
            bytes = 0;
        }
    }
    apply(&index, home, &part, truth)?;
    Ok(index)
}

fn apply<I: Index>(index: &I, home: &Path, changes: &BTreeMap<&str, &Change>, mark: &Mark) -> Result<(), Error> {
    unpanicked(|| index.apply(changes, Some(mark)))
        .map_err(|trouble| trouble.into_error("cannot write the database in", home))
}

/// Gives the database's directory a name under which nothing looks for it, and removes the oldest beyond the limit.
fn move_aside(store: &Path, home: &str) -> Result<PathBuf, Error> {
    let from = store.join(home);
    let failed = |e| Error::io("cannot move aside", &from, e);
    let mut aside = asides(store, home).map_err(failed)?;
    let number = aside.last().map_or(1, |(last, _)| last + 1);
    let to = store.join(format!("{home}.aside-{number}"));
    fs::rename(&from, &to).map_err(failed)?;
    aside.push((number, to.clone()));
    let surplus = aside.len().saturating_sub(KEPT_ASIDE);
    for (_, old) in aside.drain(..surplus) {
        fs::remove_dir_all(&old).map_err(|e| Error::io("cannot remove", &old, e))?;
    }
    sync_dir(store).map_err(failed)?;
    Ok(to)
}

/// The old databases, oldest first.
fn asides(store: &Path, home: &str) -> std::io::Result<Vec<(u64, PathBuf)>> {
    let mut found = Vec::new();
    for file in fs::read_dir(store)? {
        let file = file?;
        let name = file.file_name();
        let number = name.to_str().and_then(|name| name.strip_prefix(home)?.strip_prefix(".aside-")?.parse().ok());
        found.extend(number.map(|number| (number, file.path())));
    }
    found.sort_unstable();
    Ok(found)
}

fn absent_is_well(error: std::io::Error) -> std::io::Result<()> {
    if error.kind() == std::io::ErrorKind::NotFound { Ok(()) } else { Err(error) }
}
