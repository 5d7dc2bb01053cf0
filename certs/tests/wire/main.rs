//! The seals over real sockets: who gets in, who is kept out and in which words, what ends an open connection.
//!
//! Everything awaits events; the time limits in here only keep a broken build from hanging.

#![allow(clippy::unwrap_used)]

mod first_contact;
mod fixture;
mod limits;
mod mutual;
mod revocation;
