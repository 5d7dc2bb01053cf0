//! The servers, their states and the choice of the next one. One lock covers "which server" and "which state", so a
//! choice is made either before a change of state or after it, never across it.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use serde::{Deserialize, Serialize};
use tokio::sync::watch;
use tokio::time::Instant;

use super::config::{Config, MAX_WEIGHT};

/// HAProxy numbers its proxies in the order of the file: 1 is its own, 2 the frontend; so the first backend is 3.
const FIRST_BACKEND_ID: usize = 3;

/// Whether a server gets requests.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum State {
    /// It gets its share.
    Ready,
    /// It gets no new requests and finishes those it has.
    Drain,
    /// As drain; an operator took it out.
    Maint,
}

/// What is kept of one server over a restart.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Saved {
    pub(super) state: State,
    pub(super) weight: u16,
}

/// What is kept of all servers: by backend and server.
pub(super) type States = BTreeMap<String, BTreeMap<String, Saved>>;

/// A change of one server.
#[derive(Clone, Copy, Debug)]
pub(super) enum Change {
    State(State),
    /// An absolute weight, at most [`MAX_WEIGHT`].
    Weight(u16),
    /// Per cent of the initial weight; the result is cut to [`MAX_WEIGHT`].
    WeightPercent(u64),
}

/// A name that is not there.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Missing {
    Backend,
    Server,
}

/// All backends of a balancer.
#[derive(Debug)]
pub(super) struct Pool {
    backends: Mutex<Vec<Backend>>,
    /// Raised with every change, for requests that wait for a server.
    changes: watch::Sender<u64>,
}

#[derive(Clone, Debug)]
pub(super) struct Backend {
    pub(super) id: usize,
    pub(super) name: String,
    pub(super) servers: Vec<Server>,
}

#[derive(Clone, Debug)]
pub(super) struct Server {
    pub(super) id: usize,
    pub(super) name: String,
    pub(super) address: SocketAddr,
    pub(super) state: State,
    pub(super) weight: u16,
    pub(super) initial_weight: u16,
    pub(super) changed: Instant,
    pub(super) counters: Arc<Counters>,
    /// How far ahead of its share this server is behind the others; see [`Pool::choose`].
    credit: i64,
}

/// What is counted about one server; shared with the requests it answers.
#[derive(Debug, Default)]
pub(super) struct Counters {
    pub(super) in_flight: AtomicU64,
    pub(super) most_in_flight: AtomicU64,
    pub(super) requests: AtomicU64,
    pub(super) connect_errors: AtomicU64,
    pub(super) response_errors: AtomicU64,
    pub(super) redispatched: AtomicU64,
}

/// A request's place at a server. While it lives, the request is counted in `used_cur`.
#[derive(Debug)]
pub(super) struct Ticket {
    pub(super) server: String,
    pub(super) address: SocketAddr,
    pub(super) counters: Arc<Counters>,
}

impl Pool {
    pub(super) fn new(config: &Config, saved: &States) -> Pool {
        Pool { backends: Mutex::new(build(config, saved, &[])), changes: watch::Sender::new(0) }
    }

    /// Chooses the next server of `backend` that is ready, has a weight and is not in `tried`, and counts the request.
    ///
    /// Smooth weighted round robin: each candidate earns its weight, the richest is chosen and pays what all earned. With
    /// equal weights that is plain round robin.
    pub(super) fn choose(&self, backend: &str, tried: &[String]) -> Option<Ticket> {
        let mut backends = self.lock();
        let servers = &mut backends.iter_mut().find(|found| found.name == backend)?.servers;
        let mut earned = 0;
        let mut chosen: Option<usize> = None;
        for index in 0..servers.len() {
            let server = &mut servers[index];
            if server.state != State::Ready || server.weight == 0 || tried.contains(&server.name) {
                continue;
            }
            earned += i64::from(server.weight);
            server.credit += i64::from(server.weight);
            if chosen.is_none_or(|best| servers[best].credit < servers[index].credit) {
                chosen = Some(index);
            }
        }
        let server = &mut servers[chosen?];
        server.credit -= earned;
        let in_flight = server.counters.in_flight.fetch_add(1, Ordering::SeqCst) + 1;
        server.counters.most_in_flight.fetch_max(in_flight, Ordering::SeqCst);
        Some(Ticket { server: server.name.clone(), address: server.address, counters: Arc::clone(&server.counters) })
    }

