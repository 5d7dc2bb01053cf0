//! Inventories as people write and mistype them: files, sources and a limit.
//!
//! Everything is picked from small pools, so that names meet: the same host in several groups, a group as its own
//! grandchild, variables set twice. What each pool holds is what a rule of Ansible turns on.

use proptest::prelude::*;
use proptest::sample::select;

/// One inventory.
#[derive(Clone, Debug)]
pub struct Case {
    /// Path below the working directory, text, and whether it may be executed.
    pub files: Vec<(String, String, Mode)>,
    /// What `-i` names.
    pub sources: Vec<String>,
    /// What `--limit` names.
    pub limit: Option<&'static str>,
    /// Whether `--playbook-dir play` is given.
    pub playbook: bool,
}

/// Whether a file may be executed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mode {
    Text,
    Program,
}

/// Every group of the pool, defined.
const KNOWN: &str = "[web]\n[db]\n[prod]\n[site]\n[az_a]\n[g1]\n[g2]\n[w1]\n[Web]\n[x-y]\n";

/// A vault value; nobody opens it here.
const SEALED: &str = "$ANSIBLE_VAULT;1.1;AES256\n6162\n";

fn group() -> impl Strategy<Value = &'static str> {
    select(vec!["web", "db", "prod", "site", "az_a", "g1", "g2", "web", "db", "all", "ungrouped", "w1", "Web", "x-y"])
}

/// Groups that may hang below others; a circle is a rare find in so few.
fn below() -> impl Strategy<Value = &'static str> {
    select(vec![
        "web",
        "db",
        "g1",
        "g2",
        "az_a",
        "web",
        "db",
        "g1",
        "g2",
        "az_a",
        "w1",
        "ungrouped",
        "prod",
        "site",
        "all",
    ])
}

fn host() -> impl Strategy<Value = &'static str> {
    select(vec![
        "w1",
        "w2",
        "w3",
        "db1",
        "h",
        "web",
        "w[1:3]",
        "w[01:03]",
        "db-[a:c].x",
        "n[1:2]-[a:b]",
        "w[1:9:4]",
        "w1:2222",
        "w[2:3]:22",
        "10.0.0.[1:2]",
        "[::1]:22",
        "fe80::1",
        "a.example.com",
        "localhost",
        "h_1",
        "é1",
        "w[3:1]",
        "w[:2]",
    ])
}

/// Hosts that a file is refused for.
fn odd_host() -> impl Strategy<Value = &'static str> {
    select(vec![
        "w[1:",
        "w[1]",
        "w[09:100]",
        "w[a:3]",
        "w[1:2:0]",
        "x y",
        "a|[1:2]",
        "w:",
        "-w-",
        "[w]x",
        "w1,w2",
        "b]",
        "{{ h }}",
    ])
}

fn name() -> impl Strategy<Value = &'static str> {
    select(vec![
        "a",
        "b",
        "c",
        "port",
        "ansible_host",
        "ansible_port",
        "x_y",
        "a",
        "b",
        "omit",
        "inventory_hostname",
        "A",
        "k.k",
        "1k",
        "groups",
    ])
}

fn priority() -> impl Strategy<Value = &'static str> {
    select(vec!["5", "10", "0", "-1", "1", "'7'", "2.9", "True", "3", "20", "x"])
}

/// What stands behind `=` in an INI file.
fn ini_value() -> impl Strategy<Value = String> {
    let whole = select(vec![
        "1",
        "1.0",
        "True",
        "true",
        "None",
        "0x10",
        "0o17",
        "1_000",
        "(1,2)",
        "[1,2]",
        "0644",
        "007",
        "1e3",
        "{x:1}",
        "{'x':1}",
        "'5'",
        "\"'5'\"",
        "6",
        "\"x # y\"",
        "z#b",
        "'a b'",
        "",
        "''",
        "-5",
        "+5",
        "--5",
        "1j",
        "b'x'",
        "[b'x']",
        "...",
        "[1,'a',None]",
        "{'a':{'b':[1]}}",
        "a\\ b",
        "a'b'c",
        "\"a\\\"b\"",
        "r'a\\d'",
        "u'x'",
        "f'x'",
        "'a''b'",
        "1,",
        "80,443",
        "()",
        "[]",
        "{}",
        "1__0",
        "0b11",
        "1.e5",
        ".5",
        "nan",
        "1 if True",
        "{{ x }}",
        "a=b",
        "10.0.0.1",
        "1-1",
        "1+2j",
        "'\\x41\\u00e9'",
        "'''t'''",
        "[1, 2]",
        "plain # trailing",
        "\"quoted\" # c",
        "é",
        "$HOME",
        "~/x",
        "a;b",
        "[1",
        "{'a':1,'a':2}",
        "{1,2}",
        "0777",
        "1_",
        "0xg",
        "False",
        "not True",
        "12345678901234567890",
        "1.5e400",
        "#c",
        "\\n",
        "'\\n'",
        "\\",
        "\"",
        "'",
        "{1: 'a'}",
        "{None: 1}",
        "(1)",
        "(1,)",
        "[(1,2),3]",
        "True,False",
        "\t",
        "'a'\t'b'",
    ])
    .prop_map(str::to_owned);
    let piece = select(vec![
        "1", "'", "\"", "a", " ", "[", "]", "{", "}", ",", ":", "#", "\\", ".", "_", "0", "-", "e", "b", "True",
    ]);
    let pieces = prop::collection::vec(piece, 1..6).prop_map(|pieces| pieces.concat());
    prop_oneof![9 => whole, 1 => pieces]
}

