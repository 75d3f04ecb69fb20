//! delete: grace periods, finalizers, propagation, preconditions.

use serde_json::{Value, json};
use skiff_api::{Subresource, Target};
use skiff_apiserver::registry::{DeleteOptions, Deleted, ListOptions, PatchType, Propagation};

use crate::server::*;

#[tokio::test]
async fn finalizers_hold_a_deleted_object_until_the_last_is_gone() {
    let server = Server::start().await;
    let maps = server.config_maps();
    create(
        &maps,
        "ns",
        &json!({"metadata": {"name": "a", "finalizers": ["example.com/one", "example.com/two"]}}),
    )
    .await;
    let deleted = maps
        .delete("ns", "a", &DeleteOptions::default(), &options())
        .await
        .unwrap();
    let Deleted::Marked(marked) = deleted else {
        panic!("{deleted:?}")
    };
    let meta = &read(&marked)["metadata"];
    assert!(meta["deletionTimestamp"].is_string());
    assert_eq!(meta["deletionGracePeriodSeconds"], 0);

    // Again: nothing new.
    let again = maps
        .delete("ns", "a", &DeleteOptions::default(), &options())
        .await
        .unwrap();
    assert!(matches!(&again, Deleted::Marked(entry) if entry.revision() == marked.revision()));
    let taken = maps.create("ns", &bytes(&config_map("a", "1")), &options()).await;
    assert_eq!(
        refused(taken).2,
        r#"object is being deleted: configmaps "a" already exists"#
    );
    let finalize = async |finalizers: Value| {
        let patch = merge(json!({"metadata": {"finalizers": finalizers}}));
        maps.patch("ns", "a", Target::Main, PatchType::Merge, &patch, &options())
            .await
    };
    let (code, _, message) = refused(finalize(json!(["example.com/one", "example.com/new"])).await);
    assert_eq!(code, 422);
    assert!(
        message.contains("no new finalizers can be added if the object is being deleted"),
        "{message}"
    );
    finalize(json!(["example.com/two"])).await.unwrap();
    assert!(maps.get("ns", "a").await.is_ok());
    let mut frames = watch(&maps, |_| {}).await;
    assert!(next(&mut frames).await.starts_with("ADDED a "));
    finalize(Value::Null).await.unwrap();
    assert!(next(&mut frames).await.starts_with("DELETED a "));
    assert_eq!(refused(maps.get("ns", "a").await).0, 404);
}

#[tokio::test]
async fn a_propagation_policy_is_a_finalizer() {
    let server = Server::start().await;
    let maps = server.config_maps();
    let cases = [
        (Some(Propagation::Foreground), None, Some("foregroundDeletion")),
        (Some(Propagation::Orphan), None, Some("orphan")),
        (Some(Propagation::Background), None, None),
        (None, Some(true), Some("orphan")),
        (None, Some(false), None),
    ];
    for (propagation, orphan_dependents, finalizer) in cases {
        create(&maps, "ns", &config_map("a", "1")).await;
        let delete = DeleteOptions {
            propagation,
            orphan_dependents,
            ..DeleteOptions::default()
        };
        let deleted = maps.delete("ns", "a", &delete, &options()).await.unwrap();
        match (finalizer, deleted) {
            (None, Deleted::Removed(_)) => {}
            (Some(finalizer), Deleted::Marked(entry)) => {
                assert_eq!(read(&entry)["metadata"]["finalizers"], json!([finalizer]));
                let background = DeleteOptions {
                    propagation: Some(Propagation::Background),
                    ..DeleteOptions::default()
                };
                maps.delete("ns", "a", &background, &options()).await.unwrap();
                assert_eq!(
                    refused(maps.get("ns", "a").await).0,
                    404,
                    "another policy releases it"
                );
            }
            (expected, deleted) => panic!("{expected:?} {deleted:?}"),
        }
    }
    let both = DeleteOptions {
        propagation: Some(Propagation::Orphan),
        orphan_dependents: Some(true),
        ..DeleteOptions::default()
    };
    assert_eq!(
        refused(maps.delete("ns", "a", &both, &options()).await).2,
        "DeleteOptions.meta.k8s.io \"\" is invalid: propagationPolicy: Invalid value: \"Orphan\": orphanDependents and \
         deletionPropagation cannot be both set"
    );
    assert_eq!(
        Propagation::parse("Sideways").unwrap_err().to_string(),
        "DeleteOptions.meta.k8s.io \"\" is invalid: propagationPolicy: Unsupported value: \"Sideways\": supported \
         values: \"Foreground\", \"Background\", \"Orphan\", \"nil\""
    );
}

