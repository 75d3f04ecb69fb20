//! What a claim asks for: requests for devices, constraints between them, configuration for their drivers.

use std::collections::{BTreeMap, BTreeSet};

use k8s_openapi::api::resource::v1::{
    DeviceClaim, DeviceConstraint, DeviceDerivedAttribute, DeviceRequest, DeviceSelector, DeviceToleration,
    OpaqueDeviceConfiguration, ResourceClaimSpec,
};

use super::{names, taints};
use crate::core::pod_spec::check_driver;
use crate::field::{Errors, Path};
use crate::names::dns_subdomain;

/// The most requests, constraints and configurations of a claim; the most selectors of a request.
pub(super) const MOST: usize = 32;
const MOST_ALTERNATIVES: usize = 8;
/// The longest expression, in bytes.
const MAX_EXPRESSION: usize = 10 * 1024;
const EXACT_COUNT: &str = "ExactCount";
const ALL: &str = "All";

/// The requests of a claim and, of those that give alternatives, these.
pub(super) type Requests<'a> = BTreeMap<&'a str, BTreeSet<&'a str>>;

/// What a request asks of devices, whether it is one of several alternatives or not.
struct Wanted<'a> {
    class: &'a str,
    selectors: Option<&'a Vec<DeviceSelector>>,
    derived: Option<&'a Vec<DeviceDerivedAttribute>>,
    mode: Option<&'a str>,
    count: i64,
    tolerations: Option<&'a Vec<DeviceToleration>>,
}

pub(super) fn default(spec: &mut ResourceClaimSpec) {
    let devices = spec.devices.get_or_insert_default();
    let requests = devices.requests.iter_mut().flatten();
    for request in requests {
        if let Some(exact) = &mut request.exactly {
            default_amount(&mut exact.allocation_mode, &mut exact.count);
            taints::default_tolerations(&mut exact.tolerations);
        }
        for alternative in request.first_available.iter_mut().flatten() {
            default_amount(&mut alternative.allocation_mode, &mut alternative.count);
            taints::default_tolerations(&mut alternative.tolerations);
        }
    }
}

fn default_amount(mode: &mut Option<String>, count: &mut Option<i64>) {
    let mode = mode.get_or_insert_with(|| EXACT_COUNT.into());
    if mode == EXACT_COUNT && count.unwrap_or(0) == 0 {
        *count = Some(1);
    }
}

/// The names that results and configurations may refer to.
pub(super) fn requests(claim: Option<&ResourceClaimSpec>) -> Requests<'_> {
    let claim = claim.and_then(|spec| spec.devices.as_ref());
    let requests = claim.and_then(|claim| claim.requests.as_ref());
    requests
        .into_iter()
        .flatten()
        .map(|request| {
            let all = request.first_available.iter().flatten();
            (
                request.name.as_str(),
                all.map(|alternative| alternative.name.as_str()).collect(),
            )
        })
        .collect()
}

pub(super) fn validate(spec: &ResourceClaimSpec, path: &Path, errors: &mut Errors) {
    let nothing = DeviceClaim::default();
    let claim = spec.devices.as_ref().unwrap_or(&nothing);
    let known = requests(Some(spec));
    let path = path.child("devices");
    names::each_unique(
        claim.requests.as_ref(),
        MOST,
        |request| request.name.clone(),
        &path.child("requests"),
        errors,
        |request, path, errors| validate_request(request, claim, path, errors),
    );
    let at = path.child("constraints");
    names::each(
        claim.constraints.as_ref(),
        MOST,
        &at,
        errors,
        |constraint, path, errors| {
            validate_constraint(constraint, &known, path, errors);
        },
    );
    let at = path.child("config");
    names::each(
        claim.config.as_ref(),
        MOST,
        &at,
        errors,
        |config, path, errors| {
            validate_references(config.requests.as_ref(), &known, &path.child("requests"), errors);
            validate_configuration(config.opaque.as_ref(), path, errors);
        },
    );
}

fn validate_request(request: &DeviceRequest, claim: &DeviceClaim, path: &Path, errors: &mut Errors) {
    names::check_label(&request.name, &path.child("name"), errors);
    let alternatives = request.first_available.as_ref().filter(|list| !list.is_empty());
    match (&request.exactly, alternatives) {
        (None, None) => errors.required(path, "exactly one of `exactly` or `firstAvailable` is required"),
        (Some(_), Some(_)) => errors.invalid(
            path,
            (),
            "exactly one of `exactly` or `firstAvailable` is required, but multiple fields are set",
        ),
        (Some(exact), None) => {
            let wanted = Wanted {
                class: &exact.device_class_name,
                selectors: exact.selectors.as_ref(),
                derived: exact.derived_attributes.as_ref(),
                mode: exact.allocation_mode.as_deref(),
                count: exact.count.unwrap_or(0),
                tolerations: exact.tolerations.as_ref(),
            };
            wanted.validate(claim, &request.name, &path.child("exactly"), errors);
        }
        (None, alternatives @ Some(_)) => names::each_unique(
            alternatives,
            MOST_ALTERNATIVES,
            |alternative| alternative.name.clone(),
            &path.child("firstAvailable"),
            errors,
            |alternative, path, errors| {
                names::check_label(&alternative.name, &path.child("name"), errors);
                let wanted = Wanted {
                    class: &alternative.device_class_name,
                    selectors: alternative.selectors.as_ref(),
                    derived: alternative.derived_attributes.as_ref(),
                    mode: alternative.allocation_mode.as_deref(),
                    count: alternative.count.unwrap_or(0),
                    tolerations: alternative.tolerations.as_ref(),
                };
                let name = format!("{}/{}", request.name, alternative.name);
                wanted.validate(claim, &name, path, errors);
            },
        ),
    }
}

