//! What must hold always. The laws are weighed at every transition, also at those into states that are known already,
//! against the history and against what the machines really run; a broken law stays in the state, and what follows it
//! is not explored.

use fleet::deployment::{Deployment, Event, Fact, Phase, Seen, Verdict};
use fleet::evidence::Confirmation;
use fleet::order::{Reception, receive};
use fleet::{Generation, Millis, Order, Timestamp};
use stateright::Property;

use crate::endings;
use crate::history::{History, Standing};
use crate::limits;
use crate::projection::Projection;
use crate::scenario::Scenario;
use crate::world::{BACK, FORWARD, LONG_AGO, World, epoch_of};

macro_rules! laws {
    ($($law:ident: $words:literal,)*) => {
        /// A law, for the state that breaks it.
        #[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub(crate) enum Law {
            $($law,)*
        }

        /// Every law, as something that always holds.
        pub(crate) fn properties() -> Vec<Property<Scenario>> {
            vec![$(Property::always($words, |_, world: &World| !world.broken.contains(&Law::$law)),)*]
        }
    };
}

laws! {
    ConvergedIsTrue: "converged: every expected node ran the new code, for good, in the last round",
    WaiversAreNamed: "converged with waivers: who is not proven has a waiver that is still valid",
    BackIsTrue: "rolled back, or aborted so: every expected node ran what it held before in the last round",
    EndingsAreMeant: "aborted and superseded were asked for, and what is proven is not called unproven",
    FactsAreAll: "folding the facts of a turn gives the state after it",
    SuccessorIsEqual: "a successor that replays the journal is as if it had always been there",
    GenerationsGrow: "no order goes back a generation, or says something else under the same",
    FinishedIsSilent: "a finished deployment says nothing, whatever happens",
    NewestFirst: "a segment goes back when every newer one is through",
    NobodyIsForgotten: "on the way back every node that was ordered is turned back before the last round",
    PausedBeginsNothing: "nothing is begun while a person is waited for",
    NoWayForward: "nothing is begun on the way forward once it turned back or was aborted",
    GatesHold: "a segment starts when every gate before it said yes, or a person did",
    AnswersAreAnswers: "a gate passes by an answer to the asking at work, and fails by one",
    BakedBefore: "a segment starts when all of the one before were proven or failed, and the proven have baked",
    BudgetHolds: "nothing is begun when more nodes failed than the budget or a person allows",
    FailureTurns: "on failure it does what it was asked to do: roll back, stop or pause",
    ProofIsFresh: "a node is proven or restored by a proof of this order, asked for after it",
    BakeIsFresh: "a node has baked by a proof asked for after the bake, of one life, with nothing to undo",
    VerdictIsFresh: "a node is verified by a proof asked for in the last round, with nothing to undo",
    NobodyIsHurried: "no node fails before its time is over, and time stands still while no controller listens",
    SilenceFails: "silence past the deadline is a failure, and so is to differ for longer than it may take to settle",
    WokenInTime: "nothing comes true by time alone before the time to be woken",
    LeftAloneItEnds: "time alone always leads on, until it is over",
    MigratedOnce: "the migration is begun once, and again only when a person says so",
    FewAtOnce: "no more nodes are at work at once than the limit and the floor allow",
    AbsentLast: "a node outside the segments is ordered in the last round only",
    RollIsKept: "who joins is expected from then on, and who is decommissioned is not any more",
    WaitsSayWhy: "whoever waits says why, and is woken",
}

