//! Where a pod may or would rather run: affinity, tolerations, spread.

use std::collections::{BTreeMap, BTreeSet};

use k8s_openapi::api::core::v1::{
    Affinity, NodeSelector, NodeSelectorRequirement, NodeSelectorTerm, PodAffinityTerm, PodSpec, Toleration,
    TopologySpreadConstraint, WeightedPodAffinityTerm,
};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{LabelSelector, LabelSelectorRequirement};

use super::{invalid_each, slice};
use crate::field::{Errors, Path};
use crate::meta;
use crate::names;
use crate::selector;

const REQUIRED: &str = "requiredDuringSchedulingIgnoredDuringExecution";
const PREFERRED: &str = "preferredDuringSchedulingIgnoredDuringExecution";
const NOT_POSITIVE: &str = "must be greater than zero";
const WITHOUT_SELECTOR: &str = "must not be specified when labelSelector is not set";
const IN_BOTH: &str = "exists in both matchLabelKeys and labelSelector";

/// Checks the effect of a taint or a toleration.
pub(crate) fn check_effect(effect: &str, allow_empty: bool, path: &Path, errors: &mut Errors) {
    match effect {
        "NoSchedule" | "PreferNoSchedule" | "NoExecute" => {}
        "" if allow_empty => {}
        "" => errors.required(path, ""),
        other => errors.not_supported(path, other, &["NoSchedule", "PreferNoSchedule", "NoExecute"]),
    }
}

/// Checks a pod's tolerations.
pub(crate) fn validate_tolerations(tolerations: &[Toleration], all: &Path, errors: &mut Errors) {
    for (index, toleration) in tolerations.iter().enumerate() {
        let path = all.index(index);
        let key = toleration.key.as_deref().unwrap_or_default();
        let operator = toleration.operator.as_deref().unwrap_or_default();
        let value = toleration.value.as_deref().unwrap_or_default();
        let effect = toleration.effect.as_deref().unwrap_or_default();
        if !key.is_empty() {
            meta::validate_label_name(key, &path.child("key"), errors);
        } else if operator != "Exists" {
            errors.invalid(
                &path.child("operator"),
                operator,
                "operator must be Exists when `key` is empty, which means \"match all values and all keys\"",
            );
        }
        if toleration.toleration_seconds.is_some() && effect != "NoExecute" {
            errors.invalid(
                &path.child("effect"),
                effect,
                "effect must be 'NoExecute' when `tolerationSeconds` is set",
            );
        }
        match operator {
            "" | "Equal" => {
                let wrong = names::label_value(value);
                if !wrong.is_empty() {
                    errors.invalid(&path.child("operator"), value, wrong.join(";"));
                }
            }
            "Exists" if !value.is_empty() => errors.invalid(
                &path.child("operator"),
                value,
                "value must be empty when `operator` is 'Exists'",
            ),
            "Exists" => {}
            // Numbers are compared by a feature that is off.
            "Lt" | "Gt" => {
                let known = ["Equal", "Exists", "Lt", "Gt"];
                errors.not_supported(&path.child("operator"), operator, &known);
            }
            other => errors.not_supported(&path.child("operator"), other, &["Equal", "Exists"]),
        }
        check_effect(effect, true, &path.child("effect"), errors);
    }
}

/// A running pod may be given further tolerations, and more or less time with those it has.
pub(in crate::core) fn validate_only_added_tolerations(
    new: &[Toleration],
    old: &[Toleration],
    path: &Path,
    errors: &mut Errors,
) {
    let timeless = |toleration: &Toleration| Toleration {
        toleration_seconds: None,
        ..toleration.clone()
    };
    for known in old {
        if !new.iter().any(|candidate| timeless(candidate) == timeless(known)) {
            return errors.forbidden(
                path,
                "existing toleration can not be modified except its tolerationSeconds",
            );
        }
    }
    validate_tolerations(new, path, errors);
}

