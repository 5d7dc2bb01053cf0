//! SHA-256 of bytes on their way: whole readers, and adapters for writing and reading.

use std::io::{self, Read, Write};

use fleet::Digest;
use sha2::{Digest as _, Sha256};

/// How much is read at a time; large enough that system calls do not matter beside hashing.
pub(crate) const CHUNK: usize = 64 * 1024;

/// The SHA-256 digest and the length of everything `reader` gives.
///
/// # Errors
/// Whatever the reader reports.
pub fn digest(reader: &mut dyn Read) -> io::Result<(Digest, u64)> {
    let mut sum = Sum::default();
    let mut buffer = vec![0; CHUNK];
    loop {
        match reader.read(&mut buffer) {
            Ok(0) => return Ok(sum.finish()),
            Ok(n) => sum.add(&buffer[..n]),
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
}

/// A running digest and count.
#[derive(Clone, Default)]
pub(crate) struct Sum {
    hasher: Sha256,
    size: u64,
}

impl Sum {
    pub(crate) fn add(&mut self, bytes: &[u8]) {
        self.hasher.update(bytes);
        self.size += bytes.len() as u64;
    }

    pub(crate) fn finish(self) -> (Digest, u64) {
        (Digest(self.hasher.finalize().into()), self.size)
    }
}

/// Passes bytes on and digests what was accepted: for receiving a bundle.
pub struct HashingWriter<W> {
    inner: W,
    sum: Sum,
}

impl<W: Write> HashingWriter<W> {
    /// Digests from the first byte on.
    pub fn new(inner: W) -> Self {
        Self { inner, sum: Sum::default() }
    }

    /// Continues after a part that is already there: `received` is read to its end and digested, not written.
    ///
    /// # Errors
    /// Whatever the reader reports.
    pub fn resume(inner: W, received: &mut dyn Read) -> io::Result<Self> {
        let mut writer = HashingWriter::new(io::sink());
        io::copy(received, &mut writer)?;
        Ok(Self { inner, sum: writer.sum })
    }

    /// How many bytes were digested so far.
    pub fn size(&self) -> u64 {
        self.sum.size
    }

    /// The writer underneath, to flush or sync it.
    pub fn inner_mut(&mut self) -> &mut W {
        &mut self.inner
    }

    /// The digest and the number of bytes. The writer underneath is dropped without being flushed.
    pub fn finish(self) -> (Digest, u64) {
        self.sum.finish()
    }
}

impl<W: Write> Write for HashingWriter<W> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let written = self.inner.write(bytes)?;
        self.sum.add(&bytes[..written]);
        Ok(written)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.inner.flush()
    }
}

/// Passes bytes on and digests what was read.
pub struct HashingReader<R> {
    inner: R,
    sum: Sum,
}

impl<R: Read> HashingReader<R> {
    /// Digests from the first byte on.
    pub fn new(inner: R) -> Self {
        Self { inner, sum: Sum::default() }
    }

    /// The digest and the number of bytes read so far.
    pub fn finish(self) -> (Digest, u64) {
        self.sum.finish()
    }
}

impl<R: Read> Read for HashingReader<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let n = self.inner.read(buffer)?;
        self.sum.add(&buffer[..n]);
        Ok(n)
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn every_way_gives_the_known_digest() {
        // FIPS 180-2, appendix B.1: SHA-256("abc").
        let abc = "sha256:ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad".parse::<Digest>().unwrap();
        assert_eq!(digest(&mut &b"abc"[..]).unwrap(), (abc, 3));
        let mut writer = HashingWriter::new(Vec::new());
        writer.write_all(b"abc").unwrap();
        assert_eq!((writer.size(), writer.inner_mut().as_slice()), (3, &b"abc"[..]));
        assert_eq!(writer.finish(), (abc, 3));
        let mut resumed = HashingWriter::resume(Vec::new(), &mut &b"ab"[..]).unwrap();
        resumed.write_all(b"c").unwrap();
        assert_eq!(resumed.inner_mut().as_slice(), b"c");
        assert_eq!(resumed.finish(), (abc, 3));
        let mut reader = HashingReader::new(&b"abc"[..]);
        io::copy(&mut reader, &mut io::sink()).unwrap();
        assert_eq!(reader.finish(), (abc, 3));
    }
}
