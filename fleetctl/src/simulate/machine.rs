//! One machine of the simulated world: what it really runs, what it does with orders, and what is seen of it when it is
//! looked at. What it says and what is true may differ; the transcript shows both.

use std::collections::BTreeMap;

use fleet::deployment::{MigrationOrder, MigrationReport, Observation, Seen};
use fleet::evidence::Confirmation;
use fleet::order::{Reception, receive};
use fleet::release::{Grade, Version};
use fleet::{Generation, Hold, Millis, Order, Timestamp};

use super::releases::Releases;
use super::story::{Answers, Back, Change, Conduct, Confirmations, Forward, MigrationConduct, MigrationEnd};

/// The generation of the orders from before the story.
pub(super) const GENERATION_BEFORE: Generation = Generation(1);

/// For good.
pub(super) const FOR_GOOD: Timestamp = Timestamp(i64::MAX);

/// A machine.
#[derive(Debug, Clone)]
pub(super) struct Machine {
    conduct: Conduct,
    /// The release of the story: an order to hold it leads forward, every other back.
    target: Hold,
    /// What it held when the story began.
    first: Hold,
    /// What it really runs.
    runs: Hold,
    up_since: Timestamp,
    order: Option<Order>,
    /// What it ran before the order at hand, to go back to by itself.
    before: Hold,
    /// It changes what it runs, and does not serve, until then.
    busy_until: Option<Timestamp>,
    /// It will run what it ran before.
    falls_at: Option<Timestamp>,
    /// It goes back by itself then, unless it is confirmed.
    trial_until: Option<Timestamp>,
    /// Why it could not carry the order out.
    failure: Option<String>,
    ill_until: Option<Timestamp>,
    away_until: Option<Timestamp>,
    down_until: Option<Timestamp>,
    migrations: BTreeMap<u32, MigrationRun>,
    first_proof: Option<Observation>,
}

#[derive(Debug, Clone)]
struct MigrationRun {
    ends_at: Timestamp,
    ends: MigrationEnd,
    interrupted: Option<String>,
}

impl Machine {
    /// A machine that runs `runs` at `now`, and has for long.
    pub(super) fn new(conduct: Conduct, target: Hold, runs: Hold, ill_until: Option<Timestamp>) -> Self {
        Self {
            away_until: conduct.silent_until,
            conduct,
            target,
            first: runs.clone(),
            before: runs.clone(),
            runs,
            up_since: Timestamp(i64::MIN / 2),
            order: None,
            busy_until: None,
            falls_at: None,
            trial_until: None,
            failure: None,
            ill_until,
            down_until: None,
            migrations: BTreeMap::new(),
            first_proof: None,
        }
    }

    /// Whether it hears and is heard.
    pub(super) fn is_in_contact(&self) -> bool {
        self.away_until.is_none() && self.down_until.is_none()
    }

    /// How long its answers are under way.
    pub(super) fn answers_after(&self) -> Millis {
        self.conduct.answers_after
    }

    /// Whether its service answers requests.
    pub(super) fn serves(&self) -> bool {
        let held_up = self.down_until.or(self.busy_until).or(self.ill_until);
        held_up.is_none() && self.runs != Hold::Nothing
    }

    /// What it really runs, in words, and as a version unless it is being changed or down.
    pub(super) fn truth(&self, releases: &Releases) -> (String, Option<Option<Version>>) {
        if self.down_until.is_some() {
            return ("is down".into(), None);
        }
        if self.busy_until.is_some() {
            return ("is being changed".into(), None);
        }
        let ill = if self.ill_until.is_some() { ", and is ill" } else { "" };
        (format!("runs {}{ill}", releases.words(&self.runs)), Some(releases.version(&self.runs)))
    }

    /// When something happens to it by itself.
    pub(super) fn next_change(&self) -> Option<Timestamp> {
        let spans =
            [self.busy_until, self.falls_at, self.trial_until, self.ill_until, self.away_until, self.down_until];
        spans.into_iter().flatten().filter(|at| *at < FOR_GOOD).min()
    }

