//! The rules of a pod's spec, be it a pod's own or a template's: defaults, and what is a valid one
//! (`ValidatePodSpec`).

pub(super) mod annotations;
mod containers;
mod defaults;
pub(super) mod disabled;
mod env;
mod handlers;
mod mounts;
mod placement;
pub(crate) mod resources;
mod security;
mod visit;
mod volumes;
mod warnings;
mod windows;

use std::collections::BTreeSet;

use k8s_openapi::api::core::v1::{PodDNSConfig, PodSpec, PodTemplateSpec};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;

use super::address;
use crate::field::{Errors, Path};
use crate::internal;
use crate::meta;
use crate::names;

pub use defaults::{default_pod, default_template};
pub(super) use handlers::check_port;
pub(super) use placement::validate_only_added_tolerations;
pub(crate) use placement::validate_tolerations;
pub(crate) use placement::{check_effect, validate_node_selector};
pub(super) use placement::{select_by_label_keys, spread_by_label_keys};
pub use volumes::HOST_PATH_TYPES;
pub(crate) use volumes::check_driver;
pub(crate) use volumes::{check_storage_os, is_iqn, validate_shared_source};
pub(crate) use warnings::{renamed, warn, warn_of_fraction, warn_of_template, warn_of_term};

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
    let at = path.child("annotations");
    meta::validate_labels(metadata.labels.as_ref(), &path.child("labels"), errors);
    meta::validate_annotations(metadata.annotations.as_ref(), &at, errors);
    let spec = template.spec.clone().unwrap_or_default();
    annotations::validate(&metadata, &spec, &at, errors);
    let path = path.child("spec");
    validate(&spec, Owner { pod: None }, &path, errors);
    annotations::validate_with_fields(&metadata, &spec, &path, errors);
    if !slice(&spec.ephemeral_containers).is_empty() {
        errors.forbidden(
            &path.child("ephemeralContainers"),
            "ephemeral containers not allowed in pod template",
        );
    }
}

/// Checks a pod's spec.
pub(crate) fn validate(spec: &PodSpec, owner: Owner<'_>, path: &Path, errors: &mut Errors) {
    if spec.termination_grace_period_seconds.is_none() {
        errors.required(&path.child("terminationGracePeriodSeconds"), "");
    }
    let volumes = volumes::validate(slice(&spec.volumes), owner, &path.child("volumes"), errors);
    let claims = validate_claims(spec, owner, &path.child("resourceClaims"), errors);
    let around = containers::Around {
        spec,
        volumes: &volumes,
        claims: &claims,
    };
    containers::validate(&around, path, errors);
    resources::validate_pod_level(spec, &claims, &path.child("resources"), errors);
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
    windows::validate_host_process(spec, path, errors);
    security::validate_host_users(spec, path, errors);
    validate_hostname_override(spec, path, errors);
    let subdomain: Rule = |name| names::dns_subdomain(name, false);
    let label: Rule = |name| names::dns_label(name, false);
    check_named(
        "serviceAccountName",
        &spec.service_account_name,
        subdomain,
        path,
        errors,
    );
    check_named("nodeName", &spec.node_name, subdomain, path, errors);
    if let Some(seconds) = spec.active_deadline_seconds
        && !(1..=i64::from(i32::MAX)).contains(&seconds)
    {
        let range = names::range(1, i64::from(i32::MAX));
        errors.invalid(&path.child("activeDeadlineSeconds"), seconds, range);
    }
    check_named("hostname", &spec.hostname, label, path, errors);
    check_named("subdomain", &spec.subdomain, label, path, errors);
    validate_tolerations(slice(&spec.tolerations), &path.child("tolerations"), errors);
    for (index, alias) in slice(&spec.host_aliases).iter().enumerate() {
        let path = path.child("hostAliases").index(index);
        address::check(&alias.ip, &[], &path.child("ip"), errors);
        for (index, name) in slice(&alias.hostnames).iter().enumerate() {
            let path = path.child("hostnames").index(index);
            invalid_each(&path, name, names::dns_subdomain(name, false), errors);
        }
    }
    check_named(
        "priorityClassName",
        &spec.priority_class_name,
        subdomain,
        path,
        errors,
    );
    if let Some(name) = &spec.runtime_class_name {
        invalid_each(&path.child("runtimeClassName"), name, subdomain(name), errors);
    }
    if spec.preemption_policy.is_some() {
        one_of(
            &spec.preemption_policy,
            &["PreemptLowerPriority", "Never"],
            &path.child("preemptionPolicy"),
            errors,
        );
    }
    if let Some(overhead) = &spec.overhead {
        resources::validate_limits(overhead, &path.child("overhead"), errors);
    }
    windows::validate_os(spec, path, errors);
    env::validate_files(spec, path, errors);
}

