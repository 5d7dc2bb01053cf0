//! `group_vars/` and `host_vars/` beside an inventory: which files belong to a name, and what they say.
//!
//! A directory of the name beats a file of the name, and `web` beats `web.yml`, `web.yaml`, `web.json`, in that order.

use std::collections::{HashMap, HashSet};
use std::ffi::{OsStr, OsString};
use std::path::{Component, Path, PathBuf};

use crate::error::{Error, Fault};
use crate::model::{Model, Vars};
use crate::source::{bytes_of, directory, document};
use crate::text::node::{Kind, Node};
use crate::vault::passwords::Passwords;

/// Extensions of variable files, in the order they are tried.
const EXTENSIONS: [&str; 4] = ["", ".yml", ".yaml", ".json"];

/// Directories within a directory of variables; more is a circle of links.
const MAX_DIRECTORIES: usize = 16;

/// The variables found beside one source, by index of group and host.
#[derive(Debug, Default)]
pub(crate) struct VarsFiles {
    pub(crate) groups: HashMap<usize, Vars>,
    pub(crate) hosts: HashMap<usize, Vars>,
}

/// Whose files are read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Owners {
    /// Those of every group and host.
    All,
    /// Those of hosts and of the groups that hosts are in: all that Ansible needs of a working directory.
    HostsAndTheirGroups,
}

impl VarsFiles {
    /// Reads the variables of every known group and host below `base`.
    pub(crate) fn load(base: &Path, owners: Owners, passwords: &Passwords, model: &mut Model) -> Result<Self, Error> {
        let mut warnings = Vec::new();
        let inhabited: HashSet<usize> = model.hosts.iter().flat_map(|host| &host.lineage).copied().collect();
        let is_read = |group: &usize| owners == Owners::All || inhabited.contains(group);
        let group_names = model.groups.iter().map(|group| group.name.as_str()).enumerate();
        let group_names = group_names.filter(|(at, _)| is_read(at));
        let groups = read_all(&base.join("group_vars"), group_names, passwords, &mut warnings)?;
        let host_names = model.hosts.iter().map(|host| host.name.as_str()).enumerate();
        let hosts = read_all(&base.join("host_vars"), host_names, passwords, &mut warnings)?;
        model.warnings.append(&mut warnings);
        Ok(Self { groups, hosts })
    }
}

fn read_all<'a>(
    folder: &Path,
    names: impl Iterator<Item = (usize, &'a str)>,
    passwords: &Passwords,
    warnings: &mut Vec<String>,
) -> Result<HashMap<usize, Vars>, Error> {
    let mut found = HashMap::new();
    if !folder.is_dir() {
        if folder.exists() {
            warnings.push(format!("{}: skipped, it is not a directory", folder.display()));
        }
        return Ok(found);
    }
    // One listing instead of four look-ups for each of thousands of hosts.
    let listed: HashSet<OsString> = directory(folder)?.into_iter().collect();
    for (at, name) in names {
        let mut vars = Vars::new();
        for file in files_of(folder, name, &listed)? {
            vars.extend(read_file(&file, passwords)?);
        }
        if !vars.is_empty() {
            found.insert(at, vars);
        }
    }
    Ok(found)
}

fn files_of(folder: &Path, name: &str, listed: &HashSet<OsString>) -> Result<Vec<PathBuf>, Error> {
    // A name may hold slashes, but it leads nowhere outside.
    if !Path::new(name).components().all(|part| matches!(part, Component::Normal(_))) {
        return Ok(Vec::new());
    }
    for extension in EXTENSIONS {
        let file = format!("{name}{extension}");
        let path = folder.join(&file);
        if !(name.contains('/') || listed.contains(OsStr::new(&file))) || !path.exists() {
            continue;
        }
        let mut files = Vec::new();
        if path.is_dir() {
            collect(&path, 0, &mut files)?;
        } else {
            files.push(path);
        }
        return Ok(files);
    }
    Ok(Vec::new())
}

fn collect(folder: &Path, depth: usize, files: &mut Vec<PathBuf>) -> Result<(), Error> {
    if depth == MAX_DIRECTORIES {
        let fault =
            Fault::too_large("the depth of directories", MAX_DIRECTORIES as u64, "look for a link that leads back up");
        return Err(fault.in_file(folder));
    }
    for name in directory(folder)? {
        let bytes = name.as_encoded_bytes();
        if bytes.starts_with(b".") || bytes.ends_with(b"~") {
            continue;
        }
        let path = folder.join(&name);
        let extension = path.extension();
        if path.is_dir() {
            if extension.is_none() {
                collect(&path, depth + 1, files)?;
            }
        } else if path.is_file() && extension.is_none_or(|e| e == "yml" || e == "yaml" || e == "json") {
            files.push(path);
        }
    }
    Ok(())
}

fn read_file(path: &Path, passwords: &Passwords) -> Result<Vars, Error> {
    let bytes = bytes_of(path, passwords)?;
    let node = document(&bytes).map_err(|fault| fault.in_file(path))?;
    match &node.kind {
        Kind::Map(pairs) => {
            let named = |(key, value): &(Node, Node)| Ok((key.variable_name()?.to_owned(), value.value()));
            pairs.iter().map(named).collect::<Result<Vars, Fault>>().map_err(|fault| fault.in_file(path))
        }
        _ if node.is_empty() => Ok(Vars::new()),
        _ => {
            let reason = format!("a file of variables must be a dictionary, this is {}", node.type_name());
            Err(Fault::invalid(reason, "write `name: value` lines").at(node.line).in_file(path))
        }
    }
}
