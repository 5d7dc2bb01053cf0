//! Linux: processes found and judged through /proc, signalled through pidfds, files walked without following links.
//! Works as an ordinary user, who sees less: other users' processes show neither executable nor environment.
//! When to start, stop or look is decided elsewhere.

mod boot_clock;
mod crowd;
mod decoy;
mod descriptors;
mod digests;
mod dpkg;
mod ears;
mod errand;
mod identity;
mod interpreter;
mod lineage;
mod listeners;
pub mod machine;
mod maps;
pub mod memory;
mod observer;
mod origin;
mod outside;
mod pace;
mod packages;
mod proc;
mod processes;
mod programs;
mod reading;
mod recall;
mod rehash;
pub mod restore;
mod sockets;
mod start;
mod stop;
mod supervisor;
mod sweep;
mod tree;
mod trees;
mod verity;
mod view;
mod watch;

pub use decoy::Decoy;
pub use observer::LinuxObserver;
pub use pace::WatchPace;
pub use supervisor::LinuxSupervisor;
pub use watch::WatchLimits;
