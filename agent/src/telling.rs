//! What a keeper says of its service: how far it is, how the service is, what is live, and when it was started.
//! What is made of it for the controller is `observe`'s.

use std::sync::Arc;

use fleet::evidence::{Health, Progress, Stranger};
use fleet::{Digest, Generation};
use sha2::Digest as _;

use crate::clock;
use crate::keeper::{Keeper, Live};
use crate::platform::Running;
use crate::probe::BadAnswer;
use crate::service_log::{Cause, Start};

impl Keeper {
    /// Says how far it is, always together with the order that this is about.
    pub(crate) fn tell(&self, progress: Progress) {
        let confirmation = self.confirmation(self.at);
        self.status.send_if_modified(|status| {
            let new =
                status.progress != progress || status.generation != self.at || status.confirmation != confirmation;
            status.progress = progress;
            status.generation = self.at;
            status.confirmation = confirmation;
            new
        });
    }

    pub(crate) fn tell_health(&self, health: Health) {
        self.tell_answer(health, None);
    }

    /// Says that the service did not answer as it should, and who listens in its place if somebody does.
    pub(crate) fn tell_bad_answer(&self, bad: BadAnswer) {
        self.tell_answer(Health::Unhealthy { reason: bad.reason }, bad.stranger);
    }

    fn tell_answer(&self, health: Health, stranger: Option<Stranger>) {
        self.status.send_if_modified(|status| {
            let new = status.health != health || status.stranger != stranger;
            status.health = health;
            status.stranger = stranger;
            new
        });
    }

    /// Publishes what is on record.
    pub(crate) fn publish(&self) {
        let live = self.record.live.as_ref().and_then(|release| match &self.status.borrow().live {
            Some(live) if live.release == *release => Some(live.clone()),
            Some(_) | None => match self.releases.descriptor(release) {
                Ok(found) => found.map(|descriptor| Live {
                    release: release.clone(),
                    digest: Digest(sha2::Sha256::digest(descriptor.to_json()).into()),
                    descriptor: Arc::new(descriptor),
                }),
                Err(error) => {
                    tracing::error!("{error}");
                    None
                }
            },
        });
        self.status.send_modify(|status| {
            status.running.clone_from(&self.record.running);
            status.live = live;
            status.activated.clone_from(&self.record.activated);
        });
    }

    /// Publishes the digests of a release that has just been staged.
    pub(crate) fn learn(&self) {
        match self.releases.known() {
            Ok(known) => self.status.send_modify(|status| {
                status.known = Arc::new(known);
                // What was staged may be what is live, put right: what it is, is read again.
                status.live = None;
            }),
            Err(error) => tracing::error!("{error}"),
        }
        self.publish();
    }

    /// Notes a start in the log of starts.
    pub(crate) fn note_start(&self, generation: Generation, running: &Running, cause: Cause) {
        let start = Start {
            time: clock::now_text(),
            generation,
            release: running.release.clone(),
            pid: running.pid,
            start_ticks: running.start_ticks,
            cause,
        };
        if let Err(error) = self.log.note(&start) {
            tracing::warn!("{error}");
        }
    }
}
