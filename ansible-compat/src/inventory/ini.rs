//! INI inventories: `[group]`, `[group:children]`, `[group:vars]` and host lines.
//!
//! A file of one host name per line is the smallest of them.

use crate::error::Fault;
use crate::model::{Model, UNGROUPED};
use crate::text::host_range;
use crate::text::lines::{split_lines, strip};
use crate::text::literal::value_of;
use crate::text::shell_words;

/// Adds what an INI file says to the model.
///
/// # Errors
/// At the first line Ansible would refuse, since it then refuses the whole file.
pub(crate) fn read(bytes: &[u8], model: &mut Model) -> Result<(), Fault> {
    let text = decode(bytes)?;
    if text.starts_with('\u{feff}') {
        return Err(Fault::invalid("the file begins with a byte order mark", "save it as UTF-8 without one").at(1));
    }
    let mut sections = Sections { state: State::Hosts, group: UNGROUPED, pending: Vec::new() };
    for (number, line) in (1..).zip(split_lines(&text)) {
        let line = strip(line);
        if line.is_empty() || line.starts_with(['#', ';']) {
            continue;
        }
        sections.line(line, number, model).map_err(|fault| fault.at(number))?;
    }
    sections.close()
}

/// Only comments may hold bytes that are not UTF-8.
fn decode(bytes: &[u8]) -> Result<String, Fault> {
    if let Ok(text) = std::str::from_utf8(bytes) {
        return Ok(text.to_owned());
    }
    let mut text = String::with_capacity(bytes.len());
    for (number, line) in (1..).zip(bytes.split(|&b| b == b'\n')) {
        match std::str::from_utf8(line) {
            Ok(line) => text.push_str(line),
            Err(_) if line.starts_with(b"#") || line.starts_with(b";") => {}
            Err(_) => return Err(Fault::invalid("the line is not UTF-8", "save the file as UTF-8").at(number)),
        }
        text.push('\n');
    }
    Ok(text)
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum State {
    Hosts,
    Children,
    Vars,
}

/// A group that was used before it was defined.
struct Pending {
    name: String,
    line: usize,
    need: Need,
}

enum Need {
    /// `[name:vars]` came first; some `[name]` must follow.
    VarsOf,
    /// These groups listed it as a child.
    ChildOf(Vec<usize>),
}

struct Sections {
    state: State,
    group: usize,
    pending: Vec<Pending>,
}

impl Sections {
    fn line(&mut self, line: &str, number: usize, model: &mut Model) -> Result<(), Fault> {
        if let Some((name, kind)) = section(line) {
            return self.open(name, kind, number, model);
        }
        if line.starts_with('[') && line.ends_with(']') {
            return Err(Fault::invalid(
                format!("`{line}` is no section"),
                "write `[group]`, `[group:children]` or `[group:vars]`, without blanks inside",
            ));
        }
        match self.state {
            State::Hosts => self.host(line, model),
            State::Children => self.child(line, number, model),
            State::Vars => {
                let (key, value) = line.split_once('=').ok_or_else(|| {
                    Fault::invalid(format!("`{line}` stands in a `:vars` section but has no `=`"), "write `name=value`")
                })?;
                let owner = model.groups[self.group].name.clone();
                model.set_variable(&owner, strip(key), value_of(strip(value), model.edition)?)
            }
        }
    }

    fn open(&mut self, name: &str, kind: Option<&str>, number: usize, model: &mut Model) -> Result<(), Fault> {
        self.state = match kind {
            None | Some("hosts") => State::Hosts,
            Some("children") => State::Children,
            Some("vars") => State::Vars,
            Some(other) => {
                return Err(Fault::invalid(
                    format!("the section `[{name}:{other}]` has an unknown type"),
                    "use `:hosts`, `:children` or `:vars`",
                ));
            }
        };
        let place = self.pending.iter().position(|pending| pending.name == name);
        let known = model.group_index.contains_key(name);
        self.group = model.add_group(name)?;
        if self.state == State::Vars {
            if !known && place.is_none() {
                self.pending.push(Pending { name: name.to_owned(), line: number, need: Need::VarsOf });
            }
            return Ok(());
        }
        if let Some(place) = place
            && let Need::ChildOf(parents) = self.pending.remove(place).need
        {
            for parent in parents {
                model.add_child(parent, name)?;
            }
        }
        Ok(())
    }

    fn host(&self, line: &str, model: &mut Model) -> Result<(), Fault> {
        let words = shell_words::split(line).map_err(|cause| {
            Fault::invalid(format!("in `{line}` {cause}"), "balance the quotes, or escape with a backslash")
        })?;
        let Some((written, assignments)) = words.split_first() else {
            return Err(Fault::invalid(format!("`{line}` names no host"), "begin the line with a host name"));
        };
        let pattern = host_range::expand(written, model.edition)?;
        if pattern.port.is_none() && strip(written).ends_with(':') {
            return Err(Fault::invalid(
                format!("`{written}` ends in a colon"),
                "add the port, or drop the colon; YAML needs the extension .yml",
            ));
        }
        if pattern.names.iter().any(|name| strip(name) == "---") {
            return Err(Fault::invalid("`---` begins a YAML file", "correct the YAML or remove the line"));
        }
        let mut vars = Vec::with_capacity(assignments.len());
        for word in assignments {
            let (key, value) = word.split_once('=').ok_or_else(|| {
                Fault::invalid(
                    format!("`{word}` behind the host `{written}` is no `name=value`"),
                    "one host per line; quote values that hold blanks",
                )
            })?;
            vars.push((key, value_of(value, model.edition)?));
        }
        for name in &pattern.names {
            model.add_host(name, self.group, pattern.port)?;
            for (key, value) in &vars {
                model.set_variable(name, key, value.clone())?;
            }
        }
        Ok(())
    }

    fn child(&mut self, line: &str, number: usize, model: &mut Model) -> Result<(), Fault> {
        let name = group_name(line).ok_or_else(|| {
            Fault::invalid(
                format!("`{line}` stands in a `:children` section but is no group name"),
                "write one group per line, nothing else",
            )
        })?;
        if model.group_index.contains_key(name) {
            return model.add_child(self.group, name);
        }
        match self.pending.iter_mut().find(|pending| pending.name == name) {
            Some(Pending { need: Need::ChildOf(parents), .. }) => parents.push(self.group),
            _ => self.pending.push(Pending {
                name: name.to_owned(),
                line: number,
                need: Need::ChildOf(vec![self.group]),
            }),
        }
        Ok(())
    }

    fn close(self) -> Result<(), Fault> {
        let Some(Pending { name, line, need }) = self.pending.into_iter().next() else { return Ok(()) };
        let reason = match need {
            Need::VarsOf => format!("`[{name}:vars]` gives variables to a group that is never defined"),
            Need::ChildOf(_) => format!("`{name}` is listed as a child but is never defined"),
        };
        Err(Fault::invalid(reason, format!("add a section `[{name}]`, even an empty one")).at(line))
    }
}

/// `[name]` or `[name:kind]`, with an optional comment behind.
fn section(line: &str) -> Option<(&str, Option<&str>)> {
    let (inside, behind) = line.strip_prefix('[')?.split_once(']')?;
    let behind = behind.trim_start_matches(crate::text::lines::is_space);
    if !behind.is_empty() && !behind.starts_with('#') {
        return None;
    }
    let (name, kind) = match inside.split_once(':') {
        Some((name, kind)) => (name, Some(kind)),
        None => (inside, None),
    };
    let word = |kind: &str| !kind.is_empty() && kind.chars().all(|c| c.is_alphanumeric() || c == '_');
    let fits = !name.is_empty() && !name.contains(crate::text::lines::is_space) && kind.is_none_or(word);
    fits.then_some((name, kind))
}

/// A group name with an optional comment behind.
fn group_name(line: &str) -> Option<&str> {
    let end = line.find(|c: char| matches!(c, ':' | ']') || crate::text::lines::is_space(c)).unwrap_or(line.len());
    let behind = line[end..].trim_start_matches(crate::text::lines::is_space);
    // A `#` that touches the name is a part of it (`a#b`), unless what follows it could be no name.
    let end = if behind.is_empty() || behind.starts_with('#') { end } else { line[..end].rfind('#')? };
    (end > 0).then_some(&line[..end])
}
