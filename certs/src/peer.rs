//! One accepted connection: a TLS stream that knows whose it is and fails once that identity is revoked.

use std::io;
use std::net::SocketAddr;
use std::pin::Pin;
use std::task::{Context, Poll};

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::TcpStream;
use tokio::sync::OwnedSemaphorePermit;
use tokio_rustls::server::TlsStream;
use tonic::transport::server::Connected;

use crate::accept::AddressSlot;
use crate::identity::Identity;
use crate::sessions::{Direction, Session};

/// Who is at the other end. tonic puts it into the extensions of every request.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Peer {
    /// The identity of its certificate; `None` without certificate, which is enough for enrolment only.
    pub identity: Option<Identity>,
    /// The serial of its certificate, as `Issued::serial`.
    pub serial: Option<String>,
    /// Where it comes from.
    pub address: SocketAddr,
}

/// An accepted connection for `serve_with_incoming`. Gives its places in the limits back when dropped.
pub struct PeerStream {
    tls: TlsStream<TcpStream>,
    peer: Peer,
    session: Option<Session>,
    _places: Places,
}

/// The places a connection holds in the limits of the accept loop.
pub(crate) struct Places {
    pub(crate) _address: AddressSlot,
    pub(crate) _connection: OwnedSemaphorePermit,
}

impl PeerStream {
    pub(crate) fn new(tls: TlsStream<TcpStream>, peer: Peer, session: Option<Session>, places: Places) -> Self {
        PeerStream { tls, peer, session, _places: places }
    }

    /// Who is at the other end.
    pub fn peer(&self) -> &Peer {
        &self.peer
    }

    fn check_open(&self, cx: &Context<'_>, direction: Direction) -> io::Result<()> {
        match &self.session {
            Some(session) if session.poll_closed(cx, direction) => Err(io::Error::new(
                io::ErrorKind::ConnectionAborted,
                "the identity of this connection has been revoked",
            )),
            _ => Ok(()),
        }
    }
}

impl std::fmt::Debug for PeerStream {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("PeerStream").field("peer", &self.peer).finish_non_exhaustive()
    }
}

impl Connected for PeerStream {
    type ConnectInfo = Peer;

    fn connect_info(&self) -> Peer {
        self.peer.clone()
    }
}

impl AsyncRead for PeerStream {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        self.check_open(cx, Direction::Read)?;
        Pin::new(&mut self.tls).poll_read(cx, buf)
    }
}

impl AsyncWrite for PeerStream {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        self.check_open(cx, Direction::Write)?;
        Pin::new(&mut self.tls).poll_write(cx, buf)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        self.check_open(cx, Direction::Write)?;
        Pin::new(&mut self.tls).poll_write_vectored(cx, bufs)
    }

    fn is_write_vectored(&self) -> bool {
        self.tls.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.check_open(cx, Direction::Write)?;
        Pin::new(&mut self.tls).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.check_open(cx, Direction::Write)?;
        Pin::new(&mut self.tls).poll_shutdown(cx)
    }
}
