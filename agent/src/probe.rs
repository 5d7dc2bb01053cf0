//! Asking a running service how it is, over HTTP on this machine, and making sure that it is the service that answers.
//! How many answers make it healthy, and what follows from a bad one, is decided in `answer` and `supervise`.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use fleet::evidence::Stranger;
use fleet::release::Probe;
use http_body_util::{BodyExt, Empty};
use hyper::body::Bytes;
use hyper_util::rt::TokioIo;
use tokio::net::TcpStream;

use crate::platform::{Listener, Running, ServicePlace, Supervisor};

/// Connecting to a port of this machine takes no time; a full accept queue does.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(1);
/// One answer, first to last byte.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(3);

/// Whose answer counts.
pub struct Respondent<'a> {
    /// Who knows the processes.
    pub supervisor: &'a Arc<dyn Supervisor>,
    /// The service.
    pub place: &'a ServicePlace,
    /// Its main process.
    pub running: &'a Running,
}

/// Who gave a good answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Answerer {
    /// The service itself: nobody else listens there.
    Proven,
    /// Whoever it was: the probe asks another machine, or the listening process may not be seen.
    Assumed,
}

/// What was not as it should be.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BadAnswer {
    /// What the service did instead, for people.
    pub reason: String,
    /// Who listens there in its place or beside it, if somebody does.
    pub stranger: Option<Stranger>,
}

impl From<String> for BadAnswer {
    fn from(reason: String) -> Self {
        Self { reason, stranger: None }
    }
}

/// What came back.
struct Reply {
    status: u16,
    /// Where it came from, if that is this machine.
    here: Option<SocketAddr>,
}

/// A question, ready to be asked.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Question {
    /// `host:port` to connect to.
    address: String,
    /// The `Host` header.
    host: String,
    /// Path and query.
    path: String,
    /// The status expected.
    status: u16,
}

impl Question {
    /// Reads a probe; a path is asked on `127.0.0.1:${PORT}` of the service's environment.
    ///
    /// # Errors
    /// What is wrong with the probe, and what to write instead.
    pub fn new(probe: &Probe, environment: &BTreeMap<String, String>) -> Result<Self, String> {
        let text = crate::environment::expand(&probe.http, environment)?;
        if text.starts_with('/') {
            let port = environment.get("PORT").ok_or(
                "the probe is a path, but the service has no PORT: set it in `environment` of agent.toml or fleet.yaml",
            )?;
            let port: u16 =
                port.parse().map_err(|_| format!("PORT is '{}', which is no port", port.escape_default()))?;
            return Ok(Self {
                address: format!("127.0.0.1:{port}"),
                host: format!("127.0.0.1:{port}"),
                path: text,
                status: probe.status,
            });
        }
        let rest = text
            .strip_prefix("http://")
            .ok_or_else(|| format!("the probe '{}' is neither a path nor an http:// URL", text.escape_default()))?;
        let (host, path) = rest.split_at(rest.find('/').unwrap_or(rest.len()));
        if host.is_empty() || host.contains('@') {
            return Err(format!("the probe '{}' names no host", text.escape_default()));
        }
        let with_port = host.rsplit_once(':').is_some_and(|(_, port)| port.parse::<u16>().is_ok());
        let address = if with_port { host.to_owned() } else { format!("{host}:80") };
        Ok(Self {
            address,
            host: host.to_owned(),
            path: if path.is_empty() { "/".to_owned() } else { path.to_owned() },
            status: probe.status,
        })
    }

    /// Asks once. An answer from this machine counts only if `whom` alone listens there.
    ///
    /// # Errors
    /// What the service did instead, for people.
    pub async fn ask(&self, whom: &Respondent<'_>) -> Result<Answerer, BadAnswer> {
        let url = format!("GET http://{}{}", self.host, self.path);
        let failure = match tokio::time::timeout(ANSWER_TIMEOUT, self.exchange()).await {
            Ok(Ok(reply)) => return self.weigh(&url, reply, whom).await,
            Ok(Err(reason)) => format!("{url}: {reason}"),
            Err(_) => format!("{url}: no answer within {} s", ANSWER_TIMEOUT.as_secs()),
        };
        // Whoever took the port need not speak HTTP.
        match self.address.parse::<SocketAddr>().ok().filter(|address| address.ip().is_loopback()) {
            Some(address) => match whom.listener(address).await {
                Listener::Stranger(process) => Err(taken(address, failure, process)),
                Listener::Ours | Listener::Nobody | Listener::Unknown(_) => Err(failure.into()),
            },
            None => Err(failure.into()),
        }
    }

