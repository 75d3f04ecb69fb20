//! ResourceQuota: how much all objects of a namespace may ask for together.

use std::collections::{BTreeMap, BTreeSet};

use jiff::Timestamp;
use k8s_openapi::api::core::v1::{ResourceQuota, ResourceQuotaSpec, ScopedResourceSelectorRequirement};
use k8s_openapi::apimachinery::pkg::api::resource::Quantity as Text;
use serde_json::Value;

use super::pod_spec::resources;
use crate::field::{Errors, Internal, Path};
use crate::kind::{Column, Kind, KindInfo, Subresource, Target, age};
use crate::quantity;

/// The scopes that a quota may have. Only pods have them, but for the last, which is of claims.
pub const SCOPES: [&str; 7] = [
    "BestEffort",
    "CrossNamespacePodAffinity",
    "NotBestEffort",
    "NotTerminating",
    "PriorityClass",
    "Terminating",
    "VolumeAttributesClass",
];
/// How a selector of scopes may compare.
pub const OPERATORS: [&str; 4] = ["DoesNotExist", "Exists", "In", "NotIn"];

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
    }
}

/// Whether a quota of this resource may have this scope.
fn fits(scope: &str, resource: &str) -> bool {
    let counted = resource == "pods";
    let compute = matches!(
        resource,
        "cpu" | "memory" | "limits.cpu" | "limits.memory" | "requests.cpu" | "requests.memory"
    );
    match scope {
        "BestEffort" => counted,
        "VolumeAttributesClass" => matches!(resource, "persistentvolumeclaims" | "requests.storage"),
        scope if SCOPES.contains(&scope) => counted || compute,
        _ => true,
    }
}

/// Reports the resources that a scope does not fit.
fn check_resources(
    scope: &str,
    spec: &ResourceQuotaSpec,
    shown: impl serde::Serialize,
    path: &Path,
    errors: &mut Errors,
) {
    let hard = spec.hard.iter().flatten().map(|(name, _)| name);
    for _ in hard.filter(|name| resources::is_standard_of_quotas(name) && !fits(scope, name)) {
        errors.invalid(path, &shown, "unsupported scope applied to resource");
    }
}

fn check_conflicts(all: &BTreeSet<&str>, spec: &ResourceQuotaSpec, path: &Path, errors: &mut Errors) {
    for both in [["BestEffort", "NotBestEffort"], ["Terminating", "NotTerminating"]] {
        if both.iter().all(|scope| all.contains(scope)) {
            errors.invalid(path, &spec.scopes, "conflicting scopes");
        }
    }
}

fn validate_scopes(spec: &ResourceQuotaSpec, path: &Path, errors: &mut Errors) {
    let path = path.child("scopes");
    let scopes = spec.scopes.as_deref().unwrap_or_default();
    for scope in scopes {
        if !SCOPES.contains(&scope.as_str()) {
            errors.invalid(&path, scopes, "unsupported scope");
        }
        check_resources(scope, spec, scopes, &path, errors);
    }
    let all = scopes.iter().map(String::as_str).collect();
    check_conflicts(&all, spec, &path, errors);
}

fn validate_scope_selector(spec: &ResourceQuotaSpec, path: &Path, errors: &mut Errors) {
    let Some(selector) = &spec.scope_selector else {
        return;
    };
    let path = path.child("scopeSelector.matchExpressions");
    let all = selector.match_expressions.as_deref().unwrap_or_default();
    for requirement in all {
        let values = requirement.values.as_deref().unwrap_or_default();
        let operator = requirement.operator.as_str();
        let scope = requirement.scope_name.as_str();
        if !SCOPES.contains(&scope) {
            errors.invalid(&path.child("scopeName"), scope, "unsupported scope");
        }
        check_resources(scope, spec, shown_selector(all), &path, errors);
        let is_plain = SCOPES.contains(&scope) && !matches!(scope, "PriorityClass" | "VolumeAttributesClass");
        if is_plain && operator != "Exists" {
            errors.invalid(
                &path.child("operator"),
                operator,
                "must be 'Exists' when scope is any of ResourceQuotaScopeTerminating, ResourceQuotaScopeNotTerminating, ResourceQuotaScopeBestEffort, ResourceQuotaScopeNotBestEffort or ResourceQuotaScopeCrossNamespacePodAffinity",
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
    let scopes = all
        .iter()
        .map(|requirement| requirement.scope_name.as_str())
        .collect();
    check_conflicts(&scopes, spec, &path, errors);
}

fn shown_selector(all: &[ScopedResourceSelectorRequirement]) -> Internal {
    let each: Vec<Internal> = all
        .iter()
        .map(|requirement| {
            Internal::fields([
                ("ScopeName", Internal::plain(&requirement.scope_name)),
                ("Operator", Internal::plain(&requirement.operator)),
                ("Values", Internal::plain(&requirement.values)),
            ])
        })
        .collect();
    Internal::fields([("MatchExpressions", Internal::Items(each))])
}
