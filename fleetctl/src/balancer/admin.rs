//! The socket of the runtime API: lines in, answers out, with HAProxy's manners. Without `prompt` the connection is closed
//! once everything that has arrived is answered; with it, each answer is followed by `> ` and the connection stays.

use std::io::ErrorKind;
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _};
use tokio::net::{TcpListener, UnixListener};
use tokio::sync::watch;

use super::config::AdminAddress;
use super::{Error, Shared, runtime_api};

/// Longest line, as HAProxy's default buffer.
const MAX_LINE_BYTES: usize = 16 * 1024;
/// How long a connection may say nothing, as HAProxy's default `stats timeout`.
const IDLE_TIMEOUT: Duration = Duration::from_secs(10);

/// A bound socket that is not served yet.
pub(super) struct Bound {
    address: AdminAddress,
    socket: Socket,
}

enum Socket {
    Tcp(TcpListener),
    Unix(UnixListener),
}

/// What ends a connection.
#[derive(PartialEq, Eq)]
enum Manner {
    /// Closed after the answers.
    Once,
    /// Kept, with a prompt.
    Prompt,
}

impl Bound {
    /// The address with the real port.
    pub(super) fn address(&self) -> &AdminAddress {
        &self.address
    }
}

/// Binds the runtime API. A unix socket that nobody serves any more is replaced; one that is served is an error.
pub(super) async fn bind(address: &AdminAddress) -> Result<Bound, Error> {
    let refused = |source| Error::Listen { address: address.to_string(), what: "the runtime API".to_owned(), source };
    match address {
        AdminAddress::Tcp(tcp) => {
            let listener = TcpListener::bind(tcp).await.map_err(refused)?;
            let address = AdminAddress::Tcp(listener.local_addr().map_err(refused)?);
            Ok(Bound { address, socket: Socket::Tcp(listener) })
        }
        AdminAddress::Unix(path) => {
            let listener = bind_unix(path).await.map_err(refused)?;
            Ok(Bound { address: address.clone(), socket: Socket::Unix(listener) })
        }
    }
}

/// Answers until `stop`.
pub(super) async fn serve(bound: Bound, shared: Arc<Shared>, mut stop: watch::Receiver<bool>) {
    loop {
        let Ok(place) = Arc::clone(&shared.admin_connections).acquire_owned().await else { return };
        let accepted = tokio::select! {
            accepted = accept(&bound.socket) => accepted,
            _ = stop.wait_for(|stop| *stop) => return,
        };
        match accepted {
            Ok(stream) => {
                let shared = Arc::clone(&shared);
                tokio::spawn(async move {
                    if let Err(error) = converse(stream, &shared).await {
                        tracing::debug!(%error, "a connection to the runtime API ended early");
                    }
                    drop(place);
                });
            }
            Err(error) => {
                tracing::warn!(%error, "the runtime API cannot accept");
                tokio::time::sleep(Duration::from_millis(50)).await;
            }
        }
    }
}

trait Stream: AsyncRead + AsyncWrite + Send + Unpin {}
impl<T: AsyncRead + AsyncWrite + Send + Unpin> Stream for T {}

async fn accept(socket: &Socket) -> std::io::Result<Box<dyn Stream>> {
    match socket {
        Socket::Tcp(listener) => Ok(Box::new(listener.accept().await?.0)),
        Socket::Unix(listener) => Ok(Box::new(listener.accept().await?.0)),
    }
}

async fn bind_unix(path: &Path) -> std::io::Result<UnixListener> {
    let listener = match UnixListener::bind(path) {
        Err(error) if error.kind() == ErrorKind::AddrInUse => {
            match tokio::net::UnixStream::connect(path).await {
                Err(refused) if refused.kind() == ErrorKind::ConnectionRefused => std::fs::remove_file(path)?,
                _ => return Err(error),
            }
            UnixListener::bind(path)?
        }
        bound => bound?,
    };
    std::fs::set_permissions(path, std::fs::Permissions::from_mode(0o600))?;
    Ok(listener)
}

async fn converse(mut stream: Box<dyn Stream>, shared: &Shared) -> std::io::Result<()> {
    let mut manner = Manner::Once;
    let mut buffer = Vec::new();
    loop {
        while let Some(end) = buffer.iter().position(|byte| *byte == b'\n') {
            let line: Vec<u8> = buffer.drain(..=end).collect();
            let line = String::from_utf8_lossy(&line);
            for command in line.split(';') {
                match command.trim() {
                    "quit" => return Ok(()),
                    "prompt" => {
                        manner = if manner == Manner::Once { Manner::Prompt } else { Manner::Once };
                        stream.write_all(b"\n").await?;
                    }
                    command => {
                        for answer in runtime_api::answer(shared, command).await {
                            stream.write_all(answer.as_bytes()).await?;
                        }
                    }
                }
                if manner == Manner::Prompt {
                    stream.write_all(b"> ").await?;
                }
            }
            if buffer.is_empty() && manner == Manner::Once {
                return stream.shutdown().await;
            }
        }
        if buffer.len() >= MAX_LINE_BYTES {
            return Ok(());
        }
        let mut chunk = [0_u8; 2048];
        match tokio::time::timeout(IDLE_TIMEOUT, stream.read(&mut chunk)).await {
            Err(_) | Ok(Ok(0)) => return Ok(()),
            Ok(Ok(length)) => buffer.extend_from_slice(&chunk[..length]),
            Ok(Err(error)) => return Err(error),
        }
    }
}
