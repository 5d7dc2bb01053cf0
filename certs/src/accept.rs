//! The accept loop: takes connections within limits, finishes their handshakes, and hands them to the server.
//!
//! Nothing a stranger does ends the loop: not an error of `accept`, not a flood of connections, not a handshake that
//! never ends. It is no task of its own but runs where its stream is asked for the next connection, so that the
//! listener is closed, and its port free, in the moment in which the stream is dropped.

use std::collections::HashMap;
use std::io;
use std::net::{IpAddr, Ipv6Addr, SocketAddr};
use std::pin::Pin;
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll, ready};
use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{OwnedSemaphorePermit, Semaphore, mpsc};
use tokio::time::Sleep;
use tokio_rustls::TlsAcceptor;
use tokio_stream::Stream;

use crate::certificate::Certificate;
use crate::peer::{Peer, PeerStream, Places};
use crate::server::ServerTls;
use crate::sessions::Sessions;

/// How long to wait after an error of `accept`: without descriptors left, trying at once again would only burn time.
const PAUSE_AFTER_ERROR: Duration = Duration::from_millis(20);

/// How many finished handshakes wait for the server to take them over.
const QUEUE: usize = 64;

/// How much is read from a refused peer while it takes note of the refusal, in bytes: the first frames of HTTP/2.
const DRAIN: usize = 16 * 1024;

/// What the accept loop allows.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Limits {
    /// Handshakes at the same time; more are dropped at once. Each costs a few milliseconds of one core at most.
    pub handshakes: usize,
    /// Connections from one address (IPv6: one /64). Generous, because whole test fleets live on loopback.
    pub connections_per_address: usize,
    /// Connections in all: a bound on descriptors and memory, well above a large fleet.
    pub connections: usize,
    /// How long a handshake may take.
    pub handshake_timeout: Duration,
}

impl Default for Limits {
    fn default() -> Self {
        Limits {
            handshakes: 256,
            connections_per_address: 1024,
            connections: 16_384,
            handshake_timeout: Duration::from_secs(5),
        }
    }
}

/// Accepts connections on `listener` until the returned stream is dropped; for tonic's `serve_with_incoming`. Dropping
/// it closes the listener at once, and ends the handshakes that are under way.
///
/// Must be polled within a tokio runtime. The stream never yields an error: refused peers are logged, not passed on.
pub fn accept_loop(
    listener: TcpListener,
    tls: ServerTls,
    limits: Limits,
    sessions: Sessions,
) -> impl Stream<Item = io::Result<PeerStream>> + Send + Unpin + 'static {
    let (ready, greeted) = mpsc::channel(QUEUE);
    let door = Door {
        tls,
        sessions,
        handshakes: Arc::new(Semaphore::new(limits.handshakes)),
        connections: Arc::new(Semaphore::new(limits.connections)),
        addresses: Addresses::default(),
        limits,
        ready,
    };
    Incoming { listener, door: Arc::new(door), greeted, pause: None }
}

/// The connections whose handshake is done.
struct Incoming {
    listener: TcpListener,
    door: Arc<Door>,
    greeted: mpsc::Receiver<PeerStream>,
    /// The rest after an error of `accept`.
    pause: Option<Pin<Box<Sleep>>>,
}

impl Stream for Incoming {
    type Item = io::Result<PeerStream>;

    fn poll_next(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        let this = self.get_mut();
        loop {
            // The door holds a sender, so this channel does not end before the stream does.
            if let Poll::Ready(Some(stream)) = this.greeted.poll_recv(cx) {
                return Poll::Ready(Some(Ok(stream)));
            }
            if let Some(pause) = &mut this.pause {
                ready!(pause.as_mut().poll(cx));
                this.pause = None;
            }
            match ready!(this.listener.poll_accept(cx)) {
                Ok((tcp, address)) => this.door.admit(tcp, address),
                // RUSTSEC-2024-0376: a server that ends here can be ended by anyone who uses up its descriptors.
                Err(error) => {
                    tracing::warn!(%error, "accepting a connection failed, going on");
                    this.pause = Some(Box::pin(tokio::time::sleep(PAUSE_AFTER_ERROR)));
                }
            }
        }
    }
}

struct Door {
    tls: ServerTls,
    sessions: Sessions,
    limits: Limits,
    handshakes: Arc<Semaphore>,
    connections: Arc<Semaphore>,
    addresses: Addresses,
    ready: mpsc::Sender<PeerStream>,
}

impl Door {
    /// Starts the handshake of one connection, or drops it if a limit is reached.
    fn admit(self: &Arc<Self>, tcp: TcpStream, address: SocketAddr) {
        // Only at debug level: a flood must not become a flood of log lines.
        let Ok(handshake) = self.handshakes.clone().try_acquire_owned() else {
            tracing::debug!(peer = %address, "dropped: too many handshakes in flight");
            return;
        };
        let Ok(connection) = self.connections.clone().try_acquire_owned() else {
            tracing::debug!(peer = %address, "dropped: too many connections");
            return;
        };
        let most = self.limits.connections_per_address;
        let Some(slot) = self.addresses.take(address.ip(), most) else {
            tracing::debug!(peer = %address, "dropped: too many connections from its address");
            return;
        };
        let places = Places { _address: slot, _connection: connection };
        tokio::spawn(self.clone().greet(tcp, address, places, handshake));
    }

