//! What may change of a pod through each of its subresources, and what its writer is warned of.

mod support;

use serde_json::{Value, json};
use skiff_api::kind::{Subresource, Target};

use support::{defaulted, metadata, over, update};

fn pod(spec: Value) -> Value {
    let spec = over(json!({"containers": [{"name": "a", "image": "nginx:1"}]}), spec);
    json!({"metadata": metadata("web"), "spec": spec})
}

#[test]
fn the_status_is_changed_only_through_its_own_path() {
    let old = over(
        pod(json!({"restartPolicy": "Never"})),
        json!({
            "metadata": {"generation": 3},
            "status": {
                "phase": "Running",
                "qosClass": "BestEffort",
                "containerStatuses": [{"name": "a", "state": {"terminated": {"exitCode": 0}}}],
            },
        }),
    );
    let status = |patch: Value| over(old.clone(), json!({"status": patch}));
    let (object, errors) = update(
        "Pod",
        old.clone(),
        status(json!({"phase": "Failed"})),
        Target::Main,
    );
    assert_eq!(
        (object["status"]["phase"].as_str(), errors.len()),
        (Some("Running"), 0)
    );

    let through = Target::Subresource(Subresource::Status);
    let new = over(
        status(json!({"phase": "Succeeded", "qosClass": ""})),
        json!({"spec": {"nodeName": "n"}}),
    );
    let (object, errors) = update("Pod", old.clone(), new, through);
    assert_eq!(errors, Vec::<String>::new());
    assert_eq!(object["status"]["phase"], "Succeeded");
    assert_eq!(
        object["status"]["qosClass"], "BestEffort",
        "kept where it is left out"
    );
    assert_eq!(object["spec"]["nodeName"], Value::Null);
    assert_eq!(object["metadata"]["generation"], 3);

    let revived = status(
        json!({"containerStatuses": [{"name": "a", "state": {"running": {}}}], "podIPs": [{"ip": "x"}]}),
    );
    let (_, errors) = update("Pod", old, revived, through);
    assert_eq!(
        errors,
        [
            "status.containerStatuses[0].state: Forbidden: may not be transitioned to non-terminated state",
            "status.podIPs[0]: Invalid value: \"x\": must be a valid IP address, (e.g. 10.9.8.7 or 2001:db8::ffff)",
        ]
    );
}

