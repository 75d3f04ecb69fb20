//! The SQLite store keeps the contract, and what is its own: restarts, the ring and the history behind it, one process,
//! file modes.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::panic,
    reason = "a test may; the lint knows only functions marked as one"
)]

#[macro_use]
mod contract;

use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use contract::{Fixture, below, bytes, events, keys, put, said, within};
use futures::StreamExt;
use skiff_store::{Error, Expect, SqliteOptions, SqliteStore, Store};

async fn empty() -> Fixture {
    empty_with(SqliteOptions::default())
}

/// With no room for events: every watch reads the file, every value comes out of it.
async fn empty_without_ring() -> Fixture {
    empty_with(SqliteOptions {
        ring_events: 0,
        ..SqliteOptions::default()
    })
}

fn empty_with(options: SqliteOptions) -> Fixture {
    let directory = tempfile::tempdir().unwrap();
    Fixture {
        store: Arc::new(SqliteStore::open(&directory.path().join("state.db"), options).unwrap()),
        _guard: Box::new(directory),
    }
}

mod from_the_ring {
    contract!(crate::empty);
}

mod from_the_file {
    contract!(crate::empty_without_ring);
}

fn open(directory: &Path) -> SqliteStore {
    SqliteStore::open(&directory.join("state.db"), SqliteOptions::default()).unwrap()
}

#[tokio::test]
async fn a_restart_changes_nothing() {
    let directory = tempfile::tempdir().unwrap();
    let store = open(directory.path());
    let lease = store.lease_grant(Duration::from_secs(600)).await.unwrap();
    put(&store, "/a", "1").await;
    put(&store, "/a", "2").await;
    store
        .put("/leased", bytes("1"), Expect::Any, Some(lease))
        .await
        .unwrap();
    store
        .put("/freed", bytes("1"), Expect::Any, Some(lease))
        .await
        .unwrap();
    put(&store, "/freed", "2").await;
    put(&store, "/b", "1").await;
    store.delete("/b", Expect::Any).await.unwrap();
    store.compact(3).await.unwrap();
    let before = store.range(below("/")).await.unwrap();
    store.close().await;

    let store = open(directory.path());
    let after = store.range(below("/")).await.unwrap();
    assert_eq!((after.items, after.revision), (before.items, before.revision));
    let mut watch = store.watch("/", 3).await.unwrap();
    assert_eq!(
        said(&mut watch, 3, 8).await,
        ["+/leased=1", "+/freed=1", "~/freed=1>2", "+/b=1", "-/b=1"]
    );
    assert!(matches!(
        store.watch("/", 2).await,
        Err(Error::Compacted { oldest: 3 })
    ));
    assert_eq!(put(&store, "/b", "2").await, 9);
    store.lease_keep_alive(lease).await.unwrap();
    store.lease_revoke(lease).await.unwrap();
    assert_eq!(keys(&store, "/").await, ["/a", "/b", "/freed"]);
    assert_ne!(
        store.lease_grant(Duration::from_secs(600)).await.unwrap(),
        lease,
        "a number is given once"
    );
}

#[tokio::test]
async fn the_revision_does_not_go_back_when_the_last_change_is_compacted() {
    let directory = tempfile::tempdir().unwrap();
    let store = open(directory.path());
    put(&store, "/a", "1").await;
    store.delete("/a", Expect::Any).await.unwrap();
    store.compact(3).await.unwrap();
    // The next writes share their commits with what deletes the compacted rows.
    let lease = store.lease_grant(Duration::from_secs(600)).await.unwrap();
    store.lease_keep_alive(lease).await.unwrap();
    store.close().await;
    let connection = rusqlite::Connection::open(directory.path().join("state.db")).unwrap();
    let rows: i64 = connection
        .query_row("SELECT count(*) FROM changes", [], |row| row.get(0))
        .unwrap();
    assert_eq!(rows, 0);
    drop(connection);

    let store = open(directory.path());
    assert_eq!(store.revision().await.unwrap(), 3);
    assert_eq!(put(&store, "/a", "1").await, 4);
}

