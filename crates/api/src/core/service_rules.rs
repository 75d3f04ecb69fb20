//! What a valid service is, and what an update may change of it (`ValidateService`).

use std::collections::BTreeSet;

use k8s_openapi::api::core::v1::{LoadBalancerIngress, Service, ServicePort, ServiceSpec};
use k8s_openapi::apimachinery::pkg::util::intstr::IntOrString;

use super::address;
use super::pod_spec::check_port;
use super::service::{check_protocol, is_external, is_headless, needs_health_check, type_of};
use crate::field::{Errors, Internal, Path};
use crate::kind::Target;
use crate::meta;
use crate::names;

const MAX_AFFINITY_SECONDS: i32 = 86_400;
const ONCE: &str = "may not change once set";
const ONE_EACH: &str = "may specify no more than one IP for each IP family";
const SOURCE_RANGES: &str = "service.beta.kubernetes.io/load-balancer-source-ranges";
const TOPOLOGY_HINTS: &str = "service.kubernetes.io/topology-aware-hints";
const TOPOLOGY_MODE: &str = "service.kubernetes.io/topology-mode";

fn slice<T>(list: &Option<Vec<T>>) -> &[T] {
    list.as_deref().unwrap_or_default()
}

fn given(text: &Option<String>) -> Option<&str> {
    text.as_deref().filter(|text| !text.is_empty())
}

/// Checks a service; of what the old one had, addresses may stay as they were written.
pub(super) fn validate(service: &Service, old: Option<&Service>, errors: &mut Errors) {
    let spec = service.spec.clone().unwrap_or_default();
    let before = old.and_then(|old| old.spec.clone()).unwrap_or_default();
    let path = Path::new("spec");
    validate_topology(service, errors);
    let (kind, headless) = (type_of(&spec), is_headless(&spec));
    let ports = slice(&spec.ports);
    if ports.is_empty() && !headless && kind != "ExternalName" {
        errors.required(&path.child("ports"), "");
    }
    match kind {
        "LoadBalancer" | "NodePort" if headless => errors.invalid(
            &path.child("clusterIPs").index(0),
            "None",
            format!("may not be set to 'None' for {kind} services"),
        ),
        "ExternalName" => validate_external_name(&spec, &path, errors),
        _ => {}
    }
    let mut seen = BTreeSet::new();
    for (index, port) in ports.iter().enumerate() {
        validate_port(
            port,
            ports.len() > 1,
            &mut seen,
            &path.child("ports").index(index),
            errors,
        );
    }
    meta::validate_labels(spec.selector.as_ref(), &path.child("selector"), errors);
    validate_affinity(&spec, &path, errors);
    if kind != "ExternalName" {
        validate_cluster_ips(&spec, &before, &path, errors);
    }
    for (index, ip) in slice(&spec.external_ips).iter().enumerate() {
        let path = path.child("externalIPs").index(index);
        let found = errors.iter().len();
        address::check(ip, slice(&before.external_ips), &path, errors);
        if errors.iter().len() == found {
            super::endpoints::check_address(ip, &path, errors);
        }
    }
    match kind {
        "" => errors.required(&path.child("type"), ""),
        "ClusterIP" | "NodePort" | "LoadBalancer" | "ExternalName" => {}
        other => errors.not_supported(
            &path.child("type"),
            other,
            &["ClusterIP", "ExternalName", "LoadBalancer", "NodePort"],
        ),
    }
    validate_numbers(ports, kind, &path.child("ports"), errors);
    validate_ranges(service, old, &path, errors);
    validate_balancer(&spec, &path, errors);
    validate_policies(&spec, &path, errors);
}

