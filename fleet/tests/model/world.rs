//! The world around one real [`Deployment`]: machines, a network, people, a clock, and a controller that may stop at
//! any time. Here is what a state is, and how one turn of the controller changes it. What may happen next is in
//! `scenario.rs`, what must hold in `laws.rs`.
//!
//! *The clock.* Deadlines are whole epochs, and within an epoch time moves by one mark whenever something happens from
//! which on proof counts. So the order of two moments is kept exactly, and everything else happens at once: a region
//! graph of timed automata, whose clocks are the timestamps of the deployment.
//!
//! *The network.* An order once said can arrive at any later time, again and again, or never: what was said is kept.
//! Attestations answer at once, late, repeatedly or never: those delayed are kept too. A fact that was not saved was
//! not said, so a controller that stops between the two is one that never heard the event.

use std::collections::BTreeSet;

use fleet::deployment::{Deployment, Event, Fact, Observation, Seen, Spec};
use fleet::evidence::Confirmation;
use fleet::release::Grade;
use fleet::{Generation, Hold, Millis, NodeName, Order, Timestamp};

use crate::history::History;
use crate::laws::{self, Law};
use crate::scenario::Left;

/// One epoch in milliseconds: longer than all marks, and than the slack that the bake allows.
pub(crate) const EPOCH: u64 = 10_000;
/// The generation that every node holds to begin with.
pub(crate) const STANDING: Generation = Generation(1);
/// The generation of the orders forward.
pub(crate) const FORWARD: Generation = Generation(10);
/// The generation of the orders back.
pub(crate) const BACK: Generation = Generation(11);
/// Nothing depends on whether something is older than this many epochs: the longest span of the specs is shorter.
pub(crate) const LONG_AGO: i64 = 5;

/// A span of so many epochs.
pub(crate) fn epochs(n: u64) -> Millis {
    Millis(n * EPOCH)
}

/// The whole epochs of a moment.
pub(crate) fn epoch_of(at: Timestamp) -> i64 {
    at.0.div_euclid(EPOCH as i64)
}

/// A state: the deployment and all around it.
#[derive(Clone)]
pub(crate) struct World {
    pub(crate) deployment: Deployment,
    pub(crate) journal: Vec<Fact>,
    pub(crate) clock: Clock,
    pub(crate) machines: Vec<Machine>,
    /// Every order ever said.
    pub(crate) said: Vec<Order>,
    /// Attestations under way, in order; they stay and can arrive again.
    pub(crate) late: Vec<Evidence>,
    pub(crate) left: Left,
    pub(crate) history: History,
    /// The phase in which the controller has stopped in the very last step, for the stories.
    pub(crate) crashed_in: Option<&'static str>,
    pub(crate) broken: BTreeSet<Law>,
}

/// Epochs, and marks within them.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Clock {
    epoch: i64,
    mark: i64,
}

/// One node as it really is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Machine {
    pub(crate) name: NodeName,
    /// The newest order that it has taken in.
    pub(crate) generation: Generation,
    pub(crate) progress: Progress,
    pub(crate) runs: Code,
    pub(crate) age: Age,
    pub(crate) confirmation: Confirmation,
    pub(crate) presence: Presence,
}

/// What its agent says of the order.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Progress {
    Held,
    Failed,
}

/// What really runs.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Code {
    Old,
    New,
}

/// How long the process has been running: less than an epoch, which is the bake, or longer.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Age {
    Young,
    Old,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Presence {
    Here,
    Away,
}

/// What a node stated, and when it was asked. It is compared with what is wanted when it arrives. Of what was stated
/// before an order nothing is expected, not even that the comparison tells orders apart: it is compared by what ran.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Evidence {
    pub(crate) machine: usize,
    pub(crate) asked_at: Timestamp,
    generation: Generation,
    runs: Code,
    age: Age,
    confirmed: bool,
    /// Whether the node was ordered something else since.
    outdated: bool,
}

/// Which wish the controller compares an attestation with.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Book {
    /// The one that the deployment wants now.
    Current,
    /// The one before: the comparison was begun before the order was written down.
    Lagging,
}

impl Clock {
    pub(crate) const START: Self = Self { epoch: 100, mark: 0 };

    /// When a nonce is drawn now.
    pub(crate) fn asks(self) -> Timestamp {
        Timestamp(self.epoch * EPOCH as i64 + self.mark)
    }

