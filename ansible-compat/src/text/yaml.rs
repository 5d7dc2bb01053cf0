//! One YAML document as nodes, the way PyYAML's safe loader composes it: anchors, merge keys, last duplicate wins.
//!
//! The parser is serde-saphyr's; typing scalars is `yaml_scalar`'s, because Ansible speaks YAML 1.1.

use std::collections::{HashMap, HashSet};

use serde_saphyr::granit_parser::{self, Event, Parser, ScalarStyle, Tag};

use super::node::{Kind, Node};
use super::yaml_scalar::{plain, tagged};
use crate::error::Fault;

/// Nodes of one document after aliases are expanded; stops a small file from growing to fill the memory.
const MAX_NODES: usize = 2_000_000;

/// Nesting after aliases are expanded; everything that walks a node recurses this deep at most.
const MAX_DEPTH: usize = 400;

/// A collection being read.
struct Open {
    line: usize,
    anchor: usize,
    marked_unsafe: bool,
    content: Content,
    depth: usize,
    nodes: usize,
}

enum Content {
    List(Vec<Node>),
    Map { pairs: Vec<Pair>, key: Option<Key> },
}

struct Key {
    node: Node,
    merge: bool,
}

struct Pair {
    key: Key,
    value: Node,
}

/// A finished node with its size.
#[derive(Clone)]
struct Sized {
    node: Node,
    depth: usize,
    nodes: usize,
    /// An unquoted `<<`, or an unquoted `=`: special where a key stands, refused elsewhere.
    bare: Option<&'static str>,
}

/// Parses the only document of `text`; an empty text is null.
pub(crate) fn parse(text: &str) -> Result<Node, Fault> {
    let options = granit_parser::options! { emit_comments: false, emit_anchor_events: true };
    let mut composer = Composer::default();
    for event in Parser::new_from_str_with_options(text, options) {
        let (event, span) = event.map_err(|cause| {
            Fault::invalid(format!("this is not YAML: {}", cause.info()), "correct the YAML; `yamllint` shows more")
                .at(cause.marker().line())
        })?;
        // A block scalar begins below its tag; people look for the tag.
        let line = span.tag_span().map_or(span.start.line(), |tag| tag.start.line());
        composer.event(event, line).map_err(|fault| fault.at(line))?;
    }
    Ok(composer.root.map_or(Node { line: 0, kind: Kind::Null }, |root| root.node))
}

#[derive(Default)]
struct Composer {
    open: Vec<Open>,
    root: Option<Sized>,
    anchors: HashMap<usize, Sized>,
    anchor_names: HashSet<String>,
    nodes: usize,
}

impl Composer {
    fn event(&mut self, event: Event<'_>, line: usize) -> Result<(), Fault> {
        match event {
            Event::DocumentStart(..) if self.root.is_some() => {
                Err(Fault::invalid("a second YAML document starts here", "keep one document per file"))
            }
            Event::Scalar(text, style, anchor, tag) => {
                let made = scalar(&text, style, tag.as_deref(), line)?;
                self.finish(made, anchor)
            }
            Event::SequenceStart(_, anchor, tag) => self.start(Content::List(Vec::new()), anchor, tag.as_deref(), line),
            Event::MappingStart(_, anchor, tag) => {
                self.start(Content::Map { pairs: Vec::new(), key: None }, anchor, tag.as_deref(), line)
            }
            Event::SequenceEnd | Event::MappingEnd => {
                let Some(open) = self.open.pop() else { return Ok(()) };
                let kind = match open.content {
                    Content::List(items) => Kind::List(items),
                    Content::Map { pairs, .. } => Kind::Map(dictionary(pairs)?),
                };
                let node = Node { line: open.line, kind };
                let node = if open.marked_unsafe { node.into_unsafe() } else { node };
                self.finish(Sized { node, depth: open.depth + 1, nodes: open.nodes + 1, bare: None }, open.anchor)
            }
            // YAML 1.2 lets a name be given twice, PyYAML does not.
            Event::Anchor(_, name) if !self.anchor_names.insert(name.to_string()) => {
                Err(Fault::invalid(format!("the anchor `&{name}` is set twice"), "give each its own name"))
            }
            Event::Alias(anchor) => {
                let Some(made) = self.anchors.get(&anchor) else {
                    return Err(Fault::invalid(
                        "an alias stands inside the value it names",
                        "repeat the value instead",
                    ));
                };
                // Counted before it is copied.
                self.nodes += made.nodes;
                if self.nodes > MAX_NODES {
                    return Err(too_many());
                }
                let made = made.clone();
                self.finish(made, 0)
            }
            _ => Ok(()),
        }
    }

