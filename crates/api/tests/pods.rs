//! Pods: what they are when little is said, what is refused, what may change, and how they are shown.

mod support;

use serde_json::{Value, json};
use skiff_api::Target;

use support::{cells, create_errors, created, defaulted, json_of, metadata, over, update};

fn pod(spec: Value) -> Value {
    let spec = over(json!({"containers": [{"name": "a", "image": "nginx:1"}]}), spec);
    json!({"metadata": metadata("web"), "spec": spec})
}

#[test]
fn a_pod_is_filled_in_as_upstream_does() {
    let given = json!({
        "metadata": {"name": "web", "namespace": "default"},
        "spec": {
            "serviceAccountName": "robot",
            "hostNetwork": true,
            "containers": [{
                "name": "a",
                "image": "nginx",
                "ports": [{"containerPort": 80}],
                "resources": {"limits": {"cpu": "0.5", "memory": "1024Mi"}},
                "livenessProbe": {"httpGet": {"port": 80}},
                "env": [{"name": "IP", "valueFrom": {"fieldRef": {"fieldPath": "status.podIP"}}}],
            }],
            "volumes": [
                {"name": "none"},
                {"name": "map", "configMap": {"name": "m"}},
                {"name": "secret", "secret": {"secretName": "s"}},
                {"name": "host", "hostPath": {"path": "/x"}},
                {"name": "token", "projected": {"sources": [{"serviceAccountToken": {"path": "t"}}]}},
            ],
        },
    });
    let expected = json!({
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {"name": "web", "namespace": "default"},
        "spec": {
            "serviceAccountName": "robot",
            "serviceAccount": "robot",
            "hostNetwork": true,
            "dnsPolicy": "ClusterFirst",
            "restartPolicy": "Always",
            "schedulerName": "default-scheduler",
            "terminationGracePeriodSeconds": 30,
            "enableServiceLinks": true,
            "securityContext": {},
            "containers": [{
                "name": "a",
                "image": "nginx",
                "imagePullPolicy": "Always",
                "ports": [{"containerPort": 80, "hostPort": 80, "protocol": "TCP"}],
                "resources": {
                    "limits": {"cpu": "500m", "memory": "1Gi"},
                    "requests": {"cpu": "500m", "memory": "1Gi"},
                },
                "livenessProbe": {
                    "httpGet": {"path": "/", "port": 80, "scheme": "HTTP"},
                    "timeoutSeconds": 1,
                    "periodSeconds": 10,
                    "successThreshold": 1,
                    "failureThreshold": 3,
                },
                "env": [{"name": "IP", "valueFrom": {"fieldRef": {"apiVersion": "v1", "fieldPath": "status.podIP"}}}],
                "terminationMessagePath": "/dev/termination-log",
                "terminationMessagePolicy": "File",
            }],
            "volumes": [
                {"name": "none", "emptyDir": {}},
                {"name": "map", "configMap": {"name": "m", "defaultMode": 420}},
                {"name": "secret", "secret": {"secretName": "s", "defaultMode": 420}},
                {"name": "host", "hostPath": {"path": "/x", "type": ""}},
                {"name": "token", "projected": {
                    "defaultMode": 420,
                    "sources": [{"serviceAccountToken": {"path": "t", "expirationSeconds": 3600}}],
                }},
            ],
        },
        "status": {},
    });
    assert_eq!(json_of(defaulted("Pod", given).as_ref()), expected);
}

#[test]
fn a_new_pod_is_pending_and_knows_its_class() {
    let gated = over(
        pod(json!({"schedulingGates": [{"name": "quota"}]})),
        json!({"status": {"phase": "Running"}}),
    );
    let object = json_of(created("Pod", gated).as_ref());
    assert_eq!(object["metadata"]["generation"], 1);
    assert_eq!(object["status"]["phase"], "Pending");
    assert_eq!(object["status"]["qosClass"], "BestEffort");
    assert_eq!(object["status"]["conditions"][0]["reason"], "SchedulingGated");
}

