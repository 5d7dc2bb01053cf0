//! Passes requests on: takes them on a listener, asks the pool for a server, gives each request a connection of its own.
//!
//! A connection per request costs little on one machine and removes the one case in which a proxy cannot know whether a
//! request was carried out: a kept connection that the server closes while the request is on its way.

use std::convert::Infallible;
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::task::{Context, Poll};
use std::time::Duration;

use http_body_util::{Either, Full};
use hyper::body::{Body, Bytes, Frame, Incoming, SizeHint};
use hyper::header::{self, HeaderMap, HeaderName, HeaderValue};
use hyper::http::uri::PathAndQuery;
use hyper::service::service_fn;
use hyper::{Method, Request, Response, StatusCode, Uri, Version};
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{OwnedSemaphorePermit, watch};
use tokio::time::{Instant, timeout, timeout_at};

use super::Shared;
use super::pool::Ticket;

/// How long a request waits for a server that is ready and reachable: long enough for a service to restart between two
/// states, short enough that a client gets a clear answer instead of its own timeout.
const WAIT_FOR_SERVER: Duration = Duration::from_secs(2);
/// Pause after every ready server refused the connection.
const RETRY_PAUSE: Duration = Duration::from_millis(100);
/// How long a server may take to accept a connection: on loopback it is immediate or never.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(1);
/// How long a server may take to begin its answer: longer than the slowest request of the examples (60 s).
const ANSWER_TIMEOUT: Duration = Duration::from_secs(65);
/// How long a client may take to send a request's head, also between two requests.
const HEAD_TIMEOUT: Duration = Duration::from_secs(30);
/// Largest head of a request or response, as HAProxy's default buffer.
const MAX_HEAD_BYTES: usize = 16 * 1024;

/// Names the server that answered.
const SERVER_HEADER: HeaderName = HeaderName::from_static("x-fleet-server");
const FORWARDED_FOR: HeaderName = HeaderName::from_static("x-forwarded-for");
/// Headers that belong to one connection (RFC 9110, 7.6.1) and `Expect`, which hyper answers itself.
const HOP_BY_HOP: [&str; 9] = [
    "connection",
    "keep-alive",
    "proxy-connection",
    "proxy-authenticate",
    "proxy-authorization",
    "te",
    "transfer-encoding",
    "upgrade",
    "expect",
];

type Answer = Response<Either<Full<Bytes>, Passed>>;

/// A response's body on its way to the client. Its ticket is given back when it ends, however it ends.
struct Passed {
    body: Incoming,
    in_flight: Option<InFlight>,
}

/// A request at a server: counted and connected as long as this lives.
struct InFlight {
    ticket: Ticket,
    connection: tokio::task::JoinHandle<()>,
}

/// How an attempt at one server failed.
enum Failed {
    /// Nothing was sent: another server may be asked.
    NotSent(Box<Request<Incoming>>, String),
    /// The server may have seen the request.
    Sent(StatusCode, String),
}

/// Takes connections for `backend` until `stop`.
pub(super) async fn serve(
    listener: TcpListener,
    shared: Arc<Shared>,
    backend: Arc<str>,
    mut stop: watch::Receiver<bool>,
) {
    loop {
        // Before accepting: with all places taken, clients wait in the kernel's queue instead of costing memory here.
        let Ok(place) = Arc::clone(&shared.connections).acquire_owned().await else { return };
        let accepted = tokio::select! {
            accepted = listener.accept() => accepted,
            _ = stop.wait_for(|stop| *stop) => return,
        };
        match accepted {
            Ok((stream, client)) => {
                tokio::spawn(converse(stream, client, Arc::clone(&shared), Arc::clone(&backend), stop.clone(), place));
            }
            Err(error) => {
                tracing::warn!(%error, %backend, "cannot accept");
                tokio::time::sleep(Duration::from_millis(50)).await;
            }
        }
    }
}

