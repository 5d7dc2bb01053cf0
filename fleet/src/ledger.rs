//! The ledger of drift: when each finding was opened, and when and why it was closed. Entries are facts; whoever
//! calls saves them before anyone is told.

use std::collections::BTreeMap;
use std::fmt;

use serde::{Deserialize, Serialize};

use crate::drift::{Acceptance, Finding, FindingKey, Kind};
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
    /// A person accepted an open finding as it is: it stays open, and is no longer counted.
    Accepted {
        /// When.
        at: Timestamp,
        /// What exactly, who, why, until when.
        acceptance: Box<Acceptance>,
    },
    /// An acceptance covers its finding no longer.
    Reopened {
        /// When.
        at: Timestamp,
        /// Which finding.
        key: FindingKey,
        /// Why.
        why: Reopening,
    },
    /// A person had files put back.
    Repaired {
        /// When it ended.
        at: Timestamp,
        /// Where.
        node: NodeName,
        /// Of which service.
        service: ServiceName,
        /// Who ordered it.
        by: String,
        /// What came of it, in words.
        what: String,
    },
}

impl LedgerEntry {
    /// When it was written.
    pub fn at(&self) -> Timestamp {
        match self {
            Self::Opened { at, .. }
            | Self::Changed { at, .. }
            | Self::Closed { at, .. }
            | Self::Accepted { at, .. }
            | Self::Reopened { at, .. }
            | Self::Repaired { at, .. } => *at,
        }
    }

    /// The finding it is about, if it is about one.
    pub fn key(&self) -> Option<&FindingKey> {
        match self {
            Self::Opened { finding, .. } | Self::Changed { finding, .. } => Some(&finding.key),
            Self::Closed { key, .. } | Self::Reopened { key, .. } => Some(key),
            Self::Accepted { acceptance, .. } => Some(&acceptance.key),
            Self::Repaired { .. } => None,
        }
    }

    /// The node it is about.
    pub fn node(&self) -> &NodeName {
        match self {
            Self::Opened { finding, .. } | Self::Changed { finding, .. } => &finding.key.node,
            Self::Closed { key, .. } | Self::Reopened { key, .. } => &key.node,
            Self::Accepted { acceptance, .. } => &acceptance.key.node,
            Self::Repaired { node, .. } => node,
        }
    }

    /// The service it is about; None when the whole node is meant.
    pub fn service(&self) -> Option<&ServiceName> {
        match self {
            Self::Repaired { service, .. } => Some(service),
            Self::Opened { .. }
            | Self::Changed { .. }
            | Self::Closed { .. }
            | Self::Accepted { .. }
            | Self::Reopened { .. } => self.key().and_then(|key| key.service.as_ref()),
        }
    }
}

/// Why a finding was closed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Closing {
    /// A fresh observation no longer shows it.
    Gone,
    /// The node was removed from the roster.
    NodeRemoved,
    /// A repair that a person ordered put it right.
    Fixed,
}

impl Closing {
    /// In words, for people.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Gone => "no longer seen",
            Self::NodeRemoved => "its node was removed",
            Self::Fixed => "fixed",
        }
    }
}

/// Why an acceptance ended.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "why", rename_all = "kebab-case")]
pub enum Reopening {
    /// Something else is found now.
    Changed,
    /// Its time was over.
    Expired,
    /// A person took it back.
    Removed {
        /// Who.
        by: String,
    },
}

impl fmt::Display for Reopening {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Changed => f.write_str("it changed again"),
            Self::Expired => f.write_str("its acceptance has ended"),
            Self::Removed { by } => write!(f, "{by} took its acceptance back"),
        }
    }
}

/// A finding and since when it is open.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct OpenFinding {
    /// The finding as last seen.
    pub finding: Finding,
    /// When it was opened.
    pub since: Timestamp,
    /// When the file was changed, where its inode tells: by this clock, from the age that the node stated.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub changed_at: Option<Timestamp>,
}

impl OpenFinding {
    /// A finding that is seen at `at` for the first time.
    pub fn opened(finding: Finding, at: Timestamp) -> Self {
        Self { since: at, changed_at: changed_at(&finding, at), finding }
    }

    /// When it began, as well as it is known: a change of a file is older than its discovery, and one that is made to a
    /// file that differs already is younger.
    pub fn began(&self) -> Timestamp {
        self.changed_at.map_or(self.since, |changed| changed.max(self.since))
    }
}