#[test]
fn invalid_pods_are_refused_with_upstreams_words() {
    let container =
        |patch: Value| json!({"containers": [over(json!({"name": "a", "image": "nginx:1"}), patch)]});
    let label = "a lowercase RFC 1123 label must consist of lower case alphanumeric characters or '-', and must start \
        and end with an alphanumeric character (e.g. 'my-name',  or '123-abc', regex used for validation is \
        '[a-z0-9]([-a-z0-9]*[a-z0-9])?')";
    let bad_name = format!("spec.containers[0].name: Invalid value: \"A\": {label}");
    let cases: Vec<(Value, Vec<&str>)> = vec![
        (json!({}), vec![]),
        (json!({"containers": []}), vec!["spec.containers: Required value"]),
        (container(json!({"name": "A"})), vec![&bad_name]),
        (
            container(json!({"image": ""})),
            vec!["spec.containers[0].image: Required value"],
        ),
        (
            container(json!({"image": " nginx"})),
            vec![
                "spec.containers[0].image: Invalid value: \" nginx\": must not have leading or trailing whitespace",
            ],
        ),
        (
            json!({"containers": [{"name": "a", "image": "x"}, {"name": "a", "image": "x"}]}),
            vec!["spec.containers[1].name: Duplicate value: \"a\""],
        ),
        (
            container(json!({"imagePullPolicy": "Sometimes"})),
            vec![
                "spec.containers[0].imagePullPolicy: Unsupported value: \"Sometimes\": supported values: \"Always\", \
                 \"IfNotPresent\", \"Never\"",
            ],
        ),
        (
            json!({"restartPolicy": "Sometimes", "dnsPolicy": "Mine"}),
            vec![
                "spec.restartPolicy: Unsupported value: \"Sometimes\": supported values: \"Always\", \"OnFailure\", \
                 \"Never\"",
                "spec.dnsPolicy: Unsupported value: \"Mine\": supported values: \"ClusterFirstWithHostNet\", \
                 \"ClusterFirst\", \"Default\", \"None\"",
            ],
        ),
        (
            container(json!({"ports": [
                {"containerPort": 0},
                {"containerPort": 70000, "name": "http"},
                {"containerPort": 80, "name": "http", "protocol": "HTTP", "hostPort": -1},
            ]})),
            vec![
                "spec.containers[0].ports[0].containerPort: Required value",
                "spec.containers[0].ports[1].containerPort: Invalid value: 70000: must be between 1 and 65535, \
                 inclusive",
                "spec.containers[0].ports[2].name: Duplicate value: \"http\"",
                "spec.containers[0].ports[2].hostPort: Invalid value: -1: must be between 1 and 65535, inclusive",
                "spec.containers[0].ports[2].protocol: Unsupported value: \"HTTP\": supported values: \"SCTP\", \
                 \"TCP\", \"UDP\"",
            ],
        ),
        (
            container(json!({"ports": [
                {"containerPort": 80, "hostPort": 80},
                {"containerPort": 81, "hostPort": 80},
            ]})),
            vec!["spec.containers[0].ports[1].hostPort: Duplicate value: \"TCP//80\""],
        ),
        (
            container(json!({"env": [
                {"name": ""},
                {"name": "a=b"},
                {"name": "A", "valueFrom": {}},
                {"name": "B", "value": "x", "valueFrom": {"fieldRef": {"fieldPath": "metadata.name"}}},
                {"name": "C", "valueFrom": {"fieldRef": {"fieldPath": "status.phase"}}},
                {"name": "D", "valueFrom": {"fieldRef": {"fieldPath": "spec.nonsense"}}},
                {"name": "E", "valueFrom": {"resourceFieldRef": {"resource": "limits.gpu"}}},
                {"name": "F", "valueFrom": {"fieldRef": {"fieldPath": "metadata.labels['app']"}}},
            ]})),
            vec![
                "spec.containers[0].env[0].name: Required value",
                "spec.containers[0].env[1].name: Invalid value: \"a=b\": a valid environment variable name must \
                 consist only of printable ASCII characters other than '='",
                "spec.containers[0].env[2].valueFrom: Invalid value: \"\": must specify one of: `fieldRef`, \
                 `resourceFieldRef`, `configMapKeyRef`, `secretKeyRef` or `fileKeyRef`",
                "spec.containers[0].env[3].valueFrom: Invalid value: \"\": may not be specified when `value` is not \
                 empty",
                "spec.containers[0].env[4].valueFrom.fieldRef.fieldPath: Unsupported value: \"status.phase\": \
                 supported values: \"metadata.name\", \"metadata.namespace\", \"metadata.uid\", \"spec.nodeName\", \
                 \"spec.serviceAccountName\", \"status.hostIP\", \"status.hostIPs\", \"status.podIP\", \
                 \"status.podIPs\"",
                "spec.containers[0].env[5].valueFrom.fieldRef.fieldPath: Invalid value: \"spec.nonsense\": error \
                 converting fieldPath: field label not supported: spec.nonsense",
                "spec.containers[0].env[6].valueFrom.resourceFieldRef.resource: Unsupported value: \"limits.gpu\": \
                 supported values: \"limits.cpu\", \"limits.ephemeral-storage\", \"limits.memory\", \
                 \"requests.cpu\", \"requests.ephemeral-storage\", \"requests.memory\"",
            ],
        ),
        (
            container(json!({"envFrom": [{}, {"configMapRef": {"name": "a"}, "secretRef": {"name": ""}}]})),
            vec![
                "spec.containers[0].envFrom: Invalid value: \"\": must specify one of: `configMapRef` or `secretRef`",
                "spec.containers[0].envFrom[1].secretRef.name: Required value",
                "spec.containers[0].envFrom: Invalid value: \"\": may not have more than one field specified at a \
                 time",
            ],
        ),
        (
            container(json!({"resources": {
                "limits": {"cpu": "1", "nonsense": "1", "example.com/gpu": "1500m"},
                "requests": {"cpu": "2", "memory": "-1"},
            }})),
            vec![
                "spec.containers[0].resources.limits[example.com/gpu]: Invalid value: \"1500m\": must be an integer",
                "spec.containers[0].resources.limits[nonsense]: Invalid value: \"nonsense\": must be a standard \
                 resource type or fully qualified",
                "spec.containers[0].resources.limits[nonsense]: Invalid value: \"nonsense\": must be a standard \
                 resource for containers",
                "spec.containers[0].resources.requests: Invalid value: \"2\": must be less than or equal to cpu \
                 limit of 1",
                "spec.containers[0].resources.requests[example.com/gpu]: Invalid value: \"1500m\": must be an \
                 integer",
                "spec.containers[0].resources.requests[memory]: Invalid value: \"-1\": must be greater than or equal \
                 to 0",
                "spec.containers[0].resources.requests[nonsense]: Invalid value: \"nonsense\": must be a standard \
                 resource type or fully qualified",
                "spec.containers[0].resources.requests[nonsense]: Invalid value: \"nonsense\": must be a standard \
                 resource for containers",
            ],
        ),
        (
            container(json!({"resources": {"requests": {"hugepages-2Mi": "2Mi"}}})),
            vec![
                "spec.containers[0].resources.limits: Required value: Limit must be set for non overcommitable \
                 resources",
                "spec.containers[0].resources: Forbidden: HugePages require cpu or memory",
            ],
        ),
        (
            container(json!({
                "livenessProbe": {"successThreshold": 2, "tcpSocket": {"port": "UP"}},
                "readinessProbe": {"initialDelaySeconds": -1},
                "lifecycle": {"preStop": {"exec": {"command": []}, "httpGet": {"port": 1}}},
            })),
            vec![
                "spec.containers[0].lifecycle.preStop.exec.command: Required value",
                "spec.containers[0].lifecycle.preStop.httpGet: Forbidden: may not specify more than 1 handler type",
                "spec.containers[0].livenessProbe.tcpSocket.port: Invalid value: \"UP\": must contain only \
                 alpha-numeric characters (a-z, 0-9), and hyphens (-)",
                "spec.containers[0].livenessProbe.tcpSocket.port: Invalid value: \"UP\": must contain at least one \
                 letter (a-z)",
                "spec.containers[0].livenessProbe.successThreshold: Invalid value: 2: must be 1",
                "spec.containers[0].readinessProbe: Required value: must specify a handler type",
                "spec.containers[0].readinessProbe.initialDelaySeconds: Invalid value: -1: must be greater than or \
                 equal to 0",
            ],
        ),
        (
            json!({"volumes": [{"name": "v", "emptyDir": {}, "hostPath": {"path": "/"}}]}),
            vec!["spec.volumes[0].hostPath: Forbidden: may not specify more than 1 volume type"],
        ),
        (
            json!({
                "volumes": [
                    {"name": "v", "emptyDir": {}},
                    {"name": "v", "emptyDir": {}},
                    {"name": "h", "hostPath": {"path": "/a/../b", "type": "Pipe"}},
                    {"name": "s", "secret": {}},
                    {"name": "m", "configMap": {"name": "m", "defaultMode": 512, "items": [{"key": "", "path": "../x"}]}},
                ],
                "containers": [{"name": "a", "image": "x", "volumeMounts": [
                    {"name": "v", "mountPath": "/v"},
                    {"name": "s", "mountPath": "/v"},
                    {"name": "gone", "mountPath": "", "subPath": "/abs"},
                ]}],
            }),
            vec![
                "spec.volumes[1].name: Duplicate value: \"v\"",
                "spec.volumes[2].hostPath.path: Invalid value: \"/a/../b\": must not contain '..'",
                "spec.volumes[2].hostPath.type: Unsupported value: \"Pipe\": supported values: \"\", \
                 \"BlockDevice\", \"CharDevice\", \"Directory\", \"DirectoryOrCreate\", \"File\", \"FileOrCreate\", \
                 \"Socket\"",
                "spec.volumes[3].secret.secretName: Required value",
                "spec.volumes[4].configMap.defaultMode: Invalid value: 512: must be a number between 0 and 0777 \
                 (octal), both inclusive",
                "spec.volumes[4].configMap.items[0].key: Required value",
                "spec.volumes[4].configMap.items[0].path: Invalid value: \"../x\": must not contain '..'",
                "spec.containers[0].volumeMounts[1].name: Not found: \"s\"",
                "spec.containers[0].volumeMounts[1].mountPath: Invalid value: \"/v\": must be unique",
                "spec.containers[0].volumeMounts[2].name: Not found: \"gone\"",
                "spec.containers[0].volumeMounts[2].mountPath: Required value",
                "spec.containers[0].volumeMounts.subPath: Invalid value: \"/abs\": must be a relative path",
            ],
        ),
        (
            json!({
                "initContainers": [
                    {"name": "a", "image": "x", "lifecycle": {"preStop": {"sleep": {"seconds": 1}}}},
                    {"name": "s", "image": "x", "restartPolicy": "Always", "lifecycle": {"preStop": {"sleep": {"seconds": 99}}}},
                    {"name": "r", "image": "x", "restartPolicy": "Perhaps"},
                ],
            }),
            vec![
                "spec.initContainers[0].name: Duplicate value: \"a\"",
                "spec.initContainers[0].lifecycle: Forbidden: may not be set for init containers without \
                 restartPolicy=Always",
                "spec.initContainers[1].lifecycle.preStop.sleep: Invalid value: 99: must be non-negative and less \
                 than terminationGracePeriodSeconds (30)",
                "spec.initContainers[2].restartPolicy: Unsupported value: \"Perhaps\": supported values: \"Always\", \
                 \"Never\", \"OnFailure\"",
            ],
        ),
        (
            json!({"tolerations": [
                {"operator": "Equal"},
                {"key": "a", "operator": "Exists", "value": "b"},
                {"key": "a", "operator": "Like", "effect": "Never", "tolerationSeconds": 1},
            ]}),
            vec![
                "spec.tolerations[0].operator: Invalid value: \"Equal\": operator must be Exists when `key` is empty, \
                 which means \"match all values and all keys\"",
                "spec.tolerations[1].operator: Invalid value: \"b\": value must be empty when `operator` is 'Exists'",
                "spec.tolerations[2].effect: Invalid value: \"Never\": effect must be 'NoExecute' when \
                 `tolerationSeconds` is set",
                "spec.tolerations[2].operator: Unsupported value: \"Like\": supported values: \"Equal\", \"Exists\"",
                "spec.tolerations[2].effect: Unsupported value: \"Never\": supported values: \"NoSchedule\", \
                 \"PreferNoSchedule\", \"NoExecute\"",
            ],
        ),
        (
            json!({"affinity": {
                "nodeAffinity": {
                    "requiredDuringSchedulingIgnoredDuringExecution": {"nodeSelectorTerms": []},
                    "preferredDuringSchedulingIgnoredDuringExecution": [{"weight": 0, "preference": {
                        "matchExpressions": [{"key": "zone", "operator": "In"}],
                        "matchFields": [{"key": "spec.x", "operator": "Exists"}],
                    }}],
                },
                "podAntiAffinity": {"requiredDuringSchedulingIgnoredDuringExecution": [{"topologyKey": ""}]},
            }}),
            vec![
                "spec.affinity.nodeAffinity.requiredDuringSchedulingIgnoredDuringExecution.nodeSelectorTerms: \
                 Required value: must have at least one node selector term",
                "spec.affinity.nodeAffinity.preferredDuringSchedulingIgnoredDuringExecution[0].weight: Invalid \
                 value: 0: must be in the range 1-100",
                "spec.affinity.nodeAffinity.preferredDuringSchedulingIgnoredDuringExecution[0].preference.\
                 matchExpressions[0].values: Required value: must be specified when `operator` is 'In' or 'NotIn'",
                "spec.affinity.nodeAffinity.preferredDuringSchedulingIgnoredDuringExecution[0].preference.\
                 matchFields[0].operator: Invalid value: \"Exists\": not a valid selector operator",
                "spec.affinity.nodeAffinity.preferredDuringSchedulingIgnoredDuringExecution[0].preference.\
                 matchFields[0].key: Invalid value: \"spec.x\": not a valid field selector key",
                "spec.affinity.podAntiAffinity.requiredDuringSchedulingIgnoredDuringExecution[0].topologyKey: \
                 Required value: can not be empty",
                "spec.affinity.podAntiAffinity.requiredDuringSchedulingIgnoredDuringExecution[0].topologyKey: \
                 Invalid value: \"\": name part must be non-empty",
                "spec.affinity.podAntiAffinity.requiredDuringSchedulingIgnoredDuringExecution[0].topologyKey: \
                 Invalid value: \"\": name part must consist of alphanumeric characters, '-', '_' or '.', and must \
                 start and end with an alphanumeric character (e.g. 'MyName',  or 'my.name',  or '123-abc', regex \
                 used for validation is '([A-Za-z0-9][-A-Za-z0-9_.]*)?[A-Za-z0-9]')",
            ],
        ),
        (
            json!({"topologySpreadConstraints": [
                {"maxSkew": 0, "topologyKey": "", "whenUnsatisfiable": "Wait", "matchLabelKeys": ["app"]},
            ]}),
            vec![
                "spec.topologySpreadConstraints[0].maxSkew: Invalid value: 0: must be greater than zero",
                "spec.topologySpreadConstraints[0].topologyKey: Required value: can not be empty",
                "spec.topologySpreadConstraints[0].whenUnsatisfiable: Unsupported value: \"Wait\": supported values: \
                 \"DoNotSchedule\", \"ScheduleAnyway\"",
                "spec.topologySpreadConstraints[0].matchLabelKeys: Forbidden: must not be specified when \
                 labelSelector is not set",
            ],
        ),
        (
            json!({
                "securityContext": {
                    "runAsUser": -1,
                    "sysctls": [{"name": "Kernel"}, {"name": "net.a", "value": ""}],
                    "seccompProfile": {"type": "Localhost"},
                },
                "hostNetwork": true,
                "hostUsers": false,
                "containers": [{"name": "a", "image": "x", "securityContext": {
                    "privileged": true, "allowPrivilegeEscalation": false,
                }}],
            }),
            vec![
                "spec.containers[0].securityContext: Invalid value: {\"Capabilities\":null,\"Privileged\":true,\
                 \"SELinuxOptions\":null,\"WindowsOptions\":null,\"RunAsUser\":null,\"RunAsGroup\":null,\
                 \"RunAsNonRoot\":null,\"ReadOnlyRootFilesystem\":null,\"AllowPrivilegeEscalation\":false,\
                 \"ProcMount\":null,\"SeccompProfile\":null,\"AppArmorProfile\":null}: cannot set `allowPrivilegeEscalation` to false and `privileged` to true",
                "spec.securityContext.runAsUser: Invalid value: -1: must be between 0 and 4294967295, inclusive",
                "spec.securityContext.sysctls[0].name: Invalid value: \"Kernel\": must have at most 253 characters \
                 and match regex ^([a-z0-9]([-_a-z0-9]*[a-z0-9])?[\\./])*[a-z0-9]([-_a-z0-9]*[a-z0-9])?$",
                "spec.securityContext.sysctls[1].name: Invalid value: \"net.a\": may not be specified when \
                 'hostNetwork' is true",
                "spec.securityContext.seccompProfile.localhostProfile: Required value: must be set when seccomp type \
                 is Localhost",
                "spec.hostNetwork: Forbidden: when `hostUsers` is false",
            ],
        ),
        (
            json!({"dnsPolicy": "None"}),
            vec!["spec.dnsConfig: Required value: must provide `dnsConfig` when `dnsPolicy` is None"],
        ),
        (
            json!({"dnsConfig": {"nameservers": ["x"], "searches": ["a_b.c.", "."], "options": [{}]}}),
            vec![
                "spec.dnsConfig.nameservers[0]: Invalid value: \"x\": must be a valid IP address, (e.g. 10.9.8.7 or \
                 2001:db8::ffff)",
                "spec.dnsConfig.options[0]: Required value: must not be empty",
            ],
        ),
        (
            json!({
                "hostAliases": [{"ip": "300.1.1.1", "hostnames": ["a.b"]}],
                "activeDeadlineSeconds": 0,
                "ephemeralContainers": [{"name": "e", "image": "x", "targetContainerName": "z"}],
                "nodeName": "n",
                "schedulingGates": [{"name": "g"}],
            }),
            vec![
                "spec.ephemeralContainers[0].targetContainerName: Not found: \"z\"",
                "spec.activeDeadlineSeconds: Invalid value: 0: must be between 1 and 2147483647, inclusive",
                "spec.hostAliases[0].ip: Invalid value: \"300.1.1.1\": must be a valid IP address, (e.g. 10.9.8.7 or \
                 2001:db8::ffff)",
                "spec.ephemeralContainers: Forbidden: cannot be set on create",
                "spec.nodeName: Forbidden: cannot be set until all schedulingGates have been cleared",
            ],
        ),
        (
            json!({"volumes": [{"name": "t", "projected": {"sources": [{"serviceAccountToken": {"path": "t", "expirationSeconds": 1}}]}}]}),
            vec![
                "spec.volumes[0].projected.sources[0].serviceAccountToken.expirationSeconds: Invalid value: 1: may \
                 not specify a duration less than 10 minutes",
                "spec.volumes[0].projected.sources[0].serviceAccountToken: Forbidden: must not be specified when \
                 serviceAccountName is not set",
            ],
        ),
    ];
    for (spec, expected) in cases {
        assert_eq!(create_errors("Pod", pod(spec.clone())), expected, "{spec}");
    }
}

