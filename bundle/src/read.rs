//! Reads a bundle strictly: every byte of the tar stream is either content with the digest of the manifest or the
//! one byte that can stand there. Writing what is read is left to a [`Receiver`].

use std::io::{self, BufRead, BufReader, Read};

use fleet::manifest::{Entry, EntryKind, Manifest, RelativePath};
use fleet::release::{DESCRIPTOR_PATH, Descriptor, LARGEST_DESCRIPTOR};
use tar::{EntryType, Header};

use crate::BundleError;
use crate::error::printable;
use crate::hash::{CHUNK, Sum};
use crate::layout::{self, BLOCK, END};

/// The largest zstd window accepted, as a power of two: 8 MiB, so that a small hostile frame cannot claim 2 GiB of
/// memory. Our own bundles use 2 MiB.
const WINDOW_LOG_MAX: u32 = 23;

/// Reads the whole bundle without writing anything, and returns its descriptor.
///
/// Memory is bounded by the largest descriptor and the window, whatever the bundle claims to hold.
///
/// # Errors
/// The first thing that is not as the descriptor says: missing, added, repeated, reordered or changed entries,
/// headers that differ in anything, wrong contents, a broken or continued compressed stream.
pub fn inspect(bundle: &mut dyn Read) -> Result<Descriptor, BundleError> {
    read(bundle, &mut Nobody)
}

/// Who gets the entries of a bundle, in the order of the manifest. What it is given before [`read`] has returned
/// may still turn out to be part of a refused bundle.
pub(crate) trait Receiver {
    /// The descriptor was read and checked.
    fn begin(&mut self, descriptor: &Descriptor) -> Result<(), BundleError>;
    /// An entry starts.
    fn entry(&mut self, entry: &Entry) -> Result<(), BundleError>;
    /// The next bytes of the file that started last.
    fn content(&mut self, bytes: &[u8]) -> Result<(), BundleError>;
    /// The file that started last is complete and has the right digest.
    fn complete(&mut self) -> Result<(), BundleError>;
}

/// Receives and forgets.
struct Nobody;

impl Receiver for Nobody {
    fn begin(&mut self, _: &Descriptor) -> Result<(), BundleError> {
        Ok(())
    }
    fn entry(&mut self, _: &Entry) -> Result<(), BundleError> {
        Ok(())
    }
    fn content(&mut self, _: &[u8]) -> Result<(), BundleError> {
        Ok(())
    }
    fn complete(&mut self) -> Result<(), BundleError> {
        Ok(())
    }
}

/// Reads the whole bundle to `receiver`.
pub(crate) fn read(bundle: &mut dyn Read, receiver: &mut dyn Receiver) -> Result<Descriptor, BundleError> {
    let mut blocks = Blocks::new(bundle)?;
    let descriptor = blocks.descriptor()?;
    layout::check(&descriptor)?;
    receiver.begin(&descriptor)?;
    for entry in descriptor.manifest.entries() {
        entry.path.as_str().clone_into(&mut blocks.at);
        for expected in layout::headers(entry).chunks_exact(BLOCK) {
            let found = blocks.block()?;
            if found != expected {
                return Err(differs(&found, Some(entry), &descriptor.manifest));
            }
        }
        receiver.entry(entry)?;
        if let EntryKind::File { sha256, size } = &entry.kind {
            let mut sum = Sum::default();
            blocks.content(*size, &mut |bytes| {
                sum.add(bytes);
                receiver.content(bytes)
            })?;
            let (found, _) = sum.finish();
            if found != *sha256 {
                return Err(BundleError::refused(
                    entry.path.as_str(),
                    format!("its content has digest {found}, the manifest says {sha256}"),
                ));
            }
            receiver.complete()?;
        }
    }
    "the end".clone_into(&mut blocks.at);
    for _ in 0..END.len() / BLOCK {
        let found = blocks.block()?;
        if found != END[..BLOCK] {
            return Err(differs(&found, None, &descriptor.manifest));
        }
    }
    blocks.finish()?;
    Ok(descriptor)
}

/// The decompressed stream in blocks, and where it is, for errors.
struct Blocks<'a> {
    decoder: zstd::Decoder<'static, BufReader<&'a mut dyn Read>>,
    at: String,
}

impl<'a> Blocks<'a> {
    fn new(bundle: &'a mut dyn Read) -> Result<Self, BundleError> {
        let at = DESCRIPTOR_PATH.to_owned();
        let open = || -> io::Result<_> {
            let mut decoder = zstd::Decoder::with_buffer(BufReader::with_capacity(CHUNK, bundle))?.single_frame();
            decoder.window_log_max(WINDOW_LOG_MAX)?;
            Ok(decoder)
        };
        match open() {
            Ok(decoder) => Ok(Self { decoder, at }),
            Err(source) => Err(BundleError::Damaged { entry: at, source }),
        }
    }

    /// Fills `buffer`, or says where the stream broke or ended.
    fn fill(&mut self, buffer: &mut [u8]) -> Result<(), BundleError> {
        self.decoder
            .read_exact(buffer)
            .map_err(|source| BundleError::Damaged { entry: printable(self.at.as_bytes()), source })
    }

    fn block(&mut self) -> Result<[u8; BLOCK], BundleError> {
        let mut block = [0; BLOCK];
        self.fill(&mut block)?;
        Ok(block)
    }

