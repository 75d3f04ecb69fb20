//! EndpointSlice: some of the addresses behind a service.

use std::collections::{BTreeMap, BTreeSet};

use jiff::Timestamp;
use k8s_openapi::api::discovery::v1::{Endpoint, EndpointPort, EndpointSlice};
use serde_json::Value;

use crate::cell;
use crate::core::{address, check_endpoint_range};
use crate::field::{Errors, Path};
use crate::kind::{Column, Kind, KindInfo, Target, age};
use crate::meta;
use crate::names;

const MAX_ENDPOINTS: usize = 1000;
const MAX_PORTS: usize = 20_000;
const MAX_ADDRESSES: usize = 100;
const MAX_ZONE_HINTS: usize = 8;
const MAX_TOPOLOGY_LABELS: usize = 16;
const HOSTNAME: &str = "kubernetes.io/hostname";
const MANAGED_BY: &str = "endpointslice.kubernetes.io/managed-by";
/// Kubernetes' own controllers write addresses as they are to be written.
const CONTROLLERS: [&str; 2] = [
    "endpointslice-controller.k8s.io",
    "endpointslicemirroring-controller.k8s.io",
];
const MAX_NODE_HINTS: usize = 8;

impl Kind for EndpointSlice {
    fn info() -> KindInfo {
        KindInfo {
            columns: vec![
                Column::object_name(),
                Column::of(
                    "AddressType",
                    "string",
                    "discovery.v1.EndpointSlice",
                    "addressType",
                ),
                Column::of("Ports", "string", "discovery.v1.EndpointSlice", "ports"),
                Column::of("Endpoints", "string", "discovery.v1.EndpointSlice", "endpoints"),
                Column::age(),
            ],
            ..KindInfo::of::<Self>("endpointslice")
        }
    }

    fn default(&mut self) {
        for port in self.ports.iter_mut().flatten() {
            port.name.get_or_insert_default();
            port.protocol.get_or_insert_with(|| "TCP".into());
        }
        for endpoint in self.endpoints.iter_mut().flatten() {
            endpoint.conditions.get_or_insert_default();
        }
    }

    fn prepare_for_create(&mut self) {
        self.metadata.generation = Some(1);
        drop_topology(self.endpoints.as_deref_mut(), &BTreeSet::new());
    }

    fn prepare_for_update(&mut self, old: &Self, _target: Target) {
        let same = self.address_type == old.address_type
            && self.endpoints.as_deref().unwrap_or_default() == old.endpoints.as_deref().unwrap_or_default()
            && self.ports.as_deref().unwrap_or_default() == old.ports.as_deref().unwrap_or_default()
            && self.metadata.labels.clone().unwrap_or_default()
                == old.metadata.labels.clone().unwrap_or_default();
        let generation = old.metadata.generation.unwrap_or(0);
        self.metadata.generation = Some(if same {
            generation
        } else {
            generation.saturating_add(1)
        });
        if self.endpoints.as_deref().unwrap_or_default() != old.endpoints.as_deref().unwrap_or_default() {
            let before = old.endpoints.iter().flatten().filter_map(host).collect();
            drop_topology(self.endpoints.as_deref_mut(), &before);
        }
    }

    fn validate(&self, errors: &mut Errors) {
        match self.address_type.as_str() {
            "IPv4" | "IPv6" | "FQDN" => {}
            "" => errors.required(&Path::new("addressType"), ""),
            other => errors.not_supported(&Path::new("addressType"), other, &["FQDN", "IPv4", "IPv6"]),
        }
        let endpoints = self.endpoints.as_deref().unwrap_or_default();
        let path = Path::new("endpoints");
        if endpoints.len() > MAX_ENDPOINTS {
            errors.too_many(&path, endpoints.len(), MAX_ENDPOINTS);
        } else {
            for (index, endpoint) in endpoints.iter().enumerate() {
                validate_endpoint(endpoint, &self.address_type, &path.index(index), errors);
            }
        }
        validate_ports(
            self.ports.as_deref().unwrap_or_default(),
            &Path::new("ports"),
            errors,
        );
    }

    fn validate_update(&self, old: &Self, _target: Target, errors: &mut Errors) {
        meta::immutable(
            &self.address_type,
            &old.address_type,
            &Path::new("addressType"),
            errors,
        );
    }

    fn warnings(&self, old: Option<&Self>) -> Vec<String> {
        let mut warnings = Vec::new();
        if old.is_none() && self.address_type == "FQDN" {
            warnings.push("spec.addressType: FQDN endpoints are deprecated".into());
        }
        let labels = self.metadata.labels.as_ref();
        let managed_by = labels.and_then(|labels| labels.get(MANAGED_BY));
        if managed_by.is_some_and(|controller| CONTROLLERS.contains(&controller.as_str())) {
            return warnings;
        }
        for (index, endpoint) in self.endpoints.iter().flatten().enumerate() {
            let path = Path::new("endpoints").index(index).child("addresses");
            for (index, text) in endpoint.addresses.iter().enumerate() {
                warnings.extend(address::warning(&path.index(index), text));
            }
        }
        warnings
    }

    fn cells(&self, now: Timestamp) -> Vec<Value> {
        let ports: Vec<String> = self
            .ports
            .iter()
            .flatten()
            .map(|port| match (port.port, &port.name) {
                (Some(port), _) => port.to_string(),
                (None, Some(name)) => name.clone(),
                (None, None) => "*".into(),
            })
            .collect();
        let addresses: Vec<String> = self
            .endpoints
            .iter()
            .flatten()
            .flat_map(|endpoint| endpoint.addresses.iter().cloned())
            .collect();
        let shown = |all: &[String]| -> Value {
            match cell::first_three(all) {
                text if text.is_empty() => "<unset>".into(),
                text => text.into(),
            }
        };
        vec![
            self.metadata.name.clone().into(),
            self.address_type.clone().into(),
            shown(&ports),
            shown(&addresses),
            age(&self.metadata, now),
        ]
    }
}

