//! Host patterns against Ansible: the same questions, put to this crate and to `lib/ansible/inventory/manager.py`.
//!
//! Always with the answers of ansible-core 2.17.14 kept in `patterns/*.jsonl`; and with every real one that `real` finds,
//! then also on more generated patterns. To renew the kept answers, run with `FLEET_ANSIBLE_BLESS=1` and only 2.17 in
//! `FLEET_ANSIBLE_VENVS`.
//! What needs no Ansible is proved in `pattern_properties.rs`.
#![allow(clippy::unwrap_used)]

mod real;
#[path = "patterns/strategies.rs"]
mod strategies;

use std::collections::BTreeSet;
use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use ansible_compat::{Edition, HostPattern, Inventory, Notice, PatternError, PatternReason, Source};
use proptest::prelude::*;
use proptest::strategy::ValueTree as _;
use proptest::test_runner::{Config, RngAlgorithm, TestRng, TestRunner};
use serde_json::{Value, json};

use strategies::{address_like, likely_pattern};

/// Patterns generated for the kept answers.
const KEPT: usize = 160;

/// Patterns generated for the comparison with the real Ansible, on every inventory.
const FRESH: usize = 1_000;

/// Written by hand: each rule of `manager.py`, and what people stumble over.
const BY_HAND: [&str; 62] = [
    "all",
    "*",
    "ungrouped",
    "al*",
    "unknown",
    "web:db",
    "web:!az_a",
    "site:&az_b:!db",
    "!db,&site",
    "&az_a",
    "!all",
    "!az:!same",
    "same",
    "same[0]",
    "same,!same",
    "nobody",
    "nobody[0]",
    "site:&nobody",
    "web[0]",
    "web[-1]",
    "web[1:2]",
    "web[1:]",
    "web[1-2]",
    "web[2:0]",
    "web[2:1]",
    "web[5:99]",
    "web[99:]",
    "web[99]",
    "web[-99]",
    "web[-0]",
    "web[:2]",
    "web[1:2:1]",
    "*[3]",
    "az*[1:4]",
    "web[01:03].a.example.com",
    "web0[13].a.example.com",
    "web0[!13].a.example.com",
    "db-[a:b]1",
    "db-[a-b]1",
    "db-[a-b][12]",
    "db-[a-b]?",
    "~db-[ab]",
    "~.*example",
    "~(?i)WEB0[12]",
    "~(web|az)_?",
    "~az_a|db-c1$",
    "~w.:!~.*3",
    "web01.a.example.com:22",
    "fe80::1",
    "fe80::1:web",
    "fe80::1,web",
    "127.0.0.1",
    "localhost",
    "::1",
    "web db",
    "web, db",
    " web ,, !az_a ",
    "web]db[az",
    "!!web",
    "&!web",
    "db:typo:!typo2",
    "*.example.com:&az_*",
];

fn folder() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests")
}

/// Inventories that patterns are tried on: two made for it, and two of the reader's.
fn inventories() -> [PathBuf; 4] {
    let (own, good) = (folder().join("patterns"), folder().join("inventories/good"));
    [own.join("fleet.inv"), own.join(BRANCHES), good.join("nested.inv"), good.join("circle-free.inv")]
}

/// Ansible keeps groups of one level in a Python set, so where several of them have children, their order (and with it
/// what a subscript picks) is another one in every run. This crate goes by the order of the inventory; here only the
/// hosts are compared.
const BRANCHES: &str = "branches.inv";

fn kept_file(inventory: &Path) -> PathBuf {
    folder().join("patterns").join(inventory.file_name().unwrap()).with_extension("jsonl")
}

fn load(path: &Path) -> Inventory {
    Inventory::load(&[Source::Path(path.to_path_buf())]).unwrap_or_else(|error| panic!("{error}"))
}

/// The same patterns on every machine and every day.
fn generated(count: usize, seed: u8) -> Vec<String> {
    let rng = TestRng::from_seed(RngAlgorithm::ChaCha, &[seed; 32]);
    let mut runner = TestRunner::new_with_rng(Config::default(), rng);
    let strategy = prop_oneof![4 => likely_pattern().boxed(), 1 => address_like().boxed()];
    (0..count).map(|_| strategy.new_tree(&mut runner).unwrap().current()).collect()
}

/// What this crate says, in the form of `ask.py`.
fn ours(inventory: &Inventory, edition: Edition, text: &str) -> Result<Value, PatternReason> {
    let told = || {
        let pattern = HostPattern::of_edition(text, edition)?;
        Ok((pattern.select(inventory)?, pattern.limit(inventory)?))
    };
    let (selection, limit) = told().map_err(|error: PatternError| error.reason)?;
    let unmatched: BTreeSet<String> = selection.notices.iter().filter_map(unmatched_name).collect();
    Ok(json!({ "hosts": selection.hosts, "limit": limit.hosts, "unmatched": unmatched }))
}

/// As Ansible names it: without sign and subscript.
fn unmatched_name(notice: &Notice) -> Option<String> {
    match notice {
        Notice::Unmatched { name, .. } => Some(name.clone()),
        Notice::Empty { .. } | Notice::OldSubscript { .. } => None,
    }
}

/// Whether Ansible's order of hosts is the same in every run.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Order {
    Told,
    Chance,
}

fn order_in(inventory: &Path) -> Order {
    if inventory.ends_with(BRANCHES) { Order::Chance } else { Order::Told }
}

