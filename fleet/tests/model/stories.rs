//! What must happen on some way, so that no scenario holds its laws by doing nothing. A story is a state; where it ends
//! well only if things go on, they go on in peace: everybody does what is asked, and time passes.

use fleet::Outcome;
use fleet::deployment::{Again, Command, Event, Fact, MigrationReport, Phase, Verdict};
use fleet::evidence::Confirmation;
use stateright::{Model, Property};

use crate::history::Standing;
use crate::limits::BAKE;
use crate::scenario::{Action, How, Scenario, Turn};
use crate::world::{Age, Book, FORWARD, Machine, Presence, Progress, World, code_of};

/// Turns within which everything must have ended in peace.
const PEACE: usize = 80;

macro_rules! stories {
    ($($story:ident: $words:literal, $happens:expr;)*) => {
        /// Something that must be possible.
        #[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
        pub(crate) enum Story {
            $($story,)*
        }

        impl Story {
            /// Every story.
            pub(crate) const ALL: &[Story] = &[$(Story::$story,)*];

            pub(crate) fn property(self) -> Property<Scenario> {
                match self {
                    $(Story::$story => Property::sometimes($words, {
                        let happens: fn(&Scenario, &World) -> bool = $happens;
                        happens
                    }),)*
                }
            }
        }
    };
}

stories! {
    Converged: "it converges", |_, world| ended(world, Outcome::Converged);
    RolledBack: "it rolls back", |_, world| ended(world, Outcome::RolledBack);
    Unproven: "it ends unproven", |_, world| ended(world, Outcome::Unproven);
    Aborted: "it is aborted", |_, world| ended(world, Outcome::Aborted);
    AbortedBack: "it is aborted and goes back", |_, world| ended(world, Outcome::Aborted) && world.history.round.is_some();
    Superseded: "it is superseded", |_, world| ended(world, Outcome::Superseded);
    Waived: "it converges with waivers", |_, world| ended(world, Outcome::ConvergedWithWaivers);
    WaiverOver: "a waiver runs out, and it ends unproven", |_, world| {
        ended(world, Outcome::Unproven) && world.history.nodes.values().any(|past| past.waived_until.is_some())
    };
    PromotedAfterPause: "it halts after a segment, is promoted and converges", |_, world| {
        ended(world, Outcome::Converged) && !world.history.promoted.is_empty()
    };
    PromotedAfterSilence: "a gate has no answer, a person lets it go on, and it converges", |_, world| {
        ended(world, Outcome::Converged) && told(world, |fact| matches!(fact, Fact::GateInconclusive { .. }))
    };
    AskedAgain: "a gate is asked again, says yes, and it converges", |_, world| {
        ended(world, Outcome::Converged) && told(world, |fact| matches!(fact, Fact::GatePassed { asking, .. } if asking.attempt > 1))
    };
    PromotedAfterFailure: "it pauses on failure, and a person lets it go on to the last round", |_, world| {
        world.history.failed() > 0 && world.history.round.is_some() && told(world, |fact| matches!(fact, Fact::Promoted { .. }))
    };
    Resumed: "it is paused, resumed and converges", |_, world| {
        ended(world, Outcome::Converged) && told(world, |fact| matches!(fact, Fact::Resumed { .. }))
    };
    NobodyDecided: "nobody decides, and it ends", |_, world| {
        world.deployment.outcome().is_some()
            && world.deployment.cause().is_some_and(|cause| matches!(cause, fleet::deployment::Cause::NobodyDecided { .. }))
    };
    PausedOnTheWayBack: "it is paused on the way back, goes on and has rolled back", |_, world| {
        ended(world, Outcome::RolledBack) && resumed_after_turning(world)
    };
    Restarted: "a process starts anew as the bake ends, and it converges when that one is old enough", |model, world| {
        starts_anew(world) && in_peace(model, world.clone()).deployment.outcome() == Some(Outcome::Converged)
    };
    LiarCaught: "a node that claims what it does not run turns it back, and it rolls back", |model, world| {
        world.history.turned && lies(world) && in_peace(model, world.clone()).deployment.outcome() == Some(Outcome::RolledBack)
    };
    SilenceFailed: "a silent node fails, and is proven back when it returns", |scenario, world| {
        scenario.left.failures == 0
            && ended(world, Outcome::RolledBack)
            && told(world, |fact| matches!(fact, Fact::NodeFailed { .. }))
    };
    NotRestored: "a node cannot go back, the others do, and it ends unproven", |_, world| {
        ended(world, Outcome::Unproven)
            && told(world, |fact| matches!(fact, Fact::NodeNotRestored { .. }))
            && told(world, |fact| matches!(fact, Fact::NodeRestored { .. }))
    };
    ForgivenIsUnproven: "a failure within the budget lets it go on, and it ends unproven", |_, world| {
        ended(world, Outcome::Unproven) && told(world, |fact| matches!(fact, Fact::NodeFailed { .. }))
            && world.history.round.is_some() && !world.history.turned
    };
    LateNode: "an absent node returns, and it converges", |scenario, world| {
        ended(world, Outcome::Converged) && !scenario.away.is_empty()
    };
    Newcomer: "a node joins, and it converges with it", |_, world| {
        ended(world, Outcome::Converged) && told(world, |fact| matches!(fact, Fact::NodeJoined { .. }))
    };
    Removed: "a node is decommissioned, and it converges without it", |_, world| {
        ended(world, Outcome::Converged) && world.history.nodes.values().any(|past| past.standing == Standing::Gone)
    };
    MigratedOnce: "the migration runs, and it converges", |_, world| {
        ended(world, Outcome::Converged) && world.history.migrations == 1
    };
    MigratedTwice: "nobody knows whether the migration ran, a person has it run again, and it converges", |_, world| {
        ended(world, Outcome::Converged) && world.history.migrations == 2
    };
    StaleProof: "a proof of an earlier time arrives in the last round, and it goes on", |_, world| {
        let stale = |round| world.late.iter().any(|late| late.asked_at < round);
        world.deployment.outcome().is_none() && world.history.round.is_some_and(stale)
    };
    CrashPlanned: "the controller stops when it is planned, and it ends", |model, world| survived(model, world, "planned");
    CrashRolling: "the controller stops in a segment, and it ends", |model, world| survived(model, world, "rolling");
    CrashBaking: "the controller stops in the bake, and it ends", |model, world| survived(model, world, "baking");
    CrashBetween: "the controller stops between segments, and it ends", |model, world| survived(model, world, "between");
    CrashGating: "the controller stops when a gate is asked, and it ends", |model, world| survived(model, world, "gating");
    CrashMigrating: "the controller stops in the migration, and it ends", |model, world| survived(model, world, "migrating");
    CrashStopped: "the controller stops when it has stopped, and it ends", |model, world| survived(model, world, "stopped");
    CrashTurning: "the controller stops when it turns back, and it ends", |model, world| survived(model, world, "turning-back");
    CrashBack: "the controller stops on the way back, and it ends", |model, world| survived(model, world, "rolling-back");
    CrashVerifying: "the controller stops in the last round, and it ends", |model, world| survived(model, world, "verifying");
}

