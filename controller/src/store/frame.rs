//! The bytes of the commit log: how frames are written and recognised. Pure; which file they go to is `log.rs`, what a
//! broken one means is `replay.rs`. All numbers are little endian. Pinned by `golden/log-v1.hex`.
//!
//! ```text
//! segment   preamble frame frame ...
//! preamble  "fleetlog" format:1 zero:3 check:4       the first 4 bytes of the SHA-256 of the 12 before; never changes
//! frame     header payload seal:32                   seal = SHA-256(seal before, header, payload): a chain
//! header    "FLF1" kind:1 zero:3 payload length:4 batches:4 revision:8 check:8
//!                                                    the first 8 bytes of the SHA-256 of the 24 before
//! opening   store id:16 created:8 segment:8 last seal of the segment before:32
//! snapshot  change*                                  the state at the start of the segment
//! ready     number of entries in the snapshot:8
//! commits   (number of changes:4 change*) for each batch, the last of which has the header's revision
//! change    0 key length:2 key | 1 key length:2 key version:8 value length:4 value
//! ```
//!
//! One frame is one write and one fdatasync. So at most one frame, the last, can be torn by a crash, and a header with
//! its own check makes it possible to trust its length when the rest is broken.

use sha2::{Digest, Sha256};

use super::{Change, Entry, Version};

/// The format this program writes and the newest it reads.
pub(super) const FORMAT: u8 = 1;
pub(super) const PREAMBLE_BYTES: usize = 16;
pub(super) const HEADER_BYTES: usize = 32;
pub(super) const SEAL_BYTES: usize = 32;
/// The longest payload that is believed. A group of commits ends at 4 MiB plus one batch of at most 4 MiB, to which
/// lengths and versions add less than as much again.
pub(super) const MAX_PAYLOAD_BYTES: usize = 16 * 1024 * 1024;

const PREAMBLE_MAGIC: &[u8; 8] = b"fleetlog";
const HEADER_MAGIC: &[u8; 4] = b"FLF1";

/// The end of the chain so far.
pub(super) type Seal = [u8; SEAL_BYTES];

/// What a frame holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    Opening,
    Snapshot,
    Ready,
    Commits,
}

/// What stands before a payload.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Header {
    pub(super) kind: Kind,
    pub(super) payload_bytes: usize,
    /// How many batches a frame of commits holds, otherwise 0.
    pub(super) batches: u32,
    /// The revision of the store after this frame.
    pub(super) revision: u64,
}

/// Which store a segment belongs to, and where it stands in it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Opening {
    /// Drawn when the store is made; a database with another one belongs to another store.
    pub(super) id: [u8; 16],
    /// When the store was made, in milliseconds since 1970, by the file system's clock. For people, not for decisions.
    pub(super) created_ms: u64,
    /// The number of this segment, from 1.
    pub(super) segment: u64,
    /// Where the chain of the segment before ended, zeros in the first.
    pub(super) before: Seal,
}

/// What a preamble says.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Preamble {
    Known,
    Newer(u8),
    Broken,
}

pub(super) fn preamble(format: u8) -> [u8; PREAMBLE_BYTES] {
    let mut bytes = [0; PREAMBLE_BYTES];
    bytes[..8].copy_from_slice(PREAMBLE_MAGIC);
    bytes[8] = format;
    let check = Sha256::digest(&bytes[..12]);
    bytes[12..].copy_from_slice(&check[..4]);
    bytes
}

pub(super) fn read_preamble(bytes: &[u8]) -> Preamble {
    let Some(&format) = bytes.get(8) else { return Preamble::Broken };
    if bytes != preamble(format) {
        Preamble::Broken
    } else if format > FORMAT {
        Preamble::Newer(format)
    } else if format == FORMAT {
        Preamble::Known
    } else {
        Preamble::Broken
    }
}

/// The chain of a segment begins with its preamble.
pub(super) fn first_seal() -> Seal {
    Sha256::digest(preamble(FORMAT)).into()
}

/// One frame, ready to be written; its seal is its last [`SEAL_BYTES`].
pub(super) fn frame(before: &Seal, kind: Kind, batches: u32, revision: u64, payload: &[u8]) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(HEADER_BYTES + payload.len() + SEAL_BYTES);
    bytes.extend_from_slice(HEADER_MAGIC);
    bytes.extend_from_slice(&[kind as u8 + 1, 0, 0, 0]);
    bytes.extend_from_slice(&(payload.len() as u32).to_le_bytes());
    bytes.extend_from_slice(&batches.to_le_bytes());
    bytes.extend_from_slice(&revision.to_le_bytes());
    let check = Sha256::digest(&bytes);
    bytes.extend_from_slice(&check[..8]);
    bytes.extend_from_slice(payload);
    let seal = seal(before, &bytes);
    bytes.extend_from_slice(&seal);
    bytes
}