    async fn weigh(&self, url: &str, reply: Reply, whom: &Respondent<'_>) -> Result<Answerer, BadAnswer> {
        // Asked of a bad answer too: why a stranger is not well is nobody's question.
        let answerer = match reply.here {
            Some(address) => whom.answered(address).await?,
            None => Answerer::Assumed,
        };
        if reply.status == self.status {
            Ok(answerer)
        } else {
            Err(format!("{url} answered {} instead of {}", reply.status, self.status).into())
        }
    }

    async fn exchange(&self) -> Result<Reply, String> {
        let connect = tokio::time::timeout(CONNECT_TIMEOUT, TcpStream::connect(&self.address)).await;
        let stream = connect
            .map_err(|_| format!("no connection within {} s", CONNECT_TIMEOUT.as_secs()))?
            .map_err(|cause| cause.to_string())?;
        let here = here(&stream);
        let (mut sender, connection) =
            hyper::client::conn::http1::handshake(TokioIo::new(stream)).await.map_err(|cause| cause.to_string())?;
        let request = hyper::Request::get(&self.path)
            .header(hyper::header::HOST, &self.host)
            .header(hyper::header::USER_AGENT, concat!("fleet-agent/", env!("CARGO_PKG_VERSION")))
            .header(hyper::header::CONNECTION, "close")
            .body(Empty::<Bytes>::new())
            .map_err(|cause| cause.to_string())?;
        // The connection is driven beside the exchange and dropped with it: nothing outlives a probe.
        let answer = async {
            let mut response = sender.send_request(request).await.map_err(|cause| cause.to_string())?;
            let status = response.status().as_u16();
            while let Some(frame) = response.body_mut().frame().await {
                frame.map_err(|cause| format!("the answer broke off: {cause}"))?;
            }
            Ok(Reply { status, here })
        };
        tokio::pin!(connection);
        tokio::pin!(answer);
        tokio::select! {
            biased;
            answer = &mut answer => answer,
            ended = &mut connection => match ended {
                // What was received before the end is still to be read.
                Ok(()) => answer.await,
                Err(cause) => Err(cause.to_string()),
            },
        }
    }
}

impl Respondent<'_> {
    /// Whether the answer that came from there was the service's own.
    async fn answered(&self, address: SocketAddr) -> Result<Answerer, BadAnswer> {
        match self.listener(address).await {
            Listener::Ours => Ok(Answerer::Proven),
            Listener::Unknown(_) => Ok(Answerer::Assumed),
            Listener::Stranger(who) => {
                let reason = format!("{address} is answered by another process ({who}), not by this service");
                Err(taken(address, reason, who))
            }
            Listener::Nobody => Err(format!(
                "{address} was answered, but no process listens there: the connection is redirected, or it was answered with the listener's last breath"
            )
            .into()),
        }
    }

    async fn listener(&self, address: SocketAddr) -> Listener {
        let (supervisor, place, running) = (self.supervisor.clone(), self.place.clone(), self.running.clone());
        let looking = tokio::task::spawn_blocking(move || supervisor.listener(&place, &running, &address));
        looking.await.unwrap_or_else(|stopped| Listener::Unknown(stopped.to_string()))
    }
}

fn taken(address: SocketAddr, reason: String, process: String) -> BadAnswer {
    BadAnswer { reason, stranger: Some(Stranger { address: address.to_string(), process }) }
}

