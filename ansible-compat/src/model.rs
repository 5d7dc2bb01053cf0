//! Hosts and groups while sources are being read, and the rules that hold once all are: Ansible's `InventoryData`.
//!
//! Knows nothing of files. Order is order of first appearance everywhere, because users see it.

use std::collections::{BTreeMap, HashMap, HashSet};

use serde_json::Value;

use crate::edition::Edition;
use crate::error::Fault;
use crate::text::lines::python_int;

/// Variables by name.
pub(crate) type Vars = BTreeMap<String, Value>;

/// Hosts in one inventory: ten times the largest fleet aimed at.
const MAX_HOSTS: usize = 200_000;

/// Groups in one inventory; each is walked for its ancestors.
const MAX_GROUPS: usize = 10_000;

/// Groups below groups; Ansible's own recursion ends somewhat later.
const MAX_LEVELS: usize = 256;

/// The index of the group every group hangs under.
pub(crate) const ALL: usize = 0;

/// The index of the group of hosts that are in no other.
pub(crate) const UNGROUPED: usize = 1;

#[derive(Debug)]
pub(crate) struct Group {
    pub(crate) name: String,
    pub(crate) vars: Vars,
    pub(crate) children: Vec<usize>,
    pub(crate) parents: Vec<usize>,
    /// Hosts named in this group itself, not in its children.
    pub(crate) hosts: Vec<usize>,
    /// Longest way down from `all`; deeper groups win.
    pub(crate) depth: usize,
    /// `ansible_group_priority`; the higher wins among groups of one depth.
    pub(crate) priority: i64,
    members: HashSet<usize>,
}

#[derive(Debug)]
pub(crate) struct Host {
    pub(crate) name: String,
    pub(crate) vars: Vars,
    /// Groups that name this host themselves.
    groups: Vec<usize>,
    /// Every group this host is in, ancestors included, in order of precedence; known after `reconcile`.
    pub(crate) lineage: Vec<usize>,
}

#[derive(Debug)]
pub(crate) struct Model {
    /// Which Ansible is answered for.
    pub(crate) edition: Edition,
    pub(crate) groups: Vec<Group>,
    pub(crate) hosts: Vec<Host>,
    pub(crate) group_index: HashMap<String, usize>,
    pub(crate) host_index: HashMap<String, usize>,
    /// What Ansible would have warned of.
    pub(crate) warnings: Vec<String>,
}

impl Model {
    pub(crate) fn new(edition: Edition) -> Self {
        let mut model = Self {
            edition,
            groups: Vec::new(),
            hosts: Vec::new(),
            group_index: HashMap::new(),
            host_index: HashMap::new(),
            warnings: Vec::new(),
        };
        for name in ["all", "ungrouped"] {
            model.push_group(name);
        }
        model.groups[ALL].children.push(UNGROUPED);
        model.groups[UNGROUPED].parents.push(ALL);
        model
    }

    fn push_group(&mut self, name: &str) -> usize {
        let at = self.groups.len();
        self.groups.push(Group {
            name: name.to_owned(),
            vars: Vars::new(),
            children: Vec::new(),
            parents: Vec::new(),
            hosts: Vec::new(),
            depth: 0,
            priority: 1,
            members: HashSet::new(),
        });
        self.group_index.insert(name.to_owned(), at);
        at
    }

    /// The group of that name, made if it is new.
    pub(crate) fn add_group(&mut self, name: &str) -> Result<usize, Fault> {
        if name.is_empty() {
            return Err(Fault::invalid("a group has an empty name", "give it a name"));
        }
        if let Some(&at) = self.group_index.get(name) {
            return Ok(at);
        }
        if self.groups.len() == MAX_GROUPS {
            return Err(Fault::too_large("the number of groups", MAX_GROUPS as u64, "split the inventory"));
        }
        Ok(self.push_group(name))
    }

