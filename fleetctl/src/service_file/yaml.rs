//! YAML 1.2 as a small tree with places, and nothing clever: no anchors, aliases, merge keys, tags, directives or
//! second documents, each key once. What the keys mean is left to `read`.

use std::fmt;

use serde_saphyr::granit_parser::{Event, Parser, ScalarStyle, Span};

use super::error::Problem;

/// Deeper nesting is refused: the deepest value of a service file lies at level 6.
const DEEPEST: usize = 16;

/// Line and column, both from 1, as editors count them.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Place {
    /// The line.
    pub line: usize,
    /// The column, in characters.
    pub column: usize,
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}", self.line, self.column)
    }
}

/// A value and where it stands.
#[derive(Debug, Clone)]
pub(super) struct Node {
    pub(super) place: Place,
    pub(super) value: Value,
}

/// A value. What plain text means is not decided here.
#[derive(Debug, Clone)]
pub(super) enum Value {
    /// Text without quotes.
    Plain(String),
    /// Text in quotes, or as a block.
    Quoted(String),
    List(Vec<Node>),
    Map(Vec<(Key, Node)>),
}

/// A key of a mapping.
#[derive(Debug, Clone)]
pub(super) struct Key {
    pub(super) place: Place,
    pub(super) name: String,
}

impl Node {
    /// Whether nothing was written after the key.
    pub(super) fn is_null(&self) -> bool {
        matches!(&self.value, Value::Plain(text) if matches!(text.as_str(), "" | "~" | "null" | "Null" | "NULL"))
    }

    /// What this is, for "found …".
    pub(super) fn what(&self) -> &'static str {
        match &self.value {
            _ if self.is_null() => "nothing",
            Value::Plain(_) | Value::Quoted(_) => "text",
            Value::List(_) => "a list",
            Value::Map(_) => "a mapping",
        }
    }
}

/// Reads one document.
pub(super) fn parse(text: &str) -> Result<Node, Problem> {
    // Unresolved aliases come as events, so that they get the same words as the others.
    let options = serde_saphyr::granit_parser::options! { emit_unresolved_aliases: true };
    let mut events =
        Events { parser: Parser::new_from_str_with_options(text, options), last: Place { line: 1, column: 1 } };
    let root = loop {
        match events.next()? {
            (Event::StreamStart, _) => {}
            (Event::DocumentStart(_, None), _) => break events.value(DEEPEST)?,
            (Event::DocumentStart(..), place) => {
                return Err(
                    Problem::new(place, "YAML directives are not used in a service file").help("remove the line")
                );
            }
            (_, place) => return Err(empty(place)),
        }
    };
    loop {
        match events.next()? {
            (Event::DocumentEnd, _) => {}
            (Event::StreamEnd, _) => return if root.is_null() { Err(empty(root.place)) } else { Ok(root) },
            (_, place) => {
                return Err(Problem::new(place, "a second document begins here")
                    .help("one service per file: remove the line '---' and what follows"));
            }
        }
    }
}

fn empty(place: Place) -> Problem {
    Problem::new(place, "the file is empty").help("a service file has at least apiVersion, service, files and run")
}

struct Events<'a, T: serde_saphyr::granit_parser::BorrowedInput<'a>> {
    parser: Parser<'a, T>,
    last: Place,
}

