//! Writes a bundle. Same descriptor and contents, same bytes: entries sorted, no owner, no time, one thread, one
//! compression level.

use std::io::{self, Read, Write};

use fleet::Digest;
use fleet::manifest::{Entry, EntryKind, RelativePath};
use fleet::release::{Descriptor, LARGEST_DESCRIPTOR};

use crate::hash::{CHUNK, HashingWriter, Sum};
use crate::layout::{self, END};
use crate::{BundleError, error};

/// zstd's own default: a 2 MiB window, within what a reader accepts, and fast enough to be free beside the network.
const LEVEL: i32 = 3;

/// A bundle that was written.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Packed {
    /// SHA-256 of its bytes: the identity of the release.
    pub digest: Digest,
    /// Its size in bytes.
    pub size: u64,
    /// What is in it.
    pub descriptor: Descriptor,
}

/// Writes the bundle of `descriptor` to `out`: the same input gives the same bytes.
///
/// `open` gives the content of a file of the manifest. Flushing and syncing `out` is left to the caller.
///
/// # Errors
/// A descriptor that no reader would accept, a source that cannot be read or does not match its digest and size,
/// and whatever writing reports. After an error, what was written to `out` is no bundle.
pub fn pack(
    descriptor: &Descriptor,
    mut open: impl FnMut(&RelativePath) -> io::Result<Box<dyn Read>>,
    out: &mut dyn Write,
) -> Result<Packed, BundleError> {
    layout::check(descriptor)?;
    let json = descriptor.to_json();
    if json.len() as u64 > LARGEST_DESCRIPTOR {
        return Err(BundleError::refused(
            ".fleet/release.json",
            format!("{} bytes are more than the {LARGEST_DESCRIPTOR} accepted: ship fewer files", json.len()),
        ));
    }
    // A value assembled by hand may break what reading it checks.
    Descriptor::from_json(&json)?;

    let mut encoder = zstd::Encoder::new(HashingWriter::new(out), LEVEL).map_err(BundleError::Output)?;
    encoder.include_checksum(true).map_err(BundleError::Output)?;
    let mut write = |bytes: &[u8]| encoder.write_all(bytes).map_err(BundleError::Output);
    write(&layout::descriptor_header(json.len() as u64))?;
    write(&json)?;
    write(&END[..layout::padding(json.len() as u64)])?;
    for entry in descriptor.manifest.entries() {
        write(&layout::headers(entry))?;
        if let EntryKind::File { sha256, size } = &entry.kind {
            let mut content = open(&entry.path).map_err(|source| unreadable(entry, source))?;
            copy(entry, &mut *content, sha256, *size, &mut write)?;
            write(&END[..layout::padding(*size)])?;
        }
    }
    write(&END)?;
    let mut hashing = encoder.finish().map_err(BundleError::Output)?;
    hashing.flush().map_err(BundleError::Output)?;
    let (digest, size) = hashing.finish();
    Ok(Packed { digest, size, descriptor: descriptor.clone() })
}

/// Copies exactly `size` bytes that add up to `sha256`; a source that grew or changed is an error.
fn copy(
    entry: &Entry,
    content: &mut dyn Read,
    sha256: &Digest,
    size: u64,
    write: &mut impl FnMut(&[u8]) -> Result<(), BundleError>,
) -> Result<(), BundleError> {
    let changed =
        |reason: String| BundleError::Changed { entry: error::printable(entry.path.as_str().as_bytes()), reason };
    let mut content = content.take(size.saturating_add(1));
    let mut buffer = vec![0; CHUNK];
    let mut sum = Sum::default();
    let mut left = size;
    loop {
        let n = match content.read(&mut buffer) {
            Ok(0) => break,
            Ok(n) => n,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
            Err(error) => return Err(unreadable(entry, error)),
        };
        left = left
            .checked_sub(n as u64)
            .ok_or_else(|| changed(format!("it has more than the {size} bytes of the manifest")))?;
        sum.add(&buffer[..n]);
        write(&buffer[..n])?;
    }
    let (found, length) = sum.finish();
    if length != size {
        return Err(changed(format!("it has {length} bytes, the manifest says {size}")));
    }
    if found != *sha256 {
        return Err(changed(format!("its digest is {found}, the manifest says {sha256}")));
    }
    Ok(())
}

fn unreadable(entry: &Entry, source: io::Error) -> BundleError {
    BundleError::Source { entry: error::printable(entry.path.as_str().as_bytes()), source }
}
