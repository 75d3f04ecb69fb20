//! The rules of a job's spec, be it a job's own or a cron job's template.

use k8s_openapi::api::batch::v1::JobSpec;

use super::failure_policy;
use crate::core::pod_spec;
use crate::field::{Errors, Path};
use crate::names;

/// From so many completions on, an indexed job must say how many may fail.
const MANY_COMPLETIONS: i32 = 100_000;
const MAX_PARALLELISM: i32 = 100_000;
const MAX_FAILED_INDEXES: i32 = 100_000;
/// The most of both for a job of many completions.
const MAX_OF_MANY: i32 = 10_000;
const MAX_MANAGED_BY: usize = 63;
const NOT_INDEXED: &str = "requires indexed completion mode";

fn is_indexed(spec: &JobSpec) -> bool {
    spec.completion_mode.as_deref() == Some("Indexed")
}

/// Checks what a job's spec and a template's have in common.
pub(super) fn validate(spec: &JobSpec, path: &Path, errors: &mut Errors) {
    errors.non_negative(&path.child("parallelism"), spec.parallelism);
    errors.non_negative(&path.child("completions"), spec.completions);
    errors.non_negative(&path.child("activeDeadlineSeconds"), spec.active_deadline_seconds);
    errors.non_negative(&path.child("backoffLimit"), spec.backoff_limit);
    errors.non_negative(
        &path.child("ttlSecondsAfterFinished"),
        spec.ttl_seconds_after_finished,
    );
    errors.non_negative(&path.child("backoffLimitPerIndex"), spec.backoff_limit_per_index);
    if spec.max_failed_indexes.is_some() {
        errors.non_negative(&path.child("maxFailedIndexes"), spec.max_failed_indexes);
        if spec.backoff_limit_per_index.is_none() {
            errors.required(
                &path.child("backoffLimitPerIndex"),
                "when maxFailedIndexes is specified",
            );
        }
    }
    if let Some(manager) = &spec.managed_by {
        let at = path.child("managedBy");
        errors.invalid_each(&at, manager, names::domain_prefixed_path(manager));
        if manager.len() > MAX_MANAGED_BY {
            errors.too_long(&at, MAX_MANAGED_BY);
        }
    }
    if let Some(mode) = spec.completion_mode.as_deref()
        && !matches!(mode, "NonIndexed" | "Indexed")
    {
        errors.not_supported(&path.child("completionMode"), mode, &["NonIndexed", "Indexed"]);
    }
    if is_indexed(spec) {
        validate_indexed(spec, path, errors);
    } else if spec
        .completion_mode
        .as_deref()
        .is_none_or(|mode| mode == "NonIndexed")
    {
        let both = [
            ("backoffLimitPerIndex", spec.backoff_limit_per_index),
            ("maxFailedIndexes", spec.max_failed_indexes),
        ];
        for (field, value) in both {
            if let Some(value) = value {
                errors.invalid(&path.child(field), value, NOT_INDEXED);
            }
        }
    }
    if let Some(policy) = &spec.pod_failure_policy {
        failure_policy::validate_failure(policy, spec, &path.child("podFailurePolicy"), errors);
    }
    match &spec.success_policy {
        Some(policy) if !is_indexed(spec) => {
            errors.invalid(&path.child("successPolicy"), policy, NOT_INDEXED);
        }
        Some(policy) => {
            failure_policy::validate_success(policy, spec, &path.child("successPolicy"), errors);
        }
        None => {}
    }
    validate_replacement(spec, &path.child("podReplacementPolicy"), errors);
    pod_spec::validate_template(&spec.template, &path.child("template"), errors);
    validate_restarts(spec, &path.child("template.spec.restartPolicy"), errors);
}

fn validate_indexed(spec: &JobSpec, path: &Path, errors: &mut Errors) {
    if spec.completions.is_none() {
        errors.required(&path.child("completions"), "when completion mode is Indexed");
    }
    if let Some(parallelism) = spec.parallelism.filter(|&count| count > MAX_PARALLELISM) {
        errors.invalid(
            &path.child("parallelism"),
            parallelism,
            format!("must be less than or equal to {MAX_PARALLELISM} when completion mode is Indexed"),
        );
    }
    let failed = path.child("maxFailedIndexes");
    if let (Some(completions), Some(most)) = (spec.completions, spec.max_failed_indexes)
        && most > completions
    {
        errors.invalid(&failed, most, "must be less than or equal to completions");
    }
    if let Some(most) = spec.max_failed_indexes.filter(|&most| most > MAX_FAILED_INDEXES) {
        errors.invalid(
            &failed,
            most,
            format!("must be less than or equal to {MAX_FAILED_INDEXES}"),
        );
    }
    let many = spec.completions.is_some_and(|count| count > MANY_COMPLETIONS);
    if !many || spec.backoff_limit_per_index.is_none() {
        return;
    }
    let detail = format!(
        "must be less than or equal to {MAX_OF_MANY} when completions are above {MANY_COMPLETIONS} and used with \
         backoff limit per index"
    );
    if spec.max_failed_indexes.is_none() {
        errors.required(
            &failed,
            &format!("must be specified when completions is above {MANY_COMPLETIONS}"),
        );
    }
    for (at, value) in [
        (path.child("parallelism"), spec.parallelism),
        (failed, spec.max_failed_indexes),
    ] {
        if let Some(value) = value.filter(|&value| value > MAX_OF_MANY) {
            errors.invalid(&at, value, &detail);
        }
    }
}

fn validate_replacement(spec: &JobSpec, path: &Path, errors: &mut Errors) {
    let Some(policy) = spec.pod_replacement_policy.as_deref() else {
        return;
    };
    if spec.pod_failure_policy.is_some() {
        // What a failed pod was is only known when it has ended.
        if policy != "Failed" {
            errors.not_supported(path, policy, &["Failed"]);
        }
    } else if !matches!(policy, "Failed" | "TerminatingOrFailed") {
        errors.not_supported(path, policy, &["Failed", "TerminatingOrFailed"]);
    }
}

fn validate_restarts(spec: &JobSpec, path: &Path, errors: &mut Errors) {
    let pod = spec.template.spec.as_ref();
    let policy = pod.and_then(|pod| pod.restart_policy.as_deref());
    let policy = policy.unwrap_or_default();
    match policy {
        "" | "Always" => errors.required(path, "valid values: \"OnFailure\", \"Never\""),
        "OnFailure" if spec.pod_failure_policy.is_some() => errors.invalid(
            path,
            policy,
            "only \"Never\" is supported when podFailurePolicy is specified",
        ),
        "OnFailure" | "Never" => {}
        _ => errors.not_supported(path, policy, &["OnFailure", "Never"]),
    }
}

/// Adds the warnings about what is desired of a job.
pub(super) fn warn(spec: &JobSpec, path: &Path, warnings: &mut Vec<String>) {
    if spec.completions.is_some_and(|count| count > 100_000)
        && spec.parallelism.is_some_and(|count| count > 10_000)
        && spec.completion_mode.as_deref() == Some("Indexed")
    {
        warnings.push(format!(
            "{path}: In Indexed Jobs with a number of completions higher than 10^5 and a parallelism higher than 10^4, \
             Kubernetes might not be able to track completedIndexes when a big number of indexes fail"
        ));
    }
    pod_spec::warn_of_template(&spec.template, &path.child("template"), warnings);
}
