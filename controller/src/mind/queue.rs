//! The queue: deployments that were asked for while another of their service ran. Each has its id from the beginning,
//! is planned when its turn comes, and is remembered for a while when it is refused then, so that whoever waits for it
//! is told.

use std::collections::BTreeSet;

use fleet::deployment::plan::Plan;
use fleet::deployment::{Deployment, Kind};
use fleet::outcome::exit;
use fleet::{DeploymentId, Millis, NodeName, Timestamp};
use fleet_proto::v1;
use prost::Message as _;

use super::ask::Refusal;
use super::beginning::{not_blocked, said_anew};
use super::state::{Journaled, State};
use crate::records::{Change, QueueEnd, Queued};

/// The most deployments that wait at once: nobody plans further ahead.
const MOST_WAITING: usize = 100;
/// So many that ended without having begun are remembered.
const MOST_ENDED: usize = 100;

impl State {
    /// Puts a request into the queue.
    pub(super) fn queue_up(
        &mut self,
        actor: &str,
        request: &v1::DeploymentRequest,
        kind: Kind,
        plan: &Plan,
        now: Timestamp,
    ) -> Result<DeploymentId, Refusal> {
        if self.queue.values().filter(|queued| queued.ended.is_none()).count() >= MOST_WAITING {
            return Err(Refusal::busy(format!("{MOST_WAITING} deployments wait already"), "wait for some to begin"));
        }
        let Some(release) = plan.request.target.release().cloned() else { return Err(Refusal::stopping()) };
        let id = self.new_id()?;
        let queued = Queued {
            id: id.clone(),
            service: plan.request.service.clone(),
            release,
            environment: plan.request.environment.clone(),
            actor: actor.to_owned(),
            at: now,
            kind,
            request: hex(&request.encode_to_vec()),
            ended: None,
        };
        tracing::info!(deployment = %id, actor, service = %queued.service, "queued");
        self.save(Change::Queued(queued.clone()));
        self.queue.insert(id.clone(), queued);
        Ok(id)
    }

    /// Begins what waits and has nothing in its way any more, oldest first. Right after a start of the controller nothing
    /// begins until the agents are back: it would be planned without them.
    pub(super) fn start_queued(&mut self, now: Timestamp) {
        if self.queue.values().all(|queued| queued.ended.is_some()) || self.settling(now) > Millis(0) {
            return;
        }
        let mut waiting: Vec<Queued> = self.queue.values().filter(|queued| queued.ended.is_none()).cloned().collect();
        waiting.sort_by_key(|queued| (queued.at, queued.id.clone()));
        let mut blocked = BTreeSet::new();
        for queued in waiting {
            // One that waits is not overtaken by a later one of its service.
            if !blocked.contains(&queued.service) && !self.start_one(&queued, now) {
                blocked.insert(queued.service);
            }
        }
    }

    /// Whether its waiting is over, one way or the other. Planning looks at every node, and this is asked at every turn
    /// of the mind: what is in the way for certain is seen before.
    fn start_one(&mut self, queued: &Queued, now: Timestamp) -> bool {
        if self.ahead_of(queued).is_some() || self.locked_by_another(&queued.service, &queued.actor, now).is_some() {
            return false;
        }
        let plan = self.plan_queued(queued, now);
        let begun = match plan {
            Ok(plan) if self.in_the_way(&plan, &queued.actor, now).is_some() => return false,
            Ok(plan) => not_blocked(&plan).and_then(|()| self.begin(self.spec(&plan, &queued.id, &queued.actor), now)),
            // It is refused when its turn comes, and not because nobody is in contact while it waits.
            Err(_) if self.running_of(queued).next().is_some() => return false,
            Err(refusal) => Err(refusal),
        };
        match begun {
            Ok(()) => {
                self.queue.remove(&queued.id);
                self.save(Change::ForgetQueued(queued.id.clone()));
            }
            Err(refusal) => {
                tracing::warn!(deployment = %queued.id, reason = refusal.what, "a queued deployment is refused");
                self.end_queued(&queued.id, QueueEnd::Refused { at: now, why: refusal.what, exit: refusal.exit });
            }
        }
        true
    }

