//! The one comparison: what a node shall hold against what it is seen to run. A deployment uses it to see
//! progress, the ledger to see drift. When evidence is fresh is decided by whoever drew the nonce; this file
//! assumes that it is, and is told of absence through [`Sight`].

mod asked;
mod certificate;
mod clock;
mod conduct;
mod finding;
mod judge;
mod past;
mod presence;

pub use asked::{Asked, Uncounted};
pub use certificate::{Life, certificate};
pub use clock::{Clock, clock};
pub use conduct::{Conduct, Misdeed};
pub use finding::{ENDS_SOON, Finding, FindingKey, HAS_ENDED, Kind, Severity};
pub use judge::{Comparison, Standing, compare};
pub use past::Past;
pub use presence::{Limits, Sight, presence};

use std::collections::BTreeMap;
use std::sync::Arc;

use crate::release::Descriptor;
use crate::{Digest, ReleaseId, ServiceName};

/// Every release the fleet knows, and the way back from a digest to the releases that contain it.
#[derive(Debug, Clone, Default)]
pub struct Catalogue {
    releases: BTreeMap<ReleaseId, Known>,
    by_digest: BTreeMap<(ServiceName, Digest), Vec<ReleaseId>>,
}

#[derive(Debug, Clone)]
struct Known {
    descriptor: Arc<Descriptor>,
    digest: Digest,
}

impl Catalogue {
    /// Adds a release; adding it again changes nothing. `digest` is that of [`Descriptor::to_json`].
    pub fn add(&mut self, id: ReleaseId, descriptor: Arc<Descriptor>, digest: Digest) {
        for digest in descriptor.manifest.digests() {
            let owners = self.by_digest.entry((descriptor.service.clone(), *digest)).or_default();
            if !owners.contains(&id) {
                owners.push(id.clone());
            }
        }
        self.releases.insert(id, Known { descriptor, digest });
    }

    /// A release by its id.
    pub fn get(&self, id: &ReleaseId) -> Option<&Arc<Descriptor>> {
        self.releases.get(id).map(|known| &known.descriptor)
    }

    /// The digest of a release's descriptor: what an agent must have compared files with.
    pub fn descriptor_digest(&self, id: &ReleaseId) -> Option<&Digest> {
        self.releases.get(id).map(|known| &known.digest)
    }

    /// The releases of `service` that contain a file with this digest, oldest known first.
    pub fn owners(&self, service: &ServiceName, digest: &Digest) -> &[ReleaseId] {
        self.by_digest.get(&(service.clone(), *digest)).map_or(&[], Vec::as_slice)
    }

    /// A release for people: `r-51ab09c4e2f1 (1.0.0)`.
    pub fn describe(&self, id: &ReleaseId) -> String {
        match self.releases.get(id) {
            Some(release) => format!("{id} ({})", release.descriptor.version),
            None => id.to_string(),
        }
    }
}