#[test]
fn a_status_is_a_true_one() {
    let old = over(
        pod(json!({
            "nodeName": "n",
            "restartPolicy": "OnFailure",
            "resourceClaims": [{"name": "gpu", "resourceClaimTemplateName": "t"}],
            "containers": [
                {"name": "a", "image": "x", "resources": {"requests": {"example.com/gpu": "1"}, "limits": {"example.com/gpu": "1"}}},
                {"name": "b", "image": "x", "restartPolicy": "Never", "restartPolicyRules": [
                    {"action": "Restart", "exitCodes": {"operator": "In", "values": [42]}},
                ]},
            ],
        })),
        json!({"status": {"phase": "Running", "qosClass": "BestEffort", "podIPs": [{"ip": "010.0.0.1"}]}}),
    );
    let ended = |name: &str, code: i32| json!({"name": name, "state": {"terminated": {"exitCode": code}}});
    let running = |name: &str| json!({"name": name, "state": {"running": {}}});
    // What was, what is said now, and what is wrong with that.
    let cases = [
        (json!({}), json!({"podIPs": [{"ip": "010.0.0.1"}]}), vec![]),
        (
            json!({}),
            json!({"podIPs": [{"ip": "10.0.0.1"}, {"ip": "10.0.0.2"}]}),
            vec![
                "status.podIPs: Invalid value: [{\"IP\":\"10.0.0.1\"},{\"IP\":\"10.0.0.2\"}]: may specify no more than \
                 one IP for each IP family",
            ],
        ),
        (
            json!({}),
            json!({"hostIP": "1.1.1.1", "hostIPs": [{"ip": "1.1.1.2"}, {"ip": "::1"}]}),
            vec!["status.hostIPs[0].ip: Invalid value: \"1.1.1.2\": must be equal to `hostIP`"],
        ),
        (
            json!({}),
            json!({"conditions": [{"type": "a b", "status": "True", "observedGeneration": -1}], "observedGeneration": -2}),
            vec![
                "status.conditions[0].observedGeneration: Invalid value: -1: must be a non-negative integer",
                "status.conditions[0].Type: Invalid value: \"a b\": name part must consist of alphanumeric characters, \
                 '-', '_' or '.', and must start and end with an alphanumeric character (e.g. 'MyName',  or 'my.name',  \
                 or '123-abc', regex used for validation is '([A-Za-z0-9][-A-Za-z0-9_.]*)?[A-Za-z0-9]')",
                "status.observedGeneration: Invalid value: -2: must be a non-negative integer",
            ],
        ),
        (
            json!({}),
            json!({"nominatedNodeName": "m"}),
            vec![
                "status.nominatedNodeName: Forbidden: may not be set on pods that are already bound to a node",
            ],
        ),
        (
            json!({}),
            json!({"qosClass": "Guaranteed"}),
            vec!["status.qosClass: Invalid value: \"Guaranteed\": field is immutable"],
        ),
        (
            json!({"containerStatuses": [ended("a", 1), ended("b", 42)]}),
            json!({"containerStatuses": [running("a"), running("b")]}),
            vec![],
        ),
        (
            json!({"containerStatuses": [ended("a", 0), ended("b", 1)]}),
            json!({"containerStatuses": [running("a"), running("b")]}),
            vec![
                "status.containerStatuses[0].state: Forbidden: may not be transitioned to non-terminated state",
                "status.containerStatuses[1].state: Forbidden: may not be transitioned to non-terminated state",
            ],
        ),
        (
            json!({}),
            json!({"resourceClaimStatuses": [{"name": "gpu", "resourceClaimName": "c"}, {"name": "net"}, {"name": "net"}]}),
            vec![
                "status.resourceClaimStatuses[1].name: Invalid value: \"net\": must match the name of an entry in \
                 `spec.resourceClaims`",
                "status.resourceClaimStatuses[2].name: Invalid value: \"net\": must match the name of an entry in \
                 `spec.resourceClaims`",
                "status.resourceClaimStatuses[2].name: Duplicate value: \"net\"",
            ],
        ),
        (
            json!({}),
            json!({"extendedResourceClaimStatus": {"requestMappings": [
                {"containerName": "a", "resourceName": "example.com/gpu", "requestName": "r"},
                {"containerName": "z", "resourceName": "y", "requestName": "r"},
            ], "resourceClaimName": ""}}),
            vec![
                "status.extendedResourceClaimStatus.requestMappings[1].containerName: Invalid value: \"z\": must match \
                 the name of an entry in spec.initContainers.name or spec.containers.name",
                "status.extendedResourceClaimStatus.resourceClaimName: Required value",
            ],
        ),
        (
            json!({}),
            json!({"containerStatuses": [{"name": "a", "user": {"linux": {"uid": -1, "gid": 0}}, "allocatedResourcesStatus": [
                {"name": "example.com/gpu", "resources": [
                    {"resourceID": "0", "health": "Healthy"}, {"resourceID": "0", "health": "Ill"},
                ]},
                {"name": "claim:gpu"},
            ]}], "ephemeralContainerStatuses": [{"name": "e", "allocatedResourcesStatus": [{"name": "x"}]}]}),
            vec![
                "status.containerStatuses[0].user.linux.uid: Invalid value: -1: must be between 0 and 4294967295, \
                 inclusive",
                "status.containerStatuses[0].allocatedResourcesStatus[0].resources[1].health: Unsupported value: \
                 \"Ill\": supported values: \"Healthy\", \"Unhealthy\", \"Unknown\"",
                "status.containerStatuses[0].allocatedResourcesStatus[0].resources[1].resourceID: Duplicate value: \
                 \"0\"",
                "status.containerStatuses[0].allocatedResourcesStatus[1].name: Invalid value: \"claim:gpu\": must match \
                 one of the container's resource claims in a format 'claim:<claimName>/<request>' or \
                 'claim:<claimName>' if request is empty",
                "status.ephemeralContainerStatuses[0].allocatedResourcesStatus: Forbidden: must not be specified in \
                 container status",
            ],
        ),
    ];
    for (before, now, expected) in cases {
        let old = over(old.clone(), json!({"status": before}));
        let new = over(old.clone(), json!({"status": now}));
        let (_, errors) = update("Pod", old, new, Target::Subresource(Subresource::Status));
        assert_eq!(errors, expected, "{now}");
    }
}

