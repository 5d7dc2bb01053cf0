//! Damaged, missing and foreign files: what was acknowledged is there after opening, or opening stops and says how to
//! go on. Never silently less, never silently new.

use std::fs::{self, OpenOptions};
use std::os::unix::fs::FileExt;
use std::path::Path;

use fleet_controller::store::{Entry, Error, IndexFate, OpenMode};

use crate::kit::{Backend, contents, copy, delete, is_rebuilt, put, refusal, wait};

type Contents = Vec<(String, Entry)>;

/// A store with some hundred entries, closed.
fn filled(backend: Backend, dir: &Path) -> Contents {
    let store = backend.open(dir, OpenMode::Create).unwrap();
    for n in 0..60 {
        let batch = (0..8).map(|k| put(&format!("k{k}/{n:03}"), format!("{n}").repeat(n * 4))).collect();
        wait(store.commit(batch)).unwrap();
    }
    wait(store.commit(vec![delete("k0/007")])).unwrap();
    contents(&*store)
}

/// Does `harm` to a filled store's directory; opening must give everything back. Says whether it was rebuilt.
fn survives(backend: Backend, harm: impl FnOnce(&Path)) -> bool {
    let dir = tempfile::tempdir().unwrap();
    let expected = filled(backend, dir.path());
    harm(dir.path());
    let store = backend.open(dir.path(), OpenMode::Existing).unwrap();
    assert_eq!(contents(&*store), expected);
    let rebuilt = is_rebuilt(&*store);
    wait(store.commit(vec![put("and it", "goes on")])).unwrap();
    drop(store);
    let store = backend.open(dir.path(), OpenMode::Existing).unwrap();
    assert_eq!(contents(&*store).len(), expected.len() + 1);
    assert_eq!(store.recovery().index, IndexFate::Kept, "healed for good");
    rebuilt
}

#[test]
fn an_undamaged_store_is_kept_as_it_is() {
    for backend in Backend::ALL {
        assert!(!survives(backend, |_| {}));
    }
}

#[test]
fn a_database_that_is_missing_or_empty_is_made_again() {
    for backend in Backend::ALL {
        assert!(survives(backend, |dir| fs::remove_dir_all(backend.home(dir)).unwrap()));
        assert!(survives(backend, |dir| fs::remove_file(backend.file(dir)).unwrap()));
        assert!(survives(backend, |dir| fs::write(backend.file(dir), b"").unwrap()));
    }
    survives(Backend::Sled, |dir| fs::remove_file(dir.join("db/conf")).unwrap());
}

#[test]
fn a_database_that_is_cut_zeroed_or_scribbled_over_gives_everything_back() {
    for backend in Backend::ALL {
        let on_file = |harm: fn(&fs::File, u64)| {
            move |dir: &Path| {
                let file = OpenOptions::new().write(true).open(backend.file(dir)).unwrap();
                harm(&file, file.metadata().unwrap().len());
            }
        };
        survives(backend, on_file(|file, length| file.set_len(length - 4096).unwrap()));
        survives(backend, on_file(|file, length| file.set_len(length / 2).unwrap()));
        assert!(survives(backend, on_file(|file, _| file.set_len(10).unwrap())));
        survives(backend, on_file(|file, length| file.write_all_at(&[0; 4096], length / 2 / 4096 * 4096).unwrap()));
        assert!(survives(backend, on_file(|file, _| file.write_all_at(&[0; 4096], 0).unwrap())));
        let all_zero = on_file(|file, length| {
            file.set_len(0).unwrap();
            file.set_len(length).unwrap();
        });
        assert!(survives(backend, all_zero));
        let noise = on_file(|file, length| {
            for at in (0..length).step_by(1500) {
                file.write_all_at(&[0xa5], at).unwrap();
            }
        });
        assert!(survives(backend, noise));
    }
}

