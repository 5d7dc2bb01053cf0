//! What must never be called proven.
#![allow(clippy::unwrap_used)]

use std::collections::BTreeMap;
use std::sync::Arc;

use super::*;
use crate::manifest::{Entry, EntryKind, Manifest};
use crate::release::{DESCRIPTOR_FORMAT, Run};
use crate::{Digest, Millis};

const OLD: &str = "r-aaaaaaaaaaaa";
const NEW: &str = "r-bbbbbbbbbbbb";

fn descriptor(program: u8) -> Arc<Descriptor> {
    let entry = Entry {
        path: "bin/web".parse().unwrap(),
        mode: 0o755,
        kind: EntryKind::File { sha256: Digest([program; 32]), size: 10 },
    };
    Arc::new(Descriptor {
        format: DESCRIPTOR_FORMAT,
        service: "web".parse().unwrap(),
        version: format!("{program}.0.0").parse().unwrap(),
        nodes: BTreeMap::new(),
        run: Run { command: vec!["bin/web".into()], environment: BTreeMap::new(), user: None, stop_timeout: Millis(1) },
        health: None,
        minimum_grade: Grade::Context,
        manifest: Manifest::new(vec![entry]).unwrap(),
    })
}

fn catalogue() -> Catalogue {
    let mut catalogue = Catalogue::default();
    catalogue.add(OLD.parse().unwrap(), descriptor(1), Digest([101; 32]));
    catalogue.add(NEW.parse().unwrap(), descriptor(2), Digest([102; 32]));
    catalogue
}

fn order(hold: Hold) -> Order {
    Order {
        node: "n1".parse().unwrap(),
        service: "web".parse().unwrap(),
        generation: Generation(7),
        hold,
        confirm: Millis(0),
    }
}

fn hold_new() -> Order {
    order(Hold::Release { release: NEW.parse().unwrap(), bundle: Digest([9; 32]), size: 1 })
}

fn process() -> Process {
    Process {
        pid: 10,
        parentage: Parentage::Supervised,
        age: Millis(1_000),
        executable: Mapped {
            path: format!("/opt/web/releases/{NEW}/bin/web"),
            digest: Some(Digest([2; 32])),
            release: Some(NEW.parse().unwrap()),
            place: Place::Inside,
            link: LinkState::Linked,
        },
        mappings: Vec::new(),
        outside: 2,
        marker: Some(NEW.parse().unwrap()),
        cwd: Some(NEW.parse().unwrap()),
        started: Started::AfterActivation,
        command: "web".into(),
    }
}

fn interpreter() -> Process {
    let python = Mapped {
        path: "/usr/bin/python3".into(),
        digest: Some(Digest([77; 32])),
        release: None,
        place: Place::Outside,
        link: LinkState::Linked,
    };
    Process { executable: python, ..process() }
}

fn evidence() -> ServiceEvidence {
    ServiceEvidence {
        repair: None,
        service: "web".parse().unwrap(),
        generation: Generation(7),
        progress: Progress::Held,
        confirmation: Confirmation::Given,
        current: Some(NEW.parse().unwrap()),
        files: Vec::new(),
        files_omitted: 0,
        compared: Some(Digest([102; 32])),
        processes: vec![process()],
        health: Health::Healthy,
    }
}

fn kinds(evidence: &ServiceEvidence) -> Vec<Kind> {
    let comparison = compare(&hold_new(), Some(evidence), &catalogue());
    assert_eq!(
        comparison.findings.is_empty(),
        matches!(comparison.standing, Standing::Proven { .. } | Standing::Working { .. } | Standing::Behind { .. })
    );
    comparison.findings.iter().map(|finding| finding.key.kind).collect()
}

#[test]
fn the_release_running_is_proven_by_digest() {
    assert_eq!(
        compare(&hold_new(), Some(&evidence()), &catalogue()).standing,
        Standing::Proven { grade: Grade::Digest, up: Millis(1_000), confirmation: Confirmation::Given }
    );
}

