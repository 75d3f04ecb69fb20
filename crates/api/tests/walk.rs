//! Which inputs upstream's tables of validation refuse, with the path of the field and the type of the error.

mod support;

use serde_json::{Value, json};
use support::{create_errors, over};

/// The errors without what follows the type: the texts are compared elsewhere.
fn told(kind: &str, value: Value) -> Vec<String> {
    let types = [
        "Required value",
        "Invalid value",
        "Forbidden",
        "Duplicate value",
        "Unsupported value",
        "Too many",
        "Too long",
        "Not found",
    ];
    create_errors(kind, value)
        .iter()
        .map(|error| {
            types
                .iter()
                .find_map(|kind| {
                    let (path, _) = error.split_once(&format!(": {kind}"))?;
                    Some(format!("{path}: {kind}"))
                })
                .unwrap_or_else(|| error.clone())
        })
        .collect()
}

fn check(kind: &str, base: &Value, cases: &[(Value, &[&str])]) {
    let mut differ = Vec::new();
    for (spec, expected) in cases {
        let found = told(kind, over(base.clone(), json!({ "spec": spec })));
        if found != *expected {
            differ.push(format!(
                "{kind} {spec}\n  found    {found:?}\n  expected {expected:?}"
            ));
        }
    }
    assert!(differ.is_empty(), "{}", differ.join("\n"));
}

