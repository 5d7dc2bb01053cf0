//! What holds of every host pattern on any hosts and groups: hosts are known, signs are set operations, slips are told.
//!
//! That the answers are Ansible's is shown in `patterns.rs`.
#![allow(clippy::unwrap_used)]

#[path = "patterns/strategies.rs"]
mod strategies;

use std::collections::BTreeSet;

use ansible_compat::{Groups, HostPattern, Members};
use proptest::prelude::*;

use strategies::{address_like, likely_pattern};

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
    #![proptest_config(ProptestConfig { cases: 2_000, failure_persistence: None, ..ProptestConfig::default() })]

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