/// The seal of a frame whose header and payload are `bytes`.
pub(super) fn seal(before: &Seal, bytes: &[u8]) -> Seal {
    Sha256::new().chain_update(before).chain_update(bytes).finalize().into()
}

/// Reads a header, or nothing if these bytes are not one that was written whole.
pub(super) fn read_header(bytes: &[u8]) -> Option<Header> {
    let bytes = bytes.get(..HEADER_BYTES)?;
    // The cheap question first: this is also asked of every offset of a broken tail.
    if !bytes.starts_with(HEADER_MAGIC) || Sha256::digest(&bytes[..24])[..8] != bytes[24..] {
        return None;
    }
    let mut fields = Reader(&bytes[4..24]);
    let kind = match fields.u32()? {
        1 => Kind::Opening,
        2 => Kind::Snapshot,
        3 => Kind::Ready,
        4 => Kind::Commits,
        _ => return None,
    };
    let payload_bytes = fields.u32()? as usize;
    Some(Header { kind, payload_bytes, batches: fields.u32()?, revision: fields.u64()? })
}

pub(super) fn opening(opening: &Opening) -> Vec<u8> {
    let mut bytes = opening.id.to_vec();
    bytes.extend_from_slice(&opening.created_ms.to_le_bytes());
    bytes.extend_from_slice(&opening.segment.to_le_bytes());
    bytes.extend_from_slice(&opening.before);
    bytes
}

pub(super) fn read_opening(payload: &[u8]) -> Option<Opening> {
    let mut fields = Reader(payload);
    let opening = Opening {
        id: fields.take(16)?.try_into().ok()?,
        created_ms: fields.u64()?,
        segment: fields.u64()?,
        before: fields.take(SEAL_BYTES)?.try_into().ok()?,
    };
    fields.0.is_empty().then_some(opening)
}

pub(super) fn put_batch(payload: &mut Vec<u8>, changes: &[Change]) {
    payload.extend_from_slice(&(changes.len() as u32).to_le_bytes());
    for change in changes {
        put_change(payload, change);
    }
}

pub(super) fn put_change(payload: &mut Vec<u8>, change: &Change) {
    payload.push(u8::from(change.entry.is_some()));
    payload.extend_from_slice(&(change.key.len() as u16).to_le_bytes());
    payload.extend_from_slice(change.key.as_bytes());
    if let Some(entry) = &change.entry {
        payload.extend_from_slice(&entry.version.0.to_le_bytes());
        payload.extend_from_slice(&(entry.value.len() as u32).to_le_bytes());
        payload.extend_from_slice(&entry.value);
    }
}

/// All changes of a frame of commits, in order; `None` if the payload is not `batches` batches and nothing more.
pub(super) fn read_commits(payload: &[u8], batches: u32) -> Option<Vec<Change>> {
    let mut fields = Reader(payload);
    let mut changes = Vec::new();
    for _ in 0..batches {
        for _ in 0..fields.u32()? {
            changes.push(fields.change()?);
        }
    }
    fields.0.is_empty().then_some(changes)
}

pub(super) fn read_snapshot(payload: &[u8]) -> Option<Vec<Change>> {
    let mut fields = Reader(payload);
    let mut changes = Vec::new();
    while !fields.0.is_empty() {
        changes.push(fields.change()?);
    }
    Some(changes)
}

pub(super) fn read_ready(payload: &[u8]) -> Option<u64> {
    let mut fields = Reader(payload);
    let entries = fields.u64()?;
    fields.0.is_empty().then_some(entries)
}

struct Reader<'a>(&'a [u8]);

impl<'a> Reader<'a> {
    fn take(&mut self, count: usize) -> Option<&'a [u8]> {
        let (taken, rest) = self.0.split_at_checked(count)?;
        self.0 = rest;
        Some(taken)
    }

    fn u16(&mut self) -> Option<u16> {
        Some(u16::from_le_bytes(self.take(2)?.try_into().ok()?))
    }

    fn u32(&mut self) -> Option<u32> {
        Some(u32::from_le_bytes(self.take(4)?.try_into().ok()?))
    }

    fn u64(&mut self) -> Option<u64> {
        Some(u64::from_le_bytes(self.take(8)?.try_into().ok()?))
    }

    fn change(&mut self) -> Option<Change> {
        let tag = self.take(1)?[0];
        let length = self.u16()? as usize;
        let key = String::from_utf8(self.take(length)?.to_vec()).ok()?;
        let entry = match tag {
            0 => None,
            1 => {
                let version = Version(self.u64()?);
                let length = self.u32()? as usize;
                Some(Entry { value: self.take(length)?.to_vec(), version })
            }
            _ => return None,
        };
        Some(Change { key, entry })
    }
}
