//! Planning: which nodes take part, in which order and segments, and what would forbid it. A pure function of
//! what was asked and what is known; the result explains itself and is what `fleetctl plan` shows.

use std::collections::BTreeMap;

use crate::deployment::{Budget, Kind, OnFailure, Previous, Spec};
use crate::release::Version;
use crate::segments::Segments;
use crate::{DeploymentId, Generation, Hold, Millis, NodeName, ServiceName};

/// What was asked for.
#[derive(Debug, Clone)]
pub struct Request {
    /// The service.
    pub service: ServiceName,
    /// Where.
    pub environment: String,
    /// Forwards or back.
    pub kind: Kind,
    /// What every node shall hold.
    pub target: Hold,
    /// Its version.
    pub version: Version,
    /// How to cut the fleet.
    pub segments: Segments,
    /// How many may fail.
    pub max_failures: Budget,
    /// How long a segment bakes.
    pub bake: Millis,
    /// How long a node may take.
    pub node_deadline: Millis,
    /// How long an absent node is waited for.
    pub absent_grace: Millis,
    /// What happens on failure.
    pub on_failure: OnFailure,
    /// Who asks.
    pub actor: String,
    /// Why.
    pub message: String,
}

/// How long a claim may contradict what is seen: several rounds of observation, well below the ten seconds
/// within which a finding must be named.
pub const SETTLE: Millis = Millis::from_secs(6);

/// The order that [`plan`] puts nodes in, in words.
pub const ORDER_IN_WORDS: &str = "by name, numbers by value (n2 before n10); the same every time";

/// An expected node, as it is known when planning.
#[derive(Debug, Clone)]
pub struct Candidate {
    /// Its name.
    pub node: NodeName,
    /// Whether it can be ordered.
    pub presence: Presence,
    /// What it shall hold now.
    pub holds: Previous,
}

/// Whether a node can be ordered.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Presence {
    /// Its agent is in contact.
    Present,
    /// It is expected, and not there: why.
    Absent(String),
}

/// A plan: what would be done, and what is noticed on the way.
#[derive(Debug, Clone)]
pub struct Plan {
    /// Nodes by segment.
    pub segments: Vec<Vec<Candidate>>,
    /// Expected, and not there.
    pub absent: Vec<Candidate>,
    /// How many nodes do not hold the target yet.
    pub to_change: usize,
    /// What a person should know before they start it.
    pub warnings: Vec<String>,
}

/// Why a deployment was refused before anything was done.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Refusal {
    /// No node at all.
    #[error(
        "no node is expected for {service}: enrol nodes (fleetctl tokens create), or check the release's `nodes:` against their labels (fleetctl nodes list)"
    )]
    NoNodes {
        /// The service.
        service: ServiceName,
    },
    /// Nobody there.
    #[error("none of the {expected} expected nodes is in contact: look at their agents (fleetctl nodes list)")]
    NobodyPresent {
        /// How many are expected.
        expected: usize,
    },
}

/// Makes a plan.
///
/// # Errors
/// When nothing could be done at all.
pub fn plan(request: &Request, candidates: Vec<Candidate>) -> Result<Plan, Refusal> {
    if candidates.is_empty() {
        return Err(Refusal::NoNodes { service: request.service.clone() });
    }
    let expected = candidates.len();
    let (mut present, mut absent): (Vec<_>, Vec<_>) =
        candidates.into_iter().partition(|candidate| candidate.presence == Presence::Present);
    if present.is_empty() {
        return Err(Refusal::NobodyPresent { expected });
    }
    present.sort_by_cached_key(|candidate| natural(candidate.node.as_str()));
    absent.sort_by_cached_key(|candidate| natural(candidate.node.as_str()));
    let to_change = present.iter().chain(&absent).filter(|candidate| candidate.holds.hold != request.target).count();
    let mut warnings: Vec<String> = absent.iter().map(absence_warning).collect();
    if to_change == 0 {
        warnings.push(format!(
            "every node is to hold {} already: they will be proven again, nothing is restarted",
            request.version
        ));
    }
    let mut rest = present.into_iter();
    let segments =
        request.segments.cut(rest.len()).into_iter().map(|size| rest.by_ref().take(size).collect()).collect();
    Ok(Plan { segments, absent, to_change, warnings })
}

fn absence_warning(candidate: &Candidate) -> String {
    let why = match &candidate.presence {
        Presence::Absent(why) => why.as_str(),
        Presence::Present => "present",
    };
    format!(
        "{}: {why}. It is ordered last and waited for; without it the outcome is unproven (exit 4), never converged",
        candidate.node
    )
}