#[test]
fn jobs() {
    let base = json!({"metadata": {"name": "j", "namespace": "default", "uid": "u"}, "spec": {
        "template": {"spec": {"restartPolicy": "Never", "containers": [{"name": "a", "image": "x"}]}}}});
    let codes = |requirement: Value| {
        let rule = json!({"action": "FailJob", "onExitCodes": requirement});
        json!({"podFailurePolicy": {"rules": [rule]}})
    };
    let rule = |rule: Value| json!({"podFailurePolicy": {"rules": [rule]}});
    let success = |rules: Value| {
        json!({"completionMode": "Indexed", "completions": 5, "parallelism": 2,
        "successPolicy": {"rules": rules}})
    };
    let many: Vec<i32> = (1..=256).collect();
    let rules: Vec<Value> = (0..21)
        .map(|_| json!({"action": "FailJob", "onExitCodes": {"operator": "In", "values": [1]}}))
        .collect();
    check(
        "batch/Job",
        &base,
        &[
            (json!({"parallelism": -1}), &["spec.parallelism: Invalid value"]),
            (json!({"completions": -1}), &["spec.completions: Invalid value"]),
            (
                json!({"activeDeadlineSeconds": -1}),
                &["spec.activeDeadlineSeconds: Invalid value"],
            ),
            (json!({"backoffLimit": -1}), &["spec.backoffLimit: Invalid value"]),
            (
                json!({"ttlSecondsAfterFinished": -1}),
                &["spec.ttlSecondsAfterFinished: Invalid value"],
            ),
            (
                json!({"manualSelector": true}),
                &[
                    "spec.selector: Required value",
                    "spec.template.metadata.labels: Invalid value",
                ],
            ),
            (
                json!({"completionMode": "Indexed", "parallelism": 1}),
                &["spec.completions: Required value"],
            ),
            (
                json!({"completionMode": "Indexed", "completions": 2, "parallelism": 100_001}),
                &["spec.parallelism: Invalid value"],
            ),
            (
                json!({"completionMode": "Other"}),
                &["spec.completionMode: Unsupported value"],
            ),
            (
                json!({"backoffLimitPerIndex": 1}),
                &["spec.backoffLimitPerIndex: Invalid value"],
            ),
            (
                json!({"maxFailedIndexes": 1, "completionMode": "Indexed", "completions": 2}),
                &["spec.backoffLimitPerIndex: Required value"],
            ),
            (
                json!({"completionMode": "Indexed", "completions": 2, "backoffLimitPerIndex": -1}),
                &["spec.backoffLimitPerIndex: Invalid value"],
            ),
            (
                json!({"completionMode": "Indexed", "completions": 2, "backoffLimitPerIndex": 1, "maxFailedIndexes": 3}),
                &["spec.maxFailedIndexes: Invalid value"],
            ),
            (
                json!({"completionMode": "Indexed", "completions": 100_001, "backoffLimitPerIndex": 1}),
                &["spec.maxFailedIndexes: Required value"],
            ),
            (
                json!({"podReplacementPolicy": ""}),
                &["spec.podReplacementPolicy: Unsupported value"],
            ),
            (json!({"managedBy": "x"}), &["spec.managedBy: Invalid value"]),
            (
                json!({"template": {"spec": {"restartPolicy": "Always"}}}),
                &["spec.template.spec.restartPolicy: Required value"],
            ),
            (
                codes(json!({"operator": "In", "values": [11, 11]})),
                &["spec.podFailurePolicy.rules[0].onExitCodes.values[1]: Duplicate value"],
            ),
            (
                codes(json!({"operator": "In", "values": [11, 10]})),
                &["spec.podFailurePolicy.rules[0].onExitCodes.values: Invalid value"],
            ),
            (
                codes(json!({"operator": "In", "values": []})),
                &["spec.podFailurePolicy.rules[0].onExitCodes.values: Invalid value"],
            ),
            (
                codes(json!({"operator": "In", "values": many})),
                &["spec.podFailurePolicy.rules[0].onExitCodes.values: Too many"],
            ),
            (
                codes(json!({"operator": "In", "values": [0]})),
                &["spec.podFailurePolicy.rules[0].onExitCodes.values[0]: Invalid value"],
            ),
            (
                codes(json!({"operator": "UnknownOperator", "values": [1]})),
                &["spec.podFailurePolicy.rules[0].onExitCodes.operator: Unsupported value"],
            ),
            (
                codes(json!({"values": [1]})),
                &["spec.podFailurePolicy.rules[0].onExitCodes.operator: Required value"],
            ),
            (
                codes(json!({"operator": "In", "values": [1], "containerName": "xyz"})),
                &["spec.podFailurePolicy.rules[0].onExitCodes.containerName: Invalid value"],
            ),
            (
                json!({"podFailurePolicy": {"rules": rules}}),
                &["spec.podFailurePolicy.rules: Too many"],
            ),
            (
                rule(json!({"action": "FailJob"})),
                &["spec.podFailurePolicy.rules[0]: Invalid value"],
            ),
            (
                rule(
                    json!({"action": "FailJob", "onExitCodes": {"operator": "In", "values": [1]},
                "onPodConditions": [{"type": "DisruptionTarget", "status": "True"}]}),
                ),
                &["spec.podFailurePolicy.rules[0]: Invalid value"],
            ),
            (
                rule(json!({"action": "UnknownAction", "onExitCodes": {"operator": "In", "values": [1]}})),
                &["spec.podFailurePolicy.rules[0].action: Unsupported value"],
            ),
            (
                rule(json!({"onExitCodes": {"operator": "In", "values": [1]}})),
                &["spec.podFailurePolicy.rules[0].action: Required value"],
            ),
            (
                rule(json!({"action": "FailIndex", "onExitCodes": {"operator": "In", "values": [1]}})),
                &["spec.podFailurePolicy.rules[0].action: Invalid value"],
            ),
            (
                rule(
                    json!({"action": "FailJob", "onPodConditions": [{"type": "Disruption target", "status": "True"}]}),
                ),
                &["spec.podFailurePolicy.rules[0].onPodConditions[0].type: Invalid value"],
            ),
            (
                rule(
                    json!({"action": "FailJob", "onPodConditions": [{"type": "DisruptionTarget", "status": "Bad"}]}),
                ),
                &["spec.podFailurePolicy.rules[0].onPodConditions[0].status: Unsupported value"],
            ),
            (
                json!({"podFailurePolicy": {"rules": []}, "template": {"spec": {"restartPolicy": "OnFailure"}}}),
                &["spec.template.spec.restartPolicy: Invalid value"],
            ),
            (
                json!({"successPolicy": {"rules": [{"succeededCount": 1}]}}),
                &["spec.successPolicy: Invalid value"],
            ),
            (success(json!([])), &["spec.successPolicy.rules: Required value"]),
            (
                success(json!([{}])),
                &["spec.successPolicy.rules[0]: Required value"],
            ),
            (
                success(json!([{"succeededCount": -1}])),
                &["spec.successPolicy.rules[0].succeededCount: Invalid value"],
            ),
            (
                success(json!([{"succeededCount": 6}])),
                &["spec.successPolicy.rules[0].succeededCount: Invalid value"],
            ),
            (
                success(json!([{"succeededIndexes": "invalid-format"}])),
                &["spec.successPolicy.rules[0].succeededIndexes: Invalid value"],
            ),
            (
                success(json!([{"succeededIndexes": "0-2", "succeededCount": 4}])),
                &["spec.successPolicy.rules[0].succeededCount: Invalid value"],
            ),
            (
                success(json!(vec![json!({"succeededIndexes": "1"}); 21])),
                &["spec.successPolicy.rules: Too many"],
            ),
        ],
    );
}

