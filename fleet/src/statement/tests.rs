//! Statements read back as they were written, in one spelling only, and what they come to follows from what they say.
#![allow(clippy::unwrap_used)]
use super::*;
use crate::Timestamp;
use proptest::prelude::*;

/// On disk at auditors' for years: a change here breaks what they have.
const GOLDEN: &str = include_str!("golden.json");

fn at(ms: i64) -> Moment {
    Moment::from(Timestamp(1_795_795_200_000 + ms))
}

fn release() -> Release {
    let bundle = Digest([0x9f; 32]);
    Release { id: ReleaseId::of(&bundle), version: Some("2.3.1".parse().unwrap()), bundle }
}

fn entry(node: &str, state: NodeState) -> Entry {
    Entry {
        node: node.parse().unwrap(),
        service: Some("shop".parse().unwrap()),
        generation: Some(Generation(42)),
        expected: Some(release()),
        state,
    }
}

fn proven() -> NodeState {
    NodeState::Proven {
        grade: Grade::Digest,
        digest: Digest([0x51; 32]),
        processes: 2,
        nonce: Nonce::from_random(7),
        nonce_drawn_at: at(-300),
    }
}

fn unproven() -> NodeState {
    NodeState::Unproven { why: "no answer in this round".into() }
}

fn on_record() -> NodeState {
    NodeState::OnRecord { grade: Grade::Context, at: at(-400) }
}

fn waived() -> NodeState {
    NodeState::Waived { why: "silent for 10s".into() }
}

fn found(node: &str) -> Found {
    Found {
        node: node.parse().unwrap(),
        service: None,
        kind: Kind::Unreachable,
        what: "no contact".into(),
        expected: "contact".into(),
        found: "silent \"since\" noon\n".into(),
        severity: Severity::Critical,
        since: at(-10_000),
        by: Some("uid 0".into()),
        changed_at: None,
    }
}

fn verification() -> Occasion {
    Occasion::Verification { actor: "alice".into(), service: None, began_at: at(-500) }
}

fn deployment(outcome: Outcome) -> Occasion {
    Occasion::Deployment {
        id: "d-wqzf3j".parse().unwrap(),
        service: "shop".parse().unwrap(),
        environment: "prod".into(),
        direction: "rollout".into(),
        actor: "alice".into(),
        limit: String::new(),
        began_at: at(-60_000),
        outcome,
        cause: String::new(),
        approvals: vec![Approval { at: at(-30_000), by: Some("bob".into()), what: "promoted".into() }],
    }
}

fn predicate(occasion: Occasion, nodes: Vec<Entry>, findings: Vec<Found>) -> Predicate {
    Predicate {
        fleet: "prod".into(),
        controller: "0.1.0".into(),
        sequence: 2,
        previous: Some(Digest([1; 32])),
        made_at: at(0),
        occasion,
        verdict: Verdict::Unknown,
        nodes,
        findings,
        waivers: vec![Waived {
            node: "n3".parse().unwrap(),
            deployment: "d-wqzf3j".parse().unwrap(),
            by: "bob".into(),
            reason: "in repair".into(),
            until: at(86_400_000),
        }],
    }
}

/// One of everything.
fn sample() -> Statement {
    let empty = NodeState::ProvenEmpty { nonce: Nonce::from_random(8), nonce_drawn_at: at(-200) };
    let gone = NodeState::Decommissioned { why: "bob: sold".into() };
    let nodes = vec![
        entry("n5", gone),
        entry("n1", proven()),
        Entry { expected: None, ..entry("n2", empty) },
        entry("n3", waived()),
        Entry { service: None, generation: None, expected: None, ..entry("n4", NodeState::Unordered {}) },
        entry("n6", unproven()),
        entry("n7", on_record()),
    ];
    Statement::new(predicate(deployment(Outcome::ConvergedWithWaivers), nodes, vec![found("n3")]))
}

#[test]
fn the_golden_statement_is_still_read_and_still_written_like_that() {
    let golden = GOLDEN.trim_end().as_bytes();
    assert_eq!(String::from_utf8(sample().to_payload().unwrap()).unwrap(), GOLDEN.trim_end());
    assert_eq!(Statement::from_payload(golden).unwrap(), sample());
}

