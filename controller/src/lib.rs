//! The mind of the fleet: what is desired, what is proven, and the deployments that bring the two together.
//!
//! One task ([`mind`]) owns all state and takes one message at a time; everything else either brings it messages
//! ([`link`], [`enrol`], [`api`]), keeps what it decides ([`records`] over [`store`]), or keeps and sends bundles
//! ([`artifacts`], [`fetch`]).

pub mod api;
pub mod artifacts;
pub mod clock;
pub mod config;
pub mod enrol;
pub mod fetch;
mod gate_test;
pub mod init;
pub mod link;
pub mod mind;
pub mod random;
pub mod records;
pub mod serve;
mod service_manager;
pub mod store;
