//! Deployments brought to every phase, paused, halted and aborted too, by what arrives and nothing else: the rows of the
//! tables in `commands.rs` and `silence.rs`.

use std::collections::BTreeSet;

use crate::deployment::tests::generated::gate;
use crate::deployment::tests::world::{node, seconds, spec};
use crate::deployment::{
    AbortMode, Again, Asking, Budget, Command, Deployment, Event, Fact, Migration, MigrationReport, Observation,
    OnFailure, Phase, Place, Seen, Spec, Verdict,
};
use crate::evidence::Confirmation;
use crate::release::Grade;
use crate::{Generation, Millis, Timestamp};

/// A deployment in some phase, with the time that it is.
pub(super) struct Situation {
    pub(super) name: &'static str,
    pub(super) deployment: Deployment,
    pub(super) now: Timestamp,
    journal: Vec<Fact>,
}

impl Situation {
    fn begin(name: &'static str, spec: Spec) -> Self {
        let planned = Fact::Planned { at: Timestamp(0), spec: Box::new(spec) };
        Self { name, deployment: Deployment::planned(&planned).unwrap(), now: Timestamp(0), journal: vec![planned] }
    }

    fn then(mut self, event: Event) -> Self {
        self.journal.extend(self.deployment.handle(&event, self.now));
        self
    }

    fn tick(self) -> Self {
        self.then(Event::Tick)
    }

    fn later(mut self, span: Millis) -> Self {
        self.now = self.now.after(span);
        self.tick()
    }

    fn told(self, command: Command) -> Self {
        self.then(Event::Told { by: "bob".into(), command })
    }

    fn seen(self, n: usize, seen: Seen) -> Self {
        let generation = self.deployment.order_for(&node(n)).map_or(Generation(1), |order| order.generation);
        let observation = Observation { asked_at: self.now, generation, seen };
        self.then(Event::Observed { node: node(n), observation })
    }

    fn proven(self, nodes: std::ops::RangeInclusive<usize>) -> Self {
        let up = Millis(u64::MAX);
        let seen = Seen::Proven { grade: Grade::Digest, up, confirmation: Confirmation::Given };
        nodes.fold(self, |situation, n| situation.seen(n, seen.clone()))
    }

    fn failed(self, n: usize) -> Self {
        self.seen(n, Seen::Failed { reason: "probe: 503".into() })
    }

    fn answered(self, verdict: Verdict) -> Self {
        let asking = Asking { segment: 0, gate: 0, attempt: 1 };
        self.then(Event::GateAnswered { asking, verdict })
    }

    fn reported(self, report: MigrationReport) -> Self {
        self.then(Event::MigrationReported { node: node(1), attempt: 1, report })
    }

    /// As a controller finds it that died just after this fact was written down.
    fn torn_after(mut self, kind: &str) -> Self {
        let last = self.journal.iter().position(|fact| fact.kind() == kind).unwrap();
        self.journal.truncate(last + 1);
        self.deployment = Deployment::replay(&self.journal).unwrap();
        self.deployment.resume(self.now);
        self
    }
}

fn plain() -> Spec {
    spec(&[2, 2], 1)
}

fn migrating(place: Place) -> Spec {
    let migration = Migration { name: "migrate".into(), command: "bin/migrate".into(), place, timeout: seconds(40) };
    Spec { migration: Some(migration), ..plain() }
}

fn rolling(name: &'static str, spec: Spec) -> Situation {
    Situation::begin(name, spec).tick()
}

fn baking(name: &'static str, spec: Spec) -> Situation {
    rolling(name, spec).proven(1..=2)
}

fn baked(name: &'static str, spec: Spec) -> Situation {
    baking(name, spec).later(seconds(5)).proven(1..=2)
}

fn gated(name: &'static str, on_failure: OnFailure) -> Situation {
    baked(name, Spec { gates: vec![gate(None)], on_failure, ..plain() })
}

fn verifying(name: &'static str) -> Situation {
    baked(name, plain()).proven(3..=4).later(seconds(5)).proven(3..=4)
}

fn detail() -> String {
    "5 errors".into()
}

