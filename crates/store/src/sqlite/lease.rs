//! The leases that live: when each ends, and which keys hang on it.
//!
//! A lease ends `ttl` after it was granted or last kept alive. Its deadline is kept in the file as wall-clock time, so
//! a restart does not lengthen it, and one that passed while the store was closed ends when it is opened. While it is
//! open only the monotonic clock counts; should the wall clock have gone back between, no lease gets more than its `ttl`.

use std::collections::{BTreeSet, HashMap};
use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use super::schema::LeaseRow;
use crate::{Event, LeaseId};

/// The longest a lease can be, as etcd's (285 years).
const MAX_TTL: Duration = Duration::from_secs(9_000_000_000);

/// A moment on both clocks.
#[derive(Clone, Copy, Debug)]
pub(super) struct Now {
    pub(super) monotonic: Instant,
    pub(super) wall: SystemTime,
}

impl Now {
    pub(super) fn read() -> Self {
        Self {
            monotonic: Instant::now(),
            wall: SystemTime::now(),
        }
    }

    /// Milliseconds since 1970.
    fn millis(&self) -> i64 {
        match self.wall.duration_since(UNIX_EPOCH) {
            Ok(since) => millis(since),
            Err(before) => -millis(before.duration()),
        }
    }

    /// The end of a lease that begins now, in milliseconds since 1970.
    pub(super) fn deadline(&self, ttl: Duration) -> i64 {
        self.millis().saturating_add(millis(ttl))
    }

    fn after(&self, time: Duration) -> Instant {
        // A clock that cannot count so far ends the lease as late as it can.
        let mut time = time;
        loop {
            match self.monotonic.checked_add(time) {
                Some(end) => return end,
                None => time /= 2,
            }
        }
    }
}

/// In whole milliseconds.
pub(super) fn millis(time: Duration) -> i64 {
    i64::try_from(time.as_millis()).unwrap_or(i64::MAX)
}

/// A lease's time as it is kept: at least a millisecond, at most [`MAX_TTL`].
pub(super) fn bounded(ttl: Duration) -> Duration {
    ttl.clamp(Duration::from_millis(1), MAX_TTL)
}

#[derive(Debug)]
struct Lease {
    ttl: Duration,
    deadline: Instant,
    keys: BTreeSet<Arc<str>>,
}

/// All of them. Belongs to the writer alone, and shows only what is committed.
#[derive(Debug, Default)]
pub(super) struct Leases {
    leases: HashMap<LeaseId, Lease>,
    deadlines: BTreeSet<(Instant, LeaseId)>,
}

impl Leases {
    /// The leases of a file that has just been opened, as yet without their keys.
    pub(super) fn load(rows: Vec<LeaseRow>, now: Now) -> Self {
        let mut leases = Self::default();
        for row in rows {
            let ttl = Duration::from_millis(u64::try_from(row.ttl).unwrap_or(0));
            let left = u64::try_from(row.deadline.saturating_sub(now.millis())).unwrap_or(0);
            let left = Duration::from_millis(left).min(ttl);
            leases.insert(row.id, ttl, now.after(left));
        }
        leases
    }

    fn insert(&mut self, id: LeaseId, ttl: Duration, deadline: Instant) {
        self.deadlines.insert((deadline, id));
        self.leases.insert(
            id,
            Lease {
                ttl,
                deadline,
                keys: BTreeSet::new(),
            },
        );
    }

    /// A lease was granted.
    pub(super) fn grant(&mut self, id: LeaseId, ttl: Duration, now: Now) {
        self.insert(id, ttl, now.after(ttl));
    }

    /// A lease was kept alive.
    pub(super) fn renew(&mut self, id: LeaseId, now: Now) {
        if let Some(lease) = self.leases.get_mut(&id) {
            self.deadlines.remove(&(lease.deadline, id));
            lease.deadline = now.after(lease.ttl);
            self.deadlines.insert((lease.deadline, id));
        }
    }

