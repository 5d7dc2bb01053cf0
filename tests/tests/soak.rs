//! No false alarms: deployments and rollbacks of releases that nobody has seen before, good and broken, with `kill -9`
//! of agents and of the controller in between and in the middle. Everything the ledger of drift was ever told is read,
//! not only what is open at the end, and whatever the test has not done itself is a false alarm.
//!
//! A thousand: `cargo test --release -p fleet-tests --test soak -- --ignored --nocapture`. `FLEET_TESTS_SEED` repeats a
//! run, `FLEET_TESTS_DEPLOYMENTS` makes it shorter or longer.
#![allow(clippy::unwrap_used)]

use std::collections::BTreeSet;
use std::time::{Duration, Instant, SystemTime};

use fleet::drift::{Finding, Kind};
use fleet::ledger::LedgerEntry;
use fleet_tests::random_release::{Foundry, Health};
use fleet_tests::stream::Stream;
use fleet_tests::{Dice, Fleet, Ledger, promised, until};

const NODES: u16 = 8;
/// Silence shorter than this is borne by the controller (`LIMITS` in `controller/src/mind/state.rs`); only longer silence
/// is truly a finding.
const SILENCE_MS: i64 = 5_000;
/// After so many false alarms more of them say nothing new.
const ENOUGH: usize = 25;

/// What is done next.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Act {
    Deploy(Health),
    Rollback,
}

/// Who is killed and started again.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Victim {
    Controller,
    Agent(String),
}

/// Something the test has done that may be seen as drift, and is.
#[derive(Debug)]
struct Kill {
    at_ms: i64,
    victim: Victim,
    /// When everybody was proven again.
    until_ms: i64,
}

struct Soak {
    fleet: Fleet,
    foundry: Foundry,
    ledger: Ledger,
    dice: Dice,
    kills: Vec<Kill>,
    explained: usize,
    /// The versions that have converged, the live one last.
    held: Vec<String>,
    false_alarms: Vec<String>,
}

fn now_ms() -> i64 {
    let since = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap();
    i64::try_from(since.as_millis()).unwrap()
}

impl Soak {
    fn begin() -> Soak {
        let dice = Dice::thrown();
        let fleet = Fleet::up(NODES);
        let foundry = Foundry::in_folder(fleet.folder().join("foundry"));
        let ledger = Ledger::of(&fleet.dir.join("controller"));
        Soak {
            fleet,
            foundry,
            ledger,
            dice,
            kills: Vec::new(),
            explained: 0,
            held: Vec::new(),
            false_alarms: Vec::new(),
        }
    }

    fn act(&mut self) -> Act {
        match self.dice.below(100) {
            // There must be something to go back to, and going back twice in a row is going forward.
            0..15 if self.held.len() >= 2 => Act::Rollback,
            15..25 if !self.held.is_empty() => Act::Deploy(Health::Broken),
            _ => Act::Deploy(Health::Good),
        }
    }

    /// One deployment, with whatever happens to it.
    fn step(&mut self, number: u64) {
        let act = self.act();
        let mut kills = Vec::new();
        if self.dice.happens(10) {
            let victim = self.victim();
            kills.push(self.kill(victim));
        }
        let during = self.dice.happens(15).then(|| (self.victim(), self.dice.below(3 + u64::from(NODES))));
        let segments = self.dice.one_of(&["1", "1", "1", "2", "3", "4", "8"]).to_string();
        let version = format!("1.{number}.0");
        let (fleet, expected) = (&self.fleet, if act == Act::Deploy(Health::Broken) { 3 } else { 0 });
        let flags = ["--yes", "-o", "jsonl", "--segments", &segments];
        let mut command = fleet.command("fleetctl");
        match act {
            Act::Deploy(health) => {
                command.arg("deploy").arg(self.foundry.make(&version, health, &mut self.dice)).args(flags)
            }
            Act::Rollback => command.args(["rollback", "hello"]).args(flags),
        };
        // Before its first fact a command rightly says that nobody answers.
        until("the controller can be asked", || (self.fleet.ctl(["status"]).code != 69).then_some(()));
        let mut stream = Stream::start(&mut command);
        let mut facts = 0;
        while stream.fact().is_some() {
            if let Some((victim, at)) = &during
                && *at == facts
            {
                kills.push(self.kill(victim.clone()));
            }
            facts += 1;
        }
        let output = stream.finish();
        assert_eq!(output.code, expected, "deployment {number}, {act:?}, {during:?}\n{output}");
        match act {
            Act::Deploy(Health::Good) => self.held.push(version),
            Act::Deploy(Health::Broken) => {}
            Act::Rollback => drop(self.held.pop()),
        }
        let until_ms = now_ms();
        self.kills.extend(kills.into_iter().map(|kill| Kill { until_ms, ..kill }));
        self.read_along(number, act);
    }

