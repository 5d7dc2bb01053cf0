//! Values of INI variables: a Python literal when the text is one, else the text itself.
//!
//! Ansible hands every INI value to Python's `ast.literal_eval` and keeps the string when that fails. So `1_000` is a
//! number, `True` a boolean, `true` and `0644` strings, and `80,443` a list. Tokens are in `literal_tokens`.

use std::collections::HashMap;

use serde_json::{Map, Value};

use super::literal_tokens::{Token, number, string};
use super::node::{UNSAFE, marked};
use crate::edition::Edition;
use crate::error::Fault;

/// Nested brackets; Python's own tokenizer stops here, and the text stays a string.
const MAX_DEPTH: usize = 199;

#[derive(Clone, Debug)]
enum Literal {
    None,
    Bool(bool),
    Token(Token),
    /// The sign of a number; the number fits.
    Negative(Token),
    Ellipsis,
    List(Vec<Literal>),
    Tuple(Vec<Literal>),
    Set,
    Dict(Vec<(Literal, Literal)>),
}

/// The typed value of an INI variable.
///
/// # Errors
/// When Python would hold a value that JSON cannot (sets, complex numbers, `...`, integers above 64 bits), or would
/// refuse it (a list as the key of a dictionary).
pub(crate) fn value_of(text: &str, edition: Edition) -> Result<Value, Fault> {
    match Reader::read_all(text) {
        // At the top, and only there, bytes become text in every edition.
        Some(Literal::Token(Token::Bytes(bytes))) if edition == Edition::Core2_18 => {
            String::from_utf8(bytes).map(Value::String).map_err(|_| no_json("bytes that are not UTF-8", text))
        }
        Some(literal) => to_json(literal, edition, text),
        None => Ok(Value::String(text.to_owned())),
    }
}

fn no_json(what: &str, text: &str) -> Fault {
    Fault::unsupported(format!("{what} (in `{text}`)"), "write it as a quoted string or a list")
}

fn to_json(literal: Literal, edition: Edition, text: &str) -> Result<Value, Fault> {
    Ok(match literal {
        Literal::None => Value::Null,
        Literal::Bool(value) => Value::Bool(value),
        Literal::Token(Token::Int(value)) => Value::from(value),
        Literal::Negative(Token::Int(value)) => {
            let value =
                i64::try_from(-i128::from(value)).map_err(|_| no_json("an integer of more than 64 bits", text))?;
            Value::from(value)
        }
        Literal::Token(Token::Float(value)) => float(value, text)?,
        Literal::Negative(Token::Float(value)) => float(-value, text)?,
        Literal::Token(Token::Text(value)) => Value::String(value),
        Literal::Token(Token::BigInt) | Literal::Negative(Token::BigInt) => {
            return Err(no_json("an integer of more than 64 bits", text));
        }
        Literal::Token(Token::Imaginary) | Literal::Negative(_) => return Err(no_json("a complex number", text)),
        Literal::Token(Token::Bytes(bytes)) => match edition {
            Edition::Core2_18 => return Err(no_json("bytes inside a list or dictionary", text)),
            Edition::Core2_19 => {
                let read = String::from_utf8(bytes).map_err(|_| no_json("bytes that are not UTF-8", text))?;
                marked(UNSAFE, &read)
            }
        },
        Literal::Token(Token::OddText(what)) => return Err(no_json(what, text)),
        Literal::Ellipsis => match edition {
            Edition::Core2_18 => return Err(no_json("Python's `...`", text)),
            Edition::Core2_19 => Value::String("...".to_owned()),
        },
        Literal::Set => return Err(no_json("a Python set", text)),
        Literal::List(items) | Literal::Tuple(items) => {
            Value::Array(items.into_iter().map(|item| to_json(item, edition, text)).collect::<Result<_, _>>()?)
        }
        Literal::Dict(pairs) => {
            let any = |wanted: fn(&Literal) -> bool| pairs.iter().any(|(key, _)| wanted(key));
            let is_bool = |key: &Literal| matches!(key, Literal::Bool(_));
            let is_number = |key: &Literal| matches!(key, Literal::Token(Token::Int(_) | Token::Float(_)));
            if any(is_bool) && any(is_number) {
                // To Python `1` and `True` are one key.
                return Err(no_json("a dictionary with booleans and numbers as keys", text));
            }
            let mut map = Map::new();
            let mut kinds: HashMap<String, bool> = HashMap::new();
            for (key, value) in pairs {
                let is_text = matches!(key, Literal::Token(Token::Text(_)));
                let key = key_of(key, edition, text)?;
                // JSON would make one key of `1` and `"1"`.
                if kinds.insert(key.clone(), is_text).is_some_and(|before| before != is_text) {
                    return Err(no_json("a dictionary with a key twice, as text and not as text", text));
                }
                map.insert(key, to_json(value, edition, text)?);
            }
            Value::Object(map)
        }
    })
}

