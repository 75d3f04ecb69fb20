//! Fields of which the texts are a closed set: what `kubectl explain` shows as `enum`. The types' own schemas, which are
//! made from the published documents, do not tell them.

use serde_json::{Map, Value, json};
use skiff_api::certificates::USAGES;
use skiff_api::core::pod_spec::HOST_PATH_TYPES;
use skiff_api::core::resource_quota;

/// The same in several fields.
mod sets {
    pub(super) const PROTOCOLS: &[&str] = &["SCTP", "TCP", "UDP"];
    pub(super) const PULL_POLICIES: &[&str] = &["Always", "IfNotPresent", "Never"];
    pub(super) const MESSAGE_POLICIES: &[&str] = &["FallbackToLogsOnError", "File"];
    pub(super) const RECLAIM_POLICIES: &[&str] = &["Delete", "Recycle", "Retain"];
    pub(super) const VOLUME_MODES: &[&str] = &["Block", "Filesystem"];
    pub(super) const EFFECTS: &[&str] = &["NoExecute", "NoSchedule", "PreferNoSchedule"];
    pub(super) const INCLUSION: &[&str] = &["Honor", "Ignore"];
    pub(super) const PREEMPTION: &[&str] = &["Never", "PreemptLowerPriority"];
    pub(super) const PROFILES: &[&str] = &["Localhost", "RuntimeDefault", "Unconfined"];
    pub(super) const TRAFFIC: &[&str] = &["Cluster", "Local"];
    pub(super) const SIDE_EFFECTS: &[&str] = &["None", "NoneOnDryRun", "Some", "Unknown"];
    pub(super) const FAILURE_POLICIES: &[&str] = &["Fail", "Ignore"];
    pub(super) const MATCH_POLICIES: &[&str] = &["Equivalent", "Exact"];
    pub(super) const REINVOCATION: &[&str] = &["IfNeeded", "Never"];
    pub(super) const SCOPES: &[&str] = &["*", "Cluster", "Namespaced"];
    pub(super) const OPERATIONS: &[&str] = &["*", "CONNECT", "CREATE", "DELETE", "UPDATE"];
    pub(super) const ACCESS_MODES: &[&str] = &[
        "ReadOnlyMany",
        "ReadWriteMany",
        "ReadWriteOnce",
        "ReadWriteOncePod",
    ];
    pub(super) const DEVICE_EFFECTS: &[&str] = &["NoExecute", "NoSchedule", "None"];
    pub(super) const SIGNALS: &[&str] = &[
        "SIGABRT",
        "SIGALRM",
        "SIGBUS",
        "SIGCHLD",
        "SIGCLD",
        "SIGCONT",
        "SIGFPE",
        "SIGHUP",
        "SIGILL",
        "SIGINT",
        "SIGIO",
        "SIGIOT",
        "SIGKILL",
        "SIGPIPE",
        "SIGPOLL",
        "SIGPROF",
        "SIGPWR",
        "SIGQUIT",
        "SIGRTMAX",
        "SIGRTMAX-1",
        "SIGRTMAX-10",
        "SIGRTMAX-11",
        "SIGRTMAX-12",
        "SIGRTMAX-13",
        "SIGRTMAX-14",
        "SIGRTMAX-2",
        "SIGRTMAX-3",
        "SIGRTMAX-4",
        "SIGRTMAX-5",
        "SIGRTMAX-6",
        "SIGRTMAX-7",
        "SIGRTMAX-8",
        "SIGRTMAX-9",
        "SIGRTMIN",
        "SIGRTMIN+1",
        "SIGRTMIN+10",
        "SIGRTMIN+11",
        "SIGRTMIN+12",
        "SIGRTMIN+13",
        "SIGRTMIN+14",
        "SIGRTMIN+15",
        "SIGRTMIN+2",
        "SIGRTMIN+3",
        "SIGRTMIN+4",
        "SIGRTMIN+5",
        "SIGRTMIN+6",
        "SIGRTMIN+7",
        "SIGRTMIN+8",
        "SIGRTMIN+9",
        "SIGSEGV",
        "SIGSTKFLT",
        "SIGSTOP",
        "SIGSYS",
        "SIGTERM",
        "SIGTRAP",
        "SIGTSTP",
        "SIGTTIN",
        "SIGTTOU",
        "SIGURG",
        "SIGUSR1",
        "SIGUSR2",
        "SIGVTALRM",
        "SIGWINCH",
        "SIGXCPU",
        "SIGXFSZ",
    ];
}

use sets::*;

