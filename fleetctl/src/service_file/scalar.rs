//! Single values and lists of them: text that every YAML reader takes for the same text, whole numbers, durations.

use std::fmt::Display;
use std::ops::RangeInclusive;
use std::str::FromStr;

use fleet::Millis;

use super::error::Problem;
use super::yaml::{Node, Place, Value, shown};

/// More items than this in one list or mapping of a service file is a mistake.
pub(super) const MOST_ITEMS: usize = 1_000;

pub(super) fn duration(node: &Node, what: &str) -> Result<Millis, Problem> {
    read(&word(node, what)?, node.place, what)
}

/// Text whose form says what it is (`60s`, `25%`, `4`), so that quotes do not matter.
pub(super) fn word(node: &Node, what: &str) -> Result<String, Problem> {
    match &node.value {
        Value::Plain(text) | Value::Quoted(text) if !node.is_null() => Ok(text.clone()),
        _ => Err(Problem::new(node.place, format!("'{what}' must be a single value, found {}", node.what()))),
    }
}

pub(super) fn integer(node: &Node, what: &str, range: RangeInclusive<u32>) -> Result<u32, Problem> {
    let written = match &node.value {
        Value::Plain(text) => text.parse::<u32>().ok().filter(|n| n.to_string() == *text),
        _ => None,
    };
    written.filter(|n| range.contains(n)).ok_or_else(|| {
        let found = match &node.value {
            Value::Plain(text) => format!("'{}'", shown(text)),
            Value::Quoted(text) => format!("the text \"{}\"", shown(text)),
            Value::List(_) | Value::Map(_) => node.what().to_owned(),
        };
        Problem::new(
            node.place,
            format!("'{what}' must be a whole number from {} to {}, found {found}", range.start(), range.end()),
        )
    })
}

/// Text that is what a domain type accepts.
pub(super) fn parsed<T: FromStr<Err: Display>>(node: &Node, what: &str) -> Result<T, Problem> {
    read(&text(node, what)?, node.place, what)
}

pub(super) fn read<T: FromStr<Err: Display>>(text: &str, place: Place, what: &str) -> Result<T, Problem> {
    text.parse().map_err(|error: T::Err| Problem::new(place, format!("'{what}': {error}")))
}

pub(super) fn list(node: Node, what: &str, example: &str) -> Result<Vec<Node>, Problem> {
    let place = node.place;
    let found = node.what();
    match node.value {
        Value::List(items) if items.len() <= MOST_ITEMS => Ok(items),
        Value::List(items) => {
            Err(Problem::new(place, format!("'{what}' has {} items, more than the {MOST_ITEMS} accepted", items.len())))
        }
        _ => Err(Problem::new(place, format!("'{what}' must be a list, found {found}"))
            .help(format!("write one item per line: {example}"))),
    }
}

pub(super) fn texts(node: Node, what: &str) -> Result<Vec<String>, Problem> {
    list(node, what, "- text")?.iter().map(|item| text(item, what)).collect()
}

/// Text that every YAML reader takes for the same text.
pub(super) fn text(node: &Node, what: &str) -> Result<String, Problem> {
    let found = match &node.value {
        _ if node.is_null() => {
            return Err(Problem::new(node.place, format!("'{what}' has no value")).help("write one, or remove the key"));
        }
        Value::Plain(text) => {
            if let Some(other) = other_reading(text) {
                let problem = Problem::new(
                    node.place,
                    format!("'{what}' must be text, but {} without quotes is {other}", shown(text)),
                );
                return Err(problem.help(format!("write \"{}\"", shown(text))));
            }
            text
        }
        Value::Quoted(text) => text,
        Value::List(_) | Value::Map(_) => {
            return Err(Problem::new(node.place, format!("'{what}' must be text, found {}", node.what())));
        }
    };
    if found.is_empty() {
        return Err(Problem::new(node.place, format!("'{what}' is empty")));
    }
    if let Some(c) = found.chars().find(|c| c.is_control() && !matches!(c, '\n' | '\t')) {
        return Err(Problem::new(
            node.place,
            format!("'{what}' contains the control character {}", c.escape_default()),
        ));
    }
    Ok(found.clone())
}

/// What YAML 1.1 or 1.2 makes of plain text that is not text, if anything.
fn other_reading(text: &str) -> Option<&'static str> {
    let lower = text.to_ascii_lowercase();
    if matches!(lower.as_str(), "y" | "n" | "yes" | "no" | "true" | "false" | "on" | "off") {
        return Some("a yes or no to some YAML readers");
    }
    let bare = lower.trim_start_matches(['+', '-']).replace('_', "");
    let radix = ["0x", "0o", "0b"].iter().any(|prefix| {
        bare.strip_prefix(prefix).is_some_and(|rest| !rest.is_empty() && rest.bytes().all(|b| b.is_ascii_hexdigit()))
    });
    let decimal = bare.starts_with(|c: char| c.is_ascii_digit() || c == '.') && bare.parse::<f64>().is_ok();
    let sixty =
        bare.contains(':') && bare.split(':').all(|part| !part.is_empty() && part.bytes().all(|b| b.is_ascii_digit()));
    if radix || decimal || sixty || matches!(bare.as_str(), ".inf" | ".nan") {
        return Some("a number to some YAML readers");
    }
    let date: Vec<&str> = lower.split('-').collect();
    let digits = |part: &str, least: usize, most: usize| {
        (least..=most).contains(&part.len()) && part.bytes().all(|b| b.is_ascii_digit())
    };
    if let [year, month, day] = date[..]
        && digits(year, 4, 4)
        && digits(month, 1, 2)
        && digits(day, 1, 2)
    {
        return Some("a date to some YAML readers");
    }
    None
}
