//! What the mind says, once what it rests on is saved: orders, challenges, answers. Until then it is only noted here.

use std::collections::{BTreeMap, BTreeSet};

use fleet::looked::Depth;
use fleet::{Millis, NodeName, Nonce, Timestamp};
use fleet_proto::v1;

use super::ask::{Refusal, Reply};
use super::state::{NodeSeen, State};
use crate::gate_test::GateTest;
use crate::records::StatementRecord;
use crate::{clock, random};

/// What is to be said once the facts are saved.
#[derive(Default)]
pub(super) struct Unsaid {
    /// Nodes whose orders changed: they are told everything they shall hold.
    desired: BTreeSet<NodeName>,
    /// Nodes that are asked for fresh evidence, and how deep they shall look.
    challenges: BTreeMap<NodeName, Depth>,
    /// What else is said to nodes.
    words: Vec<(NodeName, v1::to_agent::Message)>,
    /// Files that nodes shall show.
    reveals: Vec<(NodeName, v1::Reveal)>,
    /// Tests to run on this host.
    tests: Vec<GateTest>,
    /// Statements to read from the store, for whoever asked for them.
    envelopes: Vec<(StatementRecord, Reply<v1::GetStatementReply>)>,
    /// Answers to questions.
    answers: Vec<Box<dyn FnOnce() + Send>>,
}

impl State {
    /// Tells a node everything it shall hold, and asks what it makes of it.
    pub(super) fn say_desired(&mut self, node: &NodeName) {
        self.unsaid.desired.insert(node.clone());
        self.challenge(node, Depth::Events);
    }

    /// Tells connected nodes again what they shall hold, so that a permit never ends while the link stands: a service that
    /// ends by itself in a quiet night shall start again.
    pub(super) fn renew_permits(&mut self, now: Timestamp) {
        let half = Millis(self.permit.0 / 2);
        let is_due = |seen: &NodeSeen| {
            let told = seen.permitted.filter(|_| seen.link.is_some() && !seen.is_contested());
            told.is_some_and(|told| now.since(told) >= half)
        };
        let due = self.seen.iter().filter(|(_, seen)| is_due(seen)).map(|(node, _)| node.clone());
        self.unsaid.desired.extend(due.collect::<Vec<_>>());
    }

    /// Says something to a node.
    pub(super) fn say(&mut self, node: &NodeName, word: v1::to_agent::Message) {
        self.unsaid.words.push((node.clone(), word));
    }

    /// Asks a node for fresh evidence, from a look that is at least so deep.
    pub(super) fn challenge(&mut self, node: &NodeName, depth: Depth) {
        let asked = self.unsaid.challenges.entry(node.clone()).or_insert(depth);
        *asked = depth.max(*asked);
    }

    /// Asks a node to show files.
    pub(super) fn say_reveal(&mut self, node: NodeName, reveal: v1::Reveal) {
        self.unsaid.reveals.push((node, reveal));
    }

    /// Asks every connected node for fresh evidence.
    pub(super) fn ask_everyone(&mut self, depth: Depth) {
        let connected: Vec<_> =
            self.seen.iter().filter(|(_, seen)| seen.link.is_some()).map(|(node, _)| node.clone()).collect();
        for node in connected {
            self.challenge(&node, depth);
        }
    }

    /// How deep a node has to look, whatever was asked: what a deployment proves rests on a look at every file, and what
    /// is said again needs one that it can rest on.
    fn depth_for(&self, node: &NodeName) -> Depth {
        let Some(seen) = self.seen.get(node) else { return Depth::Sweep };
        let moves = self.running().any(|(_, journaled)| journaled.deployment.nodes().contains(node));
        let ages = seen.latest.iter().flat_map(|latest| &latest.services).any(|service| service.looked.is_ageing());
        if moves || ages || seen.last_sweep.is_none() { Depth::Sweep } else { Depth::Events }
    }

    /// Answers once everything decided so far is saved.
    pub(super) fn reply<T: Send + 'static>(&mut self, to: Reply<T>, answer: Result<T, Refusal>) {
        // Whoever asked may have gone; then nobody needs the answer.
        self.unsaid.answers.push(Box::new(move || drop(to.send(answer))));
    }

    /// Answers with a statement as it lies in the store: only the mind has the store, so that it is closed when the mind
    /// ends.
    pub(super) fn hand_out(&mut self, record: StatementRecord, to: Reply<v1::GetStatementReply>) {
        self.unsaid.envelopes.push((record, to));
    }

    /// The statements that somebody waits for.
    pub(super) fn wanted(&mut self) -> Vec<(StatementRecord, Reply<v1::GetStatementReply>)> {
        std::mem::take(&mut self.unsaid.envelopes)
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
            if let Some(seen) = self.seen.get_mut(node) {
                seen.permitted = Some(clock::now());
            }
            self.send(node, v1::ToAgent { message: Some(v1::to_agent::Message::Desired(desired)) });
            // After the orders that they rest on; said again with them until their end has been reported.
            for repair in self.open_repairs(node) {
                self.send(node, v1::ToAgent { message: Some(v1::to_agent::Message::Repair(repair.into())) });
            }
        }
        for (node, reveal) in unsaid.reveals {
            self.send(&node, v1::ToAgent { message: Some(v1::to_agent::Message::Reveal(reveal)) });
        }
        for (node, depth) in &unsaid.challenges {
            self.send_challenge(node, *depth);
        }
        for (node, word) in unsaid.words {
            self.send(&node, v1::ToAgent { message: Some(word) });
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
    fn send_challenge(&mut self, node: &NodeName, depth: Depth) {
        let depth = depth.max(self.depth_for(node));
        let Some(seen) = self.seen.get_mut(node) else { return };
        for rival in seen.rivals.iter_mut().filter(|rival| rival.asked.is_none()) {
            let Some(nonce) = draw(node) else { return };
            rival.asked = Some(nonce.clone());
            // One that does not read does not live.
            let _ = rival.link.outbox.try_send(Ok(challenge(nonce, Depth::Sweep)));
        }
        if seen.link.is_none() {
            return;
        }
        let Some(nonce) = draw(node) else { return };
        seen.asked.ask(nonce.clone(), clock::now());
        self.send(node, challenge(nonce, depth));
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

fn challenge(nonce: Nonce, depth: Depth) -> v1::ToAgent {
    let challenge = v1::Challenge { nonce: nonce.into(), depth: v1::Depth::from(depth).into() };
    v1::ToAgent { message: Some(v1::to_agent::Message::Challenge(challenge)) }
}
