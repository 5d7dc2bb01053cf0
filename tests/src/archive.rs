//! Hostile bundles: archives that no honest `fleetctl` would make.

use std::fs::File;
use std::io::{self, Read};
use std::path::{Path, PathBuf};

use tar::{Builder, EntryType, Header};

/// Ten gibibytes: what an archive bomb unpacks to.
pub const BOMB: u64 = 10 << 30;

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

/// Writes a bundle of this descriptor and these entries.
pub fn write(path: &Path, descriptor: &str, entries: &[Entry]) -> PathBuf {
    let encoder = zstd::Encoder::new(File::create(path).unwrap(), 1).unwrap();
    let mut builder = Builder::new(encoder);
    append(&mut builder, ".fleet/release.json", EntryType::Regular, "", 0o644, descriptor.len() as u64, descriptor.as_bytes());
    for entry in entries {
        append(&mut builder, &entry.name, entry.kind, &entry.link, entry.mode, entry.zeros, io::repeat(0).take(entry.zeros));
    }
    builder.into_inner().unwrap().finish().unwrap().sync_all().unwrap();
    path.to_owned()
}

fn append(to: &mut Builder<impl io::Write>, name: &str, kind: EntryType, link: &str, mode: u32, size: u64, content: impl Read) {
    let mut header = Header::new_gnu();
    // The setters refuse such names; the fields do not.
    let old = header.as_old_mut();
    old.name[..name.len()].copy_from_slice(name.as_bytes());
    old.linkname[..link.len()].copy_from_slice(link.as_bytes());
    header.set_entry_type(kind);
    if matches!(kind, EntryType::Char | EntryType::Block) {
        header.set_device_major(1).unwrap();
        header.set_device_minor(3).unwrap();
    }
    header.set_mode(mode);
    header.set_uid(0);
    header.set_gid(0);
    header.set_mtime(0);
    header.set_size(size);
    header.set_cksum();
    to.append(&header, content).unwrap();
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_archive_of_honest_entries_is_accepted() {
        // Otherwise every refusal of a hostile one could have another reason.
        let dir = tempfile::tempdir().unwrap();
        let path = write(&dir.path().join("x"), &descriptor(&honest_manifest()), &[Entry::file("bin/hello")]);
        let read = fleet_bundle::inspect(&mut File::open(path).unwrap());
        assert!(read.is_ok(), "{read:?}");
    }
}
