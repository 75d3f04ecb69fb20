//! What is allowed in a pod's spec and yet probably not meant (`GetWarningsForPod`).

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::{self, Display};

use k8s_openapi::api::core::v1::{
    ContainerPort, EnvVar, NodeSelectorTerm, PodAffinityTerm, PodSpec, PodTemplateSpec, Volume,
    VolumeProjection, WeightedPodAffinityTerm,
};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;

use super::annotations::{APP_ARMOR, NO_APP_ARMOR, SECCOMP_CONTAINER, SECCOMP_POD};
use super::visit::{self, Visited};
use super::{address, given, slice};
use crate::core::persistent_volume_claim;
use crate::field::Path;
use crate::names;
use crate::quantity::Quantity;

/// Node labels that have been renamed, the new names, and since when.
const RENAMED_LABELS: [(&str, &str, &str); 5] = [
    ("beta.kubernetes.io/arch", "kubernetes.io/arch", "v1.14"),
    ("beta.kubernetes.io/os", "kubernetes.io/os", "v1.14"),
    (
        "failure-domain.beta.kubernetes.io/region",
        "topology.kubernetes.io/region",
        "v1.17",
    ),
    (
        "failure-domain.beta.kubernetes.io/zone",
        "topology.kubernetes.io/zone",
        "v1.17",
    ),
    (
        "beta.kubernetes.io/instance-type",
        "node.kubernetes.io/instance-type",
        "v1.17",
    ),
];
/// Annotations that do nothing any more.
const DEAD_ANNOTATIONS: [(&str, &str); 3] = [
    (
        "scheduler.alpha.kubernetes.io/critical-pod",
        "non-functional in v1.16+; use the \"priorityClassName\" field instead",
    ),
    (
        "security.alpha.kubernetes.io/sysctls",
        "non-functional in v1.11+; use the \"sysctls\" field instead",
    ),
    (
        "security.alpha.kubernetes.io/unsafe-sysctls",
        "non-functional in v1.11+; use the \"sysctls\" field instead",
    ),
];
const NO_SELECTOR: &str = "a null labelSelector results in matching no pod";

/// The new name of a node label; as a text, the warning about the old one.
pub(crate) struct Renamed {
    /// The new name.
    pub(crate) to: &'static str,
    since: &'static str,
}

impl Display for Renamed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "deprecated since {}; use {:?} instead", self.since, self.to)
    }
}

/// Whether a node label has another name now.
pub(crate) fn renamed(label: &str) -> Option<Renamed> {
    let (_, to, since) = RENAMED_LABELS.iter().find(|(old, ..)| *old == label)?;
    Some(Renamed { to, since })
}

/// Adds the warnings about a template.
pub(crate) fn warn_of_template(template: &PodTemplateSpec, path: &Path, warnings: &mut Vec<String>) {
    if let Some(spec) = &template.spec {
        let looked_at = Looked {
            metadata: template.metadata.as_ref(),
            spec,
            path,
            is_template: true,
        };
        looked_at.warn(warnings);
    }
}

/// Adds the warnings about a pod.
pub(crate) fn warn(metadata: &ObjectMeta, spec: &PodSpec, warnings: &mut Vec<String>) {
    let looked_at = Looked {
        metadata: Some(metadata),
        spec,
        path: &Path::default(),
        is_template: false,
    };
    looked_at.warn(warnings);
}

/// Adds the warnings about a term of a node selector.
pub(crate) fn warn_of_term(
    term: &NodeSelectorTerm,
    check_values: bool,
    path: &Path,
    warnings: &mut Vec<String>,
) {
    for (index, expression) in slice(&term.match_expressions).iter().enumerate() {
        let path = path.child("matchExpressions").index(index);
        if let Some(message) = renamed(&expression.key) {
            warnings.push(format!("{}: {} is {message}", path.child("key"), expression.key));
        }
        for (index, value) in slice(&expression.values)
            .iter()
            .enumerate()
            .filter(|_| check_values)
        {
            for message in names::label_value(value) {
                let at = path.child("values").index(index);
                warnings.push(format!("{at}: {value} is invalid, {message}"));
            }
        }
    }
}

struct Looked<'a> {
    metadata: Option<&'a ObjectMeta>,
    spec: &'a PodSpec,
    path: &'a Path,
    is_template: bool,
}

