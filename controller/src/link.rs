//! The agents' side of the wire: one stream per agent. Who speaks is known from the certificate; messages are read here,
//! once, and brought to the mind as values. The bytes of bundles are sent by `fetch`.

use std::pin::Pin;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use fleet::NodeName;
use fleet_certs::{Peer, Role};
use fleet_proto::{PROTOCOL, convert, v1};
use tokio::sync::mpsc;
use tokio_stream::Stream;
use tokio_stream::wrappers::ReceiverStream;
use tonic::{Request, Response, Status, Streaming};

use crate::artifacts::Artifacts;
use crate::fetch::{Chunks, Fetches};
use crate::mind::{Ask, Greeting, Message, Mind};

/// Messages on their way to one agent; more means that it does not read.
const OUTBOX: usize = 64;
/// How long an agent may take to say its hello: it says it before anything else, so this is one round trip.
const HELLO_PATIENCE: Duration = Duration::from_secs(10);

/// How long a question for the confirmation waits here for the proof: shorter than an agent waits for its answer.
const PROOF_PATIENCE: Duration = Duration::from_secs(2);

/// The longest version or boot id that is kept of a hello, in characters: a kernel's boot id has 36.
const LONGEST_WORD: usize = 64;

/// The longest nonce of a confirmation, in bytes: it is sent back as it came.
const LONGEST_NONCE: usize = 64;

/// The service that agents call.
#[derive(Debug)]
pub struct LinkService {
    mind: Mind,
    fetches: Fetches,
    sessions: AtomicU64,
}

impl LinkService {
    /// Brings what agents say to `mind`, and sends them what `artifacts` keeps.
    pub fn new(mind: Mind, artifacts: Artifacts) -> Self {
        Self { mind, fetches: Fetches::new(artifacts), sessions: AtomicU64::new(1) }
    }
}

/// The node at the other end. The access table has let it in already; this is the second lock on the same door.
fn node<T>(request: &Request<T>) -> Result<NodeName, Status> {
    let identity = request.extensions().get::<Peer>().and_then(|peer| peer.identity.as_ref());
    match identity {
        Some(identity) if identity.role() == Role::Node => {
            identity.name().parse().map_err(|e| Status::permission_denied(format!("{e}")))
        }
        Some(_) | None => Err(Status::permission_denied("only nodes may call this")),
    }
}

#[tonic::async_trait]
impl v1::link_server::Link for LinkService {
    type SessionStream = Pin<Box<dyn Stream<Item = Result<v1::ToAgent, Status>> + Send>>;

    async fn session(
        &self,
        request: Request<Streaming<v1::FromAgent>>,
    ) -> Result<Response<Self::SessionStream>, Status> {
        let node = node(&request)?;
        let mut incoming = request.into_inner();
        let hello = tokio::time::timeout(HELLO_PATIENCE, incoming.message())
            .await
            .map_err(|_| Status::deadline_exceeded("an agent's stream begins with its hello, and none came"))??;
        let hello = match hello {
            Some(v1::FromAgent { message: Some(v1::from_agent::Message::Hello(hello)) }) => hello,
            Some(_) | None => return Err(Status::invalid_argument("an agent's stream begins with its hello")),
        };
        if hello.protocol != PROTOCOL {
            let reason = format!(
                "the agent speaks protocol {}, this controller speaks {PROTOCOL}: upgrade the older of the two",
                hello.protocol
            );
            return Err(Status::failed_precondition(reason));
        }
        let session = self.sessions.fetch_add(1, Ordering::Relaxed);
        let (outbox, to_agent) = mpsc::channel(OUTBOX);
        let stopping = |_| Status::unavailable("the controller is stopping");
        let shown = |text: &str| text.chars().filter(|c| !c.is_control()).take(LONGEST_WORD).collect::<String>();
        let greeting = Greeting {
            agent_version: shown(&hello.agent_version),
            boot_id: shown(&hello.boot_id),
            number: hello.session,
            volunteers: hello.selftest,
        };
        self.mind.tell(Message::Connected { node: node.clone(), session, outbox, greeting }).await.map_err(stopping)?;
        let mind = self.mind.clone();
        tokio::spawn(async move {
            listen(&mind, &node, session, &mut incoming).await;
            // The mind may have stopped; then nobody needs to know.
            let _ = mind.tell(Message::Lost { node, session }).await;
        });
        Ok(Response::new(Box::pin(ReceiverStream::new(to_agent))))
    }

    async fn confirm(&self, request: Request<v1::ConfirmRequest>) -> Result<Response<v1::ConfirmReply>, Status> {
        let node = node(&request)?;
        let request = request.into_inner();
        if request.nonce.len() > LONGEST_NONCE {
            return Err(Status::invalid_argument("the nonce is longer than any this fleet draws"));
        }
        let service: fleet::ServiceName =
            convert::parse("service", &request.service).map_err(|e| Status::invalid_argument(e.to_string()))?;
        let generation = fleet::Generation(request.generation);
        let stopping = |_| Status::unavailable("the controller is stopping");
        let when_proven = self.mind.ask(|to| Ask::ConfirmWhenProven(node.clone(), service.clone(), generation, to));
        let held = match tokio::time::timeout(PROOF_PATIENCE, when_proven).await {
            Ok(held) => held,
            Err(_) => self.mind.ask(|to| Ask::Confirm(node, service, generation, to)).await,
        };
        let held = held.map_err(stopping)?;
        let (confirmed, reason) = match held {
            Ok(()) => (true, String::new()),
            Err(reason) => (false, reason),
        };
        Ok(Response::new(v1::ConfirmReply { nonce: request.nonce, confirmed, reason }))
    }

    type FetchBundleStream = Chunks;

    async fn fetch_bundle(
        &self,
        request: Request<v1::FetchBundleRequest>,
    ) -> Result<Response<Self::FetchBundleStream>, Status> {
        let node = node(&request)?;
        let request = request.into_inner();
        let digest = convert::parse("digest", &request.digest).map_err(|e| Status::invalid_argument(e.to_string()))?;
        self.fetches.begin(node, digest, request.offset).await.map(Response::new)
    }
}

/// Brings everything an agent says to the mind, until its stream ends.
async fn listen(mind: &Mind, node: &NodeName, session: u64, incoming: &mut Streaming<v1::FromAgent>) {
    loop {
        let message = match incoming.message().await {
            Ok(Some(v1::FromAgent { message: Some(message) })) => message,
            Ok(Some(v1::FromAgent { message: None })) => continue,
            Ok(None) => return,
            Err(status) => return tracing::debug!(%node, session, %status, "the agent's stream broke"),
        };
        let message = match message {
            v1::from_agent::Message::Attestation(attestation) => match attestation.try_into() {
                Ok(attestation) => {
                    Message::Attested { node: node.clone(), session, attestation: Box::new(attestation) }
                }
                Err(e) => Message::Garbled { node: node.clone(), session, reason: e.to_string() },
            },
            v1::from_agent::Message::Hint(_) => Message::Hinted { node: node.clone(), session },
            v1::from_agent::Message::Hello(_) => continue,
        };
        if mind.tell(message).await.is_err() {
            return;
        }
    }
}