#[test]
fn conditions_keep_the_generation_that_they_are_of() {
    let status = |conditions: Value| {
        over(
            pod(json!({})),
            json!({"status": {"observedGeneration": 5, "conditions": conditions}}),
        )
    };
    let old = status(json!([
        {"type": "a", "status": "True", "observedGeneration": 2},
        {"type": "a", "status": "True", "observedGeneration": 3},
    ]));
    let new = over(
        status(
            json!([{"type": "a", "status": "True"}, {"type": "b", "status": "True"}, {"type": "a", "status": "True"}]),
        ),
        json!({"status": {"observedGeneration": 0}}),
    );
    let (object, errors) = update("Pod", old, new, Target::Subresource(Subresource::Status));
    assert_eq!(errors, Vec::<String>::new());
    let found: Vec<&Value> = object["status"]["conditions"]
        .as_array()
        .unwrap()
        .iter()
        .map(|condition| &condition["observedGeneration"])
        .collect();
    assert_eq!(found, [&json!(2), &Value::Null, &json!(3)]);
    assert_eq!(object["status"]["observedGeneration"], 5);
}

#[test]
fn annotations_that_stand_for_fields_stay_as_they_are() {
    let mirror = "kubernetes.io/config.mirror";
    let armor = "container.apparmor.security.beta.kubernetes.io/a";
    let with = |annotations: Value| {
        over(
            pod(json!({"nodeName": "n"})),
            json!({"metadata": {"annotations": annotations}}),
        )
    };
    let cases = [
        (json!({"x": "1"}), json!({"x": "2"}), vec![]),
        (
            json!({mirror: "1", armor: "unconfined"}),
            json!({mirror: "2"}),
            vec![
                "metadata.annotations[container.apparmor.security.beta.kubernetes.io/a]: Forbidden: may not remove or \
                 update AppArmor annotations",
                "metadata.annotations[kubernetes.io/config.mirror]: Forbidden: may not remove or update mirror pod \
                 annotation",
            ],
        ),
        (
            json!({}),
            json!({mirror: "2", armor: "unconfined"}),
            vec![
                "metadata.annotations[container.apparmor.security.beta.kubernetes.io/a]: Forbidden: may not add \
                 AppArmor annotations",
                "metadata.annotations[kubernetes.io/config.mirror]: Forbidden: may not add mirror pod annotation",
            ],
        ),
    ];
    for (old, new, expected) in cases {
        let (_, errors) = update("Pod", with(old), with(new.clone()), Target::Main);
        assert_eq!(errors, expected, "{new}");
    }
}