/// All of them.
pub(super) fn situations() -> Vec<Situation> {
    let pausing = |max_failures| Spec { on_failure: OnFailure::Pause, max_failures, ..plain() };
    let abort = |mode| Command::Abort { mode };
    let reason = || "power".to_owned();
    let retry_is_refused = Spec { pause_after: BTreeSet::from([0]), ..plain() };
    let superseded = Command::Supersede { deployment: "d-next".parse().unwrap() };
    vec![
        Situation::begin("planned", plain()),
        Situation::begin("planned, paused", plain()).told(Command::Pause),
        rolling("migrating before the first segment", migrating(Place::Before(0))),
        rolling("planned, halted by an interrupted migration", migrating(Place::Before(0)))
            .reported(MigrationReport::Interrupted { reason: reason() }),
        rolling("rolling", plain()),
        rolling("rolling, paused", plain()).told(Command::Pause),
        rolling("rolling, halted by a failure", pausing(Budget::Nodes(0))).failed(1),
        rolling("rolling, halted by a failure, paused too", pausing(Budget::Nodes(0))).failed(1).told(Command::Pause),
        // Of three nodes that were healthy the last does not serve any more: the first may not be taken out.
        Situation::begin("rolling, blocked by the floor", Spec { floor: 2, ..spec(&[1, 1, 1], 0) })
            .seen(3, Seen::Differs { reason: "dead".into() }),
        baking("baking", plain()),
        baking("baking, paused", plain()).told(Command::Pause),
        gated("gating", OnFailure::Rollback),
        gated("gating, paused", OnFailure::Rollback).told(Command::Pause),
        gated("between, halted by a gate without an answer", OnFailure::Rollback)
            .answered(Verdict::Inconclusive { detail: detail() }),
        gated("between, halted by a gate that said no", OnFailure::Pause)
            .answered(Verdict::Failed { detail: detail() }),
        gated("between, paused when the gate said yes", OnFailure::Rollback)
            .told(Command::Pause)
            .answered(Verdict::Passed { detail: detail() }),
        baked("between, waiting for its promotion", retry_is_refused),
        baked("migrating after a segment", migrating(Place::After(0))),
        baked("migrating after a segment, paused", migrating(Place::After(0))).told(Command::Pause),
        rolling("stopped, taken up again", Spec { on_failure: OnFailure::Stop, ..plain() })
            .failed(1)
            .torn_after("stopped"),
        rolling("turning back, taken up again", plain()).failed(1).torn_after("rollback-started"),
        rolling("rolling back", plain()).failed(1),
        rolling("rolling back, paused", plain()).failed(1).told(Command::Pause),
        rolling("rolling back, aborted", plain()).told(abort(AbortMode::RollBack)),
        verifying("verifying"),
        verifying("rolling back from the last round, aborted").told(abort(AbortMode::RollBack)),
        rolling("verifying, on the way back", plain()).failed(1).proven(1..=2),
        rolling("verifying, on the way back, aborted", plain()).told(abort(AbortMode::RollBack)).proven(1..=2),
        verifying("finished: converged").proven(1..=5),
        rolling("finished: rolled back", plain()).failed(1).proven(1..=2).proven(1..=5),
        rolling("finished: unproven", Spec { on_failure: OnFailure::Stop, ..plain() }).failed(1),
        rolling("finished: aborted", plain()).told(abort(AbortMode::Leave)),
        rolling("finished: superseded", plain()).told(superseded),
        rolling("rolling after a retried migration", migrating(Place::Before(0)))
            .reported(MigrationReport::Interrupted { reason: reason() })
            .told(Command::Promote { again: Again::Retry })
            .then(Event::MigrationReported { node: node(1), attempt: 2, report: MigrationReport::Succeeded }),
    ]
}

/// The phase in one word.
pub(super) fn word(phase: Phase) -> &'static str {
    match phase {
        Phase::Planned => "planned",
        Phase::Rolling { .. } => "rolling",
        Phase::Baking { .. } => "baking",
        Phase::Between { .. } => "between",
        Phase::Gating { .. } => "gating",
        Phase::Migrating { .. } => "migrating",
        Phase::Stopped => "stopped",
        Phase::TurningBack { .. } => "turning back",
        Phase::RollingBack { .. } => "rolling back",
        Phase::Verifying { .. } => "verifying",
        Phase::Finished { .. } => "finished",
    }
}

#[test]
fn the_situations_are_what_they_are_called_and_every_phase_is_among_them() {
    let mut words = BTreeSet::new();
    for situation in situations() {
        let word = word(situation.deployment.phase());
        words.insert(word);
        assert!(situation.name.starts_with(word), "'{}' is {word}", situation.name);
        let deployment = &situation.deployment;
        assert_eq!(
            situation.name.contains("paused too") || situation.name.contains(", paused"),
            deployment.paused().is_some(),
            "{}",
            situation.name
        );
        let halts = situation.name.contains("halted") || situation.name.contains("promotion");
        assert_eq!(halts, deployment.halted().is_some(), "{}", situation.name);
    }
    assert_eq!(words.len(), 11, "{words:?}");
}
