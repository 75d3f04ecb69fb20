//! Metadata, and the smaller kinds.

mod support;

use serde_json::{Value, json};
use skiff_api::field::Errors;
use skiff_api::kind::{Subresource, Target};
use skiff_api::meta;

use support::{cells, create_errors, created, defaulted, json_of, metadata, over, strategy, update};

#[test]
fn invalid_metadata_is_refused_with_upstreams_words() {
    let map = |meta: Value| create_errors("ConfigMap", json!({"metadata": over(metadata("a"), meta)}));
    let qualified = "must consist of alphanumeric characters, '-', '_' or '.', and must start and end with an \
        alphanumeric character (e.g. 'MyName',  or 'my.name',  or '123-abc', regex used for validation is \
        '([A-Za-z0-9][-A-Za-z0-9_.]*)?[A-Za-z0-9]')";
    let value = "a valid label must be an empty string or consist of alphanumeric characters, '-', '_' or '.', and \
        must start and end with an alphanumeric character (e.g. 'MyValue',  or 'my_value',  or '12345', regex used \
        for validation is '(([A-Za-z0-9][-A-Za-z0-9_.]*)?[A-Za-z0-9])?')";
    let cases: Vec<(Value, Vec<String>)> = vec![
        (json!({}), vec![]),
        (
            json!({"name": null, "namespace": null}),
            vec![
                "metadata.name: Required value: name or generateName is required".into(),
                "metadata.namespace: Required value".into(),
            ],
        ),
        (
            json!({"labels": {"-a": "b-"}, "annotations": {"UPPER/ok": "x", "example.com/Yes": "any \n text"}}),
            vec![
                format!("metadata.labels: Invalid value: \"-a\": name part {qualified}"),
                format!("metadata.labels: Invalid value: \"b-\": {value}"),
            ],
        ),
        (
            json!({"annotations": {"a": "x".repeat(256 << 10)}}),
            vec!["metadata.annotations: Too long: may not be more than 262144 bytes".into()],
        ),
        (
            json!({"ownerReferences": [
                {"apiVersion": "", "kind": "", "name": "", "uid": ""},
                {"apiVersion": "v1", "kind": "Pod", "name": "p", "uid": "1", "controller": true},
                {"apiVersion": "v1", "kind": "Pod", "name": "q", "uid": "2", "controller": true},
            ]}),
            vec![
                "metadata.ownerReferences.apiVersion: Invalid value: \"\": version must not be empty".into(),
                "metadata.ownerReferences.kind: Invalid value: \"\": must not be empty".into(),
                "metadata.ownerReferences.name: Invalid value: \"\": must not be empty".into(),
                "metadata.ownerReferences.uid: Invalid value: \"\": must not be empty".into(),
                "metadata.ownerReferences: Invalid value: [{\"apiVersion\":\"\",\"kind\":\"\",\"name\":\"\",\
                 \"uid\":\"\"},{\"apiVersion\":\"v1\",\"kind\":\"Pod\",\"name\":\"p\",\"uid\":\"1\",\
                 \"controller\":true},{\"apiVersion\":\"v1\",\"kind\":\"Pod\",\"name\":\"q\",\"uid\":\"2\",\"controller\":true}]: \
                 Only one reference can have Controller set to true. Found \"true\" in references for Pod/p and Pod/q"
                    .into(),
            ],
        ),
        (
            json!({"finalizers": ["mine", "example.com/mine", "orphan"]}),
            vec![
                "metadata.finalizers[0]: Invalid value: \"mine\": name is neither a standard finalizer name nor is it \
                 fully qualified"
                    .into(),
            ],
        ),
        (
            json!({"finalizers": ["orphan", "foregroundDeletion"]}),
            vec![
                "metadata.finalizers: Invalid value: [\"orphan\",\"foregroundDeletion\"]: finalizer orphan and \
                 foregroundDeletion cannot be both set"
                    .into(),
            ],
        ),
    ];
    for (meta, expected) in cases {
        assert_eq!(
            map(meta.clone()),
            expected,
            "{}",
            meta.to_string().chars().take(200).collect::<String>()
        );
    }
    assert_eq!(
        create_errors("Namespace", json!({"metadata": {"name": "a", "namespace": "b"}})),
        ["metadata.namespace: Forbidden: not allowed on this type"]
    );
    assert_eq!(
        create_errors("Namespace", json!({"metadata": {"name": "a.b"}})),
        ["metadata.name: Invalid value: \"a.b\": must not contain dots"]
    );
}

