//! What an unquoted YAML scalar is: YAML 1.1 as PyYAML reads it, not YAML 1.2.
//!
//! `yes` is true, `0644` is 420, `1:30` is 90, `1e3` is text. A newer reader would answer each differently.

use serde_json::Number;

use super::node::Kind;
use super::yaml_time::{Timestamp, timestamp};
use crate::error::Fault;

/// Types a plain (unquoted, untagged) scalar.
pub(super) fn plain(text: &str) -> Result<Kind, Fault> {
    match text {
        "" | "~" | "null" | "Null" | "NULL" => return Ok(Kind::Null),
        "=" | "<<" => {
            return Err(Fault::unsupported(format!("the bare `{text}` as a value"), "put it in quotes"));
        }
        _ => {}
    }
    if let Some(value) = boolean(text) {
        return Ok(Kind::Bool(value));
    }
    if !text.starts_with(|c: char| c.is_ascii_digit() || matches!(c, '-' | '+' | '.')) {
        return Ok(Kind::Text(text.to_owned()));
    }
    if is_float(text) {
        return float(text);
    }
    if is_int(text) {
        return int(text);
    }
    match timestamp(text) {
        Timestamp::No => Ok(Kind::Text(text.to_owned())),
        Timestamp::Iso(iso) => Ok(Kind::Date(iso)),
        Timestamp::Impossible => {
            Err(Fault::invalid(format!("`{text}` is shaped like a date that does not exist"), "put it in quotes"))
        }
    }
}

/// Types a scalar with a core tag (`!!int "5"`).
pub(super) fn tagged(tag: &str, text: &str) -> Result<Kind, Fault> {
    let wrong = || Fault::invalid(format!("`!!{tag} {text}` is no {tag}"), "drop the tag or correct the value");
    match tag {
        "str" => Ok(Kind::Text(text.to_owned())),
        "null" => Ok(Kind::Null),
        "bool" => boolean(&text.to_ascii_lowercase()).map(Kind::Bool).ok_or_else(wrong),
        "int" if is_int(text) => int(text),
        "float" if is_float(text) => float(text),
        "float" if is_int(text) => text.parse().ok().and_then(Number::from_f64).map(Kind::Number).ok_or_else(wrong),
        "int" | "float" => Err(wrong()),
        _ => Err(Fault::unsupported(format!("the tag `!!{tag}`"), "write the value without it")),
    }
}

fn boolean(text: &str) -> Option<bool> {
    match text {
        "yes" | "Yes" | "YES" | "true" | "True" | "TRUE" | "on" | "On" | "ON" => Some(true),
        "no" | "No" | "NO" | "false" | "False" | "FALSE" | "off" | "Off" | "OFF" => Some(false),
        _ => None,
    }
}

fn unsigned(text: &str) -> &str {
    text.strip_prefix(['-', '+']).unwrap_or(text)
}

fn only(text: &str, good: impl Fn(u8) -> bool) -> bool {
    text.bytes().all(|b| b == b'_' || good(b))
}

/// `begin` is one of the digits allowed first, then `:`-separated parts below 60.
fn is_sexagesimal(text: &str) -> bool {
    let mut parts = text.split(':');
    let first = parts.next().unwrap_or_default();
    let rest: Vec<&str> = parts.collect();
    let below_60 = |part: &&str| match part.as_bytes() {
        [one] => one.is_ascii_digit(),
        [ten, one] => (b'0'..=b'5').contains(ten) && one.is_ascii_digit(),
        _ => false,
    };
    !rest.is_empty()
        && first.starts_with(|c: char| c.is_ascii_digit())
        && only(first, |b| b.is_ascii_digit())
        && rest.iter().all(below_60)
}

fn is_int(text: &str) -> bool {
    let digits = unsigned(text);
    if let Some(binary) = digits.strip_prefix("0b") {
        return !binary.is_empty() && only(binary, |b| matches!(b, b'0' | b'1'));
    }
    if let Some(hex) = digits.strip_prefix("0x") {
        return !hex.is_empty() && only(hex, |b| b.is_ascii_hexdigit());
    }
    match digits.as_bytes() {
        [] => false,
        [b'0'] => true,
        [b'0', ..] => only(&digits[1..], |b| (b'0'..=b'7').contains(&b)),
        [b'1'..=b'9', ..] => only(digits, |b| b.is_ascii_digit()) || is_sexagesimal(digits),
        _ => false,
    }
}

