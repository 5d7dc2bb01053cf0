//! Measurements of this system against its peers, in the same run on the same machine, printed as ratios.
//!
//! `b1` is the measurement from a command to every node proven; `ours` and `peer` are its two sides, `ansible` and
//! `sshd` write the peer's files, `phases` splits our time, `report` prints it. `engine` measures a law of growth
//! instead: what an event costs the pure deployment; `inventory` reads 5,500 hosts beside the real `ansible-inventory`.
//! `b7` and `b8` look at the `gibibyte` of a `tree`, by the agent's own code (`looking`), beside `aide` and others
//! (`sides`) and what cannot be beaten (`floor`). `b9` tampers with one `node` and waits for the ledger; `b10` leaves
//! it alone, its line through a `meter`.
//!
//! `workplace`, `process`, `procfs`, `ports` and `interrupt` run programs and leave nothing behind; `cost` and `process_cost`
//! count what they use; `machine` says how quiet it was; `statistics` turns figures into ratios. What is measured, and what
//! cannot be compared, is explained in `README.md`.

pub mod aide;
pub mod ansible;
pub mod arguments;
pub mod b1;
pub mod b10;
pub mod b7;
pub mod b8;
pub mod b9;
pub mod cost;
pub mod engine;
pub mod floor;
pub mod gibibyte;
pub mod interrupt;
pub mod inventory;
pub mod looking;
pub mod machine;
pub mod meter;
pub mod node;
pub mod ours;
pub mod peer;
pub mod phases;
pub mod ports;
pub mod process;
pub mod process_cost;
pub mod procfs;
pub mod report;
pub mod sides;
pub mod sshd;
pub mod statistics;
pub mod tree;
pub mod workplace;
