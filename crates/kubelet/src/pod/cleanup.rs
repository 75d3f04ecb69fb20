//! Removes what pods and containers leave behind, in the runtime and in the API.

use k8s_openapi::api::core::v1::Pod;
use kube::Api;
use kube::api::{DeleteParams, Preconditions};

use super::identity::{name, namespace};
use super::runtime::{Run, RuntimePod, State};
use crate::logs;
use crate::shared::Shared;

/// Whether a removal succeeded, or had nothing to do.
fn gone(result: crate::cri::Result<()>) -> bool {
    match result {
        Ok(()) => true,
        Err(error) if error.is_not_found() => true,
        Err(error) => {
            tracing::warn!(%error, "not removed from the runtime, trying again");
            false
        }
    }
}

/// Removes what a container left before its last run, which `kubectl logs --previous` shows, and the sandboxes that
/// are empty then. `runtime` is as it was before the newest run.
pub(super) async fn collect(shared: &Shared, runtime: &RuntimePod, container: &str) {
    let old: Vec<&Run> = runtime
        .runs
        .iter()
        .filter(|run| run.name == container)
        .skip(1)
        .filter(|run| matches!(run.state, State::Exited | State::Created))
        .collect();
    for run in &old {
        if gone(shared.cri.remove_container(&run.id).await) {
            logs::remove_run(&shared.container_log_dir, run);
        }
    }
    for sandbox in runtime.sandboxes.iter().skip(1).filter(|sandbox| !sandbox.ready) {
        let mut left = runtime.runs.iter().filter(|run| run.sandbox_id == sandbox.id);
        if left.all(|run| old.iter().any(|removed| removed.id == run.id)) {
            gone(shared.cri.remove_sandbox(&sandbox.id).await);
        }
    }
}

/// Removes all containers and sandboxes of a pod; false when something is left.
pub(super) async fn remove_from_runtime(shared: &Shared, runtime: &RuntimePod) -> bool {
    let mut all = true;
    for run in &runtime.runs {
        all &= gone(shared.cri.remove_container(&run.id).await);
    }
    for sandbox in &runtime.sandboxes {
        all &= gone(shared.cri.remove_sandbox(&sandbox.id).await);
    }
    all
}

/// Deletes the pod's object, but not that of a successor of the same name.
///
/// # Errors
/// When the API server does not do it.
pub(super) async fn delete(shared: &Shared, pod: &Pod) -> Result<(), kube::Error> {
    let api: Api<Pod> = Api::namespaced(shared.client.clone(), namespace(pod));
    let params = DeleteParams {
        grace_period_seconds: Some(0),
        preconditions: Some(Preconditions {
            uid: pod.metadata.uid.clone(),
            resource_version: None,
        }),
        ..DeleteParams::default()
    };
    match api.delete(name(pod), &params).await {
        Ok(_) => Ok(()),
        Err(kube::Error::Api(status)) if matches!(status.code, 404 | 409) => Ok(()),
        Err(error) => Err(error),
    }
}
