//! The JSON of `ansible-inventory --list`.
//!
//! Equal as JSON, not as text: the order of keys is the writer's.

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

    /// The inventory as `ansible-inventory --list` prints it (ansible-core 2.17; 2.19 adds `_meta.profile`).
    #[must_use]
    pub fn to_list_json(&self, export: Export) -> Value {
        let mut out = Map::new();
        for (at, group) in self.model.groups.iter().enumerate() {
            let mut entry = Map::new();
            if at != ALL && !group.hosts.is_empty() {
                entry.insert("hosts".to_owned(), json!(self.names(&group.hosts)));
            }
            if !group.children.is_empty() {
                let names: Vec<&str> =
                    group.children.iter().map(|&child| self.model.groups[child].name.as_str()).collect();
                entry.insert("children".to_owned(), json!(names));
            }
            if export == Export::Yes {
                let mut vars = self.group_vars(at);
                if group.priority != 1 {
                    vars.insert("ansible_group_priority".to_owned(), json!(group.priority));
                }
                let vars = self.without_internal(vars);
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
        for (at, host) in self.model.hosts.iter().enumerate() {
            let vars = match export {
                Export::Yes => self.without_internal(self.own_vars(at)),
                Export::No => self.merged_vars(at),
            };
            if !vars.is_empty() {
                hostvars.insert(host.name.clone(), vars.into_iter().collect());
            }
        }
        out.insert("_meta".to_owned(), json!({ "hostvars": hostvars }));
        Value::Object(out)
    }
}
