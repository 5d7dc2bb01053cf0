//! What people say of findings: accepting one as it is, ignoring extra files. What may be accepted, and when that ends, is
//! `fleet::drift`'s; here it is kept, told to the ledger, and shown.

use fleet::drift::{Acceptance, Consent, Finding, FindingKey, Glob, IgnoreRule, Kind};
use fleet::ledger::{LedgerEntry, OpenFinding, Reopening};
use fleet::{Millis, NodeName, ServiceName, Timestamp};
use fleet_proto::{convert, v1};

use super::ask::Refusal;
use super::state::State;
use crate::records::Change;

/// How long an acceptance lasts when nothing is said, and at most: an exception that nobody looks at again is a habit.
const LASTS: Millis = Millis::from_secs(30 * 24 * 3_600);
const LONGEST: Millis = fleet::time::LONGEST;
/// The longest reason, in characters.
const LONGEST_REASON: usize = 1_000;
/// More acceptances than this are a fleet that nobody deploys to any more.
const MOST_ACCEPTANCES: usize = 10_000;
/// Rules of one service; each is held against each of its extra files.
const MOST_RULES: usize = 100;

impl State {
    /// Accepts the differences of a path as they are.
    pub(super) fn accept(
        &mut self,
        by: &str,
        request: &v1::AcceptFindingRequest,
        now: Timestamp,
    ) -> Result<Vec<v1::Acceptance>, Refusal> {
        let help = "see: fleetctl drift accept --help";
        let node: NodeName = convert::parse("node", &request.node).map_err(|e| Refusal::input(e.to_string(), help))?;
        let kind = match request.kind.as_str() {
            "" => None,
            kind => Some(convert::parse::<Kind>("kind", kind).map_err(|e| Refusal::input(e.to_string(), help))?),
        };
        let reason = reason(&request.reason, "an acceptance", "say why: --reason TEXT")?;
        let lasts = if request.for_ms == 0 { LASTS } else { Millis(request.for_ms).min(LONGEST) };
        let meant = |finding: &Finding| {
            let key = &finding.key;
            key.node == node
                && key.what == request.what
                && kind.is_none_or(|kind| kind == key.kind)
                && (request.service.is_empty() || key.service.as_ref().is_some_and(|s| s.as_str() == request.service))
        };
        let found: Vec<Finding> = self.ledger.open().map(|open| &open.finding).filter(|f| meant(f)).cloned().collect();
        if found.is_empty() {
            let what = format!("nothing is found of '{}' on {node} that could be accepted", request.what);
            return Err(Refusal::unknown(what, format!("see what is: fleetctl drift {node}")));
        }
        let mut accepted = Vec::new();
        for finding in found {
            let service = finding.key.service.clone();
            let release = service.and_then(|s| self.order(&node, &s).and_then(|order| order.hold.release().cloned()));
            let Some(release) = release else {
                let what = format!("'{}' belongs to no release that {node} shall hold", request.what);
                return Err(Refusal::precheck(what, "look: fleetctl nodes show NODE"));
            };
            let consent = Consent { by: by.into(), reason: reason.clone(), at: now, until: now.after(lasts) };
            accepted.push(Acceptance::of(&finding, release, consent).map_err(|why| {
                Refusal::precheck(
                    why.to_string(),
                    "put it right (fleetctl drift fix), deploy, or for extra files: fleetctl drift ignore add",
                )
            })?);
        }
        if self.acceptances.len() + accepted.len() > MOST_ACCEPTANCES {
            let what = format!("there are {MOST_ACCEPTANCES} acceptances already");
            return Err(Refusal::precheck(what, "remove some: fleetctl drift accept list"));
        }
        for acceptance in &accepted {
            self.acceptances.insert(acceptance.key.clone(), acceptance.clone());
            self.save(Change::Acceptance(Box::new(acceptance.clone())));
            let entry = LedgerEntry::Accepted { at: now, acceptance: Box::new(acceptance.clone()) };
            self.save_ledger(vec![entry]);
        }
        Ok(accepted.iter().map(|acceptance| self.show_acceptance(acceptance, now)).collect())
    }

