//! What the last look at the processes of a node found, so that the next need not look into every one of them: whoever
//! belongs to the service is looked into every time, and so is whoever is new or executes something else; the others are
//! looked into again in good time, as they may have moved or mapped something. Looking is `processes`' work.

use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::path::PathBuf;
use std::sync::Mutex;

use fleet::looked::Depth;
use fleet::{Millis, ReleaseId};

use super::boot_clock;
use super::crowd::Crowd;
use super::digests::Digests;
use super::processes::{Among, Found, Watch};
use super::trees::lock;
use crate::platform::{Look, Running};

/// Everybody is looked into this many times as long after it was last done as it took, in a quiet node: 8 ms every 40 s.
const REST: u64 = 5_000;
/// And in any case between these.
const SOONEST: Millis = Millis::from_secs(10);
const LATEST: Millis = Millis::from_secs(60);

/// The last looks, by service.
#[derive(Debug, Default)]
pub(super) struct Recall {
    last: Mutex<BTreeMap<PathBuf, Last>>,
}

#[derive(Debug)]
struct Last {
    /// What was asked; with another question everybody is looked into.
    question: Question,
    /// Who was there before the last look began.
    crowd: Crowd,
    /// Who belongs to the service.
    members: BTreeSet<u32>,
    hidden: u32,
    /// When everybody was last looked into, since boot.
    everybody: Millis,
    took_nanos: u64,
}

#[derive(Debug, Clone, PartialEq, Eq)]
struct Question {
    held: Option<ReleaseId>,
    running: Option<Running>,
    activated: Option<(String, u64)>,
    neighbours: Vec<PathBuf>,
    known: usize,
}

impl Question {
    fn of(look: &Look<'_>) -> Self {
        Self {
            held: look.held.map(|(release, _)| release.clone()),
            running: look.running.cloned(),
            activated: look.activated.map(|(boot_id, ticks)| (boot_id.to_owned(), ticks)),
            neighbours: look.neighbours.to_vec(),
            known: look.known.len(),
        }
    }
}

impl Last {
    fn is_due(&self, now: Millis) -> bool {
        let pause = Millis(self.took_nanos.saturating_mul(REST) / 1_000_000).clamp(SOONEST, LATEST);
        now.0.saturating_sub(self.everybody.0) >= pause.0
    }
}

impl Recall {
    /// Looks at the processes of the node; whatever is asked, nobody who belongs to the service is taken for granted.
    ///
    /// # Errors
    /// /proc could not be listed.
    pub(super) fn processes(
        &self,
        watch: &Watch,
        look: &Look<'_>,
        digests: &Digests,
        depth: Depth,
    ) -> io::Result<Found> {
        let (now, began) = (boot_clock::now(), boot_clock::nanos());
        let question = Question::of(look);
        let last = lock(&self.last).remove(&look.place.root);
        let crowd = Crowd::glance(last.as_ref().map(|last| &last.crowd))?;
        let last = last.filter(|last| depth == Depth::Events && last.question == question && !last.is_due(now));
        let (found, everybody, took_nanos) = match last {
            None => {
                let found = watch.processes(look, digests, Among::Everybody)?;
                (found, now, boot_clock::nanos().saturating_sub(began))
            }
            Some(last) => {
                let new = crowd.new_since(&last.crowd);
                let among = if new.is_empty() {
                    Among::Members(last.members)
                } else {
                    Among::Newcomers(last.members.into_iter().chain(new).collect())
                };
                let found = watch.processes(look, digests, among)?;
                (Found { hidden: last.hidden.max(found.hidden), ..found }, last.everybody, last.took_nanos)
            }
        };
        let members = found.processes.iter().map(|process| process.pid).collect();
        let last = Last { question, crowd, members, hidden: found.hidden, everybody, took_nanos };
        lock(&self.last).insert(look.place.root.clone(), last);
        Ok(found)
    }
}
