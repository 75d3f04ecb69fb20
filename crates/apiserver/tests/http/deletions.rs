//! What a deletion leaves: dependents, pods in their grace period, objects that were only looked at.

use http::Method;
use serde_json::{Value, json};

use crate::harness::*;

const JOBS: &str = "/apis/batch/v1/namespaces/default/jobs";
const CONTROLLERS: &str = "/api/v1/namespaces/default/replicationcontrollers";
const MAPS: &str = "/api/v1/namespaces/default/configmaps";

fn template() -> Value {
    json!({ "metadata": { "labels": { "a": "b" } }, "spec": {
        "restartPolicy": "Never", "containers": [{ "name": "main", "image": "i" }] } })
}

#[tokio::test]
async fn jobs_and_controllers_leave_their_pods_unless_told_otherwise() {
    let server = Server::start().await;
    let client = server.local();
    let warning = "299 - \"child pods are preserved by default when jobs are deleted; set propagationPolicy=Background to remove them or set propagationPolicy=Orphan to suppress this warning\"";
    // The query; whether the object stays for its dependents, by which finalizer, and the answer.
    let cases = [
        ("", Some("orphan"), 200, true),
        ("?propagationPolicy=Orphan", Some("orphan"), 200, false),
        (
            "?propagationPolicy=Foreground",
            Some("foregroundDeletion"),
            200,
            false,
        ),
        ("?propagationPolicy=Background", None, 200, false),
        ("?orphanDependents=true", Some("orphan"), 200, false),
        ("?orphanDependents=false", None, 200, false),
    ];
    for (index, (query, finalizer, code, warned)) in cases.into_iter().enumerate() {
        let name = format!("j-{index}");
        let job = json!({ "metadata": { "name": name }, "spec": { "template": template() } });
        assert_eq!(post(&client, JOBS, &job).await.status, 201);
        let deleted = delete(&client, &format!("{JOBS}/{name}{query}")).await;
        assert_eq!(deleted.status, code, "{query}: {}", deleted.text());
        let said = deleted
            .headers
            .get("warning")
            .map(|value| value.to_str().unwrap());
        assert_eq!(said, warned.then_some(warning), "{query}");
        let left = get(&client, &format!("{JOBS}/{name}")).await;
        match finalizer {
            Some(finalizer) => {
                assert_eq!(
                    left.json()["metadata"]["finalizers"],
                    json!([finalizer]),
                    "{query}"
                );
            }
            None => assert_eq!(left.status, 404, "{query}"),
        }
    }
    let mut pods = template();
    pods["spec"]["restartPolicy"] = "Always".into();
    let controller =
        json!({ "metadata": { "name": "rc" }, "spec": { "selector": { "a": "b" }, "template": pods } });
    assert_eq!(post(&client, CONTROLLERS, &controller).await.status, 201);
    let deleted = delete(&client, &format!("{CONTROLLERS}/rc")).await;
    assert_eq!(deleted.json()["metadata"]["finalizers"], json!(["orphan"]));
    assert_eq!(deleted.headers.get("warning"), None);
    // What is asked for in vain is asked for no more.
    let both = format!("{CONTROLLERS}/rc?propagationPolicy=Orphan&orphanDependents=true");
    assert_eq!(
        delete(&client, &both).await.failure(),
        (422, "DeleteOptions.meta.k8s.io \"\" is invalid: propagationPolicy: Invalid value: \"Orphan\": orphanDependents and deletionPropagation cannot be both set".into())
    );
    let event = json!({ "metadata": { "name": "e", "namespace": "default" },
        "involvedObject": { "namespace": "default", "kind": "Pod", "name": "p" } });
    let events = "/api/v1/namespaces/default/events";
    assert_eq!(post(&client, events, &event).await.status, 201);
    let deleted = delete(&client, &format!("{events}/e?propagationPolicy=Foreground")).await;
    assert_eq!(deleted.status, 200);
    assert_eq!(get(&client, &format!("{events}/e")).await.status, 404);
}

