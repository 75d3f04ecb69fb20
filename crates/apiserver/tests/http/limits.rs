//! What a namespace's limit ranges and quotas allow, and what classes give to the objects that name them.

use futures::StreamExt;
use futures::stream::FuturesUnordered;
use kube::Client;
use serde_json::{Value, json};

use crate::harness::*;

const RANGES: &str = "/api/v1/namespaces/default/limitranges";
const QUOTAS: &str = "/api/v1/namespaces/default/resourcequotas";
const CLAIMS: &str = "/api/v1/namespaces/default/persistentvolumeclaims";
const SECRETS: &str = "/api/v1/namespaces/default/secrets";
const CLASSES: &str = "/apis/scheduling.k8s.io/v1/priorityclasses";

/// Makes an object, and waits until the server's own reads see it.
async fn make(client: &Client, path: &str, body: &Value) -> Value {
    let made = post(client, path, body).await;
    assert_eq!(made.status, 201, "{}", made.text());
    assert_eq!(get(client, path).await.status, 200);
    made.json()
}

fn named(name: &str) -> Value {
    json!({ "metadata": { "name": name } })
}

/// Makes a quota of which nothing is used, as its controller would leave it.
async fn make_quota(client: &Client, name: &str, spec: Value) {
    let mut quota = make(
        client,
        QUOTAS,
        &json!({ "metadata": { "name": name }, "spec": spec }),
    )
    .await;
    let hard = spec["hard"].as_object().unwrap();
    let used: serde_json::Map<String, Value> = hard.keys().map(|name| (name.clone(), "0".into())).collect();
    quota["status"] = json!({ "hard": hard, "used": used });
    let written = put(client, &format!("{QUOTAS}/{name}/status"), &quota).await;
    assert_eq!(written.status, 200, "{}", written.text());
    assert_eq!(get(client, QUOTAS).await.status, 200);
}

async fn used(client: &Client, name: &str) -> Value {
    get(client, &format!("{QUOTAS}/{name}")).await.json()["status"]["used"].clone()
}

fn with_resources(name: &str, resources: Value) -> Value {
    let mut pod = pod(name);
    pod["spec"]["containers"][0]["resources"] = resources;
    pod
}

#[tokio::test]
async fn a_limit_range_fills_in_and_bounds_what_containers_ask_for() {
    let server = Server::start().await.with_default_account().await;
    let client = server.local();
    let limits = json!([
        { "type": "Container", "default": { "cpu": "500m" }, "defaultRequest": { "cpu": "250m" },
          "max": { "cpu": "1" }, "min": { "cpu": "100m" } },
        { "type": "PersistentVolumeClaim", "max": { "storage": "1Gi" } },
    ]);
    make(
        &client,
        RANGES,
        &json!({ "metadata": { "name": "r" }, "spec": { "limits": limits } }),
    )
    .await;
    let made = post(&client, PODS, &pod("p")).await.json();
    assert_eq!(
        made["spec"]["containers"][0]["resources"],
        json!({ "limits": { "cpu": "500m" }, "requests": { "cpu": "250m" } })
    );
    assert_eq!(
        made["metadata"]["annotations"]["kubernetes.io/limit-ranger"],
        "LimitRanger plugin set: cpu request for container main; cpu limit for container main"
    );
    let greedy = with_resources(
        "g",
        json!({ "limits": { "cpu": "2" }, "requests": { "cpu": "50m" } }),
    );
    assert_eq!(
        post(&client, PODS, &greedy).await.failure(),
        (403, "pods \"g\" is forbidden: [minimum cpu usage per Container is 100m, but request is 50m, maximum cpu usage per Container is 1, but limit is 2]".into())
    );
    let claim = json!({ "metadata": { "name": "c" }, "spec": {
        "accessModes": ["ReadWriteOnce"], "resources": { "requests": { "storage": "2Gi" } } } });
    assert_eq!(
        post(&client, CLAIMS, &claim).await.failure(),
        (403, "persistentvolumeclaims \"c\" is forbidden: maximum storage usage per PersistentVolumeClaim is 1Gi, but request is 2Gi".into())
    );
    // What is wrong with the object itself is said first.
    let wrong = with_resources("UPPER", json!({ "limits": { "cpu": "2" } }));
    assert_eq!(post(&client, PODS, &wrong).await.status, 422);
}

