//! Stopping every process of a service: asked with SIGTERM, and killed when the time is up. What is gone is gone by
//! identity, and what outlives SIGKILL is named, never called stopped. Hand-started copies are left as evidence.

use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::time::Duration;

use fleet::Millis;
use rustix::process::Signal;

use super::identity::{gone, signal};
use super::lineage::{Lineage, snapshot};
use super::proc::{self, Identity};
use crate::platform::{ProcessError, Running, ServicePlace, Stopped};

/// How long to wait before looking again for processes that were forked since. A pass costs milliseconds.
const RESCAN: Duration = Duration::from_millis(250);
/// SIGKILL takes effect at once unless the kernel itself is stuck; after this it is called stuck.
const KILL_PATIENCE: Duration = Duration::from_secs(10);
/// Freezing passes before killing. Each finds what was forked during the one before; stopped processes do not fork,
/// so even a fork bomb runs out of parents.
const MOST_FREEZES: usize = 64;

/// A service being stopped.
pub(super) struct Stopping {
    place: ServicePlace,
    running: Option<Running>,
    boot_id: String,
    /// Everything that was ever seen to belong: children of those that ended are still found by session or mark,
    /// children of those that live by descent.
    seen: BTreeMap<Identity, String>,
}

impl Stopping {
    pub(super) fn new(place: &ServicePlace, running: Option<&Running>, boot_id: &str) -> Self {
        Self { place: place.clone(), running: running.cloned(), boot_id: boot_id.to_owned(), seen: BTreeMap::new() }
    }

    /// Stops everything.
    ///
    /// # Errors
    /// /proc could not be read, a signal was refused, or a process outlived SIGKILL.
    pub(super) async fn stop(mut self, timeout: Millis) -> Result<Stopped, ProcessError> {
        let asked = self.terminate(timeout).await?;
        let killed = if asked.is_empty() { BTreeMap::new() } else { self.kill().await? };
        let ended = self.seen.keys().filter(|identity| !killed.contains_key(identity)).count();
        Ok(Stopped { ended: u32::try_from(ended).unwrap_or(u32::MAX), killed: killed.into_values().collect() })
    }

    /// Asks everything to end, and what is forked meanwhile too; returns what still runs when the time is up.
    async fn terminate(&mut self, timeout: Millis) -> Result<Vec<Identity>, ProcessError> {
        let time_is_up = tokio::time::sleep(timeout.to_std());
        tokio::pin!(time_is_up);
        let mut asked = BTreeSet::new();
        loop {
            let alive = self.alive().await?;
            if alive.is_empty() {
                return Ok(alive);
            }
            for identity in &alive {
                if asked.insert(*identity) {
                    self.send(*identity, Signal::TERM)?;
                    // A stopped process takes SIGTERM only after it is continued.
                    self.send(*identity, Signal::CONT)?;
                }
            }
            tokio::select! {
                () = &mut time_is_up => return self.alive().await,
                _ = tokio::time::timeout(RESCAN, all_gone(&alive)) => {}
            }
        }
    }

    /// Freezes, then kills, until nothing is left; returns what was killed with its command lines.
    async fn kill(&mut self) -> Result<BTreeMap<Identity, String>, ProcessError> {
        let patience = tokio::time::sleep(KILL_PATIENCE);
        tokio::pin!(patience);
        let mut killed = BTreeMap::new();
        loop {
            let mut alive = self.alive().await?;
            let mut frozen = BTreeSet::new();
            for _ in 0..MOST_FREEZES {
                let new: Vec<Identity> = alive.iter().copied().filter(|identity| frozen.insert(*identity)).collect();
                if new.is_empty() {
                    break;
                }
                for identity in new {
                    self.send(identity, Signal::STOP)?;
                }
                alive = self.alive().await?;
            }
            if alive.is_empty() {
                return Ok(killed);
            }
            for identity in &alive {
                self.send(*identity, Signal::KILL)?;
                killed.insert(*identity, self.seen.get(identity).cloned().unwrap_or_default());
            }
            tokio::select! {
                () = &mut patience => {
                    let left = self.alive().await?;
                    return if left.is_empty() { Ok(killed) } else { Err(ProcessError::Unkillable(self.names(&left))) };
                }
                _ = tokio::time::timeout(RESCAN, all_gone(&alive)) => {}
            }
        }
    }

    /// Every process of the service that runs now, confirmed by a second pass when it seems that there is none:
    /// a pass over /proc is not one moment, and a child may be forked behind its back.
    async fn alive(&mut self) -> Result<Vec<Identity>, ProcessError> {
        let mut found = self.pass().await?;
        if found.is_empty() {
            found = self.pass().await?;
        }
        for identity in &found {
            self.seen.entry(*identity).or_insert_with(|| proc::command(identity.pid));
        }
        Ok(found)
    }

    /// One pass, on a thread where blocking is allowed.
    async fn pass(&self) -> Result<Vec<Identity>, ProcessError> {
        let (place, running, boot_id) = (self.place.clone(), self.running.clone(), self.boot_id.clone());
        let seen: BTreeSet<Identity> = self.seen.keys().copied().collect();
        let pass = tokio::task::spawn_blocking(move || family(&place, running.as_ref(), &boot_id, &seen));
        pass.await.map_err(io::Error::other).and_then(|found| found).map_err(|cause| ProcessError::System {
            what: "reading /proc to find the service's processes".into(),
            cause,
        })
    }

    fn send(&self, to: Identity, what: Signal) -> Result<(), ProcessError> {
        signal(to, what)
            .map(drop)
            .map_err(|cause| ProcessError::System { what: format!("sending {what:?} to {}", self.names(&[to])), cause })
    }

    fn names(&self, identities: &[Identity]) -> String {
        let name = |identity: &Identity| {
            format!(
                "process {} ({})",
                identity.pid,
                self.seen.get(identity).cloned().unwrap_or_else(|| proc::command(identity.pid))
            )
        };
        identities.iter().map(name).collect::<Vec<_>>().join(", ")
    }
}

/// The service's processes: main process, session, descendants, and whatever carries the mark.
fn family(
    place: &ServicePlace,
    running: Option<&Running>,
    boot_id: &str,
    seen: &BTreeSet<Identity>,
) -> io::Result<Vec<Identity>> {
    let snapshot = snapshot()?;
    let lineage = Lineage::new(place, running, boot_id);
    let mut numbers = lineage.tree(&snapshot, seen);
    numbers.extend(snapshot.iter().filter(|(_, glimpse)| lineage.marked(glimpse)).map(|(pid, _)| *pid));
    Ok(numbers.into_iter().map(|pid| snapshot[&pid].stat.identity).collect())
}

/// One at a time: whatever the number of processes, one descriptor is enough.
async fn all_gone(identities: &[Identity]) {
    for identity in identities {
        gone(*identity).await;
    }
}
