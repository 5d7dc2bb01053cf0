//! The supervisor of Linux: puts together starting, knowing and stopping.

use std::collections::BTreeMap;
use std::io;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use fleet::{Millis, ServiceName};

use super::lineage::main_identity;
use super::proc::Identity;
use super::stop::Stopping;
use super::{errand, identity, listeners, proc, start};
use crate::platform::{
    Errand, ErrandEnd, Launch, Listener, ProcessError, Running, SeenErrand, ServicePlace, Stopped, Supervisor,
};

/// A millisecond each. After that the marks stay unseen for a moment, which the next look at the node makes good.
const MOST_SETTLING_LOOKS: usize = 1_000;

/// Starts and stops services as sessions of their own, which outlive the agent.
#[derive(Debug, Clone)]
pub struct LinuxSupervisor {
    boot_id: String,
    /// The main processes of which it was said that nobody can see who answers for them: once each is enough.
    unseen: Arc<Mutex<BTreeMap<ServiceName, Identity>>>,
}

impl LinuxSupervisor {
    /// A supervisor of this boot.
    ///
    /// # Errors
    /// /proc is not mounted or hides the boot id.
    pub fn new() -> io::Result<Self> {
        Ok(Self { boot_id: proc::boot_id()?, unseen: Arc::default() })
    }
}

/// exec closes std's pipe before the kernel has laid out the new program's environment; until it has, the marks
/// cannot be seen. That is microseconds, or as long as the disk takes to give the loader.
async fn settle(identity: Identity) {
    let details = PathBuf::from(format!("/proc/{}", identity.pid));
    for _ in 0..MOST_SETTLING_LOOKS {
        if !proc::runs(identity) || !proc::amid_exec(&details) {
            return;
        }
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
}

#[tonic::async_trait]
impl Supervisor for LinuxSupervisor {
    async fn start(&self, launch: &Launch) -> Result<Running, ProcessError> {
        let mut command = tokio::process::Command::from(start::command(launch)?);
        let mut child = command.kill_on_drop(false).spawn().map_err(|cause| start::explain(&cause, launch))?;
        // Until it is waited for, its number cannot go to another process, however soon it ends.
        let stat = child.id().and_then(proc::stat);
        let service = launch.place.service.clone();
        tokio::spawn(async move {
            let pid = child.id();
            match child.wait().await {
                Ok(status) => tracing::info!(%service, pid, %status, "the main process ended"),
                Err(cause) => tracing::warn!(%service, pid, %cause, "the main process could not be waited for"),
            }
        });
        let stat = stat.ok_or_else(|| ProcessError::System {
            what: "reading the start time of the process just started".into(),
            cause: io::Error::other("/proc does not show it; is it mounted with hidepid?"),
        })?;
        settle(stat.identity).await;
        Ok(Running {
            pid: stat.identity.pid,
            start_ticks: stat.identity.start_ticks,
            boot_id: self.boot_id.clone(),
            release: launch.release.clone(),
        })
    }

    fn is_running(&self, running: &Running) -> bool {
        running.boot_id == self.boot_id && proc::runs(main_identity(running))
    }

    async fn gone(&self, running: &Running) {
        if running.boot_id == self.boot_id {
            identity::gone(main_identity(running)).await;
        }
    }

    fn listener(&self, place: &ServicePlace, running: &Running, address: &SocketAddr) -> Listener {
        let found = listeners::listener(place, running, &self.boot_id, address);
        if let Listener::Unknown(reason) = &found {
            let main = main_identity(running);
            let mut unseen = self.unseen.lock().unwrap_or_else(PoisonError::into_inner);
            if unseen.insert(place.service.clone(), main) != Some(main) {
                tracing::warn!(service = %place.service, %address, "whatever answers the probe is taken for the service: {reason}");
            }
        }
        found
    }

    async fn stop(
        &self,
        place: &ServicePlace,
        running: Option<&Running>,
        timeout: Millis,
    ) -> Result<Stopped, ProcessError> {
        Stopping::new(place, running, &self.boot_id).stop(timeout).await
    }

    async fn run_errand(&self, errand: &Errand) -> Result<ErrandEnd, ProcessError> {
        errand::run(errand).await
    }

    fn errands(&self) -> Vec<SeenErrand> {
        errand::seen()
    }
}
