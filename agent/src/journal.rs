//! What was begun and not yet settled for one service: intents and outcomes, one JSON line each, synced before
//! the act. After a crash the open intent says where to look; what is seen there decides (`plan`), not the journal.

use std::fs::{File, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

use fleet::{Generation, Hold, Millis, Nonce};
use serde::{Deserialize, Serialize};

use crate::confirm;
use crate::durable::{self, FileError};
use crate::permit::Moment;
use crate::plan::Step;

/// One line.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "entry", rename_all = "kebab-case")]
pub enum Entry {
    /// Work on an order begins.
    Begun {
        /// The order's generation.
        generation: Generation,
        /// What was last held well: where to go back to.
        from: Option<Hold>,
        /// What to hold.
        to: Hold,
    },
    /// A step is about to be done.
    Intends {
        /// The step.
        #[serde(flatten)]
        step: Step,
    },
    /// It is done.
    Did {
        /// Its name.
        name: String,
    },
    /// A step failed for good: from here the way leads back to `from`.
    TurnedBack {
        /// The step's name.
        name: String,
        /// Why it failed.
        reason: String,
    },
    /// It is carried out, and goes back by itself unless it is confirmed.
    Awaits(Awaits),
    /// It is confirmed.
    Confirmed,
}

/// Waiting for the controller's confirmation.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Awaits {
    /// Drawn for this attempt: an answer with another one is no answer.
    pub nonce: Nonce,
    /// How long it is waited for in all.
    pub within: Millis,
    /// From this moment on it is too late.
    pub deadline: Moment,
}

impl Awaits {
    /// How much time is left; never more than the whole. In another boot that is the whole: nobody can tell how much
    /// has passed.
    pub fn left(&self, now: &Moment) -> Millis {
        self.deadline.since(now).unwrap_or(self.within).min(self.within)
    }
}

/// How an attempt stands with the controller's confirmation.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Standing {
    /// Not asked for, or not yet.
    Open,
    /// It is waited for.
    Awaits(Awaits),
    /// It has come.
    Confirmed,
}

/// Which way an attempt goes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Direction {
    /// To what the order says.
    Forward,
    /// Back to what was held, since a step failed.
    Back {
        /// The step's name.
        step: String,
        /// Why it failed.
        reason: String,
    },
}

/// Work on an order that is not settled.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Attempt {
    /// The order's generation.
    pub generation: Generation,
    /// Where to go back to.
    pub from: Option<Hold>,
    /// What to hold.
    pub to: Hold,
    /// Which way it goes.
    pub direction: Direction,
    /// Whether what runs or lies here may be another than before the attempt, or before one that it has replaced and
    /// that nobody had confirmed.
    pub changed: bool,
    /// Whether it is confirmed.
    pub standing: Standing,
}

impl Attempt {
    /// Whether it is carried out and neither confirmed nor turned back.
    pub fn is_awaiting(&self) -> bool {
        self.direction == Direction::Forward && matches!(self.standing, Standing::Awaits(_))
    }

    /// Whether it goes on without the controller. An order that asks for a confirmation says beforehand what is to be
    /// done when the controller cannot be reached: going back to what was held needs no permit then, for the release
    /// that would have to wait for one may be what keeps the permit from coming.
    pub fn goes_on_alone(&self) -> bool {
        match &self.direction {
            Direction::Forward => self.standing != Standing::Open,
            Direction::Back { .. } => self.goes_back_alone(),
        }
    }

    /// Whether it goes back because nobody confirmed it.
    pub fn goes_back_alone(&self) -> bool {
        matches!(&self.direction, Direction::Back { step, .. } if step == confirm::STEP)
    }
}

/// The journal of one service.
#[derive(Debug)]
pub struct Journal {
    file: File,
    path: PathBuf,
    attempt: Option<Attempt>,
    open: Option<Step>,
}