    /// Every acceptance, of one node or service if named.
    pub(super) fn list_acceptances(&self, request: &v1::ListAcceptancesRequest, now: Timestamp) -> Vec<v1::Acceptance> {
        let asked = |key: &FindingKey| {
            (request.node.is_empty() || key.node.as_str() == request.node)
                && (request.service.is_empty() || key.service.as_ref().is_some_and(|s| s.as_str() == request.service))
        };
        let found = self.acceptances.values().filter(|acceptance| asked(&acceptance.key));
        found.map(|acceptance| self.show_acceptance(acceptance, now)).collect()
    }

    /// Takes acceptances back: what they covered is counted again.
    pub(super) fn remove_acceptances(
        &mut self,
        by: &str,
        request: &v1::RemoveAcceptanceRequest,
        now: Timestamp,
    ) -> Result<Vec<v1::Acceptance>, Refusal> {
        let meant = |key: &FindingKey| {
            key.node.as_str() == request.node
                && key.what == request.what
                && (request.kind.is_empty() || key.kind.as_str() == request.kind)
                && (request.service.is_empty() || key.service.as_ref().is_some_and(|s| s.as_str() == request.service))
        };
        let keys: Vec<FindingKey> = self.acceptances.keys().filter(|key| meant(key)).cloned().collect();
        if keys.is_empty() {
            let what = format!("nothing of '{}' on '{}' is accepted", request.what, request.node.escape_default());
            return Err(Refusal::unknown(what, "list them: fleetctl drift accept list"));
        }
        let mut removed = Vec::new();
        for key in keys {
            if let Some(acceptance) = self.acceptances.get(&key) {
                removed.push(self.show_acceptance(acceptance, now));
            }
            self.end_acceptance(&key, Reopening::Removed { by: by.to_owned() }, now);
        }
        Ok(removed)
    }

    /// The acceptance that covers a finding now, if one does.
    pub(super) fn covering(&self, finding: &Finding, now: Timestamp) -> Option<&Acceptance> {
        let release = self.desired_of(&finding.key);
        self.acceptances.get(&finding.key).filter(|acceptance| acceptance.covers(finding, release, now))
    }

    /// Ends what a newer change of the file has made void.
    pub(super) fn void_acceptances(&mut self, node: &NodeName, service: &ServiceName, now: Timestamp) {
        let is_void = |(key, acceptance): (&FindingKey, &Acceptance)| {
            let open = self.ledger.get(key)?;
            let of_this = key.node == *node && key.service.as_ref() == Some(service);
            (of_this && acceptance.is_void(&open.finding, self.desired_of(key))).then(|| key.clone())
        };
        let void: Vec<FindingKey> = self.acceptances.iter().filter_map(is_void).collect();
        for key in void {
            self.end_acceptance(&key, Reopening::Changed, now);
        }
    }

    /// Ends what has lasted long enough.
    pub(super) fn end_acceptances(&mut self, now: Timestamp) {
        let over = |(key, acceptance): (&FindingKey, &Acceptance)| (acceptance.until <= now).then(|| key.clone());
        let over: Vec<FindingKey> = self.acceptances.iter().filter_map(over).collect();
        for key in over {
            self.end_acceptance(&key, Reopening::Expired, now);
        }
    }

    /// What was accepted on a node goes with it.
    pub(super) fn forget_acceptances(&mut self, node: &NodeName) {
        let keys: Vec<FindingKey> = self.acceptances.keys().filter(|key| key.node == *node).cloned().collect();
        for key in keys {
            self.acceptances.remove(&key);
            self.save(Change::ForgetAcceptance(key));
        }
    }

    fn end_acceptance(&mut self, key: &FindingKey, why: Reopening, now: Timestamp) {
        self.acceptances.remove(key);
        self.save(Change::ForgetAcceptance(key.clone()));
        if self.ledger.get(key).is_some() {
            self.save_ledger(vec![LedgerEntry::Reopened { at: now, key: key.clone(), why }]);
        }
    }

    fn desired_of(&self, key: &FindingKey) -> Option<&fleet::ReleaseId> {
        self.order(&key.node, key.service.as_ref()?)?.hold.release()
    }

