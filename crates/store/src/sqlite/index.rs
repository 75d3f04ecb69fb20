//! Which revision holds each key's state, now and at every revision since the compaction.
//!
//! It is in memory, as etcd's is, and is rebuilt from the `changes` table when the file is opened: the file itself then
//! only ever grows at its end, and a compare-and-swap is decided without reading it.

use std::collections::{BTreeMap, VecDeque};
use std::ops::Bound;
use std::sync::Arc;

use crate::Revision;

/// The keys in byte order, each with its revisions.
#[derive(Debug, Default)]
pub(super) struct Index {
    keys: BTreeMap<Arc<str>, VecDeque<Mark>>,
    /// In the order of `since`.
    garbage: VecDeque<Garbage>,
}

/// A key was written or deleted by a revision.
#[derive(Clone, Copy, Debug)]
struct Mark {
    revision: Revision,
    deleted: bool,
}

/// What a revision wrote is of no use to a reader at revision `since` or later.
#[derive(Debug)]
struct Garbage {
    since: Revision,
    revision: Revision,
    key: Arc<str>,
}

/// Some of the keys of a range.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Walk {
    /// The keys that were there, and the revisions that hold their states.
    pub(super) found: Vec<(Arc<str>, Revision)>,
    /// Where to go on; `None` at the end of the range.
    pub(super) next: Option<Arc<str>>,
}

impl Index {
    /// Notes what a revision did. Revisions come in order.
    pub(super) fn apply(&mut self, key: &Arc<str>, revision: Revision, deleted: bool) {
        // The key's text is shared by all that speak of it.
        let key = self
            .keys
            .get_key_value(key)
            .map_or(key, |(known, _)| known)
            .clone();
        let marks = self.keys.entry(key.clone()).or_default();
        if let Some(last) = marks.back().filter(|last| !last.deleted) {
            self.garbage.push_back(Garbage {
                since: revision,
                revision: last.revision,
                key: key.clone(),
            });
        }
        marks.push_back(Mark { revision, deleted });
        if deleted {
            self.garbage.push_back(Garbage {
                since: revision,
                revision,
                key,
            });
        }
    }

    /// The index's own copy of a key's text, and the revision that holds its present state.
    pub(super) fn head(&self, key: &str) -> Option<(&Arc<str>, Revision)> {
        let (key, marks) = self.keys.get_key_value(key)?;
        let last = marks.back().filter(|last| !last.deleted)?;
        Some((key, last.revision))
    }

    /// Walks over keys below a prefix from one on, at most `steps` of them, and finds their states at a revision, which
    /// must not be compacted.
    pub(super) fn walk(&self, prefix: &str, from: Bound<&str>, at: Revision, steps: usize) -> Walk {
        let mut walk = Walk::default();
        let mut last: Option<&Arc<str>> = None;
        let range = self.keys.range::<str, _>((from, Bound::Unbounded));
        for (step, (key, marks)) in range.take_while(|(key, _)| key.starts_with(prefix)).enumerate() {
            if step == steps {
                walk.next = last.cloned();
                break;
            }
            let upto = marks.partition_point(|mark| mark.revision <= at);
            let mark = upto.checked_sub(1).and_then(|i| marks.get(i));
            if let Some(mark) = mark.filter(|mark| !mark.deleted) {
                walk.found.push((key.clone(), mark.revision));
            }
            last = Some(key);
        }
        walk
    }

    /// The first revisions that nobody can read once everything before `compacted` is forgotten.
    pub(super) fn garbage(&self, compacted: Revision, limit: usize) -> impl Iterator<Item = Revision> {
        let due = self
            .garbage
            .iter()
            .take_while(move |garbage| garbage.since <= compacted);
        due.take(limit).map(|garbage| garbage.revision)
    }

