//! list: selectors, pages, revisions.

use std::collections::BTreeSet;

use skiff_apiserver::registry::{DeleteOptions, ListOptions};

use crate::server::*;

#[tokio::test]
async fn lists_select_by_namespace_label_and_field() {
    let server = Server::start().await;
    let maps = server.config_maps();
    for (namespace, name, label) in [
        ("a", "x", "web"),
        ("a", "y", "db"),
        ("a-b", "x", "web"),
        ("b", "x", "web"),
    ] {
        create(&maps, namespace, &labelled(name, label)).await;
    }
    let list = |namespace: Option<&str>, labels: &str, fields: &str| ListOptions {
        namespace: namespace.map(String::from),
        label_selector: labels.into(),
        field_selector: fields.into(),
        ..ListOptions::default()
    };
    let cases: [(ListOptions, &[&str]); 9] = [
        (list(None, "", ""), &["a-b/x", "a/x", "a/y", "b/x"]),
        (list(Some("a"), "", ""), &["a/x", "a/y"]),
        (list(Some("nobody"), "", ""), &[]),
        (list(None, "app=web", ""), &["a-b/x", "a/x", "b/x"]),
        (list(Some("a"), "app=web", ""), &["a/x"]),
        (list(None, "app!=web", ""), &["a/y"]),
        (list(None, "", "metadata.name=x"), &["a-b/x", "a/x", "b/x"]),
        (list(Some("b"), "", "metadata.name=x"), &["b/x"]),
        (list(None, "", "metadata.namespace=a"), &["a/x", "a/y"]),
    ];
    for (options, expected) in cases {
        assert_eq!(names(&maps, &options).await, expected, "{options:?}");
    }
    let (code, _, message) = refused(maps.list(&list(None, "", "spec.x=1")).await);
    assert_eq!(code, 400);
    assert_eq!(
        message,
        r#""spec.x" is not a known field selector: only "metadata.name", "metadata.namespace""#
    );
    assert_eq!(refused(maps.list(&list(None, "a in (", "")).await).0, 400);
}

#[tokio::test]
async fn pages_show_one_revision_whatever_is_written_between_them() {
    let server = Server::start().await;
    let maps = server.config_maps();
    for number in 0..50 {
        let label = if number % 2 == 0 { "even" } else { "odd" };
        create(&maps, "ns", &labelled(&format!("m{number:02}"), label)).await;
    }
    for selector in ["", "app=even"] {
        let mut options = ListOptions {
            label_selector: selector.into(),
            limit: Some(7),
            ..in_namespace("ns")
        };
        let expected = names(
            &maps,
            &ListOptions {
                limit: None,
                ..options.clone()
            },
        )
        .await;
        let mut found = Vec::new();
        let mut versions = BTreeSet::new();
        for turn in 0.. {
            let page = maps.list(&options).await.unwrap();
            assert!(page.items.len() <= 7);
            found.extend(page.items.iter().map(|entry| format!("ns/{}", entry.name())));
            versions.insert(page.resource_version);
            if selector.is_empty() && page.continue_.is_some() {
                assert_eq!(
                    page.remaining,
                    Some((expected.len() - found.len()) as i64),
                    "page {turn}"
                );
            } else {
                assert_eq!(page.remaining, None);
            }
            // Between the pages some objects come and some go.
            create(
                &maps,
                "ns",
                &labelled(&format!("m{turn:02}-{selector}x").replace('=', "-"), "even"),
            )
            .await;
            let last = names(&maps, &in_namespace("ns")).await.pop().unwrap();
            maps.delete(
                "ns",
                last.strip_prefix("ns/").unwrap(),
                &DeleteOptions::default(),
                &self::options(),
            )
            .await
            .unwrap();
            match page.continue_ {
                None => break,
                token => options.continue_ = token,
            }
        }
        assert_eq!(found, expected, "{selector:?}");
        assert_eq!(versions.len(), 1, "{selector:?}");
    }
}

