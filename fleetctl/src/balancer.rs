//! The built-in balancer of a development fleet: an HTTP/1.1 reverse proxy whose runtime API answers as HAProxy 2.6 does,
//! so that the agent drains a node here and at a real HAProxy with one and the same driver.
//!
//! It promises two things: after the answer to `set server B/S state drain|maint` no further request is routed to that
//! server, and a request is counted in `used_cur` from the moment a server is chosen until its response is passed on.
//! It is for one machine: no TLS, no health checks of its own, no upgrades (WebSocket), no HTTP/2. A fleet in production
//! uses its own balancer.

mod admin;
mod config;
mod pool;
mod proxy;
mod runtime_api;
mod state_file;
#[cfg(test)]
mod tests;

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use anyhow::Context as _;
use tokio::sync::{Mutex, Semaphore, watch};

pub use config::{AdminAddress, Backend, Config, ConfigError, MAX_WEIGHT, Server};
pub use pool::State;
pub use state_file::StateFileError;

use pool::Pool;

/// Most client connections at a time, for all listeners: above what a load test on one machine opens, below the usual
/// limit of descriptors (each connection needs one more to a server).
const MAX_CONNECTIONS: u32 = 400;
/// Most connections to the runtime API at a time: a fleet of agents on one machine, each with one.
const MAX_ADMIN_CONNECTIONS: u32 = 64;
/// How long a stop waits for requests in flight before it cuts them off.
const STOP_TIMEOUT: Duration = Duration::from_secs(10);

/// Why a balancer could not start or take over a new configuration.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The configuration is wrong.
    #[error(transparent)]
    Config(#[from] ConfigError),
    /// The states of the last run cannot be read or saved.
    #[error(transparent)]
    StateFile(#[from] StateFileError),
    /// An address cannot be listened on.
    #[error(
        "cannot listen on {address} for {what}: {source}; stop what uses it or choose another in the balancer's configuration"
    )]
    Listen {
        /// The address as configured.
        address: String,
        /// What it is for.
        what: String,
        /// The system's answer.
        source: std::io::Error,
    },
    /// A change that needs a restart.
    #[error("{what} changed from {old} to {new}: that takes effect only after a restart; nothing was changed")]
    NeedsRestart {
        /// What changed.
        what: String,
        /// What is in effect.
        old: String,
        /// What the new configuration says.
        new: String,
    },
}

/// A running balancer. Dropping it stops accepting; [`Balancer::stop`] also waits for the requests in flight.
#[derive(Debug)]
pub struct Balancer {
    shared: Arc<Shared>,
    admin: AdminAddress,
    listeners: Mutex<BTreeMap<String, Listener>>,
    stop: watch::Sender<bool>,
}

/// What every connection and command works on.
#[derive(Debug)]
struct Shared {
    pool: Pool,
    state_file: PathBuf,
    /// Held by whoever changes states: saved and applied in one order, so that the file never says something older.
    changing: Mutex<()>,
    connections: Arc<Semaphore>,
    admin_connections: Arc<Semaphore>,
}

#[derive(Debug)]
struct Listener {
    configured: SocketAddr,
    bound: SocketAddr,
    stop: watch::Sender<bool>,
}

/// Runs the balancer described by the TOML file at `config_path` until SIGTERM or SIGINT. SIGHUP reads the file again:
/// new servers appear, servers that are kept keep their state, a file that is wrong changes nothing and is logged.
///
/// # Errors
/// The file cannot be read or is wrong, an address is in use, or the saved states cannot be read.
pub async fn run(config_path: &Path) -> anyhow::Result<()> {
    use tokio::signal::unix::{SignalKind, signal};
    let mut terminate = signal(SignalKind::terminate()).context("cannot wait for SIGTERM")?;
    let mut interrupt = signal(SignalKind::interrupt()).context("cannot wait for SIGINT")?;
    let mut hangup = signal(SignalKind::hangup()).context("cannot wait for SIGHUP")?;
    let balancer = Balancer::start(Config::read(config_path)?).await?;
    tracing::info!(config = %config_path.display(), admin = %balancer.admin(), "the balancer is ready");
    loop {
        tokio::select! {
            _ = terminate.recv() => break,
            _ = interrupt.recv() => break,
            _ = hangup.recv() => {
                let reloaded = match Config::read(config_path) {
                    Ok(config) => balancer.reload(config).await,
                    Err(error) => Err(error.into()),
                };
                match reloaded {
                    Ok(()) => tracing::info!(config = %config_path.display(), "the configuration was read again"),
                    Err(error) => tracing::error!(%error, "the new configuration was refused, the old one stays"),
                }
            }
        }
    }
    balancer.stop().await;
    Ok(())
}

