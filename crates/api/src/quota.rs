//! What objects use of a ResourceQuota: the rules that admission, which charges, and the quota controller, which
//! recounts, have in common (upstream's `pkg/quota/v1/evaluator`).

use std::collections::{BTreeMap, BTreeSet};

use jiff::{SignedDuration, Timestamp};
use k8s_openapi::api::core::v1::{
    Container, PersistentVolumeClaim, Pod, PodAffinityTerm, ResourceQuotaSpec,
    ScopedResourceSelectorRequirement, Service,
};
use k8s_openapi::apimachinery::pkg::api::resource::Quantity as Text;

use crate::core::persistent_volume_claim::class_name;
use crate::core::pod_spec::resources::{is_extended, is_native};
use crate::object::Object;
use crate::pod::{self, QosClass, Resources};
use crate::quantity::Quantity;

/// What stands between a storage class and the resource of its claims, as in
/// `gold.storageclass.storage.k8s.io/requests.storage`.
const OF_CLASS: &str = ".storageclass.storage.k8s.io/";

/// The resources that every container has to ask for once a quota limits them.
const DEMANDED: [&str; 6] = [
    "cpu",
    "limits.cpu",
    "limits.memory",
    "memory",
    "requests.cpu",
    "requests.memory",
];

/// The kinds that were counted by their plain name before there was `count/…`.
const PLAIN_COUNTS: [&str; 4] = [
    "configmaps",
    "replicationcontrollers",
    "resourcequotas",
    "secrets",
];

