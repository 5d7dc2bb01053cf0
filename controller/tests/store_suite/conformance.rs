//! The conformance suite: each case runs against a new store of every backend. A new backend is added at the end.

use std::sync::Arc;

use fleet_controller::store::{
    Change, Error, Expect, Hint, MAX_BATCH_BYTES, MAX_BATCH_WRITES, MAX_KEY_BYTES, MAX_VALUE_BYTES, Memory, OpenMode,
    Store, Version,
};

use crate::kit::{Backend, delete, delete_if, entry, put, put_if};

type Shared = Arc<dyn Store>;

async fn what_was_put_is_there(store: Shared) {
    assert_eq!(store.get("a").await.unwrap(), None);
    let first = store.commit(vec![put("a", "1"), put("b", "")]).await.unwrap();
    assert_eq!(store.get("a").await.unwrap(), Some(entry("1", first)));
    assert_eq!(store.get("b").await.unwrap(), Some(entry("", first)), "an empty value is a value");
    let every_byte: Vec<u8> = (0..=255).collect();
    let second = store.commit(vec![put("a", every_byte.clone())]).await.unwrap();
    assert!(second > first);
    assert_eq!(store.get("a").await.unwrap(), Some(entry(every_byte, second)));
    assert_eq!(store.get("b").await.unwrap(), Some(entry("", first)), "others keep their version");
    let third = store.commit(vec![delete("a"), delete("never there")]).await.unwrap();
    assert!(third > second);
    assert_eq!(store.get("a").await.unwrap(), None);
}

async fn expectations_are_about_the_state_before(store: Shared) {
    let v1 = store.commit(vec![put_if("a", "1", Expect::Absent)]).await.unwrap();
    let refused = store.commit(vec![put_if("a", "2", Expect::Absent)]).await.unwrap_err();
    assert!(
        matches!(&refused, Error::Conflict { key, expected: Expect::Absent, found: Some(found) } if key == "a" && *found == v1)
    );
    let v2 = store.commit(vec![put_if("a", "2", Expect::Version(v1))]).await.unwrap();
    for stale in [
        put_if("a", "3", Expect::Version(v1)),
        delete_if("a", Expect::Version(v1)),
        delete_if("a", Expect::Absent),
        put_if("a", "3", Expect::Version(Version(v2.0 + 1))),
    ] {
        let refused = store.commit(vec![stale]).await.unwrap_err();
        assert!(matches!(refused, Error::Conflict { found: Some(found), .. } if found == v2));
    }
    let refused = store.commit(vec![put_if("nothing", "x", Expect::Version(v2))]).await.unwrap_err();
    assert!(matches!(refused, Error::Conflict { found: None, .. }));
    assert_eq!(
        refused.to_string(),
        format!("nothing: expected version {}, found no such key: it was written in between; read it again", v2.0)
    );
    store.commit(vec![delete_if("a", Expect::Version(v2)), delete_if("gone", Expect::Absent)]).await.unwrap();
    // A key that comes back does not come back with an old version.
    let v4 = store.commit(vec![put_if("a", "2", Expect::Absent)]).await.unwrap();
    assert!(v4 > v2);
    assert!(store.commit(vec![put_if("a", "x", Expect::Version(v2))]).await.is_err());
}

async fn a_batch_is_all_or_nothing(store: Shared) {
    let v1 = store.commit(vec![put("a", "1"), put("b", "1")]).await.unwrap();
    let before = store.list("").await.unwrap();
    let batch = vec![put("a", "2"), delete("b"), put("c", "2"), put_if("d", "2", Expect::Version(v1))];
    assert!(matches!(store.commit(batch).await, Err(Error::Conflict { key, .. }) if key == "d"));
    assert_eq!(store.list("").await.unwrap(), before);
    let v2 = store.commit(vec![put("a", "2"), delete("b"), put("c", "2")]).await.unwrap();
    let after = vec![("a".to_owned(), entry("2", v2)), ("c".to_owned(), entry("2", v2))];
    assert_eq!(store.list("").await.unwrap(), after, "one version for the whole batch");
}

async fn an_empty_batch_saves_nothing(store: Shared) {
    assert_eq!(store.commit(vec![]).await.unwrap(), Version(0), "nothing was ever written");
    let v1 = store.commit(vec![put("a", "1")]).await.unwrap();
    assert_eq!(store.commit(vec![]).await.unwrap(), v1);
    assert_eq!(store.commit(vec![]).await.unwrap(), v1);
}