    /// Puts a host into a group, making it if it is new. A port counts only for a new host, as in Ansible.
    pub(crate) fn add_host(&mut self, name: &str, group: usize, port: Option<u64>) -> Result<(), Fault> {
        if name.is_empty() {
            return Err(Fault::invalid("a host has an empty name", "give it a name"));
        }
        let host = match self.host_index.get(name) {
            Some(&host) => host,
            None => {
                if self.hosts.len() == MAX_HOSTS {
                    return Err(Fault::too_large("the number of hosts", MAX_HOSTS as u64, "split the inventory"));
                }
                let mut vars = Vars::new();
                if let Some(port) = port.filter(|&port| port > 0) {
                    vars.insert("ansible_port".to_owned(), port.into());
                }
                self.hosts.push(Host { name: name.to_owned(), vars, groups: Vec::new(), lineage: Vec::new() });
                self.host_index.insert(name.to_owned(), self.hosts.len() - 1);
                self.hosts.len() - 1
            }
        };
        self.join(host, group);
        Ok(())
    }

    fn join(&mut self, host: usize, group: usize) {
        if self.groups[group].members.insert(host) {
            self.groups[group].hosts.push(host);
            self.hosts[host].groups.push(group);
        }
    }

    /// Sets a variable of the group of that name, else of the host. A group hides a host of its own name: Ansible looks
    /// groups up first, even for a line about the host.
    pub(crate) fn set_variable(&mut self, owner: &str, key: &str, value: Value) -> Result<(), Fault> {
        if let Some(&group) = self.group_index.get(owner) {
            if key == "ansible_group_priority" {
                self.groups[group].priority = priority_of(&value)?;
            } else {
                self.groups[group].vars.insert(key.to_owned(), value);
            }
        } else if let Some(&host) = self.host_index.get(owner) {
            self.hosts[host].vars.insert(key.to_owned(), value);
        }
        Ok(())
    }

    /// Hangs a group (or, when there is no such group, a host) under a group.
    pub(crate) fn add_child(&mut self, parent: usize, child: &str) -> Result<(), Fault> {
        let Some(&child_group) = self.group_index.get(child) else {
            let Some(&host) = self.host_index.get(child) else {
                return Err(Fault::invalid(
                    format!("`{child}` is named as a child of `{}` but is no group", self.groups[parent].name),
                    "define it, even if empty",
                ));
            };
            self.join(host, parent);
            return Ok(());
        };
        self.add_child_group(parent, child_group)
    }

    fn add_child_group(&mut self, parent: usize, child: usize) -> Result<(), Fault> {
        if self.groups[parent].children.contains(&child) {
            return Ok(());
        }
        if parent == child || self.ancestors(parent).contains(&child) {
            return Err(Fault::invalid(
                format!(
                    "`{}` as a child of `{}` closes a circle of groups",
                    self.groups[child].name, self.groups[parent].name
                ),
                "remove one of the two memberships",
            ));
        }
        self.groups[parent].children.push(child);
        self.groups[child].parents.push(parent);
        Ok(())
    }

    /// Every group above this one.
    pub(crate) fn ancestors(&self, group: usize) -> HashSet<usize> {
        let mut seen: HashSet<usize> = HashSet::new();
        let mut open = self.groups[group].parents.clone();
        while let Some(next) = open.pop() {
            if seen.insert(next) {
                open.extend(&self.groups[next].parents);
            }
        }
        seen
    }

    /// Hosts of a group and of all below it, nearest groups first, each once.
    ///
    /// Ansible keeps the groups of one level in a Python set, so that where several of them have children it goes by
    /// another order in every run. Here it is always the order of first appearance.
    pub(crate) fn hosts_below(&self, group: usize) -> Vec<usize> {
        let mut order = vec![group];
        let mut seen_groups = HashSet::from([group]);
        let mut at = 0;
        while let Some(&next) = order.get(at) {
            order.extend(self.groups[next].children.iter().filter(|&&child| seen_groups.insert(child)));
            at += 1;
        }
        let mut seen = HashSet::new();
        order.iter().flat_map(|&group| &self.groups[group].hosts).copied().filter(|&host| seen.insert(host)).collect()
    }

