//! How much of a capacity that several claims share one of them may ask for.

use k8s_openapi::api::resource::v1::{CapacityRequestPolicy, CapacityRequestPolicyRange};
use k8s_openapi::apimachinery::pkg::api::resource::Quantity as Text;

use super::names;
use crate::field::{Errors, Path};
use crate::quantity::Quantity;

const MOST_OPTIONS: usize = 10;

/// Checks a policy for a capacity of this size.
pub(super) fn validate(capacity: &Text, policy: &CapacityRequestPolicy, path: &Path, errors: &mut Errors) {
    let values = policy.valid_values.as_ref().filter(|values| !values.is_empty());
    let default = policy.default.as_ref();
    match (values, &policy.valid_range) {
        (Some(_), Some(_)) => errors.forbidden(
            path,
            "exactly one policy can be specified, cannot specify \"validValues\" and \"validRange\" at the same time",
        ),
        (Some(values), None) => match default {
            None => errors.required(&path.child("default"), "required when validValues is defined"),
            Some(default) => validate_values(default, capacity, values, &path.child("validValues"), errors),
        },
        (None, Some(range)) => match default {
            None => errors.required(&path.child("default"), "required when validRange is defined"),
            Some(default) => validate_range(default, capacity, range, &path.child("validRange"), errors),
        },
        (None, None) => {}
    }
}

fn validate_values(default: &Text, capacity: &Text, values: &Vec<Text>, path: &Path, errors: &mut Errors) {
    for (index, pair) in values.windows(2).enumerate() {
        if let [first, second] = pair
            && Quantity::of(first) > Quantity::of(second)
        {
            let detail = "values must be sorted in ascending order";
            errors.invalid(&path.index(index + 1), &second.0, detail);
        }
    }
    names::each_unique(
        Some(values),
        MOST_OPTIONS,
        |value| Quantity::of(value).value().to_string(),
        path,
        errors,
        |value, path, errors| {
            if Quantity::of(value) > Quantity::of(capacity) {
                let detail = format!("option is larger than capacity value: {}", capacity.0);
                errors.invalid(path, &value.0, detail);
            }
        },
    );
    if !values
        .iter()
        .any(|value| Quantity::of(value) == Quantity::of(default))
    {
        let detail = "default value is not valid according to the requestPolicy";
        errors.invalid(path, &default.0, detail);
    }
}

fn validate_range(
    default: &Text,
    capacity: &Text,
    range: &CapacityRequestPolicyRange,
    path: &Path,
    errors: &mut Errors,
) {
    let of = Quantity::of;
    let mut compare = |field: &str, value: &Text, wrong: bool, what: &str, with: &Text| {
        if wrong {
            errors.invalid(&path.child(field), &value.0, format!("{what}: {}", with.0));
        }
    };
    let min = &range.min;
    compare(
        "min",
        min,
        of(min) > of(capacity),
        "min is larger than capacity value",
        capacity,
    );
    compare(
        "default",
        default,
        of(default) < of(min),
        "default is less than min",
        min,
    );
    if let Some(max) = &range.max {
        compare("max", min, of(min) > of(max), "min is larger than max", max);
        compare(
            "max",
            max,
            of(max) > of(capacity),
            "max is larger than capacity value",
            capacity,
        );
        compare(
            "default",
            default,
            of(default) > of(max),
            "default is more than max",
            max,
        );
    }
    let Some(step) = &range.step else { return };
    let at = path.child("step");
    if of(step) <= Quantity::ZERO {
        return errors.invalid(&at, &step.0, "must be greater than zero");
    }
    if of(min).nanos().saturating_add(of(step).nanos()) > of(capacity).nanos() {
        let detail = format!("one step is larger than capacity value: {}", capacity.0);
        errors.invalid(&at, &step.0, detail);
    }
    for value in [Some(default), range.max.as_ref()].into_iter().flatten() {
        let distance = of(value).nanos().saturating_sub(of(min).nanos());
        if distance.checked_rem(of(step).nanos()) != Some(0) {
            let detail = format!(
                "value is not a multiple of a given step ({}) from ({})",
                step.0, min.0
            );
            errors.invalid(&at, &value.0, detail);
        }
    }
}
