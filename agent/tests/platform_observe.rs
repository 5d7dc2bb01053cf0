//! What the observer of Linux sees: what really executes, whatever the paths say, and every way in which the files
//! of the held release can differ.
#![allow(clippy::unwrap_used)]

mod platform_stage;

use std::fs;
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::Path;

use fleet::Millis;
use fleet::evidence::DeviationKind::{Extra, File, Missing, Mode, Owner, Symlink, Unreadable};
use fleet::evidence::{DeviationKind, LinkState, Parentage, Place, Process, Started};
use fleet::manifest::Manifest;
use fleet_agent::platform::{MOST_DEVIATIONS, Scope};
use platform_stage::{ByHand, Stage, copy_program, digest};

#[tokio::test]
async fn the_process_is_seen_as_it_runs() {
    let mut stage = Stage::new(Scope::Root);
    let (id, manifest) = stage.release(1);
    stage.activate(&id);
    let running = stage.start(&id, &["bin/sleep", "600"]).await;
    let seen = stage.look(Some((&id, &manifest)), Some(&running));
    assert_eq!((seen.files.as_slice(), seen.current.as_ref()), ([].as_slice(), Some(&id)));
    let [process] = seen.processes.as_slice() else { panic!("{seen:?}") };
    assert_eq!(
        (process.pid, process.parentage, process.started),
        (running.pid, Parentage::Supervised, Started::AfterActivation)
    );
    assert!(manifest.has_digest(&process.executable.digest.unwrap()));
    assert_eq!((process.executable.place, process.executable.link), (Place::Inside, LinkState::Linked));
    assert_eq!(
        [&process.executable.release, &process.marker, &process.cwd],
        [&Some(id.clone()), &Some(id.clone()), &Some(id)]
    );
    assert!(process.mappings.is_empty() && process.outside >= 1, "{process:?}");
    assert_eq!(process.command.rsplit(' ').next(), Some("600"));
}

#[tokio::test]
async fn a_rename_over_the_program_does_not_hide_what_runs() {
    let mut stage = Stage::new(Scope::Root);
    let (id, manifest) = stage.release(1);
    let running = stage.start(&id, &["bin/sleep", "600"]).await;
    let program = stage.place.release(&id).join("bin/sleep");
    let old = digest(&program);
    copy_program("/bin/sleep", &program.with_file_name("next"), "new bytes");
    fs::rename(program.with_file_name("next"), &program).unwrap();
    let seen = stage.look(Some((&id, &manifest)), Some(&running));
    let executable = &seen.processes[0].executable;
    assert_eq!((executable.digest, executable.link), (Some(old), LinkState::Deleted));
    assert_eq!((executable.path.as_str(), &executable.release), (program.to_str().unwrap(), &Some(id)));
    assert_eq!(kinds(&seen.files), [("bin/sleep".to_owned(), File)]);
}

#[tokio::test]
async fn a_switched_link_does_not_hide_what_runs() {
    let mut stage = Stage::new(Scope::Root);
    let (old, old_manifest) = stage.release(1);
    stage.activate(&old);
    let running = stage.start(&old, &["bin/sleep", "600"]).await;
    let (new, new_manifest) = stage.release(2);
    // A later tick, so that start and activation are not told apart by luck.
    while fleet_agent::platform::Observer::ticks_now(&stage.observer) <= running.start_ticks {
        tokio::task::yield_now().await;
    }
    stage.activate(&new);
    let seen = stage.look(Some((&new, &new_manifest)), Some(&running));
    assert_eq!((seen.files.as_slice(), seen.current.as_ref()), ([].as_slice(), Some(&new)));
    let process = &seen.processes[0];
    assert_eq!((process.executable.link, &process.executable.release), (LinkState::Linked, &Some(old)));
    assert!(
        old_manifest.has_digest(&process.executable.digest.unwrap())
            && !new_manifest.has_digest(&process.executable.digest.unwrap())
    );
    assert_eq!(process.started, Started::BeforeActivation);

    let next = stage.start(&new, &["bin/sleep", "600"]).await;
    let both = stage.look(Some((&new, &new_manifest)), Some(&next)).processes;
    let found =
        |pid| both.iter().find(|process| process.pid == pid).map(|process| (process.parentage, process.started));
    assert_eq!(found(next.pid), Some((Parentage::Supervised, Started::AfterActivation)));
    assert_eq!(found(running.pid), Some((Parentage::Stray, Started::BeforeActivation)), "an orphan of the old release");
    stage.activated = None;
    assert_eq!(stage.look(None, None).processes[0].started, Started::Unknown);
    stage.activated = Some(("a boot before this".into(), u64::MAX));
    assert_eq!(stage.look(None, None).processes[0].started, Started::AfterActivation);
}