#[test]
fn a_resize_changes_resources_alone() {
    let through = Target::Subresource(Subresource::Resize);
    let burstable = json!({"requests": {"cpu": "1", "memory": "1Mi"}, "limits": {"memory": "2Mi"}});
    let old = over(
        pod(json!({
            "containers": [{"name": "a", "image": "nginx:1", "resources": burstable}],
            "initContainers": [{"name": "i", "image": "x", "resources": {"requests": {"cpu": "1"}}}],
        })),
        json!({"metadata": {"labels": {"a": "b"}, "generation": 4}, "status": {"qosClass": "Burstable"}}),
    );
    let new = over(
        old.clone(),
        json!({
            "metadata": {"labels": {"a": "c"}},
            "spec": {
                "nodeName": "x",
                "containers": [{"name": "a", "image": "other", "resources": {"requests": {"cpu": "2", "memory": "1Mi"}, "limits": {"memory": "1Mi"}}}],
            },
        }),
    );
    let (object, errors) = update("Pod", old.clone(), new, through);
    assert_eq!(
        errors,
        Vec::<String>::new(),
        "less memory may be asked for as well"
    );
    let container = &object["spec"]["containers"][0];
    assert_eq!(container["resources"]["requests"]["cpu"], "2");
    assert_eq!(container["image"], "nginx:1");
    assert_eq!(object["spec"]["nodeName"], Value::Null);
    assert_eq!(object["metadata"]["labels"]["a"], "b");
    assert_eq!(object["metadata"]["generation"], 5);

    let containers = |resources: Value| json!({"spec": {"containers": [{"name": "a", "image": "nginx:1", "resources": resources}]}});
    let cases = [
        (
            json!({}),
            containers(json!({"requests": {"cpu": "1"}, "limits": {"memory": "2Mi"}})),
            vec![],
        ),
        (
            json!({}),
            containers(json!({"requests": {"memory": "1Mi"}})),
            vec![
                "spec.containers[0].resources.requests: Forbidden: resource requests cannot be removed",
                "spec.containers[0].resources.limits: Forbidden: resource limits cannot be removed",
            ],
        ),
        (
            json!({}),
            containers(
                json!({"requests": {"cpu": "1", "memory": "2Mi"}, "limits": {"cpu": "1", "memory": "2Mi"}}),
            ),
            vec![],
        ),
        (
            json!({}),
            containers(
                json!({"requests": {"cpu": "1", "memory": "1Mi", "ephemeral-storage": "1"}, "limits": {"memory": "2Mi"}}),
            ),
            vec!["spec: Forbidden: only cpu and memory resources are mutable"],
        ),
        (
            json!({}),
            json!({"spec": {"containers": [{"name": "b", "image": "x"}]}}),
            vec!["spec.containers[0].name: Forbidden: containers may not be renamed or reordered on resize"],
        ),
        (
            json!({}),
            json!({"spec": {"initContainers": []}}),
            vec!["spec.initContainers: Forbidden: initContainers may not be added or removed on resize"],
        ),
        (
            json!({}),
            json!({"spec": {"initContainers": [{"name": "i", "image": "x", "resources": {"requests": {"cpu": "2", "hugepages-2Mi": "2Mi"}, "limits": {"hugepages-2Mi": "2Mi"}}}]}}),
            vec![
                "spec.initContainers[0]: Forbidden: only cpu and memory resources for init or sidecar containers are \
                 mutable",
            ],
        ),
        (
            json!({"status": {"containerStatuses": [{"name": "a", "state": {"running": {}}}]}}),
            json!({}),
            vec!["spec: Forbidden: Pod running on node without support for resize"],
        ),
        (
            json!({"spec": {"resources": {"requests": {"cpu": "2", "memory": "2Mi"}}}}),
            json!({"spec": {"resources": {"requests": {"cpu": "3", "memory": "2Mi"}}}}),
            vec![],
        ),
        (
            json!({"spec": {"resources": {"requests": {"cpu": "2", "memory": "2Mi"}}}}),
            json!({"spec": {"resources": null}}),
            vec![
                "spec.resources: Forbidden: pod-level resources cannot be removed",
                "spec: Forbidden: only cpu and memory resources are mutable at pod-level",
            ],
        ),
        (
            json!({"metadata": {"annotations": {"kubernetes.io/config.mirror": "x"}}, "spec": {"nodeName": "n"}}),
            json!({}),
            vec![": Forbidden: static pods cannot be resized"],
        ),
        (
            json!({"spec": {"os": {"name": "windows"}}}),
            json!({}),
            vec![": Forbidden: windows pods cannot be resized"],
        ),
    ];
    for (before, patch, expected) in cases {
        let old = over(old.clone(), before);
        let (_, errors) = update("Pod", old.clone(), over(old, patch.clone()), through);
        assert_eq!(errors, expected, "{patch}");
    }
    let best_effort = pod(json!({}));
    let (_, errors) = update(
        "Pod",
        over(best_effort.clone(), json!({"status": {"qosClass": "BestEffort"}})),
        over(best_effort, containers(json!({"requests": {"cpu": "1"}}))),
        through,
    );
    assert_eq!(
        errors,
        ["spec: Invalid value: \"BestEffort\": Pod QOS Class may not change as a result of resizing"]
    );
}

