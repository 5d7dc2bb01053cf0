//! The systemd units that are shipped, and what systemd is told by the programs that they start: that they are ready, that
//! they live, that they stop. Real units in a real systemd are the lab's.
#![allow(clippy::unwrap_used)]

use std::fs;
use std::os::unix::net::UnixDatagram;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use fleet_tests::workspace::Workspace;
use fleet_tests::{Fleet, Proc, readers, until};
use nix::sys::signal::Signal;

/// A program has this long to say what it should; it is a limit against hanging, not a measurement.
const PATIENCE: Duration = Duration::from_secs(60);

/// The units, with the programs of this build instead of the installed ones.
fn units(folder: &Path) -> Vec<PathBuf> {
    let shipped = Workspace::built().root.join("packaging/systemd");
    let mut units = Vec::new();
    for entry in fs::read_dir(shipped).unwrap() {
        let name = entry.unwrap().path();
        let program = name.file_stem().unwrap().to_string_lossy().into_owned();
        let text = fs::read_to_string(&name).unwrap();
        let installed = format!("ExecStart=/usr/bin/{program} ");
        assert!(text.contains(&installed), "{} starts {installed}", name.display());
        let unit = folder.join(name.file_name().unwrap());
        let built = Workspace::built().binary(&program);
        fs::write(&unit, text.replace(&installed, &format!("ExecStart={} ", built.display()))).unwrap();
        units.push(unit);
    }
    assert_eq!(units.len(), 2);
    units
}

#[test]
fn the_units_are_what_systemd_understands() {
    let folder = tempfile::tempdir().unwrap();
    readers::systemd_analyze(&units(folder.path()));
}

/// In tenths of ten, less is better. The agent's is what it is: it is root, and whatever narrowed it would narrow every service.
#[test]
fn the_controller_may_do_little() {
    let folder = tempfile::tempdir().unwrap();
    let units = units(folder.path());
    readers::systemd_security(units.iter().find(|unit| unit.ends_with("fleet-controller.service")).unwrap(), 20);
}

/// What a program says to whoever started it.
struct Heard(UnixDatagram);

impl Heard {
    /// Waits until something is said, and says what was said with it.
    fn until(&self, what: &str) -> String {
        let began = Instant::now();
        let mut buffer = [0; 4_096];
        let mut all = Vec::new();
        while began.elapsed() < PATIENCE {
            let Ok(length) = self.0.recv(&mut buffer) else { continue };
            let said = String::from_utf8(buffer[..length].to_vec()).unwrap();
            if said.lines().any(|line| line == what) {
                return said;
            }
            all.push(said);
        }
        panic!("{what} was not said, but {all:?}");
    }

    /// Whether nothing is said for so long.
    fn silent_for(&self, time: Duration) -> bool {
        let began = Instant::now();
        let mut buffer = [0; 4_096];
        while began.elapsed() < time {
            if self.0.recv(&mut buffer).is_ok() {
                return false;
            }
        }
        true
    }
}

/// Starts a program of the fleet again as systemd would, with a watchdog of two seconds.
fn start_notified(fleet: &Fleet, folder: &Path, name: &str, start: impl FnOnce() -> i32) -> (Heard, Proc) {
    let path = folder.join(name);
    let socket = UnixDatagram::bind(&path).unwrap();
    socket.set_read_timeout(Some(Duration::from_millis(200))).unwrap();
    fleet.set_variable(name, "NOTIFY_SOCKET", Some(path.to_str().unwrap()));
    fleet.set_variable(name, "WATCHDOG_USEC", Some("2000000"));
    let pid = start();
    (Heard(socket), Proc::of(pid).unwrap())
}

#[test]
fn systemd_is_told_that_they_are_ready_live_and_stop() {
    let fleet = Fleet::up(1);
    let folder = tempfile::tempdir().unwrap();
    fleet.kill_agent("n1");
    fleet.kill_controller();

    // Without its controller: an agent is ready when it has taken up its services.
    let (agent, agent_process) = start_notified(&fleet, folder.path(), "agent-n1", || fleet.start_agent("n1"));
    assert!(agent.until("READY=1").contains("STATUS=n1 of the fleet of "));
    agent.until("WATCHDOG=1");
    let (controller, process) = start_notified(&fleet, folder.path(), "controller", || fleet.start_controller());
    assert!(controller.until("READY=1").contains("STATUS=serving agents and operators on "));
    controller.until("WATCHDOG=1");
    controller.until("WATCHDOG=1");

    // Whoever hangs does not say that it lives.
    process.signal(Signal::SIGSTOP);
    until("what was said before is heard", || controller.silent_for(Duration::from_secs(3)).then_some(()));
    process.signal(Signal::SIGCONT);
    controller.until("WATCHDOG=1");

    process.signal(Signal::SIGTERM);
    controller.until("STOPPING=1");
    agent_process.signal(Signal::SIGTERM);
    agent.until("STOPPING=1");
}
