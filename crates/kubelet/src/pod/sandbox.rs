//! The sandbox of a pod as the runtime is asked for it.

use std::collections::HashMap;
use std::path::Path;

use k8s_cri::v1::{
    DnsConfig, Int64Value, LinuxContainerResources, LinuxPodSandboxConfig, LinuxSandboxSecurityContext,
    NamespaceMode, NamespaceOption, PodSandboxConfig, PodSandboxMetadata, PortMapping, Protocol,
    SeLinuxOption, SecurityProfile, SupplementalGroupsPolicy,
};
use k8s_openapi::api::core::v1::{Pod, PodSpec, SELinuxOptions, SeccompProfile};

use super::identity::{hostname, log_directory, name, namespace, uid};
use super::labels;
use crate::cgroups;
use crate::resources::{amounts, pod_limit, pod_requests};

/// The namespaces that a pod shares with the node or keeps for itself.
pub(crate) fn namespace_options(spec: &PodSpec) -> NamespaceOption {
    let mode = |on_host: Option<bool>, otherwise: NamespaceMode| {
        if on_host.unwrap_or(false) {
            NamespaceMode::Node as i32
        } else {
            otherwise as i32
        }
    };
    let pid = if spec.share_process_namespace.unwrap_or(false) {
        NamespaceMode::Pod
    } else {
        NamespaceMode::Container
    };
    NamespaceOption {
        network: mode(spec.host_network, NamespaceMode::Pod),
        pid: mode(spec.host_pid, pid),
        ipc: mode(spec.host_ipc, NamespaceMode::Pod),
        ..NamespaceOption::default()
    }
}

/// A seccomp profile; without one the container is unconfined, upstream's default.
pub(crate) fn seccomp(profile: Option<&SeccompProfile>) -> SecurityProfile {
    use k8s_cri::v1::security_profile::ProfileType;
    let (kind, localhost_ref) = match profile {
        Some(profile) => match profile.type_.as_str() {
            "RuntimeDefault" => (ProfileType::RuntimeDefault, String::new()),
            "Localhost" => (
                ProfileType::Localhost,
                format!(
                    "/var/lib/kubelet/seccomp/{}",
                    profile.localhost_profile.clone().unwrap_or_default()
                ),
            ),
            _ => (ProfileType::Unconfined, String::new()),
        },
        None => (ProfileType::Unconfined, String::new()),
    };
    SecurityProfile {
        profile_type: kind as i32,
        localhost_ref,
    }
}

pub(crate) fn selinux(options: Option<&SELinuxOptions>) -> Option<SeLinuxOption> {
    let options = options?;
    let text = |field: &Option<String>| field.clone().unwrap_or_default();
    Some(SeLinuxOption {
        user: text(&options.user),
        role: text(&options.role),
        r#type: text(&options.type_),
        level: text(&options.level),
    })
}

fn is_privileged(spec: &PodSpec) -> bool {
    spec.containers
        .iter()
        .chain(spec.init_containers.iter().flatten())
        .any(|c| {
            c.security_context
                .as_ref()
                .and_then(|s| s.privileged)
                .unwrap_or(false)
        })
}

/// The groups that every process of the pod has beside its own.
pub(crate) fn groups(spec: &PodSpec) -> Vec<i64> {
    let Some(context) = &spec.security_context else {
        return Vec::new();
    };
    let mut groups = context.supplemental_groups.clone().unwrap_or_default();
    groups.extend(context.fs_group);
    groups
}

pub(crate) fn groups_policy(spec: &PodSpec) -> i32 {
    let policy = spec
        .security_context
        .as_ref()
        .and_then(|c| c.supplemental_groups_policy.as_deref());
    match policy {
        Some("Strict") => SupplementalGroupsPolicy::Strict as i32,
        _ => SupplementalGroupsPolicy::Merge as i32,
    }
}