/// Weighs one turn of the controller: `before` is the deployment before it, the world's is the one after it.
pub(crate) fn check_turn(world: &mut World, before: Deployment, event: &Event, facts: &[Fact]) {
    let now = world.clock.now();
    if let Event::Observed { node, observation } = event
        && before.order_for(node).is_none_or(|order| order.generation == observation.generation)
    {
        world.history.hear(node, &observation.seen, now);
    }
    let mut folded = before;
    let mut history = world.history.clone();
    let mut broken = Vec::new();
    for fact in facts {
        broken.extend(limits::begun(&history, fact, folded.spec()));
        let order = fact.node().and_then(|node| folded.order_for(node));
        let order = order.map(|order| order.generation);
        broken.extend(evidence(&history, folded.spec().bake, fact, event, order, now));
        broken.extend(limits::patience(&history, fact, event, now));
        history.fold(fact);
        folded.apply(fact);
        if matches!(fact, Fact::VerificationStarted { .. }) && history.turned {
            let ordered = history.nodes.iter().filter(|(_, past)| past.forward && past.standing != Standing::Gone);
            let back = |node| folded.order_for(node).is_some_and(|order| order.generation == BACK);
            if !ordered.map(|(node, _)| node).all(back) {
                broken.push(Law::NobodyIsForgotten);
            }
        }
    }
    let kept = match event {
        Event::Joined { node, .. } => history.nodes.get(node).is_some_and(|past| past.standing != Standing::Gone),
        Event::Decommissioned { node, .. } => {
            history.nodes.get(node).is_none_or(|past| past.standing == Standing::Gone)
        }
        _ => true,
    };
    if !kept {
        broken.push(Law::RollIsKept);
    }
    if folded != world.deployment || folded.facts() != (world.journal.len() + facts.len()) as u64 {
        broken.push(Law::FactsAreAll);
    }
    world.broken.extend(broken);
}

/// Weighs the state after a turn.
pub(crate) fn check_state(world: &mut World) {
    let (now, deployment, history) = (world.clock.now(), &world.deployment, &world.history);
    let mut broken = Vec::new();
    match deployment.phase() {
        Phase::Finished { outcome, .. } => {
            broken.extend(endings::check(world, outcome));
            if !endings::is_silent(world) {
                broken.push(Law::FinishedIsSilent);
            }
        }
        Phase::Planned
        | Phase::Rolling { .. }
        | Phase::Baking { .. }
        | Phase::Between { .. }
        | Phase::Gating { .. }
        | Phase::Migrating { .. }
        | Phase::Stopped
        | Phase::TurningBack { .. }
        | Phase::RollingBack { .. }
        | Phase::Verifying { .. } => {
            broken.extend(limits::overdue(history, deployment, now));
            let why = deployment.waiting_on(now).map(|waiting| waiting.to_string());
            if deployment.wake_at().is_none() || why.is_none_or(|why| why.is_empty()) {
                broken.push(Law::WaitsSayWhy);
            }
        }
    }
    world.broken.extend(broken);
}

/// Weighs an order that is about to be said.
pub(crate) fn check_order(world: &mut World, order: &Order) {
    let same = world.said.iter().filter(|said| said.node == order.node);
    let bad = same.map(|said| receive(Some(said), order)).any(|reception| match reception {
        Reception::Older | Reception::Contradiction => true,
        Reception::Newer | Reception::Same => false,
    });
    if bad {
        world.broken.insert(Law::GenerationsGrow);
    }
    let outside = world.history.nodes.get(&order.node).is_none_or(|past| past.segment.is_none());
    if outside && world.history.round.is_none() && !world.history.turned {
        world.broken.insert(Law::AbsentLast);
    }
}

/// Weighs a successor, before its first turn, against the deployment that it follows.
pub(crate) fn check_succession(world: &mut World, successor: &Deployment) {
    let now = world.clock.now();
    let mut heir = world.deployment.clone();
    heir.resume(now);
    let same = Projection::of_deployment(&heir, now) == Projection::of_deployment(successor, now);
    if world.deployment != *successor || !same {
        world.broken.insert(Law::SuccessorIsEqual);
    }
}

