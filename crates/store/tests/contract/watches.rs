//! What a watch brings.

use skiff_store::{Expect, Revision, Store};

use super::{events, put, said, say};

pub(crate) async fn a_watch_tells_each_change_below_its_prefix(store: &dyn Store) {
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

pub(crate) async fn an_event_has_the_whole_states_and_the_revision(store: &dyn Store) {
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

pub(crate) async fn a_watch_from_the_past_goes_on_into_the_present(store: &dyn Store) {
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

pub(crate) async fn a_watch_tells_how_far_it_is_when_nothing_below_its_prefix_changed(store: &dyn Store) {
    let mut watch = store.watch("/quiet/", 1).await.unwrap();
    for _ in 0..5 {
        let last = put(store, "/loud/a", "x").await;
        let none: Vec<String> = Vec::new();
        assert_eq!(said(&mut watch, last - 1, last).await, none);
    }
}

pub(crate) async fn a_watch_of_the_future_waits_for_it(store: &dyn Store) {
    let mut watch = store.watch("/", 3).await.unwrap();
    for i in 2..=5 {
        put(store, "/a", &i.to_string()).await;
    }
    assert_eq!(said(&mut watch, 3, 5).await, ["~/a=3>4", "~/a=4>5"]);
}

pub(crate) async fn watches_that_start_amid_writes_have_no_gap_and_no_duplicate(store: &dyn Store) {
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
