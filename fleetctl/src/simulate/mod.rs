//! The simulator: a story of a fleet, its failures, delays and people, played in simulated time against the same pure
//! machine that the controller drives ([`fleet::deployment`], planned by [`fleet::deployment::plan`]). There is no
//! controller, no network and no clock; the same script gives the same transcript.
//!
//! `words`, `read`, `flags`, `acts` and `expect` read a script into a `story`. `play` lets time pass, `drive` does what a
//! controller does, `deeds` what people and fate do, a `machine` what a node does. `weigh` compares what was expected with
//! what there is to see (`sight`), and `transcript` keeps what was said.

mod acts;
mod deeds;
mod drive;
mod expect;
mod flags;
mod machine;
mod play;
mod read;
mod releases;
mod sight;
mod story;
mod transcript;
mod weigh;
mod words;

pub use play::{Played, play};
pub use read::{LARGEST_SCRIPT, parse};
pub use story::Story;
pub use words::ScriptError;