/// The annotation for topology has an old and a new name.
fn validate_topology(service: &Service, errors: &mut Errors) {
    let annotation = |key: &str| service.metadata.annotations.as_ref().and_then(|all| all.get(key));
    if let (Some(hints), Some(mode)) = (annotation(TOPOLOGY_HINTS), annotation(TOPOLOGY_MODE))
        && hints != mode
    {
        errors.invalid(
            &Path::new("metadata.annotations").key(TOPOLOGY_MODE),
            mode,
            format!("must match annotations[{TOPOLOGY_HINTS}] when both are specified"),
        );
    }
}

fn validate_external_name(spec: &ServiceSpec, path: &Path, errors: &mut Errors) {
    let unfit = [
        ("clusterIPs", !slice(&spec.cluster_ips).is_empty()),
        ("ipFamilies", !slice(&spec.ip_families).is_empty()),
        ("ipFamilyPolicy", spec.ip_family_policy.is_some()),
    ];
    for (field, _) in unfit.into_iter().filter(|(_, set)| *set) {
        errors.forbidden(&path.child(field), "may not be set for ExternalName services");
    }
    let name = spec.external_name.as_deref().unwrap_or_default();
    match name.strip_suffix('.').unwrap_or(name) {
        "" => errors.required(&path.child("externalName"), ""),
        name => {
            for message in names::dns_subdomain(name, false) {
                errors.invalid(&path.child("externalName"), name, message);
            }
        }
    }
}

fn validate_port<'s>(
    port: &'s ServicePort,
    needs_name: bool,
    seen: &mut BTreeSet<&'s str>,
    path: &Path,
    errors: &mut Errors,
) {
    match given(&port.name) {
        None if needs_name => errors.required(&path.child("name"), ""),
        None => {}
        Some(name) => {
            for message in names::dns_label(name, false) {
                errors.invalid(&path.child("name"), name, message);
            }
            if !seen.insert(name) {
                errors.duplicate(&path.child("name"), name);
            }
        }
    }
    for message in names::port_number(port.port) {
        errors.invalid(&path.child("port"), port.port, message);
    }
    check_protocol(port.protocol.as_deref(), &path.child("protocol"), errors);
    let target = port.target_port.clone().unwrap_or(IntOrString::Int(0));
    check_port(&target, &path.child("targetPort"), errors);
    if let Some(protocol) = &port.app_protocol {
        meta::validate_label_name(protocol, &path.child("appProtocol"), errors);
    }
}

fn validate_affinity(spec: &ServiceSpec, path: &Path, errors: &mut Errors) {
    const WHEN: &str = "when session affinity type is ClientIP";
    let config = spec.session_affinity_config.as_ref();
    let at = path.child("sessionAffinityConfig");
    match given(&spec.session_affinity) {
        None => errors.required(&path.child("sessionAffinity"), ""),
        Some("None") if config.is_some() => {
            errors.forbidden(&at, "must not be set when session affinity is None");
        }
        Some("None") => {}
        Some("ClientIP") => {
            let Some(config) = config else {
                return errors.required(&at, WHEN);
            };
            let at = at.child("clientIP");
            let Some(client) = &config.client_ip else {
                return errors.required(&at, WHEN);
            };
            let at = at.child("timeoutSeconds");
            match client.timeout_seconds {
                None => errors.required(&at, WHEN),
                Some(seconds) if seconds <= 0 || seconds > MAX_AFFINITY_SECONDS => errors.invalid(
                    &at,
                    seconds,
                    format!("must be greater than 0 and less than {MAX_AFFINITY_SECONDS}"),
                ),
                Some(_) => {}
            }
        }
        Some(other) => errors.not_supported(&path.child("sessionAffinity"), other, &["ClientIP", "None"]),
    }
}

