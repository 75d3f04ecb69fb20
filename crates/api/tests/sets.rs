//! Stateful sets, daemon sets, replication controllers, and what is kept of their versions.

mod support;

use serde_json::{Value, json};
use skiff_api::Target;
use skiff_api::kind::Subresource;

use support::{cells, create_errors, created, json_of, metadata, over, strategy, update, workload_spec};

fn set(spec: Value) -> Value {
    let spec = workload_spec("db", "db:1", spec);
    json!({"metadata": metadata("db"), "spec": spec})
}

#[test]
fn stateful_sets_are_filled_in() {
    let claims = json!({"volumeClaimTemplates": [{"metadata": {"name": "data"}, "spec": {}}]});
    let object = json_of(created("apps/StatefulSet", set(claims)).as_ref());
    let spec = &object["spec"];
    for (field, value) in [
        ("podManagementPolicy", json!("OrderedReady")),
        ("replicas", json!(1)),
        ("revisionHistoryLimit", json!(10)),
        (
            "persistentVolumeClaimRetentionPolicy",
            json!({"whenDeleted": "Retain", "whenScaled": "Retain"}),
        ),
        (
            "updateStrategy",
            json!({"type": "RollingUpdate", "rollingUpdate": {"partition": 0, "maxUnavailable": 1}}),
        ),
    ] {
        assert_eq!(spec[field], value, "{field}");
    }
    let claim = &spec["volumeClaimTemplates"][0];
    assert_eq!(
        (&claim["kind"], &claim["status"]["phase"]),
        (&json!("PersistentVolumeClaim"), &json!("Pending"))
    );
    assert_eq!(claim["spec"]["volumeMode"], "Filesystem");
}

#[test]
fn invalid_sets_are_refused_with_upstreams_words() {
    let mismatch = "spec.template.metadata.labels: Invalid value: {\"app\":\"db\"}: `selector` does not match template `labels`";
    let stateful = [
        (json!({}), vec![]),
        (
            json!({"podManagementPolicy": "Random", "updateStrategy": {"type": "Never"}, "replicas": -1}),
            vec![
                "spec.podManagementPolicy: Invalid value: \"Random\": must be 'OrderedReady' or 'Parallel'",
                "spec.updateStrategy: Invalid value: {\"Type\":\"Never\",\"RollingUpdate\":null}: must be 'RollingUpdate' or 'OnDelete'",
                "spec.replicas: Invalid value: -1: must be greater than or equal to 0",
            ],
        ),
        (json!({"selector": {"matchLabels": {"app": "x"}}}), vec![mismatch]),
        (
            json!({"updateStrategy": {"rollingUpdate": {"partition": -1, "maxUnavailable": 0}}}),
            vec![
                "spec.updateStrategy.rollingUpdate.partition: Invalid value: -1: must be greater than or equal to 0",
                "spec.updateStrategy.rollingUpdate.maxUnavailable: Invalid value: 0: cannot be 0",
            ],
        ),
    ];
    for (spec, expected) in stateful {
        assert_eq!(
            create_errors("apps/StatefulSet", set(spec.clone())),
            expected,
            "{spec}"
        );
    }
    let daemon = [
        (json!({}), vec![]),
        (json!({"selector": {"matchLabels": {"app": "x"}}}), vec![mismatch]),
        (
            json!({"updateStrategy": {"rollingUpdate": {"maxSurge": 1, "maxUnavailable": "200%"}}}),
            vec![
                "spec.updateStrategy.rollingUpdate.maxUnavailable: Invalid value: \"200%\": must not be greater than 100%",
                "spec.updateStrategy.rollingUpdate.maxSurge: Invalid value: 1: may not be set when maxUnavailable is non-zero",
            ],
        ),
        (
            json!({"updateStrategy": {"type": "Never"}}),
            vec![
                "spec.updateStrategy: Unsupported value: {\"Type\":\"Never\",\"RollingUpdate\":null}: supported values: \"RollingUpdate\", \"OnDelete\"",
            ],
        ),
        (
            json!({"template": {"spec": {"restartPolicy": "Never"}}}),
            vec![
                "spec.template.spec.restartPolicy: Unsupported value: \"Never\": supported values: \"Always\"",
            ],
        ),
    ];
    for (spec, expected) in daemon {
        assert_eq!(
            create_errors("apps/DaemonSet", set(spec.clone())),
            expected,
            "{spec}"
        );
    }
}

