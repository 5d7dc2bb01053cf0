//! What can be seen of a story while it is played: by the deployment, and in truth.

use fleet::deployment::{Deployment, NodeState};
use fleet::outcome::exit;
use fleet::release::Version;
use fleet::{NodeName, Outcome};

use super::play::{Controller, Play};

impl Play<'_> {
    fn deployment(&self) -> Option<&Deployment> {
        match &self.controller {
            Controller::Drives(deployment) | Controller::Dead { left: deployment, .. } => Some(deployment),
            Controller::Refused(_) => None,
        }
    }

    /// How it ended, if it has.
    pub(super) fn outcome(&self) -> Option<Outcome> {
        self.deployment().and_then(Deployment::outcome)
    }

    /// The exit code `fleetctl deploy` would end with, if it would end.
    pub(super) fn exit(&self) -> Option<u8> {
        self.outcome().map(Outcome::exit_code).or_else(|| self.refusal().map(|_| exit::FAILED))
    }

    /// Why it was not started, if it was not.
    pub(super) fn refusal(&self) -> Option<&str> {
        match &self.controller {
            Controller::Refused(why) => Some(why),
            Controller::Drives(_) | Controller::Dead { .. } => None,
        }
    }

    /// What a node really runs, in words, and as a version if that can be said; a node that was taken out is gone.
    pub(super) fn runs(&self, node: &NodeName) -> (String, Option<Option<Version>>) {
        match self.machines.iter().find(|(name, _)| name == node) {
            Some((_, machine)) => machine.truth(&self.releases),
            None => ("is not in the fleet".into(), None),
        }
    }

    /// What the deployment thinks of a node.
    pub(super) fn state(&self, node: &NodeName) -> Option<&NodeState> {
        self.deployment().and_then(|deployment| deployment.nodes().get(node))
    }

    /// What it waits for now.
    pub(super) fn waits_now(&self) -> Option<String> {
        match &self.controller {
            Controller::Drives(deployment) => deployment.waiting_on(self.now).map(|on| on.to_string()),
            Controller::Dead { .. } | Controller::Refused(_) => None,
        }
    }
}
