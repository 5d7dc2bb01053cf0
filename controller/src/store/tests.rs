//! Tests of what cannot be reached through the trait: the bytes of the log, what a broken one means, rotation, and
//! failures of the disk. What a store means to its users is tested in `tests/store_suite`.

#![allow(clippy::unwrap_used)]

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io;
use std::path::Path;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, mpsc};

use super::durable::Durable;
use super::frame::{self, Kind, PREAMBLE_BYTES};
use super::index::{self, Mark};
use super::log::{Log, Medium};
use super::redb::Redb;
use super::replay::{Replayed, replay};
use super::sled::Sled;
use super::{Change, Entry, Error, Expect, IndexFate, OpenMode, Store, Version, Write, memory};

type State = BTreeMap<String, Entry>;

fn put(key: &str, value: impl Into<Vec<u8>>) -> Write {
    Write::Put { key: key.into(), value: value.into(), expect: Expect::Anything }
}

fn written(key: &str, value: &str, version: u64) -> Change {
    Change { key: key.into(), entry: Some(Entry { value: value.into(), version: Version(version) }) }
}

/// A small log, and the state after each of its frames of commits (the first is empty).
fn small_log(home: &Path) -> (Vec<u8>, Vec<State>) {
    let mut log = Log::create(home, *b"0123456789abcdef", 1_700_000_000_000).unwrap();
    let groups = [
        vec![vec![written("desired/n1/web", "release 1", 1), written("roster/n1", "", 1)]],
        vec![vec![written("roster/n2", "b", 2)], vec![Change { key: "roster/n1".into(), entry: None }]],
        vec![vec![written("desired/n1/web", "release 2", 4)]],
    ];
    let mut states = vec![State::new()];
    for group in groups {
        log.append(&group).unwrap();
        let mut state = states.last().unwrap().clone();
        memory::apply(&mut state, &group.concat());
        states.push(state);
    }
    (fs::read(home.join("00000001.log")).unwrap(), states)
}

fn replay_bytes(dir: &Path, bytes: &[u8]) -> Result<Replayed, Error> {
    let path = dir.join("under-test.log");
    fs::write(&path, bytes).unwrap();
    replay(&path, &File::open(&path).unwrap())
}

/// Where each frame begins, and at last the end.
fn boundaries(bytes: &[u8]) -> Vec<usize> {
    let mut at = PREAMBLE_BYTES;
    let mut found = vec![at];
    while at < bytes.len() {
        at += frame::HEADER_BYTES + frame::read_header(&bytes[at..]).unwrap().payload_bytes + frame::SEAL_BYTES;
        found.push(at);
    }
    found
}

#[test]
fn the_bytes_of_a_log_never_change() {
    let dir = tempfile::tempdir().unwrap();
    let (bytes, states) = small_log(dir.path());
    let hex: Vec<String> = bytes.chunks(32).map(|row| row.iter().map(|byte| format!("{byte:02x}")).collect()).collect();
    assert_eq!(hex.join("\n") + "\n", include_str!("golden/log-v1.hex"));
    let read = replay_bytes(dir.path(), &bytes).unwrap();
    assert_eq!((read.entries, read.revision, read.torn), (states[3].clone(), 4, 0));
    assert_eq!((read.opening.id, read.opening.created_ms), (*b"0123456789abcdef", 1_700_000_000_000));
}

#[test]
fn a_newer_format_is_refused_by_name() {
    let dir = tempfile::tempdir().unwrap();
    let (mut bytes, _) = small_log(dir.path());
    bytes[..PREAMBLE_BYTES].copy_from_slice(&frame::preamble(frame::FORMAT + 1));
    let refused = replay_bytes(dir.path(), &bytes).unwrap_err();
    assert!(matches!(refused, Error::NewerFormat { found: 2, known: 1, .. }), "{refused}");
    assert!(refused.to_string().contains("under-test.log has format 2"), "{refused}");
}

