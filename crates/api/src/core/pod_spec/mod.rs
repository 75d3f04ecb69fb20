//! The rules of a pod's spec, be it a pod's own or a template's: defaults, and what is a valid one
//! (`ValidatePodSpec`).

mod containers;
mod defaults;
mod env;
mod handlers;
mod mounts;
mod placement;
pub(crate) mod resources;
mod security;
mod volumes;
mod warnings;

use std::collections::BTreeSet;

use k8s_openapi::api::core::v1::{PodDNSConfig, PodSpec, PodTemplateSpec};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;

use crate::field::{Errors, Path};
use crate::meta;
use crate::names;

pub use defaults::{default_pod, default_template};
pub(super) use handlers::check_port;
pub(super) use placement::select_by_label_keys;
pub(super) use placement::validate_only_added_tolerations;
pub(crate) use placement::validate_tolerations;
pub(crate) use placement::{check_effect, validate_node_selector};
pub(crate) use volumes::check_driver;
pub(crate) use warnings::warn;

const MAX_NAMESERVERS: usize = 3;
const MAX_SEARCH_PATHS: usize = 32;
const MAX_SEARCH_CHARACTERS: usize = 2048;

/// Whose spec is checked.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Owner<'a> {
    /// The pod's metadata; `None` for a template.
    pub(crate) pod: Option<&'a ObjectMeta>,
}

/// A text that counts as absent when it is empty.
fn given(text: &Option<String>) -> Option<&str> {
    text.as_deref().filter(|text| !text.is_empty())
}

fn slice<T>(list: &Option<Vec<T>>) -> &[T] {
    list.as_deref().unwrap_or_default()
}

/// Reports each message about a value.
fn invalid_each(path: &Path, value: &str, messages: Vec<String>, errors: &mut Errors) {
    for message in messages {
        errors.invalid(path, value, message);
    }
}

/// Requires one of some texts.
fn one_of(value: &Option<String>, allowed: &[&str], path: &Path, errors: &mut Errors) {
    match given(value) {
        None => errors.required(path, ""),
        Some(value) if allowed.contains(&value) => {}
        Some(value) => errors.not_supported(path, value, allowed),
    }
}

/// Checks that a number is not negative.
fn non_negative(value: i64, path: &Path, errors: &mut Errors) {
    if value < 0 {
        errors.invalid(path, value, "must be greater than or equal to 0");
    }
}

/// Checks a pod template (`ValidatePodTemplateSpec`).
pub(crate) fn validate_template(template: &PodTemplateSpec, path: &Path, errors: &mut Errors) {
    let metadata = template.metadata.clone().unwrap_or_default();
    meta::validate_labels(metadata.labels.as_ref(), &path.child("labels"), errors);
    meta::validate_annotations(metadata.annotations.as_ref(), &path.child("annotations"), errors);
    let spec = template.spec.clone().unwrap_or_default();
    validate_annotations(&metadata, &spec, &path.child("annotations"), errors);
    validate(&spec, Owner { pod: None }, &path.child("spec"), errors);
    if !slice(&spec.ephemeral_containers).is_empty() {
        errors.forbidden(
            &path.child("spec").child("ephemeralContainers"),
            "ephemeral containers not allowed in pod template",
        );
    }
}

/// Checks the annotations that mean something to pods.
pub(super) fn validate_annotations(metadata: &ObjectMeta, spec: &PodSpec, path: &Path, errors: &mut Errors) {
    let mirror = crate::pod::MIRROR_ANNOTATION;
    let annotation = |key: &str| metadata.annotations.as_ref().and_then(|all| all.get(key));
    if let Some(value) = annotation(mirror)
        && given(&spec.node_name).is_none()
    {
        errors.invalid(
            &path.key(mirror),
            value,
            "must set spec.nodeName if mirror pod annotation is set",
        );
    }
    let cost = "controller.kubernetes.io/pod-deletion-cost";
    if let Some(value) = annotation(cost) {
        let plain =
            !value.starts_with('+') && (value == "0" || !value.trim_start_matches('-').starts_with('0'));
        if !plain || value.parse::<i32>().is_err() {
            errors.invalid(&path.key(cost), value, "must be a 32bit integer");
        }
    }
}

