//! Contact with nodes: streams that open and end, hints, attestations, silence. What an attestation means is left to
//! `observations`; here it is only decided whether it counts.

use fleet::drift::presence;
use fleet::evidence::Attestation;
use fleet::ledger::Subject;
use fleet::{Millis, NodeName, Timestamp};

use super::state::{LIMITS, NodeSeen, OpenLink, State};
use crate::records::NodeRecord;

impl State {
    /// A stream has opened: the node is told what it shall hold.
    pub(super) fn connected(&mut self, node: NodeName, link: OpenLink, agent_version: String, now: Timestamp) {
        // It was removed while its stream opened: dropping the link closes that.
        if !self.nodes.contains_key(&node) {
            return tracing::warn!(%node, session = link.session, "an agent connected whose node has been removed");
        }
        tracing::info!(%node, session = link.session, agent_version, "agent connected");
        let watched_since = now;
        let seen = self.seen.entry(node.clone()).or_insert_with(|| NodeSeen { watched_since, ..NodeSeen::default() });
        seen.link = Some(link);
        seen.agent_version = agent_version;
        seen.last_contact = Some(now);
        seen.nonces.clear();
        self.welcome(&node);
        self.say_desired(&node);
    }

    /// What is left of the time in which agents come back after a start of the controller. Until then a node that has
    /// not been seen is neither present nor absent, and nothing should be planned on it. Contact alone is not enough: a
    /// node that has shown nothing yet would be taken for one that does not serve, and costs no capacity then.
    pub(super) fn settling(&self, now: Timestamp) -> Millis {
        let not_back = |record: &NodeRecord| {
            record.enrolled.is_some() && self.seen.get(&record.name).is_none_or(|seen| seen.last_observation.is_none())
        };
        let until = self.started_at.after(LIMITS.silence);
        if self.nodes.values().any(not_back) { until.since(now) } else { Millis(0) }
    }

    /// A stream has ended; only the node's newest counts.
    pub(super) fn lost(&mut self, node: &NodeName, session: u64, now: Timestamp) {
        let Some(seen) = self.seen.get_mut(node) else { return };
        if seen.link.as_ref().is_some_and(|link| link.session == session) {
            tracing::info!(%node, session, "agent gone");
            seen.link = None;
            seen.last_contact = Some(now);
        }
    }

    /// An agent thinks that something changed: it is asked, as a hint proves nothing.
    pub(super) fn hinted(&mut self, node: &NodeName, session: u64, now: Timestamp) {
        if self.heard(node, session, now) {
            self.challenge(node);
        }
    }

    /// Notes a contact; false when it comes from a stream that is no longer the node's.
    fn heard(&mut self, node: &NodeName, session: u64, now: Timestamp) -> bool {
        match self.seen.get_mut(node) {
            Some(seen) if seen.link.as_ref().is_some_and(|link| link.session == session) => {
                seen.last_contact = Some(now);
                true
            }
            Some(_) | None => false,
        }
    }

    /// An attestation counts only with a nonce that is out for this very node: cached, replayed and foreign ones do not.
    pub(super) fn attested(&mut self, node: &NodeName, session: u64, attestation: Attestation, now: Timestamp) {
        if !self.heard(node, session, now) {
            return;
        }
        if attestation.node != *node {
            tracing::warn!(%node, claimed = %attestation.node, "an agent answers for another node: ignored");
            return;
        }
        let Some(seen) = self.seen.get_mut(node) else { return };
        let Some(at) = seen.nonces.iter().position(|(nonce, _)| *nonce == attestation.nonce) else {
            tracing::warn!(%node, "an attestation with a nonce that is not out: ignored");
            return;
        };
        let asked_at = seen.nonces[at].1;
        seen.nonces.drain(..=at);
        seen.last_observation = Some(asked_at);
        seen.latest = Some(attestation);
        self.weigh(node, asked_at, now);
    }

    /// Silence is looked for; it does not announce itself.
    pub(super) fn look_for_silence(&mut self, now: Timestamp) {
        let names: Vec<_> = self.nodes.keys().cloned().collect();
        for node in names {
            let findings = presence(&node, &self.sight(&self.nodes[&node]), now, LIMITS);
            let entries = self.ledger.observe(Subject::Presence(&node), findings, now);
            self.save_ledger(entries);
        }
        self.end_acceptances(now);
    }
}
