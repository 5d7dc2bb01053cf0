//! The JSON of `ansible-inventory --list`.
//!
//! Equal as JSON, not as text: the order of keys is the writer's.

use std::collections::HashSet;

use serde_json::{Map, Value, json};

use crate::edition::Edition;
use crate::inventory::Inventory;
use crate::model::{ALL, Vars};

/// Where variables stand in the output.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Export {
    /// At the group or host that sets them: `--list --export`.
    Yes,
    /// Merged into each host: plain `--list`.
    No,
}

/// Names Ansible keeps for itself and leaves out of every output, even when a user sets them.
const INTERNAL: [&str; 33] = [
    "ansible_async_path",
    "ansible_collection_name",
    "ansible_config_file",
    "ansible_dependent_role_names",
    "ansible_diff_mode",
    "ansible_facts",
    "ansible_forks",
    "ansible_inventory_sources",
    "ansible_limit",
    "ansible_play_batch",
    "ansible_play_hosts",
    "ansible_play_hosts_all",
    "ansible_play_role_names",
    "ansible_playbook_python",
    "ansible_role_name",
    "ansible_role_names",
    "ansible_run_tags",
    "ansible_skip_tags",
    "ansible_verbosity",
    "ansible_version",
    "inventory_dir",
    "inventory_file",
    "inventory_hostname",
    "inventory_hostname_short",
    "groups",
    "group_names",
    "hostvars",
    "playbook_dir",
    "play_hosts",
    "role_name",
    "role_names",
    "role_path",
    "role_uuid",
];

impl Inventory {
    /// Takes Ansible's own names out.
    pub(crate) fn without_internal(&self, mut vars: Vars) -> Vars {
        for name in INTERNAL {
            vars.remove(name);
        }
        match self.model.edition {
            Edition::Core2_18 => drop(vars.remove("omit")),
            Edition::Core2_19 => {}
        }
        vars
    }

    /// The inventory as `ansible-inventory --list` prints it, without the `_meta.profile` that 2.19 adds.
    #[must_use]
    pub fn to_list_json(&self, export: Export) -> Value {
        let hosts: Vec<&str> = self.hosts().collect();
        self.to_limited_list_json(export, &hosts)
    }

    /// Likewise with `--limit`: groups keep their place, with only these of their hosts.
    #[must_use]
    pub fn to_limited_list_json(&self, export: Export, hosts: &[&str]) -> Value {
        let shown: HashSet<usize> = hosts.iter().filter_map(|&host| self.model.host_index.get(host)).copied().collect();
        let mut out = Map::new();
        for (at, group) in self.model.groups.iter().enumerate() {
            let mut entry = Map::new();
            let members: Vec<usize> = group.hosts.iter().copied().filter(|host| shown.contains(host)).collect();
            if at != ALL && !members.is_empty() {
                entry.insert("hosts".to_owned(), json!(self.names(&members)));
            }
            if !group.children.is_empty() {
                let names: Vec<&str> =
                    group.children.iter().map(|&child| self.model.groups[child].name.as_str()).collect();
                entry.insert("children".to_owned(), json!(names));
            }
            if export == Export::Yes {
                let vars = self.shown_group_vars(at);
                if !vars.is_empty() {
                    entry.insert("vars".to_owned(), vars.into_iter().collect());
                }
            }
            // Groups with nothing to say are named only by their parents.
            if !entry.is_empty() {
                out.insert(group.name.clone(), Value::Object(entry));
            }
        }
        let mut hostvars = Map::new();
        for (at, host) in self.model.hosts.iter().enumerate().filter(|(at, _)| shown.contains(at)) {
            let vars = self.host_vars(at, export);
            if !vars.is_empty() {
                hostvars.insert(host.name.clone(), vars.into_iter().collect());
            }
        }
        out.insert("_meta".to_owned(), json!({ "hostvars": hostvars }));
        Value::Object(out)
    }

    /// The variables of a host as `ansible-inventory --host` prints them; absent when there is no such host.
    #[must_use]
    pub fn to_host_json(&self, host: &str, export: Export) -> Option<Value> {
        self.model.host_index.get(host).map(|&host| Value::Object(self.host_vars(host, export).into_iter().collect()))
    }

    pub(crate) fn host_vars(&self, host: usize, export: Export) -> Vars {
        match export {
            Export::Yes => self.without_internal(self.own_vars(host)),
            Export::No => self.merged_vars(host),
        }
    }

    pub(crate) fn shown_group_vars(&self, at: usize) -> Vars {
        let group = &self.model.groups[at];
        let mut vars = self.group_vars(at);
        if group.priority != 1 {
            vars.insert("ansible_group_priority".to_owned(), json!(group.priority));
        }
        self.without_internal(vars)
    }
}
