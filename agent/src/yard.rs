//! Who works on whose releases. A keeper and a migration of the same service may want to unpack the same release at the
//! same time, and one must not take away what the other stands in. How a release is fetched and unpacked is `fetch`'s and
//! `releases`'.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};

use fleet::{ReleaseId, ServiceName};
use tokio::sync::{Mutex as Bench, OwnedMutexGuard};

use crate::keeper::lock;

/// The yard of one node: a bench for each service, at which one works at a time, and the releases that are lent out.
#[derive(Debug, Default)]
pub struct Yard {
    benches: Mutex<BTreeMap<ServiceName, Arc<Bench<()>>>>,
    lent: Mutex<Vec<(ServiceName, ReleaseId)>>,
}

/// A release that stays on the disk until this is dropped.
#[derive(Debug)]
pub struct Lent {
    yard: Arc<Yard>,
    what: (ServiceName, ReleaseId),
}

impl Yard {
    /// Waits for the service's bench; nobody else fetches or unpacks a release of it until what is returned is dropped.
    pub async fn bench(&self, service: &ServiceName) -> OwnedMutexGuard<()> {
        let bench = lock(&self.benches).entry(service.clone()).or_default().clone();
        bench.lock_owned().await
    }

    /// Lends a release: pruning leaves it alone.
    #[must_use]
    pub fn lend(self: &Arc<Self>, service: &ServiceName, release: &ReleaseId) -> Lent {
        let what = (service.clone(), release.clone());
        lock(&self.lent).push(what.clone());
        Lent { yard: self.clone(), what }
    }

    /// The service's releases that are lent out.
    pub fn lent(&self, service: &ServiceName) -> Vec<ReleaseId> {
        lock(&self.lent).iter().filter(|(of, _)| of == service).map(|(_, release)| release.clone()).collect()
    }
}

impl Drop for Lent {
    fn drop(&mut self) {
        let mut lent = lock(&self.yard.lent);
        // The same release may be lent twice; each return takes back one.
        if let Some(at) = lent.iter().position(|what| *what == self.what) {
            lent.swap_remove(at);
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[tokio::test]
    async fn one_works_at_a_bench_and_what_is_lent_comes_back() {
        let yard = Arc::new(Yard::default());
        let (web, api): (ServiceName, ServiceName) = ("web".parse().unwrap(), "api".parse().unwrap());
        let at_work = yard.bench(&web).await;
        let _other = yard.bench(&api).await;
        assert!(lock(&yard.benches)[&web].try_lock().is_err());
        drop(at_work);
        drop(yard.bench(&web).await);

        let release: ReleaseId = "r-aaaaaaaaaaaa".parse().unwrap();
        let (one, two) = (yard.lend(&web, &release), yard.lend(&web, &release));
        drop(one);
        assert_eq!((yard.lent(&web), yard.lent(&api)), (vec![release], vec![]));
        drop(two);
        assert!(yard.lent(&web).is_empty());
    }
}
