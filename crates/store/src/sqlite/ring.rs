//! The last events, shared by all watchers: a watcher is a cursor into them.

use std::collections::VecDeque;

use crate::{Event, KeyValue, Revision, WatchBatch};

/// The events of the last revisions, without a gap, bounded by count and by the bytes of their values.
#[derive(Debug)]
pub(super) struct Ring {
    events: VecDeque<Event>,
    /// The revision of the last event, or the store's when there has been none yet.
    last: Revision,
    bytes: usize,
    max_events: usize,
    max_bytes: usize,
}

/// What the ring has for a cursor.
#[derive(Debug)]
pub(super) enum Read {
    /// What comes after the cursor, or some of it.
    Batch(WatchBatch),
    /// Nothing yet.
    UpToDate,
    /// The ring no longer reaches back to the cursor.
    Fallen,
}

impl Ring {
    pub(super) fn new(revision: Revision, max_events: usize, max_bytes: usize) -> Self {
        Self {
            events: VecDeque::new(),
            last: revision,
            bytes: 0,
            max_events,
            max_bytes,
        }
    }

    /// Adds the event of the next revision; the oldest go when there is no room.
    pub(super) fn push(&mut self, event: Event) {
        debug_assert_eq!(event.revision, self.last + 1);
        self.last = event.revision;
        self.bytes += cost(&event);
        self.events.push_back(event);
        while self.events.len() > self.max_events || self.bytes > self.max_bytes {
            let Some(oldest) = self.events.pop_front() else {
                break;
            };
            self.bytes -= cost(&oldest);
        }
    }

    /// The state that a revision made, when it is among the last.
    pub(super) fn state(&self, revision: Revision) -> Option<&KeyValue> {
        let place = usize::try_from(revision - self.first()).ok()?;
        self.events.get(place)?.current.as_ref()
    }

    /// The events below a prefix after a revision; looks at no more than `limit` events.
    pub(super) fn after(&self, after: Revision, prefix: &str, limit: usize) -> Read {
        if after >= self.last {
            return Read::UpToDate;
        }
        // `after` is the watcher's, and may be any number.
        let Ok(skip) = usize::try_from((after + 1).saturating_sub(self.first())) else {
            return Read::Fallen;
        };
        let end = self.events.len().min(skip.saturating_add(limit));
        let seen = self.events.range(skip..end);
        let revision = after + i64::try_from(seen.len()).unwrap_or(0);
        let events = seen.filter(|event| is_below(event, prefix)).cloned().collect();
        Read::Batch(WatchBatch { events, revision })
    }

    fn first(&self) -> Revision {
        self.events.front().map_or(self.last + 1, |event| event.revision)
    }
}

/// The previous value is most often the current one of an earlier event too, but when that has left the ring it is
/// this event alone that keeps it.
fn cost(event: &Event) -> usize {
    [&event.current, &event.previous]
        .into_iter()
        .flatten()
        .map(|kv| kv.value.len())
        .sum()
}

fn is_below(event: &Event, prefix: &str) -> bool {
    event
        .current
        .as_ref()
        .or(event.previous.as_ref())
        .is_some_and(|kv| kv.key.starts_with(prefix))
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;

    use super::*;

    fn event(revision: Revision, key: &str, size: usize) -> Event {
        Event {
            current: Some(KeyValue {
                key: key.into(),
                value: Bytes::from(vec![0; size]),
                create_revision: revision,
                mod_revision: revision,
                version: 1,
                lease: None,
            }),
            previous: None,
            revision,
        }
    }

    fn ring(max_events: usize, max_bytes: usize) -> Ring {
        let mut ring = Ring::new(10, max_events, max_bytes);
        for revision in 11..=20 {
            ring.push(event(
                revision,
                if revision % 2 == 0 { "/even" } else { "/odd" },
                10,
            ));
        }
        ring
    }

    fn read(ring: &Ring, after: Revision, prefix: &str, limit: usize) -> Option<(Vec<Revision>, Revision)> {
        match ring.after(after, prefix, limit) {
            Read::Batch(batch) => Some((batch.events.iter().map(|e| e.revision).collect(), batch.revision)),
            Read::UpToDate => Some((vec![], after)),
            Read::Fallen => None,
        }
    }

    #[test]
    fn a_cursor_reads_what_comes_after_it() {
        let ring = ring(100, 1000);
        assert_eq!(read(&ring, 20, "/", 9), Some((vec![], 20)));
        assert_eq!(read(&ring, 30, "/", 9), Some((vec![], 30)));
        assert_eq!(read(&ring, 17, "/", 9), Some((vec![18, 19, 20], 20)));
        assert_eq!(read(&ring, 10, "/even", 5), Some((vec![12, 14], 15)));
        assert_eq!(read(&ring, 15, "/even", 5), Some((vec![16, 18, 20], 20)));
        assert_eq!(read(&ring, 18, "/nothing", 5), Some((vec![], 20)));
        assert_eq!(read(&ring, 9, "/", 5), None);
        assert_eq!(read(&ring, i64::MIN, "/", 5), None);
    }

    #[test]
    fn the_oldest_events_make_room() {
        for ring in [ring(4, 1000), ring(100, 40)] {
            assert_eq!(read(&ring, 15, "/", 9), None);
            assert_eq!(read(&ring, 16, "/", 9), Some((vec![17, 18, 19, 20], 20)));
            assert!(ring.state(16).is_none());
            assert_eq!(ring.state(17).unwrap().mod_revision, 17);
            assert_eq!(ring.state(20).unwrap().mod_revision, 20);
            assert!(ring.state(21).is_none());
        }
    }

    #[test]
    fn an_event_larger_than_the_ring_leaves_it_empty_but_not_confused() {
        let mut ring = ring(100, 40);
        ring.push(event(21, "/", 41));
        assert_eq!(read(&ring, 20, "/", 9), None);
        assert_eq!(read(&ring, 21, "/", 9), Some((vec![], 21)));
        ring.push(event(22, "/", 1));
        assert_eq!(read(&ring, 21, "/", 9), Some((vec![22], 22)));
        assert_eq!(ring.bytes, 1);
    }
}
