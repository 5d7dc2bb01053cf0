//! Laws of endings: an outcome is compared with what the machines really ran, not with what was heard of them.

use fleet::Outcome;
use fleet::deployment::{AbortMode, Again, Command, Event, Observation, Seen, Verdict};
use fleet::deployment::{Asking, Previous};
use fleet::evidence::Confirmation;
use fleet::release::Grade;

use crate::history::{Past, Standing};
use crate::laws::Law;
use crate::world::{BACK, Code, FORWARD, LONG_AGO, World, epochs, hold};

/// Which law an outcome breaks.
pub(crate) fn check(world: &World, outcome: Outcome) -> Option<Law> {
    let history = &world.history;
    let now = world.clock.now();
    let in_round = history.round.is_some();
    let ran = |code: Code| move |past: &Past| past.witnessed == Some(code);
    let somebody = history.expected().any(|past| past.standing == Standing::Verified);
    let (holds, law) = match outcome {
        Outcome::Converged => {
            let new = history.expected().all(ran(Code::New));
            (in_round && !history.turned && somebody && new, Law::ConvergedIsTrue)
        }
        Outcome::ConvergedWithWaivers => {
            let waived = |past: &Past| past.waived_until.is_some_and(|until| now < until);
            let covered = history.expected().all(|past| ran(Code::New)(past) || waived(past));
            let needed = history.expected().any(|past| past.standing == Standing::Unverified);
            (in_round && !history.turned && somebody && covered && needed, Law::WaiversAreNamed)
        }
        Outcome::RolledBack => {
            let old = history.expected().all(|past| ran(Code::Old)(past) || excused(past, world));
            (in_round && history.turned && somebody && old && history.abort.is_none(), Law::BackIsTrue)
        }
        Outcome::Aborted => match history.abort {
            None => (false, Law::EndingsAreMeant),
            Some(AbortMode::Leave) => (true, Law::EndingsAreMeant),
            Some(AbortMode::RollBack) => {
                let old = history.expected().all(|past| ran(Code::Old)(past) || excused(past, world));
                (in_round && history.turned && somebody && old, Law::BackIsTrue)
            }
        },
        Outcome::Superseded => (history.superseded, Law::EndingsAreMeant),
        Outcome::Unproven => {
            let proven = somebody && history.expected().all(|past| past.standing == Standing::Verified);
            (!proven && !history.superseded, Law::EndingsAreMeant)
        }
    };
    (!holds).then_some(law)
}

/// Whether a waiver covers a node on the way back.
fn excused(past: &Past, world: &World) -> bool {
    past.standing == Standing::Unverified && past.waived_until.is_some_and(|until| world.clock.now() < until)
}

/// Whether it says nothing more, whatever arrives now or much later.
pub(crate) fn is_silent(world: &World) -> bool {
    let (deployment, now) = (&world.deployment, world.clock.now());
    let by = || "carol".to_owned();
    let told = |command| Event::Told { by: by(), command };
    let proven = Seen::Proven { grade: Grade::Digest, up: epochs(LONG_AGO as u64), confirmation: Confirmation::Given };
    let mut events = vec![
        Event::Tick,
        told(Command::Pause),
        told(Command::Resume),
        told(Command::Promote { again: Again::Skip }),
        told(Command::Abort { mode: AbortMode::RollBack }),
        told(Command::Abort { mode: AbortMode::Leave }),
        Event::GateAnswered {
            asking: Asking { segment: 0, gate: 0, attempt: 1 },
            verdict: Verdict::Failed { detail: String::new() },
        },
    ];
    for machine in &world.machines {
        let node = || machine.name.clone();
        for (generation, seen) in
            [(FORWARD, proven.clone()), (BACK, proven.clone()), (FORWARD, Seen::Failed { reason: String::new() })]
        {
            let observation = Observation { asked_at: now, generation, seen };
            events.push(Event::Observed { node: node(), observation });
        }
        events.push(Event::Decommissioned { node: node(), by: by(), reason: String::new() });
    }
    let previous = Previous { hold: hold(Code::Old), version: None };
    events.extend("n9".parse().ok().map(|node| Event::Joined { node, previous }));
    let later = now.after(epochs(100));
    let mut listener = deployment.clone();
    deployment.wake_at().is_none()
        && deployment.waiting_on(now).is_none()
        && events.iter().all(|event| listener.handle(event, later).is_empty())
}
