//! Dialling the controller: TCP, TLS with the fleet's rules, HTTP/2, and a clear word when one of them fails.
//!
//! A dialler makes one attempt; when to try again is the caller's business. An open channel reconnects by itself.

use std::io;
use std::pin::Pin;
use std::sync::{Arc, Mutex, OnceLock, PoisonError};
use std::task::{Context, Poll, ready};
use std::time::Duration;

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use hyper_util::rt::TokioIo;
use rustls::ClientConfig;
use rustls::client::Resumption;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{PrivateKeyDer, ServerName};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::TcpStream;
use tokio::sync::oneshot;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;
use tonic::transport::{Channel, Endpoint};

use crate::certificate::{certificates, to_pem};
use crate::dial_error::DialError;
use crate::provider::provider;
use crate::trust::{ControllerVerifier, authority_in};

/// How long TCP and TLS together may take, and then the controller's first word.
pub const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);

/// How often a silent connection is asked whether it lives, and how long the answer may take: a vanished controller is
/// noticed within 15 s (F17), also while no call is waiting.
const KEEP_ALIVE_INTERVAL: Duration = Duration::from_secs(10);
const KEEP_ALIVE_TIMEOUT: Duration = Duration::from_secs(5);

/// Dials controllers of one fleet, under one identity or none. Clones are cheap.
#[derive(Clone)]
pub struct Dialer {
    tls: Arc<ClientConfig>,
    authority: Authority,
}

/// What is known of the fleet's authority.
#[derive(Clone)]
enum Authority {
    Known(Arc<str>),
    Hash { ca_hash: Arc<str>, learnt: Arc<OnceLock<String>> },
}

/// Where to, and under which name the controller must be certified.
#[derive(Clone)]
struct Target {
    address: Arc<str>,
    server_name: ServerName<'static>,
    endpoint: Endpoint,
}

type FirstWord = oneshot::Sender<Result<(), DialError>>;

impl Dialer {
    /// A dialler that knows the fleet's authority (PEM), with the own certificate and key (PEM) or, for enrolment,
    /// without.
    pub fn new(ca_pem: &str, identity: Option<(&str, &str)>) -> Result<Self, DialError> {
        let authorities = certificates(ca_pem).map_err(own_identity)?;
        let verifier = ControllerVerifier::known(&authorities).map_err(own_identity)?;
        Ok(Dialer { tls: config(verifier, identity)?, authority: Authority::Known(ca_pem.into()) })
    }

    /// A dialler for the first contact, when only the hash in the join token is known. The handshake fails, and no byte
    /// of the token can be sent, unless the controller proves that it belongs to that authority.
    ///
    /// After the first successful [`Dialer::channel`], [`Dialer::ca_pem`] gives the authority's certificate.
    pub fn with_ca_hash(ca_hash: &str) -> Result<Self, DialError> {
        if !URL_SAFE_NO_PAD.decode(ca_hash).is_ok_and(|h| h.len() == 32) {
            return Err(own_identity("the authority's hash is not a base64url SHA-256"));
        }
        Ok(Dialer {
            tls: config(ControllerVerifier::by_hash(ca_hash.to_owned()), None)?,
            authority: Authority::Hash { ca_hash: ca_hash.into(), learnt: Arc::default() },
        })
    }

    /// The authority's certificate (PEM), if it is known or has been learnt by a verified connection.
    pub fn ca_pem(&self) -> Option<&str> {
        match &self.authority {
            Authority::Known(pem) => Some(pem),
            Authority::Hash { learnt, .. } => learnt.get().map(String::as_str),
        }
    }

    /// Connects to `address` (`HOST:PORT`), where a controller certified for `server_name` must answer.
    ///
    /// Returns only when the controller has accepted the own certificate too: in TLS 1.3 a client's handshake is done
    /// before the server has looked at it, so the controller's first word is awaited. A refusal is told as such here,
    /// and not as a broken connection at the first call.
    pub async fn channel(&self, address: &str, server_name: &str) -> Result<Channel, DialError> {
        let target = Target::new(address, server_name)?;
        let (first_word, heard) = oneshot::channel();
        let channel =
            target.endpoint.connect_with_connector(self.connector(&target, Some(first_word))).await.map_err(
                |error| DialError::find(&error).cloned().unwrap_or_else(|| broken(address, error.to_string())),
            )?;
        match tokio::time::timeout(CONNECT_TIMEOUT, heard).await {
            Ok(Ok(outcome)) => outcome.map(|()| channel),
            Ok(Err(_)) => Err(broken(address, "it ended before the controller said a word")),
            Err(_) => Err(timeout(address)),
        }
    }

    /// A channel that connects at its first call, and whose calls fail with a `tonic::Status` in which
    /// [`DialError::find`] finds why it could not.
    pub fn channel_lazy(&self, address: &str, server_name: &str) -> Result<Channel, DialError> {
        let target = Target::new(address, server_name)?;
        Ok(target.endpoint.connect_with_connector_lazy(self.connector(&target, None)))
    }

    /// One TLS connection without HTTP/2 on it.
    async fn connect(&self, target: &Target) -> Result<TlsStream<TcpStream>, DialError> {
        let address = &*target.address;
        let attempt = async {
            let tcp = TcpStream::connect(address)
                .await
                .map_err(|error| DialError::Unreachable { address: address.to_owned(), source: Arc::new(error) })?;
            // Calls are small and awaited; a failure only costs latency.
            let _slower = tcp.set_nodelay(true);
            TlsConnector::from(self.tls.clone())
                .connect(target.server_name.clone(), tcp)
                .await
                .map_err(|error| DialError::from_io(address, error))
        };
        let stream = tokio::time::timeout(CONNECT_TIMEOUT, attempt).await.map_err(|_| timeout(address))??;
        self.learn(&stream);
        Ok(stream)
    }

