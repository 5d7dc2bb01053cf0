//! Laws of what may be begun, and of time: what a fact needs before it, and what must not stay open.

use fleet::capacity::Parallel;
use fleet::deployment::{AbortMode, Budget, Deployment, Event, Fact, Halt, OnFailure, Phase, Place, Seen, Spec};
use fleet::{Millis, Timestamp};

use crate::history::{History, Past, Standing};
use crate::laws::Law;
use crate::world::{EPOCH, epoch_of};

/// The bake of every scenario that has one.
pub(crate) const BAKE: Millis = Millis(EPOCH);
/// How long a gate may take to answer.
pub(crate) const GATE: Millis = Millis(EPOCH);
/// How long a node may contradict what is seen, in epochs.
pub(crate) const SETTLE: i64 = 1;
/// How long a node may be silent, in epochs; an absent one too.
pub(crate) const DEADLINE: i64 = 2;
/// How long a person may take to decide, in epochs.
pub(crate) const PATIENCE: i64 = 3;

/// Which laws a fact breaks by what it begins, given what was before it.
pub(crate) fn begun(history: &History, fact: &Fact, spec: &Spec) -> Vec<Law> {
    let mut broken = Vec::new();
    let forward = match fact {
        Fact::SegmentStarted { .. }
        | Fact::NodesOrdered { .. }
        | Fact::GateStarted { .. }
        | Fact::MigrationStarted { .. } => true,
        Fact::VerificationStarted { .. } => !history.turned,
        _ => false,
    };
    let back = match fact {
        Fact::SegmentRollbackStarted { .. } | Fact::NodesTurnedBack { .. } => true,
        Fact::VerificationStarted { .. } => history.turned,
        _ => false,
    };
    let mut check = |law: Law, holds: bool| {
        if !holds {
            broken.push(law);
        }
    };
    if forward || back {
        check(Law::PausedBeginsNothing, !history.paused && history.halt.is_none());
    }
    if forward {
        check(Law::NoWayForward, !history.turned && history.abort.is_none() && !history.superseded);
        let allowed = match spec.max_failures {
            Budget::Nodes(nodes) => nodes,
            Budget::Percent(percent) => usize::from(percent) * spec.size() / 100,
        };
        check(Law::BudgetHolds, history.failed() <= allowed.max(history.forgiven));
    }
    match fact {
        Fact::SegmentStarted { segment, .. } => {
            check(Law::BakedBefore, *segment == 0 || is_through(history, segment - 1));
            check(Law::GatesHold, may_leave(history, spec, *segment));
        }
        Fact::VerificationStarted { .. } if !history.turned => {
            let last = spec.segments.len();
            check(Law::BakedBefore, is_through(history, last - 1));
            check(Law::GatesHold, may_leave(history, spec, last));
        }
        Fact::VerificationStarted { .. } => {
            check(Law::NobodyIsForgotten, history.expected().all(|past| !is_at_work(past)));
        }
        Fact::NodesOrdered { segment, nodes, .. } => {
            let untouched = |past: &Past| past.standing == Standing::Untouched && past.segment == Some(*segment);
            let known = nodes.iter().all(|node| history.nodes.get(node).is_some_and(untouched));
            let newest = history.begun.last() == Some(segment);
            check(Law::BakedBefore, known && newest && (*segment == 0 || is_through(history, segment - 1)));
            check(Law::FewAtOnce, fits(history, spec, nodes.len()));
        }
        Fact::SegmentProven { segment, .. } => {
            let open = |past: &Past| matches!(past.standing, Standing::Untouched | Standing::Ordered);
            check(Law::BakedBefore, !history.of_segment(*segment).any(open));
        }
        Fact::SegmentBaked { segment, .. } => {
            let raw = |past: &Past| past.standing == Standing::Proven && !past.baked;
            check(
                Law::BakedBefore,
                (spec.bake.0 == 0 && spec.confirm.0 == 0) || !history.of_segment(*segment).any(raw),
            );
        }
        Fact::SegmentRollbackStarted { segment, .. } | Fact::NodesTurnedBack { segment, .. } => {
            let mut newer = history.expected().filter(|past| past.segment > Some(*segment) && past.forward);
            let through = |past: &Past| matches!(past.standing, Standing::Restored | Standing::NotRestored);
            // Who is in no segment came last: it is ordered back before any segment, and need not be through.
            let inside = *segment < spec.segments.len();
            let waits = |past: &Past| past.segment.is_none() && past.forward && !is_at_work(past) && !through(past);
            let skipped = inside && history.expected().any(waits);
            check(Law::NewestFirst, newer.all(through) && !skipped && history.turned);
        }
        Fact::MigrationStarted { .. } => {
            check(Law::MigratedOnce, history.migrations < history.migrations_allowed && !history.migrated);
        }
        Fact::RollbackStarted { .. } => {
            let asked = history.abort == Some(AbortMode::RollBack);
            check(Law::FailureTurns, asked || spec.on_failure == OnFailure::Rollback);
        }
        Fact::Stopped { .. } => check(Law::FailureTurns, spec.on_failure != OnFailure::Rollback),
        Fact::Halted { halt: Halt::Failure { .. }, .. } => {
            check(Law::FailureTurns, spec.on_failure == OnFailure::Pause);
        }
        _ => {}
    }
    broken
}

