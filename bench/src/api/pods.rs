//! The objects that are measured: pods of a given size, in a namespace of their own, that no scheduler takes up.

use bytes::Bytes;
use http::Method;
use serde_json::{Value, json};

use super::target::Call;

/// Every so many pods, one has the label that the selector asks for.
pub(super) const SELECTED_EVERY: usize = 20;

/// The pods of one namespace.
#[derive(Clone, Debug)]
pub(super) struct Pods {
    pub(super) namespace: String,
    /// Bytes of a pod as it is sent.
    pub(super) size: usize,
}

impl Pods {
    /// `/api/v1/namespaces/…/pods`
    pub(super) fn path(&self) -> String {
        format!("/api/v1/namespaces/{}/pods", self.namespace)
    }

    fn one(&self, number: usize) -> String {
        format!("{}/{}", self.path(), name(number))
    }

    /// Creates a pod.
    pub(super) fn create(&self, number: usize) -> Call {
        Call::new(Method::POST, self.path()).with_body("application/json", pod(number, self.size))
    }

    /// Reads a pod.
    pub(super) fn get(&self, number: usize) -> Call {
        Call::new(Method::GET, self.one(number))
    }

    /// Lists all.
    pub(super) fn list(&self) -> Call {
        Call::new(Method::GET, self.path())
    }

    /// Lists the first of many pages.
    pub(super) fn list_page(&self, limit: usize) -> Call {
        Call::new(Method::GET, format!("{}?limit={limit}", self.path())).kept()
    }

    /// Lists one of [`SELECTED_EVERY`].
    pub(super) fn list_selected(&self, number: usize) -> Call {
        let group = number % SELECTED_EVERY;
        Call::new(
            Method::GET,
            format!("{}?labelSelector=group%3Dg{group}", self.path()),
        )
    }

    /// Sets a condition in a pod's status; the mark makes each change a change.
    pub(super) fn patch_status(&self, number: usize, mark: &str) -> Call {
        let patch = json!({ "status": { "conditions": [
            { "type": "skiff.dev/Measured", "status": "True", "reason": "Measured",
              "message": format!("{mark}-{number}") },
        ] } });
        Call::new(Method::PATCH, format!("{}/status", self.one(number)))
            .with_body("application/strategic-merge-patch+json", bytes(&patch))
    }

    /// Applies an annotation and a label to a pod.
    pub(super) fn apply(&self, number: usize) -> Call {
        let configuration = json!({
            "apiVersion": "v1",
            "kind": "Pod",
            "metadata": {
                "name": name(number),
                "labels": { "applied": "yes" },
                "annotations": { "skiff.dev/applied": format!("number {number}") },
            },
        });
        let path = format!("{}?fieldManager=skiff-bench&force=true", self.one(number));
        Call::new(Method::PATCH, path).with_body("application/apply-patch+yaml", bytes(&configuration))
    }

    /// Deletes a pod.
    pub(super) fn delete(&self, number: usize) -> Call {
        Call::new(
            Method::DELETE,
            format!("{}?gracePeriodSeconds=0", self.one(number)),
        )
    }

    /// Watches all from a revision on, for so long at most.
    pub(super) fn watch(&self, revision: u64, seconds: u64) -> Call {
        let path = self.path();
        let query = format!("watch=1&resourceVersion={revision}&timeoutSeconds={seconds}");
        Call::new(Method::GET, format!("{path}?{query}"))
    }
}

fn name(number: usize) -> String {
    format!("pod-{number:06}")
}

fn bytes(value: &Value) -> Bytes {
    Bytes::from(value.to_string())
}

/// A pod of so many bytes: what programs write, its environment as long as is needed to fill it up.
fn pod(number: usize, size: usize) -> Bytes {
    let mut pod = json!({
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {
            "name": name(number),
            "labels": { "app": "skiff-bench", "group": format!("g{}", number % SELECTED_EVERY) },
            "annotations": { "skiff.dev/filling": "" },
        },
        "spec": {
            // Nobody has this name, so the pod stays as it is.
            "schedulerName": "skiff-bench.nobody",
            "automountServiceAccountToken": false,
            "terminationGracePeriodSeconds": 0,
            "containers": [{
                "name": "main",
                "image": "registry.k8s.io/pause:3.10",
                "resources": { "requests": { "cpu": "100m", "memory": "64Mi" } },
                "ports": [{ "containerPort": 8080, "name": "http" }],
                "env": [],
            }],
        },
    });
    let mut length = pod.to_string().len();
    for setting in 0_usize.. {
        let variable = json!({ "name": format!("SETTING_{setting:04}"), "value": format!("value-of-setting-{setting:04}") });
        let more = variable.to_string().len().saturating_add(1);
        if length.saturating_add(more) > size {
            break;
        }
        length = length.saturating_add(more);
        if let Some(variables) = pod
            .pointer_mut("/spec/containers/0/env")
            .and_then(Value::as_array_mut)
        {
            variables.push(variable);
        }
    }
    let missing = size.saturating_sub(pod.to_string().len());
    if let Some(filling) = pod.pointer_mut("/metadata/annotations/skiff.dev~1filling") {
        *filling = Value::String("x".repeat(missing));
    }
    bytes(&pod)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_pod_is_as_large_as_asked_for() {
        for size in [1024, 2048, 10_000] {
            assert_eq!(pod(17, size).len(), size);
        }
        let pod: k8s_openapi::api::core::v1::Pod = serde_json::from_slice(&pod(17, 2048)).unwrap();
        assert_eq!(pod.metadata.name.as_deref(), Some("pod-000017"));
    }
}
