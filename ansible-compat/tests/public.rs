//! Inventories that people have published, read as every real Ansible reads them. None of their text is kept here:
//! `docs/ansible.md` names them, and `$FLEET_ANSIBLE_PUBLIC` is a directory with their repositories (`OWNER/NAME/…`).
#![allow(clippy::unwrap_used)]

mod real;

use std::io::Write as _;
use std::path::{Path, PathBuf};

use ansible_compat::{Export, Reading, Scripts, Source};
use real::{GraphVars, Oracle};

/// `OWNER/NAME` and a path, from the lines of the list.
fn named() -> Vec<(String, String)> {
    let document = Path::new(env!("CARGO_MANIFEST_DIR")).join("../docs/ansible.md");
    let text = std::fs::read_to_string(document).unwrap();
    let list = text.split("## Public inventories").nth(1).unwrap();
    let lines = list.lines().filter_map(|line| line.strip_prefix("- `")?.strip_suffix('`')?.split_once(": "));
    lines.map(|(repository, path)| (repository.to_owned(), path.to_owned())).collect()
}

#[test]
fn at_least_thirty_public_inventories_are_named() {
    assert!(named().len() >= 30, "only {}", named().len());
}

#[test]
fn public_inventories_read_as_every_real_ansible_reads_them() {
    let Some(folder) = std::env::var_os("FLEET_ANSIBLE_PUBLIC").map(PathBuf::from) else {
        let line =
            "\n=== SKIPPED: the comparison of public inventories did not run, FLEET_ANSIBLE_PUBLIC is not set ===\n";
        std::io::stderr().write_all(line.as_bytes()).unwrap();
        return;
    };
    let mut differences = Vec::new();
    for version in real::versions("the comparison of public inventories") {
        let mut oracle = Oracle::start(&version);
        for (repository, path) in named() {
            let source = folder.join(&repository).join(&path);
            let arguments = ["-i".to_owned(), source.display().to_string()];
            let theirs = oracle.ask(&oracle.home(), &arguments, GraphVars::Left);
            let reading = Reading { edition: version.edition, scripts: Scripts::Run, ..Reading::default() };
            let ours = reading.load(&[Source::Path(source)]);
            let place = format!("{} {repository}: {path}", version.number);
            match (ours, theirs) {
                (Ok(ours), Ok(theirs)) => {
                    for (export, told) in [(Export::No, theirs.list), (Export::Yes, theirs.export)] {
                        if ours.to_list_json(export) != told {
                            differences
                                .push(format!("{place}\n ours:   {}\n theirs: {told}", ours.to_list_json(export)));
                        }
                    }
                    if ours.to_graph() != theirs.graph {
                        differences.push(format!("{place}\n ours:   {}\n theirs: {}", ours.to_graph(), theirs.graph));
                    }
                }
                (Err(ours), theirs) => differences.push(format!("{place}: {ours}; theirs {:?}", theirs.err())),
                (Ok(_), Err(theirs)) => differences.push(format!("{place}: only Ansible refuses: {theirs}")),
            }
        }
    }
    assert!(differences.is_empty(), "{}", differences.join("\n"));
}
