//! What a valid ingress is (`ValidateIngressSpec`).

use k8s_openapi::api::core::v1::TypedLocalObjectReference;
use k8s_openapi::api::networking::v1::{
    HTTPIngressPath, IngressBackend, IngressLoadBalancerStatus, IngressRule, IngressServiceBackend,
    IngressSpec,
};

use crate::core::address;
use crate::field::{Errors, Path};
use crate::names;

const NOT_A_NAME: &str = "must be a DNS name, not an IP address";

/// What has once been allowed, and stays so where it was used.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Allowed {
    /// Names that no secret can have.
    secrets: bool,
    /// Rules of a wildcard that have not been looked at.
    wildcards: bool,
}

impl Allowed {
    /// What an ingress was allowed that is changed now.
    pub(super) fn to(spec: &IngressSpec) -> Self {
        let secrets = spec.tls.iter().flatten();
        let mut secrets = secrets.filter_map(|tls| given(&tls.secret_name));
        let mut rules = spec.rules.iter().flatten();
        Self {
            secrets: secrets.any(|name| !names::dns_subdomain(name, false).is_empty()),
            wildcards: rules.any(|rule| {
                let mut errors = Errors::new();
                validate_http(rule, &Path::default(), &mut errors);
                is_wildcard(rule) && !errors.is_empty()
            }),
        }
    }
}

fn given(text: &Option<String>) -> Option<&str> {
    text.as_deref().filter(|text| !text.is_empty())
}

fn is_wildcard(rule: &IngressRule) -> bool {
    given(&rule.host).is_some_and(|host| host.contains('*'))
}

/// The services that an ingress leads to.
pub(super) fn services_mut(spec: &mut IngressSpec) -> impl Iterator<Item = &mut IngressServiceBackend> {
    let rules = spec.rules.iter_mut().flatten();
    let paths = rules.flat_map(|rule| rule.http.iter_mut().flat_map(|http| http.paths.iter_mut()));
    let backends = paths.map(|path| &mut path.backend);
    backends
        .chain(&mut spec.default_backend)
        .filter_map(|backend| backend.service.as_mut())
}

/// Checks the desired state.
pub(super) fn validate(spec: &IngressSpec, allowed: Allowed, path: &Path, errors: &mut Errors) {
    let rules = spec.rules.as_deref().unwrap_or_default();
    if rules.is_empty() && spec.default_backend.is_none() {
        errors.invalid(
            path,
            &spec.rules,
            "either `defaultBackend` or `rules` must be specified",
        );
    }
    if let Some(backend) = &spec.default_backend {
        validate_backend(backend, &path.child("defaultBackend"), errors);
    }
    for (index, rule) in rules.iter().enumerate() {
        let path = path.child("rules").index(index);
        if let Some(host) = given(&rule.host) {
            if address::parse_sloppily(host).is_some() {
                errors.invalid(&path.child("host"), host, NOT_A_NAME);
            }
            check_host(host, &path.child("host"), errors);
        }
        if !is_wildcard(rule) || !allowed.wildcards {
            validate_http(rule, &path, errors);
        }
    }
    for (index, tls) in spec.tls.iter().flatten().enumerate() {
        let path = path.child("tls").index(index);
        for (index, host) in tls.hosts.iter().flatten().enumerate() {
            check_host(host, &path.child("hosts").index(index), errors);
        }
        if let Some(name) = given(&tls.secret_name).filter(|_| !allowed.secrets) {
            for message in names::dns_subdomain(name, false) {
                errors.invalid(&path.child("secretName"), name, message);
            }
        }
    }
    if let Some(class) = &spec.ingress_class_name {
        for message in names::dns_subdomain(class, false) {
            errors.invalid(&path.child("ingressClassName"), class, message);
        }
    }
}

fn validate_http(rule: &IngressRule, path: &Path, errors: &mut Errors) {
    let Some(http) = &rule.http else { return };
    let path = path.child("http.paths");
    if http.paths.is_empty() {
        errors.required(&path, "");
    }
    for (index, rule) in http.paths.iter().enumerate() {
        validate_path(rule, &path.index(index), errors);
    }
}

fn check_host(host: &str, path: &Path, errors: &mut Errors) {
    let messages = if host.contains('*') {
        names::wildcard_dns_subdomain(host)
    } else {
        names::dns_subdomain(host, false)
    };
    for message in messages {
        errors.invalid(path, host, message);
    }
}