fn float(value: f64, text: &str) -> Result<Value, Fault> {
    serde_json::Number::from_f64(value).map(Value::Number).ok_or_else(|| no_json("an infinite number", text))
}

/// The text of a key, as Python's JSON writer makes it.
fn key_of(key: Literal, edition: Edition, text: &str) -> Result<String, Fault> {
    match key {
        Literal::List(_) | Literal::Dict(_) | Literal::Set => Err(Fault::invalid(
            format!("`{text}` has a list, set or dictionary as the key of a dictionary"),
            "use a string as the key",
        )),
        Literal::Tuple(_) => Err(no_json("a tuple as the key of a dictionary", text)),
        Literal::Token(Token::Bytes(_)) | Literal::Ellipsis => {
            Err(no_json("bytes or `...` as the key of a dictionary", text))
        }
        other => Ok(match to_json(other, edition, text)? {
            Value::String(key) => key,
            plain => plain.to_string(),
        }),
    }
}

struct Reader<'a> {
    rest: &'a str,
    depth: usize,
}

impl<'a> Reader<'a> {
    /// The whole text as one literal, with an optional trailing comment; absent when it is anything else.
    fn read_all(text: &'a str) -> Option<Literal> {
        if text.contains('\0') {
            return None;
        }
        let mut reader = Self { rest: text, depth: 0 };
        reader.skip_blanks();
        let first = reader.literal()?;
        let value = if reader.take(',') {
            let mut items = vec![first];
            while !reader.at_end() {
                items.push(reader.literal()?);
                if !reader.take(',') {
                    break;
                }
            }
            Literal::Tuple(items)
        } else {
            first
        };
        reader.at_end().then_some(value)
    }

    fn skip_blanks(&mut self) {
        self.rest = self.rest.trim_start_matches([' ', '\t', '\x0c']);
    }

    fn at_end(&mut self) -> bool {
        self.skip_blanks();
        self.rest.is_empty() || (self.rest.starts_with('#') && !self.rest.contains(['\n', '\r']))
    }

    fn take(&mut self, c: char) -> bool {
        self.skip_blanks();
        let taken = self.rest.strip_prefix(c);
        self.rest = taken.unwrap_or(self.rest);
        taken.is_some()
    }

    fn advance<T>(&mut self, (value, length): (T, usize)) -> T {
        self.rest = &self.rest[length..];
        value
    }

    fn literal(&mut self) -> Option<Literal> {
        self.skip_blanks();
        match self.rest.chars().next()? {
            '[' => self.nested(|reader| Some(Literal::List(reader.items(']')?.0))),
            '(' => self.nested(Self::parenthesis),
            '{' => self.nested(Self::braces),
            '-' => {
                let number = self.signed()?;
                self.maybe_complex(number)
            }
            '+' => {
                self.rest = &self.rest[1..];
                let number = self.number_in_parentheses()?;
                self.maybe_complex(Literal::Token(number))
            }
            '.' if self.rest.starts_with("...") => {
                self.rest = &self.rest[3..];
                Some(Literal::Ellipsis)
            }
            '0'..='9' | '.' => {
                let found = number(self.rest)?;
                let number = Literal::Token(self.advance(found));
                self.maybe_complex(number)
            }
            _ => self.word(),
        }
    }

