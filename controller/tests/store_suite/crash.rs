//! A program that commits as fast as it can and says what was acknowledged, and its sudden death: by `kill -9`, and by
//! a simulated power loss of its disk. What it said must be there when it runs again.
//!
//! The program is this test binary, started again with [`program`] as its only test.

use std::collections::BTreeMap;
use std::io::{BufRead, BufReader, Write as _};
use std::path::Path;
use std::process::{Child, ChildStdout, Command, Stdio};
use std::sync::Arc;

use fleet_controller::store::{Entry, Expect, OpenMode, Store, Version};

use crate::disks::{Ext4, Skipped};
use crate::kit::{Backend, delete_if, put, put_if};

/// Commits that go on at once, so that they come to share records of the log.
const WRITERS: usize = 3;

/// Older entries are deleted, so that the disk does not fill and deletes are tested as well.
const KEPT: u64 = 300;

/// The highest number that each writer was told is saved.
type Heads = [u64; WRITERS];

fn value(writer: usize, n: u64) -> Vec<u8> {
    let length = 40 + (n * 7919 + writer as u64 * 131) % 3961;
    format!("{writer}:{n};").into_bytes().into_iter().cycle().take(length as usize).collect()
}

fn journal(writer: usize, n: u64) -> String {
    format!("journal/{writer}/{n:08}")
}

/// Checks all that the store holds: each writer's history has no gap, no half batch, and ends at or after what was
/// acknowledged. Returns where it ends.
async fn verified(store: &dyn Store, acknowledged: &Heads) -> Heads {
    let mut all: BTreeMap<String, Entry> = store.list("").await.unwrap().into_iter().collect();
    let mut heads: Heads = [0; WRITERS];
    for (writer, head) in heads.iter_mut().enumerate() {
        if let Some(entry) = all.remove(&format!("head/{writer}")) {
            *head = String::from_utf8(entry.value).unwrap().parse().unwrap();
            for n in head.saturating_sub(KEPT - 1).max(1)..=*head {
                let entry =
                    all.remove(&journal(writer, n)).unwrap_or_else(|| panic!("writer {writer} misses {n} of {head}"));
                assert_eq!(entry.value, value(writer, n), "writer {writer}, {n}");
            }
            let ring = all.remove(&format!("ring/{writer}")).unwrap();
            assert_eq!(ring.value, head.to_string().into_bytes(), "half a batch");
        }
        assert!(*head >= acknowledged[writer], "writer {writer} lost {} to {}", *head + 1, acknowledged[writer]);
    }
    assert!(all.is_empty(), "left over: {:?}", all.keys());
    heads
}

async fn write_on(store: Arc<dyn Store>, writer: usize, head: u64) {
    let head_key = format!("head/{writer}");
    let mut version: Option<Version> = match store.get(&head_key).await {
        Ok(found) => found.map(|entry| entry.version),
        // The power may be gone before the first commit.
        Err(error) => return say(&format!("stopped {error}")),
    };
    for n in head + 1.. {
        let mut batch = vec![
            put_if(&journal(writer, n), value(writer, n), Expect::Absent),
            put_if(&head_key, n.to_string(), version.map_or(Expect::Absent, Expect::Version)),
            put(&format!("ring/{writer}"), n.to_string()),
        ];
        if n > KEPT {
            batch.push(delete_if(&journal(writer, n - KEPT), Expect::Anything));
        }
        match store.commit(batch).await {
            Ok(saved) => version = Some(saved),
            Err(error) => return say(&format!("stopped {error}")),
        }
        say(&format!("saved {writer} {n}"));
    }
}

/// One write to the pipe: what arrived was said, and nothing waits in a buffer of ours.
fn say(line: &str) {
    let mut out = std::io::stdout().lock();
    // When the other end is gone, so is the reason to run.
    if out.write_all(format!("{line}\n").as_bytes()).and_then(|()| out.flush()).is_err() {
        std::process::exit(1);
    }
}

#[test]
#[ignore = "the program that the crash tests start; on its own it has no directory"]
fn program() {
    let Ok(dir) = std::env::var("STORE_SUITE_DIR") else { return };
    let backend = Backend::ALL.into_iter().find(|b| b.name() == std::env::var("STORE_SUITE_BACKEND").unwrap()).unwrap();
    let acknowledged: Vec<u64> =
        std::env::var("STORE_SUITE_ACKNOWLEDGED").unwrap().split(',').map(|head| head.parse().unwrap()).collect();
    let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
    runtime.block_on(async {
        say("opening");
        let store = backend.open(Path::new(&dir), OpenMode::Create).unwrap();
        let heads = verified(&*store, &acknowledged.try_into().unwrap()).await;
        say(&format!("opened {heads:?} {:?}", store.recovery()));
        let mut writers = tokio::task::JoinSet::new();
        for (writer, head) in heads.into_iter().enumerate() {
            writers.spawn(write_on(store.clone(), writer, head));
        }
        writers.join_all().await;
    });
}

/// The program, running.
struct Running {
    child: Child,
    lines: std::io::Lines<BufReader<ChildStdout>>,
    heads: Heads,
}