    /// When an event arrives now: after every nonce that was drawn so far.
    pub(crate) fn now(self) -> Timestamp {
        Timestamp(self.asks().0 + 1)
    }

    /// From now on nonces are drawn at what was `now`.
    fn mark(&mut self) {
        self.mark += 1;
        assert!(self.mark < 900, "the marks of one history must fit the slack of the bake");
    }
}

impl Machine {
    pub(crate) fn new(name: NodeName, presence: Presence) -> Self {
        Self {
            name,
            generation: STANDING,
            progress: Progress::Held,
            runs: Code::Old,
            age: Age::Old,
            confirmation: Confirmation::Given,
            presence,
        }
    }

    /// Whether it runs `code` because it was ordered to, for good.
    pub(crate) fn is_right(&self, generation: Generation) -> bool {
        self.generation == generation
            && self.runs == code_of(generation)
            && self.progress == Progress::Held
            && self.confirmation == Confirmation::Given
    }
}

/// What an order of this generation makes a node run.
pub(crate) fn code_of(generation: Generation) -> Code {
    if generation == FORWARD { Code::New } else { Code::Old }
}

fn up_for(age: Age) -> Millis {
    match age {
        Age::Young => Millis(0),
        Age::Old => epochs(1),
    }
}

/// Whether a fact begins something from which on proof counts.
fn marks_time(fact: &Fact) -> bool {
    matches!(
        fact,
        Fact::NodesOrdered { .. }
            | Fact::NodesTurnedBack { .. }
            | Fact::SegmentProven { .. }
            | Fact::VerificationStarted { .. }
            | Fact::NodeJoined { .. }
    )
}

impl World {
    pub(crate) fn new(spec: &Spec, away: &[NodeName], left: Left) -> Self {
        let clock = Clock::START;
        let planned = Fact::Planned { at: clock.asks(), spec: Box::new(spec.clone()) };
        let Some(deployment) = Deployment::planned(&planned) else { unreachable!("it is planned") };
        let presence = |name: &NodeName| if away.contains(name) { Presence::Away } else { Presence::Here };
        Self {
            machines: spec.expected().map(|name| Machine::new(name.clone(), presence(name))).collect(),
            history: History::new(spec, clock.asks()),
            deployment,
            journal: vec![planned],
            clock,
            said: Vec::new(),
            late: Vec::new(),
            left,
            crashed_in: None,
            broken: BTreeSet::new(),
        }
    }

    /// One turn of the controller: it hears, saves and says.
    pub(crate) fn turn(&mut self, event: &Event) {
        let now = self.clock.now();
        let before = self.deployment.clone();
        let facts = self.deployment.handle(event, now);
        laws::check_turn(self, before, event, &facts);
        self.take(facts);
        laws::check_state(self);
    }

    /// As [`World::turn`], but the controller stops when it has saved only the first `kept` facts.
    pub(crate) fn torn_turn(&mut self, event: &Event, kept: usize) {
        let before = self.deployment.clone();
        let mut facts = self.deployment.handle(event, self.clock.now());
        facts.truncate(kept);
        let mut saved = before;
        for fact in &facts {
            saved.apply(fact);
        }
        self.deployment = saved;
        self.take(facts);
        self.crash(0);
    }

    /// The controller stops, and so many epochs later another takes its journal up.
    pub(crate) fn crash(&mut self, outage: i64) {
        let phase = phase_name(&self.deployment);
        self.clock.mark();
        self.pass(outage);
        let now = self.clock.now();
        let Some(mut successor) = Deployment::replay(&self.journal) else { unreachable!("it begins with Planned") };
        successor.resume(now);
        laws::check_succession(self, &successor);
        self.deployment = successor;
        self.history.listen_from(now);
        self.clock.mark();
        self.turn(&Event::Tick);
        self.crashed_in = Some(phase);
    }

    /// So many epochs go by.
    pub(crate) fn pass(&mut self, epochs: i64) {
        self.clock.epoch += epochs;
        if epochs > 0 {
            self.machines.iter_mut().for_each(|machine| machine.age = Age::Old);
        }
    }

