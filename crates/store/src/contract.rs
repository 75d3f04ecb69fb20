//! What every store does: the types and the [`Store`] trait.

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use futures::stream::BoxStream;

/// The count of writes to the whole store; the first write makes revision 2 (etcd's empty store is at 1).
pub type Revision = i64;

/// A lease's number; keys that hang on it are deleted when it ends.
pub type LeaseId = i64;

/// A key and what it holds.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct KeyValue {
    /// A path such as `/registry/pods/default/a`.
    pub key: Arc<str>,
    /// The value, shared.
    pub value: Bytes,
    /// The revision that made the key.
    pub create_revision: Revision,
    /// The revision that wrote it last.
    pub mod_revision: Revision,
    /// How often it was written since it was made, from 1.
    pub version: i64,
    /// The lease it hangs on.
    pub lease: Option<LeaseId>,
}

/// A value read, and the store's revision at that moment.
#[derive(Clone, Debug)]
pub struct Read<T> {
    /// What was read.
    pub value: T,
    /// The store's revision when it was read.
    pub revision: Revision,
}

/// What a write demands of the key's present state.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Expect {
    /// Nothing.
    Any,
    /// That the key is not there.
    Absent,
    /// That the key's `mod_revision` is this one.
    Revision(Revision),
}

/// Which keys to read.
#[derive(Clone, Debug, Default)]
pub struct Range {
    /// Keys that begin with this text.
    pub prefix: String,
    /// Only keys after this one, in byte order.
    pub after: Option<String>,
    /// At most so many; 0 for all.
    pub limit: usize,
    /// The state at this revision; `None` for the present.
    pub revision: Option<Revision>,
}

/// A part of a range, in byte order of the keys.
#[derive(Clone, Debug)]
pub struct Page {
    /// The keys and their values.
    pub items: Vec<KeyValue>,
    /// How many keys of the range come after these.
    pub remaining: usize,
    /// The revision that the page shows: the one asked for, or the store's at that moment.
    pub revision: Revision,
}

/// A write that is durable.
#[derive(Clone, Debug)]
pub struct Written {
    /// The revision it made.
    pub revision: Revision,
    /// The key's state before it.
    pub previous: Option<KeyValue>,
}

/// One change of one key.
#[derive(Clone, Debug)]
pub struct Event {
    /// The key's state after it; `None` when it was deleted.
    pub current: Option<KeyValue>,
    /// The key's state before it; `None` when it was created.
    pub previous: Option<KeyValue>,
    /// The revision that made the change.
    pub revision: Revision,
}

/// What a watch brings next.
#[derive(Clone, Debug)]
pub struct WatchBatch {
    /// Changes in the order of their revisions; may be empty. Only what is deleted with one lease may share a revision,
    /// and what another client of an etcd wrote in one transaction; such changes come in one batch.
    pub events: Vec<Event>,
    /// Every change below the watched prefix up to and with this revision has been delivered.
    pub revision: Revision,
}

/// The changes below a prefix. Ends after the first error.
pub type Watch = BoxStream<'static, Result<WatchBatch>>;

/// Why a store did not do what was asked.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The key's state is not the one that the write demanded. Nothing was written.
    #[error("the key's state is not the expected one")]
    Conflict {
        /// The state that was found.
        current: Option<KeyValue>,
    },
    /// The revision asked for has been compacted away, or a watcher fell behind what is kept.
    #[error("required revision has been compacted: oldest available is {oldest}")]
    Compacted {
        /// The oldest revision that can still be read.
        oldest: Revision,
    },
    /// The revision asked for has not been reached.
    #[error("required revision is a future revision: the store is at {current}")]
    FutureRevision {
        /// The store's revision.
        current: Revision,
    },
    /// No such lease: it ended, or never was.
    #[error("requested lease not found")]
    LeaseNotFound,
    /// The disk is full. Nothing was written; writes go through again when there is room.
    #[error("no space left on the store's disk")]
    NoSpace,
    /// The value is larger than the store takes.
    #[error("request is too large for the store")]
    TooLarge,
    /// The store is closed, broken or out of reach.
    #[error("store unavailable: {0}")]
    Unavailable(String),
}

/// What a store's methods return.
pub type Result<T> = std::result::Result<T, Error>;

/// A revisioned key-value store.
///
/// A method that writes returns when the write is durable. A method that reads sees every write that was acknowledged
/// before it was called.
#[async_trait]
pub trait Store: Send + Sync + 'static {
    /// Whether others may write to the same keys: other servers on the same etcd.
    fn is_shared(&self) -> bool {
        false
    }

    /// The store's revision.
    async fn revision(&self) -> Result<Revision>;

    /// The key's present state.
    async fn get(&self, key: &str) -> Result<Read<Option<KeyValue>>>;

    /// The keys of a range, as one snapshot. [`Error::Compacted`] or [`Error::FutureRevision`] when the range names a
    /// revision that is not to be had.
    async fn range(&self, range: Range) -> Result<Page>;

    /// Writes a key. [`Error::Conflict`] when its state is not the expected one.
    async fn put(&self, key: &str, value: Bytes, expect: Expect, lease: Option<LeaseId>) -> Result<Written>;

    /// Deletes a key. [`Error::Conflict`] when its state is not the expected one, or there is no such key.
    async fn delete(&self, key: &str, expect: Expect) -> Result<Written>;

    /// The changes below a prefix after a revision. [`Error::Compacted`] when they are no longer all there.
    ///
    /// A batch comes for each new revision of the store even when it changed nothing below the prefix (several
    /// revisions may share one), so a reader always learns how far it is.
    async fn watch(&self, prefix: &str, after: Revision) -> Result<Watch>;

    /// Forgets all history before a revision; the state at it stays readable.
    async fn compact(&self, revision: Revision) -> Result<()>;

    /// Makes a lease that ends after `ttl` unless it is kept alive.
    async fn lease_grant(&self, ttl: Duration) -> Result<LeaseId>;

    /// Starts the lease's time anew.
    async fn lease_keep_alive(&self, lease: LeaseId) -> Result<()>;

    /// Ends the lease now: its keys are deleted.
    async fn lease_revoke(&self, lease: LeaseId) -> Result<()>;
}
