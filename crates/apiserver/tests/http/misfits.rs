//! Values that do not fit where they stand are refused, whatever verb they come by: never with a server error.

use std::collections::BTreeMap;

use http::Method;
use kube::Client;
use serde_json::{Value, json};

use crate::harness::*;

/// An object of each of several kinds, with the path of its collection.
fn seeds() -> Vec<(&'static str, Value)> {
    let meta = |name: &str| {
        json!({ "name": name, "labels": { "a": "b" }, "annotations": { "c": "d" }, "finalizers": ["e.f/g"],
            "ownerReferences": [{ "apiVersion": "v1", "kind": "Pod", "name": "p", "uid": "u" }],
            "creationTimestamp": "2026-01-01T00:00:00Z", "generation": 1, "resourceVersion": "" })
    };
    let template = json!({ "metadata": { "labels": { "a": "b" } }, "spec": {
        "containers": [{ "name": "main", "image": "i", "command": ["x"],
            "env": [{ "name": "A", "value": "1" }, { "name": "B", "valueFrom": { "fieldRef": { "fieldPath": "metadata.name" } } }],
            "ports": [{ "containerPort": 80, "name": "web", "protocol": "TCP" }],
            "resources": { "limits": { "cpu": "1", "memory": "1Gi" }, "requests": { "cpu": "500m" } },
            "livenessProbe": { "httpGet": { "path": "/", "port": "web" }, "periodSeconds": 5 },
            "volumeMounts": [{ "name": "v", "mountPath": "/v" }],
            "securityContext": { "runAsUser": 1, "capabilities": { "add": ["CHOWN"] } } }],
        "initContainers": [{ "name": "i", "image": "i" }],
        "volumes": [{ "name": "v", "emptyDir": { "sizeLimit": "1Gi" } }, { "name": "c", "configMap": { "name": "m", "items": [{ "key": "a", "path": "b" }] } }],
        "nodeSelector": { "a": "b" }, "tolerations": [{ "key": "a", "operator": "Exists", "tolerationSeconds": 5, "effect": "NoExecute" }],
        "affinity": { "nodeAffinity": { "requiredDuringSchedulingIgnoredDuringExecution": { "nodeSelectorTerms": [
            { "matchExpressions": [{ "key": "a", "operator": "In", "values": ["b"] }] }] } } },
        "topologySpreadConstraints": [{ "maxSkew": 1, "topologyKey": "z", "whenUnsatisfiable": "DoNotSchedule" }],
        "terminationGracePeriodSeconds": 5, "restartPolicy": "Always", "dnsPolicy": "ClusterFirst",
        "securityContext": { "sysctls": [{ "name": "a.b", "value": "1" }] } } });
    let mut job = template.clone();
    job["spec"]["restartPolicy"] = "Never".into();
    let selector =
        json!({ "matchLabels": { "a": "b" }, "matchExpressions": [{ "key": "a", "operator": "Exists" }] });
    vec![
        (
            "/api/v1/namespaces/default/configmaps",
            json!({ "metadata": meta("seed"), "data": { "k": "v" }, "binaryData": { "b": "AAAA" }, "immutable": false }),
        ),
        (
            "/api/v1/namespaces/default/pods",
            json!({ "metadata": meta("seed"), "spec": template["spec"] }),
        ),
        (
            "/api/v1/namespaces/default/services",
            json!({ "metadata": meta("seed"), "spec": { "selector": { "a": "b" }, "type": "NodePort",
                "ports": [{ "port": 80, "targetPort": "web", "name": "web", "protocol": "TCP" }],
                "externalIPs": ["1.2.3.4"], "sessionAffinity": "ClientIP",
                "sessionAffinityConfig": { "clientIP": { "timeoutSeconds": 10 } } } }),
        ),
        (
            "/apis/apps/v1/namespaces/default/deployments",
            json!({ "metadata": meta("seed"), "spec": { "replicas": 1, "selector": selector, "template": template,
                "strategy": { "type": "RollingUpdate", "rollingUpdate": { "maxSurge": "25%", "maxUnavailable": 1 } } } }),
        ),
        (
            "/apis/batch/v1/namespaces/default/cronjobs",
            json!({ "metadata": meta("seed"), "spec": { "schedule": "* * * * *", "timeZone": "Etc/UTC",
                "startingDeadlineSeconds": 60,
                "jobTemplate": { "spec": { "backoffLimit": 1, "completions": 1, "template": job } } } }),
        ),
        (
            "/apis/policy/v1/namespaces/default/poddisruptionbudgets",
            json!({ "metadata": meta("seed"), "spec": { "minAvailable": "50%", "selector": selector } }),
        ),
        (
            "/apis/networking.k8s.io/v1/namespaces/default/networkpolicies",
            json!({ "metadata": meta("seed"), "spec": { "podSelector": selector, "policyTypes": ["Ingress"],
                "ingress": [{ "from": [{ "ipBlock": { "cidr": "10.0.0.0/8", "except": ["10.1.0.0/16"] } }],
                    "ports": [{ "port": 80, "protocol": "TCP" }] }] } }),
        ),
        (
            "/api/v1/namespaces/default/resourcequotas",
            json!({ "metadata": meta("seed"), "spec": { "hard": { "count/foos.example.com": "5" },
                "scopeSelector": { "matchExpressions": [] } } }),
        ),
        (
            "/api/v1/namespaces/default/persistentvolumeclaims",
            json!({ "metadata": meta("seed"), "spec": { "accessModes": ["ReadWriteOnce"], "storageClassName": "x",
                "resources": { "requests": { "storage": "1Gi" } } } }),
        ),
        (
            "/apis/coordination.k8s.io/v1/namespaces/default/leases",
            json!({ "metadata": meta("seed"), "spec": { "holderIdentity": "h", "leaseDurationSeconds": 5,
                "acquireTime": "2026-01-01T00:00:00.000000Z", "renewTime": "2026-01-01T00:00:00.000000Z" } }),
        ),
    ]
}

