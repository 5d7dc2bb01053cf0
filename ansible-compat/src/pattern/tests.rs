//! Host patterns, each rule once; `tests/patterns.rs` asks Ansible itself.
#![allow(clippy::unwrap_used)]

use super::*;
use crate::Groups;

/// `g` holds w1, w2, w3; `lb` holds w3 and l1; `loose.example` is in no group; `g` and `lb` are below `site`.
fn groups() -> Groups {
    let mut groups = Groups::new(["loose.example", "w1", "w2", "w3", "l1"]).unwrap();
    groups.add("site", ["w1", "w2", "w3", "l1"]).unwrap();
    groups.add("g", ["w1", "w2", "w3"]).unwrap();
    groups.add("lb", ["w3", "l1"]).unwrap();
    groups
}

fn pattern(text: &str) -> HostPattern {
    text.parse().unwrap_or_else(|error| panic!("{error}"))
}

fn hosts(text: &str) -> Vec<String> {
    pattern(text).select(&groups()).unwrap().hosts.into_iter().map(str::to_owned).collect()
}

fn reason(text: &str) -> PatternReason {
    match text.parse::<HostPattern>() {
        Ok(pattern) => pattern.select(&groups()).unwrap_err().reason,
        Err(error) => error.reason,
    }
}

/// `docs/docsite/rst/inventory_guide/intro_patterns.rst` of Ansible, by rule.
#[test]
fn names_groups_and_order() {
    assert_eq!(hosts("w2"), ["w2"]);
    assert_eq!(hosts("lb,w1"), ["w3", "l1", "w1"]);
    assert_eq!(hosts("lb:w1"), ["w3", "l1", "w1"]);
    assert_eq!(hosts("lb:g"), ["w3", "l1", "w1", "w2"]);
    assert_eq!(hosts("site"), ["w1", "w2", "w3", "l1"]);
    assert_eq!(hosts("all").len(), 5);
    assert_eq!(hosts("*").len(), 5);
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

/// `_split_subscript` and `_apply_subscript` of `lib/ansible/inventory/manager.py`.
#[test]
fn subscripts() {
    assert_eq!(hosts("g[0]"), ["w1"]);
    assert_eq!(hosts("g[-1]"), ["w3"]);
    assert_eq!(hosts("g[-0]"), ["w1"]);
    assert_eq!(hosts("g[1:3]"), ["w2", "w3"]);
    assert_eq!(hosts("g[1:]"), ["w2", "w3"]);
    assert_eq!(hosts("g[0-1]"), ["w1", "w2"]);
    assert_eq!(hosts("g[0:0]"), ["w1"]);
    assert_eq!(hosts("g[2:0]"), ["w3"]);
    assert_eq!(hosts("g[2:1]"), Vec::<String>::new());
    assert_eq!(hosts("g[9:10]"), Vec::<String>::new());
    assert_eq!(hosts("nothing[3]"), Vec::<String>::new());
    assert_eq!(hosts("g[0],g[2]"), ["w1", "w3"]);
    assert_eq!(hosts("site:!g[0]"), ["w2", "w3", "l1"]);
    // Repeats count: w1 w2 w3 of `g`, w3 l1 of `lb`, then l1 and loose.example by name.
    assert_eq!(hosts("[gl]*[3:4]"), ["w3", "l1"]);
    for far in ["g[3]", "g[-4]", "g[99999999999999999999]", "g[-99999999999999999999]", "g[7:0]"] {
        assert_eq!(reason(far), PatternReason::Subscript { base: "g".to_owned(), hosts: 3 }, "{far}");
    }
}

#[test]
fn a_host_of_exactly_that_name_comes_first() {
    let mut groups = Groups::new(["web", "x1", "x2", "!x1"]).unwrap();
    groups.add("web", ["x1", "x2"]).unwrap();
    assert_eq!(pattern("web").select(&groups).unwrap().hosts, ["web"]);
    assert_eq!(pattern("web[0:]").select(&groups).unwrap().hosts, ["x1", "x2"]);
    assert_eq!(pattern("all:!web").select(&groups).unwrap().hosts, ["web", "!x1"]);
    assert_eq!(pattern("x1,!x1").select(&groups).unwrap().hosts, ["x1", "!x1"]);
    // A dot makes Ansible look among the hosts, too, even when a group has the name.
    let mut dotted = Groups::new(["a.b", "x1", "x2"]).unwrap();
    dotted.add("a.b", ["x1"]).unwrap();
    assert_eq!(pattern("!a.b").select(&dotted).unwrap().hosts, ["x2"]);
}

#[test]
fn this_machine_is_found_by_any_of_its_names_but_never_invented() {
    let groups = Groups::new(["w1", "::1", "127.0.0.1"]).unwrap();
    assert_eq!(pattern("localhost").select(&groups).unwrap().hosts, ["::1"]);
    assert_eq!(pattern("127.0.0.1").select(&groups).unwrap().hosts, ["127.0.0.1"]);
    assert_eq!(hosts("localhost"), Vec::<String>::new());
}

#[test]
fn a_limit_filters_and_does_not_sort() {
    let groups = groups();
    assert_eq!(pattern("lb,w1").limit(&groups).unwrap().hosts, ["w1", "w3", "l1"]);
    assert_eq!(pattern("l1:typo").limit(&groups).unwrap().unmatched().collect::<Vec<_>>(), ["typo"]);
}

#[test]
fn what_is_hardly_meant_is_told() {
    let groups = groups();
    let selection = pattern("g:!w9[0]:typo*").select(&groups).unwrap();
    assert_eq!(selection.hosts, ["w1", "w2", "w3"]);
    assert_eq!(selection.unmatched().collect::<Vec<_>>(), ["typo*", "!w9[0]"]);
    let text = selection.notices[1].to_string();
    assert!(text.contains("character 3") && text.contains("matches `w9`"), "{text}");
    let error = selection.if_all_matched().unwrap_err();
    assert_eq!((error.term.as_str(), error.reason), ("typo*", PatternReason::Unmatched));

    let selection = pattern("!n1,&n2,n3").select(&groups).unwrap();
    assert_eq!(selection.unmatched().collect::<Vec<_>>(), ["n3", "&n2", "!n1"]);

    let selection = pattern("g[0-1],g[9:]").select(&groups).unwrap();
    assert_eq!(
        selection.notices,
        [Notice::OldSubscript { term: "g[0-1]".into() }, Notice::Empty { term: "g[9:]".into() }]
    );
    assert_eq!(selection.if_all_matched().unwrap(), ["w1", "w2"]);
    assert_eq!(pattern("all").select(&Groups::new([""; 0]).unwrap()).unwrap().notices, []);
}

#[test]
fn refused_patterns_say_where_why_and_what_to_do() {
    let long = "x".repeat(5000);
    for (text, place, part) in [
        ("~(", 1, "regular expression"),
        ("w1:~(?=w)", 4, "look-around"),
        ("!", 1, "after the sign"),
        ("grün , ~", 8, "after the sign"),
        ("g, !@retry", 4, "lines joined with commas"),
        ("", 1, "write `all`"),
        (" , ", 1, "write `all`"),
        ("g,w[3-1]x", 3, "write `[1-3]`"),
        (&long, 1, "4096"),
    ] {
        let error = text.parse::<HostPattern>().unwrap_err();
        assert_eq!(error.place, TermPlace::Character(place), "{error}");
        let shown = error.to_string();
        assert!(shown.contains(part) && shown.contains("; "), "{text}: {shown}");
        assert!(shown.len() < 500, "{shown}");
    }
    let far = pattern("l1,g[7]").select(&groups()).unwrap_err();
    assert_eq!(far.place, TermPlace::Character(4));
    assert!(far.to_string().contains("`g` has 3"), "{far}");
}

#[test]
fn there_are_limits_to_what_a_pattern_may_cost() {
    for text in [vec!["~a"; 17].join(","), vec!["a*"; 257].join(","), vec!["a"; 20_001].join(","), "a,".repeat(600_000)]
    {
        assert!(matches!(reason(&text), PatternReason::TooLarge { .. }));
    }
    assert_eq!(hosts(&vec!["w1"; 20_000].join(",")), ["w1"]);
}

#[test]
fn files_give_one_term_a_line() {
    let read = |path: &Path| match path.to_str() {
        Some("failed.txt") => Ok("w1\r\n\n  !l1 \nlb\n".to_owned()),
        Some("comma") => Ok("w1\nw2,w3".to_owned()),
        Some("empty") => Ok("\n \n".to_owned()),
        Some("huge") => Ok("w".repeat(2 * MAX_BYTES)),
        Some("colons") => Ok("a:b".to_owned()),
        _ => Err(std::io::Error::other("no such file")),
    };
    let found = HostPattern::with_files("@failed.txt,w2", read).unwrap();
    assert_eq!(found.select(&groups()).unwrap().hosts, ["w1", "w3", "w2"]);
    assert_eq!(found.to_string(), "w1,!l1,lb,w2");
    // A line is one term, colons and all, as in Ansible.
    assert_eq!(HostPattern::with_files("@colons", read).unwrap().to_string(), "a:b,");
    for (text, part) in [
        ("@comma", "comma:2"),
        ("w1:@gone", "no such file; check"),
        ("@empty", "write `all`"),
        ("@huge", "1048576"),
        ("@", "no such file"),
    ] {
        let error = HostPattern::with_files(text, read).unwrap_err().to_string();
        assert!(error.contains(part), "{text}: {error}");
    }
}

#[test]
fn the_text_form_reads_back() {
    for (text, shown) in
        [("a:b", "a,b"), ("web[1:3]", "web[1:3]"), ("fe80::1", "fe80::1"), (" a , !b:c ", "a,!b:c"), ("a:b,", "a:b,")]
    {
        assert_eq!(pattern(text).to_string(), shown);
        assert_eq!(pattern(shown).to_string(), shown);
    }
}

#[test]
fn groups_take_no_holes() {
    use crate::GroupsError;
    assert_eq!(Groups::new(["a", "a"]), Err(GroupsError::Twice { host: "a".into() }));
    assert_eq!(Groups::new(["a", ""]), Err(GroupsError::NoName { what: "host" }));
    let mut groups = Groups::new(["a", "b", "c"]).unwrap();
    let before = groups.clone();
    assert!(matches!(groups.add("g", ["a", "x"]), Err(GroupsError::UnknownHost { .. })));
    assert_eq!(groups, before);
    groups.add("g", ["c", "c"]).unwrap();
    groups.add("g", ["a", "c"]).unwrap();
    groups.add("empty", []).unwrap();
    groups.add("ungrouped", ["a"]).unwrap();
    assert_eq!(groups.hosts_of("g").unwrap(), ["c", "a"]);
    assert_eq!(groups.hosts_of("ungrouped").unwrap(), ["b"]);
    assert_eq!(groups.hosts_of("all").unwrap(), ["a", "b", "c"]);
    assert_eq!(groups.hosts_of("empty").unwrap(), Vec::<&str>::new());
    assert_eq!(groups.hosts_of("none"), None);
    assert_eq!(groups.groups().collect::<Vec<_>>(), ["all", "ungrouped", "g", "empty"]);
}