#[test]
fn a_verdict_is_never_better_than_what_is_stated() {
    use Outcome::{Aborted, Converged, ConvergedWithWaivers, RolledBack, Superseded};
    let all = || vec![entry("n1", proven()), entry("n2", proven())];
    let but = |state| vec![entry("n1", proven()), entry("n3", state)];
    for (occasion, nodes, findings, verdict) in [
        (verification(), all(), vec![], Verdict::Proven),
        (verification(), all(), vec![found("n1")], Verdict::Differs),
        (verification(), but(unproven()), vec![], Verdict::Differs),
        (verification(), but(waived()), vec![], Verdict::Differs),
        (verification(), vec![], vec![], Verdict::Unknown),
        (verification(), vec![entry("n4", NodeState::Unordered {})], vec![], Verdict::Unknown),
        (deployment(Converged), all(), vec![], Verdict::Proven),
        (deployment(Converged), but(unproven()), vec![], Verdict::Differs),
        (deployment(Converged), but(waived()), vec![], Verdict::Differs),
        (deployment(Converged), but(on_record()), vec![], Verdict::Proven),
        (deployment(ConvergedWithWaivers), all(), vec![], Verdict::ProvenWithWaivers),
        (deployment(ConvergedWithWaivers), but(waived()), vec![], Verdict::ProvenWithWaivers),
        (deployment(ConvergedWithWaivers), but(waived()), vec![found("n3")], Verdict::ProvenWithWaivers),
        (deployment(ConvergedWithWaivers), but(waived()), vec![found("n1")], Verdict::Differs),
        (deployment(ConvergedWithWaivers), vec![entry("n3", waived())], vec![], Verdict::Unknown),
        (deployment(RolledBack), all(), vec![], Verdict::Differs),
        (deployment(Outcome::Unproven), all(), vec![], Verdict::Differs),
        (deployment(Aborted), all(), vec![], Verdict::Differs),
        (deployment(Superseded), all(), vec![], Verdict::Differs),
    ] {
        let statement = Statement::new(predicate(occasion, nodes, findings));
        assert_eq!(statement.predicate().verdict, verdict, "{statement:?}");
    }
    let codes =
        [Verdict::Proven, Verdict::Unknown, Verdict::Differs, Verdict::ProvenWithWaivers].map(Verdict::exit_code);
    assert_eq!(codes, [0, 1, 2, 7]);
}

#[test]
fn other_documents_are_refused_by_name() {
    let other = |from: &str, to: &str| Statement::from_payload(GOLDEN.trim_end().replacen(from, to, 1).as_bytes());
    let found = "https://slsa.dev/provenance/v1".to_owned();
    assert_eq!(other(PREDICATE_TYPE, &found), Err(StatementError::PredicateType { found }));
    let newer = PREDICATE_TYPE.replace("v1", "v2");
    assert_eq!(other(PREDICATE_TYPE, &newer), Err(StatementError::PredicateType { found: newer }));
    assert!(matches!(other("Statement/v1", "Statement/v0.1"), Err(StatementError::Type { .. })));
    let large = vec![b' '; LARGEST_PAYLOAD + 1];
    assert!(matches!(Statement::from_payload(&large), Err(StatementError::TooLarge { .. })));
}

