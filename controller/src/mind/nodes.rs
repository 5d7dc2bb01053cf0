//! Agents that come, speak and go; rounds of observation; silence; the roster.

use fleet::deployment::{Event, Observation, Seen};
use fleet::drift::{Comparison, Finding, FindingKey, Kind, Standing, compare, presence};
use fleet::evidence::Attestation;
use fleet::ledger::Subject;
use fleet::release::Grade;
use fleet::{Generation, Millis, NodeName, Nonce, Outcome, ServiceName, Timestamp};
use fleet_certs::{Identity, Role};
use fleet_proto::{convert, v1};

use super::ask::{JoinAs, Joined, Refusal};
use super::state::{LIMITS, NodeSeen, OpenLink, State};
use crate::clock;
use crate::records::{Change, Decommission, Enrolled, NodeRecord, OperatorRecord};

/// Nonces out per node: a few rounds may be under way on a slow link; an older one than that is no proof of now.
const NONCES_OUT: usize = 8;
/// How long an agent may be at an older order before it is said so.
const BEHIND_GRACE: Millis = Millis(7_000);
/// How long an agent may be at work with no deployment pointing at it before it is said so.
const WORK_GRACE: Millis = Millis(30_000);
/// The most nodes one import may name.
const MOST_IMPORTED: usize = 20_000;

