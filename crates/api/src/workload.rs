//! What kinds that make pods from a template have in common: a selector, the template, counts.

use k8s_openapi::api::core::v1::PodTemplateSpec;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{LabelSelector as LabelSelectorObject, ObjectMeta};
use k8s_openapi::apimachinery::pkg::util::intstr::IntOrString;

use crate::core::pod_spec;
use crate::field::{Errors, Internal, Path};
use crate::names;
use crate::selector::{self, LabelSelector};

/// Checks that a count is not negative.
pub(crate) fn non_negative(count: Option<i32>, path: &Path, errors: &mut Errors) {
    if let Some(count) = count.filter(|&count| count < 0) {
        errors.invalid(path, count, "must be greater than or equal to 0");
    }
}

/// Checks that a count is not greater than another.
pub(crate) fn at_most(count: Option<i32>, most: i32, what: &str, path: &Path, errors: &mut Errors) {
    if let Some(count) = count.filter(|&count| count > most) {
        errors.invalid(path, count, format!("cannot be greater than {what}"));
    }
}

/// Whether a selector asks for nothing.
pub(crate) fn is_empty(selector: &LabelSelectorObject) -> bool {
    selector
        .match_labels
        .as_ref()
        .is_none_or(|labels| labels.is_empty())
        && selector.match_expressions.as_ref().is_none_or(Vec::is_empty)
}

/// Checks a selector, which must select something. One that is left out decodes as one that is quite absent; a
/// selector with empty lists was written that way.
pub(crate) fn validate_selector(
    selector: &LabelSelectorObject,
    empty: &str,
    path: &Path,
    errors: &mut Errors,
) {
    if *selector == LabelSelectorObject::default() {
        return errors.required(path, "");
    }
    selector::validate(selector, path, errors);
    if is_empty(selector) {
        errors.invalid(path, selector, empty);
    }
}

/// Checks the template, and that the selector selects its pods.
pub(crate) fn validate_template(
    template: Option<&PodTemplateSpec>,
    selector: &LabelSelectorObject,
    path: &Path,
    errors: &mut Errors,
) {
    let Some(template) = template else {
        return errors.required(path, "");
    };
    let labels = template
        .metadata
        .as_ref()
        .and_then(|metadata| metadata.labels.as_ref());
    match LabelSelector::of((*selector != LabelSelectorObject::default()).then_some(selector)) {
        Err(_) => {
            return errors.invalid(&Path::new("spec.selector"), selector, "invalid label selector");
        }
        Ok(compiled) if !compiled.is_everything() && !compiled.matches(&labels) => errors.invalid(
            &path.child("metadata").child("labels"),
            labels,
            "`selector` does not match template `labels`",
        ),
        Ok(_) => {}
    }
    pod_spec::validate_template(template, path, errors);
    check_runs_for_ever(template, "ReplicaSet", path, errors);
}

/// The warnings about a template, at the path where it stands: when its workload is new, and whenever what is desired of
/// the workload has changed, be it in another place.
pub(crate) fn template_warnings(
    template: Option<&PodTemplateSpec>,
    path: &str,
    meta: &ObjectMeta,
    old: Option<&ObjectMeta>,
) -> Vec<String> {
    let mut warnings = Vec::new();
    if let Some(template) = template
        && old.is_none_or(|old| old.generation != meta.generation)
    {
        pod_spec::warn_of_template(template, &Path::new(path), &mut warnings);
    }
    warnings
}

/// The warnings about what makes its pods under names that start with its own.
pub(crate) fn warnings(
    meta: &ObjectMeta,
    template: Option<&PodTemplateSpec>,
    old: Option<&ObjectMeta>,
) -> Vec<String> {
    let name = old.is_none().then(|| name_warning(meta)).flatten();
    let mut warnings: Vec<String> = name.into_iter().collect();
    warnings.extend(template_warnings(template, "spec.template", meta, old));
    warnings
}

/// The recommendation for the name of what pods are named after.
pub(crate) fn name_warning(meta: &ObjectMeta) -> Option<String> {
    let wrong = names::dns_label(meta.name.as_deref().unwrap_or_default(), false);
    (!wrong.is_empty()).then(|| {
        format!(
            "metadata.name: this is used in Pod names and hostnames, which can result in surprising behavior; a DNS \
             label is recommended: [{}]",
            wrong.join(" ")
        )
    })
}

