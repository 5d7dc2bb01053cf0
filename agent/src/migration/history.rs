//! What was run of one service's migrations on this node: one file, replaced whole and synced, so that a migration is
//! begun on the disk before it is begun. When to write is `migration`'s.

use std::path::{Path, PathBuf};

use fleet::deployment::{MigrationOrder, MigrationReport};
use fleet::evidence::MigrationEvidence;
use fleet::{DeploymentId, ReleaseId};
use serde::{Deserialize, Serialize};

use crate::durable::{self, FileError};

/// The version of the file.
const VERSION: u32 = 1;
/// The newest that are remembered: the controller orders no migration of a deployment that is over, and there is one
/// deployment of a service at a time.
const MOST_KEPT: usize = 32;

/// How far one has come.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "standing", rename_all = "kebab-case", deny_unknown_fields)]
pub(super) enum Standing {
    /// It is, or will be in this moment, at work.
    Begun,
    /// Its end.
    Ended {
        /// As told to the controller.
        report: MigrationReport,
    },
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
struct Kept {
    deployment: DeploymentId,
    attempt: u32,
    name: String,
    release: Option<ReleaseId>,
    #[serde(flatten)]
    standing: Standing,
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Saved {
    version: u32,
    /// Oldest first.
    migrations: Vec<Kept>,
}

/// The migrations of one service.
#[derive(Debug)]
pub(super) struct History {
    path: PathBuf,
    kept: Vec<Kept>,
}

impl History {
    /// Reads it; a service without one never ran a migration here.
    ///
    /// # Errors
    /// A file that is there and cannot be read: what was run must not be taken for never run.
    pub(super) fn open(path: &Path) -> Result<Self, FileError> {
        let saved = durable::read_json::<Saved>(path)?;
        let refuse = |reason: String| FileError::at("understand", path)(std::io::Error::other(reason));
        let kept = match saved {
            None => Vec::new(),
            Some(Saved { version: VERSION, migrations }) => migrations,
            Some(Saved { version, .. }) => {
                return Err(refuse(format!("it has version {version}, this agent knows {VERSION}")));
            }
        };
        Ok(Self { path: path.to_owned(), kept })
    }

    /// Whether this attempt, or a later one of the same deployment, was begun or given up here.
    pub(super) fn knows(&self, deployment: &DeploymentId, attempt: u32) -> bool {
        self.kept.iter().any(|kept| kept.deployment == *deployment && kept.attempt >= attempt)
    }

    /// Whether this very attempt was begun, and did not succeed as far as is known.
    pub(super) fn is_unfinished(&self, deployment: &DeploymentId, attempt: u32) -> bool {
        let succeeded = Standing::Ended { report: MigrationReport::Succeeded };
        let this = |kept: &&Kept| kept.deployment == *deployment && kept.attempt == attempt;
        self.kept.iter().find(this).is_some_and(|kept| kept.standing != succeeded)
    }

    /// Those that were begun and have no end.
    pub(super) fn open_ones(&self) -> Vec<(DeploymentId, u32, ReleaseId)> {
        let open = self.kept.iter().filter(|kept| kept.standing == Standing::Begun);
        open.filter_map(|kept| Some((kept.deployment.clone(), kept.attempt, kept.release.clone()?))).collect()
    }

    /// Those that have ended, oldest first.
    pub(super) fn ended(&self) -> Vec<MigrationEvidence> {
        let ended = |kept: &Kept| match &kept.standing {
            Standing::Begun => None,
            Standing::Ended { report } => Some(MigrationEvidence {
                deployment: kept.deployment.clone(),
                attempt: kept.attempt,
                report: report.clone(),
            }),
        };
        self.kept.iter().filter_map(ended).collect()
    }

    /// Writes how `order` stands; afterwards that survives a power loss.
    ///
    /// # Errors
    /// The file and the system's answer; nothing has changed then.
    pub(super) fn write(&mut self, order: &MigrationOrder, standing: Standing) -> Result<(), FileError> {
        let mut kept = self.kept.clone();
        kept.retain(|its| its.deployment != order.deployment || its.attempt != order.attempt);
        kept.push(Kept {
            deployment: order.deployment.clone(),
            attempt: order.attempt,
            name: order.name.clone(),
            release: order.hold.release().cloned(),
            standing,
        });
        let surplus = kept.len().saturating_sub(MOST_KEPT);
        kept.drain(..surplus);
        self.save(kept)
    }

    /// Writes the end of one that is in it. Memory knows it even if the disk does not.
    ///
    /// # Errors
    /// The file and the system's answer.
    pub(super) fn end(
        &mut self,
        deployment: &DeploymentId,
        attempt: u32,
        report: MigrationReport,
    ) -> Result<(), FileError> {
        for kept in &mut self.kept {
            if kept.deployment == *deployment && kept.attempt == attempt {
                kept.standing = Standing::Ended { report: report.clone() };
            }
        }
        self.save(self.kept.clone())
    }

    fn save(&mut self, kept: Vec<Kept>) -> Result<(), FileError> {
        let saved = Saved { version: VERSION, migrations: kept };
        durable::write_json(&self.path, &saved)?;
        self.kept = saved.migrations;
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use fleet::{Digest, Hold, Millis};

    fn order(deployment: &str, attempt: u32) -> MigrationOrder {
        let bundle = Digest([1; 32]);
        MigrationOrder {
            deployment: deployment.parse().unwrap(),
            attempt,
            node: "n1".parse().unwrap(),
            service: "web".parse().unwrap(),
            hold: Hold::Release { release: ReleaseId::of(&bundle), bundle, size: 1 },
            name: "migrate".into(),
            command: "true".into(),
            timeout: Millis(1),
        }
    }

    #[test]
    fn what_was_begun_is_known_for_ever_and_in_every_run() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("web.json");
        let (one, two) = (order("d-one", 2), order("d-two", 1));
        let mut history = History::open(&path).unwrap();
        assert!(!history.knows(&one.deployment, 1));
        history.write(&one, Standing::Begun).unwrap();
        let mut history = History::open(&path).unwrap();
        assert!(history.knows(&one.deployment, 2) && history.knows(&one.deployment, 1), "an older attempt is over");
        assert!(!history.knows(&one.deployment, 3) && !history.knows(&two.deployment, 1));
        assert_eq!(history.open_ones().len(), 1);
        history.write(&one, Standing::Ended { report: MigrationReport::Succeeded }).unwrap();
        history.write(&two, Standing::Begun).unwrap();
        let mut history = History::open(&path).unwrap();
        assert_eq!(history.open_ones(), [(two.deployment.clone(), 1, two.hold.release().unwrap().clone())]);
        assert_eq!(history.ended().len(), 1);
        history.end(&two.deployment, 1, MigrationReport::Interrupted { reason: "x".into() }).unwrap();
        assert_eq!(History::open(&path).unwrap().ended().len(), 2);
        for n in 0..100 {
            history.write(&order("d-one", 10 + n), Standing::Begun).unwrap();
        }
        assert_eq!(History::open(&path).unwrap().kept.len(), MOST_KEPT);
    }

    #[test]
    fn a_file_that_cannot_be_read_is_never_empty() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("web.json");
        History::open(&path).unwrap().write(&order("d-one", 1), Standing::Begun).unwrap();
        let whole = std::fs::read_to_string(&path).unwrap();
        for broken in ["", "{}", &whole[..whole.len() / 2], &whole.replace("\"version\": 1", "\"version\": 2")] {
            std::fs::write(&path, broken).unwrap();
            assert!(History::open(&path).unwrap_err().to_string().contains("web.json"), "{broken}");
        }
    }
}
