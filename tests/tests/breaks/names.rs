//! Who may catch a break: invariants by `docs/invariants.md`, laws of the model, and tests of the pure crate; and what a
//! run of the tests says of each of them.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::Path;

const INVARIANTS: &str = "docs/invariants.md";
const LAWS: &str = "fleet/tests/model/laws.rs";
const TESTS: [&str; 2] = ["fleet/src", "fleet/tests"];

/// What kind of thing a name is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Kind {
    /// With its number.
    Invariant(String),
    Law,
    Test,
}

/// Every name that there is.
pub(crate) struct Names {
    /// The numbers of the invariants, by name.
    invariants: BTreeMap<String, String>,
    /// The words of the laws, by name.
    laws: BTreeMap<String, String>,
    tests: BTreeSet<String>,
}

impl Names {
    /// Those of the repository at `root`.
    pub(crate) fn read(root: &Path) -> Self {
        let text = fs::read_to_string(root.join(INVARIANTS)).unwrap();
        let row = |line: &str| {
            let cells: Vec<&str> = line.split('|').map(str::trim).collect();
            let name = cells.get(2)?.strip_prefix('`')?.strip_suffix('`')?;
            Some((name.to_owned(), cells[1].to_owned()))
        };
        let invariants: BTreeMap<_, _> = text.lines().filter(|line| line.starts_with("| I")).filter_map(row).collect();
        let text = fs::read_to_string(root.join(LAWS)).unwrap();
        let list = text.split("\nlaws! {\n").nth(1).unwrap().split("\n}").next().unwrap();
        let law = |line: &str| {
            let (name, words) = line.trim().split_once(": \"")?;
            Some((name.to_owned(), words.trim_end_matches("\",").to_owned()))
        };
        let laws: BTreeMap<_, _> = list.lines().filter_map(law).collect();
        let mut tests = BTreeSet::new();
        TESTS.iter().for_each(|folder| read_tests(&root.join(folder), &mut tests));
        assert!(invariants.len() > 40 && laws.len() > 25 && tests.len() > 100, "names were not found");
        Self { invariants, laws, tests }
    }

    /// What a name is; an invariant that is one test has the name of that test.
    pub(crate) fn kind(&self, name: &str) -> Option<Kind> {
        if let Some(id) = self.invariants.get(name) {
            return Some(Kind::Invariant(id.clone()));
        }
        let test = self.tests.contains(name).then_some(Kind::Test);
        if self.laws.contains_key(name) { Some(Kind::Law) } else { test }
    }

    /// Whose names a failed run of the tests tells: tests that failed, invariants that do not hold, laws that are broken.
    pub(crate) fn caught(&self, output: &str) -> BTreeSet<String> {
        let failed = output.lines().filter_map(|line| line.strip_prefix("test ")?.strip_suffix(" ... FAILED"));
        let failed = failed.map(|path| path.rsplit("::").next().unwrap_or(path).to_owned());
        let invariants = self.invariants.keys().filter(|name| is_told(output, name)).cloned();
        let broken: BTreeSet<&str> =
            output.lines().filter_map(|line| line.split_once("broken: ")).map(|l| l.1).collect();
        let laws = self.laws.iter().filter(|(_, words)| broken.contains(words.as_str())).map(|(name, _)| name.clone());
        failed.chain(invariants).chain(laws).collect()
    }

    /// The same in words: invariants, laws, then tests.
    pub(crate) fn told(&self, caught: &BTreeSet<String>) -> String {
        let of = |is_meant: fn(&Kind) -> bool| -> Vec<&str> {
            let meant = |name: &&String| self.kind(name).is_some_and(|kind| is_meant(&kind));
            caught.iter().filter(meant).map(String::as_str).collect()
        };
        let invariants = of(|kind| matches!(kind, Kind::Invariant(_))).join(" ");
        let (laws, tests) = (of(|kind| *kind == Kind::Law).join(" "), of(|kind| *kind == Kind::Test).join(" "));
        format!("invariants [{invariants}] laws [{laws}] tests [{tests}]")
    }
}

/// Whether an invariant is named as one that does not hold: `name: why`, not as a part of the path of a test.
fn is_told(output: &str, name: &str) -> bool {
    output.match_indices(name).any(|(at, _)| {
        let (before, after) = (&output[..at], &output[at + name.len()..]);
        (before.is_empty() || before.ends_with(['\n', ' ']))
            && [": ", ", at", "\n"].iter().any(|end| after.starts_with(end))
    })
}

fn read_tests(folder: &Path, tests: &mut BTreeSet<String>) {
    for entry in fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            read_tests(&path, tests);
        } else if path.extension().is_some_and(|ending| ending == "rs") {
            let text = fs::read_to_string(&path).unwrap();
            // Between the attribute and the name may be others: `#[ignore]`.
            for test in text.split("#[test]\n").skip(1) {
                let name = test.split_once("fn ").and_then(|(_, rest)| rest.split('(').next());
                tests.extend(name.map(str::to_owned));
            }
        }
    }
}