    /// A running deployment that it waits for without a doubt: of the same service, and in its environment or on a node
    /// of its limit.
    fn ahead_of(&self, queued: &Queued) -> Option<&DeploymentId> {
        let mut running = self.running_of(queued).peekable();
        running.peek()?;
        let limit = read(queued).map(|request| request.limit).unwrap_or_default();
        let limit: Vec<NodeName> = limit.iter().filter_map(|node| node.parse().ok()).collect();
        let ahead = |deployment: &Deployment| {
            deployment.spec().environment == queued.environment
                || limit.iter().any(|node| deployment.nodes().contains(node))
        };
        running.find(|(_, journaled)| ahead(&journaled.deployment)).map(|(id, _)| id)
    }

    /// The running deployments of its service.
    fn running_of(&self, queued: &Queued) -> impl Iterator<Item = (&DeploymentId, &Journaled)> {
        self.running().filter(|(_, journaled)| journaled.deployment.spec().service == queued.service)
    }

    fn plan_queued(&self, queued: &Queued, now: Timestamp) -> Result<Plan, Refusal> {
        let request = read(queued)
            .ok_or_else(|| Refusal::precheck("what was asked for cannot be read any more", "ask for it again"))?;
        match request.plan.as_str() {
            "" => self.plan(&queued.actor, &request, queued.kind, now),
            kept => Ok(said_anew(self.plan_as_kept(kept, now)?, &request.message)),
        }
    }

    /// Notes that a queued deployment will not begin.
    pub(super) fn end_queued(&mut self, id: &DeploymentId, end: QueueEnd) {
        let Some(queued) = self.queue.get_mut(id) else { return };
        queued.ended = Some(end);
        let queued = queued.clone();
        self.save(Change::Queued(queued));
        let mut ended: Vec<_> = self.queue.values().filter(|queued| queued.ended.is_some()).collect();
        if ended.len() > MOST_ENDED {
            ended.sort_by_key(|queued| (queued.at, queued.id.clone()));
            let oldest = ended[0].id.clone();
            self.queue.remove(&oldest);
            self.save(Change::ForgetQueued(oldest));
        }
    }

    /// A queued deployment in the message that running ones have.
    pub(super) fn show_queued(&self, queued: &Queued, now: Timestamp) -> v1::Deployment {
        let (outcome, exit_code, finished_at, cause) = match &queued.ended {
            None => (String::new(), 0, None, String::new()),
            Some(QueueEnd::Refused { at, why, exit }) => ("refused".into(), *exit, Some(at.0), why.clone()),
            Some(QueueEnd::Aborted { at, by }) => {
                ("aborted".into(), exit::ABORTED, Some(at.0), format!("aborted by {by}"))
            }
        };
        let waiting_on = match &queued.ended {
            Some(_) => String::new(),
            None => match self.ahead_of(queued).or_else(|| self.running_of(queued).map(|(id, _)| id).next()) {
                Some(running) => format!("{running} to end"),
                None => self
                    .locked_by_another(&queued.service, &queued.actor, now)
                    .map_or_else(|| "its turn".into(), |locked| locked.what),
            },
        };
        let phase = if queued.ended.is_some() { "finished" } else { "queued" };
        v1::Deployment {
            id: queued.id.to_string(),
            service: queued.service.to_string(),
            environment: queued.environment.clone(),
            release: Some(self.release_view(&queued.release)),
            phase: phase.into(),
            outcome,
            exit_code: exit_code.into(),
            started_at_ms: queued.at.0,
            finished_at_ms: finished_at,
            started_by: queued.actor.clone(),
            waiting_on,
            cause,
            kind: queued.kind.as_str().into(),
            ..v1::Deployment::default()
        }
    }
}

fn read(queued: &Queued) -> Option<v1::DeploymentRequest> {
    v1::DeploymentRequest::decode(unhex(&queued.request)?.as_slice()).ok()
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

fn unhex(text: &str) -> Option<Vec<u8>> {
    if !text.is_ascii() || !text.len().is_multiple_of(2) {
        return None;
    }
    (0..text.len()).step_by(2).map(|at| u8::from_str_radix(&text[at..at + 2], 16).ok()).collect()
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn a_request_survives_being_kept() {
        let request = v1::DeploymentRequest { release: "r-1".into(), bake_ms: 300, ..Default::default() };
        let kept = hex(&request.encode_to_vec());
        assert_eq!(v1::DeploymentRequest::decode(unhex(&kept).unwrap().as_slice()).unwrap(), request);
        for bad in ["0", "zz", "ä"] {
            assert_eq!(unhex(bad), None, "{bad}");
        }
    }
}
