//! Statements: what every expected node was proven to run, put into words that are signed, chained and kept; one for
//! every `verify`, and one when a deployment ends. What a statement is and what it comes to is `fleet::statement`'s, how
//! it is signed `certs`'.

use fleet::deployment::{Deployment, Fact, NodeState as Walked, Source};
use fleet::drift::{Comparison, FindingKey, Kind, Severity, Standing};
use fleet::looked::Depth;
use fleet::statement::{
    Approval, Entry, Found, Moment, NodeState, Occasion, PAYLOAD_TYPE, Predicate, Release, Statement, Verdict, Waived,
};
use fleet::{DeploymentId, Digest, Hold, NodeName, Order, ServiceName, Timestamp};
use fleet_certs::Sealer;
use fleet_proto::v1;
use sha2::Digest as _;

use super::ask::{Refusal, find_by_prefix};
use super::drift_view::{Answer, finding_view, known_of};
use super::state::{LIMITS, State};
use crate::records::{self, Change, StatementRecord};
use crate::store::Store;

/// The most statements that are kept, and the most bytes of them: three days of one every five minutes. The newest is
/// always kept, since the next one names it. Whoever needs them for longer takes them away: `fleetctl statements save`.
const MOST_KEPT: usize = 1_000;
const MOST_BYTES: u64 = 64 << 20;

impl State {
    /// From now on statements are made, with this key.
    pub fn sign_with(&mut self, sealer: Sealer) {
        self.sealer = Some(sealer);
    }

    /// The answer to `verify`: the proofs since a round began, what is missing, and the signed statement of both.
    pub(super) fn verified(
        &mut self,
        actor: &str,
        service: &str,
        since: Timestamp,
        depth: Depth,
        now: Timestamp,
    ) -> v1::VerifyReply {
        let proofs = self.proofs(service, since, depth, now);
        let sealed = self.state_verification(actor, service, (since, depth), &proofs.findings, now);
        let (statement, no_statement) = match sealed {
            Ok(envelope) => (envelope.into_bytes(), String::new()),
            Err(why) => (Vec::new(), why),
        };
        v1::VerifyReply { proofs: proofs.proofs, findings: proofs.findings, made_at_ms: now.0, statement, no_statement }
    }

    fn state_verification(
        &mut self,
        actor: &str,
        service: &str,
        (since, depth): (Timestamp, Depth),
        findings: &[v1::Finding],
        now: Timestamp,
    ) -> Result<String, String> {
        let only: Option<ServiceName> = match service {
            "" => None,
            name => Some(name.parse().map_err(|e| format!("{e}"))?),
        };
        let concerned = |order: &&Order| only.as_ref().is_none_or(|only| order.service == *only);
        let mut nodes: Vec<Entry> =
            self.orders().filter(concerned).map(|order| self.entry(order, since, depth, now)).collect();
        // Whoever was never told to hold anything is expected all the same, and named.
        let unordered = |name: &&NodeName| !self.orders_of(name).any(|order| concerned(&order));
        nodes.extend(self.nodes.keys().filter(unordered).map(|name| unordered_entry(name, None)));
        let findings = findings.iter().map(found).collect::<Result<_, _>>()?;
        let newest = self.newest_deployments(only.as_ref());
        let waivers = newest.into_iter().flat_map(|(id, deployment)| waivers(id, deployment, now)).collect();
        let occasion = Occasion::Verification { actor: actor.into(), service: only, began_at: Moment::from(since) };
        let record = (records::Occasion::Verification, service.to_owned(), actor.to_owned());
        self.seal(record, occasion, nodes, findings, waivers, now)
    }