    /// Lets everything happen that is due, and says it.
    pub(super) fn advance(&mut self, now: Timestamp, releases: &Releases) -> Vec<String> {
        let mut told = Vec::new();
        let due = |at: &mut Option<Timestamp>| at.take_if(|at| *at <= now).is_some();
        if due(&mut self.down_until) {
            self.up_since = now;
            told.push(format!("has started again and runs {}", releases.words(&self.runs)));
        }
        if due(&mut self.away_until) {
            told.push("is in contact again".into());
        }
        if due(&mut self.ill_until) {
            self.up_since = now;
            told.push("is well again".into());
        }
        if due(&mut self.busy_until) {
            told.push(self.end_change(now, releases));
        }
        if due(&mut self.falls_at) {
            self.runs = self.before.clone();
            self.up_since = now;
            told.push(format!("runs {} again, and nobody told it to", releases.words(&self.runs)));
        }
        if due(&mut self.trial_until) {
            let waited = self.order.as_ref().map(|order| order.confirm).unwrap_or_default();
            self.runs = self.before.clone();
            self.up_since = now;
            self.falls_at = None;
            let back = format!("not confirmed within {waited}: went back by itself to {}", releases.words(&self.runs));
            told.push(back.clone());
            self.failure = Some(back);
        }
        told
    }

    fn end_change(&mut self, now: Timestamp, releases: &Releases) -> String {
        let Some(order) = self.order.clone() else { return "has nothing to do".into() };
        self.up_since = now;
        let name = releases.words(&order.hold);
        if !self.is_forward(&order) {
            if self.conduct.back == Back::Stuck {
                let reason = format!("cannot go back to {name}: switch: read-only file system");
                self.failure = Some(reason.clone());
                return format!("{reason}; it runs {}", releases.words(&self.runs));
            }
            self.runs = order.hold;
            return format!("runs {name}");
        }
        match self.conduct.forward.clone() {
            Forward::Refuses { reason, .. } => {
                self.failure = Some(reason.clone());
                if self.conduct.back == Back::Stuck {
                    self.runs = Hold::Nothing;
                }
                return format!("refuses {name}: {reason}; it runs {}", releases.words(&self.runs));
            }
            Forward::FallsBack { after } => self.falls_at = Some(now.after(after)),
            Forward::Good | Forward::Crashes { .. } | Forward::Lies => {}
        }
        self.trial_until = (order.confirm.0 > 0).then(|| now.after(order.confirm));
        self.runs = order.hold;
        // A service that is started anew is well.
        self.ill_until = None;
        format!("runs {name}")
    }

    fn is_forward(&self, order: &Order) -> bool {
        order.hold == self.target
    }

    /// Hears an order, and says whether it was news.
    pub(super) fn hear(&mut self, order: &Order, now: Timestamp) -> Reception {
        let reception = match &self.order {
            None if order.generation <= GENERATION_BEFORE => Reception::Older,
            held => receive(held.as_ref(), order),
        };
        if reception != Reception::Newer {
            return reception;
        }
        let interrupted = self.busy_until.is_some();
        self.order = Some(order.clone());
        (self.failure, self.falls_at, self.trial_until, self.busy_until) = (None, None, None, None);
        if self.is_forward(order) && self.conduct.forward == Forward::Lies {
            return reception;
        }
        let holds_already = order.hold == self.runs && !interrupted && self.ill_until.is_none();
        if !holds_already {
            let takes = match (&self.conduct.forward, self.is_forward(order)) {
                (Forward::Refuses { after, .. }, true) => *after,
                (_, _) => self.conduct.takes,
            };
            self.before = self.runs.clone();
            self.busy_until = Some(now.after(takes));
        }
        reception
    }