#[tokio::test]
async fn a_delete_holds_to_its_preconditions() {
    let server = Server::start().await;
    let maps = server.config_maps();
    let entry = create(&maps, "ns", &config_map("a", "1")).await;
    let uid = read(&entry)["metadata"]["uid"].as_str().unwrap().to_string();
    let other_uid = DeleteOptions {
        uid: Some("other".into()),
        ..DeleteOptions::default()
    };
    assert_eq!(
        refused(maps.delete("ns", "a", &other_uid, &options()).await),
        (
            409,
            "Conflict".into(),
            format!(
                "Operation cannot be fulfilled on ConfigMap \"a\": the UID in the precondition (other) does not match \
                 the UID in record ({uid}). The object might have been deleted and then recreated"
            )
        )
    );
    let other_version = DeleteOptions {
        resource_version: Some("1".into()),
        ..DeleteOptions::default()
    };
    assert_eq!(
        refused(maps.delete("ns", "a", &other_version, &options()).await).0,
        409
    );
    let right = DeleteOptions {
        uid: Some(uid),
        resource_version: Some(entry.revision().to_string()),
        ..DeleteOptions::default()
    };
    maps.delete("ns", "a", &right, &options()).await.unwrap();
}

#[tokio::test]
async fn a_pod_is_given_its_grace_period() {
    let server = Server::start().await;
    let pods = server.resource("", "pods");
    let delete = async |name: &str, grace_period: Option<i64>| {
        let delete = DeleteOptions {
            grace_period,
            ..DeleteOptions::default()
        };
        pods.delete("ns", name, &delete, &options()).await.unwrap()
    };
    let grace = |deleted: &Deleted| match deleted {
        Deleted::Marked(entry) => read(entry)["metadata"]["deletionGracePeriodSeconds"].as_i64(),
        Deleted::Removed(_) => None,
    };
    create(&pods, "ns", &pod("a", Some("n"))).await;
    let first = delete("a", None).await;
    assert_eq!(grace(&first), Some(30));
    // A longer one changes nothing, a shorter one does, from the same beginning.
    assert_eq!(grace(&delete("a", Some(60)).await), Some(30));
    assert_eq!(grace(&delete("a", None).await), Some(30));
    let shorter = delete("a", Some(10)).await;
    assert_eq!(grace(&shorter), Some(10));
    let deadline = |deleted: &Deleted| {
        let object = read(deleted.entry());
        object["metadata"]["deletionTimestamp"]
            .as_str()
            .unwrap()
            .parse::<jiff::Timestamp>()
            .unwrap()
            .as_second()
    };
    assert_eq!(deadline(&first) - deadline(&shorter), 20);
    assert!(matches!(delete("a", Some(0)).await, Deleted::Removed(_)));
    assert_eq!(refused(pods.get("ns", "a").await).0, 404);

    create(&pods, "ns", &pod("unscheduled", None)).await;
    assert!(matches!(delete("unscheduled", None).await, Deleted::Removed(_)));
    assert_eq!(refused(pods.get("ns", "unscheduled").await).0, 404);
}

#[tokio::test]
async fn a_namespace_is_held_by_its_own_finalizers() {
    let server = Server::start().await;
    let namespaces = server.resource("", "namespaces");
    create(&namespaces, "", &json!({"metadata": {"name": "a"}})).await;
    let deleted = namespaces
        .delete("", "a", &DeleteOptions::default(), &options())
        .await
        .unwrap();
    let Deleted::Marked(entry) = deleted else {
        panic!("{deleted:?}")
    };
    let object = read(&entry);
    assert_eq!(object["status"]["phase"], "Terminating");
    assert_eq!(object["spec"]["finalizers"], json!(["kubernetes"]));
    let mut finalized = object.clone();
    finalized["spec"]["finalizers"] = json!([]);
    namespaces
        .update(
            "",
            "a",
            Target::Subresource(Subresource::Finalize),
            &bytes(&finalized),
            &options(),
        )
        .await
        .unwrap();
    assert_eq!(refused(namespaces.get("", "a").await).0, 404);
}

#[tokio::test]
async fn a_collection_is_deleted_by_selector() {
    let server = Server::start().await;
    let maps = server.config_maps();
    for (name, label) in [("a", "web"), ("b", "db"), ("c", "web")] {
        create(&maps, "ns", &labelled(name, label)).await;
    }
    create(&maps, "other", &labelled("a", "web")).await;
    let selected = ListOptions {
        label_selector: "app=web".into(),
        ..in_namespace("ns")
    };
    let gone = maps
        .delete_collection(&selected, &DeleteOptions::default(), &options())
        .await
        .unwrap();
    assert_eq!(gone.items.len(), 2);
    assert_eq!(names(&maps, &ListOptions::default()).await, ["ns/b", "other/a"]);
}
