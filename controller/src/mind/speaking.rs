//! What the mind says, once what it rests on is saved: orders, challenges, answers. Until then it is only noted here.

use std::collections::BTreeSet;

use fleet::{NodeName, Nonce};
use fleet_proto::v1;

use super::ask::{Refusal, Reply};
use super::state::State;
use crate::gate_test::GateTest;
use crate::{clock, random};

/// Nonces out per node: a few rounds may be under way on a slow link; an older one than that is no proof of now.
const NONCES_OUT: usize = 8;

/// What is to be said once the facts are saved.
#[derive(Default)]
pub(super) struct Unsaid {
    /// Nodes whose orders changed: they are told everything they shall hold.
    desired: BTreeSet<NodeName>,
    /// Nodes that are asked for fresh evidence.
    challenges: BTreeSet<NodeName>,
    /// Files that nodes shall show.
    reveals: Vec<(NodeName, v1::Reveal)>,
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

    /// Asks a node to show files.
    pub(super) fn say_reveal(&mut self, node: NodeName, reveal: v1::Reveal) {
        self.unsaid.reveals.push((node, reveal));
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
            let orders = self.orders_of(node).map(|order| order.clone().into()).collect();
            let migrations = self
                .running()
                .filter_map(|(_, journaled)| journaled.deployment.migration_order())
                .filter(|migration| migration.node == *node)
                .map(Into::into)
                .collect();
            let desired = v1::Desired { orders, permit_ms: self.permit.0, migrations };
            self.send(node, v1::to_agent::Message::Desired(desired));
            // After the orders that they rest on; said again with them until their end has been reported.
            for repair in self.open_repairs(node) {
                self.send(node, v1::to_agent::Message::Repair(repair.into()));
            }
        }
        for (node, reveal) in unsaid.reveals {
            self.send(&node, v1::to_agent::Message::Reveal(reveal));
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

    /// The nonce is drawn now and not when it was decided to ask: freshness counts from here.
    fn send_challenge(&mut self, node: &NodeName) {
        let Ok(bits) = random::bits() else {
            tracing::error!(%node, "the operating system gives no random bits: no challenge is sent");
            return;
        };
        let nonce = Nonce::from_random(bits);
        let Some(seen) = self.seen.get_mut(node) else { return };
        if seen.link.is_none() {
            return;
        }
        if seen.nonces.len() == NONCES_OUT {
            seen.nonces.remove(0);
        }
        seen.nonces.push((nonce.clone(), clock::now()));
        self.send(node, v1::to_agent::Message::Challenge(v1::Challenge { nonce: nonce.into() }));
    }

    /// A full outbox means an agent that does not read: its link is dropped, and it will dial again.
    fn send(&mut self, node: &NodeName, message: v1::to_agent::Message) {
        let Some(seen) = self.seen.get_mut(node) else { return };
        let Some(link) = &seen.link else { return };
        if link.outbox.try_send(v1::ToAgent { message: Some(message) }).is_err() {
            tracing::warn!(%node, "the agent does not read its stream: closing it");
            seen.link = None;
        }
    }
}
