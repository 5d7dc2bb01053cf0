//! What may happen next: a scenario is a spec, a budget of mischief, and what people and gates may do. It is the model
//! that the checker explores; every order of everything that the budget allows is tried.

use fleet::deployment::{Asking, Command, Event, MigrationReport, Phase, Previous, Spec, Verdict};
use fleet::evidence::Confirmation;
use fleet::order::{Reception, receive};
use fleet::{Generation, NodeName};
use stateright::{Model, Property};

use crate::laws;
use crate::stories::Story;
use crate::world::{Age, Book, Code, Machine, Presence, Progress, World, code_of, hold};

/// A world to begin with, and what may happen in it.
#[derive(Clone)]
pub(crate) struct Scenario {
    pub(crate) name: &'static str,
    pub(crate) spec: Spec,
    pub(crate) left: Left,
    /// Nodes that are away to begin with.
    pub(crate) away: Vec<NodeName>,
    /// What people may say, each as often as the budget allows.
    pub(crate) commands: Vec<Command>,
    /// What must happen on some way: else the scenario shows nothing.
    pub(crate) stories: Vec<Story>,
}

/// How much mischief is left.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(crate) struct Left {
    /// Orders that cannot be carried out.
    pub(crate) failures: u8,
    /// Claims to hold an order while the old code runs.
    pub(crate) lies: u8,
    /// Agents that undo what was not confirmed.
    pub(crate) undos: u8,
    /// Processes that start anew.
    pub(crate) restarts: u8,
    /// Other code started by hand: the old where the new ran, or the new where nobody has asked for it yet.
    pub(crate) relapses: u8,
    /// Nodes that leave, and come back when they like.
    pub(crate) departures: u8,
    /// Attestations that are delayed, and repeated at any time.
    pub(crate) delays: u8,
    /// Attestations compared with an earlier wish.
    pub(crate) lags: u8,
    /// Stops of the controller, between turns.
    pub(crate) crashes: u8,
    /// Stops of the controller within a turn, when only some of its facts were saved.
    pub(crate) tears: u8,
    /// Words of people.
    pub(crate) commands: u8,
    /// Nodes that join.
    pub(crate) newcomers: u8,
    /// Nodes that are decommissioned.
    pub(crate) removals: u8,
}

/// Something that happens.
#[derive(Debug, Clone, PartialEq)]
pub(crate) enum Action {
    /// An event reaches the controller.
    Turn(Turn),
    /// The same, and the controller stops when it has saved so many of the facts.
    Torn(Turn, usize),
    /// The controller stops, and is back after so many epochs.
    Crash(i64),
    /// An epoch passes; whoever is to be woken is.
    Pass,
    /// An order that was said reaches a node, which does something about it.
    Carry(usize, Generation, How),
    /// A node that lied comes to run what it claims.
    Settle(usize),
    Confirm(usize),
    Undo(usize),
    Restart(usize),
    Relapse(usize),
    Leave(usize),
    Return(usize),
    /// A node is asked, and its answer stays in the network.
    Delay(usize),
}

/// What reaches the controller.
#[derive(Debug, Clone, PartialEq)]
pub(crate) enum Turn {
    Wake,
    Look(usize, Book),
    Late(usize),
    Answer(Asking, Verdict),
    Report(u32, MigrationReport),
    Say(Command),
    Join,
    Remove(usize),
}

/// What a node makes of an order.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum How {
    Well,
    Fails,
    Lies,
}

impl Model for Scenario {
    type State = World;
    type Action = Action;

    fn init_states(&self) -> Vec<World> {
        vec![World::new(&self.spec, &self.away, self.left)]
    }

    fn actions(&self, world: &World, actions: &mut Vec<Action>) {
        if world.deployment.outcome().is_some() || !world.broken.is_empty() {
            return;
        }
        let turns = self.turns(world);
        if world.left.tears > 0 {
            for turn in &turns {
                let facts = world.deployment.clone().handle(&self.event(world, turn), world.clock.now()).len();
                actions.extend((1..facts).map(|kept| Action::Torn(turn.clone(), kept)));
            }
        }
        actions.extend(turns.into_iter().map(Action::Turn));
        actions.push(Action::Pass);
        if world.left.crashes > 0 {
            actions.extend([Action::Crash(0), Action::Crash(4)]);
        }
        for (index, machine) in world.machines.iter().enumerate() {
            Self::machine_actions(world, index, machine, actions);
        }
    }

