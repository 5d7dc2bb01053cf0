//! No text, however odd, makes the reader panic: it answers or it refuses with a reason.
#![allow(clippy::unwrap_used)]

use ansible_compat::{Export, Inventory, Source};
use proptest::prelude::*;

/// Text made of the pieces inventories are made of, so that it gets past the first check.
fn inventory_like() -> impl Strategy<Value = String> {
    let piece = prop_oneof![
        prop::sample::select(vec![
            "[",
            "]",
            "[g]",
            "[g:vars]",
            "[h:children]",
            ":children]",
            "\n",
            "\n",
            "\n",
            " ",
            "  ",
            "=",
            "a",
            "g",
            "h",
            "web",
            "[1:3]",
            "[a:c]",
            "[01:10:2]",
            ":",
            ":22",
            "::",
            "#",
            ";",
            "'",
            "\"",
            "\\",
            "{",
            "}",
            "(",
            ")",
            ",",
            "-",
            "+",
            "1",
            "0x1F",
            "1e3",
            "1_0",
            "True",
            "None",
            "b'",
            "r\"",
            "\\x41",
            "\\u00e9",
            "\\N{",
            "...",
            "set()",
            "1j",
            "all:",
            "hosts:",
            "vars:",
            "children:",
            "\n  ",
            "\n    ",
            "- ",
            "&a ",
            "*a",
            "<<: ",
            "!vault ",
            "!unsafe ",
            "!!int ",
            "|\n",
            ">-\n",
            "2024-01-31",
            "1:30",
            ".5",
            ".inf",
            "~",
            "null",
            "yes",
            "? ",
            "---\n",
            "...\n",
            "plugin: x",
            "ansible_group_priority=",
            "ß",
            "\u{feff}",
            "\u{2028}",
            "\t",
            "\r\n",
            "\0",
        ])
        .prop_map(str::to_owned),
        "[a-z0-9._-]{1,6}",
        "\\PC{0,3}",
    ];
    prop::collection::vec(piece, 0..40).prop_map(|pieces| pieces.concat())
}

fn try_all(name: &str, text: &[u8]) {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join(name);
    std::fs::write(&path, text).unwrap();
    std::fs::create_dir(folder.path().join("group_vars")).unwrap();
    std::fs::write(folder.path().join("group_vars/all"), text).unwrap();
    match Inventory::load(&[Source::Path(path)]) {
        Ok(inventory) => {
            assert!(inventory.to_list_json(Export::Yes)["_meta"].is_object());
            assert!(inventory.to_list_json(Export::No)["all"].is_object());
            for host in inventory.hosts() {
                assert!(
                    inventory.select(host).is_ok()
                        || host.contains([':', '[', ',', '~', '!', '&', '@', ' '])
                        || host.chars().all(|c| c.is_whitespace() || c.is_control()),
                    "{host:?}"
                );
            }
        }
        Err(error) => assert!(error.to_string().contains("; "), "no way out in {error}"),
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 400, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn inventory_like_text(text in inventory_like()) {
        for name in ["hosts", "hosts.ini", "hosts.yml", "hosts.json"] {
            try_all(name, text.as_bytes());
        }
    }

    #[test]
    fn any_bytes(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
        for name in ["hosts", "hosts.ini", "hosts.yml"] {
            try_all(name, &bytes);
        }
    }

    #[test]
    fn any_list_and_pattern(list in "\\PC{0,20}", pattern in inventory_like(), odd in "\\PC{0,20}") {
        let inventory = Inventory::load(&[Source::List(format!("web1,web2,{list}"))]).map_err(|error| error.to_string());
        if let Ok(inventory) = inventory {
            for pattern in [&pattern, &odd] {
                let hosts: Vec<&str> = inventory.hosts().collect();
                if let Ok(selection) = inventory.selection(pattern) {
                    prop_assert!(selection.hosts.iter().all(|host| hosts.contains(host)));
                }
            }
        }
    }
}
