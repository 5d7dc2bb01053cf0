//! The link: one stream to the controller, dialled from here, for as long as the agent runs. It carries desired state
//! down and attestations up, and decides nothing about services.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use fleet::deployment::{MigrationOrder, MigrationReport};
use fleet::evidence::{Confirmation, MigrationEvidence, Progress, ServiceEvidence};
use fleet::looked::Depth;
use fleet::{Digest, Millis, Nonce, Order};
use fleet_certs::{DialError, Dialer};
use fleet_proto::v1::link_client::LinkClient;
use fleet_proto::v1::{ConfirmRequest, Desired, FetchBundleRequest, FromAgent, Hello, Hint, from_agent, to_agent};
use fleet_proto::{PROTOCOL, convert};
use tokio::sync::{mpsc, watch};
use tokio::time::Instant;
use tokio_stream::StreamExt;
use tokio_stream::wrappers::ReceiverStream;
use tonic::transport::Channel;
use tonic::{Code, Status};

use crate::backoff::Backoff;
use crate::confirm::{Confirmer, Question, Reply};
use crate::fetch::{Chunks, Source, SourceError};
use crate::node::Node;
use crate::observe;

/// The longest pause between two attempts: a controller that comes back has its fleet back within it. Well below the
/// five seconds of silence that it bears, or every longer outage of a controller would end with alarms about nodes that
/// were only waiting for their turn to dial.
const LONGEST_PAUSE: Duration = Duration::from_secs(3);
const FIRST_PAUSE: Duration = Duration::from_millis(100);
/// The pause after a refusal that only a person can lift. Still tried: the person may have.
const REFUSED_PAUSE: Duration = Duration::from_secs(30);
/// Changes within this time make one hint: a transfer in progress reports many times a second.
const HINT_PAUSE: Duration = Duration::from_millis(100);
/// A look that nobody asked for is followed by this many times as long without one: a file that is written all the time
/// must not have the agent read it all the time.
const REST: u32 = 9;
/// Messages that may wait to be sent. An agent with nothing but attestations and hints needs two.
const OUTBOX: usize = 8;

/// The address of the controller, and the channel to it while there is one.
#[derive(Clone)]
pub struct Line {
    dialer: Dialer,
    address: String,
    server_name: String,
    channel: Arc<Mutex<Option<Channel>>>,
}

/// How a session ended.
#[derive(Debug)]
enum End {
    /// The agent stops.
    Stopped,
    /// The link broke; the controller had said what it wants.
    Broken(String),
    /// It did not come about.
    Failed(String),
    /// The controller does not want this agent.
    Refused(String),
}

impl Line {
    /// A line to the controller at `address`, certified for `server_name`.
    pub fn new(dialer: Dialer, address: String, server_name: String) -> Self {
        Self { dialer, address, server_name, channel: Arc::default() }
    }

    /// Keeps the link until `stop` says so.
    pub async fn run(&self, node: Arc<Node>, observe_every: Millis, mut stop: watch::Receiver<bool>) {
        let mut backoff = Backoff::new(FIRST_PAUSE, LONGEST_PAUSE);
        let mut refusals = Backoff::new(REFUSED_PAUSE, REFUSED_PAUSE);
        loop {
            let end = self.session(&node, observe_every, &mut stop).await;
            self.set_channel(None);
            node.lost();
            let pause = match end {
                End::Stopped => return,
                End::Broken(reason) => {
                    backoff.reset();
                    let pause = backoff.next();
                    tracing::warn!(controller = %self.address, "the link broke: {reason}; again in {pause:?}");
                    pause
                }
                End::Failed(reason) => {
                    let pause = backoff.next();
                    tracing::warn!("no link: {reason}; again in {pause:?}");
                    pause
                }
                End::Refused(reason) => {
                    // Half to all of it: jitter, but never a hurry.
                    let pause = REFUSED_PAUSE / 2 + refusals.next() / 2;
                    tracing::error!(
                        "the controller refuses this agent: {reason}; services keep running, again in {pause:?}"
                    );
                    pause
                }
            };
            tokio::select! {
                () = tokio::time::sleep(pause) => {}
                _ = stop.wait_for(|stop| *stop) => return,
            }
        }
    }

    async fn session(&self, node: &Arc<Node>, observe_every: Millis, stop: &mut watch::Receiver<bool>) -> End {
        tokio::select! {
            end = self.talk(node, observe_every) => end,
            _ = stop.wait_for(|stop| *stop) => End::Stopped,
        }
    }