#[test]
fn an_interpreter_is_proven_by_context_only() {
    let seen = ServiceEvidence { processes: vec![interpreter()], ..evidence() };
    assert_eq!(
        compare(&hold_new(), Some(&seen), &catalogue()).standing,
        Standing::Proven { grade: Grade::Context, up: Millis(1_000), confirmation: Confirmation::Given }
    );
    for started in [Started::BeforeActivation, Started::Unknown] {
        assert_eq!(
            kinds(&ServiceEvidence { processes: vec![Process { started, ..interpreter() }], ..evidence() }),
            [Kind::Process]
        );
    }
    for (marker, cwd) in [(None, Some(NEW)), (Some(NEW), None), (None, None)] {
        let bare = Process {
            marker: marker.map(|m| m.parse().unwrap()),
            cwd: cwd.map(|c| c.parse().unwrap()),
            ..interpreter()
        };
        assert_eq!(kinds(&ServiceEvidence { processes: vec![bare], ..evidence() }), [Kind::Process]);
    }
}

#[test]
fn an_old_process_is_found_however_its_file_looks() {
    let old = Digest([1; 32]);
    let renamed_over = Mapped { digest: Some(old), link: LinkState::Deleted, ..process().executable };
    let by_symlink_switch = Mapped {
        path: format!("/opt/web/releases/{OLD}/bin/web"),
        digest: Some(old),
        release: Some(OLD.parse().unwrap()),
        ..process().executable
    };
    let copied_elsewhere = Mapped {
        path: "/tmp/x".into(),
        digest: Some(old),
        release: None,
        place: Place::Outside,
        link: LinkState::Linked,
    };
    for executable in [renamed_over, by_symlink_switch, copied_elsewhere.clone()] {
        for parentage in [Parentage::Supervised, Parentage::Stray] {
            let second = Process { pid: 11, parentage, executable: executable.clone(), ..process() };
            assert_eq!(
                kinds(&ServiceEvidence { processes: vec![process(), second], ..evidence() }),
                [Kind::OldProcess]
            );
        }
    }
    let library = Process { mappings: vec![copied_elsewhere], ..process() };
    assert_eq!(
        kinds(&ServiceEvidence { processes: vec![library], ..evidence() }),
        [Kind::OldProcess],
        "an old shared object is old code"
    );
}

#[test]
fn the_same_bytes_started_from_an_older_release_are_old() {
    for wrong in [
        Process { marker: Some(OLD.parse().unwrap()), ..process() },
        Process { cwd: Some(OLD.parse().unwrap()), ..process() },
        Process { marker: Some(OLD.parse().unwrap()), ..interpreter() },
        Process { cwd: Some(OLD.parse().unwrap()), ..interpreter() },
    ] {
        assert_eq!(kinds(&ServiceEvidence { processes: vec![process(), wrong], ..evidence() }), [Kind::OldProcess]);
    }
}

#[test]
fn code_of_no_release_is_never_proven() {
    let unknown = Mapped { digest: Some(Digest([50; 32])), ..process().executable };
    let unreadable = Mapped { digest: None, ..process().executable };
    let deleted = Mapped {
        digest: Some(Digest([50; 32])),
        release: None,
        place: Place::Outside,
        link: LinkState::Deleted,
        path: "/usr/bin/x".into(),
    };
    for executable in [unknown, unreadable, deleted] {
        let process = Process { executable, ..process() };
        assert_eq!(kinds(&ServiceEvidence { processes: vec![process], ..evidence() }), [Kind::Process]);
    }
}

#[test]
fn what_should_run_must_run() {
    assert_eq!(kinds(&ServiceEvidence { processes: vec![], ..evidence() }), [Kind::Process]);
    let stray = Process { parentage: Parentage::Stray, ..process() };
    assert_eq!(kinds(&ServiceEvidence { processes: vec![stray], ..evidence() }), [Kind::Process]);
}