fn names(list: &Value) -> Option<BTreeSet<&str>> {
    list.as_array().map(|names| names.iter().map(|name| name.as_str().unwrap()).collect())
}

/// Why the two answers differ, if they do where they must not.
fn difference(inventory: &Inventory, edition: Edition, order: Order, theirs: &Value) -> Option<String> {
    let text = theirs["pattern"].as_str().unwrap();
    if order == Order::Chance && text.contains('[') {
        return None;
    }
    let told = match ours(inventory, edition, text) {
        // Refusals by design, whatever Ansible says; each has its own row in the crate's tables.
        Err(PatternReason::Blank | PatternReason::Empty | PatternReason::NotAvailable { .. }) => return None,
        Err(PatternReason::File | PatternReason::Backwards { .. }) => return None,
        Err(reason) => {
            return theirs.get("refused").is_none().then(|| format!("{text:?}: refused ({reason}), theirs {theirs}"));
        }
        Ok(told) => told,
    };
    // Ansible invents a host here, and no fleet has it.
    if names(&told["unmatched"])
        .is_some_and(|names| ["localhost", "127.0.0.1", "::1"].iter().any(|n| names.contains(n)))
    {
        return None;
    }
    let shown = HostPattern::of_edition(text, edition).unwrap().to_string();
    let terms: Vec<&str> = theirs["terms"].as_array().unwrap().iter().map(|term| term.as_str().unwrap()).collect();
    let same_terms = shown.trim_end_matches(',') == terms.join(",");
    let same = ["hosts", "limit", "unmatched"].iter().all(|key| match order {
        Order::Told => told[key] == theirs[key],
        Order::Chance => names(&told[key]) == names(&theirs[key]),
    });
    (!same || !same_terms).then(|| format!("{text:?}\n ours:   {told} ({shown})\n theirs: {theirs}"))
}

/// Asks the real Ansible with its default configuration.
fn ask(version: &real::Version, inventory: &Path, patterns: &[String]) -> Vec<Value> {
    let empty = tempfile::tempdir().unwrap();
    std::fs::write(empty.path().join("ansible.cfg"), "").unwrap();
    let mut child = real::clean(Command::new(&version.python), empty.path())
        .arg(folder().join("patterns/ask.py"))
        .current_dir(empty.path())
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()
        .unwrap();
    let question = json!({ "inventory": inventory.to_str().unwrap(), "patterns": patterns }).to_string();
    child.stdin.take().unwrap().write_all(question.as_bytes()).unwrap();
    let output = child.wait_with_output().unwrap();
    assert!(output.status.success(), "ask.py failed");
    let text = String::from_utf8(output.stdout).unwrap();
    let answers: Vec<Value> = text.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    assert_eq!(answers.len(), patterns.len());
    answers
}

fn kept_patterns() -> Vec<String> {
    BY_HAND.iter().map(|&text| text.to_owned()).chain(generated(KEPT, 7)).collect()
}

#[test]
fn patterns_select_as_the_kept_answers_say() {
    for path in inventories() {
        let file = kept_file(&path);
        let text = std::fs::read_to_string(&file).unwrap_or_else(|error| panic!("{}: {error}", file.display()));
        let inventory = load(&path);
        let mut answered = 0;
        for line in text.lines() {
            let theirs: Value = serde_json::from_str(line).unwrap();
            if let Some(difference) = difference(&inventory, Edition::Core2_18, order_in(&path), &theirs) {
                panic!("{}: {difference}", file.display());
            }
            answered += usize::from(ours(&inventory, Edition::Core2_18, theirs["pattern"].as_str().unwrap()).is_ok());
        }
        assert!(answered >= 120, "{}: only {answered} answers", file.display());
    }
}

#[test]
fn every_real_ansible_selects_the_same() {
    let bless = std::env::var_os("FLEET_ANSIBLE_BLESS").is_some();
    let mut differences = Vec::new();
    for (which, version) in real::versions("the comparison of host patterns with Ansible").iter().enumerate() {
        for (at, path) in inventories().into_iter().enumerate() {
            let order = order_in(&path);
            let kept = ask(version, &path, &kept_patterns());
            if bless {
                let lines: Vec<String> = kept.iter().map(Value::to_string).collect();
                std::fs::write(kept_file(&path), lines.join("\n") + "\n").unwrap();
            }
            let seed = u8::try_from(100 + 10 * which + at).unwrap();
            let fresh = ask(version, &path, &generated(FRESH, seed));
            let inventory = load(&path);
            let found =
                kept.iter().chain(&fresh).filter_map(|theirs| difference(&inventory, version.edition, order, theirs));
            differences.extend(found.map(|found| format!("{}: {found}", version.number)));
        }
    }
    assert!(differences.is_empty(), "{} differ:\n{}", differences.len(), differences.join("\n"));
}

#[test]
fn an_inventory_and_its_groups_answer_alike() {
    for path in inventories() {
        let inventory = load(&path);
        let groups = inventory.to_groups().unwrap();
        for group in inventory.groups() {
            assert_eq!(groups.hosts_of(group), inventory.hosts_of(group), "{group}");
        }
        for text in kept_patterns() {
            let Ok(pattern) = text.parse::<HostPattern>() else { continue };
            assert_eq!(pattern.select(&groups), pattern.select(&inventory), "{text}");
            assert_eq!(pattern.limit(&groups), pattern.limit(&inventory), "{text}");
        }
    }
}
