//! The words of `fleetctl dev break`: exactly one kind of breakage.

use crate::dev::breakage::Breakage;

/// One way to break a node.
#[derive(Debug, Clone, clap::Args)]
#[group(required = true, multiple = false)]
pub struct Kind {
    /// Change a file of the current release
    #[arg(long)]
    drift: bool,
    /// Leave a file there that no release knows
    #[arg(long)]
    extra_file: bool,
    /// Make a file writable for everyone
    #[arg(long)]
    mode: bool,
    /// Cut the power: kill the agent and its services
    #[arg(long)]
    down: bool,
    /// Kill only the agent
    #[arg(long)]
    agent_down: bool,
    /// Start an older release by hand
    #[arg(long)]
    stale_process: bool,
    /// Kill the service
    #[arg(long)]
    kill_service: bool,
}

impl Kind {
    /// The one that was chosen; clap has made sure that there is exactly one.
    pub fn breakage(&self) -> Option<Breakage> {
        let flags = [
            (self.drift, Breakage::Drift),
            (self.extra_file, Breakage::ExtraFile),
            (self.mode, Breakage::Mode),
            (self.down, Breakage::Down),
            (self.agent_down, Breakage::AgentDown),
            (self.stale_process, Breakage::StaleProcess),
            (self.kill_service, Breakage::KillService),
        ];
        flags.into_iter().find(|(chosen, _)| *chosen).map(|(_, breakage)| breakage)
    }
}
