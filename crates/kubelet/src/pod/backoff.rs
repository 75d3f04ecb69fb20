//! How long something that fails has to wait before the next try: upstream's `flowcontrol.Backoff`, with the clock
//! handed in.

use std::collections::BTreeMap;
use std::time::Duration;

use jiff::{SignedDuration, Timestamp};

/// The wait after the first failure.
pub(crate) const INITIAL: Duration = Duration::from_secs(10);
/// No wait is longer; twice as long without a failure and all is forgotten.
pub(crate) const MAXIMUM: Duration = Duration::from_secs(300);

/// How long a pod waits after its sandbox could not be made: ten seconds, or one when just the pod network is not ready
/// yet, and up to half as long again, by `chance` from 0 to 1. (Upstream's pod worker: `backOffPeriod`,
/// `backOffOnTransientErrorPeriod`, `workerBackOffPeriodJitterFactor`.)
pub(crate) fn after_failed_sandbox(is_network_ready: bool, chance: f64) -> Duration {
    let period = Duration::from_secs(if is_network_ready { 10 } else { 1 });
    period.mul_f64(1.0 + 0.5 * chance.clamp(0.0, 1.0))
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Entry {
    delay: Duration,
    updated: Timestamp,
}

/// The waits by key.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Backoffs {
    entries: BTreeMap<String, Entry>,
}

fn since(earlier: Timestamp, later: Timestamp) -> Duration {
    Duration::try_from(later.duration_since(earlier)).unwrap_or(Duration::ZERO)
}

impl Backoffs {
    /// Counts one more try: the first waits [`INITIAL`], each next one twice as long.
    pub(crate) fn next(&mut self, key: &str, event: Timestamp, now: Timestamp) {
        let delay = match self.entries.get(key) {
            Some(entry) if since(entry.updated, event) <= MAXIMUM * 2 => (entry.delay * 2).min(MAXIMUM),
            _ => INITIAL,
        };
        self.entries.insert(key.into(), Entry { delay, updated: now });
    }

    /// How much of the wait that began with `event` is left.
    pub(crate) fn remaining(&self, key: &str, event: Timestamp, now: Timestamp) -> Option<Duration> {
        let entry = self.entries.get(key)?;
        if since(entry.updated, event) > MAXIMUM * 2 {
            return None;
        }
        let end = event
            .saturating_add(SignedDuration::try_from(entry.delay).ok()?)
            .ok()?;
        let left = Duration::try_from(end.duration_since(now)).ok()?;
        (!left.is_zero()).then_some(left)
    }

    /// The wait as it stands, for messages.
    pub(crate) fn delay(&self, key: &str) -> Duration {
        self.entries.get(key).map_or(Duration::ZERO, |entry| entry.delay)
    }

    /// When the key last failed.
    pub(crate) fn updated(&self, key: &str) -> Option<Timestamp> {
        self.entries.get(key).map(|entry| entry.updated)
    }

    /// Forgets a key after a success.
    pub(crate) fn forget(&mut self, key: &str) {
        self.entries.remove(key);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(seconds: i64) -> Timestamp {
        Timestamp::from_second(seconds).unwrap()
    }

    #[test]
    fn a_sandbox_that_failed_is_not_hurried() {
        let cases = [
            (true, 0.0, 10_000),
            (true, 1.0, 15_000),
            (false, 0.0, 1000),
            (false, 0.5, 1250),
        ];
        for (is_network_ready, chance, millis) in cases {
            let wait = after_failed_sandbox(is_network_ready, chance);
            assert_eq!(wait.as_millis(), millis, "{is_network_ready} {chance}");
        }
    }

    #[test]
    fn the_wait_doubles_to_five_minutes_and_is_forgotten_after_ten() {
        let mut backoffs = Backoffs::default();
        assert_eq!(backoffs.remaining("x", at(0), at(0)), None);
        let mut now = 0;
        let mut waits = Vec::new();
        for _ in 0..7 {
            backoffs.next("x", at(now), at(now));
            waits.push(backoffs.remaining("x", at(now), at(now)).unwrap().as_secs());
            now += 300;
        }
        assert_eq!(waits, [10, 20, 40, 80, 160, 300, 300]);
        let last = now - 300;
        assert_eq!(backoffs.remaining("x", at(last), at(last + 301)), None);
        // A container that ran longer than ten minutes starts from the beginning.
        assert_eq!(backoffs.remaining("x", at(last + 601), at(last + 601)), None);
        backoffs.next("x", at(last + 601), at(last + 601));
        assert_eq!(backoffs.delay("x"), INITIAL);
    }
}
