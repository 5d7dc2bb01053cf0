//! From a change by hand to a node that is proven again: seen, shown without its secrets, accepted, changed again,
//! counted again, put back; and the ledger tells all of it.
#![allow(clippy::unwrap_used)]

use std::fs;
use std::os::unix::fs::{PermissionsExt as _, symlink};
use std::path::{Path, PathBuf};

use fleet_tests::{Fleet, releases, until};
use serde_json::Value;

/// What no output, log or message may ever show.
const CANARY: &str = "c4n4ry-7f3aB9";

/// A release of the example service with a text file beside its program.
fn release(fleet: &Fleet) -> PathBuf {
    let conf = format!("port = 1\npassword = \"{CANARY}-old\"\ncolour = \"blue\"\n");
    let rest = "run: bin/hello --port ${PORT}\nhealth: {http: \"/healthz\"}\n";
    releases::hello_with(&fleet.folder(), "hello-v1", "1.0.0", &[("etc/app.toml", &conf)], rest)
}

/// The report once it is as wished.
fn until_drift(fleet: &Fleet, what: &str, is: impl Fn(&Value) -> bool) -> Value {
    until(what, || {
        let report = fleet.ctl(["drift", "n1", "--fresh", "-o", "json"]);
        let json = serde_json::from_str::<Value>(&report.stdout).ok()?;
        is(&json).then_some(json)
    })
}

fn has(report: &Value, kind: &str, what: &str) -> bool {
    let items = report["items"].as_array().unwrap();
    items.iter().any(|item| item["kind"] == kind && item["what"] == what && item["accepted"].is_null())
}

fn main_pid(fleet: &Fleet) -> Vec<i32> {
    let program = fleet.current("n1", "hello").join("bin/hello");
    let mut pids: Vec<i32> =
        fleet_tests::process::Proc::all().filter(|proc| proc.executable() == program).map(|proc| proc.pid).collect();
    pids.sort_unstable();
    pids
}