    /// What is seen of it when it is asked at `now`.
    pub(super) fn look(&mut self, now: Timestamp, releases: &Releases) -> Observation {
        let generation = self.order.as_ref().map_or(GENERATION_BEFORE, |order| order.generation);
        let observation = Observation { asked_at: now, generation, seen: self.seen(now, releases) };
        if self.conduct.answers == Answers::Replayed {
            if let Some(first) = &self.first_proof {
                return first.clone();
            }
            let forward = self.order.as_ref().is_some_and(|order| self.is_forward(order));
            if forward && matches!(observation.seen, Seen::Proven { confirmation: Confirmation::Given, .. }) {
                self.first_proof = Some(observation.clone());
            }
        }
        observation
    }

    fn seen(&self, now: Timestamp, releases: &Releases) -> Seen {
        if let Some(reason) = &self.failure {
            return Seen::Failed { reason: reason.clone() };
        }
        if self.busy_until.is_some() {
            return Seen::Working { detail: "at work".into() };
        }
        let wanted = self.order.as_ref().map_or(&self.first, |order| &order.hold);
        if self.runs != *wanted {
            return Seen::Differs { reason: format!("old-process: it runs {}", releases.words(&self.runs)) };
        }
        if self.ill_until.is_some() {
            return Seen::Differs { reason: "unhealthy: probe: 503".into() };
        }
        let mut up = now.since(self.up_since);
        if let (Forward::Crashes { every }, Some(order)) = (&self.conduct.forward, &self.order)
            && self.is_forward(order)
        {
            up = Millis(up.0 % every.0.max(1));
        }
        let confirmation = if self.trial_until.is_some() { Confirmation::Awaited } else { Confirmation::Given };
        Seen::Proven { grade: Grade::Digest, up, confirmation }
    }

    /// Hears that what it runs is confirmed.
    pub(super) fn confirm(&mut self) {
        if self.conduct.confirmations == Confirmations::Heard {
            self.trial_until = None;
        }
    }

    /// Hears, perhaps again, that it is to run the migration; says whether it has just begun, and how it stands.
    pub(super) fn migrate(
        &mut self,
        order: &MigrationOrder,
        conduct: &MigrationConduct,
        now: Timestamp,
    ) -> (Begun, MigrationReport) {
        let known = self.migrations.contains_key(&order.attempt);
        let run = self.migrations.entry(order.attempt).or_insert_with(|| MigrationRun {
            ends_at: now.after(conduct.takes),
            ends: conduct.ends.clone(),
            interrupted: None,
        });
        let running = || MigrationReport::Running { detail: "at work".into() };
        let report = match (&run.interrupted, &run.ends) {
            (Some(reason), _) => MigrationReport::Interrupted { reason: reason.clone() },
            (None, _) if now < run.ends_at => running(),
            (None, MigrationEnd::Well) => MigrationReport::Succeeded,
            (None, MigrationEnd::Badly(reason)) => MigrationReport::Failed { reason: reason.clone() },
            (None, MigrationEnd::Unheard) => running(),
        };
        (if known { Begun::Before } else { Begun::Now }, report)
    }

    /// Behaves otherwise from now on.
    pub(super) fn change(&mut self, change: Change) {
        if let Change::SilentUntil(until) = &change {
            self.away_until = Some(*until);
        }
        self.conduct.change(change);
    }

    /// Is out of contact; its service goes on.
    pub(super) fn lose(&mut self, until: Timestamp) {
        self.away_until = Some(self.away_until.map_or(until, |at| at.max(until)));
    }

    /// Its service stops answering.
    pub(super) fn fall_ill(&mut self, until: Timestamp) {
        self.ill_until = Some(until);
    }

    /// Its machine goes down and starts again at `until`: what it was about to do begins anew, and nobody knows how far
    /// a migration came.
    pub(super) fn crash(&mut self, now: Timestamp, until: Timestamp) {
        self.down_until = Some(until);
        if self.busy_until.is_some() {
            self.busy_until = Some(until.after(self.conduct.takes));
        }
        for run in self.migrations.values_mut().filter(|run| now < run.ends_at) {
            run.interrupted = Some("the machine stopped while it ran".into());
        }
    }
}

/// When a migration was begun.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Begun {
    /// By this very order.
    Now,
    /// Earlier.
    Before,
}
