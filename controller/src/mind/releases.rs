//! Releases: taken in once, named by id, prefix or `service@version`.

use std::sync::Arc;

use fleet::release::Descriptor;
use fleet::{Digest, Hold, ReleaseId, Timestamp};
use fleet_proto::v1;
use sha2::Digest as _;

use super::ask::Refusal;
use super::state::State;
use crate::records::{Change, ReleaseRecord};

impl State {
    /// The same bytes give the same release; other bytes under the same version label are refused, since a label that
    /// means two things is how the wrong one gets deployed.
    pub(super) fn add_release(
        &mut self,
        by: &str,
        bundle: Digest,
        size: u64,
        descriptor: Descriptor,
        now: Timestamp,
    ) -> Result<v1::Release, Refusal> {
        let id = ReleaseId::of(&bundle);
        if let Some(known) = self.releases.get(&id) {
            if known.bundle != bundle {
                return Err(Refusal::precheck(
                    format!("release id {id} is taken by another bundle"),
                    "change the release in any way and upload it again",
                ));
            }
            return Ok(self.release_view(&id));
        }
        if let Some(same) = self
            .releases
            .values()
            .find(|known| known.service == descriptor.service && known.version == descriptor.version)
        {
            return Err(Refusal::input(
                format!(
                    "{} {} exists already as {}, with other content",
                    descriptor.service, descriptor.version, same.id
                ),
                "give the new content a new version (release.version in fleet.yaml)",
            ));
        }
        let record = ReleaseRecord {
            id: id.clone(),
            service: descriptor.service.clone(),
            version: descriptor.version.clone(),
            bundle,
            size,
            created_at: now,
            created_by: by.to_owned(),
        };
        let digest = descriptor_digest(&descriptor);
        self.catalogue.add(id.clone(), Arc::new(descriptor), digest);
        self.releases.insert(id.clone(), record.clone());
        self.save(Change::Release(record));
        Ok(self.release_view(&id))
    }

    /// Every release, newest first; of one service if one is named.
    pub(super) fn list_releases(&self, service: &str) -> Vec<v1::Release> {
        let of_service = |record: &&ReleaseRecord| service.is_empty() || record.service.as_str() == service;
        let mut records: Vec<_> = self.releases.values().filter(of_service).collect();
        records.sort_by_key(|record| std::cmp::Reverse(record.created_at));
        records.into_iter().map(|record| self.release_view(&record.id)).collect()
    }

    pub(super) fn release_view(&self, id: &ReleaseId) -> v1::Release {
        let Some(record) = self.releases.get(id) else {
            return v1::Release { id: id.to_string(), ..v1::Release::default() };
        };
        let rolled_back = self.rolled_back(id).map(|(by, why)| (by.to_string(), why));
        let (rolled_back_by, rolled_back_why) = rolled_back.unwrap_or_default();
        let manifest = self.catalogue.get(id).map(|descriptor| &descriptor.manifest);
        v1::Release {
            id: id.to_string(),
            service: record.service.to_string(),
            version: record.version.to_string(),
            bundle: record.bundle.to_string(),
            bundle_size: record.size,
            files: manifest.map_or(0, |manifest| u32::try_from(manifest.digests().count()).unwrap_or(u32::MAX)),
            unpacked_size: manifest.map_or(0, fleet::manifest::Manifest::unpacked_size),
            created_at_ms: record.created_at.0,
            created_by: record.created_by.clone(),
            rolled_back_by,
            rolled_back_why,
        }
    }

    /// A release by id, unique prefix, or `service@version`.
    pub(super) fn find_release(&self, name: &str) -> Result<&ReleaseRecord, Refusal> {
        let list = "list them: fleetctl releases list";
        if let Some((service, version)) = name.split_once('@') {
            return self
                .releases
                .values()
                .find(|record| record.service.as_str() == service && record.version.as_str() == version)
                .ok_or_else(|| Refusal::unknown(format!("there is no release '{}'", name.escape_default()), list));
        }
        let mut matches =
            self.releases.values().filter(|record| !name.is_empty() && record.id.as_str().starts_with(name));
        match (matches.next(), matches.next()) {
            (Some(record), None) => Ok(record),
            (Some(_), Some(_)) => Err(Refusal::unknown(
                format!("more than one release begins with '{}'", name.escape_default()),
                "write more of the id",
            )),
            (None, _) => Err(Refusal::unknown(format!("there is no release '{}'", name.escape_default()), list)),
        }
    }

    pub(super) fn hold(record: &ReleaseRecord) -> Hold {
        Hold::Release { release: record.id.clone(), bundle: record.bundle, size: record.size }
    }

    pub(super) fn get_release(&self, name: &str) -> Result<v1::GetReleaseReply, Refusal> {
        let record = self.find_release(name)?;
        let held = |(node, evidence): (&fleet::NodeName, &fleet::evidence::ServiceEvidence)| {
            (evidence.current.as_ref() == Some(&record.id)).then(|| node.to_string())
        };
        let latest = self.seen.iter().filter_map(|(node, seen)| Some((node, seen.latest.as_ref()?)));
        let held_by = latest
            .flat_map(|(node, attestation)| attestation.services.iter().map(move |evidence| (node, evidence)))
            .filter_map(held)
            .collect();
        let descriptor = self.catalogue.get(&record.id).map(|descriptor| descriptor.to_json()).unwrap_or_default();
        Ok(v1::GetReleaseReply { release: Some(self.release_view(&record.id)), descriptor, held_by })
    }
}

/// What an agent that compared files with this descriptor says it compared them with.
pub(super) fn descriptor_digest(descriptor: &Descriptor) -> Digest {
    Digest(sha2::Sha256::digest(descriptor.to_json()).into())
}
