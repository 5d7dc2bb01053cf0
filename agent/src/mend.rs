//! Putting files of the held release back at a person's order: only what differs, each path in one step, and the service
//! is started anew only if one of its processes may have loaded what was wrong. That it was begun, and that a restart is
//! owed, is on record before the first file is touched, so that an agent that is killed in between ends it when it comes
//! up. Strays are evidence and nobody's to kill here.

use std::collections::BTreeSet;
use std::sync::Arc;

use fleet::evidence::{DeviationKind, FileDeviation, Progress};
use fleet::repair::{CURRENT, PutBack, RepairOrder, RepairReport, RepairState, Restart, loaded, restart_for};
use fleet::{Hold, Order};
use serde::{Deserialize, Serialize};

use crate::attempt::{Failure, Halt, Way};
use crate::execute::{is_newer, until_newer};
use crate::fetch;
use crate::keeper::{Keeper, Wish};
use crate::permit::Permission;
use crate::plan::{self, Answer, Scene, Supply, Traffic};
use crate::platform::linux::restore::Trees;
use crate::platform::{Look, Seen};
use crate::record::Outcome;
use crate::switch;

/// A look lists some hundred differences, and a directory that was put back may show what lies below it: more rounds than
/// this mean that somebody changes files faster than they are put back.
const MOST_ROUNDS: usize = 10;
/// The word for it, where steps have theirs.
const STEP: &str = "mend";

/// A repair on record.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Mending {
    /// What was ordered.
    pub order: RepairOrder,
    /// Whether a restart is owed, or was.
    pub restart: Restart,
    /// What was put back so far.
    pub put_back: Vec<PutBack>,
    /// How it ended; nothing while it is under way.
    pub end: Option<RepairState>,
}

impl Mending {
    fn new(order: RepairOrder) -> Self {
        Self { order, restart: Restart::NotNeeded, put_back: Vec::new(), end: None }
    }

    /// How it stands, as it is told.
    pub(crate) fn report(&self) -> RepairReport {
        let working = || RepairState::Working { detail: format!("{} put back", self.put_back.len()) };
        RepairReport { id: self.order.id.clone(), state: self.end.clone().unwrap_or_else(working) }
    }
}

impl Keeper {
    /// The repair that is to be done now: one under way, or a new one. What is over is not begun again.
    pub(crate) fn to_mend(&self, wish: &Wish) -> Option<Mending> {
        let settled = matches!(self.record.outcome(wish.order.generation), Some(Outcome::Held));
        let known = self.record.repair.as_ref();
        let open = known.filter(|mending| mending.end.is_none()).cloned();
        let new = wish.repair.as_ref().filter(|order| known.is_none_or(|mending| mending.order.id != order.id));
        let mending = open.or_else(|| new.cloned().map(Mending::new))?;
        // Under another order it only remains to say so; under this one the order itself comes first.
        (settled || mending.order.generation != wish.order.generation).then_some(mending)
    }

    /// Puts back what was ordered, and says how that ended.
    pub(crate) async fn mend(&mut self, wish: &Wish, mending: Mending) -> Result<(), Halt> {
        let order = &wish.order;
        tracing::warn!(service = %order.service, repair = %mending.order.id, "putting files back");
        self.record.repair = Some(mending.clone());
        self.save().map_err(Failure::at(STEP))?;
        self.tell_repair();
        let end = if mending.order.generation == order.generation && fits(&mending.order, order) {
            self.tell(Progress::Working { step: STEP.to_owned(), detail: "looking".to_owned() });
            match self.put_back(order, &mending.order).await {
                Ok(()) => None,
                Err(Halt::Failed(failure)) => Some(format!("{}: {}", failure.step, failure.reason)),
                // A newer order, or the end of the agent: whoever takes it up again sees which.
                Err(halt) => return Err(halt),
            }
        } else {
            Some(format!("order {} came before it was done", order.generation))
        };
        let done = self.record.repair.clone().unwrap_or(mending);
        let state = match end {
            None => RepairState::Done { put_back: done.put_back, restart: done.restart },
            Some(reason) if done.put_back.is_empty() => RepairState::Failed { reason },
            Some(reason) => RepairState::Failed { reason: format!("{reason}; {} were put back", done.put_back.len()) },
        };
        tracing::warn!(service = %order.service, repair = %done.order.id, ?state, "the repair has ended");
        if let Some(mending) = &mut self.record.repair {
            mending.end = Some(state);
        }
        // Saved before said. If it cannot be saved, a restart looks again and finds nothing to do.
        if let Err(error) = self.save() {
            tracing::error!("{error}");
        }
        self.tell_repair();
        Ok(())
    }

