//! The balancer over real sockets: what it promises about draining, what it answers when servers fail, what it keeps.

#![allow(clippy::unwrap_used)]

mod api;
mod draining;
mod failures;
mod haproxy;
mod kept;
mod world;
