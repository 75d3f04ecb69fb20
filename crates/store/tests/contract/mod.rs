//! What every store promises, a test for each promise. A store's own test file gives `contract!` a function that makes
//! an empty store.

use std::any::Any;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use futures::StreamExt;
use skiff_store::{Error, Event, Expect, KeyValue, Range, Revision, Store, Watch};

/// An empty store, and what must live as long as it does.
pub struct Fixture {
    pub store: Arc<dyn Store>,
    pub _guard: Box<dyn Any + Send>,
}

/// Nothing here takes so long, even on a busy machine.
pub const DEADLINE: Duration = Duration::from_secs(30);

pub async fn within<T>(future: impl Future<Output = T>) -> T {
    tokio::time::timeout(DEADLINE, future)
        .await
        .expect("took too long")
}

pub fn bytes(text: &str) -> Bytes {
    Bytes::copy_from_slice(text.as_bytes())
}

pub async fn put(store: &dyn Store, key: &str, value: &str) -> Revision {
    store
        .put(key, bytes(value), Expect::Any, None)
        .await
        .unwrap()
        .revision
}

pub fn below(prefix: &str) -> Range {
    Range {
        prefix: prefix.into(),
        ..Range::default()
    }
}

pub async fn keys(store: &dyn Store, prefix: &str) -> Vec<String> {
    let page = store.range(below(prefix)).await.unwrap();
    page.items.iter().map(|kv| kv.key.to_string()).collect()
}

/// A change, written as `+key=value` (created), `~key=old>new` or `-key=old`.
pub fn say(event: &Event) -> String {
    let text = |kv: &KeyValue| String::from_utf8(kv.value.to_vec()).unwrap();
    match (&event.previous, &event.current) {
        (None, Some(now)) => format!("+{}={}", now.key, text(now)),
        (Some(old), Some(now)) => format!("~{}={}>{}", now.key, text(old), text(now)),
        (Some(old), None) => format!("-{}={}", old.key, text(old)),
        (None, None) => "nothing".into(),
    }
}

/// Reads a watch up to a revision, and sees to it that the events come in order and that none comes late.
pub async fn events(watch: &mut Watch, after: Revision, upto: Revision) -> Vec<Event> {
    let mut events: Vec<Event> = Vec::new();
    let mut reached = after;
    while reached < upto {
        let batch = within(watch.next()).await.expect("the watch goes on").unwrap();
        assert!(batch.revision > reached, "a batch gets further");
        let mut last = reached;
        for event in batch.events {
            assert!(
                last < event.revision && event.revision <= batch.revision,
                "events are in order"
            );
            last = event.revision;
            events.push(event);
        }
        reached = batch.revision;
    }
    events
}

pub async fn said(watch: &mut Watch, after: Revision, upto: Revision) -> Vec<String> {
    events(watch, after, upto).await.iter().map(say).collect()
}

pub async fn an_empty_store_is_at_revision_1_and_the_first_write_makes_2(store: &dyn Store) {
    assert_eq!(store.revision().await.unwrap(), 1);
    let read = store.get("/a").await.unwrap();
    assert_eq!((read.value, read.revision), (None, 1));
    let page = store.range(below("/")).await.unwrap();
    assert_eq!((page.items, page.remaining, page.revision), (vec![], 0, 1));
    assert_eq!(put(store, "/a", "1").await, 2);
    assert_eq!(store.revision().await.unwrap(), 2);
}

pub async fn each_write_makes_one_revision_and_a_refused_one_none(store: &dyn Store) {
    assert_eq!(put(store, "/a", "1").await, 2);
    assert_eq!(put(store, "/b", "1").await, 3);
    assert_eq!(
        put(store, "/a", "1").await,
        4,
        "the same value again is a write too"
    );
    assert_eq!(store.delete("/a", Expect::Any).await.unwrap().revision, 5);
    store.delete("/a", Expect::Any).await.unwrap_err();
    store
        .put("/b", bytes("2"), Expect::Absent, None)
        .await
        .unwrap_err();
    assert_eq!(store.revision().await.unwrap(), 5);
    assert_eq!(put(store, "/a", "1").await, 6);
}

