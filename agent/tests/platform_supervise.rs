//! Real processes under the supervisor of Linux: what they inherit, that they are found again, and how they end.
#![allow(clippy::unwrap_used)]

mod platform_stage;

use std::fs;
use std::os::unix::fs::PermissionsExt;

use fleet::Millis;
use fleet::evidence::Parentage;
use fleet_agent::platform::linux::LinuxSupervisor;
use fleet_agent::platform::{ProcessError, Running, Scope, Supervisor};
use platform_stage::{ByHand, PATIENCE, Stage, copy_program};

fn is_root() -> bool {
    nix::unistd::geteuid().is_root()
}

#[tokio::test]
async fn a_service_inherits_nothing_but_what_is_named() {
    let mut stage = Stage::new(Scope::Root);
    let (id, _) = stage.release(1);
    // The file is opened without close-on-exec, as an agent may have inherited it.
    let leaked = fs::File::open("/etc/passwd").unwrap();
    nix::fcntl::fcntl(&leaked, nix::fcntl::FcntlArg::F_SETFD(nix::fcntl::FdFlag::empty())).unwrap();
    let script = "env | sort; umask; pwd; ls -d /proc/$$/fd/*; readlink /proc/$$/fd/0; grep -E 'SigIgn|SigBlk|NoNewPrivs' /proc/self/status; \
                  cut -d' ' -f1,6 /proc/$$/stat; echo oops >&2; echo end";
    let running = stage.start(&id, &["sh", "-c", script]).await;
    stage.gone(&running).await;
    let log = stage.logged("end").await;
    let root = stage.place.root.display();
    for line in [
        format!("FLEET_SERVICE_ROOT={root}"),
        format!("FLEET_RELEASE={id}"),
        "GREETING=hello".into(),
        "0022".into(),
        format!("{root}/releases/{id}"),
        "/dev/null".into(),
        "oops".into(),
    ] {
        assert!(log.lines().any(|found| found == line), "{line} is not in {log}");
    }
    assert!(!log.contains("CARGO"), "the agent's environment leaked: {log}");
    let descriptors: Vec<&str> =
        log.lines().filter_map(|line| line.strip_prefix("/proc/")?.split_once("/fd/")).map(|(_, fd)| fd).collect();
    assert_eq!(descriptors, ["0", "1", "2"]);
    assert!(log.contains("SigBlk:\t0000000000000000") && log.contains("SigIgn:\t0000000000000000"), "{log}");
    assert!(log.contains("NoNewPrivs:\t1"), "{log}");
    assert!(log.contains(&format!("{0} {0}", running.pid)), "it leads its own session: {log}");
    assert_eq!(fs::metadata(stage.place.root.join(".fleet/log")).unwrap().permissions().mode() & 0o137, 0);
}

#[tokio::test]
async fn a_start_that_cannot_work_says_why() {
    let mut stage = Stage::new(Scope::Root);
    let (id, _) = stage.release(1);
    let refused =
        async |command: &[&str]| stage.supervisor.start(&stage.launch(&id, command)).await.unwrap_err().to_string();
    assert!(refused(&["bin/missing"]).await.contains("bin/missing"));
    assert!(refused(&["no-such-program-anywhere"]).await.contains("PATH"));
    assert!(refused(&["etc/conf"]).await.contains("may not be executed"));
    assert!(refused(&[]).await.contains("empty"));
    let text = stage.place.release(&id).join("bin/odd");
    // Written by another process, so that no fork of this one holds it open for writing.
    let write = "printf '#!/no/such/interpreter\\n' > \"$1\" && chmod 0755 \"$1\"";
    assert!(std::process::Command::new("sh").args(["-c", write, "sh"]).arg(&text).status().unwrap().success());
    assert!(refused(&["bin/odd"]).await.contains("interpreter"));
    let mut launch = stage.launch(&id, &["bin/sleep", "600"]);
    launch.user = Some("no-such-user-here".into());
    assert!(stage.supervisor.start(&launch).await.unwrap_err().to_string().contains("no-such-user-here"));
    launch.user = None;
    launch.release = "r-ffffffffffff".parse().unwrap();
    assert!(stage.supervisor.start(&launch).await.unwrap_err().to_string().contains("missing"));
}

