//! The agent's own look at files and processes, in a process of its own, so that its cost can be told from everybody
//! else's: this program started again as `--look PLAN`. It is told what to look at line by line and answers with what
//! that cost and found. The one place of the measurements that calls the agent's library.

use std::io::{BufRead as _, BufReader, Write as _};
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};
use std::time::Instant;

use anyhow::{Context as _, bail};
use fleet::ReleaseId;
use fleet::manifest::Manifest;
use fleet_agent::known::Known;
use fleet_agent::platform::linux::LinuxObserver;
use fleet_agent::platform::{Look, Observer, Running, Scope, ServicePlace};
use serde::{Deserialize, Serialize};

use crate::{process, procfs};

/// The first argument that makes this program such a process.
pub const WORD: &str = "--look";

/// One service to be looked at.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Service {
    /// Its root.
    pub root: PathBuf,
    /// The release it holds.
    pub release: ReleaseId,
    /// The file with that release's manifest.
    pub manifest: PathBuf,
    /// Its main process.
    pub main: i32,
}

/// What one look cost and found.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Looked {
    /// Wall clock, in seconds.
    pub wall_s: f64,
    /// CPU time of all threads, in seconds.
    pub cpu_s: f64,
    /// Bytes that were read, of /proc too.
    pub read: u64,
    /// The most memory that the looking process ever had, in KiB.
    pub most_rss_kib: u64,
    /// How many files differ from the manifest.
    pub deviations: u64,
    /// How many processes of the service were seen.
    pub processes: usize,
}

/// At what to look.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum At {
    /// Files, and processes that have to do with the services' directories.
    All,
    /// The same processes alone.
    Processes,
    /// All processes of the machine: what others run here is read and hashed as well, the first time.
    Machine,
}

impl At {
    const ALL: [At; 3] = [At::All, At::Processes, At::Machine];

    fn word(self) -> &'static str {
        match self {
            At::All => "all",
            At::Processes => "processes",
            At::Machine => "machine",
        }
    }
}

/// The other process.
pub struct Looker {
    child: Child,
    to: Option<ChildStdin>,
    from: BufReader<ChildStdout>,
}

impl Looker {
    /// Starts it; `plan` is where the services are written to.
    ///
    /// # Errors
    /// It does not start.
    pub fn start(plan: &Path, services: &[Service]) -> anyhow::Result<Self> {
        std::fs::write(plan, serde_json::to_vec(services)?).context("cannot write the plan")?;
        let mut child = Command::new(std::env::current_exe()?)
            .arg(WORD)
            .arg(plan)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .context("cannot start this program again")?;
        let (to, from) = (child.stdin.take(), child.stdout.take().context("it has no output")?);
        Ok(Self { child, to, from: BufReader::new(from) })
    }

    /// The command that makes one look at all of the first service and ends.
    ///
    /// # Errors
    /// Where is this program?
    pub fn once(plan: &Path) -> anyhow::Result<Command> {
        let mut command = Command::new(std::env::current_exe()?);
        command.arg(WORD).arg(plan).arg("once");
        Ok(command)
    }

    /// Has it look at a service.
    ///
    /// # Errors
    /// It has ended.
    pub fn look(&mut self, service: usize, at: At) -> anyhow::Result<Looked> {
        let to = self.to.as_mut().context("it has no input")?;
        writeln!(to, "{} {service}", at.word()).context("the looking process has ended")?;
        let mut line = String::new();
        self.from.read_line(&mut line)?;
        serde_json::from_str(&line).with_context(|| format!("the looking process says {line:?}"))
    }
}

impl Drop for Looker {
    fn drop(&mut self) {
        self.to = None;
        // It ends when nobody asks any more; if it has ended already, so much the better.
        let _ = self.child.wait();
    }
}