/// An object as quotas see it.
#[derive(Clone, Copy, Debug)]
pub enum Counted<'a> {
    /// What it requests and is limited to counts as well.
    Pod(&'a Pod),
    /// Its node ports and its load balancer count as well.
    Service(&'a Service),
    /// Its storage counts as well, also by class.
    Claim(&'a PersistentVolumeClaim),
    /// Only that it is there counts; the resource's name with its group, as `deployments.apps`.
    Other(&'a str),
}

impl<'a> Counted<'a> {
    /// An object of the resource with this name, e.g. `deployments.apps`.
    pub fn of(group_resource: &'a str, object: &'a dyn Object) -> Self {
        let any = object.as_any();
        if let Some(pod) = any.downcast_ref() {
            Self::Pod(pod)
        } else if let Some(service) = any.downcast_ref() {
            Self::Service(service)
        } else if let Some(claim) = any.downcast_ref() {
            Self::Claim(claim)
        } else {
            Self::Other(group_resource)
        }
    }

    /// What the object uses.
    pub fn usage(self, now: Timestamp) -> Resources {
        match self {
            Self::Pod(pod) => of_pod(pod, now),
            Self::Service(service) => of_service(service),
            Self::Claim(claim) => of_claim(claim),
            Self::Other(resource) => {
                let mut used = Resources::from([(format!("count/{resource}"), Quantity::whole(1))]);
                if PLAIN_COUNTS.contains(&resource) {
                    used.insert(resource.to_string(), Quantity::whole(1));
                }
                used
            }
        }
    }

    /// Whether objects of this kind are what a quota of this resource is about.
    pub fn is_measured_by(self, resource: &str) -> bool {
        match self {
            Self::Pod(_) => {
                matches!(resource, "pods" | "count/pods")
                    || ["", "requests.", "limits."].iter().any(|prefix| {
                        let rest = resource.strip_prefix(prefix);
                        rest.is_some_and(|rest| matches!(rest, "cpu" | "memory" | "ephemeral-storage"))
                    })
                    || resource.starts_with("hugepages-")
                    || resource.starts_with("requests.hugepages-")
                    || resource.starts_with("requests.") && !is_native(resource)
            }
            Self::Service(_) => matches!(
                resource,
                "count/services" | "services" | "services.nodeports" | "services.loadbalancers"
            ),
            Self::Claim(_) => {
                matches!(
                    resource,
                    "count/persistentvolumeclaims" | "persistentvolumeclaims" | "requests.storage"
                ) || resource.ends_with(&format!("{OF_CLASS}requests.storage"))
                    || resource.ends_with(&format!("{OF_CLASS}persistentvolumeclaims"))
            }
            Self::Other(own) => {
                resource.strip_prefix("count/") == Some(own) || PLAIN_COUNTS.contains(&own) && resource == own
            }
        }
    }

    /// Whether a quota with these limits and scopes is about this object.
    pub fn is_within<'r>(
        self,
        hard: impl IntoIterator<Item = &'r String>,
        scopes: &[ScopedResourceSelectorRequirement],
    ) -> bool {
        hard.into_iter().any(|resource| self.is_measured_by(resource))
            && scopes.iter().all(|scope| self.is_in_scope(scope))
    }

    fn is_in_scope(self, scope: &ScopedResourceSelectorRequirement) -> bool {
        match self {
            Self::Pod(pod) => pod_is_in_scope(pod, scope),
            Self::Claim(claim) if scope.scope_name == "VolumeAttributesClass" => {
                let spec = claim.spec.as_ref();
                let wanted = spec.and_then(|spec| spec.volume_attributes_class_name.as_deref());
                let status = claim.status.as_ref();
                let present =
                    status.and_then(|status| status.current_volume_attributes_class_name.as_deref());
                let target = status
                    .and_then(|status| status.modify_volume_status.as_ref())
                    .and_then(|status| status.target_volume_attributes_class_name.as_deref());
                let classes: BTreeSet<&str> = [wanted, present, target]
                    .into_iter()
                    .flatten()
                    .filter(|class| !class.is_empty())
                    .collect();
                if classes.is_empty() {
                    selects(scope, None)
                } else {
                    classes.into_iter().any(|class| selects(scope, Some(class)))
                }
            }
            Self::Claim(_) | Self::Service(_) | Self::Other(_) => false,
        }
    }

    /// What is missing that the object would have to say, now that these resources are limited; the text that stands
    /// in the refusal.
    pub fn lacks<'r>(self, limited: impl IntoIterator<Item = &'r String>) -> Option<String> {
        let Self::Pod(pod) = self else { return None };
        let spec = pod.spec.as_ref()?;
        if is_sized_as_a_whole(spec) {
            return None;
        }
        let demanded: BTreeSet<&str> = limited
            .into_iter()
            .map(String::as_str)
            .filter(|resource| DEMANDED.contains(resource))
            .collect();
        let missing: Vec<String> = demanded
            .into_iter()
            .filter_map(|resource| {
                let names: BTreeSet<&str> = spec
                    .containers
                    .iter()
                    .chain(spec.init_containers.iter().flatten())
                    .filter(|container| !says(container, resource))
                    .map(|container| container.name.as_str())
                    .collect();
                let names: Vec<&str> = names.into_iter().collect();
                (!names.is_empty()).then(|| format!("{resource} for: {}", names.join(",")))
            })
            .collect();
        (!missing.is_empty()).then(|| format!("must specify {}", missing.join("; ")))
    }
}

/// The scopes of a quota, those of either field.
pub fn scopes(spec: &ResourceQuotaSpec) -> Vec<ScopedResourceSelectorRequirement> {
    let plain = spec
        .scopes
        .iter()
        .flatten()
        .map(|scope| ScopedResourceSelectorRequirement {
            scope_name: scope.clone(),
            operator: "Exists".into(),
            values: None,
        });
    let selected = spec
        .scope_selector
        .iter()
        .flat_map(|selector| selector.match_expressions.iter().flatten().cloned());
    plain.chain(selected).collect()
}

/// Amounts as numbers.
pub fn amounts(texts: Option<&BTreeMap<String, Text>>) -> Resources {
    texts
        .into_iter()
        .flatten()
        .map(|(name, text)| (name.clone(), Quantity::of(text)))
        .collect()
}

/// Amounts as an object holds them.
pub fn texts(amounts: &Resources) -> BTreeMap<String, Text> {
    amounts
        .iter()
        .map(|(name, amount)| (name.clone(), Text(amount.to_string())))
        .collect()
}

/// Adds amounts up.
pub fn add(total: &mut Resources, more: &Resources) {
    for (name, amount) in more {
        *total.entry(name.clone()).or_default() += *amount;
    }
}

fn is_sized_as_a_whole(spec: &k8s_openapi::api::core::v1::PodSpec) -> bool {
    spec.resources.as_ref().is_some_and(|resources| {
        [&resources.requests, &resources.limits]
            .into_iter()
            .flatten()
            .flat_map(BTreeMap::keys)
            .any(|name| pod::is_pod_level(name))
    })
}

fn says(container: &Container, resource: &str) -> bool {
    let Some(resources) = &container.resources else {
        return false;
    };
    let (side, name) = match resource.split_once('.') {
        Some(("limits", name)) => (&resources.limits, name),
        Some((_, name)) => (&resources.requests, name),
        None => (&resources.requests, resource),
    };
    side.as_ref().is_some_and(|side| side.contains_key(name))
}

/// Whether a pod still uses what it asked for: it has not ended, and is not dead but for its object.
fn is_charged(pod: &Pod, now: Timestamp) -> bool {
    if pod::is_terminal(pod) {
        return false;
    }
    let meta = &pod.metadata;
    match (&meta.deletion_timestamp, meta.deletion_grace_period_seconds) {
        (Some(deadline), Some(grace)) => {
            let end = deadline.0.checked_add(SignedDuration::from_secs(grace));
            end.is_ok_and(|end| now <= end)
        }
        _ => true,
    }
}

fn of_pod(pod: &Pod, now: Timestamp) -> Resources {
    let mut used = Resources::from([("count/pods".to_string(), Quantity::whole(1))]);
    if !is_charged(pod, now) {
        return used;
    }
    used.insert("pods".into(), Quantity::whole(1));
    let Some(spec) = &pod.spec else { return used };
    for (name, amount) in pod::requests(spec) {
        if matches!(name.as_str(), "cpu" | "memory" | "ephemeral-storage") || name.starts_with("hugepages-") {
            used.insert(format!("requests.{name}"), amount);
            used.insert(name, amount);
        } else if is_extended(&name) {
            used.insert(format!("requests.{name}"), amount);
        }
    }
    for (name, amount) in pod::limits(spec) {
        if matches!(name.as_str(), "cpu" | "memory" | "ephemeral-storage") {
            used.insert(format!("limits.{name}"), amount);
        }
    }
    used
}

fn of_service(service: &Service) -> Resources {
    let spec = service.spec.clone().unwrap_or_default();
    let ports = spec.ports.as_deref().unwrap_or_default();
    let whole = |count: usize| Quantity::whole(i64::try_from(count).unwrap_or(i64::MAX));
    let with_node_port = ports
        .iter()
        .filter(|port| port.node_port.is_some_and(|port| port != 0))
        .count();
    let (node_ports, balancers) = match spec.type_.as_deref() {
        Some("NodePort") => (ports.len(), 0),
        Some("LoadBalancer") if spec.allocate_load_balancer_node_ports == Some(false) => (with_node_port, 1),
        Some("LoadBalancer") => (ports.len(), 1),
        _ => (0, 0),
    };
    Resources::from([
        ("count/services".to_string(), Quantity::whole(1)),
        ("services".to_string(), Quantity::whole(1)),
        ("services.nodeports".to_string(), whole(node_ports)),
        ("services.loadbalancers".to_string(), whole(balancers)),
    ])
}

fn of_claim(claim: &PersistentVolumeClaim) -> Resources {
    let mut used = Resources::from([
        ("count/persistentvolumeclaims".to_string(), Quantity::whole(1)),
        ("persistentvolumeclaims".to_string(), Quantity::whole(1)),
    ]);
    let class = class_name(claim).filter(|class| !class.is_empty());
    if let Some(class) = class {
        used.insert(
            format!("{class}{OF_CLASS}persistentvolumeclaims"),
            Quantity::whole(1),
        );
    }
    let requested = claim
        .spec
        .as_ref()
        .and_then(|spec| spec.resources.as_ref()?.requests.as_ref()?.get("storage"));
    let Some(requested) = requested else {
        return used;
    };
    // While a volume grows, what was set aside for that may be more than is asked for by now.
    let allocated = claim
        .status
        .as_ref()
        .and_then(|status| status.allocated_resources.as_ref()?.get("storage"));
    let storage = Quantity::of(requested).max(allocated.map(Quantity::of).unwrap_or_default());
    if let Some(class) = class {
        used.insert(format!("{class}{OF_CLASS}requests.storage"), storage);
    }
    used.insert("requests.storage".into(), storage);
    used
}

fn pod_is_in_scope(pod: &Pod, scope: &ScopedResourceSelectorRequirement) -> bool {
    let Some(spec) = &pod.spec else { return false };
    let ends = spec.active_deadline_seconds.is_some_and(|seconds| seconds >= 0);
    match scope.scope_name.as_str() {
        "Terminating" => ends,
        "NotTerminating" => !ends,
        "BestEffort" => pod::qos_class(spec) == QosClass::BestEffort,
        "NotBestEffort" => pod::qos_class(spec) != QosClass::BestEffort,
        "PriorityClass" => {
            let class = spec.priority_class_name.as_deref();
            selects(scope, class.filter(|class| !class.is_empty()))
        }
        "CrossNamespacePodAffinity" => reaches_other_namespaces(spec),
        _ => false,
    }
}

fn selects(scope: &ScopedResourceSelectorRequirement, class: Option<&str>) -> bool {
    let named = |class: &str| scope.values.iter().flatten().any(|value| value == class);
    match scope.operator.as_str() {
        "Exists" => class.is_some(),
        "DoesNotExist" => class.is_none(),
        "In" => class.is_some_and(named),
        "NotIn" => !class.is_some_and(named),
        _ => false,
    }
}

fn reaches_other_namespaces(spec: &k8s_openapi::api::core::v1::PodSpec) -> bool {
    let reaches = |term: &PodAffinityTerm| {
        term.namespaces.as_ref().is_some_and(|names| !names.is_empty()) || term.namespace_selector.is_some()
    };
    let Some(affinity) = &spec.affinity else {
        return false;
    };
    let near = affinity.pod_affinity.iter().map(|near| {
        (
            &near.required_during_scheduling_ignored_during_execution,
            &near.preferred_during_scheduling_ignored_during_execution,
        )
    });
    let apart = affinity.pod_anti_affinity.iter().map(|apart| {
        (
            &apart.required_during_scheduling_ignored_during_execution,
            &apart.preferred_during_scheduling_ignored_during_execution,
        )
    });
    near.chain(apart).any(|(required, preferred)| {
        required.iter().flatten().any(reaches)
            || preferred
                .iter()
                .flatten()
                .any(|term| reaches(&term.pod_affinity_term))
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::{Value, json};

    fn shown(resources: &Resources) -> Vec<String> {
        resources
            .iter()
            .map(|(name, amount)| format!("{name}={amount}"))
            .collect()
    }

    fn pod(spec: Value) -> Pod {
        serde_json::from_value(json!({"metadata": {"name": "p"}, "spec": spec})).unwrap()
    }

    fn now() -> Timestamp {
        Timestamp::from_second(1_000).unwrap()
    }

    #[test]
    fn a_pod_uses_what_it_asks_for_until_it_ends() {
        let mut pod = pod(json!({"containers": [{"name": "a", "resources": {
            "requests": {"cpu": "500m", "memory": "1Gi", "example.com/gpu": "2"}, "limits": {"cpu": "1"}
        }}]}));
        let running = [
            "count/pods=1",
            "cpu=500m",
            "limits.cpu=1",
            "memory=1Gi",
            "pods=1",
            "requests.cpu=500m",
            "requests.example.com/gpu=2",
            "requests.memory=1Gi",
        ];
        assert_eq!(shown(&Counted::Pod(&pod).usage(now())), running);
        pod.status.get_or_insert_default().phase = Some("Succeeded".into());
        assert_eq!(shown(&Counted::Pod(&pod).usage(now())), ["count/pods=1"]);
        // One that should have been gone long since is not held against anybody.
        pod.status = None;
        pod.metadata.deletion_grace_period_seconds = Some(30);
        for (deadline, expected) in [(969, 1), (970, running.len())] {
            pod.metadata.deletion_timestamp = Some(k8s_openapi::apimachinery::pkg::apis::meta::v1::Time(
                Timestamp::from_second(deadline).unwrap(),
            ));
            assert_eq!(Counted::Pod(&pod).usage(now()).len(), expected, "{deadline}");
        }
    }

    #[test]
    fn services_and_claims_use_more_than_their_number() {
        let service = |spec: Value| -> Vec<String> {
            let service: Service = serde_json::from_value(json!({"spec": spec})).unwrap();
            shown(&Counted::Service(&service).usage(now()))[2..].to_vec()
        };
        let ports = json!([{"port": 1}, {"port": 2, "nodePort": 30000}]);
        for (spec, balancers, node_ports) in [
            (json!({"type": "ClusterIP", "ports": ports}), 0, 0),
            (json!({"type": "NodePort", "ports": ports}), 0, 2),
            (json!({"type": "LoadBalancer", "ports": ports}), 1, 2),
            (
                json!({"type": "LoadBalancer", "ports": ports, "allocateLoadBalancerNodePorts": false}),
                1,
                1,
            ),
        ] {
            let expected = [
                format!("services.loadbalancers={balancers}"),
                format!("services.nodeports={node_ports}"),
            ];
            assert_eq!(service(spec.clone()), expected, "{spec}");
        }
        let claim: PersistentVolumeClaim = serde_json::from_value(json!({
            "spec": {"storageClassName": "gold", "resources": {"requests": {"storage": "1Gi"}}},
            "status": {"allocatedResources": {"storage": "2Gi"}}
        }))
        .unwrap();
        assert_eq!(
            shown(&Counted::Claim(&claim).usage(now())),
            [
                "count/persistentvolumeclaims=1",
                "gold.storageclass.storage.k8s.io/persistentvolumeclaims=1",
                "gold.storageclass.storage.k8s.io/requests.storage=2Gi",
                "persistentvolumeclaims=1",
                "requests.storage=2Gi",
            ]
        );
        assert_eq!(
            shown(&Counted::Other("secrets").usage(now())),
            ["count/secrets=1", "secrets=1"]
        );
        assert_eq!(
            shown(&Counted::Other("deployments.apps").usage(now())),
            ["count/deployments.apps=1"]
        );
    }

    #[test]
    fn a_quota_is_about_the_objects_that_its_resources_and_scopes_name() {
        let plain = pod(json!({"containers": [{"name": "a"}]}));
        let classed = pod(
            json!({"containers": [{"name": "a", "resources": {"requests": {"cpu": "1"}}}],
            "priorityClassName": "high", "activeDeadlineSeconds": 5,
            "affinity": {"podAffinity": {"requiredDuringSchedulingIgnoredDuringExecution": [
                {"topologyKey": "zone", "namespaces": ["other"]}]}}}),
        );
        let requirement = |scope: &str, operator: &str, values: &[&str]| json!({"scopeName": scope, "operator": operator, "values": values});
        for (scope, of_plain, of_classed) in [
            (requirement("BestEffort", "Exists", &[]), true, false),
            (requirement("NotBestEffort", "Exists", &[]), false, true),
            (requirement("Terminating", "Exists", &[]), false, true),
            (requirement("NotTerminating", "Exists", &[]), true, false),
            (requirement("PriorityClass", "Exists", &[]), false, true),
            (requirement("PriorityClass", "DoesNotExist", &[]), true, false),
            (requirement("PriorityClass", "In", &["low", "high"]), false, true),
            (requirement("PriorityClass", "NotIn", &["high"]), true, false),
            (
                requirement("CrossNamespacePodAffinity", "Exists", &[]),
                false,
                true,
            ),
        ] {
            let scopes = [serde_json::from_value(scope.clone()).unwrap()];
            let hard = ["pods".to_string()];
            assert_eq!(
                Counted::Pod(&plain).is_within(&hard, &scopes),
                of_plain,
                "{scope}"
            );
            assert_eq!(
                Counted::Pod(&classed).is_within(&hard, &scopes),
                of_classed,
                "{scope}"
            );
            // Scopes are of pods; other kinds are in none.
            assert!(!Counted::Other("secrets").is_within(&["secrets".to_string()], &scopes));
        }
        for (resource, counts) in [
            ("requests.example.com/gpu", true),
            ("hugepages-2Mi", true),
            ("limits.memory", true),
            ("gold.storageclass.storage.k8s.io/requests.storage", false),
            ("services", false),
        ] {
            assert_eq!(
                Counted::Pod(&plain).is_measured_by(resource),
                counts,
                "{resource}"
            );
        }
    }

    #[test]
    fn every_container_says_what_is_limited() {
        let pod = pod(json!({
            "containers": [
                {"name": "b"},
                {"name": "a", "resources": {"requests": {"cpu": "1"}}},
            ],
            "initContainers": [{"name": "i", "resources": {"limits": {"cpu": "1"}}}],
        }));
        let limited = |names: &[&str]| names.iter().map(|name| name.to_string()).collect::<Vec<_>>();
        for (names, expected) in [
            (
                &["limits.cpu", "requests.cpu"][..],
                Some("must specify limits.cpu for: a,b; requests.cpu for: b,i"),
            ),
            (&["cpu"], Some("must specify cpu for: b,i")),
            (&["requests.ephemeral-storage", "pods"], None),
        ] {
            assert_eq!(
                Counted::Pod(&pod).lacks(&limited(names)).as_deref(),
                expected,
                "{names:?}"
            );
        }
        let mut whole = pod.clone();
        whole.spec.as_mut().unwrap().resources =
            Some(serde_json::from_value(json!({"limits": {"cpu": "2"}})).unwrap());
        assert_eq!(Counted::Pod(&whole).lacks(&limited(&["limits.cpu"])), None);
    }
}