fn int(text: &str) -> Result<Kind, Fault> {
    let plain = text.replace('_', "");
    let digits = unsigned(&plain);
    let magnitude = if let Some(binary) = digits.strip_prefix("0b") {
        u64::from_str_radix(binary, 2).ok()
    } else if let Some(hex) = digits.strip_prefix("0x") {
        u64::from_str_radix(hex, 16).ok()
    } else if digits.len() > 1 && digits.starts_with('0') {
        u64::from_str_radix(digits, 8).ok()
    } else {
        digits.split(':').try_fold(0_u64, |sum, part| sum.checked_mul(60)?.checked_add(part.parse().ok()?))
    };
    let number = if plain.starts_with('-') {
        magnitude.and_then(|m| i64::try_from(-i128::from(m)).ok()).map(Number::from)
    } else {
        magnitude.map(Number::from)
    };
    number.map(Kind::Number).ok_or_else(|| {
        Fault::unsupported(format!("the integer `{text}`, which needs more than 64 bits,"), "put it in quotes")
    })
}

fn is_float(text: &str) -> bool {
    if matches!(text, ".nan" | ".NaN" | ".NAN") || matches!(unsigned(text), ".inf" | ".Inf" | ".INF") {
        return true;
    }
    let body = unsigned(text);
    let Some((whole, fraction)) = body.split_once('.') else { return false };
    if whole.contains(':') {
        return is_sexagesimal(whole) && only(fraction, |b| b.is_ascii_digit());
    }
    // The exponent needs its sign in YAML 1.1.
    let (fraction, exponent) = match fraction.split_once(['e', 'E']) {
        Some((fraction, exponent)) => (fraction, Some(exponent)),
        None => (fraction, None),
    };
    let exponent_fits =
        exponent.is_none_or(|e| e.starts_with(['-', '+']) && e.len() > 1 && e[1..].bytes().all(|b| b.is_ascii_digit()));
    let digits_fit = if whole.is_empty() {
        body.len() == text.len() && fraction.starts_with(|c: char| c.is_ascii_digit())
    } else {
        whole.starts_with(|c: char| c.is_ascii_digit()) && only(whole, |b| b.is_ascii_digit())
    };
    exponent_fits && digits_fit && only(fraction, |b| b.is_ascii_digit())
}

fn float(text: &str) -> Result<Kind, Fault> {
    let plain = text.replace('_', "");
    let digits = unsigned(&plain);
    let magnitude = digits.split(':').try_fold(0.0, |sum, part| part.parse::<f64>().ok().map(|part| sum * 60.0 + part));
    let signed = magnitude.map(|m| if plain.starts_with('-') { -m } else { m });
    signed
        .and_then(Number::from_f64)
        .map(Kind::Number)
        .ok_or_else(|| Fault::unsupported(format!("`{text}`, a number JSON has no form for,"), "put it in quotes"))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use crate::text::node::Node;
    use serde_json::json;

    #[test]
    fn yaml_1_1_scalars() {
        let rows = [
            ("yes", json!(true)),
            ("Off", json!(false)),
            ("y", json!("y")),
            ("~", json!(null)),
            ("0644", json!(420)),
            ("08", json!("08")),
            ("0o17", json!("0o17")),
            ("0x1F", json!(31)),
            ("0b11", json!(3)),
            ("1_000", json!(1000)),
            ("-12", json!(-12)),
            ("1:30", json!(90)),
            ("1:30.5", json!(90.5)),
            ("1:60", json!("1:60")),
            ("1e3", json!("1e3")),
            ("1.0e3", json!("1.0e3")),
            ("1.5e+3", json!(1500.0)),
            (".5", json!(0.5)),
            ("-.5", json!("-.5")),
            ("1.", json!(1.0)),
            ("1.2.3", json!("1.2.3")),
            ("10.0.0.1", json!("10.0.0.1")),
            ("-", json!("-")),
            (".", json!(".")),
            ("2024-01-01", json!("2024-01-01")),
        ];
        for (text, expected) in rows {
            let node = Node { line: 0, kind: plain(text).unwrap() };
            assert_eq!(node.value(), expected, "{text}");
        }
        for text in [".inf", "-.INF", ".nan", "99999999999999999999", "0x_", "2023-02-30", "="] {
            assert!(plain(text).is_err(), "{text}");
        }
    }
}