/// Whether a node fails too early: nothing says that it failed, and its time is not over.
pub(crate) fn patience(history: &History, fact: &Fact, event: &Event, now: Timestamp) -> Option<Law> {
    let past = match fact {
        Fact::NodeFailed { node, .. } | Fact::NodeNotRestored { node, .. } | Fact::NodeUnverified { node, .. } => {
            history.nodes.get(node)?
        }
        _ => return None,
    };
    let said_so = matches!(event, Event::Observed { node, observation }
        if fact.node() == Some(node) && matches!(observation.seen, Seen::Failed { .. }));
    let silent = measured_from(history, past)
        .is_some_and(|since| epoch_of(now) - epoch_of(since.max(history.listening)) >= DEADLINE);
    let settled = past.differs.is_some_and(|differs| epoch_of(now) - epoch_of(differs) >= SETTLE);
    (!said_so && !silent && !settled).then_some(Law::NobodyIsHurried)
}

/// Whether something is still open whose time is over.
pub(crate) fn overdue(history: &History, deployment: &Deployment, now: Timestamp) -> Option<Law> {
    let over = |since: Timestamp, span: i64| epoch_of(now) - epoch_of(since.max(history.listening)) >= span;
    let waits = |past: &Past| match past.standing {
        Standing::Ordered | Standing::Restoring => true,
        Standing::Verified | Standing::Unverified | Standing::Gone => false,
        Standing::Untouched | Standing::Proven | Standing::Failed | Standing::Restored | Standing::NotRestored => {
            history.round.is_some()
        }
    };
    // Who did not bake with its segment may need that long as well.
    let bake = if deployment.spec().bake.0 > 0 { 1 } else { 0 };
    let span = |past: &Past| if past.ordered_at.is_none() && !past.baked { DEADLINE + bake } else { DEADLINE };
    let late = |past: &Past| measured_from(history, past).is_some_and(|since| over(since, span(past)));
    let differs = |past: &Past| past.differs.is_some_and(|since| epoch_of(now) - epoch_of(since) >= SETTLE);
    let stands = |past: &Past| past.standing == Standing::Proven && !history.turned;
    let mut nodes = history.nodes.values();
    let silent = nodes.any(|past| (waits(past) && (late(past) || differs(past))) || (stands(past) && differs(past)));
    let unanswered = match deployment.phase() {
        Phase::Gating { since, .. } => over(since, 1),
        Phase::Migrating { since, .. } => over(since, 1 + DEADLINE),
        Phase::Baking { since, .. } => over(since, 1 + DEADLINE),
        Phase::Stopped | Phase::Planned => true,
        Phase::Rolling { .. }
        | Phase::Between { .. }
        | Phase::TurningBack { .. }
        | Phase::RollingBack { .. }
        | Phase::Verifying { .. }
        | Phase::Finished { .. } => false,
    };
    let held = deployment.paused().is_some() || deployment.halted().is_some();
    let halted = deployment.halted().map(|halted| halted.since).or(deployment.paused().map(|paused| paused.since));
    let undecided = halted.is_some_and(|since| over(since, PATIENCE));
    (silent || (unanswered && !held) || undecided).then_some(Law::SilenceFails)
}

/// From when on the time of a node is measured; None when nothing is waited for.
fn measured_from(history: &History, past: &Past) -> Option<Timestamp> {
    match (past.ordered_at, history.round, history.baking) {
        (_, Some(round), _) => Some(round.max(past.expected_since)),
        (Some(at), None, _) => Some(at),
        (None, None, baking) => baking.map(|(_, since)| since),
    }
}

fn is_at_work(past: &Past) -> bool {
    matches!(past.standing, Standing::Ordered | Standing::Restoring)
}

fn is_through(history: &History, segment: usize) -> bool {
    history.baked.contains(&segment)
}

/// Whether gates, pauses and the migration before `segment` let it start.
fn may_leave(history: &History, spec: &Spec, segment: usize) -> bool {
    let Some(before) = segment.checked_sub(1) else {
        return spec.migration.as_ref().is_none_or(|migration| migration.place != Place::Before(0) || history.migrated);
    };
    let gates = spec.gates.iter().enumerate().filter(|(_, gate)| gate.after.is_none_or(|after| after == before));
    let answered = gates.map(|(gate, _)| (before, gate)).all(|gate| history.gates.contains(&gate));
    let promoted = !spec.pause_after.contains(&before) || history.promoted.contains(&before);
    let places = [Place::Before(segment), Place::After(before)];
    let migrated = spec.migration.as_ref().is_none_or(|m| !places.contains(&m.place) || history.migrated);
    answered && promoted && migrated
}

/// Whether `more` nodes may be ordered at once, by the limit and by the floor.
fn fits(history: &History, spec: &Spec, more: usize) -> bool {
    let at_work = history.nodes.values().filter(|past| is_at_work(past)).count();
    let limit = match spec.parallel {
        Parallel::Count(nodes) => nodes,
        Parallel::Percent(_) | Parallel::All => usize::MAX,
    };
    let inside = history.nodes.values().filter(|past| past.segment.is_some());
    let serving = inside.filter(|past| matches!(past.standing, Standing::Untouched | Standing::Proven)).count();
    at_work + more <= limit && serving >= spec.floor + more
}
