//! RuntimeClass: a pod takes over the overhead of its runtime, and is scheduled where that runtime is.

use std::sync::Arc;

use async_trait::async_trait;
use k8s_openapi::api::core::v1::{Pod, Toleration};
use k8s_openapi::api::node::v1 as node;
use skiff_api::Object;
use skiff_api::pod::Resources;
use skiff_api::quota::amounts;

use super::{Plugin, new_pod, shown_name};
use crate::error::{ApiError, ApiResult};
use crate::objects::look_up;
use crate::registry::{AdmissionRequest, Operation, Registry};

const OTHER_OVERHEAD: &str = "pod rejected: Pod's Overhead doesn't match RuntimeClass's defined Overhead";

pub(super) struct RuntimeClass;

#[async_trait]
impl Plugin for RuntimeClass {
    async fn admit(
        &self,
        request: &AdmissionRequest<'_>,
        object: &mut dyn Object,
        registry: &Registry,
    ) -> ApiResult<()> {
        let shown = shown_name(request, object.metadata());
        let Some(pod) = new_pod(request, object) else {
            return Ok(());
        };
        let Some(class) = class_of(request, pod, &shown, registry).await? else {
            return Ok(());
        };
        equip(pod, &class).map_err(|why| ApiError::forbidden(request.info, &shown, &why))
    }

    async fn validate(
        &self,
        request: &AdmissionRequest<'_>,
        object: &dyn Object,
        registry: &Registry,
    ) -> ApiResult<()> {
        if request.operation != Operation::Create || request.subresource.is_some() {
            return Ok(());
        }
        let Some(pod) = object.as_any().downcast_ref::<Pod>() else {
            return Ok(());
        };
        let shown = shown_name(request, object.metadata());
        let class = class_of(request, pod, &shown, registry).await?;
        let own = overhead_of_pod(pod);
        let why = match class.as_deref().and_then(overhead) {
            Some(fixed) if fixed != own => OTHER_OVERHEAD,
            None if !own.is_empty() => {
                "pod rejected: Pod Overhead set without corresponding RuntimeClass defined Overhead"
            }
            _ => return Ok(()),
        };
        Err(ApiError::forbidden(request.info, &shown, why))
    }
}

async fn class_of(
    request: &AdmissionRequest<'_>,
    pod: &Pod,
    shown: &str,
    registry: &Registry,
) -> ApiResult<Option<Arc<node::RuntimeClass>>> {
    let named = pod
        .spec
        .as_ref()
        .and_then(|spec| spec.runtime_class_name.as_deref());
    let Some(name) = named else { return Ok(None) };
    match look_up(registry, "", name).await? {
        Some(class) => Ok(Some(class)),
        None => {
            let why = format!("pod rejected: RuntimeClass {name:?} not found");
            Err(ApiError::forbidden(request.info, shown, &why))
        }
    }
}

/// What the class says that its pods need for themselves; `None` when it says nothing on that.
fn overhead(class: &node::RuntimeClass) -> Option<Resources> {
    let overhead = class.overhead.as_ref()?;
    Some(amounts(overhead.pod_fixed.as_ref()))
}

fn overhead_of_pod(pod: &Pod) -> Resources {
    amounts(pod.spec.as_ref().and_then(|spec| spec.overhead.as_ref()))
}

fn equip(pod: &mut Pod, class: &node::RuntimeClass) -> Result<(), String> {
    let own = overhead_of_pod(pod);
    let spec = pod.spec.get_or_insert_default();
    if let (Some(fixed), Some(texts)) = (overhead(class), &class.overhead) {
        if !own.is_empty() && own != fixed {
            return Err(OTHER_OVERHEAD.into());
        }
        spec.overhead.clone_from(&texts.pod_fixed);
    }
    let Some(scheduling) = &class.scheduling else {
        return Ok(());
    };
    for (key, value) in scheduling.node_selector.iter().flatten() {
        let selector = spec.node_selector.get_or_insert_default();
        match selector.get(key) {
            Some(own) if own != value => {
                return Err(format!(
                    "conflict: runtimeClass.scheduling.nodeSelector[{key}] = {value}; pod.spec.nodeSelector[{key}] = {own}"
                ));
            }
            _ => drop(selector.insert(key.clone(), value.clone())),
        }
    }
    if let Some(more) = scheduling.tolerations.as_ref().filter(|more| !more.is_empty()) {
        let own = spec.tolerations.take().unwrap_or_default();
        spec.tolerations = Some(merged(own.into_iter().chain(more.iter().cloned()).collect()));
    }
    Ok(())
}

