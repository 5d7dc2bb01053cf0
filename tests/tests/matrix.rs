//! Real programs, each started before a switch and left running: which grade of evidence sees it, whatever the way of
//! switching, and that none is called proven. Beside it what needrestart says of the same process. The table in
//! `docs/evidence.md` is what this test finds.
//!
//! The real supervisor starts, the real observer looks, and the controller's own comparison judges; the fleet around them
//! is left to the other stories.
#![allow(clippy::unwrap_used)]

#[path = "matrix/cells.rs"]
mod cells;
#[path = "matrix/class.rs"]
mod class;
#[path = "matrix/needrestart.rs"]
mod needrestart;
#[path = "matrix/programs.rs"]
mod programs;

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;

use cells::{Cell, Switch, Theatre};
use fleet::drift::{Kind, Standing};
use fleet_tests::disk::skip;
use programs::{PROGRAMS, Program};

/// What the table says of a cell: who sees it, and what needrestart says; the second only where it is installed.
type Row = (String, Option<String>);

#[tokio::test(flavor = "multi_thread")]
async fn whatever_runs_on_after_a_switch_is_found_by_the_grade_that_the_table_names() {
    let mut found: BTreeMap<(String, String), Row> = BTreeMap::new();
    let runnable: Vec<&Program> = PROGRAMS
        .iter()
        .filter(|program| {
            let missing = program.missing();
            if let Some(why) = &missing {
                skip(&format!("matrix, {}", program.name), why);
            }
            missing.is_none()
        })
        .collect();
    if !needrestart::is_there() {
        skip("matrix, needrestart", "no needrestart");
    }
    for switch in Switch::ALL {
        let theatre = Theatre::new();
        let mut cells = Vec::new();
        for program in &runnable {
            cells.push(Cell::started(&theatre, program, switch).await);
        }
        for cell in &mut cells {
            cell.switch().await;
        }
        let words = needrestart::say();
        for cell in &mut cells {
            let (name, left) = (cell.program.name, cell.left);
            let comparison = cell.compare();
            let kinds: Vec<Kind> = comparison
                .findings
                .iter()
                .filter(|finding| finding.key.what.starts_with(&format!("pid {left} ")))
                .map(|finding| finding.key.kind)
                .collect();
            assert!(
                matches!(kinds[..], [Kind::OldProcess | Kind::Process]),
                "{name}, {}: {comparison:#?}",
                switch.name()
            );
            assert_eq!(comparison.standing, Standing::Differs, "{name}, {}", switch.name());
            let seen = cell.seen_by();
            let all = format!("{}: {}", kinds[0], seen.join(", "));
            assert!(!seen.is_empty(), "{name}, {}: nothing sees it alone", switch.name());
            let word = words.as_ref().map(|words| words.get(&left).cloned().unwrap_or_else(|| "nothing".into()));
            found.insert((name.into(), switch.name().into()), (all, word));
        }
        // What was left running is stopped and the service started as it should be: proven, and no finding remains.
        for cell in &mut cells {
            let (standing, findings) = cell.restarted().await;
            let Standing::Proven { grade, .. } = standing else {
                panic!("{}, {}: {findings:#?}", cell.program.name, switch.name())
            };
            assert_eq!(grade, cell.program.proven, "{}, {}", cell.program.name, switch.name());
        }
    }
    let table = table(&found);
    eprintln!("{table}");
    let document = fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join("../docs/evidence.md")).unwrap();
    let missing: Vec<String> = found.iter().filter_map(|cell| unlike(&document, cell)).collect();
    assert!(missing.is_empty(), "docs/evidence.md says otherwise:\n{}\nfound:\n{table}", missing.join("\n"));
}

/// The table as the document has it.
fn table(found: &BTreeMap<(String, String), Row>) -> String {
    let mut lines =
        vec!["| left running | switch | finding: seen by | needrestart -b |".to_owned(), "|---|---|---|---|".into()];
    for program in &PROGRAMS {
        for switch in Switch::ALL {
            if let Some((seen, word)) = found.get(&(program.name.into(), switch.name().into())) {
                let word = word.as_deref().unwrap_or("(not installed)");
                lines.push(format!("| {} | {} | {seen} | {word} |", program.name, switch.name()));
            }
        }
    }
    lines.join("\n")
}

/// The line that the document lacks for a cell.
fn unlike(document: &str, ((name, switch), (seen, word)): (&(String, String), &Row)) -> Option<String> {
    let start = format!("| {name} | {switch} | {seen} | ");
    let said = document.lines().find_map(|line| line.strip_prefix(&start)?.strip_suffix(" |"));
    let agrees = said.is_some_and(|said| word.as_ref().is_none_or(|word| word == said));
    (!agrees).then(|| format!("{start}{} |", word.as_deref().unwrap_or("…")))
}