    async fn greet(
        self: Arc<Self>,
        tcp: TcpStream,
        address: SocketAddr,
        places: Places,
        _handshake: OwnedSemaphorePermit,
    ) {
        let handshake = tokio::time::timeout(self.limits.handshake_timeout, self.handshake(tcp, address, places));
        let greeted = tokio::select! {
            () = self.ready.closed() => return,
            greeted = handshake => greeted,
        };
        match greeted {
            Ok(Some(stream)) => {
                // The only error is that the server has stopped.
                let _server_stopped = self.ready.send(stream).await;
            }
            Ok(None) => {}
            Err(_) => tracing::debug!(peer = %address, "dropped: its handshake took too long"),
        }
    }

    async fn handshake(&self, tcp: TcpStream, address: SocketAddr, places: Places) -> Option<PeerStream> {
        // Orders and answers are small and awaited; a failure only costs latency.
        let _slower = tcp.set_nodelay(true);
        let config = self
            .tls
            .config(&self.sessions, address)
            .inspect_err(|error| tracing::error!(%error, "no TLS configuration"))
            .ok()?;
        let tls = match TlsAcceptor::from(config).accept(tcp).into_fallible().await {
            Ok(tls) => tls,
            Err((error, tcp)) => {
                log_failure(address, &error);
                say_goodbye(tcp).await;
                return None;
            }
        };
        let mut peer = Peer { identity: None, serial: None, address };
        let mut session = None;
        let certificates = tls.get_ref().1.peer_certificates();
        if let Some(leaf) = certificates.and_then(|chain| chain.first()) {
            // The verifier has read the same bytes already, so this cannot fail; if it does, the door stays shut.
            let certificate = Certificate::from_der(leaf)
                .inspect_err(|error| tracing::warn!(peer = %address, %error, "dropped"))
                .ok()?;
            let opened = self.sessions.open(&certificate.identity, &certificate.serial);
            let Some(opened) = opened else {
                tracing::warn!(peer = %address, identity = %certificate.identity, "dropped: revoked during its handshake");
                return None;
            };
            session = Some(opened);
            peer.identity = Some(certificate.identity);
            peer.serial = Some(certificate.serial);
        }
        Some(PeerStream::new(tls, peer, session, places))
    }
}

/// A refused certificate is worth a line; it cost its sender a whole handshake. Other failures are cheap to cause by the
/// thousand (port scans, floods) and stay at debug level.
fn log_failure(address: SocketAddr, error: &io::Error) {
    let tls = error.get_ref().and_then(|inner| inner.downcast_ref::<rustls::Error>());
    if let Some(rustls::Error::InvalidCertificate(reason)) = tls {
        tracing::info!(peer = %address, %reason, "handshake refused: the peer's certificate is not accepted");
    } else {
        tracing::debug!(peer = %address, %error, "handshake failed");
    }
}

/// Lets a refused peer read why. Closing a socket with unread bytes in it sends a reset, which can overtake the alert
/// that was just written; so the rest is read until the peer hangs up, bounded in bytes here and in time by the caller.
async fn say_goodbye(mut tcp: TcpStream) {
    if tcp.shutdown().await.is_err() {
        return;
    }
    let mut sink = [0u8; 1024];
    let mut left = DRAIN;
    while left > 0 {
        match tcp.read(&mut sink).await {
            Ok(0) | Err(_) => return,
            Ok(read) => left = left.saturating_sub(read),
        }
    }
}

/// Open connections by address.
#[derive(Clone, Default)]
struct Addresses {
    open: Arc<Mutex<HashMap<IpAddr, usize>>>,
}

impl Addresses {
    fn take(&self, address: IpAddr, most: usize) -> Option<AddressSlot> {
        let address = counted_as(address);
        let mut open = self.open.lock().unwrap_or_else(PoisonError::into_inner);
        if open.get(&address).copied().unwrap_or_default() >= most {
            return None;
        }
        *open.entry(address).or_default() += 1;
        Some(AddressSlot { addresses: self.clone(), address })
    }
}

/// One connection's place in the count of its address.
pub(crate) struct AddressSlot {
    addresses: Addresses,
    address: IpAddr,
}

impl Drop for AddressSlot {
    fn drop(&mut self) {
        let mut open = self.addresses.open.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(count) = open.get_mut(&self.address) {
            *count -= 1;
            if *count == 0 {
                open.remove(&self.address);
            }
        }
    }
}

/// One machine commonly owns a whole /64 of IPv6, so that is what counts as one address.
fn counted_as(address: IpAddr) -> IpAddr {
    match address.to_canonical() {
        IpAddr::V6(v6) => IpAddr::V6(Ipv6Addr::from_bits(v6.to_bits() & !u128::from(u64::MAX))),
        v4 => v4,
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn counts_by_address_and_by_network() {
        let addresses = Addresses::default();
        let take = |text: &str| addresses.take(text.parse().unwrap(), 2);
        let first = take("10.0.0.1").unwrap();
        let mapped = take("::ffff:10.0.0.1").unwrap();
        assert!(take("10.0.0.1").is_none());
        assert!(take("10.0.0.2").is_some());
        drop(first);
        let again = take("10.0.0.1").unwrap();
        let _six = take("2001:db8::1").unwrap();
        let _neighbour = take("2001:db8::2").unwrap();
        assert!(take("2001:db8::3").is_none());
        assert!(take("2001:db8:0:1::1").is_some());
        drop((mapped, again));
        assert_eq!(addresses.open.lock().unwrap().len(), 1, "only the /64 is left");
    }
}
