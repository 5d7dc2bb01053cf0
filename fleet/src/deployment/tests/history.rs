//! A history: up to thirty nodes and those who join, three services deployed at once over overlapping nodes, and then
//! one thing after the other that can happen to a fleet. After the wild part the world is calm, and it must end.

use std::collections::BTreeMap;

use crate::deployment::tests::witness::Witness;
use crate::deployment::tests::world::{Nature, World, seconds};
use crate::deployment::{
    AbortMode, Again, Asking, Cause, Command, Event, Halt, MigrationReport, Phase, Previous, Spec, Verdict, WaitingOn,
    Waiver,
};
use crate::{Hold, Millis, NodeName, Outcome, Timestamp};

/// Everything that is decided before a history begins.
#[derive(Debug, Clone)]
pub(super) struct History {
    /// What is deployed, and what each expected node of it does with orders.
    pub(super) deployments: Vec<(Spec, BTreeMap<NodeName, Nature>)>,
    /// Nodes by number; not all of them take part in each deployment.
    pub(super) nodes: Vec<NodeName>,
    pub(super) steps: Vec<Step>,
    pub(super) calm: Calm,
}

/// One thing that happens.
#[derive(Debug, Clone)]
pub(super) enum Step {
    /// A node is asked, and answers if it can.
    Look { service: usize, node: usize, fate: Fate },
    /// Every node of a service is asked.
    LookAround { service: usize },
    /// An observation made earlier arrives, for the first time or again.
    Again { service: usize, back: usize },
    /// Time passes.
    Pass(Millis),
    /// Time passes until a deployment wants to be woken, if that is soon.
    Wake { service: usize, at_most: Millis },
    /// A person wants something.
    Tell { service: usize, wish: Wish, node: usize },
    /// Somebody answers for a gate, perhaps not for the one at work.
    Answer { service: usize, says: Says, about: About },
    /// An agent says how a migration stands, perhaps another agent or another attempt.
    Report { service: usize, says: Says, about: About },
    /// A machine joins the fleet, for all services.
    Join { node: usize, nature: Nature },
    /// A machine is taken out, and another joins under its name at once.
    Replace { node: usize, nature: Nature },
    /// A machine is taken out, for all services.
    Leave { node: usize },
    /// A machine cannot be reached for a while.
    CutOff { node: usize, lasts: Millis },
    /// The controller dies at a tick, with so many of the facts that came of it written down.
    Die { service: usize, written: usize },
    /// Orders are said again.
    SayAgain { service: usize },
}

/// What becomes of an answer on its way.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Fate {
    Arrives,
    /// It is lost for now; see [`Step::Again`].
    Lost,
    /// It arrives, and the controller's confirmation is lost.
    Unconfirmed,
    /// The question was asked so long ago, perhaps before an order that the answer speaks of.
    Slow(Millis),
}

/// What a person wants.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Wish {
    Pause,
    Resume,
    Promote(Again),
    Abort(AbortMode),
    Supersede,
    Waive(Millis),
}

/// What somebody says who was asked.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Says {
    Yes,
    No,
    NobodyKnows,
    StillAtIt,
}

/// What somebody speaks about.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum About {
    TheQuestion,
    /// An earlier attempt, or another segment.
    SomethingElse,
}

/// How the rest of the world is when the wild part is over.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Calm {
    /// Persons decide, gates say yes, migrations end well.
    Helpful,
    /// Nobody decides anything any more, and nobody answers for a gate.
    Absent,
}

/// How the deployments of a history ended, and which kinds of facts it had.
#[derive(Debug, Clone, Default)]
pub(super) struct Seen {
    pub(super) outcomes: Vec<Outcome>,
    pub(super) kinds: BTreeMap<&'static str, u64>,
    pub(super) facts: usize,
}

impl History {
    /// Lives it. Panics with the name of an invariant that does not hold.
    pub(super) fn live(&self) -> Seen {
        let mut now = Timestamp(0);
        let mut witnesses: Vec<Witness> = self
            .deployments
            .iter()
            .map(|(spec, natures)| Witness::new(spec.clone(), World::of(spec, |node| natures[node], now), now))
            .collect();
        let mut rotation = 0;
        witnesses.iter_mut().for_each(|witness| drop(witness.tell(Event::Tick, now)));
        for step in &self.steps {
            self.take(step, &mut witnesses, &mut now, &mut rotation);
        }
        for witness in &mut witnesses {
            settle(witness, self.calm, now);
            witness.close();
        }
        let mut seen = Seen::default();
        for witness in &witnesses {
            seen.outcomes.extend(witness.deployment.outcome());
            seen.facts += witness.journal.len();
            witness.journal.iter().for_each(|fact| *seen.kinds.entry(fact.kind()).or_default() += 1);
        }
        seen
    }

