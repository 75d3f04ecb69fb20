//! How long to wait before the next try.

use std::time::Duration;

use rand::Rng;

const FIRST: Duration = Duration::from_millis(20);
const LONGEST: Duration = Duration::from_secs(1);

/// Waits that double up to a bound, each cut by chance to between a half and the whole, so that clients of a member that
/// fell do not come back all at once.
#[derive(Debug, Default)]
pub(super) struct Backoff {
    tries: u32,
}

impl Backoff {
    pub(super) fn next(&mut self) -> Duration {
        let whole = FIRST.saturating_mul(1 << self.tries.min(10)).min(LONGEST);
        self.tries += 1;
        rand::rng().random_range(whole / 2..=whole)
    }

    pub(super) fn reset(&mut self) {
        self.tries = 0;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn waits_grow_to_a_bound_and_begin_anew() {
        let mut backoff = Backoff::default();
        for tries in 0..100u32 {
            let whole = FIRST.saturating_mul(1 << tries.min(6)).min(LONGEST);
            let wait = backoff.next();
            assert!(whole / 2 <= wait && wait <= whole, "try {tries}: {wait:?}");
        }
        backoff.reset();
        assert!(backoff.next() <= FIRST);
    }
}
