//! Volumes, claims, classes and what drivers tell of themselves.

#![allow(clippy::indexing_slicing, reason = "a test that cannot go on fails")]

mod support;

use serde_json::{Value, json};
use skiff_api::kind::{Subresource, Target};

use support::{cells, create_errors, created, json_of, metadata, over, update};

fn claim(spec: Value) -> Value {
    let base = json!({"accessModes": ["ReadWriteOnce"], "resources": {"requests": {"storage": "1Gi"}}});
    json!({"metadata": metadata("data"), "spec": over(base, spec)})
}

fn volume(spec: Value) -> Value {
    let base = json!({
        "accessModes": ["ReadWriteOnce", "ReadOnlyMany"],
        "capacity": {"storage": "1Gi"},
        "hostPath": {"path": "/srv"},
    });
    let mut value = json!({"metadata": metadata("pv"), "spec": over(base, spec)});
    value["metadata"]["namespace"] = Value::Null;
    value
}

#[test]
fn claims_are_filled_in_and_checked() {
    let object = json_of(created("PersistentVolumeClaim", claim(json!({}))).as_ref());
    assert_eq!(object["spec"]["volumeMode"], "Filesystem");
    assert_eq!(object["status"], json!({"phase": "Pending"}));
    let source = json!({"dataSource": {"kind": "PersistentVolumeClaim", "name": "other"}});
    let object = json_of(created("PersistentVolumeClaim", claim(source)).as_ref());
    assert_eq!(object["spec"]["dataSourceRef"]["name"], "other");
    let cases = [
        (json!({}), vec![]),
        (
            json!({"accessModes": ["ReadWriteOncePod", "Some"], "resources": null}),
            vec![
                "spec.accessModes: Unsupported value: \"Some\": supported values: \"ReadOnlyMany\", \"ReadWriteMany\", \"ReadWriteOnce\", \"ReadWriteOncePod\"",
                "spec.resources[storage]: Required value",
            ],
        ),
        (
            json!({"accessModes": [], "resources": {"requests": {"storage": "0"}}, "volumeMode": "Tape"}),
            vec![
                "spec.accessModes: Required value: at least 1 access mode is required",
                "spec.resources[storage]: Invalid value: \"0\": must be greater than zero",
                "spec.volumeMode: Unsupported value: \"Tape\": supported values: \"Block\", \"Filesystem\"",
            ],
        ),
    ];
    for (spec, expected) in cases {
        assert_eq!(
            create_errors("PersistentVolumeClaim", claim(spec.clone())),
            expected,
            "{spec}"
        );
    }
}

#[test]
fn a_claim_is_bound_once_and_may_grow() {
    let change = |old: Value, spec: Value| {
        let new = over(old.clone(), json!({"spec": spec}));
        let (_, errors) = update("PersistentVolumeClaim", old, new, Target::Main);
        errors
            .iter()
            .filter_map(|error| error.lines().next().map(str::to_string))
            .collect::<Vec<_>>()
    };
    let immutable = "spec: Forbidden: spec is immutable after creation except resources.requests and volumeAttributesClassName for bound claims";
    let pending = claim(json!({}));
    assert_eq!(
        change(pending.clone(), json!({"volumeName": "pv"})),
        Vec::<String>::new()
    );
    assert_eq!(
        change(pending.clone(), json!({"storageClassName": "fast"})),
        Vec::<String>::new()
    );
    let grown = json!({"resources": {"requests": {"storage": "2Gi"}}});
    assert_eq!(change(pending, grown.clone()), [immutable]);
    let bound = over(
        claim(json!({"volumeName": "pv", "storageClassName": "fast"})),
        json!({"status": {"phase": "Bound", "capacity": {"storage": "1Gi"}}}),
    );
    assert_eq!(change(bound.clone(), grown), Vec::<String>::new());
    assert_eq!(change(bound.clone(), json!({"volumeName": "other"})), [immutable]);
    assert_eq!(
        change(bound.clone(), json!({"storageClassName": "slow"})),
        [immutable]
    );
    assert_eq!(
        change(bound, json!({"resources": {"requests": {"storage": "1Mi"}}})),
        ["spec.resources.requests.storage: Forbidden: field can not be less than status.capacity"]
    );
}

