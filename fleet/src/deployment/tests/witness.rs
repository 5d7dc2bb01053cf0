//! A witness lives through one deployment: tells it what arrives, checks every invariant on every fact and after every
//! event, and carries the orders to the world. It keeps a second deployment to which only the facts are applied, so that
//! replaying the journal is compared with having lived it at every step and not only at the end.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU64, Ordering};

use crate::deployment::tests::invariants::{AT_REST, Moment, ON_EVERY_FACT, Rest};
use crate::deployment::tests::record::Record;
use crate::deployment::tests::verdicts::AT_THE_END;
use crate::deployment::tests::world::World;
use crate::deployment::{Deployment, Event, Fact, Observation, Seen, Spec};
use crate::evidence::Confirmation;
use crate::{NodeName, Order, Timestamp};

/// How many events all witnesses of this run of the tests have told.
pub(super) static EVENTS: AtomicU64 = AtomicU64::new(0);
/// How many facts came of it.
pub(super) static FACTS: AtomicU64 = AtomicU64::new(0);

/// What happened to a deployment from outside: enough to live it again.
#[derive(Debug, Clone)]
enum Input {
    Told(Event, Timestamp),
    /// The controller died when so many facts were written down.
    Died(usize, Timestamp),
}

/// One deployment and all that is known about it.
#[derive(Debug)]
pub(super) struct Witness {
    pub(super) deployment: Deployment,
    pub(super) journal: Vec<Fact>,
    pub(super) world: World,
    mirror: Deployment,
    record: Record,
    /// What each node was told last.
    said: BTreeMap<NodeName, Order>,
    /// Every observation that was ever made: each may arrive again, at any time.
    pub(super) seen: Vec<(NodeName, Observation)>,
    inputs: Vec<Input>,
    listening_since: Timestamp,
}

impl Witness {
    pub(super) fn new(spec: Spec, world: World, now: Timestamp) -> Self {
        let planned = Fact::Planned { at: now, spec: Box::new(spec) };
        let deployment = Deployment::planned(&planned).unwrap();
        Self {
            mirror: deployment.clone(),
            record: Record::of(&deployment),
            deployment,
            journal: vec![planned],
            world,
            said: BTreeMap::new(),
            seen: Vec::new(),
            inputs: Vec::new(),
            listening_since: now,
        }
    }

    /// Something arrives.
    pub(super) fn tell(&mut self, event: Event, now: Timestamp) -> Vec<Fact> {
        self.live(event, now, usize::MAX)
    }

    /// Something arrives, and the controller dies when so many of the facts that came of it are written down; the next
    /// one takes up what is written.
    pub(super) fn tell_and_die(&mut self, event: Event, now: Timestamp, written: usize) {
        self.live(event, now, written);
        self.inputs.push(Input::Died(self.journal.len(), now));
        self.deployment = Deployment::replay(&self.journal).unwrap();
        self.deployment.resume(now);
        self.listening_since = now;
        self.said = self.deployment.orders().into_iter().map(|order| (order.node.clone(), order)).collect();
        self.say_everything_again(now);
        self.tell(Event::Tick, now);
    }

    fn live(&mut self, event: Event, now: Timestamp, written: usize) -> Vec<Fact> {
        EVENTS.fetch_add(1, Ordering::Relaxed);
        let allowed = match &event {
            Event::Told { command, .. } => Some(self.deployment.check(command, now).is_ok()),
            _ => None,
        };
        let contradicts: Vec<_> =
            self.deployment.nodes.entries().iter().map(|entry| entry.ear.differs.clone()).collect();
        let mut facts = self.deployment.handle(&event, now);
        self.inputs.push(Input::Told(event.clone(), now));
        facts.truncate(written);
        FACTS.fetch_add(facts.len() as u64, Ordering::Relaxed);
        for fact in &facts {
            let moment = Moment {
                before: &self.mirror,
                ears: &self.deployment,
                fact,
                event: &event,
                now,
                record: &self.record,
                world: &self.world,
                listening_since: self.listening_since,
                contradicts: &contradicts,
            };
            for (name, rule) in ON_EVERY_FACT {
                let told =
                    |why| panic!("{name}: {why}\nfact: {fact:?}\nevent: {event:?}\nphase: {:?}", self.mirror.phase());
                rule(&moment).unwrap_or_else(told);
            }
            self.record.note(fact);
            self.mirror.apply(fact);
        }
        self.journal.extend(facts.iter().cloned());
        if written == usize::MAX {
            self.rest(&event, &facts, allowed, now);
            self.speak(&facts, now);
        }
        facts
    }

