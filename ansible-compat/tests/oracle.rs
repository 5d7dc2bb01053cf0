//! Every inventory in `inventories/good` must read as Ansible reads it, every one in `inventories/refused` must be refused.
//!
//! Two comparisons: with the answers of ansible-core 2.17.14 kept in `inventories/expected`, always; and with every real
//! Ansible that `real` finds. To renew the kept answers, run with `FLEET_ANSIBLE_BLESS=1` and only 2.17 in
//! `FLEET_ANSIBLE_VENVS`.
#![allow(clippy::unwrap_used)]

mod real;

use std::path::{Path, PathBuf};
use std::process::Command;

use ansible_compat::{Edition, Error, Export, Inventory, Reading, Source};
use real::{GraphVars, Oracle};
use serde_json::Value;

const EXPORTS: [(Export, &str); 2] = [(Export::No, "list"), (Export::Yes, "export")];

fn folder(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/inventories").join(name)
}

fn inventories(name: &str) -> Vec<PathBuf> {
    let mut paths: Vec<PathBuf> = std::fs::read_dir(folder(name)).unwrap().map(|entry| entry.unwrap().path()).collect();
    paths.sort();
    paths
}

/// `beside` keeps its inventory in a file next to `group_vars`, all others are the source themselves.
fn source_of(path: &Path) -> PathBuf {
    if path.ends_with("beside") { path.join("hosts") } else { path.to_path_buf() }
}

fn load(path: &Path, edition: Edition) -> Result<Inventory, Error> {
    Reading { edition, ..Reading::default() }.load(&[Source::Path(source_of(path))])
}

fn arguments(path: &Path) -> Vec<String> {
    ["-i", source_of(path).to_str().unwrap()].map(str::to_owned).to_vec()
}

fn expected_file(path: &Path, kind: &str) -> PathBuf {
    folder("expected").join(format!("{}.{kind}.json", path.file_name().unwrap().to_str().unwrap()))
}

#[test]
fn good_inventories_read_as_the_kept_answers() {
    let paths = inventories("good");
    assert!(paths.len() >= 25, "only {} inventories", paths.len());
    for path in paths {
        let inventory = load(&path, Edition::Core2_18).unwrap_or_else(|error| panic!("{error}"));
        for (export, kind) in EXPORTS {
            let file = expected_file(&path, kind);
            let text = std::fs::read(&file).unwrap_or_else(|error| panic!("{}: {error}", file.display()));
            let expected: Value = serde_json::from_slice(&text).unwrap();
            assert_eq!(inventory.to_list_json(export), expected, "{} ({kind})", path.display());
        }
    }
}

#[test]
fn refused_inventories_are_refused_with_place_and_way_out() {
    let paths = inventories("refused");
    assert!(paths.len() >= 20, "only {} inventories", paths.len());
    for path in paths {
        let error = load(&path, Edition::default()).map(drop).expect_err(&path.display().to_string()).to_string();
        let name = path.file_name().unwrap().to_str().unwrap();
        assert!(error.contains(name) || name == "circle.inv", "{error}");
        assert!(error.contains("; "), "{name} has no way out: {error}");
    }
}

#[test]
fn every_real_ansible_agrees() {
    let bless = std::env::var_os("FLEET_ANSIBLE_BLESS").is_some();
    let mut differences = Vec::new();
    for version in real::versions("the comparison of the written inventories") {
        let mut oracle = Oracle::start(&version);
        for path in inventories("good") {
            let theirs = oracle.ask(&oracle.home(), &arguments(&path), GraphVars::Left);
            let theirs = theirs.unwrap_or_else(|refused| panic!("{} {}: {refused}", version.number, path.display()));
            let ours = load(&path, version.edition).unwrap_or_else(|error| panic!("{error}"));
            for (export, kind) in EXPORTS {
                let value = if export == Export::Yes { &theirs.export } else { &theirs.list };
                if bless {
                    let text = serde_json::to_string_pretty(value).unwrap() + "\n";
                    std::fs::write(expected_file(&path, kind), text).unwrap();
                }
                let told = ours.to_list_json(export);
                if told != *value {
                    let place = format!("{} {} ({kind})", version.number, path.display());
                    differences.push(format!("{place}\n ours:   {told}\n theirs: {value}"));
                }
            }
        }
    }
    assert!(differences.is_empty(), "{}", differences.join("\n\n"));
}