    fn take(&self, step: &Step, witnesses: &mut [Witness], now: &mut Timestamp, rotation: &mut usize) {
        let name = |node: usize| &self.nodes[node % self.nodes.len()];
        match step {
            Step::Look { service, node, fate } => {
                let witness = &mut witnesses[*service];
                let expected: Vec<NodeName> = witness.deployment.nodes().iter().map(|(node, _)| node.clone()).collect();
                let node = expected[node % expected.len()].clone();
                match fate {
                    Fate::Arrives => witness.look(&node, *now),
                    Fate::Lost => drop(witness.ask(&node, *now)),
                    Fate::Slow(ago) => {
                        if let Some(mut observation) = witness.ask(&node, *now) {
                            observation.asked_at = Timestamp((now.0 - ago.0 as i64).max(0));
                            witness.tell(Event::Observed { node, observation }, *now);
                        }
                    }
                    Fate::Unconfirmed => {
                        if let Some(observation) = witness.ask(&node, *now) {
                            witness.tell(Event::Observed { node, observation }, *now);
                        }
                    }
                }
            }
            Step::LookAround { service } => look_around(&mut witnesses[*service], *now),
            Step::Again { service, back } => {
                let witness = &mut witnesses[*service];
                let known = witness.seen.len();
                if known > 0 {
                    let (node, observation) = witness.seen[known - 1 - back % known].clone();
                    witness.tell(Event::Observed { node, observation }, *now);
                }
            }
            Step::Pass(span) => pass(witnesses, now, *span),
            Step::Wake { service, at_most } => {
                if let Some(wake) = witnesses[*service].deployment.wake_at() {
                    pass(witnesses, now, wake.since(*now).min(*at_most));
                }
            }
            Step::Tell { service, wish, node } => {
                let witness = &mut witnesses[*service];
                let expected: Vec<NodeName> = witness.deployment.nodes().iter().map(|(node, _)| node.clone()).collect();
                let command = match wish {
                    Wish::Pause => Command::Pause,
                    Wish::Resume => Command::Resume,
                    Wish::Promote(again) => Command::Promote { again: *again },
                    Wish::Abort(mode) => Command::Abort { mode: *mode },
                    Wish::Supersede => Command::Supersede { deployment: "d-next".parse().unwrap() },
                    Wish::Waive(lasts) => Command::Waive {
                        node: expected[node % expected.len()].clone(),
                        waiver: Waiver { by: "carol".into(), reason: "fan".into(), until: now.after(*lasts) },
                    },
                };
                witness.tell(Event::Told { by: "bob".into(), command }, *now);
            }
            Step::Answer { service, says, about } => answer(&mut witnesses[*service], *says, *about, *now),
            Step::Report { service, says, about } => report(&mut witnesses[*service], *says, *about, *now),
            Step::Join { node, nature } => {
                witnesses.iter_mut().for_each(|witness| join(witness, name(*node), *nature, *now));
            }
            Step::Leave { node } => witnesses.iter_mut().for_each(|witness| leave(witness, name(*node), *now)),
            Step::Replace { node, nature } => {
                for witness in witnesses {
                    leave(witness, name(*node), *now);
                    join(witness, name(*node), *nature, *now);
                }
            }
            Step::CutOff { node, lasts } => {
                witnesses.iter_mut().for_each(|witness| witness.world.cut_off(name(*node), now.after(*lasts)));
            }
            Step::Die { service, written } => {
                *rotation += 1;
                let witness = &mut witnesses[*service];
                // What it was about to learn when it died: a tick, or the answer of some node.
                let expected: Vec<NodeName> = witness.deployment.nodes().iter().map(|(node, _)| node.clone()).collect();
                let node = expected[*rotation % expected.len()].clone();
                let event = match witness.ask(&node, *now) {
                    Some(observation) => Event::Observed { node, observation },
                    None => Event::Tick,
                };
                witness.tell_and_die(event, *now, *written);
            }
            Step::SayAgain { service } => witnesses[*service].say_everything_again(*now),
        }
    }
}

fn pass(witnesses: &mut [Witness], now: &mut Timestamp, span: Millis) {
    *now = now.after(span);
    witnesses.iter_mut().for_each(|witness| drop(witness.tell(Event::Tick, *now)));
}

fn look_around(witness: &mut Witness, now: Timestamp) {
    let expected: Vec<NodeName> = witness.deployment.nodes().iter().map(|(node, _)| node.clone()).collect();
    expected.iter().for_each(|node| witness.look(node, now));
}

