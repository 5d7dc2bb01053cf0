//! The rig of the end-to-end stories: whole fleets of real processes, started and broken from outside.
//!
//! Nothing here links the controller, the agent or `fleetctl`: a story sees what an operator sees (commands, exit
//! codes, documents, HTTP answers, `/proc`, files). What a fleet must show is said by the stories in `tests/`.
//!
//! Environment: `FLEET_TESTS_NO_BUILD=1` uses the binaries that are there, `FLEET_TESTS_KEEP=1` leaves the folders of
//! failed fleets, `FLEET_TESTS_SLACK=5` stretches the promised times five times instead of three,
//! `FLEET_TESTS_STORY=locks` plays only such of the stories that share a fleet.

// A rig that cannot do its work must stop the test: every failure here is a panic with its reason.
#![allow(clippy::unwrap_used)]

pub mod archive;
mod asking;
mod breaking;
pub mod dice;
pub mod disk;
pub mod fleet;
mod joining;
pub mod ledger;
pub mod output;
pub mod ports;
pub mod process;
pub mod proxy;
pub mod random_release;
pub mod readers;
pub mod releases;
mod rollout;
pub mod stage;
pub mod strays;
pub mod stream;
pub mod switch;
pub mod wait;
pub mod wire;
pub mod witness;
pub mod workspace;

pub use dice::Dice;
pub use fleet::{Fleet, Options, Store};
pub use ledger::Ledger;
pub use output::Output;
pub use process::Proc;
pub use proxy::Proxy;
pub use stage::{Made, Stage, Story};
pub use switch::Switch;
pub use wait::{PROMISE, promised, until};
pub use witness::Witness;