#[tokio::test]
async fn an_interpreter_is_known_by_its_context() {
    let mut stage = Stage::new(Scope::Root);
    let (id, _) = stage.release(1);
    let running = stage.start(&id, &["sh", "-c", "read forever < etc/never || bin/sleep 600; :"]).await;
    let shell = stage.seen(Some(&running), |process| process.pid == running.pid).await;
    assert_eq!((shell.executable.place, &shell.executable.release), (Place::Outside, &None));
    assert_eq!((&shell.marker, &shell.cwd), (&Some(id.clone()), &Some(id.clone())));
    assert_eq!(shell.executable.digest, Some(digest(Path::new("/bin/sh"))));
    stage.stop(Some(&running), Millis(30_000)).await;
    // A shell of somebody who only stands in the release's directory.
    let guest = ByHand::start("/bin/sleep".as_ref(), &["608"], &stage.place.release(&id));
    let seen = stage.seen(None, |process| process.pid == guest.0.id()).await;
    assert_eq!((seen.parentage, seen.marker, seen.cwd), (Parentage::Stray, None, Some(id)));
}

#[tokio::test]
async fn the_whole_machine_is_searched_for_known_programs() {
    let mut stage = Stage::new(Scope::Machine);
    let (id, _) = stage.release(1);
    // Under another name, in another place, without mark: only the bytes betray it.
    let hidden = stage.elsewhere("innocent");
    assert!(
        std::process::Command::new("cp")
            .arg(stage.place.release(&id).join("bin/sleep"))
            .arg(&hidden)
            .status()
            .unwrap()
            .success()
    );
    let by_hand = ByHand::start(&hidden, &["609"], "/".as_ref());
    let pid = by_hand.0.id();
    let seen = stage.seen(None, |process| process.pid == pid).await;
    assert_eq!((seen.parentage, seen.executable.place), (Parentage::Stray, Place::Outside));
    assert_eq!(stage.known.get(&seen.executable.digest.unwrap()), Some(&id));
    // And with its file gone.
    fs::remove_file(&hidden).unwrap();
    let seen = stage.seen(None, |process| process.pid == pid).await;
    assert_eq!(
        (seen.executable.link, stage.known.get(&seen.executable.digest.unwrap())),
        (LinkState::Deleted, Some(&id))
    );
}

#[tokio::test]
async fn old_code_set_aside_beside_the_service_is_seen() {
    for scope in [Scope::Root, Scope::Machine] {
        let mut stage = Stage::new(scope);
        let (id, _) = stage.release(1);
        let neighbour = stage.services().join("other");
        stage.neighbours = vec![neighbour.clone(), stage.services().join("hello-world")];
        let copy = |directory: &Path, known: bool| {
            fs::create_dir_all(directory).unwrap();
            let (from, to) = (stage.place.release(&id).join("bin/sleep"), directory.join("sleep"));
            if known {
                assert!(std::process::Command::new("cp").arg(from).arg(&to).status().unwrap().success());
            } else {
                copy_program("/bin/sleep", &to, &format!("of nobody {}", to.display()));
            }
            ByHand::start(&to, &["611"], "/".as_ref())
        };
        let ours = [
            copy(&stage.services().join("hello.bak/bin"), true),
            copy(&stage.services().join("attic/bin"), true),
            copy(&stage.services().join("hello-old/bin"), false),
        ];
        // Another service's files are that service's, and so is a copy of it; a name that goes on is another name.
        let others = [
            copy(&neighbour.join("bin"), true),
            copy(&stage.services().join("hello-world.bak/bin"), false),
            copy(&stage.services().join("hellobore/bin"), false),
            copy(&stage.services().join("else/bin"), false),
        ];
        for process in &ours {
            let pid = process.0.id();
            let seen = stage.seen(None, |process| process.pid == pid).await;
            assert_eq!((seen.parentage, seen.executable.place), (Parentage::Stray, Place::Outside), "{seen:?}");
        }
        let seen: Vec<u32> = stage.look(None, None).processes.iter().map(|process| process.pid).collect();
        assert!(others.iter().all(|process| !seen.contains(&process.0.id())), "{seen:?}");
        // Without an order the neighbour is a hiding place like any other.
        stage.neighbours.clear();
        let pids = [others[0].0.id(), others[1].0.id()];
        let seen: Vec<u32> = stage.look(None, None).processes.iter().map(|process| process.pid).collect();
        assert!(pids.iter().all(|pid| seen.contains(pid)), "{seen:?}");
    }
}

