//! ResourceQuota: how much all objects of a namespace may ask for together.

use std::collections::{BTreeMap, BTreeSet};

use jiff::Timestamp;
use k8s_openapi::api::core::v1::{ResourceQuota, ResourceQuotaSpec};
use k8s_openapi::apimachinery::pkg::api::resource::Quantity as Text;
use serde_json::Value;

use super::pod_spec::resources;
use crate::field::{Errors, Path};
use crate::kind::{Column, Kind, KindInfo, Subresource, Target, age};
use crate::quantity::{self, Quantity};
use crate::same::same;

/// The scopes that a quota may have. Only pods have them, but for the last, which is of claims.
const SCOPES: [&str; 7] = [
    "BestEffort",
    "CrossNamespacePodAffinity",
    "NotBestEffort",
    "NotTerminating",
    "PriorityClass",
    "Terminating",
    "VolumeAttributesClass",
];
const OPERATORS: [&str; 4] = ["DoesNotExist", "Exists", "In", "NotIn"];

impl Kind for ResourceQuota {
    fn info() -> KindInfo {
        KindInfo {
            returns_deleted: true,
            short_names: &["quota"],
            subresources: &[Subresource::Status],
            columns: vec![
                Column::object_name(),
                Column::new(
                    "Request",
                    "string",
                    "Request represents a minimum amount of cpu/memory that a container may consume.",
                ),
                Column::new(
                    "Limit",
                    "string",
                    "Limits control the maximum amount of cpu/memory that a container may use independent of contention on the node.",
                ),
                Column::age(),
            ],
            ..KindInfo::of::<Self>("resourcequota")
        }
    }

    fn default(&mut self) {
        let spec = self.spec.get_or_insert_default();
        let status = self.status.get_or_insert_default();
        for amounts in [&mut spec.hard, &mut status.hard, &mut status.used] {
            amounts
                .iter_mut()
                .flatten()
                .for_each(|(_, amount)| quantity::canonicalize(amount));
        }
    }

    fn prepare_for_create(&mut self) {
        self.status = Some(Default::default());
    }

    fn prepare_for_update(&mut self, old: &Self, target: Target) {
        if target == Target::Main {
            self.status.clone_from(&old.status);
        } else {
            self.spec.clone_from(&old.spec);
        }
    }

    fn validate(&self, errors: &mut Errors) {
        let path = Path::new("spec");
        let spec = self.spec.clone().unwrap_or_default();
        check_amounts(spec.hard.as_ref(), &path.child("hard"), errors);
        validate_scopes(&spec, &path, errors);
        validate_scope_selector(&spec, &path, errors);
    }

    fn validate_update(&self, old: &Self, target: Target, errors: &mut Errors) {
        if target == Target::Main {
            let scopes = |quota: &Self| -> BTreeSet<String> {
                let spec = quota.spec.as_ref();
                spec.and_then(|spec| spec.scopes.clone())
                    .unwrap_or_default()
                    .into_iter()
                    .collect()
            };
            if scopes(self) != scopes(old) {
                let now = self.spec.as_ref().and_then(|spec| spec.scopes.clone());
                errors.invalid(&Path::new("spec.scopes"), now, crate::meta::IMMUTABLE);
            }
            let selector = |quota: &Self| quota.spec.as_ref().and_then(|spec| spec.scope_selector.clone());
            if !same(&selector(self), &selector(old)) {
                errors.invalid(
                    &Path::new("spec.scopeSelector"),
                    selector(self),
                    crate::meta::IMMUTABLE,
                );
            }
            return;
        }
        let status = self.status.clone().unwrap_or_default();
        check_amounts(status.hard.as_ref(), &Path::new("status.hard"), errors);
        check_amounts(status.used.as_ref(), &Path::new("status.used"), errors);
    }

    fn cells(&self, now: Timestamp) -> Vec<Value> {
        let status = self.status.clone().unwrap_or_default();
        let used = status.used.unwrap_or_default();
        let (mut requests, mut limits) = (Vec::new(), Vec::new());
        for (name, hard) in status.hard.iter().flatten() {
            let used = used.get(name).map_or("0", |amount| amount.0.as_str());
            let text = format!("{name}: {used}/{}", hard.0);
            if name.starts_with("limits.") {
                limits.push(text);
            } else {
                requests.push(text);
            }
        }
        vec![
            self.metadata.name.clone().into(),
            requests.join(", ").into(),
            limits.join(", ").into(),
            age(&self.metadata, now),
        ]
    }
}