#[test]
fn a_log_cut_at_any_byte_gives_a_prefix_of_its_history_or_stops() {
    let dir = tempfile::tempdir().unwrap();
    let (bytes, states) = small_log(dir.path());
    let frames = boundaries(&bytes);
    // Frames 0 and 1 are the opening and the end of the snapshot.
    let commits = &frames[2..];
    for length in 0..=bytes.len() {
        let outcome = replay_bytes(dir.path(), &bytes[..length]);
        let whole = commits.iter().filter(|&&end| end <= length).count();
        if whole == 0 {
            assert!(matches!(outcome, Err(Error::Corrupt { .. })), "cut at {length}: {outcome:?}");
            continue;
        }
        let read = outcome.unwrap();
        assert_eq!(read.entries, states[whole - 1], "cut at {length}");
        assert_eq!(read.torn as usize, length - commits[whole - 1], "cut at {length}");
    }
}

#[test]
fn every_flipped_bit_stops_or_is_in_the_last_record_and_cuts_it() {
    let dir = tempfile::tempdir().unwrap();
    let (bytes, states) = small_log(dir.path());
    let frames = boundaries(&bytes);
    let last = frames[frames.len() - 2];
    let (mut cut, mut stopped) = (0, 0);
    for at in 0..bytes.len() {
        for bit in 0..8 {
            let mut flipped = bytes.clone();
            flipped[at] ^= 1 << bit;
            match replay_bytes(dir.path(), &flipped) {
                Ok(read) => {
                    assert!(at >= last, "bit {bit} of byte {at} was not noticed");
                    assert_eq!(read.entries, states[2]);
                    assert_eq!(read.torn as usize, bytes.len() - last);
                    cut += 1;
                }
                Err(Error::Corrupt { place, way_out, .. }) => {
                    assert!(place.contains("under-test.log at byte ") && !way_out.is_empty());
                    stopped += 1;
                }
                Err(other) => panic!("bit {bit} of byte {at}: {other}"),
            }
        }
    }
    assert_eq!(cut, (bytes.len() - last) * 8, "the whole last record can be torn");
    assert_eq!(stopped, last * 8);
}

#[test]
fn a_record_taken_out_doubled_or_swapped_stops() {
    let dir = tempfile::tempdir().unwrap();
    let (bytes, _) = small_log(dir.path());
    let frames = boundaries(&bytes);
    let part = |n: usize| bytes[frames[n]..frames[n + 1]].to_vec();
    let head = bytes[..frames[2]].to_vec();
    let stories = [
        ("second of three taken out", [part(2), part(4)].concat()),
        ("first taken out", [part(3), part(4)].concat()),
        ("last doubled", [part(2), part(3), part(4), part(4)].concat()),
        ("two swapped", [part(3), part(2), part(4)].concat()),
        ("zeros between", [part(2), vec![0; 100], part(3)].concat()),
    ];
    for (story, commits) in stories {
        let outcome = replay_bytes(dir.path(), &[head.clone(), commits].concat());
        assert!(matches!(outcome, Err(Error::Corrupt { .. })), "{story}: {outcome:?}");
    }
    // A file that grew before its blocks were written ends in zeros: that is torn.
    let read = replay_bytes(dir.path(), &[bytes, vec![0; 5000]].concat()).unwrap();
    assert_eq!((read.revision, read.torn), (4, 5000));
}

#[test]
fn a_record_of_a_kind_that_has_no_place_there_stops() {
    let dir = tempfile::tempdir().unwrap();
    let (bytes, _) = small_log(dir.path());
    let read = replay_bytes(dir.path(), &bytes).unwrap();
    for (kind, batches, revision) in
        [(Kind::Snapshot, 0, 4), (Kind::Commits, 1, 6), (Kind::Commits, 0, 4), (Kind::Ready, 0, 4)]
    {
        let extra = frame::frame(&read.seal, kind, batches, revision, &[0; 8]);
        let outcome = replay_bytes(dir.path(), &[bytes.clone(), extra].concat());
        assert!(matches!(outcome, Err(Error::Corrupt { .. })), "{kind:?}: {outcome:?}");
    }
}