fn changed_at(finding: &Finding, at: Timestamp) -> Option<Timestamp> {
    finding.changed.map(|age| Timestamp(at.0.saturating_sub_unsigned(age.0)))
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
                self.open.entry(finding.key.clone()).or_insert_with(|| OpenFinding::opened(finding.clone(), *at));
            }
            LedgerEntry::Changed { at, finding } => {
                if let Some(open) = self.open.get_mut(&finding.key) {
                    open.changed_at = changed_at(finding, *at);
                    open.finding = finding.clone();
                }
            }
            LedgerEntry::Closed { key, .. } => {
                self.open.remove(key);
            }
            // What people say or order opens and closes nothing: only what is seen does.
            LedgerEntry::Accepted { .. } | LedgerEntry::Reopened { .. } | LedgerEntry::Repaired { .. } => {}
        }
    }

    /// Takes a finding back in that was open when it was saved.
    pub fn restore(&mut self, open: OpenFinding) {
        self.open.insert(open.finding.key.clone(), open);
    }

    /// What an observation of `subject` changes: the entries to save, already applied.
    pub fn observe(&mut self, subject: Subject<'_>, findings: Vec<Finding>, at: Timestamp) -> Vec<LedgerEntry> {
        self.observe_after(subject, findings, at, Closing::Gone)
    }

    /// The same, where it is known why what is no longer seen is gone.
    pub fn observe_after(
        &mut self,
        subject: Subject<'_>,
        findings: Vec<Finding>,
        at: Timestamp,
        why: Closing,
    ) -> Vec<LedgerEntry> {
        let mut entries = Vec::new();
        let seen: BTreeMap<FindingKey, Finding> =
            findings.into_iter().map(|finding| (finding.key.clone(), finding)).collect();
        for key in self.open.keys().filter(|key| subject.covers(key) && !seen.contains_key(key)) {
            entries.push(LedgerEntry::Closed { at, key: key.clone(), why });
        }
        for (key, finding) in seen {
            match self.open.get(&key) {
                None => entries.push(LedgerEntry::Opened { at, finding }),
                Some(open) if is_another(&open.finding, &finding) => entries.push(LedgerEntry::Changed { at, finding }),
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

/// Whether a finding that is open looks so different that it is worth a line. What is found of a process carries ages
/// and counts that move; what is found of a file is exactly what lies there.
fn is_another(before: &Finding, now: &Finding) -> bool {
    let exact = now.key.kind.is_acceptable()
        && (before.found != now.found || before.content != now.content || (now.by.is_some() && before.by != now.by));
    exact || before.expected != now.expected
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
    fn a_file_that_changes_again_is_a_new_line_and_a_process_that_ages_is_none() {
        let (n1, web): (NodeName, ServiceName) = ("n1".parse().unwrap(), "web".parse().unwrap());
        let mut ledger = Ledger::default();
        let see = |ledger: &mut Ledger, finding: &Finding, at| {
            ledger.observe(Subject::Service(&n1, &web), vec![finding.clone()], Timestamp(at))
        };
        let mut file = Finding { changed: Some(crate::Millis(3)), ..finding("n1", Some("web"), "x") };
        see(&mut ledger, &file, 10);
        let open = ledger.get(&file.key).unwrap();
        assert_eq!((open.since, open.changed_at, open.began()), (Timestamp(10), Some(Timestamp(7)), Timestamp(10)));
        file.changed = Some(crate::Millis(5));
        assert_eq!(see(&mut ledger, &file, 12), [], "it only grew older");
        file.content = Some(crate::Digest([1; 32]));
        file.changed = Some(crate::Millis(1));
        assert!(matches!(see(&mut ledger, &file, 20)[..], [LedgerEntry::Changed { .. }]));
        let open = ledger.get(&file.key).unwrap();
        assert_eq!((open.since, open.changed_at, open.began()), (Timestamp(10), Some(Timestamp(19)), Timestamp(19)));
        file.by = Some("vim".into());
        assert!(matches!(see(&mut ledger, &file, 21)[..], [LedgerEntry::Changed { .. }]), "who is news");
        file.by = None;
        assert_eq!(see(&mut ledger, &file, 22), [], "what is known is not unlearned");

        let mut old = finding("n1", Some("web"), "pid 7");
        old.key.kind = Kind::OldProcess;
        see(&mut ledger, &old, 30);
        old.found = "running for 9s".into();
        assert_eq!(see(&mut ledger, &old, 31), []);
        let closed = ledger.observe_after(Subject::Service(&n1, &web), vec![], Timestamp(40), Closing::Fixed);
        assert!(matches!(closed[..], [LedgerEntry::Closed { why: Closing::Fixed, .. }]));
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
