//! DefaultTolerationSeconds: a pod stays five minutes on a node that is not ready or not reachable, unless it says
//! otherwise.

use async_trait::async_trait;
use k8s_openapi::api::core::v1::{Pod, Toleration};
use skiff_api::Object;

use super::Plugin;
use crate::error::ApiResult;
use crate::registry::{AdmissionRequest, Operation, Registry};

pub(crate) const SECONDS: i64 = 300;
const TAINTS: [&str; 2] = ["node.kubernetes.io/not-ready", "node.kubernetes.io/unreachable"];

pub(super) struct DefaultTolerationSeconds;

#[async_trait]
impl Plugin for DefaultTolerationSeconds {
    async fn admit(
        &self,
        request: &AdmissionRequest<'_>,
        object: &mut dyn Object,
        _registry: &Registry,
    ) -> ApiResult<()> {
        if request.operation != Operation::Delete
            && request.subresource.is_none()
            && let Some(pod) = object.as_any_mut().downcast_mut::<Pod>()
        {
            tolerate(pod);
        }
        Ok(())
    }
}

fn tolerate(pod: &mut Pod) {
    let spec = pod.spec.get_or_insert_default();
    let tolerations = spec.tolerations.get_or_insert_default();
    for key in TAINTS {
        let covered = tolerations.iter().any(|toleration| {
            let its = toleration.key.as_deref().unwrap_or_default();
            let effect = toleration.effect.as_deref().unwrap_or_default();
            (its.is_empty() || its == key) && (effect.is_empty() || effect == "NoExecute")
        });
        if !covered {
            tolerations.push(Toleration {
                key: Some(key.into()),
                operator: Some("Exists".into()),
                effect: Some("NoExecute".into()),
                toleration_seconds: Some(SECONDS),
                ..Toleration::default()
            });
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn what_a_pod_does_not_say_is_added() {
        let cases = [
            (json!([]), vec![TAINTS[0], TAINTS[1]]),
            (json!([{ "operator": "Exists" }]), vec![""]),
            (
                json!([{ "key": TAINTS[1], "operator": "Exists", "effect": "NoExecute" }]),
                vec![TAINTS[1], TAINTS[0]],
            ),
            (
                json!([{ "key": "a", "operator": "Exists", "effect": "NoSchedule" }]),
                vec!["a", TAINTS[0], TAINTS[1]],
            ),
        ];
        for (tolerations, expected) in cases {
            let mut pod: Pod =
                serde_json::from_value(json!({ "spec": { "containers": [], "tolerations": tolerations } }))
                    .unwrap();
            tolerate(&mut pod);
            tolerate(&mut pod);
            let tolerations = pod.spec.unwrap().tolerations.unwrap();
            let keys: Vec<&str> = tolerations
                .iter()
                .map(|t| t.key.as_deref().unwrap_or_default())
                .collect();
            assert_eq!(keys, expected);
        }
    }
}