#[tokio::test]
async fn a_lease_that_ran_out_while_the_store_was_closed_ends_when_it_is_opened() {
    let directory = tempfile::tempdir().unwrap();
    let store = open(directory.path());
    for key in ["/late", "/living"] {
        let lease = store.lease_grant(Duration::from_secs(600)).await.unwrap();
        store
            .put(key, bytes("1"), Expect::Any, Some(lease))
            .await
            .unwrap();
    }
    drop(store);
    // As if ten minutes had gone by for the first.
    let connection = rusqlite::Connection::open(directory.path().join("state.db")).unwrap();
    connection
        .execute("UPDATE leases SET deadline = deadline - 600000 WHERE id = 1", [])
        .unwrap();
    drop(connection);

    let store = open(directory.path());
    let mut watch = store.watch("/", 3).await.unwrap();
    assert_eq!(said(&mut watch, 3, 4).await, ["-/late=1"]);
    assert_eq!(keys(&store, "/").await, ["/living"]);
}

#[tokio::test]
async fn compaction_deletes_the_rows_and_a_restart_goes_on_with_it() {
    let directory = tempfile::tempdir().unwrap();
    let store = open(directory.path());
    let writes = (0..3000).map(|i| {
        let store = &store;
        async move { put(store, &format!("/{}", i % 10), "x").await }
    });
    futures::future::join_all(writes).await;
    store.compact(3001).await.unwrap();
    // Most of it is left for later.
    drop(store);

    let store = open(directory.path());
    let count = || {
        let connection = rusqlite::Connection::open(directory.path().join("state.db")).unwrap();
        let rows = |table| {
            connection
                .query_row(&format!("SELECT count(*) FROM {table}"), [], |row| {
                    row.get::<_, i64>(0)
                })
                .unwrap()
        };
        (rows("changes"), rows("contents"))
    };
    within(async {
        while count() != (10, 10) {
            // Each commit takes some garbage along, so this both waits and drives.
            let lease = store.lease_grant(Duration::from_secs(600)).await.unwrap();
            store.lease_revoke(lease).await.unwrap();
        }
    })
    .await;
    assert_eq!(keys(&store, "/").await.len(), 10);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_watcher_that_does_not_read_holds_up_nobody_and_misses_nothing() {
    let directory = tempfile::tempdir().unwrap();
    let options = SqliteOptions {
        ring_events: 100,
        ..SqliteOptions::default()
    };
    let store = SqliteStore::open(&directory.path().join("state.db"), options).unwrap();
    let mut slow = store.watch("/", 1).await.unwrap();
    let mut compacted = store.watch("/", 1).await.unwrap();
    // It has begun to read, and then stops.
    put(&store, "/0", "x").await;
    assert_eq!(events(&mut slow, 1, 2).await.len(), 1);

    let writes = (1..5000).map(|i| {
        let store = &store;
        async move { put(store, &format!("/{}", i % 50), "x").await }
    });
    within(futures::future::join_all(writes)).await;
    let missed = events(&mut slow, 2, 5001).await;
    let revisions: Vec<_> = missed.iter().map(|event| event.revision).collect();
    assert_eq!(revisions, (3..=5001).collect::<Vec<_>>());
    assert!(missed.iter().skip(50).all(|event| event.previous.is_some()));

    store.compact(4000).await.unwrap();
    let error = within(compacted.next()).await.unwrap().unwrap_err();
    assert!(matches!(error, Error::Compacted { oldest: 4000 }), "{error:?}");
    assert!(compacted.next().await.is_none());
}

/// How many commits stand in SQLite's log: a frame's header tells whether it ends one (SQLite's file format, section 4.1).
fn commits(directory: &Path) -> usize {
    let log = std::fs::read(directory.join("state.db-wal")).unwrap();
    let page_size = u32::from_be_bytes(log[8..12].try_into().unwrap()) as usize;
    let frames = log[32..].chunks(24 + page_size);
    frames.filter(|frame| frame[4..8] != [0; 4]).count()
}

#[tokio::test]
async fn writes_that_come_together_share_a_commit_and_a_lone_one_does_not_wait() {
    let directory = tempfile::tempdir().unwrap();
    let store = open(directory.path());
    let start = commits(directory.path());
    for i in 0..10 {
        put(&store, &format!("/lone/{i}"), "x").await;
    }
    let lone = commits(directory.path()) - start;
    assert_eq!(lone, 10);
    let writes = (0..500).map(|i| {
        let store = &store;
        async move { put(store, &format!("/together/{i}"), "x").await }
    });
    futures::future::join_all(writes).await;
    let together = commits(directory.path()) - start - lone;
    assert!(together < 250, "{together} commits for 500 writes");
}

/// Key `r % KEYS` is written by revision `r`, so the state at a revision is its last `KEYS` revisions.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn reads_beside_compaction_are_whole_or_say_that_they_cannot_be() {
    const KEYS: i64 = 600;
    const LAST: i64 = 8000;
    let fixture = empty_with(SqliteOptions {
        ring_events: 20,
        ..SqliteOptions::default()
    });
    let store = &*fixture.store;
    let range = async |revision| {
        let range = skiff_store::Range {
            revision,
            ..below("/")
        };
        let page = store.range(range).await?;
        let mut revisions: Vec<_> = page.items.iter().map(|kv| kv.mod_revision).collect();
        revisions.sort_unstable();
        let expected: Vec<_> = ((page.revision - KEYS + 1).max(2)..=page.revision).collect();
        assert_eq!(revisions, expected, "at {}", page.revision);
        Ok(page.revision)
    };
    let write = async {
        while store.revision().await.unwrap() < LAST {
            // One after the other would take too long; a batch keeps the order.
            let next = store.revision().await.unwrap() + 1;
            let writes = (next..next + 50).map(async |r| put(store, &format!("/{:03}", r % KEYS), "x").await);
            futures::future::join_all(writes).await;
        }
    };
    let compact = async {
        while store.revision().await.unwrap() < LAST {
            let now = range(None).await.unwrap();
            store.compact(now).await.unwrap();
        }
    };
    let read = async {
        let mut compacted = 0;
        while store.revision().await.unwrap() < LAST {
            let now = range(None).await.unwrap();
            match range(Some(now)).await {
                Ok(at) => assert_eq!(at, now),
                Err(Error::Compacted { oldest }) => {
                    assert!(oldest > now);
                    compacted += 1;
                }
                Err(other) => panic!("{other:?}"),
            }
        }
        compacted
    };
    let watch = async {
        let mut compacted = 0;
        'watches: while store.revision().await.unwrap() < LAST {
            let mut reached = store.revision().await.unwrap();
            let mut watch = match store.watch("/", reached).await {
                Ok(watch) => watch,
                Err(Error::Compacted { .. }) => continue,
                Err(other) => panic!("{other:?}"),
            };
            while reached < LAST {
                match watch.next().await.unwrap() {
                    Ok(batch) => {
                        for event in batch.events {
                            assert_eq!(event.revision, reached + 1);
                            let previous = event.previous.map(|kv| kv.mod_revision);
                            assert_eq!(previous, Some(reached + 1 - KEYS).filter(|first| *first >= 2));
                            reached += 1;
                        }
                        assert_eq!(reached, batch.revision);
                    }
                    Err(Error::Compacted { oldest }) => {
                        assert!(oldest > reached);
                        compacted += 1;
                        continue 'watches;
                    }
                    Err(other) => panic!("{other:?}"),
                }
            }
        }
        compacted
    };
    let (_, _, ranges, watches) = within(async { futures::join!(write, compact, read, watch) }).await;
    println!("{ranges} ranges and {watches} watches were overtaken by compaction");
}

