//! What a person can want of a running deployment, and when it is refused. Every command is defined in every state:
//! it has an effect, or a refusal that says what would have one.

use serde::{Deserialize, Serialize};

use crate::deployment::state::{Deployment, Phase};
use crate::deployment::{Cause, Halt, Waiver};
use crate::{DeploymentId, NodeName, Timestamp};

/// Something a person wants.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Command {
    /// Begin nothing more until it is resumed; what is under way on nodes ends.
    Pause,
    /// Go on after a pause.
    Resume,
    /// Go past the point at which it has halted by itself.
    Promote {
        /// Whether what halted it is taken as done or is tried again.
        again: Again,
    },
    /// End it.
    Abort {
        /// What becomes of the nodes already ordered.
        mode: AbortMode,
    },
    /// End it where it is: another deployment takes its place.
    Supersede {
        /// Which.
        deployment: DeploymentId,
    },
    /// One node need not be proven.
    Waive {
        /// Which.
        node: NodeName,
        /// Why and until when.
        waiver: Waiver,
    },
}

/// What becomes of that which halted a deployment when it is promoted.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Again {
    /// It is taken as done: the gate as passed, the migration as run.
    Skip,
    /// It is tried again: the gate is asked, the migration is run once more.
    Retry,
}

/// What an abort does with the nodes that were already ordered.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum AbortMode {
    /// They go back to what they held.
    RollBack,
    /// They stay as they are.
    Leave,
}

/// Why a command has no effect now, and what would have one.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{what}")]
pub struct CommandRefusal {
    /// Why it has none.
    pub what: String,
    /// What to do instead.
    pub help: String,
}

impl Deployment {
    /// Whether a command would have an effect at `now`. [`Deployment::handle`] ignores a command that is refused here.
    ///
    /// # Errors
    /// Why it would have none, and what would.
    pub fn check(&self, command: &Command, now: Timestamp) -> Result<(), CommandRefusal> {
        let id = &self.spec.id;
        let refuse = |what: String, help: String| Err(CommandRefusal { what, help });
        if let Phase::Finished { outcome, .. } = self.phase {
            let help = format!("to go back, use: fleetctl rollback {}", self.spec.service);
            return refuse(format!("{id} is over: {outcome}"), help);
        }
        match command {
            Command::Pause => match (self.phase, &self.paused, self.abort) {
                (_, Some(paused), _) => {
                    let what = format!("{id} is paused already, by {}", paused.by);
                    refuse(what, format!("go on with: fleetctl resume {id}"))
                }
                (_, None, Some(_)) => refuse(format!("{id} is being aborted"), format!("wait: fleetctl wait {id}")),
                (Phase::Verifying { .. } | Phase::Stopped, None, None) => {
                    let what = format!("{id} changes nothing any more: it only verifies what every node runs");
                    refuse(what, format!("wait: fleetctl wait {id}"))
                }
                (
                    Phase::Planned
                    | Phase::Rolling { .. }
                    | Phase::Baking { .. }
                    | Phase::Between { .. }
                    | Phase::Gating { .. }
                    | Phase::Migrating { .. }
                    | Phase::TurningBack { .. }
                    | Phase::RollingBack { .. }
                    | Phase::Finished { .. },
                    None,
                    None,
                ) => Ok(()),
            },
            Command::Resume => match (&self.paused, &self.halted) {
                (Some(_), _) => Ok(()),
                (None, Some(halted)) => {
                    let what = format!("{id} was not paused by a person: {}", halted.halt);
                    refuse(what, format!("go on with: fleetctl promote {id}, or: fleetctl abort {id}"))
                }
                (None, None) => refuse(format!("{id} is not paused"), format!("see: fleetctl status {id}")),
            },
            Command::Promote { again } => match (self.halted.as_ref().map(|halted| &halted.halt), again) {
                (None, _) => {
                    let help = match self.paused {
                        Some(_) => format!("it is paused: fleetctl resume {id}"),
                        None => format!("see what it waits for: fleetctl status {id}"),
                    };
                    refuse(format!("{id} does not wait to be promoted"), help)
                }
                (Some(Halt::Failure { cause: Cause::CapacityLost { .. } }), Again::Skip)
                    if let Some(shortage) = self.nodes.capacity(self.spec.floor).must_stop() =>
                {
                    let what = format!("{shortage}; nobody's promotion takes a node out below the floor");
                    let help = format!("end it with: fleetctl abort {id}, and deploy again with a lower --min-healthy");
                    refuse(what, help)
                }
                (Some(_), Again::Skip) | (Some(Halt::Inconclusive { .. } | Halt::Interrupted { .. }), Again::Retry) => {
                    Ok(())
                }
                (Some(Halt::Failure { cause }), Again::Retry) if self.failing.as_ref() == Some(cause) => Ok(()),
                (Some(halt @ (Halt::PauseAfter { .. } | Halt::Failure { .. })), Again::Retry) => {
                    let what = format!("there is nothing to try again: {halt}");
                    refuse(what, format!("go on with: fleetctl promote {id}"))
                }
            },
            Command::Abort { mode } => match (self.abort, mode) {
                (None, _) | (Some(AbortMode::RollBack), AbortMode::Leave) => Ok(()),
                (Some(_), _) => refuse(format!("{id} is being aborted already"), format!("wait: fleetctl wait {id}")),
            },
            Command::Supersede { deployment } if deployment == id => {
                refuse(format!("{id} cannot take its own place"), "name another deployment".into())
            }
            Command::Supersede { .. } => Ok(()),
            Command::Waive { node, waiver } => {
                if self.nodes.get(node).is_none() {
                    let what = format!("'{node}' takes no part in {id}");
                    return refuse(what, format!("see who does: fleetctl status {id}"));
                }
                if !waiver.is_valid(now) {
                    return refuse("the waiver is over before it begins".into(), "give it a later end".into());
                }
                Ok(())
            }
        }
    }
}
