//! The flags of `deploy` in a script: those of `fleetctl deploy`, with its names and defaults, and a few that only a
//! script has.

use std::collections::{BTreeMap, BTreeSet};

use fleet::capacity::{MinHealthy, Parallel};
use fleet::deployment::plan::Request;
use fleet::deployment::{Budget, Gate, Host, Kind, Migration, OnFailure, PAUSE_DEADLINE, Source, Waiver};
use fleet::release::Version;
use fleet::segments::{Canary, Segments};
use fleet::sequence::Sequence;
use fleet::{Hold, Millis, NodeName, ServiceName, Timestamp};

use super::words::{Problem, Words, unknown};
use crate::wishes::{ConfirmWithin, MigrationPlace};

/// How the flags are written, for errors.
const USAGE: &str = "deploy --segments 4 --bake 10s --parallel 1 --min-healthy 75% --max-failures 0 --on-failure rollback --pause-after 1 --test \"make smoke\"";

/// The most gates of one story: more than anyone would wait for between two segments.
const MOST_GATES: usize = 16;

/// Those of `fleetctl deploy`.
const OF_DEPLOY: [&str; 24] = [
    "--segments",
    "--canary",
    "--order",
    "--parallel",
    "--min-healthy",
    "--max-failures",
    "--bake",
    "--on-failure",
    "--no-rollback",
    "--deadline",
    "--confirm",
    "--absent-grace",
    "--test",
    "--test-on-controller",
    "--test-timeout",
    "--pause-after",
    "--pause-timeout",
    "--migrate",
    "--migrate-place",
    "--migrate-timeout",
    "--waive",
    "--waive-unreachable",
    "--waive-for",
    "--message",
];
/// Those that only a script has: gates of every kind by their names, and who it is that deploys.
const OF_SCRIPTS: [&str; 5] = ["--gate", "--gate-timeout", "--metric", "--approve-by", "--by"];

/// What the flags say, with the defaults of `fleetctl deploy`.
#[derive(Debug, Clone)]
pub(super) struct Flags {
    segments: Segments,
    canary: Canary,
    sequence: Sequence,
    parallel: Parallel,
    min_healthy: MinHealthy,
    max_failures: Budget,
    bake: Millis,
    on_failure: OnFailure,
    pause_after: BTreeSet<usize>,
    pause_timeout: Millis,
    gates: Vec<Gate>,
    gate_timeout: Millis,
    tests: usize,
    migrate: Option<String>,
    migrate_place: MigrationPlace,
    migrate_timeout: Millis,
    confirm: ConfirmWithin,
    deadline: Millis,
    absent_grace: Millis,
    waive: BTreeMap<NodeName, String>,
    waive_absent: Option<String>,
    waive_for: Millis,
    message: String,
    by: String,
}

impl Default for Flags {
    fn default() -> Self {
        Self {
            segments: Segments::Equal(4),
            canary: Canary::default(),
            sequence: Sequence::default(),
            parallel: Parallel::default(),
            min_healthy: MinHealthy::default(),
            max_failures: Budget::Nodes(0),
            bake: Millis(0),
            on_failure: OnFailure::Rollback,
            pause_after: BTreeSet::new(),
            pause_timeout: PAUSE_DEADLINE,
            gates: Vec::new(),
            gate_timeout: Millis::from_secs(600),
            tests: 0,
            migrate: None,
            migrate_place: MigrationPlace::default(),
            migrate_timeout: Millis::from_secs(600),
            confirm: ConfirmWithin(Millis::from_secs(30)),
            deadline: Millis::from_secs(120),
            absent_grace: Millis::from_secs(10),
            waive: BTreeMap::new(),
            waive_absent: None,
            waive_for: Millis::from_secs(24 * 3_600),
            message: String::new(),
            by: "alice".into(),
        }
    }
}

impl Flags {
    /// Takes in one line of flags; later ones win.
    pub(super) fn read(&mut self, words: &mut Words) -> Result<(), Problem> {
        let words = words.meaning(USAGE);
        while let Some(flag) = words.any() {
            let flag = flag.as_str();
            match flag {
                "--segments" => self.segments = words.value(flag)?,
                "--canary" => self.canary = words.value(flag)?,
                "--order" => self.sequence = words.value(flag)?,
                "--parallel" => self.parallel = words.value(flag)?,
                "--min-healthy" => self.min_healthy = words.value(flag)?,
                "--max-failures" => self.max_failures = words.value(flag)?,
                "--bake" => self.bake = words.value(flag)?,
                "--on-failure" => self.on_failure = words.value(flag)?,
                "--no-rollback" => self.on_failure = OnFailure::Stop,
                "--pause-after" => {
                    for text in words.list::<String>(flag)? {
                        self.pause_after.insert(segment(flag, &text)?);
                    }
                }
                "--pause-timeout" => self.pause_timeout = some_time(words, flag)?,
                "--gate" => {
                    let text = words.word(flag)?;
                    let source = |name: &str| Source::Test { command: name.to_owned(), from: Host::Controller };
                    match text.split_once('@') {
                        Some((name, after)) => self.gate(name, source(name), Some(segment(flag, after)?))?,
                        None => self.gate(&text, source(&text), None)?,
                    }
                }
                "--gate-timeout" | "--test-timeout" => self.gate_timeout = some_time(words, flag)?,
                "--test" => self.test(words.word(flag)?, Host::Operator)?,
                "--test-on-controller" => self.test(words.word(flag)?, Host::Controller)?,
                "--metric" => {
                    let query = words.word(flag)?;
                    self.gate("metric", Source::Metric { query }, None)?;
                }
                "--approve-by" => {
                    let required = words.value(flag)?;
                    self.gate("approval", Source::Approval { required }, None)?;
                }
                "--migrate" => self.migrate = Some(words.word(flag)?),
                "--migrate-place" => self.migrate_place = words.value(flag)?,
                "--migrate-timeout" => self.migrate_timeout = some_time(words, flag)?,
                "--confirm" => self.confirm = words.value(flag)?,
                "--deadline" => self.deadline = some_time(words, flag)?,
                "--absent-grace" => self.absent_grace = words.value(flag)?,
                "--waive" => {
                    let text = words.word(flag)?;
                    let Some((node, reason)) = text.split_once('=').filter(|(_, reason)| !reason.is_empty()) else {
                        return Err(Problem::new("--waive needs a node and a reason", "--waive n3=\"disk replaced\""));
                    };
                    let node = node.parse().map_err(|error| Problem::new(format!("--waive: {error}"), USAGE))?;
                    self.waive.insert(node, reason.to_owned());
                }
                "--waive-unreachable" => self.waive_absent = Some(words.word(flag)?),
                "--waive-for" => self.waive_for = some_time(words, flag)?,
                "--message" => self.message = words.word(flag)?,
                "--by" => self.by = words.word(flag)?,
                other => return Err(unknown(other, "a flag of deploy", &[&OF_DEPLOY[..], &OF_SCRIPTS].concat())),
            }
        }
        Ok(())
    }

