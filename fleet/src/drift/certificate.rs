//! Certificates that end soon, or have ended. A node whose certificate ends falls silent at a moment that was known for
//! weeks: it is said before. `now` is an argument, and both ends of the life were written by the same clock.

use crate::drift::{ENDS_SOON, Finding, FindingKey, HAS_ENDED, Kind};
use crate::{Millis, NodeName, Timestamp};

/// A certificate is told when less than a tenth of its life is left: at two thirds it should have been renewed, so this
/// is late, and early enough for a person: nine days for a node's ninety.
const LAST_PART: u64 = 10;
/// Never earlier than this: a month is long enough for the slowest change board.
const EARLIEST: Millis = Millis::from_secs(30 * 86_400);

/// The life of a certificate.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Life {
    /// When it began.
    pub from: Timestamp,
    /// When it ends.
    pub until: Timestamp,
}

/// What is to be said of the certificate of `whose`, and under the name of `node`.
pub fn certificate(node: &NodeName, whose: &str, life: Life, now: Timestamp) -> Option<Finding> {
    let left = life.until.since(now);
    let warned = Millis(life.until.since(life.from).0 / LAST_PART).min(EARLIEST);
    if left > warned {
        return None;
    }
    let (what, found) = if left == Millis(0) {
        (HAS_ENDED, format!("{whose} ended {} ago", now.since(life.until)))
    } else {
        (ENDS_SOON, format!("{whose} ends in less than {warned}"))
    };
    let key = FindingKey { node: node.clone(), service: None, kind: Kind::Certificate, what: what.into() };
    Some(Finding::new(key, format!("more than {warned} left"), found))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use crate::drift::Severity;

    #[test]
    fn it_is_said_before_and_is_worse_afterwards() {
        const DAY: i64 = 86_400_000;
        let node = "n1".parse().unwrap();
        let at = |days: i64, of: i64| {
            let life = Life { from: Timestamp(0), until: Timestamp(of * DAY) };
            certificate(&node, "its certificate", life, Timestamp(days * DAY)).map(|f| (f.key.severity(), f.found))
        };
        assert_eq!(at(80, 90), None);
        assert_eq!(at(81, 90), Some((Severity::Warning, "its certificate ends in less than 9d".into())));
        assert_eq!(at(90, 90), Some((Severity::Critical, "its certificate ended 0s ago".into())));
        assert_eq!(at(3_619, 3_650), None, "ten years are no reason to be told a year before");
        assert!(at(3_620, 3_650).is_some());
        let nonsense = Life { from: Timestamp(9), until: Timestamp(0) };
        assert!(certificate(&node, "it", nonsense, Timestamp(1)).is_some());
    }
}