fn ended(world: &World, outcome: Outcome) -> bool {
    world.broken.is_empty() && world.deployment.outcome() == Some(outcome)
}

fn told(world: &World, fact: impl Fn(&Fact) -> bool) -> bool {
    world.journal.iter().any(fact)
}

/// Whether a node claims to hold the order forward, and does not.
fn lies(world: &World) -> bool {
    let claims = |machine: &Machine| machine.generation == FORWARD && machine.progress == Progress::Held;
    world.machines.iter().any(|machine| claims(machine) && machine.runs != code_of(FORWARD))
}

/// Whether a node that is not baked yet runs a young process although the bake is over.
fn starts_anew(world: &World) -> bool {
    let over = world.history.baking.is_some_and(|(_, since)| world.clock.now() >= since.after(BAKE));
    over && world.machines.iter().any(|machine| machine.age == Age::Young)
}

fn resumed_after_turning(world: &World) -> bool {
    let turned = world.journal.iter().position(|fact| matches!(fact, Fact::RollbackStarted { .. }));
    turned.is_some_and(|turned| world.journal[turned..].iter().any(|fact| matches!(fact, Fact::Resumed { .. })))
}

/// Whether the controller has just stopped in this phase, and in peace all goes on to a verdict that fits.
fn survived(model: &Scenario, world: &World, phase: &str) -> bool {
    if world.crashed_in != Some(phase) || !world.broken.is_empty() {
        return false;
    }
    let end = in_peace(model, world.clone());
    let turned = end.history.turned;
    end.broken.is_empty()
        && match end.deployment.outcome() {
            Some(Outcome::Converged | Outcome::ConvergedWithWaivers) => !turned,
            Some(Outcome::RolledBack) => turned,
            Some(Outcome::Unproven) => phase == "stopped",
            Some(Outcome::Aborted | Outcome::Superseded) => world.history.abort.is_some() || world.history.superseded,
            None => false,
        }
}

/// Everybody does what is asked until it is over.
fn in_peace(model: &Scenario, mut world: World) -> World {
    for _ in 0..PEACE {
        if world.deployment.outcome().is_some() || !world.broken.is_empty() {
            break;
        }
        for index in 0..world.machines.len() {
            let machine = &world.machines[index];
            let newest = world.said.iter().filter(|said| said.node == machine.name).map(|said| said.generation).max();
            let act = match newest {
                _ if machine.presence == Presence::Away => Some(Action::Return(index)),
                Some(newest) if newest > machine.generation => Some(Action::Carry(index, newest, How::Well)),
                _ if machine.confirmation == Confirmation::Awaited => Some(Action::Confirm(index)),
                _ if machine.progress == Progress::Held && machine.runs != code_of(machine.generation) => {
                    Some(Action::Settle(index))
                }
                Some(_) | None => None,
            };
            world = act.and_then(|act| model.next_state(&world, act)).unwrap_or(world);
            let look = Action::Turn(Turn::Look(index, Book::Current));
            world = model.next_state(&world, look).unwrap_or(world);
        }
        let detail = String::new;
        let event = match (world.deployment.phase(), world.deployment.paused(), world.deployment.halted()) {
            (_, Some(_), _) => Event::Told { by: "carol".into(), command: Command::Resume },
            (_, None, Some(_)) => Event::Told { by: "carol".into(), command: Command::Promote { again: Again::Skip } },
            (Phase::Gating { asking, .. }, None, None) => {
                Event::GateAnswered { asking, verdict: Verdict::Passed { detail: detail() } }
            }
            (Phase::Migrating { .. }, None, None) => {
                let attempt = world.deployment.migration().attempts;
                model.event(&world, &Turn::Report(attempt, MigrationReport::Succeeded))
            }
            (_, None, None) => Event::Tick,
        };
        world.turn(&event);
        world = match world.deployment.outcome() {
            None if event == Event::Tick => model.next_state(&world, Action::Pass).unwrap_or(world),
            None | Some(_) => world,
        };
    }
    world
}
