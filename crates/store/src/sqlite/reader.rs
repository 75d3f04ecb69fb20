//! Reading the file beside the writer: a few connections, each used by one blocking thread at a time.
//!
//! What a revision wrote never changes until compaction deletes it. So a read asks the index which revisions it wants
//! and fetches those; that one is missing can only mean that the whole read's revision has been compacted meanwhile.

use std::ops::Bound;
use std::path::PathBuf;
use std::sync::Arc;

use parking_lot::Mutex;
use rusqlite::Connection;
use tokio::sync::Semaphore;

use super::schema::{self, Change};
use super::visible::Visible;
use crate::{Error, Event, KeyValue, Page, Range, Result, Revision, WatchBatch};

/// So many keys are looked up under one hold of the lock.
const STEPS: usize = 512;
/// A batch out of the history holds no more changes than this…
const HISTORY_CHANGES: i64 = 1024;
/// …and ends when it holds so many bytes.
const HISTORY_BYTES: usize = 4 << 20;

/// The connections that read.
#[derive(Debug)]
pub(super) struct Readers {
    path: PathBuf,
    visible: Arc<Visible>,
    turns: Arc<Semaphore>,
    /// Those not in use; `None` once closed.
    idle: Mutex<Option<Vec<Connection>>>,
}

impl Readers {
    pub(super) fn new(path: PathBuf, visible: Arc<Visible>, most: usize) -> Self {
        Self {
            path,
            visible,
            turns: Arc::new(Semaphore::new(most.max(1))),
            idle: Mutex::new(Some(Vec::new())),
        }
    }

    pub(super) fn is_closed(&self) -> bool {
        self.turns.is_closed()
    }

    /// Closes the connections; those in use when they are given back.
    pub(super) fn close(&self) {
        self.turns.close();
        let idle = self.idle.lock().take();
        drop(idle);
    }

    /// A key's state that a revision made; `None` when it has been compacted.
    pub(super) async fn state(
        self: &Arc<Self>,
        key: Arc<str>,
        revision: Revision,
    ) -> Result<Option<KeyValue>> {
        self.read(move |_, connection| Ok(schema::state(connection, &key, revision)?))
            .await
    }

    /// [`crate::Store::range`].
    pub(super) async fn range(self: &Arc<Self>, range: Range) -> Result<Page> {
        self.read(move |visible, connection| {
            loop {
                let at = visible.readable(range.revision)?;
                match page(visible, connection, &range, at) {
                    // The present has moved on and its past was compacted: read the new present.
                    Err(Error::Compacted { .. }) if range.revision.is_none() => {}
                    other => return other,
                }
            }
        })
        .await
    }

    /// The changes below a prefix after a revision, or some of them; there must be some up to `upto`.
    pub(super) async fn history(
        self: &Arc<Self>,
        prefix: Arc<str>,
        after: Revision,
        upto: Revision,
    ) -> Result<WatchBatch> {
        self.read(move |visible, connection| {
            let batch = history(connection, &prefix, after, upto);
            // Only now: whatever was compacted while we read is past `compacted` by now.
            let oldest = visible.compacted();
            if after < oldest {
                return Err(Error::Compacted { oldest });
            }
            Ok(batch?)
        })
        .await
    }

    async fn read<T: Send + 'static>(
        self: &Arc<Self>,
        work: impl FnOnce(&Visible, &Connection) -> Result<T> + Send + 'static,
    ) -> Result<T> {
        let turn = self
            .turns
            .clone()
            .acquire_owned()
            .await
            .map_err(|_| self.visible.ended())?;
        let readers = self.clone();
        let done = tokio::task::spawn_blocking(move || {
            let _turn = turn;
            let connection = readers.take()?;
            let result = work(&readers.visible, &connection);
            readers.give_back(connection);
            result
        });
        done.await
            .unwrap_or_else(|error| Err(Error::Unavailable(error.to_string())))
    }

    fn take(&self) -> Result<Connection> {
        let idle = self
            .idle
            .lock()
            .as_mut()
            .ok_or_else(|| self.visible.ended())?
            .pop();
        match idle {
            Some(connection) => Ok(connection),
            None => Ok(schema::open_reader(&self.path)?),
        }
    }

    fn give_back(&self, connection: Connection) {
        if let Some(idle) = self.idle.lock().as_mut() {
            idle.push(connection);
        }
    }
}

/// A page of the state at a revision. [`Error::Compacted`] when the revision was compacted before the page was whole.
fn page(visible: &Visible, connection: &Connection, range: &Range, at: Revision) -> Result<Page> {
    let limit = if range.limit == 0 { usize::MAX } else { range.limit };
    let mut items = Vec::new();
    let mut remaining = 0;
    let mut from = match &range.after {
        Some(after) if after.as_str() >= range.prefix.as_str() => Bound::Excluded(Arc::from(after.as_str())),
        _ => Bound::Included(Arc::from(range.prefix.as_str())),
    };
    loop {
        let start = from.as_ref().map(|key: &Arc<str>| &**key);
        let mut walk = visible.walk(&range.prefix, start, at, STEPS)?;
        let wanted = walk.found.len().min(limit - items.len());
        remaining += walk.found.len() - wanted;
        for (key, revision) in walk.found.drain(..wanted) {
            match schema::state(connection, &key, revision)? {
                Some(kv) => items.push(kv),
                None => return Err(missing(visible, at, revision)),
            }
        }
        match walk.next {
            Some(next) => from = Bound::Excluded(next),
            None => break,
        }
    }
    Ok(Page {
        items,
        remaining,
        revision: at,
    })
}

fn missing(visible: &Visible, at: Revision, revision: Revision) -> Error {
    match visible.compacted() {
        oldest if at < oldest => Error::Compacted { oldest },
        _ => Error::Unavailable(format!("what revision {revision} wrote is missing")),
    }
}

fn history(
    connection: &Connection,
    prefix: &str,
    after: Revision,
    upto: Revision,
) -> schema::Result<WatchBatch> {
    let changes = schema::changes_between(connection, after, upto, HISTORY_CHANGES)?;
    let mut batch = WatchBatch {
        events: Vec::new(),
        revision: after,
    };
    let mut bytes = 0;
    for change in changes {
        batch.revision = change.revision;
        if change.key.starts_with(prefix) {
            let event = event(connection, change)?;
            bytes += [&event.current, &event.previous]
                .into_iter()
                .flatten()
                .map(|kv| kv.value.len())
                .sum::<usize>();
            batch.events.push(event);
            if bytes >= HISTORY_BYTES {
                break;
            }
        }
    }
    Ok(batch)
}

fn event(connection: &Connection, change: Change) -> schema::Result<Event> {
    let key: Arc<str> = change.key.into();
    let state = |revision| {
        let missing = || schema::Failure::Other(format!("what revision {revision} wrote is missing"));
        schema::state(connection, &key, revision)?.ok_or_else(missing)
    };
    let current = (change.version != 0)
        .then(|| state(change.revision))
        .transpose()?;
    Ok(Event {
        current,
        previous: change.previous.map(state).transpose()?,
        revision: change.revision,
    })
}
