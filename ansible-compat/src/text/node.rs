//! A YAML or JSON document as a tree that keeps order, lines and the difference between text and look-alikes.
//!
//! Inventories need what JSON values forget: the order of hosts, and that `on:` is not a name.

use serde_json::{Map, Number, Value};

use crate::error::Fault;

/// The key under which text marked `!unsafe` is written.
pub(crate) const UNSAFE: &str = "__ansible_unsafe";

/// The key under which vault values are written.
pub(crate) const VAULT: &str = "__ansible_vault";

/// Text as `ansible-inventory` writes it where it is more than text.
pub(crate) fn marked(mark: &str, text: &str) -> Value {
    Value::Object(Map::from_iter([(mark.to_owned(), Value::String(text.to_owned()))]))
}

/// One value and where it starts.
#[derive(Clone, Debug)]
pub(crate) struct Node {
    /// Counted from 1; 0 when unknown (JSON).
    pub(crate) line: usize,
    pub(crate) kind: Kind,
}

/// What a node holds, as Python would type it.
#[derive(Clone, Debug)]
pub(crate) enum Kind {
    Null,
    Bool(bool),
    Number(Number),
    Text(String),
    /// Text marked `!unsafe`: Ansible writes it as `{"__ansible_unsafe": …}`.
    Unsafe(String),
    /// A vault value, as it is: `{"__ansible_vault": …}`.
    Vault(String),
    /// A date or time, already in ISO form; not text to Python.
    Date(String),
    List(Vec<Node>),
    Map(Vec<(Node, Node)>),
}

impl Node {
    /// The text of a string; absent for anything else, look-alikes included.
    pub(crate) fn text(&self) -> Option<&str> {
        match &self.kind {
            Kind::Text(text) | Kind::Unsafe(text) => Some(text),
            _ => None,
        }
    }

    /// The name of a variable. Ansible also stores numbers and booleans as names, where `1` and `yes` meet and which no
    /// template can use.
    pub(crate) fn variable_name(&self) -> Result<&str, Fault> {
        self.text().ok_or_else(|| {
            let what = format!("the variable name `{}`, which is {},", self.key(), self.type_name());
            Fault::unsupported(what, "put it in quotes").at(self.line)
        })
    }

    /// Python's truth: empty and zero are false.
    pub(crate) fn is_empty(&self) -> bool {
        match &self.kind {
            Kind::Null => true,
            Kind::Bool(value) => !value,
            Kind::Number(number) => number.as_f64() == Some(0.0),
            Kind::Text(text) | Kind::Unsafe(text) => text.is_empty(),
            Kind::Date(_) | Kind::Vault(_) => false,
            Kind::List(items) => items.is_empty(),
            Kind::Map(pairs) => pairs.is_empty(),
        }
    }

    /// What Python calls the type, for messages.
    pub(crate) fn type_name(&self) -> &'static str {
        match &self.kind {
            Kind::Null => "nothing",
            Kind::Bool(_) => "a boolean",
            Kind::Number(_) => "a number",
            Kind::Text(_) | Kind::Unsafe(_) => "a string",
            Kind::Vault(_) => "a vault value",
            Kind::Date(_) => "a date",
            Kind::List(_) => "a list",
            Kind::Map(_) => "a dictionary",
        }
    }

    /// The name a key has once written as JSON: `1`, `true`, `null`, or the text.
    pub(crate) fn key(&self) -> String {
        match &self.kind {
            Kind::Text(text) | Kind::Unsafe(text) | Kind::Date(text) => text.clone(),
            _ => self.value().to_string(),
        }
    }

    /// What Python compares keys by: text with text, numbers by value, and `true` is 1. Absent for what cannot be a key.
    pub(crate) fn identity(&self) -> Option<(u8, String)> {
        Some(match &self.kind {
            Kind::Text(text) | Kind::Unsafe(text) => (0, text.clone()),
            Kind::Null => (1, String::new()),
            Kind::Bool(value) => (3, u8::from(*value).to_string()),
            // A float prints its integers without a fraction, so `1.0` meets `1`.
            Kind::Number(number) if number.is_f64() => (3, number.as_f64().unwrap_or_default().to_string()),
            Kind::Number(number) => (3, number.to_string()),
            Kind::Date(_) | Kind::Vault(_) | Kind::List(_) | Kind::Map(_) => return None,
        })
    }

    /// The value as `ansible-inventory` writes it.
    pub(crate) fn value(&self) -> Value {
        match &self.kind {
            Kind::Null => Value::Null,
            Kind::Bool(value) => Value::Bool(*value),
            Kind::Number(number) => Value::Number(number.clone()),
            Kind::Text(text) | Kind::Date(text) => Value::String(text.clone()),
            Kind::Unsafe(text) => marked(UNSAFE, text),
            Kind::Vault(text) => marked(VAULT, text),
            Kind::List(items) => Value::Array(items.iter().map(Self::value).collect()),
            Kind::Map(pairs) => Value::Object(pairs.iter().map(|(key, value)| (key.key(), value.value())).collect()),
        }
    }

    /// Marks every string in this value, as `!unsafe` does.
    pub(crate) fn into_unsafe(self) -> Self {
        let kind = match self.kind {
            Kind::Text(text) => Kind::Unsafe(text),
            Kind::List(items) => Kind::List(items.into_iter().map(Self::into_unsafe).collect()),
            Kind::Map(pairs) => Kind::Map(pairs.into_iter().map(|(key, value)| (key, value.into_unsafe())).collect()),
            other => other,
        };
        Self { line: self.line, kind }
    }
}
