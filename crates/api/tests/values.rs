//! Bad values that are structures are shown as upstream's internal types, in JSON under Go's names.

mod support;

use serde_json::{Value, json};
use skiff_api::Target;
use support::{create_errors, over, update};

fn pod(spec: Value) -> Value {
    let base = json!({"metadata": {"name": "p", "namespace": "default"},
        "spec": {"containers": [{"name": "a", "image": "x"}]}});
    over(base, json!({ "spec": spec }))
}

#[test]
fn values_of_new_objects_are_shown_as_go_has_them() {
    let node = "node.k8s.io/RuntimeClass";
    let twice = json!({"key": "a", "operator": "Exists"});
    let cases = [
        (
            "Pod",
            pod(json!({"resourceClaims": [{"name": "c"}]})),
            r#"spec.resourceClaims[0]: Invalid value: {"Name":"c","ResourceClaimName":null,"ResourceClaimTemplateName":null}: must specify one of: `resourceClaimName`, `resourceClaimTemplateName`"#,
        ),
        (
            "Pod",
            pod(json!({"containers": [{"name": "a", "image": "x",
                "securityContext": {"privileged": true, "allowPrivilegeEscalation": false}}]})),
            r#"spec.containers[0].securityContext: Invalid value: {"Capabilities":null,"Privileged":true,"SELinuxOptions":null,"WindowsOptions":null,"RunAsUser":null,"RunAsGroup":null,"RunAsNonRoot":null,"ReadOnlyRootFilesystem":null,"AllowPrivilegeEscalation":false,"ProcMount":null,"SeccompProfile":null,"AppArmorProfile":null}: cannot set `allowPrivilegeEscalation` to false and `privileged` to true"#,
        ),
        (
            node,
            json!({"metadata": {"name": "r"}, "handler": "h", "scheduling": {"tolerations": [twice, twice]}}),
            r#"scheduling.tolerations[1]: Duplicate value: {"Key":"a","Operator":"Exists","Value":"","Effect":"","TolerationSeconds":null}"#,
        ),
        (
            "networking.k8s.io/ServiceCIDR",
            json!({"metadata": {"name": "r"}, "spec": {"cidrs": ["10.0.0.0/8", "11.0.0.0/8", "12.0.0.0/8"]}}),
            r#"spec: Invalid value: {"CIDRs":["10.0.0.0/8","11.0.0.0/8","12.0.0.0/8"]}: may only hold up to 2 values"#,
        ),
    ];
    for (kind, value, expected) in cases {
        let errors = create_errors(kind, value.clone());
        assert_eq!(errors, [expected], "{value}");
    }
}

#[test]
fn values_that_may_not_change_are_shown_as_go_has_them() {
    let job = |spec: Value| {
        let base = json!({"metadata": {"name": "j", "namespace": "default"}, "spec": {
            "selector": {"matchLabels": {"a": "b"}}, "manualSelector": true,
            "template": {"metadata": {"labels": {"a": "b"}}, "spec": {"restartPolicy": "Never",
                "containers": [{"name": "a", "image": "x"}]}}}});
        over(base, json!({ "spec": spec }))
    };
    let (_, errors) = update(
        "batch/Job",
        job(json!({})),
        job(json!({"template": {"metadata": {"annotations": {"c": "d"}}}})),
        Target::Main,
    );
    let head = r#"spec.template: Invalid value: {"annotations":{"c":"d"},"labels":{"a":"b"},"Spec":{"Volumes":null,"InitContainers":null,"Containers":[{"Name":"a","Image":"x","Command":null,"#;
    assert!(errors[0].starts_with(head), "{errors:?}");
    let rules =
        json!([{"action": "Ignore", "onPodConditions": [{"type": "DisruptionTarget", "status": "True"}]}]);
    let (_, errors) = update(
        "batch/Job",
        job(json!({})),
        job(json!({"podFailurePolicy": {"rules": rules}})),
        Target::Main,
    );
    assert_eq!(
        errors,
        [
            r#"spec.podFailurePolicy: Invalid value: {"Rules":[{"Action":"Ignore","OnExitCodes":null,"OnPodConditions":[{"Type":"DisruptionTarget","Status":"True"}]}]}: field is immutable"#
        ]
    );

    let gated = |terms: Value| {
        pod(
            json!({"schedulingGates": [{"name": "g"}], "affinity": {"nodeAffinity": {
            "requiredDuringSchedulingIgnoredDuringExecution": {"nodeSelectorTerms": terms}}}}),
        )
    };
    let term = |value: &str| json!({"matchExpressions": [{"key": "k", "operator": "In", "values": [value]}]});
    let (_, errors) = update(
        "Pod",
        gated(json!([term("a")])),
        gated(json!([term("b")])),
        Target::Main,
    );
    assert_eq!(
        errors,
        [
            r#"spec.affinity.nodeAffinity.requiredDuringSchedulingIgnoredDuringExecution.nodeSelectorTerms[0]: Invalid value: {"MatchExpressions":[{"Key":"k","Operator":"In","Values":["b"]}],"MatchFields":null}: only additions are allowed (no mutations or deletions)"#
        ]
    );

    let attachment = |node: &str| {
        json!({"metadata": {"name": "v"}, "spec": {"attacher": "d", "nodeName": node,
            "source": {"persistentVolumeName": "p"}}})
    };
    let (_, errors) = update(
        "storage.k8s.io/VolumeAttachment",
        attachment("a"),
        attachment("b"),
        Target::Main,
    );
    assert_eq!(
        errors,
        [
            r#"spec: Invalid value: {"Attacher":"d","Source":{"PersistentVolumeName":"p","InlineVolumeSpec":null},"NodeName":"b"}: field is immutable"#
        ]
    );
}
