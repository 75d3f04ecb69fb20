//! What a pod's spec is when the client left it out (`pkg/apis/core/v1/defaults.go`).

use std::collections::BTreeMap;

use k8s_openapi::api::core::v1::{
    Container, ContainerPort, EnvVar, EphemeralContainer, LifecycleHandler, ObjectFieldSelector, PodSpec,
    PodTemplateSpec, Probe, ResourceFieldSelector, ResourceRequirements, Volume, VolumeProjection,
};
use k8s_openapi::apimachinery::pkg::api::resource::Quantity as Text;

use crate::pod::{self, Side};
use crate::quantity::{self, Quantity};

/// The mode of files from config maps, secrets, the downward API and projections.
const FILE_MODE: i32 = 0o644;
/// How long a projected token is valid.
const TOKEN_SECONDS: i64 = 3600;

fn set(field: &mut Option<String>, value: &str) {
    if field.as_deref().unwrap_or_default().is_empty() {
        *field = Some(value.into());
    }
}

fn set_number(field: &mut Option<i32>, value: i32) {
    if field.unwrap_or(0) == 0 {
        *field = Some(value);
    }
}

/// Fills in a pod template.
pub fn default_template(template: &mut PodTemplateSpec) {
    template.metadata.get_or_insert_default();
    default_spec(template.spec.get_or_insert_default());
}

/// Fills in a pod's own spec, which has some defaults more than a template.
pub fn default_pod(spec: &mut PodSpec) {
    default_spec(spec);
    for container in spec
        .containers
        .iter_mut()
        .chain(spec.init_containers.iter_mut().flatten())
    {
        requests_from_limits(container);
    }
    default_pod_level(spec);
    spec.enable_service_links.get_or_insert(true);
    if spec.host_network == Some(true) {
        let containers = spec
            .containers
            .iter_mut()
            .chain(spec.init_containers.iter_mut().flatten());
        for port in containers.flat_map(|container| container.ports.iter_mut().flatten()) {
            if port.host_port.unwrap_or(0) == 0 && port.container_port != 0 {
                port.host_port = Some(port.container_port);
            }
        }
    }
}

/// Who limits a resource and does not request it, requests as much.
fn requests_from_limits(container: &mut Container) {
    let Some(resources) = &mut container.resources else {
        return;
    };
    let Some(limits) = &resources.limits else { return };
    let requests = resources.requests.get_or_insert_default();
    for (name, amount) in limits {
        requests.entry(name.clone()).or_insert_with(|| amount.clone());
    }
}

/// Pod-level requests follow from what the containers request and from the pod's limits, pod-level limits from those
/// of all containers.
fn default_pod_level(spec: &mut PodSpec) {
    let Some(resources) = &spec.resources else { return };
    let limits = resources.limits.clone().unwrap_or_default();
    if !limits.is_empty() {
        let mut requests = resources.requests.clone().unwrap_or_default();
        for (name, amount) in pod::container_totals(spec, Side::Requests) {
            if matches!(name.as_str(), "cpu" | "memory") {
                requests.entry(name).or_insert_with(|| amount.into());
            }
        }
        for (name, amount) in &limits {
            if pod::is_pod_level(name) {
                requests.entry(name.clone()).or_insert_with(|| amount.clone());
            }
        }
        if let Some(resources) = &mut spec.resources {
            resources.requests = Some(requests).filter(|requests| !requests.is_empty());
        }
    }
}

fn default_spec(spec: &mut PodSpec) {
    super::disabled::drop_from_spec(spec);
    // The older name of the field mirrors the newer one.
    if spec
        .service_account_name
        .as_deref()
        .unwrap_or_default()
        .is_empty()
    {
        spec.service_account_name = spec.service_account.clone().filter(|name| !name.is_empty());
    }
    spec.service_account.clone_from(&spec.service_account_name);
    set(&mut spec.dns_policy, "ClusterFirst");
    set(&mut spec.restart_policy, "Always");
    spec.security_context.get_or_insert_default();
    spec.termination_grace_period_seconds.get_or_insert(30);
    set(&mut spec.scheduler_name, "default-scheduler");
    canonicalize(spec.overhead.as_mut());
    if let Some(resources) = &mut spec.resources {
        canonicalize_both(resources);
    }
    for container in spec
        .containers
        .iter_mut()
        .chain(spec.init_containers.iter_mut().flatten())
    {
        default_container(container);
    }
    for container in spec.ephemeral_containers.iter_mut().flatten() {
        default_ephemeral(container);
    }
    for volume in spec.volumes.iter_mut().flatten() {
        default_volume(volume);
    }
}

