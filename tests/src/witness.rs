//! A witness: somebody who asks a port again and again and writes down every answer with its time.

use std::io::{Read as _, Write as _};
use std::net::{Ipv4Addr, SocketAddr, TcpStream};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

/// How long one request may take.
const REQUEST_LIMIT: Duration = Duration::from_secs(20);
/// Between two requests: a steady load, not a flood.
const PACE: Duration = Duration::from_millis(4);

/// An HTTP answer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Answer {
    /// The status code.
    pub status: u16,
    /// `X-Version`.
    pub version: Option<String>,
    /// `X-Node`.
    pub node: Option<String>,
}

/// One request and what came of it.
#[derive(Debug, Clone)]
pub struct Sighting {
    /// When it was sent.
    pub asked: Instant,
    /// The answer, or why there is none.
    pub answer: Result<Answer, String>,
}

/// Asks until it is stopped.
pub struct Witness {
    stop: Arc<AtomicBool>,
    seen: Arc<Mutex<Vec<Sighting>>>,
    thread: Option<JoinHandle<()>>,
}

/// Fewer requests than this show nothing about what was lost between them.
const ENOUGH: usize = 50;

impl Witness {
    /// Begins to ask `127.0.0.1:port`.
    pub fn on(port: u16) -> Witness {
        let (stop, seen) = (Arc::new(AtomicBool::new(false)), Arc::new(Mutex::new(Vec::new())));
        let thread = std::thread::spawn({
            let (stop, seen) = (stop.clone(), seen.clone());
            move || {
                while !stop.load(Ordering::SeqCst) {
                    let asked = Instant::now();
                    let answer = get(port, "/");
                    seen.lock().unwrap_or_else(PoisonError::into_inner).push(Sighting { asked, answer });
                    std::thread::sleep(PACE);
                }
            }
        });
        Witness { stop, seen, thread: Some(thread) }
    }

    /// Everything seen until now.
    pub fn seen(&self) -> Vec<Sighting> {
        self.seen.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// How often `version` has answered until now.
    pub fn count(&self, version: &str) -> usize {
        self.seen().iter().filter(|sighting| sighting.version() == Some(version)).count()
    }

    /// Stops once enough was asked to show something, and returns everything seen.
    pub fn stop(mut self) -> Vec<Sighting> {
        while self.seen().len() <= ENOUGH {
            std::thread::sleep(PACE);
        }
        self.end();
        self.seen()
    }

    fn end(&mut self) {
        self.stop.store(true, Ordering::SeqCst);
        if let Some(thread) = self.thread.take() {
            let _panicked = thread.join();
        }
    }
}

impl Drop for Witness {
    fn drop(&mut self) {
        self.end();
    }
}

impl Sighting {
    /// The version that answered.
    pub fn version(&self) -> Option<&str> {
        self.answer.as_ref().ok()?.version.as_deref()
    }

    /// Why this request counts as lost: no answer, or one of 500 and above.
    pub fn lost(&self) -> Option<String> {
        match &self.answer {
            Ok(answer) if answer.status < 400 => None,
            Ok(answer) => Some(format!("{answer:?}")),
            Err(why) => Some(why.clone()),
        }
    }
}

/// Fails if any request was lost.
#[track_caller]
pub fn nothing_lost(seen: &[Sighting]) {
    let lost: Vec<_> = seen.iter().enumerate().filter_map(|(at, sighting)| Some((at, sighting.lost()?))).collect();
    assert!(
        lost.is_empty(),
        "{} of {} requests were lost; the first: {:?}",
        lost.len(),
        seen.len(),
        &lost[..lost.len().min(5)]
    );
    assert!(seen.len() > ENOUGH, "only {} requests were made: that shows nothing", seen.len());
}

/// One request on a connection of its own.
///
/// # Errors
/// Why there is no whole answer, in words.
pub fn get(port: u16, path: &str) -> Result<Answer, String> {
    let mut stream = TcpStream::connect_timeout(&SocketAddr::from((Ipv4Addr::LOCALHOST, port)), REQUEST_LIMIT)
        .map_err(|e| format!("connect: {e}"))?;
    stream.set_read_timeout(Some(REQUEST_LIMIT)).map_err(|e| e.to_string())?;
    stream.set_write_timeout(Some(REQUEST_LIMIT)).map_err(|e| e.to_string())?;
    let request = format!("GET {path} HTTP/1.1\r\nHost: 127.0.0.1:{port}\r\nConnection: close\r\n\r\n");
    stream.write_all(request.as_bytes()).map_err(|e| format!("send: {e}"))?;
    let mut bytes = Vec::new();
    stream.read_to_end(&mut bytes).map_err(|e| format!("receive: {e}"))?;
    parse(&String::from_utf8_lossy(&bytes)).ok_or_else(|| format!("not a whole answer: {} bytes", bytes.len()))
}

fn parse(text: &str) -> Option<Answer> {
    let (head, body) = text.split_once("\r\n\r\n")?;
    let status = head.strip_prefix("HTTP/1.")?.get(2..5)?.parse().ok()?;
    let header = |wanted: &str| {
        head.lines()
            .skip(1)
            .filter_map(|line| line.split_once(':'))
            .find(|(name, _)| name.eq_ignore_ascii_case(wanted))
            .map(|(_, value)| value.trim().to_owned())
    };
    if let Some(length) = header("content-length")
        && body.len() != length.parse::<usize>().ok()?
    {
        return None;
    }
    Some(Answer { status, version: header("x-version"), node: header("x-node") })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_answer_is_read_whole_or_not_at_all() {
        let whole = "HTTP/1.1 200 OK\r\nX-Version: 1.0.0\r\nContent-Length: 3\r\nx-node: n1\r\n\r\nhi\n";
        assert_eq!(parse(whole), Some(Answer { status: 200, version: Some("1.0.0".into()), node: Some("n1".into()) }));
        assert_eq!(parse(&whole[..whole.len() - 1]), None);
        assert_eq!(parse("HTTP/1.1 200 OK\r\n"), None);
    }
}
