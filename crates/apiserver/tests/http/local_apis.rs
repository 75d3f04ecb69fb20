//! The APIServices of the server's own groups.

use std::sync::Arc;

use kube::Client;
use serde_json::{Value, json};

use crate::harness::*;

const SERVICES: &str = "/apis/apiregistration.k8s.io/v1/apiservices";
const MANAGED: &str = "kube-aggregator.kubernetes.io/automanaged";

fn named(name: &str, label: Option<&str>) -> Value {
    let (version, group) = name.split_once('.').unwrap();
    let mut service = json!({
        "metadata": { "name": name },
        "spec": { "group": group, "version": version, "groupPriorityMinimum": 100, "versionPriority": 7 },
    });
    if let Some(label) = label {
        service["metadata"]["labels"] = json!({ MANAGED: label });
    }
    service
}

async fn names(client: &Client) -> Vec<String> {
    let list = get(client, SERVICES).await.json();
    let items = list["items"].as_array().unwrap();
    items
        .iter()
        .map(|item| item["metadata"]["name"].as_str().unwrap().to_string())
        .collect()
}

/// Waits until an APIService is gone.
/// Waits for what follows a change by watching it.
async fn until(holds: impl AsyncFn() -> bool, what: &str) {
    let wait = async {
        while !holds().await {
            tokio::task::yield_now().await;
        }
    };
    let waited = tokio::time::timeout(DEADLINE, wait).await;
    waited.unwrap_or_else(|_| panic!("never: {what}"));
}

async fn until_gone(client: &Client, name: &str) {
    let path = format!("{SERVICES}/{name}");
    until(
        async || get(client, &path).await.status == 404,
        &format!("{name} is gone"),
    )
    .await;
}

#[tokio::test]
async fn every_group_version_that_the_server_serves_itself_has_one() {
    let server = Server::start().await;
    let client = server.admin().await;
    assert_eq!(
        names(&client).await,
        [
            "v1.",
            "v1.admissionregistration.k8s.io",
            "v1.apiextensions.k8s.io",
            "v1.apps",
            "v1.authentication.k8s.io",
            "v1.authorization.k8s.io",
            "v1.autoscaling",
            "v1.batch",
            "v1.certificates.k8s.io",
            "v1.coordination.k8s.io",
            "v1.discovery.k8s.io",
            "v1.events.k8s.io",
            "v1.flowcontrol.apiserver.k8s.io",
            "v1.networking.k8s.io",
            "v1.node.k8s.io",
            "v1.policy",
            "v1.rbac.authorization.k8s.io",
            "v1.resource.k8s.io",
            "v1.scheduling.k8s.io",
            "v1.storage.k8s.io",
            "v1.storagemigration.k8s.io",
            "v2.autoscaling",
        ]
    );
    let apps = get(&client, &format!("{SERVICES}/v1.apps")).await.json();
    assert_eq!(apps["metadata"]["labels"], json!({ MANAGED: "onstart" }));
    assert_eq!(
        apps["spec"],
        json!({ "group": "apps", "groupPriorityMinimum": 17800, "version": "v1", "versionPriority": 15 })
    );
    let mut condition = apps["status"]["conditions"][0].clone();
    assert!(condition["lastTransitionTime"].take().is_string());
    assert_eq!(
        condition,
        json!({
            "lastTransitionTime": null,
            "message": "Local APIServices are always available",
            "reason": "Local",
            "status": "True",
            "type": "Available",
        })
    );
    let core = get(&client, &format!("{SERVICES}/v1.")).await.json();
    assert_eq!(
        core["spec"],
        json!({ "groupPriorityMinimum": 18000, "version": "v1", "versionPriority": 1 })
    );
    let groups = get(&client, "/apis").await.json();
    let order: Vec<&str> = groups["groups"]
        .as_array()
        .unwrap()
        .iter()
        .map(|group| group["name"].as_str().unwrap())
        .collect();
    assert_eq!(
        order.iter().take(4).copied().collect::<Vec<_>>(),
        [
            "apiregistration.k8s.io",
            "apps",
            "events.k8s.io",
            "authentication.k8s.io"
        ]
    );
    if let Some(listed) = server.kubectl(&["get", "apiservices", "v1.apps"], "").await {
        let cells: Vec<&str> = listed.out.lines().last().unwrap().split_whitespace().collect();
        assert_eq!(
            cells.iter().take(3).copied().collect::<Vec<_>>(),
            ["v1.apps", "Local", "True"]
        );
    }
}

