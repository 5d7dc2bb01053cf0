//! Which processes descend from a service's main process: by parent, by session, by the mark in their environment.
//! What to do with them is left to `stop` and `processes`.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use super::proc::{self, Identity, Marks, Stat};
use crate::platform::{Running, ServicePlace};

/// Listings in one pass. A process that hands over to a child and ends between listing and reading would be missed
/// with the child; listing again until nothing is new finds the child. A machine that forks all the time has to end.
const MOST_LISTINGS: usize = 8;

/// One process in a pass over /proc.
#[derive(Debug, Clone)]
pub(super) struct Glimpse {
    pub(super) stat: Stat,
    /// Where its details are read.
    pub(super) details: PathBuf,
    pub(super) marks: Option<Marks>,
}

/// One pass over /proc: every process in which a program runs, except the agent itself.
pub(super) type Snapshot = BTreeMap<u32, Glimpse>;

/// Passes once over /proc.
pub(super) fn snapshot() -> io::Result<Snapshot> {
    let mut snapshot = Snapshot::new();
    let mut read = BTreeSet::from([std::process::id()]);
    for _ in 0..MOST_LISTINGS {
        let new: Vec<u32> = proc::numbers()?.into_iter().filter(|pid| read.insert(*pid)).collect();
        if new.is_empty() {
            break;
        }
        for pid in new {
            snapshot.extend(glimpse(pid).map(|glimpse| (pid, glimpse)));
        }
    }
    Ok(snapshot)
}

/// The same of these processes only.
pub(super) fn glimpses(pids: &BTreeSet<u32>) -> Snapshot {
    pids.iter().filter_map(|pid| Some((*pid, glimpse(*pid)?))).collect()
}

fn glimpse(pid: u32) -> Option<Glimpse> {
    let stat = proc::stat(pid).filter(Stat::executes)?;
    let details = stat.details();
    let marks = proc::marks(&details);
    Some(Glimpse { stat, details, marks })
}

/// A service's own family in one snapshot.
pub(super) struct Lineage<'a> {
    place: &'a ServicePlace,
    /// The root as the kernel shows it in links.
    root: PathBuf,
    /// The main process on record, if it is of this boot.
    main: Option<&'a Running>,
}

impl<'a> Lineage<'a> {
    pub(super) fn new(place: &'a ServicePlace, running: Option<&'a Running>, boot_id: &str) -> Self {
        let root = fs::canonicalize(&place.root).unwrap_or_else(|_| place.root.clone());
        Self { place, root, main: running.filter(|running| running.boot_id == boot_id) }
    }

    /// The service's root as the kernel shows it in links.
    pub(super) fn root(&self) -> &Path {
        &self.root
    }

    /// Whether the process was started for this service.
    pub(super) fn marked(&self, glimpse: &Glimpse) -> bool {
        glimpse.marks.as_ref().is_some_and(|marks| marks.root == self.place.root || marks.root == self.root)
    }

    /// Whether the process was started for another service: never this one's, whoever its parent is.
    pub(super) fn foreign(&self, glimpse: &Glimpse) -> bool {
        glimpse.marks.is_some() && !self.marked(glimpse)
    }

    /// Whether it was started by the main process on record or one of its family, although it left the tree.
    pub(super) fn of_this_start(&self, glimpse: &Glimpse) -> bool {
        let Some(main) = self.main.filter(|_| self.marked(glimpse)) else { return false };
        let release = glimpse.marks.as_ref().and_then(|marks| marks.release.as_ref());
        release == Some(&main.release) && glimpse.stat.identity.start_ticks >= main.start_ticks
    }

    /// The numbers of the main process, of its session, of `also`, and of all their descendants.
    pub(super) fn tree(&self, snapshot: &Snapshot, also: &BTreeSet<Identity>) -> BTreeSet<u32> {
        let mut tree: BTreeSet<u32> = snapshot
            .iter()
            .filter(|(_, glimpse)| also.contains(&glimpse.stat.identity) || self.of_main(snapshot, glimpse))
            .map(|(pid, _)| *pid)
            .collect();
        let mut children: BTreeMap<u32, Vec<u32>> = BTreeMap::new();
        for (pid, glimpse) in snapshot {
            children.entry(glimpse.stat.parent).or_default().push(*pid);
        }
        let mut open: Vec<u32> = tree.iter().copied().collect();
        while let Some(parent) = open.pop() {
            for child in children.get(&parent).into_iter().flatten() {
                if !self.foreign(&snapshot[child]) && tree.insert(*child) {
                    open.push(*child);
                }
            }
        }
        tree
    }

    /// Whether a process is the main process or of its session.
    fn of_main(&self, snapshot: &Snapshot, glimpse: &Glimpse) -> bool {
        let Some(main) = self.main.filter(|_| !self.foreign(glimpse)) else { return false };
        if glimpse.stat.identity == main_identity(main) {
            return true;
        }
        if glimpse.stat.session != main.pid || glimpse.stat.identity.start_ticks < main.start_ticks {
            return false;
        }
        let leader = snapshot.get(&main.pid).map(|leader| leader.stat.identity);
        // The session has the number of the main process. While that lives, the session is its own. Once it has
        // ended, the number may have gone to a stranger's session, and a second sign is asked for.
        leader == Some(main_identity(main)) || (leader.is_none() && self.lies_below(glimpse))
    }

    /// Whether executable or working directory lie below the service's root, or the mark says so.
    fn lies_below(&self, glimpse: &Glimpse) -> bool {
        let below = |path: Option<PathBuf>| path.is_some_and(|path| path.starts_with(&self.root));
        self.marked(glimpse)
            || below(fs::read_link(glimpse.details.join("exe")).ok())
            || below(proc::cwd(&glimpse.details))
    }
}

/// The identity in a record.
pub(super) fn main_identity(running: &Running) -> Identity {
    Identity { pid: running.pid, start_ticks: running.start_ticks }
}