#[test]
fn volumes_have_one_source_which_stays() {
    let cases = [
        (json!({}), vec![]),
        (
            json!({"nfs": {"server": "", "path": "x"}}),
            vec!["spec.nfs: Forbidden: may not specify more than 1 volume type"],
        ),
        (
            json!({"hostPath": null, "capacity": null, "accessModes": null}),
            vec![
                "spec.accessModes: Required value",
                "spec.capacity: Required value",
                "spec.capacity: Unsupported value: {}: supported values: \"storage\"",
                "spec: Required value: must specify a volume type",
            ],
        ),
        (
            json!({"hostPath": null, "local": {"path": "/mnt"}}),
            vec!["spec.nodeAffinity: Required value: Local volume requires node affinity"],
        ),
        (
            json!({"hostPath": {"path": "/a/../b"}}),
            vec!["spec.hostPath.path: Invalid value: \"/a/../b\": must not contain '..'"],
        ),
    ];
    for (spec, expected) in cases {
        assert_eq!(
            create_errors("PersistentVolume", volume(spec.clone())),
            expected,
            "{spec}"
        );
    }
    let old = volume(json!({}));
    let new = volume(json!({"hostPath": {"path": "/other"}, "persistentVolumeReclaimPolicy": "Delete"}));
    let (_, errors) = update("PersistentVolume", old, new, Target::Main);
    assert!(
        errors.len() == 1 && errors[0].starts_with(
            "spec.persistentvolumesource: Forbidden: spec.persistentvolumesource is immutable after creation\n"
        ),
        "{errors:?}"
    );
}

#[test]
fn tables_show_storage() {
    let bound = over(
        claim(json!({"volumeName": "pv", "storageClassName": "fast", "volumeMode": "Filesystem"})),
        json!({"status": {"phase": "Bound", "accessModes": ["ReadWriteOnce"], "capacity": {"storage": "1Gi"}}}),
    );
    assert_eq!(
        cells("PersistentVolumeClaim", bound),
        [
            "data",
            "Bound",
            "pv",
            "1Gi",
            "RWO",
            "fast",
            "<unset>",
            "5h",
            "Filesystem"
        ]
    );
    assert_eq!(
        cells(
            "PersistentVolumeClaim",
            over(claim(json!({})), json!({"status": {"phase": "Pending"}}))
        ),
        ["data", "Pending", "", "", "", "", "<unset>", "5h", "<unset>"]
    );
    let value = over(
        volume(
            json!({"persistentVolumeReclaimPolicy": "Retain", "claimRef": {"namespace": "default", "name": "data"}}),
        ),
        json!({"status": {"phase": "Bound"}}),
    );
    assert_eq!(
        cells("PersistentVolume", value),
        [
            "pv",
            "1Gi",
            "RWO,ROX",
            "Retain",
            "Bound",
            "default/data",
            "",
            "<unset>",
            "",
            "5h",
            "<unset>"
        ]
    );
    let class = json!({
        "metadata": {"name": "fast", "creationTimestamp": "2024-12-31T21:00:00Z",
            "annotations": {"storageclass.kubernetes.io/is-default-class": "true"}},
        "provisioner": "acme.io/disk",
    });
    assert_eq!(
        cells("storage.k8s.io/StorageClass", class),
        ["fast", "acme.io/disk", "Delete", "Immediate", "false", "5h"]
    );
}

#[test]
fn classes_never_change() {
    let class = json!({"metadata": {"name": "fast"}, "provisioner": "acme.io/disk"});
    assert_eq!(
        create_errors("storage.k8s.io/StorageClass", class.clone()),
        Vec::<String>::new()
    );
    let new = over(
        class.clone(),
        json!({"provisioner": "a/b", "parameters": {"a": "b"}, "reclaimPolicy": "Retain"}),
    );
    let (_, errors) = update("storage.k8s.io/StorageClass", class, new, Target::Main);
    assert_eq!(
        errors,
        [
            "parameters: Forbidden: updates to parameters are forbidden.",
            "provisioner: Forbidden: updates to provisioner are forbidden.",
            "reclaimPolicy: Forbidden: updates to reclaimPolicy are forbidden.",
        ]
    );
    let bare = json!({"metadata": {"name": "gold"}, "driverName": "acme.io"});
    assert_eq!(
        create_errors("storage.k8s.io/VolumeAttributesClass", bare),
        ["parameters: Required value: must contain at least one key/value pair"]
    );
}