    async fn put_back(&mut self, order: &Order, repair: &RepairOrder) -> Result<(), Halt> {
        let beside = self.releases.place().root.join("releases").join(format!(".{}.mend.staging", repair.release));
        let files = self.put_files_back(order, repair, &beside).await;
        let left = fleet_bundle::remove_tree(&beside);
        fetch::forget(&self.tools.layout, &repair.bundle);
        files?;
        if let Err(error) = left {
            tracing::warn!(service = %order.service, "what was replaced is not removed yet: {error}");
        }
        if repair.covers_current() && self.releases.place().live().as_ref() != Some(&repair.release) {
            switch::switch(self.releases.place(), Some(&repair.release)).map_err(Failure::at("switch"))?;
            self.note_put_back(
                [PutBack { path: CURRENT.to_owned(), kind: DeviationKind::Symlink }],
                Restart::NotNeeded,
            )?;
        }
        if self.record.repair.as_ref().is_some_and(|mending| mending.restart == Restart::Needed) {
            self.start_anew(order).await?;
        }
        Ok(())
    }

    async fn put_files_back(
        &mut self,
        order: &Order,
        repair: &RepairOrder,
        beside: &std::path::Path,
    ) -> Result<(), Halt> {
        let descriptor = self.describe(&repair.release);
        let descriptor = descriptor.ok_or_else(|| fault("its release is not on this node's disk"))?;
        let mut before: Option<BTreeSet<(String, DeviationKind)>> = None;
        for _ in 0..MOST_ROUNDS {
            if is_newer(&self.wish.borrow(), order) {
                return Err(Halt::Superseded);
            }
            let seen = self.look_at_files(&repair.release, &descriptor).await?;
            let wrong: Vec<FileDeviation> =
                seen.files.into_iter().filter(|its| repair.covers(&its.path, its.kind)).collect();
            if wrong.is_empty() {
                return Ok(());
            }
            let these: BTreeSet<_> = wrong.iter().map(|its| (its.path.clone(), its.kind)).collect();
            if before.as_ref() == Some(&these) {
                let paths: Vec<_> = wrong.iter().take(5).map(|its| its.path.as_str()).collect();
                return Err(fault(&format!("still not as released: {}", paths.join(", "))));
            }
            before = Some(these);
            self.lay_ready(order, repair, &wrong, beside).await?;
            let restart = wrong
                .iter()
                .map(|its| {
                    restart_for(its.kind, loaded(&its.path, &repair.release, &descriptor.manifest, &seen.processes))
                })
                .find(|restart| *restart == Restart::Needed)
                .unwrap_or(Restart::NotNeeded);
            // On record before anything is touched: an agent that is killed in between still owes the restart.
            self.note_put_back(Vec::new(), restart)?;
            self.tools.points.pass("mend.intended")?;
            let root = self.releases.place().root.clone();
            let (release, manifest, beside) = (repair.release.clone(), descriptor.clone(), beside.to_owned());
            let put_back = tokio::task::spawn_blocking(move || -> Result<Vec<PutBack>, String> {
                let mut trees = Trees::open(&root, &release, &beside).map_err(|cause| cause.to_string())?;
                let mut done = Vec::new();
                for its in wrong {
                    let put = trees.put_back(&manifest.manifest, &its.path, its.kind);
                    put.map_err(|cause| format!("{}: {cause}", its.path))?;
                    done.push(PutBack { path: its.path, kind: its.kind });
                }
                Ok(done)
            });
            let put_back = put_back.await.map_err(|stopped| fault(&stopped.to_string()))?.map_err(|why| fault(&why))?;
            self.tools.points.pass("mend.replaced")?;
            self.note_put_back(put_back, Restart::NotNeeded)?;
        }
        Err(fault("files are changed faster than they are put back"))
    }

    async fn look_at_files(
        &self,
        release: &fleet::ReleaseId,
        descriptor: &Arc<fleet::release::Descriptor>,
    ) -> Result<Seen, Halt> {
        let (observer, place) = (self.tools.observer.clone(), self.releases.place().clone());
        let (running, release, descriptor) = (self.record.running.clone(), release.clone(), descriptor.clone());
        let known = self.status.borrow().known.clone();
        let look = move || {
            let held = Some((&release, &descriptor.manifest));
            let known = known.as_ref();
            observer.look(&Look {
                place: &place,
                held,
                running: running.as_ref(),
                known,
                neighbours: &[],
                activated: None,
            })
        };
        let seen = tokio::task::spawn_blocking(look).await.map_err(|stopped| fault(&stopped.to_string()))?;
        seen.map_err(|cause| fault(&format!("cannot look: {cause}")))
    }

