//! Priority: the number behind a pod's priority class.

use std::sync::Arc;

use async_trait::async_trait;
use k8s_openapi::api::core::v1::Pod;
use k8s_openapi::api::scheduling::v1::PriorityClass;
use skiff_api::Object;
use skiff_api::scheduling::priority_class::SYSTEM_CLASSES;

use super::{Plugin, new_pod, shown_name};
use crate::error::{ApiError, ApiResult};
use crate::objects::{all_shared, look_up};
use crate::registry::{AdmissionRequest, Operation, Registry};

pub(super) struct Priority;

/// What a class gives a pod.
#[derive(Debug, PartialEq)]
struct Given {
    value: i32,
    preemption: Option<String>,
}

impl Given {
    fn of(class: &PriorityClass) -> Self {
        Self {
            value: class.value.unwrap_or_default(),
            preemption: class.preemption_policy.clone(),
        }
    }
}

#[async_trait]
impl Plugin for Priority {
    async fn admit(
        &self,
        request: &AdmissionRequest<'_>,
        object: &mut dyn Object,
        registry: &Registry,
    ) -> ApiResult<()> {
        if request.operation == Operation::Update {
            if request.subresource.is_none() {
                keep(request, object);
            }
            return Ok(());
        }
        let shown = shown_name(request, object.metadata());
        let Some(pod) = new_pod(request, object) else {
            return Ok(());
        };
        let spec = pod.spec.get_or_insert_default();
        let named = spec.priority_class_name.clone().filter(|name| !name.is_empty());
        let given = match named {
            None => {
                let class = default_of(all_shared(registry, ""));
                spec.priority_class_name = class.as_ref().and_then(|class| class.metadata.name.clone());
                class.as_deref().map_or(
                    Given {
                        value: 0,
                        preemption: Some("PreemptLowerPriority".into()),
                    },
                    Given::of,
                )
            }
            Some(name) => match look_up::<PriorityClass>(registry, "", &name).await? {
                Some(class) => Given::of(&class),
                None => {
                    let why = format!("no PriorityClass with name {name} was found");
                    return Err(ApiError::forbidden(request.info, &shown, &why));
                }
            },
        };
        fill(pod, given).map_err(|why| ApiError::forbidden(request.info, &shown, &why))
    }

    async fn validate(
        &self,
        request: &AdmissionRequest<'_>,
        object: &dyn Object,
        registry: &Registry,
    ) -> ApiResult<()> {
        let Some(class) = object.as_any().downcast_ref::<PriorityClass>() else {
            return Ok(());
        };
        if class.global_default != Some(true) {
            return Ok(());
        }
        match default_of(all_shared(registry, "")).and_then(|class| class.metadata.name.clone()) {
            Some(other)
                if request.operation == Operation::Create
                    || class.metadata.name.as_deref() != Some(other.as_str()) =>
            {
                let why =
                    format!("PriorityClass {other} is already marked as default. Only one default can exist");
                let shown = shown_name(request, object.metadata());
                Err(ApiError::forbidden(request.info, &shown, &why))
            }
            _ => Ok(()),
        }
    }

    async fn check_delete(&self, request: &AdmissionRequest<'_>) -> ApiResult<()> {
        let is_class = request.info.group == "scheduling.k8s.io" && request.info.kind == "PriorityClass";
        if is_class && SYSTEM_CLASSES.iter().any(|(name, ..)| *name == request.name) {
            return Err(ApiError::forbidden(
                request.info,
                request.name,
                "this is a system priority class and cannot be deleted",
            ));
        }
        Ok(())
    }
}

/// The class of pods that name none: of several that want to be it, the least.
fn default_of(classes: Vec<Arc<PriorityClass>>) -> Option<Arc<PriorityClass>> {
    classes
        .into_iter()
        .filter(|class| class.global_default == Some(true))
        .min_by_key(|class| class.value)
}

/// A change that leaves the number out keeps it.
fn keep(request: &AdmissionRequest<'_>, object: &mut dyn Object) {
    let old = request.old.and_then(|old| old.as_any().downcast_ref::<Pod>());
    if let (Some(pod), Some(old)) = (object.as_any_mut().downcast_mut::<Pod>(), old)
        && let (Some(spec), Some(old)) = (&mut pod.spec, &old.spec)
    {
        spec.priority = spec.priority.or(old.priority);
        if spec.preemption_policy.is_none() {
            spec.preemption_policy.clone_from(&old.preemption_policy);
        }
    }
}

fn fill(pod: &mut Pod, given: Given) -> Result<(), String> {
    let spec = pod.spec.get_or_insert_default();
    if let Some(own) = spec.priority.filter(|own| *own != given.value) {
        return Err(format!(
            "the integer value of priority ({own}) must not be provided in pod spec; priority admission controller computed {} from the given PriorityClass name",
            given.value
        ));
    }
    spec.priority = Some(given.value);
    let Some(preemption) = given.preemption else {
        return Ok(());
    };
    match &spec.preemption_policy {
        Some(own) if *own != preemption => Err(format!(
            "the string value of PreemptionPolicy ({own}) must not be provided in pod spec; priority admission controller computed {preemption} from the given PriorityClass name"
        )),
        _ => {
            spec.preemption_policy = Some(preemption);
            Ok(())
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn a_pod_gets_its_class_number_and_no_other() {
        let given = || Given {
            value: 0,
            preemption: Some("PreemptLowerPriority".into()),
        };
        let mut pod = Pod::default();
        fill(&mut pod, given()).unwrap();
        let spec = pod.spec.as_mut().unwrap();
        assert_eq!(
            (spec.priority, spec.preemption_policy.as_deref()),
            (Some(0), Some("PreemptLowerPriority"))
        );
        spec.priority = Some(5);
        assert_eq!(
            fill(&mut pod, given()).unwrap_err(),
            "the integer value of priority (5) must not be provided in pod spec; priority admission controller computed 0 from the given PriorityClass name"
        );
        let spec = pod.spec.as_mut().unwrap();
        spec.priority = None;
        spec.preemption_policy = Some("Never".into());
        assert_eq!(
            fill(&mut pod, given()).unwrap_err(),
            "the string value of PreemptionPolicy (Never) must not be provided in pod spec; priority admission controller computed PreemptLowerPriority from the given PriorityClass name"
        );
    }

    #[test]
    fn of_several_default_classes_the_least_counts() {
        let class = |name: &str, value: i32, default: bool| -> Arc<PriorityClass> {
            let class = json!({"metadata": {"name": name}, "value": value, "globalDefault": default});
            Arc::new(serde_json::from_value(class).unwrap())
        };
        let classes = vec![class("a", 9, true), class("b", 5, true), class("c", 1, false)];
        assert_eq!(default_of(classes).unwrap().metadata.name.as_deref(), Some("b"));
        assert!(default_of(vec![class("c", 1, false)]).is_none());
    }
}
