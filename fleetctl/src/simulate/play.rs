//! Playing a story: time goes from one instant at which something happens to the next, and at each the deployment is
//! woken if it asked for it, every node is looked at once a second, and after a crash it is taken up again from its
//! journal alone. How it is driven is in `drive.rs`, what machines do in `machine.rs`, what people and fate do in
//! `deeds.rs`.

use std::collections::BTreeMap;

use fleet::deployment::{Deployment, Event, Fact, WaitingOn};
use fleet::outcome::exit;
use fleet::{Hold, Millis, NodeName, Timestamp};

use super::machine::{FOR_GOOD, Machine};
use super::releases::Releases;
use super::story::{Act, GateAnswer, Health, MigrationConduct, Run, Story};
use super::transcript::{Transcript, Voice, clock};
use super::weigh::weigh;

/// How often every node is looked at.
const LOOK: Millis = Millis::from_secs(1);
/// How many looks a story may take in all: a few seconds of real time, and a whole day with ten nodes.
const MOST_LOOKS: u64 = 1_000_000;

/// What was played.
#[derive(Debug, Clone)]
pub struct Played {
    /// The transcript, with the outcome and what was expected at its end.
    pub transcript: String,
    /// How many expectations do not hold; that a journal gives back its deployment is always expected.
    pub unmet: usize,
}

/// Plays a story to its end.
pub fn play(story: &Story) -> Played {
    let mut play = Play::new(story);
    play.begin();
    play.go();
    play.end()
}

/// A story while it is played.
#[derive(Debug)]
pub(super) struct Play<'a> {
    pub(super) story: &'a Story,
    pub(super) now: Timestamp,
    pub(super) releases: Releases,
    pub(super) target: Hold,
    pub(super) machines: Vec<(NodeName, Machine)>,
    pub(super) controller: Controller,
    pub(super) gates: BTreeMap<String, GateAnswer>,
    pub(super) migration: MigrationConduct,
    pub(super) transcript: Transcript,
    pub(super) journal: Vec<Fact>,
    /// Under way to the controller, by arrival and then in the order of sending.
    pub(super) messages: BTreeMap<(Timestamp, u64), Event>,
    pub(super) sent: u64,
    acts: std::collections::VecDeque<Act>,
    next_look: Timestamp,
    pub(super) looks: u64,
    waited_for: Option<WaitingOn>,
    pub(super) migrations: u32,
    pub(super) fewest_serving: usize,
    /// How often the journal did not give the deployment that was in memory.
    defects: usize,
    weighed: Vec<Option<Result<(), String>>>,
}

/// Who drives the deployment.
#[derive(Debug)]
pub(super) enum Controller {
    /// A controller, with the deployment in its memory.
    Drives(Box<Deployment>),
    /// None: it died, and what it had in memory is only compared with what its successor makes of the journal.
    Dead { until: Timestamp, left: Box<Deployment> },
    /// Nothing was started.
    Refused(String),
}

impl<'a> Play<'a> {
    fn new(story: &'a Story) -> Self {
        let mut releases = Releases::default();
        let target = releases.hold(&story.service, Some(&story.to));
        let machines = story.nodes.iter().map(|node| {
            let version = node.holds.as_ref().unwrap_or(&story.from);
            let runs = releases.hold(&story.service, version.as_ref());
            let ill = (node.health == Health::Ill).then_some(FOR_GOOD);
            (node.name.clone(), Machine::new(node.conduct.clone(), target.clone(), runs, ill))
        });
        Self {
            story,
            now: Timestamp(0),
            machines: machines.collect(),
            releases,
            target,
            controller: Controller::Refused("not planned".into()),
            gates: story.gates.clone(),
            migration: story.migration.clone(),
            transcript: Transcript::default(),
            journal: Vec::new(),
            messages: BTreeMap::new(),
            sent: 0,
            acts: story.acts.iter().cloned().collect(),
            next_look: Timestamp(0),
            looks: 0,
            waited_for: None,
            migrations: 0,
            fewest_serving: usize::MAX,
            defects: 0,
            weighed: vec![None; story.expectations.len()],
        }
    }

