//! Host patterns, each rule once; `tests/oracle.rs` asks Ansible the same kind of question.
#![allow(clippy::unwrap_used)]

use super::*;
use crate::model::UNGROUPED;

/// `g` holds w1, w2, w3; `lb` holds w3 and l1; `loose.example` is in no group; `g` and `lb` are below `site`.
fn model() -> Model {
    let mut model = Model::new();
    let site = model.add_group("site").unwrap();
    let g = model.add_group("g").unwrap();
    let lb = model.add_group("lb").unwrap();
    model.add_host("loose.example", UNGROUPED, None).unwrap();
    for (host, group) in [("w1", g), ("w2", g), ("w3", g), ("w3", lb), ("l1", lb)] {
        model.add_host(host, group, None).unwrap();
    }
    model.add_child(site, "g").unwrap();
    model.add_child(site, "lb").unwrap();
    model.reconcile().unwrap();
    model
}

fn hosts(pattern: &str) -> Vec<String> {
    select(&model(), pattern).unwrap().hosts.into_iter().map(str::to_owned).collect()
}

#[test]
fn names_groups_and_order() {
    assert_eq!(hosts("w2"), ["w2"]);
    assert_eq!(hosts("lb,w1"), ["w3", "l1", "w1"]);
    assert_eq!(hosts("lb:w1"), ["w3", "l1", "w1"]);
    assert_eq!(hosts("lb:g"), ["w3", "l1", "w1", "w2"]);
    assert_eq!(hosts("site"), ["w1", "w2", "w3", "l1"]);
    assert_eq!(hosts("all").len(), 5);
    assert_eq!(hosts("").len(), 5);
    assert_eq!(hosts("ungrouped"), ["loose.example"]);
}

#[test]
fn signs_apply_last_wherever_they_stand() {
    assert_eq!(hosts("!w1,g"), ["w2", "w3"]);
    assert_eq!(hosts("!w3:&g:site"), ["w1", "w2"]);
    assert_eq!(hosts("&lb"), ["w3", "l1"]);
    assert_eq!(hosts("!site"), ["loose.example"]);
    assert_eq!(hosts("g:&lb:!w3"), Vec::<String>::new());
}

#[test]
fn globs_and_regular_expressions() {
    assert_eq!(hosts("w*"), ["w1", "w2", "w3"]);
    assert_eq!(hosts("w[!1]"), ["w2", "w3"]);
    assert_eq!(hosts("?1"), ["w1", "l1"]);
    assert_eq!(hosts("l*"), ["w3", "l1", "loose.example"]);
    assert_eq!(hosts("*.example"), ["loose.example"]);
    assert_eq!(hosts("~[wl]1"), ["w1", "l1"]);
    assert_eq!(hosts("~w.$:!~.*3"), ["w1", "w2"]);
    assert_eq!(hosts("W*"), Vec::<String>::new());
}

#[test]
fn subscripts() {
    assert_eq!(hosts("g[0]"), ["w1"]);
    assert_eq!(hosts("g[-1]"), ["w3"]);
    assert_eq!(hosts("g[1:3]"), ["w2", "w3"]);
    assert_eq!(hosts("g[1:]"), ["w2", "w3"]);
    assert_eq!(hosts("g[0-1]"), ["w1", "w2"]);
    assert_eq!(hosts("g[0:0]"), ["w1"]);
    assert_eq!(hosts("g[9:10]"), Vec::<String>::new());
    assert_eq!(hosts("nothing[3]"), Vec::<String>::new());
    assert_eq!(hosts("g[0],g[2]"), ["w1", "w3"]);
    assert_eq!(hosts("site:!g[0]"), ["w2", "w3", "l1"]);
    assert!(matches!(select(&model(), "g[3]"), Err(PatternError::Subscript { hosts: 3, .. })));
    assert!(matches!(select(&model(), "g[-4]"), Err(PatternError::Subscript { .. })));
}

#[test]
fn what_matches_nothing_is_told() {
    let model = model();
    let selection = select(&model, "g:!w9:typo*").unwrap();
    assert_eq!(selection.hosts, ["w1", "w2", "w3"]);
    assert_eq!(selection.unmatched, ["typo*", "!w9"]);
    assert!(select(&model, "all").unwrap().unmatched.is_empty());
}

#[test]
fn refused_patterns_say_why() {
    let model = model();
    for (pattern, part) in [
        ("~(", "regular expression"),
        ("~(?=w)", "look-around"),
        ("!", "names nothing"),
        ("g,~", "names nothing"),
        ("@retry", "lines joined with commas"),
        ("g[7]", "`g` has 3"),
    ] {
        let text = select(&model, pattern).unwrap_err().to_string();
        assert!(text.contains(part), "{pattern}: {text}");
    }
}
