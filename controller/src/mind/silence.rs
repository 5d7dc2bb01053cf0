//! What is looked for because it does not announce itself: nodes that are silent, agents whose bad conduct is still held
//! against them, certificates that end.

use std::collections::{BTreeMap, BTreeSet};

use fleet::drift::{Finding, Kind, Life, certificate, presence};
use fleet::ledger::Subject;
use fleet::{NodeName, Timestamp};

use super::state::{LIMITS, State};

/// Under what name the certificates that are no node's are told.
const CONTROLLER: &str = "controller";

impl State {
    /// Looks at all of it.
    pub(super) fn look_for_silence(&mut self, now: Timestamp) {
        let names: Vec<_> = self.nodes.keys().cloned().collect();
        // Nearly all nodes have nothing of it, and going through the ledger costs.
        let open: BTreeSet<(NodeName, Kind)> = self
            .ledger
            .open()
            .map(|open| &open.finding.key)
            .filter(|key| key.service.is_none())
            .map(|key| (key.node.clone(), key.kind))
            .collect();
        let mut certificates = self.certificate_findings(now);
        for node in names {
            let findings = presence(&node, &self.sight(&self.nodes[&node]), now, LIMITS);
            let entries = self.ledger.observe(Subject::Presence(&node), findings, now);
            self.save_ledger(entries);
            let conduct = self.seen.get_mut(&node).map(|seen| seen.conduct.findings(&node, now)).unwrap_or_default();
            let ending = certificates.remove(&node).unwrap_or_default();
            for (kind, findings) in [(Kind::Agent, conduct), (Kind::Certificate, ending)] {
                if findings.is_empty() && !open.contains(&(node.clone(), kind)) {
                    continue;
                }
                let entries = self.ledger.observe(Subject::Whole(&node, kind), findings, now);
                self.save_ledger(entries);
            }
        }
        // What is left is no node's.
        for (name, findings) in certificates {
            let entries = self.ledger.observe(Subject::Whole(&name, Kind::Certificate), findings, now);
            self.save_ledger(entries);
        }
    }

    /// Certificates that end soon, by the name under which they are told; the controller's own always has an entry, so
    /// that what was said of it is closed.
    fn certificate_findings(&self, now: Timestamp) -> BTreeMap<NodeName, Vec<Finding>> {
        let mut found: BTreeMap<NodeName, Vec<Finding>> = BTreeMap::new();
        for record in self.nodes.values() {
            let Some(enrolled) = &record.enrolled else { continue };
            let life = Life { from: enrolled.at, until: enrolled.not_after };
            if let Some(finding) = certificate(&record.name, "the node's certificate", life, now) {
                found.entry(record.name.clone()).or_default().push(finding);
            }
        }
        let Ok(controller) = CONTROLLER.parse::<NodeName>() else { return found };
        let own: Vec<_> = self
            .own_certificates
            .iter()
            .filter_map(|(whose, life)| certificate(&controller, whose, *life, now))
            .collect();
        found.entry(controller).or_default().extend(own);
        found
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use std::collections::BTreeMap;

    use fleet::Millis;
    use fleet_certs::{AllowList, Sessions};

    use super::*;
    use crate::artifacts::Artifacts;
    use crate::config::{Backend, Config};
    use crate::records::{Enrolled, Loaded, NodeRecord};

    const DAY: i64 = 86_400_000;

    /// A node that joined at the beginning of time, with a certificate for ninety days.
    fn state(name: &str) -> State {
        let dir = tempfile::tempdir().unwrap();
        let name: NodeName = name.parse().unwrap();
        let enrolled =
            Enrolled { serial: "1".into(), not_after: Timestamp(90 * DAY), at: Timestamp(0), token: "t".into() };
        let record = NodeRecord {
            name: name.clone(),
            labels: BTreeMap::new(),
            enrolled: Some(enrolled),
            imported_from: None,
            session: 0,
        };
        let loaded = Loaded { nodes: BTreeMap::from([(name, record)]), ..Loaded::default() };
        let config = Config {
            data_dir: dir.path().into(),
            listen: "127.0.0.1:0".parse().unwrap(),
            store: Backend::Sled,
            observe_every: Millis(1),
            permit: Millis(1),
            run_tests: false,
        };
        let artifacts = Artifacts::open(dir.path()).unwrap();
        let allowed = AllowList::default();
        let sessions = Sessions::new(allowed.clone());
        let fleet = "f".to_owned();
        State::restore(fleet, loaded, &artifacts, &config, allowed, sessions, Timestamp(0)).unwrap()
    }

    fn told(state: &mut State, day: i64) -> Vec<(String, String, &'static str)> {
        state.look_for_silence(Timestamp(day * DAY));
        let of_certificates = state.ledger.open().map(|open| &open.finding).filter(|f| f.key.kind == Kind::Certificate);
        of_certificates.map(|f| (f.key.node.to_string(), f.key.what.clone(), f.key.severity().as_str())).collect()
    }

    #[test]
    fn a_certificate_that_ends_is_told_in_time_and_closed_when_it_is_exchanged() {
        // A node may have the name under which the controller's own are told.
        for name in ["n1", "controller"] {
            let mut state = state(name);
            let life = Life { from: Timestamp(0), until: Timestamp(365 * DAY) };
            state.watch_certificates(vec![("the controller's certificate", life)]);
            assert_eq!(told(&mut state, 80), []);
            let soon = |who: &str| (who.to_owned(), "ends soon".to_owned(), "warning");
            let ended = |who: &str| (who.to_owned(), "has ended".to_owned(), "critical");
            assert_eq!(told(&mut state, 85), [soon(name)]);
            assert_eq!(told(&mut state, 90), [ended(name)]);
            let record = state.nodes.values_mut().next().unwrap();
            record.enrolled.as_mut().unwrap().not_after = Timestamp(900 * DAY);
            assert_eq!(told(&mut state, 91), []);
            assert_eq!(told(&mut state, 340), [soon("controller")], "{name}");
            assert_eq!(told(&mut state, 365), [ended("controller")], "{name}");
            state.watch_certificates(vec![]);
            assert_eq!(told(&mut state, 366), [], "{name}");
        }
    }
}
