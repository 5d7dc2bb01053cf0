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
//! `group_vars/` and `host_vars/` beside them and beside a playbook. A [`Reading`] that permits it also runs inventory
//! scripts, opens vault files, and has an installed `ansible-inventory` read what only Python code can (plugin
//! configurations, TOML). What is not permitted is refused by name with the way out, never half read.
//!
//! The reference is ansible-core 2.16 to 2.19 with its default configuration ([`Edition`]); `ansible.cfg` and
//! `ANSIBLE_*` are not consulted. Templates (`{{ … }}`) stay text, and single vault values stay encrypted. Turning hosts
//! into fleet nodes is for others.

mod edition;
mod error;
mod export;
mod graph;
mod inventory;
mod model;
mod pattern;
mod program;
mod reading;
mod source;
mod text;
mod vars_files;
mod vault;

pub use edition::{Edition, UnknownEdition};
pub use error::{Error, PatternError, PatternReason, Place, TermPlace};
pub use export::Export;
pub use graph::GraphVars;
pub use inventory::Inventory;
pub use pattern::HostPattern;
pub use pattern::members::{Groups, GroupsError, Members};
pub use pattern::selection::{Notice, Selection};
pub use reading::{Playbook, Plugins, Reading, Scripts};
pub use source::Source;
pub use vault::passwords::Passwords;
