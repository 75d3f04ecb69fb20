//! How lists, maps and objects merge: the facts that the types' own schemas do not tell.
//!
//! Upstream writes them into its types as markers (`+listType`, `+listMapKey`, `+patchStrategy`, `+patchMergeKey`,
//! `+structType`). A list that is not named here is replaced as a whole.

use crate::merge::Merge;

/// Both patch and apply tell elements apart by this key.
const fn by(keys: &'static [&'static str]) -> Merge {
    match keys {
        [first, ..] => Merge::Map {
            patch_key: first,
            keys,
        },
        [] => Merge::Atomic,
    }
}

/// Only apply tells elements apart.
const fn apply_by(keys: &'static [&'static str]) -> Merge {
    Merge::Map { patch_key: "", keys }
}

/// Only the patch tells elements apart.
const fn patch_by(patch_key: &'static str) -> Merge {
    Merge::Map { patch_key, keys: &[] }
}

const NAME: Merge = by(&["name"]);
const TYPE: Merge = by(&["type"]);

/// Fields by definition (without `io.k8s.`) and name.
pub(crate) const FIELDS: &[(&str, &str, Merge)] = &[
    (
        "api.admissionregistration.v1.MutatingAdmissionPolicySpec",
        "matchConditions",
        NAME,
    ),
    (
        "api.admissionregistration.v1.MutatingWebhook",
        "matchConditions",
        NAME,
    ),
    (
        "api.admissionregistration.v1.MutatingWebhookConfiguration",
        "webhooks",
        NAME,
    ),
    (
        "api.admissionregistration.v1.ValidatingAdmissionPolicyBindingSpec",
        "validationActions",
        Merge::ApplySet,
    ),
    (
        "api.admissionregistration.v1.ValidatingAdmissionPolicySpec",
        "matchConditions",
        NAME,
    ),
    (
        "api.admissionregistration.v1.ValidatingAdmissionPolicySpec",
        "variables",
        NAME,
    ),
    (
        "api.admissionregistration.v1.ValidatingAdmissionPolicyStatus",
        "conditions",
        apply_by(&["type"]),
    ),
    (
        "api.admissionregistration.v1.ValidatingWebhook",
        "matchConditions",
        NAME,
    ),
    (
        "api.admissionregistration.v1.ValidatingWebhookConfiguration",
        "webhooks",
        NAME,
    ),
    ("api.apps.v1.DaemonSetStatus", "conditions", TYPE),
    ("api.apps.v1.DeploymentSpec", "strategy", Merge::RetainKeys),
    ("api.apps.v1.DeploymentStatus", "conditions", TYPE),
    ("api.apps.v1.ReplicaSetStatus", "conditions", TYPE),
    ("api.apps.v1.StatefulSetStatus", "conditions", TYPE),
    (
        "api.autoscaling.v2.HorizontalPodAutoscalerStatus",
        "conditions",
        TYPE,
    ),
    ("api.batch.v1.JobStatus", "conditions", patch_by("type")),
    (
        "api.batch.v1.PodFailurePolicyOnExitCodesRequirement",
        "values",
        Merge::ApplySet,
    ),
    ("api.batch.v1.UncountedTerminatedPods", "failed", Merge::ApplySet),
    (
        "api.batch.v1.UncountedTerminatedPods",
        "succeeded",
        Merge::ApplySet,
    ),
    (
        "api.certificates.v1.CertificateSigningRequestStatus",
        "conditions",
        apply_by(&["type"]),
    ),
    (
        "api.certificates.v1.PodCertificateRequestStatus",
        "conditions",
        TYPE,
    ),
    ("api.core.v1.ComponentStatus", "conditions", TYPE),
    ("api.core.v1.Container", "env", NAME),
    (
        "api.core.v1.Container",
        "ports",
        by(&["containerPort", "protocol"]),
    ),
    ("api.core.v1.Container", "volumeDevices", by(&["devicePath"])),
    ("api.core.v1.Container", "volumeMounts", by(&["mountPath"])),
    (
        "api.core.v1.ContainerRestartRuleOnExitCodes",
        "values",
        Merge::ApplySet,
    ),
    ("api.core.v1.ContainerStatus", "allocatedResourcesStatus", NAME),
    ("api.core.v1.ContainerStatus", "volumeMounts", by(&["mountPath"])),
    ("api.core.v1.EphemeralContainer", "env", NAME),
    (
        "api.core.v1.EphemeralContainer",
        "ports",
        by(&["containerPort", "protocol"]),
    ),
    (
        "api.core.v1.EphemeralContainer",
        "volumeDevices",
        by(&["devicePath"]),
    ),
    (
        "api.core.v1.EphemeralContainer",
        "volumeMounts",
        by(&["mountPath"]),
    ),
    ("api.core.v1.NamespaceStatus", "conditions", TYPE),
    (
        "api.core.v1.NodeAllocatableResourceClaimStatus",
        "containers",
        Merge::ApplySet,
    ),
    (
        "api.core.v1.NodeAllocatableResourceClaimStatus",
        "mapping",
        apply_by(&["name"]),
    ),
    (
        "api.core.v1.NodeAllocatableResourceClaimStatus",
        "overhead",
        apply_by(&["name"]),
    ),
    (
        "api.core.v1.NodePodPreemptionPolicy",
        "disableResizePreemption",
        Merge::ApplySet,
    ),
    ("api.core.v1.NodeSpec", "podCIDRs", Merge::Set),
    ("api.core.v1.NodeStatus", "addresses", TYPE),
    ("api.core.v1.NodeStatus", "conditions", TYPE),
    ("api.core.v1.PersistentVolumeClaimStatus", "conditions", TYPE),
    ("api.core.v1.PodSpec", "containers", NAME),
    ("api.core.v1.PodSpec", "ephemeralContainers", NAME),
    ("api.core.v1.PodSpec", "evictionResponders", NAME),
    ("api.core.v1.PodSpec", "hostAliases", by(&["ip"])),
    ("api.core.v1.PodSpec", "imagePullSecrets", NAME),
    ("api.core.v1.PodSpec", "initContainers", NAME),
    ("api.core.v1.PodSpec", "nodeSelector", Merge::Atomic),
    ("api.core.v1.PodSpec", "resourceClaims", NAME),
    ("api.core.v1.PodSpec", "schedulingGates", NAME),
    (
        "api.core.v1.PodSpec",
        "topologySpreadConstraints",
        by(&["topologyKey", "whenUnsatisfiable"]),
    ),
    ("api.core.v1.PodSpec", "volumes", NAME),
    ("api.core.v1.PodStatus", "conditions", TYPE),
    ("api.core.v1.PodStatus", "hostIPs", patch_by("ip")),
    (
        "api.core.v1.PodStatus",
        "nodeAllocatableResourceClaimStatuses",
        apply_by(&["resourceClaimName"]),
    ),
    ("api.core.v1.PodStatus", "podIPs", by(&["ip"])),
    ("api.core.v1.PodStatus", "resourceClaimStatuses", NAME),
    ("api.core.v1.PodStatus", "volumeHealth", apply_by(&["name"])),
    (
        "api.core.v1.PodVolumeHealth",
        "healthConditions",
        apply_by(&["status"]),
    ),
    ("api.core.v1.ReplicationControllerSpec", "selector", Merge::Atomic),
    ("api.core.v1.ReplicationControllerStatus", "conditions", TYPE),
    ("api.core.v1.ResourceRequirements", "claims", apply_by(&["name"])),
    (
        "api.core.v1.ResourceStatus",
        "resources",
        apply_by(&["resourceID"]),
    ),
    ("api.core.v1.ServiceAccount", "secrets", NAME),
    ("api.core.v1.ServiceSpec", "ports", by(&["port", "protocol"])),
    ("api.core.v1.ServiceSpec", "selector", Merge::Atomic),
    ("api.core.v1.ServiceStatus", "conditions", TYPE),
    (
        "api.core.v1.VolumeHealthStatus",
        "healthConditions",
        apply_by(&["status"]),
    ),
    ("api.core.v1.VolumeMount", "bindMountOptions", Merge::ApplySet),
    ("api.discovery.v1.Endpoint", "addresses", Merge::ApplySet),
    ("api.flowcontrol.v1.FlowSchemaStatus", "conditions", TYPE),
    (
        "api.flowcontrol.v1.NonResourcePolicyRule",
        "nonResourceURLs",
        Merge::ApplySet,
    ),
    (
        "api.flowcontrol.v1.NonResourcePolicyRule",
        "verbs",
        Merge::ApplySet,
    ),
    (
        "api.flowcontrol.v1.PriorityLevelConfigurationStatus",
        "conditions",
        TYPE,
    ),
    (
        "api.flowcontrol.v1.ResourcePolicyRule",
        "apiGroups",
        Merge::ApplySet,
    ),
    (
        "api.flowcontrol.v1.ResourcePolicyRule",
        "namespaces",
        Merge::ApplySet,
    ),
    (
        "api.flowcontrol.v1.ResourcePolicyRule",
        "resources",
        Merge::ApplySet,
    ),
    ("api.flowcontrol.v1.ResourcePolicyRule", "verbs", Merge::ApplySet),
    ("api.networking.v1.ServiceCIDRStatus", "conditions", TYPE),
    ("api.node.v1.Scheduling", "nodeSelector", Merge::Atomic),
    (
        "api.policy.v1.PodDisruptionBudgetSpec",
        "selector",
        Merge::Replace,
    ),
    ("api.policy.v1.PodDisruptionBudgetStatus", "conditions", TYPE),
    (
        "api.resource.v1.AllocatedDeviceStatus",
        "conditions",
        apply_by(&["type"]),
    ),
    ("api.resource.v1.DeviceTaintRuleStatus", "conditions", TYPE),
    (
        "api.resource.v1.ResourceClaimStatus",
        "devices",
        apply_by(&["driver", "device", "pool", "shareID"]),
    ),
    ("api.resource.v1.ResourceClaimStatus", "reservedFor", by(&["uid"])),
    (
        "api.storage.v1.CSIDriverSpec",
        "volumeLifecycleModes",
        Merge::ApplySet,
    ),
    ("api.storage.v1.CSINodeSpec", "drivers", NAME),
    (
        "api.storagemigration.v1.StorageVersionMigrationStatus",
        "conditions",
        TYPE,
    ),
    (
        "apiextensions-apiserver.pkg.apis.apiextensions.v1.CustomResourceDefinitionStatus",
        "conditions",
        apply_by(&["type"]),
    ),
    (
        "apiextensions-apiserver.pkg.apis.apiextensions.v1.JSONSchemaProps",
        "x-kubernetes-validations",
        by(&["rule"]),
    ),
    (
        "apimachinery.pkg.apis.meta.v1.ObjectMeta",
        "finalizers",
        Merge::Set,
    ),
    (
        "apimachinery.pkg.apis.meta.v1.ObjectMeta",
        "ownerReferences",
        by(&["uid"]),
    ),
    (
        "kube-aggregator.pkg.apis.apiregistration.v1.APIServiceStatus",
        "conditions",
        TYPE,
    ),
];