#[tokio::test]
async fn a_program_in_memory_cannot_hide() {
    let mut stage = Stage::new(Scope::Root);
    let (id, _) = stage.release(1);
    let program = stage.place.release(&id).join("bin/sleep");
    let memory = nix::sys::memfd::memfd_create(c"nothing", nix::sys::memfd::MFdFlags::empty()).unwrap();
    std::io::copy(&mut fs::File::open(&program).unwrap(), &mut fs::File::from(memory.try_clone().unwrap())).unwrap();
    let path = format!("/proc/{}/fd/{}", std::process::id(), std::os::fd::AsRawFd::as_raw_fd(&memory));
    let by_hand = ByHand::start(path.as_ref(), &["610"], &stage.place.root);
    let seen = stage.seen(None, |process| process.pid == by_hand.0.id()).await;
    assert_eq!((seen.executable.path.as_str(), seen.executable.place), ("/memfd:nothing", Place::Inside));
    assert_eq!((seen.executable.digest, seen.executable.link), (Some(digest(&program)), LinkState::Deleted));
}

#[tokio::test]
async fn a_library_of_the_release_is_reported_and_the_distribution_s_counted() {
    let mut stage = Stage::new(Scope::Root);
    let (id, _) = stage.release(1);
    let maps = fs::read_to_string("/proc/self/maps").unwrap();
    let libc =
        maps.lines().filter_map(|line| line.split_whitespace().nth(5)).find(|path| path.contains("libc.so")).unwrap();
    let library = stage.place.release(&id).join("bin/libc.so.6");
    copy_program(libc, &library, "the release's own");
    let mut launch = stage.launch(&id, &["bin/sleep", "600"]);
    launch.environment.insert("LD_LIBRARY_PATH".into(), library.parent().unwrap().to_str().unwrap().into());
    let running = fleet_agent::platform::Supervisor::start(&stage.supervisor, &launch).await.unwrap();
    let seen = stage.seen(Some(&running), |process| process.pid == running.pid && !process.mappings.is_empty()).await;
    let mapped = &seen.mappings[0];
    assert_eq!((mapped.path.as_str(), mapped.digest), (library.to_str().unwrap(), Some(digest(&library))));
    assert_eq!((&mapped.release, mapped.place, mapped.link), (&Some(id), Place::Inside, LinkState::Linked));
    let old = digest(&library);
    copy_program(libc, &library.with_extension("next"), "replaced");
    fs::rename(library.with_extension("next"), &library).unwrap();
    let mapped = stage.look(None, Some(&running)).processes.remove(0).mappings.remove(0);
    assert_eq!(mapped.link, LinkState::Deleted);
    // Only root may read a mapping whose file is gone; anybody else must not take it for another.
    assert_eq!(mapped.digest, nix::unistd::geteuid().is_root().then_some(old));
}

