//! The rules of the core group's other kinds, as upstream words and orders them.

mod support;

use serde_json::{Value, json};
use skiff_api::kind::{Subresource, Target};

use support::{create_errors, created, defaulted, json_of, metadata, over, strategy, update};

fn spec_of(spec: Value) -> Value {
    json!({"metadata": metadata("x"), "spec": spec})
}

fn cluster_wide(spec: Value) -> Value {
    json!({"metadata": {"name": "x"}, "spec": spec})
}

fn check(kind: &str, cases: Vec<(Value, Vec<&str>)>) {
    for (value, expected) in cases {
        assert_eq!(create_errors(kind, value.clone()), expected, "{value}");
    }
}

#[test]
fn a_service_lets_in_whom_it_says() {
    let service = |spec: Value| {
        let base = json!({"ports": [{"port": 80}], "clusterIP": "10.0.0.1", "clusterIPs": ["10.0.0.1"]});
        spec_of(over(base, spec))
    };
    let ranges = "service.beta.kubernetes.io/load-balancer-source-ranges";
    let annotated = |key: &str, value: &str, spec: Value| {
        over(service(spec), json!({"metadata": {"annotations": {key: value}}}))
    };
    let balanced = json!({"type": "LoadBalancer"});
    check(
        "Service",
        vec![
            (
                service(
                    json!({"type": "LoadBalancer", "loadBalancerSourceRanges": [" 10.0.0.0/8 ", "10.0.0.1/8", "x"]}),
                ),
                vec![
                    "spec.LoadBalancerSourceRanges[1]: Invalid value: \"10.0.0.1/8\": must not have bits set beyond \
                     the prefix length",
                    "spec.LoadBalancerSourceRanges[2]: Invalid value: \"x\": must be a valid CIDR value, (e.g. \
                     10.9.8.0/24 or 2001:db8::/64)",
                ],
            ),
            (
                service(json!({"loadBalancerSourceRanges": ["10.0.0.0/8"]})),
                vec![
                    "spec.LoadBalancerSourceRanges: Forbidden: may only be used when `type` is 'LoadBalancer'",
                ],
            ),
            (
                annotated(ranges, "10.0.0.0/8, 10.1.0.0/16", balanced.clone()),
                vec![],
            ),
            (
                annotated(ranges, "10.0.0.0/8,x", balanced),
                vec![
                    "metadata.annotations[service.beta.kubernetes.io/load-balancer-source-ranges]: Invalid value: \
                     \"x\": must be a valid CIDR value, (e.g. 10.9.8.0/24 or 2001:db8::/64)",
                ],
            ),
            (
                annotated(ranges, "10.0.0.0/8", json!({})),
                vec![
                    "metadata.annotations[service.beta.kubernetes.io/load-balancer-source-ranges]: Forbidden: may only \
                     be used when `type` is 'LoadBalancer'",
                ],
            ),
            (
                over(
                    service(json!({})),
                    json!({"metadata": {"annotations": {
                        "service.kubernetes.io/topology-mode": "auto", "service.kubernetes.io/topology-aware-hints": "off",
                    }}}),
                ),
                vec![
                    "metadata.annotations[service.kubernetes.io/topology-mode]: Invalid value: \"auto\": must match \
                     annotations[service.kubernetes.io/topology-aware-hints] when both are specified",
                ],
            ),
            (
                service(json!({"externalIPs": ["1.2.3.4", "127.0.0.1", "01.2.3.4"]})),
                vec![
                    "spec.externalIPs[1]: Invalid value: \"127.0.0.1\": may not be in the loopback range \
                     (127.0.0.0/8, ::1/128)",
                    "spec.externalIPs[2]: Invalid value: \"01.2.3.4\": must not have leading 0s",
                ],
            ),
            (
                service(json!({"ports": [
                    {"name": "a", "port": 80, "nodePort": 30000},
                    {"name": "b", "port": 80, "nodePort": 30000},
                ]})),
                vec![
                    "spec.ports[0].nodePort: Forbidden: may not be used when `type` is 'ClusterIP'",
                    "spec.ports[1].nodePort: Forbidden: may not be used when `type` is 'ClusterIP'",
                    "spec.ports[1].nodePort: Duplicate value: 30000",
                    "spec.ports[1]: Duplicate value: {\"Name\":\"\",\"Protocol\":\"TCP\",\"AppProtocol\":null,\
                     \"Port\":80,\"TargetPort\":0,\"NodePort\":0}",
                ],
            ),
        ],
    );
    let old = service(json!({"externalIPs": ["01.2.3.4"]}));
    let (_, errors) = update("Service", old.clone(), old.clone(), Target::Main);
    assert_eq!(errors, Vec::<String>::new(), "what was allowed once may be kept");
    let new = service(json!({"externalIPs": ["01.2.3.4", "02.2.3.4"]}));
    let (_, errors) = update("Service", old, new, Target::Main);
    assert_eq!(
        errors,
        ["spec.externalIPs[1]: Invalid value: \"02.2.3.4\": must not have leading 0s"]
    );
}