fn check_amounts(amounts: Option<&BTreeMap<String, Text>>, path: &Path, errors: &mut Errors) {
    for (name, amount) in amounts.into_iter().flatten() {
        let path = path.key(name);
        resources::check_quota_name(name, &path, errors);
        resources::check_amount(name, amount, &path, errors);
        if name.starts_with("count/") && !Quantity::of(amount).is_whole() {
            errors.invalid(&path, &amount.0, "must be an integer");
        }
    }
}

/// Whether a quota of this resource may have this scope.
fn fits(scope: &str, resource: &str) -> bool {
    let counted = matches!(resource, "pods" | "count/pods");
    let compute = counted
        || matches!(resource, "cpu" | "memory")
        || resource.starts_with("requests.") && !resource.contains("storage")
        || resource.starts_with("limits.") && !resource.contains("ephemeral");
    match scope {
        "BestEffort" => resource == "pods",
        "VolumeAttributesClass" => {
            matches!(resource, "persistentvolumeclaims" | "requests.storage")
                || resource == "count/persistentvolumeclaims"
        }
        _ => compute,
    }
}

fn validate_scopes(spec: &ResourceQuotaSpec, path: &Path, errors: &mut Errors) {
    let scopes = spec.scopes.as_deref().unwrap_or_default();
    let path = path.child("scopes");
    check_scopes(scopes.iter().map(String::as_str), spec, scopes, &path, errors);
}

fn check_scopes<'a>(
    scopes: impl Iterator<Item = &'a str>,
    spec: &ResourceQuotaSpec,
    shown: impl serde::Serialize + Copy,
    path: &Path,
    errors: &mut Errors,
) {
    let hard: Vec<&String> = spec.hard.iter().flatten().map(|(name, _)| name).collect();
    let mut seen = BTreeSet::new();
    for scope in scopes {
        if !SCOPES.contains(&scope) {
            errors.invalid(path, shown, "unsupported scope");
        }
        for resource in &hard {
            if SCOPES.contains(&scope) && !fits(scope, resource) {
                errors.invalid(
                    path,
                    shown,
                    format!("unsupported scope applied to resource {resource:?}"),
                );
            }
        }
        seen.insert(scope);
    }
    for both in [["BestEffort", "NotBestEffort"], ["Terminating", "NotTerminating"]] {
        if both.iter().all(|scope| seen.contains(scope)) {
            errors.invalid(path, shown, "conflicting scopes");
        }
    }
}

fn validate_scope_selector(spec: &ResourceQuotaSpec, path: &Path, errors: &mut Errors) {
    let Some(selector) = &spec.scope_selector else {
        return;
    };
    let path = path.child("scopeSelector.matchExpressions");
    let all = selector.match_expressions.as_deref().unwrap_or_default();
    check_scopes(
        all.iter().map(|requirement| requirement.scope_name.as_str()),
        spec,
        all,
        &path,
        errors,
    );
    for (index, requirement) in all.iter().enumerate() {
        let path = path.index(index);
        let values = requirement.values.as_deref().unwrap_or_default();
        let operator = requirement.operator.as_str();
        let scope = requirement.scope_name.as_str();
        if !matches!(scope, "PriorityClass" | "VolumeAttributesClass")
            && SCOPES.contains(&scope)
            && operator != "Exists"
        {
            errors.invalid(
                &path.child("operator"),
                operator,
                "must be 'Exist' when scope is any of ResourceQuotaScopeTerminating, ResourceQuotaScopeNotTerminating, ResourceQuotaScopeBestEffort, ResourceQuotaScopeNotBestEffort or ResourceQuotaScopeCrossNamespacePodAffinity",
            );
        }
        match operator {
            "In" | "NotIn" if values.is_empty() => errors.required(
                &path.child("values"),
                "must be at least one value when `operator` is 'In' or 'NotIn' for scope selector",
            ),
            "Exists" | "DoesNotExist" if !values.is_empty() => errors.invalid(
                &path.child("values"),
                values,
                "must be no value when `operator` is 'Exist' or 'DoesNotExist' for scope selector",
            ),
            _ if OPERATORS.contains(&operator) => {}
            _ => errors.invalid(&path.child("operator"), operator, "not a valid selector operator"),
        }
    }
}
