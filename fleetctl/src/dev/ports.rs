//! Whether a port is free, and who holds it if it is not.

use std::net::{SocketAddr, TcpListener};

use crate::failure::Failure;
use crate::output::text::plain;

/// Makes sure that a port can be listened on.
///
/// # Errors
/// 1, naming the port, what it was for, and who holds it as far as that can be seen.
pub fn check_free(address: SocketAddr, purpose: &str) -> Result<(), Failure> {
    match TcpListener::bind(address) {
        Ok(_) => Ok(()),
        Err(error) => {
            let port = address.port();
            let holder = holder(port).map_or_else(
                || "a process of another user".to_owned(),
                |(pid, name)| format!("pid {pid} ({})", plain(&name)),
            );
            let what = match error.kind() {
                std::io::ErrorKind::AddrInUse => format!("port {port}, wanted for {purpose}, is in use by {holder}"),
                _ => format!("port {port}, wanted for {purpose}, cannot be listened on: {error}"),
            };
            Err(Failure::failed(what).help(format!("stop it, or choose other ports with --port-base and --controller-port; to see who it is: ss -ltnp 'sport = :{port}'")))
        }
    }
}

/// A port nobody listens on now, for a process that is started by hand.
pub fn any_free() -> Option<u16> {
    TcpListener::bind("127.0.0.1:0").ok()?.local_addr().ok().map(|a| a.port())
}

/// The process that listens on a port, if it is one of ours to see.
fn holder(port: u16) -> Option<(i32, String)> {
    let inodes: Vec<String> = ["/proc/net/tcp", "/proc/net/tcp6"]
        .iter()
        .filter_map(|path| std::fs::read_to_string(path).ok())
        .flat_map(|table| listening(&table, port))
        .collect();
    for entry in std::fs::read_dir("/proc").ok()?.flatten() {
        let Some(pid) = entry.file_name().to_str().and_then(|n| n.parse::<i32>().ok()) else { continue };
        let Ok(files) = std::fs::read_dir(entry.path().join("fd")) else { continue };
        let holds = files
            .flatten()
            .filter_map(|fd| std::fs::read_link(fd.path()).ok())
            .any(|link| inodes.iter().any(|inode| link.to_str() == Some(&format!("socket:[{inode}]"))));
        if holds {
            let name = std::fs::read_to_string(entry.path().join("comm")).unwrap_or_default();
            return Some((pid, name.trim().to_owned()));
        }
    }
    None
}

/// The inodes of sockets that listen on `port`, from the text of `/proc/net/tcp` (proc(5): state 0A is LISTEN).
fn listening(table: &str, port: u16) -> Vec<String> {
    table
        .lines()
        .skip(1)
        .filter_map(|line| {
            let fields: Vec<&str> = line.split_ascii_whitespace().collect();
            let (local, state, inode) = (fields.get(1)?, fields.get(3)?, fields.get(9)?);
            let local_port = u16::from_str_radix(local.rsplit_once(':')?.1, 16).ok()?;
            (*state == "0A" && local_port == port).then(|| (*inode).to_owned())
        })
        .collect()
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn a_port_in_use_is_named_with_its_holder() {
        let held = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = held.local_addr().unwrap();
        let failure = check_free(address, "node n1").unwrap_err();
        let expected =
            format!("port {}, wanted for node n1, is in use by pid {} (", address.port(), std::process::id());
        assert!(failure.what.starts_with(&expected), "{}", failure.what);
        drop(held);
        check_free(address, "node n1").unwrap();
    }

    #[test]
    fn only_listening_sockets_count() {
        let table = "  sl  local_address rem_address   st tx_queue rx_queue tr tm->when retrnsmt   uid  timeout inode\n   0: 0100007F:46A1 00000000:0000 0A 00000000:00000000 00:00000000 00000000  1000        0 4242 1\n   1: 0100007F:46A1 0100007F:9999 01 00000000:00000000 00:00000000 00000000  1000        0 4343 1\n";
        assert_eq!(listening(table, 18_081), ["4242"]);
        assert_eq!(listening(table, 18_082), [""; 0]);
    }
}
