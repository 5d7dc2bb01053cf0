//! Reading a request for a deployment: every field parsed once, defaults filled in, limits held. What the fleet makes of
//! it is left to `planning`.

use std::collections::{BTreeMap, BTreeSet};

use fleet::capacity::{MinHealthy, Parallel};
use fleet::deployment::plan::Request;
use fleet::deployment::{Budget, Gate, Host, Kind, OnFailure, PAUSE_DEADLINE, Source, Waiver};
use fleet::segments::{Canary, Segments};
use fleet::sequence::Sequence;
use fleet::time::LONGEST;
use fleet::{Millis, NodeName, Timestamp};
use fleet_proto::{convert, v1};

use super::ask::Refusal;
use super::state::State;

/// What one node may take when nothing is said: fetching and a slow start fit into it.
const NODE_DEADLINE: Millis = Millis::from_secs(120);
/// How long an absent node is waited for when nothing is said.
const ABSENT_GRACE: Millis = Millis::from_secs(10);
/// How long an agent waits for the confirmation when nothing is said: deploy-rs's `confirmTimeout`.
const CONFIRM: Millis = Millis::from_secs(30);
/// The shortest confirmation that is not none: below, a controller that restarts would undo a fleet.
const SHORTEST_CONFIRM: Millis = Millis::from_secs(5);
/// How long an answer to a gate, and a migration, are waited for when nothing is said: what a long test suite takes.
const GATE_DEADLINE: Millis = Millis::from_secs(600);
/// How long a waiver lasts when nothing is said, and at most: an exception that outlives a month is a rule.
const WAIVER_LASTS: Millis = Millis::from_secs(24 * 3_600);
const LONGEST_WAIVER: Millis = Millis::from_secs(31 * 24 * 3_600);
/// The environment when none is named.
const ENVIRONMENT: &str = "default";
/// The longest message or reason of an operator, in characters.
pub(super) const LONGEST_MESSAGE: usize = 1_000;
/// The longest command line of a test or migration, in bytes: it travels in one message and is kept in the journal.
const LONGEST_COMMAND: usize = 4_096;
/// The most gates, pauses and waivers of one deployment.
const MOST_GATES: usize = 16;
const MOST_NAMED: usize = 1_000;

impl State {
    /// Reads a request. Everything that is wrong with it by itself is refused here.
    pub(super) fn read_request(
        &self,
        actor: &str,
        request: &v1::DeploymentRequest,
        kind: Kind,
        now: Timestamp,
    ) -> Result<Request, Refusal> {
        let record = self.find_release(&request.release)?;
        let or = |text: &str, default: &str| if text.is_empty() { default.to_owned() } else { text.to_owned() };
        let span = |ms: u64, default: Millis| if ms == 0 { default } else { Millis(ms.min(LONGEST.0)) };
        let until = now.after(span(request.waive_for_ms, WAIVER_LASTS).min(LONGEST_WAIVER));
        let confirm = match request.confirm_ms {
            None => CONFIRM,
            Some(0) => Millis(0),
            Some(ms) if ms < SHORTEST_CONFIRM.0 => {
                let what = format!("a confirmation within {} is too short", Millis(ms));
                return Err(Refusal::input(what, format!("give it {SHORTEST_CONFIRM} at least, or 0 for none")));
            }
            Some(ms) => Millis(ms.min(LONGEST.0)),
        };
        if request.pause_after.len() + request.waivers.len() > MOST_NAMED {
            return Err(Refusal::input(format!("more than {MOST_NAMED} pauses and waivers"), "name fewer"));
        }
        let migration =
            request.migration.clone().map(fleet::deployment::Migration::try_from).transpose().map_err(input)?;
        if let Some(migration) = &migration {
            short_enough(&migration.command)?;
        }
        Ok(Request {
            service: record.service.clone(),
            environment: or(&request.environment, ENVIRONMENT),
            kind,
            target: Self::hold(record),
            version: record.version.clone(),
            canary: Canary(request.canary as usize),
            segments: convert::parse::<Segments>("segments", &or(&request.segments, "1")).map_err(input)?,
            sequence: convert::parse::<Sequence>("order", &or(&request.order, "name")).map_err(input)?,
            parallel: convert::parse::<Parallel>("parallel", &or(&request.parallel, "all")).map_err(input)?,
            min_healthy: convert::parse::<MinHealthy>("min_healthy", &or(&request.min_healthy, "0")).map_err(input)?,
            max_failures: convert::parse::<Budget>("max_failures", &or(&request.max_failures, "0")).map_err(input)?,
            bake: Millis(request.bake_ms.min(LONGEST.0)),
            gates: self.read_gates(&request.gates)?,
            pause_after: request.pause_after.iter().map(from_one).collect::<Result<BTreeSet<_>, _>>()?,
            migration: migration.map(|migration| fleet::deployment::Migration {
                timeout: span(migration.timeout.0, GATE_DEADLINE),
                ..migration
            }),
            confirm,
            node_deadline: span(request.node_deadline_ms, NODE_DEADLINE),
            absent_grace: span(request.absent_grace_ms, ABSENT_GRACE),
            pause_deadline: span(request.pause_deadline_ms, PAUSE_DEADLINE),
            on_failure: convert::parse::<OnFailure>("on_failure", &or(&request.on_failure, "rollback"))
                .map_err(input)?,
            waivers: read_waivers(actor, &request.waivers, until)?,
            waive_absent: match request.waive_absent.trim() {
                "" => None,
                reason => Some(waiver(actor, reason, until)),
            },
            limit: if request.limit.is_empty() { String::new() } else { limit_as_written(request) },
            actor: actor.to_owned(),
            message: request.message.chars().take(LONGEST_MESSAGE).collect(),
        })
    }

