//! What a keeper does when its agent comes up: it looks which acts were done before the agent was ended, and finds a
//! process that was started and not written down. Nothing is started or stopped here.

use std::collections::BTreeSet;

use fleet::ReleaseId;
use fleet::evidence::{Process, Started};

use crate::durable::FileError;
use crate::journal::Direction;
use crate::keeper::Keeper;
use crate::known::Known;
use crate::permit::Moment;
use crate::plan::Step;
use crate::platform::{Look, Running};
use crate::service_log::Cause;
use crate::switch;

impl Keeper {
    /// Looks at the world after a start of the agent: which acts were done before it was ended?
    pub(crate) fn wake(&mut self) -> Result<(), FileError> {
        let service = self.releases.place().service.clone();
        // A newer order may have been saved since: what was started was started for the one under way.
        let ordered = self.wish.borrow().order.generation;
        let generation = self.journal.attempt().map_or(ordered, |attempt| attempt.generation);
        if let Some(Step::Start { release }) = self.journal.open_step().cloned()
            && !self.main_alive()
            && let Some(found) = self.find_started(&release)
        {
            tracing::info!(%service, pid = found.pid, %release, "found the process that was started before the agent ended");
            let cause = self.journal.attempt().map_or(Cause::Crash, |attempt| {
                if attempt.direction == Direction::Forward { Cause::Order } else { Cause::Undo }
            });
            self.note_start(generation, &found, cause);
            self.record.running = Some(found);
            self.record.answered = false;
        }
        if self.main_alive() {
            self.seen_alive = true;
            tracing::info!(%service, pid = self.record.running.as_ref().map(|running| running.pid), "the service runs; it is left as it is");
        } else {
            self.record.running = None;
            self.record.answered = false;
        }
        match switch::current(self.releases.place()) {
            Ok(current) if current != self.record.live => {
                let aims = self.journal.attempt().map(|attempt| [Some(&attempt.to), attempt.from.as_ref()]);
                let ours = aims.into_iter().flatten().flatten().any(|hold| hold.release() == current.as_ref());
                if ours || (self.journal.attempt().is_some() && current.is_none()) {
                    // Switched, and ended before that was recorded. What runs of it, if anything, was started since.
                    let since =
                        self.record.running.as_ref().filter(|running| Some(&running.release) == current.as_ref());
                    let started =
                        since.map(|running| Moment { boot_id: running.boot_id.clone(), ticks: running.start_ticks });
                    self.record.activated = Some(started.unwrap_or_else(|| self.tools.now()));
                    self.record.live = current;
                } else {
                    tracing::error!(%service, ?current, recorded = ?self.record.live, "`current` was changed by somebody else; it is left as it is and shows as drift");
                }
            }
            Ok(_) => {}
            Err(error) => tracing::error!(%service, "{error}"),
        }
        self.save()?;
        self.publish();
        Ok(())
    }

    /// The process that an interrupted start made: the oldest that carries the mark of this release. A stop comes
    /// before every start, so whatever carries it was started by that very step. A service that cleans its environment
    /// has lost the mark; what it executes tells as well, and then where it stands, if it was started since the switch:
    /// whoever only visits the release's directory must not be taken for it.
    fn find_started(&self, release: &ReleaseId) -> Option<Running> {
        /// Ages come from /proc in ticks; between reading them and now a slow machine passes a few more.
        const SLACK: u64 = 200;
        let place = self.releases.place();
        let known = Known::default();
        let activated = self.record.activated.as_ref().map(|moment| (moment.boot_id.as_str(), moment.ticks));
        let look = Look { place, held: None, running: None, known: &known, neighbours: &[], activated };
        let seen = self.tools.observer.look(&look);
        let now = self.tools.now();
        let seen = seen.inspect_err(|cause| tracing::error!("cannot look for a started process: {cause}")).ok()?;
        let likeness = |process: &Process| {
            let signs = [&process.marker, &process.executable.release, &process.cwd];
            let sign = signs.into_iter().position(|its| its.as_ref() == Some(release))?;
            (sign == 0 || (process.marker.is_none() && process.started != Started::BeforeActivation)).then_some(sign)
        };
        // A migration that outlived its agent stands in the directory of the same release.
        let errands: BTreeSet<u32> = self.tools.supervisor.errands().into_iter().map(|errand| errand.pid).collect();
        let mut alike: Vec<(usize, Process)> = seen
            .processes
            .into_iter()
            .filter(|process| !errands.contains(&process.pid))
            .filter_map(|process| Some((likeness(&process)?, process)))
            .collect();
        alike.sort_by_key(|(sign, process)| (*sign, std::cmp::Reverse(process.age)));
        alike.into_iter().find_map(|(_, process)| {
            let about = now.ticks.saturating_sub(process.age.0 / 10);
            let at = |start_ticks| Running {
                pid: process.pid,
                start_ticks,
                boot_id: now.boot_id.clone(),
                release: release.clone(),
            };
            (about.saturating_sub(SLACK)..=about + SLACK)
                .map(at)
                .find(|candidate| self.tools.supervisor.is_running(candidate))
        })
    }
}
