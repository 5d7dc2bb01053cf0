//! From a script to a story: which kinds of lines there are, that what a story needs is there, and the limits.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

use fleet::release::Version;
use fleet::{NodeName, ServiceName, Timestamp};

use super::acts::{self, GATE_ANSWERS_AFTER, MIGRATION_TAKES};
use super::expect;
use super::flags::Flags;
use super::releases::hold_of;
use super::story::{
    Act, Conduct, Deed, Expectation, GateAnswer, Health, MigrationConduct, MigrationEnd, NodeSetup, Presence, Run,
    Says, Story,
};
use super::words::{Problem, ScriptError, Words, unknown};

/// The largest script: a story that is longer is not read by anyone.
pub const LARGEST_SCRIPT: usize = 256 * 1024;
/// The most nodes: every one is looked at once a simulated second, and its lines must be readable.
const MOST_NODES: usize = 500;
/// The most lines of each kind but `expect`; a script of the largest size cannot have many more.
const MOST_LINES: usize = 5_000;

const STATEMENTS: [&str; 9] = ["fleet", "service", "deploy", "node", "gate", "migration", "at", "run", "expect"];

/// Reads a script; `file` is its name in errors.
///
/// # Errors
/// The first line that is not understood, or what the story lacks.
pub fn parse(file: &Path, text: &str) -> Result<Story, ScriptError> {
    let refuse = |line: usize| move |problem: Problem| problem.at(file, line);
    if text.len() > LARGEST_SCRIPT {
        let what = format!("the script has {} bytes, and {LARGEST_SCRIPT} are read at most", text.len());
        return Err(Problem::new(what, "tell it in several stories").at(file, 1));
    }
    let mut reader = Reader::default();
    let mut last = 1;
    for (index, line) in text.lines().enumerate() {
        last = index + 1;
        if last > MOST_LINES {
            let what = format!("the script has more than {MOST_LINES} lines");
            return Err(Problem::new(what, "tell it in several stories").at(file, last));
        }
        reader.line(last, line).map_err(refuse(last))?;
    }
    reader.finish(last).map_err(|(line, problem)| problem.at(file, line))
}

#[derive(Debug, Default)]
struct Reader {
    nodes: Vec<NodeSetup>,
    service: Option<(ServiceName, Option<Version>, Version)>,
    flags: Option<Flags>,
    gates: BTreeMap<String, (usize, GateAnswer)>,
    migration: Option<MigrationConduct>,
    acts: Vec<(usize, Act)>,
    runs: Vec<Run>,
    expectations: Vec<Expectation>,
    /// Nodes that are named, and where; some join only later.
    named: Vec<(usize, NodeName)>,
}

impl Reader {
    fn line(&mut self, number: usize, line: &str) -> Result<(), Problem> {
        let mut words = Words::of(line)?;
        let Some(statement) = words.any() else { return Ok(()) };
        match statement.as_str() {
            "fleet" => self.fleet(&mut words)?,
            "service" => self.service(&mut words)?,
            "deploy" => self.flags.get_or_insert_default().read(&mut words)?,
            "node" => self.node(number, &mut words)?,
            "gate" => {
                let (name, answer) = acts::gate(&mut words)?;
                self.gates.insert(name, (number, answer));
            }
            "migration" => self.migration = Some(acts::migration(&mut words)?),
            "at" => {
                let words = words.meaning("at 12s: pause by alice");
                let time = words.word("the time")?;
                let Some(span) = time.strip_suffix(':') else {
                    return Err(Problem::new("the time must end with a colon", "at 12s: pause by alice"));
                };
                let span = span.parse().map_err(|error| Problem::new(format!("the time: {error}"), "at 12s: …"))?;
                let at = Timestamp(0).after(span);
                for deed in acts::deed(at, words)? {
                    self.named.extend(acts::names(&deed).map(|node| (number, node.clone())));
                    self.acts.push((number, Act { at, deed }));
                }
            }
            "run" => {
                let words = words.meaning("run until finished, or run 60s");
                let until = words.take("until");
                if until {
                    words.expect("finished")?;
                }
                self.runs.push(if until { Run::UntilFinished } else { Run::For(words.value("the time")?) });
            }
            "expect" => {
                let (what, at) = expect::read(&mut words)?;
                self.named.extend(expect::names(&what).iter().map(|node| (number, node.clone())));
                let text = without_comment(line).trim().to_owned();
                self.expectations.push(Expectation { line: number, text, what, at });
            }
            other => return Err(unknown(other, "a statement", &STATEMENTS)),
        }
        words.end()
    }