pub async fn a_key_tells_its_revisions_and_version(store: &dyn Store) {
    put(store, "/other", "").await;
    let created = store.put("/a", bytes("1"), Expect::Absent, None).await.unwrap();
    assert_eq!(created.previous, None);
    let updated = store.put("/a", bytes("2"), Expect::Any, None).await.unwrap();
    let first = KeyValue {
        key: "/a".into(),
        value: bytes("1"),
        create_revision: 3,
        mod_revision: 3,
        version: 1,
        lease: None,
    };
    let second = KeyValue {
        value: bytes("2"),
        mod_revision: 4,
        version: 2,
        ..first.clone()
    };
    assert_eq!(updated.previous, Some(first));
    let read = store.get("/a").await.unwrap();
    assert_eq!((read.value.as_ref(), read.revision), (Some(&second), 4));
    assert_eq!(store.range(below("/a")).await.unwrap().items, [second.clone()]);

    let deleted = store.delete("/a", Expect::Any).await.unwrap();
    assert_eq!((deleted.revision, deleted.previous), (5, Some(second)));
    assert_eq!(store.get("/a").await.unwrap().value, None);
    put(store, "/a", "3").await;
    let anew = store.get("/a").await.unwrap().value.unwrap();
    assert_eq!((anew.create_revision, anew.mod_revision, anew.version), (6, 6, 1));
}

pub async fn a_write_is_refused_unless_the_state_is_the_expected_one(store: &dyn Store) {
    put(store, "/other", "").await;
    let revision = put(store, "/a", "1").await;
    let present = store.get("/a").await.unwrap().value;

    for expect in [
        Expect::Absent,
        Expect::Revision(revision - 1),
        Expect::Revision(revision + 1),
    ] {
        for refused in [
            store.put("/a", bytes("2"), expect, None).await,
            store.delete("/a", expect).await,
        ] {
            match refused {
                Err(Error::Conflict { current }) => assert_eq!(current, present, "{expect:?}"),
                other => panic!("{expect:?}: {other:?}"),
            }
        }
    }
    for refused in [
        store
            .put("/b", bytes("2"), Expect::Revision(revision), None)
            .await,
        store.delete("/b", Expect::Revision(revision)).await,
        store.delete("/b", Expect::Absent).await,
        store.delete("/b", Expect::Any).await,
    ] {
        assert!(
            matches!(refused, Err(Error::Conflict { current: None })),
            "{refused:?}"
        );
    }
    assert_eq!(store.revision().await.unwrap(), revision);
    store.put("/b", bytes("2"), Expect::Absent, None).await.unwrap();
    let updated = store
        .put("/a", bytes("2"), Expect::Revision(revision), None)
        .await
        .unwrap();
    store
        .delete("/a", Expect::Revision(updated.revision))
        .await
        .unwrap();
    // A key that was deleted is absent, and its old revision is nobody's.
    store
        .put("/a", bytes("3"), Expect::Revision(updated.revision), None)
        .await
        .unwrap_err();
    store.put("/a", bytes("3"), Expect::Absent, None).await.unwrap();
}

pub async fn of_writers_that_race_one_wins(store: &dyn Store) {
    let mut revision = put(store, "/a", "0").await;
    for round in 0..20 {
        let racers = (0..8).map(|i| {
            store.put(
                "/a",
                bytes(&format!("{round}/{i}")),
                Expect::Revision(revision),
                None,
            )
        });
        let results = futures::future::join_all(racers).await;
        let won: Vec<_> = results.iter().flatten().collect();
        assert_eq!(won.len(), 1);
        revision = won[0].revision;
        for lost in results.iter().filter_map(|result| result.as_ref().err()) {
            match lost {
                Error::Conflict { current } => assert_eq!(current.as_ref().unwrap().mod_revision, revision),
                other => panic!("{other:?}"),
            }
        }
    }
    assert_eq!(store.revision().await.unwrap(), revision);
    assert_eq!(store.get("/a").await.unwrap().value.unwrap().version, 21);
}

pub async fn a_refused_write_takes_none_of_its_neighbours_with_it(store: &dyn Store) {
    put(store, "/taken", "").await;
    let (mut good, mut bad) = (Vec::new(), Vec::new());
    for i in 0..50 {
        good.push(async move {
            store
                .put(&format!("/new/{i:02}"), bytes("x"), Expect::Absent, None)
                .await
        });
        bad.push(async move { store.put("/taken", bytes("y"), Expect::Absent, None).await });
    }
    let (good, bad) = futures::join!(futures::future::join_all(good), futures::future::join_all(bad));
    let mut revisions: Vec<_> = good
        .into_iter()
        .map(|written| written.unwrap().revision)
        .collect();
    revisions.sort_unstable();
    assert_eq!(revisions, (3..53).collect::<Vec<_>>());
    assert!(
        bad.iter()
            .all(|refused| matches!(refused, Err(Error::Conflict { current: Some(_) })))
    );
    assert_eq!(keys(store, "/new/").await.len(), 50);
}