fn canonicalize(amounts: Option<&mut BTreeMap<String, Text>>) {
    for amount in amounts.into_iter().flat_map(BTreeMap::values_mut) {
        quantity::canonicalize(amount);
        // Nothing finer than a thousandth is asked for.
        if let Ok(exact) = amount.0.parse::<Quantity>()
            && exact.nanos() % 1_000_000 != 0
        {
            amount.0 = exact.rounded_to_milli().to_string();
        }
    }
}

fn canonicalize_both(resources: &mut ResourceRequirements) {
    canonicalize(resources.limits.as_mut());
    canonicalize(resources.requests.as_mut());
}

/// `Always` for an image with the tag `latest`, or with neither tag nor digest; otherwise `IfNotPresent`.
fn pull_policy(image: &str) -> &'static str {
    let name = image.rsplit('/').next().unwrap_or(image);
    let always = match name.split_once('@') {
        // With a digest, only a tag that says so makes it the latest.
        Some((name, _)) => name.rsplit_once(':').is_some_and(|(_, tag)| tag == "latest"),
        None => name.rsplit_once(':').is_none_or(|(_, tag)| tag == "latest"),
    };
    if always { "Always" } else { "IfNotPresent" }
}

fn default_container(container: &mut Container) {
    let image = container.image.as_deref().unwrap_or_default();
    let policy = pull_policy(image);
    set(&mut container.image_pull_policy, policy);
    set(&mut container.termination_message_path, "/dev/termination-log");
    set(&mut container.termination_message_policy, "File");
    canonicalize_both(container.resources.get_or_insert_default());
    default_ports(container.ports.as_mut());
    default_env(container.env.as_mut());
    if let Some(lifecycle) = &mut container.lifecycle {
        default_handler(lifecycle.post_start.as_mut());
        default_handler(lifecycle.pre_stop.as_mut());
    }
    default_probe(container.liveness_probe.as_mut());
    default_probe(container.readiness_probe.as_mut());
    default_probe(container.startup_probe.as_mut());
}

fn default_ephemeral(container: &mut EphemeralContainer) {
    let image = container.image.as_deref().unwrap_or_default();
    let policy = pull_policy(image);
    set(&mut container.image_pull_policy, policy);
    set(&mut container.termination_message_path, "/dev/termination-log");
    set(&mut container.termination_message_policy, "File");
    canonicalize_both(container.resources.get_or_insert_default());
    default_ports(container.ports.as_mut());
    default_env(container.env.as_mut());
}

fn default_ports(ports: Option<&mut Vec<ContainerPort>>) {
    for port in ports.into_iter().flatten() {
        set(&mut port.protocol, "TCP");
    }
}

fn default_env(env: Option<&mut Vec<EnvVar>>) {
    for source in env
        .into_iter()
        .flatten()
        .filter_map(|variable| variable.value_from.as_mut())
    {
        default_field(source.field_ref.as_mut());
        default_resource_field(source.resource_field_ref.as_mut());
        if let Some(file) = &mut source.file_key_ref {
            file.optional.get_or_insert(false);
        }
    }
}

fn default_field(field: Option<&mut ObjectFieldSelector>) {
    if let Some(field) = field {
        set(&mut field.api_version, "v1");
    }
}

fn default_resource_field(field: Option<&mut ResourceFieldSelector>) {
    if let Some(field) = field {
        match &mut field.divisor {
            Some(divisor) => quantity::canonicalize(divisor),
            None => field.divisor = Some(Text("0".into())),
        }
    }
}

fn default_handler(handler: Option<&mut LifecycleHandler>) {
    if let Some(http) = handler.and_then(|handler| handler.http_get.as_mut()) {
        set(&mut http.path, "/");
        set(&mut http.scheme, "HTTP");
    }
}

