//! The deployment engine behind its wire: what operators ask for, what agents are told, and that nothing of it is lost
//! when the controller stops and starts again in the middle. The machine itself is tested in `fleet`.
#![allow(clippy::unwrap_used, missing_docs)]

#[path = "../rig/mod.rs"]
mod rig;

mod commands;
mod confirm;
mod environments;
mod gates;
mod locks;
mod migration;
mod plans;
mod queue;
mod rolled_back;
mod roster;
mod statements;
mod supersede;
