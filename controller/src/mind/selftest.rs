//! The self-test of the alarm: choosing a node that volunteers, asking its agent for a decoy, and watching whether the
//! finding comes and goes in time. What is found is found by `observations` as everything is; this file only knows which
//! findings are the decoy's, so that nobody is called for them.

use std::collections::BTreeSet;

use fleet::drift::{Comparison, FindingKey, Standing, compare};
use fleet::evidence::ServiceEvidence;
use fleet::selftest::{Decoy, Outcome, Report, SelfTest, State as DecoyState, Verdict, owed_to_decoy};
use fleet::{Generation, Hold, Millis, NodeName, Order, Timestamp};
use fleet_proto::{convert, selftest, v1};

use super::ask::{Refusal, Reply};
use super::state::State;
use crate::records::Change;

/// How long a self-test may take to find the decoy when nothing is said: fifteen looks of an agent.
const DEADLINE: Millis = Millis::from_secs(30);
/// Less than this is shorter than the time between two looks may be; more than an hour is no alarm.
const SHORTEST: Millis = Millis::from_secs(1);
const LONGEST: Millis = Millis::from_secs(3_600);
/// How long a decoy may still be seen after its life: a look and an answer on a slow machine.
const AFTERGLOW: Millis = Millis::from_secs(30);

/// What the mind knows of self-tests.
#[derive(Default)]
pub(super) struct SelfTests {
    running: Option<Running>,
    /// The newest that is over. One that is at work stands here as not known, in case the controller ends before it.
    last: Option<Outcome>,
    /// The decoy that stands or may still be seen.
    standing: Option<StandingDecoy>,
}

impl SelfTests {
    /// Takes up what was kept; whatever was at work has ended with the controller.
    pub(super) fn resume(last: Option<Outcome>) -> Self {
        Self { last, ..Self::default() }
    }
}

struct Running {
    test: SelfTest,
    /// The stream on which the agent was asked: with it the decoy is gone.
    session: u64,
    /// What the node was to hold when the decoy was planted: a deployment that came and went between two looks of this
    /// file has changed it.
    ordered: Option<Generation>,
    to: Reply<v1::SelfTestReport>,
}

struct StandingDecoy {
    node: NodeName,
    decoy: Decoy,
    until: Timestamp,
    /// What the ledger says because of it.
    findings: BTreeSet<FindingKey>,
}

impl State {
    /// Begins a self-test; the answer comes when it is over.
    pub(super) fn begin_selftest(
        &mut self,
        by: &str,
        request: &v1::SelfTestRequest,
        to: Reply<v1::SelfTestReport>,
        now: Timestamp,
    ) {
        let begun = self.try_selftest(by, request, now);
        match begun {
            Ok((test, session)) => {
                let life = Millis(2 * test_deadline(request).0).min(LONGEST);
                let plant = v1::PlantDecoy { test: test.id.clone(), life_ms: life.0 };
                self.say(&test.node, v1::to_agent::Message::Plant(plant));
                tracing::info!(by, node = %test.node, "self-test of the alarm");
                // Saved first, so that one which never ends is not remembered as the one before it.
                self.keep_outcome(test.interrupted("it was begun, and the controller was restarted before it ended"));
                self.selftests.running = Some(Running { test, session, ordered: None, to });
            }
            Err(refusal) => self.reply(to, Err(refusal)),
        }
    }

    fn try_selftest(
        &mut self,
        by: &str,
        request: &v1::SelfTestRequest,
        now: Timestamp,
    ) -> Result<(SelfTest, u64), Refusal> {
        let deadline = test_deadline(request);
        if deadline < SHORTEST || deadline > LONGEST {
            return Err(Refusal::input(
                format!("a self-test cannot have a deadline of {deadline}"),
                format!("write --deadline from {SHORTEST} to {LONGEST}"),
            ));
        }
        if let Some(running) = &self.selftests.running {
            return Err(Refusal::busy(
                format!("a self-test is at work on {}", running.test.node),
                "wait until it has ended",
            ));
        }
        if let Some(standing) = self.selftests.standing.as_ref().filter(|standing| standing.until > now) {
            return Err(Refusal::busy(
                format!("the decoy of the last self-test may still stand on {}", standing.node),
                format!("try again in {}", standing.until.since(now)),
            ));
        }
        let named = Some(&request.node).filter(|name| !name.is_empty());
        let named: Option<NodeName> = named
            .map(|name| convert::parse("node", name))
            .transpose()
            .map_err(|e| Refusal::input(e.to_string(), "list them: fleetctl nodes list"))?;
        let chosen = match named {
            Some(node) => self.can_be_tested(&node).map(|()| node),
            None => self.volunteer(),
        };
        let node = chosen.map_err(|why| {
            // That it cannot be tried is what is known of the alarm now.
            let detail = why.clone();
            let outcome = Outcome {
                node: None,
                at: now,
                by: by.to_owned(),
                verdict: Verdict::Unknown,
                detail,
                deadline,
                found_after: None,
                closed_after: None,
            };
            self.keep_outcome(outcome);
            let help = "let a node volunteer: selftest = true in its agent.toml, and restart its agent";
            Refusal::unknown(format!("UNKNOWN: {why}"), help)
        })?;
        let session = self.seen.get(&node).and_then(|seen| seen.link.as_ref()).map(|link| link.session);
        let (Some(session), Ok(bits)) = (session, crate::random::bits()) else {
            return Err(Refusal::busy("the node cannot be asked now", "try again in a moment"));
        };
        Ok((SelfTest::begin(format!("{bits:032x}"), node, by.to_owned(), deadline, now), session))
    }