    /// Settles what only the whole inventory decides: everything hangs under `all`, `ungrouped` holds exactly the hosts
    /// in no other group, depths and every host's groups are known.
    pub(crate) fn reconcile(&mut self) -> Result<(), Fault> {
        for group in 1..self.groups.len() {
            if self.groups[group].parents.is_empty() {
                self.add_child_group(ALL, group)?;
            }
        }
        let depths = self.depths();
        if depths.iter().any(|&depth| depth > MAX_LEVELS) {
            return Err(Fault::too_large("the number of group levels", MAX_LEVELS as u64, "flatten the `:children`"));
        }
        for (group, depth) in self.groups.iter_mut().zip(depths) {
            group.depth = depth;
        }
        let above: Vec<Vec<usize>> =
            (0..self.groups.len()).map(|group| self.ancestors(group).into_iter().collect()).collect();
        let mut leaving = HashSet::new();
        for host in 0..self.hosts.len() {
            let of: HashSet<usize> = self.lineage(host, &above);
            if of.iter().all(|&group| group == ALL) {
                // Ansible puts the group into `ungrouped` instead and forgets the host.
                let name = &self.hosts[host].name;
                if self.group_index.contains_key(name) {
                    let what = format!("a host `{name}` in no group, while a group has the same name,");
                    return Err(Fault::unsupported(what, "rename one of them"));
                }
                self.join(host, UNGROUPED);
            } else if self.groups[UNGROUPED].members.contains(&host)
                && of.iter().any(|&group| group != ALL && group != UNGROUPED)
            {
                leaving.insert(host);
            }
        }
        let ungrouped = &mut self.groups[UNGROUPED];
        ungrouped.hosts.retain(|host| !leaving.contains(host));
        ungrouped.members.retain(|host| !leaving.contains(host));
        for &host in &leaving {
            self.hosts[host].groups.retain(|&group| group != UNGROUPED);
        }
        for host in 0..self.hosts.len() {
            let mut of: Vec<usize> = self.lineage(host, &above).into_iter().collect();
            if leaving.contains(&host) {
                // Even where one of its groups is a child of `ungrouped`.
                of.retain(|&group| group != UNGROUPED);
                without_exclusive(&mut of, &above);
            }
            of.sort_by_key(|&group| {
                let group = &self.groups[group];
                (group.depth, group.priority, group.name.as_str())
            });
            self.hosts[host].lineage = of;
        }
        for name in self.group_index.keys().filter(|&name| self.host_index.contains_key(name)) {
            self.warnings
                .push(format!("`{name}` is both a group and a host; variables written for the host go to the group"));
        }
        Ok(())
    }

    fn lineage(&self, host: usize, above: &[Vec<usize>]) -> HashSet<usize> {
        self.hosts[host].groups.iter().flat_map(|&group| above[group].iter().copied().chain([group])).collect()
    }

    /// The longest way from `all` to each group. There is no circle: `add_child_group` refuses them.
    fn depths(&self) -> Vec<usize> {
        let mut waiting: Vec<usize> = self.groups.iter().map(|group| group.parents.len()).collect();
        let mut depths = vec![0; self.groups.len()];
        let mut ready: Vec<usize> = (0..waiting.len()).filter(|&group| waiting[group] == 0).collect();
        while let Some(group) = ready.pop() {
            for &child in &self.groups[group].children {
                depths[child] = depths[child].max(depths[group] + 1);
                waiting[child] -= 1;
                if waiting[child] == 0 {
                    ready.push(child);
                }
            }
        }
        depths
    }
}

/// A host that leaves `ungrouped` leaves what is above it too, unless another of its groups is below that: even a group
/// that names the host itself, as Ansible's `remove_group` has it. All stays.
fn without_exclusive(of: &mut Vec<usize>, above: &[Vec<usize>]) {
    loop {
        let held = of.clone();
        let exclusive = |group: &usize| {
            *group != ALL && above[UNGROUPED].contains(group) && !held.iter().any(|other| above[*other].contains(group))
        };
        of.retain(|group| !exclusive(group));
        if of.len() == held.len() {
            return;
        }
    }
}

/// `int(value)` as Python does it, on whatever type the file gave.
fn priority_of(value: &Value) -> Result<i64, Fault> {
    let number = match value {
        Value::Bool(value) => Some(i64::from(*value)),
        // Python cuts the fraction off.
        Value::Number(number) => number.as_i64().or_else(|| number.as_f64().map(|float| float as i64)),
        Value::String(text) => python_int(text),
        _ => None,
    };
    number.ok_or_else(|| {
        Fault::invalid(format!("ansible_group_priority is `{value}`, not a whole number"), "write a number such as 10")
    })
}
