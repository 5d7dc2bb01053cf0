//! The voice: the operator's command line. It turns words into calls to the controller, shows what comes back, and ends
//! with the exit code that the outcome has. It decides nothing about a fleet.
//!
//! `commands` are the verbs, `output` what they show, `client` and `config` the way to a controller, `dev` the fleet on
//! one machine, `service_file` the reading of `fleet.yaml`, `wishes` what flags and that file both say, `simulate` stories
//! of deployments without a fleet, `balancer` and `load` what a development fleet needs beside, `test_run` the tests of
//! gates, `ping` the dead man's switch of cron, `statement` the check of
//! signed statements, offline.

pub mod balancer;
pub mod client;
pub mod commands;
pub mod config;
pub mod dev;
pub mod failure;
pub mod load;
pub mod output;
pub mod ping;
pub mod service_file;
pub mod simulate;
pub mod statement;
pub mod test_run;
pub mod wishes;