fn validate_path(rule: &HTTPIngressPath, path: &Path, errors: &mut Errors) {
    let (url, at) = (rule.path.as_deref().unwrap_or_default(), path.child("path"));
    match rule.path_type.as_str() {
        "" => return errors.required(&path.child("pathType"), "pathType must be specified"),
        "Exact" | "Prefix" => {
            if !url.starts_with('/') {
                errors.invalid(&at, url, "must be an absolute path");
            }
            for part in ["//", "/./", "/../", "%2f", "%2F"] {
                if url.contains(part) {
                    errors.invalid(&at, url, format!("must not contain '{part}'"));
                }
            }
            for end in ["/..", "/."] {
                if url.ends_with(end) {
                    errors.invalid(&at, url, format!("cannot end with '{end}'"));
                }
            }
        }
        "ImplementationSpecific" => {
            if !url.is_empty() && !url.starts_with('/') {
                errors.invalid(&at, url, "must be an absolute path");
            }
        }
        other => errors.not_supported(
            &path.child("pathType"),
            other,
            &["Exact", "ImplementationSpecific", "Prefix"],
        ),
    }
    validate_backend(&rule.backend, &path.child("backend"), errors);
}

fn validate_backend(backend: &IngressBackend, path: &Path, errors: &mut Errors) {
    match (&backend.resource, &backend.service) {
        (Some(_), Some(_)) => {
            errors.invalid(path, "", "cannot set both resource and service backends");
        }
        (Some(resource), None) => validate_reference(resource, &path.child("resource"), errors),
        (None, Some(service)) => validate_service(service, path, errors),
        (None, None) => errors.invalid(path, "", "resource or service backend is required"),
    }
}

fn validate_service(service: &IngressServiceBackend, path: &Path, errors: &mut Errors) {
    let at = path.child("service");
    if service.name.is_empty() {
        errors.required(&at.child("name"), "");
    } else {
        for message in names::dns_label(&service.name, false) {
            errors.invalid(&at.child("name"), &service.name, message);
        }
    }
    let port = service.port.clone().unwrap_or_default();
    let name = port.name.filter(|name| !name.is_empty());
    match (name, port.number.filter(|&number| number != 0)) {
        (Some(_), Some(_)) => errors.invalid(path, "", "cannot set both port name & port number"),
        (Some(name), None) => {
            for message in names::port_name(&name) {
                errors.invalid(&at.child("port.name"), &name, message);
            }
        }
        (None, Some(number)) => {
            for message in names::port_number(number) {
                errors.invalid(&at.child("port.number"), number, message);
            }
        }
        (None, None) => errors.required(path, "port name or number is required"),
    }
}

fn validate_reference(reference: &TypedLocalObjectReference, path: &Path, errors: &mut Errors) {
    validate_named(
        reference.api_group.as_deref(),
        &reference.kind,
        &reference.name,
        path,
        errors,
    );
}

/// Checks the group, kind and name of a reference.
pub(super) fn validate_named(group: Option<&str>, kind: &str, name: &str, path: &Path, errors: &mut Errors) {
    if let Some(group) = group {
        for message in names::dns_subdomain(group, false) {
            errors.invalid(&path.child("apiGroup"), group, message);
        }
    }
    for (field, value) in [("kind", kind), ("name", name)] {
        if value.is_empty() {
            errors.required(&path.child(field), &format!("{field} is required"));
        }
        for message in names::path_segment(value, false) {
            errors.invalid(&path.child(field), value, message);
        }
    }
}

/// Checks where the ingress can be reached.
pub(super) fn validate_status(
    status: &IngressLoadBalancerStatus,
    old: &IngressLoadBalancerStatus,
    path: &Path,
    errors: &mut Errors,
) {
    let kept: Vec<String> = old
        .ingress
        .iter()
        .flatten()
        .filter_map(|point| point.ip.clone())
        .collect();
    for (index, point) in status.ingress.iter().flatten().enumerate() {
        let path = path.child("ingress").index(index);
        if let Some(ip) = given(&point.ip) {
            address::check(ip, &kept, &path.child("ip"), errors);
        }
        if let Some(host) = given(&point.hostname) {
            for message in names::dns_subdomain(host, false) {
                errors.invalid(&path.child("hostname"), host, message);
            }
            if address::parse_sloppily(host).is_some() {
                errors.invalid(&path.child("hostname"), host, NOT_A_NAME);
            }
        }
    }
}