pub async fn a_range_is_the_prefix_in_byte_order(store: &dyn Store) {
    for key in [
        "/b/2",
        "/b",
        "/a/z",
        "/b/10",
        "/b/ä",
        "/b/Z",
        "/c",
        "/b/\u{10ffff}",
        "/b0",
    ] {
        put(store, key, key).await;
    }
    store.delete("/b/Z", Expect::Any).await.unwrap();
    assert_eq!(
        keys(store, "/b/").await,
        ["/b/10", "/b/2", "/b/ä", "/b/\u{10ffff}"]
    );
    assert_eq!(keys(store, "/b").await.len(), 6);
    assert_eq!(keys(store, "").await.len(), 8);
    assert_eq!(keys(store, "/nothing").await.len(), 0);
    for item in store.range(below("/")).await.unwrap().items {
        assert_eq!(&*item.key, std::str::from_utf8(&item.value).unwrap());
    }
}

pub async fn a_range_comes_in_pages_of_one_snapshot(store: &dyn Store) {
    for i in 0..10 {
        put(store, &format!("/a/{i}"), "old").await;
    }
    put(store, "/b", "").await;
    let first = store
        .range(Range {
            limit: 4,
            ..below("/a/")
        })
        .await
        .unwrap();
    assert_eq!((first.items.len(), first.remaining, first.revision), (4, 6, 12));
    // What happens between the pages is not seen by them.
    put(store, "/a/5", "new").await;
    put(store, "/a/55", "new").await;
    store.delete("/a/9", Expect::Any).await.unwrap();

    let mut page = first;
    let mut seen = Vec::new();
    loop {
        seen.extend(page.items.iter().map(|kv| kv.key.to_string()));
        assert!(page.items.iter().all(|kv| &kv.value[..] == b"old"));
        assert_eq!((page.remaining, page.revision), (10 - seen.len(), 12));
        if page.remaining == 0 {
            break;
        }
        page = store
            .range(Range {
                after: seen.last().cloned(),
                limit: 4,
                revision: Some(page.revision),
                ..below("/a/")
            })
            .await
            .unwrap();
    }
    assert_eq!(seen, (0..10).map(|i| format!("/a/{i}")).collect::<Vec<_>>());

    for (after, expected) in [
        ("", 10),
        ("/", 10),
        ("/a/", 10),
        ("/a/5", 4),
        ("/a/9", 0),
        ("/z", 0),
    ] {
        let range = Range {
            after: Some(after.into()),
            ..below("/a/")
        };
        let page = store.range(range).await.unwrap();
        assert_eq!(page.items.len(), expected, "after {after:?}");
    }
}

pub async fn the_state_at_each_revision_can_be_read(store: &dyn Store) {
    put(store, "/a", "1").await;
    put(store, "/b", "1").await;
    put(store, "/a", "2").await;
    store.delete("/b", Expect::Any).await.unwrap();
    put(store, "/b", "3").await;
    for (revision, expected) in [
        (1, ""),
        (2, "/a=1 v1 c2 m2;"),
        (3, "/a=1 v1 c2 m2;/b=1 v1 c3 m3;"),
        (4, "/a=2 v2 c2 m4;/b=1 v1 c3 m3;"),
        (5, "/a=2 v2 c2 m4;"),
        (6, "/a=2 v2 c2 m4;/b=3 v1 c6 m6;"),
    ] {
        let range = Range {
            revision: Some(revision),
            ..below("/")
        };
        let page = store.range(range).await.unwrap();
        let state: String = page
            .items
            .iter()
            .map(|kv| {
                let value = std::str::from_utf8(&kv.value).unwrap();
                format!(
                    "{}={value} v{} c{} m{};",
                    kv.key, kv.version, kv.create_revision, kv.mod_revision
                )
            })
            .collect();
        assert_eq!(state, expected, "at {revision}");
        assert_eq!(page.revision, revision);
    }
    let future = Range {
        revision: Some(7),
        ..below("/")
    };
    let refused = store.range(future).await;
    assert!(
        matches!(refused, Err(Error::FutureRevision { current: 6 })),
        "{refused:?}"
    );
}