#[test]
fn a_value_or_mark_of_a_database_with_any_bit_flipped_is_not_decoded() {
    let entry = Entry { value: b"release 7".to_vec(), version: Version(300) };
    let cell = index::cell("a/b", &entry);
    assert_eq!(index::read_cell("a/b", &cell).unwrap(), entry);
    assert!(index::read_cell("a/c", &cell).is_err(), "it belongs to another key");
    let mark = Mark { id: *b"0123456789abcdef", created_ms: 5, segment: 2, revision: 300 };
    let marked = index::put_mark(&mark);
    assert_eq!(index::read_mark(&marked).unwrap(), mark);
    for bit in 0..cell.len().max(marked.len()) * 8 {
        let flipped = |bytes: &[u8]| {
            let mut bytes = bytes.to_vec();
            let at = bit / 8 % bytes.len();
            bytes[at] ^= 1 << (bit % 8);
            bytes
        };
        assert!(index::read_cell("a/b", &flipped(&cell)).is_err(), "bit {bit}");
        assert!(index::read_mark(&flipped(&marked)).is_err(), "bit {bit}");
    }
    for length in 0..cell.len() {
        assert!(index::read_cell("a/b", &cell[..length]).is_err());
    }
}

/// A disk that does as it is told to.
#[derive(Default)]
struct Faults {
    write: Mutex<Option<io::ErrorKind>>,
    sync: Mutex<Option<io::ErrorKind>>,
    set_len: Mutex<Option<io::ErrorKind>>,
    syncs: AtomicUsize,
    gate: Mutex<Option<mpsc::Receiver<()>>>,
}

struct Faulty(Box<dyn Medium>, Arc<Faults>);

fn fault(of: &Mutex<Option<io::ErrorKind>>) -> io::Result<()> {
    of.lock().unwrap().map_or(Ok(()), |kind| Err(kind.into()))
}

impl Medium for Faulty {
    fn write_all_at(&self, bytes: &[u8], at: u64) -> io::Result<()> {
        if let Err(error) = fault(&self.1.write) {
            self.0.write_all_at(&bytes[..bytes.len() / 2], at)?;
            return Err(error);
        }
        self.0.write_all_at(bytes, at)
    }
    fn sync_data(&self) -> io::Result<()> {
        self.1.syncs.fetch_add(1, Ordering::SeqCst);
        if let Some(gate) = self.1.gate.lock().unwrap().take() {
            gate.recv().unwrap();
        }
        fault(&self.1.sync)?;
        self.0.sync_data()
    }
    fn set_len(&self, length: u64) -> io::Result<()> {
        fault(&self.1.set_len)?;
        self.0.set_len(length)
    }
}

fn open_faulty(dir: &Path) -> (Durable<Redb>, Arc<Faults>) {
    let faults = Arc::new(Faults::default());
    let given = faults.clone();
    let store =
        Durable::open_with(dir, OpenMode::Create, |log| log.replace_medium(|medium| Box::new(Faulty(medium, given))));
    (store.unwrap(), faults)
}

#[tokio::test]
async fn a_disk_that_fills_during_a_write_loses_nothing_and_the_store_goes_on() {
    let dir = tempfile::tempdir().unwrap();
    let (store, faults) = open_faulty(dir.path());
    store.commit(vec![put("a", "1")]).await.unwrap();
    for (kind, held, next) in [(io::ErrorKind::StorageFull, "1", "2"), (io::ErrorKind::QuotaExceeded, "2", "3")] {
        *faults.write.lock().unwrap() = Some(kind);
        let refused = store.commit(vec![put("b", vec![7; 9000])]).await.unwrap_err();
        assert!(matches!(refused, Error::Full { .. }), "{refused}");
        assert_eq!(store.get("b").await.unwrap(), None);
        assert_eq!(store.get("a").await.unwrap().unwrap().value, held.as_bytes());
        *faults.write.lock().unwrap() = None;
        store.commit(vec![put("a", next)]).await.unwrap();
    }
    drop(store);
    let store = Durable::<Redb>::open(dir.path(), OpenMode::Existing).unwrap();
    assert_eq!(store.recovery().torn_bytes, 0, "the unfinished record was cut at once");
    assert_eq!(store.list("").await.unwrap().len(), 1);
}