impl Journal {
    /// Opens the journal and folds what it says. A last line without its end was never acknowledged and is cut off.
    ///
    /// # Errors
    /// The file and the line that cannot be read: guessing what was under way could start old code.
    pub fn open(path: &Path) -> Result<Self, FileError> {
        let mut options = OpenOptions::new();
        let file =
            options.read(true).append(true).create(true).mode(0o600).open(path).map_err(FileError::at("open", path))?;
        if let Some(directory) = path.parent() {
            durable::sync_directory(directory).map_err(FileError::at("sync", directory))?;
        }
        let bytes = std::fs::read(path).map_err(FileError::at("read", path))?;
        let whole = bytes.iter().rposition(|&b| b == b'\n').map_or(0, |at| at + 1);
        if whole < bytes.len() {
            tracing::warn!(journal = %path.display(), "a torn last line is cut off: it was never acknowledged");
            file.set_len(whole as u64).and_then(|()| file.sync_data()).map_err(FileError::at("repair", path))?;
        }
        let mut journal = Self { file, path: path.to_owned(), attempt: None, open: None };
        for (number, line) in bytes[..whole].split(|&b| b == b'\n').enumerate().filter(|(_, line)| !line.is_empty()) {
            let entry = serde_json::from_slice(line).map_err(|cause| {
                FileError::at("understand", path)(io::Error::other(format!(
                    "line {}: {cause}; the service is left as it is, move the file away to go on",
                    number + 1
                )))
            })?;
            journal.fold(&entry);
        }
        Ok(journal)
    }

    /// The attempt that is not settled.
    pub fn attempt(&self) -> Option<&Attempt> {
        self.attempt.as_ref()
    }

    /// The step that was intended and has no outcome.
    pub fn open_step(&self) -> Option<&Step> {
        self.open.as_ref()
    }

    /// Appends an entry; afterwards it survives a power loss.
    ///
    /// # Errors
    /// The file and the system's answer. Nothing may be done on the strength of the entry then.
    pub fn append(&mut self, entry: &Entry) -> Result<(), FileError> {
        let mut line =
            serde_json::to_vec(entry).map_err(io::Error::other).map_err(FileError::at("encode", &self.path))?;
        line.push(b'\n');
        let before = self.file.metadata().map_err(FileError::at("look at", &self.path))?.len();
        let write = self.file.write_all(&line).and_then(|()| self.file.sync_data());
        if let Err(cause) = write {
            // Half a line in the middle would make the journal unreadable later.
            let _ = self.file.set_len(before);
            return Err(FileError::at("append to", &self.path)(cause));
        }
        self.fold(entry);
        Ok(())
    }

    /// Takes an entry for true that could not be appended: it holds for as long as the agent runs.
    pub fn assume(&mut self, entry: &Entry) {
        self.fold(entry);
    }

    /// Forgets everything: the outcome is on record elsewhere.
    ///
    /// # Errors
    /// The file and the system's answer; the attempt is then resumed after a restart and found done.
    pub fn clear(&mut self) -> Result<(), FileError> {
        self.attempt = None;
        self.open = None;
        self.file.set_len(0).and_then(|()| self.file.sync_data()).map_err(FileError::at("clear", &self.path))
    }

    fn stands(&mut self, standing: Standing) {
        if let Some(attempt) = &mut self.attempt {
            attempt.standing = standing;
        }
    }