    fn fleet(&mut self, words: &mut Words) -> Result<(), Problem> {
        let words = words.meaning("fleet 8 nodes az=a,b,c");
        if !self.nodes.is_empty() {
            return Err(Problem::new("there is a fleet already", "write one 'fleet' line"));
        }
        let count: usize = words.value("the number of nodes")?;
        if !(1..=MOST_NODES).contains(&count) {
            return Err(Problem::new(
                format!("{count} nodes cannot be played"),
                format!("write 1 to {MOST_NODES} nodes"),
            ));
        }
        if !words.take("nodes") {
            words.expect("node")?;
        }
        let mut labels: Vec<(String, Vec<String>)> = Vec::new();
        while let Some(word) = words.any() {
            let Some((label, values)) = word.split_once('=').filter(|(l, v)| !l.is_empty() && !v.is_empty()) else {
                let what = format!("'{}' is not a label with values", super::words::shown(&word));
                return Err(Problem::new(what, "fleet 8 nodes az=a,b,c (the nodes take turns)"));
            };
            labels.push((label.to_owned(), values.split(',').map(str::to_owned).collect()));
        }
        for index in 0..count {
            let name = format!("n{}", index + 1);
            let name = name.parse().map_err(|error| Problem::new(format!("{error}"), "fleet 8 nodes"))?;
            let own = |(label, values): &(String, Vec<String>)| (label.clone(), values[index % values.len()].clone());
            self.nodes.push(NodeSetup {
                name,
                labels: labels.iter().map(own).collect(),
                holds: None,
                presence: Presence::Present,
                block: None,
                conduct: Conduct::default(),
                health: Health::Well,
            });
        }
        Ok(())
    }

    fn service(&mut self, words: &mut Words) -> Result<(), Problem> {
        let words = words.meaning("service web 1.0.0 -> 2.0.0, or service web -> 1.0.0 for a first deployment");
        if self.service.is_some() {
            return Err(Problem::new("there is a service already", "write one 'service' line"));
        }
        let name = words.value("the service")?;
        let from = if words.peek() == Some("->") { None } else { Some(words.value("the version before")?) };
        words.expect("->")?;
        self.service = Some((name, from, words.value("the version to deploy")?));
        Ok(())
    }

    fn node(&mut self, number: usize, words: &mut Words) -> Result<(), Problem> {
        let words = words.meaning(acts::NODE_USAGE);
        let names: Vec<NodeName> = words.list("the node")?;
        let word = words.word("how it behaves")?;
        let change = acts::change(&word, words)?;
        let mut setup: Box<dyn FnMut(&mut NodeSetup)> = match (change, word.as_str()) {
            (Some(change), _) => Box::new(move |node| node.conduct.change(change.clone())),
            (None, "absent") => {
                let until = match words.span_after("until")? {
                    Some(span) => Timestamp(0).after(span),
                    None => Timestamp(i64::MAX),
                };
                Box::new(move |node| {
                    node.presence = Presence::Absent { until };
                    node.conduct.silent_until = Some(until);
                })
            }
            (None, "unhealthy") => Box::new(|node| node.health = Health::Ill),
            (None, "holds") => {
                let version = if words.take("nothing") { None } else { Some(words.value("the version")?) };
                Box::new(move |node| node.holds = Some(version.clone()))
            }
            (None, _) => {
                let why = words.word("the reason")?;
                Box::new(move |node| node.block = Some(why.clone()))
            }
        };
        for name in names {
            match self.nodes.iter_mut().find(|node| node.name == name) {
                Some(node) => setup(node),
                // Said in the end, with the nodes there are.
                None => self.named.push((number, name)),
            }
        }
        Ok(())
    }

