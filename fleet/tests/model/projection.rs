//! What a state is to the checker: everything on which the future depends, and no more.
//!
//! It is the `Debug` text of the whole deployment, private fields and what was merely heard included, with the
//! machines, the network, the budgets and the history. So a field that is added to the engine tomorrow is part of it
//! without a change here. What is left out, and why no two states are merged that behave differently:
//!
//! - *The spec*: it never changes within a scenario; a fold that changed it would break the law of replay.
//! - *The journal*: only a successor reads it, and at every stop of the controller a law compares the successor with
//!   the deployment it follows, by this very projection. At every turn another law compares the state with the fold of
//!   the facts. So states with equal deployments and other journals have equal successors. (`facts`, its length, is
//!   left out as well, and compared with the journal by a law.)
//! - *Absolute times*: the engine adds spans to times and compares; shifting them all changes nothing. A time becomes
//!   its distance to now in epochs, and its rank among all marks of the state. Spans are whole epochs and marks only
//!   grow, so that all comparisons, now and later, come out the same (the region construction of timed automata).
//!   What is older than every span is as good as any time that is.
//! - *When things ended*, in states that nothing more is measured from, such as the time of a node's failure: they are
//!   for people (`ENDED`). The test of the projection shows that they make no difference to what the engine does.

use std::collections::BTreeMap;
use std::fmt::{self, Write};
use std::hash::{Hash, Hasher};

use fleet::Timestamp;

use crate::world::{EPOCH, LONG_AGO, World, epoch_of};

/// Fields and variants whose times are only told to people.
const ENDED: [&str; 12] = [
    "started_at",
    "proven_at",
    "baked_at",
    "rollback_at",
    "Proven",
    "Failed",
    "Restored",
    "NotRestored",
    "Verified",
    "Unverified",
    "Decommissioned",
    "facts",
];

/// No scenario lasts that many epochs: what ends later, such as a waiver, never ends.
const NEVER: i64 = 1_000;

/// A state as the checker compares it.
#[derive(Debug, PartialEq, Eq, Hash)]
pub(crate) struct Projection {
    text: String,
    /// Epochs from now, and the rank of the mark.
    times: Vec<(i64, usize)>,
}

impl Projection {
    pub(crate) fn of(world: &World) -> Self {
        let World { deployment, journal: _, clock, machines, said, late, left, history, crashed_in, broken } = world;
        let mut sink = Sink::default();
        let said = said.iter().map(|order| (&order.node, order.generation));
        // Writing into a string cannot fail.
        let _ = write!(sink, "{deployment:?}{machines:?}{late:?}{left:?}{history:?}{crashed_in:?}{broken:?}");
        said.for_each(|said| drop(write!(sink, "{said:?}")));
        sink.finish(clock.asks())
    }

    /// Of the deployment alone, as it is at `now`.
    pub(crate) fn of_deployment(deployment: &fleet::deployment::Deployment, now: Timestamp) -> Self {
        let mut sink = Sink::default();
        let _ = write!(sink, "{deployment:?}");
        sink.finish(now)
    }
}

impl Hash for World {
    fn hash<H: Hasher>(&self, state: &mut H) {
        Projection::of(self).hash(state);
    }
}

impl PartialEq for World {
    fn eq(&self, other: &Self) -> bool {
        Projection::of(self) == Projection::of(other)
    }
}

/// Takes in the pieces of a `Debug` text as derived implementations write them: the names of types and fields,
/// punctuation and numbers are one piece each.
#[derive(Default)]
struct Sink {
    text: String,
    times: Vec<Timestamp>,
    reading: Reading,
    number: String,
    last: String,
    /// The type or variant that was opened last, and the field.
    variant: String,
    field: String,
}

#[derive(Default, PartialEq)]
enum Reading {
    #[default]
    Text,
    /// The spec, up to the field after it.
    Spec,
    Time,
    /// A number that is left out.
    Nothing,
}

impl Sink {
    fn finish(self, now: Timestamp) -> Projection {
        let marks = self.times.iter().map(|at| (at.0.rem_euclid(EPOCH as i64), 0)).collect::<BTreeMap<_, _>>();
        let ranks: BTreeMap<i64, usize> = marks.into_keys().enumerate().map(|(rank, mark)| (mark, rank)).collect();
        let place = |at: &Timestamp| {
            let distance = (epoch_of(*at) - epoch_of(now)).clamp(-LONG_AGO, NEVER);
            (distance, ranks[&at.0.rem_euclid(EPOCH as i64)])
        };
        Projection { times: self.times.iter().map(place).collect(), text: self.text }
    }
}

impl fmt::Write for Sink {
    fn write_str(&mut self, piece: &str) -> fmt::Result {
        match self.reading {
            Reading::Spec if piece != "phase" => return Ok(()),
            Reading::Spec => self.reading = Reading::Text,
            Reading::Time | Reading::Nothing => {
                match piece {
                    "(" | "(\n" => {}
                    ")" => {
                        if self.reading == Reading::Time {
                            self.times.push(Timestamp(self.number.parse().map_err(|_| fmt::Error)?));
                        }
                        self.number.clear();
                        self.reading = Reading::Text;
                    }
                    digits => self.number.push_str(digits),
                }
                return Ok(());
            }
            Reading::Text => {}
        }
        match piece {
            "spec" => self.reading = Reading::Spec,
            "Timestamp" => {
                let told = ENDED.contains(&self.field.as_str())
                    || (self.field == "since" && ENDED.contains(&self.variant.as_str()));
                self.reading = if told { Reading::Nothing } else { Reading::Time };
            }
            " { " => self.variant.clone_from(&self.last),
            ": " => self.field.clone_from(&self.last),
            number if self.field == "facts" && number.bytes().all(|b| b.is_ascii_digit()) => return Ok(()),
            _ => {}
        }
        self.last.clear();
        self.last.push_str(piece);
        self.text.push_str(piece);
        Ok(())
    }
}
