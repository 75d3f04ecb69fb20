//! Server-side apply and the owners of fields, on a real store.

use serde_json::{Value, json};
use skiff_api::{Subresource, Target};
use skiff_apiserver::ApiResult;
use skiff_apiserver::registry::{PatchType, Resource, WriteOptions, Written};

use crate::server::*;

fn by(manager: &str) -> WriteOptions {
    WriteOptions {
        field_manager: Some(manager.into()),
        ..options()
    }
}

async fn apply_with(maps: &Resource, config: Value, options: &WriteOptions) -> ApiResult<Written> {
    let (target, body) = (Target::Main, bytes(&config));
    maps.patch("ns", "a", target, PatchType::Apply, &body, options)
        .await
}

async fn apply(maps: &Resource, data: Value, manager: &str) -> ApiResult<Written> {
    let config = json!({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "a"}, "data": data});
    apply_with(maps, config, &by(manager)).await
}

/// `one Apply`, with the fields of data that it owns.
fn owners(object: &Value) -> Vec<(String, Vec<String>)> {
    let entries = object["metadata"]["managedFields"]
        .as_array()
        .cloned()
        .unwrap_or_default();
    entries
        .iter()
        .map(|entry| {
            let text = |field: &str| entry[field].as_str().unwrap();
            let data = entry["fieldsV1"]["f:data"]
                .as_object()
                .cloned()
                .unwrap_or_default();
            (
                format!("{} {}", text("manager"), text("operation")),
                data.into_iter().map(|(key, _)| key).collect(),
            )
        })
        .collect()
}

fn owner(name: &str, fields: &[&str]) -> (String, Vec<String>) {
    (name.into(), fields.iter().map(|field| (*field).into()).collect())
}

#[tokio::test]
async fn every_write_tells_who_owns_what() {
    let server = Server::start().await;
    let maps = server.config_maps();
    let body = bytes(&config_map("a", "1"));
    let made = maps.create("ns", &body, &by("one")).await.unwrap();
    let first = read(&made.entry);
    assert_eq!(owners(&first), [owner("one Update", &[".", "f:value"])]);
    assert_eq!(first["metadata"]["managedFields"][0]["apiVersion"], "v1");
    assert!(first["metadata"]["managedFields"][0]["time"].is_string());
    let patch = merge(json!({"data": {"x": "1"}}));
    let patched = maps
        .patch("ns", "a", Target::Main, PatchType::Merge, &patch, &by("two"))
        .await
        .unwrap();
    let object = read(&patched.entry);
    assert_eq!(
        owners(&object),
        [
            owner("one Update", &[".", "f:value"]),
            owner("two Update", &["f:x"])
        ]
    );
    // A client that knows nothing of owners changes none by leaving them out.
    let mut plain = object.clone();
    plain["metadata"].as_object_mut().unwrap().remove("managedFields");
    let same = maps
        .update("ns", "a", Target::Main, &bytes(&plain), &by("three"))
        .await
        .unwrap();
    assert_eq!(same.entry.revision(), patched.entry.revision());
    // And one that resets them is obeyed; nobody is tracked from then on.
    let reset = merge(json!({"metadata": {"managedFields": [{}]}}));
    for patch in [reset, merge(json!({"data": {"y": "1"}}))] {
        let written = maps
            .patch("ns", "a", Target::Main, PatchType::Merge, &patch, &by("two"))
            .await
            .unwrap();
        assert_eq!(owners(&read(&written.entry)), []);
    }
}

#[tokio::test]
async fn an_apply_makes_merges_and_removes() {
    let server = Server::start().await;
    let maps = server.config_maps();
    let made = apply(&maps, json!({"x": "1", "y": "1"}), "one").await.unwrap();
    assert!(made.created);
    let again = apply(&maps, json!({"x": "1", "y": "1"}), "one").await.unwrap();
    assert!(!again.created);
    assert_eq!(again.entry.revision(), made.entry.revision());
    assert_eq!(read(&again.entry), read(&made.entry));
    let shared = apply(&maps, json!({"y": "1", "z": "1"}), "two").await.unwrap();
    assert_eq!(
        owners(&read(&shared.entry)),
        [
            owner("one Apply", &["f:x", "f:y"]),
            owner("two Apply", &["f:y", "f:z"])
        ]
    );
    let left = apply(&maps, json!({}), "one").await.unwrap();
    let object = read(&left.entry);
    assert_eq!(object["data"], json!({"y": "1", "z": "1"}));
    apply(&maps, json!({}), "two").await.unwrap();
    assert_eq!(read(&maps.get("ns", "a").await.unwrap()).get("data"), None);
}