    fn start(&mut self, content: Content, anchor: usize, tag: Option<&Tag>, line: usize) -> Result<(), Fault> {
        let wanted = if matches!(content, Content::List(_)) { "seq" } else { "map" };
        let marked_unsafe = match tag.map(tag_name) {
            None => false,
            Some(name) if name == "!unsafe" => true,
            Some(name) if name == "!" || name.strip_prefix("!!") == Some(wanted) => false,
            Some(name) => return Err(unknown_tag(&name)),
        };
        self.open.push(Open { line, anchor, marked_unsafe, content, depth: 0, nodes: 0 });
        if self.open.len() > MAX_DEPTH {
            return Err(too_deep());
        }
        Ok(())
    }

    /// Puts a finished node where it belongs.
    fn finish(&mut self, made: Sized, anchor: usize) -> Result<(), Fault> {
        // The copy kept for an anchor counts too.
        self.nodes += if anchor > 0 { made.nodes } else { 1 };
        if self.nodes > MAX_NODES {
            return Err(too_many());
        }
        if made.depth + self.open.len() > MAX_DEPTH {
            return Err(too_deep());
        }
        if anchor > 0 {
            self.anchors.insert(anchor, made.clone());
        }
        let Some(parent) = self.open.last_mut() else {
            refuse_bare(&made)?;
            self.root = Some(made);
            return Ok(());
        };
        parent.depth = parent.depth.max(made.depth);
        parent.nodes += made.nodes;
        match &mut parent.content {
            Content::List(items) => {
                refuse_bare(&made)?;
                items.push(made.node);
            }
            Content::Map { pairs, key } => match key.take() {
                None => *key = Some(Key { node: made.node, merge: made.bare == Some("<<") }),
                Some(key) => {
                    refuse_bare(&made)?;
                    pairs.push(Pair { key, value: made.node });
                }
            },
        }
        Ok(())
    }
}

fn too_many() -> Fault {
    Fault::too_large("the number of values in this file", MAX_NODES as u64, "use fewer aliases or split the file")
}

fn too_deep() -> Fault {
    Fault::too_large("the nesting of this file", MAX_DEPTH as u64, "flatten it")
}

fn refuse_bare(made: &Sized) -> Result<(), Fault> {
    // Typing it as a value says why it cannot be one.
    made.bare.map_or(Ok(()), |text| plain(text).map(drop)).map_err(|fault| fault.at(made.node.line))
}

/// The tag as users write it: `!!str`, `!vault`.
fn tag_name(tag: &Tag) -> String {
    tag.core_suffix().map_or_else(
        || format!("{}{}", tag.handle(), tag.suffix()).replace("tag:yaml.org,2002:", "!!"),
        |suffix| format!("!!{suffix}"),
    )
}

fn unknown_tag(name: &str) -> Fault {
    Fault::unsupported(format!("the tag `{name}`"), "write the value without it")
}

fn scalar(text: &str, style: ScalarStyle, tag: Option<&Tag>, line: usize) -> Result<Sized, Fault> {
    let mut bare = None;
    let tag = tag.map(tag_name);
    // Behind `!` even quoted text is typed; only where nothing at all stands there it is text.
    let is_typed = match &tag {
        None => style == ScalarStyle::Plain,
        Some(name) => name == "!" && !(style == ScalarStyle::Plain && text.is_empty()),
    };
    let kind = match tag {
        _ if is_typed => match text {
            "<<" => {
                bare = Some("<<");
                Kind::Text(text.to_owned())
            }
            "=" => {
                bare = Some("=");
                Kind::Text(text.to_owned())
            }
            _ => plain(text)?,
        },
        None => Kind::Text(text.to_owned()),
        Some(name) => match (name.as_str(), name.strip_prefix("!!")) {
            ("!unsafe", _) => Kind::Unsafe(text.to_owned()),
            ("!vault" | "!vault-encrypted", _) => Kind::Vault(text.to_owned()),
            ("!", _) => Kind::Text(text.to_owned()),
            (_, Some(core)) => tagged(core, text)?,
            _ => return Err(unknown_tag(&name)),
        },
    };
    Ok(Sized { node: Node { line, kind }, depth: 1, nodes: 1, bare })
}