fn ini_line() -> impl Strategy<Value = String> {
    let assignment = prop_oneof![
        12 => (name(), ini_value()).prop_map(|(name, value)| format!("{name}={value}")),
        1 => priority().prop_map(|value| format!("ansible_group_priority={value}")),
    ];
    let host = prop_oneof![150 => host(), 1 => odd_host()];
    (host, prop::collection::vec(assignment, 0..3), select(vec!["", "", "", "  # c", " ; c", "\t"]))
        .prop_map(|(host, vars, end)| [&[host.to_owned()][..], &vars].concat().join(" ") + end)
}

fn ini_section() -> impl Strategy<Value = String> {
    let spaces = select(vec!["=", " = ", "= ", " ="]);
    let variable = prop_oneof![
        8 => (name(), spaces, ini_value()).prop_map(|(name, is, value)| format!("{name}{is}{value}")),
        1 => priority().prop_map(|value| format!("ansible_group_priority = {value}")),
    ];
    let children = prop_oneof![20 => below().prop_map(str::to_owned), 1 => below().prop_map(|g| format!("{g} # c"))];
    let lines = |lines: Vec<String>| lines.into_iter().map(|line| line + "\n").collect::<String>();
    prop_oneof![
        6 => (group(), prop::collection::vec(ini_line(), 0..4)).prop_map(move |(group, all)| format!("[{group}]\n{}", lines(all))),
        3 => (group(), prop::collection::vec(variable, 0..4)).prop_map(move |(group, all)| format!("[{group}:vars]\n{}", lines(all))),
        3 => (group(), prop::collection::vec(children, 0..3)).prop_map(move |(group, all)| format!("[{group}:children]\n{}", lines(all))),
        1 => select(vec!["# c\n", "\n", "; c\n", "[web] # c\n", "[g1:hosts]\nw1\n"]).prop_map(str::to_owned),
    ]
}

/// Sections that a file is refused for, now and then.
fn ini() -> impl Strategy<Value = String> {
    let odd = select(vec![
        "[web:x]\n",
        "[w b]\n",
        "[]\n",
        "[web\n",
        "[web:vars]\nfoo\n",
        "[new:vars]\na=1\n",
        "[g1:children]\nnowhere\n",
        "---\n",
    ]);
    let top = prop::collection::vec(ini_line(), 0..3)
        .prop_map(|lines| lines.into_iter().map(|line| line + "\n").collect::<String>());
    (
        top,
        prop::collection::vec(ini_section(), 0..6),
        prop::option::weighted(0.02, odd),
        select(vec![KNOWN, KNOWN, KNOWN, KNOWN, ""]),
    )
        // Without `[web]` somewhere, `[web:vars]` and `web` as a child are refused.
        .prop_map(|(top, sections, odd, known)| top + &sections.concat() + odd.unwrap_or_default() + known)
}

