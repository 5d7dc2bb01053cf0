//! What must never happen, over generated histories: at least 200 events each, three deployments at once, every invariant
//! checked on every fact and after every event. What was explored is printed: `cargo test -p fleet -- --nocapture`.

use std::collections::BTreeMap;
use std::sync::Mutex;
use std::sync::atomic::Ordering;

use proptest::test_runner::{Config, TestRunner};

use crate::Outcome;
use crate::deployment::tests::generated::{Climate, SERVICES, history};
use crate::deployment::tests::invariants::{AT_REST, ON_EVERY_FACT};
use crate::deployment::tests::verdicts::AT_THE_END;
use crate::deployment::tests::witness::{EVENTS, FACTS};

/// What a property has seen.
#[derive(Debug, Default)]
struct Explored {
    histories: u64,
    facts: u64,
    outcomes: BTreeMap<&'static str, u64>,
    kinds: BTreeMap<&'static str, u64>,
}

fn explore(climate: Climate, cases: u32) -> Explored {
    // More of them on demand: PROPTEST_CASES=5000 cargo test -p fleet -- nothing_that_must_never_happen
    let cases = std::env::var("PROPTEST_CASES").ok().and_then(|cases| cases.parse().ok()).unwrap_or(cases);
    let explored = Mutex::new(Explored::default());
    let config = Config { cases, ..Config::with_source_file(file!()) };
    let told = TestRunner::new(config).run(&history(climate, 220..300), |history| {
        let seen = history.live();
        let mut explored = explored.lock().unwrap();
        explored.histories += 1;
        explored.facts += seen.facts as u64;
        assert_eq!(seen.outcomes.len(), SERVICES, "each of them ended");
        seen.outcomes.iter().for_each(|outcome| *explored.outcomes.entry(outcome.as_str()).or_default() += 1);
        seen.kinds.iter().for_each(|(kind, times)| *explored.kinds.entry(kind).or_default() += times);
        Ok(())
    });
    if let Err(why) = told {
        panic!("{why}");
    }
    explored.into_inner().unwrap()
}

/// Prints what was explored, and fails if the histories had nothing to say about some outcome or fact.
fn tell(what: &str, explored: &Explored, expected: &[Outcome]) {
    let rules = ON_EVERY_FACT.len() + AT_REST.len() + AT_THE_END.len();
    eprintln!(
        "{what}: {rules} invariants over {} histories of {SERVICES} deployments, {} facts; with all other tests so far {} events and {} facts\n  outcomes: {:?}\n  facts: {:?}",
        explored.histories,
        explored.facts,
        EVENTS.load(Ordering::Relaxed),
        FACTS.load(Ordering::Relaxed),
        explored.outcomes,
        explored.kinds,
    );
    for outcome in expected {
        assert!(explored.outcomes.contains_key(outcome.as_str()), "{what}: nothing ever ended {outcome}");
    }
    // There are 35 kinds; the rarest may be missing by chance, and have tests of their own.
    assert!(explored.kinds.len() >= 31, "{what}: only {} kinds of facts", explored.kinds.len());
}

#[test]
fn nothing_that_must_never_happen_happens_in_a_mild_world() {
    use Outcome::{Aborted, Converged, RolledBack, Unproven};
    tell("mild", &explore(Climate::Mild, 50), &[Converged, RolledBack, Unproven, Aborted]);
}

#[test]
fn nothing_that_must_never_happen_happens_in_a_harsh_world() {
    use Outcome::{Aborted, RolledBack, Unproven};
    tell("harsh", &explore(Climate::Harsh, 80), &[RolledBack, Unproven, Aborted]);
}
