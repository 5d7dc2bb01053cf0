//! Stories of what is between segments and of persons who decide: gates, migrations, pauses, promotions. Above all, that
//! a decision covers what the person was told of, and nothing that went wrong meanwhile.

use std::collections::BTreeSet;

use crate::deployment::tests::generated::gate;
use crate::deployment::tests::witness::Witness;
use crate::deployment::tests::world::{Nature, World, node, seconds, spec};
use crate::deployment::{
    AbortMode, Again, Asking, Budget, Cause, Command, Event, Fact, Halt, Migration, MigrationReport, Observation,
    OnFailure, Phase, Place, Seen, Spec, Verdict, WaitingOn,
};
use crate::{Generation, Millis, Outcome, Timestamp};

/// A deployment whose nodes are all good, told what happens one thing after the other.
struct Told(Witness, Timestamp);

impl Told {
    fn new(spec: Spec) -> Self {
        let world = World::of(&spec, |_| Nature::Good(1), Timestamp(0));
        let mut witness = Witness::new(spec, world, Timestamp(0));
        witness.tell(Event::Tick, Timestamp(0));
        Self(witness, Timestamp(0))
    }

    /// Looks at everybody, once a second, until something is reached.
    fn until(&mut self, reached: impl Fn(&Witness) -> bool) {
        for _ in 0..1_000 {
            if reached(&self.0) {
                return;
            }
            self.1 = self.1.after(seconds(1));
            self.0.tell(Event::Tick, self.1);
            let names: Vec<_> = self.0.deployment.nodes().iter().map(|(name, _)| name.clone()).collect();
            for name in names {
                if !reached(&self.0) {
                    self.0.look(&name, self.1);
                }
            }
        }
        panic!("never reached: {:?}, {:?}", self.0.deployment.phase(), self.0.deployment.halted());
    }

    fn until_halted(&mut self) -> Halt {
        self.until(|witness| witness.deployment.halted().is_some());
        self.0.deployment.halted().unwrap().halt.clone()
    }

    fn end(mut self) -> (Outcome, Vec<&'static str>) {
        self.until(Witness::is_over);
        self.0.close();
        (self.0.deployment.outcome().unwrap(), self.0.journal.iter().map(Fact::kind).collect())
    }

    fn says(&mut self, command: Command) -> Vec<&'static str> {
        let facts = self.0.tell(Event::Told { by: "bob".into(), command }, self.1);
        facts.iter().map(Fact::kind).collect()
    }

    fn promotes(&mut self, again: Again) -> Vec<&'static str> {
        self.says(Command::Promote { again })
    }

    fn answers(&mut self, attempt: u32, verdict: Verdict) -> Vec<&'static str> {
        let asking = Asking { segment: 0, gate: 0, attempt };
        self.0.tell(Event::GateAnswered { asking, verdict }, self.1).iter().map(Fact::kind).collect()
    }

    fn reports(&mut self, attempt: u32, report: MigrationReport) -> Vec<&'static str> {
        let event = Event::MigrationReported { node: node(1), attempt, report };
        self.0.tell(event, self.1).iter().map(Fact::kind).collect()
    }

    /// The agent of a node that was ordered says that it failed.
    fn fails(&mut self, n: usize) -> Vec<&'static str> {
        let seen = Seen::Failed { reason: "probe: 503".into() };
        let observation = Observation { asked_at: self.1, generation: Generation(10), seen };
        self.0.tell(Event::Observed { node: node(n), observation }, self.1).iter().map(Fact::kind).collect()
    }
}

fn yes() -> Verdict {
    Verdict::Passed { detail: "0 errors".into() }
}

fn no() -> Verdict {
    Verdict::Failed { detail: "5 errors".into() }
}

fn nobody_knows() -> Verdict {
    Verdict::Inconclusive { detail: "no data".into() }
}

fn gated(on_failure: OnFailure) -> Spec {
    Spec { gates: vec![gate(Some(0))], on_failure, ..spec(&[2, 2], 0) }
}

