//! A running agent: the configuration, identity, lock, node and link put together, until it is told to stop.

use std::sync::Arc;

use fleet_certs::Dialer;
use tokio::sync::watch;

use crate::balancer::Haproxy;
use crate::config::Config;
use crate::durable::{self, FileError};
use crate::environment::Rights;
use crate::failpoint::{FailPoints, Malformed};
use crate::join::{self, JoinError};
use crate::keeper::Tools;
use crate::layout::{Layout, Lock, LockError};
use crate::link::Line;
use crate::node::Node;
use crate::platform::linux::machine;
use crate::platform::{Observer, Supervisor};
use crate::service_manager;

/// Why an agent cannot run.
#[derive(Debug, thiserror::Error)]
pub enum AgentError {
    /// The node has no identity.
    #[error("this node has not joined a fleet: run `fleet-agent join {controller} --token-file FILE` first")]
    NotJoined {
        /// The controller in the configuration.
        controller: String,
    },
    /// The configuration names another node than the identity.
    #[error("agent.toml says node = \"{configured}\", but the certificate is for {certified}: correct one of them")]
    OtherName {
        /// In the configuration.
        configured: fleet::NodeName,
        /// In the certificate.
        certified: fleet::NodeName,
    },
    /// The user services shall run as does not exist.
    #[error("service_user = \"{0}\": there is no such user on this machine; create it first")]
    NoSuchUser(String),
    /// The identity cannot be used.
    #[error(transparent)]
    Identity(#[from] JoinError),
    /// The identity cannot be used for TLS.
    #[error(transparent)]
    Tls(#[from] fleet_certs::DialError),
    /// Another agent works here.
    #[error(transparent)]
    Lock(#[from] LockError),
    /// The state directory cannot be used.
    #[error(transparent)]
    File(#[from] FileError),
    /// The list of fail points cannot be read.
    #[error(transparent)]
    FailPoints(#[from] Malformed),
}

/// Runs an agent on this platform until `stop` becomes true. Services keep running after that.
///
/// # Errors
/// Why it could not begin; once it runs, it runs until told otherwise.
pub async fn run(
    config: Config,
    supervisor: Arc<dyn Supervisor>,
    observer: Arc<dyn Observer>,
    stop: watch::Receiver<bool>,
) -> Result<(), AgentError> {
    let layout = Layout::new(&config.state_dir);
    if !join::is_joined(&layout) {
        return Err(AgentError::NotJoined { controller: config.controller });
    }
    layout.make()?;
    let _lock = Lock::take(&layout)?;
    let (name, pems) = join::load_identity(&layout)?;
    if let Some(configured) = config.node.clone().filter(|configured| *configured != name) {
        return Err(AgentError::OtherName { configured, certified: name });
    }
    let rights = if machine::is_root() { Rights::Root } else { Rights::Ordinary };
    if let (Rights::Root, Some(user)) = (rights, &config.service_user)
        && !machine::user_exists(user)
    {
        return Err(AgentError::NoSuchUser(user.clone()));
    }
    let dialer = Dialer::new(&pems.ca_pem, Some((&pems.cert_pem, &pems.key_pem)))?;
    let line = Line::new(dialer, config.controller.clone(), config.controller_name.clone());
    let observe_every = config.observe_every;
    let tools = Tools {
        supervisor,
        observer,
        source: Arc::new(line.clone()),
        confirmer: Arc::new(line.clone()),
        yard: Arc::default(),
        balancer: config.balancer.as_ref().map(Haproxy::new),
        layout,
        config: Arc::new(config),
        rights,
        points: Arc::new(FailPoints::from_environment()?),
    };
    tracing::info!(node = %name, version = env!("CARGO_PKG_VERSION"), state = %tools.layout.root().display(), "fleet-agent");
    let status = format!("{name} of the fleet of {}", tools.config.controller);
    let node = Node::open(name, tools).await?;
    service_manager::ready(&status);
    tokio::select! {
        () = line.run(node.clone(), observe_every, stop) => {}
        never = service_manager::live() => match never {},
    }
    service_manager::stopping();
    tracing::info!("stopping; services keep running");
    node.stop().await;
    Ok(())
}

/// Resolves the services' root, so that what the kernel shows of processes can be compared with it.
///
/// # Errors
/// The directory and the system's answer.
pub fn resolve_root(config: &mut Config) -> Result<(), FileError> {
    durable::make_directory(&config.services_root, 0o755)?;
    config.services_root =
        config.services_root.canonicalize().map_err(FileError::at("resolve", &config.services_root))?;
    Ok(())
}