/// Checks a pod's affinity.
pub(super) fn validate_affinity(affinity: Option<&Affinity>, path: &Path, errors: &mut Errors) {
    let Some(affinity) = affinity else { return };
    if let Some(node) = &affinity.node_affinity {
        let path = path.child("nodeAffinity");
        if let Some(required) = &node.required_during_scheduling_ignored_during_execution {
            validate_node_selector(required, &path.child(REQUIRED), errors);
        }
        let preferred = slice(&node.preferred_during_scheduling_ignored_during_execution);
        for (index, term) in preferred.iter().enumerate() {
            let path = path.child(PREFERRED).index(index);
            check_weight(term.weight, &path, errors);
            validate_node_term(&term.preference, true, &path.child("preference"), errors);
        }
    }
    if let Some(pods) = &affinity.pod_affinity {
        validate_pod_affinity(
            slice(&pods.required_during_scheduling_ignored_during_execution),
            slice(&pods.preferred_during_scheduling_ignored_during_execution),
            &path.child("podAffinity"),
            errors,
        );
    }
    if let Some(pods) = &affinity.pod_anti_affinity {
        validate_pod_affinity(
            slice(&pods.required_during_scheduling_ignored_during_execution),
            slice(&pods.preferred_during_scheduling_ignored_during_execution),
            &path.child("podAntiAffinity"),
            errors,
        );
    }
}

/// Affinity by label keys means the labels' values of the new pod itself: they are written into the selectors when it
/// is created (`matchLabelKeys`, `mismatchLabelKeys`).
pub(in crate::core) fn select_by_label_keys(spec: &mut PodSpec, labels: Option<&BTreeMap<String, String>>) {
    let (Some(affinity), Some(labels)) = (&mut spec.affinity, labels) else {
        return;
    };
    let attract = affinity.pod_affinity.iter_mut().flat_map(|pods| {
        let required = pods
            .required_during_scheduling_ignored_during_execution
            .iter_mut()
            .flatten();
        let preferred = pods
            .preferred_during_scheduling_ignored_during_execution
            .iter_mut()
            .flatten();
        required.chain(preferred.map(|weighted| &mut weighted.pod_affinity_term))
    });
    let repel = affinity.pod_anti_affinity.iter_mut().flat_map(|pods| {
        let required = pods
            .required_during_scheduling_ignored_during_execution
            .iter_mut()
            .flatten();
        let preferred = pods
            .preferred_during_scheduling_ignored_during_execution
            .iter_mut()
            .flatten();
        required.chain(preferred.map(|weighted| &mut weighted.pod_affinity_term))
    });
    for term in attract.chain(repel) {
        if let Some(selector) = &mut term.label_selector {
            select_by(selector, slice(&term.match_label_keys), "In", labels);
            select_by(selector, slice(&term.mismatch_label_keys), "NotIn", labels);
        }
    }
}

/// Spreading by label keys means the labels' values of the new pod itself, in the same way.
pub(in crate::core) fn spread_by_label_keys(spec: &mut PodSpec, labels: Option<&BTreeMap<String, String>>) {
    let Some(labels) = labels else { return };
    for constraint in spec.topology_spread_constraints.iter_mut().flatten() {
        if let Some(selector) = &mut constraint.label_selector {
            select_by(selector, slice(&constraint.match_label_keys), "In", labels);
        }
    }
}

fn select_by(
    selector: &mut LabelSelector,
    keys: &[String],
    operator: &str,
    labels: &BTreeMap<String, String>,
) {
    for (key, value) in keys.iter().filter_map(|key| Some((key, labels.get(key)?))) {
        let requirement = LabelSelectorRequirement {
            key: key.clone(),
            operator: operator.into(),
            values: Some(vec![value.clone()]),
        };
        selector
            .match_expressions
            .get_or_insert_default()
            .push(requirement);
    }
}

fn check_weight(weight: i32, path: &Path, errors: &mut Errors) {
    if !(1..=100).contains(&weight) {
        errors.invalid(&path.child("weight"), weight, "must be in the range 1-100");
    }
}

/// Checks a node selector.
pub(crate) fn validate_node_selector(selector: &NodeSelector, path: &Path, errors: &mut Errors) {
    let path = path.child("nodeSelectorTerms");
    if selector.node_selector_terms.is_empty() {
        return errors.required(&path, "must have at least one node selector term");
    }
    for (index, term) in selector.node_selector_terms.iter().enumerate() {
        validate_node_term(term, false, &path.index(index), errors);
    }
}

