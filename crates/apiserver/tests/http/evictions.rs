//! Evictions and the budgets that refuse them.

use futures::StreamExt;
use futures::stream::FuturesUnordered;
use kube::Client;
use serde_json::{Value, json};

use crate::harness::*;

const BUDGETS: &str = "/apis/policy/v1/namespaces/default/poddisruptionbudgets";

async fn make_pod(client: &Client, name: &str, phase: &str, ready: bool) {
    let mut body = pod(name);
    body["metadata"]["labels"] = json!({ "app": "web" });
    body["spec"]["nodeName"] = "n".into();
    let made = post(client, PODS, &body).await;
    assert_eq!(made.status, 201, "{}", made.text());
    let ready = if ready { "True" } else { "False" };
    let status =
        json!({ "status": { "phase": phase, "conditions": [{ "type": "Ready", "status": ready }] } });
    let path = format!("{PODS}/{name}/status");
    let set = patch(client, &path, "strategic-merge-patch", &status).await;
    assert_eq!(set.status, 200, "{}", set.text());
}

/// Makes a budget, with the status that its controller would give it.
async fn make_budget(client: &Client, name: &str, spec: Value, allowed: i32) {
    let mut spec = spec;
    spec["selector"] = json!({ "matchLabels": { "app": "web" } });
    let made = post(
        client,
        BUDGETS,
        &json!({ "metadata": { "name": name }, "spec": spec }),
    )
    .await;
    assert_eq!(made.status, 201, "{}", made.text());
    set_budget(
        client,
        name,
        json!({ "disruptionsAllowed": allowed, "currentHealthy": 1, "desiredHealthy": 2,
            "observedGeneration": 1 }),
    )
    .await;
}

async fn set_budget(client: &Client, name: &str, status: Value) {
    let path = format!("{BUDGETS}/{name}/status");
    let set = patch(client, &path, "merge-patch", &json!({ "status": status })).await;
    assert_eq!(set.status, 200, "{}", set.text());
}

async fn evict(client: &Client, name: &str, options: Value) -> Answer {
    let body = json!({ "apiVersion": "policy/v1", "kind": "Eviction", "metadata": { "name": name },
        "deleteOptions": options });
    post(client, &format!("{PODS}/{name}/eviction"), &body).await
}

async fn budget(client: &Client, name: &str) -> Value {
    get(client, &format!("{BUDGETS}/{name}")).await.json()["status"].clone()
}

#[tokio::test]
async fn a_budget_allows_evictions_until_it_is_used_up() {
    let server = Server::start().await.with_default_account().await;
    let client = server.local();
    for name in ["a", "b"] {
        make_pod(&client, name, "Running", true).await;
    }
    make_budget(&client, "b", json!({ "minAvailable": 2 }), 1).await;

    let dry = evict(&client, "a", json!({ "dryRun": ["All"] })).await;
    assert_eq!(dry.status, 201, "{}", dry.text());
    assert_eq!(budget(&client, "b").await["disruptionsAllowed"], 1);
    let evicted = evict(&client, "a", Value::Null).await;
    assert_eq!(evicted.status, 201, "{}", evicted.text());
    assert_eq!(evicted.json()["status"], "Success");
    let gone = get(&client, &format!("{PODS}/a")).await.json();
    assert!(gone["metadata"]["deletionTimestamp"].is_string());
    let condition = gone["status"]["conditions"]
        .as_array()
        .unwrap()
        .iter()
        .find(|condition| condition["type"] == "DisruptionTarget")
        .unwrap()
        .clone();
    assert_eq!(condition["reason"], "EvictionByEvictionAPI");
    assert_eq!(condition["message"], "Eviction API: evicting");
    let status = budget(&client, "b").await;
    assert_eq!(status["disruptionsAllowed"], 0);
    assert!(status["disruptedPods"]["a"].is_string());
    assert_eq!(status["conditions"][0]["reason"], "InsufficientPods");

    let refused = evict(&client, "b", Value::Null).await;
    assert_eq!(
        refused.failure(),
        (
            429,
            "Cannot evict pod as it would violate the pod's disruption budget.".into()
        )
    );
    let refused = refused.json();
    assert_eq!(refused["reason"], "TooManyRequests");
    assert_eq!(
        refused["details"],
        json!({ "causes": [{ "reason": "DisruptionBudget",
            "message": "The disruption budget b needs 2 healthy pods and has 1 currently" }] })
    );
    // A budget whose controller has not seen its change says so.
    let changed = json!({ "spec": { "minAvailable": 1 } });
    let path = format!("{BUDGETS}/b");
    assert_eq!(patch(&client, &path, "merge-patch", &changed).await.status, 200);
    let refused = evict(&client, "b", Value::Null).await;
    assert_eq!(refused.status, 429);
    assert_eq!(refused.headers["retry-after"], "10");
    assert_eq!(
        refused.json()["details"]["causes"][0]["message"],
        "The disruption budget b is still being processed by the server."
    );
}