#[test]
fn each_source_of_a_volume_has_what_it_needs() {
    let volume = |source: Value| {
        let base = json!({"capacity": {"storage": "1Gi"}, "accessModes": ["ReadWriteOnce"]});
        cluster_wide(over(base, source))
    };
    let secret = json!({"name": "", "namespace": "A"});
    check(
        "PersistentVolume",
        vec![
            (
                volume(json!({"csi": {"driver": "d", "volumeHandle": "h", "nodePublishSecretRef": secret}})),
                vec![
                    "spec.csi.nodePublishSecretRef.name: Required value",
                    "spec.csi.nodePublishSecretRef.namespace: Invalid value: \"A\": a lowercase RFC 1123 label must \
                     consist of lower case alphanumeric characters or '-', and must start and end with an alphanumeric \
                     character (e.g. 'my-name',  or '123-abc', regex used for validation is \
                     '[a-z0-9]([-a-z0-9]*[a-z0-9])?')",
                ],
            ),
            (
                volume(json!({"iscsi": {"targetPortal": "p".repeat(64), "iqn": "x", "lun": 0, "initiatorName": "y", "secretRef": {}}})),
                vec![
                    &*Box::leak(
                        format!(
                            "spec.iscsi.targetportal: Invalid value: \"{}\": Total length of <volume \
                             name>:<iscsi.targetPortal> must be under 64 characters if iscsi.initiatorName is specified.",
                            "p".repeat(64)
                        )
                        .into_boxed_str(),
                    ),
                    "spec.iscsi.iqn: Invalid value: \"x\": must be valid format",
                    "spec.iscsi.secretRef.name: Required value",
                    "spec.iscsi.initiatorname: Invalid value: \"y\": must be valid format",
                ],
            ),
            (
                volume(json!({"glusterfs": {"endpoints": "", "path": "p", "endpointsNamespace": ""}})),
                vec![
                    "spec.glusterfs.endpoints: Required value",
                    "spec.glusterfs.endpointsNamespace: Invalid value: \"\": if the endpointnamespace is set, it must \
                     be a valid namespace name",
                ],
            ),
            (
                volume(json!({"azureFile": {"secretName": "", "shareName": "s", "secretNamespace": ""}})),
                vec![
                    "spec.azureFile.secretName: Required value",
                    "spec.azureFile.secretNamespace: Required value",
                ],
            ),
            (
                volume(json!({"gcePersistentDisk": {"pdName": ""}, "cephfs": {"monitors": []}})),
                vec![
                    "spec.persistentDisk.pdName: Required value",
                    "spec.cephFS: Forbidden: may not specify more than 1 volume type",
                ],
            ),
            (
                volume(json!({"hostPath": {"path": "/", "type": "Pipe"}, "volumeAttributesClassName": "gold", "persistentVolumeReclaimPolicy": "Recycle"})),
                vec![
                    "spec.hostPath.type: Unsupported value: \"Pipe\": supported values: \"\", \"BlockDevice\", \
                     \"CharDevice\", \"Directory\", \"DirectoryOrCreate\", \"File\", \"FileOrCreate\", \"Socket\"",
                    "spec.persistentVolumeReclaimPolicy: Forbidden: may not be 'recycle' for a hostPath mount of '/'",
                    "spec.csi: Required value: has to be specified when using volumeAttributesClassName",
                ],
            ),
        ],
    );
    let csi = |patch: Value| volume(json!({"csi": over(json!({"driver": "d", "volumeHandle": "h"}), patch)}));
    let secret = json!({"name": "s", "namespace": "n"});
    let place = |key: &str| json!({"nodeAffinity": {"required": {"nodeSelectorTerms": [{"matchExpressions": [{"key": key, "operator": "Exists"}]}]}}});
    let placed = |key: &str| over(csi(json!({})), json!({"spec": place(key)}));
    let immutable = "field is immutable";
    for (old, new, expected) in [
        (
            csi(json!({})),
            csi(json!({"controllerExpandSecretRef": secret})),
            vec![],
        ),
        (csi(json!({})), placed("a"), vec![]),
        (
            placed("failure-domain.beta.kubernetes.io/zone"),
            placed("topology.kubernetes.io/zone"),
            vec![],
        ),
        (
            over(
                csi(json!({})),
                json!({"spec": {"volumeAttributesClassName": "a"}}),
            ),
            over(csi(json!({})), json!({"spec": {"volumeMode": "Block"}})),
            vec![
                format!("volumeMode: Invalid value: \"Block\": {immutable}"),
                "spec.volumeAttributesClassName: Forbidden: update from non-nil value to nil is forbidden"
                    .into(),
            ],
        ),
    ] {
        let (_, errors) = update("PersistentVolume", old, new.clone(), Target::Main);
        assert_eq!(errors, expected, "{new}");
    }
    let (_, errors) = update("PersistentVolume", placed("a"), placed("b"), Target::Main);
    assert!(
        errors[0].starts_with("nodeAffinity: Invalid value: ")
            && errors[0].ends_with(": field is immutable, except for updating from beta label to GA"),
        "{errors:?}"
    );
    let warned = over(
        volume(json!({"rbd": {"monitors": ["m"], "image": "i"}, "persistentVolumeReclaimPolicy": "Recycle"})),
        json!({"metadata": {"annotations": {"volume.beta.kubernetes.io/mount-options": "x"}}}),
    );
    assert_eq!(
        strategy("PersistentVolume").warnings(defaulted("PersistentVolume", warned).as_ref(), None),
        [
            "metadata.annotations[volume.beta.kubernetes.io/mount-options]: deprecated since v1.31; use \
             \"mountOptions\" attribute instead",
            "spec.persistentVolumeReclaimPolicy: The Recycle reclaim policy is deprecated. Instead, the recommended \
             approach is to use dynamic provisioning.",
            "spec.rbd: deprecated in v1.28, non-functional in v1.31+",
        ]
    );
}

