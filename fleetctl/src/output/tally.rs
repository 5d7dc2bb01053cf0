//! Counting the nodes of a deployment: who takes part, who holds what, how far a segment is. Nothing is judged here;
//! the controller has judged.

use std::collections::BTreeMap;

use fleet::Outcome;
use fleet_proto::v1;

/// How it ended, if it has and this program knows the word.
pub fn outcome(deployment: &v1::Deployment) -> Option<Outcome> {
    let known = [
        Outcome::Converged,
        Outcome::ConvergedWithWaivers,
        Outcome::RolledBack,
        Outcome::Unproven,
        Outcome::Aborted,
        Outcome::Superseded,
    ];
    known.into_iter().find(|o| o.as_str() == deployment.outcome)
}

/// Every expected node, each once: those of the segments in order, then the absent, then who joined. Who was
/// decommissioned is expected no longer.
pub fn expected(deployment: &v1::Deployment) -> Vec<&v1::DeploymentNode> {
    everyone(deployment).into_iter().filter(|node| standing(node) != Standing::Gone).collect()
}

/// Every node that takes or took part, each once.
pub fn everyone(deployment: &v1::Deployment) -> Vec<&v1::DeploymentNode> {
    let mut seen = std::collections::BTreeSet::new();
    deployment
        .segments
        .iter()
        .flat_map(|s| &s.nodes)
        .chain(&deployment.absent)
        .chain(&deployment.joined)
        .filter(|n| seen.insert(n.node.as_str()))
        .collect()
}

/// How many nodes were last proven to hold each version; "nothing" where none was ever proven to.
pub fn versions(deployment: &v1::Deployment) -> BTreeMap<&str, Vec<&str>> {
    let mut versions: BTreeMap<&str, Vec<&str>> = BTreeMap::new();
    for node in expected(deployment) {
        let holds = if node.holds.is_empty() { "nothing" } else { node.holds.as_str() };
        versions.entry(holds).or_default().push(node.node.as_str());
    }
    versions
}

/// The segment of a node, from 0.
pub fn segment_of(deployment: &v1::Deployment, node: &str) -> Option<usize> {
    deployment.segments.iter().position(|s| s.nodes.iter().any(|n| n.node == node))
}

/// The version the deployment goes to.
pub fn version(deployment: &v1::Deployment) -> &str {
    deployment.release.as_ref().map_or("nothing", |r| r.version.as_str())
}

/// `2.3.0 → 2.3.1`, or only the new version where there was none before.
pub fn change(deployment: &v1::Deployment, arrow: &str) -> String {
    match (deployment.previous_version.as_str(), version(deployment)) {
        ("", to) => to.to_owned(),
        (from, to) => format!("{from}{arrow}{to}"),
    }
}

/// Where a node stands on its way.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Standing {
    /// Nothing has been asked of it.
    Waiting,
    /// It works, forwards or back.
    AtWork,
    /// It is proven, forwards or back.
    Done,
    /// It failed.
    Failed,
    /// It left the fleet for good, and is expected no longer.
    Gone,
}

/// Reads a node's state as the wire words it; a word of a newer controller counts as work, never as done.
pub fn standing(node: &v1::DeploymentNode) -> Standing {
    match node.state.as_str() {
        "pending" | "" => Standing::Waiting,
        "proven" | "restored" | "verified" => Standing::Done,
        "decommissioned" => Standing::Gone,
        "failed" | "not-restored" | "unverified" => Standing::Failed,
        _ => Standing::AtWork,
    }
}

/// How many nodes of a segment are expected.
pub fn size(segment: &v1::DeploymentSegment) -> usize {
    segment.nodes.iter().filter(|n| standing(n) != Standing::Gone).count()
}

/// How many nodes of a segment have this standing.
pub fn count(segment: &v1::DeploymentSegment, wanted: Standing) -> usize {
    segment.nodes.iter().filter(|n| standing(n) == wanted).count()
}
