//! The open connections by identity, so that taking an identity away ends what it has open, at once.
//!
//! Which serials are allowed is asked of the owner at the end of every handshake. Revoking is therefore two steps, in
//! this order: take the serial from the allow-list, then [`Sessions::revoke`]. A connection that is just being made is
//! caught by one of the two.

use std::collections::{HashMap, HashSet};
use std::fmt;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, RwLock};
use std::task::{Context, Waker};

use crate::identity::Identity;

/// Says whether a certificate that is valid in itself is (still) accepted. Asked on every handshake, so it must be
/// quick and must not block: answer from memory.
pub trait Allowed: Send + Sync + 'static {
    /// Whether the certificate with this serial, issued to this identity, is accepted.
    fn allows(&self, identity: &Identity, serial: &str) -> bool;
}

impl<F: Fn(&Identity, &str) -> bool + Send + Sync + 'static> Allowed for F {
    fn allows(&self, identity: &Identity, serial: &str) -> bool {
        self(identity, serial)
    }
}

/// An allow-list in memory: the serials that were issued and not taken back. Clones share the list.
///
/// A certificate that is not on it is refused even if its signature is good: a stolen authority key makes no members.
#[derive(Debug, Clone, Default)]
pub struct AllowList {
    serials: Arc<RwLock<HashMap<Identity, HashSet<String>>>>,
}

impl AllowList {
    /// Accepts this serial of this identity from now on, beside those accepted before (renewals overlap).
    pub fn grant(&self, identity: Identity, serial: impl Into<String>) {
        self.write().entry(identity).or_default().insert(serial.into());
    }

    /// Accepts no certificate of this identity any more. Follow with [`Sessions::revoke`].
    pub fn withdraw(&self, identity: &Identity) {
        self.write().remove(identity);
    }

    fn write(&self) -> std::sync::RwLockWriteGuard<'_, HashMap<Identity, HashSet<String>>> {
        // Every change is a single insert or remove: a panic elsewhere cannot have left the map half changed.
        self.serials.write().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Allowed for AllowList {
    fn allows(&self, identity: &Identity, serial: &str) -> bool {
        self.serials
            .read()
            .unwrap_or_else(PoisonError::into_inner)
            .get(identity)
            .is_some_and(|serials| serials.contains(serial))
    }
}

/// The registry of open connections. Clones share it.
#[derive(Clone)]
pub struct Sessions {
    shared: Arc<Shared>,
}

struct Shared {
    allowed: Box<dyn Allowed>,
    open: Mutex<HashMap<Identity, HashMap<u64, Arc<Closing>>>>,
    next: AtomicU64,
}

impl Sessions {
    /// A registry that asks `allowed` (an [`AllowList`], or a function) about every certificate.
    pub fn new(allowed: impl Allowed) -> Self {
        Sessions {
            shared: Arc::new(Shared { allowed: Box::new(allowed), open: Mutex::default(), next: AtomicU64::new(0) }),
        }
    }

    /// Closes every open connection of `identity` at once and returns how many there were.
    ///
    /// Reading and writing on them fails from now on, also for calls that are waiting. To keep the identity from coming
    /// back, take it from the allow-list first.
    pub fn revoke(&self, identity: &Identity) -> usize {
        let sessions = self.shared.lock().remove(identity).unwrap_or_default();
        for closing in sessions.values() {
            closing.close();
        }
        sessions.len()
    }

    /// How many connections `identity` has open.
    pub fn count(&self, identity: &Identity) -> usize {
        self.shared.lock().get(identity).map_or(0, HashMap::len)
    }

    pub(crate) fn allows(&self, identity: &Identity, serial: &str) -> bool {
        self.shared.allowed.allows(identity, serial)
    }

