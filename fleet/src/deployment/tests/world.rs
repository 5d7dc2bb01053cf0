//! A world for deployments to live in: names, specs, and agents that do with orders what real agents do, good ones and
//! others. What a node claims and what it holds are kept apart, so that a test can say which of them was believed.

use std::collections::{BTreeMap, BTreeSet};

use crate::capacity::Parallel;
use crate::deployment::{Budget, Kind, Observation, OnFailure, Previous, Seen, Spec};
use crate::evidence::Confirmation;
use crate::order::{Reception, receive};
use crate::release::Grade;
use crate::{Digest, Generation, Hold, Millis, NodeName, Order, Timestamp};

/// Milliseconds in a second.
pub(super) const SECOND: u64 = 1_000;
/// The generation of what nodes hold before anything is deployed.
pub(super) const BEFORE: Generation = Generation(1);

/// What a node of the world really does with orders.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Nature {
    /// Carries orders out in so many seconds.
    Good(u64),
    /// Does not serve before it is changed, then good.
    Broken,
    /// Fails the new release after so many seconds and is back on the old one.
    Refuses(u64),
    /// Says that it holds what it does not.
    Lies,
    /// Never answers.
    Silent,
    /// Holds the new release and falls back after so many seconds.
    FallsBack(u64),
    /// Fails the new release, and cannot go back either.
    Stuck,
    /// Is away for so many seconds, then good.
    Late(u64),
    /// Holds the new release, and its processes die and come back all the time.
    Crashes,
}

/// One agent and what its node holds.
#[derive(Debug, Clone)]
pub(super) struct Agent {
    nature: Nature,
    /// What it held before its order.
    held: Hold,
    order: Option<Order>,
    since: Timestamp,
    confirmed: bool,
    /// When this machine joined the fleet: nothing said before was said by it.
    pub(super) born: Timestamp,
}

/// The agents of one service.
#[derive(Debug, Clone)]
pub(super) struct World {
    /// The generation of the orders forward.
    forward: Generation,
    agents: BTreeMap<NodeName, Agent>,
    /// Who cannot be reached until when.
    outages: BTreeMap<NodeName, Timestamp>,
}

pub(super) fn hold(release: &str) -> Hold {
    Hold::Release { release: release.parse().unwrap(), bundle: Digest([1; 32]), size: 1 }
}

pub(super) fn old() -> Hold {
    hold("r-aaaaaaaaaaaa")
}

pub(super) fn new() -> Hold {
    hold("r-bbbbbbbbbbbb")
}

pub(super) fn older() -> Hold {
    hold("r-cccccccccccc")
}

pub(super) fn node(n: usize) -> NodeName {
    format!("n{n}").parse().unwrap()
}

pub(super) fn seconds(n: u64) -> Millis {
    Millis(n * SECOND)
}

/// A plain deployment: segments of these sizes, filled with n1, n2, ..., and then so many absent nodes.
pub(super) fn spec(sizes: &[usize], absent: usize) -> Spec {
    let mut names = (1..).map(node);
    let segments: Vec<Vec<NodeName>> = sizes.iter().map(|&size| names.by_ref().take(size).collect()).collect();
    let absent: Vec<NodeName> = names.take(absent).collect();
    let previous = segments
        .iter()
        .flatten()
        .chain(&absent)
        .map(|n| (n.clone(), Previous { hold: old(), version: Some("1.0.0".parse().unwrap()) }))
        .collect();
    Spec {
        id: "d-test".parse().unwrap(),
        service: "web".parse().unwrap(),
        environment: "prod".into(),
        kind: Kind::Rollout,
        target: new(),
        version: "2.0.0".parse().unwrap(),
        segments,
        absent,
        previous,
        generation: Generation(10),
        rollback_generation: Generation(11),
        unhealthy: BTreeSet::new(),
        parallel: Parallel::All,
        floor: 0,
        gates: Vec::new(),
        pause_after: BTreeSet::new(),
        migration: None,
        confirm: Millis(0),
        pause_deadline: seconds(600),
        waivers: BTreeMap::new(),
        limit: String::new(),
        plan: None,
        supersedes: None,
        max_failures: Budget::Nodes(0),
        bake: seconds(5),
        node_deadline: seconds(60),
        settle: seconds(6),
        absent_grace: seconds(10),
        on_failure: OnFailure::Rollback,
        actor: "alice".into(),
        message: String::new(),
    }
}

impl World {
    /// The expected nodes of a deployment, each holding what it held before.
    pub(super) fn of(spec: &Spec, nature: impl Fn(&NodeName) -> Nature, now: Timestamp) -> Self {
        let mut world = Self { forward: spec.generation, agents: BTreeMap::new(), outages: BTreeMap::new() };
        for name in spec.expected() {
            world.join(name, nature(name), spec.previous[name].hold.clone(), now);
        }
        world
    }

    pub(super) fn join(&mut self, node: &NodeName, nature: Nature, held: Hold, now: Timestamp) {
        let agent = Agent { nature, held, order: None, since: now, confirmed: false, born: now };
        self.agents.insert(node.clone(), agent);
    }

    pub(super) fn leave(&mut self, node: &NodeName) {
        self.agents.remove(node);
    }

    pub(super) fn agent(&self, node: &NodeName) -> Option<&Agent> {
        self.agents.get(node)
    }

    pub(super) fn cut_off(&mut self, node: &NodeName, until: Timestamp) {
        self.outages.insert(node.clone(), until);
    }

    fn is_cut_off(&self, node: &NodeName, now: Timestamp) -> bool {
        self.outages.get(node).is_some_and(|until| now < *until)
    }