#[test]
fn every_real_ansible_refuses_too() {
    for version in real::versions("the comparison of refusals") {
        let mut oracle = Oracle::start(&version);
        for path in inventories("refused") {
            let theirs = oracle.ask(&oracle.home(), &arguments(&path), GraphVars::Left);
            assert!(theirs.is_err(), "{} is read by {}: {theirs:?}", path.display(), version.number);
        }
    }
}

/// The process that stays must not have an opinion of its own.
#[test]
fn the_program_and_the_process_that_stays_say_the_same() {
    for version in real::versions("the comparison with the program itself") {
        let mut oracle = Oracle::start(&version);
        for name in ["dir", "typing"] {
            let path = folder("good").join(name);
            let stays = oracle.ask(&oracle.home(), &arguments(&path), GraphVars::Left).unwrap();
            let program = Command::new(version.bin.join("ansible-inventory"));
            let output = real::clean(program, &oracle.home())
                .current_dir(oracle.home())
                .args(arguments(&path))
                .arg("--list")
                .output()
                .unwrap();
            let mut printed: Value = serde_json::from_slice(&output.stdout).unwrap();
            printed["_meta"].as_object_mut().unwrap().remove("profile");
            assert_eq!(printed, stays.list, "{} {name}", version.number);
        }
    }
}

/// Inventory, pattern, and the hosts `ansible PATTERN --list-hosts` names, in its order.
const PATTERNS: [(&str, &str, &[&str]); 10] = [
    ("nested.inv", "alpha:beta", &["deep"]),
    ("circle-free.inv", "d[-1],d[0]", &["h2", "h1"]),
    ("simple.yml", "webservers,dbservers:!x", &["foo.example.com", "bar.example.com"]),
    ("simple.yml", "dbservers[0:1]", &["one.example.com", "two.example.com"]),
    ("simple.yml", "!webservers", &["mail.example.com", "one.example.com", "two.example.com", "three.example.com"]),
    ("simple.yml", "~(foo|two)\\.", &["foo.example.com", "two.example.com"]),
    ("simple.yml", "*.example.com:&dbservers:!t*", &["one.example.com"]),
    ("ranges.inv", "n?-[!a]", &["n1-b", "n2-b"]),
    (
        "ranges.inv",
        "padded[1:2],letters",
        &["h04", "h07", "db-a.x", "db-c.x", "db-e.x", "zx", "zy", "zz", "zA", "zB", "zC"],
    ),
    ("names", "web0[1:2]", &[]),
];

#[test]
fn patterns_select_what_ansible_selects() {
    let selected = |version: Option<&real::Version>| {
        for (name, pattern, expected) in PATTERNS {
            let path = folder("good").join(name);
            let Some(version) = version else {
                assert_eq!(
                    load(&path, Edition::default()).unwrap().select(pattern).unwrap(),
                    expected,
                    "{name} {pattern}"
                );
                continue;
            };
            let home = tempfile::tempdir().unwrap();
            std::fs::write(home.path().join("ansible.cfg"), "").unwrap();
            let command = Command::new(version.bin.join("ansible"));
            let output = real::clean(command, home.path())
                .current_dir(home.path())
                .args(["-i", path.to_str().unwrap(), pattern, "--list-hosts"])
                .output()
                .unwrap();
            let text = String::from_utf8(output.stdout).unwrap();
            let theirs: Vec<&str> = text.lines().skip(1).map(str::trim).collect();
            assert_eq!(theirs, expected, "{} {name} {pattern}: {text}", version.number);
        }
    };
    selected(None);
    // All versions are asked about thousands of patterns in `patterns.rs`; here it is the program itself, once.
    selected(real::versions("the comparison of patterns with the program").first());
}