#[test]
fn some_metadata_never_changes() {
    let old = json!({"metadata": over(metadata("a"), json!({
        "uid": "1", "generation": 2, "deletionTimestamp": "2025-01-01T00:00:00Z", "finalizers": ["a.b/c"],
    }))});
    let new = over(
        old.clone(),
        json!({"metadata": {"uid": "2", "name": "b", "generation": 1, "finalizers": ["a.b/c", "a.b/d"], "creationTimestamp": "2025-01-02T00:00:00Z"}}),
    );
    let (_, errors) = update("ConfigMap", old.clone(), new, Target::Main);
    assert_eq!(
        errors,
        [
            "metadata.finalizers: Forbidden: no new finalizers can be added if the object is being deleted, found new \
             finalizers []string{\"a.b/d\"}",
            "metadata.generation: Invalid value: 1: must not be decremented",
            "metadata.name: Invalid value: \"b\": field is immutable",
            "metadata.uid: Invalid value: \"2\": field is immutable",
            "metadata.creationTimestamp: Invalid value: \"2025-01-02T00:00:00Z\": field is immutable",
        ]
    );
    let (old, mut errors) = (defaulted("ConfigMap", old), Errors::new());
    meta::validate_update(
        strategy("ConfigMap").info(),
        old.metadata(),
        old.metadata(),
        &mut errors,
    );
    let errors: Vec<String> = errors.iter().map(ToString::to_string).collect();
    assert_eq!(
        errors,
        ["metadata.resourceVersion: Invalid value: \"\": must be specified for an update"]
    );
}

#[test]
fn config_maps_and_secrets_are_checked() {
    let key = "a valid config key must consist of alphanumeric characters, '-', '_' or '.' (e.g. 'key.name',  or \
        'KEY_NAME',  or 'key-name', regex used for validation is '[-._a-zA-Z0-9]+')";
    assert_eq!(
        create_errors(
            "ConfigMap",
            json!({"metadata": metadata("a"), "data": {"a b": "", "x": ""}, "binaryData": {"x": ""}})
        ),
        [
            format!("data[a b]: Invalid value: \"a b\": {key}"),
            "data[x]: Invalid value: \"x\": duplicate of key present in binaryData".into(),
        ]
    );
    let secret = |type_: &str, data: Value| {
        create_errors(
            "Secret",
            json!({"metadata": metadata("a"), "type": type_, "stringData": data}),
        )
    };
    assert_eq!(secret("Opaque", json!({"a": "b"})), Vec::<String>::new());
    assert_eq!(
        secret("kubernetes.io/tls", json!({"tls.crt": "x"})),
        ["data[tls.key]: Required value"]
    );
    assert_eq!(
        secret("kubernetes.io/dockerconfigjson", json!({})),
        ["data[.dockerconfigjson]: Required value"]
    );
    assert_eq!(
        secret("kubernetes.io/service-account-token", json!({})),
        ["metadata.annotations[kubernetes.io/service-account.name]: Required value"]
    );
    assert_eq!(
        secret("Opaque", json!({"a": "x".repeat((1 << 20) + 1)})),
        ["data: Too long: may not be more than 1048576 bytes"]
    );
    let object = json_of(
        defaulted(
            "Secret",
            json!({"metadata": metadata("a"), "data": {"a": "YQ=="}, "stringData": {"a": "b", "c": "d"}}),
        )
        .as_ref(),
    );
    assert_eq!(
        object["data"],
        json!({"a": "Yg==", "c": "ZA=="}),
        "stringData wins and is not kept"
    );
    assert_eq!(object["stringData"], Value::Null);
    assert_eq!(object["type"], "Opaque");
}

#[test]
fn what_is_immutable_stays() {
    let old = json!({"metadata": metadata("a"), "immutable": true, "data": {"a": "YQ=="}});
    let new = over(old.clone(), json!({"immutable": null, "data": {"a": "Yg=="}}));
    for kind in ["ConfigMap", "Secret"] {
        let (_, errors) = update(kind, old.clone(), new.clone(), Target::Main);
        assert_eq!(
            errors,
            [
                "immutable: Forbidden: field is immutable when `immutable` is set",
                "data: Forbidden: field is immutable when `immutable` is set",
            ],
            "{kind}"
        );
    }
    let retyped = over(
        old.clone(),
        json!({"type": "kubernetes.io/basic-auth", "data": {"username": "YQ=="}}),
    );
    let (_, errors) = update(
        "Secret",
        over(old, json!({"immutable": false})),
        retyped,
        Target::Main,
    );
    assert_eq!(
        errors,
        ["type: Invalid value: \"kubernetes.io/basic-auth\": field is immutable"]
    );
}

