//! Service: one address in front of many pods.

use jiff::Timestamp;
use k8s_openapi::api::core::v1::{ClientIPConfig, Service, ServicePort, ServiceSpec, SessionAffinityConfig};
use k8s_openapi::apimachinery::pkg::util::intstr::IntOrString;
use serde_json::Value;

use super::{address, service_rules};
use crate::cell;
use crate::field::{Errors, Path};
use crate::kind::{Column, Kind, KindInfo, Subresource, Target, age};
use crate::names;

/// How long a client is kept with one pod, unless it is said otherwise: three hours.
const AFFINITY_SECONDS: i32 = 10_800;

/// The kind of service that a spec makes.
pub(super) fn type_of(spec: &ServiceSpec) -> &str {
    spec.type_.as_deref().unwrap_or_default()
}

pub(super) fn is_headless(spec: &ServiceSpec) -> bool {
    matches!(spec.cluster_ips.as_deref(), Some([only]) if only == "None")
        || spec.cluster_ip.as_deref() == Some("None")
}

fn needs_cluster_ip(spec: &ServiceSpec) -> bool {
    matches!(type_of(spec), "ClusterIP" | "NodePort" | "LoadBalancer")
}

fn needs_node_port(spec: &ServiceSpec) -> bool {
    match type_of(spec) {
        "NodePort" => true,
        "LoadBalancer" => spec.allocate_load_balancer_node_ports.unwrap_or(true),
        _ => false,
    }
}

/// Whether others than the cluster's own can reach it.
pub(super) fn is_external(spec: &ServiceSpec) -> bool {
    matches!(type_of(spec), "NodePort" | "LoadBalancer")
        || (type_of(spec) == "ClusterIP" && spec.external_ips.as_ref().is_some_and(|ips| !ips.is_empty()))
}

pub(super) fn needs_health_check(spec: &ServiceSpec) -> bool {
    type_of(spec) == "LoadBalancer" && spec.external_traffic_policy.as_deref() == Some("Local")
}

fn absent(text: &Option<String>) -> bool {
    text.as_deref().unwrap_or_default().is_empty()
}

fn empty<T>(list: &Option<Vec<T>>) -> bool {
    list.as_ref().is_none_or(Vec::is_empty)
}

fn default_port(port: &mut ServicePort) {
    if absent(&port.protocol) {
        port.protocol = Some("TCP".into());
    }
    let given = match &port.target_port {
        None | Some(IntOrString::Int(0)) => false,
        Some(IntOrString::String(name)) => !name.is_empty(),
        Some(IntOrString::Int(_)) => true,
    };
    if !given {
        port.target_port = Some(IntOrString::Int(port.port));
    }
}

/// What an update leaves out and the server had given out stays as it was.
fn keep_allocated(new: &mut ServiceSpec, old: &ServiceSpec) {
    if needs_cluster_ip(old) && needs_cluster_ip(new) {
        if absent(&new.cluster_ip) {
            new.cluster_ip.clone_from(&old.cluster_ip);
        }
        if empty(&new.cluster_ips) && new.cluster_ip == old.cluster_ip {
            new.cluster_ips.clone_from(&old.cluster_ips);
        }
        if new.ip_family_policy.is_none() {
            new.ip_family_policy.clone_from(&old.ip_family_policy);
        }
        if empty(&new.ip_families) {
            new.ip_families.clone_from(&old.ip_families);
        }
    }
    if needs_node_port(old) && needs_node_port(new) {
        let before = old.ports.as_deref().unwrap_or_default();
        let mut used: Vec<i32> = new
            .ports
            .iter()
            .flatten()
            .filter_map(|port| port.node_port)
            .collect();
        for port in new
            .ports
            .iter_mut()
            .flatten()
            .filter(|port| port.node_port.unwrap_or(0) == 0)
        {
            let same = before
                .iter()
                .find(|known| known.protocol == port.protocol && known.port == port.port);
            if let Some(number) = same
                .and_then(|known| known.node_port)
                .filter(|number| !used.contains(number))
            {
                port.node_port = Some(number);
                used.push(number);
            }
        }
    }
    if needs_health_check(old) && needs_health_check(new) && new.health_check_node_port.unwrap_or(0) == 0 {
        new.health_check_node_port = old.health_check_node_port;
    }
}

