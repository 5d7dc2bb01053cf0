//! Decides the answer to a request and writes it as bytes. It knows no sockets and no clock: `/slow` only says how long
//! to wait.

use std::time::Duration;

use crate::request::{Method, Refusal, Request, Reuse};
use crate::{Health, Version};

/// The longest that `/slow` waits: longer than any drain timeout in the examples, short enough that a forgotten
/// request ends by itself.
const SLOWEST: Duration = Duration::from_secs(60);
/// Longest value repeated from the environment in a header. Names of nodes and releases are far shorter.
const MAX_HEADER_CHARS: usize = 128;

/// What this process says about itself in every response.
#[derive(Clone, Debug)]
pub(crate) struct Identity {
    /// The version of the binary.
    pub(crate) version: Version,
    /// `FLEET_NODE`.
    pub(crate) node: String,
    /// `FLEET_RELEASE`.
    pub(crate) release: String,
    /// The id of this process.
    pub(crate) pid: u32,
}

impl Identity {
    /// Takes the node and the release from the environment; what is not set is `-`.
    pub(crate) fn from_environment(version: Version) -> Identity {
        let variable = |name| header_value(&std::env::var(name).unwrap_or_default());
        Identity { version, node: variable("FLEET_NODE"), release: variable("FLEET_RELEASE"), pid: std::process::id() }
    }
}

/// An answer, not yet bytes.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Response {
    /// How long to wait before it is sent.
    pub(crate) delay: Duration,
    status: &'static str,
    content_type: &'static str,
    body: String,
}

/// The answer to a request.
pub(crate) fn answer(identity: &Identity, request: &Request) -> Response {
    if request.method == Method::Other {
        return text("405 Method Not Allowed", "only GET and HEAD are answered\n");
    }
    let number = identity.version.number;
    match (request.path.as_str(), identity.version.health) {
        ("/healthz", Health::Good) => json("200 OK", format!(r#"{{"ok":true,"version":"{number}"}}"#)),
        ("/healthz", Health::Broken { reason }) => json(
            "503 Service Unavailable",
            format!(r#"{{"ok":false,"version":"{number}","reason":"{}"}}"#, json_escaped(reason)),
        ),
        ("/" | "/slow", Health::Broken { reason }) => {
            text("500 Internal Server Error", &format!("hello {number} is broken: {reason}\n"))
        }
        ("/", Health::Good) => text("200 OK", &greeting(identity)),
        ("/slow", Health::Good) => slow(identity, &request.query),
        _ => text("404 Not Found", "try /, /healthz or /slow?ms=500\n"),
    }
}

/// The answer to bytes that are not a request.
pub(crate) fn refuse(refusal: &Refusal) -> Response {
    match refusal {
        Refusal::TooLarge => text(
            "431 Request Header Fields Too Large",
            &format!("the request line and headers exceed {} bytes\n", crate::request::MAX_HEAD_BYTES),
        ),
        Refusal::Malformed(why) => text("400 Bad Request", &format!("{why}\n")),
    }
}

/// The answer to a head that did not arrive in time.
pub(crate) fn timed_out() -> Response {
    text("408 Request Timeout", "the request's head did not arrive in time\n")
}

/// The answer when too many connections are open.
pub(crate) fn too_busy() -> Response {
    text("503 Service Unavailable", "too many connections\n")
}

/// The response as it goes over the wire.
pub(crate) fn encode(response: &Response, identity: &Identity, method: Method, reuse: Reuse) -> Vec<u8> {
    let connection = match reuse {
        Reuse::Keep => "keep-alive",
        Reuse::Close => "close",
    };
    let allow = if response.status.starts_with("405") { "Allow: GET, HEAD\r\n" } else { "" };
    let mut bytes = format!(
        "HTTP/1.1 {}\r\nContent-Type: {}\r\nContent-Length: {}\r\nCache-Control: no-store\r\nX-Version: {}\r\nX-Release: {}\r\nX-Node: {}\r\n{allow}Connection: {connection}\r\n\r\n",
        response.status,
        response.content_type,
        response.body.len(),
        identity.version.number,
        identity.release,
        identity.node,
    )
    .into_bytes();
    if method != Method::Head {
        bytes.extend_from_slice(response.body.as_bytes());
    }
    bytes
}

fn greeting(identity: &Identity) -> String {
    format!(
        "hello {} from node {}, release {}, pid {}\n",
        identity.version.number, identity.node, identity.release, identity.pid
    )
}

fn slow(identity: &Identity, query: &str) -> Response {
    let wanted = query.split('&').find_map(|pair| pair.strip_prefix("ms=")).map(str::parse::<u64>);
    match wanted {
        Some(Ok(milliseconds)) => {
            Response { delay: Duration::from_millis(milliseconds).min(SLOWEST), ..text("200 OK", &greeting(identity)) }
        }
        Some(Err(_)) | None => text("400 Bad Request", "say how long in milliseconds: /slow?ms=500\n"),
    }
}

fn text(status: &'static str, body: &str) -> Response {
    Response { delay: Duration::ZERO, status, content_type: "text/plain; charset=utf-8", body: body.to_owned() }
}

fn json(status: &'static str, body: String) -> Response {
    Response { delay: Duration::ZERO, status, content_type: "application/json", body }
}

/// Makes text from the environment safe in a header: it must not be able to add another header.
fn header_value(text: &str) -> String {
    let clean: String = text.chars().filter(|c| c.is_ascii_graphic() || *c == ' ').take(MAX_HEADER_CHARS).collect();
    if clean.trim().is_empty() { "-".to_owned() } else { clean.trim().to_owned() }
}

fn json_escaped(text: &str) -> String {
    text.chars()
        .flat_map(|c| match c {
            '"' | '\\' => vec!['\\', c],
            c if c.is_control() => vec![' '],
            c => vec![c],
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_environment_cannot_add_a_header() {
        assert_eq!(header_value("n1\r\nSet-Cookie: x"), "n1Set-Cookie: x");
        assert_eq!(header_value(""), "-");
        assert_eq!(header_value(&"x".repeat(500)).len(), MAX_HEADER_CHARS);
        assert_eq!(json_escaped("a \"b\" \\ \n"), "a \\\"b\\\" \\\\  ");
    }

    #[test]
    fn slow_is_capped() {
        let identity = Identity {
            version: Version { number: "9.9.9", health: Health::Good },
            node: "n1".to_owned(),
            release: "r-1".to_owned(),
            pid: 1,
        };
        assert_eq!(slow(&identity, "a=b&ms=70000").delay, SLOWEST);
        assert_eq!(slow(&identity, "ms=7").delay, Duration::from_millis(7));
        assert!(slow(&identity, "ms=soon").status.starts_with("400"));
    }
}
