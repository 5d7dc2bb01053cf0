//! What a `Reading` permits: passwords, scripts, plugins and a playbook's directory, and what it refuses without.
//! Where the real Ansible is at hand, its answer is asked for as well.
#![allow(clippy::unwrap_used)]

mod program;
mod real;

use std::path::{Path, PathBuf};

use ansible_compat::{
    Edition, Error, Export, GraphVars as Shown, Inventory, Passwords, Playbook, Plugins, Reading, Scripts, Source,
};
use real::{GraphVars, Oracle};
use serde_json::{Value, json};

/// Encrypted with the password `pw1` by `ansible-vault` of ansible-core 2.17.
fn vault() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/vault/whole")
}

fn folder(files: &[(&str, &str)]) -> tempfile::TempDir {
    let folder = tempfile::tempdir().unwrap();
    for (name, text) in files {
        let path = folder.path().join(name);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        if text.starts_with("#!") {
            program::write(&path, text).unwrap();
        } else {
            std::fs::write(&path, text).unwrap();
        }
    }
    folder
}

fn load(reading: &Reading, path: &Path) -> Result<Inventory, Error> {
    reading.load(&[Source::Path(path.to_path_buf())])
}

#[test]
fn a_vault_file_is_read_with_its_password_as_every_real_ansible_reads_it() {
    let secrets = folder(&[
        ("right", "pw1\n"),
        ("wrong", "hunter2\n"),
        ("asked", "#!/bin/sh\necho pw1\n"),
        ("my-client", "#!/bin/sh\n[ \"$1 $2\" = '--vault-id dev' ] && echo pw1\n"),
        ("failing", "#!/bin/sh\necho no luck >&2\nexit 3\n"),
        ("empty", "\n"),
    ]);
    let at = |name: &str| secrets.path().join(name);
    let id = |id: &str, name: &str| format!("{id}@{}", at(name).display());
    let expected = json!({"a": "text", "b": [1, "{{ x }}"], "c": {"__ansible_unsafe": "{{ y }}"}});
    let hosts = vault().join("hosts");
    let mut oracles: Vec<Oracle> = real::versions("the comparison of vaults").iter().map(Oracle::start).collect();
    for (ids, files, opens) in [
        (vec![], vec!["right"], true),
        (vec![], vec!["asked"], true),
        (vec![id("dev", "my-client")], vec![], true),
        (vec![id("other", "wrong"), id("dev", "right")], vec![], true),
        (vec![id("dev", "wrong")], vec!["right"], true),
        (vec![id("dev", "wrong")], vec![], false),
        (vec![], vec![], false),
    ] {
        let files: Vec<PathBuf> = files.into_iter().map(at).collect();
        let passwords = Passwords::read(&ids, &files).unwrap();
        assert!(!format!("{passwords:?}").contains("pw1"));
        let told = load(&Reading { passwords, ..Reading::default() }, &hosts);
        let mut arguments = vec!["-i".to_owned(), hosts.display().to_string()];
        arguments.extend(ids.iter().flat_map(|id| ["--vault-id".to_owned(), id.clone()]));
        arguments
            .extend(files.iter().flat_map(|file| ["--vault-password-file".to_owned(), file.display().to_string()]));
        for oracle in &mut oracles {
            let theirs = oracle.ask(&oracle.home(), &arguments, GraphVars::Left);
            assert_eq!(theirs.is_ok(), opens, "{} {arguments:?}", oracle.version.number);
            if let (Ok(theirs), Ok(ours)) = (theirs, &told) {
                assert_eq!(ours.to_list_json(Export::No), theirs.list);
            }
        }
        match told {
            Ok(inventory) => assert_eq!(inventory.to_host_json("h", Export::No), Some(expected.clone())),
            Err(error) => {
                assert!(!opens, "{error}");
                let text = error.to_string();
                assert!(text.contains("g.yml:1: a vault file") && !text.contains("hunter2"), "{text}");
            }
        }
    }
    for (name, part) in [("failing", "exit status: 3): no luck"), ("empty", "is empty"), ("nowhere", "cannot be read")]
    {
        let text = Passwords::read(&[], &[at(name)]).unwrap_err().to_string();
        assert!(text.contains(part) && text.contains("; "), "{text}");
    }
    let text = Passwords::read(&["dev@prompt".to_owned()], &[]).unwrap_err().to_string();
    assert!(text.contains("typed at a prompt"), "{text}");
}

