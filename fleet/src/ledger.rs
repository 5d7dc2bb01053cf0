//! The ledger of drift: when each finding was opened, and when and why it was closed. Entries are facts; whoever
//! calls saves them before anyone is told.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::drift::{Finding, FindingKey, Kind};
use crate::{NodeName, ServiceName, Timestamp};

/// One line of the ledger.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "entry", rename_all = "kebab-case")]
pub enum LedgerEntry {
    /// A finding was seen for the first time.
    Opened {
        /// When.
        at: Timestamp,
        /// The finding.
        finding: Finding,
    },
    /// An open finding looks different now; it stays open since it was opened.
    Changed {
        /// When.
        at: Timestamp,
        /// The finding as it is now.
        finding: Finding,
    },
    /// A finding is no more.
    Closed {
        /// When.
        at: Timestamp,
        /// Which.
        key: FindingKey,
        /// Why.
        why: Closing,
    },
}

/// Why a finding was closed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Closing {
    /// A fresh observation no longer shows it.
    Gone,
    /// The node was removed from the roster.
    NodeRemoved,
}

/// A finding and since when it is open.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct OpenFinding {
    /// The finding as last seen.
    pub finding: Finding,
    /// When it was opened.
    pub since: Timestamp,
}

/// The open findings.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Ledger {
    open: BTreeMap<FindingKey, OpenFinding>,
}

/// Which findings an observation speaks of: those it does not repeat are closed, others are left alone.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Subject<'a> {
    /// The node's own presence: whether it is there and has shown something lately.
    Presence(&'a NodeName),
    /// One kind of finding about the node as a whole.
    Whole(&'a NodeName, Kind),
    /// One service on one node.
    Service(&'a NodeName, &'a ServiceName),
}

impl Subject<'_> {
    fn covers(&self, key: &FindingKey) -> bool {
        match self {
            Self::Presence(node) => {
                key.node == **node
                    && key.service.is_none()
                    && matches!(key.kind, Kind::Unmanaged | Kind::Unreachable | Kind::Stale)
            }
            Self::Whole(node, kind) => key.node == **node && key.service.is_none() && key.kind == *kind,
            Self::Service(node, service) => key.node == **node && key.service.as_ref() == Some(*service),
        }
    }
}

impl Ledger {
    /// Folds one entry. Total: an entry that does not fit changes nothing.
    pub fn apply(&mut self, entry: &LedgerEntry) {
        match entry {
            LedgerEntry::Opened { at, finding } => {
                self.open
                    .entry(finding.key.clone())
                    .or_insert_with(|| OpenFinding { finding: finding.clone(), since: *at });
            }
            LedgerEntry::Changed { finding, .. } => {
                if let Some(open) = self.open.get_mut(&finding.key) {
                    open.finding = finding.clone();
                }
            }
            LedgerEntry::Closed { key, .. } => {
                self.open.remove(key);
            }
        }
    }

    /// Takes a finding back in that was open when it was saved.
    pub fn restore(&mut self, open: OpenFinding) {
        self.open.insert(open.finding.key.clone(), open);
    }

    /// What an observation of `subject` changes: the entries to save, already applied.
    pub fn observe(&mut self, subject: Subject<'_>, findings: Vec<Finding>, at: Timestamp) -> Vec<LedgerEntry> {
        let mut entries = Vec::new();
        let seen: BTreeMap<FindingKey, Finding> =
            findings.into_iter().map(|finding| (finding.key.clone(), finding)).collect();
        for key in self.open.keys().filter(|key| subject.covers(key) && !seen.contains_key(key)) {
            entries.push(LedgerEntry::Closed { at, key: key.clone(), why: Closing::Gone });
        }
        for (key, finding) in seen {
            match self.open.get(&key) {
                None => entries.push(LedgerEntry::Opened { at, finding }),
                // `found` carries ages and counts that move; only a changed expectation is worth a line.
                Some(open) if open.finding.expected != finding.expected => {
                    entries.push(LedgerEntry::Changed { at, finding })
                }
                Some(_) => {}
            }
        }
        for entry in &entries {
            self.apply(entry);
        }
        entries
    }