#[tokio::test]
async fn a_closed_store_says_so() {
    let directory = tempfile::tempdir().unwrap();
    let store = open(directory.path());
    let mut watch = store.watch("/", 1).await.unwrap();
    // Queued before the close, so still done.
    let write = store.put("/a", bytes("1"), Expect::Any, None);
    let (written, ()) = futures::join!(write, store.close());
    assert_eq!(written.unwrap().revision, 2);
    assert_eq!(said(&mut watch, 1, 2).await, ["+/a=1"]);
    let ended = within(watch.next()).await.unwrap();
    assert!(matches!(ended, Err(Error::Unavailable(_))), "{ended:?}");
    assert!(within(watch.next()).await.is_none());
    let unavailable = |what: &str, failed: bool| assert!(failed, "{what}");
    unavailable(
        "revision",
        matches!(store.revision().await, Err(Error::Unavailable(_))),
    );
    unavailable("get", matches!(store.get("/a").await, Err(Error::Unavailable(_))));
    unavailable(
        "range",
        matches!(store.range(below("/")).await, Err(Error::Unavailable(_))),
    );
    unavailable(
        "watch",
        matches!(store.watch("/", 1).await, Err(Error::Unavailable(_))),
    );
    unavailable(
        "delete",
        matches!(store.delete("/a", Expect::Any).await, Err(Error::Unavailable(_))),
    );
    unavailable(
        "compact",
        matches!(store.compact(1).await, Err(Error::Unavailable(_))),
    );
    store.close().await;
}

