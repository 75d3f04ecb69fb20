//! The pods that wait for a node: those to be tried now, those that back off, and those that nothing has changed for.
//!
//! Pure: times come in, and what is due when goes out.

use std::cmp::Reverse;
use std::collections::{BTreeSet, HashMap};
use std::sync::Arc;
use std::time::Duration;

use k8s_openapi::api::core::v1::Pod;
use skiff_informer::ObjectKey;
use tokio::time::Instant;

use crate::framework::RejectedBy;

/// The wait after the first failed attempt …
const FIRST_BACKOFF: Duration = Duration::from_secs(1);
/// … which doubles up to this (`podMaxBackoffSeconds`).
const LONGEST_BACKOFF: Duration = Duration::from_secs(10);
/// A pod that no event has helped is tried again after this, in case an event was misjudged.
const LONGEST_UNSCHEDULABLE: Duration = Duration::from_secs(5 * 60);

/// Higher priority first, then who waits longer.
type Turn = (Reverse<i32>, u64, ObjectKey);

#[derive(Clone, Copy, Debug, PartialEq)]
enum Place {
    /// To be tried now.
    Active,
    /// To be tried at this time.
    Backoff(Instant),
    /// To be tried when something happens that may help, or at this time at the latest.
    Unschedulable { until: Instant, by: RejectedBy },
    /// Being tried: out of the queue, but not yet decided.
    InFlight,
}

#[derive(Clone, Debug)]
struct Entry {
    pod: Arc<Pod>,
    priority: i32,
    /// Its place among pods of equal priority.
    arrival: u64,
    attempts: u32,
    backoff_until: Instant,
    place: Place,
}

impl Entry {
    fn turn(&self, key: &ObjectKey) -> Turn {
        (Reverse(self.priority), self.arrival, key.clone())
    }
}

/// The queue.
#[derive(Debug, Default)]
pub(crate) struct Queue {
    entries: HashMap<ObjectKey, Entry>,
    active: BTreeSet<Turn>,
    /// All pods in `Backoff` and `Unschedulable`, by the time when they are due.
    timed: BTreeSet<(Instant, ObjectKey)>,
    unschedulable: BTreeSet<ObjectKey>,
    arrivals: u64,
}

fn priority(pod: &Pod) -> i32 {
    pod.spec.as_ref().and_then(|spec| spec.priority).unwrap_or(0)
}

fn backoff(attempts: u32) -> Duration {
    let doublings = attempts.saturating_sub(1).min(16);
    FIRST_BACKOFF.saturating_mul(1 << doublings).min(LONGEST_BACKOFF)
}

impl Queue {
    /// A pod waits for a node, or has changed. A change of what it asks for gives it a new try.
    pub(crate) fn set(&mut self, pod: Arc<Pod>, now: Instant) {
        let key = ObjectKey::of(&pod.metadata);
        let Some(entry) = self.entries.get_mut(&key) else {
            return self.add(key, pod, now);
        };
        if entry.pod.metadata.uid != pod.metadata.uid {
            self.remove(&key);
            return self.add(key, pod, now);
        }
        let asks_otherwise = entry.pod.spec != pod.spec || entry.pod.metadata.labels != pod.metadata.labels;
        let new_priority = priority(&pod);
        entry.pod = pod;
        if entry.priority != new_priority {
            let place = entry.place;
            self.take_out(&key);
            if let Some(entry) = self.entries.get_mut(&key) {
                entry.priority = new_priority;
            }
            self.put(&key, place);
        }
        let waits = self
            .entries
            .get(&key)
            .is_some_and(|entry| matches!(entry.place, Place::Unschedulable { .. }));
        if asks_otherwise && waits {
            self.retry(&key, now);
        }
    }

    fn add(&mut self, key: ObjectKey, pod: Arc<Pod>, now: Instant) {
        self.arrivals += 1;
        let entry = Entry {
            priority: priority(&pod),
            pod,
            arrival: self.arrivals,
            attempts: 0,
            backoff_until: now,
            place: Place::InFlight,
        };
        self.entries.insert(key.clone(), entry);
        self.put(&key, Place::Active);
    }

    /// The pod is gone, or has a node.
    pub(crate) fn remove(&mut self, key: &ObjectKey) {
        self.take_out(key);
        self.entries.remove(key);
    }

    /// The pod whose turn it is; to be given back with [`Queue::remove`], [`Queue::failed`] or [`Queue::refused`].
    pub(crate) fn pop(&mut self, now: Instant) -> Option<Arc<Pod>> {
        self.release_due(now);
        let (_, _, key) = self.active.pop_first()?;
        let entry = self.entries.get_mut(&key)?;
        entry.place = Place::InFlight;
        entry.attempts = entry.attempts.saturating_add(1);
        entry.backoff_until = now + backoff(entry.attempts);
        Some(entry.pod.clone())
    }

