//! What is saved is loaded, what is damaged is refused by name, and what lies on disk stays readable.
#![allow(clippy::unwrap_used)]
use super::*;
use crate::store::Memory;
use crate::store::Write;
use fleet::Hold;
use fleet::drift::Kind;
use fleet::ledger::Subject;

fn order(node: &str, generation: u64) -> Order {
    Order {
        node: node.parse().unwrap(),
        service: "web".parse().unwrap(),
        generation: Generation(generation),
        hold: Hold::Nothing,
        confirm: fleet::Millis(0),
    }
}

#[tokio::test]
async fn what_is_saved_is_loaded() {
    let store = Memory::default();
    let key = FindingKey { node: "n1".parse().unwrap(), service: None, kind: Kind::Stale, what: "any/thing\n".into() };
    let finding = Finding::new(key, "a", "b");
    let fact = |at| Fact::SegmentStarted { at: Timestamp(at), segment: 0 };
    let id: DeploymentId = "d-x".parse().unwrap();
    let changes = [
        Change::Fact { deployment: id.clone(), index: 0, fact: Box::new(fact(1)) },
        Change::Fact { deployment: id.clone(), index: 1, fact: Box::new(fact(2)) },
        Change::Order(order("n1", 3)),
        Change::Generation(Generation(4)),
        Change::Ledger {
            entry: LedgerEntry::Opened { at: Timestamp(5), finding: finding.clone() },
            index: 0,
            open: Some(OpenFinding { finding: finding.clone(), since: Timestamp(5) }),
        },
    ];
    save(&store, &changes).await.unwrap();
    let loaded = load(&store).await.unwrap();
    assert_eq!(loaded.journals[&id], [fact(1), fact(2)]);
    assert_eq!(loaded.generation, Generation(4));
    assert_eq!(loaded.book.into_values().flat_map(BTreeMap::into_values).collect::<Vec<_>>(), [order("n1", 3)]);
    assert_eq!(loaded.findings, [OpenFinding { finding: finding.clone(), since: Timestamp(5) }]);
    assert_eq!(loaded.ledger_lines, 1);
    let closed = LedgerEntry::Closed { at: Timestamp(6), key: finding.key, why: fleet::ledger::Closing::Gone };
    save(&store, &[Change::Ledger { entry: closed, index: 1, open: None }]).await.unwrap();
    assert_eq!(load(&store).await.unwrap().findings, []);
}

fn statement(sequence: u64, envelope: &str) -> (StatementRecord, Change) {
    let envelope_pieces = pieces(envelope);
    let record = StatementRecord {
        sequence,
        digest: Digest([1; 32]),
        made_at: Timestamp(7),
        occasion: Occasion::Verification,
        about: String::new(),
        actor: "alice".into(),
        verdict: Verdict::Proven,
        proven: 1,
        nodes: 1,
        size: envelope.len() as u64,
        pieces: u32::try_from(envelope_pieces.len()).unwrap(),
    };
    (record.clone(), Change::Statement { record, envelope: envelope_pieces })
}

#[tokio::test]
async fn a_statement_larger_than_a_batch_is_kept_whole_and_forgotten_whole() {
    let store = Memory::default();
    let large = "sealed ".repeat(MAX_BATCH_BYTES / 4);
    let ((large_record, one), (small_record, two)) = (statement(1, &large), statement(2, "small"));
    assert!(large_record.pieces > 8 && small_record.pieces == 1);
    save(&store, &[one, two]).await.unwrap();
    let loaded = load(&store).await.unwrap().statements;
    assert_eq!(loaded.into_values().collect::<Vec<_>>(), [large_record.clone(), small_record.clone()]);
    assert!(envelope(&store, &large_record).await.unwrap().unwrap() == large);
    assert_eq!(envelope(&store, &small_record).await.unwrap().unwrap(), "small");
    let again = statement(2, "another").1;
    assert!(save(&store, &[again]).await.is_err(), "no statement is written over");

    save(&store, &[Change::ForgetStatement(large_record.clone())]).await.unwrap();
    assert_eq!(envelope(&store, &large_record).await.unwrap(), None);
    let left: Vec<_> = store.list("").await.unwrap().into_iter().map(|(key, _)| key).collect();
    assert_eq!(left, ["envelopes/000000000002/000", "statements/000000000002"]);
}