    /// A test, with the name it would have.
    fn test(&mut self, command: String, from: Host) -> Result<(), Problem> {
        self.tests += 1;
        let name = if self.tests == 1 { "test".to_owned() } else { format!("test-{}", self.tests) };
        self.gate(&name, Source::Test { command, from }, None)
    }

    fn gate(&mut self, name: &str, source: Source, after: Option<usize>) -> Result<(), Problem> {
        if name.is_empty() || name.contains(char::is_whitespace) {
            return Err(Problem::new("a gate needs a name of one word", "--gate test, or --gate test@2 for segment 2"));
        }
        if self.gates.len() == MOST_GATES {
            return Err(Problem::new(format!("more than {MOST_GATES} gates"), "leave some out"));
        }
        self.gates.push(Gate { name: name.to_owned(), source, after, deadline: Millis(0) });
        Ok(())
    }

    /// What is asked for, at time zero.
    pub(super) fn request(&self, service: &ServiceName, version: &Version, target: Hold) -> Request {
        let waiver = |reason: &String| Waiver {
            by: self.by.clone(),
            reason: reason.clone(),
            until: Timestamp(0).after(self.waive_for),
        };
        let MigrationPlace(place) = self.migrate_place;
        let migration = self.migrate.as_ref().map(|command| Migration {
            name: "migrate".into(),
            command: command.clone(),
            place,
            timeout: self.migrate_timeout,
        });
        // The time-out may stand behind the gates it is for.
        let gates = self.gates.iter().map(|gate| Gate { deadline: self.gate_timeout, ..gate.clone() }).collect();
        Request {
            service: service.clone(),
            environment: "story".into(),
            kind: Kind::Rollout,
            target,
            version: version.clone(),
            limit: String::new(),
            canary: self.canary,
            segments: self.segments.clone(),
            sequence: self.sequence.clone(),
            parallel: self.parallel,
            min_healthy: self.min_healthy,
            max_failures: self.max_failures,
            bake: self.bake,
            gates,
            pause_after: self.pause_after.clone(),
            migration,
            confirm: self.confirm.0,
            node_deadline: self.deadline,
            absent_grace: self.absent_grace,
            pause_deadline: self.pause_timeout,
            on_failure: self.on_failure,
            waivers: self.waive.iter().map(|(node, reason)| (node.clone(), waiver(reason))).collect(),
            waive_absent: self.waive_absent.as_ref().map(waiver),
            actor: self.by.clone(),
            message: self.message.clone(),
        }
    }
}

/// A span that is not zero: nothing would ever be in time.
fn some_time(words: &mut Words, flag: &str) -> Result<Millis, Problem> {
    match words.value(flag)? {
        Millis(0) => Err(Problem::new(format!("{flag} is zero: nothing would be in time"), "write at least 1s")),
        span => Ok(span),
    }
}

/// A segment as people count, from 1; here from 0.
fn segment(flag: &str, text: &str) -> Result<usize, Problem> {
    match text.parse::<usize>() {
        Ok(number @ 1..) => Ok(number - 1),
        Ok(0) | Err(_) => {
            let what = format!("{flag}: '{}' is not the number of a segment", super::words::shown(text));
            Err(Problem::new(what, "segments are counted from 1"))
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use clap::CommandFactory as _;

    #[test]
    fn the_flags_have_the_names_they_have_on_the_command_line() {
        let cli = crate::commands::Cli::command();
        let deploy = cli.find_subcommand("deploy").unwrap();
        for flag in OF_DEPLOY {
            let known = deploy.get_arguments().any(|argument| argument.get_long() == flag.strip_prefix("--"));
            assert!(known, "{flag} is no flag of fleetctl deploy");
        }
        for flag in OF_SCRIPTS {
            let known = deploy.get_arguments().any(|argument| argument.get_long() == flag.strip_prefix("--"));
            assert!(!known, "{flag} is a flag of fleetctl deploy now: say so");
        }
    }
}