    fn victim(&mut self) -> Victim {
        if self.dice.happens(30) {
            return Victim::Controller;
        }
        let nodes = self.fleet.nodes();
        Victim::Agent(self.dice.one_of(&nodes).clone())
    }

    /// `kill -9`, and started again at once.
    fn kill(&self, victim: Victim) -> Kill {
        let at_ms = now_ms();
        match &victim {
            Victim::Controller => {
                self.fleet.kill_controller();
                self.fleet.start_controller();
            }
            Victim::Agent(node) => {
                self.fleet.kill_agent(node);
                self.fleet.start_agent(node);
            }
        }
        Kill { at_ms, victim, until_ms: i64::MAX }
    }

    /// Takes in what the ledger was told meanwhile.
    fn read_along(&mut self, number: u64, act: Act) {
        let first = self.ledger.next();
        for (line, entry) in self.ledger.since(first).unwrap() {
            match entry {
                LedgerEntry::Opened { at, finding } => {
                    if self.explains(&finding, at.0) {
                        self.explained += 1;
                        eprintln!("explained by a kill: {} {finding}", finding.key.node);
                        continue;
                    }
                    let told = format!(
                        "line {line}, in or before deployment {number} ({act:?}): {} {finding}; kills: {:?}",
                        finding.key.node,
                        self.kills.iter().filter(|kill| kill.until_ms > at.0 - 20_000).collect::<Vec<_>>()
                    );
                    eprintln!("FALSE ALARM {told}");
                    self.false_alarms.push(told);
                }
                LedgerEntry::Changed { .. } | LedgerEntry::Closed { .. } => {}
            }
        }
    }

    /// Whether a finding is true because of what the test did: somebody was silent for longer than is borne.
    fn explains(&self, finding: &Finding, at_ms: i64) -> bool {
        let silence = matches!(finding.key.kind, Kind::Unreachable | Kind::Stale);
        silence
            && self.kills.iter().any(|kill| {
                let meant = match &kill.victim {
                    Victim::Controller => true,
                    Victim::Agent(node) => *finding.key.node.as_str() == **node,
                };
                meant && at_ms > kill.at_ms + SILENCE_MS && at_ms <= kill.until_ms + SILENCE_MS
            })
    }

    /// The end: everybody is proven, nothing is open, nothing ever was, and this test could have seen it.
    fn end(mut self, count: u64) {
        self.fleet.until_verified();
        promised("nothing is open", || (self.fleet.drift().code == 0).then_some(()));
        self.read_along(count, Act::Deploy(Health::Good));
        assert!(
            self.false_alarms.is_empty(),
            "{} false alarms:\n{}",
            self.false_alarms.len(),
            self.false_alarms.join("\n")
        );
        let live = |node: &String| self.fleet.current(node, "hello").file_name().unwrap().to_owned();
        let runs: BTreeSet<_> = self.fleet.nodes().iter().map(live).collect();
        assert_eq!(runs.len(), 1, "all hold the same release: {runs:?}");
        // A ledger that cannot be read along would be just as empty.
        let node = self.fleet.nodes().pop().unwrap();
        std::fs::write(self.fleet.current(&node, "hello").join("planted"), "x").unwrap();
        promised("what is planted is read in the ledger", || {
            let first = self.ledger.next();
            let lines = self.ledger.since(first).unwrap();
            lines.into_iter().find(|(_, entry)| match entry {
                LedgerEntry::Opened { finding, .. } => {
                    finding.key.kind == Kind::Extra
                        && finding.key.what == "planted"
                        && *finding.key.node.as_str() == *node
                }
                LedgerEntry::Changed { .. } | LedgerEntry::Closed { .. } => false,
            })
        });
    }
}

fn soak(count: u64) {
    let mut soak = Soak::begin();
    let start = Instant::now();
    let mut told = Duration::ZERO;
    for number in 1..=count {
        soak.step(number);
        if start.elapsed() - told > Duration::from_secs(30) || number == count {
            told = start.elapsed();
            eprintln!(
                "{number} of {count} deployments, {:.2} s each, {} kills, {} findings that these explain, {} false alarms",
                told.as_secs_f64() / number as f64,
                soak.kills.len(),
                soak.explained,
                soak.false_alarms.len()
            );
        }
        if soak.false_alarms.len() >= ENOUGH {
            break;
        }
    }
    soak.end(count);
}

#[test]
fn twenty_deployments_leave_an_empty_ledger() {
    soak(20);
}

#[test]
#[ignore = "half an hour: run by hand, with --ignored"]
fn a_thousand_deployments_leave_an_empty_ledger() {
    let wished = std::env::var("FLEET_TESTS_DEPLOYMENTS").ok().and_then(|text| text.parse().ok());
    soak(wished.unwrap_or(1_000));
}
