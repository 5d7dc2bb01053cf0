//! How inventories are read: which Ansible is answered for, what may be run, which passwords are known.
//!
//! `Inventory::load` runs nothing and knows no password. What is permitted here, a user asked for.

use std::collections::HashMap;
use std::path::{Path, PathBuf};

use serde_json::Value;

use crate::edition::Edition;
use crate::error::{Error, Fault};
use crate::inventory::{Inventory, script};
use crate::model::{Model, Vars};
use crate::program::output_of;
use crate::source::Source;
use crate::text::json;
use crate::text::node::{Kind, Node};
use crate::text::yaml;
use crate::vars_files::{Owners, VarsFiles};
use crate::vault::passwords::Passwords;

/// How inventories are read. The default runs nothing.
#[derive(Clone, Debug, Default)]
pub struct Reading {
    /// Which Ansible is answered for.
    pub edition: Edition,
    /// What happens to executable inventories.
    pub scripts: Scripts,
    /// What happens to inventories that only Python code can read.
    pub plugins: Plugins,
    /// Passwords for files that are vaults.
    pub passwords: Passwords,
    /// Whose `group_vars` and `host_vars` count besides those of the inventory.
    pub playbook: Playbook,
}

/// What happens to executable inventories (dynamic inventory scripts).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Scripts {
    /// They are refused by name.
    #[default]
    Refuse,
    /// They are run with `--list`, and with `--host NAME` where that told no variables of hosts.
    Run,
}

/// What happens to configurations of inventory plugins and to TOML.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum Plugins {
    /// They are refused by name.
    #[default]
    Refuse,
    /// This `ansible-inventory` reads all sources, with its own configuration.
    Delegate(PathBuf),
}

/// The directory of the playbook, whose variables are stronger than those beside the inventory.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum Playbook {
    /// There is none.
    #[default]
    None,
    /// It was named: `--playbook-dir`.
    Named(PathBuf),
    /// It was not, and Ansible takes the working directory: its variables are in what hosts have, and not among those
    /// of the groups and hosts themselves (`--export`).
    Working(PathBuf),
}

impl Reading {
    /// Reads sources in the given order; later ones win where they say different things.
    ///
    /// # Errors
    /// If any source cannot be read in full. Ansible would warn and go on with the rest; a fleet list with holes is
    /// worse than none, so this does not.
    pub fn load(&self, sources: &[Source]) -> Result<Inventory, Error> {
        match (self.load_here(sources), &self.plugins) {
            (Err(Error::NeedsPlugin { .. }), Plugins::Delegate(program)) => self.delegate(program, sources),
            (loaded, Plugins::Refuse | Plugins::Delegate(_)) => loaded,
        }
    }

    fn load_here(&self, sources: &[Source]) -> Result<Inventory, Error> {
        let mut model = Model::new(self.edition);
        for source in sources {
            source.read(self, &mut model)?;
        }
        settle(&mut model, sources)?;
        let mut bases: Vec<PathBuf> = Vec::new();
        for base in sources.iter().filter_map(Source::base) {
            // Only the last mention of a directory can change anything.
            bases.retain(|known| *known != base);
            bases.push(base);
        }
        let mut files = Vec::new();
        for base in bases {
            files.push(VarsFiles::load(&base, Owners::All, &self.passwords, &mut model)?);
        }
        let playbook = match &self.playbook {
            Playbook::None => None,
            Playbook::Named(folder) => Some(VarsFiles::load(folder, Owners::All, &self.passwords, &mut model)?),
            Playbook::Working(folder) => {
                Some(VarsFiles::load(folder, Owners::HostsAndTheirGroups, &self.passwords, &mut model)?)
            }
        };
        let mut inventory = Inventory::settled(model, files);
        match (&self.playbook, playbook) {
            (Playbook::Named(_), Some(found)) => inventory.files.push(found),
            (Playbook::Working(_), found) => inventory.working = found,
            (Playbook::None | Playbook::Named(_), _) => {}
        }
        Ok(inventory)
    }

