//! Builds descriptors, honest bundles and hand-made archives, and takes pictures of directories to compare.

#![allow(dead_code, clippy::unwrap_used)]

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io::{Cursor, Read, Seek, SeekFrom, Write};
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};

use fleet::Millis;
use fleet::manifest::{Entry, EntryKind, Manifest};
use fleet::release::{DESCRIPTOR_FORMAT, Descriptor, Grade, Run};
use fleet_bundle::{BundleError, Packed};

/// The content of each file by path.
pub type Contents = BTreeMap<String, Vec<u8>>;

pub fn file(path: &str, mode: u32, content: &[u8]) -> Entry {
    let (sha256, size) = fleet_bundle::digest(&mut &content[..]).unwrap();
    Entry { path: path.parse().unwrap(), mode, kind: EntryKind::File { sha256, size } }
}

pub fn directory(path: &str, mode: u32) -> Entry {
    Entry { path: path.parse().unwrap(), mode, kind: EntryKind::Directory }
}

pub fn link(path: &str, target: &str) -> Entry {
    Entry { path: path.parse().unwrap(), mode: 0o777, kind: EntryKind::Symlink { target: target.into() } }
}

pub fn descriptor(entries: Vec<Entry>) -> Descriptor {
    Descriptor {
        format: DESCRIPTOR_FORMAT,
        service: "hello".parse().unwrap(),
        version: "1.0".parse().unwrap(),
        nodes: BTreeMap::new(),
        run: Run {
            command: vec!["bin/hello".into()],
            environment: BTreeMap::new(),
            user: None,
            stop_timeout: Millis::from_secs(10),
        },
        health: None,
        minimum_grade: Grade::Digest,
        pins: Vec::new(),
        manifest: Manifest::new(entries).unwrap(),
    }
}

/// The release most tests start from.
pub fn hello() -> (Descriptor, Contents) {
    let entries = vec![
        directory("bin", 0o755),
        file("bin/hello", 0o755, b"#!/bin/sh\necho hello\n"),
        link("bin/hi", "hello"),
        file("etc/hello.toml", 0o640, b"port = 1\n"),
    ];
    let contents = [("bin/hello", &b"#!/bin/sh\necho hello\n"[..]), ("etc/hello.toml", b"port = 1\n")];
    (descriptor(entries), contents.map(|(path, bytes)| (path.to_owned(), bytes.to_owned())).into())
}

pub fn pack(descriptor: &Descriptor, contents: &Contents) -> Result<(Packed, Vec<u8>), BundleError> {
    let mut out = Vec::new();
    let packed =
        fleet_bundle::pack(descriptor, |path| Ok(Box::new(Cursor::new(contents[path.as_str()].clone()))), &mut out)?;
    Ok((packed, out))
}

/// The bytes as an open file without a name.
pub fn opened(bytes: &[u8]) -> File {
    let mut file = tempfile::tempfile().unwrap();
    file.write_all(bytes).unwrap();
    file.seek(SeekFrom::Start(0)).unwrap();
    file
}

/// Everything below a directory: what it is, its mode, its content or target, when it changed.
pub fn picture(root: &Path) -> BTreeMap<PathBuf, String> {
    let mut all = BTreeMap::new();
    let mut open = vec![root.to_owned()];
    while let Some(path) = open.pop() {
        let meta = fs::symlink_metadata(&path).unwrap();
        let what = if meta.is_dir() {
            open.extend(fs::read_dir(&path).unwrap().map(|entry| entry.unwrap().path()));
            "directory".to_owned()
        } else if meta.is_symlink() {
            format!("-> {}", fs::read_link(&path).unwrap().display())
        } else if meta.is_file() {
            format!(
                "{:?} inode {} changed {}.{}",
                fs::read(&path).unwrap(),
                meta.ino(),
                meta.ctime(),
                meta.ctime_nsec()
            )
        } else {
            format!("special {:?}", meta.file_type())
        };
        all.insert(path, format!("{:o} {what}", meta.permissions().mode()));
    }
    all
}

/// One hand-made tar header; `set` may then do whatever it likes before the checksum is made.
pub fn header(name: &[u8], kind: u8, size: u64, set: impl FnOnce(&mut tar::Header)) -> Vec<u8> {
    let mut header = tar::Header::new_gnu();
    header.as_old_mut().name[..name.len()].copy_from_slice(name);
    header.set_mode(0o644);
    header.set_uid(0);
    header.set_gid(0);
    header.set_mtime(0);
    header.set_size(size);
    header.set_entry_type(tar::EntryType::new(kind));
    set(&mut header);
    header.set_cksum();
    header.as_bytes().to_vec()
}

/// A content with its padding.
pub fn padded(content: &[u8]) -> Vec<u8> {
    let mut bytes = content.to_vec();
    bytes.resize(bytes.len().next_multiple_of(512), 0);
    bytes
}

/// The descriptor's entry as it should be.
pub fn descriptor_entry(json: &[u8]) -> Vec<u8> {
    [header(b".fleet/release.json", b'0', json.len() as u64, |_| ()), padded(json)].concat()
}

pub fn compressed(tar: &[u8]) -> Vec<u8> {
    zstd::encode_all(tar, 3).unwrap()
}

/// The tar stream of a bundle.
pub fn decompressed(bundle: &[u8]) -> Vec<u8> {
    let mut tar = Vec::new();
    zstd::Decoder::new(bundle).unwrap().read_to_end(&mut tar).unwrap();
    tar
}

/// Unpacking must fail with all of `words` in the message, and change nothing.
#[track_caller]
pub fn refused(name: &str, bundle: &[u8], words: &[&str]) -> BundleError {
    let room = tempfile::tempdir().unwrap();
    fs::write(room.path().join("victim"), "untouched").unwrap();
    fs::create_dir(room.path().join("staging")).unwrap();
    let before = picture(room.path());
    let target = room.path().join("staging/new");
    let error = fleet_bundle::unpack(&mut opened(bundle), &target).expect_err(name);
    assert_eq!(before, picture(room.path()), "{name}: something changed");
    let inspected = fleet_bundle::inspect(&mut &bundle[..]).expect_err(name);
    assert_eq!(error.to_string(), inspected.to_string(), "{name}");
    let message = error.to_string();
    assert!(!message.contains('\n') && message.len() < 1_000, "{name}: one short line, not {message:?}");
    for word in words {
        assert!(message.contains(word), "{name}: {word:?} is not in {message:?}");
    }
    error
}

/// The tar stream of the honest release cut into: the descriptor, the entries, the end.
pub fn parts() -> (Vec<u8>, Vec<u8>) {
    let (descriptor, contents) = hello();
    let tar = decompressed(&pack(&descriptor, &contents).unwrap().1);
    let start = descriptor_entry(&descriptor.to_json());
    assert!(tar.starts_with(&start));
    (start.clone(), tar[start.len()..tar.len() - 1024].to_vec())
}
