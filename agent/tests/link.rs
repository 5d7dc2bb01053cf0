//! A whole agent over real mutual TLS: joining, orders down, attestations up, bundles by digest. The controller is
//! played by this file; the host is in memory.

#![allow(clippy::unwrap_used)]

mod world;

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::os::unix::fs::PermissionsExt;
use std::pin::Pin;
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, SystemTime};

use fleet::deployment::{MigrationOrder, MigrationReport};
use fleet::evidence::{Attestation, Confirmation, Progress};
use fleet::{Hold, Millis, Nonce, Order};
use fleet_agent::agent::{self, AgentError};
use fleet_agent::config::Config;
use fleet_agent::join::{JoinError, Joined, Joining, TokenSource, join};
use fleet_agent::layout::Layout;
use fleet_agent::orders::Orders;
use fleet_agent::platform::fake::Deed;
use fleet_certs::{
    AllowList, Authority, DialError, Identity, JoinToken, KeyAndCsr, Limits, Peer, Role, ServerTls, Sessions,
    TokenGrant, accept_loop,
};
use fleet_proto::v1::enrolment_server::{Enrolment, EnrolmentServer};
use fleet_proto::v1::link_server::{Link, LinkServer};
use fleet_proto::v1::{
    Challenge, Chunk, ConfirmReply, ConfirmRequest, Desired, FetchBundleRequest, FromAgent, Hello, JoinReply,
    JoinRequest, ToAgent, from_agent, to_agent,
};
use tokio::net::TcpListener;
use tokio::sync::{mpsc, watch};
use tokio_stream::wrappers::ReceiverStream;
use tokio_stream::{Stream, StreamExt};
use tonic::{Request, Response, Status, Streaming};
use world::{World, release};

const DAY: Duration = Duration::from_secs(24 * 3_600);
/// A bound against hanging, far above what anything here takes.
const PATIENCE: Duration = Duration::from_secs(60);

/// What this controller does and has seen.
#[derive(Clone)]
struct Controller {
    authority: Arc<Authority>,
    allowed: AllowList,
    sessions: Sessions,
    joins: Arc<AtomicU32>,
    refuse: Arc<Mutex<Option<&'static str>>>,
    bundles: Arc<Mutex<BTreeMap<String, Vec<u8>>>>,
    arrivals: mpsc::Sender<Arrival>,
    /// What is asked to be confirmed, and from which port of which machine.
    asked: Arc<Mutex<Vec<(SocketAddr, ConfirmRequest)>>>,
    confirms: Arc<Mutex<bool>>,
}

/// An agent's session, for the test to play the controller in.
struct Arrival {
    hello: Hello,
    messages: mpsc::Receiver<FromAgent>,
    say: mpsc::Sender<Result<ToAgent, Status>>,
}

impl Arrival {
    async fn desired(&self, orders: &[Order]) {
        self.desired_with(orders, Vec::new()).await;
    }

    async fn desired_with(&self, orders: &[Order], migrations: Vec<MigrationOrder>) {
        let migrations = migrations.into_iter().map(Into::into).collect();
        let desired =
            Desired { orders: orders.iter().cloned().map(Into::into).collect(), permit_ms: 60_000, migrations };
        self.say.send(Ok(ToAgent { message: Some(to_agent::Message::Desired(desired)) })).await.unwrap();
    }

    async fn challenge(&mut self, n: u128) -> Attestation {
        let nonce = Nonce::from_random(n);
        self.say
            .send(Ok(ToAgent {
                message: Some(to_agent::Message::Challenge(Challenge {
                    nonce: nonce.as_str().to_owned(),
                    ..Challenge::default()
                })),
            }))
            .await
            .unwrap();
        loop {
            if let from_agent::Message::Attestation(attestation) = self.next().await {
                let attestation = Attestation::try_from(attestation).unwrap();
                assert_eq!(attestation.nonce, nonce);
                return attestation;
            }
        }
    }

    /// Challenges after every hint until the service is where it should be.
    async fn until(&mut self, mut what: impl FnMut(&Progress) -> bool) -> Attestation {
        for n in 1.. {
            let attestation = self.challenge(n).await;
            if attestation.services.first().is_some_and(|service| what(&service.progress)) {
                return attestation;
            }
            while !matches!(self.next().await, from_agent::Message::Hint(_)) {}
        }
        unreachable!()
    }