pub async fn values_are_any_bytes_of_any_size(store: &dyn Store) {
    let all: Vec<u8> = (0..=255).collect();
    for (i, value) in [vec![], all.clone(), all.repeat(40), all.repeat(4000)]
        .into_iter()
        .enumerate()
    {
        let key = format!("/v/{i}");
        store
            .put(&key, value.clone().into(), Expect::Any, None)
            .await
            .unwrap();
        assert_eq!(store.get(&key).await.unwrap().value.unwrap().value, value);
        let range = store.range(below(&key)).await.unwrap();
        assert_eq!(range.items[0].value, value);
    }
}

pub async fn a_watch_tells_each_change_below_its_prefix(store: &dyn Store) {
    let mut watch = store.watch("/a/", 1).await.unwrap();
    put(store, "/a/1", "x").await;
    put(store, "/b/1", "x").await;
    put(store, "/a/1", "y").await;
    put(store, "/a", "x").await;
    store.delete("/a/1", Expect::Any).await.unwrap();
    let last = put(store, "/a/1", "z").await;
    assert_eq!(
        said(&mut watch, 1, last).await,
        ["+/a/1=x", "~/a/1=x>y", "-/a/1=y", "+/a/1=z"]
    );
    let last = put(store, "/a/2", "x").await;
    assert_eq!(said(&mut watch, last - 1, last).await, ["+/a/2=x"]);
}

pub async fn an_event_has_the_whole_states_and_the_revision(store: &dyn Store) {
    let mut watch = store.watch("/", 1).await.unwrap();
    put(store, "/a", "1").await;
    let before = store.get("/a").await.unwrap().value;
    put(store, "/a", "2").await;
    let after = store.get("/a").await.unwrap().value;
    store.delete("/a", Expect::Any).await.unwrap();
    let events = events(&mut watch, 1, 4).await;
    let said: Vec<_> = events
        .iter()
        .map(|e| (e.previous.clone(), e.current.clone(), e.revision))
        .collect();
    assert_eq!(
        said,
        [
            (None, before.clone(), 2),
            (before, after.clone(), 3),
            (after, None, 4),
        ]
    );
}

pub async fn a_watch_from_the_past_goes_on_into_the_present(store: &dyn Store) {
    for i in 0..5 {
        put(store, "/a", &i.to_string()).await;
    }
    for after in 1..=6 {
        let mut watch = store.watch("/a", after).await.unwrap();
        let last = put(store, "/a", "n").await;
        let events = events(&mut watch, after, last).await;
        let revisions: Vec<_> = events.iter().map(|event| event.revision).collect();
        assert_eq!(revisions, (after + 1..=last).collect::<Vec<_>>());
    }
}

pub async fn a_watch_tells_how_far_it_is_when_nothing_below_its_prefix_changed(store: &dyn Store) {
    let mut watch = store.watch("/quiet/", 1).await.unwrap();
    for _ in 0..5 {
        let last = put(store, "/loud/a", "x").await;
        let none: Vec<String> = Vec::new();
        assert_eq!(said(&mut watch, last - 1, last).await, none);
    }
}

pub async fn watches_that_start_amid_writes_have_no_gap_and_no_duplicate(store: &dyn Store) {
    const WRITERS: usize = 8;
    const WRITES: usize = 50;
    let last = 1 + i64::try_from(WRITERS * WRITES).unwrap();
    let write = async |writer: usize| {
        for i in 0..WRITES {
            put(
                store,
                &format!("/w/{}/{}", writer % 2, i % 7),
                &format!("{writer}-{i}"),
            )
            .await;
        }
    };
    let watch = async |prefix: &'static str, start: Revision| {
        // Wait until the store is there, by a watch of its own.
        let mut clock = store.watch("/", 1).await.unwrap();
        events(&mut clock, 1, start).await;
        let mut watch = store.watch(prefix, start).await.unwrap();
        (prefix, start, events(&mut watch, start, last).await)
    };
    let (_, watched) = futures::join!(
        futures::future::join_all((0..WRITERS).map(write)),
        futures::future::join_all(
            (0..12).map(|i| watch(["/w/", "/w/0/", "/none/"][i % 3], 10 + 25 * i as i64))
        ),
    );
    let mut all = store.watch("/", 1).await.unwrap();
    let all = events(&mut all, 1, last).await;
    assert_eq!(all.len(), WRITERS * WRITES);
    for (prefix, start, events) in watched {
        let expected: Vec<_> = all
            .iter()
            .filter(|event| event.revision > start)
            .filter(|event| event.current.as_ref().unwrap().key.starts_with(prefix))
            .map(|event| (event.revision, say(event)))
            .collect();
        let events: Vec<_> = events.iter().map(|event| (event.revision, say(event))).collect();
        assert_eq!(events, expected, "{prefix} after {start}");
    }
}