#[tokio::test]
async fn conflicts_are_told_and_forced() {
    let server = Server::start().await;
    let maps = server.config_maps();
    maps.create("ns", &bytes(&config_map("a", "1")), &by("one"))
        .await
        .unwrap();
    let error = apply(&maps, json!({"value": "2"}), "two").await.unwrap_err();
    assert_eq!((error.code(), error.reason()), (409, "Conflict"));
    assert_eq!(
        error.to_string(),
        "Apply failed with 1 conflict: conflict with \"one\" using v1: .data.value"
    );
    let causes = error.0.details.unwrap().causes.unwrap();
    assert_eq!(causes[0].reason.as_deref(), Some("FieldManagerConflict"));
    assert_eq!(causes[0].field.as_deref(), Some(".data.value"));
    let config =
        json!({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "a"}, "data": {"value": "2"}});
    let force = |dry_run| WriteOptions {
        force: true,
        dry_run,
        ..by("two")
    };
    let dry = apply_with(&maps, config.clone(), &force(true)).await.unwrap();
    assert_eq!(read(&dry.entry)["data"]["value"], "2");
    assert_eq!(read(&maps.get("ns", "a").await.unwrap())["data"]["value"], "1");
    let forced = apply_with(&maps, config, &force(false)).await.unwrap();
    assert_eq!(
        owners(&read(&forced.entry)),
        [owner("two Apply", &["f:value"]), owner("one Update", &[])]
    );
}

#[tokio::test]
async fn an_apply_may_demand_a_state() {
    let server = Server::start().await;
    let maps = server.config_maps();
    let config = |metadata: Value| json!({"apiVersion": "v1", "kind": "ConfigMap", "metadata": metadata});
    let uid = config(json!({"name": "a", "uid": "u"}));
    let (code, _, message) = refused(apply_with(&maps, uid.clone(), &by("m")).await);
    assert_eq!(
        (code, message.as_str()),
        (
            409,
            "Operation cannot be fulfilled on configmaps \"a\": uid mismatch: the provided object specified uid u, and no \
             existing object was found"
        )
    );
    create(&maps, "ns", &config_map("a", "1")).await;
    let (code, _, message) = refused(apply_with(&maps, uid, &by("m")).await);
    assert_eq!(
        (code, message.as_str()),
        (
            422,
            "ConfigMap \"a\" is invalid: metadata.uid: Invalid value: \"u\": field is immutable"
        )
    );
    let version = config(json!({"name": "a", "resourceVersion": "1"}));
    assert_eq!(refused(apply_with(&maps, version, &by("m")).await).0, 409);
    for (config, message) in [
        (
            json!({"kind": "ConfigMap"}),
            "invalid object type: /, Kind=ConfigMap",
        ),
        (
            json!({"apiVersion": "apps/v1", "kind": "Foo"}),
            "invalid object type: apps/v1, Kind=Foo",
        ),
        (
            config(json!({"name": "a", "managedFields": []})),
            "metadata.managedFields must be nil",
        ),
        (
            config(json!({"name": "b"})),
            "the name of the object (b) does not match the name on the URL (a)",
        ),
    ] {
        let (code, _, found) = refused(apply_with(&maps, config, &by("m")).await);
        assert_eq!((code, found.as_str()), (400, message));
    }
}

#[tokio::test]
async fn the_status_has_owners_of_its_own() {
    let server = Server::start().await;
    let pods = server.resource("", "pods");
    pods.create("ns", &bytes(&pod("a", None)), &by("user"))
        .await
        .unwrap();
    let status = Target::Subresource(Subresource::Status);
    let patch =
        merge(json!({"status": {"phase": "Running", "conditions": [{"type": "Ready", "status": "True"}]}}));
    let first = pods
        .patch("ns", "a", status, PatchType::Merge, &patch, &by("kubelet"))
        .await
        .unwrap();
    let object = read(&first.entry);
    let entries = object["metadata"]["managedFields"].as_array().unwrap();
    let entry = entries
        .iter()
        .find(|entry| entry["subresource"] == "status")
        .unwrap();
    assert_eq!(entry["manager"], "kubelet");
    assert!(entry["fieldsV1"]["f:status"]["f:conditions"]["k:{\"type\":\"Ready\"}"].is_object());
    let again = pods
        .patch("ns", "a", status, PatchType::Merge, &patch, &by("kubelet"))
        .await
        .unwrap();
    assert_eq!(again.entry.revision(), first.entry.revision());
    let config =
        json!({"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "a"}, "status": {"phase": "Failed"}});
    let applied = pods
        .patch("ns", "a", status, PatchType::Apply, &bytes(&config), &by("me"))
        .await;
    assert_eq!(
        applied.unwrap_err().to_string(),
        "Apply failed with 1 conflict: conflict with \"kubelet\" with subresource \"status\" using v1: .status.phase"
    );
}
