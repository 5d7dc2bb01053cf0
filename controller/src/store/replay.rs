//! Reading a segment of the log back, and judging what is broken in it.
//!
//! A frame is acknowledged only after it is on disk, and the next is written only after that. So what a crash can leave
//! is: whole frames, then at most one frame of commits that is not whole, then nothing. That last one is *torn*: nobody
//! was told that it is saved, and it may be cut. Everything else is damage and stops here with the place.
//!
//! A last frame that was acknowledged and damaged afterwards looks the same as a torn one. The log alone cannot tell
//! them apart; `reconcile.rs` asks the database, which never holds a revision before the log does.

use std::collections::BTreeMap;
use std::fs::File;
use std::os::unix::fs::FileExt;
use std::path::Path;

use super::frame::{
    self, FORMAT, HEADER_BYTES, Header, Kind, MAX_PAYLOAD_BYTES, Opening, PREAMBLE_BYTES, Preamble, SEAL_BYTES, Seal,
};
use super::{Entry, Error, memory};

/// What a segment says.
#[derive(Debug)]
pub(super) struct Replayed {
    pub(super) opening: Opening,
    pub(super) revision: u64,
    pub(super) entries: BTreeMap<String, Entry>,
    /// Where the snapshot ends and commits begin.
    pub(super) snapshot_end: u64,
    /// Where the chain stands after the last whole frame.
    pub(super) seal: Seal,
    /// Where the last whole frame ends.
    pub(super) end: u64,
    /// Bytes of a torn frame after that.
    pub(super) torn: u64,
}

/// Reads and verifies all of a segment. Changes nothing.
pub(super) fn replay(path: &Path, file: &File) -> Result<Replayed, Error> {
    let length = file.metadata().map_err(|e| Error::io("cannot read", path, e))?.len();
    let mut segment = Segment { path, file, length, at: 0, seal: frame::first_seal() };
    segment.preamble()?;

    let Found::Whole(header, payload) = segment.next()? else {
        return Err(segment.damage("the first record is not whole"));
    };
    let opening = match header.kind {
        Kind::Opening => frame::read_opening(&payload),
        Kind::Snapshot | Kind::Ready | Kind::Commits => None,
    };
    let opening = opening.ok_or_else(|| segment.damage("the first record does not name the store"))?;

    let mut read = Replayed {
        opening,
        revision: header.revision,
        entries: BTreeMap::new(),
        snapshot_end: 0,
        seal: segment.seal,
        end: segment.at,
        torn: 0,
    };
    let mut ready = false;
    loop {
        read.end = segment.at;
        read.seal = segment.seal;
        if !ready {
            read.snapshot_end = segment.at;
        }
        if segment.at == length && ready {
            return Ok(read);
        }
        match segment.next()? {
            Found::Whole(header, payload) => {
                fold(&mut read, &mut ready, header, &payload).map_err(|what| segment.damage_at(read.end, what))?;
            }
            // What comes before the commits was on disk as a whole before the segment got its name.
            Found::Torn(_) if !ready => return Err(segment.damage("the snapshot is not whole")),
            Found::Torn(Some(header)) if !follows(&read, header) => {
                return Err(segment.damage("the chain is broken: a record is missing before this one"));
            }
            Found::Torn(_) => {
                read.torn = length - segment.at;
                return Ok(read);
            }
        }
    }
}

fn fold(read: &mut Replayed, ready: &mut bool, header: Header, payload: &[u8]) -> Result<(), &'static str> {
    const MALFORMED: &str = "a record with a valid seal has no valid content";
    match (header.kind, *ready) {
        (Kind::Snapshot, false) if header.revision == read.revision => {
            memory::apply(&mut read.entries, &frame::read_snapshot(payload).ok_or(MALFORMED)?);
        }
        (Kind::Ready, false) if header.revision == read.revision => {
            if frame::read_ready(payload) != Some(read.entries.len() as u64) {
                return Err("the snapshot has not the number of entries it should have");
            }
            *ready = true;
        }
        (Kind::Commits, true) if follows(read, header) => {
            memory::apply(&mut read.entries, &frame::read_commits(payload, header.batches).ok_or(MALFORMED)?);
            read.revision = header.revision;
        }
        (Kind::Opening | Kind::Snapshot | Kind::Ready | Kind::Commits, _) => return Err("a record is out of order"),
    }
    Ok(())
}

