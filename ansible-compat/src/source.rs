//! What `-i` may name, and reading it from the disk within limits.
//!
//! Which format a file has is decided here, in Ansible's order: script, plugin or YAML, INI.

use std::ffi::OsStr;
use std::fmt;
use std::fs;
use std::io::Read as _;
use std::path::{Path, PathBuf};

use crate::error::{Error, Fault, FaultKind};
use crate::inventory::{ini, tree};
use crate::model::{Model, UNGROUPED};
use crate::text::node::{Kind, Node};
use crate::text::{host_range, json, yaml};

/// Bytes of one file; the largest inventories seen are below 2 MiB.
const MAX_FILE: u64 = 16 * 1024 * 1024;

/// Directories within directories; more is a circle of links.
const MAX_DIRECTORIES: usize = 16;

/// Endings Ansible passes over in an inventory directory; `.ini` and `.cfg` are really among them.
const IGNORED_ENDINGS: [&str; 13] =
    [".pyc", ".pyo", ".swp", ".bak", "~", ".rpm", ".md", ".txt", ".rst", ".orig", ".ini", ".cfg", ".retry"];

/// One inventory source, what one `-i` names.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Source {
    /// A file, or a directory whose files are read in sorted order.
    Path(PathBuf),
    /// Host names between commas: `web01,web02,`.
    List(String),
}

impl fmt::Display for Source {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Path(path) => path.display().fmt(f),
            Self::List(list) => f.write_str(list),
        }
    }
}

impl Source {
    /// Reads a command line argument as Ansible does: text with a comma that is no existing path is a list.
    #[must_use]
    pub fn from_argument(argument: &str) -> Self {
        if argument.contains(',') && !Path::new(argument).exists() {
            return Self::List(argument.to_owned());
        }
        Self::Path(PathBuf::from(argument))
    }

    /// Where `group_vars/` and `host_vars/` of this source are looked for.
    pub(crate) fn base(&self) -> Option<PathBuf> {
        let Self::Path(path) = self else { return None };
        if path.is_dir() {
            return Some(path.clone());
        }
        let parent = path.parent().filter(|parent| !parent.as_os_str().is_empty());
        Some(parent.unwrap_or(Path::new(".")).to_path_buf())
    }

    pub(crate) fn read(&self, model: &mut Model) -> Result<(), Error> {
        match self {
            Self::Path(path) => read_path(path, 0, model),
            Self::List(list) => read_list(list, model).map_err(|fault| fault.in_file(Path::new(list))),
        }
    }
}

fn read_list(list: &str, model: &mut Model) -> Result<(), Fault> {
    for written in list.split(',').map(crate::text::lines::strip).filter(|name| !name.is_empty()) {
        // Lists know no ranges: brackets stay in the name.
        let (name, port) = match host_range::address(written)? {
            Some((name, _)) if name.contains('[') => (written, None),
            Some(address) => address,
            None => (written, None),
        };
        if !model.host_index.contains_key(name) {
            model.add_host(name, UNGROUPED, port)?;
        }
    }
    Ok(())
}

fn read_path(path: &Path, depth: usize, model: &mut Model) -> Result<(), Error> {
    if !path.exists() {
        return Err(Error::Missing { path: path.to_path_buf() });
    }
    if !path.is_dir() {
        return read_file(path, model);
    }
    if depth == MAX_DIRECTORIES {
        let fault =
            Fault::too_large("the depth of directories", MAX_DIRECTORIES as u64, "look for a link that leads back up");
        return Err(fault.in_file(path));
    }
    for name in directory(path)? {
        if !is_ignored(&name) {
            read_path(&path.join(&name), depth + 1, model)?;
        }
    }
    Ok(())
}

fn is_ignored(name: &OsStr) -> bool {
    let bytes = name.as_encoded_bytes();
    bytes.starts_with(b".")
        || ["group_vars", "host_vars", "vars_plugins"].iter().any(|known| name == *known)
        || IGNORED_ENDINGS.iter().any(|ending| bytes.ends_with(ending.as_bytes()))
}

/// The names in a directory, sorted by their bytes.
pub(crate) fn directory(path: &Path) -> Result<Vec<std::ffi::OsString>, Error> {
    let unreadable = |cause| Error::Unreadable { path: path.to_path_buf(), cause };
    let mut names = Vec::new();
    for entry in fs::read_dir(path).map_err(unreadable)? {
        names.push(entry.map_err(unreadable)?.file_name());
    }
    names.sort();
    Ok(names)
}