    async fn next(&mut self) -> from_agent::Message {
        within(self.messages.recv()).await.unwrap().message.unwrap()
    }
}

async fn within<T>(future: impl Future<Output = T>) -> T {
    tokio::time::timeout(PATIENCE, future).await.expect("nothing happened for a minute")
}

#[tonic::async_trait]
impl Enrolment for Controller {
    async fn join(&self, request: Request<JoinRequest>) -> Result<Response<JoinReply>, Status> {
        self.joins.fetch_add(1, Ordering::SeqCst);
        if let Some(reason) = *self.refuse.lock().unwrap() {
            return Err(Status::permission_denied(reason));
        }
        let request = request.into_inner();
        assert_eq!(request.labels.get("az").map(String::as_str), Some("a"));
        let identity = Identity::new(Role::Node, request.name.clone()).unwrap();
        let issued = self.authority.issue(&request.csr_pem, &identity, &[], DAY, SystemTime::now()).unwrap();
        self.allowed.grant(identity, issued.serial);
        Ok(Response::new(JoinReply {
            certificate_pem: issued.pem,
            ca_pem: self.authority.ca_pem().to_owned(),
            name: request.name,
        }))
    }
}

type Outgoing<T> = Pin<Box<dyn Stream<Item = Result<T, Status>> + Send>>;

#[tonic::async_trait]
impl Link for Controller {
    type SessionStream = Outgoing<ToAgent>;
    async fn session(&self, request: Request<Streaming<FromAgent>>) -> Result<Response<Self::SessionStream>, Status> {
        let mut incoming = request.into_inner();
        let Some(from_agent::Message::Hello(hello)) = incoming.message().await?.and_then(|message| message.message)
        else {
            return Err(Status::invalid_argument("no hello"));
        };
        let (say, said) = mpsc::channel(8);
        let (tell, messages) = mpsc::channel(64);
        tokio::spawn(async move {
            while let Ok(Some(message)) = incoming.message().await {
                if tell.send(message).await.is_err() {
                    return;
                }
            }
        });
        let _ = self.arrivals.send(Arrival { hello, messages, say }).await;
        Ok(Response::new(Box::pin(ReceiverStream::new(said))))
    }

    async fn confirm(&self, request: Request<ConfirmRequest>) -> Result<Response<ConfirmReply>, Status> {
        let from = request.extensions().get::<Peer>().unwrap().address;
        let request = request.into_inner();
        let confirmed = *self.confirms.lock().unwrap();
        let reply = ConfirmReply { nonce: request.nonce.clone(), confirmed, reason: "no proof yet".into() };
        self.asked.lock().unwrap().push((from, request));
        Ok(Response::new(reply))
    }

    type FetchBundleStream = Outgoing<Chunk>;
    async fn fetch_bundle(
        &self,
        request: Request<FetchBundleRequest>,
    ) -> Result<Response<Self::FetchBundleStream>, Status> {
        let request = request.into_inner();
        let bytes = self
            .bundles
            .lock()
            .unwrap()
            .get(&request.digest)
            .cloned()
            .ok_or_else(|| Status::not_found("no such bundle"))?;
        let chunks: Vec<_> =
            bytes[request.offset as usize..].chunks(50).map(|chunk| Ok(Chunk { data: chunk.to_vec() })).collect();
        Ok(Response::new(Box::pin(tokio_stream::iter(chunks).map(|chunk| chunk))))
    }
}

/// A controller that listens, and a world in which an agent may join it.
struct Fleet {
    world: World,
    controller: Controller,
    arrivals: mpsc::Receiver<Arrival>,
    address: String,
    _keys: tempfile::TempDir,
}

