//! Putting the files of a release back on one node: what is ordered, and what came of it. It changes nothing of what
//! the node shall hold. Whether it may be begun is the controller's to decide, doing it the agent's.

use serde::{Deserialize, Serialize};

use crate::evidence::{DeviationKind, Process};
use crate::manifest::{EntryKind, Manifest};
use crate::{Digest, Generation, NodeName, ReleaseId, RepairId, ServiceName};

/// What names the link `current` among the paths of a repair.
pub const CURRENT: &str = "current";
/// The most paths in one order: beyond that everything is meant.
pub const MOST_PATHS: usize = 200;

/// What shall be put back.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct RepairOrder {
    /// Which repair: the same id said again is the same repair.
    pub id: RepairId,
    /// Where.
    pub node: NodeName,
    /// Of which service.
    pub service: ServiceName,
    /// The order that it rests on: under a newer one it is not begun, and not ended.
    pub generation: Generation,
    /// The release whose files they are.
    pub release: ReleaseId,
    /// Its bundle.
    pub bundle: Digest,
    /// The size of its bundle in bytes.
    pub size: u64,
    /// Paths below the release; empty: everything that differs.
    pub paths: Vec<String>,
    /// What becomes of files that no release brought.
    pub extras: Extras,
}

/// What becomes of files that no release brought.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Extras {
    /// They stay: they may be somebody's data.
    Keep,
    /// They go.
    Remove,
}

impl RepairOrder {
    /// Whether this difference is to be put right.
    pub fn covers(&self, path: &str, kind: DeviationKind) -> bool {
        let wanted = self.paths.is_empty() || self.paths.iter().any(|named| is_below(path, named));
        match kind {
            DeviationKind::Extra => wanted && self.extras == Extras::Remove,
            DeviationKind::File
            | DeviationKind::Mode
            | DeviationKind::Owner
            | DeviationKind::Missing
            | DeviationKind::Symlink
            | DeviationKind::Unreadable => wanted,
        }
    }

    /// Whether the link `current` is to be put right.
    pub fn covers_current(&self) -> bool {
        self.paths.is_empty() || self.paths.iter().any(|named| named == CURRENT)
    }
}

fn is_below(path: &str, above: &str) -> bool {
    let above = above.trim_end_matches('/');
    path.strip_prefix(above).is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
}

/// How a repair stands.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct RepairReport {
    /// Which.
    pub id: RepairId,
    /// How it stands.
    pub state: RepairState,
}

/// How far a repair is.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "state", rename_all = "kebab-case")]
pub enum RepairState {
    /// At work.
    Working {
        /// With what.
        detail: String,
    },
    /// Everything that was ordered is put back.
    Done {
        /// What was.
        put_back: Vec<PutBack>,
        /// Whether the service was started anew.
        restart: Restart,
    },
    /// It could not be done, or not all of it.
    Failed {
        /// Why, and what was done.
        reason: String,
    },
}

impl RepairState {
    /// Whether it is over.
    pub fn is_over(&self) -> bool {
        match self {
            Self::Working { .. } => false,
            Self::Done { .. } | Self::Failed { .. } => true,
        }
    }
}

/// One path that was put right.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct PutBack {
    /// Which.
    pub path: String,
    /// What was wrong with it.
    pub kind: DeviationKind,
}

/// Whether the service had to be started anew.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Restart {
    /// No process can have loaded what was changed.
    NotNeeded,
    /// One may have.
    Needed,
}

/// What the service's processes have of a path that differs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Loaded {
    /// It is a program or a library, and every process that has it is seen to execute the release's own.
    Proven,
    /// They may have started with it, or read it since.
    Perhaps,
}

/// What the processes of a service have of one path of the release: judged by what they really execute.
pub fn loaded(path: &str, release: &ReleaseId, manifest: &Manifest, processes: &[Process]) -> Loaded {
    let Some(EntryKind::File { sha256, .. }) = manifest.get(path).map(|entry| &entry.kind) else {
        return Loaded::Perhaps;
    };
    let ending = format!("/{release}/{path}");
    let mut here = processes
        .iter()
        .flat_map(|process| process.mappings.iter().chain([&process.executable]))
        .filter(|mapped| mapped.release.as_ref() == Some(release) && mapped.path.ends_with(&ending))
        .peekable();
    if here.peek().is_some() && here.all(|mapped| mapped.digest.as_ref() == Some(sha256)) {
        Loaded::Proven
    } else {
        Loaded::Perhaps
    }
}

/// Whether the service must be started anew after a path was put right. Bits and owners of a file are no code; other
/// bytes are, and so is what was not there.
pub fn restart_for(kind: DeviationKind, loaded: Loaded) -> Restart {
    match (kind, loaded) {
        (DeviationKind::Mode | DeviationKind::Owner, _)
        | (DeviationKind::File | DeviationKind::Missing, Loaded::Proven) => Restart::NotNeeded,
        (DeviationKind::File | DeviationKind::Missing, Loaded::Perhaps)
        | (DeviationKind::Extra | DeviationKind::Symlink | DeviationKind::Unreadable, _) => Restart::Needed,
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    fn order(paths: &[&str], extras: Extras) -> RepairOrder {
        RepairOrder {
            id: RepairId::from_random(7),
            node: "n1".parse().unwrap(),
            service: "web".parse().unwrap(),
            generation: Generation(3),
            release: "r-aaaaaaaaaaaa".parse().unwrap(),
            bundle: Digest([1; 32]),
            size: 9,
            paths: paths.iter().map(|&path| path.into()).collect(),
            extras,
        }
    }

    #[test]
    fn a_repair_touches_what_it_names() {
        use DeviationKind::{Extra, File};
        let all = order(&[], Extras::Keep);
        assert!(all.covers("etc/conf", File) && all.covers_current());
        assert!(!all.covers("etc/more", Extra), "what is there beside the release may be somebody's data");
        assert!(order(&[], Extras::Remove).covers("etc/more", Extra));
        let some = order(&["etc/", "bin/web"], Extras::Remove);
        assert!(some.covers("etc/conf", File) && some.covers("etc", File) && some.covers("bin/web", File));
        assert!(!some.covers("bin/web2", File) && !some.covers("etcetera", Extra) && !some.covers_current());
        assert!(order(&[CURRENT], Extras::Keep).covers_current());
    }

    #[test]
    fn only_what_may_have_been_loaded_costs_a_restart() {
        use DeviationKind::{Extra, File, Missing, Mode, Owner, Symlink, Unreadable};
        for kind in [Mode, Owner] {
            assert_eq!(restart_for(kind, Loaded::Perhaps), Restart::NotNeeded);
        }
        for kind in [File, Missing, Extra, Symlink, Unreadable] {
            assert_eq!(restart_for(kind, Loaded::Perhaps), Restart::Needed);
        }
        for kind in [File, Missing] {
            assert_eq!(restart_for(kind, Loaded::Proven), Restart::NotNeeded);
        }
        assert_eq!(restart_for(Extra, Loaded::Proven), Restart::Needed);
    }
}