    fn next_state(&self, world: &World, action: Action) -> Option<World> {
        let mut next = world.clone();
        next.crashed_in = None;
        match action {
            Action::Turn(turn) => {
                let event = self.event(world, &turn);
                self.spend(&mut next, &turn);
                next.turn(&event);
            }
            Action::Torn(turn, kept) => {
                let event = self.event(world, &turn);
                self.spend(&mut next, &turn);
                next.left.tears -= 1;
                next.torn_turn(&event, kept);
            }
            Action::Crash(outage) => {
                next.left.crashes -= 1;
                next.crash(outage);
            }
            Action::Pass => {
                let woken_at = world.deployment.wake_at();
                next.pass(1);
                let now = next.clock.now();
                if woken_at.is_some_and(|at| at <= now) {
                    next.turn(&Event::Tick);
                }
                laws::check_passing(&mut next, world, woken_at);
            }
            Action::Carry(..)
            | Action::Settle(_)
            | Action::Confirm(_)
            | Action::Undo(_)
            | Action::Restart(_)
            | Action::Relapse(_)
            | Action::Leave(_)
            | Action::Return(_) => {
                next.change_machine(&action);
                next.witness();
            }
            Action::Delay(index) => {
                next.left.delays -= 1;
                next.late.push(world.attest(index)?);
                next.late.sort();
            }
        }
        Some(next)
    }

    fn properties(&self) -> Vec<Property<Self>> {
        let mut properties = laws::properties();
        properties.extend(self.stories.iter().map(|story| story.property()));
        properties
    }
}

impl Scenario {
    /// What may reach the controller now.
    fn turns(&self, world: &World) -> Vec<Turn> {
        let (deployment, left, now) = (&world.deployment, &world.left, world.clock.now());
        let mut turns = Vec::new();
        if deployment.wake_at().is_some_and(|at| at <= now) {
            turns.push(Turn::Wake);
        }
        for index in 0..world.machines.len() {
            if world.look(index, Book::Current).is_some() {
                turns.push(Turn::Look(index, Book::Current));
            }
            if left.lags > 0 && world.look(index, Book::Lagging).is_some() {
                turns.push(Turn::Look(index, Book::Lagging));
            }
            if left.removals > 0 {
                turns.push(Turn::Remove(index));
            }
        }
        turns.extend((0..world.late.len()).map(Turn::Late));
        let detail = String::new;
        if let Phase::Gating { asking, .. } = deployment.phase() {
            turns.push(Turn::Answer(asking, Verdict::Passed { detail: detail() }));
            turns.push(Turn::Answer(asking, Verdict::Failed { detail: detail() }));
            turns.push(Turn::Answer(asking, Verdict::Inconclusive { detail: detail() }));
            let earlier = world.history.earlier;
            turns.extend(earlier.map(|earlier| Turn::Answer(earlier, Verdict::Passed { detail: detail() })));
        }
        if let Phase::Migrating { .. } = deployment.phase() {
            let attempt = deployment.migration().attempts;
            turns.push(Turn::Report(attempt, MigrationReport::Running { detail: detail() }));
            turns.push(Turn::Report(attempt, MigrationReport::Succeeded));
            turns.push(Turn::Report(attempt, MigrationReport::Failed { reason: detail() }));
            turns.push(Turn::Report(attempt, MigrationReport::Interrupted { reason: detail() }));
            if attempt > 1 {
                turns.push(Turn::Report(attempt - 1, MigrationReport::Succeeded));
            }
        }
        if left.commands > 0 {
            let effective = self.commands.iter().filter(|command| deployment.check(command, now).is_ok());
            turns.extend(effective.cloned().map(Turn::Say));
        }
        if left.newcomers > 0 {
            turns.push(Turn::Join);
        }
        turns
    }

    pub(crate) fn event(&self, world: &World, turn: &Turn) -> Event {
        let name = |index: usize| world.machines[index].name.clone();
        match turn {
            Turn::Wake => Event::Tick,
            Turn::Look(index, book) => match world.look(*index, *book) {
                Some(observation) => world.observed(*index, observation),
                None => Event::Tick,
            },
            Turn::Late(place) => {
                let late = &world.late[*place];
                world.observed(late.machine, world.compare(late))
            }
            Turn::Answer(asking, verdict) => Event::GateAnswered { asking: *asking, verdict: verdict.clone() },
            Turn::Report(attempt, report) => {
                let node = world.deployment.migration().node.clone().unwrap_or_else(|| name(0));
                Event::MigrationReported { node, attempt: *attempt, report: report.clone() }
            }
            Turn::Say(command) => Event::Told { by: "carol".into(), command: command.clone() },
            Turn::Join => {
                let previous = Previous { hold: hold(Code::Old), version: None };
                Event::Joined { node: newcomer(world.machines.len()), previous }
            }
            Turn::Remove(index) => {
                Event::Decommissioned { node: name(*index), by: "carol".into(), reason: "scrapped".into() }
            }
        }
    }

