//! Hostile and broken archives, made by hand: each is refused for the right reason, and neither the target nor
//! anything beside it changes (T23, F30).

#![allow(clippy::unwrap_used)]

mod support;

use std::io::{self, Write};

use fleet::release::{Descriptor, LARGEST_DESCRIPTOR};
use fleet_bundle::BundleError;
use support::*;

/// An archive whose descriptor is honest and whose entries are `entries`.
fn with_entries(entries: &[u8]) -> Vec<u8> {
    compressed(&[&parts().0, entries, &[0; 1024]].concat())
}

/// The honest entries with something added in front of and behind them; both must be refused.
#[track_caller]
fn added(name: &str, extra: &[u8], words: &[&str]) {
    let (_, entries) = parts();
    refused(name, &with_entries(&[extra, &entries].concat()), words);
    refused(name, &with_entries(&[&entries, extra].concat()), words);
}

fn linkname(target: &'static [u8]) -> impl FnOnce(&mut tar::Header) {
    move |header| header.as_old_mut().linkname[..target.len()].copy_from_slice(target)
}

#[test]
fn the_honest_archive_made_by_hand_is_accepted() {
    let bundle = with_entries(&parts().1);
    assert_eq!(fleet_bundle::inspect(&mut &bundle[..]).unwrap(), hello().0);
}

#[test]
fn names_that_leave_the_release() {
    for name in
        [&b"../victim"[..], b"a/../../victim", b"/etc/fleet-was-here", b"./bin/hello", b"bin//hello", b"..", b"."]
    {
        let text = String::from_utf8_lossy(name).into_owned();
        added(&text, &[header(name, b'0', 4, |_| ()), padded(b"evil")].concat(), &[&text, "is refused"]);
    }
}

#[test]
fn names_that_confuse_people_and_shells() {
    added("newline", &header(b"bin/x\nOK: verified", b'0', 0, |_| ()), &["bin/x\\nOK: verified", "control characters"]);
    added("escape", &header(b"\x1b[2J", b'0', 0, |_| ()), &["\\u{1b}[2J"]);
    added("option", &header(b"-rf", b'0', 0, |_| ()), &["'-rf'", "not in the manifest"]);
    added("not UTF-8", &header(b"\xff\xfe", b'0', 0, |_| ()), &["not UTF-8"]);
    added("empty", &header(b"", b'0', 0, |_| ()), &["1 to 1024 bytes"]);
    added("other case", &header(b"BIN/HELLO", b'0', 0, |_| ()), &["BIN/HELLO", "not in the manifest"]);
}

#[test]
fn links_that_leave_the_release() {
    added("symlink out", &header(b"out", b'2', 0, linkname(b"/etc")), &["'out'", "not in the manifest"]);
    let through =
        [header(b"out", b'2', 0, linkname(b"../..")), header(b"out/victim", b'0', 4, |_| ()), padded(b"evil")].concat();
    added("through a symlink", &through, &["'out", "not in the manifest"]);
    added("hard link", &header(b"hard", b'1', 0, linkname(b"/etc/shadow")), &["'hard'", "hard links"]);

    // A link that the manifest has, but with another target: only the archive lies.
    let (_, entries) = parts();
    let (descriptor, contents) = hello();
    let at = entries.windows(6).position(|w| w == b"bin/hi").unwrap();
    let evil = header(b"bin/hi", b'2', 0, |h| {
        h.set_mode(0o777);
        h.as_old_mut().linkname[..11].copy_from_slice(b"/etc/shadow");
    });
    refused(
        "changed link",
        &with_entries(&[&entries[..at], &evil, &entries[at + 512..]].concat()),
        &["'bin/hi'", "link"],
    );

    // The manifest itself lies: reading the descriptor refuses it.
    let json = String::from_utf8(descriptor.to_json()).unwrap();
    let json = json.replace("\"target\": \"hello\"", "\"target\": \"../../victim\"");
    refused(
        "link out in the manifest",
        &compressed(&[descriptor_entry(json.as_bytes()), entries, vec![0; 1024]].concat()),
        &["release.json", "outside the release"],
    );
    drop(contents);
}