fn validate_node_term(term: &NodeSelectorTerm, any_value: bool, path: &Path, errors: &mut Errors) {
    for (index, requirement) in slice(&term.match_expressions).iter().enumerate() {
        let path = path.child("matchExpressions").index(index);
        validate_node_requirement(requirement, any_value, &path, errors);
    }
    for (index, requirement) in slice(&term.match_fields).iter().enumerate() {
        validate_node_field(requirement, &path.child("matchFields").index(index), errors);
    }
}

fn validate_node_requirement(
    requirement: &NodeSelectorRequirement,
    any_value: bool,
    path: &Path,
    errors: &mut Errors,
) {
    let values = slice(&requirement.values);
    let at = path.child("values");
    match requirement.operator.as_str() {
        "In" | "NotIn" if values.is_empty() => {
            errors.required(&at, "must be specified when `operator` is 'In' or 'NotIn'");
        }
        "Exists" | "DoesNotExist" if !values.is_empty() => errors.forbidden(
            &at,
            "may not be specified when `operator` is 'Exists' or 'DoesNotExist'",
        ),
        "Gt" | "Lt" if values.len() != 1 => errors.required(
            &at,
            "must be specified single value when `operator` is 'Lt' or 'Gt'",
        ),
        "In" | "NotIn" | "Exists" | "DoesNotExist" | "Gt" | "Lt" => {}
        other => errors.invalid(&path.child("operator"), other, "not a valid selector operator"),
    }
    meta::validate_label_name(&requirement.key, &path.child("key"), errors);
    for (index, value) in values.iter().enumerate().filter(|_| !any_value) {
        invalid_each(&at.index(index), value, names::label_value(value), errors);
    }
}

fn validate_node_field(requirement: &NodeSelectorRequirement, path: &Path, errors: &mut Errors) {
    let values = slice(&requirement.values);
    match requirement.operator.as_str() {
        "In" | "NotIn" if values.len() != 1 => errors.required(
            &path.child("values"),
            "must be only one value when `operator` is 'In' or 'NotIn' for node field selector",
        ),
        "In" | "NotIn" => {}
        other => errors.invalid(&path.child("operator"), other, "not a valid selector operator"),
    }
    if requirement.key == "metadata.name" {
        for (index, value) in values.iter().enumerate() {
            let messages = names::dns_subdomain(value, false);
            invalid_each(&path.child("values").index(index), value, messages, errors);
        }
    } else {
        errors.invalid(
            &path.child("key"),
            &requirement.key,
            "not a valid field selector key",
        );
    }
}

fn validate_pod_affinity(
    required: &[PodAffinityTerm],
    preferred: &[WeightedPodAffinityTerm],
    path: &Path,
    errors: &mut Errors,
) {
    for (index, term) in required.iter().enumerate() {
        validate_pod_term(term, &path.child(REQUIRED).index(index), errors);
    }
    for (index, term) in preferred.iter().enumerate() {
        let path = path.child(PREFERRED).index(index);
        check_weight(term.weight, &path, errors);
        validate_pod_term(&term.pod_affinity_term, &path.child("podAffinityTerm"), errors);
    }
}

fn validate_pod_term(term: &PodAffinityTerm, path: &Path, errors: &mut Errors) {
    if let Some(labels) = &term.label_selector {
        selector::validate(labels, &path.child("labelSelector"), errors);
    }
    if let Some(labels) = &term.namespace_selector {
        selector::validate(labels, &path.child("namespaceSelector"), errors);
    }
    for namespace in slice(&term.namespaces) {
        let messages = names::dns_label(namespace, false);
        invalid_each(&path.child("namespace"), namespace, messages, errors);
    }
    let keys = LabelKeys {
        matched: slice(&term.match_label_keys),
        mismatched: slice(&term.mismatch_label_keys),
        selector: term.label_selector.as_ref(),
    };
    keys.validate(path, errors);
    if term.topology_key.is_empty() {
        errors.required(&path.child("topologyKey"), "can not be empty");
    }
    meta::validate_label_name(&term.topology_key, &path.child("topologyKey"), errors);
}

