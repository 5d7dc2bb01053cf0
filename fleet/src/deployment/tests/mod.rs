//! The deployment engine's tests. What must never happen is named in `invariants.rs` and `verdicts.rs`, and checked after
//! every event of every test that uses a [`witness::Witness`]: generated histories (`properties.rs`), stories an operator
//! would tell (`stories.rs`), every command in every phase (`commands.rs`), silence in every phase (`silence.rs`), and
//! the vectors of CodeDeploy and Ansible (`peers.rs`). Numbers of the invariants: `docs/invariants.md`.
#![allow(clippy::unwrap_used)]

mod budgets;
mod commands;
mod generated;
mod history;
mod invariants;
mod peers;
mod persons;
mod properties;
mod record;
mod recount;
mod roster;
mod silence;
mod situations;
mod stories;
mod turns;
mod verdicts;
mod witness;
mod world;