/// A change of type drops what only the old type had, unless the update names another value for it.
fn drop_type_dependent(new: &mut ServiceSpec, old: &ServiceSpec) {
    if needs_cluster_ip(old) && !needs_cluster_ip(new) {
        if new.cluster_ip == old.cluster_ip && new.cluster_ips == old.cluster_ips {
            new.cluster_ip = None;
            new.cluster_ips = None;
        }
        if new.ip_families == old.ip_families && new.ip_family_policy == old.ip_family_policy {
            new.ip_families = None;
            new.ip_family_policy = None;
        }
    }
    if needs_node_port(old) && !needs_node_port(new) {
        let numbers = |spec: &ServiceSpec| -> Vec<Option<i32>> {
            spec.ports.iter().flatten().map(|port| port.node_port).collect()
        };
        if numbers(new) == numbers(old) {
            new.ports
                .iter_mut()
                .flatten()
                .for_each(|port| port.node_port = None);
        }
    }
    if needs_health_check(old)
        && !needs_health_check(new)
        && new.health_check_node_port == old.health_check_node_port
    {
        new.health_check_node_port = None;
    }
    let (is, was) = (type_of(new) == "LoadBalancer", type_of(old) == "LoadBalancer");
    if was && !is {
        if new.allocate_load_balancer_node_ports == old.allocate_load_balancer_node_ports {
            new.allocate_load_balancer_node_ports = None;
        }
        if new.load_balancer_class == old.load_balancer_class {
            new.load_balancer_class = None;
        }
    }
    if is_external(old) && !is_external(new) && new.external_traffic_policy == old.external_traffic_policy {
        new.external_traffic_policy = None;
    }
}

/// `clusterIP` and the first of `clusterIPs` are one and the same; who writes one of them means both.
fn normalize_cluster_ips(new: &mut ServiceSpec, old: Option<&ServiceSpec>) {
    let first = |spec: &ServiceSpec| spec.cluster_ips.as_ref().and_then(|ips| ips.first().cloned());
    match old {
        None => {
            if !absent(&new.cluster_ip) && empty(&new.cluster_ips) {
                new.cluster_ips = new.cluster_ip.clone().map(|ip| vec![ip]);
            }
        }
        Some(old) => {
            // A client that knows only `clusterIP` clears or changes it and sends the old list back.
            let list_kept = new.cluster_ips == old.cluster_ips;
            if list_kept && new.cluster_ip != old.cluster_ip {
                if absent(&new.cluster_ip) {
                    new.cluster_ips = None;
                } else if first(new) != new.cluster_ip {
                    new.cluster_ips = new.cluster_ip.clone().map(|ip| vec![ip]);
                }
            } else if empty(&new.cluster_ips) && !absent(&new.cluster_ip) && new.cluster_ip != old.cluster_ip
            {
                new.cluster_ips = new.cluster_ip.clone().map(|ip| vec![ip]);
            }
        }
    }
}

impl Kind for Service {
    fn info() -> KindInfo {
        KindInfo {
            returns_deleted: true,
            short_names: &["svc"],
            create_on_update: true,
            categories: &["all"],
            subresources: &[Subresource::Status, Subresource::Proxy],
            columns: vec![
                Column::object_name(),
                Column::of("Type", "string", "core.v1.ServiceSpec", "type"),
                Column::of("Cluster-IP", "string", "core.v1.ServiceSpec", "clusterIP"),
                Column::of("External-IP", "string", "core.v1.ServiceSpec", "externalIPs"),
                Column::of("Port(s)", "string", "core.v1.ServiceSpec", "ports"),
                Column::age(),
                Column::of("Selector", "string", "core.v1.ServiceSpec", "selector").only_wide(),
            ],
            selectable_fields: &["spec.clusterIP", "spec.type"],
            store_prefix: "services/specs".into(),
            ..KindInfo::of::<Self>("service")
        }
    }

    fn default(&mut self) {
        let spec = self.spec.get_or_insert_default();
        if absent(&spec.session_affinity) {
            spec.session_affinity = Some("None".into());
        }
        match spec.session_affinity.as_deref() {
            Some("None") => spec.session_affinity_config = None,
            Some("ClientIP") => {
                let config = spec.session_affinity_config.as_ref();
                let seconds = config
                    .and_then(|config| config.client_ip.as_ref())
                    .and_then(|client| client.timeout_seconds);
                if seconds.is_none() {
                    spec.session_affinity_config = Some(SessionAffinityConfig {
                        client_ip: Some(ClientIPConfig {
                            timeout_seconds: Some(AFFINITY_SECONDS),
                        }),
                    });
                }
            }
            _ => {}
        }
        if absent(&spec.type_) {
            spec.type_ = Some("ClusterIP".into());
        }
        spec.ports.iter_mut().flatten().for_each(default_port);
        if is_external(spec) && absent(&spec.external_traffic_policy) {
            spec.external_traffic_policy = Some("Cluster".into());
        }
        if spec.internal_traffic_policy.is_none() && needs_cluster_ip(spec) {
            spec.internal_traffic_policy = Some("Cluster".into());
        }
        let balanced = type_of(spec) == "LoadBalancer";
        if balanced {
            spec.allocate_load_balancer_node_ports.get_or_insert(true);
        }
        let status = self.status.get_or_insert_default();
        let balancer = status.load_balancer.get_or_insert_default();
        for ingress in balancer.ingress.iter_mut().flatten() {
            if balanced && ingress.ip.is_some() && ingress.ip_mode.is_none() {
                ingress.ip_mode = Some("VIP".into());
            }
        }
    }