fn default_probe(probe: Option<&mut Probe>) {
    let Some(probe) = probe else { return };
    set_number(&mut probe.timeout_seconds, 1);
    set_number(&mut probe.period_seconds, 10);
    set_number(&mut probe.success_threshold, 1);
    set_number(&mut probe.failure_threshold, 3);
    if let Some(http) = &mut probe.http_get {
        set(&mut http.path, "/");
        set(&mut http.scheme, "HTTP");
    }
    if let Some(grpc) = &mut probe.grpc {
        grpc.service.get_or_insert_default();
    }
}

fn default_volume(volume: &mut Volume) {
    let sourceless = Volume {
        name: volume.name.clone(),
        ..Default::default()
    };
    if *volume == sourceless {
        volume.empty_dir = Some(Default::default());
    }
    if let Some(empty_dir) = &mut volume.empty_dir
        && let Some(limit) = &mut empty_dir.size_limit
    {
        quantity::canonicalize(limit);
    }
    if let Some(image) = &mut volume.image {
        let policy = pull_policy(image.reference.as_deref().unwrap_or_default());
        set(&mut image.pull_policy, policy);
    }
    if let Some(secret) = &mut volume.secret {
        secret.default_mode.get_or_insert(FILE_MODE);
    }
    if let Some(config_map) = &mut volume.config_map {
        config_map.default_mode.get_or_insert(FILE_MODE);
    }
    if let Some(downward) = &mut volume.downward_api {
        downward.default_mode.get_or_insert(FILE_MODE);
        for file in downward.items.iter_mut().flatten() {
            default_field(file.field_ref.as_mut());
            default_resource_field(file.resource_field_ref.as_mut());
        }
    }
    if let Some(projected) = &mut volume.projected {
        projected.default_mode.get_or_insert(FILE_MODE);
        projected
            .sources
            .iter_mut()
            .flatten()
            .for_each(default_projection);
    }
    if let Some(host_path) = &mut volume.host_path {
        host_path.type_.get_or_insert_default();
    }
    if let Some(iscsi) = &mut volume.iscsi {
        set(&mut iscsi.iscsi_interface, "default");
    }
    if let Some(rbd) = &mut volume.rbd {
        set(&mut rbd.pool, "rbd");
        set(&mut rbd.user, "admin");
        set(&mut rbd.keyring, "/etc/ceph/keyring");
    }
    if let Some(azure) = &mut volume.azure_disk {
        set(&mut azure.caching_mode, "ReadWrite");
        set(&mut azure.kind, "Shared");
        set(&mut azure.fs_type, "ext4");
        azure.read_only.get_or_insert(false);
    }
    if let Some(scale_io) = &mut volume.scale_io {
        set(&mut scale_io.storage_mode, "ThinProvisioned");
        set(&mut scale_io.fs_type, "xfs");
    }
    if let Some(template) = volume
        .ephemeral
        .as_mut()
        .and_then(|ephemeral| ephemeral.volume_claim_template.as_mut())
    {
        set(&mut template.spec.volume_mode, "Filesystem");
        template.metadata.get_or_insert_default();
        let resources = template.spec.resources.get_or_insert_default();
        canonicalize(resources.limits.as_mut());
        canonicalize(resources.requests.as_mut());
    }
}

fn default_projection(source: &mut VolumeProjection) {
    if let Some(token) = &mut source.service_account_token {
        token.expiration_seconds.get_or_insert(TOKEN_SECONDS);
    }
    if let Some(certificate) = &mut source.pod_certificate {
        certificate.max_expiration_seconds.get_or_insert(86_400);
    }
    for file in source
        .downward_api
        .iter_mut()
        .flat_map(|downward| downward.items.iter_mut().flatten())
    {
        default_field(file.field_ref.as_mut());
        default_resource_field(file.resource_field_ref.as_mut());
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_pull_policy_follows_the_tag() {
        let digest = format!("@sha256:{}", "0".repeat(64));
        let cases = [
            ("nginx", "Always"),
            ("nginx:latest", "Always"),
            ("nginx:1", "IfNotPresent"),
            ("localhost:5000/nginx", "Always"),
            ("localhost:5000/nginx:1", "IfNotPresent"),
            (&format!("nginx{digest}"), "IfNotPresent"),
            (&format!("nginx:latest{digest}"), "Always"),
        ];
        for (image, policy) in cases {
            assert_eq!(pull_policy(image), policy, "{image}");
        }
    }
}