#[tokio::test]
async fn a_log_that_is_a_trap_is_not_written() {
    let mut stage = Stage::new(Scope::Root);
    let (id, _) = stage.release(1);
    let launch = stage.launch(&id, &["bin/sleep", "600"]);
    fs::create_dir_all(launch.log.parent().unwrap()).unwrap();
    let target = stage.elsewhere("target");
    std::os::unix::fs::symlink(&target, &launch.log).unwrap();
    assert!(stage.supervisor.start(&launch).await.is_err());
    assert!(!target.exists());
    fs::remove_file(&launch.log).unwrap();
    nix::unistd::mkfifo(&launch.log, nix::sys::stat::Mode::S_IRWXU).unwrap();
    assert!(stage.supervisor.start(&launch).await.is_err());
}

#[tokio::test]
async fn a_service_is_found_again_and_a_reused_number_is_not() {
    let mut stage = Stage::new(Scope::Root);
    let (id, _) = stage.release(1);
    let running = stage.start(&id, &["bin/sleep", "600"]).await;
    let after_restart = LinuxSupervisor::new().unwrap();
    let on_disk: Running = serde_json::from_str(&serde_json::to_string(&running).unwrap()).unwrap();
    assert!(after_restart.is_running(&on_disk));

    let reused = Running { start_ticks: running.start_ticks - 1, ..running.clone() };
    let other_boot = Running { boot_id: "another".into(), ..running.clone() };
    for stranger in [&reused, &other_boot] {
        assert!(!after_restart.is_running(stranger));
        tokio::time::timeout(PATIENCE, after_restart.gone(stranger)).await.unwrap();
    }
    // Under another root, with a record that has only the number in common: nothing is signalled.
    let mut elsewhere = stage.place.clone();
    elsewhere.root = stage.services().join("other");
    assert_eq!(after_restart.stop(&elsewhere, Some(&reused), Millis(0)).await.unwrap().ended, 0);
    assert!(after_restart.is_running(&running));

    let stopped = after_restart.stop(&stage.place, Some(&running), Millis(30_000)).await.unwrap();
    assert_eq!((stopped.ended, stopped.killed.len()), (1, 0));
    assert!(!after_restart.is_running(&running));
    assert_eq!(after_restart.stop(&stage.place, Some(&running), Millis(30_000)).await.unwrap().ended, 0);
}

#[tokio::test]
async fn no_zombie_is_left_and_the_end_is_an_event() {
    let mut stage = Stage::new(Scope::Root);
    let (id, _) = stage.release(1);
    let running = stage.start(&id, &["sh", "-c", "exit 3"]).await;
    stage.gone(&running).await;
    assert!(!stage.supervisor.is_running(&running));
    let reaped = async {
        while fs::exists(format!("/proc/{}", running.pid)).unwrap() {
            tokio::task::yield_now().await;
        }
    };
    tokio::time::timeout(PATIENCE, reaped).await.unwrap();
}

