//! What a status says of resources: which claims were made for the pod, and how its devices are.

use std::collections::BTreeSet;

use k8s_openapi::api::core::v1::{Container, ContainerStatus, PodSpec, PodStatus};

use crate::core::pod_update::slice;
use crate::field::{Errors, Path};
use crate::names;

const MAX_MESSAGE: usize = 1024;

/// Checks the claims that were made for the pod.
pub(super) fn validate_claims(status: &PodStatus, spec: &PodSpec, path: &Path, errors: &mut Errors) {
    let mut seen = BTreeSet::new();
    for (index, claim) in slice(&status.resource_claim_statuses).iter().enumerate() {
        let path = path.child("resourceClaimStatuses").index(index);
        let mut known = slice(&spec.resource_claims).iter();
        if !known.any(|known| known.name == claim.name) {
            errors.invalid(
                &path.child("name"),
                &claim.name,
                "must match the name of an entry in `spec.resourceClaims`",
            );
        }
        if !seen.insert(&claim.name) {
            errors.duplicate(&path.child("name"), &claim.name);
        }
        if let Some(name) = &claim.resource_claim_name {
            let at = path.child("resourceClaimName");
            errors.invalid_each(&at, name, names::dns_subdomain(name, false));
        }
    }
    validate_extended(status, spec, &path.child("extendedResourceClaimStatus"), errors);
}

/// Checks the claim that stands for the pod's extended resources.
fn validate_extended(status: &PodStatus, spec: &PodSpec, path: &Path, errors: &mut Errors) {
    let Some(status) = &status.extended_resource_claim_status else {
        return;
    };
    let all = path.child("requestMappings");
    if status.request_mappings.is_empty() {
        errors.required(&all, "at least one request mapping is required");
    }
    let mut seen = BTreeSet::new();
    for (index, mapping) in status.request_mappings.iter().enumerate() {
        let at = all.index(index);
        let (container, resource, request) = (
            &mapping.container_name,
            &mapping.resource_name,
            &mapping.request_name,
        );
        let mut containers = spec.containers.iter().chain(slice(&spec.init_containers));
        match containers.find(|known| known.name == *container) {
            None => errors.invalid(
                &at.child("containerName"),
                container,
                "must match the name of an entry in spec.initContainers.name or spec.containers.name",
            ),
            Some(known) if !requests(known, resource) => errors.invalid(
                &at.child("resourceName"),
                resource,
                "must match the extended resource name of an entry in spec.initContainers.resources.requests or \
                 spec.containers.resources.requests",
            ),
            Some(_) => {}
        }
        errors.invalid_each(
            &path.child("requestName"),
            request,
            names::dns_label(request, false),
        );
        if !seen.insert((container, resource, request)) {
            errors.duplicate(&at.child("containerName"), container);
            errors.duplicate(&at.child("resourceName"), resource);
            errors.duplicate(&at.child("requestName"), request);
        }
    }
    let at = path.child("resourceClaimName");
    match status.resource_claim_name.as_str() {
        "" => errors.required(&at, ""),
        name => errors.invalid_each(&at, name, names::dns_subdomain(name, false)),
    }
}

fn requests(container: &Container, resource: &str) -> bool {
    let own = container.resources.as_ref();
    own.and_then(|own| own.requests.as_ref())
        .is_some_and(|requests| requests.contains_key(resource))
}

/// Checks how the devices of containers are.
pub(super) fn validate_allocated(
    field: &str,
    statuses: &[ContainerStatus],
    spec: &PodSpec,
    path: &Path,
    errors: &mut Errors,
) {
    let containers = match field {
        "containerStatuses" => spec.containers.as_slice(),
        "initContainerStatuses" => slice(&spec.init_containers),
        _ => {
            for (index, _) in statuses
                .iter()
                .enumerate()
                .filter(|(_, status)| !slice(&status.allocated_resources_status).is_empty())
            {
                errors.forbidden(
                    &path.index(index).child("allocatedResourcesStatus"),
                    "must not be specified in container status",
                );
            }
            return;
        }
    };
    for (index, status) in statuses.iter().enumerate() {
        let container = containers.iter().find(|container| container.name == status.name);
        let all = path.index(index).child("allocatedResourcesStatus");
        for (index, allocated) in slice(&status.allocated_resources_status).iter().enumerate() {
            let path = all.index(index);
            if let Some(container) = container {
                check_allocated_name(container, &allocated.name, &path.child("name"), errors);
            }
            let mut seen = BTreeSet::new();
            for (index, device) in slice(&allocated.resources).iter().enumerate() {
                let path = path.child("resources").index(index);
                let health = device.health.as_deref().unwrap_or_default();
                let known = ["Healthy", "Unhealthy", "Unknown"];
                if !known.contains(&health) {
                    errors.not_supported(&path.child("health"), health, &known);
                }
                match device.message.as_deref() {
                    Some("") => errors.required(&path.child("message"), "must be non-empty if specified"),
                    Some(text) if text.len() > MAX_MESSAGE => {
                        errors.too_long(&path.child("message"), MAX_MESSAGE);
                    }
                    _ => {}
                }
                if !seen.insert(&device.resource_id) {
                    errors.duplicate(&path.child("resourceID"), &device.resource_id);
                }
            }
        }
    }
}

fn check_allocated_name(container: &Container, name: &str, path: &Path, errors: &mut Errors) {
    let Some(claim) = name.strip_prefix("claim:") else {
        if !requests(container, name) {
            errors.invalid(path, name, "must match one of the container's resource requests");
        }
        return;
    };
    let mut claims = container.resources.iter().flat_map(|own| slice(&own.claims));
    let is_claimed = claims.any(|known| match known.request.as_deref().unwrap_or_default() {
        "" => known.name == claim,
        request => format!("{}/{request}", known.name) == claim,
    });
    if !is_claimed {
        errors.invalid(
            path,
            name,
            "must match one of the container's resource claims in a format 'claim:<claimName>/<request>' or \
             'claim:<claimName>' if request is empty",
        );
    }
}
