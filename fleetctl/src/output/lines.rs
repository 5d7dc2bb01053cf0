//! A deployment as lines for logs: one line per fact with its time, as CI systems keep them. The last line carries
//! the outcome and the exit code.

use std::collections::{BTreeMap, BTreeSet};

use fleet::Outcome;
use fleet_proto::v1;

use super::screen::Verbosity;
use super::tally::{self, Standing};
use super::text::{plain, rfc3339_seconds, took};

/// The steps of an agent, by which a reason may begin (`probe: GET … → 503`).
const STEPS: [&str; 12] =
    ["fetch", "verify", "stage", "drain", "stop", "switch", "install", "start", "probe", "validate", "restore", "undo"];

/// Turns updates into lines; remembers only what a line says about more than one fact.
#[derive(Debug)]
pub struct Lines {
    verbosity: Verbosity,
    failed_segment: Option<usize>,
    stop_said: bool,
    rolled_back: BTreeSet<usize>,
    /// The names of the gates that were asked, by their number from 1: facts only number them.
    gates: BTreeMap<u32, String>,
}

impl Lines {
    /// At the beginning of a deployment, or wherever watching begins.
    pub fn new(verbosity: Verbosity) -> Self {
        Self { verbosity, failed_segment: None, stop_said: false, rolled_back: BTreeSet::new(), gates: BTreeMap::new() }
    }

    /// The lines of one update, without line ends. The outcome is not among them: see [`ending`].
    pub fn of(&mut self, deployment: &v1::Deployment, facts: &[v1::Fact]) -> Vec<String> {
        let mut lines = Vec::new();
        if let Some((asking, gate)) = deployment.gate.as_ref().and_then(|g| g.asking.zip(g.gate.as_ref())) {
            self.gates.insert(asking.gate.saturating_add(1), plain(&gate.name));
        }
        for fact in facts {
            if let Some(text) = self.sentence(deployment, fact) {
                lines.push(format!("{} {} {text}", rfc3339_seconds(fact.at_ms), plain(&deployment.id)));
            }
            if fact.kind == "node-restored" || fact.kind == "node-not-restored" {
                lines.extend(self.segment_back(deployment, fact));
            }
        }
        lines
    }

    fn sentence(&mut self, deployment: &v1::Deployment, fact: &v1::Fact) -> Option<String> {
        let all = deployment.segments.len();
        let at = fact.segment.map(|s| s as usize).or_else(|| tally::segment_of(deployment, &fact.node));
        let place = at.map(|s| format!("segment={}/{all} ", s + 1)).unwrap_or_default();
        let nodes = at.and_then(|s| deployment.segments.get(s)).map_or(0, |s| s.nodes.len());
        let node = plain(&fact.node);
        let detail = self.verbosity == Verbosity::Verbose;
        Some(match fact.kind.as_str() {
            "planned" => format!(
                "started {} {} env={} nodes={} segments={all} actor={}{}",
                plain(&deployment.service),
                plain(&tally::change(deployment, "→")),
                if deployment.environment.is_empty() { "default".to_owned() } else { plain(&deployment.environment) },
                tally::expected(deployment).len(),
                plain(&deployment.started_by),
                absent(deployment),
            ),
            "segment-started" => format!("{place}started nodes={nodes}"),
            "node-proven" => format!("{place}node={node} {}", plain(&fact.text)),
            "node-failed" => {
                self.failed_segment = at;
                format!("{place}node={node} {}", failure(&fact.text))
            }
            "segment-proven" if detail || deployment.bake_ms > 0 => {
                format!("{place}proven, baking {}", fleet::Millis(deployment.bake_ms))
            }
            "segment-baked" => {
                let started = at.and_then(|s| deployment.segments.get(s)).and_then(|s| s.started_at_ms);
                let took = started.map(|from| format!(" took={}", took(from, fact.at_ms))).unwrap_or_default();
                format!("{place}ok nodes={nodes}{took}")
            }
            "rollback-started" => {
                self.stop_said = true;
                let place = self.failed_segment.map(|s| format!("segment={}/{all} ", s + 1)).unwrap_or_default();
                format!("{place}stopped: {}", plain(fact.text.trim_start_matches("rolling back: ")))
            }
            "gate-started" | "gate-passed" | "gate-failed" | "gate-inconclusive" => {
                format!("{place}{}", self.gate(&plain(&fact.text), fact.kind == "gate-passed" && !detail))
            }
            "halted" => {
                let id = plain(&deployment.id);
                format!("{place}{} (fleetctl promote {id}, or fleetctl abort {id})", plain(&fact.text))
            }
            "paused" => format!("{} (fleetctl resume {})", plain(&fact.text), plain(&deployment.id)),
            "segment-rollback-started" => format!("rollback {place}started nodes={nodes}"),
            "node-not-restored" => format!("rollback {place}node={node} {}", plain(&fact.text)),
            "node-unverified" => format!("node={node} {}", plain(&fact.text)),
            "verification-started" | "abort-requested" => plain(&fact.text),
            "segment-proven" | "nodes-ordered" | "nodes-turned-back" | "node-baked" | "node-restored"
            | "node-verified"
                if !detail =>
            {
                return None;
            }
            // The outcome has its own line, and it is written once the whole deployment is known.
            "finished" => return None,
            // A fact of a newer controller is shown as it words it.
            _ if fact.node.is_empty() => format!("{place}{}", plain(&fact.text)),
            _ => format!("{place}node={node} {}", plain(&fact.text)),
        })
    }

