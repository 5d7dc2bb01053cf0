//! Free ranges of consecutive ports, below the range from which the kernel gives out its own.

use std::net::{Ipv4Addr, TcpListener};
use std::sync::Mutex;

const FIRST: u16 = 18_500;
const LAST: u16 = 32_000;

/// The first of `count` consecutive ports that are free now and that nobody else in this process was given.
pub fn range(count: u16) -> u16 {
    static NEXT: Mutex<Option<u16>> = Mutex::new(None);
    let mut next = NEXT.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
    // Other test processes begin elsewhere.
    let mut at = next.unwrap_or(FIRST + (std::process::id() % 100) as u16 * 100);
    for _ in 0..1_000 {
        if at > LAST - count {
            at = FIRST;
        }
        if (at..at + count).all(|port| TcpListener::bind((Ipv4Addr::LOCALHOST, port)).is_ok()) {
            *next = Some(at + count);
            return at;
        }
        at += count;
    }
    panic!("no {count} consecutive free ports between {FIRST} and {LAST}");
}
