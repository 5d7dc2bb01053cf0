//! The drift report in cron, as people use it: silent and 0 when all is well, a table and 2 when not, and never 0 when
//! nobody knows.
#![allow(clippy::unwrap_used)]

use std::fs;
use std::path::Path;
use std::process::{Child, Command, Stdio};

use fleet_tests::workspace::Workspace;
use fleet_tests::{Fleet, Output, disk, until};
use nix::sys::signal::Signal;

/// What stands in the crontab after the time.
fn line() -> String {
    format!("{} drift --quiet", Workspace::built().binary("fleetctl").display())
}

/// Runs the line as cron does: `/bin/sh -c`, and next to no environment.
fn as_cron(fleet: &Fleet, line: &str) -> Output {
    let mut command = Command::new("/bin/sh");
    command.args(["-c", line]).env_clear().stdin(Stdio::null()).current_dir(fleet.folder());
    // The last one stands as a line of its own in the crontab.
    command
        .env("HOME", fleet.folder())
        .env("LOGNAME", "ops")
        .env("SHELL", "/bin/sh")
        .env("PATH", "/usr/bin:/bin")
        .env("XDG_CONFIG_HOME", fleet.folder().join("config"));
    Output::of(&mut command)
}

#[test]
fn the_line_under_cron_s_environment() {
    let fleet = Fleet::up(4);
    fleet.deploy(&Workspace::built().example("hello"), &["--segments", "1"]).expect(0);
    let silent = |what: &str| {
        until(what, || (as_cron(&fleet, &line()).code == 0).then_some(()));
        let output = as_cron(&fleet, &line()).expect(0);
        assert_eq!(output.all(), "", "cron mails whatever is printed: {output}");
    };
    silent("all is well");

    let planted = fleet.current("n2", "hello").join("planted");
    fs::write(&planted, "x").unwrap();
    until("the drift is found", || (as_cron(&fleet, &line()).code == 2).then_some(()));
    let table = as_cron(&fleet, &line()).expect(2).says("n2").says("planted");
    assert!(table.stdout.lines().count() >= 2, "a table with a heading: {table}");
    fs::remove_file(&planted).unwrap();
    silent("all is well again");

    // Agents that stand still: their connections are open, and nothing is known any more.
    let agents: Vec<_> = fleet.nodes().iter().map(|node| fleet.agent(node).unwrap()).collect();
    agents.iter().for_each(|agent| agent.signal(Signal::SIGSTOP));
    let strict = format!("{} --max-age 2s", line());
    until("old data is not taken for good", || (as_cron(&fleet, &strict).code != 0).then_some(()));
    for _ in 0..10 {
        let output = as_cron(&fleet, &strict);
        assert_ne!(output.code, 0, "{output}");
        assert!(!output.all().trim().is_empty(), "{output} must say why");
    }
    until("without --max-age the silence is noticed too", || (as_cron(&fleet, &line()).code != 0).then_some(()));
    agents.iter().for_each(|agent| agent.signal(Signal::SIGCONT));
    silent("the agents go on");

    // Nobody there: that is an answer with a message, and not 0.
    fleet.kill_controller();
    let down = as_cron(&fleet, &line()).expect_refusal();
    assert_eq!(down.code, 69, "the controller cannot be reached: {down}");

    // A controller that has just started and has seen nobody yet knows nothing.
    for node in fleet.nodes() {
        fleet.kill_agent(&node);
    }
    fleet.start_controller();
    let mut answers = 0;
    until("the restarted controller answers", || {
        let output = as_cron(&fleet, &line());
        assert_ne!(output.code, 0, "nothing was observed since the start: {output}");
        answers += usize::from(output.code != 69);
        (answers >= 10).then_some(())
    });
    for node in fleet.nodes() {
        fleet.start_agent(&node);
    }
    silent("everybody is back");
}

/// A cron daemon in a mount namespace of its own: it sees our table only, and the machine's own cron is left alone.
struct Cron(Child);

impl Cron {
    fn start(table: &Path) -> Cron {
        let script = r#"
            set -e
            mount -t tmpfs none /run
            mount -t tmpfs none /etc/cron.d
            mkdir -p /var/spool/cron && mount -t tmpfs none /var/spool/cron && mkdir -p /var/spool/cron/crontabs
            [ ! -e /etc/crontab ] || mount --bind /dev/null /etc/crontab
            cp "$1" /etc/cron.d/fleet && chmod 0644 /etc/cron.d/fleet
            exec cron -f
        "#;
        let mut command = Command::new("unshare");
        command.args(["--mount", "--propagation", "private", "sh", "-c", script, "sh"]).arg(table).stdin(Stdio::null());
        Cron(command.spawn().unwrap())
    }
}

impl Drop for Cron {
    fn drop(&mut self) {
        let _gone = self.0.kill();
        let _reaped = self.0.wait();
    }
}

fn has_cron() -> bool {
    let found = || {
        Command::new("sh")
            .args(["-c", "command -v cron"])
            .stdout(Stdio::null())
            .status()
            .is_ok_and(|status| status.success())
    };
    if found() {
        return true;
    }
    let mut install = Command::new("apt-get");
    install
        .args(["-o", "DPkg::Lock::Timeout=60", "install", "-y", "--no-install-recommends", "cron"])
        .env("DEBIAN_FRONTEND", "noninteractive");
    install
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .status()
        .is_ok_and(|status| status.success())
        && found()
}

#[test]
fn a_real_crontab_line() {
    const STORY: &str = "a real crontab line";
    if !disk::may_mount() {
        return disk::skip(STORY, "only root can start a cron daemon of its own");
    }
    if !has_cron() {
        return disk::skip(STORY, "there is no cron here and it could not be installed");
    }
    let fleet = Fleet::up(2);
    fleet.deploy(&Workspace::built().example("hello"), &["--segments", "1"]).expect(0);
    let (table, said, codes) =
        (fleet.folder().join("crontab"), fleet.folder().join("said"), fleet.folder().join("codes"));
    fs::write(&codes, "").unwrap();
    fs::write(&said, "").unwrap();
    let text = format!(
        "HOME={home}\nXDG_CONFIG_HOME={home}/config\nMAILTO=\"\"\n* * * * * root {line} >>{said} 2>&1; echo $? >>{codes}\n",
        home = fleet.folder().display(),
        line = line(),
        said = said.display(),
        codes = codes.display()
    );
    fs::write(&table, text).unwrap();
    let _cron = Cron::start(&table);

    let codes = || fs::read_to_string(&codes).unwrap();
    until("cron has run the line", || (!codes().is_empty()).then_some(()));
    assert_eq!(
        (codes().as_str(), fs::read_to_string(&said).unwrap().as_str()),
        ("0\n", ""),
        "silent and 0 when all is well"
    );
    fs::write(fleet.current("n2", "hello").join("planted"), "x").unwrap();
    until("cron has run the line again", || (codes().lines().count() == 2).then_some(()));
    assert_eq!(codes(), "0\n2\n", "2 when not");
    let said = fs::read_to_string(&said).unwrap();
    assert!(said.contains("n2") && said.contains("planted"), "a table when not: {said}");
}
