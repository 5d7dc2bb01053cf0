//! The wire: generated code of the `.proto` files, and the conversions between wire messages and the values of
//! `fleet`. Messages are parsed once, here; whoever receives them works with values that are already valid.

pub mod convert;
pub mod looked;
pub mod rollout;

/// Generated from `fleet/v1/*.proto`.
#[allow(missing_docs, clippy::all, clippy::unwrap_used)]
pub mod v1 {
    tonic::include_proto!("fleet.v1");
}

/// The version of the agents' protocol; both sides refuse another one by name.
pub const PROTOCOL: u32 = 1;

/// The largest chunk of a bundle in one message, in bytes: far below gRPC's 4 MiB message limit, so that
/// heartbeats are never stuck behind an artifact.
pub const LARGEST_CHUNK: usize = 256 << 10;