#[test]
fn an_entry_through_a_link_of_the_manifest() {
    let json = String::from_utf8(hello().0.to_json()).unwrap().replace("etc/hello.toml", "bin/hi/x");
    let bundle = compressed(&[descriptor_entry(json.as_bytes()), vec![0; 1024]].concat());
    refused("below a link", &bundle, &["bin/hi/x", "not a directory"]);
}

#[test]
fn special_files_and_modes() {
    for (kind, word) in [
        (b'3', "devices"),
        (b'4', "devices"),
        (b'6', "named pipes"),
        (b'S', "sparse"),
        (b'7', "this type"),
        (b'V', "this type"),
    ] {
        added(word, &header(b"special", kind, 0, |_| ()), &["'special'", word]);
    }
    let (_, entries) = parts();
    let at = entries.windows(9).position(|w| w == b"bin/hello").unwrap();
    for mode in [0o4755, 0o2755, 0o1755] {
        let evil = header(b"bin/hello", b'0', 21, |h| h.set_mode(mode));
        let bundle = with_entries(&[&entries[..at], &evil, &entries[at + 512..]].concat());
        refused("set-uid", &bundle, &["'bin/hello'", "set-uid"]);
    }
    for (kind, mode, size) in [(b'0', 0o777, 21), (b'5', 0o755, 0), (b'0', 0o755, 20)] {
        let evil = header(b"bin/hello", kind, size, |h| h.set_mode(mode));
        let bundle = with_entries(&[&entries[..at], &evil, &entries[at + 512..]].concat());
        refused("type, mode or size", &bundle, &["'bin/hello'", "not that of the manifest"]);
    }
    let owned = header(b"bin/hello", b'0', 21, |h| {
        h.set_mode(0o755);
        h.set_uid(1000);
    });
    refused("owner", &with_entries(&[&entries[..at], &owned, &entries[at + 512..]].concat()), &["owner"]);
    let json = String::from_utf8(hello().0.to_json()).unwrap();
    let json = json.replacen("\"mode\": 493", "\"mode\": 2541", 1);
    refused("set-uid in the manifest", &compressed(&descriptor_entry(json.as_bytes())), &["4755", "set-uid"]);
}

#[test]
fn repeated_reordered_and_missing_entries() {
    let (_, entries) = parts();
    let at = entries.windows(9).position(|w| w == b"bin/hello").unwrap();
    let hello = &entries[at..at + 1024];
    refused(
        "twice",
        &with_entries(&[&entries[..at + 1024], hello, &entries[at + 1024..]].concat()),
        &["'bin/hello'", "twice"],
    );
    added("twice at the ends", hello, &["'bin/hello'", "twice or out of order"]);
    refused("missing", &with_entries(&[&entries[..at], &entries[at + 1024..]].concat()), &["twice or out of order"]);
    refused("nothing", &with_entries(&[]), &["'bin'", "ends before it"]);
    refused(
        "the last one missing",
        &with_entries(&entries[..entries.len() - 1024]),
        &["'etc/hello.toml'", "ends before it"],
    );
    refused("a broken header", &with_entries(&[b'x'; 4096]), &["broken tar header"]);
}

#[test]
fn extensions_that_change_what_a_header_means() {
    let pax =
        |record: &[u8], kind| [header(b"PaxHeaders/x", kind, record.len() as u64, |_| ()), padded(record)].concat();
    added("PAX size", &pax(b"22 size=999999999999\n", b'x'), &["PAX"]);
    added("PAX path", &pax(b"20 path=../../victim\n", b'x'), &["PAX"]);
    added("global PAX", &pax(b"20 path=../../victim\n", b'g'), &["PAX"]);
    let long =
        [header(b"././@LongLink", b'L', 13, |_| ()), padded(b"../../victim\0"), header(b"x", b'0', 0, |_| ())].concat();
    added("GNU long name", &long, &["long names"]);
    let long =
        [header(b"././@LongLink", b'K', 12, |_| ()), padded(b"/etc/shadow\0"), header(b"x", b'2', 0, |_| ())].concat();
    added("GNU long link", &long, &["long names"]);
    // A size in GNU's binary form, far beyond everything.
    let huge = header(b"x", b'0', 0, |h| {
        h.as_old_mut().size = [0x80, 0, 0, 0, 0x7f, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff]
    });
    added("binary size", &huge, &["'x'", "not in the manifest"]);
}

