//! A whole inventory, read and settled: the public face of this crate.
//!
//! Formats are `ini` and `tree`, patterns are `pattern`, JSON output is `export`.

pub(crate) mod ini;
pub(crate) mod script;
pub(crate) mod tree;

use std::collections::{BTreeMap, HashMap};

use serde_json::Value;

use crate::error::{Error, PatternError};
use crate::model::{ALL, Model, Vars};
use crate::pattern::HostPattern;
use crate::pattern::selection::Selection;
use crate::reading::Reading;
use crate::source::Source;
use crate::vars_files::VarsFiles;

/// Hosts, groups and variables of one or more sources, as Ansible sees them together.
#[derive(Debug)]
pub struct Inventory {
    pub(crate) model: Model,
    pub(crate) files: Vec<VarsFiles>,
    /// From the working directory, where Ansible takes it for the playbook's.
    pub(crate) working: Option<VarsFiles>,
    /// What hosts have in the end, where the real Ansible told it.
    pub(crate) merged: Option<HashMap<usize, Vars>>,
}

impl Inventory {
    /// Reads sources in the given order, running nothing and opening no vault; [`Reading`] has more.
    ///
    /// # Errors
    /// As [`Reading::load`].
    pub fn load(sources: &[Source]) -> Result<Self, Error> {
        Reading::default().load(sources)
    }

    pub(crate) fn settled(model: Model, files: Vec<VarsFiles>) -> Self {
        Self { model, files, working: None, merged: None }
    }

    /// Host names in order of first appearance.
    pub fn hosts(&self) -> impl ExactSizeIterator<Item = &str> {
        self.model.hosts.iter().map(|host| host.name.as_str())
    }

    /// Group names in order of first appearance; `all` and `ungrouped` come first.
    pub fn groups(&self) -> impl ExactSizeIterator<Item = &str> {
        self.model.groups.iter().map(|group| group.name.as_str())
    }

    /// Hosts of a group and of the groups below it; absent when there is no such group.
    #[must_use]
    pub fn hosts_of(&self, group: &str) -> Option<Vec<&str>> {
        let &group = self.model.group_index.get(group)?;
        Some(self.names(&self.model.hosts_below(group)))
    }

    /// Groups a host is in, those above them included, sorted by name and without `all`: Ansible's `group_names`.
    /// Absent when there is no such host.
    #[must_use]
    pub fn groups_of(&self, host: &str) -> Option<Vec<&str>> {
        let &host = self.model.host_index.get(host)?;
        let lineage = self.model.hosts[host].lineage.iter().filter(|&&group| group != ALL);
        let mut names: Vec<&str> = lineage.map(|&group| self.model.groups[group].name.as_str()).collect();
        names.sort_unstable();
        Some(names)
    }

    /// The variables of a host after every group and file had its say: `ansible-inventory --host`. Absent when there
    /// is no such host.
    ///
    /// From weak to strong: `all`, then groups by depth, priority and name, all from the inventory; the same again from
    /// `group_vars`; the host's own; `host_vars`. So `group_vars/all` beats `[web:vars]`.
    #[must_use]
    pub fn vars_of(&self, host: &str) -> Option<BTreeMap<String, Value>> {
        let &host = self.model.host_index.get(host)?;
        Some(self.merged_vars(host))
    }

    pub(crate) fn merged_vars(&self, host: usize) -> Vars {
        if let Some(merged) = &self.merged {
            return merged.get(&host).cloned().unwrap_or_default();
        }
        let lineage = &self.model.hosts[host].lineage;
        let mut vars = Vars::new();
        for &group in lineage {
            overlay(&mut vars, Some(&self.model.groups[group].vars));
        }
        // Files of `all` from every source come before files of any other group.
        for files in self.all_files() {
            overlay(&mut vars, files.groups.get(&ALL));
        }
        for files in self.all_files() {
            for group in lineage.iter().filter(|&&group| group != ALL) {
                overlay(&mut vars, files.groups.get(group));
            }
        }
        overlay(&mut vars, Some(&self.model.hosts[host].vars));
        for files in self.all_files() {
            overlay(&mut vars, files.hosts.get(&host));
        }
        self.without_internal(vars)
    }

    fn all_files(&self) -> impl Iterator<Item = &VarsFiles> {
        self.files.iter().chain(&self.working)
    }

    /// Hosts a pattern names, in the pattern's order; parts that match nothing are passed over, as in Ansible. Use
    /// [`Inventory::selection`] to see them.
    ///
    /// # Errors
    /// If the pattern cannot be understood, or a subscript is beyond its group.
    pub fn select(&self, pattern: &str) -> Result<Vec<&str>, PatternError> {
        self.selection(pattern).map(|selection| selection.hosts)
    }

    /// Like [`Inventory::select`], with what deserves a look: parts of the pattern that matched nothing are likely slips
    /// of the pen, and dangerous ones behind a `!`.
    ///
    /// # Errors
    /// As [`Inventory::select`].
    pub fn selection(&self, pattern: &str) -> Result<Selection<'_>, PatternError> {
        HostPattern::of_edition(pattern, self.model.edition)?.select(self)
    }

    /// The hosts a pattern names, in the order of `all`: `--limit PATTERN`.
    ///
    /// # Errors
    /// As [`Inventory::select`].
    pub fn limit(&self, pattern: &str) -> Result<Selection<'_>, PatternError> {
        HostPattern::of_edition(pattern, self.model.edition)?.limit(self)
    }

    /// What Ansible would have warned of while reading, one line each, with its place where it has one.
    #[must_use]
    pub fn warnings(&self) -> &[String] {
        &self.model.warnings
    }

    /// What the inventory and `host_vars` say of the host itself.
    pub(crate) fn own_vars(&self, host: usize) -> Vars {
        let mut vars = self.model.hosts[host].vars.clone();
        for files in &self.files {
            overlay(&mut vars, files.hosts.get(&host));
        }
        vars
    }

    /// What the inventory and `group_vars` say of the group itself.
    pub(crate) fn group_vars(&self, group: usize) -> Vars {
        let mut vars = self.model.groups[group].vars.clone();
        for files in &self.files {
            overlay(&mut vars, files.groups.get(&group));
        }
        vars
    }

    pub(crate) fn names(&self, hosts: &[usize]) -> Vec<&str> {
        hosts.iter().map(|&host| self.model.hosts[host].name.as_str()).collect()
    }
}

/// Values replace each other whole: Ansible's default `hash_behaviour`.
fn overlay(vars: &mut Vars, stronger: Option<&Vars>) {
    for (key, value) in stronger.into_iter().flatten() {
        vars.insert(key.clone(), value.clone());
    }
}
