//! What is packed comes back as it was, for every tree; and the same input always gives the same bytes.

#![allow(clippy::unwrap_used)]

mod support;

use std::collections::BTreeMap;
use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;

use fleet::manifest::{Entry, Manifest};
use fleet_bundle::BundleError;
use proptest::prelude::*;
use support::*;

/// Reads a directory back into entries and contents, independently of the code under test.
fn walk(root: &Path, at: &str, entries: &mut Vec<Entry>, contents: &mut Contents) {
    for item in fs::read_dir(root.join(at)).unwrap() {
        let name = item.unwrap().file_name().into_string().unwrap();
        let path = if at.is_empty() { name } else { format!("{at}/{name}") };
        let full = root.join(&path);
        let meta = fs::symlink_metadata(&full).unwrap();
        let mode = meta.permissions().mode() & 0o7777;
        if meta.is_symlink() {
            entries.push(link(&path, fs::read_link(&full).unwrap().to_str().unwrap()));
        } else if meta.is_dir() {
            entries.push(directory(&path, mode));
            walk(root, &path, entries, contents);
        } else {
            let bytes = fs::read(&full).unwrap();
            entries.push(file(&path, mode, &bytes));
            contents.insert(path, bytes);
        }
    }
}

#[test]
fn small_files_are_extracted_and_no_others() {
    let small = b"listen = 1\n".to_vec();
    let large = vec![7; 5_000];
    let entries = vec![file("conf", 0o644, &small), file("large", 0o644, &large), link("to", "conf")];
    let contents = Contents::from([("conf".to_owned(), small.clone()), ("large".to_owned(), large)]);
    let (_, bytes) = pack(&descriptor(entries), &contents).unwrap();
    let paths = ["conf", "large", "to", "absent"].map(str::to_owned).into();
    let found = fleet_bundle::extract(&mut bytes.as_slice(), &paths, 1_000).unwrap();
    assert_eq!(found, BTreeMap::from([("conf".to_owned(), small)]));
    assert!(
        fleet_bundle::extract(&mut &bytes[..bytes.len() / 2], &paths, 1_000).is_err(),
        "a damaged bundle shows nothing"
    );
}

/// A node of a generated tree.
#[derive(Debug, Clone)]
enum Node {
    File(u32, Vec<u8>),
    Directory(u32, BTreeMap<String, Node>),
    Link(String),
}

fn name() -> impl Strategy<Value = String> {
    // Short names, spaces, dashes, other scripts, and names beyond a tar header's field.
    prop_oneof![4 => "[a-c][a-z0-9 ._+-]{0,8}", 1 => "[äöü日本🚀]{1,4}", 1 => "[a-z]{99,120}", 1 => "-[a-z]{1,3}"]
        .prop_filter("not a directory's own names", |name| name != "." && name != "..")
}

fn tree() -> impl Strategy<Value = BTreeMap<String, Node>> {
    let content =
        prop_oneof![proptest::collection::vec(any::<u8>(), 0..1_500), Just(vec![7; 512]), Just(vec![0; 70_000])];
    let leaf = prop_oneof![
        4 => (prop_oneof![Just(0o644), Just(0o755), Just(0o400), Just(0o777)], content).prop_map(|(mode, bytes)| Node::File(mode, bytes)),
        1 => prop_oneof![name(), "[a-z]{101,130}"].prop_map(Node::Link),
    ];
    let node = leaf.prop_recursive(4, 24, 5, |inner| {
        (prop_oneof![Just(0o755), Just(0o700), Just(0o555)], proptest::collection::btree_map(name(), inner, 0..5))
            .prop_map(|(mode, children)| Node::Directory(mode, children))
    });
    proptest::collection::btree_map(name(), node, 0..6)
}