    /// The statement at the end of a deployment. There is none only if it cannot be made, which is logged: the
    /// deployment has ended all the same.
    pub(super) fn state_deployment(&mut self, id: &DeploymentId, now: Timestamp) {
        let Some(journaled) = self.deployments.get(id) else { return };
        let (deployment, facts) = (&journaled.deployment, &journaled.facts);
        let Some(outcome) = deployment.outcome() else { return };
        let spec = deployment.spec();
        // Without a last round only what is known of this moment counts.
        let lately = Timestamp(now.0.saturating_sub_unsigned(LIMITS.stale.0));
        let verifying = |fact: &Fact| matches!(fact, Fact::VerificationStarted { .. });
        let since = facts.iter().rev().find(|fact| verifying(fact)).map_or(lately, Fact::at);
        let nodes = deployment
            .nodes()
            .iter()
            .map(|(name, walked)| self.walked_entry(deployment, name, walked, since, now))
            .collect();
        // Presence is said by the nodes' states; whether an agent lies is not.
        let concerns = |key: &FindingKey| match &key.service {
            Some(service) => *service == spec.service,
            None => key.kind == Kind::Agent,
        };
        let open = self
            .ledger
            .open()
            .filter(|open| concerns(&open.finding.key) && deployment.nodes().contains(&open.finding.key.node));
        let findings: Result<Vec<Found>, String> =
            open.map(|open| found(&finding_view(&open.finding, open.since))).collect();
        let waivers = waivers(id, deployment, now).collect();
        let occasion = Occasion::Deployment {
            id: id.clone(),
            service: spec.service.clone(),
            environment: spec.environment.clone(),
            direction: spec.kind.as_str().into(),
            actor: spec.actor.clone(),
            limit: spec.limit.clone(),
            began_at: Moment::from(deployment.started_at()),
            outcome,
            cause: deployment.cause().map(ToString::to_string).unwrap_or_default(),
            approvals: facts.iter().filter_map(|fact| approval(deployment, fact)).collect(),
        };
        let record = (records::Occasion::Deployment, id.to_string(), spec.actor.clone());
        let sealed = findings.and_then(|findings| self.seal(record, occasion, nodes, findings, waivers, now));
        if let Err(why) = sealed {
            tracing::error!(deployment = %id, why, "no statement was made of this deployment");
        }
    }

    /// Signs a statement, with the next number and the digest of the one before it, and has it saved.
    fn seal(
        &mut self,
        (why, about, actor): (records::Occasion, String, String),
        occasion: Occasion,
        nodes: Vec<Entry>,
        findings: Vec<Found>,
        waivers: Vec<Waived>,
        now: Timestamp,
    ) -> Result<String, String> {
        let last = self.statements.last_key_value().map(|(_, record)| (record.sequence, record.digest));
        let sequence = last.map_or(1, |(sequence, _)| sequence + 1);
        let statement = Statement::new(Predicate {
            fleet: self.fleet.clone(),
            controller: env!("CARGO_PKG_VERSION").into(),
            sequence,
            previous: last.map(|(_, digest)| digest),
            made_at: Moment::from(now),
            occasion,
            // Statement::new fills it in.
            verdict: Verdict::Unknown,
            nodes,
            findings,
            waivers,
        });
        let payload = statement.to_payload().map_err(|e| format!("the statement cannot be written: {e}"))?;
        let sealer = self.sealer.as_ref().ok_or("this controller has no key for statements")?;
        let envelope = sealer.seal(PAYLOAD_TYPE, &payload).map_err(|e| format!("it cannot be signed: {e}"))?;
        let stated = statement.predicate();
        let pieces = records::pieces(&envelope);
        let record = StatementRecord {
            sequence,
            digest: Digest(sha2::Sha256::digest(&payload).into()),
            made_at: now,
            occasion: why,
            about,
            actor,
            verdict: stated.verdict,
            proven: count(stated.nodes.iter().filter(|entry| is_proven(&entry.state))),
            nodes: count(stated.nodes.iter()),
            size: envelope.len() as u64,
            pieces: u32::try_from(pieces.len()).unwrap_or(u32::MAX),
        };
        tracing::info!(sequence, digest = %record.digest, verdict = %record.verdict, "a statement was made");
        self.save(Change::Statement { record: record.clone(), envelope: pieces });
        self.statements.insert(sequence, record);
        self.make_room();
        Ok(envelope)
    }

    fn make_room(&mut self) {
        let mut bytes: u64 = self.statements.values().map(|record| record.size).sum();
        while self.statements.len() > 1 && (self.statements.len() > MOST_KEPT || bytes > MOST_BYTES) {
            let Some((_, oldest)) = self.statements.pop_first() else { return };
            bytes -= oldest.size;
            self.save(Change::ForgetStatement(oldest));
        }
    }

    /// What is known of one order, by evidence asked for at `since` or later.
    fn entry(&self, order: &Order, since: Timestamp, depth: Depth, now: Timestamp) -> Entry {
        let release = |release: &fleet::ReleaseId, bundle: &Digest| Release {
            id: release.clone(),
            version: self.releases.get(release).map(|record| record.version.clone()),
            bundle: *bundle,
        };
        Entry {
            node: order.node.clone(),
            service: Some(order.service.clone()),
            generation: Some(order.generation),
            expected: match &order.hold {
                Hold::Release { release: id, bundle, .. } => Some(release(id, bundle)),
                Hold::Nothing => None,
            },
            state: self.node_state(order, since, depth, now),
        }
    }

