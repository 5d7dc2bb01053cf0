//! One host as written (`db-[a:e:2].x`, `h1:2222`, `[::1]:22`) turned into names and a port.
//!
//! Rules of `ansible.parsing.utils.addresses` and `expand_hostname_range`: what is not a valid address keeps its text
//! and gets no port, but its brackets are still ranges.

use super::lines::python_int;
use crate::edition::Edition;
use crate::error::Fault;

/// Names one pattern may expand to; a fleet above this is a slip of the finger (`[1:10000000]`).
const MAX_NAMES: usize = 200_000;

/// Ranges in one pattern; products grow fast and nobody writes more than three.
const MAX_RANGES: usize = 16;

/// The alphabet ranges count through: lower case before upper case.
const LETTERS: &str = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ";

/// The names a host pattern stands for, and the port behind it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct WrittenHost {
    pub(crate) names: Vec<String>,
    pub(crate) port: Option<u64>,
}

/// Expands a host as written in an INI or YAML inventory.
pub(crate) fn expand(written: &str, edition: Edition) -> Result<WrittenHost, Fault> {
    let (base, port) = address(written, edition)?.unwrap_or((written, None));
    if !base.contains('[') {
        return Ok(WrittenHost { names: vec![base.to_owned()], port });
    }
    if base.matches('[').count() > MAX_RANGES {
        return Err(Fault::too_large("the number of ranges in one host name", MAX_RANGES as u64, "split the line"));
    }
    let mut names = vec![base.to_owned()];
    while names.iter().any(|name| name.contains('[')) {
        let mut wider = Vec::with_capacity(names.len());
        for name in names {
            expand_first(&name, &mut wider)?;
        }
        names = wider;
    }
    Ok(WrittenHost { names, port })
}

/// Splits a valid host address from its port. Absent when the text is no address (then it is all name).
pub(crate) fn address(written: &str, edition: Edition) -> Result<Option<(&str, Option<u64>)>, Fault> {
    let mut host = written;
    let mut port = None;
    // Ansible tries both forms one after the other, so `[h1:80]:22` loses both and keeps 80.
    if let Some((inner, digits)) = bracketed(host) {
        (host, port) = (inner, Some(digits));
    }
    if let Some((inner, digits)) = with_port(host) {
        (host, port) = (inner, Some(digits));
    }
    let is_ipv6 = match edition {
        Edition::Core2_18 => begins_as_ipv6,
        Edition::Core2_19 => is_ipv6,
    };
    if !is_hostname(host) && !is_ipv6(host) {
        return Ok(None);
    }
    let port = match port.map(str::parse::<u64>) {
        None => None,
        Some(Ok(port)) => Some(port),
        Some(Err(_)) => {
            return Err(Fault::invalid(format!("`{written}` has no usable port"), "give a port up to 65535"));
        }
    };
    Ok(Some((host, port)))
}

fn bracketed(text: &str) -> Option<(&str, &str)> {
    let (inner, digits) = text.strip_prefix('[')?.rsplit_once("]:")?;
    (!inner.is_empty() && is_digits(digits)).then_some((inner, digits))
}

fn with_port(text: &str) -> Option<(&str, &str)> {
    let (host, digits) = text.rsplit_once(':')?;
    let mut rest = host;
    // Colons are allowed only inside complete brackets.
    while let Some(at) = rest.find([':', '[', ']']) {
        if !rest[at..].starts_with('[') {
            return None;
        }
        rest = &rest[at + rest[at..].find(']')? + 1..];
    }
    is_digits(digits).then_some((host, digits))
}

fn is_digits(text: &str) -> bool {
    !text.is_empty() && text.bytes().all(|b| b.is_ascii_digit())
}

/// Dot-separated labels of letters, digits, `_`, `-` and ranges; an IPv4 address is one of these.
fn is_hostname(text: &str) -> bool {
    let mut rest = text;
    let mut last = '.';
    while let Some(c) = rest.chars().next() {
        if c == '[' {
            let Some(end) = rest.find(']') else { return false };
            if !is_range(&rest[1..end], is_letter_or_digits) {
                return false;
            }
            rest = &rest[end + 1..];
            last = ']';
            continue;
        }
        let fits = match c {
            '.' => !matches!(last, '.' | '-' | '_'),
            '-' => last != '.',
            '_' => true,
            other => other.is_alphanumeric(),
        };
        if !fits {
            return false;
        }
        last = c;
        rest = &rest[c.len_utf8()..];
    }
    !matches!(last, '.' | '-' | '_')
}

fn is_letter_or_digits(begin: &str, end: &str) -> bool {
    let letter = |text: &str| text.len() == 1 && text.bytes().all(|b| b.is_ascii_alphabetic());
    (letter(begin) && letter(end)) || (is_digits(begin) && is_digits(end))
}