#[test]
fn only_some_of_a_stateful_set_may_change() {
    let old = set(json!({}));
    let change = |spec: Value| {
        update(
            "apps/StatefulSet",
            old.clone(),
            over(old.clone(), json!({"spec": spec})),
            Target::Main,
        )
    };
    let (object, errors) = change(json!({"replicas": 3, "minReadySeconds": 5, "ordinals": {"start": 1}}));
    assert_eq!((errors, &object["metadata"]["generation"]), (vec![], &json!(1)));
    let (_, errors) = change(json!({"serviceName": "db"}));
    assert_eq!(
        errors,
        [
            "spec: Forbidden: updates to statefulset spec for fields other than 'replicas', 'ordinals', 'template', \
          'updateStrategy', 'revisionHistoryLimit', 'persistentVolumeClaimRetentionPolicy' and 'minReadySeconds' are \
          forbidden"
        ]
    );
}

#[test]
fn a_daemon_set_counts_its_templates() {
    let generation = "deprecated.daemonset.template.generation";
    let old = json_of(created("apps/DaemonSet", set(json!({}))).as_ref());
    assert_eq!(old["metadata"]["annotations"][generation], "1");
    let change = |spec: Value| {
        update(
            "apps/DaemonSet",
            old.clone(),
            over(old.clone(), json!({"spec": spec})),
            Target::Main,
        )
        .0
    };
    let slower = change(json!({"minReadySeconds": 5}));
    assert_eq!(
        (
            &slower["metadata"]["annotations"][generation],
            &slower["metadata"]["generation"]
        ),
        (&json!("1"), &json!(2))
    );
    let newer = change(json!({"template": {"spec": {"hostNetwork": true}}}));
    assert_eq!(newer["metadata"]["annotations"][generation], "2");
}

#[test]
fn a_replication_controller_selects_what_it_makes() {
    let value = set(json!({"selector": null}));
    let object = json_of(created("ReplicationController", value).as_ref());
    assert_eq!(object["spec"]["selector"], json!({"app": "db"}));
    assert_eq!(object["metadata"]["labels"], json!({"app": "db"}));
    let mut other = set(json!({"replicas": -1}));
    other["spec"]["selector"] = json!({"app": "x"});
    assert_eq!(
        create_errors("ReplicationController", other),
        [
            "spec.replicas: Invalid value: -1: must be greater than or equal to 0",
            "spec.template.metadata.labels: Invalid value: {\"app\":\"db\"}: `selector` does not match template `labels`",
        ]
    );
    assert_eq!(
        strategy("ReplicationController").info().store_prefix,
        "controllers"
    );
}

#[test]
fn revisions_keep_their_data() {
    let old = json!({"metadata": metadata("db-1"), "data": {"a": 1}, "revision": 1});
    let new = over(old.clone(), json!({"data": {"a": 2}, "revision": 2}));
    let (_, errors) = update("apps/ControllerRevision", old, new, Target::Main);
    assert_eq!(errors, ["data: Invalid value: {\"a\":2}: field is immutable"]);
    let owned = json!({"metadata": over(metadata("db-1"), json!({"ownerReferences": [
        {"apiVersion": "apps/v1", "kind": "StatefulSet", "name": "db", "uid": "1", "controller": true}]})), "revision": 3});
    assert_eq!(
        cells("apps/ControllerRevision", owned),
        ["db-1", "statefulset.apps/db", "3", "5h"]
    );
}

