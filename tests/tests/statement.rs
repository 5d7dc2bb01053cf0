//! The signed statement, as an auditor meets it: made by `verify` and by every deployment, checked offline with nothing
//! but the authority's certificate, refused for one changed byte, and in one chain that a killed controller does not break.
#![allow(clippy::unwrap_used)]

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use fleet_tests::workspace::Workspace;
use fleet_tests::{Fleet, Output, readers, until};

/// Runs `fleetctl` where there is no context, no controller and no home.
fn offline(folder: &Path, arguments: &[&str]) -> Output {
    let mut command = Command::new(Workspace::built().binary("fleetctl"));
    command.env_clear().current_dir(folder).env("HOME", "/nonexistent").env("NO_COLOR", "1");
    Output::of(command.args(arguments))
}

fn save(fleet: &Fleet, name: &str) -> PathBuf {
    let path = fleet.folder().join(name);
    fleet.ctl(["verify", "--save", &path.to_string_lossy()]).expect(0).says("saved in");
    path
}

#[test]
fn one_changed_byte_fails_and_the_chain_outlives_a_killed_controller() {
    let fleet = Fleet::on_version_1(3);
    let junit = fleet.folder().join("deploy.xml");
    let report = format!("junit={}", junit.display());
    fleet.deploy(&fleet.release("hello-v2", "1.1.0"), &["--segments", "1", "--report", &report]).expect(0);
    readers::xmllint_junit(&fs::read_to_string(&junit).unwrap());
    let ca = fleet.folder().join("ca.pem");
    fs::copy(fleet.dir.join("controller/pki/ca.pem"), &ca).unwrap();

    let first = save(&fleet, "first.dsse.json");
    fleet.kill_controller();
    fleet.start_controller();
    until("all are proven again", || (fleet.ctl(["verify"]).code == 0).then_some(()));
    let second = save(&fleet, "second.dsse.json");
    fs::write(fleet.current("n2", "hello").join("planted"), "x").unwrap();
    until("the drift is found", || (fleet.drift().code == 2).then_some(()));
    let third = fleet.folder().join("third.dsse.json");
    let xml = format!("junit={}", fleet.folder().join("verify.xml").display());
    let found = fleet.ctl(["verify", "-o", "json", "--save", &third.to_string_lossy(), "--report", &xml]).expect(2);
    readers::jsonschema("verify-report.schema.json", &found.json());
    readers::xmllint_junit(&fs::read_to_string(fleet.folder().join("verify.xml")).unwrap());
    assert_eq!(found.json()["statement"]["verdict"], "differs");

    let audit = fleet.folder().join("audit");
    let audit = audit.to_string_lossy();
    fleet.ctl(["statements", "check"]).expect(0);
    fleet.ctl(["statements", "save", &audit]).expect(0);
    fleet.ctl(["statements", "save", &audit]).expect(0).says("0 statements saved");
    fleet.ctl(["statements", "list"]).expect(0).says("verify").says("d-").says("proven").says("differs");

    // Nobody is there any more: what was said can still be checked.
    fleet.kill_controller();
    let ca = ca.to_string_lossy();
    let check =
        |path: &Path| offline(&fleet.folder(), &["verify", "--statement", &path.to_string_lossy(), "--ca", &ca]);
    for path in [&first, &second] {
        check(path).expect(0).says("3 of 3 proven").says("1.1.0").says("n3");
    }
    check(&third).expect(2).says("planted").says("n2").says("NOT PROVEN");
    let statement = ["verify", "--statement", &third.to_string_lossy(), "--ca", &ca, "-o", "json"].map(str::to_owned);
    let json = offline(&fleet.folder(), &statement.each_ref().map(String::as_str)).expect(2).json();
    readers::jsonschema("statement.schema.json", &json["statement"]);
    assert_eq!(json["exitCode"], 2);
    fleet.ctl(["verify", "--statement", &first.to_string_lossy()]).expect(0).says("asked every node");

    let bytes = fs::read(&first).unwrap();
    let changed = fleet.folder().join("changed.dsse.json");
    let step = bytes.len() / 40;
    for place in (0..bytes.len()).step_by(step).chain([bytes.len() - 1]) {
        let mut other = bytes.clone();
        other[place] ^= 1;
        fs::write(&changed, &other).unwrap();
        let refused = check(&changed).expect(65).one_error();
        assert!(refused.stdout.is_empty(), "nothing of it is shown: {refused}");
    }
    fs::write(&changed, &bytes[..bytes.len() / 2]).unwrap();
    check(&changed).expect(65).one_error();
    check(&fleet.folder().join("none.dsse.json")).expect(65).one_error();
    offline(&fleet.folder(), &["verify", "--statement", &first.to_string_lossy()]).expect(78).says("--ca");

    // The folder is whole; what is edited, taken out, doubled or put elsewhere is named.
    let whole = |code| offline(&fleet.folder(), &["statements", "check", &audit, "--ca", &ca]).expect(code);
    whole(0).says("statements 1 to");
    let mut files: Vec<_> = fs::read_dir(&*audit).unwrap().map(|entry| entry.unwrap().path()).collect();
    files.sort();
    assert!(files.len() >= 5, "two deployments and three rounds at least: {files:?}");
    let aside = fleet.folder().join("aside");
    fs::rename(&files[2], &aside).unwrap();
    whole(65).says("statement 3 is missing").one_error();
    fs::copy(&files[1], &files[2]).unwrap();
    whole(65).says("holds statement 2").one_error();
    fs::rename(&aside, &files[2]).unwrap();
    whole(0);
    fs::copy(&files[0], Path::new(&*audit).join("copy.dsse.json")).unwrap();
    whole(65).says("1").one_error();
}

/// What another fleet's controller signed is nobody's proof here; and a report is written also when nothing came of it.
#[test]
fn another_fleet_is_not_believed_and_a_failure_is_reported() {
    let (ours, theirs) = (Fleet::on_version_1(1), Fleet::on_version_1(1));
    let foreign = save(&theirs, "foreign.dsse.json");
    let refused = ours.ctl(["verify", "--statement", &foreign.to_string_lossy()]).expect(65).one_error();
    assert!(refused.all().contains("another fleet"), "{refused}");

    let xml = ours.folder().join("deploy.xml");
    let report = format!("junit={}", xml.display());
    ours.deploy(&ours.folder().join("no-such-folder"), &["--report", &report]).expect_refusal();
    let nothing = fs::read_to_string(&xml).unwrap();
    readers::xmllint_junit(&nothing);
    assert!(nothing.contains(r#"failures="0" errors="1""#), "{nothing}");
    ours.kill_controller();
    ours.ctl(["verify", "--report", &report]).expect(69).one_error();
    let nothing = fs::read_to_string(&xml).unwrap();
    readers::xmllint_junit(&nothing);
    assert!(nothing.contains(r#"name="fleet verify" tests="1" failures="0" errors="1""#), "{nothing}");
    ours.ctl(["verify", "--report", "junit=/proc/nowhere/x.xml"]).expect_refusal();
}