#[test]
fn a_claim_changes_in_few_ways() {
    let claim = |spec: Value, rest: Value| {
        let base = json!({"accessModes": ["ReadWriteOnce"], "resources": {"requests": {"storage": "2Gi"}}});
        over(spec_of(over(base, spec)), rest)
    };
    let plain = || claim(json!({}), json!({}));
    let annotated = |class: &str, spec: Value| {
        claim(
            spec,
            json!({"metadata": {"annotations": {"volume.beta.kubernetes.io/storage-class": class}}}),
        )
    };
    let bound = |spec: Value| {
        claim(
            over(json!({"volumeName": "v"}), spec),
            json!({"status": {"phase": "Bound", "capacity": {"storage": "1Gi"}}}),
        )
    };
    let sized = |size: &str| bound(json!({"resources": {"requests": {"storage": size}}}));
    let head = "spec: Forbidden: spec is immutable after creation except resources.requests and \
                volumeAttributesClassName for bound claims\n";
    let cases = [
        (plain(), claim(json!({"volumeName": "v"}), json!({})), vec![]),
        (plain(), claim(json!({"storageClassName": "gold"}), json!({})), vec![]),
        (
            annotated("gold", json!({})),
            claim(json!({"storageClassName": "gold"}), json!({})),
            vec![],
        ),
        (
            annotated("gold", json!({})),
            annotated("tin", json!({})),
            vec![
                "metadata.annotations.volume.beta.kubernetes.io/storage-class: Invalid value: \"tin\": field is \
                 immutable"
                    .to_string(),
            ],
        ),
        (sized("2Gi"), sized("3Gi"), vec![]),
        (sized("4Gi"), sized("2Gi"), vec![]),
        (
            sized("4Gi"),
            sized("1Gi"),
            vec!["spec.resources.requests.storage: Forbidden: field can not be less than status.capacity".into()],
        ),
        (
            bound(json!({"volumeAttributesClassName": "a"})),
            bound(json!({"volumeAttributesClassName": "b"})),
            vec![],
        ),
        (
            bound(json!({"volumeAttributesClassName": "a"})),
            bound(json!({})),
            vec![
                format!(
                    "{head}@@ -14,5 +14,5 @@\n  \"VolumeMode\": \"Filesystem\",\n  \"DataSource\": null,\n  \
                     \"DataSourceRef\": null,\n- \"VolumeAttributesClassName\": \"a\"\n+ \
                     \"VolumeAttributesClassName\": null\n }}\n"
                ),
                "spec.volumeAttributesClassName: Forbidden: update from non-nil value to nil is forbidden".into(),
            ],
        ),
        (
            plain(),
            claim(json!({"resources": {"requests": {"storage": "3Gi"}}}), json!({})),
            vec![format!(
                "{head}@@ -6,7 +6,7 @@\n  \"Resources\": {{\n   \"Limits\": null,\n   \"Requests\": {{\n-   \
                 \"storage\": \"2Gi\"\n+   \"storage\": \"3Gi\"\n   }}\n  }},\n  \"VolumeName\": \"\",\n"
            )],
        ),
    ];
    for (old, new, expected) in cases {
        let (_, errors) = update("PersistentVolumeClaim", old, new.clone(), Target::Main);
        assert_eq!(errors, expected, "{new}");
    }
    let status = |status: Value| over(plain(), json!({"status": status}));
    let (_, errors) = update(
        "PersistentVolumeClaim",
        plain(),
        status(json!({
            "capacity": {"storage": "-1"},
            "allocatedResources": {"cpu": "1", "storage": "1Gi"},
            "allocatedResourceStatuses": {"storage": "Growing"},
        })),
        Target::Subresource(Subresource::Status),
    );
    assert_eq!(
        errors,
        [
            "status.capacity[storage]: Invalid value: -1: must be a valid resource quantity",
            "status.allocatedResourceStatus: Unsupported value: \"storage\": supported values: \
             \"ControllerResizeInProgress\", \"ControllerResizeInfeasible\", \"NodeResizeInProgress\", \
             \"NodeResizeInfeasible\", \"NodeResizePending\"",
            "status.allocatedResources: Unsupported value: \"cpu\": supported values: \"storage\"",
        ]
    );
    let from = |source: Value| claim(json!({"dataSource": source}), json!({}));
    let foreign = json!({"apiGroup": "example.com", "kind": "Thing", "name": "t"});
    let object = json_of(created("PersistentVolumeClaim", from(foreign)).as_ref());
    assert_eq!(
        object["spec"]["dataSource"],
        Value::Null,
        "the older field takes claims and snapshots only"
    );
}

