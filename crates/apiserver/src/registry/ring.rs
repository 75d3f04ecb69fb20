//! The recent changes of a kind, bounded: what watches read, each at its own place.

use std::collections::VecDeque;
use std::sync::{Arc, OnceLock};
use std::time::{Duration, Instant};

use super::Entry;

/// Changes younger than this are kept while there is room, so that a client can list, then watch.
const FRESH: Duration = Duration::from_secs(90);
/// So many changes are kept however old they are.
const LEAST: usize = 128;
/// And never more than so many.
const MOST: usize = 16_384;

/// One change of one object.
#[derive(Debug)]
pub(super) struct Change {
    /// The revision that made it.
    pub(super) revision: i64,
    /// The object before it; `None` when it was created.
    pub(super) previous: Option<Arc<Entry>>,
    /// The object after it; `None` when it was deleted.
    pub(super) current: Option<Arc<Entry>>,
    at: Instant,
    deleted: OnceLock<Arc<Entry>>,
}

impl Change {
    pub(super) fn new(
        revision: i64,
        previous: Option<Arc<Entry>>,
        current: Option<Arc<Entry>>,
        at: Instant,
    ) -> Self {
        Self {
            revision,
            previous,
            current,
            at,
            deleted: OnceLock::new(),
        }
    }

    /// What a watch shows when the object is gone, or gone from its sight: the state before, at this revision. Made once
    /// for all watches.
    pub(super) fn deleted(&self) -> Option<Arc<Entry>> {
        let previous = self.previous.as_ref()?;
        let made = self
            .deleted
            .get_or_init(|| Arc::new(previous.deleted_at(self.revision)));
        Some(made.clone())
    }
}

/// The changes asked for are no longer all kept.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct TooOld {
    /// All changes after this revision are kept.
    pub(super) floor: i64,
}

/// The recent changes, in order. A place in them is a count of all changes before it, and stays what it is when old
/// changes are dropped.
#[derive(Debug, Default)]
pub(super) struct Ring {
    changes: VecDeque<Arc<Change>>,
    first: u64,
    floor: i64,
}

impl Ring {
    /// Forgets everything; changes after `floor` will come.
    pub(super) fn restart(&mut self, floor: i64) {
        self.first = self.end();
        self.changes.clear();
        // A place at the old end is behind a gap too: what was missed before the restart never came through here.
        self.first += 1;
        self.floor = floor;
    }

    pub(super) fn push(&mut self, change: Arc<Change>) {
        let now = change.at;
        self.changes.push_back(change);
        while let Some(oldest) = self.changes.front() {
            let full = self.changes.len() > MOST;
            let stale = self.changes.len() > LEAST && now.duration_since(oldest.at) > FRESH;
            if !full && !stale {
                break;
            }
            self.floor = oldest.revision;
            self.first += 1;
            self.changes.pop_front();
        }
    }

    /// The place after the newest change.
    pub(super) fn end(&self) -> u64 {
        self.first + self.changes.len() as u64
    }

    /// The place of the first change after a revision.
    pub(super) fn place_after(&self, revision: i64) -> Result<u64, TooOld> {
        if revision < self.floor {
            return Err(TooOld { floor: self.floor });
        }
        let before = self.changes.partition_point(|change| change.revision <= revision);
        Ok(self.first + before as u64)
    }

    /// The changes after a revision.
    pub(super) fn since(&self, revision: i64) -> Result<impl Iterator<Item = &Arc<Change>>, TooOld> {
        let skip = self.place_after(revision)? - self.first;
        let skip = usize::try_from(skip).unwrap_or(usize::MAX);
        Ok(self.changes.iter().skip(skip))
    }

    /// At most `most` changes from a place on.
    pub(super) fn read(&self, place: u64, most: usize) -> Result<Vec<Arc<Change>>, TooOld> {
        let skip = place
            .checked_sub(self.first)
            .and_then(|skip| usize::try_from(skip).ok())
            .ok_or(TooOld { floor: self.floor })?;
        let end = skip.saturating_add(most).min(self.changes.len());
        Ok(self.changes.range(skip.min(end)..end).cloned().collect())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn change(revision: i64, at: Instant) -> Arc<Change> {
        Arc::new(Change::new(revision, None, None, at))
    }

    fn revisions(changes: &[Arc<Change>]) -> Vec<i64> {
        changes.iter().map(|change| change.revision).collect()
    }

    #[test]
    fn a_place_stays_what_it_is_until_it_is_dropped() {
        let start = Instant::now();
        let mut ring = Ring::default();
        ring.restart(10);
        let place = ring.place_after(10).unwrap();
        for revision in 11..=20 {
            ring.push(change(revision, start));
        }
        assert_eq!(revisions(&ring.read(place, 3).unwrap()), [11, 12, 13]);
        assert_eq!(
            revisions(&ring.read(ring.place_after(18).unwrap(), 9).unwrap()),
            [19, 20]
        );
        assert_eq!(revisions(&ring.read(ring.end(), 9).unwrap()), [0; 0]);
        assert_eq!(ring.place_after(9), Err(TooOld { floor: 10 }));
        assert_eq!(ring.place_after(99), Ok(ring.end()));

        for revision in 21..=20 + MOST as i64 {
            ring.push(change(revision, start));
        }
        assert_eq!(ring.read(place, 3).unwrap_err(), TooOld { floor: 20 });
        assert_eq!(ring.place_after(19), Err(TooOld { floor: 20 }));
        assert_eq!(revisions(&ring.read(place + 10, 1).unwrap()), [21]);
    }

    #[test]
    fn old_changes_go_but_a_few() {
        let start = Instant::now();
        let mut ring = Ring::default();
        for revision in 1..=1000 {
            ring.push(change(revision, start));
        }
        assert_eq!(ring.changes.len(), 1000, "fresh changes stay");
        ring.push(change(1001, start + FRESH * 2));
        assert_eq!(ring.changes.len(), LEAST);
        assert_eq!(ring.floor, 1001 - LEAST as i64);
    }

    #[test]
    fn a_restart_leaves_no_place_valid() {
        let mut ring = Ring::default();
        ring.push(change(5, Instant::now()));
        let (old, end) = (ring.place_after(1).unwrap(), ring.end());
        ring.restart(9);
        assert_eq!(ring.read(old, 1).unwrap_err(), TooOld { floor: 9 });
        assert_eq!(ring.read(end, 1).unwrap_err(), TooOld { floor: 9 });
        assert_eq!(ring.place_after(9), Ok(ring.end()));
    }
}
