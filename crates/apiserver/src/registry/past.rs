//! A kind's objects as they were: the present ones, with the changes since then taken back.
//!
//! The pages of a list show one state, while writes go on. The recent changes name what each object was before, so the
//! cache need not keep old states, and the store need not be asked.

use std::collections::BTreeMap;
use std::ops::Bound;
use std::sync::Arc;

use super::entry::Entry;
use super::ring::{Ring, TooOld};

/// An object with its key below its kind's prefix.
pub(super) type Keyed<'a> = (&'a str, &'a Arc<Entry>);

/// A range of keys.
pub(super) type KeyRange = (Bound<String>, Bound<String>);

/// A range as maps want it.
pub(super) fn borrowed((from, to): &KeyRange) -> (Bound<&str>, Bound<&str>) {
    (from.as_ref().map(String::as_str), to.as_ref().map(String::as_str))
}

/// Whether a range can have no key. A map takes no range that ends before it begins, and where a page goes on is the
/// client's word.
pub(super) fn empty(range: &KeyRange) -> bool {
    matches!(
        borrowed(range),
        (Bound::Included(from) | Bound::Excluded(from), Bound::Excluded(to)) if from >= to
    )
}

/// The objects that have changed since a revision, as they were at it; `None` are those that were not there.
#[derive(Debug, Default)]
pub(super) struct Past(BTreeMap<String, Option<Arc<Entry>>>);

impl Past {
    /// What the changes after a revision have changed.
    pub(super) fn after(ring: &Ring, revision: i64) -> Result<Self, TooOld> {
        let mut past = BTreeMap::new();
        for change in ring.since(revision)? {
            let Some(entry) = change.previous.as_ref().or(change.current.as_ref()) else {
                continue;
            };
            // The first change after the revision knows what was there at it.
            past.entry(entry.below())
                .or_insert_with(|| change.previous.clone());
        }
        Ok(Self(past))
    }

    /// The objects of a range that matched, given the present ones that do.
    pub(super) fn over<'a>(
        &'a self,
        present: impl Iterator<Item = Keyed<'a>> + 'a,
        range: &KeyRange,
        matched: impl Fn(&Entry) -> bool + 'a,
    ) -> Box<dyn Iterator<Item = &'a Arc<Entry>> + 'a> {
        if self.0.is_empty() || empty(range) {
            return Box::new(present.map(|(_, entry)| entry));
        }
        let mut then = self
            .0
            .range::<str, _>(borrowed(range))
            .filter_map(|(key, entry)| Some((key.as_str(), entry.as_ref()?)))
            .filter(move |(_, entry)| matched(entry))
            .peekable();
        let mut now = present.filter(|(key, _)| !self.0.contains_key(*key)).peekable();
        Box::new(std::iter::from_fn(move || {
            let earlier = match (then.peek(), now.peek()) {
                (Some((then, _)), Some((now, _))) => then < now,
                (then, _) => then.is_some(),
            };
            let (_, entry) = if earlier { then.next() } else { now.next() }?;
            Some(entry)
        }))
    }
}