#[tokio::test]
async fn a_quota_is_charged_and_refuses_what_is_too_much() {
    let server = Server::start().await.with_default_account().await;
    let client = server.local();
    make_quota(
        &client,
        "q",
        json!({ "hard": { "requests.cpu": "1", "pods": "2", "count/secrets": "1" } }),
    )
    .await;
    assert_eq!(
        post(&client, PODS, &pod("p")).await.failure(),
        (
            403,
            "pods \"p\" is forbidden: failed quota: q: must specify requests.cpu for: main".into()
        )
    );
    let sized = |name: &str, cpu: &str| with_resources(name, json!({ "requests": { "cpu": cpu } }));
    let dry = format!("{PODS}?dryRun=All");
    assert_eq!(post(&client, &dry, &sized("d", "600m")).await.status, 201);
    assert_eq!(used(&client, "q").await["pods"], "0", "a dry run is not charged");
    assert_eq!(post(&client, PODS, &sized("a", "600m")).await.status, 201);
    assert_eq!(
        used(&client, "q").await,
        json!({ "count/secrets": "0", "pods": "1", "requests.cpu": "600m" })
    );
    let refusal =
        "exceeded quota: q, requested: requests.cpu=500m, used: requests.cpu=600m, limited: requests.cpu=1";
    for path in [PODS, &dry] {
        assert_eq!(
            post(&client, path, &sized("b", "500m")).await.failure(),
            (403, format!("pods \"b\" is forbidden: {refusal}"))
        );
    }
    let mut generated = sized("", "500m");
    generated["metadata"] = json!({ "generateName": "gen-" });
    let (code, message) = post(&client, PODS, &generated).await.failure();
    assert_eq!(code, 403);
    assert!(
        message.starts_with("pods \"gen-") && message.ends_with(&format!("\" is forbidden: {refusal}")),
        "{message}"
    );
    // A change that asks for no more is nothing to a quota that is full.
    assert_eq!(post(&client, PODS, &sized("c", "400m")).await.status, 201);
    let labels = json!({ "metadata": { "labels": { "x": "y" } } });
    let patched = patch(&client, &format!("{PODS}/c"), "merge-patch", &labels).await;
    assert_eq!(patched.status, 200);
    assert_eq!(post(&client, SECRETS, &named("s")).await.status, 201);
    assert_eq!(
        post(&client, SECRETS, &named("t")).await.failure(),
        (403, "secrets \"t\" is forbidden: exceeded quota: q, requested: count/secrets=1, used: count/secrets=1, limited: count/secrets=1".into())
    );
}

#[tokio::test]
async fn a_quota_of_a_scope_counts_the_pods_in_it() {
    let server = Server::start().await.with_default_account().await;
    let client = server.local();
    make_quota(
        &client,
        "best-effort",
        json!({ "hard": { "pods": "0" }, "scopes": ["BestEffort"] }),
    )
    .await;
    make_quota(
        &client,
        "critical",
        json!({ "hard": { "pods": "0" }, "scopeSelector": { "matchExpressions": [
            { "scopeName": "PriorityClass", "operator": "In", "values": ["system-node-critical"] }] } }),
    )
    .await;
    let refused = |quota: &str| {
        format!(
            "pods \"p\" is forbidden: exceeded quota: {quota}, requested: pods=1, used: pods=0, limited: pods=0"
        )
    };
    let mut sized = with_resources("p", json!({ "requests": { "cpu": "1" } }));
    assert_eq!(
        post(&client, PODS, &pod("p")).await.failure(),
        (403, refused("best-effort"))
    );
    sized["spec"]["priorityClassName"] = "system-node-critical".into();
    assert_eq!(
        post(&client, PODS, &sized).await.failure(),
        (403, refused("critical"))
    );
    sized["spec"]["priorityClassName"] = Value::Null;
    let made = post(&client, PODS, &sized).await;
    assert_eq!(made.status, 201, "{}", made.text());
}

