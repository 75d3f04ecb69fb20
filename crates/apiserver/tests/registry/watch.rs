//! watch: every change once and in order, from any beginning.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use futures::{StreamExt, future};
use serde_json::{Value, json};
use skiff_api::{Target, catalogue};
use skiff_apiserver::registry::{
    AdmitAll, DeleteOptions, EventType, Frame, ListOptions, PatchType, Registry, Resource,
};
use skiff_store::Range;
use tokio_util::sync::CancellationToken;

use crate::server::*;

#[tokio::test]
async fn a_watch_shows_what_is_there_and_then_each_change() {
    let server = Server::start().await;
    let maps = server.config_maps();
    let made = create(&maps, "ns", &config_map("a", "1")).await;
    let mut frames = watch(&maps, |_| {}).await;
    assert_eq!(next(&mut frames).await, format!("ADDED a {}", made.revision()));
    let changed = maps
        .update("ns", "a", Target::Main, &bytes(&config_map("a", "2")), &options())
        .await
        .unwrap();
    assert_eq!(
        next(&mut frames).await,
        format!("MODIFIED a {}", changed.entry.revision())
    );
    maps.delete("ns", "a", &DeleteOptions::default(), &options())
        .await
        .unwrap();
    let frame = soon(frames.next()).await.unwrap();
    let gone = server.store.revision().await.unwrap();
    assert_eq!(shown(&frame), format!("DELETED a {gone}"));
    let Frame::Deleted(entry) = frame else { panic!() };
    let line: Value = serde_json::from_slice(&entry.line(EventType::Deleted)).unwrap();
    assert_eq!(line["type"], "DELETED");
    assert_eq!(line["object"]["data"]["value"], "2", "the last state");
    assert_eq!(line["object"]["metadata"]["resourceVersion"], gone.to_string());

    // From a version on: only what came after it.
    let mut frames = watch(&maps, |options| {
        options.resource_version = Some(made.revision().to_string());
    })
    .await;
    assert_eq!(
        next(&mut frames).await,
        format!("MODIFIED a {}", changed.entry.revision())
    );
    assert_eq!(next(&mut frames).await, format!("DELETED a {gone}"));
}

