//! create and update: what is kept, what is refused and how.

use serde_json::{Value, json};
use skiff_api::{Subresource, Target};
use skiff_apiserver::ApiError;
use skiff_apiserver::registry::{
    DeleteOptions, Deleted, FieldValidation, ListOptions, PatchType, WriteOptions,
};

use crate::server::*;

#[tokio::test]
async fn an_object_is_created_read_changed_and_deleted() {
    let server = Server::start().await;
    let maps = server.config_maps();
    let made = maps
        .create("ns", &bytes(&config_map("a", "1")), &options())
        .await
        .unwrap();
    assert!(made.created);
    let object = read(&made.entry);
    assert_eq!(object["apiVersion"], "v1");
    assert_eq!(object["kind"], "ConfigMap");
    assert_eq!(object["metadata"]["namespace"], "ns");
    assert_eq!(
        object["metadata"]["resourceVersion"],
        made.entry.revision().to_string()
    );
    assert_eq!(object["metadata"]["uid"].as_str().unwrap().len(), 36);
    assert!(
        object["metadata"]["creationTimestamp"]
            .as_str()
            .unwrap()
            .ends_with('Z')
    );

    let got = maps.get("ns", "a").await.unwrap();
    assert_eq!(got.json(), made.entry.json());
    assert_eq!(
        got.json().as_ptr(),
        made.entry.json().as_ptr(),
        "the write's bytes are the read's"
    );

    let mut changed = object.clone();
    changed["data"]["value"] = "2".into();
    let written = maps
        .update("ns", "a", Target::Main, &bytes(&changed), &options())
        .await
        .unwrap();
    assert!(written.entry.revision() > made.entry.revision());
    let now = read(&maps.get("ns", "a").await.unwrap());
    assert_eq!(now["data"]["value"], "2");
    for kept in ["uid", "creationTimestamp"] {
        assert_eq!(now["metadata"][kept], object["metadata"][kept], "{kept}");
    }

    let deleted = maps
        .delete("ns", "a", &DeleteOptions::default(), &options())
        .await
        .unwrap();
    assert!(matches!(deleted, Deleted::Removed(_)));
    assert_eq!(
        refused(maps.get("ns", "a").await),
        (404, "NotFound".into(), r#"configmaps "a" not found"#.to_string())
    );
    let again = maps
        .delete("ns", "a", &DeleteOptions::default(), &options())
        .await;
    assert_eq!(refused(again).0, 404);
}

#[tokio::test]
async fn a_stored_value_has_no_resource_version_and_upstreams_key() {
    let server = Server::start().await;
    let entry = create(&server.config_maps(), "ns", &config_map("a", "1")).await;
    let stored = server.store.get("/registry/configmaps/ns/a").await.unwrap();
    let stored = stored.value.unwrap();
    assert_eq!(stored.mod_revision, entry.revision());
    let mut object = read(&entry);
    object["metadata"]
        .as_object_mut()
        .unwrap()
        .remove("resourceVersion");
    assert_eq!(serde_json::from_slice::<Value>(&stored.value).unwrap(), object);
}

#[tokio::test]
async fn bad_creates_are_refused_in_upstreams_words() {
    let server = Server::start().await;
    let maps = server.config_maps();
    create(&maps, "ns", &config_map("a", "1")).await;
    let cases = [
        (
            config_map("a", "2"),
            (409, "AlreadyExists", r#"configmaps "a" already exists"#),
        ),
        (
            json!({"metadata": {"name": "b", "namespace": "other"}}),
            (
                400,
                "BadRequest",
                "the namespace of the provided object does not match the namespace sent on the request",
            ),
        ),
        (
            json!({"metadata": {"name": "b", "resourceVersion": "7"}}),
            (
                400,
                "",
                "resourceVersion should not be set on objects to be created",
            ),
        ),
        (
            json!({"metadata": {}}),
            (
                422,
                "Invalid",
                r#"ConfigMap "" is invalid: metadata.name: Required value: name or generateName is required"#,
            ),
        ),
        (
            json!({"apiVersion": "apps/v1", "kind": "ConfigMap", "metadata": {"name": "b"}}),
            (
                400,
                "BadRequest",
                "ConfigMap in version \"v1\" cannot be handled as a ConfigMap: no kind \"ConfigMap\" is registered for version \"apps/v1\" in scheme \"pkg/api/legacyscheme/scheme.go:30\"",
            ),
        ),
    ];
    for (object, (code, reason, message)) in cases {
        let outcome = maps.create("ns", &bytes(&object), &options()).await;
        assert_eq!(
            refused(outcome),
            (code, reason.to_string(), message.to_string()),
            "{object}"
        );
    }
    assert_eq!(names(&maps, &ListOptions::default()).await, ["ns/a"]);
}

#[tokio::test]
async fn a_name_is_generated() {
    let server = Server::start().await;
    let maps = server.config_maps();
    let object = json!({"metadata": {"generateName": "web-"}});
    let (one, other) = (
        create(&maps, "ns", &object).await,
        create(&maps, "ns", &object).await,
    );
    for entry in [&one, &other] {
        assert!(entry.name().starts_with("web-"), "{}", entry.name());
        assert_eq!(entry.name().len(), "web-".len() + 5);
    }
    assert_ne!(one.name(), other.name());
}

#[tokio::test]
async fn updates_are_refused_in_upstreams_words() {
    let server = Server::start().await;
    let maps = server.config_maps();
    let first = create(&maps, "ns", &config_map("a", "1")).await;
    let stale = read(&first);
    let mut newer = stale.clone();
    newer["data"]["value"] = "2".into();
    maps.update("ns", "a", Target::Main, &bytes(&newer), &options())
        .await
        .unwrap();

    let uid = stale["metadata"]["uid"].as_str().unwrap();
    let mut other_uid = config_map("a", "3");
    other_uid["metadata"]["uid"] = "no-such-uid".into();
    let uid_message = format!(
        "Operation cannot be fulfilled on configmaps \"a\": StorageError: invalid object, Code: 4, Key: \
         /registry/configmaps/ns/a, ResourceVersion: 0, AdditionalErrorMsg: Precondition failed: UID in precondition: \
         no-such-uid, UID in object meta: {uid}"
    );
    let cases = [
        (
            "a",
            stale,
            409,
            "Operation cannot be fulfilled on configmaps \"a\": the object has been modified; please apply your changes \
             to the latest version and try again"
                .to_string(),
        ),
        ("a", other_uid, 409, uid_message),
        (
            "a",
            config_map("b", "3"),
            400,
            "the name of the object (b) does not match the name on the URL (a)".into(),
        ),
        (
            "a",
            json!({"metadata": {}}),
            400,
            "the name of the object (a based on URL) was undeterminable: name must be provided".into(),
        ),
        (
            "x",
            config_map("x", "3"),
            404,
            r#"configmaps "x" not found"#.into(),
        ),
        (
            "a",
            json!({"metadata": {"name": "a", "namespace": "other"}}),
            400,
            "the namespace of the provided object does not match the namespace sent on the request".into(),
        ),
    ];
    for (name, object, code, message) in cases {
        let outcome = maps
            .update("ns", name, Target::Main, &bytes(&object), &options())
            .await;
        let (found, _, text) = refused(outcome);
        assert_eq!((found, text), (code, message), "{object}");
    }
}

#[tokio::test]
async fn an_update_without_a_version_overwrites_and_one_without_a_change_writes_nothing() {
    let server = Server::start().await;
    let maps = server.config_maps();
    let made = create(&maps, "ns", &config_map("a", "1")).await;
    let body = bytes(&config_map("a", "2"));
    let first = maps
        .update("ns", "a", Target::Main, &body, &options())
        .await
        .unwrap();
    assert!(first.entry.revision() > made.revision());
    let second = maps
        .update("ns", "a", Target::Main, &body, &options())
        .await
        .unwrap();
    assert_eq!(second.entry.revision(), first.entry.revision());
    assert_eq!(server.store.revision().await.unwrap(), first.entry.revision());
}

#[tokio::test]
async fn a_dry_run_writes_nothing() {
    let server = Server::start().await;
    let maps = server.config_maps();
    let before = create(&maps, "ns", &config_map("a", "1")).await;
    let revision = server.store.revision().await.unwrap();

    let made = maps
        .create("ns", &bytes(&config_map("b", "1")), &dry_run())
        .await
        .unwrap();
    assert!(read(&made.entry)["metadata"]["uid"].is_string());
    assert!(read(&made.entry)["metadata"]["resourceVersion"].is_null());
    let taken = maps.create("ns", &bytes(&config_map("a", "1")), &dry_run()).await;
    assert_eq!(refused(taken).0, 409);
    let changed = maps
        .update("ns", "a", Target::Main, &bytes(&config_map("a", "2")), &dry_run())
        .await
        .unwrap();
    assert_eq!(read(&changed.entry)["data"]["value"], "2");
    let patched = maps
        .patch(
            "ns",
            "a",
            Target::Main,
            PatchType::Merge,
            &merge(json!({"data": {"x": "y"}})),
            &dry_run(),
        )
        .await
        .unwrap();
    assert_eq!(read(&patched.entry)["data"]["x"], "y");
    let deleted = maps
        .delete("ns", "a", &DeleteOptions::default(), &dry_run())
        .await
        .unwrap();
    assert!(matches!(deleted, Deleted::Removed(_)));

    assert_eq!(server.store.revision().await.unwrap(), revision);
    assert_eq!(maps.get("ns", "a").await.unwrap().json(), before.json());
}

#[tokio::test]
async fn unknown_fields_are_refused_warned_of_or_ignored() {
    let server = Server::start().await;
    let maps = server.config_maps();
    let validate = |field_validation| WriteOptions {
        field_validation,
        ..options()
    };
    let body = |name: &str| bytes(&json!({"metadata": {"name": name}, "foo": 1}));
    let strict = maps
        .create("ns", &body("a"), &validate(FieldValidation::Strict))
        .await;
    assert_eq!(
        refused(strict),
        (
            400,
            "BadRequest".into(),
            r#"ConfigMap in version "v1" cannot be handled as a ConfigMap: strict decoding error: unknown field "foo""#
                .to_string()
        )
    );
    for (name, validation, expected) in [
        ("b", FieldValidation::Warn, [r#"unknown field "foo""#].as_slice()),
        ("c", FieldValidation::Ignore, &[]),
    ] {
        let options = validate(validation);
        let made = maps.create("ns", &body(name), &options).await.unwrap();
        assert_eq!(options.warnings.texts(), expected);
        assert!(read(&made.entry)["foo"].is_null());
    }
    let wrong = bytes(&json!({"metadata": {"name": "d"}, "data": {"a": 1}}));
    let (code, _, message) = refused(maps.create("ns", &wrong, &options()).await);
    assert_eq!(code, 400);
    assert_eq!(
        message,
        "ConfigMap in version \"v1\" cannot be handled as a ConfigMap: json: cannot unmarshal number into Go struct \
         field ConfigMap.data of type string"
    );
}

#[tokio::test]
async fn status_is_written_apart_from_the_rest() {
    let server = Server::start().await;
    let pods = server.resource("", "pods");
    create(&pods, "ns", &pod("a", Some("n"))).await;
    let status = Target::Subresource(Subresource::Status);
    let patch = json!({
        "metadata": {"labels": {"x": "y"}},
        "spec": {"nodeName": "elsewhere"},
        "status": {"phase": "Running"}
    });
    let written = pods
        .patch(
            "ns",
            "a",
            status,
            PatchType::Strategic,
            &bytes(&patch),
            &options(),
        )
        .await
        .unwrap();
    let object = read(&written.entry);
    assert_eq!(object["status"]["phase"], "Running");
    assert_eq!(object["spec"]["nodeName"], "n");
    let mut changed = object.clone();
    changed["status"]["phase"] = "Failed".into();
    changed["metadata"]["labels"] = json!({"a": "b"});
    let written = pods
        .update("ns", "a", Target::Main, &bytes(&changed), &options())
        .await
        .unwrap();
    let object = read(&written.entry);
    assert_eq!(object["status"]["phase"], "Running");
    assert_eq!(object["metadata"]["labels"], json!({"a": "b"}));
}

#[tokio::test]
async fn an_object_is_modified_in_place() {
    let server = Server::start().await;
    let maps = server.config_maps();
    create(&maps, "ns", &config_map("a", "1")).await;
    let written = maps
        .modify("ns", "a", Target::Main, &options(), |object| {
            let annotations = object.metadata_mut().annotations.get_or_insert_default();
            annotations.insert("x".into(), "y".into());
            Ok(())
        })
        .await
        .unwrap();
    assert_eq!(read(&written.entry)["metadata"]["annotations"]["x"], "y");
    let refusal = maps
        .modify("ns", "a", Target::Main, &options(), |_| {
            Err(ApiError::bad_request("no"))
        })
        .await;
    assert_eq!(refused(refusal).2, "no");
}

#[tokio::test]
async fn events_hang_on_a_lease_that_they_share() {
    let server = Server::start().await;
    let events = server.resource("", "events");
    for name in ["a", "b"] {
        let event = json!({
            "metadata": {"name": name},
            "involvedObject": {"kind": "Pod", "name": "p", "namespace": "ns"}
        });
        create(&events, "ns", &event).await;
    }
    let lease = async |name: &str| {
        let key = format!("/registry/events/ns/{name}");
        server.store.get(&key).await.unwrap().value.unwrap().lease
    };
    let shared = lease("a").await.expect("a lease");
    assert_eq!(lease("b").await, Some(shared));
    let mut frames = watch(&events, |_| {}).await;
    assert!(next(&mut frames).await.starts_with("ADDED a"));
    assert!(next(&mut frames).await.starts_with("ADDED b"));
    server.store.lease_revoke(shared).await.unwrap();
    assert!(next(&mut frames).await.starts_with("DELETED "));
    assert!(next(&mut frames).await.starts_with("DELETED "));
    // A lease that has ended is not used again.
    let event = json!({
        "metadata": {"name": "c"},
        "involvedObject": {"kind": "Pod", "name": "p", "namespace": "ns"}
    });
    create(&events, "ns", &event).await;
    assert!(lease("c").await.is_some_and(|lease| lease != shared));
}
