//! What stands in answers where nothing is: what Go's types leave out, and what they write all the same.

use http::Method;
use serde_json::{Value, json};

use crate::harness::*;

const EVENTS: &str = "/api/v1/namespaces/default/events";

/// The fields that a manager owns.
fn owned(object: &Value, manager: &str) -> Value {
    let entries = object["metadata"]["managedFields"].as_array().unwrap();
    let entry = entries.iter().find(|entry| entry["manager"] == manager);
    entry.unwrap_or_else(|| panic!("{manager} owns nothing: {object}"))["fieldsV1"].clone()
}

async fn made(client: &kube::Client, path: &str, body: &Value) -> Value {
    let answer = post(client, &format!("{path}?fieldManager=maker"), body).await;
    assert_eq!(answer.status, 201, "{}", answer.text());
    answer.json()
}

#[tokio::test(flavor = "multi_thread")]
async fn what_go_writes_in_any_case_is_in_every_answer_and_nobodys() {
    let server = Server::start().await;
    let client = server.admin().await;
    let event = json!({"metadata": {"name": "e"}, "involvedObject": {"namespace": "default"}, "reason": "r"});
    let event = made(&client, EVENTS, &event).await;
    let empty = json!({"source": {}, "firstTimestamp": null, "lastTimestamp": null, "eventTime": null,
        "reportingComponent": "", "reportingInstance": ""});
    let listed = get(&client, EVENTS).await.json()["items"][0].clone();
    for shown in [
        &event,
        &get(&client, &format!("{EVENTS}/e")).await.json(),
        &listed,
    ] {
        for (field, value) in empty.as_object().unwrap() {
            assert_eq!(shown.get(field), Some(value), "{field}");
        }
    }
    assert_eq!(
        owned(&event, "maker"),
        json!({"f:involvedObject": {}, "f:reason": {}})
    );
    let newer = get(&client, "/apis/events.k8s.io/v1/namespaces/default/events/e")
        .await
        .json();
    assert_eq!(newer["deprecatedSource"], json!({}));
    assert_eq!(newer.get("eventTime"), Some(&Value::Null));
    assert_eq!(newer.get("reportingController"), None);

    let roles = "/apis/rbac.authorization.k8s.io/v1/namespaces/default/roles";
    let role = made(&client, roles, &json!({"metadata": {"name": "r"}, "rules": []})).await;
    assert_eq!(role.get("rules"), Some(&Value::Null));
    let slices = "/apis/discovery.k8s.io/v1/namespaces/default/endpointslices";
    let slice = json!({"metadata": {"name": "s"}, "addressType": "IPv4", "endpoints": [], "ports": []});
    let slice = made(&client, slices, &slice).await;
    assert_eq!(
        (slice.get("endpoints"), slice.get("ports")),
        (Some(&Value::Null), Some(&Value::Null))
    );
    assert_eq!(owned(&slice, "maker"), json!({"f:addressType": {}}));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_null_in_a_new_item_belongs_to_who_added_the_item() {
    let server = Server::start().await.with_default_account().await;
    let client = server.admin().await;
    made(&client, PODS, &pod("a")).await;
    let path = format!("{PODS}/a/status?fieldManager=kubelet");
    let status = json!({"status": {"conditions": [{"type": "Ready", "status": "True"}]}});
    let pod = patch(&client, &path, "strategic-merge-patch", &status)
        .await
        .json();
    assert_eq!(
        pod["status"]["conditions"][0],
        json!({"type": "Ready", "status": "True", "lastProbeTime": null, "lastTransitionTime": null})
    );
    assert_eq!(
        owned(&pod, "kubelet")["f:status"]["f:conditions"][r#"k:{"type":"Ready"}"#],
        json!({".": {}, "f:lastProbeTime": {}, "f:lastTransitionTime": {}, "f:status": {}, "f:type": {}})
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn zeros_are_as_good_as_nothing_unless_they_mean_something() {
    let server = Server::start().await.with_default_account().await;
    let client = server.admin().await;
    let mut body = pod("a");
    made(&client, PODS, &body).await;
    // The same again, with all that a chart's template may leave in it.
    let present = get(&client, &format!("{PODS}/a")).await.json();
    for (field, zero) in [
        ("hostNetwork", json!(false)),
        ("hostname", json!("")),
        ("tolerations", json!([])),
    ] {
        body["spec"][field] = zero;
    }
    body["spec"]["containers"][0]["tty"] = json!(false);
    body["spec"]["serviceAccountName"] = present["spec"]["serviceAccountName"].clone();
    body["spec"]["volumes"] = present["spec"]["volumes"].clone();
    body["spec"]["tolerations"] = present["spec"]["tolerations"].clone();
    body["spec"]["containers"][0]["volumeMounts"] = present["spec"]["containers"][0]["volumeMounts"].clone();
    let again = put(&client, &format!("{PODS}/a"), &body).await;
    assert_eq!(again.status, 200, "{}", again.text());
    assert_eq!(
        again.json()["metadata"]["resourceVersion"],
        present["metadata"]["resourceVersion"]
    );

    let deployments = "/apis/apps/v1/namespaces/default/deployments";
    let deployment = json!({"metadata": {"name": "d"}, "spec": {"replicas": 0, "minReadySeconds": 0, "paused": false,
        "selector": {"matchLabels": {"app": "d"}}, "template": {"metadata": {"labels": {"app": "d"}},
            "spec": {"terminationGracePeriodSeconds": 0, "containers": [{"name": "c", "image": "i", "stdin": false}]}}}});
    let deployment = made(&client, deployments, &deployment).await;
    let spec = &deployment["spec"];
    assert_eq!(
        (
            &spec["replicas"],
            &spec["template"]["spec"]["terminationGracePeriodSeconds"]
        ),
        (&json!(0), &json!(0))
    );
    assert_eq!((spec.get("minReadySeconds"), spec.get("paused")), (None, None));
    assert_eq!(spec["template"]["spec"]["containers"][0].get("stdin"), None);
    assert_eq!(deployment["status"], json!({}));
}

#[tokio::test(flavor = "multi_thread")]
async fn answers_that_are_not_kept_are_written_in_the_same_way() {
    let server = Server::start().await;
    let client = server.admin().await;
    let review =
        json!({"apiVersion": "authentication.k8s.io/v1", "kind": "TokenReview", "spec": {"token": "x"}});
    let review = post(&client, "/apis/authentication.k8s.io/v1/tokenreviews", &review)
        .await
        .json();
    assert_eq!(review["status"]["user"], json!({}));
    assert_eq!(review["status"].get("authenticated"), None);
    let rules = json!({"apiVersion": "authorization.k8s.io/v1", "kind": "SelfSubjectAccessReview",
        "spec": {"nonResourceAttributes": {"path": "/x", "verb": "get"}}});
    let rules = post(
        &client,
        "/apis/authorization.k8s.io/v1/selfsubjectaccessreviews",
        &rules,
    )
    .await
    .json();
    assert_eq!(rules["metadata"], json!({}));
    assert_eq!(rules["status"]["allowed"], true);
    let account = json!({"metadata": {"name": "robot"}});
    made(&client, "/api/v1/namespaces/default/serviceaccounts", &account).await;
    let token = json!({"apiVersion": "authentication.k8s.io/v1", "kind": "TokenRequest"});
    let path = "/api/v1/namespaces/default/serviceaccounts/robot/token";
    let token = post(&client, path, &token).await.json();
    assert_eq!(token["spec"].get("boundObjectRef"), Some(&Value::Null));
}

#[tokio::test(flavor = "multi_thread")]
async fn answers_that_are_not_kept_come_in_the_form_that_is_wanted() {
    let server = Server::start().await.with_default_account().await;
    let client = server.admin().await;
    let deployments = "/apis/apps/v1/namespaces/default/deployments";
    let deployment = json!({"metadata": {"name": "d"}, "spec": {"replicas": 2, "selector": {"matchLabels": {"app": "d"}},
        "template": {"metadata": {"labels": {"app": "d"}}, "spec": {"containers": [{"name": "c", "image": "i"}]}}}});
    let deployment = made(&client, deployments, &deployment).await;
    made(&client, PODS, &pod("a")).await;
    let scale = format!("{deployments}/d/scale");
    let token = "/api/v1/namespaces/default/serviceaccounts/default/token";
    let eviction = format!("{PODS}/a/eviction?dryRun=All");
    let evict = json!({"apiVersion": "policy/v1", "kind": "Eviction", "metadata": {"name": "a"}}).to_string();
    let ask = json!({"apiVersion": "authentication.k8s.io/v1", "kind": "TokenRequest"}).to_string();
    for (method, path, body) in [
        (Method::GET, scale.as_str(), ""),
        (Method::POST, token, ask.as_str()),
        (Method::POST, &eviction, &evict),
    ] {
        for accept in [
            "application/json",
            "application/yaml",
            "application/vnd.kubernetes.protobuf",
        ] {
            let headers = [("accept", accept), ("content-type", "application/json")];
            let answer = send(&client, request(method.clone(), path, &headers, body.to_string())).await;
            assert!(answer.status.is_success(), "{path} {accept}: {}", answer.text());
            assert_eq!(answer.headers["content-type"], accept, "{path}");
        }
    }
    let table = get_as(&client, &scale, "application/json;as=Table;v=v1;g=meta.k8s.io")
        .await
        .json();
    let columns = table["columnDefinitions"].as_array().unwrap().iter();
    let columns: Vec<_> = columns
        .map(|column| (column["name"].as_str().unwrap(), column["type"].as_str().unwrap()))
        .collect();
    assert_eq!(
        columns,
        [
            ("Name", "string"),
            ("Desired", "integer"),
            ("Available", "integer"),
            ("Age", "string")
        ]
    );
    assert_eq!(
        table["rows"][0]["cells"].as_array().unwrap()[..3],
        [json!("d"), json!(2), json!(0)]
    );
    assert_eq!(
        table["metadata"]["resourceVersion"],
        deployment["metadata"]["resourceVersion"]
    );
    let shown = get(&client, &scale).await.json();
    assert_eq!(
        shown["metadata"]["resourceVersion"],
        deployment["metadata"]["resourceVersion"]
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn who_applies_a_zero_owns_it_and_changes_nothing() {
    let server = Server::start().await;
    let client = server.admin().await;
    let path = "/apis/apps/v1/namespaces/default/deployments/d?fieldManager=applier";
    let config = json!({"apiVersion": "apps/v1", "kind": "Deployment", "metadata": {"name": "d"}, "spec": {
        "paused": false, "selector": {"matchLabels": {"app": "d"}}, "template": {"metadata": {"labels": {"app": "d"}},
            "spec": {"hostNetwork": false, "containers": [{"name": "c", "image": "i", "tty": false, "resources": {}}]}}}});
    let apply = async || {
        let headers = [("content-type", "application/apply-patch+yaml")];
        send(
            &client,
            request(Method::PATCH, path, &headers, config.to_string()),
        )
        .await
    };
    let first = apply().await;
    assert_eq!(first.status, 201, "{}", first.text());
    let first = first.json();
    let spec = &owned(&first, "applier")["f:spec"];
    assert_eq!(spec["f:paused"], json!({}));
    assert_eq!(spec["f:template"]["f:spec"]["f:hostNetwork"], json!({}));
    assert_eq!(first["spec"].get("paused"), None);
    let again = apply().await.json();
    assert_eq!(
        again["metadata"]["resourceVersion"],
        first["metadata"]["resourceVersion"]
    );
}
