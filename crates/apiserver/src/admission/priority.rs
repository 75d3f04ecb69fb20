//! Priority: the number behind a pod's priority class.

use async_trait::async_trait;
use k8s_openapi::api::core::v1::Pod;
use k8s_openapi::api::scheduling::v1::PriorityClass;
use skiff_api::Object;

use super::{Plugin, new_pod, shown_name};
use crate::error::{ApiError, ApiResult};
use crate::objects::find;
use crate::registry::{AdmissionRequest, Operation, Registry};

/// The classes that every cluster has.
const SYSTEM_CLASSES: [(&str, i32); 2] = [
    ("system-cluster-critical", 2_000_000_000),
    ("system-node-critical", 2_000_001_000),
];

pub(super) struct Priority;

/// What a class gives a pod.
struct Given {
    value: i32,
    preemption: Option<String>,
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
            keep(request, object);
            return Ok(());
        }
        let shown = shown_name(request, object.metadata());
        let Some(pod) = new_pod(request, object) else {
            return Ok(());
        };
        let class = pod
            .spec
            .get_or_insert_default()
            .priority_class_name
            .clone()
            .unwrap_or_default();
        let given = match SYSTEM_CLASSES.iter().find(|(name, _)| *name == class) {
            Some((_, value)) => Given {
                value: *value,
                preemption: None,
            },
            None if class.is_empty() => Given {
                value: 0,
                preemption: None,
            },
            None => {
                let found: Option<PriorityClass> = find(registry, "", &class).await?;
                let found = found.ok_or_else(|| {
                    let why = format!("no PriorityClass with name {class} was found");
                    ApiError::forbidden(request.info, &shown, &why)
                })?;
                Given {
                    value: found.value.unwrap_or_default(),
                    preemption: found.preemption_policy,
                }
            }
        };
        fill(pod, given).map_err(|why| ApiError::forbidden(request.info, &shown, &why))
    }
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
    if spec.priority.is_some_and(|priority| priority != given.value) {
        return Err(format!(
            "the integer value of priority ({}) must not be provided in pod spec; priority admission controller computed {} from the given PriorityClass name",
            spec.priority.unwrap_or_default(),
            given.value
        ));
    }
    spec.priority = Some(given.value);
    let preemption = given.preemption.unwrap_or_else(|| "PreemptLowerPriority".into());
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

    #[test]
    fn a_pod_gets_its_class_number_and_no_other() {
        let given = || Given {
            value: 0,
            preemption: None,
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
    }
}