impl Drop for Running {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

impl Running {
    fn start(backend: Backend, dir: &Path, acknowledged: Heads) -> Running {
        let mut child = Command::new(std::env::current_exe().unwrap())
            .args(["--exact", "crash::program", "--include-ignored", "--nocapture", "--test-threads=1"])
            .env("STORE_SUITE_DIR", dir)
            .env("STORE_SUITE_BACKEND", backend.name())
            .env("STORE_SUITE_ACKNOWLEDGED", acknowledged.map(|head| head.to_string()).join(","))
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let lines = BufReader::new(child.stdout.take().unwrap()).lines();
        Running { child, lines, heads: acknowledged }
    }

    /// The next thing it says; `None` when it has ended.
    fn hear(&mut self) -> Option<String> {
        let line = self.lines.next()?.unwrap();
        if let Some(saved) = line.strip_prefix("saved ") {
            let (writer, n) = saved.split_once(' ').unwrap();
            self.heads[writer.parse::<usize>().unwrap()] = n.parse().unwrap();
        }
        Some(line)
    }

    /// Listens until it says something that begins with `what`, `times` times.
    /// Returns the last of them.
    fn hear_of(&mut self, what: &str, times: u64) -> String {
        let mut heard = String::new();
        for _ in 0..times {
            heard = loop {
                let line = self.hear().unwrap_or_else(|| panic!("it ended before it {what}"));
                if line.contains(what) {
                    break line;
                }
            };
        }
        heard
    }

    /// Waits until the store is open and verified. The database must have survived as well, at most be behind.
    fn opened(&mut self) {
        let opened = self.hear_of("opened", 1);
        assert!(!opened.contains("Rebuilt"), "{opened}");
    }

    fn kill(mut self) -> Heads {
        self.child.kill().unwrap();
        // What it had already said counts: it was said because it was saved.
        while self.hear().is_some() {}
        self.child.wait().unwrap();
        self.heads
    }
}

/// Numbers that differ from run to run; printed with a failure by the caller.
fn random(below: u64) -> u64 {
    let mut bytes = [0; 8];
    getrandom::fill(&mut bytes).unwrap();
    u64::from_le_bytes(bytes) % below
}

fn killed_again_and_again(backend: Backend) {
    let dir = tempfile::tempdir().unwrap();
    let mut acknowledged = [0; WRITERS];
    for round in 0..15 {
        let mut running = Running::start(backend, dir.path(), acknowledged);
        if round % 5 == 4 {
            // While it opens the store and verifies it.
            running.hear_of("opening", 1);
        } else {
            running.opened();
            running.hear_of("saved", 1 + random(150));
        }
        acknowledged = running.kill();
    }
    assert!(acknowledged.iter().all(|&head| head > 100), "hardly anything was committed: {acknowledged:?}");
    let store = backend.open(dir.path(), OpenMode::Existing).unwrap();
    crate::kit::wait(verified(&*store, &acknowledged));
}

#[test]
fn nothing_acknowledged_is_lost_by_kill_9_with_sled() {
    killed_again_and_again(Backend::Sled);
}

#[test]
fn nothing_acknowledged_is_lost_by_kill_9_with_redb() {
    killed_again_and_again(Backend::Redb);
}

#[test]
fn a_store_in_use_by_another_process_is_locked_until_that_is_killed() {
    let dir = tempfile::tempdir().unwrap();
    let mut running = Running::start(Backend::Sled, dir.path(), [0; WRITERS]);
    running.opened();
    let refused = crate::kit::refusal(Backend::Sled.open(dir.path(), OpenMode::Existing));
    assert!(matches!(refused, fleet_controller::store::Error::Locked { .. }), "{refused}");
    running.kill();
    Backend::Sled.open(dir.path(), OpenMode::Existing).unwrap();
}

fn the_power_fails_again_and_again(backend: Backend) {
    let mut disk = match Ext4::make() {
        Ok(disk) => disk,
        Err(Skipped(why)) => return eprintln!("skipped: power loss with {}: {why}", backend.name()),
    };
    let mut acknowledged = [0; WRITERS];
    for _ in 0..20 {
        let mut running = Running::start(backend, &disk.path().join("store"), acknowledged);
        running.opened();
        running.hear_of("saved", random(300));
        // Only what was said before counts: an fsync that races with the failure may report success.
        acknowledged = running.heads;
        disk.lose_power();
        running.hear_of("stopped", WRITERS as u64);
        running.kill();
        disk.power_on();
    }
    assert!(acknowledged.iter().sum::<u64>() > 100, "hardly anything was committed: {acknowledged:?}");
    {
        let store = backend.open(&disk.path().join("store"), OpenMode::Existing).unwrap();
        crate::kit::wait(verified(&*store, &acknowledged));
    }
    eprintln!("power loss with {}: 20 cycles, acknowledged {acknowledged:?}, nothing lost", backend.name());
}

#[test]
fn nothing_acknowledged_is_lost_by_a_power_loss_with_sled() {
    the_power_fails_again_and_again(Backend::Sled);
}

#[test]
fn nothing_acknowledged_is_lost_by_a_power_loss_with_redb() {
    the_power_fails_again_and_again(Backend::Redb);
}