    /// Plans, and starts if nothing forbids it.
    fn begin(&mut self) {
        let (lines, started) = super::deeds::plan(self.story, &mut self.releases);
        for line in lines {
            self.say(Voice::Plan, &line);
        }
        match started {
            Err(why) => {
                self.say(Voice::Plan, &format!("refused, nothing is started: {why}"));
                self.controller = Controller::Refused(why);
            }
            Ok(spec) => {
                let planned = Fact::Planned { at: self.now, spec: Box::new(spec) };
                // Only a fact of another kind gives no deployment.
                if let Some(deployment) = Deployment::planned(&planned) {
                    self.say(Voice::Fact, &planned.to_string());
                    self.controller = Controller::Drives(Box::new(deployment));
                    self.journal.push(planned);
                    self.receive(&Event::Tick);
                }
            }
        }
    }

    fn go(&mut self) {
        self.instant();
        for run in &self.story.runs {
            let until = match run {
                Run::UntilFinished => None,
                Run::For(span) => Some(self.now.after(*span)),
            };
            while until.is_some() || !self.is_over() {
                let next = self.next_instant();
                if let Some(until) = until.filter(|until| next > *until) {
                    self.now = until;
                    break;
                }
                if self.looks >= MOST_LOOKS {
                    self.say(Voice::End, &format!("broken off after {MOST_LOOKS} looks at nodes: it is too long"));
                    return;
                }
                self.now = next;
                self.instant();
            }
        }
    }

    fn is_over(&self) -> bool {
        matches!(self.controller, Controller::Refused(_)) || self.outcome().is_some()
    }

    fn next_instant(&self) -> Timestamp {
        let wake = match &self.controller {
            Controller::Drives(deployment) => deployment.wake_at(),
            Controller::Dead { until, .. } => Some(*until),
            Controller::Refused(_) => None,
        };
        let machines = self.machines.iter().filter_map(|(_, machine)| machine.next_change());
        let messages = self.messages.first_key_value().map(|((at, _), _)| *at);
        let acts = self.acts.front().map(|act| act.at);
        let expected = self.story.expectations.iter().filter_map(|expectation| expectation.at);
        // What asks to be woken in the past has been woken at this instant already.
        let later = machines.chain(wake).chain(messages).chain(acts).chain(expected).filter(|at| *at > self.now);
        later.fold(self.next_look, Timestamp::min)
    }

    /// Everything that happens now, in a fixed order.
    fn instant(&mut self) {
        self.take_over();
        for index in 0..self.machines.len() {
            let (name, machine) = &mut self.machines[index];
            let name = name.clone();
            for told in machine.advance(self.now, &self.releases) {
                self.say(Voice::World, &format!("{name} {told}"));
            }
        }
        while let Some(act) = self.acts.pop_front_if(|act| act.at <= self.now) {
            self.carry_out(act.deed);
        }
        while let Some(message) = self.messages.first_entry().filter(|entry| entry.key().0 <= self.now) {
            let event = message.remove();
            self.receive(&event);
        }
        if let Controller::Drives(deployment) = &self.controller
            && deployment.wake_at().is_some_and(|at| at <= self.now)
        {
            self.receive(&Event::Tick);
        }
        if self.now >= self.next_look {
            self.next_look = self.now.after(LOOK);
            self.look_at_all();
        }
        let serving = self.machines.iter().filter(|(_, machine)| machine.serves()).count();
        self.fewest_serving = self.fewest_serving.min(serving);
        self.say_what_it_waits_for();
        for index in 0..self.weighed.len() {
            let expectation = &self.story.expectations[index];
            if expectation.at == Some(self.now) {
                self.weighed[index] = Some(weigh(&expectation.what, expectation.at, self));
            }
        }
    }

