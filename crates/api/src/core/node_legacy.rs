//! What once was said of nodes, means nothing any more, and is checked still: annotations, and the configuration of their
//! kubelets.

use k8s_openapi::api::core::v1::{ConfigMapNodeConfigSource, NodeConfigSource, NodeSpec, NodeStatus, Taint};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{ObjectMeta, OwnerReference};
use serde::Deserialize;
use serde::de::DeserializeOwned;
use serde_json::Value;

use super::node::validate_taints;
use crate::field::{Errors, Internal, Path};
use crate::names;
use crate::syntax;

/// The taints, as JSON.
const TAINTS: &str = "scheduler.alpha.kubernetes.io/taints";
/// The pods that a node would rather not run, as JSON.
const AVOIDED: &str = "scheduler.alpha.kubernetes.io/preferAvoidPods";

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Avoided {
    #[serde(default)]
    prefer_avoid_pods: Option<Vec<AvoidedPods>>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct AvoidedPods {
    #[serde(default)]
    pod_signature: Signature,
}

#[derive(Default, Deserialize)]
#[serde(rename_all = "camelCase")]
struct Signature {
    #[serde(default)]
    pod_controller: Option<OwnerReference>,
}

/// Checks the annotations (`ValidateNodeSpecificAnnotations`).
pub(super) fn validate_annotations(metadata: &ObjectMeta, errors: &mut Errors) {
    let path = Path::new("metadata.annotations");
    let given = |key: &str| {
        let text = metadata.annotations.as_ref()?.get(key)?;
        (!text.is_empty()).then_some(text)
    };
    if let Some(text) = given(TAINTS) {
        match read::<Vec<Taint>>(text, "array", "[]core.Taint", taint_misfit) {
            Ok(taints) => validate_taints(taints.as_deref(), &path.child(TAINTS), errors),
            Err(why) => errors.invalid(&path, TAINTS, why),
        }
    }
    let Some(text) = given(AVOIDED) else { return };
    let avoided: Option<Avoided> = match read(text, "object", "v1.AvoidPods", |_| None) {
        Ok(avoided) => avoided,
        Err(why) => return errors.invalid(&path.child("AvoidPods"), AVOIDED, why),
    };
    let avoided = avoided.and_then(|avoided| avoided.prefer_avoid_pods);
    for (index, entry) in avoided.iter().flatten().enumerate() {
        let path = path.child(AVOIDED).index(index).child("PodSignature");
        match &entry.pod_signature.pod_controller {
            None => errors.required(&path, ""),
            Some(owner) if owner.controller != Some(true) => errors.invalid(
                &path.child("PodController.Controller"),
                false,
                "must point to a controller",
            ),
            Some(_) => {}
        }
    }
}

/// Reads JSON; `null` says nothing. `kind` is that of the whole in JSON, `type_` in Go, and `misfit` knows its parts.
///
/// # Errors
/// Why it cannot be read, in Go's words.
fn read<T: DeserializeOwned>(
    text: &str,
    kind: &str,
    type_: &str,
    misfit: impl Fn(&Value) -> Option<String>,
) -> Result<Option<T>, String> {
    let value: Value =
        serde_json::from_str(text).map_err(|error| syntax::message(text.as_bytes(), &error))?;
    let found = syntax::value_kind(text.as_bytes());
    if found != kind && found != "null" {
        return Err(format!(
            "json: cannot unmarshal {found} into Go value of type {type_}"
        ));
    }
    match misfit(&value) {
        Some(why) => Err(why),
        None => serde_json::from_value(value).map_err(|error| format!("json: {error}")),
    }
}

/// What of a list of taints is no taint.
fn taint_misfit(list: &Value) -> Option<String> {
    let kind = |value: &Value| syntax::value_kind(value.to_string().as_bytes());
    list.as_array()?.iter().find_map(|taint| {
        let Some(fields) = taint.as_object() else {
            return (!taint.is_null()).then(|| {
                format!(
                    "json: cannot unmarshal {} into Go value of type core.Taint",
                    kind(taint)
                )
            });
        };
        [
            ("Key", "string"),
            ("Value", "string"),
            ("Effect", "core.TaintEffect"),
        ]
        .into_iter()
        .find_map(|(name, type_)| {
            let (_, value) = fields.iter().find(|(key, _)| key.eq_ignore_ascii_case(name))?;
            let fits = value.is_string() || value.is_null();
            (!fits).then(|| {
                format!(
                    "json: cannot unmarshal {} into Go struct field Taint.{name} of type {type_}",
                    kind(value)
                )
            })
        })
    })
}

/// Checks where a kubelet was to find its configuration, and where it found it.
pub(super) fn validate_configuration(spec: &NodeSpec, status: &NodeStatus, errors: &mut Errors) {
    let wanted = spec.config_source.as_ref();
    validate_source(wanted, false, &Path::new("spec.configSource"), errors);
    let path = Path::new("status.config");
    for config in status.config.as_slice() {
        for (field, source) in [
            ("assigned", &config.assigned),
            ("active", &config.active),
            ("lastKnownGood", &config.last_known_good),
        ] {
            validate_source(source.as_ref(), true, &path.child(field), errors);
        }
    }
}

fn validate_source(source: Option<&NodeConfigSource>, is_found: bool, path: &Path, errors: &mut Errors) {
    let Some(source) = source else { return };
    match &source.config_map {
        Some(map) => validate_map(map, is_found, &path.child("configMap"), errors),
        None => {
            let shown = Internal::fields([("ConfigMap", Internal::Plain(Value::Null))]);
            errors.invalid(path, shown, "exactly one reference subfield must be non-nil");
        }
    }
}

fn validate_map(map: &ConfigMapNodeConfigSource, is_found: bool, path: &Path, errors: &mut Errors) {
    for (field, value) in [("uid", &map.uid), ("resourceVersion", &map.resource_version)] {
        let is_empty = value.as_deref().unwrap_or_default().is_empty();
        if is_found && is_empty {
            errors.required(&path.child(field), &format!("{field} must be set in status"));
        }
        if !is_found && !is_empty {
            errors.forbidden(&path.child(field), &format!("{field} must not be set in spec"));
        }
    }
    for (field, value, wrong) in [
        (
            "namespace",
            &map.namespace,
            names::dns_label(&map.namespace, false),
        ),
        ("name", &map.name, names::dns_subdomain(&map.name, false)),
        (
            "kubeletConfigKey",
            &map.kubelet_config_key,
            names::config_map_key(&map.kubelet_config_key),
        ),
    ] {
        let at = path.child(field);
        if value.is_empty() {
            errors.required(&at, &format!("{field} must be set"));
        } else {
            errors.invalid_each(&at, value, wrong);
        }
    }
}
