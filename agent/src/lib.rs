//! The hand: the agent of one node. It holds what it is told and proves what it holds.
//!
//! From the outside in: `cli` and `agent` put it together; `link` speaks with the controller; `node` has a `keeper`
//! for each service; a keeper takes up what was left (`waking`), carries an order out (`attempt`: `plan` is pure,
//! `execute` performs, `answer` waits), watches (`supervise`) and says how it is (`telling`), and forgets nothing
//! (`orders`, `record`, `journal`). `platform` is the machine.

pub mod agent;
mod answer;
mod attempt;
pub mod backoff;
pub mod balancer;
pub mod cli;
pub mod clock;
pub mod config;
pub mod confirm;
pub mod decoy;
pub mod durable;
pub mod environment;
pub mod execute;
pub mod failpoint;
pub mod fetch;
pub mod join;
pub mod journal;
pub mod keeper;
pub mod known;
pub mod layout;
pub mod link;
pub mod mend;
pub mod migration;
pub mod node;
pub mod observe;
pub mod orders;
pub mod permit;
pub mod plan;
pub mod platform;
pub mod probe;
pub mod record;
pub mod releases;
pub mod reveal;
pub mod selftest;
pub mod service_log;
mod service_manager;
pub mod session;
pub mod status;
pub mod supervise;
pub mod switch;
mod telling;
mod waking;
pub mod yard;