#[tokio::test]
async fn after_a_failed_fsync_nothing_is_written_any_more() {
    let dir = tempfile::tempdir().unwrap();
    let (store, faults) = open_faulty(dir.path());
    store.commit(vec![put("a", "1")]).await.unwrap();
    *faults.sync.lock().unwrap() = Some(io::ErrorKind::StorageFull);
    let failed = store.commit(vec![put("a", "2")]).await.unwrap_err();
    assert!(matches!(failed, Error::Io { .. }), "unknown, so not called full: {failed}");
    *faults.sync.lock().unwrap() = None;
    let syncs = faults.syncs.load(Ordering::SeqCst);
    for _ in 0..3 {
        let closed = store.commit(vec![put("a", "3")]).await.unwrap_err();
        assert!(matches!(&closed, Error::Closed { reason } if reason.contains("cannot make durable")), "{closed}");
    }
    assert_eq!(faults.syncs.load(Ordering::SeqCst), syncs, "never retried");
    assert_eq!(store.get("a").await.unwrap().unwrap().value, b"1", "reads show what was saved");
    drop(store);
    let store = Durable::<Redb>::open(dir.path(), OpenMode::Existing).unwrap();
    let value = store.get("a").await.unwrap().unwrap().value;
    assert!(value == b"1" || value == b"2", "the outcome was not known, but it is one of the two");
    store.commit(vec![put("a", "4")]).await.unwrap();
}

#[tokio::test]
async fn other_failures_to_write_close_the_store() {
    for (write, set_len) in [
        (io::ErrorKind::Other, None),
        (io::ErrorKind::StorageFull, Some(io::ErrorKind::Other)),
        (io::ErrorKind::StorageFull, Some(io::ErrorKind::StorageFull)),
    ] {
        let dir = tempfile::tempdir().unwrap();
        let (store, faults) = open_faulty(dir.path());
        store.commit(vec![put("a", "1")]).await.unwrap();
        *faults.write.lock().unwrap() = Some(write);
        *faults.set_len.lock().unwrap() = set_len;
        let failed = store.commit(vec![put("a", vec![2; 500])]).await.unwrap_err();
        assert!(matches!(failed, Error::Io { .. }), "{failed}");
        *faults.write.lock().unwrap() = None;
        *faults.set_len.lock().unwrap() = None;
        assert!(matches!(store.commit(vec![put("a", "3")]).await, Err(Error::Closed { .. })));
        drop(store);
        // Half a record is at the end of the log: it is cut and counted.
        let store = Durable::<Redb>::open(dir.path(), OpenMode::Existing).unwrap();
        assert!(store.recovery().torn_bytes > 0);
        assert_eq!(store.recovery().index, IndexFate::Kept);
        assert_eq!(store.get("a").await.unwrap().unwrap().value, b"1");
    }
}

#[tokio::test]
async fn commits_that_wait_share_one_fsync() {
    let dir = tempfile::tempdir().unwrap();
    let (store, faults) = open_faulty(dir.path());
    let store = Arc::new(store);
    let (release, gate) = mpsc::channel();
    *faults.gate.lock().unwrap() = Some(gate);
    let mut tasks = tokio::task::JoinSet::new();
    for n in 0..100 {
        let store = store.clone();
        tasks.spawn(async move { store.commit(vec![put(&format!("k{n}"), "v")]).await.unwrap() });
    }
    // One thread runs all tasks: when this one has its turn again, all others have handed in their batch.
    tokio::task::yield_now().await;
    release.send(()).unwrap();
    let mut versions: Vec<u64> = tasks.join_all().await.into_iter().map(|version| version.0).collect();
    versions.sort_unstable();
    assert_eq!(versions, (1..=100).collect::<Vec<_>>(), "each has a revision of its own");
    let syncs = faults.syncs.load(Ordering::SeqCst);
    assert!(syncs <= 3, "{syncs} fsyncs for 100 commits that waited together");
}

#[tokio::test]
async fn a_conflict_within_a_group_is_judged_against_the_group() {
    let dir = tempfile::tempdir().unwrap();
    let (store, faults) = open_faulty(dir.path());
    let store = Arc::new(store);
    let (release, gate) = mpsc::channel();
    *faults.gate.lock().unwrap() = Some(gate);
    let mut tasks = tokio::task::JoinSet::new();
    for n in 0..20 {
        let store = store.clone();
        let batch = vec![
            Write::Put { key: "journal/17".into(), value: vec![n], expect: Expect::Absent },
            put(&format!("by/{n}"), "x"),
        ];
        tasks.spawn(async move { store.commit(batch).await.map(|_| n) });
    }
    tokio::task::yield_now().await;
    release.send(()).unwrap();
    let outcomes = tasks.join_all().await;
    let winners: Vec<u8> = outcomes.iter().filter_map(|outcome| outcome.as_ref().ok().copied()).collect();
    assert_eq!(winners.len(), 1, "one of them wrote entry 17");
    assert_eq!(store.get("journal/17").await.unwrap().unwrap().value, winners);
    assert_eq!(store.list("by/").await.unwrap().len(), 1, "the others wrote nothing at all");
}

