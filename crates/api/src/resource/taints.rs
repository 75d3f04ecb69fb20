//! Taints of devices, and which of them a request tolerates.

use jiff::Timestamp;
use k8s_openapi::api::resource::v1::{DeviceTaint, DeviceToleration};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;

use crate::field::{Errors, Path};
use crate::meta;
use crate::names;

const EFFECTS: [&str; 3] = ["NoExecute", "NoSchedule", "None"];
const OPERATORS: [&str; 2] = ["Equal", "Exists"];

/// A taint tells since when it is there.
pub(super) fn default_taint(taint: &mut DeviceTaint) {
    taint.time_added.get_or_insert_with(|| {
        let now = Timestamp::now();
        Time(Timestamp::from_second(now.as_second()).unwrap_or(now))
    });
}

pub(super) fn default_tolerations(tolerations: &mut Option<Vec<DeviceToleration>>) {
    for toleration in tolerations.iter_mut().flatten() {
        toleration.operator.get_or_insert_with(|| "Equal".into());
    }
}

pub(super) fn validate_taint(taint: &DeviceTaint, path: &Path, errors: &mut Errors) {
    meta::validate_label_name(&taint.key, &path.child("key"), errors);
    let value = taint.value.as_deref().unwrap_or_default();
    errors.invalid_each(&path.child("value"), value, names::label_value(value));
    errors.one_of(&path.child("effect"), Some(&taint.effect), &EFFECTS);
}

pub(super) fn validate_tolerations(
    tolerations: Option<&Vec<DeviceToleration>>,
    path: &Path,
    errors: &mut Errors,
) {
    for (index, toleration) in tolerations.into_iter().flatten().enumerate() {
        let path = path.index(index);
        let text = |text: &Option<String>| text.clone().unwrap_or_default();
        let (key, value, effect) = (
            text(&toleration.key),
            text(&toleration.value),
            text(&toleration.effect),
        );
        if !key.is_empty() {
            meta::validate_label_name(&key, &path.child("key"), errors);
        }
        let operator = toleration.operator.as_deref();
        match operator {
            Some("Exists") if !value.is_empty() => {
                errors.invalid(
                    &path.child("value"),
                    &value,
                    "must be empty for operator `Exists`",
                );
            }
            Some("Equal") => errors.invalid_each(&path.child("value"), &value, names::label_value(&value)),
            operator => errors.one_of(&path.child("operator"), operator, &OPERATORS),
        }
        if !effect.is_empty() {
            errors.one_of(&path.child("effect"), Some(&effect), &EFFECTS);
        }
    }
}
