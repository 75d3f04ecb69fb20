//! What readers and watchers see: the index and the last events, as of the last durable commit.

use std::ops::Bound;
use std::sync::{Arc, OnceLock};

use parking_lot::RwLock;
use rusqlite::Connection;

use super::index::{Index, Walk};
use super::lease::Leases;
use super::ring::{self, Ring};
use super::schema;
use crate::{Error, Event, KeyValue, Result, Revision};

/// The durable state, shared between the writer, which alone changes it, and the readers.
///
/// The lock is held for short steps only: a long read takes it once for some hundreds of keys.
#[derive(Debug)]
pub(super) struct Visible {
    state: RwLock<State>,
    /// Why the writer has ended, when it did so by itself.
    broken: OnceLock<String>,
}

#[derive(Debug)]
struct State {
    index: Index,
    ring: Ring,
    revision: Revision,
    compacted: Revision,
}

/// Where a key's present state is.
#[derive(Debug)]
pub(super) enum Head {
    Absent,
    /// Among the last events.
    Here(KeyValue),
    /// In the file, made by this revision.
    InFile(Arc<str>, Revision),
}

impl Visible {
    /// Reads the file's changes, and notes which keys hang on which lease.
    pub(super) fn load(
        connection: &Connection,
        leases: &mut Leases,
        ring: impl FnOnce(Revision) -> Ring,
    ) -> schema::Result<Self> {
        let compacted = schema::compacted(connection)?;
        let mut index = Index::default();
        let mut revision = compacted.max(schema::FIRST_REVISION);
        // The lease of each key that has one; a later change of the key may take it off.
        let mut leased = std::collections::HashMap::new();
        schema::changes(connection, |change| {
            let key: Arc<str> = change.key.into();
            index.apply(&key, change.revision, change.version == 0);
            revision = revision.max(change.revision);
            match change.lease {
                Some(lease) => leased.insert(key, lease),
                None => leased.remove(&key),
            };
        })?;
        for (key, lease) in leased {
            leases.attach(lease, key);
        }
        Ok(Self {
            state: RwLock::new(State {
                index,
                ring: ring(revision),
                revision,
                compacted,
            }),
            broken: OnceLock::new(),
        })
    }

    /// Notes why the store can be used no longer.
    pub(super) fn set_broken(&self, reason: String) {
        // The first reason is the one that counts.
        let _already = self.broken.set(reason);
    }

    /// What is answered to those who come after the end.
    pub(super) fn ended(&self) -> schema::Failure {
        let reason = self.broken.get().map_or("the store is closed", String::as_str);
        schema::Failure::Other(reason.to_owned())
    }

    pub(super) fn revision(&self) -> Revision {
        self.state.read().revision
    }

    pub(super) fn compacted(&self) -> Revision {
        self.state.read().compacted
    }

    /// Where a key's present state is, and the store's revision.
    pub(super) fn head(&self, key: &str) -> (Head, Revision) {
        let state = self.state.read();
        let head = match state.index.head(key) {
            None => Head::Absent,
            Some((key, revision)) => match state.ring.state(revision) {
                Some(kv) => Head::Here(kv.clone()),
                None => Head::InFile(key.clone(), revision),
            },
        };
        (head, state.revision)
    }

    /// The revision to read at: the one asked for, or the present one.
    pub(super) fn readable(&self, revision: Option<Revision>) -> Result<Revision> {
        let state = self.state.read();
        match revision {
            None => Ok(state.revision),
            Some(revision) if revision > state.revision => Err(Error::FutureRevision {
                current: state.revision,
            }),
            Some(revision) if revision < state.compacted => Err(Error::Compacted {
                oldest: state.compacted,
            }),
            Some(revision) => Ok(revision),
        }
    }

    /// [`Index::walk`] at a revision that was readable; [`Error::Compacted`] when it no longer is.
    pub(super) fn walk(&self, prefix: &str, from: Bound<&str>, at: Revision, steps: usize) -> Result<Walk> {
        let state = self.state.read();
        if at < state.compacted {
            return Err(Error::Compacted {
                oldest: state.compacted,
            });
        }
        Ok(state.index.walk(prefix, from, at, steps))
    }

    /// The events after a cursor, or the store's revision when they are no longer at hand.
    pub(super) fn events(
        &self,
        after: Revision,
        prefix: &str,
        limit: usize,
    ) -> std::result::Result<ring::Read, Revision> {
        let state = self.state.read();
        match state.ring.after(after, prefix, limit) {
            ring::Read::Fallen => Err(state.revision),
            read => Ok(read),
        }
    }

    /// The first revisions that compaction has yet to delete from the file.
    pub(super) fn garbage(&self, limit: usize) -> Vec<Revision> {
        let state = self.state.read();
        state.index.garbage(state.compacted, limit).collect()
    }

    /// Shows a commit: its events, the compaction it may hold, and that it deleted so much garbage.
    pub(super) fn commit(&self, events: Vec<Event>, compacted: Revision, swept: usize) {
        let mut state = self.state.write();
        state.index.forget(swept);
        state.compacted = compacted;
        for event in events {
            state.revision = event.revision;
            if let Some(kv) = event.current.as_ref().or(event.previous.as_ref()) {
                state
                    .index
                    .apply(&kv.key, event.revision, event.current.is_none());
            }
            state.ring.push(event);
        }
    }
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;

    use super::*;

    fn put(key: &str, revision: Revision, previous: Option<KeyValue>) -> Event {
        Event {
            current: Some(KeyValue {
                key: key.into(),
                value: Bytes::new(),
                create_revision: revision,
                mod_revision: revision,
                version: 1,
                lease: None,
            }),
            previous,
            revision,
        }
    }

    #[test]
    fn a_read_that_is_under_way_learns_that_its_revision_was_compacted() {
        let directory = tempfile::tempdir().unwrap();
        let (_lock, connection) = schema::open(&directory.path().join("state.db")).unwrap();
        let ring = |revision| Ring::new(revision, 10, 1000);
        let visible = Visible::load(&connection, &mut Leases::default(), ring).unwrap();
        let first = put("/a", 2, None);
        let second = put("/a", 3, first.current.clone());
        visible.commit(vec![first, second], 0, 0);
        assert_eq!(visible.readable(Some(2)).unwrap(), 2);
        let walk = visible.walk("/", Bound::Included("/"), 2, 10).unwrap();
        assert_eq!(walk.found, [("/a".into(), 2)]);

        visible.commit(vec![], 3, 0);
        assert_eq!(visible.garbage(10), [2]);
        visible.commit(vec![], 3, 1);
        let late = visible.walk("/", Bound::Included("/"), 2, 10);
        assert!(matches!(late, Err(Error::Compacted { oldest: 3 })), "{late:?}");
        assert!(matches!(
            visible.readable(Some(2)),
            Err(Error::Compacted { oldest: 3 })
        ));
        let walk = visible.walk("/", Bound::Included("/"), 3, 10).unwrap();
        assert_eq!(walk.found, [("/a".into(), 3)]);
    }
}