fn is_range(inside: &str, bounds: fn(&str, &str) -> bool) -> bool {
    let parts: Vec<&str> = inside.split(':').collect();
    match parts[..] {
        [begin, end] => bounds(begin, end),
        [begin, end, step] => bounds(begin, end) && is_digits(step),
        _ => false,
    }
}

/// The whole is an address, with ranges for groups where people want them.
fn is_ipv6(text: &str) -> bool {
    let is_ipv4 = |text: &str| ipv4_length(text) == Some(text.len());
    let Some((head, tail)) = text.split_once("::") else {
        let embedded = text.strip_prefix("0:0:0:0:0:").and_then(|rest| rest.split_once(':'));
        let is_embedded =
            |(sixth, v4): (&str, &str)| (sixth == "0" || sixth.eq_ignore_ascii_case("ffff")) && is_ipv4(v4);
        return ipv6_groups(text) == Some(8) || embedded.is_some_and(is_embedded);
    };
    if head.is_empty() {
        let inner =
            tail.split_once(':').filter(|(ffff, _)| ffff.eq_ignore_ascii_case("ffff")).map_or(tail, |(_, v4)| v4);
        return tail.is_empty() || ipv6_groups(tail).is_some_and(|groups| groups <= 6) || is_ipv4(inner);
    }
    match (ipv6_groups(head), ipv6_groups(tail)) {
        (Some(before), None) => tail.is_empty() && before <= 6,
        (Some(before), Some(behind)) => before + behind <= 7,
        (None, _) => false,
    }
}

/// How many groups with a colon between them this is; absent when it is anything else, or nothing.
fn ipv6_groups(text: &str) -> Option<usize> {
    let mut rest = text;
    let mut groups = 0;
    loop {
        let length = ipv6_group(rest)?;
        groups += 1;
        match &rest[length..] {
            "" => return Some(groups),
            behind => rest = behind.strip_prefix(':')?,
        }
    }
}

/// Before 2.19 Ansible's expression is anchored only at its front, so a valid beginning is enough.
fn begins_as_ipv6(text: &str) -> bool {
    if text.starts_with("::") {
        return true;
    }
    let mut rest = text;
    for groups in 0..8 {
        let Some(length) = ipv6_group(rest) else { return false };
        if groups == 7 {
            return true;
        }
        let Some(next) = rest[length..].strip_prefix(':') else {
            return groups == 6 && is_embedded_ipv4(text);
        };
        if groups < 6 && next.starts_with(':') {
            return true;
        }
        rest = next;
    }
    false
}

/// The length of one group: up to four hexadecimal digits, or a hexadecimal range.
fn ipv6_group(text: &str) -> Option<usize> {
    if text.starts_with('[') {
        let end = text.find(']')?;
        let hex = |t: &str| !t.is_empty() && t.bytes().all(|b| b.is_ascii_hexdigit());
        let parts: Vec<&str> = text[1..end].split(':').collect();
        let good = match parts[..] {
            [begin, last] => hex(begin) && hex(last),
            [begin, last, step] => hex(begin) && hex(last) && is_digits(step),
            _ => false,
        };
        return good.then_some(end + 1);
    }
    let digits = text.bytes().take(4).take_while(u8::is_ascii_hexdigit).count();
    (digits > 0).then_some(digits)
}

/// `0:0:0:0:0:0:1.2.3.4`, with anything behind it, and `0:0:0:0:0:ffff:1.2.3.4`, the only form anchored at its end.
fn is_embedded_ipv4(text: &str) -> bool {
    let Some((zeros, rest)) = text.split_at_checked("0:0:0:0:0:".len()) else { return false };
    if zeros != "0:0:0:0:0:" {
        return false;
    }
    match rest.split_once(':') {
        Some(("0", v4)) => ipv4_length(v4).is_some(),
        Some((ffff, v4)) if ffff.eq_ignore_ascii_case("ffff") => ipv4_length(v4) == Some(v4.len()),
        _ => false,
    }
}

/// The length of four groups with dots between them.
fn ipv4_length(text: &str) -> Option<usize> {
    let mut length = ipv6_group(text)?;
    for _ in 0..3 {
        length += 1 + ipv6_group(text[length..].strip_prefix('.')?)?;
    }
    Some(length)
}

