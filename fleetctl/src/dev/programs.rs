//! The programs a development fleet is made of: found beside this one, as built or installed, else on PATH.

use std::path::PathBuf;

use crate::failure::Failure;

/// The controller's program.
pub const CONTROLLER: &str = "fleet-controller";
/// The agent's program.
pub const AGENT: &str = "fleet-agent";

/// Where a program is.
///
/// # Errors
/// 78 if it is in none of the places.
pub fn find(name: &str) -> Result<PathBuf, Failure> {
    let beside = own()?.parent().map(|dir| dir.join(name));
    let path = std::env::var_os("PATH").unwrap_or_default();
    let candidates = beside.into_iter().chain(std::env::split_paths(&path).map(|dir| dir.join(name)));
    candidates.into_iter().find(|candidate| candidate.is_file()).ok_or_else(|| {
        Failure::config(format!("{name} is neither beside fleetctl nor on PATH"))
            .help("build or install all three programs: cargo build -p fleet-controller -p fleet-agent -p fleetctl")
    })
}

/// This program itself.
///
/// # Errors
/// 78 if the system does not say.
pub fn own() -> Result<PathBuf, Failure> {
    std::env::current_exe().map_err(|e| Failure::config("cannot find out where this program lies").caused_by(&e))
}