#[test]
fn a_zeroed_page_anywhere_gives_everything_back() {
    for backend in Backend::ALL {
        let dir = tempfile::tempdir().unwrap();
        let expected = filled(backend, dir.path());
        let length = fs::metadata(backend.file(dir.path())).unwrap().len();
        let mut rebuilt = 0;
        for page in (0..length / 4096).step_by((length / 4096 / 12).max(1) as usize) {
            let harmed = tempfile::tempdir().unwrap();
            copy(dir.path(), harmed.path());
            let file = OpenOptions::new().write(true).open(backend.file(harmed.path())).unwrap();
            file.write_all_at(&[0; 4096], page * 4096).unwrap();
            let store = backend.open(harmed.path(), OpenMode::Existing).unwrap();
            assert_eq!(contents(&*store), expected, "{backend:?} page {page}");
            rebuilt += u32::from(is_rebuilt(&*store));
        }
        assert!(rebuilt > 0, "{backend:?}: no page that was zeroed mattered");
    }
}

#[test]
fn a_damaged_database_is_kept_beside_the_new_one_and_not_without_end() {
    for backend in Backend::ALL {
        let dir = tempfile::tempdir().unwrap();
        let expected = filled(backend, dir.path());
        for round in 1..=5 {
            fs::write(backend.file(dir.path()), format!("not a database, round {round}")).unwrap();
            let store = backend.open(dir.path(), OpenMode::Existing).unwrap();
            let IndexFate::Rebuilt { aside: Some(aside), .. } = store.recovery().index else { panic!("not rebuilt") };
            assert!(fs::read(aside.join(backend.file(Path::new("")).file_name().unwrap())).is_ok(), "{aside:?}");
            assert_eq!(contents(&*store), expected);
        }
        let aside = fs::read_dir(dir.path())
            .unwrap()
            .filter(|file| file.as_ref().unwrap().file_name().to_string_lossy().contains(".aside-"));
        assert_eq!(aside.count(), 3);
    }
}

#[test]
fn an_unfinished_snapshot_of_sled_is_removed_and_a_bad_one_moved_aside() {
    let dir = tempfile::tempdir().unwrap();
    let expected = filled(Backend::Sled, dir.path());
    let unfinished = dir.path().join("db/snap.0000000000000F00.generating");
    fs::write(&unfinished, b"half").unwrap();
    let store = Backend::Sled.open(dir.path(), OpenMode::Existing).unwrap();
    assert_eq!((contents(&*store), store.recovery().index), (expected, IndexFate::Kept));
    assert!(!unfinished.exists());
    drop(store);
    survives(Backend::Sled, |dir| fs::write(dir.join("db/snap.0000000000000F00"), vec![7; 300]).unwrap());
}

#[test]
fn a_database_behind_the_log_is_brought_up_to_it() {
    for backend in Backend::ALL {
        let dir = tempfile::tempdir().unwrap();
        filled(backend, dir.path());
        let older = tempfile::tempdir().unwrap();
        copy(&backend.home(dir.path()), older.path());
        let store = backend.open(dir.path(), OpenMode::Existing).unwrap();
        wait(store.commit(vec![put("k1/001", "newer"), delete("k1/002"), put("new", "1")])).unwrap();
        let expected = contents(&*store);
        drop(store);
        fs::remove_dir_all(backend.home(dir.path())).unwrap();
        copy(older.path(), &backend.home(dir.path()));
        let store = backend.open(dir.path(), OpenMode::Existing).unwrap();
        assert_eq!(contents(&*store), expected);
        assert_eq!(store.recovery().index, IndexFate::CaughtUp);
    }
}

#[test]
fn a_database_ahead_of_the_log_or_of_another_store_is_made_again_from_the_log() {
    for backend in Backend::ALL {
        let dir = tempfile::tempdir().unwrap();
        let expected = filled(backend, dir.path());
        let backup = tempfile::tempdir().unwrap();
        copy(&dir.path().join("log"), backup.path());
        let store = backend.open(dir.path(), OpenMode::Existing).unwrap();
        wait(store.commit(vec![put("after", "the backup")])).unwrap();
        drop(store);
        copy(backup.path(), &dir.path().join("log"));
        let store = backend.open(dir.path(), OpenMode::Existing).unwrap();
        assert_eq!(contents(&*store), expected);
        let fate = store.recovery().index;
        assert!(matches!(&fate, IndexFate::Rebuilt { why, aside: Some(_) } if why.contains("ahead")), "{fate:?}");
        drop(store);

        let other = tempfile::tempdir().unwrap();
        filled(backend, other.path());
        fs::remove_dir_all(backend.home(dir.path())).unwrap();
        copy(&backend.home(other.path()), &backend.home(dir.path()));
        let store = backend.open(dir.path(), OpenMode::Existing).unwrap();
        assert_eq!(contents(&*store), expected);
        let fate = store.recovery().index;
        assert!(matches!(&fate, IndexFate::Rebuilt { why, .. } if why.contains("another store")), "{fate:?}");
    }
}