fn migrating(place: Place, on_failure: OnFailure) -> Spec {
    let migration = Migration { name: "migrate".into(), command: "bin/migrate".into(), place, timeout: seconds(40) };
    Spec { migration: Some(migration), on_failure, ..spec(&[2, 2], 0) }
}

fn is_gating(witness: &Witness) -> bool {
    matches!(witness.deployment.phase(), Phase::Gating { .. })
}

fn is_migrating(witness: &Witness) -> bool {
    matches!(witness.deployment.phase(), Phase::Migrating { .. })
}

#[test]
fn story_a_gate_without_data_waits_for_a_person_and_is_asked_again() {
    let mut told = Told::new(gated(OnFailure::Rollback));
    told.until(is_gating);
    assert_eq!(told.answers(2, yes()), [""; 0], "nobody asked a second time yet");
    assert_eq!(told.answers(1, nobody_knows()), ["gate-inconclusive", "halted"]);
    assert_eq!(told.answers(1, yes()), [""; 0], "too late: that asking is over");
    assert_eq!(told.promotes(Again::Retry), ["promoted", "gate-started"]);
    assert_eq!(told.answers(1, yes()), [""; 0], "an answer to the first asking is none to the second");
    assert_eq!(told.answers(2, yes())[0], "gate-passed");
    assert_eq!(told.end().0, Outcome::Converged);
}

#[test]
fn story_a_gate_that_nobody_answers_is_not_passed() {
    let mut told = Told::new(gated(OnFailure::Rollback));
    let Halt::Inconclusive { detail, .. } = told.until_halted() else { panic!() };
    assert!(detail.contains("no answer within 30s"), "{detail}");
    // And nobody decides either.
    let (outcome, kinds) = told.end();
    assert_eq!(outcome, Outcome::RolledBack);
    assert_eq!(kinds.iter().filter(|kind| **kind == "segment-started").count(), 1);
}

#[test]
fn story_a_gate_that_says_no_turns_back() {
    let mut told = Told::new(gated(OnFailure::Rollback));
    told.until(is_gating);
    assert_eq!(told.answers(1, no())[..2], ["gate-failed", "rollback-started"]);
    assert_eq!(told.end().0, Outcome::RolledBack);
}

#[test]
fn story_a_pause_after_the_first_segment_waits_for_a_promotion() {
    let mut told = Told::new(Spec { pause_after: BTreeSet::from([0]), ..spec(&[2, 2], 0) });
    assert_eq!(told.until_halted(), Halt::PauseAfter { segment: 0 });
    let words = told.0.deployment.waiting_on(told.1).unwrap().to_string();
    assert!(words.contains("fleetctl promote d-test") && words.contains("segment 1"), "{words}");
    assert_eq!(told.promotes(Again::Skip), ["promoted", "segment-started", "nodes-ordered"]);
    assert_eq!(told.end().0, Outcome::Converged);
}

#[test]
fn story_paused_nodes_end_what_they_do_and_nothing_more_is_begun() {
    let mut told = Told::new(spec(&[2, 2], 0));
    assert_eq!(told.says(Command::Pause), ["paused"]);
    told.until(|witness| witness.journal.iter().any(|fact| fact.kind() == "segment-baked"));
    assert_eq!(told.0.tell(Event::Tick, told.1), []);
    assert!(matches!(told.0.deployment.waiting_on(told.1), Some(WaitingOn::Resume { .. })));
    assert_eq!(told.says(Command::Resume), ["resumed", "segment-started", "nodes-ordered"]);
    assert_eq!(told.end().0, Outcome::Converged);
}

