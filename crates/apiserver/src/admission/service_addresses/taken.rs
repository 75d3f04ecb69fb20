//! What is taken of a range, by services and by requests on their way.

use std::collections::HashMap;
use std::hash::Hash;
use std::time::{Duration, Instant};

/// How long something that was given is kept for a service that has not been seen yet. Longer than a request may take.
const GIVEN_FOR: Duration = Duration::from_secs(90);

/// A namespace and a name.
pub(super) type Owner = (String, String);

/// Why something could not be taken.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Refusal {
    Taken,
    Full,
}

/// What is taken of a range.
#[derive(Debug)]
pub(super) struct Taken<T> {
    /// By services that have been seen.
    by: HashMap<T, Owner>,
    /// The same, by service.
    of: HashMap<Owner, Vec<T>>,
    /// By requests on their way, and since when.
    pub(super) given: HashMap<T, Instant>,
}

impl<T> Default for Taken<T> {
    fn default() -> Self {
        Self {
            by: HashMap::new(),
            of: HashMap::new(),
            given: HashMap::new(),
        }
    }
}

impl<T: Copy + Eq + Hash> Taken<T> {
    pub(super) fn is_free(&self, item: T, now: Instant) -> bool {
        !self.by.contains_key(&item)
            && self
                .given
                .get(&item)
                .is_none_or(|since| now.duration_since(*since) > GIVEN_FOR)
    }

    pub(super) fn take(&mut self, item: T, now: Instant, dry_run: bool) -> Result<(), Refusal> {
        if !self.is_free(item, now) {
            return Err(Refusal::Taken);
        }
        if !dry_run {
            self.given.insert(item, now);
        }
        Ok(())
    }

    /// The first free one of the candidates.
    pub(super) fn take_any(
        &mut self,
        mut candidates: impl Iterator<Item = T>,
        now: Instant,
        dry_run: bool,
    ) -> Result<T, Refusal> {
        let free = candidates
            .find(|item| self.is_free(*item, now))
            .ok_or(Refusal::Full)?;
        self.take(free, now, dry_run).map(|()| free)
    }

    /// What a service holds, as the watch shows it.
    pub(super) fn hold(&mut self, owner: &Owner, items: &[T]) {
        for item in self.of.remove(owner).unwrap_or_default() {
            self.free(item, owner);
        }
        for item in items {
            self.given.remove(item);
            self.by.insert(*item, owner.clone());
        }
        if !items.is_empty() {
            self.of.insert(owner.clone(), items.to_vec());
        }
    }

    /// Frees what a service held, unless another holds it by now.
    pub(super) fn free(&mut self, item: T, owner: &Owner) {
        if self.by.get(&item) == Some(owner) {
            self.by.remove(&item);
        }
    }

    /// No service is known.
    pub(super) fn forget_services(&mut self) {
        self.by.clear();
        self.of.clear();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_the_watch_shows_is_what_is_held() {
        let mut taken = Taken::default();
        let (a, b) = (
            ("n".to_string(), "a".to_string()),
            ("n".to_string(), "b".to_string()),
        );
        let now = Instant::now();
        taken.take(1, now, false).unwrap();
        taken.hold(&a, &[1, 2]);
        assert!(!taken.is_free(1, now) && !taken.is_free(2, now));
        taken.hold(&a, &[2]);
        assert!(taken.is_free(1, now), "an update gave it back");
        taken.hold(&b, &[1]);
        taken.hold(&a, &[]);
        assert!(!taken.is_free(1, now) && taken.is_free(2, now));
        taken.take(3, now, true).unwrap();
        assert!(taken.is_free(3, now), "a dry run takes nothing");
    }
}