/// The bytes of a file within the limit; vault files are refused.
pub(crate) fn bytes_of(path: &Path) -> Result<Vec<u8>, Error> {
    let unreadable = |cause| Error::Unreadable { path: path.to_path_buf(), cause };
    let mut bytes = Vec::new();
    fs::File::open(path).map_err(unreadable)?.take(MAX_FILE + 1).read_to_end(&mut bytes).map_err(unreadable)?;
    if bytes.len() as u64 > MAX_FILE {
        return Err(Fault::too_large("the size in bytes", MAX_FILE, "split the file").in_file(path));
    }
    if bytes.starts_with(b"$ANSIBLE_VAULT;") {
        return Err(Fault::vault("a vault file").at(1).in_file(path));
    }
    Ok(bytes)
}

/// A file as JSON, else as YAML.
pub(crate) fn document(bytes: &[u8]) -> Result<Node, Fault> {
    let text = std::str::from_utf8(bytes).map_err(|_| Fault::invalid("the file is not UTF-8", "save it as UTF-8"))?;
    json::parse(text).unwrap_or_else(|| yaml::parse(text))
}

fn read_file(path: &Path, model: &mut Model) -> Result<(), Error> {
    let bytes = bytes_of(path)?;
    if let Some(what) = program(path, &bytes) {
        let way_out = "run `ansible-inventory -i FILE --list --yaml --export > hosts.yml` and import hosts.yml; a plain text file must not be executable";
        return Err(Fault::recognised(what, way_out).in_file(path));
    }
    let extension = path.extension().and_then(OsStr::to_str);
    if extension == Some("toml") {
        let way_out = "run `ansible-inventory -i FILE --list --yaml --export > hosts.yml` and import hosts.yml";
        return Err(Fault::recognised("a TOML inventory", way_out).in_file(path));
    }
    let named_yaml = matches!(extension, Some("yml" | "yaml" | "json"));
    // Without an extension YAML is tried first, then INI; with another extension it is INI.
    if extension.is_some() && !named_yaml {
        return ini::read(&bytes, model).map_err(|fault| fault.in_file(path));
    }
    let tree = document(&bytes);
    let fault = match tree {
        Ok(node) if matches!(&node.kind, Kind::Map(groups) if !groups.is_empty()) => {
            let mut warnings = Vec::new();
            let mut warn = |line: usize, text: String| {
                let place = crate::error::Place { path: path.to_path_buf(), line: Some(line).filter(|&line| line > 0) };
                warnings.push(format!("{place}: {text}"));
            };
            let done = tree::read(&node, model, &mut warn);
            model.warnings.append(&mut warnings);
            return done.map_err(|fault| fault.in_file(path));
        }
        Ok(node) if node.is_empty() => {
            Fault::invalid("the file holds no groups", "begin with `all:` and put `hosts:` below it")
        }
        Ok(node) => Fault::invalid(
            format!("a YAML inventory must be a dictionary of groups, this is {}", node.type_name()),
            "begin with `all:` and put `hosts:` below it",
        ),
        Err(fault) if fault.kind == FaultKind::Recognised => return Err(fault.in_file(path)),
        Err(fault) => fault,
    };
    // A failed INI reading leaves hosts behind, but a failed source fails the whole inventory.
    ini::read(&bytes, model).map_err(|ini_fault| if named_yaml { fault } else { ini_fault }.in_file(path))
}

/// Says what kind of program this is, if Ansible would have run it.
///
/// An executable text without `#!` fails to start there and is then read as text, so it is read here as well.
fn program(path: &Path, bytes: &[u8]) -> Option<&'static str> {
    if !is_executable(path) {
        return None;
    }
    if bytes.starts_with(b"#!") {
        return Some("an executable script (dynamic inventory)");
    }
    bytes.contains(&0).then_some("an executable program (dynamic inventory)")
}

#[cfg(unix)]
fn is_executable(path: &Path) -> bool {
    use std::os::unix::fs::PermissionsExt as _;
    fs::metadata(path).is_ok_and(|metadata| metadata.permissions().mode() & 0o111 != 0)
}

#[cfg(not(unix))]
fn is_executable(_path: &Path) -> bool {
    false
}
