//! What a store means, and what must survive: one conformance suite for all backends, random histories against the
//! reference, damaged files, `kill -9`, simulated power loss, a full disk. Knows the store only by its trait and its
//! directory.

#![allow(clippy::unwrap_used)]

mod conformance;
mod crash;
mod damage;
mod differential;
mod disks;
mod kit;
