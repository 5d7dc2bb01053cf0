//! The releases of a story: what a node would be told to hold for a version, and the way back to the version.

use std::collections::BTreeMap;

use fleet::release::Version;
use fleet::{Digest, Hold, ReleaseId, ServiceName};
use sha2::{Digest as _, Sha256};

/// The size every bundle of a story is said to have; nothing depends on it.
const BUNDLE_SIZE: u64 = 1_000_000;

/// What a node shall hold for a version; None is nothing. The same words give the same release.
pub(super) fn hold_of(service: &ServiceName, version: Option<&Version>) -> Hold {
    let Some(version) = version else { return Hold::Nothing };
    let bundle = Digest(Sha256::digest(format!("{service} {version}")).into());
    Hold::Release { release: ReleaseId::of(&bundle), bundle, size: BUNDLE_SIZE }
}

/// The versions of a story by their releases.
#[derive(Debug, Clone, Default)]
pub(super) struct Releases {
    versions: BTreeMap<ReleaseId, Version>,
}

impl Releases {
    /// What a node shall hold for a version, which is known from now on.
    pub(super) fn hold(&mut self, service: &ServiceName, version: Option<&Version>) -> Hold {
        let hold = hold_of(service, version);
        if let (Some(release), Some(version)) = (hold.release(), version) {
            self.versions.insert(release.clone(), version.clone());
        }
        hold
    }

    /// The version held; None for nothing.
    pub(super) fn version(&self, hold: &Hold) -> Option<Version> {
        hold.release().and_then(|release| self.versions.get(release)).cloned()
    }

    /// The version for people.
    pub(super) fn words(&self, hold: &Hold) -> String {
        self.version(hold).map_or_else(|| "nothing".to_owned(), |version| version.to_string())
    }
}
