//! The rules of `docs/architecture.md`, executable: who imports whom, where the clock, the databases and /proc may be
//! named, and that every file says what it is for.
#![allow(clippy::unwrap_used)]

use std::fs;
use std::path::{Path, PathBuf};

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap().to_owned()
}

/// Every Rust source of a folder, with its path relative to the root and its text.
fn sources(folder: &str) -> Vec<(String, String)> {
    let mut found = Vec::new();
    let mut folders = vec![root().join(folder)];
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(&folder).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() && !path.ends_with("target") {
                folders.push(path);
            } else if path.extension().is_some_and(|ending| ending == "rs") {
                let name = path.strip_prefix(root()).unwrap().display().to_string();
                found.push((name, fs::read_to_string(&path).unwrap()));
            }
        }
    }
    assert!(!found.is_empty(), "{folder} has no sources");
    found
}

const OURS: [&str; 10] =
    ["fleet", "proto", "certs", "bundle", "controller", "agent", "fleetctl", "ansible-compat", "tests", "benches"];

/// The code of a file: without comments, and without what follows its test module.
fn code(text: &str) -> String {
    let body = text.split("#[cfg(test)]\nmod tests {").next().unwrap_or_default();
    body.lines().map(|line| line.split("//").next().unwrap_or_default()).collect::<Vec<_>>().join("\n")
}

/// Fails with every place where one of `words` is named outside of `allowed`.
fn only_in(folders: &[&str], words: &[&str], allowed: &[&str], rule: &str) {
    let mut broken = Vec::new();
    for (name, text) in folders.iter().flat_map(|folder| sources(folder)) {
        if allowed.iter().any(|place| name.starts_with(place)) || name.contains("/tests/") || name.ends_with("tests.rs")
        {
            continue;
        }
        // `std::os::unix::…` is not the crate nix.
        let code = code(&text).replace("unix::", "");
        for word in words.iter().filter(|word| code.contains(**word)) {
            broken.push(format!("{name} names {word}"));
        }
    }
    assert!(broken.is_empty(), "{rule}:\n{}", broken.join("\n"));
}

fn dependencies(folder: &str) -> Vec<String> {
    let manifest = fs::read_to_string(root().join(folder).join("Cargo.toml")).unwrap();
    let section = manifest.split("[dependencies]").nth(1).unwrap_or_default();
    let section = section.split("\n[").next().unwrap_or_default();
    let name = |line: &str| line.split(['.', '=', ' ']).next().unwrap_or_default().to_owned();
    section.lines().map(str::trim).filter(|line| !line.is_empty() && !line.starts_with('#')).map(name).collect()
}

#[test]
fn dependencies_point_inward() {
    let ours = [
        "fleet",
        "fleet-proto",
        "fleet-certs",
        "fleet-bundle",
        "fleet-controller",
        "fleet-agent",
        "fleetctl",
        "ansible-compat",
    ];
    let allowed: [(&str, &[&str]); 8] = [
        ("fleet", &[]),
        ("certs", &[]),
        ("ansible-compat", &[]),
        ("proto", &["fleet"]),
        ("bundle", &["fleet"]),
        ("controller", &["fleet", "fleet-proto", "fleet-certs", "fleet-bundle"]),
        ("agent", &["fleet", "fleet-proto", "fleet-certs", "fleet-bundle"]),
        ("fleetctl", &["fleet", "fleet-proto", "fleet-certs", "fleet-bundle", "ansible-compat"]),
    ];
    for (folder, may) in allowed {
        for dependency in dependencies(folder).iter().filter(|name| ours.contains(&name.as_str())) {
            assert!(may.contains(&dependency.as_str()), "{folder} must not depend on {dependency}");
        }
    }
}