#[test]
fn tables_show_sets() {
    let mut value = set(json!({"replicas": 3}));
    value["status"] = json!({"replicas": 3, "readyReplicas": 2});
    assert_eq!(cells("apps/StatefulSet", value), ["db", "2/3", "5h", "a", "db:1"]);
    let mut value = set(json!({"template": {"spec": {"nodeSelector": {"disk": "ssd"}}}}));
    value["status"] = json!({"desiredNumberScheduled": 4, "currentNumberScheduled": 3, "numberReady": 2,
        "updatedNumberScheduled": 1, "numberMisscheduled": 0});
    assert_eq!(
        cells("apps/DaemonSet", value),
        [
            "db", "4", "3", "2", "1", "0", "disk=ssd", "5h", "a", "db:1", "app=db"
        ]
    );
}

#[test]
fn counts_in_a_status_make_sense() {
    let old = set(json!({}));
    let new = over(
        old.clone(),
        json!({"status": {"replicas": 1, "readyReplicas": 2, "availableReplicas": 3}}),
    );
    let (_, errors) = update(
        "apps/StatefulSet",
        old,
        new,
        Target::Subresource(Subresource::Status),
    );
    assert_eq!(
        errors,
        [
            "status.readyReplicas: Invalid value: 2: cannot be greater than status.replicas",
            "status.availableReplicas: Invalid value: 3: cannot be greater than status.replicas",
            "status.availableReplicas: Invalid value: 3: cannot be greater than status.readyReplicas",
        ]
    );
}

#[test]
fn the_pods_and_the_claims_of_a_stateful_set_must_be_possible() {
    let kind = "apps/StatefulSet";
    let mounted = |volume: &str| {
        json!({"template": {"spec": {"hostname": "NOT_A_NAME", "containers": [
            {"name": "a", "image": "db:1", "volumeMounts": [{"name": volume, "mountPath": "/data"}]}]}}})
    };
    let claim = |modes: Value| {
        json!({"volumeClaimTemplates": [{"metadata": {"name": "data"}, "spec": {"accessModes": modes,
            "resources": {"requests": {"storage": "1Gi"}}}}]})
    };
    let missing = "spec.template.spec.containers[0].volumeMounts[0].name: Not found: \"other\"";
    for (spec, expected) in [
        (over(mounted("data"), claim(json!(["ReadWriteOnce"]))), vec![]),
        (
            over(
                over(mounted("data"), claim(json!(["ReadWriteOnce"]))),
                json!({"template": {"spec": {"volumes": [{"name": "data", "emptyDir": {}, "hostPath": {"path": ""}}]}}}),
            ),
            vec![],
        ),
        (mounted("other"), vec![missing]),
        (
            claim(json!([])),
            vec![
                "spec.volumeClaimTemplates[0].spec.accessModes: Required value: at least 1 access mode is required",
            ],
        ),
        (
            json!({"serviceName": "A"}),
            vec![
                "spec.serviceName: Invalid value: \"A\": a lowercase RFC 1123 label must consist of lower case alphanumeric characters or '-', and must start and end with an alphanumeric character (e.g. 'my-name',  or '123-abc', regex used for validation is '[a-z0-9]([-a-z0-9]*[a-z0-9])?')",
            ],
        ),
    ] {
        assert_eq!(create_errors(kind, set(spec.clone())), expected, "{spec}");
    }
    // What was valid stays so; what was not may be, and be changed.
    let wrong = set(over(mounted("other"), json!({"serviceName": "A"})));
    for (old, new, expected) in [
        (set(json!({})), set(mounted("other")), vec![missing]),
        (
            wrong.clone(),
            over(wrong.clone(), json!({"spec": {"replicas": 3}})),
            vec![],
        ),
    ] {
        let (_, errors) = update(kind, old, new, Target::Main);
        assert_eq!(errors, expected);
    }
}

#[test]
fn fractions_of_a_byte_in_claims_are_warned_of() {
    let claims = json!({"volumeClaimTemplates": [{"metadata": {"name": "data"}, "spec": {"accessModes": ["ReadWriteOnce"],
        "resources": {"requests": {"storage": "500m"}}}}]});
    let object = created("apps/StatefulSet", set(claims));
    assert_eq!(
        strategy("apps/StatefulSet").warnings(object.as_ref(), None),
        [
            "spec.volumeClaimTemplates[0].resources.requests[storage]: fractional byte value \"500m\" is invalid, must be an integer"
        ]
    );
}
