//! The tree of `ansible-inventory --graph`: groups below groups, hosts in them, and with variables what each has.
//!
//! Values are written as Python writes them (`python_text`), because that is what people compare.

use crate::export::Export;
use crate::inventory::Inventory;
use crate::model::{ALL, Vars};
use crate::text::python_text::printed;

/// Whether the tree shows variables.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum GraphVars {
    /// Groups and hosts only.
    Hidden,
    /// Those of each group, and of each host either all it has in the end or only its own.
    Shown(Export),
}

impl Inventory {
    /// The tree below `all` without variables: `ansible-inventory --graph`.
    #[must_use]
    pub fn to_graph(&self) -> String {
        self.graph_of(ALL, GraphVars::Hidden)
    }

    /// The tree below a group; absent when there is no such group. Vault values stay closed, where `ansible-inventory`
    /// prints their plain text or fails.
    #[must_use]
    pub fn to_graph_of(&self, group: &str, vars: GraphVars) -> Option<String> {
        self.model.group_index.get(group).map(|&group| self.graph_of(group, vars))
    }

    fn graph_of(&self, group: usize, vars: GraphVars) -> String {
        let mut lines = Vec::new();
        self.add_group_lines(group, 0, vars, &mut lines);
        lines.join("\n")
    }

    /// Recursion is bounded by the limit on group levels.
    fn add_group_lines(&self, at: usize, depth: usize, vars: GraphVars, lines: &mut Vec<String>) {
        let group = &self.model.groups[at];
        lines.push(line(&format!("@{}:", group.name), depth));
        for &child in &group.children {
            self.add_group_lines(child, depth + 1, vars, lines);
        }
        if at != ALL {
            for &host in &group.hosts {
                lines.push(line(&self.model.hosts[host].name, depth + 1));
                if let GraphVars::Shown(export) = vars {
                    add_vars(&self.host_vars(host, export), depth + 2, lines);
                }
            }
        }
        if let GraphVars::Shown(_) = vars {
            add_vars(&self.shown_group_vars(at), depth + 1, lines);
        }
    }
}

fn add_vars(vars: &Vars, depth: usize, lines: &mut Vec<String>) {
    lines.extend(vars.iter().map(|(name, value)| line(&format!("{{{name} = {}}}", printed(value)), depth)));
}

fn line(text: &str, depth: usize) -> String {
    if depth == 0 {
        return text.to_owned();
    }
    format!("{}--{text}", "  |".repeat(depth))
}
