//! Conditions in the common form (`meta/v1` `Condition`): what is a valid list of them.

use std::collections::BTreeSet;

use k8s_openapi::apimachinery::pkg::apis::meta::v1::Condition;

use crate::field::{Errors, Path};
use crate::names;

const STATUSES: [&str; 3] = ["False", "True", "Unknown"];
/// The most bytes of a reason and of a message.
const MAX_REASON: usize = 1024;
const MAX_MESSAGE: usize = 32 * 1024;
const REASON: &str = "[A-Za-z]([A-Za-z0-9_,:]*[A-Za-z0-9_])?";

/// Checks conditions (`metav1validation.ValidateConditions`).
pub(crate) fn validate(conditions: &[Condition], path: &Path, errors: &mut Errors) {
    let mut seen = BTreeSet::new();
    for (index, condition) in conditions.iter().enumerate() {
        let path = path.index(index);
        if !seen.insert(&condition.type_) {
            errors.duplicate(&path.child("type"), &condition.type_);
        }
        validate_one(condition, &path, errors);
    }
}

fn validate_one(condition: &Condition, path: &Path, errors: &mut Errors) {
    let (type_, at) = (condition.type_.as_str(), path.child("type"));
    errors.invalid_each(&at, type_, names::qualified_name(type_));
    if !STATUSES.contains(&condition.status.as_str()) {
        errors.not_supported(&path.child("status"), &condition.status, &STATUSES);
    }
    if let Some(generation) = condition.observed_generation.filter(|&generation| generation < 0) {
        errors.invalid(
            &path.child("observedGeneration"),
            generation,
            "must be greater than or equal to zero",
        );
    }
    // Go's zero time is what stands for none.
    if condition.last_transition_time.0.as_second() < -62_135_510_400 {
        errors.required(&path.child("lastTransitionTime"), "must be set");
    }
    let (reason, at) = (condition.reason.as_str(), path.child("reason"));
    if reason.is_empty() {
        errors.required(&at, "");
    } else {
        if reason.len() > MAX_REASON {
            errors.too_long(&at, MAX_REASON);
        }
        if !is_reason(reason) {
            let message = names::mismatch(
                "a condition reason must start with alphabetic character, optionally followed by a string of alphanumeric characters or '_,:', and must end with an alphanumeric character or '_'",
                REASON,
                &[
                    "my_name",
                    "MY_NAME",
                    "MyName",
                    "ReasonA,ReasonB",
                    "ReasonA:ReasonB",
                ],
            );
            errors.invalid(&at, reason, message);
        }
    }
    if condition.message.len() > MAX_MESSAGE {
        errors.too_long(&path.child("message"), MAX_MESSAGE);
    }
}

fn is_reason(reason: &str) -> bool {
    let inner = |letter: char| letter.is_ascii_alphanumeric() || matches!(letter, '_' | ',' | ':');
    reason.starts_with(|first: char| first.is_ascii_alphabetic())
        && reason.chars().all(inner)
        && reason.ends_with(|last: char| last.is_ascii_alphanumeric() || last == '_')
}

#[cfg(test)]
mod tests {
    use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;

    use super::*;

    #[test]
    fn conditions_say_what_they_must() {
        let condition = |type_: &str, status: &str, reason: &str| Condition {
            type_: type_.into(),
            status: status.into(),
            reason: reason.into(),
            last_transition_time: Time(jiff::Timestamp::UNIX_EPOCH),
            message: String::new(),
            observed_generation: None,
        };
        let mut errors = Errors::new();
        let list = [
            condition("Ready", "True", "A_b"),
            condition("Ready", "Maybe", ""),
            condition("Other", "False", "-"),
        ];
        validate(&list, &Path::new("c"), &mut errors);
        let found: Vec<String> = errors.iter().map(ToString::to_string).collect();
        assert_eq!(
            found,
            [
                "c[1].type: Duplicate value: \"Ready\"",
                "c[1].status: Unsupported value: \"Maybe\": supported values: \"False\", \"True\", \"Unknown\"",
                "c[1].reason: Required value",
                "c[2].reason: Invalid value: \"-\": a condition reason must start with alphabetic character, optionally followed by a string of alphanumeric characters or '_,:', and must end with an alphanumeric character or '_' (e.g. 'my_name',  or 'MY_NAME',  or 'MyName',  or 'ReasonA,ReasonB',  or 'ReasonA:ReasonB', regex used for validation is '[A-Za-z]([A-Za-z0-9_,:]*[A-Za-z0-9_])?')",
            ]
        );
    }
}
