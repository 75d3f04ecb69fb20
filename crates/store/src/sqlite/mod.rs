//! The store in one SQLite file.

use std::path::Path;
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;

use crate::{Error, Expect, KeyValue, LeaseId, Page, Range, Read, Result, Revision, Store, Watch, Written};

/// What a [`SqliteStore`] may spend.
#[derive(Clone, Debug, Default)]
pub struct SqliteOptions {}

/// A [`Store`] in one SQLite file.
#[derive(Debug)]
pub struct SqliteStore {}

impl SqliteStore {
    /// Opens the file, making it when it is not there. Blocks while the index is read.
    pub fn open(path: &Path, _options: SqliteOptions) -> Result<Self> {
        Err(closed(path))
    }

    /// Finishes the queued writes and closes the file.
    pub async fn close(&self) {}
}

fn closed(path: &Path) -> Error {
    Error::Unavailable(path.display().to_string())
}

#[async_trait]
impl Store for SqliteStore {
    async fn revision(&self) -> Result<Revision> {
        Err(Error::LeaseNotFound)
    }
    async fn get(&self, _key: &str) -> Result<Read<Option<KeyValue>>> {
        Err(Error::LeaseNotFound)
    }
    async fn range(&self, _range: Range) -> Result<Page> {
        Err(Error::LeaseNotFound)
    }
    async fn put(&self, _: &str, _: Bytes, _: Expect, _: Option<LeaseId>) -> Result<Written> {
        Err(Error::LeaseNotFound)
    }
    async fn delete(&self, _key: &str, _expect: Expect) -> Result<Written> {
        Err(Error::LeaseNotFound)
    }
    async fn watch(&self, _prefix: &str, _after: Revision) -> Result<Watch> {
        Err(Error::LeaseNotFound)
    }
    async fn compact(&self, _revision: Revision) -> Result<()> {
        Err(Error::LeaseNotFound)
    }
    async fn lease_grant(&self, _ttl: Duration) -> Result<LeaseId> {
        Err(Error::LeaseNotFound)
    }
    async fn lease_keep_alive(&self, _lease: LeaseId) -> Result<()> {
        Err(Error::LeaseNotFound)
    }
    async fn lease_revoke(&self, _lease: LeaseId) -> Result<()> {
        Err(Error::LeaseNotFound)
    }
}
