//! The rules of a pod's spec that concern few pods: storage of all sorts, the old annotations, Windows, claims.

mod support;

use serde_json::{Value, json};

use support::{create_errors, created, json_of, metadata, over};

fn pod(spec: Value) -> Value {
    let spec = over(json!({"containers": [{"name": "a", "image": "nginx:1"}]}), spec);
    json!({"metadata": metadata("web"), "spec": spec})
}

fn container(patch: Value) -> Value {
    json!({"containers": [over(json!({"name": "a", "image": "nginx:1"}), patch)]})
}

fn check(cases: Vec<(Value, Vec<&str>)>) {
    for (spec, expected) in cases {
        assert_eq!(create_errors("Pod", pod(spec.clone())), expected, "{spec}");
    }
}

#[test]
fn storage_elsewhere_is_described_as_its_plugin_needs_it() {
    let source = |source: Value| json!({"volumes": [over(json!({"name": "v"}), source)]});
    let label = "a lowercase RFC 1123 label must consist of lower case alphanumeric characters or '-', and must start \
                 and end with an alphanumeric character (e.g. 'my-name',  or '123-abc', regex used for validation is \
                 '[a-z0-9]([-a-z0-9]*[a-z0-9])?')";
    let name = format!("spec.volumes[0].storageos.volumeName: Invalid value: \"A\": {label}");
    let namespace = format!("spec.volumes[0].storageos.volumeNamespace: Invalid value: \"B\": {label}");
    check(vec![
        (
            source(json!({"gcePersistentDisk": {"pdName": "", "partition": 256}})),
            vec![
                "spec.volumes[0].persistentDisk.pdName: Required value",
                "spec.volumes[0].persistentDisk.partition: Invalid value: 256: must be between 1 and 255, inclusive",
            ],
        ),
        (
            source(
                json!({"emptyDir": {}, "cephfs": {"monitors": []}, "downwardAPI": {}, "gcePersistentDisk": {"pdName": "x"}}),
            ),
            vec![
                "spec.volumes[0].gcePersistentDisk: Forbidden: may not specify more than 1 volume type",
                "spec.volumes[0].cephFS: Forbidden: may not specify more than 1 volume type",
                "spec.volumes[0].downwarAPI: Forbidden: may not specify more than 1 volume type",
            ],
        ),
        (
            source(json!({"iscsi": {"targetPortal": "p", "iqn": "iqn.2001-04.com.example:disk", "lun": 0}})),
            vec![],
        ),
        (
            source(
                json!({"iscsi": {"targetPortal": "p", "iqn": "eui.0123456789abcdef", "lun": 0, "initiatorName": "naa.01"}}),
            ),
            vec!["spec.volumes[0].iscsi.initiatorname: Invalid value: \"naa.01\": must be valid format"],
        ),
        (
            source(
                json!({"iscsi": {"targetPortal": "", "iqn": "iqn.x", "lun": 256, "chapAuthSession": true}}),
            ),
            vec![
                "spec.volumes[0].iscsi.targetPortal: Required value",
                "spec.volumes[0].iscsi.iqn: Invalid value: \"iqn.x\": must be valid format",
                "spec.volumes[0].iscsi.lun: Invalid value: 256: must be between 0 and 255, inclusive",
                "spec.volumes[0].iscsi.secretRef: Required value",
            ],
        ),
        (
            source(json!({"storageos": {"volumeName": "A", "volumeNamespace": "B", "secretRef": {}}})),
            vec![
                &name,
                &namespace,
                "spec.volumes[0].storageos.secretRef.name: Required value",
            ],
        ),
        (
            source(json!({"cinder": {"volumeID": "", "secretRef": {}}})),
            vec![
                "spec.volumes[0].cinder.volumeID: Required value",
                "spec.volumes[0].cinder.secretRef.name: Required value",
            ],
        ),
        (
            source(
                json!({"azureDisk": {"diskName": "", "diskURI": "x", "kind": "Mine", "cachingMode": "All"}}),
            ),
            vec![
                "spec.volumes[0].azureDisk.diskName: Required value",
                "spec.volumes[0].azureDisk.cachingMode: Unsupported value: \"All\": supported values: \"None\", \
                 \"ReadOnly\", \"ReadWrite\"",
                "spec.volumes[0].azureDisk.kind: Unsupported value: \"Mine\": supported values: \"Dedicated\", \
                 \"Managed\", \"Shared\"",
                "spec.volumes[0].azureDisk.diskURI: Unsupported value: \"x\": supported values: \
                 \"https://{account-name}.blob.core.windows.net/{container-name}/{disk-name}.vhd\"",
            ],
        ),
        (
            source(json!({"quobyte": {"registry": "a:1,b,[::1]:2", "volume": "v"}})),
            vec![
                "spec.volumes[0].quobyte.registry: Invalid value: \"a:1,b,[::1]:2\": must be a host:port pair or \
                 multiple pairs separated by commas",
            ],
        ),
        (
            source(json!({"csi": {"driver": "d.example.com", "nodePublishSecretRef": {"name": ""}}})),
            vec!["spec.volumes[0].csi.nodePublishSecretRef.name: Required value"],
        ),
        (
            source(json!({"ephemeral": {"volumeClaimTemplate": {
                "metadata": {"labels": {"a": "b"}, "name": "x", "finalizers": ["a/b"]},
                "spec": {"accessModes": ["ReadWriteOnce"], "resources": {"requests": {"storage": "1Gi"}}},
            }}})),
            vec![
                "spec.volumes[0].ephemeral.volumeClaimTemplate.metadata.name: Forbidden: cannot be set",
                "spec.volumes[0].ephemeral.volumeClaimTemplate.metadata.finalizers: Forbidden: cannot be set",
            ],
        ),
    ]);
}