/// Checks a template's pods, which are to run for ever: this kind (`DaemonSet`) has no other ones.
pub(crate) fn check_runs_for_ever(template: &PodTemplateSpec, kind: &str, path: &Path, errors: &mut Errors) {
    let (policy, deadline) = match &template.spec {
        Some(spec) => (spec.restart_policy.as_deref(), spec.active_deadline_seconds),
        None => (None, None),
    };
    let path = path.child("spec");
    let policy = policy.unwrap_or_default();
    if policy != "Always" {
        errors.not_supported(&path.child("restartPolicy"), policy, &["Always"]);
    }
    if deadline.is_some() {
        errors.forbidden(
            &path.child("activeDeadlineSeconds"),
            &format!("activeDeadlineSeconds in {kind} is not Supported"),
        );
    }
}

/// What a workload says of its pods.
pub(crate) struct Counts<'a> {
    /// How many there are.
    pub(crate) all: i32,
    /// How many of them are ready, and have been for long enough.
    pub(crate) ready: Option<i32>,
    /// See `ready`.
    pub(crate) available: Option<i32>,
    /// The fields of those that are a part of all.
    pub(crate) parts: &'a [(&'a str, Option<i32>)],
    /// Other counts.
    pub(crate) others: &'a [(&'a str, Option<i64>)],
    /// How messages name the number of the ready ones.
    pub(crate) ready_name: &'a str,
}

/// Checks that no count is negative, and none greater than what it is a part of.
pub(crate) fn check_counts(counts: &Counts<'_>, errors: &mut Errors) {
    let path = Path::new("status");
    non_negative(Some(counts.all), &path.child("replicas"), errors);
    for (field, count) in counts.parts {
        non_negative(*count, &path.child(field), errors);
    }
    for (field, count) in counts.others {
        errors.non_negative(&path.child(field), *count);
    }
    for (field, count) in counts.parts {
        at_most(*count, counts.all, "status.replicas", &path.child(field), errors);
    }
    at_most(
        counts.available,
        counts.ready.unwrap_or(0),
        counts.ready_name,
        &path.child("availableReplicas"),
        errors,
    );
}

/// Checks a count or a percentage.
pub(crate) fn check_count_or_percent(value: &IntOrString, path: &Path, errors: &mut Errors) {
    match value {
        IntOrString::Int(count) => non_negative(Some(*count), path, errors),
        IntOrString::String(text) => {
            for message in names::percent(text) {
                errors.invalid(path, text, message);
            }
        }
    }
}

/// A strategy of updates as an error shows it. Of rolling ones: how many pods may be missing, and how many too many.
pub(crate) fn shown_strategy(
    type_: &str,
    rolling: Option<(&Option<IntOrString>, &Option<IntOrString>)>,
) -> Internal {
    let or_none = |value: &Option<IntOrString>| value.clone().unwrap_or(IntOrString::Int(0));
    let rolling = rolling.map(|(unavailable, surge)| {
        Internal::fields([
            ("MaxUnavailable", Internal::plain(&or_none(unavailable))),
            ("MaxSurge", Internal::plain(&or_none(surge))),
        ])
    });
    Internal::fields([
        ("Type", Internal::plain(&type_)),
        ("RollingUpdate", Internal::optional(rolling)),
    ])
}

/// The number of a percentage; more than fits is the most there is.
fn percentage(value: &IntOrString) -> Option<i64> {
    match value {
        IntOrString::String(text) if names::percent(text).is_empty() => {
            Some(text.trim_end_matches('%').parse().unwrap_or(i64::MAX))
        }
        _ => None,
    }
}

/// The count, or the number of a percentage. A text that is neither counts as none.
pub(crate) fn amount(value: &IntOrString) -> i64 {
    match value {
        IntOrString::Int(count) => i64::from(*count),
        IntOrString::String(text) => percentage(value).unwrap_or_else(|| text.parse().unwrap_or(0)),
    }
}

/// Checks that a percentage is of no more than there are.
pub(crate) fn check_not_more_than_all(value: &IntOrString, path: &Path, errors: &mut Errors) {
    if percentage(value).is_some_and(|percent| percent > 100) {
        errors.invalid(path, value, "must not be greater than 100%");
    }
}

/// A count of collisions never goes back.
pub(crate) fn check_collisions(count: Option<i32>, before: Option<i32>, errors: &mut Errors) {
    if before.is_some_and(|before| count.is_none_or(|count| count < before)) {
        errors.invalid(
            &Path::new("status.collisionCount"),
            count.unwrap_or(0),
            "cannot be decremented",
        );
    }
}