/// Processes end, and execute another program, while they are read: whoever is told is told as it was at one moment,
/// not with the name of one program and the bytes of another, and whoever stays is told in every look.
#[tokio::test]
async fn in_a_storm_of_processes_every_look_is_whole() {
    let mut stage = Stage::new(Scope::Root);
    let (id, _) = stage.release(1);
    let root = stage.place.release(&id);
    for name in ["one", "two"] {
        fs::create_dir(root.join(name)).unwrap();
        copy_program("/usr/bin/env", &root.join(name).join("env"), name);
    }
    // Each of these executes another program once, at once or after a moment, and ends soon after.
    let storm = "moment() { n=0; while [ $n -lt 300 ]; do n=$((n + 1)); done; }
        while :; do /bin/true; done &
        while :; do (moment; exec bin/sleep 0); (moment; exec bin/sleep 0.05); done &
        wait";
    let running = stage.start(&id, &["/bin/sh", "-c", storm]).await;
    // And this one does nothing but execute one of three programs after the other.
    let round = r#"exec one/env two/env /bin/sh -c "$0" "$0""#;
    let whirl = ByHand::start("/bin/sh".as_ref(), &["-c", round, round], &root);
    let programs = [root.join("one/env"), root.join("two/env"), fs::canonicalize("/bin/sh").unwrap()];
    let faces = programs.map(|program| (program.to_str().unwrap().to_owned(), digest(&program)));
    let mut expected = std::collections::BTreeMap::new();
    for _ in 0..100 {
        let processes = stage.look(None, Some(&running)).processes;
        let is_told = |pid: u32| processes.iter().any(|process| process.pid == pid);
        assert!(is_told(running.pid) && is_told(whirl.0.id()), "{processes:?}");
        for process in &processes {
            let executable = &process.executable;
            let Some(found) = executable.digest else { continue };
            if process.pid == whirl.0.id() {
                // It may overtake each of the few readings that it is given, and then have the name of one of its
                // programs and the bytes of the next; never those of any other.
                let is_name = faces.iter().any(|(name, _)| *name == executable.path);
                let is_content = faces.iter().any(|(_, content)| *content == found);
                assert!(is_name && is_content, "{process:?}");
            } else {
                let path = executable.path.clone();
                let its = *expected.entry(path).or_insert_with_key(|path: &String| digest(Path::new(path)));
                assert_eq!(found, its, "{process:?}");
            }
        }
    }
    // Those that end soon are among the ones that are told.
    let program = root.join("bin/sleep");
    let sleeps = |process: &Process| Path::new(&process.executable.path) == program;
    let seen = stage.seen(Some(&running), |process| sleeps(process) && process.executable.digest.is_some()).await;
    assert_eq!(seen.executable.digest, Some(digest(&program)));
    drop(whirl);
    assert_eq!(stage.stop(Some(&running), Millis(30_000)).await.killed, Vec::<String>::new());
}

fn kinds(files: &[fleet::evidence::FileDeviation]) -> Vec<(String, DeviationKind)> {
    files.iter().map(|file| (file.path.clone(), file.kind)).collect()
}

/// One change to a fresh release, and what must be seen of it.
fn check(change: impl FnOnce(&Path), expected: &[(&str, DeviationKind)]) {
    let mut stage = Stage::new(Scope::Root);
    let (id, manifest) = stage.release(1);
    assert_eq!(kinds(&stage.look(Some((&id, &manifest)), None).files), [], "before the change");
    change(&stage.place.release(&id));
    let expected: Vec<_> = expected.iter().map(|(path, kind)| ((*path).to_owned(), *kind)).collect();
    assert_eq!(kinds(&stage.look(Some((&id, &manifest)), None).files), expected);
}

#[test]
fn every_kind_of_deviation_is_seen() {
    check(|_| {}, &[]);
    check(|root| fs::write(root.join("etc/conf"), "longer than before, by far\n").unwrap(), &[("etc/conf", File)]);
    check(
        |root| fs::set_permissions(root.join("etc/conf"), fs::Permissions::from_mode(0o666)).unwrap(),
        &[("etc/conf", Mode)],
    );
    check(
        |root| fs::set_permissions(root.join("bin/sleep"), fs::Permissions::from_mode(0o4755)).unwrap(),
        &[("bin/sleep", Mode)],
    );
    check(|root| fs::set_permissions(root.join("etc"), fs::Permissions::from_mode(0o777)).unwrap(), &[("etc", Mode)]);
    check(|root| fs::remove_file(root.join("etc/conf")).unwrap(), &[("etc/conf", Missing)]);
    check(|root| fs::remove_dir_all(root.join("etc")).unwrap(), &[("etc", Missing), ("etc/conf", Missing)]);
    check(|root| fs::write(root.join("etc/more"), "").unwrap(), &[("etc/more", Extra)]);
    check(|root| fs::create_dir_all(root.join("deep/er")).unwrap(), &[("deep", Extra)]);
    check(
        |root| fs::remove_dir_all(root).unwrap(),
        &[(".", Missing), ("bin/sleep", Missing), ("conf", Missing), ("etc", Missing), ("etc/conf", Missing)],
    );
}

#[test]
fn what_lies_there_instead_is_told_by_its_digest_and_age() {
    let mut stage = Stage::new(Scope::Root);
    let (id, manifest) = stage.release(1);
    let root = stage.place.release(&id);
    fs::write(root.join("etc/conf"), "longer than before, by far\n").unwrap();
    fs::write(root.join("etc/more"), "more").unwrap();
    fs::create_dir(root.join("etc/deep")).unwrap();
    let look = |stage: &Stage| {
        let files = stage.look(Some((&id, &manifest)), None).files;
        files.into_iter().map(|file| (file.path, file.content, file.changed.unwrap())).collect::<Vec<_>>()
    };
    let first = look(&stage);
    let told: Vec<_> = first.iter().map(|(path, content, _)| (path.as_str(), *content)).collect();
    let of = |path: &str| Some(digest(&root.join(path)));
    assert_eq!(told, [("etc/conf", of("etc/conf")), ("etc/deep", None), ("etc/more", of("etc/more"))]);
    for ((path, _, before), (_, _, after)) in first.iter().zip(look(&stage)) {
        assert!(*before <= after, "{path} was changed {before} and then {after} ago");
    }
}