    fn take_over(&mut self) {
        let Controller::Dead { until, left } = &self.controller else { return };
        if *until > self.now {
            return;
        }
        let Some(mut deployment) = Deployment::replay(&self.journal) else { return };
        let same = if deployment == **left {
            "the same deployment"
        } else {
            self.defects += 1;
            "ANOTHER DEPLOYMENT, which is a defect"
        };
        deployment.resume(self.now);
        let facts = self.journal.len();
        self.say(Voice::World, &format!("a controller takes over: {facts} facts make {same}"));
        self.controller = Controller::Drives(Box::new(deployment));
        // Whoever was asked answered a dead controller.
        if let Some(asking) = self.asking() {
            self.ask(asking);
        }
        self.receive(&Event::Tick);
    }

    fn say_what_it_waits_for(&mut self) {
        let waits = match &self.controller {
            Controller::Drives(deployment) => deployment.waiting_on(self.now),
            Controller::Dead { .. } | Controller::Refused(_) => None,
        };
        let new = waits.as_ref().map(timeless);
        if new != self.waited_for {
            if let Some(on) = waits {
                self.say(Voice::Waits, &on.to_string());
            }
            self.waited_for = new;
        }
    }

    pub(super) fn say(&mut self, voice: Voice, text: &str) {
        self.transcript.say(self.now, voice, text);
    }

    fn end(mut self) -> Played {
        let end = match (&self.controller, self.outcome()) {
            (_, Some(outcome)) => format!("{outcome}: exit code {}", outcome.exit_code()),
            (Controller::Refused(_), None) => format!("refused: exit code {}", exit::FAILED),
            (Controller::Drives(_) | Controller::Dead { .. }, None) => "the deployment goes on".into(),
        };
        self.say(Voice::End, &end);
        let (served, nodes) = (self.fewest_serving, self.machines.len());
        self.say(Voice::End, &format!("never fewer than {served} of {nodes} nodes served"));
        if let Some(act) = self.acts.front() {
            let (count, at) = (self.acts.len(), clock(act.at));
            self.say(Voice::End, &format!("{count} more was to happen, from {at} on: the story was over (run longer)"));
        }
        let mut unmet = self.defects;
        let story = self.story;
        for (index, expectation) in story.expectations.iter().enumerate() {
            let result = match (self.weighed[index].take(), expectation.at) {
                (Some(result), _) => result,
                (None, Some(at)) => Err(format!("the story was over before {}", clock(at))),
                (None, None) => weigh(&expectation.what, None, &self),
            };
            let (text, line) = (&expectation.text, expectation.line);
            match result {
                Ok(()) => self.say(Voice::Expect, &format!("ok      {text}")),
                Err(instead) => {
                    unmet += 1;
                    self.say(Voice::Expect, &format!("FAILED  {text} (line {line}): {instead}"));
                }
            }
        }
        Played { transcript: self.transcript.to_string(), unmet }
    }
}

/// The reason without what is left of the time, which changes by itself.
fn timeless(on: &WaitingOn) -> WaitingOn {
    let mut on = on.clone();
    match &mut on {
        WaitingOn::Resume { left, .. } | WaitingOn::Promotion { left, .. } | WaitingOn::Gate { left, .. } => {
            *left = Millis(0);
        }
        // That it is over is another reason.
        WaitingOn::Bake { left, nodes, .. } => {
            if *left > Millis(0) {
                *left = Millis(1);
                nodes.clear();
            }
        }
        WaitingOn::Proof { .. }
        | WaitingOn::Capacity { .. }
        | WaitingOn::Confirmation { .. }
        | WaitingOn::Migration { .. }
        | WaitingOn::Restoration { .. }
        | WaitingOn::Verification { .. }
        | WaitingOn::NextTurn => {}
    }
    on
}
