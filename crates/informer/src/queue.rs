//! The work queue: keys that wait for a worker, each at most once, with delays and per-key back-off.

use std::collections::{BTreeSet, HashMap, HashSet, VecDeque};
use std::hash::Hash;
use std::time::Duration;

use parking_lot::Mutex;
use tokio::sync::Notify;
use tokio::time::Instant;

use crate::figures::{Durations, Figures, Told};

/// How long a key waits after its n-th failure in a row: `base * 2^n`, at most `max`.
#[derive(Clone, Copy, Debug)]
pub struct Backoff {
    /// The wait after the first failure.
    pub base: Duration,
    /// No wait is longer than this.
    pub max: Duration,
}

impl Default for Backoff {
    /// client-go's `DefaultControllerRateLimiter`: 5 ms doubling to 1000 s.
    fn default() -> Self {
        Self {
            base: Duration::from_millis(5),
            max: Duration::from_secs(1000),
        }
    }
}

impl Backoff {
    /// The wait before try number `failures + 1`.
    pub fn delay(&self, failures: u32) -> Duration {
        let factor = 2u32.checked_pow(failures).unwrap_or(u32::MAX);
        self.base
            .checked_mul(factor)
            .map_or(self.max, |delay| delay.min(self.max))
    }
}

/// A set of keys in arrival order.
///
/// A key that is added while a worker has it is handed out again after [`WorkQueue::done`], never to two workers at
/// once. (The rules of client-go's `workqueue`.)
#[derive(Debug)]
pub struct WorkQueue<T> {
    state: Mutex<State<T>>,
    wake: Notify,
    backoff: Backoff,
}

#[derive(Debug)]
struct State<T> {
    ready: VecDeque<T>,
    /// In `ready`, or to be put there when its worker is done.
    dirty: HashSet<T>,
    /// Since when each is worked on.
    processing: HashMap<T, Instant>,
    /// Since when each of the dirty waits.
    waiting: HashMap<T, Instant>,
    adds: u64,
    retries: u64,
    waited: Durations,
    worked: Durations,
    /// Ordered by time; a key stands here at most once, at its earliest time.
    delayed: BTreeSet<(Instant, T)>,
    delayed_at: HashMap<T, Instant>,
    failures: HashMap<T, u32>,
    closed: bool,
}

impl<T: Clone + Eq + Hash + Ord> Default for WorkQueue<T> {
    fn default() -> Self {
        Self::new(Backoff::default())
    }
}

impl<T: Clone + Eq + Hash + Ord> WorkQueue<T> {
    /// An empty queue.
    pub fn new(backoff: Backoff) -> Self {
        let state = State {
            ready: VecDeque::new(),
            dirty: HashSet::new(),
            processing: HashMap::new(),
            waiting: HashMap::new(),
            adds: 0,
            retries: 0,
            waited: Durations::default(),
            worked: Durations::default(),
            delayed: BTreeSet::new(),
            delayed_at: HashMap::new(),
            failures: HashMap::new(),
            closed: false,
        };
        Self {
            state: Mutex::new(state),
            wake: Notify::new(),
            backoff,
        }
    }

    /// Puts the key at the end, unless it already waits.
    pub fn add(&self, key: T) {
        let mut state = self.state.lock();
        if state.add(key) {
            drop(state);
            self.wake.notify_one();
        }
    }

    /// Adds the key when `delay` has passed; an earlier time that is already planned stays.
    pub fn add_after(&self, key: T, delay: Duration) {
        self.state.lock().retries += 1;
        if delay.is_zero() {
            return self.add(key);
        }
        let at = Instant::now() + delay;
        let mut state = self.state.lock();
        match state.delayed_at.get(&key).copied() {
            Some(planned) if planned <= at => return,
            Some(planned) => {
                state.delayed.remove(&(planned, key.clone()));
            }
            None => {}
        }
        state.delayed_at.insert(key.clone(), at);
        state.delayed.insert((at, key));
        drop(state);
        // A sleeping worker has to shorten its sleep.
        self.wake.notify_one();
    }

    /// Adds the key after the back-off of its failures so far, and counts one more.
    pub fn add_rate_limited(&self, key: T) {
        let failures = {
            let mut state = self.state.lock();
            let count = state.failures.entry(key.clone()).or_insert(0);
            let before = *count;
            *count = count.saturating_add(1);
            before
        };
        self.add_after(key, self.backoff.delay(failures));
    }

    /// Forgets the failures of the key: its next back-off is the shortest again.
    pub fn forget(&self, key: &T) {
        self.state.lock().failures.remove(key);
    }

    /// The next key, which the caller must give back with [`WorkQueue::done`]; `None` after [`WorkQueue::close`].
    pub async fn next(&self) -> Option<T> {
        loop {
            let notified = self.wake.notified();
            let next_delayed = {
                let mut state = self.state.lock();
                if state.closed {
                    drop(state);
                    self.wake.notify_one();
                    return None;
                }
                state.release_due(Instant::now());
                if let Some(key) = state.ready.pop_front() {
                    state.dirty.remove(&key);
                    let now = Instant::now();
                    if let Some(since) = state.waiting.remove(&key) {
                        state.waited.add(now - since);
                    }
                    state.processing.insert(key.clone(), now);
                    let more = !state.ready.is_empty() || !state.delayed.is_empty();
                    drop(state);
                    if more {
                        self.wake.notify_one();
                    }
                    return Some(key);
                }
                state.delayed.first().map(|(at, _)| *at)
            };
            match next_delayed {
                Some(at) => tokio::select! {
                    () = notified => {}
                    () = tokio::time::sleep_until(at) => {}
                },
                None => notified.await,
            }
        }
    }