    fn node_state(&self, order: &Order, since: Timestamp, depth: Depth, now: Timestamp) -> NodeState {
        let seen = self.seen.get(&order.node);
        let answer = self.answer_of(&order.node, since, depth);
        let observed = seen.and_then(|seen| seen.last_observation).filter(|_| answer == Answer::AsAsked);
        let comparison = seen.and_then(|seen| seen.comparisons.get(&order.service));
        let attestation = seen.and_then(|seen| seen.latest.as_ref());
        let standing = comparison.map(|comparison| &comparison.standing);
        if let (Some(drawn_at), Some(Standing::Proven { grade, .. }), Some(attestation)) =
            (observed, standing, attestation)
        {
            let (nonce, nonce_drawn_at) = (attestation.nonce.clone(), Moment::from(drawn_at));
            match (&order.hold, self.proof(order, since, depth, now)) {
                (Hold::Nothing, _) => return NodeState::ProvenEmpty { nonce, nonce_drawn_at },
                (Hold::Release { .. }, Some(proof)) => {
                    if let Ok(digest) = proof.digest.parse() {
                        let (grade, processes) = (*grade, proof.processes);
                        return NodeState::Proven { grade, digest, processes, nonce, nonce_drawn_at };
                    }
                }
                (Hold::Release { .. }, None) => {}
            }
        }
        let differs = comparison.filter(|comparison| comparison.standing == Standing::Differs && observed.is_some());
        let why = match differs {
            Some(comparison) => Comparison::summary(comparison),
            None => known_of(order.generation, answer, standing),
        };
        NodeState::Unproven { why }
    }

    /// What is known of a node at the end of a deployment.
    fn walked_entry(
        &self,
        deployment: &Deployment,
        node: &NodeName,
        walked: &Walked,
        since: Timestamp,
        now: Timestamp,
    ) -> Entry {
        let service = &deployment.spec().service;
        let observed = self.answer_of(node, since, Depth::Sweep) == Answer::AsAsked;
        let mut entry = match self.order(node, service) {
            // The last round asks for no less.
            Some(order) => self.entry(order, since, Depth::Sweep, now),
            None => unordered_entry(node, Some(service)),
        };
        let waived = deployment.nodes().waiver(node).is_some_and(|waiver| waiver.is_valid(now));
        let unproven = |why: String| if waived { NodeState::Waived { why } } else { NodeState::Unproven { why } };
        entry.state = match (entry.state, walked) {
            (_, Walked::Decommissioned { reason, .. }) => NodeState::Decommissioned { why: reason.clone() },
            (NodeState::Unproven { .. }, Walked::Verified { since, grade }) if !observed => {
                NodeState::OnRecord { grade: *grade, at: Moment::from(*since) }
            }
            // Why it failed is better known to the deployment than from the last glance.
            (
                NodeState::Unproven { .. } | NodeState::Unordered {},
                Walked::Failed { reason, .. } | Walked::NotRestored { reason, .. } | Walked::Unverified { reason, .. },
            ) => unproven(reason.clone()),
            (NodeState::Unproven { why }, _) => unproven(why),
            (state, _) => state,
        };
        entry
    }

    /// The newest deployment of every service, or of one.
    fn newest_deployments(&self, only: Option<&ServiceName>) -> Vec<(&DeploymentId, &Deployment)> {
        let mut newest = std::collections::BTreeMap::new();
        for (id, journaled) in &self.deployments {
            let deployment = &journaled.deployment;
            let service = &deployment.spec().service;
            if only.is_some_and(|only| only != service) {
                continue;
            }
            let held = newest.entry(service).or_insert((id, deployment));
            if held.1.started_at() < deployment.started_at() {
                *held = (id, deployment);
            }
        }
        newest.into_values().collect()
    }

    /// The statements that are kept with a higher number, newest first.
    pub(super) fn list_statements(&self, after: u64) -> Vec<StatementRecord> {
        self.statements.range(after.saturating_add(1)..).rev().map(|(_, record)| record.clone()).collect()
    }