    /// Hands out a content of `size` bytes in pieces, then checks its padding.
    fn content(
        &mut self,
        size: u64,
        take: &mut dyn FnMut(&[u8]) -> Result<(), BundleError>,
    ) -> Result<(), BundleError> {
        let mut buffer = [0; 16 * 1024];
        let mut left = size;
        while left > 0 {
            let piece = &mut buffer[..usize::try_from(left).unwrap_or(usize::MAX).min(16 * 1024)];
            self.fill(piece)?;
            take(piece)?;
            left -= piece.len() as u64;
        }
        let padding = &mut buffer[..layout::padding(size)];
        self.fill(padding)?;
        if padding.iter().any(|byte| *byte != 0) {
            return Err(BundleError::refused(&self.at, "bytes are hidden behind its content"));
        }
        Ok(())
    }

    /// The first entry.
    fn descriptor(&mut self) -> Result<Descriptor, BundleError> {
        let found = self.block()?;
        let header = Header::from_byte_slice(&found);
        let name = &header.as_old().name;
        if name[..DESCRIPTOR_PATH.len()] != *DESCRIPTOR_PATH.as_bytes() || name[DESCRIPTOR_PATH.len()] != 0 {
            let reason = "the first entry must be '.fleet/release.json': this is not a bundle made by fleetctl";
            return Err(BundleError::refused(field(name), reason));
        }
        let size =
            header.entry_size().map_err(|_| BundleError::refused(DESCRIPTOR_PATH, "its size is not a number"))?;
        if size > LARGEST_DESCRIPTOR {
            return Err(BundleError::refused(
                DESCRIPTOR_PATH,
                format!("{size} bytes are more than the {LARGEST_DESCRIPTOR} accepted"),
            ));
        }
        if found != layout::descriptor_header(size) {
            return Err(BundleError::refused(
                DESCRIPTOR_PATH,
                "it must be a plain file with mode 0644, owner 0 and time 0",
            ));
        }
        // Grows as bytes really come, so that a claimed size alone costs nothing.
        let mut json = Vec::new();
        self.content(size, &mut |bytes| {
            json.extend_from_slice(bytes);
            Ok(())
        })?;
        Ok(Descriptor::from_json(&json)?)
    }

    /// The frame must end here, and the file with it.
    fn finish(mut self) -> Result<(), BundleError> {
        let damaged = |source| BundleError::Damaged { entry: "the end".to_owned(), source };
        if self.decoder.read(&mut [0; 1]).map_err(damaged)? != 0 {
            return Err(BundleError::refused("the end", "the archive goes on after its last block"));
        }
        self.decoder.finish_frame().map_err(damaged)?;
        if self.decoder.finish().fill_buf().map_err(damaged)?.is_empty() {
            return Ok(());
        }
        Err(BundleError::refused("the end", "something follows the compressed archive"))
    }
}

/// Why a header that is not the expected one is refused. The expected one is `None` at the end of the archive.
fn differs(found: &[u8; BLOCK], expected: Option<&Entry>, manifest: &Manifest) -> BundleError {
    let header = Header::from_byte_slice(found);
    let awaited = expected.map_or("the end", |entry| entry.path.as_str());
    if found.iter().all(|byte| *byte == 0) {
        return BundleError::refused(awaited, "the archive ends before it");
    }
    if header.cksum().ok() != Some(checksum(found)) {
        return BundleError::refused(awaited, "a broken tar header stands in its place");
    }
    let old = header.as_old();
    let name = field(&old.name);
    let kind = header.entry_type();
    if let Some(what) = forbidden(kind) {
        return BundleError::refused(name, format!("{what} are not accepted in a bundle"));
    }
    let Ok(path) = std::str::from_utf8(name) else {
        return BundleError::refused(name, "its name is not UTF-8");
    };
    if let Err(error) = path.parse::<RelativePath>() {
        return BundleError::refused(name, error.to_string());
    }
    if expected.is_none_or(|entry| !entry.path.as_str().starts_with(path)) {
        let reason = match manifest.get(path) {
            Some(_) => "it occurs twice or out of order",
            None => "it is not in the manifest",
        };
        return BundleError::refused(path, reason);
    }
    let reason = match header.mode() {
        Ok(mode) if mode & !0o777 != 0 => {
            format!("it has mode {mode:04o}: set-uid, set-gid and sticky bits are not accepted")
        }
        _ => "its type, mode, size, link, owner or time is not that of the manifest".to_owned(),
    };
    BundleError::refused(path, reason)
}

/// Entry types that no bundle has where a header of the manifest is awaited.
fn forbidden(kind: EntryType) -> Option<&'static str> {
    Some(match kind {
        EntryType::Regular | EntryType::Directory | EntryType::Symlink => return None,
        EntryType::Link => "hard links",
        EntryType::Char | EntryType::Block => "devices",
        EntryType::Fifo => "named pipes",
        EntryType::GNUSparse => "sparse files",
        EntryType::XHeader | EntryType::XGlobalHeader => "PAX headers",
        EntryType::GNULongName | EntryType::GNULongLink => "long names that the manifest does not have",
        _ => "entries of this type",
    })
}

/// A text field of a header up to its first NUL.
fn field(bytes: &[u8]) -> &[u8] {
    bytes.split(|byte| *byte == 0).next().unwrap_or_default()
}

/// The checksum a tar header should carry: the sum of its bytes with its own field read as spaces.
fn checksum(block: &[u8; BLOCK]) -> u32 {
    block.iter().enumerate().map(|(at, byte)| if (148..156).contains(&at) { 32 } else { u32::from(*byte) }).sum()
}
