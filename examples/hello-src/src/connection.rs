//! Serves one connection: requests one after another, until the client or the server wants it closed.

use std::io::{ErrorKind, Read, Write};
use std::net::{Shutdown, TcpStream};
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use crate::request::{self, Body, Method, Reuse};
use crate::response::{self, Identity, Response};

/// How often a waiting read looks whether the server is stopping: the most that an idle connection delays a stop.
const TICK: Duration = Duration::from_millis(50);
/// How long a started head may take: a slow client must not hold one of the few threads.
const HEAD_TIMEOUT: Duration = Duration::from_secs(10);
/// How long a connection may wait for its next request, as most proxies assume.
const IDLE_TIMEOUT: Duration = Duration::from_secs(60);
/// How long a new connection may still send its first request once the server is stopping: its request is probably
/// on the way, and closing now would lose it.
const STOPPING_GRACE: Duration = Duration::from_millis(500);
/// How long the kernel may take to accept a response. Responses are small; longer means that the client is gone.
const WRITE_TIMEOUT: Duration = Duration::from_secs(10);
/// How much of a refused body is read before closing, so that the client sees the response and not a reset.
const LINGER_BYTES: usize = 64 * 1024;

/// Answers requests on `stream` until it is done with. Errors of the client end the connection, nothing else.
pub(crate) fn serve(mut stream: TcpStream, identity: &Identity, stopping: &AtomicBool) {
    let ready = stream
        .set_read_timeout(Some(TICK))
        .and_then(|()| stream.set_write_timeout(Some(WRITE_TIMEOUT)))
        .and_then(|()| stream.set_nodelay(true));
    if ready.is_err() {
        return;
    }
    let mut buffer = Vec::new();
    let mut served = 0_u64;
    loop {
        let request = match next(&mut stream, &mut buffer, served, stopping) {
            Next::Request(request) => request,
            Next::Refused(response) => {
                let _ = stream.write_all(&response::encode(&response, identity, Method::Get, Reuse::Close));
                return linger(stream);
            }
            Next::Gone => return,
        };
        let response = response::answer(identity, &request);
        std::thread::sleep(response.delay);
        let reuse = match (request.reuse, request.body) {
            (Reuse::Keep, Body::None) if !stopping.load(Ordering::SeqCst) => Reuse::Keep,
            _ => Reuse::Close,
        };
        if stream.write_all(&response::encode(&response, identity, request.method, reuse)).is_err() {
            return;
        }
        if reuse == Reuse::Close {
            return linger(stream);
        }
        served += 1;
    }
}

/// Tells a client that came when all threads are taken, without waiting for its request.
pub(crate) fn turn_away(mut stream: TcpStream, identity: &Identity) {
    let _ = stream.set_write_timeout(Some(TICK));
    let _ = stream.write_all(&response::encode(&response::too_busy(), identity, Method::Get, Reuse::Close));
}

/// What a connection brings next.
enum Next {
    Request(request::Request),
    Refused(Response),
    Gone,
}

/// Reads until `buffer` holds a whole head, and takes it out.
fn next(stream: &mut TcpStream, buffer: &mut Vec<u8>, served: u64, stopping: &AtomicBool) -> Next {
    let mut since = Instant::now();
    let mut stopping_since = None;
    loop {
        match request::read(buffer) {
            Ok(Some((request, length))) => {
                buffer.drain(..length);
                return Next::Request(request);
            }
            Ok(None) => {}
            Err(refusal) => return Next::Refused(response::refuse(&refusal)),
        }
        let mut chunk = [0_u8; 2048];
        match stream.read(&mut chunk) {
            Ok(0) => return Next::Gone,
            Ok(length) => {
                if buffer.is_empty() {
                    since = Instant::now();
                }
                buffer.extend_from_slice(&chunk[..length]);
            }
            Err(error) if error.kind() == ErrorKind::Interrupted => {}
            Err(error) if matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut) => {
                if !buffer.is_empty() && since.elapsed() > HEAD_TIMEOUT {
                    return Next::Refused(response::timed_out());
                }
                if since.elapsed() > IDLE_TIMEOUT {
                    return Next::Gone;
                }
                if stopping.load(Ordering::SeqCst) && buffer.is_empty() {
                    let stopping_since = *stopping_since.get_or_insert_with(Instant::now);
                    if served > 0 || stopping_since.elapsed() > STOPPING_GRACE {
                        return Next::Gone;
                    }
                }
            }
            Err(_) => return Next::Gone,
        }
    }
}

/// Closes so that the client can still read the response: closing with unread bytes makes the kernel send a reset.
fn linger(mut stream: TcpStream) {
    if stream.shutdown(Shutdown::Write).is_err() {
        return;
    }
    let start = Instant::now();
    let mut read = 0;
    let mut chunk = [0_u8; 4096];
    while read < LINGER_BYTES && start.elapsed() < Duration::from_secs(1) {
        match stream.read(&mut chunk) {
            Ok(0) => return,
            Ok(length) => read += length,
            Err(error) if matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut) => {}
            Err(_) => return,
        }
    }
}
