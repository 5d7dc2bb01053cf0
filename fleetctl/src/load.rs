//! A steady load: so many requests per second to one URL, every failure counted. It is how a deployment shows that no
//! request was lost; it is no benchmark.
//!
//! Each request has a connection of its own and no second try: what fails here would have failed for a user.

use std::collections::BTreeMap;
use std::future::Future;
use std::net::SocketAddr;
use std::time::Duration;

use http_body_util::{BodyExt as _, Empty, Limited};
use hyper::body::Bytes;
use hyper::header::{self, HeaderMap};
use hyper::{Request, StatusCode, Uri};
use hyper_util::rt::TokioIo;
use tokio::net::TcpStream;
use tokio::sync::watch;
use tokio::task::JoinSet;
use tokio::time::{Instant, MissedTickBehavior, timeout};

/// Highest rate: above it one machine measures itself.
pub const MAX_RATE_PER_SECOND: u32 = 5_000;
/// Most workers: each has at most one request in flight, so this is also the most connections.
pub const MAX_WORKERS: u32 = 128;
/// How many failures are told in words; all are counted.
const MAX_FAILURES_TOLD: usize = 10;
/// How many different versions or servers are told apart; the rest is counted as `other`.
const MAX_NAMES: usize = 64;
/// Longest name of a version or server that is kept.
const MAX_NAME_CHARS: usize = 64;
/// How long one request may take before it counts as failed.
const REQUEST_TIMEOUT: Duration = Duration::from_secs(10);
/// Largest body that is read.
const MAX_BODY_BYTES: usize = 1024 * 1024;

/// What to send and until when.
#[derive(Debug)]
pub struct Load<S> {
    /// The address, `http://HOST:PORT/PATH`, of this machine only: a mistyped one must not put load on somebody else's
    /// service.
    pub url: String,
    /// Requests per second of all workers together, 1 to [`MAX_RATE_PER_SECOND`].
    pub rate_per_second: u32,
    /// How many requests may be in flight at a time, 1 to [`MAX_WORKERS`].
    pub workers: u32,
    /// The load ends when this does; requests in flight are finished and counted.
    pub stop: S,
}

/// Why a load was not started.
#[derive(Debug, thiserror::Error)]
pub enum LoadError {
    /// The URL cannot be used.
    #[error("{url:?} cannot be loaded: {why}")]
    Url {
        /// The URL as given.
        url: String,
        /// What is wrong with it.
        why: String,
    },
    /// A number is out of range.
    #[error("{what} is {given}: 1 to {most} are allowed")]
    OutOfRange {
        /// Which number.
        what: &'static str,
        /// The number as given.
        given: u32,
        /// The highest allowed.
        most: u32,
    },
}

/// What came back. A response is ok when its status is 2xx or 3xx and its body arrived whole.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Report {
    /// Requests sent: `ok + failed`.
    pub sent: u64,
    /// Requests answered well.
    pub ok: u64,
    /// All others.
    pub failed: u64,
    /// The first failures, in words.
    pub first_failures: Vec<String>,
    /// Good answers by their `X-Version` header; `unknown` without one.
    pub by_version: BTreeMap<String, u64>,
    /// Good answers by their `X-Fleet-Server` (else `X-Node`) header; `unknown` without one.
    pub by_server: BTreeMap<String, u64>,
    /// Half of the requests took no longer, in microseconds from the moment they were due.
    pub p50_us: u64,
    /// 99 of 100 requests took no longer, in microseconds from the moment they were due.
    pub p99_us: u64,
}

/// Sends `load.rate_per_second` requests each second until `load.stop` ends. When the service is too slow for the rate,
/// requests are left out, not heaped up: at most one per worker is in flight.
///
/// # Errors
/// The URL is no `http` URL of this machine, or a number is out of range. Failed requests are no error: they are
/// in the report.
pub async fn run<S: Future<Output = ()>>(load: Load<S>) -> Result<Report, LoadError> {
    in_range("the rate per second", load.rate_per_second, MAX_RATE_PER_SECOND)?;
    in_range("the number of workers", load.workers, MAX_WORKERS)?;
    let target = Target::find(&load.url).await?;
    let stop = watch::Sender::new(false);
    let period = Duration::from_secs(1) * load.workers / load.rate_per_second;
    let mut workers = JoinSet::new();
    let start = Instant::now();
    for index in 0..load.workers {
        // Spread over the period, so that the load is steady and not a volley.
        let first = start + period * index / load.workers;
        workers.spawn(work(target.clone(), first, period, stop.subscribe()));
    }
    load.stop.await;
    let _ = stop.send(true);
    let mut tally = Tally::default();
    while let Some(ended) = workers.join_next().await {
        match ended {
            Ok(part) => tally.merge(part),
            Err(error) => tally.fail(&format!("a worker of the load itself failed: {error}")),
        }
    }
    Ok(tally.report())
}

/// Where the requests go, resolved once.
#[derive(Clone, Debug)]
struct Target {
    url: String,
    host: String,
    path: Uri,
    address: SocketAddr,
}

