//! Linux: processes found and judged through /proc, signalled through pidfds, files walked without following links.
//! Works as an ordinary user, who sees less: other users' processes show neither executable nor environment.
//! When to start, stop or look is decided elsewhere.

mod digests;
mod errand;
mod files;
mod identity;
mod lineage;
mod listeners;
pub mod machine;
mod maps;
mod observer;
mod proc;
mod processes;
pub mod restore;
mod start;
mod stop;
mod supervisor;

pub use observer::LinuxObserver;
pub use supervisor::LinuxSupervisor;