impl Fleet {
    async fn new() -> Self {
        let keys = tempfile::tempdir().unwrap();
        let authority = Arc::new(Authority::create(keys.path(), "test").unwrap());
        let allowed = AllowList::default();
        let sessions = Sessions::new(allowed.clone());
        let (sender, arrivals) = mpsc::channel(8);
        let controller = Controller {
            authority: authority.clone(),
            allowed,
            sessions: sessions.clone(),
            joins: Arc::default(),
            refuse: Arc::default(),
            bundles: Arc::default(),
            arrivals: sender,
            asked: Arc::default(),
            confirms: Arc::default(),
        };
        let own = KeyAndCsr::generate().unwrap();
        let identity = Identity::new(Role::Controller, "c1").unwrap();
        let issued =
            authority.issue(&own.csr_pem, &identity, &["localhost".to_owned()], DAY, SystemTime::now()).unwrap();
        let tls = ServerTls::new(authority.ca_pem(), &issued.pem, &own.key_pem).unwrap();
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap().to_string();
        let incoming = accept_loop(listener, tls, Limits::default(), sessions);
        let router = tonic::transport::Server::builder()
            .add_service(EnrolmentServer::new(controller.clone()))
            .add_service(LinkServer::new(controller.clone()));
        tokio::spawn(router.serve_with_incoming(incoming));
        Self { world: World::new(), controller, arrivals, address, _keys: keys }
    }

    fn layout(&self) -> Layout {
        Layout::new(self.world.dir.path().join("state"))
    }

    fn joining(&self, ca_hash: &str) -> Joining {
        let (token, _) = JoinToken::mint(ca_hash, TokenGrant::once(Role::Node, i64::MAX, "test")).unwrap();
        let file = self.world.dir.path().join("token");
        std::fs::write(&file, format!("{}\n", token.reveal())).unwrap();
        Joining {
            controller: self.address.clone(),
            controller_name: "localhost".into(),
            token: TokenSource::File(file),
            name: "n1".parse().unwrap(),
            labels: BTreeMap::from([("az".into(), "a".into())]),
        }
    }

    async fn joined() -> Self {
        let fleet = Self::new().await;
        let joining = fleet.joining(fleet.controller.authority.ca_hash());
        within(join(&fleet.layout(), &joining)).await.unwrap();
        fleet
    }

    fn config(&self) -> Config {
        let dir = self.world.dir.path().display();
        let text = format!(
            "controller = \"{}\"\nstate_dir = \"{dir}/state\"\nservices_root = \"{dir}/services\"\nobserve_every = \"100ms\"\n{}",
            self.address, self.world.more
        );
        Config::parse(std::path::Path::new("agent.toml"), &text).unwrap()
    }

    /// Runs an agent; dropping the sender does not stop it, sending does.
    fn run(&self) -> (watch::Sender<bool>, tokio::task::JoinHandle<Result<(), AgentError>>) {
        let (stop, stopping) = watch::channel(false);
        let host = Arc::new(self.world.host.clone());
        (stop, tokio::spawn(agent::run(self.config(), host.clone(), host, stopping)))
    }

    async fn arrival(&mut self) -> Arrival {
        within(self.arrivals.recv()).await.unwrap()
    }
}

#[tokio::test]
async fn joining_uses_the_token_up_and_keeps_the_key_private() {
    let fleet = Fleet::new().await;
    let joining = fleet.joining(fleet.controller.authority.ca_hash());
    assert_eq!(within(join(&fleet.layout(), &joining)).await.unwrap(), Joined::Now { name: "n1".into() });
    let TokenSource::File(file) = &joining.token else { unreachable!() };
    assert!(!file.exists(), "the token is gone");
    let key = fleet.layout().identity().join("key.pem");
    assert_eq!(std::fs::metadata(key).unwrap().permissions().mode() & 0o777, 0o600);
    assert_eq!(within(join(&fleet.layout(), &joining)).await.unwrap(), Joined::Already { name: "n1".into() });
    assert_eq!(fleet.controller.joins.load(Ordering::SeqCst), 1);
}

#[tokio::test]
async fn a_false_controller_never_sees_the_token() {
    let fleet = Fleet::new().await;
    let elsewhere = tempfile::tempdir().unwrap();
    let other = Authority::create(elsewhere.path(), "other").unwrap();
    let joining = fleet.joining(other.ca_hash());
    let error = within(join(&fleet.layout(), &joining)).await.unwrap_err();
    assert!(matches!(error, JoinError::Dial(DialError::Certificate { .. })), "{error}");
    assert_eq!(fleet.controller.joins.load(Ordering::SeqCst), 0);
    let TokenSource::File(file) = &joining.token else { unreachable!() };
    assert!(file.exists(), "an unused token is kept");
}