#[test]
fn story_the_migration_runs_once_in_its_place() {
    for (place, before) in [
        (Place::Before(0), "segment-started 0"),
        (Place::After(0), "segment-started 1"),
        (Place::Before(1), "segment-started 1"),
        (Place::After(1), "verification-started"),
    ] {
        let mut told = Told::new(migrating(place, OnFailure::Rollback));
        told.until(is_migrating);
        let order = told.0.deployment.migration_order().unwrap();
        let first = &told.0.deployment.spec().segments[place.segment()][0];
        assert_eq!((order.attempt, &order.node), (1, first), "{place}");
        let report = |attempt, report| Event::MigrationReported { node: first.clone(), attempt, report };
        let (running, done) = (MigrationReport::Running { detail: "3 of 7".into() }, MigrationReport::Succeeded);
        let (running, done) = (report(1, running), report(1, done));
        let now = told.1;
        assert_eq!(told.0.tell(running, now), []);
        assert!(told.0.deployment.waiting_on(now).unwrap().to_string().contains("3 of 7"));
        let facts = told.0.tell(done.clone(), now);
        let tell = |fact: &Fact| fact.segment().map_or(fact.kind().to_owned(), |k| format!("{} {k}", fact.kind()));
        assert_eq!(facts[..2].iter().map(tell).collect::<Vec<_>>(), ["migration-succeeded", before], "{place}");
        assert!(told.0.tell(done, now).iter().all(|fact| fact.kind() != "migration-succeeded"), "a repeated report");
        assert_eq!(told.end().0, Outcome::Converged);
    }
}

#[test]
fn story_an_interrupted_migration_is_run_again_only_when_a_person_says_so() {
    for (again, started) in [(Again::Skip, "segment-started"), (Again::Retry, "migration-started")] {
        let mut told = Told::new(migrating(Place::Before(0), OnFailure::Rollback));
        let interrupted = MigrationReport::Interrupted { reason: "power".into() };
        assert_eq!(told.reports(1, interrupted), ["migration-interrupted", "halted"]);
        assert_eq!(told.0.deployment.migration_order(), None);
        assert_eq!(told.promotes(again)[..2], ["promoted", started]);
        let attempt = told.0.deployment.migration_order().map(|order| order.attempt);
        assert_eq!(attempt, (again == Again::Retry).then_some(2));
        if again == Again::Retry {
            assert_eq!(told.reports(1, MigrationReport::Succeeded), [""; 0], "that was the first attempt");
            told.reports(2, MigrationReport::Succeeded);
        }
        assert_eq!(told.end().0, Outcome::Converged);
    }
}

/// Only the agent that was told to run it can say how it stands; and one that has failed, or has left, is not told.
#[test]
fn the_migration_is_told_to_a_node_that_can_run_it_and_believed_from_no_other() {
    let tolerant = Spec { max_failures: Budget::Nodes(1), ..migrating(Place::After(0), OnFailure::Rollback) };
    let mut told = Told::new(Spec { segments: spec(&[3, 1], 0).segments, ..tolerant });
    assert_eq!(told.fails(1), ["node-failed"]);
    let (by, reason) = ("dave".to_owned(), "sold".to_owned());
    told.0.world.leave(&node(2));
    told.0.tell(Event::Decommissioned { node: node(2), by, reason }, told.1);
    told.until(is_migrating);
    let order = told.0.deployment.migration_order().unwrap();
    assert_eq!(order.node, node(3), "n1 has failed, n2 has left");
    assert_eq!(told.reports(1, MigrationReport::Succeeded), [""; 0], "n1 was not told");
    let done = Event::MigrationReported { node: node(3), attempt: 1, report: MigrationReport::Succeeded };
    assert_eq!(told.0.tell(done, told.1)[0].kind(), "migration-succeeded");
}

#[test]
fn story_a_migration_that_nobody_reports_on_is_interrupted_and_not_repeated() {
    let mut told = Told::new(migrating(Place::After(0), OnFailure::Rollback));
    let Halt::Interrupted { reason, .. } = told.until_halted() else { panic!() };
    assert!(reason.contains("never heard of it"), "{reason}");
    let (outcome, kinds) = told.end();
    assert_eq!((outcome, kinds.iter().filter(|kind| **kind == "migration-started").count()), (Outcome::RolledBack, 1));
}

