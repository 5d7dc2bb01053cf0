//! YAML and JSON inventories: groups with `hosts`, `vars` and `children`, nested as deep as people nest them.
//!
//! A mapping with a `plugin` key is not one of these: it configures code, and is refused by name.

use crate::error::Fault;
use crate::model::Model;
use crate::text::host_range;
use crate::text::node::{Kind, Node};

/// Adds what a parsed document says to the model.
///
/// # Errors
/// Where Ansible would refuse the file, and for plugin configurations.
pub(crate) fn read(document: &Node, model: &mut Model, warn: &mut dyn FnMut(usize, String)) -> Result<(), Fault> {
    let Kind::Map(groups) = &document.kind else {
        return Err(Fault::invalid(
            format!("a YAML inventory must be a dictionary of groups, this is {}", document.type_name()),
            "begin with `all:` and put `hosts:` below it",
        ));
    };
    if let Some((key, plugin)) = groups.iter().find(|(key, value)| key.text() == Some("plugin") && !value.is_empty()) {
        let what = format!("a configuration of the inventory plugin `{}`, which is code,", plugin.key());
        return Err(Fault::plugin(what).at(key.line));
    }
    let mut reader = TreeReader { model, warn };
    for (name, body) in groups {
        reader.group(name, body)?;
    }
    Ok(())
}

struct TreeReader<'a> {
    model: &'a mut Model,
    warn: &'a mut dyn FnMut(usize, String),
}

impl TreeReader<'_> {
    /// Reads one group. Recursion is bounded by the nesting limit of the YAML reader.
    fn group(&mut self, name_node: &Node, body: &Node) -> Result<(), Fault> {
        let sections = match &body.kind {
            Kind::Null => &[][..],
            Kind::Map(sections) => sections,
            _ => {
                (self.warn)(
                    name_node.line,
                    format!("`{}` is skipped: it is {}, not a group", name_node.key(), body.type_name()),
                );
                return Ok(());
            }
        };
        let name = name_node.text().ok_or_else(|| {
            Fault::invalid(
                format!("the group name `{}` is {}", name_node.key(), name_node.type_name()),
                "put it in quotes",
            )
            .at(name_node.line)
        })?;
        let group = self.model.add_group(name).map_err(|fault| fault.at(name_node.line))?;
        // A section of the wrong type spoils the group before any of it is read.
        for (key, value) in sections {
            let wants_map = matches!(key.text(), Some("vars" | "children" | "hosts"));
            if wants_map && !matches!(value.kind, Kind::Null | Kind::Map(_) | Kind::Text(_) | Kind::Unsafe(_)) {
                return Err(Fault::invalid(
                    format!("`{}` of the group `{name}` is {}", key.key(), value.type_name()),
                    "make it a dictionary: a name and a colon on each line, without dashes",
                )
                .at(key.line));
            }
        }
        for (key, value) in sections {
            let alone;
            let entries = match (&value.kind, key.text()) {
                (Kind::Null, _) => continue,
                (Kind::Map(entries), _) => entries.as_slice(),
                // One name without a colon is allowed.
                (Kind::Text(_) | Kind::Unsafe(_), Some("vars" | "children" | "hosts")) => {
                    alone = [(value.clone(), Node { line: value.line, kind: Kind::Null })];
                    &alone[..]
                }
                _ => {
                    (self.warn)(
                        key.line,
                        format!("`{}` in the group `{name}` is skipped: it is {}", key.key(), value.type_name()),
                    );
                    continue;
                }
            };
            match key.text() {
                Some("vars") => {
                    for (var, value) in entries {
                        self.model
                            .set_variable(name, var.variable_name()?, value.value())
                            .map_err(|fault| fault.at(var.line))?;
                    }
                }
                Some("children") => {
                    for (child, body) in entries {
                        self.group(child, body)?;
                        self.model.add_child(group, &child.key()).map_err(|fault| fault.at(child.line))?;
                    }
                }
                Some("hosts") => {
                    for (host, vars) in entries {
                        self.host(host, vars, group).map_err(|fault| fault.at(host.line))?;
                    }
                }
                _ => (self.warn)(
                    key.line,
                    format!(
                        "`{}` in the group `{name}` is skipped: only `vars`, `children` and `hosts` mean anything",
                        key.key()
                    ),
                ),
            }
        }
        Ok(())
    }

    fn host(&mut self, host: &Node, vars: &Node, group: usize) -> Result<(), Fault> {
        let written = host.text().ok_or_else(|| {
            Fault::invalid(format!("the host name `{}` is {}", host.key(), host.type_name()), "put it in quotes")
        })?;
        let pattern = host_range::expand(written, self.model.edition)?;
        let vars = match &vars.kind {
            Kind::Map(vars) => vars.as_slice(),
            _ if vars.is_empty() => &[],
            _ => {
                return Err(Fault::invalid(
                    format!("behind the host `{written}` stands {}", vars.type_name()),
                    "put its variables below it as `name: value`",
                ));
            }
        };
        for name in &pattern.names {
            self.model.add_host(name, group, pattern.port)?;
            for (key, value) in vars {
                self.model
                    .set_variable(name, key.variable_name()?, value.value())
                    .map_err(|fault| fault.at(key.line))?;
            }
        }
        Ok(())
    }
}