impl Plan {
    /// The spec of the deployment that carries this plan out. `generation` and the next number are used up.
    pub fn into_spec(self, request: Request, id: DeploymentId, generation: Generation) -> Spec {
        let names =
            |candidates: &[Candidate]| candidates.iter().map(|candidate| candidate.node.clone()).collect::<Vec<_>>();
        let previous: BTreeMap<NodeName, Previous> = self
            .segments
            .iter()
            .flatten()
            .chain(&self.absent)
            .map(|candidate| (candidate.node.clone(), candidate.holds.clone()))
            .collect();
        Spec {
            id,
            service: request.service,
            environment: request.environment,
            kind: request.kind,
            target: request.target,
            version: request.version,
            segments: self.segments.iter().map(|segment| names(segment)).collect(),
            absent: names(&self.absent),
            previous,
            generation,
            rollback_generation: Generation(generation.0 + 1),
            max_failures: request.max_failures,
            bake: request.bake,
            node_deadline: request.node_deadline,
            settle: SETTLE,
            absent_grace: request.absent_grace,
            on_failure: request.on_failure,
            actor: request.actor,
            message: request.message,
        }
    }
}

/// A sorting key in which runs of digits count by value; the text itself breaks ties (`n1` and `n01`).
fn natural(name: &str) -> (Vec<(String, u64)>, String) {
    let mut parts = Vec::new();
    let mut rest = name;
    while !rest.is_empty() {
        let text = rest.len() - rest.trim_start_matches(|c: char| !c.is_ascii_digit()).len();
        let (word, tail) = rest.split_at(text);
        let digits = tail.len() - tail.trim_start_matches(|c: char| c.is_ascii_digit()).len();
        let (number, tail) = tail.split_at(digits);
        parts.push((word.to_owned(), number.parse().unwrap_or(u64::MAX)));
        rest = tail;
    }
    (parts, name.to_owned())
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use crate::Digest;

    fn request(segments: &str) -> Request {
        Request {
            service: "web".parse().unwrap(),
            environment: "prod".into(),
            kind: Kind::Rollout,
            target: Hold::Release { release: "r-bbbbbbbbbbbb".parse().unwrap(), bundle: Digest([2; 32]), size: 1 },
            version: "2.0.0".parse().unwrap(),
            segments: segments.parse().unwrap(),
            max_failures: Budget::Nodes(0),
            bake: Millis(0),
            node_deadline: Millis(1),
            absent_grace: Millis(1),
            on_failure: OnFailure::Rollback,
            actor: "a".into(),
            message: String::new(),
        }
    }
    fn candidate(node: &str, presence: Presence) -> Candidate {
        Candidate { node: node.parse().unwrap(), presence, holds: Previous { hold: Hold::Nothing, version: None } }
    }
    fn names(candidates: &[Candidate]) -> Vec<&str> {
        candidates.iter().map(|c| c.node.as_str()).collect()
    }

    #[test]
    fn the_order_is_stable_and_numbers_count_by_value() {
        let nodes = ["n10", "n2", "n1", "web-9.b", "web-10.a", "n01"].map(|n| candidate(n, Presence::Present));
        let mut reversed = nodes.to_vec();
        reversed.reverse();
        for nodes in [nodes.to_vec(), reversed] {
            let plan = plan(&request("1"), nodes).unwrap();
            assert_eq!(names(&plan.segments[0]), ["n01", "n1", "n2", "n10", "web-9.b", "web-10.a"]);
        }
    }

    #[test]
    fn absent_nodes_are_in_no_segment_and_are_named() {
        let nodes = vec![
            candidate("n1", Presence::Present),
            candidate("n2", Presence::Absent("unreachable for 12m".into())),
            candidate("n3", Presence::Present),
        ];
        let plan = plan(&request("4"), nodes).unwrap();
        assert_eq!(plan.segments.iter().map(|s| names(s)).collect::<Vec<_>>(), [["n1"], ["n3"]]);
        assert_eq!(names(&plan.absent), ["n2"]);
        assert!(plan.warnings.iter().any(|w| w.starts_with("n2: unreachable for 12m")));
        let spec = plan.into_spec(request("4"), "d-x".parse().unwrap(), Generation(4));
        assert_eq!(spec.size(), 3);
        assert!(spec.rollback_generation > spec.generation);
    }

    #[test]
    fn nothing_to_do_is_refused_with_the_way_out() {
        assert!(matches!(plan(&request("1"), vec![]), Err(Refusal::NoNodes { .. })));
        assert!(matches!(
            plan(&request("1"), vec![candidate("n1", Presence::Absent("x".into()))]),
            Err(Refusal::NobodyPresent { expected: 1 })
        ));
    }
}
