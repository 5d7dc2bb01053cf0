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
//! - *Times that nothing is measured from any more*: when a node failed, when a segment had baked; when the controller
//!   began to listen, if everything that is under way began later; when a node began to be expected, if the last round
//!   began later.
//! - *Words*: reasons and details are told to people; no rule reads them. Whether something was heard of a node matters
//!   outside the segments only, and whether it serves while it waits for its turn only.
//!
//! The last two are knowledge about the engine, which may become wrong. So a test takes every two states that are merged
//! and looks whether both can do the same, with the same results: `merged_states_behave_alike`.

use std::fmt::{self, Write};
use std::hash::{Hash, Hasher};

use fleet::Timestamp;

use crate::world::{EPOCH, LONG_AGO, World, epoch_of};

/// No scenario lasts that many epochs: what ends later, such as a waiver, never ends.
const NEVER: i64 = 1_000;

/// The nodes of the scenarios are `n1` to `n9`; what is longer are words.
const LONGEST_NAME: usize = 2;

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
        let said: Vec<_> = said.iter().map(|order| (&order.node, order.generation)).collect();
        // Writing into a string cannot fail.
        let _ = write!(sink, "{deployment:?}{machines:?}{late:?}{left:?}{history:?}{broken:?}{said:?}");
        sink.text.push_str(crashed_in.unwrap_or_default());
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
/// punctuation and numbers are one piece each. It runs for every state, so it looks at lengths before it compares.
#[derive(Default)]
struct Sink {
    text: String,
    times: Vec<(Timestamp, Use)>,
    reading: Reading,
    number: String,
    in_words: bool,
    /// Where the last piece begins.
    last: usize,
    /// Whether the variant that was opened last is one that nothing is measured from.
    told: bool,
    field: Field,
    /// Whether the next piece is the first of the field's value.
    begins: bool,
    /// Whether the node that is read is outside the segments, and whether it waits for its turn.
    outside: bool,
    pending: bool,
}

#[derive(Default, Clone, Copy, PartialEq)]
enum Reading {
    #[default]
    Text,
    /// Left out, up to this field.
    Until(&'static str),
    Time,
}

/// The fields that are read with care.
#[derive(Debug, Default, Clone, Copy, PartialEq)]
enum Field {
    #[default]
    Other,
    Past,
    Since,
    Expected,
    Listening,
    Segment,
    State,
    Serves,
    Facts,
}

/// What a time is there for.
#[derive(Debug, Clone, Copy, PartialEq)]
enum Use {
    /// It is told to people.
    Told,
    /// Something is measured from it, or happens then.
    Live,
    /// The beginning of a state: what a controller has not heard is measured from here.
    Since,
    /// When a node began to be expected: it matters if that was later than the beginning of the state.
    Expected,
    /// When the controller began to listen: it matters if that was later than the beginning of something.
    Listening,
}

impl Field {
    fn named(name: &str) -> Self {
        match name {
            "started_at" | "proven_at" | "baked_at" | "rollback_at" => Self::Past,
            "since" => Self::Since,
            "expected_since" => Self::Expected,
            "listening" | "listening_since" => Self::Listening,
            "segment" => Self::Segment,
            "state" => Self::State,
            "serves" => Self::Serves,
            "facts" => Self::Facts,
            _ => Self::Other,
        }
    }
}

impl Sink {
    fn finish(mut self, now: Timestamp) -> Projection {
        let began = |used: Use| self.times.iter().filter(move |(_, of)| *of == used).map(|(at, _)| *at);
        let (first, last) = (began(Use::Since).min(), began(Use::Since).max());
        let expected = began(Use::Expected).filter(|at| last.is_some_and(|last| *at > last)).min();
        let first = first.into_iter().chain(expected).min();
        for (at, used) in &mut self.times {
            *used = match used {
                Use::Expected if last.is_none_or(|last| *at <= last) => Use::Told,
                Use::Listening if first.is_none_or(|first| *at <= first) => Use::Told,
                Use::Told => Use::Told,
                Use::Live | Use::Since | Use::Expected | Use::Listening => Use::Live,
            };
        }
        let live = || self.times.iter().filter(|(_, used)| *used == Use::Live).map(|(at, _)| *at);
        let mark = |at: Timestamp| at.0.rem_euclid(EPOCH as i64);
        let mut marks: Vec<i64> = live().map(mark).collect();
        marks.sort_unstable();
        marks.dedup();
        let place = |at: Timestamp| {
            let distance = (epoch_of(at) - epoch_of(now)).clamp(-LONG_AGO, NEVER);
            (distance, marks.binary_search(&mark(at)).unwrap_or_default())
        };
        let times = self.times.iter();
        let times = times.map(|(at, used)| if *used == Use::Live { place(*at) } else { (NEVER + 1, 0) }).collect();
        Projection { times, text: self.text }
    }

