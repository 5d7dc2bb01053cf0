//! The seals of the fleet: who somebody is, who says so, and how a connection proves it.
//!
//! This crate makes the fleet's certificate authority, turns a request made on a node into a certificate that carries
//! the node's identity, mints and redeems join tokens, and builds both ends of every connection: the accept loop of the
//! controller and the dialler of agents and operators. It signs documents that outlive a connection, and checks them. TLS 1.3 only, one provider (aws-lc-rs), mutual authentication.
//!
//! It leaves to others: what an identity may call (the controller's table), where token records and issued serials are
//! kept (the controller's store), and when to renew or to dial again (the agent).

mod accept;
mod authority;
mod certificate;
mod client;
mod csr;
mod dial_error;
mod envelope;
mod error;
pub mod files;
mod identity;
mod peer;
mod provider;
mod sealer;
mod server;
mod sessions;
mod token;
mod token_record;
mod trust;
pub mod web;

pub use accept::{Limits, accept_loop};
pub use authority::{Authority, Issued};
pub use certificate::{Certificate, public_key_hash};
pub use client::{CONNECT_TIMEOUT, Dialer};
pub use csr::{KeyAndCsr, check_key_matches};
pub use dial_error::DialError;
pub use envelope::{LARGEST_ENVELOPE, Opened, SealError, open};
pub use error::Error;
pub use identity::{Identity, Role, check_name};
pub use peer::{Peer, PeerStream};
pub use provider::install_crypto_provider;
pub use sealer::Sealer;
pub use server::ServerTls;
pub use sessions::{AllowList, Allowed, Sessions};
pub use token::{JoinToken, MalformedToken};
pub use token_record::{TokenGrant, TokenRecord, TokenRefusal};
