//! Measurements of this system against its peers, in the same run on the same machine, printed as ratios.
//!
//! `b1` holds the measurement against a peer: from a command to every node proven. `engine` measures a law of growth
//! instead: what an event costs the pure deployment, whatever the size of the fleet. `inventory` reads one of 5,500 hosts. `ours` and `peer` are b1's two sides; `ansible` and `sshd` write the peer's files; `process`, `procfs` and `interrupt` run programs, count their CPU
//! time and leave nothing behind; `machine` says how quiet it was; `phases` splits our time; `statistics` and `report`
//! turn figures into ratios and text. What is measured, and what cannot be compared, is explained in `README.md`.

pub mod ansible;
pub mod arguments;
pub mod b1;
pub mod b9;
pub mod engine;
pub mod interrupt;
pub mod inventory;
pub mod machine;
pub mod node;
pub mod ours;
pub mod peer;
pub mod phases;
pub mod ports;
pub mod process;
pub mod procfs;
pub mod report;
pub mod sshd;
pub mod statistics;
pub mod workplace;