/// The lists of [`FIELDS`] whose elements a strategic merge patch may also reduce to the keys that it names.
pub(crate) const RETAIN_KEYS: &[(&str, &str)] = &[
    ("api.core.v1.PodSpec", "resourceClaims"),
    ("api.core.v1.PodSpec", "volumes"),
    ("api.core.v1.PodStatus", "resourceClaimStatuses"),
];

/// The objects that server-side apply replaces as a whole, wherever they stand.
pub(crate) const ATOMIC: &[&str] = &[
    "api.admissionregistration.v1.MatchResources",
    "api.admissionregistration.v1.NamedRuleWithOperations",
    "api.admissionregistration.v1.ParamKind",
    "api.admissionregistration.v1.ParamRef",
    "api.admissionregistration.v1.Variable",
    "api.autoscaling.v1.CrossVersionObjectReference",
    "api.core.v1.ConfigMapKeySelector",
    "api.core.v1.EndpointAddress",
    "api.core.v1.EndpointPort",
    "api.core.v1.FileKeySelector",
    "api.core.v1.LocalObjectReference",
    "api.core.v1.NodeSelector",
    "api.core.v1.NodeSelectorTerm",
    "api.core.v1.ObjectFieldSelector",
    "api.core.v1.ObjectReference",
    "api.core.v1.ResourceFieldSelector",
    "api.core.v1.ScopeSelector",
    "api.core.v1.SecretKeySelector",
    "api.core.v1.SecretReference",
    "api.core.v1.TopologySelectorTerm",
    "api.core.v1.TypedLocalObjectReference",
    "api.discovery.v1.EndpointPort",
    "api.networking.v1.ServiceBackendPort",
    "api.rbac.v1.RoleRef",
    "api.rbac.v1.Subject",
    "apimachinery.pkg.apis.meta.v1.LabelSelector",
    "apimachinery.pkg.apis.meta.v1.OwnerReference",
];

