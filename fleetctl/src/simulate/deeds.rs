//! What people and fate do in a story, and the planning at its beginning.

use fleet::deployment::plan::Presence as PlannedPresence;
use fleet::deployment::plan::{Candidate, Plan, plan as make_plan};
use fleet::deployment::{AbortMode, Again, Command, Event, Previous, Spec};
use fleet::sequence::Condition;
use fleet::{Generation, Millis, Timestamp};

use super::machine::{FOR_GOOD, GENERATION_BEFORE, Machine};
use super::play::{Controller, Play};
use super::releases::Releases;
use super::story::{Conduct, Deed, Health, NodeSetup, Presence, Story};
use super::transcript::Voice;

/// Plans the deployment of a story: the plan in lines, and the spec or why there is none.
pub(super) fn plan(story: &Story, releases: &mut Releases) -> (Vec<String>, Result<Spec, String>) {
    let candidates = story.nodes.iter().map(|node| candidate(node, story, releases)).collect();
    let (id, deployment) = story.ids.clone();
    let plan = match make_plan(&story.request, candidates, id, None, Timestamp(0)) {
        Ok(plan) => plan,
        Err(refusal) => return (Vec::new(), Err(refusal.to_string())),
    };
    let mut lines = described(&plan, story);
    lines.extend(plan.warnings.iter().cloned());
    let blocks: Vec<String> = plan
        .blocks
        .iter()
        .map(|block| match &block.node {
            Some(node) => format!("{node}: {}; {}", block.why, block.help),
            None => format!("{}; {}", block.why, block.help),
        })
        .collect();
    if !blocks.is_empty() {
        return (lines, Err(blocks.join("; ")));
    }
    let generation = Generation(GENERATION_BEFORE.0 + 1);
    (lines, Ok(plan.spec(deployment, generation, story.request.actor.clone())))
}

fn candidate(node: &NodeSetup, story: &Story, releases: &mut Releases) -> Candidate {
    let version = node.holds.clone().unwrap_or_else(|| story.from.clone());
    let hold = releases.hold(&story.service, version.as_ref());
    let presence = match node.presence {
        Presence::Present => PlannedPresence::Present,
        Presence::Absent { .. } => PlannedPresence::Absent("not in contact".into()),
    };
    let condition = match (node.presence, node.health) {
        (Presence::Absent { .. }, _) => Condition::Unknown,
        (Presence::Present, Health::Ill) => Condition::Unhealthy,
        (Presence::Present, Health::Well) if hold == story.request.target => Condition::Current,
        (Presence::Present, Health::Well) => Condition::Old,
    };
    Candidate {
        node: node.name.clone(),
        labels: node.labels.clone(),
        presence,
        condition,
        holds: Previous { hold, version },
        block: node.block.clone(),
    }
}

fn described(plan: &Plan, story: &Story) -> Vec<String> {
    let names = |nodes: &[Candidate]| nodes.iter().map(|c| c.node.as_str()).collect::<Vec<_>>().join(" ");
    let segments: Vec<String> = plan.segments.iter().map(|segment| names(segment)).collect();
    let from = story.from.as_ref().map_or_else(|| "nothing".to_owned(), ToString::to_string);
    let (all, to_change) = (plan.candidates().count(), plan.to_change);
    let mut lines = vec![
        format!("{} {from} -> {}: {to_change} of {all} nodes to change", story.service, story.to),
        format!("segments: {}", segments.join(" | ")),
    ];
    if plan.floor > 0 {
        lines.push(format!("{} of {all} nodes must serve, {} do", plan.floor, plan.serving));
    }
    lines
}

