//! Generated inventories, read by this crate and by every real Ansible that `real` finds: the same JSON, the same tree,
//! the same hosts, and failure exactly where it fails.
//!
//! The trees are the same on every machine and every day. `FLEET_ANSIBLE_SEED` gives others, `FLEET_ANSIBLE_CASES` more;
//! what they find becomes a file in `inventories/`.
#![allow(clippy::unwrap_used)]

#[path = "generated/strategies.rs"]
mod strategies;

mod program;
mod real;

use std::path::Path;

use ansible_compat::{Error, Export, Inventory, Playbook, Reading, Scripts, Source};
use proptest::prelude::*;
use proptest::strategy::ValueTree as _;
use proptest::test_runner::{Config, RngAlgorithm, TestRng, TestRunner};
use real::{GraphVars, Oracle, Told, Version};
use strategies::{Case, Mode, case};

/// Trees over all versions together.
const CASES: usize = 2_400;

/// Of a hundred trees, how many may be refused by name although Ansible reads them: keys that are no text, and values
/// that JSON does not have.
const MOST_REFUSED_PERCENT: usize = 8;

/// Of a hundred trees, how many both must read; refusing everything would agree too.
const LEAST_READ_PERCENT: usize = 40;

fn number(variable: &str, otherwise: usize) -> usize {
    std::env::var(variable).ok().map_or(otherwise, |text| text.parse().unwrap())
}

fn write(case: &Case, folder: &Path) {
    for (name, text, mode) in &case.files {
        let path = folder.join(name);
        // A directory of the name beats a file of the name; here whichever came first stays.
        let _other_stays = std::fs::create_dir_all(path.parent().unwrap()).and_then(|()| match mode {
            Mode::Text => std::fs::write(&path, text),
            Mode::Program => program::write(&path, text),
        });
    }
}

fn arguments(case: &Case) -> Vec<String> {
    let mut arguments: Vec<String> = case.sources.iter().flat_map(|source| ["-i".to_owned(), source.clone()]).collect();
    arguments.extend(case.limit.map(|limit| format!("--limit={limit}")));
    if case.playbook {
        arguments.extend(["--playbook-dir".to_owned(), "play".to_owned()]);
    }
    arguments
}

fn reading(case: &Case, folder: &Path, version: &Version) -> Reading {
    let playbook = match case.playbook {
        true => Playbook::Named(folder.join("play")),
        false => Playbook::Working(folder.to_path_buf()),
    };
    Reading { edition: version.edition, scripts: Scripts::Run, playbook, ..Reading::default() }
}

fn ours(case: &Case, folder: &Path, version: &Version) -> Result<Told, Error> {
    let at = |source: &String| match Source::from_argument(source) {
        Source::Path(path) => Source::Path(folder.join(path)),
        list @ Source::List(_) => list,
    };
    let sources: Vec<Source> = case.sources.iter().map(at).collect();
    let inventory: Inventory = reading(case, folder, version).load(&sources)?;
    let limit = inventory.limit(case.limit.unwrap_or("all")).map(|selection| selection.hosts).unwrap_or_default();
    let told = |export| inventory.to_limited_list_json(export, &limit);
    let mut hosts: Vec<String> = limit.iter().map(|&host| host.to_owned()).collect();
    hosts.sort();
    Ok(Told { list: told(Export::No), export: told(Export::Yes), graph: inventory.to_graph(), graph_vars: None, hosts })
}

enum Outcome {
    BothRead,
    BothRefuse,
    /// Refused by name.
    OnlyAnsible,
}

fn compare(case: &Case, oracle: &mut Oracle) -> Result<Outcome, String> {
    let folder = tempfile::tempdir().unwrap();
    write(case, folder.path());
    let theirs = oracle.ask(folder.path(), &arguments(case), GraphVars::Left);
    match (ours(case, folder.path(), &oracle.version.clone()), theirs) {
        (Ok(mine), Ok(mut theirs)) => {
            theirs.hosts.sort();
            if mine == theirs {
                return Ok(Outcome::BothRead);
            }
            Err(format!("ours:   {mine:?}\ntheirs: {theirs:?}"))
        }
        (Err(_), Err(_)) => Ok(Outcome::BothRefuse),
        // With a limit Ansible never looks at the files of the hosts that are left out.
        (Err(_), Ok(_)) if case.limit.is_some() => compare(&Case { limit: None, ..case.clone() }, oracle),
        (Err(Error::Unsupported { .. }), Ok(_)) => Ok(Outcome::OnlyAnsible),
        (Err(error), Ok(_)) => Err(format!("only Ansible reads it: {error}")),
        (Ok(_), Err(refused)) => Err(format!("only Ansible refuses it: {refused}")),
    }
}

fn shown(case: &Case) -> String {
    let files: Vec<String> =
        case.files.iter().map(|(name, text, mode)| format!("--- {name} ({mode:?})\n{text}")).collect();
    format!("{}\n{:?}", files.join("\n"), arguments(case))
}

/// The first difference among the trees, made as small as it gets.
fn first_difference(version: &Version, cases: usize, seed: u8) -> Result<[usize; 3], String> {
    let mut oracle = Oracle::start(version);
    let rng = TestRng::from_seed(RngAlgorithm::ChaCha, &[seed; 32]);
    let mut runner = TestRunner::new_with_rng(Config::default(), rng);
    let mut counts = [0; 3];
    for _ in 0..cases {
        let mut tree = case().new_tree(&mut runner).unwrap();
        let mut found = match compare(&tree.current(), &mut oracle) {
            Ok(outcome) => {
                counts[outcome as usize] += 1;
                continue;
            }
            Err(found) => found,
        };
        let mut smallest = tree.current();
        let mut steps = 0;
        let mut simpler = tree.simplify();
        while simpler && steps < 2_000 {
            steps += 1;
            match compare(&tree.current(), &mut oracle) {
                Err(still) => {
                    (smallest, found) = (tree.current(), still);
                    simpler = tree.simplify();
                }
                Ok(_) => simpler = tree.complicate(),
            }
        }
        return Err(format!("ansible-core {} on\n{}\n{found}", version.number, shown(&smallest)));
    }
    Ok(counts)
}

#[test]
fn generated_inventories_read_as_every_real_ansible_reads_them() {
    let versions = real::versions("the comparison of generated inventories");
    let Some(each) = number("FLEET_ANSIBLE_CASES", CASES).checked_div(versions.len()) else { return };
    let seed = u8::try_from(number("FLEET_ANSIBLE_SEED", 1)).unwrap();
    let results: Vec<_> = std::thread::scope(|scope| {
        let running: Vec<_> = versions
            .iter()
            .zip(0..)
            .map(|(version, at)| {
                scope.spawn(move || first_difference(version, each, seed.wrapping_mul(16).wrapping_add(at)))
            })
            .collect();
        running.into_iter().map(|one| one.join().unwrap()).collect()
    });
    let mut differences = Vec::new();
    for (version, result) in versions.iter().zip(results) {
        match result {
            Err(difference) => differences.push(difference),
            Ok([read, refused, by_name]) => {
                let line =
                    format!("{}: both read {read}, both refuse {refused}, refused by name {by_name}\n", version.number);
                std::io::Write::write_all(&mut std::io::stderr(), line.as_bytes()).unwrap();
                assert!(read * 100 >= each * LEAST_READ_PERCENT, "{line}");
                assert!(by_name * 100 <= each * MOST_REFUSED_PERCENT, "{line}");
            }
        }
    }
    assert!(differences.is_empty(), "{}", differences.join("\n\n"));
}
