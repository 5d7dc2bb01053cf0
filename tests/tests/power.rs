//! Forty times the power goes: twenty times under the controller, twenty times under an agent, in the middle of a
//! deployment. What was acknowledged is there afterwards, and `current` leads to a whole release or nowhere.
//!
//! The disks are loop-mounted ext4, shut down without flushing the log, so that everything not synced is lost.
#![allow(clippy::unwrap_used)]

use std::collections::BTreeMap;
use std::time::Duration;

use fleet_tests::disk::{self, Disk};
use fleet_tests::{Fleet, releases, until};
use serde_json::Value;

const CYCLES: u32 = 20;
const DISK_MIB: u64 = 192;

/// A moment in a deployment of about a second: spread evenly, in an order that hits early and late ones in turn.
fn moment(cycle: u32) -> Duration {
    Duration::from_millis(u64::from(cycle * 7 % CYCLES) * 60)
}

/// A fleet of two, one folder of which lies on a disk of its own.
fn fleet_on_disk(story: &str, folder: &str) -> Option<(Fleet, Disk)> {
    if !disk::may_mount() {
        disk::skip(story, "only root can mount");
        return None;
    }
    let fleet = Fleet::planned(2);
    let disk = match Disk::ext4(&fleet.folder().join("disk.img"), &fleet.dir.join(folder), DISK_MIB) {
        Ok(disk) => disk,
        Err(why) => {
            disk::skip(story, &why);
            return None;
        }
    };
    fleet.bring_up().expect(0);
    // What `dev up` writes in place of an installer (the configuration) is none of the story.
    disk.settle();
    fleet.know("controller").unwrap();
    fleet.know("agent-n1").unwrap();
    Some((fleet, disk))
}

/// A file that nobody syncs: the proof that a power loss loses something.
fn unsynced(disk: &Disk) {
    std::fs::write(disk.at.join("unsynced"), [b'x'; 8192]).unwrap();
}

fn is_lost(disk: &Disk) -> bool {
    let path = disk.at.join("unsynced");
    let lost = std::fs::read(&path).map_or(true, |bytes| bytes != [b'x'; 8192]);
    let _next_cycle = std::fs::remove_file(&path);
    lost
}

fn history(fleet: &Fleet) -> Vec<Value> {
    until("the controller answers", || {
        let history = fleet.ctl(["history", "-n", "100", "-o", "json"]);
        (history.code == 0).then(|| history.json()["items"].as_array().unwrap().clone())
    })
}

#[test]
fn the_controller_loses_its_power_twenty_times() {
    let Some((fleet, disk)) = fleet_on_disk("power losses of the controller", "controller") else { return };
    let versions = [fleet.release("hello-v1", "1.0.0"), fleet.release("hello-v2", "2.0.0")];
    fleet.deploy(&versions[1], &["--segments", "1"]).expect(0);
    let (mut finished, mut lost) = (BTreeMap::<String, String>::new(), 0);
    for cycle in 0..CYCLES {
        let mut stream = fleet.deploy_stream(&versions[cycle as usize % 2], &["--segments", "2"]);
        let id = stream.until_fact("planned")["deployment"].as_str().unwrap().to_owned();
        std::thread::sleep(moment(cycle));
        for deployment in history(&fleet) {
            if let Some(outcome) = deployment["outcome"].as_str() {
                finished.insert(deployment["id"].as_str().unwrap().to_owned(), outcome.to_owned());
            }
        }
        unsynced(&disk);
        disk.cut().unwrap();
        // What it said until now is acknowledged, also what it says from memory after the disk is gone.
        // A controller that ends by itself because it cannot save is as good as one that is killed.
        if let Some(controller) = fleet.controller() {
            controller.kill();
        }
        disk.restore();
        lost += usize::from(is_lost(&disk));
        fleet.start_controller();

        // The watcher sees every fact once, also those told before the power went.
        let output = stream.finish().expect(0);
        let facts: Vec<u64> = output
            .stdout
            .lines()
            .map(|line| serde_json::from_str::<Value>(line).unwrap())
            .filter(|event| event["type"] == "fact")
            .map(|event| event["index"].as_u64().unwrap())
            .collect();
        assert!(facts.iter().copied().eq(0..facts.len() as u64), "cycle {cycle}: {facts:?}");
        let now: BTreeMap<_, _> = history(&fleet)
            .iter()
            .map(|d| (d["id"].as_str().unwrap().to_owned(), d["outcome"].as_str().unwrap_or_default().to_owned()))
            .collect();
        for (id, outcome) in &finished {
            assert_eq!(now.get(id), Some(outcome), "cycle {cycle}: {id} was acknowledged as {outcome}");
        }
        assert_eq!(now.get(&id).map(String::as_str), Some("converged"), "cycle {cycle}");
    }
    assert_eq!(history(&fleet).len(), CYCLES as usize + 1);
    assert!(lost > 0, "nothing was ever lost: these were no power losses");
    fleet.until_verified();
}

#[test]
fn an_agent_loses_its_power_twenty_times() {
    let Some((fleet, disk)) = fleet_on_disk("power losses of an agent", "nodes/n1") else { return };
    let versions = [fleet.release("hello-v1", "1.0.0"), fleet.release("hello-v2", "2.0.0")];
    for release in &versions {
        fleet.ctl(["releases".as_ref(), "create".as_ref(), release.as_os_str()]).expect(0);
    }
    let list = fleet.ctl(["releases", "list", "-o", "json"]).expect(0).json();
    // The name of each release's folder, and what its binary must be.
    let binaries: BTreeMap<String, String> = list["items"]
        .as_array()
        .unwrap()
        .iter()
        .map(|release| {
            let at = usize::from(release["version"] == "2.0.0");
            (release["id"].as_str().unwrap().to_owned(), releases::sha256(&versions[at].join("bin/hello")))
        })
        .collect();
    assert_eq!(binaries.len(), 2, "{list:#}");
    let (mut whole, mut lost) = (0, 0);
    for cycle in 0..CYCLES {
        let mut stream = fleet.deploy_stream(&versions[cycle as usize % 2], &["--segments", "1"]);
        stream.until_fact("segment-started");
        std::thread::sleep(moment(cycle));
        unsynced(&disk);
        disk.cut().unwrap();
        fleet.power_off("n1");
        disk.restore();
        lost += usize::from(is_lost(&disk));

        let link = fleet.service_root("n1", "hello").join("current");
        if link.is_symlink() {
            let release =
                link.canonicalize().unwrap_or_else(|error| panic!("cycle {cycle}: current leads nowhere: {error}"));
            let id = release.file_name().unwrap().to_string_lossy().into_owned();
            assert_eq!(
                Some(&releases::sha256(&release.join("bin/hello"))),
                binaries.get(&id),
                "cycle {cycle}: {id} is not whole"
            );
            whole += 1;
        } else {
            assert!(!link.exists(), "cycle {cycle}: current is no link");
        }
        fleet.start_agent("n1");
        stream.finish().expect(0).says("converged");
    }
    assert!(lost > 0, "nothing was ever lost: these were no power losses");
    assert!(whole >= CYCLES / 2, "current was there only {whole} times: the cycles show nothing");
    until("n1 is proven", || (fleet.verify().code == 0).then_some(()));
}
