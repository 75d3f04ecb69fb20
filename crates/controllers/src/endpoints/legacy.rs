//! The core/v1 `Endpoints` of a service: the older form of the same facts.

use std::collections::BTreeMap;

use k8s_openapi::api::core::v1::{EndpointAddress, EndpointPort, EndpointSubset, Endpoints, Service};
use k8s_openapi::api::discovery::v1::Endpoint;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;

use super::desired::{Desired, Family, Port, families, is_headless};
use super::slices::HEADLESS;

const MANAGED_BY: (&str, &str) = ("endpoints.kubernetes.io/managed-by", "endpoint-controller");
const OVER_CAPACITY: (&str, &str) = ("endpoints.kubernetes.io/over-capacity", "truncated");
/// No more addresses are listed.
const MOST: usize = 1000;

/// The object as it is to be, if that is another than it is.
pub(super) fn plan(service: &Service, desired: &Desired, present: Option<&Endpoints>) -> Option<Endpoints> {
    let spec = service.spec.as_ref()?;
    let family = families(spec).first().copied().unwrap_or(Family::IPv4);
    let (subsets, truncated) = subsets(desired, family);
    let mut labels = service.metadata.labels.clone().unwrap_or_default();
    labels.remove(HEADLESS);
    labels.insert(MANAGED_BY.0.to_string(), MANAGED_BY.1.to_string());
    if is_headless(spec) {
        labels.insert(HEADLESS.to_string(), String::new());
    }
    let mut new = present.cloned().unwrap_or_else(|| Endpoints {
        metadata: ObjectMeta {
            name: service.metadata.name.clone(),
            namespace: service.metadata.namespace.clone(),
            ..ObjectMeta::default()
        },
        ..Endpoints::default()
    });
    new.metadata.labels = Some(labels);
    let annotations = new.metadata.annotations.get_or_insert_default();
    if truncated {
        annotations.insert(OVER_CAPACITY.0.to_string(), OVER_CAPACITY.1.to_string());
    } else {
        annotations.remove(OVER_CAPACITY.0);
    }
    new.metadata
        .annotations
        .take_if(|annotations| annotations.is_empty());
    let old = present
        .and_then(|present| present.subsets.clone())
        .unwrap_or_default();
    new.subsets = (!subsets.is_empty()).then_some(subsets);
    let same_meta = present.is_some_and(|present| present.metadata == new.metadata);
    (!same_meta || old != new.subsets.clone().unwrap_or_default()).then_some(new)
}

/// One subset for each set of ports; a pod that is on its way out is in none, unless that is asked for.
fn subsets(desired: &Desired, family: Family) -> (Vec<EndpointSubset>, bool) {
    let mut by_ports: BTreeMap<&Vec<Port>, (Vec<EndpointAddress>, Vec<EndpointAddress>)> = BTreeMap::new();
    let mut count = 0;
    let mut truncated = false;
    // The ready ones first, for they must not be crowded out.
    for ready in [true, false] {
        for ((of, ports), endpoints) in desired.iter().filter(|((of, _), _)| *of == family) {
            debug_assert_eq!(*of, family);
            for endpoint in endpoints {
                let conditions = endpoint.conditions.clone().unwrap_or_default();
                let is_leaving = conditions.terminating == Some(true) && conditions.ready != Some(true);
                if is_leaving || (conditions.ready == Some(true)) != ready {
                    continue;
                }
                if count == MOST {
                    truncated = true;
                    break;
                }
                count += 1;
                let (there, not_yet) = by_ports.entry(ports).or_default();
                if ready { there } else { not_yet }.extend(address(endpoint));
            }
        }
    }
    let some = |mut addresses: Vec<EndpointAddress>| {
        addresses.sort_by(|a, b| a.ip.cmp(&b.ip));
        (!addresses.is_empty()).then_some(addresses)
    };
    let subsets = by_ports
        .into_iter()
        .map(|(ports, (ready, not_ready))| EndpointSubset {
            addresses: some(ready),
            not_ready_addresses: some(not_ready),
            ports: (!ports.is_empty()).then(|| ports.iter().map(port).collect()),
        });
    (subsets.collect(), truncated)
}

fn address(endpoint: &Endpoint) -> Option<EndpointAddress> {
    Some(EndpointAddress {
        ip: endpoint.addresses.first()?.clone(),
        hostname: endpoint.hostname.clone(),
        node_name: endpoint.node_name.clone(),
        target_ref: endpoint.target_ref.clone(),
    })
}

fn port(port: &Port) -> EndpointPort {
    EndpointPort {
        name: (!port.name.is_empty()).then(|| port.name.clone()),
        port: port.port,
        protocol: Some(port.protocol.clone()),
        app_protocol: port.app_protocol.clone(),
    }
}
