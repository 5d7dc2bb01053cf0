//! Everything that arrives during one deployment, recorded before anything is timed. The engine itself is played
//! against a fleet whose nodes answer after pseudo-random delays, always the same ones: so observations of all nodes
//! arrive shuffled, each node is seen several times (waiting for its turn, at work, proven and not yet confirmed,
//! proven, after the bake, in the last round), and old observations arrive late.

use std::collections::BTreeMap;

use anyhow::{Context as _, bail, ensure};
use fleet::deployment::plan::{Candidate, Request, plan};
use fleet::deployment::{Command, Deployment, Event, Fact, Observation, Seen};
use fleet::evidence::Confirmation;
use fleet::release::Grade;
use fleet::{Generation, Millis, NodeName, Order, Outcome, Timestamp};

use crate::engine::shape::{BAKE, Fate, START, Shape, Trouble};

/// The generation of the orders that the nodes held before.
const BEFORE: Generation = Generation(1);
/// The generation of the orders forward; those back have the next.
const FORWARD: Generation = Generation(10);
/// How long a service that is proven has been up: longer than any bake.
const UP: Millis = Millis::from_secs(3_600);
/// More events a node than any shape has: a story that does not end is a mistake here, and is not waited for.
const MOST_EVENTS_A_NODE: usize = 100;

/// One deployment from its plan to its end, ready to be played again.
#[derive(Debug, Clone)]
pub struct Story {
    /// What is asked for.
    pub request: Request,
    /// The fleet.
    pub candidates: Vec<Candidate>,
    /// What arrives, and when.
    pub events: Vec<(Timestamp, Event)>,
    /// What comes of it.
    pub told: Told,
}

/// What a deployment said in all.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Told {
    /// Facts to be journaled, the first one included.
    pub facts: usize,
    /// Orders to be sent.
    pub orders: usize,
    /// How it ended.
    pub outcome: Option<Outcome>,
}

/// Makes a plan and the deployment that carries it out.
///
/// # Errors
/// When the engine refuses the plan.
pub fn begin(request: &Request, candidates: Vec<Candidate>) -> anyhow::Result<Deployment> {
    let plan = plan(request, candidates, "p-bench1".parse()?, None, START)?;
    ensure!(plan.blocks.is_empty(), "the plan is blocked: {:?}", plan.blocks);
    let spec = plan.spec("d-bench".parse()?, FORWARD, request.actor.clone());
    let planned = Fact::Planned { at: START, spec: Box::new(spec) };
    Deployment::planned(&planned).context("a deployment begins with its plan")
}

/// Plays one event as a driver does: judges, asks for the orders that came of each fact, and when to wake up.
pub fn drive(deployment: &mut Deployment, event: &Event, now: Timestamp, told: &mut Told) -> (Vec<Fact>, Vec<Order>) {
    let facts = deployment.handle(event, now);
    let mut orders = Vec::new();
    for fact in &facts {
        orders.append(&mut deployment.orders_by(fact));
    }
    std::hint::black_box(deployment.wake_at());
    told.facts += facts.len();
    told.orders += orders.len();
    (facts, orders)
}

/// The fleet that answers, and what of it is still on its way.
struct Fleet {
    /// What becomes of each node.
    fates: BTreeMap<NodeName, Fate>,
    /// The generation of the order that each holds.
    generations: BTreeMap<NodeName, Generation>,
    /// What is still to arrive, by time; the number keeps two at one moment apart.
    coming: BTreeMap<(Timestamp, u64), Event>,
    sent: u64,
    chance: u64,
}