impl<'a, T: serde_saphyr::granit_parser::BorrowedInput<'a>> Events<'a, T> {
    fn next(&mut self) -> Result<(Event<'a>, Place), Problem> {
        loop {
            match self.parser.next_event() {
                None => return Ok((Event::StreamEnd, self.last)),
                Some(Ok((event, span))) => {
                    self.last = start(&span);
                    // Other features of the build may turn comments on; they carry no values.
                    if is_value(&event) {
                        return Ok((event, self.last));
                    }
                }
                Some(Err(error)) => {
                    let place = Place { line: error.marker().line(), column: error.marker().col() + 1 };
                    let why = error.info().replace('\n', " ");
                    return Err(Problem::new(place, format!("this is not valid YAML: {why}")).help(advice(&why)));
                }
            }
        }
    }

    fn value(&mut self, depth: usize) -> Result<Node, Problem> {
        let (event, place) = self.next()?;
        self.node(event, place, depth)
    }

    fn node(&mut self, event: Event<'a>, place: Place, depth: usize) -> Result<Node, Problem> {
        if depth == 0 {
            return Err(Problem::new(place, format!("values are nested more than {DEEPEST} deep"))
                .help("no value of a service file lies that deep"));
        }
        let (anchor, tag) = match &event {
            Event::Scalar(_, _, anchor, tag)
            | Event::SequenceStart(_, anchor, tag)
            | Event::MappingStart(_, anchor, tag) => (*anchor, tag.is_some()),
            _ => (0, false),
        };
        if tag {
            return Err(Problem::new(place, "YAML tags (!name) are not used in a service file")
                .help("remove the tag; put text that looks like a number in quotes"));
        }
        if anchor != 0 || matches!(event, Event::Alias(_) | Event::UnresolvedAlias(_)) {
            return Err(Problem::new(place, "anchors and aliases (&name, *name) are not used in a service file")
                .help("write the value out where it is needed; put text that begins with & or * in quotes"));
        }
        let value = match event {
            Event::Scalar(text, ScalarStyle::Plain, ..) => Value::Plain(text.into_owned()),
            Event::Scalar(text, ..) => Value::Quoted(text.into_owned()),
            Event::SequenceStart(..) => Value::List(self.list(depth)?),
            Event::MappingStart(..) => Value::Map(self.map(depth)?),
            _ => return Err(Problem::new(place, "a value is missing here")),
        };
        Ok(Node { place, value })
    }

    fn list(&mut self, depth: usize) -> Result<Vec<Node>, Problem> {
        let mut items = Vec::new();
        loop {
            match self.next()? {
                (Event::SequenceEnd, _) => return Ok(items),
                (event, place) => items.push(self.node(event, place, depth - 1)?),
            }
        }
    }

    fn map(&mut self, depth: usize) -> Result<Vec<(Key, Node)>, Problem> {
        let mut entries: Vec<(Key, Node)> = Vec::new();
        loop {
            let (event, place) = self.next()?;
            if event == Event::MappingEnd {
                return Ok(entries);
            }
            let name = match self.node(event, place, depth - 1)?.value {
                Value::Plain(name) | Value::Quoted(name) => name,
                Value::List(_) | Value::Map(_) => {
                    return Err(Problem::new(place, "a key must be a word, not a list or a mapping")
                        .help("is this a template ({{ … }})? There is no templating inside a service file"));
                }
            };
            if name == "<<" {
                return Err(Problem::new(place, "merge keys (<<) are not used in a service file")
                    .help("write the values out where they are needed"));
            }
            if let Some((first, _)) = entries.iter().find(|(key, _)| key.name == name) {
                return Err(Problem::new(
                    place,
                    format!("key '{}' is already given in line {}", shown(&name), first.place.line),
                )
                .help("keep one of the two"));
            }
            let value = self.value(depth - 1)?;
            entries.push((Key { place, name }, value));
        }
    }
}

fn start(span: &Span) -> Place {
    Place { line: span.start.line(), column: span.start.col() + 1 }
}

fn is_value(event: &Event<'_>) -> bool {
    matches!(
        event,
        Event::StreamStart
            | Event::StreamEnd
            | Event::DocumentStart(..)
            | Event::DocumentEnd
            | Event::Alias(_)
            | Event::UnresolvedAlias(_)
            | Event::Scalar(..)
            | Event::SequenceStart(..)
            | Event::SequenceEnd
            | Event::MappingStart(..)
            | Event::MappingEnd
    )
}

/// What most often causes a syntax error.
fn advice(why: &str) -> &'static str {
    if why.contains("tab") {
        "indent with spaces: YAML does not accept tabs there"
    } else {
        "check indentation, brackets and quotes here and in the line above; text with ': ', '#', '{' or '%' needs quotes"
    }
}

/// Text of the file as it appears in a message: short, in one line.
pub(super) fn shown(text: &str) -> String {
    let mut short: String = text
        .chars()
        .take(60)
        .flat_map(|c| if c.is_control() { c.escape_default().collect::<Vec<_>>() } else { vec![c] })
        .collect();
    if text.chars().nth(60).is_some() {
        short.push('…');
    }
    short
}
