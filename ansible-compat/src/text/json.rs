//! JSON documents as nodes: Ansible tries JSON before YAML on every file that may be either.
//!
//! Number rules differ between the two (`1e3` is a number here and text in YAML), so this is not a detour through YAML.

use std::collections::HashMap;
use std::fmt;

use serde::de::{Deserialize, Deserializer, Error as _, MapAccess, SeqAccess, Visitor};
use serde_json::Number;

use super::node::{Kind, Node, UNSAFE, VAULT};
use crate::error::Fault;

/// Beyond this a float read from JSON may have been an integer that lost digits.
const MAX_EXACT: f64 = 18_446_744_073_709_551_616.0;

/// Parses one JSON document. Absent when the text is not JSON (then it may be YAML).
pub(crate) fn parse(text: &str) -> Option<Result<Node, Fault>> {
    // Serde's message names its position, which tells nothing here.
    match serde_json::from_str::<Node>(text) {
        Ok(node) if text.contains("-0") => Some(Ok(without_minus_zero(node, text))),
        Ok(node) => Some(Ok(node)),
        Err(_) => None,
    }
}

/// To Python `-0` is the integer 0 and `-0.0` a float; to serde both are a float.
fn without_minus_zero(node: Node, text: &str) -> Node {
    if ["-0.", "-0e", "-0E"].iter().any(|float| text.contains(float)) {
        return node;
    }
    let kind = match node.kind {
        Kind::Number(number) if number.is_f64() && number.as_f64() == Some(0.0) => Kind::Number(0.into()),
        Kind::List(items) => Kind::List(items.into_iter().map(|item| without_minus_zero(item, text)).collect()),
        Kind::Map(pairs) => {
            Kind::Map(pairs.into_iter().map(|(key, value)| (key, without_minus_zero(value, text))).collect())
        }
        other => other,
    };
    Node { line: node.line, kind }
}

impl<'de> Deserialize<'de> for Node {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(AnyValue).map(|kind| Self { line: 0, kind })
    }
}

struct AnyValue;

impl<'de> Visitor<'de> for AnyValue {
    type Value = Kind;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a JSON value")
    }

    fn visit_unit<E>(self) -> Result<Kind, E> {
        Ok(Kind::Null)
    }

    fn visit_bool<E>(self, value: bool) -> Result<Kind, E> {
        Ok(Kind::Bool(value))
    }

    fn visit_i64<E>(self, value: i64) -> Result<Kind, E> {
        Ok(Kind::Number(value.into()))
    }

    fn visit_u64<E>(self, value: u64) -> Result<Kind, E> {
        Ok(Kind::Number(value.into()))
    }

    fn visit_f64<E: serde::de::Error>(self, value: f64) -> Result<Kind, E> {
        // The YAML attempt that follows names the number, or reads it as the text it then is.
        let number = Number::from_f64(value).filter(|_| value.abs() < MAX_EXACT);
        number.map(Kind::Number).ok_or_else(|| E::custom("a number too large to keep"))
    }

    fn visit_str<E>(self, value: &str) -> Result<Kind, E> {
        Ok(Kind::Text(value.to_owned()))
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut access: A) -> Result<Kind, A::Error> {
        let mut items = Vec::new();
        while let Some(item) = access.next_element()? {
            items.push(item);
        }
        Ok(Kind::List(items))
    }

    fn visit_map<A: MapAccess<'de>>(self, mut access: A) -> Result<Kind, A::Error> {
        let mut pairs: Vec<(Node, Node)> = Vec::new();
        let mut places: HashMap<String, usize> = HashMap::new();
        while let Some((key, value)) = access.next_entry::<String, Node>()? {
            if key == VAULT || key == UNSAFE {
                // The rest of the dictionary is passed over, as Ansible does.
                while access.next_entry::<String, Node>()?.is_some() {}
                return match value.kind {
                    Kind::Text(text) if key == VAULT => Ok(Kind::Vault(text)),
                    _ if key == VAULT => Err(A::Error::custom("a vault value that is no text")),
                    _ => Ok(value.into_unsafe().kind),
                };
            }
            // The last value wins, in the first one's place, as in a Python dictionary.
            if let Some(&place) = places.get(&key) {
                pairs[place].1 = value;
                continue;
            }
            places.insert(key.clone(), pairs.len());
            pairs.push((Node { line: 0, kind: Kind::Text(key) }, value));
        }
        Ok(Kind::Map(pairs))
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use serde_json::json;

    #[test]
    fn json_documents() {
        let node = parse(r#"{"b": 1e3, "a": [true, null, "x"], "b": 2}"#).unwrap().unwrap();
        assert_eq!(node.value(), json!({"a": [true, null, "x"], "b": 2}));
        let Kind::Map(pairs) = node.kind else { panic!("a map") };
        assert_eq!(pairs[0].0.text(), Some("b"));
        assert_eq!(parse("[-0, [-0]]").unwrap().unwrap().value(), json!([0, [0]]));
        assert_eq!(parse("[-0.0]").unwrap().unwrap().value(), json!([-0.0]));
        assert!(parse("a: 1").is_none());
        assert!(parse(r#"{"x": 99999999999999999999}"#).is_none());
        let vault = r#"{"p": {"__ansible_vault": "$ANSIBLE_VAULT;1.1;AES256\n00", "more": 1}}"#;
        let value = parse(vault).unwrap().unwrap().value();
        assert_eq!(value, json!({"p": {"__ansible_vault": "$ANSIBLE_VAULT;1.1;AES256\n00"}}));
    }
}