#[test]
fn the_law_is_pure() {
    assert_eq!(dependencies("fleet"), ["serde", "serde_json", "thiserror"]);
    let banned = [
        "std::fs",
        "std::net",
        "std::env",
        "std::process",
        "std::thread",
        "std::io",
        "SystemTime",
        "Instant",
        "tokio",
        "async ",
        "println!",
    ];
    only_in(&["fleet/src"], &banned, &[], "fleet sees no IO, clock or threads");
    let index = ["fleet/src/deployment/by_name.rs"];
    only_in(&["fleet/src"], &["HashMap", "HashSet"], &index, "nothing unordered can be gone through");
}

#[test]
fn one_file_names_each_database() {
    only_in(
        &OURS[..9],
        &["(sled::", " sled::", "<sled::", "use sled"],
        &["controller/src/store/sled.rs", "controller/src/store.rs", "tests/"],
        "one file names sled",
    );
    only_in(
        &OURS[..9],
        &["(redb::", " redb::", "<redb::", "use redb"],
        &["controller/src/store/redb.rs", "controller/src/store.rs", "tests/"],
        "one file names redb",
    );
}

#[test]
fn one_folder_of_the_agent_names_proc() {
    only_in(
        &["agent/src"],
        &["\"/proc", "pidfd", "rustix::", "nix::"],
        &["agent/src/platform/linux"],
        "/proc, pidfds and signals are the platform's",
    );
}

#[test]
fn the_clock_is_asked_in_one_file_of_each_program() {
    only_in(
        &["controller/src", "agent/src"],
        &["SystemTime::now", "std::time::Instant", "Timestamp::now"],
        &["controller/src/clock.rs", "agent/src/clock.rs"],
        "time is an argument",
    );
}

#[test]
fn no_file_belongs_to_nobody() {
    for (name, text) in OURS.iter().flat_map(|folder| sources(folder)) {
        let first = text.lines().find(|line| !line.trim().is_empty()).unwrap_or_default();
        assert!(first.starts_with("//!"), "{name} does not begin by saying what it is for");
        let stem = Path::new(&name).file_stem().unwrap().to_string_lossy().into_owned();
        assert!(
            !["common", "utils", "util", "helpers", "types", "core", "misc"].contains(&stem.as_str()),
            "{name}: a file is one thought, and has its name"
        );
    }
}

#[test]
fn no_file_is_more_than_one_can_hold_in_the_head() {
    const LONGEST: usize = 700;
    for (name, text) in OURS.iter().flat_map(|folder| sources(folder)) {
        assert!(
            text.lines().count() <= LONGEST,
            "{name} has {} lines, more than {LONGEST}: split it",
            text.lines().count()
        );
    }
}

/// A document that names a place which is not there is believed until somebody looks.
#[test]
fn what_the_documents_name_is_there() {
    let (mut files, mut missing, mut named) =
        (vec![root().join("README.md"), root().join("examples/README.md")], vec![], 0);
    for folder in ["docs", "docs/decisions"] {
        files.extend(fs::read_dir(root().join(folder)).unwrap().map(|entry| entry.unwrap().path()));
    }
    for file in files.iter().filter(|file| file.extension().is_some_and(|ending| ending == "md")) {
        let text = fs::read_to_string(file).unwrap();
        let words = text.split(|c: char| !(c.is_ascii_alphanumeric() || "/_.-".contains(c)));
        // `agent/src/orders` is a file or a folder; `controller/src/api/access` may end a sentence.
        for word in words.map(|word| word.trim_end_matches('.')) {
            let Some((room, rest)) = word.split_once('/') else { continue };
            if !(OURS.contains(&room) && (rest.starts_with("src") || rest.starts_with("tests"))) {
                continue;
            }
            named += 1;
            if !root().join(word).exists() && !root().join(format!("{word}.rs")).exists() {
                missing.push(format!("{} names {word}", file.display()));
            }
        }
    }
    assert!(named > 30, "only {named} places were recognised");
    assert!(missing.is_empty(), "{}", missing.join("\n"));
}

/// Work that is not done must not look done.
#[test]
fn nothing_is_left_for_later() {
    only_in(&OURS[..8], &["todo!(", "unimplemented!(", "dbg!(", "FIXME", "XXX"], &[], "no stubs");
}