#[tokio::test]
async fn parallel_creates_never_pass_a_quota_together() {
    const HARD: usize = 17;
    let server = Server::start().await;
    let client = server.local();
    make_quota(
        &client,
        "a",
        json!({ "hard": { "count/configmaps": HARD.to_string() } }),
    )
    .await;
    // A second quota has more room for them than the first, and must not be charged for what that one refuses.
    make_quota(&client, "b", json!({ "hard": { "configmaps": "40" } })).await;
    make_quota(&client, "c", json!({ "hard": { "count/configmaps": "30" } })).await;
    let creates: FuturesUnordered<_> = (0..60)
        .map(|index| {
            let client = client.clone();
            async move {
                let body = named(&format!("m-{index}"));
                post(&client, "/api/v1/namespaces/default/configmaps", &body)
                    .await
                    .status
                    .as_u16()
            }
        })
        .collect();
    let codes: Vec<u16> = creates.collect().await;
    assert_eq!(codes.iter().filter(|code| **code == 201).count(), HARD);
    assert!(codes.iter().all(|code| matches!(code, 201 | 403)), "{codes:?}");
    for (quota, resource) in [
        ("a", "count/configmaps"),
        ("b", "configmaps"),
        ("c", "count/configmaps"),
    ] {
        assert_eq!(used(&client, quota).await[resource], HARD.to_string(), "{quota}");
    }
}

#[tokio::test]
async fn services_and_claims_are_counted_by_what_they_take() {
    let server = Server::start().await;
    let client = server.local();
    make_quota(
        &client,
        "q",
        json!({ "hard": { "services.nodeports": "1", "services.loadbalancers": "0",
            "gold.storageclass.storage.k8s.io/requests.storage": "1Gi", "requests.storage": "3Gi" } }),
    )
    .await;
    let services = "/api/v1/namespaces/default/services";
    let service = |name: &str, type_: &str| json!({ "metadata": { "name": name }, "spec": { "type": type_, "ports": [{ "port": 80 }] } });
    assert_eq!(
        post(&client, services, &service("a", "ClusterIP")).await.status,
        201
    );
    assert_eq!(
        post(&client, services, &service("l", "LoadBalancer"))
            .await
            .failure(),
        (403, "services \"l\" is forbidden: exceeded quota: q, requested: services.loadbalancers=1, used: services.loadbalancers=0, limited: services.loadbalancers=0".into())
    );
    let exposed = json!({ "spec": { "type": "NodePort" } });
    let path = format!("{services}/a");
    assert_eq!(patch(&client, &path, "merge-patch", &exposed).await.status, 200);
    assert_eq!(used(&client, "q").await["services.nodeports"], "1");
    assert_eq!(
        post(&client, services, &service("n", "NodePort")).await.status,
        403
    );
    let claim = |name: &str, class: &str, size: &str| {
        json!({ "metadata": { "name": name }, "spec": { "accessModes": ["ReadWriteOnce"],
            "storageClassName": class, "resources": { "requests": { "storage": size } } } })
    };
    assert_eq!(
        post(&client, CLAIMS, &claim("c", "gold", "2Gi")).await.failure(),
        (403, "persistentvolumeclaims \"c\" is forbidden: exceeded quota: q, requested: gold.storageclass.storage.k8s.io/requests.storage=2Gi, used: gold.storageclass.storage.k8s.io/requests.storage=0, limited: gold.storageclass.storage.k8s.io/requests.storage=1Gi".into())
    );
    assert_eq!(post(&client, CLAIMS, &claim("c", "tin", "2Gi")).await.status, 201);
    assert_eq!(used(&client, "q").await["requests.storage"], "2Gi");
}