#[test]
fn a_change_by_hand_is_seen_shown_accepted_and_put_back() {
    let fleet = Fleet::up(2);
    fleet.deploy(&release(&fleet), &["--segments", "1"]).expect(0);
    fleet.until_verified();
    let conf = fleet.current("n1", "hello").join("etc/app.toml");
    let released = fs::read_to_string(&conf).unwrap();
    let tampered = format!("port = 2\npassword = \"{CANARY}-new\"\ncolour = \"blue\"\n");
    replace(&conf, &tampered);

    let report = until_drift(&fleet, "the change is found", |report| has(report, "file", "etc/app.toml"));
    let item = &report["items"][0];
    assert_eq!(item["origin"], "after-deployment", "{report:#}");
    assert!(item["changedAt"].is_string() && item["content"].is_string(), "{report:#}");
    fleet.ctl(["drift", "n1", "--since-release"]).expect(2);

    let shown = fleet.ctl(["drift", "n1", "--diff"]).expect(2).says("-port = 1").says("+port = 2").says("***");
    let json = fleet.ctl(["drift", "n1", "--diff", "-o", "json"]).expect(2);
    assert!(json.json()["diffs"][0]["diff"].as_str().unwrap().contains("+port = 2"), "{json}");
    for output in [&shown, &json] {
        assert!(!output.all().contains(CANARY), "{output}");
    }
    fleet.ctl(["drift", "--diff"]).expect(64);

    // Accepted: shown, not counted, and no proof.
    fleet.ctl(["drift", "accept", "n1", "etc/app.toml"]).expect(64);
    fleet.ctl(["drift", "accept", "n1", "etc/app.toml", "--reason", "OPS-1", "--for", "1h"]).expect(0);
    fleet.ctl(["drift", "n1", "--fresh"]).expect(0).says("accepted: n1 hello file etc/app.toml").says("OPS-1");
    fleet.ctl(["drift", "accept", "list"]).expect(0).says("etc/app.toml").says("yes");
    fleet.verify().expect(2);
    // Changed again: counted again.
    replace(&conf, &tampered.replace("blue", "red"));
    until_drift(&fleet, "the second change is counted", |report| has(report, "file", "etc/app.toml"));
    fleet.ctl(["drift", "accept", "list"]).expect(0).says("nothing is accepted");

    // Put back, with a restart, since the service may have read it.
    let before = main_pid(&fleet);
    assert_eq!(before.len(), 1, "{before:?}");
    fleet.ctl(["drift", "fix", "n1"]).expect(64).says("--yes");
    fleet.ctl(["drift", "fix", "n1", "--dry-run"]).expect(2).says("would put back etc/app.toml (file)");
    assert_ne!(fs::read_to_string(&conf).unwrap(), released, "a dry run changes nothing");
    let fixed = fleet.ctl(["drift", "fix", "n1", "--yes", "-o", "json"]).expect(0).json();
    assert_eq!((&fixed["proven"], &fixed["restarted"]), (&Value::Bool(true), &Value::Bool(true)), "{fixed:#}");
    assert_eq!(fs::read_to_string(&conf).unwrap(), released);
    let after = main_pid(&fleet);
    assert!(after.len() == 1 && after != before, "{before:?} {after:?}");
    fleet.ctl(["drift", "--fresh"]).expect(0);

    // Bits of a file are no code, and `current` is a link: neither costs a restart.
    fs::set_permissions(&conf, fs::Permissions::from_mode(0o666)).unwrap();
    let current = fleet.service_root("n1", "hello").join("current");
    fs::remove_file(&current).unwrap();
    symlink("/etc", &current).unwrap();
    until_drift(&fleet, "the bits and the link are found", |report| {
        has(report, "mode", "etc/app.toml") && has(report, "version", "hello")
    });
    let fixed = fleet.ctl(["drift", "fix", "n1", "--yes", "-o", "json"]).expect(0).json();
    assert_eq!(fixed["restarted"], Value::Bool(false), "{fixed:#}");
    assert_eq!(fs::metadata(&conf).unwrap().permissions().mode() & 0o7777, 0o644);
    assert_eq!(main_pid(&fleet), after, "the same process serves");

    // What no release brought is somebody's until --extra is said; a rule may let it lie.
    let extra = conf.with_file_name("extra.log");
    fs::write(&extra, "somebody's").unwrap();
    until_drift(&fleet, "the extra file is found", |report| has(report, "extra", "etc/extra.log"));
    fleet.ctl(["drift", "ignore", "add", "etc/*.log", "-s", "hello", "--reason", "OPS-2"]).expect(0);
    fleet.ctl(["drift", "--fresh"]).expect(0).says("1 extra file ignored by 1 rule");
    fleet.ctl(["drift", "ignore", "remove", "etc/*.log", "-s", "hello"]).expect(0);
    fleet.ctl(["drift", "fix", "n1", "--yes"]).expect(2).says("nothing is to be put back");
    assert!(extra.exists());
    fleet.ctl(["drift", "fix", "n1", "--extra", "--yes"]).expect(0);
    assert!(!extra.exists());

    let ledger = fleet.ctl(["drift", "history", "n1", "-o", "json"]).expect(0).json();
    let told: Vec<(&str, &str)> = ledger["items"]
        .as_array()
        .unwrap()
        .iter()
        .map(|line| (line["entry"].as_str().unwrap(), line["why"].as_str().unwrap_or_default()))
        .collect();
    for line in [("accepted", "OPS-1"), ("reopened", "it changed again"), ("closed", "fixed")] {
        assert!(told.contains(&line), "{line:?} is not told: {told:?}");
    }
    assert_eq!(told.iter().filter(|(entry, _)| *entry == "repaired").count(), 3, "{told:?}");
    fleet.ctl(["history"]).expect(0).says("repairs").says("etc/app.toml");
    nothing_shows_the_secret(&fleet);
}

/// As editors do it: another inode in its place.
fn replace(path: &Path, text: &str) {
    let beside = path.with_extension("new");
    fs::write(&beside, text).unwrap();
    fs::set_permissions(&beside, fs::Permissions::from_mode(0o644)).unwrap();
    fs::rename(&beside, path).unwrap();
}

/// Neither logs nor the controller's store have it; releases and bundles do, since they are what is released.
fn nothing_shows_the_secret(fleet: &Fleet) {
    let mut folders = vec![fleet.dir.clone()];
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(&folder).into_iter().flatten().flatten() {
            let path = entry.path();
            if path.is_symlink()
                || path.ends_with("releases")
                || path.ends_with("artifacts")
                || path.ends_with("bundles")
            {
                continue;
            }
            if path.is_dir() {
                folders.push(path);
            } else if path.is_file() {
                let bytes = fs::read(&path).unwrap_or_default();
                let found = bytes.windows(CANARY.len()).any(|window| window == CANARY.as_bytes());
                assert!(!found, "{} shows it", path.display());
            }
        }
    }
}
