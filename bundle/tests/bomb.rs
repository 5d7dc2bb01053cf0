//! Ten gigabytes of zeros in half a megabyte: refused without memory or disk. Alone in its process, because it
//! looks at the most memory that process ever held.

#![allow(clippy::unwrap_used)]

mod support;

use std::fs;

use support::*;

const ZEROS: u64 = 10 << 30;
/// The largest block of a zstd frame, in bytes.
const LARGEST_BLOCK: u64 = 128 << 10;

/// A zstd frame (RFC 8878) by hand: `head` as raw blocks, then 10 GiB of zeros as run-length blocks of 4 bytes each.
fn bomb(head: &[u8]) -> Vec<u8> {
    // Magic number, no content size and no checksum, window of 2 MiB.
    let mut frame = vec![0x28, 0xb5, 0x2f, 0xfd, 0x00, 0x58];
    let block = |kind: u32, size: usize| ((size as u32) << 3 | kind << 1).to_le_bytes()[..3].to_vec();
    for raw in head.chunks(LARGEST_BLOCK as usize) {
        frame.extend(block(0, raw.len()));
        frame.extend(raw);
    }
    for _ in 0..ZEROS / LARGEST_BLOCK {
        frame.extend(block(1, LARGEST_BLOCK as usize));
        frame.push(0);
    }
    // The last block, raw and empty.
    frame.extend([1, 0, 0]);
    frame
}

/// The most memory this process ever held, in KiB.
fn peak() -> u64 {
    let status = fs::read_to_string("/proc/self/status").unwrap();
    let line = status.lines().find(|line| line.starts_with("VmHWM")).unwrap();
    line.split_whitespace().nth(1).unwrap().parse().unwrap()
}

#[test]
fn ten_gigabytes_of_zeros_cost_nothing() {
    let before = peak();
    let (start, entries) = parts();
    let behind = bomb(&[&start[..], &entries, &[0; 1024]].concat());
    assert!(behind.len() < 1 << 20, "{} bytes hold 10 GiB", behind.len());
    refused("zeros behind the end", &behind, &["goes on after its last block"]);
    // The size does not fit the usual octal field: this is GNU's binary form.
    let claimed = header(b".fleet/release.json", b'0', ZEROS, |_| ());
    refused("a descriptor of zeros", &bomb(&claimed), &["10737418240 bytes are more than"]);
    let largest = header(b".fleet/release.json", b'0', fleet::release::LARGEST_DESCRIPTOR, |_| ());
    refused("the largest descriptor, of zeros", &bomb(&largest), &["malformed"]);
    let file = header(b"a", b'0', ZEROS, |_| ());
    refused("a file of zeros", &bomb(&[&start[..], &file].concat()), &["'a'", "not in the manifest"]);
    refused("nothing but zeros", &bomb(&[]), &["first entry"]);
    // The largest descriptor is 32 MiB, in a buffer that doubles as it grows.
    assert!(peak() < before + (128 << 10), "peak memory grew from {before} to {} KiB", peak());
}