#[tokio::test]
async fn a_collection_is_deleted_by_what_selects_it() {
    let server = Server::start().await;
    let client = server.local();
    for (name, app) in [("a", "x"), ("b", "x"), ("c", "y")] {
        let map = json!({ "metadata": { "name": name, "labels": { "app": app } } });
        assert_eq!(post(&client, MAPS, &map).await.status, 201);
    }
    let names = |list: &Value| -> Vec<String> {
        let items = list["items"].as_array().cloned().unwrap_or_default();
        items
            .iter()
            .map(|item| item["metadata"]["name"].as_str().unwrap().to_string())
            .collect()
    };
    let left = || async { names(&get(&client, MAPS).await.json()) };
    let dry = delete(&client, &format!("{MAPS}?labelSelector=app%3Dx&dryRun=All")).await;
    assert_eq!(dry.status, 200);
    assert_eq!(names(&dry.json()), ["a", "b"]);
    assert_eq!(left().await, ["a", "b", "c"]);
    let deleted = delete(
        &client,
        &format!("{MAPS}?labelSelector=app%3Dx&fieldSelector=metadata.name%3Da"),
    )
    .await;
    assert_eq!(names(&deleted.json()), ["a"]);
    assert_eq!(left().await, ["b", "c"]);
    let body = json!({ "kind": "DeleteOptions", "apiVersion": "v1", "dryRun": ["All"] });
    let headers = [("content-type", "application/json")];
    let request = request(Method::DELETE, MAPS, &headers, body.to_string());
    assert_eq!(names(&send(&client, request).await.json()), ["b", "c"]);
    assert_eq!(left().await, ["b", "c"]);
    assert_eq!(
        delete(&client, &format!("{MAPS}?labelSelector=app%3Dy"))
            .await
            .status,
        200
    );
    assert_eq!(left().await, ["b"]);
    let jobs = delete(&client, JOBS).await;
    assert!(
        jobs.headers["warning"]
            .to_str()
            .unwrap()
            .contains("child pods are preserved by default")
    );
}

#[tokio::test]
async fn a_pod_goes_when_its_grace_period_is_over() {
    let server = Server::start().await.with_default_account().await;
    let client = server.local();
    let running = |name: &str| {
        let mut pod = pod(name);
        pod["spec"]["nodeName"] = "n".into();
        pod
    };
    // The query; how long the pod has, or that it is gone.
    for (index, (query, grace)) in [
        ("", Some(30)),
        ("?gracePeriodSeconds=5", Some(5)),
        ("?gracePeriodSeconds=-5", Some(1)),
        ("?gracePeriodSeconds=0", None),
    ]
    .into_iter()
    .enumerate()
    {
        let name = format!("p-{index}");
        assert_eq!(post(&client, PODS, &running(&name)).await.status, 201);
        let path = format!("{PODS}/{name}");
        let dry = delete(&client, &format!("{path}?dryRun=All")).await;
        assert_eq!(dry.status, 200, "{}", dry.text());
        assert!(get(&client, &path).await.json()["metadata"]["deletionTimestamp"].is_null());
        assert_eq!(delete(&client, &format!("{path}{query}")).await.status, 200);
        let left = get(&client, &path).await;
        match grace {
            Some(seconds) => {
                assert_eq!(
                    left.json()["metadata"]["deletionGracePeriodSeconds"],
                    seconds,
                    "{query}"
                );
            }
            None => assert_eq!(left.status, 404, "{query}"),
        }
    }
    // A period can be shortened, not lengthened.
    let path = format!("{PODS}/p-1");
    for (asked, expected) in [(20, 5), (2, 2)] {
        delete(&client, &format!("{path}?gracePeriodSeconds={asked}")).await;
        let left = get(&client, &path).await.json();
        assert_eq!(left["metadata"]["deletionGracePeriodSeconds"], expected);
    }
    // One that no node has begins with nothing to end.
    assert_eq!(post(&client, PODS, &pod("free")).await.status, 201);
    assert_eq!(delete(&client, &format!("{PODS}/free")).await.status, 200);
    assert_eq!(get(&client, &format!("{PODS}/free")).await.status, 404);
}
