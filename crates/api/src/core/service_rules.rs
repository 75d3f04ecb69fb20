//! What a valid service is, and what an update may change of it (`ValidateService`).

use std::collections::BTreeSet;
use std::net::IpAddr;

use k8s_openapi::api::core::v1::{Service, ServicePort, ServiceSpec};
use k8s_openapi::apimachinery::pkg::util::intstr::IntOrString;

use super::pod_spec::check_port;
use super::service::{check_protocol, is_external, is_headless, needs_health_check, type_of};
use crate::field::{Errors, Path};
use crate::kind::Target;
use crate::meta;
use crate::names;

const MAX_AFFINITY_SECONDS: i32 = 86_400;
const ONCE: &str = "may not change once set";
const ONE_EACH: &str = "may specify no more than one IP for each IP family";
const TOPOLOGY_HINTS: &str = "service.kubernetes.io/topology-aware-hints";
const TOPOLOGY_MODE: &str = "service.kubernetes.io/topology-mode";

fn slice<T>(list: &Option<Vec<T>>) -> &[T] {
    list.as_deref().unwrap_or_default()
}

fn given(text: &Option<String>) -> Option<&str> {
    text.as_deref().filter(|text| !text.is_empty())
}

/// Checks a service.
pub(super) fn validate(service: &Service, errors: &mut Errors) {
    let spec = service.spec.clone().unwrap_or_default();
    let path = Path::new("spec");
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
        validate_cluster_ips(&spec, &path, errors);
    }
    for (index, ip) in slice(&spec.external_ips).iter().enumerate() {
        super::check_address(ip, &path.child("externalIPs").index(index), errors);
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
    validate_balancer(&spec, &path, errors);
    validate_policies(&spec, &path, errors);
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

fn validate_cluster_ips(spec: &ServiceSpec, path: &Path, errors: &mut Errors) {
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
        } else if ip.parse::<IpAddr>().is_err() {
            valid = false;
            errors.invalid(&ips_path.index(index), ip, names::NOT_AN_ADDRESS);
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
fn validate_numbers(ports: &[ServicePort], kind: &str, path: &Path, errors: &mut Errors) {
    let (mut numbers, mut node_numbers) = (BTreeSet::new(), BTreeSet::new());
    for (index, port) in ports.iter().enumerate() {
        let path = path.index(index);
        let protocol = port.protocol.as_deref().unwrap_or_default();
        if let Some(number) = port.node_port.filter(|&number| number != 0) {
            if kind == "ClusterIP" {
                errors.forbidden(
                    &path.child("nodePort"),
                    "may not be used when `type` is 'ClusterIP'",
                );
            } else if !node_numbers.insert((protocol, number)) {
                errors.duplicate(&path.child("nodePort"), number);
            }
        }
        if !numbers.insert((protocol, port.port)) {
            let bare = ServicePort {
                port: port.port,
                protocol: port.protocol.clone(),
                ..Default::default()
            };
            errors.duplicate(&path, bare);
        }
    }
}

fn validate_balancer(spec: &ServiceSpec, path: &Path, errors: &mut Errors) {
    let balanced = type_of(spec) == "LoadBalancer";
    let ranges = slice(&spec.load_balancer_source_ranges);
    if !ranges.is_empty() {
        let path = path.child("LoadBalancerSourceRanges");
        if !balanced {
            errors.forbidden(&path, "may only be used when `type` is 'LoadBalancer'");
        }
        for (index, range) in ranges.iter().enumerate() {
            if !is_range(range.trim()) {
                errors.invalid(
                    &path.index(index),
                    range,
                    "must be a valid CIDR value, (e.g. 10.9.8.0/24 or 2001:db8::/64)",
                );
            }
        }
    }
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

fn is_range(text: &str) -> bool {
    let Some((address, length)) = text.split_once('/') else {
        return false;
    };
    match (address.parse::<IpAddr>(), length.parse::<u8>()) {
        (Ok(IpAddr::V4(_)), Ok(length)) => length <= 32,
        (Ok(IpAddr::V6(_)), Ok(length)) => length <= 128,
        _ => false,
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
        return validate_status(new, &spec, errors);
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
    changed(
        slice(&new.cluster_ips),
        slice(&old.cluster_ips),
        new,
        &path.child("clusterIPs"),
        "clusterIP",
        errors,
    );
    if was_headless == is_now {
        changed(
            slice(&new.ip_families),
            slice(&old.ip_families),
            new,
            &path.child("ipFamilies"),
            "ipFamily",
            errors,
        );
    }
}

/// The first of two lists never changes; a second may be added, or given up by asking for a single stack.
fn changed(new: &[String], old: &[String], spec: &ServiceSpec, path: &Path, what: &str, errors: &mut Errors) {
    if old.len() > new.len() {
        if new.is_empty() {
            errors.invalid(&path.index(0), new, format!("primary {what} can not be unset"));
        }
        if new.len() == 1 && spec.ip_family_policy.as_deref() != Some("SingleStack") {
            errors.invalid(
                &Path::new("spec.ipFamilyPolicy"),
                &spec.ip_family_policy,
                format!("must be set to 'SingleStack' when releasing the secondary {what}"),
            );
        }
    }
    let compared = if old.len() == new.len() { old.len() } else { 1 };
    for (index, (new_value, old_value)) in new.iter().zip(old).take(compared).enumerate() {
        if new_value != old_value {
            errors.invalid(&path.index(index), new, ONCE);
        }
    }
}

fn validate_status(service: &Service, spec: &ServiceSpec, errors: &mut Errors) {
    let balancer = service
        .status
        .as_ref()
        .and_then(|status| status.load_balancer.as_ref());
    let ingress = balancer
        .map(|balancer| slice(&balancer.ingress))
        .unwrap_or_default();
    let path = Path::new("status.loadBalancer.ingress");
    if !ingress.is_empty() && type_of(spec) != "LoadBalancer" {
        return errors.forbidden(&path, "may only be used when `spec.type` is 'LoadBalancer'");
    }
    for (index, ingress) in ingress.iter().enumerate() {
        let path = path.index(index);
        let ip = given(&ingress.ip);
        if let Some(ip) = ip
            && ip.parse::<IpAddr>().is_err()
        {
            errors.invalid(&path.child("ip"), ip, names::NOT_AN_ADDRESS);
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
            if name.parse::<IpAddr>().is_ok() {
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
    warnings.extend(unusual_forms(&path.child("clusterIPs"), slice(&spec.cluster_ips)));
    if kind == "ClusterIP" && is_headless(spec) {
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
    warnings.extend(unusual_forms(&path.child("externalIPs"), external));
    warnings.extend(balancer.and_then(|ip| unusual_form(&path.child("loadBalancerIP"), ip)));
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

fn unusual_forms(path: &Path, addresses: &[String]) -> Vec<String> {
    let each = addresses.iter().enumerate();
    each.filter_map(|(index, address)| unusual_form(&path.index(index), address))
        .collect()
}

/// What is said of an address that is not written the way everyone writes it.
pub(crate) fn unusual_form(path: &Path, address: &str) -> Option<String> {
    let IpAddr::V6(parsed) = address.parse().ok()? else {
        return None;
    };
    if let Some(mapped) = parsed.to_ipv4_mapped() {
        return Some(format!(
            "{path}: non-standard IP address {address:?} will be considered invalid in a future Kubernetes release: \
             use {:?}",
            mapped.to_string()
        ));
    }
    let canonical = parsed.to_string();
    (canonical != address).then(|| {
        format!("{path}: IPv6 address {address:?} should be in RFC 5952 canonical format ({canonical:?})")
    })
}