#[tokio::test]
async fn priority_classes_are_the_systems_or_the_users() {
    let server = Server::start().await.with_default_account().await;
    let client = server.local();
    for (name, value) in [
        ("system-cluster-critical", 2_000_000_000),
        ("system-node-critical", 2_000_001_000),
    ] {
        let path = format!("{CLASSES}/{name}");
        let class = get(&client, &path).await.json();
        assert_eq!(class["value"], value, "{name}");
        assert_eq!(
            delete(&client, &path).await.failure(),
            (
                403,
                format!(
                    "priorityclasses.scheduling.k8s.io \"{name}\" is forbidden: this is a system priority class and cannot be deleted"
                )
            )
        );
    }
    let class = |name: &str, value: i32, default: bool| json!({ "metadata": { "name": name }, "value": value, "globalDefault": default, "preemptionPolicy": "Never" });
    make(&client, CLASSES, &class("usual", 7, true)).await;
    assert_eq!(
        post(&client, CLASSES, &class("other", 8, true)).await.failure(),
        (403, "priorityclasses.scheduling.k8s.io \"other\" is forbidden: PriorityClass usual is already marked as default. Only one default can exist".into())
    );
    let described = json!({ "description": "as usual" });
    let path = format!("{CLASSES}/usual");
    assert_eq!(patch(&client, &path, "merge-patch", &described).await.status, 200);
    let made = post(&client, PODS, &pod("p")).await.json();
    assert_eq!(made["spec"]["priorityClassName"], "usual");
    assert_eq!(made["spec"]["priority"], 7);
    assert_eq!(made["spec"]["preemptionPolicy"], "Never");
    let mut wrong = pod("w");
    wrong["spec"]["priority"] = 9.into();
    assert_eq!(
        post(&client, PODS, &wrong).await.failure(),
        (403, "pods \"w\" is forbidden: the integer value of priority (9) must not be provided in pod spec; priority admission controller computed 7 from the given PriorityClass name".into())
    );
}

#[tokio::test]
async fn claims_and_ingresses_that_name_no_class_get_the_clusters() {
    let server = Server::start().await;
    let client = server.local();
    let storage = "/apis/storage.k8s.io/v1/storageclasses";
    let networking = "/apis/networking.k8s.io/v1";
    let class = |name: &str, key: &str, rest: Value| {
        let mut class = json!({ "metadata": { "name": name, "annotations": { key: "true" } } });
        class
            .as_object_mut()
            .unwrap()
            .extend(rest.as_object().unwrap().clone());
        class
    };
    let default = "storageclass.kubernetes.io/is-default-class";
    make(
        &client,
        storage,
        &class(
            "fast",
            default,
            json!({ "provisioner": "example.com/p", "allowVolumeExpansion": true }),
        ),
    )
    .await;
    make(
        &client,
        storage,
        &class("slow", "example.com/x", json!({ "provisioner": "example.com/p" })),
    )
    .await;
    let claim = |name: &str, class: Value| {
        json!({ "metadata": { "name": name }, "spec": { "accessModes": ["ReadWriteOnce"], "storageClassName": class,
            "resources": { "requests": { "storage": "1Gi" } } } })
    };
    let made = post(&client, CLAIMS, &claim("a", Value::Null)).await.json();
    assert_eq!(made["spec"]["storageClassName"], "fast");
    assert_eq!(
        made["metadata"]["finalizers"],
        json!(["kubernetes.io/pvc-protection"])
    );
    let none = post(&client, CLAIMS, &claim("b", "".into())).await.json();
    assert_eq!(none["spec"]["storageClassName"], "", "no class is a choice");

    // A claim grows once it has a volume, if its class allows it.
    let grow = json!({ "spec": { "resources": { "requests": { "storage": "2Gi" } } } });
    for (name, code) in [("a", 200), ("s", 403)] {
        if name == "s" {
            make(&client, CLAIMS, &claim("s", "slow".into())).await;
        }
        let bound = json!({ "status": { "phase": "Bound" } });
        let status = format!("{CLAIMS}/{name}/status");
        assert_eq!(patch(&client, &status, "merge-patch", &bound).await.status, 200);
        let grown = patch(&client, &format!("{CLAIMS}/{name}"), "merge-patch", &grow).await;
        assert_eq!(grown.status, code, "{}", grown.text());
        if code == 403 {
            assert_eq!(
                grown.failure().1,
                "persistentvolumeclaims \"s\" is forbidden: only dynamically provisioned pvc can be resized and the storageclass that provisions the pvc must support resize"
            );
        }
    }

    make(
        &client,
        &format!("{networking}/ingressclasses"),
        &class(
            "edge",
            "ingressclass.kubernetes.io/is-default-class",
            json!({ "spec": { "controller": "example.com/c" } }),
        ),
    )
    .await;
    let backend = json!({ "defaultBackend": { "service": { "name": "s", "port": { "number": 80 } } } });
    let ingress = post(
        &client,
        &format!("{networking}/namespaces/default/ingresses"),
        &json!({ "metadata": { "name": "i" }, "spec": backend }),
    )
    .await
    .json();
    assert_eq!(ingress["spec"]["ingressClassName"], "edge");
    let volume = json!({ "metadata": { "name": "v" }, "spec": { "capacity": { "storage": "1Gi" },
        "accessModes": ["ReadWriteOnce"], "hostPath": { "path": "/tmp/v" } } });
    let volume = post(&client, "/api/v1/persistentvolumes", &volume).await.json();
    assert_eq!(
        volume["metadata"]["finalizers"],
        json!(["kubernetes.io/pv-protection"])
    );
}