#[tokio::test]
async fn pods_whom_nobody_misses_need_no_budget() {
    let server = Server::start().await.with_default_account().await;
    let client = server.local();
    make_budget(&client, "b", json!({ "minAvailable": 2 }), 0).await;
    for (name, phase) in [
        ("done", "Succeeded"),
        ("failed", "Failed"),
        ("pending", "Pending"),
    ] {
        make_pod(&client, name, phase, false).await;
        let evicted = evict(&client, name, Value::Null).await;
        assert_eq!(evicted.status, 201, "{name}: {}", evicted.text());
    }
    make_pod(&client, "sick", "Running", false).await;
    assert_eq!(evict(&client, "sick", Value::Null).await.status, 429);
    // As long as the healthy ones suffice, an unhealthy one may go …
    set_budget(&client, "b", json!({ "currentHealthy": 2 })).await;
    assert_eq!(evict(&client, "sick", Value::Null).await.status, 201);
    // … or whenever the budget says so.
    let always = json!({ "spec": { "unhealthyPodEvictionPolicy": "AlwaysAllow" } });
    let path = format!("{BUDGETS}/b");
    assert_eq!(patch(&client, &path, "merge-patch", &always).await.status, 200);
    set_budget(&client, "b", json!({ "currentHealthy": 0 })).await;
    make_pod(&client, "worse", "Running", false).await;
    assert_eq!(evict(&client, "worse", Value::Null).await.status, 201);
    make_pod(&client, "well", "Running", true).await;
    assert_eq!(evict(&client, "well", Value::Null).await.status, 429);
}

#[tokio::test]
async fn an_eviction_is_of_the_pod_that_was_meant() {
    let server = Server::start().await.with_default_account().await;
    let client = server.local();
    make_pod(&client, "a", "Running", true).await;
    let other = evict(&client, "a", json!({ "preconditions": { "uid": "other" } })).await;
    let (code, message) = other.failure();
    assert_eq!(code, 409);
    assert!(
        message.contains("the UID in the precondition (other) does not match the UID in record"),
        "{message}"
    );
    let stale = evict(
        &client,
        "a",
        json!({ "preconditions": { "resourceVersion": "1" } }),
    )
    .await;
    assert_eq!(stale.status, 409);
    let version = get(&client, &format!("{PODS}/a")).await.json()["metadata"]["resourceVersion"].clone();
    let fresh = evict(
        &client,
        "a",
        json!({ "preconditions": { "resourceVersion": version } }),
    )
    .await;
    assert_eq!(fresh.status, 201, "{}", fresh.text());
    let body = json!({ "metadata": { "name": "b" } });
    assert_eq!(
        post(&client, &format!("{PODS}/a/eviction"), &body)
            .await
            .failure(),
        (400, "name in URL does not match name in Eviction object".into())
    );
    assert_eq!(evict(&client, "none", Value::Null).await.status, 404);
    make_pod(&client, "two", "Running", true).await;
    make_budget(&client, "b", json!({ "minAvailable": 0 }), 5).await;
    make_budget(&client, "c", json!({ "minAvailable": 0 }), 5).await;
    assert_eq!(
        evict(&client, "two", Value::Null).await.failure(),
        (500, "This pod has more than one PodDisruptionBudget, which the eviction subresource does not support.".into())
    );
}

#[tokio::test]
async fn parallel_evictions_never_pass_a_budget_together() {
    const ALLOWED: usize = 4;
    let server = Server::start().await.with_default_account().await;
    let client = server.local();
    for index in 0..12 {
        make_pod(&client, &format!("p-{index}"), "Running", true).await;
    }
    make_budget(
        &client,
        "b",
        json!({ "minAvailable": 1 }),
        i32::try_from(ALLOWED).unwrap(),
    )
    .await;
    let evictions: FuturesUnordered<_> = (0..12)
        .map(|index| {
            let client = client.clone();
            async move {
                evict(&client, &format!("p-{index}"), Value::Null)
                    .await
                    .status
                    .as_u16()
            }
        })
        .collect();
    let codes: Vec<u16> = evictions.collect().await;
    assert_eq!(codes.iter().filter(|code| **code == 201).count(), ALLOWED);
    assert!(codes.iter().all(|code| matches!(code, 201 | 429)), "{codes:?}");
    let status = budget(&client, "b").await;
    assert_eq!(status["disruptedPods"].as_object().unwrap().len(), ALLOWED);
}
