//! Host patterns as people write and mistype them, for the tests that ask what they select.

use proptest::prelude::*;

/// Patterns only cut into terms, with colons where addresses have them.
pub fn address_like() -> impl Strategy<Value = String> {
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
pub fn likely_pattern() -> impl Strategy<Value = String> {
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