impl Looked<'_> {
    fn warn(&self, warnings: &mut Vec<String>) {
        let spec = self.path.child("spec");
        self.warn_of_places(&spec, warnings);
        for (key, message) in DEAD_ANNOTATIONS {
            self.warn_of_annotation(key, message, warnings);
        }
        for (index, volume) in slice(&self.spec.volumes).iter().enumerate() {
            warn_of_volume(volume, &spec.child("volumes").index(index), warnings);
        }
        self.warn_of_token_paths(&spec.child("volumes"), warnings);
        self.warn_of_repetitions(&spec, warnings);
        for name in ["memory", "ephemeral-storage"] {
            let amount = self
                .spec
                .overhead
                .as_ref()
                .and_then(|overhead| overhead.get(name));
            warn_of_fraction(amount, &spec.child("overhead").key(name), warnings);
        }
        let context = self.spec.security_context.as_ref();
        if context.is_none_or(|context| context.seccomp_profile.is_none()) {
            self.warn_of_annotation(SECCOMP_POD, NO_SECCOMP, warnings);
        }
        let containers = visit::all(self.spec, &spec);
        for container in &containers {
            self.warn_of_container(container, warnings);
        }
        warn_of_ports(&containers, warnings);
        if self
            .spec
            .termination_grace_period_seconds
            .is_some_and(|seconds| seconds < 0)
        {
            warnings.push(format!(
                "{}: must be >= 0; negative values are invalid and will be treated as 1",
                spec.child("terminationGracePeriodSeconds")
            ));
        }
        self.warn_of_pod_affinity(&spec.child("affinity"), warnings);
        let servers = self
            .spec
            .dns_config
            .iter()
            .flat_map(|config| slice(&config.nameservers));
        for (index, server) in servers.enumerate() {
            let at = spec.child("dnsConfig.nameservers").index(index);
            warnings.extend(address::warning(&at, server));
        }
        for (index, alias) in slice(&self.spec.host_aliases).iter().enumerate() {
            let at = spec.child("hostAliases").index(index).child("ip");
            warnings.extend(address::warning(&at, &alias.ip));
        }
    }

    fn annotations(&self) -> Option<&BTreeMap<String, String>> {
        self.metadata?.annotations.as_ref()
    }

    fn warn_of_annotation(&self, key: &str, message: &str, warnings: &mut Vec<String>) {
        if self.annotations().is_some_and(|all| all.contains_key(key)) {
            let at = self.path.child("metadata.annotations").key(key);
            warnings.push(format!("{at}: {message}"));
        }
    }

    /// Labels of nodes that have other names now, and constraints that concern no pod.
    fn warn_of_places(&self, path: &Path, warnings: &mut Vec<String>) {
        for key in self.spec.node_selector.iter().flatten().map(|(key, _)| key) {
            if let Some(message) = renamed(key) {
                warnings.push(format!("{}: {message}", path.child("nodeSelector").key(key)));
            }
        }
        let affinity = self.spec.affinity.as_ref();
        if let Some(nodes) = affinity.and_then(|affinity| affinity.node_affinity.as_ref()) {
            let path = path.child("affinity.nodeAffinity");
            let required = nodes
                .required_during_scheduling_ignored_during_execution
                .iter()
                .flat_map(|required| &required.node_selector_terms);
            let at = path.child("requiredDuringSchedulingIgnoredDuringExecution.nodeSelectorTerms");
            for (index, term) in required.enumerate() {
                warn_of_term(term, false, &at.index(index), warnings);
            }
            let at = path.child("preferredDuringSchedulingIgnoredDuringExecution");
            let preferred = slice(&nodes.preferred_during_scheduling_ignored_during_execution);
            for (index, term) in preferred.iter().enumerate() {
                warn_of_term(
                    &term.preference,
                    true,
                    &at.index(index).child("preference"),
                    warnings,
                );
            }
        }
        for (index, constraint) in slice(&self.spec.topology_spread_constraints).iter().enumerate() {
            let path = path.child("topologySpreadConstraints").index(index);
            let key = &constraint.topology_key;
            if let Some(message) = renamed(key) {
                warnings.push(format!("{}: {key} is {message}", path.child("topologyKey")));
            }
            if constraint.label_selector.is_none() {
                warnings.push(format!("{}: {NO_SELECTOR}", path.child("labelSelector")));
            }
        }
    }

    /// A token at the place of another file hides it.
    fn warn_of_token_paths(&self, path: &Path, warnings: &mut Vec<String>) {
        fn sources(volume: &Volume) -> impl Iterator<Item = &VolumeProjection> {
            volume
                .projected
                .iter()
                .flat_map(|own| own.sources.iter().flatten())
        }
        let volumes = slice(&self.spec.volumes);
        let tokens: BTreeSet<&str> = volumes
            .iter()
            .flat_map(sources)
            .filter_map(|source| Some(source.service_account_token.as_ref()?.path.as_str()))
            .collect();
        let mut warn = |index: usize, source: &str, item: usize, file: &str| {
            if tokens.contains(file) {
                let at = path
                    .index(index)
                    .child("projected.sources")
                    .child(source)
                    .index(item);
                warnings.push(format!(
                    "{at}: has duplicated path with ServiceAccountToken {file:?}"
                ));
            }
        };
        for (index, volume) in volumes.iter().enumerate() {
            for source in sources(volume) {
                let maps = source.config_map.iter().flat_map(|source| slice(&source.items));
                for (item, file) in maps.enumerate() {
                    warn(index, "configMap", item, &file.path);
                }
                let secrets = source.secret.iter().flat_map(|source| slice(&source.items));
                for (item, file) in secrets.enumerate() {
                    warn(index, "secrets", item, &file.path);
                }
                let fields = source.downward_api.iter().flat_map(|source| slice(&source.items));
                for (item, file) in fields.enumerate() {
                    warn(index, "downwardAPI", item, &file.path);
                }
            }
        }
    }

    fn warn_of_repetitions(&self, path: &Path, warnings: &mut Vec<String>) {
        let mut seen = BTreeSet::new();
        for (index, alias) in slice(&self.spec.host_aliases).iter().enumerate() {
            if !seen.insert(&alias.ip) {
                let at = path.child("hostAliases").index(index).child("ip");
                warnings.push(format!("{at}: duplicate ip {:?}", alias.ip));
            }
        }
        let secrets = slice(&self.spec.image_pull_secrets);
        let at = |index: usize| path.child("imagePullSecrets").index(index).child("name");
        let mut seen = BTreeSet::new();
        for (index, secret) in secrets.iter().enumerate() {
            if !seen.insert(&secret.name) {
                warnings.push(format!("{}: duplicate name {:?}", at(index), secret.name));
            }
        }
        for (index, _) in secrets
            .iter()
            .enumerate()
            .filter(|(_, secret)| secret.name.is_empty())
        {
            warnings.push(format!("{}: invalid empty name \"\"", at(index)));
        }
    }

    fn warn_of_container(&self, container: &Visited<'_>, warnings: &mut Vec<String>) {
        let own = container.security;
        if own.is_none_or(|own| own.seccomp_profile.is_none()) {
            let key = format!("{SECCOMP_CONTAINER}{}", container.name);
            self.warn_of_annotation(&key, NO_SECCOMP, warnings);
        }
        let pod = self.spec.security_context.as_ref();
        let has_profile = pod.is_some_and(|pod| pod.app_armor_profile.is_some())
            || own.is_some_and(|own| own.app_armor_profile.is_some());
        if self.is_template && !has_profile {
            let key = format!("{APP_ARMOR}{}", container.name);
            self.warn_of_annotation(&key, NO_APP_ARMOR, warnings);
        }
        let sides = [
            ("limits", container.resources.and_then(|own| own.limits.as_ref())),
            (
                "requests",
                container.resources.and_then(|own| own.requests.as_ref()),
            ),
        ];
        for name in ["memory", "ephemeral-storage"] {
            for (side, amounts) in sides {
                let at = container.path.child("resources").child(side).key(name);
                warn_of_fraction(amounts.and_then(|amounts| amounts.get(name)), &at, warnings);
            }
        }
        warn_of_variables(container.env, &container.path.child("env"), warnings);
    }

    /// Affinity to no pod at all.
    fn warn_of_pod_affinity(&self, path: &Path, warnings: &mut Vec<String>) {
        let mut warn = |path: Path, required: &[PodAffinityTerm], preferred: &[WeightedPodAffinityTerm]| {
            let required = required.iter().enumerate().map(|(index, term)| {
                let at = path
                    .child("requiredDuringSchedulingIgnoredDuringExecution")
                    .index(index);
                (term, at)
            });
            let preferred = preferred.iter().enumerate().map(|(index, term)| {
                let at = path
                    .child("preferredDuringSchedulingIgnoredDuringExecution")
                    .index(index);
                (&term.pod_affinity_term, at.child("podAffinityTerm"))
            });
            for (_, at) in required
                .chain(preferred)
                .filter(|(term, _)| term.label_selector.is_none())
            {
                warnings.push(format!("{}: {NO_SELECTOR}", at.child("labelSelector")));
            }
        };
        let Some(affinity) = &self.spec.affinity else {
            return;
        };
        if let Some(pods) = &affinity.pod_affinity {
            warn(
                path.child("podAffinity"),
                slice(&pods.required_during_scheduling_ignored_during_execution),
                slice(&pods.preferred_during_scheduling_ignored_during_execution),
            );
        }
        if let Some(pods) = &affinity.pod_anti_affinity {
            warn(
                path.child("podAntiAffinity"),
                slice(&pods.required_during_scheduling_ignored_during_execution),
                slice(&pods.preferred_during_scheduling_ignored_during_execution),
            );
        }
    }
}

