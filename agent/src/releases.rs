//! The release tree of one service: what is unpacked, what it is, what was ever here, and removing what is too old.
//! Unpacking itself is `fleet_bundle`'s; which release is live is `switch`'s.
//!
//! ```text
//! <root>/releases/<id>/          complete, or not there: renamed into place after it was read back
//! <root>/.fleet/releases/<id>.json   its descriptor
//! <root>/.fleet/known.json           the digests of every release ever held here
//! ```

use std::collections::BTreeSet;
use std::fs::File;
use std::io;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use fleet::manifest::{EntryKind, Manifest};
use fleet::release::Descriptor;
use fleet::{Digest, ReleaseId, ServiceName};
use fleet_bundle::BundleError;
use serde::{Deserialize, Serialize};

use crate::durable::{self, FileError};
use crate::known::Known;
use crate::platform::ServicePlace;
use crate::platform::linux::machine;

/// Different files that are remembered of all releases together: 8 MiB in memory. A service whose every release has 100
/// files of its own comes to 2,500 releases.
pub const MOST_KNOWN: usize = 250_000;
/// Releases that are told apart.
const MOST_KNOWN_RELEASES: usize = 65_535;
const KNOWN_VERSION: u32 = 1;

/// The release tree of one service.
#[derive(Debug, Clone)]
pub struct Releases {
    place: ServicePlace,
}

/// What is thought of files in a release's directory that its manifest does not name.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Beside {
    /// The release is not whole with them: a program may read them.
    Refused,
    /// They are somebody else's concern.
    Tolerated,
}

