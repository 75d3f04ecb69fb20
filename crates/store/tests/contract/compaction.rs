//! What compaction takes and what it leaves.

use futures::StreamExt;
use skiff_store::{Error, Expect, Range, Store};

use super::{below, keys, put, said, within};

pub(crate) async fn compaction_forgets_the_past_and_keeps_the_state(store: &dyn Store) {
    for i in 1..=5 {
        put(store, "/a", &i.to_string()).await;
    }
    put(store, "/b", "1").await;
    store.delete("/b", Expect::Any).await.unwrap();
    put(store, "/c", "1").await;
    // 2..=6: a, 7: b, 8: b deleted, 9: c
    store.compact(5).await.unwrap();
    let at = |revision| Range {
        revision: Some(revision),
        ..below("/")
    };
    for old in 2..5 {
        let refused = store.range(at(old)).await;
        assert!(
            matches!(refused, Err(Error::Compacted { oldest: 5 })),
            "{old}: {refused:?}"
        );
    }
    for (revision, expected) in [
        (5, &["/a"][..]),
        (6, &["/a"]),
        (7, &["/a", "/b"]),
        (8, &["/a"]),
        (9, &["/a", "/c"]),
    ] {
        let page = store.range(at(revision)).await.unwrap();
        let found: Vec<_> = page.items.iter().map(|kv| &*kv.key).collect();
        assert_eq!(found, expected, "at {revision}");
    }
    assert_eq!(store.range(at(5)).await.unwrap().items[0].value, "4");
    store.compact(8).await.unwrap();
    assert_eq!(keys(store, "/").await, ["/a", "/c"]);
    assert_eq!(store.revision().await.unwrap(), 9);
    assert_eq!(store.range(at(8)).await.unwrap().items[0].value, "5");
    assert_eq!(put(store, "/a", "6").await, 10, "the count goes on");
}

pub(crate) async fn compaction_of_a_future_revision_is_refused(store: &dyn Store) {
    put(store, "/a", "1").await;
    let refused = store.compact(3).await;
    assert!(
        matches!(refused, Err(Error::FutureRevision { current: 2 })),
        "{refused:?}"
    );
}

pub(crate) async fn compacting_again_is_no_error(store: &dyn Store) {
    for _ in 0..5 {
        put(store, "/a", "1").await;
    }
    store.compact(4).await.unwrap();
    store.compact(4).await.unwrap();
    store.compact(3).await.unwrap();
    let at_3 = Range {
        revision: Some(3),
        ..below("/")
    };
    assert!(matches!(
        store.range(at_3).await,
        Err(Error::Compacted { oldest: 4 })
    ));
}

pub(crate) async fn a_watch_of_a_compacted_revision_is_refused(store: &dyn Store) {
    for i in 0..8 {
        put(store, "/a", &i.to_string()).await;
    }
    store.compact(6).await.unwrap();
    // Either at once or as the first thing that the watch says.
    let refused = match store.watch("/a", 3).await {
        Err(error) => error,
        Ok(mut watch) => {
            let error = within(watch.next()).await.unwrap().unwrap_err();
            assert!(
                within(watch.next()).await.is_none(),
                "the watch ends after an error"
            );
            error
        }
    };
    assert!(matches!(refused, Error::Compacted { oldest: 6 }), "{refused:?}");
    let mut watch = store.watch("/a", 6).await.unwrap();
    assert_eq!(said(&mut watch, 6, 9).await, ["~/a=4>5", "~/a=5>6", "~/a=6>7"]);
}