    /// The next volunteer after the one that was tested last, so that each has its turn.
    fn volunteer(&self) -> Result<NodeName, String> {
        let last = self.selftests.last.as_ref().and_then(|last| last.node.as_ref());
        let able: Vec<&NodeName> = self.nodes.keys().filter(|node| self.can_be_tested(node).is_ok()).collect();
        let next = able.iter().find(|node| last.is_none_or(|last| **node > last)).or(able.first());
        next.map(|node| (*node).clone()).ok_or_else(|| {
            let volunteers = self.seen.values().filter(|seen| seen.volunteers).count();
            format!("no node can be tested: of {} nodes {volunteers} volunteer, and none of them is in contact, proven and at rest", self.nodes.len())
        })
    }

    fn can_be_tested(&self, node: &NodeName) -> Result<(), String> {
        if !self.nodes.contains_key(node) {
            return Err(format!("there is no node '{node}'"));
        }
        let seen = self.seen.get(node).filter(|seen| seen.link.is_some() && !seen.is_contested());
        let seen = seen.ok_or_else(|| format!("{node} is not in contact"))?;
        if !seen.volunteers {
            return Err(format!("{node} does not volunteer"));
        }
        if self.running().any(|(_, j)| j.deployment.is_pointing_at(node, &j.deployment.spec().service)) {
            return Err(format!("a deployment is at work on {node}"));
        }
        let proven = |order: &Order| {
            let comparison = seen.comparisons.get(&order.service);
            order.hold != Hold::Nothing
                && comparison.is_some_and(|comparison| matches!(comparison.standing, Standing::Proven { .. }))
        };
        if self.orders_of(node).any(proven) { Ok(()) } else { Err(format!("{node} holds no release that is proven")) }
    }

    /// An agent says what became of its decoy.
    pub(super) fn decoy_reported(&mut self, node: &NodeName, session: u64, report: Report, now: Timestamp) {
        let Some(running) = self.selftests.running.as_mut() else { return };
        if running.test.id != report.test || running.test.node != *node || running.session != session {
            return;
        }
        let ordered = match &report.state {
            DecoyState::Planted(decoy) => {
                self.book.get(node).and_then(|book| book.get(&decoy.service)).map(|order| order.generation)
            }
            DecoyState::Refused(_) | DecoyState::Removed => None,
        };
        match report.state {
            DecoyState::Planted(decoy) if running.test.decoy().is_none() => {
                let until = now.after(LONGEST);
                running.ordered = ordered;
                running.test.planted(decoy.clone());
                if let Some(made) = decoy.made {
                    self.catalogue.lend(decoy.service.clone(), made, decoy.release.clone());
                }
                let findings = BTreeSet::new();
                self.selftests.standing = Some(StandingDecoy { node: node.clone(), decoy, until, findings });
            }
            DecoyState::Refused(reason) => {
                let outcome = running.test.interrupted(&format!("its agent cannot plant a decoy: {reason}"));
                self.end_selftest(outcome, now);
            }
            DecoyState::Planted(_) | DecoyState::Removed => {}
        }
    }

    /// The comparison that counts: without the decoy, if the evidence shows it. What is found of the decoy alone goes to
    /// the ledger like everything else, by the other one.
    pub(super) fn compare_without_decoy(
        &self,
        order: &Order,
        evidence: Option<&ServiceEvidence>,
        up: Option<Millis>,
    ) -> Option<Comparison> {
        let standing = self.selftests.standing.as_ref().filter(|standing| standing.node == order.node)?;
        let without = standing.decoy.taken_out(evidence?, up)?;
        Some(compare(order, Some(&without), &self.catalogue))
    }