    pub(super) fn show_acceptance(&self, acceptance: &Acceptance, now: Timestamp) -> v1::Acceptance {
        let key = &acceptance.key;
        let open = self.ledger.get(key);
        v1::Acceptance {
            node: key.node.to_string(),
            service: key.service.as_ref().map(ToString::to_string).unwrap_or_default(),
            kind: key.kind.to_string(),
            what: key.what.clone(),
            release: acceptance.release.to_string(),
            expected: acceptance.expected.clone(),
            found: acceptance.found.clone(),
            by: acceptance.by.clone(),
            reason: acceptance.reason.clone(),
            at_ms: acceptance.at.0,
            until_ms: acceptance.until.0,
            covers: open.is_some_and(|open| acceptance.covers(&open.finding, self.desired_of(key), now)),
        }
    }

    /// Ignores extra files from now on.
    pub(super) fn add_ignore(
        &mut self,
        by: &str,
        request: &v1::IgnoreRule,
        now: Timestamp,
    ) -> Result<v1::IgnoreRule, Refusal> {
        let (service, glob) = read_rule(request)?;
        let reason = reason(&request.reason, "a rule", "say why: --reason TEXT")?;
        self.ignores.retain(|rule| (&rule.service, &rule.glob) != (&service, &glob));
        if self.ignores.iter().filter(|rule| rule.service == service).count() >= MOST_RULES {
            let what = format!("{service} has {MOST_RULES} rules already");
            return Err(Refusal::precheck(what, "remove some: fleetctl drift ignore list"));
        }
        let rule = IgnoreRule { service, glob, reason, by: by.to_owned(), at: now };
        self.save(Change::Ignore(rule.clone()));
        self.ignores.push(rule.clone());
        tracing::warn!(by, service = %rule.service, glob = %rule.glob, "extra files are ignored");
        Ok(self.show_rule(&rule))
    }

    /// Every rule, of one service if named.
    pub(super) fn list_ignores(&self, service: &str) -> Vec<v1::IgnoreRule> {
        let asked = |rule: &&IgnoreRule| service.is_empty() || rule.service.as_str() == service;
        self.ignores.iter().filter(asked).map(|rule| self.show_rule(rule)).collect()
    }

    /// Ignores them no longer.
    pub(super) fn remove_ignore(&mut self, by: &str, request: &v1::IgnoreRule) -> Result<v1::IgnoreRule, Refusal> {
        let (service, glob) = read_rule(request)?;
        let Some(at) = self.ignores.iter().position(|rule| (&rule.service, &rule.glob) == (&service, &glob)) else {
            let what = format!("nothing of {service} is ignored by '{glob}'");
            return Err(Refusal::unknown(what, "list them: fleetctl drift ignore list"));
        };
        let rule = self.ignores.remove(at);
        self.save(Change::ForgetIgnore(service, glob));
        tracing::info!(by, service = %rule.service, glob = %rule.glob, "extra files are no longer ignored");
        Ok(self.show_rule(&rule))
    }

    /// The first rule that ignores a finding.
    pub(super) fn ignoring(&self, finding: &Finding) -> Option<&IgnoreRule> {
        self.ignores.iter().find(|rule| rule.ignores(finding))
    }

    fn show_rule(&self, rule: &IgnoreRule) -> v1::IgnoreRule {
        let hidden = |open: &&OpenFinding| self.ignoring(&open.finding).is_some_and(|first| first == rule);
        v1::IgnoreRule {
            service: rule.service.to_string(),
            glob: rule.glob.to_string(),
            reason: rule.reason.clone(),
            by: rule.by.clone(),
            at_ms: rule.at.0,
            ignored: u32::try_from(self.ledger.open().filter(hidden).count()).unwrap_or(u32::MAX),
        }
    }
}

fn read_rule(request: &v1::IgnoreRule) -> Result<(ServiceName, Glob), Refusal> {
    let refuse = |e: convert::ConvertError| Refusal::input(e.to_string(), "see: fleetctl drift ignore add --help");
    let service = convert::parse("service", &request.service).map_err(refuse)?;
    Ok((service, convert::parse("glob", &request.glob).map_err(refuse)?))
}

fn reason(text: &str, of: &str, help: &str) -> Result<String, Refusal> {
    let reason: String = text.trim().chars().filter(|c| !c.is_control()).take(LONGEST_REASON).collect();
    if reason.is_empty() { Err(Refusal::input(format!("{of} without a reason"), help)) } else { Ok(reason) }
}
