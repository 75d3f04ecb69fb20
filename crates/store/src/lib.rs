//! A revisioned key-value store with watch: the contract that the API server stands on, which is etcd's.
//!
//! One 64-bit revision counts the writes of the whole store. Every key carries the revision that created it and the
//! one that wrote it last; a write can demand the latter, which makes it a compare-and-swap. Whatever has changed below
//! a prefix since a revision can be watched, and the state at any revision can be read, until it is compacted.
//!
//! [`Store`] is the contract; `tests/contract` has a test for each of its promises, for every store to pass.
//! [`SqliteStore`] keeps it in one file:
//!
//! - One thread writes. It takes all that is queued into one transaction and one sync, so that a lone write waits for
//!   nobody and many share the sync; it decides their compare-and-swaps in the order of their arrival.
//! - The index, which revision holds which key's state, is in memory (about 200 bytes a key); the values are in the file.
//! - The last events are in a ring in memory, shared by all watchers. A watcher is a cursor: nothing is queued for it. When
//!   its cursor falls out of the ring it reads the file's history; when that is compacted, its watch ends with
//!   [`Error::Compacted`].
//! - Compaction is the caller's to start. What it forgets is deleted beside the writes that follow, some hundreds of revisions
//!   a commit. The room is used again; the file does not shrink.
//! - A lease ends by itself `ttl` after it was granted or last kept alive, also across a restart.
//! - A full disk refuses writes with [`Error::NoSpace`] and nothing else; there is nothing to repair afterwards. A
//!   failed sync is the end of the store: it must be opened again, to see what the disk really has.
//!
//! [`EtcdStore`] keeps it in an etcd v3 cluster (3.4 and later), which kube-apiserver may have filled or may read:
//!
//! - Of several endpoints one is asked until it fails, and then the next. Reads are repeated until they are answered. A write
//!   is not sent again while it may have been done, except for one that demands a revision when the key is still at it; when
//!   nobody can tell, the answer is [`Error::Unavailable`].
//! - A watch goes on at another member where it was at the last, for as long as it takes.
//! - To open it, given `--etcd-servers`, `--etcd-cafile`, `--etcd-certfile`, `--etcd-keyfile` and `--etcd-prefix` as
//!   kube-apiserver has them:
//!
//! ```no_run
//! # use skiff_store::{EtcdOptions, EtcdStore};
//! # async fn open(servers: &str, ca: String, certificate: String, key: String) -> skiff_store::Result<EtcdStore> {
//! let store = EtcdStore::connect(EtcdOptions {
//!     endpoints: servers.split(',').map(Into::into).collect(),
//!     ca_pem: Some(ca),
//!     client_certificate_pem: Some(certificate),
//!     client_key_pem: Some(key),
//!     // What the API server's keys begin with, and what stands for it in etcd.
//!     root: "/registry".into(),
//!     prefix: "/registry".into(),
//!     ..EtcdOptions::default()
//! })
//! .await?;
//! # Ok(store)
//! # }
//! ```
//!
//! *Architecture invariants:* no acknowledged write is lost, whatever is killed and whenever. A watch has no gap and no
//! duplicate. A slow watcher never slows a writer. Nothing is visible before it is durable.
//!
//! ```
//! use skiff_store::{Expect, Range, SqliteOptions, SqliteStore, Store};
//!
//! # #[tokio::main]
//! # async fn main() -> skiff_store::Result<()> {
//! # let directory = tempfile::tempdir().unwrap();
//! # let path = directory.path().join("state.db");
//! let store = SqliteStore::open(&path, SqliteOptions::default())?;
//! let made = store.put("/registry/pods/default/a", "{}".into(), Expect::Absent, None).await?;
//! let stale = store.put("/registry/pods/default/a", "{}".into(), Expect::Revision(made.revision - 1), None).await;
//! assert!(stale.is_err());
//! let page = store.range(Range { prefix: "/registry/pods/".into(), ..Range::default() }).await?;
//! assert_eq!(page.items.len(), 1);
//! store.close().await;
//! # Ok(())
//! # }
//! ```

mod contract;
mod etcd;
mod sqlite;

pub use contract::{
    Error, Event, Expect, KeyValue, LeaseId, Page, Range, Read, Result, Revision, Store, Watch, WatchBatch,
    Written,
};
pub use etcd::{EtcdOptions, EtcdStore};
pub use sqlite::{SqliteOptions, SqliteStore};