#[test]
fn ephemeral_containers_are_added_and_never_changed() {
    let with = |names: &[&str], image: &str| {
        let all: Vec<Value> = names
            .iter()
            .map(|name| json!({"name": name, "image": image}))
            .collect();
        pod(json!({"ephemeralContainers": all}))
    };
    let through = Target::Subresource(Subresource::EphemeralContainers);
    let new = over(
        with(&["d", "e"], "busybox:1"),
        json!({"metadata": {"labels": {"a": "b"}}, "spec": {"nodeName": "n"}}),
    );
    let (object, errors) = update("Pod", with(&["d"], "busybox:1"), new, through);
    assert_eq!(errors, Vec::<String>::new());
    assert_eq!(object["spec"]["ephemeralContainers"].as_array().unwrap().len(), 2);
    assert_eq!(object["spec"]["nodeName"], Value::Null);
    assert_eq!(object["metadata"]["labels"], Value::Null);
    assert_eq!(object["metadata"]["generation"], 1);

    let (_, errors) = update("Pod", with(&["d"], "x"), with(&["e"], "x"), through);
    assert_eq!(
        errors,
        ["spec.ephemeralContainers: Forbidden: existing ephemeral containers \"d\" may not be removed\n"]
    );
    let (_, errors) = update("Pod", with(&["d"], "x:1"), with(&["d"], "y:1"), through);
    assert_eq!(
        errors,
        [
            "spec.ephemeralContainers: Forbidden: existing ephemeral containers \"d\" may not be changed\n\
             @@ -1,6 +1,6 @@\n {\n  \"Name\": \"d\",\n- \"Image\": \"x:1\",\n+ \"Image\": \"y:1\",\n  \"Command\": null,\n  \
             \"Args\": null,\n  \"WorkingDir\": \"\",\n"
        ]
    );
    let odd = pod(json!({"ephemeralContainers": [{
        "name": "a", "image": " x", "targetContainerName": "z", "ports": [{"containerPort": 0}], "lifecycle": {},
        "resources": {"requests": {"cpu": "1"}}, "volumeMounts": [{"name": "v", "mountPath": "/v", "subPath": "s"}],
    }], "volumes": [{"name": "v", "emptyDir": {}}]}));
    let (_, errors) = update(
        "Pod",
        pod(json!({"volumes": [{"name": "v", "emptyDir": {}}]})),
        odd,
        through,
    );
    assert_eq!(
        errors,
        [
            "spec.ephemeralContainers[0].ports[0].containerPort: Required value",
            "spec.ephemeralContainers[0].image: Invalid value: \" x\": must not have leading or trailing whitespace",
            "spec.ephemeralContainers[0].name: Duplicate value: \"a\"",
            "spec.ephemeralContainers[0].targetContainerName: Not found: \"z\"",
            "spec.ephemeralContainers[0].ports: Forbidden: cannot be set for an Ephemeral Container",
            "spec.ephemeralContainers[0].resources: Forbidden: cannot be set for an Ephemeral Container",
            "spec.ephemeralContainers[0].lifecycle: Forbidden: cannot be set for an Ephemeral Container",
            "spec.ephemeralContainers[0].volumeMounts[0].subPath: Forbidden: cannot be set for an Ephemeral Container",
        ]
    );
    let from_file =
        json!({"metadata": {"annotations": {"kubernetes.io/config.mirror": "x"}}, "spec": {"nodeName": "n"}});
    let (_, errors) = update(
        "Pod",
        over(pod(json!({})), from_file.clone()),
        over(with(&["d"], "x"), from_file),
        through,
    );
    assert_eq!(
        errors,
        [": Forbidden: static pods do not support ephemeral containers"]
    );
}