impl Play<'_> {
    /// Something happens.
    pub(super) fn carry_out(&mut self, deed: Deed) {
        let now = self.now;
        let until = |span: Option<Millis>| span.map_or(FOR_GOOD, |span| now.after(span));
        let for_ = |span: Option<Millis>| span.map_or("for good".to_owned(), |span| format!("for {span}"));
        match deed {
            Deed::Tell { by, command } => self.tell(by, command),
            Deed::KillController { for_: span } => self.kill_controller(span),
            Deed::Decommission { node, by, reason } => {
                self.say(Voice::People, &format!("{by}: decommission {node} \"{reason}\""));
                self.machines.retain(|(name, _)| *name != node);
                self.receive(&Event::Decommissioned { node, by, reason });
            }
            Deed::Join { node, holds } => {
                let hold = self.releases.hold(&self.story.service, holds.as_ref());
                let words = self.releases.words(&hold);
                self.say(Voice::World, &format!("{node} joins the fleet and holds {words}"));
                if !self.machines.iter().any(|(name, _)| *name == node) {
                    let machine = Machine::new(Conduct::default(), self.target.clone(), hold.clone(), None);
                    self.machines.push((node.clone(), machine));
                }
                self.receive(&Event::Joined { node, previous: Previous { hold, version: holds } });
            }
            Deed::Lose { node, for_: span } => {
                self.say(Voice::World, &format!("{node} is out of contact {}; its service goes on", for_(span)));
                self.with(&node, |machine| machine.lose(until(span)));
            }
            Deed::Crash { node, for_: span } => {
                self.say(Voice::World, &format!("{node} is down for {span}"));
                self.with(&node, |machine| machine.crash(now, now.after(span)));
            }
            Deed::Break { node, for_: span } => {
                self.say(Voice::World, &format!("{node} answers its probe with 503 {}", for_(span)));
                self.with(&node, |machine| machine.fall_ill(until(span)));
            }
            Deed::Gate { name, answer } => {
                self.say(Voice::World, &format!("gate {name}: {}", answer.in_words()));
                self.gates.insert(name.clone(), answer);
                self.ask_again(&name);
            }
            Deed::Migration(conduct) => {
                self.say(Voice::World, "the migration will go otherwise from now on");
                self.migration = conduct;
            }
            Deed::Change { node, change } => {
                self.say(Voice::World, &format!("{node} will behave otherwise from now on: {}", change.in_words()));
                self.with(&node, |machine| machine.change(change));
            }
        }
    }

    fn with(&mut self, node: &fleet::NodeName, act: impl FnOnce(&mut Machine)) {
        if let Some(machine) = self.machine(node) {
            act(machine);
        }
    }

    fn tell(&mut self, by: String, command: Command) {
        let words = words_of(&command);
        let refused = match &self.controller {
            Controller::Drives(deployment) => {
                deployment.check(&command, self.now).err().map(|refusal| format!("{refusal}; {}", refusal.help))
            }
            Controller::Dead { .. } => Some("the controller cannot be reached".into()),
            Controller::Refused(_) => Some("there is no deployment".into()),
        };
        match refused {
            Some(why) => self.say(Voice::People, &format!("{by}: {words}: refused: {why}")),
            None => {
                self.say(Voice::People, &format!("{by}: {words}"));
                self.receive(&Event::Told { by, command });
            }
        }
    }

    fn kill_controller(&mut self, span: Millis) {
        let until = self.now.after(span);
        match std::mem::replace(&mut self.controller, Controller::Refused(String::new())) {
            Controller::Drives(left) | Controller::Dead { left, .. } => {
                self.say(Voice::World, &format!("the controller is killed; for {span} there is none"));
                self.controller = Controller::Dead { until, left };
            }
            refused @ Controller::Refused(_) => self.controller = refused,
        }
    }
}

fn words_of(command: &Command) -> String {
    match command {
        Command::Pause => "pause".into(),
        Command::Resume => "resume".into(),
        Command::Promote { again: Again::Skip } => "promote".into(),
        Command::Promote { again: Again::Retry } => "promote --retry".into(),
        Command::Abort { mode: AbortMode::RollBack } => "abort".into(),
        Command::Abort { mode: AbortMode::Leave } => "abort --leave".into(),
        Command::Supersede { deployment } => format!("deploy --supersede, as {deployment}"),
        Command::Waive { node, waiver } => format!("waive {node} \"{}\"", waiver.reason),
    }
}