#[test]
fn a_database_that_says_something_else_at_the_same_revision_is_made_again() {
    for backend in Backend::ALL {
        let dir = tempfile::tempdir().unwrap();
        filled(backend, dir.path());
        let twin = tempfile::tempdir().unwrap();
        copy(dir.path(), twin.path());
        let commit = |dir: &Path, value| {
            let store = backend.open(dir, OpenMode::Existing).unwrap();
            wait(store.commit(vec![put("desired", value)])).unwrap();
            contents(&*store)
        };
        let expected = commit(dir.path(), "this");
        assert_ne!(commit(twin.path(), "that"), expected);
        fs::remove_dir_all(backend.home(dir.path())).unwrap();
        copy(&backend.home(twin.path()), &backend.home(dir.path()));
        let store = backend.open(dir.path(), OpenMode::Existing).unwrap();
        assert_eq!(contents(&*store), expected);
        let fate = store.recovery().index;
        assert!(matches!(&fate, IndexFate::Rebuilt { why, .. } if why.contains("differs")), "{fate:?}");
    }
}

#[test]
fn a_missing_log_beside_a_database_is_never_a_fresh_start() {
    for backend in Backend::ALL {
        for mode in [OpenMode::Create, OpenMode::Existing] {
            let dir = tempfile::tempdir().unwrap();
            filled(backend, dir.path());
            fs::remove_file(dir.path().join("log/00000001.log")).unwrap();
            // Not even through the other backend, or after the database was moved aside.
            let aside = dir.path().join("redb.aside-4");
            for step in 0..3 {
                let opened = Backend::ALL[step % 2].open(dir.path(), mode);
                let refused = refusal(opened);
                assert!(matches!(&refused, Error::Corrupt { way_out, .. } if way_out.contains("backup")), "{refused}");
                if step == 1 {
                    fs::rename(backend.home(dir.path()), &aside).unwrap();
                }
            }
        }
    }
}

#[test]
fn an_emptied_or_foreign_log_stops() {
    let dir = tempfile::tempdir().unwrap();
    filled(Backend::Sled, dir.path());
    for bytes in [&b""[..], b"fleetlog", b"# notes of an operator, not a log"] {
        fs::write(dir.path().join("log/00000001.log"), bytes).unwrap();
        let refused = refusal(Backend::Sled.open(dir.path(), OpenMode::Create));
        assert!(matches!(refused, Error::Corrupt { .. }), "{refused}");
    }
}

#[test]
fn nothing_is_made_where_a_store_is_expected() {
    let dir = tempfile::tempdir().unwrap();
    for backend in Backend::ALL {
        assert!(matches!(refusal(backend.open(dir.path(), OpenMode::Existing)), Error::Missing { .. }));
        assert!(matches!(refusal(backend.open(&dir.path().join("x/y"), OpenMode::Existing)), Error::Missing { .. }));
    }
    assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 0, "and nothing is left behind");
}

#[test]
fn a_second_opener_is_told_that_the_store_is_in_use() {
    for backend in Backend::ALL {
        let dir = tempfile::tempdir().unwrap();
        let store = backend.open(dir.path(), OpenMode::Create).unwrap();
        for other in Backend::ALL {
            let refused = refusal(other.open(dir.path(), OpenMode::Existing));
            assert!(matches!(&refused, Error::Locked { dir: named } if named == dir.path()), "{refused}");
        }
        drop(store);
        backend.open(dir.path(), OpenMode::Existing).unwrap();
    }
}

/// A store with three commits, and the same before its last one.
struct Small {
    dir: tempfile::TempDir,
    log: Vec<u8>,
    log_before: usize,
    before: Contents,
    after: Contents,
    database_before: tempfile::TempDir,
}

