//! Who listens on a port of this machine: the listening sockets of /proc/net, held against the descriptors of the
//! service's processes. What follows from a stranger is decided by whoever asked the port.

use std::collections::{BTreeMap, BTreeSet};
use std::fs::{self, File};
use std::io::{self, BufRead, BufReader};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::path::Path;

use super::lineage::{Glimpse, Lineage, Snapshot, main_identity, snapshot};
use super::proc;
use crate::platform::{Listener, Running, ServicePlace};

/// A pass over /proc is not one moment: a worker that takes the socket over during a pass looks like a stranger. What
/// is no stranger ends the search.
const MOST_PASSES: usize = 3;
/// TCP_LISTEN of include/net/tcp_states.h, as /proc/net/tcp prints it.
const LISTENING: &str = "0A";

/// The inode of a socket, and the user it belongs to.
type Sockets = BTreeMap<u64, u32>;

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

/// The listening sockets that a connection to `address` may arrive at: those bound to it or to every address.
fn listening(address: &SocketAddr) -> io::Result<Sockets> {
    let mut sockets = Sockets::new();
    for table in ["/proc/net/tcp", "/proc/net/tcp6"] {
        let file = match File::open(table) {
            Ok(file) => file,
            // A kernel without IPv6 has no such table.
            Err(cause) if cause.kind() == io::ErrorKind::NotFound && table.ends_with('6') => continue,
            Err(cause) => return Err(cause),
        };
        for line in BufReader::new(file).lines().skip(1) {
            let line = line?;
            let Some(socket) = parse(&line) else { continue };
            if socket.state != LISTENING {
                // Listening sockets come first, before what may be very many connections
                // (Documentation/networking/proc_net_tcp.rst).
                break;
            }
            if takes(&socket.local, address) {
                sockets.insert(socket.inode, socket.user);
            }
        }
    }
    Ok(sockets)
}

/// A line of the tables.
struct Socket<'a> {
    local: SocketAddr,
    state: &'a str,
    user: u32,
    inode: u64,
}

fn parse(line: &str) -> Option<Socket<'_>> {
    let fields: Vec<&str> = line.split_ascii_whitespace().collect();
    let (address, port) = fields.get(1)?.split_once(':')?;
    Some(Socket {
        local: SocketAddr::new(parse_address(address)?, u16::from_str_radix(port, 16).ok()?),
        state: fields.get(3)?,
        user: fields.get(7)?.parse().ok()?,
        inode: fields.get(9)?.parse().ok()?,
    })
}

/// Groups of four bytes as they lie in memory, each printed as one number of this machine.
fn parse_address(text: &str) -> Option<IpAddr> {
    let mut bytes = Vec::new();
    for at in (0..text.len()).step_by(8) {
        bytes.extend(u32::from_str_radix(text.get(at..at + 8)?, 16).ok()?.to_ne_bytes());
    }
    if let Ok(four) = <[u8; 4]>::try_from(bytes.as_slice()) {
        return Some(Ipv4Addr::from(four).into());
    }
    <[u8; 16]>::try_from(bytes.as_slice()).ok().map(|sixteen| Ipv6Addr::from(sixteen).into())
}

/// Whether a socket bound to `local` may take a connection to `address`. A socket on `::` that declines IPv4 is not
/// told apart by the tables: it counts, and a stranger's one beside the service is worth a look anyway.
fn takes(local: &SocketAddr, address: &SocketAddr) -> bool {
    let (bound, asked) = (local.ip().to_canonical(), address.ip().to_canonical());
    let every = match local.ip() {
        IpAddr::V4(ip) => ip.is_unspecified() && asked.is_ipv4(),
        IpAddr::V6(ip) => ip.is_unspecified() || (bound.is_unspecified() && asked.is_ipv4()),
    };
    local.port() == address.port() && (every || bound == asked)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    #[cfg(target_endian = "little")]
    fn the_tables_are_read() {
        let line = "   0: 0100007F:46A1 00000000:0000 0A 00000000:00000000 00:00000000 00000000  1000        0 4711 1 0 100 0 0 10 0";
        let socket = parse(line).unwrap();
        assert_eq!(socket.local, "127.0.0.1:18081".parse().unwrap());
        assert_eq!((socket.state, socket.user, socket.inode), (LISTENING, 1000, 4711));
        assert_eq!(parse_address("00000000000000000000000001000000").unwrap(), Ipv6Addr::LOCALHOST);
        assert_eq!(parse_address("0000000000000000FFFF00000100007F").unwrap().to_canonical(), Ipv4Addr::LOCALHOST);
        for broken in ["", "sl local_address", "0: 0100007F:46A1", "0: é00007F:46A1 0 0A 0 0 0 0 0 1"] {
            assert!(parse(broken).is_none(), "{broken}");
        }
    }

    #[test]
    fn a_socket_takes_what_is_meant_for_it_or_for_every_address() {
        for (local, asked, expected) in [
            ("127.0.0.1:80", "127.0.0.1:80", true),
            ("127.0.0.1:80", "127.0.0.1:81", false),
            ("127.0.0.2:80", "127.0.0.1:80", false),
            ("0.0.0.0:80", "127.0.0.1:80", true),
            ("0.0.0.0:80", "[::1]:80", false),
            ("[::]:80", "127.0.0.1:80", true),
            ("[::]:80", "[::1]:80", true),
            ("[::1]:80", "127.0.0.1:80", false),
            ("[::ffff:127.0.0.1]:80", "127.0.0.1:80", true),
            ("[::ffff:0.0.0.0]:80", "127.0.0.1:80", true),
            ("[::ffff:0.0.0.0]:80", "[::1]:80", false),
        ] {
            assert_eq!(takes(&local.parse().unwrap(), &asked.parse().unwrap()), expected, "{local} {asked}");
        }
    }
}
