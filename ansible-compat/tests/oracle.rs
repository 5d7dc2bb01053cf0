//! Every inventory in `inventories/good` must read as Ansible reads it, every one in `inventories/refused` must be refused.
//!
//! Two comparisons: with the answers of ansible-core 2.17.14 kept in `inventories/expected`, always; and with the real
//! `ansible-inventory`, when it is on PATH or in `$FLEET_ANSIBLE_VENV/bin`. To renew the kept answers, run with
//! `FLEET_ANSIBLE_BLESS=1` and such an Ansible.
#![allow(clippy::unwrap_used)]

use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use ansible_compat::{Error, Export, Inventory, Source};
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

fn load(path: &Path) -> Result<Inventory, Error> {
    Inventory::load(&[Source::Path(source_of(path))])
}

fn expected_file(path: &Path, kind: &str) -> PathBuf {
    folder("expected").join(format!("{}.{kind}.json", path.file_name().unwrap().to_str().unwrap()))
}

/// The program of that name from the virtual environment or PATH.
fn program(name: &str) -> Option<PathBuf> {
    let venv = std::env::var_os("FLEET_ANSIBLE_VENV").map(|venv| PathBuf::from(venv).join("bin"));
    let path = std::env::var_os("PATH").unwrap_or_default();
    venv.into_iter().chain(std::env::split_paths(&path)).map(|bin| bin.join(name)).find(|file| file.is_file())
}

/// The program, or a line on the terminal itself: the test harness swallows what passing tests print.
fn program_or_skip(name: &str, test: &str) -> Option<PathBuf> {
    let found = program(name);
    if found.is_none() {
        let line = format!(
            "\n=== SKIPPED: {test} did not run, there is no {name} on PATH or in $FLEET_ANSIBLE_VENV/bin ===\n"
        );
        std::io::stderr().write_all(line.as_bytes()).unwrap();
    }
    found
}

/// Ansible with its default configuration, whatever this machine has, in a folder without `group_vars`.
fn ansible(program: &Path, arguments: &[&str]) -> Output {
    let empty = tempfile::tempdir().unwrap();
    let config = empty.path().join("ansible.cfg");
    std::fs::write(&config, "").unwrap();
    let mut command = Command::new(program);
    for (name, _) in std::env::vars_os() {
        if name.to_str().is_some_and(|name| name.starts_with("ANSIBLE_")) {
            command.env_remove(name);
        }
    }
    command
        .args(arguments)
        .current_dir(empty.path())
        .env("ANSIBLE_CONFIG", &config)
        .env("ANSIBLE_HOME", empty.path())
        .env("ANSIBLE_INVENTORY_ANY_UNPARSED_IS_FAILED", "true")
        .env("LC_ALL", "C.UTF-8")
        .output()
        .unwrap()
}

/// What the real thing prints, without the profile 2.19 adds.
fn oracle(program: &Path, path: &Path, export: Export) -> Result<Value, String> {
    let source = source_of(path);
    let mut arguments = vec!["-i", source.to_str().unwrap(), "--list"];
    if export == Export::Yes {
        arguments.push("--export");
    }
    let output = ansible(program, &arguments);
    if !output.status.success() {
        return Err(String::from_utf8_lossy(&output.stderr).into_owned());
    }
    let mut value: Value = serde_json::from_slice(&output.stdout).unwrap();
    if let Some(meta) = value.get_mut("_meta").and_then(Value::as_object_mut) {
        meta.remove("profile");
    }
    Ok(value)
}

#[test]
fn good_inventories_read_as_the_kept_answers() {
    let paths = inventories("good");
    assert!(paths.len() >= 25, "only {} inventories", paths.len());
    for path in paths {
        let inventory = load(&path).unwrap_or_else(|error| panic!("{error}"));
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
        let error = load(&path).map(drop).expect_err(&path.display().to_string()).to_string();
        let name = path.file_name().unwrap().to_str().unwrap();
        assert!(error.contains(name) || name == "circle.inv", "{error}");
        assert!(error.contains("; "), "{name} has no way out: {error}");
    }
}

#[test]
fn the_real_ansible_inventory_agrees() {
    let Some(program) = program_or_skip("ansible-inventory", "the comparison with the real ansible-inventory") else {
        return;
    };
    let bless = std::env::var_os("FLEET_ANSIBLE_BLESS").is_some();
    let paths = inventories("good");
    let differences: Vec<String> = std::thread::scope(|scope| {
        let halves: Vec<_> = (0..2)
            .map(|half| {
                let (paths, program) = (&paths, &program);
                scope.spawn(move || {
                    let mut found = Vec::new();
                    for path in paths.iter().skip(half).step_by(2) {
                        for (export, kind) in EXPORTS {
                            let theirs = oracle(program, path, export);
                            if let (true, Ok(value)) = (bless, &theirs) {
                                let text = serde_json::to_string_pretty(value).unwrap() + "\n";
                                std::fs::write(expected_file(path, kind), text).unwrap();
                            }
                            let ours =
                                load(path).map(|inventory| inventory.to_list_json(export)).map_err(|e| e.to_string());
                            if ours != theirs {
                                found.push(format!(
                                    "{} ({kind})\n ours:   {ours:?}\n theirs: {theirs:?}",
                                    path.display()
                                ));
                            }
                        }
                    }
                    found
                })
            })
            .collect();
        halves.into_iter().flat_map(|half| half.join().unwrap()).collect()
    });
    assert!(differences.is_empty(), "{}", differences.join("\n\n"));
}

#[test]
fn the_real_ansible_inventory_refuses_too() {
    let Some(program) = program_or_skip("ansible-inventory", "the comparison of refusals") else { return };
    for path in inventories("refused") {
        let theirs = oracle(&program, &path, Export::No);
        assert!(theirs.is_err(), "{} is read by Ansible: {theirs:?}", path.display());
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
    for (name, pattern, expected) in PATTERNS {
        let inventory = load(&folder("good").join(name)).unwrap();
        assert_eq!(inventory.select(pattern).unwrap(), expected, "{name} {pattern}");
    }
    let Some(program) = program_or_skip("ansible", "the comparison of patterns") else { return };
    for (name, pattern, expected) in PATTERNS {
        let path = folder("good").join(name);
        let output = ansible(&program, &["-i", path.to_str().unwrap(), pattern, "--list-hosts"]);
        let text = String::from_utf8(output.stdout).unwrap();
        let theirs: Vec<&str> = text.lines().skip(1).map(str::trim).collect();
        assert_eq!(theirs, expected, "{name} {pattern}: {text}");
    }
}
