//! A whole fleet on one machine: the same programs as in production, over real mutual TLS on loopback, without root.
//!
//! `layout` says where everything lies, `process` starts and stops programs by records that cannot name somebody else's
//! process, `ports` finds who holds a port, `agents` makes nodes, `up` and `down` do what they say, `breakage` breaks things on purpose.

pub mod agents;
pub mod breakage;
pub mod down;
pub mod layout;
pub mod ports;
pub mod process;
pub mod programs;
pub mod up;

pub use layout::{Layout, Shape};