/// Package and definition, field, texts in order.
const ENUMS: &[(&str, &str, &[&str])] = &[
    (
        "admissionregistration.v1.MatchResources",
        "matchPolicy",
        MATCH_POLICIES,
    ),
    (
        "admissionregistration.v1.MutatingAdmissionPolicySpec",
        "failurePolicy",
        FAILURE_POLICIES,
    ),
    (
        "admissionregistration.v1.MutatingAdmissionPolicySpec",
        "reinvocationPolicy",
        REINVOCATION,
    ),
    (
        "admissionregistration.v1.MutatingWebhook",
        "failurePolicy",
        FAILURE_POLICIES,
    ),
    (
        "admissionregistration.v1.MutatingWebhook",
        "matchPolicy",
        MATCH_POLICIES,
    ),
    (
        "admissionregistration.v1.MutatingWebhook",
        "reinvocationPolicy",
        REINVOCATION,
    ),
    (
        "admissionregistration.v1.MutatingWebhook",
        "sideEffects",
        SIDE_EFFECTS,
    ),
    (
        "admissionregistration.v1.NamedRuleWithOperations",
        "scope",
        SCOPES,
    ),
    ("admissionregistration.v1.RuleWithOperations", "scope", SCOPES),
    (
        "admissionregistration.v1.ValidatingAdmissionPolicySpec",
        "failurePolicy",
        FAILURE_POLICIES,
    ),
    (
        "admissionregistration.v1.ValidatingWebhook",
        "failurePolicy",
        FAILURE_POLICIES,
    ),
    (
        "admissionregistration.v1.ValidatingWebhook",
        "matchPolicy",
        MATCH_POLICIES,
    ),
    (
        "admissionregistration.v1.ValidatingWebhook",
        "sideEffects",
        SIDE_EFFECTS,
    ),
    (
        "apps.v1.DaemonSetUpdateStrategy",
        "type",
        &["OnDelete", "RollingUpdate"],
    ),
    (
        "apps.v1.DeploymentStrategy",
        "type",
        &["Recreate", "RollingUpdate"],
    ),
    (
        "apps.v1.StatefulSetSpec",
        "podManagementPolicy",
        &["OrderedReady", "Parallel"],
    ),
    (
        "apps.v1.StatefulSetUpdateStrategy",
        "type",
        &["OnDelete", "RollingUpdate"],
    ),
    (
        "batch.v1.CronJobSpec",
        "concurrencyPolicy",
        &["Allow", "Forbid", "Replace"],
    ),
    ("batch.v1.JobSpec", "completionMode", &["Indexed", "NonIndexed"]),
    (
        "batch.v1.JobSpec",
        "podReplacementPolicy",
        &["Failed", "TerminatingOrFailed"],
    ),
    (
        "batch.v1.PodFailurePolicyOnExitCodesRequirement",
        "operator",
        &["In", "NotIn"],
    ),
    (
        "batch.v1.PodFailurePolicyRule",
        "action",
        &["Count", "FailIndex", "FailJob", "Ignore"],
    ),
    ("core.v1.AppArmorProfile", "type", PROFILES),
    (
        "core.v1.AzureDiskVolumeSource",
        "cachingMode",
        &["None", "ReadOnly", "ReadWrite"],
    ),
    (
        "core.v1.AzureDiskVolumeSource",
        "kind",
        &["Dedicated", "Managed", "Shared"],
    ),
    ("core.v1.Container", "imagePullPolicy", PULL_POLICIES),
    ("core.v1.Container", "terminationMessagePolicy", MESSAGE_POLICIES),
    ("core.v1.ContainerPort", "protocol", PROTOCOLS),
    ("core.v1.EndpointPort", "protocol", PROTOCOLS),
    ("core.v1.EphemeralContainer", "imagePullPolicy", PULL_POLICIES),
    (
        "core.v1.EphemeralContainer",
        "terminationMessagePolicy",
        MESSAGE_POLICIES,
    ),
    ("core.v1.HTTPGetAction", "scheme", &["HTTP", "HTTPS"]),
    ("core.v1.HostPathVolumeSource", "type", HOST_PATH_TYPES),
    ("core.v1.ImageVolumeSource", "pullPolicy", PULL_POLICIES),
    (
        "core.v1.ModifyVolumeStatus",
        "status",
        &["InProgress", "Infeasible", "Pending"],
    ),
    ("core.v1.NamespaceStatus", "phase", &["Active", "Terminating"]),
    (
        "core.v1.NodeSelectorRequirement",
        "operator",
        &["DoesNotExist", "Exists", "Gt", "In", "Lt", "NotIn"],
    ),
    (
        "core.v1.NodeStatus",
        "phase",
        &["Pending", "Running", "Terminated"],
    ),
    ("core.v1.PersistentVolumeClaimSpec", "volumeMode", VOLUME_MODES),
    (
        "core.v1.PersistentVolumeClaimStatus",
        "phase",
        &["Bound", "Lost", "Pending"],
    ),
    (
        "core.v1.PersistentVolumeSpec",
        "persistentVolumeReclaimPolicy",
        RECLAIM_POLICIES,
    ),
    ("core.v1.PersistentVolumeSpec", "volumeMode", VOLUME_MODES),
    (
        "core.v1.PersistentVolumeStatus",
        "phase",
        &["Available", "Bound", "Failed", "Pending", "Released"],
    ),
    (
        "core.v1.PodSecurityContext",
        "fsGroupChangePolicy",
        &["Always", "OnRootMismatch"],
    ),
    (
        "core.v1.PodSecurityContext",
        "supplementalGroupsPolicy",
        &["Merge", "Strict"],
    ),
    (
        "core.v1.PodSpec",
        "dnsPolicy",
        &["ClusterFirst", "ClusterFirstWithHostNet", "Default", "None"],
    ),
    ("core.v1.PodSpec", "preemptionPolicy", PREEMPTION),
    (
        "core.v1.PodSpec",
        "restartPolicy",
        &["Always", "Never", "OnFailure"],
    ),
    (
        "core.v1.PodStatus",
        "phase",
        &["Failed", "Pending", "Running", "Succeeded", "Unknown"],
    ),
    (
        "core.v1.PodStatus",
        "qosClass",
        &["BestEffort", "Burstable", "Guaranteed"],
    ),
    ("core.v1.PortStatus", "protocol", PROTOCOLS),
    (
        "core.v1.ScopedResourceSelectorRequirement",
        "operator",
        &resource_quota::OPERATORS,
    ),
    (
        "core.v1.ScopedResourceSelectorRequirement",
        "scopeName",
        &resource_quota::SCOPES,
    ),
    ("core.v1.SeccompProfile", "type", PROFILES),
    ("core.v1.SecurityContext", "procMount", &["Default", "Unmasked"]),
    ("core.v1.ServicePort", "protocol", PROTOCOLS),
    ("core.v1.ServiceSpec", "externalTrafficPolicy", TRAFFIC),
    ("core.v1.ServiceSpec", "internalTrafficPolicy", TRAFFIC),
    (
        "core.v1.ServiceSpec",
        "ipFamilyPolicy",
        &["PreferDualStack", "RequireDualStack", "SingleStack"],
    ),
    ("core.v1.ServiceSpec", "sessionAffinity", &["ClientIP", "None"]),
    (
        "core.v1.ServiceSpec",
        "type",
        &["ClusterIP", "ExternalName", "LoadBalancer", "NodePort"],
    ),
    ("core.v1.Taint", "effect", EFFECTS),
    ("core.v1.Toleration", "effect", EFFECTS),
    ("core.v1.Toleration", "operator", &["Equal", "Exists", "Gt", "Lt"]),
    (
        "core.v1.TopologySpreadConstraint",
        "nodeAffinityPolicy",
        INCLUSION,
    ),
    ("core.v1.TopologySpreadConstraint", "nodeTaintsPolicy", INCLUSION),
    (
        "core.v1.TopologySpreadConstraint",
        "whenUnsatisfiable",
        &["DoNotSchedule", "ScheduleAnyway"],
    ),
    (
        "core.v1.VolumeMount",
        "mountPropagation",
        &["Bidirectional", "HostToContainer", "None"],
    ),
    ("discovery.v1.EndpointPort", "protocol", PROTOCOLS),
    (
        "discovery.v1.EndpointSlice",
        "addressType",
        &["FQDN", "IPv4", "IPv6"],
    ),
    (
        "networking.v1.HTTPIngressPath",
        "pathType",
        &["Exact", "ImplementationSpecific", "Prefix"],
    ),
    ("networking.v1.IngressPortStatus", "protocol", PROTOCOLS),
    ("networking.v1.NetworkPolicyPort", "protocol", PROTOCOLS),
    (
        "policy.v1.PodDisruptionBudgetSpec",
        "unhealthyPodEvictionPolicy",
        &["AlwaysAllow", "IfHealthyBudget"],
    ),
    ("scheduling.v1.PriorityClass", "preemptionPolicy", PREEMPTION),
    ("storage.v1.StorageClass", "reclaimPolicy", RECLAIM_POLICIES),
    (
        "storage.v1.StorageClass",
        "volumeBindingMode",
        &["Immediate", "WaitForFirstConsumer"],
    ),
    // What stopped a container, or is to stop it.
    ("core.v1.ContainerStatus", "stopSignal", SIGNALS),
    ("core.v1.Lifecycle", "stopSignal", SIGNALS),
    (
        "admissionregistration.v1.Mutation",
        "patchType",
        &["ApplyConfiguration", "JSONPatch"],
    ),
    (
        "admissionregistration.v1.NamedRuleWithOperations",
        "operations",
        OPERATIONS,
    ),
    (
        "admissionregistration.v1.RuleWithOperations",
        "operations",
        OPERATIONS,
    ),
    (
        "admissionregistration.v1.ValidatingAdmissionPolicyBindingSpec",
        "validationActions",
        &["Audit", "Deny", "Warn"],
    ),
    ("certificates.v1.CertificateSigningRequestSpec", "usages", &USAGES),
    ("core.v1.PersistentVolumeClaimSpec", "accessModes", ACCESS_MODES),
    ("core.v1.PersistentVolumeClaimStatus", "accessModes", ACCESS_MODES),
    (
        "core.v1.PersistentVolumeClaimStatus",
        "allocatedResourceStatuses",
        &[
            "ControllerResizeInProgress",
            "ControllerResizeInfeasible",
            "NodeResizeInProgress",
            "NodeResizeInfeasible",
            "NodeResizePending",
        ],
    ),
    ("core.v1.PersistentVolumeSpec", "accessModes", ACCESS_MODES),
    ("core.v1.ResourceQuotaSpec", "scopes", &resource_quota::SCOPES),
    ("core.v1.ServiceSpec", "ipFamilies", &["", "IPv4", "IPv6"]),
    (
        "networking.v1.NetworkPolicySpec",
        "policyTypes",
        &["Egress", "Ingress"],
    ),
    (
        "resource.v1.DeviceAllocationConfiguration",
        "source",
        &["FromClaim", "FromClass"],
    ),
    (
        "resource.v1.DeviceSubRequest",
        "allocationMode",
        &["All", "ExactCount"],
    ),
    ("resource.v1.DeviceTaint", "effect", DEVICE_EFFECTS),
    ("resource.v1.DeviceToleration", "effect", DEVICE_EFFECTS),
    ("resource.v1.DeviceToleration", "operator", &["Equal", "Exists"]),
    (
        "resource.v1.ExactDeviceRequest",
        "allocationMode",
        &["All", "ExactCount"],
    ),
];

