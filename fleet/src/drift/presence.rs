//! What silence means. A node has two clocks, last contact and last verified observation; only the second
//! counts as knowledge, and it goes stale. A node that is expected and has no agent is a finding of its own.

use crate::drift::{Finding, FindingKey, Kind};
use crate::{Millis, NodeName, Timestamp};

/// How long silence is borne before it is a finding.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Limits {
    /// Out of contact for longer: `unreachable`. An agent that restarts is back within this.
    pub silence: Millis,
    /// In contact, but nothing verified for longer: `stale`. Several rounds of observation fit into it.
    pub stale: Millis,
}

/// What is known of one expected node.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Sight {
    /// Whether it has an agent with an identity.
    pub enrolled: bool,
    /// Whether its agent's stream is open.
    pub connected: bool,
    /// Since when it could have been seen: enrolment, or the start of this controller, whichever is later.
    pub watched_since: Timestamp,
    /// When its stream last carried anything, or was closed.
    pub last_contact: Option<Timestamp>,
    /// When the nonce of its last valid attestation was drawn: the observation was made after that.
    pub last_observation: Option<Timestamp>,
}

/// The findings about the node itself.
pub fn presence(node: &NodeName, sight: &Sight, now: Timestamp, limits: Limits) -> Vec<Finding> {
    let finding = |kind, what: &str, expected: &str, found: String| {
        let key = FindingKey { node: node.clone(), service: None, kind, what: what.into() };
        vec![Finding::new(key, expected, found)]
    };
    if !sight.enrolled {
        return finding(Kind::Unmanaged, "agent", "an agent", "none has ever joined".into());
    }
    let observed_for = now.since(sight.last_observation.unwrap_or(sight.watched_since).max(sight.watched_since));
    if !sight.connected {
        let silent_for = now.since(sight.last_contact.unwrap_or(sight.watched_since).max(sight.watched_since));
        if silent_for > limits.silence {
            return finding(Kind::Unreachable, "contact", "in contact", "no contact".into());
        }
    }
    if observed_for > limits.stale {
        return finding(Kind::Stale, "observation", "a fresh observation", "none that is fresh".into());
    }
    Vec::new()
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn silence_is_never_ok() {
        let node: NodeName = "n1".parse().unwrap();
        let limits = Limits { silence: Millis(5_000), stale: Millis(9_000) };
        let sight = Sight {
            enrolled: true,
            connected: true,
            watched_since: Timestamp(0),
            last_contact: Some(Timestamp(0)),
            last_observation: Some(Timestamp(0)),
        };
        let kind = |sight: Sight, now| presence(&node, &sight, Timestamp(now), limits).first().map(|f| f.key.kind);
        assert_eq!(kind(sight, 9_000), None);
        assert_eq!(kind(sight, 9_001), Some(Kind::Stale), "contact alone is not an observation");
        let gone = Sight { connected: false, ..sight };
        assert_eq!(kind(gone, 5_000), None, "an agent may restart");
        assert_eq!(kind(gone, 5_001), Some(Kind::Unreachable));
        let never = Sight { last_contact: None, last_observation: None, connected: false, ..sight };
        assert_eq!(kind(never, 5_001), Some(Kind::Unreachable), "a node that never answered is silent too");
        assert_eq!(kind(Sight { enrolled: false, ..sight }, 1), Some(Kind::Unmanaged));
    }
}