#[test]
fn old_annotations_are_valid_and_say_what_the_fields_say() {
    let with =
        |annotations: Value, spec: Value| over(pod(spec), json!({"metadata": {"annotations": annotations}}));
    let seccomp = "seccomp.security.alpha.kubernetes.io/pod";
    let armor = "container.apparmor.security.beta.kubernetes.io/a";
    let armored = |profile: Value| container(json!({"securityContext": {"appArmorProfile": profile}}));
    let cases = [
        (with(json!({seccomp: "runtime/default"}), json!({})), vec![]),
        (
            with(json!({seccomp: "mine"}), json!({})),
            vec![
                "metadata.annotations.seccomp.security.alpha.kubernetes.io/pod: Invalid value: \"mine\": must be a valid \
                 seccomp profile",
            ],
        ),
        (
            with(json!({seccomp: "localhost/../x"}), json!({})),
            vec![
                "metadata.annotations.seccomp.security.alpha.kubernetes.io/pod: Invalid value: \"../x\": must not \
                 contain '..'",
            ],
        ),
        (
            with(
                json!({seccomp: "unconfined"}),
                json!({"securityContext": {"seccompProfile": {"type": "RuntimeDefault"}}}),
            ),
            vec![
                "spec.securityContext.seccompProfile.type: Forbidden: seccomp type in annotation and field must match",
            ],
        ),
        (
            with(
                json!({"container.apparmor.security.beta.kubernetes.io/b": "mine"}),
                json!({}),
            ),
            vec![
                "metadata.annotations[container.apparmor.security.beta.kubernetes.io/b]: Invalid value: \"b\": \
                 container not found",
                "metadata.annotations[container.apparmor.security.beta.kubernetes.io/b]: Invalid value: \"mine\": \
                 invalid AppArmor profile name: \"mine\"",
            ],
        ),
        (
            with(
                json!({armor: "unconfined"}),
                armored(json!({"type": "RuntimeDefault"})),
            ),
            vec![
                "spec.containers[0].securityContext.appArmorProfile.type: Forbidden: apparmor type in annotation and \
                 field must match",
            ],
        ),
        (
            with(
                json!({armor: "localhost/x"}),
                armored(json!({"type": "Localhost", "localhostProfile": "y"})),
            ),
            vec![
                "spec.containers[0].securityContext.appArmorProfile.localhostProfile: Forbidden: apparmor profile in \
                 annotation and field must match",
            ],
        ),
        (
            with(
                json!({"controller.kubernetes.io/pod-deletion-cost": "+1"}),
                json!({}),
            ),
            vec![
                "metadata.annotations[controller.kubernetes.io/pod-deletion-cost]: Invalid value: \"+1\": must be a \
                 32bit integer",
            ],
        ),
    ];
    for (value, expected) in cases {
        assert_eq!(create_errors("Pod", value.clone()), expected, "{value}");
    }
    let object = json_of(created("Pod", with(json!({armor: "localhost/x"}), json!({}))).as_ref());
    assert_eq!(
        object["spec"]["containers"][0]["securityContext"],
        json!({"appArmorProfile": {"type": "Localhost", "localhostProfile": "x"}}),
        "what only the annotation says is in the field, too"
    );
}

