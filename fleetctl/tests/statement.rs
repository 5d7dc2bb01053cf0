//! A statement that a real fleet signed, on file since: it must be readable for as long as auditors keep theirs.
#![allow(clippy::unwrap_used, missing_docs)]

use fleet::statement::{NodeState, Occasion, Verdict};
use fleet_certs::SealError;
use fleetctl::statement::{Refused, check};

const GOLDEN: &[u8] = include_bytes!("statement/golden.dsse.json");
const CA: &str = include_str!("statement/golden-ca.pem");

#[test]
fn the_golden_statement_is_still_believed() {
    let checked = check(GOLDEN, CA).unwrap();
    let stated = checked.predicate();
    assert_eq!((stated.sequence, stated.verdict), (2, Verdict::Proven));
    assert_eq!(checked.digest.to_string(), "sha256:af0661ba324c0d77f4fc2b357cf7d9eff438053a0bfa97ca19ae5f07a681d71c");
    assert_eq!(stated.made_at.to_string(), "2026-11-27T17:24:49.907Z");
    assert!(matches!(&stated.occasion, Occasion::Verification { actor, .. } if actor == "admin"));
    let proven = |state: &NodeState| matches!(state, NodeState::Proven { .. });
    assert_eq!(stated.nodes.iter().filter(|entry| proven(&entry.state)).count(), 3);
}

#[test]
fn no_byte_of_it_may_change() {
    for place in 0..GOLDEN.len() {
        let mut changed = GOLDEN.to_vec();
        changed[place] ^= 1 << (place % 8);
        assert!(check(&changed, CA).is_err(), "byte {place}");
    }
    assert!(check(&GOLDEN[..GOLDEN.len() - 1], CA).is_err());
}

#[test]
fn another_fleet_s_authority_does_not_vouch_for_it() {
    let dir = tempfile::tempdir().unwrap();
    let other = fleet_certs::Authority::create(dir.path(), "other").unwrap();
    let refused = check(GOLDEN, other.ca_pem()).unwrap_err();
    assert!(matches!(refused, Refused::Seal(SealError::Untrusted { .. })), "{refused}");
}
