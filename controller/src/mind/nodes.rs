//! Contact with nodes: streams that open and end, hints, attestations. What an attestation means is left to
//! `observations`, what silence means to `silence`; here it is only decided whether it counts. What does not count is
//! refused, and held against the agent unless it is merely slow.

use fleet::drift::{Clock, Kind, Misdeed, Uncounted, clock};
use fleet::evidence::Attestation;
use fleet::ledger::Subject;
use fleet::looked::Depth;
use fleet::{Millis, NodeName, Timestamp};
use tonic::Status;

use super::state::{Greeting, LIMITS, NodeSeen, OpenLink, Rival, State};
use crate::records::{Change, NodeRecord};

/// Streams of one identity that are kept open beside its newest. A machine that lost its network may leave one or two
/// half-open; more is somebody who dials without end, and the oldest is closed.
const MOST_RIVALS: usize = 3;

/// Whose stream it is on which something came.
enum Voice {
    /// The node's newest.
    Newest,
    /// An older one that is still open.
    Rival,
    /// One that was closed.
    Nobody,
}

impl State {
    /// A stream has opened: the node is told what it shall hold. If an older one is still open, it is asked a question
    /// of its own: only who lives can answer that, and one agent never speaks on two streams.
    pub(super) fn connected(&mut self, node: NodeName, link: OpenLink, greeting: Greeting, now: Timestamp) {
        // It was removed while its stream opened: dropping the link closes that.
        let Some(record) = self.nodes.get_mut(&node) else {
            return tracing::warn!(%node, session = link.session, "an agent connected whose node has been removed");
        };
        let (said, highest) = (greeting.number, record.session);
        let watched_since = now;
        let seen = self.seen.entry(node.clone()).or_insert_with(|| NodeSeen { watched_since, ..NodeSeen::default() });
        if seen.last_contact.is_none() {
            seen.watched_since = now;
        }
        // Agents that do not count say 0.
        if said > 0 && said <= highest {
            let misdeed = Misdeed::RepeatedSession { said, highest };
            // Nobody may read it any more: the stream is closed with or without it.
            let _ = link.outbox.try_send(Err(Status::failed_precondition(misdeed.found())));
            return self.misbehaved(&node, &misdeed, now);
        }
        if said > highest {
            record.session = said;
            let record = record.clone();
            self.save(Change::Node(record));
        }
        tracing::info!(%node, session = link.session, agent_version = greeting.agent_version, "agent connected");
        let Some(seen) = self.seen.get_mut(&node) else { return };
        if let Some(older) = seen.link.replace(link) {
            if seen.rivals.len() == MOST_RIVALS {
                seen.rivals.remove(0);
            }
            seen.rivals.push(Rival { link: older, boot: seen.past.boot().to_owned(), asked: None, answered: false });
        }
        seen.agent_version = greeting.agent_version;
        seen.volunteers = greeting.volunteers;
        seen.last_contact = Some(now);
        (seen.last_sweep, seen.last_hash) = (None, None);
        seen.asked.end();
        let begun = seen.past.begin(&greeting.boot_id);
        if let Err(misdeed) = begun {
            self.misbehaved(&node, &misdeed, now);
        }
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

    /// A stream has ended.
    pub(super) fn lost(&mut self, node: &NodeName, session: u64, now: Timestamp) {
        let Some(seen) = self.seen.get_mut(node) else { return };
        if seen.link.as_ref().is_some_and(|link| link.session == session) {
            tracing::info!(%node, session, "agent gone");
            seen.link = None;
            seen.last_contact = Some(now);
            return self.take_over(node);
        }
        let contested = seen.is_contested();
        seen.rivals.retain(|rival| rival.link.session != session);
        if contested && !seen.is_contested() {
            tracing::info!(%node, session, "one of two agents under one identity is gone");
            self.say_desired(node);
        }
    }

    /// Whoever has shown that it lives takes the place of the stream that ended.
    fn take_over(&mut self, node: &NodeName) {
        let Some(seen) = self.seen.get_mut(node) else { return };
        let Some(at) = seen.rivals.iter().rposition(|rival| rival.answered) else { return };
        let rival = seen.rivals.remove(at);
        seen.link = Some(rival.link);
        seen.asked.end();
        (seen.last_sweep, seen.last_hash) = (None, None);
        // That its boot was over already is said of it since it was seen in two places.
        let _ = seen.past.begin(&rival.boot);
        self.say_desired(node);
    }

    /// An agent thinks that something changed: it is asked, as a hint proves nothing.
    pub(super) fn hinted(&mut self, node: &NodeName, session: u64, now: Timestamp) {
        match self.heard(node, session, now) {
            Voice::Newest => self.challenge(node, Depth::Events),
            Voice::Rival | Voice::Nobody => {}
        }
    }

    /// An agent said what cannot be read.
    pub(super) fn garbled(&mut self, node: &NodeName, session: u64, reason: String, now: Timestamp) {
        match self.heard(node, session, now) {
            Voice::Newest | Voice::Rival => self.misbehaved(node, &Misdeed::Unreadable { reason }, now),
            Voice::Nobody => {}
        }
    }

    /// Notes a contact, and tells on whose stream it came.
    fn heard(&mut self, node: &NodeName, session: u64, now: Timestamp) -> Voice {
        let Some(seen) = self.seen.get_mut(node) else { return Voice::Nobody };
        if seen.link.as_ref().is_some_and(|link| link.session == session) {
            seen.last_contact = Some(now);
            return Voice::Newest;
        }
        let rival = seen.rivals.iter().any(|rival| rival.link.session == session);
        if rival { Voice::Rival } else { Voice::Nobody }
    }

    /// An attestation counts only with a nonce that is out for this very node, if nothing that it says contradicts what
    /// was said before, and if nobody else speaks under the node's identity.
    pub(super) fn attested(&mut self, node: &NodeName, session: u64, attestation: Attestation, now: Timestamp) {
        match self.heard(node, session, now) {
            Voice::Newest => {}
            Voice::Rival => return self.rival_attested(node, session, &attestation, now),
            Voice::Nobody => return,
        }
        let counted = self.count(node, &attestation, now);
        let asked_at = match counted {
            Ok(asked_at) => asked_at,
            Err(Uncounted::Slow) => {
                return tracing::debug!(%node, "an answer that nobody waits for any more: ignored");
            }
            Err(Uncounted::Misdeed(misdeed)) => return self.misbehaved(node, &misdeed, now),
        };
        let Some(seen) = self.seen.get_mut(node) else { return };
        seen.conduct.honest();
        seen.last_observation = Some(asked_at);
        // A node without services has no files to look at.
        let basis = attestation.services.iter().map(|service| service.looked.basis).min().unwrap_or(Depth::Hash);
        match basis {
            Depth::Events => {}
            Depth::Sweep => seen.last_sweep = Some(asked_at),
            Depth::Hash => (seen.last_sweep, seen.last_hash) = (Some(asked_at), Some(asked_at)),
        }
        let said = attestation.clock;
        seen.latest = Some(attestation);
        if let Some(said) = said {
            self.compare_clocks(node, said, asked_at, now);
        }
        self.weigh(node, asked_at, now);
    }

    /// When the nonce of an attestation was drawn, if the attestation counts.
    fn count(&mut self, node: &NodeName, attestation: &Attestation, now: Timestamp) -> Result<Timestamp, Uncounted> {
        let refuse = |misdeed| Err(Uncounted::Misdeed(misdeed));
        if attestation.node != *node {
            return refuse(Misdeed::OtherNode { claimed: attestation.node.clone() });
        }
        let Some(seen) = self.seen.get_mut(node) else { return Err(Uncounted::Slow) };
        if let Some(rival) = seen.rivals.iter().find(|rival| rival.answered) {
            let boots = [rival.boot.clone(), seen.past.boot().to_owned()];
            return refuse(Misdeed::TwoPlaces { boots });
        }
        let counted = seen.asked.answer(&attestation.nonce, now, LIMITS.stale);
        // Whoever is known to answer unasked is not worth a search through the fleet each time.
        if counted == refuse(Misdeed::NeverAsked) && !seen.conduct.has(&Misdeed::NeverAsked) {
            let others = self.seen.iter().filter(|(name, _)| *name != node);
            let of = others.into_iter().find(|(_, other)| other.asked.knows(&attestation.nonce));
            if let Some((of, _)) = of {
                return refuse(Misdeed::OthersNonce { of: of.clone() });
            }
        }
        let asked_at = counted?;
        let Some(seen) = self.seen.get_mut(node) else { return Err(Uncounted::Slow) };
        seen.past.take(attestation).map_err(Uncounted::Misdeed)?;
        Ok(asked_at)
    }

    /// An older stream of the node still speaks. What it says counts for nothing; that it answers a question which was
    /// drawn after the newer stream had opened shows that two agents live.
    fn rival_attested(&mut self, node: &NodeName, session: u64, attestation: &Attestation, now: Timestamp) {
        let Some(seen) = self.seen.get_mut(node) else { return };
        let Some(rival) = seen.rivals.iter_mut().find(|rival| rival.link.session == session) else { return };
        if rival.asked.as_ref() != Some(&attestation.nonce) {
            return;
        }
        rival.answered = true;
        if seen.link.is_none() {
            return self.take_over(node);
        }
        let boots = [rival.boot.clone(), seen.past.boot().to_owned()];
        self.misbehaved(node, &Misdeed::TwoPlaces { boots }, now);
    }

    /// What no honest agent does is refused, and held against it.
    fn misbehaved(&mut self, node: &NodeName, misdeed: &Misdeed, now: Timestamp) {
        let Some(seen) = self.seen.get_mut(node) else { return };
        if !seen.conduct.has(misdeed) {
            tracing::warn!(%node, what = misdeed.what(), "{}", misdeed.found());
        }
        seen.conduct.note(misdeed, now);
        let findings = seen.conduct.findings(node, now);
        let entries = self.ledger.observe(Subject::Whole(node, Kind::Agent), findings, now);
        self.save_ledger(entries);
    }

    /// No decision rests on it: a wrong clock is only told.
    fn compare_clocks(&mut self, node: &NodeName, said: Timestamp, asked_at: Timestamp, now: Timestamp) {
        let findings = match clock(node, said, asked_at, now) {
            Clock::Wrong(finding) => vec![finding],
            Clock::Well => Vec::new(),
            Clock::Unclear => return,
        };
        let entries = self.ledger.observe(Subject::Whole(node, Kind::Clock), findings, now);
        self.save_ledger(entries);
    }
}
