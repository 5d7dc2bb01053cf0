//! The one task that owns all state. It takes one message at a time, decides, saves what became true, and only then
//! speaks: *saved before said*. Messages that wait are taken together, so that one flush to disk serves them all.
//!
//! What to decide is `fleet`'s; how values are kept is [`crate::records`]'; this folder turns messages into events
//! and facts into messages. What agents say walks one way: `nodes` (does it count?), `observations` (what does it
//! mean?), `deployments` (what follows?), `speaking` (what is said, once it is saved). What operators ask enters at
//! `answer`, which turns to `planning`, `releases`, `roster`, `statements` and the views.

mod answer;
mod ask;
mod beginning;
mod commands;
mod deployment_view;
mod deployments;
mod drift_view;
mod exceptions;
mod fleet_view;
mod ledger_view;
mod locks;
mod nodes;
mod observations;
mod plan_view;
mod planning;
mod plans;
mod queue;
mod releases;
mod repairs;
mod request;
mod reveals;
mod roster;
mod selftest;
mod silence;
mod speaking;
mod state;
mod statements;

use std::sync::Arc;

use fleet::deployment::{Asking, Event, Verdict};
use fleet::looked::Depth;
use fleet::{DeploymentId, Millis, NodeName, Timestamp};
use tokio::sync::{mpsc, watch};

pub use ask::{Actor, Ask, JoinAs, Joined, Proofs, Refusal, Reply, ToShow};
pub use roster::check_labels;
pub use state::{Greeting, RestoreError, State, ToAgent};

use self::state::OpenLink;
use crate::clock;
use crate::records::{self, RecordError};
use crate::store::Store;

/// Messages that wait for the mind; senders wait when there are more.
const INBOX: usize = 4_096;
/// Messages taken together before their facts are saved: bounds the memory of one batch and the wait of the first.
const TAKEN_TOGETHER: usize = 256;
/// How often silence is looked at.
const PRESENCE_EVERY: Millis = Millis(500);

/// Everything that can reach the mind.
#[derive(Debug)]
pub enum Message {
    /// An agent's stream has opened.
    Connected {
        /// The node, by its certificate.
        node: NodeName,
        /// The number of the stream.
        session: u64,
        /// The way back to the agent.
        outbox: mpsc::Sender<ToAgent>,
        /// What the agent said first.
        greeting: Greeting,
    },
    /// An agent has attested.
    Attested {
        /// The node, by its certificate.
        node: NodeName,
        /// The number of the stream.
        session: u64,
        /// The statement, already read.
        attestation: Box<fleet::evidence::Attestation>,
    },
    /// An agent has said what cannot be read.
    Garbled {
        /// The node, by its certificate.
        node: NodeName,
        /// The number of the stream.
        session: u64,
        /// Why not.
        reason: String,
    },
    /// An agent says what became of a decoy.
    Decoy {
        /// The node, by its certificate.
        node: NodeName,
        /// The number of the stream.
        session: u64,
        /// What.
        report: fleet::selftest::Report,
    },
    /// An agent thinks that something changed.
    Hinted {
        /// The node, by its certificate.
        node: NodeName,
        /// The number of the stream.
        session: u64,
    },
    /// An agent shows files.
    Revealed {
        /// The node, by its certificate.
        node: NodeName,
        /// What it shows.
        revealed: fleet_proto::v1::Revealed,
    },
    /// An agent's stream has ended.
    Lost {
        /// The node, by its certificate.
        node: NodeName,
        /// The number of the stream.
        session: u64,
    },
    /// A test on this host has ended.
    GateAnswered {
        /// The deployment.
        deployment: DeploymentId,
        /// Which asking.
        asking: Asking,
        /// The answer.
        verdict: Verdict,
    },
    /// Someone asks for something and waits for the answer.
    Ask(Box<Ask>),
}

/// The way to the mind.
#[derive(Debug, Clone)]
pub struct Mind {
    inbox: mpsc::Sender<Message>,
    pulse: watch::Receiver<u64>,
}

/// The mind has stopped: the controller is ending, or its store failed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("the controller is stopping: try again")]
pub struct Stopped;