/// Values that fit hardly anywhere.
fn hostile() -> Vec<Value> {
    let mut deep = json!(1);
    for _ in 0..60 {
        deep = json!({ "a": deep });
    }
    vec![
        Value::Null,
        json!(5),
        json!("x"),
        json!([null]),
        json!({ "x": [1] }),
        serde_json::from_str("99999999999999999999999").unwrap(),
        serde_json::from_str("1e300").unwrap(),
        json!(-1),
        json!(0.5),
        json!(""),
        json!("9".repeat(400)),
        json!("1e999999999"),
        json!(true),
        json!([]),
        json!([{}]),
        json!([5]),
        json!([[]]),
        json!({}),
        json!({ "": null }),
        deep,
    ]
}

/// How many of the values come by every verb; the others come by create alone.
const BY_EVERY_VERB: usize = 4;

/// Whether the values below a path are tried with another kind already.
fn is_tried_elsewhere(path: &str, pointer: &str) -> bool {
    let template = pointer.contains("/template/");
    let meta = pointer.starts_with("/metadata/") && !path.ends_with("/configmaps");
    template || meta
}

/// The paths of all values within a value, as JSON pointers.
fn pointers(value: &Value, at: &str, found: &mut Vec<String>) {
    let escape = |key: &str| key.replace('~', "~0").replace('/', "~1");
    match value {
        Value::Object(map) => {
            for (key, value) in map {
                let at = format!("{at}/{}", escape(key));
                found.push(at.clone());
                pointers(value, &at, found);
            }
        }
        Value::Array(list) => {
            for (index, value) in list.iter().enumerate() {
                let at = format!("{at}/{index}");
                found.push(at.clone());
                pointers(value, &at, found);
            }
        }
        _ => {}
    }
}

/// The object with a value at a pointer.
fn at(object: &Value, pointer: &str, value: &Value) -> Value {
    let mut object = object.clone();
    *object.pointer_mut(pointer).unwrap() = value.clone();
    object
}

#[derive(Default)]
struct Failures(BTreeMap<String, String>);

impl Failures {
    fn look(&mut self, answer: &Answer, what: impl FnOnce() -> String) {
        if answer.status.as_u16() >= 500 {
            let text: String = answer.text().chars().take(300).collect();
            self.0.entry(text).or_insert_with(what);
        }
    }
}

async fn send_patch(client: &Client, path: &str, type_: &str, body: String) -> Answer {
    let headers = [("content-type", type_)];
    send(client, request(Method::PATCH, path, &headers, body)).await
}

#[tokio::test]
async fn no_body_makes_the_server_fail() {
    let server = Server::start().await.with_default_account().await;
    let client = server.local();
    let mut failures = Failures::default();
    for (path, seed) in seeds() {
        let made = post(&client, path, &seed).await;
        assert_eq!(made.status, 201, "{path}: {}", made.text());
        let live = made.json();
        let object = format!("{path}/seed");
        let mut config = seed.clone();
        config["apiVersion"] = live["apiVersion"].clone();
        config["kind"] = live["kind"].clone();
        let mut found = Vec::new();
        pointers(&seed, "", &mut found);
        found.retain(|pointer| !is_tried_elsewhere(path, pointer));
        for pointer in &found {
            for (index, value) in hostile().into_iter().enumerate() {
                let body = at(&seed, pointer, &value);
                let what = |verb: &str| format!("{verb} {path}: {value} at {pointer}");
                let dry = format!("{path}?dryRun=All");
                let mut created = body.clone();
                if pointer != "/metadata" && pointer != "/metadata/name" {
                    created["metadata"]["name"] = "other".into();
                }
                failures.look(&post(&client, &dry, &created).await, || what("create"));
                if index >= BY_EVERY_VERB {
                    continue;
                }
                let dry = format!("{object}?dryRun=All");
                failures.look(&put(&client, &dry, &body).await, || what("update"));
                let operations = json!([{ "op": "add", "path": pointer, "value": value }]).to_string();
                let answer = send_patch(&client, &dry, "application/json-patch+json", operations).await;
                failures.look(&answer, || what("json patch"));
                for type_ in [
                    "application/merge-patch+json",
                    "application/strategic-merge-patch+json",
                ] {
                    let answer = send_patch(&client, &dry, type_, body.to_string()).await;
                    failures.look(&answer, || what(type_));
                }
                let config = at(&config, pointer, &value);
                let dry = format!("{dry}&fieldManager=m&force=true");
                let answer =
                    send_patch(&client, &dry, "application/apply-patch+yaml", config.to_string()).await;
                failures.look(&answer, || what("apply"));
            }
        }
    }
    let said: Vec<String> = failures
        .0
        .iter()
        .map(|(answer, what)| format!("{what}\n    {answer}"))
        .collect();
    assert!(said.is_empty(), "{}", said.join("\n"));
}

