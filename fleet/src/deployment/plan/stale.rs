//! Whether a plan can still be carried out exactly as it was shown. A plan that is not is refused, never bent to the
//! fleet: what was agreed to is what is done.

use std::collections::BTreeMap;

use crate::NodeName;
use crate::deployment::plan::{Candidate, Plan, Presence};

impl Plan {
    /// What has changed in a way that matters since this plan was made, by a plan made just now of the same request;
    /// nothing if it can be carried out. Ages, and labels that have no part in it, do not matter.
    pub fn differences(&self, fresh: &Plan) -> Vec<String> {
        let mut differences = Vec::new();
        if self.parent != fresh.parent {
            let name = |id: &Option<crate::DeploymentId>| id.as_ref().map_or("none".to_owned(), ToString::to_string);
            differences.push(format!(
                "the newest deployment was {} and is now {}",
                name(&self.parent),
                name(&fresh.parent)
            ));
        }
        let (then, now) = (self.places(), fresh.places());
        for (node, (place, candidate)) in &then {
            let Some((place_now, candidate_now)) = now.get(node) else {
                differences.push(format!("{node} is expected no longer"));
                continue;
            };
            match (&candidate.presence, &candidate_now.presence) {
                (Presence::Present, Presence::Absent(why)) => {
                    differences.push(format!("{node} has gone: {why}"));
                    continue;
                }
                (Presence::Absent(_), Presence::Present) => {
                    differences.push(format!("{node} has come back"));
                    continue;
                }
                (Presence::Present, Presence::Present) | (Presence::Absent(_), Presence::Absent(_)) => {}
            }
            if candidate.holds.hold != candidate_now.holds.hold {
                differences.push(format!("{node} holds something else"));
            }
            if candidate.serves() != candidate_now.serves() {
                let word = if candidate_now.serves() { "serves again" } else { "does not serve any more" };
                differences.push(format!("{node} {word}"));
            } else if place != place_now {
                differences.push(format!("{node} would be in another segment"));
            }
        }
        differences.extend(now.keys().filter(|node| !then.contains_key(*node)).map(|node| format!("{node} is new")));
        for block in fresh.blocks.iter().filter(|block| !self.blocks.contains(block)) {
            differences.push(match &block.node {
                Some(node) => format!("{node}: {}", block.why),
                None => block.why.clone(),
            });
        }
        differences
    }

    /// The segment of every node, and the node; the absent are in none.
    fn places(&self) -> BTreeMap<&NodeName, (Option<usize>, &Candidate)> {
        let segments = self.segments.iter().enumerate();
        let placed = segments.flat_map(|(segment, nodes)| nodes.iter().map(move |node| (Some(segment), node)));
        let absent = self.absent.iter().map(|node| (None, node));
        placed.chain(absent).map(|(segment, node)| (&node.node, (segment, node))).collect()
    }
}