impl Mind {
    /// Starts the mind over a store. The handle ends with an error when the store fails: then nothing more may be said.
    pub fn start(
        mut state: State,
        store: Arc<dyn Store>,
        observe_every: Millis,
    ) -> (Self, tokio::task::JoinHandle<Result<(), RecordError>>) {
        let (inbox, messages) = mpsc::channel(INBOX);
        let (beat, pulse) = watch::channel(0);
        state.inbox = Some(inbox.downgrade());
        let task = tokio::spawn(run(state, store, messages, beat, observe_every));
        (Self { inbox, pulse }, task)
    }

    /// Brings a message.
    ///
    /// # Errors
    /// When the mind has stopped.
    pub async fn tell(&self, message: Message) -> Result<(), Stopped> {
        self.inbox.send(message).await.map_err(|_| Stopped)
    }

    /// Asks, and waits for the answer.
    ///
    /// # Errors
    /// The refusal, or that the mind has stopped.
    pub async fn ask<T>(&self, question: impl FnOnce(Reply<T>) -> Ask) -> Result<T, Refusal> {
        let (reply, answer) = tokio::sync::oneshot::channel();
        let stopped = |_| Refusal::stopping();
        self.inbox.send(Message::Ask(Box::new(question(reply)))).await.map_err(|_| Refusal::stopping())?;
        answer.await.map_err(stopped)?
    }

    /// A beat after every turn of the mind, when what it decided has been saved and said.
    pub fn pulse(&self) -> watch::Receiver<u64> {
        self.pulse.clone()
    }
}

impl State {
    /// Takes one message in.
    fn take(&mut self, message: Message, now: Timestamp) {
        match message {
            Message::Connected { node, session, outbox, greeting } => {
                self.connected(node, OpenLink { session, outbox }, greeting, now)
            }
            Message::Decoy { node, session, report } => self.decoy_reported(&node, session, report, now),
            Message::Garbled { node, session, reason } => self.garbled(&node, session, reason, now),
            Message::Attested { node, session, attestation } => self.attested(&node, session, *attestation, now),
            Message::Hinted { node, session } => self.hinted(&node, session, now),
            Message::Revealed { node, revealed } => self.revealed(&node, revealed),
            Message::Lost { node, session } => self.lost(&node, session, now),
            Message::GateAnswered { deployment, asking, verdict } => {
                self.deployment_event(&deployment, &Event::GateAnswered { asking, verdict }, now);
            }
            Message::Ask(ask) => self.answer(*ask, now),
        }
    }
}

async fn run(
    mut state: State,
    store: Arc<dyn Store>,
    mut messages: mpsc::Receiver<Message>,
    beat: watch::Sender<u64>,
    observe_every: Millis,
) -> Result<(), RecordError> {
    let mut next_round = clock::now();
    let mut next_presence = clock::now();
    state.take_up(clock::now());
    loop {
        let wake = state.wake_at().into_iter().fold(next_round.min(next_presence), Timestamp::min);
        let pause = wake.since(clock::now());
        let first = tokio::select! {
            message = messages.recv() => match message {
                Some(message) => Some(message),
                None => return Ok(()),
            },
            () = tokio::time::sleep(pause.to_std()) => None,
        };
        let now = clock::now();
        let mut taken = 0;
        let mut next = first;
        while let Some(message) = next {
            state.take(message, now);
            taken += 1;
            next = if taken < TAKEN_TOGETHER { messages.try_recv().ok() } else { None };
        }
        if now >= next_round {
            state.renew_permits(now);
            state.ask_everyone(Depth::Events);
            next_round = now.after(observe_every);
        }
        if now >= next_presence {
            state.look_for_silence(now);
            state.watch_selftest(now);
            next_presence = now.after(PRESENCE_EVERY);
        }
        state.drive(now);
        let changes = state.changes();
        if !changes.is_empty() {
            records::save(store.as_ref(), &changes).await?;
        }
        for (record, to) in state.wanted() {
            // Whoever asked may have gone; then nobody needs it.
            drop(to.send(statements::read(store.as_ref(), &record).await));
        }
        state.speak();
        beat.send_modify(|beat| *beat += 1);
    }
}