#[tokio::test]
async fn a_pod_takes_over_its_runtimes_needs_and_its_nodes_zone() {
    let server = Server::start().await.with_default_account().await;
    let client = server.local();
    let mut sandboxed = pod("p");
    sandboxed["spec"]["runtimeClassName"] = "box".into();
    assert_eq!(
        post(&client, PODS, &sandboxed).await.failure(),
        (
            403,
            "pods \"p\" is forbidden: pod rejected: RuntimeClass \"box\" not found".into()
        )
    );
    let mut heavy = pod("h");
    heavy["spec"]["overhead"] = json!({ "cpu": "1" });
    assert_eq!(
        post(&client, PODS, &heavy).await.failure(),
        (403, "pods \"h\" is forbidden: pod rejected: Pod Overhead set without corresponding RuntimeClass defined Overhead".into())
    );
    let class = json!({ "metadata": { "name": "box" }, "handler": "box",
        "overhead": { "podFixed": { "memory": "64Mi" } }, "scheduling": { "nodeSelector": { "box": "yes" } } });
    make(&client, "/apis/node.k8s.io/v1/runtimeclasses", &class).await;
    let made = post(&client, PODS, &sandboxed).await.json();
    assert_eq!(made["spec"]["overhead"], json!({ "memory": "64Mi" }), "{made}");
    assert_eq!(made["spec"]["nodeSelector"], json!({ "box": "yes" }));

    let labels =
        json!({ "topology.kubernetes.io/zone": "z", "topology.kubernetes.io/region": "r", "other": "x" });
    make(
        &client,
        "/api/v1/nodes",
        &json!({ "metadata": { "name": "n", "labels": labels } }),
    )
    .await;
    let binding = json!({ "metadata": { "name": "p" }, "target": { "kind": "Node", "name": "n" } });
    let bound = post(&client, &format!("{PODS}/p/binding"), &binding).await;
    assert_eq!(bound.status, 201, "{}", bound.text());
    let bound = get(&client, &format!("{PODS}/p")).await.json();
    assert_eq!(
        bound["metadata"]["labels"],
        json!({ "app": "p", "topology.kubernetes.io/region": "r", "topology.kubernetes.io/zone": "z" })
    );
}