#[test]
fn one_spelling_only_and_no_contradictions() {
    let golden = GOLDEN.trim_end();
    let read = |text: &str| Statement::from_payload(text.as_bytes()).unwrap_err();
    for spaced in [golden.replacen(':', ": ", 1), format!("{golden}\n"), format!(" {golden}")] {
        assert_eq!(read(&spaced), StatementError::Spelling);
    }
    // JSON's readers disagree about which of two equal keys counts.
    for (from, to) in [
        (r#""fleet":"prod""#, r#""fleet":"prod","fleet":"prod""#),
        (r#""fleet":"prod""#, r#""fleet":"prod","extra":1"#),
        (r#""sequence":2,"#, ""),
        (r#""is":"unordered""#, r#""is":"unordered","why":"x""#),
        (r#""is":"unordered""#, r#""is":"fine""#),
        (r#""processes":2"#, r#""processes":-2"#),
        (r#""grade":"digest""#, r#""grade":"best""#),
    ] {
        let text = golden.replacen(from, to, 1);
        assert_ne!(text, golden, "{from}");
        assert!(matches!(read(&text), StatementError::Malformed { .. }), "{to}: {}", read(&text));
    }
    assert_eq!(read(&golden.replacen("prod", "\\u0070rod", 1)), StatementError::Spelling);
    for (from, to) in [
        (r#""sequence":2"#, r#""sequence":0"#),
        (r#""sequence":2"#, r#""sequence":1"#),
        (r#""verdict":"differs""#, r#""verdict":"proven""#),
        (r#""node":"n6""#, r#""node":"n5""#),
        (r#""node":"n1""#, r#""node":"n9""#),
        ("shop@2.3.1", "shop@2.3.2"),
        (r#""is":"unproven""#, r#""is":"waived""#),
    ] {
        let text = golden.replacen(from, to, 1);
        assert_ne!(text, golden, "{from}");
        assert!(matches!(read(&text), StatementError::Contradiction { .. }), "{to}: {}", read(&text));
    }
}

fn states() -> impl Strategy<Value = NodeState> {
    let text = "\\PC{0,20}";
    prop_oneof![
        (any::<u128>(), any::<[u8; 32]>(), any::<u32>()).prop_map(|(nonce, digest, processes)| NodeState::Proven {
            grade: Grade::Context,
            digest: Digest(digest),
            processes,
            nonce: Nonce::from_random(nonce),
            nonce_drawn_at: at(0),
        }),
        any::<u128>().prop_map(|n| NodeState::ProvenEmpty { nonce: Nonce::from_random(n), nonce_drawn_at: at(0) }),
        text.prop_map(|why| NodeState::Unproven { why }),
        text.prop_map(|why| NodeState::Waived { why }),
        text.prop_map(|why| NodeState::Decommissioned { why }),
        Just(NodeState::Unordered {}),
        Just(on_record()),
    ]
}

fn statements() -> impl Strategy<Value = Statement> {
    let nodes = proptest::collection::btree_map("n[a-z0-9]{1,6}", states(), 0..12);
    let occasion = prop_oneof![Just(verification()), Just(deployment(Outcome::ConvergedWithWaivers))];
    (nodes, occasion, "\\PC{0,40}", any::<bool>()).prop_map(|(nodes, occasion, fleet, is_found)| {
        let nodes = nodes.into_iter().map(|(node, state)| entry(&node, state)).collect();
        let findings = if is_found { vec![found("n1")] } else { vec![] };
        Statement::new(Predicate { fleet, ..predicate(occasion, nodes, findings) })
    })
}

proptest! {
    #[test]
    fn what_is_written_reads_back(statement in statements()) {
        let payload = statement.to_payload().unwrap();
        prop_assert_eq!(Statement::from_payload(&payload).unwrap(), statement);
    }

    /// A byte that is changed gives another statement or none: never the same one from other bytes.
    #[test]
    fn no_two_payloads_are_one_statement(statement in statements(), place in any::<usize>(), byte in any::<u8>()) {
        let payload = statement.to_payload().unwrap();
        let mut changed = payload.clone();
        let place = place % changed.len();
        changed[place] = byte;
        if let Ok(read) = Statement::from_payload(&changed) {
            prop_assert_eq!(read == statement, changed == payload);
        }
    }

    /// An unproven node cannot be stated away.
    #[test]
    fn nothing_unproven_is_ever_proven(statement in statements()) {
        let predicate = statement.predicate();
        let open = |entry: &Entry| matches!(entry.state, NodeState::Unproven { .. });
        if predicate.nodes.iter().any(open) {
            prop_assert_eq!(predicate.verdict, Verdict::Differs);
        }
        if predicate.verdict == Verdict::Proven {
            let unproven = |e: &Entry| matches!(e.state, NodeState::Waived { .. } | NodeState::Unordered {} | NodeState::Decommissioned { .. });
            prop_assert!(!predicate.nodes.iter().all(unproven));
        }
    }

    #[test]
    fn no_bytes_make_it_panic(bytes in proptest::collection::vec(any::<u8>(), 0..300)) {
        prop_assert!(Statement::from_payload(&bytes).is_err());
    }
}
