//! What operators are shown of plans.

use fleet::deployment::plan::{Block, Candidate, Plan, Presence};
use fleet::deployment::{Kind, Place};
use fleet::{Hold, NodeName, Timestamp};
use fleet_proto::v1;

use super::ask::Refusal;
use super::state::State;

impl State {
    /// What a deployment would do, for people; kept under its id if that was asked for.
    pub(super) fn plan_deployment(
        &mut self,
        actor: &str,
        request: &v1::DeploymentRequest,
        kind: Kind,
        now: Timestamp,
    ) -> Result<v1::Plan, Refusal> {
        if !request.plan.is_empty() {
            let mut view = self.show_plan(self.find_plan(&request.plan)?, now);
            // What can be carried out no longer must not look as if it could.
            if let (true, Err(stale)) = (view.refused.is_empty(), self.plan_as_kept(&request.plan, now)) {
                view.refused = stale.what;
            }
            return Ok(view);
        }
        let plan = self.plan(actor, request, kind, now)?;
        let mut view = self.show_plan(&plan, now);
        if request.keep_plan {
            self.keep_plan(plan)?;
        } else {
            view.id = String::new();
        }
        Ok(view)
    }

    /// A plan in a message.
    pub(super) fn show_plan(&self, plan: &Plan, now: Timestamp) -> v1::Plan {
        let request = &plan.request;
        let node = |candidate: &Candidate| {
            let (from_release, from_version) = match (&candidate.holds.hold, &candidate.holds.version) {
                (Hold::Release { release, .. }, version) => {
                    (release.to_string(), version.as_ref().map(ToString::to_string).unwrap_or_default())
                }
                (Hold::Nothing, _) => (String::new(), String::new()),
            };
            let change = match &candidate.holds.hold {
                hold if *hold == request.target => "same",
                Hold::Nothing => "install",
                Hold::Release { .. } => "change",
            };
            let note = match (&candidate.presence, &candidate.block) {
                (Presence::Absent(why), _) => why.clone(),
                (Presence::Present, Some(block)) if change != "same" => block.clone(),
                (Presence::Present, Some(_) | None) => String::new(),
            };
            v1::PlanNode {
                node: candidate.node.to_string(),
                from_release,
                from_version,
                change: change.into(),
                note,
                condition: candidate.condition.as_str().into(),
            }
        };
        let block = |block: &Block| v1::PlanBlock {
            node: block.node.as_ref().map(NodeName::to_string).unwrap_or_default(),
            why: block.why.clone(),
            help: block.help.clone(),
        };
        let short = |number: usize| u32::try_from(number).unwrap_or(u32::MAX);
        v1::Plan {
            service: request.service.to_string(),
            environment: request.environment.clone(),
            release: request.target.release().map(|id| self.release_view(id)),
            segments: plan
                .segments
                .iter()
                .map(|segment| v1::PlanSegment { nodes: segment.iter().map(node).collect() })
                .collect(),
            absent: plan.absent.iter().map(node).collect(),
            order: request.sequence.in_words(),
            max_failures: request.max_failures.to_string(),
            bake_ms: request.bake.0,
            on_failure: request.on_failure.as_str().into(),
            to_change: short(plan.to_change),
            refused: self.in_the_way(plan, &request.actor, now).map(|refusal| refusal.what).unwrap_or_default(),
            warnings: plan.warnings.clone(),
            id: plan.id.to_string(),
            parent: plan.parent.as_ref().map(ToString::to_string).unwrap_or_default(),
            made_at_ms: plan.made_at.0,
            floor: short(plan.floor),
            serving: short(plan.serving),
            blocks: plan.blocks.iter().map(block).collect(),
            parallel: request.parallel.to_string(),
            min_healthy: request.min_healthy.to_string(),
            gates: request.gates.iter().map(|gate| format!("{}: {}", gate.name, gate.source)).collect(),
            pause_after: request.pause_after.iter().map(|segment| short(segment + 1)).collect(),
            migration: request.migration.as_ref().map(migration_words).unwrap_or_default(),
            waivers: request
                .waivers
                .iter()
                .map(|(node, waiver)| v1::Waiver {
                    node: node.to_string(),
                    reason: waiver.reason.clone(),
                    by: waiver.by.clone(),
                    until_ms: waiver.until.0,
                })
                .collect(),
            confirm_ms: request.confirm.0,
            actor: request.actor.clone(),
        }
    }
}

fn migration_words(migration: &fleet::deployment::Migration) -> String {
    let place = match migration.place {
        Place::Before(segment) => format!("before segment {}", segment + 1),
        Place::After(segment) => format!("after segment {}", segment + 1),
    };
    format!("{}: '{}' once, {place}", migration.name, migration.command)
}
