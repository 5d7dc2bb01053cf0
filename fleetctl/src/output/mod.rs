//! What people and programs see. Rendering is pure: messages in, text out; only [`screen`] touches a terminal.

pub mod csv;
pub mod documents;
pub mod drift;
pub mod drift_lines;
pub mod format;
pub mod frame;
pub mod history;
pub mod holds;
pub mod junit;
pub mod lines;
pub mod locks;
pub mod markdown;
pub mod nagios;
pub mod nodes;
pub mod plan;
pub mod prometheus;
pub mod screen;
pub mod seen;
pub mod statement;
pub mod status;
pub mod table;
pub mod tally;
pub mod text;
pub mod verify;

#[cfg(test)]
pub(crate) mod samples;