#[tokio::test]
async fn a_refused_join_says_why_and_repeats_with_the_same_key() {
    let fleet = Fleet::new().await;
    let joining = fleet.joining(fleet.controller.authority.ca_hash());
    *fleet.controller.refuse.lock().unwrap() = Some("the token has expired");
    let error = within(join(&fleet.layout(), &joining)).await.unwrap_err().to_string();
    assert!(error.contains("n1") && error.contains("expired"), "{error}");
    let key = std::fs::read(fleet.layout().identity().join("key.pem")).unwrap();
    *fleet.controller.refuse.lock().unwrap() = None;
    within(join(&fleet.layout(), &joining)).await.unwrap();
    assert_eq!(std::fs::read(fleet.layout().identity().join("key.pem")).unwrap(), key);
}

#[tokio::test]
async fn an_order_goes_down_and_the_proof_comes_up() {
    let mut fleet = Fleet::joined().await;
    let one = release("web", "one", None);
    fleet.controller.bundles.lock().unwrap().insert(one.bundle().to_string(), one.bytes.clone());
    let (stop, running) = fleet.run();
    let mut arrival = fleet.arrival().await;
    assert_eq!(arrival.hello.protocol, fleet_proto::PROTOCOL);
    assert!(arrival.challenge(1).await.services.is_empty(), "nothing is ordered yet");

    let order = fleet.world.order(1, &one.hold);
    arrival.desired(std::slice::from_ref(&order)).await;
    let attestation = arrival.until(|progress| *progress == Progress::Held).await;
    let service = &attestation.services[0];
    assert_eq!((service.generation.0, service.current.clone()), (1, Some(one.release())));
    assert_eq!(service.processes.len(), 1);
    assert_eq!(attestation.node.as_str(), "n1");

    // The same number with another content: refused, whoever says it.
    let contradiction = Order { hold: Hold::Nothing, ..order.clone() };
    arrival
        .desired(&[contradiction, Order { node: "n2".parse().unwrap(), ..fleet.world.order(9, &Hold::Nothing) }])
        .await;
    let attestation = arrival.challenge(77).await;
    assert_eq!((attestation.services[0].generation.0, &attestation.services[0].progress), (1, &Progress::Held));

    // A change that nobody announced is hinted at, and shows in the next statement.
    fleet.world.host.plant(&fleet.world.service, service.processes[0].clone());
    while !matches!(arrival.next().await, from_agent::Message::Hint(_)) {}
    assert_eq!(arrival.challenge(78).await.services[0].processes.len(), 2);

    // The link breaks: the agent is back by itself, and nothing was restarted.
    drop(arrival);
    let mut arrival = fleet.arrival().await;
    arrival.desired(&[order]).await;
    arrival.until(|progress| *progress == Progress::Held).await;
    assert_eq!(fleet.world.starts().len(), 1);

    // Told to stop, it stops, and the service runs on.
    stop.send(true).unwrap();
    within(running).await.unwrap().unwrap();
    assert_eq!(fleet.world.host.running(&fleet.world.service), [one.release()]);
}

/// A keeper that is held up, here by a balancer that does not answer, has not yet heard that it may start.
#[tokio::test]
async fn whoever_was_permitted_to_start_does_not_say_that_it_may_not() {
    let mut fleet = Fleet::joined().await;
    let socket = fleet.world.dir.path().join("haproxy.sock");
    let listener = tokio::net::UnixListener::bind(&socket).unwrap();
    fleet.world.more =
        format!("[balancer]\nhaproxy = {{ socket = \"{}\", backend = \"web\", server = \"n1\" }}", socket.display());
    let one = release("web", "one", None);
    let order = fleet.world.order(1, &one.hold);
    std::fs::create_dir_all(fleet.layout().orders()).unwrap();
    Orders::load(fleet.layout().orders(), order.node.clone()).unwrap().receive(&order).unwrap();
    let (_stop, _running) = fleet.run();
    // It is fenced, and asks the balancer to send nobody here: it is held up as long as this is not answered.
    let asked = within(listener.accept()).await.unwrap();
    let mut arrival = fleet.arrival().await;
    let Progress::Fenced { .. } = arrival.challenge(1).await.services[0].progress else { panic!("nothing permits it") };
    arrival.desired(&[order]).await;
    let attestation = arrival.challenge(2).await;
    let Progress::Working { step, detail } = &attestation.services[0].progress else { panic!("{attestation:?}") };
    assert_eq!((step.as_str(), detail.as_str()), ("start", "order 1 has just been permitted"));
    drop(asked);
}