#[test]
fn namespaces_are_made_active_and_held() {
    let object = json_of(
        created(
            "Namespace",
            json!({"metadata": {"name": "a"}, "status": {"phase": "Terminating"}}),
        )
        .as_ref(),
    );
    assert_eq!(object["metadata"]["labels"]["kubernetes.io/metadata.name"], "a");
    assert_eq!(object["spec"]["finalizers"], json!(["kubernetes"]));
    assert_eq!(object["status"]["phase"], "Active");

    let old = json!({"metadata": {"name": "a"}, "spec": {"finalizers": ["kubernetes"]}, "status": {"phase": "Active"}});
    let none = over(old.clone(), json!({"spec": {"finalizers": []}}));
    let (kept, _) = update("Namespace", old.clone(), none.clone(), Target::Main);
    assert_eq!(kept["spec"]["finalizers"], json!(["kubernetes"]));
    let (gone, errors) = update(
        "Namespace",
        old.clone(),
        none,
        Target::Subresource(Subresource::Finalize),
    );
    assert_eq!(
        (gone["spec"]["finalizers"].clone(), errors.len()),
        (Value::Null, 0)
    );
    let ended = over(old.clone(), json!({"status": {"phase": "Terminating"}}));
    let (_, errors) = update("Namespace", old, ended, Target::Subresource(Subresource::Status));
    assert_eq!(
        errors,
        [
            "status.Phase: Invalid value: \"Terminating\": may only be 'Active' if `deletionTimestamp` is empty"
        ]
    );
}

#[test]
fn nodes_are_checked() {
    let node = |spec: Value| create_errors("Node", json!({"metadata": {"name": "n"}, "spec": spec}));
    assert_eq!(
        node(json!({
            "taints": [{"key": "a", "effect": ""}, {"key": "b", "effect": "NoSchedule"}, {"key": "b", "effect": "NoSchedule"}],
            "podCIDR": "10.0.0.0/24", "podCIDRs": ["10.0.1.0/24", "x"],
        })),
        [
            "metadata.taints[0].effect: Required value",
            "metadata.taints[2]: Duplicate value: {\"Key\":\"b\",\"Value\":\"\",\"Effect\":\"NoSchedule\",\
             \"TimeAdded\":null}: taints must be unique by key and effect pair",
        ]
    );
    let object = json_of(
        defaulted(
            "Node",
            json!({"metadata": {"name": "n"}, "status": {"capacity": {"cpu": "2000m", "memory": "1024Mi"}}}),
        )
        .as_ref(),
    );
    assert_eq!(
        object["status"]["allocatable"],
        json!({"cpu": "2", "memory": "1Gi"})
    );
    let old = json!({"metadata": {"name": "n"}, "spec": {"podCIDRs": ["10.0.0.0/24"], "providerID": "a"}});
    let new = over(
        old.clone(),
        json!({"spec": {"podCIDRs": ["10.0.1.0/24"], "providerID": "b"}, "status": {"phase": "x"}}),
    );
    let (object, errors) = update("Node", old, new, Target::Main);
    assert_eq!(object["status"]["phase"], Value::Null);
    assert_eq!(
        errors,
        [
            "spec.podCIDRs: Forbidden: node updates may not change podCIDR except from \"\" to valid",
            "spec.providerID: Forbidden: node updates may not change providerID except from \"\" to valid",
        ]
    );
}