#[test]
fn only_some_fields_of_a_pod_may_change() {
    let old = pod(json!({"tolerations": [{"key": "a", "operator": "Exists"}], "activeDeadlineSeconds": 10}));
    let spec = |patch: Value| over(old.clone(), json!({"spec": patch}));
    let allowed = [
        json!({"containers": [{"name": "a", "image": "nginx:2"}]}),
        json!({"activeDeadlineSeconds": 5}),
        json!({"tolerations": [{"key": "a", "operator": "Exists"}, {"key": "b", "operator": "Exists"}]}),
    ];
    for patch in allowed {
        let (object, errors) = update("Pod", old.clone(), spec(patch.clone()), Target::Main);
        assert!(errors.is_empty(), "{patch}: {errors:?}");
        assert_eq!(
            object["metadata"]["generation"], 1,
            "{patch}: a change of the spec is counted"
        );
    }
    let refused = [
        (
            json!({"containers": [{"name": "a", "image": "nginx:1"}, {"name": "b", "image": "x"}]}),
            "spec.containers: Forbidden: pod updates may not add or remove containers",
        ),
        (
            json!({"activeDeadlineSeconds": 20}),
            "spec.activeDeadlineSeconds: Invalid value: 20: must be less than or equal to previous value",
        ),
        (
            json!({"tolerations": []}),
            "spec.tolerations: Forbidden: existing toleration can not be modified except its tolerationSeconds",
        ),
        (
            json!({"nodeName": "other"}),
            "spec: Forbidden: pod updates may not change fields other than `spec.containers[*].image`,\
             `spec.initContainers[*].image`,`spec.activeDeadlineSeconds`,`spec.tolerations` (only additions to \
             existing tolerations),`spec.terminationGracePeriodSeconds` (allow it to be set to 1 if it was \
             previously negative)\n@@ -43,7 +43,7 @@\n  \"ServiceAccountName\": \"\",\n  \"DeprecatedServiceAccount\": \"\",\n  \
             \"AutomountServiceAccountToken\": null,\n- \"NodeName\": \"\",\n+ \"NodeName\": \"other\",\n  \
             \"SecurityContext\": {\n   \"HostNetwork\": false,\n   \"HostPID\": false,\n",
        ),
    ];
    for (patch, expected) in refused {
        let (_, errors) = update("Pod", old.clone(), spec(patch.clone()), Target::Main);
        assert_eq!(errors, [expected], "{patch}");
    }
}