#[test]
fn contents_that_are_not_those_of_the_manifest() {
    let (_, entries) = parts();
    let at = entries.windows(9).position(|w| w == b"bin/hello").unwrap() + 512;
    let mut swapped = entries.clone();
    swapped[at + 12..at + 16].copy_from_slice(b"evil");
    refused("swapped content", &with_entries(&swapped), &["'bin/hello'", "digest"]);
    let mut hidden = entries;
    hidden[at + 500] = 1;
    refused("hidden bytes", &with_entries(&hidden), &["bin/hello", "hidden"]);
}

#[test]
fn a_file_of_the_manifest_cannot_be_larger_than_a_release() {
    let json = String::from_utf8(hello().0.to_json()).unwrap().replace("\"size\": 21", "\"size\": 10737418240");
    refused(
        "10 GiB in the manifest",
        &compressed(&descriptor_entry(json.as_bytes())),
        &["10737418249 bytes", "more than"],
    );
}

#[test]
fn a_million_entries() {
    let (start, _) = parts();
    let mut encoder = zstd::Encoder::new(Vec::new(), 1).unwrap();
    encoder.write_all(&start).unwrap();
    for i in 0..1_000_000 {
        encoder.write_all(&header(format!("f{i}").as_bytes(), b'0', 0, |_| ())).unwrap();
    }
    refused("in the archive", &encoder.finish().unwrap(), &["'f0'", "not in the manifest"]);

    let entry = |i: u32| format!("{{\"path\":\"d{i}\",\"mode\":493,\"kind\":\"directory\"}}");
    let many = |count: u32| {
        let list: Vec<String> = (0..count).map(entry).collect();
        let json = String::from_utf8(descriptor(vec![]).to_json()).unwrap();
        compressed(&descriptor_entry(
            json.replace("\"manifest\": []", &format!("\"manifest\": [{}]", list.join(","))).as_bytes(),
        ))
    };
    refused("in the manifest", &many(100_001), &["100001 entries are more than"]);
    refused("in a manifest too large to read", &many(1_000_000), &["release.json", "more than the"]);
}

#[test]
fn streams_that_end_early_or_go_on() {
    let (descriptor, contents) = hello();
    let (_, bundle) = pack(&descriptor, &contents).unwrap();
    for end in 0..bundle.len() {
        let error = refused("truncated", &bundle[..end], &[]);
        assert!(matches!(error, BundleError::Damaged { .. }), "cut at {end} of {}: {error}", bundle.len());
    }
    let with = |tail: &[u8]| [&bundle[..], tail].concat();
    refused("garbage", &with(b"garbage"), &["something follows"]);
    refused("one zero", &with(&[0]), &["something follows"]);
    refused("a second frame", &with(&compressed(b"more")), &["something follows"]);
    refused("an empty second frame", &with(&compressed(b"")), &["something follows"]);
    refused("a skippable frame", &with(&[0x50, 0x2a, 0x4d, 0x18, 4, 0, 0, 0, 1, 2, 3, 4]), &["something follows"]);
    refused("not zstd", b"PK\x03\x04 this is a zip archive, not a bundle", &["damaged or unreadable"]);
    let tar = decompressed(&bundle);
    refused("not compressed", &tar, &["damaged or unreadable"]);
    refused("more blocks", &compressed(&[&tar[..], &[0; 512]].concat()), &["goes on"]);
    refused("one end block less", &compressed(&tar[..tar.len() - 512]), &["the end"]);
}

#[test]
fn every_flipped_bit_of_a_bundle_is_noticed() {
    let (descriptor, contents) = hello();
    let (packed, bundle) = pack(&descriptor, &contents).unwrap();
    for at in 0..bundle.len() {
        let mut flipped = bundle.clone();
        flipped[at] ^= 1 << (at % 8);
        // Bits without meaning exist in zstd's frame header; then the release is the same and only the digest tells.
        if let Ok(read) = fleet_bundle::inspect(&mut &flipped[..]) {
            assert_eq!(read, descriptor, "byte {at}");
        }
        let room = tempfile::tempdir().unwrap();
        let target = room.path().join("new");
        fleet_bundle::unpack_exactly(&mut opened(&flipped), &packed.digest, &target).expect_err("flipped");
        assert!(!target.exists());
    }
}

