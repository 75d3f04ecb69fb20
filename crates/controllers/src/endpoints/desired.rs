//! Which endpoints a service has: its pods' addresses, in the order of the pods' names, grouped by the ports that its
//! target ports come to.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::sync::Arc;

use k8s_openapi::api::core::v1::{ObjectReference, Pod, Service, ServicePort, ServiceSpec};
use k8s_openapi::api::discovery::v1::{Endpoint, EndpointConditions, EndpointPort};
use k8s_openapi::apimachinery::pkg::util::intstr::IntOrString;

use crate::pods;

/// The family of the addresses of an EndpointSlice.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Family {
    IPv4,
    IPv6,
}

impl Family {
    /// As `addressType` has it.
    pub(super) fn name(self) -> &'static str {
        match self {
            Self::IPv4 => "IPv4",
            Self::IPv6 => "IPv6",
        }
    }

    fn has(self, address: &str) -> bool {
        match address.parse() {
            Ok(IpAddr::V4(_)) => self == Self::IPv4,
            Ok(IpAddr::V6(_)) => self == Self::IPv6,
            Err(_) => false,
        }
    }
}

/// The families that a service has addresses in.
pub(super) fn families(spec: &ServiceSpec) -> Vec<Family> {
    let listed = spec
        .ip_families
        .iter()
        .flatten()
        .filter_map(|name| match name.as_str() {
            "IPv4" => Some(Family::IPv4),
            "IPv6" => Some(Family::IPv6),
            _ => None,
        });
    let families: Vec<Family> = listed.collect();
    if !families.is_empty() {
        return families;
    }
    let v6 = spec
        .cluster_ip
        .as_deref()
        .is_some_and(|address| Family::IPv6.has(address));
    vec![if v6 { Family::IPv6 } else { Family::IPv4 }]
}

/// Whether the service has no address of its own.
pub(super) fn is_headless(spec: &ServiceSpec) -> bool {
    spec.cluster_ip.as_deref() == Some("None")
}

/// Ports that can be compared and sorted.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Port {
    pub(super) name: String,
    pub(super) protocol: String,
    pub(super) port: i32,
    pub(super) app_protocol: Option<String>,
}

impl Port {
    /// As an EndpointSlice has it.
    pub(super) fn to_slice(&self) -> EndpointPort {
        EndpointPort {
            name: Some(self.name.clone()),
            protocol: Some(self.protocol.clone()),
            port: Some(self.port),
            app_protocol: self.app_protocol.clone(),
        }
    }

    /// As it stands in an EndpointSlice.
    pub(super) fn of_slice(port: &EndpointPort) -> Self {
        Self {
            name: port.name.clone().unwrap_or_default(),
            protocol: port.protocol.clone().unwrap_or_else(|| "TCP".to_string()),
            port: port.port.unwrap_or(0),
            app_protocol: port.app_protocol.clone(),
        }
    }
}

/// Endpoints by family and ports.
pub(super) type Desired = BTreeMap<(Family, Vec<Port>), Vec<Endpoint>>;

/// The endpoints of a service with these pods. `zone` finds the zone of a node.
pub(super) fn desired(
    service: &Service,
    selected: &[Arc<Pod>],
    zone: impl Fn(&str) -> Option<String>,
) -> Desired {
    let mut desired = Desired::new();
    let Some(spec) = &service.spec else { return desired };
    for pod in selected.iter().filter(|pod| !pods::is_terminated(pod)) {
        let ports = ports(spec, pod);
        for family in families(spec) {
            let addresses: Vec<String> = addresses(pod)
                .filter(|address| family.has(address))
                .take(1)
                .collect();
            if !addresses.is_empty() {
                let endpoint = endpoint(service, spec, pod, addresses, &zone);
                desired.entry((family, ports.clone())).or_default().push(endpoint);
            }
        }
    }
    desired
}

fn addresses(pod: &Pod) -> impl Iterator<Item = String> {
    let status = pod.status.as_ref();
    let all = status
        .and_then(|status| status.pod_ips.as_ref())
        .into_iter()
        .flatten()
        .map(|ip| ip.ip.clone());
    let first = status.and_then(|status| status.pod_ip.clone());
    all.chain(first)
}

fn endpoint(
    service: &Service,
    spec: &ServiceSpec,
    pod: &Pod,
    addresses: Vec<String>,
    zone: &impl Fn(&str) -> Option<String>,
) -> Endpoint {
    let serving = pods::is_ready(pod);
    let terminating = pod.metadata.deletion_timestamp.is_some();
    let publish = spec.publish_not_ready_addresses == Some(true);
    let node = Some(pods::node_name(pod)).filter(|node| !node.is_empty());
    let pod_spec = pod.spec.as_ref();
    // A pod that names the service as its subdomain has a name of its own there.
    let subdomain = pod_spec.and_then(|spec| spec.subdomain.as_ref());
    let hostname = pod_spec
        .and_then(|spec| spec.hostname.clone())
        .filter(|hostname| !hostname.is_empty() && subdomain == service.metadata.name.as_ref());
    Endpoint {
        addresses,
        conditions: Some(EndpointConditions {
            ready: Some(publish || serving && !terminating),
            serving: Some(serving),
            terminating: Some(terminating),
        }),
        hostname,
        node_name: node.map(str::to_string),
        zone: node.and_then(zone),
        target_ref: Some(ObjectReference {
            kind: Some("Pod".to_string()),
            namespace: pod.metadata.namespace.clone(),
            name: pod.metadata.name.clone(),
            uid: pod.metadata.uid.clone(),
            ..ObjectReference::default()
        }),
        ..Endpoint::default()
    }
}

/// The ports that the service's target ports are in this pod; what a pod does not have is left out.
fn ports(spec: &ServiceSpec, pod: &Pod) -> Vec<Port> {
    let mut ports: Vec<Port> = spec
        .ports
        .iter()
        .flatten()
        .filter_map(|port| {
            Some(Port {
                name: port.name.clone().unwrap_or_default(),
                protocol: protocol(port).to_string(),
                port: target_port(port, pod)?,
                app_protocol: port.app_protocol.clone(),
            })
        })
        .collect();
    ports.sort();
    ports
}

fn protocol(port: &ServicePort) -> &str {
    port.protocol.as_deref().unwrap_or("TCP")
}

fn target_port(port: &ServicePort, pod: &Pod) -> Option<i32> {
    let name = match &port.target_port {
        None | Some(IntOrString::Int(0)) => return Some(port.port),
        Some(IntOrString::Int(number)) => return Some(*number),
        Some(IntOrString::String(name)) => name,
    };
    let spec = pod.spec.as_ref()?;
    let sidecars = spec
        .init_containers
        .iter()
        .flatten()
        .filter(|container| skiff_api::pod::is_sidecar(container));
    let mut ports = spec
        .containers
        .iter()
        .chain(sidecars)
        .flat_map(|container| container.ports.iter().flatten());
    let found = ports.find(|candidate| {
        candidate.name.as_ref() == Some(name)
            && candidate.protocol.as_deref().unwrap_or("TCP") == protocol(port)
    });
    found.map(|found| found.container_port)
}