    /// Closes everything about a node that leaves the roster.
    pub fn remove_node(&mut self, node: &NodeName, at: Timestamp) -> Vec<LedgerEntry> {
        let keys = self.open.keys().filter(|key| key.node == *node).cloned();
        let entries: Vec<_> = keys.map(|key| LedgerEntry::Closed { at, key, why: Closing::NodeRemoved }).collect();
        for entry in &entries {
            self.apply(entry);
        }
        entries
    }

    /// Every open finding, by node, service, kind.
    pub fn open(&self) -> impl Iterator<Item = &OpenFinding> {
        self.open.values()
    }

    /// An open finding by its key.
    pub fn get(&self, key: &FindingKey) -> Option<&OpenFinding> {
        self.open.get(key)
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    fn finding(node: &str, service: Option<&str>, what: &str) -> Finding {
        let key = FindingKey {
            node: node.parse().unwrap(),
            service: service.map(|s| s.parse().unwrap()),
            kind: Kind::File,
            what: what.into(),
        };
        Finding::new(key, "a", "b")
    }

    #[test]
    fn an_observation_closes_only_what_it_speaks_of() {
        let (n1, n2, web): (NodeName, NodeName, ServiceName) =
            ("n1".parse().unwrap(), "n2".parse().unwrap(), "web".parse().unwrap());
        let mut ledger = Ledger::default();
        assert_eq!(
            ledger.observe(Subject::Service(&n1, &web), vec![finding("n1", Some("web"), "x")], Timestamp(1)).len(),
            1
        );
        assert_eq!(
            ledger.observe(Subject::Service(&n1, &web), vec![finding("n1", Some("web"), "x")], Timestamp(2)),
            [],
            "seen again is no news"
        );
        assert_eq!(ledger.observe(Subject::Presence(&n1), vec![], Timestamp(3)), []);
        assert_eq!(ledger.observe(Subject::Service(&n2, &web), vec![], Timestamp(3)), []);
        let db: ServiceName = "db".parse().unwrap();
        assert_eq!(
            ledger.observe(Subject::Service(&n1, &db), vec![], Timestamp(3)),
            [],
            "another service of the node says nothing of this one"
        );
        assert_eq!(ledger.open().map(|open| open.since).collect::<Vec<_>>(), [Timestamp(1)]);
        assert!(matches!(
            ledger.observe(Subject::Service(&n1, &web), vec![], Timestamp(4))[..],
            [LedgerEntry::Closed { why: Closing::Gone, .. }]
        ));
        assert_eq!(ledger.open().count(), 0);
    }

    #[test]
    fn what_is_said_of_the_whole_node_is_closed_kind_by_kind() {
        let n1: NodeName = "n1".parse().unwrap();
        let about =
            |kind| Finding { key: FindingKey { kind, ..finding("n1", None, "x").key }, ..finding("n1", None, "x") };
        let mut ledger = Ledger::default();
        assert_eq!(ledger.observe(Subject::Whole(&n1, Kind::Agent), vec![about(Kind::Agent)], Timestamp(1)).len(), 1);
        assert_eq!(ledger.observe(Subject::Presence(&n1), vec![about(Kind::Stale)], Timestamp(2)).len(), 1);
        assert_eq!(ledger.observe(Subject::Whole(&n1, Kind::Clock), vec![], Timestamp(3)), []);
        assert_eq!(ledger.observe(Subject::Presence(&n1), vec![], Timestamp(4)).len(), 1, "it is back");
        assert_eq!(ledger.open().map(|open| open.finding.key.kind).collect::<Vec<_>>(), [Kind::Agent], "and has lied");
    }

    #[test]
    fn replaying_the_entries_gives_the_same_ledger() {
        let (n1, web): (NodeName, ServiceName) = ("n1".parse().unwrap(), "web".parse().unwrap());
        let (mut ledger, mut replayed) = (Ledger::default(), Ledger::default());
        let mut changed = finding("n1", Some("web"), "y");
        changed.expected = "c".into();
        for (at, findings) in [
            (1, vec![finding("n1", Some("web"), "x"), finding("n1", Some("web"), "y")]),
            (2, vec![changed]),
            (3, vec![finding("n1", Some("web"), "x")]),
        ] {
            for entry in ledger.observe(Subject::Service(&n1, &web), findings, Timestamp(at)) {
                replayed.apply(&entry);
            }
            assert_eq!(ledger, replayed);
        }
        assert_eq!(ledger.remove_node(&n1, Timestamp(9)).len(), 1);
    }
}
