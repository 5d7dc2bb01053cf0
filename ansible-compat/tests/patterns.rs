//! Host patterns against Ansible: the same questions, put to this crate and to `lib/ansible/inventory/manager.py`.
//!
//! Always with the answers of ansible-core 2.17.14 kept in `patterns/*.jsonl`; and with the real one when `ansible` is
//! on PATH or in `$FLEET_ANSIBLE_VENV/bin`, then also on patterns nobody has seen before. To renew the kept answers,
//! run with `FLEET_ANSIBLE_BLESS=1` and such an Ansible. What needs no Ansible is proved on generated patterns.
#![allow(clippy::unwrap_used)]

use std::collections::BTreeSet;
use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use ansible_compat::{Groups, HostPattern, Inventory, Members, Notice, PatternError, PatternReason, Source};
use proptest::prelude::*;
use proptest::strategy::ValueTree as _;
use proptest::test_runner::{Config, RngAlgorithm, TestRng, TestRunner};
use serde_json::{Value, json};

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

/// Patterns only cut into terms, with colons where addresses have them.
fn address_like() -> impl Strategy<Value = String> {
    let piece = prop::sample::select(vec![
        ":",
        ":",
        "::",
        "a",
        "f0",
        "fe80",
        "12345",
        "0",
        "0:0:0:0:0:0:",
        "ffff:",
        "1.2.3.4",
        "[1:3]",
        "[a:c]",
        "[0:f:2]",
        "[",
        "]",
        "web",
        "-",
        "_",
        ".",
        "!",
        "&",
        "~",
        "*",
        " ",
        "22",
        ":22",
        "é",
        ",",
    ]);
    prop::collection::vec(piece, 1..9).prop_map(|pieces| pieces.concat())
}