#[test]
fn what_is_for_windows_is_not_for_linux() {
    check(vec![
        (
            over(
                container(json!({"securityContext": {"windowsOptions": {}}})),
                json!({"os": {"name": "linux"}, "securityContext": {"windowsOptions": {}}}),
            ),
            vec![
                "spec.securityContext.windowsOptions: Forbidden: windows options cannot be set for a linux pod",
                "spec.containers[0].securityContext.windowsOptions: Forbidden: windows options cannot be set for a \
                 linux pod",
            ],
        ),
        (
            over(
                container(json!({"securityContext": {"privileged": false, "runAsUser": 1}})),
                json!({"os": {"name": "windows"}, "hostPID": true, "securityContext": {"fsGroup": 1}}),
            ),
            vec![
                "spec.hostPID: Forbidden: cannot be set for a windows pod",
                "spec.securityContext.fsGroup: Forbidden: cannot be set for a windows pod",
                "spec.containers[0].securityContext.privileged: Forbidden: cannot be set for a windows pod",
                "spec.containers[0].securityContext.runAsUser: Forbidden: cannot be set for a windows pod",
            ],
        ),
        (
            json!({"os": {"name": "plan9"}}),
            vec!["spec.os: Unsupported value: \"plan9\": supported values: \"linux\", \"windows\""],
        ),
        (json!({"os": {"name": ""}}), vec!["spec.os.name: Required value"]),
        (
            json!({"securityContext": {"windowsOptions": {
                "gmsaCredentialSpec": "", "runAsUserName": "a\\b\\c", "hostProcess": true,
            }}}),
            vec![
                "spec.securityContext.windowsOptions.gmsaCredentialSpec: Invalid value: \"\": gmsaCredentialSpec \
                 cannot be an empty string",
                "spec.securityContext.windowsOptions.runAsUserName: Invalid value: \"a\\\\b\\\\c\": runAsUserName \
                 cannot contain more than one backslash",
                "spec.hostNetwork: Invalid value: false: hostNetwork must be true if pod contains any hostProcess \
                 containers",
            ],
        ),
        (
            json!({"securityContext": {"windowsOptions": {"runAsUserName": ".a\\..."}}}),
            vec![
                "spec.securityContext.windowsOptions.runAsUserName: Invalid value: \".a\\\\...\": runAsUserName's \
                 Domain doesn't match the NetBios nor the DNS format",
                "spec.securityContext.windowsOptions.runAsUserName: Invalid value: \".a\\\\...\": runAsUserName's User \
                 cannot contain only periods or spaces",
            ],
        ),
        (
            json!({"hostNetwork": true, "containers": [
                {"name": "a", "image": "x", "securityContext": {"windowsOptions": {"hostProcess": true}}},
                {"name": "b", "image": "x"},
            ]}),
            vec![
                "spec: Invalid value: \"\": If pod contains any hostProcess containers then all containers must be \
                 HostProcess containers",
            ],
        ),
    ]);
}

