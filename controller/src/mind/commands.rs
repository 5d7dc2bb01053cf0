//! What people want of a running deployment: abort, pause, resume, promote, waive, an answer to a gate. What a command
//! does in which state is `fleet::deployment`'s; here a refusal becomes an answer.

use fleet::deployment::{AbortMode, Again, Asking, Command, Event, Host, Phase, Source, Verdict};
use fleet::{DeploymentId, NodeName, Timestamp};
use fleet_proto::{convert, v1};
use tokio::sync::oneshot;

use super::ask::{Refusal, find_by_prefix};
use super::request::{waived_until, waiver};
use super::state::State;
use crate::gate_test::GateTest;
use crate::records::QueueEnd;

impl State {
    /// Ends a running deployment, or one that waits for its turn.
    pub(super) fn abort(
        &mut self,
        by: &str,
        request: &v1::AbortRequest,
        now: Timestamp,
    ) -> Result<DeploymentId, Refusal> {
        let id = self.find_deployment(&request.deployment)?;
        match self.queue.get(&id).map(|queued| queued.ended.is_some()) {
            Some(true) => return Err(Refusal::precheck(format!("{id} is over: it never began"), "deploy again")),
            Some(false) => {
                self.end_queued(&id, QueueEnd::Aborted { at: now, by: by.to_owned() });
                return Ok(id);
            }
            None => {}
        }
        let mode = if request.leave { AbortMode::Leave } else { AbortMode::RollBack };
        let again = self.deployments[&id].deployment.outcome().is_none()
            && self.deployments[&id].deployment.check(&Command::Abort { mode }, now).is_err();
        // Asking twice for the same is no mistake.
        if again { Ok(id) } else { self.command(by, id, Command::Abort { mode }, now) }
    }

    /// Does what an operator says to a running deployment.
    pub(super) fn tell(&mut self, by: &str, request: v1::TellRequest, now: Timestamp) -> Result<DeploymentId, Refusal> {
        use v1::tell_request::Command as C;
        let id = self.find_deployment(&request.deployment)?;
        let help = "use a fleetctl of this controller's version";
        let command = match request.command.ok_or_else(|| Refusal::input("nothing is said", help))? {
            C::Pause(v1::Nothing {}) => Command::Pause,
            C::Resume(v1::Nothing {}) => Command::Resume,
            C::Promote(promote) => Command::Promote { again: if promote.retry { Again::Retry } else { Again::Skip } },
            C::Waive(wish) => {
                let node: NodeName = convert::parse("waive", &wish.node)
                    .map_err(|e| Refusal::input(e.to_string(), "see: fleetctl status"))?;
                let reason = wish.reason.trim();
                if reason.is_empty() {
                    return Err(Refusal::input(
                        format!("the waiver for {node} has no reason"),
                        "say why: --reason TEXT",
                    ));
                }
                Command::Waive { node, waiver: waiver(by, reason, waived_until(request.waive_for_ms, now)) }
            }
        };
        if self.queue.contains_key(&id) {
            return Err(Refusal::precheck(format!("{id} has not begun"), format!("wait: fleetctl wait {id}")));
        }
        self.command(by, id, command, now)
    }

    fn command(
        &mut self,
        by: &str,
        id: DeploymentId,
        command: Command,
        now: Timestamp,
    ) -> Result<DeploymentId, Refusal> {
        let Some(journaled) = self.deployments.get(&id) else { return Err(Refusal::stopping()) };
        journaled.deployment.check(&command, now).map_err(|refusal| Refusal::precheck(refusal.what, refusal.help))?;
        self.deployment_event(&id, &Event::Told { by: by.to_owned(), command }, now);
        Ok(id)
    }

    /// An operator's answer to a gate.
    pub(super) fn answer_gate(
        &mut self,
        by: &str,
        name: &str,
        asking: Asking,
        verdict: Verdict,
        now: Timestamp,
    ) -> Result<DeploymentId, Refusal> {
        let id = self.find_deployment(name)?;
        let asked = self.deployments.get(&id).map(|journaled| journaled.deployment.phase());
        match asked {
            Some(Phase::Gating { asking: asked, .. }) if asked == asking => {
                tracing::info!(deployment = %id, by, segment = asking.segment + 1, ?verdict, "a gate is answered");
                self.deployment_event(&id, &Event::GateAnswered { asking, verdict }, now);
                Ok(id)
            }
            Some(_) | None => {
                let what = format!("{id} does not ask that any more: an answer came first, or time ran out");
                Err(Refusal::precheck(what, format!("see what it waits for: fleetctl status {id}")))
            }
        }
    }

    /// Has a gate's test run here, if it is to run here. After a restart it is run again: a test changes nothing.
    pub(super) fn ask_gate(&mut self, id: &DeploymentId, now: Timestamp) {
        let Some(journaled) = self.deployments.get(id) else { return };
        let deployment = &journaled.deployment;
        let spec = deployment.spec();
        let Phase::Gating { asking, .. } = deployment.phase() else { return };
        let Some(gate) = spec.gates.get(asking.gate) else { return };
        let Source::Test { command, from: Host::Controller } = &gate.source else { return };
        if !self.runs_tests {
            // It was allowed when this was planned. What is configured now decides.
            let detail = "tests may not run on the controller's host any more (controller.toml: run_tests)".to_owned();
            let event = Event::GateAnswered { asking, verdict: Verdict::Inconclusive { detail } };
            return self.deployment_event(id, &event, now);
        }
        let nodes = spec.segments.get(asking.segment).into_iter().flatten();
        let release = spec.target.release().map(ToString::to_string).unwrap_or_default();
        let environment = vec![
            ("FLEET_DEPLOYMENT", id.to_string()),
            ("FLEET_SERVICE", spec.service.to_string()),
            ("FLEET_VERSION", spec.version.to_string()),
            ("FLEET_RELEASE", release),
            ("FLEET_SEGMENT", (asking.segment + 1).to_string()),
            ("FLEET_SEGMENTS", spec.segments.len().to_string()),
            ("FLEET_SEGMENT_NODES", nodes.map(NodeName::as_str).collect::<Vec<_>>().join(" ")),
        ];
        let (deployment, command, deadline) = (id.clone(), command.clone(), gate.deadline);
        let Some(inbox) = self.inbox.clone() else { return };
        let (asks, asked) = oneshot::channel();
        self.asks.insert(id.clone(), asks);
        self.run_test(GateTest { inbox, deployment, asking, command, environment, deadline, asked });
    }

    /// A deployment, running, over or queued, by its id or a unique prefix.
    pub(super) fn find_deployment(&self, name: &str) -> Result<DeploymentId, Refusal> {
        find_by_prefix(self.deployments.keys().chain(self.queue.keys()), name)
    }
}