    async fn talk(&self, node: &Arc<Node>, observe_every: Millis) -> End {
        let channel = match self.dialer.channel(&self.address, &self.server_name).await {
            Ok(channel) => channel,
            Err(error) => return dial_end(&error),
        };
        let (outbox, messages) = mpsc::channel(OUTBOX);
        let hello = Hello {
            agent_version: env!("CARGO_PKG_VERSION").to_owned(),
            boot_id: node.boot_id(),
            protocol: PROTOCOL,
            session: node.next_session().await,
            selftest: node.volunteers(),
        };
        if outbox.send(from_agent(from_agent::Message::Hello(hello))).await.is_err() {
            return End::Failed("the outbox is closed".to_owned());
        }
        let mut client = LinkClient::new(channel.clone());
        let mut inbound = match client.session(ReceiverStream::new(messages)).await {
            Ok(response) => response.into_inner(),
            Err(status) => return status_end(&status, Heard::Nothing),
        };
        self.set_channel(Some(channel));
        tracing::info!(controller = %self.address, "linked");
        // Only the newest challenge is worth an answer; the controller that sent it has given up the ones before.
        let challenge = watch::Sender::new(None);
        let speaking = speak(node.clone(), challenge.clone(), outbox, observe_every);
        let mut heard = Heard::Nothing;
        let listening = async {
            loop {
                match inbound.message().await {
                    Ok(Some(message)) => match message.message {
                        Some(to_agent::Message::Desired(desired)) => {
                            heard = Heard::Desired;
                            take(node, desired).await;
                        }
                        Some(to_agent::Message::Challenge(asked)) => {
                            let depth = Depth::from(asked.depth());
                            match convert::parse::<Nonce>("nonce", &asked.nonce) {
                                Ok(nonce) => challenge.send_modify(|newest| {
                                    // What an earlier one asked for is still owed, if it was not answered yet.
                                    let owed = newest.take().map_or(depth, |(_, owed): (Nonce, Depth)| owed.max(depth));
                                    *newest = Some((nonce, owed));
                                }),
                                Err(error) => tracing::warn!("a challenge is refused: {error}"),
                            }
                        }
                        None => tracing::warn!(
                            "a message of a kind this agent does not know is refused; is the controller newer?"
                        ),
                    },
                    Ok(None) => return Status::unavailable("the controller ended the stream"),
                    Err(status) => return status,
                }
            }
        };
        let status = tokio::select! {
            status = listening => status,
            () = speaking => Status::unavailable("the stream cannot be written any more"),
        };
        status_end(&status, heard)
    }

    fn set_channel(&self, channel: Option<Channel>) {
        *self.channel.lock().unwrap_or_else(PoisonError::into_inner) = channel;
    }
}

#[tonic::async_trait]
impl Source for Line {
    async fn open(&self, bundle: &Digest, offset: u64) -> Result<Chunks, SourceError> {
        let channel = self.channel.lock().unwrap_or_else(PoisonError::into_inner).clone();
        let channel = channel.ok_or_else(|| SourceError("there is no link to the controller".to_owned()))?;
        let request = FetchBundleRequest { digest: bundle.to_string(), offset };
        let told = |status: Status| SourceError(status.message().to_owned());
        let chunks = LinkClient::new(channel).fetch_bundle(request).await.map_err(told)?.into_inner();
        Ok(Box::pin(chunks.map(move |chunk| chunk.map(|chunk| chunk.data).map_err(told))))
    }
}

#[tonic::async_trait]
impl Confirmer for Line {
    async fn ask(&self, question: &Question) -> Result<Reply, String> {
        // Not the session's channel, which may still stand although nobody could make a new one: TCP, TLS and all.
        let channel = self.dialer.channel(&self.address, &self.server_name).await.map_err(|error| error.to_string())?;
        let request = ConfirmRequest {
            service: question.service.to_string(),
            generation: question.generation.0,
            nonce: question.nonce.as_str().to_owned(),
        };
        let told = |status: Status| match DialError::find(&status) {
            Some(error) => error.to_string(),
            None => format!("{} ({:?})", status.message(), status.code()),
        };
        let reply = LinkClient::new(channel).confirm(request).await.map_err(told)?.into_inner();
        Ok(Reply { nonce: reply.nonce, confirmed: reply.confirmed, reason: reply.reason })
    }
}

/// Whether the controller has said what it wants in this session.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Heard {
    Nothing,
    Desired,
}

async fn take(node: &Arc<Node>, desired: Desired) {
    let mut orders = Vec::new();
    for order in desired.orders {
        let service = order.service.clone();
        match Order::try_from(order) {
            Ok(order) => orders.push(order),
            Err(error) => tracing::error!(service = %service.escape_default(), "an order is refused: {error}"),
        }
    }
    let mut migrations = Vec::new();
    for order in desired.migrations {
        let service = order.service.clone();
        match MigrationOrder::try_from(order) {
            Ok(order) => migrations.push(order),
            Err(error) => tracing::error!(service = %service.escape_default(), "a migration is refused: {error}"),
        }
    }
    node.receive(orders, Millis(desired.permit_ms)).await;
    node.migrate(migrations).await;
}