pub async fn what_was_acknowledged_is_read(store: &dyn Store) {
    let write_and_read = async |i: usize| {
        for n in 0..20 {
            let key = format!("/{i}");
            let written = store
                .put(&key, bytes(&n.to_string()), Expect::Any, None)
                .await
                .unwrap();
            assert!(store.revision().await.unwrap() >= written.revision);
            let read = store.get(&key).await.unwrap();
            assert!(read.revision >= written.revision);
            assert_eq!(read.value.unwrap().mod_revision, written.revision);
            let page = store.range(below(&key)).await.unwrap();
            assert!(page.revision >= written.revision);
            assert!(page.items.iter().any(|kv| kv.mod_revision == written.revision));
        }
    };
    futures::future::join_all((100..110).map(write_and_read)).await;
}

pub async fn compaction_forgets_the_past_and_keeps_the_state(store: &dyn Store) {
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

pub async fn compaction_of_a_future_revision_is_refused(store: &dyn Store) {
    put(store, "/a", "1").await;
    let refused = store.compact(3).await;
    assert!(
        matches!(refused, Err(Error::FutureRevision { current: 2 })),
        "{refused:?}"
    );
}

pub async fn compacting_again_is_no_error(store: &dyn Store) {
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

pub async fn a_watch_of_a_compacted_revision_is_refused(store: &dyn Store) {
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

pub async fn a_lease_that_is_revoked_takes_its_keys_with_it(store: &dyn Store) {
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

pub async fn a_key_hangs_on_the_lease_of_its_last_write(store: &dyn Store) {
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

pub async fn a_lease_that_is_not_there_is_not_found(store: &dyn Store) {
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

pub async fn a_lease_ends_by_itself(store: &dyn Store) {
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

pub async fn a_lease_that_is_kept_alive_outlives_its_ttl(store: &dyn Store) {
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

/// Makes a test of each promise, on a store that `$make` (an async function to a [`Fixture`]) makes.
#[macro_export]
macro_rules! contract {
    ($make:path) => {
        $crate::contract!($make:
            an_empty_store_is_at_revision_1_and_the_first_write_makes_2
            each_write_makes_one_revision_and_a_refused_one_none
            a_key_tells_its_revisions_and_version
            a_write_is_refused_unless_the_state_is_the_expected_one
            of_writers_that_race_one_wins
            a_refused_write_takes_none_of_its_neighbours_with_it
            a_range_is_the_prefix_in_byte_order
            a_range_comes_in_pages_of_one_snapshot
            the_state_at_each_revision_can_be_read
            values_are_any_bytes_of_any_size
            a_watch_tells_each_change_below_its_prefix
            an_event_has_the_whole_states_and_the_revision
            a_watch_from_the_past_goes_on_into_the_present
            a_watch_tells_how_far_it_is_when_nothing_below_its_prefix_changed
            watches_that_start_amid_writes_have_no_gap_and_no_duplicate
            what_was_acknowledged_is_read
            compaction_forgets_the_past_and_keeps_the_state
            compaction_of_a_future_revision_is_refused
            compacting_again_is_no_error
            a_watch_of_a_compacted_revision_is_refused
            a_lease_that_is_revoked_takes_its_keys_with_it
            a_key_hangs_on_the_lease_of_its_last_write
            a_lease_that_is_not_there_is_not_found
            a_lease_ends_by_itself
            a_lease_that_is_kept_alive_outlives_its_ttl
        );
    };
    ($make:path: $($promise:ident)*) => {
        mod contract_tests {
            $(#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
            async fn $promise() {
                let fixture = $make().await;
                $crate::contract::$promise(&*fixture.store).await;
            })*
        }
    };
}