const NO_SECCOMP: &str = "non-functional in v1.27+; use the \"seccompProfile\" field instead";

/// Volumes that are no more.
fn warn_of_volume(volume: &Volume, path: &Path, warnings: &mut Vec<String>) {
    let dead = [
        (
            "photonPersistentDisk",
            volume.photon_persistent_disk.is_some(),
            "deprecated in v1.11, non-functional in v1.16+",
        ),
        (
            "gitRepo",
            volume.git_repo.is_some(),
            "deprecated in v1.11, and disabled by default in v1.33+",
        ),
        (
            "scaleIO",
            volume.scale_io.is_some(),
            "deprecated in v1.16, non-functional in v1.22+",
        ),
        (
            "flocker",
            volume.flocker.is_some(),
            "deprecated in v1.22, non-functional in v1.25+",
        ),
        (
            "storageOS",
            volume.storageos.is_some(),
            "deprecated in v1.22, non-functional in v1.25+",
        ),
        (
            "quobyte",
            volume.quobyte.is_some(),
            "deprecated in v1.22, non-functional in v1.25+",
        ),
        (
            "glusterfs",
            volume.glusterfs.is_some(),
            "deprecated in v1.25, non-functional in v1.26+",
        ),
        (
            "cephfs",
            volume.cephfs.is_some(),
            "deprecated in v1.28, non-functional in v1.31+",
        ),
        (
            "rbd",
            volume.rbd.is_some(),
            "deprecated in v1.28, non-functional in v1.31+",
        ),
    ];
    for (field, _, message) in dead.into_iter().filter(|(_, used, _)| *used) {
        warnings.push(format!("{}: {message}", path.child(field)));
    }
    let template = volume
        .ephemeral
        .as_ref()
        .and_then(|ephemeral| ephemeral.volume_claim_template.as_ref());
    if let Some(template) = template {
        let at = path.child("ephemeral.volumeClaimTemplate.spec");
        persistent_volume_claim::warn(&template.spec, &at, warnings);
    }
}