/// Tells of a schema's fields which texts they may hold.
pub(super) fn complete(name: &str, schema: &mut Value) {
    let Some(short) = name.strip_prefix("io.k8s.api.") else {
        return;
    };
    for (_, field, texts) in ENUMS.iter().filter(|(definition, ..)| *definition == short) {
        let property = schema.get_mut("properties").and_then(|all| all.get_mut(*field));
        if let Some(Value::Object(property)) = property {
            tell(property, texts);
        }
    }
}

fn tell(property: &mut Map<String, Value>, texts: &[&str]) {
    // Of a list or a map each value is meant.
    for inner in ["items", "additionalProperties"] {
        if let Some(Value::Object(values)) = property.get_mut(inner) {
            values.insert("enum".into(), json!(texts));
            return;
        }
    }
    property.insert("enum".into(), json!(texts));
    if let Some(Value::String(description)) = property.get_mut("description") {
        description.push_str("\n\nPossible enum values:");
        for text in texts {
            description.push_str(&format!("\n - `{text:?}`"));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use skiff_api::schema;

    #[test]
    fn every_field_of_the_table_is_a_text_of_its_definition() {
        for (definition, field, texts) in ENUMS {
            let name = format!("io.k8s.api.{definition}");
            let mut found = schema::openapi_schema(&name).unwrap_or_else(|| panic!("{name}"));
            let inner = match found["properties"][field]["type"].as_str() {
                Some("array") => "/items",
                Some("object") => "/additionalProperties",
                _ => "",
            };
            complete(&name, &mut found);
            let told = found["properties"][field].pointer(inner).unwrap();
            assert_eq!(told["type"], "string", "{name}.{field}");
            assert_eq!(told["enum"], json!(texts), "{name}.{field}");
            assert!(texts.is_sorted(), "{name}.{field}");
        }
        let mut port = schema::openapi_schema("io.k8s.api.core.v1.ContainerPort").unwrap();
        complete("io.k8s.api.core.v1.ContainerPort", &mut port);
        let told = port["properties"]["protocol"]["description"].as_str().unwrap();
        assert!(
            told.ends_with("\n\nPossible enum values:\n - `\"SCTP\"`\n - `\"TCP\"`\n - `\"UDP\"`"),
            "{told}"
        );
    }
}