/// The address that was connected to, if it is one of this machine: only then do both ends have the same one, save
/// for the loopback's many.
fn here(stream: &TcpStream) -> Option<SocketAddr> {
    let peer = stream.peer_addr().ok()?;
    let ip = peer.ip().to_canonical();
    let own = stream.local_addr().is_ok_and(|own| own.ip().to_canonical() == ip);
    (ip.is_loopback() || own).then_some(peer)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use crate::platform::fake::FakeHost;
    use fleet::Millis;
    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    use tokio::net::TcpListener;

    fn probe(http: &str) -> Probe {
        Probe { http: http.into(), status: 200, interval: Millis(1), successes: 1, timeout: Millis(1) }
    }

    fn environment(port: u16) -> BTreeMap<String, String> {
        BTreeMap::from([("PORT".to_owned(), port.to_string())])
    }

    async fn ask(question: Question) -> Result<Answerer, BadAnswer> {
        ask_where(question, None).await
    }

    /// Asks on a host where this one listens.
    async fn ask_where(question: Question, listener: Option<Listener>) -> Result<Answerer, BadAnswer> {
        let place = ServicePlace { service: "hello".parse().unwrap(), root: "/services/hello".into() };
        let release = "r-000000000001".parse().unwrap();
        let running = Running { pid: 7, start_ticks: 7, boot_id: "boot".into(), release };
        let host = FakeHost::new();
        listener.into_iter().for_each(|listener| host.on_listener(&place.service, listener));
        let supervisor: Arc<dyn Supervisor> = Arc::new(host);
        question.ask(&Respondent { supervisor: &supervisor, place: &place, running: &running }).await
    }

    async fn answering(answer: &'static str) -> u16 {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let port = listener.local_addr().unwrap().port();
        tokio::spawn(async move {
            let (mut stream, _) = listener.accept().await.unwrap();
            let mut buffer = [0; 1024];
            let n = stream.read(&mut buffer).await.unwrap();
            assert!(buffer[..n].starts_with(b"GET /healthz?deep=1 HTTP/1.1\r\n"));
            stream.write_all(answer.as_bytes()).await.unwrap();
        });
        port
    }

    #[tokio::test]
    async fn the_status_decides() {
        let port = answering("HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok").await;
        let question = Question::new(&probe("/healthz?deep=1"), &environment(port)).unwrap();
        assert_eq!(ask(question).await, Ok(Answerer::Proven));
        let port = answering("HTTP/1.1 503 No\r\nContent-Length: 0\r\n\r\n").await;
        let question = Question::new(&probe("http://127.0.0.1:${PORT}/healthz?deep=1"), &environment(port)).unwrap();
        let bad = ask(question).await.unwrap_err();
        assert!(bad.reason.contains("503 instead of 200") && bad.stranger.is_none(), "{bad:?}");
    }

    #[tokio::test]
    async fn half_an_answer_and_no_answer_are_bad_answers() {
        let port = answering("HTTP/1.1 200 OK\r\nContent-Length: 20\r\n\r\nok").await;
        assert!(ask(Question::new(&probe("/healthz?deep=1"), &environment(port)).unwrap()).await.is_err());
        let port = answering("").await;
        assert!(ask(Question::new(&probe("/healthz?deep=1"), &environment(port)).unwrap()).await.is_err());
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let port = listener.local_addr().unwrap().port();
        drop(listener);
        let question = Question::new(&probe("/"), &environment(port)).unwrap();
        let bad = ask(question.clone()).await.unwrap_err();
        assert!(bad.reason.contains("refused") && bad.stranger.is_none(), "{bad:?}");
        // Whoever listens there and says nothing that can be understood is named all the same.
        let bad = ask_where(question, Some(Listener::Stranger("pid 9 nc".into()))).await.unwrap_err();
        let stranger = Stranger { address: format!("127.0.0.1:{port}"), process: "pid 9 nc".into() };
        assert!(bad.reason.contains("refused") && bad.stranger == Some(stranger), "{bad:?}");
    }

    #[tokio::test]
    async fn an_answer_counts_only_if_the_service_gave_it() {
        for status in ["200 OK", "503 No"] {
            for (listener, expected) in [
                (
                    Listener::Stranger("pid 123 hello-v1".into()),
                    "answered by another process (pid 123 hello-v1), not by this service",
                ),
                (Listener::Nobody, "no process listens there"),
            ] {
                let port = answering(format!("HTTP/1.1 {status}\r\nContent-Length: 0\r\n\r\n").leak()).await;
                let question = Question::new(&probe("http://localhost:${PORT}/healthz?deep=1"), &environment(port));
                let named = matches!(listener, Listener::Stranger(_));
                let BadAnswer { reason, stranger } = ask_where(question.unwrap(), Some(listener)).await.unwrap_err();
                assert_eq!(stranger.is_some(), named, "{reason}");
                assert!(reason.contains(expected) && reason.starts_with(&format!("127.0.0.1:{port} ")), "{reason}");
            }
        }
        let port = answering("HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n").await;
        let question = Question::new(&probe("/healthz?deep=1"), &environment(port)).unwrap();
        assert_eq!(ask_where(question, Some(Listener::Unknown("hidden".into()))).await, Ok(Answerer::Assumed));
    }

    #[test]
    fn a_probe_that_cannot_be_asked_says_why() {
        for (text, environment, expected) in [
            ("/x", BTreeMap::new(), "PORT"),
            ("https://x/", environment(1), "http://"),
            ("http://${HOST}/", environment(1), "HOST"),
            ("http:///x", environment(1), "host"),
        ] {
            let reason = Question::new(&probe(text), &environment).unwrap_err();
            assert!(reason.contains(expected), "{text}: {reason}");
        }
    }
}
