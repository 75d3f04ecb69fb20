//! What a controller has asked for and not yet seen: while the informer lags behind the API, counting what it shows
//! would create or delete twice.

use std::collections::{HashMap, HashSet};
use std::time::Duration;

use parking_lot::Mutex;
use skiff_informer::ObjectKey;
use tokio::time::Instant;

/// After this time a controller acts again, whatever it has not seen (upstream's `ExpectationsTimeout`).
pub(crate) const TIMEOUT: Duration = Duration::from_secs(5 * 60);

#[derive(Debug)]
struct Expected {
    creations: usize,
    deletions: HashSet<ObjectKey>,
    since: Instant,
}

/// Expectations by controlling object.
#[derive(Debug, Default)]
pub(crate) struct Expectations {
    expected: Mutex<HashMap<ObjectKey, Expected>>,
}

impl Expectations {
    /// Whether everything has been seen that was asked for, or it was too long ago.
    pub(crate) fn are_met(&self, owner: &ObjectKey) -> bool {
        let mut expected = self.expected.lock();
        let Some(entry) = expected.get(owner) else {
            return true;
        };
        let met = entry.creations == 0 && entry.deletions.is_empty();
        if met || entry.since.elapsed() >= TIMEOUT {
            expected.remove(owner);
            return true;
        }
        false
    }

    /// So many creations, and these deletions, are about to be asked for.
    pub(crate) fn expect(&self, owner: &ObjectKey, creations: usize, deletions: HashSet<ObjectKey>) {
        let entry = Expected {
            creations,
            deletions,
            since: Instant::now(),
        };
        self.expected.lock().insert(owner.clone(), entry);
    }

    /// One creation was seen, or failed.
    pub(crate) fn creation_observed(&self, owner: &ObjectKey) {
        if let Some(entry) = self.expected.lock().get_mut(owner) {
            entry.creations = entry.creations.saturating_sub(1);
        }
    }

    /// One deletion was seen to begin, or failed.
    pub(crate) fn deletion_observed(&self, owner: &ObjectKey, object: &ObjectKey) {
        if let Some(entry) = self.expected.lock().get_mut(owner) {
            entry.deletions.remove(object);
        }
    }

    /// The owner is gone.
    pub(crate) fn forget(&self, owner: &ObjectKey) {
        self.expected.lock().remove(owner);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn met_when_all_is_seen_or_the_time_is_over() {
        let expectations = Expectations::default();
        let owner = ObjectKey::new("default", "web");
        let pod = ObjectKey::new("default", "web-1");
        assert!(expectations.are_met(&owner));
        expectations.expect(&owner, 2, HashSet::new());
        expectations.creation_observed(&owner);
        assert!(!expectations.are_met(&owner));
        expectations.creation_observed(&owner);
        assert!(expectations.are_met(&owner));

        expectations.expect(&owner, 0, [pod.clone()].into());
        expectations.deletion_observed(&owner, &ObjectKey::new("default", "other"));
        assert!(!expectations.are_met(&owner));
        expectations.deletion_observed(&owner, &pod);
        assert!(expectations.are_met(&owner));

        expectations.expect(&owner, 1, HashSet::new());
        tokio::time::advance(TIMEOUT).await;
        assert!(expectations.are_met(&owner));
    }
}