    /// A lease has ended.
    pub(super) fn remove(&mut self, id: LeaseId) {
        if let Some(lease) = self.leases.remove(&id) {
            self.deadlines.remove(&(lease.deadline, id));
        }
    }

    /// A key changed, and perhaps the lease it hangs on.
    pub(super) fn apply(&mut self, event: &Event) {
        if let Some(kv) = &event.previous
            && let Some(lease) = kv.lease.and_then(|id| self.leases.get_mut(&id))
        {
            lease.keys.remove(&kv.key);
        }
        if let Some(kv) = &event.current
            && let Some(id) = kv.lease
        {
            self.attach(id, kv.key.clone());
        }
    }

    /// A key hangs on a lease.
    pub(super) fn attach(&mut self, id: LeaseId, key: Arc<str>) {
        if let Some(lease) = self.leases.get_mut(&id) {
            lease.keys.insert(key);
        }
    }

    /// The lease's time, when there is such a lease.
    pub(super) fn ttl(&self, id: LeaseId) -> Option<Duration> {
        self.leases.get(&id).map(|lease| lease.ttl)
    }

    /// The keys that hang on a lease.
    pub(super) fn keys(&self, id: LeaseId) -> impl Iterator<Item = &Arc<str>> {
        self.leases.get(&id).into_iter().flat_map(|lease| &lease.keys)
    }

    /// When the first lease ends.
    pub(super) fn next_deadline(&self) -> Option<Instant> {
        self.deadlines.first().map(|(deadline, _)| *deadline)
    }

    /// The leases that have ended.
    pub(super) fn due(&self, now: Instant) -> Vec<LeaseId> {
        self.deadlines
            .iter()
            .take_while(|(deadline, _)| *deadline <= now)
            .map(|(_, id)| *id)
            .collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn row(id: LeaseId, ttl: i64, deadline: i64) -> LeaseRow {
        LeaseRow { id, ttl, deadline }
    }

    #[test]
    fn a_deadline_survives_a_restart_but_never_exceeds_the_ttl() {
        let now = Now::read();
        let wall = now.millis();
        let leases = Leases::load(
            vec![
                row(1, 10_000, wall - 1),
                row(2, 10_000, wall + 4_000),
                // The wall clock went back by a day.
                row(3, 10_000, wall + 86_400_000),
            ],
            now,
        );
        let at = |millis| now.monotonic + Duration::from_millis(millis);
        assert_eq!(leases.next_deadline(), Some(now.monotonic));
        assert_eq!(leases.due(at(0)), [1]);
        assert_eq!(leases.due(at(3_999)), [1]);
        assert_eq!(leases.due(at(4_000)), [1, 2]);
        assert_eq!(leases.due(at(9_999)), [1, 2]);
        assert_eq!(leases.due(at(10_000)), [1, 2, 3]);
    }

    #[test]
    fn keeping_alive_moves_the_deadline() {
        let now = Now::read();
        let later = Now {
            monotonic: now.monotonic + Duration::from_secs(7),
            wall: now.wall,
        };
        let mut leases = Leases::default();
        leases.grant(1, Duration::from_secs(10), now);
        leases.renew(1, later);
        leases.renew(2, later);
        assert!(leases.due(now.monotonic + Duration::from_secs(16)).is_empty());
        assert_eq!(leases.due(now.monotonic + Duration::from_secs(17)), [1]);
        leases.remove(1);
        assert_eq!(leases.next_deadline(), None);
    }

    #[test]
    fn the_longest_ttl_is_a_deadline_too() {
        let now = Now::read();
        let mut leases = Leases::default();
        leases.grant(1, bounded(Duration::MAX), now);
        assert!(leases.next_deadline() > Some(now.monotonic + Duration::from_secs(86_400 * 365)));
        assert!(now.deadline(bounded(Duration::MAX)) > now.millis());
    }
}