/// Checks a pod's spec.
pub(crate) fn validate(spec: &PodSpec, owner: Owner<'_>, path: &Path, errors: &mut Errors) {
    if spec.termination_grace_period_seconds.is_none() {
        errors.required(&path.child("terminationGracePeriodSeconds"), "");
    }
    let volumes = volumes::validate(slice(&spec.volumes), owner, &path.child("volumes"), errors);
    let claims = validate_claims(spec, &path.child("resourceClaims"), errors);
    let around = containers::Around {
        spec,
        owner,
        volumes: &volumes,
        claims: &claims,
    };
    containers::validate(&around, path, errors);
    resources::validate_pod_level(spec, &path.child("resources"), errors);
    validate_host_ports(spec, owner, &path.child("containers"), errors);
    one_of(
        &spec.restart_policy,
        &["Always", "OnFailure", "Never"],
        &path.child("restartPolicy"),
        errors,
    );
    one_of(
        &spec.dns_policy,
        &["ClusterFirstWithHostNet", "ClusterFirst", "Default", "None"],
        &path.child("dnsPolicy"),
        errors,
    );
    meta::validate_labels(spec.node_selector.as_ref(), &path.child("nodeSelector"), errors);
    security::validate_pod(spec, path, errors);
    placement::validate_affinity(spec.affinity.as_ref(), &path.child("affinity"), errors);
    validate_dns(
        spec.dns_config.as_ref(),
        given(&spec.dns_policy),
        &path.child("dnsConfig"),
        errors,
    );
    for (index, gate) in slice(&spec.readiness_gates).iter().enumerate() {
        let path = path.child("readinessGates").index(index).child("conditionType");
        meta::validate_label_name(&gate.condition_type, &path, errors);
    }
    let mut gates = BTreeSet::new();
    for (index, gate) in slice(&spec.scheduling_gates).iter().enumerate() {
        let path = path.child("schedulingGates").index(index);
        meta::validate_label_name(&gate.name, &path, errors);
        if !gates.insert(&gate.name) {
            errors.duplicate(&path, &gate.name);
        }
    }
    placement::validate_spread(
        slice(&spec.topology_spread_constraints),
        &path.child("topologySpreadConstraints"),
        errors,
    );
    security::validate_host_users(spec, path, errors);
    validate_names(spec, path, errors);
    if let Some(seconds) = spec.active_deadline_seconds
        && !(1..=i64::from(i32::MAX)).contains(&seconds)
    {
        let range = names::range(1, i64::from(i32::MAX));
        errors.invalid(&path.child("activeDeadlineSeconds"), seconds, range);
    }
    validate_tolerations(slice(&spec.tolerations), &path.child("tolerations"), errors);
    for (index, alias) in slice(&spec.host_aliases).iter().enumerate() {
        let path = path.child("hostAliases").index(index);
        check_ip(&alias.ip, &path.child("ip"), errors);
        for (index, name) in slice(&alias.hostnames).iter().enumerate() {
            let path = path.child("hostnames").index(index);
            invalid_each(&path, name, names::dns_subdomain(name, false), errors);
        }
    }
    if let Some(policy) = &spec.preemption_policy {
        let policy = Some(policy.clone());
        one_of(
            &policy,
            &["PreemptLowerPriority", "Never"],
            &path.child("preemptionPolicy"),
            errors,
        );
    }
    if let Some(overhead) = &spec.overhead {
        resources::validate_limits(overhead, &path.child("overhead"), errors);
    }
    if let Some(os) = &spec.os {
        match os.name.as_str() {
            "" => errors.required(&path.child("os").child("name"), "cannot be empty"),
            "linux" => security::validate_linux(spec, path, errors),
            "windows" => {}
            other => errors.not_supported(&path.child("os"), other, &["linux", "windows"]),
        }
    }
}

/// The fields that name something.
fn validate_names(spec: &PodSpec, path: &Path, errors: &mut Errors) {
    let subdomain: fn(&str) -> Vec<String> = |name| names::dns_subdomain(name, false);
    let label: fn(&str) -> Vec<String> = |name| names::dns_label(name, false);
    let fields = [
        ("serviceAccountName", &spec.service_account_name, subdomain),
        ("nodeName", &spec.node_name, subdomain),
        ("hostname", &spec.hostname, label),
        ("subdomain", &spec.subdomain, label),
        ("priorityClassName", &spec.priority_class_name, subdomain),
        ("runtimeClassName", &spec.runtime_class_name, subdomain),
    ];
    for (field, value, rule) in fields {
        if let Some(value) = given(value) {
            invalid_each(&path.child(field), value, rule(value), errors);
        }
    }
    if let Some(name) = given(&spec.hostname_override) {
        let path = path.child("hostnameOverride");
        if name.len() > 64 {
            errors.invalid(&path, name, names::too_long(64));
        }
        invalid_each(&path, name, names::dns_subdomain(name, false), errors);
        if spec.host_network == Some(true) {
            errors.forbidden(&path, "cannot be set when `hostNetwork` is true");
        }
        if spec.set_hostname_as_fqdn == Some(true) {
            errors.forbidden(&path, "cannot be set when `setHostnameAsFQDN` is true");
        }
    }
}