#[tokio::test]
async fn a_namespaces_security_standard_is_enforced_and_warned_of() {
    let server = Server::start().await.with_default_account().await;
    let client = server.local();
    let namespace = "/api/v1/namespaces/default";
    assert_eq!(
        post(&client, PODS, &{
            let mut shared = pod("before");
            shared["spec"]["hostNetwork"] = true.into();
            shared
        })
        .await
        .status,
        201
    );
    assert_eq!(get(&client, PODS).await.status, 200);
    let label = |labels: Value| json!({ "metadata": { "labels": labels } });
    let wrong = label(json!({ "pod-security.kubernetes.io/enforce": "strict" }));
    assert_eq!(
        patch(&client, namespace, "merge-patch", &wrong).await.failure(),
        (422, "Namespace \"default\" is invalid: metadata.labels[pod-security.kubernetes.io/enforce]: Invalid value: \"strict\": must be one of privileged, baseline, restricted".into())
    );
    let labels = label(
        json!({ "pod-security.kubernetes.io/enforce": "baseline", "pod-security.kubernetes.io/warn": "restricted" }),
    );
    let labelled = patch(&client, namespace, "merge-patch", &labels).await;
    assert_eq!(labelled.status, 200, "{}", labelled.text());
    let said: Vec<&str> = labelled
        .headers
        .get_all("warning")
        .iter()
        .map(|value| value.to_str().unwrap())
        .collect();
    assert_eq!(
        said,
        [
            "299 - \"existing pods in namespace \\\"default\\\" violate the new PodSecurity enforce level \\\"baseline:latest\\\"\"",
            "299 - \"before: host namespaces\"",
        ]
    );
    assert_eq!(get(&client, "/api/v1/namespaces").await.status, 200);
    let mut shared = pod("p");
    shared["spec"]["hostPID"] = true.into();
    assert_eq!(
        post(&client, PODS, &shared).await.failure(),
        (
            403,
            "pods \"p\" is forbidden: violates PodSecurity \"baseline:latest\": host namespaces (hostPID=true)".into()
        )
    );
    let made = post(&client, PODS, &pod("p")).await;
    assert_eq!(made.status, 201, "{}", made.text());
    let warning = made.headers["warning"].to_str().unwrap();
    assert!(
        warning.starts_with("299 - \"would violate PodSecurity \\\"restricted:latest\\\": allowPrivilegeEscalation != false (container \\\"main\\\""),
        "{warning}"
    );
    // Who makes pods is warned only, and by what it would be refused for.
    let deployment = json!({ "metadata": { "name": "d" }, "spec": { "selector": { "matchLabels": { "a": "b" } },
        "template": { "metadata": { "labels": { "a": "b" } },
            "spec": { "hostPID": true, "containers": [{ "name": "main", "image": "i" }] } } } });
    let made = post(
        &client,
        "/apis/apps/v1/namespaces/default/deployments",
        &deployment,
    )
    .await;
    assert_eq!(made.status, 201);
    assert!(
        made.headers["warning"]
            .to_str()
            .unwrap()
            .contains("host namespaces (hostPID=true)")
    );
}

#[tokio::test]
async fn admin_access_to_devices_is_only_for_namespaces_that_are_meant_for_it() {
    let server = Server::start().await;
    let client = server.local();
    let (claims, templates) = (
        "/apis/resource.k8s.io/v1/namespaces/default/resourceclaims",
        "/apis/resource.k8s.io/v1/namespaces/default/resourceclaimtemplates",
    );
    let spec = |admin: bool| {
        json!({ "devices": { "requests": [
            { "name": "a", "exactly": { "deviceClassName": "c" } },
            { "name": "b", "exactly": { "deviceClassName": "c", "adminAccess": admin } },
        ] } })
    };
    let claim = |name: &str, admin: bool| json!({ "metadata": { "name": name }, "spec": spec(admin) });
    let template = json!({ "metadata": { "name": "t" }, "spec": { "spec": spec(true) } });
    let refusal = "spec.devices.requests[1].adminAccess: Forbidden: admin access to devices requires the \
                   `resource.kubernetes.io/admin-access: true` label on the containing namespace";

    for (path, body) in [(claims, claim("c", true)), (templates, template.clone())] {
        let refused = post(&client, path, &body).await;
        assert_eq!(refused.status, 422, "{}", refused.text());
        let message = refused.json()["message"].as_str().unwrap().to_string();
        assert!(message.ends_with(refusal), "{message}");
    }
    let refused = post(&client, claims, &claim("_", true)).await;
    let causes = refused.json()["details"]["causes"].clone();
    let fields: Vec<&str> = causes
        .as_array()
        .unwrap()
        .iter()
        .map(|cause| cause["field"].as_str().unwrap())
        .collect();
    assert_eq!(
        fields,
        ["spec.devices.requests[1].adminAccess", "metadata.name"],
        "beside what else is wrong"
    );
    assert_eq!(post(&client, claims, &claim("plain", false)).await.status, 201);

    let labels = json!({ "metadata": { "labels": { "resource.kubernetes.io/admin-access": "true" } } });
    let labelled = patch(&client, "/api/v1/namespaces/default", "merge-patch", &labels).await;
    assert_eq!(labelled.status, 200, "{}", labelled.text());
    assert_eq!(get(&client, "/api/v1/namespaces").await.status, 200);
    for (path, body) in [(claims, claim("c", true)), (templates, template)] {
        let made = post(&client, path, &body).await;
        assert_eq!(made.status, 201, "{}", made.text());
    }
}
