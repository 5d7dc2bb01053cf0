//! What operators are shown of proof and drift: the report of open findings, and the proofs of one round. Whoever has
//! no proof is named with what is known of it, never passed over.

use std::collections::BTreeSet;

use fleet::drift::{Finding, FindingKey, Kind, Standing};
use fleet::evidence::{Parentage, Process};
use fleet::looked::Depth;
use fleet::release::Grade;
use fleet::{Generation, Hold, NodeName, Order, Timestamp};
use fleet_proto::v1;

use super::ask::Proofs;
use super::state::State;

impl State {
    /// The open findings, and how many nodes are clean, drifted, away, or not looked at yet.
    pub(super) fn drift_report(&self, request: &v1::DriftRequest, now: Timestamp) -> v1::DriftReport {
        let named: BTreeSet<&str> = request.nodes.iter().map(String::as_str).collect();
        let asked = |node: &NodeName| named.is_empty() || named.contains(node.as_str());
        let findings: Vec<_> = self
            .ledger
            .open()
            .filter(|open| asked(&open.finding.key.node) && concerns(&open.finding.key, &request.service))
            .collect();
        let (mut found, mut away) = (BTreeSet::new(), BTreeSet::new());
        for key in findings.iter().map(|open| &open.finding.key) {
            found.insert(&key.node);
            if matches!(key.kind, Kind::Unreachable | Kind::Unmanaged) {
                away.insert(&key.node);
            }
        }
        let mut report = v1::DriftReport {
            made_at_ms: now.0,
            findings: findings.iter().map(|open| finding_view(&open.finding, open.since)).collect(),
            ..v1::DriftReport::default()
        };
        let mut oldest = None;
        for node in self.nodes.keys().filter(|node| asked(node)) {
            let observed = self.seen.get(node).and_then(|seen| seen.last_observation);
            report.nodes += 1;
            match (away.contains(node), found.contains(node), observed) {
                (true, _, _) => report.unreachable += 1,
                (false, true, _) => report.drifted += 1,
                (false, false, Some(_)) => report.compliant += 1,
                // Nothing is known of it: it is neither clean nor drifted.
                (false, false, None) => {}
            }
            match observed {
                None => report.unobserved.push(node.to_string()),
                Some(at) if !away.contains(node) => {
                    oldest = Some(oldest.map_or(at, |oldest: Timestamp| oldest.min(at)))
                }
                Some(_) => {}
            }
        }
        report.oldest_observation_ms = oldest.map(|at| now.since(at).0);
        report
    }

    /// Proofs asked for at `since` or later that rest on a look so deep; whoever has no such proof is a finding, whatever the ledger says.
    pub(super) fn proofs(&self, service: &str, since: Timestamp, depth: Depth, now: Timestamp) -> Proofs {
        let mut proofs = Vec::new();
        let mut findings: Vec<_> = self
            .ledger
            .open()
            .filter(|open| concerns(&open.finding.key, service))
            .map(|o| (&o.finding, o.since))
            .collect();
        let named: BTreeSet<_> = findings.iter().map(|(f, _)| (f.key.node.clone(), f.key.service.clone())).collect();
        let mut unproven = Vec::new();
        let mut outstanding = BTreeSet::new();
        for order in self.orders().filter(|order| service.is_empty() || order.service.as_str() == service) {
            if let Some(proof) = self.proof(order, since, depth, now) {
                proofs.push(proof);
                continue;
            }
            let seen = self.seen.get(&order.node);
            let comparison = seen.and_then(|seen| seen.comparisons.get(&order.service));
            let answer = self.answer_of(&order.node, since, depth);
            let observed = answer == Answer::AsAsked;
            let settled = comparison.is_some_and(|comparison| comparison.is_settled());
            if seen.is_some_and(|seen| seen.link.is_some()) && !(observed && settled) {
                outstanding.insert(order.node.clone());
            }
            let standing = comparison.map(|comparison| &comparison.standing).filter(|_| observed);
            let holds_nothing = order.hold == Hold::Nothing && matches!(standing, Some(Standing::Proven { .. }));
            // What the ledger says of this service, or of the node's presence, says more than that a proof is missing.
            let known = named.contains(&(order.node.clone(), Some(order.service.clone())))
                || named.contains(&(order.node.clone(), None));
            if !holds_nothing && !known {
                unproven.push(unproven_finding(order, answer, standing));
            }
        }
        findings.extend(unproven.iter().map(|finding| (finding, now)));
        Proofs {
            proofs,
            findings: findings.into_iter().map(|(finding, since)| finding_view(finding, since)).collect(),
            outstanding: outstanding.into_iter().collect(),
        }
    }

    /// How a node has answered what was asked at `since` or later.
    pub(super) fn answer_of(&self, node: &NodeName, since: Timestamp, depth: Depth) -> Answer {
        let seen = self.seen.get(node);
        let answered = |depth| seen.and_then(|seen| seen.answered(depth)).is_some_and(|at| at >= since);
        match (answered(depth), answered(Depth::Events)) {
            (true, _) => Answer::AsAsked,
            (false, true) => Answer::LessDeep,
            (false, false) => Answer::Missing,
        }
    }