fn host(endpoint: &Endpoint) -> Option<&str> {
    let topology = endpoint.deprecated_topology.as_ref()?;
    topology.get(HOSTNAME).map(String::as_str)
}

/// The topology is no longer written. The name of a node that stood there before comes into its own field.
fn drop_topology(endpoints: Option<&mut [Endpoint]>, before: &BTreeSet<&str>) {
    for endpoint in endpoints.into_iter().flatten() {
        if endpoint.node_name.is_none()
            && let Some(host) = host(endpoint).filter(|host| before.contains(host))
            && names::dns_subdomain(host, false).is_empty()
        {
            endpoint.node_name = Some(host.into());
        }
        endpoint.deprecated_topology = None;
    }
}

fn validate_endpoint(endpoint: &Endpoint, address_type: &str, path: &Path, errors: &mut Errors) {
    let addresses = path.child("addresses");
    match endpoint.addresses.len() {
        0 => errors.required(&addresses, "must contain at least 1 address"),
        count if count > MAX_ADDRESSES => errors.too_many(&addresses, count, MAX_ADDRESSES),
        _ => {}
    }
    for (index, address) in endpoint.addresses.iter().enumerate() {
        let path = addresses.index(index);
        match address_type {
            "IPv4" | "IPv6" => {
                let parsed = address::parse_sloppily(address).map(|address| address.to_canonical());
                if parsed.is_none_or(|parsed| parsed.is_ipv4() != (address_type == "IPv4")) {
                    let detail = format!("must be a valid {address_type} address");
                    errors.invalid(&path, address, detail);
                }
                check_endpoint_range(address, &path, errors);
            }
            "FQDN" => check_domain(address, &path, errors),
            _ => {}
        }
    }
    if let Some(node) = &endpoint.node_name {
        for message in names::dns_subdomain(node, false) {
            errors.invalid(&path.child("nodeName"), node, message);
        }
    }
    let topology = path.child("deprecatedTopology");
    let count = endpoint.deprecated_topology.as_ref().map_or(0, BTreeMap::len);
    if count > MAX_TOPOLOGY_LABELS {
        errors.too_many(&topology, count, MAX_TOPOLOGY_LABELS);
    }
    meta::validate_labels(endpoint.deprecated_topology.as_ref(), &topology, errors);
    if let Some(hostname) = &endpoint.hostname {
        for message in names::dns_label(hostname, false) {
            errors.invalid(&path.child("hostname"), hostname, message);
        }
    }
    let Some(hints) = &endpoint.hints else { return };
    let zones = hints.for_zones.as_deref().unwrap_or_default();
    let nodes = hints.for_nodes.as_deref().unwrap_or_default();
    let path = path.child("hints");
    if zones.len() > MAX_ZONE_HINTS {
        errors.too_many(&path.child("forZones"), zones.len(), MAX_ZONE_HINTS);
    }
    if nodes.len() > MAX_NODE_HINTS {
        errors.too_many(&path.child("forNodes"), nodes.len(), MAX_NODE_HINTS);
    }
    let all = [
        (
            "forZones",
            zones.iter().map(|zone| &zone.name).collect::<Vec<_>>(),
        ),
        (
            "forNodes",
            nodes.iter().map(|node| &node.name).collect::<Vec<_>>(),
        ),
    ];
    for (field, hinted) in all {
        let mut seen = BTreeSet::new();
        for (index, name) in hinted.into_iter().enumerate() {
            let path = path.child(field).index(index).child("name");
            if !seen.insert(name) {
                errors.duplicate(&path, name);
            }
            let wrong = match field {
                "forZones" => names::label_value(name),
                _ => names::dns_subdomain(name, false),
            };
            for message in wrong {
                errors.invalid(&path, name, message);
            }
        }
    }
}

/// Checks a domain name of two parts or more (`IsFullyQualifiedDomainName`).
fn check_domain(name: &str, path: &Path, errors: &mut Errors) {
    if name.is_empty() {
        return errors.required(path, "");
    }
    let name = name.strip_suffix('.').unwrap_or(name);
    let wrong = names::dns_subdomain(name, false);
    if !wrong.is_empty() {
        return errors.invalid(path, name, wrong.join(","));
    }
    if !name.contains('.') {
        let detail = "should be a domain with at least two segments separated by dots";
        return errors.invalid(path, name, detail);
    }
    let mut labels = name
        .split('.')
        .map(|label| (label, names::dns_label(label, false)));
    if let Some((label, wrong)) = labels.find(|(_, wrong)| !wrong.is_empty()) {
        errors.invalid(path, label, wrong.join(","));
    }
}

fn validate_ports(ports: &[EndpointPort], path: &Path, errors: &mut Errors) {
    if ports.len() > MAX_PORTS {
        return errors.too_many(path, ports.len(), MAX_PORTS);
    }
    let mut seen = BTreeSet::new();
    for (index, port) in ports.iter().enumerate() {
        let path = path.index(index);
        let name = port.name.as_deref().unwrap_or_default();
        if !name.is_empty() {
            for message in names::dns_label(name, false) {
                errors.invalid(&path.child("name"), name, message);
            }
        }
        if !seen.insert(name) {
            errors.duplicate(&path.child("name"), name);
        }
        crate::core::check_protocol(port.protocol.as_deref(), &path.child("protocol"), errors);
        if let Some(protocol) = &port.app_protocol {
            for message in names::qualified_name(protocol) {
                errors.invalid(&path.child("appProtocol"), protocol, message);
            }
        }
    }
}
