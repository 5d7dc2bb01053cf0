//! Ports that nobody uses, below those the kernel hands out by itself.

use std::net::{Ipv4Addr, TcpListener};

use anyhow::bail;

/// Below 32768, where Linux begins to hand out ports of outgoing connections (`ip_local_port_range`).
const LOWEST: u16 = 20_000;
const HIGHEST: u16 = 32_000;

/// The first of `count` free ports in a row.
///
/// # Errors
/// There is no such row.
pub fn row(count: u16) -> anyhow::Result<u16> {
    let span = HIGHEST - LOWEST;
    // Two programs that look at the same time begin at different places.
    let offset = u16::try_from(std::process::id() % u32::from(span)).unwrap_or(0);
    for step in 0..span / count.max(1) {
        let first = LOWEST + (offset + step * count) % span;
        if (first..first + count).all(is_free) {
            return Ok(first);
        }
    }
    bail!("no {count} free ports in a row between {LOWEST} and {HIGHEST}: stop something that listens there")
}

fn is_free(port: u16) -> bool {
    TcpListener::bind((Ipv4Addr::LOCALHOST, port)).is_ok()
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn a_taken_port_is_not_in_the_row() {
        let first = row(3).unwrap();
        let _taken = TcpListener::bind((Ipv4Addr::LOCALHOST, first + 1)).unwrap();
        let other = row(3).unwrap();
        assert!(!(other..other + 3).contains(&(first + 1)), "{other} to {} holds {}", other + 2, first + 1);
    }
}
