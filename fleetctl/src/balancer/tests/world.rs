//! What the balancer's tests stand on: servers that can hold, die and come back, and a plain client.

use std::convert::Infallible;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use http_body_util::{BodyExt as _, Full};
use hyper::body::{Bytes, Incoming};
use hyper::service::service_fn;
use hyper::{Request, Response};
use hyper_util::rt::TokioIo;
use tempfile::TempDir;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{Semaphore, watch};
use tokio::task::JoinSet;

use crate::balancer::{AdminAddress, Backend, Balancer, Config, Server};

/// A server of one backend; dropping it kills it with everything in flight.
pub(super) struct TestServer {
    pub(super) address: SocketAddr,
    /// How many requests arrived.
    pub(super) requests: watch::Receiver<u64>,
    /// A permit lets one request to `/hold` go on.
    pub(super) release: Arc<Semaphore>,
    _tasks: JoinSet<()>,
}

impl TestServer {
    pub(super) async fn start(version: &'static str) -> TestServer {
        TestServer::start_at("127.0.0.1:0".parse().unwrap(), version).await
    }

    pub(super) async fn start_at(address: SocketAddr, version: &'static str) -> TestServer {
        let listener = TcpListener::bind(address).await.unwrap();
        let address = listener.local_addr().unwrap();
        let (seen, requests) = watch::channel(0);
        let seen = Arc::new(seen);
        let release = Arc::new(Semaphore::new(0));
        let mut tasks = JoinSet::new();
        let permits = Arc::clone(&release);
        tasks.spawn(async move {
            let mut connections = JoinSet::new();
            loop {
                let (stream, _) = listener.accept().await.unwrap();
                let (seen, permits) = (Arc::clone(&seen), Arc::clone(&permits));
                connections.spawn(async move {
                    let service = service_fn(move |request| {
                        let (seen, permits) = (Arc::clone(&seen), Arc::clone(&permits));
                        async move { Ok::<_, Infallible>(respond(request, version, &seen, &permits).await) }
                    });
                    let http = hyper::server::conn::http1::Builder::new();
                    let _ = http.serve_connection(TokioIo::new(stream), service).await;
                });
            }
        });
        TestServer { address, requests, release, _tasks: tasks }
    }

    /// Waits until `more` further requests have arrived.
    pub(super) async fn wait_for_requests(&self, more: u64) {
        let mut requests = self.requests.clone();
        let wanted = *requests.borrow() + more;
        in_time(requests.wait_for(|count| *count >= wanted)).await.unwrap();
    }

    pub(super) fn count(&self) -> u64 {
        *self.requests.borrow()
    }
}

async fn respond(
    request: Request<Incoming>,
    version: &'static str,
    seen: &watch::Sender<u64>,
    permits: &Semaphore,
) -> Response<Full<Bytes>> {
    seen.send_modify(|count| *count += 1);
    let path = request.uri().path().to_owned();
    let head = format!("{:?}", request.headers());
    let body = request.into_body().collect().await.unwrap().to_bytes();
    let body = match path.as_str() {
        "/hold" => {
            permits.acquire().await.unwrap().forget();
            Bytes::from_static(b"held")
        }
        "/headers" => Bytes::from(head),
        "/echo" => body,
        _ => Bytes::from(version),
    };
    Response::builder()
        .header("X-Version", version)
        .header("Connection", "x-secret")
        .header("X-Secret", "1")
        .body(Full::new(body))
        .unwrap()
}

/// A server that accepts, reads and closes without a word. Returns its address and how many did that.
pub(super) async fn mute_server() -> (SocketAddr, Arc<AtomicU64>) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let count = Arc::new(AtomicU64::new(0));
    let counted = Arc::clone(&count);
    tokio::spawn(async move {
        while let Ok((mut stream, _)) = listener.accept().await {
            counted.fetch_add(1, Ordering::SeqCst);
            let _ = stream.read(&mut [0_u8; 1024]).await;
        }
    });
    (address, count)
}

/// An address on which nothing listens.
pub(super) async fn dead_address() -> SocketAddr {
    TcpListener::bind("127.0.0.1:0").await.unwrap().local_addr().unwrap()
}

/// A configuration with the backend `shop` and servers s1, s2, ... at `addresses`.
pub(super) fn config(folder: &TempDir, addresses: &[SocketAddr]) -> Config {
    let servers = (addresses.iter().enumerate())
        .map(|(index, address)| Server { name: format!("s{}", index + 1), address: *address, weight: 100 })
        .collect();
    Config {
        listen: "127.0.0.1:0".parse().unwrap(),
        admin: AdminAddress::Unix(folder.path().join("admin.sock")),
        state_file: folder.path().join("states.json"),
        backends: vec![Backend { name: "shop".to_owned(), listen: None, servers }],
    }
}

/// One request; the whole response as text.
pub(super) async fn ask(address: SocketAddr, head: &str, body: &str) -> String {
    let mut stream = TcpStream::connect(address).await.unwrap();
    let request = format!(
        "{head} HTTP/1.1\r\nHost: shop.test\r\nConnection: close\r\nContent-Length: {}\r\n\r\n{body}",
        body.len()
    );
    stream.write_all(request.as_bytes()).await.unwrap();
    let mut answer = String::new();
    in_time(stream.read_to_string(&mut answer)).await.unwrap();
    answer
}

/// `used_cur` of a server, as a driver reads it.
pub(super) async fn used_cur(balancer: &Balancer, server: &str) -> u64 {
    let answer = balancer.answer("show servers conn shop").await;
    let prefix = format!("{server} ");
    let line = answer.lines().find(|line| line.starts_with(&prefix)).unwrap_or_else(|| panic!("{server} in {answer}"));
    line.split(' ').nth(6).unwrap().parse().unwrap()
}

/// Polls, as a driver does, until `server` has `wanted` requests in flight.
pub(super) async fn wait_for_used(balancer: &Balancer, server: &str, wanted: u64) {
    in_time(async {
        while used_cur(balancer, server).await != wanted {
            tokio::time::sleep(Duration::from_millis(2)).await;
        }
    })
    .await;
}

/// A hang ends the test with a panic instead of holding up the run.
pub(super) async fn in_time<T>(future: impl Future<Output = T>) -> T {
    tokio::time::timeout(Duration::from_secs(30), future).await.expect("it happens within 30 s")
}