#[test]
fn a_migration_whose_node_is_decommissioned_is_interrupted_at_once() {
    let mut told = Told::new(migrating(Place::After(0), OnFailure::Rollback));
    told.until(is_migrating);
    let event = Event::Decommissioned { node: node(1), by: "bob".into(), reason: "fan".into() };
    let facts = told.0.tell(event, told.1);
    let kinds: Vec<_> = facts.iter().map(Fact::kind).collect();
    assert_eq!(kinds, ["node-decommissioned", "migration-interrupted", "halted"]);
    let Halt::Interrupted { reason, .. } = told.until_halted() else { panic!() };
    assert!(reason.contains("decommissioned while it ran"), "{reason}");
    told.promotes(Again::Retry);
    assert_eq!(told.0.deployment.migration_order().map(|order| order.node), Some(node(2)));
}

/// It would halt again in the same moment: nobody's word makes a node healthy.
#[test]
fn a_floor_that_cannot_be_kept_is_not_promoted() {
    let mut told = Told::new(Spec { floor: 3, on_failure: OnFailure::Pause, ..spec(&[2, 2], 0) });
    told.until(|witness| witness.deployment.order_for(&node(1)).is_some());
    assert_eq!(told.fails(1), ["node-failed", "halted"]);
    // The budget, first: of that a person may say that it does not matter.
    told.promotes(Again::Skip);
    let halt = told.until_halted();
    assert!(matches!(halt, Halt::Failure { cause: Cause::CapacityLost { .. } }), "{halt:?}");
    let refusal = told.0.deployment.check(&Command::Promote { again: Again::Skip }, told.1).unwrap_err();
    assert!(refusal.what.contains("below the floor") && refusal.help.contains("--min-healthy"), "{refusal:?}");
    assert_eq!(told.says(Command::Abort { mode: AbortMode::RollBack })[0], "abort-requested");
    assert_eq!(told.end().0, Outcome::Aborted);
}

/// A person who lets it go on after a pause was not told of the failure that came while it waited.
#[test]
fn a_failure_while_it_waits_to_be_promoted_is_not_promoted_with_it() {
    let mut told = Told::new(Spec { pause_after: BTreeSet::from([0]), ..spec(&[2, 2], 0) });
    told.until_halted();
    assert_eq!(told.fails(1), ["node-failed"]);
    let facts = told.promotes(Again::Skip);
    assert_eq!(facts[..2], ["promoted", "rollback-started"], "{facts:?}");
    assert!(matches!(told.0.deployment.cause(), Some(Cause::BudgetExceeded { failed: 1, .. })));
}

/// A person who goes past failed nodes was not told of the gate that said no meanwhile.
#[test]
fn a_gate_that_says_no_while_it_waits_is_not_promoted_with_it() {
    let mut told = Told::new(gated(OnFailure::Pause));
    told.until(is_gating);
    assert_eq!(told.fails(1), ["node-failed", "halted"]);
    assert_eq!(told.answers(1, no()), ["gate-failed"]);
    let command = Command::Promote { again: Again::Retry };
    assert!(told.0.deployment.check(&command, told.1).is_err(), "a failed node is not tried again");
    assert_eq!(told.promotes(Again::Skip), ["promoted", "halted"]);
    assert!(matches!(&told.0.deployment.halted().unwrap().halt, Halt::Failure { cause: Cause::GateFailed { .. } }));
    assert_eq!(told.promotes(Again::Retry), ["promoted", "gate-started"]);
    assert_eq!(told.answers(2, yes())[0], "gate-passed");
}

/// A person who goes past failed nodes was not told that nobody knows whether the migration ran: it is not run again.
#[test]
fn a_migration_that_is_interrupted_while_it_waits_is_not_run_again_unasked() {
    let mut told = Told::new(migrating(Place::After(0), OnFailure::Pause));
    told.until(is_migrating);
    assert_eq!(told.says(Command::Pause), ["paused"]);
    assert_eq!(told.reports(1, MigrationReport::Interrupted { reason: "power".into() }), ["migration-interrupted"]);
    assert_eq!(told.fails(2), ["node-failed"]);
    assert_eq!(told.says(Command::Resume), ["resumed", "halted"]);
    assert_eq!(told.promotes(Again::Skip), ["promoted", "halted"]);
    assert!(matches!(told.0.deployment.halted().unwrap().halt, Halt::Interrupted { .. }));
    assert_eq!(told.promotes(Again::Skip), ["promoted", "segment-started", "nodes-ordered"]);
}