    fn nested(&mut self, inner: impl FnOnce(&mut Self) -> Option<Literal>) -> Option<Literal> {
        if self.depth == MAX_DEPTH {
            return None;
        }
        self.depth += 1;
        self.rest = &self.rest[1..];
        let value = inner(self);
        self.depth -= 1;
        value
    }

    /// Items up to `close`, and whether any comma was seen.
    fn items(&mut self, close: char) -> Option<(Vec<Literal>, bool)> {
        let mut items = Vec::new();
        let mut comma = false;
        while !self.take(close) {
            items.push(self.literal()?);
            let separated = self.take(',');
            comma |= separated;
            if !separated {
                return self.take(close).then_some((items, comma));
            }
        }
        Some((items, comma))
    }

    fn parenthesis(&mut self) -> Option<Literal> {
        let (mut items, comma) = self.items(')')?;
        if items.len() == 1 && !comma { items.pop() } else { Some(Literal::Tuple(items)) }
    }

    fn braces(&mut self) -> Option<Literal> {
        if self.take('}') {
            return Some(Literal::Dict(Vec::new()));
        }
        let first = self.literal()?;
        if !self.take(':') {
            if self.take(',') {
                self.items('}')?;
            } else if !self.take('}') {
                return None;
            }
            return Some(Literal::Set);
        }
        let mut pairs = vec![(first, self.literal()?)];
        while !self.take('}') {
            if !self.take(',') {
                return None;
            }
            if self.take('}') {
                break;
            }
            let key = self.literal()?;
            if !self.take(':') {
                return None;
            }
            pairs.push((key, self.literal()?));
        }
        Some(Literal::Dict(pairs))
    }

    fn signed(&mut self) -> Option<Literal> {
        self.rest = &self.rest[1..];
        self.number_in_parentheses().map(Literal::Negative)
    }

    /// `1+2j`, the only sum there is.
    fn maybe_complex(&mut self, real: Literal) -> Option<Literal> {
        if !(self.take('+') || self.take('-')) {
            return Some(real);
        }
        let real = !matches!(real, Literal::Token(Token::Imaginary) | Literal::Negative(Token::Imaginary));
        let imaginary = self.number_in_parentheses()?;
        (real && imaginary == Token::Imaginary).then_some(Literal::Token(imaginary))
    }

    /// A sign stands before a number only; parentheses around the number leave no trace.
    fn number_in_parentheses(&mut self) -> Option<Token> {
        let mut open = 0;
        while self.take('(') {
            open += 1;
            if open + self.depth > MAX_DEPTH {
                return None;
            }
        }
        let found = number(self.rest)?;
        let token = self.advance(found);
        (0..open).all(|_| self.take(')')).then_some(token)
    }