    fn rest(&mut self, event: &Event, fresh: &[Fact], allowed: Option<bool>, now: Timestamp) {
        for fact in fresh {
            if let Fact::NodeDecommissioned { node, .. } = fact {
                self.said.remove(node);
            }
            for order in self.deployment.orders_by(fact) {
                let before = self.said.insert(order.node.clone(), order.clone());
                let forth = before.as_ref().is_none_or(|before| before.generation <= order.generation);
                assert!(forth, "an_agent_never_goes_back_a_generation: {before:?}, then {order:?}");
            }
        }
        let rest = Rest {
            after: &self.deployment,
            mirror: &self.mirror,
            event,
            fresh,
            allowed,
            now,
            record: &self.record,
            said: &self.said,
            journal: &self.journal,
        };
        for (name, rule) in AT_REST {
            let told =
                |why| panic!("{name}: {why}\nevent: {event:?}\nfacts: {fresh:?}\nphase: {:?}", self.mirror.phase());
            rule(&rest).unwrap_or_else(told);
        }
    }

    /// The world hears what was written down before.
    fn speak(&mut self, facts: &[Fact], now: Timestamp) {
        let orders: Vec<Order> = facts.iter().flat_map(|fact| self.deployment.orders_by(fact)).collect();
        orders.iter().for_each(|order| self.world.hear(order, now));
    }

    /// Saying an order again is harmless.
    pub(super) fn say_everything_again(&mut self, now: Timestamp) {
        self.deployment.orders().iter().for_each(|order| self.world.hear(order, now));
    }

    /// A node is asked for fresh evidence. The answer is remembered, and returned if there is one.
    pub(super) fn ask(&mut self, node: &NodeName, now: Timestamp) -> Option<Observation> {
        let observation = self.world.observe(node, now)?;
        self.seen.push((node.clone(), observation.clone()));
        Some(observation)
    }

    /// A node is asked, its answer arrives, and is confirmed if it has to be.
    pub(super) fn look(&mut self, node: &NodeName, now: Timestamp) {
        let Some(observation) = self.ask(node, now) else { return };
        let awaited = matches!(observation.seen, Seen::Proven { confirmation: Confirmation::Awaited, .. });
        let generation = observation.generation;
        self.tell(Event::Observed { node: node.clone(), observation }, now);
        if awaited {
            self.world.confirm(node, generation, now);
        }
    }

    pub(super) fn is_over(&self) -> bool {
        self.deployment.outcome().is_some()
    }

    /// Checks what must hold of an ended deployment, and that nothing but its own events has shaped it.
    pub(super) fn close(&self) {
        for (name, rule) in AT_THE_END {
            if let Err(why) = rule(&self.deployment, &self.record) {
                let last = &self.journal[self.journal.len().saturating_sub(8)..];
                panic!("{name}: {why}\noutcome: {:?}\nlast facts: {last:#?}", self.deployment.outcome());
            }
        }
        let replayed = Deployment::replay(&self.journal).unwrap();
        assert_eq!(replayed, self.deployment, "replaying_the_journal_gives_the_same_deployment, at the end");
        let written = serde_json::to_string(&self.journal).unwrap();
        let read: Vec<Fact> = serde_json::from_str(&written).unwrap();
        assert_eq!(read, self.journal, "a_journal_survives_being_written_down");
        assert_eq!(self.lived_again(), self.journal, "the_same_events_give_the_same_facts_whatever_happens_elsewhere");
    }

    /// The journal that comes of the same events when this deployment is alone in the world.
    fn lived_again(&self) -> Vec<Fact> {
        let mut journal = self.journal[..1].to_vec();
        let mut deployment = Deployment::planned(&journal[0]).unwrap();
        for input in &self.inputs {
            match input {
                Input::Told(event, now) => journal.extend(deployment.handle(event, *now)),
                Input::Died(written, now) => {
                    journal.truncate(*written);
                    deployment = Deployment::replay(&journal).unwrap();
                    deployment.resume(*now);
                }
            }
        }
        journal
    }
}