impl Target {
    async fn find(url: &str) -> Result<Target, LoadError> {
        let refused = |why: String| LoadError::Url { url: url.to_owned(), why };
        let uri: Uri = url.parse().map_err(|error| refused(format!("{error}")))?;
        if uri.scheme_str() != Some("http") {
            return Err(refused("it does not start with http://".to_owned()));
        }
        let authority = uri.authority().ok_or_else(|| refused("it names no host".to_owned()))?;
        let host = authority.host().trim_start_matches('[').trim_end_matches(']').to_owned();
        let port = authority.port_u16().unwrap_or(80);
        let mut addresses = tokio::net::lookup_host((host.as_str(), port))
            .await
            .map_err(|error| refused(format!("its host cannot be resolved: {error}")))?;
        let address = addresses.next().ok_or_else(|| refused("its host has no address".to_owned()))?;
        if !address.ip().is_loopback() {
            return Err(refused(format!("{} is not an address of this machine (127.0.0.0/8 or ::1)", address.ip())));
        }
        let path = uri.path_and_query().map_or("/", |path| path.as_str());
        let path = path.parse().map_err(|error| refused(format!("{error}")))?;
        Ok(Target { url: url.to_owned(), host: authority.to_string(), path, address })
    }
}

async fn work(target: Target, first: Instant, period: Duration, mut stop: watch::Receiver<bool>) -> Tally {
    let mut tally = Tally::default();
    let mut due = tokio::time::interval_at(first, period);
    due.set_missed_tick_behavior(MissedTickBehavior::Skip);
    loop {
        let due = tokio::select! {
            biased;
            _ = stop.wait_for(|stop| *stop) => return tally,
            due = due.tick() => due,
        };
        let outcome = timeout(REQUEST_TIMEOUT, ask(&target)).await;
        // From when it was due: a request that had to wait for a slow one before it was slow for its user too.
        tally.latencies.add(due.elapsed());
        match outcome {
            Ok(Ok(headers)) => tally.succeed(&headers),
            Ok(Err(why)) => tally.fail(&format!("GET {} → {why}", target.url)),
            Err(_) => tally.fail(&format!("GET {} → no answer within {REQUEST_TIMEOUT:?}", target.url)),
        }
    }
}

/// One request. The headers of a good answer, or what was wrong.
async fn ask(target: &Target) -> Result<HeaderMap, String> {
    let stream = TcpStream::connect(target.address).await.map_err(|error| format!("cannot connect: {error}"))?;
    let (mut sender, connection) =
        hyper::client::conn::http1::handshake(TokioIo::new(stream)).await.map_err(|error| error.to_string())?;
    // Joined to the request, so that a timeout drops both.
    let mut tasks = JoinSet::new();
    tasks.spawn(connection);
    let request = Request::get(target.path.clone())
        .header(header::HOST, &target.host)
        .header(header::CONNECTION, "close")
        .body(Empty::<Bytes>::new())
        .map_err(|error| error.to_string())?;
    let response = sender.send_request(request).await.map_err(|error| format!("no answer: {error}"))?;
    let (head, body) = response.into_parts();
    let body = Limited::new(body, MAX_BODY_BYTES)
        .collect()
        .await
        .map_err(|error| format!("{} with a body that ended early: {error}", head.status))?
        .to_bytes();
    if head.status.is_success() || head.status.is_redirection() {
        return Ok(head.headers);
    }
    Err(describe(head.status, &head.headers, &body))
}

fn describe(status: StatusCode, headers: &HeaderMap, body: &[u8]) -> String {
    let server = header(headers, &["x-fleet-server", "x-node"]);
    let text: String = String::from_utf8_lossy(body).chars().filter(|c| !c.is_control()).take(160).collect();
    format!("{} from {server}: {text}", status.as_u16())
}

fn header(headers: &HeaderMap, names: &[&str]) -> String {
    names
        .iter()
        .find_map(|name| headers.get(*name)?.to_str().ok())
        .map_or_else(|| "unknown".to_owned(), |value| value.chars().take(MAX_NAME_CHARS).collect())
}

fn in_range(what: &'static str, given: u32, most: u32) -> Result<(), LoadError> {
    if (1..=most).contains(&given) { Ok(()) } else { Err(LoadError::OutOfRange { what, given, most }) }
}

#[derive(Debug, Default)]
struct Tally {
    report: Report,
    latencies: Latencies,
}

impl Tally {
    fn succeed(&mut self, headers: &HeaderMap) {
        self.report.sent += 1;
        self.report.ok += 1;
        add(&mut self.report.by_version, header(headers, &["x-version"]), 1);
        add(&mut self.report.by_server, header(headers, &["x-fleet-server", "x-node"]), 1);
    }

    fn fail(&mut self, why: &str) {
        self.report.sent += 1;
        self.report.failed += 1;
        if self.report.first_failures.len() < MAX_FAILURES_TOLD {
            self.report.first_failures.push(why.to_owned());
        }
    }