    fn take(&mut self, facts: Vec<Fact>) {
        for fact in &facts {
            self.history.fold(fact);
        }
        if facts.iter().any(marks_time) {
            self.clock.mark();
        }
        self.journal.extend(facts);
        for order in self.deployment.orders() {
            laws::check_order(self, &order);
            if !self.said.contains(&order) {
                let machines = &self.machines;
                let late = self.late.iter_mut().filter(|late| machines[late.machine].name == order.node);
                late.for_each(|late| late.outdated = true);
                self.said.push(order);
            }
        }
        self.witness();
    }

    /// Notes who is right in the last round, whatever the deployment knows of it.
    pub(crate) fn witness(&mut self) {
        for machine in &self.machines {
            let wanted = self.deployment.order_for(&machine.name).map_or(STANDING, |order| order.generation);
            self.history.witness(&machine.name, machine.is_right(wanted).then_some(machine.runs));
        }
    }

    /// What the controller sees when it asks a node now: an honest comparison of what the node attests with a wish.
    pub(crate) fn look(&self, index: usize, book: Book) -> Option<Observation> {
        let machine = &self.machines[index];
        if machine.presence == Presence::Away {
            return None;
        }
        let current = self.wanted(index);
        let generation = match book {
            Book::Current => current,
            Book::Lagging if current == BACK => FORWARD,
            Book::Lagging if current == FORWARD => STANDING,
            Book::Lagging => return None,
        };
        let asked_at = self.clock.asks();
        let seen = if machine.generation != generation {
            Seen::Working { detail: "at work".into() }
        } else if machine.progress == Progress::Failed {
            Seen::Failed { reason: "failed".into() }
        } else if machine.runs == code_of(generation) {
            Seen::Proven { grade: Grade::Digest, up: up_for(machine.age), confirmation: machine.confirmation }
        } else {
            Seen::Differs { reason: "differs".into() }
        };
        Some(Observation { asked_at, generation, seen })
    }

    /// What a node would attest now, if it holds what it was told.
    pub(crate) fn attest(&self, index: usize) -> Option<Evidence> {
        let machine = &self.machines[index];
        let evidence = Evidence {
            machine: index,
            asked_at: self.clock.asks(),
            generation: machine.generation,
            runs: machine.runs,
            age: machine.age,
            confirmed: machine.confirmation == Confirmation::Given,
            outdated: false,
        };
        (machine.presence == Presence::Here && machine.progress == Progress::Held).then_some(evidence)
    }

    /// What the controller makes of a late attestation.
    pub(crate) fn compare(&self, late: &Evidence) -> Observation {
        let generation = self.wanted(late.machine);
        let confirmation = if late.confirmed { Confirmation::Given } else { Confirmation::Awaited };
        let of_this = late.outdated || late.generation == generation;
        let seen = if of_this && late.runs == code_of(generation) {
            Seen::Proven { grade: Grade::Digest, up: up_for(late.age), confirmation }
        } else {
            Seen::Working { detail: "at work".into() }
        };
        Observation { asked_at: late.asked_at, generation, seen }
    }

    fn wanted(&self, index: usize) -> Generation {
        self.deployment.order_for(&self.machines[index].name).map_or(STANDING, |order| order.generation)
    }

    pub(crate) fn observed(&self, index: usize, observation: Observation) -> Event {
        Event::Observed { node: self.machines[index].name.clone(), observation }
    }
}

/// The release that nodes hold before, or the target.
pub(crate) fn hold(code: Code) -> Hold {
    let (release, digest) = match code {
        Code::Old => ("r-aaaaaaaaaaaa", [1; 32]),
        Code::New => ("r-bbbbbbbbbbbb", [2; 32]),
    };
    let Ok(release) = release.parse() else { unreachable!("it is a release") };
    Hold::Release { release, bundle: fleet::Digest(digest), size: 1 }
}

/// The name of its phase, without particulars.
pub(crate) fn phase_name(deployment: &Deployment) -> &'static str {
    use fleet::deployment::Phase;
    match deployment.phase() {
        Phase::Planned => "planned",
        Phase::Rolling { .. } => "rolling",
        Phase::Baking { .. } => "baking",
        Phase::Between { .. } => "between",
        Phase::Gating { .. } => "gating",
        Phase::Migrating { .. } => "migrating",
        Phase::Stopped => "stopped",
        Phase::TurningBack { .. } => "turning-back",
        Phase::RollingBack { .. } => "rolling-back",
        Phase::Verifying { .. } => "verifying",
        Phase::Finished { .. } => "finished",
    }
}