    /// No node can have the pod: it waits for something to change.
    pub(crate) fn refused(&mut self, key: &ObjectKey, by: RejectedBy, now: Instant) {
        self.take_out(key);
        self.put(
            key,
            Place::Unschedulable {
                until: now + LONGEST_UNSCHEDULABLE,
                by,
            },
        );
    }

    /// The attempt failed for another reason: it is repeated after a while.
    pub(crate) fn failed(&mut self, key: &ObjectKey, now: Instant) {
        self.retry(key, now);
    }

    /// Gives those refused pods another try that an event may help.
    pub(crate) fn wake(&mut self, now: Instant, helps: impl Fn(&Arc<Pod>, RejectedBy) -> bool) {
        let helped: Vec<ObjectKey> = self
            .unschedulable
            .iter()
            .filter(|key| match self.entries.get(key) {
                Some(Entry {
                    pod,
                    place: Place::Unschedulable { by, .. },
                    ..
                }) => helps(pod, *by),
                _ => false,
            })
            .cloned()
            .collect();
        for key in helped {
            self.retry(&key, now);
        }
    }

    /// Whether any pod waits for something to change.
    pub(crate) fn has_refused(&self) -> bool {
        !self.unschedulable.is_empty()
    }

    /// When the next pod is due that does not wait for an event.
    pub(crate) fn next_due(&self) -> Option<Instant> {
        self.timed.first().map(|(at, _)| *at)
    }

    fn retry(&mut self, key: &ObjectKey, now: Instant) {
        self.take_out(key);
        let Some(entry) = self.entries.get(key) else {
            return;
        };
        let until = entry.backoff_until;
        self.put(
            key,
            if until <= now {
                Place::Active
            } else {
                Place::Backoff(until)
            },
        );
    }

    fn release_due(&mut self, now: Instant) {
        while self.timed.first().is_some_and(|(at, _)| *at <= now) {
            if let Some((_, key)) = self.timed.pop_first() {
                self.unschedulable.remove(&key);
                self.put(&key, Place::Active);
            }
        }
    }

    fn put(&mut self, key: &ObjectKey, place: Place) {
        let Some(entry) = self.entries.get_mut(key) else {
            return;
        };
        entry.place = place;
        match place {
            Place::Active => {
                self.active.insert(entry.turn(key));
            }
            Place::Backoff(at) => {
                self.timed.insert((at, key.clone()));
            }
            Place::Unschedulable { until, .. } => {
                self.timed.insert((until, key.clone()));
                self.unschedulable.insert(key.clone());
            }
            Place::InFlight => {}
        }
    }