/// What the other process does.
///
/// # Errors
/// The plan cannot be read, or a look fails.
pub fn answer(mut words: impl Iterator<Item = String>) -> anyhow::Result<()> {
    let plan = PathBuf::from(words.next().context("no plan")?);
    let services: Vec<Service> = serde_json::from_slice(&std::fs::read(&plan)?).context("the plan cannot be read")?;
    let manifests: Vec<Manifest> = services
        .iter()
        .map(|service| Ok(serde_json::from_slice(&std::fs::read(&service.manifest)?)?))
        .collect::<anyhow::Result<_>>()?;
    let above = services.first().and_then(|service| service.root.parent()).context("no service")?;
    let observe = |scope| LinuxObserver::new(scope, above.to_owned()).context("no observer");
    // Each its own: an observer that is shown a service without files forgets what it knew of them.
    let (own, processes, machine) = (observe(Scope::Root)?, observe(Scope::Root)?, observe(Scope::Machine)?);
    let mut out = std::io::stdout().lock();
    if words.next().is_some() {
        writeln!(out, "{}", serde_json::to_string(&one(&own, &services[0], &manifests[0], At::All)?)?)?;
        return Ok(());
    }
    for line in std::io::stdin().lock().lines() {
        let line = line?;
        let (word, number) = line.split_once(' ').context("not a wish")?;
        let number: usize = number.parse()?;
        let service = services.get(number).context("no such service")?;
        let at = At::ALL.into_iter().find(|at| at.word() == word).context("not a wish")?;
        let observer = match at {
            At::All => &own,
            At::Processes => &processes,
            At::Machine => &machine,
        };
        writeln!(out, "{}", serde_json::to_string(&one(observer, service, &manifests[number], at)?)?)?;
        out.flush()?;
    }
    Ok(())
}

fn one(observer: &LinuxObserver, service: &Service, manifest: &Manifest, at: At) -> anyhow::Result<Looked> {
    let name = service.root.file_name().and_then(|name| name.to_str()).context("the root has no name")?;
    let place = ServicePlace { service: name.parse()?, root: service.root.clone() };
    let started = procfs::one(service.main).context("the service's process has ended")?.started;
    let running = Running {
        pid: u32::try_from(service.main)?,
        start_ticks: started,
        boot_id: observer.boot_id(),
        release: service.release.clone(),
    };
    let look = Look {
        place: &place,
        held: (at == At::All).then_some((&service.release, manifest)),
        running: Some(&running),
        known: &Known::default(),
        neighbours: &[],
        activated: None,
    };
    let me = process::own_pid();
    let (begun, cpu, read) = (Instant::now(), procfs::on_cpu(me)?, bytes_read()?);
    let seen = observer.look(&look).context("the look failed")?;
    let wall_s = begun.elapsed().as_secs_f64();
    Ok(Looked {
        wall_s,
        cpu_s: procfs::on_cpu(me)?.saturating_sub(cpu).as_secs_f64(),
        read: bytes_read()? - read,
        most_rss_kib: most_rss_kib()?,
        deviations: seen.files.len() as u64 + seen.files_omitted,
        processes: seen.processes.len(),
    })
}

/// The most memory that this process ever had since it was executed. What `wait4` says of a child is at least what its
/// parent had when it was started.
///
/// # Errors
/// /proc does not say.
pub fn most_rss_kib() -> anyhow::Result<u64> {
    let text = std::fs::read_to_string("/proc/self/status").context("cannot read /proc/self/status")?;
    let field = text.lines().find_map(|line| line.strip_prefix("VmHWM:")?.trim().strip_suffix(" kB"));
    field.and_then(|field| field.trim().parse().ok()).context("/proc/self/status has an unknown form")
}

/// Bytes that this process has read by system calls until now.
fn bytes_read() -> anyhow::Result<u64> {
    let text = std::fs::read_to_string("/proc/self/io").context("cannot read /proc/self/io")?;
    let count = text.lines().find_map(|line| line.strip_prefix("rchar:"));
    match count.and_then(|count| count.trim().parse().ok()) {
        Some(count) => Ok(count),
        None => bail!("/proc/self/io has an unknown form"),
    }
}