/// Answers challenges with a look made after they arrived; hints when something differs from what was last stated.
async fn speak(
    node: Arc<Node>,
    challenges: watch::Sender<Option<(Nonce, Depth)>>,
    outbox: mpsc::Sender<FromAgent>,
    observe_every: Millis,
) {
    let mut changes = node.changes();
    let mut asked = challenges.subscribe();
    let mut stated = None;
    let mut hinted = None;
    // When the next change may be hinted at: the first at once, a stream of them no more often than the pause.
    let mut next_hint = Instant::now();
    let mut changed_since = false;
    // Processes come and go without a word: they are looked at this long after they were last, whoever asked for that.
    let mut next_look = Instant::now();
    loop {
        tokio::select! {
            biased;
            challenged = asked.changed() => {
                if challenged.is_err() {
                    return;
                }
                let mut newest = None;
                challenges.send_if_modified(|waiting| {
                    newest = waiting.take();
                    false
                });
                let Some((nonce, depth)) = newest else { continue };
                let attestation = node.attest(nonce, depth).await;
                stated = Some((observe::without_ages(attestation.services.clone()), attestation.migrations.clone()));
                hinted = None;
                next_look = Instant::now() + observe_every.to_std();
                if outbox.send(from_agent(from_agent::Message::Attestation(attestation.into()))).await.is_err() {
                    return;
                }
                continue;
            }
            changed = changes.changed() => {
                if changed.is_err() {
                    return;
                }
                changed_since = true;
                continue;
            }
            () = tokio::time::sleep_until(next_hint), if changed_since => {}
            () = tokio::time::sleep_until(next_look) => {}
        }
        changed_since = false;
        let began = Instant::now();
        // The free space of the disk is stated and not hinted at: it changes all the time.
        let seen = (observe::without_ages(node.look(Depth::Events).await), node.migrations());
        let ended = Instant::now();
        next_hint = (began + HINT_PAUSE).max(ended + ended.duration_since(began) * REST);
        next_look = (ended + observe_every.to_std()).max(next_hint);
        if stated.as_ref() == Some(&seen) || hinted.as_ref() == Some(&seen) {
            continue;
        }
        let hint = Hint { reason: reason(&seen.0, &seen.1) };
        hinted = Some(seen);
        if outbox.send(from_agent(from_agent::Message::Hint(hint))).await.is_err() {
            return;
        }
    }
}

/// What a hint says: where each service is, and how migrations stand.
fn reason(seen: &[ServiceEvidence], migrations: &[MigrationEvidence]) -> String {
    let word = |service: &ServiceEvidence| {
        let progress = match &service.progress {
            Progress::Working { step, .. } => step.as_str(),
            Progress::Held if service.confirmation == Confirmation::Awaited => "held, unconfirmed,",
            Progress::Held => "held",
            Progress::Failed { .. } => "failed",
            Progress::Fenced { .. } => "fenced",
        };
        format!("{} {progress} at {}, {} processes", service.service, service.generation, service.processes.len())
    };
    let migration = |migration: &MigrationEvidence| {
        let report = match &migration.report {
            MigrationReport::Running { .. } => "runs",
            MigrationReport::Succeeded => "succeeded",
            MigrationReport::Failed { .. } => "failed",
            MigrationReport::Interrupted { .. } => "was interrupted",
        };
        format!("the migration of {} {report}", migration.deployment)
    };
    seen.iter().map(word).chain(migrations.iter().map(migration)).collect::<Vec<_>>().join("; ")
}

fn from_agent(message: from_agent::Message) -> FromAgent {
    FromAgent { message: Some(message) }
}

fn dial_end(error: &DialError) -> End {
    match error {
        DialError::Rejected { .. }
        | DialError::Certificate { .. }
        | DialError::OwnIdentity { .. }
        | DialError::Address { .. } => End::Refused(error.to_string()),
        _ => End::Failed(error.to_string()),
    }
}

fn status_end(status: &Status, heard: Heard) -> End {
    let reason = match DialError::find(status) {
        Some(error) => error.to_string(),
        None => format!("{} ({:?})", status.message(), status.code()),
    };
    match (status.code(), heard) {
        (Code::Unauthenticated | Code::PermissionDenied | Code::FailedPrecondition, _) => End::Refused(reason),
        (_, Heard::Desired) => End::Broken(reason),
        (_, Heard::Nothing) => End::Failed(reason),
    }
}