fn follows(read: &Replayed, header: Header) -> bool {
    header.kind == Kind::Commits
        && header.batches > 0
        && read.revision.checked_add(u64::from(header.batches)) == Some(header.revision)
}

enum Found {
    Whole(Header, Vec<u8>),
    /// The bytes up to the end of the file could be one frame that was not written whole; its header, if that was.
    Torn(Option<Header>),
}

struct Segment<'a> {
    path: &'a Path,
    file: &'a File,
    length: u64,
    at: u64,
    seal: Seal,
}

impl Segment<'_> {
    fn preamble(&mut self) -> Result<(), Error> {
        let bytes = self.read(PREAMBLE_BYTES.min(self.length as usize))?;
        match frame::read_preamble(&bytes) {
            Preamble::Known => {}
            Preamble::Newer(found) => {
                return Err(Error::NewerFormat { file: self.path.into(), found, known: FORMAT });
            }
            Preamble::Broken => return Err(self.damage("this is not a log of the store, or its beginning is damaged")),
        }
        self.at = PREAMBLE_BYTES as u64;
        Ok(())
    }

    fn next(&mut self) -> Result<Found, Error> {
        const FRAME_BYTES: u64 = (HEADER_BYTES + MAX_PAYLOAD_BYTES + SEAL_BYTES) as u64;
        let left = self.length - self.at;
        if left < HEADER_BYTES as u64 {
            return Ok(Found::Torn(None));
        }
        let Some(header) = frame::read_header(&self.read(HEADER_BYTES)?) else {
            if left > FRAME_BYTES {
                return Err(self.damage("the head of a record is damaged and more follows than one record"));
            }
            let tail = self.read(left as usize)?;
            if (1..tail.len()).any(|offset| frame::read_header(&tail[offset..]).is_some()) {
                return Err(self.damage("the head of a record is damaged and other records follow"));
            }
            return Ok(Found::Torn(None));
        };
        if header.payload_bytes > MAX_PAYLOAD_BYTES {
            return Err(self.damage("a record is longer than any that is written"));
        }
        let whole = HEADER_BYTES + header.payload_bytes + SEAL_BYTES;
        if (whole as u64) > left {
            return Ok(Found::Torn(Some(header)));
        }
        let bytes = self.read(whole)?;
        let (sealed, stored) = bytes.split_at(whole - SEAL_BYTES);
        let seal = frame::seal(&self.seal, sealed);
        if seal != stored {
            return if whole as u64 == left {
                Ok(Found::Torn(Some(header)))
            } else {
                Err(self.damage("a record is damaged or not the successor of the one before, and other records follow"))
            };
        }
        self.at += whole as u64;
        self.seal = seal;
        Ok(Found::Whole(header, sealed[HEADER_BYTES..].to_vec()))
    }

    fn read(&self, count: usize) -> Result<Vec<u8>, Error> {
        let mut bytes = vec![0; count];
        self.file.read_exact_at(&mut bytes, self.at).map_err(|e| Error::io("cannot read", self.path, e))?;
        Ok(bytes)
    }

    fn damage(&self, what: &str) -> Error {
        self.damage_at(self.at, what)
    }

    fn damage_at(&self, at: u64, what: &str) -> Error {
        Error::Corrupt {
            what: what.into(),
            place: format!("{} at byte {at}", self.path.display()),
            way_out:
                "nothing was changed; stop, copy the store's directory away, then restore this file from a backup or \
                      from the disk that failed; what was acknowledged after that place is lost without it"
                    .into(),
        }
    }
}
