//! Asking a running service how it is, over HTTP on this machine. How many answers make it healthy, and what follows
//! from a bad one, is decided in `keeper`.

use std::collections::BTreeMap;
use std::time::Duration;

use fleet::release::Probe;
use http_body_util::{BodyExt, Empty};
use hyper::body::Bytes;
use hyper_util::rt::TokioIo;
use tokio::net::TcpStream;

/// Connecting to a port of this machine takes no time; a full accept queue does.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(1);
/// One answer, first to last byte.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(3);

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

    /// Asks once.
    ///
    /// # Errors
    /// What the service did instead, for people.
    pub async fn ask(&self) -> Result<(), String> {
        let url = format!("GET http://{}{}", self.host, self.path);
        match tokio::time::timeout(ANSWER_TIMEOUT, self.exchange()).await {
            Ok(Ok(status)) if status == self.status => Ok(()),
            Ok(Ok(status)) => Err(format!("{url} answered {status} instead of {}", self.status)),
            Ok(Err(reason)) => Err(format!("{url}: {reason}")),
            Err(_) => Err(format!("{url}: no answer within {} s", ANSWER_TIMEOUT.as_secs())),
        }
    }

    async fn exchange(&self) -> Result<u16, String> {
        let connect = tokio::time::timeout(CONNECT_TIMEOUT, TcpStream::connect(&self.address)).await;
        let stream = connect
            .map_err(|_| format!("no connection within {} s", CONNECT_TIMEOUT.as_secs()))?
            .map_err(|cause| cause.to_string())?;
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
            Ok(status)
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

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use fleet::Millis;
    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    use tokio::net::TcpListener;

    fn probe(http: &str) -> Probe {
        Probe { http: http.into(), status: 200, interval: Millis(1), successes: 1, timeout: Millis(1) }
    }

    fn environment(port: u16) -> BTreeMap<String, String> {
        BTreeMap::from([("PORT".to_owned(), port.to_string())])
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
        Question::new(&probe("/healthz?deep=1"), &environment(port)).unwrap().ask().await.unwrap();
        let port = answering("HTTP/1.1 503 No\r\nContent-Length: 0\r\n\r\n").await;
        let reason = Question::new(&probe("http://127.0.0.1:${PORT}/healthz?deep=1"), &environment(port))
            .unwrap()
            .ask()
            .await
            .unwrap_err();
        assert!(reason.contains("503 instead of 200"), "{reason}");
    }

    #[tokio::test]
    async fn half_an_answer_and_no_answer_are_bad_answers() {
        let port = answering("HTTP/1.1 200 OK\r\nContent-Length: 20\r\n\r\nok").await;
        assert!(Question::new(&probe("/healthz?deep=1"), &environment(port)).unwrap().ask().await.is_err());
        let port = answering("").await;
        assert!(Question::new(&probe("/healthz?deep=1"), &environment(port)).unwrap().ask().await.is_err());
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let port = listener.local_addr().unwrap().port();
        drop(listener);
        let reason = Question::new(&probe("/"), &environment(port)).unwrap().ask().await.unwrap_err();
        assert!(reason.contains("refused"), "{reason}");
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
