//! What is saved is loaded, what is damaged is refused by name, and what lies on disk stays readable.
#![allow(clippy::unwrap_used)]
use super::*;
use crate::store::Memory;
use crate::store::Write;
use fleet::Hold;
use fleet::drift::{Finding, Kind};
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
    let tested = Outcome {
        node: Some("n1".parse().unwrap()),
        at: Timestamp(7),
        by: "admin".into(),
        verdict: fleet::selftest::Verdict::Failed,
        detail: "not found".into(),
        deadline: fleet::Millis(9),
        found_after: None,
        closed_after: None,
    };
    let changes = [
        Change::Fact { deployment: id.clone(), index: 0, fact: Box::new(fact(1)) },
        Change::Fact { deployment: id.clone(), index: 1, fact: Box::new(fact(2)) },
        Change::Order(order("n1", 3)),
        Change::Generation(Generation(4)),
        Change::SelfTest(Box::new(tested.clone())),
        Change::Ledger {
            entry: Box::new(LedgerEntry::Opened { at: Timestamp(5), finding: finding.clone() }),
            index: 0,
            open: Some(Box::new(OpenFinding::opened(finding.clone(), Timestamp(5)))),
        },
    ];
    save(&store, &changes).await.unwrap();
    let loaded = load(&store).await.unwrap();
    assert_eq!(loaded.journals[&id], [fact(1), fact(2)]);
    assert_eq!(loaded.generation, Generation(4));
    assert_eq!(loaded.selftest, Some(tested));
    assert_eq!(loaded.book.into_values().flat_map(BTreeMap::into_values).collect::<Vec<_>>(), [order("n1", 3)]);
    assert_eq!(loaded.findings, [OpenFinding::opened(finding.clone(), Timestamp(5))]);
    assert_eq!(loaded.ledger.len(), 1);
    let closed = LedgerEntry::Closed { at: Timestamp(6), key: finding.key, why: fleet::ledger::Closing::Gone };
    save(&store, &[Change::Ledger { entry: Box::new(closed), index: 1, open: None }]).await.unwrap();
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
    (record.clone(), Change::Statement { record: Box::new(record), envelope: envelope_pieces })
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

    save(&store, &[Change::ForgetStatement(Box::new(large_record.clone()))]).await.unwrap();
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
            let open = ledger.get(&key).cloned().map(Box::new);
            save(&store, &[Change::Ledger { entry: Box::new(entry), index, open }]).await.unwrap();
            index += 1;
        }
    }
    let loaded = load(&store).await.unwrap();
    assert_eq!(loaded.findings, [OpenFinding::opened(finding("b"), Timestamp(5))]);
    assert_eq!(loaded.ledger.len(), 2);
}

#[tokio::test]
async fn the_lines_of_the_ledger_come_back_in_their_order_without_those_that_are_forgotten() {
    let store = Memory::default();
    let line = |at| {
        let key = FindingKey { node: "n1".parse().unwrap(), service: None, kind: Kind::Stale, what: "x".into() };
        LedgerEntry::Closed { at: Timestamp(at), key, why: fleet::ledger::Closing::Gone }
    };
    for index in 0..20 {
        save(&store, &[Change::Ledger { entry: Box::new(line(index)), index: index as u64, open: None }])
            .await
            .unwrap();
    }
    save(&store, &[Change::ForgetLine(0), Change::ForgetLine(1)]).await.unwrap();
    let expected: Vec<_> = (2..20).map(|index| (index as u64, line(index))).collect();
    assert_eq!(load(&store).await.unwrap().ledger, expected);
}

#[tokio::test]
async fn what_people_said_of_findings_is_loaded_and_forgotten() {
    let store = Memory::default();
    let (node, service): (NodeName, ServiceName) = ("n1".parse().unwrap(), "web".parse().unwrap());
    let key =
        FindingKey { node: node.clone(), service: Some(service.clone()), kind: Kind::Mode, what: "etc/conf".into() };
    let consent =
        fleet::drift::Consent { by: "alice".into(), reason: "OPS-1".into(), at: Timestamp(1), until: Timestamp(9) };
    let release: ReleaseId = "r-aaaaaaaaaaaa".parse().unwrap();
    let finding = Finding::new(key.clone(), "0644", "0666");
    let acceptance = Acceptance::of(&finding, release.clone(), consent).unwrap();
    let glob: Glob = "cache/**".parse().unwrap();
    let rule = IgnoreRule {
        service: service.clone(),
        glob: glob.clone(),
        reason: "caches".into(),
        by: "alice".into(),
        at: Timestamp(2),
    };
    let held = HeldSince { generation: Generation(3), at: Timestamp(4) };
    let order = RepairOrder {
        id: RepairId::from_random(5),
        node: node.clone(),
        service: service.clone(),
        generation: Generation(3),
        release,
        bundle: Digest([1; 32]),
        size: 7,
        paths: vec![],
        extras: fleet::repair::Extras::Keep,
    };
    let ended = RepairEnd { at: Timestamp(8), state: RepairState::Failed { reason: "no space".into() } };
    let repair = RepairRecord { order, by: "alice".into(), at: Timestamp(6), ended: Some(ended) };
    let said = [
        Change::Acceptance(Box::new(acceptance.clone())),
        Change::Ignore(rule.clone()),
        Change::Held(node.clone(), service.clone(), held),
        Change::Repair(Box::new(repair.clone())),
    ];
    save(&store, &said).await.unwrap();
    let loaded = load(&store).await.unwrap();
    assert_eq!(loaded.acceptances.get(&key), Some(&acceptance));
    assert_eq!(loaded.ignores, [rule]);
    assert_eq!(loaded.held[&(node.clone(), service.clone())], held);
    assert_eq!(loaded.repairs.values().collect::<Vec<_>>(), [&repair]);
    let forgotten = [
        Change::ForgetAcceptance(key),
        Change::ForgetIgnore(service.clone(), glob),
        Change::ForgetHeld(node, service),
        Change::ForgetRepair(repair.order.id),
    ];
    save(&store, &forgotten).await.unwrap();
    assert!(store.list("").await.unwrap().is_empty(), "nothing is left behind");
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