#[tokio::test]
async fn closing_leaves_one_file_that_only_its_owner_can_read() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("deep").join("down").join("state.db");
    let store = SqliteStore::open(&path, SqliteOptions::default()).unwrap();
    put(&store, "/a", "secret").await;
    let mode = |path: &Path| std::fs::metadata(path).unwrap().permissions().mode() & 0o777;
    assert_eq!(mode(path.parent().unwrap()), 0o700);
    for entry in std::fs::read_dir(path.parent().unwrap()).unwrap() {
        let entry = entry.unwrap();
        assert_eq!(mode(&entry.path()), 0o600, "{entry:?}");
    }
    store.close().await;
    let left: Vec<_> = std::fs::read_dir(path.parent().unwrap())
        .unwrap()
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .filter(|name| !name.ends_with(".lock"))
        .collect();
    assert_eq!(left, ["state.db"]);
}

#[tokio::test]
async fn only_one_store_has_the_file_open() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("state.db");
    let store = open(directory.path());
    let second = SqliteStore::open(&path, SqliteOptions::default());
    assert!(
        matches!(second, Err(Error::Unavailable(ref text)) if text.contains("in use")),
        "{second:?}"
    );
    store.close().await;
    SqliteStore::open(&path, SqliteOptions::default()).unwrap();
}

#[test]
fn a_file_of_somebody_else_is_refused_and_left_alone() {
    let directory = tempfile::tempdir().unwrap();
    let newer = directory.path().join("newer.db");
    drop(SqliteStore::open(&newer, SqliteOptions::default()).unwrap());
    rusqlite::Connection::open(&newer)
        .unwrap()
        .pragma_update(None, "user_version", 99)
        .unwrap();
    let foreign = directory.path().join("foreign.db");
    let connection = rusqlite::Connection::open(&foreign).unwrap();
    connection
        .execute_batch("PRAGMA application_id = 7; CREATE TABLE t (a)")
        .unwrap();
    drop(connection);
    let text = directory.path().join("text.db");
    std::fs::write(
        &text,
        "not a database, but long enough to be looked at as one".repeat(100),
    )
    .unwrap();
    for (path, reason) in [
        (newer, "format 99"),
        (foreign, "not a database of this store"),
        (text, "not a database"),
    ] {
        match SqliteStore::open(&path, SqliteOptions::default()) {
            Err(Error::Unavailable(text)) => assert!(text.contains(reason), "{text}"),
            other => panic!("{other:?}"),
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_value_larger_than_the_whole_queue_goes_through() {
    let fixture = empty_with(SqliteOptions {
        queue_bytes: 4096,
        ring_bytes: 4096,
        ..SqliteOptions::default()
    });
    let store = &*fixture.store;
    let value = "x".repeat(100_000);
    let writes = (0..20).map(|i| {
        let value = &value;
        async move { put(store, &format!("/{i}"), value).await }
    });
    within(futures::future::join_all(writes)).await;
    assert_eq!(store.get("/7").await.unwrap().value.unwrap().value, value);
}
