//! AIDE as a peer: a configuration and a database of its own for one tree, and its check of it.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context as _, bail};

use crate::cost::{self, Cost};
use crate::process;

/// What AIDE is to compare.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Compare {
    /// Everything, SHA-256 of the contents among it.
    Contents,
    /// What a stat says.
    Stats,
}

/// AIDE with its database.
#[derive(Debug)]
pub struct Aide {
    program: PathBuf,
    config: PathBuf,
    log: PathBuf,
}

impl Aide {
    /// Takes stock of `tree`; what it writes lies in `dir`.
    ///
    /// # Errors
    /// It is not installed, or fails: then there is no peer.
    pub fn init(tree: &Path, dir: &Path, compare: Compare) -> anyhow::Result<Self> {
        let program = process::find("aide").context("no aide (Debian: aide)")?;
        fs::create_dir_all(dir)?;
        let (config, log) = (dir.join("aide.conf"), dir.join("aide.log"));
        let rule = match compare {
            Compare::Contents => "p+i+n+u+g+s+m+c+sha256",
            Compare::Stats => "p+i+n+u+g+s+m+c",
        };
        // A line that selects is a regular expression of which paths begin so.
        let path = tree.display().to_string().replace('.', "\\.");
        let text = format!(
            "database_in=file:{0}/aide.db\ndatabase_out=file:{0}/aide.db.new\nnum_workers=2\n{path} {rule}\n",
            dir.display()
        );
        fs::write(&config, text)?;
        let aide = Self { program, config, log };
        cost::of(&mut aide.command("--init"), &aide.log)?;
        fs::rename(dir.join("aide.db.new"), dir.join("aide.db")).context("aide has made no database")?;
        Ok(aide)
    }

    fn command(&self, what: &str) -> Command {
        let mut command = Command::new(&self.program);
        command.arg("--config").arg(&self.config).arg(what);
        command
    }

    /// One check, which must find `files` files and nothing that differs.
    ///
    /// # Errors
    /// It fails, or finds something else.
    pub fn check(&self, files: usize) -> anyhow::Result<Cost> {
        let cost = cost::of(&mut self.command("--check"), &self.log)?;
        let text = fs::read_to_string(&self.log)?;
        let count = text.lines().find_map(|line| line.split_once("Number of entries:")).map(|(_, count)| count.trim());
        let count: usize = count.and_then(|count| count.parse().ok()).unwrap_or(0);
        if count < files || !text.contains("NO differences") {
            bail!("void: aide has looked at {count} entries instead of {files} files\n{}", process::tail(&self.log));
        }
        Ok(cost)
    }
}