impl State {
    pub(super) fn connected(&mut self, node: NodeName, link: OpenLink, agent_version: String, now: Timestamp) {
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

    /// A node that joined after the last deployment began is a node with a difference: it shall hold what that
    /// deployment proved everywhere else. What did not converge is given to nobody, and a node that was there and was
    /// left out (`--limit`) stays out. While a deployment of the service runs a newcomer waits for its end.
    pub(super) fn welcome(&mut self, node: &NodeName) {
        let mut services: Vec<ServiceName> = self.book.keys().map(|(_, service)| service.clone()).collect();
        services.dedup();
        services.sort();
        services.dedup();
        for service in services {
            let moving = self
                .deployments
                .values()
                .any(|j| j.deployment.outcome().is_none() && j.deployment.spec().service == service);
            let key = (node.clone(), service.clone());
            if moving || self.book.contains_key(&key) {
                continue;
            }
            let of_service = self
                .deployments
                .values()
                .map(|j| &j.deployment)
                .filter(|deployment| deployment.spec().service == service);
            let Some(last) = of_service.max_by_key(|deployment| deployment.started_at()) else { continue };
            let converged = matches!(last.outcome(), Some(Outcome::Converged | Outcome::ConvergedWithWaivers));
            let joined_at =
                self.nodes.get(node).and_then(|record| record.enrolled.as_ref()).map(|enrolled| enrolled.at);
            let is_newcomer = joined_at.is_some_and(|at| at >= last.started_at());
            let Some(release) = last.spec().target.release().filter(|_| converged && is_newcomer).cloned() else {
                continue;
            };
            let meant = self
                .catalogue
                .get(&release)
                .is_some_and(|descriptor| self.expected_for(&descriptor.nodes).contains(node));
            let newest = self
                .book
                .values()
                .filter(|order| order.service == service && order.hold.release() == Some(&release))
                .max_by_key(|order| order.generation);
            if let (true, Some(newest)) = (meant, newest.cloned()) {
                let order = fleet::Order { node: node.clone(), ..newest };
                tracing::info!(%node, %service, %release, "a newcomer shall hold what the others hold");
                self.save(Change::Order(order.clone()));
                self.book.insert(key, order);
                self.say_desired(node);
            }
        }
    }

    /// What is left of the time in which agents come back after a start of the controller. Until then a node that has
    /// not been seen is neither present nor absent, and nothing should be planned on it.
    pub(super) fn settling(&self, now: Timestamp) -> Millis {
        let not_back = |record: &NodeRecord| {
            record.enrolled.is_some() && self.seen.get(&record.name).is_none_or(|seen| seen.last_contact.is_none())
        };
        let until = self.started_at.after(LIMITS.silence);
        if self.nodes.values().any(not_back) { until.since(now) } else { Millis(0) }
    }

    pub(super) fn lost(&mut self, node: &NodeName, session: u64, now: Timestamp) {
        let Some(seen) = self.seen.get_mut(node) else { return };
        if seen.link.as_ref().is_some_and(|link| link.session == session) {
            tracing::info!(%node, session, "agent gone");
            seen.link = None;
            seen.last_contact = Some(now);
        }
    }

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

    /// Compares the latest attestation of a node with everything it shall hold.
    fn weigh(&mut self, node: &NodeName, asked_at: Timestamp, now: Timestamp) {
        let Some(attestation) = self.seen.get(node).and_then(|seen| seen.latest.clone()) else { return };
        let orders: Vec<_> =
            self.book.iter().filter(|((name, _), _)| name == node).map(|(_, order)| order.clone()).collect();
        for order in &orders {
            let evidence = attestation.services.iter().find(|evidence| evidence.service == order.service);
            let comparison = compare(order, evidence, &self.catalogue);
            self.judge(node, &order.service, order.generation, comparison, asked_at, now);
        }
        for evidence in &attestation.services {
            if !orders.iter().any(|order| order.service == evidence.service) {
                let key = FindingKey {
                    node: node.clone(),
                    service: Some(evidence.service.clone()),
                    kind: Kind::Agent,
                    what: evidence.service.to_string(),
                };
                let found = match evidence.generation {
                    Generation(0) => {
                        format!("{} processes and a release that nobody ordered here", evidence.processes.len())
                    }
                    generation => format!("an order of generation {generation} that this controller never gave"),
                };
                let entries = self.ledger.observe(
                    Subject::Service(node, &evidence.service),
                    vec![Finding { key, expected: "no such service".into(), found }],
                    now,
                );
                self.save_ledger(entries);
            }
        }
        // What was found of a service that is neither ordered nor mentioned any more is gone.
        let forgotten = |key: &FindingKey| {
            let service = key.service.as_ref().filter(|_| key.node == *node)?;
            let named = orders.iter().any(|order| order.service == *service)
                || attestation.services.iter().any(|evidence| evidence.service == *service);
            (!named).then(|| service.clone())
        };
        let forgotten: std::collections::BTreeSet<_> =
            self.ledger.open().filter_map(|open| forgotten(&open.finding.key)).collect();
        for service in forgotten {
            let entries = self.ledger.observe(Subject::Service(node, &service), Vec::new(), now);
            self.save_ledger(entries);
        }
        // A service that a node never had is proven absent by an attestation that does not mention it.
        let without: Vec<_> = self
            .deployments
            .iter()
            .filter(|(_, journaled)| journaled.deployment.outcome().is_none())
            .filter(|(_, journaled)| {
                let service = &journaled.deployment.spec().service;
                !orders.iter().any(|order| order.service == *service)
                    && !attestation.services.iter().any(|evidence| evidence.service == *service)
            })
            .map(|(id, _)| id.clone())
            .collect();
        for id in without {
            let observation = Observation {
                asked_at,
                generation: Generation(0),
                seen: Seen::Proven { grade: Grade::Digest, up: Millis(u64::MAX) },
            };
            self.deployment_event(&id, &Event::Observed { node: node.clone(), observation }, now);
        }
    }

    fn judge(
        &mut self,
        node: &NodeName,
        service: &ServiceName,
        generation: Generation,
        comparison: Comparison,
        asked_at: Timestamp,
        now: Timestamp,
    ) {
        let seen = match &comparison.standing {
            Standing::Proven { grade, up } => Seen::Proven { grade: *grade, up: *up },
            Standing::Working { step, detail } if detail.is_empty() => Seen::Working { detail: step.clone() },
            Standing::Working { step, detail } => Seen::Working { detail: format!("{step}: {detail}") },
            Standing::Behind { .. } => Seen::Working { detail: "has not taken the order in yet".into() },
            Standing::Fenced { reason } => Seen::Working { detail: format!("fenced: {reason}") },
            Standing::Failed { reason } => Seen::Failed { reason: reason.clone() },
            Standing::Differs => Seen::Differs { reason: comparison.summary() },
        };
        let pointing: Vec<_> = self
            .deployments
            .iter()
            .filter(|(_, journaled)| journaled.deployment.is_pointing_at(node, service))
            .map(|(id, _)| id.clone())
            .collect();
        if let Some(findings) = self.statement(node, service, &comparison, pointing.is_empty(), now) {
            let entries = self.ledger.observe(Subject::Service(node, service), findings, now);
            self.save_ledger(entries);
        }
        if let Some(known) = self.seen.get_mut(node) {
            known.comparisons.insert(service.clone(), comparison);
        }
        let running: Vec<_> = self
            .deployments
            .iter()
            .filter(|(_, journaled)| {
                journaled.deployment.outcome().is_none() && journaled.deployment.spec().service == *service
            })
            .map(|(id, _)| id.clone())
            .collect();
        for id in running {
            let observation = Observation { asked_at, generation, seen: seen.clone() };
            self.deployment_event(&id, &Event::Observed { node: node.clone(), observation }, now);
        }
    }

    /// What can be said about drift: nothing while a node is being changed, unless the change takes too long.
    fn statement(
        &mut self,
        node: &NodeName,
        service: &ServiceName,
        comparison: &Comparison,
        nobody_points: bool,
        now: Timestamp,
    ) -> Option<Vec<Finding>> {
        let seen = self.seen.get_mut(node)?;
        if comparison.is_settled() {
            seen.unsettled_since.remove(service);
            return Some(comparison.findings.clone());
        }
        let since = *seen.unsettled_since.entry(service.clone()).or_insert(now);
        let found = match &comparison.standing {
            Standing::Behind { .. } if now.since(since) > BEHIND_GRACE => {
                "its agent does not take the order in".to_owned()
            }
            Standing::Working { step, detail } if nobody_points && now.since(since) > WORK_GRACE => {
                format!("still at {step}: {detail}")
            }
            _ => return None,
        };
        let expected = self.book.get(&(node.clone(), service.clone())).and_then(|order| order.hold.release().cloned());
        let expected = expected.map_or_else(|| "no release".to_owned(), |id| self.catalogue.describe(&id));
        let key = FindingKey {
            node: node.clone(),
            service: Some(service.clone()),
            kind: Kind::Version,
            what: service.to_string(),
        };
        Some(vec![Finding { key, expected, found }])
    }

    /// Asks every connected node for fresh evidence.
    pub(super) fn ask_everyone(&mut self, _now: Timestamp) {
        let connected: Vec<_> =
            self.seen.iter().filter(|(_, seen)| seen.link.is_some()).map(|(node, _)| node.clone()).collect();
        for node in connected {
            self.challenge(&node);
        }
    }

    pub(super) fn send_challenge(&mut self, node: &NodeName) {
        let Ok(bits) = random_bits() else {
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

    /// Silence is looked for; it does not announce itself.
    pub(super) fn look_for_silence(&mut self, now: Timestamp) {
        let names: Vec<_> = self.nodes.keys().cloned().collect();
        for node in names {
            let findings = presence(&node, &self.sight(&self.nodes[&node]), now, LIMITS);
            let entries = self.ledger.observe(Subject::Presence(&node), findings, now);
            self.save_ledger(entries);
        }
    }

    pub(super) fn import(&mut self, request: v1::ImportNodesRequest) -> Result<v1::ImportNodesReply, Refusal> {
        if request.nodes.len() > MOST_IMPORTED {
            return Err(Refusal::input(
                format!("{} names are more than the {MOST_IMPORTED} one import may have", request.nodes.len()),
                "import in parts",
            ));
        }
        let mut imported = Vec::new();
        for node in request.nodes {
            let name: NodeName = convert::parse("name", &node.name)
                .map_err(|e| Refusal::input(e.to_string(), "correct the inventory; nothing was imported"))?;
            imported.push((name, node.labels.into_iter().collect::<std::collections::BTreeMap<_, _>>()));
        }
        let mut reply = v1::ImportNodesReply::default();
        let source: String = request.source.chars().take(200).collect();
        for (name, labels) in &imported {
            match self.nodes.get_mut(name) {
                Some(record) => {
                    reply.known.push(name.to_string());
                    record.imported_from = Some(source.clone());
                    record.labels.extend(labels.clone());
                    let record = record.clone();
                    self.save(Change::Node(record));
                }
                None => {
                    reply.added.push(name.to_string());
                    let record = NodeRecord {
                        name: name.clone(),
                        labels: labels.clone(),
                        enrolled: None,
                        imported_from: Some(source.clone()),
                    };
                    self.nodes.insert(name.clone(), record.clone());
                    self.save(Change::Node(record));
                }
            }
        }
        reply.not_listed = self
            .nodes
            .keys()
            .filter(|name| !imported.iter().any(|(listed, _)| listed == *name))
            .map(ToString::to_string)
            .collect();
        Ok(reply)
    }

    pub(super) fn join(&mut self, wish: JoinAs, now: Timestamp) -> Result<Joined, Refusal> {
        let refused = |e: &dyn std::fmt::Display| {
            Refusal::not_allowed(
                format!("joining as '{}' is refused: {e}", wish.name.escape_default()),
                "make a new token: fleetctl tokens create",
            )
        };
        let mut token =
            self.tokens.get(&wish.token_id).cloned().ok_or_else(|| refused(&fleet_certs::TokenRefusal::Unknown))?;
        token.redeem(&wish.token_secret, &wish.name, now.0).map_err(|e| refused(&e))?;
        let role = token.role;
        let node_name: Option<NodeName> = match role {
            Role::Node => Some(wish.name.parse().map_err(|e| refused(&e))?),
            Role::Operator | Role::Controller => None,
        };
        if node_name.as_ref().and_then(|name| self.nodes.get(name)).is_some_and(|record| record.enrolled.is_some()) {
            let help = format!(
                "choose another name (--name), or take the old node out first: fleetctl nodes remove {}",
                wish.name
            );
            return Err(Refusal::not_allowed(
                format!("a node named '{}' has already joined, with another key", wish.name),
                help,
            ));
        }
        if role == Role::Operator
            && self.operators.contains_key(&wish.name)
            && token.name.as_deref() != Some(wish.name.as_str())
        {
            let help = format!(
                "choose another name (--name), or use a token made for this one: fleetctl tokens create --role operator --name {}",
                wish.name
            );
            return Err(Refusal::not_allowed(
                format!("an operator named '{}' exists, and this token was not made for that name", wish.name),
                help,
            ));
        }
        let name = wish.name.clone();
        let issued = (wish.issue)(role)?;
        let identity =
            Identity::new(role, name.clone()).map_err(|e| Refusal::input(e.to_string(), "choose another name"))?;
        let not_after = issued.not_after.duration_since(std::time::UNIX_EPOCH).unwrap_or_default();
        let not_after = Timestamp(i64::try_from(not_after.as_millis()).unwrap_or(i64::MAX));
        let enrolled = Enrolled { serial: issued.serial.clone(), not_after, at: now, token: token.id.clone() };
        match node_name {
            Some(node) => {
                let record = self.nodes.entry(node.clone()).or_insert_with(|| NodeRecord {
                    name: node.clone(),
                    labels: Default::default(),
                    enrolled: None,
                    imported_from: None,
                });
                record.labels.extend(wish.labels);
                record.labels.extend(token.labels.clone());
                record.enrolled = Some(enrolled);
                let record = record.clone();
                self.seen.insert(node, NodeSeen { watched_since: now, ..NodeSeen::default() });
                self.save(Change::Node(record));
            }
            None => {
                let record = self
                    .operators
                    .entry(name.clone())
                    .or_insert_with(|| OperatorRecord { name: name.clone(), certificates: Vec::new() });
                record.certificates.push(enrolled);
                let record = record.clone();
                self.save(Change::Operator(record));
            }
        }
        tracing::info!(name, role = role.as_str(), token = token.id, "joined");
        self.allowed.grant(identity, issued.serial.clone());
        self.save(Change::Token(token.clone()));
        self.tokens.insert(token.id.clone(), token);
        Ok(Joined { role, issued })
    }

    /// Takes a node out: its certificate is refused from now on, and its open connections are closed before the answer.
    pub(super) fn remove_node(
        &mut self,
        by: &str,
        name: &NodeName,
        reason: String,
        now: Timestamp,
    ) -> Result<v1::RemoveNodeReply, Refusal> {
        if !self.nodes.contains_key(name) {
            return Err(Refusal::unknown(format!("there is no node '{name}'"), "list them: fleetctl nodes list"));
        }
        if let Some((id, _)) = self.deployments.iter().find(|(_, journaled)| {
            journaled.deployment.outcome().is_none() && journaled.deployment.nodes().contains_key(name)
        }) {
            return Err(Refusal::busy(
                format!("'{name}' takes part in the running deployment {id}"),
                format!("wait for it (fleetctl wait {id}) or abort it (fleetctl abort {id})"),
            ));
        }
        if let Ok(identity) = Identity::new(Role::Node, name.as_str()) {
            self.allowed.withdraw(&identity);
            self.sessions.revoke(&identity);
        }
        self.nodes.remove(name);
        let was_connected = self.seen.remove(name).is_some_and(|seen| seen.link.is_some());
        let services: Vec<_> =
            self.book.keys().filter(|(node, _)| node == name).map(|(_, service)| service.clone()).collect();
        for service in services {
            self.book.remove(&(name.clone(), service.clone()));
            self.save(Change::ForgetOrder(name.clone(), service));
        }
        let entries = self.ledger.remove_node(name, now);
        let findings_closed = u32::try_from(entries.len()).unwrap_or(u32::MAX);
        self.save_ledger(entries);
        self.save(Change::RemoveNode {
            name: name.clone(),
            decommission: Decommission { at: now, by: by.to_owned(), reason },
        });
        Ok(v1::RemoveNodeReply { findings_closed, was_connected })
    }
}

/// Random bits from the operating system.
pub(super) fn random_bits() -> Result<u128, getrandom::Error> {
    let mut bytes = [0; 16];
    getrandom::fill(&mut bytes)?;
    Ok(u128::from_le_bytes(bytes))
}
