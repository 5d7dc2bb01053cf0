//! A line that counts what passes through it, in both directions.

use std::io::{Read as _, Write as _};
use std::net::{Ipv4Addr, Shutdown, SocketAddr, TcpListener, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use anyhow::Context as _;

/// How much is passed on at a time.
const PIECE: usize = 64 << 10;

/// The line, for as long as this process lives.
#[derive(Debug, Clone)]
pub struct Meter {
    /// Where it listens.
    pub port: u16,
    up: Arc<AtomicU64>,
    down: Arc<AtomicU64>,
    connections: Arc<AtomicU64>,
}

/// What has passed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Passed {
    /// From the one that dials, in bytes.
    pub up: u64,
    /// To the one that dials.
    pub down: u64,
    /// Connections made.
    pub connections: u64,
}

impl Meter {
    /// A line to `127.0.0.1:to`.
    ///
    /// # Errors
    /// There is no port to listen on.
    pub fn to(to: u16) -> anyhow::Result<Self> {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).context("cannot listen")?;
        let port = listener.local_addr()?.port();
        let meter = Self { port, up: Arc::default(), down: Arc::default(), connections: Arc::default() };
        let counts = meter.clone();
        std::thread::spawn(move || {
            for client in listener.incoming().map_while(Result::ok) {
                let Ok(server) = TcpStream::connect(SocketAddr::from((Ipv4Addr::LOCALHOST, to))) else { continue };
                let (Ok(other_client), Ok(other_server)) = (client.try_clone(), server.try_clone()) else { continue };
                counts.connections.fetch_add(1, Ordering::Relaxed);
                let (up, down) = (counts.up.clone(), counts.down.clone());
                std::thread::spawn(move || pass(client, server, &up));
                std::thread::spawn(move || pass(other_server, other_client, &down));
            }
        });
        Ok(meter)
    }

    /// What has passed until now.
    pub fn passed(&self) -> Passed {
        Passed {
            up: self.up.load(Ordering::Relaxed),
            down: self.down.load(Ordering::Relaxed),
            connections: self.connections.load(Ordering::Relaxed),
        }
    }
}

fn pass(mut from: TcpStream, mut to: TcpStream, count: &AtomicU64) {
    let mut piece = vec![0; PIECE];
    while let Ok(read @ 1..) = from.read(&mut piece) {
        // Counted first: whoever has received it may look at once.
        count.fetch_add(read as u64, Ordering::Relaxed);
        if to.write_all(&piece[..read]).is_err() {
            break;
        }
    }
    // Whoever has gone already needs no word of it.
    let _ = to.shutdown(Shutdown::Both);
    let _ = from.shutdown(Shutdown::Both);
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn what_passes_is_counted_by_direction() {
        let server = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
        let meter = Meter::to(server.local_addr().unwrap().port()).unwrap();
        let mut client = TcpStream::connect((Ipv4Addr::LOCALHOST, meter.port)).unwrap();
        client.write_all(b"hello").unwrap();
        let mut answering = server.accept().unwrap().0;
        let mut heard = [0; 5];
        answering.read_exact(&mut heard).unwrap();
        answering.write_all(b"to you as well").unwrap();
        drop(answering);
        let mut answer = Vec::new();
        client.read_to_end(&mut answer).unwrap();
        assert_eq!((&heard[..], &answer[..]), (&b"hello"[..], &b"to you as well"[..]));
        assert_eq!(meter.passed(), Passed { up: 5, down: 14, connections: 1 });
    }
}