fn log_files(dir: &Path) -> Vec<String> {
    let mut names: Vec<String> =
        fs::read_dir(dir.join("log")).unwrap().map(|file| file.unwrap().file_name().into_string().unwrap()).collect();
    names.sort();
    names
}

async fn fill(store: &dyn Store, rounds: u32) {
    for n in 0..rounds {
        store.commit(vec![put(&format!("k{}", n % 20), format!("{n}").repeat(40))]).await.unwrap();
    }
}

#[tokio::test]
async fn a_long_log_begins_again_with_a_snapshot() {
    let dir = tempfile::tempdir().unwrap();
    let store = Durable::<Sled>::open_with(dir.path(), OpenMode::Create, |log| log.rotate_above(10_000)).unwrap();
    fill(&store, 100).await;
    let before = store.list("").await.unwrap();
    let revision = store.commit(vec![]).await.unwrap();
    drop(store);
    assert_eq!(log_files(dir.path()), ["00000002.log"], "the old segment is gone");
    // Rebuilt from the snapshot and what came after it, with the versions as they were.
    fs::remove_dir_all(dir.path().join("db")).unwrap();
    let store = Durable::<Sled>::open(dir.path(), OpenMode::Existing).unwrap();
    assert_eq!(store.list("").await.unwrap(), before);
    assert_eq!(store.commit(vec![]).await.unwrap(), revision);
}

#[tokio::test]
async fn a_crash_at_any_step_of_a_rotation_is_harmless_and_a_lost_segment_is_noticed() {
    let dir = tempfile::tempdir().unwrap();
    let open = |rotate_at| Durable::<Redb>::open_with(dir.path(), OpenMode::Create, |log| log.rotate_above(rotate_at));
    let store = open(u64::MAX).unwrap();
    fill(&store, 30).await;
    drop(store);
    let (old, log, redb) =
        (dir.path().join("log/00000001.log"), dir.path().join("log"), dir.path().join("redb/index.redb"));
    let (first, index_before) = (fs::read(&old).unwrap(), fs::read(&redb).unwrap());

    // While the snapshot is being written: it has no name yet.
    fs::write(log.join("unfinished"), b"half a snap").unwrap();
    let store = open(0).unwrap();
    assert_eq!(log_files(dir.path()), ["00000001.log"]);
    store.commit(vec![put("one", "more")]).await.unwrap();
    let expected = store.list("").await.unwrap();
    drop(store);
    assert_eq!(log_files(dir.path()), ["00000002.log"]);

    // After the new segment has its name, before the database knows it and the old one is removed.
    let index_after = fs::read(&redb).unwrap();
    fs::write(&old, &first).unwrap();
    fs::write(&redb, &index_before).unwrap();
    let store = open(u64::MAX).unwrap();
    assert_eq!(store.list("").await.unwrap(), expected);
    drop(store);
    assert_eq!(log_files(dir.path()), ["00000002.log"]);

    // The old one was not removed, and then the new one is lost.
    fs::write(&redb, &index_after).unwrap();
    fs::write(&old, &first).unwrap();
    fs::remove_file(log.join("00000002.log")).unwrap();
    let Err(refused) = open(u64::MAX) else { panic!("the newest segment is missing") };
    assert!(
        matches!(&refused, Error::Corrupt { what, .. } if what.contains("segment 2 of the log is missing")),
        "{refused}"
    );

    // And one that was given another's name.
    fs::rename(&old, log.join("00000007.log")).unwrap();
    let Err(refused) = open(u64::MAX) else { panic!("the file is not segment 7") };
    assert!(matches!(&refused, Error::Corrupt { what, .. } if what.contains("says that it is segment 1")), "{refused}");
}