impl Story {
    /// Records the deployment of a shape on so many nodes.
    ///
    /// # Errors
    /// When the engine refuses it, or it ends otherwise than the shape says.
    pub fn record(shape: &Shape, nodes: usize) -> anyhow::Result<Self> {
        let (request, candidates) = (shape.request(nodes)?, shape.candidates(nodes)?);
        let mut deployment = begin(&request, candidates.clone())?;
        let mut fleet = Fleet::of(&deployment, shape, nodes);
        let mut told = Told { facts: 1, ..Told::default() };
        let mut events: Vec<(Timestamp, Event)> = Vec::new();
        let (mut now, mut event) = (START, Event::Tick);
        let mut proven = 0;
        loop {
            let (facts, orders) = drive(&mut deployment, &event, now, &mut told);
            events.push((now, event));
            for order in &orders {
                fleet.take(order, now);
            }
            for fact in &facts {
                fleet.learn(fact, &deployment);
                if let Fact::NodeProven { .. } = fact {
                    proven += 1;
                    if shape.trouble == Trouble::Pause && proven == nodes / 10 {
                        fleet.send(now, Event::Told { by: "alice".into(), command: Command::Pause });
                        let resume = Event::Told { by: "alice".into(), command: Command::Resume };
                        fleet.send(now.after(Millis::from_secs(60)), resume);
                    }
                }
            }
            told.outcome = deployment.outcome();
            if told.outcome.is_some() {
                break;
            }
            ensure!(events.len() < nodes * MOST_EVENTS_A_NODE, "{} of {nodes} nodes does not end", shape.name);
            // A moment at which it was looked at already needs no tick.
            let wake = deployment.wake_at().filter(|wake| *wake > now);
            (now, event) = match (fleet.coming.first_entry(), wake) {
                (Some(next), wake) if wake.is_none_or(|wake| next.key().0 <= wake) => {
                    let ((at, _), event) = next.remove_entry();
                    (at, event)
                }
                (_, Some(wake)) => (wake, Event::Tick),
                (_, None) => bail!("{} of {nodes} nodes waits for nothing", shape.name),
            };
        }
        ensure!(
            told.outcome == Some(shape.outcome),
            "{} of {nodes} nodes ended as {:?}, not as {:?}",
            shape.name,
            told.outcome,
            shape.outcome
        );
        Ok(Self { request, candidates, events, told })
    }
}

impl Fleet {
    fn of(deployment: &Deployment, shape: &Shape, nodes: usize) -> Self {
        let spec = deployment.spec();
        let present = spec.segments.iter().flatten();
        let fates = present.enumerate().map(|(place, node)| (node.clone(), shape.fate(place, nodes)));
        let absent = spec.absent.iter().map(|node| (node.clone(), Fate::Silent));
        let mut fleet = Self {
            fates: fates.chain(absent).collect(),
            generations: BTreeMap::new(),
            coming: BTreeMap::new(),
            sent: 0,
            chance: 0x5eed,
        };
        // Whoever waits for their turn is seen as well; some of it arrives when it is their turn already.
        for node in fleet.expected() {
            if fleet.fates[&node] != Fate::Silent {
                let at = fleet.later(START, 3_000);
                fleet.see(&node, BEFORE, at, proven(Confirmation::Given));
            }
        }
        fleet
    }

    /// What a node says of an order that it was given.
    fn take(&mut self, order: &Order, now: Timestamp) {
        self.generations.insert(order.node.clone(), order.generation);
        let (node, generation) = (&order.node, order.generation);
        let forward = generation == FORWARD;
        let mut at = now;
        for detail in ["fetch", "stage"] {
            at = self.later(at, 2_000);
            match self.fates[node] {
                Fate::Silent => return,
                Fate::Good | Fate::Fails => self.see(node, generation, at, Seen::Working { detail: detail.into() }),
            }
        }
        at = self.later(at, 2_000);
        match self.fates[node] {
            Fate::Fails if forward => self.see(node, generation, at, Seen::Failed { reason: "probe: 503".into() }),
            Fate::Good if forward => {
                self.see(node, generation, at, proven(Confirmation::Awaited));
                at = self.later(at, 1_000);
                self.see(node, generation, at, proven(Confirmation::Given));
            }
            Fate::Good | Fate::Fails | Fate::Silent => self.see(node, generation, at, proven(Confirmation::Given)),
        }
    }