    fn read_gates(&self, gates: &[v1::Gate]) -> Result<Vec<Gate>, Refusal> {
        if gates.len() > MOST_GATES {
            return Err(Refusal::input(format!("{} gates are more than {MOST_GATES}", gates.len()), "use fewer"));
        }
        let mut read = Vec::with_capacity(gates.len());
        for gate in gates {
            let mut gate = Gate::try_from(gate.clone()).map_err(input)?;
            if gate.deadline == Millis(0) {
                gate.deadline = GATE_DEADLINE;
            }
            if let Source::Test { command, from } = &gate.source {
                short_enough(command)?;
                if *from == Host::Controller && !self.runs_tests {
                    return Err(Refusal::not_allowed(
                        format!("the test '{}' may not run on the controller's host", gate.name.escape_default()),
                        "allow it there (controller.toml: run_tests = true), or run it where fleetctl watches (--test)",
                    ));
                }
            }
            read.push(gate);
        }
        Ok(read)
    }
}

/// A waiver that begins now.
pub(super) fn waiver(by: &str, reason: &str, until: Timestamp) -> Waiver {
    Waiver { by: by.to_owned(), reason: reason.chars().take(LONGEST_MESSAGE).collect(), until }
}

/// When a waiver ends that was asked for `ms`, by the rules of all waivers.
pub(super) fn waived_until(ms: u64, now: Timestamp) -> Timestamp {
    now.after(if ms == 0 { WAIVER_LASTS } else { Millis(ms).min(LONGEST_WAIVER) })
}

fn read_waivers(actor: &str, waivers: &[v1::Waiver], until: Timestamp) -> Result<BTreeMap<NodeName, Waiver>, Refusal> {
    waivers
        .iter()
        .map(|wish| {
            let node: NodeName = convert::parse("waive", &wish.node).map_err(input)?;
            match wish.reason.trim() {
                "" => {
                    Err(Refusal::input(format!("the waiver for {node} has no reason"), "say why: --waive NODE=REASON"))
                }
                reason => Ok((node, waiver(actor, reason, until))),
            }
        })
        .collect()
}

fn limit_as_written(request: &v1::DeploymentRequest) -> String {
    let text =
        if request.limit_as_written.is_empty() { request.limit.join(",") } else { request.limit_as_written.clone() };
    text.chars().take(LONGEST_MESSAGE).collect()
}

fn from_one(segment: &u32) -> Result<usize, Refusal> {
    match segment.checked_sub(1) {
        Some(segment) => Ok(segment as usize),
        None => Err(Refusal::input("segments are counted from 1", "see: fleetctl plan")),
    }
}

fn short_enough(command: &str) -> Result<(), Refusal> {
    match command.len() {
        0..=LONGEST_COMMAND => Ok(()),
        long => Err(Refusal::input(
            format!("a command line of {long} bytes is longer than {LONGEST_COMMAND}"),
            "put it into a script",
        )),
    }
}

fn input(error: convert::ConvertError) -> Refusal {
    Refusal::input(error.to_string(), "see: fleetctl deploy --help")
}
