//! When a job has failed or succeeded before its pods are counted: its pod failure policy and its success policy.

use std::collections::BTreeSet;

use k8s_openapi::api::batch::v1::{
    JobSpec, PodFailurePolicy, PodFailurePolicyOnExitCodesRequirement,
    PodFailurePolicyOnPodConditionsPattern, PodFailurePolicyRule, SuccessPolicy,
};

use super::indexes;
use crate::field::{Errors, Path};
use crate::meta;

const MAX_RULES: usize = 20;
const MAX_PATTERNS: usize = 20;
/// The longest list of indexes, in bytes.
const MAX_INDEXES: usize = 64 * 1024;
const MAX_EXIT_CODES: usize = 255;
const ACTIONS: [&str; 4] = ["Count", "FailIndex", "FailJob", "Ignore"];

/// What the rules of a job's policy ask of the pods' conditions.
pub(super) fn conditions_mut(
    spec: &mut JobSpec,
) -> impl Iterator<Item = &mut PodFailurePolicyOnPodConditionsPattern> {
    let policy = spec.pod_failure_policy.iter_mut();
    let rules = policy.flat_map(|policy| policy.rules.iter_mut());
    rules.flat_map(|rule| rule.on_pod_conditions.iter_mut().flatten())
}

fn valid_values(values: &[&str]) -> String {
    let quoted: Vec<String> = values.iter().map(|value| format!("{value:?}")).collect();
    format!("valid values: [{}]", quoted.join(" "))
}

fn one_of(value: &str, allowed: &[&str], path: &Path, errors: &mut Errors) {
    if value.is_empty() {
        errors.required(path, &valid_values(allowed));
    } else if !allowed.contains(&value) {
        errors.not_supported(path, value, allowed);
    }
}

/// Checks a pod failure policy.
pub(super) fn validate_failure(policy: &PodFailurePolicy, spec: &JobSpec, path: &Path, errors: &mut Errors) {
    let rules = path.child("rules");
    if policy.rules.len() > MAX_RULES {
        errors.too_many(&rules, policy.rules.len(), MAX_RULES);
    }
    let pod = spec.template.spec.clone().unwrap_or_default();
    let names: BTreeSet<&str> = pod
        .containers
        .iter()
        .chain(pod.init_containers.iter().flatten())
        .map(|container| container.name.as_str())
        .collect();
    for (index, rule) in policy.rules.iter().enumerate() {
        validate_rule(rule, spec, &names, &rules.index(index), errors);
    }
}

fn validate_rule(
    rule: &PodFailurePolicyRule,
    spec: &JobSpec,
    names: &BTreeSet<&str>,
    path: &Path,
    errors: &mut Errors,
) {
    let action = path.child("action");
    if rule.action == "FailIndex" && spec.backoff_limit_per_index.is_none() {
        errors.invalid(
            &action,
            &rule.action,
            "requires the backoffLimitPerIndex to be set",
        );
    } else {
        one_of(&rule.action, &ACTIONS, &action, errors);
    }
    if let Some(codes) = &rule.on_exit_codes {
        validate_exit_codes(codes, names, &path.child("onExitCodes"), errors);
    }
    let patterns = rule.on_pod_conditions.as_deref().unwrap_or_default();
    let at = path.child("onPodConditions");
    if patterns.len() > MAX_PATTERNS {
        errors.too_many(&at, patterns.len(), MAX_PATTERNS);
    }
    for (index, pattern) in patterns.iter().enumerate() {
        let path = at.index(index);
        meta::validate_label_name(&pattern.type_, &path.child("type"), errors);
        let status = pattern.status.as_deref().unwrap_or_default();
        one_of(
            status,
            &["False", "True", "Unknown"],
            &path.child("status"),
            errors,
        );
    }
    match (rule.on_exit_codes.is_some(), patterns.is_empty()) {
        (true, false) => errors.invalid_as_a_whole(
            path,
            "specifying both OnExitCodes and OnPodConditions is not supported",
        ),
        (false, true) => errors.invalid_as_a_whole(
            path,
            "specifying one of OnExitCodes and OnPodConditions is required",
        ),
        _ => {}
    }
}

fn validate_exit_codes(
    codes: &PodFailurePolicyOnExitCodesRequirement,
    names: &BTreeSet<&str>,
    path: &Path,
    errors: &mut Errors,
) {
    one_of(&codes.operator, &["In", "NotIn"], &path.child("operator"), errors);
    if let Some(name) = &codes.container_name
        && !names.contains(name.as_str())
    {
        errors.invalid(
            &path.child("containerName"),
            name,
            "must be one of the container or initContainer names in the pod template",
        );
    }
    let at = path.child("values");
    if codes.values.is_empty() {
        errors.invalid(&at, &codes.values, "at least one value is required");
    } else if codes.values.len() > MAX_EXIT_CODES {
        errors.too_many(&at, codes.values.len(), MAX_EXIT_CODES);
    }
    let mut ordered = true;
    let mut seen = BTreeSet::new();
    let mut before = None;
    for (index, code) in codes.values.iter().enumerate() {
        if *code == 0 && codes.operator == "In" {
            errors.invalid(&at.index(index), code, "must not be 0 for the In operator");
        }
        if !seen.insert(code) {
            errors.duplicate(&at.index(index), code);
        }
        ordered &= before.is_none_or(|before| before <= code);
        before = Some(code);
    }
    if !ordered {
        errors.invalid(&at, &codes.values, "must be ordered");
    }
}

/// Checks a success policy, which only an indexed job has.
pub(super) fn validate_success(policy: &SuccessPolicy, spec: &JobSpec, path: &Path, errors: &mut Errors) {
    let rules = path.child("rules");
    if policy.rules.is_empty() {
        errors.required(
            &rules,
            "at least one rules must be specified when the successPolicy is specified",
        );
    }
    if policy.rules.len() > MAX_RULES {
        errors.too_many(&rules, policy.rules.len(), MAX_RULES);
    }
    let completions = spec.completions.unwrap_or(0);
    for (index, rule) in policy.rules.iter().enumerate() {
        let path = rules.index(index);
        if rule.succeeded_count.is_none() && rule.succeeded_indexes.is_none() {
            errors.required(
                &path,
                "at least one of succeededCount or succeededIndexes must be specified",
            );
        }
        let mut listed = None;
        if let Some(text) = &rule.succeeded_indexes {
            if text.len() > MAX_INDEXES {
                errors.too_long(&path.child("succeededIndexes"), MAX_INDEXES);
            }
            match indexes::count(text, completions) {
                Ok(count) => listed = Some(count),
                Err(why) => {
                    listed = Some(0);
                    errors.invalid(
                        &path.child("succeededIndexes"),
                        text,
                        format!("error parsing succeededIndexes: {why}"),
                    );
                }
            }
        }
        let Some(count) = rule.succeeded_count else {
            continue;
        };
        let at = path.child("succeededCount");
        errors.non_negative(&at, Some(count));
        if count > completions {
            errors.invalid(
                &at,
                count,
                format!("must be less than or equal to {completions} (the number of specified completions)"),
            );
        }
        if let Some(listed) = listed.filter(|&listed| count > listed) {
            errors.invalid(
                &at,
                count,
                format!("must be less than or equal to {listed} (the number of indexes in the specified succeededIndexes field)"),
            );
        }
    }
}
