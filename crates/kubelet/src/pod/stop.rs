//! Stops containers beside the worker, so that a long grace period does not keep it from anything else.

use std::sync::Arc;
use std::time::{Duration, Instant};

use k8s_openapi::api::core::v1::{Container, Pod};
use parking_lot::Mutex;
use skiff_informer::EventType;
use skiff_informer::events::reference_to_pod;
use tokio::sync::Notify;

use super::hook;
use crate::shared::Shared;

/// Every container gets at least so long between its signal and its end.
const LEAST_GRACE: Duration = Duration::from_secs(2);
/// A stop that failed is tried again after this; nothing says when the runtime is well again.
const RETRY: Duration = Duration::from_secs(1);

/// One container to stop.
pub(crate) struct Stop {
    pub(crate) shared: Arc<Shared>,
    pub(crate) pod: Arc<Pod>,
    pub(crate) id: String,
    pub(crate) name: String,
    pub(crate) pod_ip: String,
    pub(crate) grace: Duration,
    /// Its `preStop` hook is still to be run.
    pub(crate) with_hook: bool,
}

/// The ids of stops that failed, and whom to wake.
#[derive(Clone, Debug, Default)]
pub(crate) struct Failed {
    pub(crate) ids: Arc<Mutex<Vec<String>>>,
    pub(crate) wake: Arc<Notify>,
}

fn find<'a>(pod: &'a Pod, name: &str) -> Option<&'a Container> {
    let spec = pod.spec.as_ref()?;
    spec.containers
        .iter()
        .chain(spec.init_containers.iter().flatten())
        .find(|container| container.name == name)
}

impl Stop {
    /// Begins to stop; the runtime's event tells when it is done.
    pub(crate) fn begin(self, failed: Failed) {
        let shutdown = self.shared.shutdown.clone();
        tokio::spawn(async move {
            let stopped = tokio::select! {
                stopped = self.run() => stopped,
                // The next kubelet goes on with it.
                () = shutdown.cancelled() => return,
            };
            if let Err(error) = stopped {
                tracing::warn!(container = self.name, %error, "container not stopped, trying again");
                tokio::time::sleep(RETRY).await;
                failed.ids.lock().push(self.id.clone());
            }
            failed.wake.notify_one();
        });
    }

    async fn run(&self) -> crate::cri::Result<()> {
        let started = Instant::now();
        let container = find(&self.pod, &self.name);
        let handler = container
            .and_then(|c| c.lifecycle.as_ref())
            .and_then(|lifecycle| lifecycle.pre_stop.as_ref());
        if let (true, Some(container), Some(handler)) = (self.with_hook, container, handler) {
            let hook = hook::run(
                &self.shared.cri,
                container,
                &self.id,
                handler,
                &self.pod_ip,
                self.grace,
            );
            match tokio::time::timeout(self.grace, hook).await {
                Ok(Ok(())) => {}
                Ok(Err(message)) => {
                    self.shared.recorder.record(
                        reference_to_pod(&self.pod, Some(&self.name)),
                        EventType::Warning,
                        "FailedPreStopHook",
                        format!("PreStopHook failed: {message}"),
                    );
                }
                Err(_) => tracing::info!(
                    container = self.name,
                    "preStop hook took longer than the grace period"
                ),
            }
        }
        // Whole seconds, as CRI counts them: a quick hook costs none.
        let passed = Duration::from_secs(started.elapsed().as_secs());
        let left = self.grace.saturating_sub(passed).max(LEAST_GRACE);
        match self.shared.cri.stop_container(&self.id, left).await {
            Err(error) if error.is_not_found() => Ok(()),
            result => result,
        }
    }
}
