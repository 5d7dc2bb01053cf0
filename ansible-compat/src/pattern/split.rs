//! One written pattern cut into its terms.
//!
//! The rule is `split_host_pattern` of `lib/ansible/inventory/manager.py`: commas separate; without one, colons do,
//! unless the whole is one address.

use crate::edition::Edition;
use crate::text::host_range::address;
use crate::text::lines::{is_space, strip};

/// The terms without the blanks around them; empty ones are left out. Each is a slice of `pattern`.
pub(crate) fn split(pattern: &str, edition: Edition) -> Vec<&str> {
    let parts: Vec<&str> = if pattern.contains(',') {
        pattern.split(',').collect()
    } else if is_one_address(pattern, edition) {
        vec![pattern]
    } else {
        split_colons(pattern)
    };
    parts.into_iter().map(strip).filter(|part| !part.is_empty()).collect()
}

/// `fe80::1`, `web[1:3]`, `web:22`. A port too long for any number still makes it an address.
fn is_one_address(pattern: &str, edition: Edition) -> bool {
    // Python's `$` also matches before a line end at the very end.
    !matches!(address(pattern.strip_suffix('\n').unwrap_or(pattern), edition), Ok(None))
}

/// Runs of anything but blanks, colons and loose brackets; complete brackets are part of a run, colons inside and all.
fn split_colons(pattern: &str) -> Vec<&str> {
    let mut parts = Vec::new();
    let mut start = 0;
    let mut at = 0;
    // A bracket that is not closed stays so for all that follow: looking once keeps the work linear.
    let last_close = pattern.rfind(']');
    while let Some(c) = pattern[at..].chars().next() {
        let closed = if c == '[' && last_close > Some(at) { pattern[at..].find(']') } else { None };
        if let Some(end) = closed {
            at += end + 1;
            continue;
        }
        if matches!(c, ':' | '[' | ']') || is_space(c) {
            parts.push(&pattern[start..at]);
            start = at + c.len_utf8();
        }
        at += c.len_utf8();
    }
    parts.push(&pattern[start..]);
    parts
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The first row is the example in `split_host_pattern`; the others are its three rules, read off Ansible 2.17.14.
    #[test]
    fn terms_of_the_table() {
        let table: [(&str, &[&str]); 17] = [
            ("a,b[1], c[2:3] , d", &["a", "b[1]", "c[2:3]", "d"]),
            ("a:b", &["a", "b"]),
            ("a:&b:!c", &["a", "&b", "!c"]),
            ("a:b,c", &["a:b", "c"]),
            ("web[1:3]", &["web[1:3]"]),
            ("web[1:3]:db", &["web[1:3]", "db"]),
            ("web:22", &["web:22"]),
            ("web:99999999999999999999999", &["web:99999999999999999999999"]),
            ("fe80::1", &["fe80::1"]),
            ("::1", &["::1"]),
            ("[::1]:22", &["[::1]:22"]),
            ("fe80::1:!web", &["fe80::1:!web"]),
            ("a::!b", &["a::!b"]),
            ("w::!b", &["w", "!b"]),
            ("a b\tc", &["a", "b", "c"]),
            ("a]b[c", &["a", "b", "c"]),
            (" , ,", &[]),
        ];
        for (pattern, terms) in table {
            assert_eq!(split(pattern, Edition::Core2_18), terms, "{pattern}");
        }
        let newer: [(&str, &[&str]); 6] = [
            ("fe80::1", &["fe80::1"]),
            ("::ffff:10.0.0.1", &["::ffff:10.0.0.1"]),
            ("1:2:3:4:5:6:7:8", &["1:2:3:4:5:6:7:8"]),
            ("fe80::1:!web", &["fe80", "1", "!web"]),
            ("a::!b", &["a", "!b"]),
            ("[::1]:22", &["[::1]:22"]),
        ];
        for (pattern, terms) in newer {
            assert_eq!(split(pattern, Edition::Core2_19), terms, "{pattern}");
        }
    }
}