#[test]
fn drivers_and_attachments_are_checked() {
    let driver = json!({"metadata": {"name": "acme.io"}, "spec": {}});
    let object = json_of(created("storage.k8s.io/CSIDriver", driver).as_ref());
    assert_eq!(
        (
            &object["spec"]["attachRequired"],
            &object["spec"]["volumeLifecycleModes"]
        ),
        (&json!(true), &json!(["Persistent"]))
    );
    let node = json!({"metadata": {"name": "n"}, "spec": {"drivers": [
        {"name": "acme.io", "nodeID": ""}, {"name": "acme.io", "nodeID": "n"},
    ]}});
    assert_eq!(
        create_errors("storage.k8s.io/CSINode", node),
        [
            "spec.drivers[0].nodeID: Required value",
            "spec.drivers[1].name: Duplicate value: \"acme.io\"",
        ]
    );
    let attachment =
        json!({"metadata": {"name": "a"}, "spec": {"attacher": "acme.io", "nodeName": "n", "source": {}}});
    assert_eq!(
        create_errors("storage.k8s.io/VolumeAttachment", attachment),
        [
            "spec.source: Required value: must specify exactly one of inlineVolumeSpec and persistentVolumeName"
        ]
    );
}

#[test]
fn what_an_attacher_tells_is_checked() {
    let attachment = |status: Value| {
        json!({"metadata": {"name": "a", "labels": {"a": "b"}}, "status": status, "spec": {
            "attacher": "d", "nodeName": "n", "source": {"persistentVolumeName": "v"}}})
    };
    let path = Target::Subresource(Subresource::Status);
    for (status, expected) in [
        (json!({"attached": true}), vec![]),
        (
            json!({"attached": false, "attachError": {"message": "x".repeat(1025), "errorCode": -1}}),
            vec![
                "status.attachError.message: Too long: may not be more than 262144 bytes",
                "status.attachError.errorCode: Invalid value: -1: must be between 0 and 2147483647, inclusive",
            ],
        ),
    ] {
        let mut new = attachment(status);
        new["metadata"]["labels"] = json!({"a": "c"});
        let old = attachment(json!({"attached": false}));
        let (object, errors) = update("storage.k8s.io/VolumeAttachment", old, new, path);
        assert_eq!(errors, expected);
        assert_eq!(
            object["metadata"]["labels"]["a"], "b",
            "the rest of the object stays"
        );
    }
    assert_eq!(
        create_errors(
            "storage.k8s.io/VolumeAttachment",
            json!({"metadata": {"name": "a"}, "spec": {"attacher": "d", "nodeName": "n",
                "source": {"persistentVolumeName": "V_"}}})
        )
        .len(),
        1,
        "a volume's name is a name"
    );
}

#[test]
fn drivers_and_their_nodes_are_checked_as_upstream_does() {
    let driver = |spec: Value| json!({"metadata": {"name": "d"}, "spec": spec});
    for (spec, expected) in [
        (
            json!({"fsGroupPolicy": "x", "volumeLifecycleModes": ["y"],
                "tokenRequests": [{"audience": "a"}, {"audience": "a", "expirationSeconds": 1}]}),
            vec![
                "spec.fsGroupPolicy: Unsupported value: \"x\": supported values: \"File\", \"None\", \"ReadWriteOnceWithFSType\"",
                "spec.tokenRequests[1].audience: Duplicate value: \"a\"",
                "spec.volumeLifecycleModes: Unsupported value: \"y\": supported values: \"Persistent\", \"Ephemeral\"",
            ],
        ),
        (json!({}), vec![]),
        (
            json!({"serviceAccountTokenInSecrets": true, "tokenRequests": []}),
            vec![
                "spec.serviceAccountTokenInSecrets: Invalid value: true: serviceAccountTokenInSecrets is set but no \
                 tokenRequests are specified",
            ],
        ),
        (
            json!({"serviceAccountTokenInSecrets": true, "tokenRequests": [{"audience": "a"}]}),
            vec![],
        ),
    ] {
        assert_eq!(create_errors("storage.k8s.io/CSIDriver", driver(spec)), expected);
    }
    let node = |id: &str, count: i32| {
        json!({"metadata": {"name": "n"}, "spec": {"drivers": [
            {"name": "d", "nodeID": id, "topologyKeys": ["z"], "allocatable": {"count": count}}]}})
    };
    for (id, count, expected) in [
        ("i", 2, vec![]),
        (
            "j",
            2,
            vec![
                "spec.drivers: Invalid value: {\"Name\":\"d\",\"NodeID\":\"j\",\"TopologyKeys\":[\"z\"],\"Allocatable\":null}: field is immutable",
            ],
        ),
    ] {
        let (_, errors) = update(
            "storage.k8s.io/CSINode",
            node("i", 1),
            node(id, count),
            Target::Main,
        );
        assert_eq!(errors, expected);
    }
    assert_eq!(
        create_errors("storage.k8s.io/CSINode", node(&"i".repeat(256), 1)),
        Vec::<String>::new()
    );
}
