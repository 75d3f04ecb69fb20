//! How long the store takes, by what it is asked and for which kind: a store around the store.

use std::fmt::Write;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use async_trait::async_trait;
use bytes::Bytes;
use skiff_api::Catalogue;
use skiff_store::{Expect, KeyValue, LeaseId, Page, Range, Read, Result, Revision, Store, Watch, Written};

use super::{Durations, head};

/// What a store is asked, as upstream names it.
const OPERATIONS: [&str; 5] = ["create", "delete", "get", "list", "update"];

/// How long the answers to one kind of request took, and how many failed.
#[derive(Debug, Default)]
struct Answers {
    took: Durations,
    failures: AtomicU64,
}

/// The answers about one kind, in the order of [`OPERATIONS`].
#[derive(Debug, Default)]
struct OfKind {
    /// What its keys begin with: `/registry/pods/`.
    prefix: String,
    group: String,
    resource: String,
    answers: [Answers; OPERATIONS.len()],
}

/// How long each kind of request took, and how many failed.
#[derive(Debug)]
pub(crate) struct StoreTimes {
    /// By prefix. The first is of what belongs to no kind, and has none.
    kinds: Vec<OfKind>,
}

impl Default for StoreTimes {
    fn default() -> Self {
        Self {
            kinds: vec![OfKind::default()],
        }
    }
}

impl StoreTimes {
    /// The times of a store that holds these kinds.
    pub(crate) fn of(catalogue: &Catalogue) -> Self {
        // All versions of a kind are stored as one of them.
        let stored = catalogue
            .iter()
            .filter(|strategy| strategy.conversion().is_none());
        let stored = stored.map(|strategy| {
            let info = strategy.info();
            OfKind {
                prefix: format!("/registry/{}/", info.store_prefix),
                group: info.group.to_string(),
                resource: info.plural.to_string(),
                ..OfKind::default()
            }
        });
        let mut kinds: Vec<OfKind> = stored.chain(Self::default().kinds).collect();
        kinds.sort_by(|a, b| a.prefix.cmp(&b.prefix));
        Self { kinds }
    }

    /// The kind that a key is of.
    fn kind(&self, key: &str) -> Option<&OfKind> {
        // No prefix begins another, so the one that this key begins with is the last that does not come after it.
        let place = self.kinds.partition_point(|kind| kind.prefix.as_str() <= key);
        let kind = self.kinds.get(place.checked_sub(1)?)?;
        if key.starts_with(&kind.prefix) {
            Some(kind)
        } else {
            self.kinds.first()
        }
    }

    fn add(&self, operation: &'static str, key: &str, since: Instant, failed: bool) {
        let Some(kind) = self.kind(key) else { return };
        let mut answers = OPERATIONS.iter().zip(&kind.answers);
        if let Some((_, answers)) = answers.find(|(its, _)| **its == operation) {
            answers.took.took(since.elapsed());
            answers.failures.fetch_add(u64::from(failed), Ordering::Relaxed);
        }
    }

    pub(super) fn reset(&self) {
        for answers in self.kinds.iter().flat_map(|kind| &kind.answers) {
            answers.took.reset();
            answers.failures.store(0, Ordering::Relaxed);
        }
    }

    pub(super) fn write(&self, text: &mut String) -> std::fmt::Result {
        let all: Vec<(String, &Answers)> = self
            .kinds
            .iter()
            .flat_map(|kind| OPERATIONS.iter().zip(&kind.answers).map(move |its| (kind, its)))
            .filter(|(_, (_, answers))| answers.took.count() > 0)
            .map(|(OfKind { group, resource, .. }, (operation, answers))| {
                let labels = format!("group=\"{group}\",operation=\"{operation}\",resource=\"{resource}\"");
                (labels, answers)
            })
            .collect();
        let name = "etcd_request_duration_seconds";
        head(
            text,
            name,
            "histogram",
            "[ALPHA] Etcd request latency in seconds for each operation and object type.",
        )?;
        for (labels, answers) in &all {
            answers.took.write(text, name, labels, 0.0)?;
        }
        for (name, about, failed) in [
            (
                "etcd_requests_total",
                "[ALPHA] Etcd request counts for each operation and object type.",
                false,
            ),
            (
                "etcd_request_errors_total",
                "[ALPHA] Etcd failed request counts for each operation and object type.",
                true,
            ),
        ] {
            head(text, name, "counter", about)?;
            for (labels, answers) in &all {
                let failures = answers.failures.load(Ordering::Relaxed);
                let count = if failed { failures } else { answers.took.count() };
                // A count that never began is not told.
                if !failed || failures > 0 {
                    writeln!(text, "{name}{{{labels}}} {count}")?;
                }
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
