//! What inventory scripts print: groups with `hosts`, `vars` and `children`, and `_meta` with the variables of hosts.
//!
//! Names are taken as they are, without ranges. Running scripts is `reading`'s; `ansible-inventory --list --export`
//! prints the same form, so plugins are read here too.

use std::collections::{HashMap, HashSet};

use crate::edition::Edition;
use crate::error::Fault;
use crate::model::Model;
use crate::text::node::{Kind, Node};

/// What to ask a script for each host, where `--list` told no variables of hosts.
pub(crate) type AskHost<'a> = &'a mut dyn FnMut(&str) -> Result<Node, Fault>;

/// Adds what a script printed to the model.
///
/// # Errors
/// Where Ansible would refuse the output, and where `ask` fails.
pub(crate) fn read(document: &Node, model: &mut Model, ask: AskHost<'_>) -> Result<(), Fault> {
    let Kind::Map(entries) = &document.kind else {
        return Err(bad("the output", document, "a dictionary of groups"));
    };
    let mut reader = ScriptReader { model, hosts: Vec::new() };
    let mut meta = Told::Nothing;
    for (name, body) in entries {
        if name.text() == Some("_meta") {
            meta = reader.meta(body)?;
        } else {
            reader.group(&name.key(), body)?;
        }
    }
    reader.host_variables(meta, ask)
}

fn bad(what: &str, found: &Node, wanted: &str) -> Fault {
    Fault::invalid(format!("{what} is {}", found.type_name()), format!("print {wanted} there"))
}

fn is_section(key: &Node) -> bool {
    matches!(key.text(), Some("hosts" | "vars" | "children"))
}

/// What `--list` told of the variables of hosts.
enum Told<'n> {
    /// Nothing: each host is asked for.
    Nothing,
    Hosts(&'n [(Node, Node)]),
    /// Something that is no dictionary.
    Wrong(&'n Node),
}

struct ScriptReader<'a> {
    model: &'a mut Model,
    /// Every host named, as often as it was.
    hosts: Vec<String>,
}

impl ScriptReader<'_> {
    /// The variables of hosts, if `--list` tells them.
    fn meta<'n>(&self, body: &'n Node) -> Result<Told<'n>, Fault> {
        let sections = match (&body.kind, self.model.edition) {
            (Kind::Map(sections), _) => sections,
            // The earlier ones only look whether it has `hostvars`.
            (Kind::List(_), Edition::Core2_18) => return Ok(Told::Nothing),
            _ => return Err(bad("`_meta`", body, "a dictionary")),
        };
        let hostvars = sections.iter().find(|(key, _)| key.text() == Some("hostvars")).map(|(_, value)| value);
        match (hostvars.map(|node| &node.kind), self.model.edition) {
            (Some(Kind::Map(hosts)), _) => Ok(Told::Hosts(hosts)),
            (None | Some(Kind::Null), Edition::Core2_18) => Ok(Told::Nothing),
            (None, Edition::Core2_19) => {
                Err(Fault::invalid("`_meta` has no `hostvars`", "add `hostvars`, or leave `_meta` out"))
            }
            // Without any host nobody looks into it.
            (Some(_), Edition::Core2_18) => Ok(Told::Wrong(hostvars.unwrap_or(body))),
            (Some(_), Edition::Core2_19) => {
                Err(bad("`_meta.hostvars`", hostvars.unwrap_or(body), "a dictionary of hosts"))
            }
        }
    }

    fn group(&mut self, name: &str, body: &Node) -> Result<(), Fault> {
        let group = self.model.add_group(name)?;
        let Kind::Map(sections) = &body.kind else { return self.members(name, group, body) };
        if !sections.iter().any(|(key, _)| is_section(key)) {
            return self.lone_host(name, group, body);
        }
        // Whatever order the script prints them in.
        let section = |wanted: &str| sections.iter().find(|(key, _)| key.text() == Some(wanted)).map(|(_, body)| body);
        if let Some(hosts) = section("hosts") {
            self.members(name, group, hosts)?;
        }
        if let Some(vars) = section("vars") {
            self.variables(name, &format!("`vars` of the group `{name}`"), vars)?;
        }
        section("children").map_or(Ok(()), |children| self.children(name, group, children))
    }

    fn members(&mut self, name: &str, group: usize, hosts: &Node) -> Result<(), Fault> {
        let Kind::List(hosts) = &hosts.kind else {
            return Err(bad(&format!("`hosts` of the group `{name}`"), hosts, "a list of names"));
        };
        for host in hosts {
            let text = host.text().ok_or_else(|| bad(&format!("a host of the group `{name}`"), host, "a name"))?;
            self.model.add_host(text, group, None)?;
            self.hosts.push(text.to_owned());
        }
        Ok(())
    }

    /// A dictionary without any section: the group's only host has its name, and these are variables.
    fn lone_host(&mut self, name: &str, group: usize, body: &Node) -> Result<(), Fault> {
        self.model.add_host(name, group, None)?;
        self.hosts.push(name.to_owned());
        let vars = match self.model.edition {
            Edition::Core2_18 => body.clone(),
            Edition::Core2_19 => body.clone().into_unsafe(),
        };
        self.variables(name, &format!("the group `{name}`"), &vars)
    }

    fn children(&mut self, name: &str, group: usize, children: &Node) -> Result<(), Fault> {
        let names: Vec<&Node> = match &children.kind {
            Kind::List(items) => items.iter().collect(),
            Kind::Map(pairs) => pairs.iter().map(|(key, _)| key).collect(),
            _ => return Err(bad(&format!("`children` of the group `{name}`"), children, "a list of groups")),
        };
        for child in names {
            let child = child.text().ok_or_else(|| bad(&format!("a child of the group `{name}`"), child, "a name"))?;
            self.model.add_group(child)?;
            self.model.add_child(group, child)?;
        }
        Ok(())
    }

    fn variables(&mut self, owner: &str, what: &str, vars: &Node) -> Result<(), Fault> {
        let Kind::Map(vars) = &vars.kind else { return Err(bad(what, vars, "a dictionary of variables")) };
        for (key, value) in vars {
            self.model.set_variable(owner, key.variable_name()?, value.value())?;
        }
        Ok(())
    }

    fn host_variables(&mut self, meta: Told<'_>, ask: AskHost<'_>) -> Result<(), Fault> {
        let told: Option<HashMap<String, &Node>> = match meta {
            Told::Nothing => None,
            Told::Hosts(hosts) => Some(hosts.iter().map(|(host, vars)| (host.key(), vars)).collect()),
            Told::Wrong(_) if self.hosts.is_empty() => None,
            Told::Wrong(found) => return Err(bad("`_meta.hostvars`", found, "a dictionary of hosts")),
        };
        let mut asked = HashSet::new();
        for host in std::mem::take(&mut self.hosts) {
            if !asked.insert(host.clone()) {
                continue;
            }
            let what = format!("what is said of the host `{host}`");
            match &told {
                Some(told) => told.get(&host).map_or(Ok(()), |vars| self.variables(&host, &what, vars))?,
                None => self.variables(&host, &what, &ask(&host)?)?,
            }
        }
        Ok(())
    }
}