#[test]
fn cron_jobs() {
    let base = json!({"metadata": {"name": "j", "namespace": "default"}, "spec": {"schedule": "* * * * ?",
        "jobTemplate": {"spec": {"template": {"spec": {"restartPolicy": "OnFailure",
            "containers": [{"name": "a", "image": "x"}]}}}}}});
    let job = |spec: Value| json!({"jobTemplate": {"spec": spec}});
    check(
        "batch/CronJob",
        &base,
        &[
            (json!({"schedule": "error"}), &["spec.schedule: Invalid value"]),
            (json!({"schedule": ""}), &["spec.schedule: Required value"]),
            (json!({"timeZone": ""}), &["spec.timeZone: Invalid value"]),
            (
                json!({"timeZone": "America/New York"}),
                &["spec.timeZone: Invalid value"],
            ),
            (
                json!({"timeZone": " Continent/Zone"}),
                &["spec.timeZone: Invalid value"],
            ),
            (json!({"timeZone": "broken"}), &["spec.timeZone: Invalid value"]),
            (
                json!({"timeZone": "local"}),
                &["spec.timeZone: Invalid value", "spec.timeZone: Invalid value"],
            ),
            (
                json!({"startingDeadlineSeconds": -1}),
                &["spec.startingDeadlineSeconds: Invalid value"],
            ),
            (
                json!({"successfulJobsHistoryLimit": -1}),
                &["spec.successfulJobsHistoryLimit: Invalid value"],
            ),
            (
                json!({"failedJobsHistoryLimit": -1}),
                &["spec.failedJobsHistoryLimit: Invalid value"],
            ),
            (json!({"concurrencyPolicy": ""}), &[]),
            (
                json!({"concurrencyPolicy": "Other"}),
                &["spec.concurrencyPolicy: Unsupported value"],
            ),
            (
                job(json!({"parallelism": -1})),
                &["spec.jobTemplate.spec.parallelism: Invalid value"],
            ),
            (
                job(json!({"completions": -1})),
                &["spec.jobTemplate.spec.completions: Invalid value"],
            ),
            (
                job(json!({"activeDeadlineSeconds": -1})),
                &["spec.jobTemplate.spec.activeDeadlineSeconds: Invalid value"],
            ),
            (
                job(json!({"selector": {"matchLabels": {"a": "b"}}})),
                &["spec.jobTemplate.spec.selector: Invalid value"],
            ),
            (
                job(json!({"manualSelector": true})),
                &["spec.jobTemplate.spec.manualSelector: Unsupported value"],
            ),
            (
                job(json!({"ttlSecondsAfterFinished": -1})),
                &["spec.jobTemplate.spec.ttlSecondsAfterFinished: Invalid value"],
            ),
            (
                job(json!({"template": {"spec": {"restartPolicy": "Always"}}})),
                &["spec.jobTemplate.spec.template.spec.restartPolicy: Required value"],
            ),
        ],
    );
}

#[test]
fn autoscalers() {
    let base = json!({"metadata": {"name": "h", "namespace": "default"}, "spec": {"maxReplicas": 5,
        "scaleTargetRef": {"kind": "Deployment", "name": "d"}}});
    let metric = |metric: Value| json!({"metrics": [metric]});
    let resource =
        |target: Value| metric(json!({"type": "Resource", "resource": {"name": "cpu", "target": target}}));
    let up = |rules: Value| json!({"behavior": {"scaleUp": rules}});
    let policy = |policy: Value| up(json!({"policies": [policy]}));
    check(
        "autoscaling/HorizontalPodAutoscaler",
        &base,
        &[
            (
                json!({"scaleTargetRef": {"kind": ""}}),
                &["spec.scaleTargetRef.kind: Required value"],
            ),
            (
                json!({"scaleTargetRef": {"kind": ".."}}),
                &["spec.scaleTargetRef.kind: Invalid value"],
            ),
            (
                json!({"scaleTargetRef": {"name": ""}}),
                &["spec.scaleTargetRef.name: Required value"],
            ),
            (
                json!({"scaleTargetRef": {"name": ".."}}),
                &["spec.scaleTargetRef.name: Invalid value"],
            ),
            (json!({"minReplicas": -1}), &["spec.minReplicas: Invalid value"]),
            (json!({"minReplicas": 7}), &["spec.maxReplicas: Invalid value"]),
            (
                resource(json!({"type": "Utilization"})),
                &["spec.metrics[0].resource.target.averageUtilization: Required value"],
            ),
            (
                resource(json!({"type": "Utilization", "averageUtilization": -10})),
                &["spec.metrics[0].resource.target.averageUtilization: Invalid value"],
            ),
            (
                resource(json!({"type": "Utilization", "averageUtilization": 70, "averageValue": "200m"})),
                &["spec.metrics[0].resource.target.averageValue: Forbidden"],
            ),
            (
                resource(json!({"averageUtilization": 70})),
                &[
                    "spec.metrics[0].resource.target.type: Required value",
                    "spec.metrics[0].resource.target.type: Invalid value",
                ],
            ),
            (
                metric(json!({"type": "Resource"})),
                &["spec.metrics[0].resource: Required value"],
            ),
            (
                metric(
                    json!({"type": "Pods", "pods": {"metric": {"name": "m"}, "target": {"type": "AverageValue"}}}),
                ),
                &["spec.metrics[0].pods.target.averageValue: Required value"],
            ),
            (
                metric(json!({"type": "Other"})),
                &["spec.metrics[0].type: Unsupported value"],
            ),
            (
                metric(json!({})),
                &[
                    "spec.metrics[0].type: Required value",
                    "spec.metrics[0].type: Unsupported value",
                ],
            ),
            (
                up(json!({"stabilizationWindowSeconds": -1})),
                &["spec.behavior.scaleUp.stabilizationWindowSeconds: Invalid value"],
            ),
            (
                up(json!({"stabilizationWindowSeconds": 3601})),
                &["spec.behavior.scaleUp.stabilizationWindowSeconds: Invalid value"],
            ),
            (
                up(json!({"selectPolicy": "Other"})),
                &["spec.behavior.scaleUp.selectPolicy: Unsupported value"],
            ),
            (
                up(json!({"policies": []})),
                &["spec.behavior.scaleUp.policies: Required value"],
            ),
            (
                policy(json!({"type": "Pods", "value": 0, "periodSeconds": 1})),
                &["spec.behavior.scaleUp.policies[0].value: Invalid value"],
            ),
            (
                policy(json!({"type": "Pods", "value": 1, "periodSeconds": 0})),
                &["spec.behavior.scaleUp.policies[0].periodSeconds: Invalid value"],
            ),
            (
                policy(json!({"type": "Pods", "value": 1, "periodSeconds": 1801})),
                &["spec.behavior.scaleUp.policies[0].periodSeconds: Invalid value"],
            ),
            (
                policy(json!({"type": "Other", "value": 1, "periodSeconds": 1})),
                &["spec.behavior.scaleUp.policies[0].type: Unsupported value"],
            ),
        ],
    );
}