    /// Wakes whoever waits for a server. Subscribe before choosing, or a change in between is missed.
    pub(super) fn changes(&self) -> watch::Receiver<u64> {
        self.changes.subscribe()
    }

    /// A copy of all backends for printing.
    pub(super) fn snapshot(&self) -> Vec<Backend> {
        self.lock().clone()
    }

    /// The states as they will be after `change`, to be saved before it is applied.
    pub(super) fn states_with(&self, backend: &str, server: &str, change: Change) -> Result<States, Missing> {
        let mut copy = self.snapshot();
        apply(&mut copy, backend, server, change)?;
        Ok(states(&copy))
    }

    /// Applies `change`. When this returns, no later choice sees the old state.
    pub(super) fn apply(&self, backend: &str, server: &str, change: Change) -> Result<(), Missing> {
        apply(&mut self.lock(), backend, server, change)?;
        self.changes.send_modify(|count| *count += 1);
        Ok(())
    }

    /// The states as they will be after [`Pool::replace`].
    pub(super) fn states_after(&self, config: &Config) -> States {
        let backends = self.snapshot();
        states(&build(config, &states(&backends), &backends))
    }

    /// Takes over the servers of `config`; those that are kept keep their state, weight and counters.
    pub(super) fn replace(&self, config: &Config) {
        let mut backends = self.lock();
        *backends = build(config, &states(&backends), &backends);
        drop(backends);
        self.changes.send_modify(|count| *count += 1);
    }

    /// A panic elsewhere cannot leave the list half changed, so a poisoned lock is still good.
    fn lock(&self) -> MutexGuard<'_, Vec<Backend>> {
        self.backends.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Ticket {
    fn drop(&mut self) {
        self.counters.in_flight.fetch_sub(1, Ordering::SeqCst);
    }
}

fn build(config: &Config, saved: &States, running: &[Backend]) -> Vec<Backend> {
    let now = Instant::now();
    let backends = config.backends.iter().enumerate();
    backends
        .map(|(index, backend)| Backend {
            id: FIRST_BACKEND_ID + index,
            name: backend.name.clone(),
            servers: (backend.servers.iter().enumerate())
                .map(|(index, server)| {
                    let before = (running.iter().find(|found| found.name == backend.name))
                        .and_then(|found| found.servers.iter().find(|found| found.name == server.name));
                    let kept = saved.get(&backend.name).and_then(|servers| servers.get(&server.name));
                    Server {
                        id: index + 1,
                        name: server.name.clone(),
                        address: server.address,
                        state: kept.map_or(State::Ready, |kept| kept.state),
                        weight: kept.map_or(server.weight, |kept| kept.weight),
                        initial_weight: server.weight,
                        changed: before.map_or(now, |before| before.changed),
                        counters: before.map_or_else(Arc::default, |before| Arc::clone(&before.counters)),
                        credit: 0,
                    }
                })
                .collect(),
        })
        .collect()
}

fn apply(backends: &mut [Backend], backend: &str, server: &str, change: Change) -> Result<(), Missing> {
    let backend = backends.iter_mut().find(|found| found.name == backend).ok_or(Missing::Backend)?;
    let server = backend.servers.iter_mut().find(|found| found.name == server).ok_or(Missing::Server)?;
    match change {
        Change::State(state) => {
            if server.state != state {
                server.state = state;
                server.changed = Instant::now();
            }
        }
        Change::Weight(weight) => server.weight = weight.min(MAX_WEIGHT),
        Change::WeightPercent(percent) => {
            let weight = u64::from(server.initial_weight).saturating_mul(percent) / 100;
            server.weight = u16::try_from(weight).unwrap_or(MAX_WEIGHT).min(MAX_WEIGHT);
        }
    }
    Ok(())
}

fn states(backends: &[Backend]) -> States {
    let servers = |backend: &Backend| {
        let saved = |server: &Server| Saved { state: server.state, weight: server.weight };
        backend.servers.iter().map(|server| (server.name.clone(), saved(server))).collect()
    };
    backends.iter().map(|backend| (backend.name.clone(), servers(backend))).collect()
}
