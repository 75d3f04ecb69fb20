//! LimitRange: how much a pod, a container or a claim of a namespace may ask for.

use std::collections::{BTreeMap, BTreeSet};

use k8s_openapi::api::core::v1::{LimitRange, LimitRangeItem};
use k8s_openapi::apimachinery::pkg::api::resource::Quantity as Text;

use super::pod_spec::resources;
use crate::field::{Errors, Path};
use crate::kind::{Column, Kind, KindInfo};
use crate::names;
use crate::quantity::{self, Quantity};

type Amounts = BTreeMap<String, Text>;

impl Kind for LimitRange {
    fn info() -> KindInfo {
        KindInfo {
            short_names: &["limits"],
            create_on_update: true,
            columns: vec![Column::object_name(), Column::created_at()],
            ..KindInfo::of::<Self>("limitrange")
        }
    }

    /// What a container may have at most is what it gets by default, and that is what it requests by default.
    fn default(&mut self) {
        for item in self.spec.get_or_insert_default().limits.iter_mut() {
            for amounts in [
                &mut item.default,
                &mut item.default_request,
                &mut item.max,
                &mut item.min,
                &mut item.max_limit_request_ratio,
            ] {
                amounts
                    .iter_mut()
                    .flatten()
                    .for_each(|(_, amount)| quantity::canonicalize(amount));
            }
            if item.type_ != "Container" {
                continue;
            }
            let default = item.default.get_or_insert_default();
            for (name, amount) in item.max.iter().flatten() {
                default.entry(name.clone()).or_insert_with(|| amount.clone());
            }
            let request = item.default_request.get_or_insert_default();
            for (name, amount) in default.iter() {
                request.entry(name.clone()).or_insert_with(|| amount.clone());
            }
            for (name, amount) in item.min.iter().flatten() {
                request.entry(name.clone()).or_insert_with(|| amount.clone());
            }
            if item.default.as_ref().is_some_and(BTreeMap::is_empty) {
                item.default = None;
            }
            if item.default_request.as_ref().is_some_and(BTreeMap::is_empty) {
                item.default_request = None;
            }
        }
    }

    fn validate(&self, errors: &mut Errors) {
        let path = Path::new("spec.limits");
        let limits = self.spec.as_ref().map(|spec| spec.limits.as_slice());
        let mut types = BTreeSet::new();
        for (index, item) in limits.unwrap_or_default().iter().enumerate() {
            let path = path.index(index);
            check_type(&item.type_, &path.child("type"), errors);
            if !types.insert(&item.type_) {
                errors.duplicate(&path.child("type"), &item.type_);
            }
            validate_item(item, &path, errors);
        }
    }

    fn cells(&self, _now: jiff::Timestamp) -> Vec<serde_json::Value> {
        vec![
            self.metadata.name.clone().into(),
            crate::cell::created(&self.metadata).into(),
        ]
    }
}

fn check_type(type_: &str, path: &Path, errors: &mut Errors) {
    let wrong = names::qualified_name(type_);
    if wrong.is_empty() {
        let standard = ["Pod", "Container", "PersistentVolumeClaim"];
        if !type_.contains('/') && !standard.contains(&type_) {
            errors.invalid(path, type_, "must be a standard limit type or fully qualified");
        }
    } else {
        errors.invalid_each(path, type_, wrong);
    }
}

fn check_name(type_: &str, name: &str, path: &Path, errors: &mut Errors) {
    if matches!(type_, "Pod" | "Container") {
        resources::check_container_name(name, path, errors);
    } else {
        resources::check_name(name, path, errors);
    }
}

