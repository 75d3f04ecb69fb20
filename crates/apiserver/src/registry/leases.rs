//! Leases for objects that do not stay: one lease for all that are written within a minute, as upstream's etcd3 store does.

use std::collections::HashMap;
use std::time::{Duration, Instant};

use parking_lot::Mutex;
use skiff_store::{LeaseId, Store};

use crate::error::ApiResult;

/// For so long new objects are put under a lease that is there.
pub(crate) const SHARED_FOR: Duration = Duration::from_secs(60);
/// A lease that ends deletes its objects at once; so it holds no more than these.
const MOST: u32 = 1000;

#[derive(Debug)]
struct Lease {
    id: LeaseId,
    granted: Instant,
    objects: u32,
}

/// The newest lease for each time to live.
#[derive(Debug, Default)]
pub(crate) struct Leases {
    newest: Mutex<HashMap<Duration, Lease>>,
}

impl Leases {
    /// A lease under which an object stays at least `ttl`.
    pub(crate) async fn lease(&self, store: &dyn Store, ttl: Duration) -> ApiResult<LeaseId> {
        if let Some(id) = self.share(ttl, Instant::now()) {
            return Ok(id);
        }
        // Two writers may get here at once; then each has a lease, and the second one is shared on.
        let id = store.lease_grant(ttl + SHARED_FOR).await?;
        let lease = Lease {
            id,
            granted: Instant::now(),
            objects: 1,
        };
        self.newest.lock().insert(ttl, lease);
        Ok(id)
    }

    fn share(&self, ttl: Duration, now: Instant) -> Option<LeaseId> {
        let mut newest = self.newest.lock();
        let lease = newest.get_mut(&ttl)?;
        if now.duration_since(lease.granted) > SHARED_FOR || lease.objects >= MOST {
            return None;
        }
        lease.objects += 1;
        Some(lease.id)
    }

    /// A lease was not there: it is not shared again.
    pub(crate) fn forget(&self, ttl: Duration) {
        self.newest.lock().remove(&ttl);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_lease_is_shared_for_a_minute_and_by_a_thousand() {
        let ttl = Duration::from_secs(3600);
        let granted = Instant::now();
        let leases = Leases::default();
        assert_eq!(leases.share(ttl, granted), None);
        leases.newest.lock().insert(
            ttl,
            Lease {
                id: 7,
                granted,
                objects: 1,
            },
        );
        assert_eq!(leases.share(ttl, granted + SHARED_FOR), Some(7));
        assert_eq!(leases.share(ttl, granted + SHARED_FOR * 2), None);
        assert_eq!(leases.share(ttl / 2, granted), None);
        let shared = std::iter::from_fn(|| leases.share(ttl, granted)).count();
        assert_eq!(shared as u32 + 2, MOST);
        leases.forget(ttl);
        assert_eq!(leases.share(ttl, granted), None);
    }
}