    fn fold(&mut self, entry: &Entry) {
        match entry {
            Entry::Begun { generation, from, to } => {
                self.open = None;
                let changed = self.attempt.as_ref().is_some_and(|replaced| replaced.changed);
                self.attempt = Some(Attempt {
                    generation: *generation,
                    from: from.clone(),
                    to: to.clone(),
                    direction: Direction::Forward,
                    changed,
                    standing: Standing::Open,
                });
            }
            Entry::Intends { step } => {
                self.open = Some(step.clone());
                if let Some(attempt) = &mut self.attempt {
                    attempt.changed |= step.changes();
                }
            }
            Entry::Awaits(awaits) => self.stands(Standing::Awaits(awaits.clone())),
            Entry::Confirmed => self.stands(Standing::Confirmed),
            Entry::Did { .. } => self.open = None,
            Entry::TurnedBack { name, reason } => {
                self.open = None;
                if let Some(attempt) = &mut self.attempt {
                    attempt.direction = Direction::Back { step: name.clone(), reason: reason.clone() };
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use fleet::{Digest, ReleaseId};

    fn awaits(boot: &str, ticks: u64) -> Awaits {
        let deadline = Moment { boot_id: boot.into(), ticks };
        Awaits { nonce: Nonce::from_random(1), within: Millis(5_000), deadline }
    }

    fn story() -> Vec<Entry> {
        let bundle = Digest([1; 32]);
        let release = ReleaseId::of(&bundle);
        let to = Hold::Release { release: release.clone(), bundle, size: 3 };
        vec![
            Entry::Begun { generation: Generation(4), from: None, to },
            Entry::Intends { step: Step::Stage { release: release.clone(), bundle } },
            Entry::Did { name: "stage".into() },
            Entry::Intends { step: Step::Switch { to: None } },
            Entry::Did { name: "switch".into() },
            Entry::Intends { step: Step::Start { release } },
            Entry::Did { name: "start".into() },
            Entry::Awaits(awaits("b", 900)),
            Entry::Awaits(awaits("c", 1_000)),
            Entry::Confirmed,
            Entry::TurnedBack { name: "start".into(), reason: "no".into() },
            Entry::Intends { step: Step::Stop },
        ]
    }

    #[test]
    fn wherever_it_ends_it_says_what_was_open() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("web.jsonl");
        let mut journal = Journal::open(&path).unwrap();
        for (n, entry) in story().into_iter().enumerate() {
            journal.append(&entry).unwrap();
            let again = Journal::open(&path).unwrap();
            assert_eq!(
                (again.attempt(), again.open_step()),
                (journal.attempt(), journal.open_step()),
                "after line {n}"
            );
        }
        assert!(matches!(journal.attempt().unwrap().direction, Direction::Back { .. }));
        assert_eq!(journal.open_step(), Some(&Step::Stop));
        journal.clear().unwrap();
        assert!(Journal::open(&path).unwrap().attempt().is_none());
    }

    #[test]
    fn what_is_left_is_told_by_the_boot_clock() {
        let now = |boot: &str, ticks| Moment { boot_id: boot.into(), ticks };
        for (at, left) in [
            (now("b", 500), 4_000),
            (now("b", 899), 10),
            (now("b", 900), 0),
            (now("b", 5_000), 0),
            (now("b", 0), 5_000),
            (now("c", 5_000), 5_000),
        ] {
            assert_eq!(awaits("b", 900).left(&at), Millis(left), "{at:?}");
        }
    }

    #[test]
    fn only_what_nobody_confirmed_goes_on_without_the_controller() {
        let dir = tempfile::tempdir().unwrap();
        let mut journal = Journal::open(&dir.path().join("web.jsonl")).unwrap();
        let begun = |generation| Entry::Begun { generation: Generation(generation), from: None, to: Hold::Nothing };
        let turned = |name: &str| Entry::TurnedBack { name: name.into(), reason: "no".into() };
        journal.append(&begun(1)).unwrap();
        let attempt = |journal: &Journal| {
            let attempt = journal.attempt().unwrap();
            (attempt.changed, attempt.goes_on_alone(), attempt.is_awaiting())
        };
        journal.append(&Entry::Intends { step: Step::Drain }).unwrap();
        assert_eq!(attempt(&journal), (false, false, false), "draining changes nothing that would stay");
        journal.append(&Entry::Intends { step: Step::Stop }).unwrap();
        assert_eq!(attempt(&journal), (true, false, false));
        journal.append(&Entry::Awaits(awaits("b", 9))).unwrap();
        assert_eq!(attempt(&journal), (true, true, true));
        journal.append(&turned(confirm::STEP)).unwrap();
        assert_eq!(attempt(&journal), (true, true, false));
        // The next order takes over what was changed, and nothing else.
        journal.append(&begun(2)).unwrap();
        assert_eq!(attempt(&journal), (true, false, false));
        journal.append(&turned("probe")).unwrap();
        assert_eq!(attempt(&journal), (true, false, false));
        journal.clear().unwrap();
        journal.append(&begun(3)).unwrap();
        assert_eq!(attempt(&journal), (false, false, false));
    }

    #[test]
    fn a_torn_tail_is_cut_and_a_broken_middle_is_an_error() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("web.jsonl");
        let mut journal = Journal::open(&path).unwrap();
        let story = story();
        for entry in &story[..4] {
            journal.append(entry).unwrap();
        }
        let whole = std::fs::read(&path).unwrap();
        let lines: Vec<usize> = whole.iter().enumerate().filter(|(_, b)| **b == b'\n').map(|(at, _)| at + 1).collect();
        for cut in 0..whole.len() {
            std::fs::write(&path, &whole[..cut]).unwrap();
            let mut journal = Journal::open(&path).unwrap();
            let kept = lines.iter().filter(|end| **end <= cut).count();
            assert_eq!(journal.attempt().is_some(), kept > 0);
            journal.append(&Entry::Did { name: "x".into() }).unwrap();
            Journal::open(&path).unwrap();
        }
        let mut broken = whole.clone();
        broken[lines[0] + 3] = b'\0';
        std::fs::write(&path, &broken).unwrap();
        let error = Journal::open(&path).unwrap_err().to_string();
        assert!(error.contains("line 2"), "{error}");
    }
}
