//! Sources, precedence and refusals as a caller meets them, without Ansible at hand.
#![allow(clippy::unwrap_used)]

use std::path::Path;

use ansible_compat::{Error, Export, Inventory, Source};
use serde_json::json;

/// Writes files into a new directory.
fn folder(files: &[(&str, &str)]) -> tempfile::TempDir {
    let folder = tempfile::tempdir().unwrap();
    for (name, text) in files {
        let path = folder.path().join(name);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(path, text).unwrap();
    }
    folder
}

fn load(path: &Path) -> Result<Inventory, Error> {
    Inventory::load(&[Source::Path(path.to_path_buf())])
}

#[test]
fn host_lists() {
    let inventory = Inventory::load(&[Source::from_argument("web01, db[1:2],,[::1]:22,web01,h:2222")]).unwrap();
    // Brackets in a list are no range.
    assert_eq!(inventory.hosts().collect::<Vec<_>>(), ["web01", "db[1:2]", "::1", "h"]);
    assert_eq!(inventory.vars_of("h").unwrap()["ansible_port"], 2222);
    assert_eq!(inventory.groups_of("h").unwrap(), ["ungrouped"]);
    assert_eq!(inventory.vars_of("nobody"), None);
    assert_eq!(inventory.groups_of("nobody"), None);
    assert_eq!(inventory.hosts_of("nobody"), None);
}

#[test]
fn a_plain_list_of_names() {
    let folder = folder(&[("hosts.txt", "web01\nweb02\n# gone\n\ndb01\n")]);
    let inventory = load(&folder.path().join("hosts.txt")).unwrap();
    assert_eq!(inventory.hosts().collect::<Vec<_>>(), ["web01", "web02", "db01"]);
    assert_eq!(inventory.groups().collect::<Vec<_>>(), ["all", "ungrouped"]);
}

#[test]
fn later_sources_and_files_win() {
    let folder = folder(&[
        ("a/hosts", "[g]\nh own=a\n[g:vars]\nx=a\ny=a\nz=a\n"),
        ("a/group_vars/all.yml", "x: all-a\nw: all-a\n"),
        ("a/group_vars/g.yml", "v: g-a\n"),
        ("b/hosts", "[g:vars]\ny=b\n[g]\n"),
        ("b/group_vars/all.yml", "w: all-b\nv: all-b\n"),
        ("b/host_vars/h", "own: b\n"),
    ]);
    let sources = ["a/hosts", "b/hosts"].map(|name| Source::Path(folder.path().join(name)));
    let vars = Inventory::load(&sources).unwrap().vars_of("h").unwrap();
    // Files of `all` beat group variables of the inventory; files of groups beat files of `all` from any source.
    let expected = json!({"x": "all-a", "y": "b", "z": "a", "w": "all-b", "v": "g-a", "own": "b"});
    assert_eq!(json!(vars), expected);
}

#[test]
fn what_code_or_passwords_make_is_refused_by_name() {
    let folder = folder(&[
        ("cloud.yml", "# from aws\nplugin: amazon.aws.aws_ec2\n"),
        ("whole.yml", "$ANSIBLE_VAULT;1.1;AES256\n6162\n"),
        ("hosts.toml", "[web.hosts]\n"),
        ("list/hosts", "h\n"),
        ("same/hosts.yml", "all:\n  hosts: {web: }\nweb:\n  hosts: {a: }\n"),
        ("key.yml", "all:\n  vars:\n    yes: 1\n"),
        ("list/group_vars/all", "- a\n"),
    ]);
    for (name, parts) in [
        ("cloud.yml", ["cloud.yml:2:", "`amazon.aws.aws_ec2`", "ansible-inventory -i FILE --list --yaml --export"]),
        ("whole.yml", ["whole.yml:1:", "a vault file", "--vault-password-file"]),
        ("hosts.toml", ["hosts.toml:", "a TOML inventory", "ansible-inventory -i FILE"]),
        ("list/hosts", ["all:1:", "must be a dictionary", "write `name: value` lines"]),
        ("same/hosts.yml", ["hosts.yml:", "a host `web` in no group", "rename one"]),
        ("key.yml", ["key.yml:3:", "the variable name `true`", "put it in quotes"]),
        ("nowhere", ["nowhere:", "no such inventory", "give a file"]),
    ] {
        let text = load(&folder.path().join(name)).unwrap_err().to_string();
        for part in parts {
            assert!(text.contains(part), "{name}: {part:?} is not in {text:?}");
        }
    }
}

