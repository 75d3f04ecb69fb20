//! Deployments and replica sets.

mod support;

use serde_json::{Value, json};
use skiff_api::kind::{Subresource, Target};

use support::{cells, create_errors, created, defaulted, json_of, metadata, over, update, workload_spec};

fn workload(spec: Value) -> Value {
    let spec = workload_spec("web", "nginx:1", spec);
    json!({"metadata": metadata("web"), "spec": spec})
}

#[test]
fn deployments_and_replica_sets_are_filled_in() {
    let object = json_of(created("apps/Deployment", workload(json!({}))).as_ref());
    let spec = &object["spec"];
    assert_eq!(object["metadata"]["generation"], 1);
    assert_eq!(object["status"], json!({}));
    assert_eq!(spec["replicas"], 1);
    assert_eq!(spec["revisionHistoryLimit"], 10);
    assert_eq!(spec["progressDeadlineSeconds"], 600);
    assert_eq!(
        spec["strategy"],
        json!({"type": "RollingUpdate", "rollingUpdate": {"maxSurge": "25%", "maxUnavailable": "25%"}})
    );
    assert_eq!(
        spec["template"]["spec"],
        json!({
            "containers": [{
                "name": "a",
                "image": "nginx:1",
                "imagePullPolicy": "IfNotPresent",
                "resources": {},
                "terminationMessagePath": "/dev/termination-log",
                "terminationMessagePolicy": "File",
            }],
            "dnsPolicy": "ClusterFirst",
            "restartPolicy": "Always",
            "schedulerName": "default-scheduler",
            "securityContext": {},
            "terminationGracePeriodSeconds": 30,
        }),
        "a template has fewer defaults than a pod"
    );
    let object = json_of(defaulted("apps/ReplicaSet", workload(json!({}))).as_ref());
    assert_eq!(object["spec"]["replicas"], 1);
    let recreate = json_of(
        defaulted(
            "apps/Deployment",
            workload(json!({"strategy": {"type": "Recreate"}})),
        )
        .as_ref(),
    );
    assert_eq!(recreate["spec"]["strategy"], json!({"type": "Recreate"}));
}

#[test]
fn invalid_deployments_are_refused_with_upstreams_words() {
    let cases: Vec<(Value, Vec<&str>)> = vec![
        (json!({}), vec![]),
        (
            json!({"selector": null}),
            vec![
                "spec.selector: Required value",
                "spec.template.metadata.labels: Invalid value: {\"app\":\"web\"}: `selector` does not match template \
                 `labels`",
            ],
        ),
        (
            json!({"selector": {"matchLabels": {"app": "other"}}}),
            vec![
                "spec.template.metadata.labels: Invalid value: {\"app\":\"web\"}: `selector` does not match template \
                 `labels`",
            ],
        ),
        (
            json!({"replicas": -1, "minReadySeconds": 20, "progressDeadlineSeconds": 10, "revisionHistoryLimit": -1}),
            vec![
                "spec.replicas: Invalid value: -1: must be greater than or equal to 0",
                "spec.revisionHistoryLimit: Invalid value: -1: must be greater than or equal to 0",
                "spec.progressDeadlineSeconds: Invalid value: 10: must be greater than minReadySeconds",
            ],
        ),
        (
            json!({"strategy": {"rollingUpdate": {"maxSurge": 0, "maxUnavailable": 0}}}),
            vec![
                "spec.strategy.rollingUpdate.maxUnavailable: Invalid value: 0: may not be 0 when `maxSurge` is 0",
            ],
        ),
        (
            json!({"strategy": {"rollingUpdate": {"maxSurge": "a lot", "maxUnavailable": "101%"}}}),
            vec![
                "spec.strategy.rollingUpdate.maxSurge: Invalid value: \"a lot\": a valid percent string must be a \
                 numeric string followed by an ending '%' (e.g. '1%',  or '93%', regex used for validation is \
                 '[0-9]+%')",
                "spec.strategy.rollingUpdate.maxUnavailable: Invalid value: \"101%\": must not be greater than 100%",
            ],
        ),
        (
            json!({"strategy": {"type": "Recreate", "rollingUpdate": {"maxSurge": 1}}}),
            vec![
                "spec.strategy.rollingUpdate: Forbidden: may not be specified when strategy `type` is 'Recreate'",
            ],
        ),
        (
            json!({"template": {"spec": {"restartPolicy": "Never", "activeDeadlineSeconds": 1}}}),
            vec![
                "spec.template.spec.restartPolicy: Unsupported value: \"Never\": supported values: \"Always\"",
                "spec.template.spec.activeDeadlineSeconds: Forbidden: activeDeadlineSeconds in ReplicaSet is not \
                 Supported",
            ],
        ),
        (
            json!({"template": {"spec": {"containers": [{"name": "a", "image": ""}]}}}),
            vec!["spec.template.spec.containers[0].image: Required value"],
        ),
        (
            json!({"template": {"spec": {"containers": [{"name": "a", "image": " x"}], "ephemeralContainers": [{"name": "e", "image": "x"}]}}}),
            vec![
                "spec.template.spec.ephemeralContainers: Forbidden: ephemeral containers not allowed in pod template",
            ],
        ),
    ];
    for (spec, expected) in cases {
        assert_eq!(
            create_errors("apps/Deployment", workload(spec.clone())),
            expected,
            "{spec}"
        );
    }
    assert_eq!(
        create_errors(
            "apps/ReplicaSet",
            workload(json!({"replicas": -1, "selector": null}))
        ),
        [
            "spec.replicas: Invalid value: -1: must be greater than or equal to 0",
            "spec.selector: Required value",
            "spec.template.metadata.labels: Invalid value: {\"app\":\"web\"}: `selector` does not match template \
             `labels`",
        ]
    );
}