/// A value in the flow style of YAML, on one line.
fn yaml_value() -> BoxedStrategy<String> {
    let scalar = select(vec![
        "1",
        "1.0",
        "true",
        "yes",
        "on",
        "No",
        "null",
        "~",
        "",
        "0x10",
        "0o17",
        "017",
        "1_000",
        "1e3",
        "1.5e3",
        "1.e+3",
        "text",
        "'5'",
        "\"a\\tb\"",
        "'it''s'",
        "2024-01-31",
        "2024-01-31 10:00:00",
        "2001-12-14t21:59:43.10-05:00",
        "1:30",
        "190:20:30",
        ".5",
        "-.5",
        "+1",
        "-1",
        "0b11",
        "08",
        "0",
        "a b",
        "a#b",
        "a # c",
        "!unsafe '{{ x }}'",
        "!!str 5",
        "!!int '5'",
        "!!float 5",
        "!!bool yes",
        "! 5",
        "'{{ x }}'",
        "é",
        "'\\n'",
        "\"\\u00e9\"",
        "10.0.0.1",
        "=a",
        "<a",
        "y",
        "n",
        "1__0",
        "_1",
        "0.0",
        "1_000.5",
        "12e03",
        "-0",
        "+.5",
        "1e",
        "Null",
        "TRUE",
        "tRue",
        "!vault x",
        "&q 5",
        "!!null ''",
        "1.0e400",
        "18446744073709551616",
        "685_230.15",
    ])
    .prop_map(str::to_owned);
    let leaf = prop_oneof![8 => scalar, 1 => Just(String::from("{'__ansible_vault': 'x'}"))];
    leaf.prop_recursive(2, 8, 3, |inner| {
        prop_oneof![
            prop::collection::vec(inner.clone(), 0..3).prop_map(|items| format!("[{}]", items.join(", "))),
            prop::collection::vec((name(), inner), 0..3).prop_map(|pairs| {
                let pairs: Vec<String> = pairs.into_iter().map(|(name, value)| format!("{name}: {value}")).collect();
                format!("{{{}}}", pairs.join(", "))
            }),
        ]
    })
    .boxed()
}

/// `name: value` lines at an indentation.
fn yaml_vars(indent: usize) -> impl Strategy<Value = String> {
    let margin = " ".repeat(indent);
    let block = " ".repeat(indent + 2);
    let value = prop_oneof![
        12 => yaml_value(),
        1 => Just(format!("|\n{block}two\n{block}lines")),
        1 => Just(format!(">-\n{block}two\n{block}lines")),
        1 => Just(format!("!vault |\n{block}{}", SEALED.trim_end().replace('\n', &format!("\n{block}")))),
    ];
    let odd = select(vec![
        "1: x",
        "yes: x",
        "'a b': x",
        "? [a]\n: 1",
        "- a",
        "a:b",
        "<<: {a: 1}",
        "<<: [{a: 1}, {b: 2}]",
        "a: !foo x",
        "a: [",
    ]);
    let line = (name(), value).prop_map(|(name, value)| format!("{name}: {value}"));
    prop::collection::vec(prop_oneof![150 => line, 1 => odd.prop_map(str::to_owned), 1 => priority().prop_map(|p| format!("ansible_group_priority: {p}"))], 0..4)
        .prop_map(move |lines| lines.into_iter().map(|line| format!("{margin}{line}\n")).collect())
}

/// The sections of one group at an indentation, and what is below them.
fn yaml_group(levels: u32, indent: usize) -> BoxedStrategy<String> {
    let margin = " ".repeat(indent);
    let below = " ".repeat(indent + 2);
    let host = prop_oneof![150 => host(), 1 => odd_host()];
    let vars = prop_oneof![
        3 => Just(String::from("\n")),
        1 => Just(String::from(" {}\n")),
        2 => yaml_vars(indent + 4).prop_map(|vars| format!("\n{vars}")),
        1 => (name(), yaml_value()).prop_map(|(name, value)| format!(" {{{name}: {value}}}\n")),
    ];
    let quoted = (host, vars, Just(below.clone())).prop_map(|(host, vars, below)| {
        match host.starts_with(['[', '{', '-', '*']) || host.contains(": ") {
            true => format!("{below}\"{host}\":{vars}"),
            false => format!("{below}{host}:{vars}"),
        }
    });
    let hosts = prop::collection::vec(quoted, 0..4).prop_map(|hosts| hosts.concat());
    let children = if levels == 0 {
        Just(String::new()).boxed()
    } else {
        let child = (group(), yaml_group(levels - 1, indent + 4), Just(below.clone()))
            .prop_map(|(group, body, below)| format!("{below}{group}:\n{body}"));
        prop::collection::vec(child, 0..3).prop_map(|children| children.concat()).boxed()
    };
    let odd = select(vec![
        "hosts: [w1]\n",
        "hosts: w1\n",
        "children: db\n",
        "vars: 5\n",
        "extra: {a: 1}\n",
        "hosts: 5\n",
        "vars:\n",
        "children: {x: , y: }\n",
    ]);
    (
        prop::option::of(hosts),
        prop::option::of(yaml_vars(indent + 2)),
        prop::option::of(children),
        prop::option::weighted(0.015, odd),
        any::<bool>(),
    )
        .prop_map(move |(hosts, vars, children, odd, vars_first)| {
            let part = |name: &str, body: Option<String>| {
                body.map_or(String::new(), |body| format!("{margin}{name}:\n{body}"))
            };
            let (hosts, vars, children) = (part("hosts", hosts), part("vars", vars), part("children", children));
            let odd = odd.map_or(String::new(), |odd| format!("{margin}{odd}"));
            if vars_first { vars + &children + &hosts + &odd } else { hosts + &vars + &children + &odd }
        })
        .boxed()
}

