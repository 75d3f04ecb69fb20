//! A service: its addresses, its ports, and what stands behind each.

use serde_json::Value;

use super::page::{NONE, Page};
use super::{Told, selected};
use crate::fields::{flag, integer, list, map, name, scalar, text, texts};

/// Its endpoint slices.
pub(super) fn related(service: &Value) -> Vec<String> {
    let namespace = text(service, "/metadata/namespace");
    let path = format!("/apis/discovery.k8s.io/v1/namespaces/{namespace}/endpointslices");
    vec![selected(
        &path,
        &format!("kubernetes.io/service-name={}", name(service)),
    )]
}

pub(super) fn describe(told: &Told<'_>, page: &mut Page) {
    let service = told.object;
    let slices = told
        .answer(0)
        .map(|answer| list(answer, "/items"))
        .unwrap_or_default();
    page.field(0, "Name", name(service));
    page.field(0, "Namespace", text(service, "/metadata/namespace"));
    page.labels(0, "Labels", map(service, "/metadata/labels"));
    page.annotations(0, "Annotations", map(service, "/metadata/annotations"));
    page.field_or_none(0, "Selector", super::pairs(map(service, "/spec/selector")));
    page.field(0, "Type", text(service, "/spec/type"));
    addresses(service, page);
    for port in list(service, "/spec/ports") {
        ports(port, slices, page);
    }
    page.field(0, "Session Affinity", text(service, "/spec/sessionAffinity"));
    for (label, field) in [
        ("External Traffic Policy", "/spec/externalTrafficPolicy"),
        ("Internal Traffic Policy", "/spec/internalTrafficPolicy"),
        ("Traffic Distribution", "/spec/trafficDistribution"),
    ] {
        page.field_if_any(0, label, text(service, field));
    }
    let check = integer(service, "/spec/healthCheckNodePort");
    if check != 0 {
        page.field(0, "HealthCheck NodePort", check.to_string());
    }
    page.field_if_any(
        0,
        "LoadBalancer Source Ranges",
        texts(service, "/spec/loadBalancerSourceRanges").join(","),
    );
    page.events(told.events.as_deref());
}

fn addresses(service: &Value, page: &mut Page) {
    page.field_if_any(0, "IP Family Policy", text(service, "/spec/ipFamilyPolicy"));
    page.field_or_none(0, "IP Families", texts(service, "/spec/ipFamilies").join(","));
    page.field(0, "IP", text(service, "/spec/clusterIP"));
    page.field_or_none(0, "IPs", texts(service, "/spec/clusterIPs").join(","));
    page.field_if_any(0, "External IPs", texts(service, "/spec/externalIPs").join(","));
    page.field_if_any(
        0,
        "Desired LoadBalancer IP",
        text(service, "/spec/loadBalancerIP"),
    );
    page.field_if_any(0, "External Name", text(service, "/spec/externalName"));
    let ingress: Vec<String> = list(service, "/status/loadBalancer/ingress")
        .iter()
        .map(|point| match text(point, "/ip") {
            "" => text(point, "/hostname").to_string(),
            address => match text(point, "/ipMode") {
                "" => address.to_string(),
                mode => format!("{address} ({mode})"),
            },
        })
        .collect();
    page.field_if_any(0, "LoadBalancer Ingress", ingress.join(", "));
}

fn ports(port: &Value, slices: &[Value], page: &mut Page) {
    let port_name = match text(port, "/name") {
        "" => "<unset>",
        name => name,
    };
    let protocol = text(port, "/protocol");
    page.field(
        0,
        "Port",
        format!("{port_name}\t{}/{protocol}", integer(port, "/port")),
    );
    page.field(
        0,
        "TargetPort",
        format!("{}/{protocol}", scalar(port, "/targetPort")),
    );
    let node_port = integer(port, "/nodePort");
    if node_port != 0 {
        page.field(0, "NodePort", format!("{port_name}\t{node_port}/{protocol}"));
    }
    page.field(0, "Endpoints", endpoints(slices, text(port, "/name")));
}

/// The first three addresses that are ready behind a port, and how many more there are.
fn endpoints(slices: &[Value], port_name: &str) -> String {
    const MAX: usize = 3;
    if slices.is_empty() {
        return NONE.into();
    }
    let mut all = Vec::new();
    for slice in slices {
        let ports: Vec<&Value> = list(slice, "/ports")
            .iter()
            .filter(|port| text(port, "/name") == port_name)
            .collect();
        for endpoint in list(slice, "/endpoints") {
            // Endpoints whose readiness is not known count as ready.
            if endpoint.pointer("/conditions/ready").is_some() && !flag(endpoint, "/conditions/ready") {
                continue;
            }
            for (port, address) in ports
                .iter()
                .flat_map(|port| texts(endpoint, "/addresses").into_iter().map(move |a| (port, a)))
            {
                let port = integer(port, "/port");
                all.push(match address.contains(':') {
                    true => format!("[{address}]:{port}"),
                    false => format!("{address}:{port}"),
                });
            }
        }
    }
    let shown = all.iter().take(MAX).cloned().collect::<Vec<_>>().join(",");
    match all.len().checked_sub(MAX) {
        Some(more) if more > 0 => format!("{shown} + {more} more..."),
        _ => shown,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn endpoints_are_the_ready_addresses_of_the_port() {
        let slice = |addresses: &[&str]| {
            let endpoints: Vec<Value> = addresses
                .iter()
                .map(|address| json!({"addresses": [address], "conditions": {"ready": *address != "down"}}))
                .collect();
            json!({"ports": [{"name": "web", "port": 80}, {"name": "other", "port": 81}], "endpoints": endpoints})
        };
        let cases = [
            (vec![], "<none>"),
            (vec![slice(&[])], ""),
            (vec![slice(&["10.0.0.1", "down", "::1"])], "10.0.0.1:80,[::1]:80"),
            (
                vec![slice(&["a", "b"]), slice(&["c", "d", "e"])],
                "a:80,b:80,c:80 + 2 more...",
            ),
        ];
        for (slices, expected) in cases {
            assert_eq!(endpoints(&slices, "web"), expected);
        }
    }
}
