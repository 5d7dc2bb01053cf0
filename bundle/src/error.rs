//! What can go wrong with a bundle, each with the entry, the reason and the way out.

use std::io;
use std::path::PathBuf;

use fleet::Digest;
use fleet::release::DescriptorError;

/// Why a bundle could not be packed, read or unpacked.
#[derive(Debug, thiserror::Error)]
pub enum BundleError {
    /// The archive is not the one its descriptor calls for. Nothing was written.
    #[error(
        "bundle refused at '{entry}': {reason}; build the release again with fleetctl, and ask where this bundle came from"
    )]
    Refused {
        /// The entry, escaped and shortened.
        entry: String,
        /// The rule it breaks.
        reason: String,
    },
    /// The descriptor cannot be read.
    #[error("bundle refused at '.fleet/release.json': {0}")]
    Descriptor(#[from] DescriptorError),
    /// The compressed stream is broken, ends early, or could not be read.
    #[error("bundle is damaged or unreadable near '{entry}': {source}; fetch it again")]
    Damaged {
        /// The entry that was being read.
        entry: String,
        /// The cause.
        source: io::Error,
    },
    /// The bundle is whole, but it is not the one that was asked for.
    #[error("bundle has digest {found} but {expected} was asked for; fetch it again")]
    OtherDigest {
        /// What was asked for.
        expected: Digest,
        /// What the bytes add up to.
        found: Digest,
    },
    /// A source file could not be read while packing.
    #[error("cannot read '{entry}' to pack it: {source}")]
    Source {
        /// The entry.
        entry: String,
        /// The cause.
        source: io::Error,
    },
    /// A source file is no longer what the manifest says.
    #[error("'{entry}' changed while it was packed: {reason}; run the command again when nothing else writes there")]
    Changed {
        /// The entry.
        entry: String,
        /// What differs.
        reason: String,
    },
    /// The finished bundle could not be written.
    #[error("cannot write the bundle: {0}")]
    Output(#[source] io::Error),
    /// The directory to unpack into is already there.
    #[error("'{}' already exists; unpack into a directory that does not", path.display())]
    Exists {
        /// The directory.
        path: PathBuf,
    },
    /// The disk is full, or would be. Nothing was left behind.
    #[error("no space at '{}': the release needs {needed} bytes; free some (old releases, logs) and try again", path.display())]
    NoSpace {
        /// What the release takes on disk, in bytes.
        needed: u64,
        /// Where.
        path: PathBuf,
    },
    /// Unpacking failed for another reason. Nothing was left behind.
    #[error("cannot unpack to '{}': {source}", path.display())]
    Write {
        /// The path that could not be written.
        path: PathBuf,
        /// The cause.
        source: io::Error,
    },
    /// What the disk gives back is not what was written. Nothing was left behind.
    #[error("'{}' does not read back as it was written: {reason}; check the disk", path.display())]
    ReadBack {
        /// The path.
        path: PathBuf,
        /// What differs.
        reason: String,
    },
    /// Unpacking failed, and then what it had written could not be removed.
    #[error("{cause}; and '{}' could not be removed afterwards ({source}): remove it by hand", path.display())]
    LeftBehind {
        /// What is still there.
        path: PathBuf,
        /// Why unpacking failed.
        cause: Box<BundleError>,
        /// Why removing failed.
        source: io::Error,
    },
}

impl BundleError {
    /// A refusal of `entry`, escaped so that a hostile name can neither break a line nor flood a terminal.
    pub(crate) fn refused(entry: impl AsRef<[u8]>, reason: impl Into<String>) -> Self {
        Self::Refused { entry: printable(entry.as_ref()), reason: reason.into() }
    }
}

/// At most 200 characters of a name, control characters and invalid UTF-8 escaped.
pub(crate) fn printable(name: &[u8]) -> String {
    let text = String::from_utf8_lossy(name);
    let mut out = String::new();
    for c in text.chars().take(200) {
        if c.is_control() { out.extend(c.escape_default()) } else { out.push(c) }
    }
    if text.chars().nth(200).is_some() {
        out.push('…');
    }
    out
}