fn flatten(prefix: &str, nodes: &BTreeMap<String, Node>, entries: &mut Vec<Entry>, contents: &mut Contents) {
    for (name, node) in nodes {
        let path = format!("{prefix}{name}");
        match node {
            Node::File(mode, bytes) => {
                entries.push(file(&path, *mode, bytes));
                contents.insert(path, bytes.clone());
            }
            Node::Link(target) => entries.push(link(&path, target)),
            Node::Directory(mode, children) => {
                entries.push(directory(&path, *mode));
                flatten(&format!("{path}/"), children, entries, contents);
            }
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 64, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn every_tree_comes_back_and_packs_to_the_same_bytes(nodes in tree()) {
        let (mut entries, mut contents) = (vec![], Contents::new());
        flatten("", &nodes, &mut entries, &mut contents);
        let descriptor = descriptor(entries);
        let (packed, bundle) = pack(&descriptor, &contents).unwrap();
        prop_assert_eq!(fleet_bundle::digest(&mut &bundle[..]).unwrap(), (packed.digest, packed.size));

        let room = tempfile::tempdir().unwrap();
        let target = room.path().join("release");
        let unpacked = fleet_bundle::unpack_exactly(&mut opened(&bundle), &packed.digest, &target).unwrap();
        prop_assert_eq!(&unpacked, &descriptor);

        let (mut found, mut read) = (vec![], Contents::new());
        walk(&target, "", &mut found, &mut read);
        prop_assert_eq!(Manifest::new(found).unwrap(), descriptor.manifest.clone());
        let (again, same) = pack(&unpacked, &read).unwrap();
        prop_assert!(same == bundle, "packing the unpacked release gives other bytes");
        prop_assert_eq!(again, packed);

        fleet_bundle::remove_tree(&target).unwrap();
        prop_assert!(!target.exists());
    }
}

#[test]
fn the_bytes_of_a_tar_never_change() {
    // The descriptor's own text may gain fields; what follows it may not change.
    let (_, entries) = parts();
    let (digest, size) = fleet_bundle::digest(&mut &entries[..]).unwrap();
    // Written down once: a change here means every fleet would see new releases for unchanged sources.
    assert_eq!((digest.hex().as_str(), size), (ENTRIES_DIGEST, 3_072));
    let (descriptor, contents) = hello();
    assert_eq!(pack(&descriptor, &contents).unwrap(), pack(&descriptor, &contents).unwrap());
}

const ENTRIES_DIGEST: &str = "4fbb47223f5d3e624c7c966ca367c2ca271089087b839db3e98a21320758c2cd";

#[test]
fn other_tools_can_read_a_bundle() {
    let (descriptor, contents) = hello();
    let (_, bundle) = pack(&descriptor, &contents).unwrap();
    let tar = decompressed(&bundle);
    let mut archive = tar::Archive::new(&tar[..]);
    let names: Vec<String> =
        archive.entries().unwrap().map(|entry| entry.unwrap().path().unwrap().display().to_string()).collect();
    assert_eq!(names, [".fleet/release.json", "bin", "bin/hello", "bin/hi", "etc/hello.toml"]);
}

#[test]
fn modes_do_not_depend_on_the_umask() {
    // The umask belongs to the whole process, so a child sets it and unpacks.
    if let Ok(target) = std::env::var("FLEET_TEST_UNPACK_INTO") {
        nix::sys::stat::umask(nix::sys::stat::Mode::from_bits_truncate(0o077));
        let (descriptor, contents) = hello();
        fleet_bundle::unpack(&mut opened(&pack(&descriptor, &contents).unwrap().1), Path::new(&target)).unwrap();
        return;
    }
    let room = tempfile::tempdir().unwrap();
    let target = room.path().join("release");
    let child = std::process::Command::new(std::env::current_exe().unwrap())
        .args(["--exact", "modes_do_not_depend_on_the_umask", "--nocapture"])
        .env("FLEET_TEST_UNPACK_INTO", &target)
        .output()
        .unwrap();
    assert!(child.status.success(), "{}", String::from_utf8_lossy(&child.stderr));
    let mode = |path: &str| fs::metadata(target.join(path)).unwrap().permissions().mode() & 0o7777;
    assert_eq!(
        [mode(""), mode("bin"), mode("bin/hello"), mode("etc"), mode("etc/hello.toml")],
        [0o755, 0o755, 0o755, 0o755, 0o640]
    );
}

#[test]
fn an_existing_target_is_left_alone() {
    let (descriptor, contents) = hello();
    let (_, bundle) = pack(&descriptor, &contents).unwrap();
    let room = tempfile::tempdir().unwrap();
    let there = room.path().join("there");
    fs::create_dir(&there).unwrap();
    fs::write(there.join("kept"), "kept").unwrap();
    std::os::unix::fs::symlink(&there, room.path().join("link")).unwrap();
    std::os::unix::fs::symlink("/nowhere", room.path().join("dangling")).unwrap();
    fs::write(room.path().join("file"), "kept").unwrap();
    let before = picture(room.path());
    for name in ["there", "link", "dangling", "file"] {
        let error = fleet_bundle::unpack(&mut opened(&bundle), &room.path().join(name)).unwrap_err();
        assert!(matches!(error, BundleError::Exists { .. }), "{name}: {error}");
    }
    let error = fleet_bundle::unpack(&mut opened(&bundle), &room.path().join("no/such")).unwrap_err();
    assert!(matches!(error, BundleError::Write { .. }), "{error}");
    assert_eq!(before, picture(room.path()));
}

#[test]
fn another_bundle_than_the_expected_is_refused_before_writing() {
    let (descriptor, contents) = hello();
    let (packed, bundle) = pack(&descriptor, &contents).unwrap();
    let mut other = descriptor.clone();
    other.version = "2.0".parse().unwrap();
    let (_, swapped) = pack(&other, &contents).unwrap();
    let room = tempfile::tempdir().unwrap();
    let target = room.path().join("release");
    let error = fleet_bundle::unpack_exactly(&mut opened(&swapped), &packed.digest, &target).unwrap_err();
    assert!(matches!(error, BundleError::OtherDigest { .. }), "{error}");
    assert!(!target.exists());
    fleet_bundle::unpack_exactly(&mut opened(&bundle), &packed.digest, &target).unwrap();
}

#[test]
fn removing_does_not_follow_links_and_forgives_absence() {
    let room = tempfile::tempdir().unwrap();
    let kept = room.path().join("kept");
    fs::create_dir(&kept).unwrap();
    fs::write(kept.join("file"), "kept").unwrap();
    let tree = room.path().join("tree");
    fs::create_dir_all(tree.join("a/b")).unwrap();
    std::os::unix::fs::symlink(&kept, tree.join("a/out")).unwrap();
    fs::set_permissions(tree.join("a"), fs::Permissions::from_mode(0o555)).unwrap();
    fleet_bundle::remove_tree(&tree).unwrap();
    fleet_bundle::remove_tree(&tree).unwrap();
    fleet_bundle::remove_tree(&tree.join("deeper/still")).unwrap();
    assert!(!tree.exists() && kept.join("file").exists());
}
