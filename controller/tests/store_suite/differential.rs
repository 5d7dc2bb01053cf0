//! Random histories, with expectations that sometimes hold and stores that are closed and opened in between, told to
//! the reference and to both backends on disk: all three must answer the same, always.

use std::sync::Arc;

use fleet_controller::store::{Error, Expect, IndexFate, Memory, OpenMode, Store, Version, Write};
use proptest::prelude::*;

use crate::kit::{Backend, contents, wait};

#[derive(Debug, Clone)]
enum Act {
    Commit(Vec<Write>),
    /// Closes the stores on disk and opens them again.
    Reopen,
    /// As that, and each with the other's backend: the log serves both.
    Exchange,
    /// As that, after their databases were removed.
    Rebuild,
}

/// Few keys, so that they meet; one is a prefix of another.
fn key() -> impl Strategy<Value = String> {
    prop::sample::select(vec!["a", "a/1", "a/2", "b", "journal/1", "journal/2"]).prop_map(String::from)
}

fn expect() -> impl Strategy<Value = Expect> {
    prop_oneof![
        4 => Just(Expect::Anything),
        2 => Just(Expect::Absent),
        2 => (0..12u64).prop_map(|version| Expect::Version(Version(version))),
    ]
}

fn write() -> impl Strategy<Value = Write> {
    let value = prop_oneof![prop::collection::vec(any::<u8>(), 0..40), (0..3usize).prop_map(|n| vec![9; n * 20_000])];
    prop_oneof![
        3 => (key(), value, expect()).prop_map(|(key, value, expect)| Write::Put { key, value, expect }),
        1 => (key(), expect()).prop_map(|(key, expect)| Write::Delete { key, expect }),
    ]
}

fn act() -> impl Strategy<Value = Act> {
    prop_oneof![
        12 => prop::collection::vec(write(), 0..4).prop_map(Act::Commit),
        1 => Just(Act::Reopen),
        1 => Just(Act::Exchange),
        1 => Just(Act::Rebuild),
    ]
}

/// An answer, without the wrappings that cannot be compared.
fn answer(outcome: Result<Version, Error>) -> Result<Version, String> {
    outcome.map_err(|error| error.to_string())
}

struct OnDisk {
    dir: tempfile::TempDir,
    backend: Backend,
    store: Option<Arc<dyn Store>>,
}

impl OnDisk {
    fn new(backend: Backend) -> OnDisk {
        let dir = tempfile::tempdir().unwrap();
        let store = Some(backend.open(dir.path(), OpenMode::Create).unwrap());
        OnDisk { dir, backend, store }
    }

    fn store(&self) -> &dyn Store {
        self.store.as_deref().unwrap()
    }

    fn reopen(&mut self) -> IndexFate {
        self.store = None;
        let store = self.backend.open(self.dir.path(), OpenMode::Existing).unwrap();
        let recovery = store.recovery();
        assert_eq!(recovery.torn_bytes, 0, "nothing was torn");
        self.store = Some(store);
        recovery.index
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 24, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn all_backends_mean_the_same(acts in prop::collection::vec(act(), 1..30)) {
        let reference = Memory::new();
        let mut disks = [OnDisk::new(Backend::Sled), OnDisk::new(Backend::Redb)];
        for act in acts {
            match act {
                Act::Commit(batch) => {
                    let expected = answer(wait(reference.commit(batch.clone())));
                    for disk in &disks {
                        prop_assert_eq!(&answer(wait(disk.store().commit(batch.clone()))), &expected, "{:?}", disk.backend);
                    }
                }
                Act::Reopen => {
                    for disk in &mut disks {
                        let fate = disk.reopen();
                        prop_assert_eq!(fate, IndexFate::Kept);
                    }
                }
                Act::Exchange => {
                    for disk in &mut disks {
                        disk.backend = if disk.backend == Backend::Sled { Backend::Redb } else { Backend::Sled };
                        disk.reopen();
                    }
                }
                Act::Rebuild => {
                    for disk in &mut disks {
                        disk.store = None;
                        std::fs::remove_dir_all(disk.backend.home(disk.dir.path())).unwrap();
                        disk.reopen();
                    }
                }
            }
            let expected = contents(&reference);
            for disk in &disks {
                prop_assert_eq!(&contents(disk.store()), &expected, "{:?}", disk.backend);
            }
        }
    }
}