/// One to five terms of the names in `fleet.inv` and of what looks like them.
fn likely_pattern() -> impl Strategy<Value = String> {
    let sign = prop::sample::select(vec!["", "", "", "", "&", "!", "!", "!!"]);
    let name = prop_oneof![
        4 => prop::sample::select(vec![
            "all", "ungrouped", "web", "db", "same", "az", "az_a", "az_b", "site", "nobody", "typo", "w1", "db-a1",
            "db-c2", "web03.a.example.com", "loose.example.com", "localhos?", "127.0.0.1", "fe80::1", "beta", "h1", "h2",
        ]),
        3 => prop::sample::select(vec![
            "*", "w*", "web*", "*.example.com", "d?", "db-??", "az_[ab]", "az_[!a]", "[dw]*", "*e*", "w[1-2]x", "[]a]*", "web0[1",
            "?*?b", "*-[a-b]*", "[^a]*",
        ]),
        2 => prop::sample::select(vec![
            "~w", "~web0[1-3]", "~.*b", "~db-(a|b)\\d$", "~(?i)AZ", "~^s", "~[^w]", "~a{1}z_?", "~w+?\\.", "~(", "~)", "~[", "~*",
            "~\\w+$", "~site|same", "~(?P<x>d)b",
        ]),
    ];
    let subscript = prop::sample::select(vec![
        "", "", "", "", "", "[0]", "[-1]", "[1:2]", "[1:]", "[0:0]", "[2:0]", "[3-4]", "[7]", "[-3]", "[5:2]", "[01]",
        "[1:2:3]", "[-1:2]",
    ]);
    let term = (sign, name, subscript).prop_map(|(sign, name, subscript)| format!("{sign}{name}{subscript}"));
    (prop::collection::vec(term, 1..6), prop::sample::select(vec![",", ":", ", ", " , "]))
        .prop_map(|(terms, separator)| terms.join(separator))
}

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
fn ours(inventory: &Inventory, text: &str) -> Result<Value, PatternReason> {
    let told = || {
        let pattern: HostPattern = text.parse()?;
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
fn difference(inventory: &Inventory, order: Order, theirs: &Value) -> Option<String> {
    let text = theirs["pattern"].as_str().unwrap();
    if order == Order::Chance && text.contains('[') {
        return None;
    }
    let told = match ours(inventory, text) {
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
    let shown = text.parse::<HostPattern>().unwrap().to_string();
    let terms: Vec<&str> = theirs["terms"].as_array().unwrap().iter().map(|term| term.as_str().unwrap()).collect();
    let same_terms = shown.trim_end_matches(',') == terms.join(",");
    let same = ["hosts", "limit", "unmatched"].iter().all(|key| match order {
        Order::Told => told[key] == theirs[key],
        Order::Chance => names(&told[key]) == names(&theirs[key]),
    });
    (!same || !same_terms).then(|| format!("{text:?}\n ours:   {told} ({shown})\n theirs: {theirs}"))
}

/// The Python that runs Ansible, from the first line of the `ansible` program; else a line on the terminal itself.
fn python_or_skip(test: &str) -> Option<PathBuf> {
    let venv = std::env::var_os("FLEET_ANSIBLE_VENV").map(|venv| PathBuf::from(venv).join("bin"));
    let path = std::env::var_os("PATH").unwrap_or_default();
    let found = venv.into_iter().chain(std::env::split_paths(&path)).find_map(|bin| {
        let script = std::fs::read_to_string(bin.join("ansible")).ok()?;
        let python = script.lines().next()?.strip_prefix("#!")?.trim().to_owned();
        Path::new(&python).is_file().then(|| PathBuf::from(python))
    });
    if found.is_none() {
        let line = format!("\n=== SKIPPED: {test} did not run, no ansible on PATH or in $FLEET_ANSIBLE_VENV/bin ===\n");
        std::io::stderr().write_all(line.as_bytes()).unwrap();
    }
    found
}

/// Asks the real Ansible with its default configuration.
fn ask(python: &Path, inventory: &Path, patterns: &[String]) -> Vec<Value> {
    let empty = tempfile::tempdir().unwrap();
    let config = empty.path().join("ansible.cfg");
    std::fs::write(&config, "").unwrap();
    let mut command = Command::new(python);
    for (name, _) in std::env::vars_os() {
        if name.to_str().is_some_and(|name| name.starts_with("ANSIBLE_")) {
            command.env_remove(name);
        }
    }
    let mut child = command
        .arg(folder().join("patterns/ask.py"))
        .current_dir(empty.path())
        .env("ANSIBLE_CONFIG", &config)
        .env("ANSIBLE_HOME", empty.path())
        .env("PYTHONDONTWRITEBYTECODE", "1")
        .env("LC_ALL", "C.UTF-8")
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
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
            if let Some(difference) = difference(&inventory, order_in(&path), &theirs) {
                panic!("{}: {difference}", file.display());
            }
            answered += usize::from(ours(&inventory, theirs["pattern"].as_str().unwrap()).is_ok());
        }
        assert!(answered >= 120, "{}: only {answered} answers", file.display());
    }
}

#[test]
fn the_real_ansible_selects_the_same() {
    let Some(python) = python_or_skip("the comparison of host patterns with Ansible") else { return };
    let bless = std::env::var_os("FLEET_ANSIBLE_BLESS").is_some();
    let mut differences = Vec::new();
    for (at, path) in inventories().into_iter().enumerate() {
        let order = order_in(&path);
        let kept = ask(&python, &path, &kept_patterns());
        if bless {
            let lines: Vec<String> = kept.iter().map(Value::to_string).collect();
            std::fs::write(kept_file(&path), lines.join("\n") + "\n").unwrap();
        }
        let fresh = ask(&python, &path, &generated(FRESH, 100 + u8::try_from(at).unwrap()));
        let inventory = load(&path);
        differences.extend(kept.iter().chain(&fresh).filter_map(|theirs| difference(&inventory, order, theirs)));
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

fn any_groups() -> impl Strategy<Value = Groups> {
    let hosts =
        prop::sample::subsequence(vec!["w1", "db-a1", "web", "same", "::1", "a.b", "x", "grün", "!x", "w 1"], 0..=10);
    let group = (prop::sample::select(vec!["web", "db", "same", "az", "x"]), any::<u16>());
    (hosts, prop::collection::vec(group, 0..5)).prop_map(|(hosts, wanted)| {
        let mut groups = Groups::new(hosts.iter().copied()).unwrap();
        for (name, mask) in wanted {
            let members: Vec<&str> =
                hosts.iter().enumerate().filter(|(at, _)| mask >> at & 1 == 1).map(|(_, &host)| host).collect();
            groups.add(name, members).unwrap();
        }
        groups
    })
}

fn any_pattern() -> impl Strategy<Value = String> {
    prop_oneof![3 => likely_pattern(), 1 => address_like(), 1 => "\\PC{0,12}", 1 => "~[\\[\\]()|?*+{}a-c0-2,\\\\^$.!&:-]{0,12}"]
}

/// The hosts, or none where the pattern is refused.
fn selected<'a>(pattern: &str, from: &'a impl Members) -> Option<Vec<&'a str>> {
    Some(pattern.parse::<HostPattern>().ok()?.select(from).ok()?.hosts)
}

fn set(hosts: Vec<&str>) -> BTreeSet<&str> {
    hosts.into_iter().collect()
}

proptest! {
    #![proptest_config(Config { cases: 2_000, failure_persistence: None, ..Config::default() })]

    #[test]
    fn hosts_are_known_and_come_once(groups in any_groups(), text in any_pattern()) {
        let known: BTreeSet<&str> = groups.hosts().collect();
        if let Ok(pattern) = text.parse::<HostPattern>()
            && let Ok(selection) = pattern.select(&groups)
        {
            let once: BTreeSet<&str> = selection.hosts.iter().copied().collect();
            prop_assert_eq!(once.len(), selection.hosts.len());
            prop_assert!(once.is_subset(&known));
            // Order is all a limit changes.
            let limited = pattern.limit(&groups).unwrap();
            prop_assert_eq!(once, set(limited.hosts.clone()));
            prop_assert!(limited.hosts.is_sorted_by_key(|host| groups.hosts().position(|known| known == *host)));
            prop_assert_eq!(limited.notices, selection.notices);
        }
    }

    #[test]
    fn refusals_have_a_way_out_and_fit_a_line(groups in any_groups(), text in any_pattern()) {
        let told = text.parse::<HostPattern>().and_then(|pattern| pattern.select(&groups).map(drop));
        if let Err(error) = told {
            let line = error.to_string();
            prop_assert!(line.contains("; ") && !line.contains('\n'), "{}", line);
        }
    }

    #[test]
    fn signs_are_set_operations(groups in any_groups(), one in likely_pattern(), other in likely_pattern()) {
        let plain = |text: &str| text.split([',', ':']).next().unwrap().trim().trim_start_matches(['!', '&']).to_owned();
        let (one, other) = (plain(&one), plain(&other));
        let both = (selected(&format!("{one},"), &groups), selected(&format!("{other},"), &groups));
        // A host named like a group is added by its name, but taken away as the group.
        let hosts: BTreeSet<&str> = groups.hosts().collect();
        if let (Some(a), Some(b)) = both
            && !hosts.contains(other.as_str())
            && !hosts.contains(format!("!{other}").as_str())
        {
            let (a, b) = (set(a), set(b));
            prop_assert_eq!(set(selected(&format!("{one},{other}"), &groups).unwrap()), &a | &b);
            prop_assert_eq!(set(selected(&format!("&{other},{one}"), &groups).unwrap()), &a & &b);
            prop_assert_eq!(set(selected(&format!("!{other},{one}"), &groups).unwrap()), &a - &b);
            prop_assert_eq!(set(selected(&format!("!{other},"), &groups).unwrap()), &hosts - &b);
        }
    }

    #[test]
    fn no_term_falls_silent(groups in any_groups(), text in likely_pattern()) {
        if let Ok(pattern) = text.parse::<HostPattern>()
            && let Ok(selection) = pattern.select(&groups)
            && selection.hosts.is_empty()
            && !text.contains(['!', '&'])
            && groups.hosts().len() > 0
        {
            prop_assert!(!selection.notices.is_empty(), "{}", text);
        }
    }

    #[test]
    fn the_text_form_selects_the_same(groups in any_groups(), text in any_pattern()) {
        if let Ok(pattern) = text.parse::<HostPattern>() {
            let again: HostPattern = pattern.to_string().parse().unwrap();
            prop_assert_eq!(again.to_string(), pattern.to_string());
            let hosts = |pattern: &HostPattern| pattern.select(&groups).map(|s| s.hosts.join(" ")).map_err(|e| e.reason);
            prop_assert_eq!(hosts(&again), hosts(&pattern));
        }
    }
}