    /// `gate=test passed: 6 tests`; what a test that passed has printed is left out where `brief`.
    fn gate(&self, text: &str, brief: bool) -> String {
        let read = || {
            let (number, rest) = text.strip_prefix("gate ")?.split_once(' ')?;
            let name = self.gates.get(&number.parse().ok()?)?;
            let rest = if brief { rest.split(':').next().unwrap_or(rest) } else { rest };
            Some(format!("gate={name} {}", rest.trim_end_matches(": ")))
        };
        read().unwrap_or_else(|| text.to_owned())
    }

    /// The line that a whole segment is back, with the fact that completed it.
    fn segment_back(&mut self, deployment: &v1::Deployment, fact: &v1::Fact) -> Option<String> {
        let index = tally::segment_of(deployment, &fact.node)?;
        let segment = deployment.segments.get(index)?;
        let is_over = |n: &v1::DeploymentNode| {
            matches!(
                n.state.as_str(),
                "restored" | "not-restored" | "verified" | "unverified" | "pending" | "decommissioned"
            )
        };
        if !segment.nodes.iter().all(is_over) || !self.rolled_back.insert(index) {
            return None;
        }
        let lost = tally::count(segment, Standing::Failed);
        let word = if lost == 0 { "ok".to_owned() } else { format!("INCOMPLETE not_restored={lost}") };
        let all = deployment.segments.len();
        Some(format!(
            "{} {} rollback segment={}/{all} {word} nodes={}",
            rfc3339_seconds(fact.at_ms),
            plain(&deployment.id),
            index + 1,
            segment.nodes.len()
        ))
    }

    /// The last lines: the reason if it was not said yet, and the outcome with its exit code.
    pub fn ending(&self, deployment: &v1::Deployment) -> Vec<String> {
        let at = rfc3339_seconds(deployment.finished_at_ms.unwrap_or(deployment.started_at_ms));
        let id = plain(&deployment.id);
        let mut lines = Vec::new();
        if !deployment.cause.is_empty() && !self.stop_said {
            lines.push(format!("{at} {id} stopped: {}", plain(&deployment.cause)));
        }
        lines.push(format!("{at} {id} {} exit={}", outcome_sentence(deployment), deployment.exit_code));
        lines
    }
}

fn absent(deployment: &v1::Deployment) -> String {
    let names: Vec<String> = deployment.absent.iter().map(|n| plain(&n.node)).collect();
    if names.is_empty() { String::new() } else { format!(" absent={}", names.join(",")) }
}

fn failure(text: &str) -> String {
    let reason = plain(text.trim_start_matches("FAILED "));
    match reason.split_once(": ") {
        Some((step, rest)) if STEPS.contains(&step) => format!("phase={step} FAILED {rest}"),
        _ => format!("FAILED {reason}"),
    }
}