#[tokio::test]
async fn an_order_that_cannot_be_read_fences_its_service_and_is_said() {
    let mut fleet = Fleet::joined().await;
    std::fs::write(fleet.layout().orders().join("web.json"), "{ half").unwrap();
    let one = release("web", "one", None);
    let (_stop, _running) = fleet.run();
    let mut arrival = fleet.arrival().await;
    arrival.desired(&[fleet.world.order(5, &one.hold)]).await;
    let attestation = arrival.challenge(1).await;
    let Progress::Fenced { reason } = &attestation.services[0].progress else { panic!("{attestation:?}") };
    assert!(reason.contains("web.json"), "{reason}");
    assert!(fleet.world.host.deeds().is_empty());
    assert_eq!(std::fs::read_to_string(fleet.layout().orders().join("web.json")).unwrap(), "{ half");
}

#[tokio::test]
async fn an_order_that_cannot_be_saved_is_said_to_have_failed_and_disturbs_nobody() {
    let mut fleet = Fleet::joined().await;
    let (one, two) = (release("web", "one", None), release("web", "two", None));
    for made in [&one, &two] {
        fleet.controller.bundles.lock().unwrap().insert(made.bundle().to_string(), made.bytes.clone());
    }
    let (_stop, _running) = fleet.run();
    let mut arrival = fleet.arrival().await;
    arrival.desired(&[fleet.world.order(1, &one.hold)]).await;
    arrival.until(|progress| *progress == Progress::Held).await;
    let deeds = fleet.world.host.deeds().len();
    // A directory where the temporary file belongs: as good as a full disk, also for root.
    let in_the_way = fleet.layout().orders().join(".web.json.tmp");
    std::fs::create_dir(&in_the_way).unwrap();
    arrival.desired(&[fleet.world.order(2, &two.hold)]).await;
    let attestation = arrival.until(|progress| matches!(progress, Progress::Failed { .. })).await;
    assert_eq!(attestation.services[0].generation.0, 2);
    assert_eq!(attestation.services[0].current, Some(one.release()));
    assert_eq!(fleet.world.host.deeds().len(), deeds);
    // Room again: the failed order stays failed, a newer one is taken.
    std::fs::remove_dir(&in_the_way).unwrap();
    arrival.desired(&[fleet.world.order(2, &two.hold)]).await;
    assert!(matches!(arrival.challenge(900).await.services[0].progress, Progress::Failed { .. }));
    arrival.desired(&[fleet.world.order(3, &two.hold)]).await;
    let attestation = arrival.until(|progress| *progress == Progress::Held).await;
    assert_eq!(
        (attestation.services[0].generation.0, attestation.services[0].current.clone()),
        (3, Some(two.release()))
    );
}

#[tokio::test]
async fn there_is_one_agent_per_state_directory_and_none_without_identity() {
    let mut fleet = Fleet::joined().await;
    let (_stop, _running) = fleet.run();
    fleet.arrival().await;
    let (_, second) = fleet.run();
    assert!(matches!(within(second).await.unwrap(), Err(AgentError::Lock(_))));
    let stranger = Fleet::new().await;
    let (_, running) = stranger.run();
    assert!(matches!(within(running).await.unwrap(), Err(AgentError::NotJoined { .. })));
}

#[tokio::test]
async fn no_two_sessions_have_one_number_and_no_two_statements_one_moment() {
    let mut fleet = Fleet::joined().await;
    let mut before = None;
    for session in 1..=3 {
        let (stop, running) = fleet.run();
        let mut arrival = fleet.arrival().await;
        assert_eq!(arrival.hello.session, session);
        for n in 0..4 {
            let attestation = arrival.challenge(n).await;
            assert!(attestation.clock.is_some());
            assert!(attestation.up > before, "{:?} after {before:?}", attestation.up);
            before = attestation.up;
        }
        stop.send(true).unwrap();
        within(running).await.unwrap().unwrap();
    }
}

