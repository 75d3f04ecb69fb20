//! What a write does, and when it is refused.

use skiff_store::{Error, Expect, KeyValue, Store};

use super::{below, bytes, keys, put};

pub(crate) async fn an_empty_store_is_at_revision_1_and_the_first_write_makes_2(store: &dyn Store) {
    assert_eq!(store.revision().await.unwrap(), 1);
    let read = store.get("/a").await.unwrap();
    assert_eq!((read.value, read.revision), (None, 1));
    let page = store.range(below("/")).await.unwrap();
    assert_eq!((page.items, page.remaining, page.revision), (vec![], 0, 1));
    assert_eq!(put(store, "/a", "1").await, 2);
    assert_eq!(store.revision().await.unwrap(), 2);
}

pub(crate) async fn each_write_makes_one_revision_and_a_refused_one_none(store: &dyn Store) {
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

pub(crate) async fn a_key_tells_its_revisions_and_version(store: &dyn Store) {
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
    assert_eq!(
        store.range(below("/a")).await.unwrap().items,
        std::slice::from_ref(&second)
    );

    let deleted = store.delete("/a", Expect::Any).await.unwrap();
    assert_eq!((deleted.revision, deleted.previous), (5, Some(second)));
    assert_eq!(store.get("/a").await.unwrap().value, None);
    put(store, "/a", "3").await;
    let anew = store.get("/a").await.unwrap().value.unwrap();
    assert_eq!((anew.create_revision, anew.mod_revision, anew.version), (6, 6, 1));
}

pub(crate) async fn a_write_is_refused_unless_the_state_is_the_expected_one(store: &dyn Store) {
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

pub(crate) async fn of_writers_that_race_one_wins(store: &dyn Store) {
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

pub(crate) async fn a_refused_write_takes_none_of_its_neighbours_with_it(store: &dyn Store) {
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

pub(crate) async fn what_was_acknowledged_is_read(store: &dyn Store) {
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