    fn prepare_for_create(&mut self) {
        self.status = None;
        Kind::default(self);
        let spec = self.spec.get_or_insert_default();
        normalize_cluster_ips(spec, None);
    }

    fn prepare_for_update(&mut self, old: &Self, target: Target) {
        let before = old.spec.clone().unwrap_or_default();
        match target {
            Target::Main => {
                self.status.clone_from(&old.status);
                let spec = self.spec.get_or_insert_default();
                normalize_cluster_ips(spec, Some(&before));
                drop_type_dependent(spec, &before);
                keep_allocated(spec, &before);
            }
            Target::Subresource(_) => self.spec.clone_from(&old.spec),
        }
    }

    fn validate(&self, errors: &mut Errors) {
        service_rules::validate(self, None, errors);
    }

    fn validate_changed(&self, old: &Self, errors: &mut Errors) {
        service_rules::validate(self, Some(old), errors);
    }

    fn validate_update(&self, old: &Self, target: Target, errors: &mut Errors) {
        service_rules::validate_update(self, old, target, errors);
    }

    fn warnings(&self, _old: Option<&Self>) -> Vec<String> {
        service_rules::warnings(self)
    }

    fn subresource_warnings(&self, _subresource: Subresource) -> Vec<String> {
        let status = self.status.as_ref();
        let points = status.and_then(|status| status.load_balancer.as_ref()?.ingress.as_ref());
        let path = Path::new("status.loadBalancer.ingress");
        let points = points.into_iter().flatten().enumerate();
        points
            .filter_map(|(index, point)| address::warning(&path.index(index), point.ip.as_deref()?))
            .collect()
    }

    fn check_name(name: &str, prefix: bool) -> Vec<String> {
        names::dns_label(name, prefix)
    }

    fn cells(&self, now: Timestamp) -> Vec<Value> {
        let spec = self.spec.clone().unwrap_or_default();
        let ports: Vec<String> = spec
            .ports
            .iter()
            .flatten()
            .map(|port| {
                let protocol = port.protocol.as_deref().unwrap_or_default();
                match port.node_port.filter(|&number| number > 0) {
                    Some(number) => format!("{}:{number}/{protocol}", port.port),
                    None => format!("{}/{protocol}", port.port),
                }
            })
            .collect();
        let cluster_ip = spec
            .cluster_ips
            .as_ref()
            .and_then(|ips| ips.first())
            .or(spec.cluster_ip.as_ref());
        vec![
            self.metadata.name.clone().into(),
            type_of(&spec).into(),
            cell::or(cluster_ip.map(String::as_str), cell::NONE).into(),
            external_ip(self, &spec).into(),
            cell::or(Some(&ports.join(",")), cell::NONE).into(),
            age(&self.metadata, now),
            cell::labels(spec.selector.as_ref()).into(),
        ]
    }

    fn field(&self, name: &str) -> String {
        let spec = self.spec.as_ref();
        match name {
            "spec.clusterIP" => spec.and_then(|spec| spec.cluster_ip.clone()),
            "spec.type" => spec.and_then(|spec| spec.type_.clone()),
            _ => None,
        }
        .unwrap_or_default()
    }
}

fn external_ip(service: &Service, spec: &ServiceSpec) -> String {
    let given = spec.external_ips.as_deref().unwrap_or_default().join(",");
    match type_of(spec) {
        "ClusterIP" | "NodePort" => cell::or(Some(&given), cell::NONE).into(),
        "LoadBalancer" => {
            let balancer = service
                .status
                .as_ref()
                .and_then(|status| status.load_balancer.as_ref());
            let mut addresses: Vec<String> = balancer
                .iter()
                .flat_map(|balancer| balancer.ingress.iter().flatten())
                .filter_map(|ingress| {
                    let given = |text: &Option<String>| text.clone().filter(|text| !text.is_empty());
                    given(&ingress.ip).or_else(|| given(&ingress.hostname))
                })
                .collect();
            addresses.sort_unstable();
            addresses.dedup();
            if !given.is_empty() {
                addresses.push(given);
            }
            if addresses.is_empty() {
                "<pending>".into()
            } else {
                addresses.join(",")
            }
        }
        "ExternalName" => spec.external_name.clone().unwrap_or_default(),
        _ => cell::UNKNOWN.into(),
    }
}

/// Checks a port's protocol.
pub(crate) fn check_protocol(protocol: Option<&str>, path: &Path, errors: &mut Errors) {
    match protocol.unwrap_or_default() {
        "" => errors.required(path, ""),
        "TCP" | "UDP" | "SCTP" => {}
        other => errors.not_supported(path, other, &["SCTP", "TCP", "UDP"]),
    }
}