#[tokio::test]
async fn a_page_that_is_compacted_away_goes_on_with_the_present() {
    let server = Server::start().await;
    let maps = server.config_maps();
    for name in ["a", "b", "c", "d"] {
        create(&maps, "ns", &config_map(name, "1")).await;
    }
    let mut options = ListOptions {
        limit: Some(2),
        ..ListOptions::default()
    };
    options.continue_ = maps.list(&options).await.unwrap().continue_;
    create(&maps, "ns", &config_map("e", "1")).await;
    let now = server.store.revision().await.unwrap();
    server.store.compact(now).await.unwrap();
    // A server that begins now knows of no changes before that.
    let (registry, _stop) = server.another().await;
    let maps = registry.resource("", "v1", "configmaps").unwrap();
    let error = maps.list(&options).await.unwrap_err();
    assert_eq!((error.code(), error.reason()), (410, "Expired"));
    assert!(
        error
            .to_string()
            .starts_with("The provided continue parameter is too old to display a consistent list result.")
    );
    options.continue_ = error.0.metadata.continue_.clone();
    options.limit = Some(10);
    assert_eq!(names(maps, &options).await, ["ns/c", "ns/d", "ns/e"]);

    let exact = ListOptions {
        resource_version: Some((now - 1).to_string()),
        resource_version_match: Some("Exact".into()),
        ..ListOptions::default()
    };
    let (code, _, message) = refused(maps.list(&exact).await);
    assert_eq!(
        (code, message.as_str()),
        (410, "The resourceVersion for the provided list is too old.")
    );
}

#[tokio::test]
async fn a_list_can_be_of_a_past_revision_and_waits_for_none_in_the_future() {
    let server = Server::start().await;
    let maps = server.config_maps();
    let first = create(&maps, "ns", &config_map("a", "1")).await;
    create(&maps, "ns", &config_map("b", "1")).await;
    let at = |version: i64, match_: &str| ListOptions {
        resource_version: Some(version.to_string()),
        resource_version_match: Some(match_.into()),
        ..ListOptions::default()
    };
    let past = maps.list(&at(first.revision(), "Exact")).await.unwrap();
    assert_eq!(past.resource_version, first.revision());
    assert_eq!(past.items.len(), 1);
    assert_eq!(past.items[0].json(), first.json());
    // A list that may be older need not show what was just written; after one that may not, it does.
    assert_eq!(names(&maps, &ListOptions::default()).await, ["ns/a", "ns/b"]);
    assert_eq!(
        names(&maps, &at(first.revision(), "NotOlderThan")).await,
        ["ns/a", "ns/b"]
    );
    for match_ in ["Exact", "NotOlderThan"] {
        let error = maps.list(&at(9999, match_)).await.unwrap_err();
        assert_eq!((error.code(), error.reason()), (504, "Timeout"), "{match_}");
        assert!(
            error
                .to_string()
                .starts_with("Timeout: Too large resource version: 9999, current: "),
            "{error}"
        );
    }
}

#[tokio::test]
async fn pods_are_selected_by_their_node() {
    let server = Server::start().await;
    let pods = server.resource("", "pods");
    create(&pods, "ns", &pod("a", Some("n1"))).await;
    create(&pods, "ns", &pod("b", Some("n2"))).await;
    create(&pods, "ns", &pod("c", None)).await;
    let on = |node: &str| ListOptions {
        field_selector: format!("spec.nodeName={node}"),
        ..ListOptions::default()
    };
    assert_eq!(names(&pods, &on("n1")).await, ["ns/a"]);
    assert_eq!(names(&pods, &on("")).await, ["ns/c"]);
    let mut frames = watch(&pods, |options| {
        options.field_selector = "spec.nodeName=n2".into();
    })
    .await;
    assert!(next(&mut frames).await.starts_with("ADDED b "));
    let (code, _, message) = refused(
        pods.list(&ListOptions {
            field_selector: "spec.x=1".into(),
            ..ListOptions::default()
        })
        .await,
    );
    assert_eq!(
        (code, message.as_str()),
        (400, "field label not supported: spec.x")
    );
}