/// Weighs the passing of an epoch after `before`, which asked to be woken at `woken_at`. Whoever waits has something
/// in store that is not older than every span.
pub(crate) fn check_passing(world: &mut World, before: &World, woken_at: Option<Timestamp>) {
    let now = world.clock.now();
    let woken = woken_at.is_some_and(|at| at <= now);
    if !woken && !world.deployment.clone().handle(&Event::Tick, now).is_empty() {
        world.broken.insert(Law::WokenInTime);
    }
    let nothing = world.journal.len() == before.journal.len();
    let long_ago = woken_at.is_none_or(|at| epoch_of(now) - epoch_of(at) > LONG_AGO);
    if nothing && long_ago {
        world.broken.insert(Law::LeftAloneItEnds);
    }
}

/// Whether a fact that speaks of proof, or of an answer, follows from the event; `order` is the one that its node
/// stands under.
fn evidence(
    history: &History,
    bake: Millis,
    fact: &Fact,
    event: &Event,
    order: Option<Generation>,
    now: Timestamp,
) -> Option<Law> {
    let past = fact.node().and_then(|node| history.nodes.get(node));
    // The moment the proof was asked for, if the event is a proof of this node, and whether it can be undone.
    let proof = match event {
        Event::Observed { node, observation } if fact.node() == Some(node) => match &observation.seen {
            Seen::Proven { up, confirmation, .. } => Some((observation, *up, *confirmation)),
            Seen::Working { .. } | Seen::Failed { .. } | Seen::Differs { .. } => None,
        },
        _ => None,
    };
    let fresh = |from: Timestamp| {
        proof.is_some_and(|(seen, _, _)| seen.asked_at >= from && order.is_none_or(|order| seen.generation == order))
    };
    let given = proof.is_some_and(|(_, _, confirmation)| confirmation == Confirmation::Given);
    let holds = match (fact, past) {
        (Fact::NodeProven { .. }, Some(past)) => {
            let fresh = past.ordered_at.is_some_and(fresh);
            return (!fresh || past.standing != Standing::Ordered).then_some(Law::ProofIsFresh);
        }
        (Fact::NodeRestored { .. }, Some(past)) => {
            let fresh = past.ordered_at.is_some_and(fresh);
            return (!fresh || past.standing != Standing::Restoring).then_some(Law::ProofIsFresh);
        }
        (Fact::NodeBaked { .. }, Some(_)) => {
            let after = history.baking.map(|(_, since)| since.max(history.listening).after(bake));
            let one_life = proof.is_some_and(|(_, up, _)| up >= bake);
            return (!after.is_some_and(fresh) || !one_life || !given).then_some(Law::BakeIsFresh);
        }
        (Fact::NodeVerified { .. }, Some(past)) => {
            let round = history.round.is_some_and(fresh);
            // Who was not there when its segment baked has to outlive the bake now.
            let baked = past.baked || order != Some(FORWARD) || proof.is_some_and(|(_, up, _)| up >= bake);
            let holds = round && given && baked && past.standing != Standing::Gone;
            return (!holds).then_some(Law::VerdictIsFresh);
        }
        (Fact::GatePassed { asking, .. }, _) => {
            matches!(event, Event::GateAnswered { asking: of, verdict: Verdict::Passed { .. } } if of == asking)
                && history.asked_at.is_some()
                && history.asking == Some(*asking)
        }
        (Fact::GateFailed { asking, .. }, _) => {
            matches!(event, Event::GateAnswered { asking: of, verdict: Verdict::Failed { .. } } if of == asking)
                && history.asked_at.is_some()
                && history.asking == Some(*asking)
        }
        (Fact::GateInconclusive { asking, .. }, _) => {
            let answer = matches!(event, Event::GateAnswered { asking: of, verdict: Verdict::Inconclusive { .. } } if of == asking);
            let due = history.asked_at.is_some_and(|since| now >= since.after(limits::GATE));
            answer || due
        }
        (_, _) => true,
    };
    (!holds).then_some(Law::AnswersAreAnswers)
}