#[test]
fn health_current_and_files_count() {
    assert_eq!(kinds(&ServiceEvidence { health: Health::Unknown, ..evidence() }), [Kind::Health]);
    assert_eq!(
        kinds(&ServiceEvidence { health: Health::Unhealthy { reason: "503".into() }, ..evidence() }),
        [Kind::Health]
    );
    assert_eq!(kinds(&ServiceEvidence { current: None, ..evidence() }), [Kind::Version]);
    assert_eq!(kinds(&ServiceEvidence { current: Some(OLD.parse().unwrap()), ..evidence() }), [Kind::Version]);
    assert_eq!(kinds(&ServiceEvidence { files_omitted: 1, ..evidence() }), [Kind::File]);
    assert_eq!(kinds(&ServiceEvidence { compared: None, ..evidence() }), [Kind::File], "not compared is not clean");
    assert_eq!(
        kinds(&ServiceEvidence { compared: Some(Digest([101; 32])), ..evidence() }),
        [Kind::File],
        "nor is another manifest"
    );
}

#[test]
fn a_weak_grade_is_not_enough_where_more_is_asked() {
    let mut catalogue = Catalogue::default();
    let strict = Descriptor { minimum_grade: Grade::Digest, ..(*descriptor(2)).clone() };
    catalogue.add(NEW.parse().unwrap(), Arc::new(strict), Digest([102; 32]));
    let seen = ServiceEvidence { processes: vec![interpreter()], ..evidence() };
    assert_eq!(compare(&hold_new(), Some(&seen), &catalogue).standing, Standing::Differs);
}

#[test]
fn silence_older_orders_and_work_are_not_proof() {
    let standing = |evidence: Option<&ServiceEvidence>| compare(&hold_new(), evidence, &catalogue()).standing;
    assert_eq!(standing(None), Standing::Behind { generation: None });
    let behind = ServiceEvidence { generation: Generation(6), ..evidence() };
    assert_eq!(standing(Some(&behind)), Standing::Behind { generation: Some(Generation(6)) });
    let ahead = ServiceEvidence { generation: Generation(8), ..evidence() };
    assert_eq!(standing(Some(&ahead)), Standing::Differs);
    let working =
        ServiceEvidence { progress: Progress::Working { step: "stage".into(), detail: String::new() }, ..evidence() };
    assert!(matches!(standing(Some(&working)), Standing::Working { .. }));
    let failed =
        ServiceEvidence { progress: Progress::Failed { step: "probe".into(), reason: "503".into() }, ..evidence() };
    assert!(matches!(standing(Some(&failed)), Standing::Failed { .. }));
    let fenced = ServiceEvidence { progress: Progress::Fenced { reason: "no permit".into() }, ..evidence() };
    assert!(matches!(standing(Some(&fenced)), Standing::Fenced { .. }));
}

#[test]
fn holding_nothing_means_nothing_runs() {
    let nothing = order(Hold::Nothing);
    let gone = ServiceEvidence { current: None, processes: vec![], health: Health::Unknown, ..evidence() };
    assert!(matches!(compare(&nothing, Some(&gone), &catalogue()).standing, Standing::Proven { .. }));
    let left = ServiceEvidence { current: None, ..evidence() };
    assert_eq!(compare(&nothing, Some(&left), &catalogue()).findings[0].key.kind, Kind::OldProcess);
    assert_eq!(
        compare(&nothing, Some(&ServiceEvidence { current: Some(OLD.parse().unwrap()), ..gone }), &catalogue())
            .findings[0]
            .key
            .kind,
        Kind::Version
    );
}

#[test]
fn a_release_whose_manifest_is_lost_is_never_proven() {
    assert_eq!(compare(&hold_new(), Some(&evidence()), &Catalogue::default()).standing, Standing::Differs);
}
