//! The reverse index of an agent: which release a file's bytes are of, over every release that this node ever held. Kept
//! small, since a node holds it for as long as it runs: 34 bytes a digest. Where it is kept on the disk is `releases`'
//! affair.

use fleet::{Digest, ReleaseId};

/// Digests of files, each with the newest release that has it.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Known {
    /// Sorted, each digest once; the release by number.
    digests: Vec<(Digest, u16)>,
    releases: Vec<ReleaseId>,
}

impl Known {
    /// The index over these releases, oldest first. More than 65,535 are not told apart: the oldest are left out.
    pub fn of(releases: impl IntoIterator<Item = (ReleaseId, Vec<Digest>)>) -> Self {
        let mut all: Vec<_> = releases.into_iter().collect();
        all.drain(..all.len().saturating_sub(usize::from(u16::MAX)));
        let mut known = Self::default();
        known.digests.reserve_exact(all.iter().map(|(_, digests)| digests.len()).sum());
        for (number, (release, digests)) in (0..).zip(all) {
            known.releases.push(release);
            known.digests.extend(digests.into_iter().map(|digest| (digest, number)));
        }
        // The newest of each digest first, and it is the one that stays.
        known.digests.sort_unstable_by(|(a, of_a), (b, of_b)| a.cmp(b).then(of_b.cmp(of_a)));
        known.digests.dedup_by_key(|(digest, _)| *digest);
        known.digests.shrink_to_fit();
        known
    }

    /// The newest release that has a file of this digest.
    pub fn get(&self, digest: &Digest) -> Option<&ReleaseId> {
        let at = self.digests.binary_search_by(|(own, _)| own.cmp(digest)).ok()?;
        self.releases.get(usize::from(self.digests[at].1))
    }

    /// Whether a file of some release has this digest.
    pub fn contains(&self, digest: &Digest) -> bool {
        self.digests.binary_search_by(|(own, _)| own.cmp(digest)).is_ok()
    }

    /// How many digests are known.
    pub fn len(&self) -> usize {
        self.digests.len()
    }

    /// Whether none is.
    pub fn is_empty(&self) -> bool {
        self.digests.is_empty()
    }

    /// Some digest of a release that no newer one has.
    pub fn digest_of(&self, release: &ReleaseId) -> Option<&Digest> {
        let number = self.releases.iter().position(|known| known == release)?;
        self.digests.iter().find(|(_, of)| usize::from(*of) == number).map(|(digest, _)| digest)
    }

    /// Learns one more digest.
    pub fn insert(&mut self, digest: Digest, release: ReleaseId) {
        let number = self.releases.iter().position(|known| *known == release).unwrap_or_else(|| {
            self.releases.push(release);
            self.releases.len() - 1
        });
        let Ok(number) = u16::try_from(number) else { return };
        match self.digests.binary_search_by(|(own, _)| own.cmp(&digest)) {
            Ok(at) => self.digests[at].1 = number,
            Err(at) => self.digests.insert(at, (digest, number)),
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use std::collections::BTreeMap;

    use proptest::prelude::*;

    fn release(number: usize) -> ReleaseId {
        format!("r-{number:012x}").parse().unwrap()
    }

    proptest! {
        /// Against the plain map that it stands for.
        #[test]
        fn it_is_a_map_in_which_the_newest_wins(
            releases in proptest::collection::vec(proptest::collection::vec(0..20u8, 0..12), 0..6),
            more in proptest::collection::vec((0..20u8, 0..8usize), 0..5),
        ) {
            let digest = |byte: u8| Digest([byte; 32]);
            let mut map = BTreeMap::new();
            for (number, digests) in releases.iter().enumerate() {
                map.extend(digests.iter().map(|byte| (digest(*byte), release(number))));
            }
            let listed = releases.iter().enumerate();
            let mut known =
                Known::of(listed.map(|(number, digests)| (release(number), digests.iter().map(|b| digest(*b)).collect())));
            for (byte, of) in more {
                map.insert(digest(byte), release(of));
                known.insert(digest(byte), release(of));
            }
            prop_assert_eq!((known.len(), known.is_empty()), (map.len(), map.is_empty()));
            for byte in 0..20 {
                prop_assert_eq!(known.get(&digest(byte)), map.get(&digest(byte)));
                prop_assert_eq!(known.contains(&digest(byte)), map.contains_key(&digest(byte)));
            }
            for number in 0..8 {
                let has = map.values().any(|of| *of == release(number));
                let told = known.digest_of(&release(number));
                prop_assert_eq!(told.is_some(), has);
                prop_assert!(told.is_none_or(|told| map[told] == release(number)));
            }
        }
    }
}
