//! What the mind says, once what it rests on is saved: orders, challenges, answers. Until then it is only noted here.

use std::collections::BTreeSet;

use fleet::{NodeName, Nonce};
use fleet_proto::v1;

use super::ask::{Refusal, Reply};
use super::state::{NodeSeen, State};
use crate::gate_test::GateTest;
use crate::{clock, random};

/// What is to be said once the facts are saved.
#[derive(Default)]
pub(super) struct Unsaid {
    /// Nodes whose orders changed: they are told everything they shall hold.
    desired: BTreeSet<NodeName>,
    /// Nodes that are asked for fresh evidence.
    challenges: BTreeSet<NodeName>,
    /// Tests to run on this host.
    tests: Vec<GateTest>,
    /// Answers to questions.
    answers: Vec<Box<dyn FnOnce() + Send>>,
}

impl State {
    /// Tells a node everything it shall hold, and asks what it makes of it.
    pub(super) fn say_desired(&mut self, node: &NodeName) {
        self.unsaid.desired.insert(node.clone());
        self.challenge(node);
    }

    /// Asks a node for fresh evidence.
    pub(super) fn challenge(&mut self, node: &NodeName) {
        self.unsaid.challenges.insert(node.clone());
    }

    /// Asks every connected node for fresh evidence.
    pub(super) fn ask_everyone(&mut self) {
        let connected = self.seen.iter().filter(|(_, seen)| seen.link.is_some()).map(|(node, _)| node.clone());
        self.unsaid.challenges.extend(connected);
    }

    /// Answers once everything decided so far is saved.
    pub(super) fn reply<T: Send + 'static>(&mut self, to: Reply<T>, answer: Result<T, Refusal>) {
        // Whoever asked may have gone; then nobody needs the answer.
        self.unsaid.answers.push(Box::new(move || drop(to.send(answer))));
    }

    /// Says what was decided; the facts are saved.
    pub(super) fn speak(&mut self) {
        let unsaid = std::mem::take(&mut self.unsaid);
        for node in &unsaid.desired {
            // Nothing is ordered of two agents under one identity: both would do it.
            if self.seen.get(node).is_some_and(NodeSeen::is_contested) {
                continue;
            }
            let orders = self.orders_of(node).map(|order| order.clone().into()).collect();
            let migrations = self
                .running()
                .filter_map(|(_, journaled)| journaled.deployment.migration_order())
                .filter(|migration| migration.node == *node)
                .map(Into::into)
                .collect();
            let desired = v1::Desired { orders, permit_ms: self.permit.0, migrations };
            self.send(node, v1::ToAgent { message: Some(v1::to_agent::Message::Desired(desired)) });
        }
        for node in &unsaid.challenges {
            self.send_challenge(node);
        }
        for test in unsaid.tests {
            tokio::spawn(test.run());
        }
        for answer in unsaid.answers {
            answer();
        }
    }

    /// Runs a test on this host once its asking is saved.
    pub(super) fn run_test(&mut self, test: GateTest) {
        self.unsaid.tests.push(test);
    }

    /// The nonce is drawn now and not when it was decided to ask: freshness counts from here. An older stream of the
    /// same node is asked once, with a nonce of its own.
    fn send_challenge(&mut self, node: &NodeName) {
        let Some(seen) = self.seen.get_mut(node) else { return };
        for rival in seen.rivals.iter_mut().filter(|rival| rival.asked.is_none()) {
            let Some(nonce) = draw(node) else { return };
            rival.asked = Some(nonce.clone());
            // One that does not read does not live.
            let _ = rival.link.outbox.try_send(Ok(challenge(nonce)));
        }
        if seen.link.is_none() {
            return;
        }
        let Some(nonce) = draw(node) else { return };
        seen.asked.ask(nonce.clone(), clock::now());
        self.send(node, challenge(nonce));
    }

    /// A full outbox means an agent that does not read: its link is dropped, and it will dial again.
    fn send(&mut self, node: &NodeName, message: v1::ToAgent) {
        let Some(seen) = self.seen.get_mut(node) else { return };
        let Some(link) = &seen.link else { return };
        if link.outbox.try_send(Ok(message)).is_err() {
            tracing::warn!(%node, "the agent does not read its stream: closing it");
            seen.link = None;
        }
    }
}

fn draw(node: &NodeName) -> Option<Nonce> {
    let bits = random::bits();
    let told = |_: &_| tracing::error!(%node, "the operating system gives no random bits: no challenge is sent");
    bits.inspect_err(told).ok().map(Nonce::from_random)
}

fn challenge(nonce: Nonce) -> v1::ToAgent {
    v1::ToAgent { message: Some(v1::to_agent::Message::Challenge(v1::Challenge { nonce: nonce.into() })) }
}
