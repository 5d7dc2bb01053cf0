//! A full disk while unpacking: its own error, and nothing left behind (F21). Needs root for a small tmpfs.

#![allow(clippy::unwrap_used, clippy::print_stderr)]

mod support;

use std::path::Path;

use fleet_bundle::BundleError;
use nix::mount::{MntFlags, MsFlags, mount, umount2};
use support::*;

/// A small tmpfs, unmounted at the end.
struct SmallDisk(tempfile::TempDir);

impl SmallDisk {
    /// `None`, said loudly, where mounting is not allowed.
    fn mount(options: &str) -> Option<Self> {
        let at = tempfile::tempdir().unwrap();
        match mount(Some("fleet-test"), at.path(), Some("tmpfs"), MsFlags::empty(), Some(options)) {
            Ok(()) => Some(Self(at)),
            Err(error) => {
                eprintln!("SKIPPED: no full disk was tested, mounting a tmpfs failed: {error}");
                None
            }
        }
    }

    fn path(&self) -> &Path {
        self.0.path()
    }
}

impl Drop for SmallDisk {
    fn drop(&mut self) {
        umount2(self.0.path(), MntFlags::MNT_DETACH).unwrap();
    }
}

/// `count` files of `size` bytes each that do not compress.
fn bundle(count: u64, size: usize) -> Vec<u8> {
    let mut state: u64 = 1;
    let mut byte = || {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (state >> 56) as u8
    };
    let contents: Contents = (0..count).map(|i| (format!("d/f{i:03}"), (0..size).map(|_| byte()).collect())).collect();
    let entries = contents.iter().map(|(path, bytes)| file(path, 0o644, bytes)).collect();
    pack(&descriptor(entries), &contents).unwrap().1
}

#[track_caller]
fn no_space(disk: &SmallDisk, bundle: &[u8]) -> String {
    let before = picture(disk.path());
    let error = fleet_bundle::unpack(&mut opened(bundle), &disk.path().join("new")).unwrap_err();
    assert!(matches!(error, BundleError::NoSpace { .. }), "{error}");
    assert_eq!(before, picture(disk.path()), "something was left behind");
    error.to_string()
}

#[test]
fn a_release_larger_than_the_disk() {
    let Some(disk) = SmallDisk::mount("size=1m") else { return };
    fleet_bundle::unpack(&mut opened(&bundle(4, 10_000)), &disk.path().join("old")).unwrap();
    let message = no_space(&disk, &bundle(1, 3 << 20));
    assert!(message.contains("needs") && message.contains("free some"), "{message}");
    // It is not the same as a disk that stays full: what fits is unpacked.
    fleet_bundle::unpack(&mut opened(&bundle(4, 10_000)), &disk.path().join("small")).unwrap();
}

#[test]
fn a_disk_that_fills_while_writing() {
    // Space enough by the estimate, but not inodes: the error comes in the middle of writing.
    let Some(disk) = SmallDisk::mount("size=8m,nr_inodes=40") else { return };
    let message = no_space(&disk, &bundle(100, 1_000));
    assert!(message.contains("d/f0"), "{message}");
}

#[test]
fn a_release_that_just_does_not_fit() {
    let Some(disk) = SmallDisk::mount("size=1m") else { return };
    for size in [900_000, 1_000_000, 1_040_000, 1_048_576] {
        let bundle = bundle(1, size);
        match fleet_bundle::unpack(&mut opened(&bundle), &disk.path().join("new")) {
            Ok(_) => fleet_bundle::remove_tree(&disk.path().join("new")).unwrap(),
            Err(error) => assert!(matches!(error, BundleError::NoSpace { .. }), "{error}"),
        }
        assert_eq!(picture(disk.path()).len(), 1, "{size}");
    }
}
