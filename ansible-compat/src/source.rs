//! What `-i` may name, and reading it from the disk within limits.
//!
//! Which format a file has is decided here, in Ansible's order: script, plugin or YAML, INI.

use std::ffi::OsStr;
use std::fmt;
use std::fs;
use std::io::Read as _;
use std::path::{Path, PathBuf};

use crate::edition::Edition;
use crate::error::{Error, Fault, FaultKind};
use crate::inventory::{ini, tree};
use crate::model::{Model, UNGROUPED};
use crate::reading::Reading;
use crate::text::node::{Kind, Node};
use crate::text::{host_range, json, yaml};
use crate::vault;
use crate::vault::passwords::Passwords;

/// Bytes of one file; the largest inventories seen are below 2 MiB.
const MAX_FILE: u64 = 16 * 1024 * 1024;

/// Bytes of a file by which a program is told from text; the header of an ELF file is 64.
const MAX_PROGRAM_HEAD: u64 = 4096;

/// Directories within directories; more is a circle of links.
const MAX_DIRECTORIES: usize = 16;

/// Endings Ansible passes over in an inventory directory; `.cfg` is really among them, and `.ini` was before 2.19.
const IGNORED_ENDINGS: [&str; 12] =
    [".pyc", ".pyo", ".swp", ".bak", "~", ".rpm", ".md", ".txt", ".rst", ".orig", ".cfg", ".retry"];

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

    pub(crate) fn read(&self, reading: &Reading, model: &mut Model) -> Result<(), Error> {
        match self {
            Self::Path(path) => read_path(path, 0, reading, model),
            Self::List(list) => read_list(list, model).map_err(|fault| fault.in_file(Path::new(list))),
        }
    }
}

fn read_list(list: &str, model: &mut Model) -> Result<(), Fault> {
    for written in list.split(',').map(crate::text::lines::strip).filter(|name| !name.is_empty()) {
        // Lists know no ranges: brackets stay in the name.
        let (name, port) = match host_range::address(written, model.edition)? {
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

fn read_path(path: &Path, depth: usize, reading: &Reading, model: &mut Model) -> Result<(), Error> {
    if !path.exists() {
        return Err(Error::Missing { path: path.to_path_buf() });
    }
    if !path.is_dir() {
        return read_file(path, reading, model);
    }
    if depth == MAX_DIRECTORIES {
        let fault =
            Fault::too_large("the depth of directories", MAX_DIRECTORIES as u64, "look for a link that leads back up");
        return Err(fault.in_file(path));
    }
    let mut read = 0;
    for name in directory(path)? {
        if is_ignored(&name) {
            continue;
        }
        let below = path.join(&name);
        if reading.edition == Edition::Core2_18 && name.as_encoded_bytes().ends_with(b".ini") {
            model
                .warnings
                .push(format!("{}: passed over, as Ansible before 2.19 does in a directory", below.display()));
            continue;
        }
        read_path(&below, depth + 1, reading, model)?;
        read += 1;
    }
    if read == 0 {
        let fault = Fault::invalid(
            "the directory holds no inventory",
            "put one into it; hidden files and some endings are passed over",
        );
        return Err(fault.in_file(path));
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

/// The bytes of a file, one more than the limit at most.
pub(crate) fn bytes_within(path: &Path) -> std::io::Result<Vec<u8>> {
    let mut bytes = Vec::new();
    fs::File::open(path)?.take(MAX_FILE + 1).read_to_end(&mut bytes)?;
    Ok(bytes)
}

/// The bytes of a file within the limit; a vault is opened.
pub(crate) fn bytes_of(path: &Path, passwords: &Passwords) -> Result<Vec<u8>, Error> {
    let bytes = bytes_within(path).map_err(|cause| Error::Unreadable { path: path.to_path_buf(), cause })?;
    if bytes.len() as u64 > MAX_FILE {
        return Err(Fault::too_large("the size in bytes", MAX_FILE, "split the file").in_file(path));
    }
    if vault::is_vault(&bytes) {
        return vault::open(&bytes, passwords).map_err(|fault| fault.at(1).in_file(path));
    }
    Ok(bytes)
}

/// A file as JSON, else as YAML.
pub(crate) fn document(bytes: &[u8]) -> Result<Node, Fault> {
    let text = std::str::from_utf8(bytes).map_err(|_| Fault::invalid("the file is not UTF-8", "save it as UTF-8"))?;
    json::parse(text).unwrap_or_else(|| yaml::parse(text))
}

fn read_file(path: &Path, reading: &Reading, model: &mut Model) -> Result<(), Error> {
    if is_program(path)? {
        return reading.run_script(path, model).map_err(|fault| fault.in_file(path));
    }
    let bytes = bytes_of(path, &reading.passwords)?;
    let extension = path.extension().and_then(OsStr::to_str);
    if extension == Some("toml") {
        return Err(Fault::plugin("a TOML inventory").in_file(path));
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
        Err(fault) if matches!(fault.kind, FaultKind::Recognised | FaultKind::Plugin) => {
            return Err(fault.in_file(path));
        }
        Err(fault) => fault,
    };
    // A failed INI reading leaves hosts behind, but a failed source fails the whole inventory.
    // What Ansible would have read as YAML is named as such, whatever the file is called.
    let yaml_is_to_blame = named_yaml || fault.kind == FaultKind::Unsupported;
    ini::read(&bytes, model).map_err(|ini_fault| if yaml_is_to_blame { fault } else { ini_fault }.in_file(path))
}

/// Whether this is a program that Ansible would run.
///
/// An executable text without `#!` fails to start there and is then read as text, so it is read here as well.
fn is_program(path: &Path) -> Result<bool, Error> {
    if !is_executable(path) {
        return Ok(false);
    }
    // Programs may be larger than any inventory; how they begin is enough.
    let mut start = Vec::new();
    let read = fs::File::open(path).and_then(|file| file.take(MAX_PROGRAM_HEAD).read_to_end(&mut start));
    read.map_err(|cause| Error::Unreadable { path: path.to_path_buf(), cause })?;
    Ok(start.starts_with(b"#!") || start.contains(&0))
}

#[cfg(unix)]
pub(crate) fn is_executable(path: &Path) -> bool {
    use std::os::unix::fs::PermissionsExt as _;
    fs::metadata(path).is_ok_and(|metadata| metadata.permissions().mode() & 0o111 != 0)
}

#[cfg(not(unix))]
pub(crate) fn is_executable(_path: &Path) -> bool {
    false
}
