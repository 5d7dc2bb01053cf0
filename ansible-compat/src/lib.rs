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
//! A [`HostPattern`] also selects from [`Groups`], hosts and groups that came from elsewhere:
//!
//! ```
//! # fn main() -> Result<(), Box<dyn std::error::Error>> {
//! use ansible_compat::{Groups, HostPattern};
//!
//! let mut groups = Groups::new(["web01", "web02", "db01"])?;
//! groups.add("az_a", ["web02", "db01"])?;
//! let pattern: HostPattern = "web*:&az_a".parse()?;
//! assert_eq!(pattern.select(&groups)?.hosts, ["web02"]);
//! assert!("~web(?=01)".parse::<HostPattern>().is_err());
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

pub use error::{Error, PatternError, PatternReason, Place, TermPlace};
pub use export::Export;
pub use inventory::Inventory;
pub use pattern::HostPattern;
pub use pattern::members::{Groups, GroupsError, Members};
pub use pattern::selection::{Notice, Selection};
pub use source::Source;