#[test]
fn claims_are_used_once_and_by_their_names() {
    let using = |claims: Value| {
        over(
            container(json!({"resources": {"claims": claims}})),
            json!({"resourceClaims": [{"name": "gpu", "resourceClaimName": "c"}, {"name": "net", "resourceClaimTemplateName": "t"}]}),
        )
    };
    check(vec![
        (
            using(json!([{"name": "gpu"}, {"name": "net", "request": "a"}, {"name": "net", "request": "b"}])),
            vec![],
        ),
        (
            using(json!([{"name": ""}, {"name": "gpu"}, {"name": "gpu", "request": "a"}, {"name": "disk"}])),
            vec![
                "spec.containers[0].resources.claims[0]: Required value",
                "spec.containers[0].resources.claims[2]: Duplicate value: \"gpu\"",
                "spec.containers[0].resources.claims[3]: Not found: \"disk\": must be one of the names in \
                 pod.spec.resourceClaims: gpu, net",
            ],
        ),
        (
            using(json!([{"name": "net", "request": "a"}, {"name": "net", "request": "a"}, {"name": "net"}])),
            vec![
                "spec.containers[0].resources.claims[1]: Duplicate value: \"net/a\"",
                "spec.containers[0].resources.claims[2]: Duplicate value: \"net\"",
            ],
        ),
        (
            container(json!({"resources": {"claims": [{"name": "gpu"}]}})),
            vec![
                "spec.containers[0].resources.claims[0]: Not found: \"gpu\": must be one of the names in \
                 pod.spec.resourceClaims which is empty",
            ],
        ),
        (
            json!({"resourceClaims": [{"name": "a"}, {"name": "a", "resourceClaimName": "x", "resourceClaimTemplateName": "y"}]}),
            vec![
                "spec.resourceClaims[0]: Invalid value: {\"Name\":\"a\",\"ResourceClaimName\":null,\"ResourceClaimTemplateName\":null}: must specify one of: `resourceClaimName`, \
                 `resourceClaimTemplateName`",
                "spec.resourceClaims[1].name: Duplicate value: \"a\"",
                "spec.resourceClaims[1]: Invalid value: {\"Name\":\"a\",\"ResourceClaimName\":\"x\",\
                 \"ResourceClaimTemplateName\":\"y\"}: at most one of `resourceClaimName` or \
                 `resourceClaimTemplateName` may be specified",
            ],
        ),
    ]);
}

#[test]
fn resources_of_the_pod_hold_those_of_its_containers() {
    let asking =
        |own: Value, pod: Value| over(container(json!({"resources": own})), json!({"resources": pod}));
    check(vec![
        (
            asking(
                json!({"requests": {"cpu": "1"}}),
                json!({"limits": {"memory": "1Gi"}}),
            ),
            vec![],
        ),
        (
            asking(
                json!({"requests": {"cpu": "2"}}),
                json!({"requests": {"cpu": "1"}}),
            ),
            vec![
                "spec.resources.requests[cpu]: Invalid value: \"1\": must be greater than or equal to aggregate \
                 container requests of 2",
            ],
        ),
        (
            asking(
                json!({"limits": {"cpu": "2"}}),
                json!({"limits": {"cpu": "1"}, "requests": {"cpu": "1"}}),
            ),
            vec![
                "spec.resources.requests[cpu]: Invalid value: \"1\": must be greater than or equal to aggregate \
                 container requests of 2",
                "spec.resources.containers[0][cpu].limits: Invalid value: \"2\": must be less than or equal to pod \
                 limits of 1",
            ],
        ),
        (
            json!({"resources": {"requests": {"ephemeral-storage": "1"}, "claims": [{"name": "x"}]}}),
            vec![
                "spec.resources.claims: Forbidden: claims may not be set for Resources at pod-level",
                "spec.resources.requests[ephemeral-storage]: Unsupported value: \"ephemeral-storage\": supported \
                 values: \"cpu\", \"hugepages-\", \"memory\"",
                "spec.resources.claims[0]: Not found: \"x\": must be one of the names in pod.spec.resourceClaims which is \
                 empty",
            ],
        ),
        (
            json!({"os": {"name": "windows"}, "resources": {"requests": {"cpu": "1"}}}),
            vec!["spec.resources: Forbidden: may not be set for a windows pod"],
        ),
        (
            container(json!({"resources": {"limits": {"hugepages-2Mi": "3Mi", "cpu": "1"}}})),
            vec![
                "spec.containers[0].resources.limits[hugepages-2Mi]: Invalid value: \"3Mi\": 3Mi is not positive \
                 integer multiple of hugepages-2Mi",
                "spec.containers[0].resources.requests[hugepages-2Mi]: Invalid value: \"3Mi\": 3Mi is not positive \
                 integer multiple of hugepages-2Mi",
            ],
        ),
    ]);
}