    /// The proof that a node holds what this order says, from an observation asked for at `since` or later that rests on
    /// a look so deep.
    pub(super) fn proof(&self, order: &Order, since: Timestamp, depth: Depth, now: Timestamp) -> Option<v1::Proof> {
        let seen = self.seen.get(&order.node)?;
        let observed = seen.last_observation.filter(|at| *at >= since)?;
        seen.answered(depth).filter(|at| *at >= since)?;
        let Standing::Proven { grade, .. } = seen.comparisons.get(&order.service)?.standing else { return None };
        let Hold::Release { release, bundle, .. } = &order.hold else { return None };
        let evidence = self.evidence(&order.node, &order.service)?;
        let own = |process: &&Process| process.parentage == Parentage::Supervised;
        let running = evidence
            .processes
            .iter()
            .find(own)
            .and_then(|process| process.executable.digest)
            .filter(|_| grade == Grade::Digest);
        Some(v1::Proof {
            node: order.node.to_string(),
            service: order.service.to_string(),
            release: release.to_string(),
            version: self.releases.get(release).map(|record| record.version.to_string()).unwrap_or_default(),
            digest: running.unwrap_or(*bundle).to_string(),
            grade: grade.to_string(),
            age_ms: now.since(observed).0,
            processes: evidence.processes.len() as u32,
            nonce: seen.latest.as_ref()?.nonce.as_str().to_owned(),
        })
    }
}

/// Whether a finding is about this service (all, if none is named). What is wrong with a node is about all of them.
fn concerns(key: &FindingKey, service: &str) -> bool {
    service.is_empty() || key.service.as_ref().is_none_or(|name| name.as_str() == service)
}

/// A finding as it travels.
pub(super) fn finding_view(finding: &Finding, since: Timestamp) -> v1::Finding {
    v1::Finding {
        node: finding.key.node.to_string(),
        service: finding.key.service.as_ref().map(ToString::to_string).unwrap_or_default(),
        kind: finding.key.kind.to_string(),
        what: finding.key.what.clone(),
        expected: finding.expected.clone(),
        found: finding.found.clone(),
        since_ms: since.0,
        severity: finding.key.severity().as_str().into(),
        by: finding.by.clone().unwrap_or_default(),
        changed_at_ms: finding.changed.map(|age| since.0.saturating_sub_unsigned(age.0)),
    }
}

/// How a node answered a round.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Answer {
    AsAsked,
    /// Without looking at files as deep as it was asked to.
    LessDeep,
    Missing,
}

/// What is said of an order without a proof that nobody else has said anything of.
fn unproven_finding(order: &Order, answer: Answer, standing: Option<&Standing>) -> Finding {
    let key = FindingKey {
        node: order.node.clone(),
        service: Some(order.service.clone()),
        kind: Kind::Stale,
        what: "observation".into(),
    };
    Finding::new(key, "a fresh proof", known_of(order.generation, answer, standing))
}

/// What is known of a node that has no proof in this round: no more than that. `standing` is what this round's answer
/// showed; there is none when the order was given after the answer.
pub(super) fn known_of(ordered: Generation, answer: Answer, standing: Option<&Standing>) -> String {
    let Some(standing) = standing.filter(|_| answer == Answer::AsAsked) else {
        let known = match answer {
            Answer::AsAsked => "answered before it was ordered",
            Answer::LessDeep => "answered, but has not looked at its files as deep as asked; is its agent older?",
            Answer::Missing => "no answer in this round",
        };
        return known.into();
    };
    match standing {
        Standing::Behind { generation: None } => {
            format!("has not taken the order in: it was given generation {ordered} and says nothing of this service")
        }
        Standing::Behind { generation: Some(held) } => {
            format!("has not taken the order in: it was given generation {ordered} and is at generation {held}")
        }
        Standing::Working { step, detail } if detail.is_empty() => format!("the agent is at work: {step}"),
        Standing::Working { step, detail } => format!("the agent is at work: {step}: {detail}"),
        Standing::Failed { reason } => format!("failed: {reason}"),
        Standing::Fenced { reason } => format!("fenced: {reason}"),
        Standing::Differs => "what it shows differs from the order".into(),
        Standing::Proven { .. } => "shows what was ordered, without evidence of the service".into(),
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn what_is_known_of_an_unproven_node_is_said_and_no_more() {
        let known = |observed, standing: Option<Standing>| {
            known_of(Generation(7), if observed { Answer::AsAsked } else { Answer::Missing }, standing.as_ref())
        };
        let working = |detail: &str| Standing::Working { step: "fetch".into(), detail: detail.into() };
        for standing in [None, Some(working("")), Some(Standing::Differs)] {
            assert_eq!(known(false, standing), "no answer in this round", "what an older round showed is not said");
        }
        assert_eq!(known(true, None), "answered before it was ordered");
        assert!(
            known_of(Generation(7), Answer::LessDeep, Some(&Standing::Differs)).contains("not looked at its files")
        );
        let behind = known(true, Some(Standing::Behind { generation: Some(Generation(5)) }));
        assert!(behind.contains("not taken the order in") && behind.contains("generation 7"), "{behind}");
        assert!(behind.contains("at generation 5") && !behind.contains("at work"), "{behind}");
        assert!(known(true, Some(Standing::Behind { generation: None })).contains("nothing of this service"));
        assert_eq!(known(true, Some(working(""))), "the agent is at work: fetch");
        assert_eq!(known(true, Some(working("3 of 9 MB"))), "the agent is at work: fetch: 3 of 9 MB");
        let failed = Standing::Failed { reason: "start: exited with 1".into() };
        assert_eq!(known(true, Some(failed)), "failed: start: exited with 1");
    }
}