/// `CONVERGED 8 of 8 nodes on 2.0.0`, and for anything less, who is not proven and why.
pub fn outcome_sentence(deployment: &v1::Deployment) -> String {
    let word = deployment.outcome.to_uppercase().replace('-', "_");
    let total = tally::expected(deployment).len();
    let unproven = unproven(deployment);
    let proven = total.saturating_sub(unproven.len());
    let target = plain(tally::version(deployment));
    let previous = plain(&deployment.previous_version);
    let back = if previous.is_empty() { "back on what they held before".to_owned() } else { format!("on {previous}") };
    let sentence = match tally::outcome(deployment) {
        Some(Outcome::Converged | Outcome::ConvergedWithWaivers) => {
            format!("{word} {proven} of {total} nodes on {target}")
        }
        Some(Outcome::RolledBack) => format!("{word} {proven} of {total} nodes {back}"),
        Some(Outcome::Unproven | Outcome::Aborted | Outcome::Superseded) | None => {
            format!("{word} {}", mixture(deployment))
        }
    };
    if unproven.is_empty() { sentence } else { format!("{sentence}; not proven: {}", unproven.join(", ")) }
}

/// `6 of 8 nodes on 2.3.0 (n3, n4), 2 on 2.3.1 (n1, n2)`: which node was last proven to hold what.
fn mixture(deployment: &v1::Deployment) -> String {
    let total = tally::expected(deployment).len();
    let versions = tally::versions(deployment);
    let mut parts = Vec::new();
    for (index, (version, nodes)) in versions.iter().enumerate() {
        let of = if index == 0 { format!(" of {total} nodes") } else { String::new() };
        // Names only where they tell versions apart.
        let names = if versions.len() > 1 {
            format!(" ({})", nodes.iter().map(|n| plain(n)).collect::<Vec<_>>().join(" "))
        } else {
            String::new()
        };
        parts.push(format!("{}{of} last proven on {}{names}", nodes.len(), plain(version)));
    }
    parts.join(", ")
}