impl Wanted<'_> {
    fn validate(&self, claim: &DeviceClaim, name: &str, path: &Path, errors: &mut Errors) {
        let at = path.child("deviceClassName");
        match self.class {
            "" => errors.required(&at, ""),
            class => errors.invalid_each(&at, class, dns_subdomain(class, false)),
        }
        validate_selectors(self.selectors, &path.child("selectors"), errors);
        let at = path.child("derivedAttributes");
        names::each_unique(
            self.derived,
            usize::MAX,
            |attribute| attribute.name.clone(),
            &at,
            errors,
            |attribute, path, errors| {
                if !attribute.name.is_empty() && !is_constrained(&attribute.name, name, claim) {
                    let detail = "must be referenced by at least one matchAttribute or distinctAttribute constraint \
                                  targeting this request";
                    errors.invalid(&path.child("name"), &attribute.name, detail);
                }
            },
        );
        let at = path.child("count");
        match self.mode.unwrap_or_default() {
            ALL if self.count != 0 => {
                let detail = "must not be specified when allocationMode is 'All'";
                errors.invalid(&at, self.count, detail);
            }
            EXACT_COUNT if self.count <= 0 => errors.invalid(&at, self.count, "must be greater than zero"),
            ALL | EXACT_COUNT => {}
            other => errors.not_supported(&path.child("allocationMode"), other, &[ALL, EXACT_COUNT]),
        }
        taints::validate_tolerations(self.tolerations, &path.child("tolerations"), errors);
    }
}

/// Whether a constraint for this request is about an attribute.
fn is_constrained(attribute: &str, request: &str, claim: &DeviceClaim) -> bool {
    let parent = request.split('/').next().unwrap_or(request);
    claim.constraints.iter().flatten().any(|constraint| {
        let about = constraint
            .match_attribute
            .as_ref()
            .or(constraint.distinct_attribute.as_ref());
        let targets = constraint.requests.as_deref().unwrap_or_default();
        about.is_some_and(|about| about == attribute)
            && (targets.is_empty() || targets.iter().any(|target| target == request || target == parent))
    })
}

/// Checks which devices are meant.
pub(super) fn validate_selectors(selectors: Option<&Vec<DeviceSelector>>, path: &Path, errors: &mut Errors) {
    names::each(selectors, MOST, path, errors, |selector, path, errors| {
        let at = path.child("cel");
        match &selector.cel {
            None => errors.required(&at, ""),
            Some(cel) if cel.expression.len() > MAX_EXPRESSION => {
                errors.too_long(&at.child("expression"), MAX_EXPRESSION);
            }
            Some(cel) => errors.expression(&at.child("expression"), &cel.expression),
        }
    });
}

fn validate_constraint(
    constraint: &DeviceConstraint,
    known: &Requests<'_>,
    path: &Path,
    errors: &mut Errors,
) {
    validate_references(
        constraint.requests.as_ref(),
        known,
        &path.child("requests"),
        errors,
    );
    match (&constraint.match_attribute, &constraint.distinct_attribute) {
        (Some(name), _) => names::check_fully_qualified(name, &path.child("matchAttribute"), errors),
        (None, Some(name)) => names::check_fully_qualified(name, &path.child("distinctAttribute"), errors),
        (None, None) => errors.required(
            path,
            "exactly one of \"matchAttribute\" or \"distinctAttribute\" is required, but multiple fields are set",
        ),
    }
}

/// Checks that requests are there.
pub(super) fn validate_references(
    references: Option<&Vec<String>>,
    known: &Requests<'_>,
    path: &Path,
    errors: &mut Errors,
) {
    names::each_unique(
        references,
        MOST,
        Clone::clone,
        path,
        errors,
        |name, path, errors| {
            validate_reference(name, known, path, errors);
        },
    );
}

/// Checks that a request, or one of its alternatives, is there.
pub(super) fn validate_reference(name: &str, known: &Requests<'_>, path: &Path, errors: &mut Errors) {
    let detail = "must be the name of a request in the claim or the name of a request and a subrequest separated by '/'";
    let parts: Vec<&str> = name.split('/').collect();
    let found = match parts.as_slice() {
        [request] => known.contains_key(request),
        [request, alternative] => known.get(request).is_some_and(|all| all.contains(alternative)),
        _ => return errors.invalid(path, name, detail),
    };
    for part in parts {
        names::check_label(part, path, errors);
    }
    if !found {
        errors.invalid(path, name, detail);
    }
}

/// Checks what is handed to a driver.
pub(super) fn validate_configuration(
    opaque: Option<&OpaqueDeviceConfiguration>,
    path: &Path,
    errors: &mut Errors,
) {
    let path = path.child("opaque");
    let Some(opaque) = opaque else {
        return errors.required(&path, "");
    };
    check_driver(&opaque.driver, &path.child("driver"), errors);
    names::check_raw(&opaque.parameters.0, &path.child("parameters"), errors);
}
