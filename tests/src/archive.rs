//! Hostile bundles: archives that no honest `fleetctl` would make.

use std::fs::File;
use std::io::{self, Read as _, Write};
use std::path::{Path, PathBuf};

use tar::{EntryType, Header};

/// Ten gibibytes: what an archive bomb unpacks to.
pub const BOMB: u64 = 10 << 30;
/// An archive ends with two empty blocks.
const END: u64 = 1024;

/// One entry, written as it is: nothing is checked.
#[derive(Debug, Clone)]
pub struct Entry {
    /// Its name.
    pub name: String,
    /// What it is.
    pub kind: EntryType,
    /// Where it points, for links.
    pub link: String,
    /// Its mode.
    pub mode: u32,
    /// How many zeros it holds.
    pub zeros: u64,
}

impl Entry {
    /// A small file.
    pub fn file(name: &str) -> Entry {
        Entry { name: name.into(), kind: EntryType::Regular, link: String::new(), mode: 0o755, zeros: 100 }
    }

    /// A link.
    pub fn link(name: &str, kind: EntryType, to: &str) -> Entry {
        Entry { kind, link: to.into(), zeros: 0, ..Entry::file(name) }
    }
}

/// A descriptor of `hello` 9.9.9 whose manifest is given as JSON.
pub fn descriptor(manifest: &str) -> String {
    format!(
        r#"{{"format":1,"service":"hello","version":"9.9.9","nodes":{{"role":"web"}},"run":{{"command":["bin/hello","--port","${{PORT}}"],"stopTimeout":10000}},"minimumGrade":"digest","manifest":{manifest}}}"#
    )
}

/// The manifest of one regular file of 100 zeros, `bin/hello`.
pub fn honest_manifest() -> String {
    let sha256 = fleet_bundle::digest(&mut io::repeat(0).take(100)).unwrap().0;
    format!(
        r#"[{{"path":"bin/hello","mode":493,"kind":"file","sha256":{},"size":100}}]"#,
        serde_json::to_string(&sha256).unwrap()
    )
}

/// Writes a bundle of this descriptor and these entries, with `tail` zeros after its end.
pub fn write(path: &Path, descriptor: &[u8], entries: &[Entry], tail: u64) -> PathBuf {
    let mut encoder = zstd::Encoder::new(File::create(path).unwrap(), 1).unwrap();
    let first = Entry { mode: 0o644, ..Entry::file(".fleet/release.json") };
    encoder.write_all(&header(&first, descriptor.len() as u64)).unwrap();
    encoder.write_all(descriptor).unwrap();
    zeros(&mut encoder, padding(descriptor.len() as u64));
    append(&mut encoder, entries);
    zeros(&mut encoder, END + tail);
    encoder.finish().unwrap().sync_all().unwrap();
    path.to_owned()
}

/// Writes an archive of these entries only, without a descriptor.
pub fn write_bare(path: &Path, entries: &[Entry]) -> PathBuf {
    let mut encoder = zstd::Encoder::new(File::create(path).unwrap(), 1).unwrap();
    append(&mut encoder, entries);
    zeros(&mut encoder, END);
    encoder.finish().unwrap().sync_all().unwrap();
    path.to_owned()
}

fn append(to: &mut impl Write, entries: &[Entry]) {
    for entry in entries {
        to.write_all(&header(entry, entry.zeros)).unwrap();
        zeros(to, entry.zeros + padding(entry.zeros));
    }
}

/// A header with whatever is asked for: the checked way of the tar crate refuses such names.
fn header(entry: &Entry, size: u64) -> [u8; 512] {
    let mut header = Header::new_gnu();
    let old = header.as_old_mut();
    old.name[..entry.name.len()].copy_from_slice(entry.name.as_bytes());
    old.linkname[..entry.link.len()].copy_from_slice(entry.link.as_bytes());
    header.set_entry_type(entry.kind);
    if matches!(entry.kind, EntryType::Char | EntryType::Block) {
        header.set_device_major(1).unwrap();
        header.set_device_minor(3).unwrap();
    }
    header.set_mode(entry.mode);
    header.set_uid(0);
    header.set_gid(0);
    header.set_mtime(0);
    header.set_size(size);
    header.set_cksum();
    *header.as_bytes()
}

fn padding(size: u64) -> u64 {
    size.next_multiple_of(512) - size
}

/// In large pieces: ten gibibytes are written in seconds.
fn zeros(to: &mut impl Write, mut count: u64) {
    static ZEROS: [u8; 1 << 20] = [0; 1 << 20];
    while count > 0 {
        let piece = count.min(ZEROS.len() as u64);
        to.write_all(&ZEROS[..piece as usize]).unwrap();
        count -= piece;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_archive_of_honest_entries_is_accepted() {
        // Otherwise every refusal of a hostile one could have another reason.
        let dir = tempfile::tempdir().unwrap();
        let path =
            write(&dir.path().join("x"), descriptor(&honest_manifest()).as_bytes(), &[Entry::file("bin/hello")], 0);
        let read = fleet_bundle::inspect(&mut File::open(path).unwrap());
        assert!(read.is_ok(), "{read:?}");
    }
}
