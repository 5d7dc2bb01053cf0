//! The ledger as people read it: its lines, newest first.

use fleet::Timestamp;
use fleet::ledger::LedgerEntry;
use fleet_proto::v1;

use super::state::State;

impl State {
    /// The lines about a node and a service (all, if none is named) that are not older than was asked for.
    pub(super) fn read_ledger(&self, request: &v1::ReadLedgerRequest, now: Timestamp) -> v1::ReadLedgerReply {
        let asked = |entry: &LedgerEntry| {
            (request.node.is_empty() || entry.node().as_str() == request.node)
                && (request.service.is_empty()
                    || entry.service().is_none_or(|service| service.as_str() == request.service))
                && (request.since_ms == 0 || now.since(entry.at()).0 <= request.since_ms)
        };
        let limit = if request.limit == 0 { usize::MAX } else { request.limit as usize };
        let lines = self.ledger_lines.iter().rev().filter(|(_, entry)| asked(entry)).take(limit);
        v1::ReadLedgerReply {
            lines: lines.map(|(index, entry)| line(*index, entry)).collect(),
            made_at_ms: now.0,
            kept_since_ms: self.ledger_lines.front().map(|(_, entry)| entry.at().0),
        }
    }
}

fn line(index: u64, entry: &LedgerEntry) -> v1::LedgerLine {
    let key = entry.key();
    let mut line = v1::LedgerLine {
        index,
        at_ms: entry.at().0,
        node: entry.node().to_string(),
        service: entry.service().map(ToString::to_string).unwrap_or_default(),
        kind: key.map(|key| key.kind.to_string()).unwrap_or_default(),
        what: key.map(|key| key.what.clone()).unwrap_or_default(),
        ..v1::LedgerLine::default()
    };
    let word = match entry {
        LedgerEntry::Opened { finding, .. } | LedgerEntry::Changed { finding, .. } => {
            line.expected.clone_from(&finding.expected);
            line.found.clone_from(&finding.found);
            line.by = finding.by.clone().unwrap_or_default();
            if matches!(entry, LedgerEntry::Opened { .. }) { "opened" } else { "changed" }
        }
        LedgerEntry::Closed { why, .. } => {
            line.why = why.as_str().into();
            "closed"
        }
        LedgerEntry::Accepted { acceptance, .. } => {
            line.expected.clone_from(&acceptance.expected);
            line.found.clone_from(&acceptance.found);
            line.by.clone_from(&acceptance.by);
            line.why.clone_from(&acceptance.reason);
            "accepted"
        }
        LedgerEntry::Reopened { why, .. } => {
            line.why = why.to_string();
            "reopened"
        }
        LedgerEntry::Repaired { by, what, .. } => {
            line.by.clone_from(by);
            line.why.clone_from(what);
            "repaired"
        }
    };
    line.entry = word.into();
    line
}
