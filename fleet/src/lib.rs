//! The law of the fleet: values and rules, and nothing else.
//!
//! What a release is, what a node shall hold, what counts as proof that it does, how a deployment moves
//! through segments and when it turns back. No IO, no clock, no async, no randomness: time and identifiers
//! are arguments, and results explain themselves. Agent, controller and `fleetctl` share this vocabulary and
//! do everything else.

pub mod capacity;
pub mod deployment;
pub mod digest;
pub mod drift;
pub mod evidence;
pub mod id;
pub mod ledger;
pub mod looked;
pub mod manifest;
pub mod order;
pub mod outcome;
pub mod release;
pub mod segments;
pub mod sequence;
pub mod statement;
pub mod time;

pub use digest::Digest;
pub use id::{DeploymentId, Generation, NodeName, Nonce, PlanId, ReleaseId, ServiceName};
pub use order::{Hold, Order};
pub use outcome::Outcome;
pub use time::{Millis, Timestamp};