impl Balancer {
    /// Listens on every address of `config` and starts to route. States of an earlier run are taken from the state file;
    /// servers that it does not name start ready, as in HAProxy.
    ///
    /// # Errors
    /// The configuration is wrong, an address is in use, or the state file cannot be read.
    pub async fn start(config: Config) -> Result<Balancer, Error> {
        config.check()?;
        let saved = state_file::load(&config.state_file).await?;
        let admin = admin::bind(&config.admin).await?;
        let shared = Arc::new(Shared {
            pool: Pool::new(&config, &saved),
            state_file: config.state_file.clone(),
            changing: Mutex::new(()),
            connections: Arc::new(Semaphore::new(MAX_CONNECTIONS as usize)),
            admin_connections: Arc::new(Semaphore::new(MAX_ADMIN_CONNECTIONS as usize)),
        });
        let stop = watch::Sender::new(false);
        let mut listeners = BTreeMap::new();
        for (name, address) in config.listeners() {
            listeners.insert(name.to_owned(), listen(&shared, name, address).await?);
        }
        let bound = admin.address().clone();
        tokio::spawn(admin::serve(admin, Arc::clone(&shared), stop.subscribe()));
        Ok(Balancer { shared, admin: bound, listeners: Mutex::new(listeners), stop })
    }

    /// Where the requests of `backend` are taken, with the real port if the configuration says 0.
    pub async fn address(&self, backend: &str) -> Option<SocketAddr> {
        self.listeners.lock().await.get(backend).map(|listener| listener.bound)
    }

    /// Where the runtime API answers, with the real port if the configuration says 0.
    pub fn admin(&self) -> &AdminAddress {
        &self.admin
    }

    /// What the runtime API answers to `line` (one or several commands joined by `;`), without a socket.
    pub async fn answer(&self, line: &str) -> String {
        runtime_api::answer(&self.shared, line).await.concat()
    }

    /// Takes over the servers and backends of `config`. A server that is kept keeps its state, its weight and its
    /// counters; one that is gone gets no new requests and may finish those it has.
    ///
    /// # Errors
    /// The configuration is wrong, a listening address changed, or a new one is in use. Then nothing has changed.
    pub async fn reload(&self, config: Config) -> Result<(), Error> {
        config.check()?;
        let _changing = self.shared.changing.lock().await;
        let mut listeners = self.listeners.lock().await;
        if config.state_file != self.shared.state_file {
            return Err(Error::NeedsRestart {
                what: "state_file".to_owned(),
                old: self.shared.state_file.display().to_string(),
                new: config.state_file.display().to_string(),
            });
        }
        let mut added = BTreeMap::new();
        for (name, address) in config.listeners() {
            match listeners.get(name) {
                Some(listener) if listener.configured == address => {}
                Some(listener) => {
                    return Err(Error::NeedsRestart {
                        what: format!("the listening address of backend {name}"),
                        old: listener.configured.to_string(),
                        new: address.to_string(),
                    });
                }
                None => {
                    added.insert(name.to_owned(), listen(&self.shared, name, address).await?);
                }
            }
        }
        state_file::save(&self.shared.state_file, self.shared.pool.states_after(&config)).await?;
        self.shared.pool.replace(&config);
        listeners.retain(|name, _| config.backends.iter().any(|backend| backend.name == *name));
        listeners.append(&mut added);
        Ok(())
    }

    /// Stops accepting and waits up to ten seconds for the requests in flight.
    pub async fn stop(self) {
        let _ = self.stop.send(true);
        self.listeners.lock().await.clear();
        let all = self.shared.connections.acquire_many(MAX_CONNECTIONS);
        if tokio::time::timeout(STOP_TIMEOUT, all).await.is_err() {
            tracing::warn!("requests were still in flight after {STOP_TIMEOUT:?}; they are cut off");
        }
        if let AdminAddress::Unix(path) = &self.admin {
            let _ = tokio::fs::remove_file(path).await;
        }
    }
}

impl Drop for Listener {
    fn drop(&mut self) {
        let _ = self.stop.send(true);
    }
}

async fn listen(shared: &Arc<Shared>, backend: &str, configured: SocketAddr) -> Result<Listener, Error> {
    let refused =
        |source| Error::Listen { address: configured.to_string(), what: format!("backend {backend}"), source };
    let listener = tokio::net::TcpListener::bind(configured).await.map_err(refused)?;
    let bound = listener.local_addr().map_err(refused)?;
    let stop = watch::Sender::new(false);
    tokio::spawn(proxy::serve(listener, Arc::clone(shared), Arc::from(backend), stop.subscribe()));
    Ok(Listener { configured, bound, stop })
}