/// A machine joins. If it is known already, it is only said again that it joined.
fn join(witness: &mut Witness, node: &NodeName, nature: Nature, now: Timestamp) {
    let held = match &witness.deployment.spec().target {
        Hold::Release { .. } => crate::deployment::tests::world::older(),
        Hold::Nothing => Hold::Nothing,
    };
    if witness.world.agent(node).is_none() {
        witness.world.join(node, nature, held.clone(), now);
    }
    witness.tell(Event::Joined { node: node.clone(), previous: Previous { hold: held, version: None } }, now);
}

fn leave(witness: &mut Witness, node: &NodeName, now: Timestamp) {
    witness.world.leave(node);
    let (by, reason) = ("dave".into(), "sold".into());
    witness.tell(Event::Decommissioned { node: node.clone(), by, reason }, now);
}

fn answer(witness: &mut Witness, says: Says, about: About, now: Timestamp) {
    let asking = match (witness.deployment.phase(), about) {
        (Phase::Gating { asking, .. }, About::TheQuestion) => asking,
        (Phase::Gating { asking, .. }, About::SomethingElse) => Asking { attempt: asking.attempt - 1, ..asking },
        (_, _) => Asking { segment: 0, gate: 0, attempt: 1 },
    };
    let detail = "said".to_owned();
    let verdict = match says {
        Says::Yes => Verdict::Passed { detail },
        Says::No => Verdict::Failed { detail },
        Says::NobodyKnows => Verdict::Inconclusive { detail },
        // Whoever is still at it says nothing.
        Says::StillAtIt => return,
    };
    witness.tell(Event::GateAnswered { asking, verdict }, now);
}

fn report(witness: &mut Witness, says: Says, about: About, now: Timestamp) {
    let order = witness.deployment.migration_order();
    let told = order.map(|order| (order.node, order.attempt));
    let anyone = witness.deployment.spec().segments[0][0].clone();
    let (node, attempt) = match (told, about) {
        (Some((node, attempt)), About::TheQuestion) => (node, attempt),
        (Some((node, attempt)), About::SomethingElse) => (node, attempt - 1),
        (None, _) => (anyone, 1),
    };
    let reason = "said".to_owned();
    let report = match says {
        Says::Yes => MigrationReport::Succeeded,
        Says::No => MigrationReport::Failed { reason },
        Says::NobodyKnows => MigrationReport::Interrupted { reason },
        Says::StillAtIt => MigrationReport::Running { detail: reason },
    };
    witness.tell(Event::MigrationReported { node, attempt, report }, now);
}

/// The calm part: orders arrive, whoever is waited for is looked at, and time passes. It must end.
fn settle(witness: &mut Witness, calm: Calm, mut now: Timestamp) {
    // Far more turns than any deployment of thirty nodes needs.
    for _ in 0..5_000 {
        if witness.is_over() {
            return;
        }
        witness.tell(Event::Tick, now);
        witness.say_everything_again(now);
        let nodes: Vec<NodeName> = match witness.deployment.waiting_on(now) {
            Some(
                WaitingOn::Proof { nodes, .. }
                | WaitingOn::Restoration { nodes, .. }
                | WaitingOn::Verification { nodes },
            ) => nodes.into_iter().map(|(node, _)| node).collect(),
            Some(WaitingOn::Bake { nodes, .. } | WaitingOn::Confirmation { nodes, .. }) => nodes,
            Some(_) | None => Vec::new(),
        };
        nodes.iter().for_each(|node| witness.look(node, now));
        if calm == Calm::Helpful {
            help(witness, now);
        }
        let Some(wake) = witness.deployment.wake_at() else { continue };
        // Whoever waits for nodes looks often, who waits for nobody sleeps.
        let nap = if nodes.is_empty() { Millis(u64::MAX) } else { seconds(2) };
        now = now.after(wake.since(now).min(nap));
    }
}

fn help(witness: &mut Witness, now: Timestamp) {
    answer(witness, Says::Yes, About::TheQuestion, now);
    report(witness, Says::Yes, About::TheQuestion, now);
    let told = |command| Event::Told { by: "carol".into(), command };
    if witness.deployment.paused().is_some() {
        witness.tell(told(Command::Resume), now);
    }
    // Capacity does not come back because somebody wishes it.
    let short = |halt: &Halt| matches!(halt, Halt::Failure { cause: Cause::CapacityLost { .. } });
    match witness.deployment.halted().map(|halted| short(&halted.halt)) {
        Some(true) => drop(witness.tell(told(Command::Abort { mode: AbortMode::RollBack }), now)),
        Some(false) => drop(witness.tell(told(Command::Promote { again: Again::Skip }), now)),
        None => {}
    }
}