fn validate_cluster_ips(spec: &ServiceSpec, before: &ServiceSpec, path: &Path, errors: &mut Errors) {
    let (ips, families) = (slice(&spec.cluster_ips), slice(&spec.ip_families));
    let (ips_path, families_path) = (path.child("clusterIPs"), path.child("ipFamilies"));
    match (given(&spec.cluster_ip), ips.first()) {
        (Some(_), None) => errors.required(&ips_path, ""),
        (Some(one), Some(first)) if first != one => {
            errors.invalid(&ips_path, ips, "first value must match `clusterIP`");
        }
        (None, Some(_)) => errors.invalid(&ips_path, ips, "must be empty when `clusterIP` is not specified"),
        _ => {}
    }
    let mut seen = BTreeSet::new();
    for (index, family) in families.iter().enumerate() {
        if !matches!(family.as_str(), "IPv4" | "IPv6") {
            errors.not_supported(&families_path.index(index), family, &["IPv4", "IPv6"]);
        }
        if !seen.insert(family) {
            errors.duplicate(&families_path.index(index), family);
        }
    }
    if let Some(policy) = &spec.ip_family_policy {
        let allowed = ["PreferDualStack", "RequireDualStack", "SingleStack"];
        if !allowed.contains(&policy.as_str()) {
            errors.not_supported(&path.child("ipFamilyPolicy"), policy, &allowed);
        }
    }
    let mut valid = true;
    for (index, ip) in ips.iter().enumerate() {
        if index == 0 && ip == "None" {
            if ips.len() > 1 {
                valid = false;
                errors.invalid(&ips_path, ips, "'None' must be the first and only value");
            }
        } else {
            let found = errors.iter().len();
            address::check(ip, slice(&before.cluster_ips), &ips_path.index(index), errors);
            valid &= errors.iter().len() == found;
        }
    }
    if ips.len() > 2 {
        errors.invalid(&ips_path, ips, "may only hold up to 2 values");
    }
    if !valid {
        return;
    }
    let six = |ip: &str| ip.contains(':');
    if ips.len() > 1 && (ips.iter().all(|ip| six(ip)) || !ips.iter().any(|ip| six(ip))) {
        errors.invalid(&ips_path, ips, ONE_EACH);
    }
    if is_headless(spec) {
        return;
    }
    for (index, (ip, family)) in ips.iter().zip(families).enumerate() {
        let expected = match family.as_str() {
            "IPv4" if six(ip) => "IPv4",
            "IPv6" if !six(ip) => "IPv6",
            _ => continue,
        };
        errors.invalid(
            &ips_path.index(index),
            ip,
            format!("expected an {expected} value as indicated by `ipFamilies[{index}]`"),
        );
    }
}

/// Ports and node ports are unique together with their protocols.
fn validate_numbers(ports: &[ServicePort], kind: &str, all: &Path, errors: &mut Errors) {
    let node_ports = || {
        let given = |port: &ServicePort| port.node_port.filter(|&number| number != 0);
        ports
            .iter()
            .enumerate()
            .filter_map(move |(index, port)| Some((index, port.protocol.as_deref(), given(port)?)))
    };
    if kind == "ClusterIP" {
        for (index, _, _) in node_ports() {
            errors.forbidden(
                &all.index(index).child("nodePort"),
                "may not be used when `type` is 'ClusterIP'",
            );
        }
    }
    let mut seen = BTreeSet::new();
    for (index, protocol, number) in node_ports() {
        if !seen.insert((protocol, number)) {
            errors.duplicate(&all.index(index).child("nodePort"), number);
        }
    }
    let mut seen = BTreeSet::new();
    for (index, port) in ports.iter().enumerate() {
        if !seen.insert((&port.protocol, port.port)) {
            let key = Internal::fields([
                ("Name", Internal::plain(&"")),
                ("Protocol", Internal::plain(&port.protocol)),
                ("AppProtocol", Internal::optional(None)),
                ("Port", Internal::plain(&port.port)),
                ("TargetPort", Internal::plain(&0)),
                ("NodePort", Internal::plain(&0)),
            ]);
            errors.duplicate(&all.index(index), key);
        }
    }
}

