//! What the observer tells of files that are open, named, written, hidden or of another root; and what it keeps quiet
//! about, because it is nobody's code.
#![allow(clippy::unwrap_used)]

mod platform_stage;

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::process::Command;

use fleet::evidence::{LinkState, Owner, Package, Parentage, Place};
use fleet_agent::platform::Scope;
use platform_stage::{ByHand, Stage, copy_program, digest};

/// A shell that keeps its script open while it waits for a pipe that nobody writes to.
fn script(stage: &Stage, path: &Path, text: &str) {
    let pipe = stage.elsewhere("pipe");
    if !pipe.exists() {
        nix::unistd::mkfifo(&pipe, nix::sys::stat::Mode::S_IRWXU).unwrap();
    }
    fs::write(path, format!("{text}\nread line < {}\n", pipe.display())).unwrap();
}

#[tokio::test]
async fn a_script_is_seen_open_and_named_and_still_after_it_was_replaced_or_deleted() {
    let mut stage = Stage::new(Scope::Root);
    let (id, _) = stage.release(1);
    let path = stage.place.release(&id).join("run.sh");
    script(&stage, &path, "# one");
    let one = digest(&path);
    let running = stage.start(&id, &["sh", "run.sh"]).await;
    let seen = stage.seen(Some(&running), |process| process.pid == running.pid && !process.open.is_empty()).await;
    let [open] = seen.open.as_slice() else { panic!("{seen:?}") };
    assert_eq!((open.path.as_str(), open.digest, open.link), (path.to_str().unwrap(), Some(one), LinkState::Linked));
    assert_eq!((&open.release, open.place), (&Some(id.clone()), Place::Inside));
    assert_eq!(seen.named.as_slice(), std::slice::from_ref(open));

    script(&stage, &path.with_extension("next"), "# two");
    fs::rename(path.with_extension("next"), &path).unwrap();
    let seen = stage.look(None, Some(&running)).processes.remove(0);
    assert_eq!((seen.open[0].digest, seen.open[0].link), (Some(one), LinkState::Deleted), "what runs");
    assert_eq!(seen.named[0].digest, Some(digest(&path)), "what its name is now");
    fs::remove_file(&path).unwrap();
    let seen = stage.look(None, Some(&running)).processes.remove(0);
    assert_eq!((seen.open[0].digest, seen.named[0].digest), (Some(one), Some(one)));
}

#[tokio::test]
async fn logs_caches_and_empty_files_are_not_told_as_files_of_the_release_that_run() {
    let mut stage = Stage::new(Scope::Root);
    let (id, manifest) = stage.release(1);
    let root = stage.place.release(&id);
    fs::write(root.join("empty"), "").unwrap();
    script(&stage, &root.join("run.sh"), "exec 5>>service.log 6<empty 7<>data.db");
    let running = stage.start(&id, &["sh", "run.sh"]).await;
    let seen = stage
        .seen(Some(&running), |process| {
            process.pid == running.pid && root.join("data.db").exists() && !process.open.is_empty()
        })
        .await;
    let open: Vec<_> = seen.open.iter().map(|open| open.path.rsplit('/').next().unwrap()).collect();
    assert_eq!(open, ["run.sh"]);
    // What changes nothing is no deviation.
    let own = fs::metadata(root.join("etc/conf")).unwrap();
    std::os::unix::fs::chown(root.join("etc/conf"), Some(std::os::unix::fs::MetadataExt::uid(&own)), None).unwrap();
    assert!(Command::new("touch").arg(root.join("etc/conf")).status().unwrap().success());
    let files = stage.look(Some((&id, &manifest)), Some(&running)).files;
    let paths: Vec<_> = files.iter().map(|deviation| deviation.path.as_str()).collect();
    assert_eq!(paths, ["data.db", "empty", "run.sh", "service.log"], "what no release brought, and nothing else");
}

#[tokio::test]
async fn only_an_old_release_s_script_makes_a_stray_of_an_interpreter() {
    let mut stage = Stage::new(Scope::Machine);
    let (old, _) = stage.release(1);
    let (new, manifest) = stage.release(2);
    let (old_script, new_script) = (stage.elsewhere("old.sh"), stage.elsewhere("new.sh"));
    script(&stage, &old_script, "# old");
    // The current release's own configuration, run as if it were a script: a file of the release that is held.
    fs::copy(stage.place.release(&new).join("etc/conf"), &new_script).unwrap();
    stage.known.insert(digest(&old_script), old.clone());
    let by_hand = ByHand::start("/bin/sh".as_ref(), &[old_script.to_str().unwrap()], "/".as_ref());
    let reader = ByHand::start("/usr/bin/tail".as_ref(), &["-f", old_script.to_str().unwrap()], "/".as_ref());
    let wait = format!("read line < {}", stage.elsewhere("pipe").display());
    let current = ByHand::start("/bin/sh".as_ref(), &["-c", &wait, new_script.to_str().unwrap()], "/".as_ref());
    let pid = by_hand.0.id();
    let seen = loop {
        let seen = stage.look(Some((&new, &manifest)), None).processes;
        if seen.iter().any(|process| process.pid == pid) {
            break seen;
        }
        tokio::task::yield_now().await;
    };
    let found = seen.iter().find(|process| process.pid == pid).unwrap();
    assert_eq!((found.parentage, found.named[0].digest), (Parentage::Stray, Some(digest(&old_script))));
    for other in [reader.0.id(), current.0.id()] {
        assert!(seen.iter().all(|process| process.pid != other), "{seen:?}");
    }
}