#[tokio::test]
async fn a_service_survives_the_agent() {
    const AGENT: &str = "FLEET_TEST_AGENT_ROOT";
    if let Some(root) = std::env::var_os(AGENT) {
        // This is the agent, run by the test below in a process of its own: it starts the service and is killed.
        let launch: (String, String) = (root.to_string_lossy().into_owned(), "r-000000000001".into());
        let place = fleet_agent::platform::ServicePlace { service: "hello".parse().unwrap(), root: launch.0.into() };
        let log = place.root.join("log");
        let launch = fleet_agent::platform::Launch {
            place: place.clone(),
            release: launch.1.parse().unwrap(),
            command: vec!["bin/sleep".into(), "600".into()],
            environment: Default::default(),
            user: None,
            log,
        };
        let running = LinuxSupervisor::new().unwrap().start(&launch).await.unwrap();
        fs::write(place.root.join("record"), serde_json::to_string(&running).unwrap()).unwrap();
        nix::sys::signal::raise(nix::sys::signal::Signal::SIGKILL).unwrap();
    }
    let mut stage = Stage::new(Scope::Root);
    stage.release(1);
    let mut agent = tokio::process::Command::new(std::env::current_exe().unwrap());
    agent.args(["--exact", "a_service_survives_the_agent", "--nocapture"]).env(AGENT, &stage.place.root);
    let ended = agent.kill_on_drop(true).output().await.unwrap();
    assert_eq!(std::os::unix::process::ExitStatusExt::signal(&ended.status), Some(9), "{ended:?}");
    let running: Running = serde_json::from_str(&fs::read_to_string(stage.place.root.join("record")).unwrap()).unwrap();
    assert!(stage.supervisor.is_running(&running));
    assert_eq!(stage.stop(Some(&running), Millis(30_000)).await.ended, 1);
    stage.gone(&running).await;
}

#[tokio::test]
async fn stop_ends_the_tree_and_orphans_with_the_mark() {
    let mut stage = Stage::new(Scope::Root);
    let (id, _) = stage.release(1);
    // A child; a child that has cleared its environment; an orphan in a session of its own with the mark.
    let script = "bin/sleep 601 & env -i bin/sleep 602 & (setsid bin/sleep 603 &) ; echo ready; wait";
    let running = stage.start(&id, &["sh", "-c", script]).await;
    // Until then the subshell that makes the orphan lives too, and would be counted.
    stage.logged("ready").await;
    for seconds in ["601", "602", "603"] {
        let process =
            stage.seen(Some(&running), |process| process.command.ends_with(&format!("bin/sleep {seconds}"))).await;
        assert_eq!(process.parentage, Parentage::Supervised, "{process:?}");
    }
    let stopped = stage.stop(Some(&running), Millis(30_000)).await;
    assert_eq!((stopped.ended, stopped.killed.as_slice()), (4, [].as_slice()));
    assert!(stage.look(None, None).processes.is_empty());
}

#[tokio::test]
async fn orphans_are_stopped_though_the_main_process_is_gone() {
    let mut stage = Stage::new(Scope::Root);
    let (id, _) = stage.release(1);
    // The first has the mark; the second has neither mark nor parent, only session and executable.
    let running = stage.start(&id, &["sh", "-c", "bin/sleep 601 & env -i bin/sleep 602 & exit 0"]).await;
    stage.gone(&running).await;
    for seconds in ["601", "602"] {
        stage.seen(Some(&running), |process| process.command.ends_with(&format!("bin/sleep {seconds}"))).await;
    }
    assert_eq!(stage.stop(Some(&running), Millis(30_000)).await.ended, 2);
}

#[tokio::test]
async fn what_ignores_sigterm_is_killed_and_named() {
    let mut stage = Stage::new(Scope::Root);
    let (id, _) = stage.release(1);
    let script = "trap '' TERM; echo ready; while :; do bin/sleep 604; done";
    let running = stage.start(&id, &["sh", "-c", script]).await;
    stage.logged("ready").await;
    let stopped = stage.stop(Some(&running), Millis(50)).await;
    assert!(stopped.killed.iter().any(|command| command.contains("trap")), "{stopped:?}");
    assert!(!stage.supervisor.is_running(&running));
}