/// Checks whom the balancer lets in; the annotation is from before the field. White space around a range is allowed.
fn validate_ranges(service: &Service, old: Option<&Service>, path: &Path, errors: &mut Errors) {
    const ONLY: &str = "may only be used when `type` is 'LoadBalancer'";
    let ranges = |service: &Service| -> Vec<String> {
        let spec = service.spec.as_ref();
        let ranges = spec.and_then(|spec| spec.load_balancer_source_ranges.as_deref());
        let trimmed = ranges
            .unwrap_or_default()
            .iter()
            .map(|range| range.trim().to_string());
        trimmed.collect()
    };
    let balanced = service
        .spec
        .as_ref()
        .is_some_and(|spec| type_of(spec) == "LoadBalancer");
    let given = ranges(service);
    if !given.is_empty() {
        let path = path.child("LoadBalancerSourceRanges");
        if !balanced {
            errors.forbidden(&path, ONLY);
        }
        let kept = old.map(ranges).unwrap_or_default();
        for (index, range) in given.iter().enumerate() {
            address::check_range(range, &kept, &path.index(index), errors);
        }
        return;
    }
    let annotation = |service: &'_ Service| {
        let annotations = service.metadata.annotations.as_ref();
        annotations.and_then(|all| all.get(SOURCE_RANGES)).cloned()
    };
    let Some(text) = annotation(service) else { return };
    let path = Path::new("metadata.annotations").key(SOURCE_RANGES);
    if !balanced {
        errors.forbidden(&path, ONLY);
    }
    if old.and_then(annotation).as_ref() != Some(&text) && !text.trim().is_empty() {
        for range in text.trim().split(',') {
            address::check_range(range.trim(), &[], &path, errors);
        }
    }
}

fn validate_balancer(spec: &ServiceSpec, path: &Path, errors: &mut Errors) {
    let balanced = type_of(spec) == "LoadBalancer";
    if spec.allocate_load_balancer_node_ports.is_some() && !balanced {
        errors.forbidden(
            &path.child("allocateLoadBalancerNodePorts"),
            "may only be used when `type` is 'LoadBalancer'",
        );
    }
    if let Some(class) = &spec.load_balancer_class {
        let path = path.child("loadBalancerClass");
        if balanced {
            meta::validate_label_name(class, &path, errors);
        } else {
            errors.forbidden(&path, "may only be used when `type` is 'LoadBalancer'");
        }
    }
}

fn validate_policies(spec: &ServiceSpec, path: &Path, errors: &mut Errors) {
    let external = path.child("externalTrafficPolicy");
    match (is_external(spec), given(&spec.external_traffic_policy)) {
        (false, Some(policy)) => errors.invalid(
            &external,
            policy,
            "may only be set for externally-accessible services",
        ),
        (true, None) => errors.required(&external, ""),
        (true, Some(policy)) if !matches!(policy, "Cluster" | "Local") => {
            errors.not_supported(&external, policy, &["Cluster", "Local"]);
        }
        _ => {}
    }
    let health = path.child("healthCheckNodePort");
    // One that is needed and not given is allocated before it is stored.
    if let Some(port) = spec.health_check_node_port.filter(|&port| port != 0) {
        if !needs_health_check(spec) {
            errors.invalid(
                &health,
                port,
                "may only be set when `type` is 'LoadBalancer' and `externalTrafficPolicy` is 'Local'",
            );
        } else {
            for message in names::port_number(port) {
                errors.invalid(&health, port, message);
            }
        }
    }
    let internal = path.child("internalTrafficPolicy");
    match spec.internal_traffic_policy.as_deref() {
        None if matches!(type_of(spec), "NodePort" | "LoadBalancer" | "ClusterIP") => {
            errors.required(&internal, "");
        }
        None | Some("Cluster" | "Local") => {}
        Some(other) => errors.not_supported(&internal, other, &["Cluster", "Local"]),
    }
    if let Some(distribution) = spec.traffic_distribution.as_deref() {
        let allowed = ["PreferClose", "PreferSameZone", "PreferSameNode"];
        if !allowed.contains(&distribution) {
            errors.not_supported(&path.child("trafficDistribution"), distribution, &allowed);
        }
    }
}

