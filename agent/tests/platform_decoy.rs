//! The decoy of a self-test: a real process of real old code that never executes an instruction, is found by the ordinary
//! look, and ends.
#![allow(clippy::unwrap_used)]

mod platform_stage;

use std::collections::BTreeMap;

use fleet::Millis;
use fleet::evidence::{LinkState, Parentage, Process};
use fleet::release::{DESCRIPTOR_FORMAT, Descriptor, Grade, Run};
use fleet_agent::decoy::{self, Ground, Planted};
use fleet_agent::known::Known;
use fleet_agent::platform::{Look, Observer, Scope};
use platform_stage::Stage;

/// Long enough for every test; nothing is asserted by it.
const LIFE: Millis = Millis::from_secs(600);

/// Birth and age are counted in clock ticks of 10 ms, each rounded down.
const TICKS: u64 = 20;

fn ground(stage: &mut Stage, numbers: &[u8]) -> Ground {
    let releases: Vec<_> = numbers.iter().map(|number| stage.release(*number)).collect();
    for (id, manifest) in &releases {
        let descriptor = Descriptor {
            format: DESCRIPTOR_FORMAT,
            service: stage.place.service.clone(),
            version: "1.0.0".parse().unwrap(),
            nodes: BTreeMap::new(),
            run: Run {
                command: vec!["bin/sleep".into()],
                environment: BTreeMap::new(),
                user: None,
                stop_timeout: Millis(1),
            },
            health: None,
            minimum_grade: Grade::Digest,
            pins: Default::default(),
            manifest: manifest.clone(),
        };
        let path = stage.place.root.join(format!(".fleet/releases/{id}.json"));
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(path, descriptor.to_json()).unwrap();
    }
    let (live, manifest) = releases.last().unwrap().clone();
    stage.activate(&live);
    Ground { place: stage.place.clone(), live, manifest }
}

fn found(stage: &Stage, planted: &Planted) -> Option<Process> {
    let seen = stage.look(None, None).processes;
    seen.into_iter().find(|process| process.pid == planted.decoy.pid)
}

fn is_gone(pid: u32) -> bool {
    !std::path::Path::new(&format!("/proc/{pid}")).exists()
}

#[test]
fn old_code_is_found_by_what_it_executes_and_by_nothing_else() {
    for scope in [Scope::Root, Scope::Machine] {
        let mut stage = Stage::new(scope);
        let ground = ground(&mut stage, &[1, 2]);
        let planted = decoy::plant(&stage.services(), std::slice::from_ref(&ground), LIFE).unwrap();
        assert!(planted.made.is_none() && planted.release != ground.live, "{planted:?}");
        let before = machine_up();
        let process = found(&stage, &planted).unwrap();
        let after = machine_up();
        assert_eq!((process.parentage, process.executable.link), (Parentage::Stray, LinkState::Deleted));
        assert_eq!((&process.marker, &process.cwd, &process.executable.release), (&None, &None, &None));
        let digest = process.executable.digest.unwrap();
        assert!(!ground.manifest.has_digest(&digest));
        assert_eq!(stage.known.get(&digest), Some(&planted.release), "the digest says which release it is");
        let looked = planted.decoy.born.0 + process.age.0;
        assert!(before <= looked + TICKS && looked <= after + TICKS, "{before} {looked} {after} {planted:?}");
        assert!(!stage.services().join(".fleet-decoy").exists(), "nothing is left on the disk");
        let pid = planted.decoy.pid;
        drop(planted);
        assert!(is_gone(pid));
    }
}

fn machine_up() -> u64 {
    fleet_agent::platform::linux::machine::up().0
}

#[test]
fn it_executes_nothing_whoever_wakes_it_and_ends_by_itself() {
    let mut stage = Stage::new(Scope::Root);
    let ground = ground(&mut stage, &[1, 2]);
    let planted = decoy::plant(&stage.services(), std::slice::from_ref(&ground), LIFE).unwrap();
    let pid = planted.decoy.pid;
    let time = |pid: u32| {
        let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).unwrap();
        let fields: Vec<_> = stat.rsplit(") ").next().unwrap().split(' ').map(str::to_owned).collect();
        (fields[0].clone(), fields[11].clone())
    };
    let before = time(pid);
    let continued = std::process::Command::new("/bin/kill").args(["-CONT", &pid.to_string()]).status().unwrap();
    assert!(continued.success());
    let after = time(pid);
    assert_eq!((after.0.as_str(), &after), ("t", &before), "it is stopped, and has used no time of its own");
    drop(planted);

    let short = decoy::plant(&stage.services(), std::slice::from_ref(&ground), Millis(1)).unwrap();
    while !is_gone(short.decoy.pid) {
        std::thread::yield_now();
    }
}

#[test]
fn where_no_old_code_lies_it_is_made() {
    let mut stage = Stage::new(Scope::Root);
    let ground = ground(&mut stage, &[1]);
    let planted = decoy::plant(&stage.services(), std::slice::from_ref(&ground), LIFE).unwrap();
    let digest = planted.made.unwrap();
    assert!(found(&stage, &planted).is_none(), "nobody knows it");
    let known = Known::of([(planted.release.clone(), vec![digest])]);
    let look = Look { place: &stage.place, held: None, running: None, known: &known, neighbours: &[], activated: None };
    let seen = stage.observer.look(&look).unwrap().processes;
    let process = seen.iter().find(|process| process.pid == planted.decoy.pid).unwrap();
    assert_eq!(process.executable.digest, Some(digest));
    let other = decoy::plant(&stage.services(), &[ground], LIFE).unwrap();
    assert_ne!(other.made, Some(digest), "each is another");
}

#[test]
fn without_a_service_there_is_nothing_to_plant() {
    let stage = Stage::new(Scope::Root);
    let reason = decoy::plant(&stage.services(), &[], LIFE).unwrap_err();
    assert!(reason.contains("deploy one first"), "{reason}");
}