#[test]
fn budgets_and_network_policies() {
    let base = json!({"metadata": {"name": "p", "namespace": "default"},
        "spec": {"selector": {"matchLabels": {"a": "b"}}}});
    check(
        "policy/PodDisruptionBudget",
        &base,
        &[
            (json!({"minAvailable": -1}), &["spec.minAvailable: Invalid value"]),
            (
                json!({"minAvailable": "-1%"}),
                &["spec.minAvailable: Invalid value"],
            ),
            (
                json!({"minAvailable": "101%"}),
                &["spec.minAvailable: Invalid value"],
            ),
            (
                json!({"minAvailable": "xyz"}),
                &["spec.minAvailable: Invalid value"],
            ),
            (
                json!({"maxUnavailable": "101%"}),
                &["spec.maxUnavailable: Invalid value"],
            ),
            (
                json!({"minAvailable": 1, "maxUnavailable": 1}),
                &["spec: Invalid value"],
            ),
            (
                json!({"unhealthyPodEvictionPolicy": ""}),
                &["spec.unhealthyPodEvictionPolicy: Unsupported value"],
            ),
            (
                json!({"selector": {"matchLabels": {"a=b": "c"}}}),
                &["spec.selector.matchLabels: Invalid value"],
            ),
        ],
    );
    let base = json!({"metadata": {"name": "p", "namespace": "default"}, "spec": {"podSelector": {}}});
    let from = |peer: Value| json!({"ingress": [{"from": [peer]}]});
    let port = |port: Value| json!({"ingress": [{"ports": [port]}]});
    let block = |block: Value| from(json!({ "ipBlock": block }));
    check(
        "networking.k8s.io/NetworkPolicy",
        &base,
        &[
            (from(json!({})), &["spec.ingress[0].from[0]: Required value"]),
            (
                from(json!({"podSelector": {}, "ipBlock": {"cidr": "192.168.0.0/16"}})),
                &["spec.ingress[0].from[0]: Forbidden"],
            ),
            (
                block(json!({"cidr": ""})),
                &["spec.ingress[0].from[0].ipBlock.cidr: Required value"],
            ),
            (
                block(json!({"cidr": "192.168.5.6"})),
                &["spec.ingress[0].from[0].ipBlock.cidr: Invalid value"],
            ),
            (
                block(json!({"cidr": "192.168.8.0/24", "except": ["192.168.9.0/24"]})),
                &["spec.ingress[0].from[0].ipBlock.except[0]: Invalid value"],
            ),
            (
                block(json!({"cidr": "192.168.0.0/24", "except": ["192.168.0.0/16"]})),
                &["spec.ingress[0].from[0].ipBlock.except[0]: Invalid value"],
            ),
            (
                port(json!({"protocol": "X", "port": 80})),
                &["spec.ingress[0].ports[0].protocol: Unsupported value"],
            ),
            (
                port(json!({"port": 123_456_789})),
                &["spec.ingress[0].ports[0].port: Invalid value"],
            ),
            (
                port(json!({"port": "!@#$"})),
                &[
                    "spec.ingress[0].ports[0].port: Invalid value",
                    "spec.ingress[0].ports[0].port: Invalid value",
                ],
            ),
            (
                port(json!({"port": "dns", "endPort": 10})),
                &["spec.ingress[0].ports[0].endPort: Invalid value"],
            ),
            (
                port(json!({"endPort": 10})),
                &["spec.ingress[0].ports[0].endPort: Invalid value"],
            ),
            (
                port(json!({"port": 20, "endPort": 10})),
                &["spec.ingress[0].ports[0].endPort: Invalid value"],
            ),
            (
                port(json!({"port": 20, "endPort": 65_540})),
                &["spec.ingress[0].ports[0].endPort: Invalid value"],
            ),
            (
                json!({"policyTypes": ["foo", "bar"]}),
                &[
                    "spec.policyTypes[0]: Unsupported value",
                    "spec.policyTypes[1]: Unsupported value",
                ],
            ),
            (json!({"policyTypes": ["Ingress", "Ingress"]}), &[]),
            (
                json!({"policyTypes": ["Ingress", "Egress", "Ingress"]}),
                &["spec.policyTypes: Invalid value"],
            ),
            (
                json!({"podSelector": {"matchLabels": {"-x": "y"}}}),
                &["spec.podSelector.matchLabels: Invalid value"],
            ),
        ],
    );
}

