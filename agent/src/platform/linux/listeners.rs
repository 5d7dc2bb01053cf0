//! Who listens on a port of this machine: its listening sockets, held against the descriptors of the service's processes.
//! Which sockets these are is told by `sockets`; what follows from a stranger is decided by whoever asked the port.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::io;
use std::net::SocketAddr;
use std::path::Path;

use super::lineage::{Glimpse, Lineage, Snapshot, main_identity, snapshot};
use super::proc;
use super::sockets::{Sockets, listening};
use crate::platform::{Listener, Running, ServicePlace};

/// A pass over /proc is not one moment: a worker that takes the socket over during a pass looks like a stranger. What
/// is no stranger ends the search.
const MOST_PASSES: usize = 3;

/// What the descriptors of some processes show.
#[derive(Default)]
struct Held {
    sockets: BTreeSet<u64>,
    /// The first process whose descriptors may not be read.
    hidden: Option<u32>,
}

/// Who listens where a connection to `address` arrives, the main process of this boot being `running`.
pub(super) fn listener(place: &ServicePlace, running: &Running, boot_id: &str, address: &SocketAddr) -> Listener {
    let mut found = Listener::Nobody;
    for _ in 0..MOST_PASSES {
        found = pass(place, running, boot_id, address)
            .unwrap_or_else(|cause| Listener::Unknown(format!("cannot read who listens on {address}: {cause}")));
        if !matches!(found, Listener::Stranger(_)) {
            break;
        }
    }
    found
}

fn pass(place: &ServicePlace, running: &Running, boot_id: &str, address: &SocketAddr) -> io::Result<Listener> {
    let sockets = listening(address)?;
    if sockets.is_empty() {
        return Ok(Listener::Nobody);
    }
    // Nearly always the main process holds them all, and the rest of the machine need not be read.
    let main = main_identity(running);
    if running.boot_id == boot_id
        && let Some(stat) = proc::stat(main.pid).filter(|stat| stat.identity == main)
    {
        let held = descriptors([stat.details().as_path()].into_iter());
        if proc::runs(main) && sockets.keys().all(|inode| held.sockets.contains(inode)) {
            return Ok(Listener::Ours);
        }
    }
    let snapshot = snapshot()?;
    let lineage = Lineage::new(place, Some(running), boot_id);
    let tree = lineage.tree(&snapshot, &BTreeSet::new());
    let ours = |pid: &u32, glimpse: &Glimpse| tree.contains(pid) || lineage.of_this_start(glimpse);
    let own: BTreeMap<u32, &Glimpse> =
        snapshot.iter().filter(|(pid, glimpse)| ours(pid, glimpse)).map(|(pid, glimpse)| (*pid, glimpse)).collect();
    let held = descriptors(own.values().map(|glimpse| glimpse.details.as_path()));
    let left: Sockets = sockets.into_iter().filter(|(inode, _)| !held.sockets.contains(inode)).collect();
    let Some((_, user)) = left.first_key_value() else { return Ok(Listener::Ours) };
    if let Some(stranger) = holder(&snapshot, &own, &left)? {
        return Ok(Listener::Stranger(stranger));
    }
    if let Some(pid) = held.hidden {
        return Ok(Listener::Unknown(format!(
            "the descriptors of process {pid} of the service may not be read; run the agent as root or as the service's user"
        )));
    }
    // The socket may have been closed since the list was read: then whoever is left decides.
    let still = listening(address)?;
    if still.is_empty() {
        return Ok(Listener::Nobody);
    }
    if !left.keys().any(|inode| still.contains_key(inode)) && still.keys().all(|inode| held.sockets.contains(inode)) {
        return Ok(Listener::Ours);
    }
    Ok(Listener::Stranger(format!("a process of another user or container, socket of user {user}")))
}

/// The process outside the service that holds one of the sockets, if it shows itself.
fn holder(snapshot: &Snapshot, own: &BTreeMap<u32, &Glimpse>, sockets: &Sockets) -> io::Result<Option<String>> {
    // The agent is not in the snapshot, and what it holds is not the service's either.
    for pid in proc::numbers()?.into_iter().filter(|pid| !own.contains_key(pid)) {
        let details = snapshot.get(&pid).map_or_else(|| format!("/proc/{pid}").into(), |known| known.details.clone());
        let held = descriptors([details.as_path()].into_iter());
        if sockets.keys().any(|inode| held.sockets.contains(inode)) {
            return Ok(Some(format!("pid {pid} {}", proc::command(pid))));
        }
    }
    Ok(None)
}

/// The sockets that the processes whose details lie there hold.
fn descriptors<'a>(processes: impl Iterator<Item = &'a Path>) -> Held {
    let mut held = Held::default();
    for details in processes {
        if let Err(cause) = add(details, &mut held.sockets)
            && cause.kind() == io::ErrorKind::PermissionDenied
        {
            held.hidden = held.hidden.or(details.iter().nth(2).and_then(|pid| pid.to_str()?.parse().ok()));
        }
    }
    held
}

/// Adds the sockets of one process; whatever else fails than permission, the process has ended.
fn add(details: &Path, sockets: &mut BTreeSet<u64>) -> io::Result<()> {
    let mut refused = Ok(());
    for entry in fs::read_dir(details.join("fd"))?.flatten() {
        match fs::read_link(entry.path()) {
            Ok(link) => sockets.extend(socket(&link)),
            // The directory may be readable where the descriptors are not.
            Err(cause) if cause.kind() == io::ErrorKind::PermissionDenied => refused = Err(cause),
            // Closed meanwhile.
            Err(_) => {}
        }
    }
    refused
}

/// The inode in `socket:[4711]`.
fn socket(link: &Path) -> Option<u64> {
    link.to_str()?.strip_prefix("socket:[")?.strip_suffix(']')?.parse().ok()
}