#[test]
fn events_and_leases_are_checked() {
    let event = |patch: Value| {
        create_errors(
            "Event",
            over(
                json!({"metadata": metadata("e"), "involvedObject": {"namespace": "default"}}),
                patch,
            ),
        )
    };
    assert_eq!(event(json!({})), Vec::<String>::new());
    assert_eq!(
        event(json!({"involvedObject": {"namespace": null}})),
        Vec::<String>::new()
    );
    assert_eq!(
        event(json!({"involvedObject": {"namespace": "other"}})),
        ["involvedObject.namespace: Invalid value: \"other\": does not match event.namespace"]
    );
    assert_eq!(
        event(json!({"eventTime": "2025-01-01T00:00:00.000000Z"})),
        [
            "reportingController: Required value",
            "reportingController: Invalid value: \"\": name part must be non-empty",
            "reportingController: Invalid value: \"\": name part must consist of alphanumeric characters, '-', '_' or '.', and must start and end with an alphanumeric character (e.g. 'MyName',  or 'my.name',  or '123-abc', regex used for validation is '([A-Za-z0-9][-A-Za-z0-9_.]*)?[A-Za-z0-9]')",
            "reportingInstance: Required value",
            "action: Required value",
            "reason: Required value",
        ]
    );
    assert_eq!(
        create_errors(
            "coordination.k8s.io/Lease",
            json!({"metadata": metadata("l"), "spec": {"leaseDurationSeconds": 0, "leaseTransitions": -1}})
        ),
        [
            "spec.leaseDurationSeconds: Invalid value: 0: must be greater than 0",
            "spec.leaseTransitions: Invalid value: -1: must be greater than or equal to 0",
        ]
    );
    let dropped = json_of(
        created(
            "coordination.k8s.io/Lease",
            json!({"metadata": metadata("l"), "spec": {"strategy": "x", "preferredHolder": "y"}}),
        )
        .as_ref(),
    );
    assert_eq!(dropped["spec"], json!({}), "coordination is off by default");
    let lease = |spec: Value| {
        let of = |spec: Value| json!({"metadata": metadata("l"), "spec": spec});
        let old = of(json!({"strategy": "OldestEmulationVersion", "preferredHolder": "x"}));
        update("coordination.k8s.io/Lease", old, of(spec), Target::Main).1
    };
    let unsupported = |strategy: &str| {
        format!(
            "spec.strategy.strategy: Unsupported value: {strategy:?}: supported values: \"OldestEmulationVersion\""
        )
    };
    let homeless =
        "spec.preferredHolder: Forbidden: may only be specified if `strategy` is defined".to_owned();
    let cases = [
        (
            json!({"strategy": "OldestEmulationVersion", "preferredHolder": "a"}),
            vec![],
        ),
        (json!({"strategy": "example.com/youngest"}), vec![]),
        (json!({"strategy": "Youngest"}), vec![unsupported("Youngest")]),
        (json!({"preferredHolder": ""}), vec![]),
        (json!({"preferredHolder": "a"}), vec![homeless.clone()]),
        (
            json!({"strategy": "", "preferredHolder": "a"}),
            vec![unsupported(""), homeless],
        ),
    ];
    for (spec, wanted) in cases {
        assert_eq!(lease(spec.clone()), wanted, "{spec}");
    }
}

#[test]
fn tables_show_the_smaller_kinds() {
    let node = json!({
        "metadata": {
            "name": "n1",
            "creationTimestamp": "2024-12-31T21:00:00Z",
            "labels": {"node-role.kubernetes.io/worker": "", "node-role.kubernetes.io/control-plane": "", "kubernetes.io/role": "edge"},
        },
        "spec": {"unschedulable": true},
        "status": {
            "conditions": [{"type": "Ready", "status": "True"}],
            "addresses": [{"type": "InternalIP", "address": "10.0.0.1"}],
            "nodeInfo": {"kubeletVersion": "v1.37.0", "osImage": "Debian", "kernelVersion": "6.1"},
        },
    });
    assert_eq!(
        cells("Node", node),
        [
            "n1",
            "Ready,SchedulingDisabled",
            "control-plane,edge,worker",
            "5h",
            "v1.37.0",
            "10.0.0.1",
            "<none>",
            "Debian",
            "6.1",
            "<unknown>"
        ]
    );
    assert_eq!(
        cells("Node", json!({"metadata": {"name": "n"}}))[1..5],
        ["Unknown", "<none>", "<unknown>", ""]
    );
    assert_eq!(
        cells(
            "Namespace",
            json!({"metadata": metadata("a"), "status": {"phase": "Active"}})
        ),
        ["a", "Active", "5h"]
    );
    assert_eq!(
        cells(
            "Secret",
            json!({"metadata": metadata("a"), "type": "Opaque", "data": {"k": ""}})
        ),
        ["a", "Opaque", "1", "5h"]
    );
    assert_eq!(
        cells(
            "ConfigMap",
            json!({"metadata": metadata("a"), "data": {"k": ""}, "binaryData": {"l": ""}})
        ),
        ["a", "2", "5h"]
    );
    assert_eq!(
        cells("ServiceAccount", json!({"metadata": metadata("a")})),
        ["a", "5h"]
    );
    assert_eq!(
        cells(
            "coordination.k8s.io/Lease",
            json!({"metadata": metadata("a"), "spec": {"holderIdentity": "me"}})
        ),
        ["a", "me", "5h"]
    );
    let event = json!({
        "metadata": metadata("web.1"),
        "involvedObject": {"kind": "Pod", "name": "web", "fieldPath": "spec.containers{a}"},
        "type": "Warning",
        "reason": "BackOff",
        "message": " restarting\n",
        "count": 4,
        "source": {"component": "kubelet", "host": "n1"},
        "firstTimestamp": "2025-01-01T01:00:00Z",
        "lastTimestamp": "2025-01-01T01:59:30Z",
    });
    assert_eq!(
        cells("Event", event.clone()),
        [
            "30s",
            "Warning",
            "BackOff",
            "pod/web",
            "spec.containers{a}",
            "kubelet, n1",
            "restarting",
            "60m",
            "4",
            "web.1"
        ]
    );
    let newer = json!({
        "metadata": metadata("web.2"),
        "involvedObject": {"kind": "Node"},
        "eventTime": "2025-01-01T01:50:00.000000Z",
        "series": {"count": 7, "lastObservedTime": "2025-01-01T01:59:00.000000Z"},
        "reportingComponent": "scheduler",
        "reportingInstance": "s-1",
    });
    let row = cells("Event", newer);
    assert_eq!(
        (row[0].as_str(), row[3].as_str(), row[5].as_str()),
        ("60s", "node", "scheduler, s-1")
    );
    assert_eq!((row[7].as_str(), row[8].as_str()), ("10m", "7"));
    let shown: Vec<String> = strategy("Event")
        .info()
        .columns
        .iter()
        .filter(|column| column.priority == 0)
        .map(|column| column.name.to_string())
        .collect();
    assert_eq!(shown, ["Last Seen", "Type", "Reason", "Object", "Message"]);
}