    fn take_out(&mut self, key: &ObjectKey) {
        let Some(entry) = self.entries.get_mut(key) else {
            return;
        };
        match entry.place {
            Place::Active => {
                self.active.remove(&entry.turn(key));
            }
            Place::Backoff(at) => {
                self.timed.remove(&(at, key.clone()));
            }
            Place::Unschedulable { until, .. } => {
                self.timed.remove(&(until, key.clone()));
                self.unschedulable.remove(key);
            }
            Place::InFlight => {}
        }
        entry.place = Place::InFlight;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use k8s_openapi::api::core::v1::PodSpec;
    use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
    use proptest::prelude::*;

    fn pod(name: &str, priority: i32) -> Arc<Pod> {
        Arc::new(Pod {
            metadata: ObjectMeta {
                namespace: Some("default".into()),
                name: Some(name.into()),
                uid: Some(name.into()),
                ..ObjectMeta::default()
            },
            spec: Some(PodSpec {
                priority: Some(priority),
                ..PodSpec::default()
            }),
            status: None,
        })
    }

    fn key(name: &str) -> ObjectKey {
        ObjectKey::new("default", name)
    }

    fn name(pod: Option<Arc<Pod>>) -> Option<String> {
        pod.and_then(|pod| pod.metadata.name.clone())
    }

    fn seconds(seconds: u64) -> Duration {
        Duration::from_secs(seconds)
    }

    #[test]
    fn higher_priority_comes_first_then_who_came_first() {
        let now = Instant::now();
        let mut queue = Queue::default();
        for (name, priority) in [("a", 0), ("b", 5), ("c", 0), ("d", 5)] {
            queue.set(pod(name, priority), now);
        }
        let order: Vec<_> = std::iter::from_fn(|| name(queue.pop(now))).collect();
        assert_eq!(order, ["b", "d", "a", "c"]);
    }

    #[test]
    fn failures_back_off_from_one_to_ten_seconds() {
        let mut now = Instant::now();
        let mut queue = Queue::default();
        queue.set(pod("a", 0), now);
        for wait in [1, 2, 4, 8, 10, 10] {
            assert!(queue.pop(now).is_some());
            queue.failed(&key("a"), now);
            assert_eq!(queue.next_due(), Some(now + seconds(wait)));
            now += seconds(wait) - Duration::from_millis(1);
            assert!(queue.pop(now).is_none());
            now += Duration::from_millis(1);
        }
    }

    #[test]
    fn a_refused_pod_waits_for_an_event_that_helps_it() {
        let start = Instant::now();
        let mut queue = Queue::default();
        queue.set(pod("a", 0), start);
        queue.set(pod("b", 0), start);
        for name in ["a", "b"] {
            assert!(queue.pop(start).is_some());
            queue.refused(&key(name), RejectedBy::default(), start);
        }
        let later = start + seconds(60);
        assert!(queue.pop(later).is_none());
        queue.wake(later, |pod, _| pod.metadata.name.as_deref() == Some("b"));
        assert_eq!(name(queue.pop(later)).as_deref(), Some("b"));
        assert!(queue.pop(later).is_none());
    }

    #[test]
    fn an_event_does_not_shorten_the_back_off() {
        let now = Instant::now();
        let mut queue = Queue::default();
        queue.set(pod("a", 0), now);
        assert!(queue.pop(now).is_some());
        queue.refused(&key("a"), RejectedBy::default(), now);
        queue.wake(now, |_, _| true);
        assert!(queue.pop(now).is_none());
        assert!(queue.pop(now + seconds(1)).is_some());
    }

    #[test]
    fn after_five_minutes_a_refused_pod_is_tried_anyway() {
        let now = Instant::now();
        let mut queue = Queue::default();
        queue.set(pod("a", 0), now);
        assert!(queue.pop(now).is_some());
        queue.refused(&key("a"), RejectedBy::default(), now);
        assert!(queue.pop(now + seconds(299)).is_none());
        assert!(queue.pop(now + seconds(300)).is_some());
        assert!(!queue.has_refused());
    }

    #[test]
    fn a_pod_that_asks_for_less_is_tried_again_but_a_new_status_changes_nothing() {
        let now = Instant::now();
        let mut queue = Queue::default();
        queue.set(pod("a", 0), now);
        assert!(queue.pop(now).is_some());
        queue.refused(&key("a"), RejectedBy::default(), now);
        let later = now + seconds(30);
        let mut changed = Pod::clone(&pod("a", 0));
        changed.status = Some(Default::default());
        queue.set(Arc::new(changed.clone()), later);
        assert!(queue.pop(later).is_none());
        changed.spec.as_mut().unwrap().tolerations = Some(vec![Default::default()]);
        queue.set(Arc::new(changed), later);
        assert!(queue.pop(later).is_some());
    }

    #[test]
    fn a_pod_that_is_gone_never_comes_out() {
        let now = Instant::now();
        let mut queue = Queue::default();
        queue.set(pod("a", 0), now);
        queue.remove(&key("a"));
        assert!(queue.pop(now).is_none());
        queue.set(pod("b", 0), now);
        assert!(queue.pop(now).is_some());
        queue.remove(&key("b"));
        queue.refused(&key("b"), RejectedBy::default(), now);
        assert!(queue.next_due().is_none() && queue.entries.is_empty());
    }

    #[derive(Clone, Debug)]
    enum Step {
        Set(u8, i32),
        Remove(u8),
        PopAndRefuse,
        PopAndFail,
        Wake,
        Wait(u64),
    }

    fn any_step() -> impl Strategy<Value = Step> {
        prop_oneof![
            (0u8..6, 0i32..3).prop_map(|(name, priority)| Step::Set(name, priority)),
            (0u8..6).prop_map(Step::Remove),
            Just(Step::PopAndRefuse),
            Just(Step::PopAndFail),
            Just(Step::Wake),
            (0u64..20).prop_map(Step::Wait),
        ]
    }

    proptest! {
        #[test]
        fn no_pod_is_lost_and_none_comes_twice(steps in prop::collection::vec(any_step(), 0..80)) {
            let mut now = Instant::now();
            let mut queue = Queue::default();
            let mut present = BTreeSet::new();
            for step in steps {
                match step {
                    Step::Set(n, priority) => {
                        queue.set(pod(&n.to_string(), priority), now);
                        present.insert(n.to_string());
                    }
                    Step::Remove(n) => {
                        queue.remove(&key(&n.to_string()));
                        present.remove(&n.to_string());
                    }
                    Step::PopAndRefuse => if let Some(name) = name(queue.pop(now)) {
                        queue.refused(&key(&name), RejectedBy::default(), now);
                    },
                    Step::PopAndFail => if let Some(name) = name(queue.pop(now)) {
                        queue.failed(&key(&name), now);
                    },
                    Step::Wake => queue.wake(now, |_, _| true),
                    Step::Wait(n) => now += seconds(n),
                }
            }
            now += LONGEST_UNSCHEDULABLE;
            let mut out = BTreeSet::new();
            let mut last = i32::MAX;
            while let Some(pod) = queue.pop(now) {
                prop_assert!(priority(&pod) <= last);
                last = priority(&pod);
                prop_assert!(out.insert(name(Some(pod)).unwrap()));
            }
            prop_assert_eq!(out, present);
            prop_assert!(queue.active.is_empty() && queue.timed.is_empty() && queue.unschedulable.is_empty());
        }
    }
}
