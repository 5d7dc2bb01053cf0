//! What a host pattern is asked of: hosts in an order, and groups of them.
//!
//! `Groups` is the plain form for lists that come from elsewhere (a roster with labels); an `Inventory` answers for
//! itself. Deciding which hosts a pattern names is for `pattern`.

use std::borrow::Cow;
use std::collections::{HashMap, HashSet};

use crate::inventory::Inventory;
use crate::model::{ALL, UNGROUPED};

/// Hosts in one list: ten times the largest fleet aimed at.
const MAX_HOSTS: usize = 200_000;

/// Groups in one list; every glob and expression is tried on each.
const MAX_GROUPS: usize = 20_000;

/// Memberships in all groups together: each host of the largest list in fifty groups.
const MAX_MEMBERSHIPS: usize = 50 * MAX_HOSTS;

/// Hosts and groups a [`HostPattern`](crate::HostPattern) can select from: [`Groups`] or an [`Inventory`].
///
/// Hosts and groups are numbered from 0 in the order that selections show.
pub trait Members: sealed::Numbered {}

impl Members for Groups {}
impl Members for Inventory {}

/// Why a [`Groups`] refused a host or a group.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum GroupsError {
    /// A host or group without a name; no pattern could name it.
    #[error("a {what} has an empty name; give it a name")]
    NoName {
        /// `host` or `group`.
        what: &'static str,
    },
    /// The same host twice.
    #[error("host `{host}` is listed twice; list it once")]
    Twice {
        /// The host.
        host: String,
    },
    /// A member that is not among the hosts.
    #[error("group `{group}` has the member `{host}`, which is no host of this list; leave it out or list the host")]
    UnknownHost {
        /// The group.
        group: String,
        /// The member.
        host: String,
    },
    /// One of the limits.
    #[error("{what} is more than the limit of {limit}; split the list")]
    TooLarge {
        /// What grew too large.
        what: &'static str,
        /// The limit, in the unit `what` names.
        limit: usize,
    },
}

/// Hosts in order and the groups they are in, children's hosts included.
///
/// `all` and `ungrouped` are always there: `all` holds every host, `ungrouped` those that no added group holds. Whoever
/// adds labels as groups therefore takes their hosts out of `ungrouped`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Groups {
    hosts: Vec<String>,
    host_index: HashMap<String, usize>,
    groups: Vec<(String, Vec<usize>)>,
    group_index: HashMap<String, usize>,
    /// By host: whether an added group holds it, so that it leaves `ungrouped`.
    grouped: Vec<bool>,
    memberships: usize,
}

impl Groups {
    /// Hosts in the order that selections show them, in no group yet but `all` and `ungrouped`.
    ///
    /// # Errors
    /// If a name is empty or comes twice, or there are more than 200,000.
    pub fn new<N: Into<String>>(hosts: impl IntoIterator<Item = N>) -> Result<Self, GroupsError> {
        let mut names = Vec::new();
        let mut host_index = HashMap::new();
        for name in hosts {
            let name: String = name.into();
            if name.is_empty() {
                return Err(GroupsError::NoName { what: "host" });
            }
            if names.len() == MAX_HOSTS {
                return Err(GroupsError::TooLarge { what: "the number of hosts", limit: MAX_HOSTS });
            }
            if host_index.insert(name.clone(), names.len()).is_some() {
                return Err(GroupsError::Twice { host: name });
            }
            names.push(name);
        }
        let everything: Vec<usize> = (0..names.len()).collect();
        Ok(Self {
            grouped: vec![false; names.len()],
            hosts: names,
            host_index,
            groups: vec![("all".to_owned(), everything.clone()), ("ungrouped".to_owned(), everything)],
            group_index: HashMap::from([("all".to_owned(), ALL), ("ungrouped".to_owned(), UNGROUPED)]),
            memberships: 0,
        })
    }