#[tokio::test]
async fn what_is_frozen_is_ended_and_what_forks_for_ever_too() {
    let mut stage = Stage::new(Scope::Root);
    let (id, _) = stage.release(1);
    let frozen = stage.start(&id, &["bin/sleep", "605"]).await;
    nix::sys::signal::kill(nix::unistd::Pid::from_raw(frozen.pid as i32), nix::sys::signal::Signal::SIGSTOP).unwrap();
    let stopped = stage.stop(Some(&frozen), Millis(30_000)).await;
    assert_eq!((stopped.ended, stopped.killed.len()), (1, 0));
    // A chain that replaces itself faster than it can be looked at, in new sessions, deaf to SIGTERM.
    let chain = "trap '' TERM; echo ready; f() { setsid sh -c \"trap '' TERM; $LINK\" & } ; f";
    let mut launch = stage.launch(&id, &["sh", "-c", chain]);
    launch.environment.insert("LINK".into(), "bin/sleep 0.01; setsid sh -c \"trap '' TERM; $LINK\" &".into());
    let running = stage.supervisor.start(&launch).await.unwrap();
    stage.logged("ready").await;
    let stopped = stage.stop(Some(&running), Millis(50)).await;
    assert!(!stopped.killed.is_empty(), "{stopped:?}");
    assert!(stage.look(None, None).processes.is_empty());
}

#[tokio::test]
async fn a_copy_started_by_hand_is_evidence_and_survives_the_stop() {
    let mut stage = Stage::new(Scope::Root);
    let (id, _) = stage.release(1);
    let running = stage.start(&id, &["bin/sleep", "600"]).await;
    let mut by_hand = ByHand::start(&stage.place.release(&id).join("bin/sleep"), &["606"], "/".as_ref());
    let pid = by_hand.0.id();
    stage.seen(Some(&running), |process| process.pid == pid).await;
    stage.stop(Some(&running), Millis(30_000)).await;
    assert!(by_hand.runs());
    let left = stage.look(None, None).processes;
    assert_eq!(left.len(), 1, "{left:?}");
    assert_eq!((left[0].pid, left[0].parentage, left[0].marker.clone()), (pid, Parentage::Stray, None));
    assert_eq!(left[0].executable.release, Some(id));
}

#[tokio::test]
async fn another_service_is_left_alone() {
    let mut stage = Stage::new(Scope::Root);
    let (id, _) = stage.release(1);
    let mut other = stage.launch(&id, &["bin/sleep", "607"]);
    other.place =
        fleet_agent::platform::ServicePlace { service: "other".parse().unwrap(), root: stage.services().join("other") };
    fs::create_dir_all(other.place.release(&id).join("bin")).unwrap();
    copy_program("/bin/sleep", &other.place.release(&id).join("bin/sleep"), "other");
    other.log = other.place.root.join("log");
    let neighbour = stage.supervisor.start(&other).await.unwrap();
    let running = stage.start(&id, &["bin/sleep", "600"]).await;
    assert_eq!(stage.look(None, Some(&running)).processes.len(), 1);
    assert_eq!(stage.stop(Some(&running), Millis(30_000)).await.ended, 1);
    assert!(stage.supervisor.is_running(&neighbour));
    // Even a wrong record does not reach it.
    let stopped = stage.stop(Some(&neighbour), Millis(0)).await;
    assert_eq!((stopped.ended, stopped.killed.len()), (0, 0));
    assert!(stage.supervisor.is_running(&neighbour));
    stage.supervisor.stop(&other.place, Some(&neighbour), Millis(0)).await.unwrap();
    stage.gone(&neighbour).await;
}

#[tokio::test]
async fn root_gives_its_rights_away_for_the_service() {
    let mut stage = Stage::new(Scope::Root);
    let (id, _) = stage.release(1);
    let mut launch = stage.launch(&id, &["sh", "-c", "id -u; id -g; id -G; echo end"]);
    launch.user = Some(if is_root() { "nobody" } else { "root" }.into());
    let started = stage.supervisor.start(&launch).await;
    if !is_root() {
        assert!(matches!(started, Err(ProcessError::Start { reason, .. }) if reason.contains("root")));
        return;
    }
    stage.gone(&started.unwrap()).await;
    let nobody = nix::unistd::User::from_name("nobody").unwrap().unwrap();
    let log = stage.logged("end").await;
    let lines: Vec<&str> = log.lines().collect();
    assert_eq!(lines, [nobody.uid.to_string(), nobody.gid.to_string(), nobody.gid.to_string(), "end".into()]);
}
