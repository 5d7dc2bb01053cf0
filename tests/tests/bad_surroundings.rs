//! Bad surroundings, each ending in one clear error with the running service untouched: taken ports, a full disk, a
//! store that was cut, an artifact that rotted.
#![allow(clippy::unwrap_used)]

use std::fs;
use std::net::TcpListener;
use std::path::{Path, PathBuf};

use fleet_tests::disk::{self, Tmpfs};
use fleet_tests::witness::{get, nothing_lost};
use fleet_tests::workspace::Workspace;
use fleet_tests::{Fleet, Witness, until};

#[test]
fn an_artifact_that_rotted_on_the_controller() {
    let fleet = Fleet::on_version_1(2);
    fleet.ctl(["releases".as_ref(), "create".as_ref(), Workspace::built().example("hello-2").as_os_str()]).expect(0);
    let mut files = Vec::new();
    walk(&fleet.dir.join("controller"), &mut files);
    files.retain(|path| !path.starts_with(fleet.dir.join("controller/store")));
    // The bundles are by far the largest; the newest is version 2's.
    files.sort_by_key(|path| fs::metadata(path).unwrap().modified().unwrap());
    let bundle = files
        .iter()
        .rfind(|path| fs::metadata(path).unwrap().len() > 100_000)
        .unwrap_or_else(|| panic!("no bundle in {files:?}"));
    let mut bytes = fs::read(bundle).unwrap();
    let middle = bytes.len() / 2;
    bytes[middle] ^= 1;
    fs::write(bundle, bytes).unwrap();
    let witness = Witness::on(fleet.port("n1"));
    let output = fleet.ctl(["deploy", "hello@2.0.0", "--segments", "1", "--yes"]);
    assert_ne!(output.code, 0, "{output}");
    let text = output.clone().never_says("converged").all().to_lowercase();
    assert!(
        text.contains("digest") || text.contains("damaged") || text.contains("corrupt"),
        "the reason is there: {output}"
    );
    let report = fleet.until_verified();
    assert!(report["proofs"].as_array().unwrap().iter().all(|proof| proof["version"] == "1.0.0"), "{report:#}");
    nothing_lost(&witness.stop());
}

#[test]
fn ports_that_are_taken() {
    // The controller's, the balancer's.
    for taken in [0, 1] {
        let fleet = Fleet::planned(2);
        let port = [fleet.controller_port, fleet.port_base][taken];
        let _foreign = TcpListener::bind(("127.0.0.1", port)).unwrap();
        let output = fleet.bring_up().expect_refusal().one_error().says(&port.to_string());
        let text = output.all().to_lowercase();
        assert!(text.contains("in use") || text.contains("taken"), "{output}");
    }
    // A service's.
    let fleet = Fleet::up(2);
    let foreign = TcpListener::bind(("127.0.0.1", fleet.port("n2"))).unwrap();
    let output = fleet.deploy(&fleet.release("hello-v1", "1.0.0"), &["--segments", "2"]);
    assert!(matches!(output.code, 3 | 4), "{output}");
    let text = output.clone().never_says("converged").says("n2").all().to_lowercase();
    assert!(text.contains("in use") || text.contains("98"), "the reason is there: {output}");
    drop(foreign);
    // The release is not to blame, and whoever knows it says so.
    let again = fleet.release("hello-v1", "1.0.0");
    fleet.deploy(&again, &["--segments", "2"]).expect(1).says("was rolled back by").says("--again");
    fleet.deploy(&again, &["--segments", "2", "--again"]).expect(0);
}

#[test]
fn a_full_disk_on_one_node() {
    const STORY: &str = "a full disk on one node";
    if !disk::may_mount() {
        return disk::skip(STORY, "only root can mount");
    }
    let fleet = Fleet::planned(2);
    let small = match Tmpfs::mount(&fleet.dir.join("nodes/n2"), 48) {
        Ok(small) => small,
        Err(why) => return disk::skip(STORY, &why),
    };
    fleet.bring_up().expect(0);
    fleet.deploy(&Workspace::built().example("hello"), &["--segments", "1"]).expect(0);
    let witness = Witness::on(fleet.port("n2"));
    until("n2 answers", || (witness.count("1.0.0") > 5).then_some(()));
    // It fills up after the plan was made and before n2 is ordered.
    let next = Workspace::built().example("hello-2");
    let mut stream = fleet.deploy_stream(&next, &["--segments", "2", "--pause-after", "1"]);
    let halted = std::iter::from_fn(|| stream.fact()).find(|fact| fact["fact"] == "halted").unwrap();
    let ballast = small.fill(512);
    fleet.ctl(["promote", halted["deployment"].as_str().unwrap()]).expect(0);
    let output = stream.finish();
    assert!(matches!(output.code, 3 | 4), "{output}");
    let text = output.clone().never_says("converged").says("n2").all().to_lowercase();
    assert!(text.contains("space") || text.contains("full"), "the reason is there: {output}");
    // The service on the full disk has answered all the time, and still does.
    let seen = witness.stop();
    nothing_lost(&seen);
    assert!(seen.iter().all(|sighting| sighting.version() == Some("1.0.0")), "the old version, without a gap");
    assert_eq!(get(fleet.port("n2"), "/").unwrap().version.as_deref(), Some("1.0.0"));

    // A plan knows of it now, and nothing is begun.
    let again = ["--segments", "2", "--again"];
    until("the full disk stands in the way", || {
        let output = fleet.deploy(&next, &again);
        (output.code == 1 && output.all().contains("n2") && output.all().contains("free where")).then_some(())
    });
    fs::remove_file(ballast).unwrap();
    until("there is room again", || (fleet.deploy(&next, &again).code == 0).then_some(()));
    fleet.until_verified();
    stop_all(&fleet);
}