#[test]
fn a_window_that_would_cost_gigabytes() {
    // Magic number, no content size, window descriptor 0xA8: 2 GiB; then an empty last block.
    refused("window", &[0x28, 0xb5, 0x2f, 0xfd, 0x00, 0xa8, 0x01, 0x00, 0x00], &["damaged or unreadable"]);
}

#[test]
fn descriptors() {
    let (start, entries) = parts();
    let json = hello().0.to_json();
    refused("missing", &compressed(&[&entries[..], &[0; 1024]].concat()), &["'bin'", "first entry"]);
    refused("not first", &compressed(&[&entries[..], &start, &[0; 1024]].concat()), &["'bin'", "first entry"]);
    refused("twice", &with_entries(&[&start[..], &entries].concat()), &[".fleet/release.json", "not in the manifest"]);
    refused("empty archive", &compressed(&[0; 1024]), &["first entry"]);
    refused("empty stream", &compressed(b""), &["damaged"]);
    refused("empty file", b"", &["damaged"]);
    let large = header(b".fleet/release.json", b'0', LARGEST_DESCRIPTOR + 1, |_| ());
    refused("too large", &compressed(&large), &["33554433 bytes are more"]);
    let link = header(b".fleet/release.json", b'2', json.len() as u64, linkname(b"/etc/passwd"));
    refused("a link", &compressed(&[link, padded(&json)].concat()), &["plain file"]);
    let text = String::from_utf8(json).unwrap();
    let edited = |from: &str, to: &str| {
        assert!(text.contains(from), "{from} in {text}");
        compressed(&[descriptor_entry(text.replace(from, to).as_bytes()), entries.clone(), vec![0; 1024]].concat())
    };
    let error = refused("newer", &edited("\"format\": 1", "\"format\": 2"), &["format 2", "knows format 1", "upgrade"]);
    assert!(matches!(error, BundleError::Descriptor(_)));
    refused("not JSON", &edited("\"format\"", "format"), &["malformed"]);
    refused("unknown field", &edited("\"service\"", "\"sudo\": true, \"service\""), &["malformed", "sudo"]);
    refused("other service", &edited("\"hello\"", "\"../hello\""), &["malformed"]);
    refused("deep", &compressed(&descriptor_entry(&[b'['; 100_000])), &["malformed"]);
    refused("reserved", &edited("etc/hello.toml", ".fleet/release.json"), &["reserved"]);
    refused("unreadable", &edited("\"mode\": 416", "\"mode\": 32"), &["etc/hello.toml", "0040", "keeps its owner out"]);
}

#[test]
fn packing_refuses_what_reading_would() {
    let reserved = descriptor(vec![file(".fleet/x", 0o644, b"")]);
    assert!(pack(&reserved, &[(".fleet/x".to_owned(), vec![])].into()).unwrap_err().to_string().contains("reserved"));
    let mut other: Descriptor = hello().0;
    other.format = 7;
    assert!(pack(&other, &hello().1).unwrap_err().to_string().contains("format 7"));
    for (content, word) in [
        (&b"short"[..], "5 bytes"),
        (b"#!/bin/sh\necho hello\n and more", "more than the 21 bytes"),
        (b"#!/bin/sh\necho hellx\n", "digest"),
    ] {
        let (descriptor, mut contents) = hello();
        contents.insert("bin/hello".into(), content.into());
        let error = pack(&descriptor, &contents).unwrap_err();
        assert!(matches!(error, BundleError::Changed { .. }) && error.to_string().contains(word), "{error}");
    }
    let gone = fleet_bundle::pack(&hello().0, |_| Err(io::ErrorKind::NotFound.into()), &mut Vec::new()).unwrap_err();
    assert!(matches!(gone, BundleError::Source { .. }) && gone.to_string().contains("bin/hello"), "{gone}");
}
