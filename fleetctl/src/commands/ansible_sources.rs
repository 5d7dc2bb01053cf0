//! How the inventories of `-i` are read: passwords of vaults, whose rules hold, and what reads what only Python can.
//!
//! Scripts are run and plugins are handed to an installed `ansible-inventory`, because whoever names one asks for that.

use std::path::PathBuf;

use ansible_compat::{Edition, Inventory, Passwords, Playbook, Plugins, Reading, Scripts, Source};

use super::ansible_config;
use crate::failure::Failure;

/// How inventories are read.
#[derive(Debug, Clone, Default, clap::Args)]
#[command(next_help_heading = "How inventories are read")]
pub struct HowRead {
    /// A vault id and the file or script with its password; may be repeated
    #[arg(long, value_name = "NAME@FILE")]
    vault_id: Vec<String>,
    /// A file or script with a vault password; may be repeated
    #[arg(long, value_name = "FILE")]
    vault_password_file: Vec<PathBuf>,
    /// The ansible-core whose rules hold, 2.16 to 2.19 [default: 2.19]
    #[arg(long, value_name = "VERSION")]
    ansible_version: Option<Edition>,
}

impl HowRead {
    /// Whose rules hold.
    pub fn edition(&self) -> Edition {
        self.ansible_version.unwrap_or_default()
    }

    /// Reads the inventories, or those that `ansible.cfg` names where there are none.
    ///
    /// # Errors
    /// 64 if there is none at all; 65 if one cannot be read in full, or a password cannot.
    pub fn load(&self, arguments: &[String], playbook: Playbook) -> Result<Inventory, Failure> {
        let sources: Vec<Source> = match arguments {
            [] => ansible_config::default_sources()?,
            given => given.iter().map(|argument| Source::from_argument(argument)).collect(),
        };
        if sources.is_empty() {
            return Err(Failure::usage("no inventory is named").help("name one with -i, or in ansible.cfg"));
        }
        let passwords = Passwords::read(&self.vault_id, &self.vault_password_file)
            .map_err(|e| Failure::data("cannot read a vault password").caused_by(&e))?;
        let plugins = installed("ansible-inventory").map_or(Plugins::Refuse, Plugins::Delegate);
        let reading = Reading { edition: self.edition(), scripts: Scripts::Run, plugins, passwords, playbook };
        reading.load(&sources).map_err(|e| Failure::data("cannot read the inventory").caused_by(&e))
    }
}

fn installed(program: &str) -> Option<PathBuf> {
    let path = std::env::var_os("PATH").unwrap_or_default();
    std::env::split_paths(&path).map(|folder| folder.join(program)).find(|file| file.is_file())
}
