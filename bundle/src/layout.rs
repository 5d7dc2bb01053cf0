//! The one tar stream a descriptor calls for: header bytes per entry, and the rules beyond the manifest's own.
//! Reading and writing these bytes is left to `read` and `pack`.

use fleet::manifest::{Entry, EntryKind, RelativePath};
use fleet::release::{DESCRIPTOR_PATH, Descriptor};
use tar::{EntryType, Header};

use crate::BundleError;

/// The size of a tar block, in bytes; headers and contents are padded to it.
pub(crate) const BLOCK: usize = 512;
/// A tar archive ends with two blocks of zeros.
pub(crate) const END: [u8; 2 * BLOCK] = [0; 2 * BLOCK];
/// The directory of a bundle that is ours; a release cannot have entries there.
const RESERVED: &str = ".fleet";
/// The name and link fields of a tar header hold this much; longer ones go before it, as GNU tar does it.
const FIELD: usize = 100;

/// Checks what the manifest alone does not: the reserved directory, and modes that can be verified and undone.
///
/// # Errors
/// The entry and the rule it breaks.
pub fn check(descriptor: &Descriptor) -> Result<(), BundleError> {
    for entry in descriptor.manifest.entries() {
        let path = entry.path.as_str();
        if path == RESERVED || path.starts_with(".fleet/") {
            return Err(BundleError::refused(path, "the name '.fleet' is reserved for the bundle's own entries"));
        }
        // An agent that is not root must be able to read what it proves, and to enter directories.
        let needed = match &entry.kind {
            EntryKind::File { .. } => 0o400,
            EntryKind::Directory => 0o500,
            EntryKind::Symlink { .. } => continue,
        };
        if entry.mode & needed != needed {
            let reason = format!(
                "mode {:04o} keeps its owner out, so the agent could not verify it; it needs at least {needed:04o}",
                entry.mode
            );
            return Err(BundleError::refused(path, reason));
        }
    }
    Ok(())
}

/// The header of the descriptor, which is `size` bytes long.
pub(crate) fn descriptor_header(size: u64) -> [u8; BLOCK] {
    block(DESCRIPTOR_PATH.as_bytes(), b"", 0o644, size, EntryType::Regular)
}

/// Every block that comes before the content of `entry`: the long name, the long link, the header.
pub(crate) fn headers(entry: &Entry) -> Vec<u8> {
    let path: &RelativePath = &entry.path;
    let (mode, size, kind, link) = match &entry.kind {
        EntryKind::File { size, .. } => (entry.mode, *size, EntryType::Regular, ""),
        EntryKind::Directory => (entry.mode, 0, EntryType::Directory, ""),
        // A link has no mode of its own on Linux.
        EntryKind::Symlink { target } => (0o777, 0, EntryType::Symlink, target.as_str()),
    };
    let mut blocks = Vec::with_capacity(BLOCK);
    for (text, long) in [(link, EntryType::GNULongLink), (path.as_str(), EntryType::GNULongName)] {
        if text.len() > FIELD {
            blocks.extend(block(b"././@LongLink", b"", 0o644, text.len() as u64 + 1, long));
            blocks.extend(text.as_bytes());
            blocks.push(0);
            blocks.resize(blocks.len().next_multiple_of(BLOCK), 0);
        }
    }
    blocks.extend(block(path.as_str().as_bytes(), link.as_bytes(), mode, size, kind));
    blocks
}

/// How many zeros follow a content of `size` bytes.
pub(crate) fn padding(size: u64) -> usize {
    let rest = (size % BLOCK as u64) as usize;
    if rest == 0 { 0 } else { BLOCK - rest }
}

fn block(name: &[u8], link: &[u8], mode: u32, size: u64, kind: EntryType) -> [u8; BLOCK] {
    let mut header = Header::new_gnu();
    let old = header.as_old_mut();
    let (name, link) = (&name[..name.len().min(FIELD)], &link[..link.len().min(FIELD)]);
    old.name[..name.len()].copy_from_slice(name);
    old.linkname[..link.len()].copy_from_slice(link);
    header.set_mode(mode);
    header.set_uid(0);
    header.set_gid(0);
    header.set_mtime(0);
    header.set_size(size);
    header.set_entry_type(kind);
    header.set_cksum();
    *header.as_bytes()
}