/// Checks what holds for pods and not for templates of them: that a token is a service account's, and that images have
/// no white space around them.
pub(super) fn validate_only_for_pods(spec: &PodSpec, path: &Path, errors: &mut Errors) {
    if given(&spec.service_account_name).is_none() {
        for (index, volume) in slice(&spec.volumes).iter().enumerate() {
            let path = path.child("volumes").index(index).child("projected");
            let sources = volume
                .projected
                .iter()
                .flat_map(|projected| slice(&projected.sources));
            for (index, _) in sources
                .enumerate()
                .filter(|(_, source)| source.service_account_token.is_some())
            {
                errors.forbidden(
                    &path.child("sources").index(index).child("serviceAccountToken"),
                    "must not be specified when serviceAccountName is not set",
                );
            }
        }
    }
    let lists = [
        ("containers", spec.containers.as_slice()),
        ("initContainers", slice(&spec.init_containers)),
    ];
    for (list, containers) in lists {
        for (index, container) in containers.iter().enumerate() {
            containers::check_white_space(&container.image, &path.child(list).index(index), errors);
        }
    }
}

type Rule = fn(&str) -> Vec<String>;

fn check_named(field: &str, name: &Option<String>, rule: Rule, path: &Path, errors: &mut Errors) {
    if let Some(name) = given(name) {
        invalid_each(&path.child(field), name, rule(name), errors);
    }
}

/// Checks the name that the pod's processes see in place of the one that the pod would have.
fn validate_hostname_override(spec: &PodSpec, path: &Path, errors: &mut Errors) {
    let Some(name) = &spec.hostname_override else {
        return;
    };
    let path = path.child("hostnameOverride");
    if spec.set_hostname_as_fqdn == Some(true) {
        errors.forbidden(&path, "may not be specified when setHostnameAsFQDN is true");
    }
    if spec.host_network == Some(true) {
        errors.forbidden(&path, "may not be specified when hostNetwork is true");
    }
    if name.len() > 64 {
        errors.too_long(&path, 64);
    }
    invalid_each(&path, name, names::dns_subdomain(name, false), errors);
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
        address::check(server, &[], &path.child("nameservers").index(index), errors);
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
fn validate_claims<'s>(
    spec: &'s PodSpec,
    owner: Owner<'_>,
    path: &Path,
    errors: &mut Errors,
) -> BTreeSet<&'s str> {
    let mut seen = BTreeSet::new();
    let is_static = owner
        .pod
        .and_then(|pod| pod.annotations.as_ref())
        .is_some_and(|all| all.contains_key(crate::pod::MIRROR_ANNOTATION));
    for (index, claim) in slice(&spec.resource_claims).iter().enumerate() {
        let path = path.index(index);
        let name = claim.name.as_str();
        if is_static {
            seen.insert(name);
            errors.forbidden(&Path::new(""), "static pods do not support resource claims");
            continue;
        }
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
                internal::of("PodResourceClaim", claim),
                "at most one of `resourceClaimName` or `resourceClaimTemplateName` may be specified",
            ),
            (None, None) => errors.invalid(
                &path,
                internal::of("PodResourceClaim", claim),
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
