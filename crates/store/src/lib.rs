//! A revisioned key-value store with watch: the contract that the API server stands on, which is etcd's.
//!
//! One 64-bit revision counts the writes of the whole store. Every key carries the revision that created it and the
//! one that wrote it last; a write can demand the latter, which makes it a compare-and-swap.
//!
//! *Architecture invariants:* no acknowledged write is lost, whatever is killed and whenever. A watch has no gap and no
//! duplicate. A slow watcher never slows a writer.

mod contract;
mod sqlite;

pub use contract::{
    Error, Event, Expect, KeyValue, LeaseId, Page, Range, Read, Result, Revision, Store, Watch, WatchBatch,
    Written,
};
pub use sqlite::{SqliteOptions, SqliteStore};