    /// What the time is there for that is about to be read.
    fn used(&self) -> Use {
        match self.field {
            Field::Past => Use::Told,
            Field::Since if self.told => Use::Told,
            Field::Since => Use::Since,
            Field::Expected => Use::Expected,
            Field::Listening => Use::Listening,
            Field::Other | Field::Segment | Field::State | Field::Serves | Field::Facts => Use::Live,
        }
    }

    fn last(&self) -> &str {
        self.text.get(self.last..).unwrap_or_default()
    }

    /// Notes what a piece says of what follows; whether it is left out.
    fn is_left_out(&mut self, piece: &str) -> bool {
        let begins = std::mem::take(&mut self.begins);
        match (piece.len(), piece.as_bytes().first()) {
            (2, Some(b':')) => (self.field, self.begins) = (Field::named(self.last()), true),
            (3, Some(b' ')) => {
                let told = ["Proven", "Failed", "Restored", "NotRestored", "Verified", "Unverified", "Decommissioned"];
                self.told = told.contains(&self.last());
            }
            (9, Some(b'T')) if piece == "Timestamp" => self.reading = Reading::Time,
            (4, Some(b's')) if piece == "spec" => self.reading = Reading::Until("phase"),
            (5, Some(b'h')) if piece == "heard" && !self.outside => self.reading = Reading::Until("differs"),
            (length, _) if self.in_words => return length > LONGEST_NAME,
            _ => match self.field {
                Field::Serves if !self.pending => return piece == "Yes" || piece == "No",
                Field::Facts => return piece.bytes().all(|byte| byte.is_ascii_digit()),
                Field::Segment if begins => self.outside = piece == "None",
                Field::State if begins => self.pending = piece == "Pending",
                Field::Segment
                | Field::State
                | Field::Serves
                | Field::Other
                | Field::Past
                | Field::Since
                | Field::Expected
                | Field::Listening => {}
            },
        }
        false
    }
}

impl fmt::Write for Sink {
    fn write_char(&mut self, piece: char) -> fmt::Result {
        // Texts come as a quote, their pieces and a quote.
        self.in_words ^= piece == '"';
        self.write_str(piece.encode_utf8(&mut [0; 4]))
    }

    fn write_str(&mut self, piece: &str) -> fmt::Result {
        match self.reading {
            Reading::Until(field) if piece.len() != field.len() || piece != field => return Ok(()),
            Reading::Until(_) => self.reading = Reading::Text,
            Reading::Time if piece == "(" => return Ok(()),
            Reading::Time if piece == ")" => {
                let at = self.number.parse().map_err(|_| fmt::Error)?;
                self.times.push((Timestamp(at), self.used()));
                self.number.clear();
                self.reading = Reading::Text;
                return Ok(());
            }
            Reading::Time => {
                self.number.push_str(piece);
                return Ok(());
            }
            Reading::Text => {}
        }
        if !self.is_left_out(piece) {
            self.last = self.text.len();
            self.text.push_str(piece);
        }
        Ok(())
    }
}
