//! What must never be called proven.
#![allow(clippy::unwrap_used)]

use std::collections::BTreeMap;
use std::sync::Arc;

use super::*;
use crate::evidence::{Owner, Package, Stranger};
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
        pins: Vec::new(),
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
            owner: Owner::Unknown,
        },
        mappings: Vec::new(),
        open: Vec::new(),
        named: Vec::new(),
        open_omitted: 0,
        outside: 2,
        marker: Some(NEW.parse().unwrap()),
        cwd: Some(NEW.parse().unwrap()),
        started: Started::AfterActivation,
        command: "web".into(),
        by: None,
    }
}

fn interpreter() -> Process {
    let python = Mapped {
        path: "/usr/bin/python3".into(),
        digest: Some(Digest([77; 32])),
        release: None,
        place: Place::Outside,
        link: LinkState::Linked,
        owner: Owner::Unknown,
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
        looked: crate::looked::Looked::default(),
        current: Some(NEW.parse().unwrap()),
        files: Vec::new(),
        files_omitted: 0,
        compared: Some(Digest([102; 32])),
        processes: vec![process()],
        hidden: 0,
        outside: Vec::new(),
        outside_omitted: 0,
        health: Health::Healthy,
        stranger: None,
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
        owner: Owner::Unknown,
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
        owner: Owner::Unknown,
        path: "/opt/x".into(),
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
    let watched = |swept| crate::looked::Looked { swept, ..crate::looked::Looked::default() };
    let oldest = crate::looked::OLDEST_SWEEP;
    assert_eq!(kinds(&ServiceEvidence { looked: watched(oldest), ..evidence() }), []);
    let older = watched(Millis(oldest.0 + 1));
    assert_eq!(kinds(&ServiceEvidence { looked: older, ..evidence() }), [Kind::Stale], "watching alone is no proof");
    assert_eq!(kinds(&ServiceEvidence { compared: None, ..evidence() }), [Kind::File], "not compared is not clean");
    assert_eq!(
        kinds(&ServiceEvidence { compared: Some(Digest([101; 32])), ..evidence() }),
        [Kind::File],
        "nor is another manifest"
    );
}

#[test]
fn a_stranger_on_the_port_is_named() {
    let stranger = Some(Stranger { address: "127.0.0.1:80".into(), process: "pid 9 nc".into() });
    let seen = ServiceEvidence { stranger, ..evidence() };
    assert_eq!(kinds(&seen), [Kind::Port]);
    let finding = compare(&hold_new(), Some(&seen), &catalogue()).findings.remove(0);
    assert_eq!((finding.key.what.as_str(), finding.found.as_str()), ("127.0.0.1:80", "pid 9 nc"));
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

/// A file of the release or near it, as something reads it.
fn read(path: &str, digest: u8, release: Option<&str>) -> Mapped {
    Mapped {
        path: path.into(),
        digest: Some(Digest([digest; 32])),
        release: release.map(|id| id.parse().unwrap()),
        place: if release.is_some() { Place::Inside } else { Place::Outside },
        link: LinkState::Linked,
        owner: Owner::Unknown,
    }
}

fn grade(process: Process) -> Option<Grade> {
    let seen = ServiceEvidence { processes: vec![process], ..evidence() };
    match compare(&hold_new(), Some(&seen), &catalogue()).standing {
        Standing::Proven { grade, .. } => Some(grade),
        _ => None,
    }
}

#[test]
fn an_interpreter_that_keeps_what_it_was_told_to_run_open_is_proven_by_it() {
    let jar = read(&format!("/opt/web/releases/{NEW}/bin/web"), 2, Some(NEW));
    let java = Process { open: vec![jar.clone()], named: vec![jar.clone()], ..interpreter() };
    assert_eq!(grade(java.clone()), Some(Grade::OpenFile));
    assert_eq!(grade(Process { open: vec![], ..java.clone() }), Some(Grade::Context), "it was read and closed");
    assert_eq!(grade(Process { named: vec![], ..java.clone() }), Some(Grade::Context), "it may be a data file");
    assert_eq!(grade(Process { open_omitted: 1, ..java.clone() }), Some(Grade::Context), "not all of it was seen");
    assert_eq!(grade(Process { started: Started::BeforeActivation, ..java.clone() }), None);
    assert_eq!(grade(Process { marker: None, ..java }), None);
}

#[test]
fn old_files_that_are_open_or_named_are_old_code_whatever_executes_them() {
    let gone = Mapped { link: LinkState::Deleted, ..read(&format!("/opt/web/releases/{NEW}/bin/web"), 1, Some(NEW)) };
    let elsewhere = read("/root/old.jar", 1, None);
    let of_old = read(&format!("/opt/web/releases/{OLD}/x"), 60, Some(OLD));
    for base in [interpreter(), process()] {
        for open in [gone.clone(), elsewhere.clone(), of_old.clone()] {
            let process = Process { open: vec![open], ..base.clone() };
            assert_eq!(kinds(&ServiceEvidence { processes: vec![process], ..evidence() }), [Kind::OldProcess]);
        }
        let process = Process { named: vec![elsewhere.clone()], ..base.clone() };
        assert_eq!(kinds(&ServiceEvidence { processes: vec![process], ..evidence() }), [Kind::OldProcess]);
        let changed = read(&format!("/opt/web/releases/{NEW}/bin/web"), 60, Some(NEW));
        let process = Process { open: vec![changed], ..base.clone() };
        assert_eq!(kinds(&ServiceEvidence { processes: vec![process], ..evidence() }), [Kind::Process]);
    }
}

#[test]
fn what_a_service_writes_and_reads_beside_its_files_is_no_finding() {
    let log = read(&format!("/opt/web/releases/{NEW}/var/web.log"), 60, Some(NEW));
    let cache = Mapped {
        link: LinkState::Deleted,
        ..read(&format!("/opt/web/releases/{NEW}/__pycache__/x.pyc"), 61, Some(NEW))
    };
    let mut quiet = process();
    quiet.open = vec![log, cache];
    assert_eq!(grade(quiet), Some(Grade::Digest));
}

#[test]
fn a_process_older_than_the_activation_is_not_proven_by_files_that_may_have_changed_under_it() {
    let early = Process { started: Started::BeforeActivation, ..process() };
    assert_eq!(grade(early.clone()), None);
    assert_eq!(grade(Process { started: Started::Unknown, ..process() }), Some(Grade::Digest));
    // By hand, from the very bytes of the release: no old code, and none of the agent's starts.
    let by_hand = Process { parentage: Parentage::Stray, marker: None, cwd: None, ..early };
    let seen = ServiceEvidence { processes: vec![process(), by_hand], ..evidence() };
    assert_eq!(kinds(&seen), []);
}

#[test]
fn a_supervised_process_that_may_not_be_read_is_never_proof_and_a_hidden_stranger_changes_nothing() {
    let unreadable = Mapped { digest: None, ..interpreter().executable };
    let blind = Process { executable: unreadable, marker: None, cwd: None, mappings: vec![], ..process() };
    assert_eq!(kinds(&ServiceEvidence { processes: vec![blind], ..evidence() }), [Kind::Process]);
    let seen = ServiceEvidence { hidden: 300, ..evidence() };
    assert_eq!(kinds(&seen), []);
}

#[test]
fn a_library_upgraded_under_a_service_is_a_finding_only_where_it_is_pinned() {
    let upgraded = |path: &str| Mapped { link: LinkState::Deleted, ..read(path, 70, None) };
    let libssl = upgraded("/usr/lib/x86_64-linux-gnu/libssl.so.3");
    let maps = |mapped: &Mapped| ServiceEvidence {
        processes: vec![Process { mappings: vec![mapped.clone()], ..process() }],
        outside: vec![mapped.clone()],
        ..evidence()
    };
    assert_eq!(kinds(&maps(&libssl)), []);
    assert_eq!(kinds(&maps(&upgraded("/tmp/libssl.so.3"))), [Kind::Process], "nobody installs there");
    assert_eq!(kinds(&maps(&upgraded("/usr/local/lib/libssl.so.3"))), [Kind::Process]);

    let pinned = |digest: u8, seen: &ServiceEvidence| {
        let [pin, usr] = ["/*/libssl.so.3", "/usr/lib/*/libssl.so.3"]
            .map(|path| Pin::File { path: path.into(), digests: vec![Digest([digest; 32])] });
        let strict = Descriptor { pins: vec![pin, usr], ..(*descriptor(2)).clone() };
        let mut catalogue = Catalogue::default();
        catalogue.add(NEW.parse().unwrap(), Arc::new(strict), Digest([102; 32]));
        compare(&hold_new(), Some(seen), &catalogue).findings
    };
    assert_eq!(pinned(70, &maps(&libssl)), []);
    assert_eq!(pinned(70, &maps(&upgraded("/tmp/libssl.so.3"))), [], "a pin vouches for what no package brought");
    let found = pinned(71, &maps(&libssl)).remove(0);
    assert_eq!((found.key.kind, found.key.what.as_str()), (Kind::Process, libssl.path.as_str()));
    assert!(found.expected.contains(&Digest([71; 32]).to_string()), "{found}");
    assert!(found.found.contains(&Digest([70; 32]).to_string()) && found.found.contains("(deleted)"), "{found}");
    let unread = Mapped { digest: None, ..libssl };
    assert_eq!(pinned(70, &maps(&unread)).len(), 1, "not to know is not to be right");
    assert_eq!(pinned(70, &ServiceEvidence { outside_omitted: 1, ..evidence() }).len(), 1);
}

#[test]
fn a_pin_by_package_asks_for_version_and_bytes_and_for_a_node_that_can_tell() {
    let strict = |versions: &[&str]| {
        let versions = versions.iter().map(|version| (*version).to_owned()).collect();
        vec![Pin::Package { package: "libssl3".into(), versions }]
    };
    let brought = |name: &str, intact| {
        Owner::Package(Package { name: name.into(), version: "3.0.18-1".into(), intact: Some(intact) })
    };
    let compared = |outside: Vec<Mapped>, pins: Vec<Pin>| {
        let mut catalogue = Catalogue::default();
        let strict = Descriptor { pins, ..(*descriptor(2)).clone() };
        catalogue.add(NEW.parse().unwrap(), Arc::new(strict), Digest([102; 32]));
        let seen = ServiceEvidence { outside, ..evidence() };
        let findings = compare(&hold_new(), Some(&seen), &catalogue).findings;
        findings.into_iter().map(|finding| format!("{}: {}", finding.key.what, finding.found)).collect::<Vec<_>>()
    };
    let libssl = |owner| Mapped { owner, ..read("/usr/lib/x86_64-linux-gnu/libssl.so.3", 70, None) };
    let found = |owner: Owner, versions: &[&str]| compared(vec![libssl(owner)], strict(versions));
    assert!(found(brought("libssl3", true), &["3.0.18-1"]).is_empty());
    assert!(found(brought("libssl3", true), &["3.0.19-1", "3.0.18-1"]).is_empty(), "one of several");
    assert!(found(brought("libssl3-other", false), &["3.0.19-1"]).is_empty(), "another package's");
    let other = found(brought("libssl3", true), &["3.0.19-1"]);
    assert!(
        matches!(&other[..], [one] if one.ends_with("libssl.so.3: mapped: of package libssl3 3.0.18-1")),
        "{other:?}"
    );
    let changed = found(brought("libssl3", false), &["3.0.18-1"]);
    assert!(matches!(&changed[..], [one] if one.contains("other bytes than those of package libssl3")), "{changed:?}");
    let package = Package { name: "libssl3".into(), version: "3.0.18-1".into(), intact: None };
    let dark = found(Owner::Package(package), &["3.0.18-1"]);
    assert!(matches!(&dark[..], [one] if one.contains("bytes that cannot be compared")), "{dark:?}");
    let unknown = found(Owner::Unknown, &["3.0.18-1"]);
    assert!(matches!(&unknown[..], [one] if one.starts_with("(pins): the node cannot tell")), "{unknown:?}");
    assert!(compared(vec![libssl(Owner::Unknown)], Vec::new()).is_empty(), "nobody asked");
    // One name, two files, two pins: told once.
    let twice = compared(vec![libssl(brought("libssl3", false)); 2], [strict(&["1"]), strict(&["2"])].concat());
    assert_eq!(twice.len(), 1, "{twice:?}");
    // Of a package that installs elsewhere: the package vouches for its own bytes, not for its name.
    let vendor = |intact| ServiceEvidence {
        outside: vec![Mapped { owner: brought("vendor", intact), ..read("/opt/vendor/lib.so", 72, None) }],
        ..evidence()
    };
    let asking = Descriptor { minimum_grade: Grade::Digest, ..(*descriptor(2)).clone() };
    let mut catalogue = Catalogue::default();
    catalogue.add(NEW.parse().unwrap(), Arc::new(asking), Digest([102; 32]));
    let count = |intact| compare(&hold_new(), Some(&vendor(intact)), &catalogue).findings.len();
    assert_eq!((count(true), count(false)), (0, 1));
    // Beside the package's own file, where packages are installed: nobody vouches for it, unless a pin does.
    let beside = Mapped { owner: Owner::Nobody, ..read("/usr/lib/x86_64-linux-gnu/libssl.so.3.0.0", 71, None) };
    let grade = |pins: Vec<Pin>| {
        let mut catalogue = Catalogue::default();
        let asking = Descriptor { pins, minimum_grade: Grade::Digest, ..(*descriptor(2)).clone() };
        catalogue.add(NEW.parse().unwrap(), Arc::new(asking), Digest([102; 32]));
        let seen = ServiceEvidence { outside: vec![beside.clone()], ..evidence() };
        compare(&hold_new(), Some(&seen), &catalogue).findings.len()
    };
    let vouched = Pin::File { path: "/usr/lib/*/libssl.so.3.0.0".into(), digests: vec![Digest([71; 32])] };
    assert_eq!((grade(Vec::new()), grade(strict(&["1"])), grade([strict(&["1"]), vec![vouched]].concat())), (0, 1, 0));
}

#[test]
fn code_that_nobody_vouches_for_lowers_the_grade_and_is_named() {
    let hook = read("/tmp/hook.so", 80, None);
    let preloaded = ServiceEvidence { outside: vec![read("/usr/lib/libc.so.6", 81, None), hook.clone()], ..evidence() };
    let compared = |minimum: Grade, pinned: &str, seen: &ServiceEvidence| {
        let pin = Pin::File { path: pinned.into(), digests: vec![Digest([80; 32])] };
        let strict = Descriptor { minimum_grade: minimum, pins: vec![pin], ..(*descriptor(2)).clone() };
        let mut catalogue = Catalogue::default();
        catalogue.add(NEW.parse().unwrap(), Arc::new(strict), Digest([102; 32]));
        compare(&hold_new(), Some(seen), &catalogue)
    };
    let grade = |compared: &Comparison| match compared.standing {
        Standing::Proven { grade, .. } => Some(grade),
        _ => None,
    };
    let lenient = compared(Grade::Context, "/none", &preloaded);
    assert_eq!((grade(&lenient), lenient.findings.len()), (Some(Grade::Context), 0));
    let found = compared(Grade::Digest, "/none", &preloaded).findings.remove(0);
    assert_eq!((found.key.kind, found.key.what.as_str()), (Kind::Process, "evidence"));
    assert!(found.found.contains("grade context") && found.found.contains("/tmp/hook.so"), "{found}");
    assert_eq!(grade(&compared(Grade::Digest, "/tmp/hook.so", &preloaded)), Some(Grade::Digest));
    let plain = ServiceEvidence { outside: vec![read("/usr/lib/libc.so.6", 81, None)], ..evidence() };
    assert_eq!(grade(&compared(Grade::Digest, "/none", &plain)), Some(Grade::Digest));
}