#[test]
fn restored_size_and_time_do_not_hide_a_change() {
    check(
        |root| {
            let path = root.join("etc/conf");
            let before = fs::metadata(&path).unwrap();
            fs::write(&path, "number = 9\n").unwrap();
            fs::File::options().write(true).open(&path).unwrap().set_modified(before.modified().unwrap()).unwrap();
            let after = fs::metadata(&path).unwrap();
            assert_eq!((before.len(), before.modified().unwrap()), (after.len(), after.modified().unwrap()));
        },
        &[("etc/conf", File)],
    );
}

#[test]
fn what_is_put_in_place_of_an_entry_is_seen_and_not_followed() {
    let replace = |root: &Path, with: &dyn Fn(&Path)| {
        fs::remove_file(root.join("etc/conf")).unwrap();
        with(&root.join("etc/conf"));
    };
    // A look at a FIFO returns: this test would never end if it were opened for reading.
    check(
        |root| replace(root, &|path| nix::unistd::mkfifo(path, nix::sys::stat::Mode::S_IRWXU).unwrap()),
        &[("etc/conf", File)],
    );
    check(|root| replace(root, &|path| fs::create_dir(path).unwrap()), &[("etc/conf", File)]);
    check(|root| replace(root, &|path| symlink("/etc/passwd", path).unwrap()), &[("etc/conf", File)]);
    check(
        |root| replace(root, &|path| drop(std::os::unix::net::UnixListener::bind(path).unwrap())),
        &[("etc/conf", File)],
    );
    check(
        |root| {
            fs::remove_file(root.join("conf")).unwrap();
            symlink("bin/sleep", root.join("conf")).unwrap();
        },
        &[("conf", Symlink)],
    );
    check(
        |root| {
            // The same bytes through a link: what was asked for is a directory.
            fs::rename(root.join("etc"), root.with_extension("away")).unwrap();
            symlink(root.with_extension("away"), root.join("etc")).unwrap();
        },
        &[("etc", File), ("etc/conf", Missing)],
    );
}

#[test]
fn owner_or_unreadable_is_said() {
    if nix::unistd::geteuid().is_root() {
        check(
            |root| std::os::unix::fs::chown(root.join("etc/conf"), Some(12_345), None).unwrap(),
            &[("etc/conf", Owner)],
        );
    } else {
        check(
            |root| {
                fs::write(root.join("etc/conf"), "number = 8\n").unwrap();
                fs::set_permissions(root.join("etc/conf"), fs::Permissions::from_mode(0o000)).unwrap();
            },
            &[("etc/conf", Mode), ("etc/conf", Unreadable)],
        );
    }
}

#[test]
fn beyond_the_limit_deviations_are_counted() {
    let mut stage = Stage::new(Scope::Root);
    let (id, _) = stage.release(1);
    for number in 0..MOST_DEVIATIONS + 5 {
        fs::write(stage.place.release(&id).join(format!("extra-{number}")), "").unwrap();
    }
    let seen = stage.look(Some((&id, &Manifest::default())), None);
    // The release's own three top entries are extra too, to an empty manifest.
    assert_eq!((seen.files.len(), seen.files_omitted), (MOST_DEVIATIONS, 8));
}

#[test]
fn only_a_link_to_a_release_is_current() {
    let mut stage = Stage::new(Scope::Root);
    let (id, manifest) = stage.release(1);
    let current = |target: &Path| {
        let _ = fs::remove_file(stage.place.current());
        symlink(target, stage.place.current()).unwrap();
        stage.look(Some((&id, &manifest)), None).current
    };
    assert_eq!(current(&Path::new("releases").join(id.as_str())), Some(id.clone()));
    for wrong in ["releases/x", "/etc", "releases/r-000000000001/bin", "../hello/releases/r-000000000001"] {
        assert_eq!(current(wrong.as_ref()), None, "{wrong}");
    }
}
