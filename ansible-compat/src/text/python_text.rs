//! Values as Python's `str` and `repr` write them.

use serde_json::Value;

use super::node::{UNSAFE, VAULT};

/// What stands for a vault value, which is never opened.
const CLOSED: &str = "<vault value>";

/// `str(value)`: text as it is, everything else as source.
pub(crate) fn printed(value: &Value) -> String {
    match value {
        Value::String(text) => text.clone(),
        other => match marked_text(other) {
            Some(text) => text.to_owned(),
            None => source(other),
        },
    }
}

/// `repr(value)`.
fn source(value: &Value) -> String {
    match value {
        Value::Null => "None".to_owned(),
        Value::Bool(true) => "True".to_owned(),
        Value::Bool(false) => "False".to_owned(),
        Value::Number(number) => number.as_f64().filter(|_| number.is_f64()).map_or(number.to_string(), float),
        Value::String(text) => quoted(text),
        Value::Array(items) => format!("[{}]", items.iter().map(source).collect::<Vec<_>>().join(", ")),
        Value::Object(pairs) => match marked_text(value) {
            Some(CLOSED) => CLOSED.to_owned(),
            Some(text) => quoted(text),
            None => {
                let pairs: Vec<String> =
                    pairs.iter().map(|(key, value)| format!("{}: {}", quoted(key), source(value))).collect();
                format!("{{{}}}", pairs.join(", "))
            }
        },
    }
}

/// The text that a mark is put to.
fn marked_text(value: &Value) -> Option<&str> {
    let pairs = value.as_object().filter(|pairs| pairs.len() == 1)?;
    match (pairs.get(UNSAFE), pairs.get(VAULT)) {
        (Some(Value::String(text)), _) => Some(text),
        (_, Some(Value::String(_))) => Some(CLOSED),
        _ => None,
    }
}

/// Exponents from 16 digits on, as in Python.
fn float(value: f64) -> String {
    let size = value.abs();
    if size != 0.0 && !(1e-4..1e16).contains(&size) {
        let text = format!("{value:e}");
        let (digits, exponent) = text.split_once('e').unwrap_or((&text, "0"));
        let (sign, exponent) = exponent.strip_prefix('-').map_or(('+', exponent), |exponent| ('-', exponent));
        return format!("{digits}e{sign}{exponent:0>2}");
    }
    format!("{value:?}")
}

fn quoted(text: &str) -> String {
    let quote = if text.contains('\'') && !text.contains('"') { '"' } else { '\'' };
    let mut out = String::from(quote);
    for c in text.chars() {
        match c {
            '\n' => out.push_str("\\n"),
            '\r' => out.push_str("\\r"),
            '\t' => out.push_str("\\t"),
            '\\' => out.push_str("\\\\"),
            c if c == quote => out.extend(['\\', c]),
            c if c.is_control() => {
                let code = u32::from(c);
                out.push_str(&if code < 0x100 { format!("\\x{code:02x}") } else { format!("\\u{code:04x}") });
            }
            c => out.push(c),
        }
    }
    out.push(quote);
    out
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn values_as_python_prints_them() {
        for (value, text) in [
            (json!("a b"), "a b"),
            (json!(null), "None"),
            (json!([true, 1, 1.0, "x", "it's", "both '\""]), r#"[True, 1, 1.0, 'x', "it's", 'both \'"']"#),
            (json!({"a": {"b": []}}), "{'a': {'b': []}}"),
            (json!([1e16, 1e15, 1e-5, 1.5e300, 0.0]), "[1e+16, 1000000000000000.0, 1e-05, 1.5e+300, 0.0]"),
            (json!(["a\n\u{7f}é\\"]), r"['a\n\x7fé\\']"),
            (json!({"__ansible_unsafe": "{{ x }}"}), "{{ x }}"),
            (json!([{"__ansible_unsafe": "{{ x }}"}]), "['{{ x }}']"),
            (json!({"__ansible_vault": "$ANSIBLE"}), "<vault value>"),
            (json!([{"__ansible_vault": "$ANSIBLE"}]), "[<vault value>]"),
        ] {
            assert_eq!(printed(&value), text);
        }
    }
}