fn small(backend: Backend) -> Small {
    let dir = tempfile::tempdir().unwrap();
    let log = dir.path().join("log/00000001.log");
    let store = backend.open(dir.path(), OpenMode::Create).unwrap();
    wait(store.commit(vec![put("a", "1"), put("b", "1")])).unwrap();
    wait(store.commit(vec![put("a", "2"), delete("b")])).unwrap();
    let (before, log_before) = (contents(&*store), fs::metadata(&log).unwrap().len() as usize);
    drop(store);
    let database_before = tempfile::tempdir().unwrap();
    copy(&backend.home(dir.path()), database_before.path());
    let store = backend.open(dir.path(), OpenMode::Existing).unwrap();
    wait(store.commit(vec![put("c", "3")])).unwrap();
    let after = contents(&*store);
    drop(store);
    let log = fs::read(log).unwrap();
    Small { dir, log, log_before, before, after, database_before }
}

impl Small {
    /// A copy with another log, and if wanted with the database as it was before the last commit.
    fn with(&self, backend: Backend, log: &[u8], database: Option<&Path>) -> tempfile::TempDir {
        let dir = tempfile::tempdir().unwrap();
        copy(&self.dir.path().join("log"), &dir.path().join("log"));
        fs::write(dir.path().join("log/00000001.log"), log).unwrap();
        let home = backend.home(self.dir.path());
        copy(database.unwrap_or(&home), &backend.home(dir.path()));
        dir
    }
}

#[test]
fn a_last_record_cut_at_any_byte_was_torn_or_stops_if_it_was_acknowledged() {
    for backend in Backend::ALL {
        let small = small(backend);
        for length in small.log_before..small.log.len() {
            // The crash came before the database heard of the record, so before anybody did.
            let dir = small.with(backend, &small.log[..length], Some(small.database_before.path()));
            let store = backend.open(dir.path(), OpenMode::Existing).unwrap();
            assert_eq!(contents(&*store), small.before);
            assert_eq!(store.recovery().torn_bytes as usize, length - small.log_before);
            drop(store);
            let store = backend.open(dir.path(), OpenMode::Existing).unwrap();
            assert_eq!(store.recovery().torn_bytes, 0, "cut for good, and counted once");
            wait(store.commit(vec![put("c", "again")])).unwrap();
            drop(store);
            let store = backend.open(dir.path(), OpenMode::Existing).unwrap();
            assert_eq!(store.recovery().torn_bytes, 0);

            // The database knows the record, so it may have been acknowledged.
            if length > small.log_before {
                let dir = small.with(backend, &small.log[..length], None);
                let refused = refusal(backend.open(dir.path(), OpenMode::Existing));
                assert!(
                    matches!(&refused, Error::Corrupt { what, .. } if what.contains("was acknowledged")),
                    "{refused}"
                );
                assert_eq!(fs::read(dir.path().join("log/00000001.log")).unwrap().len(), length, "nothing was cut");
            }
        }
    }
}

#[test]
fn every_flipped_byte_of_the_log_stops_or_takes_only_what_was_not_acknowledged() {
    for backend in Backend::ALL {
        let small = small(backend);
        for at in 0..small.log.len() {
            let mut log = small.log.clone();
            log[at] ^= 0x41;
            // All was acknowledged, and the database knows: no flip may pass.
            let dir = small.with(backend, &log, None);
            let refused = refusal(backend.open(dir.path(), OpenMode::Existing));
            assert!(matches!(&refused, Error::Corrupt { way_out, .. } if !way_out.is_empty()), "byte {at}: {refused}");
            assert_eq!(fs::read(dir.path().join("log/00000001.log")).unwrap(), log, "nothing was changed");

            // The last record was being written when the power went.
            let dir = small.with(backend, &log, Some(small.database_before.path()));
            match backend.open(dir.path(), OpenMode::Existing) {
                Ok(store) => {
                    assert!(at >= small.log_before, "byte {at} was not noticed");
                    assert_eq!(contents(&*store), small.before);
                }
                Err(Error::Corrupt { .. }) => assert!(at < small.log_before, "byte {at}"),
                Err(other) => panic!("byte {at}: {other}"),
            }
        }
        let dir = small.with(backend, &small.log, Some(small.database_before.path()));
        assert_eq!(contents(&*backend.open(dir.path(), OpenMode::Existing).unwrap()), small.after);
    }
}