#[test]
fn vault_values_are_shown_closed_whoever_knows_the_password() {
    let sealed = std::fs::read_to_string(vault().join("group_vars/g.yml")).unwrap();
    let block = sealed.trim_end().replace('\n', "\n        ");
    let text = format!("all:\n  hosts: {{h: }}\n  vars:\n    list: [1]\n    p: !vault |\n        {block}\n");
    let folder = folder(&[("hosts.yml", &text), ("pw", "pw1")]);
    let path = folder.path().join("hosts.yml");
    let passwords = Passwords::read(&[], &[folder.path().join("pw")]).unwrap();
    for passwords in [Passwords::default(), passwords] {
        let inventory = load(&Reading { passwords, ..Reading::default() }, &path).unwrap();
        let list = inventory.to_list_json(Export::No);
        let shown = list["_meta"]["hostvars"]["h"]["p"]["__ansible_vault"].as_str().unwrap();
        assert_eq!(shown.trim_end(), sealed.trim_end());
        let tree = inventory.to_graph_of("all", Shown::Shown(Export::Yes)).unwrap();
        assert_eq!(tree, "@all:\n  |--@ungrouped:\n  |  |--h\n  |--{list = [1]}\n  |--{p = <vault value>}");
        for version in real::versions("the comparison of vault values") {
            let mut oracle = Oracle::start(&version);
            let arguments = ["-i".to_owned(), path.display().to_string()];
            assert_eq!(oracle.ask(&oracle.home(), &arguments, GraphVars::Left).unwrap().list, list);
        }
    }
}

#[test]
fn trees_with_variables_are_those_of_every_real_ansible() {
    let text = "all:\n  vars: {a: 1, b: 1.5e+20, c: [true, null, 'x', \"it's\"], d: {e: {f: []}}, g: 'two\n\n      lines'}\n\
                web:\n  hosts: {h: {u: !unsafe '{{ x }}', v: [!unsafe 'y']}, i: }\n  vars: {ansible_group_priority: 5}\n";
    let folder = folder(&[("hosts.yml", text), ("group_vars/web.yml", "w: 'é\\t'\nn: -0.5\n")]);
    let path = folder.path().join("hosts.yml");
    for version in real::versions("the comparison of trees with variables") {
        let mut oracle = Oracle::start(&version);
        let reading = Reading { edition: version.edition, ..Reading::default() };
        let arguments = ["-i".to_owned(), path.display().to_string()];
        let theirs = oracle.ask(&oracle.home(), &arguments, GraphVars::Wanted).unwrap();
        let ours = load(&reading, &path).unwrap().to_graph_of("all", Shown::Shown(Export::No));
        assert_eq!(ours, theirs.graph_vars, "{}", version.number);
    }
}

const HOST_BY_HOST: &str = "#!/bin/sh
case \"$1\" in
--list) echo '{\"web\": {\"hosts\": [\"a\", \"b\"], \"children\": [\"new\"]}, \"lone\": {\"x\": \"t\"}}' ;;
--host) echo \"{\\\"name\\\": \\\"$2\\\"}\" ;;
esac
";

#[test]
fn a_script_is_asked_host_by_host_where_it_tells_no_variables() {
    let folder = folder(&[("hosts.sh", HOST_BY_HOST)]);
    let path = folder.path().join("hosts.sh");
    for edition in [Edition::Core2_18, Edition::Core2_19] {
        let reading = Reading { edition, scripts: Scripts::Run, ..Reading::default() };
        let inventory = load(&reading, &path).unwrap();
        assert_eq!(inventory.hosts().collect::<Vec<_>>(), ["a", "b", "lone"]);
        assert_eq!(inventory.to_host_json("b", Export::Yes), Some(json!({"name": "b"})));
        // `lone` is a group and a host, and variables go to the group.
        let x = match edition {
            Edition::Core2_18 => json!("t"),
            Edition::Core2_19 => json!({"__ansible_unsafe": "t"}),
        };
        assert_eq!(inventory.to_list_json(Export::Yes)["lone"]["vars"], json!({"name": "lone", "x": x}));
    }
    let refused = load(&Reading::default(), &path).unwrap_err().to_string();
    assert!(refused.contains("hosts.sh: an executable script"), "{refused}");
}