/// Checks what an update changes.
pub(super) fn validate_update(new: &Service, old: &Service, target: Target, errors: &mut Errors) {
    let (spec, before) = (
        new.spec.clone().unwrap_or_default(),
        old.spec.clone().unwrap_or_default(),
    );
    if target != Target::Main {
        return validate_status(new, old, &spec, errors);
    }
    let path = Path::new("spec");
    if type_of(&spec) != "ExternalName" && type_of(&before) != "ExternalName" {
        validate_ip_changes(&spec, &before, &path, errors);
    }
    let balanced = type_of(&spec) == "LoadBalancer" && type_of(&before) == "LoadBalancer";
    if balanced && spec.load_balancer_class != before.load_balancer_class {
        errors.invalid(&path.child("loadBalancerClass"), &spec.load_balancer_class, ONCE);
    }
    if needs_health_check(&spec)
        && needs_health_check(&before)
        && before.health_check_node_port.unwrap_or(0) != 0
        && spec.health_check_node_port != before.health_check_node_port
    {
        errors.forbidden(&path.child("healthCheckNodePort"), "field is immutable");
    }
}

fn validate_ip_changes(new: &ServiceSpec, old: &ServiceSpec, path: &Path, errors: &mut Errors) {
    let (was_headless, is_now) = (is_headless(old), is_headless(new));
    if was_headless && is_now {
        return;
    }
    let (ips, before) = (slice(&new.cluster_ips), slice(&old.cluster_ips));
    let at = path.child("clusterIPs");
    let is_single = new.ip_family_policy.as_deref() == Some("SingleStack");
    let release = |what: &str, errors: &mut Errors| {
        if !is_single {
            errors.invalid(
                &path.child("ipFamilyPolicy"),
                &new.ip_family_policy,
                format!("must be set to 'SingleStack' when releasing the secondary {what}"),
            );
        }
    };
    if before.len() == ips.len() {
        for (index, _) in ips
            .iter()
            .zip(before)
            .enumerate()
            .filter(|(_, (new, old))| new != old)
        {
            errors.invalid(&at.index(index), ips, ONCE);
        }
    } else {
        if ips.is_empty() {
            errors.invalid(&at.index(0), ips, "primary clusterIP can not be unset");
        }
        if ips
            .first()
            .zip(before.first())
            .is_some_and(|(new, old)| new != old)
        {
            errors.invalid(&at.index(0), ips, ONCE);
        }
        if before.len() > ips.len() && ips.len() == 1 {
            release("clusterIP", errors);
        }
    }
    // A headless service may change its families.
    if was_headless || is_now {
        return;
    }
    let (families, before) = (slice(&new.ip_families), slice(&old.ip_families));
    let at = path.child("ipFamilies").index(0);
    if before.len() == families.len() {
        for _ in families.iter().zip(before).filter(|(new, old)| new != old) {
            errors.invalid(&at, families, ONCE);
        }
    } else {
        let released = before.len() > families.len();
        if released && ips.is_empty() {
            errors.invalid(&at, families, "primary ipFamily can not be unset");
        }
        if families
            .first()
            .zip(before.first())
            .is_some_and(|(new, old)| new != old)
        {
            errors.invalid(&at, ips, ONCE);
        }
        if released && families.len() == 1 {
            release("ipFamily", errors);
        }
    }
}

fn ingress_of(service: &Service) -> &[LoadBalancerIngress] {
    let balancer = service
        .status
        .as_ref()
        .and_then(|status| status.load_balancer.as_ref());
    balancer
        .map(|balancer| slice(&balancer.ingress))
        .unwrap_or_default()
}

