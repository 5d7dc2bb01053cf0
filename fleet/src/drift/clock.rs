//! How wrong the clock of a node certainly is. Nothing is decided by it: times of two machines are never compared
//! (I10). It is told because people read logs by it, and because certificates end by it.

use crate::drift::{Finding, FindingKey, Kind};
use crate::{Millis, NodeName, Timestamp};

/// A clock that is further off is a finding. One that is kept by NTP is within 128 ms, where NTP itself begins to step
/// (RFC 5905, STEPT), and chrony's usual configuration steps at 1 s: five seconds are nobody's jitter.
const FURTHEST: Millis = Millis::from_secs(5);
/// The finding is closed only when the clock is certainly within this: nothing flaps at the limit.
const WELL: Millis = Millis::from_secs(2);

/// What an answer shows of a node's clock.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Clock {
    /// It is certainly too far off.
    Wrong(Finding),
    /// It is certainly well.
    Well,
    /// The answer took too long to tell, or it lies between the two limits: what was said of it stays.
    Unclear,
}

/// The node read `said` from its clock after it was asked and before its answer was here, by the controller's clock.
pub fn clock(node: &NodeName, said: Timestamp, asked_at: Timestamp, now: Timestamp) -> Clock {
    // The controller's own clock may have been put back meanwhile.
    let (earliest, latest) = (asked_at.min(now), asked_at.max(now));
    let (behind, ahead) = (earliest.since(said), said.since(latest));
    let off = behind.max(ahead);
    if off > FURTHEST {
        let way = if ahead > behind { "ahead of" } else { "behind" };
        let key = FindingKey { node: node.clone(), service: None, kind: Kind::Clock, what: "clock".into() };
        let expected = format!("within {FURTHEST} of the controller's clock");
        return Clock::Wrong(Finding::new(key, expected, format!("at least {off} {way} it")));
    }
    let furthest = latest.since(said).max(said.since(earliest));
    if furthest <= WELL { Clock::Well } else { Clock::Unclear }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn only_what_is_certain_is_said() {
        let node = "n1".parse().unwrap();
        let of = |said: i64, asked: i64, now: i64| match clock(&node, Timestamp(said), Timestamp(asked), Timestamp(now))
        {
            Clock::Wrong(finding) => finding.found,
            Clock::Well => "well".into(),
            Clock::Unclear => "unclear".into(),
        };
        assert_eq!(of(100_000, 99_000, 100_500), "well");
        assert_eq!(of(102_000, 99_000, 100_500), "unclear", "further than is well for certain");
        assert_eq!(of(105_600, 99_000, 100_500), "at least 5.1s ahead of it");
        assert_eq!(of(105_500, 99_000, 100_500), "unclear", "five seconds are borne");
        assert_eq!(of(100_000 - 3_600_000, 100_000, 100_010), "at least 1h behind it");
        // An answer that took a minute says little.
        assert_eq!(of(130_000, 100_000, 160_000), "unclear");
        // The controller's clock was put back by an hour between question and answer.
        assert_eq!(of(3_600_000, 3_600_000, 1), "unclear");
        assert_eq!(of(i64::MIN, 0, 1), format!("at least {} behind it", Millis(i64::MAX as u64)));
        assert!(of(i64::MAX, 0, 1).ends_with("ahead of it"));
    }
}