#[tokio::test]
async fn the_distribution_s_files_are_told_once_with_their_digests() {
    let mut stage = Stage::new(Scope::Root);
    let (id, _) = stage.release(1);
    let running = stage.start(&id, &["bin/sleep", "600"]).await;
    let second = stage.start(&id, &["sh", "-c", "bin/sleep 601; :"]).await;
    stage.seen(Some(&second), |process| process.command.ends_with("601")).await;
    let seen = stage.look(None, Some(&running));
    let libc: Vec<_> = seen.outside.iter().filter(|mapped| mapped.path.contains("libc.so")).collect();
    let [libc] = libc.as_slice() else { panic!("{:?}", seen.outside) };
    assert_eq!((libc.digest, libc.place), (Some(digest(Path::new(&libc.path))), Place::Outside));
    assert!(libc.is_distribution() && seen.outside_omitted == 0);
    // What dpkg itself says of it, where there is dpkg.
    let asked = Command::new("dpkg-query").args(["--show", "--showformat=${Version}\n", "libc6"]).output();
    match asked.ok().filter(|answer| answer.status.success()) {
        Some(answer) => {
            let version = String::from_utf8(answer.stdout).unwrap().lines().next().unwrap().to_owned();
            assert_eq!(libc.owner, Owner::Package(Package { name: "libc6".into(), version, intact: Some(true) }));
        }
        None => assert_eq!(libc.owner, Owner::Unknown),
    }
}

/// A bind mount in a mount namespace of its own, with another name for everything: root, working directory, program.
#[tokio::test]
async fn a_process_with_mounts_of_its_own_is_known_by_where_its_files_lie() {
    if !nix::unistd::geteuid().is_root() {
        use std::io::Write as _;
        let _closed = writeln!(std::io::stderr(), "SKIPPED: a process with mounts of its own: not root");
        return;
    }
    let mut stage = Stage::new(Scope::Root);
    let (id, manifest) = stage.release(1);
    let inside = "mount --bind . /mnt && cd /mnt/etc && exec /mnt/bin/sleep 612";
    let running = stage.start(&id, &["unshare", "-m", "sh", "-c", inside]).await;
    let seen = stage.seen(Some(&running), |process| process.command == "/mnt/bin/sleep 612").await;
    let program = stage.place.release(&id).join("bin/sleep");
    assert_eq!((seen.executable.path.as_str(), seen.executable.place), (program.to_str().unwrap(), Place::Inside));
    assert_eq!((&seen.executable.release, &seen.cwd), (&Some(id.clone()), &Some(id.clone())));
    assert!(manifest.has_digest(&seen.executable.digest.unwrap()));
    let old = digest(&program);
    copy_program("/bin/sleep", &program.with_file_name("next"), "replaced under a container");
    fs::rename(program.with_file_name("next"), &program).unwrap();
    let seen = stage.look(None, Some(&running)).processes.remove(0);
    assert_eq!((seen.executable.digest, seen.executable.link), (Some(old), LinkState::Deleted));
    assert_eq!(seen.executable.release, Some(id));
}

/// Told by this very program, run again as nobody: what it may not see is counted, and never mistaken.
#[test]
fn processes_of_others_are_counted_where_they_may_not_be_read() {
    if !nix::unistd::geteuid().is_root() {
        let stage = Stage::new(Scope::Machine);
        let seen = stage.look(None, None);
        assert!(seen.hidden > 0 && seen.processes.is_empty(), "{seen:?}");
        return;
    }
    let program = tempfile::tempdir().unwrap();
    fs::set_permissions(program.path(), fs::Permissions::from_mode(0o755)).unwrap();
    let copy = program.path().join("evidence");
    assert!(Command::new("cp").arg(std::env::current_exe().unwrap()).arg(&copy).status().unwrap().success());
    let name = "processes_of_others_are_counted_where_they_may_not_be_read";
    let mut command = Command::new("setpriv");
    command.args(["--reuid=65534", "--regid=65534", "--clear-groups"]).arg(&copy).args(["--exact", name]);
    let output = command.current_dir("/").env_remove("TMPDIR").output().unwrap();
    let said = String::from_utf8_lossy(&output.stdout);
    assert!(output.status.success() && said.contains("1 passed"), "{said}{}", String::from_utf8_lossy(&output.stderr));
}