#[test]
fn what_a_container_may_say_of_its_own() {
    let from_file = |volume: &str| json!({"name": "A", "valueFrom": {"fileKeyRef": {"volumeName": volume, "path": "f", "key": "K"}}});
    check(vec![
        (
            over(
                container(json!({"env": [from_file("dir"), from_file("map"), from_file("gone")]})),
                json!({"volumes": [{"name": "dir", "emptyDir": {}}, {"name": "map", "configMap": {"name": "m"}}]}),
            ),
            vec![
                "spec.containers[0].env[1].valueFrom.fileKeyRef.volumeName: Invalid value: \"map\": referenced volume \
                 must be of type emptyDir",
                "spec.containers[0].env[2].valueFrom.fileKeyRef.volumeName: Not found: \"gone\"",
            ],
        ),
        (
            over(
                container(json!({"restartPolicyRules": [
                    {"action": "Stop"},
                    {"action": "Restart", "exitCodes": {"operator": "Is", "values": [1]}},
                ]})),
                json!({"restartPolicy": "Never"}),
            ),
            vec![
                "spec.containers[0].restartPolicy: Required value: must specify restartPolicy when restart rules are \
                 used",
                "spec.containers[0].restartPolicyRules[0].action: Unsupported value: \"Stop\": supported values: \
                 \"Restart\", \"RestartAllContainers\"",
                "spec.containers[0].restartPolicyRules[0].exitCodes: Required value: must be specified",
                "spec.containers[0].restartPolicyRules[1].exitCodes.operator: Unsupported value: \"Is\": supported \
                 values: \"In\", \"NotIn\"",
            ],
        ),
        (
            over(
                container(json!({"resizePolicy": [
                    {"resourceName": "cpu", "restartPolicy": "RestartContainer"},
                    {"resourceName": "cpu", "restartPolicy": "NotRequired"},
                    {"resourceName": "disk", "restartPolicy": "NotRequired"},
                ]})),
                json!({"restartPolicy": "Never"}),
            ),
            vec![
                "spec.containers[0].resizePolicy: Invalid value: \"RestartContainer\": must be 'NotRequired' when pod \
                 `restartPolicy` is 'Never'",
                "spec.containers[0].resizePolicy[1]: Duplicate value: \"cpu\"",
                "spec.containers[0].resizePolicy: Unsupported value: \"disk\": supported values: \"cpu\", \"memory\"",
            ],
        ),
        (
            json!({"initContainers": [
                {"name": "i", "image": "x", "resizePolicy": [{"resourceName": "cpu", "restartPolicy": "RestartContainer"}]},
                {"name": "s", "image": "x", "restartPolicy": "Always", "resizePolicy": [{"resourceName": "cpu", "restartPolicy": "RestartContainer"}]},
            ]}),
            vec![
                "spec.initContainers[0].resizePolicy[0].restartPolicy: Invalid value: \"RestartContainer\": must not \
                 be set to 'RestartContainer' for non-sidecar initContainers",
            ],
        ),
        (
            json!({"hostUsers": false, "hostIPC": true, "volumes": [{"name": "d", "persistentVolumeClaim": {"claimName": "c"}}],
                "containers": [{"name": "a", "image": "x", "volumeDevices": [{"name": "d", "devicePath": "/dev/d"}]}]}),
            vec![
                "spec.HostIPC: Forbidden: when `hostUsers` is false",
                "spec.containers[0].volumeDevices: Forbidden: when `hostUsers` is false",
            ],
        ),
        (
            json!({"hostnameOverride": "a.b", "hostNetwork": true, "setHostnameAsFQDN": true}),
            vec![
                "spec.hostnameOverride: Forbidden: may not be specified when setHostnameAsFQDN is true",
                "spec.hostnameOverride: Forbidden: may not be specified when hostNetwork is true",
            ],
        ),
        (
            json!({"tolerations": [{"key": "a", "operator": "Gt", "value": "3"}]}),
            vec![
                "spec.tolerations[0].operator: Unsupported value: \"Gt\": supported values: \"Equal\", \"Exists\", \
                 \"Lt\", \"Gt\"",
            ],
        ),
        (
            json!({"hostAliases": [{"ip": "010.0.0.1"}], "dnsConfig": {"nameservers": ["::ffff:1.2.3.4"]}}),
            vec![
                "spec.dnsConfig.nameservers[0]: Invalid value: \"::ffff:1.2.3.4\": must not be an IPv4-mapped IPv6 \
                 address",
                "spec.hostAliases[0].ip: Invalid value: \"010.0.0.1\": must not have leading 0s",
            ],
        ),
        (
            json!({"runtimeClassName": "", "preemptionPolicy": "Perhaps"}),
            vec![
                "spec.runtimeClassName: Invalid value: \"\": a lowercase RFC 1123 subdomain must consist of lower case \
                 alphanumeric characters, '-' or '.', and must start and end with an alphanumeric character (e.g. \
                 'example.com', regex used for validation is \
                 '[a-z0-9]([-a-z0-9]*[a-z0-9])?(\\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*')",
                "spec.preemptionPolicy: Unsupported value: \"Perhaps\": supported values: \"PreemptLowerPriority\", \
                 \"Never\"",
            ],
        ),
    ]);
}

