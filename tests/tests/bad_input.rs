//! Bad input and bad surroundings, each ending in one clear error with the running service untouched: files of the
//! operator, hostile and damaged bundles.
#![allow(clippy::unwrap_used)]

use std::fs;
use std::path::{Path, PathBuf};

use fleet_tests::archive::{self, BOMB, Entry};
use fleet_tests::witness::nothing_lost;
use fleet_tests::workspace::Workspace;
use fleet_tests::{Fleet, Witness, releases, wire};
use tar::EntryType;

/// Every node still runs version 1, and nothing else was ever taken in.
#[track_caller]
fn untouched(fleet: &Fleet) {
    let report = fleet.verify().expect(0).json();
    assert!(report["proofs"].as_array().unwrap().iter().all(|proof| proof["version"] == "1.0.0"), "{report:#}");
    let releases = fleet.ctl(["releases", "list", "-o", "json"]).expect(0).json();
    assert_eq!(releases["items"].as_array().map(Vec::len), Some(1), "{releases:#}");
    assert_eq!(fleet.ctl(["history", "-o", "json"]).expect(0).json()["items"].as_array().map(Vec::len), Some(1));
}

#[test]
fn a_service_file_with_mistakes() {
    let fleet = Fleet::on_version_1(2);
    let good = fs::read_to_string(Workspace::built().example("hello").join("fleet.yaml")).unwrap();
    let good: String = good.lines().filter(|line| !line.starts_with('#')).map(|line| format!("{line}\n")).collect();
    assert!(good.lines().count() <= 8, "a small file: {good}");
    // What is replaced by what, what in it must be pointed at, and what must be said.
    let mistakes = [
        ("health:", "helath:", "helath", &["helath", "health"][..]),
        ("mode: \"0755\"", "modes: \"0755\"", "modes", &["modes", "mode"]),
        ("version: \"1.0.0\"", "version: [2, 0]", "[2, 0]", &["version"]),
        ("nodes: role=web", "nodes: 7", "7", &["nodes"]),
        (
            "run: bin/hello --port ${PORT}",
            "run: {command: bin/hello --port 1, stop_timeout: soon}",
            "soon",
            &["soon", "stop_timeout"],
        ),
        ("service: hello", "service: hello\nservice: other", "service: other", &["service"]),
        ("source: bin/hello", "source: bin/none", "bin/none", &["bin/none"]),
        ("apiVersion: fleet/v1", "apiVersion: fleet/v9", "fleet/v9", &["fleet/v9", "fleet/v1"]),
        ("nodes: role=web", "nodes: [", "", &["fleet.yaml"]),
    ];
    let dir = fleet.folder().join("mistaken");
    fs::create_dir_all(dir.join("bin")).unwrap();
    fs::copy(Workspace::built().binary("hello-v2"), dir.join("bin/hello")).unwrap();
    for (right, wrong, pointed_at, words) in mistakes {
        assert!(good.contains(right), "{right}");
        let text = good.replacen(right, wrong, 1);
        fs::write(dir.join("fleet.yaml"), &text).unwrap();
        let output = fleet.deploy(&dir, &[]).expect(65).one_error();
        if !pointed_at.is_empty() {
            let before = &text[..text.find(pointed_at).unwrap()];
            let (line, column) =
                (before.matches('\n').count() + 1, before.len() - before.rfind('\n').map_or(0, |at| at + 1) + 1);
            output.clone().says(&format!("fleet.yaml:{line}:{column}"));
        }
        for word in words {
            output.clone().says(word);
        }
    }
    fs::remove_file(dir.join("fleet.yaml")).unwrap();
    fleet.deploy(&dir, &[]).expect(65).one_error().says("fleet.yaml");
    // A slip of the finger must not read as "drift found".
    fleet.ctl(["drift", "--quite"]).expect(64);
    untouched(&fleet);
}

