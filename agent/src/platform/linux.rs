//! Linux: processes found and judged through /proc, signalled through pidfds, files walked without following links.
//! Works as an ordinary user, who sees less: other users' processes show neither executable nor environment.
//! When to start, stop or look is decided elsewhere.

mod descriptors;
mod digests;
mod errand;
mod files;
mod identity;
mod interpreter;
mod lineage;
mod listeners;
pub mod machine;
mod maps;
mod observer;
mod proc;
mod processes;
mod start;
mod stop;
mod supervisor;
mod view;

pub use observer::LinuxObserver;
pub use supervisor::LinuxSupervisor;