#[tokio::test]
async fn the_journal_is_the_lock() {
    let store = Memory::default();
    let fact = Change::Fact {
        deployment: "d-x".parse().unwrap(),
        index: 0,
        fact: Box::new(Fact::VerificationStarted { at: Timestamp(1) }),
    };
    save(&store, std::slice::from_ref(&fact)).await.unwrap();
    assert!(matches!(save(&store, &[fact]).await, Err(RecordError::Store(store::Error::Conflict { .. }))));
}

#[tokio::test]
async fn what_a_key_is_given_last_in_a_turn_is_what_it_holds() {
    let store = Memory::default();
    let changes = [
        Change::Generation(Generation(1)),
        Change::Order(order("n1", 1)),
        Change::Generation(Generation(2)),
        Change::Order(order("n1", 3)),
    ];
    save(&store, &changes).await.unwrap();
    let loaded = load(&store).await.unwrap();
    assert_eq!(
        (loaded.generation, loaded.book.into_values().flat_map(BTreeMap::into_values).collect::<Vec<_>>()),
        (Generation(2), vec![order("n1", 3)])
    );
    let again = [Change::Order(order("n1", 4)), Change::ForgetOrder("n1".parse().unwrap(), "web".parse().unwrap())];
    save(&store, &again).await.unwrap();
    assert!(load(&store).await.unwrap().book.is_empty());
}

#[tokio::test]
async fn a_finding_that_changes_stays_open_since_it_was_opened() {
    let store = Memory::default();
    let key = FindingKey { node: "n1".parse().unwrap(), service: None, kind: Kind::Stale, what: "x".into() };
    let finding = |expected: &str| Finding::new(key.clone(), expected, "c");
    let (node, mut ledger) = (key.node.clone(), fleet::ledger::Ledger::default());
    let mut index = 0;
    for (at, expected) in [(5, "a"), (9, "b")] {
        for entry in ledger.observe(Subject::Presence(&node), vec![finding(expected)], Timestamp(at)) {
            let open = ledger.get(&key).cloned();
            save(&store, &[Change::Ledger { entry, index, open }]).await.unwrap();
            index += 1;
        }
    }
    let loaded = load(&store).await.unwrap();
    assert_eq!(loaded.findings, [OpenFinding { finding: finding("b"), since: Timestamp(5) }]);
    assert_eq!(loaded.ledger_lines, 2);
}

#[tokio::test]
async fn the_lines_of_the_ledger_are_counted() {
    let store = Memory::default();
    for count in 0..20 {
        assert_eq!(ledger_lines(&store).await.unwrap(), count);
        let key = FindingKey { node: "n1".parse().unwrap(), service: None, kind: Kind::Stale, what: "x".into() };
        let entry = LedgerEntry::Closed { at: Timestamp(1), key, why: fleet::ledger::Closing::Gone };
        save(&store, &[Change::Ledger { entry, index: count, open: None }]).await.unwrap();
    }
}

#[test]
fn what_no_batch_takes_does_not_fit() {
    let reason = |length| Decommission { at: Timestamp(1), by: "a".into(), reason: "x".repeat(length) };
    let change = |length| Change::RemoveNode { name: "n1".parse().unwrap(), decommission: reason(length) };
    assert!(fits(&change(1_000)));
    assert!(!fits(&change(MAX_BATCH_BYTES)));
}

#[tokio::test]
async fn a_newer_format_and_a_gap_are_refused_by_name() {
    let store = Memory::default();
    store
        .commit(vec![Write::Put { key: GENERATION.into(), value: b"\x02\x0010".to_vec(), expect: Expect::Anything }])
        .await
        .unwrap();
    let error = load(&store).await.unwrap_err().to_string();
    assert!(error.contains("format 2") && error.contains(GENERATION), "{error}");
    let store = Memory::default();
    let fact = Change::Fact {
        deployment: "d-x".parse().unwrap(),
        index: 1,
        fact: Box::new(Fact::VerificationStarted { at: Timestamp(1) }),
    };
    save(&store, &[fact]).await.unwrap();
    assert!(load(&store).await.unwrap_err().to_string().contains("missing"));
}

/// Persisted encodings are pinned: if this fails, old stores could not be read any more.
#[tokio::test]
async fn the_encoding_is_pinned() {
    let store = Memory::default();
    save(&store, &[Change::Order(order("n1", 3))]).await.unwrap();
    let entry = store.get("desired/n1/web").await.unwrap().unwrap();
    assert_eq!(
        entry.value,
        b"\x01\x00{\"node\":\"n1\",\"service\":\"web\",\"generation\":3,\"hold\":{\"kind\":\"nothing\"}}"
    );
}