#[test]
fn the_generation_counts_changes_of_what_is_desired() {
    let old = over(
        workload(json!({})),
        json!({"metadata": {"generation": 2}, "status": {"replicas": 1}}),
    );
    let generation = |kind: &str, patch: Value, target: Target| {
        let (object, errors) = update(kind, old.clone(), over(old.clone(), patch), target);
        assert_eq!(errors, Vec::<String>::new());
        (object["metadata"]["generation"].as_i64().unwrap(), object)
    };
    let more = json!({"spec": {"replicas": 2}});
    let note = json!({"metadata": {"annotations": {"a": "b"}}});
    let labels = json!({"metadata": {"labels": {"a": "b"}}, "status": {"replicas": 5}});
    assert_eq!(generation("apps/Deployment", more.clone(), Target::Main).0, 3);
    assert_eq!(generation("apps/Deployment", note.clone(), Target::Main).0, 3);
    assert_eq!(generation("apps/ReplicaSet", note, Target::Main).0, 2);
    let (count, object) = generation("apps/Deployment", labels, Target::Main);
    assert_eq!((count, object["status"]["replicas"].as_i64()), (2, Some(1)));

    let status = Target::Subresource(Subresource::Status);
    let (count, object) = generation(
        "apps/Deployment",
        over(
            more.clone(),
            json!({"status": {"replicas": 5}, "metadata": {"labels": {"a": "b"}}}),
        ),
        status,
    );
    assert_eq!(count, 2);
    assert_eq!(object["status"]["replicas"], 5);
    assert_eq!(object["spec"]["replicas"], 1);
    assert_eq!(object["metadata"]["labels"], Value::Null);
    assert_eq!(
        generation("apps/ReplicaSet", more, status).1["spec"]["replicas"],
        1
    );
}

#[test]
fn the_selector_never_changes_and_counts_make_sense() {
    let old = workload(json!({}));
    let other = over(
        old.clone(),
        json!({"spec": {"selector": {"matchLabels": {"app": "b"}}, "template": {"metadata": {"labels": {"app": "b"}}}}}),
    );
    for kind in ["apps/Deployment", "apps/ReplicaSet"] {
        let (_, errors) = update(kind, old.clone(), other.clone(), Target::Main);
        assert_eq!(
            errors,
            ["spec.selector: Invalid value: {\"matchLabels\":{\"app\":\"b\"}}: field is immutable"]
        );
    }
    let status = over(
        old.clone(),
        json!({"status": {"replicas": 1, "readyReplicas": 2, "availableReplicas": 3}}),
    );
    let (_, errors) = update(
        "apps/ReplicaSet",
        old,
        status,
        Target::Subresource(Subresource::Status),
    );
    assert_eq!(
        errors,
        [
            "status.readyReplicas: Invalid value: 2: cannot be greater than status.replicas",
            "status.availableReplicas: Invalid value: 3: cannot be greater than status.replicas",
            "status.availableReplicas: Invalid value: 3: cannot be greater than readyReplicas",
        ]
    );
}

#[test]
fn a_scale_must_be_possible() {
    let old = workload(json!({}));
    let new = over(old.clone(), json!({"spec": {"replicas": -3}}));
    for kind in ["apps/Deployment", "apps/ReplicaSet"] {
        let (_, errors) = update(
            kind,
            old.clone(),
            new.clone(),
            Target::Subresource(Subresource::Scale),
        );
        assert_eq!(
            errors,
            ["spec.replicas: Invalid value: -3: must be greater than or equal to 0"]
        );
    }
}

#[test]
fn tables_show_workloads() {
    let mut value = workload(json!({"replicas": 3}));
    value["status"] =
        json!({"replicas": 3, "readyReplicas": 2, "updatedReplicas": 1, "availableReplicas": 2});
    assert_eq!(
        cells("apps/Deployment", value.clone()),
        ["web", "2/3", "1", "2", "5h", "a", "nginx:1", "app=web"]
    );
    assert_eq!(
        cells("apps/ReplicaSet", value),
        ["web", "3", "3", "2", "5h", "a", "nginx:1", "app=web"]
    );
}
