//! Leases, and the keys that hang on them.

use std::time::Duration;

use futures::StreamExt;
use skiff_store::{Error, Event, Expect, Store, Watch};

use super::{bytes, keys, put, said, within};

pub(crate) async fn a_lease_that_is_revoked_takes_its_keys_with_it(store: &dyn Store) {
    let lease = store.lease_grant(Duration::from_secs(600)).await.unwrap();
    let other = store.lease_grant(Duration::from_secs(600)).await.unwrap();
    assert_ne!(lease, other);
    assert_eq!(store.revision().await.unwrap(), 1, "a lease is not a write");
    for (key, lease) in [
        ("/a", Some(lease)),
        ("/b", Some(other)),
        ("/c", Some(lease)),
        ("/d", None),
    ] {
        store.put(key, bytes("1"), Expect::Any, lease).await.unwrap();
        assert_eq!(store.get(key).await.unwrap().value.unwrap().lease, lease);
    }
    let mut watch = store.watch("/", 5).await.unwrap();
    store.lease_revoke(lease).await.unwrap();
    assert_eq!(keys(store, "/").await, ["/b", "/d"]);
    let last = store.revision().await.unwrap();
    let mut deleted = said(&mut watch, 5, last).await;
    deleted.sort();
    assert_eq!(deleted, ["-/a=1", "-/c=1"]);
}

pub(crate) async fn a_key_hangs_on_the_lease_of_its_last_write(store: &dyn Store) {
    let first = store.lease_grant(Duration::from_secs(600)).await.unwrap();
    let second = store.lease_grant(Duration::from_secs(600)).await.unwrap();
    for key in ["/freed", "/moved", "/anew"] {
        store
            .put(key, bytes("1"), Expect::Any, Some(first))
            .await
            .unwrap();
    }
    put(store, "/freed", "2").await;
    store
        .put("/moved", bytes("2"), Expect::Any, Some(second))
        .await
        .unwrap();
    store.delete("/anew", Expect::Any).await.unwrap();
    put(store, "/anew", "2").await;
    store.lease_revoke(first).await.unwrap();
    assert_eq!(keys(store, "/").await, ["/anew", "/freed", "/moved"]);
    store.lease_revoke(second).await.unwrap();
    assert_eq!(keys(store, "/").await, ["/anew", "/freed"]);
}

pub(crate) async fn a_lease_that_is_not_there_is_not_found(store: &dyn Store) {
    let ended = store.lease_grant(Duration::from_secs(600)).await.unwrap();
    store.lease_revoke(ended).await.unwrap();
    for lease in [ended, 987_654_321] {
        assert!(matches!(
            store.lease_revoke(lease).await,
            Err(Error::LeaseNotFound)
        ));
        assert!(matches!(
            store.lease_keep_alive(lease).await,
            Err(Error::LeaseNotFound)
        ));
        let refused = store.put("/a", bytes("1"), Expect::Any, Some(lease)).await;
        assert!(matches!(refused, Err(Error::LeaseNotFound)), "{refused:?}");
    }
    assert_eq!(store.revision().await.unwrap(), 1);
}

/// Reads a watch until it tells the deletion of a key.
async fn until_deleted(watch: &mut Watch, key: &str) {
    let looking = async {
        while let Some(batch) = watch.next().await {
            let gone = |event: &Event| {
                event.current.is_none() && event.previous.as_ref().unwrap().key.as_ref() == key
            };
            if batch.unwrap().events.iter().any(gone) {
                return;
            }
        }
        panic!("the watch ended");
    };
    within(looking).await;
}

pub(crate) async fn a_lease_ends_by_itself(store: &dyn Store) {
    let lease = store.lease_grant(Duration::from_secs(1)).await.unwrap();
    store
        .put("/a", bytes("1"), Expect::Any, Some(lease))
        .await
        .unwrap();
    put(store, "/b", "1").await;
    let mut watch = store.watch("/", 3).await.unwrap();
    until_deleted(&mut watch, "/a").await;
    assert_eq!(keys(store, "/").await, ["/b"]);
    assert!(matches!(
        store.lease_keep_alive(lease).await,
        Err(Error::LeaseNotFound)
    ));
}

pub(crate) async fn a_lease_that_is_kept_alive_outlives_its_ttl(store: &dyn Store) {
    // Two leases in a row run out while the first one, just as long, is kept alive.
    let ttl = Duration::from_secs(1);
    let kept = store.lease_grant(ttl).await.unwrap();
    store
        .put("/kept", bytes("1"), Expect::Any, Some(kept))
        .await
        .unwrap();
    let others = async {
        for key in ["/1", "/2"] {
            let lease = store.lease_grant(ttl).await.unwrap();
            let written = store
                .put(key, bytes("1"), Expect::Any, Some(lease))
                .await
                .unwrap();
            let mut watch = store.watch(key, written.revision).await.unwrap();
            until_deleted(&mut watch, key).await;
        }
    };
    let keep = async {
        let mut beat = tokio::time::interval(Duration::from_millis(100));
        loop {
            beat.tick().await;
            store.lease_keep_alive(kept).await.unwrap();
        }
    };
    tokio::select! {
        () = others => {}
        () = keep => {}
    }
    assert_eq!(keys(store, "/").await, ["/kept"]);
    let mut watch = store
        .watch("/kept", store.revision().await.unwrap())
        .await
        .unwrap();
    until_deleted(&mut watch, "/kept").await;
}