    /// The ledger has been told what a service shows; `with` and `without` its decoy, if it shows one.
    pub(super) fn watch_decoy(
        &mut self,
        order: &Order,
        comparisons: Option<(&Comparison, &Comparison)>,
        now: Timestamp,
    ) {
        let Some(standing) = self.selftests.standing.as_mut() else { return };
        if standing.node != order.node || standing.decoy.service != order.service {
            return;
        }
        let owed = comparisons.map(|(with, without)| owed_to_decoy(with, without)).unwrap_or_default();
        standing.findings.extend(owed);
        standing.findings.retain(|key| self.ledger.get(key).is_some());
        let open = standing.findings.clone();
        let Some(running) = self.selftests.running.as_mut() else {
            // It was late, and is gone at last.
            if comparisons.is_none() && open.is_empty() {
                self.forget_decoy();
            }
            return;
        };
        if running.test.seen(&open, now) {
            let (node, test) = (running.test.node.clone(), running.test.id.clone());
            self.say(&node, v1::to_agent::Message::Remove(v1::RemoveDecoy { test }));
        } else if comparisons.is_none()
            && open.is_empty()
            && let Some(outcome) = running.test.silent(now)
        {
            self.end_selftest(outcome, now);
            self.forget_decoy();
        }
    }

    /// Ends a self-test whose time is up, or that cannot go on.
    pub(super) fn watch_selftest(&mut self, now: Timestamp) {
        if self.selftests.standing.as_ref().is_some_and(|standing| now >= standing.until) {
            self.forget_decoy();
        }
        let Some(running) = &self.selftests.running else { return };
        let (test, node) = (&running.test, &running.test.node);
        let session = self.seen.get(node).and_then(|seen| seen.link.as_ref()).map(|link| link.session);
        let pointed = self.running().any(|(_, j)| j.deployment.is_pointing_at(node, &j.deployment.spec().service));
        let service = test.decoy().map(|decoy| &decoy.service);
        let ordered = service.and_then(|service| self.order(node, service)).map(|order| order.generation);
        let outcome = if session != Some(running.session) {
            Some(test.interrupted("the node went out of contact, and its decoy with it"))
        } else if pointed || ordered != running.ordered {
            Some(test.interrupted("a deployment began to work on the node"))
        } else {
            test.late(now)
        };
        if let Some(outcome) = outcome {
            self.end_selftest(outcome, now);
        }
    }

    fn end_selftest(&mut self, outcome: Outcome, now: Timestamp) {
        let Some(Running { test, to, .. }) = self.selftests.running.take() else { return };
        match outcome.verdict {
            Verdict::Passed => tracing::info!(node = %test.node, "self-test passed: {}", outcome.detail),
            Verdict::Failed => tracing::error!(node = %test.node, "self-test FAILED: {}", outcome.detail),
            Verdict::Unknown => tracing::warn!(node = %test.node, "self-test: UNKNOWN: {}", outcome.detail),
        }
        if outcome.verdict != Verdict::Passed {
            self.say(&test.node, v1::to_agent::Message::Remove(v1::RemoveDecoy { test: test.id.clone() }));
            if let Some(standing) = &mut self.selftests.standing {
                standing.until = now.after(AFTERGLOW);
            }
        }
        let report = v1::SelfTestReport::from(&outcome);
        self.keep_outcome(outcome);
        self.reply(to, Ok(report));
    }

    fn keep_outcome(&mut self, outcome: Outcome) {
        self.save(Change::SelfTest(Box::new(outcome.clone())));
        self.selftests.last = Some(outcome);
    }

    fn forget_decoy(&mut self) {
        let Some(standing) = self.selftests.standing.take() else { return };
        if let Some(made) = standing.decoy.made {
            self.catalogue.take_back(&standing.decoy.service, &made, &standing.decoy.release);
        }
    }

    /// Whether a finding is of a decoy and of nothing else: it is in the ledger, and nobody is called for it.
    pub(super) fn is_of_decoy(&self, key: &FindingKey) -> bool {
        self.selftests.standing.as_ref().is_some_and(|standing| standing.findings.contains(key))
    }

    /// The newest self-test as operators are shown it.
    pub(super) fn selftest_view(&self) -> Option<v1::SelfTestReport> {
        let mut report = v1::SelfTestReport::from(self.selftests.last.as_ref()?);
        if self.selftests.running.is_some() {
            (report.result, report.detail) = (selftest::RUNNING.into(), "it is at work".into());
        }
        Some(report)
    }
}

fn test_deadline(request: &v1::SelfTestRequest) -> Millis {
    if request.deadline_ms == 0 { DEADLINE } else { Millis(request.deadline_ms) }
}
