//! Plans that were kept, so that exactly one of them can be carried out. A plan is immutable; it is refused when the
//! fleet has changed in a way that matters, and it is forgotten when many newer ones were kept.

use fleet::PlanId;
use fleet::Timestamp;
use fleet::deployment::plan::Plan;
use fleet_proto::v1;

use super::ask::Refusal;
use super::state::State;
use crate::records::{self, Change};

/// So many plans are kept: more are made in a day by nobody who still means to carry the oldest out.
const MOST_KEPT: usize = 100;

impl State {
    /// Keeps a plan under its id.
    pub(super) fn keep_plan(&mut self, plan: Plan) -> Result<(), Refusal> {
        let change = Change::Plan(Box::new(plan.clone()));
        if !records::fits(&change) {
            return Err(Refusal::precheck(
                "the plan is larger than the store takes at once",
                "deploy to a part of the nodes at a time: --limit",
            ));
        }
        self.save(change);
        self.plans.insert(plan.id.clone(), plan);
        while self.plans.len() > MOST_KEPT {
            let oldest = self.plans.values().min_by_key(|plan| (plan.made_at, plan.id.clone()));
            let Some(id) = oldest.map(|plan| plan.id.clone()) else { break };
            self.plans.remove(&id);
            self.save(Change::ForgetPlan(id));
        }
        Ok(())
    }

    /// A plan by its id or a unique prefix.
    pub(super) fn find_plan(&self, name: &str) -> Result<&Plan, Refusal> {
        let list = "list them: fleetctl plan --list";
        let begins = |id: &PlanId| {
            id.as_str().starts_with(name) || id.as_str().strip_prefix("p-").is_some_and(|rest| rest.starts_with(name))
        };
        let mut matches = self.plans.values().filter(|plan| !name.is_empty() && begins(&plan.id));
        match (matches.next(), matches.next()) {
            (Some(plan), None) => Ok(plan),
            (Some(_), Some(_)) => {
                Err(Refusal::unknown(format!("more than one plan begins with '{}'", name.escape_default()), list))
            }
            (None, _) => Err(Refusal::unknown(format!("there is no plan '{}'", name.escape_default()), list)),
        }
    }

    /// A kept plan, if it can be carried out exactly as it is.
    pub(super) fn plan_as_kept(&self, name: &str, now: Timestamp) -> Result<Plan, Refusal> {
        const SHOWN: usize = 5;
        let plan = self.find_plan(name)?;
        let again = "make a new one: fleetctl plan --keep";
        let fresh = self.plan_again(plan, now).map_err(|refusal| {
            Refusal::busy(format!("{} can be carried out no longer: {}", plan.id, refusal.what), again)
        })?;
        let differences = plan.differences(&fresh);
        if differences.is_empty() {
            return Ok(plan.clone());
        }
        let mut what = differences.iter().take(SHOWN).cloned().collect::<Vec<_>>().join("; ");
        if differences.len() > SHOWN {
            what.push_str(&format!("; and {} more", differences.len() - SHOWN));
        }
        Err(Refusal::busy(format!("{} is stale: {what}", plan.id), again))
    }

    /// The plans that were kept, newest first; of one service if one is named.
    pub(super) fn list_plans(&self, service: &str, now: Timestamp) -> Vec<v1::Plan> {
        let mut plans: Vec<&Plan> =
            self.plans.values().filter(|plan| service.is_empty() || plan.request.service.as_str() == service).collect();
        plans.sort_by_key(|plan| std::cmp::Reverse((plan.made_at, plan.id.clone())));
        plans.into_iter().map(|plan| self.show_plan(plan, now)).collect()
    }
}