    fn finish(self, last: usize) -> Result<Story, (usize, Problem)> {
        let lacks = |what: &str, help: &str| (last, Problem::new(format!("the story has no '{what}' line"), help));
        let Some((service, from, to)) = self.service else {
            return Err(lacks("service", "service web 1.0.0 -> 2.0.0"));
        };
        if self.nodes.is_empty() {
            return Err(lacks("fleet", "fleet 8 nodes"));
        }
        let Some(flags) = self.flags else { return Err(lacks("deploy", "deploy --segments 4 --bake 10s")) };
        let id = |error: fleet::id::NameError| (last, Problem::new(error.to_string(), "report this as a defect"));
        let ids = ("p-story".parse().map_err(id)?, "d-story".parse().map_err(id)?);
        let request = flags.request(&service, &to, hold_of(&service, Some(&to)));
        let joins = self.acts.iter().filter_map(|(_, act)| match &act.deed {
            Deed::Join { node, .. } => Some(node),
            _ => None,
        });
        let known: BTreeSet<&NodeName> = self.nodes.iter().map(|node| &node.name).chain(joins).collect();
        if let Some((line, node)) = self.named.iter().find(|(_, node)| !known.contains(node)) {
            let what = format!("there is no node '{node}' in this story");
            let help = format!("the fleet has n1 to n{}; others must join: at 12s: join {node}", self.nodes.len());
            return Err((*line, Problem::new(what, help)));
        }
        let has_gate = |name: &str| request.gates.iter().any(|gate| gate.name == name);
        let told = self.gates.iter().map(|(name, (line, _))| (*line, name));
        let acted = self.acts.iter().filter_map(|(line, act)| match &act.deed {
            Deed::Gate { name, .. } => Some((*line, name)),
            _ => None,
        });
        if let Some((line, name)) = told.chain(acted).find(|(_, name)| !has_gate(name)) {
            let what = format!("there is no gate '{}' in this story", super::words::shown(name));
            return Err((line, Problem::new(what, format!("ask it: deploy --gate {}", super::words::shown(name)))));
        }
        let mut gates: BTreeMap<String, GateAnswer> =
            self.gates.into_iter().map(|(name, (_, answer))| (name, answer)).collect();
        for gate in &request.gates {
            // People do not approve by themselves; tests pass unless the script says otherwise.
            let says = if gate.name == "approval" { Says::Nothing } else { Says::Passes("exit 0".into()) };
            gates.entry(gate.name.clone()).or_insert(GateAnswer { says, after: GATE_ANSWERS_AFTER });
        }
        let mut acts: Vec<Act> = self.acts.into_iter().map(|(_, act)| act).collect();
        acts.sort_by_key(|act| act.at);
        Ok(Story {
            ids,
            service,
            from,
            to,
            nodes: self.nodes,
            request,
            gates,
            migration: self.migration.unwrap_or(MigrationConduct { takes: MIGRATION_TAKES, ends: MigrationEnd::Well }),
            acts,
            runs: if self.runs.is_empty() { vec![Run::UntilFinished] } else { self.runs },
            expectations: self.expectations,
        })
    }
}

/// A line without its comment; `#` inside quotes or a word is none.
fn without_comment(line: &str) -> &str {
    let (mut quoted, mut before) = (false, ' ');
    for (at, c) in line.char_indices() {
        match c {
            '"' => quoted = !quoted,
            '#' if !quoted && before.is_whitespace() => return &line[..at],
            _ => {}
        }
        before = c;
    }
    line
}
