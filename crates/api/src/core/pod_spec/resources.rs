//! Requests and limits: which resources there are, what amounts, and what they must be to each other.

use std::collections::{BTreeMap, BTreeSet};

use k8s_openapi::api::core::v1::{PodSpec, ResourceRequirements};
use k8s_openapi::apimachinery::pkg::api::resource::Quantity as Text;

use super::slice;
use crate::field::{Errors, Path};
use crate::names;
use crate::pod::{self, Side};
use crate::quantity::Quantity;

const HUGE_PAGES: &str = "hugepages-";

pub(crate) fn is_native(name: &str) -> bool {
    !name.contains('/') || name.contains("kubernetes.io/")
}

fn is_huge_page(name: &str) -> bool {
    name.starts_with(HUGE_PAGES)
}

pub(crate) fn is_extended(name: &str) -> bool {
    !is_native(name)
        && !name.starts_with("requests.")
        && names::qualified_name(&format!("requests.{name}")).is_empty()
}

/// Whether more of it may be promised than there is.
pub(crate) fn is_overcommittable(name: &str) -> bool {
    is_native(name) && !is_huge_page(name)
}

fn is_standard_of_containers(name: &str) -> bool {
    matches!(name, "cpu" | "memory" | "ephemeral-storage") || is_huge_page(name)
}

fn is_standard(name: &str) -> bool {
    is_standard_of_containers(name)
        || matches!(
            name,
            "requests.cpu"
                | "requests.memory"
                | "requests.ephemeral-storage"
                | "limits.cpu"
                | "limits.memory"
                | "limits.ephemeral-storage"
                | "pods"
                | "resourcequotas"
                | "services"
                | "replicationcontrollers"
                | "secrets"
                | "configmaps"
                | "persistentvolumeclaims"
                | "storage"
                | "requests.storage"
                | "services.nodeports"
                | "services.loadbalancers"
        )
        || name.starts_with("requests.hugepages-")
}

/// Checks the name of a resource.
pub(crate) fn check_name(name: &str, path: &Path, errors: &mut Errors) {
    let wrong = names::qualified_name(name);
    if wrong.is_empty() {
        if !name.contains('/') && !is_standard(name) {
            errors.invalid(path, name, "must be a standard resource type or fully qualified");
        }
    } else {
        super::invalid_each(path, name, wrong, errors);
    }
}

/// Checks the name of a resource that a container may ask for.
pub(crate) fn check_container_name(name: &str, path: &Path, errors: &mut Errors) {
    check_name(name, path, errors);
    if !name.contains('/') {
        if !is_standard_of_containers(name) {
            errors.invalid(path, name, "must be a standard resource for containers");
        }
    } else if !is_native(name) && !is_extended(name) {
        errors.invalid(path, name, "doesn't follow extended resource name standard");
    }
}

/// Whether a quota may limit a resource of this name, which is one of Kubernetes' own.
pub(crate) fn is_standard_of_quotas(name: &str) -> bool {
    is_standard(name) && name != "storage"
}

/// Checks the name of a resource that a quota may limit.
pub(crate) fn check_quota_name(name: &str, path: &Path, errors: &mut Errors) {
    check_name(name, path, errors);
    if !name.contains('/') && !is_standard_of_quotas(name) {
        errors.invalid(path, name, "must be a standard resource for quota");
    }
}

/// Checks an amount of a resource.
pub(crate) fn check_amount(name: &str, amount: &Text, path: &Path, errors: &mut Errors) {
    let value = Quantity::of(amount);
    if value.is_negative() {
        errors.invalid(path, &amount.0, "must be greater than or equal to 0");
    }
    let counted = matches!(
        name,
        "pods"
            | "resourcequotas"
            | "services"
            | "replicationcontrollers"
            | "secrets"
            | "configmaps"
            | "persistentvolumeclaims"
            | "services.nodeports"
            | "services.loadbalancers"
    );
    if (counted || is_extended(name)) && value.milli_value() % 1000 != 0 {
        errors.invalid(path, &amount.0, "must be an integer");
    }
}

/// Huge pages are asked for whole.
fn check_pages(name: &str, amount: &Text, path: &Path, errors: &mut Errors) {
    let Some(size) = name.strip_prefix(HUGE_PAGES) else {
        return;
    };
    let page = size.parse::<Quantity>().unwrap_or(Quantity::ZERO);
    if page.is_zero() || Quantity::of(amount).nanos() % page.nanos() != 0 {
        let detail = format!("{} is not positive integer multiple of {name}", amount.0);
        errors.invalid(path, &amount.0, detail);
    }
}

/// Checks an amount that an object has, and does not ask for.
pub(crate) fn check_basic(amount: &Text, path: &Path, errors: &mut Errors) {
    let value = Quantity::of(amount).value();
    if value < 0 {
        errors.invalid(path, value, "must be a valid resource quantity");
    }
}

/// Checks limits alone, as a pod's overhead is.
pub(crate) fn validate_limits(limits: &BTreeMap<String, Text>, path: &Path, errors: &mut Errors) {
    let requirements = ResourceRequirements {
        limits: Some(limits.clone()),
        ..Default::default()
    };
    validate(&requirements, &BTreeSet::new(), path, errors);
}

/// Checks a container's requests and limits.
pub(super) fn validate(
    requirements: &ResourceRequirements,
    claims: &BTreeSet<&str>,
    path: &Path,
    errors: &mut Errors,
) {
    let names = |name: &str, path: &Path, errors: &mut Errors| check_container_name(name, path, errors);
    validate_sides(requirements, names, path, errors);
    validate_claims(requirements, claims, &path.child("claims"), errors);
}