#[test]
fn claims_and_volumes() {
    let base = json!({"metadata": {"name": "c", "namespace": "default"}, "spec": {
        "accessModes": ["ReadWriteOnce"], "resources": {"requests": {"storage": "1Gi"}}}});
    let source = |source: Value| json!({ "dataSource": source });
    check(
        "PersistentVolumeClaim",
        &base,
        &[
            (json!({"accessModes": []}), &["spec.accessModes: Required value"]),
            (
                json!({"accessModes": ["Other"]}),
                &["spec.accessModes: Unsupported value"],
            ),
            (
                json!({"accessModes": ["ReadWriteOncePod", "ReadWriteMany"]}),
                &["spec.accessModes: Forbidden"],
            ),
            (
                json!({"resources": {"requests": {"storage": "-10G"}}}),
                &["spec.resources[storage]: Invalid value"],
            ),
            (
                json!({"resources": {"requests": {"storage": "0"}}}),
                &["spec.resources[storage]: Invalid value"],
            ),
            (
                json!({"storageClassName": "-invalid-"}),
                &["spec.storageClassName: Invalid value"],
            ),
            (
                json!({"volumeMode": "Other"}),
                &["spec.volumeMode: Unsupported value"],
            ),
            (
                json!({"selector": {"matchExpressions": [{"key": "k", "operator": "InvalidOp", "values": ["v"]}]}}),
                &["spec.selector.matchExpressions[0].operator: Invalid value"],
            ),
            // It is dropped before it is looked at.
            (source(json!({"kind": "", "name": "a"})), &[]),
            (
                json!({"dataSource": {"kind": "PersistentVolumeClaim", "name": "a"},
                "dataSourceRef": {"kind": "PersistentVolumeClaim", "name": "b"}}),
                &["spec: Invalid value"],
            ),
        ],
    );
    let base = json!({"metadata": {"name": "v"}, "spec": {"capacity": {"storage": "1Gi"},
        "accessModes": ["ReadWriteOnce"], "hostPath": {"path": "/x"}}});
    check(
        "PersistentVolume",
        &base,
        &[
            (
                json!({"capacity": {"storage": "-1"}}),
                &[
                    "spec.capacity[storage]: Invalid value",
                    "spec.capacity[storage]: Invalid value",
                ],
            ),
            (json!({"accessModes": []}), &["spec.accessModes: Required value"]),
            (
                json!({"accessModes": ["Other"]}),
                &["spec.accessModes: Unsupported value"],
            ),
            (
                json!({"accessModes": ["ReadWriteOncePod", "ReadWriteMany"]}),
                &["spec.accessModes: Forbidden"],
            ),
            (
                json!({"persistentVolumeReclaimPolicy": "Other"}),
                &["spec.persistentVolumeReclaimPolicy: Unsupported value"],
            ),
            (
                json!({"hostPath": {"path": "/"}, "persistentVolumeReclaimPolicy": "Recycle"}),
                &["spec.persistentVolumeReclaimPolicy: Forbidden"],
            ),
            (
                json!({"hostPath": {"path": "/a/../b"}}),
                &["spec.hostPath.path: Invalid value"],
            ),
            (
                json!({"hostPath": {"path": ""}}),
                &["spec.hostPath.path: Required value"],
            ),
            (
                json!({"hostPath": {"type": "Other"}}),
                &["spec.hostPath.type: Unsupported value"],
            ),
            (
                json!({"nfs": {"server": "s", "path": "/x"}}),
                &["spec.nfs: Forbidden"],
            ),
            (
                json!({"storageClassName": "-bad-"}),
                &["spec.storageClassName: Invalid value"],
            ),
            (
                json!({"volumeMode": "Other"}),
                &["spec.volumeMode: Unsupported value"],
            ),
            (
                json!({"nodeAffinity": {}}),
                &["spec.nodeAffinity.required: Required value"],
            ),
            (
                json!({"nodeAffinity": {"required": {"nodeSelectorTerms": []}}}),
                &["spec.nodeAffinity.required.nodeSelectorTerms: Required value"],
            ),
        ],
    );
}