    /// Whoever must be proven because of a fact is seen soon after.
    fn learn(&mut self, fact: &Fact, deployment: &Deployment) {
        let (nodes, from) = match fact {
            Fact::SegmentProven { at, segment } => (deployment.spec().segments[*segment].clone(), at.after(BAKE)),
            Fact::VerificationStarted { at } => (self.expected(), *at),
            _ => return,
        };
        for node in nodes {
            let at = self.later(from, 3_000);
            if self.fates[&node] == Fate::Silent {
                continue;
            }
            let generation = self.generations.get(&node).copied().unwrap_or(BEFORE);
            let failed = self.fates[&node] == Fate::Fails && generation == FORWARD;
            let seen = if failed { Seen::Failed { reason: "probe: 503".into() } } else { proven(Confirmation::Given) };
            self.see(&node, generation, at, seen);
        }
    }

    fn expected(&self) -> Vec<NodeName> {
        self.fates.keys().cloned().collect()
    }

    fn see(&mut self, node: &NodeName, generation: Generation, at: Timestamp, seen: Seen) {
        let observation = Observation { asked_at: at, generation, seen };
        self.send(at, Event::Observed { node: node.clone(), observation });
    }

    fn send(&mut self, at: Timestamp, event: Event) {
        self.sent += 1;
        self.coming.insert((at, self.sent), event);
    }

    /// At least a millisecond later, and less than `most` milliseconds more (splitmix64, always from the same seed).
    fn later(&mut self, from: Timestamp, most: u64) -> Timestamp {
        self.chance = self.chance.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.chance;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        from.after(Millis(1 + (z ^ (z >> 31)) % most))
    }
}

fn proven(confirmation: Confirmation) -> Seen {
    Seen::Proven { grade: Grade::Digest, up: UP, confirmation }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use crate::engine::shape::SHAPES;

    #[test]
    fn a_story_is_the_same_whenever_it_is_recorded_and_played() {
        let story = Story::record(&SHAPES[3], 40).unwrap();
        assert_eq!(Story::record(&SHAPES[3], 40).unwrap().events, story.events);
        let mut told = Told { facts: 1, ..Told::default() };
        let mut deployment = begin(&story.request, story.candidates).unwrap();
        for (now, event) in &story.events {
            drive(&mut deployment, event, *now, &mut told);
        }
        told.outcome = deployment.outcome();
        assert_eq!(told, story.told);
    }

    #[test]
    fn observations_arrive_shuffled_and_each_node_is_seen_in_every_stage() {
        let story = Story::record(&SHAPES[0], 40).unwrap();
        let mut order = Vec::new();
        let mut seen = BTreeMap::<NodeName, Vec<&Seen>>::new();
        for (_, event) in &story.events {
            if let Event::Observed { node, observation } = event {
                order.push(node.clone());
                seen.entry(node.clone()).or_default().push(&observation.seen);
            }
        }
        assert!(!order.is_sorted(), "nodes answer in no order");
        assert_eq!(seen.len(), 40);
        for (node, seen) in seen {
            let working = seen.iter().filter(|seen| matches!(seen, Seen::Working { .. })).count();
            let unconfirmed = seen
                .iter()
                .filter(|seen| matches!(seen, Seen::Proven { confirmation: Confirmation::Awaited, .. }))
                .count();
            // Before its turn, when confirmed, after the bake, in the last round.
            let proven = seen.len() - working - unconfirmed;
            assert_eq!((working, unconfirmed, proven), (2, 1, 4), "{node}");
        }
    }

    /// The work of the engine as far as it can be counted: what it says, and how often it must be asked, grows with
    /// the number of nodes and not faster.
    #[test]
    fn facts_orders_and_events_are_linear_in_the_nodes() {
        for shape in &SHAPES {
            let [small, large] = [100, 800].map(|nodes| {
                let story = Story::record(shape, nodes).unwrap();
                [story.events.len(), story.told.facts, story.told.orders].map(|count| count as f64 / nodes as f64)
            });
            for (what, (small, large)) in ["events", "facts", "orders"].iter().zip(small.into_iter().zip(large)) {
                assert!(large <= small * 1.1, "{}: {what} a node: {small} of 100, {large} of 800", shape.name);
            }
            let [events, facts, orders] = large;
            assert!(events <= 12.0 && facts <= 9.0 && orders <= 2.0, "{}: {large:?} a node", shape.name);
        }
    }
}