    /// Gives a key back; if it was added meanwhile, it is ready again.
    pub fn done(&self, key: &T) {
        let mut state = self.state.lock();
        if let Some(since) = state.processing.remove(key) {
            state.worked.add(since.elapsed());
        }
        if state.dirty.contains(key) {
            state.ready.push_back(key.clone());
            drop(state);
            self.wake.notify_one();
        }
    }

    /// Ends every waiting and later [`WorkQueue::next`].
    pub fn close(&self) {
        self.state.lock().closed = true;
        self.wake.notify_one();
    }

    /// How many keys are ready now.
    pub fn len(&self) -> usize {
        self.state.lock().ready.len()
    }

    /// Whether no key is ready now.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }
}

impl<T: Clone + Eq + Hash + Ord + Send + Sync> Told for WorkQueue<T> {
    fn figures(&self) -> Figures {
        let state = self.state.lock();
        let going_on = || state.processing.values().map(Instant::elapsed);
        Figures {
            depth: state.ready.len(),
            adds: state.adds,
            retries: state.retries,
            waited: state.waited.clone(),
            worked: state.worked.clone(),
            unfinished: going_on().sum(),
            longest: going_on().max().unwrap_or_default(),
        }
    }
}

impl<T: Clone + Eq + Hash + Ord> State<T> {
    /// Whether a worker has to be woken.
    fn add(&mut self, key: T) -> bool {
        if !self.dirty.insert(key.clone()) {
            return false;
        }
        self.adds += 1;
        self.waiting.insert(key.clone(), Instant::now());
        if self.processing.contains_key(&key) {
            return false;
        }
        self.ready.push_back(key);
        true
    }

    fn release_due(&mut self, now: Instant) {
        while self.delayed.first().is_some_and(|(at, _)| *at <= now) {
            if let Some((_, key)) = self.delayed.pop_first() {
                self.delayed_at.remove(&key);
                self.add(key);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[tokio::test(start_paused = true)]
    async fn a_key_added_twice_is_handed_out_once() {
        let queue = WorkQueue::default();
        queue.add(1);
        queue.add(1);
        queue.add(2);
        assert_eq!(queue.next().await, Some(1));
        assert_eq!(queue.next().await, Some(2));
        assert!(queue.is_empty());
    }

    #[tokio::test(start_paused = true)]
    async fn a_key_added_while_it_is_worked_on_comes_back_after_done() {
        let queue = WorkQueue::default();
        queue.add(1);
        assert_eq!(queue.next().await, Some(1));
        queue.add(1);
        assert!(queue.is_empty());
        queue.done(&1);
        assert_eq!(queue.next().await, Some(1));
    }

    #[tokio::test(start_paused = true)]
    async fn the_earliest_of_two_delays_counts() {
        let queue = WorkQueue::default();
        let start = Instant::now();
        queue.add_after(1, Duration::from_secs(60));
        queue.add_after(1, Duration::from_secs(5));
        queue.add_after(1, Duration::from_secs(90));
        assert_eq!(queue.next().await, Some(1));
        assert_eq!(start.elapsed().as_secs(), 5);
        queue.done(&1);
        assert!(
            tokio::time::timeout(Duration::from_secs(600), queue.next())
                .await
                .is_err()
        );
    }

    #[tokio::test(start_paused = true)]
    async fn failures_back_off_until_forgotten() {
        let backoff = Backoff {
            base: Duration::from_secs(1),
            max: Duration::from_secs(4),
        };
        let queue = WorkQueue::new(backoff);
        let mut waits = Vec::new();
        for _ in 0..4 {
            let start = Instant::now();
            queue.add_rate_limited(7);
            let key = queue.next().await.unwrap();
            waits.push(start.elapsed().as_secs());
            queue.done(&key);
        }
        assert_eq!(waits, [1, 2, 4, 4]);
        queue.forget(&7);
        let start = Instant::now();
        queue.add_rate_limited(7);
        queue.next().await.unwrap();
        assert_eq!(start.elapsed().as_secs(), 1);
    }

    #[tokio::test]
    async fn close_ends_every_waiting_worker() {
        let queue = std::sync::Arc::new(WorkQueue::<u8>::default());
        let workers: Vec<_> = (0..3)
            .map(|_| {
                let queue = queue.clone();
                tokio::spawn(async move { queue.next().await })
            })
            .collect();
        tokio::task::yield_now().await;
        queue.close();
        for worker in workers {
            assert_eq!(worker.await.unwrap(), None);
        }
    }

    proptest! {
        #[test]
        fn delays_never_shrink_and_never_pass_the_maximum(failures in 0u32..64) {
            let backoff = Backoff::default();
            prop_assert!(backoff.delay(failures) <= backoff.delay(failures + 1));
            prop_assert!(backoff.delay(failures) <= backoff.max);
        }

        #[test]
        fn keys_come_out_once_and_in_order_of_first_arrival(keys in proptest::collection::vec(0u8..16, 0..64)) {
            let queue = WorkQueue::default();
            for key in &keys {
                queue.add(*key);
            }
            let mut expected = Vec::new();
            for key in keys {
                if !expected.contains(&key) {
                    expected.push(key);
                }
            }
            let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build().unwrap();
            let got = runtime.block_on(async {
                let mut got = Vec::new();
                while !queue.is_empty() {
                    got.push(queue.next().await.unwrap());
                }
                got
            });
            prop_assert_eq!(got, expected);
        }
    }
}