#[test]
fn services() {
    let base = json!({"metadata": {"name": "s", "namespace": "default"}, "spec": {
        "selector": {"a": "b"}, "ports": [{"name": "p", "port": 80}]}});
    check(
        "Service",
        &base,
        &[
            (json!({"type": "Other"}), &["spec.type: Unsupported value"]),
            (json!({"ports": []}), &["spec.ports: Required value"]),
            (
                json!({"ports": [{"port": 80}, {"name": "q", "port": 81}]}),
                &["spec.ports[0].name: Required value"],
            ),
            (
                json!({"ports": [{"name": "p", "port": 80}, {"name": "p", "port": 81}]}),
                &["spec.ports[1].name: Duplicate value"],
            ),
            (
                json!({"ports": [{"name": "p", "port": 80}, {"name": "q", "port": 80}]}),
                &["spec.ports[1]: Duplicate value"],
            ),
            (
                json!({"ports": [{"name": "INVALID", "port": 80}]}),
                &["spec.ports[0].name: Invalid value"],
            ),
            (
                json!({"ports": [{"port": 0}]}),
                &[
                    "spec.ports[0].port: Invalid value",
                    "spec.ports[0].targetPort: Invalid value",
                ],
            ),
            (
                json!({"ports": [{"port": 65536}]}),
                &[
                    "spec.ports[0].port: Invalid value",
                    "spec.ports[0].targetPort: Invalid value",
                ],
            ),
            (
                json!({"ports": [{"port": 80, "targetPort": "INVALID"}]}),
                &[
                    "spec.ports[0].targetPort: Invalid value",
                    "spec.ports[0].targetPort: Invalid value",
                ],
            ),
            (
                json!({"ports": [{"port": 80, "protocol": "INVALID"}]}),
                &["spec.ports[0].protocol: Unsupported value"],
            ),
            (
                json!({"ports": [{"port": 80, "nodePort": 30000}]}),
                &["spec.ports[0].nodePort: Forbidden"],
            ),
            (
                json!({"sessionAffinity": "INVALID"}),
                &["spec.sessionAffinity: Unsupported value"],
            ),
            (
                json!({"sessionAffinity": "ClientIP", "sessionAffinityConfig": {"clientIP": {"timeoutSeconds": 0}}}),
                &["spec.sessionAffinityConfig.clientIP.timeoutSeconds: Invalid value"],
            ),
            // The defaults take it away.
            (
                json!({"sessionAffinityConfig": {"clientIP": {"timeoutSeconds": 5}}}),
                &[],
            ),
            (
                json!({"externalIPs": ["0.0.0.0"]}),
                &["spec.externalIPs[0]: Invalid value"],
            ),
            (
                json!({"externalIPs": ["myhost.mydomain"]}),
                &["spec.externalIPs[0]: Invalid value"],
            ),
            (
                json!({"loadBalancerClass": "a"}),
                &["spec.loadBalancerClass: Forbidden"],
            ),
            (
                json!({"loadBalancerSourceRanges": ["1.2.3.0/24"]}),
                &["spec.LoadBalancerSourceRanges: Forbidden"],
            ),
            (
                json!({"externalTrafficPolicy": "Local"}),
                &["spec.externalTrafficPolicy: Invalid value"],
            ),
            (
                json!({"type": "LoadBalancer", "externalTrafficPolicy": "Other"}),
                &["spec.externalTrafficPolicy: Unsupported value"],
            ),
            (
                json!({"internalTrafficPolicy": "Other"}),
                &["spec.internalTrafficPolicy: Unsupported value"],
            ),
            (
                json!({"type": "ExternalName", "externalName": ""}),
                &["spec.externalName: Required value"],
            ),
            (
                json!({"type": "ExternalName", "externalName": "-123"}),
                &["spec.externalName: Invalid value"],
            ),
            (
                json!({"selector": {"a=b": "c"}}),
                &["spec.selector: Invalid value"],
            ),
            (
                json!({"trafficDistribution": "Other"}),
                &["spec.trafficDistribution: Unsupported value"],
            ),
        ],
    );
}