/// Applies merge keys, then keeps the last value of each key in the first one's place.
fn dictionary(pairs: Vec<Pair>) -> Result<Vec<(Node, Node)>, Fault> {
    let mut merged = Vec::new();
    let mut own = Vec::new();
    for Pair { key, value } in pairs {
        if !key.merge {
            own.push((key.node, value));
            continue;
        }
        match value.kind {
            Kind::Map(pairs) => merged.extend(pairs),
            Kind::List(items) => {
                // Earlier maps win, so they come last.
                for item in items.into_iter().rev() {
                    match item.kind {
                        Kind::Map(pairs) => merged.extend(pairs),
                        _ => return Err(bad_merge(&item)),
                    }
                }
            }
            _ => return Err(bad_merge(&value)),
        }
    }
    let mut places: HashMap<(u8, String), usize> = HashMap::new();
    let mut kept: Vec<(Node, Node)> = Vec::with_capacity(own.len());
    for (key, value) in merged.into_iter().chain(own) {
        if matches!(key.kind, Kind::Date(_) | Kind::Vault(_)) {
            let what = format!("{} as a key", key.type_name());
            return Err(Fault::unsupported(what, "put it in quotes").at(key.line));
        }
        let Some(identity) = key.identity() else {
            return Err(
                Fault::invalid(format!("{} is used as a key", key.type_name()), "use a string as the key").at(key.line)
            );
        };
        match places.entry(identity) {
            std::collections::hash_map::Entry::Occupied(place) => kept[*place.get()].1 = value,
            std::collections::hash_map::Entry::Vacant(place) => {
                place.insert(kept.len());
                kept.push((key, value));
            }
        }
    }
    // JSON has one kind of key; two that differ only in type would silently become one.
    let mut names = HashSet::with_capacity(kept.len());
    for (key, _) in &kept {
        if !names.insert(key.key()) {
            let text = format!("the keys `{0}` and \"{0}\" in one dictionary", key.key());
            return Err(Fault::unsupported(text, "keep one of them").at(key.line));
        }
    }
    Ok(kept)
}

fn bad_merge(value: &Node) -> Fault {
    Fault::invalid(format!("`<<` merges {}", value.type_name()), "merge a dictionary or a list of dictionaries")
        .at(value.line)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use crate::error::FaultKind;
    use serde_json::json;

    #[test]
    fn anchors_merges_and_duplicates() {
        let text = "base: &b {x: 1, y: 2}\nover:\n  y: 3\n  <<: *b\nlist: [*b]\ndup: 1\ndup: 2\n";
        let value = parse(text).unwrap().value();
        assert_eq!(
            value,
            json!({"base": {"x": 1, "y": 2}, "over": {"x": 1, "y": 3}, "list": [{"x": 1, "y": 2}], "dup": 2})
        );
        assert!(matches!(parse("").unwrap().kind, Kind::Null));
    }

    #[test]
    fn quotes_and_tags() {
        let text = "a: '5'\nb: !!int '5'\nc: !!str 5\nd: ! 5\nq: ! '7'\nn: !\ne: !unsafe '{{ x }}'\n=: 1\nv: !vault |\n  $A\n  00\n";
        let value = parse(text).unwrap().value();
        assert_eq!(
            value,
            json!({"v": {"__ansible_vault": "$A\n00\n"}, "a": "5", "b": 5, "c": "5", "d": 5, "q": 7, "n": "", "e": {"__ansible_unsafe": "{{ x }}"}, "=": 1})
        );
    }

    #[test]
    fn refusals_know_their_line() {
        let fault = parse("a: 1\nb: !vault [x]\n").unwrap_err();
        assert_eq!((fault.kind, fault.line), (FaultKind::Unsupported, Some(2)));
        assert_eq!(parse("a: 1\nb: !foo x\n").unwrap_err().line, Some(2));
        for text in [
            "a: [",
            "a: 1\n---\nb: 2\n",
            "<<: 5",
            "? [a]\n: 1",
            "a: =",
            "a: &x 1\nb: &x 2",
            "2024-01-01: x",
            "1: a\n\"1\": b",
            "a: &a [*a]",
        ] {
            assert!(parse(text).is_err(), "{text}");
        }
    }

    #[test]
    fn a_small_file_cannot_grow() {
        let mut bomb = "a0: &a0 [x,x,x,x,x,x,x,x,x,x]\n".to_owned();
        for level in 1..10 {
            let alias = format!("*a{}", level - 1);
            bomb += &format!("a{level}: &a{level} [{}]\n", [alias.as_str(); 10].join(","));
        }
        assert!(matches!(parse(&bomb).unwrap_err().kind, FaultKind::TooLarge(_)));
        assert!(parse(&"[".repeat(10_000)).is_err());
        let mut tower = "a0: &a0 x\n".to_owned();
        for level in 1..1000 {
            tower += &format!("a{level}: &a{level} [*a{}]\n", level - 1);
        }
        assert!(matches!(parse(&tower).unwrap_err().kind, FaultKind::TooLarge(_)));
    }
}
