//! Measurements of this system against its peers, in the same run on the same machine, printed as ratios.
//!
//! `b1` holds the one measurement there is so far: from a command to every node proven. `ours` and `peer` are its two
//! sides; `ansible` and `sshd` write the peer's files; `process`, `procfs` and `interrupt` run programs, count their CPU
//! time and leave nothing behind; `machine` says how quiet it was; `phases` splits our time; `statistics` and `report`
//! turn figures into ratios and text. What is measured, and what cannot be compared, is explained in `README.md`.

pub mod ansible;
pub mod arguments;
pub mod b1;
pub mod interrupt;
pub mod machine;
pub mod ours;
pub mod peer;
pub mod phases;
pub mod ports;
pub mod process;
pub mod procfs;
pub mod report;
pub mod sshd;
pub mod statistics;