    /// An order arrives, or is lost.
    pub(super) fn hear(&mut self, order: &Order, now: Timestamp) {
        if self.is_cut_off(&order.node, now) {
            return;
        }
        let holds = self.holds(&order.node, now);
        let Some(agent) = self.agents.get_mut(&order.node) else { return };
        match receive(agent.order.as_ref(), order) {
            Reception::Newer => {
                agent.held = holds.unwrap_or_else(|| agent.held.clone());
                (agent.order, agent.since, agent.confirmed) = (Some(order.clone()), now, false);
            }
            Reception::Same | Reception::Older => {}
            Reception::Contradiction => panic!("one generation, two wishes: {:?} and {order:?}", agent.order),
        }
    }

    /// The controller's confirmation arrives; too late, it changes nothing.
    pub(super) fn confirm(&mut self, node: &NodeName, generation: Generation, now: Timestamp) {
        let wanted =
            |agent: &Agent| agent.order.as_ref().filter(|o| o.generation == generation).map(|o| o.hold.clone());
        let holds = self.holds(node, now);
        if let Some(agent) = self.agents.get_mut(node)
            && holds.is_some()
            && holds == wanted(agent)
        {
            agent.confirmed = true;
        }
    }

    /// What really runs on a node: None while it changes, or when nobody can know.
    pub(super) fn holds(&self, node: &NodeName, now: Timestamp) -> Option<Hold> {
        let agent = self.agents.get(node)?;
        let Some(order) = &agent.order else { return Some(agent.held.clone()) };
        let (held, wanted) = (agent.held.clone(), order.hold.clone());
        let age = now.since(agent.since);
        match (agent.nature, order.generation == self.forward) {
            (Nature::Silent, _) | (Nature::Stuck, false) => None,
            (Nature::Lies, _) => Some(held),
            (Nature::Refuses(s), true) => (age >= seconds(s)).then_some(held),
            (Nature::Stuck, true) => (age >= seconds(1)).then_some(held),
            (Nature::FallsBack(s), true) if age >= seconds(s) => Some(held),
            (Nature::Good(_) | Nature::Broken | Nature::Late(_) | Nature::Crashes | Nature::FallsBack(_), _)
            | (Nature::Refuses(_), false) => match agent.is_undone(now) {
                true => Some(held),
                false => (age >= agent.work()).then_some(wanted),
            },
        }
    }

    /// Whether a node loses by itself what it held.
    pub(super) fn falls_back(&self, node: &NodeName) -> bool {
        self.agents.get(node).is_some_and(|agent| matches!(agent.nature, Nature::FallsBack(_)))
    }

    /// An honest comparison of what a node shall hold with what it really holds, asked for now.
    pub(super) fn observe(&self, node: &NodeName, now: Timestamp) -> Option<Observation> {
        let agent = self.agents.get(node)?;
        let away = matches!(agent.nature, Nature::Late(s) if now < Timestamp((s * SECOND) as i64));
        if agent.nature == Nature::Silent || away || self.is_cut_off(node, now) {
            return None;
        }
        let (generation, wanted) = match &agent.order {
            Some(order) => (order.generation, order.hold.clone()),
            None => (BEFORE, agent.held.clone()),
        };
        let forward = generation == self.forward;
        let seen = match self.holds(node, now) {
            _ if agent.nature == Nature::Broken && agent.order.is_none() => Seen::Differs { reason: "dead".into() },
            None if agent.nature == Nature::Stuck && !forward => Seen::Failed { reason: "cannot go back".into() },
            None => Seen::Working { detail: "stage".into() },
            Some(held) if held == wanted => {
                let up = if agent.nature == Nature::Crashes { seconds(2) } else { agent.up(now) };
                Seen::Proven { grade: Grade::Digest, up, confirmation: agent.confirmation() }
            }
            Some(_) => match agent.nature {
                Nature::Refuses(_) | Nature::Stuck => Seen::Failed { reason: "probe: 503".into() },
                _ if agent.is_undone(now) => Seen::Failed { reason: "not confirmed in time".into() },
                _ => Seen::Differs { reason: "old-process: pid 1".into() },
            },
        };
        Some(Observation { asked_at: now, generation, seen })
    }
}

impl Agent {
    /// How long it takes to carry an order out.
    fn work(&self) -> Millis {
        match self.nature {
            Nature::Good(s) => seconds(s),
            Nature::FallsBack(_) => Millis(0),
            Nature::Broken
            | Nature::Refuses(_)
            | Nature::Lies
            | Nature::Silent
            | Nature::Stuck
            | Nature::Late(_)
            | Nature::Crashes => seconds(1),
        }
    }

    fn up(&self, now: Timestamp) -> Millis {
        match self.order {
            Some(_) => now.since(self.since.after(self.work())),
            None => Millis(u64::MAX),
        }
    }

    /// Of the order that it carries out.
    pub(super) fn generation(&self) -> Option<Generation> {
        self.order.as_ref().map(|order| order.generation)
    }

    fn confirm(&self) -> Millis {
        self.order.as_ref().map(|order| order.confirm).unwrap_or_default()
    }

    fn is_undone(&self, now: Timestamp) -> bool {
        self.confirm() > Millis(0) && !self.confirmed && now >= self.since.after(self.work()).after(self.confirm())
    }

    /// Whether it may still undo by itself what it was ordered.
    pub(super) fn confirmation(&self) -> Confirmation {
        if self.confirm() > Millis(0) && !self.confirmed { Confirmation::Awaited } else { Confirmation::Given }
    }
}