#[tokio::test]
async fn a_revoked_agent_is_out_and_its_service_runs_on() {
    let mut fleet = Fleet::joined().await;
    let one = release("web", "one", None);
    fleet.controller.bundles.lock().unwrap().insert(one.bundle().to_string(), one.bytes.clone());
    let (stop, running) = fleet.run();
    let mut arrival = fleet.arrival().await;
    arrival.desired(&[fleet.world.order(1, &one.hold)]).await;
    arrival.until(|progress| *progress == Progress::Held).await;
    let identity = Identity::new(Role::Node, "n1").unwrap();
    fleet.controller.allowed.withdraw(&identity);
    fleet.controller.sessions.revoke(&identity);
    while within(arrival.messages.recv()).await.is_some() {}
    assert_eq!(fleet.world.host.running(&fleet.world.service), [one.release()]);
    stop.send(true).unwrap();
    within(running).await.unwrap().unwrap();
}

#[tokio::test]
async fn every_question_for_the_confirmation_has_a_connection_of_its_own() {
    let mut fleet = Fleet::joined().await;
    let one = release("web", "one", None);
    fleet.controller.bundles.lock().unwrap().insert(one.bundle().to_string(), one.bytes.clone());
    let (_stop, _running) = fleet.run();
    let mut arrival = fleet.arrival().await;
    arrival.desired(&[Order { confirm: Millis::from_secs(600), ..fleet.world.order(1, &one.hold) }]).await;
    let attestation = arrival.until(|progress| *progress == Progress::Held).await;
    assert_eq!(attestation.services[0].confirmation, Confirmation::Awaited);
    let asked = within(async {
        loop {
            let asked = fleet.controller.asked.lock().unwrap().clone();
            if asked.len() >= 3 {
                return asked;
            }
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    })
    .await;
    let ports: std::collections::BTreeSet<SocketAddr> = asked.iter().map(|(from, _)| *from).collect();
    assert_eq!(ports.len(), asked.len(), "{asked:?}");
    assert!(asked.iter().all(|(_, request)| *request == asked[0].1), "{asked:?}");
    assert_eq!((asked[0].1.service.as_str(), asked[0].1.generation, asked[0].1.nonce.len()), ("web", 1, 32));
    *fleet.controller.confirms.lock().unwrap() = true;
    // The end of the waiting is hinted at.
    for n in 100.. {
        while !matches!(arrival.next().await, from_agent::Message::Hint(_)) {}
        if arrival.challenge(n).await.services[0].confirmation == Confirmation::Given {
            break;
        }
    }
    assert_eq!(fleet.world.starts().len(), 1);
}

#[tokio::test]
async fn a_migration_goes_down_and_its_end_comes_up() {
    let mut fleet = Fleet::joined().await;
    let one = release("web", "one", None);
    fleet.controller.bundles.lock().unwrap().insert(one.bundle().to_string(), one.bytes.clone());
    let (_stop, _running) = fleet.run();
    let mut arrival = fleet.arrival().await;
    let migration = MigrationOrder {
        deployment: "d-one".parse().unwrap(),
        attempt: 1,
        node: "n1".parse().unwrap(),
        service: fleet.world.service.clone(),
        hold: one.hold.clone(),
        name: "migrate".into(),
        command: "bin/migrate".into(),
        timeout: Millis::from_secs(60),
    };
    arrival.desired_with(&[], vec![migration.clone(), migration.clone()]).await;
    let mut n = 1;
    let attestation = loop {
        let attestation = arrival.challenge(n).await;
        n += 1;
        if attestation.migrations.iter().any(|its| !matches!(its.report, MigrationReport::Running { .. })) {
            break attestation;
        }
        while !matches!(arrival.next().await, from_agent::Message::Hint(_)) {}
    };
    let [migrated] = &attestation.migrations[..] else { panic!("{attestation:?}") };
    assert_eq!((&migrated.deployment, migrated.attempt), (&migration.deployment, 1));
    assert_eq!(migrated.report, MigrationReport::Succeeded);
    assert!(attestation.services.is_empty(), "no service was ordered");
    assert!(attestation.disk_free.is_some_and(|free| free > 0));
    // Said again, it is not run again.
    arrival.desired_with(&[fleet.world.order(1, &one.hold)], vec![migration]).await;
    arrival.until(|progress| *progress == Progress::Held).await;
    let errands = fleet.world.host.deeds().into_iter().filter(|deed| matches!(deed, Deed::Errand { .. }));
    assert_eq!(errands.count(), 1);
}