/// Tolerations without those that another one covers.
fn merged(all: Vec<Toleration>) -> Vec<Toleration> {
    let mut kept: Vec<Toleration> = Vec::new();
    for (index, toleration) in all.iter().enumerate() {
        let covered_before = kept.iter().any(|other| covers(other, toleration));
        // Of equal ones the first stays.
        let covered_after = all
            .iter()
            .skip(index + 1)
            .any(|other| other != toleration && covers(other, toleration));
        if !covered_before && !covered_after {
            kept.push(toleration.clone());
        }
    }
    kept
}

/// Whether a toleration bears everything that another one bears.
fn covers(wide: &Toleration, narrow: &Toleration) -> bool {
    fn text(field: &Option<String>) -> &str {
        field.as_deref().unwrap_or_default()
    }
    if wide == narrow {
        return true;
    }
    let every_key = text(&wide.key).is_empty() && text(&wide.operator) == "Exists";
    if text(&wide.key) != text(&narrow.key) && !every_key {
        return false;
    }
    if text(&wide.effect) != text(&narrow.effect) && !text(&wide.effect).is_empty() {
        return false;
    }
    if text(&wide.effect) == "NoExecute"
        && let Some(seconds) = wide.toleration_seconds
        && narrow.toleration_seconds.is_none_or(|narrow| narrow > seconds)
    {
        return false;
    }
    match text(&wide.operator) {
        "" | "Equal" => text(&narrow.operator) == "Equal" && text(&narrow.value) == text(&wide.value),
        "Exists" => true,
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::{Value, json};

    fn pod(spec: Value) -> Pod {
        serde_json::from_value(json!({"metadata": {"name": "p"}, "spec": spec})).unwrap()
    }

    fn class(rest: Value) -> node::RuntimeClass {
        let mut class = json!({"metadata": {"name": "c"}, "handler": "h"});
        class
            .as_object_mut()
            .unwrap()
            .extend(rest.as_object().unwrap().clone());
        serde_json::from_value(class).unwrap()
    }

    #[test]
    fn a_pod_takes_over_what_its_runtime_needs() {
        let class = class(json!({
            "overhead": {"podFixed": {"cpu": "250m"}},
            "scheduling": {"nodeSelector": {"runtime": "h"}, "tolerations": [{"key": "h", "operator": "Exists"}]}
        }));
        let mut made = pod(json!({"containers": [], "nodeSelector": {"zone": "a"},
            "tolerations": [{"key": "h", "operator": "Exists", "effect": "NoSchedule"}, {"key": "x", "operator": "Exists"}]}));
        equip(&mut made, &class).unwrap();
        let spec = json!(made.spec.unwrap());
        assert_eq!(spec["overhead"], json!({"cpu": "250m"}));
        assert_eq!(spec["nodeSelector"], json!({"runtime": "h", "zone": "a"}));
        assert_eq!(
            spec["tolerations"],
            json!([{"key": "x", "operator": "Exists"}, {"key": "h", "operator": "Exists"}])
        );
        for (spec, expected) in [
            (
                json!({"containers": [], "overhead": {"cpu": "1"}}),
                Err(OTHER_OVERHEAD.to_string()),
            ),
            (json!({"containers": [], "overhead": {"cpu": "0.25"}}), Ok(())),
            (
                json!({"containers": [], "nodeSelector": {"runtime": "g"}}),
                Err("conflict: runtimeClass.scheduling.nodeSelector[runtime] = h; pod.spec.nodeSelector[runtime] = g".into()),
            ),
        ] {
            assert_eq!(equip(&mut pod(spec.clone()), &class), expected, "{spec}");
        }
    }

    #[test]
    fn a_toleration_that_another_covers_goes() {
        let toleration = |value: Value| -> Toleration { serde_json::from_value(value).unwrap() };
        let everything = json!({"operator": "Exists"});
        let for_a_while =
            json!({"key": "a", "operator": "Exists", "effect": "NoExecute", "tolerationSeconds": 60});
        let for_good = json!({"key": "a", "operator": "Exists", "effect": "NoExecute"});
        let equal = json!({"key": "a", "operator": "Equal", "value": "1"});
        for (wide, narrow, expected) in [
            (&everything, &equal, true),
            (&equal, &everything, false),
            (&for_good, &for_a_while, true),
            (&for_a_while, &for_good, false),
            (&equal, &equal, true),
        ] {
            let found = covers(&toleration(wide.clone()), &toleration(narrow.clone()));
            assert_eq!(found, expected, "{wide} {narrow}");
        }
        assert_eq!(
            merged(vec![toleration(equal.clone()), toleration(equal)]).len(),
            1
        );
    }
}
