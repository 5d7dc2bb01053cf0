//! Free ranges of consecutive ports, outside of the range from which the kernel gives out its own.

use std::net::{Ipv4Addr, TcpListener};
use std::ops::RangeInclusive;
use std::sync::{Mutex, PoisonError};

const FIRST: u16 = 18_500;
/// Ports are given out in blocks: the first of each is the block's lock, the others are for whoever holds it.
const BLOCK: u16 = 32;

/// The first of `count` consecutive ports that are free now and that no other story is given, in this process or in
/// another that runs at the same time.
///
/// That a port can be bound says nothing about the moment after, so a block is held by listening on its first port, for
/// as long as this process lives.
pub fn range(count: u16) -> u16 {
    static HELD: Mutex<Vec<TcpListener>> = Mutex::new(Vec::new());
    assert!(count < BLOCK, "at most {} ports at a time", BLOCK - 1);
    let kernels = given_out_by_the_kernel();
    let apart = |block: &u16| block + BLOCK <= *kernels.start() || block > kernels.end();
    let blocks = || (FIRST..=u16::MAX - BLOCK).step_by(BLOCK.into());
    let free = |port| TcpListener::bind((Ipv4Addr::LOCALHOST, port)).ok();
    // Where the kernel gives out everything there is no better place.
    for block in blocks().filter(apart).chain(blocks()) {
        let Some(lock) = free(block) else { continue };
        let mut ports = block + 1..=block + count;
        if ports.all(|port| free(port).is_some()) {
            HELD.lock().unwrap_or_else(PoisonError::into_inner).push(lock);
            return block + 1;
        }
    }
    panic!("no {count} consecutive free ports above {FIRST}");
}

/// The ports that outgoing connections are given: see ip_local_port_range in ip(7).
fn given_out_by_the_kernel() -> RangeInclusive<u16> {
    let range = std::fs::read_to_string("/proc/sys/net/ipv4/ip_local_port_range").unwrap();
    let ports: Vec<u16> = range.split_ascii_whitespace().map(|port| port.parse().unwrap()).collect();
    ports[0]..=ports[1]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nobody_is_given_what_another_holds() {
        let mut given: Vec<u16> = (0..8).flat_map(|_| (range(3)..).take(3)).collect();
        given.sort_unstable();
        given.dedup();
        assert_eq!(given.len(), 24);
        // As long as this process lives, the ports need not be bound to be somebody's.
        let block = given[0] - 1;
        assert!(TcpListener::bind((Ipv4Addr::LOCALHOST, block)).is_err());
    }
}