async fn a_list_is_sorted_and_exactly_the_prefix(store: Shared) {
    for key in ["b/2", "a", "b/10", "b", "b/", "b0", "B", "b/1", "c", "b~", "b/~", "b "] {
        store.commit(vec![put(key, key)]).await.unwrap();
    }
    let keys = async |prefix: &str| -> Vec<String> {
        store.list(prefix).await.unwrap().into_iter().map(|(key, _)| key).collect()
    };
    assert_eq!(keys("b/").await, ["b/", "b/1", "b/10", "b/2", "b/~"]);
    assert_eq!(keys("").await, ["B", "a", "b", "b ", "b/", "b/1", "b/10", "b/2", "b/~", "b0", "b~", "c"]);
    assert_eq!(keys("b/1").await, ["b/1", "b/10"]);
    assert_eq!(keys("d").await, Vec::<String>::new());
    assert_eq!(keys("käse").await, Vec::<String>::new());
}

async fn the_limits_are_kept_and_what_is_within_them_fits(store: Shared) {
    let longest = "k".repeat(MAX_KEY_BYTES);
    let version = store.commit(vec![put(&longest, vec![1; MAX_VALUE_BYTES])]).await.unwrap();
    assert_eq!(store.get(&longest).await.unwrap(), Some(entry(vec![1; MAX_VALUE_BYTES], version)));
    let many: Vec<_> = (0..MAX_BATCH_WRITES).map(|n| put(&format!("n/{n:04}"), vec![2; 100])).collect();
    store.commit(many.clone()).await.unwrap();
    assert_eq!(store.list("n/").await.unwrap().len(), MAX_BATCH_WRITES);
    let heavy =
        |count: usize| (0..count).map(|n| put(&format!("h/{n:03}"), vec![3; MAX_VALUE_BYTES - 5])).collect::<Vec<_>>();
    store.commit(heavy(MAX_BATCH_BYTES / MAX_VALUE_BYTES)).await.unwrap();
    let before = store.list("").await.unwrap();

    let too_large = [
        vec![put(&format!("{longest}k"), "")],
        vec![delete(&format!("{longest}k"))],
        vec![put("a", vec![0; MAX_VALUE_BYTES + 1])],
        many.into_iter().chain([put("one more", "")]).collect(),
        heavy(MAX_BATCH_BYTES / MAX_VALUE_BYTES).into_iter().chain([put("h", "")]).collect(),
    ];
    for batch in too_large {
        let refused = store.commit(batch).await.unwrap_err();
        assert!(matches!(refused, Error::TooLarge { size, limit, .. } if size == limit + 1), "{refused}");
    }
    for batch in [
        vec![put("", "")],
        vec![put("tab\t", "")],
        vec![put("umläut", "")],
        vec![delete("\u{7f}")],
        vec![put("a", "1"), put("b", ""), delete("a")],
    ] {
        let refused = store.commit(batch).await.unwrap_err();
        assert!(matches!(refused, Error::Invalid { .. }), "{refused}");
    }
    assert_eq!(store.list("").await.unwrap(), before);
    for impossible in ["", "tab\t", &format!("{longest}k")] {
        assert_eq!(store.get(impossible).await.unwrap(), None, "what cannot be written is not there");
    }
}

async fn a_watch_tells_of_its_prefix_in_order(store: Shared) {
    store.commit(vec![put("w/a", "before")]).await.unwrap();
    let mut watch = store.watch("w/");
    let v1 = store.commit(vec![put("w/a", "1"), put("other", "1"), put("w/b", "1")]).await.unwrap();
    assert!(store.commit(vec![put_if("w/a", "x", Expect::Absent)]).await.is_err());
    store.commit(vec![put("other", "2"), delete("w/never there")]).await.unwrap();
    store.commit(vec![delete("w/b")]).await.unwrap();
    let change = |key: &str, entry| Some(Hint::Changed(Change { key: key.into(), entry }));
    assert_eq!(watch.next().await, change("w/a", Some(entry("1", v1))));
    assert_eq!(watch.next().await, change("w/b", Some(entry("1", v1))));
    assert_eq!(watch.next().await, change("w/b", None));
}

async fn a_watcher_that_is_too_slow_is_told_to_list_again(store: Shared) {
    let mut watch = store.watch("");
    // Handed in together, so that a store on disk can save them together.
    let mut tasks = tokio::task::JoinSet::new();
    for n in 0..1000 {
        let store = store.clone();
        tasks.spawn(async move { store.commit(vec![put(&format!("k{n}"), "")]).await.unwrap() });
    }
    tasks.join_all().await;
    assert_eq!(watch.next().await, Some(Hint::Relist));
    let last = store.commit(vec![put("last", "")]).await.unwrap();
    // And goes on from where it can.
    let goes_on = async {
        while let Some(hint) = watch.next().await {
            if matches!(hint, Hint::Changed(change) if change.entry.as_ref().is_some_and(|entry| entry.version == last))
            {
                return true;
            }
        }
        false
    };
    assert!(goes_on.await);
}