/// Expands the first range of `name` into `out`; a name without one is passed on.
fn expand_first(name: &str, out: &mut Vec<String>) -> Result<(), Fault> {
    let bad = |reason: &str| {
        Fault::invalid(
            format!("the host range in `{name}` {reason}"),
            "write `[first:last]` or `[first:last:step]`, as in `web[01:20]`",
        )
    };
    if !name.contains('[') {
        out.push(name.to_owned());
        return Ok(());
    }
    let cut = name.replacen('[', "|", 1).replacen(']', "|", 1);
    let parts: Vec<&str> = cut.split('|').collect();
    let [head, inside, tail] = parts[..] else {
        return Err(bad("has no closing bracket, or the name holds a `|`"));
    };
    let bounds: Vec<&str> = inside.split(':').collect();
    let (begin, end, step) = match bounds[..] {
        [begin, end] => (begin, end, "1"),
        [begin, end, step] => (begin, end, step),
        _ => return Err(bad("needs a begin and an end")),
    };
    let begin = if begin.is_empty() { "0" } else { begin };
    if end.is_empty() {
        return Err(bad("has no end"));
    }
    let width = if begin.starts_with('0') && begin.chars().count() > 1 { begin.chars().count() } else { 0 };
    if width > 0 && width != end.chars().count() {
        return Err(bad("has a padded begin and an end of another width"));
    }
    let step = python_int(step).filter(|&step| step != 0).ok_or_else(|| bad("has a step that is no number above 0"))?;
    let room = |out: &Vec<String>| {
        if out.len() < MAX_NAMES {
            return Ok(());
        }
        Err(Fault::too_large(format!("the number of hosts `{name}` stands for"), MAX_NAMES as u64, "shorten the range"))
    };
    if let (Some(first), Some(last)) = (LETTERS.find(begin), LETTERS.find(end)) {
        if first > last {
            return Err(bad("begins after its end"));
        }
        // A negative step walks away from the end at once and yields nothing.
        let stride = usize::try_from(step).unwrap_or(LETTERS.len());
        let count = if step > 0 { usize::MAX } else { 0 };
        for letter in LETTERS[first..=last].chars().step_by(stride).take(count) {
            room(out)?;
            out.push(format!("{head}{letter:0>width$}{tail}"));
        }
        return Ok(());
    }
    let number =
        |text: &str| python_int(text).ok_or_else(|| bad("has bounds that are neither two numbers nor two letters"));
    let (mut at, stop) = (number(begin)?, i128::from(number(end)?) + 1);
    while (step > 0 && i128::from(at) < stop) || (step < 0 && i128::from(at) > stop) {
        room(out)?;
        out.push(format!("{head}{at:0width$}{tail}"));
        match at.checked_add(step) {
            Some(next) => at = next,
            None => break,
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    fn names(written: &str) -> Vec<String> {
        expand(written, Edition::Core2_18).unwrap().names
    }

    #[test]
    fn ranges_of_the_table() {
        assert_eq!(names("h[01:10:3]"), ["h01", "h04", "h07", "h10"]);
        assert_eq!(names("db-[a:e:2].x"), ["db-a.x", "db-c.x", "db-e.x"]);
        assert_eq!(names("n[1:2]-[a:b]"), ["n1-a", "n1-b", "n2-a", "n2-b"]);
        assert_eq!(names("w[001:500]").len(), 500);
        assert_eq!(names("w[001:500]")[499], "w500");
        assert_eq!(names("h[:2]"), ["h0", "h1", "h2"]);
        assert_eq!(names("h[5:1]"), Vec::<String>::new());
        assert_eq!(names("h[x:C]"), ["hx", "hy", "hz", "hA", "hB", "hC"]);
    }

    #[test]
    fn ports_of_the_table() {
        let port = |written: &str| expand(written, Edition::Core2_18).map(|p| (p.names.join(","), p.port)).unwrap();
        assert_eq!(port("h1:2222"), ("h1".into(), Some(2222)));
        assert_eq!(port("[::1]:22"), ("::1".into(), Some(22)));
        assert_eq!(port("h[1:2]:22"), ("h1,h2".into(), Some(22)));
        assert_eq!(port("10.0.0.[1:2]:22"), ("10.0.0.1,10.0.0.2".into(), Some(22)));
        assert_eq!(port("fe80::1"), ("fe80::1".into(), None));
        assert_eq!(port("-bad-:22"), ("-bad-:22".into(), None));
    }

    #[test]
    fn refused_ranges() {
        for written in ["[1:]", "h[", "h[1]", "h[1:2:3:4]", "h[01:100]", "h[a:3]", "h[b:a]", "h[1:2:0]", "h|[1:2]"] {
            assert!(expand(written, Edition::Core2_18).is_err(), "{written}");
        }
        assert!(matches!(
            expand("h[1:999999999]", Edition::Core2_18).unwrap_err().kind,
            crate::error::FaultKind::TooLarge(_)
        ));
    }
}