    /// Forgets the first `count` revisions that [`Index::garbage`] told.
    pub(super) fn forget(&mut self, count: usize) {
        for garbage in self.garbage.drain(..count.min(self.garbage.len())) {
            let Some(marks) = self.keys.get_mut(&garbage.key) else {
                continue;
            };
            // A key's marks become garbage in their own order.
            debug_assert_eq!(marks.front().map(|mark| mark.revision), Some(garbage.revision));
            marks.pop_front();
            if marks.is_empty() {
                self.keys.remove(&garbage.key);
            }
        }
        // A large compaction must not keep its memory for ever.
        if self.garbage.len() < self.garbage.capacity() / 4 {
            self.garbage.shrink_to(self.garbage.len() * 2);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn index(changes: &[(&str, bool)]) -> Index {
        let mut index = Index::default();
        for (revision, (key, deleted)) in (2..).zip(changes) {
            index.apply(&Arc::from(*key), revision, *deleted);
        }
        index
    }

    fn states(index: &Index, prefix: &str, at: Revision) -> Vec<(String, Revision)> {
        let walk = index.walk(prefix, Bound::Included(prefix), at, usize::MAX);
        assert_eq!(walk.next, None);
        walk.found
            .into_iter()
            .map(|(key, revision)| (key.to_string(), revision))
            .collect()
    }

    fn owned(states: &[(&str, Revision)]) -> Vec<(String, Revision)> {
        states
            .iter()
            .map(|(key, revision)| (key.to_string(), *revision))
            .collect()
    }

    #[test]
    fn each_revision_shows_the_states_of_its_moment() {
        let index = index(&[
            ("/a/1", false),
            ("/a/2", false),
            ("/a/1", false),
            ("/a/1", true),
            ("/b", false),
        ]);
        for (at, expected) in [
            (1, &[][..]),
            (2, &[("/a/1", 2)]),
            (3, &[("/a/1", 2), ("/a/2", 3)]),
            (4, &[("/a/1", 4), ("/a/2", 3)]),
            (5, &[("/a/2", 3)]),
            (6, &[("/a/2", 3)]),
        ] {
            assert_eq!(states(&index, "/a/", at), owned(expected), "at {at}");
        }
        assert_eq!(index.head("/a/1"), None);
        assert_eq!(index.head("/a/2").map(|(_, revision)| revision), Some(3));
        assert_eq!(states(&index, "", 6), owned(&[("/a/2", 3), ("/b", 6)]));
    }

    #[test]
    fn a_walk_goes_on_where_it_stopped() {
        let index = index(&[("/a", false), ("/b", false), ("/c", false), ("/d", false)]);
        let first = index.walk("/", Bound::Included("/"), 5, 3);
        assert_eq!(first.found.len(), 3);
        let next = first.next.unwrap();
        assert_eq!(&*next, "/c");
        let second = index.walk("/", Bound::Excluded(&next), 5, 3);
        assert_eq!(second.found.len(), 1);
        assert_eq!(second.next, None);
    }

    #[test]
    fn compaction_forgets_what_nobody_can_read_and_nothing_else() {
        // 2: a, 3: b, 4: a again, 5: a deleted, 6: a anew, 7: b deleted
        let changes = [
            ("a", false),
            ("b", false),
            ("a", false),
            ("a", true),
            ("a", false),
            ("b", true),
        ];
        for (compacted, garbage) in [
            (1, &[][..]),
            (3, &[]),
            (4, &[2]),
            (5, &[2, 4, 5]),
            (6, &[2, 4, 5]),
            (7, &[2, 4, 5, 3, 7]),
        ] {
            let mut index = index(&changes);
            let before: Vec<_> = (compacted..=7).map(|at| states(&index, "", at)).collect();
            let found: Vec<_> = index.garbage(compacted, usize::MAX).collect();
            assert_eq!(found, garbage, "compacted at {compacted}");
            index.forget(found.len());
            let after: Vec<_> = (compacted..=7).map(|at| states(&index, "", at)).collect();
            assert_eq!(before, after, "compacted at {compacted}");
        }
        let mut index = index(&changes);
        index.forget(5);
        assert_eq!(index.keys.len(), 1, "a deleted key is gone");
    }
}