/// Every unproven node with its reason: `n3 (no contact for 12s)`.
pub fn unproven(deployment: &v1::Deployment) -> Vec<String> {
    deployment
        .unproven
        .iter()
        .map(
            |n| if n.detail.is_empty() { plain(&n.node) } else { format!("{} ({})", plain(&n.node), plain(&n.detail)) },
        )
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::output::samples::{fact, finished, gating, halted, node, rolling};

    #[test]
    fn a_rollout_reads_as_in_the_documentation() {
        let mut lines = Lines::new(Verbosity::Normal);
        let deployment = rolling();
        let said = lines.of(
            &deployment,
            &[
                fact("planned", 0, None, "", "shop 2.3.1 to 8 nodes in 4 segments"),
                fact("segment-started", 0, Some(0), "", "started"),
                fact("node-proven", 40, None, "n1", "proven (digest)"),
                fact("node-baked", 102, None, "n1", "still proven, and nothing is left that undoes it"),
                fact("segment-baked", 102, Some(0), "", "ok"),
                fact(
                    "node-failed",
                    235,
                    None,
                    "n4",
                    "FAILED probe: GET http://127.0.0.1:18084/healthz → 503 after 30 tries",
                ),
                fact("rollback-started", 235, None, "", "rolling back: 1 failed, 0 allowed"),
            ],
        );
        assert_eq!(
            said,
            [
                "2026-11-21T09:14:03Z d-7k2m4 started shop 2.3.0→2.3.1 env=prod nodes=8 segments=4 actor=alice",
                "2026-11-21T09:14:03Z d-7k2m4 segment=1/4 started nodes=2",
                "2026-11-21T09:14:43Z d-7k2m4 segment=1/4 node=n1 proven (digest)",
                "2026-11-21T09:15:45Z d-7k2m4 segment=1/4 ok nodes=2 took=1m42s",
                "2026-11-21T09:17:58Z d-7k2m4 segment=2/4 node=n4 phase=probe FAILED GET http://127.0.0.1:18084/healthz → 503 after 30 tries",
                "2026-11-21T09:17:58Z d-7k2m4 segment=2/4 stopped: 1 failed, 0 allowed",
            ]
        );
    }

    #[test]
    fn gates_halts_and_pauses_are_said_with_the_way_on() {
        let mut lines = Lines::new(Verbosity::Normal);
        let mut said = lines.of(&gating(), &[fact("gate-started", 140, Some(1), "", "gate 1 is asked")]);
        said.extend(lines.of(
            &halted(),
            &[
                fact("gate-passed", 150, Some(1), "", "gate 1 passed: 6 tests: ok"),
                fact("gate-inconclusive", 151, Some(1), "", "gate 1 INCONCLUSIVE: no answer"),
                fact("gate-failed", 151, Some(1), "", "gate 2 FAILED: exit 1"),
                fact("halted", 152, None, "", "halted: it waits to be promoted after segment 1"),
                fact("paused", 153, None, "", "paused by bob"),
                fact("resumed", 154, None, "", "resumed by bob"),
                fact("nodes-ordered", 155, Some(1), "", "ordered: n3, n4"),
                fact("node-joined", 156, None, "n9", "joined: it is ordered last, and belongs to the verdict"),
                fact("node-waived", 157, None, "n8", "waived by alice: disk, OPS-12"),
            ],
        ));
        assert_eq!(
            said,
            [
                "2026-11-21T09:16:23Z d-7k2m4 segment=2/4 gate=test is asked",
                "2026-11-21T09:16:33Z d-7k2m4 segment=2/4 gate=test passed",
                "2026-11-21T09:16:34Z d-7k2m4 segment=2/4 gate=test INCONCLUSIVE: no answer",
                "2026-11-21T09:16:34Z d-7k2m4 segment=2/4 gate 2 FAILED: exit 1",
                "2026-11-21T09:16:35Z d-7k2m4 halted: it waits to be promoted after segment 1 (fleetctl promote d-7k2m4, or fleetctl abort d-7k2m4)",
                "2026-11-21T09:16:36Z d-7k2m4 paused by bob (fleetctl resume d-7k2m4)",
                "2026-11-21T09:16:37Z d-7k2m4 resumed by bob",
                "2026-11-21T09:16:39Z d-7k2m4 node=n9 joined: it is ordered last, and belongs to the verdict",
                "2026-11-21T09:16:40Z d-7k2m4 segment=4/4 node=n8 waived by alice: disk, OPS-12",
            ]
        );
    }

    #[test]
    fn a_segment_is_back_when_its_last_node_is() {
        let mut lines = Lines::new(Verbosity::Normal);
        let mut deployment = rolling();
        deployment.segments[1].nodes = vec![node("n3", "restored", "", "2.3.0"), node("n4", "restoring", "", "2.3.1")];
        assert_eq!(lines.of(&deployment, &[fact("node-restored", 270, None, "n3", "back")]), [""; 0]);
        deployment.segments[1].nodes[1].state = "restored".into();
        assert_eq!(
            lines.of(&deployment, &[fact("node-restored", 275, None, "n4", "back")]),
            ["2026-11-21T09:18:38Z d-7k2m4 rollback segment=2/4 ok nodes=2"]
        );
    }

    #[test]
    fn every_outcome_has_its_last_line() {
        let last = |d: &v1::Deployment| Lines::new(Verbosity::Normal).ending(d).pop().unwrap_or_default();
        assert_eq!(
            last(&finished(Outcome::Converged, "verified", "2.3.1")),
            "2026-11-21T09:19:41Z d-7k2m4 CONVERGED 8 of 8 nodes on 2.3.1 exit=0"
        );
        assert_eq!(
            last(&finished(Outcome::RolledBack, "verified", "2.3.0")),
            "2026-11-21T09:19:41Z d-7k2m4 ROLLED_BACK 8 of 8 nodes on 2.3.0 exit=3"
        );
        let mut unproven = finished(Outcome::Unproven, "verified", "2.3.1");
        unproven.segments[3].nodes[1] = node("n8", "unverified", "no contact for 31s", "2.3.0");
        unproven.unproven = vec![node("n8", "unverified", "no contact for 31s", "2.3.0")];
        assert_eq!(
            last(&unproven),
            "2026-11-21T09:19:41Z d-7k2m4 UNPROVEN 1 of 8 nodes last proven on 2.3.0 (n8), 7 last proven on 2.3.1 (n1 n2 n3 n4 n5 n6 n7); not proven: n8 (no contact for 31s) exit=4"
        );
    }

    #[test]
    fn a_stop_without_rollback_still_says_why() {
        let mut deployment = finished(Outcome::Unproven, "verified", "2.3.1");
        deployment.cause = "1 failed, 0 allowed".into();
        let lines = Lines::new(Verbosity::Normal).ending(&deployment);
        assert_eq!(lines.len(), 2);
        assert!(lines[0].ends_with("stopped: 1 failed, 0 allowed"));
    }
}
