//! The bundle: one file that holds a release, `<service>-<version>.fleet.tar.zst`.
//!
//! It is a tar archive in one zstd frame: first `.fleet/release.json` (the descriptor with the manifest), then
//! every entry of the manifest, sorted by path, owned by 0:0, dated 1970. There is exactly one tar stream for a
//! descriptor and its files, so a reader compares each header with the only one it can be: whatever a hostile
//! archive invents differs from it, and is refused by name before anything is written.
//!
//! Reading `fleet.yaml` and walking a source tree is left to `fleetctl`; fetching a bundle, switching to an
//! unpacked release and removing old ones is left to the agent.

mod error;
mod extract;
mod hash;
mod layout;
mod pack;
mod read;
mod tree;
mod unpack;

pub use error::BundleError;
pub use extract::extract;
pub use hash::{HashingReader, HashingWriter, digest};
pub use layout::check;
pub use pack::{Packed, pack};
pub use read::inspect;
pub use tree::remove_tree;
pub use unpack::{unpack, unpack_exactly};

/// How the file name of a bundle ends.
pub const FILE_SUFFIX: &str = ".fleet.tar.zst";