/// Who went past one failure did not go past the next, even if the first has been waived since.
#[test]
fn a_failure_that_was_gone_past_and_waived_makes_no_room_for_another() {
    let mut told = Told::new(Spec { on_failure: OnFailure::Pause, ..spec(&[3], 0) });
    assert_eq!(told.fails(1), ["node-failed", "halted"]);
    assert_eq!(told.promotes(Again::Skip), ["promoted"]);
    let waiver = crate::deployment::Waiver { by: "carol".into(), reason: "fan".into(), until: Timestamp(i64::MAX) };
    assert_eq!(told.says(Command::Waive { node: node(1), waiver }), ["node-waived"]);
    assert_eq!(told.fails(2), ["node-failed", "halted"], "nobody has gone past this one");
}

#[test]
fn a_second_failure_after_a_promotion_halts_again() {
    let mut told = Told::new(Spec { on_failure: OnFailure::Pause, max_failures: Budget::Nodes(1), ..spec(&[4], 0) });
    assert_eq!(told.fails(1), ["node-failed"]);
    assert_eq!(told.fails(2), ["node-failed", "halted"]);
    assert_eq!(told.promotes(Again::Skip), ["promoted"]);
    assert_eq!(told.fails(3), ["node-failed", "halted"]);
    assert_eq!(told.promotes(Again::Skip), ["promoted"]);
    // The failed nodes of this story were good all along: the last round is theirs too.
    assert_eq!(told.end().0, Outcome::Converged);
}

#[test]
fn a_rollback_that_nobody_lets_go_on_goes_on() {
    let mut told = Told::new(Spec { pause_deadline: seconds(100), ..spec(&[1, 1], 0) });
    told.until(|witness| matches!(witness.deployment.phase(), Phase::Rolling { segment: 1 }));
    assert!(told.fails(2).contains(&"nodes-turned-back"));
    assert_eq!(told.says(Command::Pause), ["paused"]);
    let (outcome, kinds) = told.end();
    assert_eq!((outcome, kinds.contains(&"resumed")), (Outcome::RolledBack, true));
}

/// The bake is waited for with the deadline of its nodes, not by asking for the time again and again.
#[test]
fn nobody_is_woken_again_and_again_while_a_proof_after_the_bake_is_missing() {
    let mut told = Told::new(spec(&[1], 0));
    told.until(|witness| matches!(witness.deployment.phase(), Phase::Baking { .. }));
    let Phase::Baking { since, .. } = told.0.deployment.phase() else { panic!() };
    let after = since.after(seconds(5)).after(Millis(1));
    told.0.tell(Event::Tick, after);
    assert_eq!(told.0.deployment.wake_at(), Some(since.after(seconds(5)).after(seconds(60))));
}

#[test]
fn what_was_heard_before_an_order_is_no_news_of_it() {
    let mut told = Told::new(Spec { parallel: crate::capacity::Parallel::Count(1), ..spec(&[2], 0) });
    told.1 = told.1.after(seconds(1));
    let now = told.1;
    told.0.look(&node(2), now);
    assert_eq!(told.0.deployment.last_heard(&node(2)), Some("proven"));
    told.0.look(&node(1), now);
    let words = told.0.deployment.waiting_on(now).unwrap().to_string();
    assert!(words.contains("n2 (not heard from yet)"), "{words}");
    let facts = told.0.tell(Event::Tick, now.after(seconds(60)));
    let Some(Fact::NodeFailed { reason, .. }) = facts.iter().find(|fact| fact.node() == Some(&node(2))) else {
        panic!()
    };
    assert_eq!(reason, "silent for 1m: no answer from its agent");
}
