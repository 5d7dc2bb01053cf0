//! Locks: one person keeps deployments of a service away for a while, and says why. A lock is a lease: it ends by
//! itself, so that nobody is locked out by a laptop that was closed.

use fleet::{Millis, ServiceName, Timestamp};
use fleet_proto::{convert, v1};

use super::ask::Refusal;
use super::state::State;
use crate::records::{Change, Lock};

/// How long a lock lasts when nothing is said, and at most: a working day, and a week.
const LASTS: Millis = Millis::from_secs(8 * 3_600);
const LONGEST: Millis = Millis::from_secs(7 * 24 * 3_600);
/// The longest reason, in characters.
const LONGEST_REASON: usize = 1_000;

impl State {
    /// Takes a lock, or renews one's own.
    pub(super) fn hold_lock(
        &mut self,
        by: &str,
        request: &v1::HoldLockRequest,
        now: Timestamp,
    ) -> Result<v1::Lock, Refusal> {
        let service = read_service(&request.service)?;
        let reason: String = request.reason.trim().chars().take(LONGEST_REASON).collect();
        if reason.is_empty() {
            return Err(Refusal::input("a lock without a reason", "say why: fleetctl locks hold SERVICE -m REASON"));
        }
        if let Some(refusal) = self.locked_by_another(&service, by, now) {
            return Err(refusal);
        }
        let lasts = if request.for_ms == 0 { LASTS } else { Millis(request.for_ms).min(LONGEST) };
        let lock = Lock { service: service.clone(), by: by.to_owned(), reason, since: now, until: now.after(lasts) };
        self.save(Change::Lock(lock.clone()));
        self.locks.insert(service, lock.clone());
        Ok(show(&lock))
    }

    /// Gives a lock back. Anyone may: a lock keeps accidents away, not people, and the journal says who did.
    pub(super) fn release_lock(&mut self, by: &str, service: &str, now: Timestamp) -> Result<v1::Lock, Refusal> {
        let service = read_service(service)?;
        let held = self.locks.remove(&service).filter(|lock| now < lock.until);
        self.save(Change::ForgetLock(service.clone()));
        let lock = held.ok_or_else(|| {
            Refusal::unknown(format!("nobody holds a lock on {service}"), "list them: fleetctl locks list")
        })?;
        tracing::info!(by, %service, held_by = lock.by, "lock released");
        Ok(show(&lock))
    }

    /// The locks that hold now.
    pub(super) fn list_locks(&self, now: Timestamp) -> Vec<v1::Lock> {
        self.locks.values().filter(|lock| now < lock.until).map(show).collect()
    }

    /// That another person keeps deployments of a service away, as a refusal.
    pub(super) fn locked_by_another(&self, service: &ServiceName, actor: &str, now: Timestamp) -> Option<Refusal> {
        let lock = self.locks.get(service).filter(|lock| now < lock.until && lock.by != actor)?;
        let (since, left) = (now.since(lock.since), lock.until.since(now));
        let what = format!("{} has locked {service} since {since}, for {left} more: {}", lock.by, lock.reason);
        Some(Refusal::busy(what, format!("ask {}, or: fleetctl locks release {service}", lock.by)))
    }
}

fn read_service(service: &str) -> Result<ServiceName, Refusal> {
    convert::parse("service", service).map_err(|e| Refusal::input(e.to_string(), "name a service: fleetctl status"))
}

fn show(lock: &Lock) -> v1::Lock {
    v1::Lock {
        service: lock.service.to_string(),
        by: lock.by.clone(),
        reason: lock.reason.clone(),
        since_ms: lock.since.0,
        until_ms: lock.until.0,
    }
}