async fn a_watch_ends_with_its_store(store: Shared) {
    let mut watch = store.watch("");
    store.commit(vec![put("a", "")]).await.unwrap();
    drop(store);
    assert!(watch.next().await.is_some());
    assert_eq!(watch.next().await, None);
}

async fn of_many_who_expect_absence_one_wins(store: Shared) {
    let mut tasks = tokio::task::JoinSet::new();
    for n in 0..32u8 {
        let store = store.clone();
        tasks.spawn(async move { store.commit(vec![put_if("journal/17", [n], Expect::Absent)]).await.map(|_| n) });
    }
    let outcomes = tasks.join_all().await;
    let winners: Vec<u8> = outcomes.iter().filter_map(|outcome| outcome.as_ref().ok().copied()).collect();
    assert_eq!(winners.len(), 1);
    assert_eq!(store.get("journal/17").await.unwrap().unwrap().value, winners);
    assert!(outcomes.iter().flat_map(|outcome| outcome.as_ref().err()).all(|e| matches!(e, Error::Conflict { .. })));
}

async fn counting_by_versions_loses_no_count(store: Shared) {
    store.commit(vec![put("count", "0")]).await.unwrap();
    let mut tasks = tokio::task::JoinSet::new();
    for _ in 0..8 {
        let store = store.clone();
        tasks.spawn(async move {
            for _ in 0..10 {
                loop {
                    let now = store.get("count").await.unwrap().unwrap();
                    let next: u32 = String::from_utf8(now.value).unwrap().parse::<u32>().unwrap() + 1;
                    match store.commit(vec![put_if("count", next.to_string(), Expect::Version(now.version))]).await {
                        Ok(_) => break,
                        Err(Error::Conflict { .. }) => {}
                        Err(other) => panic!("{other}"),
                    }
                }
            }
        });
    }
    tasks.join_all().await;
    assert_eq!(store.get("count").await.unwrap().unwrap().value, b"80");
}

async fn a_list_never_shows_half_a_batch(store: Shared) {
    let keys: Vec<String> = (0..50).map(|n| format!("pair/{n:02}")).collect();
    let batch = |round: u32| keys.iter().map(|key| put(key, round.to_string())).collect::<Vec<_>>();
    store.commit(batch(0)).await.unwrap();
    let writer = store.clone();
    let rounds: Vec<_> = (1..60).map(batch).collect();
    let writing = tokio::spawn(async move {
        for batch in rounds {
            writer.commit(batch).await.unwrap();
        }
    });
    let mut lists = 0;
    while !writing.is_finished() || lists == 0 {
        let seen = store.list("pair/").await.unwrap();
        assert_eq!(seen.len(), 50);
        assert!(seen.iter().all(|(_, entry)| *entry == seen[0].1), "half a batch: {seen:?}");
        lists += 1;
    }
    writing.await.unwrap();
}

macro_rules! suite {
    ($backend:ident, $open:expr, [$($case:ident),* $(,)?]) => {
        mod $backend {
            use super::*;
            $(
                #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
                async fn $case() {
                    let dir = tempfile::tempdir().unwrap();
                    let open: fn(&std::path::Path) -> Shared = $open;
                    super::$case(open(dir.path())).await;
                }
            )*
        }
    };
}

macro_rules! every_backend {
    ($($backend:ident: $open:expr;)*) => {
        $(suite!($backend, $open, [
            what_was_put_is_there,
            expectations_are_about_the_state_before,
            a_batch_is_all_or_nothing,
            an_empty_batch_saves_nothing,
            a_list_is_sorted_and_exactly_the_prefix,
            the_limits_are_kept_and_what_is_within_them_fits,
            a_watch_tells_of_its_prefix_in_order,
            a_watcher_that_is_too_slow_is_told_to_list_again,
            a_watch_ends_with_its_store,
            of_many_who_expect_absence_one_wins,
            counting_by_versions_loses_no_count,
            a_list_never_shows_half_a_batch,
        ]);)*
    };
}

every_backend! {
    memory: |_| Arc::new(Memory::new());
    sled: |dir| Backend::Sled.open(dir, OpenMode::Create).unwrap();
    redb: |dir| Backend::Redb.open(dir, OpenMode::Create).unwrap();
}