#[test]
fn limits_and_quotas_are_in_order() {
    let limit = |patch: Value| spec_of(json!({"limits": [over(json!({"type": "Container"}), patch)]}));
    check(
        "LimitRange",
        vec![
            (
                limit(
                    json!({"min": {"cpu": "3"}, "max": {"cpu": "2"}, "default": {"cpu": "4"}, "defaultRequest": {"cpu": "1"}}),
                ),
                vec![
                    "spec.limits[0].min[cpu]: Invalid value: \"3\": min value 3 is greater than max value 2",
                    "spec.limits[0].defaultRequest[cpu]: Invalid value: \"1\": min value 3 is greater than default \
                     request value 1",
                    "spec.limits[0].default[cpu]: Invalid value: \"2\": default value 4 is greater than max value 2",
                ],
            ),
            (
                limit(
                    json!({"min": {"cpu": "2"}, "max": {"cpu": "3"}, "maxLimitRequestRatio": {"cpu": "2"}}),
                ),
                vec![
                    "spec.limits[0].maxLimitRequestRatio[cpu]: Invalid value: \"2\": ratio 2 is greater than max/min = \
                     1.500000",
                ],
            ),
            (
                limit(
                    json!({"default": {"example.com/gpu": "2"}, "defaultRequest": {"example.com/gpu": "1"}}),
                ),
                vec![
                    "spec.limits[0].defaultRequest[example.com/gpu]: Invalid value: \"1\": default value 2 must equal \
                     to defaultRequest value 1 in example.com/gpu",
                ],
            ),
        ],
    );
    let selecting = |expressions: Value| json!({"hard": {"pods": "1", "services": "1"}, "scopeSelector": {"matchExpressions": expressions}});
    check(
        "ResourceQuota",
        vec![
            (
                spec_of(json!({"hard": {"count/x.y": "1500m", "requests.foo": "1"}})),
                vec![
                    "spec.hard[count/x.y]: Invalid value: \"1500m\": must be an integer",
                    "spec.hard[requests.foo]: Invalid value: \"requests.foo\": must be a standard resource type or \
                     fully qualified",
                    "spec.hard[requests.foo]: Invalid value: \"requests.foo\": must be a standard resource for quota",
                ],
            ),
            (
                spec_of(selecting(json!([{"scopeName": "Terminating", "operator": "In"}]))),
                vec![
                    "spec.scopeSelector.matchExpressions: Invalid value: {\"MatchExpressions\":[{\"ScopeName\":\
                     \"Terminating\",\"Operator\":\"In\",\"Values\":null}]}: unsupported scope applied to resource",
                    "spec.scopeSelector.matchExpressions.operator: Invalid value: \"In\": must be 'Exists' when scope \
                     is any of ResourceQuotaScopeTerminating, ResourceQuotaScopeNotTerminating, \
                     ResourceQuotaScopeBestEffort, ResourceQuotaScopeNotBestEffort or \
                     ResourceQuotaScopeCrossNamespacePodAffinity",
                    "spec.scopeSelector.matchExpressions.values: Required value: must be at least one value when \
                     `operator` is 'In' or 'NotIn' for scope selector",
                ],
            ),
            (
                spec_of(
                    json!({"scopeSelector": {"matchExpressions": [{"scopeName": "Odd", "operator": "Is"}]}}),
                ),
                vec![
                    "spec.scopeSelector.matchExpressions.scopeName: Invalid value: \"Odd\": unsupported scope",
                    "spec.scopeSelector.matchExpressions.operator: Invalid value: \"Is\": not a valid selector operator",
                ],
            ),
        ],
    );
}