fn port_mappings(spec: &PodSpec) -> Vec<PortMapping> {
    let host_network = spec.host_network.unwrap_or(false);
    let containers = spec.containers.iter().chain(
        spec.init_containers
            .iter()
            .flatten()
            .filter(|c| crate::resources::is_sidecar(c)),
    );
    containers
        .filter(|_| !host_network)
        .flat_map(|container| container.ports.iter().flatten())
        .map(|port| PortMapping {
            protocol: match port.protocol.as_deref() {
                Some("UDP") => Protocol::Udp as i32,
                Some("SCTP") => Protocol::Sctp as i32,
                _ => Protocol::Tcp as i32,
            },
            container_port: port.container_port,
            host_port: port.host_port.unwrap_or(0),
            host_ip: port.host_ip.clone().unwrap_or_default(),
        })
        .collect()
}

fn resources(of: &crate::resources::Amounts) -> LinuxContainerResources {
    LinuxContainerResources {
        cpu_shares: cgroups::shares(of.get("cpu").copied().unwrap_or(0)),
        memory_limit_in_bytes: of.get("memory").copied().unwrap_or(0),
        ..LinuxContainerResources::default()
    }
}

/// The request for a pod's sandbox.
pub(crate) fn config(
    pod: &Pod,
    spec: &PodSpec,
    attempt: u32,
    dns: DnsConfig,
    cgroup_parent: String,
    log_dir: &Path,
) -> PodSandboxConfig {
    let host_network = spec.host_network.unwrap_or(false);
    let owned = |map: &Option<std::collections::BTreeMap<String, String>>| -> HashMap<String, String> {
        map.iter()
            .flatten()
            .map(|(k, v)| (k.clone(), v.clone()))
            .collect()
    };
    let mut all_labels = owned(&pod.metadata.labels);
    all_labels.insert(labels::POD_NAME.into(), name(pod).into());
    all_labels.insert(labels::POD_NAMESPACE.into(), namespace(pod).into());
    all_labels.insert(labels::POD_UID.into(), uid(pod).into());
    let context = spec.security_context.as_ref();
    let overhead = amounts(spec.overhead.as_ref());
    let mut own = resources(&pod_requests(spec));
    own.memory_limit_in_bytes = pod_limit(spec, "memory").unwrap_or(0);
    if let Some(quota) = pod_limit(spec, "cpu").and_then(cgroups::quota) {
        own.cpu_period = 100_000;
        own.cpu_quota = quota;
    }
    let linux = LinuxPodSandboxConfig {
        cgroup_parent,
        security_context: Some(LinuxSandboxSecurityContext {
            namespace_options: Some(namespace_options(spec)),
            selinux_options: selinux(context.and_then(|c| c.se_linux_options.as_ref())),
            run_as_user: context
                .and_then(|c| c.run_as_user)
                .map(|value| Int64Value { value }),
            run_as_group: context
                .and_then(|c| c.run_as_group)
                .map(|value| Int64Value { value }),
            supplemental_groups: groups(spec),
            supplemental_groups_policy: groups_policy(spec),
            privileged: is_privileged(spec),
            // The sandbox runs nothing of the user's: it is always confined.
            seccomp: Some(SecurityProfile::default()),
            ..LinuxSandboxSecurityContext::default()
        }),
        sysctls: context
            .and_then(|c| c.sysctls.as_ref())
            .into_iter()
            .flatten()
            .map(|sysctl| (sysctl.name.clone(), sysctl.value.clone()))
            .collect(),
        overhead: Some(resources(&overhead)),
        resources: Some(own),
    };
    PodSandboxConfig {
        metadata: Some(PodSandboxMetadata {
            name: name(pod).into(),
            uid: uid(pod).into(),
            namespace: namespace(pod).into(),
            attempt,
        }),
        // On the host's network the pod has the host's name.
        hostname: if host_network {
            String::new()
        } else {
            hostname(pod)
        },
        log_directory: log_directory(log_dir, namespace(pod), name(pod), uid(pod))
            .to_string_lossy()
            .into_owned(),
        dns_config: Some(dns),
        port_mappings: port_mappings(spec),
        labels: all_labels,
        annotations: owned(&pod.metadata.annotations),
        linux: Some(linux),
        windows: None,
    }
}