#[tokio::test]
async fn watches_share_the_line_of_an_event() {
    let server = Server::start().await;
    let maps = server.config_maps();
    let mut watches = Vec::new();
    for _ in 0..3 {
        watches.push(watch(&maps, |_| {}).await);
    }
    create(&maps, "ns", &config_map("a", "1")).await;
    let mut lines = Vec::new();
    for frames in &mut watches {
        let Frame::Added(entry) = soon(frames.next()).await.unwrap() else {
            panic!()
        };
        lines.push(entry.line(EventType::Added));
    }
    assert!(
        lines[0]
            .starts_with(br#"{"type":"ADDED","object":{"apiVersion":"v1","kind":"ConfigMap","metadata":{"#)
    );
    assert!(lines[0].ends_with(b"}\n"));
    assert!(lines.iter().all(|line| line.as_ptr() == lines[0].as_ptr()));
}

#[tokio::test]
async fn a_watch_with_a_selector_shows_objects_begin_and_cease_to_match() {
    let server = Server::start().await;
    let maps = server.config_maps();
    create(&maps, "ns", &labelled("a", "web")).await;
    create(&maps, "ns", &labelled("b", "db")).await;
    create(&maps, "other", &labelled("c", "web")).await;
    let mut frames = watch(&maps, |options| {
        options.namespace = Some("ns".into());
        options.label_selector = "app=web".into();
    })
    .await;
    let relabel = async |name: &str, label: &str| {
        let body = bytes(&labelled(name, label));
        let written = maps.update("ns", name, Target::Main, &body, &options()).await;
        written.unwrap().entry.revision()
    };
    assert!(next(&mut frames).await.starts_with("ADDED a "));
    let revision = relabel("a", "db").await;
    let frame = soon(frames.next()).await.unwrap();
    assert_eq!(shown(&frame), format!("DELETED a {revision}"));
    let Frame::Deleted(entry) = frame else { panic!() };
    assert_eq!(
        read(&entry)["metadata"]["labels"]["app"],
        "web",
        "the state in which it matched"
    );
    let revision = relabel("b", "web").await;
    assert_eq!(next(&mut frames).await, format!("ADDED b {revision}"));
    relabel("a", "x").await;
    create(&maps, "other", &labelled("d", "web")).await;
    let revision = relabel("a", "web").await;
    assert_eq!(
        next(&mut frames).await,
        format!("ADDED a {revision}"),
        "nothing in between was shown"
    );
}

#[tokio::test]
async fn a_streamed_list_is_marked_at_its_end() {
    let server = Server::start().await;
    let maps = server.config_maps();
    let made = create(&maps, "ns", &config_map("a", "1")).await;
    let mut frames = watch(&maps, |options| {
        options.send_initial_events = Some(true);
        options.resource_version_match = Some("NotOlderThan".into());
        options.allow_bookmarks = true;
    })
    .await;
    assert_eq!(next(&mut frames).await, format!("ADDED a {}", made.revision()));
    let frame = soon(frames.next()).await.unwrap();
    assert_eq!(shown(&frame), format!("BOOKMARK {} true", made.revision()));
}

#[tokio::test]
async fn a_watch_ends_in_time_and_is_told_before_how_far_it_is() {
    let server = Server::start().await;
    let maps = server.config_maps();
    create(&maps, "ns", &config_map("a", "1")).await;
    create(
        &server.resource("", "secrets"),
        "ns",
        &json!({"metadata": {"name": "s"}}),
    )
    .await;
    let now = server.store.revision().await.unwrap();
    server.registry.ready().await.unwrap();
    tokio::time::pause();
    let start = tokio::time::Instant::now();
    let mut frames = watch(&maps, |options| {
        options.resource_version = Some((now - 1).to_string());
        options.allow_bookmarks = true;
        options.timeout = Duration::from_secs(90);
    })
    .await;
    let bookmark = format!("BOOKMARK {now} false");
    let mut at = Vec::new();
    while let Some(frame) = frames.next().await {
        assert_eq!(
            shown(&frame),
            bookmark,
            "the secret's revision, though nothing of ours changed"
        );
        at.push(start.elapsed().as_secs());
    }
    assert_eq!(at, [60, 88]);
    assert_eq!(start.elapsed().as_secs(), 90);
}

#[tokio::test]
async fn a_watch_from_before_what_is_kept_is_told_to_list_again() {
    let server = Server::start().await;
    create(&server.config_maps(), "ns", &config_map("a", "1")).await;
    let now = server.store.revision().await.unwrap();
    // Another server on the same store knows nothing of what was before it.
    let stop = CancellationToken::new();
    let _stop = stop.clone().drop_guard();
    let second = Registry::open(
        server.store.clone(),
        catalogue::builtin(),
        Arc::new(AdmitAll),
        stop,
    )
    .await
    .unwrap();
    let maps = second.resource("", "v1", "configmaps").unwrap();
    assert_eq!(names(maps, &ListOptions::default()).await, ["ns/a"]);
    let mut frames = watch(maps, |options| options.resource_version = Some("1".into())).await;
    assert_eq!(
        next(&mut frames).await,
        format!("ERROR 410 too old resource version: 1 ({now})")
    );
    assert_eq!(next(&mut frames).await, "END");
    let mut frames = watch(maps, |options| options.resource_version = Some(now.to_string())).await;
    let made = create(&server.config_maps(), "ns", &config_map("b", "1")).await;
    assert_eq!(next(&mut frames).await, format!("ADDED b {}", made.revision()));
}

/// What matches a label selector, by name.
async fn listed(resource: &Resource, selector: &str) -> (BTreeMap<String, Bytes>, i64) {
    let options = ListOptions {
        label_selector: selector.into(),
        ..ListOptions::default()
    };
    let list = resource.list(&options).await.unwrap();
    let items = list.items.iter();
    let state = items
        .map(|entry| (entry.name().to_string(), entry.json().clone()))
        .collect();
    (state, list.resource_version)
}

/// Follows a watch from a list on, until it sees an object.
async fn follow(resource: &Resource, selector: &str, until: &str) -> BTreeMap<String, Bytes> {
    let (mut state, revision) = listed(resource, selector).await;
    let mut frames = watch(resource, |options| {
        options.label_selector = selector.into();
        options.resource_version = Some(revision.to_string());
    })
    .await;
    let mut last = revision;
    loop {
        let frame = soon(frames.next()).await.expect("the watch goes on");
        let (entry, before) = match &frame {
            Frame::Added(entry) => (entry, state.insert(entry.name().into(), entry.json().clone())),
            Frame::Modified(entry) => {
                let before = state.insert(entry.name().into(), entry.json().clone());
                assert!(before.is_some(), "{} of what was not there", shown(&frame));
                (entry, None)
            }
            Frame::Deleted(entry) => {
                assert!(state.remove(entry.name()).is_some(), "{} twice", shown(&frame));
                (entry, None)
            }
            other => panic!("{}", shown(other)),
        };
        assert!(before.is_none(), "{} of what was there", shown(&frame));
        assert!(entry.revision() > last, "in order");
        last = entry.revision();
        if entry.name() == until {
            return state;
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn a_list_and_the_changes_after_it_make_the_final_list_under_concurrent_writes() {
    let server = Server::start().await;
    let maps = server.config_maps();
    let writers: Vec<_> = (0..8)
        .map(|writer| {
            let maps = maps.clone();
            tokio::spawn(async move {
                for turn in 0..60_u32 {
                    let name = format!("m{}", (turn * 7 + writer) % 10);
                    let label = if (turn + writer) % 4 < 2 { "web" } else { "db" };
                    let body = bytes(&json!({
                        "metadata": {"name": name, "labels": {"app": label}},
                        "data": {"value": format!("{writer}-{turn}")}
                    }));
                    // Each of these may be refused because another writer was quicker.
                    match turn % 3 {
                        0 => drop(maps.create("ns", &body, &options()).await),
                        1 => drop(maps.update("ns", &name, Target::Main, &body, &options()).await),
                        _ if turn % 2 == 0 => {
                            drop(
                                maps.delete("ns", &name, &DeleteOptions::default(), &options())
                                    .await,
                            );
                        }
                        _ => {
                            let patch = merge(json!({"metadata": {"labels": {"app": label}}}));
                            drop(
                                maps.patch("ns", &name, Target::Main, PatchType::Merge, &patch, &options())
                                    .await,
                            );
                        }
                    }
                }
            })
        })
        .collect();
    let selectors = ["", "app=web", "app!=web", "app"];
    let followers: Vec<_> = selectors
        .into_iter()
        .cycle()
        .take(12)
        .map(|selector| {
            let maps = maps.clone();
            tokio::spawn(async move { (selector, follow(&maps, selector, "the-end").await) })
        })
        .collect();
    for done in future::join_all(writers).await {
        done.unwrap();
    }
    // First an end that one of the selectors matches, then one for the other.
    create(&maps, "ns", &labelled("the-end", "db")).await;
    let mut ends = BTreeMap::new();
    for selector in ["", "app!=web", "app"] {
        ends.insert(selector, listed(&maps, selector).await.0);
    }
    maps.update(
        "ns",
        "the-end",
        Target::Main,
        &bytes(&labelled("the-end", "web")),
        &options(),
    )
    .await
    .unwrap();
    ends.insert("app=web", listed(&maps, "app=web").await.0);
    for follower in followers {
        let (selector, state) = follower.await.unwrap();
        assert_eq!(state, ends[selector], "{selector:?}");
    }
    // And the store says the same.
    let stored = server
        .store
        .range(Range {
            prefix: "/registry/configmaps/".into(),
            ..Range::default()
        })
        .await
        .unwrap();
    let stored: Vec<(String, i64)> = stored
        .items
        .iter()
        .map(|item| {
            (
                item.key.rsplit('/').next().unwrap().to_string(),
                item.mod_revision,
            )
        })
        .collect();
    let listed: Vec<(String, i64)> = maps
        .list(&ListOptions::default())
        .await
        .unwrap()
        .items
        .iter()
        .map(|entry| (entry.name().to_string(), entry.revision()))
        .collect();
    assert_eq!(stored, listed);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_watcher_gets_every_change() {
    const WATCHERS: usize = 100;
    const CHANGES: usize = 500;
    let server = Server::start().await;
    let maps = server.config_maps();
    let mut tasks = Vec::new();
    for _ in 0..WATCHERS {
        let frames = watch(&maps, |_| {}).await;
        tasks.push(tokio::spawn(async move {
            let frames: Vec<Frame> = frames.take(CHANGES).collect().await;
            frames
                .iter()
                .filter(|frame| matches!(frame, Frame::Added(_)))
                .count()
        }));
    }
    let names: Vec<String> = (0..CHANGES).map(|number| format!("m{number}")).collect();
    futures::stream::iter(&names)
        .for_each_concurrent(64, async |name| {
            create(&maps, "ns", &config_map(name, "1")).await;
        })
        .await;
    for task in tasks {
        assert_eq!(soon(task).await.unwrap(), CHANGES);
    }
}