#[test]
fn nodes_say_one_thing_in_both_fields() {
    let node =
        |spec: Value, status: Value| json!({"metadata": {"name": "n"}, "spec": spec, "status": status});
    for (given, ranges) in [
        (json!({"podCIDR": "10.0.0.0/24"}), json!(["10.0.0.0/24"])),
        (json!({"podCIDRs": ["10.0.0.0/24"]}), json!(["10.0.0.0/24"])),
        (
            json!({"podCIDR": "10.0.0.0/24", "podCIDRs": ["10.0.1.0/24"]}),
            json!(["10.0.0.0/24"]),
        ),
    ] {
        let object = json_of(defaulted("Node", node(given.clone(), json!({}))).as_ref());
        assert_eq!(object["spec"]["podCIDR"], "10.0.0.0/24", "{given}");
        assert_eq!(object["spec"]["podCIDRs"], ranges, "{given}");
    }
    check(
        "Node",
        vec![
            (
                node(json!({"podCIDRs": ["10.0.0.0/24", "10.0.1.0/24"]}), json!({})),
                vec![
                    "spec.podCIDRs: Invalid value: [\"10.0.0.0/24\",\"10.0.1.0/24\"]: may specify no more than one \
                     CIDR for each IP family",
                ],
            ),
            (
                node(
                    json!({}),
                    json!({"capacity": {"pods": "1500m"}, "declaredFeatures": ["B", "A", "A", "b"]}),
                ),
                vec![
                    "status.capacity.pods: Invalid value: \"1500m\": must be an integer",
                    "status.allocatable.pods: Invalid value: \"1500m\": must be an integer",
                    "status.declaredFeatures[1]: Invalid value: \"A\": list must be sorted alphabetically",
                    "status.declaredFeatures[2]: Duplicate value: \"A\"",
                    "status.declaredFeatures[3]: Invalid value: \"b\": invalid feature name \"b\": must start with an \
                     UpperCamelCase segment, with subsequent segments separated by '/' (e.g., MyFeature or \
                     MyFeature/mySubFeature), and contain only alphanumeric characters and slashes",
                ],
            ),
        ],
    );
    let address = json!({"type": "InternalIP", "address": "1.1.1.1"});
    let (_, errors) = update(
        "Node",
        node(json!({}), json!({})),
        node(
            json!({}),
            json!({"addresses": [address, address], "capacity": {"cpu": "-1"}}),
        ),
        Target::Subresource(Subresource::Status),
    );
    assert_eq!(
        errors,
        [
            "status.capacity.cpu: Invalid value: \"-1\": must be greater than or equal to 0",
            "status.allocatable.cpu: Invalid value: \"-1\": must be greater than or equal to 0",
            "status.addresses[1]: Duplicate value: {\"Type\":\"InternalIP\",\"Address\":\"1.1.1.1\"}",
        ]
    );
    let (_, errors) = update(
        "Node",
        node(json!({"externalID": "a", "podCIDRs": ["10.0.0.0/24"]}), json!({})),
        node(json!({"podCIDRs": ["10.0.1.0/24"]}), json!({})),
        Target::Main,
    );
    assert_eq!(
        errors,
        [
            "spec.podCIDRs: Forbidden: node updates may not change podCIDR except from \"\" to valid",
            "spec.externalID: Forbidden: may not be updated",
        ]
    );
}