/// The fields whose parts apply tells apart, though what they hold is elsewhere replaced as a whole.
pub(crate) const GRANULAR: &[(&str, &str)] = &[
    (
        "api.core.v1.PersistentVolumeClaimStatus",
        "allocatedResourceStatuses",
    ),
    ("api.core.v1.PersistentVolumeSpec", "claimRef"),
];

/// Definitions of which one field tells which other is used: the field that tells (or none), and what it says of each.
#[allow(clippy::type_complexity, reason = "a table")]
pub(crate) const UNIONS: &[(&str, &str, &[(&str, &str)])] = &[
    (
        "api.core.v1.AppArmorProfile",
        "type",
        &[("localhostProfile", "LocalhostProfile")],
    ),
    (
        "api.core.v1.PodSchedulingGroup",
        "",
        &[("podGroupName", "PodGroupName")],
    ),
    (
        "api.core.v1.SeccompProfile",
        "type",
        &[("localhostProfile", "LocalhostProfile")],
    ),
    (
        "api.flowcontrol.v1.LimitResponse",
        "type",
        &[("queuing", "Queuing")],
    ),
    (
        "api.flowcontrol.v1.PriorityLevelConfigurationSpec",
        "type",
        &[("exempt", "Exempt"), ("limited", "Limited")],
    ),
    (
        "api.flowcontrol.v1.Subject",
        "kind",
        &[
            ("group", "Group"),
            ("serviceAccount", "ServiceAccount"),
            ("user", "User"),
        ],
    ),
];

/// The fact of a field; `None` where there is none.
pub(crate) fn of(definition: &str, field: &str) -> Merge {
    let definition = definition.strip_prefix("io.k8s.").unwrap_or(definition);
    FIELDS
        .iter()
        .find(|(of, name, _)| *of == definition && *name == field)
        .map_or(Merge::None, |(_, _, merge)| *merge)
}
