//! Driving the deployment of a story, as a controller does: journal first, then say; orders again and again, and a look
//! at every node in contact; a gate's source and the node of the migration are told, and what they answer arrives later.

use fleet::deployment::{Asking, Event, Fact, MigrationReport, Observation, Phase, Seen, Verdict};
use fleet::evidence::Confirmation;
use fleet::order::Reception;
use fleet::{Millis, NodeName, Order};

use super::machine::{Begun, Machine};
use super::play::{Controller, Play};
use super::story::{GateAnswer, Says};
use super::transcript::Voice;

impl Play<'_> {
    /// Hands an event to the deployment; journals, and then says what follows.
    pub(super) fn receive(&mut self, event: &Event) {
        let Controller::Drives(deployment) = &mut self.controller else { return };
        let facts = deployment.handle(event, self.now);
        let orders: Vec<Vec<Order>> = facts.iter().map(|fact| deployment.orders_by(fact)).collect();
        let segments = deployment.segments().len();
        self.journal.extend(facts.iter().cloned());
        for (fact, orders) in facts.iter().zip(orders) {
            self.say(Voice::Fact, &in_words(fact, segments));
            self.send(&orders);
            if let Fact::GateStarted { asking, .. } = fact {
                self.ask(*asking);
            }
            if let Fact::MigrationStarted { .. } = fact {
                self.tell_migration();
            }
        }
    }

    fn send(&mut self, orders: &[Order]) {
        let mut alike: Vec<(String, Vec<&str>)> = Vec::new();
        for order in orders {
            let words = format!("hold {} (generation {})", self.releases.words(&order.hold), order.generation);
            match alike.iter_mut().find(|(said, _)| *said == words) {
                Some((_, nodes)) => nodes.push(order.node.as_str()),
                None => alike.push((words, vec![order.node.as_str()])),
            }
        }
        for (words, nodes) in alike {
            self.say(Voice::Order, &format!("{}: {words}", nodes.join(", ")));
        }
        for order in orders {
            self.deliver(order);
        }
    }

    /// An order reaches its node, if it can be reached.
    fn deliver(&mut self, order: &Order) {
        let now = self.now;
        if let Some(machine) = self.machine(&order.node).filter(|machine| machine.is_in_contact()) {
            machine.hear(order, now);
        }
    }

    pub(super) fn machine(&mut self, node: &NodeName) -> Option<&mut Machine> {
        self.machines.iter_mut().find(|(name, _)| name == node).map(|(_, machine)| machine)
    }

    /// Asks whoever answers for a gate.
    pub(super) fn ask(&mut self, asking: Asking) {
        let name = self.story.request.gates.get(asking.gate).map(|gate| gate.name.as_str()).unwrap_or_default();
        let Some(GateAnswer { says, after }) = self.gates.get(name).cloned() else { return };
        let verdict = match says {
            Says::Passes(detail) => Verdict::Passed { detail },
            Says::Fails(detail) => Verdict::Failed { detail },
            Says::Inconclusive(detail) => Verdict::Inconclusive { detail },
            Says::Nothing => return,
        };
        self.post(after, Event::GateAnswered { asking, verdict });
    }

    /// The question that is open now.
    pub(super) fn asking(&self) -> Option<Asking> {
        match &self.controller {
            Controller::Drives(deployment) => match deployment.phase() {
                Phase::Gating { asking, .. } => Some(asking),
                _ => None,
            },
            Controller::Dead { .. } | Controller::Refused(_) => None,
        }
    }

    /// A gate's source answers otherwise from now on, and so does it to a question that is open.
    pub(super) fn ask_again(&mut self, gate: &str) {
        let is_meant = |asking: &Asking| self.story.request.gates.get(asking.gate).is_some_and(|g| g.name == gate);
        if let Some(asking) = self.asking().filter(is_meant) {
            self.ask(asking);
        }
    }

    /// A message to the controller, which arrives after a while, and is lost if there is no controller then.
    fn post(&mut self, after: Millis, event: Event) {
        self.sent += 1;
        self.messages.insert((self.now.after(after), self.sent), event);
    }

    /// Every node in contact hears its order again and is asked what it runs.
    pub(super) fn look_at_all(&mut self) {
        for index in 0..self.machines.len() {
            let Controller::Drives(deployment) = &self.controller else { return };
            let name = self.machines[index].0.clone();
            self.looks += 1;
            if !self.machines[index].1.is_in_contact() {
                continue;
            }
            if let Some(order) = deployment.order_for(&name)
                && self.machines[index].1.hear(&order, self.now) == Reception::Newer
            {
                let words = self.releases.words(&order.hold);
                self.say(
                    Voice::Order,
                    &format!("{name} hears it only now: hold {words} (generation {})", order.generation),
                );
            }
            let machine = &mut self.machines[index].1;
            let (observation, after) = (machine.look(self.now, &self.releases), machine.answers_after());
            if after == Millis(0) {
                self.observe(name, observation);
            } else {
                self.post(after, Event::Observed { node: name, observation });
            }
        }
        self.tell_migration();
    }

    fn observe(&mut self, node: NodeName, observation: Observation) {
        let trial = matches!(observation.seen, Seen::Proven { confirmation: Confirmation::Awaited, .. });
        self.receive(&Event::Observed { node: node.clone(), observation });
        if trial && let Some(machine) = self.machine(&node) {
            machine.confirm();
        }
    }

    /// The node that is to run the migration is told so again; it knows it by its number.
    fn tell_migration(&mut self) {
        let Controller::Drives(deployment) = &self.controller else { return };
        let Some(order) = deployment.migration_order() else { return };
        let (now, conduct) = (self.now, self.migration.clone());
        let Some(machine) = self.machine(&order.node).filter(|machine| machine.is_in_contact()) else { return };
        let (begun, report) = machine.migrate(&order, &conduct, now);
        if begun == Begun::Now {
            self.migrations += 1;
            self.say(Voice::World, &format!("{} runs the migration, attempt {}", order.node, order.attempt));
        }
        let ended = !matches!(report, MigrationReport::Running { .. });
        if begun == Begun::Before || ended {
            self.receive(&Event::MigrationReported { node: order.node, attempt: order.attempt, report });
        }
    }
}

/// A fact as a line, with what it speaks of before it.
fn in_words(fact: &Fact, segments: usize) -> String {
    match (fact.node(), fact.segment()) {
        (Some(node), _) => format!("{node}: {fact}"),
        (None, Some(segment)) => format!("segment {}/{segments}: {fact}", segment + 1),
        (None, None) => fact.to_string(),
    }
}