    fn spend(&self, next: &mut World, turn: &Turn) {
        match turn {
            Turn::Wake | Turn::Late(_) | Turn::Answer(..) | Turn::Report(..) | Turn::Look(_, Book::Current) => {}
            Turn::Look(_, Book::Lagging) => next.left.lags -= 1,
            Turn::Say(_) => next.left.commands -= 1,
            Turn::Join => {
                next.left.newcomers -= 1;
                let name = newcomer(next.machines.len());
                next.machines.push(Machine::new(name, Presence::Here));
            }
            Turn::Remove(_) => next.left.removals -= 1,
        }
    }

    fn machine_actions(world: &World, index: usize, machine: &Machine, actions: &mut Vec<Action>) {
        let left = &world.left;
        let unconfirmed = machine.confirmation == Confirmation::Awaited;
        if unconfirmed && left.undos > 0 {
            actions.push(Action::Undo(index));
        }
        if machine.presence == Presence::Away {
            actions.push(Action::Return(index));
            return;
        }
        let held = world.said.iter().find(|said| said.node == machine.name && said.generation == machine.generation);
        for said in world.said.iter().filter(|said| said.node == machine.name) {
            // What it has never heard of is newer than what it was standing on.
            if machine.generation >= said.generation || receive(held, said) != Reception::Newer {
                continue;
            }
            actions.push(Action::Carry(index, said.generation, How::Well));
            if left.failures > 0 {
                actions.push(Action::Carry(index, said.generation, How::Fails));
            }
            if left.lies > 0 && machine.runs != code_of(said.generation) {
                actions.push(Action::Carry(index, said.generation, How::Lies));
            }
        }
        let held = machine.progress == Progress::Held;
        if held && machine.runs != code_of(machine.generation) {
            actions.push(Action::Settle(index));
        }
        if unconfirmed {
            actions.push(Action::Confirm(index));
        }
        if left.restarts > 0 && held && machine.age == Age::Old {
            actions.push(Action::Restart(index));
        }
        if left.relapses > 0 && held && !unconfirmed {
            actions.push(Action::Relapse(index));
        }
        if left.departures > 0 {
            actions.push(Action::Leave(index));
        }
        if left.delays > 0 && world.attest(index).is_some() {
            actions.push(Action::Delay(index));
        }
    }
}

impl World {
    fn change_machine(&mut self, action: &Action) {
        let waits = self.deployment.spec().confirm.0 > 0;
        let bakes = self.deployment.spec().bake.0 > 0;
        match *action {
            Action::Carry(index, generation, how) => {
                let machine = &mut self.machines[index];
                let before = machine.runs;
                machine.generation = generation;
                machine.confirmation = Confirmation::Given;
                machine.progress = Progress::Held;
                machine.runs = code_of(generation);
                machine.age = new_age(machine, bakes);
                match how {
                    How::Well if waits && generation == crate::world::FORWARD => {
                        machine.confirmation = Confirmation::Awaited;
                    }
                    How::Well => {}
                    How::Fails => {
                        // Forward it goes back by itself; back it stays where it was.
                        machine.progress = Progress::Failed;
                        (machine.runs, machine.age) = (before, Age::Old);
                        self.left.failures -= 1;
                    }
                    How::Lies => {
                        (machine.runs, machine.age) = (before, Age::Old);
                        self.left.lies -= 1;
                    }
                }
            }
            Action::Settle(index) => {
                let machine = &mut self.machines[index];
                machine.runs = code_of(machine.generation);
                machine.age = new_age(machine, bakes);
            }
            Action::Confirm(index) => self.machines[index].confirmation = Confirmation::Given,
            Action::Undo(index) => {
                self.left.undos -= 1;
                let machine = &mut self.machines[index];
                machine.confirmation = Confirmation::Given;
                (machine.runs, machine.progress, machine.age) = (Code::Old, Progress::Failed, Age::Old);
            }
            Action::Restart(index) => {
                self.left.restarts -= 1;
                self.machines[index].age = Age::Young;
            }
            Action::Relapse(index) => {
                self.left.relapses -= 1;
                let machine = &mut self.machines[index];
                machine.runs = match machine.runs {
                    Code::Old => Code::New,
                    Code::New => Code::Old,
                };
                machine.age = new_age(machine, bakes);
            }
            Action::Leave(index) => {
                self.left.departures -= 1;
                self.machines[index].presence = Presence::Away;
            }
            Action::Return(index) => self.machines[index].presence = Presence::Here,
            Action::Turn(_) | Action::Torn(..) | Action::Crash(_) | Action::Pass | Action::Delay(_) => {}
        }
    }
}

/// The age of a process that has just been started; nobody asks for it where nothing is baked, nor for old code.
fn new_age(machine: &Machine, bakes: bool) -> Age {
    if bakes && machine.runs == Code::New { Age::Young } else { Age::Old }
}

fn newcomer(machines: usize) -> NodeName {
    let Ok(name) = format!("n{}", machines + 1).parse() else { unreachable!("it is a name") };
    name
}