/// Every hostile archive twice: with an honest manifest that does not know the entry, and with one that names it.
#[test]
fn hostile_archives() {
    let fleet = Fleet::on_version_1(2);
    let witness = Witness::on(fleet.port_base);
    let folder = fleet.folder();
    let bait = folder.join("escaped");
    let absolute = bait.to_str().unwrap().to_owned();
    let upwards = format!("{}{}", "../".repeat(20), absolute.trim_start_matches('/'));
    assert!(upwards.len() < 100, "tar's name field: {upwards}");
    let hello = Entry::file("bin/hello");
    let claim = |path: &str| {
        format!(
            r#"[{{"path":{},"mode":493,"kind":"file","sha256":"{}","size":100}}]"#,
            serde_json::to_string(path).unwrap(),
            "0".repeat(64)
        )
    };
    let link = |target: &str| format!(r#"[{{"path":"bin/hello","mode":511,"kind":"symlink","target":"{target}"}}]"#);
    let honest = archive::honest_manifest();
    let bomb = Entry { zeros: BOMB, ..hello.clone() };
    let with = |manifest: &str, entries: &[Entry], tail: u64| {
        let (descriptor, entries) = (archive::descriptor(manifest), entries.to_vec());
        Box::new(move |path: &Path| archive::write(path, descriptor.as_bytes(), &entries, tail))
            as Box<dyn Fn(&Path) -> PathBuf>
    };
    let bare = |entries: &[Entry]| {
        let entries = entries.to_vec();
        Box::new(move |path: &Path| archive::write_bare(path, &entries)) as Box<dyn Fn(&Path) -> PathBuf>
    };
    let cases = [
        ("dotdot", with(&honest, &[hello.clone(), Entry::file(&upwards)], 0)),
        ("dotdot-claimed", with(&claim(&upwards), &[Entry::file(&upwards)], 0)),
        ("dotdot-bare", bare(&[Entry::file(&upwards)])),
        ("absolute", with(&honest, &[hello.clone(), Entry::file(&absolute)], 0)),
        ("absolute-claimed", with(&claim(&absolute), &[Entry::file(&absolute)], 0)),
        ("absolute-bare", bare(&[Entry::file(&absolute)])),
        ("link-out", with(&honest, &[Entry::link("bin/hello", EntryType::Symlink, "/etc/passwd")], 0)),
        (
            "link-out-claimed",
            with(&link("/etc/passwd"), &[Entry::link("bin/hello", EntryType::Symlink, "/etc/passwd")], 0),
        ),
        (
            "link-up-claimed",
            with(
                &link("../../../../etc/passwd"),
                &[Entry::link("bin/hello", EntryType::Symlink, "../../../../etc/passwd")],
                0,
            ),
        ),
        (
            "hard-link-out",
            with(&honest, &[hello.clone(), Entry::link("bin/shadow", EntryType::Link, "/etc/shadow")], 0),
        ),
        (
            "through-a-link",
            with(
                &honest,
                &[Entry::link("bin", EntryType::Symlink, folder.to_str().unwrap()), Entry::file("bin/escaped")],
                0,
            ),
        ),
        ("device", with(&honest, &[hello.clone(), Entry::link("null", EntryType::Char, "")], 0)),
        ("device-bare", bare(&[Entry::link("null", EntryType::Block, "")])),
        ("fifo", with(&honest, &[hello.clone(), Entry::link("fifo", EntryType::Fifo, "")], 0)),
        ("set-uid", with(&honest, &[Entry { mode: 0o4755, ..hello.clone() }], 0)),
        ("twice", with(&honest, &[hello.clone(), hello.clone()], 0)),
        ("bomb", with(&honest, std::slice::from_ref(&bomb), 0)),
        (
            "bomb-claimed",
            with(&honest.replace("\"size\":100", &format!("\"size\":{BOMB}")), std::slice::from_ref(&bomb), 0),
        ),
        ("bomb-in-the-descriptor", bare(&[Entry { zeros: BOMB, mode: 0o644, ..Entry::file(".fleet/release.json") }])),
        ("bomb-after-the-end", with(&honest, std::slice::from_ref(&hello), BOMB)),
        ("not-a-manifest", with("7", std::slice::from_ref(&hello), 0)),
    ];
    let admin = wire::identity(&fleet.dir.join("controller/admin"));
    for (name, make) in cases {
        let path = make(&folder.join(format!("{name}.fleet.tar.zst")));
        let output = fleet.deploy(&path, &[]).expect_refusal().one_error();
        assert_eq!(output.code, 65, "{name}: {output}");
        assert!(!bait.exists(), "{name} has written outside");
        // And past fleetctl: what a program of somebody else's would send.
        let bytes = fs::read(&path).unwrap();
        let told = wire::upload(fleet.controller_port, &admin, &format!("sha256:{}", releases::sha256(&path)), &bytes)
            .unwrap_err();
        assert!(
            told.starts_with("InvalidArgument")
                || told.starts_with("DataLoss")
                || told.starts_with("ResourceExhausted"),
            "{name}: {told}"
        );
        assert!(!bait.exists(), "{name} has written outside");
        fs::remove_file(&path).unwrap();
    }
    nothing_lost(&witness.stop());
    untouched(&fleet);
}

#[test]
fn a_bundle_that_is_damaged_or_another() {
    let fleet = Fleet::on_version_1(2);
    let path = archive::write(
        &fleet.folder().join("x.fleet.tar.zst"),
        archive::descriptor(&archive::honest_manifest()).as_bytes(),
        &[Entry::file("bin/hello")],
        0,
    );
    let whole = fs::read(&path).unwrap();
    let digest = format!("sha256:{}", releases::sha256(&path));
    for cut in [0, 1, whole.len() / 2, whole.len() - 1] {
        fs::write(&path, &whole[..cut]).unwrap();
        fleet.deploy(&path, &[]).expect(65).one_error();
    }
    let mut flipped = whole.clone();
    let middle = flipped.len() / 2;
    flipped[middle] ^= 1;
    fs::write(&path, &flipped).unwrap();
    fleet.deploy(&path, &[]).expect(65).one_error();
    let mut longer = whole.clone();
    longer.extend_from_slice(&whole);
    fs::write(&path, &longer).unwrap();
    fleet.deploy(&path, &[]).expect(65).one_error();

    // Bytes under another's digest, straight to the controller.
    let admin = wire::identity(&fleet.dir.join("controller/admin"));
    let told = wire::upload(fleet.controller_port, &admin, &format!("sha256:{}", "0".repeat(64)), &whole).unwrap_err();
    assert!(told.contains("digest") && (told.contains(&digest) || told.contains(&digest[7..15])), "{told}");
    let told = wire::upload(fleet.controller_port, &admin, &digest, &whole[..whole.len() - 1]).unwrap_err();
    assert!(!told.is_empty());
    untouched(&fleet);
    // The same bundle, whole and under its own digest, is taken.
    wire::upload(fleet.controller_port, &admin, &digest, &whole).unwrap();
}