#[tokio::test]
async fn plain_discovery_lists_what_they_name() {
    let server = Server::start().await;
    let client = server.admin().await;
    let listed = async || -> Vec<String> {
        let list = get(&client, "/apis").await.json();
        let groups = list["groups"].as_array().unwrap();
        groups
            .iter()
            .map(|group| group["name"].as_str().unwrap().to_string())
            .collect()
    };
    let before = listed().await;
    assert!(before.contains(&"apps".into()));
    let aggregated = "application/json;g=apidiscovery.k8s.io;v=v2;as=APIGroupDiscoveryList";
    let tag = get_as(&client, "/apis", aggregated).await.headers["etag"].clone();

    assert_eq!(delete(&client, &format!("{SERVICES}/v1.apps")).await.status, 200);
    let mut others = before.clone();
    others.retain(|name| name != "apps");
    until(async || listed().await == others, "the others are listed").await;
    // Whoever knows the group is served as before: the request goes on to the server that has it, which is this one.
    for path in [
        "/apis/apps",
        "/apis/apps/v1",
        "/apis/apps/v1/deployments",
        "/apis/apps/v1/namespaces/default/deployments",
        "/openapi/v3/apis/apps/v1",
    ] {
        assert_eq!(get(&client, path).await.status, 200, "{path}");
    }
    let now = get_as(&client, "/apis", aggregated).await.headers["etag"].clone();
    assert_eq!(now, tag, "the aggregated form asks the server itself");

    // The priorities are those of the objects, and so are the groups, whoever serves them.
    let first = json!({ "spec": { "groupPriorityMinimum": 18_000 } });
    let policy = format!("{SERVICES}/v1.policy");
    assert_eq!(patch(&client, &policy, "merge-patch", &first).await.status, 200);
    let last = json!({ "spec": { "versionPriority": 1 } });
    let autoscaling = format!("{SERVICES}/v2.autoscaling");
    assert_eq!(
        patch(&client, &autoscaling, "merge-patch", &last).await.status,
        200
    );
    post(&client, SERVICES, &named("v1.mine.example.com", None)).await;
    let in_order = async || {
        let now = listed().await;
        now.starts_with(&["apiregistration.k8s.io".into(), "policy".into()])
            && now.last().is_some_and(|last| last == "mine.example.com")
    };
    until(in_order, "the order is that of the objects").await;
    let mine = get(&client, "/apis/mine.example.com").await.json();
    assert_eq!(mine["preferredVersion"]["groupVersion"], "mine.example.com/v1");
    assert_eq!(get(&client, "/apis/mine.example.com/v1").await.status, 404);
    let group = get(&client, "/apis/autoscaling").await.json();
    assert_eq!(group["preferredVersion"]["version"], "v1");
}

#[tokio::test]
async fn what_users_do_to_them_stays_until_the_next_start() {
    let directory = tempfile::tempdir().unwrap();
    let store: Arc<dyn skiff_store::Store> = open(directory.path());
    let server = Server::on(store.clone(), tempfile::tempdir().unwrap(), |_| {}).await;
    let client = server.admin().await;
    delete(&client, &format!("{SERVICES}/v1.apps")).await;
    let change = json!({ "spec": { "versionPriority": 3 } });
    for name in ["v1.batch", "v1.policy"] {
        patch(&client, &format!("{SERVICES}/{name}"), "merge-patch", &change).await;
    }
    let unmanaged = json!({ "metadata": { "labels": { MANAGED: null } } });
    patch(
        &client,
        &format!("{SERVICES}/v1.policy"),
        "merge-patch",
        &unmanaged,
    )
    .await;
    // Local, so available at once; of no group that is served, so gone with the next start or, kept always, now.
    for (name, label) in [
        ("v1.onstart.example.com", Some("onstart")),
        ("v1.mine.example.com", None),
    ] {
        let made = post(&client, SERVICES, &named(name, label)).await.json();
        assert_eq!(made["status"]["conditions"][0]["reason"], "Local", "{made}");
    }
    post(&client, SERVICES, &named("v1.always.example.com", Some("true"))).await;
    until_gone(&client, "v1.always.example.com").await;
    // The keeper has seen all that was done before.
    let now = names(&client).await;
    assert!(!now.contains(&"v1.apps".into()) && now.contains(&"v1.onstart.example.com".into()));
    let priority = async |client: &Client, name: &str| {
        let found = get(client, &format!("{SERVICES}/{name}")).await.json();
        found["spec"]["versionPriority"].as_i64()
    };
    assert_eq!(priority(&client, "v1.batch").await, Some(3));
    drop(server);

    let server = Server::on(store, directory, |_| {}).await;
    let client = server.admin().await;
    let now = names(&client).await;
    assert!(now.contains(&"v1.apps".into()) && !now.contains(&"v1.onstart.example.com".into()));
    assert_eq!(priority(&client, "v1.batch").await, Some(15));
    assert_eq!(
        priority(&client, "v1.policy").await,
        Some(3),
        "nobody manages it any more"
    );
    assert_eq!(priority(&client, "v1.mine.example.com").await, Some(7));
}