/// Labels of the pod itself whose values select others, or rule them out.
struct LabelKeys<'a> {
    matched: &'a [String],
    mismatched: &'a [String],
    selector: Option<&'a LabelSelector>,
}

impl LabelKeys<'_> {
    /// By now what the keys mean has been written into the selector (`ValidateMatchLabelKeysAndMismatchLabelKeys`).
    fn validate(&self, path: &Path, errors: &mut Errors) {
        for (field, keys) in [
            ("matchLabelKeys", self.matched),
            ("mismatchLabelKeys", self.mismatched),
        ] {
            let path = path.child(field);
            if !keys.is_empty() && self.selector.is_none() {
                errors.forbidden(&path, WITHOUT_SELECTOR);
                continue;
            }
            for (index, key) in keys.iter().enumerate() {
                meta::validate_label_name(key, &path.index(index), errors);
            }
        }
        if let Some(selector) = self.selector {
            let mut selected: BTreeSet<&String> = selector
                .match_labels
                .iter()
                .flatten()
                .map(|(key, _)| key)
                .collect();
            for expression in slice(&selector.match_expressions) {
                let key = &expression.key;
                if selected.contains(key)
                    && let Some(index) = self.matched.iter().rposition(|matched| matched == key)
                {
                    // Upstream's path lacks the field.
                    errors.invalid(&path.index(index), key, IN_BOTH);
                }
                selected.insert(key);
            }
        }
        for (index, key) in self.matched.iter().enumerate() {
            if self.mismatched.contains(key) {
                errors.invalid(
                    &path.child("matchLabelKeys").index(index),
                    key,
                    "exists in both matchLabelKeys and mismatchLabelKeys",
                );
            }
        }
    }
}

/// Checks how a pod is to be spread.
pub(super) fn validate_spread(constraints: &[TopologySpreadConstraint], all: &Path, errors: &mut Errors) {
    for (index, constraint) in constraints.iter().enumerate() {
        let path = all.index(index);
        if constraint.max_skew <= 0 {
            errors.invalid(&path.child("maxSkew"), constraint.max_skew, NOT_POSITIVE);
        }
        if constraint.topology_key.is_empty() {
            errors.required(&path.child("topologyKey"), "can not be empty");
        }
        let action = constraint.when_unsatisfiable.as_str();
        if !matches!(action, "DoNotSchedule" | "ScheduleAnyway") {
            errors.not_supported(
                &path.child("whenUnsatisfiable"),
                action,
                &["DoNotSchedule", "ScheduleAnyway"],
            );
        }
        let same = |other: &TopologySpreadConstraint| {
            other.topology_key == constraint.topology_key && other.when_unsatisfiable == action
        };
        if constraints.iter().skip(index + 1).any(same) {
            errors.duplicate(
                &path.child("{topologyKey, whenUnsatisfiable}"),
                format!("{{{}, {action}}}", constraint.topology_key),
            );
        }
        if let Some(domains) = constraint.min_domains {
            let path = path.child("minDomains");
            if domains <= 0 {
                errors.invalid(&path, domains, NOT_POSITIVE);
            }
            if action != "DoNotSchedule" {
                let detail =
                    format!("can only use minDomains if whenUnsatisfiable=DoNotSchedule, not {action}");
                errors.invalid(&path, domains, detail);
            }
        }
        let policies = [
            ("nodeAffinityPolicy", &constraint.node_affinity_policy),
            ("nodeTaintsPolicy", &constraint.node_taints_policy),
        ];
        for (field, policy) in policies {
            if let Some(policy) = policy.as_deref()
                && !matches!(policy, "Honor" | "Ignore")
            {
                errors.not_supported(&path.child(field), policy, &["Honor", "Ignore"]);
            }
        }
        let labels = constraint.label_selector.as_ref();
        let keys = LabelKeys {
            matched: slice(&constraint.match_label_keys),
            mismatched: &[],
            selector: labels,
        };
        keys.validate(&path, errors);
        if let Some(labels) = labels {
            selector::validate(labels, &path.child("labelSelector"), errors);
        }
    }
}
