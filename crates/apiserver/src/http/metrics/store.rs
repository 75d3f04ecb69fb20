//! How long the store takes, by what it is asked and for which kind: a store around the store.

use std::collections::BTreeMap;
use std::fmt::Write;
use std::sync::Arc;
use std::time::{Duration, Instant};

use async_trait::async_trait;
use bytes::Bytes;
use parking_lot::Mutex;
use skiff_store::{Expect, KeyValue, LeaseId, Page, Range, Read, Result, Revision, Store, Watch, Written};

use super::{Durations, head};

/// What was asked, and of which kind.
type Key = (&'static str, String);

/// How long each kind of request took, and how many failed.
#[derive(Debug, Default)]
pub(crate) struct StoreTimes {
    took: Mutex<BTreeMap<Key, (Durations, u64)>>,
}

/// The kind that a key is of: `pods`, or `services/specs`' first part.
fn kind(key: &str) -> &str {
    let below = key.strip_prefix("/registry/").unwrap_or_default();
    below.split('/').next().unwrap_or_default()
}

impl StoreTimes {
    fn add(&self, operation: &'static str, key: &str, since: Instant, failed: bool) {
        let mut took = self.took.lock();
        let (durations, failures) = took.entry((operation, kind(key).to_string())).or_default();
        durations.add(since.elapsed());
        *failures += u64::from(failed);
    }

    pub(super) fn write(&self, text: &mut String) -> std::fmt::Result {
        let took = self.took.lock();
        let labels = |(operation, kind): &Key| format!("operation=\"{operation}\",type=\"{kind}\"");
        let name = "etcd_request_duration_seconds";
        head(
            text,
            name,
            "histogram",
            "Etcd request latency in seconds for each operation and object type.",
        )?;
        for (key, (durations, _)) in took.iter() {
            durations.write(text, name, &labels(key), 0.0)?;
        }
        for (name, about, failed) in [
            (
                "etcd_requests_total",
                "Etcd request counts for each operation and object type.",
                false,
            ),
            (
                "etcd_request_errors_total",
                "Etcd failed request counts for each operation and object type.",
                true,
            ),
        ] {
            head(text, name, "counter", about)?;
            for (key, (durations, failures)) in took.iter() {
                let count = if failed { *failures } else { durations.count };
                writeln!(text, "{name}{{{}}} {count}", labels(key))?;
            }
        }
        Ok(())
    }
}

/// A store whose answers are timed.
pub(crate) struct Measured {
    store: Arc<dyn Store>,
    times: Arc<StoreTimes>,
}

impl Measured {
    /// Times a store's answers.
    pub(crate) fn around(store: Arc<dyn Store>, times: Arc<StoreTimes>) -> Arc<dyn Store> {
        Arc::new(Self { store, times })
    }

    async fn timed<T>(
        &self,
        operation: &'static str,
        key: &str,
        what: impl Future<Output = Result<T>>,
    ) -> Result<T> {
        let since = Instant::now();
        let outcome = what.await;
        self.times.add(operation, key, since, outcome.is_err());
        outcome
    }
}

#[async_trait]
impl Store for Measured {
    fn is_shared(&self) -> bool {
        self.store.is_shared()
    }

    async fn revision(&self) -> Result<Revision> {
        self.store.revision().await
    }

    async fn get(&self, key: &str) -> Result<Read<Option<KeyValue>>> {
        self.timed("get", key, self.store.get(key)).await
    }

    async fn range(&self, range: Range) -> Result<Page> {
        let prefix = range.prefix.clone();
        self.timed("list", &prefix, self.store.range(range)).await
    }

    async fn put(&self, key: &str, value: Bytes, expect: Expect, lease: Option<LeaseId>) -> Result<Written> {
        let operation = match expect {
            Expect::Absent => "create",
            Expect::Any | Expect::Revision(_) => "update",
        };
        self.timed(operation, key, self.store.put(key, value, expect, lease))
            .await
    }

    async fn delete(&self, key: &str, expect: Expect) -> Result<Written> {
        self.timed("delete", key, self.store.delete(key, expect)).await
    }

    async fn watch(&self, prefix: &str, after: Revision) -> Result<Watch> {
        self.store.watch(prefix, after).await
    }

    async fn compact(&self, revision: Revision) -> Result<()> {
        self.store.compact(revision).await
    }

    async fn lease_grant(&self, ttl: Duration) -> Result<LeaseId> {
        self.store.lease_grant(ttl).await
    }

    async fn lease_keep_alive(&self, lease: LeaseId) -> Result<()> {
        self.store.lease_keep_alive(lease).await
    }

    async fn lease_revoke(&self, lease: LeaseId) -> Result<()> {
        self.store.lease_revoke(lease).await
    }
}
