//! Locks on services, for people.

use fleet_proto::v1;

use super::table::Columns;
use super::text::{Zone, age_at, minute, or_dash};

/// The locks that hold now.
pub fn list(locks: &[v1::Lock], now_ms: i64, zone: Zone) -> String {
    if locks.is_empty() {
        return "no service is locked\n".to_owned();
    }
    let mut rows = Columns::new(&["SERVICE", "BY", "SINCE", "UNTIL", "REASON"]);
    for lock in locks {
        rows.row([
            lock.service.clone(),
            or_dash(&lock.by),
            age_at(now_ms, lock.since_ms),
            until(lock, zone),
            lock.reason.clone(),
        ]);
    }
    rows.to_text()
}

/// When a lock ends by itself, to the minute.
pub fn until(lock: &v1::Lock, zone: Zone) -> String {
    minute(lock.until_ms, zone)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::output::samples::START;

    #[test]
    fn a_lock_says_who_and_why_and_until_when() {
        let lock = v1::Lock {
            service: "shop".into(),
            by: "alice".into(),
            reason: "Black Friday".into(),
            since_ms: START - 600_000,
            until_ms: START + 8 * 3_600_000,
        };
        assert_eq!(
            list(&[lock], START, Zone::Utc),
            "SERVICE  BY     SINCE  UNTIL             REASON\nshop     alice  10m    2026-11-21 17:14  Black Friday\n"
        );
        assert_eq!(list(&[], START, Zone::Utc), "no service is locked\n");
    }
}