async fn converse(
    stream: TcpStream,
    client: SocketAddr,
    shared: Arc<Shared>,
    backend: Arc<str>,
    mut stop: watch::Receiver<bool>,
    place: OwnedSemaphorePermit,
) {
    let _ = stream.set_nodelay(true);
    let service = service_fn(|request| {
        let (shared, backend) = (Arc::clone(&shared), Arc::clone(&backend));
        async move { Ok::<_, Infallible>(forward(&shared, &backend, client, request).await) }
    });
    let mut http = hyper::server::conn::http1::Builder::new();
    http.timer(TokioTimer::new()).header_read_timeout(HEAD_TIMEOUT).max_buf_size(MAX_HEAD_BYTES);
    let mut connection = std::pin::pin!(http.serve_connection(TokioIo::new(stream), service));
    let stopping = async { drop(stop.wait_for(|stop| *stop).await) };
    let ended = tokio::select! {
        ended = connection.as_mut() => Some(ended),
        () = stopping => None,
    };
    let ended = match ended {
        Some(ended) => ended,
        None => {
            connection.as_mut().graceful_shutdown();
            connection.await
        }
    };
    if let Err(error) = ended {
        tracing::debug!(%error, %client, "a client's connection ended early");
    }
    drop(place);
}

async fn forward(shared: &Shared, backend: &str, client: SocketAddr, request: Request<Incoming>) -> Answer {
    let mut request = match outgoing(request, client) {
        Ok(request) => request,
        Err(why) => return refusal(StatusCode::BAD_REQUEST, why, None),
    };
    let deadline = Instant::now() + WAIT_FOR_SERVER;
    let mut tried = Vec::new();
    let mut last_failure: Option<(String, String)> = None;
    loop {
        let mut changes = shared.pool.changes();
        if let Some(ticket) = shared.pool.choose(backend, &tried) {
            let server = ticket.server.clone();
            if last_failure.is_some() {
                ticket.counters.redispatched.fetch_add(1, Ordering::SeqCst);
            }
            match attempt(ticket, request).await {
                Ok(answer) => return answer,
                Err(Failed::Sent(status, why)) => return refusal(status, &why, Some(&server)),
                Err(Failed::NotSent(unsent, why)) => {
                    tracing::warn!(%backend, %server, %why, "a server could not be reached, the request is tried elsewhere");
                    request = *unsent;
                    tried.push(server.clone());
                    last_failure = Some((server, why));
                }
            }
            continue;
        }
        if Instant::now() >= deadline {
            return match last_failure {
                Some((server, why)) => refusal(StatusCode::BAD_GATEWAY, &why, Some(&server)),
                None => refusal(
                    StatusCode::SERVICE_UNAVAILABLE,
                    &format!("no server of backend {backend} became ready within {WAIT_FOR_SERVER:?}"),
                    None,
                ),
            };
        }
        let until = if tried.is_empty() { deadline } else { deadline.min(Instant::now() + RETRY_PAUSE) };
        let _ = timeout_at(until, changes.changed()).await;
        tried.clear();
    }
}

/// Sends `request` to the server of `ticket` over a new connection.
async fn attempt(ticket: Ticket, request: Request<Incoming>) -> Result<Answer, Failed> {
    let not_connected = |ticket: &Ticket, request, why: String| {
        ticket.counters.connect_errors.fetch_add(1, Ordering::SeqCst);
        Failed::NotSent(Box::new(request), format!("cannot connect to {}: {why}", ticket.address))
    };
    let stream = match timeout(CONNECT_TIMEOUT, TcpStream::connect(ticket.address)).await {
        Ok(Ok(stream)) => stream,
        Ok(Err(error)) => return Err(not_connected(&ticket, request, error.to_string())),
        Err(_) => return Err(not_connected(&ticket, request, format!("no answer within {CONNECT_TIMEOUT:?}"))),
    };
    let _ = stream.set_nodelay(true);
    let mut http = hyper::client::conn::http1::Builder::new();
    http.max_buf_size(MAX_HEAD_BYTES);
    let (mut sender, connection) = match http.handshake(TokioIo::new(stream)).await {
        Ok(ready) => ready,
        Err(error) => return Err(not_connected(&ticket, request, error.to_string())),
    };
    let connection = tokio::spawn(async move {
        if let Err(error) = connection.await {
            tracing::debug!(%error, "a connection to a server ended early");
        }
    });
    let in_flight = InFlight { ticket, connection };
    let counters = Arc::clone(&in_flight.ticket.counters);
    let response = match timeout(ANSWER_TIMEOUT, sender.try_send_request(request)).await {
        Ok(Ok(response)) => response,
        Ok(Err(mut error)) => {
            return Err(match error.take_message() {
                Some(unsent) => not_connected(&in_flight.ticket, unsent, error.into_error().to_string()),
                None => {
                    counters.response_errors.fetch_add(1, Ordering::SeqCst);
                    Failed::Sent(StatusCode::BAD_GATEWAY, format!("the server's answer failed: {}", error.into_error()))
                }
            });
        }
        Err(_) => {
            counters.response_errors.fetch_add(1, Ordering::SeqCst);
            return Err(Failed::Sent(
                StatusCode::GATEWAY_TIMEOUT,
                format!("the server did not answer within {ANSWER_TIMEOUT:?}"),
            ));
        }
    };
    counters.requests.fetch_add(1, Ordering::SeqCst);
    let server = header_value(&in_flight.ticket.server);
    let (mut head, body) = response.into_parts();
    strip_hop_by_hop(&mut head.headers);
    head.headers.insert(SERVER_HEADER, server);
    head.version = Version::HTTP_11;
    Ok(Response::from_parts(head, Either::Right(Passed { body, in_flight: Some(in_flight) })))
}