    /// Has the real one read all sources: a plugin such as `constructed` builds on what the others say.
    fn delegate(&self, program: &Path, sources: &[Source]) -> Result<Inventory, Error> {
        let exported = self.ask_ansible(program, sources, &["--list", "--export"])?;
        let mut model = Model::new(self.edition);
        // It tells the variables of every host that has some.
        let mut silent = |_: &str| Ok(Node { line: 0, kind: Kind::Map(Vec::new()) });
        script::read(&exported, &mut model, &mut silent).map_err(|fault| fault.in_file(program))?;
        settle(&mut model, sources)?;
        let merged = self.ask_ansible(program, sources, &["--list"])?.value();
        let mut hosts = HashMap::new();
        for (name, vars) in merged.pointer("/_meta/hostvars").and_then(Value::as_object).into_iter().flatten() {
            if let (Some(&host), Some(vars)) = (model.host_index.get(name), vars.as_object()) {
                hosts.insert(host, vars.clone().into_iter().collect::<Vars>());
            }
        }
        let mut inventory = Inventory::settled(model, Vec::new());
        inventory.merged = Some(hosts);
        Ok(inventory)
    }

    fn ask_ansible(&self, program: &Path, sources: &[Source], action: &[&str]) -> Result<Node, Error> {
        let written: Vec<String> = sources.iter().map(Source::to_string).collect();
        let mut arguments: Vec<&str> = written.iter().flat_map(|source| ["-i", source.as_str()]).collect();
        arguments.extend(self.passwords.arguments.iter().flat_map(|argument| ["--vault-id", argument.as_str()]));
        let folder = match &self.playbook {
            Playbook::Named(folder) => folder.display().to_string(),
            Playbook::None | Playbook::Working(_) => String::new(),
        };
        if !folder.is_empty() {
            arguments.extend(["--playbook-dir", folder.as_str()]);
        }
        arguments.extend(action);
        // A source it passes over would be a hole in the fleet.
        let strict = [("ANSIBLE_INVENTORY_ANY_UNPARSED_IS_FAILED", "true"), ("LC_ALL", "C.UTF-8")];
        let told = output_of(program, &arguments, &strict);
        told.and_then(|bytes| printed(&bytes)).map_err(|fault| fault.in_file(program))
    }

    /// Runs an inventory script and reads what it prints.
    pub(crate) fn run_script(&self, path: &Path, model: &mut Model) -> Result<(), Fault> {
        if self.scripts == Scripts::Refuse {
            return Err(Fault::recognised("an executable script or program (dynamic inventory)", RUN_IT_YOURSELF));
        }
        // As Ansible does: not looked for on PATH.
        let program = path.canonicalize().map_err(|cause| {
            Fault::invalid(format!("the script cannot be found: {cause}"), "check that this user may run it")
        })?;
        let listed = printed(&output_of(&program, &["--list"], &[])?)?;
        let edition = self.edition;
        script::read(&listed, model, &mut |host| {
            output_of(&program, &["--host", host], &[])
                .and_then(|bytes| said_of_host(&bytes, edition))
                .map_err(|fault| Fault { text: format!("with `--host {host}` {}", fault.text), ..fault })
        })
    }
}

/// What to do about inventories that are code.
pub(crate) const RUN_IT_YOURSELF: &str = "run `ansible-inventory -i FILE --list --yaml --export > hosts.yml` and import hosts.yml; a plain text file must not be executable";

/// Settles the whole; what is wrong only with the whole is put to all its sources.
fn settle(model: &mut Model, sources: &[Source]) -> Result<(), Error> {
    let all_sources = || sources.iter().map(Source::to_string).collect::<Vec<_>>().join(", ");
    model.reconcile().map_err(|fault| fault.in_file(Path::new(&all_sources())))
}

fn printed(bytes: &[u8]) -> Result<Node, Fault> {
    let text = text_of(bytes)?;
    json::parse(text).unwrap_or_else(|| {
        Err(Fault::invalid("what the program prints is not JSON", "have it print a dictionary of groups as JSON"))
    })
}

fn text_of(bytes: &[u8]) -> Result<&str, Fault> {
    std::str::from_utf8(bytes)
        .map_err(|_| Fault::invalid("what the program prints is not UTF-8", "have it print UTF-8"))
}

fn said_of_host(bytes: &[u8], edition: Edition) -> Result<Node, Fault> {
    match edition {
        // Nothing at all is a YAML document that holds nothing, and that is no dictionary.
        Edition::Core2_18 => {
            let text = text_of(bytes)?;
            json::parse(text).unwrap_or_else(|| yaml::parse(text))
        }
        Edition::Core2_19 if bytes.trim_ascii().is_empty() => Ok(Node { line: 0, kind: Kind::Map(Vec::new()) }),
        Edition::Core2_19 => printed(bytes),
    }
}