    /// Puts hosts into a group, after those it has; the group is made if it is new. Children's hosts must be given
    /// too, as [`Inventory::hosts_of`] does. Adding to `all` or `ungrouped` changes nothing: they follow from the rest.
    ///
    /// # Errors
    /// If the name is empty, a member is no host of this list, or there are too many; nothing has changed then.
    pub fn add<'n>(&mut self, group: &str, members: impl IntoIterator<Item = &'n str>) -> Result<(), GroupsError> {
        if group.is_empty() {
            return Err(GroupsError::NoName { what: "group" });
        }
        let known = self.group_index.get(group).copied();
        if known.is_none() && self.groups.len() == MAX_GROUPS {
            return Err(GroupsError::TooLarge { what: "the number of groups", limit: MAX_GROUPS });
        }
        let mut held: HashSet<usize> = known.iter().flat_map(|&at| &self.groups[at].1).copied().collect();
        let mut joining = Vec::new();
        for name in members {
            let &host = self
                .host_index
                .get(name)
                .ok_or_else(|| GroupsError::UnknownHost { group: group.to_owned(), host: name.to_owned() })?;
            if held.insert(host) {
                joining.push(host);
            }
        }
        if known.is_some_and(|at| at == ALL || at == UNGROUPED) {
            return Ok(());
        }
        if self.memberships + joining.len() > MAX_MEMBERSHIPS {
            return Err(GroupsError::TooLarge { what: "the number of memberships", limit: MAX_MEMBERSHIPS });
        }
        self.memberships += joining.len();
        for &host in &joining {
            self.grouped[host] = true;
        }
        let at = known.unwrap_or_else(|| {
            self.group_index.insert(group.to_owned(), self.groups.len());
            self.groups.push((group.to_owned(), Vec::new()));
            self.groups.len() - 1
        });
        self.groups[at].1.extend(joining);
        Ok(())
    }

    /// Host names in the order they were given.
    pub fn hosts(&self) -> impl ExactSizeIterator<Item = &str> {
        self.hosts.iter().map(String::as_str)
    }

    /// Group names in the order they were added; `all` and `ungrouped` come first.
    pub fn groups(&self) -> impl ExactSizeIterator<Item = &str> {
        self.groups.iter().map(|(name, _)| name.as_str())
    }

    /// Hosts of a group; absent when there is no such group.
    #[must_use]
    pub fn hosts_of(&self, group: &str) -> Option<Vec<&str>> {
        let &at = self.group_index.get(group)?;
        Some(sealed::Numbered::members(self, at).iter().map(|&host| self.hosts[host].as_str()).collect())
    }
}

impl Inventory {
    /// Hosts and groups without variables, every group with the hosts of its children: to be kept, or to be joined
    /// with other groups. Patterns answer as they do on the inventory.
    ///
    /// # Errors
    /// If the groups hold more memberships than a [`Groups`] takes (deep trees repeat their hosts on every level).
    pub fn to_groups(&self) -> Result<Groups, GroupsError> {
        let mut flat = Groups::new(self.hosts())?;
        for name in self.groups() {
            flat.add(name, self.hosts_of(name).into_iter().flatten())?;
        }
        // Ansible walks the tree for these two, so their order is not that of the hosts.
        for at in [ALL, UNGROUPED] {
            flat.groups[at].1 = self.model.hosts_below(at);
        }
        // A group below `ungrouped` leaves its hosts in it.
        for &host in &flat.groups[UNGROUPED].1 {
            flat.grouped[host] = false;
        }
        Ok(flat)
    }
}

pub(crate) mod sealed {
    //! The numbers behind [`Members`](super::Members); sealed so that a number is always one this crate gave.

    use super::{Cow, Groups, Inventory, UNGROUPED};

    /// Hosts and groups by number.
    pub trait Numbered {
        /// How many hosts; their numbers are below it.
        fn host_count(&self) -> usize;
        /// The name of a host.
        fn host(&self, host: usize) -> &str;
        /// The host of that name.
        fn host_named(&self, name: &str) -> Option<usize>;
        /// How many groups; their numbers are below it.
        fn group_count(&self) -> usize;
        /// The name of a group.
        fn group(&self, group: usize) -> &str;
        /// The group of that name.
        fn group_named(&self, name: &str) -> Option<usize>;
        /// The hosts of a group and of those below it, each once.
        fn members(&self, group: usize) -> Cow<'_, [usize]>;
    }

    impl Numbered for Groups {
        fn host_count(&self) -> usize {
            self.hosts.len()
        }

        fn host(&self, host: usize) -> &str {
            &self.hosts[host]
        }

        fn host_named(&self, name: &str) -> Option<usize> {
            self.host_index.get(name).copied()
        }

        fn group_count(&self) -> usize {
            self.groups.len()
        }

        fn group(&self, group: usize) -> &str {
            &self.groups[group].0
        }

        fn group_named(&self, name: &str) -> Option<usize> {
            self.group_index.get(name).copied()
        }

        fn members(&self, group: usize) -> Cow<'_, [usize]> {
            let members = &self.groups[group].1;
            if group == UNGROUPED {
                return members.iter().copied().filter(|&host| !self.grouped[host]).collect();
            }
            Cow::Borrowed(members)
        }
    }

    impl Numbered for Inventory {
        fn host_count(&self) -> usize {
            self.model.hosts.len()
        }

        fn host(&self, host: usize) -> &str {
            &self.model.hosts[host].name
        }

        fn host_named(&self, name: &str) -> Option<usize> {
            self.model.host_index.get(name).copied()
        }

        fn group_count(&self) -> usize {
            self.model.groups.len()
        }

        fn group(&self, group: usize) -> &str {
            &self.model.groups[group].name
        }

        fn group_named(&self, name: &str) -> Option<usize> {
            self.model.group_index.get(name).copied()
        }

        fn members(&self, group: usize) -> Cow<'_, [usize]> {
            Cow::Owned(self.model.hosts_below(group))
        }
    }
}