/// Ends everything that lives on a mounted disk, so that it can be unmounted.
fn stop_all(fleet: &Fleet) {
    for node in fleet.nodes() {
        fleet.power_off(&node);
    }
}

#[test]
fn a_store_that_was_cut() {
    let fleet = Fleet::on_version_1(2);
    for version in ["1.1.0", "1.2.0", "1.3.0"] {
        fleet.deploy(&fleet.release("hello-v1", version), &["--segments", "1"]).expect(0);
    }
    let history = || fleet.ctl(["history", "-o", "json"]);
    let before = history().expect(0).json();
    fleet.kill_controller();
    let store = fleet.dir.join("controller/store");
    let kept = fleet.folder().join("store-kept");
    copy_tree(&store, &kept);
    let mut files = Vec::new();
    walk(&store, &mut files);
    files.retain(|path| path.file_name().is_some_and(|name| name != "LOCK"));
    assert!(files.len() >= 2, "{files:?}");

    let (mut refused, mut recovered) = (0, 0);
    for path in files {
        let length = fs::metadata(&path).unwrap().len();
        for cut in [Some(0), Some(length / 2), Some(length.saturating_sub(1)), None] {
            if cut == Some(length) {
                continue;
            }
            let what = format!("{} cut to {cut:?} of {length}", path.strip_prefix(&store).unwrap().display());
            match cut {
                Some(cut) => fs::File::options().write(true).open(&path).unwrap().set_len(cut).unwrap(),
                None => fs::remove_file(&path).unwrap(),
            }
            let log = fleet.dir.join("log/controller.log");
            let said_before = fs::metadata(&log).unwrap().len() as usize;
            let pid = fleet.start_controller();
            let verdict = until(&format!("{what}: the controller starts or refuses"), || {
                if let Some(code) = fleet.exit_of(pid) {
                    return Some(Err(code));
                }
                let history = history();
                (history.code == 0).then(|| Ok(history.json()))
            });
            match &verdict {
                Ok(now) => {
                    assert_eq!(ids(now), ids(&before), "{what}: it started, so nothing acknowledged may be missing");
                    recovered += 1;
                    fleet.kill_controller();
                }
                Err(code) => {
                    assert_ne!(*code, 0, "{what}");
                    let said = fs::read(&log).unwrap().split_off(said_before);
                    let said = String::from_utf8_lossy(&said).into_owned();
                    assert_eq!(
                        said.lines().filter(|line| line.starts_with("error")).count(),
                        1,
                        "{what}: one clear error: {said}"
                    );
                    assert!(!said.contains("panicked"), "{what}: {said}");
                    assert!(said.contains("store"), "{what}: the error says what is damaged: {said}");
                    refused += 1;
                }
            }
            eprintln!("{what}: {}", if verdict.is_ok() { "recovered" } else { "refused" });
            fs::remove_dir_all(&store).unwrap();
            copy_tree(&kept, &store);
        }
    }
    assert!(refused > 0, "a journal without its middle must be refused");
    eprintln!("{refused} refused, {recovered} recovered");
    // The service has not noticed, and the whole store is still good.
    assert_eq!(get(fleet.port("n1"), "/").unwrap().version.as_deref(), Some("1.0.0"));
    fleet.start_controller();
    fleet.until_verified();
}

fn ids(history: &serde_json::Value) -> Vec<(String, String)> {
    let text = |value: &serde_json::Value| value.as_str().unwrap_or_default().to_owned();
    history["items"]
        .as_array()
        .unwrap()
        .iter()
        .map(|deployment| (text(&deployment["id"]), text(&deployment["outcome"])))
        .collect()
}

fn walk(folder: &Path, files: &mut Vec<PathBuf>) {
    for entry in fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() { walk(&path, files) } else { files.push(path) }
    }
    files.sort();
}

fn copy_tree(from: &Path, to: &Path) {
    let output = std::process::Command::new("cp").arg("-a").arg(from).arg(to).output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
}
