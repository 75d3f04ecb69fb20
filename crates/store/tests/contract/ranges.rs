//! Reading a range, now and in the past.

use skiff_store::{Error, Expect, Range, Store};

use super::{below, keys, put};

pub(crate) async fn a_range_is_the_prefix_in_byte_order(store: &dyn Store) {
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

pub(crate) async fn a_range_comes_in_pages_of_one_snapshot(store: &dyn Store) {
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

pub(crate) async fn the_state_at_each_revision_can_be_read(store: &dyn Store) {
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

pub(crate) async fn values_are_any_bytes_of_any_size(store: &dyn Store) {
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