    fn word(&mut self) -> Option<Literal> {
        let end = self.rest.find(|c: char| !c.is_alphanumeric() && c != '_').unwrap_or(self.rest.len());
        let plain = match &self.rest[..end] {
            "None" => Some(Literal::None),
            "True" => Some(Literal::Bool(true)),
            "False" => Some(Literal::Bool(false)),
            _ => None,
        };
        if let Some(plain) = plain {
            self.rest = &self.rest[end..];
            return Some(plain);
        }
        if &self.rest[..end] == "set" {
            // `set()` is the one call a literal may hold.
            self.rest = &self.rest[end..];
            return (self.take('(') && self.take(')')).then_some(Literal::Set);
        }
        // At most a two-letter prefix; then adjacent strings join.
        if !self.rest[end..].starts_with(['\'', '"']) || end > 2 {
            return None;
        }
        let found = string(self.rest)?;
        let mut token = self.advance(found);
        loop {
            self.skip_blanks();
            let prefix = self.rest.find(['\'', '"']).filter(|&at| at <= 2 && self.rest.is_char_boundary(at));
            if prefix.is_none_or(|at| !self.rest[..at].bytes().all(|b| b.is_ascii_alphabetic())) {
                return Some(Literal::Token(token));
            }
            let found = string(self.rest)?;
            token = match (token, self.advance(found)) {
                (Token::Text(a), Token::Text(b)) => Token::Text(a + &b),
                (Token::Bytes(a), Token::Bytes(b)) => Token::Bytes([a, b].concat()),
                (odd @ Token::OddText(_), Token::Text(_) | Token::OddText(_))
                | (Token::Text(_), odd @ Token::OddText(_)) => odd,
                _ => return None,
            };
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use serde_json::json;

    #[test]
    fn values_of_the_table() {
        let rows = [
            ("1", json!(1)),
            ("1.0", json!(1.0)),
            ("True", json!(true)),
            ("true", json!("true")),
            ("None", json!(null)),
            ("0x10", json!(16)),
            ("0o17", json!(15)),
            ("1_000", json!(1000)),
            ("(1,2)", json!([1, 2])),
            ("[1,2]", json!([1, 2])),
            ("0644", json!("0644")),
            ("007", json!("007")),
            ("1e3", json!(1000.0)),
            ("{x:1}", json!("{x:1}")),
            ("'5'", json!("5")),
            ("6", json!(6)),
            ("\"quoted\"", json!("quoted")),
            ("[1, 2]", json!([1, 2])),
            ("plain # trailing", json!("plain # trailing")),
            ("", json!("")),
        ];
        for (text, expected) in rows {
            assert_eq!(value_of(text, Edition::Core2_18).unwrap(), expected, "{text}");
        }
    }

    #[test]
    fn more_literals() {
        let rows = [
            ("5 # five", json!(5)),
            ("80,443", json!([80, 443])),
            ("80,", json!([80])),
            ("()", json!([])),
            ("(5)", json!(5)),
            ("-5", json!(-5)),
            ("- (5)", json!(-5)),
            ("--5", json!("--5")),
            ("-True", json!("-True")),
            ("1-2", json!("1-2")),
            ("10.0.0.1", json!("10.0.0.1")),
            ("1.", json!(1.0)),
            (".5", json!(0.5)),
            ("00", json!(0)),
            ("1__0", json!("1__0")),
            ("0x_ff", json!(255)),
            ("5x", json!("5x")),
            ("{'a': [1, {'b': None}], 2: 'x',}", json!({"a": [1, {"b": null}], "2": "x"})),
            ("'a' \"b\"", json!("ab")),
            (r"'a\n\x41\101\d'", json!("a\nAA\\d")),
            (r"r'a\n'", json!("a\\n")),
            ("b'abc'", json!("abc")),
            ("f'abc'", json!("f'abc'")),
            ("'''it's'''", json!("it's")),
            ("[1,,2]", json!("[1,,2]")),
            ("[,]", json!("[,]")),
            ("[1 2]", json!("[1 2]")),
            ("'open", json!("'open")),
            ("{{ template }}", json!("{{ template }}")),
            (" 5", json!(5)),
        ];
        for (text, expected) in rows {
            assert_eq!(value_of(text, Edition::Core2_18).unwrap(), expected, "{text}");
        }
    }

    #[test]
    fn what_json_cannot_hold_is_named() {
        for text in [
            "1+2j",
            "[-1.5 - 2j]",
            "{1, 2}",
            "{'a'}",
            "{{1}, 2}",
            "set()",
            "3j",
            "...",
            "99999999999999999999",
            "1e999",
            "{[1]: 2}",
            "[b'x']",
        ] {
            assert!(value_of(text, Edition::Core2_18).is_err(), "{text}");
        }
        let deep = "[".repeat(5000);
        assert_eq!(value_of(&deep, Edition::Core2_18).unwrap(), json!(deep));
        for text in ["1+2", "1j+2j", "1+2j+3j", "1-1"] {
            assert_eq!(value_of(text, Edition::Core2_18).unwrap(), json!(text));
        }
        let newer = |text: &str| value_of(text, Edition::Core2_19).unwrap();
        assert_eq!(newer("b'x'"), json!({"__ansible_unsafe": "x"}));
        assert_eq!(newer("[b'x', ...]"), json!([{"__ansible_unsafe": "x"}, "..."]));
    }
}