#[test]
fn tables_show_pods_as_kubectl_users_know_them() {
    let row = |spec: Value, status: Value, meta: Value| {
        let value = json!({
            "metadata": over(metadata("web"), meta),
            "spec": over(json!({"containers": [{"name": "a"}]}), spec),
            "status": status,
        });
        let cells = cells("Pod", value);
        (cells[1].clone(), cells[2].clone(), cells[3].clone())
    };
    let status =
        |state: Value| json!({"phase": "Running", "containerStatuses": [over(json!({"name": "a"}), state)]});
    let none = || json!({});
    let init = json!({"initContainers": [{"name": "i"}, {"name": "j"}]});
    let sidecar = json!({"initContainers": [{"name": "s", "restartPolicy": "Always"}]});
    let finished = json!({"terminated": {"exitCode": 1, "finishedAt": "2025-01-01T01:55:00Z"}});
    let cases = [
        (
            none(),
            json!({"phase": "Pending"}),
            none(),
            ("0/1", "Pending", "0"),
        ),
        (
            none(),
            status(json!({"ready": true, "state": {"running": {}}})),
            none(),
            ("1/1", "Running", "0"),
        ),
        (
            none(),
            status(
                json!({"restartCount": 3, "lastState": finished, "state": {"waiting": {"reason": "CrashLoopBackOff"}}}),
            ),
            none(),
            ("0/1", "CrashLoopBackOff", "3 (5m ago)"),
        ),
        (
            none(),
            status(json!({"state": {"terminated": {"exitCode": 0, "reason": "Completed"}}})),
            none(),
            ("0/1", "Completed", "0"),
        ),
        (
            none(),
            status(json!({"state": {"terminated": {"exitCode": 3}}})),
            none(),
            ("0/1", "ExitCode:3", "0"),
        ),
        (
            none(),
            status(json!({"state": {"terminated": {"exitCode": 137, "signal": 9}}})),
            none(),
            ("0/1", "Signal:9", "0"),
        ),
        (
            none(),
            json!({"phase": "Failed", "reason": "Evicted"}),
            none(),
            ("0/1", "Evicted", "0"),
        ),
        (
            none(),
            status(json!({"ready": true, "state": {"running": {}}})),
            json!({"deletionTimestamp": "2025-01-01T00:00:00Z"}),
            ("1/1", "Terminating", "0"),
        ),
        (
            none(),
            json!({"phase": "Running", "reason": "NodeLost"}),
            json!({"deletionTimestamp": "2025-01-01T00:00:00Z"}),
            ("0/1", "Unknown", "0"),
        ),
        (
            none(),
            json!({"phase": "Succeeded"}),
            json!({"deletionTimestamp": "2025-01-01T00:00:00Z"}),
            ("0/1", "Succeeded", "0"),
        ),
        (
            init.clone(),
            json!({"phase": "Pending", "initContainerStatuses": [{"name": "i", "state": {"terminated": {"exitCode": 0}}}, {"name": "j", "state": {"running": {}}}]}),
            none(),
            ("0/1", "Init:1/2", "0"),
        ),
        (
            init.clone(),
            json!({"phase": "Pending", "initContainerStatuses": [{"name": "i", "restartCount": 2, "state": {"waiting": {"reason": "ErrImagePull"}}}]}),
            none(),
            ("0/1", "Init:ErrImagePull", "2"),
        ),
        (
            init.clone(),
            json!({"phase": "Pending", "initContainerStatuses": [{"name": "i", "state": {"terminated": {"exitCode": 2, "reason": "Error"}}}]}),
            none(),
            ("0/1", "Init:Error", "0"),
        ),
        (
            sidecar,
            json!({
                "phase": "Running",
                "initContainerStatuses": [{"name": "s", "started": true, "ready": true, "restartCount": 1, "state": {"running": {}}}],
                "containerStatuses": [{"name": "a", "ready": true, "state": {"running": {}}}],
            }),
            none(),
            ("2/2", "Running", "1"),
        ),
        (
            json!({"containers": [{"name": "a"}, {"name": "b"}]}),
            json!({"phase": "Running", "containerStatuses": [
                {"name": "a", "state": {"terminated": {"exitCode": 0, "reason": "Completed"}}},
                {"name": "b", "ready": true, "state": {"running": {}}},
            ]}),
            none(),
            ("1/2", "NotReady", "0"),
        ),
        (
            json!({"containers": [{"name": "a"}, {"name": "b"}]}),
            json!({"phase": "Running", "containerStatuses": [
                {"name": "a", "state": {"terminated": {"exitCode": 0, "reason": "Completed"}}},
                {"name": "b", "state": {"terminated": {"exitCode": 3, "reason": "Error"}}},
            ]}),
            none(),
            ("0/2", "Error", "0"),
        ),
        (
            init.clone(),
            json!({"phase": "Pending", "initContainerStatuses": [{"name": "i", "state": {"waiting": {"reason": "PodInitializing"}}}]}),
            none(),
            ("0/1", "Init:ContainerCreating", "0"),
        ),
        (
            none(),
            json!({"phase": "Pending", "conditions": [{"type": "PodScheduled", "status": "False", "reason": "SchedulingGated"}]}),
            none(),
            ("0/1", "SchedulingGated", "0"),
        ),
    ];
    for (spec, status, meta, (ready, reason, restarts)) in cases {
        let found = row(spec, status.clone(), meta);
        assert_eq!(
            found,
            (ready.to_string(), reason.to_string(), restarts.to_string()),
            "{status}"
        );
    }
    let wide = cells(
        "Pod",
        json!({
            "metadata": metadata("web"),
            "spec": {"nodeName": "n1", "readinessGates": [{"conditionType": "a/b"}], "containers": []},
            "status": {"podIPs": [{"ip": "10.0.0.9"}], "conditions": [{"type": "a/b", "status": "True"}]},
        }),
    );
    assert_eq!(wide[4..], ["5h", "10.0.0.9", "n1", "<none>", "1/1"]);
}

#[test]
fn affinity_by_label_keys_is_written_out_when_a_pod_is_made() {
    let term = json!({"topologyKey": "zone", "labelSelector": {}, "matchLabelKeys": ["rev", "gone"], "mismatchLabelKeys": ["tenant"]});
    let value = over(
        pod(
            json!({"affinity": {"podAntiAffinity": {"requiredDuringSchedulingIgnoredDuringExecution": [term]}}}),
        ),
        json!({"metadata": {"labels": {"rev": "7", "tenant": "x"}}}),
    );
    let object = json_of(created("Pod", value.clone()).as_ref());
    assert_eq!(
        object.pointer(
            "/spec/affinity/podAntiAffinity/requiredDuringSchedulingIgnoredDuringExecution/0/labelSelector"
        ),
        Some(&json!({"matchExpressions": [
            {"key": "rev", "operator": "In", "values": ["7"]},
            {"key": "tenant", "operator": "NotIn", "values": ["x"]},
        ]}))
    );
    assert_eq!(create_errors("Pod", value), Vec::<String>::new());
}
