//! A fleet for one test: an authority, a controller that tells callers who they are, and forged certificates.

use std::convert::Infallible;
use std::future::{Future, pending};
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::{Duration, SystemTime};

use fleet_certs::{
    AllowList, Authority, Dialer, Identity, Issued, KeyAndCsr, Limits, Peer, Role, ServerTls, Sessions, accept_loop,
};
use rcgen::{CertificateParams, ExtendedKeyUsagePurpose as Purpose, Issuer, KeyPair, KeyUsagePurpose, SanType};
use tempfile::TempDir;
use tokio::net::TcpListener;
use tokio::sync::Notify;
use tonic::body::Body;
use tonic::codegen::http;
use tonic::server::{Grpc, NamedService, UnaryService};
use tonic::transport::{Channel, Server};
use tonic::{Request, Response, Status};
use tonic_prost::ProstCodec;

/// A bound against hanging, far above what anything here takes.
pub const PATIENCE: Duration = Duration::from_secs(60);

pub const DAY: Duration = Duration::from_secs(24 * 3600);

/// A certificate and its key.
#[derive(Clone)]
pub struct Pair {
    pub cert_pem: String,
    pub key_pem: String,
}

impl Pair {
    pub fn pems(&self) -> Option<(&str, &str)> {
        Some((&self.cert_pem, &self.key_pem))
    }
}

pub struct Fleet {
    pub dir: TempDir,
    pub authority: Authority,
    pub allowed: AllowList,
    pub sessions: Sessions,
    /// Told whenever a call of `hang` has arrived.
    pub hanging: Arc<Notify>,
}

impl Fleet {
    pub fn new() -> Self {
        let dir = tempfile::tempdir().unwrap();
        let authority = Authority::create(dir.path(), "test").unwrap();
        let allowed = AllowList::default();
        Fleet { dir, authority, sessions: Sessions::new(allowed.clone()), allowed, hanging: Arc::default() }
    }

    pub fn identity(role: Role, name: &str) -> Identity {
        Identity::new(role, name).unwrap()
    }

    /// Issues as the controller would, without putting the serial on the allow-list.
    pub fn issue(&self, role: Role, name: &str) -> (Pair, Issued) {
        self.issue_at(role, name, SystemTime::now())
    }

    pub fn issue_at(&self, role: Role, name: &str, now: SystemTime) -> (Pair, Issued) {
        let made = KeyAndCsr::generate().unwrap();
        let names = match role {
            Role::Controller => vec!["localhost".to_owned(), "127.0.0.1".to_owned()],
            _ => vec![],
        };
        let issued = self.authority.issue(&made.csr_pem, &Self::identity(role, name), &names, DAY, now).unwrap();
        let pair = Pair { cert_pem: issued.pem.clone(), key_pem: made.key_pem };
        (pair, issued)
    }

    /// Issues and puts the serial on the allow-list.
    pub fn enrol(&self, role: Role, name: &str) -> Pair {
        let (pair, issued) = self.issue(role, name);
        self.allowed.grant(Self::identity(role, name), issued.serial);
        pair
    }

    /// What somebody with the authority's key could sign, past all rules of `Authority::issue`.
    pub fn forge(&self, uris: &[&str], purpose: Purpose) -> Pair {
        let read = |file: &str| std::fs::read_to_string(self.dir.path().join(file)).unwrap();
        let ca_key = KeyPair::from_pem(&read("ca.key")).unwrap();
        let issuer = Issuer::from_ca_cert_pem(&read("ca.pem"), ca_key).unwrap();
        let mut params = CertificateParams::new(vec!["localhost".to_owned()]).unwrap();
        for uri in uris {
            let uri = (*uri).try_into().unwrap();
            params.subject_alt_names.push(SanType::URI(uri));
        }
        params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
        params.extended_key_usages = vec![purpose];
        let key = KeyPair::generate().unwrap();
        Pair { cert_pem: params.signed_by(&key, &issuer).unwrap().pem(), key_pem: key.serialize_pem() }
    }

    /// Starts a controller under a certificate of its own.
    pub async fn serve(&self) -> SocketAddr {
        self.serve_within(Limits::default()).await
    }

    pub async fn serve_within(&self, limits: Limits) -> SocketAddr {
        let (own, _) = self.issue(Role::Controller, "c1");
        let tls = ServerTls::new(self.authority.ca_pem(), &own.cert_pem, &own.key_pem).unwrap();
        self.serve_with(tls, limits).await
    }

    pub async fn serve_with(&self, tls: ServerTls, limits: Limits) -> SocketAddr {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let incoming = accept_loop(listener, tls, limits, self.sessions.clone());
        let service = WhoAmI { hanging: self.hanging.clone() };
        tokio::spawn(Server::builder().add_service(service).serve_with_incoming(incoming));
        address
    }

    pub fn dialer(&self, pair: Option<&Pair>) -> Dialer {
        Dialer::new(self.authority.ca_pem(), pair.and_then(Pair::pems)).unwrap()
    }

    pub async fn channel(&self, pair: Option<&Pair>, address: SocketAddr) -> Result<Channel, fleet_certs::DialError> {
        let address = address.to_string();
        within(self.dialer(pair).channel(&address, "localhost")).await
    }
}

/// Awaits something that must come.
pub async fn within<T>(future: impl Future<Output = T>) -> T {
    tokio::time::timeout(PATIENCE, future).await.expect("nothing happened for a minute")
}

/// Calls `ask` ("who am I?", answered with identity and serial) or `hang` (never answered).
pub async fn call(channel: Channel, method: &'static str) -> Result<String, Status> {
    let mut client = tonic::client::Grpc::new(channel);
    client.ready().await.map_err(|error| Status::from_error(Box::new(error)))?;
    let path = http::uri::PathAndQuery::from_static(method);
    let codec = ProstCodec::<String, String>::default();
    let answer = client.unary(Request::new(String::new()), path, codec).await?;
    Ok(answer.into_inner())
}

pub const ASK: &str = "/seals.WhoAmI/Ask";
pub const HANG: &str = "/seals.WhoAmI/Hang";

type Boxed<T> = Pin<Box<dyn Future<Output = T> + Send>>;

#[derive(Clone)]
struct WhoAmI {
    hanging: Arc<Notify>,
}

impl NamedService for WhoAmI {
    const NAME: &'static str = "seals.WhoAmI";
}

impl tower::Service<http::Request<Body>> for WhoAmI {
    type Response = http::Response<Body>;
    type Error = Infallible;
    type Future = Boxed<Result<Self::Response, Infallible>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: http::Request<Body>) -> Self::Future {
        let answer = Answer { hang: (request.uri().path() == HANG).then(|| self.hanging.clone()) };
        Box::pin(async move {
            let mut grpc = Grpc::new(ProstCodec::<String, String>::default());
            Ok(grpc.unary(answer, request).await)
        })
    }
}

struct Answer {
    hang: Option<Arc<Notify>>,
}

impl UnaryService<String> for Answer {
    type Response = String;
    type Future = Boxed<Result<Response<String>, Status>>;

    fn call(&mut self, request: Request<String>) -> Self::Future {
        let hang = self.hang.take();
        Box::pin(async move {
            if let Some(hanging) = hang {
                hanging.notify_one();
                pending::<()>().await;
            }
            let peer = request.extensions().get::<Peer>().unwrap();
            Ok(Response::new(match (&peer.identity, &peer.serial) {
                (Some(identity), Some(serial)) => format!("{identity} {serial}"),
                (None, None) => "nobody".to_owned(),
                _ => "identity and serial must come together".to_owned(),
            }))
        })
    }
}