#[test]
fn small_kinds_have_their_rules_too() {
    let secret = |text: &str| {
        use base64::Engine;
        let data = base64::engine::general_purpose::STANDARD.encode(text);
        json!({"metadata": metadata("x"), "type": "kubernetes.io/dockerconfigjson", "data": {".dockerconfigjson": data}})
    };
    let redacted = "data[.dockerconfigjson]: Invalid value: \"<secret contents redacted>\": ";
    for (text, wrong) in [
        ("{}", None),
        ("", Some("unexpected end of JSON input")),
        ("{\"a\":", Some("unexpected end of JSON input")),
        (
            "nope",
            Some("invalid character 'o' looking for beginning of value"),
        ),
        (
            "[]",
            Some("json: cannot unmarshal array into Go value of type map[string]interface {}"),
        ),
    ] {
        let found = create_errors("Secret", secret(text));
        if text == "nope" {
            assert_eq!(found.len(), 1, "{text}");
            continue;
        }
        let expected: Vec<String> = wrong.iter().map(|wrong| format!("{redacted}{wrong}")).collect();
        assert_eq!(found, expected, "{text}");
    }
    let account = json!({
        "metadata": over(metadata("x"), json!({"annotations": {"kubernetes.io/enforce-mountable-secrets": "true"}})),
        "secrets": [{"name": "s", "namespace": "n", "uid": "u"}],
    });
    let object = created("ServiceAccount", account);
    assert_eq!(json_of(object.as_ref())["secrets"], json!([{"name": "s"}]));
    assert_eq!(
        strategy("ServiceAccount").warnings(object.as_ref(), None),
        [
            "metadata.annotations[kubernetes.io/enforce-mountable-secrets]: deprecated in v1.32+; prefer separate \
             namespaces to isolate access to mounted secrets"
        ]
    );
    assert!(
        strategy("ServiceAccount")
            .warnings(object.as_ref(), Some(object.as_ref()))
            .is_empty()
    );
    let standard = "name is neither a standard finalizer name nor is it fully qualified";
    let held = cluster_wide(json!({"finalizers": ["mine"]}));
    assert_eq!(
        create_errors("Namespace", held.clone()),
        [format!("spec.finalizers: Invalid value: \"mine\": {standard}")]
    );
    let (_, errors) = update(
        "Namespace",
        cluster_wide(json!({})),
        held,
        Target::Subresource(Subresource::Finalize),
    );
    assert_eq!(
        errors,
        [format!("spec.finalizers[0]: Invalid value: \"mine\": {standard}")]
    );
    let named =
        |finalizer: &str| json!({"metadata": over(metadata("x"), json!({"finalizers": [finalizer]}))});
    let (_, errors) = update("ConfigMap", named("a/b"), named("mine"), Target::Main);
    assert_eq!(
        errors,
        [format!(
            "metadata.finalizers[0]: Invalid value: \"mine\": {standard}"
        )]
    );
    let endpoints = |ip: &str| json!({"metadata": metadata("x"), "subsets": [{"addresses": [{"ip": ip}]}]});
    check(
        "Endpoints",
        vec![
            (
                endpoints("x"),
                vec![
                    "subsets[0].addresses[0].ip: Invalid value: \"x\": must be a valid IP address, (e.g. 10.9.8.7 or \
                     2001:db8::ffff)",
                    "subsets[0].addresses[0].ip: Invalid value: \"x\": must be a valid IP address",
                ],
            ),
            (
                endpoints("01.2.3.4"),
                vec!["subsets[0].addresses[0].ip: Invalid value: \"01.2.3.4\": must not have leading 0s"],
            ),
        ],
    );
    let (_, errors) = update(
        "Endpoints",
        endpoints("01.2.3.4"),
        endpoints("01.2.3.4"),
        Target::Main,
    );
    assert_eq!(errors, Vec::<String>::new());
    for (given, shown) in [
        (
            json!({"podIP": "1.1.1.1"}),
            json!(["1.1.1.1", [{"ip": "1.1.1.1"}]]),
        ),
        (
            json!({"podIPs": [{"ip": "1.1.1.1"}]}),
            json!(["1.1.1.1", [{"ip": "1.1.1.1"}]]),
        ),
        (
            json!({"podIP": "1.1.1.2", "podIPs": [{"ip": "1.1.1.1"}]}),
            json!(["1.1.1.2", [{"ip": "1.1.1.2"}]]),
        ),
    ] {
        let pod = json!({"metadata": metadata("x"), "status": given});
        let object = json_of(defaulted("Pod", pod).as_ref());
        assert_eq!(
            json!([object["status"]["podIP"], object["status"]["podIPs"]]),
            shown,
            "{given}"
        );
    }
}