#[test]
fn pods() {
    let base = json!({"metadata": {"name": "p", "namespace": "default"}, "spec": {}});
    let one = |more: Value| {
        let container = over(json!({"name": "a", "image": "x"}), more);
        json!({ "containers": [container] })
    };
    let with = |more: Value| over(one(json!({})), more);
    let volume = |source: Value| with(json!({"volumes": [over(json!({"name": "v"}), source)]}));
    let node = |affinity: Value| with(json!({"affinity": {"nodeAffinity": affinity}}));
    let terms = |term: Value| {
        node(json!({"requiredDuringSchedulingIgnoredDuringExecution": {"nodeSelectorTerms": [term]}}))
    };
    let anti = |term: Value| {
        with(
            json!({"affinity": {"podAntiAffinity": {"requiredDuringSchedulingIgnoredDuringExecution": [term]}}}),
        )
    };
    let spread = |more: Value| {
        let whole = json!({"maxSkew": 1, "topologyKey": "zone", "whenUnsatisfiable": "DoNotSchedule"});
        with(json!({"topologySpreadConstraints": [over(whole, more)]}))
    };
    let required = "spec.affinity.nodeAffinity.requiredDuringSchedulingIgnoredDuringExecution";
    let term = format!("{required}.nodeSelectorTerms[0].matchExpressions[0]");
    let other = "spec.affinity.podAntiAffinity.requiredDuringSchedulingIgnoredDuringExecution[0]";
    check(
        "Pod",
        &base,
        &[
            (json!({"containers": []}), &["spec.containers: Required value"]),
            (
                one(json!({"name": "A"})),
                &["spec.containers[0].name: Invalid value"],
            ),
            (
                one(json!({"image": ""})),
                &["spec.containers[0].image: Required value"],
            ),
            (
                one(json!({"imagePullPolicy": "Other"})),
                &["spec.containers[0].imagePullPolicy: Unsupported value"],
            ),
            (
                one(json!({"terminationMessagePolicy": "Other"})),
                &["spec.containers[0].terminationMessagePolicy: Unsupported value"],
            ),
            (
                one(json!({"livenessProbe": {}})),
                &["spec.containers[0].livenessProbe: Required value"],
            ),
            (
                one(json!({"livenessProbe": {"exec": {"command": []}}})),
                &["spec.containers[0].livenessProbe.exec.command: Required value"],
            ),
            (
                one(json!({"livenessProbe": {"exec": {"command": ["a"]}, "successThreshold": 2}})),
                &["spec.containers[0].livenessProbe.successThreshold: Invalid value"],
            ),
            (
                one(
                    json!({"readinessProbe": {"exec": {"command": ["a"]}, "terminationGracePeriodSeconds": 5}}),
                ),
                &["spec.containers[0].readinessProbe.terminationGracePeriodSeconds: Invalid value"],
            ),
            (
                one(
                    json!({"livenessProbe": {"exec": {"command": ["a"]}, "terminationGracePeriodSeconds": 0}}),
                ),
                &["spec.containers[0].livenessProbe.terminationGracePeriodSeconds: Invalid value"],
            ),
            (
                one(json!({"livenessProbe": {"tcpSocket": {"port": 0}}})),
                &["spec.containers[0].livenessProbe.tcpSocket.port: Invalid value"],
            ),
            (
                one(json!({"livenessProbe": {"tcpSocket": {"port": 1}, "exec": {"command": ["a"]}}})),
                &["spec.containers[0].livenessProbe.tcpSocket: Forbidden"],
            ),
            (
                one(json!({"lifecycle": {"preStop": {}}})),
                &["spec.containers[0].lifecycle.preStop: Required value"],
            ),
            (
                one(json!({"lifecycle": {"preStop": {"sleep": {"seconds": 40}}}})),
                &["spec.containers[0].lifecycle.preStop.sleep: Invalid value"],
            ),
            (
                one(json!({"ports": [{"containerPort": 0}]})),
                &["spec.containers[0].ports[0].containerPort: Required value"],
            ),
            (
                one(json!({"ports": [{"containerPort": 65536}]})),
                &["spec.containers[0].ports[0].containerPort: Invalid value"],
            ),
            (
                one(json!({"ports": [{"containerPort": 1, "name": "a"}, {"containerPort": 2, "name": "a"}]})),
                &["spec.containers[0].ports[1].name: Duplicate value"],
            ),
            (
                one(
                    json!({"ports": [{"containerPort": 1, "hostPort": 2}, {"containerPort": 2, "hostPort": 2}]}),
                ),
                &["spec.containers[0].ports[1].hostPort: Duplicate value"],
            ),
            (
                one(json!({"env": [{"name": ""}]})),
                &["spec.containers[0].env[0].name: Required value"],
            ),
            (
                one(
                    json!({"env": [{"name": "a", "value": "b", "valueFrom": {"fieldRef": {"fieldPath": "metadata.name"}}}]}),
                ),
                &["spec.containers[0].env[0].valueFrom: Invalid value"],
            ),
            (
                one(json!({"env": [{"name": "a", "valueFrom": {}}]})),
                &["spec.containers[0].env[0].valueFrom: Invalid value"],
            ),
            (
                one(
                    json!({"env": [{"name": "a", "valueFrom": {"fieldRef": {"fieldPath": "metadata.whoops"}}}]}),
                ),
                &["spec.containers[0].env[0].valueFrom.fieldRef.fieldPath: Invalid value"],
            ),
            (
                one(
                    json!({"env": [{"name": "a", "valueFrom": {"fieldRef": {"fieldPath": "status.phase"}}}]}),
                ),
                &["spec.containers[0].env[0].valueFrom.fieldRef.fieldPath: Unsupported value"],
            ),
            (
                one(json!({"volumeMounts": [{"name": "no", "mountPath": "/x"}]})),
                &["spec.containers[0].volumeMounts[0].name: Not found"],
            ),
            (
                one(json!({"resources": {"requests": {"cpu": "2"}, "limits": {"cpu": "1"}}})),
                &["spec.containers[0].resources.requests: Invalid value"],
            ),
            (
                one(json!({"resources": {"requests": {"example.com/a": "1"}}})),
                &["spec.containers[0].resources.limits: Required value"],
            ),
            (
                one(json!({"resizePolicy": [{"resourceName": "storage", "restartPolicy": "NotRequired"}]})),
                &["spec.containers[0].resizePolicy: Unsupported value"],
            ),
            (
                one(json!({"resizePolicy": [{"resourceName": "cpu", "restartPolicy": "Other"}]})),
                &["spec.containers[0].resizePolicy: Unsupported value"],
            ),
            (
                one(json!({"securityContext": {"procMount": "Unmasked"}})),
                &["spec.containers[0].securityContext.procMount: Invalid value"],
            ),
            (
                one(json!({"securityContext": {"runAsUser": -1}})),
                &["spec.containers[0].securityContext.runAsUser: Invalid value"],
            ),
            (
                volume(json!({"emptyDir": {"sizeLimit": "-1"}})),
                &["spec.volumes[0].emptyDir.sizeLimit: Forbidden"],
            ),
            (
                volume(json!({"hostPath": {"path": "/a/.."}})),
                &["spec.volumes[0].hostPath.path: Invalid value"],
            ),
            (
                volume(json!({"emptyDir": {}, "hostPath": {"path": "/a"}})),
                &["spec.volumes[0].hostPath: Forbidden"],
            ),
            (
                volume(json!({"configMap": {"name": ""}})),
                &["spec.volumes[0].configMap.name: Required value"],
            ),
            (
                volume(json!({"secret": {"secretName": "s", "defaultMode": 511000}})),
                &["spec.volumes[0].secret.defaultMode: Invalid value"],
            ),
            (
                volume(json!({"secret": {"secretName": "s", "items": [{"key": "k", "path": "a/../b"}]}})),
                &["spec.volumes[0].secret.items[0].path: Invalid value"],
            ),
            (
                volume(
                    json!({"projected": {"sources": [{"secret": {"name": "s"}, "configMap": {"name": "c"}}]}}),
                ),
                &["spec.volumes[0].projected.sources[0]: Forbidden"],
            ),
            (
                terms(json!({"matchExpressions": [{"key": "k", "operator": "Other", "values": ["v"]}]})),
                &[&format!("{term}.operator: Invalid value")],
            ),
            (
                terms(json!({"matchExpressions": [{"key": "k", "operator": "In"}]})),
                &[&format!("{term}.values: Required value")],
            ),
            (
                terms(json!({"matchExpressions": [{"key": "k", "operator": "Gt", "values": ["1", "2"]}]})),
                &[&format!("{term}.values: Required value")],
            ),
            (
                node(json!({"requiredDuringSchedulingIgnoredDuringExecution": {"nodeSelectorTerms": []}})),
                &[&format!("{required}.nodeSelectorTerms: Required value")],
            ),
            (
                node(
                    json!({"preferredDuringSchedulingIgnoredDuringExecution": [{"weight": 199, "preference": {}}]}),
                ),
                &[
                    "spec.affinity.nodeAffinity.preferredDuringSchedulingIgnoredDuringExecution[0].weight: Invalid value",
                ],
            ),
            (
                anti(json!({"topologyKey": ""})),
                &[
                    &format!("{other}.topologyKey: Required value"),
                    &format!("{other}.topologyKey: Invalid value"),
                    &format!("{other}.topologyKey: Invalid value"),
                ],
            ),
            (
                anti(json!({"topologyKey": "zone", "namespaces": ["/bad"]})),
                &[&format!("{other}.namespace: Invalid value")],
            ),
            (
                spread(json!({"maxSkew": 0})),
                &["spec.topologySpreadConstraints[0].maxSkew: Invalid value"],
            ),
            (
                spread(json!({"topologyKey": ""})),
                &["spec.topologySpreadConstraints[0].topologyKey: Required value"],
            ),
            (
                spread(json!({"whenUnsatisfiable": "Other"})),
                &["spec.topologySpreadConstraints[0].whenUnsatisfiable: Unsupported value"],
            ),
            (
                spread(json!({"whenUnsatisfiable": "ScheduleAnyway", "minDomains": 2})),
                &["spec.topologySpreadConstraints[0].minDomains: Invalid value"],
            ),
            (
                spread(json!({"nodeAffinityPolicy": "Other"})),
                &["spec.topologySpreadConstraints[0].nodeAffinityPolicy: Unsupported value"],
            ),
            (
                spread(json!({"matchLabelKeys": ["a"]})),
                &["spec.topologySpreadConstraints[0].matchLabelKeys: Forbidden"],
            ),
            (
                with(json!({"restartPolicy": "Other"})),
                &["spec.restartPolicy: Unsupported value"],
            ),
            (
                with(json!({"dnsPolicy": "Other"})),
                &["spec.dnsPolicy: Unsupported value"],
            ),
            (
                with(json!({"dnsPolicy": "None"})),
                &["spec.dnsConfig: Required value"],
            ),
            (
                with(json!({"activeDeadlineSeconds": 0})),
                &["spec.activeDeadlineSeconds: Invalid value"],
            ),
            (
                with(json!({"hostAliases": [{"ip": "999.1.1.1"}]})),
                &["spec.hostAliases[0].ip: Invalid value"],
            ),
            (
                with(json!({"tolerations": [{"key": "k", "operator": "Exists", "value": "v"}]})),
                &["spec.tolerations[0].operator: Invalid value"],
            ),
            (
                with(json!({"tolerations": [{"operator": "Equal"}]})),
                &["spec.tolerations[0].operator: Invalid value"],
            ),
            (
                with(
                    json!({"tolerations": [{"key": "k", "operator": "Exists", "effect": "NoSchedule", "tolerationSeconds": 1}]}),
                ),
                &["spec.tolerations[0].effect: Invalid value"],
            ),
            (
                with(json!({"readinessGates": [{"conditionType": "in/va/lid"}]})),
                &["spec.readinessGates[0].conditionType: Invalid value"],
            ),
            (
                with(json!({"schedulingGates": [{"name": "a"}, {"name": "a"}]})),
                &["spec.schedulingGates[1]: Duplicate value"],
            ),
            (
                with(
                    json!({"initContainers": [{"name": "i", "image": "x", "livenessProbe": {"exec": {"command": ["a"]}}}]}),
                ),
                &["spec.initContainers[0].livenessProbe: Forbidden"],
            ),
            (
                with(json!({"initContainers": [{"name": "a", "image": "x"}]})),
                &["spec.initContainers[0].name: Duplicate value"],
            ),
            (
                with(json!({"ephemeralContainers": [{"name": "e", "image": "x"}]})),
                &["spec.ephemeralContainers: Forbidden"],
            ),
        ],
    );
}