#[test]
fn a_binding_gives_a_pod_its_node_once() {
    use k8s_openapi::api::core::v1::{Binding, Pod};
    use skiff_api::core::binding::{BindError, bind, validate};
    use skiff_api::field::Errors;

    let now = "2025-01-01T00:00:00Z".parse().unwrap();
    let binding: Binding =
        serde_json::from_value(json!({"metadata": {"name": "web", "annotations": {"a": "b"}}, "target": {"kind": "Node", "name": "n1"}})).unwrap();
    let mut pod: Pod =
        serde_json::from_value(json!({"metadata": metadata("web"), "spec": {"containers": []}})).unwrap();
    bind(&mut pod, &binding, now).unwrap();
    assert_eq!(skiff_api::pod::node_name(&pod), "n1");
    assert!(skiff_api::pod::has_condition(&pod, "PodScheduled"));
    assert_eq!(pod.metadata.annotations.as_ref().unwrap()["a"], "b");
    assert_eq!(
        bind(&mut pod, &binding, now),
        Err(BindError::Assigned("web".into(), "n1".into()))
    );
    let mut gated: Pod = serde_json::from_value(
        json!({"metadata": metadata("web"), "spec": {"containers": [], "schedulingGates": [{"name": "g"}]}}),
    )
    .unwrap();
    assert_eq!(
        bind(&mut gated, &binding, now),
        Err(BindError::Gated("web".into()))
    );
    let mut errors = Errors::new();
    let empty: Binding = serde_json::from_value(json!({"target": {"kind": "Rack"}})).unwrap();
    validate(&empty, &mut errors);
    let texts: Vec<String> = errors.iter().map(ToString::to_string).collect();
    assert_eq!(
        texts,
        [
            "target.kind: Unsupported value: \"Rack\": supported values: \"Node\", \"<empty>\"",
            "target.name: Required value",
        ]
    );
}

#[test]
fn certificates_and_keys_that_do_not_belong_together_are_warned_of() {
    let kind = strategy("Secret");
    let warnings = |type_: &str, data: Value| {
        let secret = json!({"metadata": metadata("a"), "type": type_, "stringData": data});
        kind.warnings(defaulted("Secret", secret).as_ref(), None)
    };
    assert_eq!(
        warnings("kubernetes.io/tls", json!({"tls.crt": "a", "tls.key": "b"})),
        ["tls: failed to find any PEM data in certificate input"]
    );
    assert_eq!(
        warnings("Opaque", json!({"tls.crt": "a", "tls.key": "b"})),
        [""; 0]
    );
    let pair = json!({
        "tls.crt": include_str!("../src/certificates/pairs/rsa.crt"),
        "tls.key": include_str!("../src/certificates/pairs/rsa.key"),
    });
    assert_eq!(warnings("kubernetes.io/tls", pair), [""; 0]);
}