    /// What takes the place of what is wrong: the release unpacked anew, or an empty directory where no bytes are needed.
    async fn lay_ready(
        &self,
        order: &Order,
        repair: &RepairOrder,
        wrong: &[FileDeviation],
        beside: &std::path::Path,
    ) -> Result<(), Halt> {
        let needs_bytes = wrong.iter().any(|its| match its.kind {
            DeviationKind::Mode | DeviationKind::Owner | DeviationKind::Extra => false,
            DeviationKind::File | DeviationKind::Missing | DeviationKind::Symlink | DeviationKind::Unreadable => true,
        });
        let bundle = self.tools.layout.bundle(&repair.bundle);
        if needs_bytes {
            let progress = |detail: String| self.tell(Progress::Working { step: STEP.to_owned(), detail });
            let source = self.tools.source.as_ref();
            let fetching = async {
                let _bench = self.tools.yard.bench(&order.service).await;
                fetch::fetch(source, &self.tools.layout, &repair.bundle, repair.size, &progress).await
            };
            until_newer(self.wish.clone(), order, fetching).await?.map_err(|error| fault(&error.to_string()))?;
        }
        let (beside, digest) = (beside.to_owned(), repair.bundle);
        let laid = tokio::task::spawn_blocking(move || -> Result<(), String> {
            fleet_bundle::remove_tree(&beside).map_err(|cause| cause.to_string())?;
            if !needs_bytes {
                return std::fs::create_dir(&beside).map_err(|cause| cause.to_string());
            }
            let mut file = std::fs::File::open(&bundle).map_err(|cause| cause.to_string())?;
            fleet_bundle::unpack_exactly(&mut file, &digest, &beside).map(drop).map_err(|error| error.to_string())
        });
        laid.await.map_err(|stopped| fault(&stopped.to_string()))?.map_err(|why| fault(&why))
    }

    /// Writes down what was put back, and that a restart is owed if it is.
    fn note_put_back(&mut self, put_back: impl IntoIterator<Item = PutBack>, restart: Restart) -> Result<(), Halt> {
        if let Some(mending) = &mut self.record.repair {
            mending.put_back.extend(put_back);
            if restart == Restart::Needed {
                mending.restart = Restart::Needed;
            }
        }
        self.save().map_err(Failure::at(STEP))?;
        self.tell_repair();
        Ok(())
    }

    /// Stops the service and starts it from what lies there now, as an order would.
    async fn start_anew(&mut self, order: &Order) -> Result<(), Halt> {
        let traffic = match (&self.tools.balancer, self.record.drained) {
            (None, _) => Traffic::NotBalanced,
            (Some(_), true) => Traffic::Unsure,
            (Some(_), false) => Traffic::Allowed,
        };
        let current = order.hold.release().cloned();
        let scene = Scene { current, running: None, supply: Supply::Staged, answer: Answer::Outstanding, traffic };
        let end = self.walk_steps(order, plan::steps(&order.hold, &scene)).await;
        if !matches!(end, Err(Halt::Interrupted))
            && self.journal.attempt().is_none()
            && let Err(error) = self.journal.clear()
        {
            tracing::warn!("{error}");
        }
        end
    }

    async fn walk_steps(&mut self, order: &Order, steps: Vec<plan::Step>) -> Result<(), Halt> {
        let wish = self.wish.borrow().clone();
        // What is stopped must be allowed to start again.
        if let Permission::Refused { reason } = self.permission(&wish) {
            return Err(fault(&format!("not restarted: {reason}")));
        }
        for step in steps {
            if is_newer(&self.wish.borrow(), order) {
                return Err(Halt::Superseded);
            }
            self.tell_step(&step, Way::Forward, "after a repair");
            self.perform(order, &step, Way::Forward).await?;
        }
        Ok(())
    }

    pub(crate) fn tell_repair(&self) {
        let report = self.record.repair.as_ref().map(Mending::report);
        self.status.send_if_modified(|status| {
            let new = status.repair != report;
            status.repair = report;
            new
        });
    }
}

/// Whether a repair is of the very release that the order says.
fn fits(repair: &RepairOrder, order: &Order) -> bool {
    matches!(&order.hold, Hold::Release { release, bundle, size }
        if (release, bundle, size) == (&repair.release, &repair.bundle, &repair.size))
}

fn fault(reason: &str) -> Halt {
    Halt::Failed(Failure { step: STEP, reason: reason.to_owned() })
}
