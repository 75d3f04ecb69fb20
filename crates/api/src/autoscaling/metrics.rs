//! What an autoscaler goes by: what is a valid metric, and how one is shown.

use k8s_openapi::api::autoscaling::v2::{
    CrossVersionObjectReference, HorizontalPodAutoscaler, MetricIdentifier, MetricSpec, MetricStatus,
    MetricTarget, MetricValueStatus,
};
use k8s_openapi::apimachinery::pkg::api::resource::Quantity as Text;

use crate::cell;
use crate::field::{Errors, Path};
use crate::names;
use crate::quantity::Quantity;
use crate::selector;

const TYPES: [&str; 5] = ["ContainerResource", "External", "Object", "Pods", "Resource"];
const EITHER_VALUE: &str = "must set either a target value for metric or a per-pod target";

/// Checks a reference to an object of any version.
pub(super) fn check_reference(reference: &CrossVersionObjectReference, path: &Path, errors: &mut Errors) {
    for (field, text) in [("kind", &reference.kind), ("name", &reference.name)] {
        let at = path.child(field);
        if text.is_empty() {
            errors.required(&at, "");
        } else {
            errors.invalid_each(&at, text, names::path_segment(text, false));
        }
    }
}

/// Checks a metric.
pub(super) fn validate(metric: &MetricSpec, path: &Path, errors: &mut Errors) {
    let at = path.child("type");
    if metric.type_.is_empty() {
        errors.required(&at, "must specify a metric source type");
    }
    if !TYPES.contains(&metric.type_.as_str()) {
        errors.not_supported(&at, &metric.type_, &TYPES);
    }
    let present: Vec<&str> = [
        ("object", metric.object.is_some()),
        ("external", metric.external.is_some()),
        ("pods", metric.pods.is_some()),
        ("resource", metric.resource.is_some()),
        ("containerResource", metric.container_resource.is_some()),
    ]
    .into_iter()
    .filter_map(|(name, given)| given.then_some(name))
    .collect();
    // Only the first is looked into: more than one is wrong anyway.
    if let Some(first) = present.first() {
        validate_source(metric, first, &path.child(first), errors);
    }
    let mut letters = metric.type_.chars();
    let expected = match letters.next() {
        Some(first) => format!("{}{}", first.to_ascii_lowercase(), letters.as_str()),
        None => String::new(),
    };
    if TYPES.contains(&metric.type_.as_str()) && !present.contains(&expected.as_str()) {
        errors.required(
            &path.child(&expected),
            "must populate information for the given metric source",
        );
    }
    if present.len() != 1 {
        for name in present.iter().filter(|name| **name != expected) {
            errors.forbidden(&path.child(name), "must populate the given metric source only");
        }
    }
}

fn validate_source(metric: &MetricSpec, source: &str, path: &Path, errors: &mut Errors) {
    let target = path.child("target");
    match source {
        "object" => {
            let Some(source) = &metric.object else { return };
            check_reference(&source.described_object, &path.child("describedObject"), errors);
            validate_identifier(&source.metric, &path.child("metric"), errors);
            validate_target(&source.target, &target, errors);
            if source.target.value.is_none() && source.target.average_value.is_none() {
                errors.required(&target.child("averageValue"), EITHER_VALUE);
            }
        }
        "external" => {
            let Some(source) = &metric.external else { return };
            validate_identifier(&source.metric, &path.child("metric"), errors);
            validate_target(&source.target, &target, errors);
            match (&source.target.value, &source.target.average_value) {
                (None, None) => errors.required(&target.child("averageValue"), EITHER_VALUE),
                (Some(_), Some(_)) => errors.forbidden(
                    &target.child("value"),
                    "may not set both a target value for metric and a per-pod target",
                ),
                _ => {}
            }
        }
        "pods" => {
            let Some(source) = &metric.pods else { return };
            validate_identifier(&source.metric, &path.child("metric"), errors);
            validate_target(&source.target, &target, errors);
            let average = source.target.average_value.as_ref();
            if average.is_none_or(|average| Quantity::of(average) <= Quantity::ZERO) {
                errors.required(
                    &target.child("averageValue"),
                    "must specify a positive target averageValue",
                );
            }
        }
        "containerResource" => {
            let Some(source) = &metric.container_resource else {
                return;
            };
            if source.container.is_empty() {
                errors.required(&path.child("container"), "must specify a container");
            }
            validate_resource(&source.name, &source.target, path, errors);
        }
        _ => {
            let Some(source) = &metric.resource else { return };
            validate_resource(&source.name, &source.target, path, errors);
        }
    }
}

fn validate_resource(name: &str, target: &MetricTarget, path: &Path, errors: &mut Errors) {
    if name.is_empty() {
        errors.required(&path.child("name"), "must specify a resource name");
    }
    let path = path.child("target");
    validate_target(target, &path, errors);
    match (&target.average_utilization, &target.average_value) {
        (None, None) => errors.required(
            &path.child("averageUtilization"),
            "must set either a target raw value or a target utilization",
        ),
        (Some(_), Some(_)) => errors.forbidden(
            &path.child("averageValue"),
            "may not set both a target raw value and a target utilization",
        ),
        _ => {}
    }
}

