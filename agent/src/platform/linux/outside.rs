//! Code that a service's own processes run and that is of none of its releases: libc and the like, an interpreter, or what
//! somebody put there. Which of it is told, and who brought it. Finding it is `processes`' work, knowing packages
//! `packages`'; whether it may be there is judged elsewhere.

use std::fs::File;
use std::path::{Path, PathBuf};

use fleet::evidence::{LinkState, Mapped, Owner};

use super::maps::Mapping;
use super::packages::Packages;

/// Files of the distribution told for one service. A program maps a handful, a virtual machine two dozen; more make
/// every attestation longer, and are counted.
const MOST_OUTSIDE: usize = 128;

/// A file of the distribution, or of nobody, that a process runs.
pub(super) struct Outside {
    pub(super) mapped: Mapped,
    pub(super) bytes: Bytes,
}

/// Where the bytes can be read that are really run.
pub(super) enum Bytes {
    Mapped(u32, Mapping),
    /// Behind this link of /proc.
    Executed(PathBuf),
}

impl Outside {
    fn open(&self) -> Option<File> {
        match &self.bytes {
            Bytes::Mapped(pid, mapping) => mapping.open(*pid).ok(),
            Bytes::Executed(link) => File::open(link).ok(),
        }
    }
}

/// What is told of them, and how many more there are.
pub(super) fn told(mut outside: Vec<Outside>, packages: &Packages) -> (Vec<Mapped>, u32) {
    // First what is least expected: files of no package, then those that were replaced.
    outside.sort_by_key(|Outside { mapped, .. }| (mapped.is_distribution(), mapped.link == LinkState::Linked));
    let omitted = u32::try_from(outside.len().saturating_sub(MOST_OUTSIDE)).unwrap_or(u32::MAX);
    outside.truncate(MOST_OUTSIDE);
    (owned(outside, packages), omitted)
}

/// The files with who brought them.
fn owned(outside: Vec<Outside>, packages: &Packages) -> Vec<Mapped> {
    let learned = packages.learn(outside.iter().map(|outside| Path::new(&outside.mapped.path)));
    let owner = |outside: &Outside| {
        let Mapped { path, digest, link, .. } = &outside.mapped;
        let Some(digest) = digest else { return Owner::Unknown };
        match packages.owner(&learned, Path::new(path), digest, || outside.open()) {
            // It had this name when somebody brought it; the next version may have another.
            Owner::Nobody if *link == LinkState::Deleted => Owner::Unknown,
            owner => owner,
        }
    };
    outside.into_iter().map(|outside| Mapped { owner: owner(&outside), ..outside.mapped }).collect()
}