fn validate_item(item: &LimitRangeItem, path: &Path, errors: &mut Errors) {
    let empty = Amounts::new();
    let of = |amounts: &'_ Option<Amounts>| amounts.clone().unwrap_or_default();
    let (max, min) = (of(&item.max), of(&item.min));
    let (default, request) = (of(&item.default), of(&item.default_request));
    let ratio = of(&item.max_limit_request_ratio);
    let mut keys = BTreeSet::new();
    for (field, amounts) in [("max", &max), ("min", &min)] {
        for name in amounts.keys() {
            check_name(&item.type_, name, &path.child(field).key(name), errors);
            keys.insert(name.clone());
        }
    }
    if item.type_ == "Pod" {
        if !default.is_empty() {
            errors.forbidden(
                &path.child("default"),
                "may not be specified when `type` is 'Pod'",
            );
        }
        if !request.is_empty() {
            errors.forbidden(
                &path.child("defaultRequest"),
                "may not be specified when `type` is 'Pod'",
            );
        }
    } else {
        for (field, amounts) in [("default", &default), ("defaultRequest", &request)] {
            for name in amounts.keys() {
                check_name(&item.type_, name, &path.child(field).key(name), errors);
                keys.insert(name.clone());
            }
        }
    }
    if item.type_ == "PersistentVolumeClaim" && !min.contains_key("storage") && !max.contains_key("storage") {
        errors.required(
            &path.child("limits"),
            "either minimum or maximum storage value is required, but neither was provided",
        );
    }
    for name in ratio.keys() {
        let at = path.child("maxLimitRequestRatio").key(name);
        check_name(&item.type_, name, &at, errors);
        keys.insert(name.clone());
    }
    let (default, request) = if item.type_ == "Pod" {
        (&empty, &empty)
    } else {
        (&default, &request)
    };
    for name in &keys {
        check_order(name, [&min, request, default, &max], path, errors);
        check_ratio(name, &ratio, &min, &max, path, errors);
        check_same(name, request, default, path, errors);
    }
}

/// Minimum, default request, default and maximum do not fall.
fn check_order(name: &str, [min, request, default, max]: [&Amounts; 4], path: &Path, errors: &mut Errors) {
    let of = |amounts: &Amounts, what: &'static str| amounts.get(name).map(|amount| (amount.clone(), what));
    let (min, max) = (of(min, "min value"), of(max, "max value"));
    let request = of(request, "default request value");
    let (default, default_limit) = (of(default, "default value"), of(default, "default limit value"));
    let mut ordered =
        |field: &str, low: &Option<(Text, &str)>, high: &Option<(Text, &str)>, shows_low: bool| {
            let (Some((low, low_name)), Some((high, high_name))) = (low, high) else {
                return;
            };
            if Quantity::of(low) > Quantity::of(high) {
                let shown = if shows_low { low } else { high };
                let detail = format!("{low_name} {} is greater than {high_name} {}", low.0, high.0);
                errors.invalid(&path.child(field).key(name), &shown.0, detail);
            }
        };
    ordered("min", &min, &max, true);
    ordered("defaultRequest", &min, &request, false);
    ordered("defaultRequest", &request, &max, true);
    ordered("defaultRequest", &request, &default_limit, true);
    ordered("default", &min, &default, true);
    ordered("default", &default, &max, false);
}

fn check_ratio(name: &str, ratios: &Amounts, min: &Amounts, max: &Amounts, path: &Path, errors: &mut Errors) {
    let Some(ratio) = ratios.get(name) else { return };
    let at = path.child("maxLimitRequestRatio").key(name);
    let value = Quantity::of(ratio);
    if value < Quantity::whole(1) {
        let detail = format!("ratio {} is less than 1", ratio.0);
        errors.invalid(&at, &ratio.0, detail);
    }
    if let (Some(min), Some(max)) = (min.get(name), max.get(name)) {
        let (low, high) = (Quantity::of(min).nanos(), Quantity::of(max).nanos());
        // ratio > max / min, without the division.
        if low > 0 && value.nanos().saturating_mul(low) > high.saturating_mul(1_000_000_000) {
            let millionths = high.saturating_mul(1_000_000).saturating_add(low / 2) / low;
            let (whole, rest) = (millionths / 1_000_000, millionths % 1_000_000);
            let detail = format!("ratio {} is greater than max/min = {whole}.{rest:06}", ratio.0);
            errors.invalid(&at, &ratio.0, detail);
        }
    }
}

/// Of what cannot be promised twice as much is requested as is allowed.
fn check_same(name: &str, request: &Amounts, default: &Amounts, path: &Path, errors: &mut Errors) {
    if let (Some(request), Some(default)) = (request.get(name), default.get(name))
        && !resources::is_overcommittable(name)
        && Quantity::of(request) != Quantity::of(default)
    {
        let detail = format!(
            "default value {} must equal to defaultRequest value {} in {name}",
            default.0, request.0
        );
        errors.invalid(&path.child("defaultRequest").key(name), &request.0, detail);
    }
}
