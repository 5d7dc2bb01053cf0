//! What one service on this node is known to be, kept on disk: what was last held well, what runs, what is owed.
//! Together with a look at the world this is all an agent needs after a restart.

use std::path::Path;

use fleet::{Generation, Hold, ReleaseId};
use serde::{Deserialize, Serialize};

use crate::durable::{self, FileError};
use crate::mend::Mending;
use crate::permit::{Moment, Permit};
use crate::platform::Running;

/// The version of the file.
const VERSION: u32 = 1;

/// The record of one service.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Record {
    /// What was last held, started and answered: where an undo goes.
    pub held: Option<Hold>,
    /// The release that this agent made live last, whatever `current` says now.
    pub live: Option<ReleaseId>,
    /// When it made it live.
    pub activated: Option<Moment>,
    /// The main process.
    pub running: Option<Running>,
    /// Whether that process has answered its probe since its start.
    pub answered: bool,
    /// Whether this agent took the node out of the balancer and still owes putting it back.
    pub drained: bool,
    /// What became of the newest order that was carried out or given up.
    pub settled: Option<Settled>,
    /// The last permit.
    pub permit: Option<Permit>,
    /// The newest repair.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub repair: Option<Mending>,
}

/// The end of an order.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Settled {
    /// The order's generation.
    pub generation: Generation,
    /// How it ended.
    pub outcome: Outcome,
}

/// How an order ended.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "outcome", rename_all = "kebab-case")]
pub enum Outcome {
    /// It is carried out.
    Held,
    /// It was given up; it is not tried again until a newer order comes.
    Failed {
        /// The step that failed.
        step: String,
        /// Why.
        reason: String,
    },
}

#[derive(Serialize, Deserialize)]
struct Saved {
    version: u32,
    #[serde(flatten)]
    record: serde_json::Value,
}

impl Record {
    /// Reads the record; a service without one is new here.
    ///
    /// # Errors
    /// A file that is there and cannot be read: the service is fenced then, not taken for new.
    pub fn load(path: &Path) -> Result<Self, FileError> {
        let Some(mut saved) = durable::read_json::<Saved>(path)? else {
            return Ok(Self::default());
        };
        let refuse = |reason: String| FileError::at("understand", path)(std::io::Error::other(reason));
        if saved.version != VERSION {
            return Err(refuse(format!(
                "it has version {}, this agent knows {VERSION}: run the agent that wrote it",
                saved.version
            )));
        }
        serde_json::from_value(saved.record.take())
            .map_err(|cause| refuse(format!("{cause}; the service is left as it is, move the file away to go on")))
    }

    /// Saves the record; afterwards it survives a power loss.
    ///
    /// # Errors
    /// The file and the system's answer; the old record is still there.
    pub fn save(&self, path: &Path) -> Result<(), FileError> {
        let record =
            serde_json::to_value(self).map_err(std::io::Error::other).map_err(FileError::at("encode", path))?;
        durable::write_json(path, &Saved { version: VERSION, record })
    }

    /// What became of the order of this generation, if it is settled.
    pub fn outcome(&self, generation: Generation) -> Option<&Outcome> {
        self.settled.as_ref().filter(|settled| settled.generation == generation).map(|settled| &settled.outcome)
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn a_record_reads_back_and_a_broken_one_is_an_error() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("web.json");
        assert_eq!(Record::load(&path).unwrap(), Record::default());
        let release: ReleaseId = "r-aaaaaaaaaaaa".parse().unwrap();
        let record = Record {
            held: Some(Hold::Nothing),
            live: Some(release.clone()),
            activated: Some(Moment { boot_id: "b".into(), ticks: 7 }),
            running: Some(Running { pid: 4, start_ticks: 5, boot_id: "b".into(), release }),
            answered: true,
            drained: true,
            settled: Some(Settled {
                generation: Generation(3),
                outcome: Outcome::Failed { step: "probe".into(), reason: "503".into() },
            }),
            permit: None,
            repair: None,
        };
        record.save(&path).unwrap();
        assert_eq!(Record::load(&path).unwrap(), record);
        assert!(record.outcome(Generation(3)).is_some() && record.outcome(Generation(4)).is_none());
        let text = std::fs::read_to_string(&path).unwrap();
        for broken in [
            "",
            "{}",
            &text[..text.len() / 2],
            &text.replace("\"version\": 1", "\"version\": 9"),
            &text.replace("drained", "draned"),
        ] {
            std::fs::write(&path, broken).unwrap();
            assert!(Record::load(&path).is_err(), "{broken}");
        }
    }
}