    /// Keeps the authority's certificate of a connection whose handshake is complete, signature included.
    fn learn(&self, stream: &TlsStream<TcpStream>) {
        let Authority::Hash { ca_hash, learnt } = &self.authority else {
            return;
        };
        let chain = stream.get_ref().1.peer_certificates().unwrap_or_default();
        if let Some(authority) = chain.get(1..).and_then(|rest| authority_in(rest, ca_hash)) {
            learnt.get_or_init(|| to_pem(authority));
        }
    }

    /// What tonic calls for each connection. Only the first one reports its first word.
    fn connector(
        &self,
        target: &Target,
        first_word: Option<FirstWord>,
    ) -> impl tower::Service<tonic::codegen::http::Uri, Response = TokioIo<Dialed>, Error = DialError, Future: Send>
    + Send
    + 'static {
        let (dialer, target) = (self.clone(), target.clone());
        let first_word = Arc::new(Mutex::new(first_word));
        tower::service_fn(move |_| {
            let (dialer, target, first_word) = (dialer.clone(), target.clone(), first_word.clone());
            async move {
                let stream = dialer.connect(&target).await?;
                let first_word = first_word.lock().unwrap_or_else(PoisonError::into_inner).take();
                Ok(TokioIo::new(Dialed { stream, first_word, address: target.address }))
            }
        })
    }
}

impl std::fmt::Debug for Dialer {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Dialer").finish_non_exhaustive()
    }
}

impl Target {
    fn new(address: &str, server_name: &str) -> Result<Self, DialError> {
        let refuse = |reason: &str| DialError::Address { address: address.to_owned(), reason: reason.to_owned() };
        let (_, port) = address.rsplit_once(':').ok_or_else(|| refuse("the port is missing"))?;
        if !port.parse::<u16>().is_ok_and(|port| port != 0) {
            return Err(refuse("the port is not a number from 1 to 65535"));
        }
        let endpoint = Endpoint::from_shared(format!("http://{address}"))
            .map_err(|_| refuse("the host is not a name or an IP address (IPv6 needs brackets)"))?
            .http2_keep_alive_interval(KEEP_ALIVE_INTERVAL)
            .keep_alive_timeout(KEEP_ALIVE_TIMEOUT)
            .keep_alive_while_idle(true);
        let server_name = ServerName::try_from(server_name.to_owned()).map_err(|_| DialError::Address {
            address: server_name.to_owned(),
            reason: "the controller's name is neither a host name nor an IP address".to_owned(),
        })?;
        Ok(Target { address: address.into(), server_name, endpoint })
    }
}

/// A connection that reports the first thing it hears.
struct Dialed {
    stream: TlsStream<TcpStream>,
    first_word: Option<FirstWord>,
    address: Arc<str>,
}

impl AsyncRead for Dialed {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let before = buf.filled().len();
        let read = ready!(Pin::new(&mut self.stream).poll_read(cx, buf));
        let Some(first_word) = self.first_word.take() else {
            return Poll::Ready(read);
        };
        let (outcome, read) = match read {
            Ok(()) if buf.filled().len() > before => (Ok(()), Ok(())),
            Ok(()) => {
                let ended = io::Error::from(io::ErrorKind::UnexpectedEof);
                (Err(DialError::from_io(&self.address, ended)), Ok(()))
            }
            Err(error) => {
                let kind = error.kind();
                let told = DialError::from_io(&self.address, error);
                (Err(told.clone()), Err(io::Error::new(kind, told)))
            }
        };
        // Nobody listens any more if the caller has given up.
        let _given_up = first_word.send(outcome);
        Poll::Ready(read)
    }
}

impl AsyncWrite for Dialed {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write(cx, buf)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write_vectored(cx, bufs)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(cx)
    }
}

fn config(verifier: ControllerVerifier, identity: Option<(&str, &str)>) -> Result<Arc<ClientConfig>, DialError> {
    let builder = ClientConfig::builder_with_provider(provider())
        .with_protocol_versions(&[&rustls::version::TLS13])
        .map_err(own_identity)?
        .dangerous()
        .with_custom_certificate_verifier(Arc::new(verifier));
    let mut config = match identity {
        None => builder.with_no_client_auth(),
        Some((cert_pem, key_pem)) => {
            let chain = certificates(cert_pem).map_err(own_identity)?;
            let key = PrivateKeyDer::from_pem_slice(key_pem.as_bytes())
                .map_err(|_| own_identity("no private key found in the PEM text"))?;
            builder.with_client_auth_cert(chain, key).map_err(own_identity)?
        }
    };
    config.alpn_protocols = vec![b"h2".to_vec()];
    config.resumption = Resumption::disabled();
    Ok(Arc::new(config))
}

fn own_identity(reason: impl ToString) -> DialError {
    DialError::OwnIdentity { reason: reason.to_string() }
}

fn broken(address: &str, reason: impl Into<String>) -> DialError {
    DialError::Broken { address: address.to_owned(), reason: reason.into() }
}

fn timeout(address: &str) -> DialError {
    DialError::Timeout { address: address.to_owned(), after: CONNECT_TIMEOUT }
}