fn validate_status(service: &Service, old: &Service, spec: &ServiceSpec, errors: &mut Errors) {
    let ingress = ingress_of(service);
    let kept: Vec<String> = ingress_of(old)
        .iter()
        .filter_map(|ingress| ingress.ip.clone())
        .collect();
    let path = Path::new("status.loadBalancer.ingress");
    if !ingress.is_empty() && type_of(spec) != "LoadBalancer" {
        return errors.forbidden(&path, "may only be used when `spec.type` is 'LoadBalancer'");
    }
    for (index, ingress) in ingress.iter().enumerate() {
        let path = path.index(index);
        let ip = given(&ingress.ip);
        if let Some(ip) = ip {
            address::check(ip, &kept, &path.child("ip"), errors);
        }
        match (ip, ingress.ip_mode.as_deref()) {
            (Some(_), None) => errors.required(&path.child("ipMode"), "must be specified when `ip` is set"),
            (None, Some(_)) => {
                errors.forbidden(&path.child("ipMode"), "may not be specified when `ip` is not set")
            }
            (Some(_), Some(mode)) if !matches!(mode, "VIP" | "Proxy") => {
                errors.not_supported(&path.child("ipMode"), mode, &["Proxy", "VIP"]);
            }
            _ => {}
        }
        if let Some(name) = given(&ingress.hostname) {
            for message in names::dns_subdomain(name, false) {
                errors.invalid(&path.child("hostname"), name, message);
            }
            if address::parse_sloppily(name).is_some() {
                errors.invalid(
                    &path.child("hostname"),
                    name,
                    "must be a DNS name, not an IP address",
                );
            }
        }
    }
}

/// What the writer of a service is told though the service is accepted.
pub(super) fn warnings(service: &Service) -> Vec<String> {
    let mut warnings = Vec::new();
    let hinted = service
        .metadata
        .annotations
        .as_ref()
        .is_some_and(|annotations| annotations.contains_key(TOPOLOGY_HINTS));
    if hinted {
        warnings.push(format!(
            "annotation {TOPOLOGY_HINTS} is deprecated, please use {TOPOLOGY_MODE} instead"
        ));
    }
    let Some(spec) = &service.spec else {
        return warnings;
    };
    let kind = type_of(spec);
    let balancer = given(&spec.load_balancer_ip);
    let external = slice(&spec.external_ips);
    let path = Path::new("spec");
    let unusual = |field: &str, addresses: &[String]| -> Vec<String> {
        let each = addresses.iter().enumerate();
        each.filter_map(|(index, ip)| address::warning(&path.child(field).index(index), ip))
            .collect()
    };
    let headless = kind == "ClusterIP" && spec.cluster_ip.as_deref() == Some("None");
    warnings.extend(unusual("clusterIPs", slice(&spec.cluster_ips)));
    if headless {
        let affinity = spec.session_affinity.as_deref() != Some("None");
        for (field, ignored) in [
            ("loadBalancerIP", balancer.is_some()),
            ("externalIPs", !external.is_empty()),
            ("SessionAffinity", affinity),
        ] {
            if ignored {
                warnings.push(format!("spec.{field} is ignored for headless services"));
            }
        }
    }
    warnings.extend(unusual("externalIPs", external));
    if !external.is_empty() && !headless && kind != "ExternalName" {
        warnings
            .push("spec.externalIPs is deprecated and may no longer be implemented in some clusters".into());
    }
    warnings.extend(balancer.and_then(|ip| address::warning(&path.child("loadBalancerIP"), ip)));
    if kind == "ExternalName" && !external.is_empty() {
        warnings.push("spec.externalIPs is ignored when spec.type is \"ExternalName\"".into());
    }
    if kind != "ExternalName" && given(&spec.external_name).is_some() {
        warnings.push("spec.externalName is ignored when spec.type is not \"ExternalName\"".into());
    }
    if spec.traffic_distribution.as_deref() == Some("PreferClose") {
        warnings
            .push("spec.trafficDistribution: \"PreferClose\" is deprecated; use \"PreferSameZone\"".into());
    }
    warnings
}