fn validate_identifier(metric: &MetricIdentifier, path: &Path, errors: &mut Errors) {
    let at = path.child("name");
    if metric.name.is_empty() {
        errors.required(&at, "must specify a metric name");
    } else {
        errors.invalid_each(&at, &metric.name, names::path_segment(&metric.name, false));
    }
    if let Some(selector) = &metric.selector {
        selector::validate(selector, &path.child("selector"), errors);
    }
}

fn validate_target(target: &MetricTarget, path: &Path, errors: &mut Errors) {
    let at = path.child("type");
    if target.type_.is_empty() {
        errors.required(&at, "must specify a metric target type");
    }
    if !matches!(target.type_.as_str(), "Utilization" | "Value" | "AverageValue") {
        errors.invalid(
            &at,
            &target.type_,
            "must be either Utilization, Value, or AverageValue",
        );
    }
    for (field, amount) in [("value", &target.value), ("averageValue", &target.average_value)] {
        if let Some(amount) = amount
            && Quantity::of(amount) <= Quantity::ZERO
        {
            errors.invalid(&path.child(field), &amount.0, "must be positive");
        }
    }
    if let Some(percent) = target.average_utilization.filter(|&percent| percent < 1) {
        errors.invalid(
            &path.child("averageUtilization"),
            percent,
            "must be greater than 0",
        );
    }
}

/// The cell of the metrics: what is, and what is aimed at.
pub(super) fn shown(autoscaler: &HorizontalPodAutoscaler) -> String {
    const MAX: usize = 2;
    let status = autoscaler.status.clone().unwrap_or_default();
    let current = status.current_metrics.unwrap_or_default();
    let all: Vec<String> = autoscaler
        .spec
        .metrics
        .iter()
        .flatten()
        .enumerate()
        .map(|(index, metric)| shown_metric(metric, current.get(index)))
        .collect();
    let first: Vec<&str> = all.iter().take(MAX).map(String::as_str).collect();
    match all.len() {
        0 => cell::NONE.into(),
        count if count > MAX => format!("{} + {} more...", first.join(", "), count - MAX),
        _ => first.join(", "),
    }
}

fn shown_metric(metric: &MetricSpec, status: Option<&MetricStatus>) -> String {
    let given = |amount: Option<&Text>| amount.map_or_else(|| "<nil>".into(), |amount| amount.0.clone());
    let text = |amount: Option<&Text>| amount.map_or_else(|| cell::UNKNOWN.into(), |amount| amount.0.clone());
    // What a status does not say though it is there is not the same as no status.
    let known =
        |current: Option<&MetricValueStatus>, pick: fn(&MetricValueStatus) -> Option<&Text>| match current {
            Some(current) => given(pick(current)),
            None => cell::UNKNOWN.into(),
        };
    let averaged = |target: &MetricTarget, current: Option<&MetricValueStatus>| match &target.average_value {
        Some(aim) => {
            let is = text(current.and_then(|current| current.average_value.as_ref()));
            format!("{is}/{} (avg)", aim.0)
        }
        None => {
            let is = known(current, |current| current.value.as_ref());
            format!("{is}/{}", given(target.value.as_ref()))
        }
    };
    let resource = |name: &str, target: &MetricTarget, current: Option<&MetricValueStatus>| match &target
        .average_value
    {
        Some(aim) => {
            let is = known(current, |current| current.average_value.as_ref());
            format!("{name}: {is}/{}", aim.0)
        }
        None => {
            let is = current.and_then(|current| current.average_utilization);
            let is = is.map_or_else(|| cell::UNKNOWN.into(), |percent| format!("{percent}%"));
            let aim = target.average_utilization;
            let aim = aim.map_or_else(|| "<auto>".into(), |percent| format!("{percent}%"));
            format!("{name}: {is}/{aim}")
        }
    };
    if let Some(source) = &metric.external {
        let current = status.and_then(|status| status.external.as_ref());
        return averaged(&source.target, current.map(|status| &status.current));
    }
    if let Some(source) = &metric.pods {
        let current = status.and_then(|status| status.pods.as_ref());
        let current = current.map(|status| &status.current);
        let is = known(current, |current| current.average_value.as_ref());
        return format!("{is}/{}", given(source.target.average_value.as_ref()));
    }
    if let Some(source) = &metric.object {
        let current = status.and_then(|status| status.object.as_ref());
        return averaged(&source.target, current.map(|status| &status.current));
    }
    if let Some(source) = &metric.container_resource {
        let current = status.and_then(|status| status.container_resource.as_ref());
        return resource(
            &source.name,
            &source.target,
            current.map(|status| &status.current),
        );
    }
    if let Some(source) = &metric.resource {
        let current = status.and_then(|status| status.resource.as_ref());
        return resource(
            &source.name,
            &source.target,
            current.map(|status| &status.current),
        );
    }
    "<unknown type>".into()
}