/// The request as the server shall see it.
fn outgoing(request: Request<Incoming>, client: SocketAddr) -> Result<Request<Incoming>, &'static str> {
    if request.method() == Method::CONNECT {
        return Err("CONNECT is not supported");
    }
    let (mut head, body) = request.into_parts();
    let authority = head.uri.authority().map(ToString::to_string);
    let path = head.uri.path_and_query().cloned().unwrap_or_else(|| PathAndQuery::from_static("/"));
    head.uri = Uri::from(path);
    head.version = Version::HTTP_11;
    strip_hop_by_hop(&mut head.headers);
    if let Some(authority) = authority {
        // A target in absolute form wins over Host (RFC 9112, 3.2.2).
        head.headers.insert(header::HOST, header_value(&authority));
    } else if !head.headers.contains_key(header::HOST) {
        head.headers.insert(header::HOST, HeaderValue::from_static("localhost"));
    }
    head.headers.insert(header::CONNECTION, HeaderValue::from_static("close"));
    head.headers.append(FORWARDED_FOR, header_value(&client.ip().to_string()));
    Ok(Request::from_parts(head, body))
}

fn strip_hop_by_hop(headers: &mut HeaderMap) {
    let mut names: Vec<HeaderName> = HOP_BY_HOP.into_iter().map(HeaderName::from_static).collect();
    for value in headers.get_all(header::CONNECTION) {
        let options = value.to_str().unwrap_or_default().split(',');
        names.extend(options.filter_map(|option| HeaderName::from_bytes(option.trim().as_bytes()).ok()));
    }
    for name in names {
        headers.remove(name);
    }
}

/// An answer made here and not by a server.
fn refusal(status: StatusCode, why: &str, server: Option<&str>) -> Answer {
    let mut answer = Response::new(Either::Left(Full::new(Bytes::from(format!("fleet balancer: {why}\n")))));
    *answer.status_mut() = status;
    let headers = answer.headers_mut();
    headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("text/plain; charset=utf-8"));
    if let Some(server) = server {
        headers.insert(SERVER_HEADER, header_value(server));
    }
    answer
}

/// Names and addresses are checked when they are read, so they always fit in a header.
fn header_value(text: &str) -> HeaderValue {
    HeaderValue::from_str(text).unwrap_or_else(|_| HeaderValue::from_static("-"))
}

impl Body for Passed {
    type Data = Bytes;
    type Error = hyper::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, hyper::Error>>> {
        let polled = Pin::new(&mut self.body).poll_frame(context);
        if matches!(polled, Poll::Ready(None | Some(Err(_)))) {
            self.in_flight = None;
        }
        polled
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}

impl Drop for InFlight {
    fn drop(&mut self) {
        // The client may have gone away in the middle: the server shall see that too.
        self.connection.abort();
    }
}
