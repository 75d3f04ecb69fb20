//! patch: each type, its refusals, and that none is lost.

use serde_json::{Value, json};
use skiff_api::Target;
use skiff_apiserver::ApiResult;
use skiff_apiserver::registry::PatchType;

use crate::server::*;

#[tokio::test]
async fn patches_of_each_type_change_an_object() {
    let server = Server::start().await;
    let maps = server.config_maps();
    create(&maps, "ns", &config_map("a", "1")).await;
    let patch = async |type_, body: Value| {
        let body = bytes(&body);
        let written = maps
            .patch("ns", "a", Target::Main, type_, &body, &options())
            .await?;
        ApiResult::Ok(read(&written.entry)["data"].clone())
    };
    assert_eq!(
        patch(PatchType::Merge, json!({"data": {"x": "1"}}))
            .await
            .unwrap(),
        json!({"value": "1", "x": "1"})
    );
    assert_eq!(
        patch(PatchType::Strategic, json!({"data": {"x": null, "y": "2"}}))
            .await
            .unwrap(),
        json!({"value": "1", "y": "2"})
    );
    assert_eq!(
        patch(PatchType::Json, json!([{"op": "remove", "path": "/data/y"}]))
            .await
            .unwrap(),
        json!({"value": "1"})
    );
    let cases = [
        (
            PatchType::Json,
            json!([{"op": "test", "path": "/data/value", "value": "x"}]),
            422,
            "the server rejected our request due to an error in our request",
        ),
        (
            PatchType::Merge,
            json!([]),
            400,
            "error decoding patch: json: cannot unmarshal array into Go value of type map[string]interface {}",
        ),
        (
            PatchType::Strategic,
            json!({"data": {"$patch": "jump"}}),
            400,
            "unknown patch type: jump in map: map[$patch:jump]",
        ),
        (
            PatchType::Merge,
            json!({"metadata": {"resourceVersion": "1"}}),
            409,
            "Operation cannot be fulfilled on configmaps \"a\": the object has been modified; please apply your changes \
             to the latest version and try again",
        ),
        (
            PatchType::Merge,
            json!({"metadata": {"name": "b"}}),
            400,
            "the name of the object (b) does not match the name on the URL (a)",
        ),
        (
            PatchType::Merge,
            json!({"apiVersion": "v2"}),
            422,
            "no kind \"ConfigMap\" is registered for version \"v2\" in scheme \"pkg/api/legacyscheme/scheme.go:30\"",
        ),
    ];
    for (type_, body, code, message) in cases {
        let (found, _, text) = refused(patch(type_, body.clone()).await);
        // Of what a patch made all is shown before it is told what is wrong.
        let text = text.split("}\": ").last().unwrap();
        assert_eq!((found, text), (code, message), "{body}");
    }
    let missing = maps
        .patch("ns", "x", Target::Main, PatchType::Merge, b"{}", &options())
        .await;
    assert_eq!(refused(missing).0, 404);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn concurrent_patches_all_count() {
    let server = Server::start().await;
    let maps = server.config_maps();
    create(&maps, "ns", &config_map("a", "1")).await;
    let tasks: Vec<_> = (0..40)
        .map(|number| {
            let maps = maps.clone();
            tokio::spawn(async move {
                let patch = merge(json!({"data": {format!("k{number}"): "v"}}));
                maps.patch("ns", "a", Target::Main, PatchType::Merge, &patch, &options())
                    .await
                    .unwrap();
            })
        })
        .collect();
    for task in tasks {
        soon(task).await.unwrap();
    }
    let data = read(&maps.get("ns", "a").await.unwrap())["data"].clone();
    assert_eq!(data.as_object().unwrap().len(), 41);
}