/// Checks which of the pod's claims a container uses, as a whole or by one of their requests.
fn validate_claims(
    requirements: &ResourceRequirements,
    claims: &BTreeSet<&str>,
    all: &Path,
    errors: &mut Errors,
) {
    let mut seen: BTreeSet<(&str, &str)> = BTreeSet::new();
    for (index, claim) in slice(&requirements.claims).iter().enumerate() {
        let path = all.index(index);
        let name = claim.name.as_str();
        let request = claim.request.as_deref().unwrap_or_default();
        if name.is_empty() {
            errors.required(&path, "");
            continue;
        }
        if seen.contains(&(name, "")) {
            errors.duplicate(&path, name);
        } else {
            if request.is_empty() {
                // What was used in parts cannot be used as a whole as well.
                for _ in seen.iter().filter(|(known, _)| *known == name) {
                    errors.duplicate(&path, name);
                }
            } else {
                let at = path.child("request");
                super::invalid_each(&at, request, names::dns_label(request, false), errors);
                if seen.contains(&(name, request)) {
                    errors.duplicate(&path, format!("{name}/{request}"));
                }
            }
            seen.insert((name, request));
        }
        if !claims.contains(name) {
            let known: Vec<&str> = claims.iter().copied().filter(|name| !name.is_empty()).collect();
            let which = match known.as_slice() {
                [] => " which is empty".to_string(),
                known => format!(": {}", known.join(", ")),
            };
            let detail = format!("must be one of the names in pod.spec.resourceClaims{which}");
            errors.not_found_saying(&path, name, &detail);
        }
    }
}

fn validate_sides(
    requirements: &ResourceRequirements,
    check: impl Fn(&str, &Path, &mut Errors),
    path: &Path,
    errors: &mut Errors,
) {
    let (limits_path, requests_path) = (path.child("limits"), path.child("requests"));
    let empty = BTreeMap::new();
    let limits = requirements.limits.as_ref().unwrap_or(&empty);
    let requests = requirements.requests.as_ref().unwrap_or(&empty);
    for (name, amount) in limits {
        let path = limits_path.key(name);
        check(name, &path, errors);
        check_amount(name, amount, &path, errors);
        check_pages(name, amount, &path, errors);
    }
    for (name, amount) in requests {
        let path = requests_path.key(name);
        check(name, &path, errors);
        check_amount(name, amount, &path, errors);
        match limits.get(name) {
            Some(limit) => {
                let (value, most) = (Quantity::of(amount), Quantity::of(limit));
                if value != most && !is_overcommittable(name) {
                    let detail = format!("must be equal to {name} limit of {}", limit.0);
                    errors.invalid(&requests_path, &amount.0, detail);
                } else if value > most {
                    let detail = format!("must be less than or equal to {name} limit of {}", limit.0);
                    errors.invalid(&requests_path, &amount.0, detail);
                }
            }
            None if !is_overcommittable(name) => {
                errors.required(&limits_path, "Limit must be set for non overcommitable resources");
            }
            None => {}
        }
        check_pages(name, amount, &path, errors);
    }
    let any = |test: fn(&str) -> bool| limits.keys().chain(requests.keys()).any(|name| test(name));
    if any(is_huge_page) && !any(|name| matches!(name, "cpu" | "memory")) {
        errors.forbidden(path, "HugePages require cpu or memory");
    }
}

/// Checks the pod's own requests and limits, against themselves and those of its containers.
pub(super) fn validate_pod_level(spec: &PodSpec, claims: &BTreeSet<&str>, path: &Path, errors: &mut Errors) {
    let Some(resources) = &spec.resources else { return };
    if spec.os.as_ref().is_some_and(|os| os.name == "windows") {
        return errors.forbidden(path, "may not be set for a windows pod");
    }
    if resources.claims.is_some() {
        errors.forbidden(
            &path.child("claims"),
            "claims may not be set for Resources at pod-level",
        );
    }
    let names = |name: &str, path: &Path, errors: &mut Errors| {
        let before = errors.iter().len();
        check_name(name, path, errors);
        if errors.iter().len() == before && !pod::is_pod_level(name) {
            errors.not_supported(path, name, &["cpu", "hugepages-", "memory"]);
        }
    };
    validate_sides(resources, names, path, errors);
    validate_claims(resources, claims, &path.child("claims"), errors);
    let none = BTreeMap::new();
    let requested = resources.requests.as_ref().unwrap_or(&none);
    for (name, total) in pod::container_totals(spec, Side::Requests) {
        if let Some(own) = requested.get(&name)
            && total > Quantity::of(own)
        {
            errors.invalid(
                &path.child("requests").key(&name),
                &own.0,
                format!("must be greater than or equal to aggregate container requests of {total}"),
            );
        }
    }
    let limits = resources.limits.as_ref().unwrap_or(&none);
    for (name, total) in pod::container_totals(spec, Side::Limits) {
        if let Some(own) = limits.get(&name).filter(|_| is_huge_page(&name))
            && total > Quantity::of(own)
        {
            errors.invalid(
                &path.child("limits").key(&name),
                &own.0,
                format!("must be greater than or equal to aggregate container limits of {total}"),
            );
        }
    }
    for (index, container) in spec.containers.iter().enumerate() {
        let own = container.resources.as_ref().and_then(|own| own.limits.as_ref());
        for (name, amount) in own.into_iter().flatten() {
            if let Some(most) = limits.get(name)
                && Quantity::of(amount) > Quantity::of(most)
            {
                errors.invalid(
                    &path.child("containers").index(index).key(name).child("limits"),
                    &amount.0,
                    format!("must be less than or equal to pod limits of {}", most.0),
                );
            }
        }
    }
}
