//! What becomes of caches and watches when the store is out of reach for a while.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use futures::StreamExt;
use skiff_apiserver::registry::{AdmitAll, ListOptions};
use skiff_store::{Expect, KeyValue, LeaseId, Page, Range, Read, Store, Watch, Written};
use tokio::sync::watch;

use crate::server::*;

/// A store whose watches can be cut.
struct Cuttable {
    store: Arc<dyn Store>,
    cut: watch::Sender<u64>,
    is_down: AtomicBool,
    /// What was compacted: up to which revision, and the store's revision then.
    compactions: watch::Sender<Vec<(i64, i64)>>,
}

#[async_trait]
impl Store for Cuttable {
    async fn revision(&self) -> skiff_store::Result<i64> {
        self.store.revision().await
    }
    async fn get(&self, key: &str) -> skiff_store::Result<Read<Option<KeyValue>>> {
        self.store.get(key).await
    }
    async fn range(&self, range: Range) -> skiff_store::Result<Page> {
        if self.is_down.load(Ordering::SeqCst) {
            return Err(skiff_store::Error::Unavailable("cut".into()));
        }
        self.store.range(range).await
    }
    async fn put(
        &self,
        key: &str,
        value: Bytes,
        expect: Expect,
        lease: Option<LeaseId>,
    ) -> skiff_store::Result<Written> {
        self.store.put(key, value, expect, lease).await
    }
    async fn delete(&self, key: &str, expect: Expect) -> skiff_store::Result<Written> {
        self.store.delete(key, expect).await
    }
    async fn watch(&self, prefix: &str, after: i64) -> skiff_store::Result<Watch> {
        let mut cut = self.cut.subscribe();
        let changes = self.store.watch(prefix, after).await?;
        Ok(changes.take_until(async move { cut.changed().await }).boxed())
    }
    async fn compact(&self, revision: i64) -> skiff_store::Result<()> {
        let now = self.store.revision().await?;
        self.compactions.send_modify(|all| all.push((revision, now)));
        self.store.compact(revision).await
    }
    async fn lease_grant(&self, ttl: Duration) -> skiff_store::Result<LeaseId> {
        self.store.lease_grant(ttl).await
    }
    async fn lease_keep_alive(&self, lease: LeaseId) -> skiff_store::Result<()> {
        self.store.lease_keep_alive(lease).await
    }
    async fn lease_revoke(&self, lease: LeaseId) -> skiff_store::Result<()> {
        self.store.lease_revoke(lease).await
    }
}

async fn start() -> (Server, Arc<Cuttable>) {
    let mut cuttable = None;
    let server = Server::with(Arc::new(AdmitAll), |store| {
        let store = Arc::new(Cuttable {
            store,
            cut: watch::Sender::new(0),
            is_down: AtomicBool::new(false),
            compactions: watch::Sender::default(),
        });
        cuttable = Some(store.clone());
        store
    })
    .await;
    (server, cuttable.unwrap())
}

#[tokio::test]
async fn five_minutes_of_history_are_kept() {
    let (server, cuttable) = start().await;
    let maps = server.config_maps();
    let mut compactions = cuttable.compactions.subscribe();
    create(&maps, "ns", &config_map("a", "1")).await;
    let first = server.store.revision().await.unwrap();
    create(&maps, "ns", &config_map("b", "1")).await;
    assert!(compactions.borrow().is_empty());
    tokio::time::pause();
    let (compacted, then) = compactions.wait_for(|all| !all.is_empty()).await.unwrap()[0];
    assert!(
        compacted < first,
        "{compacted}: what was written since the last time stays"
    );
    assert!(then > first);
    // Nothing is written any more, so the next time it is all history.
    let all = compactions.wait_for(|all| all.len() > 1).await.unwrap().clone();
    assert_eq!(all[1], (then, then));
}

#[tokio::test]
async fn a_store_that_was_out_of_reach_is_listed_anew() {
    let (server, cuttable) = start().await;
    let maps = server.config_maps();
    create(&maps, "ns", &config_map("a", "1")).await;
    let mut frames = watch(&maps, |_| {}).await;
    assert!(next(&mut frames).await.starts_with("ADDED a "));

    cuttable.is_down.store(true, Ordering::SeqCst);
    cuttable.cut.send_modify(|cuts| *cuts += 1);
    // Written behind the server's back.
    let value = server
        .store
        .get("/registry/configmaps/ns/a")
        .await
        .unwrap()
        .value
        .unwrap();
    let text = String::from_utf8(value.value.to_vec())
        .unwrap()
        .replace(r#""a""#, r#""b""#);
    server
        .store
        .put("/registry/configmaps/ns/b", text.into(), Expect::Absent, None)
        .await
        .unwrap();
    server
        .store
        .delete("/registry/configmaps/ns/a", Expect::Any)
        .await
        .unwrap();
    cuttable.is_down.store(false, Ordering::SeqCst);

    assert_eq!(
        soon(names(&maps, &ListOptions::default())).await,
        ["ns/b"],
        "a list waits for the store's present revision"
    );
    // Whoever missed something is let go, and told so when it comes back for it.
    assert_eq!(next(&mut frames).await, "END");
    let mut frames = watch(&maps, |_| {}).await;
    assert!(next(&mut frames).await.starts_with("ADDED b "));
    create(&maps, "ns", &config_map("c", "1")).await;
    assert!(next(&mut frames).await.starts_with("ADDED c "));
}