    /// Registers a connection. `None` if the certificate is not allowed, asked *after* the registration: a revocation
    /// either finds the connection in the registry, or has changed the allow-list before this question.
    pub(crate) fn open(&self, identity: &Identity, serial: &str) -> Option<Session> {
        let session = Session {
            shared: self.shared.clone(),
            identity: identity.clone(),
            number: self.shared.next.fetch_add(1, Ordering::Relaxed),
            closing: Arc::default(),
        };
        self.shared.lock().entry(identity.clone()).or_default().insert(session.number, session.closing.clone());
        self.allows(identity, serial).then_some(session)
    }
}

impl fmt::Debug for Sessions {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Sessions").field("identities", &self.shared.lock().len()).finish_non_exhaustive()
    }
}

impl Shared {
    fn lock(&self) -> MutexGuard<'_, HashMap<Identity, HashMap<u64, Arc<Closing>>>> {
        // Every change is a single insert or remove: a panic elsewhere cannot have left the map half changed.
        self.open.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// One registered connection; leaves the registry when dropped.
pub(crate) struct Session {
    shared: Arc<Shared>,
    identity: Identity,
    number: u64,
    closing: Arc<Closing>,
}

impl Session {
    /// Whether the connection has been closed; if not, `cx` is woken when it is.
    pub(crate) fn poll_closed(&self, cx: &Context<'_>, direction: Direction) -> bool {
        self.closing.poll(cx, direction)
    }
}

impl Drop for Session {
    fn drop(&mut self) {
        let mut open = self.shared.lock();
        if let Some(sessions) = open.get_mut(&self.identity) {
            sessions.remove(&self.number);
            if sessions.is_empty() {
                open.remove(&self.identity);
            }
        }
    }
}

/// The two halves of a connection may be polled by different tasks, so each has its own waker.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Direction {
    Read,
    Write,
}

/// A switch that can be thrown once and wakes whoever waits on the connection.
#[derive(Default)]
struct Closing {
    closed: AtomicBool,
    wakers: Mutex<[Option<Waker>; 2]>,
}

impl Closing {
    fn close(&self) {
        self.closed.store(true, Ordering::SeqCst);
        let wakers = std::mem::take(&mut *self.lock());
        for waker in wakers.into_iter().flatten() {
            waker.wake();
        }
    }

    fn poll(&self, cx: &Context<'_>, direction: Direction) -> bool {
        let mut wakers = self.lock();
        let slot = &mut wakers[direction as usize];
        if !slot.as_ref().is_some_and(|old| old.will_wake(cx.waker())) {
            *slot = Some(cx.waker().clone());
        }
        drop(wakers);
        // Looked at after the waker is in place: a close in between either finds the waker or is seen here.
        self.closed.load(Ordering::SeqCst)
    }

    fn lock(&self) -> MutexGuard<'_, [Option<Waker>; 2]> {
        self.wakers.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use crate::identity::Role;

    #[test]
    fn counts_closes_and_forgets() {
        let (a, b) = (Identity::new(Role::Node, "a").unwrap(), Identity::new(Role::Node, "b").unwrap());
        let list = AllowList::default();
        list.grant(a.clone(), "01");
        list.grant(a.clone(), "02");
        list.grant(b.clone(), "03");
        let sessions = Sessions::new(list.clone());
        let one = sessions.open(&a, "01").unwrap();
        let two = sessions.open(&a, "02").unwrap();
        let other = sessions.open(&b, "03").unwrap();
        assert!(sessions.open(&b, "01").is_none(), "a serial of somebody else");
        assert_eq!((sessions.count(&a), sessions.count(&b)), (2, 1));
        drop(two);
        assert_eq!(sessions.count(&a), 1);
        list.withdraw(&a);
        assert_eq!(sessions.revoke(&a), 1);
        let cx = Context::from_waker(Waker::noop());
        assert!(one.poll_closed(&cx, Direction::Read));
        assert!(!other.poll_closed(&cx, Direction::Read));
        assert!(sessions.open(&a, "01").is_none());
        drop((one, other));
        assert_eq!(sessions.shared.lock().len(), 0);
    }
}