#[tokio::test]
async fn owners_that_make_no_sense_are_refused_or_forgotten() {
    let server = Server::start().await;
    let client = server.local();
    let path = "/api/v1/namespaces/default/configmaps";
    let mut failures = Failures::default();
    let entry = |key: &str, value: Value| {
        let mut entry = json!({ "manager": "m", "operation": "Update", "apiVersion": "v1", "fieldsType": "FieldsV1",
            "time": "2026-01-01T00:00:00Z", "fieldsV1": { "f:data": { "f:k": {} } } });
        entry[key] = value;
        json!([entry])
    };
    let mut cases = vec![
        json!(5),
        json!([]),
        json!([null]),
        json!([{}]),
        json!({}),
        Value::Null,
    ];
    for value in hostile() {
        for key in [
            "manager",
            "operation",
            "apiVersion",
            "fieldsType",
            "fieldsV1",
            "time",
            "subresource",
        ] {
            cases.push(entry(key, value.clone()));
        }
    }
    for fields in [
        json!({ "k": {} }),
        json!({ "f:data": 5 }),
        json!({ "f:data": { "k:{": {} } }),
        json!({ "v:": {} }),
        json!({ "i:x": {} }),
        json!({ ".": 5 }),
    ] {
        cases.push(entry("fieldsV1", fields));
    }
    for (index, owners) in cases.into_iter().enumerate() {
        let what = |verb: &str| format!("{verb}: {owners}");
        let name = format!("m-{index}");
        let object = json!({ "apiVersion": "v1", "kind": "ConfigMap",
            "metadata": { "name": name, "managedFields": owners }, "data": { "k": "v" } });
        failures.look(&post(&client, path, &object).await, || what("create"));
        let plain = json!({ "metadata": { "name": name }, "data": { "k": "v" } });
        post(&client, path, &plain).await;
        let at = format!("{path}/{name}");
        failures.look(&put(&client, &at, &object).await, || what("update"));
        let only = json!({ "metadata": { "managedFields": owners } }).to_string();
        for type_ in [
            "application/merge-patch+json",
            "application/strategic-merge-patch+json",
        ] {
            let answer = send_patch(&client, &at, type_, only.clone()).await;
            failures.look(&answer, || what(type_));
        }
        let apply = format!("{at}?fieldManager=n&force=true");
        let config = json!({ "apiVersion": "v1", "kind": "ConfigMap", "metadata": { "name": name }, "data": { "l": "w" } });
        // Whatever was let in before, the object can still be applied to.
        let answer = send_patch(
            &client,
            &apply,
            "application/apply-patch+yaml",
            config.to_string(),
        )
        .await;
        assert_eq!(answer.status, 200, "{}: {}", what("apply"), answer.text());
        failures.look(&answer, || what("apply"));
    }
    assert!(failures.0.is_empty(), "{:#?}", failures.0);
}

#[tokio::test]
async fn a_configuration_that_does_not_fit_its_kind_is_a_bad_request() {
    let server = Server::start().await;
    let client = server.local();
    let path = "/apis/apps/v1/namespaces/default/deployments/d?fieldManager=m";
    let config = |spec: Value| json!({ "apiVersion": "apps/v1", "kind": "Deployment", "metadata": { "name": "d", "namespace": "default" }, "spec": spec });
    let prefix = "failed to create typed patch object (default/d; apps/v1, Kind=Deployment): ";
    for (spec, expected) in [
        (json!({ "nope": 1 }), ".spec.nope: field not declared in schema"),
        (
            json!({ "replicas": "x" }),
            ".spec.replicas: expected numeric (int or float), got string",
        ),
        (json!({ "template": 5 }), ".spec.template: expected map, got &{5}"),
        (
            json!({ "template": { "spec": { "containers": [5] } } }),
            ".spec.template.spec.containers: element 0: associative list with keys may not have non-map elements",
        ),
    ] {
        let answer = send_patch(
            &client,
            path,
            "application/apply-patch+yaml",
            config(spec.clone()).to_string(),
        )
        .await;
        let (code, message) = answer.failure();
        assert_eq!(
            (code, message.strip_prefix(prefix)),
            (400, Some(expected)),
            "{message}"
        );
        assert_eq!(answer.json()["reason"], "BadRequest");
    }
}
