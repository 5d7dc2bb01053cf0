//! Where a measurement takes place: a directory of its own that goes with everything in it, the programs that are
//! measured, built, and no process that outlives it.

use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use anyhow::{Context as _, bail};

use crate::process::{self, Descendants};

/// Building the programs that are measured, from nothing, on a slow machine.
const BUILD_LIMIT: Duration = Duration::from_secs(3_600);
/// The programs that are measured.
const PACKAGES: [&str; 4] = ["fleetctl", "fleet-controller", "fleet-agent", "hello"];
/// What these packages make.
const PROGRAMS: [&str; 5] = ["fleetctl", "fleet-controller", "fleet-agent", "hello-v1", "hello-v2"];

/// Whether figures are wanted, or only that everything works.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Earnest {
    /// Release programs only.
    Measurement,
    /// Debug programs too: nothing that comes out of it is a figure.
    Rehearsal,
}

/// The place. Dropped from the first field to the last: whatever still runs, then the directory.
#[derive(Debug)]
pub struct Workplace {
    _descendants: Descendants,
    _removed: Removed,
    /// Its directory.
    pub dir: PathBuf,
    /// Where the programs are.
    pub programs: PathBuf,
}

impl Workplace {
    /// Makes the directory, and sees to the programs.
    ///
    /// # Errors
    /// This is a debug build and figures are wanted, or something cannot be made or built.
    pub fn make(earnest: Earnest, say: &dyn Fn(&str)) -> anyhow::Result<Self> {
        match earnest {
            Earnest::Measurement if cfg!(debug_assertions) => {
                bail!("a debug build measures nothing: cargo run --release -p fleet-benches -- b1")
            }
            Earnest::Rehearsal => say("a rehearsal: its figures mean nothing"),
            Earnest::Measurement => {}
        }
        let programs = std::env::current_exe().context("where is this program?")?;
        let programs = programs.parent().context("this program lies nowhere")?.to_owned();
        let dir = tempfile::Builder::new().prefix("fleet-bench.").tempdir().context("cannot make a directory")?.keep();
        let dir = dir.canonicalize().context("cannot make a directory")?;
        let removed = Removed(dir.clone());
        let place = Self { _descendants: Descendants::adopt()?, _removed: removed, dir, programs };
        place.build(say)?;
        Ok(place)
    }

    /// Where what takes long to install is kept between two runs: beside the programs.
    pub fn kept(&self) -> PathBuf {
        self.programs.parent().unwrap_or(&self.programs).join("bench")
    }

    /// Builds what is measured, if cargo runs this program; else it has to lie beside it.
    fn build(&self, say: &dyn Fn(&str)) -> anyhow::Result<()> {
        let release = !cfg!(debug_assertions);
        if let (Some(cargo), Some(here)) = (std::env::var_os("CARGO"), std::env::var_os("CARGO_MANIFEST_DIR")) {
            say("building what is measured (minutes the first time)");
            let mut command = Command::new(cargo);
            command.args(["build", "--locked"]).args(release.then_some("--release")).current_dir(here);
            command.args(PACKAGES.iter().flat_map(|package| ["-p", package]));
            process::succeed(&mut command, &self.dir.join("build.log"), BUILD_LIMIT)?;
        }
        for name in PROGRAMS {
            if !self.programs.join(name).is_file() {
                let packages = PACKAGES.map(|package| format!("-p {package}")).join(" ");
                bail!("{name} is not in {}: cargo build --release {packages}", self.programs.display());
            }
        }
        Ok(())
    }
}

/// A directory that goes when this is dropped, also where a release has made its directories read-only.
#[derive(Debug)]
struct Removed(PathBuf);

impl Drop for Removed {
    fn drop(&mut self) {
        open_directories(&self.0);
        // What cannot be removed lies in the temporary directory and hurts nobody.
        let _ = fs::remove_dir_all(&self.0);
    }
}

fn open_directories(dir: &Path) {
    let _ = fs::set_permissions(dir, fs::Permissions::from_mode(0o700));
    let Ok(entries) = fs::read_dir(dir) else { return };
    for entry in entries.flatten().filter(|entry| entry.file_type().is_ok_and(|kind| kind.is_dir())) {
        open_directories(&entry.path());
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn a_directory_with_closed_directories_goes() {
        let dir = tempfile::tempdir().unwrap().keep();
        fs::create_dir_all(dir.join("a/b")).unwrap();
        fs::write(dir.join("a/b/c"), "x").unwrap();
        for closed in ["a/b", "a"] {
            fs::set_permissions(dir.join(closed), fs::Permissions::from_mode(0o500)).unwrap();
        }
        drop(Removed(dir.clone()));
        assert!(!dir.exists());
    }
}