/// There is no part of a byte.
pub(crate) fn warn_of_fraction(
    amount: Option<&k8s_openapi::apimachinery::pkg::api::resource::Quantity>,
    path: &Path,
    warnings: &mut Vec<String>,
) {
    if let Some(amount) = amount.filter(|amount| Quantity::of(amount).milli_value() % 1000 != 0) {
        warnings.push(format!(
            "{path}: fractional byte value {:?} is invalid, must be an integer",
            amount.0
        ));
    }
}

/// A variable that stands twice; one that builds on the earlier one is meant.
fn warn_of_variables(variables: &[EnvVar], path: &Path, warnings: &mut Vec<String>) {
    let mut seen = BTreeSet::new();
    for (index, variable) in variables.iter().enumerate() {
        if seen.insert(&variable.name) {
            continue;
        }
        let reference = format!("$({})", variable.name);
        let value = variable.value.as_deref().unwrap_or_default();
        if variable.value_from.is_some() || value == reference || !value.contains(&reference) {
            warnings.push(format!(
                "{}: hides previous definition of {:?}, which may be dropped when using apply",
                path.index(index),
                variable.name
            ));
        }
    }
}

fn warn_of_ports(containers: &[Visited<'_>], warnings: &mut Vec<String>) {
    let mut all: Vec<(Path, &ContainerPort)> = Vec::new();
    let host = |port: &ContainerPort| port.host_port.unwrap_or(0);
    for container in containers {
        for (index, port) in container.ports.iter().enumerate() {
            let at = container.path.child("ports").index(index);
            let ip = given(&port.host_ip);
            if let Some(ip) = ip
                && host(port) == 0
            {
                warnings.push(format!(
                    "{at}: hostIP set without hostPort: {{Name:{} HostPort:0 ContainerPort:{} Protocol:{} \
                     HostIP:{ip}}}",
                    port.name.as_deref().unwrap_or_default(),
                    port.container_port,
                    port.protocol.as_deref().unwrap_or_default(),
                ));
            }
            let same = |other: &ContainerPort| {
                other.container_port == port.container_port && other.protocol == port.protocol
            };
            for (earlier, other) in all.iter().filter(|(_, other)| same(other)) {
                let other_ip = given(&other.host_ip);
                let what = if ip == other_ip && host(port) == host(other) {
                    "duplicate"
                } else if host(port) == 0 || host(other) == 0 {
                    "overlapping"
                } else if host(port) == host(other) && ip.is_none() != other_ip.is_none() {
                    "dangerously ambiguous"
                } else {
                    continue;
                };
                warnings.push(format!("{at}: {what} port definition with {earlier}"));
            }
            all.push((at, port));
        }
    }
}
