//! `fleetctl ansible`: what is read of Ansible, shown as Ansible shows it.

use super::ansible_inventory;
use super::session::Session;
use crate::failure::Failure;

/// What can be asked of Ansible's files.
#[derive(Debug, clap::Subcommand)]
pub enum Verb {
    /// Show an inventory as ansible-inventory does, without Python
    Inventory(ansible_inventory::Args),
}

pub(super) fn run(session: &Session, verb: Verb) -> Result<u8, Failure> {
    match verb {
        Verb::Inventory(args) => ansible_inventory::run(session, args),
    }
}
