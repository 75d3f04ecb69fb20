//! A service's EndpointSlices: how they have to change so that they hold its endpoints, as few as possible of them.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use k8s_openapi::api::core::v1::Service;
use k8s_openapi::api::discovery::v1::{Endpoint, EndpointSlice};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;

use super::desired::{Desired, Family, Port, families, is_headless};
use crate::ownership::controller_ref;

/// `--max-endpoints-per-slice`.
const MOST: usize = 100;
pub(super) const SERVICE_NAME: &str = "kubernetes.io/service-name";
pub(super) const MANAGED_BY: &str = "endpointslice.kubernetes.io/managed-by";
pub(super) const MANAGER: &str = "endpointslice-controller.k8s.io";
pub(super) const HEADLESS: &str = "service.kubernetes.io/headless";

/// What has to be done.
#[derive(Debug, Default, PartialEq)]
pub(super) struct Plan {
    pub(super) create: Vec<EndpointSlice>,
    pub(super) update: Vec<EndpointSlice>,
    pub(super) delete: Vec<Arc<EndpointSlice>>,
}

/// Compares a service's endpoints with the slices that are there.
pub(super) fn plan(service: &Service, mut desired: Desired, present: &[Arc<EndpointSlice>]) -> Plan {
    let mut plan = Plan::default();
    let Some(spec) = &service.spec else { return plan };
    for family in families(spec) {
        if !desired.keys().any(|(other, _)| *other == family) {
            // A service without endpoints has an empty slice, so that clients see that it has none.
            desired.insert((family, Vec::new()), Vec::new());
        }
    }
    let mut groups: BTreeMap<(Family, Vec<Port>), Vec<&Arc<EndpointSlice>>> = BTreeMap::new();
    for slice in present
        .iter()
        .filter(|slice| slice.metadata.deletion_timestamp.is_none())
    {
        let key = group(slice).filter(|key| desired.contains_key(key));
        match key {
            Some(key) => groups.entry(key).or_default().push(slice),
            None => plan.delete.push(slice.clone()),
        }
    }
    for ((family, ports), endpoints) in desired {
        let slices = groups.remove(&(family, ports.clone())).unwrap_or_default();
        let empty = new_slice(service, family, &ports);
        fill(endpoints, &slices, &empty, &mut plan);
    }
    plan
}

/// A slice's family and ports; `None` if they are none that a service of ours can have.
fn group(slice: &EndpointSlice) -> Option<(Family, Vec<Port>)> {
    let family = match slice.address_type.as_str() {
        "IPv4" => Family::IPv4,
        "IPv6" => Family::IPv6,
        _ => return None,
    };
    let mut ports: Vec<Port> = slice.ports.iter().flatten().map(Port::of_slice).collect();
    ports.sort();
    Some((family, ports))
}

fn uid(endpoint: &Endpoint) -> &str {
    let target = endpoint.target_ref.as_ref();
    target
        .and_then(|target| target.uid.as_deref())
        .unwrap_or_default()
}

/// Leaves every endpoint in the slice that it is in; new ones go into slices that change anyway, then into one that has
/// room for all of them, then into new slices.
fn fill(endpoints: Vec<Endpoint>, slices: &[&Arc<EndpointSlice>], empty: &EndpointSlice, plan: &mut Plan) {
    let mut left: BTreeMap<String, Endpoint> = endpoints
        .into_iter()
        .map(|endpoint| (uid(&endpoint).to_string(), endpoint))
        .collect();
    let mut kept: Vec<(&Arc<EndpointSlice>, Vec<Endpoint>, bool)> = Vec::new();
    for slice in slices {
        let old = slice.endpoints.as_deref().unwrap_or_default();
        let stay: Vec<Endpoint> = old
            .iter()
            .filter_map(|endpoint| left.remove(uid(endpoint)))
            .collect();
        let meta_differs = merged_meta(slice, empty) != slice.metadata;
        let differs = stay != old || meta_differs;
        kept.push((slice, stay, differs));
    }
    let mut left: Vec<Endpoint> = left.into_values().collect();
    for (_, stay, differs) in kept
        .iter_mut()
        .filter(|(_, stay, differs)| *differs && !stay.is_empty())
    {
        let room = MOST.saturating_sub(stay.len()).min(left.len());
        stay.extend(left.drain(..room));
        *differs = true;
    }
    if !left.is_empty()
        && let Some((_, stay, differs)) = kept
            .iter_mut()
            .find(|(_, stay, _)| stay.len() + left.len() <= MOST)
    {
        stay.append(&mut left);
        *differs = true;
    }
    let mut has_one = kept.iter().any(|(_, stay, _)| !stay.is_empty());
    for chunk in left.chunks(MOST) {
        plan.create.push(EndpointSlice {
            endpoints: Some(chunk.to_vec()),
            ..empty.clone()
        });
        has_one = true;
    }
    for (slice, stay, differs) in kept {
        if stay.is_empty() && has_one {
            plan.delete.push(slice.clone());
            continue;
        }
        has_one = true;
        if differs {
            plan.update.push(EndpointSlice {
                metadata: merged_meta(slice, empty),
                endpoints: Some(stay),
                ..EndpointSlice::clone(slice)
            });
        }
    }
    if !has_one {
        plan.create.push(empty.clone());
    }
}

/// The slice's metadata with the labels that it should have.
fn merged_meta(slice: &EndpointSlice, wanted: &EndpointSlice) -> ObjectMeta {
    ObjectMeta {
        labels: wanted.metadata.labels.clone(),
        owner_references: wanted.metadata.owner_references.clone(),
        ..slice.metadata.clone()
    }
}

fn new_slice(service: &Service, family: Family, ports: &[Port]) -> EndpointSlice {
    let name = service.metadata.name.clone().unwrap_or_default();
    let mut labels = service.metadata.labels.clone().unwrap_or_default();
    let ours: BTreeSet<&str> = [SERVICE_NAME, MANAGED_BY, HEADLESS].into();
    labels.retain(|key, _| !ours.contains(key.as_str()));
    labels.insert(SERVICE_NAME.to_string(), name.clone());
    labels.insert(MANAGED_BY.to_string(), MANAGER.to_string());
    if service.spec.as_ref().is_some_and(is_headless) {
        labels.insert(HEADLESS.to_string(), String::new());
    }
    EndpointSlice {
        metadata: ObjectMeta {
            generate_name: Some(format!("{name}-")),
            namespace: service.metadata.namespace.clone(),
            labels: Some(labels),
            owner_references: Some(vec![controller_ref(service)]),
            ..ObjectMeta::default()
        },
        address_type: family.name().to_string(),
        endpoints: Some(Vec::new()),
        ports: Some(ports.iter().map(Port::to_slice).collect()),
    }
}
