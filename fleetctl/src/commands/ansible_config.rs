//! The inventories that Ansible's own configuration names, for commands without `-i`. Nothing else of it is read.

use std::path::{Path, PathBuf};

use ansible_compat::Source;

use crate::failure::Failure;

/// What `$ANSIBLE_INVENTORY` or the first `ansible.cfg` that there is names, in Ansible's order of places.
///
/// # Errors
/// 65 if that file cannot be read.
pub(super) fn default_sources() -> Result<Vec<Source>, Failure> {
    if let Some(named) = std::env::var("ANSIBLE_INVENTORY").ok().filter(|named| !named.is_empty()) {
        return Ok(sources_of(&named, Path::new("")));
    }
    let home = std::env::var_os("HOME").map(|home| PathBuf::from(home).join(".ansible.cfg"));
    let named = std::env::var_os("ANSIBLE_CONFIG").filter(|named| !named.is_empty()).map(PathBuf::from);
    let places = named.into_iter().chain([PathBuf::from("ansible.cfg")]).chain(home);
    let Some(file) = places.chain([PathBuf::from("/etc/ansible/ansible.cfg")]).find(|file| file.is_file()) else {
        return Ok(Vec::new());
    };
    let text = std::fs::read_to_string(&file)
        .map_err(|e| Failure::data(format!("cannot read {}", file.display())).caused_by(&e))?;
    let folder = file.parent().unwrap_or(Path::new(""));
    Ok(inventory_of(&text).map_or_else(Vec::new, |named| sources_of(named, folder)))
}

/// `inventory` in the section `[defaults]`, without a comment behind it.
fn inventory_of(text: &str) -> Option<&str> {
    let mut inside = false;
    let mut found = None;
    for line in text.lines().map(str::trim) {
        if line.starts_with('[') {
            inside = line == "[defaults]";
            continue;
        }
        let Some((key, value)) = line.split_once(['=', ':']).filter(|_| inside && !line.starts_with(['#', ';'])) else {
            continue;
        };
        if key.trim() == "inventory" {
            found = Some(value.split(" ;").next().unwrap_or_default().trim());
        }
    }
    found.filter(|value| !value.is_empty())
}

/// Paths between commas; what is relative is so to the file that names it.
fn sources_of(named: &str, folder: &Path) -> Vec<Source> {
    let parts = named.split(',').map(str::trim).filter(|part| !part.is_empty());
    parts.map(|part| Source::Path(folder.join(part))).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_inventory_of_a_configuration() {
        let text = "[ssh]\ninventory=no\n[defaults]\n# inventory = no\ninventory = prod, more/hosts ; why\nforks=5\n";
        assert_eq!(inventory_of(text), Some("prod, more/hosts"));
        let sources = sources_of("prod, /more/hosts", Path::new("/etc/ansible"));
        assert_eq!(sources, ["/etc/ansible/prod", "/more/hosts"].map(|path| Source::Path(PathBuf::from(path))));
        assert_eq!(inventory_of("[defaults]\ninventory =\n"), None);
        assert_eq!(inventory_of("inventory = x\n"), None);
    }
}
