//! The dead man's switch: tells a service like healthchecks.io that a check begins, and how it ended. When nothing is
//! told any more, that service raises the alarm.
//!
//! `GET URL/start`, then `POST URL/<exit code>` with what was found. One try each: the next run is the second one. What
//! goes wrong here is said and changes nothing else.

use std::str::FromStr;
use std::time::Duration;

use http_body_util::{BodyExt as _, Full, Limited};
use hyper::body::Bytes;
use hyper::header;
use hyper::{Method, Request, Uri};
use hyper_util::rt::TokioIo;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpStream;
use tokio::task::{JoinHandle, JoinSet};
use tokio::time::timeout;

use crate::output::text::plain;

/// How long one request may take: a switch that hangs must not hold up what it watches.
const PATIENCE: Duration = Duration::from_secs(10);
/// The most that is sent along (what healthchecks.io keeps).
const LARGEST_REPORT: usize = 100_000;
/// The most of an answer that is read.
const LARGEST_ANSWER: usize = 64 << 10;

/// Where to tell it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PingUrl {
    secure: bool,
    host: String,
    port: u16,
    authority: String,
    path: String,
    query: String,
}

/// Why an address cannot be used.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("write https://HOST/PATH or http://HOST/PATH: {0}")]
pub struct PingUrlError(String);

impl FromStr for PingUrl {
    type Err = PingUrlError;
    fn from_str(text: &str) -> Result<Self, PingUrlError> {
        let refuse = |why: &str| PingUrlError(why.to_owned());
        let uri: Uri = text.parse().map_err(|error| PingUrlError(format!("{error}")))?;
        let secure = match uri.scheme_str() {
            Some("https") => true,
            Some("http") => false,
            _ => return Err(refuse("it begins with neither")),
        };
        let authority = uri.authority().ok_or_else(|| refuse("it names no host"))?;
        if authority.as_str().contains('@') {
            return Err(refuse("a name and password in it are not supported"));
        }
        let host = authority.host().trim_start_matches('[').trim_end_matches(']').to_owned();
        if host.is_empty() {
            return Err(refuse("it names no host"));
        }
        let port = authority.port_u16().unwrap_or(if secure { 443 } else { 80 });
        let path = uri.path().trim_end_matches('/').to_owned();
        let query = uri.query().map(|query| format!("?{query}")).unwrap_or_default();
        Ok(Self { secure, host, port, authority: authority.to_string(), path, query })
    }
}

impl PingUrl {
    fn path_of(&self, word: &str) -> String {
        format!("{}/{word}{}", self.path, self.query)
    }
}

/// A check that was begun.
#[derive(Debug)]
pub struct Ping {
    url: PingUrl,
    begun: JoinHandle<Result<(), String>>,
}

impl Ping {
    /// Tells that it begins, beside whatever is done meanwhile.
    pub fn begin(url: PingUrl) -> Self {
        let to = url.clone();
        Self { url, begun: tokio::spawn(async move { tell(&to, Method::GET, "start", "").await }) }
    }

    /// Tells how it ended, and with which words.
    ///
    /// # Errors
    /// What went wrong, at the start or at the end, in words for a person.
    pub async fn end(self, code: u8, report: &str) -> Result<(), String> {
        // In order: a start that arrives after the end would begin a check that never ends.
        let begun = self.begun.await.unwrap_or_else(|error| Err(error.to_string()));
        let ended = tell(&self.url, Method::POST, &code.to_string(), clip(report)).await;
        ended.and(begun)
    }
}

fn clip(report: &str) -> &str {
    &report[..report.floor_char_boundary(LARGEST_REPORT)]
}

/// One request. The path is a secret of its owner, so messages name the host only.
async fn tell(url: &PingUrl, method: Method, word: &str, body: &str) -> Result<(), String> {
    let failed = |why: String| format!("{method} {}/…/{word} → {}", url.authority, plain(&why));
    let told = async {
        let stream =
            TcpStream::connect((url.host.as_str(), url.port)).await.map_err(|e| format!("cannot connect: {e}"))?;
        match url.secure {
            false => ask(stream, url, &method, word, body).await,
            true => {
                let stream = fleet_certs::web::over(stream, &url.host).await.map_err(|e| e.to_string())?;
                ask(stream, url, &method, word, body).await
            }
        }
    };
    match timeout(PATIENCE, told).await {
        Ok(told) => told.map_err(failed),
        Err(_) => Err(failed(format!("no answer within {} s", PATIENCE.as_secs()))),
    }
}

async fn ask<S>(stream: S, url: &PingUrl, method: &Method, word: &str, body: &str) -> Result<(), String>
where
    S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    let (mut sender, connection) =
        hyper::client::conn::http1::handshake(TokioIo::new(stream)).await.map_err(|error| error.to_string())?;
    // Joined to the request, so that a timeout drops both.
    let mut tasks = JoinSet::new();
    tasks.spawn(connection);
    let request = Request::builder()
        .method(method)
        .uri(url.path_of(word))
        .header(header::HOST, &url.authority)
        .header(header::USER_AGENT, concat!("fleetctl/", env!("CARGO_PKG_VERSION")))
        .header(header::CONTENT_TYPE, "text/plain; charset=utf-8")
        .header(header::CONNECTION, "close")
        .body(Full::new(Bytes::copy_from_slice(body.as_bytes())))
        .map_err(|error| error.to_string())?;
    let response = sender.send_request(request).await.map_err(|error| format!("no answer: {error}"))?;
    let (head, answer) = response.into_parts();
    // Its status is its word; what it says beside that is read so that it can end in peace.
    let _unread = Limited::new(answer, LARGEST_ANSWER).collect().await;
    if head.status.is_success() { Ok(()) } else { Err(format!("it answered {}", head.status)) }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn addresses_are_those_of_the_known_services() {
        let url: PingUrl = "https://hc-ping.com/abc-123".parse().unwrap();
        assert_eq!((url.secure, url.port, url.path_of("start").as_str()), (true, 443, "/abc-123/start"));
        let url: PingUrl = "http://[::1]:8000/ping/x/?rid=7".parse().unwrap();
        assert_eq!((url.secure, url.host.as_str(), url.port), (false, "::1", 8000));
        assert_eq!(url.path_of("2"), "/ping/x/2?rid=7");
        for bad in ["", "hc-ping.com/abc", "ftp://a/b", "https://", "http://u:p@host/x", "http://a b/", "file:///x"] {
            assert!(bad.parse::<PingUrl>().is_err(), "{bad}");
        }
    }

    #[test]
    fn a_long_report_is_cut_between_two_characters() {
        assert_eq!(clip("short"), "short");
        let long = "ü".repeat(LARGEST_REPORT);
        assert_eq!(clip(&long).len(), LARGEST_REPORT);
        assert_eq!(clip(&format!("x{long}")).len(), LARGEST_REPORT - 1);
    }
}