    /// One that is kept, by number or by its deployment.
    pub(super) fn find_statement(&self, request: &v1::GetStatementRequest) -> Result<StatementRecord, Refusal> {
        const LIST: &str = "list them: fleetctl statements list";
        let record = match (request.deployment.as_str(), request.sequence) {
            ("", 0) => self.statements.last_key_value().map(|(_, record)| record),
            ("", sequence) => self.statements.get(&sequence),
            (name, _) => {
                let id = find_by_prefix(self.deployments.keys(), name)?;
                let of_it = |record: &&StatementRecord| {
                    record.occasion == records::Occasion::Deployment && record.about == id.as_str()
                };
                self.statements.values().rev().find(of_it)
            }
        };
        record.cloned().ok_or_else(|| match (request.deployment.as_str(), request.sequence) {
            ("", 0) => Refusal::unknown("no statement was made yet", "make one: fleetctl verify"),
            ("", sequence) => Refusal::unknown(format!("statement {sequence} is not kept here"), LIST),
            (name, _) => {
                Refusal::unknown(format!("no statement of deployment '{}' is kept here", name.escape_default()), LIST)
            }
        })
    }
}

/// A statement as it lies in the store.
pub(super) async fn read(store: &dyn Store, record: &StatementRecord) -> Result<v1::GetStatementReply, Refusal> {
    match records::envelope(store, record).await {
        Ok(Some(envelope)) => Ok(v1::GetStatementReply { envelope: envelope.into_bytes() }),
        // Dropped in this very turn to make room.
        Ok(None) => Err(Refusal::unknown(
            format!("statement {} is no longer kept", record.sequence),
            "list them: fleetctl statements list",
        )),
        Err(error) => Err(Refusal::precheck(
            format!("statement {} cannot be read: {error}", record.sequence),
            "look at the controller's disk",
        )),
    }
}

fn count<T>(things: impl Iterator<Item = T>) -> u32 {
    u32::try_from(things.count()).unwrap_or(u32::MAX)
}

fn is_proven(state: &NodeState) -> bool {
    match state {
        NodeState::Proven { .. } | NodeState::ProvenEmpty { .. } | NodeState::OnRecord { .. } => true,
        NodeState::Unproven { .. }
        | NodeState::Waived { .. }
        | NodeState::Unordered {}
        | NodeState::Decommissioned { .. } => false,
    }
}

fn unordered_entry(node: &NodeName, service: Option<&ServiceName>) -> Entry {
    let state = NodeState::Unordered {};
    Entry { node: node.clone(), service: service.cloned(), generation: None, expected: None, state }
}

/// The waivers of a deployment that still hold.
fn waivers<'a>(id: &'a DeploymentId, deployment: &'a Deployment, now: Timestamp) -> impl Iterator<Item = Waived> + 'a {
    let nodes = deployment.nodes();
    let waived = nodes.iter().filter_map(|(node, _)| Some((node, nodes.waiver(node)?)));
    waived.filter(move |(_, waiver)| waiver.is_valid(now)).map(|(node, waiver)| Waived {
        node: node.clone(),
        deployment: id.clone(),
        by: waiver.by.clone(),
        reason: waiver.reason.clone(),
        until: Moment::from(waiver.until),
    })
}

/// A person's yes, if that is what this fact is.
fn approval(deployment: &Deployment, fact: &Fact) -> Option<Approval> {
    if let Fact::Promoted { at, by, .. } | Fact::Resumed { at, by } = fact {
        return Some(Approval { at: Moment::from(*at), by: Some(by.clone()), what: fact.kind().to_owned() });
    }
    let Fact::GatePassed { at, asking, detail } = fact else { return None };
    let gate = deployment.spec().gates.get(asking.gate)?;
    let Source::Approval { .. } = gate.source else { return None };
    let what = format!("{}, segment {}: {detail}", gate.name, asking.segment + 1);
    Some(Approval { at: Moment::from(*at), by: None, what })
}

/// A finding as it was shown. One that cannot be written down must not be left out, so then there is no statement.
fn found(shown: &v1::Finding) -> Result<Found, String> {
    let unwritable = |e: &dyn std::fmt::Display| format!("a finding cannot be written down: {e}");
    Ok(Found {
        node: shown.node.parse().map_err(|e| unwritable(&e))?,
        service: match shown.service.as_str() {
            "" => None,
            name => Some(name.parse().map_err(|e| unwritable(&e))?),
        },
        kind: shown.kind.parse().map_err(|e| unwritable(&e))?,
        what: shown.what.clone(),
        expected: shown.expected.clone(),
        found: shown.found.clone(),
        severity: if shown.severity == Severity::Warning.as_str() { Severity::Warning } else { Severity::Critical },
        since: Moment::from(Timestamp(shown.since_ms)),
        by: Some(shown.by.clone()).filter(|by| !by.is_empty()),
        changed_at: shown.changed_at_ms.map(|at| Moment::from(Timestamp(at))),
    })
}
