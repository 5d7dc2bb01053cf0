//! A few small files of a bundle in memory, for showing what should lie where something else does.

use std::collections::{BTreeMap, BTreeSet};
use std::io::Read;

use fleet::manifest::{Entry, EntryKind};
use fleet::release::Descriptor;

use crate::BundleError;
use crate::read::{self, Receiver};

/// The bytes of those of `paths` that are files of at most `largest` bytes, by their paths. The whole bundle is checked.
///
/// # Errors
/// Everything [`crate::inspect`] refuses.
pub fn extract(
    bundle: &mut dyn Read,
    paths: &BTreeSet<String>,
    largest: u64,
) -> Result<BTreeMap<String, Vec<u8>>, BundleError> {
    let mut picker = Picker { paths, largest, picked: BTreeMap::new(), open: None };
    read::read(bundle, &mut picker)?;
    Ok(picker.picked)
}

struct Picker<'a> {
    paths: &'a BTreeSet<String>,
    largest: u64,
    picked: BTreeMap<String, Vec<u8>>,
    open: Option<String>,
}

impl Receiver for Picker<'_> {
    fn begin(&mut self, _: &Descriptor) -> Result<(), BundleError> {
        Ok(())
    }

    fn entry(&mut self, entry: &Entry) -> Result<(), BundleError> {
        let path = entry.path.as_str();
        let wanted = matches!(&entry.kind, EntryKind::File { size, .. } if *size <= self.largest);
        self.open = (wanted && self.paths.contains(path)).then(|| path.to_owned());
        if let Some(path) = &self.open {
            self.picked.insert(path.clone(), Vec::new());
        }
        Ok(())
    }

    fn content(&mut self, bytes: &[u8]) -> Result<(), BundleError> {
        if let Some(picked) = self.open.as_ref().and_then(|path| self.picked.get_mut(path)) {
            picked.extend_from_slice(bytes);
        }
        Ok(())
    }

    fn complete(&mut self) -> Result<(), BundleError> {
        self.open = None;
        Ok(())
    }
}
