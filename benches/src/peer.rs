//! The peer's side: ansible-core in a virtual environment of its own, hosts that are directories and ports of this
//! machine, and one `ansible-playbook` per run. What it starts is ended with all other descendants of this program.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use anyhow::{Context as _, bail};

use crate::ansible::{self, Connection, Host, VERSION};
use crate::b1::Sample;
use crate::interrupt::Interrupted;
use crate::ours::{SEGMENTS, copy_program};
use crate::{process, procfs, sshd};

/// Downloading and unpacking ansible-core.
const INSTALL_LIMIT: Duration = Duration::from_secs(600);
/// One playbook.
const LIMIT: Duration = Duration::from_secs(600);
/// Asking a program for its version.
const VERSION_LIMIT: Duration = Duration::from_secs(60);

/// Makes sure that ansible-core lies in `venv`, and says so.
///
/// # Errors
/// There is no python3, or the installation fails: then there is no peer.
pub fn install(venv: &Path, log: &Path, say: &dyn Fn(&str)) -> anyhow::Result<()> {
    let python = process::find("python3").context("python3 is not on PATH")?;
    let is_there = || {
        let mut command = Command::new(venv.join("bin/ansible-playbook"));
        let asked = process::run(command.arg("--version").env("LC_ALL", "C.UTF-8"), log, VERSION_LIMIT);
        asked.is_ok_and(|ran| ran.status.success()) && process::tail(log).contains(VERSION)
    };
    if is_there() {
        return Ok(());
    }
    say(&format!("installing ansible-core {VERSION} into {} (once)", venv.display()));
    let mut make = Command::new(python);
    process::succeed(make.args(["-m", "venv", "--clear"]).arg(venv), log, INSTALL_LIMIT)?;
    let mut pip = Command::new(venv.join("bin/python"));
    pip.args(["-m", "pip", "--quiet", "--disable-pip-version-check", "install", &format!("ansible-core=={VERSION}")]);
    process::succeed(&mut pip, log, INSTALL_LIMIT)?;
    if !is_there() {
        bail!("ansible-core {VERSION} was installed into {} but does not answer", venv.display());
    }
    Ok(())
}

/// Hosts, and how Ansible reaches them.
#[derive(Debug)]
pub struct Peer {
    dir: PathBuf,
    venv: PathBuf,
    hosts: Vec<Host>,
    sshd: Option<sshd::Sshd>,
}

/// Which form of the peer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Form {
    /// No connection.
    Local,
    /// OpenSSH on loopback.
    Ssh,
}

impl Peer {
    /// How many ports it takes: for the hosts' services, and one for sshd.
    pub fn ports(nodes: u16) -> u16 {
        nodes + 1
    }

    /// Lays out the hosts in `dir`, on the ports from `first` on (as many as [`Self::ports`] says), with the service's
    /// program in each; only the payload is left for the playbook, which reads it from `payload` at each run.
    ///
    /// # Errors
    /// Something cannot be written, or sshd does not start.
    pub fn prepare(
        form: Form,
        dir: PathBuf,
        venv: &Path,
        hello: &Path,
        payload: &Path,
        nodes: u16,
        first: u16,
    ) -> anyhow::Result<Self> {
        fs::create_dir(&dir).with_context(|| format!("cannot make {}", dir.display()))?;
        let hosts: Vec<Host> = (1..=nodes)
            .map(|number| Host { number, root: dir.join(format!("h{number}")), port: first + number })
            .collect();
        for host in &hosts {
            fs::create_dir_all(host.root.join("bin"))
                .with_context(|| format!("cannot make {}", host.root.display()))?;
            copy_program(hello, &host.root.join("bin/hello"))?;
        }
        let sshd = match form {
            Form::Local => None,
            Form::Ssh => {
                let program = sshd::program().context("no sshd")?;
                Some(sshd::start(&program, &dir.join("ssh"), &hosts, first)?)
            }
        };
        let connection = sshd.as_ref().map_or(Connection::Local, |sshd| sshd.connection.clone());
        let write = |name: &str, text: String| {
            fs::write(dir.join(name), text).with_context(|| format!("cannot write {name} in {}", dir.display()))
        };
        write("ansible.cfg", ansible::config(&dir, nodes))?;
        write("inventory.yml", ansible::inventory(&hosts, &connection, &venv.join("bin/python")))?;
        write("play.yml", ansible::playbook(payload, nodes.div_ceil(SEGMENTS)))?;
        Ok(Self { dir, venv: venv.to_owned(), hosts, sshd })
    }

    /// Runs the playbook, and checks that every host has the payload and a new process. `daemons` are those of our own
    /// side, whose CPU time is not the peer's.
    ///
    /// # Errors
    /// The playbook fails, or a host does not have or run what was deployed.
    pub fn deploy(&self, payload: &Path, daemons: &[i32]) -> anyhow::Result<Sample> {
        let mut command = Command::new(self.venv.join("bin/ansible-playbook"));
        command.args(["-i", "inventory.yml", "play.yml"]).current_dir(&self.dir);
        command.env("ANSIBLE_CONFIG", self.dir.join("ansible.cfg")).env("ANSIBLE_HOME", self.dir.join("home"));
        command.env("LC_ALL", "C.UTF-8").env_remove("SSH_AUTH_SOCK");
        let old = self.services();

        let before = procfs::cpu(&others(daemons))?;
        let ran = process::succeed(&mut command, &self.dir.join("play.log"), LIMIT);
        let wall = ran.map_err(|error| match &self.sshd {
            Some(sshd) if !error.is::<Interrupted>() => error.context(format!("sshd says: {}", sshd.said())),
            _ => error,
        })?;
        let cpu = procfs::cpu(&others(daemons))?.saturating_sub(before);

        let wanted = fs::read(payload).context("cannot read the payload")?;
        let new = self.services();
        for host in &self.hosts {
            if fs::read(host.root.join("payload.bin")).ok().as_ref() != Some(&wanted) {
                bail!("void: {} does not have the payload that was deployed", host.name());
            }
            match new.get(&host.number) {
                None => bail!("void: {} does not run {}", host.name(), host.root.join("bin/hello").display()),
                Some(service) if old.get(&host.number) == Some(service) => {
                    bail!("void: {} was not restarted", host.name())
                }
                Some(_) => {}
            }
        }
        Ok(Sample { wall, cpu })
    }

    /// Pid and start time of the service of each host that runs one.
    fn services(&self) -> BTreeMap<u16, (i32, u64)> {
        let running = |host: &Host| {
            let pid: i32 = fs::read_to_string(host.root.join("service.pid")).ok()?.trim().parse().ok()?;
            let program = fs::read_link(format!("/proc/{pid}/exe")).ok()?;
            let wanted = host.root.join("bin/hello").canonicalize().ok()?;
            (program == wanted).then_some((pid, procfs::one(pid)?.started))
        };
        self.hosts.iter().filter_map(|host| Some((host.number, running(host)?))).collect()
    }
}

/// The children of this program that are not our own side's.
fn others(daemons: &[i32]) -> Vec<i32> {
    process::own_children().into_iter().filter(|pid| !daemons.contains(pid)).collect()
}