#[test]
fn what_is_probably_not_meant_is_warned_of() {
    let value = over(
        pod(json!({
            "terminationGracePeriodSeconds": -1,
            "nodeSelector": {"beta.kubernetes.io/os": "linux"},
            "containers": [{
                "name": "a",
                "image": "nginx:1",
                "env": [
                    {"name": "A", "value": "1"}, {"name": "A", "value": "2"}, {"name": "A", "value": "$(A)3"},
                    {"name": "A", "value": "$(A)"},
                ],
                "ports": [
                    {"containerPort": 80}, {"containerPort": 80}, {"containerPort": 80, "hostPort": 1},
                    {"containerPort": 81, "hostIP": "1.1.1.1", "name": "x"},
                    {"containerPort": 82, "hostPort": 2}, {"containerPort": 82, "hostPort": 2, "hostIP": "1.1.1.1"},
                ],
                "resources": {"requests": {"memory": "500m"}},
            }],
            "affinity": {
                "nodeAffinity": {"preferredDuringSchedulingIgnoredDuringExecution": [{"weight": 1, "preference": {
                    "matchExpressions": [{"key": "beta.kubernetes.io/arch", "operator": "In", "values": ["a b"]}],
                }}]},
                "podAffinity": {"requiredDuringSchedulingIgnoredDuringExecution": [{"topologyKey": "zone"}]},
                "podAntiAffinity": {"preferredDuringSchedulingIgnoredDuringExecution": [
                    {"weight": 1, "podAffinityTerm": {"topologyKey": "zone"}},
                ]},
            },
            "topologySpreadConstraints": [{
                "maxSkew": 1, "topologyKey": "failure-domain.beta.kubernetes.io/zone", "whenUnsatisfiable": "ScheduleAnyway",
            }],
            "volumes": [
                {"name": "g", "gitRepo": {"repository": "r"}},
                {"name": "t", "projected": {"sources": [
                    {"serviceAccountToken": {"path": "p"}},
                    {"configMap": {"name": "m", "items": [{"key": "k", "path": "p"}]}},
                ]}},
            ],
            "imagePullSecrets": [{"name": "s"}, {"name": "s"}, {"name": ""}],
            "hostAliases": [{"ip": "2001:DB8::1"}],
        })),
        json!({"metadata": {"name": "a.b", "annotations": {
            "scheduler.alpha.kubernetes.io/critical-pod": "", "seccomp.security.alpha.kubernetes.io/pod": "runtime/default",
        }}}),
    );
    let warnings = support::strategy("Pod").warnings(defaulted("Pod", value.clone()).as_ref(), None);
    let label = "a valid label must be an empty string or consist of alphanumeric characters, '-', '_' or '.', and must \
                 start and end with an alphanumeric character (e.g. 'MyValue',  or 'my_value',  or '12345', regex used \
                 for validation is '(([A-Za-z0-9][-A-Za-z0-9_.]*)?[A-Za-z0-9])?')";
    assert_eq!(
        warnings,
        [
            "metadata.name: this is used in the Pod's hostname, which can result in surprising behavior; a DNS label is \
             recommended: [must not contain dots]",
            "spec.nodeSelector[beta.kubernetes.io/os]: deprecated since v1.14; use \"kubernetes.io/os\" instead",
            "spec.affinity.nodeAffinity.preferredDuringSchedulingIgnoredDuringExecution[0].preference.\
             matchExpressions[0].key: beta.kubernetes.io/arch is deprecated since v1.14; use \"kubernetes.io/arch\" \
             instead",
            &format!(
                "spec.affinity.nodeAffinity.preferredDuringSchedulingIgnoredDuringExecution[0].preference.\
                 matchExpressions[0].values[0]: a b is invalid, {label}"
            ),
            "spec.topologySpreadConstraints[0].topologyKey: failure-domain.beta.kubernetes.io/zone is deprecated since \
             v1.17; use \"topology.kubernetes.io/zone\" instead",
            "spec.topologySpreadConstraints[0].labelSelector: a null labelSelector results in matching no pod",
            "metadata.annotations[scheduler.alpha.kubernetes.io/critical-pod]: non-functional in v1.16+; use the \
             \"priorityClassName\" field instead",
            "spec.volumes[0].gitRepo: deprecated in v1.11, and disabled by default in v1.33+",
            "spec.volumes[1].projected.sources.configMap[0]: has duplicated path with ServiceAccountToken \"p\"",
            "spec.imagePullSecrets[1].name: duplicate name \"s\"",
            "spec.imagePullSecrets[2].name: invalid empty name \"\"",
            "metadata.annotations[seccomp.security.alpha.kubernetes.io/pod]: non-functional in v1.27+; use the \
             \"seccompProfile\" field instead",
            "spec.containers[0].resources.requests[memory]: fractional byte value \"500m\" is invalid, must be an \
             integer",
            "spec.containers[0].env[1]: hides previous definition of \"A\", which may be dropped when using apply",
            "spec.containers[0].env[3]: hides previous definition of \"A\", which may be dropped when using apply",
            "spec.containers[0].ports[1]: duplicate port definition with spec.containers[0].ports[0]",
            "spec.containers[0].ports[2]: overlapping port definition with spec.containers[0].ports[0]",
            "spec.containers[0].ports[2]: overlapping port definition with spec.containers[0].ports[1]",
            "spec.containers[0].ports[3]: hostIP set without hostPort: {Name:x HostPort:0 ContainerPort:81 \
             Protocol:TCP HostIP:1.1.1.1}",
            "spec.containers[0].ports[5]: dangerously ambiguous port definition with spec.containers[0].ports[4]",
            "spec.terminationGracePeriodSeconds: must be >= 0; negative values are invalid and will be treated as 1",
            "spec.affinity.podAffinity.requiredDuringSchedulingIgnoredDuringExecution[0].labelSelector: a null \
             labelSelector results in matching no pod",
            "spec.affinity.podAntiAffinity.preferredDuringSchedulingIgnoredDuringExecution[0].podAffinityTerm.\
             labelSelector: a null labelSelector results in matching no pod",
            "spec.hostAliases[0].ip: IPv6 address \"2001:DB8::1\" should be in RFC 5952 canonical format \
             (\"2001:db8::1\")",
        ]
    );
    // An update of the spec warns of nothing, new addresses in the status do.
    let strategy = support::strategy("Pod");
    let old = defaulted("Pod", pod(json!({})));
    assert_eq!(
        strategy.warnings(defaulted("Pod", value).as_ref(), Some(old.as_ref())),
        Vec::<String>::new()
    );
    let new = over(pod(json!({})), json!({"status": {"podIPs": [{"ip": "FD00::1"}]}}));
    let new = defaulted("Pod", new);
    assert_eq!(
        strategy.subresource_warnings(new.as_ref(), Subresource::Resize),
        Vec::<String>::new()
    );
    assert_eq!(
        strategy.subresource_warnings(new.as_ref(), Subresource::Status),
        [
            "status.podIPs[0].ip: IPv6 address \"FD00::1\" should be in RFC 5952 canonical format (\"fd00::1\")"
        ]
    );
}
