//! The engine, broken on purpose: one rule at a time, and somebody must notice. Every run looks whether the breaks still
//! fit the engine and whether `docs/decisions/0010-breaking-the-engine.md` tells them as they are; that each of them is
//! caught by what it names takes long and is done on demand:
//!
//! ```sh
//! cargo test -p fleet-tests --test breaks -- --ignored --nocapture
//! ```
//!
//! `FLEET_BREAKS=pause` tries only the breaks in which that word occurs; what was tried before is not tried again as long
//! as the pure crate is the same. `FLEET_BLESS=1` writes the table of the document anew.
#![allow(clippy::unwrap_used)]

mod folding;
mod judging;
mod names;
mod planning;
mod workshop;

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};
use std::time::Instant;

use names::{Kind, Names};
use workshop::{Ending, Workshop};

/// One rule, and how it is broken.
pub(crate) struct Break {
    /// What is wrong then, in a sentence.
    what: &'static str,
    /// Where the rule stands, from the root of the repository.
    file: &'static str,
    /// The rule: a text that stands exactly once in that file.
    rule: &'static str,
    /// What is put in its place.
    broken: &'static str,
    /// The invariants, laws and tests that notice, by name.
    caught_by: &'static [&'static str],
}

const DECISION: &str = "docs/decisions/0010-breaking-the-engine.md";
/// What stands around the table there.
const BEFORE: &str = "## The breaks\n\n";
const AFTER: &str = "\n## ";

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap().to_owned()
}

fn breaks() -> impl Iterator<Item = &'static Break> {
    judging::BREAKS.iter().chain(folding::BREAKS).chain(planning::BREAKS)
}

#[test]
fn every_rule_to_break_stands_once_in_the_engine() {
    let mut wrong = Vec::new();
    for one in breaks() {
        let text = fs::read_to_string(root().join(one.file)).unwrap_or_default();
        let times = text.matches(one.rule).count();
        if times != 1 || one.rule == one.broken {
            wrong.push(format!("{}: in {} there is {times} times: {}", one.what, one.file, one.rule));
        }
    }
    assert!(wrong.is_empty(), "write these breaks anew:\n{}", wrong.join("\n"));
    let sentences: BTreeSet<&str> = breaks().map(|one| one.what).collect();
    assert_eq!(sentences.len(), breaks().count(), "two breaks are called the same");
    assert!(sentences.len() >= 45, "only {} breaks", sentences.len());
}

#[test]
fn whoever_catches_a_break_is_there() {
    let names = Names::read(&root());
    let catchers = |one: &'static Break| one.caught_by.iter().map(|name| (one.what, *name));
    let unknown: Vec<_> = breaks().flat_map(catchers).filter(|(_, name)| names.kind(name).is_none()).collect();
    assert!(unknown.is_empty(), "no invariant, law or test has these names: {unknown:#?}");
    let uncaught: Vec<_> = breaks().filter(|one| one.caught_by.is_empty()).map(|one| one.what).collect();
    assert!(uncaught.is_empty(), "nobody catches: {uncaught:#?}");
}

#[test]
fn the_decision_tells_the_breaks_as_they_are() {
    let (path, table) = (root().join(DECISION), table(&Names::read(&root())));
    let text = fs::read_to_string(&path).unwrap();
    let (head, rest) = text.split_once(BEFORE).unwrap();
    let (told, tail) = rest.split_once(AFTER).unwrap();
    // Written anew with FLEET_BLESS=1; the difference is for people to read.
    if std::env::var_os("FLEET_BLESS").is_some() {
        return fs::write(&path, format!("{head}{BEFORE}{table}{AFTER}{tail}")).unwrap();
    }
    let different = table.lines().zip(told.lines()).find(|(is, told)| is != told);
    assert!(told == table, "{DECISION} tells other breaks; with FLEET_BLESS=1 it is written anew: {different:?}");
}

/// The table of the document, with a sentence that sums it up.
fn table(names: &Names) -> String {
    let kinds = |one: &Break| one.caught_by.iter().filter_map(|name| names.kind(name)).collect::<Vec<_>>();
    let is_invariant = |one: &&Break| kinds(one).iter().any(|kind| matches!(kind, Kind::Invariant(_)));
    let is_law = |one: &&Break| kinds(one).contains(&Kind::Law);
    let is_property = |one: &&Break| is_invariant(one) || is_law(one);
    let mut text = format!(
        "{} breaks: {} caught by an invariant, {} by a law of the model, {} by one of the two at least, {} by tests of \
         single rules only.\n\n| | what is wrong then | in `fleet/src` | caught by |\n|---|---|---|---|\n",
        breaks().count(),
        breaks().filter(is_invariant).count(),
        breaks().filter(is_law).count(),
        breaks().filter(is_property).count(),
        breaks().filter(|one| !is_property(one)).count(),
    );
    for (number, one) in breaks().enumerate() {
        let catcher = |name: &&str| match names.kind(name) {
            Some(Kind::Invariant(id)) => format!("{id} `{name}`"),
            Some(Kind::Law) => format!("law `{name}`"),
            Some(Kind::Test) | None => format!("test `{name}`"),
        };
        let caught_by: Vec<String> = one.caught_by.iter().map(catcher).collect();
        let file = one.file.trim_start_matches("fleet/src/");
        text += &format!("| {} | {} | `{file}` | {} |\n", number + 1, one.what, caught_by.join(", "));
    }
    text
}

#[test]
#[ignore = "long: the engine is built and tested once for every break"]
fn every_break_is_caught() {
    let only = std::env::var("FLEET_BREAKS").unwrap_or_default();
    let is_meant = |one: &&Break| [one.what, one.file, one.rule, one.broken].iter().any(|text| text.contains(&only));
    let chosen: Vec<&Break> = breaks().filter(is_meant).collect();
    let names = Names::read(&root());
    let workshop = Workshop::copy_of(&root());
    let (sound, seconds) = workshop.test_sound(&names);
    assert!(matches!(sound, Ending::Green), "unbroken it is not green: {sound:?}");
    eprintln!("breaks: unbroken it is green, {seconds:.0} s; {} breaks", chosen.len());
    let began = Instant::now();
    let number = |index: usize| format!("{}/{}", index + 1, chosen.len());
    let told = chosen.iter().enumerate().map(|(index, one)| try_out(one, &workshop, &names, &number(index)));
    let wrong: Vec<String> = told.flatten().collect();
    let minutes = began.elapsed().as_secs_f32() / 60.0;
    let right = chosen.len() - wrong.len();
    eprintln!("breaks: {right} of {} are caught by what they name, {minutes:.0} min", chosen.len());
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

/// Breaks one rule and says what is caught; returns what is not as the break says.
fn try_out(one: &Break, workshop: &Workshop, names: &Names, number: &str) -> Option<String> {
    let (ending, seconds) = workshop.test_broken(one, names);
    let (word, caught) = match &ending {
        Ending::Caught(caught) => ("caught", names.told(caught)),
        Ending::Green => ("NOT CAUGHT", String::new()),
        Ending::Unbuilt(why) => ("NOT BUILT", why.clone()),
        Ending::Endless => ("NO END", String::new()),
    };
    eprintln!("breaks: {number}, {seconds:.0} s, {word}: {}: {caught}", one.what);
    let is_missing = |name: &&&str| !matches!(&ending, Ending::Caught(caught) if caught.contains(**name));
    let missing: Vec<_> = one.caught_by.iter().filter(is_missing).collect();
    let is_right = matches!(ending, Ending::Caught(_)) && missing.is_empty();
    (!is_right).then(|| format!("{}: {word}, but not by {missing:?}", one.what))
}