#[test]
fn fields_of_features_that_are_off_are_dropped() {
    let object = json_of(
        created(
            "Pod",
            pod(over(
                container(json!({"lifecycle": {"stopSignal": "SIGUSR1"}})),
                json!({
                    "schedulingGroup": {"podGroupName": "g"},
                    "volumes": [
                        {"name": "t", "projected": {"sources": [{"clusterTrustBundle": {"name": "b", "path": "p"}}]}},
                        {"name": "e", "ephemeral": {"volumeClaimTemplate": {"spec": {
                            "accessModes": ["ReadWriteOnce"],
                            "resources": {"requests": {"storage": "1Gi"}},
                            "dataSourceRef": {"kind": "PersistentVolumeClaim", "name": "c", "namespace": "other"},
                        }}}},
                    ],
                }),
            )),
        )
        .as_ref(),
    );
    let spec = &object["spec"];
    assert_eq!(spec["schedulingGroup"], Value::Null);
    assert_eq!(spec["containers"][0]["lifecycle"], Value::Null);
    assert_eq!(spec["volumes"][0]["projected"]["sources"], json!([{}]));
    let template = &spec["volumes"][1]["ephemeral"]["volumeClaimTemplate"]["spec"];
    assert_eq!(template["dataSourceRef"], Value::Null);
}

#[test]
fn spreading_by_label_keys_is_written_out_when_a_pod_is_made() {
    let constraint = |selector: Value| {
        over(
            pod(json!({"topologySpreadConstraints": [{
                "maxSkew": 1, "topologyKey": "zone", "whenUnsatisfiable": "DoNotSchedule",
                "matchLabelKeys": ["rev"], "labelSelector": selector,
            }]})),
            json!({"metadata": {"labels": {"rev": "7"}}}),
        )
    };
    let object = json_of(created("Pod", constraint(json!({"matchLabels": {"app": "x"}}))).as_ref());
    assert_eq!(
        object["spec"]["topologySpreadConstraints"][0]["labelSelector"]["matchExpressions"],
        json!([{"key": "rev", "operator": "In", "values": ["7"]}])
    );
    assert_eq!(
        create_errors("Pod", constraint(json!({"matchLabels": {"rev": "7"}}))),
        [
            "spec.topologySpreadConstraints[0][0]: Invalid value: \"rev\": exists in both matchLabelKeys and labelSelector"
        ]
    );
}
