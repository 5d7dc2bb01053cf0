//! That nothing outlives the measurement, whatever it did to leave. In a process of its own, because it ends *every*
//! descendant of the process it runs in.
#![allow(clippy::unwrap_used)]

use std::process::Command;
use std::time::Duration;

use fleet_benches::process::{Descendants, own_children, run, succeed};
use fleet_benches::procfs;

const LONG: Duration = Duration::from_secs(600);

#[test]
fn orphans_are_adopted_counted_and_ended() {
    let dir = tempfile::tempdir().unwrap();
    let log = dir.path().join("log");
    let pid_file = dir.path().join("pid");
    let descendants = Descendants::adopt().unwrap();

    // A daemon that leaves its session and does not hear SIGTERM, started by a shell that ends.
    let script = format!(
        "setsid sh -c 'trap \"\" TERM; echo $$ >{0}.new; mv {0}.new {0}; while :; do sleep 1; done' >/dev/null 2>&1 &
         while [ ! -e {0} ]; do sleep 0.01; done",
        pid_file.display()
    );
    succeed(Command::new("sh").args(["-c", &script]), &log, LONG).unwrap();
    let daemon: i32 = std::fs::read_to_string(&pid_file).unwrap().trim().parse().unwrap();
    assert!(own_children().contains(&daemon), "the daemon is now a child of this process");

    // What a child uses is counted, whether it still lives or was waited for.
    let before = procfs::cpu(&[daemon]).unwrap();
    succeed(Command::new("sh").args(["-c", "i=0; while [ $i -lt 200000 ]; do i=$((i+1)); done"]), &log, LONG).unwrap();
    assert!(procfs::cpu(&[daemon]).unwrap() > before);

    // A command that does not end is ended, and one that fails is quoted.
    let error = run(Command::new("sleep").arg("600"), &log, Duration::from_millis(50)).unwrap_err();
    assert!(error.to_string().contains("did not end within"), "{error}");
    let error = succeed(Command::new("sh").args(["-c", "echo so it is; exit 3"]), &log, LONG).unwrap_err();
    assert!(error.to_string().contains("so it is"), "{error}");

    // SIGTERM is not heard, SIGKILL is.
    drop(descendants);
    assert_eq!(own_children(), [0; 0]);
    assert_eq!(procfs::one(daemon), None);
}