fn yaml() -> impl Strategy<Value = String> {
    let group = (group(), yaml_group(2, 2)).prop_map(|(group, body)| format!("{group}:\n{body}"));
    (select(vec!["", "", "---\n", "# c\n"]), prop::collection::vec(group, 1..4))
        .prop_map(|(start, groups)| start.to_owned() + &groups.concat())
}

fn json_value() -> BoxedStrategy<String> {
    let scalar = select(vec![
        "1",
        "1.5",
        "true",
        "null",
        "\"t\"",
        "\"\"",
        "1e3",
        "-0",
        "\"\\u00e9\"",
        "{\"__ansible_vault\": \"x\"}",
        "{\"__ansible_unsafe\": \"x\"}",
        "[1, \"a\"]",
        "{\"a\": {}}",
        "\"{{ x }}\"",
    ]);
    scalar.prop_map(str::to_owned).boxed()
}

fn json_vars() -> impl Strategy<Value = String> {
    prop::collection::vec((name(), json_value()), 0..3).prop_map(|pairs| {
        let pairs: Vec<String> = pairs.into_iter().map(|(name, value)| format!("\"{name}\": {value}")).collect();
        format!("{{{}}}", pairs.join(", "))
    })
}

fn json() -> impl Strategy<Value = String> {
    let hosts = prop::collection::vec((host(), json_vars()), 0..3).prop_map(|hosts| {
        let hosts: Vec<String> = hosts.into_iter().map(|(host, vars)| format!("\"{host}\": {vars}")).collect();
        format!("{{{}}}", hosts.join(", "))
    });
    let body = (hosts, json_vars(), prop::option::of(group())).prop_map(|(hosts, vars, child)| {
        let child = child.map_or(String::from("null"), |child| format!("{{\"{child}\": null}}"));
        format!("{{\"hosts\": {hosts}, \"vars\": {vars}, \"children\": {child}}}")
    });
    prop::collection::vec((group(), body), 1..4).prop_map(|groups| {
        let groups: Vec<String> = groups.into_iter().map(|(group, body)| format!("\"{group}\": {body}")).collect();
        format!("{{{}}}", groups.join(",\n"))
    })
}

/// A script that prints what it was made with.
fn script() -> impl Strategy<Value = String> {
    let hosts = prop::collection::vec(host(), 0..3)
        .prop_map(|hosts| {
            let hosts: Vec<String> = hosts.into_iter().map(|host| format!("\"{host}\"")).collect();
            format!("[{}]", hosts.join(", "))
        })
        .boxed();
    let children = prop::collection::vec(group(), 0..2).prop_map(|all| format!("{all:?}"));
    let body = prop_oneof![
        6 => (hosts.clone(), json_vars(), children).prop_map(|(hosts, vars, children)| format!("{{\"hosts\": {hosts}, \"vars\": {vars}, \"children\": {children}}}")),
        2 => hosts,
        2 => json_vars(),
        1 => select(vec!["{\"hosts\": {}}", "{\"vars\": []}", "5", "null", "{\"children\": null}", "{\"hosts\": [1]}"]).prop_map(str::to_owned),
    ];
    let hostvars = prop::collection::vec((host(), json_vars()), 0..3).prop_map(|hosts| {
        let hosts: Vec<String> = hosts.into_iter().map(|(host, vars)| format!("\"{host}\": {vars}")).collect();
        format!("{{\"hostvars\": {{{}}}}}", hosts.join(", "))
    });
    let meta = prop_oneof![
        8 => hostvars,
        1 => select(vec!["{}", "{\"hostvars\": null}", "{\"hostvars\": []}", "[]"]).prop_map(str::to_owned),
    ];
    let said = select(vec!["{\"said\": 1}", "", "{}", "[]", "a: 1", "nonsense: ["]);
    (prop::collection::vec((group(), body), 0..3), prop::option::weighted(0.8, meta), said).prop_map(|(groups, meta, said)| {
        let mut all: Vec<String> = groups.into_iter().map(|(group, body)| format!("\"{group}\": {body}")).collect();
        all.extend(meta.map(|meta| format!("\"_meta\": {meta}")));
        format!("#!/bin/sh\ncase \"$1\" in\n--list) cat <<'END'\n{{{}}}\nEND\n;;\n*) cat <<'END'\n{said}\nEND\n;;\nesac\n", all.join(",\n"))
    })
}

