//! Reads the Ansible inventories people already have and answers as Ansible itself would.
//!
//! ```
//! # fn main() -> Result<(), Box<dyn std::error::Error>> {
//! use ansible_compat::{Inventory, Source};
//!
//! let inventory = Inventory::load(&[Source::from_argument("web01,web02,db01")])?;
//! assert_eq!(inventory.select("web*:!web02")?, ["web01"]);
//! # Ok(())
//! # }
//! ```
//!
//! Read: INI files (a plain list of names is one), YAML and JSON files, directories of them, `host1,host2,` lists,
//! `group_vars/` and `host_vars/` beside them. Everything else that Ansible would accept (scripts, plugin
//! configurations, vault) is refused by name with the way out, never half read.
//!
//! The reference is ansible-core 2.17 with its default configuration; `ansible.cfg` and `ANSIBLE_*` are not consulted.
//! Templates (`{{ … }}`) stay text. Running Ansible, and turning hosts into fleet nodes, is for others.

mod error;
mod export;
mod inventory;
mod model;
mod pattern;
mod source;
mod text;
mod vars_files;

pub use error::{Error, PatternError, Place};
pub use export::Export;
pub use inventory::Inventory;
pub use pattern::Selection;
pub use source::Source;