#[test]
fn a_script_that_fails_or_babbles_says_so() {
    for (script, part) in [
        (
            "#!/bin/sh\necho Traceback >&2\necho 'KeyError: token' >&2\nexit 1\n",
            "exit status: 1): KeyError: token; run it",
        ),
        ("#!/bin/sh\necho hello\n", "is not JSON"),
        ("#!/bin/sh\nprintf '\\377'\n", "is not UTF-8"),
        ("#!/bin/sh\necho '[]'\n", "the output is a list"),
        ("#!/nowhere/sh\n", "cannot be started"),
        (
            "#!/bin/sh\n[ $1 = --list ] && echo '{\"g\": [\"h\"]}' || echo '[]'\n",
            "what is said of the host `h` is a list",
        ),
        ("#!/bin/sh\n[ $1 = --list ] && echo '{\"g\": [\"h\"]}' || exit 7\n", "with `--host h` the program failed"),
    ] {
        let folder = folder(&[("hosts.sh", script)]);
        let reading = Reading { scripts: Scripts::Run, ..Reading::default() };
        let text = load(&reading, &folder.path().join("hosts.sh")).unwrap_err().to_string();
        assert!(text.contains(part) && text.contains("; "), "{text}");
    }
}

#[test]
fn a_plugin_is_handed_to_the_real_ansible_or_refused_by_name() {
    let folder = folder(&[
        ("inv/1-hosts", "[web]\nw1 port=80\nw2 port=81\n[web:vars]\nx=inventory\n"),
        ("inv/2.yml", "plugin: constructed\nstrict: true\ngroups: {first: port == 80}\ncompose: {double: port * 2}\n"),
        ("inv/group_vars/all.yml", "x: all\n"),
    ]);
    let path = folder.path().join("inv");
    let error = load(&Reading::default(), &path).unwrap_err();
    assert!(matches!(&error, Error::NeedsPlugin { what, .. } if what.contains("`constructed`")), "{error}");
    for version in real::versions("the delegation of plugins") {
        let plugins = Plugins::Delegate(version.bin.join("ansible-inventory"));
        let inventory = load(&Reading { plugins, edition: version.edition, ..Reading::default() }, &path).unwrap();
        let mut oracle = Oracle::start(&version);
        let arguments = ["-i".to_owned(), path.display().to_string()];
        let theirs = oracle.ask(&oracle.home(), &arguments, GraphVars::Left).unwrap();
        assert_eq!(inventory.to_list_json(Export::Yes), theirs.export, "{}", version.number);
        assert_eq!(inventory.to_list_json(Export::No), theirs.list, "{}", version.number);
        assert_eq!(inventory.to_graph(), theirs.graph, "{}", version.number);
        assert_eq!(inventory.select("first").unwrap(), ["w1"]);
        // Earlier versions make text of what a template computes.
        let told = inventory.to_host_json("w2", Export::No).unwrap();
        assert_eq!((&told["port"], &told["x"]), (&json!(81), &json!("all")));
    }
    let plugins = Plugins::Delegate(PathBuf::from("/nowhere/ansible-inventory"));
    let text = load(&Reading { plugins, ..Reading::default() }, &path).unwrap_err().to_string();
    assert!(text.contains("/nowhere/ansible-inventory: the program cannot be started"), "{text}");
}

#[test]
fn variables_beside_a_playbook_are_stronger_than_those_beside_the_inventory() {
    let folder = folder(&[
        ("inv/hosts", "[web]\nh\n"),
        ("inv/group_vars/web.yml", "a: inventory\nb: inventory\n"),
        ("play/group_vars/all.yml", "a: all of the play\nc: all of the play\n"),
        ("play/group_vars/web.yml", "b: play\n"),
    ]);
    let (path, play) = (folder.path().join("inv/hosts"), folder.path().join("play"));
    let told = |playbook| {
        let inventory = load(&Reading { playbook, ..Reading::default() }, &path).unwrap();
        let list = |export| inventory.to_list_json(export);
        (list(Export::No)["_meta"]["hostvars"]["h"].clone(), list(Export::Yes)["web"]["vars"].clone())
    };
    let merged = json!({"a": "inventory", "b": "play", "c": "all of the play"});
    let own: [Value; 2] = [json!({"a": "inventory", "b": "play"}), json!({"a": "inventory", "b": "inventory"})];
    assert_eq!(told(Playbook::Named(play.clone())), (merged.clone(), own[0].clone()));
    // Of a working directory only what hosts have in the end.
    assert_eq!(told(Playbook::Working(play)), (merged, own[1].clone()));
}

#[test]
fn a_directory_without_any_inventory_is_refused() {
    let folder = folder(&[("inv/README.md", "x"), ("inv/.hidden", "h\n"), ("inv/old.ini", "h\n")]);
    let path = folder.path().join("inv");
    let older = Reading { edition: Edition::Core2_18, ..Reading::default() };
    let text = load(&older, &path).unwrap_err().to_string();
    assert!(text.contains("the directory holds no inventory"), "{text}");
    // 2.19 reads what the earlier ones pass over.
    assert_eq!(load(&Reading::default(), &path).unwrap().hosts().collect::<Vec<_>>(), ["h"]);
}