/// Checks an IP address.
pub(super) fn check_ip(text: &str, path: &Path, errors: &mut Errors) {
    if text.parse::<std::net::IpAddr>().is_err() {
        errors.invalid(path, text, names::NOT_AN_ADDRESS);
    }
}

fn validate_dns(config: Option<&PodDNSConfig>, policy: Option<&str>, path: &Path, errors: &mut Errors) {
    let nameservers = config
        .map(|config| slice(&config.nameservers))
        .unwrap_or_default();
    if policy == Some("None") {
        if config.is_none() {
            return errors.required(path, "must provide `dnsConfig` when `dnsPolicy` is None");
        }
        if nameservers.is_empty() {
            return errors.required(
                &path.child("nameservers"),
                "must provide at least one DNS nameserver when `dnsPolicy` is None",
            );
        }
    }
    let Some(config) = config else { return };
    if nameservers.len() > MAX_NAMESERVERS {
        errors.invalid(
            &path.child("nameservers"),
            nameservers,
            format!("must not have more than {MAX_NAMESERVERS} nameservers"),
        );
    }
    for (index, server) in nameservers.iter().enumerate() {
        check_ip(server, &path.child("nameservers").index(index), errors);
    }
    let searches = slice(&config.searches);
    let path_searches = path.child("searches");
    if searches.len() > MAX_SEARCH_PATHS {
        errors.invalid(
            &path_searches,
            searches,
            format!("must not have more than {MAX_SEARCH_PATHS} search paths"),
        );
    }
    if searches.join(" ").len() > MAX_SEARCH_CHARACTERS {
        errors.invalid(
            &path_searches,
            searches,
            format!("must not have more than {MAX_SEARCH_CHARACTERS} characters (including spaces) in the search list"),
        );
    }
    for (index, search) in searches.iter().enumerate().filter(|(_, search)| *search != ".") {
        let search = search.strip_suffix('.').unwrap_or(search);
        let messages = names::dns_subdomain_with_underscore(search);
        invalid_each(&path_searches.index(index), search, messages, errors);
    }
    for (index, option) in slice(&config.options).iter().enumerate() {
        if given(&option.name).is_none() {
            errors.required(&path.child("options").index(index), "must not be empty");
        }
    }
}

/// With the host's network, a port of the pod is the same port of the host.
fn validate_host_ports(spec: &PodSpec, owner: Owner<'_>, path: &Path, errors: &mut Errors) {
    if spec.host_network != Some(true) {
        return;
    }
    for (index, container) in spec.containers.iter().enumerate() {
        for (port_index, port) in slice(&container.ports).iter().enumerate() {
            let host = port.host_port.unwrap_or(0);
            if (owner.pod.is_some() || host != 0) && host != port.container_port {
                errors.invalid(
                    &path
                        .index(index)
                        .child("ports")
                        .index(port_index)
                        .child("hostPort"),
                    host,
                    "must match `containerPort` when `hostNetwork` is true",
                );
            }
        }
    }
}

/// Checks the resource claims, and gives the names of all.
fn validate_claims<'s>(spec: &'s PodSpec, path: &Path, errors: &mut Errors) -> BTreeSet<&'s str> {
    let mut seen = BTreeSet::new();
    for (index, claim) in slice(&spec.resource_claims).iter().enumerate() {
        let path = path.index(index);
        let name = claim.name.as_str();
        if name.is_empty() {
            errors.required(&path.child("name"), "");
        } else if !seen.insert(name) {
            errors.duplicate(&path.child("name"), name);
        } else {
            invalid_each(&path.child("name"), name, names::dns_label(name, false), errors);
        }
        match (&claim.resource_claim_name, &claim.resource_claim_template_name) {
            (Some(_), Some(_)) => errors.invalid(
                &path,
                claim,
                "at most one of `resourceClaimName` or `resourceClaimTemplateName` may be specified",
            ),
            (None, None) => errors.invalid(
                &path,
                claim,
                "must specify one of: `resourceClaimName`, `resourceClaimTemplateName`",
            ),
            _ => {}
        }
        let named = [
            ("resourceClaimName", &claim.resource_claim_name),
            ("resourceClaimTemplateName", &claim.resource_claim_template_name),
        ];
        for (field, name) in named {
            if let Some(name) = name {
                invalid_each(
                    &path.child(field),
                    name,
                    names::dns_subdomain(name, false),
                    errors,
                );
            }
        }
    }
    seen
}
