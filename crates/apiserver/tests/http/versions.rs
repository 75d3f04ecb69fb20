//! Two versions of one kind: each client sees its own, and there is one object.

use futures::{AsyncBufReadExt, TryStreamExt};
use http::Method;
use serde_json::{Value, json};

use crate::harness::*;

const NEWER: &str = "/apis/events.k8s.io/v1/namespaces/default/events";
const OLDER: &str = "/api/v1/namespaces/default/events";
const FIRST: &str = "/apis/autoscaling/v1/namespaces/default/horizontalpodautoscalers";
const SECOND: &str = "/apis/autoscaling/v2/namespaces/default/horizontalpodautoscalers";

fn event(name: &str) -> Value {
    json!({
        "apiVersion": "events.k8s.io/v1", "kind": "Event", "metadata": {"name": name}, "action": "Binding",
        "reason": "Scheduled", "eventTime": "2026-11-21T08:00:00.123456Z", "note": "it is placed",
        "reportingController": "default-scheduler", "reportingInstance": "i", "type": "Normal",
        "regarding": {"kind": "Pod", "name": "p", "namespace": "default"},
    })
}

#[tokio::test]
async fn an_event_is_one_object_in_two_groups() {
    let server = Server::start().await;
    let client = server.local();
    let answer = post(&client, NEWER, &event("a")).await;
    assert_eq!(answer.status, 201, "{}", answer.text());
    let made = answer.json();
    assert_eq!(
        (&made["apiVersion"], &made["note"]),
        (&json!("events.k8s.io/v1"), &json!("it is placed"))
    );
    assert!(
        answer
            .body
            .starts_with(br#"{"apiVersion":"events.k8s.io/v1","kind":"Event","metadata":{"#)
    );

    let older = get(&client, &format!("{OLDER}/a")).await.json();
    assert_eq!(
        (&older["apiVersion"], &older["message"]),
        (&json!("v1"), &json!("it is placed"))
    );
    assert_eq!(older["involvedObject"]["name"], "p");
    assert_eq!(
        older["metadata"]["resourceVersion"],
        made["metadata"]["resourceVersion"]
    );

    // Each has its own names of fields to select by.
    for (path, selector, count) in [
        (NEWER, "regarding.name=p,reportingController=default-scheduler", 1),
        (NEWER, "regarding.name=q", 0),
        (OLDER, "involvedObject.name=p", 1),
    ] {
        let list = get(&client, &format!("{path}?fieldSelector={selector}"))
            .await
            .json();
        assert_eq!(
            list["items"].as_array().unwrap().len(),
            count,
            "{selector}: {list}"
        );
    }
    let refused = get(&client, &format!("{NEWER}?fieldSelector=involvedObject.name%3Dp")).await;
    assert_eq!(
        refused.failure(),
        (400, "field label not supported: involvedObject.name".into())
    );

    let list = get(&client, NEWER).await.json();
    assert_eq!(
        (&list["kind"], &list["apiVersion"]),
        (&json!("EventList"), &json!("events.k8s.io/v1"))
    );
    assert_eq!(list["items"][0]["note"], "it is placed");
    let table = get_as(&client, NEWER, "application/json;as=Table;v=v1;g=meta.k8s.io")
        .await
        .json();
    assert_eq!(table["rows"][0]["cells"][2], "Scheduled");

    let patched = patch(
        &client,
        &format!("{NEWER}/a"),
        "merge-patch",
        &json!({"series": {"count": 2, "lastObservedTime": "2026-11-21T08:00:01.000000Z"}}),
    )
    .await;
    assert_eq!(patched.status, 200, "{}", patched.text());
    let refused = patch(
        &client,
        &format!("{NEWER}/a"),
        "strategic-merge-patch",
        &json!({"note": "other"}),
    )
    .await;
    assert_eq!(
        refused.failure(),
        (
            422,
            "Event \"a\" is invalid: message: Invalid value: \"other\": field is immutable".into()
        )
    );
    // What the newer form asks for is not asked of the older one's clients.
    let patched = patch(
        &client,
        &format!("{OLDER}/a"),
        "merge-patch",
        &json!({"message": "other"}),
    )
    .await;
    assert_eq!(patched.status, 200, "{}", patched.text());
    assert_eq!(get(&client, &format!("{NEWER}/a")).await.json()["note"], "other");

    let missing = get(&client, &format!("{NEWER}/b")).await;
    assert_eq!(
        missing.failure(),
        (404, "events.events.k8s.io \"b\" not found".into())
    );
    let unknown =
        json!({"apiVersion": "events.k8s.io/v1", "kind": "Event", "metadata": {"name": "c"}, "message": "x"});
    let refused = post(&client, &format!("{NEWER}?fieldValidation=Strict"), &unknown).await;
    assert!(
        refused.failure().1.contains("unknown field \"message\""),
        "{}",
        refused.text()
    );
    let deleted = delete(&client, &format!("{NEWER}/a")).await;
    assert_eq!(deleted.status, 200);
    assert_eq!(get(&client, &format!("{OLDER}/a")).await.status, 404);
}

async fn lines(client: &kube::Client, path: &str, count: usize) -> Vec<Value> {
    let request = request(Method::GET, path, &[("accept", "application/json")], "").map(|_| Vec::new());
    let lines = client.request_stream(request).await.unwrap().lines();
    let mut lines = std::pin::pin!(lines);
    let mut read = Vec::new();
    while read.len() < count {
        let line = tokio::time::timeout(DEADLINE, lines.try_next())
            .await
            .unwrap()
            .unwrap()
            .unwrap();
        read.push(serde_json::from_str(&line).unwrap());
    }
    read
}

#[tokio::test]
async fn a_watch_shows_the_version_that_it_asks_for() {
    let server = Server::start().await;
    let client = server.local();
    let made = post(&client, NEWER, &event("a")).await.json();
    let version = made["metadata"]["resourceVersion"].as_str().unwrap();
    let older = patch(
        &client,
        &format!("{OLDER}/a"),
        "merge-patch",
        &json!({"message": "again"}),
    )
    .await;
    assert_eq!(older.status, 200, "{}", older.text());
    delete(&client, &format!("{OLDER}/a")).await;
    for (path, field, version_of) in [(NEWER, "note", "events.k8s.io/v1"), (OLDER, "message", "v1")] {
        let seen = lines(
            &client,
            &format!("{path}?watch=1&resourceVersion={version}&timeoutSeconds=20"),
            2,
        )
        .await;
        let seen: Vec<_> = seen
            .iter()
            .map(|event| {
                (
                    event["type"].as_str().unwrap(),
                    event["object"][field].as_str().unwrap(),
                    event["object"]["apiVersion"].as_str().unwrap(),
                )
            })
            .collect();
        assert_eq!(
            seen,
            [
                ("MODIFIED", "again", version_of),
                ("DELETED", "again", version_of)
            ]
        );
    }
    let protobuf = get_as(&client, NEWER, "application/vnd.kubernetes.protobuf").await;
    assert_eq!(
        (protobuf.status.as_u16(), &protobuf.body[..4]),
        (200, &b"k8s\0"[..])
    );
}

async fn apply(client: &kube::Client, path: &str, manager: &str, force: bool, body: &Value) -> Answer {
    let path = format!("{path}?fieldManager={manager}&force={force}");
    let headers = [("content-type", "application/apply-patch+yaml")];
    send(client, request(Method::PATCH, &path, &headers, body.to_string())).await
}

fn owners(object: &Value) -> Vec<(String, String)> {
    object["metadata"]["managedFields"]
        .as_array()
        .unwrap()
        .iter()
        .map(|entry| {
            let text = |name: &str| entry[name].as_str().unwrap().to_string();
            (text("manager"), text("apiVersion"))
        })
        .collect()
}

#[tokio::test]
async fn owners_of_fields_are_told_in_the_version_that_they_wrote() {
    let server = Server::start().await;
    let client = server.local();
    let target = json!({"apiVersion": "apps/v1", "kind": "Deployment", "name": "d"});
    let first = json!({
        "apiVersion": "autoscaling/v1", "kind": "HorizontalPodAutoscaler", "metadata": {"name": "a"},
        "spec": {"minReplicas": 2, "maxReplicas": 5, "scaleTargetRef": target, "targetCPUUtilizationPercentage": 50},
    });
    let made = apply(&client, &format!("{FIRST}/a"), "one", false, &first).await;
    assert_eq!(made.status, 201, "{}", made.text());
    assert_eq!(made.json()["spec"]["targetCPUUtilizationPercentage"], 50);
    let stored = get(&client, &format!("{SECOND}/a")).await.json();
    assert_eq!(
        stored["spec"]["metrics"][0]["resource"]["target"]["averageUtilization"],
        50
    );
    assert_eq!(owners(&stored), [("one".into(), "autoscaling/v1".into())]);

    // Another wants other metrics, in the second version: that is a conflict about the first one's field.
    let second = json!({
        "apiVersion": "autoscaling/v2", "kind": "HorizontalPodAutoscaler", "metadata": {"name": "a"},
        "spec": {"maxReplicas": 5, "scaleTargetRef": target, "metrics": [
            {"type": "Resource", "resource": {"name": "cpu", "target": {"type": "Utilization", "averageUtilization": 70}}}]},
    });
    let refused = apply(&client, &format!("{SECOND}/a"), "two", false, &second).await;
    assert_eq!(
        refused.failure(),
        (
            409,
            "Apply failed with 1 conflict: conflict with \"one\": .spec.targetCPUUtilizationPercentage"
                .into()
        )
    );
    let forced = apply(&client, &format!("{SECOND}/a"), "two", true, &second).await;
    assert_eq!(forced.status, 200, "{}", forced.text());
    let shown = get(&client, &format!("{FIRST}/a")).await.json();
    assert_eq!(shown["spec"]["targetCPUUtilizationPercentage"], 70);
    assert_eq!(
        owners(&shown),
        [
            ("one".into(), "autoscaling/v1".into()),
            ("two".into(), "autoscaling/v2".into())
        ]
    );
    let of_one = &shown["metadata"]["managedFields"][0]["fieldsV1"]["f:spec"];
    assert_eq!(of_one.get("f:targetCPUUtilizationPercentage"), None, "{of_one}");
    assert!(of_one.get("f:minReplicas").is_some(), "{of_one}");

    // The first goes over to the second version, and leaves out what only it has applied.
    let mut moved = second.clone();
    moved["spec"]["metrics"] = Value::Null;
    moved["spec"].as_object_mut().unwrap().remove("metrics");
    let moved = apply(&client, &format!("{SECOND}/a"), "one", false, &moved).await;
    assert_eq!(moved.status, 200, "{}", moved.text());
    let moved = moved.json();
    assert_eq!(moved["spec"]["minReplicas"], 1, "it is the default again");
    assert_eq!(
        moved["spec"]["metrics"][0]["resource"]["target"]["averageUtilization"],
        70
    );
    // Entries stand in the order of their times, and a second may have passed since the other's.
    let mut told = owners(&moved);
    told.sort();
    assert_eq!(
        told,
        [
            ("one".into(), "autoscaling/v2".into()),
            ("two".into(), "autoscaling/v2".into())
        ]
    );
}

#[tokio::test]
async fn discovery_says_that_versions_are_one_kind() {
    let server = Server::start().await;
    let client = server.local();
    let hash = async |path: &str, name: &str| -> String {
        let list = get(&client, path).await.json();
        let resources = list["resources"].as_array().unwrap();
        let resource = resources
            .iter()
            .find(|resource| resource["name"] == name)
            .unwrap();
        resource["storageVersionHash"].as_str().unwrap().to_string()
    };
    let autoscalers = "horizontalpodautoscalers";
    assert_eq!(
        hash("/apis/autoscaling/v1", autoscalers).await,
        hash("/apis/autoscaling/v2", autoscalers).await
    );
    // Upstream's own.
    assert_eq!(hash("/apis/events.k8s.io/v1", "events").await, "r2yiGXH7wu8=");
    assert_eq!(hash("/api/v1", "events").await, "r2yiGXH7wu8=");
    let group = get(&client, "/apis/autoscaling").await.json();
    assert_eq!(group["preferredVersion"]["version"], "v2");
    let versions: Vec<&Value> = group["versions"]
        .as_array()
        .unwrap()
        .iter()
        .map(|version| &version["version"])
        .collect();
    assert_eq!(versions, ["v2", "v1"]);
    for path in ["apis/autoscaling/v1", "apis/events.k8s.io/v1"] {
        let document = get(&client, &format!("/openapi/v3/{path}")).await;
        assert_eq!(document.status, 200, "{path}");
    }
    let document = get(&client, "/openapi/v3/apis/autoscaling/v1").await.json();
    let spec = &document["components"]["schemas"]["io.k8s.api.autoscaling.v1.HorizontalPodAutoscalerSpec"]["properties"];
    assert!(spec["targetCPUUtilizationPercentage"].is_object());
}

#[tokio::test]
async fn kubectl_sees_both_versions() {
    let server = Server::start().await;
    let manifest = json!({
        "apiVersion": "autoscaling/v1", "kind": "HorizontalPodAutoscaler", "metadata": {"name": "a"},
        "spec": {"maxReplicas": 5, "scaleTargetRef": {"apiVersion": "apps/v1", "kind": "Deployment", "name": "d"},
                 "targetCPUUtilizationPercentage": 50},
    });
    let Some(applied) = server.kubectl(&["apply", "-f", "-"], &manifest.to_string()).await else {
        return;
    };
    assert!(applied.success, "{applied:?}");
    let shown = server
        .kubectl(&["get", "hpa", "a", "--no-headers"], "")
        .await
        .unwrap();
    assert!(shown.out.contains("Deployment/d"), "{shown:?}");
    assert!(shown.out.contains("/50%"), "{shown:?}");
    let text = server
        .kubectl(
            &[
                "get",
                "horizontalpodautoscalers.v1.autoscaling",
                "a",
                "-o",
                "jsonpath={.apiVersion} {.spec.targetCPUUtilizationPercentage}",
            ],
            "",
        )
        .await
        .unwrap();
    assert_eq!(text.out, "autoscaling/v1 50");
    let again = server
        .kubectl(&["apply", "-f", "-"], &manifest.to_string())
        .await
        .unwrap();
    assert!(again.out.contains("unchanged"), "{again:?}");
}

#[tokio::test]
async fn tables_and_metadata_are_shown_in_the_older_version_too() {
    use skiff_api::schema::protobuf;
    let server = Server::start().await;
    let client = server.admin().await;
    let maps = "/api/v1/namespaces/default/configmaps";
    let made = post(
        &client,
        maps,
        &json!({ "metadata": { "name": "m", "labels": { "a": "b" } } }),
    )
    .await;
    assert_eq!(made.status, 201);
    let of = |media: &str, as_: &str, version: &str| {
        format!("application/{media};as={as_};v={version};g=meta.k8s.io")
    };
    for version in ["v1", "v1beta1"] {
        let api_version = format!("meta.k8s.io/{version}");
        let table = get_as(&client, maps, &of("json", "Table", version)).await.json();
        assert_eq!(table["apiVersion"], api_version.as_str());
        let row = &table["rows"][0]["object"];
        assert_eq!(
            (&row["kind"], &row["apiVersion"]),
            (&json!("PartialObjectMetadata"), &json!(api_version))
        );
        let one = format!("{maps}/m");
        let single = get_as(&client, &one, &of("json", "PartialObjectMetadata", version))
            .await
            .json();
        assert_eq!(single["apiVersion"], api_version.as_str());
        let accept = of("json", "PartialObjectMetadataList", version);
        let list = get_as(&client, maps, &accept).await.json();
        assert_eq!(
            (&list["apiVersion"], &list["items"][0]["apiVersion"]),
            (&json!(api_version), &json!(api_version))
        );
        let accept = of("vnd.kubernetes.protobuf", "PartialObjectMetadataList", version);
        let binary = get_as(&client, maps, &accept).await;
        let decoded: Value = serde_json::from_slice(&protobuf::to_json(&binary.body).unwrap()).unwrap();
        assert_eq!(decoded["apiVersion"], api_version.as_str());
        assert_eq!(decoded["items"][0]["metadata"]["labels"], json!({ "a": "b" }));
        // The server may have written something of its own between the two lists.
        let revision = |list: &Value| -> u64 {
            let text = list["metadata"]["resourceVersion"].as_str().unwrap();
            text.parse().unwrap()
        };
        assert!(revision(&decoded) >= revision(&list));
    }
    for accept in [of("json", "Table", "v1alpha1"), of("json", "Table", "v2")] {
        assert_eq!(get_as(&client, maps, &accept).await.status, 406, "{accept}");
    }
}
