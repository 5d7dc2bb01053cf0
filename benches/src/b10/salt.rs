//! The peer: a salt-minion from PyPI with its master on loopback, both with a single worker, idle.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context as _, bail};

use crate::workplace::Workplace;
use crate::{interrupt, ports, process, procfs};

/// The version whose figures are published in the description of B10.
const VERSION: &str = "3008.3";
/// Downloading and unpacking it.
const INSTALL_LIMIT: Duration = Duration::from_secs(600);
/// One call that a minion answers.
const CALL_LIMIT: Duration = Duration::from_secs(60);
/// A minion that does not answer for so long after it was started is given up: its master reads some thousand files first.
const START_LIMIT: Duration = Duration::from_secs(180);
/// Between two calls.
const PAUSE: Duration = Duration::from_secs(3);

/// What it is called.
pub fn name() -> String {
    format!("salt-minion {VERSION}")
}

/// A minion that has answered.
#[derive(Debug)]
pub struct Salt {
    minion: i32,
}

impl Salt {
    /// Installs it if need be, starts master and minion, and has the minion answer.
    ///
    /// # Errors
    /// It cannot be had: then there is no peer.
    pub fn start(place: &Workplace, say: &dyn Fn(&str)) -> anyhow::Result<Self> {
        let venv = place.kept().join("salt");
        install(&venv, &place.dir.join("salt-install.log"), say)?;
        let first = ports::row(2)?;
        let (master, minion) = (place.dir.join("salt/master"), place.dir.join("salt/minion"));
        let write = |dir: &Path, name: &str, text: String| -> anyhow::Result<()> {
            fs::create_dir_all(dir)?;
            Ok(fs::write(dir.join(name), format!("root_dir: {}\n{text}", dir.display()))?)
        };
        let of_master = format!(
            "interface: 127.0.0.1\npublish_port: {first}\nret_port: {}\nworker_threads: 1\nauto_accept: True\n",
            first + 1
        );
        write(&master, "master", of_master)?;
        let of_minion = format!("id: n1\nmaster: 127.0.0.1\npublish_port: {first}\nmaster_port: {}\n", first + 1);
        write(&minion, "minion", of_minion)?;
        daemon(&venv, "salt-master", &master)?;
        let minion = daemon(&venv, "salt-minion", &minion)?;
        let begun = Instant::now();
        while begun.elapsed() < START_LIMIT {
            interrupt::check()?;
            let mut ping = Command::new(venv.join("bin/salt"));
            ping.arg("-c").arg(&master).args(["-t", "10", "n1", "test.ping"]);
            let log = place.dir.join("salt-ping.log");
            let ran = process::run(&mut ping, &log, CALL_LIMIT)?;
            if ran.status.success() && process::tail(&log).contains("True") {
                return Ok(Self { minion });
            }
            say(&format!("the minion does not answer yet ({} s)", begun.elapsed().as_secs()));
            std::thread::sleep(PAUSE);
        }
        bail!("the minion does not answer its master: {}", process::tail(&place.dir.join("salt-ping.log")))
    }

    /// The minion's processes.
    pub fn processes(&self) -> Vec<i32> {
        procfs::family(&procfs::all(), &[self.minion]).iter().map(|member| member.pid).collect()
    }
}

fn daemon(venv: &Path, name: &str, config: &Path) -> anyhow::Result<i32> {
    let log = fs::File::create(config.join("out.log"))?;
    let mut command = Command::new(venv.join("bin").join(name));
    command.arg("-c").arg(config).args(["-l", "warning"]);
    command.stdin(Stdio::null()).stdout(log.try_clone()?).stderr(log);
    let child = command.spawn().with_context(|| format!("cannot start {name}"))?;
    Ok(i32::try_from(child.id())?)
}

fn install(venv: &PathBuf, log: &Path, say: &dyn Fn(&str)) -> anyhow::Result<()> {
    let is_there = || {
        let line = process::first_line(Command::new(venv.join("bin/salt-minion")).arg("--version"));
        line.is_some_and(|line| line.contains(VERSION))
    };
    if is_there() {
        return Ok(());
    }
    let python = process::find("python3").context("python3 is not on PATH")?;
    say(&format!("installing salt {VERSION} into {} (once)", venv.display()));
    if let Some(above) = venv.parent() {
        fs::create_dir_all(above).with_context(|| format!("cannot make {}", above.display()))?;
    }
    process::succeed(Command::new(python).args(["-m", "venv", "--clear"]).arg(venv), log, INSTALL_LIMIT)?;
    let mut pip = Command::new(venv.join("bin/python"));
    pip.args(["-m", "pip", "--quiet", "--disable-pip-version-check", "install", &format!("salt=={VERSION}")]);
    process::succeed(&mut pip, log, INSTALL_LIMIT)?;
    if !is_there() {
        bail!("salt {VERSION} was installed into {} but does not answer", venv.display());
    }
    Ok(())
}