#[cfg(unix)]
#[test]
fn scripts_are_refused_but_executable_lists_are_not() {
    use std::os::unix::fs::PermissionsExt as _;
    let folder = folder(&[("script", "#!/bin/sh\necho '{}'\n"), ("hosts", "web01\n"), ("binary", "\x7fELF\0")]);
    for name in ["script", "hosts", "binary"] {
        std::fs::set_permissions(folder.path().join(name), std::fs::Permissions::from_mode(0o755)).unwrap();
    }
    for name in ["script", "binary"] {
        let text = load(&folder.path().join(name)).unwrap_err().to_string();
        assert!(text.contains("(dynamic inventory) is not read here; run `ansible-inventory"), "{text}");
    }
    assert_eq!(load(&folder.path().join("hosts")).unwrap().hosts().collect::<Vec<_>>(), ["web01"]);
}

#[test]
fn a_broken_file_in_a_directory_breaks_the_whole() {
    let folder = folder(&[("1", "a\n"), ("2.yml", "all:\n  hosts: [b]\n")]);
    let error = load(folder.path()).unwrap_err();
    assert!(
        matches!(&error, Error::Invalid { place, .. } if place.line == Some(2) && place.path.ends_with("2.yml")),
        "{error}"
    );
}

#[test]
fn names_lead_nowhere_outside() {
    let folder =
        folder(&[("inv/hosts", "..\n../secret\nx/y\n"), ("inv/host_vars/x/y", "in: 1\n"), ("inv/secret", "out: 1\n")]);
    let inventory = load(&folder.path().join("inv/hosts")).unwrap();
    assert_eq!(json!(inventory.vars_of("x/y").unwrap()), json!({"in": 1}));
    assert!(inventory.vars_of("../secret").unwrap().is_empty());
}

#[test]
fn warnings_have_a_place() {
    let folder = folder(&[("h.yml", "all:\n  hosts: {a: }\n  extra: {}\nb: 5\n")]);
    let inventory = load(&folder.path().join("h.yml")).unwrap();
    let warnings = inventory.warnings();
    assert_eq!(warnings.len(), 2, "{warnings:?}");
    assert!(
        warnings[0].contains("h.yml:3: `extra`") && warnings[1].contains("h.yml:4: `b` is skipped"),
        "{warnings:?}"
    );
}

#[test]
fn a_fleet_of_thousands_with_vars_beside() {
    let mut text = String::from("[web]\nw[0001:5500].example.com rack=7\n[web:vars]\nport=80\n[site:children]\nweb\n");
    text += "[site:vars]\nregion='eu'\n";
    let folder = folder(&[
        ("hosts", &text),
        ("group_vars/all.yml", "ntp: a\n"),
        ("host_vars/w0042.example.com.yml", "rack: 8\n"),
    ]);
    let inventory = load(&folder.path().join("hosts")).unwrap();
    let list = inventory.to_list_json(Export::No);
    let hostvars = &list["_meta"]["hostvars"];
    assert_eq!(hostvars.as_object().unwrap().len(), 5500);
    assert_eq!(hostvars["w0042.example.com"], json!({"rack": 8, "port": 80, "region": "eu", "ntp": "a"}));
    assert_eq!(
        inventory.select("web[-1],web[0:1]").unwrap(),
        ["w5500.example.com", "w0001.example.com", "w0002.example.com"]
    );
}

#[test]
fn chains_of_groups_have_a_limit_not_a_crash() {
    let chain = |length: usize| {
        let sections: String = (0..length).map(|at| format!("[g{at}:children]\ng{}\n", at + 1)).collect();
        folder(&[("hosts", &format!("{sections}[g{length}]\nh\n"))])
    };
    let deep = chain(200);
    let inventory = load(&deep.path().join("hosts")).unwrap();
    assert_eq!(inventory.groups_of("h").unwrap().len(), 201);
    assert_eq!(inventory.to_list_json(Export::Yes)["g199"], json!({"children": ["g200"]}));
    let text = load(&chain(1000).path().join("hosts")).unwrap_err().to_string();
    assert!(text.contains("group levels is more than the limit of 256"), "{text}");
}
