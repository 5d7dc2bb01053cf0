//! Stopping a development fleet, or parts of it: agents first, so that none starts its service again, then the
//! services they left running, then balancer and controller. Also cleans up after crashes: services are found by their
//! marks, not by anybody's memory.

use std::path::Path;

use super::layout::Layout;
use super::process::{Identified, PidFile, services_below};
use crate::failure::Failure;

/// How many processes were stopped.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Stopped {
    /// Controller, balancer and agents.
    pub programs: usize,
    /// Processes of services.
    pub services: usize,
}

/// The names on record in the directory of pid files.
pub fn on_record(layout: &Layout) -> Vec<String> {
    let Ok(entries) = std::fs::read_dir(layout.run()) else { return Vec::new() };
    let mut names: Vec<String> =
        entries.flatten().filter_map(|e| e.file_name().to_str()?.strip_suffix(".pid").map(str::to_owned)).collect();
    names.sort();
    names
}

/// Stops everything.
///
/// # Errors
/// 1 if something cannot be stopped.
pub fn all(layout: &Layout) -> Result<Stopped, Failure> {
    let names = on_record(layout);
    let (agents, others): (Vec<_>, Vec<_>) = names.into_iter().partition(|name| name.starts_with("agent-"));
    let mut stopped = Stopped::default();
    stopped.programs += programs(layout, &agents);
    stopped.services += services(&layout.nodes())?;
    stopped.programs += programs(layout, &others);
    Ok(stopped)
}

/// Stops one node: its agent, then its services.
///
/// # Errors
/// 1 if something cannot be stopped.
pub fn node(layout: &Layout, name: &str) -> Result<Stopped, Failure> {
    let programs = programs(layout, &[format!("agent-{name}")]);
    Ok(Stopped { programs, services: services(&layout.node(name))? })
}

/// The service processes of one node.
pub fn services_of(layout: &Layout, name: &str) -> Vec<Identified> {
    let dir = layout.node(name);
    services_below(&dir.canonicalize().unwrap_or(dir))
}

fn programs(layout: &Layout, names: &[String]) -> usize {
    let running: Vec<(PidFile, Option<Identified>)> = names
        .iter()
        .map(|name| {
            let record = PidFile::new(&layout.run(), name);
            let process = record.running();
            (record, process)
        })
        .collect();
    // All are asked before any is waited for.
    for process in running.iter().filter_map(|(_, p)| p.as_ref()) {
        process.signal(nix::sys::signal::Signal::SIGTERM);
    }
    let mut stopped = 0;
    for (record, process) in running {
        if let Some(process) = process {
            process.stop();
            stopped += 1;
        }
        record.remove();
    }
    stopped
}

/// Stops the service processes below a directory.
///
/// # Errors
/// 1 if one survives being killed.
pub fn services(below: &Path) -> Result<usize, Failure> {
    // /proc names executables by their real path.
    let below = below.canonicalize().unwrap_or_else(|_| below.to_owned());
    let found = services_below(&below);
    for process in &found {
        process.signal(nix::sys::signal::Signal::SIGTERM);
    }
    for process in &found {
        process.stop();
    }
    // A service may have started another process while it was stopped.
    for process in services_below(&below) {
        process.kill();
    }
    match services_below(&below).first() {
        None => Ok(found.len()),
        Some(left) => Err(Failure::failed(format!("pid {} below {} does not stop", left.pid, below.display()))
            .help(format!("look at it: ps -fp {}", left.pid))),
    }
}