    fn merge(&mut self, other: Tally) {
        self.report.sent += other.report.sent;
        self.report.ok += other.report.ok;
        self.report.failed += other.report.failed;
        self.report.first_failures.extend(other.report.first_failures);
        self.report.first_failures.truncate(MAX_FAILURES_TOLD);
        for (name, count) in other.report.by_version {
            add(&mut self.report.by_version, name, count);
        }
        for (name, count) in other.report.by_server {
            add(&mut self.report.by_server, name, count);
        }
        self.latencies.merge(&other.latencies);
    }

    fn report(mut self) -> Report {
        self.report.p50_us = self.latencies.quantile(50);
        self.report.p99_us = self.latencies.quantile(99);
        self.report
    }
}

fn add(counts: &mut BTreeMap<String, u64>, name: String, count: u64) {
    let name = if counts.contains_key(&name) || counts.len() < MAX_NAMES { name } else { "other".to_owned() };
    *counts.entry(name).or_default() += count;
}

/// Counts of latencies in buckets of about 6 % width: exact enough for a percentile, and of fixed size.
#[derive(Debug)]
struct Latencies {
    buckets: Vec<u64>,
}

/// Buckets for each doubling.
const STEPS: u64 = 16;

impl Default for Latencies {
    fn default() -> Latencies {
        // 64 doublings hold every 64-bit number of microseconds.
        Latencies { buckets: vec![0; 64 * STEPS as usize] }
    }
}

impl Latencies {
    fn add(&mut self, latency: Duration) {
        let micros = u64::try_from(latency.as_micros()).unwrap_or(u64::MAX);
        self.buckets[bucket(micros)] += 1;
    }

    fn merge(&mut self, other: &Latencies) {
        for (mine, theirs) in self.buckets.iter_mut().zip(&other.buckets) {
            *mine += theirs;
        }
    }

    /// The highest microseconds of the bucket in which `percent` of all are reached; 0 without any.
    fn quantile(&self, percent: u64) -> u64 {
        let total: u64 = self.buckets.iter().sum();
        let wanted = (total * percent).div_ceil(100).max(1);
        let mut seen = 0;
        for (index, count) in self.buckets.iter().enumerate() {
            seen += count;
            if seen >= wanted {
                return highest(index);
            }
        }
        0
    }
}

/// Small numbers have a bucket each; larger ones share by their first bits.
fn bucket(micros: u64) -> usize {
    if micros < STEPS {
        return micros as usize;
    }
    let shift = u64::from(micros.ilog2() - STEPS.ilog2());
    ((shift + 1) * STEPS + ((micros >> shift) - STEPS)) as usize
}

fn highest(bucket: usize) -> u64 {
    let (group, step) = (bucket as u64 / STEPS, bucket as u64 % STEPS);
    if group == 0 {
        return step;
    }
    let shift = group - 1;
    ((STEPS + step) << shift) + ((1 << shift) - 1)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;

    fn load(url: &str) -> Load<std::future::Ready<()>> {
        Load { url: url.to_owned(), rate_per_second: 10, workers: 1, stop: std::future::ready(()) }
    }

    #[tokio::test]
    async fn other_machines_are_refused() {
        for (url, part) in [
            ("http://192.0.2.1:80/", "not an address of this machine"),
            ("https://127.0.0.1/", "http://"),
            ("127.0.0.1:80", "http://"),
        ] {
            let error = run(load(url)).await.unwrap_err().to_string();
            assert!(error.contains(part), "{error}");
        }
        let error = run(Load { rate_per_second: 0, ..load("http://127.0.0.1:1/") }).await.unwrap_err();
        assert!(error.to_string().contains("rate"), "{error}");
        let error = run(Load { workers: MAX_WORKERS + 1, ..load("http://127.0.0.1:1/") }).await.unwrap_err();
        assert!(error.to_string().contains("workers"), "{error}");
    }

    #[test]
    fn percentiles_are_right_within_a_bucket() {
        for micros in [0, 1, 15, 16, 17, 31, 32, 1_000, 123_456, u64::MAX / 2, u64::MAX] {
            let top = highest(bucket(micros));
            assert!(top >= micros && (top - micros) <= micros / STEPS, "{micros} in {top}");
        }
        let mut latencies = Latencies::default();
        (1..=100).for_each(|milliseconds| latencies.add(Duration::from_millis(milliseconds)));
        let (p50, p99) = (latencies.quantile(50), latencies.quantile(99));
        assert!((50_000..54_000).contains(&p50) && (99_000..106_000).contains(&p99), "{p50} {p99}");
    }

    #[test]
    fn failures_are_all_counted_but_only_some_told() {
        let mut tally = Tally::default();
        (0..50).for_each(|number| tally.fail(&number.to_string()));
        let mut other = Tally::default();
        other.fail("x");
        tally.merge(other);
        let report = tally.report();
        assert_eq!((report.sent, report.failed, report.first_failures.len()), (51, 51, MAX_FAILURES_TOLD));
    }

    #[test]
    fn names_are_bounded() {
        let mut counts = BTreeMap::new();
        (0..1000).for_each(|number| add(&mut counts, number.to_string(), 1));
        assert_eq!(counts.len(), MAX_NAMES + 1);
        assert_eq!(counts["other"], 1000 - MAX_NAMES as u64);
    }
}