/// Why a release could not be put beside the one that runs. Nothing of it is left.
#[derive(Debug, thiserror::Error)]
pub enum StageError {
    /// The bundle is not acceptable, or there is no room for it.
    #[error(transparent)]
    Bundle(#[from] BundleError),
    /// The bundle holds another service.
    #[error("the bundle is a release of service {found}, and the order is for {wanted}: the controller mixed them up")]
    OtherService {
        /// What the order says.
        wanted: ServiceName,
        /// What the bundle says.
        found: ServiceName,
    },
    /// The tree could not be written.
    #[error(transparent)]
    File(#[from] FileError),
}

#[derive(Serialize, Deserialize, Default)]
struct KnownFile {
    version: u32,
    /// Oldest first.
    releases: Vec<KnownRelease>,
}

#[derive(Serialize, Deserialize)]
struct KnownRelease {
    release: ReleaseId,
    digests: Vec<Digest>,
}

impl KnownFile {
    /// Forgets the oldest releases beyond so many digests or releases, but never the two newest, and says which had any.
    fn forget_beyond(&mut self, digests: usize, releases: usize) -> Vec<ReleaseId> {
        let mut left: usize = self.releases.iter().map(|known| known.digests.len()).sum();
        let mut surplus = 0;
        while self.releases.len() - surplus > 2 && (left > digests || self.releases.len() - surplus > releases) {
            left -= self.releases[surplus].digests.len();
            surplus += 1;
        }
        let forgotten = self.releases.drain(..surplus).filter(|known| !known.digests.is_empty());
        forgotten.map(|known| known.release).collect()
    }
}

impl Releases {
    /// The tree of the service at `place`.
    pub fn new(place: ServicePlace) -> Self {
        Self { place }
    }

    /// Makes the directories. Releases must be readable by the service's user; the agent's own files need not be.
    ///
    /// # Errors
    /// The directory that could not be made.
    pub fn make(&self) -> Result<(), FileError> {
        durable::make_directory(&self.place.root, 0o755)?;
        durable::make_directory(&self.place.root.join("releases"), 0o755)?;
        durable::make_directory(&self.descriptors(), 0o755)
    }

    /// Where the service lives.
    pub fn place(&self) -> &ServicePlace {
        &self.place
    }

    /// Where the agent's own files about this service lie.
    pub fn own_files(&self) -> PathBuf {
        self.place.root.join(".fleet")
    }

    /// What a release is, if it is here and whole.
    ///
    /// # Errors
    /// A descriptor that is there and cannot be read.
    pub fn descriptor(&self, release: &ReleaseId) -> Result<Option<Descriptor>, FileError> {
        let path = self.descriptor_path(release);
        if !self.place.release(release).is_dir() {
            return Ok(None);
        }
        match std::fs::read(&path) {
            Ok(bytes) => Descriptor::from_json(&bytes)
                .map(Some)
                .map_err(io::Error::other)
                .map_err(FileError::at("understand", &path)),
            Err(cause) if cause.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(cause) => Err(FileError::at("read", &path)(cause)),
        }
    }

    /// Whether everything the manifest names is on the disk as it says. Blocking: it reads every file.
    pub fn is_whole(&self, release: &ReleaseId, manifest: &Manifest, beside: Beside) -> bool {
        let root = self.place.release(release);
        if beside == Beside::Refused && !holds_nothing_else(&root, manifest).unwrap_or(false) {
            return false;
        }
        manifest.entries().iter().all(|entry| {
            let path = root.join(entry.path.as_str());
            match &entry.kind {
                EntryKind::Directory => std::fs::symlink_metadata(&path)
                    .is_ok_and(|found| found.is_dir() && found.permissions().mode() & 0o7777 == entry.mode),
                EntryKind::Symlink { target } => {
                    std::fs::read_link(&path).is_ok_and(|found| found == Path::new(target))
                }
                EntryKind::File { sha256, size } => {
                    std::fs::symlink_metadata(&path)
                        .is_ok_and(|found| found.is_file() && found.permissions().mode() & 0o7777 == entry.mode)
                        && File::open(&path)
                            .and_then(|mut file| fleet_bundle::digest(&mut file))
                            .is_ok_and(|found| found == (*sha256, *size))
                }
            }
        })
    }

    /// Unpacks `bundle` as `release`. When this returns the release is on the disk, was read back, and survives a
    /// power loss; until then its directory has another name. Blocking.
    ///
    /// # Errors
    /// Why not; nothing is left then, and what runs is untouched.
    pub fn stage(&self, release: &ReleaseId, bundle: &Path, digest: &Digest) -> Result<Descriptor, StageError> {
        let releases = self.place.root.join("releases");
        let (beside, target) = (releases.join(format!(".{release}.staging")), self.place.release(release));
        // A leftover of a killed agent, or a release whose files no longer match its manifest.
        remove_tree(&beside)?;
        let mut file = File::open(bundle).map_err(FileError::at("open", bundle))?;
        let descriptor = fleet_bundle::unpack_exactly(&mut file, digest, &beside)?;
        if descriptor.service != self.place.service {
            remove_tree(&beside)?;
            return Err(StageError::OtherService { wanted: self.place.service.clone(), found: descriptor.service });
        }
        let finish = || -> Result<(), FileError> {
            // The descriptor first: a directory of this name is only ever seen together with what it is.
            durable::write(&self.descriptor_path(release), &descriptor.to_json())?;
            self.remember(release, &descriptor.manifest)?;
            if target.symlink_metadata().is_ok() {
                // It may be live: `current` must never point to half a release, so the two change places at once.
                machine::exchange(&beside, &target).map_err(FileError::at("put in the place of", &target))?;
                durable::sync_directory(&releases).map_err(FileError::at("sync", &releases))?;
                return remove_tree(&beside);
            }
            std::fs::rename(&beside, &target).map_err(FileError::at("rename to", &target))?;
            durable::sync_directory(&releases).map_err(FileError::at("sync", &releases))
        };
        finish().inspect_err(|_| {
            // The disk is probably full: give back what this attempt took.
            let _ = remove_tree(&beside);
        })?;
        Ok(descriptor)
    }

    /// Every digest of every release known here.
    ///
    /// # Errors
    /// A file that is there and cannot be read: without it a stray process could pass for nobody's.
    pub fn known(&self) -> Result<Known, FileError> {
        Ok(Known::of(self.read_known()?.releases.into_iter().map(|its| (its.release, its.digests))))
    }

    /// Removes releases beyond the newest `keep`, never one of `needed`; and whatever a killed agent left half done.
    /// A release that cannot be removed is logged and stays: that harms nobody. Blocking.
    pub fn prune(&self, keep: usize, needed: &[&ReleaseId]) {
        let releases = self.place.root.join("releases");
        let Ok(entries) = std::fs::read_dir(&releases) else { return };
        let mut here = Vec::new();
        for entry in entries.flatten() {
            let name = entry.file_name().to_string_lossy().into_owned();
            match name.parse::<ReleaseId>() {
                Ok(release) => {
                    let staged =
                        std::fs::metadata(self.descriptor_path(&release)).and_then(|found| found.modified()).ok();
                    here.push((staged, release));
                }
                Err(_) if name.ends_with(".staging") => log_failure(&remove_tree(&entry.path())),
                Err(_) => {}
            }
        }
        // Newest first; one without a descriptor is not whole and goes first.
        here.sort_by(|a, b| b.cmp(a));
        let surplus = here.into_iter().map(|(_, release)| release).filter(|release| !needed.contains(&release));
        for release in surplus.skip(keep.saturating_sub(needed.len())) {
            tracing::info!(service = %self.place.service, %release, "removing an old release");
            log_failure(
                &durable::remove(&self.descriptor_path(&release))
                    .and_then(|()| remove_tree(&self.place.release(&release))),
            );
        }
    }

    fn remember(&self, release: &ReleaseId, manifest: &Manifest) -> Result<(), FileError> {
        let mut known = self.read_known()?;
        known.version = KNOWN_VERSION;
        known.releases.retain(|earlier| earlier.release != *release);
        let digests: BTreeSet<Digest> = manifest.digests().copied().collect();
        // Each digest once, with the newest release that has it: most files of a release are those of the one before.
        known.releases.iter_mut().for_each(|earlier| earlier.digests.retain(|digest| !digests.contains(digest)));
        known.releases.push(KnownRelease { release: release.clone(), digests: digests.into_iter().collect() });
        for forgotten in known.forget_beyond(MOST_KNOWN, MOST_KNOWN_RELEASES) {
            tracing::warn!(
                service = %self.place.service, release = %forgotten,
                "too many different files of releases to remember: what only this old release had is not recognised any more"
            );
        }
        durable::write_json(&self.known_path(), &known)
    }

    fn read_known(&self) -> Result<KnownFile, FileError> {
        let path = self.known_path();
        let known: KnownFile =
            durable::read_json(&path)?.unwrap_or(KnownFile { version: KNOWN_VERSION, releases: Vec::new() });
        if known.version != KNOWN_VERSION {
            let reason = format!("it has version {}, this agent knows {KNOWN_VERSION}", known.version);
            return Err(FileError::at("understand", &path)(io::Error::other(reason)));
        }
        Ok(known)
    }

    fn known_path(&self) -> PathBuf {
        self.own_files().join("known.json")
    }

    fn descriptors(&self) -> PathBuf {
        self.own_files().join("releases")
    }

    fn descriptor_path(&self, release: &ReleaseId) -> PathBuf {
        self.descriptors().join(format!("{release}.json"))
    }
}

/// Whether a release's directory has only what its manifest names. Directories that it does not know are not entered,
/// so the manifest bounds the depth.
fn holds_nothing_else(root: &Path, manifest: &Manifest) -> io::Result<bool> {
    let directories = manifest.directories();
    let mut open = vec![String::new()];
    while let Some(above) = open.pop() {
        for entry in std::fs::read_dir(root.join(&above))? {
            let entry = entry?;
            let Ok(name) = entry.file_name().into_string() else { return Ok(false) };
            let path = if above.is_empty() { name } else { format!("{above}/{name}") };
            let is_directory = directories.contains(path.as_str());
            if !is_directory && manifest.get(&path).is_none() {
                return Ok(false);
            }
            if is_directory && entry.file_type()?.is_dir() {
                open.push(path);
            }
        }
    }
    Ok(true)
}

fn remove_tree(path: &Path) -> Result<(), FileError> {
    match fleet_bundle::remove_tree(path) {
        Ok(()) => Ok(()),
        Err(cause) if cause.kind() == io::ErrorKind::NotFound => Ok(()),
        Err(cause) => Err(FileError::at("remove", path)(cause)),
    }
}

fn log_failure(result: &Result<(), FileError>) {
    if let Err(error) = result {
        tracing::warn!("{error}");
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn the_oldest_are_forgotten_first_and_the_two_newest_never() {
        let release = |number: usize| -> ReleaseId { format!("r-{number:012x}").parse().unwrap() };
        let file = |counts: &[usize]| KnownFile {
            version: KNOWN_VERSION,
            releases: (0..)
                .zip(counts)
                .map(|(number, count)| KnownRelease {
                    release: release(number),
                    digests: vec![Digest([0; 32]); *count],
                })
                .collect(),
        };
        let left = |known: &KnownFile| known.releases.iter().map(|known| known.digests.len()).collect::<Vec<_>>();
        let mut known = file(&[3, 0, 4, 5, 6]);
        assert_eq!(known.forget_beyond(18, 10), []);
        assert_eq!((known.forget_beyond(15, 10), left(&known)), (vec![release(0)], vec![0, 4, 5, 6]));
        assert_eq!((known.forget_beyond(15, 3), left(&known)), (vec![], vec![4, 5, 6]), "nothing was lost with it");
        assert_eq!((known.forget_beyond(1, 10), left(&known)), (vec![release(2)], vec![5, 6]));
        assert_eq!((known.forget_beyond(0, 1), left(&known)), (vec![], vec![5, 6]));
    }
}
