//! Accepts connections, gives each a thread, and stops without losing a request that was already on its way.

use std::io;
use std::net::{IpAddr, SocketAddr, TcpListener};
use std::os::fd::AsFd;
use std::os::unix::net::UnixStream;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Condvar, Mutex, PoisonError};
use std::thread::JoinHandle;
use std::time::Duration;

use nix::poll::{PollFd, PollFlags, PollTimeout, poll};

use crate::response::Identity;
use crate::{Version, connection};

/// Most connections at a time: one thread each, and no test or load generator of the examples needs more.
const MAX_CONNECTIONS: usize = 256;
/// How long a stop waits for requests in flight: the longest `/slow` and the linger after it.
const STOP_TIMEOUT: Duration = Duration::from_secs(65);

/// A server that accepts connections on its own thread.
pub(crate) struct Server {
    address: SocketAddr,
    shared: Arc<Shared>,
    accepting: JoinHandle<()>,
    wake: UnixStream,
}

/// How a server ended.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Stopped {
    /// Every request in flight was answered.
    Finished,
    /// Requests were still in flight after the stop timeout.
    CutOff {
        /// How many connections were still open.
        connections: usize,
    },
}

struct Shared {
    identity: Identity,
    stopping: AtomicBool,
    open: Mutex<usize>,
    closed_one: Condvar,
}

/// One open connection; dropping it, also by a panic of its thread, gives its place back.
struct Place(Arc<Shared>);

impl Server {
    /// Listens and starts to accept.
    pub(crate) fn start(version: Version, bind: IpAddr, port: u16) -> io::Result<Server> {
        let listener = TcpListener::bind((bind, port))?;
        // Non-blocking, so that everything that waits in the kernel's queue can be taken before the listener is closed.
        listener.set_nonblocking(true)?;
        let address = listener.local_addr()?;
        let (wake, woken) = UnixStream::pair()?;
        let shared = Arc::new(Shared {
            identity: Identity::from_environment(version),
            stopping: AtomicBool::new(false),
            open: Mutex::new(0),
            closed_one: Condvar::new(),
        });
        let accepting = std::thread::Builder::new().name("accept".to_owned()).spawn({
            let shared = Arc::clone(&shared);
            move || accept(&listener, &woken, &shared)
        })?;
        Ok(Server { address, shared, accepting, wake })
    }

    /// Where it listens, with the real port if it was started with port 0.
    pub(crate) fn address(&self) -> SocketAddr {
        self.address
    }

    /// Stops accepting and waits for the requests in flight.
    pub(crate) fn stop(self) -> Stopped {
        self.shared.stopping.store(true, Ordering::SeqCst);
        // The end of the stream wakes the accepting thread; it then closes the listener.
        drop(self.wake);
        let _ = self.accepting.join();
        let open = self.shared.open.lock().unwrap_or_else(PoisonError::into_inner);
        let (open, _) = self
            .shared
            .closed_one
            .wait_timeout_while(open, STOP_TIMEOUT, |open| *open > 0)
            .unwrap_or_else(PoisonError::into_inner);
        match *open {
            0 => Stopped::Finished,
            connections => Stopped::CutOff { connections },
        }
    }
}

impl Place {
    fn take(shared: &Arc<Shared>) -> Option<Place> {
        let mut open = shared.open.lock().unwrap_or_else(PoisonError::into_inner);
        if *open >= MAX_CONNECTIONS {
            return None;
        }
        *open += 1;
        Some(Place(Arc::clone(shared)))
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        *self.0.open.lock().unwrap_or_else(PoisonError::into_inner) -= 1;
        self.0.closed_one.notify_all();
    }
}

/// Accepts until `woken` ends, then takes what still waits in the kernel's queue.
fn accept(listener: &TcpListener, woken: &UnixStream, shared: &Arc<Shared>) {
    loop {
        let mut sources =
            [PollFd::new(listener.as_fd(), PollFlags::POLLIN), PollFd::new(woken.as_fd(), PollFlags::POLLIN)];
        match poll(&mut sources, PollTimeout::NONE) {
            Ok(_) | Err(nix::errno::Errno::EINTR) => {}
            Err(error) => {
                crate::say(&format!("hello: cannot wait for connections: {error}"));
                return;
            }
        }
        let last_round = shared.stopping.load(Ordering::SeqCst);
        take_waiting(listener, shared);
        if last_round {
            return;
        }
    }
}

fn take_waiting(listener: &TcpListener, shared: &Arc<Shared>) {
    loop {
        match listener.accept() {
            Ok((stream, _)) => {
                // Whether an accepted socket inherits the flag differs between systems.
                if stream.set_nonblocking(false).is_err() {
                    continue;
                }
                let Some(place) = Place::take(shared) else {
                    connection::turn_away(stream, &shared.identity);
                    continue;
                };
                let spawned = std::thread::Builder::new().name("connection".to_owned()).spawn(move || {
                    connection::serve(stream, &place.0.identity, &place.0.stopping);
                });
                if let Err(error) = spawned {
                    crate::say(&format!("hello: cannot start a thread: {error}"));
                }
            }
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => return,
            Err(error) if matches!(error.kind(), io::ErrorKind::Interrupted | io::ErrorKind::ConnectionAborted) => {}
            Err(error) => {
                // Out of descriptors, most likely: without the pause the loop would take a whole core.
                crate::say(&format!("hello: cannot accept: {error}"));
                std::thread::sleep(Duration::from_millis(50));
                return;
            }
        }
    }
}