/// One file of an inventory, with a name that says its format, or does not.
fn source_file() -> impl Strategy<Value = (&'static str, String, Mode)> {
    let ini_name = select(vec!["hosts", "hosts", "hosts.ini", "prod.inv", "10-base"]);
    let yaml_name = select(vec!["hosts.yml", "hosts.yaml", "inv", "20-more.yml"]);
    prop_oneof![
        8 => (ini_name, ini()).prop_map(|(name, text)| (name, text, Mode::Text)),
        8 => (yaml_name, yaml()).prop_map(|(name, text)| (name, text, Mode::Text)),
        2 => (select(vec!["hosts.json", "tree", "30.yml"]), json()).prop_map(|(name, text)| (name, text, Mode::Text)),
        1 => script().prop_map(|text| ("script.sh", text, Mode::Program)),
        1 => ini().prop_map(|text| ("listed", text, Mode::Program)),
    ]
}

/// `group_vars` and `host_vars` below a folder.
fn vars_files(folder: &'static str) -> impl Strategy<Value = Vec<(String, String, Mode)>> {
    let owner = prop_oneof![
        5 => group().prop_map(|group| format!("group_vars/{group}")),
        2 => select(vec!["w1", "w2", "db1", "h", "web", "localhost"]).prop_map(|host| format!("host_vars/{host}")),
    ];
    let ending = select(vec![
        "",
        ".yml",
        ".yaml",
        ".json",
        ".yml",
        "/main.yml",
        "/a",
        "/b.json",
        "/skip.txt",
        ".txt",
        "/sub/x.yml",
    ]);
    let text = prop_oneof![6 => yaml_vars(0), 1 => json_vars(), 1 => select(vec!["", "---\n", "[]\n", "- a\n", "5\n"]).prop_map(str::to_owned)];
    let file = (owner, ending, text)
        .prop_map(move |(owner, ending, text)| (format!("{folder}/{owner}{ending}"), text, Mode::Text));
    prop::collection::vec(file, 0..4)
}

/// A working directory with inventories and the sources to read of it.
pub fn case() -> impl Strategy<Value = Case> {
    let alone = (source_file(), vars_files("inv")).prop_map(|((name, text, mode), mut files)| {
        files.push((format!("inv/{name}"), text, mode));
        (files, vec![format!("inv/{name}")])
    });
    let folder = (prop::collection::vec(source_file(), 1..4), vars_files("inv"), any::<bool>()).prop_map(
        |(sources, mut files, deep)| {
            for (at, (name, text, mode)) in sources.into_iter().enumerate() {
                let below = if deep && at == 1 { "sub/" } else { "" };
                files.push((format!("inv/{below}{name}"), text, mode));
            }
            (files, vec!["inv".to_owned()])
        },
    );
    let two = (source_file(), source_file(), vars_files("inv"), vars_files("more")).prop_map(
        |(one, other, mut files, more)| {
            files.extend(more);
            files.push((format!("inv/{}", one.0), one.1, one.2));
            files.push((format!("more/{}", other.0), other.1, other.2));
            (files, vec![format!("inv/{}", one.0), format!("more/{}", other.0)])
        },
    );
    let list =
        (select(vec!["w1,w2,", "w1, db[1:2],", "[::1]:22,h:80,h", "fe80::1,w1"]), source_file(), vars_files("inv"))
            .prop_map(|(list, file, mut files)| {
                files.push((format!("inv/{}", file.0), file.1, file.2));
                (files, vec![list.to_owned(), format!("inv/{}", file.0)])
            });
    let inventory = prop_oneof![6 => alone.boxed(), 3 => folder.boxed(), 2 => two.boxed(), 1 => list.boxed()];
    let limit = select(vec![
        "all",
        "web",
        "web:db",
        "w*",
        "!web",
        "web:&az_a",
        "~w[12]",
        "w1,db1",
        "all:!w1",
        "web[0]",
        "nowhere",
        "fe80::1",
        "db*,!db",
    ]);
    (
        inventory,
        prop::option::weighted(0.3, limit),
        prop::option::weighted(0.15, vars_files("play")),
        prop::option::weighted(0.1, vars_files(".")),
        any::<bool>(),
    )
        .prop_map(|((mut files, sources), limit, play, here, playbook)| {
            let playbook = play.is_some() && playbook;
            files.push(("play/site.yml".to_owned(), String::new(), Mode::Text));
            files.extend(play.into_iter().flatten());
            files.extend(here.into_iter().flatten());
            Case { files, sources, limit, playbook }
        })
}
